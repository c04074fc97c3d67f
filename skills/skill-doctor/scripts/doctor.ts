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
export const VERSION = "0.2.0";

interface Agent {
  project: string; // the directories that it reads in each directory from the working directory up to the repo's root
  home: string; // the directories that it reads in the home and elsewhere
  /** How this is known: a test with the real program, an observation of it, or its documentation. */
  source: "test" | "observed" | "documentation";
  readsParents?: false; // it reads its project directories in the working directory only
}

/**
 * The directories that each agent reads, separated by spaces. `${VARIABLE:-default}` and `~` are expanded as in a shell.
 * An agent with a test has {@linkcode RULES} of its own, if it differs from {@linkcode COMMON_RULES}.
 */
export const AGENTS: Readonly<Record<string, Agent>> = {
  claude: { project: ".claude/skills", home: "${CLAUDE_CONFIG_DIR:-~/.claude}/skills", source: "test" },
  opencode: {
    project: ".opencode/skills .opencode/skill .claude/skills .agents/skills",
    home: "${XDG_CONFIG_HOME:-~/.config}/opencode/skills ${XDG_CONFIG_HOME:-~/.config}/opencode/skill " +
      "~/.opencode/skills ~/.opencode/skill ${OPENCODE_CONFIG_DIR:-~/.opencode}/skills ~/.claude/skills ~/.agents/skills",
    source: "test",
  },
  codex: {
    project: ".agents/skills .codex/skills",
    home: "${CODEX_HOME:-~/.codex}/skills ~/.agents/skills /etc/codex/skills",
    source: "test",
  },
  agents: { project: ".agents/skills", home: "~/.agents/skills", source: "documentation" },
  amp: { project: ".agents/skills", home: "${XDG_CONFIG_HOME:-~/.config}/agents/skills", source: "documentation" },
  antigravity: { project: ".agents/skills", home: "~/.gemini/antigravity/skills", source: "documentation" },
  augment: { project: ".augment/skills .agents/skills", home: "~/.augment/skills", source: "documentation" },
  cline: {
    project: ".cline/skills .clinerules/skills .agents/skills",
    home: "~/.cline/skills ~/.agents/skills",
    source: "observed",
  },
  codebuddy: { project: ".codebuddy/skills", home: "~/.codebuddy/skills", source: "documentation" },
  continue: { project: ".continue/skills .claude/skills", home: "~/.continue/skills", source: "observed" },
  copilot: {
    project: ".github/skills .agents/skills .claude/skills",
    home: "~/.copilot/skills ~/.agents/skills",
    source: "test",
  },
  crush: {
    project: ".crush/skills .agents/skills .claude/skills .cursor/skills",
    home: "${XDG_CONFIG_HOME:-~/.config}/crush/skills",
    source: "documentation",
  },
  cursor: {
    project: ".cursor/skills .agents/skills .claude/skills .codex/skills",
    home: "~/.cursor/skills",
    source: "documentation",
  },
  devin: { project: ".devin/skills .windsurf/skills .agents/skills", home: "", source: "documentation" },
  droid: { project: ".factory/skills .agents/skills", home: "~/.factory/skills", source: "documentation" },
  gemini: {
    project: ".gemini/skills .agents/skills",
    home: "~/.gemini/skills ~/.agents/skills",
    source: "test",
    readsParents: false,
  },
  goose: {
    project: ".agents/skills .goose/skills",
    home: "~/.agents/skills ${XDG_CONFIG_HOME:-~/.config}/goose/skills",
    source: "documentation",
  },
  grok: { project: ".grok/skills", home: "", source: "documentation" },
  hermes: { project: "", home: "~/.hermes/skills", source: "documentation" },
  junie: { project: ".junie/skills", home: "~/.junie/skills", source: "documentation" },
  kilo: { project: ".kilo/skills .agents/skills", home: "~/.kilo/skills", source: "documentation" },
  kiro: { project: ".kiro/skills", home: "~/.kiro/skills", source: "documentation" },
  openclaw: { project: "", home: "~/.openclaw/skills", source: "documentation" },
  openhands: { project: ".agents/skills .openhands/skills", home: "~/.openhands/skills", source: "documentation" },
  pi: { project: ".pi/skills .agents/skills", home: "~/.pi/agent/skills ~/.agents/skills", source: "observed" },
  qoder: { project: ".qoder/skills", home: "", source: "documentation" },
  qwen: { project: ".qwen/skills .agents/skills", home: "~/.qwen/skills ~/.agents/skills", source: "test" },
  trae: { project: ".trae/skills", home: "~/.trae/skills", source: "documentation" },
  vibe: { project: ".vibe/skills .agents/skills", home: "~/.vibe/skills", source: "documentation" },
  windsurf: { project: ".windsurf/skills .agents/skills", home: "~/.codeium/windsurf/skills", source: "documentation" },
  zencoder: { project: ".zencoder/skills", home: "~/.zencoder/skills", source: "documentation" },
};

/** Variables that keep OpenCode from reading directories, everywhere or in a project; source: tests with the real program. */
const OPENCODE_SWITCHES:
  readonly (readonly [variable: string, where: "everywhere" | "project", directories: RegExp])[] = [
    ["OPENCODE_DISABLE_CLAUDE_CODE", "everywhere", /\/\.claude\/skills$/],
    ["OPENCODE_DISABLE_CLAUDE_CODE_SKILLS", "everywhere", /\/\.claude\/skills$/],
    ["OPENCODE_DISABLE_EXTERNAL_SKILLS", "everywhere", /\/\.(claude|agents)\/skills$/],
    ["OPENCODE_DISABLE_PROJECT_CONFIG", "project", /\/\.opencode\/skills?$/],
  ];

/** The agents that are always shown. */
const DEFAULT_AGENTS = ["claude", "opencode", "codex"];

/** The fields that front matter may have; source: the Agent Skills specification. */
const SKILL_FIELDS = ["name", "description", "license", "compatibility", "metadata", "allowed-tools"];

/** The number of files in a skill after which the search for nested skills ends. */
const MAX_FILES = 5_000;

