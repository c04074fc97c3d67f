#!/usr/bin/env -S deno run -A --no-lock --no-config
/**
 * Deploys skills to coding agents: makes their skills directories contain exactly what a `.skills` file names.
 *
 * This is one file, to be pasted into a repo or called from a checkout. `--help` prints a short manual.
 *
 * The sections follow the data, from the manifest to the report. Everything before "Apply" only reads. What happens to
 * a name in a target is decided by {@linkcode decide}, a pure function.
 *
 * direnv runs this on every `cd`, so a start must be cheap. Deno reads all imports before the first line runs, so only
 * types are imported statically, and {@linkcode load} imports the rest where it is needed. The first exception of a
 * process costs milliseconds, so the common path looks into directory listings instead of trying paths.
 *
 * @module
 */
import type * as Cli from "jsr:@std/cli@^1/parse-args";
import type * as Text from "jsr:@std/text@^1/levenshtein-distance";

// ── Tables ──────────────────────────────────────────────────────────────────────────────────────────────────────

/** The version of this program. */
export const VERSION = "0.2.0";

/**
 * The skills directories of each agent: in a project, and in a home. `${VARIABLE:-default}` is read as a shell does;
 * a directory that starts with `$VARIABLE` exists only if the variable is set.
 *
 * Sources: the agents' documentation, and the agents themselves.
 */
export const AGENTS: Readonly<Record<string, { project: readonly string[]; home: string }>> = {
  claude: { project: [".claude/skills"], home: "${CLAUDE_CONFIG_DIR:-.claude}/skills" },
  opencode: { project: [".opencode/skills"], home: "${XDG_CONFIG_HOME:-.config}/opencode/skills" },
  codex: { project: [".agents/skills", "$CODEX_HOME/skills"], home: "${CODEX_HOME:-.codex}/skills" },
  agents: { project: [".agents/skills"], home: ".agents/skills" },
  amp: { project: [".agents/skills"], home: "${XDG_CONFIG_HOME:-.config}/agents/skills" },
  antigravity: { project: [".agent/skills"], home: ".gemini/antigravity/skills" },
  augment: { project: [".augment/skills"], home: ".augment/skills" },
  cline: { project: [".cline/skills"], home: ".cline/skills" },
  codebuddy: { project: [".codebuddy/skills"], home: ".codebuddy/skills" },
  continue: { project: [".continue/skills"], home: ".continue/skills" },
  copilot: { project: [".agents/skills"], home: ".copilot/skills" },
  crush: { project: [".crush/skills"], home: "${XDG_CONFIG_HOME:-.config}/crush/skills" },
  cursor: { project: [".cursor/skills"], home: ".cursor/skills" },
  droid: { project: [".factory/skills"], home: ".factory/skills" },
  gemini: { project: [".agents/skills"], home: ".gemini/skills" },
  goose: { project: [".goose/skills"], home: "${XDG_CONFIG_HOME:-.config}/goose/skills" },
  junie: { project: [".junie/skills"], home: ".junie/skills" },
  kilo: { project: [".kilocode/skills"], home: ".kilocode/skills" },
  kiro: { project: [".kiro/skills"], home: ".kiro/skills" },
  openhands: { project: [".openhands/skills"], home: ".openhands/skills" },
  pi: { project: [".pi/skills"], home: ".pi/agent/skills" },
  qwen: { project: [".qwen/skills"], home: ".qwen/skills" },
  roo: { project: [".roo/skills"], home: ".roo/skills" },
  trae: { project: [".trae/skills"], home: ".trae/skills" },
  vibe: { project: [".vibe/skills"], home: ".vibe/skills" },
  windsurf: { project: [".windsurf/skills"], home: ".codeium/windsurf/skills" },
  zencoder: { project: [".zencoder/skills"], home: ".zencoder/skills" },
};

/** The agents of an entry that names none. */
const DEFAULT_AGENTS = ["claude", "opencode", "codex"];

