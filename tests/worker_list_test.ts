/** What `worker` shows: lists and overlaps. */
import { assertEquals, assertMatch } from "jsr:@std/assert@^1";
import { describe, it } from "jsr:@std/testing@^1/bdd";
import { inBox } from "./worker_box.ts";

describe("worker list", () => {
  it(
    "is the same in a new clone that has fetched refs/worker/*, with the reviewed commits",
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
    "shows the same without .git/worker, except for running processes",
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
    "finds committed, staged, unstaged, untracked and renamed files, and conflicts",
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

  it(
    "merges as .gitattributes says",
    inBox(async (box) => {
      const lines = (first: string, last: string) => [first, ...Array(9).fill("x"), last].join("\n");
      const attributes = "CHANGES merge=union\ndata -merge\n";
      await box.commit(box.repo, { ".gitattributes": attributes, CHANGES: "# log\n", data: lines("1", "1") });
      for (const [id, first, last] of [["x", "2", "1"], ["y", "1", "2"]] as const) {
        await box.spawnTask(id);
        await box.commit(id, { CHANGES: `# log\n${id}\n`, data: lines(first, last) });
      }
      const [{ files, conflicts }] = (await box.do("overlaps")).data.pairs;
      assertEquals([files, conflicts], [["CHANGES", "data"], ["data"]]);
    }),
  );
});