/** The size limits of a text that agents read, and of a state file. */
const MAX_BYTES = 4 * 2 ** 20;
const MAX_STATE_BYTES = 8 * 2 ** 20;

const help = () =>
  `skill-doctor ${VERSION}: shows which skills agents see, and validates skills
Usage: doctor.ts [show] [OPTION...] | validate DIR... [OPTION...]
  show              show the skills that each agent sees, and problems (default)
  validate DIR...   validate skills against the Agent Skills specification
      --ask         start installed agents and ask them what they see:
                    ${Object.keys(QUESTIONS).join(", ")}
      --yes         don't ask whether --ask may start them
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
  agents?: string[]; // the agents that it affects
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
  origins?: Readonly<Record<string, string>>; // what was fetched, as REPO@COMMIT, by its directory in the store
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
  fault?: string; // why agents can't read the front matter
  fields: Record<string, unknown>; // of the front matter, as agents read it
  hasMark: boolean; // whether there is a byte order mark
  requires: string[]; // the programs in `metadata.requires`
  skills: string[]; // the skills in `metadata.skills`, which it requires, too
  text?: string; // of `SKILL.md`, if its front matter could be read
}

type Schema = "failsafe" | "default"; // every scalar as a string, or as YAML sees it
type ParseYaml = (text: string, options: { schema: Schema }) => unknown;

/** A `SKILL.md` up to the end of its front matter; the group is the YAML. */
const FRONT_MATTER = /^\ufeff?---[ \t]*\r?\n([^]*?)(?<=\n)---[ \t]*(?:\r?\n|$)/;

/**
 * Reads a text file; the cause of a `SyntaxError` is the number of the line. Everything is read through this: a repo can
 * contain a link to a device, which has no end.
 */
function readText(path: string, maxBytes = MAX_BYTES): string {
  const { isFile, size } = Deno.statSync(path);
  if (!isFile) throw new Error(`${basename(path)} is not a file`);
  if (size > maxBytes) throw new Error(`${basename(path)} has more than ${maxBytes / 2 ** 20} MiB`);
  const bytes = Deno.readFileSync(path);
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    const line = new TextDecoder().decode(bytes).split("\ufffd", 1)[0]?.split("\n").length;
    throw new SyntaxError("This line is not UTF-8", { cause: line });
  }
}

/** Reads front matter; the cause of a `SyntaxError` is the number of the line. */
function parseFrontMatter(text: string, parse: ParseYaml, schema: Schema = "failsafe"): Record<string, unknown> {
  const [, yaml] = text.match(FRONT_MATTER) ?? [];
  const isOpen = /^\ufeff?---/.test(text);
  if (yaml === undefined) throw new SyntaxError(`SKILL.md has ${isOpen ? "unclosed" : "no"} front matter`);
  let fields: unknown;
  try {
    fields = parse(yaml, { schema });
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

/** Reads the skill in a directory. `name` is the name of the directory in which agents find it. */
async function inspectSkill(directory: string, name = basename(directory)): Promise<Skill> {
  const { parse } = await load<typeof Yaml>("jsr:@std/yaml@^1/parse");
  const file = `${directory}/SKILL.md`;
  try {
    const text = readText(file);
    const fields = parseFrontMatter(text, parse);
    const violations = checkFields(fields, name).map(([field, message]) => {
      return { file, line: lineOf(field, text), message };
    });
    const mark = "SKILL.md has a byte order mark, which Codex does not accept";
    if (text.startsWith("\ufeff")) violations.unshift({ file, line: 1, message: mark });
    return { ...asAgentsRead(text, parse), violations, text };
  } catch (error) {
    const isMissing = !exists(file);
    const other = isMissing && attempt(() => listNames(directory))?.find((name) => /^skill\.md$/i.test(name));
    const missing = `SKILL.md is missing${other ? `: rename ${quote(other)} to SKILL.md` : ""}`;
    const message = !exists(directory) ? "There is no such directory" : isMissing ? missing : explain(error);
    const line = error instanceof SyntaxError && Number(error.cause) || 1;
    const problem = isMissing ? { file: directory, message } : { file, line, message };
    const text = attempt(() => readText(file));
    return { ...asAgentsRead(text ?? "", parse), ...text === undefined && { fault: message }, violations: [problem] };
  }
}

/** What agents find in front matter. They accept `description: a: b`, which strictly isn't YAML. */
function asAgentsRead(text: string, parse: ParseYaml): Omit<Skill, "violations"> {
  const quoted = text.replace(
    /^([\w-]+):[ \t]+([^"'|>\s].*: .*)$/gm,
    (_, key, value) => `${key}: ${JSON.stringify(value)}`,
  );
  let fields: Record<string, unknown> = {};
  let fault: string | undefined;
  try {
    fields = attempt(() => parseFrontMatter(text, parse, "default")) ?? parseFrontMatter(quoted, parse, "default");
  } catch (error) {
    fault = explain(error);
  }
  const metadata = (fields["metadata"] ?? {}) as Record<string, unknown>;
  const words = (value: unknown) => typeof value === "string" ? value.split(/\s+/).filter(Boolean) : [];
  const hasMark = text.startsWith("\ufeff");
  return { fault, fields, hasMark, requires: words(metadata["requires"]), skills: words(metadata["skills"]) };
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
      const wrong = isInside(directory, path)
        ? "does not exist"
        : 'is outside the skill and not there: "mode copy" deploys skills next to each other';
      found.push({ file, line: firstLine + index, message: `The link target ${quote(target)} ${wrong}` });
    }
  }
  for (const name of await filesBelow(`${directory}/scripts`)) {
    const path = `${directory}/scripts/${name}`;
    if (isExecutable(path) || !attempt(() => readText(path))?.startsWith("#!")) continue;
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
  const text = attempt(() => readText(`${target}/.use-skills.json`, MAX_STATE_BYTES)) ?? "{}";
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

const hashes = new Map<string, Promise<string | undefined>>();

/** The git tree hash of a directory, or `undefined` if it cannot be read. */
function contentHash(directory: string): Promise<string | undefined> {
  const hash = hashes.get(directory) ?? treeHash(directory).catch(() => undefined);
  hashes.set(directory, hash);
  return hash;
}

async function isSameContent(directory: string, other: string): Promise<boolean> {
  const hash = await contentHash(directory);
  return hash !== undefined && hash === await contentHash(other);
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
    const { manifest, targets } = attempt(() => JSON.parse(readText(`${directory}/${name}`, MAX_STATE_BYTES))) ?? {};
    if (typeof manifest !== "string" || typeof targets !== "object") continue;
    const base = manifest === homeManifest() ? Deno.env.get("HOME") ?? "/" : dirname(manifest);
    yield { manifest, targets: Object.keys(targets ?? {}).map((path) => resolve(base, path)) };
  }
}

// ── Agents ──────────────────────────────────────────────────────────────────────────────────────────────────────────

/** A skill in a directory that agents read. */
interface Found {
  directory: string; // the directory that agents read
  entry: string; // the skill's path in it
  path: string;
  source: string; // the real path
  isLinked: boolean; // whether SKILL.md is a link
  owned: boolean;
  skill: Skill;
}

/** A skill that an agent sees. */
interface Seen {
  name: string; // as the agent calls it
  path: string;
  source: string;
  owned: boolean;
  description: string;
  requires: string[]; // names of skills
}

/** How an agent finds skills in the directories that it reads, and which of them it uses. */
interface Rules {
  depth: number; // how deep in a directory SKILL.md may be
  /** Whether it looks into entries that begin with a dot. */
  seesDots(directory: string): boolean;
  nameOf(found: Found): string;
  /** Why it ignores a skill, if it does. */
  rejects(found: Found): string | undefined;
  duplicates: "home first" | "any" | "all"; // what it uses of different skills with one name
  budget?: { total: number; each: number }; // how many characters of names and descriptions its model gets
}

const NO_DESCRIPTION = "SKILL.md has no description";

const frontMatterName = ({ skill: { fields }, path }: Found) => `${fields["name"] ?? ""}`.trim() || basename(path);

/** The rules of agents that no test verifies: those of the specification. */
const COMMON_RULES: Rules = {
  depth: 1,
  seesDots: () => false,
  nameOf: frontMatterName,
  rejects: ({ skill: { fault, fields } }) => fault ?? (fields["description"] ? undefined : NO_DESCRIPTION),
  duplicates: "any",
};

/** The rules of other agents; source: tests with the real programs. */
const RULES: Readonly<Record<string, Rules>> = {
  claude: {
    depth: 1,
    seesDots: () => true,
    nameOf: ({ entry }) => entry,
    rejects: () => undefined,
    duplicates: "home first",
    budget: { total: 8_000, each: 1_536 },
  },
  opencode: {
    depth: Infinity,
    seesDots: (directory) => /\/\.(claude|agents)\/skills$/.test(directory),
    nameOf: ({ skill }) => `${skill.fields["name"]}`,
    rejects({ skill: { fault, fields } }) {
      const wrong = ["name", "description"].find((field) => !["string", "undefined"].includes(typeof fields[field]));
      if (fault) return fault;
      if (fields["name"] === undefined) return "SKILL.md has no name";
      return wrong && `The ${wrong} is not a text: write it in quotes`;
    },
    duplicates: "any",
  },
  codex: {
    depth: 6,
    seesDots: () => false,
    nameOf(found) {
      const plugin = pluginAbove(found.source);
      return `${plugin ? `${plugin.name}:` : ""}${frontMatterName(found)}`;
    },
    rejects(found) {
      const { isLinked, skill } = found;
      const length = frontMatterName(found).length;
      if (isLinked) return "SKILL.md is a link: replace it by the file";
      if (skill.hasMark) return "SKILL.md has a byte order mark: remove it";
      if (skill.fault) return skill.fault;
      if (!skill.fields["description"]) return NO_DESCRIPTION;
      if (typeof (skill.fields["metadata"] ?? {}) !== "object") return "The field metadata is not a mapping";
      return length > 64 ? `The name has ${length} characters, over 64` : undefined;
    },
    duplicates: "all",
    budget: { total: 8_000, each: Infinity },
  },
};

function rulesOf(agent: string): Rules {
  return RULES[agent] ?? COMMON_RULES;
}

/** The closest parent directory that is a plugin, and the plugin's name. */
function pluginAbove(directory: string): { directory: string; name: string } | undefined {
  const text = attempt(() => readText(`${directory}/.claude-plugin/plugin.json`));
  if (text !== undefined) return { directory, name: attempt(() => JSON.parse(text).name) ?? basename(directory) };
  return directory === "/" ? undefined : pluginAbove(dirname(directory));
}

/** The directories from the working directory up to the repo's root; the home is not a parent of its projects. */
function directoriesUp(directory: string): string[] {
  const parent = dirname(directory);
  const isHome = parent === realPath(Deno.env.get("HOME") ?? "/");
  const isLast = isHome || parent === directory || exists(`${directory}/.git`);
  return isLast ? [directory] : [directory, ...directoriesUp(parent)];
}

/** The main checkout of a linked worktree, which Claude Code reads if the worktree has no skills of its own. */
function mainCheckout(worktree: string): string | undefined {
  const [, gitDirectory] = /^gitdir: (.*)/.exec(attempt(() => readText(`${worktree}/.git`)) ?? "") ?? [];
  const common = gitDirectory && attempt(() => readText(`${resolve(worktree, gitDirectory)}/commondir`));
  return gitDirectory && common ? dirname(resolve(worktree, gitDirectory, common.trim())) : undefined;
}

/** The directories that an agent reads, in the agent's order. */
function directoriesRead(agent: string, { targets, directory, start, global }: Desired): string[] {
  const { project = "", home = "", readsParents = true } = AGENTS[agent] ?? {};
  const inHome = home.split(" ").filter(Boolean).flatMap((path) => expand(path, directory) ?? []);
  const parents = global ? [] : readsParents ? directoriesUp(start) : [start];
  const inProject = parents.flatMap((parent) =>
    project.split(" ").filter(Boolean).map((path) => resolve(parent, path))
  );
  if (agent === "claude" && !inProject.some(exists)) {
    const main = mainCheckout(parents.at(-1) ?? "/");
    if (main) inProject.push(`${main}/.claude/skills`);
  }
  const known = rulesOf(agent).duplicates === "home first" ? [...inHome, ...inProject] : [...inProject, ...inHome];
  const isKnown = new Set(known.map(realPath));
  const others = readsParents ? targets.filter(({ path, agents }) => agents.includes(agent) && !isKnown.has(path)) : [];
  const isOff = (path: string) =>
    agent === "opencode" &&
    OPENCODE_SWITCHES.some(([variable, where, directories]) =>
      !/^(|0|false|no)$/i.test(Deno.env.get(variable) ?? "") && directories.test(path) &&
      (where === "everywhere" || inProject.includes(path))
    );
  return [...new Set([...others.map(({ path }) => path), ...known])].filter((path) => !isOff(path));
}

/** The default agents, those of the manifest, and those whose own directory exists. */
function agentsToShow(desired: Desired): string[] {
  const common = new Set(DEFAULT_AGENTS.flatMap((agent) => directoriesRead(agent, desired)));
  const isInstalled = (paths: string) => {
    const own = paths && expand(paths.split(" ", 1)[0] ?? "", desired.directory);
    return own && !common.has(own) && exists(own);
  };
  const installed = Object.keys(AGENTS).filter((agent) => {
    const { project, home } = AGENTS[agent]!;
    return isInstalled(project) || isInstalled(home);
  });
  return [...new Set([...DEFAULT_AGENTS, ...desired.targets.flatMap(({ agents }) => agents), ...installed])];
}

/** Whether an agent finds a skill in a directory that it reads, be it to ignore it. */
function isFoundBy(agent: string, { directory, entry }: Found): boolean {
  const { depth, seesDots } = rulesOf(agent);
  const level = entry === "" ? 0 : entry.split("/").length;
  return level <= depth && (level > 0 || depth > 1) && (!/(^|\/)\./.test(entry) || seesDots(directory));
}

/** What an agent sees, without asking it. */
function skillsSeenBy(agent: string, directories: readonly string[], found: ReadonlyMap<string, Found[]>): Seen[] {
  const { rejects, nameOf } = rulesOf(agent);
  const seen = new Map<string, Seen>(); // one real path is used once
  for (const each of directories.flatMap((directory) => found.get(directory) ?? [])) {
    const { path, source, owned, skill } = each;
    if (!isFoundBy(agent, each) || rejects(each) || seen.has(source)) continue;
    const description = `${skill.fields["description"] ?? ""}`;
    seen.set(source, { name: nameOf(each), path, source, owned, description, requires: skill.skills });
  }
  return [...seen.values()];
}

// ── Examination ──────────────────────────────────────────────────────────────────────────────────────────────────────

/** Whether the manifest has a name for any agent; `undefined` without a readable manifest. */
function isNamed(name: string, { readable, targets, keptNames }: Desired): boolean | undefined {
  if (!readable) return undefined;
  return keptNames.includes(name) || targets.some(({ skills }) => skills.some((skill) => skill.name === name));
}

/** How to repair a broken owned link; `undefined` if its manifest no longer exists, which is reported elsewhere. */
function repairLink(name: string, manifests: string[], desired: Desired): string | undefined {
  const isOwn = manifests.includes(desired.manifest);
  const manifest = isOwn ? desired.manifest : manifests.find(exists);
  if (manifest === undefined && !isNamed(name, desired)) return undefined;
  if (manifest === undefined || isOwn && isNamed(name, desired) === false) return "run use-skills.ts sync";
  return `restore the skill or remove its entry from ${showPath(manifest, desired)}, then sync${isOwn ? "" : " there"}`;
}

/** Finds what is wrong with an entry of a directory that agents read, apart from the skill in it. */
function entryProblem(path: string, record: StateEntry | undefined, owned: boolean, desired: Desired) {
  const [directory, entry] = [dirname(path), basename(path)];
  const text = attempt(() => Deno.readLinkSync(path));
  let files: string[];
  try {
    if (!Deno.statSync(path).isDirectory) return undefined;
    files = listNames(path);
  } catch (error) {
    if (error instanceof Deno.errors.PermissionDenied) return "Cannot read it: Permission denied";
    const manifests = record?.for.map((manifest) => resolve(realPath(directory), manifest)) ?? [];
    const fix = owned ? repairLink(entry, manifests, desired) : `rm ${shellWord(path, desired)}`;
    return fix && `The link to ${quote(text ?? "")} is broken: ${fix}`;
  }
  const wrong = files.find((name) => /^skill\.md$/i.test(name));
  if (wrong && !files.includes("SKILL.md")) {
    return `No agent uses this skill: SKILL.md is missing: rename ${quote(wrong)} to SKILL.md`;
  }
  const link = text && resolve(realPath(directory), text);
  const isFoundByName = link && desired.searchPath.map(realPath).includes(realPath(dirname(link)));
  if (!isFoundByName || owned || isNamed(entry, desired) !== false || !isInside(desired.directory, path)) {
    return undefined;
  }
  const manifest = showPath(desired.manifest, desired);
  return `This link was not made by use-skills, and ${manifest} does not name it: rm ${shellWord(path, desired)}`;
}

/** Finds the skills in a directory that some agents read, also in subdirectories and behind links. */
async function findSkills(
  directory: string,
  readers: string[],
  desired: Desired,
  problems: Problem[],
): Promise<Found[]> {
  const found: Found[] = [];
  const records = readState(directory);
  let files = 0; // of one entry of the directory
  const search = async (entry: string, above: readonly string[]) => {
    const path = resolve(directory, entry);
    const source = realPath(path);
    if (above.includes(source)) return; // a link to a parent directory
    const entries = attempt(() => [...Deno.readDirSync(path)].sort((a, b) => a.name < b.name ? -1 : 1)) ?? [];
    for (const { name, isDirectory, isSymlink } of entries) {
      if (entry === "") files = 0;
      const top = entry.split("/", 1)[0] || name;
      if (files++ > MAX_FILES) {
        const message = `It has more than ${MAX_FILES} files, so skills in it may be missing here: move them out`;
        problems.push({ file: `${directory}/${top}`, name: top, agents: readers, message });
        return;
      }
      const inner = `${entry}${entry && "/"}${name}`;
      if (name === "SKILL.md") {
        const owned = await isOwnedEntry(top);
        found.push({ directory, entry, path, source, isLinked: isSymlink, owned, skill: await inspectSkill(source) });
      } else if (isDirectory || isSymlink) {
        const message = entry === "" && !name.startsWith(".") &&
          entryProblem(`${path}/${name}`, records.get(name), await isOwnedEntry(name), desired);
        if (message) problems.push({ file: `${path}/${name}`, name, agents: readers, message });
        await search(inner, [...above, source]);
      }
    }
  };
  const known = new Map<string, boolean>();
  const isOwnedEntry = async (name: string) => {
    const isRecorded = desired.recorded?.includes(`${realPath(directory)}/${name}`) === true;
    const owned = known.get(name) ?? (isRecorded || await isOwned(`${directory}/${name}`, records.get(name)));
    known.set(name, owned);
    return owned;
  };
  try {
    Deno.readDirSync(directory).next();
    await search("", []);
  } catch (error) {
    const isFile = error instanceof Deno.errors.NotADirectory;
    const message = isFile ? "This must be a directory: move the file away" : `Cannot read it: ${explain(error)}`;
    if (!(error instanceof Deno.errors.NotFound) && exists(directory)) {
      problems.push({ file: directory, agents: readers, message });
    }
  }
  return found;
}

/** The path that is reported for a skill: what is in the store can't be changed there. */
function placeOf({ path, source }: { path: string; source: string }, { store }: Desired): string {
  return store !== undefined && isInside(realPath(store), source) ? path : source;
}

/** Finds what is wrong with skills. */
function skillProblems(views: readonly View[], found: ReadonlyMap<string, Found[]>, desired: Desired): Problem[] {
  const problems: Problem[] = [];
  const add = (each: Found, agents: string[], message: string, file = placeOf(each, desired)) => {
    if (agents.length > 0) problems.push({ file, name: basename(each.entry), agents, message });
  };
  for (const [directory, skills] of found) {
    const readers = views.filter(({ directories }) => directories.includes(directory)).map(({ agent }) => agent);
    for (const each of skills) {
      const { skill, source } = each;
      const finders = readers.filter((agent) => isFoundBy(agent, each));
      for (const [reason, agents] of Map.groupBy(finders, (agent) => rulesOf(agent).rejects(each))) {
        if (reason) add(each, agents, `Ignored: ${reason}`);
      }
      const isUntold = !skill.fault && skill.fields["description"] === undefined && skill.fields["name"] !== undefined;
      const untold = finders.filter((agent) => agent === "opencode" && isUntold);
      add(each, untold, `Its model is not told about this skill: ${NO_DESCRIPTION}`);
      const missing = skill.requires.filter((name) => !isOnPath(name)).join(", ");
      if (missing) add(each, finders, `Programs that this skill requires are not on the PATH: ${missing}`);
      const plugin = finders.includes("codex") ? pluginAbove(source) : undefined;
      if (!plugin) continue;
      const isAbove = isInside(plugin.directory, realPath(directory));
      const fix = isAbove ? "move the plugin elsewhere" : 'deploy with "mode copy" or by a git reference';
      const place = showPath(plugin.directory, desired);
      add(each, ["codex"], `The name of the plugin in ${place} is added to this skill's name: ${fix}`, each.path);
    }
    const deep = skills.filter(({ entry }) => entry.includes("/") && !/(^|\/)\./.test(entry));
    for (const [top, nested] of Map.groupBy(deep, ({ entry }) => entry.split("/", 1)[0]!)) {
      const path = `${directory}/${top}`;
      const finders = readers.filter((agent) => rulesOf(agent).depth > 1);
      const list = someOf(nested.map(({ entry }) => `${entry.slice(top.length + 1)}/SKILL.md`));
      const message = `Nested skills (${list}) are found by these agents only: move them out, or add entries for them`;
      add({ ...nested[0]!, path, source: realPath(path), entry: top }, finders, message);
    }
  }
  return problems;
}

