#!/usr/bin/env -S deno run -A --no-lock
/**
 * Makes the skill folders of coding agents hold exactly what a `.skills` file names.
 *
 * One file, meant to be copied: paste it into a repo, or call it from a checkout. The README has the manual,
 * `deno run -A use-skills.ts --help` the short form.
 *
 * Going down the page: tables, manifest, lock, skills, folders, plan, disk, git, store, supply, roster, deploy, report,
 * commands. What to do under a name is decided by a pure function; all before it only reads, all after it carries out
 * and tells.
 *
 * direnv runs this at every `cd`, so a start must cost next to nothing. Deno reads all that a module imports, and all
 * that it sees will be imported, before the first line runs: one function of `@std/path` makes an empty file start 15%
 * slower. So nothing is imported but types, and `LIBRARY` is where it is used. `deno cache` fetches it all ahead.
 *
 * @module
 */
import type * as Cli from "jsr:@std/cli@^1/parse-args";
import type * as Distance from "jsr:@std/text@^1/levenshtein-distance";
import type * as Text from "jsr:@std/text@^1/closest-string";
import type * as Yaml from "jsr:@std/yaml@^1/parse";

// ── Tables ──────────────────────────────────────────────────────────────────────────────────────────────────────

/** The version of this program. */
export const VERSION = "0.1.0";

/**
 * Where each agent reads skills: in a project, in a home, and where else, as far as that is known. Only the first two
 * are deployed into. `${VARIABLE:-default}` is read as a shell would.
 *
 * Sources: the agents' own documentation, and the table of the `skills` package on npm.
 */
export const AGENTS: ReadonlyMap<string, readonly [project: string, home: string, ...besides: string[]]> = new Map([
  ["claude", [".claude/skills", "${CLAUDE_CONFIG_DIR:-.claude}/skills"]],
  [
    "opencode",
    [
      ".opencode/skills",
      "${XDG_CONFIG_HOME:-.config}/opencode/skills",
      ".claude/skills",
      ".agents/skills",
      "~/.claude/skills",
      "~/.agents/skills",
    ],
  ],
  ["agents", [".agents/skills", ".agents/skills"]],
  [
    "codex",
    [
      "${CODEX_HOME:-.agents}/skills",
      "${CODEX_HOME:-.codex}/skills",
      ".agents/skills",
      ".codex/skills",
      "~/.agents/skills",
      "/etc/codex/skills",
    ],
  ],
  ["amp", [".agents/skills", "${XDG_CONFIG_HOME:-.config}/agents/skills"]],
  ["antigravity", [".agent/skills", ".gemini/antigravity/skills"]],
  ["augment", [".augment/skills", ".augment/skills"]],
  ["cline", [".cline/skills", ".cline/skills"]],
  ["codebuddy", [".codebuddy/skills", ".codebuddy/skills"]],
  ["continue", [".continue/skills", ".continue/skills"]],
  ["copilot", [".agents/skills", ".copilot/skills"]],
  ["crush", [".crush/skills", "${XDG_CONFIG_HOME:-.config}/crush/skills"]],
  ["cursor", [".cursor/skills", ".cursor/skills"]],
  ["droid", [".factory/skills", ".factory/skills"]],
  ["gemini", [".agents/skills", ".gemini/skills"]],
  ["goose", [".goose/skills", "${XDG_CONFIG_HOME:-.config}/goose/skills"]],
  ["junie", [".junie/skills", ".junie/skills"]],
  ["kilo", [".kilocode/skills", ".kilocode/skills"]],
  ["kiro", [".kiro/skills", ".kiro/skills"]],
  ["openhands", [".openhands/skills", ".openhands/skills"]],
  ["pi", [".pi/skills", ".pi/agent/skills"]],
  ["qwen", [".qwen/skills", ".qwen/skills"]],
  ["roo", [".roo/skills", ".roo/skills"]],
  ["trae", [".trae/skills", ".trae/skills"]],
  ["vibe", [".vibe/skills", ".vibe/skills"]],
  ["windsurf", [".windsurf/skills", ".codeium/windsurf/skills"]],
  ["zencoder", [".zencoder/skills", ".zencoder/skills"]],
]);

