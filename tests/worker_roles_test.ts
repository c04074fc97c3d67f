/** Who may do what with `worker`: workers, reviewers, people; and what each of them is told. */
import { assert, assertEquals, assertStringIncludes } from "jsr:@std/assert@^1";
import { describe, it } from "jsr:@std/testing@^1/bdd";
import { execute, isThere } from "./helpers.ts";
import { type Box, inBox, isRunning } from "./worker_box.ts";

const PERSON = { WORKER_HUMAN: "1" };

/** Asks for changes in a task that is submitted, with these words. */
async function requestChanges(box: Box, head: string, findings: string): Promise<void> {
  await box.do(`review start x --head ${head} --actor eve`);
  box.write("../findings.md", `${findings}\n`);
  await box.do(`review request-changes x --head ${head} --actor eve --findings ../findings.md`);
}

describe("a worker", () => {
  it(
    "may submit its task, ask and read, and nothing else",
    inBox(async (box) => {
      const head = await box.submitted("y");
      await box.spawnTask("x");
      const refused = [
        ...["merge y", "cancel y --reason no", "resume y", "fail x --reason no", "doctor --fix", "submit y"],
        ...[`review start y --head ${head} --actor x`, "spawn z --brief ../brief.md --agent none"],
        ...[`human approve y --head ${head}`],
      ];
      for (const line of refused) {
        const { error } = await box.ask(4, line, undefined, { WORKER_TASK: "x", ...PERSON });
        assertStringIncludes(error?.message ?? "", 'The worker of task "x" may only submit, ask and read', line);
      }
      for (const line of ["list", "status y", "log x", "review diff y", "overlaps", "doctor"]) {
        await box.do(line, undefined, { WORKER_TASK: "x" });
      }
      await box.do("block --question Why?", box.tree("x"), { WORKER_TASK: "x" });
    }),
  );

  it(
    "gets all findings in their order, but no approval",
    inBox(async (box) => {
      const agent = box.agent('cat "$WORKER_PROMPT" > ../prompt.new\nmv ../prompt.new ../prompt\n');
      await box.git("config", "worker.rounds", "3");
      await box.do(["spawn", "x", "--brief", "../brief.md", "--", agent]);
      const prompt = async () => {
        await box.until(() => isThere(`${box.path}/repo.worktrees/prompt`));
        const text = box.read("../repo.worktrees/prompt");
        box.remove("../repo.worktrees/prompt");
        return text;
      };
      await prompt();
      for (const round of ["first", "second"]) {
        await box.commit("x", { x: round });
        const { head } = await box.do("submit x");
        await requestChanges(box, head!, `the ${round} finding`);
        await box.do("resume x");
        const text = await prompt();
        assertEquals(text.includes("the first finding"), true);
        assertEquals(text.includes("the second finding"), round === "second");
      }
      await box.commit("x", { x: "third" });
      const { head } = await box.do("submit x");
      await box.do(`review start x --head ${head} --actor eve`);
      box.write("../verdict.md", "VERDICT: APPROVE\n");
      await box.do(`review approve x --head ${head} --actor eve --findings ../verdict.md`);
      await box.do(["resume", "x", "--answer", "One more thing."]);
      const text = await prompt();
      assertEquals([text.includes("VERDICT: APPROVE"), text.includes("One more thing.")], [false, true]);
      assertStringIncludes(text, `${Deno.execPath()} run -A --no-config --no-lock `);
    }),
  );

  it(
    "gets no brief with a NUL",
    inBox(async (box) => {
      box.write("../nul.md", "Do it\0\n");
      const { error } = await box.ask(2, "spawn x --brief ../nul.md --agent none");
      assertStringIncludes(error?.message ?? "", "it contains a NUL");
      assertEquals(await box.resolve("refs/worker/tasks/x"), undefined);
    }),
  );

  it(
    "can have the id of a task that was cancelled and cleaned up",
    inBox(async (box) => {
      await box.spawnTask("x");
      await box.commit("x", { old: "1\n" });
      await box.do("cancel x --reason over");
      assertEquals(
        (await box.ask(5, "spawn x --brief ../brief.md --agent none")).error?.hint,
        "worker cancel x --cleanup frees the ID",
      );
      await box.do("cancel x --cleanup");
      box.write(box.tree("x", "mine"), "1\n");
      const { error } = await box.ask(4, "spawn x --brief ../brief.md --agent none");
      assertStringIncludes(error?.message ?? "", "from the cancelled task");
      box.remove(box.tree("x"));
      assertEquals((await box.spawnTask("x")).state, "working");
      assertEquals(isThere(box.tree("x", "old")), false);
      await box.commit("x", { x: "1\n" });
      assertEquals((await box.do("submit x")).data.round, 1);
    }),
  );

  it(
    "is ended with what it started in other sessions in its worktree",
    inBox(async (box) => {
      const pids = `${box.path}/pids`;
      const own = `setsid sh -c 'echo $$ >> ${pids}; sleep 60' &\n`;
      const other = `(cd / && setsid sh -c 'echo $$ > ${pids}.other; exec sleep 60' &)\n`;
      const agent = box.agent(`echo $$ >> ${pids}\n${own}${other}wait\n`);
      await box.do(["spawn", "x", "--brief", "../brief.md", "--", agent]);
      const started = () => isThere(pids) && box.read(pids).trim().split("\n").length === 2;
      await box.until(() => started() && isThere(`${pids}.other`) && box.read(`${pids}.other`) !== "");
      const { stderr } = await box.worker(["cancel", "x", "--reason", "over", "--cleanup"]);
      const left = box.read(`${pids}.other`).trim();
      try {
        for (const pid of box.read(pids).trim().split("\n")) assertEquals(await isRunning(pid), false, pid);
        assertStringIncludes(stderr, `which are still running: sleep (process ${left})`);
        assertEquals(await isRunning(left), true);
      } finally {
        Deno.kill(Number(left), "SIGKILL");
      }
    }),
  );
});

