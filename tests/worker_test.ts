/**
 * Drives `worker.ts` as agents and people do, in repos in temporary folders, and looks at what is then on the disk and
 * in git.
 *
 * git is the real one. Where an agent is needed, a shell script stands in for it.
 */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "jsr:@std/assert@^1";
import { describe, it } from "jsr:@std/testing@^1/bdd";
import { globsMeet, globToRegExp, type State, type Task, VERSION } from "../skills/hq/scripts/worker.ts";
import { isThere, succeed } from "./helpers.ts";
import { Box, inBox, script, tally } from "./worker_box.ts";

// ── The command line ────────────────────────────────────────────────────────────────────────────────────────────

describe("worker", () => {
  it(
    "prints its version and its help, which fits a terminal",
    inBox(async (box) => {
      assertEquals((await box.worker(["--version"])).stdout, `worker ${VERSION}\n`);
      const { stdout, status } = await box.worker(["--help"]);
      assertEquals(status, 0);
      const lines = stdout.trimEnd().split("\n");
      assert(lines.length <= 30 && lines.every((line) => line.length <= 80), stdout);
      assertEquals((await box.worker(["help"])).stdout, stdout);
      for (const group of ["review", "human"]) {
        const rows = (await box.worker([group, "--help"])).stdout.split("\n").filter((line) => line.startsWith("  "));
        assert(rows.length > 1 && rows.every((row) => row.startsWith(`  ${group} `)), rows.join("\n"));
      }
      for (const command of ["spawn", "review request-changes", "cancel", "metrics"]) {
        const help = await box.worker([...command.split(" "), "--help"]);
        assertStringIncludes(help.stdout, `Usage: worker ${command}`);
      }
    }),
  );

  const misuses: [string, string][] = [
    ["", "Which command?"],
    ["frobnicate", 'Unknown command \\"frobnicate\\"'],
    ["list --frob", 'Unknown option \\"--frob\\"'],
    ["list --cleanup", "--cleanup does not go with list"],
    ["spawn --taskId x", "spawn needs --brief"],
    ["spawn --taskId X/y --brief ../brief.md", "cannot be"],
    ["spawn --taskId -x --brief ../brief.md --agent none", "cannot be an id"],
    ["spawn --taskId x --brief ../none.md --agent none", "Cannot read --brief"],
    ["spawn --taskId x --brief ../brief.md --agent gpt", "Unknown agent"],
    ["spawn --taskId x --brief ../brief.md --agent none --base v9", "no branch"],
    ["spawn --taskId x --brief ../brief.md -- ./not-there", "is not installed"],
    ["submit", "Which task?"],
    ["merge a b", "Unexpected"],
    ["metrics --since yesterday", "--since is a date"],
  ];
  it(
    "refuses what makes no sense with exit status 2, and changes nothing",
    inBox(async (box) => {
      await Promise.all(misuses.map(async ([line, message]) => {
        const { status, stdout } = await box.worker(["--json", ...line.split(" ").filter(Boolean)]);
        assertEquals(status, 2, `${line}: ${stdout}`);
        assertStringIncludes(stdout, message);
        assertStringIncludes(stdout, '"ok": false');
      }));
      assertEquals(await box.git("for-each-ref", "--format=%(refname)"), "refs/heads/main\n");
    }),
  );

  it(
    "ends with 3 for a task that is not there, 10 outside of a repo, and 2 for a setting that is wrong",
    inBox(async (box) => {
      assertEquals((await box.ask(3, "status nothing")).error?.code, "no_task");
      assertEquals((await box.ask(10, "list", box.home)).error?.code, "git");
      await box.git("config", "worker.wip", "9");
      assertStringIncludes((await box.ask(2, "list")).error?.message ?? "", "3 to 7");
    }),
  );

  it(
    "prints on standard output only what was asked for",
    inBox(async (box) => {
      const spawn = await box.worker(["spawn", "--taskId=x", "--brief", "../brief.md", "--agent", "none"]);
      assertEquals(spawn.stdout, "");
      assertStringIncludes(spawn.stderr, box.tree("x"));
      const list = await box.worker(["list"]);
      assertMatch(list.stdout, /^ID .*\nx {3}working .* Do it\n$/);
    }),
  );

  it(
    "serves the repo it is run in: from a folder, a worktree, a hook, and a bare one",
    inBox(async (box) => {
      await box.spawnTask("x");
      box.directory("deep/er");
      const from = async (cwd: string, environment?: Record<string, string>) =>
        (await box.do("list", cwd, environment)).data.tasks.map(({ id }: Task) => id);
      assertEquals(await from(box.at("deep/er")), ["x"]);
      assertEquals(await from(box.tree("x")), ["x"]);
      assertEquals(await from(box.home, { GIT_DIR: box.at(".git"), GIT_INDEX_FILE: "nowhere" }), ["x"]);
      await box.git("clone", "--quiet", "--bare", ".", "../bare.git");
      const { data } = await box.do(
        `spawn --taskId y --brief ${box.path}/brief.md --agent none`,
        `${box.path}/bare.git`,
      );
      assertEquals(data.base, "refs/heads/main");
      assertEquals(box.read(`${box.path}/bare.worktrees/y/a`), "1\n");
    }),
  );
});

