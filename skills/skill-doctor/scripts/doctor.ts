#!/usr/bin/env -S deno run -A --no-lock --no-config
/**
 * Shows which skills coding agents really see, says what is wrong with them, and validates skills against the Agent
 * Skills specification.
 *
 * One file that imports nothing but the standard library: run it by itself, or as `use-skills.ts doctor` and
 * `use-skills.ts validate`, which also compare with the manifest.
 *
 * @module
 */
import type * as Cli from "jsr:@std/cli@^1/parse-args";
import type * as Yaml from "jsr:@std/yaml@^1/parse";

// ── Tables ───────────────────────────────────────────────────────────────────────────────────────────────────────────

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
      ".agents/skills",
      "${CODEX_HOME:-.codex}/skills",
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

/** What the front matter of a `SKILL.md` may hold; source: the Agent Skills specification. */
const SKILL_FIELDS = ["name", "description", "license", "compatibility", "metadata", "allowed-tools"];

const HELP = `skill-doctor ${VERSION}: shows which skills agents see, and what is wrong with them
Usage: doctor.ts [show] [OPTION...] | validate DIR... [OPTION...] | --help | --version
  show              show what each agent sees, and what is wrong with it (default)
  validate DIR...   validate skills against the Agent Skills specification
  -q, --quiet       print problems only
      --json        print one JSON object
Exit status: 0 fine, 1 a problem, 2 wrong usage`;

/** How many files of a skill are looked at. */
const MOST_FILES = 5_000;

/** What is imported when it is needed; the types above name the same. */
const LIBRARY = {
  cli: "jsr:@std/cli@^1/parse-args",
  yaml: "jsr:@std/yaml@^1/parse",
};

/** The manifest's own words, which cannot be names. */
const KEYWORDS = ["as", "for", "trust"];

const STATE_FILE = ".use-skills.json";

// ── Small things ─────────────────────────────────────────────────────────────────────────────────────────────────────

