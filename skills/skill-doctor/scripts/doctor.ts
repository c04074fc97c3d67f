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
import type * as Path from "jsr:@std/path@^1/posix";
import type * as Yaml from "jsr:@std/yaml@^1/parse";

const { parseArgs } = await load<typeof Cli>("jsr:@std/cli@^1/parse-args");
const { basename, dirname, relative, resolve } = await load<typeof Path>("jsr:@std/path@^1/posix");
const { parse } = await load<typeof Yaml>("jsr:@std/yaml@^1/parse");

/**
 * Imports a part of the standard library, unless a configuration file replaces it by other code. This works once for
 * each part: what is loaded no longer resolves to its specifier.
 */
async function load<T>(specifier: string): Promise<T> {
  try {
    if (import.meta.resolve(specifier) === specifier) return await import(specifier);
    throw new Error("a deno.json replaces it by other code, so run with --no-config");
  } catch (error) {
    const [reason] = explain(error).split("\n");
    const message = `Cannot load ${specifier}: ${reason}
  In a checkout of use-skills, run "npx -y deno task dependencies" once, and start the script with "deno run -A"
  Elsewhere, run this once with access to JSR`;
    if (!import.meta.main) throw new Error(message);
    console.error(`skill-doctor: ${message}`);
    return Deno.exit(1);
  }
}

// ── Tables ──────────────────────────────────────────────────────────────────────────────────────────────────────────

/** The version of this program. */
export const VERSION = "0.2.0";

/** The number of files in a skill after which the search for nested skills ends. */
const MAX_FILES = 5_000;

const help = () =>
  `skill-doctor ${VERSION}: shows which skills agents see, and validates skills
Usage: doctor.ts [show] [OPTION...] | validate DIR... [OPTION...]
  show              show the skills that each agent sees, and problems (default)
  validate DIR...   validate skills against the Agent Skills specification
      --ask         start installed agents and ask them what they see:
                    ${Object.keys(AGENTS).filter((agent) => AGENTS[agent]!.question).join(", ")}
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
  recorded?: Record<string, Form>; // what the lockfile records as deployed, by path
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

/** The entries of a directory, sorted by name. */
function listEntries(directory: string): Deno.DirEntry[] {
  return [...Deno.readDirSync(directory)].sort((a, b) => a.name < b.name ? -1 : 1);
}

/** The paths of what is below a directory, also behind links. */
function* pathsBelow(directory: string, above: readonly string[] = []): Generator<string> {
  const real = realPath(directory);
  if (above.includes(real)) return; // a link to a parent directory
  for (const { name, isSymlink, isDirectory } of attempt(() => listEntries(directory)) ?? []) {
    const path = `${directory}/${name}`;
    yield path;
    if (isDirectory || isSymlink) yield* pathsBelow(path, [...above, real]);
  }
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

/** Expands `${VARIABLE:-default}` and `~`; relative paths are taken from `directory`. */
function expand(path: string, directory = "/"): string {
  const expanded = path.replace(/^\$\{(\w+):-([^}]+)\}/, (_, variable, fallback) => {
    const value = Deno.env.get(variable) || fallback;
    return variable.startsWith("XDG_") && !value.startsWith("/") ? fallback : value;
  });
  return resolve(directory, expanded.replace(/^~(?=\/|$)/, Deno.env.get("HOME") || "/"));
}

/** Lists names, or the first six if there are more than eight. */
function someOf(names: readonly string[]): string {
  return names.length > 8 ? `${names.slice(0, 6).join(", ")} and ${names.length - 6} more` : names.join(", ");
}

const quote = (value: string) => JSON.stringify(value.length > 200 ? `${value.slice(0, 200)}...` : value);

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

/** A skill in a directory that agents read. */
interface Skill {
  entry: string; // its path in that directory
  path: string;
  source: string; // the real path
  owned: boolean;
  text: string; // of SKILL.md
  fields: Record<string, unknown>; // of its front matter
  fault?: string; // why it cannot be read
}

/** A `SKILL.md` up to the end of its front matter; the group is the YAML. */
const FRONT_MATTER = /^\ufeff?---[ \t]*\r?\n([^]*?)(?<=\n)---[ \t]*(?:\r?\n|$)/;

/** Reads a text file. Everything is read through this: a repo can contain a link to a device, which has no end. */
function readText(path: string): string {
  const { isFile, size } = Deno.statSync(path);
  if (!isFile) throw new Error(`${basename(path)} is not a file`);
  if (size > 8 * 2 ** 20) throw new Error(`${basename(path)} has more than 8 MiB`);
  const bytes = Deno.readFileSync(path);
  const text = attempt(() => new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes));
  if (text !== undefined) return text;
  const line = new TextDecoder().decode(bytes).split("\ufffd", 1)[0]!.split("\n").length;
  throw new Error(`${basename(path)} is not UTF-8`, { cause: line });
}

/** Reads front matter, every scalar as a string or as YAML sees it. The cause of an error is the number of its line. */
function parseFrontMatter(text: string, schema: "failsafe" | "default"): Record<string, unknown> {
  const [, yaml] = text.match(FRONT_MATTER) ?? [];
  const isOpen = /^\ufeff?---/.test(text);
  if (yaml === undefined) throw new Error(`SKILL.md has ${isOpen ? "unclosed" : "no"} front matter`);
  let fields: unknown;
  try {
    fields = parse(yaml, { schema });
  } catch (error) {
    const [, reason, line = 0] = /^(.*?)(?: at line (\d+).*)?$/m.exec(explain(error)) ?? [];
    throw new Error(`The front matter is not YAML: ${reason}`, { cause: Number(line) + 1 });
  }
  const isMapping = typeof fields === "object" && fields !== null && !Array.isArray(fields);
  if (!isMapping) throw new Error("The front matter is not a mapping", { cause: 2 });
  return fields as Record<string, unknown>;
}

/** The line of `SKILL.md` in which a field is; 1 if it is missing. */
function lineOf(field: string, text: string): number {
  const lines = text.match(FRONT_MATTER)?.[1]?.split("\n") ?? [];
  const index = lines.findIndex((line) => /^(["']?)(.*?)\1\s*:(?:\s|$)/.exec(line)?.[2] === field);
  return index === -1 ? 1 : index + 2;
}

/** A valid name; as in the specification's reference validator, letters and digits of any script are allowed. */
const NAME = /^(?!.{65}|.*[\p{Lu}\p{Lt}])[\p{L}\p{N}]+(-[\p{L}\p{N}]+)*$/u;

const normalizeName = (name: unknown) => typeof name === "string" ? name.trim().normalize("NFKC") : "";
const isName = (value: unknown) => NAME.test(normalizeName(value));
const isText = (value: unknown, maxLength = Infinity) =>
  value === null || typeof value === "string" && Array.from(value).length <= maxLength;
const isTextMap = (value: unknown) =>
  typeof value === "object" && !Array.isArray(value) && Object.values(value ?? {}).every((each) => isText(each));

/** What the fields of front matter must be; source: the Agent Skills specification. */
const FIELDS: readonly [field: string, rule: string, isValid: (value: unknown) => boolean][] = [
  ["name", "1 to 64 lowercase letters, digits and single hyphens between them", isName],
  ["description", "a string of up to 1024 characters", (value) => isText(value, 1024)],
  ["license", "a string", isText],
  ["compatibility", "a string of up to 500 characters", (value) => isText(value, 500)],
  ["metadata", "a mapping of strings to strings", isTextMap],
  ["allowed-tools", "a string", isText],
];

/** Finds violations of the specification. `directoryName` is that of the directory in which agents find the skill. */
function findViolations(directory: string, directoryName: string): Problem[] {
  const file = `${directory}/SKILL.md`;
  if (!exists(file)) return [{ file: directory, message: explainMissing(directory) }];
  const violations: Problem[] = [];
  try {
    const text = readText(file);
    const add = (field: string, message: string) => violations.push({ file, line: lineOf(field, text), message });
    if (text.startsWith("\ufeff")) add("", "SKILL.md has a byte order mark, which Codex does not accept");
    const fields = parseFrontMatter(text, "failsafe");
    for (const [field, value] of Object.entries<unknown>({ name: "", description: "", ...fields })) {
      const [, rule, isValid] = FIELDS.find(([name]) => name === field) ?? [];
      const isMissing = ["name", "description"].includes(field) && !(typeof value === "string" && value.trim());
      if (isMissing) add(field, `SKILL.md has no ${field}`);
      else if (!isValid) add(field, `Unknown field ${quote(field)}`);
      else if (!isValid(value)) add(field, `The field ${field} is not ${rule}`);
    }
    const name = normalizeName(fields["name"]);
    if (name !== "" && name !== normalizeName(directoryName)) {
      add("name", `The name is ${quote(name)}, but the directory is ${quote(directoryName)}`);
    }
  } catch (error) {
    const { cause = 1 } = error as Error;
    violations.push({ file, line: Number(cause), message: explain(error) });
  }
  return violations;
}

/** Says why a directory is not a skill, and what to do. */
function explainMissing(directory: string): string {
  if (!exists(directory)) return "There is no such directory";
  const names = (attempt(() => listEntries(directory)) ?? []).map(({ name }) => name);
  const other = names.find((name) => /^skill\.md$/i.test(name));
  if (other !== undefined) return `SKILL.md is missing: rename ${quote(other)} to SKILL.md`;
  const hasSkills = names.some((name) => exists(`${directory}/${name}/SKILL.md`));
  return `SKILL.md is missing${hasSkills ? ": to validate the skills in it, add /*" : ""}`;
}

/** Reads a skill as agents do. They accept `description: a: b`, which strictly isn't YAML. */
function readSkill(directory: string): Pick<Skill, "text" | "fields" | "fault"> {
  let text = "";
  try {
    text = readText(`${directory}/SKILL.md`);
    const quoted = text.replace(/^([\w-]+: +)([^"'|>\s].*: .*)$/gm, (_, key, value) => key + JSON.stringify(value));
    const strict = attempt(() => parseFrontMatter(text, "default"));
    return { text, fields: strict ?? parseFrontMatter(quoted, "default") };
  } catch (error) {
    return { text, fields: {}, fault: explain(error) };
  }
}

function metadataWords({ metadata }: Record<string, unknown>, field: "requires" | "skills"): string[] {
  const value = (metadata as Record<string, unknown> | undefined)?.[field];
  return typeof value === "string" ? value.split(/\s+/).filter(Boolean) : [];
}

/** What in Markdown has no links: comments and fenced code. */
const BLOCKS = /<!--[^]*?-->|^[ \t>*+\d.-]*(`{3,}(?=[^`\n]*$)|~{3,})[^]*?(?:^[ \t>]*\1[`~]*[ \t]*$|$(?![^]))/gm;

