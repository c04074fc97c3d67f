/**
 * Measures the programs against their goals and prints a Markdown table:
 * `deno task bench [--runs N] [--in DIR] [--only TEXT]`.
 *
 * direnv waits for a whole process on every `cd`, so whole processes are measured. The machine has other things to do,
 * so the two programs of a row run in turn, and medians count.
 *
 * Everything happens in one temporary directory, which is removed at the end, also after Ctrl-C.
 */
import { parseArgs } from "jsr:@std/cli@^1/parse-args";
import { Forge } from "./forge.ts";

// ── Programs ────────────────────────────────────────────────────────────────────────────────────────────────────

/** A program to run in its own repo. */
interface Program {
  name: string;
  words: [command: string, ...args: string[]];
  repo: string;
  home: string;
  env: Record<string, string>;
  kind: "first deployment" | "nothing to do" | "fetch" | "release" | "worker";
  /** How many skills each of these folders of the repo holds afterwards. */
  count: number;
  folders: string[];
  /** Brings the repo into the state that a run starts from. */
  reset?: () => void;
  /** The exit status, if not 0. */
  status?: number;
}

const FOLDERS = [".claude/skills", ".opencode/skills", ".agents/skills"];
/** Everything that the programs create in a repo. */
const MADE = [".agents", ".claude", ".codex", ".opencode", "skills-lock.json", "releases", "program.tar.gz"];

const [script, releaser, worker] = ["use-skills.ts", "release.ts", "skills/hq/scripts/worker.ts"].map((name) =>
  new URL(`../${name}`, import.meta.url).pathname
);
const options = parseArgs(Deno.args, { string: ["runs", "in", "only"] });
const temporary = Deno.realPathSync(Deno.makeTempDirSync({ dir: options.in ?? memory(), prefix: "use-skills-bench-" }));
const interruption = new AbortController();
const { signal } = interruption;
let repos = 0;

/**
 * The file system in memory, if there is one. On an ext4 disk, creating the same 3,000 links took 30 ms or 900 ms in the
 * kernel, and changed between the two within a row: a ratio of such times says nothing about the programs.
 */
function memory(): string | undefined {
  return read("/proc/mounts", /^tmpfs (\/dev\/shm) tmpfs rw/m);
}

/** A new repo with `count` skills, and an environment with its own home. */
function setUp(count: number, kind: Program["kind"]) {
  const place = `${temporary}/${++repos}`;
  const [repo, home] = [`${place}/repo`, `${place}/home`];
  const names = Array.from({ length: count }, (_, index) => `skill-${index + 1}`);
  for (const directory of [home, `${repo}/.git`]) Deno.mkdirSync(directory, { recursive: true });
  for (const name of names) {
    Deno.mkdirSync(`${repo}/skills/${name}`, { recursive: true });
    Deno.writeTextFileSync(`${repo}/skills/${name}/SKILL.md`, skillText(name));
  }
  Deno.writeTextFileSync(`${repo}/.skills`, names.map((name) => `${name}\n`).join(""));
  const env = {
    PATH: Deno.env.get("PATH") ?? "",
    HOME: home, // The XDG folders are in it, since no variable says otherwise.
    TMPDIR: temporary,
    DENO_DIR: `${temporary}/deno`,
    DENO_NO_UPDATE_CHECK: "1",
    JSR_URL: Deno.env.get("JSR_URL") ?? "", // A folder in vendor/ is named by it.
    DISABLE_TELEMETRY: "1", // Of npm's `skills`.
  };
  return { repo, home, env, kind, count, folders: FOLDERS };
}

/** A `SKILL.md` of the usual size. */
function skillText(name: string): string {
  const fields = `name: ${name}\ndescription: "Does what ${name} is for. Use when a person asks: do it, step by step."`;
  const body = "Read the files first. Change one thing at a time, and run the tests after each.\n".repeat(25);
  return `---\n${fields}\nlicense: MIT\n---\n\n# ${name}\n\n${body}`;
}