/** Something that is wrong, with the skill's name where there is one. */
export interface Problem {
  /** The path that it is about, if not the manifest's. */
  file?: string;
  /** The line in that file, from 1. */
  line?: number;
  name?: string;
  message: string;
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

/**
 * Says why a name is no legal skill name.
 *
 * @param name The name.
 * @returns The reason, or `undefined` for a legal name.
 */
function nameProblem(name: string): string | undefined {
  if (name.length <= 64 && /^[a-z0-9]+(-[a-z0-9]+)*$/.test(name) && !KEYWORDS.includes(name)) return undefined;
  const rule = `${quote(name)} is not a skill name: 1 to 64 of a-z, 0-9 and single hyphens, none at the ends`;
  const odd = name.match(/[^ -~]/u)?.[0];
  if (odd) return `${rule}; U+${odd.codePointAt(0)?.toString(16).toUpperCase().padStart(4, "0")} is none of these`;
  if (name.length > 64) return `${rule}; it has ${name.length} characters`;
  return KEYWORDS.includes(name) ? `${rule}, and no word of the manifest's own` : rule;
}

/** What a manifest asks for, as use-skills resolves it. */
export interface Desired {
  /** The project's or the home's directory, as its real path. */
  directory: string;
  /** The manifest's path. */
  manifest: string;
  /** Whether it is the home's manifest. */
  global: boolean;
  /** The real path of the directory that agents are started in. */
  start: string;
  /** `false`: there is no manifest, or it cannot be read; in the latter case `problems` say why. */
  readable: boolean;
  /** What the manifest deploys where. */
  targets: { path: string; agents: string[]; skills: { name: string; line: number; source: string }[] }[];
  /** The names of entries that failed. */
  keptNames: string[];
  /** What sync would report about entries. */
  problems: Problem[];
  /** The directories in which skills are found by name. */
  searchPath: string[];
  /** The directory of fetched skills. */
  store?: string;
}

/** `path` as people write it: from the root, from the home, or absolute. */
function show(path: string, root: Desired): string {
  const inside = root.global ? undefined : below(root.directory, path);
  if (inside !== undefined) return inside || ".";
  const home = environment("HOME");
  const fromHome = home && below(home, path);
  return fromHome ? `~/${fromHome}` : path;
}

/** A path from the manifest or the environment as an absolute one. */
function expand(path: string, root: Desired): string {
  const home = environment("HOME");
  if (home === undefined && path.startsWith("~")) throw new Error(`Cannot expand ${quote(path)}: HOME is not set`);
  return resolve(root.manifest, "..", path.replace(/^~(?=\/|$)/, home ?? "~"));
}

/** The folder of an agent; `free` is one that may lead anywhere, since the person named it by an absolute path. */
function agentFolder(agent: string, root: Desired): { path: string; free: boolean } | undefined {
  const template = AGENTS.get(agent)?.[root.global ? 1 : 0];
  if (template === undefined) return undefined;
  const [, variable, fallback = "", rest = ""] = template.match(/^\$\{(\w+):-(.+)\}(.+)/) ?? ["", undefined, template];
  const given = variable === undefined ? undefined : environment(variable);
  const chosen = variable?.startsWith("XDG_") && !given?.startsWith("/") ? undefined : given;
  return { path: resolve(root.directory, (chosen ?? fallback) + rest), free: chosen !== undefined };
}

/** The names of the folders in `directory`, through links too; `undefined` where it cannot be read. */
function subfolders(directory: string): string[] | undefined {
  return tryTo(() => Array.from(Deno.readDirSync(directory)))?.filter((entry) =>
    entry.isDirectory || entry.isSymlink && tryTo(() => Deno.statSync(`${directory}/${entry.name}`))?.isDirectory
  ).map((entry) => entry.name);
}

// ── Specification: what a SKILL.md says, and what is wrong with it ───────────────────────────────────────────────────

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
  const mark = text.startsWith("\ufeff")
    ? [{ file, line: 1, message: "it begins with a byte order mark, and Codex ignores such a skill" }]
    : [];
  const requires = (fields["metadata"] as Record<string, unknown> | null | undefined)?.["requires"];
  return {
    text,
    violations: [...mark, ...missing, ...violations(fields, lastSegment(directory)).map(at)],
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

/** Where Markdown links lead: in the text, and by a line of their own. */
const LINKS = /\]\(\s*(<[^<>]+>|(?:\([^\s()]*\)|[^\s()])+)|^ {0,3}\[(?!\^)[^\]]+\]:\s*(\S+)/g;

/** What in a skill is not against the specification, and yet hardly meant. */
function doubts(directory: string, text: string): Problem[] {
  const file = `${directory}/SKILL.md`;
  const [front = ""] = text.match(FRONT_MATTER) ?? [];
  const start = front.split("\n").length;
  const all = text.slice(front.length).trimEnd();
  const [commented, rest] = [all.slice(0, all.lastIndexOf("-->") + 3), all.slice(all.lastIndexOf("-->") + 3)];
  const body = (commented.replace(/<!--[^]*?-->/g, (each) => each.replace(/[^\n]/g, "")) + rest).split("\n");
  const found: Problem[] = [];
  const name = nameProblem(lastSegment(directory));
  if (name !== undefined && isSpecifiedName(lastSegment(directory).normalize("NFKC"))) {
    const message = `the specification allows this name, and sync is stricter and wants "as NAME": ${name}`;
    found.push({ file, line: 1, message });
  }
  if (body.length > 500) {
    const message = `its text has ${body.length} lines, over 500: agents read all of it, so move parts into files`;
    found.push({ file, line: start, message });
  }
  let fence: RegExp | undefined;
  for (const [index, line] of body.entries()) {
    const [, mark] = /^[\s>*+\d.-]*(`{3,}(?=[^`]*$)|~{3,})/.exec(line) ?? [];
    const isEnd = fence?.test(line);
    if (fence === undefined && mark !== undefined) fence = new RegExp(`^[\\s>]*${mark}${mark[0]}*\\s*$`);
    else if (isEnd) fence = undefined;
    if (fence !== undefined || isEnd || /^( {4}|\t)/.test(line)) continue;
    const plain = line.replace(/(`+).*?\1|\\[[\]]/g, "");
    for (const [, inText, apart = ""] of plain.matchAll(LINKS)) {
      const target = (inText ?? apart).replace(/^<|>$/g, "").replace(/[?#].*|:\d+$/, "");
      if (target === "" || /^([a-z][\w+.-]*:|~?\/|["'])|[{$]/i.test(target)) continue;
      const path = resolve(directory, tryTo(() => decodeURIComponent(target)) ?? target);
      if (isThere(path)) continue;
      found.push({ file, line: start + index, message: `it links to ${quote(target)}, which is not there` });
    }
  }
  const scripts = (folder: string): string[] =>
    (tryTo(() => [...Deno.readDirSync(folder)]) ?? []).flatMap(({ name, isDirectory, isFile }) => {
      const path = `${folder}/${name}`;
      return isDirectory ? scripts(path) : isFile && isScript(path) ? [path] : [];
    });
  for (const path of scripts(`${directory}/scripts`).sort()) {
    if (((Deno.statSync(path).mode ?? 0) & 0o111) !== 0) continue;
    found.push({ file: path, line: 1, message: "this script cannot be run: chmod +x" });
  }
  return found;
}

/** Whether a file says in its first line what runs it. */
function isScript(path: string): boolean {
  using file = tryTo(() => Deno.openSync(path));
  const start = new Uint8Array(2);
  file?.readSync(start);
  return start[0] === 35 && start[1] === 33; // #!
}

// ── Folders ──────────────────────────────────────────────────────────────────────────────────────────────────────────

/** What was written under a name: a link with this text, or with `copy` a copy of what that link would lead to. */
interface Form {
  target: string;
  /** The git tree hash of the copy's content. */
  copy?: string;
}

/** An entry of a folder's state: what is ours there, and for whom. */
interface Owned extends Form {
  /** What was there before, while it is being replaced: ours as well. */
  was?: Form[];
  /** The manifests that want it: relative to the folder where both lie in one root, else absolute. */
  for: string[];
}

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

/** The forms in which an entry is ours. */
function formsOf(owned: Owned | undefined): Form[] {
  return owned === undefined ? [] : [owned, ...owned.was ?? []];
}

/** The hash of a directory's content; none for one that cannot be read, or that no copy of ours could look like. */
async function contentHash(directory: string): Promise<string | undefined> {
  try {
    return await treeHash(directory, scan(directory));
  } catch {
    return undefined;
  }
}

/** What the target index records of a project: its manifest's path, and the targets it has deployed to. */
interface Index {
  manifest: string;
  folders: string[];
}

/** The target indexes of all projects, also of those that are gone. */
function readIndexes(): Index[] {
  const place = rosterFolder();
  const files = place && tryTo(() => Array.from(Deno.readDirSync(place), ({ name }) => `${place}/${name}`)) || [];
  return files.filter((file) => file.endsWith(".json")).flatMap((file) =>
    tryTo(() => {
      const { manifest, targets } = JSON.parse(Deno.readTextFileSync(file));
      const directory = manifest === homeManifest() ? environment("HOME") ?? "/" : resolve(manifest, "..");
      return { manifest: `${manifest}`, folders: Object.keys(targets).map((path) => resolve(directory, path)) };
    }) ?? []
  );
}

/** The manifest of the home; `undefined` where neither XDG_CONFIG_HOME nor HOME says where that is. */
function homeManifest(): string | undefined {
  const config = xdgFolder("XDG_CONFIG_HOME", ".config");
  return config && resolve(config, "use-skills/skills");
}

/** The folder of the rosters; `undefined` where neither XDG_STATE_HOME nor HOME says where that is. */
function rosterFolder(): string | undefined {
  const state = xdgFolder("XDG_STATE_HOME", ".local/state");
  return state && `${state}/use-skills`;
}

// ── Report ───────────────────────────────────────────────────────────────────────────────────────────────────────────

/** A path, or the manifest's, as a person in the working directory would write it. */
function showHere(root: Desired, path = root.manifest): string {
  const cwd = Deno.cwd();
  const isInside = below(root.directory, cwd) !== undefined && below(root.directory, path) !== undefined;
  if (isInside && !root.global) return pathsFrom(cwd, root.directory)(path);
  return below(cwd, path) || show(path, { ...root, global: true });
}

/** Prints for a person, on standard error; `place` comes first, in red where that can be seen. */
function say(text: string, place = ""): void {
  const isRed = place !== "" && Deno.stderr.isTerminal() && !environment("NO_COLOR");
  console.error((isRed ? `\x1b[31m${harmless(place)}\x1b[39m` : harmless(place)) + harmless(text));
}

/** Prints a problem, or something less. */
function sayProblem({ file, line, message }: Problem, root: Desired, what = ""): void {
  const place = `${showHere(root, file).replaceAll("\n", "\\n")}:${line === undefined ? "" : `${line}:`}`;
  if (what === "") say(` ${message}`, place);
  else say(`${place} ${what}: ${message}`);
}

/** Names for a person, the first of them if there are many. */
function someOf(names: readonly string[]): string {
  return names.length > 8 ? `${names.slice(0, 6).join(", ")} and ${names.length - 6} more` : names.join(", ");
}

/** Prints one JSON object: `version` counts changes of its shape that a reader must know of, `null` is for nothing. */
function printJson(root: Desired, found: Record<string, unknown>, problems: readonly Problem[]): void {
  const listed = jsonProblems(root, problems);
  console.log(harmless(JSON.stringify({ version: 1, root: root.directory, ...found, problems: listed }, undefined, 2)));
}

/** Problems as JSON has them. */
function jsonProblems(root: Desired, problems: readonly Problem[]) {
  const pathTo = pathsFrom(root.directory, root.directory);
  return problems.map(({ file = root.manifest, line = null, name = null, message }) => ({
    ...{ file: pathTo(file), line, name, message },
  }));
}

/** Lines with their columns aligned. */
function table(rows: readonly string[][]): string {
  const widths = rows[0]?.map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0))) ?? [];
  return rows.map((row) => row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join("  ").trimEnd()).join("\n");
}

// ── Doctor: what agents really see, and what is wrong with it ────────────────────────────────────────────────────────

/** An entry of a folder that an agent reads: a skill, or what was to be one. */
interface Seen {
  entry: string;
  path: string;
  /** Where it really is; "" where a link leads nowhere. */
  real: string;
  /** Whether it is as use-skills made it. */
  isOurs: boolean;
  /** What the skill calls itself; `undefined` for what is no skill. */
  name?: string;
}

/** A folder that agents read, with what is in it and wrong with it. */
interface Ward {
  path: string;
  seen: Seen[];
  problems: Problem[];
  notes: Problem[];
}

/** What a doctor finds. Nothing is wrong with what is noted. */
interface Findings {
  agents: { agent: string; wards: Ward[] }[];
  problems: Problem[];
  notes: Problem[];
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

/** The folders that an agent reads when it is started in a directory: there, above it in its repo, and at home. */
function foldersRead(agent: string, root: Desired, start: string): string[] {
  const isFixed = (path: string) => /^[~/]/.test(path);
  const besides = AGENTS.get(agent)?.slice(2) ?? [];
  const home = environment("HOME");
  const project = root.global ? [] : [...directoriesUp(start)].flatMap((directory) => [
    agentFolder(agent, { ...root, directory })?.path,
    ...besides.filter((path) => !isFixed(path)).map((path) => resolve(directory, path)),
  ]);
  const own = home && agentFolder(agent, { ...root, directory: home, global: true })?.path;
  const fixed = besides.filter(isFixed).map((path) => tryTo(() => expand(path, root)));
  return [...new Set([...project, own, ...fixed])].flatMap((path) => path || []);
}

/** A path for a person to give to a shell. One that cannot be typed is shown so that it means no other file. */
function shellWord(path: string, root: Desired): string {
  const shown = showHere(root, path);
  if (/^[\w./~+-]+$/.test(shown)) return shown;
  return `'${harmless(path).replaceAll("\n", "\\n").replaceAll("'", `'\\''`)}'`;
}

/** Paths of the `SKILL.md` files in folders below a skill's own, as far as {@linkcode MOST_FILES} files go. */
function nestedSkills(directory: string): string[] {
  const found: string[] = [];
  const folders = [""];
  let count = 0;
  for (const inside of folders) { // it grows while it is read
    for (const { name, isDirectory } of tryTo(() => [...Deno.readDirSync(`${directory}/${inside}`)]) ?? []) {
      if (++count > MOST_FILES) return found;
      if (isDirectory && !/^\.|^node_modules$/.test(name)) folders.push(`${inside}${name}/`);
      if (inside !== "" && name === "SKILL.md") found.push(inside + name);
    }
  }
  return found;
}

/** The plugin that a directory lies in, if it does. */
function pluginAbove(directory: string): string | undefined {
  if (isThere(`${directory}/.claude-plugin/plugin.json`)) return directory;
  return directory === "/" ? undefined : pluginAbove(resolve(directory, ".."));
}

/** Whether what lies at a path still is what use-skills made there. */
async function isOwn(path: string, owned: Owned | undefined): Promise<boolean> {
  const link = tryTo(() => Deno.readLinkSync(path));
  if (link !== undefined) return formsOf(owned).some(({ target, copy }) => copy === undefined && target === link);
  if (!formsOf(owned).some(({ copy }) => copy)) return false;
  const hash = await contentHash(path);
  return formsOf(owned).some(({ copy }) => copy !== undefined && copy === hash);
}

/** What is wrong with a skill, whoever sees it. `isFixed`: it was fetched, so nobody here can change it. */
function examineSkill(directory: string, { problem, requires }: Inspection, isFixed: boolean): string[] {
  const missing = missingPrograms(requires);
  const nested = nestedSkills(directory);
  const isLink = tryTo(() => Deno.lstatSync(`${directory}/SKILL.md`))?.isSymlink;
  const wayOut = isFixed ? "name the inner ones by their own addresses" : "move their folders out of this one";
  const found: [isWrong: unknown, message: string][] = [
    [problem, `agents cannot use it: ${problem?.message}`],
    [
      isLink,
      `its SKILL.md is a link, which Codex ignores: ${isFixed ? "tell its author" : "put the file itself there"}`,
    ],
    [nested.length > 0, `OpenCode and Codex see skills in it, and Claude Code does not (${someOf(nested)}): ${wayOut}`],
    [missing.length > 0, `it needs what is not on the PATH: ${missing.join(", ")}`],
  ];
  return found.filter(([isWrong]) => isWrong).map(([, message]) => message);
}

/** Where a path really is: "" for a link that leads nowhere or in circles, `undefined` where one may not look. */
function whereReally(path: string): string | undefined {
  try {
    return Deno.realPathSync(path);
  } catch (error) {
    return error instanceof Deno.errors.PermissionDenied ? undefined : "";
  }
}

/** What a person is to do about a link of ours that leads nowhere; nothing where nobody is left who asked for it. */
function wayToMend(claims: string[], root: Desired, isWanted: boolean): string | undefined {
  if (claims.includes(root.manifest)) return isWanted ? "bring it back, or take it out of .skills; then sync" : "sync";
  const other = claims.find(isThere);
  if (other !== undefined) return `bring it back, or take it out of ${show(other, root)}; then sync there`;
  return isWanted ? "sync" : undefined;
}

/** What is known while folders are examined. */
interface Round {
  root: Desired;
  /** The names that the manifest has, for any agent; `undefined` where there is none that can be read. */
  wanted?: ReadonlySet<string>;
  /** The folders that Codex reads. */
  codex: ReadonlySet<string>;
  inspect: (skill: string) => Promise<Inspection>;
}

/** Examines a folder that agents read. */
async function examineFolder(path: string, { root, wanted, codex, inspect }: Round): Promise<Ward> {
  const ward: Ward = { path, seen: [], problems: [], notes: [] };
  const find = (message: string, file = path, name?: string) => ward.problems.push({ file, name, message });
  const folder = tryTo(() => Deno.realPathSync(path)) ?? path;
  const state = tryTo(() => readState(folder))?.entries;
  const old: string[] = [];
  let entries: Deno.DirEntry[] = [];
  try {
    if (tryTo(() => Deno.statSync(path))?.isFile) find("it is not a folder: move it away, then sync");
    else entries = ifThere(() => [...Deno.readDirSync(path)]) ?? [];
  } catch (error) {
    find(`it cannot be read: ${explain(error)}`);
  }
  const places = root.searchPath.map((place) => tryTo(() => Deno.realPathSync(place)));
  const isTarget = [...AGENTS.keys()].some((agent) => agentFolder(agent, root)?.path === path);
  for (const { name: entry, isDirectory, isSymlink } of entries.sort((a, b) => a.name < b.name ? -1 : 1)) {
    if (entry.startsWith(".") || !isDirectory && !isSymlink) continue;
    const at = `${path}/${entry}`;
    const owned = state?.get(entry);
    const claims = owned?.for.map((claim) => resolve(folder, claim)) ?? [];
    const isOurs = await isOwn(at, owned);
    const real = whereReally(at);
    const files = real && tryTo(() => Array.from(Deno.readDirSync(real), ({ name }) => name));
    if (isSymlink && !isOurs && isTarget && wanted && !wanted.has(entry)) {
      const parent = tryTo(() => Deno.realPathSync(resolve(folder, Deno.readLinkSync(at), "..")));
      if (places.includes(parent ?? "")) old.push(at);
    }
    if (real === "") {
      const way = isOurs ? wayToMend(claims, root, wanted?.has(entry) === true) : `rm ${shellWord(at, root)}`;
      if (way) {
        find(`this link leads nowhere, to ${quote(tryTo(() => Deno.readLinkSync(at)) ?? "")}: ${way}`, at, entry);
      }
    } else if (real === undefined || !files && Deno.statSync(real).isDirectory) {
      find("it cannot be read", at, entry);
    } else if (files) {
      const isSkill = files.includes("SKILL.md");
      const isFixed = root.store !== undefined && below(root.store, real) !== undefined;
      const nested = isSkill ? [] : nestedSkills(real);
      if (isSkill || files.some((name) => /^skill\.md$/i.test(name))) {
        for (const ill of examineSkill(real, await inspect(real), isFixed)) find(ill, isFixed ? at : real, entry);
      } else if (nested.length > 0) {
        const message = "it is no skill, and OpenCode and Codex see skills in it, which Claude Code does not";
        find(`${message} (${someOf(nested)}): link or move them up, one by one`, at, entry);
      }
      const plugin = isSkill ? pluginAbove(real) : undefined;
      if (plugin !== undefined && codex.has(path)) {
        const isAbove = below(plugin, folder) !== undefined;
        const way = isAbove ? "keep plugins and agents' folders apart" : "deploy it with --copy, or by its git address";
        find(`Codex counts it to the plugin in ${show(plugin, root)}, and names it after that: ${way}`, at, entry);
      } else if (plugin !== undefined) {
        const message = "this is a plugin, after which Codex names the skills in it, wherever it reads links to them";
        ward.notes.push({ file: plugin, message });
      }
      const name = isSkill ? (await inspect(real)).name ?? entry : undefined;
      ward.seen.push({ entry, path: at, real, isOurs, name });
    }
  }
  if (old.length > 0) {
    const way = `name them, or rm ${old.map((link) => shellWord(link, root)).join(" ")}`;
    find(`an older script has left links here that .skills does not name: ${way}`);
  }
  return ward;
}

/** Looks for names that an agent meets more than once with different contents. */
async function examineAgent(agent: string, wards: readonly Ward[], root: Desired): Promise<Problem[]> {
  const problems: Problem[] = [];
  for (const [name, [first, ...others]] of Map.groupBy(wards.flatMap(({ seen }) => seen), (skill) => skill.name)) {
    if (name === undefined || first === undefined) continue;
    for (const other of others) {
      const hash = other.real === first.real ? undefined : await contentHash(other.real);
      if (other.real === first.real || hash !== undefined && hash === await contentHash(first.real)) continue;
      const way = 'take one away, or give it another name, in its SKILL.md and with "as NAME"';
      const message = `${agent} finds another ${quote(name)} in ${show(first.path, root)}: ${way}`;
      problems.push({ file: other.path, name, message });
    }
  }
  return problems;
}

/** What is wrong with `CODEX_HOME`. */
function examineCodexHome(root: Desired): Problem[] {
  const [given, home] = [environment("CODEX_HOME"), environment("HOME")];
  if (given === undefined) return [];
  const file = resolve(root.directory, given);
  const isFile = (path: string) => tryTo(() => Deno.statSync(path))?.isFile === true;
  const isInTheWay = (path: string) => isThere(path) && !tryTo(() => Deno.lstatSync(path))?.isSymlink;
  const clear = (path: string) => isInTheWay(path) ? "move away what is there, then " : "";
  if (tryTo(() => Deno.statSync(file))?.isDirectory !== true) {
    const way = `${clear(file)}${isThere(file) ? "rm" : "mkdir -p"} ${shellWord(file, root)}`;
    return [{ file, message: `CODEX_HOME names it, and Codex stops without such a folder: ${way}` }];
  }
  const [login, wanted] = [`${home}/.codex/auth.json`, `${file}/auth.json`];
  if (!isFile(login) || isFile(wanted)) return [];
  const way = `${clear(wanted)}ln -sf ${shellWord(login, root)} ${shellWord(wanted, root)}`;
  return [{ file, message: `Codex is not logged in with this CODEX_HOME, and is in ~/.codex: ${way}` }];
}

/** What is left of repos and homes that are gone: skills in folders, or no more than a record of these folders. */
async function examineGoneRoots(
  root: Desired,
  paths: Iterable<string>,
  folders: Desired["targets"],
): Promise<Pick<Findings, "problems" | "notes">> {
  const rosters = readIndexes().filter(({ manifest, folders }) => !isThere(manifest) && folders.length > 0);
  const isWanted = (folder: string, name: string) =>
    folders.some(({ path, skills }) => path === folder && skills.some((skill) => skill.name === name));
  const left = new Map<string, Set<string>>(rosters.map(({ manifest }) => [manifest, new Set()]));
  const all = [...paths, ...rosters.flatMap(({ folders }) => folders)];
  for (const folder of new Set(all.map((path) => tryTo(() => Deno.realPathSync(path)) ?? path))) {
    for (const [name, owned] of tryTo(() => readState(folder))?.entries ?? []) {
      const claims = owned.for.map((claim) => resolve(folder, claim));
      // What this root wants there it takes over: it was moved here.
      if (claims.some(isThere) || isWanted(folder, name) || !await isOwn(`${folder}/${name}`, owned)) continue;
      for (const manifest of claims) left.set(manifest, (left.get(manifest) ?? new Set()).add(`${folder}/${name}`));
    }
  }
  const wayOf = (manifest: string, paths: readonly string[]) => {
    if (manifest === homeManifest()) return "use-skills.ts clean --global";
    const isKnown = rosters.some((roster) => roster.manifest === manifest);
    if (isKnown) return `use-skills.ts clean -C ${shellWord(resolve(manifest, ".."), root)}`;
    return `rm -r ${paths.map((path) => shellWord(path, root)).join(" ")}`;
  };
  const problems = [...left].filter(([, paths]) => paths.size > 0).map(([file, paths]): Problem => {
    const names = someOf([...new Set(Array.from(paths, lastSegment))]);
    return { file, message: `it is gone, and what it had deployed is not (${names}): ${wayOf(file, [...paths])}` };
  });
  const bare = [...left].filter(([, paths]) => paths.size === 0).map(([manifest]) =>
    show(resolve(manifest, ".."), root)
  );
  const message = `nothing but a record is left of ${someOf(bare)}: use-skills.ts clean -C DIR, for each of them`;
  return { problems, notes: bare.length > 0 ? [{ file: rosterFolder(), message }] : [] };
}

/** Examines all that the agents of a root see when they are started in a directory of it. */
async function diagnose(root: Desired, hasManifest: boolean): Promise<Findings> {
  const { start } = root;
  const result: Findings = { agents: [], problems: [], notes: [] };
  result.problems.push(...root.problems);
  if (hasManifest && !root.readable && !isThere(root.manifest)) {
    result.notes.push({ message: "it is not there, so nothing is deployed from here" });
  }
  const folders = root.targets;
  const names = [...folders.flatMap(({ skills }) => skills.map(({ name }) => name)), ...root.keptNames];
  const round: Round = {
    root,
    wanted: root.readable ? new Set(names) : undefined,
    codex: new Set(foldersRead("codex", root, start)),
    inspect: remember(inspectSkill),
  };
  const wards = new Map<string, Ward>();
  for (const agent of new Set(["claude", "opencode", "codex", ...folders.flatMap(({ agents }) => agents)])) {
    const own = folders.flatMap(({ path, agents }) => agents.includes(agent) && !AGENTS.has(agent) ? [path] : []);
    const paths = [...own, ...foldersRead(agent, root, start)];
    for (const path of paths) {
      if (!wards.has(path)) wards.set(path, await examineFolder(path, round));
    }
    const read = paths.flatMap((path) => wards.get(path) ?? []);
    result.agents.push({ agent, wards: read });
    result.problems.push(...await examineAgent(agent, read, root));
  }
  const known = new Set(wards.values().flatMap(({ seen }) => seen.map(({ real }) => real)));
  for (const { skills } of folders) {
    for (const { line, name, source } of skills) {
      const { problem } = known.has(Deno.realPathSync(source)) ? {} : await round.inspect(source);
      if (problem) {
        result.problems.push({ line, name, message: `${quote(name)} cannot be deployed: ${problem.message}` });
      }
    }
  }
  for (const { problems, notes } of wards.values()) {
    result.problems.push(...problems);
    result.notes.push(...notes);
  }
  const gone = await examineGoneRoots(root, wards.keys(), folders);
  result.problems.push(...examineCodexHome(root), ...gone.problems);
  result.notes.push(...gone.notes);
  const once = (
    all: Problem[],
  ) => [...new Map(all.map((each) => [`${each.file}:${each.line} ${each.message}`, each])).values()];
  return { ...result, problems: once(result.problems), notes: once(result.notes) };
}

// ── Commands ─────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Wrong usage. */
class UsageError extends Error {}

/** What the command line asks for. */
interface Request {
  command: string;
  /** What follows the command. */
  words: string[];
  flags: Partial<Record<"help" | "version" | "quiet" | "json", boolean>>;
}

/** Reads the command line. */
async function readArguments(args: string[]): Promise<Request> {
  const { parseArgs }: typeof Cli = await import(LIBRARY.cli);
  const words: string[] = [];
  const wrong: string[] = [];
  const flags = parseArgs(args, {
    boolean: ["help", "version", "quiet", "json"],
    alias: { h: "help", V: "version", q: "quiet" },
    unknown(argument: string, key?: string) {
      (key === undefined ? words : wrong).push(argument);
      return false;
    },
  });
  const [command = "show", ...rest] = [...words, ...flags._.map(String)];
  if (wrong[0] !== undefined) throw new UsageError(`Unknown option ${quote(wrong[0])}`);
  if (command !== "show" && command !== "validate") throw new UsageError(`Unknown command ${quote(command)}`);
  if (command === "show" && rest[0] !== undefined) throw new UsageError(`Unexpected ${quote(rest[0])} after show`);
  return { command, words: rest, flags };
}

/** What is known without a manifest: the repo's root, else the working directory. */
function withoutManifest(): Desired {
  const start = Deno.realPathSync(".");
  const directory = directoriesUp(start).find((each) => isThere(`${each}/.git`)) ?? start;
  const manifest = `${directory}/.skills`;
  const nothing = { targets: [], keptNames: [], problems: [], searchPath: [] };
  return { directory, manifest, global: false, start, readable: false, ...nothing };
}

/** Holds skills against the specification: those in some directories, or all that the manifest names. */
async function validate(root: Desired, { words, flags }: Request): Promise<number> {
  const problems: Problem[] = [];
  const warnings: Problem[] = [];
  let directories = words.map((word) =>
    resolve(root.global ? Deno.cwd() : root.start, word).replace(/\/SKILL\.md$/, "")
  );
  if (words.length === 0) {
    directories = root.targets.flatMap(({ skills }) => skills.map(({ source }) => source));
    problems.push(...root.problems);
  }
  const skills = [];
  for (const path of new Set(directories)) {
    const { problem, violations, text, name = null } = await inspectSkill(path);
    const isMany = problem && subfolders(path)?.some((each) => isThere(`${path}/${each}/SKILL.md`));
    if (isMany) problem.message += `, and folders in it do: validate ${shellWord(path, root)}/*`;
    if (problem && !isThere(path)) problem.message = "nothing is there";
    problems.push(...violations);
    if (text !== undefined) warnings.push(...doubts(path, text));
    skills.push({ name, path, valid: violations.length === 0 });
  }
  if (flags.json) printJson(root, { skills, warnings: jsonProblems(root, warnings) }, problems);
  for (const warning of flags.quiet ? [] : warnings) sayProblem(warning, root, "Warning");
  for (const problem of problems) sayProblem(problem, root);
  const valid = skills.filter(({ valid }) => valid).length;
  if (!flags.quiet) say(`use-skills: ${valid} of ${skills.length} skills are as the specification has it`);
  return problems.length > 0 ? 1 : 0;
}

/** Tells what each agent sees, and what is wrong with it. */
async function doctor(root: Desired, hasManifest: boolean, { flags }: Request): Promise<number> {
  const { agents, problems, notes } = await diagnose(root, hasManifest);
  const listed = agents.map(({ agent, wards }) => ({
    agent,
    folders: wards.map(({ path, seen }) => ({
      path,
      skills: seen.flatMap(({ entry, name, real, isOurs }) =>
        name === undefined ? [] : [{ entry, name, source: real, ours: isOurs }]
      ),
    })).filter(({ skills }) => skills.length > 0),
  }));
  for (const { agent, folders } of flags.json || flags.quiet ? [] : listed) {
    console.log(folders.length > 0 ? agent : `${agent}\n  sees no skills`);
    for (const { path, skills } of folders) {
      const rows = skills.map((
        { entry, source, ours },
      ) => ["   ", entry, show(source, root) + (ours ? "" : " (not ours)")]);
      const line = (text: string) => console.log(harmless(text.replaceAll("\n", "\\n")));
      line(`  ${show(path, root)}`);
      table(rows.map((row) => row.map((cell) => cell.replaceAll("\n", "\\n")))).split("\n").forEach(line);
    }
  }
  if (flags.json) printJson(root, { agents: listed, notes: jsonProblems(root, notes) }, problems);
  for (const note of flags.quiet ? [] : notes) sayProblem(note, root, "Note");
  for (const problem of problems) sayProblem(problem, root);
  return problems.length > 0 ? 1 : 0;
}

/**
 * The program.
 *
 * @param args The command line's words.
 * @param desired What a manifest asks for; without it, only the file system is examined.
 * @returns The exit status: 0 fine, 1 a problem, 2 wrong usage.
 */
export async function main(args: string[], desired?: Desired): Promise<number> {
  try {
    const request = await readArguments(args);
    if (request.flags.help) console.log(HELP);
    else if (request.flags.version) console.log(VERSION);
    else if (request.command === "show") {
      return await doctor(desired ?? withoutManifest(), desired !== undefined, request);
    } else if (desired === undefined && request.words.length === 0) {
      throw new UsageError("Usage: doctor.ts validate DIR...");
    } else return await validate(desired ?? withoutManifest(), request);
    return 0;
  } catch (error) {
    say(` ${explain(error)}`, "skill-doctor:");
    return error instanceof UsageError ? 2 : 1;
  }
}

if (import.meta.main) Deno.exit(await main(Deno.args));