describe("globToRegExp()", () => {
  const rows: [glob: string, path: string, is: boolean][] = [
    ["*.key", "deploy/server.key", true],
    ["src/api", "src/api/v1/users.ts", true],
    ["src/api", "lib/src/api/x", false],
    ["src/*.ts", "src/a.ts", true],
    ["src/*.ts", "src/a/b.ts", false],
    ["src/**/b.ts", "src/b.ts", true],
    ["auth.*", "AUTH.ts", true],
    ["auth", "authors.md", false],
    ["/.ci", ".ci/run", true],
    ["/.ci", "sub/.ci/run", false],
    ["*authori[sz]*", "Authorise.java", true],
    ["a+(b).?", "a+(b).c", true],
  ];
  it("reads globs as .gitignore does", () => {
    for (const [glob, path, is] of rows) assertEquals(globToRegExp(glob).test(`${path}/`), is, `${glob} ${path}`);
  });
});

describe("globsMeet()", () => {
  const rows: [a: string, b: string, meet: boolean][] = [
    ["src/a/**", "src/b/**", false],
    ["src/**", "src/b/c.ts", true],
    ["src", "src/b", true],
    ["*.ts", "docs/x.md", false],
    ["*.ts", "src/x.ts", true],
    ["src/a*.ts", "src/b*.ts", false],
    ["src/a*.ts", "src/*b.ts", true],
    ["**/x", "a/b/x/y", true],
    ["src", "docs", false],
    ["docs", "src/api", false],
    ["live-1", "live-2", false],
    ["*.md", "docs", true],
  ];
  it("says whether a path could match both", () => {
    for (const [a, b, meet] of rows) {
      assertEquals([globsMeet(a, b), globsMeet(b, a)], [meet, meet], `${a} ${b}`);
    }
  });
});

// ── spawn ───────────────────────────────────────────────────────────────────────────────────────────────────────

