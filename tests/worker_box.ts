/**
 * What the tests of `worker.ts` share: repos in temporary directories, and functions that run the program in them.
 */
import { assertEquals } from "jsr:@std/assert@^1";
import { it } from "jsr:@std/testing@^1/bdd";
import type { State, Task } from "../skills/hq/scripts/worker.ts";
import { execute, isThere, type Result, Sandbox, type Start, succeed } from "./helpers.ts";

/** A directory with only the script, as it is released, and Deno's cache for it. */
const shipped = Deno.realPathSync(Deno.makeTempDirSync({ prefix: "shipped-" }));
Deno.chmodSync(shipped, 0o755);
globalThis.addEventListener("unload", () => Deno.removeSync(shipped, { recursive: true }));
/** The tested program. */
export const script = `${shipped}/worker.ts`;
Deno.copyFileSync(new URL("../skills/hq/scripts/worker.ts", import.meta.url), script);

/** The program's answer with `--json`. */
export interface Reply {
  version: number;
  ok: boolean;
  command: string;
  taskId?: string;
  changed: boolean;
  state?: State;
  head?: string;
  // deno-lint-ignore no-explicit-any
  data: any;
  error?: { code: string; message: string; hint?: string };
}

/** A repo with one commit next to a brief, in its own directory. */
export class Box extends Sandbox {
  override environment: Record<string, string> = {
    DENO_DIR: `${shipped}/cache`,
    GIT_CONFIG_NOSYSTEM: "1",
    HOME: this.home,
  };

  static async make(): Promise<Box> {
    const box = new Box("worker.ts");
    box.write(`${box.home}/.gitconfig`, "[user]\nname = A\nemail = a@example.org\n[init]\ndefaultBranch = main\n");
    box.write("a", "1\n");
    box.write("b", "1\n");
    box.write(".gitignore", "/ignored*\n");
    await box.git("init", "--quiet", "--initial-branch=main");
    await box.git("add", ".");
    await box.git("commit", "--quiet", "--message=first");
    box.write("../brief.md", "# Do it\n\nAll of it.\n");
    return box;
  }

  /** The worktree of a task, or a path in it. */
  tree(id: string, path = ""): string {
    return `${this.path}/repo.worktrees/${id}${path && `/${path}`}`;
  }

  /** Runs the program. */
  async worker(args: readonly string[], cwd = this.repo, environment: Record<string, string> = {}): Promise<Result> {
    return await execute(await this.call(...args), await this.start({ cwd, environment }));
  }

  override call(...args: string[]): Promise<string[]> {
    return Promise.resolve([Deno.execPath(), "run", "-A", "--no-lock", script, ...args]);
  }

  override start(start: Start = {}): ReturnType<Sandbox["start"]> {
    return Promise.resolve({
      cwd: this.repo,
      ...start,
      environment: { ...this.environment, ...start.environment },
    });
  }

  /** Runs the program, which must exit with this status; returns its answer. */
  async ask(
    status: number,
    line: string | readonly string[],
    cwd?: string,
    environment?: Record<string, string>,
  ): Promise<Reply> {
    const words = typeof line === "string" ? line.split(" ") : line;
    const result = await this.worker(["--json", ...words], cwd, environment);
    assertEquals(result.status, status, `${line}: ${result.stderr}${result.stdout}`);
    const reply = JSON.parse(result.stdout) as Reply;
    assertEquals({ ok: reply.ok, version: reply.version }, { ok: status === 0, version: 1 });
    return reply;
  }

  /** Runs the program, which must succeed. */
  async do(line: string | readonly string[], cwd?: string, environment?: Record<string, string>): Promise<Reply> {
    return await this.ask(0, line, cwd, environment);
  }

  /** Creates a task without an agent, or with `-- COMMAND` as its agent. */
  async spawnTask(id: string, more = ""): Promise<Reply> {
    return await this.do(`spawn --taskId ${id} --brief ../brief.md ${`--agent none ${more}`.trim()}`);
  }

