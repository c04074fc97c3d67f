/** What `worker cancel --cleanup` saves, removes and refuses to remove. */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "jsr:@std/assert@^1";
import { describe, it } from "jsr:@std/testing@^1/bdd";
import { isThere, requires, succeed } from "./helpers.ts";
import { type Box, CLEANUP, end, inBox, isRunning, itOnLinux, pidsIn } from "./worker_box.ts";

/** The paths of a task's backup. */
async function saved(box: Box, id: string): Promise<string[]> {
  const names = await box.git("ls-tree", "-r", "-z", "--name-only", `refs/worker/backup/${id}`);
  return names.split("\0").filter(Boolean);
}

describe("worker cancel --cleanup", () => {
  it(
    "saves what is in the index: ignored files added by force, intent to add, and files that are gone from the disk",
    inBox(async (box) => {
      await box.spawnTask("x");
      const tree = box.tree("x");
      for (const name of ["ignored.forced", "ignored.meant", "staged"]) box.write(`${tree}/${name}`, `${name}\n`);
      await box.git("-C", tree, "add", "--force", "ignored.forced", "staged");
      await box.git("-C", tree, "add", "--force", "--intent-to-add", "ignored.meant");
      const blob = await box.git("-C", tree, "rev-parse", ":staged");
      box.remove(`${tree}/staged`);
      const { status, stderr } = await box.worker(`cancel x ${CLEANUP}`.split(" "));
      if (status === 9) {
        assertEquals(await box.git("-C", tree, "show", ":staged"), "staged\n");
        await box.git("-C", tree, "rm", "--quiet", "--cached", "staged");
        await box.do(`cancel x ${CLEANUP}`);
      } else {
        assertEquals(status, 0, stderr);
        assertStringIncludes(await box.git("rev-list", "--objects", "refs/worker/backup/x"), blob.trim());
      }
      for (const name of ["ignored.forced", "ignored.meant"]) {
        assertEquals(await box.git("show", `refs/worker/backup/x:${name}`), `${name}\n`);
      }
      assert(!isThere(tree));
    }),
  );

  const places: [name: string, change: (box: Box, tree: string) => void, path: string, text: string][] = [
    ["a link, of a folder", (box, tree) => box.link(`${tree}/d`, `${box.path}/outside`), "d", "LINK"],
    ["a file, of a folder", (box, tree) => box.write(`${tree}/d`, "mine\n"), "d", "mine\n"],
    ["a folder, of a file", (box, tree) => box.write(`${tree}/d/f/g`, "mine\n"), "d/f/g", "mine\n"],
  ];
  it(
    "saves files, links and directories that replace each other",
    inBox(async (box) => {
      await box.commit(box.repo, { "d/f": "1\n" });
      box.write("../outside/f", "not of the repo\n");
      const ids = places.map((_, index) => `x${index}`);
      await Promise.all(ids.map((id) => box.spawnTask(id)));
      for (const [index, [name, change, path, text]] of places.entries()) {
        const [id, tree] = [`x${index}`, box.tree(`x${index}`)];
        box.remove(`${tree}/d`);
        change(box, tree);
        await box.do(`cancel ${id} ${CLEANUP}`);
        assertEquals(await saved(box, id), [".gitignore", "a", "b", path], name);
        const expected = text === "LINK" ? `${box.path}/outside` : text;
        assertEquals(await box.git("show", `refs/worker/backup/${id}:${path}`), expected, name);
      }
      assertEquals(box.read("../outside/f"), "not of the repo\n");
    }),
  );

  it(
    "with --discard, loses a nested repo without a commit, and saves the rest",
    inBox(async (box) => {
      await box.spawnTask("x");
      box.remove(box.tree("x", "a"));
      box.write(box.tree("x", "a/mine"), "mine\n");
      box.write(".git/info/exclude", "build/\n");
      for (const path of ["a/nested", "build/nested"]) await box.git("init", "--quiet", box.tree("x", path));
      await box.ask(9, `cancel x ${CLEANUP}`);
      assertEquals((await box.do(`cancel x ${CLEANUP} --discard`)).state, "cancelled");
      assertEquals(await saved(box, "x"), [".gitignore", "a/mine", "b"]);
    }),
  );

  itOnLinux(
    "saves the rest if a file has become a pipe, and one that was to be added is a directory",
    inBox(async (box) => {
      await box.spawnTask("x");
      for (const path of ["c", "new"]) box.write(box.tree("x", path), "mine\n");
      await box.git("-C", box.tree("x"), "add", "--intent-to-add", "new");
      for (const path of ["a", "new"]) box.remove(box.tree("x", path));
      await succeed(["mkfifo", box.tree("x", "a")]);
      box.write(box.tree("x", "new/d"), "mine\n");
      await box.do(`cancel x ${CLEANUP}`);
      assertEquals(await saved(box, "x"), [".gitignore", "b", "c", "new/d"]);
    }),
  );

  it(
    "saves changes of files that are marked as skip-worktree or assume-unchanged",
    inBox(async (box) => {
      await box.commit(box.repo, { "\u00e9": "1\n", "\u00e8": "1\n" });
      await box.spawnTask("x");
      const rows = [["a", "--skip-worktree"], ["\u00e9", "--skip-worktree"], ["\u00e8", "--assume-unchanged"]] as const;
      for (const [name, how] of rows) {
        box.write(box.tree("x", name), "2\n");
        await box.git("-C", box.tree("x"), "update-index", how, name);
      }
      await box.do(`cancel x ${CLEANUP}`);
      for (const [name] of rows) assertEquals(await box.git("show", `refs/worker/backup/x:${name}`), "2\n", name);
    }),
  );

  itOnLinux(
    "saves files whose names are not UTF-8",
    inBox(async (box) => {
      await box.spawnTask("x");
      const shell = (text: string, cwd: string) => succeed(["sh", "-c", text], { cwd });
      await shell('name=$(printf "odd\\377"); echo mine >"$name"', box.tree("x"));
      await box.do(`cancel x ${CLEANUP}`);
      const show = 'git show "refs/worker/backup/x:$(printf "odd\\377")"';
      assertEquals(await shell(show, box.repo), "mine\n");
    }),
  );

  it(
    "saves what was added by force in the middle of a merge",
    inBox(async (box) => {
      await box.spawnTask("x");
      await box.commit("x", { a: "x\n" });
      await box.commit(box.repo, { a: "main\n" });
      const tree = box.tree("x");
      await box.git("-C", tree, "merge", "--quiet", "main").catch(() => {}); // it conflicts
      box.write(`${tree}/ignored.forced`, "forced\n");
      await box.git("-C", tree, "add", "--force", "ignored.forced");
      const { status, stderr } = await box.worker(`cancel x ${CLEANUP}`.split(" "));
      if (status === 9) return assertEquals(box.read(`${tree}/ignored.forced`), "forced\n");
      assertEquals(status, 0, stderr);
      assertEquals(await box.git("show", "refs/worker/backup/x:ignored.forced"), "forced\n");
      assertStringIncludes(await box.git("show", "refs/worker/backup/x:a"), "=======\nmain\n");
    }),
  );

  /** A git that ends whoever called it once the worktree is saved. */
  const killer = `PATH=\${PATH#*:}
git "$@"
status=$?
case $(git -C "$KILL_REPO" log -1 --format=%s "refs/worker/tasks/$KILL_TASK") in *saved*) kill -9 $PPID ;; esac
exit $status
`;
  it(
    "saves later changes if it is repeated after a kill, and removes nothing that can't be saved",
    inBox(async (box) => {
      box.agent(killer, "bin/git");
      for (const [id, late] of [["x", "late"], ["y", "ignored.late"]] as const) {
        await box.spawnTask(id);
        box.write(box.tree(id, "early"), "early\n");
        const environment = { PATH: `${box.path}/bin:${Deno.env.get("PATH")}`, KILL_REPO: box.repo, KILL_TASK: id };
        const { status } = await box.worker(`cancel ${id} ${CLEANUP}`.split(" "), undefined, environment);
        assert(status !== 0 && isThere(box.tree(id)), "it is killed before it removes anything");
        box.write(box.tree(id, late), "late\n");
      }
      const { data } = await box.do("doctor --fix");
      const backups = (await box.git("rev-list", "refs/worker/backup/x")).trim().split("\n");
      for (const name of ["early", "late"]) {
        const found = await Promise.all(backups.map((commit) => box.resolve(`${commit}:${name}`)));
        assert(found.some(Boolean), `${name} is saved`);
      }
      assertEquals([isThere(box.tree("x")), await box.state("x")], [false, "cancelled"]);
      assertEquals(box.read(box.tree("y", "ignored.late")), "late\n");
      assertStringIncludes(JSON.stringify(data), "ignored.late");
      await box.do("cancel y --reason enough --cleanup --discard");
      assertEquals([isThere(box.tree("y")), await box.state("y")], [false, "cancelled"]);
    }),
  );

  it(
    "ends what an agent left running before it saves the worktree",
    inBox(async (box) => {
      const child = `${box.path}/child`;
      const agent = box.agent(
        `(trap 'echo last >last; exit' TERM; echo ready >"$0.ready"; while :; do sleep 0.02; done) &\necho $! >${child}\n`,
      );
      try {
        await box.do(`spawn --taskId x --brief ../brief.md -- ${agent}`);
        await box.until(() => isThere(`${agent}.ready`) && pidsIn(child).length === 1);
        await box.until(async () => (await box.do("status x")).data.alive === false);
        const [pid = ""] = pidsIn(child);
        assert(await isRunning(pid));
        await box.do(`cancel x ${CLEANUP}`);
        assert(!await isRunning(pid));
        assert((await saved(box, "x")).includes("last"));
        assert(!isThere(box.tree("x")));
      } finally {
        end(pidsIn(child));
      }
    }),
  );

  it(
    "refuses if commits of nested repos would be lost: in a tracked directory, and in a deinitialized submodule",
    inBox(async (box) => {
      await box.commit(box.repo, { "src/s": "1\n" });
      await box.git("clone", "--quiet", ".", "../module");
      await Promise.all([box.spawnTask("x"), box.spawnTask("y")]);
      const nested = box.tree("x", "src");
      await box.git("init", "--quiet", nested);
      await box.commit(nested, { n: "1\n" });
      const file = ["-c", "protocol.file.allow=always"];
      await box.git("-C", box.tree("y"), ...file, "submodule", "--quiet", "add", `${box.path}/module`, "module");
      await box.commit("y", {});
      await box.commit(box.tree("y", "module"), { unpushed: "1\n" });
      await box.git("-C", box.tree("y"), "submodule", "--quiet", "deinit", "--force", "module");
      for (const id of ["x", "y"]) {
        assertEquals((await box.ask(9, `cancel ${id} ${CLEANUP}`)).error?.code, "loses_work", id);
        assertEquals([await box.state(id), isThere(box.tree(id))], ["working", true]);
      }
      assertEquals(await box.git("-C", nested, "log", "--format=%s"), "work\n");
      for (const id of ["x", "y"]) await box.do(`cancel ${id} ${CLEANUP} --discard`);
    }),
  );

  it(
    "deletes no other branch than the task's",
    inBox(async (box) => {
      await box.spawnTask("x");
      await box.git("symbolic-ref", "refs/heads/worker/x", "refs/heads/main");
      const base = await box.resolve("refs/heads/main");
      await box.worker(`cancel x ${CLEANUP}`.split(" "));
      assertEquals(await box.resolve("refs/heads/main"), base);
    }),
  );

  it(
    "works if everything in the worktree is deleted",
    inBox(async (box) => {
      await box.spawnTask("x");
      for (const { name } of [...Deno.readDirSync(box.tree("x"))]) box.remove(box.tree("x", name));
      assertEquals((await box.do(`cancel x ${CLEANUP}`)).state, "cancelled");
      assertEquals([isThere(box.tree("x")), await box.resolve("worker/x")], [false, undefined]);
      assertEquals(await box.heal(), []);
    }),
  );

  it(
    "works if the directory of the worktrees is a link",
    inBox(async (box) => {
      box.directory("../big");
      box.link("../repo.worktrees", `${box.path}/big`);
      await box.spawnTask("x");
      assertEquals((await box.do("list")).data.tasks[0].overlaps, []);
      await box.git("worktree", "lock", "--reason", "on a disk", `${box.path}/big/x`);
      assertStringIncludes((await box.ask(9, `cancel x ${CLEANUP}`)).error?.message ?? "", "on a disk");
      await box.git("worktree", "unlock", `${box.path}/big/x`);
      assertEquals(await box.heal(), []);
      await box.do(`cancel x ${CLEANUP}`);
      assertEquals([isThere(`${box.path}/big/x`), await box.resolve("worker/x")], [false, undefined]);
      assertEquals((await box.git("worktree", "list")).trim().split("\n").length, 1);
    }),
  );

  it(
    "saves files outside a sparse checkout, and files that are not checked out",
    inBox(async (box) => {
      await box.commit(box.repo, { "src/s": "1\n" });
      await box.spawnTask("x");
      await box.git("-C", box.tree("x"), "sparse-checkout", "set", "--no-cone", "/*", "!src/");
      assert(!isThere(box.tree("x", "src")));
      box.write(box.tree("x", "src/new"), "new\n");
      await box.do(`cancel x ${CLEANUP}`);
      assertEquals(await box.git("show", "refs/worker/backup/x:src/new"), "new\n");
      assertEquals(await box.git("show", "refs/worker/backup/x:src/s"), "1\n");
      assert(!isThere(box.tree("x")));
    }),
  );

  it(
    "refuses, before anything is saved, while the branch is checked out elsewhere",
    inBox(async (box) => {
      await box.spawnTask("x");
      await box.git("-C", box.tree("x"), "switch", "--quiet", "--detach");
      await box.git("worktree", "add", "--quiet", "../elsewhere", "worker/x");
      const tip = await box.resolve("refs/worker/tasks/x");
      const { error } = await box.ask(4, `cancel x ${CLEANUP}`);
      assertStringIncludes(error?.message ?? "", `${box.path}/elsewhere`);
      assertEquals([await box.resolve("refs/worker/tasks/x"), isThere(box.tree("x"))], [tip, true]);
      assertEquals(await box.resolve("refs/worker/backup/x"), undefined);
      await box.git("-C", `${box.path}/elsewhere`, "switch", "--quiet", "--detach");
      await box.do(`cancel x ${CLEANUP}`);
    }),
  );

  const itUnprivileged = requires("setpriv");
  itUnprivileged(
    "removes directories without write permission, and doctor examines each task although another one fails",
    inBox(async (box) => {
      for (const id of ["w", "x", "y"]) await box.spawnTask(id);
      box.write(box.tree("x", "made/deep/file"), "1\n");
      Deno.chmodSync(box.tree("x", "made/deep"), 0o555);
      Deno.chmodSync(box.tree("x", "made"), 0o555);
      const cancelled = await box.runUnprivileged("cancel", "x", ...CLEANUP.split(" "));
      assertEquals([cancelled.status, isThere(box.tree("x"))], [0, false], cancelled.stderr);
      const git = ["-c", "safe.directory=*"]; // all of it is somebody else's now
      assertEquals(await box.git(...git, "show", "refs/worker/backup/x:made/deep/file"), "1\n");
      box.write(`${box.tree(".check-w")}/made/file`, "1\n");
      Deno.chmodSync(`${box.tree(".check-w")}/made`, 0o555);
      Deno.chmodSync(box.tree("w"), 0);
      box.remove(box.tree("y"));
      const fixed = await box.runUnprivileged("doctor", "--fix");
      assertEquals([fixed.status, isThere(box.tree("y", "a"))], [0, true], fixed.stderr);
      assertMatch(fixed.stderr, / w: /);
    }),
  );

  it(
    "saves only what exists in the middle of a merge",
    inBox(async (box) => {
      await box.commit(box.repo, { gone: "1\n" });
      await box.spawnTask("x");
      await box.commit("x", { a: "x\n" });
      await box.git("rm", "--quiet", "gone");
      await box.commit(box.repo, { a: "main\n" });
      const merge = ["-C", box.tree("x"), "merge", "--quiet", "main"];
      await box.git(...merge).catch(() => "a conflict");
      await box.do("cancel x --reason enough --cleanup");
      const saved = await box.git("ls-tree", "-r", "--name-only", "refs/worker/backup/x");
      assertEquals(saved, ".gitignore\na\nb\n");
    }),
  );
});
