/** A task of `worker` on its way from work through review to approval. */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "jsr:@std/assert@^1";
import { describe, it } from "jsr:@std/testing@^1/bdd";
import { inBox, script, tally } from "./worker_box.ts";

describe("worker submit", () => {
  it(
    "keeps the submitted commit, which is fetched with the task, and the report",
    inBox(async (box) => {
      await box.spawnTask("x");
      const head = await box.commit("x", { c: "1\n" });
      box.write(box.tree("x", "report.md"), "Done.\n");
      const reply = await box.do("submit --report report.md", box.tree("x"));
      assertEquals([reply.state, reply.head, reply.data.files], ["submitted", head, 1]);
      assertEquals(await box.resolve("refs/worker/tasks/x^2"), head);
      assertEquals(await box.git("show", "refs/worker/tasks/x:reports/1.md"), "Done.\n");
      assertMatch(
        await box.git("log", "-1", "--format=%B", "refs/worker/tasks/x"),
        new RegExp(`Actor: worker/x\n.*\n.*\nHead: ${head}`),
      );
    }),
  );

  it(
    "refuses if nothing is committed, something is uncommitted, or the commits are elsewhere",
    inBox(async (box) => {
      await box.spawnTask("x");
      const { taskId, command, error } = await box.ask(4, "submit", box.tree("x"));
      assertEquals([taskId, command, error?.code], ["x", "submit", "state"]);
      assertStringIncludes(error?.message ?? "", "has no commit that refs/heads/main lacks");
      await box.commit("x", { c: "1\n" });
      box.write(box.tree("x", "a"), "changed\n");
      assertStringIncludes((await box.ask(4, "submit", box.tree("x"))).error?.message ?? "", "a");
      await box.git("-C", box.tree("x"), "checkout", "--quiet", "a");
      await box.git("-C", box.tree("x"), "checkout", "--quiet", "--detach");
      await box.commit("x", { c: "2\n" });
      assertStringIncludes((await box.ask(4, "submit --taskId x")).error?.message ?? "", "branch worker/x at");
      assertEquals(await box.state("x"), "working");
    }),
  );
});

describe("worker block and resume", () => {
  it(
    "pass a question to HQ, and start the agent again with the answer",
    inBox(async (box) => {
      const worker = `${Deno.execPath()} run -A ${script}`;
      const agent = box.agent(
        `if grep -q 'The answer: 42' "$WORKER_PROMPT"; then echo got it; else ${worker} block --question 'How many?'; fi\n`,
      );
      await box.do(`spawn --taskId x --brief ../brief.md -- ${agent}`);
      await box.until(async () => await box.state("x") === "blocked");
      assertEquals((await box.do("status x")).data.task.question, "How many?");
      await box.until(async () => (await box.do("status x")).data.alive === false);
      await box.ask(2, "resume x");
      assertEquals((await box.do("resume x --answer 42")).state, "working");
      await box.until(async () => (await box.do("log x")).data.output.includes("got it"));
      await box.until(async () => (await box.do("list")).data.tasks[0].stalled);
      assertStringIncludes((await box.worker(["list"])).stdout, "stalled");
      assertEquals((await box.do("resume x")).state, "working", "one that stalled is started again");
    }),
  );
});

