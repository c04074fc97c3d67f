#!/usr/bin/env -S deno run -A --no-config --no-lock
/**
 * Runs tasks of a repo: each is given to an agent in its own git worktree, reviewed, and merged into the base branch.
 *
 * One file that needs Deno and git and fetches nothing. A task is a chain of commits at `refs/worker/tasks/<id>`. Each
 * commit is an event, with `task.json`, the brief, reports and reviews in its tree. An event is published by moving the
 * ref with compare-and-swap, so of concurrent writers one wins. `.git/worker/` (process ids, logs, locks) can be deleted.
 *
 * The sections: tables, helpers, git, tasks and their events, worktrees, agents, policy (which changes nothing), the
 * commands, queries, doctor, the command line.
 *
 * @module
 */

// ── Tables ──────────────────────────────────────────────────────────────────────────────────────────────────────

/** The version of this program. */
export const VERSION = "0.2.4";

/** Reasons for a failure, and their exit statuses. */
const EXIT = {
  internal: 1,
  usage: 2,
  no_task: 3,
  state: 4,
  race: 5,
  limit: 6,
  conflict: 7,
  check_failed: 7,
  needs_human: 8,
  loses_work: 9,
  git: 10,
} as const;

/** The states of a task. `live` tasks count against the limit, `waiting` ones against the review queue. */
const STATES = {
  queued: { live: true, waiting: false, next: "worker doctor --fix, if no spawn is running" },
  working: { live: true, waiting: false, next: "worker wait ID" },
  blocked: { live: true, waiting: false, next: "worker resume ID --answer TEXT" },
  submitted: { live: true, waiting: true, next: "worker review start ID --head HEAD --actor NAME" },
  reviewing: {
    live: true,
    waiting: true,
    next: "worker wait ID, or worker review start ID --head HEAD --actor NAME --take",
  },
  changes_requested: { live: true, waiting: false, next: "worker resume ID" },
  approved: { live: true, waiting: false, next: "worker merge ID --check COMMAND" },
  needs_human: { live: true, waiting: false, next: "a person: worker human approve ID --head HEAD" },
  merging: { live: true, waiting: false, next: "worker doctor --fix, if no merge is running" },
  cancelling: { live: true, waiting: false, next: "worker doctor --fix, if no cancel is running" },
  merged: { live: false, waiting: false, next: "worker cancel ID --cleanup, when its worktree is not needed" },
  cancelled: { live: false, waiting: false, next: "worker cancel ID --cleanup, when its worktree is not needed" },
  failed: {
    live: false,
    waiting: false,
    next: "worker log ID, then worker resume ID or worker cancel ID --reason TEXT",
  },
} as const;

/** The state of a task. */
export type State = keyof typeof STATES;

/**
 * The states in which each command is allowed, and the state it leads to. There are two exceptions: a checkpoint leads
 * to `needs_human` first, and a person's approval then to the state that was intended; `submit` is also allowed after the
 * branch moved, which makes what was said about the earlier head void.
 */
const TRANSITIONS: Readonly<Record<string, { from: readonly State[]; to: State }>> = {
  "spawn": { from: ["queued"], to: "working" },
  "block": { from: ["working"], to: "blocked" },
  "resume": { from: ["queued", "blocked", "changes_requested", "approved", "working", "failed"], to: "working" },
  "fail": { from: ["working"], to: "failed" },
  "submit": { from: ["working"], to: "submitted" },
  "review start": { from: ["submitted"], to: "reviewing" },
  "review approve": { from: ["reviewing"], to: "approved" },
  "review request-changes": { from: ["reviewing"], to: "changes_requested" },
  "human approve": { from: ["needs_human"], to: "submitted" },
  "human reject": { from: ["needs_human"], to: "changes_requested" },
  "merge": { from: ["approved"], to: "merging" },
  "cancel": {
    from: (Object.keys(STATES) as State[]).filter((state) => !["merging", "merged", "cancelled"].includes(state)),
    to: "cancelling",
  },
};

/**
 * The command line of each agent. It must not ask anything, and must be allowed to edit, commit and call this program.
 */
const AGENTS: Readonly<Record<string, (prompt: string, model: readonly string[], folder?: string) => string[]>> = {
  // Source: code.claude.com/docs, "CLI reference". The last option takes any number of words. A long prompt is in a file,
  // whose `folder` Claude Code has to be allowed to read.
  claude: (prompt, model, folder) => [
    ...["claude", "-p", prompt, ...model, ...folder === undefined ? [] : ["--add-dir", folder]],
    ...["--permission-mode", "acceptEdits", "--allowedTools", "Bash"],
  ],
  // Source: developers.openai.com/codex/noninteractive. Its `workspace-write` sandbox keeps the git folder of a linked
  // worktree read-only, whatever is said to be writable (openai/codex issues 19786, 23661, 27418), so that no worker
  // could commit in it.
  codex: (prompt, model) => ["codex", "exec", ...model, "--sandbox", "danger-full-access", prompt],
  // Source: opencode.ai/docs, "CLI" and "Permissions".
  opencode: (prompt, model) => ["opencode", "run", ...model, "--auto", prompt],
  none: () => [],
};

/** Changes of these paths need a person's approval: patterns as in `.gitignore`, case-insensitive. */
const HUMAN_PATHS: readonly string[] = [
  ...["*auth", "*auth[!oe]*", "*authori[sz]*", "*authenticat*", "*login*", "*permission*", "*jwt*", "*csrf*", "*rbac*"],
  ...["session*", "*[!bs]session*", "*security*", "*passw*", "*secret", "*secret[!ai]*", "*secretaccess*"],
  ...["*credential*", "token.*", "*[-_]token.*", "*[-_]tokens.*", "*[-_]token[-_]*"],
  ...["*access[-_]token*", "*refresh[-_]token*", "*api[-_]token*", "*accesstoken*", "*refreshtoken*", "*apitoken*"],
  ...[".env", ".env.*", ".netrc", ".npmrc", "*.pem", "*.key", "*.p12", "id_rsa*", "id_ed25519*", "id_ecdsa*"],
  ...["*crypto*", "*cipher*", "*encrypt*", "*decrypt*", "signature.*", "signatures.*", "*verify[-_]signature*"],
  ...["*signature[-_]verif*", "*certificate*", "*.tf", "*.tf.json", "*.tfvars*"],
  ...["iam", "iam[-_.]*", "*[-_]iam", "*[-_]iam[-_.]*"],
  ...["/.github", ".gitlab-ci.yml", "/.ci", "/.circleci", "/.forgejo", "/.gitea", "/.woodpecker*", "/.buildkite"],
  ...[".travis.yml", ".drone.yml", "Jenkinsfile", "azure-pipelines.yml", "bitbucket-pipelines.yml", ".githooks"],
  ...[".husky", ".pre-commit-config.yaml", ".gitmodules", ".gitattributes", "CODEOWNERS", ".envrc", ".worktreeinclude"],
  ...["**/skills/review-gate", "**/skills/hq", ".skills", ".skills.lock", "AGENTS.md", "CLAUDE.md", ".mcp.json"],
  ...["**/.claude/settings*", "**/.claude/hooks", "**/.claude/agents", "opencode.json*", "**/.opencode/plugin*"],
  ...["**/.codex/config.toml", "**/.codex/hooks*"],
];

/** Ignored files that can be created again, so `cancel --cleanup` may remove them: patterns as in `.gitignore`. */
const DISPOSABLE: readonly string[] = [
  ...["node_modules", ".venv", "venv", "target", "__pycache__", "*.pyc", ".pytest_cache", ".mypy_cache", ".ruff_cache"],
  ...[".tox", ".gradle", ".next", ".nuxt", ".turbo", ".parcel-cache", ".direnv", ".DS_Store"],
  // OpenCode writes these into every project.
  ...["**/.opencode/.gitignore", "**/.opencode/package*.json", "**/.opencode/bun.lock*"],
];

/** Numeric settings: `git config worker.<name>`. */
const NUMBERS = {
  /** How many tasks may be live at once. */
  wip: { value: 5, least: 3, most: 7 },
  /** With this many tasks waiting for review or in review, no task is spawned. */
  reviewQueue: { value: 3, least: 1, most: 7 },
  /** More changed lines or renamed files than this need a person's approval. */
  humanLines: { value: 800, least: 1, most: Infinity },
  humanRenames: { value: 20, least: 1, most: Infinity },
  /** After this many requests for changes, a person decides. */
  rounds: { value: 2, least: 1, most: Infinity },
};

/** The longest prompt for a command line, in bytes. Linux allows 128 KiB per argument. */
const PROMPT_LIMIT = 100_000;

/** How much of an agent's or a check's output is shown, in lines, and read, in bytes. */
const LOG_LINES = 200;
const LOG_BYTES = 2 ** 18;

/** How long an agent may take to end after SIGTERM, in milliseconds. */
const GRACE = 5000;

// ── Helpers ─────────────────────────────────────────────────────────────────────────────────────────────────────

/** A command that can't be carried out. `hint` says what to do. */
class Failure extends Error {
  /** `output`: what a command printed that failed. */
  constructor(readonly code: keyof typeof EXIT, message: string, readonly hint?: string, readonly output?: string) {
    super(message);
  }
}

function quote(value: string): string {
  return JSON.stringify(value.length > 200 ? `${value.slice(0, 200)}...` : value);
}

/** `text` with every character escaped, except line ends and tabs, that could mislead a reader or control a terminal. */
function escapeControls(text: string): string {
  return /^[\n\t -~]*$/.test(text) ? text : escapeUnicode(text);
}

// A function of its own, because only to compile its expression takes a quarter of a millisecond.
function escapeUnicode(text: string): string {
  return text.replace(/[^\n\t\P{C}]|[\p{Zl}\p{Zp}]/gu, (odd) => `\\u{${odd.codePointAt(0)?.toString(16)}}`);
}

function shorten(text: string, length: number): string {
  return text.length > length ? `${text.slice(0, length - 1)}…` : text;
}

/** The first items of a list, one per line. */
function listSome(items: readonly string[]): string {
  const more = items.length > 10 ? [`... and ${items.length - 10} more`] : [];
  return [...items.slice(0, 10), ...more].map((item) => `\n  ${item.replaceAll("\n", "\\n")}`).join("");
}

function printError(text: string): void {
  console.error(escapeControls(text));
}

function writeAll(file: { writeSync(bytes: Uint8Array): number }, bytes: Uint8Array): void {
  for (let rest = bytes; rest.length > 0;) rest = rest.subarray(file.writeSync(rest));
}

/** `word` as a shell reads it. */
function shellWord(word: string): string {
  return /^[\w./:@=+-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;
}

/** What `look` returns, or `undefined` if nothing is at the path that it looks at. */
function ifThere<T>(look: () => T): T | undefined {
  try {
    return look();
  } catch (error) {
    if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory) return undefined;
    throw error;
  }
}

/** What is at a path, without following a link. */
function lstat(path: string): Deno.FileInfo | undefined {
  return ifThere(() => Deno.lstatSync(path));
}

function exists(path: string): boolean {
  return lstat(path) !== undefined;
}

/** The file's text, if there is one. */
function readOptional(path: string): string | undefined {
  return ifThere(() => Deno.readTextFileSync(path));
}

/** Removes a path recursively, also read-only directories. It's fine if it doesn't exist. */
function removeAny(path: string): void {
  if (!exists(path)) return;
  try {
    Deno.removeSync(path, { recursive: true });
  } catch (error) {
    if (!(error instanceof Deno.errors.PermissionDenied)) throw error;
    makeWritable(path);
    Deno.removeSync(path, { recursive: true });
  }
}

function makeWritable(path: string): void {
  if (!Deno.lstatSync(path).isDirectory) return;
  Deno.chmodSync(path, 0o755);
  for (const { name } of Deno.readDirSync(path)) makeWritable(`${path}/${name}`);
}

/** Reads the file that an option names; `-` is standard input. */
async function readGiven(option: string, path: string): Promise<string> {
  try {
    const text = path === "-" ? await new Response(Deno.stdin.readable).text() : Deno.readTextFileSync(path);
    if (text.includes("\0")) throw new Error("it contains a NUL, which no command line can contain");
    if (text.trim() !== "") return text;
  } catch (error) {
    throw new Failure("usage", `Cannot read --${option} ${quote(path)}: ${explain(error)}`);
  }
  throw new Failure("usage", `--${option} ${quote(path)} is empty`);
}

/** An error's message, without the operating system's error number. */
function explain(error: unknown): string {
  return (error instanceof Error ? error.message : String(error)).replace(/ \(os error \d+\)/, "");
}

function formatDuration(seconds: number): string {
  for (const [unit, length] of [["d", 86400], ["h", 3600], ["m", 60]] as const) {
    if (seconds >= 2 * length) return `${Math.floor(seconds / length)}${unit}`;
  }
  return `${seconds}s`;
}

function secondsSince(time: string): number {
  return Math.max(0, Math.floor((Date.now() - Date.parse(time)) / 1000));
}

/** Formats rows as columns. To fit a terminal, the last two are shortened. */
function table(cells: readonly (readonly string[])[], columns = Infinity): string {
  const rows = cells.map((row) => row.map((cell) => cell.replaceAll("\n", "\\n")));
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
  const [note = 0, title = 0] = widths.slice(-2);
  const room = Math.max(20, columns - widths.slice(0, -2).reduce((sum, width) => sum + width + 2, 2));
  const noteWidth = Math.min(note, Math.max(10, room - 12));
  widths.splice(-2, 2, noteWidth, Math.min(title, room - noteWidth));
  const lineOf = (row: readonly string[]) =>
    row.map((cell, column) => shorten(cell, widths[column] ?? 0).padEnd(widths[column] ?? 0)).join("  ").trimEnd();
  return rows.map(lineOf).join("\n");
}

/**
 * Converts a glob to a regular expression. It means the same as in `.gitignore`: without a slash it matches a name at any
 * depth, and a directory includes everything in it. It is case-insensitive.
 *
 * @param glob The glob, with `*`, `?`, `**` and `[...]`.
 * @returns An expression for paths from the repo's root.
 *
 * @example
 * ```ts
 * globToRegExp("*.key").test("deploy/server.key"); // true
 * globToRegExp("src/api").test("src/api/v1/users.ts"); // true
 * ```
 */
export function globToRegExp(glob: string): RegExp {
  const one = (segment: string) =>
    segment.replace(/\[[^\]]+\]|[^]/g, (piece) => {
      if (piece.length > 1) return piece.replace(/^\[!/, "[^").replaceAll("\\", "\\\\");
      return piece === "*" ? "[^/]*" : piece === "?" ? "[^/]" : piece.replace(/[\\^$.|+()[\]{}]/, "\\$&");
    });
  const segments = globSegments(glob).map((segment) => segment === "**" ? "(?:[^]*/)?" : `${one(segment)}/`);
  return new RegExp(`^${segments.join("")}`, "i");
}

/** Like {@linkcode globToRegExp}, but without what is in a directory. */
function exactly(glob: string): RegExp {
  return new RegExp(`${globToRegExp(glob).source}$`, "i");
}

function checkGlob(glob: string, from: string): void {
  try {
    globToRegExp(glob);
  } catch {
    throw new Failure("usage", `${from} ${quote(glob)} is not a glob: a range in [] is in the wrong order`);
  }
}

