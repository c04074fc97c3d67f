/** How `worker` starts a task, and what its agent gets. */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "jsr:@std/assert@^1";
import { describe, it } from "jsr:@std/testing@^1/bdd";
import { isThere } from "./helpers.ts";
import { inBox, tally } from "./worker_box.ts";

describe("worker spawn", () => {
  it(
    "creates a branch, a worktree next to the repo, and events that git can read",
    inBox(async (box) => {
      const reply = await box.spawnTask("x", "--paths src/** docs");
      assertEquals([reply.changed, reply.state, reply.head], [true, "working", undefined]);
      assertEquals(await box.git("-C", box.tree("x"), "branch", "--show-current"), "worker/x\n");
      assertEquals(await box.events("x"), ["Queue: Do it", "Start: branch and worktree created, agent none"]);
      const message = await box.git("log", "-1", "--format=%(trailers)", "refs/worker/tasks/x");
      assertMatch(message, /^Task-Id: x\nOp-Id: \S+\nActor: hq\nFrom: queued\nTo: working\n/);
      assertEquals(await box.git("show", "refs/worker/tasks/x:brief.md"), box.read("../brief.md"));
      const { paths, start, state } = await box.task("x");
      assertEquals({ paths, start, state }, {
        paths: ["src/**", "docs"],
        start: (await box.resolve("main"))!,
        state: "working",
      });
      assertEquals(await box.git("status", "--porcelain"), "");
    }),
  );

  it(
    "starts an agent in its own process group, with its prompt, without input, and with a log",
    inBox(async (box) => {
      const agent = box.agent('cat; echo "in $PWD for $WORKER_TASK: $1"; cat "$WORKER_PROMPT"; exec sleep 100\n');
      await box.do(`spawn --taskId x --brief ../brief.md -- ${agent} word`);
      await box.until(async () => (await box.do("log x")).data.output.includes("All of it."));
      const { output } = (await box.do("log x")).data;
      assertStringIncludes(output, `in ${box.tree("x")} for x: word`);
      assertMatch(output, /task x.*\n.*worker\.ts submit --report -\n.*worker\.ts block/);
      assertEquals((await box.do("status x")).data.alive, true);
      await box.do("cancel x --reason enough");
    }),
  );

  it(
    "starts each agent with its command line",
    inBox(async (box) => {
      const bin = `${box.path}/bin`;
      for (const name of ["claude", "codex", "opencode"]) {
        box.agent('for word; do echo "<$word>"; done\n', `bin/${name}`);
      }
      const words: Record<string, RegExp> = {
        claude: /^<-p>\n<You are [^]*All of it\.\n>\n<--permission-mode>\n<acceptEdits>\n<--allowedTools>\n<Bash>\n$/,
        codex: /^<exec>\n<--sandbox>\n<danger-full-access>\n<You are [^]*All of it\.\n>\n$/,
        opencode: /^<run>\n<--auto>\n<You are [^]*All of it\.\n>\n$/,
      };
      for (const [agent, expected] of Object.entries(words)) {
        const environment = { PATH: `${bin}:${Deno.env.get("PATH")}` };
        await box.do(`spawn --taskId ${agent} --brief ../brief.md --agent ${agent}`, undefined, environment);
        await box.until(async () => expected.test((await box.do(`log ${agent}`)).data.output ?? ""));
      }
    }),
  );

  it(
    "refuses beyond the limit, with a full review queue, and if --paths overlap a live task's",
    inBox(async (box) => {
      await box.git("config", "worker.wip", "3");
      await box.git("config", "worker.reviewQueue", "1");
      await box.spawnTask("x", "--paths src/**");
      const overlap = await box.ask(7, "spawn --taskId y --brief ../brief.md --agent none --paths src/a.ts");
      assertStringIncludes(overlap.error?.message ?? "", "src/a.ts overlaps src/** of x");
      assertEquals(await box.resolve("refs/worker/tasks/y"), undefined);
      await box.spawnTask("y", "--paths src/a.ts --allow-overlap");
      await box.commit("x", { c: "1" });
      await box.do("submit --taskId x");
      assertStringIncludes(
        (await box.ask(6, "spawn --taskId z --brief ../brief.md --agent none")).error?.message ?? "",
        "review",
      );
      await box.git("config", "worker.reviewQueue", "2");
      await box.spawnTask("z");
      assertStringIncludes(
        (await box.ask(6, "spawn --taskId w --brief ../brief.md --agent none")).error?.message ?? "",
        "3 of 3",
      );
      assertEquals(await box.resolve("worker/w"), undefined);
      await box.do("cancel z --reason enough");
      await box.spawnTask("w");
    }),
  );

  it(
    "creates one task if 30 use the same ID at the same time",
    inBox(async (box) => {
      const args = ["spawn", "--taskId", "x", "--brief", "../brief.md", "--agent", "none"];
      const results = await Promise.all(Array.from({ length: 30 }, () => box.worker(args)));
      assertEquals(tally(results), { 0: 1, 5: 29 });
      assertEquals((await box.events("x")).length, 2);
      assertEquals(await box.state("x"), "working");
      assertEquals(await box.heal(), []);
    }),
  );

  it(
    "keeps the limit if several spawns run at the same time",
    inBox(async (box) => {
      const results = await Promise.all(
        Array.from(
          { length: 9 },
          (_, n) => box.worker(["spawn", `--taskId=x${n}`, "--brief=../brief.md", "--agent=none"]),
        ),
      );
      assertEquals(tally(results), { 0: 5, 6: 4 });
    }),
  );

  it(
    "runs worker.setup before the agent, and the task stays queued if that fails, until doctor or cancel",
    inBox(async (box) => {
      await box.git("config", "worker.setup", "test -e ../../ready && touch made");
      const agent = box.agent("test -e made && echo began\n");
      const reply = await box.ask(1, `spawn --taskId x --brief ../brief.md -- ${agent}`);
      assertStringIncludes(reply.error?.hint ?? "", "doctor --fix");
      assertEquals(await box.state("x"), "queued");
      box.write("../ready", "");
      assertEquals((await box.heal()).length, 1);
      assertEquals(await box.state("x"), "working");
      await box.until(async () => (await box.do("log x")).data.output.includes("began"));
    }),
  );

  it(
    "uses an existing branch only if it is at the base",
    inBox(async (box) => {
      await box.git("branch", "worker/same");
      await box.spawnTask("same");
      await box.commit(box.repo, { a: "2\n" });
      await box.git("branch", "worker/other", "HEAD~");
      const reply = await box.ask(5, "spawn --taskId other --brief ../brief.md --agent none");
      assertStringIncludes(reply.error?.message ?? "", "There is a branch worker/other at");
      assertEquals(await box.state("other"), "queued");
      assert(!isThere(box.tree("other")));
      await box.git("branch", "-D", "worker/other");
      await box.heal();
      assertEquals(box.read(box.tree("other", "a")), "2\n");
    }),
  );

  it(
    "needs no configured author, signs no backup, and uses worker.dir",
    inBox(async (box) => {
      box.write(`${box.home}/.gitconfig`, "[commit]\ngpgSign = true\n[gpg]\nprogram = false\n");
      await box.git("config", "worker.dir", box.at("inside"));
      assertStringIncludes((await box.ask(2, "overlaps")).error?.message ?? "", "outside the repo");
      await box.git("config", "worker.dir", "~/trees");
      await box.spawnTask("x");
      const tree = `${box.home}/trees/x`;
      await box.git("config", "commit.gpgSign", "false"); // for the commit that is made here
      const head = await box.commit(tree, { c: "1\n" });
      await box.do("submit", tree);
      await box.do(`review start x --head ${head} --actor eve`);
      await box.do(`review approve x --head ${head} --actor eve`);
      await box.do("merge x");
      assertEquals(await box.git("log", "-1", "--format=%an", "main"), "worker\n");
      await box.git("config", "--unset", "commit.gpgSign");
      await box.do("cancel x --cleanup");
      assert(!isThere(tree));
    }),
  );

  it(
    "uses a worktree whose post-checkout hook failed",
    inBox(async (box) => {
      box.write(".git/hooks/post-checkout", "#!/bin/sh\nexit 1\n");
      Deno.chmodSync(box.at(".git/hooks/post-checkout"), 0o755);
      await box.spawnTask("x");
      assertEquals(box.read(box.tree("x", "a")), "1\n");
    }),
  );

  it(
    "passes a brief that fits no command line as a file",
    inBox(async (box) => {
      box.write("../brief.md", "long ".repeat(40_000));
      box.agent('echo "<$2>"; cat "$WORKER_PROMPT" | wc -w\n', "bin/claude");
      await box.do("spawn --taskId x --brief ../brief.md", undefined, {
        PATH: `${box.path}/bin:${Deno.env.get("PATH")}`,
      });
      await box.until(async () =>
        /<Do what .*prompt.md says.*>\n\s*40\d{3}\n/.test((await box.do("log x")).data.output ?? "")
      );
    }),
  );

  it(
    "gives the same answer for the same operation ID, and refuses it for another command or task",
    inBox(async (box) => {
      const line = "spawn --taskId x --brief ../brief.md --agent none --op-id one";
      const first = await box.do(line);
      const tip = await box.resolve("refs/worker/tasks/x");
      await box.do("block --question why --taskId x --op-id two");
      assertEquals(await box.do(line), first);
      assertStringIncludes((await box.ask(2, line.replace(" x ", " y "))).error?.message ?? "", "was given to spawn");
      await box.ask(2, "resume x --answer because --op-id two");
      assertEquals(await box.resolve("refs/worker/tasks/x~"), tip);
      const waiting = "spawn --taskId z --brief ../brief.md --agent none --depends-on x --op-id three";
      assertEquals(await box.do(waiting), await box.do(waiting));
    }),
  );
});
