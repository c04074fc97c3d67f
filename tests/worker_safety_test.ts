/** `worker` in unusual repos, and where somebody means ill: nothing is merged that was not reviewed. */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "jsr:@std/assert@^1";
import { describe, it } from "jsr:@std/testing@^1/bdd";
import { isThere } from "./helpers.ts";
import { CLEANUP, end, inBox, isRunning, itOnLinux, pidsIn } from "./worker_box.ts";

// deno-lint-ignore no-explicit-any
function notesOf({ data }: { data: any }): string {
  return data.notes.map(({ what, taskId }: { what: string; taskId?: string }) => `${taskId}: ${what}`).join("\n");
}

describe("worker review", () => {
  it(
    "needs a person for a guarded path below a name with a line end",
    inBox(async (box) => {
      await box.submitted("x", { "n\nl/auth/x.ts": "k\n" });
      await box.submitted("y", { "n\nl/server.pem": "k\n" });
      for (const id of ["x", "y"]) {
        const { state, checkpoints } = await box.task(id);
        assertEquals([state, checkpoints?.map(({ kind }) => kind)], ["needs_human", ["paths"]], id);
      }
    }),
  );

  it(
    "needs a person and shows all lines if git would show none",
    inBox(async (box) => {
      const numbers = Array.from({ length: 5000 }, (_, n) => `${n + 1}\n`).join("");
      await box.submitted("x", { "code.js": `//\0\n${numbers}` });
      assertEquals(await box.state("x"), "needs_human");
      assertEquals((await box.task("x")).checkpoints?.length, 1);
      const { stdout } = await box.worker(["review", "diff", "x"]);
      assertStringIncludes(stdout, "\n+4321\n");
    }),
  );

  it(
    "shows what is merged, not what a replace ref shows",
    inBox(async (box) => {
      await box.spawnTask("x");
      const head = await box.commit("x", { c: "bad\n" });
      box.write("../good", "good\n");
      const good = (await box.git("hash-object", "-w", "../good")).trim();
      await box.git("replace", (await box.git("rev-parse", `${head}:c`)).trim(), good);
      assertEquals(await box.git("show", `${head}:c`), "good\n");
      await box.do("submit --taskId x");
      const { stdout } = await box.worker(["review", "diff", "x"]);
      assertStringIncludes(stdout, "+bad\n");
      assert(!stdout.includes("+good"), stdout);
    }),
  );

  it(
    "is refused for the author in any spelling",
    inBox(async (box) => {
      const head = await box.submitted("x");
      for (const actor of ["Worker/x", "WORKER/X"]) await box.ask(4, `review start x --head ${head} --actor ${actor}`);
      assertEquals(await box.state("x"), "submitted");
    }),
  );
});