function globSegments(glob: string): string[] {
  const trimmed = glob.replace(/^\.\//, "").replace(/\/+$/, "");
  return (trimmed.includes("/") ? trimmed : `**/${trimmed}`).split("/").filter((segment) => segment !== "");
}

/**
 * Whether two globs could match the same path, judged by what is before their first wildcards. In doubt, the answer is
 * yes.
 *
 * @param a A glob; see {@linkcode globToRegExp}. A name without wildcards is relative to the root.
 * @param b Another.
 *
 * @example
 * ```ts
 * globsMeet("src/api", "src/api/*.ts"); // true
 * globsMeet("src/a*.ts", "src/b*.ts"); // false
 * ```
 */
export function globsMeet(a: string, b: string): boolean {
  const literalOf = (glob: string) => {
    const path = glob.replace(/^\.?\//, "").replace(/\/+$/, "").toLowerCase();
    const wildcard = path.search(/[*?[]/);
    if (wildcard < 0) return `${path}/`; // a file, or a directory with everything in it
    return path.includes("/") ? path.slice(0, wildcard) : ""; // one without a slash matches at any depth
  };
  const [x, y] = [literalOf(a), literalOf(b)];
  return x.startsWith(y) || y.startsWith(x);
}

// ── git ─────────────────────────────────────────────────────────────────────────────────────────────────────────

/** What `worker list` needs of a repo. */
interface Clone {
  /** The git directory that all worktrees share. */
  common: string;
  /** The branch that is checked out in the working directory, as a full ref. */
  head?: string;
  /** The refs of tasks and of their branches when the command began. */
  refs: Refs;
}

interface Repo extends Clone {
  /** The folder for worktrees of tasks. */
  worktrees: string;
  config: Config;
  /** The running command, as shown to one that waits for it, and how long it waits for others, in seconds. */
  caller: { text: string; timeout: number };
}

/** Refs with their commits. Of a task's newest event also its state, and the commit at which the task leaves the base. */
type Refs = ReadonlyMap<string, { commit: string; to: string; base: string }>;

type Config = ReturnType<typeof readConfig>;

/** The environment for processes, without the variables that a git hook sets. */
const ENVIRONMENT = Object.fromEntries(
  Object.entries(Deno.env.toObject()).filter(([name]) =>
    !/^GIT_(DIR|WORK_TREE|IMPLICIT_WORK_TREE|COMMON_DIR|INDEX_FILE|PREFIX|NAMESPACE|QUARANTINE_PATH|(ALTERNATE_)?OBJECT_.*)$/
      .test(name)
  ),
);

/** Git must not prompt, or translate its messages. */
const GIT_ENVIRONMENT = { LC_ALL: "C", GIT_TERMINAL_PROMPT: "0", GIT_OPTIONAL_LOCKS: "0", GIT_NO_REPLACE_OBJECTS: "1" };

type Output = Awaited<ReturnType<typeof run>>;

interface RunOptions {
  cwd?: string;
  input?: string | Uint8Array;
  env?: Record<string, string>;
  /** Whether it runs hooks, which can leave processes. */
  mayLinger?: boolean;
}

/** The output of a process, even if a process that it has left running keeps the pipes open. */
async function collectOutput(child: Deno.ChildProcess) {
  const [stdout, stderr]: Uint8Array<ArrayBuffer>[][] = [[], []];
  const read = async (stream: ReadableStream<Uint8Array<ArrayBuffer>>, pieces: Uint8Array<ArrayBuffer>[]) => {
    for await (const piece of stream) pieces.push(piece);
  };
  const all = Promise.all([read(child.stdout, stdout!), read(child.stderr, stderr!)]);
  const { code } = await child.status;
  await Promise.race([all, pause(1000)]); // What the process itself has written arrives immediately.
  return { code, stdout: await new Blob(stdout).bytes(), stderr: await new Blob(stderr).bytes() };
}

async function run(program: string, args: readonly string[], { cwd, input, env, mayLinger }: RunOptions) {
  try {
    const child = new Deno.Command(program, {
      args: [...args],
      cwd,
      env: env ?? ENVIRONMENT,
      clearEnv: true,
      stdin: input === undefined ? "null" : "piped",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    // Concurrently with reading, because pipes fill up. If it ends without reading its input, its output says why.
    const writer = input === undefined ? undefined : child.stdin.getWriter();
    const bytes = typeof input === "string" ? new TextEncoder().encode(input) : input;
    writer?.write(bytes ?? new Uint8Array()).catch(() => {});
    const written = writer?.close().catch(() => {});
    const [output] = await Promise.all([mayLinger ? collectOutput(child) : child.output(), written]);
    const { code, stdout, stderr } = output;
    return { code, bytes: stdout, out: new TextDecoder().decode(stdout), error: new TextDecoder().decode(stderr) };
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    if (cwd !== undefined && !exists(cwd)) throw new Failure("git", `The folder ${quote(cwd)} is gone`);
    throw new Failure("internal", `${program} is not installed, or not on the PATH`);
  }
}

/** Starts a shell in a session and a process group of its own, which outlives this program. */
function startDetached(args: string[], cwd: string, env: Record<string, string>): void {
  const streams = { stdin: "null", stdout: "null", stderr: "null" } as const;
  new Deno.Command("/bin/sh", { args, cwd, env, clearEnv: true, detached: true, ...streams }).spawn().unref();
}

/** Runs git; it may fail. */
async function tryGit(repo: Clone, args: readonly string[], { cwd, input, env }: RunOptions = {}): Promise<Output> {
  const environment = { ...ENVIRONMENT, ...GIT_ENVIRONMENT, ...env };
  const where = cwd === undefined ? ["--git-dir", repo.common] : []; // `safe.bareRepository` wants it said
  const mayLinger = ["worktree", "merge", "update-ref", "fast-import"].some((name) => args.includes(name));
  return await run("git", [...where, ...args], { cwd: cwd ?? repo.common, input, env: environment, mayLinger });
}

/** Runs git, which must succeed; returns its output. */
async function git(repo: Clone, args: readonly string[], how: RunOptions = {}): Promise<string> {
  const output = await tryGit(repo, args, how);
  if (output.code !== 0) throw gitFailure(args, output);
  return output.out;
}

function gitFailure(args: readonly string[], { code, out, error }: Output): Failure {
  const [name = "", more = ""] = args.filter((word) => !word.startsWith("-") && !word.includes("="));
  const what = name === "worktree" ? `${name} ${more}` : name;
  return new Failure("git", `git ${what} failed with status ${code}: ${(error || out).trim()}`);
}

/** Runs git in the working directory, where a git hook's variables say which repo it is. */
function gitHere(...args: string[]): Promise<Output> {
  return run("git", args, { env: { ...Deno.env.toObject(), ...GIT_ENVIRONMENT } });
}

/** Finds the repo of the working directory, and reads its refs. */
async function openClone(): Promise<Clone> {
  const [refs, place] = await Promise.all([ // first what takes longest
    gitHere("for-each-ref", REF_FORMAT, TASKS, BRANCHES.slice(0, -1)),
    gitHere("rev-parse", "--path-format=absolute", "--git-common-dir", "--symbolic-full-name", "HEAD"),
  ]);
  // In a repo without a commit, it prints the directory, and fails because of HEAD.
  const [common = "", head = "", ...more] = place.out.replace(/\n$/, "").split("\n");
  if (common === "") throw new Failure("git", `${Deno.cwd()} is in no git repo: ${place.error.trim()}`);
  if (more.length > 0) throw new Failure("usage", `The path of the repo has a line end: ${quote(place.out)}`);
  if (refs.code !== 0) throw gitFailure(["for-each-ref"], refs);
  return { common, head: head.startsWith("refs/heads/") ? head : undefined, refs: parseRefs(refs.out) };
}

/** Finds the repo of the working directory, and reads its settings and refs. */
async function openRepo(): Promise<Repo> {
  const [clone, config] = await Promise.all([openClone(), gitHere("config", "-z", "--get-regexp", "^worker\\.")]);
  if (config.code > 1) throw gitFailure(["config"], config);
  const set = new Map<string, string[]>();
  for (const entry of config.out.split("\0").filter(Boolean)) {
    const [key = "", ...value] = entry.split("\n");
    set.set(key, [...set.get(key) ?? [], value.join("\n")]);
  }
  const worktrees = worktreesFolder(clone.common, set.get("worker.dir")?.at(-1));
  return { ...clone, worktrees, config: readConfig(set), caller: { text: "", timeout: Infinity } };
}

function readConfig(set: ReadonlyMap<string, readonly string[]>) {
  const numbers = Object.entries(NUMBERS).map(([name, { value, least, most }]) => {
    const given = set.get(`worker.${name.toLowerCase()}`)?.at(-1);
    const number = Number(given ?? value);
    if (given?.trim() !== "" && Number.isInteger(number) && number >= least && number <= most) return [name, number];
    const range = most === Infinity ? `${least} or more` : `${least} to ${most}`;
    throw new Failure("usage", `git config worker.${name} is ${quote(given ?? "")}: it must be ${range}`);
  });
  const globs = (name: string) => {
    const all = set.get(`worker.${name.toLowerCase()}`) ?? [];
    for (const glob of all) checkGlob(glob, `git config worker.${name}`);
    return all;
  };
  const paths = globs("humanPath");
  const last = (name: string) => set.get(name)?.at(-1);
  return {
    ...Object.fromEntries(numbers) as Record<keyof typeof NUMBERS, number>,
    // Shell commands: for each new worktree, for each merge commit, and when a task needs a person or an answer.
    setup: last("worker.setup"),
    check: last("worker.check"),
    notify: last("worker.notify"),
    disposable: [...DISPOSABLE, ...globs("disposable")],
    /** Options that choose an agent's model. */
    modelOf: (agent: string) => {
      const model = last(`worker.model.${agent}`);
      return model ? ["--model", model] : [];
    },
    // An empty value removes the built-in patterns and those before it.
    humanPaths: paths.includes("") ? paths.slice(paths.lastIndexOf("") + 1) : [...HUMAN_PATHS, ...paths],
  };
}

/** The directory for worktrees: next to the repo, because agents and tools that search a repo would find worktrees in it. */
function worktreesFolder(common: string, set: string | undefined): string {
  const main = common.replace(/\/?\.git$/, "");
  if (set === undefined) {
    const folder = `${main}.worktrees`;
    if (main !== "" && !main.includes("/.git/")) return exists(folder) ? Deno.realPathSync(folder) : folder;
    throw new Failure("usage", `There is no place for worktrees next to ${common}`, "git config worker.dir /DIRECTORY");
  }
  const given = set.replace(/^~(?=\/)/, Deno.env.get("HOME") ?? "~").replace(/\/+$/, "");
  const folder = exists(given) ? Deno.realPathSync(given) : given; // git has real paths
  if (folder.startsWith("/") && folder !== main && !folder.startsWith(`${main}/`)) return folder;
  throw new Failure("usage", `git config worker.dir is ${quote(set)}: it must be an absolute path outside the repo`);
}

const TASKS = "refs/worker/tasks/";
const BRANCHES = "refs/heads/worker/";
// One list of trailers, as git 2.39 mixes up two of them.
const REF_FORMAT = "--format=%(refname) %(objectname) %(trailers:key=To,key=Base,valueonly,separator=%x20)";

/** Reads refs; `patterns` are those of `git for-each-ref`. */
async function readRefs(repo: Repo, ...patterns: string[]): Promise<Refs> {
  return parseRefs(await git(repo, ["for-each-ref", REF_FORMAT, ...patterns]));
}

function parseRefs(out: string): Refs {
  const lines = out.split("\n").filter(Boolean).map((line) => line.split(" "));
  return new Map(lines.map(([ref = "", commit = "", to = "", base = ""]) => [ref, { commit, to, base }]));
}

/** The commit of a ref, or `undefined` if it doesn't exist. */
async function readRef(repo: Repo, ref: string): Promise<string | undefined> {
  return (await readRefs(repo, ref)).get(ref)?.commit;
}

/** The texts of objects, in the given order; `undefined` if one doesn't exist. */
async function readObjects(repo: Clone, names: readonly string[]): Promise<(string | undefined)[]> {
  if (names.length === 0) return [];
  const args = ["cat-file", "--batch", "--buffer"];
  const output = await tryGit(repo, args, { input: names.map((name) => `${name}\n`).join("") });
  if (output.code !== 0) throw gitFailure(args, output);
  const { bytes } = output;
  const decoder = new TextDecoder();
  let offset = 0;
  return names.map(() => {
    const start = bytes.indexOf(10, offset) + 1;
    const [, kind, size] = decoder.decode(bytes.subarray(offset, start - 1)).split(" ");
    const isMissing = kind === "missing" || size === undefined;
    offset = isMissing ? start : start + Number(size) + 1;
    return isMissing ? undefined : decoder.decode(bytes.subarray(start, offset - 1));
  });
}

/** What `git status` says of a checkout: two letters, and a path. */
async function readStatus(repo: Repo, cwd: string, ...options: string[]): Promise<{ kind: string; path: string }[]> {
  const out = await git(repo, ["status", "--porcelain", "-z", "--no-renames", ...options], { cwd });
  return out.split("\0").filter(Boolean).map((entry) => ({ kind: entry.slice(0, 2), path: entry.slice(3) }));
}

/** Bytes as a string with one character per byte. */
function binary(bytes: Uint8Array): string {
  let text = "";
  for (let at = 0; at < bytes.length; at += 8192) text += String.fromCharCode(...bytes.subarray(at, at + 8192));
  return text;
}

/** Options that make a diff independent of the user's settings. */
const EXACTLY = ["--no-ext-diff", "--no-textconv", "--ignore-submodules=none"];

/**
 * Merges two commits; returns the tree and the conflicting paths. git reads attributes, which can set merge drivers, from
 * the checkout in `cwd`.
 */
async function mergeTrees(repo: Repo, ours: string, theirs: string, cwd?: string) {
  const args = ["merge-tree", "--write-tree", "-z", "--name-only", ours, theirs];
  const output = await tryGit(repo, args, { cwd });
  const [tree = "", ...rest] = output.out.split("\0");
  // Exit status 1 means a conflict or an error. Only for a conflict, it prints a tree.
  if (output.code > 1 || !/^([0-9a-f]{40}|[0-9a-f]{64})$/.test(tree)) throw gitFailure(args, output);
  const [paths, messages] = [rest.slice(0, rest.indexOf("")), rest.slice(rest.indexOf("") + 1)];
  const told = paths.length > 0
    ? paths
    : messages.filter((text) => text.startsWith("CONFLICT")).map((text) => text.trim());
  return { tree, conflicts: output.code === 0 ? [] : told.length > 0 ? told : ["of an unknown kind"] };
}

/** Takes a lock, which the operating system releases if this process is killed. Says for which command it waits. */
async function lock(repo: Repo, name: string): Promise<Disposable> {
  const { timeout } = repo.caller;
  const end = performance.now() + 1000 * timeout;
  for (let isTold = false;; await pause(50)) {
    const taken = await tryLock(repo, name);
    if (taken !== undefined) return taken;
    const other = readOptional(`${repo.common}/worker/locks/${name}`)?.trim() || "another command";
    if (!isTold) printError(`Waiting for: ${other}`);
    isTold = true;
    if (performance.now() < end) continue;
    throw new Failure("race", `Another command is still running after ${timeout} seconds: ${other}`, "Try again later");
  }
}

/** Like {@linkcode lock}; returns `undefined` if another process holds it. */
async function tryLock(repo: Repo, name: string): Promise<Disposable | undefined> {
  const path = `${repo.common}/worker/locks/${name}`;
  Deno.mkdirSync(`${repo.common}/worker/locks`, { recursive: true });
  // The file is never removed, because a lock on a replaced file excludes nobody.
  const file = Deno.openSync(path, { write: true, create: true });
  if (!await file.tryLock(true)) {
    file.close();
    return undefined;
  }
  Deno.writeTextFileSync(path, `worker ${repo.caller.text} (process ${Deno.pid})\n`); // for those who wait for it
  return file;
}

// ── Tasks and their events ──────────────────────────────────────────────────────────────────────────────────────

/** The content of `task.json`. It contains nothing machine-specific. */
export interface Task {
  version: 1;
  id: string;
  /** The brief's first line. */
  title: string;
  state: State;
  /** When it entered the state, and when it was created. */
  since: string;
  created: string;
  /** The branch that it is merged into, as a full ref, and that branch's commit at the start. */
  base: string;
  start: string;
  agent: string;
  /** The command that is run instead of the agent's command line. */
  command?: string[];
  /** The paths that it declares to change. */
  paths: string[];
  dependsOn: string[];
  /** Actors that may not review it. */
  authors: string[];
  /** The numbers of submissions, and of requests for changes. */
  round: number;
  requests: number;
  /** The submitted commit, its merge base, and the last reviewed commit. */
  head?: string;
  from?: string;
  reviewed?: string;
  reviewer?: string;
  question?: string;
  /** The files, in its commit, with the findings of reviewers, of a person and of checks. */
  findings?: string[];
  /** All answers, also unasked ones. Each agent starts without a memory of earlier ones. */
  answers?: { question?: string; answer: string }[];
  /** What a person has to approve, and the state afterwards. */
  checkpoints?: Checkpoint[];
  next?: State;
  /** What a person has approved. */
  cleared?: { head: string; kinds: string[] };
  /** The merge commit, and the base's commit that it was made for. */
  merge?: { commit: string; onto: string };
  /** Why it was cancelled, failed, or rejected by a person. */
  reason?: string;
  /** The progress of `cancel --cleanup`. */
  cleanup?: { discard: boolean; head?: string; backup?: string; done?: boolean };
  /** The command that made this event, so that it can be continued or answered again. */
  operation: { id: string; command: string; actor: string };
}

interface Checkpoint {
  kind: "paths" | "hidden" | "lines" | "renames" | "rounds";
  detail: string;
}

/** A task as it was read. A change is published only if it is still the newest. */
interface TaskSnapshot {
  task: Task;
  /** Its newest event. */
  commit: string;
  /** The commit of its branch, if the branch exists in this clone. */
  branch?: string;
}

interface Answer {
  changed: boolean;
  taskId?: string;
  state?: State;
  head?: string;
  data?: Record<string, unknown>;
  /** The text for people: on standard output for queries, otherwise on standard error. */
  text?: string;
  error?: { code: keyof typeof EXIT; message: string; hint?: string };
}

interface EventContent {
  /** What happened, as the subject of the commit. */
  subject: string;
  task: Task;
  /** Files to add to its tree, by path. */
  files?: Record<string, string>;
  /** A commit that is kept and fetched with it. */
  pin?: string;
  /** The command's result; `undefined` if the command continues after this event. */
  answer?: Answer;
}

async function readTasks(repo: Repo): Promise<TaskSnapshot[]> {
  return await tasksAt(repo, await readRefs(repo, TASKS, BRANCHES));
}

async function tasksAt(repo: Clone, refs: Refs): Promise<TaskSnapshot[]> {
  const tips = [...refs].filter(([ref]) => ref.startsWith(TASKS));
  const texts = await readObjects(repo, tips.map(([, { commit }]) => `${commit}:task.json`));
  return tips.flatMap(([ref, { commit }], index) => {
    const id = ref.slice(TASKS.length);
    const task = parseTask(texts[index]);
    return task?.id === id ? [{ task, commit, branch: refs.get(BRANCHES + id)?.commit }] : []; // doctor tells of others
  });
}

function parseTask(text: string | undefined): Task | undefined {
  try {
    const task = JSON.parse(text ?? "") as Task;
    return task.version === 1 && Object.hasOwn(STATES, task.state) ? task : undefined;
  } catch {
    return undefined;
  }
}

async function readTask(repo: Repo, id: string): Promise<TaskSnapshot> {
  const refs = await readRefs(repo, TASKS + id, BRANCHES + id);
  const seen = (await tasksAt(repo, refs)).find(({ task }) => task.id === id);
  if (seen !== undefined) return seen;
  throw new Failure("no_task", `There is no task ${quote(id)}`, "worker list shows the existing ones");
}

/** Writes an event's commit, without publishing it. */
async function write(repo: Repo, before: TaskSnapshot | undefined, happening: EventContent): Promise<string> {
  const { subject, task, files, pin, answer } = happening;
  const { operation: { id, command, actor }, head } = task;
  const trailers = [
    ["Task-Id", task.id],
    ["Op-Id", id],
    ["Actor", actor],
    ["From", before?.task.state ?? "none"],
    ["To", task.state],
    ...head === undefined ? [] : [["Head", head]],
    ["Base", task.from ?? task.start],
  ];
  const message = `${subject.replace(/\p{C}/gu, " ")}\n\n${trailers.map((pair) => pair.join(": ")).join("\n")}\n`;
  const data = (text: string) => `data ${new TextEncoder().encode(text).length}\n${text}\n`;
  const texts = {
    ...files,
    "task.json": `${JSON.stringify(task, undefined, 2)}\n`,
    "answer.json": `${JSON.stringify({ command, ...answer }, undefined, 2)}\n`,
  };
  // One process for all objects. The stream needs a ref, which is reset before it ends.
  const stream = [
    `commit refs/worker/stream\nmark :1\n`,
    `committer ${actor.replace(/[<>]/g, "")} <worker@localhost> ${Math.floor(Date.now() / 1000)} +0000\n`,
    data(message),
    before ? `from ${before.commit}\n` : "",
    pin === undefined ? "" : `merge ${pin}\n`,
    task.state === "queued" ? "deleteall\n" : "", // The ID can be that of a cancelled task.
    ...Object.entries(texts).map(([path, text]) => `M 100644 inline ${path}\n${data(text)}`),
    "\nget-mark :1\nreset refs/worker/stream\n\n",
  ];
  return (await git(repo, ["fast-import", "--quiet", "--date-format=raw"], { input: stream.join("") })).trim();
}

/** Publishes an event: moves the task's ref from the commit that was read, unless somebody else was faster. */
async function publish(
  repo: Repo,
  before: TaskSnapshot | undefined,
  task: Task,
  commit: string,
): Promise<TaskSnapshot> {
  const args = ["update-ref", TASKS + task.id, commit, before?.commit ?? ""];
  const output = await tryGit(repo, args);
  if (output.code === 0) {
    if (before?.task.state !== task.state) notify(repo, task);
    return { task, commit, branch: before?.branch };
  }
  if (await readRef(repo, TASKS + task.id) === before?.commit) throw gitFailure(args, output);
  throw new Failure("race", `Somebody else just changed task ${quote(task.id)}`, `worker status ${task.id}`);
}

/** Runs `worker.notify`, and does not wait for it, if a task now needs a person or an answer. */
function notify({ config, common }: Repo, task: Task): void {
  if (config.notify === undefined || !["blocked", "needs_human", "failed"].includes(task.state)) return;
  const why = task.question ?? task.reason ?? checkpointList(task).join("; ");
  const env = { WORKER_ID: task.id, WORKER_STATE: task.state, WORKER_TITLE: task.title, WORKER_WHY: why };
  startDetached(["-c", config.notify], common, { ...ENVIRONMENT, ...env });
}

function checkpointList({ checkpoints = [] }: Pick<Task, "checkpoints">): string[] {
  return checkpoints.map(({ kind, detail }) => `${kind}: ${detail}`);
}

async function record(repo: Repo, before: TaskSnapshot | undefined, happening: EventContent): Promise<TaskSnapshot> {
  return await publish(repo, before, happening.task, await write(repo, before, happening));
}

/** The task after an event. A change to `undefined` removes a field. */
function change(seen: TaskSnapshot, operation: Task["operation"], changes: Partial<Task>): Task {
  const moved = changes.state !== undefined && changes.state !== seen.task.state;
  const now = new Date().toISOString();
  return { ...seen.task, ...moved && { since: now }, ...changes, operation };
}

/** A result about a task. Its text ends with the next step. */
function answerFor(task: Task, text: string, data: Record<string, unknown> = {}): Answer {
  const next = nextStep(task);
  return {
    ...{ changed: true, taskId: task.id, state: task.state, head: task.head, data },
    text: next === "" ? text : `${text}\nNext: ${next}`,
  };
}

/** The tasks that have to be merged before a queued task starts, and those of them that never will be. */
function dependenciesOf({ state, dependsOn }: Task, refs: Refs): { open: string[]; lost: string[] } {
  const stateOf = (id: string) => refs.get(TASKS + id)?.to;
  const open = state === "queued" ? dependsOn.filter((id) => stateOf(id) !== "merged") : [];
  return { open, lost: open.filter((id) => stateOf(id) === "cancelled") };
}

/** The next step for a task. `refs` has the states of others. */
function nextStep(task: Task, refs: Refs = new Map()): string {
  const { id, state, head, cleanup } = task;
  if (cleanup?.done) return "";
  const { open, lost } = dependenciesOf(task, refs);
  if (lost.length > 0) return CANCEL_STEP.replace("ID", id);
  if (open.length > 0) return `it starts when these are merged: ${open.join(", ")}`;
  return STATES[state].next.replaceAll("ID", id).replaceAll("HEAD", `${head}`);
}

/** Reads the events of one task or of all tasks, in order, as the messages of their commits describe them. */
async function readEvents(repo: Repo, id?: string, ...filter: string[]) {
  const tips = id === undefined ? [`--glob=${TASKS}*`] : [TASKS + id];
  const format = "-z --first-parent --topo-order --reverse --encoding=UTF-8 --format=%H%n%ct%n%B".split(" ");
  const out = await git(repo, ["log", "--no-show-signature", ...format, ...filter, ...tips, "--"]);
  return out.split("\0").filter(Boolean).map((text) => {
    const [commit = "", time = "", subject = "", ...rest] = text.split("\n");
    const trailers: Record<string, string> = Object.fromEntries(
      rest.map((line) => /^([\w-]+): ([^]*)$/.exec(line)?.slice(1) ?? []),
    );
    const { "Task-Id": taskId = "", "Op-Id": opId = "", Actor: actor = "", From: from = "", To: to = "" } = trailers;
    const at = new Date(Number(time) * 1000).toISOString();
    const { Head: head } = trailers;
    return { commit, at, subject, taskId, opId, actor, from, to, ...head !== undefined && { head } };
  });
}

// ── Worktrees ───────────────────────────────────────────────────────────────────────────────────────────────────

async function readWorktrees(repo: Repo) {
  const out = await git(repo, ["worktree", "list", "--porcelain", "-z"]);
  return out.split("\0\0").filter(Boolean).map((text) => {
    const fields = new Map(text.split("\0").map((line) => /^(\S+) ?([^]*)$/.exec(line)?.slice(1) as [string, string]));
    const [path = "", branch, locked] = ["worktree", "branch", "locked"].map((name) => fields.get(name));
    return { path, branch, locked, isBare: fields.has("bare") }; // `locked` is the reason
  });
}

function worktreeOf(repo: Repo, id: string): string {
  return `${repo.worktrees}/${id}`;
}

/** What is at a path: a worktree of this repo, what a killed git left of one, something else, or nothing. */
function inspectPath(repo: Repo, path: string): "worktree" | "debris" | "foreign" | "nothing" {
  const info = lstat(path);
  if (info === undefined) return "nothing";
  if (!info.isDirectory) return "foreign";
  const names = [...Deno.readDirSync(path)].map(({ name }) => name);
  if (names.length === 0) return "nothing";
  const text = lstat(`${path}/.git`)?.isFile ? readOptional(`${path}/.git`) : undefined;
  if (text === "" && names.length === 1) return "debris";
  const pointer = /^gitdir: (.*)\n?$/.exec(text ?? "")?.[1];
  if (pointer === undefined) return "foreign";
  const admin = pointer.startsWith("/") ? pointer : `${path}/${pointer}`;
  if (exists(`${admin}/HEAD`)) {
    const common = (readOptional(`${admin}/commondir`) ?? "").trim();
    const path = common.startsWith("/") ? common : `${admin}/${common}`;
    return exists(path) && Deno.realPathSync(path) === Deno.realPathSync(repo.common) ? "worktree" : "foreign";
  }
  return names.length === 1 && pointer.includes(`${repo.common}/worktrees/`) ? "debris" : "foreign";
}

/** A task's worktree, if it is here. */
function checkoutOf(repo: Repo, id: string): string | undefined {
  const path = worktreeOf(repo, id);
  return inspectPath(repo, path) === "worktree" ? path : undefined;
}

/** Removes what a killed `git worktree add` left in the git directory. With it, git could not list the others. */
function clearPartial(repo: Repo, id: string): void {
  const admin = `${repo.common}/worktrees/${id}`;
  const isPartial = ["gitdir", "HEAD", "commondir"].some((name) => !readOptional(`${admin}/${name}`)?.trim());
  if (exists(admin) && isPartial) removeAny(admin);
}

/** What git knows of a task's branch and worktree. */
async function placeOf(repo: Repo, id: string) {
  const [path, ref] = [worktreeOf(repo, id), BRANCHES + id];
  const [worktrees, branch] = await Promise.all([readWorktrees(repo), readRef(repo, ref)]);
  const known = worktrees.find((each) => each.path === path);
  /** Where else its branch is checked out. */
  const elsewhere = worktrees.find((each) => each.branch === ref && each.path !== path)?.path;
  const [found, isKnown] = [inspectPath(repo, path), known !== undefined];
  return { path, found, isKnown, locked: known?.locked, branch, elsewhere };
}

/** What to do if a task's branch is checked out elsewhere: perhaps in the worktree that was left when the repo was moved. */
function hintElsewhere(repo: Repo, id: string, path: string): string {
  const isLeft = path.endsWith(`/${id}`) && inspectPath(repo, path) === "foreign" && !exists(repo.worktrees);
  const move = `mv ${shellWord(path.replace(/\/[^/]*$/, ""))} ${shellWord(repo.worktrees)}`;
  return isLeft ? `${move}, then worker doctor --fix` : "Check out another branch there";
}

/** Creates a task's branch and worktree, if they are missing. */
async function ensureWorktree(repo: Repo, { task, branch }: TaskSnapshot): Promise<void> {
  const [path, name] = [worktreeOf(repo, task.id), `worker/${task.id}`];
  const inTheWay = (what: string, hint: string) => new Failure("state", `Cannot create ${path}: ${what}`, hint);
  const isNew = task.state === "queued";
  const makeNew = ["worktree", "add", "--quiet", "--no-track", "-b", name, path, task.start];
  if (isNew) clearPartial(repo, task.id);
  const isFree = branch === undefined && inspectPath(repo, path) === "nothing";
  if (isNew && isFree && (await tryGit(repo, makeNew)).code === 0) return;

  const { found, locked, branch: at, elsewhere } = await placeOf(repo, task.id);
  // git sets this lock while it creates a worktree. A killed one leaves it.
  const isPartial = isNew && locked === "initializing";
  if (found === "worktree" && !isPartial) return;
  if (found === "foreign" && !isPartial) {
    throw inTheWay("it exists, and is no worktree of this repo", "Move it away");
  }
  if (elsewhere !== undefined) {
    throw inTheWay(`its branch is checked out in ${elsewhere}`, hintElsewhere(repo, task.id, elsewhere));
  }
  if (locked !== undefined && !isPartial) {
    throw inTheWay(`it is locked`, `git worktree unlock ${shellWord(path)}`);
  }
  if (at === undefined && !isNew) {
    throw inTheWay(`the branch ${name} is not in this repo`, `git branch ${name} ${task.head ?? "COMMIT"}`);
  }
  if (isNew && at !== undefined && at !== task.start) {
    const message = `There is a branch ${name} at ${at}, and task ${quote(task.id)} starts at ${task.start}`;
    throw new Failure("race", message, `If nobody needs it: git branch -m ${name} SOMETHING-ELSE`);
  }
  if (isPartial) await git(repo, ["worktree", "remove", "--force", "--force", path]);
  else if (found === "debris") Deno.removeSync(`${path}/.git`);
  await git(repo, at === undefined ? makeNew : ["worktree", "add", "--quiet", "--force", path, name]);
}

/** The state of a worktree, and what its removal would lose. */
type Inspection = Awaited<ReturnType<typeof inspect>>;

async function inspect(repo: Repo, id: string) {
  const place = await placeOf(repo, id);
  const { path, branch } = place;
  if (place.found !== "worktree") return { ...place, detached: undefined, nested: [], losses: [] };
  const options = ["--untracked-files=all", "--ignored=matching", "--ignore-submodules=all"];
  const [where, entries] = await Promise.all([
    tryGit(repo, ["rev-parse", "--absolute-git-dir", "--verify", "HEAD"], { cwd: path }),
    readStatus(repo, path, ...options),
  ]);
  const [admin = "", head] = where.out.split("\n");
  const entriesOf = (kind: string) => entries.filter((entry) => entry.kind === kind).map(({ path }) => path);
  const tracked = (await git(repo, ["ls-files", "-z"], { cwd: path })).split("\0").filter(Boolean);
  const kept = new Set([...tracked, ...entriesOf("??")].flatMap(pathAndParents));
  const expressions = repo.config.disposable.map(exactly);
  const isDisposable = (path: string) =>
    pathAndParents(path).some((each) => !kept.has(each) && expressions.some((pattern) => pattern.test(`${each}/`)));
  const ignored: string[] = [];
  for (const entry of entriesOf("!!")) {
    ignored.push(...await lossesIn(repo, path, entry, isDisposable).catch(() => [entry]));
  }
  /** Repos in it. */
  const nested = nestedRepos(path).filter((each) => !isDisposable(each));
  const modules = exists(`${admin}/modules`) ? ["what git keeps of its submodules"] : [];
  /** The commit that is checked out, if it is not the branch's. */
  const detached = where.code !== 0 || head === branch ? undefined : head;
  /** What a commit of this repo can't save. */
  const losses = [...ignored, ...nested, ...modules].sort();
  return { ...place, detached, nested, losses };
}

/** A path, and the directories above it, without the slash at the end. */
function pathAndParents(path: string): string[] {
  const segments = path.replace(/\/$/, "").split("/");
  return segments.map((_, index) => segments.slice(0, index + 1).join("/"));
}

/**
 * What is lost with an ignored path of a worktree. Nothing is lost with a link, a file that the main checkout has, too,
 * what use-skills has deployed, and what is disposable.
 */
async function lossesIn(
  repo: Repo,
  worktree: string,
  path: string,
  isDisposable: (path: string) => boolean,
): Promise<string[]> {
  if (path.includes("\ufffd")) return [path]; // Its name isn't UTF-8, so it can't be looked at.
  const here = `${worktree}/${path}`;
  const { isSymlink, isDirectory } = Deno.lstatSync(here.replace(/\/$/, ""));
  if (isSymlink || isDisposable(path) || await isDeployed(repo, worktree, path).catch(() => false)) return [];
  if (!isDirectory) return isSameFile(here, `${repo.common.replace(/\/\.git$/, "")}/${path}`) ? [] : [path];
  const inside = Array.from(Deno.readDirSync(here), ({ name, isDirectory }) => path + name + (isDirectory ? "/" : ""));
  const losses: string[] = [];
  for (const each of inside) losses.push(...await lossesIn(repo, worktree, each, isDisposable));
  return losses.length > 0 && inside.every((each) => losses.includes(each)) ? [path] : losses;
}

function isSameFile(a: string, b: string): boolean {
  const [{ size }, other] = [Deno.statSync(a), ifThere(() => Deno.statSync(b))];
  if (!other?.isFile || size !== other.size || size > 2 ** 24) return false; // A large file is not worth reading.
  return binary(Deno.readFileSync(a)) === binary(Deno.readFileSync(b));
}

/** Whether a path is what use-skills has deployed, or records that. */
async function isDeployed(repo: Repo, worktree: string, path: string): Promise<boolean> {
  const [, target = "", name = ""] = /^(.*\/)([^/]+)\/?$/.exec(path) ?? [];
  const state = readOptional(`${worktree}/${target}.use-skills.json`);
  if (state === undefined) return false;
  if (name === ".use-skills.json" || name === ".gitignore") return true;
  const { copy } = JSON.parse(state).entries?.[name] ?? {};
  return copy !== undefined && copy === await treeOf(repo, worktree, `${target}${name}`);
}

/** git's hash of the content of a directory in a worktree. */
async function treeOf(repo: Repo, cwd: string, path: string): Promise<string> {
  const index = `${repo.common}/worker/hash-${crypto.randomUUID()}`;
  const env = { GIT_INDEX_FILE: index, GIT_LITERAL_PATHSPECS: "1" };
  try {
    await git(repo, ["-c", "core.autocrlf=false", "add", "--force", "--", path], { cwd, env });
    return (await git(repo, ["write-tree", `--prefix=${path}/`], { cwd, env })).trim();
  } finally {
    removeAny(index);
  }
}

/** The directories below one that are repos, or that can't be read. */
function nestedRepos(top: string, inside = ""): string[] {
  let entries: Deno.DirEntry[];
  try {
    entries = [...Deno.readDirSync(`${top}/${inside}`)];
  } catch (error) {
    if (!(error instanceof Deno.errors.PermissionDenied)) throw error;
    return [inside];
  }
  return entries.flatMap(({ name, isDirectory }) => {
    if (name === ".git") return inside === "" ? [] : [inside];
    if (!isDirectory) return [];
    return name.includes("\ufffd") ? [`${inside}${name}/`] : nestedRepos(top, `${inside}${name}/`);
  });
}

/** Refuses to remove what can't be restored. */
function checkRemovable(repo: Repo, id: string, inspection: Inspection, discard: boolean): void {
  const { path, found, locked, elsewhere, losses } = inspection;
  if (elsewhere !== undefined) {
    const hint = hintElsewhere(repo, id, elsewhere);
    throw new Failure("state", `The branch worker/${id} is checked out in ${elsewhere}`, hint);
  }
  if (found === "foreign") {
    const hint = "Move it away";
    throw new Failure("loses_work", `${path} is no worktree of this repo any more: something else is there`, hint);
  }
  if (locked !== undefined) {
    const hint = `git worktree unlock ${shellWord(path)}`;
    throw new Failure("loses_work", `${path} is locked${locked && ` (${locked})`}: somebody wants to keep it`, hint);
  }
  if (losses.length === 0 || discard) return;
  const message = `Ignored files or nested repos would be lost in ${path}:${listSome(losses)}`;
  throw new Failure("loses_work", message, "Copy what is needed, then give --discard");
}

/** Whether a file or a link is at a path, below real directories; `undefined` for a name that isn't UTF-8. */
function isFileAt(top: string, bytes: string): boolean | undefined {
  const path = new TextDecoder().decode(Uint8Array.from(bytes, (each) => each.charCodeAt(0)));
  if (path.includes("\ufffd")) return undefined;
  const segments = path.split("/");
  return segments.every((_, index) => {
    const info = lstat(`${top}/${segments.slice(0, index + 1).join("/")}`);
    return index < segments.length - 1 ? info?.isDirectory : info?.isFile || info?.isSymlink;
  });
}

/** The trees of what is in a worktree, also untracked, and of what is staged. Nothing else changes. */
async function writeTrees(repo: Repo, id: string, head: string, { path: cwd, nested }: Inspection) {
  const index = `${folderOf(repo, id)}/index`;
  const here = { cwd, env: { GIT_INDEX_FILE: index, GIT_LITERAL_PATHSPECS: "1" } };
  const own = (await git(repo, ["rev-parse", "--path-format=absolute", "--git-path", "index"], { cwd })).trimEnd();
  // As bytes, because names need not be UTF-8.
  const list = async (...options: string[]) => {
    const output = await tryGit(repo, ["ls-files", "-z", ...options], here);
    if (output.code !== 0) throw gitFailure(["ls-files"], output);
    return binary(output.bytes).split("\0").filter(Boolean);
  };
  const stream = (paths: string[]) => Uint8Array.from(paths.join("\0"), (each) => each.charCodeAt(0));
  removeAny(index);
  if (exists(own)) Deno.copyFileSync(own, index);
  try {
    const entries = (await list("-t")).map((entry) => ({ path: entry.slice(2), isSkipped: entry.startsWith("S ") }));
    const others = await list("--others", "--exclude-standard");
    const deleted = new Set(await list("--deleted"));
    // A new index, because the worktree's own can mark files as unchanged. What is staged is saved, too, because it may
    // exist nowhere else. That is not possible during a merge.
    const written = await tryGit(repo, ["write-tree"], here);
    const staged = written.code === 0 ? written.out.trim() : undefined;
    await git(repo, ["read-tree", staged ?? head], here);
    const known = new Set(entries.map(({ path }) => path)); // in the middle of a merge, less than the branch has
    const isHere = (path: string) => isFileAt(cwd, path) ?? !deleted.has(path);
    // A file that a sparse checkout leaves out is not deleted.
    const gone = entries.filter(({ path, isSkipped }) => !isSkipped && !isHere(path)).map(({ path }) => path);
    gone.push(...(await list()).filter((path) => !known.has(path)));
    await git(repo, ["update-index", "--force-remove", "-z", "--stdin"], { ...here, input: stream(gone) });
    const folders = nested.map((path) => binary(new TextEncoder().encode(path)));
    const named = [...known.union(new Set(others))].filter((path) =>
      isHere(path) && !path.endsWith("/") && !folders.some((folder) => `${path}/`.startsWith(folder))
    );
    const settings = ["core.autocrlf=false", "core.eol=lf", "core.safecrlf=false", "advice.addEmbeddedRepo=false"];
    const options = [...settings, "add.ignoreErrors=false"].flatMap((each) => ["-c", each]);
    const add = [...options, "add", "--force", "--sparse", "--pathspec-from-file=-", "--pathspec-file-nul"];
    if (named.length > 0) await git(repo, add, { ...here, input: stream(named) });
    return { tree: (await git(repo, ["write-tree"], here)).trim(), staged };
  } finally {
    removeAny(index);
  }
}

/** Saves a worktree as a commit on top of its branch. */
async function saveWorktree(repo: Repo, { task }: TaskSnapshot, inspection: Inspection): Promise<string> {
  const { found, branch, detached } = inspection;
  const ref = `refs/worker/backup/${task.id}`;
  const head = branch ?? task.head ?? task.start;
  const { tree, staged } = found === "worktree"
    ? await writeTrees(repo, task.id, head, inspection)
    : { tree: (await git(repo, ["rev-parse", "--verify", `${head}^{tree}`])).trim(), staged: undefined };
  const earlier = await readRef(repo, ref); // of a cleanup that broke off, when more may have been there
  const env = await identity(repo);
  const commitTree = async (tree: string, parents: readonly string[], message: string) =>
    (await git(repo, ["commit-tree", tree, ...parents, "-m", message], { env })).trim();
  const index = staged === undefined || staged === tree
    ? undefined
    : await commitTree(staged, ["-p", head], `What was staged in the worktree of task ${task.id}`);
  const left = await commitsLeftBy(repo, task.id, head, found === "worktree");
  const parents = [...new Set([head, detached, earlier, index, ...left])].flatMap((parent) =>
    parent === undefined ? [] : ["-p", parent]
  );
  const message = `The worktree of task ${task.id}, as it was before its removal`;
  const commit = await commitTree(tree, parents, message);
  await git(repo, ["update-ref", ref, commit]);
  return commit;
}

/** Commits that were on a task's branch or in its worktree, and that no branch has any more. */
async function commitsLeftBy(repo: Repo, id: string, head: string, isHere: boolean): Promise<string[]> {
  const readLog = async (ref: string, cwd?: string) => {
    const { code, out } = await tryGit(repo, ["log", "-g", "--format=%H", ref, "--"], { cwd });
    return code === 0 ? out.split("\n").filter(Boolean).slice(0, 1000) : [];
  };
  const here = isHere ? await readLog("HEAD", worktreeOf(repo, id)) : [];
  const stashed: string[] = [];
  if (isHere) { // what an unfinished rebase or merge has put aside
    const names = ["rebase-merge/autostash", "rebase-apply/autostash", "MERGE_AUTOSTASH"];
    const args = ["rev-parse", "--path-format=absolute", ...names.flatMap((name) => ["--git-path", name])];
    const paths = (await git(repo, args, { cwd: worktreeOf(repo, id) })).trim().split("\n");
    stashed.push(...paths.flatMap((path) => readOptional(path)?.trim() ?? []));
  }
  const seen = [...new Set([...await readLog(BRANCHES + id), ...here, ...stashed])];
  if (seen.length === 0) return [];
  const kept = ["--not", head, "--branches", "--tags"];
  const left = (await git(repo, ["rev-list", "--no-walk", ...seen, ...kept])).split("\n").filter(Boolean);
  if (left.length === 0) return [];
  return (await git(repo, ["merge-base", "--independent", ...left])).split("\n").filter(Boolean);
}

/** An author and a committer, if git has none. */
async function identity(repo: Repo): Promise<Record<string, string>> {
  const idents = ["GIT_AUTHOR_IDENT", "GIT_COMMITTER_IDENT"].map((name) =>
    tryGit(repo, ["-c", "user.useConfigOnly=true", "var", name])
  );
  if ((await Promise.all(idents)).every(({ code }) => code === 0)) return {};
  const [name, email] = ["worker", "worker@localhost"];
  return { GIT_AUTHOR_NAME: name, GIT_AUTHOR_EMAIL: email, GIT_COMMITTER_NAME: name, GIT_COMMITTER_EMAIL: email };
}

/** Removes a worktree that was saved, and its branch, if that still is at the saved commit. */
async function removeWorktree(repo: Repo, id: string, head: string | undefined): Promise<void> {
  const [path, gone] = [worktreeOf(repo, id), `${repo.worktrees}/.gone-${id}`];
  // It is renamed first, so that a partially removed worktree is never mistaken for a whole one.
  if (inspectPath(repo, path) === "worktree") {
    removeAny(gone);
    Deno.renameSync(path, gone);
  }
  if (inspectPath(repo, path) === "nothing") removeAny(path); // git takes an empty folder for a broken worktree
  const { isKnown, branch: now, elsewhere } = await placeOf(repo, id);
  if (isKnown) await git(repo, ["worktree", "remove", "--force", path]);
  removeAny(gone);
  if (now === undefined) return;
  if (elsewhere !== undefined) {
    throw new Failure("state", `The branch worker/${id} is checked out in ${elsewhere}`, "Check out another there");
  }
  if (now !== head) {
    const message = `The branch worker/${id} is at ${now}, but ${head ?? "nothing"} is saved, so it stays`;
    throw new Failure("race", message, `worker cancel ${id} --cleanup saves it, too`);
  }
  await git(repo, ["update-ref", "--no-deref", "-d", BRANCHES + id, head]);
}

/**
 * Runs a command from the settings or the command line in a worktree; returns its exit status and the end of its output,
 * which also goes to a log or to standard error. If this program is interrupted, the command is ended.
 */
async function runShell(command: string, cwd: string, id: string, log?: string) {
  let interrupted: Deno.Signal | undefined;
  const listeners = (["SIGINT", "SIGTERM", "SIGHUP"] as const).map((signal) => {
    const listener = () => {
      interrupted = signal;
      try {
        Deno.kill(-child.pid, "SIGKILL");
      } catch { // It has just ended.
      }
    };
    Deno.addSignalListener(signal, listener);
    return { signal, listener };
  });
  const child = new Deno.Command("/bin/sh", {
    args: ["-c", `exec 2>&1; ${command}`],
    cwd,
    env: { ...ENVIRONMENT, WORKER_TASK: id },
    clearEnv: true,
    detached: true, // so that it can be ended with all that it started
    stdin: "null",
    stdout: "piped",
    stderr: "null",
  }).spawn();
  const file = log === undefined ? Deno.stderr : Deno.openSync(log, { append: true, create: true });
  let output = "";
  const decoder = new TextDecoder();
  const all = (async () => {
    for await (const piece of child.stdout) {
      writeAll(file, piece);
      output = (output + decoder.decode(piece, { stream: true })).slice(-LOG_BYTES);
    }
  })();
  const { code } = await child.status;
  all.catch(() => {}); // The log is closed already.
  await Promise.race([all, pause(1000)]); // A process that it left running keeps the pipe open.
  if (log !== undefined) file.close();
  for (const { signal, listener } of listeners) Deno.removeSignalListener(signal, listener);
  if (interrupted) throw new Failure("internal", `Interrupted by ${interrupted} during: ${command}`);
  return { code, output: lastLines(output).trimEnd().replaceAll("\0", "\\0") }; // No prompt can contain a NUL.
}

function lastLines(text: string): string {
  return text.split("\n").slice(-LOG_LINES - 1).join("\n");
}

// ── Agents ──────────────────────────────────────────────────────────────────────────────────────────────────────

/**
 * The directory for a task on this machine: `process`, `log`, `exit`, `prompt.md`, and `pending` until its agent has
 * `started`.
 */
function folderOf(repo: Repo, id: string): string {
  const folder = `${repo.common}/worker/${id}`;
  Deno.mkdirSync(folder, { recursive: true });
  return folder;
}

/**
 * What distinguishes a process from a later one with the same id; `undefined` if it has ended, or is a zombie.
 */
function birthOf(pid: number): string | undefined {
  if (Deno.build.os === "linux") {
    const [state, ...fields] = readOptional(`/proc/${pid}/stat`)?.replace(/^.*\) /s, "").split(" ") ?? [];
    if (state === undefined || state === "Z" || state === "X") return undefined;
    return `${fields[18]} ${readOptional("/proc/sys/kernel/random/boot_id") ?? ""}`.trim();
  }
  const [args, env] = [["-o", "stat=,lstart=", "-p", `${pid}`], { LC_ALL: "C" }];
  const { success, stdout } = new Deno.Command("ps", { args, env }).outputSync();
  const [, state = "Z", start] = /^(\S+)\s+(.*?)\s*$/.exec(new TextDecoder().decode(stdout).trim()) ?? [];
  return success && !state.startsWith("Z") ? start : undefined;
}

/** The agent's process on this machine, and whether it is running. In a copied repo, there is none. */
function processOf(repo: Clone, id: string): { pid: number; isAlive: boolean; isOfThisBoot: boolean } | undefined {
  const folder = `${repo.common}/worker/${id}`;
  const [pid = "", ...birth] = readOptional(`${folder}/process`)?.trim().split("\n") ?? [];
  if (!/^\d+$/.test(pid) || birth.pop() !== folder) return undefined;
  const [now, then] = [birthOf(Number(pid)) ?? "gone", birth.join(" ")].map((text) =>
    text.trim().split(/\s+/).join(" ")
  );
  const boot = Deno.build.os === "linux" ? readOptional("/proc/sys/kernel/random/boot_id")?.trim() ?? "" : "";
  return { pid: Number(pid), isAlive: now === then, isOfThisBoot: then!.endsWith(boot) };
}

/**
 * Finds the processes in the agent's process group, and those with the task's mark in their environment, which are its
 * own if their working directory is in the worktree and they serve nobody else. Only Linux shows the environment; elsewhere, only the group is found.
 */
function processesOf(repo: Repo, id: string, group?: number) {
  const found = { own: [] as number[], others: [] as { pid: number; name: string }[] };
  if (Deno.build.os !== "linux") {
    const { stdout } = new Deno.Command("ps", { args: ["-A", "-o", "pid=,pgid=,stat="] }).outputSync();
    for (const [, pid, pgid, state] of new TextDecoder().decode(stdout).matchAll(/^\s*(\d+)\s+(\d+)\s+(\S+)/gm)) {
      if (Number(pgid) === group && !state?.startsWith("Z")) found.own.push(Number(pid));
    }
    return found;
  }
  const mark = `WORKER_PROMPT=${repo.common}/worker/${id}/prompt.md`;
  const worktree = worktreeOf(repo, id);
  for (const { name } of Deno.readDirSync("/proc")) {
    if (!/^\d+$/.test(name) || Number(name) === Deno.pid) continue;
    try {
      const [, program = "", rest = ""] = /^\d+ \(([^]*)\) ([^]*)$/.exec(Deno.readTextFileSync(`/proc/${name}/stat`)) ??
        [];
      const [state, , pgrp] = rest.split(" ");
      if (state === "Z" || state === "X") continue;
      const isMarked = () => Deno.readTextFileSync(`/proc/${name}/environ`).split("\0").includes(mark);
      if (Number(pgrp) === group) found.own.push(Number(name));
      else if (isMarked()) {
        const folder = Deno.readLinkSync(`/proc/${name}/cwd`).replace(/ \(deleted\)$/, "");
        const isServer = SERVERS.some((each) => program.toLowerCase().startsWith(each));
        if (`${folder}/`.startsWith(`${worktree}/`) && !isServer) found.own.push(Number(name));
        else found.others.push({ pid: Number(name), name: program });
      }
    } catch {
      continue; // another user's, or just gone
    }
  }
  return found;
}

/** Programs that serve other sessions, too, wherever they were started. */
const SERVERS = ["tmux: server", "screen", "zellij", "dtach", "abduco", "ssh-agent", "gpg-agent"];

/** Programs that only pass a command on. */
const SHELLS = ["sh", "bash", "dash", "zsh", "fish", "ksh", "busybox", "env", "setsid", "script", "timeout"];

/** The name of a process's program, and its parent; 0 if it is gone. */
function processInfo(pid: number): { name: string; parent: number } {
  if (Deno.build.os === "linux") {
    const [, name = "", parent = 0] = /^\d+ \(([^]*)\) \S+ (\d+)/.exec(readOptional(`/proc/${pid}/stat`) ?? "") ?? [];
    return { name, parent: Number(parent) };
  }
  const { stdout } = new Deno.Command("ps", { args: ["-o", "ppid=,comm=", "-p", `${pid}`] }).outputSync();
  const [, parent = 0, path = ""] = /^\s*(\d+)\s+-?(.*?)\s*$/.exec(new TextDecoder().decode(stdout)) ?? [];
  return { name: path.replace(/^.*\//, ""), parent: Number(parent) };
}

/** The program that called this one, ignoring shells: a reviewing agent, or a terminal. */
function callerOf(): { pid: number; birth: string } | undefined {
  for (let pid = Deno.ppid; pid > 1;) {
    const { name, parent } = processInfo(pid);
    const birth = birthOf(pid);
    if (!SHELLS.includes(name)) return birth === undefined ? undefined : { pid, birth };
    pid = parent;
  }
}

/** Whether the program that reviews a task has ended; `undefined` if that is not known here. */
function isReviewerGone(repo: Clone, { id, reviewer }: Task): boolean | undefined {
  const [pid = "", birth, name] = readOptional(`${repo.common}/worker/${id}/reviewer`)?.split("\n") ?? [];
  return name === reviewer && Number(pid) > 0 ? birthOf(Number(pid)) !== birth : undefined;
}

/**
 * Starts an agent, with shell builtins only. The first one to create `started` continues, so that no agent is started
 * twice. It records what {@linkcode birthOf} returns for its process, and later the agent's exit status.
 */
const LAUNCHER = `set -C
: 2>/dev/null >"$1/started" || exit 0
set +C
exec >>"$1/log" 2>&1
nth() { shift 19; echo "$1"; }
if [ -r /proc/$$/stat ]; then
  read -r line </proc/$$/stat
  read -r boot </proc/sys/kernel/random/boot_id
  birth=$(nth \${line##*) })
else birth=$(LC_ALL=C ps -o lstart= -p $$); fi
printf '%s\n%s\n%s\n%s\n' $$ "$birth" "$boot" "$1" >"$1/process"
folder=$1
shift
"$@"
echo $? >"$folder/exit"`;

function hasAgent({ agent, command }: Task): boolean {
  return agent !== "none" || command !== undefined;
}

function nameOfAgent({ agent, command }: Task): string {
  return command?.[0]?.replace(/^.*\//, "") ?? agent;
}

function isProgram(name: string): boolean {
  if (name.includes("/")) return exists(name);
  return (ENVIRONMENT["PATH"] ?? "").split(":").some((folder) => exists(`${folder || "."}/${name}`));
}

function promptFor(task: Task, brief: string, findings: readonly string[]): string {
  // Deno's full path, because Codex runs commands in a login shell, which may have another PATH.
  const program = shellWord(decodeURIComponent(new URL(import.meta.url).pathname));
  const me = `${shellWord(Deno.execPath())} run -A --no-config --no-lock ${program}`;
  return [
    `You are the worker of task ${task.id}, in a git worktree of your own on branch worker/${task.id}. Commit there.`,
    `When it is done, write what was done and how you checked it to: ${me} submit --report -`,
    `When you cannot go on without an answer: ${me} block --question TEXT, and then stop.`,
    "",
    brief.trim(),
    ...(task.answers ?? []).flatMap(({ question, answer }) => [
      "",
      ...question === undefined ? [answer] : [`It was asked: ${question}`, `The answer: ${answer}`],
    ]),
    ...findings.flatMap((text) => ["", "This was found wrong, and changes are asked for:", "", text.trim()]),
    "",
  ].join("\n");
}

/** Starts a task's agent, if it is `pending` and no other process starts it. It outlives this program. */
async function launch(repo: Repo, { task, commit }: TaskSnapshot): Promise<void> {
  if (!hasAgent(task)) return;
  const folder = folderOf(repo, task.id);
  const paths = ["brief.md", ...task.findings ?? []];
  const [brief = "", ...findings] = await readObjects(repo, paths.map((path) => `${commit}:${path}`));
  const prompt = promptFor(task, brief, findings.filter((text) => text !== undefined));
  Deno.writeTextFileSync(`${folder}/prompt.md`, prompt);
  const isLong = new TextEncoder().encode(prompt).length > PROMPT_LIMIT;
  const words = task.command ??
    AGENTS[task.agent]?.(
      isLong ? `Do what ${folder}/prompt.md says. Read all of it first.` : prompt,
      repo.config.modelOf(task.agent),
      isLong ? folder : undefined,
    ) ?? [];
  if (isPending(repo, task.id)) ["process", "exit"].forEach((name) => removeAny(`${folder}/${name}`));
  const { WORKER_HUMAN: _, ...others } = ENVIRONMENT; // no agent speaks for a person
  const env = { ...others, WORKER_TASK: task.id, WORKER_PROMPT: `${folder}/prompt.md` };
  startDetached(["-c", LAUNCHER, "worker", folder, ...words], worktreeOf(repo, task.id), env);
  // The next command needs the process id.
  for (let tries = 0; tries < 1000 && processOf(repo, task.id) === undefined; tries++) await pause(2);
}

/** Marks an agent as to be started. This command or a later repair does it. */
function setPending(repo: Repo, task: Task): void {
  if (!hasAgent(task)) return;
  removeAny(`${folderOf(repo, task.id)}/started`);
  Deno.writeTextFileSync(`${folderOf(repo, task.id)}/pending`, "");
}

function isPending(repo: Repo, id: string): boolean {
  const folder = `${repo.common}/worker/${id}`;
  return exists(`${folder}/pending`) && !exists(`${folder}/started`);
}

/** Ends an agent with its own processes; returns the others, which still run. */
async function stopAgent(repo: Repo, id: string): Promise<{ pid: number; name: string }[]> {
  const folder = folderOf(repo, id);
  if (isPending(repo, id)) {
    try {
      Deno.writeTextFileSync(`${folder}/started`, "", { createNew: true }); // no launcher goes on from here
    } catch (error) {
      if (!(error instanceof Deno.errors.AlreadyExists)) throw error;
      for (let waited = 0; waited < GRACE && processOf(repo, id) === undefined; waited += 20) await pause(20);
    }
  }
  removeAny(`${folder}/pending`);
  const agent = processOf(repo, id); // not known once .git/worker was deleted
  // If the agent has ended and another process has its id now, that one's group is not the agent's. After a reboot,
  // none is.
  const isGroupKnown = agent?.isAlive || agent?.isOfThisBoot && birthOf(agent.pid) === undefined;
  const group = isGroupKnown ? agent?.pid : undefined;
  const foreign = new Set<number>(); // another user's, such as what sudo has started
  const find = () => processesOf(repo, id, group).own.filter((pid) => !foreign.has(pid));
  const signal = (name: Deno.Signal) => {
    for (const pid of find()) {
      try {
        Deno.kill(pid, name);
      } catch (error) {
        if (error instanceof Deno.errors.PermissionDenied && pid !== group) foreign.add(pid);
        else if (!(error instanceof Deno.errors.NotFound)) throw error;
      }
    }
  };
  signal("SIGTERM");
  for (let waited = 0; waited < GRACE && find().length > 0; waited += 20) await pause(20);
  for (; find().length > 0; await pause(5)) signal("SIGKILL");
  const { others } = processesOf(repo, id, group);
  return [...others, ...Array.from(foreign, (pid) => ({ pid, name: processInfo(pid).name }))];
}

function leftNote(others: { pid: number; name: string }[]): string {
  const list = others.map(({ pid, name }) => `${name} (process ${pid})`).join(", ");
  return list && `\nIts agent has started these processes, which are still running: ${list}`;
}

function pause(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

// ── Policy ──────────────────────────────────────────────────────────────────────────────────────────────────────

function isLive({ task }: TaskSnapshot): boolean {
  return STATES[task.state].live;
}

/** The state to which a command leads. Fails if the command isn't allowed in the current one. */
function requireTransition({ task }: TaskSnapshot, command: string): State {
  const { from, to } = TRANSITIONS[command] ?? { from: [], to: task.state };
  if (from.includes(task.state)) return to;
  const what = `Cannot ${command} task ${quote(task.id)}: it is ${task.state}`;
  if (task.state !== "needs_human") {
    throw new Failure("state", `${what}, not ${from.join(" or ")}`, `worker status ${task.id}`);
  }
  const reasons = checkpointList(task);
  throw new Failure("needs_human", `${what}. A person has to decide:${listSome(reasons)}`, humanHint(task));
}

function humanHint({ id, head }: Task): string {
  return `worker human approve ${id} --head ${head}, or reject`;
}

/** Fails if a commit isn't the submitted one, or if the branch has moved since. */
function checkHead({ task, branch }: TaskSnapshot, given: string): void {
  const { id, head } = task;
  const isSame = head !== undefined && given.length >= 7 && head.startsWith(given.toLowerCase());
  if (!isSame) {
    const message = `The head of task ${quote(id)} is ${head}, not ${quote(given)}`;
    throw new Failure("race", message, `worker review diff ${id}`);
  }
  checkUnmoved({ task, branch });
}

function checkUnmoved({ task: { id, head }, branch }: Pick<TaskSnapshot, "task" | "branch">): void {
  if (branch === head || branch === undefined) return; // In another clone, there is only the commit.
  const message = `Task ${quote(id)} was submitted at ${head}, and branch worker/${id} is at ${branch}`;
  throw new Failure("race", message, `Verdicts about ${head} are void: worker submit ${id}`);
}

/** Fails if there are too many tasks, or if a new one would change the same files as a live one. */
function checkAdmission(config: Config, tasks: readonly TaskSnapshot[], task: Task, mayOverlap: boolean): void {
  const { id, paths, dependsOn } = task;
  const same = tasks.find((each) => each.task.id === id);
  // A cancelled task's ID is free if nothing is left of it.
  const isCleaned = same?.branch === undefined && (same?.task.cleanup === undefined || same.task.cleanup.done);
  if (same && !(same.task.state === "cancelled" && isCleaned)) {
    const hint = same.task.state === "cancelled"
      ? `worker cancel ${id} --cleanup frees the ID`
      : "worker list --all shows which IDs are used";
    throw new Failure("race", `Task ${quote(id)} already exists`, hint);
  }
  for (const needed of dependsOn) {
    const other = tasks.find(({ task }) => task.id === needed)?.task;
    if (other === undefined) throw new Failure("no_task", `There is no task ${quote(needed)} to depend on`);
    if (other.state === "cancelled" || other.state === "failed") {
      throw new Failure("state", `Task ${quote(needed)} is ${other.state}: nothing can depend on it`);
    }
    if (other.base === task.base) continue;
    const [theirs, mine] = [other.base, task.base].map(branchName);
    const message = `Task ${quote(needed)} is merged into ${theirs}, and task ${quote(id)} would start from ${mine}`;
    throw new Failure("usage", message, `Give --base ${theirs}, or leave out --depends-on`);
  }
  const live = tasks.filter(isLive).map((each) => each.task);
  if (live.length >= config.wip) {
    const names = live.map(({ id, state }) => `${id} (${state})`).join(", ");
    throw new Failure("limit", `${live.length} of ${config.wip} tasks are live: ${names}`, "Finish one first");
  }
  const waiting = live.filter(({ state }) => STATES[state].waiting);
  if (waiting.length >= config.reviewQueue) {
    const names = waiting.map(({ id }) => id).join(", ");
    const message = `${waiting.length} of ${config.reviewQueue} tasks wait for review: ${names}`;
    throw new Failure("limit", message, "Review the oldest first");
  }
  if (mayOverlap) return;
  const meetings = live.filter((other) => !dependsOn.includes(other.id)).flatMap((other) =>
    paths.flatMap((mine) =>
      other.paths.filter((theirs) => globsMeet(mine, theirs)).map((theirs) =>
        `${mine} overlaps ${theirs} of ${other.id}`
      )
    )
  );
  if (meetings.length === 0) return;
  const message = `Task ${quote(id)} would change the same files as another one:${listSome(meetings)}`;
  throw new Failure("conflict", message, "Wait for that one, narrow --paths, or give --allow-overlap");
}

/** Expressions for the paths that a glob matches, and for a link or a file in place of a directory above them. */
function guardsOf(glob: string): RegExp[] {
  const above = pathAndParents(globSegments(glob).join("/")).slice(0, -1);
  return [globToRegExp(glob), ...above.filter((path) => !/(^|\/)\*\*$/.test(path)).map((path) => exactly(`/${path}`))];
}

/** What of a change needs a person's approval. */
function checkpointsOf(
  config: Config,
  { paths, lines, renames, hidden, scripts }: Awaited<ReturnType<typeof measure>>,
): Checkpoint[] {
  const expressions = config.humanPaths.flatMap(guardsOf);
  const guarded = paths.filter((path) => expressions.some((expression) => expression.test(`${path}/`)));
  const checkpoints: Checkpoint[] = [];
  if (guarded.length > 0) checkpoints.push({ kind: "paths", detail: guarded.slice(0, 20).join(", ") });
  if (scripts.length > 0) checkpoints.push({ kind: "paths", detail: `the scripts in ${scripts.join(", ")}` });
  if (hidden.length > 0) {
    checkpoints.push({ kind: "hidden", detail: `git shows no lines of ${hidden.slice(0, 20).join(", ")}` });
  }
  if (lines > config.humanLines) checkpoints.push({ kind: "lines", detail: `${lines} of ${config.humanLines}` });
  const [most, kind] = [config.humanRenames, "renames" as const];
  if (renames > most) checkpoints.push({ kind, detail: `${renames} of ${most}` });
  return checkpoints;
}

/** The state after a command: `next`, or `needs_human` if there are checkpoints that nobody has approved for this head. */
function leadTo(task: Task, head: string, next: State, checkpoints: readonly Checkpoint[]): Partial<Task> {
  const cleared = task.cleared?.head === head ? task.cleared.kinds : [];
  const raised = checkpoints.filter(({ kind }) => !cleared.includes(kind));
  if (raised.length === 0) return { state: next, checkpoints: undefined, next: undefined };
  return { state: "needs_human", checkpoints: raised, next };
}

function humanNote(task: Task): string {
  if (task.state !== "needs_human") return "";
  const reasons = checkpointList(task);
  const isStuck = task.checkpoints?.some(({ kind }) => kind === "rounds");
  const choice = isStuck ? "\n  approve: one more round; approve --accept: it is good as it is; reject: end it" : "";
  return `. A person has to decide:${listSome(reasons)}\n  ${humanHint(task)}${choice}`;
}

// ── spawn ───────────────────────────────────────────────────────────────────────────────────────────────────────

interface Call {
  repo: Repo;
  options: Options;
  /** The task's id, or an empty string. */
  id: string;
  operation: Task["operation"];
}

async function spawn({ repo, id, operation, options }: Call): Promise<Answer> {
  using _lock = await lock(repo, `task-${id}`);
  if (!/^[a-z0-9][a-z0-9-]{0,63}$/.test(id)) {
    throw new Failure("usage", `${quote(id)} is not a valid ID: use up to 64 of a-z, 0-9 and -, but no - at the start`);
  }
  const agent = options.agent ?? (options.rest.length > 0 ? "none" : "claude");
  if (!Object.hasOwn(AGENTS, agent)) {
    throw new Failure("usage", `Unknown agent ${quote(agent)}: one of ${Object.keys(AGENTS).join(", ")}`);
  }
  const [program] = options.rest.length > 0 ? options.rest : AGENTS[agent]?.("", []) ?? [];
  if (program !== undefined && !isProgram(program)) {
    throw new Failure("usage", `${program} is not installed, or not on the PATH`, "--agent none starts no agent");
  }
  const brief = await readGiven("brief", options.brief ?? "");
  const base = options.base ?? repo.head;
  if (base === undefined) throw new Failure("usage", "No branch is checked out here: give --base BRANCH");
  const alias = options.base === undefined
    ? ""
    : (await tryGit(repo, ["symbolic-ref", "--quiet", fullName(base)])).out.trim();
  if (options.base === undefined && base.startsWith(BRANCHES)) {
    throw new Failure("usage", `The branch of a task is checked out here, ${base}: give --base BRANCH`);
  }
  for (const path of options.paths) checkGlob(path, "--paths");
  const odd = options.paths.find((path) => /^!|[{}]/.test(path));
  if (odd !== undefined) {
    throw new Failure("usage", `--paths ${quote(odd)} contains "!" or braces: list the paths separately`);
  }

  const task: Task = {
    version: 1,
    id,
    title: (brief.split("\n").find((line) => /[^\s#]/.test(line)) ?? "").replace(/^[#\s]+/, "").slice(0, 100).trim(),
    state: "queued",
    since: new Date().toISOString(),
    created: new Date().toISOString(),
    base: alias || fullName(base),
    start: "",
    agent,
    ...options.rest.length > 0 && { command: options.rest },
    paths: options.paths,
    dependsOn: options["depends-on"],
    authors: [agent === "none" ? `worker/${id}` : agent],
    round: 0,
    requests: 0,
    operation,
  };
  const seen = await admit(repo, task, brief, options["allow-overlap"]);
  return await finishSpawn(repo, seen);
}

function fullName(branch: string): string {
  return branch.startsWith("refs/") ? branch : `refs/heads/${branch}`;
}

function branchName(ref: string): string {
  return ref.replace("refs/heads/", "");
}

/** Publishes the first event of a task, under a lock, because the limits concern all tasks. */
async function admit(repo: Repo, task: Task, brief: string, mayOverlap: boolean): Promise<TaskSnapshot> {
  using _lock = await lock(repo, "admission");
  const [tasks, start] = await Promise.all([readTasks(repo), readRef(repo, task.base)]);
  if (start === undefined || !task.base.startsWith("refs/heads/")) {
    const name = quote(branchName(task.base));
    throw new Failure("usage", `There is no branch ${name} to start from and merge into (--base)`);
  }
  checkAdmission(repo.config, tasks, task, mayOverlap);
  folderOf(repo, task.id); // what tells this machine from others that fetch the task
  const [queued, files] = [{ ...task, start }, { "brief.md": brief }];
  if (repo.refs.has(BRANCHES.slice(0, -1))) {
    const hint = "git branch -m worker ANOTHER-NAME";
    throw new Failure("state", "There is a branch named worker, so git can't create one named worker/ID", hint);
  }
  const before = tasks.find((each) => each.task.id === task.id);
  if (before && inspectPath(repo, worktreeOf(repo, task.id)) !== "nothing") {
    const message = `Something is at ${worktreeOf(repo, task.id)}, from the cancelled task ${quote(task.id)}`;
    throw new Failure("state", message, `worker cancel ${task.id} --cleanup, or move it away`);
  }
  const missing = await missingFor(repo, queued);
  const answer = missing.length > 0 ? queuedAnswer(queued, missing) : undefined;
  const seen = await record(repo, before, { subject: `Queue: ${task.title}`, task: queued, files, answer });
  return { ...seen, branch: repo.refs.get(BRANCHES + task.id)?.commit };
}

/** The tasks that have to be merged before a queued task starts. */
async function missingFor(repo: Repo, task: Task): Promise<string[]> {
  return task.dependsOn.length === 0 ? [] : dependenciesOf(task, await readRefs(repo, TASKS)).open;
}

function queuedAnswer(task: Task, missing: string[]): Answer {
  const text = `Task ${task.id} is queued, and starts when these are merged: ${missing.join(", ")}`;
  return answerFor(task, text, { missing });
}

/** Creates the worktree of a queued task and starts its agent, unless it depends on tasks that aren't merged. */
async function finishSpawn(repo: Repo, seen: TaskSnapshot): Promise<Answer> {
  const { id, agent, base, operation, dependsOn } = seen.task;
  const missing = await missingFor(repo, seen.task);
  if (missing.length > 0) return queuedAnswer(seen.task, missing);
  // From a base that includes its dependencies. If the branch exists, a killed spawn has created it from there.
  const current = dependsOn.length > 0 ? seen.branch ?? await readRef(repo, base) : undefined;
  const start = current ?? seen.task.start;
  const ready = { ...seen, task: { ...seen.task, start } };
  const task = change(ready, operation, { state: requireTransition(seen, "spawn") });
  const text = `Task ${id} is at work in ${worktreeOf(repo, id)}, on worker/${id} from ${branchName(base)}`;
  const answer = answerFor(task, text, { branch: `worker/${id}`, base, start, agent });
  const subject = `Start: branch and worktree created, agent ${agent}`;
  // The commit is written while the worktree is created. It is published later.
  const [made, written] = await Promise.allSettled([
    ensureWorktree(repo, ready),
    write(repo, seen, { subject, task, answer }),
  ]);
  const redo = `Task ${quote(id)} stays queued: worker doctor --fix tries again, worker cancel gives up`;
  if (made.status === "rejected") throw withHint(made.reason, redo);
  if (written.status === "rejected") throw withHint(written.reason, redo);
  await copyIncluded(repo, worktreeOf(repo, id));
  const { setup } = repo.config;
  const log = `${folderOf(repo, id)}/log`;
  const { code } = setup === undefined ? { code: 0 } : await runShell(setup, worktreeOf(repo, id), id, log);
  if (code !== 0) throw new Failure("internal", `worker.setup (${setup}) ended with status ${code}: see ${log}`, redo);
  setPending(repo, task);
  await launch(repo, await publish(repo, seen, task, written.value));
  return answer;
}

async function startDependents(repo: Repo, id: string): Promise<void> {
  for (const { task } of await readTasks(repo)) {
    if (task.state !== "queued" || !task.dependsOn.includes(id)) continue;
    if (!exists(`${repo.common}/worker/${task.id}`)) continue; // another machine's
    try {
      using _lock = await lock(repo, `task-${task.id}`);
      const { text } = await finishSpawn(repo, await readTask(repo, task.id));
      printError(text ?? "");
    } catch (error) {
      printError(`Task ${task.id} can't start: ${explain(error)}`);
    }
  }
}

/** Copies the ignored files that `.worktreeinclude` names from the main checkout into a new worktree. */
async function copyIncluded(repo: Repo, worktree: string): Promise<void> {
  const main = repo.common.replace(/\/\.git$/, "");
  if (main === repo.common || !exists(`${main}/.worktreeinclude`)) return;
  const args = ["ls-files", "-z", "--others", "--ignored"];
  const list = async (exclude: string) =>
    (await git(repo, [...args, exclude], { cwd: main })).split("\0").filter(Boolean);
  const ignored = new Set(await list("--exclude-standard"));
  for (const path of (await list("--exclude-from=.worktreeinclude")).filter((path) => ignored.has(path))) {
    const [from, to] = [`${main}/${path}`, `${worktree}/${path}`];
    if (!exists(from)) {
      printError(`Not copied, because its name is not UTF-8: ${path}`);
      continue;
    }
    if (exists(to) || !ifThere(() => Deno.statSync(from))?.isFile) continue;
    Deno.mkdirSync(to.replace(/\/[^/]*$/, ""), { recursive: true });
    Deno.copyFileSync(from, to);
  }
}

function withHint(error: unknown, hint: string): unknown {
  if (!(error instanceof Failure)) return error;
  return new Failure(error.code, error.message, [error.hint, hint].filter(Boolean).join(". "));
}

// ── The worker's commands, and what HQ answers ──────────────────────────────────────────────────────────────────

async function submit({ repo, id, operation, options }: Call): Promise<Answer> {
  const seen = await readTask(repo, id);
  const { task, branch } = seen;
  const hasMoved = task.head !== undefined && task.head !== branch;
  const isStuck = task.checkpoints?.some(({ kind }) => kind === "rounds"); // which no other head gets around
  const mayAgain = hasMoved && !isStuck && ["submitted", "reviewing", "approved", "needs_human"].includes(task.state);
  if (!mayAgain) requireTransition(seen, "submit");
  if (branch === undefined) throw new Failure("state", `There is no branch worker/${id} here to submit`);
  const report = options.report === undefined ? undefined : await readGiven("report", options.report);
  await checkCommitted(repo, seen);
  const from = (await tryGit(repo, ["merge-base", task.base, branch])).out.trim();
  if (from === "") {
    throw new Failure("git", `worker/${id} and ${task.base} have no commit in common, or one is missing`);
  }
  if (from === branch) throw new Failure("state", `worker/${id} has no commit that ${task.base} lacks`);
  const size = await measure(repo, from, branch);

  const round = task.round + 1;
  const next = change(seen, operation, {
    ...leadTo(task, branch, "submitted", checkpointsOf(repo.config, size)),
    head: branch,
    from,
    round,
    reviewer: undefined,
    authors: [...new Set([...task.authors, operation.actor])],
  });
  const { paths, lines, renames } = size;
  const text = `Task ${id} is submitted at ${branch}: ${paths.length} files, ${lines} lines${humanNote(next)}`;
  const { checkpoints = [] } = next;
  const answer = answerFor(next, text, { round, from, files: paths.length, lines, renames, checkpoints });
  const files = report === undefined ? undefined : { [`reports/${round}.md`]: report };
  await record(repo, seen, { subject: `Submit, round ${round}`, task: next, files, pin: branch, answer });
  return answer;
}

/** Files that have no lines to review. */
const MEDIA = /\.(png|jpe?g|gif|ico|webp|avif|woff2?|ttf|otf|mp[34]|webm)$/i;

/** The size of the change between two commits, and its paths. A rename has two. */
async function measure(repo: Repo, from: string, to: string) {
  const size = {
    paths: [] as string[],
    lines: 0,
    renames: 0,
    /** Files of which git shows no lines, although they aren't media. */
    hidden: [] as string[],
    /** Each `package.json` whose scripts change: npm runs them on every machine. */
    scripts: [] as string[],
  };
  const out = await git(repo, ["diff", "--numstat", "-z", "--find-renames", "-l0", ...EXACTLY, from, to]);
  const fields = out.split("\0");
  for (let index = 0; index < fields.length - 1; index++) {
    const [added = "", deleted = "", path = ""] = /^(\S+)\t(\S+)\t([^]*)$/.exec(fields[index] ?? "")?.slice(1) ?? [];
    size.lines += (Number(added) || 0) + (Number(deleted) || 0);
    const both = path === "" ? [fields[++index] ?? "", fields[++index] ?? ""] : [path];
    if (path === "") size.renames++;
    if (added === "-" && !MEDIA.test(both.at(-1) ?? "")) size.hidden.push(both.at(-1) ?? "");
    size.paths.push(...both);
  }
  const packages = [...new Set(size.paths)].filter((path) => /(^|\/)package\.json$/.test(path) && !path.includes("\n"));
  const texts = await readObjects(repo, packages.flatMap((path) => [`${from}:${path}`, `${to}:${path}`]));
  const scripts = texts.map((text) => {
    try {
      return JSON.stringify(JSON.parse(text ?? "{}").scripts ?? {});
    } catch {
      return text;
    }
  });
  return { ...size, scripts: packages.filter((_, index) => scripts[2 * index] !== scripts[2 * index + 1]) };
}

/** Fails if a worktree has uncommitted changes, because nobody would review them. */
async function checkCommitted(repo: Repo, { task, branch }: TaskSnapshot): Promise<void> {
  const cwd = checkoutOf(repo, task.id);
  if (cwd === undefined) return;
  const [entries, head] = await Promise.all([
    readStatus(repo, cwd, "--untracked-files=normal"),
    git(repo, ["rev-parse", "HEAD"], { cwd }),
  ]);
  if (head.trim() !== branch) {
    const hint = `git switch worker/${task.id}, with what was committed elsewhere`;
    throw new Failure("state", `${cwd} is at ${head.trim()}, and branch worker/${task.id} at ${branch}`, hint);
  }
  const changed = entries.filter(({ kind }) => kind !== "??").map(({ kind, path }) => `${kind} ${path}`);
  if (changed.length > 0) {
    const message = `There are uncommitted changes in ${cwd}:${listSome(changed)}`;
    throw new Failure("state", message, "Commit or restore them");
  }
  const untracked = entries.map(({ path }) => path);
  if (untracked.length > 0) printError(`Untracked files are not submitted:${listSome(untracked)}`);
}

async function block({ repo, id, operation, options }: Call): Promise<Answer> {
  const seen = await readTask(repo, id);
  const task = change(seen, operation, { state: requireTransition(seen, "block"), question: options.question });
  const answer = answerFor(task, `Task ${id} waits for an answer`, { question: options.question });
  await record(repo, seen, { subject: "Block: a question", task, answer });
  return answer;
}

async function resume({ repo, id, operation, options }: Call): Promise<Answer> {
  using _lock = await lock(repo, `task-${id}`);
  const seen = await readTask(repo, id);
  const to = requireTransition(seen, "resume");
  const { state } = seen.task;
  if (state === "queued" && options.answer !== undefined) {
    throw new Failure("usage", `Task ${quote(id)} has not started, so it has no question: leave out --answer`);
  }
  if (state === "queued") return await finishSpawn(repo, seen);
  if (state === "working" && processOf(repo, id)?.isAlive) {
    throw new Failure("state", `Task ${quote(id)} is at work`, `worker log ${id}`);
  }
  if (state === "blocked" && options.answer === undefined) {
    throw new Failure("usage", `Task ${quote(id)} has a question: give --answer TEXT`, seen.task.question);
  }
  if (state === "approved" && options.answer === undefined) {
    const message = `Task ${quote(id)} is approved: give --answer TEXT, which says what its worker should change`;
    throw new Failure("usage", message, `worker merge ${id}`);
  }
  const said = options.answer === undefined ? [] : [{ question: seen.task.question, answer: options.answer }];
  const answers = [...seen.task.answers ?? [], ...said];
  const task = change(seen, operation, {
    state: to,
    question: undefined,
    reason: undefined,
    ...answers.length > 0 && { answers },
  });
  const left = leftNote(await stopAgent(repo, id)); // one that still runs would not hear of it
  await ensureWorktree(repo, seen);
  const works = hasAgent(task) ? `, with ${nameOfAgent(task)}` : "";
  const answer = answerFor(task, `Task ${id} is at work again${works}${left}`);
  setPending(repo, task);
  await launch(repo, await record(repo, seen, { subject: `Resume, from ${state}`, task, answer }));
  return answer;
}

async function fail({ repo, id, operation, options }: Call): Promise<Answer> {
  using _lock = await lock(repo, `task-${id}`);
  const seen = await readTask(repo, id);
  const state = requireTransition(seen, "fail");
  await stopAgent(repo, id);
  const task = change(seen, operation, { state, reason: options.reason });
  const answer = answerFor(task, `Task ${id} has failed; its worktree and branch are kept`);
  await record(repo, seen, { subject: "Fail", task, answer });
  return answer;
}

// ── Reviews, and what a person decides ──────────────────────────────────────────────────────────────────────────

async function review({ repo, id, operation, options }: Call): Promise<Answer> {
  const seen = await readTask(repo, id);
  const { task } = seen;
  const { actor, command } = operation;
  const isAuthor = task.authors.some((author) => author.toLowerCase() === actor.toLowerCase());
  if (isAuthor) {
    const message = `${actor} is an author of task ${quote(id)}, and may not review it`;
    throw new Failure("state", message, "--actor names the reviewer");
  }
  if (command === "review start" && task.state === "reviewing" && task.reviewer === actor) {
    checkHead(seen, options.head ?? "");
    return { ...answerFor(task, `${actor} reviews task ${id} already`), changed: false };
  }
  const isTaken = command === "review start" && options.take && task.state === "reviewing";
  if (isTaken && isReviewerGone(repo, task) === false) {
    throw new Failure("state", `${task.reviewer} is still reviewing task ${quote(id)}`, `worker wait ${id}`);
  }
  if (command !== "review start" && task.state === "reviewing" && task.reviewer !== actor) {
    const hint = `If ${task.reviewer} is gone: worker review start ${id} --head ${task.head} --actor ${actor} --take`;
    throw new Failure("state", `Only ${task.reviewer}, who reviews task ${quote(id)}, may decide`, hint);
  }
  const to = isTaken ? "reviewing" : requireTransition(seen, command);
  checkHead(seen, options.head ?? "");
  const { round, head = "" } = task;
  const findings = options.findings === undefined ? undefined : await readGiven("findings", options.findings);
  const files = findings === undefined ? undefined : { [`reviews/${round}.md`]: findings };
  const requests = task.requests + (to === "changes_requested" ? 1 : 0);
  const tooMany: Checkpoint[] = requests <= repo.config.rounds || to !== "changes_requested"
    ? []
    : [{ kind: "rounds", detail: `changes were requested ${requests} times, more than ${repo.config.rounds}` }];
  // Computed again, because a worker's process computed them at submit.
  const checkpoints = to === "approved"
    ? checkpointsOf(repo.config, await measure(repo, task.from ?? task.start, head))
    : [];
  const next = change(seen, operation, {
    ...leadTo(task, head, to, [...checkpoints, ...tooMany]),
    reviewer: actor,
    ...to !== "reviewing" && { reviewed: head },
    ...to === "changes_requested" && { findings: [...task.findings ?? [], `reviews/${round}.md`] },
    ...to === "approved" && { findings: undefined }, // They are fixed.
    ...isTaken && { since: new Date().toISOString() },
    requests,
  });
  if (to === "reviewing") {
    const { pid, birth } = callerOf() ?? { pid: 0, birth: "" };
    Deno.writeTextFileSync(`${folderOf(repo, id)}/reviewer`, [pid, birth, actor].join("\n"));
  }
  const answer = answerFor(next, `Task ${id} is ${next.state}${humanNote(next)}`, { round, requests });
  await record(repo, seen, { subject: `Review, round ${round}: ${to.replace("_", " ")}`, task: next, files, answer });
  return answer;
}

async function human({ repo, id, operation, options }: Call): Promise<Answer> {
  const { command } = operation;
  const isPerson = Deno.stdin.isTerminal() || Deno.env.get("WORKER_HUMAN") === "1";
  if (!isPerson || Deno.env.has("WORKER_TASK")) {
    const message = `worker ${command} is for a person: no worker may run it, and standard input must be a terminal`;
    throw new Failure("needs_human", message, "Have a person run this in a terminal");
  }
  printError("Note: another program of this user can do this, too. What is recorded does not prove that a person did.");
  const seen = await readTask(repo, id);
  const to = requireTransition(seen, command);
  checkHead(seen, options.head ?? "");
  const { task } = seen;
  const { head = "", round } = task;
  const kinds = (task.checkpoints ?? []).map(({ kind }) => kind);
  const cleared = { head, kinds: [...task.cleared?.head === head ? task.cleared.kinds : [], ...kinds] };
  const isApproval = command === "human approve";
  const reason = options.reason ?? "A person rejected this";
  if (options.accept && !kinds.includes("rounds")) {
    throw new Failure("usage", `--accept is only for a task with too many requests for changes, not ${quote(id)}`);
  }
  const approved = options.accept ? "approved" : task.next ?? to;
  const state = isApproval ? approved : kinds.includes("rounds") ? "failed" : to;
  const next = change(seen, operation, {
    state,
    checkpoints: undefined,
    next: undefined,
    ...isApproval ? { cleared } : { reason, findings: [...task.findings ?? [], `human/${round}.md`] },
    requests: task.requests + (state === "changes_requested" && !isApproval ? 1 : 0),
  });
  const answer = answerFor(next, `Task ${id} is ${next.state}`, { checkpoints: task.checkpoints });
  // The worker gets a person's reason like a reviewer's findings.
  const files = isApproval ? undefined : { [`human/${round}.md`]: `${reason}\n` };
  const subject = `A person ${isApproval ? "approves" : "rejects"}: ${kinds.join(", ")}`;
  await record(repo, seen, { subject, task: next, files, answer });
  return answer;
}

/** Prints the change to review: everything, or only the fix if an earlier head was reviewed. */
async function reviewDiff({ repo, id, options }: Call): Promise<Answer> {
  const { task } = await readTask(repo, id);
  const { head, from, reviewed } = task;
  if (head === undefined || from === undefined) throw new Failure("state", `Task ${quote(id)} was never submitted`);
  const isFix = reviewed !== undefined && reviewed !== head && !options.whole;
  let [left, note] = [from, `${from}..${head}`];
  if (isFix) {
    // Changes that came from the base are not part of the fix, so they are merged into the old side, too.
    const merged = await mergeTrees(repo, reviewed, from, checkoutOf(repo, id));
    [left, note] = [merged.tree, `the fix alone, ${reviewed}..${head} (--whole for all of it)`];
  }
  printError(`Task ${id}, round ${task.round}: ${note}`);
  const { hidden } = await measure(repo, left, head);
  const diff = async (...more: string[]) => {
    const args = ["diff", "--no-color", "--find-renames", ...EXACTLY, ...more];
    const output = await tryGit(repo, args, { env: { GIT_LITERAL_PATHSPECS: "1" } });
    if (output.code !== 0) throw gitFailure(args, output);
    return output;
  };
  const whole = await diff(left, head);
  // Files that git takes for binary may be readable.
  const more = hidden.length > 0 ? await diff("--text", left, head, "--", ...hidden) : undefined;
  const output = { bytes: new Uint8Array([...whole.bytes, ...more?.bytes ?? []]), out: whole.out + (more?.out ?? "") };
  // As bytes, because files need not be UTF-8, but escaped on a terminal.
  if (!options.json && Deno.stdout.isTerminal()) console.log(escapeControls(output.out).trimEnd());
  else if (!options.json) writeAll(Deno.stdout, output.bytes);
  const data = { round: task.round, from, ...isFix && { reviewed }, diff: output.out };
  return { changed: false, taskId: id, state: task.state, head, data };
}

// ── merge ───────────────────────────────────────────────────────────────────────────────────────────────────────

async function merge({ repo, id, operation, options }: Call): Promise<Answer> {
  const check = options.check ?? repo.config.check;
  using _all = await lock(repo, "merge");
  using _lock = await lock(repo, `task-${id}`);
  const seen = await readTask(repo, id);
  const { task } = seen;
  if (task.state === "merged") return { ...answerFor(task, `Task ${id} is merged already`), changed: false };
  const base = await readRef(repo, task.base);
  if (base === undefined) throw new Failure("git", `The base of task ${quote(id)}, ${task.base}, is not here`);
  const state = requireTransition(seen, "merge");
  checkUnmoved(seen);
  const checkout = await baseCheckout(repo, task.base);
  const [merged, baseTree] = await Promise.all([
    inCheckout(repo, id, base, checkout, (cwd) => mergeTrees(repo, base, task.head ?? "", cwd)),
    git(repo, ["rev-parse", "--verify", `${base}^{tree}`]),
  ]);
  if (merged.conflicts.length > 0) {
    const message = `Task ${quote(id)} conflicts with ${task.base} in:${listSome(merged.conflicts)}`;
    const hint = `worker resume ${id} --answer "Merge ${branchName(task.base)}: it conflicts", then review again`;
    throw new Failure("conflict", message, hint);
  }
  // After a squash or a rebase, the commits differ, so compare what a merge would change.
  const isIn = merged.tree === baseTree.trim();
  const subject = `Merge worker/${id}: ${task.title}`;
  const { out: isSigned } = await tryGit(repo, ["config", "--type=bool", "commit.gpgsign"]);
  const sign = isSigned.trim() === "true" ? ["-S"] : [];
  const args = ["commit-tree", ...sign, merged.tree, "-p", base, "-p", task.head ?? "", "-m", subject];
  const commit = isIn ? base : (await git(repo, args, { env: await identity(repo) })).trim();
  if (options["dry-run"]) {
    if (check !== undefined) await checkMerge(repo, seen, commit, check);
    const text = isIn ? `All of task ${id} is in ${task.base} already` : `Task ${id} can be merged, as ${commit}`;
    return { ...answerFor(task, text, { commit, base: task.base }), changed: false };
  }
  const next = change(seen, operation, { state, merge: { commit, onto: base } });
  markBegun(repo, next);
  const merging = await record(repo, seen, { subject: "Merge begins", task: next, pin: commit });
  try {
    if (!isIn && check !== undefined) await checkMerge(repo, seen, commit, check);
    if (!isIn) await moveBase(repo, task, commit, base);
  } catch (error) {
    if (error instanceof Failure) await revokeMerge(repo, merging, error);
    throw error;
  }
  return await settleMerge(repo, merging);
}

/** Records that an operation was begun on this machine, so that other clones don't repair it. */
function markBegun(repo: Repo, { id, operation }: Task): void {
  Deno.writeTextFileSync(`${folderOf(repo, id)}/operation`, operation.id);
}

/** Whether an operation was begun here. If `.git/worker` was deleted, it was where the task's worktree is. */
function isBegunHere(repo: Repo, { id, operation }: Task): boolean {
  const folder = `${repo.common}/worker/${id}`;
  return exists(folder) ? readOptional(`${folder}/operation`) === operation.id : checkoutOf(repo, id) !== undefined;
}

/** The checkout of the base. Fails if it has uncommitted changes. */
async function baseCheckout(repo: Repo, base: string): Promise<string | undefined> {
  const user = baseInUse(repo, base);
  if (user !== undefined) {
    throw new Failure("state", `${base} is in the middle of a ${user}`, `Finish or abort it with git ${user}`);
  }
  const [checkout, second] = (await readWorktrees(repo)).filter(({ branch, isBare }) => branch === base && !isBare);
  if (second !== undefined) {
    const message = `${base} is checked out twice, also in ${second.path}`;
    throw new Failure("state", message, "Check out another branch there");
  }
  const path = checkout?.path === repo.common ? await checkoutHere(repo) : checkout?.path;
  if (path === undefined) return undefined;
  if (!exists(path)) {
    throw new Failure("state", `${base} is checked out in ${path}, which does not exist`, "git worktree prune");
  }
  const changed = await readStatus(repo, path, "--untracked-files=no", "--ignore-submodules=all");
  if (changed.length === 0) return path;
  const paths = listSome(changed.map(({ path }) => path));
  const message = `${base} is checked out in ${path}, with uncommitted changes:${paths}`;
  throw new Failure("loses_work", message, "Commit or stash them there");
}

/** The unfinished operation that involves a branch, such as a rebase, which would move it later. */
function baseInUse(repo: Repo, base: string): string | undefined {
  const folder = `${repo.common}/worktrees`;
  const others = exists(folder) ? Array.from(Deno.readDirSync(folder), ({ name }) => `${folder}/${name}`) : [];
  const names = [base, branchName(base), `ref: ${base}`];
  for (const place of [repo.common, ...others]) {
    const isBase = (file: string) => names.includes(readOptional(`${place}/${file}`)?.trim() ?? "");
    if (isBase("HEAD") && exists(`${place}/CHERRY_PICK_HEAD`)) return "cherry-pick";
    if (isBase("HEAD") && exists(`${place}/REVERT_HEAD`)) return "revert";
    if (isBase("HEAD") && exists(`${place}/MERGE_HEAD`)) return "merge";
    if (isBase("rebase-merge/head-name") || isBase("rebase-apply/head-name")) return "rebase";
    if (isBase("BISECT_START")) return "bisect";
  }
}

/** The checkout of a repo with a separate git directory. git knows it only in the checkout itself. */
async function checkoutHere(repo: Repo): Promise<string> {
  const args = ["rev-parse", "--path-format=absolute", "--git-dir", "--show-toplevel"];
  const [folder, top] = (await tryGit(repo, args, { cwd: Deno.cwd() })).out.split("\n");
  if (folder === repo.common && top) return top;
  throw new Failure("state", `git does not say where the checkout of ${repo.common} is`, "Merge in that checkout");
}

/** Runs `work` in a checkout of a commit: an existing one, or a temporary worktree. */
async function inCheckout<T>(
  repo: Repo,
  id: string,
  commit: string,
  existing: string | undefined,
  work: (cwd: string) => Promise<T>,
): Promise<T> {
  if (existing !== undefined) return await work(existing);
  const path = checkFolder(repo, id);
  await removeCheck(repo, id);
  try {
    await git(repo, ["-c", "core.hooksPath=/dev/null", "worktree", "add", "--quiet", "--detach", path, commit]);
    return await work(path);
  } finally {
    await removeCheck(repo, id).catch(() => {}); // doctor finds it; what came out counts
  }
}

/** Runs the check in a temporary worktree of the merge commit. */
async function checkMerge(repo: Repo, { task: { id } }: TaskSnapshot, commit: string, check: string): Promise<void> {
  await inCheckout(repo, id, commit, undefined, async (path) => {
    const { setup } = repo.config;
    for (const [what, command] of [["worker.setup for the check", setup], ["check", check]] as const) {
      const { code, output } = command === undefined ? { code: 0, output: "" } : await runShell(command, path, id);
      if (code === 0) continue;
      const ended = `ended with status ${code} on the merge commit ${commit}`;
      const message = `The ${what} of task ${quote(id)} ${ended}: ${command}`;
      const hint = `worker resume ${id} --answer TEXT lets its worker fix that; it gets the output, too`;
      throw new Failure("check_failed", message, hint, output);
    }
  });
}

/** The temporary worktree. No id begins with a dot. */
function checkFolder(repo: Repo, id: string): string {
  return `${repo.worktrees}/.check-${id}`;
}

async function removeCheck(repo: Repo, id: string): Promise<void> {
  const path = checkFolder(repo, id);
  const isKnown = (await readWorktrees(repo)).some((each) => each.path === path);
  if (isKnown) await git(repo, ["worktree", "remove", "--force", "--force", path]);
  removeAny(path);
}

/** Moves the base to the merge commit, with its checkout if there is one. */
async function moveBase(repo: Repo, task: Task, commit: string, onto: string): Promise<void> {
  const cwd = await baseCheckout(repo, task.base); // again, as a check can take long
  const before = await readRef(repo, task.base);
  if (before !== onto) throw movedBase(task, onto, before);
  const message = `worker: merge ${task.id}`;
  const replaced = cwd === undefined ? [] : await replacedFolders(repo, cwd, onto, commit);
  if (replaced.length > 0) {
    const reason = `Cannot move ${task.base} in ${cwd}: a file replaces these, which are submodules:`;
    throw new Failure("loses_work", reason + listSome(replaced), "Move those away");
  }
  const merge = "merge --ff-only --no-overwrite-ignore --no-squash --no-autostash --no-verify-signatures".split(" ");
  const added = cwd === undefined
    ? []
    : (await changedPaths(repo, onto, commit, "A")).filter((path) => !exists(`${cwd}/${path}`));
  const output = cwd === undefined
    ? await tryGit(repo, ["update-ref", "-m", message, task.base, commit, onto])
    : await tryGit(repo, [...merge, commit], { cwd, env: { GIT_REFLOG_ACTION: message } });
  const now = await readRef(repo, task.base);
  if (now === commit) return; // whatever a hook says
  if (cwd === undefined || now !== onto) {
    throw now === onto ? gitFailure(["update-ref"], output) : movedBase(task, onto, now);
  }
  const reason = `Cannot move ${task.base} in ${cwd}: ${(output.error || output.out).trim()}`;
  if (/overwritten|not uptodate|lose untracked|would be removed/.test(output.error)) { // before anything is written
    throw new Failure("loses_work", reason, "Move those away");
  }
  await undoCheckout(repo, task.base, { commit, onto }); // if only the branch could not be moved
  await undoFiles(repo, cwd, onto, commit, added);
  throw new Failure("git", reason);
}

/** Checked out submodules that a commit replaces by files. git would remove their content. */
async function replacedFolders(repo: Repo, cwd: string, from: string, to: string): Promise<string[]> {
  return (await changedPaths(repo, from, to, "T")).filter((path) =>
    lstat(`${cwd}/${path}`)?.isDirectory && [...Deno.readDirSync(`${cwd}/${path}`)].length > 0
  );
}

/** The paths at which two commits differ. `filter` selects the kinds of differences. */
async function changedPaths(repo: Repo, from: string, to: string, filter: string): Promise<string[]> {
  const args = ["diff-tree", "-r", "-z", "--no-renames", "--name-only", `--diff-filter=${filter}`, from, to];
  return (await git(repo, args)).split("\0").filter(Boolean);
}

/** Reverts what a merge that failed has written to the checkout: `added` are the files that were not there before. */
async function undoFiles(repo: Repo, cwd: string, onto: string, commit: string, added: string[]): Promise<void> {
  for (const path of added.map((path) => `${cwd}/${path}`)) {
    if (lstat(path)?.isDirectory === false) Deno.removeSync(path);
  }
  const before = await changedPaths(repo, onto, commit, "a"); // all but what is added
  const args = ["restore", `--source=${onto}`, "--worktree", "--pathspec-from-file=-", "--pathspec-file-nul"];
  if (before.length > 0) {
    await tryGit(repo, args, { cwd, input: before.join("\0"), env: { GIT_LITERAL_PATHSPECS: "1" } });
  }
}

function movedBase({ base }: Task, onto: string, now: string | undefined): Failure {
  const message = `${base} moved from ${onto} to ${now ?? "nowhere"} meanwhile`;
  return new Failure("race", message, "Merge again, with the same --check");
}

/** Records that a merge is done. */
async function settleMerge(repo: Repo, seen: TaskSnapshot): Promise<Answer> {
  const { operation, id, base, merge } = seen.task;
  const task = change(seen, operation, { state: "merged" });
  const data = { base, commit: merge?.commit };
  const answer = answerFor(task, `Task ${id} is merged into ${base}, as ${merge?.commit}`, data);
  await record(repo, seen, { subject: "Merge is done", task, answer });
  await startDependents(repo, id);
  return answer;
}

/** Records why a merge failed, with the output of its check. The task is approved as before. */
async function revokeMerge(repo: Repo, seen: TaskSnapshot, why: Failure): Promise<void> {
  const { operation, base, round, findings = [] } = seen.task;
  const { message, output } = why;
  const file = `checks/${round}.md`;
  const task = change(seen, operation, {
    state: "approved",
    merge: undefined,
    ...output !== undefined && { findings: [...findings.filter((each) => each !== file), file] },
  });
  const answer = { ...answerFor(task, message, { base }), changed: false, error: errorOf(why) };
  const files = output === undefined ? undefined : { [file]: `${message}\n\n${output}\n` };
  await record(repo, seen, { subject: `No merge: ${message.split("\n", 1)[0]}`, task, files, answer });
}

function errorOf({ code, message, hint }: Failure): NonNullable<Answer["error"]> {
  return { code, message, ...hint !== undefined && { hint } };
}

// ── cancel ──────────────────────────────────────────────────────────────────────────────────────────────────────

async function cancel({ repo, id, operation, options }: Call): Promise<Answer> {
  using _lock = await lock(repo, `task-${id}`);
  const seen = await readTask(repo, id);
  const { state } = seen.task;
  if (options.discard && !options.cleanup) throw new Failure("usage", "--discard needs --cleanup");
  const isOver = state === "merged" || state === "cancelled";
  if (isOver && !options.cleanup && state === "cancelled") {
    return { ...answerFor(seen.task, `Task ${id} is cancelled already`), changed: false };
  }
  const to = isOver && options.cleanup ? state : requireTransition(seen, "cancel");
  const reason = options.reason ?? (state === "cancelling" ? seen.task.reason : undefined);
  if (reason === undefined && !isOver) throw new Failure("usage", "cancel needs --reason TEXT");
  if (options.cleanup) {
    const found = await inspect(repo, id);
    if (isOver && found.found === "nothing" && found.branch === undefined) {
      return { ...answerFor(seen.task, `Nothing is left of task ${id}`), changed: false };
    }
    checkRemovable(repo, id, found, options.discard);
  }
  const task = change(seen, operation, {
    ...isOver ? {} : { state: to, reason },
    cleanup: options.cleanup ? { discard: options.discard } : undefined,
  });
  const subject = isOver ? "Clean up begins" : `Cancel: ${reason?.split("\n", 1)[0]}`;
  markBegun(repo, task);
  return await finishCancel(repo, await record(repo, seen, { subject, task }));
}

/** Ends the agent, saves and removes what was asked for, and records it. Continues an interrupted cancel. */
async function finishCancel(repo: Repo, seen: TaskSnapshot): Promise<Answer> {
  const { id, operation } = seen.task;
  const left = leftNote(await stopAgent(repo, id));
  let now = seen;
  // Saved again if an interrupted cancel is continued, because somebody may have worked there since.
  if (now.task.cleanup !== undefined && (!now.task.cleanup.backup || checkoutOf(repo, id) !== undefined)) {
    const found = await inspect(repo, id); // again, as the agent went on until now
    checkRemovable(repo, id, found, now.task.cleanup.discard);
    const backup = await saveWorktree(repo, now, found);
    const cleanup = { ...now.task.cleanup, head: found.branch, backup };
    // Recorded before anything is removed, so that a partially removed worktree is never saved instead.
    const task = change(now, operation, { cleanup });
    now = await record(repo, now, { subject: `The worktree is saved at refs/worker/backup/${id}`, task });
  }
  const { cleanup, state } = now.task;
  if (cleanup !== undefined) await removeWorktree(repo, id, cleanup.head);
  const task = change(now, operation, {
    ...state === "cancelling" && { state: "cancelled" },
    cleanup: cleanup && { ...cleanup, done: true },
  });
  const text = `Task ${id} is ${task.state}` +
    (cleanup ? `; worktree and branch are saved at refs/worker/backup/${id}` : "") + left;
  const answer = answerFor(task, text, cleanup ? { backup: cleanup.backup } : {});
  await record(repo, now, { subject: cleanup ? "Worktree and branch are removed" : "Cancel is done", task, answer });
  return answer;
}

// ── Queries ─────────────────────────────────────────────────────────────────────────────────────────────────────

/** What is observed about a task, and not stored. What isn't known is missing, or `null`. */
function observe(repo: Clone, seen: TaskSnapshot) {
  const { id, state, head, since } = seen.task;
  if (!isLive(seen)) return { stalled: false, moved: false };
  // Whether the agent is running, if the task has one.
  const alive = hasAgent(seen.task) ? processOf(repo, id)?.isAlive ?? null : undefined;
  const exit = alive === false ? readOptional(`${repo.common}/worker/${id}/exit`) : undefined;
  const printed = alive ? lstat(`${repo.common}/worker/${id}/log`)?.mtime : undefined;
  // The head was submitted, so the branch must not move.
  const isPinned = STATES[state].waiting || state === "approved" || state === "needs_human";
  return {
    ...alive !== undefined && { alive },
    stalled: state === "working" && alive === false,
    moved: isPinned && seen.branch !== undefined && seen.branch !== head,
    ...STATES[state].waiting && { reviewAge: secondsSince(since) },
    ...state === "reviewing" && { reviewerGone: isReviewerGone(repo, seen.task) },
    ...exit !== undefined && { exitStatus: Number(exit) },
    ...alive && printed && { silent: secondsSince(printed.toISOString()) },
  };
}

/** The tasks that have committed changes of the same files as a live task. Tasks without a branch here are left out. */
async function committedOverlaps(repo: Clone): Promise<Map<string, string[]>> {
  const known = [...repo.refs].flatMap(([ref, { to, base }]) => {
    const [id, isTask] = [ref.slice(TASKS.length), ref.startsWith(TASKS)];
    const branch = repo.refs.get(BRANCHES + id)?.commit;
    const isLive = isTask && Object.hasOwn(STATES, to) && STATES[to as State].live;
    return isLive && branch !== undefined && base !== "" ? [{ id, branch, base, paths: new Set<string>() }] : [];
  });
  if (known.length < 2) return new Map(known.map(({ id }) => [id, []]));
  const input = known.map(({ branch, base }) => `${branch} ${base}\n`).join("");
  const out = await git(repo, ["diff-tree", "--stdin", "-r", "-z", "--name-only", "--no-renames"], { input });
  let now = known.slice(0, 0);
  for (const word of out.split("\0").filter(Boolean)) {
    const next = known.filter(({ branch }) => branch === word);
    if (next.length > 0) now = next;
    else now.forEach(({ paths }) => paths.add(word));
  }
  return new Map(known.map(({ id, paths }) => {
    const others = known.filter((other) => other.id !== id && !other.paths.isDisjointFrom(paths));
    return [id, others.map((other) => other.id)];
  }));
}

async function list({ repo, options }: { repo: Clone; options: Options }): Promise<Answer> {
  // Most tasks are merged or cancelled sooner or later. They are not read.
  const refs = new Map([...repo.refs].filter(([, { to }]) => options.all || !["merged", "cancelled"].includes(to)));
  const [tasks, committed] = await Promise.all([tasksAt(repo, refs), committedOverlaps(repo)]);
  const data = tasks.map((seen) => {
    const { task } = seen;
    const { id, title, state, since, created, base, agent, round, requests, head, paths, dependsOn } = task;
    const { question, checkpoints, reviewer, reason } = task;
    const known = {
      ...{ id, title, state, since, created, base, agent, round, requests, head, paths, dependsOn },
      ...{ question, checkpoints, reviewer: state === "reviewing" ? reviewer : undefined, reason },
    };
    const overlaps = STATES[state].live ? { overlaps: committed.get(id) ?? null } : {};
    const works = nameOfAgent(task);
    const { open: waitsFor, lost } = dependenciesOf(task, repo.refs);
    return { ...known, works, lost, waitsFor, ...observe(repo, seen), ...overlaps };
  }).sort((a, b) => a.created < b.created ? -1 : 1);
  const short = (text: string) => escapeControls(shorten(text, 40));
  const rows = data.map((row) => {
    const age = formatDuration(row.reviewAge ?? 0);
    const notes = [
      row.question && `asks: ${short(row.question)}`,
      ...row.state === "needs_human" ? checkpointList(row).map(short) : [],
      row.stalled && (row.exitStatus === undefined ? "stalled" : `stalled, exit status ${row.exitStatus}`),
      (row.silent ?? 0) >= 60 && `silent for ${formatDuration(row.silent ?? 0)}`,
      row.lost.length > 0 && `cannot start, because this is cancelled: ${row.lost.join(", ")}`,
      row.lost.length === 0 && row.waitsFor.length > 0 && `waits for ${row.waitsFor.join(", ")}`,
      row.moved && "moved since",
      row.state === "reviewing" && `${row.reviewer} reviews for ${age}${row.reviewerGone ? ", and is gone" : ""}`,
      row.state === "submitted" && `waits for review for ${age}`,
      row.overlaps?.length && `overlaps ${row.overlaps.join(", ")}`,
    ].filter(Boolean);
    const { id, state, since, round, title } = row;
    return [id, state, formatDuration(secondsSince(since)), `${round}`, row.works, notes.join("; "), short(title)];
  });
  const live = tasks.filter(isLive).length;
  const waiting = tasks.filter(({ task }) => STATES[task.state].waiting).length;
  printError(`${live} live, ${waiting} waiting for review`);
  const all = [["ID", "STATE", "SINCE", "ROUND", "AGENT", "NOTE", "TITLE"], ...rows];
  const text = table(all, Deno.stdout.isTerminal() ? 80 : Infinity);
  return { changed: false, data: { tasks: data, live, waiting }, ...rows.length > 0 && { text } };
}

async function status({ repo, id }: Call): Promise<Answer> {
  const seen = await readTask(repo, id);
  const [observation, events] = [observe(repo, seen), await readEvents(repo, id)];
  const { task } = seen;
  const worktree = checkoutOf(repo, id) ?? null;
  const shown = { ...task, operation: undefined, branch: seen.branch, worktree, ...observation };
  const rows = Object.entries(shown)
    .filter(([, value]) => value !== undefined && !(Array.isArray(value) && value.length === 0))
    .map(([key, value]) => [key, typeof value === "string" ? value : JSON.stringify(value)]);
  const paths = (await git(repo, ["ls-tree", "-r", "--name-only", "-z", seen.commit])).split("\0")
    .filter((path) => path.endsWith(".md"));
  const contents = await readObjects(repo, paths.map((path) => `${seen.commit}:${path}`));
  const texts = Object.fromEntries(paths.map((path, index) => [path, contents[index] ?? ""]));
  const shownTexts = Object.entries(texts).map(([path, text]) => `\n\n${path}:\n\n${text.trim().replace(/^/gm, "  ")}`);
  const data = { task, ...observation, branch: seen.branch ?? null, worktree, events, texts };
  const text = escapeControls(
    `${table([...rows, ["next", nextStep(task, repo.refs)]])}${shownTexts.join("")}`,
  );
  return { changed: false, taskId: id, state: task.state, head: task.head, data, text };
}

async function log({ repo, id, options }: Call): Promise<Answer> {
  const { task } = await readTask(repo, id);
  const events = await readEvents(repo, id);
  const path = `${repo.common}/worker/${id}/log`;
  if (options.all && options.json) throw new Failure("usage", "--all has no --json", `Read ${path}`);
  const size = lstat(path)?.size ?? 0;
  const decoder = new TextDecoder(); // one, because a piece can end in a character
  // All of it may be larger than a string can be.
  const text = options.all ? "" : (await Array.fromAsync(readPart(path, size - LOG_BYTES, size, decoder))).join("");
  const output = lastLines(text);
  const isCut = !options.all && (output.length < text.length || size > LOG_BYTES);
  const note = isCut ? [`(the end of ${path}, which has ${size} bytes; --all for everything)`] : [];
  const rows = events.map(({ at, actor, from, to, subject }) => [at, actor, `${from} -> ${to}`, subject]);
  const shown = escapeControls([table(rows), "", ...note, output].join("\n")).trimEnd();
  const data = { events, output: exists(path) ? output : null, size };
  const result = { changed: false, taskId: id, state: task.state, head: task.head, data };
  if (!options.all && !options.follow) return { ...result, text: shown };
  console.log(options.all ? `${shown}\n` : shown);
  for (let position = options.all ? 0 : size, isLast = !options.follow;; await pause(200)) {
    const end = lstat(path)?.size ?? 0;
    for await (const piece of readPart(path, position, end, decoder)) {
      writeAll(Deno.stdout, new TextEncoder().encode(escapeControls(piece)));
    }
    if (isLast) return result;
    position = end;
    isLast = !processOf(repo, id)?.isAlive && !isPending(repo, id);
  }
}

/** The text between two positions of a file, in bytes, in pieces. A negative one means the start. */
async function* readPart(path: string, start: number, end: number, decoder: TextDecoder): AsyncGenerator<string> {
  let position = Math.max(0, start);
  if (position >= end) return; // perhaps there is no file
  using file = await Deno.open(path);
  await file.seek(position, Deno.SeekMode.Start);
  const buffer = new Uint8Array(2 ** 16);
  while (position < end) {
    const count = await file.read(buffer.subarray(0, end - position));
    if (count === null) return;
    position += count;
    yield decoder.decode(buffer.subarray(0, count), { stream: true });
  }
}

const CANCEL_STEP = "worker cancel ID --reason TEXT";
const TAKE_STEP = "worker review start ID --head HEAD --actor NAME --take";
const STALLED_STEP = "worker log ID, then worker resume ID or worker fail ID --reason TEXT";

/** States in which the orchestrator has something to do. */
const ACTIONABLE: readonly State[] = ["blocked", "submitted", "changes_requested", "approved"];

/**
 * Waits until a task changes its state or stalls. Returns immediately if one needs something already, or if none is live.
 * It polls file times, and runs git only after a change.
 */
async function wait({ repo, options, id }: Call): Promise<Answer> {
  const ids = [id, ...options.rest].filter(Boolean);
  for (const each of ids) await readTask(repo, each);
  const end = performance.now() + 1000 * repo.caller.timeout;
  const stateOf = new Map<string, string>();
  const isStalled = (seen: TaskSnapshot) => observe(repo, seen).stalled || isReviewerGone(repo, seen.task) === true;
  const report = (seen: TaskSnapshot, what: string, step?: string): Answer => {
    const { task, task: { id, state, head } } = seen;
    const next = step?.replaceAll("ID", id).replace("HEAD", `${head}`) ?? nextStep(task);
    return { changed: false, taskId: id, state, head, data: { next }, text: `Task ${id} ${what}\nNext: ${next}` };
  };
  for (let signature = "", live: TaskSnapshot[] = [];; await pause(250)) {
    const now = refsSignature(repo);
    if (now !== signature) {
      signature = now;
      const refs = await readRefs(repo, TASKS, BRANCHES);
      const tasks = await tasksAt(repo, refs);
      const all = tasks.filter(({ task }) => ids.length === 0 || ids.includes(task.id));
      const changed = all.find(({ task }) => (stateOf.get(task.id) ?? task.state) !== task.state);
      if (changed) return report(changed, `is ${changed.task.state} (it was ${stateOf.get(changed.task.id)})`);
      live = all.filter(isLive);
      if (live.length === 0) {
        return { changed: false, data: {}, text: "No task is live, so there is nothing to wait for" };
      }
      const stuck = all.find(({ task }) => dependenciesOf(task, refs).lost.length > 0);
      if (stuck) return report(stuck, "cannot start, because what it depends on is cancelled", CANCEL_STEP);
      const ready = all.find(({ task }) => ACTIONABLE.includes(task.state));
      if (ready) return report(ready, `is ${ready.task.state}`);
      for (const { task } of all) stateOf.set(task.id, task.state);
    }
    const stalled = live.find(isStalled);
    if (stalled?.task.state === "reviewing") return report(stalled, "has a reviewer that is gone", TAKE_STEP);
    if (stalled) return report(stalled, "has stalled", STALLED_STEP);
    if (performance.now() > end) {
      const asked = live.filter(({ task }) => task.state === "needs_human").map(({ task }) => task.id);
      const note = asked.length > 0 ? `; a person has to decide about ${asked.join(", ")}` : "";
      return { changed: false, data: { asked }, text: `Nothing has changed in ${repo.caller.timeout} seconds${note}` };
    }
  }
}

/** A text that changes whenever a task's ref does, without running git. */
function refsSignature({ common }: Repo): string {
  const folder = `${common}/${TASKS}`;
  const names = exists(folder) ? [...Deno.readDirSync(folder)].map(({ name }) => name).sort() : [];
  const files = [`${common}/packed-refs`, `${common}/reftable/tables.list`, ...names.map((name) => `${folder}${name}`)];
  return files.map((path) => [path, lstat(path)?.mtime?.getTime(), lstat(path)?.ino].join(" ")).join("\n");
}

/** The paths that a live task changes: committed, staged, unstaged and untracked. A rename has two. */
async function changedFiles(repo: Repo, { task, branch }: TaskSnapshot): Promise<string[]> {
  const [cwd, head] = [checkoutOf(repo, task.id), branch ?? task.head];
  const committed = head === undefined ? "" : await (async () => {
    const from = (await tryGit(repo, ["merge-base", task.base, head])).out.trim() || task.start;
    return await git(repo, ["diff", "--name-only", "-z", "--no-renames", ...EXACTLY, from, head]);
  })();
  const others = cwd === undefined ? [] : await readStatus(repo, cwd, "--untracked-files=all");
  return [...new Set([...committed.split("\0").filter(Boolean), ...others.map(({ path }) => path)])].sort();
}

async function overlaps({ repo, id }: Call): Promise<Answer> {
  if (id !== "") await readTask(repo, id); // It must exist.
  const tasks = (await readTasks(repo)).filter(isLive);
  const live = await Promise.all(
    tasks.map(async (seen) => ({ ...seen, paths: new Set(await changedFiles(repo, seen)) })),
  );
  const pairs = live.flatMap((a, index) => live.slice(index + 1).map((b) => [a, b] as const))
    .filter(([a, b]) => id === "" || a.task.id === id || b.task.id === id);
  const found = await Promise.all(pairs.map(async ([a, b]) => {
    const [ours, theirs] = [a, b].map((seen) => seen.branch ?? seen.task.head);
    // If git fails, for example for unrelated histories, it is unknown.
    const merged = ours && theirs
      ? await mergeTrees(repo, ours, theirs, checkoutOf(repo, a.task.id)).catch(() => undefined)
      : undefined;
    // Tasks with different bases can conflict in files that neither of them has changed.
    const conflicts = merged?.conflicts.filter((path) => a.paths.has(path) || b.paths.has(path)) ?? null;
    return { tasks: [a.task.id, b.task.id], files: [...a.paths.intersection(b.paths)], conflicts };
  }));
  const meeting = found.filter(({ files, conflicts }) => files.length > 0 || (conflicts?.length ?? 0) > 0);
  const rows = meeting.flatMap(({ tasks, files, conflicts }) =>
    [...new Set([...files, ...conflicts ?? []])].map((path) => [
      tasks.join(" and "),
      conflicts === null ? "unknown" : conflicts.includes(path) ? "conflict" : "same file",
      escapeControls(path),
    ])
  );
  const text = rows.length === 0 ? undefined : table(rows);
  if (rows.length === 0) printError("No two live tasks change the same files");
  const files = Object.fromEntries(live.map(({ task, paths }) => [task.id, [...paths]]));
  return { changed: false, ...id !== "" && { taskId: id }, data: { files, pairs: meeting }, text };
}

// ── doctor ──────────────────────────────────────────────────────────────────────────────────────────────────────

/** A problem that `doctor --fix` repairs, or without `repair` a note for a person. */
interface Finding {
  taskId?: string;
  what: string;
  repair?: () => Promise<unknown>;
}

async function doctor({ repo, options }: Call): Promise<Answer> {
  const tasks = await readTasks(repo);
  const problems: { taskId?: string; what: string; repaired: boolean }[] = [];
  const notes: { taskId?: string; what: string }[] = [];
  const take = async ({ taskId, what, repair }: Finding) => {
    const of = taskId === undefined ? {} : { taskId };
    if (repair === undefined) return notes.push({ ...of, what });
    const error = options.fix ? await repair().then(() => undefined, (error: unknown) => error) : undefined;
    const hint = error instanceof Failure && error.hint ? `\n  ${error.hint}` : "";
    const why = error === undefined ? "" : `: ${explain(error)}${hint}`;
    problems.push({ ...of, what: what + why, repaired: options.fix && error === undefined });
  };
  const open = tasks.filter((seen) => isLive(seen) || seen.task.cleanup?.done === undefined && seen.task.cleanup);
  for (const { task: { id } } of open) {
    using free = await tryLock(repo, `task-${id}`);
    if (free === undefined) await take({ taskId: id, what: "a command is running on it" });
    // Read again, because it may have changed before the lock was taken.
    else {
      const findings = await readTask(repo, id).then((seen) => examine(repo, seen))
        .catch((error): Finding[] => [{ taskId: id, what: `it cannot be examined: ${explain(error)}` }]);
      for (const finding of findings) await take(finding);
    }
  }
  for (const finding of [...await examineRest(repo, tasks), ...staleLocks(repo)]) await take(finding);
  const lines = [
    ...problems.map(({ taskId, what, repaired }) =>
      `${repaired ? "repaired" : "problem"}  ${taskId ?? "repo"}: ${what}`
    ),
    ...notes.map(({ taskId, what }) => `note      ${taskId ?? "repo"}: ${what}`),
  ];
  const repaired = problems.filter(({ repaired }) => repaired).length;
  lines.push(`Problems: ${problems.length}, repaired: ${repaired}, notes: ${notes.length}`);
  if (repaired < problems.length && !options.fix) lines.push("worker doctor --fix repairs them");
  return { changed: repaired > 0, data: { problems, notes }, text: lines.join("\n") };
}

/** Finds what is wrong with a task, whose lock is held. */
async function examine(repo: Repo, seen: TaskSnapshot): Promise<Finding[]> {
  const { task, branch } = seen;
  const { id, state, merge, cleanup } = task;
  const path = worktreeOf(repo, id);
  const findings: Finding[] = [];
  const problem = (what: string, repair: () => Promise<unknown>) => findings.push({ taskId: id, what, repair });
  const note = (what: string) => findings.push({ taskId: id, what });
  if (exists(checkFolder(repo, id))) {
    problem("the worktree of a check was left behind", () => removeCheck(repo, id));
  }
  const { open, lost } = dependenciesOf(task, repo.refs);
  const isCleaning = state === "cancelling" || cleanup !== undefined && !cleanup.done;
  if (state === "queued" && !exists(`${repo.common}/worker/${id}`)) {
    note(`queued on another machine: worker resume ${id} would start it here`); // and run what it says
  } else if (lost.length > 0) {
    note(`it cannot start, because this is cancelled: ${lost.join(", ")} (${CANCEL_STEP.replace("ID", id)})`);
  } else if (open.length > 0) note(`it starts when these are merged: ${open.join(", ")}`);
  else if (state === "queued") problem("spawn was interrupted: it is run again", () => finishSpawn(repo, seen));
  else if ((state === "merging" || isCleaning) && !isBegunHere(repo, task)) {
    note(`${state === "merging" ? "merge" : "cancel"} is running on another machine, or was interrupted there`);
  } else if (isCleaning) {
    problem("cancel was interrupted: it is completed", () => finishCancel(repo, seen));
  } else if (state === "merging") {
    const base = await readRef(repo, task.base);
    if (merge === undefined || base === undefined) note(`merge was interrupted, and ${task.base} does not exist here`);
    else if (await git(repo, ["rev-list", "--max-count=1", merge.commit, "--not", base]) === "") {
      problem("merge was interrupted after the base had moved: it is recorded", () => settleMerge(repo, seen));
    } else {
      const what = base === merge.onto ? "before the base moved" : "and the base has moved elsewhere";
      const isUndone = base === merge.onto && await checkoutAtMerge(repo, task.base, merge) !== undefined;
      const dirty = isUndone ? undefined : await baseCheckout(repo, task.base).then(() => undefined, (error) => error);
      // It was clean when the merge began, but it may be a person's work, so it stays.
      if (dirty instanceof Failure) {
        note(`${dirty.message}\n  If nobody worked there, these are parts of the merge: git reset --hard`);
      }
      problem(`merge was interrupted, ${what}: the task is approved again`, async () => {
        if (isUndone) await undoCheckout(repo, task.base, merge);
        const why = `The merge of task ${quote(id)} was interrupted`;
        await revokeMerge(repo, seen, new Failure("race", why, "Merge again, with the same --check"));
      });
    }
  } else if (isLive(seen)) {
    const found = inspectPath(repo, path);
    if (branch === undefined) note(`the branch worker/${id} is not in this repo`);
    else if (found === "foreign" && isMoved(repo, id)) {
      problem(`the repo or ${path} was moved: git is told the new path`, () => git(repo, ["worktree", "repair", path]));
    } else if (found === "foreign") note(`${path} exists, and is no worktree of this repo`);
    else if (found !== "worktree") problem(`${path} is missing: it is created again`, () => ensureWorktree(repo, seen));
    if (found === "worktree" && (await placeOf(repo, id)).locked !== undefined) note(`${path} is locked`);
    const observation = observe(repo, seen);
    if (state === "working" && isPending(repo, id)) {
      problem("its agent was not started: it is started", () => launch(repo, seen));
    } else if (observation.stalled) {
      note("stalled, its process is gone: worker resume starts another, worker fail gives up");
    }
    if (observation.moved) {
      note(`its branch has moved from ${task.head}: verdicts about that are void until it is submitted again`);
    }
  }
  return findings;
}

/** Whether this repo knows a worktree, but the worktree points to the repo's former path. */
function isMoved({ common, worktrees }: Repo, id: string): boolean {
  const path = `${worktrees}/${id}/.git`;
  const text = lstat(path)?.isFile ? Deno.readTextFileSync(path) : "";
  const [, pointer] = /^gitdir: (.*)\n?$/.exec(text) ?? [];
  return pointer !== undefined && !exists(pointer) && pointer.endsWith(`/worktrees/${id}`) &&
    exists(`${common}/worktrees/${id}/HEAD`);
}

/** The base's checkout, if its files are those of a merge commit to which the branch was not moved. */
async function checkoutAtMerge(
  repo: Repo,
  base: string,
  merge: NonNullable<Task["merge"]>,
): Promise<string | undefined> {
  const cwd = (await readWorktrees(repo)).find(({ branch, isBare }) => branch === base && !isBare)?.path;
  if (cwd === undefined || !exists(`${cwd}/.git`)) return undefined;
  await tryGit(repo, ["update-index", "-q", "--refresh"], { cwd });
  const isAt = async (commit: string) =>
    (await tryGit(repo, ["diff-index", "--quiet", commit, "--"], { cwd })).code === 0;
  return await isAt(merge.commit) && !await isAt(merge.onto) ? cwd : undefined;
}

/** Reverts such a checkout. */
async function undoCheckout(repo: Repo, base: string, merge: NonNullable<Task["merge"]>): Promise<void> {
  const cwd = await checkoutAtMerge(repo, base, merge);
  if (cwd !== undefined) await git(repo, ["read-tree", "-m", "-u", merge.commit, merge.onto], { cwd });
}

/** Finds branches, worktrees and refs without a task. */
async function examineRest(repo: Repo, tasks: readonly TaskSnapshot[]): Promise<Finding[]> {
  const ids = new Set(tasks.map(({ task }) => task.id));
  const refs = await readRefs(repo, TASKS, BRANCHES);
  const of = (prefix: string) => [...refs.keys()].filter((ref) => ref.startsWith(prefix));
  const orphans = of(BRANCHES).map((ref) => ref.slice(BRANCHES.length)).filter((name) => !ids.has(name));
  const worktrees = await readWorktrees(repo).catch((error) =>
    error instanceof Failure ? error : Promise.reject(error)
  );
  if (worktrees instanceof Failure) return [{ what: worktrees.message }];
  const stray = worktrees.filter(({ path }) => path.startsWith(`${repo.worktrees}/`))
    .filter(({ path }) => !ids.has(path.slice(repo.worktrees.length + 1).replace(/^\.check-/, "")));
  const odd = of(TASKS).filter((ref) => !ids.has(ref.slice(TASKS.length)));
  return [
    ...odd.map((ref) => ({ what: `${ref} is not a task of this program` })),
    ...orphans.map((name) => ({ what: `branch worker/${name} belongs to no task` })),
    ...stray.map(({ path }) => ({ what: `worktree ${path} belongs to no task` })),
  ];
}

/** Finds git's lock files. An old one may be left by a killed git, which only a person can know. */
function staleLocks({ common }: Repo): Finding[] {
  const locksIn = (folder: string, depth: number): string[] =>
    Array.from(Deno.readDirSync(folder)).flatMap(({ name, isDirectory }) => {
      if (isDirectory) return depth > 0 ? locksIn(`${folder}/${name}`, depth - 1) : [];
      return name.endsWith(".lock") ? [`${folder}/${name}`] : [];
    });
  const folders = [["", 0], ["/worktrees", 1], ["/refs", 9]] as const;
  return folders.flatMap(([name, depth]) => exists(common + name) ? locksIn(common + name, depth) : []).map((path) => {
    const age = secondsSince(lstat(path)?.mtime?.toISOString() ?? "");
    return { what: `${path} is ${formatDuration(age)} old: if no git is running, remove it` };
  });
}

// ── The command line ────────────────────────────────────────────────────────────────────────────────────────────

/** The options with a value, with a list of values, and without one: how help shows the value, and what they are for. */
const TEXTS = {
  "taskId": ["ID", "the task, also as the first word"],
  "timeout": ["SECONDS", "how long to wait, at most"],
  "brief": ["FILE", "the task; - is standard input"],
  "base": ["BRANCH", "start from and merge into this branch, not the one here"],
  "agent": ["AGENT", "claude (the default), codex, opencode or none"],
  "report": ["FILE", "what was done and tested; - is standard input"],
  "question": ["TEXT", "what the worker needs to know"],
  "answer": ["TEXT", "what the worker is told"],
  "reason": ["TEXT", "why"],
  "head": ["SHA", "the submitted commit, or its first 7 or more digits"],
  "findings": ["FILE", "what must change, and why; - is standard input"],
  "check": ["COMMAND", "run this in a temporary worktree of the merge commit"],
  "actor": ["NAME", "who does it"],
  "op-id": ["ID", "given again, the answer is the same, nothing is done"],
} as const;
const LISTS = {
  "paths": ["GLOB...", "the paths that it will change, or globs"],
  "depends-on": ["ID...", "the tasks that must be merged before it"],
} as const;
const SWITCHES = {
  "allow-overlap": ["", "although these overlap a live task's --paths"],
  "all": ["", "also finished tasks, or the whole log"],
  "follow": ["", "continue printing until the agent ends (-f)"],
  "take": ["", "take over from a reviewer that is gone"],
  "accept": ["", "accept the head as it is, at the third request for changes"],
  "whole": ["", "all of the change, in any round"],
  "dry-run": ["", "merge and check, but don't record it or move the base"],
  "cleanup": ["", "save it in refs/worker/backup/ID, then remove it"],
  "discard": ["", "although ignored files or repos in it can't be saved"],
  "fix": ["", "repair what can be repaired"],
  "json": ["", "print the answer as JSON"],
  "help": ["", "print this"],
} as const;
const OPTIONS: Readonly<Record<string, readonly [string, string]>> = { ...TEXTS, ...LISTS, ...SWITCHES };

type Options =
  & Partial<Record<keyof typeof TEXTS, string>>
  & Record<keyof typeof LISTS, string[]>
  & Record<keyof typeof SWITCHES, boolean>
  & { rest: string[] };

interface Command {
  run: (call: Call) => Promise<Answer>;
  summary: string;
  /** Which task it is about. `here`: if none is named, that of the worktree. */
  task: "named" | "here" | "any" | "many" | "none";
  /** Its options besides the common ones. `!` marks a required one, `--` allows a command's words. */
  options: string;
  /** Whether it only reads, and prints its result on standard output. */
  isLook?: boolean;
  /** What `COMMAND --help` says, if not only the summary. */
  help?: string;
}

const COMMANDS: Readonly<Record<string, Command>> = {
  "spawn": {
    ...{ run: spawn, task: "named", options: "brief! base paths agent depends-on allow-overlap --" },
    summary: "create a task and start its agent",
    help: `Creates a task, its branch worker/ID and its worktree, and starts an agent in
it, or COMMAND. The prompt is in the file $WORKER_PROMPT.`,
  },
  "list": {
    ...{ run: list, task: "none", options: "all", isLook: true },
    summary: "show all tasks",
    help: `Shows the tasks. Marks what is stalled (working, with its process gone), how
long a review waits, and which tasks have committed changes to the same files.`,
  },
  "status": { run: status, task: "here", options: "", isLook: true, summary: "show all of one task" },
  "log": {
    ...{ run: log, task: "here", options: "all follow", isLook: true },
    summary: "show its events and its agent's output",
  },
  "wait": {
    ...{ run: wait, task: "many", options: "timeout", isLook: true },
    summary: "wait until a task needs something",
    help: `Waits until a task changes its state or stalls, and prints which, and the next
step. Returns at once if no task is live, or if one needs something already.`,
  },
  "submit": { run: submit, task: "here", options: "report", summary: "submit what is committed" },
  "block": { run: block, task: "here", options: "question!", summary: "ask, and wait for an answer" },
  "resume": {
    ...{ run: resume, task: "here", options: "answer" },
    summary: "continue a task",
    help: `Continues a task that asked or failed, whose reviewer requested changes, or
whose agent is gone. The agent is started again.`,
  },
  "fail": { run: fail, task: "named", options: "reason!", summary: "give up a task" },
  "review start": { run: review, task: "named", options: "head! actor! take", summary: "begin a review" },
  "review approve": {
    ...{ run: review, task: "named", options: "head! actor! findings" },
    summary: "approve a task",
  },
  "review request-changes": {
    ...{ run: review, task: "named", options: "head! actor! findings!" },
    summary: "request changes",
  },
  "review diff": {
    ...{ run: reviewDiff, task: "named", options: "whole", isLook: true },
    summary: "print the change to review",
    help: "Prints exactly what was submitted, and from the second round on the fix alone.",
  },
  "human approve": {
    ...{ run: human, task: "named", options: "head! accept" },
    summary: "a person approves a task",
    help: `Approves a task that waits for a person. It needs a terminal. A program of the
same user can have one, too, so it proves no person.`,
  },
  "human reject": {
    ...{ run: human, task: "named", options: "head! reason" },
    summary: "a person rejects a task",
    help: "Sends a task back to its worker, or ends it after too many rounds.",
  },
  "overlaps": {
    ...{ run: overlaps, task: "any", options: "", isLook: true },
    summary: "show which tasks change the same files",
    help: `Shows which files several live tasks change (committed, staged, unstaged or
untracked), and which pairs of tasks would conflict.`,
  },
  "merge": {
    ...{ run: merge, task: "named", options: "check dry-run timeout" },
    summary: "merge an approved task into its base",
  },
  "cancel": {
    ...{ run: cancel, task: "named", options: "reason cleanup discard timeout" },
    summary: "stop a task; --cleanup removes it",
    help: "Stops a task and its agent. One that is over needs no --reason to be cleaned up.",
  },
  "doctor": {
    ...{ run: doctor, task: "none", options: "fix" },
    summary: "find and repair what killed commands left",
    help: `Finds what killed commands left. Notes are for a person. The exit status is 0
whatever is found: the last line counts it, and --json lists it.`,
  },
};

/** How the task is written in the usage. */
const TASK_WORDS = { named: " ID", here: " [ID]", any: " [ID]", many: " [ID...]", none: "" };

/** The help for all commands, or for those that begin with `group`, such as `review`. */
function helpForAll(group = ""): string {
  const rows = Object.entries(COMMANDS).filter(([name]) => name.startsWith(group))
    .map(([name, { task, summary }]) => [`  ${name}${TASK_WORDS[task]}`, summary]);
  return `worker ${VERSION}: tasks for agents, each in a git worktree of its own
Usage: worker COMMAND [OPTION...]; worker COMMAND --help tells more
${table(rows)}
All commands take --json, --actor NAME (who does it) and --op-id ID (given once
more, the answer is the same, and nothing is done).
Exit status: 0 done or nothing to do, 1 internal, 2 usage, 3 no such task, 4 not
in this state, 5 lost a race or stale head, 6 limit, 7 overlap, conflict or
failed check, 8 needs a human, 9 would lose work, 10 git`;
}

/** The names of a command's options, and of the required ones. */
function optionsOf({ task, options }: Command): { takes: string[]; needs: string[] } {
  const own = options.split(" ").filter(Boolean);
  const needs = own.filter((name) => name.endsWith("!")).map((name) => name.slice(0, -1));
  const takes = [...task === "none" ? [] : ["taskId"], ...own.map((name) => name.replace("!", ""))];
  return { takes: [...new Set([...takes, "actor", "op-id", "json", "help"])], needs };
}

/** The help for one command, or for all. */
function helpFor(command: string): string {
  const known = COMMANDS[command];
  if (known === undefined) return helpForAll(/^(review|human)$/.test(command) ? `${command} ` : "");
  const { takes, needs } = optionsOf(known);
  const task = TASK_WORDS[known.task];
  const needed = needs.map((name) => ` --${name} ${OPTIONS[name]?.[0]}`).join("");
  const rows = takes.flatMap((name) => OPTIONS[name] ? [[`  --${name} ${OPTIONS[name][0]}`, OPTIONS[name][1]]] : []);
  const words = takes.includes("--") ? " [-- COMMAND...]" : "";
  const usage = `Usage: worker ${command}${task}${needed}`;
  const gap = usage.length > 60 ? "\n  " : " ";
  return `${usage}${gap}[OPTION...]${words}\n\n${known.help ?? known.summary}\n\n${table(rows)}`;
}

/** Parses a command line, which {@linkcode checkArguments} checks. */
function readArguments(args: readonly string[]) {
  const switches = Object.keys(SWITCHES).map((name) => [name, false]);
  const options = { ...Object.fromEntries(switches), "paths": [], "depends-on": [], rest: [] } as Options;
  const [words, given]: [string[], Set<string>] = [[], new Set()];
  const is = <T extends object>(table: T, name: PropertyKey): name is keyof T => Object.hasOwn(table, name);
  for (let index = 0; index < args.length; index++) {
    const argument = args[index] ?? "";
    if (!argument.startsWith("-") || argument === "-") {
      words.push(argument);
      continue;
    }
    const long = { "-h": "--help", "-f": "--follow" }[argument] ?? argument;
    const [, name = "", value] = /^--([^=]+)(?:=([^]*))?$/.exec(long) ?? [];
    given.add(name || argument);
    if (argument === "--") {
      options.rest = args.slice(index + 1);
      break;
    } else if (is(SWITCHES, name) && value === undefined) options[name] = true;
    else if (is(TEXTS, name)) options[name] = value ?? args[++index] ?? "";
    else if (is(LISTS, name) && value !== undefined) options[name].push(value);
    else if (is(LISTS, name)) {
      while (args[index + 1]?.startsWith("--") === false) options[name].push(args[++index] ?? "");
    } else throw new Failure("usage", `Unknown option ${quote(argument)}`, "worker --help");
    if (!is(SWITCHES, name) && !options[name]?.length) throw new Failure("usage", `--${name} needs a value`);
  }
  if (words[0] === "help") options.help = words.shift() !== undefined;
  const command = words.splice(0, words[0] === "review" || words[0] === "human" ? 2 : 1).join(" ");
  return { command, words, options, given };
}

/** Returns a command, after a check that options and words fit it. The first word can be the task. */
function checkArguments({ command, words, options, given }: ReturnType<typeof readArguments>): Command {
  if (command === "") throw new Failure("usage", "Which command?", "worker --help");
  const known = Object.hasOwn(COMMANDS, command) ? COMMANDS[command] : undefined;
  if (known === undefined) throw new Failure("usage", `Unknown command ${quote(command)}`, "worker --help");
  const misuse = (what: string) => new Failure("usage", what, `worker ${command} --help`);
  const { takes, needs } = optionsOf(known);
  const stray = [...given].find((name) => !takes.includes(name));
  if (stray !== undefined) throw misuse(`${stray === "--" ? stray : `--${stray}`} does not go with ${command}`);
  const missing = needs.find((name) => !given.has(name));
  if (missing !== undefined) throw misuse(`${command} needs --${missing}`);
  if (known.task !== "none" && words.length > 0) options.taskId ??= words.shift();
  if (known.task === "many") options.rest.push(...words.splice(0));
  if (words.length > 0) throw misuse(`Unexpected ${quote(words[0] ?? "")}`);
  if (known.task === "named" && options.taskId === undefined) throw misuse("Which task? Give its ID");
  return known;
}

/** The task of the current worktree. */
function taskHere({ head }: Repo): string {
  const id = head?.startsWith(BRANCHES) ? head.slice(BRANCHES.length) : Deno.env.get("WORKER_TASK");
  if (id) return id;
  throw new Failure("usage", "Which task? No branch worker/ID is checked out here: give --taskId ID");
}

/** The result of an earlier operation with the same id. One that was interrupted is repaired first, as by doctor. */
async function findOperation({ repo, id, operation: { id: opId, command } }: Call): Promise<Answer | undefined> {
  const find = async () => {
    const events = await readEvents(repo, undefined, "--fixed-strings", `--grep=Op-Id: ${opId}`);
    const last = events.findLast((event) => event.opId === opId);
    if (last === undefined) return undefined;
    const [text = "{}"] = await readObjects(repo, [`${last.commit}:answer.json`]);
    const { command: before, ...answer } = JSON.parse(text) as Answer & { command: string };
    if (before === command && last.taskId === id) return answer;
    throw new Failure("usage", `--op-id ${quote(opId)} was given to ${before} of task ${quote(last.taskId)} before`);
  };
  const answer = await find();
  if (answer === undefined || answer.taskId !== undefined && !isPending(repo, id)) return answer;
  using _lock = await lock(repo, `task-${id}`);
  for (const { repair } of await examine(repo, await readTask(repo, id))) await repair?.();
  const repaired = await find();
  return repaired?.taskId === undefined || repaired.error ? undefined : repaired; // A merge is done again.
}

/** Carries out a command, or returns its earlier result. */
async function perform(known: Command, command: string, options: Options): Promise<Answer> {
  const repo = await openRepo();
  if (known.task === "here") options.taskId ??= taskHere(repo);
  const id = options.taskId ?? "";
  if (id !== "" && !/^[\w.-]{1,100}$/.test(id)) throw new Failure("usage", `${quote(id)} cannot be the id of a task`);
  const worker = Deno.env.get("WORKER_TASK");
  const isWorker = command === "submit" || command === "block";
  if (worker && !(isWorker && id === worker) && !known.isLook && !(command === "doctor" && !options.fix)) {
    const message = `The worker of task ${quote(worker)} may only submit, ask and read: not ${command} ${id}`.trimEnd();
    throw new Failure("state", message, "Write anything else into the report or a question");
  }
  const timeout = Number(options.timeout ?? Infinity);
  if (!(timeout >= 0)) {
    throw new Failure("usage", `--timeout must be a number of seconds, not ${quote(`${options.timeout}`)}`);
  }
  repo.caller = { text: `${command} ${id}`.trim(), timeout };
  const actor = (options.actor ?? (isWorker ? `worker/${id}` : worker ? `worker/${worker}` : "hq")).trim();
  const opId = options["op-id"] ?? crypto.randomUUID();
  for (const [name, value] of [["actor", actor], ["op-id", opId]] as const) {
    const isValid = /^[^\n\t<>]{1,100}$/.test(value) && escapeControls(value) === value;
    if (!isValid) throw new Failure("usage", `--${name} cannot be ${quote(value)}`);
  }
  const call: Call = { repo, options, id, operation: { id: opId, command, actor } };
  const before = options["op-id"] === undefined ? undefined : await findOperation(call);
  return before ?? await known.run(call);
}

/** Prints a result; returns the exit status. */
function answerWith(command: string, isJson: boolean, answer: Answer): number {
  const { changed, taskId, state, head, data, text, error } = answer;
  if (isJson) {
    const ok = error === undefined;
    console.log(JSON.stringify({ version: 1, ok, command, taskId, changed, state, head, data, error }, undefined, 2));
  } else if (error === undefined && text !== undefined) {
    if (COMMANDS[command]?.isLook) console.log(text);
    else printError(text);
  }
  if (error !== undefined) printError(`worker: ${error.message}${error.hint ? `\n${error.hint}` : ""}`);
  return error === undefined ? 0 : EXIT[error.code];
}

/**
 * The program.
 *
 * @param args The command line's words.
 * @returns The exit status; see {@linkcode EXIT}.
 */
export async function main(args: readonly string[]): Promise<number> {
  const isJson = args.slice(0, args.includes("--") ? args.indexOf("--") : args.length).includes("--json");
  let read: ReturnType<typeof readArguments> | undefined;
  try {
    if (Deno.build.os === "windows") throw new Error("Native Windows is not supported: use WSL");
    if (args.join() === "--version") return console.log(`worker ${VERSION}`), 0;
    read = readArguments(args);
    if (read.options.help) return console.log(helpFor(read.command)), 0;
    const { command, options } = read;
    const known = checkArguments(read);
    // `list` is called often, and needs no settings, so it starts no process for them.
    const answer = known.run === list
      ? await list({ repo: await openClone(), options })
      : await perform(known, command, options);
    return answerWith(command, isJson, answer);
  } catch (error) {
    if (error instanceof Deno.errors.BrokenPipe) return 0; // who reads has seen enough
    const failure = error instanceof Failure ? error : new Failure("internal", explain(error));
    const words = args.filter((word) => !word.startsWith("-")).join(" ");
    const known = Object.keys(COMMANDS).find((name) => words.startsWith(name));
    const taskId = read?.options.taskId;
    const find = async (id: string) => (await readTask(await openRepo(), id)).task;
    const task = isJson && taskId !== undefined ? await find(taskId).catch(() => undefined) : undefined;
    const answer = { changed: false, taskId, state: task?.state, head: task?.head, error: errorOf(failure) };
    return answerWith(read?.command ?? known ?? "", isJson, answer);
  }
}

if (import.meta.main) Deno.exit(await main(Deno.args));
