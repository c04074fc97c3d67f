/** `worker wait`, how commands wait for each other, checks and their output, the log, and who is told. */
import { assert, assertEquals, assertStringIncludes } from "jsr:@std/assert@^1";
import { describe, it } from "jsr:@std/testing@^1/bdd";
import { execute, isThere, requires, type Result } from "./helpers.ts";
import { type Box, inBox, isRunning } from "./worker_box.ts";

/** Starts a command; gives what comes of it, and the process. */
async function start(box: Box, ...args: string[]): Promise<{ child: Deno.ChildProcess; result: Promise<Result> }> {
  const child = await box.spawn(...args);
  const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
  const result = child.output().then(({ code, stdout, stderr }) => {
    return { status: code, stdout: text(stdout), stderr: text(stderr) };
  });
  return { child, result };
}

describe("worker wait", () => {
  it(
    "returns when a task changes its state, with the next step",
    inBox(async (box) => {
      await box.spawnTask("x");
      await box.spawnTask("y");
      const { result } = await start(box, "wait", "x", "--timeout", "50");
      await box.commit("x", { x: "1\n" });
      const { head } = await box.do("submit x");
      assertEquals(
        (await result).stdout,
        `Task x is submitted (it was working)\nNext: worker review start x --head ${head} --actor NAME\n`,
      );
    }),
  );

  it(
    "returns immediately without live tasks, or if one needs something already",
    inBox(async (box) => {
      const nothing = "No task is live, so there is nothing to wait for\n";
      assertEquals((await box.worker(["wait"])).stdout, nothing);
      await box.spawnTask("x");
      await box.do(["block", "x", "--question", "Which one?"]);
      assertEquals((await box.worker(["wait"])).stdout, "Task x is blocked\nNext: worker resume x --answer TEXT\n");
      await box.do("cancel x --reason over");
      assertEquals((await box.worker(["wait", "x"])).stdout, nothing);
      await box.submitted("y", { "login.ts": "1\n" });
      assertEquals(
        (await box.worker(["wait", "--timeout", "0"])).stdout,
        "Nothing has changed in 0 seconds; a person has to decide about y\n",
      );
      await box.ask(3, "wait nosuch");
    }),
  );

  it(
    "returns when an agent has ended, with its exit status",
    inBox(async (box) => {
      await box.do(["spawn", "x", "--brief", "../brief.md", "--", box.agent("sleep 1\nexit 3\n")]);
      const { stdout } = await box.worker(["wait", "--timeout", "50"]);
      assertEquals(
        stdout,
        "Task x has stalled\nNext: worker log x, then worker resume x or worker fail x --reason TEXT\n",
      );
      const [task] = (await box.do("list")).data.tasks;
      assertEquals([task.stalled, task.exitStatus], [true, 3]);
      assertStringIncludes((await box.worker(["list"])).stdout, "stalled, exit status 3");
    }),
  );

  it(
    "returns after --timeout, and starts no git while it waits",
    inBox(async (box) => {
      await box.spawnTask("x");
      const log = `${box.path}/git.log`;
      const git = (await new Deno.Command("sh", { args: ["-c", "command -v git"] }).output()).stdout;
      box.agent(`echo "$*" >> ${log}\nexec ${new TextDecoder().decode(git).trim()} "$@"\n`, "bin/git");
      box.environment["PATH"] = `${box.path}/bin:${Deno.env.get("PATH")}`;
      assertEquals((await box.worker(["wait", "--timeout", "0"])).stdout, "Nothing has changed in 0 seconds\n");
      const calls = () => Deno.readTextFileSync(log).trim().split("\n").length;
      const least = calls();
      assertEquals((await box.worker(["wait", "--timeout", "2"])).stdout, "Nothing has changed in 2 seconds\n");
      assertEquals(calls(), 2 * least);
    }),
  );
});