type Make = (count: number, kind: Program["kind"]) => Program;

function deno(...args: string[]): Program["words"] {
  return [Deno.execPath(), "run", "-A", "--no-lock", ...args];
}

const useSkills: Make = (count, kind) => ({ name: "use-skills", words: deno(script ?? ""), ...setUp(count, kind) });

/** Skills that are already fetched and locked, from a repo on the same disk. */
async function lockedSkills(count: number): Promise<Program> {
  const program = useSkills(count, "nothing to do");
  const { repo, home, env } = program;
  const git = async (...args: string[]) => {
    const identity = ["-c", "user.name=A", "-c", "user.email=a@example.org"];
    const { success } = await new Deno.Command("git", { args: [...identity, ...args], cwd: `${home}/origin`, env })
      .output();
    if (!success) throw new Error(`git ${args[0]} fails`);
  };
  Deno.mkdirSync(`${home}/origin`);
  Deno.renameSync(`${repo}/skills`, `${home}/origin/skills`);
  await git("init", "--quiet");
  await git("add", ".");
  await git("commit", "--quiet", "--message=skills");
  const names = [...Deno.readDirSync(`${home}/origin/skills`)].map(({ name }) => name);
  const lines = names.map((name) => `file://${home}/origin//skills/${name}\n`);
  Deno.writeTextFileSync(`${repo}/.skills`, lines.join(""));
  return { ...program, name: "use-skills, from git" };
}

/** A server with this many skills in one repo, all locked, and none on this machine before each run. */
async function fetchLocked(count: number): Promise<Program> {
  const forge = await Forge.start({ tls: false });
  signal.addEventListener("abort", () => forge[Symbol.asyncDispose]());
  const program = useSkills(count, "fetch");
  const { repo, home } = program;
  const names = Array.from({ length: count }, (_, index) => `skill-${index + 1}`);
  const files = Object.fromEntries(names.map((name) => [`skills/${name}/SKILL.md`, skillText(name)]));
  await forge.commit("team/skills", files);
  remove(`${repo}/skills`);
  Deno.writeTextFileSync(`${home}/.gitconfig`, forge.config("https://git.example.org/"));
  const lines = names.map((name) => `https://git.example.org/team/skills//skills/${name}\n`);
  Deno.writeTextFileSync(`${repo}/.skills`, lines.join(""));
  const reset = () => {
    for (const name of MADE) remove(`${repo}/${name}`);
    for (const name of [".local", ".cache"]) remove(`${home}/${name}`);
  };
  return { ...program, name: "use-skills, from git", reset };
}

/** A hostile repo: a few small trees, each of which contains the one before many times. */
function fetchNestedTrees(): Program {
  const program = useSkills(0, "fetch");
  const { repo, home } = program;
  const origin = { ...program, repo: `${home}/origin` };
  Deno.mkdirSync(origin.repo);
  succeed(origin, ["git", "init", "--quiet", "--bare"]);
  const blob = succeed(origin, ["git", "hash-object", "-w", "--stdin"], skillText("bomb")).trim();
  let tree = succeed(origin, ["git", "mktree"], `100644 blob ${blob}\tSKILL.md\n`).trim();
  for (let level = 0; level < 4; level++) {
    const inner = Array.from({ length: 800 }, (_, index) => `040000 tree ${tree}\t${`${index}`.padStart(4, "0")}\n`);
    tree = succeed(origin, ["git", "mktree"], `${inner.join("")}100644 blob ${blob}\tSKILL.md\n`).trim();
  }
  const identity = ["-c", "user.name=A", "-c", "user.email=a@example.org"];
  const commit = succeed(origin, ["git", ...identity, "commit-tree", tree, "-m", "bomb"]).trim();
  succeed(origin, ["git", "update-ref", "refs/heads/main", commit]);
  Deno.writeTextFileSync(`${repo}/.skills`, `file://${origin.repo}#main as bomb\n`);
  const reset = () => [".local", ".cache"].forEach((name) => remove(`${home}/${name}`));
  return { ...program, name: "use-skills, from git", reset, status: 1, folders: [] };
}