/** How the forges write the address of a folder, as a browser shows it: the repo, then ref and path in one. */
const BROWSE_URLS = [
  /^(https:\/\/[^/]+\/.+?)\/-\/(?:tree|blob)\/([^?#]+)/, // GitLab
  /^(https:\/\/[^/]+\/.+?)\/src\/(?:branch|tag|commit)\/([^?#]+)/, // Forgejo, Gitea
  /^(https:\/\/[^/]+\/[^/]+\/[^/]+)\/(?:tree|blob)\/([^?#]+)/, // GitHub
];

/** What the front matter of a `SKILL.md` may hold; source: the Agent Skills specification. */
const SKILL_FIELDS = ["name", "description", "license", "compatibility", "metadata", "allowed-tools"];

/** The commands, and the options that each takes besides those that all take. */
const COMMANDS: ReadonlyMap<string, readonly string[]> = new Map([
  ["sync", ["copy", "dry-run", "json", "quiet", "frozen", "offline", "allow-large"]],
  ["check", ["json", "quiet"]],
  ["list", ["json"]],
  ["add", ["quiet", "as", "for", "allow-large"]],
  ["remove", ["quiet"]],
  ["update", ["dry-run", "quiet", "trust", "allow-large"]],
  ["clean", ["dry-run", "json", "quiet", "store"]],
  ["init", ["dry-run", "quiet"]],
  ["validate", ["json", "quiet"]],
  ["doctor", ["json", "quiet"]],
]);

/** The commands that are followed by words of their own. */
const WITH_WORDS = ["add", "remove", "update", "validate"];

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

const HELP = `use-skills ${VERSION}: agents' skill folders hold exactly what .skills names
Usage: deno run -A use-skills.ts [COMMAND] [OPTION...] | --help | --version
  sync               deploy what .skills names, remove the rest (default)
  check              change nothing; print every difference and problem
  list               each skill: name, source, agents, state, commit
  add REF...         write skills into .skills, then sync
  remove NAME...     take skills out of .skills, then sync
  update [NAME...]   fetch the newest of git references, show changes, then sync
  clean              remove everything that sync made here
  init               write a commented .skills and the block for .envrc
  validate [DIR...]  hold skills, or all of .skills, against the specification
  doctor             show what each agent really sees, and what is wrong with it
  -g, --global; -C, --directory DIR    for your home; as if started in DIR
  -n, --dry-run          only print what would be done
  -q, --quiet; --json    print problems only; print one JSON object
      --copy             real copies instead of links (sync)
      --frozen; --offline  lock nothing new; fetch nothing (sync)
      --allow-large      over 5,000 files or 50 MiB, too (sync, add, update)
      --as NAME; --for AGENT (add)   --trust (update)   --store (clean)
.skills: NAME, ./DIR, ./DIR/*, OWNER/REPO/PATH#REF or a URL; as NAME; for AGENT
AGENT: ${[...AGENTS.keys()].join(" ").replace(/(.{1,72})( |$)/g, "$1\n       ").trimEnd()}
Exit status: 0 done, 1 a problem or a difference, 2 wrong usage or manifest`;

/** What is imported when it is needed; the types above name the same. */
const LIBRARY = {
  cli: "jsr:@std/cli@^1/parse-args",
  distance: "jsr:@std/text@^1/levenshtein-distance",
  text: "jsr:@std/text@^1/closest-string",
  yaml: "jsr:@std/yaml@^1/parse",
};

/** The manifest's own words, which cannot be names. */
const KEYWORDS = ["as", "for", "trust"];

/** How many problems a person is told of, one by one. */
const MANY = 50;

const STATE_FILE = ".use-skills.json";
/** Everything is prepared in here and renamed into place from here; left over only by a run that was killed. */
const WORKSHOP = ".use-skills.tmp";

// ── Small things ────────────────────────────────────────────────────────────────────────────────────────────────

/** Something that is wrong, with the skill's name where there is one. */
export interface Problem {
  /** The path that it is about, if not the manifest's. */
  file?: string;
  /** The line in that file, from 1. */
  line?: number;
  name?: string;
  message: string;
  near?: Near;
}

/** A word that is not known, and those that are: for "did you mean". */
interface Near {
  word: string;
  words: readonly string[];
}

/** An environment variable; one that is empty counts as not set. */
function environment(name: string): string | undefined {
  return Deno.env.get(name) || undefined;
}

/** A folder of the XDG base directory specification, which has relative values ignored. */
function xdgFolder(variable: string, fallback: string): string | undefined {
  const value = environment(variable);
  if (value?.startsWith("/")) return value;
  const home = environment("HOME");
  return home && resolve(home, fallback);
}

/** `value` in quotes, cut if it is very long. */
function quote(value: string): string {
  return JSON.stringify(value.length > 200 ? `${value.slice(0, 200)}...` : value);
}

/** `text` with everything but line ends written out, as JSON does it, that could fool a reader or a terminal. */
function harmless(text: string): string {
  if (/^[\n -~]*$/.test(text)) return text;
  return text.replace(
    /[^\n\P{C}]|[\p{Zl}\p{Zp}]/gu,
    (odd) => Array.from(odd.split(""), (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`).join(""),
  );
}

/** What went wrong, in the operating system's words and without its numbers. */
function explain(error: unknown): string {
  const message = error instanceof Error ? error.message : String(error);
  return message.replace(/ \(os error \d+\)[^]*/, "");
}

/** The 32-bit FNV-1a hash in hexadecimal; source: http://www.isthe.com/chongo/tech/comp/fnv/ */
function fnv1a(text: string): string {
  let hash = 0x811c9dc5;
  for (const byte of new TextEncoder().encode(text)) hash = Math.imul(hash ^ byte, 0x01000193);
  return (hash >>> 0).toString(16);
}

/** What `read` returns; `undefined` where the path does not exist. */
function ifThere<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch (error) {
    if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory) return undefined;
    throw error;
  }
}

/** `make`, asked once for each key. */
function remember<T>(make: (key: string) => T): (key: string) => T {
  const known = new Map<string, T>();
  return (key) => {
    if (!known.has(key)) known.set(key, make(key));
    return known.get(key) as T;
  };
}

/** Whether something is at a path; what one may not look at counts as there. */
function isThere(path: string): boolean {
  try {
    return ifThere(() => Deno.lstatSync(path)) !== undefined;
  } catch {
    return true;
  }
}

/** What `read` returns; `undefined` where it fails. */
function tryTo<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch {
    return undefined;
  }
}

/**
 * Reads a text file.
 *
 * @throws {SyntaxError} If it is not UTF-8; its cause is the number of the line.
 */
function readText(path: string): string {
  if (!Deno.statSync(path).isFile) throw new Error(`${lastSegment(path)} is not a file`); // a pipe would never end
  const text = Deno.readTextFileSync(path);
  // What is not UTF-8 was read as U+FFFD. The strict decoder takes 4 ms to start, so it is asked only then.
  const decoder = text.includes("\ufffd") ? new TextDecoder("utf-8", { fatal: true }) : undefined;
  const bytes = decoder ? Deno.readFileSync(path) : new Uint8Array();
  for (let line = 1, start = 0; start < bytes.length; line++) {
    const end = bytes.indexOf(10, start) + 1 || bytes.length;
    try {
      decoder?.decode(bytes.subarray(start, end));
    } catch {
      throw new SyntaxError(`line ${line} is not UTF-8`, { cause: line });
    }
    start = end;
  }
  return text;
}

/** The last segment of a path. */
function lastSegment(path: string): string {
  return path.slice(path.lastIndexOf("/") + 1);
}

/** The absolute path that paths lead to, one after the other, the first of them absolute. */
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

/** The part of `path` below `directory`: "" for the directory itself, `undefined` for a path outside. */
function below(directory: string, path: string): string | undefined {
  if (!path.startsWith(directory)) return undefined;
  if (path.length === directory.length || directory === "/") return path.slice(directory.length);
  return path[directory.length] === "/" ? path.slice(directory.length + 1) : undefined;
}

/** How to write paths in the folder `from`: relative where both lie in `root`, else absolute. All are absolute. */
function pathsFrom(from: string, root: string): (path: string) => string {
  const depth = below(root, from);
  const up = depth === undefined ? undefined : "../".repeat(depth === "" ? 0 : depth.split("/").length);
  return (path) => {
    const down = up === undefined ? undefined : below(root, path);
    return down === undefined ? path : up + down || ".";
  };
}

/** `, did you mean "X"?` with the nearest of the known words, or nothing where there is none. */
async function suggestion({ word, words }: Near = { word: "", words: [] }): Promise<string> {
  let nearest = words.find((each) => each.startsWith(word));
  if (words.length > 0 && nearest === undefined) {
    const library: typeof Text | undefined = await import(LIBRARY.text).catch(() => undefined); // not worth failing for
    nearest = library?.closestString(word.slice(0, 100), words);
  }
  return nearest === undefined ? "" : `, did you mean ${quote(nearest)}?`;
}

// ── Manifest ────────────────────────────────────────────────────────────────────────────────────────────────────

/** What a line of the manifest points at. */
export type Reference =
  | { kind: "name"; name: string }
  /** A skill's directory, or with `all` every skill directly inside it. */
  | { kind: "path"; path: string; all: boolean }
  /**
   * A folder in a git repo, or with `all` every skill directly inside it, or anywhere in the repo where there is no path.
   * `tail` is a ref and a path not yet divided, since only the server's refs tell where.
   */
  | { kind: "git"; url: string; path: string; all?: true; ref?: string; tail?: string };

/** The agents after `for`, with the line where they are written. */
export interface AgentList {
  line: number;
  names: string[];
}

/** One line of the manifest. */
export interface Entry {
  line: number;
  /** The reference as written. */
  text: string;
  reference: Reference;
  as?: string;
  trust: boolean;
  /** `undefined` where neither the line nor a `for` line above it names agents. */
  agents?: AgentList;
}

/**
 * Reads one reference.
 *
 * @param text The reference as written, without white space.
 * @returns What it points at.
 * @throws {SyntaxError} If it is none of the forms that the grammar has.
 *
 * @example
 * ```ts
 * parseReference("anthropics/skills/skills/pdf#main");
 * // { kind: "git", url: "https://github.com/anthropics/skills", path: "skills/pdf", ref: "main" }
 * ```
 */
export function parseReference(text: string): Reference {
  return /[/:"']/.test(text) ? parseAddress(text) : { kind: "name", name: text };
}

/** Reads a reference that is more than a name. */
function parseAddress(text: string): Reference {
  if (/^(?!ssh:)[a-z][\w+.-]*:\/\/[^/]*@|^[a-z]+:\/\/[^/]*:[^/]*@|^[^/@]+:[^/@]+@/i.test(text)) {
    // What is secret is shown to nobody, not even in the message.
    throw new SyntaxError("There is a user or a password in this address: leave it to git's credential helper");
  }
  if (/^["']/.test(text)) {
    throw new SyntaxError("There is no quoting here: a path with white space needs a link to it without");
  }
  if (/^(\.\.?|~)?\//.test(text)) {
    const all = text.endsWith("/*");
    const path = (all ? text.slice(0, -1) : text).replace(/^(.*[^/])\/*$/s, "$1");
    if (path.includes("*")) throw new SyntaxError(`Only a last "/*" can stand for many, not ${quote(text)}`);
    return { kind: "path", path, all };
  }
  const git = (url: string, path: string, more: { ref?: string; tail?: string }) => {
    const inside = withoutExtraSlashes((more.tail ?? path).replace(/(^|\/)\*$/, ""));
    if (/[/:]\.\.?(\/|$)/.test(`${url}//${inside}`)) {
      throw new SyntaxError(`An address and a path in a repo have no "." or "..": ${quote(text)}`);
    }
    const all = /(^|\/)\*$/.test(more.tail ?? path) && { all: true as const };
    const where = more.tail === undefined ? { path: inside, ref: more.ref } : { path: "", tail: inside };
    return { kind: "git" as const, url: url.replace(/\/+$/, ""), ...where, ...all };
  };
  for (const form of BROWSE_URLS) {
    const [, url, tail] = text.match(form) ?? [];
    if (url && tail) {
      return git(url, "", { tail: (tryTo(() => decodeURIComponent(tail)) ?? tail).replace(/\/SKILL\.md$/, "") });
    }
  }
  const [, address = "", ref] = text.match(/^([^#]*)(?:#(.*))?$/s) ?? [];
  if (ref === "") throw new SyntaxError(`Nothing follows the "#" of ${quote(text)}`);
  const [, scheme, url = "", path, star] = address.match(/^([a-zA-Z][\w+.-]*):\/\/(.+?)(?:\/\/(.*)|\/(\*))?$/) ?? [];
  if (scheme !== undefined) {
    if (!/^(https|ssh|file)$/.test(scheme)) {
      throw new SyntaxError(`Only https, ssh and file URLs can be fetched, not ${quote(text)}`);
    }
    return git(`${scheme}://${url.replace(/\?.*$/, "")}`, path ?? star ?? "", { ref });
  }
  const [, remote, inside, every] = address.match(/^([\w.-]+@[\w.-]+:.+?)(?:\/\/(.*)|\/(\*))?$/) ?? [];
  if (remote) return git(remote, inside ?? every ?? "", { ref });
  const [, owner, repo, rest = ""] = address.match(/^([a-zA-Z0-9][a-zA-Z0-9-]*)\/([\w.-]+)(?:\/(.*))?$/) ?? [];
  if (owner && repo) return git(`https://github.com/${owner}/${repo}`, rest, { ref });
  throw new SyntaxError(`${quote(text)} is no skill name, path (./ ../ / ~/), git URL or OWNER/REPO`);
}

/** A path in a repo with single slashes, and none at its ends. */
function withoutExtraSlashes(path: string): string {
  return path.split("/").filter((segment) => segment !== "").join("/");
}

/** The words of a line after its reference: `[as NAME] [trust] [for AGENT...]`. */
function parseClauses(words: string[], line: number): Pick<Entry, "as" | "trust" | "agents"> {
  if (words.length === 0) return { trust: false };
  const take = (word: string) => words[0] === word ? words.shift() : undefined;
  const isRenamed = take("as") !== undefined;
  const as = isRenamed ? words.shift() : undefined;
  const trust = take("trust") !== undefined;
  const names = take("for") ? words.splice(0) : undefined;
  const stray = words[0] ?? names?.find((name) => KEYWORDS.includes(name));
  if (stray !== undefined) {
    throw new SyntaxError(
      `Unexpected ${quote(stray)}: a line is REF [as NAME] [trust] [for AGENT...], and no path in it has white space`,
    );
  }
  if (isRenamed && as === undefined) throw new SyntaxError(`No name follows "as"`);
  if (names?.length === 0) throw new SyntaxError(`No agent follows "for"`);
  return { as, trust, agents: names && { line, names } };
}

/**
 * Reads a manifest.
 *
 * @param text The text of a `.skills` file; a byte-order mark and CRLF are fine.
 * @returns Its entries in order, and an error for each line that the grammar does not cover.
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
  let following: AgentList | undefined;
  for (const [index, raw] of text.replace(/^\ufeff/, "").split("\n").entries()) {
    const [first = "", ...rest] = (raw.includes("#") ? raw.replace(/(^|\s)#[^]*/, "") : raw).trim().split(/\s+/);
    if (first === "") continue;
    const line = index + 1;
    try {
      if (/^(<{7}|={7}|>{7})$/.test(first)) {
        throw new SyntaxError("This is a merge conflict: keep the lines that you want");
      }
      if (first === "for") {
        following = parseClauses(["for", ...rest], line).agents;
      } else if (first === "as" && rest.length > 0) {
        throw new SyntaxError(`Nothing stands before "as"`);
      } else {
        const reference = parseReference(first);
        const { as, trust, agents } = parseClauses(rest, line);
        entries.push({ line, text: first, reference, as, trust, agents: agents ?? following });
      }
    } catch (error) {
      if (!(error instanceof SyntaxError)) throw error;
      errors.push({ line, message: error.message });
    }
  }
  return { entries, errors };
}

// ── Lock: which commit of a repo, and which files, a git reference stands for ───────────────────────────────────

/** What the lock has of a git reference: enough to have the very same files on every machine. */
export interface Locked {
  commit: string;
  /** Whether it was let in though it is larger than a skill may be. */
  large?: true;
  /** The folder in the repo; "" for its root. */
  path: string;
  /** Of a reference to many: the git tree hash of each skill, by its path below `path`. */
  skills?: Record<string, string>;
  /** The git tree hash of the folder. */
  tree: string;
  /** The tree whose hidden characters the person has trusted. */
  trusted?: string;
  url: string;
}

/** A git reference of the manifest. */
type GitEntry = Entry & { reference: Extract<Reference, { kind: "git" }> };

function isGitEntry(entry: Entry): entry is GitEntry {
  return entry.reference.kind === "git";
}

function lockPath(root: Root): string {
  return `${root.manifest}.lock`;
}

/** Whether a value that was read from a lock is an entry that this program could have written. */
function isLocked(value: Partial<Locked> | null): value is Locked {
  const isHash = (hash: unknown) => /^[0-9a-f]{40}$/.test(`${hash}`);
  const isPath = (path: unknown) =>
    typeof path === "string" && path.split("/").every((segment) => !["", ".", ".."].includes(segment));
  const skills = Object.entries(value?.skills ?? {});
  return isHash(value?.commit) && isHash(value?.tree) && typeof value?.url === "string" &&
    (value.path === "" || isPath(value.path)) && skills.every(([path, tree]) => isPath(path) && isHash(tree)) &&
    (value.skills === undefined || skills.length > 0) && (value.trusted === undefined || isHash(value.trusted)) &&
    (value.large === undefined || value.large === true);
}

/**
 * Reads the lock of a root, by reference as written in the manifest.
 *
 * @throws {Unusable} If it is not what this program writes.
 */
function readLock(root: Root, text = ifThere(() => Deno.readTextFileSync(lockPath(root)))): Map<string, Locked> {
  if (text === undefined) return new Map();
  const refuse = (why: string) => new Unusable(`${showHere(root)}.lock${why}`);
  const seen = new Set<string>();
  for (const [index, line] of text.split("\n").entries()) {
    const [, reference] = /^\s*("(?:[^"\\]|\\.)*"): ?\{/.exec(line) ?? [];
    if (reference !== undefined && seen.has(reference)) {
      throw refuse(`:${index + 1}: a second entry for ${reference}: keep one`);
    }
    if (reference !== undefined) seen.add(reference);
  }
  const { version, skills } = tryTo(() => JSON.parse(text)) ?? parseLines(text);
  if (version === 1 && typeof skills === "object" && skills !== null) {
    const wrong = Object.entries<Locked>(skills).find(([, locked]) => !isLocked(locked));
    if (!wrong) return new Map(Object.entries<Locked>(skills));
    const way = "get the file back from git, or take that line out";
    throw refuse(` has an entry that is not right, ${quote(wrong[0])}: ${way}`);
  }
  if (version > 1) throw refuse(" is from a newer use-skills: bring this one up to date");
  const line = text.split("\n").findIndex((each) => /^(<{7}|={7}|>{7})/.test(each)) + 1;
  if (line > 0) {
    throw refuse(`:${line}: a merge conflict: keep the lines of both sides, or one of two for the same skill`);
  }
  throw refuse(" is not what use-skills writes: get it back from git, or remove it");
}

/** Reads a lock that lacks a comma or has one too many, as after a merge by hand. */
function parseLines(text: string): { version?: number; skills?: Record<string, Locked> } {
  const skills: [string, Locked][] = [];
  for (const line of text.split(/\r?\n/)) {
    const [, reference, locked] = /^("(?:[^"\\]|\\.)*"): (\{.*\}),?$/.exec(line) ?? [];
    const entry = tryTo((): [string, Locked] => [JSON.parse(reference ?? ""), JSON.parse(locked ?? "")]);
    if (entry) skills.push(entry);
    else if (!/^(\{|\},?|"skills": \{|"version": 1|)$/.test(line)) return {};
  }
  const isWhole = /^\{\r?\n"skills": \{\r?\n[^]*^\},?\r?\n"version": 1\r?\n\}\s*$/m.test(text);
  return isWhole ? { version: 1, skills: Object.fromEntries(skills) } : {};
}

/** The text of a lock: an entry a line, sorted, so that git can merge it; nothing where there are none. */
function renderLock(lock: ReadonlyMap<string, Locked>): string | undefined {
  const lines = [...lock].sort(([a], [b]) => a < b ? -1 : 1).map(([reference, locked]) => {
    const sorted = Object.entries(locked).filter(([, value]) => value !== undefined).sort(([a], [b]) => a < b ? -1 : 1);
    return `${JSON.stringify(reference)}: ${JSON.stringify(Object.fromEntries(sorted))}`;
  });
  return lines.length === 0 ? undefined : `{\n"skills": {\n${lines.join(",\n")}\n},\n"version": 1\n}\n`;
}

/** Changes the lock of a root as it is now, whoever else has just written it. */
async function changeLock(root: Root, change: (lock: Map<string, Locked>) => void): Promise<void> {
  using _lock = await lock(root.directory);
  const before = ifThere(() => Deno.readTextFileSync(lockPath(root)));
  const locked = readLock(root);
  change(locked);
  const after = renderLock(locked);
  if (after !== before) replaceOwn(lockPath(root), after);
}

/** Makes a file that a person also writes hold `text`, or not be there: in one step, where a link leads, as it was. */
function replaceOwn(path: string, text: string | undefined): void {
  const real = ifThere(() => Deno.realPathSync(path)) ?? path;
  const mode = ifThere(() => Deno.statSync(real))?.mode;
  if (real === path && ifThere(() => Deno.lstatSync(path))?.isSymlink) {
    throw new Error(`${path} is a link that leads nowhere`);
  }
  if (text === undefined) return ifThere(() => Deno.removeSync(real));
  const made = Deno.makeTempFileSync({ dir: resolve(real, ".."), prefix: ".use-skills-" });
  try {
    Deno.writeTextFileSync(made, text);
    Deno.chmodSync(made, mode ? mode & 0o777 : 0o666 & ~Deno.umask());
    Deno.renameSync(made, real);
  } catch (error) {
    Deno.removeSync(made);
    throw error;
  }
}

/** The folder that holds what was fetched, for all roots of this person; named by what is in it, it never changes. */
function storeFolder(): string {
  const data = xdgFolder("XDG_DATA_HOME", ".local/share");
  if (data === undefined) throw new Error("Neither XDG_DATA_HOME nor HOME says where fetched skills are to be kept");
  return `${data}/use-skills/store`;
}

/** A skill that a reference stands for. */
interface Stored {
  name: string;
  /** Its path in the repo. */
  path: string;
  tree: string;
  /** Where it is in the store. */
  directory: string;
}

/** The skills that a reference stands for. */
function storedSkills({ url, path, tree, skills }: Locked): Stored[] {
  const folder = storeFolder();
  const stored = (path: string, tree: string): Stored => {
    const name = lastSegment(path || url.replace(/\/+$/, "").replace(/\.git$/, "").replace(/^[^/]*:/, ""));
    if (/^\.{0,2}$/.test(name) || name === HIDDEN) throw new Error(`${quote(name)} cannot be a skill's folder`);
    return { name, path, tree, directory: `${folder}/${tree}/${name}` };
  };
  if (skills === undefined) return [stored(path, tree)];
  return Object.entries(skills).map(([below, tree]) => stored(path ? `${path}/${below}` : below, tree));
}

/** Beside a skill in the store: the hidden characters that were found in it. */
const HIDDEN = ".hidden.json";

/** Beside a skill in the store in which nothing of that kind was found: one of the two is there once it was scanned. */
const CLEAN = ".clean";

/** What was found in a stored skill that nobody sees. */
function hiddenIn({ name, directory }: Stored): string[] {
  const text = ifThere(() => Deno.readTextFileSync(resolve(directory, "..", HIDDEN)));
  const found: string[] = text === undefined ? [] : tryTo(() => JSON.parse(text)) ?? ["it cannot be read"];
  return found.map((each) => `${name}/${each}`);
}

/** Why a skill that is in the store may not be used; nothing if it may. */
function distrust(skill: Stored, entry: GitEntry, locked: Locked): string | undefined {
  if (entry.trust && locked.trusted === locked.tree) return undefined;
  const found = hiddenIn(skill);
  if (found.length === 0) return undefined;
  const shown = `${found.slice(0, 5).join("; ")}${found.length > 5 ? `; and ${found.length - 5} more` : ""}`;
  const way = !entry.trust
    ? `look at it (tree ${skill.tree.slice(0, 12)}), and end its line with "trust" if it is meant`
    : locked.trusted === undefined
    ? `its line trusts it, and the lock does not yet: run sync without --frozen`
    : `it has changed since it was trusted: look at it, then "update --trust"`;
  return `${quote(entry.text)} has characters that nobody sees: ${shown}; ${way}`;
}

/** Why a git reference is not even asked for. What could be a path is never taken for a stranger's repo. */
function gitProblem({ text, reference, as }: GitEntry, root: Root): string | undefined {
  const owner = reference.url.startsWith("https://github.com/") && /^[^:/]+(?=\/)/.exec(text)?.[0];
  if (owner && ifThere(() => Deno.lstatSync(expand(owner, root)))) {
    return `${quote(text)} could be a path, since ${owner} is here: write ./${text} (or ${reference.url})`;
  }
  return reference.all && as !== undefined ? `"as" names one skill, and ${quote(text)} stands for many` : undefined;
}

/** Whether a lock entry can be of a reference: of its repo, its folder, one skill or many, the commit if it names one. */
function fits({ url, path, ref, tail, all }: GitEntry["reference"], locked: Locked): boolean {
  const commit = [ref, ...tail?.split("/") ?? []].find((each) => /^[0-9a-f]{40}$/.test(each ?? "")) ?? locked.commit;
  const isFolder = tail === undefined
    ? locked.path === path
    : locked.path === "" || `/${tail}`.endsWith(`/${locked.path}`);
  return locked.url === url && isFolder && locked.commit === commit && (locked.skills !== undefined) === (all === true);
}

/** The directories of the skills that a git reference names; all is read from the lock and the store. */
function locateGit(entry: GitEntry, root: Root, lock: ReadonlyMap<string, Locked>): string[] {
  const { text, reference } = entry;
  const problem = gitProblem(entry, root);
  if (problem) throw new Error(problem);
  const locked = lock.get(text);
  if (locked === undefined) {
    throw new Error(`${quote(text)} is not in ${lastSegment(lockPath(root))} yet: sync fetches it`);
  }
  if (!fits(reference, locked)) {
    throw new Error(
      `${quote(text)} is locked to something else, in ${quote(locked.url)}: take its line out of the lock`,
    );
  }
  return storedSkills(locked).map((skill) => {
    const there = tryTo(() => Array.from(Deno.readDirSync(resolve(skill.directory, "..")), ({ name }) => name)) ?? [];
    const isScanned = there.includes(CLEAN) || there.includes(HIDDEN);
    if (!isScanned || !there.includes(skill.name)) {
      throw new Error(`${quote(text)} is not on this machine yet: sync fetches it`);
    }
    const reason = there.includes(HIDDEN) ? distrust(skill, entry, locked) : undefined;
    if (reason) throw new Error(reason);
    return skill.directory;
  });
}

// ── Skills ──────────────────────────────────────────────────────────────────────────────────────────────────────

/**
 * Says why a name is no legal skill name.
 *
 * @param name The name.
 * @returns The reason, or `undefined` for a legal name.
 */
export function nameProblem(name: string): string | undefined {
  if (name.length <= 64 && /^[a-z0-9]+(-[a-z0-9]+)*$/.test(name) && !KEYWORDS.includes(name)) return undefined;
  const rule = `${quote(name)} is not a skill name: 1 to 64 of a-z, 0-9 and single hyphens, none at the ends`;
  const odd = name.match(/[^ -~]/u)?.[0];
  if (odd) return `${rule}; U+${odd.codePointAt(0)?.toString(16).toUpperCase().padStart(4, "0")} is none of these`;
  if (name.length > 64) return `${rule}; it has ${name.length} characters`;
  return KEYWORDS.includes(name) ? `${rule}, and no word of the manifest's own` : rule;
}

/** A repo or a home whose manifest asks for skills. */
export interface Root {
  /** The directory that the agents' folders lie in, as its real path. */
  directory: string;
  /** The manifest's path. */
  manifest: string;
  global: boolean;
}

/** A skill that the manifest wants in a folder. */
export interface Wish {
  name: string;
  line: number;
  /** The skill's directory. */
  skill: string;
}

/** A folder that skills are deployed into. */
export interface Folder {
  /** Its real path, also where it is yet to be made. */
  path: string;
  /** The agents that read it, as the manifest calls them. */
  agents: string[];
  /** What is wanted in it, by name. */
  wishes: Map<string, Wish>;
}

/** What a manifest comes to on this machine. */
export interface Resolved {
  /** By real path. */
  folders: Map<string, Folder>;
  /** Names whose line could not be done: what was deployed under them stays. */
  keptNames: Set<string>;
  /** Directories of `DIR/*` lines that could not be read: what was deployed from them stays. */
  keptSources: string[];
  problems: Problem[];
}

/** `path` as people write it: from the root, from the home, or absolute. */
function show(path: string, root: Root): string {
  const inside = root.global ? undefined : below(root.directory, path);
  if (inside !== undefined) return inside || ".";
  const home = environment("HOME");
  const fromHome = home && below(home, path);
  return fromHome ? `~/${fromHome}` : path;
}

/** A path from the manifest or the environment as an absolute one. */
function expand(path: string, root: Root): string {
  const home = environment("HOME");
  if (home === undefined && path.startsWith("~")) throw new Error(`Cannot expand ${quote(path)}: HOME is not set`);
  return resolve(root.manifest, "..", path.replace(/^~(?=\/|$)/, home ?? "~"));
}

/** The folder of an agent; `free` is one that may lead anywhere, since the person named it by an absolute path. */
function agentFolder(agent: string, root: Root): { path: string; free: boolean } | undefined {
  if (/^(\.|~)?\//.test(agent)) return { path: expand(agent, root), free: !agent.startsWith(".") };
  const template = AGENTS.get(agent)?.[root.global ? 1 : 0];
  if (template === undefined) return undefined;
  const [, variable, fallback = "", rest = ""] = template.match(/^\$\{(\w+):-(.+)\}(.+)/) ?? ["", undefined, template];
  const given = variable === undefined ? undefined : environment(variable);
  const chosen = variable?.startsWith("XDG_") && !given?.startsWith("/") ? undefined : given;
  return { path: resolve(root.directory, (chosen ?? fallback) + rest), free: chosen !== undefined };
}

/**
 * Where `path` really is, or will be once the folders that are missing have been made.
 *
 * @throws {Error} If that cannot be: a file or a link that leads nowhere is in the way. A link to a folder that
 * `willBe` made is fine: a fresh clone has such a link before it has the folder.
 */
function realFolder(path: string, willBe: (path: string) => boolean = () => false): string {
  const real = ifThere(() => Deno.realPathSync(path));
  if (real !== undefined) return real;
  const info = ifThere(() => Deno.lstatSync(path));
  if (info && !info.isSymlink) return realFolder(path, willBe); // made by another run just now
  const parent = realFolder(resolve(path, ".."), willBe);
  if (info) {
    const target = tryTo(() => realFolder(resolve(parent, Deno.readLinkSync(path)), willBe));
    if (target !== undefined && willBe(target)) return target;
    throw new Error(`${path} is a link that leads nowhere`);
  }
  if (ifThere(() => Deno.statSync(parent))?.isDirectory === false) throw new Error(`${parent} is not a folder`);
  return resolve(parent, lastSegment(path));
}

/** The real path of the folder that an agent's skills go into; `willBe`: see `realFolder`. */
function targetFolder(agent: string, root: Root, willBe: (path: string) => boolean): string {
  const found = agentFolder(agent, root);
  if (found === undefined) {
    throw new Error(`Unknown agent ${quote(agent)}`, { cause: { word: agent, words: [...AGENTS.keys()] } });
  }
  try {
    const real = realFolder(found.path, willBe);
    if (found.free || below(root.directory, real) !== undefined) return real;
    throw new Error(`it leads out of ${root.directory}, to ${real}; name it by that path if you mean it`);
  } catch (error) {
    throw new Error(`Cannot deploy into ${show(found.path, root)}: ${explain(error)}`);
  }
}

/** The names of the folders in `directory`, through links too; `undefined` where it cannot be read. */
function subfolders(directory: string): string[] | undefined {
  return tryTo(() => Array.from(Deno.readDirSync(directory)))?.filter((entry) =>
    entry.isDirectory || entry.isSymlink && tryTo(() => Deno.statSync(`${directory}/${entry.name}`))?.isDirectory
  ).map((entry) => entry.name);
}

/** The directories in which skills are found by name, first hit wins. */
function searchPath(root: Root): string[] {
  const script = import.meta.filename; // undefined where the script was run from a URL
  const parts = ["skills", ...(environment("SKILLS_PATH") ?? "").split(":").filter((part) => part !== "")];
  const own = script === undefined ? [] : [`${Deno.realPathSync(script)}/../skills`];
  const places = [...parts, ...own].map((part) => tryTo(() => expand(part, root)));
  return [...new Set(places.filter((place) => place !== undefined))];
}

/** The name that an entry is deployed under; "" for one that stands for many. */
function deployedName({ reference, as }: Entry, root: Root): string {
  if (reference.kind !== "name" && reference.all) return "";
  if (as !== undefined) return as;
  if (reference.kind === "name") return reference.name;
  if (reference.kind === "path") return lastSegment(tryTo(() => expand(reference.path, root)) ?? reference.path);
  const { url, path, tail } = reference;
  return lastSegment((tail ?? (path || url)).replace(/\.git$/, "").replace(/^[^/]*:/, ""));
}

/** Finds skills by name: gives the directory, or throws with the names that there are. */
function nameFinder(root: Root): (name: string) => string {
  const places = searchPath(root);
  const listing = remember((place) => new Set(subfolders(place)));
  const known = remember(() => places.flatMap((place) => [...listing(place)]));
  return (name) => {
    const problem = nameProblem(name);
    if (problem) throw new Error(problem);
    const place = places.find((place) => listing(place).has(name));
    if (place !== undefined) return `${place}/${name}`;
    const where = places.map((place) => show(place, root)).join(", ");
    throw new Error(`No skill ${quote(name)} in ${where}`, { cause: { word: name, words: known("") } });
  };
}

/** The directory at a path, or the skills directly inside it. */
function locatePath(path: string, { text, as }: Entry, all: boolean): string[] {
  const info = ifThere(() => Deno.statSync(path));
  if (!all && info?.isDirectory) return [path];
  if (!all) {
    throw new Error(info ? `${quote(text)} is a file: name the skill's folder` : `Nothing is at ${quote(text)}`);
  }
  if (as !== undefined) throw new Error(`"as" names one skill, and ${quote(text)} stands for many`);
  const names = subfolders(path);
  if (names === undefined) throw new Error(`Cannot read the folder of ${quote(text)}`);
  return names.sort().map((name) => `${path}/${name}`).filter((skill) => isThere(`${skill}/SKILL.md`));
}

/** What git references come to: what is locked, and why others could not be had. */
export interface Supplied {
  lock: ReadonlyMap<string, Locked>;
  failures: ReadonlyMap<string, string>;
}

/** The directories of the skills that an entry names. */
function locate(
  entry: Entry,
  root: Root,
  findByName: (name: string) => string,
  { lock, failures }: Supplied,
): string[] {
  const { reference, text } = entry;
  if (reference.kind === "name") return [findByName(reference.name)];
  if (reference.kind === "path") return locatePath(expand(reference.path, root), entry, reference.all);
  const failure = failures.get(text);
  if (failure !== undefined) throw new Error(failure);
  return locateGit(entry as GitEntry, root, lock);
}

/**
 * Finds the skills and folders that entries speak of. Reads the disk, changes nothing.
 *
 * @param entries The manifest's entries.
 * @param root Whose manifest it is.
 * @param supplied What its git references come to.
 * @returns What is wanted in which folder, and a problem for everything that cannot be had.
 */
export function resolveEntries(entries: readonly Entry[], root: Root, supplied: Supplied): Resolved {
  const result: Resolved = { folders: new Map(), keptNames: new Set(), keptSources: [], problems: [] };
  const fail = (line: number, name: string, error: unknown) => {
    const near = error instanceof Error ? error.cause as Near | undefined : undefined;
    result.problems.push({ line, name: name || undefined, message: explain(error), near });
  };
  const folderOf = remember((agent) => {
    const path = targetFolder(agent, root, (path) => result.folders.has(path));
    const folder: Folder = result.folders.get(path) ?? { path, agents: [], wishes: new Map() };
    folder.agents.push(agent);
    result.folders.set(path, folder);
    return folder;
  });
  const keep = (name: string, { reference, text }: Entry) => {
    const locked = reference.kind === "git" && reference.all ? supplied.lock.get(text) : undefined;
    for (const { name } of locked && tryTo(() => storedSkills(locked)) || []) result.keptNames.add(name);
    const source = reference.kind === "path" && reference.all ? tryTo(() => expand(reference.path, root)) : undefined;
    if (source !== undefined) result.keptSources.push(source);
    else result.keptNames.add(name);
  };
  const findByName = nameFinder(root);
  const standard = ["claude", "opencode", ...(environment("CODEX_HOME") ? ["codex"] : [])];

  for (const entry of entries) {
    const { line } = entry;
    const name = deployedName(entry, root);
    const agents = entry.agents ?? { line, names: standard };
    const targets: Folder[] = [];
    for (const agent of agents.names) {
      try {
        targets.push(folderOf(agent));
      } catch (error) {
        fail(agents.line, "", error);
        keep(name, entry);
      }
    }
    let skills: string[] = [];
    try {
      skills = locate(entry, root, findByName, supplied);
    } catch (error) {
      fail(line, name, error);
      keep(name, entry);
    }
    for (const skill of skills) {
      const wish = { name: entry.as ?? (entry.reference.kind === "name" ? name : lastSegment(skill)), line, skill };
      const problem = nameProblem(wish.name);
      if (problem) {
        fail(line, wish.name, entry.as ? problem : `${problem}: rename it, or write "as NAME" after its path`);
        continue;
      }
      for (const { wishes } of targets) {
        const earlier = wishes.get(wish.name) ?? wish;
        wishes.set(wish.name, earlier);
        if (earlier.skill === skill || tryTo(() => Deno.realPathSync(earlier.skill) === Deno.realPathSync(skill))) {
          continue;
        }
        const both = `${show(skill, root)} here and ${show(earlier.skill, root)} in line ${earlier.line}`;
        fail(line, wish.name, `${quote(wish.name)} is ${both}: write "as NAME"`);
      }
    }
  }
  return result;
}

// ── Specification: what a SKILL.md says, and what is wrong with it ──────────────────────────────────────────────

/** A `SKILL.md` up to the end of its front matter, with the YAML in it. */
const FRONT_MATTER = /^\ufeff?---[ \t]*\r?\n([^]*?)(?<=\n)---[ \t]*(?:\r?\n|$)/;

/**
 * Reads the front matter of a `SKILL.md`.
 *
 * @param text The file's text.
 * @returns Its fields, every scalar as the string that was written.
 * @throws {SyntaxError} If there is none, it is not closed, or it is no YAML mapping; its cause is the number of the
 * line.
 */
export async function parseFrontMatter(text: string): Promise<Record<string, unknown>> {
  const [, yaml] = text.match(FRONT_MATTER) ?? [];
  if (yaml === undefined) {
    throw new SyntaxError(/^\ufeff?---/.test(text) ? "its front matter has no end" : "it has no front matter");
  }
  const { parse }: typeof Yaml = await import(LIBRARY.yaml).catch((error) => {
    const place = 'in a checkout, "npx -y deno task use-skills" gets it from npm';
    throw new Error(`Cannot fetch ${LIBRARY.yaml}, which reads SKILL.md (${place}): ${explain(error)}`, {
      cause: LIBRARY,
    });
  });
  let fields: unknown;
  try {
    fields = parse(yaml, { schema: "failsafe" });
  } catch (error) {
    const [, reason, line] = /^(.*?)(?: at line (\d+).*)?$/m.exec(explain(error)) ?? [];
    throw new SyntaxError(`its front matter is not YAML: ${reason}`, { cause: Number(line ?? 0) + 1 });
  }
  if (typeof fields !== "object" || fields === null || Array.isArray(fields)) {
    throw new SyntaxError("its front matter is not a mapping", { cause: 2 });
  }
  return fields as Record<string, unknown>;
}

/** Whether nothing is wrong but that a part of the standard library cannot be fetched. */
function isLibraryMissing(error: unknown): boolean {
  return error instanceof Error && error.cause === LIBRARY;
}

/** Whether the specification allows a name, as its reference validator has it: letters and digits are Unicode's. */
function isSpecifiedName(name: string): boolean {
  if (/^[a-z0-9]+(-[a-z0-9]+)*$/.test(name)) return name.length <= 64; // Unicode takes milliseconds to ask
  return /^(?!.{65})[\p{L}\p{N}]+(-[\p{L}\p{N}]+)*$/u.test(name) && name === name.toLowerCase();
}

/** Where fields break the specification without keeping a skill from being deployed: the field, and what is wrong. */
function violations(fields: Record<string, unknown>, directoryName: string): [field: string, message: string][] {
  const { name, description, compatibility, metadata } = fields;
  const given = typeof name === "string" ? name.trim().normalize("NFKC") : "";
  const isOther = given !== "" && given !== directoryName.normalize("NFKC");
  const length = (field: unknown) => typeof field === "string" ? Array.from(field).length : 0;
  const isText = (value: unknown) => typeof value === "string" || value === null;
  const isTextMap = typeof metadata === "object" && metadata !== null && !Array.isArray(metadata) &&
    Object.values(metadata).every(isText);
  const rule = "1 to 64 lowercase letters, digits and single hyphens, none at the ends";
  const found: [field: string, isWrong: boolean, message: string][] = [
    ["name", isOther, `its name is ${quote(given)}, its directory ${quote(directoryName)}`],
    ["name", given !== "" && !isSpecifiedName(given), `its name ${quote(given)} is not ${rule}`],
    ["description", length(description) > 1024, `its description has ${length(description)} characters, over 1024`],
    [
      "compatibility",
      length(compatibility) > 500,
      `its compatibility has ${length(compatibility)} characters, over 500`,
    ],
    [
      "metadata",
      metadata !== undefined && metadata !== null && !isTextMap,
      "its metadata is not a mapping of strings to strings",
    ],
    ...["license", "compatibility", "allowed-tools"].map((field): [string, boolean, string] => [
      field,
      field in fields && !isText(fields[field]),
      `its ${field} is not a string`,
    ]),
    ...Object.keys(fields).map((field): [string, boolean, string] => [
      field,
      !SKILL_FIELDS.includes(field),
      `unknown field ${quote(field)}`,
    ]),
  ];
  return found.filter(([, isWrong]) => isWrong).map(([field, , message]) => [field, message]);
}

/** What was found out about a skill. */
interface Inspection {
  /** Where it breaks the specification. */
  violations: Problem[];
  /** That of them which keeps it from being deployed. */
  problem?: Problem;
  /** Its name, as it has it itself. */
  name?: string;
  /** The programs that it needs, as it says under `requires` in its metadata. */
  requires: string[];
  /** The text of its `SKILL.md`, where that has front matter. */
  text?: string;
}

/** The lines of a `SKILL.md` that its fields stand in. */
function fieldLines(text: string): Map<string, number> {
  const yaml = text.match(FRONT_MATTER)?.[1]?.split("\n") ?? [];
  const indent = yaml.find((line) => /^ *[^ #\r]/.test(line))?.search(/\S/) ?? 0;
  const lines = new Map<string, number>();
  for (const [index, line] of yaml.entries()) {
    const [, , key] = line.search(/\S/) === indent ? /^(["']?)(.*?)\1\s*:(?:\s|$)/.exec(line.trimStart()) ?? [] : [];
    if (key !== undefined && !lines.has(key)) lines.set(key, index + 2);
  }
  return lines;
}

/**
 * Judges a skill by its `SKILL.md`.
 *
 * @param directory The skill's directory.
 * @returns Where it breaks the specification, and whether that keeps it from being deployed.
 */
export async function inspectSkill(directory: string): Promise<Inspection> {
  const file = `${directory}/SKILL.md`;
  const refuse = (problem: Problem): Inspection => ({ violations: [problem], problem, requires: [] });
  let text: string | undefined;
  let fields: Record<string, unknown>;
  try {
    text = ifThere(() => readText(file));
    if (text === undefined) {
      const odd = tryTo(() => [...Deno.readDirSync(directory)])?.find(({ name }) => /^skill\.md$/i.test(name))?.name;
      const instead = odd ? `, but ${quote(odd)}, and agents look for SKILL.md: rename it` : "";
      return refuse({ file: directory, message: `it has no SKILL.md${instead}` });
    }
    fields = await parseFrontMatter(text);
  } catch (error) {
    if (isLibraryMissing(error)) throw error;
    const line = error instanceof SyntaxError && Number(error.cause) || 1;
    return refuse({ file, line, message: explain(error) });
  }
  const lines = remember(fieldLines);
  const at = ([field, message]: readonly [string, string]): Problem => {
    return { file, line: lines(text ?? "").get(field) ?? 1, message };
  };
  const isSaid = (value: unknown) => typeof value === "string" && value.trim() !== "";
  const missing = ["name", "description"].filter((field) => !isSaid(fields[field]))
    .map((field) => at([field, `its SKILL.md has no ${field}`]));
  const requires = (fields["metadata"] as Record<string, unknown> | null | undefined)?.["requires"];
  return {
    text,
    violations: [...missing, ...violations(fields, lastSegment(directory)).map(at)],
    problem: missing[0],
    name: isSaid(fields["name"]) ? `${fields["name"]}`.trim() : undefined,
    requires: typeof requires === "string" ? requires.split(/\s+/).filter((program) => program !== "") : [],
  };
}

/** Which of some programs are not on the `PATH`. */
function missingPrograms(programs: readonly string[]): string[] {
  if (programs.length === 0) return [];
  const places = (environment("PATH") ?? "").split(":").map((place) => resolve(Deno.cwd(), place));
  const isProgram = (path: string) => {
    const info = tryTo(() => Deno.statSync(path));
    return info?.isFile === true && ((info.mode ?? 0) & 0o111) !== 0;
  };
  return programs.filter((program) => !places.some((place) => isProgram(`${place}/${program}`)));
}

// ── Folders ─────────────────────────────────────────────────────────────────────────────────────────────────────

/** What was written under a name: a link with this text, or with `copy` a copy of what that link would lead to. */
export interface Form {
  target: string;
  /** The git tree hash of the copy's content. */
  copy?: string;
}

/** An entry of a folder's state: what is ours there, and for whom. */
export interface Owned extends Form {
  /** What was there before, while it is being replaced: ours as well. */
  was?: Form[];
  /** The manifests that want it: relative to the folder where both lie in one root, else absolute. */
  for: string[];
}

/** What lies in a folder under a name. */
export type Found =
  | { kind: "nothing" | "file" }
  /** `leads`: to the very skill that is wanted. */
  | { kind: "link"; text: string; leads: boolean }
  /** `hash`: of its content, read only where it may be a copy of ours. */
  | { kind: "directory"; hash?: string };

/** The state of a folder, as its state file has it. */
interface State {
  entries: Map<string, Owned>;
  /** As it was read. */
  text?: string;
}

/** Whether a value that was read from a state file is a form that this program could have written. */
function isForm(form: Partial<Form> | null): boolean {
  return typeof form?.target === "string" && (form.copy === undefined || typeof form.copy === "string");
}

/** Whether a value that was read from a state file is an entry that this program could have written. */
function isOwned(owned: Partial<Owned> | null): boolean {
  return isForm(owned) && Array.isArray(owned?.for) && owned.for.every((claim) => typeof claim === "string") &&
    (owned.was === undefined || Array.isArray(owned.was) && owned.was.every(isForm));
}

/**
 * Reads the state of a folder. A file that is damaged counts as none: what is exactly right is then adopted again.
 *
 * @throws {Error} If a newer version of this program wrote it.
 */
function readState(folder: string): State {
  const text = ifThere(() => Deno.readTextFileSync(`${folder}/${STATE_FILE}`));
  const { version, entries } = tryTo(() => JSON.parse(text ?? "{}")) ?? {};
  if (version > 1) throw new Error(`its ${STATE_FILE} is from a newer use-skills: bring this one up to date`);
  const known = version === 1 && typeof entries === "object" ? Object.entries<Owned>(entries ?? {}) : [];
  return { entries: new Map(known.filter(([name, owned]) => !nameProblem(name) && isOwned(owned))), text };
}

/** The text of a folder's state file, an entry a line; none where nothing in the folder is ours. */
function renderState(entries: Map<string, Owned>, names = [...entries.keys()].sort()): string | undefined {
  if (names.length === 0) return undefined;
  const lines = names.map((name) => `"${name}":${JSON.stringify(entries.get(name))}`);
  return `{"version":1,"entries":{\n${lines.join(",\n")}\n}}\n`;
}

/** The lines of a folder's `.gitignore` below its first, for names that are sorted. */
function ignoredLines(names: readonly string[]): string {
  return `/.gitignore\n/.use-skills.*\n/${names.join("\n/")}\n`;
}

/** Whether the text of a `.gitignore`, below its first line, is what names call for. */
function isIgnoring(text: string | undefined, names: readonly string[]): boolean {
  return text?.slice(text.indexOf("\n") + 1) === ignoredLines(names);
}

/** The text of a `.gitignore`. Its sum tells a file that is as written from one that a person has edited. */
function withSum(lines: string): string {
  return `# Written by use-skills, sum ${fnv1a(lines)}\n${lines}`;
}

/**
 * Whether a folder is, byte for byte, as a first deployment of its wishes would leave it: the usual case, and all that
 * is done about it at a `cd`. One that is right in some other way (copies, links that were there before) is planned.
 */
function isAsDeployed({ path, wishes }: Folder, root: Root): boolean {
  const linkTo = pathsFrom(path, root.directory);
  const claims = [linkTo(root.manifest)];
  const names = [...wishes.keys()].sort();
  const entries = new Map<string, Owned>();
  for (const { name, skill } of wishes.values()) entries.set(name, { target: linkTo(skill), for: claims });
  const text = (name: string) => ifThere(() => Deno.readTextFileSync(`${path}/${name}`));
  if (names.length === 0 || text(STATE_FILE) !== renderState(entries, names)) return false;
  let count = 0;
  for (const { name, isSymlink } of Deno.readDirSync(path)) {
    const target = entries.get(name)?.target;
    if (name === WORKSHOP || target && !(isSymlink && Deno.readLinkSync(`${path}/${name}`) === target)) return false;
    if (target) count++;
  }
  return count === names.length && isIgnoring(text(".gitignore"), names);
}

/** A file, link or directory inside a skill that is copied. */
interface Node {
  name: string;
  kind: "file" | "link" | "directory";
  executable: boolean;
  /** Of a link: its text. */
  target: string;
  /** Of a directory: what is in it. */
  children: Node[];
}

/**
 * Lists a directory that is to be copied, or was.
 *
 * @throws {Error} If a copy would not be whole, or would carry in what lies outside: on a link that leads out of the
 * directory or nowhere, a socket, a device.
 */
function scan(directory: string, top = Deno.realPathSync(directory), inside = ""): Node[] {
  return Array.from(Deno.readDirSync(directory), ({ name }): Node => {
    const path = `${directory}/${name}`;
    const shown = quote(inside + name);
    const info = Deno.lstatSync(path);
    const node: Node = { name, kind: "file", executable: false, target: "", children: [] };
    if (info.isDirectory) return { ...node, kind: "directory", children: scan(path, top, `${inside}${name}/`) };
    if (info.isFile) return { ...node, executable: ((info.mode ?? 0) & 0o111) !== 0 };
    if (!info.isSymlink) throw new Error(`${shown} in it is neither a file nor a folder nor a link`);
    const target = Deno.readLinkSync(path);
    const real = tryTo(() => Deno.realPathSync(path));
    if (real === undefined) throw new Error(`the link ${shown} in it leads nowhere`);
    const isInside = below("/top", resolve(`/top/${inside}`, target)) !== undefined &&
      below(top, real) !== undefined;
    if (target.startsWith("/") || !isInside) {
      throw new Error(`the link ${shown} in it leads out of it, to ${quote(target)}`);
    }
    return { ...node, kind: "link", target };
  }).sort((a, b) => a.name < b.name ? -1 : 1);
}

/** Strings and bytes as bytes, one after the other. */
function concat(...parts: (string | Uint8Array)[]): Uint8Array<ArrayBuffer> {
  const chunks = parts.map((part) => typeof part === "string" ? new TextEncoder().encode(part) : part);
  const bytes = new Uint8Array(chunks.reduce((sum, chunk) => sum + chunk.length, 0));
  chunks.reduce((at, chunk) => (bytes.set(chunk, at), at + chunk.length), 0);
  return bytes;
}

/**
 * The hash that git gives a tree of these nodes; an empty directory counts as an empty tree.
 *
 * Source: git's object format, https://git-scm.com/book/en/v2/Git-Internals-Git-Objects
 */
async function treeHash(directory: string, nodes: Node[]): Promise<string> {
  const object = async (type: string, content: Uint8Array) =>
    new Uint8Array(await crypto.subtle.digest("SHA-1", concat(`${type} ${content.length}\0`, content)));
  const lines: { key: string; parts: [string, Uint8Array] }[] = [];
  for (const { name, kind, executable, target, children } of nodes) {
    const path = `${directory}/${name}`;
    const mode = { directory: "40000", link: "120000", file: executable ? "100755" : "100644" }[kind];
    const hash = kind === "directory"
      ? Uint8Array.fromHex(await treeHash(path, children))
      : await object("blob", kind === "link" ? concat(target) : Deno.readFileSync(path));
    const key = concat(name, kind === "directory" ? "/" : "").toHex(); // git sorts by bytes, a directory as NAME/
    lines.push({ key, parts: [`${mode} ${name}\0`, hash] });
  }
  const sorted = lines.sort((a, b) => a.key < b.key ? -1 : 1);
  return (await object("tree", concat(...sorted.flatMap(({ parts }) => parts)))).toHex();
}

// ── Plan ────────────────────────────────────────────────────────────────────────────────────────────────────────

/** What is to be done under one name of a folder. */
export interface Step {
  /** `keep` leaves what a line that could not be done has deployed; `release` what a person has made their own. */
  action: "ok" | "keep" | "link" | "relink" | "copy" | "recopy" | "adopt" | "remove" | "release" | "blocked";
  name: string;
  reason: string;
  found: Found;
  wish?: Wish;
  /** What is wanted: a link with this text, or a copy. */
  want?: Form;
  /** What of ours is there. */
  form?: Form;
  /** The entry of the folder's state once it is done. */
  next?: Owned;
}

/** All that the decision about one name depends on. */
export interface Situation {
  name: string;
  wish?: Wish;
  /** What is wanted under the name, if anything is. */
  want?: Form;
  /** What the folder's state says of it. */
  owned?: Owned;
  found: Found;
  /** Nobody names it now, but a line that could not be done may have meant it. */
  kept: boolean;
  /** The manifest that is being deployed, as the state would name it. */
  claim: string;
  /** Whether the manifest that a claim names is still there. */
  alive: (claim: string) => boolean;
}

/** The forms in which an entry is ours. */
function formsOf(owned: Owned | undefined): Form[] {
  return owned === undefined ? [] : [owned, ...owned.was ?? []];
}

/** What is in the way, in words. */
function obstacle(found: Found, owned?: Owned): string {
  if (found.kind === "link") return `a link to ${quote(found.text)} that use-skills did not make is in the way`;
  if (found.kind === "directory" && owned?.copy) return "it was edited since it was copied, so it is left as it is";
  return `a ${found.kind} that use-skills did not make is in the way`;
}

/**
 * Decides what is to be done under one name of a folder.
 *
 * What is not ours is never touched: ours is what the state names and what is still as it was written. A name that
 * another living manifest claims keeps what it has. What nobody claims any more is removed.
 *
 * @param situation What is wanted, and what is there.
 * @returns The step that leads from the one to the other.
 */
export function decide({ name, wish, want, owned, found, kept, claim, alive }: Situation): Step {
  const form = formsOf(owned).find(({ target, copy }) =>
    copy === undefined
      ? found.kind === "link" && found.text === target
      : found.kind === "directory" && found.hash === copy
  );
  const others = owned?.for.filter((other) => other !== claim && alive(other)) ?? [];
  const theirs = owned && { ...owned, for: others };
  const known = { name, found, wish, want, form };
  const step = (action: Step["action"], reason: string, next?: Owned): Step => ({ action, reason, next, ...known });

  if (want === undefined) {
    if (owned === undefined || kept && owned.for.includes(claim)) return step("keep", "", owned);
    if (others.length > 0) return step("ok", "", theirs);
    if (form) return step("remove", owned.for.includes(claim) ? "no longer wanted" : "nobody wants it any more");
    return found.kind === "nothing" ? step("ok", "") : step("release", obstacle(found, owned));
  }

  const leads = found.kind === "link" && found.leads;
  const claims = [...others, claim].sort();
  const becomes = ({ target, copy }: Form): Owned => ({ target, copy, for: claims });
  if (owned && others.length > 0 && !leads && owned.target !== want.target) {
    return step("blocked", `${others[0]} has another skill of that name there`, theirs);
  }
  if (want.copy === undefined ? leads : form?.copy === want.copy) {
    const action = form !== undefined && owned?.for.includes(claim) ? "ok" : "adopt";
    return step(action, "it is there already", becomes(found.kind === "link" ? { target: found.text } : want));
  }
  if (found.kind === "nothing") return step(want.copy ? "copy" : "link", "nothing is there", becomes(want));
  if (form === undefined) {
    const isEdited = found.kind === "directory" && owned?.copy;
    return step("blocked", obstacle(found, owned), isEdited ? owned : undefined);
  }
  if (others.length > 0) return step("ok", "", becomes(form)); // link or copy was the other root's choice
  const change = form.copy && !want.copy
    ? "it was a copy"
    : want.copy && !form.copy
    ? "it was a link"
    : "it has changed";
  const reason = form.target === want.target ? change : `it came from ${form.target}`;
  return step(want.copy ? "recopy" : "relink", reason, becomes(want));
}

/** Whether a step changes anything on disk or in what is ours. */
function isChange({ action }: Step): boolean {
  return action !== "ok" && action !== "keep" && action !== "blocked";
}

/** A step, with where and for whom. */
interface Deed extends Step {
  path: string;
  agents: string[];
}

/** A folder with what is to be done in it. */
interface Plan {
  folder: Folder;
  state: State;
  steps: Deed[];
  /** The entries of the state once the steps are done. */
  next: Map<string, Owned>;
  problems: Problem[];
  /** The folder's `.gitignore` is the person's own. */
  foreignIgnore: boolean;
  /** It was planned for a folder that is empty or not there. */
  fresh: boolean;
  /** There is nothing to do. */
  settled: boolean;
}

/** What a run knows while it plans. */
interface Run {
  root: Root;
  resolved: Resolved;
  /** Copies or links; `undefined` for whichever was chosen before. */
  copy?: boolean;
  /** Also judge skills that are deployed already. */
  thorough: boolean;
  /** Judges a skill, once. */
  inspect: (skill: string) => Promise<Inspection>;
}

/** A name of a folder: its path, what is listed there, and what the folder's state says of it. */
interface Spot {
  name: string;
  path: string;
  entry?: Deno.DirEntry;
  owned?: Owned;
}

/** The hash of a directory's content; none for one that cannot be read, or that no copy of ours could look like. */
async function contentHash(directory: string): Promise<string | undefined> {
  try {
    return await treeHash(directory, scan(directory));
  } catch {
    return undefined;
  }
}

/**
 * The hashes that decide about copies: of the skill that a copy is wanted of, and of what may be a copy of ours.
 *
 * @throws {Error} If the skill cannot be copied.
 */
async function copyHashes({ path, entry, owned }: Spot, skill: string | undefined) {
  const mayBeOurs = entry?.isDirectory && formsOf(owned).some((form) => form.copy);
  const there = mayBeOurs ? await contentHash(path) : undefined;
  if (skill === undefined) return { there };
  if (below(Deno.realPathSync(skill), path) !== undefined) throw new Error("it holds the folder it would go into");
  return { there, wanted: await treeHash(skill, scan(skill)) };
}

/** What lies at a spot. */
function look({ path, entry }: Spot, wish?: Wish, want?: Form, hash?: string): Found {
  if (entry === undefined) return { kind: "nothing" };
  if (entry.isDirectory) return { kind: "directory", hash };
  if (!entry.isSymlink) return { kind: "file" };
  const text = tryTo(() => Deno.readLinkSync(path));
  if (text === undefined) return { kind: "nothing" }; // no longer what was listed, as will be seen
  const isRight = () => wish && tryTo(() => Deno.realPathSync(path)) === Deno.realPathSync(wish.skill);
  return { kind: "link", text, leads: text === want?.target || isRight() === true };
}

/** Plans a folder. Skills that would be deployed anew are judged first. */
async function planFolder(folder: Folder, run: Run): Promise<Plan> {
  const { root, resolved: { keptNames, keptSources }, inspect } = run;
  const state = readState(folder.path);
  if (ifThere(() => Deno.statSync(folder.path))?.isDirectory === false) throw new Error("it is not a folder");
  const there = new Map<string, Deno.DirEntry>();
  ifThere(() => Array.from(Deno.readDirSync(folder.path), (entry) => there.set(entry.name, entry)));
  const linkTo = pathsFrom(folder.path, root.directory);
  const claim = linkTo(root.manifest);
  const alive = remember((other) => isThere(resolve(folder.path, other)));
  const comesFromKept = ({ target }: Owned) =>
    keptSources.some((source) => below(source, resolve(folder.path, target)) !== undefined);

  const planSpot = async (spot: Spot, wish?: Wish): Promise<Deed> => {
    const { name, owned } = spot;
    const target = wish && linkTo(wish.skill);
    const isCopy = run.copy ?? owned?.copy !== undefined;
    const { wanted, there } = await copyHashes(spot, isCopy ? wish?.skill : undefined);
    const want = target === undefined ? undefined : { target, copy: wanted };
    const kept = keptNames.has(name) || folder.wishes.has(name) || owned !== undefined && comesFromKept(owned);
    const step = decide({ name, wish, want, owned, found: look(spot, wish, want, there), kept, claim, alive });
    const isJudged = step.action !== "blocked" && (step.action !== "ok" || run.thorough);
    const problem = wish && isJudged ? (await inspect(wish.skill)).problem : undefined;
    if (problem) throw new Error(problem.message);
    return { ...step, path: spot.path, agents: folder.agents };
  };

  const steps: Deed[] = [];
  const problems: Problem[] = [];
  const next = new Map<string, Owned>();
  for (const name of new Set([...folder.wishes.keys(), ...state.entries.keys()])) {
    const spot = { name, path: `${folder.path}/${name}`, entry: there.get(name), owned: state.entries.get(name) };
    const wish = folder.wishes.get(name);
    // Where the skill itself lives here, there is nothing to deploy.
    if (wish && spot.entry?.isDirectory && Deno.realPathSync(wish.skill) === spot.path) continue;
    const fail = (problem: string) => problems.push({ line: wish?.line, name, message: problem });
    let step: Deed;
    try {
      step = await planSpot(spot, wish);
      const reason = `${step.reason} (move it away, or write "as NAME")`;
      if (wish && step.action === "blocked") {
        fail(`Cannot deploy ${quote(name)} into ${show(folder.path, root)}: ${reason}`);
      }
    } catch (error) {
      if (wish === undefined) throw error;
      if (isLibraryMissing(error)) problems.push({ message: explain(error) }); // of no line, so it is said once
      else fail(`Cannot deploy ${quote(name)} from ${show(wish.skill, root)}: ${explain(error)}`);
      step = await planSpot(spot);
    }
    steps.push(step);
    if (step.next) next.set(name, step.next);
  }
  const names = [...next.keys()].sort();
  const ignore = there.get(".gitignore");
  const ignoreText = ignore?.isFile ? ifThere(() => Deno.readTextFileSync(`${folder.path}/.gitignore`)) : undefined;
  const isExpected = names.length === 0 ? ignore === undefined : isIgnoring(ignoreText, names);
  const isOurs = ignoreText !== undefined && ignoreText === withSum(ignoreText.replace(/^.*\n/, ""));
  const foreignIgnore = ignore !== undefined && !isOurs && !isExpected;
  const isInOrder = !there.has(WORKSHOP) && (isExpected || foreignIgnore) && renderState(next) === state.text;
  const settled = isInOrder && !steps.some(isChange);
  return { folder, state, steps, next, problems, foreignIgnore, fresh: there.size === 0 && !state.text, settled };
}

// ── Disk ────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Makes the directories in `path` such that they can be emptied. */
function makeWritable(path: string): void {
  if (!Deno.lstatSync(path).isDirectory) return;
  Deno.chmodSync(path, 0o755);
  for (const { name } of Deno.readDirSync(path)) makeWritable(`${path}/${name}`);
}

/** Removes a path of ours with all that is in it; what is not there need not be removed. */
function removeAll(path: string): void {
  try {
    ifThere(() => Deno.removeSync(path, { recursive: true }));
  } catch (error) {
    if (!(error instanceof Deno.errors.PermissionDenied)) throw error;
    makeWritable(path);
    Deno.removeSync(path, { recursive: true });
  }
}

/**
 * Locks a directory, as long as what is returned lives; nothing where there is no such directory.
 *
 * The lock is the operating system's, on the directory itself, so that a run which is killed leaves none behind.
 *
 * @param exclusive Whether nobody else may hold it; else only those are kept out who want that.
 * @throws {Error} If another run holds the lock for longer than that many seconds: nobody is kept from their directory.
 */
async function lock(directory: string, seconds = 10, exclusive = true): Promise<Deno.FsFile | undefined> {
  const handle = ifThere(() => Deno.openSync(directory));
  for (let wait = 1; handle && !handle.tryLockSync(exclusive); wait++) {
    if (wait > 40 * seconds) {
      handle.close();
      throw new Deno.errors.TimedOut(`another run has been at work in ${directory} for ${Math.ceil(seconds)} seconds`);
    }
    await new Promise((go) => setTimeout(go, 25));
  }
  const [locked, current] = [handle?.statSync(), ifThere(() => Deno.statSync(directory))];
  // Whoever waited for a run that removed the directory now holds the lock of one that is no longer there.
  if (locked?.ino === current?.ino && locked?.dev === current?.dev) return handle;
  handle?.close();
  return undefined;
}

/** Makes `path` hold `text`, or not be there, in one step; `made` is a path of ours on the same disk. */
function replaceFile(path: string, text: string | undefined, made: string): void {
  if (text === undefined) return removeAll(path);
  removeAll(made);
  Deno.writeTextFileSync(made, text, { createNew: true });
  Deno.renameSync(made, path);
}

/** Copies what `scan` listed, with the modes that git knows. */
function copyNodes(source: string, nodes: Node[], destination: string): void {
  Deno.mkdirSync(destination);
  for (const { name, kind, target, children, executable } of nodes) {
    const [from, to] = [`${source}/${name}`, `${destination}/${name}`];
    if (kind === "link") Deno.symlinkSync(target, to);
    if (kind === "directory") copyNodes(from, children, to);
    if (kind !== "file") continue;
    Deno.copyFileSync(from, to);
    Deno.chmodSync(to, executable ? 0o755 : 0o644);
  }
}

/**
 * Swaps two paths in one step, so that nobody who looks ever finds one of them missing.
 *
 * Rename puts nothing in the place of a directory that is not empty. The system calls that do are not in Deno;
 * sources: `man 2 renameat2` (Linux), `man 2 renamex_np` (macOS).
 *
 * @returns Whether it was done; where the system cannot, two renames have to do.
 */
function exchange(a: string, b: string): boolean {
  const [first, second, swap] = [concat(`${a}\0`), concat(`${b}\0`), 2]; // RENAME_EXCHANGE, RENAME_SWAP
  try {
    if (Deno.build.os === "darwin") {
      const symbols = { renamex_np: { parameters: ["buffer", "buffer", "u32"], result: "i32" } } as const;
      return Deno.dlopen("libSystem.dylib", symbols).symbols.renamex_np(first, second, swap) === 0;
    }
    const symbols = { renameat2: { parameters: ["i32", "buffer", "i32", "buffer", "u32"], result: "i32" } } as const;
    return Deno.dlopen("libc.so.6", symbols).symbols.renameat2(-1, first, -1, second, swap) === 0;
  } catch {
    return false;
  }
}

/**
 * Does one step in a folder.
 *
 * What is to go is judged once more when it is out of everybody's reach: a copy may be edited while it is read.
 */
async function perform({ action, name, want, wish, found }: Step, folder: string): Promise<void> {
  const path = `${folder}/${name}`;
  const made = `${folder}/${WORKSHOP}/${name}`;
  const discarded = `${made}.old`;
  const check = async (moved: string, putBack: () => unknown) => {
    const isAsFound = found.kind === "link"
      ? tryTo(() => Deno.readLinkSync(moved)) === found.text
      : found.kind === "directory" && found.hash !== undefined && await contentHash(moved) === found.hash;
    if (isAsFound) return;
    if (!tryTo(putBack)) Deno.renameSync(moved, `${path}.edited`); // not ours to throw away
    throw new Error("it was changed just now");
  };
  const move = (from: string, to: string) => !isThere(to) && (Deno.renameSync(from, to), true);
  if (action === "adopt" || action === "release") return;
  if (action === "link" && want) return Deno.symlinkSync(want.target, path); // never over anything
  if (want === undefined || wish === undefined) {
    Deno.renameSync(path, discarded);
    return await check(discarded, () => move(discarded, path));
  }
  if (want.copy === undefined) {
    Deno.symlinkSync(want.target, made);
  } else {
    copyNodes(wish.skill, scan(wish.skill), made);
    if (await contentHash(made) !== want.copy) throw new Error("the skill changed while it was copied");
  }
  if (action === "copy") {
    if (isThere(path)) throw new Error("something was put there just now");
    return Deno.renameSync(made, path);
  }
  if (found.kind === "link" && want.copy === undefined) {
    await check(path, () => true);
    return Deno.renameSync(made, path);
  }
  if (exchange(made, path)) return await check(made, () => exchange(made, path));
  Deno.renameSync(path, discarded);
  await check(discarded, () => move(discarded, path));
  Deno.renameSync(made, path);
}

/** The entries to record before steps are done: what is there and what is about to be, both ours. */
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
 * Does what was planned for a folder, whose lock must be held.
 *
 * What is about to be made is recorded as ours first, so that a run which is killed leaves nothing behind that a
 * later run would not know.
 *
 * @returns What could not be done, by name.
 */
async function applyPlan(plan: Plan): Promise<Map<string, string>> {
  const { folder: { path }, state, steps, next, foreignIgnore } = plan;
  const failures = new Map<string, string>();
  const workshop = `${path}/${WORKSHOP}`;
  let written: string | undefined = "";
  const record = (entries: Map<string, Owned>) => {
    const text = renderState(entries);
    if (text === written) return;
    written = text;
    const ignore = entries.size > 0 ? withSum(ignoredLines([...entries.keys()].sort())) : undefined;
    if (!foreignIgnore) replaceFile(`${path}/.gitignore`, ignore, `${workshop}/.gitignore`);
    replaceFile(`${path}/${STATE_FILE}`, text, `${workshop}/${STATE_FILE}`);
  };
  removeAll(workshop);
  Deno.mkdirSync(workshop);
  try {
    const changes = steps.filter(isChange);
    if (changes.length > 0) record(transition(state.entries, next));
    for (const step of changes) {
      try {
        await perform(step, path);
      } catch (error) {
        failures.set(step.name, explain(error));
        removeAll(`${workshop}/${step.name}`); // the disk may be full
        const old = state.entries.get(step.name);
        if (old) next.set(step.name, old);
        else next.delete(step.name);
      }
    }
    record(next);
  } finally {
    removeAll(workshop);
  }
  return failures;
}

// ── Git: what is asked of a server, and of the cache in which it is kept ────────────────────────────────────────

/** Settings of every git that is run: nothing of a repo that could run a program, nothing in the background. */
const GIT_SETTINGS = {
  "core.hooksPath": "/dev/null",
  "core.askPass": "",
  "credential.interactive": "false",
  "gc.auto": "0",
  "maintenance.auto": "false",
};

/** What a git server has under a name. */
interface Place {
  commit: string;
  path: string;
  kind: "branch" | "tag" | "commit";
}

/** A file, link or submodule in a commit. */
interface Blob {
  mode: string;
  hash: string;
  path: string;
}

/** How long all that is fetched may take, in seconds. */
function patience(): number {
  const given = Number(environment("SKILLS_TIMEOUT") ?? 60);
  return given > 0 ? Math.min(given, 86_400) : 60;
}

/** When this run began to fetch; all of it shares one time limit. */
let began: number | undefined;
let deadline: AbortSignal | undefined;

/** The end of the time that all fetching may take. */
function timeLimit(): AbortSignal {
  began ??= performance.now();
  return deadline ??= AbortSignal.timeout(patience() * 1000);
}

/** The seconds that are left. */
function timeLeft(): number {
  return Math.max(0.1, patience() - (performance.now() - (began ?? performance.now())) / 1000);
}

/** The gits that run, each with what it has started in a group of its own. */
const running = new Set<number>();

/** Ends what runs; without that, what git has started would live on. */
function endRunning(): void {
  for (const pid of running) tryTo(() => Deno.kill(-pid, "SIGKILL"));
}

/** A repo on a server, and the bare cache of what was fetched of it. */
class Repo implements Disposable {
  #ssh = "ssh";
  #protocols = "https:ssh:file";
  #held: Deno.FsFile | undefined;
  readonly #start = performance.now();
  readonly #notice: ReturnType<typeof setTimeout>;
  /** Whether git's own words are for a person to see. */
  isShown = false;

  private constructor(readonly url: string, readonly cache: string, readonly deadline: AbortSignal) {
    this.#notice = setTimeout(() => Deno.stderr.isTerminal() && say(`use-skills: fetching ${this.url}`), 1000);
  }

  /** Opens the cache of a repo, once no other run uses it. */
  static async open(url: string, deadline: AbortSignal): Promise<Repo> {
    const caches = xdgFolder("XDG_CACHE_HOME", ".cache");
    if (caches === undefined) throw new Error("Neither XDG_CACHE_HOME nor HOME says where to keep what is fetched");
    const name = encodeURIComponent(url);
    const repo = new Repo(url, `${caches}/use-skills/git/${name.slice(-150)}-${fnv1a(name)}`, deadline);
    Deno.mkdirSync(repo.cache, { recursive: true });
    try {
      await repo.#begin();
    } catch (error) {
      repo[Symbol.dispose]();
      throw error;
    }
    return repo;
  }

  async #begin(): Promise<void> {
    this.#held = await lock(this.cache, timeLeft());
    for (const path of ["shallow.lock", "config.lock", "HEAD.lock", "packed-refs.lock"]) {
      removeAll(`${this.cache}/${path}`);
    }
    this.#ssh = (await this.#try("config", "core.sshCommand"))?.trim() || "ssh";
    await this.#git(["init", "--quiet", "--bare", this.cache]); // also finishes one that was killed
    // The person's git may have another place for an address; what stays on this machine, nobody can listen to.
    const place = await this.#try("ls-remote", "--get-url", REMOTE) ?? "";
    if (/^http:\/\/(127\.0\.0\.1|\[::1\]|localhost)[:/]/.test(place)) this.#protocols += ":http";
  }

  /** Begins the cache anew, as it is damaged. */
  async forget(): Promise<void> {
    for (const { name } of Deno.readDirSync(this.cache)) removeAll(`${this.cache}/${name}`);
    await this.#git(["init", "--quiet", "--bare", this.cache]);
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#notice);
    this.#held?.close();
  }

  /** Runs git; gives what it prints. */
  async #git(args: string[], input = ""): Promise<Uint8Array<ArrayBuffer>> {
    const settings = Object.entries({
      ...GIT_SETTINGS,
      [`remote.${REMOTE}.url`]: this.url,
      // Should this process be killed, what it has started ends by itself.
      "http.lowSpeedLimit": "100",
      "http.lowSpeedTime": `${Math.ceil(patience())}`,
    }).flatMap(([key, value]) => ["-c", `${key}=${value}`]);
    const own = Object.entries(Deno.env.toObject()).filter(([name]) => !/^GIT_(?!SSL_)|^SSH_ASKPASS/.test(name));
    const env = {
      ...Object.fromEntries(own),
      GIT_DIR: this.cache,
      GIT_ALLOW_PROTOCOL: this.#protocols,
      GIT_NO_LAZY_FETCH: "1", // objects that are not here are asked for all at once, and by us
      GIT_TERMINAL_PROMPT: "0",
      GIT_ASKPASS: "false",
      GIT_SSH_COMMAND: `${this.#ssh} -oBatchMode=yes -oServerAliveInterval=15`,
      GCM_INTERACTIVE: "never",
      LC_ALL: "C",
    };
    const words = [...settings, ...args];
    const streams = { stdin: "piped", stdout: "piped", stderr: "piped" } as const;
    let child: Deno.ChildProcess;
    try {
      const options = { args: words, env, clearEnv: true, cwd: this.cache, detached: true, ...streams };
      child = new Deno.Command("git", options).spawn();
    } catch (error) {
      throw error instanceof Deno.errors.NotFound ? new Error("git is not installed, or not on the PATH") : error;
    }
    const writer = child.stdin.getWriter();
    writer.write(concat(input)).then(() => writer.close()).catch(() => {}); // git tells why it did not read it
    running.add(child.pid);
    const end = () => tryTo(() => Deno.kill(-child.pid, "SIGKILL"));
    this.deadline.addEventListener("abort", end);
    if (this.deadline.aborted) end();
    const printed = new Response(child.stdout).bytes();
    const said = this.#listen(child.stderr, args.includes("--progress"));
    const status = await child.status;
    // What git has started, a daemon of ssh's for one, may live on and hold what it was to print to.
    let timer: ReturnType<typeof setTimeout> | undefined;
    const soon = new Promise<undefined>((go) => timer = setTimeout(() => go(undefined), 1000));
    const stdout = await Promise.race([printed, soon]) ?? new Uint8Array();
    const stderr = await Promise.race([said, soon]) ?? "";
    clearTimeout(timer);
    this.deadline.removeEventListener("abort", end);
    running.delete(child.pid);
    if (this.deadline.aborted) {
      throw new Error(`Cannot fetch ${this.url}: no answer within ${patience()} seconds (SKILLS_TIMEOUT)`);
    }
    if (status.success) return stdout;
    throw new Error(this.#explain(stderr), { cause: GIT });
  }

  /** Reads what git says; a person at a terminal sees it, too, once it has taken a while. */
  async #listen(stream: ReadableStream<Uint8Array>, isShown: boolean): Promise<string> {
    const decoder = new TextDecoder();
    let said = "";
    for await (const piece of stream) {
      said += decoder.decode(piece, { stream: true });
      if (isShown && performance.now() - this.#start > 1000) Deno.stderr.writeSync(piece);
    }
    return said;
  }

  /** Whether git tells how far it is. */
  get #manner(): string {
    return this.isShown ? "--progress" : "--quiet";
  }

  /** Why git could not do it. */
  #explain(stderr: string): string {
    const said = stderr.replace(/\/\/[^/\s]*@/g, "//");
    if (
      /could not read Username|Authentication failed|Permission denied|terminal prompts|returned error: 40[13]/i.test(
        said,
      )
    ) {
      return `Cannot fetch ${this.url}: it wants access, or is not there; git has none here (try: git ls-remote ${this.url})`;
    }
    if (/unsupported object format|mismatched algorithms|remote ref [0-9a-f]{64}$/m.test(said)) {
      return `Cannot fetch ${this.url}: its objects are not named by SHA-1, which is not supported`;
    }
    if (/repository '.*' not found|does not appear to be a git repository|returned error: 404/i.test(said)) {
      return `Cannot fetch ${this.url}: there is no such repo, or it is private`;
    }
    const line = said.split(/[\r\n]+/).findLast((each) => /^(fatal|error|remote|ERROR): ?\S/.test(each)) ??
      said.trim().split("\n")[0];
    return `Cannot fetch ${this.url}: ${line?.replace(/^(fatal|error): /, "")}`;
  }

  /** Runs git; what it prints, or nothing where it fails. */
  async #try(...args: string[]): Promise<string | undefined> {
    return await this.#git(args).then((bytes) => new TextDecoder().decode(bytes), (error) => {
      if (this.deadline.aborted) throw error;
      return undefined;
    });
  }

  /**
   * Finds out which commit a reference means now, and where in a pasted address the name of a branch ends: where the
   * longest name ends that the server has.
   */
  async resolve({ ref, path, tail }: GitEntry["reference"]): Promise<Place> {
    const segments = (tail ?? ref ?? "").split("/");
    const names = tail === undefined
      ? [ref ?? "HEAD"]
      : segments.map((_, index) => segments.slice(0, index + 1).join("/"));
    const first = names[0] ?? "";
    const rest = (name: string) => tail === undefined ? path : tail.slice(name.length + 1);
    const full = names.find((name) => /^[0-9a-f]{40}$/.test(name));
    if (full !== undefined) return { commit: full, path: rest(full), kind: "commit" };
    const patterns = names.flatMap((name) =>
      name === "HEAD" ? [name] : [`refs/heads/${name}`, `refs/tags/${name}`, `refs/tags/${name}^{}`]
    );
    const listed = new TextDecoder().decode(
      await this.#git(["ls-remote", "--quiet", "--end-of-options", REMOTE, ...patterns]),
    );
    const refs = new Map(listed.split("\n").map((line) => line.split("\t").reverse() as [string, string]));
    for (const name of names.toReversed()) {
      const [branch, tag] = [refs.get(name === "HEAD" ? name : `refs/heads/${name}`), `refs/tags/${name}`];
      const tagged = refs.get(`${tag}^{}`) ?? refs.get(tag);
      if (branch !== undefined && tagged !== undefined && branch !== tagged) {
        throw new Error(`${this.url} has a branch ${quote(name)} and a tag of that name: name the commit`);
      }
      const commit = branch ?? tagged;
      if (commit !== undefined) return { commit, path: rest(name), kind: tagged === undefined ? "branch" : "tag" };
    }
    if (/^[0-9a-f]{7,39}$/.test(first)) {
      throw new Error(`${this.url} has no branch or tag ${first}; a commit is written whole`);
    }
    throw new Error(
      ref === undefined && tail === undefined
        ? `${this.url} has no branch that is its first one: name one with #BRANCH`
        : `${this.url} has no branch or tag ${quote(first)}`,
    );
  }

  /** Whether an object is in the cache. */
  async has(object: string): Promise<boolean> {
    return await this.#try("cat-file", "-e", object) !== undefined;
  }

  /** Fetches a commit without its files; as little of the rest as the server can leave out. */
  async fetch(commit: string): Promise<void> {
    if (await this.has(`${commit}^{tree}`)) return;
    const all = ["--prune", REMOTE, "+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"];
    const ways = [[...PARTIAL, "--depth=1", REMOTE, commit], [...PARTIAL, ...all], all];
    let problem: unknown;
    for (const way of ways) {
      if (way !== all && /dumb/.test(explain(problem))) continue; // such a server can leave nothing out
      try {
        const settings = way === all ? [] : PARTIAL_SETTINGS;
        await this.#git([...settings, "fetch", this.#manner, ...FETCHING, ...way]);
        if (await this.has(`${commit}^{tree}`)) return;
      } catch (error) {
        problem = error;
        // Only what a server cannot do is tried in another way.
        if (!/unadvertised|not our ref|shallow|filter|dumb|remote error|want/i.test(explain(error))) throw error;
      }
    }
    const gone = `${this.url} no longer has the commit ${commit}: "update" takes the newest`;
    throw problem instanceof Error && !/not our ref|unadvertised|remote error/i.test(problem.message)
      ? problem
      : new Error(gone);
  }

  /** The hash of the tree at a path, if there is one. */
  async tree(commit: string, path: string): Promise<string | undefined> {
    const line = await this.#try("rev-parse", "--verify", "--quiet", "--end-of-options", `${commit}:${path}`);
    const hash = line?.trim();
    return hash && (await this.#try("cat-file", "-t", hash))?.trim() === "tree" ? hash : undefined;
  }

  /** All files, links and submodules below a tree. */
  async list(tree: string): Promise<Blob[]> {
    const text = new TextDecoder().decode(await this.#git(["ls-tree", "-r", "-z", tree]));
    return text.split("\0").filter((line) => line !== "").map((line) => {
      const [, mode = "", hash = "", path = ""] = /^(\d+) \w+ ([0-9a-f]+)\t([^]*)$/.exec(line) ?? [];
      return { mode, hash, path };
    });
  }

  /** The content of blobs, fetched in one go where they are not here. */
  async read(hashes: string[], most = Infinity): Promise<Map<string, Uint8Array<ArrayBuffer>>> {
    const wanted = [...new Set(hashes)];
    const look = async () =>
      new TextDecoder().decode(await this.#git(["cat-file", "--batch-check"], wanted.join("\n")));
    const known = await look();
    const missing = known.split("\n").flatMap((line) => /^([0-9a-f]+) missing$/.exec(line)?.[1] ?? []);
    if (missing.length > 0) {
      const how = ["fetch", this.#manner, ...FETCHING, ...PARTIAL, "--stdin", REMOTE];
      await this.#git([...PARTIAL_SETTINGS, "-c", "fetch.negotiationAlgorithm=noop", ...how], missing.join("\n"));
    }
    const sizes = new Map((await look()).split("\n").map((line) => line.split(" blob ") as [string, string]));
    const total = hashes.reduce((sum, hash) => sum + Number(sizes.get(hash) ?? 0), 0);
    if (total > most) {
      throw new RangeError(`it has ${Math.ceil(total / 2 ** 20)} MiB, more than ${most / 2 ** 20} (--allow-large)`);
    }
    const bytes = await this.#git(["cat-file", "--batch"], wanted.join("\n"));
    const found = new Map<string, Uint8Array<ArrayBuffer>>();
    for (let start = 0; start < bytes.length;) {
      const end = bytes.indexOf(10, start);
      const [hash = "", type, size] = new TextDecoder().decode(bytes.subarray(start, end)).split(" ");
      if (type !== "blob") throw new Error(`${this.url} does not give ${hash}`, { cause: GIT });
      found.set(hash, bytes.subarray(end + 1, end + 1 + Number(size)));
      start = end + Number(size) + 2;
    }
    return found;
  }

  /** What differs between two trees, for a person. */
  async diff(from: string, to: string): Promise<string> {
    await this.read(
      [...await this.list(from), ...await this.list(to)].filter(({ mode }) => mode !== SUBMODULE).map(({ hash }) =>
        hash
      ),
    );
    return new TextDecoder().decode(
      await this.#git(["diff", "--stat", "--no-color", "--no-ext-diff", "--no-textconv", from, to]),
    )
      .trimEnd();
  }
}

/** The cause of an error that git has told of, so that no name in a repo can be taken for its words. */
const GIT = "git";

/** What the server is called in the cache; nobody's own settings are for a remote of this name. */
const REMOTE = "use-skills-source";

/** How git fetches: it leaves no trace but the objects. */
const FETCHING = ["--no-tags", "--no-write-fetch-head"];

/** What asks a server to leave out the content of files, which is then asked for by name. */
const PARTIAL = ["--filter=blob:none"];
const PARTIAL_SETTINGS = ["promisor=true", "partialCloneFilter=blob:none"].flatMap((each) => [
  "-c",
  `remote.${REMOTE}.${each}`,
]);

/** The modes that git gives links and submodules. */
const [LINK, SUBMODULE] = ["120000", "160000"];

// ── Hidden characters: what a person does not see in a text, and an agent reads ─────────────────────────────────

/** A character that people do not see and agents may read: where it is, counted from 1, and what it is. */
export interface Hidden {
  line: number;
  /** In characters, as editors count; not in bytes or UTF-16 units. */
  column: number;
  codePoint: number;
  what: string;
}

/** The kinds of hidden characters, the first that fits counting. `\p{DI}` is all that Unicode says to show nothing for. */
const HIDDEN_KINDS = [
  ["tag character", String.raw`[\u{E0000}-\u{E007F}]`],
  ["bidirectional control", String.raw`\p{Bidi_C}`],
  ["zero-width character", String.raw`[\u200B-\u200D\u2060-\u2064\uFEFF]`],
  ["variation selector", String.raw`\p{VS}`],
  ["private-use character", String.raw`\p{Co}`],
  ["control character", String.raw`\p{Cc}`],
  ["invisible character", String.raw`[^]`],
] as const;

/**
 * Matches every hidden character but those that emoji and scripts need, with a group for each kind.
 *
 * What is let through carries next to nothing: it stands beside something visible that needs it, and not in a run.
 * Scripts are given as their blocks, as a pattern with the names of 25 scripts takes 30 ms to compile.
 *
 * @param suspect Every character that may be hidden, for one quick test of all the others.
 */
function hiddenPattern(suspect: string): RegExp {
  const raw = String.raw;
  const beside = (which: string, visible: string) =>
    raw`${which}(?:(?<=(?!\p{DI})${visible}${which})|(?=(?!\p{DI})${visible}))`;
  const rightToLeft = raw`(?!\p{DI})[\u0590-\u08FF\uFB1D-\uFDFF\uFE70-\uFEFC\u{10800}-\u{10FFF}\u{1E800}-\u{1EFFF}]`;
  const flags = ["gbeng\x7F", "gbsct\x7F", "gbwls\x7F"]
    .map((tags) => tags.replace(/./g, (tag) => raw`\u{E00${tag.charCodeAt(0).toString(16)}}`)).join("|");
  const needed = [
    // The flags of England, Scotland and Wales. Others would be letters of anything under a black flag.
    raw`(?<=(?=\u{1F3F4}(?:${flags})).[\u{E0061}-\u{E007A}]{0,5})[\u{E0061}-\u{E007F}]`,
    // Marks that put punctuation right, close to Hebrew or Arabic.
    raw`(?<!\p{Bidi_C})[\u061C\u200E\u200F](?!\p{Bidi_C})(?:(?<=${rightToLeft}.{0,20})|(?=.{0,20}${rightToLeft}))`,
    // Emoji joined to one.
    raw`(?<=\p{ExtPict}\uFE0F?\p{EMod}?)\u200D(?=\p{ExtPict})`,
    // Arabic to Sinhala, Tibetan, Burmese, Khmer, Mongolian, Balinese and others, in which letters join or stack.
    beside(
      raw`[\u200C\u200D]`,
      raw`[\u0600-\u0DFF\u0F00-\u109F\u1780-\u18AF\u1B00-\u1BBF\uA840-\uA87F\uA980-\uA9DF\uAA60-\uAA7F\uFB50-\uFDFF` +
        raw`\uFE70-\uFEFC\u{10D00}-\u{10D3F}\u{11000}-\u{116FF}\u{1E900}-\u{1E95F}]`,
    ),
    // Thai, Lao, Tibetan, Burmese and Khmer, in which no space parts words.
    beside(raw`\u200B`, raw`[\u0E00-\u109F\u1780-\u17FF]`),
    // Variants: of emoji, of mathematical signs and some letters, of ideographs (none has more), of Mongolian letters.
    raw`(?<=[\p{Emoji}\p{ExtPict}])[\uFE0E\uFE0F]`,
    raw`(?<=[\u1000-\u109F\u2200-\u2AFF\uA840-\uA87F\p{sc=Hani}])[\uFE00-\uFE02]`,
    raw`(?<=\p{sc=Hani})[\u{E0100}-\u{E011F}]`,
    raw`(?<=[\u1820-\u18AA])[\u180B-\u180F]`,
    // Syllables of old Korean that lack a part.
    beside(raw`[\u115F\u1160]`, raw`[\u1100-\u11FF\uA960-\uA97F\uD7B0-\uD7FF]`),
  ];
  const kinds = HIDDEN_KINDS.map(([, which]) => `(${which})`);
  return new RegExp(`(?=${suspect})(?!${needed.join("|")})(?:${kinds.join("|")})`, "gu");
}

const hiddenPatterns = new Map<string, RegExp>();

/** Whether much of it is not UTF-8, as in compressed data: people see rows of `\uFFFD`. Chance puts no four in a row. */
const isNoise = (text: string) =>
  (text.match(/\uFFFD/g)?.length ?? 0) > 8 + text.replace(/\0+/g, "").length / 8 && !/\p{DI}{4}/u.test(text);

/**
 * Finds the characters in a file that people do not see, and that may tell an agent what nobody has read.
 *
 * Let through are those that emoji and scripts need, and a byte order mark. A file that is not text has none. Neither
 * a NUL nor a few stray bytes make it one: only a beginning which anyone who opens it would see is not text.
 *
 * @param bytes The content of the file: UTF-8, or UTF-16 with a byte order mark.
 * @param isText Whether it is text whatever it looks like, since an agent will read it as such.
 * @returns The first 100 of them, in order.
 */
export function hiddenCharacters(bytes: Uint8Array, isText = false): Hidden[] {
  const order = bytes[0]! << 8 | bytes[1]!;
  const decoder = new TextDecoder(order === 0xFFFE ? "utf-16le" : order === 0xFEFF ? "utf-16be" : "utf-8");
  const mayBeData = !isText && bytes.includes(0); // what is packed has a NUL somewhere
  if (mayBeData && isNoise(decoder.decode(bytes.subarray(0, 8000)))) return [];
  const text = decoder.decode(bytes);
  if (!/[^\t\n\f\r -~]/.test(text)) return [];
  // With a NUL it may be an archive or a database that is valid UTF-8, and its control characters are numbers.
  const controls = text.includes("\0") ? "" : String.raw`\x01-\x08\x0B\x0E-\x1F\x7F-\x9F`;
  const suspect = String.raw`[\p{DI}\p{Co}\p{Zl}\p{Zp}\uFFF9-\uFFFB\u{13430}-\u{13440}${controls}]`;
  let pattern = hiddenPatterns.get(suspect);
  if (!pattern) hiddenPatterns.set(suspect, pattern = hiddenPattern(suspect));
  const found: Hidden[] = [];
  let [line, column, index] = [1, 1, 0];
  for (const match of text.matchAll(pattern)) {
    if (mayBeData && isNoise(text.slice(Math.max(match.index - 64, 0), match.index + 64))) continue; // as in a PDF
    for (const character of text.slice(index, match.index)) {
      column++;
      if (character === "\n") [line, column] = [line + 1, 1];
    }
    index = match.index;
    const [what] = HIDDEN_KINDS[match.indexOf(match[0], 1) - 1]!;
    found.push({ line, column, codePoint: match[0].codePointAt(0)!, what });
    if (found.length === 100) break;
  }
  return found;
}

// ── Store: skills as they are in git, checked, and read-only ────────────────────────────────────────────────────

/** The most that a skill may hold. */
const MOST = { files: 5_000, bytes: 50 * 2 ** 20 };

/** The time that all files in the store have, in seconds: another tells that somebody has written there. */
const STORE_TIME = 1;

/**
 * Whether a stored skill looks as it was made. That is all that is asked at a `cd`, so it looks at two times; `check`
 * reads every file, and changes one of these times where it finds something, for the next run to make it anew.
 */
function isIntact(directory: string): boolean {
  const isUnchanged = (path: string) => Deno.lstatSync(path).mtime?.getTime() === STORE_TIME * 1000;
  return isScanned(directory) && (tryTo(() => isUnchanged(directory) && isUnchanged(`${directory}/SKILL.md`)) ?? false);
}

/** Whether a stored skill was looked through for hidden characters. */
function isScanned(directory: string): boolean {
  return [CLEAN, HIDDEN].some((name) => isThere(resolve(directory, "..", name)));
}

/** Why a skill is not let in, by what its files are called and are; nothing if it is. */
function refusal(blobs: readonly Blob[], large: boolean): string | undefined {
  const seen = new Map<string, string>();
  for (const { mode, path } of blobs) {
    const segments = path.split("/");
    const shown = quote(path);
    if (mode === SUBMODULE) return `${shown} is a submodule`;
    if (!["100644", "100755", LINK].includes(mode)) return `${shown} has the mode ${mode}, which git no longer writes`;
    if (segments.some((each) => /^\.git( |\.|$)|^git~\d+$/i.test(each.normalize("NFKC").replace(/\p{Cf}/gu, "")))) {
      return `it has ${shown}`;
    }
    if (segments.some((each) => ["", ".", ".."].includes(each))) return `it has the path ${shown}`;
    if (path.includes("\ufffd")) return `the name ${shown} is not UTF-8`;
    for (const [index] of segments.entries()) {
      const part = segments.slice(0, index + 1).join("/");
      const other = seen.get(part.normalize("NFC").toLowerCase()) ?? part;
      if (other !== part) return `${quote(part)} and ${quote(other)} differ only in case`;
      seen.set(part.normalize("NFC").toLowerCase(), part);
    }
  }
  if (!large && blobs.length > MOST.files) {
    return `it has ${blobs.length} files, more than ${MOST.files} (--allow-large)`;
  }
}

/** Why the links among files are not let in; nothing if they are. */
function linkRefusal(links: readonly { path: string; target: string }[]): string | undefined {
  for (const { path, target } of links) {
    const isInside = !target.startsWith("/") && below("/top", resolve(`/top/${path}`, "..", target)) !== undefined;
    if (!isInside || target === "") return `the link ${quote(path)} leads out of it, to ${quote(target)}`;
  }
}

/** Brings a skill into the store. */
async function store(repo: Repo, { directory, tree }: Stored, label: string, large: boolean): Promise<void> {
  if (isIntact(directory)) return;
  if (isScanned(directory) && await isRight(directory, tree)) return setTimes(directory); // somebody only touched it
  const refuse = (reason: string | undefined) => {
    if (reason) throw new Error(`Refused ${quote(label)}: ${reason}`);
  };
  const blobs = await repo.list(tree);
  refuse(refusal(blobs, large));
  const contents = await repo.read(blobs.map(({ hash }) => hash), large ? Infinity : MOST.bytes).catch((error) => {
    throw error instanceof RangeError ? new Error(`Refused ${quote(label)}: ${error.message}`) : error;
  });
  const files = blobs.map(({ mode, path, hash }) => ({ mode, path, bytes: contents.get(hash) ?? new Uint8Array() }));
  const links = files.filter(({ mode }) => mode === LINK).map(({ path, bytes }) => ({
    path,
    target: new TextDecoder().decode(bytes),
  }));
  refuse(linkRefusal(links));
  const texts = files.flatMap(({ mode, path, bytes }) => [
    { at: `the name ${quote(path)}`, found: hiddenCharacters(concat(path), true) },
    { at: path, found: hiddenCharacters(bytes, mode === LINK || path.endsWith(".md")) },
  ]);
  const hidden = texts.flatMap(({ at, found }) =>
    found.slice(0, MANY).map(({ line, column, codePoint, what }) =>
      `${at}:${line}:${column} U+${codePoint.toString(16).toUpperCase().padStart(4, "0")} ${what}`
    )
  );

  sweepStore();
  const workshop = Deno.makeTempDirSync({ dir: makeDirectory(storeFolder()), prefix: ".new-" });
  try {
    const made = `${workshop}/${lastSegment(directory)}`;
    Deno.mkdirSync(made);
    for (const { mode, path, bytes } of files.filter(({ mode }) => mode !== LINK)) {
      Deno.mkdirSync(resolve(`${made}/${path}`, ".."), { recursive: true });
      Deno.writeFileSync(`${made}/${path}`, bytes, { createNew: true });
      Deno.chmodSync(`${made}/${path}`, mode === "100755" ? 0o555 : 0o444);
    }
    for (const { path, target } of links) { // last, so that nothing is ever written through one
      Deno.mkdirSync(resolve(`${made}/${path}`, ".."), { recursive: true });
      Deno.symlinkSync(target, `${made}/${path}`);
    }
    try {
      scan(made);
    } catch (error) {
      refuse(explain(error)); // a link that leads out of it over another link, or nowhere
    }
    if (!await isRight(made, tree)) refuse(`what ${repo.url} gives is not what its hash says`);
    setTimes(made);
    for (const { name, isDirectory } of Deno.readDirSync(made)) if (isDirectory) makeReadOnly(`${made}/${name}`);
    makeDirectory(resolve(directory, ".."));
    const marker = hidden.length > 0 ? HIDDEN : CLEAN;
    Deno.writeTextFileSync(`${workshop}/${marker}`, JSON.stringify(hidden));
    Deno.renameSync(`${workshop}/${marker}`, resolve(directory, "..", marker));
    if (isThere(directory)) makeWritable(directory);
    if (!isThere(directory) || !exchange(made, directory)) {
      removeAll(directory);
      Deno.renameSync(made, directory);
    }
    Deno.chmodSync(directory, 0o555); // last: a folder that may not be written to cannot be moved
  } finally {
    makeWritable(workshop);
    removeAll(workshop);
  }
}

/** Whether a directory has the content that a tree hash says. */
async function isRight(directory: string, tree: string): Promise<boolean> {
  try {
    return await treeHash(directory, scan(directory)) === tree;
  } catch {
    return false; // what cannot be read is not right
  }
}

/** Removes what runs that were killed have left in the store; what is young may be at work. */
function sweepStore(): void {
  const long = Date.now() - 3600_000;
  for (const { name } of tryTo(() => [...Deno.readDirSync(storeFolder())]) ?? []) {
    const path = `${storeFolder()}/${name}`;
    if (name.startsWith(".new-") && (tryTo(() => Deno.lstatSync(path).mtime?.getTime()) ?? long) < long) {
      removeAll(path);
    }
  }
}

function makeDirectory(path: string): string {
  Deno.mkdirSync(path, { recursive: true });
  return path;
}

/** Gives all files and directories below a path the store's time; directories last, as writing in them changes theirs. */
function setTimes(path: string): void {
  const { isDirectory, isSymlink } = Deno.lstatSync(path);
  if (isDirectory) { for (const { name } of Deno.readDirSync(path)) setTimes(`${path}/${name}`); }
  if (!isSymlink) Deno.utimeSync(path, STORE_TIME, STORE_TIME);
}

/** Takes the right to write from all directories below a path; the files have none already. */
function makeReadOnly(path: string): void {
  for (const { name, isDirectory } of Deno.readDirSync(path)) if (isDirectory) makeReadOnly(`${path}/${name}`);
  Deno.chmodSync(path, 0o555);
}

// ── Supply: what git references stand for, into the lock and the store ──────────────────────────────────────────

/** What a run may do to have what it needs. */
interface Access {
  /** Whether nothing may be added to the lock. */
  frozen?: boolean;
  /** Whether the network must not be touched. */
  offline?: boolean;
  /** Whether skills may be larger than {@linkcode MOST}. */
  large?: boolean;
}

/** Whether all that a reference is locked to is stored, and no word about it is missing. */
function isSupplied(entry: GitEntry, locked: Locked): boolean {
  return storedSkills(locked).every(({ directory }) => isIntact(directory)) && !isNewlyTrusted(entry, locked);
}

/** Whether the person trusts hidden characters, and the lock does not say so yet. */
function isNewlyTrusted({ trust }: GitEntry, { trusted }: Locked): boolean {
  return trust && trusted === undefined;
}

/** Finds out what a reference stands for at a place in its repo. */
async function lookUp(
  repo: Repo,
  { reference, text }: GitEntry,
  { commit, path }: Omit<Place, "kind">,
): Promise<Locked> {
  await repo.fetch(commit);
  const { url, all } = reference;
  const tree = await repo.tree(commit, path);
  const top = tree ?? await repo.tree(commit, "") ?? "";
  const blobs = await repo.list(top);
  const folders = blobs.flatMap((blob) =>
    blob.mode !== LINK && /^(?:(.*)\/)?SKILL\.md$/.exec(blob.path) ? [blob.path.slice(0, -9)] : []
  );
  const skills = folders.filter((folder) =>
    !folders.some((other) => other !== folder && (other === "" || below(other, folder) !== undefined))
  );
  if (tree !== undefined && !all && folders.includes("")) return { commit, path, tree, url };
  const chosen = all && tree !== undefined
    ? skills.filter((folder) => folder !== "" && (path === "" || !folder.includes("/")))
    : [];
  if (chosen.length > 0 && tree !== undefined) {
    const hashes = await Promise.all(
      chosen.map(async (folder) => [folder, await repo.tree(tree, folder) ?? ""] as const),
    );
    return { commit, path, skills: Object.fromEntries(hashes.sort(([a], [b]) => a < b ? -1 : 1)), tree, url };
  }
  const there = skills.map((folder) => tree !== undefined && path ? `${path}/${folder}` : folder || "its root").sort();
  const distance = await import(LIBRARY.distance).then(
    (library: typeof Distance) => library.levenshteinDistance,
    () => () => 0, // not worth failing for
  );
  const last = lastSegment(path);
  const nearest = path === ""
    ? there
    : there.toSorted((a, b) => distance(last, lastSegment(a)) - distance(last, lastSegment(b)));
  const what = tree === undefined
    ? `no folder ${quote(path)}`
    : path
    ? `no skill in ${quote(path)}`
    : "no skill at its root";
  const list = nearest.slice(0, 20).join(", ") + (nearest.length > 20 ? ` and ${nearest.length - 20} more` : "");
  throw new Error(
    `${quote(text)}: the repo has ${what} at ${commit.slice(0, 12)}${
      list ? `; its skills are ${list}` : ", and no skills"
    }`,
  );
}

/** Has what a reference stands for in the store; gives what belongs into the lock. */
async function obtain(
  repo: Repo,
  entry: GitEntry,
  before: Locked | undefined,
  { large = false }: Access,
): Promise<Locked> {
  const locked = before ? { ...before } : await lookUp(repo, entry, await repo.resolve(entry.reference));
  if (large) locked.large = true;
  const skills = storedSkills(locked);
  await repo.fetch(locked.commit);
  for (const { path, tree } of [locked, ...skills]) {
    if (await repo.tree(locked.commit, path) === tree) continue;
    throw new Error(`${quote(entry.text)} is not what the lock says, in ${repo.url} at ${locked.commit}`);
  }
  for (const skill of skills) await store(repo, skill, skill.path || entry.text, locked.large === true);
  return isNewlyTrusted(entry, locked) ? trusting(locked) : locked;
}

/** Does work on each repo of some references, side by side but not too many; a failure is that of its references. */
async function forEachRepo(
  entries: readonly GitEntry[],
  failures: Map<string, string>,
  work: (repo: Repo, entry: GitEntry) => Promise<void>,
): Promise<void> {
  const groups = [...Map.groupBy(entries, ({ reference }) => reference.url)];
  const isAlone = groups.length === 1; // the words of several gits would be mixed up
  const deadline = timeLimit();
  const workOn = async (repo: Repo, entry: GitEntry) => {
    try {
      await work(repo, entry);
    } catch (error) {
      if (!(error instanceof Error && error.cause === GIT && DAMAGE.test(error.message))) throw error;
      await repo.forget();
      await work(repo, entry);
    }
  };
  const worker = async () => {
    for (let group; (group = groups.shift());) {
      const [url, same] = group;
      try {
        using repo = await Repo.open(url, deadline);
        repo.isShown = Deno.stderr.isTerminal() && isAlone;
        for (const entry of same) await workOn(repo, entry).catch((error) => failures.set(entry.text, explain(error)));
      } catch (error) {
        for (const { text } of same) failures.set(text, explain(error));
      }
    }
  };
  if (groups.length === 0) return;
  const stops = ([["SIGHUP", 129], ["SIGINT", 130], ["SIGTERM", 143]] as const).map(([signal, status]) => {
    const stop = () => {
      endRunning();
      Deno.exit(status);
    };
    Deno.addSignalListener(signal, stop);
    return () => Deno.removeSignalListener(signal, stop);
  });
  try {
    // Held to the end of the run: what was fetched and is not deployed yet must not be cleaned away.
    heldStore ??= await lock(makeDirectory(storeFolder()), timeLeft(), false);
    await Promise.all([worker(), worker(), worker(), worker()]);
  } catch (error) {
    for (const { text } of entries) {
      failures.set(text, `Cannot use the store, ${tryTo(storeFolder)}: ${explain(error)}`);
    }
  } finally {
    stops.forEach((stop) => stop());
  }
}

/** The lock on the store, of a run that has fetched something. */
let heldStore: Deno.FsFile | undefined;

/** What git says of a cache that is damaged. */
const DAMAGE =
  /not a git repository|shallow line|did not send all|object .*(not found|missing|corrupt)|packfile|index file|bad object|unable to read|does not give/i;

/**
 * Has all that a manifest's git references stand for in the lock and in the store, as far as it may.
 *
 * @returns Why a reference cannot be had, by its text.
 */
async function supply(root: Root, entries: readonly Entry[], access: Access): Promise<Map<string, string>> {
  const failures = new Map<string, string>();
  const wanted = entries.filter(isGitEntry);
  if (wanted.length > 0 && xdgFolder("XDG_DATA_HOME", ".local/share") === undefined) {
    return new Map(
      wanted.map(({ text }) => [text, `${quote(text)} needs a store, and neither XDG_DATA_HOME nor HOME is set`]),
    );
  }
  const text = ifThere(() => Deno.readTextFileSync(lockPath(root)));
  if (wanted.length === 0 && text === undefined) return failures;
  const locked = readLock(root, text);
  const lacking: GitEntry[] = [];
  for (const entry of wanted) {
    const before = locked.get(entry.text);
    if (gitProblem(entry, root) || before && !fits(entry.reference, before)) continue; // told of where it is looked for
    if (before === undefined) lacking.push(entry);
    else if (isSupplied(entry, before)) continue;
    else if (!await isHere(before)) lacking.push(entry);
    else if (isNewlyTrusted(entry, before)) locked.set(entry.text, trusting(before));
  }
  const names = new Set(wanted.map((entry) => entry.text));
  const kept = new Map(locked.entries().filter(([text]) => names.has(text)));
  if (!access.frozen && renderLock(kept) !== text) {
    await changeLock(root, (lock) => {
      const current = new Set(parseManifest(readManifest(root)).entries.map((entry) => entry.text));
      for (const [text, now] of lock) {
        if (!current.has(text)) lock.delete(text);
        else if (kept.get(text)?.tree === now.tree && kept.get(text)?.trusted === now.tree) {
          lock.set(text, trusting(now));
        }
      }
    }).catch((error) => say(`use-skills: Cannot write ${showHere(root)}.lock: ${explain(error)}`));
  }
  const file = lastSegment(lockPath(root));
  const allowed = lacking.filter(({ text }) => {
    const reason = access.frozen && !locked.has(text)
      ? `is not in ${file}, and --frozen (or CI) lets nothing be added: run sync without, and commit that file`
      : access.offline
      ? "is not on this machine, and --offline lets nothing be fetched"
      : undefined;
    if (reason) failures.set(text, `${quote(text)} ${reason}`);
    return reason === undefined;
  });
  await forEachRepo(allowed, failures, async (repo, entry) => {
    // Another run may have done it while this one waited for its turn.
    const now = readLock(root).get(entry.text);
    if (now && isSupplied(entry, now)) return;
    const result = await obtain(repo, entry, now, access);
    sayTrusted(entry, now, result);
    if (!access.frozen) await changeLock(root, (lock) => lock.set(entry.text, result));
  });
  return failures;
}

/** Whether all that a reference stands for is in the store, be it with other times, which are then put right. */
async function isHere(locked: Locked): Promise<boolean> {
  for (const { directory, tree } of storedSkills(locked)) {
    if (isIntact(directory)) continue;
    if (!isScanned(directory) || !await isRight(directory, tree)) return false;
    tryTo(() => setTimes(directory));
  }
  return true;
}

/** A lock entry whose content the person trusts as it is. */
function trusting(locked: Locked): Locked {
  return { ...locked, trusted: locked.tree };
}

/** Tells what is let in by trust, when it is let in. */
function sayTrusted({ text }: GitEntry, before: Locked | undefined, after: Locked): void {
  if (after.trusted === undefined || before?.trusted === after.trusted) return;
  const found = storedSkills(after).flatMap(hiddenIn);
  for (const each of found.slice(0, MANY)) say(`use-skills: trusted in ${text}: ${each}`);
}

/** What happened to a reference, for a person. */
async function describeUpdate(repo: Repo, text: string, before: Locked, after: Locked): Promise<string[]> {
  const lines = [`${text}: ${before.commit.slice(0, 12)} -> ${after.commit.slice(0, 12)}`];
  if (before.tree === after.tree) return [`${lines[0]}, and the skill is the same`];
  if (await repo.fetch(before.commit).then(() => true, () => false)) {
    lines.push(await repo.diff(before.tree, after.tree));
    const old = new Map((await repo.list(before.tree)).map(({ path, mode }) => [path, mode]));
    for (const { path, mode } of await repo.list(after.tree)) {
      if (mode === "100755" && old.get(path) !== mode) lines.push(` can be run now: ${path}`);
      if (mode === LINK && old.get(path) !== mode) lines.push(` is a link now: ${path}`);
    }
  } else {
    lines.push(" (what it was is gone, so nothing can be compared)");
  }
  lines.push(...storedSkills(after).flatMap(hiddenIn).slice(0, MANY).map((each) => ` nobody sees: ${each}`));
  return lines.filter((line) => line !== "");
}

/**
 * Brings git references to the newest commit of their branch.
 *
 * @returns Why a reference cannot be brought there, by its text.
 */
async function update(
  root: Root,
  entries: readonly GitEntry[],
  { write, trust, quiet, ...access }: Access & { write: boolean; trust: boolean; quiet: boolean },
): Promise<Map<string, string>> {
  const failures = new Map<string, string>();
  const locked = readLock(root);
  await forEachRepo(entries, failures, async (repo, entry) => {
    const { text, reference } = entry;
    const there = locked.get(text);
    const before = there && fits(reference, there) ? there : undefined;
    const place = await repo.resolve(reference);
    if (before && before.commit !== place.commit && place.kind === "tag") {
      throw new Error(
        `The tag of ${quote(text)} was moved, from ${before.commit.slice(0, 12)} to ${place.commit.slice(0, 12)}: ` +
          "tags do not move; if you know why, take its line out of the lock",
      );
    }
    const isSame = before?.commit === place.commit;
    if (isSame && !trust) return;
    const after: Locked = { ...await lookUp(repo, entry, place), large: before?.large, trusted: before?.trusted };
    if (access.large) after.large = true;
    for (const skill of storedSkills(after)) await store(repo, skill, skill.path || text, after.large === true);
    const isHidden = storedSkills(after).flatMap(hiddenIn).length > 0;
    if (entry.trust && (!isHidden || trust || before === undefined)) after.trusted = after.tree;
    const lines = before
      ? isSame ? [] : await describeUpdate(repo, text, before, after)
      : [`${text}: ${after.commit.slice(0, 12)}, new`];
    if (lines.length > 0 && !quiet) say(lines.join("\n"));
    const reason = storedSkills(after).map((skill) => distrust(skill, entry, after)).find((each) => each !== undefined);
    if (reason) throw new Error(reason);
    if (write) sayTrusted(entry, before, after);
    if (write) await changeLock(root, (lock) => lock.set(text, after));
  });
  return failures;
}

// ── Roster: which folders a root has ever deployed into ─────────────────────────────────────────────────────────

/** The folders that a root has deployed into, and the directories that were made for them. */
interface Roster {
  manifest: string;
  /** Whether it was read from its file. */
  kept?: boolean;
  folders: string[];
  made: string[];
}

/** The folder of the rosters; `undefined` where neither XDG_STATE_HOME nor HOME says where that is. */
function rosterFolder(): string | undefined {
  const state = xdgFolder("XDG_STATE_HOME", ".local/state");
  return state && `${state}/use-skills`;
}

/** The file name of a root's roster: its manifest's path, as far as a file name can be that long. */
function rosterName(root: Root): string {
  const name = encodeURIComponent(root.manifest);
  return name.length < 200 ? `${name}.json` : `${name.slice(-180)}-${fnv1a(name)}.json`;
}

/** Reads a roster, its relative paths from `directory`; `undefined` where the file is not there or damaged. */
function readRosterFile(path: string, directory: string): Roster | undefined {
  return tryTo(() => {
    const { manifest, folders, made } = JSON.parse(Deno.readTextFileSync(path)) as Roster;
    const absolute = (paths: string[]) => paths.map((each) => resolve(directory, each));
    return { manifest: `${manifest}`, folders: absolute(folders), made: absolute(made) };
  });
}

/** The files of all rosters. */
function rosterFiles(): string[] {
  const place = rosterFolder();
  return place && tryTo(() => Array.from(Deno.readDirSync(place), ({ name }) => `${place}/${name}`)) || [];
}

/** The rosters of all roots, also of those that are gone: a home's paths are from the home, a repo's from the repo. */
function readRosters(): Roster[] {
  return rosterFiles().flatMap((file) => {
    const manifest = readRosterFile(file, "/")?.manifest ?? "/";
    const directory = manifest === homeManifest() ? environment("HOME") ?? "/" : resolve(manifest, "..");
    return readRosterFile(file, directory) ?? [];
  });
}

/** The manifest of the home; `undefined` where neither XDG_CONFIG_HOME nor HOME says where that is. */
function homeManifest(): string | undefined {
  const config = xdgFolder("XDG_CONFIG_HOME", ".config");
  return config && resolve(config, "use-skills/skills");
}

/** The roster of a root. */
function readRoster(root: Root): Roster {
  const place = rosterFolder();
  const own = place && readRosterFile(`${place}/${rosterName(root)}`, root.directory);
  return own ? { ...own, kept: true } : searchRoster(root);
}

/**
 * The roster of a root for which none is kept: it is new, or was moved here.
 *
 * Folders that it deployed into then still name it, so the known agents' are asked, and those on the roster of every
 * root that is gone.
 */
function searchRoster(root: Root): Roster {
  const isClaimed = (folder: string) => {
    const claim = pathsFrom(folder, root.directory)(root.manifest);
    return tryTo(() => readState(folder))?.entries.values().some((owned) => owned.for.includes(claim)) ?? false;
  };
  const moved = rosterFiles().map((file) => readRosterFile(file, root.directory)).find((roster) =>
    roster && !ifThere(() => Deno.lstatSync(roster.manifest)) && roster.folders.some(isClaimed)
  );
  const top = new Set(tryTo(() => Array.from(Deno.readDirSync(root.directory), ({ name }) => name)));
  const usual = [...AGENTS.keys()].map((agent) => agentFolder(agent, root)?.path ?? "").filter((path) =>
    top.has(below(root.directory, path)?.split("/")[0] ?? path) && isClaimed(path)
  );
  return { manifest: root.manifest, folders: [...moved?.folders ?? [], ...usual], made: moved?.made ?? [] };
}

/** Changes the roster of a root, then does what goes with that before any other run looks; an empty one is not kept. */
async function changeRoster(
  root: Root,
  change: (roster: Roster) => Omit<Roster, "manifest"> | Promise<Omit<Roster, "manifest">>,
  then = () => {},
): Promise<void> {
  const place = rosterFolder();
  if (place === undefined) return then();
  Deno.mkdirSync(place, { recursive: true });
  using _lock = await lock(place);
  const { folders, made } = await change(readRoster(root));
  const list = (paths: string[]) => [...new Set(paths)].sort().map(pathsFrom(root.directory, root.directory));
  const targets = Object.fromEntries(list(folders).map((path) => [path, { parents: 0 }]));
  const roster = { version: 1, manifest: root.manifest, folders: list(folders), made: list(made), targets };
  const text = folders.length + made.length > 0 ? JSON.stringify(roster, undefined, 1) + "\n" : undefined;
  replaceFile(`${place}/${rosterName(root)}`, text, `${place}/${WORKSHOP}`);
  then();
}

/** Directories that must be made before `path` is there, outermost first. */
function missingAbove(path: string): string[] {
  return ifThere(() => Deno.lstatSync(path)) ? [] : [...missingAbove(resolve(path, "..")), path];
}

/** Removes a directory if it is one, empty, and no other run works in it; says whether it is gone. */
async function removeIfEmpty(path: string): Promise<boolean> {
  if (!ifThere(() => Deno.lstatSync(path))?.isDirectory) return true; // a link there is not what was made
  using held = await lock(path);
  return held !== undefined && (tryTo(() => (Deno.removeSync(path), true)) ?? false);
}

/** Whether a roster names just the folders that are in use. */
function isCurrent(roster: Roster, used: string[], empty: string[]): boolean {
  const isKnown = (path: string) => roster.folders.includes(path);
  return (roster.kept === true || used.length === 0) && used.every(isKnown) && !empty.some(isKnown);
}

/** Brings the roster up to date once all is deployed, and removes directories that were made and are now empty. */
async function tidy(root: Root, used: string[], empty: string[]): Promise<void> {
  const isInUse = (path: string) => used.some((each) => below(path, each) !== undefined);
  await changeRoster(root, async ({ folders, made }) => {
    const gone = new Set<string>();
    for (const path of made.toSorted().reverse()) {
      if (!isInUse(path) && await removeIfEmpty(path)) gone.add(path);
    }
    return {
      folders: [...folders, ...used].filter((path) => !empty.includes(path)),
      made: made.filter((path) => !gone.has(path)),
    };
  });
}

// ── Deploy ──────────────────────────────────────────────────────────────────────────────────────────────────────

/** The command line or the manifest is wrong: nothing was changed, exit status 2. */
class Unusable extends Error {
  /** @param problems The lines of the manifest that are wrong, where that is it. */
  constructor(message: string, readonly problems: Problem[] = []) {
    super(message);
  }
}

/** A path, or the manifest's, as a person in the working directory would write it. */
function showHere(root: Root, path = root.manifest): string {
  const cwd = Deno.cwd();
  const isInside = below(root.directory, cwd) !== undefined && below(root.directory, path) !== undefined;
  if (isInside && !root.global) return pathsFrom(cwd, root.directory)(path);
  return below(cwd, path) || show(path, { ...root, global: true });
}

/**
 * The text of a root's manifest.
 *
 * @throws {Unusable} If it cannot be read, or is not UTF-8.
 */
function readManifest(root: Root): string {
  try {
    return readText(root.manifest);
  } catch (error) {
    if (error instanceof SyntaxError) {
      throw new Unusable("", [{ line: Number(error.cause), message: "This line is not UTF-8" }]);
    }
    if (!(error instanceof Deno.errors.NotFound)) {
      throw new Unusable(`Cannot read ${showHere(root)}: ${explain(error)}`);
    }
    if (root.global) throw new Unusable(`No ${showHere(root)}: "use-skills.ts init --global" writes one`);
    throw new Unusable(`No .skills in ${root.directory} or above it in its repo: "use-skills.ts init" writes one`);
  }
}

/**
 * What a manifest's text comes to.
 *
 * @throws {Unusable} If there are lines that the grammar does not cover.
 */
function resolveManifest(text: string, root: Root, failures: ReadonlyMap<string, string>): Resolved {
  const { entries, errors } = parseManifest(text);
  if (errors.length > 0) throw new Unusable("", errors);
  const lock = entries.some(isGitEntry) ? readLock(root) : new Map();
  return resolveEntries(entries, root, { lock, failures });
}

/** How a root is to be deployed. */
interface Mode extends Pick<Run, "copy" | "thorough"> {
  /** Whether anything may be changed. */
  write: boolean;
  /** As if the manifest were empty. */
  clean: boolean;
  /** Why git references could not be had, by their text. */
  failures?: ReadonlyMap<string, string>;
}

/** What came of a deployment: what was done, or with `write` off would be; what could not be; what else to say. */
interface Outcome {
  deeds: Deed[];
  problems: Problem[];
  notes: Set<string>;
}

/** Does what is to be done in a folder, planned anew under its lock; adds to the outcome what came of it. */
async function deployFolder(early: Plan, run: Run, { deeds, problems, notes }: Outcome): Promise<void> {
  const { root, inspect } = run;
  const { folder } = early;
  const shown = show(folder.path, root);
  using held = await lock(folder.path);
  if (held === undefined) return; // another run has removed it; it is made again in the next round
  // What was seen before the lock may be gone, and come again, by now; only of an empty folder one sees at once that
  // it is as it was.
  const isAsPlanned = early.fresh && Deno.readDirSync(folder.path)[Symbol.iterator]().next().done === true;
  const plan = isAsPlanned ? early : await planFolder(folder, run);
  if (plan.settled) return;
  const failures = await applyPlan(plan);
  for (const deed of plan.steps.filter(isChange)) {
    const { name, wish, action } = deed;
    const failure = failures.get(name);
    if (failure !== undefined) {
      problems.push({ line: wish?.line, name, message: `Cannot ${action} ${quote(name)} in ${shown}: ${failure}` });
      continue;
    }
    deeds.push(deed);
    if (action === "release") notes.add(`use-skills: ${shown}/${name} stays: it is not what use-skills put there`);
    if (wish === undefined) continue;
    const { violations, requires } = await inspect(wish.skill);
    const place = `${showHere(root)}:${wish.line}`;
    if (violations.length > 0) {
      notes.add(`${place}: Warning: ${quote(name)}: ${violations.map(({ message }) => message).join("; ")}`);
    }
    const missing = missingPrograms(requires);
    if (missing.length > 0) notes.add(`${place}: ${quote(name)} needs what is not on the PATH: ${missing.join(", ")}`);
  }
  if (plan.foreignIgnore && plan.next.size > 0 && plan.state.text === undefined) {
    const lines = ignoredLines([...plan.next.keys()].sort()).trim().split("\n").slice(1).join("\n");
    notes.add(`use-skills: ${shown}/.gitignore is not ours and stays as it is; you may want to add\n${lines}`);
  }
}

/** What a look at all folders of a root finds. */
interface View {
  roster: Roster;
  /** What is to be done in folders that are not simply as deployed. */
  plans: Plan[];
  /** The folders that hold, or are to hold, something of ours; and those that do not. */
  used: string[];
  empty: string[];
  problems: Problem[];
}

/** A problem with a whole folder, at the first line that wants something there. */
function folderProblem(doing: string, { path, wishes }: Folder, root: Root, error: unknown): Problem {
  const message = `Cannot ${doing} ${show(path, root)}: ${explain(error)}`;
  return { line: wishes.values().next().value?.line, message };
}

/** Looks at all folders that a root deploys into, or ever has. `write`: only what is to be changed matters. */
async function view(run: Run, write: boolean): Promise<View> {
  const { root } = run;
  const result: View = { roster: readRoster(root), plans: [], used: [], empty: [], problems: [] };
  const folders = new Map(run.resolved.folders);
  for (const path of result.roster.folders) {
    if (folders.has(path)) continue;
    if (tryTo(() => realFolder(path)) !== path) {
      result.empty.push(path); // a link leads elsewhere now, to what we never made
      continue;
    }
    const agent = [...AGENTS.keys()].find((agent) => agentFolder(agent, root)?.path === path);
    const name = agent ?? show(path, root).replace(/^(?![~/])/, "./");
    folders.set(path, { path, agents: [name], wishes: new Map() });
  }
  for (const folder of folders.values()) {
    try {
      if (write && !run.copy && tryTo(() => isAsDeployed(folder, root))) {
        result.used.push(folder.path);
      } else {
        const plan = await planFolder(folder, run);
        result.plans.push(plan);
        (plan.next.size > 0 ? result.used : result.empty).push(folder.path);
      }
    } catch (error) {
      result.problems.push(folderProblem("read", folder, root, error));
    }
  }
  return result;
}

/** Records the folders that plans need, then makes those that are missing; gives what could not be done. */
async function makeFolders(plans: Plan[], roster: Roster, root: Root): Promise<Problem[]> {
  const problems: Problem[] = [];
  const folders = plans.filter((plan) => plan.next.size > 0).map((plan) => plan.folder);
  const paths = folders.map(({ path }) => path);
  const missing = paths.flatMap(missingAbove);
  const make = () => {
    for (const folder of missing.length > 0 ? folders : []) {
      try {
        Deno.mkdirSync(folder.path, { recursive: true });
      } catch (error) {
        problems.push(folderProblem("make", folder, root, error));
      }
    }
  };
  if (missing.length === 0 && paths.every((path) => roster.folders.includes(path))) return problems;
  try {
    const add = (now: Roster) => ({ folders: [...now.folders, ...paths], made: [...now.made, ...missing] });
    await changeRoster(root, add, make);
  } catch (error) {
    make();
    throw error;
  }
  return problems;
}

/** Problems by line, each once, with the nearest known word where one was not known. */
async function inOrder(problems: readonly Problem[]): Promise<Problem[]> {
  const once = [...new Map(problems.map((each) => [`${each.line} ${each.message}`, each])).values()];
  once.sort((a, b) => (a.line ?? 0) - (b.line ?? 0));
  for (const problem of once.slice(0, MANY)) problem.message += await suggestion(problem.near);
  return once;
}

/**
 * Deploys a root, or finds out what would be done.
 *
 * Each round does what is left to do, until a look at all of it finds nothing. So a run that began with an older
 * manifest than another corrects itself, and whoever looks last is right.
 */
async function deploy(root: Root, { write, clean, failures: lacking = new Map(), ...mode }: Mode): Promise<Outcome> {
  const inspect = remember(inspectSkill);
  const resolved = remember((text) => resolveManifest(text, root, lacking));
  const { deeds, notes }: Outcome = { deeds: [], problems: [], notes: new Set() };
  const unrecorded = (error: unknown) => {
    notes.add(`use-skills: Cannot record in ${rosterFolder()} which folders were deployed into: ${explain(error)}`);
    return [];
  };
  let failures: Problem[] = []; // of the last round
  let tries = 0; // another run may have been in the way of what failed
  for (let round = 1;; round++) {
    const run: Run = { ...mode, root, resolved: resolved(clean ? "" : readManifest(root)), inspect };
    const { roster, plans, used, empty, problems } = await view(run, write);
    const open = plans.filter((plan) => !plan.settled);
    if (!write || open.length === 0 || tries > 2 || round > 50) {
      if (write && !isCurrent(roster, used, empty)) {
        await tidy(root, used, empty).catch((error) => deeds.length > 0 && unrecorded(error));
      }
      if (write && open.length > 0) problems.push(...failures);
      if (round > 50) problems.push({ message: "Other runs keep changing what this one does: run it again" });
      problems.push(...run.resolved.problems, ...plans.flatMap((plan) => plan.problems));
      deeds.push(...plans.flatMap((plan) => plan.steps).filter((deed) => !write || deed.action === "blocked"));
      return { deeds, problems: problems.length > 0 ? await inOrder(problems) : [], notes };
    }
    failures = await makeFolders(open, roster, root).catch(unrecorded);
    for (const plan of open) {
      try {
        await deployFolder(plan, run, { deeds, problems: failures, notes });
      } catch (error) {
        failures.push(folderProblem("write into", plan.folder, root, error));
        if (error instanceof Deno.errors.TimedOut) tries = 2;
      }
    }
    if (failures.length > 0) tries++;
  }
}

// ── Report ──────────────────────────────────────────────────────────────────────────────────────────────────────

/** How a step is told of: what was done, and what `list` says of the skill before. */
const WORDS: Record<Step["action"], { done: string; state: string }> = {
  ok: { done: "", state: "ok" },
  keep: { done: "", state: "ok" },
  link: { done: "linked", state: "missing" },
  relink: { done: "relinked", state: "changed" },
  copy: { done: "copied", state: "missing" },
  recopy: { done: "recopied", state: "changed" },
  adopt: { done: "took over", state: "ok" },
  remove: { done: "removed", state: "changed" },
  release: { done: "", state: "changed" },
  blocked: { done: "", state: "blocked" },
};

/** Prints for a person, on standard error; `place` comes first, in red where that can be seen. */
function say(text: string, place = ""): void {
  const isRed = place !== "" && Deno.stderr.isTerminal() && !environment("NO_COLOR");
  console.error((isRed ? `\x1b[31m${harmless(place)}\x1b[39m` : harmless(place)) + harmless(text));
}

/** Prints problems. */
function sayProblems(problems: readonly Problem[], root: Root): void {
  if (problems.length > MANY) say(`use-skills: ${problems.length} problems, of which the first ${MANY} are`);
  for (const problem of problems.slice(0, MANY)) sayProblem(problem, root);
}

/** Prints a problem, or something less. */
function sayProblem({ file, line, message }: Problem, root: Root, what = ""): void {
  const place = `${showHere(root, file).replaceAll("\n", "\\n")}:${line === undefined ? "" : `${line}:`}`;
  if (what === "") say(` ${message}`, place);
  else say(`${place} ${what}: ${message}`);
}

/** Names for a person, the first of them if there are many. */
function someOf(names: readonly string[]): string {
  return names.length > 8 ? `${names.slice(0, 6).join(", ")} and ${names.length - 6} more` : names.join(", ");
}

/** Prints what was done, in a line for each kind of thing. */
function sayDeeds(deeds: readonly Deed[]): void {
  const told = deeds.filter(({ action }) => WORDS[action].done !== "");
  const items = Map.groupBy(told, ({ action, name }) => `${action} ${name}`).values().map((same) => {
    const agents = new Set(same.flatMap((deed) => deed.agents));
    const [{ action, name }] = same as [Deed];
    return { name, text: `${WORDS[action].done} % for ${[...agents].join(", ")}` };
  });
  for (const [text, group] of Map.groupBy(items, (item) => item.text)) {
    say(`use-skills: ${text.replace("%", () => someOf(group.map((item) => item.name)))}`);
  }
}

/** Prints what would be done, a line each. */
function sayPlan(deeds: readonly Deed[], root: Root): void {
  for (const { action, path, wish, reason } of deeds) {
    say(`would ${action} ${show(path, root)}${wish ? ` -> ${show(wish.skill, root)}` : ""}: ${reason}`);
  }
}

/** Prints one JSON object: `version` counts changes of its shape that a reader must know of, `null` is for nothing. */
function printJson(root: Root, found: Record<string, unknown>, problems: readonly Problem[]): void {
  const listed = jsonProblems(root, problems);
  console.log(harmless(JSON.stringify({ version: 1, root: root.directory, ...found, problems: listed }, undefined, 2)));
}

/** Problems as JSON has them. */
function jsonProblems(root: Root, problems: readonly Problem[]) {
  const pathTo = pathsFrom(root.directory, root.directory);
  return problems.map(({ file = root.manifest, line = null, name = null, message }) => ({
    ...{ file: pathTo(file), line, name, message },
  }));
}

/** What was done, or would be, as JSON has it. What a person has made their own is in the way there. */
function jsonActions(deeds: readonly Deed[]) {
  return deeds.filter((deed) => isChange(deed) || deed.action === "blocked").map((deed) => ({
    action: deed.action === "release" ? "blocked" : deed.action,
    agent: deed.agents.join(","),
    name: deed.name,
    path: deed.path,
    target: deed.want?.target ?? deed.form?.target ?? null,
    reason: deed.reason,
  }));
}

/** The rows of `list`: skills by name, source and state, each with the agents that have it so. */
function listRows(deeds: readonly Deed[], root: Root, fetched: ReadonlyMap<string, { text: string; commit: string }>) {
  const rows = new Map<
    string,
    { name: string; from: string; agents: string[]; state: string; commit: string | null }
  >();
  for (const { name, action, wish, form, path, agents, found } of deeds) {
    if (!wish && (!form || action === "ok")) continue; // what another root has there is not ours to list
    const skill = wish?.skill ?? (form && resolve(path, "..", form.target));
    const isBroken = found.kind === "link" && form && skill && !ifThere(() => Deno.statSync(`${skill}/SKILL.md`));
    const isEdited = action === "blocked" && found.kind === "directory" && found.hash !== undefined;
    const state = isBroken ? "broken" : isEdited ? "changed" : WORDS[action].state;
    const { text, commit = null } = fetched.get(skill ?? "") ?? {};
    const from = text ?? (skill === undefined ? "" : show(skill, root));
    const key = JSON.stringify([name, from, state]);
    const row = rows.get(key) ?? { name, from, agents: [], state, commit };
    row.agents.push(...agents);
    rows.set(key, row);
  }
  return [...rows.values()].sort((a, b) => a.name < b.name ? -1 : a.name > b.name ? 1 : 0);
}

/** Lines with their columns aligned. */
function table(rows: readonly string[][]): string {
  const widths = rows[0]?.map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0))) ?? [];
  return rows.map((row) => row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join("  ").trimEnd()).join("\n");
}

// ── Commands ────────────────────────────────────────────────────────────────────────────────────────────────────

/** What the command line asks for. */
interface Request {
  command: string;
  /** What follows the command. */
  words: string[];
  /** For `add`: the name, and the agents. */
  as?: string;
  agents: string[];
  flags: Partial<Record<keyof typeof FLAGS, boolean>>;
  directory: string;
}

/** Reads the command line. */
async function readArguments(args: string[]): Promise<Request> {
  const { parseArgs }: typeof Cli = await import(LIBRARY.cli);
  const names = Object.keys(FLAGS) as (keyof typeof FLAGS)[];
  const letters = names.filter((name) => FLAGS[name] !== "").map((name) => [FLAGS[name], name]);
  const words: string[] = [];
  const wrong: string[] = [];
  const parsed: Record<string, unknown> = parseArgs(args, {
    boolean: names,
    string: ["directory", "as", "for"],
    collect: ["for"],
    alias: { ...Object.fromEntries(letters), C: "directory" },
    unknown(argument: string, key?: string) {
      (key === undefined ? words : wrong).push(argument);
      return false;
    },
  });
  const [command = "sync", ...extra] = [...words, ...(parsed["_"] as unknown[]).map(String)];
  const flags = Object.fromEntries(names.map((name) => [name, parsed[name] === true])) as Request["flags"];
  const [directory, as] = [parsed["directory"], parsed["as"]] as (string | undefined)[];
  const agents = (parsed["for"] ?? []) as string[];
  const options = COMMANDS.get(command);
  if (directory === "") throw new Unusable("--directory needs a directory");
  if (as === "" || agents.includes("")) throw new Unusable(`--${as === "" ? "as needs a name" : "for needs an agent"}`);
  if (wrong[0] !== undefined) {
    const known = [...names, "directory", "as", "for"].map((name) => `--${name}`);
    const near = { word: wrong[0].replace(/=.*/s, ""), words: known };
    throw new Unusable(`Unknown option ${quote(wrong[0])}${await suggestion(near)}`);
  }
  if (options === undefined) {
    throw new Unusable(
      `Unknown command ${quote(command)}${await suggestion({ word: command, words: [...COMMANDS.keys()] })}`,
    );
  }
  if (extra[0] !== undefined && !WITH_WORDS.includes(command)) {
    throw new Unusable(`Unexpected ${quote(extra[0])} after ${command}`);
  }
  const given = [
    ...names.filter((name) => flags[name]),
    ...as === undefined ? [] : ["as"],
    ...agents.length > 0 ? ["for"] : [],
  ];
  const stray = given.find((name) => ![...options, "global", "help", "version"].includes(name));
  if (stray !== undefined) throw new Unusable(`--${stray} does not go with ${command}`);
  return { command, words: extra, flags, directory: directory ?? ".", as, agents };
}

/** The directories from `start` up to the repo's root; a home, whose skills are its own tier, only as the start. */
function* directoriesUp(start: string): Generator<string> {
  for (let directory = start;; directory = resolve(directory, "..")) {
    yield directory;
    const home = environment("HOME");
    if (directory === "/" || ifThere(() => Deno.lstatSync(`${directory}/.git`))) return;
    if (home && ifThere(() => Deno.realPathSync(home)) === resolve(directory, "..")) return;
  }
}

/** The root that a request is about, whether or not its manifest is there. */
function findRoot({ command, flags, directory }: Request): Root {
  if (flags.global) {
    const [home, manifest] = [environment("HOME"), homeManifest()];
    if (home === undefined || manifest === undefined) throw new Unusable("--global needs HOME to be set");
    const directory = ifThere(() => Deno.realPathSync(home));
    if (directory === undefined) throw new Unusable(`No directory ${quote(home)}, which HOME names`);
    return { directory, manifest, global: true };
  }
  const rootAt = (each: string): Root => ({ directory: each, manifest: resolve(each, ".skills"), global: false });
  const start = ifThere(() => Deno.realPathSync(directory));
  const named = rootAt(start ?? resolve(Deno.cwd(), directory));
  if (command === "clean" && !isThere(named.manifest)) { // what a repo that is gone has deployed can still be removed
    const kept = readRosterFile(`${rosterFolder()}/${rosterName(named)}`, named.directory);
    if (kept !== undefined && kept.folders.length > 0) return named;
  }
  if (start === undefined) throw new Unusable(`No directory ${quote(directory)}`);
  for (const each of directoriesUp(start)) if (ifThere(() => Deno.lstatSync(`${each}/.skills`))) return rootAt(each);
  if (command === "clean") { // the manifest may be gone already
    for (const each of directoriesUp(start)) if (readRoster(rootAt(each)).folders.length > 0) return rootAt(each);
  }
  const top = directoriesUp(start).find((each) => ifThere(() => Deno.lstatSync(`${each}/.git`)));
  return rootAt(command === "init" || command === "add" ? top ?? start : start);
}

const MANIFEST = `# The skills that the agents have here; use-skills.ts keeps their folders so. One a line, for example:
#
# hq                              # by name: from skills/ here, SKILLS_PATH, or skills/ beside use-skills.ts
# ./tools/skills/house-style      # a skill's folder
# ~/notes/skills/*                # every skill in a folder
# ./skills/pdf as pdf-forms       # under another name
# anthropics/skills/skills/pdf    # from GitHub; any git server has an address, too
# hq for claude codex             # for these agents, not for the usual ones
`;

/** How `.envrc` calls this script: from the repo, from the home, or from where `USE_SKILLS` says. */
function scriptInEnvrc(root: Root): { call: string; isFound: boolean } {
  if (import.meta.filename === undefined) return { call: `"\${USE_SKILLS:-${import.meta.url}}"`, isFound: true };
  const script = Deno.realPathSync(import.meta.filename);
  const home = environment("HOME");
  const inRepo = below(root.directory, script);
  const inHome = home && below(Deno.realPathSync(home), script);
  const escaped = (inRepo ?? inHome ?? "use-skills/use-skills.ts").replace(/["$\`\\]/g, "\\$&");
  if (inRepo) return { call: /[^\w./-]/.test(inRepo) ? `"${escaped}"` : inRepo, isFound: true };
  return { call: `"\${USE_SKILLS:-$HOME/${escaped}}"`, isFound: inHome !== undefined };
}

/** The block for `.envrc`. Nothing in it may keep a person out of their directory, nor name this machine's paths. */
function envrcBlock(call: string): string {
  return `# use-skills: the agents have the skills that .skills names
watch_file .skills
watch_file .skills.lock
if ! has deno; then
  log_status "use-skills: deno is not installed, so no skills are deployed"
elif declare -F require_allowed >/dev/null; then
  if [ -e .skills.lock ]; then require_allowed .skills .skills.lock; else require_allowed .skills; fi
  deno run -A --no-lock ${call} || log_status "use-skills: not all skills are deployed"
else # this direnv cannot ask you about a changed .skills, so nothing new is fetched
  deno run -A --no-lock ${call} sync --frozen || log_status "use-skills: not all skills are deployed"
fi
`;
}

/** The part of a reference or a name that a person may call a git entry by. */
function isCalled(entry: Entry, root: Root, lock: ReadonlyMap<string, Locked>, word: string): boolean {
  const locked = lock.get(entry.text);
  const names = locked ? (tryTo(() => storedSkills(locked)) ?? []).map(({ name }) => name) : [];
  return [entry.text, deployedName(entry, root), ...entry.as ? [] : names].includes(word);
}

/** The manifest's text with lines for standard agents put where no `for` line is above them, and others at its end. */
function withLines(text: string, lines: readonly string[], isForAll: boolean): string {
  const end = text.includes("\r\n") ? "\r\n" : "\n";
  const mark = text.startsWith("\ufeff") ? "\ufeff" : "";
  const own = text.slice(mark.length);
  const whole = own === "" || own.endsWith("\n") ? own : own + end;
  const all = whole.split("\n");
  const following = isForAll ? all.findIndex((line) => /^\s*for\s/.test(line)) : -1;
  if (following < 0) return mark + whole + lines.map((line) => line + end).join("");
  const above = all.slice(0, following);
  const last = above.findLastIndex((line) => /^\s*[^#\s]/.test(line));
  const place = (last >= 0 ? last : above.findLastIndex((line) => !/^\s*#/.test(line))) + 1; // its comment stays with it
  return mark + all.toSpliced(place, 0, ...lines.map((line) => line + end.slice(0, -1))).join("\n");
}

/** Changes the manifest as it is now, whoever else has just written it. */
async function changeManifest(root: Root, change: (text: string) => string): Promise<void> {
  makeDirectory(resolve(root.manifest, ".."));
  using _lock = await lock(root.directory);
  const before = ifThere(() => readText(root.manifest)) ?? "";
  const after = change(before);
  if (after !== before || !isThere(root.manifest)) replaceOwn(root.manifest, after);
}

/** Writes lines for references into the manifest, if all that they name can be had. */
async function add(root: Root, { words, flags, as, agents }: Request): Promise<Problem[]> {
  if (words.length === 0) throw new Unusable("Which skills are to be added? add REF...");
  if (as !== undefined && words.length > 1) throw new Unusable("--as names one skill, and several are to be added");
  const clauses = [...as === undefined ? [] : ["as", as], ...agents.length === 0 ? [] : ["for", ...agents]];
  const lines = words.map((word) => [word, ...clauses].join(" "));
  const added = parseManifest(lines.join("\n"));
  if (added.errors[0]) throw new Unusable(added.errors[0].message);
  const odd = words.find((word, index) => added.entries[index]?.text !== word || /\s/.test(word));
  if (odd !== undefined) throw new Unusable(`${quote(odd)} is no reference: one word each, no white space in it`);
  const before = ifThere(() => readText(root.manifest)) ?? "";
  const lock = readLock(root);
  const obtained = new Map<string, Locked>();
  const failures = new Map<string, string>();
  const git = added.entries.filter(isGitEntry).filter((entry) => !gitProblem(entry, root));
  await forEachRepo(git, failures, async (repo, entry) => {
    const locked = await obtain(repo, entry, lock.get(entry.text), { large: flags["allow-large"] });
    obtained.set(entry.text, locked);
    lock.set(entry.text, locked);
  });
  const text = withLines(before, lines, agents.length === 0);
  const { entries, errors } = parseManifest(text);
  if (errors.length > 0) throw new Unusable("", errors);
  const twice = parseManifest(before).entries.find((entry) => words.includes(entry.text) && entry.as === as);
  if (twice) return [{ message: `${quote(twice.text)} is in line ${twice.line} already` }];
  const isNew = ({ line }: { line?: number }) =>
    entries.some((entry) => entry.line === line && words.includes(entry.text));
  const { problems, folders } = resolveEntries(entries, root, { lock, failures });
  const wishes = [...folders.values()].flatMap((folder) => [...folder.wishes.values()]).filter(isNew);
  for (const { line, name, skill } of new Map(wishes.map((wish) => [wish.skill, wish])).values()) {
    const { problem } = await inspectSkill(skill);
    if (problem) problems.push({ line, name, message: `Cannot add ${quote(name)}: ${problem.message}` });
  }
  const wrong = problems.filter(isNew);
  if (wrong.length > 0) return wrong.map(({ message, near }) => ({ message, near }));
  await changeManifest(root, (now) => {
    const there = parseManifest(now).entries.map((entry) => `${entry.text} ${entry.as}`);
    const missing = lines.filter((_, index) => !there.includes(`${words[index]} ${as}`));
    return missing.length === 0 ? now : withLines(now, missing, agents.length === 0);
  });
  await changeLock(root, (now) => obtained.forEach((locked, text) => now.set(text, locked)));
  return [];
}

/** Takes the lines of skills out of the manifest. */
async function removeLines(root: Root, { words }: Request): Promise<void> {
  if (words.length === 0) throw new Unusable("Which skills are to be removed? remove NAME...");
  readManifest(root);
  const lock = readLock(root);
  await changeManifest(root, (text) => {
    const { entries, errors } = parseManifest(text);
    if (errors.length > 0) throw new Unusable("", errors);
    const gone = new Set(words.flatMap((word) => linesOf(word, entries, root, lock)));
    return text.split("\n").filter((_, index) => !gone.has(index + 1)).join("\n");
  });
}

/** The lines that a skill comes from, by its name or by their reference. */
function linesOf(word: string, entries: Entry[], root: Root, lock: ReadonlyMap<string, Locked>): number[] {
  const found = entries.filter((entry) => isCalled(entry, root, lock, word));
  const isMany = ({ text, reference }: Entry) => {
    if (text === word || reference.kind === "name" || !reference.all) return false;
    return reference.kind === "git" || isThere(resolve(expand(reference.path, root), word));
  };
  const many = [...found, ...entries.filter(({ reference }) => reference.kind === "path")].find(isMany);
  if (many) {
    const way = "remove that, or name the others one by one";
    throw new Unusable(`${quote(word)} comes from ${quote(many.text)} in line ${many.line}, with others: ${way}`);
  }
  if (found.length === 0) throw new Unusable(`No line of ${showHere(root)} is for ${quote(word)}`);
  return found.map(({ line }) => line);
}

/** Brings git references of the manifest up to date, or tells which are not. */
async function updateLock(root: Root, { words, flags }: Request): Promise<Map<string, string>> {
  const { entries, errors } = parseManifest(readManifest(root));
  if (errors.length > 0) throw new Unusable("", errors);
  const lock = readLock(root);
  const git = [...new Map(entries.filter(isGitEntry).map((entry) => [entry.text, entry])).values()];
  const unknown = words.find((word) => !git.some((entry) => isCalled(entry, root, lock, word)));
  if (unknown !== undefined) throw new Unusable(`No line of ${showHere(root)} fetches ${quote(unknown)}`);
  const chosen = git.filter((entry) => words.length === 0 || words.some((word) => isCalled(entry, root, lock, word)));
  const [write, trust, quiet] = [!flags["dry-run"], flags.trust === true, flags.quiet === true];
  const allowed = chosen.filter((entry) => !gitProblem(entry, root)); // deploying tells of the others
  return await update(root, allowed, { write, trust, quiet, large: flags["allow-large"] });
}

/** Problems with what is in the store for a manifest. */
async function checkStore(root: Root): Promise<Problem[]> {
  const lock = readLock(root);
  const problems: Problem[] = [];
  if (xdgFolder("XDG_DATA_HOME", ".local/share") === undefined) return problems; // every line of git's says so
  for (const entry of parseManifest(readManifest(root)).entries.filter(isGitEntry)) {
    const locked = lock.get(entry.text);
    for (const { name, tree, directory } of locked ? storedSkills(locked) : []) {
      if (!isThere(directory) || await isRight(directory, tree)) continue;
      const isMarked = tryTo(() => (Deno.utimeSync(directory, new Date(), new Date()), true));
      const way = isMarked ? "sync brings it back" : `remove ${show(resolve(directory, ".."), root)}, then sync`;
      const message = `${quote(name)} in the store is not what its hash says: ${way}`;
      problems.push({ line: entry.line, name, message });
    }
  }
  return problems;
}

/** Bytes of all files below a path. */
function sizeOf(path: string): number {
  const { isDirectory, size } = Deno.lstatSync(path);
  return isDirectory ? [...Deno.readDirSync(path)].reduce((sum, { name }) => sum + sizeOf(`${path}/${name}`), 0) : size;
}

/** The trees in the store that a root uses, as far as roots are known: by their locks, and by what is deployed. */
function usedTrees(root: Root): Set<string> {
  const texts = [readRoster(root), ...readRosters()].flatMap(({ manifest, folders }) => [
    tryTo(() => Deno.readTextFileSync(`${manifest}.lock`)) ?? "",
    ...folders.flatMap((folder) => tryTo(() => readState(folder))?.text ?? ""),
  ]);
  return new Set(texts.join("\n").match(/\b[0-9a-f]{40}\b/g));
}

/** Removes what is in the store and no root uses, and tells how much that was. */
async function cleanStore(root: Root, flags: Request["flags"]): Promise<number> {
  if (flags.json) throw new Unusable("--json does not go with --store");
  using _store = await lock(makeDirectory(storeFolder()), patience());
  const used = usedTrees(root);
  const unused = [...Deno.readDirSync(storeFolder())].map(({ name }) => name).filter((name) => !used.has(name));
  let bytes = 0;
  for (const path of unused.map((name) => `${storeFolder()}/${name}`)) {
    bytes += sizeOf(path);
    if (flags["dry-run"]) continue;
    const aside = Deno.makeTempDirSync({ dir: storeFolder(), prefix: ".new-" });
    Deno.renameSync(path, `${aside}/old`); // so that it is gone in one step
    removeAll(aside);
  }
  const freed = bytes < 2 ** 20 ? `${(bytes / 1024).toFixed(1)} KiB` : `${(bytes / 2 ** 20).toFixed(1)} MiB`;
  const would = flags["dry-run"] ? "would remove" : "removed";
  if (!flags.quiet) {
    say(`use-skills: ${would} what no known repo uses from the store: ${unused.length} skills, ${freed}`);
  }
  return 0;
}

/** Writes a manifest and the block in `.envrc`, each only where it is not there yet. */
function init(root: Root, flags: Request["flags"]): number {
  const note = (text: string) => flags.quiet || say(`use-skills: ${text}`);
  const would = flags["dry-run"] ? "would write" : "wrote";
  const write = (path: string, text: string, options: Deno.WriteFileOptions) => {
    if (!flags["dry-run"]) Deno.writeTextFileSync(path, text, options);
    note(`${would} ${show(path, root)}`);
  };
  if (ifThere(() => Deno.lstatSync(root.manifest))) {
    note(`${show(root.manifest, root)} is there already`);
  } else {
    if (!flags["dry-run"]) Deno.mkdirSync(resolve(root.manifest, ".."), { recursive: true });
    write(root.manifest, MANIFEST, { createNew: true });
  }
  if (root.global) return 0;
  const { call, isFound } = scriptInEnvrc(root);
  const path = resolve(root.directory, ".envrc");
  const info = ifThere(() => Deno.lstatSync(path));
  if (info && !info.isFile) {
    say(`${show(path, root)} is not a plain file, so add this to it yourself:\n\n${envrcBlock(call)}`);
    return 1;
  }
  const text = info ? Deno.readTextFileSync(path) : "";
  if (/^[^#\n]*(use-skills\.ts|USE_SKILLS)/m.test(text)) {
    note(`${show(path, root)} calls use-skills already`);
  } else {
    const gap = text === "" ? "" : text.endsWith("\n") ? "\n" : "\n\n";
    write(path, gap + envrcBlock(call), { append: true });
    if (!isFound) note("next: export USE_SKILLS with the path of use-skills.ts, which lies outside your home");
    note(`next: name skills in ${show(root.manifest, root)}, then "direnv allow"`);
  }
  return 0;
}

/** Runs `validate` and `doctor`, which are the skill skill-doctor's, on what the manifest asks for. */
async function callDoctor(root: Root, { command, words, flags, directory }: Request): Promise<number> {
  const path = import.meta.resolve("./skills/skill-doctor/scripts/doctor.ts");
  const program = await import(path);
  const start = Deno.realPathSync(root.global ? root.directory : directory);
  let resolved: Resolved | undefined;
  let problems: Problem[] = [];
  try {
    resolved = resolveManifest(readManifest(root), root, new Map());
    problems = await inOrder(resolved.problems);
  } catch (error) {
    if (!(error instanceof Unusable)) throw error;
    if (command === "validate" && words.length === 0) throw error;
    if (isThere(root.manifest)) problems = error.problems.length > 0 ? error.problems : [{ message: error.message }];
  }
  const desired = {
    ...{ directory: root.directory, manifest: root.manifest, global: root.global, start },
    readable: resolved !== undefined,
    targets: Array.from(resolved?.folders.values() ?? [], ({ path, agents, wishes }) => ({
      ...{ path, agents },
      skills: Array.from(wishes.values(), ({ name, line, skill }) => ({ name, line, source: skill })),
    })),
    keptNames: [...resolved?.keptNames ?? []],
    problems: problems.map(({ file, line, name, message }) => ({ file, line, name, message })),
    searchPath: searchPath(root),
    store: tryTo(storeFolder),
  };
  const options = [...flags.json ? ["--json"] : [], ...flags.quiet ? ["--quiet"] : []];
  return await program.main([command === "doctor" ? "show" : "validate", ...options, ...words], desired);
}

/** Runs a command and returns the exit status. */
async function run(request: Request): Promise<number> {
  const { command, flags } = request;
  const root = findRoot(request);
  if (command === "init") return init(root, flags);
  if (flags.store) return await cleanStore(root, flags);
  if (command === "validate" || command === "doctor") return await callDoctor(root, request);
  const isSync = command === "sync";
  const write = !["check", "list"].includes(command) && !flags["dry-run"];
  let failures = new Map<string, string>();
  if (command === "add") {
    const wrong = await inOrder(await add(root, request));
    sayProblems(wrong, root);
    if (wrong.length > 0) return 1;
  } else if (command === "remove") {
    await removeLines(root, request);
  } else if (command === "update") {
    failures = await updateLock(root, request);
  }
  if (write && command !== "clean") {
    const { entries, errors } = parseManifest(readManifest(root));
    const access = {
      frozen: isSync && (flags.frozen || environment("CI") === "true"),
      offline: flags.offline,
      large: flags["allow-large"],
    };
    if (errors.length === 0) failures = new Map([...await supply(root, entries, access), ...failures]);
  }
  let isUnreadable = false;
  const mode = { write, clean: command === "clean", thorough: command === "check", failures };
  const { deeds, problems, notes } = await deploy(root, { ...mode, copy: isSync ? flags.copy === true : undefined })
    .catch((error): Outcome => {
      isUnreadable = error instanceof Unusable && error.problems.length > 0;
      if (!isUnreadable) throw error;
      return { deeds: [], problems: error.problems, notes: new Set() };
    });
  const changes = deeds.filter(isChange);
  if (command === "check" && !isUnreadable) problems.push(...await checkStore(root));
  if (command === "list") {
    const fetched = isUnreadable
      ? []
      : [...readLock(root)].flatMap(([text, locked]) =>
        (tryTo(() => storedSkills(locked)) ?? []).map(({ directory }) =>
          [directory, { text, commit: locked.commit }] as const
        )
      );
    const rows = listRows(deeds, root, new Map(fetched));
    if (flags.json) printJson(root, { skills: rows }, problems);
    else if (rows.length > 0) {
      console.log(
        harmless(
          table(
            rows.map((row) => [row.name, row.from, row.agents.join(", "), row.state, row.commit?.slice(0, 12) ?? ""]),
          ),
        ),
      );
    }
  } else {
    if (flags.json) printJson(root, { actions: jsonActions(deeds) }, problems);
    if (!flags.quiet && write) sayDeeds(deeds);
    if (!flags.quiet && !write) sayPlan(changes, root);
    for (const note of flags.quiet ? [] : notes) say(note);
  }
  sayProblems(problems, root);
  if (isUnreadable) return 2;
  return command !== "list" && problems.length > 0 || command === "check" && changes.length > 0 ? 1 : 0;
}

/**
 * The program.
 *
 * @param args The command line's words.
 * @returns The exit status: 0 done, 1 something could not be done or differs, 2 wrong usage or manifest.
 */
export async function main(args: string[]): Promise<number> {
  try {
    if (Deno.build.os === "windows") throw new Error("Native Windows is not supported: use WSL");
    if (!("toHex" in Uint8Array.prototype)) throw new Error(`Deno ${Deno.version.deno} is too old: 2.5 is needed`);
    const asDirenvCalls: Request = { command: "sync", words: [], flags: {}, directory: ".", agents: [] };
    const request = args.length === 0 ? asDirenvCalls : await readArguments(args);
    if (request.flags.help) console.log(HELP);
    else if (request.flags.version) console.log(VERSION);
    else return await run(request);
    return 0;
  } catch (error) {
    say(` ${explain(error)}`, "use-skills:");
    return error instanceof Unusable ? 2 : 1;
  }
}

if (import.meta.main) {
  Error.stackTraceLimit = 0; // errors are how one learns that a path is not there, and stacks are what they cost
  Deno.exit(await main(Deno.args));
}