function isOnPath(program: string): boolean {
  return (Deno.env.get("PATH") ?? "").split(":").some((directory) => isExecutable(resolve(directory, program)));
}

/** Finds names under which an agent has skills with different content. */
async function findDuplicates(views: readonly View[], desired: Desired): Promise<Problem[]> {
  const problems: Problem[] = [];
  for (const { agent, seen } of views) {
    for (const [name, [first, ...others]] of Map.groupBy(seen, ({ name }) => name)) {
      for (const { path, source } of others) {
        if (await isSameContent(first!.source, source)) continue;
        const place = showPath(first!.path, desired);
        const fix = 'remove one, or rename it in its SKILL.md and with "as NAME"';
        const message = `A different ${quote(name)} is in ${place}: ${fix}`;
        problems.push({ file: path, name, agents: [agent], message });
      }
    }
  }
  return problems;
}

/** Finds skills that other skills require and that some agents don't see. */
function findMissingSkills(views: readonly View[]): Problem[] {
  return views.flatMap(({ agent, seen }) => {
    const names = new Set(seen.flatMap(({ path, name }) => [basename(path), name]));
    return seen.flatMap(({ path, source, requires }) =>
      requires.filter((name) => !names.has(name)).map((name): Problem => {
        const message = `This skill requires the skill ${quote(name)}, which is not seen: add an entry for it`;
        return { file: source, name: basename(path), agents: [agent], message };
      })
    );
  });
}

