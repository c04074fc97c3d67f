/** Runs `doctor.ts show`, directly and as `use-skills.ts doctor`, on directories with every problem that it reports. */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "jsr:@std/assert@^1";
import { describe, it } from "jsr:@std/testing@^1/bdd";
import { direct, doctor, withManifest } from "./doctor_box.ts";
import { isThere, requires, Sandbox, skillText, stamps } from "./helpers.ts";

/** The first cells of the table of problems in the skill. */
function documentedMessages(): string[] {
  const skill = Deno.readTextFileSync(new URL("../skills/skill-doctor/SKILL.md", import.meta.url));
  return [...skill.matchAll(/^\| `([^`]+)` \| .* \| .* \|$/gm)].map(([, message = ""]) => message);
}

/** Problems: what is made, what is printed, and how it is undone. `%` is the sandbox's path. */
const PROBLEMS: [what: string, make: (box: Sandbox) => void, printed: string, undo?: (box: Sandbox) => void][] = [
  [
    "a broken link that is not owned",
    (box) => box.link(".claude/skills/old", "nowhere"),
    '.claude/skills/old (claude, opencode): The link to "nowhere" is broken: rm .claude/skills/old\n',
    (box) => box.remove(".claude/skills/old"),
  ],
  [
    "a circular link",
    (box) => box.link(".claude/skills/loop", "loop"),
    '.claude/skills/loop (claude, opencode): The link to "loop" is broken: rm .claude/skills/loop\n',
    (box) => box.remove(".claude/skills/loop"),
  ],
  [
    "a broken owned link",
    (box) => {
      box.manifest("./tools/hq");
      box.remove("tools");
      box.skills("other");
    },
    '.skills:1: "./tools/hq" does not exist\n' +
    '.claude/skills/hq (claude, opencode): The link to "../../tools/hq" is broken: ' +
    "restore the skill or remove its entry from .skills, then sync\n" +
    [".opencode/skills/hq (opencode)", ".agents/skills/hq (opencode, codex)"].map((place) =>
      `${place}: The link to "../../tools/hq" is broken: ` +
      "restore the skill or remove its entry from .skills, then sync\n"
    ).join(""),
    (box) => box.skills("tools/hq"),
  ],
  [
    "an owned link without an entry",
    (box) => {
      box.manifest();
      box.remove("tools");
    },
    [".claude/skills/hq (claude, opencode)", ".opencode/skills/hq (opencode)", ".agents/skills/hq (opencode, codex)"]
      .map((place) => `${place}: The link to "../../tools/hq" is broken: run use-skills.ts sync\n`).join(""),
    (box) => {
      box.skills("tools/hq");
      box.manifest("./tools/hq");
    },
  ],
  [
    "a SKILL.md that is a link",
    (box) => {
      Deno.renameSync(box.at("tools/hq/SKILL.md"), box.at("tools/hq/REAL.md"));
      box.link("tools/hq/SKILL.md", "REAL.md");
    },
    "tools/hq (codex): Ignored: SKILL.md is a link: replace it by the file\n",
    (box) => Deno.renameSync(box.at("tools/hq/REAL.md"), box.at("tools/hq/SKILL.md")),
  ],
  [
    "a skill in a skill",
    (box) => box.skills("tools/hq/parts/inner"),
    "tools/hq (opencode, codex): Nested skills (parts/inner/SKILL.md) are found by these agents only: " +
    "move them out, or add entries for them\n",
    (box) => box.remove("tools/hq/parts"),
  ],
  [
    "a skill one level too deep",
    (box) => box.skills(".claude/skills/group/inner"),
    ".claude/skills/group (opencode): Nested skills (inner/SKILL.md) are found by these agents only: " +
    "move them out, or add entries for them\n",
    (box) => box.remove(".claude/skills/group"),
  ],
  [
    "a SKILL.md in lower case",
    (box) => box.write(".opencode/skills/low/skill.md", skillText("low")),
    '.opencode/skills/low (opencode): No agent uses this skill: SKILL.md is missing: rename "skill.md" to SKILL.md\n',
    (box) => box.remove(".opencode"),
  ],
  [
    "a skill without front matter",
    (box) => box.write("tools/hq/SKILL.md", "# No front matter\n"),
    "tools/hq (opencode, codex): Ignored: SKILL.md has no front matter\n",
    (box) => box.skills("tools/hq"),
  ],
  [
    "a skill without description",
    (box) => box.write("tools/hq/SKILL.md", "---\nname: hq\n---\n"),
    "tools/hq (opencode): Its model is not told about this skill: SKILL.md has no description\n" +
    "tools/hq (codex): Ignored: SKILL.md has no description\n",
    (box) => box.skills("tools/hq"),
  ],
  [
    "a byte order mark",
    (box) => box.write("tools/hq/SKILL.md", `\ufeff${skillText("hq")}`),
    "tools/hq (codex): Ignored: SKILL.md has a byte order mark: remove it\n",
    (box) => box.skills("tools/hq"),
  ],
  [
    "one name with two contents",
    (box) => box.write(`${box.home}/.claude/skills/hq/SKILL.md`, skillText("hq") + "Differently.\n"),
    '.claude/skills/hq (claude): A different "hq" is in ~/.claude/skills/hq: ' +
    'remove one, or rename it in its SKILL.md and with "as NAME"\n' +
    '~/.claude/skills/hq (opencode): A different "hq" is in .claude/skills/hq: ' +
    'remove one, or rename it in its SKILL.md and with "as NAME"\n',
    (box) => box.remove(`${box.home}/.claude/skills/hq`),
  ],
  [
    "a plugin above a linked skill",
    (box) => {
      box.write("plugin/.claude-plugin/plugin.json", "{}");
      box.skills("plugin/skills/lint");
      box.link(".agents/skills/lint", "../../plugin/skills/lint");
    },
    ".agents/skills/lint (codex): The name of the plugin in plugin is added to this skill's name: " +
    'deploy with "mode copy" or by a git reference\n',
    (box) => box.remove(".agents"),
  ],
  [
    "missing programs",
    (box) => {
      const front = "---\nname: hq\ndescription: d\nmetadata:\n  requires: sh  no-such-program nor-this\n---\n";
      box.write("tools/hq/SKILL.md", front);
    },
    "tools/hq (claude, opencode): Programs that this skill requires are not on the PATH: no-such-program, nor-this\n",
    (box) => box.skills("tools/hq"),
  ],
  [
    "missing skills",
    (box) => {
      box.write("tools/hq/SKILL.md", "---\nname: hq\ndescription: d\nmetadata:\n  skills: lint  gate\n---\n");
      box.skills(".claude/skills/gate");
    },
    'tools/hq (claude, opencode): This skill requires the skill "lint", which is not seen: add an entry for it\n',
    (box) => {
      box.skills("tools/hq");
      box.remove(".claude/skills/gate");
    },
  ],
  [
    "a link that the manifest does not name",
    (box) => {
      box.skills("not named");
      box.link(".claude/skills/not named", "../../skills/not named");
    },
    ".claude/skills/not named (claude, opencode): This link was not made by use-skills, and .skills does not name it: " +
    "rm '%/repo/.claude/skills/not named'\n",
    (box) => box.remove(".claude/skills/not named"),
  ],
  [
    "a file instead of a directory",
    (box) => box.write(".codex/skills", ""),
    ".codex/skills (codex): This must be a directory: move the file away\n",
    (box) => box.remove(".codex"),
  ],
  [
    "a CODEX_HOME that is a file",
    (box) => {
      box.environment["CODEX_HOME"] = `${box.path}/codex`;
      box.write(`${box.path}/codex`, "");
    },
    ".skills:1: Cannot deploy to %/codex/skills: %/codex is not a directory\n" +
    "%/codex: CODEX_HOME is not a directory, so Codex exits: move it away, then mkdir -p %/codex\n",
    (box) => box.remove(`${box.path}/codex`),
  ],
  [
    "a CODEX_HOME that does not exist",
    () => {},
    "%/codex: CODEX_HOME is not a directory, so Codex exits: mkdir -p %/codex\n",
    (box) => box.directory(`${box.path}/codex`),
  ],
  [
    "a CODEX_HOME without a login",
    (box) => box.write(`${box.home}/.codex/auth.json`, "{}"),
    "%/codex: Codex is logged in with ~/.codex, but not with this CODEX_HOME: " +
    "ln -sf ~/.codex/auth.json %/codex/auth.json\n",
    (box) => box.link(`${box.path}/codex/auth.json`, `${box.home}/.codex/auth.json`),
  ],
];

describe("doctor", () => {
  it("reports each problem with a fix, and nothing after the fix", async () => {
    using box = withManifest();
    box.skills("tools/hq");
    box.manifest("./tools/hq");
    await box.done();
    assertEquals(await doctor(box), "");
    let all = "";
    for (const [what, make, printed, undo] of PROBLEMS) {
      make(box);
      const before = stamps(box.path);
      const expected = printed.replaceAll("%", box.path);
      assertEquals(await doctor(box), expected, what);
      assertEquals(stamps(box.path), before, `${what}: something was written`);
      undo?.(box);
      if (!what.startsWith("a CODEX_HOME")) assertEquals(await doctor(box), "", `after ${what}`);
      all += printed;
    }
    assertEquals(await doctor(box), "");
    const documented = documentedMessages();
    const withOwnTests = ["so skills in it may be missing", "This manifest is gone", "Cannot read it", "says that it"];
    assertEquals(documented.filter((message) => !all.includes(message)), withOwnTests);
    for (const line of all.trim().split("\n").filter((line) => !line.startsWith(".skills:"))) {
      assert(documented.some((message) => line.includes(message)), `not in SKILL.md: ${line}`);
    }
  });

  it("prints commands that work", async () => {
    using box = withManifest();
    box.skills("hq", "un'wanted");
    box.manifest("hq for claude");
    await box.done();
    box.link(".claude/skills/un'wanted", "../../skills/un'wanted");
    box.link(".claude/skills/old", "nowhere");
    box.write(`${box.home}/.codex/auth.json`, "{}");
    box.environment["CODEX_HOME"] = `${box.path}/codex`;
    const commands = async () => [...(await doctor(box)).matchAll(/: ((?:rm|ln|mkdir) .*)$/gm)].map(([, each]) => each);
    for (const command of [...await commands(), "true"]) {
      const env = { HOME: box.home };
      const { success } = await new Deno.Command("sh", { args: ["-c", command ?? ""], cwd: box.repo, env }).output();
      assert(success, command);
    }
    for (const command of await commands()) {
      await new Deno.Command("sh", { args: ["-c", command ?? ""], cwd: box.repo, env: { HOME: box.home } }).output();
    }
    assertEquals(await doctor(box), "");
    assertEquals(isThere(box.at(".claude/skills/hq")), true);
  });

  it("knows an owned copy by its content", async () => {
    using box = withManifest();
    box.write("skills/hq/SKILL.md", skillText("hq"));
    box.write("skills/hq/a-b/x.sh", "#!/bin/sh\n");
    box.write("skills/hq/a/é.txt", "x");
    box.directory("skills/hq/empty");
    box.link("skills/hq/link", "a-b/x.sh");
    Deno.chmodSync(box.at("skills/hq/a-b/x.sh"), 0o755);
    box.manifest("mode copy", "hq for claude");
    await box.done();
    const owned = async () => JSON.parse((await box.run("doctor", "--json")).stdout).agents[0].skills[0].owned;
    assertEquals(await owned(), true);
    box.write(".claude/skills/hq/a/é.txt", "y");
    assertEquals(await owned(), false);
  });

  it("knows in mode commit what the lockfile records", async () => {
    using box = withManifest();
    box.skills("hq", `${box.home}/notes/style`, ".claude/skills/own");
    box.manifest("mode commit", "hq for claude", "~/notes/style for claude");
    await box.done();
    const { agents } = JSON.parse((await box.run("doctor", "--json")).stdout);
    const skills = agents[0].skills as { name: string; owned: boolean }[];
    assertEquals(skills.map(({ name, owned }) => [name, owned]), [["hq", true], ["own", false], ["style", true]]);
  });

  it("finds what deleted projects have deployed, and clean removes it", async () => {
    using box = withManifest();
    box.environment["CODEX_HOME"] = `${box.home}/.codex`;
    box.directory(`${box.home}/.codex`);
    box.enter("gone");
    box.skills("hq", "pdf");
    box.manifest("hq for codex", "pdf for codex");
    await box.done();
    box.enter("repo");
    Deno.removeSync(`${box.path}/gone`, { recursive: true });
    box.manifest();
    assertEquals(
      await doctor(box),
      `${box.path}/gone/.skills: This manifest is gone, but not the skills that it deployed (hq, pdf): ` +
        `use-skills.ts clean -C ${box.path}/gone\n`,
    );
    await box.run("clean", "-C", `${box.path}/gone`);
    assertEquals(await doctor(box), "");
    assertEquals(isThere(`${box.home}/.codex/skills`), false);
  });

  it("names clean --global if the home's manifest is gone", async () => {
    using box = withManifest();
    box.skills("hq");
    box.write(`${box.home}/.config/use-skills/skills`, `${box.repo}/skills/hq for cursor\n`);
    await box.done("--global");
    box.remove(`${box.home}/.config/use-skills/skills`);
    const found = await doctor(box);
    assertMatch(found, /^~\/\.config\/use-skills\/skills: This .* \(hq\): use-skills\.ts clean --global$/m);
    await box.done("clean", "--global");
    assertEquals(isThere(`${box.home}/.cursor/skills`), false);
  });

  it("does not tell people to remove what is not owned", async () => {
    using box = withManifest();
    box.enter("other");
    box.skills("zz", "yy");
    box.manifest(`for ${box.path}/repo/.claude/skills`, "zz", "yy");
    await box.done();
    box.enter("repo");
    Deno.removeSync(`${box.path}/other`, { recursive: true });
    Deno.removeSync(`${box.home}/.local`, { recursive: true }); // without a target index, only the state file knows
    box.remove(".claude/skills/zz");
    box.skills(".claude/skills/zz");
    assertEquals(
      await doctor(box),
      `${box.path}/other/.skills: This manifest is gone, but not the skills that it deployed (yy): ` +
        "rm -r .claude/skills/yy\n",
    );
  });

  it("leaves a moved project to sync", async () => {
    using box = withManifest();
    box.environment["CODEX_HOME"] = `${box.home}/.codex`;
    box.skills("hq");
    box.manifest("hq for codex");
    await box.done();
    Deno.renameSync(box.repo, `${box.path}/moved`);
    const old = box.at("skills/hq");
    box.repo = `${box.path}/moved`;
    assertEquals(
      await doctor(box),
      `~/.codex/skills/hq (codex): The link to "${old}" is broken: run use-skills.ts sync\n`,
    );
    await box.done();
    assertEquals(await doctor(box), "");
  });

  it("names the other manifest that has to be changed", async () => {
    using box = withManifest();
    box.skills("hq");
    box.write(`${box.home}/.config/use-skills/skills`, `${box.repo}/skills/hq for claude\n`);
    await box.done("--global");
    box.remove("skills/hq");
    assertEquals(
      await doctor(box),
      `~/.claude/skills/hq (claude, opencode): The link to "${box.repo}/skills/hq" is broken: ` +
        "restore the skill or remove its entry from ~/.config/use-skills/skills, then sync there\n",
    );
  });

  it("reports links that the manifest does not name only if the manifest is readable", async () => {
    using box = withManifest();
    box.skills("hq", "tools/other");
    box.link(".claude/skills/hq", "../../skills/hq");
    box.link(".claude/skills/other", "../../tools/other");
    box.link(`${box.home}/.claude/skills/mine`, `${box.repo}/skills/hq`);
    assertEquals(await doctor(box), "");
    box.manifest("hq for cursor");
    assertEquals(await doctor(box), "");
    box.manifest("hq as");
    assertEquals(await doctor(box), '.skills:1: A name is missing after "as"\n');
  });

  it("reports what sync reports", async () => {
    using box = withManifest();
    box.manifest("nosuch");
    assertMatch(await doctor(box), /^\.skills:1: No skill "nosuch" in .*\n$/);
  });

  it("examines only the home with --global", async () => {
    using box = withManifest();
    box.skills(".claude/skills/project");
    box.write(`${box.home}/.claude/skills/own/SKILL.md`, skillText("own"));
    const { stdout } = await box.run("doctor", "--global");
    assertEquals(stdout, "SKILL  claude  opencode  codex\nown    seen    seen      -\n");
  });

  it("escapes control characters", async () => {
    using box = direct();
    box.link(".claude/skills/x\nskill-doctor: fine", "nowhere");
    assertEquals(
      (await doctor(box)).split(":")[0],
      ".claude/skills/x\\u000askill-doctor",
    );
    box.remove(".claude/skills/x\nskill-doctor: fine");
    box.skills(".claude/skills/y\x1b[2J");
    const { stdout, stderr } = await box.run();
    assertEquals(/[^\n -~]/.test(stdout + stderr), false, stdout + stderr);
  });

  requires("setpriv")("continues if a directory cannot be read", async () => {
    using box = withManifest();
    box.skills("hq");
    box.manifest("hq for claude"); // not deployed
    box.directory(".opencode/skills");
    Deno.chmodSync(box.at(".opencode/skills"), 0o000);
    const { status, stdout, stderr } = await box.runUnprivileged("doctor");
    assertEquals(
      [status, stderr],
      [
        1,
        '.skills:1 (claude): "hq" is not seen: run use-skills.ts sync\n' +
        ".opencode/skills (opencode): Cannot read it: Permission denied\n",
      ],
    );
    assertStringIncludes(stdout, "hq     not seen  -         -\n");
  });

  it("accepts -n, although it changes nothing anyway", async () => {
    using box = withManifest();
    box.skills("hq");
    assertEquals(await box.done("validate", "-n", "skills/hq"), "1 of 1 skills are valid\n");
    assertEquals(await doctor(box, "--dry-run"), "");
  });
});