describe("worker merge and cancel", () => {
  it(
    "say for which command they wait, and give up after --timeout",
    inBox(async (box) => {
      await box.approved("x");
      await box.approved("y");
      const { child, result } = await start(box, "merge", "x", "--check", `touch ${box.path}/at-work; sleep 60`);
      await box.until(() => isThere(`${box.path}/at-work`));
      const { status, stderr } = await box.worker(["merge", "y", "--timeout", "1"]);
      const other = `worker merge x (process ${child.pid})`;
      assertEquals({ status, stderr }, {
        status: 5,
        stderr:
          `Waiting for: ${other}\nworker: Another command is still running after 1 seconds: ${other}\nTry again later\n`,
      });
      await box.ask(5, "cancel x --reason over --timeout 0");
      child.kill("SIGTERM");
      assertEquals((await result).status, 1);
      assertEquals(await box.state("x"), "approved");
      await box.do("merge y");
    }),
  );

  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    it(
      `stop the check on ${signal}, and the task is as it was`,
      inBox(async (box) => {
        await box.approved("x");
        const pid = `${box.path}/check.pid`;
        const { child, result } = await start(box, "merge", "x", "--check", `echo $$ > ${pid}; sleep 60 & wait`);
        await box.until(() => isThere(pid) && box.read(pid) !== "");
        child.kill(signal);
        const { status, stderr } = await result;
        assertEquals(status, 1);
        assertStringIncludes(stderr, `Interrupted by ${signal} during: echo`);
        assertEquals(await box.state("x"), "approved");
        assertEquals(await isRunning(box.read(pid).trim()), false);
        assertEquals((await box.do("doctor")).data.problems, []);
        await box.do("merge x");
      }),
    );
  }
});

describe("a check", () => {
  it(
    "runs after worker.setup, is worker.check by default, and its output is kept for people and the worker",
    inBox(async (box) => {
      await box.git("config", "worker.setup", "touch ready");
      await box.git("config", "worker.check", "test -f ready && echo 'b is wrong' && false");
      await box.git("config", "core.excludesFile", `${box.home}/ignore`);
      box.write(`${box.home}/ignore`, "ready\n");
      const agent = box.agent('cat "$WORKER_PROMPT" > ../prompt\n');
      await box.do(["spawn", "x", "--brief", "../brief.md", "--", agent]);
      const head = await box.commit("x", { x: "1\n" });
      await box.do("submit x");
      await box.do(`review start x --head ${head} --actor eve`);
      await box.do(`review approve x --head ${head} --actor eve`);
      const { error } = await box.ask(7, "merge x");
      assertEquals(error?.code, "check_failed");
      assertStringIncludes(error?.message ?? "", "ended with status 1");
      const { data } = await box.do("status x");
      assertStringIncludes(data.texts["checks/1.md"], "\n\nb is wrong\n");
      await box.ask(2, "resume x");
      await box.do(["resume", "x", "--answer", "Mend it."]);
      await box.until(() => isThere(`${box.path}/repo.worktrees/prompt`));
      await box.until(() => box.read("../repo.worktrees/prompt").includes("b is wrong"));
      assertStringIncludes(box.read("../repo.worktrees/prompt"), "Mend it.");
    }),
  );
});

describe("worker.setup", () => {
  it(
    "may leave a process that continues to print",
    inBox(async (box) => {
      await box.git("config", "worker.setup", "(while sleep 0.1 && echo still; do :; done) & echo ready");
      assertEquals((await box.spawnTask("x")).state, "working"); // It ends as nobody reads what it prints.
      assertStringIncludes((await box.do("log x")).data.output, "ready\n");
    }),
  );
});

