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
 * types are imported statically, and {@linkcode loadLibrary} imports the rest if it is needed. The first exception of a
 * process costs milliseconds, so the common path looks into directory listings instead of trying paths.
 *
 * @module
 */
import type * as Cli from "jsr:@std/cli@^1/parse-args";

// ── Tables ──────────────────────────────────────────────────────────────────────────────────────────────────────

export const VERSION = "0.2.0";

/**
 * The skills directories of each agent: in a project, and in a home, if it has one. `${VARIABLE:-default}` is read as a shell does;
 * a directory that starts with `$VARIABLE` exists only if the variable is set.
 */
export const AGENTS: Readonly<Record<string, { project: readonly string[]; home?: string }>> = {
  claude: { project: [".claude/skills"], home: "${CLAUDE_CONFIG_DIR:-.claude}/skills" },
  opencode: { project: [".opencode/skills"], home: "${XDG_CONFIG_HOME:-.config}/opencode/skills" },
  codex: { project: [".agents/skills", "$CODEX_HOME/skills"], home: "${CODEX_HOME:-.codex}/skills" },
  agents: { project: [".agents/skills"], home: ".agents/skills" },
  amp: { project: [".agents/skills"], home: "${XDG_CONFIG_HOME:-.config}/agents/skills" },
  antigravity: { project: [".agents/skills"], home: ".gemini/antigravity/skills" },
  augment: { project: [".augment/skills"], home: ".augment/skills" },
  cline: { project: [".cline/skills"], home: ".cline/skills" },
  codebuddy: { project: [".codebuddy/skills"], home: ".codebuddy/skills" },
  continue: { project: [".continue/skills"], home: ".continue/skills" },
  copilot: { project: [".agents/skills"], home: ".copilot/skills" },
  crush: { project: [".crush/skills"], home: "${XDG_CONFIG_HOME:-.config}/crush/skills" },
  cursor: { project: [".cursor/skills"], home: ".cursor/skills" },
  devin: { project: [".devin/skills"] },
  droid: { project: [".factory/skills"], home: ".factory/skills" },
  gemini: { project: [".agents/skills"], home: ".gemini/skills" },
  goose: { project: [".agents/skills"], home: ".agents/skills" },
  grok: { project: [".grok/skills"] },
  hermes: { project: [], home: ".hermes/skills" },
  junie: { project: [".junie/skills"], home: ".junie/skills" },
  kilo: { project: [".kilo/skills"], home: ".kilo/skills" },
  kiro: { project: [".kiro/skills"], home: ".kiro/skills" },
  openclaw: { project: [], home: ".openclaw/skills" },
  openhands: { project: [".agents/skills"], home: ".openhands/skills" },
  pi: { project: [".pi/skills"], home: ".pi/agent/skills" },
  qoder: { project: [".qoder/skills"] },
  qwen: { project: [".qwen/skills"], home: ".qwen/skills" },
  trae: { project: [".trae/skills"], home: ".trae/skills" },
  vibe: { project: [".vibe/skills"], home: ".vibe/skills" },
  windsurf: { project: [".windsurf/skills"], home: ".codeium/windsurf/skills" },
  zencoder: { project: [".zencoder/skills"], home: ".zencoder/skills" },
};

// Words of the manifest.
const DEFAULT_AGENTS = ["claude", "opencode", "codex"]; // of an entry that names none
const KEYWORDS = ["mode", "for", "as", "trust"]; // which cannot be names of skills
const MODES = ["link", "copy", "commit"] as const; // how skills are deployed; "commit": as what git can keep
export type Mode = typeof MODES[number];