  /** Commits files in a task's worktree, or in another folder. */
  async commit(where: string, files: Record<string, string>): Promise<string> {
    const cwd = where.startsWith("/") ? where : this.tree(where);
    for (const [path, text] of Object.entries(files)) this.write(`${cwd}/${path}`, text);
    await this.git("-C", cwd, "add", "--all");
    await this.git("-C", cwd, "commit", "--quiet", "--message=work");
    return (await this.git("-C", cwd, "rev-parse", "HEAD")).trim();
  }

  /** Brings a new task to `submitted`; returns its head. */
  async submitted(id: string, files: Record<string, string> = { [id]: `${id}\n` }, more = ""): Promise<string> {
    await this.spawnTask(id, more);
    const head = await this.commit(id, files);
    await this.do("submit", this.tree(id));
    return head;
  }

  /** Brings a new task to `approved`; returns its head. */
  async approved(id: string, files?: Record<string, string>): Promise<string> {
    const head = await this.submitted(id, files);
    await this.do(`review start ${id} --head ${head} --actor eve`);
    await this.do(`review approve ${id} --head ${head} --actor eve`);
    return head;
  }

  /** A task, as git has it. */
  async task(id: string): Promise<Task> {
    return JSON.parse(await this.git("show", `refs/worker/tasks/${id}:task.json`));
  }

  async state(id: string): Promise<State> {
    return (await this.task(id)).state;
  }

  /** The hash of a ref or another name; `undefined` if it does not exist. */
  async resolve(name: string): Promise<string | undefined> {
    return await this.git("rev-parse", "--verify", "--quiet", name).then((out) => out.trim(), () => undefined);
  }

  /** Writes a program in place of an agent; returns its path. */
  agent(text: string, name = "agent"): string {
    const path = `${this.path}/${name}`;
    this.write(path, `#!/bin/sh\n${text}`);
    Deno.chmodSync(path, 0o755);
    return path;
  }

  /** Waits until a condition holds. */
  async until(holds: () => boolean | Promise<boolean>): Promise<void> {
    for (let tries = 0; tries < 500; tries++) {
      if (await holds()) return;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    throw new Error("It never came to hold");
  }

  /** Runs `doctor --fix`, which must repair everything; returns what it repaired. */
  async heal(): Promise<string[]> {
    const { data } = await this.do("doctor --fix");
    const { data: { problems } } = await this.do("doctor --fix");
    assertEquals(problems, []);
    assertEquals(data.problems.filter(({ repaired }: { repaired: boolean }) => !repaired), []);
    return data.problems.map(({ what }: { what: string }) => what);
  }

  /** The subjects of a task's events. */
  async events(id: string): Promise<string[]> {
    const out = await this.git("log", "--first-parent", "--reverse", "--format=%s", `refs/worker/tasks/${id}`);
    return out.trim().split("\n");
  }
}

/** A test that works in a box. */
export function inBox(work: (box: Box) => Promise<void>): () => Promise<void> {
  return async () => {
    using box = await Box.make();
    await work(box);
  };
}

/** The number of results by exit status. */
export function tally(results: readonly Result[]): Record<number, number> {
  const counts: Record<number, number> = {};
  for (const { status } of results) counts[status] = (counts[status] ?? 0) + 1;
  return counts;
}

/** Whether a process is running, and not a zombie. */
export async function isRunning(pid: string): Promise<boolean> {
  return await succeed(["ps", "-o", "stat=", "-p", pid]).then((out) => !out.startsWith("Z"), () => false);
}

/** Options that cancel a task and remove its worktree. */
export const CLEANUP = "--reason enough --cleanup";

/** `it` for tests that read the environment of processes, which only Linux shows. */
export const itOnLinux = Deno.build.os === "linux" ? it : it.skip;

/** The process ids in a file, one per line; none without a file. */
export function pidsIn(path: string): string[] {
  return isThere(path) ? Deno.readTextFileSync(path).split("\n").filter(Boolean) : [];
}

/** Ends processes that may have ended already. */
export function end(pids: readonly string[]): void {
  for (const pid of pids) {
    try {
      Deno.kill(Number(pid), "SIGKILL");
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
  }
}