/** A lower bound for every Deno program. */
function emptyFile(): Program {
  Deno.writeTextFileSync(`${temporary}/empty.ts`, "");
  return { name: "Deno, empty file", words: deno(`${temporary}/empty.ts`), ...setUp(0, "nothing to do"), folders: [] };
}

/** A lower bound for a deployment by Deno. */
const denoLoop: Make = (count, kind) => {
  const text = `
    const names = Array.from(Deno.readDirSync("skills"), ({ name }) => name);
    for (const folder of ${JSON.stringify(FOLDERS)}) {
      Deno.mkdirSync(folder, { recursive: true });
      for (const name of names) Deno.symlinkSync("../../skills/" + name, folder + "/" + name);
    }`;
  Deno.writeTextFileSync(`${temporary}/loop.ts`, text);
  return { name: "Deno loop of `symlinkSync`", words: deno(`${temporary}/loop.ts`), ...setUp(count, kind) };
};

/** The script that people write themselves. */
const shellLoop: Make = (count, kind) => {
  const text = `
    for folder in ${FOLDERS.join(" ")}; do
      mkdir -p "$folder"
      for skill in skills/*; do ln -sfn "../../$skill" "$folder/\${skill#skills/}"; done
    done`;
  return { name: "shell loop of `ln -sfn`", words: ["bash", "-e", "-c", text], ...setUp(count, kind) };
};

/** The `skills` package from npm, run by Node, because npx would add its own time; `undefined` without npm. */
async function installNpmSkills(): Promise<Make | undefined> {
  const prefix = `${temporary}/npm`;
  // By itself, npm keeps trying for minutes where nobody answers.
  const patience = ["--fetch-retries=0", "--fetch-timeout=20000"];
  const quiet = ["--loglevel=error", "--no-audit", "--no-fund", "--ignore-scripts"];
  // It needs a newer Node than many have, which npm has, too.
  const machine = `${Deno.build.os}-${Deno.build.arch === "x86_64" ? "x64" : "arm64"}`;
  const node = `node-${machine}@22`;
  const args = [
    "install",
    "--prefix",
    prefix,
    "--cache",
    `${prefix}/cache`,
    ...patience,
    ...quiet,
    "skills@1.7.4",
    node,
  ];
  try {
    // The environment is the person's here: it may tell npm of a mirror.
    const { success, stderr } = await new Deno.Command("npm", { args, cwd: temporary, stdin: "null", signal }).output();
    if (!success) throw new Error(new TextDecoder().decode(stderr));
    const home = `${prefix}/node_modules/skills`;
    const { version, bin } = JSON.parse(Deno.readTextFileSync(`${home}/package.json`));
    const command = ["add", "./skills", "--yes", "--agent", "claude-code", "opencode", "codex"];
    return (count, kind) => ({
      name: `npm's \`skills\` ${version}, by node`,
      words: [`${prefix}/node_modules/node-${machine}/bin/node`, `${home}/${bin.skills}`, ...command],
      ...setUp(count, kind),
      folders: [".claude/skills", ".agents/skills"], // OpenCode and Codex share the second.
    });
  } catch (error) {
    signal.throwIfAborted();
    console.error(`Cannot install npm's skills package: ${error instanceof Error ? error.message : error}`);
  }
}

/** As large as a program that contains its runtime, and incompressible. */
const LARGE = 90 * 2 ** 20;

