/**
 * What `worker` does about things that agents and killed commands leave behind: commits that no branch has, processes,
 * odd file names, and state that was deleted.
 */
import { assert, assertEquals, assertStringIncludes } from "jsr:@std/assert@^1";
import { describe, it } from "jsr:@std/testing@^1/bdd";
import { execute, isThere, requires, succeed } from "./helpers.ts";
import { type Box, CLEANUP, end, inBox, isRunning } from "./worker_box.ts";

/** A name that isn't UTF-8, for a shell. */
const ODD_NAME = `"$(printf 'ignored-\\351')"`;

async function sh(box: Box, cwd: string, script: string): Promise<void> {
  const options = { args: ["-c", script], cwd, env: box.environment };
  const { success, stderr } = await new Deno.Command("sh", options).output();
  assert(success, new TextDecoder().decode(stderr));
}

/** A task whose merge was killed during its check. */
async function killedMerge(box: Box): Promise<void> {
  await box.approved("x", { a: "x\n" });
  await box.worker(["merge", "x", "--check", "kill -9 $PPID"]);
  assertEquals(await box.state("x"), "merging");
}

describe("worker cancel --cleanup", () => {
  it(
    "saves commits that were made without a branch, or on a deleted one",
    inBox(async (box) => {
      await box.spawnTask("x");
      const cwd = box.tree("x");
      await box.git("-C", cwd, "switch", "--quiet", "--detach");
      const detached = await box.commit("x", { d: "detached\n" });
      await box.git("-C", cwd, "switch", "--quiet", "--create", "other", "worker/x");
      const other = await box.commit("x", { o: "other\n" });
      await box.git("-C", cwd, "switch", "--quiet", "worker/x");
      await box.git("branch", "--quiet", "-D", "other");
      await box.do(`cancel x ${CLEANUP}`);
      const saved = await box.git("rev-list", "refs/worker/backup/x");
      for (const commit of [detached, other]) assertStringIncludes(saved, commit);
    }),
  );

  it(
    "ends what the agent has started without the task's environment",
    inBox(async (box) => {
      const pids = `${box.path}/pids`;
      const agent = box.agent(`echo $$ >> ${pids}\nenv -i sh -c 'echo $$ >> ${pids}; cd /; exec sleep 60' &\nwait\n`);
      await box.do(["spawn", "x", "--brief", "../brief.md", "--", agent]);
      const started = () => isThere(pids) ? box.read(pids).trim().split("\n") : [];
      await box.until(() => started().length === 2);
      await box.do(`cancel x ${CLEANUP}`);
      for (const pid of started()) assertEquals(await isRunning(pid), false, pid);
    }),
  );

  requires("tmux")(
    "names a tmux server that the agent has started, and leaves it with a person's session in it",
    inBox(async (box) => {
      const socket = `${box.path}/socket`;
      const agent = box.agent(`tmux -S ${socket} -f /dev/null new-session -d 'exec sleep 60'\nexec sleep 60\n`);
      await box.do(["spawn", "x", "--brief", "../brief.md", "--", agent]);
      const tmux = ["tmux", "-S", socket];
      const pidOf = () => succeed([...tmux, "display-message", "-p", "#{pid}"]).then((pid) => pid.trim(), () => "");
      try {
        await box.until(async () => await pidOf() !== "");
        const pid = await pidOf();
        await succeed([...tmux, "new-session", "-d", "-s", "mine", "-c", "/", "exec sleep 60"]);
        const { stderr } = await box.worker(`cancel x ${CLEANUP}`.split(" "));
        assertStringIncludes(stderr, `which are still running: tmux: server (process ${pid})`);
        assertEquals(await pidOf(), pid);
      } finally {
        await execute([...tmux, "kill-server"]);
      }
    }),
  );

  it(
    "ends no process whose group has the agent's number from before a reboot",
    inBox(async (box) => {
      await box.do(["spawn", "x", "--brief", "../brief.md", "--", box.agent("exit 0\n")]);
      await box.until(async () => (await box.do("list")).data.tasks[0].alive === false);
      const script = "sleep 60 >/dev/null 2>&1 & echo $$ $!";
      const [leader, pid = ""] = (await succeed(["setsid", "sh", "-c", script])).trim().split(" ");
      try {
        const [, , , folder] = box.read(".git/worker/x/process").split("\n");
        box.write(".git/worker/x/process", `${leader}\n123\n00000000-0000-0000-0000-000000000000\n${folder}\n`);
        await box.do("cancel x --reason over");
        assertEquals(await isRunning(pid), Deno.build.os === "linux");
      } finally {
        end([pid]);
      }
    }),
  );

  requires("setpriv", "python3")(
    "names a process of another user in the agent's group, and leaves it",
    inBox(async (box) => {
      await box.do("list");
      const directory = Deno.makeTempDirSync({ prefix: "setuid-" });
      const [python, pids] = [`${directory}/python`, `${box.path}/pids`];
      Deno.chmodSync(directory, 0o755);
      const program = await succeed(["python3", "-c", "import os, sys; print(os.path.realpath(sys.executable))"]);
      Deno.copyFileSync(program.trim(), python);
      Deno.chmodSync(python, 0o4755); // as sudo does
      const code = 'import os; os.setuid(0); os.execvp("sleep", ["sleep", "60"])';
      const agent = box.agent(`${python} -c '${code}' &\necho $! >${pids}\nwait\n`);
      await box.runUnprivileged("spawn", "x", "--brief", "../brief.md", "--", agent);
      await box.until(() => isThere(pids) && box.read(pids) !== "");
      const pid = box.read(pids).trim();
      await box.until(() => Deno.readTextFileSync(`/proc/${pid}/comm`) === "sleep\n");
      try {
        const { status, stderr } = await box.runUnprivileged("cancel", "x", ...CLEANUP.split(" "));
        assertEquals(status, 0, stderr);
        assertStringIncludes(stderr, `which are still running: sleep (process ${pid})`);
        assertEquals(await isRunning(pid), true);
      } finally {
        end([pid]);
        Deno.removeSync(directory, { recursive: true });
      }
    }),
  );

  it(
    "refuses an ignored file whose name is not UTF-8, until --discard is given",
    inBox(async (box) => {
      await box.spawnTask("x");
      await sh(box, box.tree("x"), `echo mine > ${ODD_NAME}`);
      const { error } = await box.ask(9, `cancel x ${CLEANUP}`);
      assertStringIncludes(error?.message ?? "", "would be lost");
      await box.do(`cancel x ${CLEANUP} --discard`);
      assertEquals(isThere(box.tree("x")), false);
    }),
  );
});