describe("worker, with misleading input", () => {
  it(
    "refuses invalid globs, and names the setting",
    inBox(async (box) => {
      const { error } = await box.ask(2, "spawn --taskId x --brief ../brief.md --agent none --paths src/[z-a]");
      assertStringIncludes(error?.message ?? "", "[z-a]");
      assertEquals(await box.resolve("refs/worker/tasks/x"), undefined);
      await box.spawnTask("y");
      await box.commit("y", { c: "1\n" });
      await box.git("config", "worker.humanPath", "[z-a]");
      assertStringIncludes((await box.ask(2, "submit --taskId y")).error?.message ?? "", "worker.humanPath");
      assertEquals(await box.state("y"), "working");
    }),
  );

  it(
    "starts no line with text of a worker",
    inBox(async (box) => {
      await box.spawnTask("x");
      await box.spawnTask("y");
      await box.do(["block", "--taskId", "x", "--question", "what?\nstate       approved\nhead        0000"]);
      const status = (await box.worker(["status", "x"])).stdout.split("\n");
      assertEquals(status.filter((line) => /^state\b/.test(line)).length, 1);
      assertEquals(status.filter((line) => /^head\b/.test(line)).length, 0);
      for (const id of ["x", "y"]) box.write(box.tree(id, "n\nx and z  conflict  a"), "1\n");
      const overlaps = await box.worker(["overlaps"]);
      assertMatch(overlaps.stdout, /^x and y .*\n$/);
    }),
  );

  it(
    "refuses an actor with any kind of line end",
    inBox(async (box) => {
      await box.spawnTask("x");
      for (const end of ["\u2028", "\u2029", "\n"]) {
        await box.ask(2, ["block", "--taskId", "x", "--question", "why", "--actor", `a${end}b`]);
      }
      assertEquals(await box.state("x"), "working");
    }),
  );

  it(
    "names the task and the command in each error",
    inBox(async (box) => {
      const head = await box.submitted("x");
      const refused = await box.ask(4, `review approve x --head ${head} --actor eve`);
      assertEquals([refused.taskId, refused.state, refused.head], ["x", "submitted", head]);
      const rows: [line: string, command: string][] = [
        ["spawn --taskId y", "spawn"],
        ["list --frob", "list"],
        ["review start --frob", "review start"],
        ["merge a b", "merge"],
      ];
      for (const [line, command] of rows) assertEquals((await box.ask(2, line)).command, command, line);
      const misused = await box.ask(2, "review start --taskId x");
      assertEquals([misused.command, misused.state, misused.head], ["review start", "submitted", head]);
    }),
  );

  it(
    "shows the brief, reports and reviews with the status",
    inBox(async (box) => {
      await box.spawnTask("x");
      const head = await box.commit("x", { c: "1\n" });
      box.write("../report.md", "It is done.\n");
      box.write("../findings.md", "It is wrong.\n");
      await box.do("submit --taskId x --report ../report.md");
      await box.do(`review start x --head ${head} --actor eve`);
      await box.do(`review request-changes x --head ${head} --actor eve --findings ../findings.md`);
      const { texts } = (await box.do("status x")).data;
      const all = {
        "brief.md": "# Do it\n\nAll of it.\n",
        "reports/1.md": "It is done.\n",
        "reviews/1.md": "It is wrong.\n",
      };
      assertEquals(texts, all);
      const { stdout } = await box.worker(["status", "x"]);
      for (const text of ["All of it.", "It is done.", "It is wrong."]) assertStringIncludes(stdout, text);
    }),
  );
});

describe("worker, in an unusual repo", () => {
  it(
    "ignores refs that are no tasks, and reports them",
    inBox(async (box) => {
      await box.spawnTask("x");
      await box.git("update-ref", "refs/worker/tasks/stray", "HEAD");
      await box.git("update-ref", "refs/worker/tasks/other", "refs/worker/tasks/x");
      assertEquals((await box.do("list --all")).data.tasks.map(({ id }: { id: string }) => id), ["x"]);
      const doctor = await box.do("doctor --fix");
      assertEquals(doctor.data.problems, []);
      for (const name of ["tasks/stray", "tasks/other"]) assertStringIncludes(notesOf(doctor), name);
      await box.spawnTask("y");
      assertEquals(await box.state("y"), "working");
    }),
  );

  it(
    "works with a line end in the repo's path, or refuses it",
    inBox(async (box) => {
      const other = `${box.repo}\nfix/r`;
      await box.git("clone", "--quiet", ".", other);
      const line = `spawn --taskId x --brief ${box.path}/brief.md --agent none --base main`;
      const { status } = await box.worker(line.split(" "), other);
      assertEquals(await box.git("for-each-ref", "refs/worker", "refs/heads/worker"), "");
      const made = await box.git("-C", other, "for-each-ref", "--format=%(refname)", "refs/heads/worker");
      assertEquals(made, status === 0 ? "refs/heads/worker/x\n" : "");
    }),
  );

  it(
    "runs no command of a task from another clone",
    inBox(async (box) => {
      await box.git("config", "worker.setup", "false");
      await box.ask(1, `spawn --taskId x --brief ../brief.md -- ${box.agent('touch "$0.ran"\n')}`);
      await box.git("clone", "--quiet", ".", "../clone");
      const clone = `${box.path}/clone`;
      await box.git("-C", clone, "fetch", "--quiet", "origin", "refs/worker/*:refs/worker/*");
      const doctor = await box.do("doctor --fix", clone);
      assertMatch(notesOf(doctor), /^x: /m);
      assertMatch(await box.git("-C", clone, "show", "refs/worker/tasks/x:task.json"), /"state": "queued"/);
      assert(!isThere(`${box.path}/agent.ran`));
    }),
  );

  it(
    "needs --base in a task's worktree",
    inBox(async (box) => {
      await box.spawnTask("x");
      const line = `spawn --taskId y --brief ${box.path}/brief.md --agent none`;
      assertStringIncludes((await box.ask(2, line, box.tree("x"))).error?.message ?? "", "--base");
      assertEquals(await box.resolve("refs/worker/tasks/y"), undefined);
      await box.do(`${line} --base main`, box.tree("x"));
    }),
  );

  it(
    "lets a task overlap with its dependency, unless that is cancelled",
    inBox(async (box) => {
      await box.spawnTask("x", "--paths src");
      await box.ask(7, "spawn --taskId y --brief ../brief.md --agent none --paths src");
      await box.spawnTask("y", "--paths src --depends-on x");
      await box.do("cancel x --reason enough");
      assertEquals(
        (await box.worker(["status", "y"])).stdout.match(/^next +(.*)/m)?.[1],
        "worker cancel y --reason TEXT",
      );
      const { error } = await box.ask(4, "spawn --taskId z --brief ../brief.md --agent none --depends-on x");
      assertStringIncludes(error?.message ?? "", "cancelled");
      assertEquals(await box.resolve("refs/worker/tasks/z"), undefined);
    }),
  );
});

