#!/usr/bin/env -S deno run -A --no-lock --no-config
/**
 * Shows which skills coding agents see and what is wrong with them, and validates skills against the Agent Skills
 * specification. It changes nothing.
 *
 * The file is standalone. Run directly, it examines the file system. `use-skills.ts doctor` and `use-skills.ts
 * validate` import it and pass what the manifest asks for, so that it can compare.
 *
 * @module
 */
import type * as Cli from "jsr:@std/cli@^1/parse-args";
import type * as Fs from "jsr:@std/fs@^1/walk";
import type * as Path from "jsr:@std/path@^1/posix";
import type * as Yaml from "jsr:@std/yaml@^1/parse";

const libraries = new Map<string, unknown>();
const { basename, dirname, relative, resolve } = await load<typeof Path>("jsr:@std/path@^1/posix");

/** Imports a part of the standard library, unless a configuration file replaces it by other code. */
async function load<T>(specifier: string): Promise<T> {
  const loaded = libraries.get(specifier) as T | undefined;
  if (loaded !== undefined) return loaded;
  try {
    if (import.meta.resolve(specifier) === specifier) {
      const library = await import(specifier);
      libraries.set(specifier, library);
      return library;
    }
    throw new Error("a deno.json replaces it by other code, so run with --no-config");
  } catch (error) {
    const [reason] = (error instanceof Error ? error.message : String(error)).split("\n");
    const message = `Cannot load ${specifier}: ${reason}
  In a checkout of use-skills, run "npx -y deno task dependencies" once, and leave out --no-config
  Elsewhere, run this once with access to JSR`;
    if (!import.meta.main) throw new Error(message);
    console.error(`skill-doctor: ${message}`);
    return Deno.exit(1);
  }
}

// ── Tables ──────────────────────────────────────────────────────────────────────────────────────────────────────────

/** The version of this program. */
export const VERSION = "0.1.0";

/**
 * The directories in which each agent looks for skills: in each directory from the working directory up to the repo's
 * root, and in the home, separated by spaces. `${VARIABLE:-default}` and `~` are expanded as in a shell.
 *
 * Source: observed with the real programs, otherwise from their documentation.
 */
export const AGENTS: ReadonlyMap<string, readonly [project: string, home: string]> = new Map([
  ["claude", [".claude/skills", "${CLAUDE_CONFIG_DIR:-~/.claude}/skills"]],
  [
    "opencode",
    [
      ".opencode/skills .opencode/skill .claude/skills .agents/skills",
      "${XDG_CONFIG_HOME:-~/.config}/opencode/skills ${XDG_CONFIG_HOME:-~/.config}/opencode/skill ~/.opencode/skills " +
      "~/.opencode/skill ${OPENCODE_CONFIG_DIR:-~/.opencode}/skills ~/.claude/skills ~/.agents/skills",
    ],
  ],
  ["codex", [".agents/skills .codex/skills", "${CODEX_HOME:-~/.codex}/skills ~/.agents/skills /etc/codex/skills"]],
  ["agents", [".agents/skills", "~/.agents/skills"]],
  ["amp", [".agents/skills", "${XDG_CONFIG_HOME:-~/.config}/agents/skills"]],
  ["antigravity", [".agents/skills", "~/.gemini/antigravity/skills"]],
  ["augment", [".augment/skills .agents/skills", "~/.augment/skills"]],
  ["cline", [".cline/skills .clinerules/skills .agents/skills", "~/.cline/skills ~/.agents/skills"]],
  ["codebuddy", [".codebuddy/skills", "~/.codebuddy/skills"]],
  ["continue", [".continue/skills .claude/skills", "~/.continue/skills"]],
  ["copilot", [".github/skills .agents/skills .claude/skills", "~/.copilot/skills ~/.agents/skills"]],
  [
    "crush",
    [".crush/skills .agents/skills .claude/skills .cursor/skills", "${XDG_CONFIG_HOME:-~/.config}/crush/skills"],
  ],
  ["cursor", [".cursor/skills .agents/skills .claude/skills .codex/skills", "~/.cursor/skills"]],
  ["devin", [".devin/skills .windsurf/skills .agents/skills", ""]],
  ["droid", [".factory/skills .agents/skills", "~/.factory/skills"]],
  ["gemini", [".gemini/skills .agents/skills", "~/.gemini/skills ~/.agents/skills"]],
  ["goose", [".agents/skills .goose/skills", "~/.agents/skills ${XDG_CONFIG_HOME:-~/.config}/goose/skills"]],
  ["grok", [".grok/skills", ""]],
  ["hermes", ["", "~/.hermes/skills"]],
  ["junie", [".junie/skills", "~/.junie/skills"]],
  ["kilo", [".kilo/skills .agents/skills", "~/.kilo/skills"]],
  ["kiro", [".kiro/skills", "~/.kiro/skills"]],
  ["openclaw", ["", "~/.openclaw/skills"]],
  ["openhands", [".agents/skills .openhands/skills", "~/.openhands/skills"]],
  ["pi", [".pi/skills .agents/skills", "~/.pi/agent/skills ~/.agents/skills"]],
  ["qoder", [".qoder/skills", ""]],
  ["qwen", [".qwen/skills .agents/skills", "~/.qwen/skills ~/.agents/skills"]],
  ["trae", [".trae/skills", "~/.trae/skills"]],
  ["vibe", [".vibe/skills .agents/skills", "~/.vibe/skills"]],
  ["windsurf", [".windsurf/skills .agents/skills", "~/.codeium/windsurf/skills"]],
  ["zencoder", [".zencoder/skills", "~/.zencoder/skills"]],
]);