/** Says which agents' models get only a part of the names and descriptions, or soon will. */
function budgetNotes(views: readonly View[]): string[] {
  return views.flatMap((view) => {
    const { agent } = view;
    const { budget } = rulesOf(agent);
    if (!budget) return [];
    const lengths = effective(view).map(({ name, description }) => {
      return { name, length: name.length + Math.min(description.length, budget.each) };
    }).sort((a, b) => b.length - a.length);
    const total = lengths.reduce((sum, { length }) => sum + length, 0);
    if (total < 0.8 * budget.total) return [];
    const longest = lengths.slice(0, 5).map(({ name, length }) => `${name} (${length})`).join(", ");
    const share = Math.round(100 * total / budget.total);
    return [
      `${agent}: names and descriptions have ${total} characters, ${share}% of the ${budget.total} that its model ` +
      `gets; the longest: ${longest}`,
    ];
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

// ── Asking ───────────────────────────────────────────────────────────────────────────────────────────────────────────

/** A skill in an agent's answer. */
interface Answer {
  name: string;
  path: string; // of its directory
}

interface Question {
  command: readonly string[];
  /** What is written to the agent, which then runs until its answer matches `end`. */
  input?: (directory: string) => string;
  end?: RegExp;
  /** Reads the answer, without the skills that come with the agent. */
  read(output: string): Answer[];
}

/** How to ask agents which skills they see. Claude Code has no command for it. Source: tests with the real programs. */
const QUESTIONS: Readonly<Record<string, Question>> = {
  opencode: {
    command: ["opencode", "debug", "skill"],
    read: (output) =>
      JSON.parse(output).map(({ name, location }: Record<string, string>) => ({ name, path: dirname(location ?? "") }))
        .filter(({ path }: Answer) => path.startsWith("/")),
  },
  codex: {
    command: ["codex", "app-server"],
    input: (directory) =>
      [
        { id: 1, method: "initialize", params: { clientInfo: { name: "skill-doctor", version: VERSION } } },
        { method: "initialized" },
        { id: 2, method: "skills/list", params: { cwds: [directory], forceReload: true } },
      ].map((message) => `${JSON.stringify(message)}\n`).join(""),
    end: /^\{"id":2[^]*\n/m,
    read: (output) =>
      JSON.parse(/^\{"id":2.*/m.exec(output)?.[0] ?? "").result.data[0].skills
        .filter(({ scope }: Record<string, string>) => scope !== "system")
        .map(({ name, path }: Record<string, string>) => ({ name, path: dirname(path ?? "") })),
  },
  copilot: {
    command: ["copilot", "skill", "list", "--json"],
    read: (output) => JSON.parse(output).filter(({ source }: Record<string, string>) => source !== "builtin"),
  },
  gemini: {
    command: ["gemini", "skills", "list"],
    read: (output) =>
      Array.from(output.matchAll(/^(.+?) \[Enabled\]\n(?: {2}.*\n)*? {2}Location: +(.*)$/gm), (match) => {
        return { name: match[1] ?? "", path: dirname(match[2] ?? "") };
      }),
  },
};

/** How long an agent may take to answer, in seconds. */
const ASK_SECONDS = 20;

/** Asks an agent which skills it sees; `undefined` if it can't be asked or isn't installed. */
async function ask(agent: string, { start: directory }: Desired): Promise<Answer[] | undefined> {
  const { command: [program = "", ...args] = [], input, end, read } = QUESTIONS[agent] ?? {};
  if (!read || !isOnPath(program)) return undefined;
  const stdin = input ? "piped" : "null";
  const options = { cwd: directory, detached: true, stdin, stdout: "null", stderr: "null" } as const;
  const file = Deno.makeTempFileSync({ prefix: "skill-doctor-" }); // OpenCode writes no more than 64 KiB into a pipe.
  const stop = () => {
    attempt(() => Deno.kill(-child.pid, "SIGKILL")); // with the processes that it started
    attempt(() => Deno.removeSync(file));
  };
  const signals = [["SIGINT", 130], ["SIGTERM", 143]] as const;
  const listeners = signals.map(([signal, status]) => {
    const listener = () => {
      stop();
      Deno.exit(status);
    };
    Deno.addSignalListener(signal, listener);
    return { signal, listener };
  });
  const words = ["-c", 'exec "$@" >"$0"', file, program, ...args];
  const child = new Deno.Command("/bin/sh", { args: words, ...options }).spawn();
  let hasEnded = false;
  child.status.then(() => hasEnded = true);
  try {
    const writer = input && child.stdin.getWriter();
    writer?.write(new TextEncoder().encode(input?.(directory))).catch(() => {}); // It says why in its output.
    const start = performance.now();
    for (let isLast = false; !isLast;) {
      isLast = hasEnded;
      const output = Deno.readTextFileSync(file);
      const answers = isLast || end?.test(output) ? attempt(() => read(output)) : undefined;
      if (answers) return answers;
      if (performance.now() - start > ASK_SECONDS * 1000) throw new Error(`no answer within ${ASK_SECONDS} seconds`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    throw new Error("it did not answer as expected");
  } finally {
    stop();
    await child.status;
    for (const { signal, listener } of listeners) Deno.removeSignalListener(signal, listener);
  }
}

/** Asks the installed agents, and replaces what they should see by what they say. Differences are problems. */
async function askAgents(views: View[], desired: Desired, problems: Problem[]): Promise<void> {
  for (const view of views) {
    const report = (message: string, name?: string, file = view.directories[0] ?? desired.directory) =>
      problems.push({ file, name, agents: [view.agent], message });
    let answers: Answer[] | undefined;
    try {
      answers = await ask(view.agent, desired);
    } catch (error) {
      report(`It cannot be asked: ${explain(error)}`);
    }
    if (!answers) continue;
    const key = ({ name, path }: Answer) => `${name}\n${realPath(path)}`;
    const expected = new Map(view.seen.map((each) => [key(each), each]));
    for (const each of answers.filter((each) => !expected.has(key(each)))) {
      report(`It says that it sees ${quote(each.name)} here, which was not expected`, each.name, each.path);
    }
    const names = new Set(answers.map(({ name }) => name));
    for (const { name, path } of effective(view).filter(({ name }) => !names.has(name))) {
      report(`It says that it does not see ${quote(name)} here, which was expected`, name, path);
    }
    view.seen = answers.map((each) => expected.get(key(each)) ?? unexpected(each));
    view.isAsked = true;
  }
}

function unexpected({ name, path }: Answer): Seen {
  return { name, path, source: realPath(path), owned: false, description: "", requires: [] };
}

// ── Commands ─────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Prints a problem on standard error, its place in red on a terminal. */
function printProblem({ file, line, agents, message }: Problem, desired: Desired, isWarning = false): void {
  const affected = agents ? ` (${agents.join(", ")})` : "";
  const place = `${showPath(file ?? desired.manifest, desired)}${line === undefined ? "" : `:${line}`}${affected}:`;
  const isRed = !isWarning && Deno.stderr.isTerminal() && !Deno.env.get("NO_COLOR");
  const shown = isRed ? `\x1b[31m${escapeControls(place)}\x1b[39m` : escapeControls(place);
  console.error(`${shown} ${isWarning ? "Warning: " : ""}${escapeControls(message)}`);
}

/** Each problem once, with all agents that it affects. */
function merge(problems: readonly Problem[]): Problem[] {
  const groups = Map.groupBy(problems, ({ file, line, message }) => `${file}:${line} ${message}`);
  return Array.from(groups.values(), (same) => {
    const agents = [...new Set(same.flatMap(({ agents = [] }) => agents))];
    return { ...same[0]!, ...agents.length > 0 && { agents } };
  });
}

function jsonProblems(problems: readonly Problem[], { directory, manifest }: Desired) {
  return problems.map(({ file = manifest, line = null, name = null, agents = null, message }) => {
    return { file: isInside(directory, file) ? relative(directory, file) || "." : file, line, name, agents, message };
  });
}

function printJson(content: Record<string, unknown>, problems: readonly Problem[], desired: Desired): void {
  const result = { version: 2, directory: desired.directory, ...content, problems: jsonProblems(problems, desired) };
  for (const line of JSON.stringify(result, undefined, 2).split("\n")) console.log(escapeControls(line));
}

/** What an agent sees. */
interface View {
  agent: string;
  isAsked: boolean; // whether the agent itself said so
  directories: string[]; // that it reads
  seen: Seen[]; // also skills whose name an earlier one has
}

/** The skills that an agent uses if several have one name. */
function effective({ agent, seen, isAsked }: View): Seen[] {
  if (isAsked || rulesOf(agent).duplicates === "all") return seen;
  return [...Map.groupBy(seen, ({ name }) => name).values()].map(([first]) => first!);
}

/** A row of the grid: a skill, and the agents that are to see it. */
interface Row {
  name: string;
  source: string;
  line?: number; // in the manifest
  places: Set<string>; // where it is deployed
  agents: Set<string>;
}

/** The desired skills; without a manifest, all that an agent sees. */
function gridRows(views: readonly View[], { readable, targets }: Desired): Row[] {
  const rows = new Map<string, Row>();
  const add = (agents: string[], name: string, source: string, place: string, line?: number) => {
    const key = line === undefined ? source : `${name}\n${source}`;
    const row = rows.get(key) ?? { name, source, line, places: new Set(), agents: new Set() };
    rows.set(key, row);
    row.places.add(place);
    agents.forEach((agent) => row.agents.add(agent));
  };
  for (const { path, agents, skills } of targets) {
    for (const { name, source, line } of skills) add(agents, name, realPath(source), `${realPath(path)}/${name}`, line);
  }
  for (const view of readable ? [] : views) {
    for (const { name, path, source } of effective(view)) add([view.agent], name, source, realPath(path));
  }
  return [...rows.values()].sort((a, b) => a.name < b.name ? -1 : 1);
}

/** Adds to each row the places where agents see the same content under its name. */
async function addCopies(rows: readonly Row[], views: readonly View[]): Promise<void> {
  for (const row of rows) {
    for (const { path, source } of views.flatMap(effective).filter(({ name }) => name === row.name)) {
      if (await isSameContent(source, row.source)) row.places.add(placeIn(path));
    }
  }
}

/** A path whose directory is a real path, while the entry itself may be a link. */
function placeIn(path: string): string {
  return `${realPath(dirname(path))}/${basename(path)}`;
}

function isSameSkill({ source, places }: Row, seen: Seen): boolean {
  return seen.source === source || places.has(placeIn(seen.path));
}

/** What an agent sees of a skill. */
function cell(row: Row, view: View): string {
  const seen = effective(view);
  const names = seen.filter((each) => isSameSkill(row, each)).map(({ name }) => name);
  if (names.includes(row.name)) return "seen";
  if (names[0] !== undefined) return `as ${names[0]}`;
  if (seen.some(({ name }) => name === row.name)) return "another";
  return row.agents.has(view.agent) ? "not seen" : "-";
}

/** Problems with skills that are not deployed yet. */
function missingProblems(rows: readonly Row[], views: readonly View[], desired: Desired): Problem[] {
  return rows.flatMap((row) => {
    const agents = views.filter((view) => cell(row, view) === "not seen").map(({ agent }) => agent);
    if (agents.length === 0 || [...row.places].some(exists)) return [];
    const message = `${quote(row.name)} is not seen: run use-skills.ts sync`;
    return [{ file: desired.manifest, line: row.line, name: row.name, agents, message }];
  });
}

/** Where a skill comes from, for a reader: `REPO@COMMIT` if it was fetched. */
function showSource(source: string, desired: Desired): string {
  return desired.origins?.[source] ?? showPath(source, desired);
}

/** Prints rows of cells as columns. */
function printColumns(rows: readonly (readonly string[])[]): void {
  const widths = rows[0]?.map((_, column) => Math.max(...rows.map((row) => row[column]!.length))) ?? [];
  for (const row of rows) {
    console.log(escapeControls(row.map((text, column) => text.padEnd(widths[column]!)).join("  ").trimEnd()));
  }
}

function printGrid(rows: readonly Row[], views: readonly View[], desired: Desired): void {
  const header = views.map(({ agent, isAsked }) => isAsked ? `${agent} (asked)` : agent);
  if (rows.length > 0) {
    printColumns([["SKILL", ...header], ...rows.map((row) => [row.name, ...views.map((view) => cell(row, view))])]);
  } else console.log("No skills");
  const others = new Map<string, { name: string; source: string; agents: string[] }>();
  for (const view of views) {
    for (const seen of effective(view).filter((seen) => !rows.some((row) => isSameSkill(row, seen)))) {
      const key = `${seen.name}\n${seen.source}`;
      const known = others.get(key) ?? { name: seen.name, source: showSource(seen.source, desired), agents: [] };
      others.set(key, { ...known, agents: [...known.agents, view.agent] });
    }
  }
  if (others.size === 0) return;
  console.log("\nOther skills:");
  printColumns(
    [...others.values()].map(({ name, source, agents }) => [` ${name}`, `${source} (${agents.join(", ")})`]),
  );
}

/** Asks whether agents may be started, unless `--yes` says so. */
function confirmAsking(views: readonly View[], isConfirmed: boolean): void {
  if (isConfirmed) return;
  const agents = views.map(({ agent }) => agent).filter((agent) => isOnPath(QUESTIONS[agent]?.command[0] ?? ""));
  const effects = "which may run plugins of this project, and OpenCode writes .opencode/.gitignore";
  if (!Deno.stdin.isTerminal()) throw new UsageError(`--ask starts agents, ${effects}: add --yes`);
  const question = `This starts ${agents.join(", ")}, ${effects}. Continue?`;
  if (!confirm(question)) throw new UsageError("Not asked");
}

/** Shows what each agent sees, and all problems. */
async function show(desired: Desired, { json, quiet, ask, yes }: Flags): Promise<number> {
  const problems = [...desired.problems];
  const found = new Map<string, Found[]>();
  const reads = agentsToShow(desired).map((agent) => ({ agent, directories: directoriesRead(agent, desired) }));
  for (const path of new Set(reads.flatMap(({ directories }) => directories))) {
    const readers = reads.filter(({ directories }) => directories.includes(path)).map(({ agent }) => agent);
    found.set(path, await findSkills(path, readers, desired, problems));
  }
  const views = reads.map(({ agent, directories }): View => {
    return { agent, isAsked: false, directories, seen: skillsSeenBy(agent, directories, found) };
  });
  problems.push(
    ...skillProblems(views, found, desired),
    ...await findDuplicates(views, desired),
    ...findMissingSkills(views),
  );
  problems.push(...examineCodexHome(desired), ...await examineGoneProjects(found.keys(), desired));
  if (ask) {
    confirmAsking(views, yes);
    await askAgents(views, desired, problems);
  }
  const rows = gridRows(views, desired);
  await addCopies(rows, views);
  problems.push(...missingProblems(rows, views, desired));
  const notes = budgetNotes(views);
  const all = merge(problems);
  if (json) {
    const skills = rows.map((row) => {
      const agents = Object.fromEntries(views.map((view) => [view.agent, cell(row, view)]));
      return { name: row.name, source: row.source, agents };
    });
    const agents = views.map((view) => {
      const seen = effective(view).map(({ name, path, source, owned }) => ({ name, path, source, owned }));
      return { agent: view.agent, asked: view.isAsked, tested: AGENTS[view.agent]?.source === "test", skills: seen };
    });
    printJson({ skills, agents, notes }, all, desired);
  } else if (!quiet) {
    printGrid(rows, views, desired);
    for (const note of notes) console.error(escapeControls(`Note: ${note}`));
  }
  for (const problem of all) printProblem(problem, desired);
  if (!json && !quiet && Deno.stderr.isTerminal()) console.error(summarize(rows.length, all.length));
  return all.length > 0 ? 1 : 0;
}

/** On a terminal, what a command came to. */
function summarize(skills: number, problems: number): string {
  const count = (number: number, noun: string) => `${number} ${noun}${number === 1 ? "" : "s"}`;
  return `${count(skills, "skill")}, ${problems === 0 ? "no problems" : count(problems, "problem")}`;
}

/** Validates the skills in some directories, or without any those of the manifest. */
async function validate(words: readonly string[], desired: Desired, { json, quiet }: Flags): Promise<number> {
  const from = desired.global ? Deno.cwd() : desired.start;
  const isAll = words.length === 0;
  const directories = isAll
    ? desired.targets.flatMap(({ skills }) => skills.map(({ source, name }) => [source, name] as const))
    : words.map((word) => [resolve(from, word).replace(/\/SKILL\.md$/, ""), undefined] as const);
  const problems: Problem[] = isAll ? [...desired.problems] : [];
  const warnings: Problem[] = [];
  const skills = [];
  for (const [path, name] of new Map(directories)) {
    const { violations, text, fields } = await inspectSkill(path, name);
    const [first] = violations;
    if (first?.file === path && attempt(() => listNames(path))?.some((name) => exists(`${path}/${name}/SKILL.md`))) {
      first.message += `: to validate the skills in its subdirectories, name ${shellWord(path, desired)}/*`;
    }
    problems.push(...violations);
    if (text !== undefined) warnings.push(...await findWarnings(path, text));
    skills.push({ name: fields["name"] ?? null, path, valid: violations.length === 0 });
  }
  if (json) printJson({ skills, warnings: jsonProblems(warnings, desired) }, problems, desired);
  for (const warning of quiet ? [] : warnings) printProblem(warning, desired, true);
  for (const problem of problems) printProblem(problem, desired);
  const valid = skills.filter(({ valid }) => valid).length;
  if (!quiet) console.error(`${valid} of ${skills.length} skills are valid`);
  return problems.length > 0 ? 1 : 0;
}

class UsageError extends Error {}

type Flags = Record<"help" | "version" | "quiet" | "json" | "ask" | "yes", boolean>;

/** Reads the command line. */
async function readArguments(args: string[]): Promise<{ command: string; words: string[]; flags: Flags }> {
  const { parseArgs } = await load<typeof Cli>("jsr:@std/cli@^1/parse-args");
  const { _: [command = "show", ...words], ...flags } = parseArgs(args, {
    boolean: ["help", "version", "quiet", "json", "ask", "yes"],
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
      console.log(flags.help ? help() : VERSION);
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
