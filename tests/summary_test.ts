/** Tests of what people see on a terminal of 80 columns: summaries, tables and colours. */
import { assertEquals } from "jsr:@std/assert@^1";
import { describe } from "jsr:@std/testing@^1/bdd";
import { PDF, Setting } from "./git_helpers.ts";
import { execute, requires, Sandbox } from "./helpers.ts";

const it = requires("script");

/** What a run prints on a terminal. */
async function onTerminal(box: Sandbox, ...args: string[]): Promise<string> {
  const words = (await box.call(...args)).map((word) => `'${word}'`).join(" ");
  return (await execute(["script", "-qec", words, "/dev/null"], await box.start())).stdout.replaceAll("\r", "");
}

describe("on a terminal, a summary ends", () => {
  const AGENTS = "claude, opencode, codex";
  const upToDate = `2 skills up to date for ${AGENTS}\n`;
  const runs: [args: string[], output: string][] = [
    [[], `use-skills: linked hq, one for ${AGENTS}\n${upToDate}`],
    [[], upToDate],
    [["check"], "All 2 skills are up to date\n"],
    [["update"], "Nothing to update\n"],
    [
      ["remove", "one"],
      `use-skills: deleted from .skills: one\nuse-skills: removed one for ${AGENTS}\n` +
      `1 skill up to date for ${AGENTS}\n`,
    ],
    [["status"], `1 skill up to date for ${AGENTS}\n`],
    [
      ["clean", "-n"],
      [".agents", ".claude", ".opencode"].map((each) => `would remove ${each}/skills/hq: it is no longer desired\n`)
        .join("") + "3 differences\n",
    ],
    [["clean"], "use-skills: removed hq for codex, claude, opencode\n3 entries removed\n"],
    [["clean"], "Nothing to remove\n"],
    [["-q"], ""],
  ];
  it("every command, also if there is nothing to do", async () => {
    using box = new Sandbox();
    box.skills("hq", "one");
    box.manifest("hq", "one");
    for (const [args, output] of runs) assertEquals([args, await onTerminal(box, ...args)], [args, output]);
    const lastLine = async () => (await onTerminal(box, "init")).trimEnd().split("\n").at(-1);
    assertEquals([await lastLine(), await lastLine()], ["1 file written", "Nothing to write"]);
    box.environment = { DIRENV_IN_ENVRC: "1" };
    assertEquals(await onTerminal(box), "");
  });

  requires("script", "git", "openssl")("add and update, also if only the commit moved", async () => {
    await using setting = await Setting.start(PDF);
    const { box, forge } = setting;
    box.environment = { NO_COLOR: "1" };
    const lastLine = async (...args: string[]) =>
      (await onTerminal(box, ...args)).replaceAll("\x1b[K", "").trimEnd().split("\n").at(-1);
    assertEquals(await lastLine("add", "-n", "team/skills/skills/pdf"), "1 skill shown, nothing added");
    assertEquals(await lastLine("add", "./gone"), "Nothing added; 1 problem");
    assertEquals(await lastLine("add", "team/skills/skills/pdf"), `1 skill up to date for ${AGENTS}`);
    assertEquals(
      await lastLine("add", "team/skills/skills/pdf"),
      'use-skills: "team/skills/skills/pdf" is already in line 1 of .skills',
    );
    await forge.commit("team/skills", { "README.md": "new" });
    assertEquals(await lastLine("outdated"), "1 update available");
    assertEquals(await lastLine("update"), `1 skill up to date for ${AGENTS}`);
    assertEquals(await lastLine("update"), "Nothing to update");
  });

  it("a run with problems", async () => {
    using box = new Sandbox();
    box.skills("hq");
    box.manifest("hq for claude", "./gone");
    box.environment = { NO_COLOR: "1" };
    const problem = '.skills:2: "./gone" does not exist\n';
    assertEquals(
      await onTerminal(box),
      `use-skills: linked hq for claude\n${problem}1 skill up to date for claude; 1 problem\n`,
    );
    assertEquals(await onTerminal(box, "check"), `${problem}1 skill up to date for claude; 1 problem\n`);
  });
});

describe("list", () => {
  requires("script", "git", "openssl")(
    "fits 80 columns, names git sources with their commits, and marks problems",
    async () => {
      await using setting = await Setting.start(PDF);
      const { box } = setting;
      const long = "a-directory-with-a-long-name/".repeat(3);
      box.skills(`${long}with-a-name-of-thirty-letters`);
      box.manifest(
        "team/skills/skills/pdf",
        "git@git.example.org:team/skills.git//skills/pdf as other for claude",
        `./${long}with-a-name-of-thirty-letters for claude cursor gemini goose`,
        "./gone for claude",
      );
      await box.fails(1);
      box.remove(".claude/skills/pdf");
      box.write(".claude/skills/pdf", "mine");
      box.remove(".claude/skills/other");
      const commit = (await setting.hash("main")).slice(0, 7);
      const lines = (await onTerminal(box, "list")).split("\n");
      assertEquals(lines, [
        "STATE     NAME                           AGENTS         SOURCE",
        `\x1b[31mmissing\x1b[39m   other                          claude         …ills/skills/pdf@${commit}`,
        `\x1b[31mconflict\x1b[39m  pdf                            claude         …ills/skills/pdf@${commit}`,
        `ok        pdf                            opencode, co…  …ills/skills/pdf@${commit}`,
        "ok        with-a-name-of-thirty-letters  claude, code…  …-name-of-thirty-letters",
        ...lines.slice(5),
      ]);
      assertEquals(lines.at(-2), "3 skills; 2 problems");
      box.environment = { NO_COLOR: "1" };
      assertEquals((await onTerminal(box, "list")).split("\n")[1]?.startsWith("missing   other  "), true);
    },
  );
});
