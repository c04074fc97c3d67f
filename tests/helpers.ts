/**
 * What the tests share: sandboxes in which the real scripts run, functions that inspect the disk, and tests that need
 * tools.
 *
 * Every sandbox has its own home, state and repo in one temporary directory, and its runs get no other environment. So
 * tests can run in any order and in parallel.
 */
import { assertEquals } from "jsr:@std/assert@^1/equals";
import { it } from "jsr:@std/testing@^1/bdd";

const checkout = new URL("..", import.meta.url);

// ── Scripts that run offline ────────────────────────────────────────────────────────────────────────────────────

/** A copy of a script, alone in a directory, and the environment in which it finds its imports without a network. */
export interface Installation {
  /** The copy's path. */
  script: string;
  environment: Record<string, string>;
}

const installations = new Map<string, Promise<Installation>>();

/**
 * Copies a script of this repo into a temporary directory, as users paste it, with a cache of its imports.
 *
 * A cache contains responses by the address of the registry. So the content of `vendor/` is served once, from an
 * address that need not answer later.
 *
 * @param name The script's path in this repo, as `use-skills.ts`.
 * @param skills Names of this repo's skills to copy next to it, into `skills/`. Without them, the copy is alone.
 * @returns The copy, which all tests of a file share and none may change.
 */
export function installed(name: string, ...skills: string[]): Promise<Installation> {
  const key = [name, ...skills].join(" ");
  const made = installations.get(key) ?? install(name, skills);
  installations.set(key, made);
  return made;
}

async function install(name: string, skills: string[]): Promise<Installation> {
  const directory = Deno.realPathSync(Deno.makeTempDirSync({ prefix: "installed-" }));
  globalThis.addEventListener("unload", () => Deno.removeSync(directory, { recursive: true }));
  Deno.chmodSync(directory, 0o755);
  const script = `${directory}/program/${name}`;
  Deno.mkdirSync(script.replace(/\/[^/]*$/, ""), { recursive: true });
  Deno.copyFileSync(new URL(name, checkout), script);
  const scripts = [script];
  for (const skill of skills) {
    const path = `${directory}/program/skills/${skill}`;
    Deno.mkdirSync(`${directory}/program/skills`, { recursive: true });
    await succeed(["cp", "-r", new URL(`skills/${skill}`, checkout).pathname, path]);
    for (const { name } of isThere(`${path}/scripts`) ? Deno.readDirSync(`${path}/scripts`) : []) {
      scripts.push(`${path}/scripts/${name}`);
    }
  }

  const vendor = new URL("vendor/", checkout);
  const [host] = [...Deno.readDirSync(vendor)].filter((entry) => entry.isDirectory && !entry.name.startsWith("node_"));
  const served = new URL(`${host?.name}/`, vendor);
  await using registry = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, async (request) => {
    const file = new URL(`.${new URL(request.url).pathname}`, served);
    // Without a type, as Deno then goes by the name's ending.
    return await Deno.readFile(file).then((bytes) => new Response(bytes), () => new Response(null, { status: 404 }));
  });
  const environment = {
    DENO_DIR: `${directory}/cache`,
    JSR_URL: `http://127.0.0.1:${registry.addr.port}/`,
    DENO_NO_UPDATE_CHECK: "1",
  };
  const result = await execute([Deno.execPath(), "cache", "--no-lock", ...scripts], { environment });
  if (result.status !== 0) throw new Error(`Cannot prepare ${name}: ${result.stderr}`);
  return { script, environment };
}

/** A row of skill-doctor's table of agents. */
export interface Reader {
  project: string;
  home: string;
  source: string;
}

/** The directories that agents read, as skill-doctor knows them. It refuses to load its libraries in a test's process. */
export async function readAgentTable(): Promise<Record<string, Reader>> {
  const { script, environment } = await installed("skills/skill-doctor/scripts/doctor.ts");
  const code = `import { AGENTS } from "file://${script}"; console.log(JSON.stringify(AGENTS));`;
  return JSON.parse(await succeed([Deno.execPath(), "eval", "--no-config", "--no-lock", code], { environment }));
}

// ── Processes ───────────────────────────────────────────────────────────────────────────────────────────────────

/** The result of a process. */
export interface Result {
  status: number;
  stdout: string;
  stderr: string;
}

/** How a process is started. */
export interface Start {
  cwd?: string;
  /** All of its environment but `PATH`. */
  environment?: Record<string, string>;
}

function command([program = "", ...args]: string[], { cwd, environment }: Start): Deno.Command {
  const env = { PATH: Deno.env.get("PATH") ?? "", ...environment };
  return new Deno.Command(program, { args, cwd, env, clearEnv: true, stdin: "null", stdout: "piped", stderr: "piped" });
}