/** A repo with a program of {@linkcode LARGE} bytes, which git ignores. */
async function setUpRelease(): Promise<Omit<Program, "name" | "words">> {
  const place = setUp(0, "release");
  const noise = new Uint8Array(LARGE);
  for (let at = 0; at < LARGE; at += 65536) crypto.getRandomValues(noise.subarray(at, at + 65536));
  noise.fill(0, 0, 64);
  noise.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
  noise.set([2, 0, 62], 16); // a program, as an ELF file for amd64
  remove(`${place.repo}/.git`);
  Deno.writeFileSync(`${place.repo}/program`, noise);
  const git = async (...args: string[]) => {
    const { success } = await new Deno.Command("git", { args, cwd: place.repo, env: place.env, signal }).output();
    if (!success) throw new Error(`git ${args[0]} fails`);
  };
  await git("init", "--quiet", "--initial-branch=main");
  await git("remote", "add", "origin", "https://git.example.org/team/program.git");
  Deno.writeTextFileSync(`${place.repo}/.git/info/exclude`, "*\n!/releases/*\n!/releases/\n");
  return { ...place, folders: [] };
}

async function releaseLarge(): Promise<Program> {
  const args = ["program", "--version", "1.0.0", "--no-run"];
  return { name: "release", words: deno(releaser ?? "", ...args), ...await setUpRelease() };
}

async function tarLarge(): Promise<Program> {
  return { name: "`tar -czf`", words: ["tar", "-czf", "program.tar.gz", "program"], ...await setUpRelease() };
}

type Place = Omit<Program, "name" | "words">;

/** Runs a program, which must succeed; returns its output. */
function succeed({ repo, env }: Pick<Place, "repo" | "env">, words: string[], input = ""): string {
  Deno.writeTextFileSync(`${temporary}/input`, input);
  const args = ["-c", `"$@" <${temporary}/input`, "sh", ...words];
  const { success, stdout, stderr } = new Deno.Command("sh", { args, cwd: repo, env }).outputSync();
  const [out = "", error] = [stdout, stderr].map((each) => new TextDecoder().decode(each));
  if (!success) throw new Error(`${words.join(" ")} fails: ${error}`);
  return out;
}

/** A repo with a commit of this many files, in which tasks can be created. */
function setUpTasks(files: number): Place {
  const place = setUp(files, "worker");
  remove(`${place.repo}/.git`);
  Deno.writeTextFileSync(`${place.home}/.gitconfig`, "[user]\n\tname = A\n\temail = a@example.org\n");
  Deno.writeTextFileSync(`${place.repo}/brief.md`, "What is to be done\n");
  for (const words of ["init --quiet --initial-branch=main", "add .", "commit --quiet --message=first"]) {
    succeed(place, ["git", ...words.split(" ")]);
  }
  return { ...place, folders: [] };
}

/** 200 tasks of ten events or more each: five of them live, the others merged. */
function setUpManyTasks(): Place {
  const place = setUpTasks(10);
  const work = (id: string) => {
    const call = (...args: string[]) => succeed(place, deno(worker ?? "", ...args, "--taskId", id), "Words\n");
    const submit = () => {
      const worktree = { ...place, repo: `${place.repo}.worktrees/${id}` };
      Deno.writeTextFileSync(`${worktree.repo}/${id}.txt`, `${performance.now()}\n`);
      succeed(worktree, ["git", "add", "."]);
      succeed(worktree, ["git", "commit", "--quiet", "--message=work"]);
      call("submit");
      return succeed(worktree, ["git", "rev-parse", "HEAD"]).trim();
    };
    call("spawn", "--brief", "brief.md", "--agent", "none");
    for (const verdict of ["request-changes", "request-changes", "approve"]) {
      const about = ["--head", submit(), "--actor", "reviewer"];
      call("review", "start", ...about);
      call("review", verdict, ...about, "--findings", "-");
      if (verdict === "request-changes") call("resume");
    }
  };
  work("task-001");
  succeed(place, deno(worker ?? "", "merge", "task-001"));
  const stream = succeed(place, ["git", "fast-export", "refs/worker/tasks/task-001"]);
  for (let task = 2; task <= 195; task++) {
    succeed(
      place,
      ["git", "fast-import", "--quiet"],
      stream.replaceAll("task-001", `task-${`${task}`.padStart(3, "0")}`),
    );
  }
  for (const id of ["live-1", "live-2", "live-3", "live-4", "live-5"]) work(id);
  const count = succeed(place, ["git", "for-each-ref", "refs/worker/tasks/"]).trim().split("\n").length;
  for (const task of ["task-195", "live-5"]) {
    const events = Number(
      succeed(place, ["git", "rev-list", "--first-parent", "--count", `refs/worker/tasks/${task}`]),
    );
    if (count !== 200 || events < 10) throw new Error(`There are ${count} tasks, ${task} of ${events} events`);
  }
  return place;
}

