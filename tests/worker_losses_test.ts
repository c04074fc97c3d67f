/** What `worker cancel --cleanup` takes for disposable, what it refuses to remove, and what its backup contains. */
import { assertEquals, assertStringIncludes } from "jsr:@std/assert@^1";
import { describe, it } from "jsr:@std/testing@^1/bdd";
import { Box, CLEANUP, inBox } from "./worker_box.ts";

/** A task in a repo that ignores `.env`, `node_modules/`, `config/` and `*.log`. */
async function start(files: Record<string, string> = {}): Promise<Box> {
  const box = await Box.make();
  const ignored = ".env\nnode_modules/\nconfig/\n*.log\n.venv/*\n";
  await box.commit(box.repo, { ".gitignore": ignored, "src/target/x": "1\n", ...files });
  return box;
}

/** What is said to be lost. */
async function losses(box: Box): Promise<string[]> {
  const { error } = await box.ask(9, `cancel x ${CLEANUP}`);
  return error!.message.split("\n  ").slice(1);
}

describe("worker cancel --cleanup", () => {
  const rows: [what: string, files: string[], lost: string[]][] = [
    ["in a tracked directory that is called like a disposable one", ["src/target/.env"], ["src/target/.env"]],
    ["in an untracked directory that is called like a disposable one", ["target/new", "target/.env"], ["target/.env"]],
    ["in what can be made again", ["node_modules/a/.env", ".venv/bin/b", ".venv/c.log"], []],
    ["that only has parts like what can be made again", ["config/a", "config/node_modules/b"], ["config/a"]],
    ["in a directory of which nothing is anywhere else", ["config/a/b", "config/c"], ["config/"]],
  ];
  for (const [what, files, lost] of rows) {
    it(`${lost.length > 0 ? "refuses" : "removes"} ignored files ${what}`, async () => {
      using box = await start();
      await box.spawnTask("x");
      for (const path of files) box.write(box.tree("x", path), "mine\n");
      if (lost.length > 0) assertEquals(await losses(box), lost);
      else await box.do(`cancel x ${CLEANUP}`);
    });
  }

  it("refuses a nested repo that is called like a disposable directory, but is not ignored", async () => {
    using box = await start();
    await box.spawnTask("x");
    for (const path of ["target", "node_modules/tool"]) {
      await box.git("init", "--quiet", box.tree("x", path));
      await box.commit(box.tree("x", path), { a: "1\n" });
    }
    assertEquals(await losses(box), ["target/"]);
  });

  it("removes what .worktreeinclude has copied, unless it was changed: directories, and the content of links", async () => {
    using box = await start({ ".worktreeinclude": "config/local/*\n.env\n" });
    box.write("config/local/a", "1\n");
    box.write("config/local/b", "1\n");
    box.write("../shared.env", "SECRET=1\n");
    box.link(".env", "../shared.env");
    for (const id of ["x", "y"]) await box.spawnTask(id);
    assertEquals(box.read(box.tree("x", ".env")), "SECRET=1\n");
    await box.do(`cancel y ${CLEANUP}`);
    box.write(box.tree("x", "config/local/b"), "2\n");
    box.write(box.tree("x", ".env"), "SECRET=2\n");
    assertEquals(await losses(box), [".env", "config/local/b"]);
  });

  it("saves what an unfinished rebase has put aside", async () => {
    using box = await start();
    await box.spawnTask("x");
    await box.commit("x", { a: "mine\n" });
    await box.commit(box.repo, { a: "theirs\n" });
    box.write(box.tree("x", "b"), "precious\n");
    await box.git("-C", box.tree("x"), "rebase", "--quiet", "--autostash", "main").catch(() => "a conflict");
    await box.do(`cancel x ${CLEANUP}`);
    const commits = (await box.git("rev-list", "refs/worker/backup/x")).trim().split("\n");
    const texts = await Promise.all(commits.map((commit) => box.git("show", `${commit}:b`)));
    assertEquals(texts.includes("precious\n"), true);
  });
});

describe("a reused ID", () => {
  it(
    "has nothing of the cancelled task",
    inBox(async (box) => {
      const head = await box.submitted("x");
      await box.do(`review start x --head ${head} --actor eve`);
      box.write("../findings", "old findings\n");
      await box.do(`review request-changes x --head ${head} --actor eve --findings ../findings`);
      await box.do(`cancel x ${CLEANUP}`);
      box.write("../brief.md", "Another one\n");
      await box.spawnTask("x");
      assertEquals((await box.do("status x")).data.texts, { "brief.md": "Another one\n" });
    }),
  );
});

describe("a moved repo", () => {
  it("says how its worktrees follow", async () => {
    using box = await Box.make();
    await box.spawnTask("x");
    Deno.renameSync(box.repo, `${box.path}/moved`);
    box.repo = `${box.path}/moved`;
    const hint = `mv ${box.path}/repo.worktrees ${box.path}/moved.worktrees`;
    assertStringIncludes((await box.worker(["doctor", "--fix"])).stderr, `${hint}, then worker doctor --fix`);
    assertEquals((await box.ask(4, `cancel x ${CLEANUP}`)).error?.hint, `${hint}, then worker doctor --fix`);
    Deno.renameSync(`${box.path}/repo.worktrees`, `${box.path}/moved.worktrees`);
    await box.heal();
    await box.do(`cancel x ${CLEANUP}`);
  });
});