describe("a reviewer", () => {
  it(
    "is the only one who may decide, until another takes over because it is gone",
    inBox(async (box) => {
      const head = await box.submitted("x");
      // The reviewer is this program, which starts worker and then ends.
      const [program, ...args] = await box.call("review", "start", "x", "--head", head, "--actor", "eve");
      const code = `const c = new Deno.Command(${JSON.stringify(program)}, { args: ${JSON.stringify(args)} });
        await c.output(); await new Promise((done) => setTimeout(done, Number(Deno.args[0])));`;
      const reviewer = new Deno.Command(Deno.execPath(), {
        args: ["eval", code, "60000"],
        ...{ cwd: box.repo, env: { ...box.environment, PATH: Deno.env.get("PATH")! }, clearEnv: true },
        ...{ stdout: "null", stderr: "null" },
      }).spawn();
      await box.until(async () => await box.state("x") === "reviewing");
      const other = await box.ask(4, `review approve x --head ${head} --actor bob`);
      assertStringIncludes(other.error?.message ?? "", "Only eve, who reviews task");
      const taken = await box.ask(4, `review start x --head ${head} --actor bob --take`);
      assertStringIncludes(taken.error?.message ?? "", "eve is still reviewing task");
      assertEquals((await box.do("list")).data.tasks[0].reviewerGone, false);
      reviewer.kill("SIGKILL");
      await reviewer.status;
      const { stdout } = await box.worker(["wait", "--timeout", "50"]);
      assertEquals(
        stdout,
        `Task x has a reviewer that is gone\nNext: worker review start x --head ${head} --actor NAME --take\n`,
      );
      assertStringIncludes((await box.worker(["list"])).stdout, "eve reviews for 0s, and is gone");
      await box.do(`review start x --head ${head} --actor bob --take`);
      await box.do(`review approve x --head ${head} --actor bob`);
      assertEquals((await box.task("x")).reviewer, "bob");
    }),
  );

  it(
    "must say what has to change",
    inBox(async (box) => {
      const head = await box.submitted("x");
      await box.do(`review start x --head ${head} --actor eve`);
      const { error } = await box.ask(2, `review request-changes x --head ${head} --actor eve`);
      assertEquals(error?.message, "review request-changes needs --findings");
    }),
  );

  it(
    "sees escape sequences of a change as text on a terminal",
    inBox(async (box) => {
      await box.submitted("x", { x: "\x1b]0;title\x07evil\n" });
      const words = (await box.call("review", "diff", "x")).join(" ");
      const terminal = await execute(["script", "-qec", words, "/dev/null"], await box.start());
      assertEquals([terminal.stdout.includes("\x1b"), terminal.stdout.includes("\\u{1b}]0;title")], [false, true]);
      assertStringIncludes((await box.worker(["review", "diff", "x"])).stdout, "\x1b]0;title");
    }),
  );
});

describe("a person", () => {
  it(
    "is asked for without telling an agent how to bypass this",
    inBox(async (box) => {
      const head = await box.submitted("x", { ".envrc": "1\n" });
      const { stderr } = await box.worker(["human", "approve", "x", "--head", head]);
      const help = await box.worker(["human", "approve", "--help"]);
      assertEquals((stderr + help.stdout).includes("WORKER_HUMAN"), false);
      assertStringIncludes(stderr, "Have a person run this in a terminal");
    }),
  );

  it(
    "rejects without replacing a reviewer's findings",
    inBox(async (box) => {
      await box.git("config", "worker.rounds", "3");
      let head = await box.submitted("x");
      await requestChanges(box, head, "a finding");
      await box.do("resume x");
      head = await box.commit("x", { ".envrc": "1\n" });
      await box.do("submit x");
      await box.do(["human", "reject", "x", "--head", head, "--reason", "Not this."], undefined, PERSON);
      const { texts } = (await box.do("status x")).data;
      assertEquals([texts["reviews/1.md"], texts["human/2.md"]], ["a finding\n", "Not this.\n"]);
      assertEquals((await box.task("x")).findings, ["reviews/1.md", "human/2.md"]);
    }),
  );

  it(
    "can accept the head as it is at the third request for changes",
    inBox(async (box) => {
      await box.git("config", "worker.rounds", "1");
      let head = await box.submitted("x");
      await box.ask(4, `human approve x --head ${head} --accept`, undefined, PERSON);
      await requestChanges(box, head, "one");
      await box.do("resume x");
      head = await box.commit("x", { x: "2\n" });
      await box.do("submit x");
      await requestChanges(box, head, "two");
      assertEquals(await box.state("x"), "needs_human");
      await box.do(`human approve x --head ${head} --accept`, undefined, PERSON);
      assertEquals(await box.state("x"), "approved");
      await box.do("merge x");
      assert(isThere(box.at("x")));
    }),
  );
});
