/** Tests of the locks: who waits for whom, and what happens without locks. */
import { assertEquals } from "jsr:@std/assert@^1";
import { describe, it } from "jsr:@std/testing@^1/bdd";
import { AGENTS, Setting } from "./git_helpers.ts";
import { deployed, execute, requires, type Result, Sandbox } from "./helpers.ts";

const ONE = { one: "../../skills/one" };

describe("a run, while another process holds the lock", () => {
  const places: [what: string, path: (box: Sandbox) => string][] = [
    ["of the user", (box) => `${box.home}/.local/state/use-skills`],
    ["of the project", (box) => box.repo],
  ];
  it("waits only if there is something to do", async () => {
    await Promise.all(places.map(async ([what, path]) => {
      using box = new Sandbox();
      box.skills("one", "two");
      box.manifest("one");
      await box.done();
      using held = Deno.openSync(path(box));
      held.lockSync(true);
      for (const args of [[], ["check"], ["sync", "--json", "-q"]]) {
        const { status, stderr } = await box.run(...args);
        assertEquals([status, stderr], [0, ""], what);
      }
      box.manifest("one", "two");
      assertEquals(await box.fails(1), `use-skills: Another run has been using ${path(box)} for 10 seconds\n`);
      assertEquals(deployed(box.at(".claude/skills")), ONE, what);
    }));
  });

  it("says at once what it cannot deploy", async () => {
    using box = new Sandbox();
    box.skills("one");
    box.manifest("one for claude");
    box.write(".claude/skills/one", "mine");
    const message = await box.fails(1);
    using held = Deno.openSync(box.repo);
    held.lockSync(true);
    assertEquals(await box.fails(1), message);
  });

  it("that it needs to clean the store, waits and says for what", async () => {
    using box = new Sandbox();
    const store = `${box.home}/.local/share/use-skills/store`;
    box.directory(store);
    using held = Deno.openSync(store);
    held.lockSync(true);
    const message = `use-skills: Another run has been using ${store} for 10 seconds\n`;
    assertEquals(await box.fails(1, "clean", "--store"), message);
  });

  it("goes on as soon as that is released", async () => {
    using box = new Sandbox();
    box.skills("one");
    box.manifest("one");
    const held = Deno.openSync(box.repo);
    held.lockSync(true);
    const done = box.done();
    setTimeout(() => held.close(), 2000);
    assertEquals(await done, `use-skills: linked one for ${AGENTS}\n`);
  });
});

/** Runs the program on file systems without locks. */
async function runWithoutLocks(box: Sandbox, ...args: string[]): Promise<Result> {
  const trace = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "inject=flock:error=ENOLCK"];
  return await execute([...trace, ...await box.call(...args)], await box.start());
}

/** The warning about a directory. */
const warning = (path: string) =>
  `use-skills: Warning: ${path} can't be locked, so don't run twice: No locks available\n`;

describe("a run on a file system without locks", () => {
  requires("strace")("deploys, with one warning, and prunes", async () => {
    using box = new Sandbox();
    box.skills("one");
    box.manifest("one");
    const warnings = warning(`${box.home}/.local/state/use-skills`);
    const said = (stderr: string) => ({ status: 0, stdout: "", stderr });
    assertEquals(await runWithoutLocks(box), said(`${warnings}use-skills: linked one for ${AGENTS}\n`));
    assertEquals(deployed(box.at(".claude/skills")), ONE);
    assertEquals(await runWithoutLocks(box), said(""));
    box.manifest("# nothing");
    assertEquals(await runWithoutLocks(box), said(`${warnings}use-skills: removed one for codex, claude, opencode\n`));
  });

  requires("strace", "git", "openssl")("fetches, with one warning", async () => {
    await using setting = await Setting.start();
    const { box } = setting;
    box.manifest("team/skills/skills/pdf", "team/skills/skills/pdf#v1 as tagged");
    const { status, stderr } = await runWithoutLocks(box);
    assertEquals(stderr, `${warning(setting.storePath)}use-skills: linked pdf, tagged for ${AGENTS}\n`);
    assertEquals(status, 0);
    assertEquals(await runWithoutLocks(box, "clean", "--store", "-q"), {
      status: 0,
      stdout: "",
      stderr: warning(setting.storePath),
    });
  });
});