/** Kills a process, unless it has just ended. */
export function kill(child: Deno.ChildProcess): void {
  try {
    child.kill("SIGKILL");
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
  }
}

/** Runs a program to its end. One that hangs is killed, by default after a minute. */
export async function execute(words: string[], start: Start = {}, seconds = 60): Promise<Result> {
  const child = command(words, start).spawn();
  const timer = setTimeout(() => kill(child), 1000 * seconds);
  const { code, stdout, stderr } = await child.output();
  clearTimeout(timer);
  const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
  return { status: code, stdout: text(stdout), stderr: text(stderr) };
}

/** Runs a program, which must succeed; returns its standard output. */
export async function succeed(words: string[], start: Start = {}): Promise<string> {
  const result = await execute(words, start);
  if (result.status !== 0) throw new Error(`${words.join(" ")} failed: ${result.stderr}${result.stdout}`);
  return result.stdout;
}

// ── Sandboxes ───────────────────────────────────────────────────────────────────────────────────────────────────

/** The text of a valid `SKILL.md`. */
export function skillText(name: string): string {
  return `---\nname: ${name}\ndescription: What ${name} is for\n---\n\nDo it.\n`;
}

/** A temporary directory with a home and a repo. Relative paths are below the repo. */
export class Sandbox implements Disposable {
  /** The real path of the whole, with `home` and `repo` in it. */
  readonly path: string = Deno.realPathSync(Deno.makeTempDirSync({ prefix: "sandbox-" }));
  readonly home: string = `${this.path}/home`;
  /** The repo that paths are taken from and that runs are started in. */
  repo: string = `${this.path}/repo`;
  /** What runs get as environment besides `HOME`, `PATH` and what finds the script's imports. */
  environment: Record<string, string> = {};

  /** What {@linkcode installed} copies next to the script. */
  readonly programSkills: string[];

  /**
   * @param program The script that {@linkcode run} and its like run.
   * @param programSkills The skills of this repo that are next to it.
   */
  constructor(readonly program = "use-skills.ts", ...programSkills: string[]) {
    this.programSkills = programSkills;
    Deno.mkdirSync(this.home);
    Deno.mkdirSync(this.repo);
  }

  [Symbol.dispose](): void {
    try {
      Deno.removeSync(this.path, { recursive: true });
    } catch {
      new Deno.Command("chmod", { args: ["-R", "u+rwX", this.path] }).outputSync(); // A test made a folder read-only.
      Deno.removeSync(this.path, { recursive: true });
    }
  }

  /** Goes over to another repo of the sandbox. */
  enter(name: string): void {
    this.repo = `${this.path}/${name}`;
    Deno.mkdirSync(this.repo, { recursive: true });
  }

  /** The absolute path of one in the repo. */
  at(path: string): string {
    return path.startsWith("/") ? path : path === "." ? this.repo : `${this.repo}/${path}`;
  }

  /** Makes a directory with those above it. */
  directory(path: string): void {
    Deno.mkdirSync(this.at(path), { recursive: true });
  }

  /** Writes a file, with the directories above it. */
  write(path: string, content: string | Uint8Array): void {
    this.directory(this.at(path).replace(/\/[^/]*$/, ""));
    if (typeof content === "string") Deno.writeTextFileSync(this.at(path), content);
    else Deno.writeFileSync(this.at(path), content);
  }

  /** Reads a file. */
  read(path: string): string {
    return Deno.readTextFileSync(this.at(path));
  }

  /** Makes a link with the given text. */
  link(path: string, text: string): void {
    this.directory(this.at(path).replace(/\/[^/]*$/, ""));
    Deno.symlinkSync(text, this.at(path));
  }

  /** Removes a path with all that is in it. */
  remove(path: string): void {
    Deno.removeSync(this.at(path), { recursive: true });
  }

  /** Writes skills that nothing is wrong with into the repo's `skills/`; one with a slash is a path of its own. */
  skills(...names: string[]): void {
    for (const name of names) {
      const path = name.includes("/") ? name : `skills/${name}`;
      this.write(`${path}/SKILL.md`, skillText(path.slice(path.lastIndexOf("/") + 1)));
    }
  }