/** The agents that are always shown. */
const DEFAULT_AGENTS = ["claude", "opencode", "codex"];

/** The fields that front matter may have; source: the Agent Skills specification. */
const SKILL_FIELDS = ["name", "description", "license", "compatibility", "metadata", "allowed-tools"];

/** The number of files after which the search for nested skills ends. */
const MAX_FILES = 5_000;

const HELP = `skill-doctor ${VERSION}: shows which skills agents see, and validates skills
Usage: doctor.ts [show] [OPTION...] | validate DIR... [OPTION...]
  show              show the skills that each agent sees, and all problems (default)
  validate DIR...   validate skills against the Agent Skills specification
  -q, --quiet       print only problems
      --json        print one JSON object
  -h, --help; -V, --version
Exit status: 0 no problems, 1 problems, 2 wrong usage`;

// ── Interface ───────────────────────────────────────────────────────────────────────────────────────────────────────

/** A problem, or with less weight a warning. */
export interface Problem {
  file?: string; // the file or directory, if it is not the manifest
  line?: number; // from 1
  name?: string; // the skill's name
  message: string;
}

/** What a manifest asks for, as use-skills resolved it. */
export interface Desired {
  directory: string; // the real path of the project's or the home's directory
  manifest: string; // the path of the manifest
  global: boolean; // whether it is the home's manifest
  start: string; // the real path of the directory that agents are started in
  readable: boolean; // false: there is no manifest, or it cannot be read, and `problems` say why
  targets: { path: string; agents: string[]; skills: { name: string; line: number; source: string }[] }[];
  keptNames: string[]; // the names of entries that failed
  problems: Problem[]; // what sync would report about entries
  searchPath: string[]; // the directories in which skills are found by name
  store?: string; // the directory of fetched skills
  recorded?: string[]; // the paths of deployed skills that the lockfile records
}

// ── Helpers ─────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Returns what `read` returns, or `undefined` if it throws. */
function attempt<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch {
    return undefined;
  }
}

/** The message of an error, without the operating system's error number. */
function explain(error: unknown): string {
  return (error instanceof Error ? error.message : String(error)).replace(/ \(os error \d+\)[^]*/, "");
}

/** Whether something is at a path; a path that may not be examined counts. */
function exists(path: string): boolean {
  try {
    return Deno.lstatSync(path) !== undefined;
  } catch (error) {
    return !(error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory);
  }
}

function listNames(directory: string): string[] {
  return Array.from(Deno.readDirSync(directory), ({ name }) => name).sort();
}

/** Lists the files below a directory, as deep as agents look for skills. */
async function filesBelow(directory: string): Promise<string[]> {
  const { walk } = await load<typeof Fs>("jsr:@std/fs@^1/walk");
  const files: string[] = [];
  try {
    for await (const { path } of walk(directory, { maxDepth: 6, includeDirs: false })) {
      if (files.push(relative(directory, path)) > MAX_FILES) break;
    }
  } catch { // The rest is not readable.
  }
  return files.sort();
}

function isExecutable(path: string): boolean {
  const info = attempt(() => Deno.statSync(path));
  return info?.isFile === true && ((info.mode ?? 0) & 0o111) !== 0;
}

function realPath(path: string): string {
  return attempt(() => Deno.realPathSync(path)) ?? path;
}

function isInside(directory: string, path: string): boolean {
  return path === directory || path.startsWith(directory.replace(/\/?$/, "/"));
}

/** Expands `${VARIABLE:-default}` and `~`; relative paths are taken from `directory`. `undefined` if HOME is needed. */
function expand(path: string, directory: string): string | undefined {
  const expanded = path.replace(/^\$\{(\w+):-([^}]+)\}/, (_, variable, fallback) => {
    const value = Deno.env.get(variable) || fallback;
    return variable.startsWith("XDG_") && !value.startsWith("/") ? fallback : value;
  });
  if (!/^~(\/|$)/.test(expanded)) return resolve(directory, expanded);
  const home = Deno.env.get("HOME");
  return home ? resolve(home + expanded.slice(1)) : undefined;
}

/** Lists names, or the first six if there are more than eight. */
function someOf(names: readonly string[]): string {
  return names.length > 8 ? `${names.slice(0, 6).join(", ")} and ${names.length - 6} more` : names.join(", ");
}

function quote(value: string): string {
  return JSON.stringify(value.length > 200 ? `${value.slice(0, 200)}...` : value);
}

/** Replaces control characters and hidden characters, which could mislead a reader or a terminal. */
function escapeControls(text: string): string {
  const escape = (unit: string) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`;
  return text.replace(/[\p{C}\p{Zl}\p{Zp}]/gu, (character) => character.split("").map(escape).join(""));
}

/** A path as a person in the working directory would write it. */
function showPath(path: string, { directory, global }: Desired): string {
  const cwd = Deno.cwd();
  const isNear = isInside(cwd, path) || !global && isInside(directory, cwd) && isInside(directory, path);
  if (isNear) return relative(cwd, path) || ".";
  const home = Deno.env.get("HOME");
  return home && path !== home && isInside(home, path) ? `~/${relative(home, path)}` : path;
}

/** A path for a shell. */
function shellWord(path: string, desired: Desired): string {
  const shown = showPath(path, desired);
  return /^[\w./~+-]+$/.test(shown) ? shown : `'${path.replaceAll("'", `'\\''`)}'`;
}

// ── Specification ───────────────────────────────────────────────────────────────────────────────────────────────────

