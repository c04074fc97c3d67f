/** `worker` in repos with everything that git can have: attributes, odd names, hooks, signatures, other clones. */
import { assert, assertEquals, assertStringIncludes } from "jsr:@std/assert@^1";
import { describe, it } from "jsr:@std/testing@^1/bdd";
import { execute, isThere } from "./helpers.ts";
import { type Box, inBox, script } from "./worker_box.ts";

const lines = (change: Record<number, string>) =>
  Array.from({ length: 40 }, (_, index) => `${change[index + 1] ?? index + 1}\n`).join("");

describe("worker merge, by the project's attributes,", () => {
  /** Two tasks that change the first and the last line of a file; the first is merged. */
  async function twoTasks(box: Box, attributes: string, file: string): Promise<void> {
    await box.commit(box.repo, { ".gitattributes": attributes, [file]: lines({}) });
    await box.approved("x", { [file]: lines({ 1: "x" }) });
    await box.approved("y", { [file]: lines({ 40: "y" }) });
    await box.do("merge x");
  }

  for (const isCheckedOut of [true, false]) {
    const where = isCheckedOut ? "" : ", also if the base is not checked out";

    it(
      `reports a conflict with -merge${where}`,
      inBox(async (box) => {
        await twoTasks(box, "data.json -merge\n", "data.json");
        if (!isCheckedOut) await box.git("checkout", "--quiet", "--detach");
        assertStringIncludes((await box.ask(7, "merge y")).error?.message ?? "", "conflicts with refs/heads/main");
      }),
    );

    it(
      `merges with merge=union${where}`,
      inBox(async (box) => {
        await box.commit(box.repo, { ".gitattributes": "CHANGELOG.md merge=union\n", "CHANGELOG.md": "# Changes\n" });
        await box.approved("x", { "CHANGELOG.md": "# Changes\n- x\n" });
        await box.approved("y", { "CHANGELOG.md": "# Changes\n- y\n" });
        await box.do("merge x");
        if (!isCheckedOut) await box.git("checkout", "--quiet", "--detach");
        await box.do("merge y");
        assertEquals(await box.git("show", "main:CHANGELOG.md"), "# Changes\n- x\n- y\n");
        assertEquals((await box.git("worktree", "list")).trim().split("\n").length, 3);
      }),
    );

    it(
      `runs a driver of the project${where}`,
      inBox(async (box) => {
        await box.commit(box.repo, { ".gitattributes": "*.sum merge=ours\n", "merge.sh": "exit 0\n", "a.sum": "0\n" });
        await box.git("config", "merge.ours.driver", "sh merge.sh %A");
        await box.approved("x", { "a.sum": "x\n" });
        await box.approved("y", { "a.sum": "y\n" });
        await box.do("merge x");
        if (!isCheckedOut) await box.git("checkout", "--quiet", "--detach");
        await box.do("merge y");
        assertEquals(await box.git("show", "main:a.sum"), "x\n");
      }),
    );
  }
});

describe("worker merge", () => {
  it(
    "keeps an ignored file whose name is not UTF-8",
    inBox(async (box) => {
      const shell = async (text: string, cwd: string) => await execute(["bash", "-c", text], { cwd });
      await box.spawnTask("x");
      await shell("printf theirs > $'caf\\xe9.log'", box.tree("x"));
      await box.commit("x", {});
      const head = (await box.resolve("refs/heads/worker/x"))!;
      await box.do("submit", box.tree("x"));
      await box.do(`review start x --head ${head} --actor eve`);
      await box.do(`review approve x --head ${head} --actor eve`);
      box.write(".git/info/exclude", "*.log\n");
      await shell("printf mine > $'caf\\xe9.log'", box.repo);
      assertEquals((await box.ask(9, "merge x")).error?.code, "loses_work");
      assertEquals((await shell("cat $'caf\\xe9.log'", box.repo)).stdout, "mine");
      assertEquals(await box.state("x"), "approved");
    }),
  );

  it(
    "runs the check although a post-checkout hook fails or leaves a process behind",
    inBox(async (box) => {
      await box.approved("x");
      const pid = `${box.path}/hook.pid`;
      box.write(".git/hooks/post-checkout", `#!/bin/sh\nsleep 60 & echo $! > ${pid}\nexit 1\n`);
      Deno.chmodSync(box.at(".git/hooks/post-checkout"), 0o755);
      const before = performance.now();
      await box.spawnTask("y");
      assert(performance.now() - before < 50_000, "it waited for the process of the hook");
      Deno.kill(Number(Deno.readTextFileSync(pid)), "SIGKILL");
      await box.do(["merge", "x", "--check", "test -f x"]);
    }),
  );

  it(
    "signs its commit and uses the configured author",
    inBox(async (box) => {
      const gpg = box.agent('echo "[GNUPG:] SIG_CREATED " >&2\necho SIGNATURE\ncat > /dev/null\n', "gpg");
      await box.approved("x");
      const settings = {
        "gpg.program": gpg,
        "commit.gpgsign": "true",
        "author.name": "Ada",
        "committer.name": "Charles",
      };
      for (const [key, value] of Object.entries(settings)) await box.git("config", key, value);
      await box.do("merge x");
      assertEquals(await box.git("log", "-1", "--format=%an %cn", "main"), "Ada Charles\n");
      assertStringIncludes(await box.git("cat-file", "-p", "main"), "gpgsig SIGNATURE");
    }),
  );

  it(
    "refuses a base in the middle of a cherry-pick",
    inBox(async (box) => {
      await box.approved("x");
      await box.git("branch", "same", "HEAD");
      await box.git("commit", "--quiet", "--allow-empty", "--message=empty");
      await box.git("cherry-pick", "HEAD").catch(() => {}); // It stops, because it is empty.
      assertStringIncludes((await box.ask(4, "merge x")).error?.message ?? "", "in the middle of a cherry-pick");
      await box.git("cherry-pick", "--abort");
      await box.do("merge x");
    }),
  );
});

