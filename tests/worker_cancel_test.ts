/** How `worker` cancels a task or gives it up. */
import { assert, assertEquals, assertStringIncludes } from "jsr:@std/assert@^1";
import { describe, it } from "jsr:@std/testing@^1/bdd";
import { isThere, succeed } from "./helpers.ts";
import { inBox } from "./worker_box.ts";

describe("worker cancel", () => {
  it(
    "ends the agent with everything that it started, but no other process that got its ID",
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
    "saves the worktree before it removes it and its branch",
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
    "refuses and changes nothing if ignored files, nested repos or submodules would be lost",
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
    "keeps a locked worktree, and another repo in its place",
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
    "cancels once if two cancels run at the same time",
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
    "gives up a working task, and keeps everything until it is cancelled",
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