/** What a skill's `SKILL.md` says. */
interface Skill {
  violations: Problem[]; // of the specification
  unusable?: string; // why some agents ignore the skill
  name?: string; // in the front matter
  requires: string[]; // the programs in `metadata.requires`
  skills: string[]; // the skills in `metadata.skills`, which it requires, too
  text?: string; // of `SKILL.md`, if its front matter could be read
}

type ParseYaml = (text: string, options: { schema: "failsafe" }) => unknown;

/** A `SKILL.md` up to the end of its front matter; the group is the YAML. */
const FRONT_MATTER = /^\ufeff?---[ \t]*\r?\n([^]*?)(?<=\n)---[ \t]*(?:\r?\n|$)/;

/** Reads a text file; the cause of a `SyntaxError` is the number of the line. */
function readText(path: string): string {
  if (!Deno.statSync(path).isFile) throw new Error(`${basename(path)} is not a file`);
  const bytes = Deno.readFileSync(path);
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    const line = new TextDecoder().decode(bytes).split("\ufffd", 1)[0]?.split("\n").length;
    throw new SyntaxError("This line is not UTF-8", { cause: line });
  }
}

/** Reads front matter, every scalar as a string; the cause of a `SyntaxError` is the number of the line. */
function parseFrontMatter(text: string, parse: ParseYaml): Record<string, unknown> {
  const [, yaml] = text.match(FRONT_MATTER) ?? [];
  const isOpen = /^\ufeff?---/.test(text);
  if (yaml === undefined) throw new SyntaxError(`SKILL.md has ${isOpen ? "unclosed" : "no"} front matter`);
  let fields: unknown;
  try {
    fields = parse(yaml, { schema: "failsafe" });
  } catch (error) {
    const [, reason, line = 0] = /^(.*?)(?: at line (\d+).*)?$/m.exec(explain(error)) ?? [];
    throw new SyntaxError(`The front matter is not YAML: ${reason}`, { cause: Number(line) + 1 });
  }
  const isMapping = typeof fields === "object" && fields !== null && !Array.isArray(fields);
  if (!isMapping) throw new SyntaxError("The front matter is not a mapping", { cause: 2 });
  return fields as Record<string, unknown>;
}