  /** Writes the repo's manifest, with the current mode. */
  manifest(...lines: string[]): void {
    this.write(".skills", [...this.#modeLines, ...lines].map((line) => `${line}\n`).join(""));
  }

  /** Changes the mode of the repo's manifest, and of those that are written later; `undefined` for none. */
  mode(mode?: string): void {
    const lines = this.read(".skills").split("\n").slice(this.#modeLines.length, -1);
    this.#modeLines = mode === undefined ? [] : [`mode ${mode}`];
    this.manifest(...lines);
  }
  #modeLines: string[] = [];

  /** What a run of an installed script gets. */
  async start(start: Start = {}): Promise<Start & { environment: Record<string, string>; cwd: string }> {
    const { environment } = await installed(this.program, ...this.programSkills);
    return {
      cwd: this.repo,
      ...start,
      environment: { ...environment, HOME: this.home, ...this.environment, ...start.environment },
    };
  }

  /** The words that call the script. */
  async call(...args: string[]): Promise<string[]> {
    const { script } = await installed(this.program, ...this.programSkills);
    return [Deno.execPath(), "run", "-A", "--no-lock", script, ...args];
  }

  /** Runs the script in the repo. */
  async run(...args: string[]): Promise<Result> {
    return await execute(await this.call(...args), await this.start());
  }

  /** Runs the script, which has to succeed; gives what it said on standard error. */
  async done(...args: string[]): Promise<string> {
    const { status, stderr, stdout } = await this.run(...args);
    assertEquals({ status, stdout }, { status: 0, stdout: "" }, stderr);
    return stderr;
  }

  /** Runs the script, which has to end with a status other than 0; gives what it said on standard error. */
  async fails(status: number, ...args: string[]): Promise<string> {
    const result = await this.run(...args);
    assertEquals(result.status, status, result.stderr || result.stdout || "It said nothing");
    return result.stderr;
  }

  /** Runs the script as somebody whom permissions stop, and who then owns the sandbox. */
  async runUnprivileged(...args: string[]): Promise<Result> {
    if (Deno.uid() !== 0) return await this.run(...args);
    const somebody = 65534;
    const [binary, cache] = [`${this.path}/deno`, `${this.path}/cache`];
    const [, ...call] = await this.call(...args);
    const start = await this.start();
    if (!isThere(binary)) Deno.copyFileSync(Deno.execPath(), binary); // It may lie where only root can look.
    if (!isThere(cache)) await succeed(["cp", "-r", start.environment["DENO_DIR"] ?? "", cache]);
    await succeed(["chown", "-R", "--no-dereference", `${somebody}:${somebody}`, this.path]);
    const become = ["setpriv", `--reuid=${somebody}`, `--regid=${somebody}`, "--clear-groups"];
    return await execute([...become, binary, ...call], {
      ...start,
      environment: { ...start.environment, DENO_DIR: cache },
    });
  }

  /** Starts the script in the repo, to be killed. */
  async spawn(...args: string[]): Promise<Deno.ChildProcess> {
    return command(await this.call(...args), await this.start()).spawn();
  }

  /** Runs one of Nix's programs in the repo; all that Nix keeps is in the sandbox, and it looks nowhere else. */
  async nix(program: string, ...args: string[]): Promise<Result> {
    const environment: Record<string, string> = {
      HOME: this.home,
      NIX_CONFIG:
        "extra-experimental-features = nix-command\nsubstitute = false\nsandbox = false\nbuild-users-group =\n",
    };
    for (const name of ["STORE", "STATE", "LOCALSTATE", "LOG", "CONF"]) {
      environment[`NIX_${name}_DIR`] = `${this.path}/nix/${name.toLowerCase()}`;
    }
    return await execute([program, ...args], { cwd: this.repo, environment });
  }

  /** Runs git in the repo. */
  async git(...args: string[]): Promise<string> {
    const environment = {
      HOME: this.home,
      GIT_CONFIG_GLOBAL: "/dev/null",
      GIT_CONFIG_NOSYSTEM: "1",
      GIT_AUTHOR_NAME: "A",
      GIT_AUTHOR_EMAIL: "a@example.org",
      GIT_COMMITTER_NAME: "A",
      GIT_COMMITTER_EMAIL: "a@example.org",
    };
    return await succeed(["git", ...args], { cwd: this.repo, environment });
  }
}

// ── Looking at the disk ─────────────────────────────────────────────────────────────────────────────────────────

/** What is below a directory, by path: the text of a link, the content of a file. */
export type Tree = Record<string, string>;

function* walk(directory: string, prefix = ""): Generator<[path: string, info: Deno.FileInfo]> {
  for (const name of [...Deno.readDirSync(directory)].map((entry) => entry.name).sort()) {
    const info = Deno.lstatSync(`${directory}/${name}`);
    yield [prefix + name, info];
    if (info.isDirectory && name !== ".git") yield* walk(`${directory}/${name}`, `${prefix}${name}/`);
  }
}

/** What is at a path: `directory`, `-> text` of a link, a file's mode and text; `undefined` for nothing. */
export function whatIs(path: string): string | undefined {
  try {
    const { isSymlink, isDirectory, isFile, mode } = Deno.lstatSync(path);
    if (isSymlink) return `-> ${Deno.readLinkSync(path)}`;
    if (isDirectory) return "directory";
    return isFile ? `${((mode ?? 0) & 0o777).toString(8)} ${Deno.readTextFileSync(path)}` : "something else";
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    if (error instanceof TypeError || error instanceof Deno.errors.IsADirectory) return whatIs(path); // just replaced
    throw error;
  }
}

/** Lists everything below a directory, except the content of `.git`: each path with what {@linkcode whatIs} says. */
export function tree(directory: string): Tree {
  return Object.fromEntries([...walk(directory)].map(([path]) => [path, whatIs(`${directory}/${path}`) ?? "nothing"]));
}

/** Like {@linkcode tree}, with inodes and times of change, which show whether anything was written. */
export function stamps(directory: string): Tree {
  const result: Tree = {};
  for (const [path, { ino, mtime, ctime }] of [...walk(directory), [".", Deno.lstatSync(directory)] as const]) {
    result[path] = `${ino} ${mtime?.toISOString()} ${ctime?.toISOString()}`;
  }
  return result;
}

/**
 * What a target contains besides the state file and `.gitignore`, by name: a link's text, or `copy`, or `file`. Debris of
 * a run is listed, too: in the target under its name, next to it under `../`.
 */
export function deployed(target: string): Record<string, string> {
  const result: Record<string, string> = {};
  let entries: Deno.DirEntry[] = [];
  try {
    entries = [...Deno.readDirSync(target)];
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
  if (isThere(`${target}/../.use-skills.tmp`)) result["../.use-skills.tmp"] = "debris";
  for (const { name, isDirectory, isSymlink } of entries.sort((a, b) => a.name < b.name ? -1 : 1)) {
    if (name === ".gitignore" || name === ".use-skills.json") continue;
    result[name] = isSymlink ? Deno.readLinkSync(`${target}/${name}`) : isDirectory ? "copy" : "file";
  }
  return result;
}

/** Whether something is at a path, also a broken link. */
export function isThere(path: string): boolean {
  try {
    Deno.lstatSync(path);
    return true;
  } catch {
    return false;
  }
}

// ── Tools ───────────────────────────────────────────────────────────────────────────────────────────────────────

/** How to find out whether a tool can be used. */
const TOOLS = {
  curl: ["curl", "--version"],
  direnv: ["direnv", "version"],
  git: ["git", "--version"],
  mkfifo: ["mkfifo", "--version"],
  nix: ["nix-instantiate", "--version"],
  openssl: ["openssl", "version"],
  ps: ["ps", "-eo", "args"],
  python3: ["python3", "--version"],
  /** A terminal for programs that ask whether there is one. */
  script: ["script", "-qec", "true", "/dev/null"],
  sha256sum: ["sha256sum", "--version"],
  strace: ["strace", "-f", "-o", "/dev/null", "true"],
  /** GNU's: others have no `--sort`. */
  tar: ["tar", "--sort=name", "--create", "--file=/dev/null", "--files-from=/dev/null"],
  /** A file system of one's own, which nobody else sees and which is gone with its last process. */
  tmpfs: ["unshare", "-rm", "mount", "-t", "tmpfs", "none", "/mnt"],
  /** To be another user than root, whom no permission stops. */
  setpriv: Deno.uid() === 0 ? ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "true"] : ["true"],
  tmux: ["tmux", "-V"],
};

/** A tool that tests need. */
export type Tool = keyof typeof TOOLS;

function isUsable(tool: Tool): boolean {
  const [program = "", ...args] = TOOLS[tool];
  try {
    return new Deno.Command(program, { args, stdin: "null", stdout: "null", stderr: "null" }).outputSync().success;
  } catch {
    return false;
  }
}

/**
 * `it` for tests that need tools. If one is missing, they are skipped, or fail if `CI` is set.
 *
 * @param tools The tools.
 * @returns A function that is called like `it`.
 *
 * @example
 * ```ts
 * const itWithDirenv = requires("direnv");
 * itWithDirenv("keeps nobody out", async () => {});
 * ```
 */
export function requires(
  ...tools: Tool[]
): (name: string, work: () => void | Promise<void>) => void {
  const missing = tools.filter((tool) => !isUsable(tool));
  return (name, work) => {
    if (missing.length === 0) return void it(name, work);
    const reason = `needs ${missing.join(" and ")}`;
    if (Deno.env.get("CI") !== "true") return void it.skip(`${name} (${reason})`, work);
    it(name, () => {
      throw new Error(`This test ${reason}, which cannot be used here`);
    });
  };
}