describe("worker log", () => {
  it(
    "shows the end of a long log, and all of it with --all",
    inBox(async (box) => {
      const agent = box.agent("seq 1 100000\n");
      await box.do(["spawn", "x", "--brief", "../brief.md", "--", agent]);
      await box.until(async () => (await box.do("log x")).data.output?.endsWith("\n100000\n"));
      const { output, size } = (await box.do("log x")).data;
      assertEquals([output.split("\n").length, output.startsWith("99801\n"), size], [201, true, 588895]);
      const { stdout } = await box.worker(["log", "x"]);
      assertStringIncludes(stdout, "which has 588895 bytes; --all for everything)\n99801\n");
      assertStringIncludes((await box.worker(["log", "x", "--all"])).stdout, "\n1\n2\n3\n");
      assertStringIncludes((await box.ask(2, "log x --all")).error?.hint ?? "", `/worker/x/log`);
    }),
  );

  it(
    "reads the end of a huge log",
    inBox(async (box) => {
      await box.spawnTask("x");
      const log = box.at(".git/worker/x/log");
      using file = Deno.openSync(log, { write: true, create: true });
      file.truncateSync(700 * 2 ** 20);
      file.seekSync(0, Deno.SeekMode.End);
      file.writeSync(new TextEncoder().encode("\nthe end\n"));
      const { output } = (await box.do("log x")).data;
      assert(output.endsWith("\nthe end\n") && output.length < 2 ** 19);
    }),
  );

  it(
    "follows with -f until the agent ends",
    inBox(async (box) => {
      await box.do(["spawn", "x", "--brief", "../brief.md", "--", box.agent("echo one\nsleep 1\necho two\n")]);
      const { stdout } = await box.worker(["log", "x", "-f"]);
      assertEquals(stdout.split("\n").slice(-3), ["one", "two", ""]);
    }),
  );

  it(
    "prints each line once with -f, also of an agent that prints without a pause",
    inBox(async (box) => {
      const agent = box.agent("i=0\nwhile [ $i -lt 300000 ]; do i=$((i + 1)); echo $i; done\n");
      await box.do(["spawn", "x", "--brief", "../brief.md", "--", agent]);
      const lines = (await box.worker(["log", "x", "-f"])).stdout.split("\n").filter((line) => /^\d{4,}$/.test(line));
      assertEquals(lines.at(-1), "300000");
      assertEquals(new Set(lines).size, lines.length);
    }),
  );
  it(
    "prints characters whole with -f, also of an agent that prints them in two pieces",
    inBox(async (box) => {
      const agent = box.agent("for i in 1 2 3 4 5; do printf '\\360\\237'; sleep 0.3; printf '\\230\\200\\n'; done\n");
      await box.do(["spawn", "x", "--brief", "../brief.md", "--", agent]);
      const { stdout } = await box.worker(["log", "x", "-f"]);
      assertEquals([stdout.match(/😀/gu)?.length, stdout.includes("\ufffd")], [5, false]);
    }),
  );
});

describe("worker list", () => {
  requires("script")("fits a terminal of 80 columns, and is complete elsewhere", async () => {
    await inBox(async (box) => {
      box.write("../brief.md", `# ${"A long title ".repeat(6)}\n`);
      await box.spawnTask("a-task-with-a-long-name");
      await box.do(["block", "a-task-with-a-long-name", "--question", "Which of the two is it, and why?"]);
      const words = (await box.call("list")).join(" ");
      const { stdout } = await execute(["script", "-qec", words, "/dev/null"], await box.start());
      for (const line of stdout.split(/\r?\n/)) assert(line.length <= 80, line);
      assertStringIncludes(stdout, "asks: Whic…");
      assertStringIncludes((await box.worker(["list"])).stdout, "asks: Which of the two is it, and why?");
    })();
  });
});

describe("worker.notify", () => {
  it(
    "runs when a task needs a person or an answer",
    inBox(async (box) => {
      const said = `${box.path}/said`;
      await box.git("config", "worker.notify", `echo "$WORKER_ID $WORKER_STATE: $WORKER_WHY" >> ${said}`);
      await box.spawnTask("x");
      await box.do(["block", "x", "--question", "Which?"]);
      await box.until(() => isThere(said));
      await box.do("resume x --answer this");
      await box.commit("x", { ".envrc": "1\n" });
      await box.do("submit x");
      await box.until(() => box.read(said).split("\n").length === 3);
      assertEquals(box.read(said), "x blocked: Which?\nx needs_human: paths: .envrc\n");
    }),
  );
});
