/** `worker`, killed between any two steps. */
import { assert, assertEquals } from "jsr:@std/assert@^1";
import { describe, it } from "jsr:@std/testing@^1/bdd";
import { type State } from "../skills/hq/scripts/worker.ts";
import { isThere, succeed } from "./helpers.ts";
import { type Box, inBox } from "./worker_box.ts";

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
