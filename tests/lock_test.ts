/** Tests of the locks: who waits for whom, and what happens without locks. */
import { assert, assertEquals } from "jsr:@std/assert@^1";
import { describe, it } from "jsr:@std/testing@^1/bdd";
import { AGENTS, Setting } from "./git_helpers.ts";
import { deployed, execute, requires, type Result, Sandbox } from "./helpers.ts";

const ONE = { one: "../../skills/one" };

describe("a run, while another process holds the lock", () => {
  const places: [what: string, path: (box: Sandbox) => string][] = [
    ["of the user", (box) => `${box.home}/.local/state/use-skills`],
    ["of the project", (box) => box.repo],
  ];
  for (const [what, path] of places) {
    it(`${what}, waits only if there is something to do`, async () => {
      using box = new Sandbox();
      box.skills("one", "two");
      box.manifest("one");
      await box.done();
      using held = Deno.openSync(path(box));
      held.lockSync(true);
      for (const args of [[], ["check"], ["sync", "--json", "-q"]]) {
        const start = performance.now();
        const { status, stderr } = await box.run(...args);
        assertEquals([status, stderr], [0, ""]);
        assert(performance.now() - start < 8000, `${args} took too long`);
      }
      box.manifest("one", "two");
      const start = performance.now();
      assertEquals(await box.fails(1), `use-skills: Another run has been using ${path(box)} for 10 seconds\n`);
      assert(performance.now() - start >= 10_000);
      assertEquals(deployed(box.at(".claude/skills")), ONE);
    });
  }

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
  `use-skills: Warning: ${path} cannot be locked, so don't run twice at once: No locks available\n`;

describe("a run on a file system without locks", () => {
  requires("strace")("deploys, with a warning for each lock, and prunes", async () => {
    using box = new Sandbox();
    box.skills("one");
    box.manifest("one");
    const warnings = [`${box.home}/.local/state/use-skills`, box.repo].map(warning).join("");
    const said = (stderr: string) => ({ status: 0, stdout: "", stderr });
    assertEquals(await runWithoutLocks(box), said(`${warnings}use-skills: linked one for ${AGENTS}\n`));
    assertEquals(deployed(box.at(".claude/skills")), ONE);
    assertEquals(await runWithoutLocks(box), said(""));
    box.manifest("# nothing");
    assertEquals(await runWithoutLocks(box), said(`${warnings}use-skills: removed one for codex, claude, opencode\n`));
  });

  requires("strace", "git", "openssl")("fetches, with one warning for each lock", async () => {
    await using setting = await Setting.start();
    const { box } = setting;
    box.manifest("team/skills/skills/pdf", "team/skills/skills/pdf#v1 as tagged");
    const { status, stderr } = await runWithoutLocks(box);
    const cache = `${setting.cachePath}/${encodeURIComponent("https://github.com/team/skills")}`;
    const locks = [setting.storePath, cache, `${box.home}/.local/state/use-skills`, box.repo];
    assertEquals(stderr, `${locks.map(warning).join("")}use-skills: linked pdf, tagged for ${AGENTS}\n`);
    assertEquals(status, 0);
    assertEquals(await runWithoutLocks(box, "clean", "--store", "-q"), {
      status: 0,
      stdout: "",
      stderr: warning(setting.storePath),
    });
  });
});
