/** Real agents as workers, reviewers and orchestrator. Every turn of their model is scripted. */
import { assertEquals } from "jsr:@std/assert@^1";
import { describe } from "jsr:@std/testing@^1/bdd";
import { type Agent, DEFAULT_AGENTS, offline, pathWith, requiresAgents } from "./agents.ts";
import { execute, isThere } from "./helpers.ts";
import { Model, type Step } from "./model.ts";
import { Box, isRunning, script } from "./worker_box.ts";

const it = requiresAgents(DEFAULT_AGENTS);

const WORKER = `${Deno.execPath()} run -A --no-config --no-lock ${script}`;

/** Steps with which a worker changes a file and submits. */
const work = (file: string): Step[] => [
  { skill: "notes" },
  { run: `echo done > ${file} && git add ${file} && git commit -qm ${file}` },
  { run: `echo 'It is done.' | ${WORKER} submit --report -` },
];

/** Steps with which a reviewer approves a task. */
const approve = (id: string, actor: string): Step[] => [
  { run: `${WORKER} review start ${id} --head $(git rev-parse worker/${id}) --actor ${actor}` },
  { run: `${WORKER} review diff ${id}` },
  { run: `${WORKER} review approve ${id} --head $(git rev-parse worker/${id}) --actor ${actor}` },
];

/** A repo, and agents whose model follows the script: the steps by a text that the agent was told. */
async function start(steps: Record<string, Step[]>): Promise<{ box: Box; model: Model } & AsyncDisposable> {
  const model = new Model(steps);
  const box = await Box.make();
  box.environment["PATH"] = pathWith(DEFAULT_AGENTS);
  box.write(`${box.home}/.profile`, `PATH='${box.environment["PATH"]}'\n`); // for Codex, which starts login shells
  for (const agent of DEFAULT_AGENTS) {
    const { environment, files } = offline(agent, model);
    Object.assign(box.environment, environment);
    for (const [path, text] of Object.entries(files)) box.write(`${box.home}/${path}`, text);
  }
  const skill = "---\nname: notes\ndescription: How notes are written\n---\n\nWrite NOTE-RULE-7.\n";
  await box.commit(box.repo, { ".claude/skills/notes/SKILL.md": skill, ".agents/skills/notes/SKILL.md": skill });
  return {
    ...{ box, model },
    async [Symbol.asyncDispose]() {
      // An agent writes to the home until it ends, also after the task was submitted.
      for (const { id } of (await box.do("list")).data.tasks) await box.worker(["cancel", id, "--reason", "over"]);
      box[Symbol.dispose]();
      await model[Symbol.asyncDispose]();
    },
  };
}

/** The reviewers' command lines, as the skill documents them. */
function reviewerCommand(agent: Agent, id: string, name: string): string[] {
  const text = Deno.readTextFileSync(new URL("../skills/hq/references/agents.md", import.meta.url));
  const [, line = ""] = new RegExp(`^    (${agent} .*)$`, "gm").exec(text.slice(text.indexOf("## Reviewers"))) ?? [];
  return Array.from(line.matchAll(/"([^"]*)"|(\S+)/g), ([, quoted, word]) => quoted ?? word!)
    .map((word) => word.replace("task ID", `task ${id}`).replace("reviewer-1", name));
}

/** Waits until a task has left `working`; gives its state. */
async function left(box: Box, id: string): Promise<string> {
  await box.do(["wait", id, "--timeout", "90"]);
  return await box.state(id);
}