/** The targets of Markdown links: inline, and as definitions. */
const LINKS = /\]\(\s*(<[^<>]+>|(?:\([^\s()]*\)|[^\s()])+)|^ {0,3}\[(?!\^)[^\]]+\]:\s*(\S+)/g;

/** Targets that are not files of the skill: URLs, absolute paths, templates, quoted text. */
const OTHER_TARGETS = /^$|^([a-z][\w+.-]*:|~?\/|["'])|[{$]/i;

/** Finds what the specification allows, but what is probably a mistake. */
function findWarnings(directory: string, text: string): Problem[] {
  const file = `${directory}/SKILL.md`;
  const front = text.match(FRONT_MATTER)?.[0] ?? "";
  const firstLine = front.split("\n").length;
  const body = text.slice(front.length).trimEnd();
  const warnings: Problem[] = [];
  const add = (file: string, line: number, message: string) => warnings.push({ file, line, message });
  const lines = body.replace(BLOCKS, (block) => block.replace(/[^\n]/g, "")).split("\n");
  const tooLong = `The text has ${lines.length} lines, over 500, and agents read it all: move parts into other files`;
  if (lines.length > 500) add(file, firstLine, tooLong);
  for (const [index, line] of lines.entries()) {
    const plain = /^( {4}|\t)/.test(line) ? "" : line.replace(/(`+).*?\1|\\[[\]]/g, "");
    for (const [, inline, definition = ""] of plain.matchAll(LINKS)) {
      const target = (inline ?? definition).replace(/^<|>$/g, "").replace(/[?#].*|:\d+$/, "");
      const path = resolve(directory, attempt(() => decodeURIComponent(target)) ?? target);
      if (OTHER_TARGETS.test(target) || exists(path)) continue;
      const wrong = isInside(directory, path)
        ? "does not exist"
        : 'is outside the skill and not there: "mode copy" deploys skills next to each other';
      add(file, firstLine + index, `The link target ${quote(target)} ${wrong}`);
    }
  }
  for (const path of pathsBelow(`${directory}/scripts`).take(MAX_FILES)) {
    if (!isInside(realPath(directory), realPath(path))) continue; // A link can lead to endless files in /proc.
    if (isExecutable(path) || !attempt(() => readText(path))?.startsWith("#!")) continue;
    add(path, 1, "The script is not executable: chmod +x");
  }
  return warnings;
}

// ── Ownership ───────────────────────────────────────────────────────────────────────────────────────────────────────

/** What use-skills has deployed: a link with this text or, with `copy`, a copy with that git tree hash. */
interface Form {
  target: string;
  copy?: string;
}

/** An entry of a state file. */
interface StateEntry extends Form {
  was?: Form[]; // what it was earlier
  for: string[]; // the manifests that want it, relative or absolute
}

/** Reads the state file of a target; a missing or damaged one has no entries. */
function readState(target: string): Map<string, StateEntry> {
  const { version, entries } = attempt(() => JSON.parse(readText(`${target}/.use-skills.json`))) ?? {};
  const known = version === 1 ? Object.entries<StateEntry>(entries ?? {}) : [];
  const isEntry = ({ target, for: owners, was = [] }: StateEntry) =>
    Array.isArray(owners) &&
    [target, ...owners, ...was.map(({ target }) => target)].every((text) => typeof text === "string");
  return new Map(known.filter(([, entry]) => attempt(() => isEntry(entry))));
}

/** Whether a path still is as a state file or `form` says that it was deployed. */
async function isOwned(path: string, entry: StateEntry | undefined, form?: Form): Promise<boolean> {
  const forms = [entry, ...entry?.was ?? [], form].filter((each) => each !== undefined);
  if (forms.length === 0) return false;
  const link = attempt(() => Deno.readLinkSync(path));
  const actual = link === undefined
    ? [await contentHash(path), await treeHash(path).catch(() => path)]
    : [`-> ${link}`];
  return forms.some(({ target, copy }) => actual.includes(copy ?? `-> ${target}`));
}

const hashes = new Map<string, Promise<string>>();

/** The git tree hash of a directory without what other programs leave there, or its path if it cannot be read. */
function contentHash(directory: string): Promise<string> {
  const hash = hashes.get(directory) ?? treeHash(directory, ["__pycache__", ".DS_Store"]).catch(() => directory);
  hashes.set(directory, hash);
  return hash;
}

/** The hash that git gives the content of a directory. */
async function treeHash(directory: string, ignored: readonly string[] = []): Promise<string> {
  const entries: { key: string; content: Blob }[] = [];
  for (const { name, isDirectory, isSymlink, isFile } of Deno.readDirSync(directory)) {
    if (ignored.includes(name)) continue;
    const path = `${directory}/${name}`;
    if (!isDirectory && !isSymlink && !isFile) throw new Error(`${quote(path)} is a special file`);
    const mode = isDirectory ? "40000" : isSymlink ? "120000" : isExecutable(path) ? "100755" : "100644";
    const hash = isDirectory
      ? await treeHash(path, ignored)
      : await objectHash("blob", new Blob([isSymlink ? Deno.readLinkSync(path) : Deno.readFileSync(path)]));
    if (hash === "4b825dc642cb6eb9a060e54bf8d69288fbee4904") continue; // git has no empty directories
    const key = new TextEncoder().encode(isDirectory ? `${name}/` : name).toHex(); // git sorts by bytes
    entries.push({ key, content: new Blob([`${mode} ${name}\0`, Uint8Array.fromHex(hash)]) });
  }
  entries.sort((a, b) => a.key < b.key ? -1 : 1);
  return await objectHash("tree", new Blob(entries.map(({ content }) => content)));
}

async function objectHash(type: string, content: Blob): Promise<string> {
  const object = await new Blob([`${type} ${content.size}\0`, content]).arrayBuffer();
  return new Uint8Array(await crypto.subtle.digest("SHA-1", object)).toHex();
}

// ── Agents ──────────────────────────────────────────────────────────────────────────────────────────────────────────

/** A skill that an agent sees, by the agent's name for it. */
type Seen = Pick<Skill, "path" | "source" | "owned" | "fields"> & { name: string };

/** How to ask an agent which skills it sees. */
interface Question {
  command: readonly string[];
  input?: string; // for an agent that then runs until it is ended
  /** Reads the answer: names and paths of `SKILL.md` or its directory. It throws if the answer is not complete. */
  read(output: string): { name: string; path: string }[];
}

/** What is known of an agent. */
interface Agent {
  project: string; // the directories that it reads in each directory from the working directory up to the repo's root
  home: string; // the directories that it reads in the home and elsewhere
  source?: "test" | "observed"; // a test with the real program, or an observation of it, if not its documentation
  isLocal?: true; // it reads its project directories in the working directory only
  switches?: Readonly<Record<string, RegExp>>; // variables that keep it from reading some of these directories
  finds?(entry: string, directory: string): boolean; // whether it finds a skill; default: isDirect
  nameOf?(skill: Skill): string; // default: frontMatterName
  addsPlugin?: true; // before the name of a skill, if a plugin is above its real path
  rejects?: readonly (keyof typeof FLAWS)[]; // the flaws for which it ignores a skill; default: fault, undescribed
  duplicates?: "home first" | "all"; // what it uses of different skills with one name, if not any of them
  budget?: { total: number; each: number }; // how many characters of names and descriptions its model gets
  question?: Question; // Claude Code has no command for it.
}

const frontMatterName = ({ fields, path }: Skill) => `${fields["name"] ?? ""}`.trim() || basename(path);

/** What makes agents ignore a skill. */
const FLAWS = {
  link: ({ path }) =>
    attempt(() => Deno.readLinkSync(`${path}/SKILL.md`)) && "SKILL.md is a link: replace it by the file",
  mark: ({ text }) => text.startsWith("\ufeff") && "SKILL.md has a byte order mark: remove it",
  fault: ({ fault }) => fault,
  nameless: ({ fields }) => fields["name"] === undefined && "SKILL.md has no name",
  type: ({ fields }) =>
    ["name", "description"].filter((field) => !["string", "undefined"].includes(typeof fields[field]))
      .map((field) => `The ${field} is not a text: write it in quotes`)[0],
  undescribed: ({ fields }) => !fields["description"] && "SKILL.md has no description",
  metadata: ({ fields }) => typeof (fields["metadata"] ?? {}) !== "object" && "The field metadata is not a mapping",
  length: (skill) => frontMatterName(skill).length > 64 && "The name has over 64 characters",
} satisfies Record<string, (skill: Skill) => string | false | undefined>;

const isDotted = (entry: string) => /(^|\/)\./.test(entry);
const isDirect = (entry: string) => entry !== "" && !entry.includes("/") && !isDotted(entry);

const CONFIG = "${XDG_CONFIG_HOME:-~/.config}";

/** The agents. Directories are separated by spaces; `${VARIABLE:-default}` and `~` are expanded as in a shell. */
export const AGENTS: Readonly<Record<string, Agent>> = {
  claude: {
    project: ".claude/skills",
    home: "${CLAUDE_CONFIG_DIR:-~/.claude}/skills",
    source: "test",
    finds: (entry) => entry !== "" && !entry.includes("/"),
    nameOf: ({ path }) => basename(path),
    rejects: [],
    duplicates: "home first",
    budget: { total: 8_000, each: 1_536 },
  },
  opencode: {
    project: ".opencode/skills .opencode/skill .claude/skills .agents/skills",
    home: `${CONFIG}/opencode/skills ${CONFIG}/opencode/skill ~/.opencode/skills ~/.opencode/skill ` +
      "${OPENCODE_CONFIG_DIR:-~/.opencode}/skills ~/.claude/skills ~/.agents/skills",
    source: "test",
    switches: {
      OPENCODE_DISABLE_CLAUDE_CODE: /\.claude\/skills$/,
      OPENCODE_DISABLE_CLAUDE_CODE_SKILLS: /\.claude\/skills$/,
      OPENCODE_DISABLE_EXTERNAL_SKILLS: /\.(claude|agents)\/skills$/,
      OPENCODE_DISABLE_PROJECT_CONFIG: /^\.opencode\/skills?$/,
    },
    finds: (entry, directory) => !isDotted(entry) || /\/\.(claude|agents)\/skills$/.test(directory),
    nameOf: ({ fields }) => `${fields["name"]}`,
    rejects: ["fault", "nameless", "type"],
    question: {
      command: ["opencode", "debug", "skill"],
      read: (output) =>
        JSON.parse(output).map(({ name, location }: Record<string, string>) => ({ name, path: location })),
    },
  },
  codex: {
    project: ".agents/skills .codex/skills",
    home: "${CODEX_HOME:-~/.codex}/skills ~/.agents/skills /etc/codex/skills",
    source: "test",
    finds: (entry) => !isDotted(entry) && entry.split("/").length <= 6,
    addsPlugin: true,
    rejects: ["link", "mark", "fault", "undescribed", "metadata", "length"],
    duplicates: "all",
    budget: { total: 8_000, each: Infinity },
    question: {
      command: ["codex", "app-server"],
      input: [
        { id: 1, method: "initialize", params: { clientInfo: { name: "skill-doctor", version: VERSION } } },
        { method: "initialized" },
        { id: 2, method: "skills/list", params: {} },
      ].map((message) => `${JSON.stringify(message)}\n`).join(""),
      read: (output) =>
        JSON.parse(/^\{"id":2.*/m.exec(output)?.[0] ?? "").result.data[0].skills
          .filter(({ scope }: Record<string, string>) => scope !== "system"),
    },
  },
  agents: { project: ".agents/skills", home: "~/.agents/skills" },
  amp: { project: ".agents/skills", home: `${CONFIG}/agents/skills` },
  antigravity: { project: ".agents/skills", home: "~/.gemini/antigravity/skills" },
  augment: { project: ".augment/skills .agents/skills", home: "~/.augment/skills" },
  cline: {
    project: ".cline/skills .clinerules/skills .agents/skills",
    home: "~/.cline/skills ~/.agents/skills",
    source: "observed",
  },
  codebuddy: { project: ".codebuddy/skills", home: "~/.codebuddy/skills" },
  continue: { project: ".continue/skills .claude/skills", home: "~/.continue/skills", source: "observed" },
  copilot: {
    project: ".github/skills .agents/skills .claude/skills",
    home: "~/.copilot/skills ~/.agents/skills",
    source: "test",
    question: {
      command: ["copilot", "skill", "list", "--json"],
      read: (output) => JSON.parse(output).filter(({ source }: Record<string, string>) => source !== "builtin"),
    },
  },
  crush: { project: ".crush/skills .agents/skills .claude/skills .cursor/skills", home: `${CONFIG}/crush/skills` },
  cursor: { project: ".cursor/skills .agents/skills .claude/skills .codex/skills", home: "~/.cursor/skills" },
  devin: { project: ".devin/skills .windsurf/skills .agents/skills", home: "" },
  droid: { project: ".factory/skills .agents/skills", home: "~/.factory/skills" },
  gemini: {
    project: ".gemini/skills .agents/skills",
    home: "~/.gemini/skills ~/.agents/skills",
    source: "test",
    isLocal: true,
    question: {
      command: ["gemini", "skills", "list"],
      read: (output) =>
        [...output.matchAll(/^(.+?) \[Enabled\]\n(?: {2}.*\n)*? {2}Location: +(.*)$/gm)]
          .map(([, name = "", path = ""]) => ({ name, path })),
    },
  },
  goose: { project: ".agents/skills .goose/skills", home: `~/.agents/skills ${CONFIG}/goose/skills` },
  grok: { project: ".grok/skills", home: "" },
  hermes: { project: "", home: "~/.hermes/skills" },
  junie: { project: ".junie/skills", home: "~/.junie/skills" },
  kilo: { project: ".kilo/skills .agents/skills", home: "~/.kilo/skills" },
  kiro: { project: ".kiro/skills", home: "~/.kiro/skills" },
  openclaw: { project: "", home: "~/.openclaw/skills" },
  openhands: { project: ".agents/skills .openhands/skills", home: "~/.openhands/skills" },
  pi: { project: ".pi/skills .agents/skills", home: "~/.pi/agent/skills ~/.agents/skills", source: "observed" },
  qoder: { project: ".qoder/skills", home: "" },
  qwen: { project: ".qwen/skills .agents/skills", home: "~/.qwen/skills ~/.agents/skills", source: "test" },
  trae: { project: ".trae/skills", home: "~/.trae/skills" },
  vibe: { project: ".vibe/skills .agents/skills", home: "~/.vibe/skills" },
  windsurf: { project: ".windsurf/skills .agents/skills", home: "~/.codeium/windsurf/skills" },
  zencoder: { project: ".zencoder/skills", home: "~/.zencoder/skills" },
};

/** The closest parent directory that is a plugin, and the plugin's name. */
function pluginAbove(directory: string): { directory: string; name: string } | undefined {
  const text = attempt(() => readText(`${directory}/.claude-plugin/plugin.json`));
  if (text !== undefined) return { directory, name: attempt(() => JSON.parse(text).name) ?? basename(directory) };
  return directory === "/" ? undefined : pluginAbove(dirname(directory));
}

/** The directories from the working directory up to the repo's root; the home is not a parent of its projects. */
function directoriesUp(directory: string): string[] {
  const parent = dirname(directory);
  const isHome = parent === realPath(expand("~"));
  const isLast = isHome || parent === directory || exists(`${directory}/.git`);
  return isLast ? [directory] : [directory, ...directoriesUp(parent)];
}

/** The skills of a linked worktree's main checkout, which Claude Code reads if the worktree has none of its own. */
function skillsOfMainCheckout(worktree: string): string[] {
  const [, gitDirectory] = /^gitdir: (.*)/.exec(attempt(() => readText(`${worktree}/.git`)) ?? "") ?? [];
  const common = gitDirectory && attempt(() => readText(`${resolve(worktree, gitDirectory)}/commondir`));
  return common ? [`${dirname(resolve(worktree, gitDirectory, common.trim()))}/.claude/skills`] : [];
}

/** The directories that an agent reads, in the agent's order. */
function directoriesRead(agent: string, { targets, directory, start, global }: Desired): string[] {
  const row = AGENTS[agent];
  if (!row) return targets.filter(({ agents }) => agents.includes(agent)).map(({ path }) => path);
  const off = Object.entries(row.switches ?? {})
    .filter(([variable]) => !/^(|0|false|no)$/i.test(Deno.env.get(variable) ?? "")).map(([, paths]) => paths);
  const list = (paths: string) => paths.split(" ").filter((path) => path && !off.some((paths) => paths.test(path)));
  const parents = global ? [] : row.isLocal ? [start] : directoriesUp(start);
  const inProject = parents.flatMap((parent) => list(row.project).map((path) => resolve(parent, path)));
  const inHome = list(row.home).map((path) => expand(path, directory));
  if (agent === "claude" && !inProject.some(exists)) inProject.push(...skillsOfMainCheckout(parents.at(-1) ?? "/"));
  return [...new Set(row.duplicates === "home first" ? [...inHome, ...inProject] : [...inProject, ...inHome])];
}

/** The default agents, those of the manifest, and those whose own directory exists. */
function agentsToShow(desired: Desired): string[] {
  const defaults = ["claude", "opencode", "codex"];
  const common = new Set(defaults.flatMap((agent) => directoriesRead(agent, desired)));
  const isOwn = (path: string) => !common.has(path) && exists(path);
  const installed = Object.entries(AGENTS).filter(([, { project, home }]) =>
    [project, home].some((paths) => paths && isOwn(expand(paths.split(" ", 1)[0]!, desired.directory)))
  ).map(([agent]) => agent);
  return [...new Set([...defaults, ...desired.targets.flatMap(({ agents }) => agents), ...installed])];
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
  const [parent, name] = [realPath(dirname(path)), basename(path)];
  const link = attempt(() => Deno.readLinkSync(path));
  const remove = `rm ${shellWord(path, desired)}`;
  try {
    const names = listEntries(path).map(({ name }) => name);
    const isMisspelt = !names.includes("SKILL.md") && names.some((name) => /^skill\.md$/i.test(name));
    if (isMisspelt) return `No agent uses this skill: ${explainMissing(path)}`;
  } catch (error) {
    if (attempt(() => Deno.statSync(path))?.isDirectory === false) return undefined;
    if (error instanceof Deno.errors.PermissionDenied) return "Cannot read it: Permission denied";
    const manifests = record?.for.map((manifest) => resolve(parent, manifest)) ?? [];
    const fix = owned ? repairLink(name, manifests, desired) : remove;
    return fix && `The link to ${quote(link ?? "")} is broken: ${fix}`;
  }
  const isFoundByName = link && desired.searchPath.map(realPath).includes(realPath(dirname(resolve(parent, link))));
  const isUnnamed = isNamed(name, desired) === false && isInside(desired.directory, path);
  if (!isFoundByName || owned || !isUnnamed) return undefined;
  return `This link was not made by use-skills, and ${showPath(desired.manifest, desired)} does not name it: ${remove}`;
}

/** The skills in a directory that agents read, and problems with its entries apart from the skills in them. */
type Directory = { skills: Skill[]; problems: Problem[] };

/** Reads a directory that agents read, also its subdirectories and what links lead to. */
async function readDirectory(path: string, desired: Desired): Promise<Directory> {
  const skills: Skill[] = [];
  const problems: Problem[] = [];
  const real = realPath(path);
  const records = readState(path);
  let entries: Deno.DirEntry[] = [];
  try {
    entries = listEntries(path);
  } catch (error) {
    const isFile = error instanceof Deno.errors.NotADirectory;
    const message = isFile ? "This must be a directory: move the file away" : `Cannot read it: ${explain(error)}`;
    if (!(error instanceof Deno.errors.NotFound) && exists(path)) problems.push({ file: path, message });
  }
  for (const { name, isFile } of entries) {
    const file = `${path}/${name}`;
    const record = records.get(name);
    const owned = await isOwned(file, record, desired.recorded?.[`${real}/${name}`]);
    const add = (message: string) => problems.push({ file, name, message });
    const message = !name.startsWith(".") && entryProblem(file, record, owned, desired);
    if (message) add(message);
    const paths = isFile ? [file] : [...pathsBelow(file, [real]).take(MAX_FILES + 1)];
    if (paths.length > MAX_FILES) {
      add(`It has more than ${MAX_FILES} files, so skills in it may be missing here: move them out`);
    }
    for (const skillFile of paths.filter((path) => basename(path) === "SKILL.md")) {
      const inner = dirname(skillFile);
      const source = realPath(inner);
      skills.push({ entry: relative(path, inner), path: inner, source, owned, ...readSkill(source) });
    }
  }
  return { skills, problems };
}

/** Finds out what an agent sees, by asking it or by what is known of it, and what is wrong. */
async function examine(agent: string, desired: Desired, known: Map<string, Directory>, isAsked: boolean) {
  const row: Partial<Agent> = AGENTS[agent] ?? {};
  const { finds = isDirect, nameOf = frontMatterName, rejects = ["fault", "undescribed"], duplicates } = row;
  const directories = directoriesRead(agent, desired);
  const seen: Seen[] = []; // each real path once
  const problems: Problem[] = [];
  const add = (file: string, message: string, name = basename(file)) => problems.push({ file, name, message });
  const addToSkill = (path: string, message: string) => {
    const source = realPath(path);
    const isFetched = desired.store !== undefined && isInside(realPath(desired.store), source); // and can't be changed
    add(isFetched ? path : source, message, basename(path));
  };
  for (const directory of directories) {
    const content = known.get(directory) ?? await readDirectory(directory, desired);
    known.set(directory, content);
    problems.push(...content.problems);
    const found = content.skills.filter(({ entry }) => finds(entry, directory));
    for (const each of found) {
      const { path, source, fields } = each;
      const plugin = row.addsPlugin && pluginAbove(source);
      const name = `${plugin ? `${plugin.name}:` : ""}${nameOf(each)}`;
      const [reason] = rejects.flatMap((flaw) => FLAWS[flaw](each) || []);
      if (reason) addToSkill(path, `Ignored: ${reason}`);
      else if (!seen.some((other) => other.source === source)) seen.push({ ...each, name });
      if (!reason && agent === "opencode" && fields["description"] === undefined) {
        addToSkill(path, "Its model is not told about this skill: SKILL.md has no description");
      }
      const missing = metadataWords(fields, "requires").filter((name) => !isOnPath(name)).join(", ");
      if (missing) addToSkill(path, `Programs that this skill requires are not on the PATH: ${missing}`);
      if (!plugin) continue;
      const isAbove = isInside(plugin.directory, realPath(directory));
      const fix = isAbove ? "move the plugin elsewhere" : 'deploy with "mode copy" or by a git reference';
      const above = showPath(plugin.directory, desired);
      add(path, `The name of the plugin in ${above} is added to this skill's name: ${fix}`);
    }
    const nested = found.filter(({ entry }) => entry.includes("/") && !isDotted(entry));
    for (const [top, inner] of Map.groupBy(nested, ({ entry }) => entry.split("/", 1)[0]!)) {
      const list = someOf(inner.map(({ entry }) => `${entry.slice(top.length + 1)}/SKILL.md`));
      const message = `Nested skills (${list}) are found by these agents only: move them out, or add entries for them`;
      addToSkill(`${directory}/${top}`, message);
    }
  }
  const byName = Map.groupBy(seen, ({ name }) => name);
  const used = duplicates === "all" ? seen : Array.from(byName.values(), ([first]) => first!);
  for (const [name, [first, ...others]] of byName) {
    for (const { path, source } of others) {
      if (await contentHash(first!.source) === await contentHash(source)) continue;
      const fix = 'remove one, or rename it in its SKILL.md and with "as NAME"';
      add(path, `A different ${quote(name)} is in ${showPath(first!.path, desired)}: ${fix}`, name);
    }
  }
  const names = new Set(seen.flatMap(({ path, name }) => [basename(path), name]));
  for (const { path, fields } of seen) {
    for (const name of metadataWords(fields, "skills").filter((name) => !names.has(name))) {
      addToSkill(path, `This skill requires the skill ${quote(name)}, which is not seen: add an entry for it`);
    }
  }
  let answer: Seen[] | undefined;
  try {
    const told = isAsked && row.question ? await ask(row.question, desired.start) : undefined;
    answer = told?.map(({ name, path }) => {
      const source = realPath(path);
      const expected = seen.find((each) => each.name === name && each.source === source);
      return expected ?? { name, path, source, owned: false, fields: {} };
    });
  } catch (error) {
    problems.push({ file: directories[0] ?? desired.directory, message: `It cannot be asked: ${explain(error)}` });
  }
  for (const { name, path } of answer?.filter((each) => !seen.includes(each)) ?? []) {
    add(path, `It says that it sees ${quote(name)} here, which was not expected`, name);
  }
  for (const { name, path } of used.filter(({ name }) => answer?.every((each) => each.name !== name))) {
    add(path, `It says that it does not see ${quote(name)} here, which was expected`, name);
  }
  return { agent, isAsked: answer !== undefined, used: answer ?? used, problems };
}

type View = Awaited<ReturnType<typeof examine>>;

function isOnPath(program: string): boolean {
  return (Deno.env.get("PATH") ?? "").split(":").some((directory) => isExecutable(resolve(directory, program)));
}

/** Says if an agent's model gets only a part of the names and descriptions, or soon will. */
function budgetNote(view: View): string[] {
  const budget = AGENTS[view.agent]?.budget;
  if (!budget) return [];
  const lengths = view.used.map(({ name, fields }) => {
    const description = `${fields["description"] ?? ""}`;
    return { name, length: name.length + Math.min(description.length, budget.each) };
  }).sort((a, b) => b.length - a.length);
  const total = lengths.reduce((sum, { length }) => sum + length, 0);
  if (total < 0.8 * budget.total) return [];
  const longest = lengths.slice(0, 5).map(({ name, length }) => `${name} (${length})`).join(", ");
  const share = `${Math.round(100 * total / budget.total)}% of the ${budget.total} that its model gets`;
  return [`${view.agent}: names and descriptions have ${total} characters, ${share}; the longest: ${longest}`];
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
  const [login, copy] = [expand("~/.codex/auth.json"), `${file}/auth.json`];
  if (!stat(login) || stat(copy)) return [];
  const fix = `ln -sf ${shellWord(login, desired)} ${shellWord(copy, desired)}`;
  return [{ file, message: `Codex is logged in with ~/.codex, but not with this CODEX_HOME: ${fix}` }];
}

/** Finds what projects that no longer exist have deployed: into these directories, or as their target indexes say. */
async function examineGoneProjects(directories: Iterable<string>, desired: Desired): Promise<Problem[]> {
  const indexes = expand("${XDG_STATE_HOME:-~/.local/state}/use-skills");
  const home = expand("${XDG_CONFIG_HOME:-~/.config}/use-skills/skills");
  const targets = [...directories];
  const indexed = new Set<string>(); // the manifests of projects that `use-skills.ts clean` knows
  for (const { name } of attempt(() => listEntries(indexes)) ?? []) {
    const index = attempt(() => JSON.parse(readText(`${indexes}/${name}`)));
    if (typeof index?.manifest !== "string" || exists(index.manifest)) continue;
    const base = index.manifest === home ? expand("~") : dirname(index.manifest);
    targets.push(...Object.keys(index.targets ?? {}).map((path) => resolve(base, path)));
    indexed.add(index.manifest);
  }
  const left: { manifest: string; path: string }[] = [];
  for (const target of new Set(targets.map(realPath))) {
    for (const [name, entry] of readState(target)) {
      const manifests = entry.for.map((manifest) => resolve(target, manifest));
      const path = `${target}/${name}`;
      // If this project names the entry, the project was moved here, and sync adopts the entry.
      if (manifests.some(exists) || isNamed(name, desired) || !await isOwned(path, entry)) continue;
      left.push(...manifests.map((manifest) => ({ manifest, path })));
    }
  }
  return Array.from(Map.groupBy(left, ({ manifest }) => manifest), ([file, entries]) => {
    const names = someOf([...new Set(entries.map(({ path }) => basename(path)))]);
    const clean = `use-skills.ts clean ${file === home ? "--global" : `-C ${shellWord(dirname(file), desired)}`}`;
    const remove = `rm -r ${entries.map(({ path }) => shellWord(path, desired)).join(" ")}`;
    const fix = indexed.has(file) ? clean : remove;
    return { file, message: `This manifest is gone, but not the skills that it deployed (${names}): ${fix}` };
  });
}

// ── Asking ───────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Asks an agent that is started in a directory which skills it sees. */
async function ask({ command, input, read }: Question, directory: string) {
  const file = Deno.makeTempFileSync({ prefix: "skill-doctor-" }); // OpenCode writes no more than 64 KiB into a pipe.
  const readAnswer = () =>
    read(Deno.readTextFileSync(file)).filter(({ path }) => path.startsWith("/")) // without what comes with the agent
      .map(({ name, path }) => ({ name, path: path.replace(/\/SKILL\.md$/, "") }));
  const stop = () => {
    attempt(() => Deno.kill(-child.pid, "SIGKILL")); // with the processes that it started
    attempt(() => Deno.removeSync(file));
  };
  const interrupt = () => {
    stop();
    Deno.exit(130);
  };
  const signals = ["SIGINT", "SIGTERM"] as const; // which may arrive as soon as the agent is started
  for (const signal of signals) Deno.addSignalListener(signal, interrupt);
  const child = new Deno.Command("/bin/sh", {
    args: ["-c", 'exec "$@" >"$0"', file, ...command],
    cwd: directory,
    detached: true,
    stdin: input ? "piped" : "null",
    stdout: "null",
    stderr: "null",
  }).spawn();
  try {
    // If this fails, the agent has ended, and does not answer.
    if (input) child.stdin.getWriter().write(new TextEncoder().encode(input)).catch(() => {});
    const seconds = 20;
    const deadline = Date.now() + seconds * 1000;
    let status: unknown; // once it has ended
    while (!status && Date.now() < deadline) {
      status = await Promise.race([child.status, new Promise((done) => setTimeout(done, 20))]);
      const answer = status || input ? attempt(readAnswer) : undefined;
      if (answer) return answer;
    }
    throw new Error(status ? "it did not answer as expected" : `no answer within ${seconds} seconds`);
  } finally {
    stop();
    await child.status;
    for (const signal of signals) Deno.removeSignalListener(signal, interrupt);
  }
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

/** The problems of all agents, each once, with the agents that it affects. */
function merge(views: readonly View[]): Problem[] {
  const all = views.flatMap(({ agent, problems }) => problems.map((problem) => ({ ...problem, agent })));
  const groups = Map.groupBy(all, ({ file, line, message }) => `${file}:${line} ${message}`);
  return Array.from(groups.values(), (same) => ({ ...same[0]!, agents: [...new Set(same.map(({ agent }) => agent))] }));
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

function printColumns(rows: readonly (readonly string[])[]): void {
  const widths = rows[0]?.map((_, column) => Math.max(...rows.map((row) => row[column]!.length))) ?? [];
  for (const row of rows) {
    console.log(escapeControls(row.map((text, column) => text.padEnd(widths[column]!)).join("  ").trimEnd()));
  }
}

type Grid = Awaited<ReturnType<typeof compare>>;

/** Compares what agents see with the desired skills or, without a manifest, with all that an agent sees. */
async function compare(views: readonly View[], { readable, targets, manifest }: Desired) {
  const others = new Set(views.flatMap(({ used }) => used));
  const wanted: { name: string; source: string; path: string; agents: string[]; line?: number }[] = readable
    ? targets.flatMap(({ path, agents, skills }) =>
      skills.map((skill) => ({ ...skill, source: realPath(skill.source), path: `${path}/${skill.name}`, agents }))
    )
    : Array.from(others, (seen) => ({ ...seen, agents: [] }));
  const groups = Map.groupBy(wanted, ({ name, source }) => `${readable ? name : ""}\n${source}`);
  const rows = [];
  for (const same of [...groups.values()].sort(([a], [b]) => a!.name < b!.name ? -1 : 1)) {
    const { name, source, line } = same[0]!;
    const sources = [source, ...same.map(({ path }) => realPath(path))]; // with those of copies
    const cells: Record<string, string> = {};
    for (const { agent, used, problems } of views) {
      const names: string[] = [];
      for (const seen of used) {
        const isSame = seen.source === source || seen.owned && sources.includes(seen.source) ||
          seen.name === name && await contentHash(seen.source) === await contentHash(source);
        if (!isSame) continue;
        names.push(seen.name);
        others.delete(seen);
      }
      const isWanted = same.some(({ agents }) => agents.includes(agent));
      if (names.includes(name)) cells[agent] = "seen";
      else if (names[0] !== undefined) cells[agent] = `as ${names[0]}`;
      else if (used.some((seen) => seen.name === name)) cells[agent] = "another";
      else cells[agent] = isWanted ? "not seen" : "-";
      const isDeployed = same.some(({ path }) => exists(path));
      const message = `${quote(name)} is not seen: run use-skills.ts sync`;
      if (cells[agent] === "not seen" && !isDeployed) problems.push({ file: manifest, line, name, message });
    }
    rows.push({ name, source, agents: cells });
  }
  return { rows, others };
}

function printGrid({ rows, others }: Grid, views: readonly View[], desired: Desired): void {
  const header = views.map(({ agent, isAsked }) => isAsked ? `${agent} (asked)` : agent);
  if (rows.length === 0) console.log("No skills");
  else printColumns([["SKILL", ...header], ...rows.map(({ name, agents }) => [name, ...Object.values(agents)])]);
  if (others.size === 0) return;
  console.log("\nOther skills:");
  printColumns(Array.from(Map.groupBy(others, ({ name, source }) => `${name}\n${source}`).values(), (same) => {
    const { name, source } = same[0]!;
    const agents = views.filter(({ used }) => same.some((seen) => used.includes(seen))).map(({ agent }) => agent);
    return [` ${name}`, `${desired.origins?.[source] ?? showPath(source, desired)} (${agents.join(", ")})`];
  }));
}

type Options = Record<"quiet" | "json" | "ask" | "yes", boolean>;

/** Shows what each agent sees, and all problems. */
async function show(desired: Desired, { json, quiet, ask, yes }: Options): Promise<number> {
  const agents = agentsToShow(desired);
  const asked = agents.filter((agent) => ask && isOnPath(AGENTS[agent]?.question?.command[0] ?? ""));
  if (asked.length > 0 && !yes) {
    const effects = "which may run plugins of this project, and OpenCode writes .opencode/.gitignore";
    if (!Deno.stdin.isTerminal()) throw new UsageError(`--ask starts agents, ${effects}: add --yes`);
    if (!confirm(`This starts ${asked.join(", ")}, ${effects}. Continue?`)) throw new UsageError("Not asked");
  }
  const directories = new Map<string, Directory>();
  const views: View[] = [];
  for (const agent of agents) views.push(await examine(agent, desired, directories, asked.includes(agent)));
  const grid = await compare(views, desired);
  const notes = views.flatMap(budgetNote);
  const all = [
    ...desired.problems,
    ...merge(views),
    ...examineCodexHome(desired),
    ...await examineGoneProjects(directories.keys(), desired),
  ];
  if (json) {
    const seen = views.map(({ agent, isAsked, used }) => {
      const skills = used.map(({ name, path, source, owned }) => ({ name, path, source, owned }));
      return { agent, asked: isAsked, tested: AGENTS[agent]?.source === "test", skills };
    });
    printJson({ skills: grid.rows, agents: seen, notes }, all, desired);
  } else if (!quiet) {
    printGrid(grid, views, desired);
    for (const note of notes) console.error(escapeControls(`Note: ${note}`));
  }
  for (const problem of all) printProblem(problem, desired);
  if (!json && !quiet && Deno.stderr.isTerminal()) {
    console.error(`Skills: ${grid.rows.length}, problems: ${all.length}`);
  }
  return all.length > 0 ? 1 : 0;
}

/** Validates the skills in some directories, or without any those of the manifest. */
function validate(words: readonly string[], desired: Desired, { json, quiet }: Options): number {
  const from = desired.global ? Deno.cwd() : desired.start;
  const wanted: [path: string, name: string][] = words.length > 0
    ? words.map((word) => resolve(from, word).replace(/\/SKILL\.md$/, "")).map((path) => [path, basename(path)])
    : desired.targets.flatMap(({ skills }) => skills).map(({ source, name }) => [source, name]);
  const problems = words.length > 0 ? [] : [...desired.problems];
  const warnings: Problem[] = [];
  const skills = [];
  for (const [path, name] of new Map(wanted)) {
    const violations = findViolations(path, name);
    const { text, fields, fault } = readSkill(path);
    problems.push(...violations);
    if (!fault) warnings.push(...findWarnings(path, text));
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

/** What is known without use-skills: the project is the repo around the working directory. */
function withoutManifest(): Desired {
  const start = Deno.realPathSync(".");
  const directory = directoriesUp(start).find((each) => exists(`${each}/.git`)) ?? start;
  const nothing = { readable: false, targets: [], keptNames: [], problems: [], searchPath: [] };
  const store = expand("${XDG_DATA_HOME:-~/.local/share}/use-skills/store");
  return { directory, manifest: `${directory}/.skills`, global: false, start, store, ...nothing };
}

/** Runs the program, and returns its exit status. Without `desired`, only the file system is examined. */
export async function main(args: string[], desired?: Desired): Promise<number> {
  try {
    const { _: [command = "show", ...words], help: isHelp, version, ...options } = parseArgs(args, {
      boolean: ["help", "version", "quiet", "json", "ask", "yes"],
      string: "_",
      alias: { h: "help", V: "version", q: "quiet" },
      unknown(argument: string, key?: string) {
        if (key !== undefined) throw new UsageError(`Unknown option ${quote(argument)}`);
      },
    });
    if (isHelp || version) {
      console.log(isHelp ? help() : VERSION);
      return 0;
    }
    const known = desired ?? withoutManifest();
    if (command === "show" && words.length === 0) return await show(known, options);
    if (command === "show") throw new UsageError(`Unexpected ${quote(`${words[0]}`)} after show`);
    if (command !== "validate") throw new UsageError(`Unknown command ${quote(`${command}`)}`);
    if (!desired && words.length === 0) throw new UsageError("Usage: doctor.ts validate DIR...");
    return validate(words.map(String), known, options);
  } catch (error) {
    console.error(escapeControls(`skill-doctor: ${explain(error)}`));
    return error instanceof UsageError ? 2 : 1;
  }
}

if (import.meta.main) Deno.exit(await main(Deno.args));