describe("worker", () => {
  it(
    "works with safe.bareRepository=explicit",
    inBox(async (box) => {
      await box.git("config", "--file", `${box.home}/.gitconfig`, "safe.bareRepository", "explicit");
      await box.approved("x");
      await box.do(["merge", "x", "--check", "true"]);
      await box.do("cancel x --cleanup");
      assertEquals((await box.do("doctor")).data.problems, []);
    }),
  );

  it(
    "works below a broken deno.json",
    inBox(async (box) => {
      box.write("deno.json", "{");
      const words = /^#!\/usr\/bin\/env -S (.*)\n/.exec(Deno.readTextFileSync(script))![1]!.split(" ");
      const start = await box.start({ cwd: box.repo });
      const { status, stderr } = await execute([Deno.execPath(), ...words.slice(1), script, "list"], start);
      assertEquals({ status, stderr }, { status: 0, stderr: "0 live, 0 waiting for review\n" });
    }),
  );

  it(
    "says what to do about a branch named worker",
    inBox(async (box) => {
      await box.git("branch", "worker");
      const { error } = await box.ask(4, "spawn x --brief ../brief.md --agent none");
      assertStringIncludes(error?.message ?? "", "a branch named worker");
      assertEquals(error?.hint, "git branch -m worker ANOTHER-NAME");
      assertEquals(await box.resolve("refs/worker/tasks/x"), undefined);
      await box.git("branch", "-m", "worker", "another");
      await box.spawnTask("x");
    }),
  );

  it(
    "repairs its worktrees after the repo was moved",
    inBox(async (box) => {
      await box.spawnTask("x");
      box.write(box.tree("x", "unsaved"), "mine\n");
      Deno.mkdirSync(`${box.path}/there`);
      for (const name of ["repo", "repo.worktrees"]) {
        Deno.renameSync(`${box.path}/${name}`, `${box.path}/there/${name}`);
      }
      box.repo = `${box.path}/there/repo`;
      const [{ what }] = (await box.do("doctor --fix")).data.problems;
      assertStringIncludes(what, "was moved");
      assertEquals((await box.do("doctor")).data, { problems: [], notes: [] });
      const cwd = `${box.path}/there/repo.worktrees/x`;
      assertEquals([await box.git("-C", cwd, "status", "--porcelain"), box.read(`${cwd}/unsaved`)], [
        "?? unsaved\n",
        "mine\n",
      ]);
    }),
  );

  it(
    "keeps commits in the backup that an agent has reset away",
    inBox(async (box) => {
      await box.spawnTask("x");
      const lost = await box.commit("x", { lost: "1\n" });
      await box.git("-C", box.tree("x"), "reset", "--quiet", "--hard", "HEAD~1");
      await box.commit("x", { kept: "1\n" });
      await box.do("cancel x --reason over --cleanup");
      await box.git("merge-base", "--is-ancestor", lost, "refs/worker/backup/x");
      assertEquals(await box.git("show", "refs/worker/backup/x:kept"), "1\n");
    }),
  );

  it(
    "doesn't repair what is running on another machine, and reviews in a second clone",
    inBox(async (box) => {
      const head = await box.submitted("x");
      const clone = `${box.path}/clone`;
      await box.git("clone", "--quiet", ".", clone);
      const fetch = () => box.git("-C", clone, "fetch", "--quiet", "origin", "refs/worker/*:refs/worker/*");
      await fetch();
      await box.do(`review start x --head ${head} --actor eve`, clone);
      await box.do(`review approve x --head ${head} --actor eve`, clone);
      await box.git("-C", clone, "push", "--quiet", "origin", "refs/worker/*");
      const child = await box.spawn("merge", "x", "--check", `touch ${box.path}/at-work; sleep 60`);
      await box.until(() => isThere(`${box.path}/at-work`));
      await fetch();
      const { problems, notes } = (await box.do("doctor --fix", clone)).data;
      const what = "merge is running on another machine, or was interrupted there";
      assertEquals([problems, notes[0]], [[], { taskId: "x", what }]);
      child.kill("SIGINT");
      await child.output();
      assertEquals(await box.state("x"), "approved");
    }),
  );

  it(
    "keeps another repo that uses a worktree's path now",
    inBox(async (box) => {
      await box.spawnTask("x");
      box.remove(box.tree("x"));
      await box.git("init", "--quiet", box.tree("x"));
      box.write(box.tree("x", "theirs"), "1\n");
      const { problems, notes } = (await box.do("doctor --fix")).data;
      assertEquals(problems, []);
      assertStringIncludes(notes[0].what, "is no worktree of this repo");
      await box.ask(9, "cancel x --reason over --cleanup");
      assertEquals(box.read(box.tree("x", "theirs")), "1\n");
    }),
  );

  it(
    "creates a worktree again whose directory was removed or replaced",
    inBox(async (box) => {
      await box.spawnTask("x");
      await box.commit("x", { c: "1\n" });
      for (const isEmpty of [false, true]) {
        box.remove(box.tree("x"));
        if (isEmpty) Deno.mkdirSync(box.tree("x"));
        assertStringIncludes((await box.do("doctor --fix")).data.problems[0].what, "it is created again");
        assertEquals(box.read(box.tree("x", "c")), "1\n");
      }
    }),
  );

  it(
    "copies what .worktreeinclude names into new worktrees, and removes unchanged copies with them",
    inBox(async (box) => {
      await box.commit(box.repo, {
        ".gitignore": ".env*\nother\n",
        ".worktreeinclude": ".env*\ntracked\n",
        tracked: "1\n",
      });
      for (const path of [".env", "deep/.env.local", "other"]) box.write(path, `${path}\n`);
      await box.spawnTask("x");
      const cwd = box.tree("x");
      assertEquals([box.read(`${cwd}/.env`), box.read(`${cwd}/deep/.env.local`)], [".env\n", "deep/.env.local\n"]);
      assertEquals(isThere(`${cwd}/other`), false);
      box.write(`${cwd}/.env`, "changed\n");
      assertStringIncludes((await box.ask(9, "cancel x --reason over --cleanup")).error?.message ?? "", "\n  .env");
      box.write(`${cwd}/.env`, ".env\n");
      await box.do("cancel x --reason over --cleanup");
    }),
  );

  it(
    "removes ignored files with a worktree only if they can be created again",
    inBox(async (box) => {
      await box.commit(box.repo, { ".gitignore": "node_modules/\n.venv\nbuilt/\n.env\nlinks\n" });
      await box.spawnTask("x");
      const cwd = box.tree("x");
      for (const path of ["node_modules/a/.git/x", ".venv/x", ".opencode/.gitignore"]) {
        box.write(`${cwd}/${path}`, "1\n");
      }
      box.link(`${cwd}/links`, "nowhere");
      await box.do("cancel x --reason over --cleanup");
      await box.spawnTask("y");
      box.write(`${box.tree("y")}/built/x`, "1\n");
      assertStringIncludes((await box.ask(9, "cancel y --reason over --cleanup")).error?.message ?? "", "\n  built/");
      await box.git("config", "worker.disposable", "built");
      await box.do("cancel y --reason over --cleanup");
      await box.spawnTask("z");
      box.write(`${box.tree("z")}/.env`, "1\n");
      await box.ask(9, "cancel z --reason over --cleanup");
    }),
  );

  it(
    "removes what use-skills has deployed with a worktree, unless it was edited",
    inBox(async (box) => {
      const useSkills = new URL("../use-skills.ts", import.meta.url).pathname;
      await box.git("config", "worker.setup", `${Deno.execPath()} run -A --no-config --no-lock ${useSkills}`);
      const skill = "---\nname: notes\ndescription: d\n---\n";
      await box.commit(box.repo, { ".skills": "mode copy\nnotes\n", "skills/notes/SKILL.md": skill });
      for (const isEdited of [false, true]) {
        await box.spawnTask("x");
        const deployed = box.tree("x", ".claude/skills/notes/SKILL.md");
        assertEquals(box.read(deployed), skill);
        if (isEdited) box.write(deployed, "mine\n");
        const { error } = await box.ask(isEdited ? 9 : 0, "cancel x --reason over --cleanup");
        if (isEdited) assertStringIncludes(error?.message ?? "", ":\n  .claude/skills/notes/");
      }
    }),
  );

  it(
    "finds overlapping tasks in directories with a dot",
    inBox(async (box) => {
      await box.spawnTask("x", "--paths src/MyApp.Core");
      await box.ask(7, "spawn y --brief ../brief.md --agent none --paths src/MyApp.Core/User.cs");
    }),
  );
});