describe("a real agent", () => {
  for (const agent of DEFAULT_AGENTS) {
    it(`works on a task with ${agent}: it loads a skill, commits and submits`, async () => {
      await using setting = await start({ "worker of task x": work("file") });
      const { box, model } = setting;
      await box.do(`spawn x --brief ../brief.md --agent ${agent}`);
      assertEquals(await left(box, "x"), "submitted", (await box.do("log x")).data.output);
      assertEquals(await box.git("show", "worker/x:file"), "done\n");
      const { texts } = (await box.do("status x")).data;
      assertEquals(texts["reports/1.md"], "It is done.\n");
      assertEquals(JSON.stringify(model.requests).includes("NOTE-RULE-7"), true);
      await box.until(async () => (await box.do("list")).data.tasks[0].alive === false);
      await box.do("cancel x --reason over --cleanup");
    });

    it(`asks a question with ${agent}, and gets the answer`, async () => {
      await using setting = await start({
        "The answer: blue": work("file"),
        "worker of task x": [{ run: `${WORKER} block --question 'Which colour?'` }],
      });
      const { box } = setting;
      await box.do(`spawn x --brief ../brief.md --agent ${agent}`);
      assertEquals(await left(box, "x"), "blocked");
      assertEquals((await box.task("x")).question, "Which colour?");
      await box.do("resume x --answer blue");
      assertEquals(await left(box, "x"), "submitted", (await box.do("log x")).data.output);
    });

    it(`reads a prompt with ${agent} that fits no command line`, async () => {
      const file = "prompt.md says. Read all of it first";
      await using setting = await start({ [file]: [{ run: `tail -c 30 "$WORKER_PROMPT"` }, ...work("file")] });
      const { box, model } = setting;
      box.write("../long.md", `# Do it\n${"Much to read.\n".repeat(9000)}THE-LAST-LINE\n`);
      await box.do(`spawn x --brief ../long.md --agent ${agent}`);
      assertEquals(await left(box, "x"), "submitted", (await box.do("log x")).data.output);
      assertEquals(JSON.stringify(model.requests).includes("THE-LAST-LINE"), true);
    });

    it(`reviews with ${agent}`, async () => {
      await using setting = await start({ "review task x": approve("x", "reviewer-1") });
      const { box } = setting;
      await box.submitted("x");
      const result = await execute(reviewerCommand(agent, "x", "reviewer-1"), await box.start());
      assertEquals(await box.state("x"), "approved", result.stdout + result.stderr);
    });

    it(`leaves no process of ${agent} when a task is cancelled during a command`, async () => {
      await using setting = await start({ "worker of task x": [{ run: "echo $$ > ../pid; exec sleep 300" }] });
      const { box } = setting;
      await box.do(`spawn x --brief ../brief.md --agent ${agent}`);
      const file = `${box.path}/repo.worktrees/pid`;
      for (let tries = 0; tries < 600 && !(isThere(file) && box.read(file) !== ""); tries++) {
        await new Promise((done) => setTimeout(done, 100));
      }
      const pid = box.read(file).trim();
      assertEquals(await isRunning(pid), true);
      await box.do("cancel x --reason over --cleanup");
      assertEquals(await isRunning(pid), false);
      assertEquals(isThere(box.tree("x")), false);
    });
  }

  it("directs others: Codex as HQ takes two tasks of Claude Code and OpenCode from brief to merge", async () => {
    const hq = (run: string): Step => ({ run });
    const review = (agent: Agent, id: string, name: string) => {
      const [program, ...args] = reviewerCommand(agent, id, name);
      return hq(`${program} ${args.map((word) => /^[\w-]+$/.test(word) ? word : `'${word}'`).join(" ")} </dev/null`);
    };
    await using setting = await start({
      "Use the hq skill": [
        { skill: "hq" },
        hq(`${WORKER} doctor --fix && ${WORKER} list`),
        hq(`${WORKER} spawn one --agent claude --paths one --brief - <<<'Goal: the file one.'`),
        hq(`${WORKER} spawn two --agent opencode --paths two --brief - <<<'Goal: the file two.'`),
        hq(`${WORKER} wait one --timeout 25`),
        hq(`${WORKER} wait two --timeout 25`),
        review("opencode", "one", "reviewer-1"),
        review("claude", "two", "reviewer-2"),
        hq(`${WORKER} merge one --check 'test -f one'`),
        hq(`${WORKER} merge two --check 'test -f one && test -f two'`),
        hq(`${WORKER} cancel one --cleanup && ${WORKER} cancel two --cleanup`),
      ],
      "review task one": approve("one", "reviewer-1"),
      "review task two": approve("two", "reviewer-2"),
      "worker of task one": work("one"),
      "worker of task two": work("two"),
    });
    const { box, model } = setting;
    const skill = Deno.readTextFileSync(new URL("../skills/hq/SKILL.md", import.meta.url));
    await box.commit(box.repo, { ".agents/skills/hq/SKILL.md": skill });
    const words = ["codex", "exec", "--sandbox", "danger-full-access", "Use the hq skill: make the files one and two."];
    const { stdout, stderr } = await execute(["timeout", "--kill-after=5", "180", ...words], await box.start(), 190);
    const said = stdout + stderr;
    const { data } = await box.do("list --all");
    const states = data.tasks.map(({ id, state }: { id: string; state: string }) => `${id} ${state}`);
    assertEquals(states, ["one merged", "two merged"], said);
    const [lastLine = ""] = skill.trimEnd().split("\n").slice(-1);
    assertEquals(JSON.stringify(model.requests).includes(JSON.stringify(lastLine).slice(1, -1)), true, lastLine);
    assertEquals([box.read("one"), box.read("two")], ["done\n", "done\n"]);
    assertEquals(isThere(box.tree("one")) || isThere(box.tree("two")), false);
  });
});