/** The URLs under which forges show a directory in a browser: the repo, then ref and path in one. */
const BROWSE_URLS = [
  /^(https:\/\/[^/]+\/[^?#]+?)\/-\/(?:tree|blob)\/([^?#]+)/, // GitLab
  /^(https:\/\/[^/]+\/[^?#]+?)\/src\/(?:branch|tag|commit)\/([^?#]+)/, // Forgejo, Gitea
  /^(https:\/\/[^/]+\/[^/]+\/[^/]+)\/(?:tree|blob)\/([^?#]+)/, // GitHub
];

interface Command {
  aliases?: Readonly<Record<string, readonly Flag[]>>; // other names, with the options that they imply
  args?: string; // in brackets if there can be none
  options?: readonly (keyof typeof OPTIONS)[]; // besides the common ones
  summary: string;
  examples: readonly string[]; // command lines, without the program
  run?(project: Project, request: Request): number | Promise<number>; // returns the exit status; by default, runDeployment
}

/** The commands. Help, dispatch and the messages about wrong usage come from this table. */
const COMMANDS: Readonly<Record<string, Command>> = {
  sync: {
    options: ["json", "frozen", "offline", "allow-large"],
    summary: "deploy what .skills names, remove what it no longer names",
    examples: ["sync --dry-run", "sync --frozen", "sync --global"],
  },
  check: {
    aliases: { status: [] },
    options: ["json"],
    summary: "change nothing, print every difference and problem",
    examples: ["check", "check --json"],
  },
  list: {
    aliases: { ls: [] },
    options: ["json"],
    summary: "print each skill: state, name, agents, source",
    examples: ["list", "list --json"],
  },
  add: {
    args: "REF...",
    options: ["as", "for", "allow-large"],
    summary: "write skills into .skills and sync; -n shows their files",
    examples: [
      "add anthropics/skills@pdf",
      "add ./tools/house-style --for claude",
      "add -n team/skills/skills/oncall#v2",
    ],
    run: add,
  },
  remove: {
    aliases: { rm: [] },
    args: "NAME...",
    summary: "delete skills from .skills, then sync",
    examples: ["remove pdf", "remove pdf --dry-run"],
  },
  update: {
    aliases: { outdated: ["dry-run"] },
    args: "[NAME...]",
    options: ["trust", "accept-moved", "allow-large"],
    summary: "fetch the newest commits, show the changes, then sync",
    examples: ["update --dry-run", "update", "update pdf --accept-moved"],
  },
  clean: {
    options: ["json", "store"],
    summary: "remove everything that sync created here",
    examples: ["clean --dry-run", "clean -C ../deleted-project", "clean --store"],
    run: (project, request) => request.flags.store ? cleanStore(project, request) : runDeployment(project, request),
  },
  init: {
    summary: "write a commented .skills and a block for .envrc",
    examples: ["init", "init --global"],
    run: init,
  },
  validate: {
    args: "[DIR...]",
    options: ["json"],
    summary: "validate skills against the specification (skill-doctor)",
    examples: ["validate", "validate skills/hq"],
    run: runDoctor,
  },
  doctor: {
    options: ["json"],
    summary: "show which skills each agent sees (skill-doctor)",
    examples: ["doctor", "doctor --global"],
    run: runDoctor,
  },
};

type Flag = Exclude<keyof typeof OPTIONS, "directory" | "as" | "for">;

interface Option {
  short?: string;
  value?: string; // what its value is, if it has one
  summary: string;
}

const OPTIONS = {
  global: { short: "g", summary: "deploy to your home instead of a project" },
  directory: { short: "C", value: "DIR", summary: "run as if started in DIR" },
  "dry-run": { short: "n", summary: "only print what would change" },
  quiet: { short: "q", summary: "print problems only" },
  help: { short: "h", summary: "print help, also for a command" },
  version: { short: "V", summary: "print the version" },
  json: { summary: "print one JSON object" },
  frozen: { summary: "don't change .skills.lock (sync)" },
  offline: { summary: "don't use the network (sync)" },
  "allow-large": { summary: "allow more than 5,000 files or 50 MiB (sync, add, update)" },
  as: { value: "NAME", summary: "deploy under another name (add)" },
  for: { value: "AGENT", summary: "deploy to this agent, can be repeated (add)" },
  trust: { summary: "trust hidden characters of the new version (update)" },
  "accept-moved": { summary: "accept that a tag was moved (update)" },
  store: { summary: "clean the store of fetched skills instead (clean)" },
} satisfies Record<string, Option>;

const COMMON_OPTIONS: readonly (keyof typeof OPTIONS)[] = ["global", "directory", "dry-run", "quiet", "help"];

/** Commands and options of other tools and earlier versions, and what to use instead. */
const INSTEAD: Readonly<Record<string, string>> = {
  "--agent": '"--for AGENT"',
  "--copy": 'the line "mode copy" above the first entry of .skills',
  "--skill": '"add OWNER/REPO@NAME"',
  i: '"sync" or "add"',
  install: '"sync" or "add"',
  move: '"as NAME" in .skills',
  rename: '"as NAME" in .skills',
  restore: '"sync"',
  uninstall: '"remove"',
  upgrade: '"update"',
};

/** What {@linkcode loadLibrary} imports. The types imported above have the same specifier. */
const LIBRARY = "jsr:@std/cli@^1/parse-args";

// Limits, so that no manifest, repo or server can use up time or memory.
const MAX_PROBLEMS = 50; // that are printed
const MAX_SUGGESTIONS = 10; // of a run: finding what is similar takes time
const MAX_ENTRIES = 5_000; // of a manifest
const MAX_TARGETS = 200; // of a manifest
const MAX_RECORDED_TARGETS = 1_000; // of a lockfile, which can also name earlier targets
const MAX_TARGET_PATH = { characters: 4096, levels: 64 }; // from the project
const MAX_LINE_BYTES = 4096; // of a manifest
const MAX_LOCKFILE_BYTES = 8 * 2 ** 20;
const MAX_FILE_BYTES = 2 ** 20; // of another file that use-skills writes
const MAX_COPIED_FILE_BYTES = 256 * 2 ** 20; // of a file in a skill that is copied or hashed
const MAX_SKILL = { files: 5_000, bytes: 50 * 2 ** 20 }; // of a fetched skill, without `--allow-large`
const maxListing = (isLarge = false) => (isLarge ? 64 : 8) * 2 ** 20; // of git's list of a repo's files, in bytes
const MAX_MESSAGES = 2 ** 16; // of git, in characters
const LOCK_SECONDS = 10; // to wait for another run

/** What other programs leave in a skill or a copy. It is part of a skill only if that was fetched with it. */
const LEFT_BEHIND = ["__pycache__", ".DS_Store"];

// What use-skills writes, besides skills, manifests and lockfiles.
const STATE_FILE = ".use-skills.json"; // in each target: which entries are owned, by which projects, from which sources
const STAGING = ".use-skills.tmp"; // next to a target: where files are prepared before they are renamed into place
const TEMPORARY = ".use-skills.new"; // next to a file that is replaced: its new content, if a run was killed
const ATTRIBUTES_LINE = "* -text -filter -ident -working-tree-encoding"; // with `mode commit`: keeps every byte of copies
const ATTRIBUTES = `# Written by use-skills\n${ATTRIBUTES_LINE}\n`;

// ── Helpers ─────────────────────────────────────────────────────────────────────────────────────────────────────

interface Problem {
  file?: string; // the file it is about, if not the manifest
  line?: number; // the line in that file, from 1
  name?: string; // the skill's name
  message: string;
}

/** Wrong usage or an invalid manifest (`problems`: its lines): nothing was changed, exit status 2. */
class UsageError extends Error {
  constructor(message: string, readonly problems: readonly Problem[] = []) {
    super(message);
  }
}

/** An environment variable. An empty one counts as unset, and so does a relative one that XDG says to ignore. */
function environment(name: string): string | undefined {
  const value = Deno.env.get(name) || undefined;
  return name.startsWith("XDG_") && !value?.startsWith("/") ? undefined : value;
}

function xdgDirectory(variable: string, fallback: string): string {
  const base = environment(variable) ?? environment("HOME");
  if (base === undefined) throw new Error(`Neither ${variable} nor HOME is set`);
  return resolve(base, environment(variable) ? "" : fallback, "use-skills");
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
  const reason = message.replace(/ \(os error \d+\)[^]*/, "");
  return error instanceof Deno.errors.PermissionDenied
    ? `${reason} (see the owner and mode of it and its directory)`
    : reason;
}

/** The 32-bit FNV-1a hash in hexadecimal. Source: http://www.isthe.com/chongo/tech/comp/fnv/ */
function fnv1a(text: string): string {
  let hash = 0x811c9dc5;
  for (const byte of new TextEncoder().encode(text)) hash = Math.imul(hash ^ byte, 0x01000193);
  return (hash >>> 0).toString(16);
}

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
  return attempt(() => ifExists(() => Deno.lstatSync(path)) !== undefined) ?? true;
}

function memoize<T>(compute: (key: string) => T): (key: string) => T {
  const known = new Map<string, T>();
  return (key) => {
    if (!known.has(key)) known.set(key, compute(key));
    return known.get(key) as T;
  };
}

function sortByKey<T>(pairs: Iterable<readonly [string, T]>): (readonly [string, T])[] {
  return [...pairs].sort(([a], [b]) => a < b ? -1 : 1);
}

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
  const up = below(root, from)?.replace(/[^/]+\/?/g, "../");
  return (path) => {
    const down = up === undefined ? undefined : below(root, path);
    return down === undefined ? path : up + down || ".";
  };
}

function concat(...parts: (string | Uint8Array)[]): Uint8Array<ArrayBuffer> {
  const chunks = parts.map((part) => typeof part === "string" ? new TextEncoder().encode(part) : part);
  const bytes = new Uint8Array(chunks.reduce((sum, chunk) => sum + chunk.length, 0));
  chunks.reduce((offset, chunk) => (bytes.set(chunk, offset), offset + chunk.length), 0);
  return bytes;
}

/** Imports the only part of the standard library that is needed, unless a repo could have replaced it. */
async function loadLibrary(): Promise<typeof Cli> {
  if (environment("DIRENV_IN_ENVRC")) {
    throw new Error(
      `Remove the options from .envrc ("use-skills.ts init" updates the block): under direnv, no library is loaded, ` +
        `because a repo could replace it`,
    );
  }
  if (import.meta.resolve(LIBRARY) !== LIBRARY) {
    throw new Error(`A deno.json replaces ${LIBRARY} by other code: run with --no-config`);
  }
  try {
    return await import(LIBRARY);
  } catch (error) {
    throw new Error(
      `Cannot load ${LIBRARY}, which reads command line options: ${reasonOf(error).split("\n")[0]}
  In a checkout of use-skills, run "npx -y deno task use-skills" once
  A pasted file: run it once with access to JSR, or with "deno run --config CHECKOUT/deno.json"`,
    );
  }
}

/** How many characters must be inserted, deleted or replaced to turn one text into another (Levenshtein's distance). */
function editDistance(from: string, to: string): number {
  let row = Array.from({ length: to.length + 1 }, (_, column) => column);
  for (const character of from) {
    const next = [row[0]! + 1];
    for (const [column, other] of [...to].entries()) {
      const replaced = row[column]! + (character === other ? 0 : 1);
      next.push(Math.min(replaced, row[column + 1]! + 1, next[column]! + 1));
    }
    row = next;
  }
  return row.at(-1)!;
}

/** Words with their distance to `word`, the nearest first. One that `word` is the start of has the distance 0. */
function bySimilarity(word: string, words: readonly string[]): { distance: number; name: string }[] {
  const start = word.slice(0, 100); // Comparing takes time in proportion to both lengths.
  return words.map((name) => ({ name, distance: name.startsWith(word) ? 0 : editDistance(start, name.slice(0, 100)) }))
    .sort((a, b) => a.distance - b.distance);
}

const misspelt = new Set<string>();

/** `, did you mean "X"?` with the most similar known word, or nothing if none is similar. */
function suggestion(word: string, words: readonly string[]): string {
  if (misspelt.size < MAX_SUGGESTIONS) misspelt.add(word);
  const [nearest] = word !== "" && misspelt.has(word) ? bySimilarity(word, words) : [];
  const isSimilar = nearest !== undefined && nearest.distance <= Math.ceil(word.length / 3);
  return isSimilar ? `, did you mean ${quote(nearest.name)}?` : "";
}

let isWarnedOfLocks = false;

/**
 * Locks a directory until the returned handle is closed, if it exists and its file system has locks. The lock is the
 * operating system's, so a killed run leaves none behind. Many can hold one that isn't exclusive.
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
    if (!isWarnedOfLocks) warn(`use-skills: Warning: ${path} can't be locked, so don't run twice: ${reasonOf(error)}`);
    isWarnedOfLocks = true;
    return undefined;
  }
}

/** Creates a private directory. One that exists must belong to this user, and becomes private. */
function makePrivateDirectory(path: string): string {
  try {
    Deno.mkdirSync(path, { recursive: true, mode: 0o700 });
  } catch (error) {
    throw new Error(`Cannot create ${path} (see HOME and the XDG variables): ${reasonOf(error)}`);
  }
  refuseForeign(path);
  const { uid, mode } = Deno.statSync(path);
  if (uid === Deno.uid() && ((mode ?? 0) & 0o777) !== 0o700) Deno.chmodSync(path, 0o700);
  return path;
}

/** Refuses a directory of another user, who could change what is in it. Root may use it. */
function refuseForeign(path: string): void {
  const owner = ifExists(() => Deno.statSync(path))?.uid;
  if (owner !== undefined && ![owner, 0].includes(Deno.uid()!)) throw new Error(`${path} belongs to another user`);
}

// ── Project ─────────────────────────────────────────────────────────────────────────────────────────────────────

/** A project, or a home, whose manifest is deployed. */
interface Project {
  directory: string; // where the targets are, as a real path
  manifest: string; // the manifest's path
  global: boolean;
  siblings: Names; // what is next to the manifest, so that nothing has to be tried that doesn't exist
}

type Names = ReadonlyMap<string, Deno.DirEntry>;

/** The entries of a directory; none if it can't be read. */
function namesIn(directory: string): Names {
  return new Map(attempt(() => Array.from(Deno.readDirSync(directory), (entry) => [entry.name, entry])));
}

function projectAt(directory: string): Project {
  const manifest = resolve(directory, ".skills");
  return { directory, manifest, global: false, siblings: namesIn(directory) };
}

/** The projects from `start` up to the repo's root. A home is a tier of its own, so it isn't entered from below. */
function* projectsUp(start: string): Generator<Project> {
  const home = environment("HOME");
  const realHome = home && attempt(() => Deno.realPathSync(home));
  for (let directory = start; directory === start || directory !== realHome; directory = resolve(directory, "..")) {
    const project = projectAt(directory);
    yield project;
    if (project.siblings.has(".git") || directory === "/") return;
  }
}

function homeManifest(): string {
  return `${xdgDirectory("XDG_CONFIG_HOME", ".config")}/skills`;
}

/** Finds the project that a command is about, whether or not it has a manifest. */
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
  const found: Project[] = [];
  for (const project of start === undefined ? [projectAt(resolve(Deno.cwd(), directory))] : projectsUp(start)) {
    if (project.siblings.has(".skills")) return project;
    found.push(project);
  }
  // The manifest, or the whole project, may be gone already.
  const cleaned = command === "clean"
    ? found.find((each) => readIndex(each).targets.size > 0 || each.siblings.has(".skills.lock"))
    : undefined;
  if (cleaned) return cleaned;
  if (start === undefined) throw new UsageError(`No directory ${quote(directory)}`);
  const top = command === "init" || command === "add" ? found.find(({ siblings }) => siblings.has(".git")) : undefined;
  return top ?? found[0]!;
}

/** `path` with `~` for the home. */
function fromHome(path: string): string {
  const home = environment("HOME");
  const inside = home && below(home, path);
  return inside ? `~/${inside}` : path;
}

/** `path` for a reader: from the project, from the home, or absolute. */
function show(path: string, project: Project): string {
  const inside = project.global ? undefined : below(project.directory, path);
  return (inside === undefined ? fromHome(path) : inside || ".").replaceAll("\n", "\\n"); // not as a line of its own
}

/** A path, by default the manifest's, as one writes it in the working directory. */
function showHere(project: Project, path = project.manifest): string {
  const cwd = Deno.cwd();
  const shown = project.global ? path : pathsFrom(cwd, project.directory)(path);
  return shown === path ? below(cwd, path) || fromHome(path) : shown;
}

/** A path for a command line. */
function shellWord(path: string): string {
  return /^[\w./~+-]+$/.test(path) ? path : `'${path.replaceAll("'", `'\\''`)}'`;
}

/** A path from the manifest or the environment as an absolute one. */
function expand(path: string, project: Project): string {
  const home = environment("HOME");
  if (home === undefined && path.startsWith("~")) throw new Error(`Cannot expand ${quote(path)}: HOME is not set`);
  return resolve(project.manifest, "..", path.replace(/^~(?=\/|$)/, home ?? "~"));
}

/**
 * Reads a file of use-skills that somebody else may have put there, such as the author of a pull request. Only a home's
 * files may be links, into a repo of dotfiles.
 */
function readOwnFile(path: string, project: Project, maxBytes = MAX_FILE_BYTES): string {
  const { isFile, isSymlink, size } = project.global ? Deno.statSync(path) : Deno.lstatSync(path);
  if (!isFile) throw new Error(isSymlink ? "it is a link, not a regular file" : "it is not a regular file");
  if (size > maxBytes) throw new Error(`it has more than ${maxBytes / 2 ** 20} MiB`);
  return Deno.readTextFileSync(path);
}

/** Removes the new content of a file that a killed run left behind. */
function removeTemporary(path: string): void {
  if (attempt(() => Deno.lstatSync(path))?.isFile) Deno.removeSync(path);
}

/** Replaces a file in one step: at the place a link leads to, with the mode it has. `undefined` removes it. */
function replaceFile(path: string, text: string | undefined): void {
  const real = ifExists(() => Deno.realPathSync(path)) ?? path;
  if (text === undefined) return removeAll(real);
  const temporary = resolve(real, "..", TEMPORARY);
  const mode = ifExists(() => Deno.statSync(real))?.mode;
  removeTemporary(temporary);
  if (exists(temporary)) throw new Error(`${temporary} is not a regular file: delete it`);
  Deno.writeTextFileSync(temporary, text, { createNew: true });
  if (mode) Deno.chmodSync(temporary, mode & 0o777);
  Deno.renameSync(temporary, real);
}

// ── Manifest ────────────────────────────────────────────────────────────────────────────────────────────────────

/** What an entry points to. */
export type Reference =
  | { kind: "name"; name: string; all?: false }
  | { kind: "path"; path: string; all: boolean } // a skill's directory, or with `all` every skill directly in it
  /**
   * A directory in a git repo; with `all` every skill directly in it, or every skill of the repo if `path` is "".
   * `tail` is a ref and a path in one: only the server's refs tell where the ref ends.
   */
  | { kind: "git"; url: string; path: string; all?: true; ref?: string; tail?: string };

/** A line of the manifest that names skills. */
export interface Entry {
  file?: string; // if it isn't the manifest
  line: number;
  text: string; // the reference as written
  reference: Reference;
  as?: string;
  trust: boolean;
  agents?: { line: number; names: string[] }; // after `for` in this line or an earlier one, whose number this is
}

/** How other tools name a skill in a GitHub repo: the repo, the skill's name, and a ref after "#". */
const NAME_IN_REPO = /^([a-zA-Z0-9][a-zA-Z0-9-]*\/[\w.-]+)@([\w.-]+)(#\S+)?$/;

/** A reference that contains a password, or a user that isn't part of an ssh address. */
const CREDENTIALS = /^(?:(?:ssh:\/\/)?[^/:]*:[^/]*@|(?!ssh:)[a-z][a-z0-9+.-]*:\/\/[^/]+@)/i;

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
  if (CREDENTIALS.test(text)) {
    throw new SyntaxError("This URL contains a user or a password: remove it and use git's credential helper");
  }
  if (/^(\.\.?|~)?\//.test(text)) {
    const all = text.endsWith("/*");
    const path = all ? text.slice(0, -2) || "/" : text;
    if (path.includes("*")) throw new SyntaxError(`"*" is only allowed as the last segment, not in ${quote(text)}`);
    return { kind: "path", path, all };
  }
  for (const pattern of BROWSE_URLS) {
    const [, url, tail] = pattern.exec(text) ?? [];
    if (url && tail) {
      const { path, ...rest } = gitReference(text, url, attempt(() => decodeURIComponent(tail)) ?? tail);
      return { ...rest, path: "", tail: path.replace(/\/SKILL\.md$/, "") };
    }
  }

  const [, address = "", ref] = /^([^#]*)(?:#(.*))?$/.exec(text) ?? [];
  if (ref === "") throw new SyntaxError(`A branch, tag or commit is missing after "#" in ${quote(text)}`);
  const [scheme] = /^[a-zA-Z][\w+.-]*(?=:\/\/.)/.exec(address) ?? [];
  if (scheme === "http") {
    throw new SyntaxError(
      `http is not supported, because anyone on the way can change what it transfers: use https for ${quote(text)}, ` +
        `or map it in your git configuration with url.BASE.insteadOf`,
    );
  }
  if (scheme !== undefined && !["https", "ssh", "file"].includes(scheme)) {
    throw new SyntaxError(`Only https, ssh and file URLs are supported, not ${quote(text)}`);
  }
  if (scheme !== undefined || /^[\w.-]+@[\w.-]+:./.test(address)) {
    const [, url = "", path, all = ""] = /^((?:\w+:\/\/)?.+?)(?:\/\/(.*)|\/(\*))?$/.exec(address) ?? [];
    return { ...gitReference(text, url.replace(/\?.*/, ""), path ?? all), ref };
  }
  if (NAME_IN_REPO.test(text)) {
    throw new SyntaxError(`${quote(text)} has no path: run "use-skills.ts add ${text}", which finds it`);
  }
  const [, repo, path = ""] = /^([a-zA-Z0-9][a-zA-Z0-9-]*\/[\w.-]+)(?:\/(.*))?$/.exec(address) ?? [];
  if (repo !== undefined) return { ...gitReference(text, `https://github.com/${repo}`, path), ref };
  throw new SyntaxError(`${quote(text)} is not a name, a path (./ ../ / ~/), OWNER/REPO or a git URL`);
}

/** A reference to a path in a repo, which can end with `*`. `text` is what the user wrote. */
function gitReference(text: string, url: string, inside: string): GitEntry["reference"] {
  const segments = inside.split("/").filter((segment) => segment !== "");
  const all = segments.at(-1) === "*";
  const path = (all ? segments.slice(0, -1) : segments).join("/");
  if (/[/:]\.\.?(\/|$)/.test(`${url}//${path}`)) {
    throw new SyntaxError(`"." and ".." are not allowed in a URL or in a repo's path: ${quote(text)}`);
  }
  return { kind: "git", url: url.replace(/\/$/, ""), path, ...all && { all } };
}

/** Reads the words after a reference: `[as NAME] [trust] [for AGENT...]`. */
function parseClauses(words: string[], line: number): Pick<Entry, "as" | "trust" | "agents"> {
  const take = (word: string) => words[0] === word && words.shift() !== undefined;
  const as = take("as") ? words.shift() ?? "" : undefined;
  const trust = take("trust");
  const names = take("for") ? words.splice(0) : undefined;
  const unexpected = words[0] ?? names?.find((name) => KEYWORDS.includes(name));
  if (unexpected !== undefined) {
    throw new SyntaxError(
      `Unexpected ${quote(unexpected)}: an entry is REF [as NAME] [trust] [for AGENT...], without white space in REF`,
    );
  }
  if (as === "") throw new SyntaxError(`A name is missing after "as"`);
  if (names?.length === 0) throw new SyntaxError(`An agent is missing after "for"`);
  return { as, trust, agents: names && { line, names } };
}

/**
 * Reads a manifest.
 *
 * @param text The text of a `.skills` file. A byte order mark and CRLF are accepted.
 * @param localFile The path of the file if it is `.skills.local`, which has neither a mode nor skills from git.
 * @returns Its mode, its entries in order, and a problem for each invalid line.
 *
 * @example
 * ```ts
 * const { entries } = parseManifest("hq for claude  # the orchestrator\n");
 * entries[0]?.agents?.names; // ["claude"]
 * ```
 */
export function parseManifest(text: string, localFile?: string): { mode: Mode; entries: Entry[]; errors: Problem[] } {
  const entries: Entry[] = [];
  const errors: Problem[] = [];
  const file = localFile && { file: localFile };
  let mode: Mode | undefined;
  let current: Entry["agents"]; // of the last `for` line
  for (const [index, raw] of text.replace(/^\ufeff/, "").split("\n").entries()) {
    const line = index + 1;
    try {
      if (raw.length > MAX_LINE_BYTES / 4 && new TextEncoder().encode(raw).length > MAX_LINE_BYTES) {
        throw new SyntaxError("This line has more than 4,096 bytes");
      }
      if (raw.includes("\ufffd")) throw new SyntaxError("This line is not UTF-8"); // what the decoder makes of it
      if (raw.includes("\0")) throw new SyntaxError("This line contains a NUL");
      const [first = "", ...rest] = raw.replace(/(^|\s)#.*/, "").trim().split(/\s+/);
      if (first === "") continue;
      if (/^(<{7}|={7}|>{7})$/.test(first)) {
        throw new SyntaxError("This is a merge conflict: keep the lines you want");
      }
      if (first === "as" && rest.length > 0) throw new SyntaxError(`A reference is missing before "as"`);
      if (first === "for") {
        current = parseClauses(["for", ...rest], line).agents;
      } else if (first === "mode") {
        if (localFile) throw new SyntaxError("Only .skills can name a mode");
        if (mode || entries.length > 0) throw new SyntaxError('"mode" is only allowed once, above the first entry');
        mode = MODES.find((each) => each === rest.join(" "));
        if (mode === undefined) throw new SyntaxError(`"mode" needs one of ${MODES.join(", ")}`);
      } else {
        const reference = parseReference(first);
        if (localFile && reference.kind === "git") {
          throw new SyntaxError(`${quote(first)} is not a name or a path: only .skills can name skills from git`);
        }
        const { as, trust, agents = current } = parseClauses(rest, line);
        if (entries.length === MAX_ENTRIES) {
          errors.push({ ...file, line, message: `There are more than ${MAX_ENTRIES} entries` });
          break;
        }
        entries.push({ ...file, line, text: first, reference, as, trust, agents });
      }
    } catch (error) {
      if (!(error instanceof SyntaxError)) throw error;
      errors.push({ ...file, line, message: error.message });
    }
  }
  return { mode: mode ?? "link", entries, errors };
}

/** Why a name isn't allowed for a skill; `undefined` if it is. */
export function nameProblem(name: string): string | undefined {
  if (KEYWORDS.includes(name)) return `${quote(name)} is a keyword of .skills, not a skill name`;
  if (name.length <= 64 && /^[a-z0-9]+(-[a-z0-9]+)*$/.test(name)) return undefined;
  const rule = `${quote(name)} is not a skill name: 1 to 64 lowercase letters, digits and single hyphens`;
  const odd = /[^ -~]/u.exec(name)?.[0];
  if (odd) return `${rule}; it contains U+${codePoint(odd)}`;
  if (name.length > 64) return `${rule}; it has ${name.length} characters`;
  const similar = name.toLowerCase().replace(/[^a-z0-9]+/g, "-").replace(/^-|-$/g, "");
  return similar === "" ? rule : `${rule}, did you mean ${quote(similar)}?`;
}

function codePoint(character: string): string {
  return character.codePointAt(0)!.toString(16).toUpperCase().padStart(4, "0");
}

// ── Lockfile ────────────────────────────────────────────────────────────────────────────────────────────────────

/** What a git reference is locked to: enough to get the same files on every machine. */
interface Locked {
  commit: string;
  large?: true; // larger than a skill may be without `--allow-large`
  path: string; // the directory in the repo; "" for its root
  skills?: Record<string, string>; // of a reference to many skills: the git tree hash of each, by its path below `path`
  tree: string; // the git tree hash of the directory
  trusted?: string; // the tree hash for which hidden characters are trusted
  url: string;
}

/** What of a reference is deployed with `mode commit`. There is no other record of it, so a clone is complete. */
interface Recorded extends Partial<Pick<Locked, "tree" | "skills">> {
  link?: string; // what the links lead to, if they are links: the skill, or the directory of many
  targets: Map<string, string[]>; // the deployed names by target; all paths are relative to the project
}

interface Lockfile {
  locked: Map<string, Locked>; // by reference
  recorded: Map<string, Recorded>; // by reference; only with `mode commit`
}

const NO_LOCKFILE: Lockfile = { locked: new Map(), recorded: new Map() };

type GitEntry = Entry & { reference: Extract<Reference, { kind: "git" }> };

/** Whether a reference is to every skill in a directory. */
function isMany(reference: string): boolean {
  return /\/\*(#|$)/.test(reference);
}

function isGitEntry(entry: Entry): entry is GitEntry {
  return entry.reference.kind === "git";
}

const COMMIT = /^[0-9a-f]{40}$/;

function isHash(value: unknown): value is string {
  return typeof value === "string" && COMMIT.test(value);
}

/** Whether a value read from a lockfile is a normalized relative path. */
function isPathInside(value: unknown): value is string {
  return typeof value === "string" && !/(^|\/)\.{0,2}(\/|$)/.test(value);
}

/** Whether a value read from a lockfile is an entry that this program can have written. */
function isLocked({ commit, tree, url, path, skills, trusted, large }: Partial<Locked>): boolean {
  const all = Object.entries(skills ?? {});
  return isHash(commit) && isHash(tree) && typeof url === "string" && (path === "" || isPathInside(path)) &&
    (skills === undefined || all.length > 0) && all.every(([path, tree]) => isPathInside(path) && isHash(tree)) &&
    (trusted === undefined || isHash(trusted)) && (large === undefined || large === true);
}

/** Why use-skills doesn't deploy to a target, whose path is relative to the project; `undefined` if it may. */
function targetProblem(path: string): string | undefined {
  const { characters, levels } = MAX_TARGET_PATH;
  if (/(^|\/)\.git(\/|$)/i.test(path)) return "it is inside .git";
  if (path.length > characters) return `its path has more than ${characters} characters`;
  return path.split("/").length > levels ? `it is more than ${levels} levels deep` : undefined;
}

function isRecorded({ link, tree, skills }: Partial<Recorded>, targets: object): boolean {
  const trees = [tree, ...Object.values(skills ?? {})].filter((each) => each !== undefined);
  const isTarget = (path: string) => isPathInside(path) && targetProblem(path) === undefined;
  return trees.every(isHash) && (link === undefined ? trees.length > 0 : link === "." || isPathInside(link)) &&
    Object.entries(targets).every(([target, names]) =>
      isTarget(target) && Array.isArray(names) && names.every((name) => nameProblem(name) === undefined)
    );
}

function renderLockfileEntry(reference: string, values: object): string {
  const sorted = sortByKey(Object.entries(values).filter(([, value]) => value !== undefined));
  return `${JSON.stringify(reference)}: ${JSON.stringify(Object.fromEntries(sorted))}`;
}

/**
 * The text of a lockfile; `undefined` if there are no entries. It has one line per entry, sorted and with a comma at the
 * end, so that git can merge entries that were added on two branches.
 */
function renderLockfile({ locked, recorded }: Lockfile): string | undefined {
  const references = [...new Set([...recorded.keys(), ...locked.keys()])].sort();
  const lines = references.map((reference) => {
    const { targets, ...values } = recorded.get(reference) ?? {};
    const sorted = targets && Object.fromEntries(sortByKey(targets));
    return `${renderLockfileEntry(reference, { ...values, targets: sorted, ...locked.get(reference) })},\n`;
  });
  return lines.length === 0 ? undefined : `{\n${lines.join("")}"version": 2\n}\n`;
}

type LockfileValues = Locked & { link?: string; targets: Record<string, string[]> };

/** Reads the text of a lockfile, whose path is `shown` in messages. Only what this program writes is accepted. */
function parseLockfile(text: string, shown: string): Lockfile {
  const lockfile: Lockfile = { locked: new Map(), recorded: new Map() };
  const restore = "restore the file from git, or delete it and sync";
  const version = /"version": (\d+)/.exec(text)?.[1];
  if (Number(version) > 2) throw new UsageError(`${shown} was written by a newer use-skills: update this one`);
  const isOld = version === "1";
  const [start, end] = isOld ? [["{", '"skills": {'], ["},", '"version": 1', "}"]] : [["{"], ['"version": 2', "}"]];
  const frame = [...start, ...end]; // the lines around the entries that are still to come
  for (const [index, line] of text.trimEnd().split(/\r?\n/).entries()) {
    if (line === frame[0]) {
      frame.shift();
      continue;
    }
    const json = attempt(() => JSON.parse(`{${line.replace(/,$/, "")}}`)) ?? {};
    const [[reference, value] = ["", undefined]] = Object.entries<LockfileValues>(json);
    const written = `${renderLockfileEntry(reference, value ?? {})},`;
    const isFirst = !lockfile.locked.has(reference) && !lockfile.recorded.has(reference);
    if (frame.length !== end.length || !isFirst || written !== (isOld ? line.replace(/,?$/, ",") : line)) {
      throw new UsageError(
        `${shown}:${index + 1}: this is not as use-skills writes it. After a merge, keep one line per skill, a comma ` +
          `after each, and no conflict markers; otherwise ${restore}`,
      );
    }
    const { targets, link, ...locked } = value!;
    const recorded = { link, tree: locked.tree, skills: locked.skills };
    const isGit = locked.url !== undefined;
    const isValid = (!isGit || isLocked(locked)) && (isGit && !targets || attempt(() => isRecorded(recorded, targets)));
    if (!isValid) throw new UsageError(`${shown} has an invalid entry, ${quote(reference)}: ${restore}`);
    if (isGit) lockfile.locked.set(reference, locked);
    if (targets) lockfile.recorded.set(reference, { ...recorded, targets: new Map(Object.entries(targets)) });
  }
  if (frame.length > 0 || lockfile.locked.size + lockfile.recorded.size === 0) {
    throw new UsageError(`${shown} is not a lockfile: ${restore}`);
  }
  const targets = new Set(lockfile.recorded.values().flatMap(({ targets }) => targets.keys()));
  if (targets.size > MAX_RECORDED_TARGETS) {
    throw new UsageError(`${shown} names more than ${MAX_RECORDED_TARGETS} targets: ${restore}`);
  }
  return lockfile;
}

interface Files {
  manifest: string;
  mode: Mode;
  entries: Entry[]; // those of the manifest, then those of `.skills.local`
  lockfile: Lockfile;
  lockfileText?: string;
}

/** Reads a project's manifest or lockfile; `undefined` if it doesn't exist. */
function readProjectFile(path: string, project: Project, maxBytes?: number): string | undefined {
  try {
    return project.siblings.has(lastSegment(path)) ? readOwnFile(path, project, maxBytes) : undefined;
  } catch (error) {
    throw new UsageError(`Cannot read ${showHere(project, path)}: ${reasonOf(error)}`);
  }
}

/** The mode of a manifest, and all entries of a project. */
function readEntries(manifest: string, project: Project): Pick<Files, "mode" | "entries"> {
  const { mode, entries, errors } = parseManifest(manifest);
  const path = `${project.manifest}.local`;
  const local = project.global ? undefined : readProjectFile(path, project);
  if (mode === "commit" && project.global) {
    errors.push({ message: "A home is not committed: write mode link or mode copy" });
  }
  if (mode === "commit" && local !== undefined) {
    errors.push({ file: path, message: "Mode commit excludes this file: delete it, or choose another mode" });
  }
  const own = parseManifest(local ?? "", path);
  if (errors.length + own.errors.length > 0) throw new UsageError("", [...errors, ...own.errors]);
  return { mode, entries: [...entries, ...own.entries] };
}

function readLockfile(project: Project): Pick<Files, "lockfile" | "lockfileText"> {
  const path = `${project.manifest}.lock`;
  const lockfileText = readProjectFile(path, project, MAX_LOCKFILE_BYTES);
  const lockfile = lockfileText === undefined ? NO_LOCKFILE : parseLockfile(lockfileText, showHere(project, path));
  return { lockfile, lockfileText };
}

/** Reads what a command works on. `add` needs no manifest, and `clean` works although something can't be read. */
function readFiles(project: Project, command = "sync"): Files {
  if (command === "clean") {
    const lockfile = attempt(() => readLockfile(project)) ?? { lockfile: NO_LOCKFILE };
    return { manifest: "", mode: "link", entries: [], ...lockfile };
  }
  const manifest = readProjectFile(project.manifest, project) ?? (command === "add" ? "" : undefined);
  if (manifest === undefined) {
    const place = project.global ? showHere(project) : `.skills in ${project.directory} or above it in its repo`;
    throw new UsageError(`No ${place}: "use-skills.ts init${project.global ? " --global" : ""}" creates one`);
  }
  return { manifest, ...readEntries(manifest, project), ...readLockfile(project) };
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

/** Where a skill of an entry is. */
interface Located {
  source: string; // the skill's directory
  tree?: string; // the git tree hash of its content, if that is known
  absence?: string; // why its directory can't be used; with `mode commit`, its files may be in the project already
}

// ── Store: fetched skills, read-only, addressed by content hash ─────────────────────────────────────────────────

interface StoredSkill {
  name: string;
  path: string; // its path in the repo
  tree: string;
  directory: string; // where it is, or will be, in the store
}

/** Next to a stored skill that was checked: one of these two files. The second lists hidden characters. */
const CLEAN_MARKER = ".clean";
const HIDDEN_MARKER = ".hidden.json";

function storeDirectory(): string {
  return `${xdgDirectory("XDG_DATA_HOME", ".local/share")}/store`;
}

/** The path of the store, which another user must not be able to change. */
const trustedStore = memoize((path) => {
  refuseForeign(resolve(path, ".."));
  refuseForeign(path);
  return path;
});

function storedSkills({ url, path: top, tree, skills = { "": tree } }: Locked): StoredSkill[] {
  const store = trustedStore(storeDirectory());
  return Object.entries(skills).map(([inside, tree]) => {
    const path = [top, inside].filter((part) => part !== "").join("/");
    const name = lastSegment(path || url.replace(/^[^/:]*:|\.git$/g, ""));
    if (/^\.{0,2}$/.test(name) || [CLEAN_MARKER, HIDDEN_MARKER].includes(name) || name.length > 255) {
      throw new Error(`${quote(path)} cannot be a skill's path`);
    }
    return { name, path, tree, directory: `${store}/${tree}/${name}` };
  });
}

/**
 * The hidden characters of a stored skill; `undefined` if the store lacks it. A skill is renamed into the store as a
 * whole, after its marker was written, so only `check` reads its files.
 */
function hiddenInStore({ name, directory }: StoredSkill): string[] | undefined {
  const marker = (name: string) => resolve(directory, "..", name);
  const names = namesIn(marker("."));
  if (!names.has(name)) return undefined;
  if (!names.has(HIDDEN_MARKER)) return names.has(CLEAN_MARKER) ? [] : undefined;
  const hidden: string[] = attempt(() => JSON.parse(Deno.readTextFileSync(marker(HIDDEN_MARKER)))) ??
    ["unreadable list"];
  return hidden.map((each) => `${name}/${each}`);
}

/** Why a stored skill must not be deployed; `undefined` if it may. */
function hiddenProblem(skill: StoredSkill, entry: GitEntry, locked: Locked): string | undefined {
  const hidden = hiddenInStore(skill) ?? [];
  if (hidden.length === 0 || entry.trust && locked.trusted === locked.tree) return undefined;
  const more = hidden.length > 5 ? `; and ${hidden.length - 5} more` : "";
  const line = [entry.text, ...entry.as ? ["as", entry.as] : [], "trust"].join(" ");
  const wayOut = !entry.trust
    ? `read it in ${fromHome(skill.directory)}; if they are intended, write ${quote(line)} into .skills`
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

/** The skills that a git reference names, according to the lockfile and the store. */
function locateGit(entry: GitEntry, project: Project, { locked: all, recorded }: Lockfile): Located[] {
  const { text, reference } = entry;
  const problem = gitEntryProblem(entry, project);
  if (problem) throw new Error(problem);
  const locked = all.get(text);
  if (locked === undefined) throw new Error(`${quote(text)} is not fetched yet: run sync`);
  if (!isLockedFor(reference, locked)) {
    throw new Error(
      `${quote(text)} is locked to something else, ${quote(locked.url)}: delete its line from .skills.lock, then sync`,
    );
  }
  return storedSkills(locked).map((skill) => {
    const absence = hiddenInStore(skill) ? undefined : `${quote(text)} is not on this machine: run sync`;
    const problem = hiddenProblem(skill, entry, locked) ?? (recorded.has(text) ? undefined : absence);
    if (problem) throw new Error(problem);
    return { source: skill.directory, tree: skill.tree, absence };
  });
}

// ── Desired state ───────────────────────────────────────────────────────────────────────────────────────────────

/** A skill that the manifest asks for in a target. */
export interface Desired extends Located, Pick<Entry, "file" | "line"> {
  name: string;
  reference: string; // as written
}

/** A skills directory of one or more agents. */
interface Target {
  path: string; // its real path, also if it doesn't exist yet
  agents: string[]; // the agents that the manifest names for it
  variableOf?: string; // the agent whose directory this is because of an environment variable
  desired: Map<string, Desired>;
}

/** An agent's skills directory as written, before links are resolved. */
interface AgentDirectory {
  path: string;
  mayBeOutside: boolean; // it may be outside the project: an absolute path or an environment variable names it
  isVariable: boolean; // it depends on an environment variable
}

/** The skills directories of an agent, or the directory that is named instead of an agent. */
function agentDirectories(agent: string, project: Project, mode: Mode = "link"): AgentDirectory[] {
  if (/^(\.\.?|~)?\//.test(agent)) {
    return [{ path: expand(agent, project), mayBeOutside: !agent.startsWith("."), isVariable: false }];
  }
  const known = Object.hasOwn(AGENTS, agent) ? AGENTS[agent] : undefined;
  if (known === undefined) throw new Error(`Unknown agent ${quote(agent)}${suggestion(agent, Object.keys(AGENTS))}`);
  return (project.global ? [known.home ?? []].flat() : known.project).flatMap((template) => {
    const [, variable, fallback, rest = template] = /^\$\{?(\w+)(?::-([^}]+)\})?\/(.+)$/.exec(template) ?? [];
    const value = variable && environment(variable);
    if (variable && !value && !fallback || variable && mode === "commit") return [];
    const path = resolve(project.directory, value ?? fallback ?? ".", rest);
    const mayBeOutside = value !== undefined && !isWrittenInside(path, project);
    return { path, mayBeOutside, isVariable: variable !== undefined };
  });
}

/** Whether a path as written, before links in the project are followed, is in the project. */
function isWrittenInside(path: string, project: Project): boolean {
  if (below(project.directory, path) !== undefined) return true;
  for (let parent = path; parent !== "/"; parent = resolve(parent, "..")) {
    if (attempt(() => Deno.realPathSync(parent)) === project.directory) return true;
  }
  return false;
}

function knownDirectories(project: Project): { agent: string; path: string }[] {
  return Object.keys(AGENTS).flatMap((agent) => agentDirectories(agent, project).map(({ path }) => ({ agent, path })));
}

/**
 * The real path of a directory, also if it or those above it don't exist yet. A link to an agent's directory need not
 * lead anywhere: a fresh clone can contain a link to a target before the target. That must be where its text says, so on
 * the way to it, there are no other links.
 */
function realDirectory(path: string, project: Project, mayBeLinked = true): string {
  let real = below(project.directory, path) === undefined ? "/" : project.directory;
  const segments = path.slice(real.length).split("/").filter((segment) => segment !== "");
  while (segments.length > 0) {
    const next = resolve(real, segments.shift()!);
    const info = ifExists(() => Deno.lstatSync(next));
    if (info === undefined) return resolve(next, ...segments);
    if (!info.isDirectory && !(info.isSymlink && mayBeLinked)) throw new Error(`${next} is not a directory`);
    const found = info.isSymlink ? attempt(() => Deno.realPathSync(next)) : next;
    real = found ?? resolve(next, "..", Deno.readLinkSync(next));
    const isAgents = () => knownDirectories(project).some(({ path }) => below(real, path) !== undefined);
    if (!found && !(isAgents() && attempt(() => realDirectory(real, project, false)))) {
      throw new Error(`${next} is a broken link`);
    }
  }
  return real;
}

/** The real path of a target. `isKnown` says whether the project has deployed to a path before. */
function targetPath(
  { path, mayBeOutside, isVariable }: AgentDirectory,
  project: Project,
  mode: Mode,
  isKnown: (path: string) => boolean,
): string {
  try {
    const real = realDirectory(path, project);
    const inside = below(project.directory, real);
    const problem = targetProblem(inside ?? real);
    if (problem) throw new Error(problem);
    if (real === project.directory) throw new Error("it is the project's directory");
    const isAgents = () => knownDirectories(project).some(({ path }) => path === real);
    if (inside !== undefined) {
      if (!isRestricted() || isKnown(real) || isAgents()) return real;
      throw new Error(`it is new, and no agent's directory: run ${quote(thisCommand())} once`); // It can be in node_modules.
    }
    if (mode === "commit") throw new Error("mode commit deploys only into the project");
    if (!mayBeOutside) throw new Error(`it leads out of the project, to ${real}: name that path if you want this`);
    if (project.global || isVariable && mayBeOutside || isKnown(real) || !isRestricted()) return real;
    throw new Error(`it is new and outside the project: run ${quote(thisCommand())} once`);
  } catch (error) {
    throw new Error(`Cannot deploy to ${show(path, project)}: ${reasonOf(error)}`);
  }
}

/** Whether direnv runs this without having asked the user: nothing new may be fetched, locked or put elsewhere. */
function isRestricted(): boolean {
  return environment("DIRENV_IN_ENVRC") !== undefined && environment("SKILLS_ALLOWED") !== "1";
}

/** What to do about what a frozen run must not do. */
function frozenWayOut(): string {
  return isRestricted()
    ? `run "${thisCommand()}" once`
    : "--frozen (or CI=true) doesn't change .skills.lock, so run sync without it and commit that file";
}

function thisCommand(): string {
  const script = import.meta.filename;
  if (script === undefined) return `deno run -A ${import.meta.url}`;
  // Under direnv, the user can be in another directory.
  const path = environment("DIRENV_IN_ENVRC") ? undefined : below(Deno.cwd(), script);
  return `deno run -A --no-config ${shellWord(path ?? fromHome(script))}`;
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

/** The names of the directories in `directory`, also behind links. */
function subdirectories(directory: string): string[] {
  return [...Deno.readDirSync(directory)].filter((entry) =>
    entry.isDirectory || entry.isSymlink && attempt(() => Deno.statSync(`${directory}/${entry.name}`))?.isDirectory
  ).map(({ name }) => name);
}

/** A checkout of use-skills that has a skill, as users write its path. */
function findCheckout(skill: string): string | undefined {
  const home = environment("HOME");
  const checkouts = [environment("USE_SKILLS")?.replace(/\/[^/]*$/, ""), home && `${home}/use-skills`];
  const found = checkouts.find((checkout) => checkout && exists(`${checkout}/skills/${skill}/SKILL.md`));
  return found && fromHome(found);
}

/** Returns a function that finds a skill's directory by its name. */
function nameFinder(project: Project): (name: string) => string {
  const listing = memoize((place) => new Set(attempt(() => subdirectories(place))));
  return (name) => {
    const problem = nameProblem(name);
    if (problem) throw new Error(problem);
    for (const place of searchPath(project)) if (listing(place).has(name)) return `${place}/${name}`;
    const places = [...new Set([resolve(project.manifest, "../skills"), ...searchPath(project)])];
    const searched = places.map((place) => show(place, project).replace(/^(?![~/])/, "./")).join(", ");
    const example = `${findCheckout(name) ?? "~/use-skills"}/skills/${name}`;
    const near = suggestion(name, places.flatMap((place) => [...listing(place)]));
    throw new Error(
      `No skill ${quote(name)} in ${searched}${near ? `${near} Otherwise` : ":"} write the path of its folder, ` +
        `for example ${example}, or set SKILLS_PATH`,
    );
  };
}

/** The name an entry is deployed under; "" for one that names many skills. */
function deployedName({ reference, as }: Entry, project: Project): string {
  if (reference.all) return "";
  if (as !== undefined) return as;
  if (reference.kind === "name") return reference.name;
  if (reference.kind === "path") return lastSegment(attempt(() => expand(reference.path, project)) ?? reference.path);
  const { url, path, tail } = reference;
  return lastSegment((tail ?? (path || url)).replace(/^[^/:]*:/, "")).replace(/\.git$/, "");
}

/** The skill's directory at a path, or those of all skills directly in it. */
function locatePath(path: string, entry: Entry, skillsIn: (path: string) => string[] | undefined): string[] {
  const { text, as, reference } = entry;
  if (!reference.all) {
    const info = ifExists(() => Deno.statSync(path));
    if (info?.isDirectory) return [path];
    throw new Error(info ? `${quote(text)} is a file: name the skill's directory` : `${quote(text)} does not exist`);
  }
  if (as !== undefined) throw new Error(`"as" needs one skill, but ${quote(text)} names many`);
  const skills = skillsIn(path);
  if (skills) return skills;
  throw new Error(`The directory of ${quote(text)} ${exists(path) ? "cannot be read" : "does not exist"}`);
}

/** The skills of an entry that this machine lacks, if the project contains their files, as a clone does. */
function locateRecorded({ reference, text }: Entry, project: Project, { recorded }: Lockfile, error: Error): Located[] {
  const { tree, skills = {} } = recorded.get(text) ?? {};
  const written = reference.kind === "path" ? reference.path : `./skills/${text}`;
  const path = attempt(() => expand(written, project)) ?? resolve(project.directory, written);
  const trees = tree === undefined ? Object.entries(skills) : [["", tree] as const];
  return trees.map(([name, tree]) => ({ source: resolve(path, name), tree, absence: reasonOf(error) }));
}

/** What stays if an entry fails: the name it deploys; of many, the directory they are in, or their names. */
function namesOf(entry: Entry, project: Project, { locked, recorded }: Lockfile): string[] {
  const { reference, text } = entry;
  if (!reference.all) return [deployedName(entry, project)];
  if (reference.kind === "path") {
    const names = [...recorded.get(text)?.targets.values() ?? []].flat(); // of links, which don't say the directory
    return [...attempt(() => [expand(reference.path, project)]) ?? [], ...names];
  }
  const known = locked.get(text);
  return known ? attempt(() => storedSkills(known).map(({ name }) => name)) ?? [] : [];
}

/**
 * Finds the skills and targets that entries name. `failures` says why references could not be fetched, by their text,
 * and `isKnown` whether the project has deployed to a path before.
 */
function findDesired(
  { mode, entries, lockfile }: Pick<Files, "mode" | "entries" | "lockfile">,
  project: Project,
  failures: ReadonlyMap<string, string> = new Map(),
  isKnown: (path: string) => boolean = () => true,
) {
  const targets = new Map<string, Target>(); // by path
  const kept = new Set<string>(); // what stays because entries failed: names, directories of `DIRECTORY/*`, references
  const problems: Problem[] = [];
  const targetsOf = memoize((agent) => {
    const directories = agentDirectories(agent, project, mode);
    if (directories.length === 0) {
      throw new Error(`${quote(agent)} reads no skills in a ${project.global ? "home" : "project"}`);
    }
    return directories.map((directory) => {
      const path = targetPath(directory, project, mode, isKnown);
      if (targets.size >= MAX_TARGETS && !targets.has(path)) {
        throw new Error(`There are more than ${MAX_TARGETS} targets`);
      }
      // What is deployed to one could lead the other anywhere.
      const nested = targets.keys().find((other) => other !== path && (below(other, path) ?? below(path, other)));
      if (nested !== undefined) {
        throw new Error(
          `Cannot deploy to both ${show(path, project)} and ${show(nested, project)}: one is in the other`,
        );
      }
      const target: Target = targets.get(path) ?? { path, agents: [], desired: new Map() };
      if (directory.isVariable) target.variableOf = agent;
      target.agents.push(agent);
      targets.set(path, target);
      return target;
    });
  });
  const findByName = nameFinder(project);
  const skillsIn = memoize((path) =>
    attempt(() => subdirectories(path))?.sort().map((name) => `${path}/${name}`)
      .filter((skill) => exists(`${skill}/SKILL.md`))
  );
  const locate = (entry: Entry): Located[] => {
    const { text, reference } = entry;
    const failure = failures.get(text);
    if (failure !== undefined) throw new Error(failure);
    if (mode === "commit" && text === "version") { // The lockfile has a value of that name.
      throw new Error('"version" needs its path in mode commit, for example ./skills/version');
    }
    try {
      if (reference.kind === "name") return [{ source: findByName(reference.name) }];
      if (reference.kind === "git") return locateGit(entry as GitEntry, project, lockfile);
      return locatePath(expand(reference.path, project), entry, skillsIn).map((source) => ({ source }));
    } catch (error) {
      const recorded = mode === "commit" ? locateRecorded(entry, project, lockfile, error as Error) : [];
      if (recorded.length === 0) throw error;
      return recorded;
    }
  };
  const add = (target: Target, desired: Desired) => {
    const { name, file, line, source } = desired;
    if (file && kept.has(name)) return; // The manifest's entry of that name failed, and keeps what it deployed.
    const earlier = target.desired.get(name) ?? desired;
    target.desired.set(name, earlier);
    if (earlier.source === source || earlier.file !== file) return; // The manifest overrides `.skills.local`.
    if (attempt(() => Deno.realPathSync(earlier.source) === Deno.realPathSync(source))) return;
    if (desired.absence) kept.add(desired.reference); // It could not be deployed again.
    const areMany = [desired, earlier].every(({ reference }) => isMany(reference));
    const wayOut = areMany
      ? "replace one of the entries by entries for single skills"
      : 'write "as NAME" after one of them';
    const shown = ({ tree, reference, source }: Desired) => tree === undefined ? show(source, project) : reference;
    const both = `${shown(desired)} here and ${shown(earlier)} in line ${earlier.line}`;
    problems.push({ file, line, name, message: `${quote(name)} names two skills, ${both}: ${wayOut}` });
  };

  for (const entry of entries) {
    const { file, line, text, as } = entry;
    const listOrFail = <T>(problem: Omit<Problem, "message">, list: () => T[]): T[] => {
      try {
        return list();
      } catch (error) {
        problems.push({ file, ...problem, message: reasonOf(error) });
        for (const name of [text, ...namesOf(entry, project, lockfile)]) kept.add(name);
        return [];
      }
    };
    const agents = entry.agents ?? { line, names: DEFAULT_AGENTS };
    const entryTargets = agents.names.flatMap((agent) => listOrFail({ line: agents.line }, () => targetsOf(agent)));
    const name = deployedName(entry, project) || undefined;
    for (const located of listOrFail({ line, name }, () => locate(entry))) {
      const skillName = as ?? lastSegment(located.source);
      const problem = nameProblem(skillName);
      if (problem) {
        const rename = problem.endsWith("?") ? " Rename" : ": rename";
        const wayOut = as ? "" : `${rename} the directory, or write "as NAME" after its path`;
        problems.push({ file, line, name: skillName, message: problem + wayOut });
        continue;
      }
      for (const target of entryTargets) add(target, { ...located, name: skillName, file, line, reference: text });
    }
  }
  return { targets, kept, problems };
}

// ── Content: the files of a skill, and git's hash of them ───────────────────────────────────────────────────────

interface Item {
  path: string; // relative to the directory
  info: Deno.FileInfo;
}

/** Lists everything below a directory, each directory before what is in it. Links are not followed. */
function* walk(directory: string, ignored: readonly string[] = [], prefix = ""): Generator<Item> {
  for (const { name } of Deno.readDirSync(`${directory}/${prefix}`)) {
    if (ignored.includes(name)) continue;
    const path = prefix + name;
    const info = Deno.lstatSync(`${directory}/${path}`);
    yield { path, info };
    if (info.isDirectory) yield* walk(directory, ignored, `${path}/`);
  }
}

function isExecutable(info: Deno.FileInfo): boolean {
  return ((info.mode ?? 0) & 0o111) !== 0;
}

/**
 * Lists a skill that is to be copied, or a copy. Refuses what would make a copy incomplete or include something from
 * outside: a link that leads out of the skill or nowhere, a socket, or a device.
 */
function listContent(directory: string, ignored: readonly string[]): Item[] {
  const top = Deno.realPathSync(directory);
  const items = [...walk(directory, ignored)];
  for (const { path, info } of items) {
    if (info.size > MAX_COPIED_FILE_BYTES) {
      throw new Error(`${quote(path)} has more than ${MAX_COPIED_FILE_BYTES / 2 ** 20} MiB`);
    }
    if (info.isDirectory || info.isFile) continue;
    if (!info.isSymlink) throw new Error(`${quote(path)} is not a file, a directory or a link`);
    const text = Deno.readLinkSync(`${directory}/${path}`);
    const real = attempt(() => Deno.realPathSync(`${directory}/${path}`));
    // Where it leads by its text counts, too: a copy of it must not lead to the original.
    const isInside = !text.startsWith("/") && below("/skill", resolve("/skill", path, "..", text)) !== undefined;
    if (isInside && real === undefined) throw new Error(`the link ${quote(path)} is broken`);
    if (isInside && below(top, real!) !== undefined) continue;
    throw new Error(`the link ${quote(path)} leads out of the skill, to ${quote(text)}`);
  }
  return items;
}

/**
 * The hash that git gives the content of a skill or a copy. Like git, it ignores empty directories.
 * Source: https://git-scm.com/book/en/v2/Git-Internals-Git-Objects
 */
async function treeHash(directory: string, ignored: readonly string[] = []): Promise<string> {
  const hashObject = async (type: string, content: Uint8Array) =>
    new Uint8Array(await crypto.subtle.digest("SHA-1", concat(`${type} ${content.length}\0`, content)));
  const trees = new Map<string, [string, Uint8Array][]>(); // the entries of each directory
  const hashTree = (path: string) =>
    hashObject("tree", concat(...sortByKey(trees.get(path) ?? []).map(([, entry]) => entry)));
  const add = async ({ path, info }: Item) => {
    const { isDirectory, isSymlink } = info;
    if (isDirectory && !trees.has(path)) return;
    const [name, place] = [lastSegment(path), `${directory}/${path}`];
    const mode = isDirectory ? "40000" : isSymlink ? "120000" : isExecutable(info) ? "100755" : "100644";
    const hash = isDirectory
      ? await hashTree(path)
      : await hashObject("blob", isSymlink ? concat(Deno.readLinkSync(place)) : Deno.readFileSync(place));
    const key = concat(isDirectory ? `${name}/` : name).toHex(); // Git sorts by bytes, and a directory as NAME/.
    const parent = path.slice(0, -name.length - 1);
    if (!trees.has(parent)) trees.set(parent, []);
    trees.get(parent)!.push([key, concat(`${mode} ${name}\0`, hash)]);
  };
  // Some are hashed at once, because that waits for another thread, but not much, because it is in memory until then.
  const hashing: Promise<void>[] = [];
  let bytes = 0;
  for (const item of listContent(directory, ignored).reverse()) { // A directory comes after what is in it.
    if (item.info.isDirectory || hashing.length === 4 || bytes >= 2 ** 20) {
      await Promise.all(hashing.splice(0));
      bytes = 0;
    }
    hashing.push(add(item));
    bytes += item.info.size;
  }
  await Promise.all(hashing);
  return (await hashTree("")).toHex();
}

async function contentHash(directory: string, ignored?: readonly string[]): Promise<string | undefined> {
  return await treeHash(directory, ignored).catch(() => undefined);
}

/** The hash of a copy: one of those expected, if it only differs by what other programs left in it. */
async function copyHash(directory: string, expected: readonly (string | undefined)[]): Promise<string | undefined> {
  const hash = await contentHash(directory);
  if (expected.includes(hash)) return hash;
  const without = await contentHash(directory, LEFT_BEHIND);
  return expected.includes(without) ? without : hash;
}

/** Copies a skill, with the two modes that git knows. `tree` is its hash if it comes from git. */
function copyContent({ source, tree }: Desired, destination: string): void {
  Deno.mkdirSync(destination);
  for (const { path, info } of listContent(source, tree === undefined ? LEFT_BEHIND : [])) {
    const [from, to] = [`${source}/${path}`, `${destination}/${path}`];
    if (info.isDirectory) Deno.mkdirSync(to);
    else if (info.isSymlink) Deno.symlinkSync(Deno.readLinkSync(from), to);
    else {
      Deno.copyFileSync(from, to);
      Deno.chmodSync(to, isExecutable(info) ? 0o755 : 0o644);
    }
  }
}

/** Removes something owned, also read-only directories. It's fine if it doesn't exist. */
function removeAll(path: string): void {
  try {
    ifExists(() => Deno.removeSync(path, { recursive: true }));
  } catch (error) {
    if (!(error instanceof Deno.errors.PermissionDenied) || !isRealDirectory(path)) throw error;
    Deno.chmodSync(path, 0o755);
    for (const { name, isDirectory } of Deno.readDirSync(path)) if (isDirectory) removeAll(`${path}/${name}`);
    Deno.removeSync(path, { recursive: true });
  }
}

// ── Actual state: what is in a target, and which targets a project has ──────────────────────────────────────────

/** What was created under a name: a link with this text, or with `copy` a copy of what that link would lead to. */
interface Form {
  target: string;
  copy?: string; // the git tree hash of the copy
}

/** An entry of a target's state file: what is owned, and by which projects. */
interface Owned extends Form {
  was?: Form[]; // only while a run is creating this: what it replaces, which is owned, too
  for: string[]; // the manifests of the owners: relative to the target if the target is in the project, else absolute
}

/** What is in a target under a name. */
type Actual =
  | { kind: "nothing" | "file" }
  | { kind: "link"; text: string; isDesired: boolean } // `isDesired`: it leads to the desired skill
  /** `hash`: of its content, only computed if it can be an owned copy. `isDesired`: it isn't owned, but has the desired content. */
  | { kind: "directory"; hash?: string; isDesired?: boolean };

/** Whether a value read from a state file is an entry that this program can have written. */
function isOwned(owned: Owned | null): boolean {
  const isForm = (form: Form | null) =>
    typeof form?.target === "string" && ["string", "undefined"].includes(typeof form.copy);
  return isForm(owned) && Array.isArray(owned?.for) && owned.for.every((owner) => typeof owner === "string") &&
    (owned.was === undefined || Array.isArray(owned.was) && owned.was.every(isForm));
}

/** Reads a target's state file. A damaged one counts as missing: desired links are then adopted again. */
function readState(target: string, entries: Names): { entries: Map<string, Owned>; text?: string } {
  const entry = entries.get(STATE_FILE);
  if (entry === undefined) return { entries: new Map() };
  if (!entry.isFile) throw new Error(`its ${STATE_FILE} is not a regular file: delete it`);
  if (Deno.lstatSync(`${target}/${STATE_FILE}`).size > MAX_FILE_BYTES) {
    throw new Error(`its ${STATE_FILE} has more than ${MAX_FILE_BYTES / 2 ** 20} MiB: delete it`);
  }
  const text = Deno.readTextFileSync(`${target}/${STATE_FILE}`);
  const { version, entries: known } = attempt(() => JSON.parse(text)) ?? {};
  if (version > 1) throw new Error(`its ${STATE_FILE} was written by a newer use-skills: update this one`);
  const owned = version === 1 && typeof known === "object" ? Object.entries<Owned>(known ?? {}) : [];
  return { entries: new Map(owned.filter(([name, each]) => !nameProblem(name) && isOwned(each))), text };
}

/** The text of a state file, one line per entry; `undefined` if nothing is owned. */
function renderState(entries: ReadonlyMap<string, Owned>): string | undefined {
  const lines = sortByKey(entries).map(([name, owned]) => `"${name}":${JSON.stringify(owned)}`);
  return lines.length === 0 ? undefined : `{"version":1,"entries":{\n${lines.join(",\n")}\n}}\n`;
}

/** The text of a target's `.gitignore`. The checksum shows whether the user has edited it since. */
function renderIgnore(entries: ReadonlyMap<string, Owned>): string | undefined {
  const names = [...entries.keys()].sort().map((name) => `/${name}\n`);
  const text = `/.gitignore\n/.use-skills.*\n${names.join("")}`;
  return entries.size === 0 ? undefined : `# Written by use-skills, checksum ${fnv1a(text)}\n${text}`;
}

/** Whether the text of a `.gitignore` is as this program wrote it, at some time. */
function isUnedited(text: string): boolean {
  const [, checksum, lines = ""] = /^# Written by use-skills, (?:checksum|sum) ([0-9a-f]+)\n([^]*)$/.exec(text) ?? [];
  return checksum === fnv1a(lines);
}

/** Which targets a project has deployed to. A killed run can have recorded one that it did not create. */
interface TargetIndex {
  targets: Map<string, IndexedTarget>; // by path
  elsewhere: Map<string, IndexedTarget>; // those from which a link leads elsewhere now
  text?: string; // as it was read; `undefined` if it doesn't exist
}

interface IndexedTarget {
  parents: number; // how many directories above it use-skills created; -1 if only the lockfile names it
  agent?: string; // the target's `variableOf`
}

function indexDirectory(): string {
  return xdgDirectory("XDG_STATE_HOME", ".local/state");
}

function indexPath(project: Project): string {
  return `${indexDirectory()}/${fileNameOf(project.manifest)}.json`;
}

/** Reads a target index, and the manifest of its project. A damaged one counts as missing. */
function readIndexFile(path: string): TargetIndex & { manifest: string } {
  const text = attempt(() => Deno.readTextFileSync(path));
  const { manifest, targets } = attempt(() => JSON.parse(text ?? "{}")) ?? {};
  const valid = Object.entries<IndexedTarget>(targets ?? {})
    .filter(([target, each]) => target.startsWith("/") && Number.isInteger(each?.parents) && each.parents >= 0);
  return { manifest: `${manifest}`, targets: new Map(valid), elsewhere: new Map(), text };
}

function renderIndex(targets: TargetIndex["targets"], { manifest }: Project): string | undefined {
  const created = sortByKey(targets).filter(([, { parents }]) => parents >= 0);
  const content = { version: 1, manifest, targets: Object.fromEntries(created) };
  return created.length === 0 ? undefined : `${JSON.stringify(content, undefined, 1)}\n`;
}

/**
 * The target index of a project. A project that was moved here has none, but the state files of its targets still name
 * it, so the targets of all known agents are examined.
 */
function readIndex(project: Project, { recorded }: Lockfile = NO_LOCKFILE): TargetIndex {
  const index = readIndexFile(attempt(() => indexPath(project)) ?? "");
  for (const path of recorded.values().flatMap(({ targets }) => targets.keys())) {
    const target = resolve(project.directory, path);
    if (!index.targets.has(target)) index.targets.set(target, { parents: -1 });
  }
  // If a link leads elsewhere now, use-skills has created nothing there, and nothing there may change.
  const isReal = (path: string) => attempt(() => realDirectory(path, project)) === path;
  for (const [path, target] of index.targets) {
    if (isReal(path)) continue;
    index.targets.delete(path);
    index.elsewhere.set(path, target); // It may be as before some day.
  }
  if (index.targets.size > 0 || project.global) return index;
  for (const { path } of knownDirectories(project)) {
    const inside = below(project.directory, path);
    if (inside === undefined || !project.siblings.has(inside.split("/", 1)[0]!) || !isReal(path)) continue;
    const owner = pathsFrom(path, project.directory)(project.manifest);
    const entries = attempt(() => readState(path, namesIn(path)).entries);
    if (entries?.values().some((owned) => owned.for.includes(owner))) index.targets.set(path, { parents: 0 });
  }
  return index;
}

function readAllIndexes(): (TargetIndex & { manifest: string })[] {
  const directory = attempt(indexDirectory) ?? "";
  return [...namesIn(directory).keys()].filter((name) => name.endsWith(".json"))
    .map((name) => readIndexFile(`${directory}/${name}`));
}

/** What the lockfile records as deployed to a target, by name. */
function recordedForms(target: string, project: Project, { recorded }: Lockfile): Map<string, Form> {
  const forms = new Map<string, Form>();
  const linkTo = pathsFrom(target, project.directory);
  const path = below(project.directory, target) ?? "";
  for (const [reference, { targets, link, tree, skills }] of recorded) {
    const names = targets.get(path) ?? [];
    const many = names.length > 0 ? Object.entries(skills ?? {}).reverse() : []; // Of several with a name, the first counts.
    const copies = new Map(many.map(([path, tree]) => [lastSegment(path), tree]));
    for (const name of names) {
      const copy = skills ? copies.get(name) : tree;
      if (copy !== undefined) forms.set(name, { target: reference, copy });
      else if (link) {
        forms.set(name, { target: linkTo(resolve(project.directory, link, isMany(reference) ? name : "")) });
      }
    }
  }
  return forms;
}

// ── Plan ────────────────────────────────────────────────────────────────────────────────────────────────────────

/** What happens to a name in a target. */
export interface Action {
  /**
   * `ok`: nothing. `keep`: nothing, because the entry failed. `adopt`: record what is there as owned. `release`: record
   * as no longer owned what the user has changed. `conflict`: report what is where the skill should go.
   */
  kind: "ok" | "keep" | "link" | "relink" | "copy" | "recopy" | "adopt" | "prune" | "release" | "conflict";
  name: string;
  reason: string;
  actual: Actual;
  desired?: Desired;
  form?: Form; // what is to be there
  owned?: Form; // what is there, if it is owned
  next?: Owned; // the entry of the state file afterwards
}

/** Everything that the decision about a name depends on. */
export interface Situation extends Pick<Action, "name" | "desired" | "form" | "actual"> {
  owned?: Owned; // the entry of the state file
  isKept: boolean; // it must not be pruned: its entry failed, or the target depends on an unset variable
  owner: string; // the manifest that is deployed, as a state file names it
  isAlive: (owner: string) => boolean; // whether the manifest of an owner still exists
}

function formsOf(owned: Owned | undefined): Form[] {
  return owned === undefined ? [] : [owned, ...owned.was ?? []];
}

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
  // An edited copy may have become equal to what is desired.
  const current = [...formsOf(owned), ...owned && form?.copy ? [form] : []].find(({ target, copy }) =>
    copy === undefined
      ? actual.kind === "link" && actual.text === target
      : actual.kind === "directory" && actual.hash === copy
  );
  const others = owned?.for.filter((other) => other !== owner && isAlive(other)) ?? [];
  const isOwner = owned?.for.includes(owner) ?? false;
  const action = (kind: Action["kind"], reason: string, next?: Owned): Action => {
    return { kind, name, reason, actual, desired, form, owned: current, next };
  };
  const record = ({ target, copy }: Form, owners: string[]): Owned => ({ target, copy, for: owners });

  if (form === undefined) {
    if (owned === undefined) return action("keep", "");
    if (isKept && isOwner) return action("keep", "", record(current ?? owned, owned.for));
    if (others.length > 0) return action("ok", "", record(current ?? owned, others));
    if (current) return action("prune", isOwner ? "it is no longer desired" : "no project wants it any more");
    return actual.kind === "nothing" ? action("ok", "") : action("release", obstacle(actual, owned));
  }

  // For example, another tool installed it. It satisfies the entry, but is not owned.
  if (actual.kind === "directory" && actual.isDesired) return action("ok", "");
  const isLinked = actual.kind === "link" && actual.isDesired;
  const next = (form: Form) => record(form, [...others, owner].sort());
  if (owned && others.length > 0 && !isLinked && owned.target !== form.target) {
    const reason = `${others[0]} has another skill of that name there`;
    return action("conflict", reason, record(current ?? owned, others));
  }
  if (form.copy === undefined ? isLinked : current?.copy === form.copy) {
    const kind = current !== undefined && isOwner ? "ok" : "adopt";
    return action(kind, "it is as desired", next(actual.kind === "link" ? { target: actual.text } : form));
  }
  if (actual.kind === "nothing") return action(form.copy ? "copy" : "link", "nothing is there", next(form));
  if (current === undefined) {
    const isEditedCopy = actual.kind === "directory" && owned?.copy !== undefined;
    return action("conflict", obstacle(actual, owned), isEditedCopy ? record(owned, owned.for) : undefined);
  }
  if (others.length > 0) return action("ok", "", next(current)); // Another project chose between link and copy.
  const isSameForm = (current.copy === undefined) === (form.copy === undefined);
  const change = isSameForm ? "the skill changed" : form.copy ? "it is a link" : "it is a copy";
  const reason = current.target === form.target ? change : `it is from ${current.target}`;
  return action(form.copy ? "recopy" : "relink", reason, next(form));
}

function isChange({ kind }: Action): boolean {
  return kind !== "ok" && kind !== "keep" && kind !== "conflict";
}

interface PlannedAction extends Action {
  path: string;
  agents: string[];
}

interface TargetPlan {
  target: Target;
  state: ReturnType<typeof readState>;
  actions: PlannedAction[];
  next: Map<string, Owned>; // what is owned afterwards
  isLeft: boolean; // what the lockfile records is left to a run that isn't frozen
  recordedFor?: string; // with `mode commit`, the owner whose entries the lockfile records instead of the state file
  unrecorded: ReadonlySet<string>; // what stays in the state file, because this run can't record it in the lockfile
  foreign: Set<string>; // files that stay as they are: the user's own `.gitignore` and `.gitattributes`
  isSettled: boolean; // nothing has to be written
}

function stateAfter({ next, recordedFor, unrecorded }: TargetPlan): Map<string, Owned> {
  const stays = ([name, owned]: [string, Owned]) =>
    unrecorded.has(name) || owned.for.some((owner) => owner !== recordedFor);
  return new Map([...next].filter(stays));
}

/** What the user is to commit with `mode commit`: what is owned, and directories of others that have the desired content. */
function toCommit({ actions, next, recordedFor, unrecorded }: TargetPlan): (readonly [name: string, form: Form])[] {
  if (recordedFor === undefined) return [];
  const owned = sortByKey(next).filter(([name, each]) => !unrecorded.has(name) && each.for.includes(recordedFor));
  const satisfied = actions.flatMap(({ name, actual, form, next }): [string, Form][] =>
    form && !next && actual.kind === "directory" && actual.isDesired ? [[name, form]] : []
  );
  return [...owned, ...satisfied];
}

/** The text of the target's `.gitattributes` after a deployment; `undefined` if it needs none. */
function attributesAfter(plan: TargetPlan): string | undefined {
  return toCommit(plan).some(([, { copy }]) => copy) ? ATTRIBUTES : undefined;
}

/** Whether something is in a target that only a killed run leaves there. */
function hasDebris(entries: Names): boolean {
  return entries.get(TEMPORARY)?.isFile === true || entries.get(STAGING)?.isDirectory === true;
}

/**
 * Whether a target is byte for byte as a first deployment of links leaves it. This is the usual case, and all that a
 * `cd` has to wait for.
 */
function isAsDeployed(path: string, project: Project, entries: Names, expected: ReadonlyMap<string, Owned>): boolean {
  const isFile = (name: string, text: string | undefined) =>
    entries.get(name)?.isFile === true && attempt(() => readOwnFile(`${path}/${name}`, project)) === text;
  const isLink = (name: string, text: string) =>
    entries.get(name)?.isSymlink === true && Deno.readLinkSync(`${path}/${name}`) === text;
  return expected.size > 0 && !hasDebris(entries) &&
    isFile(STATE_FILE, renderState(expected)) && isFile(".gitignore", renderIgnore(expected)) &&
    expected.entries().every(([name, { target }]) => isLink(name, target));
}

/** The files in a directory and their sizes, which are compared before contents are read. */
function outline(directory: string): string {
  return [...walk(directory, LEFT_BEHIND)].filter(({ info }) => !info.isDirectory)
    .map(({ path, info }) => `${path}\0${info.size}`).sort().join("\n");
}

/** Looks at a name in a target. `entry` is what the target's listing says about it. */
async function examine(
  path: string,
  entry: Deno.DirEntry | undefined,
  { owned, desired, form }: Pick<Situation, "owned" | "desired" | "form">,
): Promise<Actual> {
  if (entry === undefined) return { kind: "nothing" };
  if (entry.isDirectory) {
    const copies = formsOf(owned).flatMap(({ copy }) => copy ?? []);
    const hash = copies.length > 0 ? await copyHash(path, [...copies, form?.copy]) : undefined;
    if (hash !== undefined && [...copies, form?.copy].includes(hash)) return { kind: "directory", hash };
    const hasSource = desired !== undefined && exists(`${desired.source}/SKILL.md`); // Another directory can be huge.
    const isSimilar = !hasSource || attempt(() => outline(path) === outline(desired.source)) === true;
    const wanted = form?.copy ?? desired?.tree ??
      (hasSource && isSimilar ? await contentHash(desired.source, LEFT_BEHIND) : undefined);
    const isDesired = isSimilar && wanted !== undefined && await copyHash(path, [wanted]) === wanted;
    return { kind: "directory", hash, isDesired };
  }
  if (!entry.isSymlink) return { kind: "file" };
  const text = Deno.readLinkSync(path);
  const isSame = () => desired && attempt(() => Deno.realPathSync(path) === Deno.realPathSync(desired.source));
  return { kind: "link", text, isDesired: text === form?.target || isSame() === true };
}

function stillRecorded(name: string): Problem {
  return { name, message: `.skills.lock still records ${quote(name)}: ${frozenWayOut()}` };
}

/** Plans a target. What is in `kept` is not pruned: names, and directories from which skills are deployed. */
async function planTarget(
  target: Target,
  project: Project,
  { mode, lockfile }: Pick<Files, "mode" | "lockfile">,
  { isFrozen, isThorough, write, hashOf, isIrreplaceable }: Deployment & {
    hashOf: (source: string) => Promise<string>;
    isIrreplaceable: (reference: string) => Promise<boolean>;
  },
  kept: ReadonlySet<string>,
  problems: Problem[],
): Promise<TargetPlan> {
  const { path, agents } = target;
  const entries = namesIn(path);
  // A skill named hooks would run programs.
  if (entries.has("HEAD") && entries.has("objects")) throw new Error("it is a git directory");
  const linkTo = pathsFrom(path, project.directory);
  const owner = linkTo(project.manifest);
  // A pull request can write a lockfile, so what only that records is not owned before the user was asked.
  const inLockfile = recordedForms(path, project, lockfile);
  const recorded = isFrozen && mode !== "commit" ? new Map<string, Form>() : inLockfile;
  const isLeft = inLockfile.size > recorded.size;
  const links = new Map<string, Owned>();
  for (const { name, source } of target.desired.values()) links.set(name, { target: linkTo(source), for: [owner] });
  if (write && mode === "link" && recorded.size === 0 && isAsDeployed(path, project, entries, links)) {
    const [state, nothing] = [{ entries: links }, new Set<string>()];
    return { target, state, actions: [], next: links, isLeft, unrecorded: nothing, foreign: nothing, isSettled: true };
  }
  const state = readState(path, entries);
  const isUnrecorded = (name: string) => !recorded.has(name) && (isFrozen || !target.desired.has(name));
  const unrecorded = new Set([...state.entries.keys()].filter(isUnrecorded));
  for (const [name, form] of recorded) {
    const known = state.entries.get(name) ?? { ...form, for: [] };
    state.entries.set(name, { ...known, was: [...known.was ?? [], form], for: [...new Set([...known.for, owner])] });
  }
  const isAlive = memoize((other) => exists(resolve(path, other)));
  const actions: PlannedAction[] = [];
  const next = new Map<string, Owned>();
  const recordedFor = mode === "commit" ? owner : undefined;

  const desiredForm = async ({ name, source, tree, reference }: Desired): Promise<Form> => {
    const real = attempt(() => Deno.realPathSync(source));
    const isInside = real !== undefined && below(project.directory, real) !== undefined;
    if (mode === "link") return { target: linkTo(source) };
    if (mode === "commit" && isInside) {
      // A path of this machine can lead into the project by a link. The skill, or the directory of many, must be there.
      const isWritten = below(project.directory, source) !== undefined;
      const place = isWritten ? source : `${Deno.realPathSync(resolve(source, ".."))}/${lastSegment(source)}`;
      if (below(project.directory, place) !== undefined) return { target: linkTo(place) };
    }
    if (tree === undefined && real !== undefined && !exists(`${real}/SKILL.md`)) throw new Error("it has no SKILL.md");
    if (real !== undefined && below(real, `${path}/${name}`) !== undefined) throw new Error("it contains the target");
    if (mode === "copy") return { target: linkTo(source), copy: tree ?? await hashOf(source) };
    if (tree === undefined && walk(source).some((item) => lastSegment(item.path) === ".git")) {
      throw new Error("it contains .git, which git cannot commit");
    }
    const committed = isFrozen ? recorded.get(name)?.copy : undefined;
    return { target: reference, copy: tree ?? committed ?? await hashOf(source) };
  };

  const planName = async (name: string, desired?: Desired): Promise<Action> => {
    const at = `${path}/${name}`;
    const owned = state.entries.get(name);
    const form = desired && await desiredForm(desired);
    const old = recorded.get(name);
    const actual = await examine(at, entries.get(name), { owned, desired, form });
    const isKept = kept.has(name) || target.desired.has(name) || isFrozen && old !== undefined ||
      kept.size > 0 && owned !== undefined &&
        (kept.has(owned.target) || kept.has(old?.target ?? "") || kept.has(resolve(path, owned.target, ".."))) ||
      !desired && old !== undefined && await isIrreplaceable(old.target);
    const action = decide({ name, desired, form, owned, actual, isKept, owner, isAlive });
    const isReplaced = ["recopy", "relink"].includes(action.kind) && action.owned?.copy !== undefined;
    if (
      recordedFor && isReplaced && old && old.target !== desired?.reference &&
      (kept.has(old.target) || await isIrreplaceable(old.target))
    ) {
      const wayOut = `write "as NAME" after the entry, or delete the one of ${quote(old.target)}`;
      throw new Error(`a copy of ${quote(old.target)} is there, which could not be deployed again: ${wayOut}`);
    }
    const isRecorded = old?.target === form?.target && old?.copy === form?.copy;
    if (isFrozen && recordedFor && !isRecorded) {
      if (action.next && desired) throw new Error(`it is not recorded in .skills.lock: ${frozenWayOut()}`);
      if (!kept.has(name) && !target.desired.has(name)) problems.push(stillRecorded(name));
    }
    const isExamined = action.kind !== "conflict" && (isThorough || action.kind !== "ok");
    if (desired?.absence) {
      if (isChange(action)) throw new Error(desired.absence);
    } else if (desired && isExamined && !exists(`${desired.source}/SKILL.md`)) throw new Error("it has no SKILL.md");
    return action;
  };

  for (const name of new Set([...target.desired.keys(), ...state.entries.keys()])) {
    const desired = target.desired.get(name);
    const at = `${path}/${name}`;
    // A skill that lives in the target itself needs no deployment.
    if (desired && entries.get(name)?.isDirectory && attempt(() => Deno.realPathSync(desired.source)) === at) continue;
    const fail = (message: string) => problems.push({ file: desired?.file, line: desired?.line, name, message });
    let action: Action;
    try {
      action = await planName(name, desired);
      if (desired && action.kind === "conflict") {
        const difference = action.actual.kind === "directory" && !desired.absence
          ? ` (compare: diff -r ${shellWord(showHere(project, desired.source))} ${shellWord(showHere(project, at))})`
          : "";
        const wayOut = desired.absence && recorded.has(name)
          ? `restore it: git restore ${shellWord(showHere(project, at))}`
          : `move it away, or write "as NAME" after the entry`;
        fail(`Cannot deploy ${quote(name)} to ${show(path, project)}: ${action.reason}${difference}; ${wayOut}`);
      }
    } catch (error) {
      if (desired === undefined) throw error;
      fail(`Cannot deploy ${quote(name)} from ${show(desired.source, project)}: ${reasonOf(error)}`);
      action = await planName(name);
    }
    actions.push({ ...action, path: at, agents });
    const old = recordedFor && action.kind === "conflict" ? recorded.get(name) : undefined; // The lockfile keeps it.
    const owned = action.next ?? (old && { ...old, for: [owner] });
    if (owned) next.set(name, owned);
  }

  const textOf = (name: string) =>
    entries.get(name)?.isFile ? attempt(() => readOwnFile(`${path}/${name}`, project)) : undefined;
  const [ignore, attributes] = [textOf(".gitignore"), textOf(".gitattributes")];
  const foreign = new Set<string>();
  if (entries.has(".gitignore") && !isUnedited(ignore ?? "")) foreign.add(".gitignore");
  if (isFrozen || entries.has(".gitattributes") && attributes !== ATTRIBUTES) foreign.add(".gitattributes");
  const plan = { target, state, actions, next, isLeft, recordedFor, unrecorded, foreign, isSettled: false };
  const after = stateAfter(plan);
  plan.isSettled = !hasDebris(entries) && !actions.some(isChange) && renderState(after) === state.text &&
    (foreign.has(".gitignore") || renderIgnore(after) === ignore) &&
    (foreign.has(".gitattributes") || attributesAfter(plan) === attributes);
  return plan;
}

/** How many directories above a target don't exist yet, or may be removed when they are empty. */
function countParents(target: string, index: TargetIndex): number {
  const created = new Set<string>();
  for (const [path, { parents }] of index.targets) {
    for (let each = path, count = 0; count <= parents; count++, each = resolve(each, "..")) created.add(each);
  }
  let count = 0;
  for (let parent = resolve(target, ".."); created.has(parent) || !exists(parent); parent = resolve(parent, "..")) {
    count++;
  }
  return count;
}

/** A problem with a whole target, at the first line that deploys there. */
function problemWith(doing: string, { path, desired }: Target, project: Project, error: unknown): Problem {
  const message = `Cannot ${doing} ${show(path, project)}: ${reasonOf(error)}`;
  return { line: desired.values().next().value?.line, message };
}

/** Plans what leads from the files as they are, and what is recorded in them, to the files as they are to be. */
async function planProject(project: Project, before: Files, after: Files, deployment: Deployment) {
  const files = { mode: after.mode, lockfile: before.lockfile };
  const index = readIndex(project, before.lockfile);
  // A pull request can change what the lockfile names, so that is not known yet.
  const isKnown = (path: string) => (index.targets.get(path)?.parents ?? -1) >= 0;
  const state = findDesired(after, project, deployment.failures, isKnown);
  // A skill that isn't on this machine can't be copied to a target that lacks it, so it must stay in the others.
  const isIrreplaceable = memoize(async (reference) => {
    for (const { path, desired } of state.targets.values()) {
      for (const { name, tree, absence, ...each } of desired.values()) {
        if (each.reference === reference && absence && await copyHash(`${path}/${name}`, [tree]) !== tree) return true;
      }
    }
    return false;
  });
  const next = new Map(deployment.clean ? [] : index.elsewhere); // the index afterwards: where something is owned
  const plans: TargetPlan[] = [];
  const problems: Problem[] = [];
  let isCertain = true; // No other run can have been in the way of looking.
  const hashOf = memoize((source) => treeHash(source, LEFT_BEHIND));
  const targets = new Map(state.targets);
  for (const [path, { agent }] of index.targets) {
    if (targets.has(path)) continue;
    const known = knownDirectories(project).find((each) => each.path === path)?.agent;
    const agents = [known ?? show(path, project).replace(/^(?![~/])/, "./")];
    targets.set(path, { path, agents, desired: new Map(), variableOf: agent });
  }
  for (const target of targets.values()) {
    const { path, variableOf } = target;
    const known = index.targets.get(path);
    // If the variable is unset now, what the manifest still names for the agent stays: the environment never prunes.
    const isUnset = variableOf !== undefined && !state.targets.has(path);
    const others = isUnset ? [...state.targets.values()].filter(({ agents }) => agents.includes(variableOf)) : [];
    const kept = new Set([...state.kept, ...others.flatMap(({ desired }) => [...desired.keys()])]);
    // A pull request can write a lockfile, and a state file in any directory that it names.
    if (deployment.isFrozen && !state.targets.has(path) && !isKnown(path)) {
      const recorded = files.mode === "commit" ? recordedForms(path, project, files.lockfile).keys() : [];
      for (const name of recorded) if (!kept.has(name)) problems.push(stillRecorded(name));
      continue;
    }
    let isUsed = known !== undefined;
    try {
      const plan = await planTarget(target, project, files, { ...deployment, hashOf, isIrreplaceable }, kept, problems);
      plans.push(plan);
      if (plan.actions.some(({ kind, actual }) => kind === "conflict" && actual.kind === "directory")) {
        isCertain = false;
      }
      isUsed = plan.next.size > 0 || plan.isLeft;
    } catch (error) {
      problems.push(problemWith("read", target, project, error));
      isCertain = false;
    }
    if (!isUsed) continue;
    const parents = known && isKnown(path) ? known.parents : countParents(path, index);
    next.set(path, { parents, agent: variableOf });
  }
  return { isCertain, index, next, targets: plans, problems: [...state.problems, ...problems] };
}

type Plan = Awaited<ReturnType<typeof planProject>>;

// ── Apply ───────────────────────────────────────────────────────────────────────────────────────────────────────

/** The places for a target's staging directory: next to it, where no agent looks for skills, otherwise in it. */
function stagingPlaces(target: string): string[] {
  return [resolve(target, "..", STAGING), `${target}/${STAGING}`];
}

/** Whether a path is a directory and not a link to one, which the author of a repo could lead anywhere. */
function isRealDirectory(path: string): boolean {
  return attempt(() => Deno.lstatSync(path))?.isDirectory === true;
}

/** Creates the staging directory of a target, in one that targets with the same parent share. */
function createStaging(target: string): string {
  const create = (top: string) => {
    const staging = `${top}/${lastSegment(target)}`;
    for (const path of [top, staging]) {
      if (!isRealDirectory(path)) Deno.mkdirSync(path); // fails for a link
    }
    if (!exists(`${top}/.gitignore`)) Deno.writeTextFileSync(`${top}/.gitignore`, "*\n", { createNew: true });
    return Deno.statSync(staging).dev === Deno.statSync(target).dev ? staging : undefined;
  };
  const [outside, inside] = stagingPlaces(target) as [string, string];
  return attempt(() => create(outside)) ?? create(inside) ?? inside;
}

/** Puts back what the user may have edited, under its name or, if that is taken, under a similar one. */
function putBack(moved: string, path: string): void {
  let free = path;
  for (let count = 1; exists(free); count++) free = `${path}.edited${count === 1 ? "" : `-${count}`}`;
  Deno.renameSync(moved, free);
}

/** Removes the staging directory of a target. An old copy in it that was edited is put back. */
async function removeStaging(target: string): Promise<void> {
  for (const top of stagingPlaces(target).filter(isRealDirectory)) {
    const staging = `${top}/${lastSegment(target)}`;
    const names = isRealDirectory(staging) ? [...namesIn(staging).keys()] : [];
    for (const name of names.filter((name) => name.endsWith(".old") && isRealDirectory(`${staging}/${name}`))) {
      const skill = name.slice(0, -".old".length);
      if (nameProblem(skill)) continue; // No run has put it there.
      const owned = attempt(() => readState(target, namesIn(target)).entries.get(skill));
      const copies = formsOf(owned).flatMap(({ copy }) => copy ?? []);
      const hash = await copyHash(`${staging}/${name}`, copies);
      Deno.mkdirSync(target, { recursive: true });
      if (hash !== undefined && copies.includes(hash)) discard(`${staging}/${name}`);
      else putBack(`${staging}/${name}`, `${target}/${skill}`);
    }
    if (isRealDirectory(staging)) removeAll(staging);
    if (namesIn(top).keys().every((name) => name === ".gitignore")) removeAll(top); // No other target is using it.
  }
}

/** Removes an old copy. It is renamed first, so that half of it is never mistaken for an edited one. */
function discard(old: string): void {
  const gone = old.replace(/\.old$/, ".gone");
  removeAll(gone);
  Deno.renameSync(old, gone);
  removeAll(gone);
}

/**
 * Carries out an action in a target. What is there is examined again right before it is removed, and a copy once more
 * after it was moved away, because the user may edit it at any time.
 */
async function perform(action: Action, target: string, staging: () => string): Promise<void> {
  const { kind, name, form, desired, actual } = action;
  const path = `${target}/${name}`;
  const changed = new Error("it was edited while this ran, and stays");
  if (kind === "adopt" || kind === "release") return;
  if (kind === "link" && form) return Deno.symlinkSync(form.target, path); // never replaces anything

  let created: string | undefined;
  if (form && desired) {
    created = `${staging()}/${name}.new`;
    if (form.copy === undefined) Deno.symlinkSync(form.target, created);
    else copyContent(desired, created);
    if (form.copy && await contentHash(created) !== form.copy) throw new Error("the skill changed while it was copied");
  }
  if (actual.kind === "link") {
    if (attempt(() => Deno.readLinkSync(path)) !== actual.text) throw changed;
    if (created !== undefined && form?.copy === undefined) return Deno.renameSync(created, path);
    Deno.removeSync(path);
  }
  const moved = actual.kind === "directory" ? `${staging()}/${name}.old` : undefined;
  if (moved !== undefined) Deno.renameSync(path, moved);
  try {
    if (actual.kind === "directory" && await copyHash(moved!, [actual.hash]) !== actual.hash) throw changed;
    if (created !== undefined && exists(path)) throw changed;
    if (created !== undefined) Deno.renameSync(created, path);
  } catch (error) {
    if (moved !== undefined) putBack(moved, path);
    throw error;
  }
  if (moved !== undefined) attempt(() => discard(moved)); // Otherwise, it goes with the staging directory.
}

/** Replaces or removes a file of use-skills in a target, but nothing else that is there under its name. */
function replaceInTarget(target: string, name: string, text: string | undefined): void {
  const info = ifExists(() => Deno.lstatSync(`${target}/${name}`));
  if (info && !info.isFile) throw new Error(`its ${name} is not a regular file: delete it`);
  replaceFile(`${target}/${name}`, text);
}

/**
 * Carries out the plan of a target. What is about to be created is recorded first, together with what it replaces, so
 * that the next run after a kill knows both.
 */
async function applyTarget(plan: TargetPlan, project: Project, outcome: Outcome): Promise<void> {
  const { target: { path }, state, actions, next, recordedFor, foreign } = plan;
  const shown = show(path, project);
  const changes = actions.filter(isChange);
  const meanwhile = new Map(state.entries);
  for (const { name, owned, next } of changes) {
    const was = owned ? [{ target: owned.target, copy: owned.copy }] : [];
    if (next) meanwhile.set(name, { ...next, was });
  }
  if (changes.length > 0) {
    if (recordedFor === undefined && !foreign.has(".gitignore")) {
      replaceInTarget(path, ".gitignore", renderIgnore(meanwhile));
    }
    replaceInTarget(path, STATE_FILE, renderState(meanwhile));
  }
  let staging: string | undefined;
  try {
    for (const action of actions) {
      const { name, kind, desired, reason } = action;
      try {
        if (isChange(action)) await perform(action, path, () => staging ??= createStaging(path));
        if (kind === "release") outcome.notes.push(`use-skills: ${shown}/${name} stays, because ${reason}`);
        outcome.actions.push(action);
      } catch (error) {
        const message = `Cannot ${VERBS[kind] ?? kind} ${quote(name)} in ${shown}: ${reasonOf(error)}`;
        outcome.problems.push({ file: desired?.file, line: desired?.line, name, message });
        if (staging) attempt(() => removeAll(`${staging}/${name}.new`)); // The disk may be full.
        const old = state.entries.get(name);
        if (old) next.set(name, old);
        else next.delete(name);
      }
    }
  } finally {
    if (staging) await removeStaging(path);
  }
}

/** Records that the work in a target is done. */
function finishTarget(plan: TargetPlan): void {
  const { target: { path }, foreign } = plan;
  const after = stateAfter(plan);
  if (!foreign.has(".gitignore")) replaceInTarget(path, ".gitignore", renderIgnore(after));
  if (!foreign.has(".gitattributes")) replaceInTarget(path, ".gitattributes", attributesAfter(plan));
  replaceInTarget(path, STATE_FILE, renderState(after));
}

// ── Deploy ──────────────────────────────────────────────────────────────────────────────────────────────────────

interface Deployment {
  isFrozen: boolean; // the lockfile must not change
  isThorough: boolean; // also examine skills that are deployed already
  write: boolean; // whether anything may be written
  clean?: boolean; // as if the manifest had no entries
  failures?: ReadonlyMap<string, string>; // why git references could not be fetched, by their text
  editManifest?: (text: string) => string; // changes the text of the manifest
  mustSucceed?: readonly string[]; // references that must be deployable, otherwise nothing is done
  fetched?: ReadonlyMap<string, Locked>; // what to lock, by reference
}

/** What a deployment did, or would do if it may not write. */
interface Outcome {
  actions: PlannedAction[];
  problems: Problem[];
  notes: string[]; // what else to tell the user
  targets: readonly TargetPlan[];
  isRefused?: true; // nothing was done, because of the problems
}

function sortProblems(problems: readonly Problem[]): Problem[] {
  const unique = new Map(problems.map((each) => [`${each.file} ${each.line} ${each.message}`, each]));
  return [...unique.values()].sort((a, b) => (a.line ?? 0) - (b.line ?? 0));
}

/**
 * The directory at or above `directory` that contains `.git`. A commit can contain the files of a bare repo, whose
 * settings run programs, but never a `.git`. So git is started where one is: it looks for that first.
 */
function findRepo(directory: string): string | undefined {
  for (let each = directory; each !== "/"; each = resolve(each, "..")) {
    if (exists(`${each}/.git`)) return each;
  }
  return undefined;
}

/** Runs git in a repo; returns its output. Some of its commands fail with 1 for "no". */
async function askGit(cwd: string, args: string[], input = "", settings: Record<string, string> = {}): Promise<string> {
  const all = ["-c", "safe.bareRepository=explicit", ...args];
  // In a hook, these can name another repo, or a directory with committed files of one.
  const isElsewhere = (name: string) => /^GIT_(DIR|WORK_TREE|COMMON_DIR|INDEX_FILE|OBJECT_.*|PREFIX)$/.test(name);
  const env = Object.fromEntries(Object.entries(Deno.env.toObject()).filter(([name]) => !isElsewhere(name)));
  const options = {
    args: all,
    cwd,
    env: { ...env, ...settings },
    clearEnv: true,
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
  } as const;
  const child = new Deno.Command("git", options).spawn();
  const writer = child.stdin.getWriter();
  writer.write(concat(input)).then(() => writer.close()).catch(() => {});
  const { code, stdout, stderr } = await child.output();
  if (code > 1) throw new Error(new TextDecoder().decode(stderr).trim().replace(/\s+/g, " "));
  return new TextDecoder().decode(stdout);
}

/** Git's hashes of files. */
async function hashFiles(repo: string, paths: readonly string[], options: string[], settings = {}): Promise<string[]> {
  const output = await askGit(repo, ["hash-object", "--stdin-paths", ...options], paths.join("\n"), settings);
  return output.split("\n");
}

/** Git's hashes of the content that files have in a clone on another machine: committed here, and checked out there. */
async function hashInClone(repo: string, paths: readonly string[]): Promise<string[]> {
  const clone = attempt(() => Deno.realPathSync(Deno.makeTempDirSync({ prefix: "use-skills-" })));
  if (clone === undefined) throw new Error("cannot create a temporary directory (see TMPDIR)");
  try {
    const objects = `${clone}/.git/objects`;
    Deno.mkdirSync(objects, { recursive: true });
    const committed = await hashFiles(repo, paths, ["-w"], { GIT_OBJECT_DIRECTORY: objects });
    const settings = { // nothing of this machine
      GIT_CONFIG_GLOBAL: "/dev/null",
      GIT_CONFIG_NOSYSTEM: "1",
      GIT_CONFIG_COUNT: "0",
      GIT_CONFIG_PARAMETERS: "",
      GIT_TEMPLATE_DIR: "",
      GIT_ATTR_NOSYSTEM: "1",
      XDG_CONFIG_HOME: clone, // where the user's attributes would be
      GIT_DEFAULT_HASH: committed[0]?.length === 64 ? "sha256" : "sha1",
    };
    const git = (args: string[], input = "") =>
      askGit(repo, [`--git-dir=${clone}/.git`, `--work-tree=${repo}`, ...args], input, settings);
    await git(["init", "--quiet"]);
    const entries = paths.map((path, index) => `${MODE.file} ${committed[index]}\t${path}\0`);
    await git(["update-index", "-z", "--index-info"], entries.join(""));
    await git(["checkout-index", "--all", `--prefix=${clone}/`]);
    return await hashFiles(repo, paths.map((path) => `${clone}/${path}`), ["--no-filters"]);
  } finally {
    removeAll(clone);
  }
}

/** Problems with what was deployed to be committed, but would not be the same in a clone. */
async function findLost(targets: readonly TargetPlan[], project: Project): Promise<Problem[]> {
  const repo = findRepo(project.directory);
  if (repo === undefined) return []; // Nothing is committed.
  const copied = new Map<string, boolean>(); // the files of copies, and whether each is executable
  const others = new Set<string>(); // which git may convert, or does not
  const repos = new Set<string>();
  const places: string[] = []; // the copies
  const isHome = attempt(() => Deno.realPathSync(environment("HOME") ?? "")) === project.directory; // ~/x is in any clone
  let hasAttributes = false; // whether somebody else wrote attributes for copies
  const messages: string[] = [];
  const shown = (path = "") => show(resolve(repo, path), project);
  try {
    for (const plan of targets) {
      const { target: { path } } = plan;
      if (findRepo(path) !== repo) continue;
      const target = below(repo, path)!;
      for (const [name, { copy }] of toCommit(plan)) {
        const place = `${target}/${name}`;
        if (copy === undefined) {
          others.add(place);
          const skill = attempt(() => Deno.realPathSync(`${path}/${name}`));
          const owner = skill && findRepo(skill);
          // Which other files of its own skill git has is the project's choice.
          if (owner === repo) others.add(below(repo, `${skill}/SKILL.md`)!);
          else if (owner) repos.add(below(repo, owner) ?? owner);
          if (attempt(() => Deno.readLinkSync(`${path}/${name}`))?.startsWith("/")) {
            messages.push(
              `A clone elsewhere has a broken link ${shown(place)}, because it is absolute: rm it, then sync`,
            );
          }
          const written = plan.target.desired.get(name)?.reference;
          if (written && (isHome ? /^\// : /^[~/]/).test(written)) {
            messages.push(`A clone elsewhere doesn't find ${quote(written)}: write a path that starts with ./`);
          }
          continue;
        }
        if (!isRealDirectory(`${path}/${name}`)) continue;
        places.push(`${place}/`);
        // What other programs left in a copy doesn't count, unless the skill has such files itself.
        const [all, own] = [[], LEFT_BEHIND].map((ignored) => [...walk(`${path}/${name}`, ignored)]);
        const isMore = all!.length > own!.length && await contentHash(`${path}/${name}`) !== copy;
        for (const item of isMore ? own! : all!) {
          if (item.info.isDirectory) continue;
          if (item.info.isFile) copied.set(`${place}/${item.path}`, isExecutable(item.info));
          else others.add(`${place}/${item.path}`);
        }
      }
      const attributes = `${path}/.gitattributes`;
      if (exists(attributes)) others.add(`${target}/.gitattributes`);
      const text = attributesAfter(plan) && (attempt(() => readOwnFile(attributes, project)) ?? "");
      hasAttributes ||= text !== undefined && text !== ATTRIBUTES;
      if (text !== undefined && !text.split("\n").includes(ATTRIBUTES_LINE)) {
        messages.push(
          `A clone may have other content in ${shown(target)}: add this line to its .gitattributes: ${ATTRIBUTES_LINE}`,
        );
      }
    }
    const paths = [...copied.keys(), ...others].join("\0");
    const ignored = (await askGit(repo, ["check-ignore", "--stdin", "-vz"], paths)).split("\0");
    const patterns = new Map<string, string[]>();
    for (let index = 0; index + 4 < ignored.length; index += 4) {
      const [file, line, pattern = "", path = ""] = ignored.slice(index, index + 4);
      if (pattern.startsWith("!")) continue; // It includes the path again.
      const place = `${quote(pattern)} in ${shown(file)}:${line}`;
      patterns.set(place, [...patterns.get(place) ?? [], path]);
    }
    for (const [place, [path, ...more]] of patterns) {
      const [also, them] = more.length > 0 ? [` and ${count(more.length, "other file")}`, "them"] : ["", "it"];
      const wayOut = `change that line, or add ${them} with git add --force`;
      messages.push(`A clone lacks ${shown(path)}${also}, because git ignores ${them} (${place}): ${wayOut}`);
    }
    const convertible = [...copied.keys()].filter((path) => !/[\n\r]/.test(path));
    const actual = await hashFiles(repo, convertible, ["--no-filters"]);
    const committed = await hashFiles(repo, convertible, []);
    // Attributes of a skill itself override those of the target.
    hasAttributes ||= convertible.some((path) => lastSegment(path) === ".gitattributes");
    const isConverted = hasAttributes || committed.some((hash, index) => hash !== actual[index]);
    const cloned = isConverted ? await hashInClone(repo, convertible) : actual;
    for (const [index, path] of convertible.entries()) {
      if (cloned[index] === actual[index]) continue;
      const command = `git check-attr -a ${shellWord(showHere(project, resolve(repo, path)))}`;
      messages.push(`A clone has other content in ${shown(path)}, because git attributes change it (see: ${command})`);
    }
    const staged = (await askGit(repo, ["ls-files", "--stage", "-z"])).split("\0");
    const stagedAs = (mode: string) =>
      new Set(staged.filter((line) => line.startsWith(mode)).map((line) => line.slice(line.indexOf("\t") + 1)));
    const isLeft = (path: string) =>
      path.split("/").some((name) => LEFT_BEHIND.includes(name)) && places.some((place) => path.startsWith(place)) &&
      !copied.has(path) && !others.has(path);
    for (const path of [...stagedAs("")].filter(isLeft)) { // Python may run what is in it instead of the skill.
      messages.push(`A clone has ${shown(path)}, which is not part of the skill: git rm --cached it`);
    }
    for (const path of repos.difference(stagedAs(MODE.submodule))) {
      messages.push(
        `A clone lacks ${shown(path)}, because it is another repo: make it a submodule, or remove its .git`,
      );
    }
    const isModeKept = await askGit(repo, ["config", "--type=bool", "--default=true", "core.fileMode"]) === "true\n";
    const executable = isModeKept ? [] : [...copied].filter(([, isExecutable]) => isExecutable).map(([path]) => path);
    for (const path of new Set(executable).difference(stagedAs(MODE.executable))) {
      const command = `git add --chmod=+x ${shellWord(showHere(project, resolve(repo, path)))}`;
      messages.push(`A clone can't execute ${shown(path)}, because core.fileMode is off: ${command}`);
    }
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return []; // Git is not installed here.
    messages.push(`Cannot test whether a clone gets what is deployed here: ${reasonOf(error)}`);
  }
  return messages.map((message) => ({ message }));
}

/**
 * Carries out a plan. Its target index is written before anything is created, and again afterwards. `write` writes the
 * manifest and the lockfile: last if the lockfile records what is owned, otherwise first.
 */
async function applyPlan(
  { index, next, targets, problems }: Plan,
  project: Project,
  writesLast: boolean,
  write: () => void,
): Promise<Outcome> {
  const outcome: Outcome = { actions: [], problems: [...problems], notes: [], targets };
  const indexed = new Map([...index.targets, ...next]);
  let indexText = index.text;
  const writeIndex = () => {
    const text = renderIndex(indexed, project);
    if (text === indexText) return;
    makePrivateDirectory(indexDirectory());
    replaceFile(indexPath(project), text);
    indexText = text;
  };
  try {
    writeIndex();
  } catch (error) { // What it lacks can't be cleaned up later, but that is no reason not to deploy.
    if (targets.some(({ isSettled }) => !isSettled)) {
      outcome.notes.push(`use-skills: Warning: cannot record where skills are deployed: ${reasonOf(error)}`);
    }
  }
  const isRecorded = targets.some(({ recordedFor }) => recordedFor !== undefined);
  if (!writesLast) write();
  const unfinished: TargetPlan[] = [];
  for (const plan of targets) {
    const { target, target: { path }, state, actions } = plan;
    try {
      if (plan.next.size > 0) Deno.mkdirSync(path, { recursive: true });
      if (exists(path) && realDirectory(path, project) !== path) throw new Error("a link replaced it during this run");
      const isChanged = !plan.isSettled && exists(path);
      if (isChanged) await applyTarget(plan, project, outcome);
      else outcome.actions.push(...actions);
      if (isChanged && plan.next.size > 0 && isRecorded) unfinished.push(plan);
      else if (isChanged) finishTarget(plan);
      if (plan.foreign.has(".gitignore") && !isRecorded && plan.next.size > 0 && state.text === undefined) {
        const lines = renderIgnore(plan.next)?.trim().split("\n").slice(2).join("\n");
        const shown = show(`${path}/.gitignore`, project);
        outcome.notes.push(`use-skills: ${shown} is yours and stays as it is; you may want to add\n${lines}`);
      }
      if (plan.next.size > 0 || plan.isLeft) continue;
      const isEmptied = actions.some(({ kind }) => kind === "prune");
      let count = Math.max(indexed.get(path)?.parents ?? -1, isEmptied ? 0 : -1);
      indexed.delete(path);
      for (let each = path; count >= 0; each = resolve(each, ".."), count--) {
        attempt(() => Deno.removeSync(each)); // Only what is empty can be removed like this.
      }
    } catch (error) {
      outcome.problems.push(problemWith("write to", target, project, error));
    }
  }
  if (writesLast) write();
  unfinished.forEach(finishTarget);
  if (isRecorded) outcome.problems.push(...await findLost(targets, project));
  attempt(writeIndex);
  return { ...outcome, problems: sortProblems(outcome.problems) };
}

/** The manifest as it is to be, and what is to be locked for it. */
function editFiles(files: Files, { editManifest, isFrozen, clean, fetched }: Deployment, project: Project): Files {
  const manifest = editManifest?.(files.manifest) ?? files.manifest;
  const edited = manifest === files.manifest ? files : { ...files, manifest, ...readEntries(manifest, project) };
  if (isFrozen || clean) return edited;
  const named = new Set(edited.entries.map(({ text }) => text));
  const locked = [...files.lockfile.locked, ...fetched ?? []].filter(([reference]) => named.has(reference));
  return { ...edited, lockfile: { ...files.lockfile, locked: new Map(locked) } };
}

/** What of a plan the lockfile is to record. */
function recordPlan({ targets }: Plan, project: Project, before: Lockfile["recorded"]): Lockfile["recorded"] {
  const recorded = new Map<string, Recorded>();
  const planned = new Set(targets.map((plan) => plan.target.path));
  const realPath = memoize((path) => attempt(() => realDirectory(resolve(project.directory, path), project)));
  for (const [reference, old] of before) {
    // What is in a target that could not be read this time stays recorded.
    const unread = [...old.targets].filter(([path]) => !planned.has(realPath(path) ?? ""));
    if (unread.length === 0) continue;
    recorded.set(reference, { ...old, targets: new Map(unread) });
  }
  for (const plan of targets) {
    const { target: { path }, actions, next } = plan;
    const target = below(project.directory, path)!;
    const desired = new Map(actions.map((action) => [action.name, action.desired])); // without entries that failed
    const conflicts = new Set(actions.flatMap(({ kind, name }) => kind === "conflict" ? name : []));
    for (const [name, { target: text, copy }] of toCommit(plan)) {
      const earlier = before.keys().find((each) => before.get(each)?.targets.get(target)?.includes(name));
      const wanted = desired.get(name)?.reference;
      const reference = conflicts.has(name) ? earlier ?? wanted : wanted ?? earlier;
      if (reference === undefined) continue;
      const record: Recorded = recorded.get(reference) ?? { targets: new Map() };
      recorded.set(reference, record);
      // Of a directory that is not ours, a clone only knows the hash.
      if (next.has(name)) record.targets.set(target, [...record.targets.get(target) ?? [], name]);
      const skill = lastSegment(desired.get(name)?.source ?? name);
      const led = resolve(path, text, isMany(reference) ? ".." : "");
      // There is one hash for all targets. An edited copy, which is still recorded with its former one, must not determine it.
      const isFormer = conflicts.has(name) && (record.skills?.[skill] ?? record.tree) !== undefined;
      if (copy === undefined) record.link = below(project.directory, led) || ".";
      else if (isFormer) continue;
      else if (isMany(reference)) record.skills = { ...record.skills, [skill]: copy };
      else record.tree = copy;
    }
  }
  return recorded;
}

/** The text of the lockfile after a plan. One of an older version is only written anew if its content changes. */
function lockfileAfter(before: Files, after: Files, plan: Plan, project: Project, deployment: Deployment) {
  if (deployment.isFrozen) return before.lockfileText;
  const recorded = recordPlan(plan, project, deployment.clean ? new Map() : before.lockfile.recorded);
  const text = renderLockfile({ ...after.lockfile, recorded });
  const isOld = before.lockfileText?.endsWith('"version": 1\n}\n') && renderLockfile(before.lockfile) === text;
  const isSame = before.lockfileText?.replaceAll("\r\n", "\n") === text; // Git can convert its line ends.
  return isOld || isSame ? before.lockfileText : text;
}

function writeFile(path: string, before: string | undefined, after: string | undefined, project: Project): void {
  try {
    if (before !== after) replaceFile(path, after);
  } catch (error) {
    throw new Error(`Cannot write ${showHere(project, path)}: ${reasonOf(error)}`);
  }
}

/**
 * Deploys a project, or finds out what would be done. The first plan is made without a lock, from `files`. If it changes
 * something, everything is read and planned again under two locks: this user's, because projects can share targets, and
 * the project's, because other users and homes can deploy it.
 */
async function deploy(project: Project, files: Files, reread: () => Files, deployment: Deployment): Promise<Outcome> {
  const edited = editFiles(files, deployment, project);
  const plan = await planProject(project, files, edited, deployment);
  const required = new Set(deployment.mustSucceed);
  const lines = edited.entries.filter(({ file, text }) => !file && required.has(text)).map(({ line }) => line);
  const refused = plan.problems.filter(({ file, line }) => !file && lines.includes(line ?? 0));
  if (refused.length > 0) {
    const problems = sortProblems(refused).map(({ name, message }) => ({ name, message })); // no line has been written
    return { actions: [], problems, notes: [], targets: [], isRefused: true };
  }
  const isEdited = edited.manifest !== files.manifest ||
    lockfileAfter(files, edited, plan, project, deployment) !== files.lockfileText;
  const isIndexed = renderIndex(plan.next, project) === plan.index.text || !attempt(indexDirectory);
  const hasDebris = project.siblings.get(TEMPORARY)?.isFile === true;
  const isSettled = plan.targets.every(({ isSettled }) => isSettled);
  if (!deployment.write || plan.isCertain && !hasDebris && !isEdited && isIndexed && isSettled) {
    const actions = plan.targets.flatMap(({ actions }) => actions);
    const mustBeWhole = deployment.isThorough && edited.mode === "commit";
    const lost = mustBeWhole ? await findLost(plan.targets, project) : [];
    if (mustBeWhole && isEdited && plan.problems.length === 0 && !actions.some(isChange)) {
      lost.push({ message: ".skills.lock is not as sync would write it: run sync" });
    }
    return { actions, problems: sortProblems([...plan.problems, ...lost]), notes: [], targets: plan.targets };
  }

  const stateDirectory = attempt(() => makePrivateDirectory(indexDirectory()));
  using _userLock = stateDirectory === undefined ? undefined : await lockDirectory(stateDirectory);
  using _projectLock = await lockDirectory(project.directory);
  removeTemporary(resolve(project.manifest, "..", TEMPORARY));
  for (const path of readIndex(project, files.lockfile).targets.keys()) {
    if (attempt(() => realDirectory(path, project)) !== path) continue; // What was put back can have changed that.
    attempt(() => removeTemporary(`${path}/${TEMPORARY}`));
    await removeStaging(path).catch(() => {}); // What is in the way there is reported for its target.
  }
  const current = reread();
  const after = editFiles(current, deployment, project);
  const final = await planProject(project, current, after, deployment);
  const writesLast = after.mode === "commit" || current.lockfile.recorded.size > 0;
  return await applyPlan(final, project, writesLast, () => {
    // The lockfile first: the manifest never names something that isn't locked yet.
    const text = lockfileAfter(current, after, final, project, deployment);
    writeFile(`${project.manifest}.lock`, current.lockfileText, text, project);
    const manifest = ifExists(() => Deno.readTextFileSync(project.manifest)) ?? ""; // The user may have edited it.
    writeFile(project.manifest, manifest, deployment.editManifest?.(manifest) ?? manifest, project);
  });
}

// ── Git ─────────────────────────────────────────────────────────────────────────────────────────────────────────

/** The remote's name in the cache. A user has no settings for a remote of this name. */
const REMOTE = "use-skills-source";

/** Settings for every git command: nothing of a repo that could run a program, nothing in the background. */
const GIT_SETTINGS = [
  "core.hooksPath=/dev/null",
  "core.askPass=",
  "core.symlinks=true",
  "credential.interactive=false",
  "gc.auto=0",
  "maintenance.auto=false",
  "fetch.negotiationAlgorithm=noop",
  "http.lowSpeedLimit=100", // If this process is killed, git still ends.
  "http.lowSpeedTime=60",
];

/** Git must not ask anybody, take a path for a pattern, or translate its messages. */
const GIT_ENVIRONMENT = {
  GIT_TERMINAL_PROMPT: "0",
  GIT_ASKPASS: "false",
  GCM_INTERACTIVE: "never",
  GIT_LITERAL_PATHSPECS: "1",
  LC_ALL: "C",
};

/** Settings with which git fetches the content of files when it needs it. Without them, it fetches nothing itself. */
const LAZY = ["-c", `remote.${REMOTE}.promisor=true`, "-c", `remote.${REMOTE}.partialCloneFilter=blob:none`];

/** How git says that its cache is damaged, or that a git of a killed run is still changing it. */
const DAMAGE =
  /not a git|shallow line|not send all|object .*(not found|missing|corrupt)|packfile|index file|bad object|to read|could not (set|lock)/i;

/** How git says that a server can't give single commits, or leave out the content of files. */
const UNSUPPORTED = /unadvertised|not our ref|shallow|filter|dumb|remote error|want/i;

/** How git says what can be said better. */
const GIT_REASONS = {
  "there is no such repo, or git has no credentials for it (try: git ls-remote URL)":
    /could not read Username|Authentication failed|Permission denied|terminal prompts|returned error: 40[13]/i,
  "there is no such repo, or it is private":
    /repository '.*' not found|does not appear to be a git repository|returned error: 404/i,
};

const MODE = { directory: "040000", file: "100644", executable: "100755", link: "120000", submodule: "160000" };

/** A line of `git ls-tree`. A directory comes directly before what is in it. */
type TreeEntry = Record<"mode" | "hash" | "path", string>;

/** A failure of git, with git's own words. Nothing in a repo can imitate it. */
class GitError extends Error {}

/** The seconds that all fetching of a run may take. */
function fetchTimeout(): number {
  const given = Number(environment("SKILLS_TIMEOUT"));
  return given > 0 ? Math.min(given, 86_400) : 60;
}

let fetchingSince: number | undefined;

function timeLeft(): number {
  fetchingSince ??= performance.now();
  return Math.max(0, fetchTimeout() - (performance.now() - fetchingSince) / 1000);
}

/** The running git processes. Each leads a process group, because git starts others. */
const running = new Set<number>();

/** Ends a process group: first so that git removes its temporary files, and one second later by force. */
function endGroup(pid: number): void {
  attempt(() => Deno.kill(-pid, "SIGTERM"));
  Deno.unrefTimer(setTimeout(() => running.has(pid) && attempt(() => Deno.kill(-pid, "SIGKILL")), 1000));
}

let isGitPrepared = false;

/** From now on, a signal that ends this program ends the running git processes, too, and progress is shown. */
function prepareForGit(): void {
  if (isGitPrepared) return;
  isGitPrepared = true;
  Deno.unrefTimer(setInterval(showProgress, 1000));
  for (const [signal, status] of [["SIGHUP", 129], ["SIGINT", 130], ["SIGTERM", 143]] as const) {
    Deno.addSignalListener(signal, () => {
      running.forEach(endGroup);
      Deno.exit(status);
    });
  }
}

function cachesDirectory(): string {
  return `${xdgDirectory("XDG_CACHE_HOME", ".cache")}/git`;
}

/** The repos that are being fetched and may be shown. */
const fetchedNow = new Set<string>();
let isProgressShown = false;

function showProgress(): void {
  const [first] = fetchedNow;
  if (first === undefined) return;
  const seconds = Math.round(fetchTimeout() - timeLeft());
  const repo = escapeControls(first.replace(/^\w+:\/\//, ""));
  Deno.stderr.writeSync(concat(`\r\x1b[Kfetching ${repo} (${seconds} s of ${fetchTimeout()})`));
  isProgressShown = true;
}

function clearProgress(): void {
  if (isProgressShown) Deno.stderr.writeSync(concat("\r\x1b[K"));
  isProgressShown = false;
}

/** A repo on a server, and the bare cache of what was fetched from it. */
class Repo implements Disposable {
  readonly #cache: string;
  #sshCommand = "ssh";
  #protocols = "https:ssh:file";
  #lock: Deno.FsFile | undefined;

  constructor(readonly url: string, isQuiet = false) {
    this.#cache = `${cachesDirectory()}/${fileNameOf(url)}`;
    prepareForGit();
    if (!isQuiet && Deno.stderr.isTerminal()) fetchedNow.add(url);
  }

  [Symbol.dispose](): void {
    fetchedNow.delete(this.url);
    clearProgress();
    this.#lock?.close();
  }

  /** Prepares the cache as soon as no other run uses it. */
  async open(): Promise<void> {
    makePrivateDirectory(resolve(cachesDirectory(), ".."));
    Deno.mkdirSync(this.#cache, { recursive: true });
    this.#lock ??= await lockDirectory(this.#cache, timeLeft());
    // Of a killed git. One that outlived its run may still remove files.
    for (const { path } of attempt(() => [...walk(this.#cache)]) ?? []) {
      if (/\.lock$|^objects\/.*\/tmp_/.test(path)) removeAll(`${this.#cache}/${path}`);
    }
    await this.#git(["init", "--quiet", "--bare", this.#cache]); // also completes an interrupted one
    Deno.mkdirSync(`${this.#cache}/info`, { recursive: true });
    // No attribute of a repo changes the content of files.
    Deno.writeTextFileSync(`${this.#cache}/info/attributes`, "* -text -eol -filter -ident -working-tree-encoding\n");
    this.#sshCommand = (await this.#git(["config", "--default", "ssh", "--get", "core.sshCommand"])).trim();
    // The user's git can map the URL to another one. Plain HTTP is accepted from this machine only.
    const mapped = await this.#git(["ls-remote", "--get-url", REMOTE]);
    if (/^http:\/\/(127\.0\.0\.1|\[::1\]|localhost)[:/]/.test(mapped)) this.#protocols += ":http";
  }

  async emptyCache(): Promise<void> {
    for (const name of namesIn(this.#cache).keys()) removeAll(`${this.#cache}/${name}`);
    await this.open();
  }

  /** Runs git and returns its output. Throws a `GitError` if git fails, and a `RangeError` if it prints too much. */
  async #git(args: readonly string[], input = "", maxLength = maxListing(true)): Promise<string> {
    const settings = [...GIT_SETTINGS, `remote.${REMOTE}.url=${this.url}`].flatMap((setting) => ["-c", setting]);
    const inherited = Object.entries(Deno.env.toObject()).filter(([name]) => !/^GIT_(?!SSL_)|^SSH_ASKPASS/.test(name));
    const command = new Deno.Command("git", {
      args: [...settings, ...args],
      env: {
        ...Object.fromEntries(inherited),
        ...GIT_ENVIRONMENT,
        GIT_DIR: this.#cache,
        GIT_ALLOW_PROTOCOL: this.#protocols,
        GIT_SSH_COMMAND: `${this.#sshCommand} -oBatchMode=yes -oServerAliveInterval=15`,
      },
      clearEnv: true,
      cwd: this.#cache,
      detached: true,
      stdin: "piped",
      stdout: "piped",
      stderr: "piped",
    });
    const child = ifExists(() => command.spawn());
    if (child === undefined) throw new Error("git is not installed, or not on the PATH");
    running.add(child.pid);
    const late = Promise.withResolvers<never>();
    const noAnswer = `Cannot fetch ${this.url}: no answer within ${fetchTimeout()} seconds (SKILLS_TIMEOUT)`;
    const deadline = setTimeout(() => {
      endGroup(child.pid);
      late.reject(new Error(noAnswer));
    }, timeLeft() * 1000);
    const read = async (stream: ReadableStream<Uint8Array<ArrayBuffer>>, limit: (text: string) => string) => {
      let text = "";
      for await (const piece of stream.pipeThrough(new TextDecoderStream())) text = limit(text + piece);
      return text;
    };
    const refuseLong = (text: string) => {
      if (text.length <= maxLength) return text;
      const wayOut = maxLength > maxListing() ? "" : " (--allow-large)";
      throw new RangeError(`Cannot fetch ${this.url}: git lists more than ${maxLength / 2 ** 20} MiB${wayOut}`);
    };
    // A server writes messages, too, which may have no end.
    const texts = [read(child.stdout, refuseLong), read(child.stderr, (text) => text.slice(-MAX_MESSAGES))] as const;
    const output = Promise.race([late.promise, Promise.all(texts)]);
    output.catch(() => endGroup(child.pid)); // It is thrown below.
    const writer = child.stdin.getWriter();
    writer.write(concat(input)).then(() => writer.close()).catch(() => {}); // Git says why it did not read it.
    const { success } = await child.status;
    // A process that git started can keep the pipes open. What git itself wrote is read in any case.
    const kill = () => attempt(() => Deno.kill(-child.pid, "SIGKILL"));
    output.catch(kill);
    const grace = setTimeout(kill, 1000);
    const [text, messages] = await Promise.race([late.promise, output]).finally(() => {
      clearTimeout(grace);
      clearTimeout(deadline);
      running.delete(child.pid);
    });
    if (!success) throw new GitError(`Cannot fetch ${this.url}: ${this.#explain(messages)}`);
    return text;
  }

  #explain(messages: string): string {
    const text = messages.replace(/\/\/[^/\s@]*@/g, "//"); // without users and passwords
    const known = Object.entries(GIT_REASONS).find(([, pattern]) => pattern.test(text));
    if (known) return known[0].replace("URL", this.url);
    const lines = text.split(/[\r\n]+/).filter((line) => line.trim() !== "");
    const last = lines.findLast((line) => /^(fatal|error|remote|ERROR): ?\S/.test(line)) ?? lines[0] ?? "git failed";
    return last.replace(/^(fatal|error): /, "");
  }

  /** The hashes of the refs on the server that references can mean, by full ref name. */
  async listRefs(references: readonly GitEntry["reference"][], maxLength: number): Promise<Map<string, string>> {
    const names = references.flatMap(possibleRefs).map(({ name }) => name).filter((name) => !COMMIT.test(name));
    if (names.length === 0) return new Map();
    const patterns = names.flatMap((name) =>
      name === "HEAD" ? [name] : [`refs/heads/${name}`, `refs/tags/${name}`, `refs/tags/${name}^{}`]
    );
    const args = ["ls-remote", "--quiet", "--end-of-options", REMOTE, ...new Set(patterns)];
    const text = await this.#git(args, "", maxLength);
    return new Map(text.split("\n").map((line) => line.split("\t").reverse() as [string, string]));
  }

  /** Hash and size of objects, by name without `suffix`. `fetch` gets the names of those that the cache lacks. */
  async #obtain(names: readonly string[], suffix: string, fetch: (missing: string[]) => Promise<void>) {
    const examine = async () => {
      const input = names.map((name) => `${name}${suffix}\n`).join("");
      const lines = (await this.#git(["cat-file", "--batch-check"], input)).split("\n").slice(0, -1);
      if (lines.length !== names.length) throw new GitError(`${this.url}: git's answer is incomplete`);
      const objects = lines.map((line, index) => {
        const [, hash = "", size] = /^([0-9a-f]{40}) \w+ (\d+)$/.exec(line) ?? [];
        return [names[index]!, { hash, size: Number(size) }] as const;
      });
      return new Map(objects.filter(([, { hash }]) => hash !== ""));
    };
    const found = await examine();
    const missing = names.filter((name) => !found.has(name));
    if (missing.length === 0) return found;
    await fetch(missing);
    return await examine();
  }

  async #fetch(args: readonly string[], input = "", settings = LAZY): Promise<void> {
    await this.#git([...settings, "fetch", "--quiet", "--no-tags", "--no-write-fetch-head", ...args], input);
  }

  /** Fetches commits, without the content of files if the server can leave it out; returns the trees of those found. */
  fetchCommits(commits: readonly string[]): Promise<Map<string, { hash: string }>> {
    return this.#obtain(commits, "^{tree}", async (missing) => {
      try {
        await this.#fetch(["--filter=blob:none", "--depth=1", REMOTE, ...missing]);
      } catch (error) {
        if (!(error instanceof GitError) || !UNSUPPORTED.test(error.message)) throw error;
        const [filter, settings] = /dumb|filter/.test(error.message) ? [[], []] : [["--filter=blob:none"], LAZY];
        const all = [...filter, "--prune", REMOTE, "+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"];
        await this.#fetch(all, "", settings);
      }
    });
  }

  /** Fetches the content of files; returns the size of each one. */
  async fetchBlobs(hashes: readonly string[]): Promise<Map<string, { size: number }>> {
    const fetch = (missing: string[]) => this.#fetch(["--filter=blob:none", "--stdin", REMOTE], missing.join("\n"));
    const found = await this.#obtain([...new Set(hashes)], "", fetch);
    if (hashes.some((hash) => !found.has(hash))) throw new GitError(`${this.url}: git's answer is incomplete`);
    return found;
  }

  /** The names in the front matter of `SKILL.md` files. Only what can be a skill's name matters, so this reads no YAML. */
  async readNames(hashes: readonly string[], maxLength: number): Promise<(string | undefined)[]> {
    await this.fetchBlobs(hashes);
    const header = crypto.randomUUID(); // No file contains it.
    const output = await this.#git(["cat-file", `--batch=${header}`], hashes.join("\n"), maxLength);
    const texts = output.split(`${header}\n`).slice(1);
    if (texts.length !== hashes.length) throw new GitError(`${this.url}: git's answer is incomplete`);
    return texts.map((text) => /^\ufeff?---\r?\n(?:(?!---).*\n)*?name: *(["']?)([\w.-]+)\1[ \t]*\r?\n/.exec(text)?.[2]);
  }

  /** Lists the entries of a commit, whose tree is `root`, at and below some paths, with the position of each path. */
  async list(commit: string, root?: { hash: string }, paths = [""], maxLength = maxListing()) {
    if (!root) throw new Error(`${this.url} no longer has the commit ${commit}: "update" fetches the newest one`);
    const args = ["ls-tree", "-r", "-t", "-z", "--full-tree", "--end-of-options", commit];
    if (!paths.includes("")) args.push(...paths);
    const lines = (await this.#git(args, "", maxLength)).split("\0");
    if (lines.pop() !== "") throw new GitError(`${this.url}: git's answer is incomplete`);
    if (lines.some((line) => line.length > 4200)) {
      throw new RangeError(`${this.url} has a path of more than 4,000 characters`);
    }
    const entries: TreeEntry[] = [{ mode: MODE.directory, hash: root.hash, path: "" }];
    for (const line of lines) {
      const tab = line.indexOf("\t");
      entries.push({ mode: line.slice(0, 6), hash: line.slice(tab - 40, tab), path: line.slice(tab + 1) });
    }
    return { entries, positions: new Map(entries.map(({ path }, index) => [path, index])) };
  }

  /** Writes files into a directory, by their paths, as they are in git. */
  async checkOut(blobs: readonly TreeEntry[], directory: string): Promise<void> {
    removeAll(`${this.#cache}/index`);
    const input = blobs.map(({ mode, hash, path }) => `${mode} ${hash}\t${path}\0`).join("");
    await this.#git(["update-index", "-z", "--index-info"], input);
    await this.#git([`--work-tree=${directory}`, "checkout-index", "--all", "--quiet"]);
  }

  /** The differences between two trees, for a reader. Git fetches the content that it needs. */
  async diff(from: string, to: string, paths: readonly string[]): Promise<string> {
    const options = ["--stat", "--summary", "--no-color", "--no-ext-diff", "--no-textconv"];
    return (await this.#git([...LAZY, "diff", ...options, from, to, "--", ...paths])).trimEnd();
  }
}

type Listing = Awaited<ReturnType<Repo["list"]>>;

/** A path in a commit. */
type Place = Pick<Locked, "commit" | "path"> & { isTag?: boolean };

/** The refs that a reference can mean, the longest first: in a browse URL, the ref can end at any slash. */
function possibleRefs({ ref = "HEAD", path, tail = "" }: GitEntry["reference"]): { name: string; path: string }[] {
  if (tail === "") return [{ name: ref, path }];
  const ends = [...tail.matchAll(/\/|$/g)].map(({ index }) => index).reverse();
  const possible = ends.map((end) => ({ name: tail.slice(0, end), path: tail.slice(end + 1) }));
  const commit = possible.find(({ name }) => COMMIT.test(name));
  return commit ? [commit] : possible;
}

/** Finds what a reference means now. `refs` is what the server has; a commit needs no lookup. */
function findPlace(reference: GitEntry["reference"], refs: ReadonlyMap<string, string>): Place {
  const { url } = reference;
  const possible = possibleRefs(reference);
  for (const { name, path } of possible) {
    if (COMMIT.test(name)) return { commit: name, path };
    const branch = refs.get(name === "HEAD" ? name : `refs/heads/${name}`);
    const tag = refs.get(`refs/tags/${name}^{}`) ?? refs.get(`refs/tags/${name}`);
    if (branch !== undefined && tag !== undefined && branch !== tag) {
      throw new Error(`${url} has a branch and a tag named ${quote(name)}: write the commit instead`);
    }
    const commit = branch ?? tag;
    if (commit !== undefined) return { commit, path, isTag: tag !== undefined };
  }
  const { name } = possible.at(-1)!;
  if (name === "HEAD") throw new Error(`${url} has no default branch: write one after "#"`);
  const hint = /^[0-9a-f]{7,39}$/.test(name) ? "; a commit needs all 40 digits" : "";
  throw new Error(`${url} has no branch or tag ${quote(name)}${hint}`);
}

/** The directory at a path of a listing, with its files by their paths below it; `undefined` if there is none. */
function findTree({ entries, positions }: Listing, path: string): { tree: string; blobs: TreeEntry[] } | undefined {
  const start = positions.get(path) ?? entries.length;
  if (entries[start]?.mode !== MODE.directory) return undefined;
  const blobs: TreeEntry[] = [];
  for (let index = start + 1; index < entries.length; index++) {
    const entry = entries[index]!;
    const inside = path === "" ? entry.path : below(path, entry.path);
    if (inside === undefined) break;
    if (entry.mode !== MODE.directory) blobs.push({ ...entry, path: inside });
  }
  return { tree: entries[start].hash, blobs };
}

/** The directories of the skills in a listing, except those inside other skills. */
function skillDirectories(entries: readonly TreeEntry[]): string[] {
  const files = entries.filter(({ mode, path }) => mode.startsWith("100") && /(^|\/)SKILL\.md$/.test(path));
  const outer: string[] = []; // each with a slash at its end
  for (const directory of files.map(({ path }) => path.slice(0, -"SKILL.md".length)).sort()) {
    if (outer.length === 0 || !directory.startsWith(outer.at(-1)!)) outer.push(directory);
  }
  return outer.map((directory) => directory.slice(0, -1));
}

// ── Hidden characters: what a reader doesn't see in a text, but an agent reads ──────────────────────────────────

/** A character, or a run of them, that people don't see and agents may read. Lines and columns count from 1. */
export interface HiddenCharacter {
  line: number;
  /** In characters as editors count them, not in bytes or UTF-16 units. */
  column: number;
  character: string;
  kind: string;
}

/** The first kind that matches counts. `\p{DI}` are the characters for which Unicode says to show nothing. */
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

/** The flags of England, Scotland and Wales: a black flag, and the tags of "gbeng", "gbsct" or "gbwls" and an end. */
const TAGGED_FLAG = String.raw`\u{1F3F4}\u{E0067}\u{E0062}` +
  String.raw`(?:\u{E0065}\u{E006E}\u{E0067}|\u{E0073}\u{E0063}\u{E0074}|\u{E0077}\u{E006C}\u{E0073})\u{E007F}`;

/** In an archive or a database, these are numbers. */
const CONTROLS = String.raw`\x01-\x08\x0B\x0E-\x1F\x7F-\x9F`;

/**
 * Creates a pattern for every hidden character except those that emoji and scripts need, with a group for each kind.
 *
 * The exceptions carry almost no information: they are next to something visible that needs them, and not in a run.
 * Scripts are written as their blocks, because a pattern with the names of 25 scripts takes 30 ms to compile.
 */
function createHiddenPattern(): RegExp {
  const raw = String.raw;
  const characters = raw`[\p{DI}\p{Co}\p{Zl}\p{Zp}\uFFF9-\uFFFB\u{13430}-\u{13440}${CONTROLS}]`;
  const suspect = raw`${characters}|\r(?=\0*[^\n\0])|[\u2000-\u200A\u2800]{3}`; // to skip everything else quickly
  const nextTo = (character: string, visible: string) =>
    raw`${character}(?:(?<=(?!\p{DI})${visible}${character})|(?=(?!\p{DI})${visible}))`;
  const rightToLeft = raw`(?!\p{DI})[\u0590-\u08FF\uFB1D-\uFDFF\uFE70-\uFEFC\u{10800}-\u{10FFF}\u{1E800}-\u{1EFFF}]`;
  // Arabic to Sinhala, Tibetan, Burmese, Khmer, Mongolian, Balinese and others, whose letters join or stack.
  const joining = raw`[\u0600-\u0DFF\u0F00-\u109F\u1780-\u18AF\u1B00-\u1BBF\uA840-\uA87F\uA980-\uA9DF\uAA60-\uAA7F` +
    raw`\uFB50-\uFDFF\uFE70-\uFEFC\u{10D00}-\u{10D3F}\u{11000}-\u{116FF}\u{1E900}-\u{1E95F}]`;
  const exceptions = [
    // Any other tags after a black flag could spell anything.
    raw`(?<=(?=${TAGGED_FLAG}).[\u{E0061}-\u{E007A}]{0,5})[\u{E0061}-\u{E007F}]`,
    // Marks that place punctuation correctly, near Hebrew or Arabic.
    raw`(?<!\p{Bidi_C})[\u061C\u200E\u200F](?!\p{Bidi_C})(?:(?<=${rightToLeft}.{0,20})|(?=.{0,20}${rightToLeft}))`,
    // Joined emoji.
    raw`(?<=\p{ExtPict}\uFE0F?\p{EMod}?)\u200D(?=\p{ExtPict})`,
    nextTo(raw`[\u200C\u200D]`, joining),
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

let hiddenPattern: RegExp | undefined;

/**
 * Whether much of a text is not text, as in compressed data and in fonts. Some of that must be bytes that are not UTF-8,
 * because everybody sees those. Four hidden characters in a row are no chance.
 */
function isNoise(text: string): boolean {
  const count = (pattern: RegExp) => text.match(pattern)?.length ?? 0;
  const length = text.length - count(/\0/g);
  const invalid = count(/\uFFFD/g);
  const controls = count(new RegExp(`[${CONTROLS}]`, "g"));
  return invalid > 8 + length / 32 && invalid + controls > 8 + length / 8 && !/\p{DI}{4}/u.test(text);
}

/** Whether tags, or variation selectors, can spell a message in data, which has some by chance. */
function hasMessage(text: string): boolean {
  let left = 8 + text.length / 2 ** 21;
  for (const [match] of text.matchAll(new RegExp(String.raw`${TAGGED_FLAG}|[\u{E0000}-\u{E01EF}]`, "gu"))) {
    if (match.length === 2 && --left < 0) return true; // It is no flag.
  }
  return false;
}

/**
 * The encoding of a text. UTF-16 without a byte order mark has a NUL in every second byte next to ASCII, and rarely next to
 * anything else. In a font, there are other numbers.
 */
function encodingOf(bytes: Uint8Array): "utf-8" | "utf-16le" | "utf-16be" {
  if (bytes[0] === 0xFF && bytes[1] === 0xFE) return "utf-16le";
  if (bytes[0] === 0xFE && bytes[1] === 0xFF) return "utf-16be";
  const sample = bytes.subarray(0, 4096);
  if (!sample.includes(0)) return "utf-8";
  const isUtf16 = (high: 0 | 1) => {
    const low = sample.filter((_, index) => index % 2 !== high && sample[index ^ 1] === 0);
    const ascii = low.filter((byte) => byte >= 0x20 && byte < 0x7F || byte >= 0x09 && byte <= 0x0D).length;
    return ascii > 0.4 * sample.length / 2 && low.length < 1.1 * ascii;
  };
  return isUtf16(1) ? "utf-16le" : isUtf16(0) ? "utf-16be" : "utf-8";
}

/** The hidden characters of a text, at most 100. In one that may be binary, those in noise are none. */
function findHiddenIn(text: string, mayBeBinary = false): HiddenCharacter[] {
  if (!/[^\t\n\f -~]/.test(text)) return [];
  hiddenPattern ??= createHiddenPattern();
  const found: HiddenCharacter[] = [];
  let [line, column, position] = [1, 1, 0];
  for (const match of text.matchAll(hiddenPattern)) {
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

/**
 * Finds the characters in a file that people don't see and that can tell an agent what nobody has read.
 *
 * Characters that emoji and scripts need are accepted, and so is a byte order mark. A file that isn't text has none.
 * Neither a NUL nor a few invalid bytes make a file binary: its first 8,000 bytes must look like data. What looks like
 * UTF-16 can be UTF-8, too, so neither reading may have any. UTF-16 that isn't mostly Latin letters has some as UTF-8.
 *
 * @param bytes The content of the file: UTF-8 or UTF-16.
 * @param isText Whether it is text whatever it looks like, because an agent reads it as text.
 * @returns The first 100 of them, in order.
 */
export function hiddenCharacters(bytes: Uint8Array, isText = false): HiddenCharacter[] {
  const encoding = encodingOf(bytes);
  const isUtf16 = encoding !== "utf-8";
  const found = isUtf16 ? findHiddenIn(new TextDecoder(encoding).decode(bytes)) : [];
  if (found.length > 0) return found;
  const decoder = new TextDecoder();
  const mayBeBinary = !isText && bytes.includes(0); // compressed data has a NUL somewhere
  const text = decoder.decode(bytes);
  if (mayBeBinary && isNoise(decoder.decode(bytes.subarray(0, 8000))) && !hasMessage(text)) return [];
  if (!mayBeBinary || isUtf16) return findHiddenIn(text);
  return findHiddenIn(text.replace(new RegExp(`[${CONTROLS}]`, "g"), " "), true);
}

// ── Fetch: git references into the store, and what to write into the lockfile ───────────────────────────────────

interface FetchRequest {
  entry: GitEntry;
  before?: Locked; // what the reference is locked to
  locked?: Locked; // what to fetch; `undefined` for the newest commit
}

/** A skill that the store lacks. */
interface MissingSkill extends StoredSkill {
  entry: GitEntry;
  label: string; // its name in messages
  blobs: TreeEntry[];
  isLargeAllowed?: boolean;
}

/** Returns a skill unless its files are refused. */
function acceptContent(skill: MissingSkill): MissingSkill {
  const { blobs, isLargeAllowed } = skill;
  if (!isLargeAllowed && blobs.length > MAX_SKILL.files) {
    throw new Error(`it has ${blobs.length} files, more than ${MAX_SKILL.files} (--allow-large)`);
  }
  const seen = new Map<string, string>(); // all paths and directories, by what a file system may make of them
  for (const { mode, path } of blobs) {
    const shown = quote(path);
    if (![MODE.file, MODE.executable, MODE.link].includes(mode)) {
      throw new Error(`${shown} is a submodule, or has another mode that is not allowed`);
    }
    if (path.includes("\ufffd")) throw new Error(`the name ${shown} is not UTF-8`);
    if (path.split("/").some((name) => concat(name).length > 255)) throw new Error(`the name ${shown} is too long`);
    for (let part = path; part !== ""; part = part.slice(0, Math.max(0, part.lastIndexOf("/")))) {
      const folded = part.normalize("NFKC").toUpperCase().normalize("NFC").toLowerCase();
      const other = seen.get(folded);
      if (other === part) break; // as are those above it
      if (other !== undefined) throw new Error(`${quote(part)} and ${quote(other)} are the same name on some systems`);
      seen.set(folded, part);
      const name = lastSegment(part);
      const isGit = /^\.git([ .]|$)|^git~\d+$/i.test(name.normalize("NFKC").replace(/\p{Cf}/gu, ""));
      if (isGit || ["", ".", ".."].includes(name)) throw new Error(`it contains ${shown}`);
    }
  }
  return skill;
}

/** The hidden characters in the names and texts of a directory, for a reader. */
function findHidden(directory: string): string[] {
  const found: string[] = [];
  const add = (place: string, bytes: Uint8Array, isText: boolean) => {
    for (const { line, column, character, kind } of hiddenCharacters(bytes, isText).slice(0, MAX_PROBLEMS)) {
      found.push(`${place}:${line}:${column} U+${codePoint(character)} ${kind}`);
    }
  };
  for (const [path, { info }] of sortByKey([...walk(directory)].map((item) => [item.path, item]))) {
    add(`the name ${quote(path)}`, concat(lastSegment(path)), true);
    if (info.isSymlink) add(path, concat(Deno.readLinkSync(`${directory}/${path}`)), true);
    if (info.isFile) add(path, Deno.readFileSync(`${directory}/${path}`), path.endsWith(".md"));
  }
  return found;
}

/** Moves a skill that was checked out into the store, and makes it read-only. */
async function storeSkill(skill: StoredSkill, checkedOut: string): Promise<void> {
  if (hiddenInStore(skill)) return; // through another reference
  if (await treeHash(checkedOut) !== skill.tree) throw new Error("its content does not match its hash");
  const hidden = findHidden(checkedOut);
  const parent = resolve(skill.directory, "..");
  for (const { path, info } of [...walk(checkedOut)].reverse()) {
    const mode = info.isDirectory || isExecutable(info) ? 0o555 : 0o444;
    if (!info.isSymlink) Deno.chmodSync(`${checkedOut}/${path}`, mode);
  }
  Deno.mkdirSync(parent, { recursive: true });
  removeAll(skill.directory);
  replaceFile(`${parent}/${hidden.length > 0 ? HIDDEN_MARKER : CLEAN_MARKER}`, JSON.stringify(hidden));
  Deno.renameSync(checkedOut, skill.directory);
  Deno.chmodSync(skill.directory, 0o555); // not before: a directory that is read-only can't be moved
}

/** What a reference stands for in a commit. */
async function lookUp(repo: Repo, entry: GitEntry, { commit, path }: Place, listing: Listing): Promise<Locked> {
  const { url, all } = entry.reference;
  const found = findTree(listing, path);
  const inside = found ? skillDirectories(found.blobs) : [];
  const chosen = inside.filter((skill) => all ? skill !== "" && (path === "" || !skill.includes("/")) : skill === "");
  if (found && chosen.length > 0) {
    const skills = chosen.map((skill) => [skill, findTree(listing, path ? `${path}/${skill}` : skill)?.tree]);
    return { commit, path, tree: found.tree, url, ...all && { skills: Object.fromEntries(skills) } };
  }
  const lacks = found
    ? `${path ? quote(path) : url} has no ${all ? "skills" : "SKILL.md"}`
    : `${url} has no directory ${quote(path)}`;
  const whole = await repo.list(commit, listing.entries[0]).catch(() => undefined); // It may be too large.
  const skills = someSkills(skillDirectories(whole?.entries ?? []), path);
  throw new Error(
    `${quote(entry.text)}: ${lacks} at ${commit.slice(0, 7)}${skills && `; skills in this repo: ${skills}`}`,
  );
}

/** Lists the skills of a repo for a message. If there are many, the most similar to what the user wrote come first. */
function someSkills(paths: readonly string[], written: string): string {
  const places = paths.map((path) => path || "its root");
  return someOf(places.length > 8 ? bySimilarity(written, places).map(({ name }) => name) : places);
}

/** The references whose skills are all in the project already, with `mode commit`. Nothing has to be fetched for them. */
function presentReferences(project: Project, files: Files): Set<string> {
  const { recorded } = files.lockfile;
  if (files.mode !== "commit") return new Set();
  const present = new Set(recorded.keys());
  for (const { path, desired } of findDesired(files, project).targets.values()) {
    for (const { name, reference } of desired.values()) if (!exists(`${path}/${name}`)) present.delete(reference);
  }
  return present;
}

let storeLock: Deno.FsFile | undefined;

/**
 * What a run fetches: the newest commits of the references in `updated`, otherwise what is locked or new. It comes to
 * what to lock, or why it failed, by reference.
 */
class Fetching {
  readonly locked = new Map<string, Locked>();
  readonly failures = new Map<string, string>();
  updates = 0; // how many references have a newer commit

  constructor(readonly flags: Request["flags"], readonly isFrozen: boolean, readonly updated: ReadonlySet<string>) {}

  /** The results of `work` for each item. An item for which it fails is left out, and its reference has failed. */
  async #forEach<T extends { entry: GitEntry; label?: string }, R>(
    items: Iterable<T>,
    work: (item: T) => R | Promise<R>,
  ): Promise<R[]> {
    const results: R[] = [];
    for (const item of items) {
      try {
        results.push(await work(item));
      } catch (error) {
        if (error instanceof GitError) throw error; // It concerns all references of a repo.
        const reason = reasonOf(error);
        const { entry: { text }, label } = item;
        this.failures.set(text, label === undefined ? reason : `Refused ${quote(label)}: ${reason}`);
      }
    }
    return results;
  }

  /** Fetches what entries name and the lockfile or the store lacks, as far as it may. */
  async fetch(project: Project, files: Files): Promise<void> {
    const present = presentReferences(project, files);
    // Of several lines with the same reference, one with `trust` counts.
    const git = files.entries.filter(isGitEntry).sort((a, b) => Number(a.trust) - Number(b.trust));
    const unique = new Map(git.map((entry) => [entry.text, { entry }])).values();
    const requests = await this.#forEach(unique, ({ entry }): FetchRequest[] => {
      const { text, reference, trust } = entry;
      const known = files.lockfile.locked.get(text);
      const before = known && isLockedFor(reference, known) ? known : undefined;
      const locked = this.updated.has(text) ? undefined : known;
      if (gitEntryProblem(entry, project) || locked !== undefined && !before) return []; // reported by findDesired
      if (locked && present.has(text)) return [];
      if (locked && storedSkills(locked).every(hiddenInStore)) {
        if (trust && locked.trusted === undefined) this.locked.set(text, { ...locked, trusted: locked.tree });
        return [];
      }
      if (!before && this.isFrozen) {
        throw new Error(`${quote(text)} is new in .skills and not fetched yet: ${frozenWayOut()}`);
      }
      if (this.flags.offline) throw new Error(`${quote(text)} is not on this machine, and --offline fetches nothing`);
      return [{ entry, before, locked }];
    });
    if (requests.flat().length > 0) await this.#fetchAll(requests.flat());
  }

  async #fetchAll(requests: readonly FetchRequest[]): Promise<void> {
    // Each repo is taken by one of the workers below, which share this iterator.
    const groups = Map.groupBy(requests, ({ entry }) => entry.reference.url).entries();
    const fail = (requests: readonly FetchRequest[], reason: string) =>
      requests.forEach(({ entry }) => this.failures.set(entry.text, reason));
    const work = async () => {
      for (const [url, requests] of groups) {
        using repo = new Repo(url, this.flags.quiet);
        try {
          await repo.open().then(() => this.#fetchFrom(repo, requests)).catch(async (error) => {
            if (!(error instanceof GitError && DAMAGE.test(error.message))) throw error;
            await repo.emptyCache();
            for (const { entry } of requests) this.failures.delete(entry.text);
            await this.#fetchFrom(repo, requests);
          });
        } catch (error) {
          fail(requests, reasonOf(error));
        }
      }
    };
    try {
      // Held until the program ends: what is fetched and not deployed yet must not be cleaned.
      storeLock ??= await lockDirectory(makePrivateDirectory(storeDirectory()), timeLeft(), false);
      await Promise.all([work(), work(), work(), work()]);
    } catch (error) {
      fail(requests, `Cannot use the store: ${reasonOf(error)}`);
    }
  }

  async #fetchFrom(repo: Repo, requests: readonly FetchRequest[]): Promise<void> {
    const sought = requests.filter(({ locked }) => !locked).map(({ entry }) => entry.reference);
    const isLargeAllowed = ({ before }: FetchRequest) => this.flags["allow-large"] || before?.large && !isRestricted();
    const maxLength = maxListing(requests.some(isLargeAllowed));
    const refs = await repo.listRefs(sought, maxLength);
    const placed = await this.#forEach(requests, (request) => {
      const place: Place = request.locked ?? findPlace(request.entry.reference, refs);
      return { ...request, place };
    });
    const commits = [...new Set(placed.map(({ place }) => place.commit))];
    let trees = await repo.fetchCommits(commits);
    if (trees.size < commits.length) { // Git takes an emptied pack in the cache for objects that it has.
      await repo.emptyCache();
      trees = await repo.fetchCommits(commits);
    }
    const list = (commit: string, paths: string[]) => repo.list(commit, trees.get(commit), paths, maxLength);
    const listCommit = memoize((commit) => {
      const paths = placed.filter(({ place }) => place.commit === commit).map(({ place }) => place.path);
      return list(commit, [...new Set(paths)]);
    });
    const found = await this.#forEach(placed, async (request) => {
      const { entry, locked, place } = request;
      const listing = await listCommit(place.commit).catch((error) => {
        if (error instanceof RangeError) return list(place.commit, [place.path]); // One entry must not stop the others.
        throw error;
      });
      const after = { ...locked ?? await lookUp(repo, entry, place, listing) };
      if (this.flags["allow-large"] || request.before?.large) after.large = true;
      const skills = storedSkills(after);
      if ([after, ...skills].some(({ path, tree }) => findTree(listing, path)?.tree !== tree)) {
        const source = `${repo.url} at ${after.commit}`;
        throw new Error(`${quote(entry.text)} has other content than .skills.lock says, in ${source}`);
      }
      const missing = skills.filter((skill) => !hiddenInStore(skill)).map((skill): MissingSkill => {
        const { blobs } = findTree(listing, skill.path)!;
        return { ...skill, entry, label: skill.path || entry.text, blobs, isLargeAllowed: isLargeAllowed(request) };
      });
      return { ...request, after, missing };
    });
    await this.#store(repo, found.flatMap(({ missing }) => missing));
    const stored = found.filter(({ entry }) => !this.failures.has(entry.text));
    await this.#forEach(stored, async (each) => this.locked.set(each.entry.text, await this.#accept(repo, each)));
  }

  /** Puts skills into the store, except those that are refused. */
  async #store(repo: Repo, skills: readonly MissingSkill[]): Promise<void> {
    const allowed = await this.#forEach(skills, acceptContent);
    if (allowed.length === 0) return;
    const sizes = await repo.fetchBlobs(allowed.flatMap(({ blobs }) => blobs.map(({ hash }) => hash)));
    const small = await this.#forEach(allowed, (skill) => {
      const sizeOf = ({ hash }: TreeEntry) => sizes.get(hash)!.size;
      const link = skill.blobs.find((blob) => blob.mode === MODE.link && !(sizeOf(blob) > 0 && sizeOf(blob) < 4096));
      if (link) throw new Error(`the link ${quote(link.path)} is empty or too long`);
      const size = skill.blobs.reduce((sum, blob) => sum + sizeOf(blob), 0) / 2 ** 20;
      if (skill.isLargeAllowed || size <= MAX_SKILL.bytes / 2 ** 20) return skill;
      throw new Error(`it has ${Math.ceil(size)} MiB, more than ${MAX_SKILL.bytes / 2 ** 20} (--allow-large)`);
    });
    let stored: unknown[] = [];
    const temporary = `${storeDirectory()}/.new-${fileNameOf(repo.url)}`; // The lock of the cache protects it, too.
    removeAll(temporary); // of a killed run
    Deno.mkdirSync(temporary);
    try {
      const filesOf = ({ blobs }: MissingSkill, index: number) =>
        blobs.map((blob) => ({ ...blob, path: `${index}/${blob.path}` }));
      await repo.checkOut(small.flatMap(filesOf), temporary);
      stored = await this.#forEach(small, (skill) => storeSkill(skill, `${temporary}/${small.indexOf(skill)}`));
    } finally {
      removeAll(temporary);
      if (stored.length < skills.length) await repo.emptyCache(); // Don't keep a download that was refused.
    }
  }

  /** What to lock for a reference that is stored now. Shows what an update changes. */
  async #accept(repo: Repo, { entry, before, place, after }: FetchRequest & { place: Place; after: Locked }) {
    const { text, trust } = entry;
    const isUpdate = this.updated.has(text);
    const isChanged = before !== undefined && before.commit !== after.commit;
    const [old, now] = [before?.commit.slice(0, 12), after.commit.slice(0, 12)];
    if (isChanged && place.isTag && !(isUpdate && this.flags["accept-moved"])) {
      const wayOut = `If you know why, run "use-skills.ts update --accept-moved ${text}"`;
      throw new Error(`The tag of ${quote(text)} was moved from ${old} to ${now}, and tags should not move. ${wayOut}`);
    }
    const hidden = storedSkills(after).flatMap((skill) => hiddenInStore(skill) ?? []);
    if (isUpdate && (isChanged || !before)) this.updates++;
    if (isUpdate && !this.flags.quiet) {
      if (!before) warn(`${text}: ${now}, new`);
      if (isChanged) warn(`${text}: ${old} -> ${now}${await describeChanges(repo, before, after, hidden)}`);
    }
    const isFirstTrust = before?.trusted === undefined && (before?.tree ?? after.tree) === after.tree;
    const isTrusted = trust && (isFirstTrust || isUpdate && this.flags.trust || hidden.length === 0);
    const result = { ...after, trusted: isTrusted ? after.tree : before?.trusted };
    for (const skill of isChanged ? storedSkills(after) : []) {
      const problem = hiddenProblem(skill, entry, result);
      if (problem) throw new Error(problem);
    }
    return result;
  }
}

/** What an update changes, for a reader. */
async function describeChanges(repo: Repo, before: Locked, after: Locked, hidden: readonly string[]): Promise<string> {
  if (before.tree === after.tree) return ", and the skill is the same";
  const known = await repo.fetchCommits([before.commit, after.commit]);
  const changes = known.has(before.commit)
    ? await repo.diff(before.tree, after.tree, Object.keys({ ...before.skills, ...after.skills }))
    : " (the old commit is gone, so the changes can't be shown)";
  return ["", changes, ...hidden.slice(0, MAX_PROBLEMS).map((each) => ` hidden character: ${each}`)].join("\n");
}

// ── Report ──────────────────────────────────────────────────────────────────────────────────────────────────────

/** What was done, and the state of a skill before, as `list` shows it. */
type Words = Partial<Record<Action["kind"], string>>;
const VERBS: Words = { recopy: "replace the copy", prune: "remove" }; // others are their kind
const DONE: Words = {
  link: "linked",
  relink: "relinked",
  copy: "copied",
  recopy: "copied again",
  adopt: "adopted",
  prune: "removed",
};
const STATES: Words = { ok: "ok", keep: "ok", adopt: "ok", link: "missing", copy: "missing", conflict: "conflict" };

/** Prints a message for people on standard error. `place` comes first, in red on a terminal. */
function warn(text: string, place = ""): void {
  const isRed = place !== "" && Deno.stderr.isTerminal() && !environment("NO_COLOR");
  const start = escapeControls(place);
  clearProgress();
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

/** Prints changes by skill and agent. */
function printChanges(actions: readonly PlannedAction[], areDone: boolean): void {
  const changes = actions.filter(({ kind }) => DONE[kind]);
  const skills = Array.from(Map.groupBy(changes, ({ kind, name }) => `${kind} ${name}`).values(), (same) => {
    return { ...same[0]!, agents: [...new Set(same.flatMap(({ agents }) => agents))].join(", ") };
  });
  for (const same of Map.groupBy(skills, ({ kind, agents }) => `${kind} ${agents}`).values()) {
    const { kind, agents } = same[0]!;
    const words = areDone ? DONE[kind] : `would ${VERBS[kind] ?? kind}`;
    warn(`use-skills: ${words} ${someOf(same.map(({ name }) => name))} for ${agents}`);
  }
}

/** Prints changes by path, with their reasons. */
function printPlanned(actions: readonly PlannedAction[], project: Project): void {
  for (const { kind, path, desired, reason } of actions) {
    const source = desired ? ` -> ${show(desired.source, project)}` : "";
    warn(`would ${VERBS[kind] ?? kind} ${show(path, project)}${source}: ${reason}`);
  }
}

/** Prints one JSON object. `version` changes if readers must change; missing values are `null`. */
function printJson(project: Project, content: Record<string, unknown>, problems: readonly Problem[]): void {
  const pathTo = pathsFrom(project.directory, project.directory);
  const listed = problems.map(({ file = project.manifest, line = null, name = null, message }) => {
    return { file: pathTo(file), line, name, message };
  });
  const json = { version: 2, directory: project.directory, ...content, problems: listed };
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

/** Where fetched skills come from, by their directory in the store. */
function originsOf(lockfile: Lockfile) {
  const origins = new Map<string, { from: string; commit: string; source: string }>();
  for (const [from, locked] of lockfile.locked) {
    const { url, commit } = locked;
    const repo = url.replace(/^https:\/\/github\.com\/|^\w+:\/\/|^[^/:]*@/, "").replace(/\.git$/, "").replace(":", "/");
    for (const { directory, path } of attempt(() => storedSkills(locked)) ?? []) {
      origins.set(directory, { from, commit, source: `${repo}${path && `/${path}`}@${commit.slice(0, 7)}` });
    }
  }
  return origins;
}

/** The rows of `list`: one for each name, source and state, with its agents. */
function listRows(actions: readonly PlannedAction[], project: Project, lockfile: Lockfile) {
  const origins = originsOf(lockfile);
  const rows = actions.flatMap(({ name, kind, desired, owned, path, agents, actual }) => {
    if (!desired && (!owned || kind === "ok")) return []; // another project's
    const directory = desired?.source ?? resolve(path, "..", owned!.target);
    const isBroken = actual.kind === "link" && owned && !exists(`${directory}/SKILL.md`);
    const isEdited = kind === "conflict" && actual.kind === "directory" && actual.hash !== undefined;
    const state = isBroken ? "broken" : isEdited ? "edited" : STATES[kind] ?? "drift";
    const shown = show(directory, project);
    return [{ name, agents, state, ...origins.get(directory) ?? { from: shown, commit: null, source: shown } }];
  });
  const groups = Map.groupBy(rows, ({ name, from, state }) => JSON.stringify([name, from, state]));
  return Array.from(groups.values(), (same) => ({ ...same[0]!, agents: same.flatMap(({ agents }) => agents) }))
    .sort((a, b) => a.name < b.name ? -1 : a.name > b.name ? 1 : 0);
}

/** Prints a table that fits into 80 columns, if need be with shortened cells. */
function printRows(rows: ReturnType<typeof listRows>): void {
  if (rows.length === 0) return;
  const isColored = Deno.stdout.isTerminal() && !environment("NO_COLOR");
  const table = rows.map(({ state, name, agents, source }) => [state, name, agents.join(", "), source]);
  table.unshift(["STATE", "NAME", "AGENTS", "SOURCE"]);
  const widths = [0, 1, 2, 3].map((column) => Math.max(...table.map((row) => row[column]!.length)));
  for (const [column, least] of [[3, 24], [2, 12], [1, 12]] as const) {
    const [width, excess] = [widths[column]!, widths.reduce((sum, width) => sum + width + 2) - 80];
    if (excess > 0 && width > least) widths[column] = Math.max(width - excess, least);
  }
  for (const row of table) {
    const cells = row.map((cell, column) => {
      const width = widths[column]!;
      if (cell.length <= width) return cell.padEnd(width);
      return column === 3 ? `…${cell.slice(1 - width)}` : `${cell.slice(0, width - 1)}…`; // A source's end says most.
    });
    const line = escapeControls(cells.join("  ").trimEnd());
    const color = { ok: "", STATE: "", drift: "33" }[row[0]!] ?? "31"; // yellow, or red
    console.log(isColored && color ? line.replace(row[0]!, `\x1b[${color}m${row[0]}\x1b[39m`) : line);
  }
}

function count(number: number, noun: string): string {
  return `${number} ${number === 1 ? noun : noun.replace(/y$/, "ie") + "s"}`;
}

function formatSize(bytes: number): string {
  if (bytes < 1024) return `${bytes} B`;
  return bytes < 2 ** 20 ? `${(bytes / 1024).toFixed(1)} KiB` : `${(bytes / 2 ** 20).toFixed(1)} MiB`;
}

/** Says on a terminal, in one line, what a command came to. */
function printSummary(text: () => string, problems: readonly Problem[], { flags }: Request): void {
  const isWanted = Deno.stderr.isTerminal() && !environment("DIRENV_IN_ENVRC") && !flags.quiet && !flags.json;
  if (isWanted) warn(problems.length > 0 ? `${text()}; ${count(problems.length, "problem")}` : text());
}

function summarize({ command, flags }: Request, outcome: Outcome, updates: number): string {
  const { actions, targets, problems, isRefused } = outcome;
  const changes = actions.filter(isChange).length;
  const conflicts = new Set(actions.filter(({ kind }) => kind === "conflict").map(({ path }) => path));
  const deployed = targets.filter(({ target }) => target.desired.size > 0).map(({ target }) => target);
  const names = new Set(
    deployed.flatMap(({ path, desired }) => [...desired.keys()].filter((name) => !conflicts.has(`${path}/${name}`))),
  );
  const agents = [...new Set(deployed.flatMap(({ agents }) => agents))].join(", ");
  const isDry = command === "check" || flags["dry-run"];
  if (isRefused) return "Nothing added";
  if (command === "list") return count(names.size, "skill");
  if (isDry && updates > 0) return `${count(updates, "update")} available`;
  if (isDry && changes > 0) return count(changes, "difference");
  if (command === "clean") return changes > 0 ? `${count(changes, "entry")} removed` : "Nothing to remove";
  if (problems.length === 0 && command === "update" && changes + updates === 0) return "Nothing to update";
  if (problems.length === 0 && command === "check" && names.size > 1) return `All ${names.size} skills are up to date`;
  return `${count(names.size, "skill")} up to date${agents && ` for ${agents}`}`;
}

// ── Commands ────────────────────────────────────────────────────────────────────────────────────────────────────

type OptionName = keyof typeof OPTIONS;

interface Request {
  command: string;
  args: string[]; // with `add`, from the time when they are known, the lines to write
  as?: string;
  agents: string[];
  flags: Partial<Record<OptionName, boolean>>; // the options that were given
  directory: string;
}

/** The command line without words: what direnv runs. */
const NO_REQUEST: Request = { command: "sync", args: [], agents: [], flags: {}, directory: "." };

function renderColumns(rows: readonly (readonly [left: string, right: string])[]): string {
  const width = Math.max(...rows.map(([left]) => left.length));
  return rows.map(([left, right]) => `  ${left.padEnd(width)}  ${right}`).join("\n");
}

function usageOfOption(name: OptionName): string {
  const { value }: Option = OPTIONS[name];
  return value ? `--${name} ${value}` : `--${name}`;
}

function renderOptions(names: readonly OptionName[]): string {
  return renderColumns(names.map((name) => {
    const { short, summary }: Option = OPTIONS[name];
    return [`${short ? `-${short},` : "   "} ${usageOfOption(name)}`, summary];
  }));
}

function renderHelp(): string {
  const all = Object.entries(COMMANDS);
  const commands = all.map(([name, { args, summary }]) => [args ? `${name} ${args}` : name, summary] as const);
  const aliases = all.flatMap(([name, { aliases = {} }]) =>
    Object.entries(aliases).map(([alias, flags]) => `${alias} (${[name, ...flags].join(" --")})`)
  );
  return `use-skills ${VERSION}: deploy the skills that .skills names to coding agents
Usage: use-skills.ts [COMMAND] [OPTION...], without COMMAND: sync
${renderColumns(commands)}
  Also: ${aliases.join(", ")}
Options:
${renderOptions(Object.keys(OPTIONS) as OptionName[])}
Entries of .skills: REF [as NAME] [trust] [for AGENT...]
  REF: NAME, ./DIR, './DIR/*', OWNER/REPO/PATH#REF or a git URL
  "for AGENT..." alone on a line is for the entries below it
  "mode copy" or "mode commit" above all entries: deploy files, not links
  AGENT: a directory, or one of
${Object.keys(AGENTS).join(" ").replace(/(.{1,74})( |$)/g, "    $1\n").trimEnd()}
Exit status: 0 done; 1 a problem or a difference; 2 wrong usage or manifest`;
}

function usageOf(name: string): string {
  const { args = [], options = [] } = COMMANDS[name]!;
  return ["Usage: use-skills.ts", name, args, options.map((option) => `[${usageOfOption(option)}]`)].flat(2).join(" ");
}

function renderCommandHelp(name: string): string {
  const { options = [], summary, examples, aliases = {} } = COMMANDS[name]!;
  const also = Object.keys(aliases).length > 0 ? `, also: ${Object.keys(aliases).join(", ")}` : "";
  return `${usageOf(name)}
  ${summary}${also}
Options:
${renderOptions([...options, ...COMMON_OPTIONS])}
Examples:
${examples.map((example) => `  use-skills.ts ${example}`).join("\n")}`;
}

/** An error about a word that is no command or option, with what to use instead. */
function unknownWord(kind: string, word: string, known: readonly string[]): UsageError {
  const instead = Object.hasOwn(INSTEAD, word) ? `: use ${INSTEAD[word]}` : suggestion(word, known);
  return new UsageError(`Unknown ${kind} ${quote(word)}${instead}`);
}

function findCommand(word: string): [name: string, command: Command] {
  const all = Object.entries(COMMANDS);
  const found = all.find(([name, { aliases = {} }]) => name === word || Object.hasOwn(aliases, word));
  if (found) return found;
  const names = all.flatMap(([name, { aliases = {} }]) => [name, ...Object.keys(aliases)]);
  // Not the opposite of what was typed: of "unlist" or "recover".
  const isOpposite = (name: string) =>
    name === "remove" ? !word.includes("m") : /^(un|de|dis)/.test(word) && word.endsWith(name);
  throw unknownWord("command", word, names.filter((name) => !isOpposite(name)));
}

/** Reads the command line. Without options, no library is loaded: it works on a machine that never reached JSR. */
async function parseCommandLine(words: string[]): Promise<Request> {
  if (words.join(" ") === "sync --frozen") return { ...NO_REQUEST, flags: { frozen: true } }; // in older .envrc blocks
  if (/^(-V|--version)$/.test(words.join(" "))) return { ...NO_REQUEST, flags: { version: true } };
  const rest = words.filter((word) => word !== "-h" && word !== "--help");
  if (rest[0] === "help") rest.shift();
  const isHelp = rest.length < words.length;
  const forDoctor = parseDoctorOptions(rest);
  const isDoctor = forDoctor.args[0] === "doctor" || forDoctor.args[0] === "validate";
  const hasOptions = rest.some((word) => word.startsWith("-"));
  const request = hasOptions && !isDoctor ? await parseOptions(rest) : forDoctor;
  const [word = "sync", ...args] = request.args;
  const flags: Request["flags"] = isHelp ? { ...request.flags, help: true } : request.flags;
  if (isHelp && request.args.length === 0 || flags.version) return { ...request, command: "", flags };

  const [command, { aliases, options = [], args: parameters }] = findCommand(word);
  for (const implied of aliases?.[word] ?? []) flags[implied] = true;
  const wrong = Object.keys(flags).find((name) => ![...COMMON_OPTIONS, ...options].some((option) => option === name));
  if (wrong) throw new UsageError(`${command} has no option --${wrong}`);
  if (args[0] !== undefined && !parameters && !isDoctor) {
    throw new UsageError(`Unexpected ${quote(args[0])} after ${command}`);
  }
  if (args[0] === undefined && parameters && !parameters.startsWith("[") && !isHelp) {
    throw new UsageError(usageOf(command));
  }
  return { ...request, command, args, flags };
}

/** Takes the common options from a command line of skill-doctor, which reads everything else itself. */
function parseDoctorOptions(words: readonly string[]): Request {
  const request: Request = { ...NO_REQUEST, args: [], flags: {} };
  const rest = [...words];
  for (let word; (word = rest.shift()) !== undefined;) {
    if (word === "-g" || word === "--global") request.flags.global = true;
    else if (word === "-C" || word === "--directory") request.directory = rest.shift() ?? ".";
    else if (word.startsWith("--directory=")) request.directory = word.slice("--directory=".length);
    else if (word === "-n" || word === "--dry-run") continue; // It changes nothing anyway.
    else request.args.push(word);
  }
  const command = request.args.findIndex((word) => !word.startsWith("-"));
  request.args.unshift(...request.args.splice(command, 1));
  return request;
}

/** Reads a command line with options. */
async function parseOptions(words: readonly string[]): Promise<Request> {
  const { parseArgs } = await loadLibrary();
  const all: [string, Option][] = Object.entries(OPTIONS);
  const withValue = all.filter(([, { value }]) => value);
  const parsed: Record<string, unknown> = parseArgs(words, {
    boolean: all.filter(([, { value }]) => !value).map(([name]) => name),
    string: ["_", ...withValue.map(([name]) => name)],
    collect: ["for"],
    alias: Object.fromEntries(all.map(([name, { short = [] }]) => [name, short])),
    unknown(argument: string, key?: string) {
      if (key === undefined) return; // It is no option.
      throw unknownWord("option", argument.replace(/=.*/s, ""), all.map(([name]) => `--${name}`));
    },
  });
  for (const [name, { value }] of withValue) {
    if ([parsed[name]].flat().includes("")) throw new UsageError(`--${name} needs ${value}`);
  }
  const { _: args = [], for: agents = [], as, directory = "." } = parsed as Record<string, string[]> & Partial<Request>;
  const given = all.filter(([name]) => [parsed[name]].flat().some(Boolean)).map(([name]) => [name, true]);
  return { ...NO_REQUEST, args, agents, as, directory, flags: Object.fromEntries(given) };
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

/** The checksums of earlier blocks, with CALL in place of the script's path. */
const OLD_BLOCKS = ["b7c8b296", "690ab412", "73e5e184", "6aa5b3b0", "1ade1a7c", "4a4c12c4"];

/**
 * The block for `.envrc`. Nothing in it may keep users out of the directory, or contain a path of this machine: it
 * calls this script by its path in the project or in the home, or where `USE_SKILLS` says.
 */
function envrcBlock(project: Project): { block: string; isFound: boolean } {
  const script = import.meta.filename && Deno.realPathSync(import.meta.filename);
  const home = attempt(() => Deno.realPathSync(environment("HOME") ?? ""));
  const inProject = script && below(project.directory, script);
  const inHome = script && home && below(home, script);
  const path = (inProject || inHome || "use-skills/use-skills.ts").replace(/["$\`\\]/g, "\\$&");
  const pasted = /[^\w./-]/.test(path) ? `"${path}"` : path;
  const call = inProject ? pasted : `"\${USE_SKILLS:-${script ? `$HOME/${path}` : import.meta.url}}"`;
  const run = `deno run -A --no-lock --no-config ${call} || log_status "use-skills: not all skills are deployed"`;
  const block = `# use-skills: deploy the skills that .skills names
watch_file .skills .skills.lock .skills.local
if ! has deno; then
  log_status "use-skills: deno is not installed, so no skills are deployed"
elif declare -F require_allowed >/dev/null; then
  require_allowed .skills${inProject ? ` ${pasted}` : ""} $(ls .skills.lock .skills.local 2>/dev/null)
  SKILLS_ALLOWED=1 ${run}
else # this direnv can't ask you about a changed .skills, so nothing new is fetched
  ${run}
fi
`;
  return { block, isFound: !script || Boolean(inProject || inHome) };
}

/** The text of `.envrc` with the block; `undefined` if only a person can change it. */
function addBlock(text: string, block: string): string | undefined {
  if (text.includes(block)) return text;
  const start = text.indexOf("# use-skills: ");
  const old = text.slice(start, text.indexOf("\nfi\n", start) + "\nfi\n".length);
  const [, call] = /--no-lock (?:--no-config )?("[^"]+"|[^" ]+)/.exec(old) ?? [];
  const isReplaceable = call && OLD_BLOCKS.includes(fnv1a(old.replaceAll(call, "CALL"))) && !text.includes("\ufffd");
  if (isReplaceable) return text.replace(old, () => block);
  if (/^[^#\n]*(use-skills\.ts|USE_SKILLS)/m.test(text)) return undefined;
  const gap = text === "" ? "" : text.endsWith("\n") ? "\n" : "\n\n";
  return text + gap + block;
}

function init(project: Project, request: Request): number {
  const { flags } = request;
  const isDry = flags["dry-run"];
  let [written, status] = [0, 0];
  const note = (text: string) => flags.quiet || warn(`use-skills: ${text}`);
  const write = (path: string, before: string | undefined, text: string) => {
    const isAppended = text.startsWith(before ?? ""); // Then every byte that was there stays.
    const added = text.slice(before?.length);
    try {
      if (!isDry) Deno.mkdirSync(resolve(path, ".."), { recursive: true });
      if (!isDry && isAppended) Deno.writeTextFileSync(path, added, { append: true, createNew: before === undefined });
      if (!isDry && !isAppended) replaceFile(path, text);
    } catch (error) {
      const place = project.global ? `${path} (see HOME and the XDG variables)` : show(path, project);
      throw new Error(`Cannot write ${place}: ${reasonOf(error)}`);
    }
    written++;
    note(`${isDry ? "would write" : "wrote"} ${show(path, project)}`);
  };
  const manifest = show(project.manifest, project);
  if (exists(project.manifest)) note(`${manifest} exists already`);
  else write(project.manifest, undefined, MANIFEST);
  if (!project.global) {
    const path = `${project.directory}/.envrc`;
    const info = ifExists(() => Deno.lstatSync(path));
    const before = info?.isFile ? Deno.readTextFileSync(path) : undefined;
    const { block, isFound } = envrcBlock(project);
    const text = info?.isFile === false ? undefined : addBlock(before ?? "", block);
    if (text === undefined) {
      warn(`.envrc is a link, or calls use-skills in another way: change it to contain this\n\n${block}`);
      status = 1;
    } else if (text === before) {
      note(".envrc is up to date");
    } else {
      write(path, before, text);
      if (!isFound) note("next: export USE_SKILLS with the path of use-skills.ts, which is outside your home");
      note(`next: write skills into ${manifest}, then run "direnv allow"`);
    }
  }
  const files = `${count(written, "file")} ${isDry ? "to write" : "written"}`;
  printSummary(() => written === 0 ? "Nothing to write" : files, [], request);
  return status;
}

/** The entries that a user means by some words: their references, or names that they deploy. */
function entriesNamed(words: readonly string[], does: string, files: Files, project: Project): Entry[] {
  const { entries, lockfile } = files;
  return words.flatMap((word) => {
    const found = entries.filter((entry) => {
      const { text, reference, as } = entry;
      if (reference.kind === "path" && reference.all) {
        return word === text || attempt(() => exists(resolve(expand(reference.path, project), word)));
      }
      const locked = as === undefined ? lockfile.locked.get(text) : undefined;
      const names = locked && attempt(() => storedSkills(locked))?.map(({ name }) => name) || [];
      return [text, deployedName(entry, project), ...names].includes(word);
    });
    if (found.length > 0) return found;
    const near = suggestion(word, entries.map((entry) => deployedName(entry, project) || entry.text));
    throw new UsageError(`No entry of ${showHere(project)} ${does} ${quote(word)}${near}`);
  });
}

/** Adds lines to a manifest: at the end, or before the first `for` line if they are for the default agents. */
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

/** Whether one of the entries is for the same reference under the same name. */
function isAmong({ text, as }: Entry, entries: readonly Entry[]): boolean {
  return entries.some((each) => each.text === text && each.as === as);
}

/** Finds a skill by its name in a GitHub repo. `as` is that name if the skill's directory has another. */
async function findSkill(word: string, flags: Request["flags"]): Promise<{ path: string; as?: string }> {
  const [, repo = "", name = "", ref = ""] = NAME_IN_REPO.exec(word) ?? [];
  const reference = parseReference(repo + ref) as GitEntry["reference"];
  const maxLength = maxListing(flags["allow-large"]);
  using cache = new Repo(reference.url, flags.quiet);
  await cache.open();
  const { commit } = findPlace(reference, await cache.listRefs([reference], maxLength));
  const trees = await cache.fetchCommits([commit]);
  const { entries, positions } = await cache.list(commit, trees.get(commit), [""], maxLength);
  const skills = skillDirectories(entries);
  let found = skills.filter((path) => lastSegment(path || repo) === name);
  const as = found.length > 0 ? undefined : name;
  if (found.length === 0) {
    const files = skills.map((path) => entries[positions.get(path ? `${path}/SKILL.md` : "SKILL.md")!]!.hash);
    const names = await cache.readNames(files, maxLength);
    found = skills.filter((_, index) => names[index] === name);
  }
  if (found.length > 1) {
    throw new Error(`${repo} has several skills ${quote(name)}, ${someSkills(found, name)}: write ${repo}/PATH`);
  }
  const [path] = found;
  if (path !== undefined) return { path: (path ? `${repo}/${path}` : repo) + ref, as };
  throw new Error(`${repo} has no skill ${quote(name)}; skills in this repo: ${someSkills(skills, name) || "none"}`);
}

/** Writes references into the manifest and deploys them; with `--dry-run`, shows what they contain instead. */
async function add(project: Project, request: Request): Promise<number> {
  const { as, agents, flags } = request;
  const words = [...new Set(request.args)];
  if (as !== undefined && words.length > 1) throw new UsageError("--as needs one skill, but there are several");
  const args: string[] = [];
  for (const word of words) {
    // A shell has expanded "~". What is written has to mean the same on other machines.
    const inside = project.global ? undefined : below(project.directory, word);
    const path = inside ? `./${inside}` : fromHome(word);
    const found = NAME_IN_REPO.test(word) ? await findSkill(word, flags) : { path };
    if (/\s|^#|^$/.test(found.path)) { // In a repo, a directory can be named like the rest of an entry.
      throw new UsageError(`${quote(found.path)} is not a reference: it contains white space or "#"`);
    }
    const name = as ?? found.as;
    args.push([found.path, ...name ? ["as", name] : [], ...agents.length > 0 ? ["for", ...agents] : []].join(" "));
  }
  const { errors: [error] } = parseManifest(args.join("\n"));
  if (error) throw new UsageError(error.message);
  return await (flags["dry-run"] ? inspect : runDeployment)(project, { ...request, args });
}

/** Fetches skills into the store and shows their files, without deploying them. */
async function inspect(project: Project, request: Request): Promise<number> {
  const files = readFiles(project, "add");
  // Hidden characters are shown here, so they need not be trusted.
  const entries = parseManifest(request.args.join("\n")).entries.map((entry) => ({ ...entry, trust: true }));
  const wanted: Files = { ...files, entries, mode: "link" };
  const fetching = new Fetching(request.flags, false, new Set());
  await fetching.fetch(project, wanted);
  const locked = new Map([...files.lockfile.locked, ...fetching.locked]);
  const fetched = { ...wanted, lockfile: { ...files.lockfile, locked } };
  const { targets, problems } = findDesired(fetched, project, fetching.failures);
  const skills = new Map(
    targets.values().flatMap(({ desired }) => desired.values()).map((each) => [each.source, each]),
  );
  for (const { name, source, reference } of skills.values()) {
    const commit = locked.get(reference)?.commit.slice(0, 7);
    const lines = [`${name}: ${reference}${commit ? ` at ${commit}` : ""}`];
    for (const [path, info] of sortByKey([...walk(source)].map(({ path, info }) => [path, info]))) {
      if (info.isDirectory) continue;
      const what = info.isSymlink ? `link to ${Deno.readLinkSync(`${source}/${path}`)}` : formatSize(info.size);
      lines.push(`  ${what.padEnd(10)} ${path}${info.isFile && isExecutable(info) ? " (executable)" : ""}`);
    }
    for (const each of findHidden(source).slice(0, MAX_PROBLEMS)) lines.push(`  hidden character: ${each}`);
    lines.push(`  Read it in ${show(source, project)}`);
    for (const line of lines) console.log(escapeControls(line.replaceAll("\n", "\\n")));
  }
  printProblems(problems.map(({ name, message }) => ({ name, message })), project);
  printSummary(() => `${count(skills.size, "skill")} shown, nothing added`, problems, request);
  return problems.length > 0 ? 1 : 0;
}

/** How `remove` changes the manifest: it deletes the lines of the named skills. */
function removeLines({ args }: Request, project: Project, files: Files): (text: string) => string {
  return (text) => {
    const { entries } = parseManifest(text);
    const isNamed = (entry: Entry) => args.some((word) => [entry.text, deployedName(entry, project)].includes(word));
    const local = entries.some(isNamed) ? undefined : files.entries.find((entry) => entry.file && isNamed(entry));
    if (local?.file) {
      const place = `line ${local.line} of ${showHere(project, local.file)}`;
      throw new UsageError(`${quote(deployedName(local, project) || local.text)} is in ${place}: delete it there`);
    }
    const found = entriesNamed(args, "deploys", { ...files, entries }, project);
    const many = found.find(({ text }) => isMany(text) && !args.includes(text));
    if (many) {
      const wayOut = "remove that entry, or replace it by entries for the others";
      throw new UsageError(`${quote(many.text)} in line ${many.line} deploys others, too: ${wayOut}`);
    }
    const lines = found.map(({ line }) => line);
    return text.split("\n").filter((_, index) => !lines.includes(index + 1)).join("\n");
  };
}

/** Problems with stored skills of a project. A damaged one loses its marker, so that the next sync replaces it. */
async function checkStore({ entries, lockfile }: Files): Promise<Problem[]> {
  const problems: Problem[] = [];
  for (const { line, text } of entries.filter(isGitEntry)) {
    const locked = lockfile.locked.get(text);
    for (const { name, tree, directory } of locked ? attempt(() => storedSkills(locked)) ?? [] : []) {
      if (!exists(directory) || await contentHash(directory) === tree) continue;
      for (const marker of [CLEAN_MARKER, HIDDEN_MARKER]) removeAll(resolve(directory, "..", marker));
      problems.push({ line, name, message: `${quote(name)} in the store was changed: sync replaces it` });
    }
  }
  return problems;
}

/** Removes from the store and the cache what no project of this user needs, and prints how much that was. */
async function cleanStore(project: Project, { flags }: Request): Promise<number> {
  if (flags.json) throw new UsageError("--store has no --json");
  const store = makePrivateDirectory(storeDirectory());
  using _lock = await lockDirectory(store);
  const used = new Set<string>();
  for (const { manifest, targets } of [{ ...readIndex(project), manifest: project.manifest }, ...readAllIndexes()]) {
    const owner = { ...projectAt(resolve("/", manifest, "..")), global: manifest === attempt(homeManifest) };
    const lockfile = attempt(() => readOwnFile(`${manifest}.lock`, owner, MAX_LOCKFILE_BYTES)) ?? "";
    const states = [...targets.keys()].map((path) => attempt(() => readState(path, namesIn(path)).text) ?? "");
    for (const [tree] of [lockfile, ...states].join("\n").matchAll(/\b[0-9a-f]{40}\b/g)) used.add(tree);
    for (const [, url = ""] of lockfile.matchAll(/"url":"([^"]*)"/g)) used.add(fileNameOf(url));
  }
  const would = flags["dry-run"] ? "would remove" : "removed";
  for (const [directory, what] of [[store, "skill"], [cachesDirectory(), "cached repo"]] as const) {
    const removed = `${directory}/.new-removed`;
    if (!flags["dry-run"]) removeAll(removed); // of a killed run
    const unused = [...namesIn(directory).values()].filter(({ name, isDirectory }) => isDirectory && !used.has(name));
    let bytes = 0;
    for (const { name } of unused) {
      const path = `${directory}/${name}`;
      using _cacheLock = await lockDirectory(path);
      for (const { info } of walk(path)) bytes += info.size;
      if (flags["dry-run"]) continue;
      Deno.renameSync(path, removed); // so that it is gone in one step
      removeAll(removed);
    }
    const size = `${count(unused.length, what)}, ${formatSize(bytes)}`;
    if (!flags.quiet) warn(`use-skills: ${would} what no known project uses: ${size}`);
  }
  return 0;
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
    const { targets } = owner && attempt(() => findDesired(readFiles(owner), owner)) || {};
    for (const { desired } of targets?.values() ?? []) places.push(desired.get("skill-doctor")?.source ?? places[0]!);
  }
  const paths = [...new Set(places)].map((place) => `${place}/scripts/doctor.ts`);
  const found = paths.find(exists);
  if (found) return found;
  const checkout = findCheckout("skill-doctor");
  const wayOut = checkout
    ? `run ${checkout}/use-skills.ts instead, or set SKILLS_PATH=${checkout}/skills`
    : "run the use-skills.ts of a checkout of use-skills, or set SKILLS_PATH to the checkout's skills directory";
  throw new Error(`No skill-doctor at ${someOf(paths.map((path) => show(path, project)))}: ${wayOut}`);
}

async function runDoctor(project: Project, { command, args, directory }: Request): Promise<number> {
  const { main } = await import(`file://${findDoctor(project)}`);
  let state: ReturnType<typeof findDesired> | undefined;
  let problems: readonly Problem[] = [];
  try {
    state = findDesired(readFiles(project), project);
    problems = sortProblems(state.problems);
  } catch (error) {
    const isNeeded = command === "validate" && args.every((arg) => arg.startsWith("-"));
    if (!(error instanceof UsageError) || isNeeded) throw error;
    if (exists(project.manifest)) problems = error.problems.length > 0 ? error.problems : [{ message: error.message }];
  }
  const { targets = new Map<string, Target>(), kept = [] } = state ?? {};
  const { lockfile } = attempt(() => readLockfile(project)) ?? { lockfile: NO_LOCKFILE };
  const paths = new Set(lockfile.recorded.values().flatMap(({ targets }) => targets.keys()));
  const recorded = [...paths].map((path) => resolve(project.directory, path)).flatMap((path) =>
    Array.from(recordedForms(path, project, lockfile), ([name, form]) => [`${path}/${name}`, form] as const)
  );
  return await main([command === "doctor" ? "show" : command, ...args], {
    directory: project.directory,
    manifest: project.manifest,
    global: project.global,
    start: project.global ? project.directory : Deno.realPathSync(directory),
    readable: state !== undefined,
    targets: [...targets.values()].map((target) => ({ ...target, skills: [...target.desired.values()] })),
    keptNames: [...kept],
    problems,
    searchPath: [...new Set(searchPath(project))],
    store: attempt(storeDirectory),
    recorded: Object.fromEntries(recorded),
    origins: Object.fromEntries([...originsOf(lockfile)].map(([directory, { source }]) => [directory, source])),
  });
}

/** Prints the lines that one text has and another one lacks. */
function printLines(what: string, text: string, other: string): void {
  if (text === other) return;
  const lines = new Set(other.split(/\r?\n/));
  for (const line of text.split(/\r?\n/)) if (!lines.has(line)) warn(`use-skills: ${what}: ${line}`);
}

async function runDeployment(project: Project, request: Request): Promise<number> {
  const { command, args, agents, flags, directory } = request;
  const files = readFiles(project, command);
  const git = command === "update" ? files.entries.filter(isGitEntry) : [];
  const isNamed = command === "update" && args.length > 0;
  const updated = isNamed ? entriesNamed(args, "fetches", { ...files, entries: git }, project) : git;
  const isFrozen = command === "sync" && (flags.frozen || environment("CI") === "true" || isRestricted());
  const fetching = new Fetching(flags, isFrozen, new Set(updated.map(({ text }) => text)));
  const deployment: Deployment = {
    write: !["check", "list"].includes(command) && !flags["dry-run"],
    isFrozen,
    isThorough: command === "check",
    clean: command === "clean",
    failures: fetching.failures,
    fetched: fetching.locked,
  };
  if (command === "add") {
    const { entries } = parseManifest(args.join("\n"));
    const twice = files.entries.find((entry) => !entry.file && isAmong(entry, entries));
    if (twice) throw new Error(`${quote(twice.text)} is already in line ${twice.line} of ${showHere(project)}`);
    deployment.editManifest = (text) => {
      const current = parseManifest(text).entries; // Another run may have added some.
      const missing = args.filter((_, index) => !isAmong(entries[index]!, current));
      return missing.length === 0 ? text : insertLines(text, missing, agents.length === 0);
    };
    deployment.mustSucceed = entries.map(({ text }) => text);
  }
  if (command === "remove") deployment.editManifest = removeLines(request, project, files);
  if (deployment.write || command === "update") {
    await fetching.fetch(project, editFiles(files, deployment, project));
  }

  const readAgain = () => readFiles({ ...project, siblings: namesIn(resolve(project.manifest, "..")) }, command);
  const outcome = await deploy(project, files, readAgain, deployment);
  const { actions, problems, notes } = outcome;
  if (command === "check") problems.push(...await checkStore(files));
  const changes = actions.filter(isChange);
  const rows = command === "list" ? listRows(actions, project, files.lockfile) : undefined;
  if (flags.json) {
    const skills = rows?.map(({ name, from, agents, state, commit }) => ({ name, from, agents, state, commit }));
    printJson(project, skills ? { skills } : { actions: jsonActions(actions) }, problems);
  } else if (rows) printRows(rows);
  if (!flags.quiet && !rows && !outcome.isRefused) {
    const edited = deployment.editManifest?.(files.manifest) ?? files.manifest;
    const deleted = flags["dry-run"] ? "would delete" : "deleted";
    printLines(`${deleted} from ${showHere(project)}`, files.manifest, edited);
    printLines(`added to ${showHere(project)}`, edited, files.manifest);
    // The content of an update was shown already.
    if (deployment.write || command === "update") printChanges(actions, deployment.write);
    else printPlanned(changes, project);
    notes.forEach((note) => warn(note));
  }
  printProblems(problems, project);
  if (command === "update" && flags["dry-run"] && fetching.updates > 0 && !flags.quiet) {
    const place = flags.global ? ["-g"] : directory === "." ? [] : ["-C", shellWord(directory)];
    const options = COMMANDS.update!.options!.filter((name) => name in flags).map((name) => `--${name}`);
    const words = [thisCommand(), "update", ...place, ...options, ...args.map(shellWord)];
    warn(`use-skills: to apply this: ${words.join(" ")}`);
  }
  printSummary(() => summarize(request, outcome, fetching.updates), problems, request);
  return rows === undefined && problems.length > 0 || command === "check" && changes.length > 0 ? 1 : 0;
}

/** Carries out a command line; returns the exit status: 0 done, 1 something failed or differs, 2 wrong usage or manifest. */
export async function main(args: string[]): Promise<number> {
  let request = NO_REQUEST;
  let project: Project | undefined;
  try {
    if (Deno.build.os === "windows") throw new Error("Windows is not supported: use WSL");
    if (!("toHex" in Uint8Array.prototype)) throw new Error(`Deno ${Deno.version.deno} is too old: 2.5 is needed`);
    request = await parseCommandLine(args);
    const { command, flags } = request;
    if (flags.help || flags.version) {
      console.log(flags.version ? VERSION : command ? renderCommandHelp(command) : renderHelp());
      return 0;
    }
    project = findProject(request);
    return await (COMMANDS[command]!.run ?? runDeployment)(project, request);
  } catch (error) {
    const isUsage = error instanceof UsageError;
    const problems = isUsage ? error.problems : [];
    if (!project || problems.length === 0) {
      const message = error instanceof Error ? error.message : String(error);
      warn(` ${message.replace(/ \(os error \d+\)/, "")}`, "use-skills:"); // with the operation and the path
    } else {
      if (request.flags.json) {
        printJson(project, request.command === "list" ? { skills: [] } : { actions: [] }, problems);
      }
      printProblems(problems, project);
    }
    return isUsage ? 2 : 1;
  }
}

if (import.meta.main) {
  Error.stackTraceLimit = 0; // Stack traces are slow, and never printed.
  Deno.exitCode = await main(Deno.args);
  // Deno keeps compiled code for the next run only if a program ends by itself. After a fetch, it might wait for git.
  if (isGitPrepared) Deno.exit();
}