describe("worker review", () => {
  it(
    "goes through two rounds, and shows only the fix in the second, even if the base moved",
    inBox(async (box) => {
      const first = await box.submitted("x", { c: "1\n" }, "-- true");
      await box.do(`review start x --head ${first} --actor eve`);
      const diff = async (...more: string[]) => (await box.worker(["review", "diff", "x", ...more])).stdout;
      assertEquals(await diff(), await box.git("diff", "main", first));
      await box.commit("x", { d: "unseen\n" });
      await box.do("submit --taskId x");
      assertStringIncludes(await diff(), "+1", "nobody reviewed the first");
      await box.git("-C", box.tree("x"), "reset", "--quiet", "--hard", first);
      await box.do("submit --taskId x");
      await box.do(`review start x --head ${first} --actor eve`);
      box.write("../findings.md", "c: is wrong\n");
      await box.do(`review request-changes x --head ${first} --actor eve --findings ../findings.md`);
      assertEquals(await box.git("show", "refs/worker/tasks/x:reviews/3.md"), "c: is wrong\n");
      await box.do("resume x");
      assertStringIncludes(box.read(".git/worker/x/prompt.md"), "c: is wrong");
      await box.commit(box.repo, { elsewhere: "1\n" });
      await box.git("-C", box.tree("x"), "rebase", "--quiet", "main");
      const second = await box.commit("x", { c: "2\n" });
      await box.do("submit", box.tree("x"));
      const fix = await diff();
      assertStringIncludes(fix, "-1\n+2\n");
      assert(!fix.includes("elsewhere"), fix);
      assertEquals(await diff("--whole"), await box.git("diff", "main", second));
      await box.do(`review start x --head ${second} --actor eve`);
      assertEquals((await box.do(`review approve x --head ${second.slice(0, 10)} --actor eve`)).state, "approved");
      await box.do(["resume", "x", "--answer", "Please rename it"]);
      const prompt = box.read(".git/worker/x/prompt.md");
      assertEquals([prompt.includes("c: is wrong"), prompt.includes("Please rename it")], [false, true]);
    }),
  );

  it(
    "shows only the fix, also of files that .gitattributes merges",
    inBox(async (box) => {
      await box.commit(box.repo, { ".gitattributes": "LOG merge=union\n", LOG: "1\n" });
      const first = await box.submitted("x", { LOG: "1\nmine\n" }, "-- true");
      await box.do(`review start x --head ${first} --actor eve`);
      box.write("../findings.md", "LOG is wrong\n");
      await box.do(`review request-changes x --head ${first} --actor eve --findings ../findings.md`);
      await box.commit(box.repo, { LOG: "1\ntheirs\n" });
      await box.do("resume x");
      await box.git("-C", box.tree("x"), "merge", "--quiet", "main");
      await box.commit("x", { fix: "1\n" });
      await box.do("submit", box.tree("x"));
      const { stdout } = await box.worker(["review", "diff", "x"]);
      assertEquals(stdout.match(/^diff .*/gm), ["diff --git a/fix b/fix"]);
    }),
  );

  it(
    "is refused for an author, and for another commit than the submitted one",
    inBox(async (box) => {
      const head = await box.submitted("x");
      await box.ask(4, `review approve x --head ${head} --actor eve`);
      await box.ask(4, `review start x --head ${head} --actor worker/x`);
      await box.ask(4, `review start x --head ${head} --actor eve`, undefined, { WORKER_TASK: "x" });
      await box.ask(5, `review start x --head ${(await box.resolve("main"))!} --actor eve`);
      await box.do(`review start x --head ${head} --actor eve`);
      assertEquals((await box.do(`review start x --head ${head} --actor eve`)).changed, false);
      await box.ask(4, `review start x --head ${head} --actor mallory`);
      await box.git("update-ref", "refs/heads/worker/x", "main");
      await box.ask(5, `review approve x --head ${head} --actor eve`);
      assertEquals(await box.state("x"), "reviewing");
    }),
  );

  it(
    "accepts one of several verdicts at the same time",
    inBox(async (box) => {
      const head = await box.submitted("x");
      await box.do(`review start x --head ${head} --actor eve`);
      const results = await Promise.all(["a", "b", "c", "d", "e", "f"].map(() => {
        return box.worker(["review", "approve", "x", "--head", head, "--actor", "eve"]);
      }));
      const counts = tally(results);
      assertEquals(counts[0], 1);
      assertEquals((counts[4] ?? 0) + (counts[5] ?? 0), 5);
      assertEquals((await box.events("x")).length, 5);
    }),
  );

  it(
    "is void if the branch moves after the approval, until the new head is reviewed",
    inBox(async (box) => {
      const old = await box.approved("x");
      const head = await box.commit("x", { c: "more\n" });
      assertEquals((await box.do("list")).data.tasks[0].moved, true);
      assertEquals((await box.ask(5, "merge x")).error?.code, "race");
      assertEquals((await box.do("submit", box.tree("x"))).state, "submitted");
      await box.ask(4, "merge x");
      await box.ask(5, `review start x --head ${old} --actor eve`);
      await box.do(`review start x --head ${head} --actor eve`);
    }),
  );
});

