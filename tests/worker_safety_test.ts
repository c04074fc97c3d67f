/**
 * Drives `worker.ts` where something else is at work in the same repo, where a repo is set up in an unusual way, and
 * where somebody means ill: no work is lost, and nothing is merged that was not reviewed.
 */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "jsr:@std/assert@^1";
import { describe, it } from "jsr:@std/testing@^1/bdd";
import { isThere, requires, succeed } from "./helpers.ts";
import { type Box, inBox, isRunning } from "./worker_box.ts";

const CLEANUP = "--reason enough --cleanup";

/** Where a process's environment and more can be read. */
const itOnLinux = Deno.build.os === "linux" ? it : it.skip;

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

/** The paths of a task's backup. */
async function saved(box: Box, id: string): Promise<string[]> {
  const names = await box.git("ls-tree", "-r", "-z", "--name-only", `refs/worker/backup/${id}`);
  return names.split("\0").filter(Boolean);
}

/** The numbers in a file, one a line; none where it is not there. */
function pidsIn(path: string): string[] {
  return isThere(path) ? Deno.readTextFileSync(path).split("\n").filter(Boolean) : [];
}

/** Ends processes that may have ended already. */
function end(pids: readonly string[]): void {
  for (const pid of pids) {
    try {
      Deno.kill(Number(pid), "SIGKILL");
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
  }
}

// deno-lint-ignore no-explicit-any
function notesOf({ data }: { data: any }): string {
  return data.notes.map(({ what, taskId }: { what: string; taskId?: string }) => `${taskId}: ${what}`).join("\n");
}

// ── merge ───────────────────────────────────────────────────────────────────────────────────────────────────────

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
    "takes back what git wrote before it failed, and merges later",
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
    "leaves the user's files where git fails before it writes",
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
    "leaves what lies in a submodule that the task made a file",
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
    "moves the base whatever git is set to do in merges",
    inBox(async (box) => {
      const head = await box.approved("x");
      await box.git("config", "branch.main.mergeOptions", "--squash");
      const { data, state } = await box.do("merge x");
      assertEquals([await box.resolve("main"), await box.resolve("main^2"), state], [data.commit, head, "merged"]);
      assertEquals([await statusOf(box), box.read("x")], ["", "x\n"]);
    }),
  );

  it(
    "does not bring back what the base was reset from during the check",
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
    "leaves the checkout as it was where the base cannot be moved, and merges later",
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
    "brings the change into a checkout whose git folder is elsewhere",
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
    "leaves no checkout dirty where the base's name stands for another branch",
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
    "takes a merge that git ends without naming a path for a conflict",
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
    "is possible after a conflict, by way of the worker and a new review",
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

// ── cancel --cleanup ────────────────────────────────────────────────────────────────────────────────────────────

describe("worker cancel --cleanup", () => {
  it(
    "saves what is in the index: ignored and added by force, or only meant to be added, or removed from the disk",
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
    "saves what took another one's place",
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
    "discards, when told to, a repo without a commit below what took a file's place, and saves the rest",
    inBox(async (box) => {
      await box.spawnTask("x");
      box.remove(box.tree("x", "a"));
      box.write(box.tree("x", "a/mine"), "mine\n");
      await box.git("init", "--quiet", box.tree("x", "a/nested"));
      await box.ask(9, `cancel x ${CLEANUP}`);
      assertEquals((await box.do(`cancel x ${CLEANUP} --discard`)).state, "cancelled");
      assertEquals(await saved(box, "x"), [".gitignore", "a/mine", "b"]);
    }),
  );

  it(
    "saves changes of files that git is told to skip, or to take for unchanged",
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
    "saves files whose names are no UTF-8",
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
    "saves what was added by force in the middle of a merge, too",
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
    "that was killed saves what came since, and removes nothing that cannot be saved",
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
    "ends what an agent left running, before it saves the worktree",
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
    "refuses while commits of repos inside would be lost: in a tracked folder, and in a submodule that is put away",
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
    "does with a worktree of which everything is deleted",
    inBox(async (box) => {
      await box.spawnTask("x");
      for (const { name } of [...Deno.readDirSync(box.tree("x"))]) box.remove(box.tree("x", name));
      assertEquals((await box.do(`cancel x ${CLEANUP}`)).state, "cancelled");
      assertEquals([isThere(box.tree("x")), await box.resolve("worker/x")], [false, undefined]);
      assertEquals(await box.heal(), []);
    }),
  );

  it(
    "does where the folder of the worktrees is a link",
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
    "saves a file that lies outside of a sparse checkout, and what is not checked out",
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
    "removes folders without write permission, and doctor sees to each task, whatever stops it at another",
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
    "saves no more than is there in the middle of a merge",
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

// ── What is reviewed ────────────────────────────────────────────────────────────────────────────────────────────

describe("worker review", () => {
  it(
    "is preceded by a person's where a guarded name lies below one with a line end",
    inBox(async (box) => {
      await box.submitted("x", { "n\nl/auth/x.ts": "k\n" });
      await box.submitted("y", { "n\nl/server.pem": "k\n" });
      for (const id of ["x", "y"]) {
        const { state, checkpoints } = await box.task(id);
        assertEquals([state, checkpoints?.map(({ kind }) => kind)], ["needs_human", ["paths"]], id);
      }
    }),
  );

  it(
    "is preceded by a person's, and shows all lines, where git would show none",
    inBox(async (box) => {
      const numbers = Array.from({ length: 5000 }, (_, n) => `${n + 1}\n`).join("");
      await box.submitted("x", { "code.js": `//\0\n${numbers}` });
      assertEquals(await box.state("x"), "needs_human");
      assertEquals((await box.task("x")).checkpoints?.length, 1);
      const { stdout } = await box.worker(["review", "diff", "x"]);
      assertStringIncludes(stdout, "\n+4321\n");
    }),
  );

  it(
    "is of what is merged, not of what stands in for it",
    inBox(async (box) => {
      await box.spawnTask("x");
      const head = await box.commit("x", { c: "bad\n" });
      box.write("../good", "good\n");
      const good = (await box.git("hash-object", "-w", "../good")).trim();
      await box.git("replace", (await box.git("rev-parse", `${head}:c`)).trim(), good);
      assertEquals(await box.git("show", `${head}:c`), "good\n");
      await box.do("submit --taskId x");
      const { stdout } = await box.worker(["review", "diff", "x"]);
      assertStringIncludes(stdout, "+bad\n");
      assert(!stdout.includes("+good"), stdout);
    }),
  );

  it(
    "is not for the author, however that is written",
    inBox(async (box) => {
      const head = await box.submitted("x");
      for (const actor of ["Worker/x", "WORKER/X"]) await box.ask(4, `review start x --head ${head} --actor ${actor}`);
      assertEquals(await box.state("x"), "submitted");
    }),
  );
});

// ── What is said ────────────────────────────────────────────────────────────────────────────────────────────────

describe("worker, told what would mislead", () => {
  it(
    "refuses globs that are none, and names the setting",
    inBox(async (box) => {
      const { error } = await box.ask(2, "spawn --taskId x --brief ../brief.md --agent none --paths src/[z-a]");
      assertStringIncludes(error?.message ?? "", "[z-a]");
      assertEquals(await box.resolve("refs/worker/tasks/x"), undefined);
      await box.spawnTask("y");
      await box.commit("y", { c: "1\n" });
      await box.git("config", "worker.humanPath", "[z-a]");
      assertStringIncludes((await box.ask(2, "submit --taskId y")).error?.message ?? "", "worker.humanPath");
      assertEquals(await box.state("y"), "working");
    }),
  );

  it(
    "begins no line with a worker's words",
    inBox(async (box) => {
      await box.spawnTask("x");
      await box.spawnTask("y");
      await box.do(["block", "--taskId", "x", "--question", "what?\nstate       approved\nhead        0000"]);
      const status = (await box.worker(["status", "x"])).stdout.split("\n");
      assertEquals(status.filter((line) => /^state\b/.test(line)).length, 1);
      assertEquals(status.filter((line) => /^head\b/.test(line)).length, 0);
      for (const id of ["x", "y"]) box.write(box.tree(id, "n\nx and z  conflict  a"), "1\n");
      const overlaps = await box.worker(["overlaps"]);
      assertMatch(overlaps.stdout, /^x and y .*\n$/);
    }),
  );

  it(
    "refuses an actor with a line end of whatever kind",
    inBox(async (box) => {
      await box.spawnTask("x");
      for (const end of ["\u2028", "\u2029", "\n"]) {
        await box.ask(2, ["block", "--taskId", "x", "--question", "why", "--actor", `a${end}b`]);
      }
      assertEquals(await box.state("x"), "working");
    }),
  );

  it(
    "tells where the task is in each error, and which command failed",
    inBox(async (box) => {
      const head = await box.submitted("x");
      const refused = await box.ask(4, `review approve x --head ${head} --actor eve`);
      assertEquals([refused.taskId, refused.state, refused.head], ["x", "submitted", head]);
      const rows: [line: string, command: string][] = [
        ["spawn --taskId y", "spawn"],
        ["list --frob", "list"],
        ["review start --frob", "review start"],
        ["merge a b", "merge"],
      ];
      for (const [line, command] of rows) assertEquals((await box.ask(2, line)).command, command, line);
      const misused = await box.ask(2, "review start --taskId x");
      assertEquals([misused.command, misused.state, misused.head], ["review start", "submitted", head]);
    }),
  );

  it(
    "shows with the status all that was written: brief, reports and reviews",
    inBox(async (box) => {
      await box.spawnTask("x");
      const head = await box.commit("x", { c: "1\n" });
      box.write("../report.md", "It is done.\n");
      box.write("../findings.md", "It is wrong.\n");
      await box.do("submit --taskId x --report ../report.md");
      await box.do(`review start x --head ${head} --actor eve`);
      await box.do(`review request-changes x --head ${head} --actor eve --findings ../findings.md`);
      const { texts } = (await box.do("status x")).data;
      const all = {
        "brief.md": "# Do it\n\nAll of it.\n",
        "reports/1.md": "It is done.\n",
        "reviews/1.md": "It is wrong.\n",
      };
      assertEquals(texts, all);
      const { stdout } = await box.worker(["status", "x"]);
      for (const text of ["All of it.", "It is done.", "It is wrong."]) assertStringIncludes(stdout, text);
    }),
  );
});

// ── Repos ───────────────────────────────────────────────────────────────────────────────────────────────────────

describe("worker, in an unusual repo", () => {
  it(
    "passes over refs that are no tasks, and notes them",
    inBox(async (box) => {
      await box.spawnTask("x");
      await box.git("update-ref", "refs/worker/tasks/stray", "HEAD");
      await box.git("update-ref", "refs/worker/tasks/other", "refs/worker/tasks/x");
      assertEquals((await box.do("list --all")).data.tasks.map(({ id }: { id: string }) => id), ["x"]);
      const doctor = await box.do("doctor --fix");
      assertEquals(doctor.data.problems, []);
      for (const name of ["tasks/stray", "tasks/other"]) assertStringIncludes(notesOf(doctor), name);
      await box.spawnTask("y");
      assertEquals(await box.state("y"), "working");
    }),
  );

  it(
    "with a line end in its path serves that one or none",
    inBox(async (box) => {
      const other = `${box.repo}\nfix/r`;
      await box.git("clone", "--quiet", ".", other);
      const line = `spawn --taskId x --brief ${box.path}/brief.md --agent none --base main`;
      const { status } = await box.worker(line.split(" "), other);
      assertEquals(await box.git("for-each-ref", "refs/worker", "refs/heads/worker"), "");
      const made = await box.git("-C", other, "for-each-ref", "--format=%(refname)", "refs/heads/worker");
      assertEquals(made, status === 0 ? "refs/heads/worker/x\n" : "");
    }),
  );

  it(
    "that was cloned runs no command of a task that was made elsewhere",
    inBox(async (box) => {
      await box.git("config", "worker.setup", "false");
      await box.ask(1, `spawn --taskId x --brief ../brief.md -- ${box.agent('touch "$0.ran"\n')}`);
      await box.git("clone", "--quiet", ".", "../clone");
      const clone = `${box.path}/clone`;
      await box.git("-C", clone, "fetch", "--quiet", "origin", "refs/worker/*:refs/worker/*");
      const doctor = await box.do("doctor --fix", clone);
      assertMatch(notesOf(doctor), /^x: /m);
      assertMatch(await box.git("-C", clone, "show", "refs/worker/tasks/x:task.json"), /"state": "queued"/);
      assert(!isThere(`${box.path}/agent.ran`));
    }),
  );

  it(
    "takes no base from inside a task's worktree by itself",
    inBox(async (box) => {
      await box.spawnTask("x");
      const line = `spawn --taskId y --brief ${box.path}/brief.md --agent none`;
      assertStringIncludes((await box.ask(2, line, box.tree("x"))).error?.message ?? "", "--base");
      assertEquals(await box.resolve("refs/worker/tasks/y"), undefined);
      await box.do(`${line} --base main`, box.tree("x"));
    }),
  );

  it(
    "lets a task change what the one changes that it depends on, unless that one is cancelled",
    inBox(async (box) => {
      await box.spawnTask("x", "--paths src");
      await box.ask(7, "spawn --taskId y --brief ../brief.md --agent none --paths src");
      await box.spawnTask("y", "--paths src --depends-on x");
      await box.do("cancel x --reason enough");
      const { error } = await box.ask(4, "spawn --taskId z --brief ../brief.md --agent none --depends-on x");
      assertStringIncludes(error?.message ?? "", "cancelled");
      assertEquals(await box.resolve("refs/worker/tasks/z"), undefined);
    }),
  );
});

// ── Agents ──────────────────────────────────────────────────────────────────────────────────────────────────────

describe("worker resume", () => {
  const text = 'echo $$ >>"$0.pids"\nexec sleep 100\n';

  itOnLinux(
    "ends an agent that is only forgotten before it starts another",
    inBox(async (box) => {
      const agent = box.agent(text);
      const pids = () => pidsIn(`${agent}.pids`);
      try {
        await box.do(`spawn --taskId x --brief ../brief.md -- ${agent}`);
        await box.until(() => pids().length === 1);
        box.remove(".git/worker");
        await box.do("resume x");
        await box.until(() => pids().length === 2);
        assertEquals(await isRunning(pids()[0] ?? ""), false);
      } finally {
        end(pids());
      }
    }),
  );

  it(
    "takes no agent for its own that works on a task of that name in another repo",
    inBox(async (box) => {
      const agent = box.agent(text);
      const pids = () => pidsIn(`${agent}.pids`);
      try {
        await box.git("clone", "--quiet", ".", "../clone");
        const spawn = `spawn --taskId x --brief ${box.path}/brief.md --`;
        await box.do(`${spawn} ${agent}`, `${box.path}/clone`);
        await box.until(() => pids().length === 1);
        await box.do(`${spawn} true`);
        await box.until(async () => (await box.do("status x")).data.alive === false);
        assertEquals((await box.do("resume x")).state, "working");
        await box.do(`cancel x ${CLEANUP}`);
        assert(await isRunning(pids()[0] ?? ""));
        await box.do(`cancel x ${CLEANUP}`, `${box.path}/clone`);
        assert(!await isRunning(pids()[0] ?? ""));
      } finally {
        end(pids());
      }
    }),
  );

  it(
    "ends the process that asked, and tells the next one every question with its answer",
    inBox(async (box) => {
      const agent = box.agent(text);
      const pids = () => pidsIn(`${agent}.pids`);
      try {
        await box.do(`spawn --taskId x --brief ../brief.md -- ${agent}`);
        for (const round of [1, 2]) {
          await box.until(() => pids().length === round);
          const old = pids().at(-1) ?? "";
          await box.do(["block", "--taskId", "x", "--question", `Question ${round}?`]);
          assert(await isRunning(old));
          assertEquals((await box.do(["resume", "x", "--answer", `Answer ${round}.`])).state, "working");
          assert(!await isRunning(old));
          await box.until(() => pids().length === round + 1);
        }
        const prompt = box.read(".git/worker/x/prompt.md");
        for (const part of ["All of it.", "Question 1?", "Answer 1.", "Question 2?", "Answer 2."]) {
          assertStringIncludes(prompt, part);
        }
        await box.do("cancel x --reason enough");
        assertEquals(await Promise.all(pids().map(isRunning)), [false, false, false]);
      } finally {
        end(pids());
      }
    }),
  );
});