function listTasks(place: Place): Program {
  return { name: "`worker list`", words: deno(worker ?? "", "list"), ...place };
}

function listRefs(place: Place): Program {
  return { name: "`git for-each-ref`", words: ["git", "for-each-ref", "refs/worker/tasks/"], ...place };
}

/** Creates a worktree with its branch: alone, or as a whole task. */
function makeWorktree(name: string, wordsFor: (path: string) => Program["words"]): Program {
  const place = setUpTasks(1000);
  const path = `${place.repo}.worktrees/one`;
  const reset = () => {
    remove(path);
    succeed(place, ["git", "worktree", "prune"]);
    for (const ref of ["refs/heads/worker/one", "refs/worker/tasks/one"]) {
      succeed(place, ["git", "update-ref", "-d", ref]);
    }
  };
  return { name, words: wordsFor(path), ...place, reset };
}

function spawnTask(): Program {
  const args = ["spawn", "--taskId", "one", "--brief", "brief.md", "--agent", "none"];
  return makeWorktree("`worker spawn`", () => deno(worker ?? "", ...args));
}

function addWorktree(): Program {
  return makeWorktree("`git worktree add`", (path) => ["git", "worktree", "add", "-b", "worker/one", path]);
}

// ── Measuring ───────────────────────────────────────────────────────────────────────────────────────────────────

/** Restores the state before a run; returns the function that starts it. */
function ready(program: Program, output: "null" | "piped"): Deno.Command {
  const { words: [path, ...args], repo, home, env, kind, reset } = program;
  signal.throwIfAborted();
  reset?.();
  if (kind === "first deployment" || kind === "release") {
    for (const name of MADE) remove(`${repo}/${name}`);
    remove(home);
    Deno.mkdirSync(home);
  }
  const streams = { stdin: "null", stdout: output, stderr: output } as const;
  return new Deno.Command(path, { args, cwd: repo, env, clearEnv: true, ...streams, signal });
}

/** Fills the caches, and checks that the program does what will be measured. */
async function warmUp(program: Program): Promise<void> {
  const { name, repo, folders, count } = program;
  for (let run = 0; run < 3; run++) {
    const { code, stdout, stderr } = await ready(program, "piped").output();
    const text = [stdout, stderr].map((each) => new TextDecoder().decode(each)).join("");
    if (code !== (program.status ?? 0)) throw new Error(`${name} fails:\n${text}`);
  }
  for (const folder of folders) {
    const skills = Array.from(Deno.readDirSync(`${repo}/${folder}`)).filter((each) => each.name.startsWith("skill-"));
    for (const skill of skills) Deno.statSync(`${repo}/${folder}/${skill.name}/SKILL.md`);
    if (skills.length !== count) throw new Error(`${name} left ${skills.length} skills in ${folder}, not ${count}`);
  }
}

/** Milliseconds from start to exit. */
async function duration(program: Program): Promise<number> {
  const command = ready(program, "null");
  const start = performance.now();
  const { code } = await command.spawn().status;
  const end = performance.now();
  if (code !== (program.status ?? 0)) throw new Error(`${program.name} failed while it was timed`);
  return end - start;
}

/**
 * Peak of the resident memory in megabytes, on Linux.
 *
 * The kernel removes this value when the process ends. So it is read continuously, and the last value counts. `wait4`
 * would return it in one call, but never less than the memory of the process that starts the program, which is this one.
 */