describe("worker spawn", () => {
  it(
    "copies what .worktreeinclude names, except names that are not UTF-8",
    inBox(async (box) => {
      box.write(".worktreeinclude", "ignored*\n");
      box.write("ignored", "mine\n");
      await sh(box, box.repo, `echo mine > ${ODD_NAME}`);
      const { stderr } = await box.worker(["spawn", "x", "--brief", "../brief.md", "--agent", "none"]);
      assertStringIncludes(stderr, "Not copied, because its name is not UTF-8: ignored-\ufffd");
      assertEquals(box.read(box.tree("x", "ignored")), "mine\n");
    }),
  );
});

describe("worker resume", () => {
  it(
    "passes on a check's output that contains a NUL",
    inBox(async (box) => {
      box.agent("printf '<%s>\\n' \"$@\"\n", "bin/claude"); // gets the prompt as an argument
      box.environment["PATH"] = `${box.path}/bin:${Deno.env.get("PATH")}`;
      await box.do("spawn x --brief ../brief.md --agent claude");
      const head = await box.commit("x", { x: "1\n" });
      await box.do("submit x");
      await box.do(`review start x --head ${head} --actor eve`);
      await box.do(`review approve x --head ${head} --actor eve`);
      await box.ask(7, ["merge", "x", "--check", "printf 'be\\0fore\\n'; false"]);
      await box.do("resume x --answer again");
      await box.until(async () => (await box.do("log x")).data.output.includes("be\\0fore"));
    }),
  );
});

describe("worker doctor", () => {
  it(
    "changes nothing in the base's checkout without --fix",
    inBox(async (box) => {
      await killedMerge(box);
      const commit = (await box.task("x")).merge?.commit ?? "";
      await box.git("read-tree", "-m", "-u", commit); // as git does before it moves the branch
      await box.do("doctor");
      assertEquals(box.read("a"), "x\n");
      await box.do("doctor --fix");
      assertEquals([box.read("a"), await box.state("x")], ["1\n", "approved"]);
    }),
  );

  it(
    "repairs a killed merge although .git/worker was deleted, but not in another clone",
    inBox(async (box) => {
      await killedMerge(box);
      await box.git("clone", "--quiet", ".", "../clone");
      await box.git("-C", "../clone", "fetch", "--quiet", "origin", "refs/worker/tasks/*:refs/worker/tasks/*");
      box.remove(".git/worker");
      const { data } = await box.do("doctor --fix", `${box.path}/clone`);
      assertEquals(data.notes.map(({ what }: { what: string }) => what), [
        "merge is running on another machine, or was interrupted there",
      ]);
      await box.heal();
      assertEquals((await box.do("merge x")).state, "merged");
    }),
  );
});

describe("worker log --all", () => {
  it(
    "prints a log that is larger than a string can be",
    inBox(async (box) => {
      await box.spawnTask("x");
      const log = `${box.repo}/.git/worker/x/log`;
      await sh(box, box.repo, `{ yes | head -c 540M; echo "the end"; } > ${log}`);
      await sh(
        box,
        box.repo,
        `${(await box.call("log", "x", "--all")).join(" ")} | tail -c 8 > ../end`,
      );
      assertEquals(box.read("../end"), "the end\n");
    }),
  );
});

describe("a task whose dependency is cancelled", () => {
  it(
    "is reported by wait, list and doctor",
    inBox(async (box) => {
      await box.spawnTask("x");
      await box.spawnTask("y", "--depends-on x");
      await box.do("cancel x --reason over");
      const { stdout } = await box.worker(["wait"]);
      assertEquals(
        stdout,
        "Task y cannot start, because what it depends on is cancelled\nNext: worker cancel y --reason TEXT\n",
      );
      assertStringIncludes((await box.worker(["list"])).stdout, "cannot start, because this is cancelled: x");
      const { data } = await box.do("doctor");
      assertEquals(data.notes.map(({ what }: { what: string }) => what), [
        "it cannot start, because this is cancelled: x (worker cancel y --reason TEXT)",
      ]);
    }),
  );
});
