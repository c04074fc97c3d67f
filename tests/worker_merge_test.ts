/** How `worker` merges: what it refuses, and what it leaves alone in the base's checkout. */
import { assert, assertEquals, assertStringIncludes } from "jsr:@std/assert@^1";
import { describe, it } from "jsr:@std/testing@^1/bdd";
import { isThere } from "./helpers.ts";
import { type Box, inBox, tally } from "./worker_box.ts";

/** Submits what a task's branch has, and has it approved; gives its head. */
async function approve(box: Box, id: string): Promise<string> {
  const head = (await box.git("rev-parse", `worker/${id}`)).trim();
  await box.do(`submit --taskId ${id}`);
  await box.do(`review start ${id} --head ${head} --actor eve`);
  await box.do(`review approve ${id} --head ${head} --actor eve`);
  return head;
}

/** What git says of a checkout: nothing where it is clean. */
async function statusOf(box: Box, path = box.repo): Promise<string> {
  return await box.git("-C", path, "status", "--porcelain");
}

describe("worker merge", () => {
  it(
    "merges into a clean checkout of the base with a merge commit, and keeps untracked files",
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
    "refuses to change a dirty checkout of the base",
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
    "moves a base without a checkout, and one with a checkout elsewhere",
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
    "names the files of a conflict, and doesn't take an error of git for a conflict",
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
    "first runs the check in a temporary worktree of the merge commit",
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
    "starts dependent tasks from a base that includes it",
    inBox(async (box) => {
      await box.ask(3, "spawn --taskId y --brief ../brief.md --agent none --depends-on x");
      await box.approved("x");
      await box.git("branch", "dev");
      assertEquals(
        (await box.ask(2, "spawn --taskId y --brief ../brief.md --agent none --depends-on x --base dev")).error,
        {
          code: "usage",
          message: 'Task "x" is merged into main, and task "y" would start from dev',
          hint: "Give --base main, or leave out --depends-on",
        },
      );
      const spawned = await box.spawnTask("y", "--depends-on x");
      assertEquals([spawned.state, spawned.data, isThere(box.tree("y"))], ["queued", { missing: ["x"] }, false]);
      assertEquals((await box.do("doctor --fix")).data.notes[0].what, "it starts when these are merged: x");
      await box.do("merge x");
      assertEquals([await box.state("y"), box.read(box.tree("y", "x"))], ["working", "x\n"]);
    }),
  );

  it(
    "merges one task once, and several tasks all, if several merges run at the same time",
    inBox(async (box) => {
      for (const id of ["x", "y", "z"]) await box.approved(id);
      const results = await Promise.all(["x", "y", "z", "x", "y", "z"].map((id) => box.worker(["merge", id])));
      assertEquals(tally(results), { 0: 6 });
      assertEquals((await box.git("rev-list", "--count", "--merges", "main")).trim(), "3");
      assertEquals(await box.git("status", "--porcelain"), "");
    }),
  );
});