describe("worker resume", () => {
  const text = 'echo $$ >>"$0.pids"\nexec sleep 100\n';

  itOnLinux(
    "ends an agent without a record before it starts another",
    inBox(async (box) => {
      const agent = box.agent(text);
      const pids = () => pidsIn(`${agent}.pids`);
      try {
        await box.do(`spawn --taskId x --brief ../brief.md -- ${agent}`);
        await box.until(() => pids().length === 1);
        box.remove(".git/worker");
        await box.do("resume x");
        await box.until(() => pids().length === 2);
        assertEquals(await isRunning(pids()[0] ?? ""), false);
      } finally {
        end(pids());
      }
    }),
  );

  it(
    "ends no agent of a task with the same ID in another repo",
    inBox(async (box) => {
      const agent = box.agent(text);
      const pids = () => pidsIn(`${agent}.pids`);
      try {
        await box.git("clone", "--quiet", ".", "../clone");
        const spawn = `spawn --taskId x --brief ${box.path}/brief.md --`;
        await box.do(`${spawn} ${agent}`, `${box.path}/clone`);
        await box.until(() => pids().length === 1);
        await box.do(`${spawn} true`);
        await box.until(async () => (await box.do("status x")).data.alive === false);
        assertEquals((await box.do("resume x")).state, "working");
        await box.do(`cancel x ${CLEANUP}`);
        assert(await isRunning(pids()[0] ?? ""));
        await box.do(`cancel x ${CLEANUP}`, `${box.path}/clone`);
        assert(!await isRunning(pids()[0] ?? ""));
      } finally {
        end(pids());
      }
    }),
  );

  it(
    "ends the agent that asked, and gives the next one all questions and answers",
    inBox(async (box) => {
      const agent = box.agent(text);
      const pids = () => pidsIn(`${agent}.pids`);
      try {
        await box.do(`spawn --taskId x --brief ../brief.md -- ${agent}`);
        for (const round of [1, 2]) {
          await box.until(() => pids().length === round);
          const old = pids().at(-1) ?? "";
          await box.do(["block", "--taskId", "x", "--question", `Question ${round}?`]);
          assert(await isRunning(old));
          assertEquals((await box.do(["resume", "x", "--answer", `Answer ${round}.`])).state, "working");
          assert(!await isRunning(old));
          await box.until(() => pids().length === round + 1);
        }
        const prompt = box.read(".git/worker/x/prompt.md");
        for (const part of ["All of it.", "Question 1?", "Answer 1.", "Question 2?", "Answer 2."]) {
          assertStringIncludes(prompt, part);
        }
        await box.do("cancel x --reason enough");
        assertEquals(await Promise.all(pids().map(isRunning)), [false, false, false]);
      } finally {
        end(pids());
      }
    }),
  );
});