/** The URLs under which forges show a directory in a browser: the repo, then ref and path in one. */
const BROWSE_URLS = [
  /^(https:\/\/[^/]+\/[^?#]+?)\/-\/(?:tree|blob)\/([^?#]+)/, // GitLab
  /^(https:\/\/[^/]+\/[^?#]+?)\/src\/(?:branch|tag|commit)\/([^?#]+)/, // Forgejo, Gitea
  /^(https:\/\/[^/]+\/[^/]+\/[^/]+)\/(?:tree|blob)\/([^?#]+)/, // GitHub
];

/** The commands, and the options that each accepts besides the common ones. `...` stands for arguments. */
const COMMANDS: Readonly<Record<string, string>> = {
  sync: "copy dry-run json quiet frozen offline allow-large",
  check: "json quiet",
  list: "json",
  add: "quiet as for allow-large ...",
  remove: "quiet ...",
  update: "dry-run quiet trust allow-large ...",
  clean: "dry-run json quiet store",
  init: "dry-run quiet",
  validate: "...",
  doctor: "...",
};

/** The options without a value, and their short forms. */
const FLAGS = {
  global: "g",
  "dry-run": "n",
  quiet: "q",
  help: "h",
  version: "V",
  copy: "",
  json: "",
  frozen: "",
  offline: "",
  store: "",
  trust: "",
  "allow-large": "",
};

const HELP = `use-skills ${VERSION}: deploy the skills that .skills names to coding agents
Usage: use-skills.ts [COMMAND] [OPTION...]
  sync               deploy what .skills names, remove what it no longer names
                     (default)
  check              change nothing, print every difference and problem
  list               print each skill: name, source, agents, state, commit
  add REF...         write skills into .skills, then sync
  remove NAME...     delete skills from .skills, then sync
  update [NAME...]   fetch the newest commits, show the changes, then sync
  clean              remove everything that sync created here
  init               write a commented .skills and a block for .envrc
  validate [DIR...]  validate skills against the specification (skill-doctor)
  doctor             show which skills each agent sees (skill-doctor)
Options:
  -g, --global           deploy to your home instead of a project
  -C, --directory DIR    run as if started in DIR
  -n, --dry-run          only print what would change
  -q, --quiet            print problems only
      --json             print one JSON object
      --copy             copy instead of linking (sync)
      --frozen           don't change .skills.lock (sync)
      --offline          don't use the network (sync)
      --allow-large      accept more than 5,000 files or 50 MiB
      --as NAME          deploy under another name (add)
      --for AGENT        deploy to this agent, can be repeated (add)
      --trust            trust hidden characters of the new version (update)
      --store            remove unused skills from the store (clean)
  -h, --help; -V, --version
Entries of .skills: REF [as NAME] [trust] [for AGENT...]
  REF: NAME, ./DIR, './DIR/*', OWNER/REPO/PATH#REF or a git URL
  AGENT: a directory, or one of
${Object.keys(AGENTS).join(" ").replace(/(.{1,74})( |$)/g, "    $1\n").trimEnd()}
Exit status: 0 done; 1 a problem or a difference; 2 wrong usage or manifest`;

/** What {@linkcode load} imports. The types imported above have the same specifiers. */
const LIBRARIES = {
  cli: "jsr:@std/cli@^1/parse-args",
  text: "jsr:@std/text@^1/levenshtein-distance",
};

/** Words of the manifest's grammar, which cannot be names of skills. */
const KEYWORDS = ["mode", "for", "as", "trust"];

/** How many problems are printed. */
const MAX_PROBLEMS = 50;

/** The size limits of a fetched skill, and of git's list of a repo's files, without `--allow-large`. */
const MAX_SKILL = { files: 5_000, bytes: 50 * 2 ** 20 };
const MAX_LISTING_BYTES = 8 * 2 ** 20;

/** The size limits of a manifest's line, a lockfile, and other files of ours. */
const MAX_LINE_BYTES = 4096;
const MAX_LOCKFILE_BYTES = 8 * 2 ** 20;
const MAX_FILE_BYTES = 2 ** 20;

/** How long to wait for another run, in seconds. */
const LOCK_SECONDS = 10;

/** In each target: which entries are owned, by which projects, from which sources. */
const STATE_FILE = ".use-skills.json";

/** Next to a target: where files are prepared before they are renamed into place. */
const STAGING = ".use-skills.tmp";

/** Next to every file that is replaced: its new content. Only a killed run leaves one behind. */
const TEMPORARY = ".use-skills.new";

// ── Helpers ─────────────────────────────────────────────────────────────────────────────────────────────────────

/** Something that is wrong. */
export interface Problem {
  /** The file it is about, if not the manifest. */
  file?: string;
  /** The line in that file, from 1. */
  line?: number;
  /** The skill's name. */
  name?: string;
  message: string;
  /** An unknown word and the known ones, for "did you mean". */
  near?: Near;
}

interface Near {
  word: string;
  words: readonly string[];
}

/** Wrong usage or an invalid manifest: nothing was changed, exit status 2. */
class UsageError extends Error {
  /** @param problems The invalid lines of the manifest. */
  constructor(message: string, readonly problems: readonly Problem[] = []) {
    super(message);
  }
}

/** An environment variable. An empty one counts as unset. */
function environment(name: string): string | undefined {
  return Deno.env.get(name) || undefined;
}

/** Whether direnv runs this program. */
function isUnderDirenv(): boolean {
  return environment("DIRENV_IN_ENVRC") !== undefined;
}

/** A directory of the XDG base directory specification, which tells programs to ignore relative values. */
function xdgDirectory(variable: string, fallback: string): string {
  const value = environment(variable);
  if (value?.startsWith("/")) return resolve(value, "use-skills");
  const home = environment("HOME");
  if (home === undefined) throw new Error(`Neither ${variable} nor HOME is set`);
  return resolve(home, fallback, "use-skills");
}

/** `value` in quotes, shortened if it is very long. */
function quote(value: string): string {
  return JSON.stringify(value.length > 200 ? `${value.slice(0, 200)}...` : value);
}

/** `text` with every character escaped, except line ends, that could mislead a reader or control a terminal. */
function escapeControls(text: string): string {
  if (/^[\n -~]*$/.test(text)) return text;
  return text.replace(
    /[^\n\P{C}]|[\p{Zl}\p{Zp}]/gu,
    (match) => match.split("").map((unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`).join(""),
  );
}

/** An error's message, without the operating system's error number. */
function reasonOf(error: unknown): string {
  const message = error instanceof Error ? error.message : String(error);
  return message.replace(/ \(os error \d+\)[^]*/, "");
}

/** The 32-bit FNV-1a hash in hexadecimal. Source: http://www.isthe.com/chongo/tech/comp/fnv/ */
function fnv1a(text: string): string {
  let hash = 0x811c9dc5;
  for (const byte of new TextEncoder().encode(text)) hash = Math.imul(hash ^ byte, 0x01000193);
  return (hash >>> 0).toString(16);
}

/** A file name for a URL or a path. */
function fileNameOf(text: string): string {
  const name = encodeURIComponent(text);
  return name.length < 180 ? name : `${name.slice(-160)}-${fnv1a(name)}`;
}

/** What `read` returns; `undefined` if the path does not exist. */
function ifExists<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch (error) {
    if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory) return undefined;
    throw error;
  }
}

/** What `read` returns; `undefined` if it fails. */
function attempt<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch {
    return undefined;
  }
}

/** Whether something is at a path, be it a broken link. A path that cannot be examined counts as taken. */
function exists(path: string): boolean {
  try {
    return ifExists(() => Deno.lstatSync(path)) !== undefined;
  } catch {
    return true;
  }
}

/** `compute`, called once for each key. */
function memoize<T>(compute: (key: string) => T): (key: string) => T {
  const known = new Map<string, T>();
  return (key) => {
    if (!known.has(key)) known.set(key, compute(key));
    return known.get(key) as T;
  };
}

/** The last segment of a path. */
function lastSegment(path: string): string {
  return path.slice(path.lastIndexOf("/") + 1);
}

/** Joins paths to an absolute, normalized one. The first must be absolute; a later absolute one replaces those before. */
function resolve(...paths: string[]): string {
  const segments: string[] = [];
  for (const path of paths) {
    if (path.startsWith("/")) segments.length = 0;
    for (const segment of path.split("/")) {
      if (segment === "..") segments.pop();
      else if (segment !== "" && segment !== ".") segments.push(segment);
    }
  }
  return `/${segments.join("/")}`;
}

/** The part of `path` below `directory`: "" for the directory itself, `undefined` for a path outside it. */
function below(directory: string, path: string): string | undefined {
  if (!path.startsWith(directory)) return undefined;
  if (path.length === directory.length || directory === "/") return path.slice(directory.length);
  return path[directory.length] === "/" ? path.slice(directory.length + 1) : undefined;
}

/** Returns a function that writes absolute paths as seen from `from`: relative if both are in `root`, else absolute. */
function pathsFrom(from: string, root: string): (path: string) => string {
  const depth = below(root, from);
  const up = depth === undefined ? undefined : "../".repeat(depth === "" ? 0 : depth.split("/").length);
  return (path) => {
    const down = up === undefined ? undefined : below(root, path);
    return down === undefined ? path : up + down || ".";
  };
}

/** Strings and bytes as one byte array. */
function concat(...parts: (string | Uint8Array)[]): Uint8Array<ArrayBuffer> {
  const chunks = parts.map((part) => typeof part === "string" ? new TextEncoder().encode(part) : part);
  const bytes = new Uint8Array(chunks.reduce((sum, chunk) => sum + chunk.length, 0));
  chunks.reduce((offset, chunk) => (bytes.set(chunk, offset), offset + chunk.length), 0);
  return bytes;
}

/**
 * Imports a part of the standard library.
 *
 * @param specifier A value of {@linkcode LIBRARIES}.
 * @param purpose What it is needed for, to complete "which ...".
 * @throws {Error} If it cannot be loaded, or if a configuration file replaces it by other code.
 */
async function load<T>(specifier: string, purpose: string): Promise<T> {
  if (import.meta.resolve(specifier) !== specifier) {
    throw new Error(`A deno.json replaces ${specifier} by other code: run with --no-config`);
  }
  try {
    return await import(specifier);
  } catch (error) {
    throw new Error(
      `Cannot load ${specifier}, which ${purpose}: ${reasonOf(error).split("\n")[0]}
  In a checkout of use-skills, run "npx -y deno task use-skills" once
  A pasted file: run it once with access to JSR, or with "deno run --config CHECKOUT/deno.json"`,
    );
  }
}

/** Words by similarity to `word`, the most similar first; `undefined` if the library for that can't be loaded. */
async function bySimilarity(word: string, words: readonly string[]): Promise<[string, number][] | undefined> {
  if (isUnderDirenv()) return undefined; // A misspelt name is no reason to run code from elsewhere on `cd`.
  const library = await load<typeof Text>(LIBRARIES.text, "finds similar words").catch(() => undefined);
  return library && words.map((each): [string, number] => [each, library.levenshteinDistance(word, each)])
    .sort(([, a], [, b]) => a - b);
}

/** `, did you mean "X"?` with the most similar known word, or nothing if none is similar. */
async function suggestion({ word, words }: Near): Promise<string> {
  const longer = word === "" ? undefined : words.find((each) => each.startsWith(word));
  const [[similar, distance] = ["", Infinity]] = longer || word.length > 64
    ? []
    : await bySimilarity(word, words) ?? [];
  const found = longer ?? (distance <= Math.ceil(word.length / 3) ? similar : undefined);
  return found === undefined ? "" : `, did you mean ${quote(found)}?`;
}

/**
 * Locks a directory until the returned handle is closed. The lock is the operating system's, so a killed run leaves
 * none behind.
 *
 * @param seconds How long to wait for another run.
 * @param exclusive `false` for a lock that many can hold, but not together with an exclusive one.
 * @returns `undefined` if the directory does not exist, or if its file system has no locks.
 * @throws {Error} If another run still holds the lock after that time.
 */
async function lockDirectory(path: string, seconds = LOCK_SECONDS, exclusive = true): Promise<Deno.FsFile | undefined> {
  const handle = ifExists(() => Deno.openSync(path));
  if (handle === undefined) return undefined;
  try {
    for (let tries = 0; !handle.tryLockSync(exclusive); tries++) {
      if (tries >= 40 * seconds) {
        throw new Deno.errors.TimedOut(`Another run has been using ${path} for ${Math.ceil(seconds)} seconds`);
      }
      await new Promise((done) => setTimeout(done, 25));
    }
    return handle;
  } catch (error) {
    handle.close();
    if (error instanceof Deno.errors.TimedOut) throw error;
    warn(`use-skills: Warning: ${path} cannot be locked, so don't run twice at once: ${reasonOf(error)}`);
    return undefined;
  }
}

/** Creates a private directory. One that exists must be ours, and becomes private. */
function makePrivateDirectory(path: string): string {
  Deno.mkdirSync(path, { recursive: true, mode: 0o700 });
  const { uid, mode } = Deno.statSync(path);
  const user = Deno.uid();
  if (uid !== user && user !== 0) throw new Error(`${path} belongs to another user`);
  if (uid === user && ((mode ?? 0) & 0o077) !== 0) Deno.chmodSync(path, 0o700);
  return path;
}

// ── Project ─────────────────────────────────────────────────────────────────────────────────────────────────────

/** A project, or a home, whose manifest is deployed. */
export interface Project {
  /** Where the targets are, as a real path. */
  directory: string;
  /** The manifest's path. */
  manifest: string;
  global: boolean;
  /** What is next to the manifest, so that nothing has to be tried that doesn't exist. */
  siblings: Names;
}

/** The entries of a directory by name. */
type Names = ReadonlyMap<string, Deno.DirEntry>;

/** The entries of a directory; none if it can't be read. */
function namesIn(directory: string): Names {
  return new Map(attempt(() => Array.from(Deno.readDirSync(directory), (entry) => [entry.name, entry])));
}

function projectAt(directory: string, siblings = namesIn(directory)): Project {
  return { directory, manifest: resolve(directory, ".skills"), global: false, siblings };
}

/** The projects from `start` up to the repo's root. A home is a tier of its own, so it isn't entered from below. */
function projectsUp(start: string): Project[] {
  const home = environment("HOME");
  const realHome = home && attempt(() => Deno.realPathSync(home));
  const found = [projectAt(start)];
  for (let directory = start; !found.at(-1)!.siblings.has(".git") && directory !== "/";) {
    directory = resolve(directory, "..");
    if (directory === realHome) break;
    found.push(projectAt(directory));
  }
  return found;
}

/** The home's manifest. */
function homeManifest(): string {
  return resolve(xdgDirectory("XDG_CONFIG_HOME", ".config"), "skills");
}

/**
 * Finds the project that a command is about, whether or not it has a manifest.
 *
 * @throws {UsageError} If the directory or the home does not exist.
 */
function findProject({ command, flags, directory }: Request): Project {
  if (flags.global) {
    const home = environment("HOME");
    if (home === undefined) throw new UsageError("--global needs HOME to be set");
    const real = attempt(() => Deno.realPathSync(home));
    if (real === undefined) throw new UsageError(`HOME is ${quote(home)}, which does not exist`);
    const manifest = homeManifest();
    return { directory: real, manifest, global: true, siblings: namesIn(resolve(manifest, "..")) };
  }
  const start = directory === "." ? Deno.cwd() : attempt(() => Deno.realPathSync(directory));
  const found = start === undefined ? [] : projectsUp(start);
  const withManifest = found.find(({ siblings }) => siblings.has(".skills"));
  if (withManifest) return withManifest;
  if (command === "clean") { // The manifest, or the whole project, may be gone already.
    const candidates = start === undefined ? [projectAt(resolve(Deno.cwd(), directory))] : found;
    const withTargets = candidates.find((each) => readIndex(each).targets.size > 0);
    if (withTargets) return withTargets;
  }
  if (found[0] === undefined) throw new UsageError(`No directory ${quote(directory)}`);
  const isNew = command === "init" || command === "add";
  return isNew && found.find(({ siblings }) => siblings.has(".git")) || found[0];
}

/** `path` for a reader: from the project, from the home, or absolute. */
function show(path: string, project: Project): string {
  const inside = project.global ? undefined : below(project.directory, path);
  if (inside !== undefined) return inside || ".";
  const home = environment("HOME");
  const fromHome = home && below(home, path);
  return fromHome ? `~/${fromHome}` : path;
}

/** A path, by default the manifest's, as one writes it in the working directory. */
function showHere(project: Project, path = project.manifest): string {
  const cwd = Deno.cwd();
  const isInside = below(project.directory, cwd) !== undefined && below(project.directory, path) !== undefined;
  if (isInside && !project.global) return pathsFrom(cwd, project.directory)(path);
  return below(cwd, path) || show(path, { ...project, global: true });
}

/** A path from the manifest or the environment as an absolute one. */
function expand(path: string, project: Project): string {
  const home = environment("HOME");
  if (home === undefined && path.startsWith("~")) throw new Error(`Cannot expand ${quote(path)}: HOME is not set`);
  return resolve(project.manifest, "..", path.replace(/^~(?=\/|$)/, home ?? "~"));
}

/**
 * Reads a file of ours that others may have put there, such as the author of a pull request.
 *
 * @throws {Error} If it is too large, not a regular file, or a link that leads out of the project. A home's files may
 * be links into a repo of dotfiles.
 */
function readOwnFile(path: string, project: Project, maxBytes = MAX_FILE_BYTES): string {
  let info = Deno.lstatSync(path);
  if (info.isSymlink) {
    const real = attempt(() => Deno.realPathSync(path));
    if (real === undefined) throw new Error("it is a broken link");
    if (!project.global && below(project.directory, real) === undefined) {
      throw new Error(`it is a link out of the project, to ${real}`);
    }
    info = Deno.statSync(real);
  }
  if (!info.isFile) throw new Error("it is not a regular file");
  if (info.size > maxBytes) throw new Error(`it has more than ${maxBytes / 2 ** 20} MiB`);
  return Deno.readTextFileSync(path);
}

/** Replaces a file in one step: at the place a link leads to, with the mode it has. `undefined` removes it. */
function replaceFile(path: string, text: string | undefined): void {
  const real = ifExists(() => Deno.realPathSync(path)) ?? path;
  if (text === undefined) return removeAll(real);
  const temporary = resolve(real, "..", TEMPORARY);
  const mode = ifExists(() => Deno.statSync(real))?.mode;
  removeAll(temporary);
  Deno.writeTextFileSync(temporary, text, { createNew: true });
  if (mode) Deno.chmodSync(temporary, mode & 0o777);
  Deno.renameSync(temporary, real);
}

// ── Manifest ────────────────────────────────────────────────────────────────────────────────────────────────────

/** What an entry points to. */
export type Reference =
  | { kind: "name"; name: string }
  /** A skill's directory, or with `all` every skill directly in it. */
  | { kind: "path"; path: string; all: boolean }
  /**
   * A directory in a git repo; with `all` every skill directly in it, or every skill of the repo if `path` is "".
   * `tail` is a ref and a path in one: only the server's refs tell where the ref ends.
   */
  | { kind: "git"; url: string; path: string; all?: true; ref?: string; tail?: string };

/** The agents after `for`, and the line where they are written. */
export interface AgentList {
  line: number;
  names: string[];
}

/** A line of the manifest that names skills. */
export interface Entry {
  line: number;
  /** The reference as written. */
  text: string;
  reference: Reference;
  as?: string;
  trust: boolean;
  /** `undefined` if neither the line nor an earlier `for` line names agents. */
  agents?: AgentList;
}

/** Whether a reference contains a password, or a user that isn't part of an ssh address. */
function hasCredentials(text: string): boolean {
  const [, scheme = "", rest = text] = /^([a-z][a-z0-9+.-]*):\/\/([^]*)$/i.exec(text) ?? [];
  const authority = rest.split("/", 1)[0] ?? "";
  const user = authority.slice(0, Math.max(0, authority.lastIndexOf("@")));
  return scheme === "" || scheme === "ssh" ? user.includes(":") : user !== "";
}

/**
 * Reads a reference.
 *
 * @param text The reference as written, without white space.
 * @returns What it points to.
 * @throws {SyntaxError} If it has none of the forms of the grammar.
 *
 * @example
 * ```ts
 * parseReference("anthropics/skills/skills/pdf#main");
 * // { kind: "git", url: "https://github.com/anthropics/skills", path: "skills/pdf", ref: "main" }
 * ```
 */
export function parseReference(text: string): Reference {
  if (/^["']/.test(text)) {
    throw new SyntaxError("Quotes are not supported: for a path with white space, create a link without");
  }
  if (!/[/:]/.test(text)) return { kind: "name", name: text };
  if (hasCredentials(text)) {
    throw new SyntaxError("This URL contains a user or a password: remove it and use git's credential helper");
  }
  if (/^(\.\.?|~)?\//.test(text)) {
    const all = text.endsWith("/*");
    const path = all ? text.slice(0, -2) || "/" : text;
    if (path.includes("*")) throw new SyntaxError(`"*" is only allowed as the last segment, not in ${quote(text)}`);
    return { kind: "path", path, all };
  }
  return parseGitReference(text);
}

/** Reads a reference to a git repo. */
function parseGitReference(text: string): Reference {
  const git = (url: string, inside: string, ref?: string, isTail = false): Reference => {
    const all = /(^|\/)\*$/.test(inside) && { all: true as const };
    const path = (all ? inside.slice(0, -1) : inside).split("/").filter((segment) => segment !== "").join("/");
    if (/[/:]\.\.?(\/|$)/.test(`${url}//${path}`)) {
      throw new SyntaxError(`"." and ".." are not allowed in a URL or in a repo's path: ${quote(text)}`);
    }
    const place = isTail ? { path: "", tail: path } : { path, ref };
    return { kind: "git", url: url.endsWith("/") ? url.slice(0, -1) : url, ...place, ...all };
  };

  for (const pattern of BROWSE_URLS) {
    const [, url, tail] = pattern.exec(text) ?? [];
    if (url && tail) {
      const decoded = attempt(() => decodeURIComponent(tail)) ?? tail;
      return git(url, decoded.endsWith("/SKILL.md") ? decoded.slice(0, -9) : decoded, undefined, true);
    }
  }

  const hash = text.indexOf("#");
  const address = hash < 0 ? text : text.slice(0, hash);
  const ref = hash < 0 ? undefined : text.slice(hash + 1);
  if (ref === "") throw new SyntaxError(`A branch, tag or commit is missing after "#" in ${quote(text)}`);

  const [, scheme, rest = ""] = /^([a-zA-Z][\w+.-]*):\/\/(.+)$/.exec(address) ?? [];
  const isScp = /^[\w.-]+@[\w.-]+:./.test(address);
  if (scheme !== undefined || isScp) {
    if (scheme === "http") {
      throw new SyntaxError(
        `http is not supported, because anyone on the way can change what it transfers: use https for ${
          quote(text)
        }, ` +
          `or map it in your git configuration with url.BASE.insteadOf`,
      );
    }
    if (scheme !== undefined && !["https", "ssh", "file"].includes(scheme)) {
      throw new SyntaxError(`Only https, ssh and file URLs are supported, not ${quote(text)}`);
    }
    const whole = isScp ? address : rest;
    const slashes = whole.indexOf("//", 1);
    const all = whole.endsWith("/*");
    const repo = slashes >= 0 ? whole.slice(0, slashes) : all ? whole.slice(0, -2) : whole;
    const inside = slashes >= 0 ? whole.slice(slashes + 2) : all ? "*" : "";
    return git(isScp ? repo : `${scheme}://${repo.split("?", 1)[0]}`, inside, ref);
  }

  const [owner = "", repo = "", ...inside] = address.split("/");
  if (/^[a-zA-Z0-9][a-zA-Z0-9-]*$/.test(owner) && /^[\w.-]+$/.test(repo)) {
    return git(`https://github.com/${owner}/${repo}`, inside.join("/"), ref);
  }
  throw new SyntaxError(`${quote(text)} is not a name, a path (./ ../ / ~/), OWNER/REPO or a git URL`);
}

/** Reads the words after a reference: `[as NAME] [trust] [for AGENT...]`. */
function parseClauses(words: string[], line: number): Pick<Entry, "as" | "trust" | "agents"> {
  const take = (word: string) => words[0] === word && words.shift() !== undefined;
  const isRenamed = take("as");
  const as = isRenamed ? words.shift() : undefined;
  const trust = take("trust");
  const names = take("for") ? words.splice(0) : undefined;
  const unexpected = words[0] ?? names?.find((name) => KEYWORDS.includes(name));
  if (unexpected !== undefined) {
    throw new SyntaxError(
      `Unexpected ${quote(unexpected)}: an entry is REF [as NAME] [trust] [for AGENT...], without white space in REF`,
    );
  }
  if (isRenamed && as === undefined) throw new SyntaxError(`A name is missing after "as"`);
  if (names?.length === 0) throw new SyntaxError(`An agent is missing after "for"`);
  return { as, trust, agents: names && { line, names } };
}

/**
 * Reads a manifest.
 *
 * @param text The text of a `.skills` file. A byte order mark and CRLF are accepted.
 * @returns Its entries in order, and a problem for each invalid line.
 *
 * @example
 * ```ts
 * const { entries } = parseManifest("hq for claude  # the orchestrator\n");
 * entries[0]?.agents?.names; // ["claude"]
 * ```
 */
export function parseManifest(text: string): { entries: Entry[]; errors: Problem[] } {
  const entries: Entry[] = [];
  const errors: Problem[] = [];
  let current: AgentList | undefined; // of the last `for` line
  for (const [index, raw] of text.replace(/^\ufeff/, "").split("\n").entries()) {
    const line = index + 1;
    try {
      if (raw.length > MAX_LINE_BYTES / 4 && new TextEncoder().encode(raw).length > MAX_LINE_BYTES) {
        throw new SyntaxError("This line has more than 4,096 bytes");
      }
      if (raw.includes("\ufffd")) throw new SyntaxError("This line is not UTF-8"); // what the decoder makes of it
      const [first = "", ...rest] = raw.replace(/(^|\s)#.*/, "").trim().split(/\s+/);
      if (first === "") continue;
      if (/^(<{7}|={7}|>{7})$/.test(first)) {
        throw new SyntaxError("This is a merge conflict: keep the lines you want");
      }
      if (first === "for") {
        current = parseClauses(["for", ...rest], line).agents;
      } else if (first === "as" && rest.length > 0) {
        throw new SyntaxError(`A reference is missing before "as"`);
      } else {
        const reference = parseReference(first);
        const { as, trust, agents = current } = parseClauses(rest, line);
        entries.push({ line, text: first, reference, as, trust, agents });
      }
    } catch (error) {
      if (!(error instanceof SyntaxError)) throw error;
      errors.push({ line, message: error.message });
    }
  }
  return { entries, errors };
}

/**
 * Says why a name isn't allowed for a skill.
 *
 * @param name The name.
 * @returns The reason; `undefined` if the name is allowed.
 */
export function nameProblem(name: string): string | undefined {
  if (name.length <= 64 && /^[a-z0-9]+(-[a-z0-9]+)*$/.test(name) && !KEYWORDS.includes(name)) return undefined;
  if (KEYWORDS.includes(name)) return `${quote(name)} is a keyword of .skills, not a skill name`;
  const rule = `${quote(name)} is not a skill name: 1 to 64 lowercase letters, digits and single hyphens`;
  const odd = /[^ -~]/u.exec(name)?.[0];
  if (odd) return `${rule}; it contains U+${codePoint(odd)}`;
  if (name.length > 64) return `${rule}; it has ${name.length} characters`;
  const similar = name.toLowerCase().replace(/[^a-z0-9]+/g, "-").replace(/^-|-$/g, "");
  return similar === "" ? rule : `${rule}, did you mean ${quote(similar)}?`;
}

/** The number of a character, as Unicode writes it. */
function codePoint(character: string): string {
  return character.codePointAt(0)!.toString(16).toUpperCase().padStart(4, "0");
}

/**
 * The text of a project's manifest.
 *
 * @throws {UsageError} If it doesn't exist or can't be read.
 */
function readManifest(project: Project): string {
  if (!project.siblings.has(lastSegment(project.manifest)) && !exists(project.manifest)) {
    if (project.global) throw new UsageError(`No ${showHere(project)}: "use-skills.ts init --global" creates one`);
    throw new UsageError(
      `No .skills in ${project.directory} or above it in its repo: "use-skills.ts init" creates one`,
    );
  }
  try {
    return readOwnFile(project.manifest, project);
  } catch (error) {
    throw new UsageError(`Cannot read ${showHere(project)}: ${reasonOf(error)}`);
  }
}

// ── Lockfile ────────────────────────────────────────────────────────────────────────────────────────────────────

/** What a git reference is locked to: enough to get the same files on every machine. */
export interface Locked {
  commit: string;
  /** Larger than a skill may be without `--allow-large`. */
  large?: true;
  /** The directory in the repo; "" for its root. */
  path: string;
  /** Of a reference to many skills: the git tree hash of each, by its path below `path`. */
  skills?: Record<string, string>;
  /** The git tree hash of the directory. */
  tree: string;
  /** The tree hash for which hidden characters are trusted. */
  trusted?: string;
  url: string;
}

type Lockfile = Map<string, Locked>;

type GitEntry = Entry & { reference: Extract<Reference, { kind: "git" }> };

function isGitEntry(entry: Entry): entry is GitEntry {
  return entry.reference.kind === "git";
}

const COMMIT = /^[0-9a-f]{40}$/;

function lockfilePath(project: Project): string {
  return `${project.manifest}.lock`;
}

/** Whether a value read from a lockfile is an entry that this program can have written. */
function isLocked(value: unknown): value is Locked {
  if (typeof value !== "object" || value === null) return false;
  const { commit, tree, url, path, skills, trusted, large } = value as Partial<Locked>;
  const isHash = (hash: unknown) => typeof hash === "string" && COMMIT.test(hash);
  const isPath = (path: unknown) =>
    typeof path === "string" && path.split("/").every((segment) => !["", ".", ".."].includes(segment));
  const all = Object.entries(skills ?? {});
  return isHash(commit) && isHash(tree) && typeof url === "string" && (path === "" || isPath(path)) &&
    (skills === undefined || all.length > 0) && all.every(([path, tree]) => isPath(path) && isHash(tree)) &&
    (trusted === undefined || isHash(trusted)) && (large === undefined || large === true);
}

function renderLockfileEntry(reference: string, locked: Locked): string {
  const fields = Object.entries(locked).filter(([, value]) => value !== undefined);
  const sorted = fields.sort(([a], [b]) => a < b ? -1 : 1);
  return `${JSON.stringify(reference)}: ${JSON.stringify(Object.fromEntries(sorted))}`;
}

/** The text of a lockfile, one line per entry, sorted, so that git can merge it; `undefined` if there are no entries. */
function renderLockfile(lockfile: Lockfile): string | undefined {
  const sorted = [...lockfile].sort(([a], [b]) => a < b ? -1 : 1);
  const lines = sorted.map(([reference, locked]) => renderLockfileEntry(reference, locked));
  return lines.length === 0 ? undefined : `{\n"skills": {\n${lines.join(",\n")}\n},\n"version": 1\n}\n`;
}

/**
 * Reads the text of a lockfile.
 *
 * @param shown Its path, for messages.
 * @throws {UsageError} If it isn't what this program writes.
 */
function parseLockfile(text: string, shown: string): Lockfile {
  let json: { version?: number; skills?: Record<string, unknown> } | null;
  try {
    json = JSON.parse(text);
  } catch (error) {
    const line = text.slice(0, Number(/position (\d+)/.exec(reasonOf(error))?.[1] ?? text.length)).split("\n").length;
    throw new UsageError(
      `${shown}:${line}: this is not valid JSON. After a merge, keep one line per skill, a comma between the lines, ` +
        `and no conflict markers`,
    );
  }
  const version = json?.version ?? 0;
  if (version > 1) throw new UsageError(`${shown} was written by a newer use-skills: update this one`);
  const restore = "restore the file from git, or delete it and sync";
  const entries = typeof json?.skills === "object" ? Object.entries(json.skills ?? {}) : [];
  if (version !== 1 || entries.length === 0) throw new UsageError(`${shown} is not a lockfile: ${restore}`);
  const invalid = entries.find(([, locked]) => !isLocked(locked));
  if (invalid) throw new UsageError(`${shown} has an invalid entry, ${quote(invalid[0])}: ${restore}`);
  // JSON.parse silently takes the last of two equal keys, so compare with what would have been written.
  const lockfile = new Map(entries as [string, Locked][]);
  const lines = text.split(/,?\r?\n/).filter((line) => line.startsWith('"'));
  const expected = new Set(['"skills": {', '"version": 1']);
  for (const [reference, locked] of lockfile) expected.add(renderLockfileEntry(reference, locked));
  const odd = lines.find((line) => !expected.delete(line));
  if (odd !== undefined || expected.size > 0) {
    const line = odd === undefined ? "" : `:${text.split(/,?\r?\n/).lastIndexOf(odd) + 1}`;
    throw new UsageError(`${shown}${line} is not as use-skills writes it, or has an entry twice: ${restore}`);
  }
  return lockfile;
}

/** The manifest and the lockfile of a project, read and parsed. */
interface Files {
  manifest: string;
  entries: Entry[];
  lockfile: Lockfile;
  lockfileText?: string;
}

/**
 * Reads a project's manifest and lockfile.
 *
 * @throws {UsageError} If one of them is invalid.
 */
function readFiles(project: Project): Files {
  const manifest = readManifest(project);
  const { entries, errors } = parseManifest(manifest);
  if (errors.length > 0) throw new UsageError("", errors);
  return { manifest, entries, ...readLockfile(project) };
}

function readLockfile(project: Project): Pick<Files, "lockfile" | "lockfileText"> {
  const path = lockfilePath(project);
  const isKnown = project.siblings.has(lastSegment(path));
  try {
    const lockfileText = isKnown ? ifExists(() => readOwnFile(path, project, MAX_LOCKFILE_BYTES)) : undefined;
    if (lockfileText === undefined) return { lockfile: new Map() };
    return { lockfile: parseLockfile(lockfileText, showHere(project, path)), lockfileText };
  } catch (error) {
    if (error instanceof UsageError) throw error;
    throw new UsageError(`Cannot read ${showHere(project, path)}: ${reasonOf(error)}`);
  }
}

/** Whether a lockfile entry belongs to a reference: same repo, directory, number of skills, and commit if it names one. */
function isLockedFor({ url, path, ref, tail, all }: GitEntry["reference"], locked: Locked): boolean {
  const commit = [ref, ...tail?.split("/") ?? []].find((each) => COMMIT.test(each ?? "")) ?? locked.commit;
  const isSamePath = tail === undefined
    ? locked.path === path
    : locked.path === "" || `/${tail}`.endsWith(`/${locked.path}`);
  return locked.url === url && isSamePath && locked.commit === commit &&
    (locked.skills !== undefined) === (all === true);
}

// ── Store: fetched skills, read-only, addressed by content hash ─────────────────────────────────────────────────

/** A skill of a locked reference. */
interface StoredSkill {
  name: string;
  /** Its path in the repo. */
  path: string;
  tree: string;
  /** Where it is, or will be, in the store. */
  directory: string;
}

/** Next to a stored skill that was checked: one of these two files. The second lists hidden characters. */
const CLEAN_MARKER = ".clean";
const HIDDEN_MARKER = ".hidden.json";

/** The modification time of everything in the store, in seconds. A different time reveals a change. */
const STORE_TIME = 1;

function storeDirectory(): string {
  return `${xdgDirectory("XDG_DATA_HOME", ".local/share")}/store`;
}

/**
 * The skills of a locked reference.
 *
 * @throws {Error} If one has a path that cannot be a skill's.
 */
function storedSkills({ url, path, tree, skills }: Locked): StoredSkill[] {
  const store = storeDirectory();
  const stored = (path: string, tree: string): StoredSkill => {
    const repo = url.endsWith(".git") ? url.slice(0, -4) : url;
    const name = lastSegment(path || repo.replace(/^[^/:]*:/, ""));
    if (/^\.{0,2}$/.test(name) || [CLEAN_MARKER, HIDDEN_MARKER].includes(name) || name.length > 255) {
      throw new Error(`${quote(path)} cannot be a skill's path`);
    }
    return { name, path, tree, directory: `${store}/${tree}/${name}` };
  };
  if (skills === undefined) return [stored(path, tree)];
  return Object.entries(skills).map(([inside, tree]) => stored(path ? `${path}/${inside}` : inside, tree));
}

/** What the store knows about a skill. */
interface StoreEntry {
  /** It was checked, and looks unchanged: `check` reads every file, this looks at two modification times. */
  isIntact: boolean;
  /** It was checked. */
  isChecked: boolean;
  /** The hidden characters that were found. */
  hidden: string[];
}

function examineStored({ name, directory }: StoredSkill): StoreEntry {
  const parent = resolve(directory, "..");
  const names = namesIn(parent);
  const isUnchanged = (path: string) => Deno.lstatSync(path).mtime?.getTime() === STORE_TIME * 1000;
  const isChecked = names.has(name) && (names.has(CLEAN_MARKER) || names.has(HIDDEN_MARKER));
  const isIntact = isChecked &&
    (attempt(() => isUnchanged(directory) && isUnchanged(`${directory}/SKILL.md`)) ?? false);
  const hidden = names.has(HIDDEN_MARKER)
    ? attempt(() => JSON.parse(Deno.readTextFileSync(`${parent}/${HIDDEN_MARKER}`)) as string[]) ?? ["unreadable list"]
    : [];
  return { isIntact, isChecked, hidden: hidden.map((each) => `${name}/${each}`) };
}

/** Why a stored skill must not be deployed; `undefined` if it may. */
function hiddenProblem(hidden: readonly string[], entry: GitEntry, locked: Locked): string | undefined {
  if (hidden.length === 0 || entry.trust && locked.trusted === locked.tree) return undefined;
  const more = hidden.length > 5 ? `; and ${hidden.length - 5} more` : "";
  const wayOut = !entry.trust
    ? `read it in ${storeDirectory()}/${locked.tree}, then end its line with "trust" if they are intended`
    : locked.trusted === undefined
    ? "its line has trust, but .skills.lock doesn't: run sync without --frozen"
    : 'it changed since it was trusted: read it, then run "update --trust"';
  return `${quote(entry.text)} contains hidden characters: ${hidden.slice(0, 5).join("; ")}${more}; ${wayOut}`;
}

/** Why a git reference isn't even looked up; `undefined` if it is. A possible path is never taken for a GitHub repo. */
function gitEntryProblem({ text, reference, as }: GitEntry, project: Project): string | undefined {
  const owner = reference.url.startsWith("https://github.com/") && /^[^:/]+(?=\/)/.exec(text)?.[0];
  if (owner && project.siblings.has(owner)) {
    const place = project.global ? showHere(project, resolve(project.manifest, "..", owner)) : `./${owner}`;
    return `${quote(text)} can be a path, because ${place} exists: write ./${text} or ${reference.url}`;
  }
  return reference.all && as !== undefined ? `"as" needs one skill, but ${quote(text)} names many` : undefined;
}

/**
 * The directories of the skills that a git reference names, according to the lockfile and the store.
 *
 * @throws {Error} If it isn't locked, isn't stored, or must not be deployed.
 */
function locateGit(entry: GitEntry, project: Project, lockfile: Lockfile): string[] {
  const { text, reference } = entry;
  const problem = gitEntryProblem(entry, project);
  if (problem) throw new Error(problem);
  const locked = lockfile.get(text);
  if (locked === undefined) throw new Error(`${quote(text)} is not fetched yet: run sync`);
  if (!isLockedFor(reference, locked)) {
    throw new Error(
      `${quote(text)} is locked to something else, ${quote(locked.url)}: delete its line from .skills.lock, then sync`,
    );
  }
  return storedSkills(locked).map((skill) => {
    const { isChecked, hidden } = examineStored(skill);
    if (!isChecked) throw new Error(`${quote(text)} is not on this machine: run sync`);
    const reason = hiddenProblem(hidden, entry, locked);
    if (reason) throw new Error(reason);
    return skill.directory;
  });
}

// ── Desired state ───────────────────────────────────────────────────────────────────────────────────────────────

/** A skill that the manifest asks for in a target. */
export interface Desired {
  name: string;
  /** The line of its entry. */
  line: number;
  /** The skill's directory. */
  source: string;
}

/** A skills directory of one or more agents. */
export interface Target {
  /** Its real path, also if it doesn't exist yet. */
  path: string;
  /** The agents that the manifest names for it. */
  agents: string[];
  /** The agent whose directory this is because of an environment variable. */
  variableOf?: string;
  desired: Map<string, Desired>;
}

/** What a manifest asks for on this machine. */
export interface DesiredState {
  /** By path. */
  targets: Map<string, Target>;
  /** Names of entries that failed: what was deployed for them stays. */
  failedNames: Set<string>;
  /** Directories of entries with `/*` that failed: what was deployed from there stays. */
  failedSources: string[];
  /** The names for each agent. */
  namesByAgent: Map<string, Set<string>>;
  problems: Problem[];
}

/** What is known about the git references of a manifest. */
interface Fetched {
  lockfile: Lockfile;
  /** Why a reference could not be fetched, by its text. */
  failures: ReadonlyMap<string, string>;
}

/** An agent's skills directory as written, before links are resolved. */
interface AgentDirectory {
  path: string;
  /** It may be outside the project: an absolute path or an environment variable names it. */
  mayBeOutside: boolean;
  /** It depends on an environment variable. */
  isVariable: boolean;
}

/** The skills directories of an agent, or the directory that is named instead of an agent. */
function agentDirectories(agent: string, project: Project): AgentDirectory[] {
  if (/^(\.\.?|~)?\//.test(agent)) {
    return [{ path: expand(agent, project), mayBeOutside: !agent.startsWith("."), isVariable: false }];
  }
  const known = Object.hasOwn(AGENTS, agent) ? AGENTS[agent] : undefined;
  const templates = project.global ? known && [known.home] : known?.project;
  if (templates === undefined) {
    throw new Error(`Unknown agent ${quote(agent)}`, { cause: { word: agent, words: Object.keys(AGENTS) } });
  }
  return templates.flatMap((template) => {
    const [, name, fallback, optional, rest = ""] = /^\$(?:\{(\w+):-([^}]+)\}|(\w+))\/(.+)$/.exec(template) ?? [];
    const variable = name ?? optional;
    if (variable === undefined) {
      return { path: resolve(project.directory, template), mayBeOutside: false, isVariable: false };
    }
    const given = environment(variable);
    const value = variable.startsWith("XDG_") && !given?.startsWith("/") ? undefined : given;
    const directory = value ?? fallback;
    if (directory === undefined) return [];
    return {
      ...{ path: resolve(project.directory, directory, rest), mayBeOutside: value !== undefined, isVariable: true },
    };
  });
}

/**
 * The real path of a directory, also if it or those above it don't exist yet.
 *
 * @param isTarget Whether this run creates a directory. A fresh clone can contain a link to a target before the target.
 * @throws {Error} If a file or a broken link is in the way.
 */
function realDirectory(path: string, isTarget: (path: string) => boolean): string {
  if (path === "/") return path;
  const parent = realDirectory(resolve(path, ".."), isTarget);
  const real = resolve(parent, lastSegment(path));
  const info = ifExists(() => Deno.lstatSync(real));
  if (info?.isSymlink) {
    const destination = attempt(() => Deno.realPathSync(real)) ?? resolve(parent, Deno.readLinkSync(real));
    if (exists(destination) || isTarget(destination)) return destination;
    throw new Error(`${path} is a broken link`);
  }
  if (info && !info.isDirectory) throw new Error(`${path} is not a directory`);
  return real;
}

/**
 * The real path of a target.
 *
 * @param isKnown Whether the project has deployed to a path before.
 * @throws {Error} If nothing can or may be deployed there.
 */
function targetPath(
  { path, mayBeOutside, isVariable }: AgentDirectory,
  project: Project,
  isTarget: (path: string) => boolean,
  isKnown: (path: string) => boolean,
): string {
  const fail = (reason: string) => new Error(`Cannot deploy to ${show(path, project)}: ${reason}`);
  let real = path;
  try {
    if (!isPlain(path, project)) real = realDirectory(path, isTarget);
  } catch (error) {
    throw fail(reasonOf(error));
  }
  if (real.split("/").includes(".git")) throw fail("it is inside .git");
  if (below(project.directory, real) !== undefined) return real;
  if (!mayBeOutside) throw fail(`it leads out of the project, to ${real}: name that path if you want this`);
  const isAllowed = project.global || isVariable || isKnown(real) || !isRestricted();
  if (!isAllowed) throw fail(`it is new and outside the project: run ${quote(thisCommand())} once`);
  return real;
}

/** Whether a path in a project has no links in it, or doesn't exist yet, as its parents' entries show. */
function isPlain(path: string, project: Project): boolean {
  const [top, ...rest] = project.global ? [] : below(project.directory, path)?.split("/") ?? [];
  let entry = top === undefined ? undefined : project.siblings.get(top);
  if (top === undefined) return false;
  for (let parent = `${project.directory}/${top}`; entry?.isDirectory && rest.length > 0;) {
    const name = rest.shift()!;
    entry = namesIn(parent).get(name);
    parent = `${parent}/${name}`;
  }
  return entry === undefined || entry.isDirectory;
}

/** Whether direnv runs this without having asked the user: nothing new may be fetched, locked or put elsewhere. */
function isRestricted(): boolean {
  return isUnderDirenv() && environment("SKILLS_ALLOWED") !== "1";
}

/** How a user runs this program. */
function thisCommand(): string {
  const script = import.meta.filename;
  if (script === undefined) return `deno run -A ${import.meta.url}`;
  const home = environment("HOME");
  const inside = below(Deno.cwd(), script) ?? (home && below(home, script)?.replace(/^/, "~/")) ?? script;
  return `deno run -A --no-config ${inside}`;
}

/** The directories where skills are found by name. The first one that has it wins. */
function* searchPath(project: Project): Generator<string> {
  if (project.siblings.has("skills")) yield resolve(project.manifest, "../skills");
  for (const place of (environment("SKILLS_PATH") ?? "").split(":")) {
    const path = place === "" ? undefined : attempt(() => expand(place, project));
    if (path !== undefined) yield path;
  }
  const script = import.meta.filename; // `undefined` if the script was run from a URL
  if (script !== undefined) yield resolve(Deno.realPathSync(script), "../skills");
}

/** The names of the directories in `directory`, also behind links; `undefined` if it can't be read. */
function subdirectories(directory: string): string[] | undefined {
  return attempt(() => [...Deno.readDirSync(directory)])?.filter((entry) =>
    entry.isDirectory || entry.isSymlink && attempt(() => Deno.statSync(`${directory}/${entry.name}`))?.isDirectory
  ).map(({ name }) => name);
}

/** A checkout of use-skills that has a skill, as users write its path. */
function findCheckout(skill: string): string | undefined {
  const home = environment("HOME");
  const checkouts = [environment("USE_SKILLS")?.replace(/\/[^/]*$/, ""), home && `${home}/use-skills`];
  const found = checkouts.find((checkout) => checkout && exists(`${checkout}/skills/${skill}/SKILL.md`));
  return home && found ? below(home, found)?.replace(/^/, "~/") ?? found : found;
}

/** Returns a function that finds a skill's directory by its name. */
function nameFinder(project: Project): (name: string) => string {
  const listing = memoize((place) => new Set(subdirectories(place)));
  return (name) => {
    const problem = nameProblem(name);
    if (problem) throw new Error(problem);
    for (const place of searchPath(project)) if (listing(place).has(name)) return `${place}/${name}`;
    const places = new Set([resolve(project.manifest, "../skills"), ...searchPath(project)]);
    const searched = [...places].map((place) => show(place, project).replace(/^(?![~/])/, "./")).join(", ");
    const example = `${findCheckout(name) ?? "~/use-skills"}/skills/${name}`;
    throw new Error(
      `No skill ${
        quote(name)
      } in ${searched}: write the path of its folder, for example ${example}, or set SKILLS_PATH`,
      { cause: { word: name, words: [...places].flatMap((place) => [...listing(place)]) } },
    );
  };
}

/** The name an entry is deployed under; "" for one that names many skills. */
function deployedName({ reference, as }: Entry, project: Project): string {
  if (reference.kind !== "name" && reference.all) return "";
  if (as !== undefined) return as;
  if (reference.kind === "name") return reference.name;
  if (reference.kind === "path") return lastSegment(attempt(() => expand(reference.path, project)) ?? reference.path);
  const { url, path, tail } = reference;
  const name = lastSegment((tail ?? (path || url)).replace(/^[^/:]*:/, ""));
  return name.endsWith(".git") ? name.slice(0, -4) : name;
}

/** The skill's directory at a path, or those of all skills directly in it. */
function locatePath(path: string, { text, as }: Entry, all: boolean): string[] {
  if (!all) {
    const info = ifExists(() => Deno.statSync(path));
    if (info?.isDirectory) return [path];
    throw new Error(info ? `${quote(text)} is a file: name the skill's directory` : `${quote(text)} does not exist`);
  }
  if (as !== undefined) throw new Error(`"as" needs one skill, but ${quote(text)} names many`);
  const names = subdirectories(path);
  if (names === undefined) throw new Error(`Cannot read the directory of ${quote(text)}`);
  return names.sort().map((name) => `${path}/${name}`).filter((skill) => exists(`${skill}/SKILL.md`));
}

/**
 * Finds the skills and targets that entries name. Reads the disk, changes nothing.
 *
 * @param entries The manifest's entries.
 * @param project Whose manifest it is.
 * @param fetched What is known about its git references.
 * @param isKnown Whether the project has deployed to a path before.
 * @returns What is desired in which target, and a problem for everything that fails.
 */
export function findDesired(
  entries: readonly Entry[],
  project: Project,
  { lockfile, failures }: Fetched,
  isKnown: (path: string) => boolean,
): DesiredState {
  const targets = new Map<string, Target>();
  const namesByAgent = new Map<string, Set<string>>();
  const state: DesiredState = {
    ...{ targets, namesByAgent, failedNames: new Set(), failedSources: [], problems: [] },
  };
  const fail = (line: number, name: string, error: unknown) => {
    const near = error instanceof Error ? error.cause as Near | undefined : undefined;
    state.problems.push({ line, name: name || undefined, message: reasonOf(error), near });
  };
  const targetsOf = memoize((agent) =>
    agentDirectories(agent, project).map((directory) => {
      const path = targetPath(directory, project, (path) => targets.has(path), isKnown);
      const target: Target = targets.get(path) ?? { path, agents: [], desired: new Map() };
      if (directory.isVariable) target.variableOf = agent;
      target.agents.push(agent);
      targets.set(path, target);
      return target;
    })
  );
  const keep = (name: string, { reference, text }: Entry) => {
    const locked = reference.kind === "git" && reference.all ? lockfile.get(text) : undefined;
    for (const { name } of locked && attempt(() => storedSkills(locked)) || []) state.failedNames.add(name);
    const source = reference.kind === "path" && reference.all
      ? attempt(() => expand(reference.path, project))
      : undefined;
    if (source !== undefined) state.failedSources.push(source);
    else state.failedNames.add(name);
  };
  const findByName = nameFinder(project);
  const locate = (entry: Entry): string[] => {
    const { reference, text } = entry;
    if (reference.kind === "name") return [findByName(reference.name)];
    if (reference.kind === "path") return locatePath(expand(reference.path, project), entry, reference.all);
    const failure = failures.get(text);
    if (failure !== undefined) throw new Error(failure);
    return locateGit(entry as GitEntry, project, lockfile);
  };
  const add = (target: Target, desired: Desired) => {
    const { name, line, source } = desired;
    const earlier = target.desired.get(name) ?? desired;
    target.desired.set(name, earlier);
    if (earlier.source === source) return;
    if (attempt(() => Deno.realPathSync(earlier.source) === Deno.realPathSync(source))) return;
    const both = `${show(source, project)} here and ${show(earlier.source, project)} in line ${earlier.line}`;
    fail(line, name, `${quote(name)} names two skills, ${both}: write "as NAME" after one of them`);
  };

  for (const entry of entries) {
    const { line } = entry;
    const name = deployedName(entry, project);
    const agents = entry.agents ?? { line, names: DEFAULT_AGENTS };
    const entryTargets: Target[] = [];
    for (const agent of agents.names) {
      try {
        entryTargets.push(...targetsOf(agent));
      } catch (error) {
        fail(agents.line, "", error);
        keep(name, entry);
      }
    }
    let sources: string[] = [];
    try {
      sources = locate(entry);
    } catch (error) {
      fail(line, name, error);
      keep(name, entry);
    }
    for (const source of sources) {
      const skillName = entry.as ?? (entry.reference.kind === "name" ? name : lastSegment(source));
      const problem = nameProblem(skillName);
      if (problem) {
        fail(
          line,
          skillName,
          entry.as ? problem : `${problem}: rename the directory, or write "as NAME" after its path`,
        );
        continue;
      }
      for (const agent of agents.names) {
        namesByAgent.set(agent, (namesByAgent.get(agent) ?? new Set()).add(skillName));
      }
      for (const target of new Set(entryTargets)) add(target, { name: skillName, line, source });
    }
  }
  return state;
}

// ── Content: the files of a skill, and git's hash of them ───────────────────────────────────────────────────────

/** A file, link or directory below another directory. */
interface Item {
  /** Relative to the directory. A directory comes before what is in it. */
  path: string;
  info: Deno.FileInfo;
}

/** Lists everything below a directory. Links are not followed. */
function* walk(directory: string, prefix = ""): Generator<Item> {
  for (const { name } of Deno.readDirSync(`${directory}/${prefix}`)) {
    const path = prefix + name;
    const info = Deno.lstatSync(`${directory}/${path}`);
    yield { path, info };
    if (info.isDirectory) yield* walk(directory, `${path}/`);
  }
}

function isExecutable(info: Deno.FileInfo): boolean {
  return ((info.mode ?? 0) & 0o111) !== 0;
}

/** Why a link is not allowed in a skill; `undefined` if it stays inside it. */
function linkProblem(path: string, text: string): string | undefined {
  const isInside = text !== "" && !text.startsWith("/") &&
    below("/skill", resolve("/skill", path, "..", text)) !== undefined;
  return isInside ? undefined : `the link ${quote(path)} leads out of the skill, to ${quote(text)}`;
}

/**
 * Lists a skill that is to be copied, or a copy.
 *
 * @throws {Error} If a copy would be incomplete or include something from outside the skill: because of a link that
 * leads out of it or nowhere, a socket, or a device.
 */
function listContent(directory: string): Item[] {
  const top = Deno.realPathSync(directory);
  const items = [...walk(directory)];
  for (const { path, info } of items) {
    if (info.isDirectory || info.isFile) continue;
    if (!info.isSymlink) throw new Error(`${quote(path)} is not a file, a directory or a link`);
    const text = Deno.readLinkSync(`${directory}/${path}`);
    const real = attempt(() => Deno.realPathSync(`${directory}/${path}`));
    if (real === undefined) throw new Error(`the link ${quote(path)} is broken`);
    const problem = linkProblem(path, below(top, real) === undefined ? real : text);
    if (problem) throw new Error(problem);
  }
  return items;
}

/**
 * The hash git gives a directory. An empty directory counts as an empty tree.
 *
 * Source: git's object format, https://git-scm.com/book/en/v2/Git-Internals-Git-Objects
 */
async function treeHash(directory: string, items: readonly Item[]): Promise<string> {
  const hashObject = async (type: string, content: Uint8Array) =>
    new Uint8Array(await crypto.subtle.digest("SHA-1", concat(`${type} ${content.length}\0`, content)));
  // What is in each directory, by its path: mode and name, hash, and the key by which git sorts.
  const trees = new Map<string, { key: string; parts: [string, Uint8Array] }[]>([["", []]]);
  const hashTree = async (path: string) => {
    const entries = trees.get(path)!.sort((a, b) => a.key < b.key ? -1 : 1);
    return await hashObject("tree", concat(...entries.flatMap(({ parts }) => parts)));
  };
  for (const { path, info } of items) if (info.isDirectory) trees.set(path, []);
  for (const { path, info } of items.toReversed()) { // Directories come after what is in them.
    const name = lastSegment(path);
    const mode = info.isDirectory ? "40000" : info.isSymlink ? "120000" : isExecutable(info) ? "100755" : "100644";
    const hash = info.isDirectory ? await hashTree(path) : await hashObject(
      "blob",
      info.isSymlink ? concat(Deno.readLinkSync(`${directory}/${path}`)) : Deno.readFileSync(`${directory}/${path}`),
    );
    const key = concat(name, info.isDirectory ? "/" : "").toHex(); // Git sorts bytes, and a directory as NAME/.
    trees.get(path.slice(0, Math.max(0, path.length - name.length - 1)))!.push({
      key,
      parts: [`${mode} ${name}\0`, hash],
    });
  }
  return (await hashTree("")).toHex();
}

/** The hash of a directory's content; `undefined` if it can't be read, or can't be a copy of a skill. */
async function contentHash(directory: string): Promise<string | undefined> {
  try {
    return await treeHash(directory, listContent(directory));
  } catch {
    return undefined;
  }
}

/** Copies a skill, with the two modes that git knows. */
function copyContent(source: string, destination: string): void {
  Deno.mkdirSync(destination);
  for (const { path, info } of listContent(source)) {
    const [from, to] = [`${source}/${path}`, `${destination}/${path}`];
    if (info.isDirectory) Deno.mkdirSync(to);
    else if (info.isSymlink) Deno.symlinkSync(Deno.readLinkSync(from), to);
    else {
      Deno.copyFileSync(from, to);
      Deno.chmodSync(to, isExecutable(info) ? 0o755 : 0o644);
    }
  }
}

/** Removes something of ours, also read-only directories. It's fine if it doesn't exist. */
function removeAll(path: string): void {
  try {
    ifExists(() => Deno.removeSync(path, { recursive: true }));
  } catch (error) {
    if (!(error instanceof Deno.errors.PermissionDenied)) throw error;
    makeWritable(path);
    Deno.removeSync(path, { recursive: true });
  }
}

/** Makes the directories in a path of ours writable, so that it can be moved and removed. */
function makeWritable(path: string): void {
  Deno.chmodSync(path, 0o755);
  for (const { name, isDirectory } of Deno.readDirSync(path)) if (isDirectory) makeWritable(`${path}/${name}`);
}

// ── Actual state: what is in a target, and which targets a project has ──────────────────────────────────────────

/** What was created under a name: a link with this text, or with `copy` a copy of what that link would lead to. */
export interface Form {
  target: string;
  /** The git tree hash of the copy. */
  copy?: string;
}

/** An entry of a target's state file: what is owned, and by which projects. */
export interface Owned extends Form {
  /** What was there before, while it is being replaced: owned, too. */
  was?: Form[];
  /** The manifests of the owners: relative to the target if the target is in the project, else absolute. */
  for: string[];
}

/** What is in a target under a name. */
export type Actual =
  | { kind: "nothing" | "file" }
  /** `isDesired`: it leads to the desired skill. */
  | { kind: "link"; text: string; isDesired: boolean }
  /** `hash`: of its content, only computed if it can be a copy of ours. */
  | { kind: "directory"; hash?: string };

/** A target's state file. */
interface State {
  entries: Map<string, Owned>;
  /** A run has not finished its work here. */
  isPending: boolean;
  /** As it was read. */
  text?: string;
}

function isForm(form: Partial<Form> | null | undefined): boolean {
  return typeof form?.target === "string" && (form.copy === undefined || typeof form.copy === "string");
}

/** Whether a value read from a state file is an entry that this program can have written. */
function isOwned(owned: Partial<Owned> | null): boolean {
  return isForm(owned) && Array.isArray(owned?.for) && owned.for.every((owner) => typeof owner === "string") &&
    (owned.was === undefined || Array.isArray(owned.was) && owned.was.every(isForm));
}

/**
 * Reads a target's state file. A damaged one counts as missing: what is as desired is then adopted again.
 *
 * @param names The names in the target.
 * @throws {Error} If it isn't a regular file, or if a newer version of this program wrote it.
 */
function readState(target: string, entries: Names): State {
  const entry = entries.get(STATE_FILE);
  if (entry === undefined) return { entries: new Map(), isPending: false };
  if (!entry.isFile) throw new Error(`its ${STATE_FILE} is not a regular file: delete it`);
  if (Deno.lstatSync(`${target}/${STATE_FILE}`).size > MAX_FILE_BYTES) {
    throw new Error(`its ${STATE_FILE} has more than ${MAX_FILE_BYTES / 2 ** 20} MiB: delete it`);
  }
  const text = ifExists(() => Deno.readTextFileSync(`${target}/${STATE_FILE}`));
  const { version, entries: known, pending } = attempt(() => JSON.parse(text ?? "{}")) ?? {};
  if (version > 1) throw new Error(`its ${STATE_FILE} was written by a newer use-skills: update this one`);
  const owned = version === 1 && typeof known === "object" ? Object.entries<Owned>(known ?? {}) : [];
  const valid = owned.filter(([name, each]) => nameProblem(name) === undefined && isOwned(each));
  return { entries: new Map(valid), isPending: pending === true, text };
}

/** The text of a state file, one line per entry; `undefined` if nothing is owned. */
function renderState(entries: ReadonlyMap<string, Owned>, isPending = false): string | undefined {
  if (entries.size === 0 && !isPending) return undefined;
  const lines = [...entries.keys()].sort().map((name) => `"${name}":${JSON.stringify(entries.get(name))}`);
  return `{"version":1,${isPending ? '"pending":true,' : ""}"entries":{\n${lines.join(",\n")}\n}}\n`;
}

/** The text of a target's `.gitignore`. The checksum shows whether a person has edited it since. */
function renderIgnore(names: Iterable<string>): string {
  const lines = ["/.gitignore", "/.use-skills.*", ...[...names].sort().map((name) => `/${name}`)];
  const text = `${lines.join("\n")}\n`;
  return `# Written by use-skills, checksum ${fnv1a(text)}\n${text}`;
}

/** Whether the text of a `.gitignore` is as this program wrote it, at some time. */
function isUnedited(text: string): boolean {
  const [, checksum, lines = ""] = /^# Written by use-skills, (?:checksum|sum) ([0-9a-f]+)\n([^]*)$/.exec(text) ?? [];
  return checksum !== undefined && checksum === fnv1a(lines);
}

/** Which targets a project has deployed to. A killed run can have recorded one that it did not create. */
interface TargetIndex {
  /** By path. */
  targets: Map<string, IndexedTarget>;
  /** As it was read; `undefined` if it doesn't exist. */
  text?: string;
}

interface IndexedTarget {
  /** How many of the directories above it use-skills created. */
  parents: number;
  /** {@linkcode Target.variableOf} */
  agent?: string;
}

function indexDirectory(): string {
  return xdgDirectory("XDG_STATE_HOME", ".local/state");
}

function indexPath(project: Project): string {
  return `${indexDirectory()}/${fileNameOf(project.manifest)}.json`;
}

/** Reads the text of a target index; `directory` is the project's. A damaged one counts as missing. */
function parseIndex(text: string, directory: string): TargetIndex & { manifest: string } {
  const { manifest, targets } = attempt(() => JSON.parse(text)) ?? {};
  const valid = Object.entries<IndexedTarget>(targets ?? {}).filter(([, each]) => Number.isInteger(each?.parents));
  return {
    manifest: `${manifest}`,
    targets: new Map(valid.map(([path, each]) => [resolve(directory, path), each])),
    text,
  };
}

function renderIndex({ targets }: TargetIndex, project: Project): string | undefined {
  if (targets.size === 0) return undefined;
  const pathTo = pathsFrom(project.directory, project.directory);
  const sorted = [...targets].map(([path, each]) => [pathTo(path), each] as const).sort(([a], [b]) => a < b ? -1 : 1);
  return `${
    JSON.stringify({ version: 1, manifest: project.manifest, targets: Object.fromEntries(sorted) }, undefined, 1)
  }\n`;
}

/**
 * The target index of a project. A project that was moved here has none, but the state files of its targets still name
 * it, so the targets of all known agents are examined.
 */
function readIndex(project: Project): TargetIndex {
  const text = attempt(() => Deno.readTextFileSync(indexPath(project)));
  const index = text === undefined ? { targets: new Map() } : parseIndex(text, project.directory);
  if (index.targets.size > 0 || project.global) return index;
  for (const agent of Object.keys(AGENTS)) {
    for (const { path } of agentDirectories(agent, project)) {
      const inside = below(project.directory, path);
      if (inside === undefined || !project.siblings.has(inside.split("/", 1)[0]!)) continue;
      const owner = pathsFrom(path, project.directory)(project.manifest);
      const entries = attempt(() => readState(path, namesIn(path)).entries);
      if (entries?.values().some((owned) => owned.for.includes(owner))) index.targets.set(path, { parents: 0 });
    }
  }
  return index;
}

/** The target indexes of all projects of this user, with the manifest of each. */
function readAllIndexes(): (TargetIndex & { manifest: string })[] {
  const directory = attempt(indexDirectory);
  const names = directory ? [...namesIn(directory).keys()] : [];
  return names.filter((name) => name.endsWith(".json")).flatMap((name) => {
    const text = attempt(() => Deno.readTextFileSync(`${directory}/${name}`)) ?? "";
    const { manifest } = parseIndex(text, "/");
    const isHome = manifest === attempt(homeManifest);
    return parseIndex(text, isHome ? environment("HOME") ?? "/" : resolve("/", manifest, ".."));
  });
}

// ── Plan ────────────────────────────────────────────────────────────────────────────────────────────────────────

/** What happens to a name in a target. */
export interface Action {
  /**
   * `ok`: nothing. `keep`: nothing, because the entry failed. `adopt`: record what is there as owned. `release`: record
   * as no longer owned what a person has changed. `conflict`: report what is in the way.
   */
  kind: "ok" | "keep" | "link" | "relink" | "copy" | "recopy" | "adopt" | "prune" | "release" | "conflict";
  name: string;
  reason: string;
  actual: Actual;
  desired?: Desired;
  /** What is to be there: a link with this text, or a copy. */
  form?: Form;
  /** What of ours is there. */
  owned?: Form;
  /** The entry of the state file afterwards. */
  next?: Owned;
}

/** Everything that the decision about a name depends on. */
export interface Situation {
  name: string;
  desired?: Desired;
  /** What is to be there, if anything. */
  form?: Form;
  /** The entry of the state file. */
  owned?: Owned;
  actual: Actual;
  /** It isn't desired, but must not be pruned: its entry failed, or the target depends on an unset variable. */
  isKept: boolean;
  /** The manifest that is deployed, as a state file names it. */
  owner: string;
  /** Whether the manifest of an owner still exists. */
  isAlive: (owner: string) => boolean;
}

/** All forms in which an entry is owned. */
function formsOf(owned: Owned | undefined): Form[] {
  return owned === undefined ? [] : [owned, ...owned.was ?? []];
}

/** What is in the way, in words. */
function obstacle(actual: Actual, owned?: Owned): string {
  if (actual.kind === "link") return `a link to ${quote(actual.text)} that use-skills did not create is there`;
  if (actual.kind === "directory" && owned?.copy) return "this copy was edited";
  return `a ${actual.kind} that use-skills did not create is there`;
}

/**
 * Decides what happens to a name in a target.
 *
 * What isn't owned is never changed. Something is owned if the state file records it and it still is as recorded. What
 * another living project owns stays as it is. What no project wants any more is pruned.
 *
 * @param situation What is desired, and what is there.
 * @returns The action that leads from one to the other.
 */
export function decide(situation: Situation): Action {
  const { name, desired, form, owned, actual, isKept, owner, isAlive } = situation;
  const current = formsOf(owned).find(({ target, copy }) =>
    copy === undefined
      ? actual.kind === "link" && actual.text === target
      : actual.kind === "directory" && actual.hash === copy
  );
  const others = owned?.for.filter((other) => other !== owner && isAlive(other)) ?? [];
  const isOwner = owned?.for.includes(owner) ?? false;
  const action = (kind: Action["kind"], reason: string, next?: Owned): Action => {
    return { kind, name, reason, actual, desired, form, owned: current, next };
  };

  if (form === undefined) {
    if (owned === undefined || isKept && isOwner) return action("keep", "", owned);
    if (others.length > 0) return action("ok", "", { ...owned, for: others });
    if (current) return action("prune", isOwner ? "it is no longer in .skills" : "no project wants it any more");
    return actual.kind === "nothing" ? action("ok", "") : action("release", obstacle(actual, owned));
  }

  const isLinked = actual.kind === "link" && actual.isDesired;
  const next = ({ target, copy }: Form): Owned => ({ target, copy, for: [...others, owner].sort() });
  if (owned && others.length > 0 && !isLinked && owned.target !== form.target) {
    return action("conflict", `${others[0]} has another skill of that name there`, { ...owned, for: others });
  }
  if (form.copy === undefined ? isLinked : current?.copy === form.copy) {
    const isRecorded = current !== undefined && isOwner;
    return action(
      isRecorded ? "ok" : "adopt",
      "it is as desired",
      next(actual.kind === "link" ? { target: actual.text } : form),
    );
  }
  if (actual.kind === "nothing") return action(form.copy ? "copy" : "link", "nothing is there", next(form));
  if (current === undefined) {
    const isEditedCopy = actual.kind === "directory" && owned?.copy !== undefined;
    return action("conflict", obstacle(actual, owned), isEditedCopy ? owned : undefined);
  }
  if (others.length > 0) return action("ok", "", next(current)); // Another project chose between link and copy.
  const change = current.copy && !form.copy
    ? "it is a copy"
    : form.copy && !current.copy
    ? "it is a link"
    : "the skill changed";
  const reason = current.target === form.target ? change : `it is from ${current.target}`;
  return action(form.copy ? "recopy" : "relink", reason, next(form));
}

/** Whether an action changes something. */
function isChange({ kind }: Action): boolean {
  return kind !== "ok" && kind !== "keep" && kind !== "conflict";
}

/** An action in a target. */
interface PlannedAction extends Action {
  path: string;
  agents: string[];
}

/** What happens in a target. */
interface TargetPlan {
  target: Target;
  state: State;
  actions: PlannedAction[];
  /** The entries of the state file afterwards. */
  next: Map<string, Owned>;
  problems: Problem[];
  /** The target's `.gitignore` is the user's. */
  isIgnoreForeign: boolean;
  /** Nothing has to be written. */
  isSettled: boolean;
}

/** What is needed to plan a target. */
interface PlanOptions {
  /** Copy or link; `undefined`: as before. */
  copy?: boolean;
  /** Also examine skills that are deployed already. */
  isThorough: boolean;
}

/**
 * Whether a target is byte for byte as a first deployment would leave it. This is the usual case, and all that is done
 * about a target on `cd`. A target that is right in another way (copies, adopted links) is planned.
 */
function isAsDeployed({ path, desired }: Target, project: Project): boolean {
  const linkTo = pathsFrom(path, project.directory);
  const owners = [linkTo(project.manifest)];
  const owned = new Map<string, Owned>();
  for (const { name, source } of desired.values()) owned.set(name, { target: linkTo(source), for: owners });
  let [links, ignore, state] = [0, false, false];
  for (const { name, isSymlink, isFile } of Deno.readDirSync(path)) {
    const link = owned.get(name)?.target;
    if (link !== undefined) {
      if (!isSymlink || Deno.readLinkSync(`${path}/${name}`) !== link) return false;
      links++;
    } else if (name === STATE_FILE) state = isFile;
    else if (name === ".gitignore") ignore = isFile;
    else if (name.startsWith(".use-skills.")) return false; // Left by a killed run.
  }
  const isText = (name: string, text: string | undefined) => {
    return Deno.lstatSync(`${path}/${name}`).size <= MAX_FILE_BYTES &&
      Deno.readTextFileSync(`${path}/${name}`) === text;
  };
  return owned.size > 0 && links === owned.size && ignore && state &&
    isText(STATE_FILE, renderState(owned)) && isText(".gitignore", renderIgnore(owned.keys()));
}

/** Plans a target. `keptNames` and `keptSources` are not pruned. */
async function planTarget(
  target: Target,
  project: Project,
  options: PlanOptions,
  keptNames: ReadonlySet<string>,
  keptSources: readonly string[],
): Promise<TargetPlan> {
  const { path } = target;
  const entries = namesIn(path);
  const state = readState(path, entries);
  const linkTo = pathsFrom(path, project.directory);
  const owner = linkTo(project.manifest);
  const isAlive = memoize((other) => exists(resolve(path, other)));
  const plan: TargetPlan = {
    ...{ target, state, actions: [], next: new Map(), problems: [], isIgnoreForeign: false, isSettled: false },
  };

  const planName = async (name: string, desired?: Desired): Promise<PlannedAction> => {
    const at = `${path}/${name}`;
    const owned = state.entries.get(name);
    const entry = entries.get(name);
    let form: Form | undefined;
    if (desired) {
      form = { target: linkTo(desired.source) };
      if (options.copy ?? owned?.copy !== undefined) {
        if (below(Deno.realPathSync(desired.source), at) !== undefined) throw new Error("it contains the target");
        form.copy = await treeHash(desired.source, listContent(desired.source));
      }
    }
    let actual: Actual = { kind: entry === undefined ? "nothing" : "file" };
    if (entry?.isDirectory) {
      const mayBeOurs = formsOf(owned).some(({ copy }) => copy);
      actual = { kind: "directory", hash: mayBeOurs ? await contentHash(at) : undefined };
    } else if (entry?.isSymlink) {
      const text = Deno.readLinkSync(at);
      const isRight = () => desired && attempt(() => Deno.realPathSync(at)) === Deno.realPathSync(desired.source);
      actual = { kind: "link", text, isDesired: text === form?.target || isRight() === true };
    }
    const isFromKept = () =>
      owned && keptSources.some((source) => below(source, resolve(path, owned.target)) !== undefined);
    const isKept = keptNames.has(name) || target.desired.has(name) || isFromKept() === true;
    const action = decide({ name, desired, form, owned, actual, isKept, owner, isAlive });
    const isExamined = action.kind !== "conflict" && (options.isThorough || action.kind !== "ok");
    if (desired && isExamined && !exists(`${desired.source}/SKILL.md`)) throw new Error("it has no SKILL.md");
    return { ...action, path: at, agents: target.agents };
  };

  for (const name of new Set([...target.desired.keys(), ...state.entries.keys()])) {
    const desired = target.desired.get(name);
    // A skill that lives in the target itself needs no deployment.
    if (desired && entries.get(name)?.isDirectory && Deno.realPathSync(desired.source) === `${path}/${name}`) continue;
    const fail = (message: string) => plan.problems.push({ line: desired?.line, name, message });
    let action: PlannedAction;
    try {
      action = await planName(name, desired);
      if (desired && action.kind === "conflict") {
        const wayOut = `move it away, or write "as NAME" after the entry`;
        fail(`Cannot deploy ${quote(name)} to ${show(path, project)}: ${action.reason}; ${wayOut}`);
      }
    } catch (error) {
      if (desired === undefined) throw error;
      fail(`Cannot deploy ${quote(name)} from ${show(desired.source, project)}: ${reasonOf(error)}`);
      action = await planName(name);
    }
    plan.actions.push(action);
    if (action.next) plan.next.set(name, action.next);
  }

  const ignore = entries.get(".gitignore");
  const ignoreText = ignore?.isFile ? attempt(() => readOwnFile(`${path}/.gitignore`, project)) : undefined;
  const isExpected = plan.next.size === 0 ? ignore === undefined : ignoreText === renderIgnore(plan.next.keys());
  plan.isIgnoreForeign = ignore !== undefined && (ignoreText === undefined || !isUnedited(ignoreText));
  const hasDebris = state.isPending ||
    entries.keys().some((name) => name.startsWith(".use-skills.") && name !== STATE_FILE);
  plan.isSettled = !plan.actions.some(isChange) && !hasDebris && (isExpected || plan.isIgnoreForeign) &&
    renderState(plan.next) === state.text;
  return plan;
}

/** What happens to a project. */
interface Plan {
  index: TargetIndex;
  /** The index with every target that has, or will have, something owned. */
  nextIndex: TargetIndex;
  /** The targets that are not simply as deployed. */
  targets: TargetPlan[];
  problems: Problem[];
}

/** How many directories above a target don't exist yet, or were created by use-skills. */
function countParents(target: string, index: TargetIndex): number {
  const created = new Set<string>();
  for (const [path, { parents }] of index.targets) {
    for (let parent = path, count = 0; count < parents; count++) created.add(parent = resolve(parent, ".."));
  }
  let count = 0;
  for (let parent = resolve(target, ".."); created.has(parent) || !exists(parent); parent = resolve(parent, "..")) {
    count++;
  }
  return count;
}

/** A problem with a whole target, at the first line that deploys there. */
function targetProblem(doing: string, { path, desired }: Target, project: Project, error: unknown): Problem {
  const message = `Cannot ${doing} ${show(path, project)}: ${reasonOf(error)}`;
  return { line: desired.values().next().value?.line, message };
}

/** Plans a project. `isForWriting`: targets that are as deployed need no plan. */
async function planProject(
  project: Project,
  state: DesiredState,
  index: TargetIndex,
  options: PlanOptions,
  isForWriting: boolean,
): Promise<Plan> {
  const plan: Plan = { index, nextIndex: { targets: new Map() }, targets: [], problems: [...state.problems] };
  const targets = new Map(state.targets);
  const keep = (path: string, agent: string | undefined) => {
    const known = index.targets.get(path);
    plan.nextIndex.targets.set(path, { parents: known?.parents ?? countParents(path, index), agent });
  };
  for (const [path, { agent }] of index.targets) {
    // If a link leads elsewhere now, use-skills has created nothing there.
    if (targets.has(path) || !isPlain(path, project) && attempt(() => realDirectory(path, () => false)) !== path) {
      continue;
    }
    const name = Object.keys(AGENTS).find((each) => agentDirectories(each, project).some((each) => each.path === path));
    const agents = [name ?? show(path, project).replace(/^(?![~/])/, "./")];
    targets.set(path, { path, agents, desired: new Map(), variableOf: agent });
  }
  for (const target of targets.values()) {
    const { path, desired, variableOf } = target;
    try {
      const isPlain = isForWriting && !options.copy && index.targets.has(path) && desired.size > 0;
      if (isPlain && attempt(() => isAsDeployed(target, project))) {
        keep(path, variableOf);
        continue;
      }
      const isUnset = variableOf !== undefined && !state.targets.has(path);
      const keptNames = new Set([...state.failedNames, ...isUnset && state.namesByAgent.get(variableOf) || []]);
      const targetPlan = await planTarget(target, project, options, keptNames, state.failedSources);
      plan.targets.push(targetPlan);
      plan.problems.push(...targetPlan.problems);
      if (targetPlan.next.size > 0) keep(path, variableOf);
    } catch (error) {
      plan.problems.push(targetProblem("read", target, project, error));
      if (index.targets.has(path)) keep(path, variableOf);
    }
  }
  return plan;
}

/** Whether a plan changes nothing. */
function isSettled(plan: Plan, project: Project): boolean {
  const isIndexed = renderIndex(plan.nextIndex, project) === plan.index.text || !attempt(indexDirectory);
  return isIndexed && plan.targets.every(({ isSettled }) => isSettled);
}

// ── Apply ───────────────────────────────────────────────────────────────────────────────────────────────────────

/** The places for a target's staging directory: next to it, where no agent looks for skills, otherwise in it. */
function stagingPlaces(target: string): string[] {
  return [resolve(target, "..", STAGING), `${target}/${STAGING}`];
}

/** Creates a target's staging directory. */
function createStaging(target: string): string {
  let problem: unknown;
  for (const path of stagingPlaces(target)) {
    try {
      Deno.mkdirSync(path, { recursive: true });
      if (!Deno.lstatSync(path).isDirectory) throw new Error(`${path} is a link: delete it`);
      if (Deno.statSync(path).dev === Deno.statSync(target).dev) {
        Deno.writeTextFileSync(`${path}/.gitignore`, "*\n");
        return path;
      }
      Deno.removeSync(path);
    } catch (error) {
      problem = error;
    }
  }
  throw problem;
}

/** Puts back what a person may have edited, under its name or, if that is taken, under a similar one. */
function putBack(moved: string, path: string): void {
  const free = ["", ".edited", ...Array.from({ length: 100 }, (_, index) => `.edited-${index + 2}`)]
    .map((suffix) => path + suffix).find((each) => !exists(each));
  Deno.renameSync(moved, free ?? `${path}.edited-${crypto.randomUUID()}`);
}

/** Removes what a killed run left in the staging directory of a target. An old copy that was edited is put back. */
async function recover(target: string, state: State): Promise<void> {
  for (const staging of stagingPlaces(target)) {
    if (!attempt(() => Deno.lstatSync(staging))?.isDirectory) continue;
    for (const name of namesIn(staging).keys().filter((name) => name.endsWith(".old"))) {
      const skill = name.slice(0, -4);
      const hash = await contentHash(`${staging}/${name}`);
      const isOurs = formsOf(state.entries.get(skill)).some(({ copy }) => copy !== undefined && copy === hash);
      if (isOurs) Deno.renameSync(`${staging}/${name}`, `${staging}/${skill}.gone`);
      else putBack(`${staging}/${name}`, `${target}/${skill}`);
    }
    removeAll(staging);
  }
}

/**
 * Carries out an action in a target.
 *
 * What is there is examined again right before it is removed, and a copy once more after it was moved away, because a
 * person may edit it at any time.
 */
async function perform(action: Action, target: string, staging: () => string): Promise<void> {
  const { kind, name, form, desired, actual } = action;
  const path = `${target}/${name}`;
  const changed = new Error("it changed during this run");
  if (kind === "adopt" || kind === "release") return;
  if (kind === "link" && form) return Deno.symlinkSync(form.target, path); // never replaces anything

  let created: string | undefined;
  if (form && desired) {
    created = `${staging()}/${name}.new`;
    if (form.copy === undefined) {
      Deno.symlinkSync(form.target, created);
    } else {
      copyContent(desired.source, created);
      if (await contentHash(created) !== form.copy) throw new Error("the skill changed while it was copied");
    }
  }
  if (actual.kind === "link") {
    if (attempt(() => Deno.readLinkSync(path)) !== actual.text) throw changed;
    if (created !== undefined && form?.copy === undefined) return Deno.renameSync(created, path);
    Deno.removeSync(path);
  }
  let moved: string | undefined;
  if (actual.kind === "directory") {
    moved = `${staging()}/${name}.old`;
    Deno.renameSync(path, moved);
    if (await contentHash(moved) !== actual.hash) {
      putBack(moved, path);
      throw changed;
    }
  }
  try {
    if (created !== undefined) {
      if (exists(path)) throw changed;
      Deno.renameSync(created, path);
    }
  } catch (error) {
    if (moved !== undefined) putBack(moved, path);
    throw error;
  }
  if (moved === undefined) return;
  const gone = `${staging()}/${name}.gone`; // Renamed, so that half of it is never mistaken for an edited copy.
  Deno.renameSync(moved, gone);
  removeAll(gone);
}

/** The entries to record before the actions: what is there and what is about to be created. */
function transition(before: ReadonlyMap<string, Owned>, after: ReadonlyMap<string, Owned>): Map<string, Owned> {
  const both = new Map(before);
  for (const [name, owned] of after) {
    const was = formsOf(before.get(name)).map(({ target, copy }): Form => ({ target, copy }))
      .filter(({ target, copy }) => target !== owned.target || copy !== owned.copy);
    both.set(name, { ...owned, was: was.length > 0 ? was : undefined });
  }
  return both;
}

/**
 * Carries out the plan of a target.
 *
 * What is about to be created is recorded first, so that the next run after a kill knows it. The last write marks the
 * work as done, after the staging directory was removed.
 *
 * @returns Why actions failed, by name.
 */
async function applyTarget(
  { target: { path }, state, actions, next, isIgnoreForeign }: TargetPlan,
): Promise<Map<string, string>> {
  const failures = new Map<string, string>();
  const record = (entries: ReadonlyMap<string, Owned>, isPending: boolean) => {
    const text = renderState(entries, isPending);
    const ignore = entries.size > 0 ? renderIgnore(entries.keys()) : undefined;
    const writeIgnore = () => isIgnoreForeign || replaceFile(`${path}/.gitignore`, ignore);
    if (!isPending) writeIgnore();
    replaceFile(`${path}/${STATE_FILE}`, text);
    if (isPending) writeIgnore();
  };
  let staging: string | undefined;
  const changes = actions.filter(isChange);
  removeAll(`${path}/${TEMPORARY}`);
  await recover(path, state);
  if (changes.length > 0) record(transition(state.entries, next), true);
  try {
    for (const action of changes) {
      try {
        await perform(action, path, () => staging ??= createStaging(path));
      } catch (error) {
        failures.set(action.name, reasonOf(error));
        if (staging) attempt(() => removeAll(`${staging}/${action.name}.new`)); // The disk may be full.
        const old = state.entries.get(action.name);
        if (old) next.set(action.name, old);
        else next.delete(action.name);
      }
    }
  } finally {
    if (staging) await recover(path, state);
  }
  record(next, false);
  return failures;
}

/** Removes a target if it is empty, and those directories above it that use-skills created. Says whether it is gone. */
function removeTarget(path: string, parents: number): boolean {
  for (let each = path, count = 0; count <= parents; each = resolve(each, ".."), count++) {
    const isGone = !exists(each) || attempt(() => Deno.removeSync(each)) !== undefined || !exists(each);
    if (!isGone) return each !== path;
  }
  return true;
}

// ── Deploy ──────────────────────────────────────────────────────────────────────────────────────────────────────

/** What a command does to a project. */
interface Deployment extends PlanOptions {
  /** Whether anything may be written. */
  write: boolean;
  /** As if the manifest had no entries. */
  clean?: boolean;
  /** Why git references could not be fetched, by their text. */
  failures?: ReadonlyMap<string, string>;
  /** Changes the text of the manifest. */
  editManifest?: (text: string) => string;
  /** Changes the lockfile, for these entries. */
  editLockfile?: (lockfile: Lockfile, entries: readonly Entry[]) => void;
}

/** What a deployment did, or would do if it may not write. */
interface Outcome {
  actions: PlannedAction[];
  problems: Problem[];
  /** What else to tell the user. */
  notes: string[];
}

/** Problems by line, each once, with suggestions. */
async function sortProblems(problems: readonly Problem[]): Promise<Problem[]> {
  const unique = [...new Map(problems.map((each) => [`${each.file} ${each.line} ${each.message}`, each])).values()];
  unique.sort((a, b) => (a.line ?? 0) - (b.line ?? 0));
  for (const problem of unique.slice(0, MAX_PROBLEMS)) {
    if (problem.near) problem.message += await suggestion(problem.near);
  }
  return unique;
}

/** Writes the target index. What it lacks cannot be cleaned up later, but that is no reason not to deploy. */
function writeIndex(index: TargetIndex, project: Project, notes: Set<string>): void {
  try {
    const path = indexPath(project);
    const text = renderIndex(index, project);
    makePrivateDirectory(indexDirectory());
    if (text !== attempt(() => Deno.readTextFileSync(path))) replaceFile(path, text);
  } catch (error) {
    notes.add(
      `use-skills: Warning: cannot record in ${attempt(indexDirectory)} where skills are deployed: ${reasonOf(error)}`,
    );
  }
}

/** Carries out a plan. Its target index is written before anything is created, and again afterwards. */
async function applyPlan(plan: Plan, project: Project): Promise<Outcome> {
  const outcome: Outcome = { actions: [], problems: [...plan.problems], notes: [] };
  const notes = new Set<string>();
  const { index, nextIndex } = plan;
  writeIndex({ targets: new Map([...index.targets, ...nextIndex.targets]) }, project, notes);
  for (const targetPlan of plan.targets.filter(({ isSettled }) => !isSettled)) {
    const { target, actions, state } = targetPlan;
    const shown = show(target.path, project);
    try {
      if (targetPlan.next.size > 0) Deno.mkdirSync(target.path, { recursive: true });
      else if (!exists(target.path)) continue;
      const failures = await applyTarget(targetPlan);
      for (const action of actions.filter(isChange)) {
        const { name, kind, desired } = action;
        const failure = failures.get(name);
        if (failure === undefined) outcome.actions.push(action);
        else {outcome.problems.push({
            line: desired?.line,
            name,
            message: `Cannot ${kind} ${quote(name)} in ${shown}: ${failure}`,
          });}
        if (kind === "release") notes.add(`use-skills: ${shown}/${name} stays, because ${action.reason}`);
      }
      if (targetPlan.isIgnoreForeign && targetPlan.next.size > 0 && state.text === undefined) {
        const lines = renderIgnore(targetPlan.next.keys()).trim().split("\n").slice(2).join("\n");
        notes.add(`use-skills: ${shown}/.gitignore is yours and stays as it is; you may want to add\n${lines}`);
      }
    } catch (error) {
      outcome.problems.push(targetProblem("write to", target, project, error));
      const known = index.targets.get(target.path);
      if (known) nextIndex.targets.set(target.path, known);
      else if (!exists(target.path)) nextIndex.targets.delete(target.path);
    }
  }
  for (const { target: { path }, next } of plan.targets) {
    if (next.size > 0) continue;
    const { parents } = index.targets.get(path) ?? nextIndex.targets.get(path) ?? { parents: 0 };
    if (index.targets.has(path) || nextIndex.targets.has(path)) removeTarget(path, parents);
    nextIndex.targets.delete(path);
  }
  writeIndex(nextIndex, project, notes);
  outcome.notes = [...notes];
  return outcome;
}

/**
 * Takes the locks under which a project is changed: this user's, because projects can share targets, and the
 * project's, because other users and homes can deploy it.
 */
async function lockProject(project: Project): Promise<Disposable> {
  const held = new DisposableStack();
  const user = attempt(() => makePrivateDirectory(indexDirectory()));
  try {
    for (const path of [user, project.directory]) {
      const handle = path && await lockDirectory(path);
      if (handle) held.use(handle);
    }
  } catch (error) {
    held.dispose();
    throw error;
  }
  return held;
}

/** Applies a deployment's edits to a project's files; returns the files as they are then. */
function editFiles(files: Files, { editManifest, editLockfile }: Deployment): Files {
  const manifest = editManifest?.(files.manifest) ?? files.manifest;
  const { entries, errors } = manifest === files.manifest ? { ...files, errors: [] } : parseManifest(manifest);
  if (errors.length > 0) throw new UsageError("", errors);
  const lockfile = new Map(files.lockfile);
  editLockfile?.(lockfile, entries);
  const lockfileText = editLockfile ? renderLockfile(lockfile) : files.lockfileText;
  return { manifest, entries, lockfile, lockfileText };
}

/** Writes edited files, the lockfile first: the manifest never names something that isn't locked yet. */
function writeFiles(before: Files, after: Files, project: Project): void {
  for (
    const [path, was, is] of [
      [lockfilePath(project), before.lockfileText, after.lockfileText],
      [project.manifest, before.manifest, after.manifest],
    ] as const
  ) {
    if (was === is) continue;
    try {
      replaceFile(path, is);
    } catch (error) {
      throw new Error(`Cannot write ${showHere(project, path)}: ${reasonOf(error)}`);
    }
  }
}

/**
 * Deploys a project, or finds out what would be done.
 *
 * The first plan is made without a lock. If it changes something, everything is read and planned again under the locks.
 *
 * @param files The project's files, as read by the caller.
 * @param reread Reads them again.
 */
async function deploy(project: Project, files: Files, reread: () => Files, deployment: Deployment): Promise<Outcome> {
  const { write, clean, failures = new Map() } = deployment;
  const plan = async (files: Files) => {
    const index = readIndex(project);
    const fetched = { lockfile: files.lockfile, failures };
    const state = findDesired(clean ? [] : files.entries, project, fetched, (path) => index.targets.has(path));
    return await planProject(project, state, index, deployment, write);
  };
  const isEdited = (before: Files, after: Files) =>
    before.manifest !== after.manifest || before.lockfileText !== after.lockfileText;

  const edited = editFiles(files, deployment);
  const first = await plan(edited);
  if (!write || isSettled(first, project) && !isEdited(files, edited)) {
    const actions = first.targets.flatMap(({ actions }) => actions);
    return { actions, problems: await sortProblems(first.problems), notes: [] };
  }
  using _locks = await lockProject(project);
  const current = reread();
  const next = editFiles(current, deployment);
  writeFiles(current, next, project);
  const outcome = await applyPlan(await plan(next), project);
  return { ...outcome, problems: await sortProblems(outcome.problems) };
}

// ── Git ─────────────────────────────────────────────────────────────────────────────────────────────────────────

/** The remote's name in the cache. A user has no settings for a remote of this name. */
const REMOTE = "use-skills-source";

/** Settings for every git command: nothing of a repo that could run a program, nothing in the background. */
const GIT_SETTINGS = {
  "core.hooksPath": "/dev/null",
  "core.askPass": "",
  "core.symlinks": "true",
  "credential.interactive": "false",
  "gc.auto": "0",
  "maintenance.auto": "false",
  "fetch.negotiationAlgorithm": "noop",
};

/** Attributes that keep git from changing the content of files. */
const GIT_ATTRIBUTES = "* -text -eol -filter -ident -working-tree-encoding\n";

/** Settings for a fetch that leaves out the content of files. It is fetched by hash later. */
const PARTIAL_SETTINGS = {
  [`remote.${REMOTE}.promisor`]: "true",
  [`remote.${REMOTE}.partialCloneFilter`]: "blob:none",
};
const PARTIAL = ["--filter=blob:none"];

const [MODE_DIRECTORY, MODE_FILE, MODE_EXECUTABLE, MODE_LINK, MODE_SUBMODULE] = [
  "040000",
  "100644",
  "100755",
  "120000",
  "160000",
];

/** What git prints if its cache is damaged. */
const DAMAGE =
  /not a git repository|shallow line|did not send all|object .*(not found|missing|corrupt)|packfile|index file|bad object|unable to read/i;

/** A failure of git, with git's own words. Nothing in a repo can imitate it. */
class GitError extends Error {}

/** What a git server has under a ref. */
interface Place {
  commit: string;
  path: string;
  kind: "branch" | "tag" | "commit";
}

/** A line of `git ls-tree`. */
interface TreeEntry {
  mode: string;
  hash: string;
  path: string;
}

/** Entries of a commit in git's order: a directory comes directly before what is in it. */
type Listing = TreeEntry[];

/** How to run git. */
interface GitOptions {
  input?: string;
  settings?: Record<string, string>;
  env?: Record<string, string>;
  /** How much git may print. */
  maxBytes?: number;
}

/** When fetching began in this run, and the signal that ends it. */
let fetching: { start: number; signal: AbortSignal } | undefined;

/** The seconds that all fetching of a run may take. */
function fetchTimeout(): number {
  const given = Number(environment("SKILLS_TIMEOUT") ?? 60);
  return given > 0 ? Math.min(given, 86_400) : 60;
}

function fetchDeadline(): { start: number; signal: AbortSignal } {
  return fetching ??= { start: performance.now(), signal: AbortSignal.timeout(fetchTimeout() * 1000) };
}

/** The seconds that are left for fetching. */
function timeLeft(): number {
  return Math.max(0.1, fetchTimeout() - (performance.now() - fetchDeadline().start) / 1000);
}

/** The running git processes. Each leads a process group, because git starts others. */
const running = new Set<number>();

/** Ends a process group: first so that git removes its temporary files, and one second later by force. */
function endGroup(pid: number): void {
  attempt(() => Deno.kill(-pid, "SIGTERM"));
  Deno.unrefTimer(setTimeout(() => running.has(pid) && attempt(() => Deno.kill(-pid, "SIGKILL")), 1000));
}

/** A repo on a server, and the bare cache of what was fetched from it. */
class Repo implements Disposable {
  #sshCommand = "ssh";
  #protocols = "https:ssh:file";
  #lock: Deno.FsFile | undefined;
  readonly #start = performance.now();
  readonly #notice: ReturnType<typeof setTimeout>;
  /** Show git's progress. */
  isProgressShown = false;

  private constructor(readonly url: string, readonly cache: string) {
    this.#notice = setTimeout(() => Deno.stderr.isTerminal() && warn(`use-skills: fetching ${this.url}`), 1000);
  }

  /** Opens the cache of a repo as soon as no other run uses it. */
  static async open(url: string): Promise<Repo> {
    const repo = new Repo(
      url,
      `${makePrivateDirectory(xdgDirectory("XDG_CACHE_HOME", ".cache"))}/git/${fileNameOf(url)}`,
    );
    try {
      Deno.mkdirSync(repo.cache, { recursive: true });
      repo.#lock = await lockDirectory(repo.cache, timeLeft());
      for (const name of ["shallow", "config", "HEAD", "packed-refs", "index"]) removeAll(`${repo.cache}/${name}.lock`);
      const packs = `${repo.cache}/objects/pack`; // in which a killed git leaves unfinished downloads
      for (const name of namesIn(packs).keys()) {
        if (name.startsWith("tmp_")) removeAll(`${packs}/${name}`);
      }
      await repo.#prepare();
    } catch (error) {
      repo[Symbol.dispose]();
      throw error;
    }
    return repo;
  }

  async #prepare(): Promise<void> {
    this.#sshCommand = (await this.#try("config", "core.sshCommand"))?.trim() || "ssh";
    await this.#git(["init", "--quiet", "--bare", this.cache]); // also completes an interrupted one
    Deno.mkdirSync(`${this.cache}/info`, { recursive: true });
    Deno.writeTextFileSync(`${this.cache}/info/attributes`, GIT_ATTRIBUTES);
    // The user's git can map the URL to another one. On this machine, nobody can listen.
    const mapped = await this.#try("ls-remote", "--get-url", REMOTE) ?? "";
    if (/^http:\/\/(127\.0\.0\.1|\[::1\]|localhost)[:/]/.test(mapped)) this.#protocols += ":http";
  }

  /** Empties the cache. */
  async forget(): Promise<void> {
    for (const name of namesIn(this.cache).keys()) removeAll(`${this.cache}/${name}`);
    await this.#prepare();
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#notice);
    this.#lock?.close();
  }

  /**
   * Runs git and returns its output.
   *
   * @throws {GitError} If git fails.
   * @throws {RangeError} If it prints too much.
   */
  async #git(
    args: readonly string[],
    { input = "", settings, env, maxBytes = Infinity }: GitOptions = {},
  ): Promise<string> {
    const all = {
      ...GIT_SETTINGS,
      ...settings,
      [`remote.${REMOTE}.url`]: this.url,
      "http.lowSpeedLimit": "100", // If this process is killed, git still ends.
      "http.lowSpeedTime": `${Math.ceil(fetchTimeout())}`,
    };
    const inherited = Object.entries(Deno.env.toObject()).filter(([name]) => !/^GIT_(?!SSL_)|^SSH_ASKPASS/.test(name));
    let child: Deno.ChildProcess;
    try {
      child = new Deno.Command("git", {
        args: [...Object.entries(all).flatMap(([key, value]) => ["-c", `${key}=${value}`]), ...args],
        env: {
          ...Object.fromEntries(inherited),
          GIT_DIR: this.cache,
          GIT_ALLOW_PROTOCOL: this.#protocols,
          GIT_NO_LAZY_FETCH: "1", // Missing objects are fetched all at once.
          GIT_TERMINAL_PROMPT: "0",
          GIT_ASKPASS: "false",
          GIT_SSH_COMMAND: `${this.#sshCommand} -oBatchMode=yes -oServerAliveInterval=15`,
          GCM_INTERACTIVE: "never",
          LC_ALL: "C",
          ...env,
        },
        ...{ clearEnv: true, cwd: this.cache, detached: true, stdin: "piped", stdout: "piped", stderr: "piped" },
      }).spawn();
    } catch (error) {
      throw error instanceof Deno.errors.NotFound ? new Error("git is not installed, or not on the PATH") : error;
    }
    const { signal } = fetchDeadline();
    const aborted = Promise.withResolvers<void>();
    const stop = () => {
      endGroup(child.pid);
      aborted.resolve();
    };
    running.add(child.pid);
    signal.addEventListener("abort", stop);
    if (signal.aborted) stop();

    const writer = child.stdin.getWriter();
    writer.write(concat(input)).then(() => writer.close()).catch(() => {}); // Git says why it did not read it.
    const stdout = readText(child.stdout, (_, length) => {
      if (length > maxBytes) endGroup(child.pid);
      return length <= maxBytes;
    });
    const stderr = readText(child.stderr, (piece) => {
      if (!args.includes("--progress") || performance.now() - this.#start < 1000) return true;
      // The server writes this, too, so nothing in it may control the terminal.
      Deno.stderr.writeSync(concat(piece.split("\r").map(escapeControls).join("\r")));
      return true;
    });
    const { success } = await child.status;
    // A process that git started can keep the pipes open. What git itself wrote is read in any case.
    const timer = setTimeout(() => attempt(() => Deno.kill(-child.pid, "SIGKILL")), 1000);
    await Promise.race([Promise.all([stdout, stderr]), aborted.promise]);
    clearTimeout(timer);
    signal.removeEventListener("abort", stop);
    running.delete(child.pid);
    if (signal.aborted) {
      throw new Error(`Cannot fetch ${this.url}: no answer within ${fetchTimeout()} seconds (SKILLS_TIMEOUT)`);
    }
    const output = await stdout;
    if (output === undefined) throw new RangeError(`the list of its files has more than ${maxBytes / 2 ** 20} MiB`);
    if (!success) throw new GitError(this.#explain(await stderr ?? ""));
    return output;
  }

  /** Runs git and returns its output; `undefined` if git fails. */
  async #try(...args: string[]): Promise<string | undefined> {
    return await this.#git(args).catch((error) => {
      if (error instanceof GitError) return undefined;
      throw error;
    });
  }

  /** Why git failed, by what it printed. */
  #explain(stderr: string): string {
    const text = stderr.replace(/\/\/[^/\s@]*@/g, "//");
    const lines = text.split(/[\r\n]+/).filter((line) => line.trim() !== "");
    const last = lines.findLast((each) => /^(fatal|error|remote|ERROR): ?\S/.test(each)) ?? lines[0] ?? "git failed";
    const reasons: [pattern: RegExp, reason: string][] = [
      [
        /could not read Username|Authentication failed|Permission denied|terminal prompts|returned error: 40[13]/i,
        `there is no such repo, or git has no credentials for it (try: git ls-remote ${this.url})`,
      ],
      [
        /unsupported object format|mismatched algorithms|remote ref [0-9a-f]{64}$/m,
        "it uses SHA-256, which is not supported",
      ],
      [
        /repository '.*' not found|does not appear to be a git repository|returned error: 404/i,
        "there is no such repo, or it is private",
      ],
    ];
    const reason = reasons.find(([pattern]) => pattern.test(text))?.[1] ?? last.replace(/^(fatal|error): /, "");
    return `Cannot fetch ${this.url}: ${reason}`;
  }

  /** What the server has for references: hashes by full ref name. */
  async listRefs(references: readonly GitEntry["reference"][]): Promise<Map<string, string>> {
    const patterns = references.flatMap(possibleRefs).flatMap((name) =>
      name === "HEAD" ? [name] : [`refs/heads/${name}`, `refs/tags/${name}`, `refs/tags/${name}^{}`]
    );
    if (patterns.length === 0) return new Map();
    const text = await this.#git(["ls-remote", "--quiet", "--end-of-options", REMOTE, ...new Set(patterns)]);
    return new Map(text.split("\n").map((line) => line.split("\t").reverse() as [string, string]));
  }

  /** The sizes of objects that are in the cache. */
  async #sizes(names: readonly string[]): Promise<Map<string, number>> {
    const lines = (await this.#git(["cat-file", "--batch-check"], { input: names.join("\n") })).trimEnd().split("\n");
    if (names.length > 0 && lines.length !== names.length) {
      throw new GitError(`${this.url}: git's answer is incomplete`);
    }
    const sizes = names.map((name, index) => [name, / \w+ (\d+)$/.exec(lines[index]!)?.[1]] as const);
    return new Map(sizes.flatMap(([name, size]) => size === undefined ? [] : [[name, Number(size)]]));
  }

  async #fetch(args: readonly string[], options: GitOptions): Promise<void> {
    const verbosity = this.isProgressShown ? "--progress" : "--quiet";
    await this.#git(["fetch", verbosity, "--no-tags", "--no-write-fetch-head", ...args], options);
  }

  /**
   * Fetches commits, without the content of files if the server can leave it out.
   *
   * @returns Why a commit could not be fetched, by commit.
   */
  async fetchCommits(commits: readonly string[]): Promise<Map<string, Error>> {
    const findMissing = async () => {
      const sizes = await this.#sizes(commits.map((commit) => `${commit}^{tree}`));
      return commits.filter((commit) => !sizes.has(`${commit}^{tree}`));
    };
    let missing = await findMissing();
    let problem: Error | undefined;
    for (const way of ["only the commits", "all refs"]) {
      if (missing.length === 0) break;
      const all = ["--prune", REMOTE, "+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"];
      const isPartial = way === "only the commits";
      try {
        if (isPartial) await this.#fetch([...PARTIAL, "--depth=1", REMOTE, ...missing], { settings: PARTIAL_SETTINGS });
        else await this.#fetch(all, {});
        problem = undefined;
      } catch (error) {
        // Only what a server can't do is tried in another way.
        const isUnsupported = /unadvertised|not our ref|shallow|filter|dumb|remote error|want/i.test(reasonOf(error));
        if (!(error instanceof GitError) || !isUnsupported) throw error;
        problem = error;
      }
      missing = await findMissing();
    }
    const isGone = !problem || /not our ref|unadvertised|remote error/i.test(problem.message);
    const reason = (commit: string) =>
      `${this.url} no longer has the commit ${commit}: "update" fetches the newest one`;
    return new Map(missing.map((commit) => [commit, isGone ? new Error(reason(commit)) : problem!]));
  }

  /**
   * Lists the entries of a commit at and below some paths, or all of them.
   *
   * @throws {RangeError} If the list is too long.
   */
  async list(commit: string, paths: readonly string[], maxBytes: number): Promise<Listing> {
    const root = (await this.#git(["rev-parse", "--verify", "--end-of-options", `${commit}^{tree}`])).trim();
    const only = paths.includes("") ? [] : paths;
    const args = ["ls-tree", "-r", "-t", "-z", "--full-tree", "--end-of-options", commit, ...only];
    const lines = (await this.#git(args, { maxBytes })).split("\0");
    if (lines.pop() !== "") throw new GitError(`${this.url}: git's answer is incomplete`);
    if (lines.some((line) => line.length > 4200)) throw new RangeError("it has a path of more than 4,000 characters");
    const entries = lines.map((line) => ({ mode: line.slice(0, 6), hash: line.slice(12, 52), path: line.slice(53) }));
    return [{ mode: MODE_DIRECTORY, hash: root, path: "" }, ...entries];
  }

  /**
   * Fetches the content of files that are not in the cache yet.
   *
   * @returns The size of each in bytes.
   */
  async fetchBlobs(hashes: readonly string[]): Promise<Map<string, number>> {
    const wanted = [...new Set(hashes)];
    const sizes = await this.#sizes(wanted);
    const missing = wanted.filter((hash) => !sizes.has(hash));
    if (missing.length === 0) return sizes;
    await this.#fetch([...PARTIAL, "--stdin", REMOTE], { input: missing.join("\n"), settings: PARTIAL_SETTINGS });
    return await this.#sizes(wanted);
  }

  /** Writes files into a directory, by their paths, as they are in git. */
  async checkOut(blobs: readonly TreeEntry[], directory: string): Promise<void> {
    const env = { GIT_INDEX_FILE: `${directory}.index`, GIT_WORK_TREE: directory };
    const input = blobs.map(({ mode, hash, path }) => `${mode} ${hash}\t${path}\0`).join("");
    await this.#git(["update-index", "-z", "--index-info"], { input, env });
    await this.#git(["checkout-index", "--all", "--quiet"], { env });
    removeAll(env.GIT_INDEX_FILE);
  }

  /** The differences between two trees, for a reader. */
  async diff(from: string, to: string): Promise<string> {
    return (await this.#git(["diff", "--stat", "--no-color", "--no-ext-diff", "--no-textconv", from, to])).trimEnd();
  }
}

/** Reads a stream as text; `undefined` if `goOn` stops it, which gets each piece and the length so far. */
async function readText(
  stream: ReadableStream<Uint8Array>,
  goOn: (piece: string, length: number) => boolean,
): Promise<string | undefined> {
  const decoder = new TextDecoder();
  const pieces: string[] = [];
  let length = 0;
  for await (const chunk of stream) {
    length += chunk.length;
    pieces.push(decoder.decode(chunk, { stream: true }));
    if (!goOn(pieces.at(-1)!, length)) return undefined;
  }
  return pieces.join("");
}

/** The refs that a reference can mean: in a browse URL, the ref can end at any slash. A commit needs no lookup. */
function possibleRefs({ ref, tail }: GitEntry["reference"]): string[] {
  const segments = tail?.split("/");
  const names = segments ? segments.map((_, index) => segments.slice(0, index + 1).join("/")) : [ref ?? "HEAD"];
  return names.some((name) => COMMIT.test(name)) ? [] : names;
}

/**
 * Finds the commit that a reference means now. Of several refs that a browse URL can mean, the longest counts.
 *
 * @param refs What the server has.
 */
function findPlace(reference: GitEntry["reference"], refs: ReadonlyMap<string, string>): Place {
  const { url, ref, path, tail } = reference;
  const rest = (name: string) => tail === undefined ? path : tail.slice(name.length + 1);
  const commit = [ref ?? "", ...tail?.split("/") ?? []].find((each) => COMMIT.test(each));
  if (commit !== undefined) return { commit, path: rest(commit), kind: "commit" };
  const names = possibleRefs(reference);
  for (const name of names.toReversed()) {
    const branch = refs.get(name === "HEAD" ? name : `refs/heads/${name}`);
    const tag = refs.get(`refs/tags/${name}^{}`) ?? refs.get(`refs/tags/${name}`);
    if (branch !== undefined && tag !== undefined && branch !== tag) {
      throw new Error(`${url} has a branch and a tag named ${quote(name)}: write the commit instead`);
    }
    const found = branch ?? tag;
    if (found !== undefined) return { commit: found, path: rest(name), kind: tag === undefined ? "branch" : "tag" };
  }
  const [first = ""] = names;
  if (first === "HEAD") throw new Error(`${url} has no default branch: write one after "#"`);
  const hint = /^[0-9a-f]{7,39}$/.test(first) ? "; a commit needs all 40 digits" : "";
  throw new Error(`${url} has no branch or tag ${quote(first)}${hint}`);
}

/** The directory at a path of a listing, with its files by their paths below it; `undefined` if there is none. */
function findTree(listing: Listing, path: string): { tree: string; blobs: TreeEntry[] } | undefined {
  const start = listing.findIndex((entry) => entry.path === path);
  const top = listing[start];
  if (top?.mode !== MODE_DIRECTORY) return undefined;
  const blobs: TreeEntry[] = [];
  for (const entry of listing.slice(start + 1)) {
    const inside = path === "" ? entry.path : below(path, entry.path);
    if (inside === undefined) break;
    if (entry.mode !== MODE_DIRECTORY) blobs.push({ ...entry, path: inside });
  }
  return { tree: top.hash, blobs };
}

/** The directories of skills among files, except those inside other skills. */
function skillDirectories(blobs: readonly TreeEntry[]): string[] {
  const found = blobs.filter(({ mode, path }) => mode !== MODE_LINK && /(^|\/)SKILL\.md$/.test(path))
    .map(({ path }) => path.slice(0, -9)).sort();
  const directories = new Set(found);
  const isNested = (path: string): boolean => {
    const parent = path.slice(0, Math.max(0, path.lastIndexOf("/")));
    return path !== "" && (directories.has(parent) || isNested(parent));
  }; // at most 4,000 levels
  return found.filter((path) => !isNested(path));
}

// ── Hidden characters: what a reader doesn't see in a text, but an agent reads ──────────────────────────────────

/** A character, or a run of them, that people don't see and agents may read. */
export interface HiddenCharacter {
  /** From 1. */
  line: number;
  /** From 1, in characters as editors count them, not in bytes or UTF-16 units. */
  column: number;
  character: string;
  kind: string;
}

/**
 * The kinds of hidden characters. The first that matches counts. `\p{DI}` are the characters for which Unicode says to
 * show nothing.
 */
const HIDDEN_KINDS = [
  ["tag character", String.raw`[\u{E0000}-\u{E007F}]`],
  ["bidirectional control", String.raw`\p{Bidi_C}`],
  ["zero-width character", String.raw`[\u200B-\u200D\u2060-\u2064\uFEFF]`],
  ["variation selector", String.raw`\p{VS}`],
  ["private-use character", String.raw`\p{Co}`],
  ["carriage return", String.raw`\r`],
  ["control character", String.raw`\p{Cc}`],
  ["run of unusual spaces", String.raw`[\u2000-\u200A\u2800]+`],
  ["invisible character", String.raw`[^]`],
] as const;

/**
 * Creates a pattern for every hidden character except those that emoji and scripts need, with a group for each kind.
 *
 * The exceptions carry almost no information: they are next to something visible that needs them, and not in a run.
 * Scripts are written as their blocks, because a pattern with the names of 25 scripts takes 30 ms to compile.
 *
 * @param suspect Matches everything that may be hidden, to skip the rest quickly.
 */
function createHiddenPattern(suspect: string): RegExp {
  const raw = String.raw;
  const nextTo = (character: string, visible: string) =>
    raw`${character}(?:(?<=(?!\p{DI})${visible}${character})|(?=(?!\p{DI})${visible}))`;
  const rightToLeft = raw`(?!\p{DI})[\u0590-\u08FF\uFB1D-\uFDFF\uFE70-\uFEFC\u{10800}-\u{10FFF}\u{1E800}-\u{1EFFF}]`;
  const flags = ["gbeng\x7F", "gbsct\x7F", "gbwls\x7F"]
    .map((tags) => tags.replace(/./g, (tag) => raw`\u{E00${tag.charCodeAt(0).toString(16)}}`)).join("|");
  const exceptions = [
    // The flags of England, Scotland and Wales. Any other tags after a black flag could spell anything.
    raw`(?<=(?=\u{1F3F4}(?:${flags})).[\u{E0061}-\u{E007A}]{0,5})[\u{E0061}-\u{E007F}]`,
    // Marks that place punctuation correctly, near Hebrew or Arabic.
    raw`(?<!\p{Bidi_C})[\u061C\u200E\u200F](?!\p{Bidi_C})(?:(?<=${rightToLeft}.{0,20})|(?=.{0,20}${rightToLeft}))`,
    // Joined emoji.
    raw`(?<=\p{ExtPict}\uFE0F?\p{EMod}?)\u200D(?=\p{ExtPict})`,
    // Arabic to Sinhala, Tibetan, Burmese, Khmer, Mongolian, Balinese and others, whose letters join or stack.
    nextTo(
      raw`[\u200C\u200D]`,
      raw`[\u0600-\u0DFF\u0F00-\u109F\u1780-\u18AF\u1B00-\u1BBF\uA840-\uA87F\uA980-\uA9DF\uAA60-\uAA7F\uFB50-\uFDFF` +
        raw`\uFE70-\uFEFC\u{10D00}-\u{10D3F}\u{11000}-\u{116FF}\u{1E900}-\u{1E95F}]`,
    ),
    // Thai, Lao, Tibetan, Burmese and Khmer, which don't separate words by spaces.
    nextTo(raw`\u200B`, raw`[\u0E00-\u109F\u1780-\u17FF]`),
    // Variants of emoji, of mathematical signs and some letters, of ideographs, of Mongolian letters.
    raw`(?<=[\p{Emoji}\p{ExtPict}])[\uFE0E\uFE0F]`,
    raw`(?<=[\u1000-\u109F\u2200-\u2AFF\uA840-\uA87F\p{sc=Hani}])[\uFE00-\uFE02]`,
    raw`(?<=\p{sc=Hani})[\u{E0100}-\u{E011F}]`,
    raw`(?<=[\u1820-\u18AA])[\u180B-\u180F]`,
    // Incomplete syllables of old Korean.
    nextTo(raw`[\u115F\u1160]`, raw`[\u1100-\u11FF\uA960-\uA97F\uD7B0-\uD7FF]`),
  ];
  const kinds = HIDDEN_KINDS.map(([, pattern]) => `(${pattern})`);
  return new RegExp(`(?=${suspect})(?!${exceptions.join("|")})(?:${kinds.join("|")})`, "gu");
}

const hiddenPattern = memoize(createHiddenPattern);

/** Whether much of a text was not valid UTF-8, as in compressed data. Four hidden characters in a row are no chance. */
function isNoise(text: string): boolean {
  const invalid = text.match(/\uFFFD/g)?.length ?? 0;
  return invalid > 8 + text.replaceAll("\0", "").length / 8 && !/\p{DI}{4}/u.test(text);
}

/** The encoding of a text. UTF-16 of mostly ASCII has a NUL in every second byte, also without a byte order mark. */
function encodingOf(bytes: Uint8Array): "utf-8" | "utf-16le" | "utf-16be" {
  if (bytes[0] === 0xFF && bytes[1] === 0xFE) return "utf-16le";
  if (bytes[0] === 0xFE && bytes[1] === 0xFF) return "utf-16be";
  const sample = bytes.subarray(0, Math.min(bytes.length & ~1, 4096));
  const zeros = [0, 0];
  for (const [index, byte] of sample.entries()) if (byte === 0) zeros[index % 2]!++;
  const [even, odd] = zeros.map((count) => count / (sample.length / 2)) as [number, number];
  if (odd > 0.4 && even < 0.1) return "utf-16le";
  return even > 0.4 && odd < 0.1 ? "utf-16be" : "utf-8";
}

/**
 * Finds the characters in a file that people don't see and that can tell an agent what nobody has read.
 *
 * Accepted are those that emoji and scripts need, and a byte order mark. A file that isn't text has none. Neither a NUL
 * nor a few invalid bytes make a file binary, only a start that everyone who opens it would see is not text.
 *
 * @param bytes The content of the file: UTF-8 or UTF-16.
 * @param isText Whether it is text whatever it looks like, because an agent reads it as text.
 * @returns The first 100 of them, in order.
 */
export function hiddenCharacters(bytes: Uint8Array, isText = false): HiddenCharacter[] {
  const encoding = encodingOf(bytes);
  const decoder = new TextDecoder(encoding);
  const mayBeBinary = !isText && encoding === "utf-8" && bytes.includes(0); // compressed data has a NUL somewhere
  if (mayBeBinary && isNoise(decoder.decode(bytes.subarray(0, 8000)))) return [];
  const text = decoder.decode(bytes);
  if (!/[^\t\n\f -~]/.test(text)) return [];
  // With a NUL it can be an archive or a database that is valid UTF-8, whose control characters are numbers.
  const controls = text.includes("\0") ? "" : String.raw`\x01-\x08\x0B\x0E-\x1F\x7F-\x9F`;
  const characters = String.raw`[\p{DI}\p{Co}\p{Zl}\p{Zp}\uFFF9-\uFFFB\u{13430}-\u{13440}${controls}]`;
  const spaces = String.raw`[\u2000-\u200A\u2800]{3}`;
  const pattern = hiddenPattern(String.raw`${characters}|\r(?=[^\n])|${spaces}`);
  const found: HiddenCharacter[] = [];
  let [line, column, position] = [1, 1, 0];
  for (const match of text.matchAll(pattern)) {
    if (mayBeBinary && isNoise(text.slice(Math.max(match.index - 64, 0), match.index + 64))) continue; // as in a PDF
    for (const character of text.slice(position, match.index)) {
      column++;
      if (character === "\n") [line, column] = [line + 1, 1];
    }
    position = match.index;
    const [kind] = HIDDEN_KINDS[match.indexOf(match[0], 1) - 1]!;
    found.push({ line, column, character: String.fromCodePoint(match[0].codePointAt(0)!), kind });
    if (found.length === 100) break;
  }
  return found;
}

// ── Fetch: git references into the store, and what to write into the lockfile ───────────────────────────────────

/** What a run may do to get what it needs. */
interface Access {
  /** The lockfile must not change. */
  isFrozen?: boolean;
  /** The network must not be used. */
  isOffline?: boolean;
  /** Accept skills over {@linkcode MAX_SKILL}. */
  isLargeAllowed?: boolean;
}

/** A reference that is to be fetched. */
interface FetchRequest {
  entry: GitEntry;
  /** What it is locked to; `undefined` to fetch the newest. */
  locked?: Locked;
}

/** What fetching came to, by reference: what to lock, or why it failed. */
interface FetchResult {
  locked: Map<string, Locked>;
  failures: Map<string, string>;
}

/** Is called for each reference that was fetched and stored; returns what to lock, if anything. */
type OnFetched = (repo: Repo, entry: GitEntry, after: Locked, place: Place) => Promise<Locked | undefined>;

/** Why the files of a skill are refused; `undefined` if they are not. */
function contentProblem(blobs: readonly TreeEntry[], isLargeAllowed: boolean): string | undefined {
  if (!isLargeAllowed && blobs.length > MAX_SKILL.files) {
    return `it has ${blobs.length} files, more than ${MAX_SKILL.files} (--allow-large)`;
  }
  const seen = new Map<string, string>(); // every path and the directories above it, by what a file system may make of it
  for (const { mode, path } of blobs) {
    if (mode === MODE_SUBMODULE) return `${quote(path)} is a submodule`;
    if (![MODE_FILE, MODE_EXECUTABLE, MODE_LINK].includes(mode)) return `${quote(path)} has the unusual mode ${mode}`;
    if (path.includes("\ufffd")) return `the name ${quote(path)} is not UTF-8`;
    for (let part = path; part !== ""; part = part.slice(0, Math.max(0, part.lastIndexOf("/")))) {
      const other = seen.get(foldName(part));
      if (other === part) break; // as are those above it
      if (other !== undefined) return `${quote(part)} and ${quote(other)} are the same name on some systems`;
      seen.set(foldName(part), part);
      const name = lastSegment(part);
      if (["", ".", ".."].includes(name)) return `it contains the path ${quote(path)}`;
      if (/^\.git([ .]|$)|^git~\d+$/i.test(name.normalize("NFKC").replace(/\p{Cf}/gu, ""))) {
        return `it contains ${quote(path)}`;
      }
    }
  }
}

/** A name as file systems compare it that ignore case and ways to compose characters. */
function foldName(name: string): string {
  return /^[!-~]*$/.test(name)
    ? name.toLowerCase()
    : name.normalize("NFKC").toUpperCase().normalize("NFC").toLowerCase();
}

/** Whether a line has `trust`, but the lockfile doesn't yet say for which content. */
function isNewlyTrusted({ trust }: GitEntry, { trusted }: Locked): boolean {
  return trust && trusted === undefined;
}

/** Whether all skills of a reference are in the store. If only times changed, as after restoring a backup, fixes those. */
async function isStored(locked: Locked): Promise<boolean> {
  for (const skill of storedSkills(locked)) {
    const { isIntact, isChecked } = examineStored(skill);
    if (isIntact) continue;
    if (!isChecked || await contentHash(skill.directory) !== skill.tree) return false;
    attempt(() => sealStored(skill.directory));
  }
  return true;
}

/** Makes what is in a stored skill read-only, and gives it the store's modification time. */
function sealStored(directory: string): void {
  for (const { path, info } of [...walk(directory)].reverse()) {
    if (info.isSymlink) continue;
    Deno.chmodSync(`${directory}/${path}`, info.isDirectory || isExecutable(info) ? 0o555 : 0o444);
    Deno.utimeSync(`${directory}/${path}`, STORE_TIME, STORE_TIME);
  }
  Deno.utimeSync(directory, STORE_TIME, STORE_TIME);
}

/** The hidden characters in the names and texts of a directory, for a reader. */
function findHidden(directory: string): string[] {
  const found: string[] = [];
  const add = (place: string, bytes: Uint8Array, isText: boolean) => {
    for (const { line, column, character, kind } of hiddenCharacters(bytes, isText).slice(0, MAX_PROBLEMS)) {
      found.push(`${place}:${line}:${column} U+${codePoint(character)} ${kind}`);
    }
  };
  for (const { path, info } of walk(directory)) {
    add(`the name ${quote(path)}`, concat(lastSegment(path)), true);
    if (info.isSymlink) add(path, concat(Deno.readLinkSync(`${directory}/${path}`)), true);
    else if (info.isFile) add(path, Deno.readFileSync(`${directory}/${path}`), path.endsWith(".md"));
  }
  return found;
}

/**
 * Moves a skill that was checked out into the store, and makes it read-only.
 *
 * @throws {Error} If it is refused.
 */
async function storeSkill({ directory, tree }: StoredSkill, checkedOut: string): Promise<void> {
  if (await treeHash(checkedOut, listContent(checkedOut)) !== tree) {
    throw new Error("its content does not match its hash");
  }
  const hidden = findHidden(checkedOut);
  const marker = resolve(directory, "..", hidden.length > 0 ? HIDDEN_MARKER : CLEAN_MARKER);
  sealStored(checkedOut);
  Deno.mkdirSync(resolve(directory, ".."), { recursive: true });
  removeAll(directory);
  replaceFile(marker, JSON.stringify(hidden));
  Deno.renameSync(checkedOut, directory);
  Deno.chmodSync(directory, 0o555); // Last: a read-only directory can't be moved.
}

/** What a reference stands for in a commit. */
async function lookUp(
  repo: Repo,
  { reference, text }: GitEntry,
  { commit, path }: Place,
  listing: Listing,
): Promise<Locked> {
  const { url, all } = reference;
  const found = findTree(listing, path);
  const inside = found ? skillDirectories(found.blobs) : [];
  if (found && !all && inside[0] === "") return { commit, path, tree: found.tree, url };
  const chosen = all ? inside.filter((skill) => skill !== "" && (path === "" || !skill.includes("/"))) : [];
  if (found && chosen.length > 0) {
    const trees = chosen.map((skill) => [skill, findTree(listing, path ? `${path}/${skill}` : skill)!.tree]);
    return { commit, path, skills: Object.fromEntries(trees), tree: found.tree, url };
  }
  const lacks = found
    ? `${path ? quote(path) : url} has no ${all ? "skills" : "SKILL.md"}`
    : `${url} has no directory ${quote(path)}`;
  const whole = findTree(await repo.list(commit, [""], MAX_LISTING_BYTES), "");
  const skills = skillDirectories(whole?.blobs ?? []).map((skill) => skill || "its root");
  const near = skills.length > 20 ? (await bySimilarity(path, skills))?.map(([skill]) => skill) ?? skills : skills;
  const others = skills.length > 0 ? `; skills in this repo: ${near.slice(0, 20).join(", ")}` : "";
  const more = skills.length > 20 ? ` and ${skills.length - 20} more` : "";
  throw new Error(`${quote(text)}: ${lacks} at ${commit.slice(0, 7)}${others}${more}`);
}

/** Puts the skills of references into the store. `fail` gets why one can't be. */
async function storeAll(
  repo: Repo,
  wanted: readonly { entry: GitEntry; locked: Locked; listing: Listing }[],
  fail: (text: string, reason: unknown) => void,
): Promise<void> {
  let skills = wanted.flatMap(({ entry: { text }, locked, listing }) =>
    storedSkills(locked).filter((skill) => !examineStored(skill).isIntact).map((skill) => {
      return { text, skill, isLarge: locked.large === true, blobs: findTree(listing, skill.path)?.blobs ?? [] };
    })
  );
  type Skill = typeof skills[number];
  const refuse = ({ text, skill }: Skill, reason: string) =>
    fail(text, `Refused ${quote(skill.path || text)}: ${reason}`);
  const keep = (problemOf: (each: Skill) => string | undefined) => {
    skills = skills.filter((each) => {
      const problem = problemOf(each);
      if (problem !== undefined) refuse(each, problem);
      return problem === undefined;
    });
  };
  keep(({ blobs, isLarge }) => contentProblem(blobs, isLarge));
  if (skills.length === 0) return;
  const sizes = await repo.fetchBlobs(skills.flatMap(({ blobs }) => blobs.map(({ hash }) => hash)));
  const checked = skills.length;
  keep(({ blobs, isLarge }) => {
    const size = blobs.reduce((sum, { hash }) => sum + (sizes.get(hash) ?? 0), 0);
    if (isLarge || size <= MAX_SKILL.bytes) return undefined;
    return `it has ${Math.ceil(size / 2 ** 20)} MiB, more than ${MAX_SKILL.bytes / 2 ** 20} (--allow-large)`;
  });
  sweepStore();
  const temporary = Deno.makeTempDirSync({ dir: storeDirectory(), prefix: ".new-" });
  try {
    const place = (index: number) => `${temporary}/files/${index}`;
    Deno.mkdirSync(`${temporary}/files`);
    const blobs = skills.flatMap(({ blobs }, index) =>
      blobs.map((blob) => ({ ...blob, path: `${index}/${blob.path}` }))
    );
    await repo.checkOut(blobs, `${temporary}/files`);
    for (const [index, each] of skills.entries()) {
      await storeSkill(each.skill, place(index)).catch((error) => refuse(each, reasonOf(error)));
    }
  } finally {
    removeAll(temporary);
  }
  if (skills.length < checked) await repo.forget(); // Don't keep a download that was refused.
}

/** Removes what killed runs left in the store. What is young can belong to a running one. */
function sweepStore(): void {
  const limit = Date.now() - 3600_000;
  for (const name of namesIn(makePrivateDirectory(storeDirectory())).keys()) {
    const path = `${storeDirectory()}/${name}`;
    const modified = attempt(() => Deno.lstatSync(path).mtime?.getTime()) ?? limit;
    if (name.startsWith(".new-") && modified < limit) removeAll(path);
  }
}

/** Fetches references of one repo into the store. */
async function fetchFromRepo(
  repo: Repo,
  requests: readonly FetchRequest[],
  isLargeAllowed: boolean,
  { locked: results, failures }: FetchResult,
  onFetched: OnFetched,
): Promise<void> {
  const fail = (text: string, reason: unknown) => failures.set(text, reasonOf(reason));
  const refs = await repo.listRefs(requests.filter(({ locked }) => !locked).map(({ entry }) => entry.reference));
  const placed = requests.flatMap((request) => {
    failures.delete(request.entry.text); // of an earlier try
    try {
      const place: Place = request.locked
        ? { ...request.locked, kind: "commit" }
        : findPlace(request.entry.reference, refs);
      return [{ ...request, place }];
    } catch (error) {
      fail(request.entry.text, error);
      return [];
    }
  });
  const problems = await repo.fetchCommits([...new Set(placed.map(({ place }) => place.commit))]);
  const wanted: { entry: GitEntry; place: Place; locked: Locked; listing: Listing }[] = [];
  for (const [commit, group] of Map.groupBy(placed, ({ place }) => place.commit)) {
    try {
      const problem = problems.get(commit);
      if (problem) throw problem;
      const isLarge = isLargeAllowed || group.some(({ locked }) => locked?.large);
      const paths = [...new Set(group.map(({ place }) => place.path))];
      const listing = await repo.list(commit, paths, isLarge ? 64 * MAX_LISTING_BYTES : MAX_LISTING_BYTES);
      for (const { entry, place, locked } of group) {
        try {
          const after = { ...locked ?? await lookUp(repo, entry, place, listing) };
          if ([after, ...storedSkills(after)].some(({ path, tree }) => findTree(listing, path)?.tree !== tree)) {
            throw new Error(
              `${quote(entry.text)} has other content than .skills.lock says, in ${repo.url} at ${commit}`,
            );
          }
          if (isLargeAllowed) after.large = true;
          wanted.push({ entry, place, locked: after, listing });
        } catch (error) {
          fail(entry.text, error);
        }
      }
    } catch (error) {
      if (error instanceof GitError) throw error;
      const isLong = error instanceof RangeError;
      for (const { entry: { text } } of group) fail(text, isLong ? `Refused ${quote(text)}: ${error.message}` : error);
    }
  }
  await storeAll(repo, wanted, fail);
  for (const { place, entry, locked } of wanted) {
    if (failures.has(entry.text)) continue;
    try {
      const result = await onFetched(repo, entry, locked, place);
      if (result) results.set(entry.text, result);
    } catch (error) {
      fail(entry.text, error);
    }
  }
}

let storeLock: Deno.FsFile | undefined;

/** Fetches references, several repos at a time. */
async function fetchAll(
  requests: readonly FetchRequest[],
  isLargeAllowed = false,
  onFetched: OnFetched = (_repo, entry, after) =>
    Promise.resolve(isNewlyTrusted(entry, after) ? { ...after, trusted: after.tree } : after),
): Promise<FetchResult> {
  const result: FetchResult = { locked: new Map(), failures: new Map() };
  if (requests.length === 0) return result;
  const groups = [...Map.groupBy(requests, ({ entry }) => entry.reference.url)];
  const isAlone = groups.length === 1; // The progress of several would be mixed up.
  const work = async () => {
    for (let group; (group = groups.shift());) {
      const [url, same] = group;
      try {
        using repo = await Repo.open(url);
        repo.isProgressShown = Deno.stderr.isTerminal() && isAlone;
        const fetch = () => fetchFromRepo(repo, same, isLargeAllowed, result, onFetched);
        await fetch().catch(async (error) => {
          if (!(error instanceof GitError && DAMAGE.test(error.message))) throw error;
          await repo.forget();
          await fetch();
        });
      } catch (error) {
        for (const { entry } of same) result.failures.set(entry.text, reasonOf(error));
      }
    }
  };
  const stops = ([["SIGHUP", 129], ["SIGINT", 130], ["SIGTERM", 143]] as const).map(([signal, status]) => {
    const stop = () => {
      running.forEach(endGroup);
      Deno.exit(status);
    };
    Deno.addSignalListener(signal, stop);
    return () => Deno.removeSignalListener(signal, stop);
  });
  try {
    // Held until the program ends: what is fetched and not deployed yet must not be cleaned.
    storeLock ??= await lockDirectory(makePrivateDirectory(storeDirectory()), timeLeft(), false);
    await Promise.all([work(), work(), work(), work()]);
  } catch (error) {
    for (const { entry } of requests) result.failures.set(entry.text, `Cannot use the store: ${reasonOf(error)}`);
  } finally {
    stops.forEach((remove) => remove());
  }
  return result;
}

/** Fetches what a manifest names and the lockfile or the store lacks, as far as it may. */
async function fetchMissing(project: Project, files: Files, access: Access): Promise<FetchResult> {
  const [known, refused]: [Map<string, Locked>, Map<string, string>] = [new Map(), new Map()];
  const requests: FetchRequest[] = [];
  for (const entry of files.entries.filter(isGitEntry)) {
    const { text, reference } = entry;
    const locked = files.lockfile.get(text);
    if (gitEntryProblem(entry, project) || locked && !isLockedFor(reference, locked)) continue; // reported by findDesired
    try {
      if (locked && await isStored(locked)) {
        if (isNewlyTrusted(entry, locked)) known.set(text, { ...locked, trusted: locked.tree });
        continue;
      }
      if (!locked && access.isFrozen) {
        const wayOut = isRestricted()
          ? `run "${thisCommand()}" once`
          : "--frozen (or CI=true) doesn't change .skills.lock, so run sync without it and commit that file";
        throw new Error(`${quote(text)} is new in .skills and not fetched yet: ${wayOut}`);
      }
      if (access.isOffline) throw new Error(`${quote(text)} is not on this machine, and --offline fetches nothing`);
      requests.push({ entry, locked });
    } catch (error) {
      refused.set(text, reasonOf(error));
    }
  }
  const { locked, failures } = await fetchAll(requests, access.isLargeAllowed);
  return { locked: new Map([...known, ...locked]), failures: new Map([...refused, ...failures]) };
}

/** Brings the lockfile up to date with the manifest: adds what was fetched, removes what no entry names. */
function updateLockfile(lockfile: Lockfile, entries: readonly Entry[], fetched: ReadonlyMap<string, Locked>): void {
  const named = new Set(entries.map(({ text }) => text));
  for (const text of lockfile.keys()) if (!named.has(text)) lockfile.delete(text);
  for (const [text, locked] of fetched) if (named.has(text)) lockfile.set(text, locked);
}

/** What an update changes, for a reader. */
async function describeUpdate(
  repo: Repo,
  text: string,
  before: Locked,
  after: Locked,
  hidden: readonly string[],
): Promise<string> {
  const title = `${text}: ${before.commit.slice(0, 12)} -> ${after.commit.slice(0, 12)}`;
  if (before.tree === after.tree) return `${title}, and the skill is the same`;
  const lines = hidden.slice(0, MAX_PROBLEMS).map((each) => ` hidden character: ${each}`);
  const problems = await repo.fetchCommits([before.commit]);
  if (problems.size > 0) {
    return [title, " (the old commit is gone, so the changes can't be shown)", ...lines].join("\n");
  }
  const blobsOf = async ({ commit, path }: Locked) =>
    findTree(await repo.list(commit, [path], 64 * MAX_LISTING_BYTES), path)?.blobs ?? [];
  const [old, now] = [await blobsOf(before), await blobsOf(after)];
  await repo.fetchBlobs([...old, ...now].filter(({ mode }) => mode !== MODE_SUBMODULE).map(({ hash }) => hash));
  const modes = new Map(old.map(({ path, mode }) => [path, mode]));
  const isNew = (mode: string) => (each: TreeEntry) => each.mode === mode && modes.get(each.path) !== mode;
  return [
    title,
    await repo.diff(before.tree, after.tree),
    ...now.filter(isNew(MODE_EXECUTABLE)).map(({ path }) => ` now executable: ${path}`),
    ...now.filter(isNew(MODE_LINK)).map(({ path }) => ` now a link: ${path}`),
    ...lines,
  ].filter((line) => line !== "").join("\n");
}

/** Fetches the newest commit of each reference, and prints what changes. */
async function fetchUpdates(
  entries: readonly GitEntry[],
  lockfile: Lockfile,
  flags: Request["flags"],
): Promise<FetchResult> {
  const requests = entries.map((entry) => ({ entry }));
  return await fetchAll(requests, flags["allow-large"], async (repo, entry, found, place) => {
    const { text, reference } = entry;
    const locked = lockfile.get(text);
    const before = locked && isLockedFor(reference, locked) ? locked : undefined;
    const isSame = before?.commit === found.commit;
    if (before && !isSame && place.kind === "tag") {
      throw new Error(
        `The tag of ${quote(text)} was moved from ${before.commit.slice(0, 12)} to ${found.commit.slice(0, 12)}, and ` +
          "tags should not move. If you know why, delete its line from .skills.lock, then sync",
      );
    }
    if (isSame && !flags.trust) return undefined;
    const after: Locked = { ...found, large: found.large ?? before?.large, trusted: before?.trusted };
    const hidden = storedSkills(after).flatMap((skill) => examineStored(skill).hidden);
    if (entry.trust && (hidden.length === 0 || flags.trust || before === undefined)) after.trusted = after.tree;
    const description = before
      ? await describeUpdate(repo, text, before, after, hidden)
      : `${text}: ${after.commit.slice(0, 12)}, new`;
    if (!flags.quiet && !isSame) warn(description);
    const problem = hiddenProblem(hidden, entry, after);
    if (problem) throw new Error(problem);
    return after;
  });
}

// ── Report ──────────────────────────────────────────────────────────────────────────────────────────────────────

/** How an action is reported: what was done, and the state of the skill before, as `list` shows it. */
const WORDS: Readonly<Record<Action["kind"], { done: string; state: string }>> = {
  ok: { done: "", state: "ok" },
  keep: { done: "", state: "ok" },
  link: { done: "linked", state: "missing" },
  relink: { done: "relinked", state: "drift" },
  copy: { done: "copied", state: "missing" },
  recopy: { done: "copied again", state: "drift" },
  adopt: { done: "adopted", state: "ok" },
  prune: { done: "removed", state: "drift" },
  release: { done: "", state: "drift" },
  conflict: { done: "", state: "conflict" },
};

/** Prints a message for people on standard error. `place` comes first, in red on a terminal. */
function warn(text: string, place = ""): void {
  const isRed = place !== "" && Deno.stderr.isTerminal() && !environment("NO_COLOR");
  const start = escapeControls(place);
  console.error((isRed ? `\x1b[31m${start}\x1b[39m` : start) + escapeControls(text));
}

function printProblems(problems: readonly Problem[], project: Project): void {
  if (problems.length > MAX_PROBLEMS) warn(`use-skills: the first ${MAX_PROBLEMS} of ${problems.length} problems:`);
  for (const { file, line, message } of problems.slice(0, MAX_PROBLEMS)) {
    const place = showHere(project, file).replaceAll("\n", "\\n");
    warn(` ${message}`, `${place}:${line === undefined ? "" : `${line}:`}`);
  }
}

/** Names for a reader; only the first ones if there are many. */
function someOf(names: readonly string[]): string {
  return names.length > 8 ? `${names.slice(0, 6).join(", ")} and ${names.length - 6} more` : names.join(", ");
}

/** Prints what was done, one line for each kind of action and group of agents. */
function printDone(actions: readonly PlannedAction[]): void {
  const items = Map.groupBy(actions, ({ kind, name }) => `${kind} ${name}`).values().flatMap((same) => {
    const [{ kind, name }] = same as [PlannedAction];
    const agents = new Set(same.flatMap(({ agents }) => agents));
    const { done } = WORDS[kind];
    return done === "" ? [] : [{ name, done, agents: [...agents].join(", ") }];
  });
  for (const group of Map.groupBy(items, ({ done, agents }) => `${done} ${agents}`).values()) {
    const [{ done, agents }] = group as [typeof group[number]];
    warn(`use-skills: ${done} ${someOf(group.map(({ name }) => name))} for ${agents}`);
  }
}

/** Prints what would be done, one line for each action. */
function printPlanned(actions: readonly PlannedAction[], project: Project): void {
  for (const { kind, path, desired, reason } of actions) {
    const source = desired ? ` -> ${show(desired.source, project)}` : "";
    warn(`would ${kind} ${show(path, project)}${source}: ${reason}`);
  }
}

/** Prints one JSON object. `version` changes if readers must change; missing values are `null`. */
function printJson(project: Project, content: Record<string, unknown>, problems: readonly Problem[]): void {
  const pathTo = pathsFrom(project.directory, project.directory);
  const listed = problems.map(({ file = project.manifest, line = null, name = null, message }) => {
    return { file: pathTo(file), line, name, message };
  });
  const json = { version: 2, root: project.directory, ...content, problems: listed };
  console.log(escapeControls(JSON.stringify(json, undefined, 2)));
}

function jsonActions(actions: readonly PlannedAction[]) {
  return actions.filter((action) => isChange(action) || action.kind === "conflict").map((action) => ({
    action: action.kind === "release" ? "conflict" : action.kind,
    agent: action.agents.join(","),
    name: action.name,
    path: action.path,
    target: action.form?.target ?? action.owned?.target ?? null,
    reason: action.reason,
  }));
}

/** A skill, for `list`. */
interface Row {
  name: string;
  from: string;
  agents: string[];
  state: string;
  commit: string | null;
}

/** The rows of `list`: one for each name, source and state, with its agents. */
function listRows(actions: readonly PlannedAction[], project: Project, lockfile: Lockfile): Row[] {
  const origins = new Map<string, { text: string; commit: string }>();
  for (const [text, locked] of lockfile) {
    for (const { directory } of attempt(() => storedSkills(locked)) ?? []) {
      origins.set(directory, { text, commit: locked.commit });
    }
  }
  const rows = new Map<string, Row>();
  for (const { name, kind, desired, owned, path, agents, actual } of actions) {
    if (!desired && (!owned || kind === "ok")) continue; // another project's
    const source = desired?.source ?? (owned && resolve(path, "..", owned.target));
    const isBroken = actual.kind === "link" && owned && source && !exists(`${source}/SKILL.md`);
    const isEdited = kind === "conflict" && actual.kind === "directory" && actual.hash !== undefined;
    const state = isBroken ? "broken" : isEdited ? "edited" : WORDS[kind].state;
    const origin = origins.get(source ?? "");
    const from = origin?.text ?? (source ? show(source, project) : "");
    const key = JSON.stringify([name, from, state]);
    const row = rows.get(key) ?? { name, from, agents: [], state, commit: origin?.commit ?? null };
    row.agents.push(...agents);
    rows.set(key, row);
  }
  return [...rows.values()].sort((a, b) => a.name < b.name ? -1 : a.name > b.name ? 1 : 0);
}

/** Lines with aligned columns. */
function table(rows: readonly string[][]): string {
  const widths = rows[0]?.map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0))) ?? [];
  return rows.map((row) => row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join("  ").trimEnd()).join("\n");
}

// ── Commands ────────────────────────────────────────────────────────────────────────────────────────────────────

/** What the command line asks for. */
interface Request {
  command: string;
  /** The arguments of the command. */
  args: string[];
  /** For `add`. */
  as?: string;
  agents: string[];
  flags: Partial<Record<keyof typeof FLAGS, boolean>>;
  directory: string;
}

/** The command line without words: what direnv runs. */
const NO_REQUEST: Request = { command: "sync", args: [], agents: [], flags: {}, directory: "." };

/** A command line without its meaning. */
type ParsedWords = Omit<Request, "command" | "args"> & { words: string[] };

/**
 * Reads the command line. Without options, no library is loaded, so that it works on a machine that never reached JSR.
 *
 * @throws {UsageError} If it is wrong.
 */
async function parseCommandLine(words: string[]): Promise<Request> {
  const none: ParsedWords = { ...NO_REQUEST, words };
  const only = words.length === 1 ? words[0]! : "";
  if (["--help", "-h"].includes(only)) return { ...none, command: "help", args: [] };
  if (["--version", "-V"].includes(only)) return { ...none, command: "version", args: [] };
  const isDoctor = words.some((word) => word === "doctor" || word === "validate");
  const hasOptions = words.some((word) => word.startsWith("-"));
  const parsed = !hasOptions ? none : isDoctor ? parseDoctorOptions(words) : await parseOptions(words);
  const [command = "sync", ...args] = parsed.words;
  if (parsed.flags.help || parsed.flags.version) {
    return { ...none, command: parsed.flags.help ? "help" : "version", args: [] };
  }
  const accepted = Object.hasOwn(COMMANDS, command) ? COMMANDS[command]!.split(" ") : undefined;
  if (accepted === undefined) {
    const near = { word: command, words: Object.keys(COMMANDS) };
    throw new UsageError(`Unknown command ${quote(command)}${await suggestion(near)}`);
  }
  if (args[0] !== undefined && !accepted.includes("...")) {
    throw new UsageError(`Unexpected ${quote(args[0])} after ${command}`);
  }
  const { flags, as, agents } = parsed;
  const given = [
    ...Object.keys(flags).filter((name) => flags[name as keyof typeof FLAGS]),
    as && "as",
    agents[0] && "for",
  ];
  const wrong = given.find((name) => name && name !== "global" && !accepted.includes(name));
  if (wrong) throw new UsageError(`${command} has no option --${wrong}`);
  return { ...parsed, command, args };
}

/** Takes `-g` and `-C` from a command line of skill-doctor, which reads everything else itself. */
function parseDoctorOptions(all: readonly string[]): ParsedWords {
  const parsed: ParsedWords = { ...NO_REQUEST, words: [], flags: {} };
  const rest = [...all];
  for (let word; (word = rest.shift()) !== undefined;) {
    if (word === "-g" || word === "--global") parsed.flags.global = true;
    else if (word === "-C" || word === "--directory") parsed.directory = rest.shift() ?? ".";
    else if (word.startsWith("--directory=")) parsed.directory = word.slice(12);
    else if (word === "doctor" || word === "validate") parsed.words.unshift(word);
    else parsed.words.push(word);
  }
  return parsed;
}

async function parseOptions(words: readonly string[]): Promise<ParsedWords> {
  const { parseArgs } = await load<typeof Cli>(LIBRARIES.cli, "reads command line options");
  const names = Object.keys(FLAGS) as (keyof typeof FLAGS)[];
  const letters = names.filter((name) => FLAGS[name] !== "").map((name) => [FLAGS[name], name]);
  const args: string[] = [];
  const unknown: string[] = [];
  const parsed: Record<string, unknown> = parseArgs(words, {
    boolean: names,
    string: ["directory", "as", "for"],
    collect: ["for"],
    alias: { ...Object.fromEntries(letters), C: "directory" },
    unknown(argument: string, key?: string) {
      (key === undefined ? args : unknown).push(argument);
      return false;
    },
  });
  const { directory = ".", as } = parsed as { directory?: string; as?: string };
  const agents = (parsed["for"] ?? []) as string[];
  if (unknown[0] !== undefined) {
    const known = [...names, "directory", "as", "for"].map((name) => `--${name}`);
    const near = { word: unknown[0].replace(/=.*/s, ""), words: known };
    throw new UsageError(`Unknown option ${quote(unknown[0])}${await suggestion(near)}`);
  }
  if (directory === "") throw new UsageError("--directory needs a directory");
  if (as === "") throw new UsageError("--as needs a name");
  if (agents.includes("")) throw new UsageError("--for needs an agent");
  return {
    words: [...args, ...(parsed["_"] as unknown[]).map(String)],
    flags: Object.fromEntries(names.map((name) => [name, parsed[name] === true])),
    ...{ as, agents, directory },
  };
}

const MANIFEST = `# The skills for coding agents in this directory, deployed by use-skills.ts.
# One entry per line, for example:
#
# hq                              # a name: from skills/ here, SKILLS_PATH, or
#                                 # skills/ next to use-skills.ts
# ./tools/skills/house-style      # a skill's directory
# ~/notes/skills/*                # every skill in a directory
# ./skills/pdf as pdf-forms       # under another name
# anthropics/skills/skills/pdf    # from GitHub; any git URL works, too
# hq for claude codex             # only for these agents
`;

/** How `.envrc` calls this script: from the project, from the home, or from where `USE_SKILLS` says. */
function scriptInEnvrc(project: Project): { call: string; pasted?: string; isFound: boolean } {
  if (import.meta.filename === undefined) return { call: `"\${USE_SKILLS:-${import.meta.url}}"`, isFound: true };
  const script = Deno.realPathSync(import.meta.filename);
  const home = environment("HOME");
  const inProject = below(project.directory, script);
  const inHome = home && attempt(() => below(Deno.realPathSync(home), script));
  const escaped = (inProject ?? inHome ?? "use-skills/use-skills.ts").replace(/["$\`\\]/g, "\\$&");
  if (inProject) {
    const call = /[^\w./-]/.test(inProject) ? `"${escaped}"` : inProject;
    return { call, pasted: call, isFound: true };
  }
  return { call: `"\${USE_SKILLS:-$HOME/${escaped}}"`, isFound: inHome !== undefined };
}

/** The block for `.envrc`. Nothing in it may keep users out of the directory, or contain a path of this machine. */
function envrcBlock(call: string, pasted = ""): string {
  const run = `deno run -A --no-lock --no-config ${call} || log_status "use-skills: not all skills are deployed"`;
  const asked = [".skills", pasted].filter((file) => file !== "").join(" ");
  return `# use-skills: deploy the skills that .skills names
watch_file .skills .skills.lock
if ! has deno; then
  log_status "use-skills: deno is not installed, so no skills are deployed"
elif declare -F require_allowed >/dev/null; then
  require_allowed ${asked}
  if [ -e .skills.lock ]; then require_allowed .skills.lock; fi
  SKILLS_ALLOWED=1 ${run}
else # this direnv can't ask you about a changed .skills, so nothing new is fetched
  ${run}
fi
`;
}

/** Writes a manifest and the block in `.envrc`, unless they exist. */
function init(project: Project, { flags }: Request): number {
  const note = (text: string) => flags.quiet || warn(`use-skills: ${text}`);
  const would = flags["dry-run"] ? "would write" : "wrote";
  const write = (path: string, text: string, options: Deno.WriteFileOptions) => {
    try {
      if (!flags["dry-run"]) Deno.writeTextFileSync(path, text, options);
    } catch (error) {
      throw new Error(`Cannot write ${show(path, project)}: ${reasonOf(error)}`);
    }
    note(`${would} ${show(path, project)}`);
  };
  if (exists(project.manifest)) {
    note(`${show(project.manifest, project)} exists already`);
  } else {
    if (!flags["dry-run"]) Deno.mkdirSync(resolve(project.manifest, ".."), { recursive: true });
    write(project.manifest, MANIFEST, { createNew: true });
  }
  if (project.global) return 0;
  const { call, pasted, isFound } = scriptInEnvrc(project);
  const path = resolve(project.directory, ".envrc");
  const info = ifExists(() => Deno.lstatSync(path));
  if (info && !info.isFile) {
    warn(`${show(path, project)} is not a regular file: add this to it yourself\n\n${envrcBlock(call, pasted)}`);
    return 1;
  }
  const text = info ? Deno.readTextFileSync(path) : "";
  if (/^[^#\n]*(use-skills\.ts|USE_SKILLS)/m.test(text)) {
    note(`${show(path, project)} calls use-skills already`);
  } else {
    const gap = text === "" ? "" : text.endsWith("\n") ? "\n" : "\n\n";
    write(path, gap + envrcBlock(call, pasted), { append: true });
    if (!isFound) note("next: export USE_SKILLS with the path of use-skills.ts, which is outside your home");
    note(`next: write skills into ${show(project.manifest, project)}, then run "direnv allow"`);
  }
  return 0;
}

/** Whether a user can mean an entry by a word: its reference, or a name it deploys. */
function isNamed(entry: Entry, project: Project, lockfile: Lockfile, word: string): boolean {
  const locked = lockfile.get(entry.text);
  const names = locked && !entry.as ? (attempt(() => storedSkills(locked)) ?? []).map(({ name }) => name) : [];
  return [entry.text, deployedName(entry, project), ...names].includes(word);
}

/** A manifest's text with lines added: at the end, or before the first `for` line if they are for the default agents. */
function insertLines(text: string, lines: readonly string[], areForDefault: boolean): string {
  const end = text.includes("\r\n") ? "\r\n" : "\n";
  const whole = text === "" || text.endsWith("\n") ? text : text + end;
  const all = whole.split("\n");
  const forLine = areForDefault ? all.findIndex((line) => /^\ufeff?\s*for\s/.test(line)) : -1;
  if (forLine < 0) return whole + lines.map((line) => line + end).join("");
  const above = all.slice(0, forLine);
  const last = above.findLastIndex((line) => /^\s*[^#\s]/.test(line));
  // The comment above a `for` line stays with it.
  const position = (last >= 0 ? last : above.findLastIndex((line) => !/^\s*#/.test(line))) + 1;
  return all.toSpliced(position, 0, ...lines.map((line) => line + end.slice(0, -1))).join("\n");
}

/** The manifest and lockfile, or empty ones if there is no manifest yet. */
function readFilesOrNone(project: Project): Files {
  return exists(project.manifest) ? readFiles(project) : { manifest: "", entries: [], ...readLockfile(project) };
}

/** Prepares `add`: fetches, and checks that everything the new lines name can be deployed. */
async function planAdd(
  project: Project,
  request: Request,
): Promise<{ deployment?: Partial<Deployment>; problems: Problem[] }> {
  const { args, flags, as, agents } = request;
  if (args.length === 0) throw new UsageError("Usage: use-skills.ts add REF... [--as NAME] [--for AGENT]");
  if (as !== undefined && args.length > 1) throw new UsageError("--as needs one skill, but there are several");
  const clauses = [...as === undefined ? [] : ["as", as], ...agents.length === 0 ? [] : ["for", ...agents]];
  const lines = args.map((word) => [word, ...clauses].join(" "));
  const added = parseManifest(lines.join("\n"));
  if (added.errors[0]) throw new UsageError(added.errors[0].message);
  const invalid = args.find((word, index) => added.entries[index]?.text !== word || /\s/.test(word));
  if (invalid !== undefined) {
    throw new UsageError(`${quote(invalid)} is not a reference: it contains white space or "#"`);
  }

  const files = readFilesOrNone(project);
  const twice = files.entries.find((entry) => args.includes(entry.text) && entry.as === as);
  if (twice) return { problems: [{ message: `${quote(twice.text)} is already in line ${twice.line}` }] };
  const requests = added.entries.filter(isGitEntry).filter((entry) => !gitEntryProblem(entry, project))
    .map((entry) => ({ entry, locked: files.lockfile.get(entry.text) }));
  const { locked, failures } = await fetchAll(requests, flags["allow-large"]);
  const editManifest = (text: string) => {
    const current = parseManifest(text).entries.map((entry) => `${entry.text} ${entry.as}`);
    const missing = lines.filter((_, index) => !current.includes(`${args[index]} ${as}`));
    return missing.length === 0 ? text : insertLines(text, missing, agents.length === 0);
  };
  const { entries, errors } = parseManifest(editManifest(files.manifest));
  if (errors.length > 0) throw new UsageError("", errors);
  const isNew = ({ line }: { line?: number }) =>
    entries.some((entry) => entry.line === line && args.includes(entry.text));
  const lockfile = new Map([...files.lockfile, ...locked]);
  const { problems, targets } = findDesired(entries, project, { lockfile, failures }, () => false);
  for (const { line, name, source } of targets.values().flatMap(({ desired }) => desired.values())) {
    if (!exists(`${source}/SKILL.md`)) {
      problems.push({ line, name, message: `Cannot add ${quote(name)}: it has no SKILL.md` });
    }
  }
  const ownProblems = problems.filter(isNew).map(({ message, near, name }) => ({ message, near, name }));
  if (ownProblems.length > 0) return { problems: await sortProblems(ownProblems) };
  const editLockfile = (lockfile: Lockfile, entries: readonly Entry[]) => updateLockfile(lockfile, entries, locked);
  return { deployment: { editManifest, editLockfile }, problems: [] };
}

/** Prepares `remove`: finds the lines of the named skills. */
function planRemove(project: Project, { args }: Request): Partial<Deployment> {
  if (args.length === 0) throw new UsageError("Usage: use-skills.ts remove NAME...");
  const { lockfile } = readFiles(project);
  const linesOf = (word: string, entries: readonly Entry[]): number[] => {
    const found = entries.filter((entry) => isNamed(entry, project, lockfile, word));
    const isOneOfMany = ({ text, reference }: Entry) => {
      if (text === word || reference.kind === "name" || !reference.all) return false;
      return reference.kind === "git" || exists(resolve(expand(reference.path, project), word));
    };
    const many = [...found, ...entries.filter(({ reference }) => reference.kind === "path")].find(isOneOfMany);
    if (many) {
      throw new UsageError(
        `${quote(word)} comes from ${quote(many.text)} in line ${many.line}, like others: remove that entry, or ` +
          `replace it by entries for the others`,
      );
    }
    if (found.length === 0) throw new UsageError(`No entry of ${showHere(project)} deploys ${quote(word)}`);
    return found.map(({ line }) => line);
  };
  const editManifest = (text: string) => {
    const { entries } = parseManifest(text);
    const removed = new Set(args.flatMap((word) => linesOf(word, entries)));
    return text.split("\n").filter((_, index) => !removed.has(index + 1)).join("\n");
  };
  return { editManifest, editLockfile: (lockfile, entries) => updateLockfile(lockfile, entries, new Map()) };
}

/** Prepares `update`: fetches the newest commits of the named entries, or of all. */
async function planUpdate(project: Project, request: Request, files: Files): Promise<Partial<Deployment>> {
  const { args } = request;
  const git = [...new Map(files.entries.filter(isGitEntry).map((entry) => [entry.text, entry])).values()];
  const isMeant = (word: string) => (entry: GitEntry) => isNamed(entry, project, files.lockfile, word);
  const unknown = args.find((word) => !git.some(isMeant(word)));
  if (unknown !== undefined) throw new UsageError(`No entry of ${showHere(project)} fetches ${quote(unknown)}`);
  const chosen = git.filter((entry) => args.length === 0 || args.some((word) => isMeant(word)(entry)));
  const updates = await fetchUpdates(
    chosen.filter((entry) => !gitEntryProblem(entry, project)),
    files.lockfile,
    request.flags,
  );
  const locked = new Map([...files.lockfile, ...updates.locked]);
  const missing = await fetchMissing(project, { ...files, lockfile: locked }, {});
  const fetched = new Map([...updates.locked, ...missing.locked]);
  return {
    failures: new Map([...missing.failures, ...updates.failures]),
    editLockfile: (lockfile, entries) => updateLockfile(lockfile, entries, fetched),
  };
}

/** Problems with stored skills of a project. A damaged one is marked, so that the next sync replaces it. */
async function checkStore({ entries, lockfile }: Files, project: Project): Promise<Problem[]> {
  const problems: Problem[] = [];
  for (const entry of entries.filter(isGitEntry)) {
    const locked = lockfile.get(entry.text);
    for (const skill of locked ? attempt(() => storedSkills(locked)) ?? [] : []) {
      const { name, tree, directory } = skill;
      if (!exists(directory) || await contentHash(directory) === tree) continue;
      const isMarked = attempt(() => (Deno.utimeSync(directory, new Date(), new Date()), true));
      const wayOut = isMarked ? "sync replaces it" : `delete ${show(resolve(directory, ".."), project)}, then sync`;
      problems.push({ line: entry.line, name, message: `${quote(name)} in the store was changed: ${wayOut}` });
    }
  }
  return problems;
}

/** Removes from the store and the cache what no project of this user needs, and prints how much that was. */
async function cleanStore(project: Project, { flags }: Request): Promise<number> {
  if (flags.json) throw new UsageError("--store has no --json");
  const store = makePrivateDirectory(storeDirectory());
  using _lock = await lockDirectory(store, fetchTimeout());
  const used = new Set<string>();
  for (const { manifest, targets } of [{ manifest: project.manifest, ...readIndex(project) }, ...readAllIndexes()]) {
    const texts = [`${manifest}.lock`, ...targets.keys().map((target) => `${target}/${STATE_FILE}`)]
      .map((path) => attempt(() => Deno.readTextFileSync(path)) ?? "");
    for (const [tree] of texts.join("\n").matchAll(/\b[0-9a-f]{40}\b/g)) used.add(tree);
    for (const [, url] of texts[0]!.matchAll(/"url":("(?:[^"\\]|\\.)*")/g)) {
      used.add(fileNameOf(attempt(() => JSON.parse(url!)) ?? ""));
    }
  }
  const caches = `${xdgDirectory("XDG_CACHE_HOME", ".cache")}/git`;
  const removeUnused = async (directory: string) => {
    const unused = [...namesIn(directory).keys()].filter((name) => !used.has(name));
    let bytes = 0;
    for (const path of unused.map((name) => `${directory}/${name}`)) {
      using _cacheLock = directory === caches ? await lockDirectory(path) : undefined;
      for (const { info } of walk(path)) bytes += info.size;
      if (flags["dry-run"]) continue;
      const moved = Deno.makeTempDirSync({ dir: store, prefix: ".new-" });
      try {
        Deno.renameSync(path, `${moved}/old`); // so that it is gone in one step
      } catch {
        removeAll(path); // on another file system
      }
      removeAll(moved);
    }
    return `${unused.length} of them, ${
      bytes < 2 ** 20 ? `${(bytes / 1024).toFixed(1)} KiB` : `${(bytes / 2 ** 20).toFixed(1)} MiB`
    }`;
  };
  const would = flags["dry-run"] ? "would remove" : "removed";
  const skills = await removeUnused(store);
  const repos = await removeUnused(caches);
  if (!flags.quiet) {
    warn(`use-skills: ${would} skills that no known project uses from the store: ${skills}`);
    warn(`use-skills: ${would} repos that no known project uses from the cache: ${repos}`);
  }
  return 0;
}

/** What a project's manifest asks for, whatever could be fetched. */
function desiredOf(project: Project): DesiredState {
  const { entries, lockfile } = readFiles(project);
  return findDesired(entries, project, { lockfile, failures: new Map() }, () => true);
}

/**
 * The program of the skill `skill-doctor`, from a place that the user has chosen: next to this file, in SKILLS_PATH, or
 * in the home's manifest. The manifest of a project counts only if this file is part of the project. Otherwise, a repo
 * that was merely cloned would decide which code runs.
 */
function findDoctor(project: Project): string {
  const script = import.meta.filename ? Deno.realPathSync(import.meta.filename) : "";
  const places = [resolve("/", script, "../skills"), ...(environment("SKILLS_PATH") ?? "").split(":")]
    .filter((place) => place.startsWith("/")).map((place) => `${place}/skill-doctor`);
  const home = attempt(() => findProject({ ...NO_REQUEST, flags: { global: true } }));
  for (const owner of [home, below(project.directory, script) === undefined ? undefined : project]) {
    const targets = owner && attempt(() => desiredOf(owner))?.targets.values() || [];
    for (const { desired } of targets) places.push(...desired.get("skill-doctor")?.source ?? []);
  }
  const paths = [...new Set(places)].map((place) => `${place}/scripts/doctor.ts`);
  const found = paths.find(exists);
  if (found) return found;
  const checkout = findCheckout("skill-doctor") ?? "~/use-skills";
  throw new Error(
    `No skill-doctor at ${someOf(paths.map((path) => show(path, project)))}: run ${checkout}/use-skills.ts instead, ` +
      `or set SKILLS_PATH=${checkout}/skills`,
  );
}

/** Runs a command of skill-doctor with the desired state. */
async function runDoctor(project: Project, { command, args, directory }: Request): Promise<number> {
  const { main } = await import(`file://${findDoctor(project)}`);
  let state: DesiredState | undefined;
  let problems: readonly Problem[] = [];
  try {
    state = desiredOf(project);
    problems = await sortProblems(state.problems);
  } catch (error) {
    if (!(error instanceof UsageError) || command === "validate" && !args.some((arg) => !arg.startsWith("-"))) {
      throw error;
    }
    if (exists(project.manifest)) problems = error.problems.length > 0 ? error.problems : [{ message: error.message }];
  }
  const targets = [...state?.targets.values() ?? []].map(({ path, agents, desired }) => {
    return { path, agents, skills: [...desired.values()] };
  });
  return await main([command === "doctor" ? "show" : command, ...args], {
    directory: project.directory,
    manifest: project.manifest,
    global: project.global,
    start: project.global ? project.directory : Deno.realPathSync(directory),
    readable: state !== undefined,
    targets,
    keptNames: [...state?.failedNames ?? []],
    problems,
    searchPath: [...new Set(searchPath(project))],
    store: attempt(storeDirectory),
  });
}

/** Runs a command that compares or deploys, and prints what came of it. */
async function runDeployment(project: Project, request: Request): Promise<number> {
  const { command, flags } = request;
  const write = !["check", "list"].includes(command) && !flags["dry-run"];
  const deployment: Deployment = { write, isThorough: command === "check" };
  let files: Files = { manifest: "", entries: [], lockfile: new Map() };
  let reread = () => files;
  if (command === "clean") {
    deployment.clean = true;
  } else if (command === "add") {
    const { deployment: added, problems } = await planAdd(project, request);
    if (added === undefined) {
      printProblems(problems, project);
      return 1;
    }
    Object.assign(deployment, added);
    files = readFilesOrNone(project);
    reread = () => readFilesOrNone(projectAgain(project));
  } else {
    files = readFiles(project);
    reread = () => readFiles(projectAgain(project));
    if (command === "remove") Object.assign(deployment, planRemove(project, request));
    if (command === "update") Object.assign(deployment, await planUpdate(project, request, files));
    if (command === "sync") {
      deployment.copy = flags.copy === true;
      const isFrozen = flags.frozen || environment("CI") === "true" || isRestricted();
      if (write && files.entries.some(isGitEntry)) {
        const access = { isFrozen, isOffline: flags.offline, isLargeAllowed: flags["allow-large"] };
        const { locked, failures } = await fetchMissing(project, files, access);
        deployment.failures = failures;
        if (!isFrozen) deployment.editLockfile = (lockfile, entries) => updateLockfile(lockfile, entries, locked);
      } else if (write && !isFrozen && files.lockfile.size > 0) {
        deployment.editLockfile = (lockfile, entries) => updateLockfile(lockfile, entries, new Map());
      }
    }
  }
  const { actions, problems, notes } = await deploy(project, files, reread, deployment);
  if (command === "check") problems.push(...await checkStore(files, project));
  const changes = actions.filter(isChange);
  if (command === "list") {
    const rows = listRows(actions, project, files.lockfile);
    const cells = rows.map((
      { name, from, agents, state, commit },
    ) => [name, from, agents.join(", "), state, commit?.slice(0, 12) ?? ""]);
    if (flags.json) printJson(project, { skills: rows }, problems);
    else if (rows.length > 0) console.log(escapeControls(table(cells)));
    printProblems(problems, project);
    return 0;
  }
  if (flags.json) printJson(project, { actions: jsonActions(actions) }, problems);
  if (!flags.quiet) {
    if (write) printDone(actions);
    else printPlanned(changes, project);
    for (const note of notes) warn(note);
  }
  printProblems(problems, project);
  return problems.length > 0 || command === "check" && changes.length > 0 ? 1 : 0;
}

/** A project with what is next to its manifest now. */
function projectAgain(project: Project): Project {
  return { ...project, siblings: namesIn(resolve(project.manifest, "..")) };
}

async function runCommand(request: Request): Promise<number> {
  const project = findProject(request);
  try {
    if (request.command === "init") return init(project, request);
    if (request.flags.store) return await cleanStore(project, request);
    if (request.command === "doctor" || request.command === "validate") return await runDoctor(project, request);
    return await runDeployment(project, request);
  } catch (error) {
    if (!(error instanceof UsageError) || error.problems.length === 0) throw error;
    if (request.flags.json) {
      printJson(project, request.command === "list" ? { skills: [] } : { actions: [] }, error.problems);
    }
    printProblems(error.problems, project);
    return 2;
  }
}

/**
 * The program.
 *
 * @param args The words of the command line.
 * @returns The exit status: 0 done, 1 something failed or differs, 2 wrong usage or manifest.
 */
export async function main(args: string[]): Promise<number> {
  try {
    if (Deno.build.os === "windows") throw new Error("Windows is not supported: use WSL");
    if (!("toHex" in Uint8Array.prototype)) throw new Error(`Deno ${Deno.version.deno} is too old: 2.5 is needed`);
    const request = await parseCommandLine(args);
    if (request.command === "help") console.log(HELP);
    else if (request.command === "version") console.log(VERSION);
    else return await runCommand(request);
    return 0;
  } catch (error) {
    warn(` ${reasonOf(error)}`, "use-skills:");
    return error instanceof UsageError ? 2 : 1;
  }
}

if (import.meta.main) {
  Error.stackTraceLimit = 0; // Stack traces are slow, and never printed.
  Deno.exit(await main(Deno.args));
}