describe("worker merge, with the base checked out", () => {
  const inTheWay: [name: string, mine: string, theirs: string][] = [
    ["file", "ignored.txt", "ignored.txt"],
    ["folder", "ignored/mine", "ignored"],
    ["file, where the task has a folder", "ignored", "ignored/theirs"],
  ];
  for (const [name, mine, theirs] of inTheWay) {
    it(
      `leaves what is ignored there and in the way: a ${name}`,
      inBox(async (box) => {
        box.write(mine, "mine\n");
        await box.spawnTask("x");
        box.write(box.tree("x", theirs), "theirs\n");
        await box.git("-C", box.tree("x"), "add", "--force", theirs);
        await box.commit("x", {});
        await approve(box, "x");
        const base = await box.resolve("main");
        await box.ask(9, "merge x");
        assertEquals([box.read(mine), await statusOf(box)], ["mine\n", ""]);
        assertEquals([await box.state("x"), await box.resolve("main")], ["approved", base]);
      }),
    );
  }

  it(
    "reverts what git wrote before it failed, and merges later",
    inBox(async (box) => {
      await box.commit(box.repo, { deleted: "1\n" });
      await box.spawnTask("x");
      await box.git("-C", box.tree("x"), "rm", "--quiet", "deleted");
      await box.commit("x", { ".gitattributes": "zz filter=no\n", a: "2\n", a1: "1\n", zz: "z\n" });
      await box.git("config", "worker.humanPath", "");
      await approve(box, "x");
      const filter = { clean: "cat", smudge: "false", required: "true" };
      for (const [key, value] of Object.entries(filter)) await box.git("config", `filter.no.${key}`, value);
      assertEquals((await box.ask(10, "merge x")).error?.code, "git");
      assertEquals([await statusOf(box), box.read("a"), await box.state("x")], ["", "1\n", "approved"]);
      await box.git("config", "filter.no.smudge", "cat");
      await box.do("merge x");
      assertEquals([await statusOf(box), box.read("a"), box.read("zz")], ["", "2\n", "z\n"]);
    }),
  );

  it(
    "keeps the user's files if git fails before it writes",
    inBox(async (box) => {
      await box.spawnTask("x");
      await box.commit("x", { new: "theirs\n" });
      await approve(box, "x");
      box.write("new", "mine\n");
      box.write(".git/index.lock", "");
      assertEquals((await box.ask(10, "merge x")).error?.code, "git");
      assertEquals([box.read("new"), await box.state("x")], ["mine\n", "approved"]);
    }),
  );

  it(
    "keeps the content of a submodule that the task replaces by a file",
    inBox(async (box) => {
      box.write("../other/f", "f\n");
      await box.git("-C", `${box.path}/other`, "init", "--quiet", "--initial-branch=main");
      await box.commit(`${box.path}/other`, { f: "2\n" });
      const from = ["-c", "protocol.file.allow=always", "submodule", "--quiet", "add", `${box.path}/other`, "sub"];
      await box.git(...from);
      await box.git("commit", "--quiet", "--message=sub");
      await box.spawnTask("x");
      await box.git("-C", box.tree("x"), "rm", "--quiet", "--cached", "sub");
      Deno.removeSync(box.tree("x", "sub"));
      await box.commit("x", { sub: "a file\n" });
      await approve(box, "x");
      box.write("sub/new", "mine\n");
      await box.ask(9, "merge x");
      assertEquals([box.read("sub/new"), await box.state("x")], ["mine\n", "approved"]);
    }),
  );

  it(
    "moves the base whatever git's merge settings are",
    inBox(async (box) => {
      const head = await box.approved("x");
      await box.git("config", "branch.main.mergeOptions", "--squash");
      const { data, state } = await box.do("merge x");
      assertEquals([await box.resolve("main"), await box.resolve("main^2"), state], [data.commit, head, "merged"]);
      assertEquals([await statusOf(box), box.read("x")], ["", "x\n"]);
    }),
  );

  it(
    "doesn't restore commits if the base was reset during the check",
    inBox(async (box) => {
      const first = await box.resolve("main");
      await box.commit(box.repo, { bad: "1\n" });
      await box.approved("x");
      const check = `git -C ${box.repo} reset --quiet --hard HEAD~1`;
      const { error } = await box.ask(5, ["merge", "x", "--check", check]);
      assertEquals(error?.code, "race");
      assertEquals([await box.state("x"), await box.resolve("main")], ["approved", first]);
      assertEquals([isThere(box.at("bad")), await statusOf(box)], [false, ""]);
    }),
  );

  it(
    "keeps the checkout as it was if the base can't be moved, and merges later",
    inBox(async (box) => {
      await box.approved("x", { a: "2\n", x: "x\n" });
      const base = await box.resolve("main");
      box.write(".git/refs/heads/main.lock", "");
      assertEquals((await box.ask(10, "merge x")).error?.code, "git");
      assertEquals([await box.state("x"), await box.resolve("main")], ["approved", base]);
      assertEquals([await statusOf(box), box.read("a")], ["", "1\n"]);
      box.remove(".git/refs/heads/main.lock");
      const hook = '#!/bin/sh\n[ "$1" = prepared ] && grep -q refs/heads/main && exit 1\nexit 0\n';
      box.write(".git/hooks/reference-transaction", hook);
      Deno.chmodSync(box.at(".git/hooks/reference-transaction"), 0o755);
      assertEquals((await box.ask(10, "merge x")).error?.code, "git");
      assertEquals([await box.state("x"), await box.resolve("main")], ["approved", base]);
      assertEquals([await statusOf(box), box.read("a"), isThere(box.at("x"))], ["", "1\n", false]);
      box.remove(".git/hooks/reference-transaction");
      await box.do("merge x");
      assertEquals([await statusOf(box), box.read("a"), box.read("x")], ["", "2\n", "x\n"]);
    }),
  );

  const busy: [name: string, begin: (box: Box) => Promise<unknown>, end: string[]][] = [
    ["rebased", async (box) => {
      await box.git("branch", "up", "HEAD~");
      await box.git("worktree", "add", "--quiet", "../up", "up");
      await box.commit(`${box.path}/up`, { b: "up\n" });
      await box.git("rebase", "--quiet", "up").catch(() => {}); // it stops at the conflict
    }, ["rebase", "--abort"]],
    ["bisected", async (box) => {
      await box.git("bisect", "start", "HEAD", "HEAD~2");
    }, ["bisect", "reset"]],
  ];
  for (const [name, begin, over] of busy) {
    it(
      `waits while the base is being ${name}`,
      inBox(async (box) => {
        await box.commit(box.repo, { c: "1\n" });
        await box.commit(box.repo, { b: "mine\n" });
        await box.approved("x");
        await begin(box);
        const base = await box.resolve("main");
        assert(await box.resolve("HEAD") !== base, "it is under way");
        await box.ask(4, "merge x");
        assertEquals([await box.resolve("main"), await box.state("x")], [base, "approved"]);
        await box.git(...over);
        await box.do("merge x");
        assertEquals([box.read("x"), await statusOf(box)], ["x\n", ""]);
      }),
    );
  }

  it(
    "updates a checkout with a separate git directory",
    inBox(async (box) => {
      await box.git("init", "--quiet", "--separate-git-dir", `${box.path}/folder`, `${box.path}/checkout`);
      box.enter("checkout");
      await box.commit(box.repo, { a: "1\n" });
      await box.spawnTask("x");
      await box.commit((await box.do("status x")).data.worktree, { x: "x\n" });
      await approve(box, "x");
      await box.do("merge x");
      assertEquals([await statusOf(box), box.read("x")], ["", "x\n"]);
    }),
  );

  it(
    "refuses a base that is checked out twice",
    inBox(async (box) => {
      await box.approved("x");
      await box.git("worktree", "add", "--quiet", "--force", "../second", "main");
      const base = await box.resolve("main");
      await box.ask(4, "merge x");
      assertEquals([await box.resolve("main"), await box.state("x")], [base, "approved"]);
      assertEquals([await statusOf(box), await statusOf(box, `${box.path}/second`)], ["", ""]);
    }),
  );

  it(
    "leaves no checkout dirty if the base is a symbolic ref to another branch",
    inBox(async (box) => {
      await box.git("symbolic-ref", "refs/heads/alias", "refs/heads/main");
      const { status } = await box.worker("spawn --taskId x --brief ../brief.md --agent none --base alias".split(" "));
      if (status === 0) {
        await box.commit("x", { x: "x\n" });
        await approve(box, "x");
        const { status } = await box.worker(["merge", "x"]);
        assertEquals(
          [isThere(box.at("x")), await box.state("x")],
          status === 0 ? [true, "merged"] : [false, "approved"],
        );
      } else assertEquals(await box.resolve("worker/x"), undefined);
      assertEquals(await statusOf(box), "");
    }),
  );

  it(
    "reports a conflict although git names no path",
    inBox(async (box) => {
      const lines = (from: number) => Array.from({ length: 30 }, (_, n) => `${from + n}\n`).join("");
      await box.commit(box.repo, { "d/f1": lines(100), "d/f2": lines(200) });
      await box.spawnTask("x");
      box.directory(box.tree("x", "e"));
      box.directory(box.tree("x", "g"));
      await box.git("-C", box.tree("x"), "mv", "d/f1", "e/f1");
      await box.git("-C", box.tree("x"), "mv", "d/f2", "g/f2");
      await box.commit("x", {});
      await box.commit(box.repo, { "d/new": "new\n" });
      await approve(box, "x");
      const base = await box.resolve("main");
      assertEquals((await box.ask(7, "merge x")).error?.code, "conflict");
      assertEquals([await box.resolve("main"), await box.state("x")], [base, "approved"]);
    }),
  );

  it(
    "is possible after a conflict, with a new commit and a new review",
    inBox(async (box) => {
      const old = await box.approved("x", { a: "x\n" });
      await box.commit(box.repo, { a: "main\n" });
      await box.ask(7, "merge x");
      assertEquals((await box.do(["resume", "x", "--answer", "Merge main"])).state, "working");
      await box.ask(4, "merge x");
      await box.git("-C", box.tree("x"), "merge", "--quiet", "main").catch(() => {}); // it conflicts
      await box.commit("x", { a: "both\n" });
      await box.do("submit --taskId x");
      await box.ask(4, "merge x");
      await box.ask(5, `review start x --head ${old} --actor eve`);
      const head = (await box.git("rev-parse", "worker/x")).trim();
      await box.do(`review start x --head ${head} --actor eve`);
      await box.do(`review approve x --head ${head} --actor eve`);
      assertEquals((await box.do("merge x")).state, "merged");
      assertEquals([box.read("a"), await statusOf(box)], ["both\n", ""]);
    }),
  );
});