describe("worker human", () => {
  const person = { WORKER_HUMAN: "1" };
  const checkpoints: [name: string, files: Record<string, string>, kind: string][] = [
    ["authentication", { "src/auth/login.ts": "x\n" }, "paths"],
    ["secrets", { "deploy/.env": "x\n" }, "paths"],
    ["cryptography", { "lib/Crypto.ts": "x\n" }, "paths"],
    ["CI", { ".github/workflows/ci.yml": "x\n" }, "paths"],
    ["the gate's own files", { "skills/review-gate/SKILL.md": "x\n" }, "paths"],
    ["many lines", { long: "x\n".repeat(30) }, "lines"],
  ];
  for (const [name, files, kind] of checkpoints) {
    it(
      `is asked for: ${name}`,
      inBox(async (box) => {
        await box.git("config", "worker.humanLines", "20");
        const head = await box.submitted("x", files);
        const { state, checkpoints, next } = await box.task("x");
        assertEquals([state, next, checkpoints?.map((each) => each.kind)], ["needs_human", "submitted", [kind]]);
        assertEquals((await box.ask(8, `review start x --head ${head} --actor eve`)).error?.code, "needs_human");
      }),
    );
  }

  it(
    "is required for many renames, and both names are matched",
    inBox(async (box) => {
      await box.git("config", "worker.humanRenames", "1");
      await box.git("config", "--add", "worker.humanPath", "");
      await box.git("config", "--add", "worker.humanPath", "old*");
      await box.commit(box.repo, { "old 1": "one\ntwo\nthree\n", "odd\n2": "four\nfive\nsix\n", "src/auth.ts": "x\n" });
      await box.spawnTask("x");
      await box.git("-C", box.tree("x"), "mv", "--", "old 1", "-n");
      await box.git("-C", box.tree("x"), "mv", "odd\n2", "new 2");
      await box.commit("x", { "src/auth.ts": "y\n" });
      const { data } = await box.do("submit", box.tree("x"));
      assertEquals(data.checkpoints, [{ kind: "paths", detail: "old 1" }, { kind: "renames", detail: "2 of 1" }]);
    }),
  );

  it(
    "approves one head, for which the same isn't asked again",
    inBox(async (box) => {
      const head = await box.submitted("x", { ".ci/run": "x\n" });
      await box.ask(4, `human approve x --head ${head}`, undefined, { ...person, WORKER_TASK: "y" });
      const refused = await box.ask(8, `human approve x --head ${head}`);
      assertStringIncludes(refused.error?.message ?? "", "must be a terminal");
      assertEquals(await box.state("x"), "needs_human");
      await box.ask(5, `human approve x --head ${(await box.resolve("main"))!}`, undefined, person);
      const { stderr } = await box.worker(["human", "approve", "x", "--head", head], undefined, person);
      assertStringIncludes(stderr, "does not prove that a person did");
      assertEquals(await box.state("x"), "submitted");
      await box.ask(4, `human approve x --head ${head}`, undefined, person);
      await box.do(`review start x --head ${head} --actor eve`);
      box.write("../findings.md", "no\n");
      await box.do(`review request-changes x --head ${head} --actor eve --findings ../findings.md`);
      await box.do("resume x");
      assertEquals((await box.do("submit --taskId x")).state, "submitted", "the same head again");
      await box.commit("x", { ".ci/run": "y\n" });
      assertEquals((await box.do("submit --taskId x")).state, "needs_human", "another head");
    }),
  );

  it(
    "rejects with a reason that the worker gets",
    inBox(async (box) => {
      const head = await box.submitted("x", { ".ci/run": "x\n" }, "-- true");
      const args = ["human", "reject", "x", "--head", head, "--reason", "Leave CI alone"];
      assertEquals((await box.worker(args, undefined, person)).status, 0);
      assertEquals(await box.state("x"), "changes_requested");
      await box.do("resume x");
      assertStringIncludes(box.read(".git/worker/x/prompt.md"), "Leave CI alone");
    }),
  );

  for (const [verdict, state] of [["approve", "changes_requested"], ["reject", "failed"]] as const) {
    it(
      `decides at the third request for changes: ${verdict} leads to ${state}`,
      inBox(async (box) => {
        await box.spawnTask("x");
        box.write("../findings.md", "no\n");
        let head = "";
        for (const round of [1, 2, 3]) {
          head = await box.commit("x", { c: `${round}\n` });
          await box.do("submit --taskId x");
          await box.do(`review start x --head ${head} --actor eve`);
          const reply = await box.do(`review request-changes x --head ${head} --actor eve --findings ../findings.md`);
          assertEquals(reply.state, round < 3 ? "changes_requested" : "needs_human");
          if (round < 3) await box.do("resume x");
        }
        await box.commit("x", { c: "4\n" });
        assertEquals((await box.ask(8, "submit --taskId x")).error?.code, "needs_human", "no way around");
        await box.git("-C", box.tree("x"), "reset", "--quiet", "--hard", head);
        const line = `human ${verdict} x --head ${head}${verdict === "reject" ? " --reason never" : ""}`;
        assertEquals((await box.do(line, undefined, person)).state, state);
      }),
    );
  }
});