/** The line of `SKILL.md` in which a field is; 1 if it is missing. */
function lineOf(field: string, text: string): number {
  const lines = text.match(FRONT_MATTER)?.[1]?.split("\n") ?? [];
  const indent = lines.find((line) => /^ *[^ #\r]/.test(line))?.match(/^ */)?.[0] ?? "";
  const isField = (line: string) => /^(["']?)(.*?)\1\s*:(?:\s|$)/.exec(line.slice(indent.length))?.[2] === field;
  const index = lines.findIndex((line) => line.startsWith(indent) && isField(line));
  return index === -1 ? 1 : index + 2;
}

/** A valid name; as in the specification's reference validator, letters and digits of any script are allowed. */
const NAME = /^(?!.{65})[\p{L}\p{N}]+(-[\p{L}\p{N}]+)*$/u;

/** Finds violations of the specification: the field, and what is wrong with it. */
function checkFields(fields: Record<string, unknown>, directoryName: string): [field: string, message: string][] {
  const isText = (value: unknown) => typeof value === "string" || value === null;
  const length = (value: unknown) => typeof value === "string" ? Array.from(value).length : 0;
  const isMissing = (value: unknown) => typeof value !== "string" || value.trim() === "";
  const name = isMissing(fields["name"]) ? undefined : `${fields["name"]}`.trim().normalize("NFKC");
  const isOther = name !== undefined && name !== directoryName.normalize("NFKC");
  const metadata = fields["metadata"] ?? {};
  const isTextMap = typeof metadata === "object" && !Array.isArray(metadata) && Object.values(metadata).every(isText);
  const nameRule = "1 to 64 lowercase letters, digits and single hyphens, none at the ends";
  const rules: [field: string, isViolated: boolean, message: string][] = [
    ["name", name === undefined, "SKILL.md has no name"],
    ["description", isMissing(fields["description"]), "SKILL.md has no description"],
    ["name", isOther, `The name is ${quote(name ?? "")}, but the directory is ${quote(directoryName)}`],
    [
      "name",
      name !== undefined && !(NAME.test(name) && name === name.toLowerCase()),
      `The name ${quote(name ?? "")} is not ${nameRule}`,
    ],
    ["metadata", !isTextMap, "The field metadata is not a mapping of strings to strings"],
  ];
  for (const [field, limit] of [["description", 1024], ["compatibility", 500]] as const) {
    const count = length(fields[field]);
    rules.push([field, count > limit, `The field ${field} has ${count} characters, over ${limit}`]);
  }
  for (const field of ["license", "compatibility", "allowed-tools"]) {
    rules.push([field, field in fields && !isText(fields[field]), `The field ${field} is not a string`]);
  }
  for (const field of Object.keys(fields)) {
    rules.push([field, !SKILL_FIELDS.includes(field), `Unknown field ${quote(field)}`]);
  }
  return rules.filter(([, isViolated]) => isViolated).map(([field, , message]) => [field, message]);
}

/** Reads the skill in a directory. */
async function inspectSkill(directory: string): Promise<Skill> {
  const { parse } = await load<typeof Yaml>("jsr:@std/yaml@^1/parse");
  const file = `${directory}/SKILL.md`;
  try {
    const text = readText(file);
    const fields = parseFrontMatter(text, parse);
    const violations = checkFields(fields, basename(directory)).map(([field, message]) => {
      return { file, line: lineOf(field, text), message };
    });
    const mark = "SKILL.md has a byte order mark, which Codex does not accept";
    if (text.startsWith("\ufeff")) violations.unshift({ file, line: 1, message: mark });
    const { requires, skills } = (fields["metadata"] ?? {}) as Record<string, unknown>;
    const words = (value: unknown) => typeof value === "string" ? value.split(/\s+/).filter(Boolean) : [];
    return {
      violations,
      unusable: violations.find(({ message }) => message.startsWith("SKILL.md has "))?.message,
      name: typeof fields["name"] === "string" && fields["name"].trim() || undefined,
      requires: words(requires),
      skills: words(skills),
      text,
    };
  } catch (error) {
    const isMissing = !exists(file);
    const other = isMissing && attempt(() => listNames(directory))?.find((name) => /^skill\.md$/i.test(name));
    const missing = `SKILL.md is missing${other ? `: rename ${quote(other)} to SKILL.md` : ""}`;
    const message = !exists(directory) ? "There is no such directory" : isMissing ? missing : explain(error);
    const line = error instanceof SyntaxError && Number(error.cause) || 1;
    const problem = isMissing ? { file: directory, message } : { file, line, message };
    return { violations: [problem], unusable: message, requires: [], skills: [] };
  }
}

/** What in Markdown has no links: comments and fenced code. */
const BLOCKS = /<!--[^]*?-->|^[ \t>*+\d.-]*(`{3,}(?=[^`\n]*$)|~{3,})[^]*?(?:^[ \t>]*\1[`~]*[ \t]*$|$(?![^]))/gm;

/** The targets of Markdown links: inline, and as definitions. */
const LINKS = /\]\(\s*(<[^<>]+>|(?:\([^\s()]*\)|[^\s()])+)|^ {0,3}\[(?!\^)[^\]]+\]:\s*(\S+)/g;

/** Targets that are not files of the skill: URLs, absolute paths, templates, quoted text. */
const OTHER_TARGETS = /^$|^([a-z][\w+.-]*:|~?\/|["'])|[{$]/i;

/** Finds what the specification allows, but what is probably a mistake. */
async function findWarnings(directory: string, text: string): Promise<Problem[]> {
  const file = `${directory}/SKILL.md`;
  const front = text.match(FRONT_MATTER)?.[0] ?? "";
  const firstLine = front.split("\n").length;
  const body = text.slice(front.length).trimEnd();
  const found: Problem[] = [];
  const lines = body.replace(BLOCKS, (block) => block.replace(/[^\n]/g, "")).split("\n");
  if (lines.length > 500) {
    const message = `The text has ${lines.length} lines, over 500, and agents read it all: move parts into other files`;
    found.push({ file, line: firstLine, message });
  }
  for (const [index, line] of lines.entries()) {
    const plain = /^( {4}|\t)/.test(line) ? "" : line.replace(/(`+).*?\1|\\[[\]]/g, "");
    for (const [, inline, definition = ""] of plain.matchAll(LINKS)) {
      const target = (inline ?? definition).replace(/^<|>$/g, "").replace(/[?#].*|:\d+$/, "");
      const path = resolve(directory, attempt(() => decodeURIComponent(target)) ?? target);
      if (OTHER_TARGETS.test(target) || exists(path)) continue;
      found.push({ file, line: firstLine + index, message: `The link target ${quote(target)} does not exist` });
    }
  }
  for (const name of await filesBelow(`${directory}/scripts`)) {
    const path = `${directory}/scripts/${name}`;
    if (isExecutable(path) || !attempt(() => Deno.readTextFileSync(path))?.startsWith("#!")) continue;
    found.push({ file: path, line: 1, message: "The script is not executable: chmod +x" });
  }
  return found;
}

// ── Ownership ───────────────────────────────────────────────────────────────────────────────────────────────────────

/** What use-skills creates under a name: a link, or with `copy` a copy with that git tree hash. */
type Form = { target: string; copy?: string };

/** An entry of a state file: what was created, earlier forms, and the manifests that want it (relative or absolute). */
type StateEntry = Form & { was?: Form[]; for: string[] };

/** Reads the state file of a target; a missing or damaged one has no entries. */
function readState(target: string): Map<string, StateEntry> {
  const text = attempt(() => Deno.readTextFileSync(`${target}/.use-skills.json`)) ?? "{}";
  const { version, entries } = attempt(() => JSON.parse(text)) ?? {};
  const known = version === 1 ? Object.entries<StateEntry>(entries ?? {}) : [];
  return new Map(known.filter(([, entry]) => typeof entry?.target === "string" && Array.isArray(entry.for)));
}

/** Whether a path still has the content that the state file records. */
async function isOwned(path: string, entry: StateEntry | undefined): Promise<boolean> {
  const forms = entry ? [entry, ...entry.was ?? []] : [];
  const link = attempt(() => Deno.readLinkSync(path));
  if (link !== undefined) return forms.some(({ target, copy }) => copy === undefined && target === link);
  if (!forms.some(({ copy }) => copy)) return false;
  const hash = await contentHash(path);
  return forms.some(({ copy }) => copy !== undefined && copy === hash);
}

/** The git tree hash of a directory, or `undefined` if it cannot be read. */
function contentHash(directory: string): Promise<string | undefined> {
  return treeHash(directory).catch(() => undefined);
}

const EMPTY_TREE = "4b825dc642cb6eb9a060e54bf8d69288fbee4904";

/** The hash that git gives the content of a directory. */
async function treeHash(directory: string): Promise<string> {
  const encoder = new TextEncoder();
  const entries: { key: string; content: Blob }[] = [];
  for (const { name, isDirectory, isSymlink, isFile } of Deno.readDirSync(directory)) {
    const path = `${directory}/${name}`;
    if (!isDirectory && !isSymlink && !isFile) throw new Error(`${quote(path)} is a special file`);
    const mode = isDirectory ? "40000" : isSymlink ? "120000" : isExecutable(path) ? "100755" : "100644";
    const hash = isDirectory
      ? await treeHash(path)
      : await objectHash("blob", new Blob([isSymlink ? Deno.readLinkSync(path) : Deno.readFileSync(path)]));
    if (isDirectory && hash === EMPTY_TREE) continue; // git has no empty directories
    const key = encoder.encode(isDirectory ? `${name}/` : name).toHex(); // git sorts by bytes, a directory as NAME/
    entries.push({ key, content: new Blob([`${mode} ${name}\0`, Uint8Array.fromHex(hash)]) });
  }
  entries.sort((a, b) => a.key < b.key ? -1 : 1);
  return await objectHash("tree", new Blob(entries.map(({ content }) => content)));
}

async function objectHash(type: string, content: Blob): Promise<string> {
  const object = await new Blob([`${type} ${content.size}\0`, content]).arrayBuffer();
  return new Uint8Array(await crypto.subtle.digest("SHA-1", object)).toHex();
}

function homeManifest(): string | undefined {
  return expand("${XDG_CONFIG_HOME:-~/.config}/use-skills/skills", "/");
}

/** Reads the target indexes of all projects, also of those that no longer exist. */
function* readTargetIndexes(): Generator<{ manifest: string; targets: string[] }> {
  const directory = expand("${XDG_STATE_HOME:-~/.local/state}/use-skills", "/") ?? "";
  for (const name of attempt(() => listNames(directory)) ?? []) {
    const { manifest, targets } = attempt(() => JSON.parse(Deno.readTextFileSync(`${directory}/${name}`))) ?? {};
    if (typeof manifest !== "string" || typeof targets !== "object") continue;
    const base = manifest === homeManifest() ? Deno.env.get("HOME") ?? "/" : dirname(manifest);
    yield { manifest, targets: Object.keys(targets ?? {}).map((path) => resolve(base, path)) };
  }
}

// ── Examination ──────────────────────────────────────────────────────────────────────────────────────────────────────

/** A skill that an agent sees. */
interface SeenSkill {
  entry: string; // its name in the agent's directory
  path: string;
  source: string; // the real path
  owned: boolean;
  name: string; // in the front matter, otherwise that of the entry
  requires: string[]; // names of skills
}

/** Whether the manifest has a name for any agent; `undefined` without a readable manifest. */
function isNamed(name: string, { readable, targets, keptNames }: Desired): boolean | undefined {
  if (!readable) return undefined;
  return keptNames.includes(name) || targets.some(({ skills }) => skills.some((skill) => skill.name === name));
}

/** The directories from the working directory up to the repo's root; the home is not a parent of its projects. */
function directoriesUp(directory: string): string[] {
  const parent = dirname(directory);
  const isHome = parent === realPath(Deno.env.get("HOME") ?? "/");
  const isLast = isHome || parent === directory || exists(`${directory}/.git`);
  return isLast ? [directory] : [directory, ...directoriesUp(parent)];
}

/** The directories that an agent reads, in the agent's order. */
function directoriesRead(agent: string, { targets, directory, start, global }: Desired): string[] {
  const [project = [], home = []] = (AGENTS.get(agent) ?? []).map((paths) => paths.split(" ").filter(Boolean));
  const directories = [
    ...global ? [] : directoriesUp(start).flatMap((parent) => project.map((path) => resolve(parent, path))),
    ...home.flatMap((path) => expand(path, directory) ?? []),
  ];
  const known = new Set(directories.map(realPath));
  const others = targets.filter(({ path, agents }) => agents.includes(agent) && !known.has(path));
  return [...new Set([...others.map(({ path }) => path), ...directories])];
}

/** The default agents, those of the manifest, and those whose own directory exists. */
function agentsToShow(desired: Desired): string[] {
  const common = new Set(DEFAULT_AGENTS.flatMap((agent) => directoriesRead(agent, desired)));
  const isInstalled = (paths: string) => {
    const own = paths && expand(paths.split(" ", 1)[0] ?? "", desired.directory);
    return own && !common.has(own) && exists(own);
  };
  const installed = [...AGENTS.keys()].filter((agent) => AGENTS.get(agent)?.some(isInstalled));
  return [...new Set([...DEFAULT_AGENTS, ...desired.targets.flatMap(({ agents }) => agents), ...installed])];
}

/** Lists `SKILL.md` files in subdirectories, as OpenCode and Codex do; "" if there are none. */
async function nestedSkills(directory: string): Promise<string> {
  const files = await filesBelow(directory);
  return someOf(files.filter((path) => path.endsWith("/SKILL.md") && !/(^|\/)\./.test(path)));
}

/** The closest parent directory that is a plugin. */
function pluginAbove(directory: string): string | undefined {
  if (exists(`${directory}/.claude-plugin/plugin.json`)) return directory;
  return directory === "/" ? undefined : pluginAbove(dirname(directory));
}

/** Finds what is wrong with a skill for some agents. */
async function skillProblems(directory: string, { unusable, requires }: Skill): Promise<string[]> {
  const found: string[] = [];
  if (unusable) found.push(`Some agents ignore this skill: ${unusable}`);
  if (attempt(() => Deno.lstatSync(`${directory}/SKILL.md`))?.isSymlink) {
    found.push("Codex ignores this skill, because SKILL.md is a link: replace it by the file");
  }
  const nested = await nestedSkills(directory);
  if (nested) {
    const fix = "move them out of this skill, or add entries for them";
    found.push(`OpenCode and Codex find nested skills (${nested}), Claude Code does not: ${fix}`);
  }
  const directories = (Deno.env.get("PATH") ?? "").split(":");
  const missing = requires.filter((name) => !directories.some((each) => isExecutable(resolve(each, name))));
  if (missing.length > 0) found.push(`Programs that this skill requires are not on the PATH: ${missing.join(", ")}`);
  return found;
}

/** How to repair a broken owned link; `undefined` if its manifest no longer exists, which is reported elsewhere. */
function repairLink(name: string, manifests: string[], desired: Desired): string | undefined {
  const isOwn = manifests.includes(desired.manifest);
  const manifest = isOwn ? desired.manifest : manifests.find(exists);
  if (manifest === undefined && !isNamed(name, desired)) return undefined;
  if (manifest === undefined || isOwn && isNamed(name, desired) === false) return "run use-skills.ts sync";
  return `restore the skill or remove its entry from ${showPath(manifest, desired)}, then sync${isOwn ? "" : " there"}`;
}

/** Examines an entry of a directory that agents read; returns the skill that they see. */
async function examineEntry(
  path: string,
  record: StateEntry | undefined,
  desired: Desired,
  problems: Problem[],
): Promise<SeenSkill | undefined> {
  const directory = dirname(path);
  const entry = basename(path);
  const report = (message: string, file = path): undefined => void problems.push({ file, name: entry, message });
  const owned = await isOwned(path, record) || desired.recorded?.includes(`${realPath(directory)}/${entry}`) === true;
  const link = attempt(() => resolve(realPath(directory), Deno.readLinkSync(path)));
  let source: string;
  let files: string[];
  try {
    source = Deno.realPathSync(path);
    if (!Deno.statSync(source).isDirectory) return undefined;
    files = listNames(source);
  } catch (error) {
    if (error instanceof Deno.errors.PermissionDenied) return report("Cannot read it: Permission denied");
    const manifests = record?.for.map((manifest) => resolve(realPath(directory), manifest)) ?? [];
    const fix = owned ? repairLink(entry, manifests, desired) : `rm ${shellWord(path, desired)}`;
    const target = quote(attempt(() => Deno.readLinkSync(path)) ?? "");
    return fix ? report(`The link to ${target} is broken: ${fix}`) : undefined;
  }
  if (!files.some((name) => /^skill\.md$/i.test(name))) {
    const nested = await nestedSkills(source);
    const fix = "move or link them directly into the agent's directory";
    if (nested) report(`OpenCode and Codex find nested skills (${nested}), Claude Code does not: ${fix}`);
    return undefined;
  }
  const skill = await inspectSkill(source);
  const isFetched = desired.store !== undefined && isInside(realPath(desired.store), source);
  for (const message of await skillProblems(source, skill)) report(message, isFetched ? path : source);
  if (!files.includes("SKILL.md")) return undefined;
  const plugin = pluginAbove(source);
  if (plugin !== undefined && directoriesRead("codex", desired).includes(directory)) {
    const isAbove = isInside(plugin, realPath(directory));
    const fix = isAbove ? "move the plugin elsewhere" : 'deploy with "mode copy" or by a git reference';
    report(`Codex adds the name of the plugin in ${showPath(plugin, desired)} to this skill's name: ${fix}`);
  }
  const isFoundByName = link !== undefined && desired.searchPath.map(realPath).includes(realPath(dirname(link)));
  if (isFoundByName && !owned && isNamed(entry, desired) === false && isInside(desired.directory, path)) {
    const manifest = showPath(desired.manifest, desired);
    report(`This link was not made by use-skills, and ${manifest} does not name it: rm ${shellWord(path, desired)}`);
  }
  return { entry, path, source, owned, name: skill.name ?? entry, requires: skill.skills };
}

/** Examines a directory that agents read; returns the skills that they see. */
async function examineDirectory(path: string, desired: Desired, problems: Problem[]): Promise<SeenSkill[]> {
  let entries: Deno.DirEntry[] = [];
  try {
    entries = [...Deno.readDirSync(path)].sort((a, b) => a.name < b.name ? -1 : 1);
  } catch (error) {
    const isFile = error instanceof Deno.errors.NotADirectory;
    const message = isFile ? "This must be a directory: move the file away" : `Cannot read it: ${explain(error)}`;
    if (!(error instanceof Deno.errors.NotFound) && exists(path)) problems.push({ file: path, message });
  }
  const state = readState(path);
  const skills: SeenSkill[] = [];
  for (const { name, isDirectory, isSymlink } of entries) {
    if (name.startsWith(".") || !isDirectory && !isSymlink) continue;
    const skill = await examineEntry(`${path}/${name}`, state.get(name), desired, problems);
    if (skill) skills.push(skill);
  }
  return skills;
}

/** Finds names under which an agent sees skills with different content. */
async function findDuplicates(agent: string, skills: readonly SeenSkill[], desired: Desired): Promise<Problem[]> {
  const problems: Problem[] = [];
  const nameOf = ({ entry, name }: SeenSkill) => agent === "claude" ? entry : name; // Claude Code goes by the directory
  for (const [name, [first, ...others]] of Map.groupBy(skills, nameOf)) {
    for (const other of others) {
      if (first === undefined || other.source === first.source) continue;
      const [hash, otherHash] = [await contentHash(first.source), await contentHash(other.source)];
      if (hash !== undefined && hash === otherHash) continue;
      const fix = 'remove one, or rename it in its SKILL.md and with "as NAME"';
      const message = `${agent} sees a different ${quote(name)} in ${showPath(first.path, desired)}: ${fix}`;
      problems.push({ file: other.path, name, message });
    }
  }
  return problems;
}

/** Finds skills that other skills require and that some agents don't see. */
function findMissingSkills(seen: ReadonlyMap<string, readonly SeenSkill[]>): Problem[] {
  const missing = new Map<string, { skill: SeenSkill; name: string; agents: string[] }>();
  for (const [agent, skills] of seen) {
    const names = new Set(skills.flatMap(({ entry, name }) => [entry, name]));
    for (const skill of skills) {
      for (const name of skill.requires.filter((name) => !names.has(name))) {
        const known = missing.get(`${skill.source} ${name}`) ?? { skill, name, agents: [] };
        missing.set(`${skill.source} ${name}`, { ...known, agents: [...known.agents, agent] });
      }
    }
  }
  return Array.from(missing.values(), ({ skill, name, agents }) => {
    const message = `This skill requires the skill ${quote(name)}, which ${agents.join(", ")} ${
      agents.length > 1 ? "do" : "does"
    } not see: add an entry for it`;
    return { file: skill.source, name: skill.entry, message };
  });
}

/** Finds what keeps Codex from working with `CODEX_HOME`. */
function examineCodexHome(desired: Desired): Problem[] {
  const file = Deno.env.get("CODEX_HOME") && resolve(desired.directory, Deno.env.get("CODEX_HOME") ?? "");
  if (!file) return [];
  const stat = (path: string) => attempt(() => Deno.statSync(path));
  if (!stat(file)?.isDirectory) {
    const fix = `${exists(file) ? "move it away, then " : ""}mkdir -p ${shellWord(file, desired)}`;
    return [{ file, message: `CODEX_HOME is not a directory, so Codex exits: ${fix}` }];
  }
  const [login = "", copy] = [expand("~/.codex/auth.json", "/"), `${file}/auth.json`];
  if (!stat(login) || stat(copy)) return [];
  const fix = `ln -sf ${shellWord(login, desired)} ${shellWord(copy, desired)}`;
  return [{ file, message: `Codex is logged in with ~/.codex, but not with this CODEX_HOME: ${fix}` }];
}

/** Finds what projects that no longer exist have deployed. */
async function examineGoneProjects(directories: Iterable<string>, desired: Desired): Promise<Problem[]> {
  const indexes = [...readTargetIndexes()].filter(({ manifest }) => !exists(manifest));
  const left = new Map<string, Set<string>>();
  for (const target of new Set([...directories, ...indexes.flatMap(({ targets }) => targets)].map(realPath))) {
    for (const [name, entry] of readState(target)) {
      const manifests = entry.for.map((manifest) => resolve(target, manifest));
      const path = `${target}/${name}`;
      // If this project names the entry, the project was moved here, and sync adopts the entry.
      if (manifests.some(exists) || isNamed(name, desired) || !await isOwned(path, entry)) continue;
      for (const manifest of manifests) left.set(manifest, (left.get(manifest) ?? new Set()).add(path));
    }
  }
  return Array.from(left, ([file, paths]) => {
    const isIndexed = indexes.some(({ manifest }) => manifest === file);
    const where = file === homeManifest() ? "--global" : `-C ${shellWord(dirname(file), desired)}`;
    const remove = `rm -r ${Array.from(paths, (path) => shellWord(path, desired)).join(" ")}`;
    const names = someOf([...new Set(Array.from(paths, (path) => basename(path)))]);
    const fix = isIndexed ? `use-skills.ts clean ${where}` : remove;
    return { file, message: `This manifest is gone, but not the skills that it deployed (${names}): ${fix}` };
  });
}

// ── Commands ─────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Prints a problem on standard error, its place in red on a terminal. */
function printProblem({ file, line, message }: Problem, desired: Desired, isWarning = false): void {
  const place = `${showPath(file ?? desired.manifest, desired)}:${line === undefined ? "" : `${line}:`}`;
  const isRed = !isWarning && Deno.stderr.isTerminal() && !Deno.env.get("NO_COLOR");
  const shown = isRed ? `\x1b[31m${escapeControls(place)}\x1b[39m` : escapeControls(place);
  console.error(`${shown} ${isWarning ? "Warning: " : ""}${escapeControls(message)}`);
}

function unique(problems: readonly Problem[]): Problem[] {
  return [...new Map(problems.map((each) => [`${each.file}:${each.line} ${each.message}`, each])).values()];
}

function jsonProblems(problems: readonly Problem[], { directory, manifest }: Desired) {
  return problems.map(({ file = manifest, line = null, name = null, message }) => {
    return { file: isInside(directory, file) ? relative(directory, file) || "." : file, line, name, message };
  });
}

function printJson(content: Record<string, unknown>, problems: readonly Problem[], desired: Desired): void {
  const result = { version: 1, directory: desired.directory, ...content, problems: jsonProblems(problems, desired) };
  for (const line of JSON.stringify(result, undefined, 2).split("\n")) console.log(escapeControls(line));
}

/** Shows what each agent sees, and all problems. */
async function show(desired: Desired, { json, quiet }: Flags): Promise<number> {
  const found = [...desired.problems];
  const seen = new Map<string, SeenSkill[]>();
  const seenBy = new Map<string, SeenSkill[]>();
  const agents = [];
  for (const agent of agentsToShow(desired)) {
    const paths = directoriesRead(agent, desired);
    for (const path of paths) if (!seen.has(path)) seen.set(path, await examineDirectory(path, desired, found));
    const directories = paths.map((path) => ({ path, skills: seen.get(path) ?? [] }))
      .filter(({ skills }) => skills.length > 0);
    agents.push({ agent, directories });
    seenBy.set(agent, directories.flatMap(({ skills }) => skills));
    found.push(...await findDuplicates(agent, seenBy.get(agent) ?? [], desired));
  }
  found.push(...findMissingSkills(seenBy));
  found.push(...examineCodexHome(desired), ...await examineGoneProjects(seen.keys(), desired));
  const problems = unique(found);
  if (json) printJson({ agents }, problems, desired);
  for (const { agent, directories } of json || quiet ? [] : agents) {
    console.log(directories.length > 0 ? agent : `${agent}\n  sees no skills`);
    for (const { path, skills } of directories) {
      console.log(escapeControls(`  ${showPath(path, desired)}`));
      const width = Math.max(...skills.map(({ entry }) => entry.length));
      for (const { entry, source, owned } of skills) {
        const line = `     ${entry.padEnd(width)}  ${showPath(source, desired)}${owned ? "" : " (not owned)"}`;
        console.log(escapeControls(line));
      }
    }
  }
  for (const problem of problems) printProblem(problem, desired);
  return problems.length > 0 ? 1 : 0;
}

/** Validates the skills in some directories, or without any those of the manifest. */
async function validate(words: readonly string[], desired: Desired, { json, quiet }: Flags): Promise<number> {
  const from = desired.global ? Deno.cwd() : desired.start;
  const isAll = words.length === 0;
  const directories = isAll
    ? desired.targets.flatMap(({ skills }) => skills.map(({ source }) => source))
    : words.map((word) => resolve(from, word).replace(/\/SKILL\.md$/, ""));
  const problems: Problem[] = isAll ? [...desired.problems] : [];
  const warnings: Problem[] = [];
  const skills = [];
  for (const path of new Set(directories)) {
    const { violations, text, name = null } = await inspectSkill(path);
    const [first] = violations;
    if (first?.file === path && attempt(() => listNames(path))?.some((name) => exists(`${path}/${name}/SKILL.md`))) {
      first.message += `: to validate the skills in its subdirectories, name ${shellWord(path, desired)}/*`;
    }
    problems.push(...violations);
    if (text !== undefined) warnings.push(...await findWarnings(path, text));
    skills.push({ name, path, valid: violations.length === 0 });
  }
  if (json) printJson({ skills, warnings: jsonProblems(warnings, desired) }, problems, desired);
  for (const warning of quiet ? [] : warnings) printProblem(warning, desired, true);
  for (const problem of problems) printProblem(problem, desired);
  const valid = skills.filter(({ valid }) => valid).length;
  if (!quiet) console.error(`${valid} of ${skills.length} skills are valid`);
  return problems.length > 0 ? 1 : 0;
}

class UsageError extends Error {}

type Flags = Record<"help" | "version" | "quiet" | "json", boolean>;

/** Reads the command line. */
async function readArguments(args: string[]): Promise<{ command: string; words: string[]; flags: Flags }> {
  const { parseArgs } = await load<typeof Cli>("jsr:@std/cli@^1/parse-args");
  const { _: [command = "show", ...words], ...flags } = parseArgs(args, {
    boolean: ["help", "version", "quiet", "json"],
    string: "_",
    alias: { h: "help", V: "version", q: "quiet" },
    unknown(argument: string, key?: string) {
      if (key !== undefined) throw new UsageError(`Unknown option ${quote(argument)}`);
    },
  });
  if (command !== "show" && command !== "validate") throw new UsageError(`Unknown command ${quote(`${command}`)}`);
  if (command === "show" && words[0]) throw new UsageError(`Unexpected ${quote(`${words[0]}`)} after show`);
  return { command, words: words.map(String), flags: flags as Flags };
}

/** What is known without use-skills: the project is the repo around the working directory. */
function withoutManifest(): Desired {
  const start = Deno.realPathSync(".");
  const directory = directoriesUp(start).find((each) => exists(`${each}/.git`)) ?? start;
  const nothing = { readable: false, targets: [], keptNames: [], problems: [], searchPath: [] };
  const store = expand("${XDG_DATA_HOME:-~/.local/share}/use-skills/store", "/");
  return { directory, manifest: `${directory}/.skills`, global: false, start, store, ...nothing };
}

/**
 * Runs the program.
 *
 * @param args The arguments: `show` or `validate DIR...`, and options.
 * @param desired What a manifest asks for. Without it, only the file system is examined.
 * @returns The exit status: 0 no problems, 1 problems, 2 wrong usage.
 */
export async function main(args: string[], desired?: Desired): Promise<number> {
  try {
    const { command, words, flags } = await readArguments(args);
    if (flags.help || flags.version) {
      console.log(flags.help ? HELP : VERSION);
      return 0;
    }
    if (command === "show") return await show(desired ?? withoutManifest(), flags);
    if (!desired && words.length === 0) throw new UsageError("Usage: doctor.ts validate DIR...");
    return await validate(words, desired ?? withoutManifest(), flags);
  } catch (error) {
    console.error(escapeControls(`skill-doctor: ${explain(error)}`));
    return error instanceof UsageError ? 2 : 1;
  }
}

if (import.meta.main) Deno.exit(await main(Deno.args));