describe("worker spawn", () => {
  it(
    "makes a branch, a worktree beside the repo, and events that git alone can read",
    inBox(async (box) => {
      const reply = await box.spawnTask("x", "--paths src/** docs");
      assertEquals([reply.changed, reply.state, reply.head], [true, "working", undefined]);
      assertEquals(await box.git("-C", box.tree("x"), "branch", "--show-current"), "worker/x\n");
      assertEquals(await box.events("x"), ["Queue: Do it", "Start: worktree and branch are made, agent none"]);
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
    "launches an agent in a group of its own, with its prompt, closed input, and its output in the log",
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
    "calls each agent with its own command line",
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
    "refuses over the limit, over a full review queue, and where --paths meet a live task's",
    inBox(async (box) => {
      await box.git("config", "worker.wip", "3");
      await box.git("config", "worker.reviewQueue", "1");
      await box.spawnTask("x", "--paths src/**");
      const overlap = await box.ask(7, "spawn --taskId y --brief ../brief.md --agent none --paths src/a.ts");
      assertStringIncludes(overlap.error?.message ?? "", "src/a.ts meets src/** of x");
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
    "lets one of 30 that race for an id win",
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
    "keeps the limit when spawns of different ids race",
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
    "runs worker.setup before the agent, and stays queued where that fails, until doctor or cancel",
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
    "adopts a left-over branch only where it is at the base",
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
    "needs nobody's name, signs no backup, and puts worktrees where worker.dir says",
    inBox(async (box) => {
      box.write(`${box.home}/.gitconfig`, "[commit]\ngpgSign = true\n[gpg]\nprogram = false\n");
      await box.git("config", "worker.dir", box.at("inside"));
      assertStringIncludes((await box.ask(2, "list")).error?.message ?? "", "outside of the repo");
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
    "takes a worktree for made whose hook failed after the fact",
    inBox(async (box) => {
      box.write(".git/hooks/post-checkout", "#!/bin/sh\nexit 1\n");
      Deno.chmodSync(box.at(".git/hooks/post-checkout"), 0o755);
      await box.spawnTask("x");
      assertEquals(box.read(box.tree("x", "a")), "1\n");
    }),
  );

  it(
    "hands a brief that fits no command line over as a file",
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
    "answers the same id of an operation in the same way, and refuses it for another command or task",
    inBox(async (box) => {
      const line = "spawn --taskId x --brief ../brief.md --agent none --op-id one";
      const first = await box.do(line);
      const tip = await box.resolve("refs/worker/tasks/x");
      await box.do("block --question why --taskId x --op-id two");
      assertEquals(await box.do(line), first);
      assertStringIncludes((await box.ask(2, line.replace(" x ", " y "))).error?.message ?? "", "was given to spawn");
      await box.ask(2, "resume x --answer because --op-id two");
      assertEquals(await box.resolve("refs/worker/tasks/x~"), tip);
    }),
  );
});

// ── From work to review ─────────────────────────────────────────────────────────────────────────────────────────

describe("worker submit", () => {
  it(
    "pins the head that is reviewed, so that it is kept and fetched, with the report",
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
    "refuses where nothing is committed, something is not, or the commits are elsewhere",
    inBox(async (box) => {
      await box.spawnTask("x");
      const { taskId, command, error } = await box.ask(4, "submit", box.tree("x"));
      assertEquals([taskId, command, error?.code], ["x", "submit", "state"]);
      assertStringIncludes(error?.message ?? "", "Nothing is committed");
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
    "take a question to HQ, and start the agent again with the answer",
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
    "takes a task through two rounds, and shows the second the fix alone, wherever the base went",
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
    }),
  );

  it(
    "is not for the author, and not for another commit than the one that was submitted",
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
    "lets one of racing verdicts win",
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
    "is void for a head that moved after it was approved, until the new one is reviewed",
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
    "is asked for: many renames, also where both names have to be looked at",
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
    "approves for that head, at which the same is not asked again",
    inBox(async (box) => {
      const head = await box.submitted("x", { ".ci/run": "x\n" });
      await box.ask(4, `human approve x --head ${head}`, undefined, { ...person, WORKER_TASK: "y" });
      const refused = await box.ask(8, `human approve x --head ${head}`);
      assertStringIncludes(refused.error?.message ?? "", "has to be a terminal");
      assertEquals(await box.state("x"), "needs_human");
      await box.ask(5, `human approve x --head ${(await box.resolve("main"))!}`, undefined, person);
      const { stderr } = await box.worker(["human", "approve", "x", "--head", head], undefined, person);
      assertStringIncludes(stderr, "proves no person");
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
    "rejects with words that the worker gets",
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

// ── merge ───────────────────────────────────────────────────────────────────────────────────────────────────────

describe("worker merge", () => {
  it(
    "merges into a base that is checked out and clean, with a merge commit, and keeps what is untracked",
    inBox(async (box) => {
      const head = await box.approved("x", { c: "1\n" });
      box.write("untracked", "mine\n");
      const base = await box.resolve("main");
      const dry = await box.do("merge x --dry-run --check true");
      assertEquals([dry.changed, dry.state, await box.resolve("main")], [false, "approved", base]);
      const { data } = await box.do("merge x");
      assertEquals(await box.resolve("main"), data.commit);
      assertEquals([await box.resolve("main^1"), await box.resolve("main^2")], [base, head]);
      assertEquals([box.read("c"), box.read("untracked")], ["1\n", "mine\n"]);
      assertEquals(await box.git("status", "--porcelain"), "?? untracked\n");
      assertEquals((await box.do("merge x")).changed, false);
    }),
  );

  it(
    "leaves a dirty checkout of the base alone",
    inBox(async (box) => {
      await box.approved("x", { c: "1\n" });
      box.write("a", "mine\n");
      const base = await box.resolve("main");
      const { error } = await box.ask(9, "merge x");
      assertStringIncludes(error?.message ?? "", "\n  a");
      await box.git("checkout", "--quiet", "a");
      box.write("c", "untracked and in the way\n");
      await box.ask(9, "merge x");
      assertEquals([box.read("c"), await box.resolve("main")], ["untracked and in the way\n", base]);
      assertEquals(await box.state("x"), "approved");
      box.remove("c");
      assertEquals((await box.do("merge x")).state, "merged");
    }),
  );

  it(
    "moves a base that is checked out nowhere, and one in another worktree",
    inBox(async (box) => {
      await box.approved("x");
      await box.git("checkout", "--quiet", "--detach");
      await box.do("merge x");
      assertEquals(await box.git("show", "main:x"), "x\n");
      assert(!isThere(box.at("x")));
      await box.git("worktree", "add", "--quiet", "../other", "main");
      await box.do("spawn --taskId y --brief ../brief.md --agent none --base main");
      const head = await box.commit("y", { y: "y\n" });
      await box.do("submit --taskId y");
      await box.do(`review start y --head ${head} --actor eve`);
      await box.do(`review approve y --head ${head} --actor eve`);
      await box.do("merge y");
      assertEquals(box.read("../other/y"), "y\n");
      assertEquals(await box.git("-C", "../other", "status", "--porcelain"), "");
    }),
  );

  for (const how of ["squash", "rebase", "ff"]) {
    it(
      `finds what came into the base by ${how} already`,
      inBox(async (box) => {
        await box.approved("x", { c: "1\n" });
        if (how === "squash") {
          await box.git("merge", "--quiet", "--squash", "worker/x");
          await box.git("commit", "--quiet", "--message=squashed");
        } else {
          if (how === "rebase") await box.commit(box.repo, { d: "1\n" });
          await box.git(
            ...(how === "rebase" ? ["cherry-pick", "worker/x"] : ["merge", "--quiet", "--ff-only", "worker/x"]),
          );
        }
        const base = await box.resolve("main");
        assertEquals((await box.do("merge x")).state, "merged");
        assertEquals(await box.resolve("main"), base);
      }),
    );
  }

  it(
    "names the files of a conflict, and takes a git error for none",
    inBox(async (box) => {
      await box.approved("x", { a: "x\n", "odd \n\tname": "x\n" });
      await box.commit(box.repo, { a: "main\n", "odd \n\tname": "main\n" });
      const base = await box.resolve("main");
      const { error } = await box.ask(7, "merge x");
      assertStringIncludes(error?.message ?? "", "\n  a\n  odd \\n\tname");
      assertEquals([await box.state("x"), await box.resolve("main")], ["approved", base]);
      await box.git("branch", "-m", "main", "trunk");
      assertEquals((await box.ask(10, "merge x")).error?.code, "git");
      assertEquals(await box.state("x"), "approved");
    }),
  );

  it(
    "runs the check in a throwaway worktree of the merge commit first",
    inBox(async (box) => {
      await box.approved("x", { c: "1\n" });
      await box.commit(box.repo, { d: "1\n" });
      const base = await box.resolve("main");
      const check = (text: string) => box.worker(["merge", "x", "--json", "--check", text]);
      const failed = await check("test -f c && test -f d && pwd >../../seen && echo checking; exit 3");
      assertEquals(failed.status, 7);
      assertStringIncludes(failed.stderr, "checking");
      assertStringIncludes(JSON.parse(failed.stdout).error.message, "status 3");
      const seen = box.read("../seen").trim();
      assert(seen.startsWith(box.path) && !isThere(seen), seen);
      assertEquals([await box.state("x"), await box.resolve("main")], ["approved", base]);
      assertEquals((await check("test -f c && test -f d")).status, 0);
      assertEquals((await box.git("worktree", "list")).trim().split("\n").length, 2);
    }),
  );

  it(
    "starts what depends on it, from a base that has it",
    inBox(async (box) => {
      await box.ask(3, "spawn --taskId y --brief ../brief.md --agent none --depends-on x");
      await box.approved("x");
      const spawned = await box.spawnTask("y", "--depends-on x");
      assertEquals([spawned.state, spawned.data, isThere(box.tree("y"))], ["queued", { missing: ["x"] }, false]);
      assertEquals((await box.do("doctor --fix")).data.notes[0].what, "it starts when these are merged: x");
      await box.do("merge x");
      assertEquals([await box.state("y"), box.read(box.tree("y", "x"))], ["working", "x\n"]);
    }),
  );

  it(
    "lets racing merges of one task merge it once, and of several all",
    inBox(async (box) => {
      for (const id of ["x", "y", "z"]) await box.approved(id);
      const results = await Promise.all(["x", "y", "z", "x", "y", "z"].map((id) => box.worker(["merge", id])));
      assertEquals(tally(results), { 0: 6 });
      assertEquals((await box.git("rev-list", "--count", "--merges", "main")).trim(), "3");
      assertEquals(await box.git("status", "--porcelain"), "");
    }),
  );
});

// ── cancel ──────────────────────────────────────────────────────────────────────────────────────────────────────

describe("worker cancel", () => {
  it(
    "stops the agent with all that it started, and nothing that only has its number",
    inBox(async (box) => {
      const agent = box.agent("trap '' TERM; sleep 60 & echo $! >child; sleep 60\n");
      await box.do(`spawn --taskId x --brief ../brief.md -- ${agent}`);
      await box.until(() => isThere(box.tree("x", "child")) && box.read(box.tree("x", "child")) !== "");
      const child = box.read(box.tree("x", "child")).trim();
      const isRunning = (pid: string) =>
        succeed(["ps", "-o", "stat=", "-p", pid]).then((out) => !out.startsWith("Z"), () => false);
      assert(await isRunning(child));
      assertEquals((await box.do("cancel x --reason enough")).state, "cancelled");
      await box.until(async () => !await isRunning(child));
      assertEquals((await box.do("cancel x")).changed, false);

      const other = new Deno.Command("sleep", { args: ["300"], detached: true }).spawn();
      try {
        await box.spawnTask("y");
        box.write(".git/worker/y/process", `${other.pid}\n1\nanother-boot\n`);
        await box.do("cancel y --reason enough");
        assert(await isRunning(`${other.pid}`));
      } finally {
        other.kill();
        await other.status;
      }
    }),
  );

  it(
    "saves the worktree as it was before it removes it with its branch",
    inBox(async (box) => {
      await box.spawnTask("x");
      const head = await box.commit("x", { c: "1\n" });
      box.write(box.tree("x", "a"), "unstaged\n");
      box.write(box.tree("x", "b"), "staged\n");
      box.write(box.tree("x", "-odd \n\u00e9"), "untracked\n");
      box.write(box.tree("x", "deep/untracked"), "untracked\n");
      await box.git("-C", box.tree("x"), "add", "b");
      await box.git("-C", box.tree("x"), "update-index", "--assume-unchanged", "a");
      const stash = await box.resolve("refs/stash");
      const { data } = await box.do("cancel --taskId x --reason enough --cleanup");
      assertEquals(await box.resolve("refs/worker/backup/x"), data.backup);
      assertEquals(await box.resolve(`${data.backup}^`), head);
      const names = await box.git("ls-tree", "-r", "-z", "--name-only", data.backup);
      assertEquals(names.split("\0").filter(Boolean), ["-odd \n\u00e9", ".gitignore", "a", "b", "c", "deep/untracked"]);
      assertEquals(await box.git("show", `${data.backup}:a`), "unstaged\n");
      assertEquals(await box.git("show", `${data.backup}:b`), "staged\n");
      assertEquals([isThere(box.tree("x")), await box.resolve("worker/x"), await box.resolve("refs/stash")], [
        false,
        undefined,
        stash,
      ]);
      assertEquals((await box.git("worktree", "list")).trim().split("\n").length, 1);
    }),
  );

  it(
    "refuses, with nothing changed, while something would be lost: ignored files, repos inside, submodules",
    inBox(async (box) => {
      await box.git("-c", "protocol.file.allow=always", "clone", "--quiet", ".", "../module");
      await box.spawnTask("x");
      const tree = box.tree("x");
      await box.git(
        "-C",
        tree,
        "-c",
        "protocol.file.allow=always",
        "submodule",
        "--quiet",
        "add",
        "../../module",
        "module",
      );
      await box.git("-C", tree, "commit", "--quiet", "--message=module");
      await box.git("init", "--quiet", `${tree}/nested`);
      box.write(`${tree}/ignored.env`, "secret\n");
      const tip = await box.resolve("refs/worker/tasks/x");
      await box.ask(2, "cancel --taskId x --reason enough --discard");
      const { error } = await box.ask(9, "cancel --taskId x --reason enough --cleanup");
      for (const name of ["ignored.env", "nested/", "module/"]) {
        assertStringIncludes(error?.message ?? "", `\n  ${name}`);
      }
      assertEquals([await box.resolve("refs/worker/tasks/x"), box.read(`${tree}/ignored.env`)], [tip, "secret\n"]);
      await box.do("cancel --taskId x --reason enough --cleanup --discard");
      assert(!isThere(tree));
    }),
  );

  it(
    "leaves a locked worktree, and a foreign repo that stands where one was",
    inBox(async (box) => {
      await box.spawnTask("x");
      await box.git("worktree", "lock", "--reason", "on a disk", box.tree("x"));
      assertStringIncludes((await box.ask(9, "cancel x --reason enough --cleanup")).error?.message ?? "", "on a disk");
      await box.git("worktree", "unlock", box.tree("x"));
      box.remove(box.tree("x"));
      await box.git("clone", "--quiet", ".", box.tree("x"));
      assertStringIncludes(
        (await box.ask(9, "cancel x --reason enough --cleanup")).error?.message ?? "",
        "something else",
      );
      assertEquals(await box.state("x"), "working");
      const { data } = await box.do("doctor --fix");
      assertEquals([data.problems, data.notes.length], [[], 1]);
      assert(isThere(box.tree("x", ".git/HEAD")));
      box.remove(box.tree("x"));
      await box.do("cancel x --reason enough --cleanup");
      assertEquals(await box.resolve("worker/x"), undefined);
    }),
  );

  it(
    "keeps commits that are on no branch, and cleans up after a merge",
    inBox(async (box) => {
      await box.approved("x");
      await box.do("merge x");
      await box.ask(4, "cancel x --reason late");
      await box.git("-C", box.tree("x"), "checkout", "--quiet", "--detach");
      const loose = await box.commit("x", { loose: "1\n" });
      const reply = await box.do("cancel x --cleanup");
      assertEquals([reply.state, isThere(box.tree("x")), await box.resolve("worker/x")], ["merged", false, undefined]);
      assertEquals(await box.resolve(`${reply.data.backup}^2`), loose);
      assertEquals((await box.do("cancel x --cleanup")).changed, false);
    }),
  );

  it(
    "lets racing cancels cancel once",
    inBox(async (box) => {
      await box.spawnTask("x");
      const results = await Promise.all(
        [1, 2, 3, 4].map(() => box.worker(["cancel", "x", "--reason", "enough", "--cleanup", "--json"])),
      );
      assertEquals(results.filter(({ stdout }) => JSON.parse(stdout).changed).length, 1);
      assertEquals(await box.state("x"), "cancelled");
      assertEquals(await box.heal(), []);
    }),
  );
});

describe("worker fail", () => {
  it(
    "gives up a task at work, and keeps all of it until it is cancelled",
    inBox(async (box) => {
      await box.spawnTask("x");
      assertEquals((await box.do("fail x --reason hopeless")).state, "failed");
      assert(isThere(box.tree("x")));
      assertEquals((await box.do("resume x")).state, "working");
      await box.do("fail x --reason hopeless");
      await box.do("cancel x --reason hopeless --cleanup");
      assertEquals([await box.state("x"), isThere(box.tree("x"))], ["cancelled", false]);
    }),
  );
});

// ── Looking ─────────────────────────────────────────────────────────────────────────────────────────────────────

describe("worker list", () => {
  it(
    "is the same in a fresh clone with refs/worker/* fetched, and there what is reviewed is, too",
    inBox(async (box) => {
      const head = await box.submitted("x");
      await box.spawnTask("y");
      await box.approved("z");
      await box.git("clone", "--quiet", ".", "../clone");
      await box.git("-C", "../clone", "fetch", "--quiet", "origin", "refs/worker/*:refs/worker/*");
      const clone = `${box.path}/clone`;
      const rows = async (cwd: string) =>
        // deno-lint-ignore no-explicit-any
        (await box.do("list --all", cwd)).data.tasks.map(({ overlaps: _, reviewAge: __, alive: ___, ...row }: any) =>
          row
        );
      assertEquals(await rows(clone), await rows(box.repo));
      assertEquals((await box.do("review diff x", clone)).data.diff, await box.git("diff", "main", head));
      assertEquals((await box.do("doctor --fix", clone)).data.problems, []);
    }),
  );

  it(
    "says the same, but for what runs, when .git/worker is deleted",
    inBox(async (box) => {
      await box.do(`spawn --taskId x --brief ../brief.md -- ${box.agent("exec sleep 1\n")}`);
      await box.until(async () => (await box.do("list")).data.tasks[0].alive);
      const before = (await box.do("list")).data;
      box.remove(".git/worker");
      before.tasks[0].alive = null;
      delete before.tasks[0].silent;
      assertEquals((await box.do("list")).data, before);
    }),
  );
});

describe("worker overlaps", () => {
  it(
    "finds what is committed, staged, unstaged, untracked and renamed, and what would conflict",
    inBox(async (box) => {
      await box.git("config", "worker.wip", "7");
      for (const id of ["x", "y", "z", "v", "w"]) await box.spawnTask(id);
      await box.commit("x", { a: "x\n" });
      await box.commit("y", { a: "y\n" });
      box.write(box.tree("z", "a"), "unstaged\n");
      await box.git("-C", box.tree("v"), "mv", "--", "b", "-new\n");
      box.write(box.tree("w", "-new\n"), "untracked\n");
      box.write(box.tree("w", "b"), "staged\n");
      await box.git("-C", box.tree("w"), "add", "b");
      const { data } = await box.do("overlaps");
      const found = data.pairs.map((
        { tasks, files, conflicts }: { tasks: string[]; files: string[]; conflicts: string[] },
      ) => [tasks.sort().join(), files, conflicts]).sort();
      assertEquals(found, [["v,w", ["-new\n", "b"], []], ["x,y", ["a"], ["a"]], ["x,z", ["a"], []], [
        "y,z",
        ["a"],
        [],
      ]]);
      assertEquals((await box.do("overlaps v")).data.pairs.length, 1);
      assertMatch((await box.worker(["list"])).stdout, /^x .* overlaps y {2}/m); // what is committed
    }),
  );
});

describe("worker metrics", () => {
  it(
    "measures what the events tell",
    inBox(async (box) => {
      await box.approved("x");
      await box.do("merge x");
      await box.submitted("y");
      // The times of events are what is measured: they are written anew, ten seconds apart.
      for (const id of ["x", "y"]) {
        let [parent, time] = ["", 1_800_000_000];
        for (
          const event of (await box.git("rev-list", "--first-parent", "--reverse", `refs/worker/tasks/${id}`)).trim()
            .split("\n")
        ) {
          const message = await box.git("log", "-1", "--format=%B", event);
          const date = `${time += 10} +0000`;
          const environment = { ...box.environment, GIT_AUTHOR_DATE: date, GIT_COMMITTER_DATE: date };
          const words = ["git", "commit-tree", `${event}^{tree}`, ...parent ? ["-p", parent] : [], "-m", message];
          parent = (await succeed(words, { cwd: box.repo, environment })).trim();
        }
        await box.git("update-ref", `refs/worker/tasks/${id}`, parent);
      }
      const { data } = await box.do("metrics");
      const ten = { count: 1, median: 10, p90: 10 };
      const none = { count: 0, median: null, p90: null };
      assertEquals(data.seconds, {
        review_wait: ten,
        review: ten,
        rework: none,
        merge_wait: { count: 1, median: 20, p90: 20 },
      });
      assertEquals([data.queue.depth, data.rounds.median, Object.values(data.mergedPerDay)], [1, 1, [1]]);
      assertEquals((await box.do("metrics --since 2099-01-01")).data.seconds.review.count, 0);
      assertStringIncludes((await box.worker(["metrics"])).stdout, "review_wait");
    }),
  );
});

// ── doctor ──────────────────────────────────────────────────────────────────────────────────────────────────────

describe("worker doctor", () => {
  it(
    "makes a worktree again whose folder is gone, on its branch",
    inBox(async (box) => {
      await box.spawnTask("x");
      const head = await box.commit("x", { c: "1\n" });
      await box.submitted("y");
      box.remove(box.tree("x"));
      box.remove(box.tree("y"));
      await box.git("worktree", "prune");
      assertEquals((await box.do("doctor")).data.problems.length, 2);
      assert(!isThere(box.tree("x")));
      assertEquals((await box.heal()).length, 2);
      assertEquals(
        (await box.git("-C", box.tree("x"), "rev-parse", "HEAD", "--abbrev-ref", "HEAD")).trim().split("\n"),
        [head, "worker/x"],
      );
    }),
  );

  const halves: [name: string, leave: (box: Box) => Promise<unknown> | void][] = [
    ["before it had noted where", (box) => {
      box.write(".git/worktrees/x/commondir", ""); // with which no git can list any worktree
      for (const name of ["a", "b", ".gitignore"]) box.remove(box.tree("x", name));
    }],
    ["while it checked out", async (box) => {
      await box.git("worktree", "lock", "--reason", "initializing", box.tree("x"));
      box.remove(box.tree("x", "a"));
    }],
    ["with nothing but the branch made", async (box) => {
      await box.git("worktree", "remove", box.tree("x"));
    }],
  ];
  for (const [name, leave] of halves) {
    it(
      `makes a worktree again of which git was killed ${name}`,
      inBox(async (box) => {
        await box.git("config", "worker.setup", "false");
        await box.ask(1, "spawn --taskId x --brief ../brief.md --agent none");
        await box.git("config", "worker.setup", "true");
        await leave(box);
        await box.do("doctor");
        assertEquals((await box.heal()).length, 1);
        assertEquals(await box.state("x"), "working");
        assertEquals(await box.git("-C", box.tree("x"), "status", "--porcelain", "--branch"), "## worker/x\n");
      }),
    );
  }

  it(
    "reports, and leaves: stale locks, what has no task, a branch that is gone",
    inBox(async (box) => {
      await box.spawnTask("x");
      await box.git("branch", "worker/stray");
      await box.git("worktree", "add", "--quiet", box.tree("strange"), "--detach");
      await box.git("-C", box.tree("x"), "checkout", "--quiet", "--detach");
      await box.git("branch", "--quiet", "-D", "worker/x");
      box.write(".git/index.lock", "");
      const { data } = await box.do("doctor --fix");
      assertEquals(data.problems, []);
      const notes = data.notes.map(({ what }: { what: string }) => what).join("\n");
      for (const what of ["index.lock", "worker/stray", box.tree("strange"), "worker/x is not in this repo"]) {
        assertStringIncludes(notes, what);
      }
      assert(isThere(box.at(".git/index.lock")));
    }),
  );

  const settled: [name: string, base: (box: Box) => Promise<unknown>, state: State][] = [
    ["is in the base", (box) => box.git("merge", "--quiet", "--ff-only", "refs/worker/tasks/x^2"), "merged"],
    ["is not, and the base is as it was", () => Promise.resolve(), "approved"],
    ["is not, and the base is elsewhere", (box) => box.commit(box.repo, { d: "1\n" }), "approved"],
  ];
  it(
    "tells, and leaves, what a merge that broke off left in the base's checkout",
    inBox(async (box) => {
      await box.approved("x", { a: "x\n" });
      await box.worker(["merge", "x", "--check", "kill -9 $PPID"]);
      box.write("a", "x\n");
      const { data } = await box.do("doctor --fix");
      assertStringIncludes(data.notes[0].what, "git reset --hard");
      assertEquals([box.read("a"), await box.state("x")], ["x\n", "approved"]);
      await box.ask(9, "merge x");
    }),
  );

  for (const [name, base, state] of settled) {
    it(
      `settles a merge that broke off: its commit ${name}`,
      inBox(async (box) => {
        await box.approved("x");
        // The check ends the program that runs it.
        await box.worker(["merge", "x", "--check", "kill -9 $PPID"]);
        assertEquals(await box.state("x"), "merging");
        await box.ask(4, "cancel x --reason late");
        await base(box);
        assertEquals((await box.heal()).length, 2, "the task, and the worktree of the check");
        assertEquals(await box.state("x"), state);
        assertEquals((await box.do("merge x")).state, "merged");
      }),
    );
  }
});

describe("worker, killed between any two steps", () => {
  /** A git that ends whoever called it once it was called so often. */
  const killer = `PATH=\${PATH#*:}
echo >>"$KILL_COUNT"
n=$(wc -l <"$KILL_COUNT")
git "$@"
status=$?
if [ "$n" -ge "$KILL_AT" ]; then kill -9 $PPID; fi
exit $status
`;
  const rows: [command: string, prepare: (box: Box) => Promise<string>, states: [before: State | "", after: State]][] =
    [
      [
        "spawn",
        (box) => Promise.resolve(`spawn --taskId x --brief ../brief.md -- ${box.agent("echo began >>../../began\n")}`),
        ["", "working"],
      ],
      ["submit", async (box) => {
        await box.spawnTask("x");
        await box.commit("x", { c: "1\n" });
        return "submit --taskId x";
      }, ["working", "submitted"]],
      ["review", async (box) => `review start x --head ${await box.submitted("x")} --actor eve`, [
        "submitted",
        "reviewing",
      ]],
      ["human", async (box) => `human approve x --head ${await box.submitted("x", { ".ci/x": "" })}`, [
        "needs_human",
        "submitted",
      ]],
      ["resume", async (box) => {
        await box.do(`spawn --taskId x --brief ../brief.md -- ${box.agent("echo began >>../../began\n")}`);
        await box.do("block --question why --taskId x");
        await box.until(async () => (await box.do("status x")).data.alive === false);
        box.remove("../began");
        return "resume x --answer because";
      }, ["blocked", "working"]],
      ["merge", async (box) => (await box.approved("x"), "merge x --check true"), ["approved", "merged"]],
      ["doctor", async (box) => {
        await box.git("config", "worker.setup", "false");
        await box.ask(1, "spawn --taskId x --brief ../brief.md --agent none");
        await box.git("config", "worker.setup", "true");
        box.remove(box.tree("x"));
        return "doctor --fix";
      }, ["queued", "working"]],
      ["cancel", async (box) => {
        await box.spawnTask("x");
        box.write(box.tree("x", "untracked"), "mine\n");
        return "cancel x --reason enough --cleanup";
      }, ["working", "cancelled"]],
    ];
  for (const [command, prepare, [before, after]] of rows) {
    it(
      `is put right by doctor, or by the same operation: ${command}`,
      inBox(async (box) => {
        const line = `--op-id once ${await prepare(box)}`;
        box.agent(killer, "bin/git");
        const saved = ["repo", "repo.worktrees"].filter((name) => isThere(`${box.path}/${name}`));
        await succeed(["mkdir", `${box.path}/saved`]);
        for (const name of saved) await succeed(["cp", "-a", `${box.path}/${name}`, `${box.path}/saved`]);
        const count = `${box.path}/count`;
        for (let at = 1;; at++) {
          box.write(count, "");
          const environment = {
            PATH: `${box.path}/bin:${Deno.env.get("PATH")}`,
            KILL_COUNT: count,
            KILL_AT: `${at}`,
            WORKER_HUMAN: "1",
          };
          const { status } = await box.worker(line.split(" "), undefined, environment);
          if (status === 0) break;
          const what = `${command}, killed after the call ${at} of git`;
          if (at % 2 === 0) await box.heal();
          const state = await box.resolve("refs/worker/tasks/x") === undefined ? "" : await box.state("x");
          const isMeant = command === "doctor" ? state === after : state === before || state === after;
          if (at % 2 === 0) assert(isMeant, `${what}: ${state}`);
          // The same operation again goes on, or does it now, or tells what came of it.
          const again = await box.worker(["--json", ...line.split(" ")], undefined, { WORKER_HUMAN: "1" });
          const isSettled = command === "merge" && at % 2 === 0 && again.status === 5; // doctor had to take it back
          if (isSettled) await box.do("merge x");
          else assertEquals(again.status, 0, `${what}: ${again.stderr}`);
          assertEquals(await box.state("x"), after, what);
          assertEquals((await box.do("doctor")).data.problems, [], what);
          if (command === "merge") assertEquals(box.read("x"), "x\n", what);
          if (command === "cancel") {
            assertEquals(await box.git("show", "refs/worker/backup/x:untracked"), "mine\n", what);
            assertEquals([isThere(box.tree("x")), await box.resolve("worker/x")], [false, undefined], what);
          } else assertEquals(box.read(box.tree("x", "a")), "1\n", what);
          if (command === "spawn" || command === "resume") {
            await box.until(() => isThere(`${box.path}/began`));
            await box.until(async () => (await box.do("status x")).data.alive === false);
            assertEquals(box.read("../began"), "began\n", `${what}: the agent is started once`);
            box.remove("../began");
          }
          for (const name of ["repo", "repo.worktrees"]) {
            if (isThere(`${box.path}/${name}`)) box.remove(`${box.path}/${name}`);
          }
          for (const name of saved) await succeed(["cp", "-a", `${box.path}/saved/${name}`, box.path]);
          assert(at < 100, "It is never let through");
        }
      }),
    );
  }
});