async function peakMemory(program: Program): Promise<number> {
  const child = ready(program, "null").spawn();
  let peak = 0;
  for (let mark; (mark = highWaterMark(child.pid)) !== undefined;) peak = mark;
  if ((await child.status).code !== (program.status ?? 0)) {
    throw new Error(`${program.name} failed while its memory was measured`);
  }
  return peak;
}

/** `undefined` for a process that has ended. */
function highWaterMark(pid: number): number | undefined {
  const kibibytes = read(`/proc/${pid}/status`, /^VmHWM:\s*(\d+) kB/m);
  return kibibytes === undefined ? undefined : Number(kibibytes) * 1024 / 1e6;
}

/** What the pattern's group matches in a file; `undefined` without a file or a match. */
function read(path: string, pattern: RegExp): string | undefined {
  try {
    return Deno.readTextFileSync(path).match(pattern)?.[1];
  } catch {
    return undefined;
  }
}

function remove(path: string): void {
  try {
    Deno.removeSync(path, { recursive: true });
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
}

// ── The table ───────────────────────────────────────────────────────────────────────────────────────────────────

interface Row {
  measure: string;
  /** Only the name if it can't be measured here. */
  of: () => Program | string | Promise<Program | string>;
  over: (() => Program | Promise<Program>) | Limit;
  goal?: number;
  /** {@linkcode duration} by default. */
  gauge?: typeof duration;
  /** The most runs that it is worth. */
  most?: number;
}

/** A fixed number instead of a second program. */
interface Limit {
  name: string;
  value: number;
}

function rows(): Row[] {
  const [idle, first] = ["nothing to do", "first deployment"] as const;
  const onLinux = (make: () => Program | Promise<Program>, name: string) => () =>
    Deno.build.os === "linux" ? make() : name;
  const npmSkills = once(installNpmSkills);
  const large = once(releaseLarge);
  const tasks = once(() => Promise.resolve(setUpManyTasks()));
  const npm = (kind: Program["kind"]) => async () => (await npmSkills())?.(10, kind) ?? "npm's `skills`";
  const file = { name: "the file", value: LARGE / 1e6 };
  return [
    { measure: `${idle}, 10 x 3`, of: () => useSkills(10, idle), over: emptyFile, goal: 1.35 },
    { measure: `${idle}, 1,000 x 3`, of: () => useSkills(1000, idle), over: emptyFile, goal: 2.6 },
    { measure: `${idle}, 10 locked x 3`, of: () => lockedSkills(10), over: emptyFile, goal: 1.4 },
    { measure: `${first}, 10 x 3`, of: () => useSkills(10, first), over: emptyFile, goal: 2 },
    { measure: `${first}, 1,000 x 3`, of: () => useSkills(1000, first), over: () => denoLoop(1000, first), goal: 4 },
    {
      measure: `peak memory, ${idle}, 1,000 x 3`,
      of: onLinux(() => useSkills(1000, idle), "use-skills"),
      over: emptyFile,
      goal: 1.6,
      gauge: peakMemory,
    },
    {
      measure: "200 locked entries of one repo, empty store",
      of: () => fetchLocked(200),
      over: { name: "5 s", value: 5000 },
      goal: 1,
      most: 5,
    },
    {
      measure: "peak memory, 4 levels of 800 nested trees",
      of: onLinux(fetchNestedTrees, "use-skills"),
      over: { name: "150 MB", value: 150 },
      goal: 1,
      gauge: peakMemory,
      most: 5,
    },
    { measure: "release of 90 MiB", of: large, over: tarLarge, goal: 1.5, most: 5 },
    {
      measure: "peak memory, release of 90 MiB",
      of: onLinux(large, "release"),
      over: file,
      goal: 4,
      gauge: peakMemory,
      most: 5,
    },
    {
      measure: "200 tasks of 10 events",
      of: async () => listTasks(await tasks()),
      over: async () => listRefs(await tasks()),
      goal: 15,
    },
    { measure: "a task in a repo of 1,000 files", of: spawnTask, over: addWorktree, goal: 3 },
    ...[first, idle].flatMap((kind) => [
      { measure: `${kind}, 10 x 3`, of: () => shellLoop(10, kind), over: () => useSkills(10, kind) },
      { measure: `${kind}, 10 x 3`, of: npm(kind), over: () => useSkills(10, kind) },
    ]),
  ];
}

/** `make`, called once. */
function once<T>(make: () => Promise<T>): () => Promise<T> {
  let made: Promise<T> | undefined;
  return () => made ??= make();
}

/** Measures the two programs of a row in turn; returns the cells of its line. */
async function measureRow(
  { measure, goal, gauge = duration, most = Infinity, ...row }: Row,
  runs: number,
): Promise<string[]> {
  const aim = goal === undefined ? "none" : `<= ${goal}`;
  const [of, over] = [await row.of(), "value" in row.over ? row.over : await row.over()];
  if (typeof of === "string") return [measure, of, "not measured", over.name, "", "", aim];
  console.error(`${measure}: ${of.name} over ${over.name}`);
  await warmUp(of);
  if ("words" in over) await warmUp(over);
  const [ours, theirs]: [number[], number[]] = [[], []];
  for (let run = 0; run < Math.min(runs, most); run++) {
    ours.push(await gauge(of));
    theirs.push("words" in over ? await gauge(over) : over.value);
  }
  const ratio = median(ours) / median(theirs);
  const verdict = goal === undefined ? "" : ratio <= goal ? ", met" : ", missed";
  const show = (value: number) => `${value.toFixed(value < 100 ? 1 : 0)} ${gauge === duration ? "ms" : "MB"}`;
  return [measure, of.name, show(median(ours)), over.name, show(median(theirs)), ratio.toFixed(2), aim + verdict];
}

function median(values: number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const at = (index: number) => sorted[Math.floor(index)] ?? NaN;
  return (at((sorted.length - 1) / 2) + at(sorted.length / 2)) / 2;
}

/** A Markdown table with aligned columns. */
function table(lines: string[][]): string {
  const head = ["measure, skills x agents", "program", "median", "over", "median", "ratio", "goal"];
  const widths = head.map((_, column) => Math.max(...[head, ...lines].map((line) => line[column]?.length ?? 0)));
  const row = (cells: string[]) => `| ${cells.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join(" | ")} |`;
  return [head, widths.map((width) => "-".repeat(width)), ...lines].map(row).join("\n");
}

/** What a reader of the table needs to know about the machine. */
function machine(): string {
  const model = read("/proc/cpuinfo", /^model name\s*: (.+)$/m) ?? Deno.build.arch;
  const system = read("/etc/os-release", /^PRETTY_NAME="?([^"\n]+)/m) ?? Deno.build.os;
  const load = Deno.loadavg().map((each) => each.toFixed(1)).join(", ");
  return `${navigator.hardwareConcurrency} cores, ${model}; ${system}, kernel ${Deno.osRelease()}; ` +
    `Deno ${Deno.version.deno}; load averages at the end ${load}`;
}

async function main(): Promise<void> {
  const runs = Number(options.runs ?? 20);
  if (!Number.isInteger(runs) || runs < 1) throw new RangeError("--runs needs a whole number from 1 up");
  const place = temporary.replace(/\/[^/]*$/, "");
  const lines: string[][] = [];
  const chosen = rows().filter(({ measure }) => measure.includes(options.only ?? ""));
  for (const row of chosen) lines.push(await measureRow(row, runs));
  console.log(`${machine()}. Medians of ${runs} runs, or 5 for the releases, files in ${place}.\n\n${table(lines)}`);
}

// What is running is ended and waited for, so that it writes nothing more when the folder is removed.
for (const name of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
  Deno.addSignalListener(name, () => interruption.abort());
}
let status = 0;
try {
  await main();
} catch (error) {
  status = signal.aborted ? 130 : 1;
  if (!signal.aborted) console.error(error instanceof Error ? error.message : error);
} finally {
  remove(temporary);
}
Deno.exit(status);
