/** What `worker doctor` finds and repairs. */
import { assert, assertEquals, assertStringIncludes } from "jsr:@std/assert@^1";
import { describe, it } from "jsr:@std/testing@^1/bdd";
import { type State } from "../skills/hq/scripts/worker.ts";
import { isThere } from "./helpers.ts";
import { type Box, inBox } from "./worker_box.ts";

describe("worker doctor", () => {
  it(
    "creates a missing worktree again, on its branch",
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
    "reports, but doesn't change, stale locks, what belongs to no task, and a missing branch",
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
    "reports, but doesn't change, what an interrupted merge left in the base's checkout",
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
