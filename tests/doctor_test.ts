/** Runs `doctor` on folders in which everything that it looks for is wrong. */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "jsr:@std/assert@^1";
import { describe, it } from "jsr:@std/testing@^1/bdd";
import { isThere, requires, Sandbox, skillText, stamps } from "./helpers.ts";

/** Front matter with a name and a description, and more. */
const front = (name: string, more = "", description = "d") =>
  `---\nname: ${name}\ndescription: ${description}\n${more}---\n`;

/** What each row of what the doctor looks for needs to be there, and what it says of it. */
const ILLS: [what: string, make: (box: Sandbox) => void, said: RegExp, cure?: (box: Sandbox) => void][] = [
  [
    "a broken link of nobody's",
    (box) => box.link(".claude/skills/old", "nowhere"),
    /^\.claude\/skills\/old: this link leads nowhere, to "nowhere": rm \.claude\/skills\/old$/m,
    (box) => box.remove(".claude/skills/old"),
  ],
  [
    "a broken link of ours",
    (box) => box.remove("skills/hq"),
    /^\.claude\/skills\/hq: this link leads nowhere, .*: bring it back, or take it out of \.skills; then sync$/m,
    (box) => box.skills("hq"),
  ],
  [
    "a SKILL.md that is a link",
    (box) => {
      Deno.renameSync(box.at("skills/hq/SKILL.md"), box.at("skills/hq/REAL.md"));
      box.link("skills/hq/SKILL.md", "REAL.md");
    },
    /^skills\/hq: its SKILL\.md is a link, which Codex ignores: /m,
    (box) => Deno.renameSync(box.at("skills/hq/REAL.md"), box.at("skills/hq/SKILL.md")),
  ],
  [
    "a SKILL.md in a folder of a skill",
    (box) => box.skills("skills/hq/parts/inner"),
    /^skills\/hq: OpenCode and Codex see skills in it, and Claude Code does not \(parts\/inner\/SKILL\.md\): move /m,
    (box) => box.remove("skills/hq/parts"),
  ],
  [
    "a skill one level too deep",
    (box) => box.skills(".claude/skills/group/inner"),
    /^\.claude\/skills\/group: it is no skill, and OpenCode and Codex see skills in it, .* \(inner\/SKILL\.md\): link or move/m,
    (box) => box.remove(".claude/skills/group"),
  ],
  [
    "a skill.md in lower case",
    (box) => box.write(".opencode/skills/low/skill.md", skillText("low")),
    /^\.opencode\/skills\/low: agents cannot use it: it has no SKILL\.md, but "skill\.md", and agents look for SKILL\.md: rename/m,
    (box) => box.remove(".opencode/skills/low"),
  ],
  [
    "one name with two contents",
    (box) => box.write(`${box.home}/.claude/skills/hq/SKILL.md`, skillText("hq") + "Differently.\n"),
    /^~\/\.claude\/skills\/hq: claude finds another "hq" in \.claude\/skills\/hq: take one away, or give it another name/m,
    (box) => box.remove(`${box.home}/.claude/skills/hq`),
  ],
  [
    "a plugin above a linked skill",
    (box) => {
      box.write("tools/.claude-plugin/plugin.json", "{}");
      box.skills("tools/skills/lint");
      box.link(".agents/skills/lint", "../../tools/skills/lint");
    },
    /^\.agents\/skills\/lint: Codex counts it to the plugin in tools, and names it after that: deploy it with --copy/m,
    (box) => box.remove(".agents"),
  ],
  [
    "a CODEX_HOME that is not there",
    (box) => box.environment["CODEX_HOME"] = `${box.path}/codex`,
    /codex: CODEX_HOME names it, and Codex stops without such a folder: mkdir -p .*\/codex$/m,
    (box) => box.directory(`${box.path}/codex`),
  ],
  [
    "a CODEX_HOME without a login",
    (box) => box.write(`${box.home}/.codex/auth.json`, "{}"),
    /codex: Codex is not logged in with this CODEX_HOME, and is in ~\/\.codex: ln -sf ~\/\.codex\/auth\.json .*auth\.json$/m,
    (box) => box.link(`${box.path}/codex/auth.json`, `${box.home}/.codex/auth.json`),
  ],
  [
    "programs that are not on the PATH",
    (box) => box.write("skills/hq/SKILL.md", front("hq", "metadata:\n  requires: sh  no-such-program nor-this\n")),
    /^skills\/hq: it needs what is not on the PATH: no-such-program, nor-this$/m,
    (box) => box.skills("hq"),
  ],
  [
    "a skill that no agent can use",
    (box) => box.write("skills/hq/SKILL.md", "# No front matter\n"),
    /^skills\/hq: agents cannot use it: it has no front matter$/m,
    (box) => box.skills("hq"),
  ],
  [
    "links that an older script has left",
    (box) => {
      box.skills("unwanted", "not wanted");
      for (const name of ["unwanted", "not wanted"]) box.link(`.claude/skills/${name}`, `../../skills/${name}`);
    },
    /^\.claude\/skills: an older script has left links here that \.skills does not name: name them, or rm '.*\/\.claude\/skills\/not wanted' \.claude\/skills\/unwanted$/m,
    (box) => ["unwanted", "not wanted"].forEach((name) => box.remove(`.claude/skills/${name}`)),
  ],
];

/** What the README's section on troubleshooting says that the doctor says. */
function sayings(): string[] {
  const readme = Deno.readTextFileSync(new URL("../README.md", import.meta.url));
  const [section = ""] = readme.split("\n## Troubleshooting\n")[1]?.split("\n## ") ?? [];
  return [...section.matchAll(/^\| `([^`]+)` \| .* \| .* \|$/gm)].map(([, saying = ""]) => saying);
}

describe("doctor", () => {
  it("finds what is wrong, says what to do, and is content once that is done", async () => {
    const everything: string[] = [];
    using box = new Sandbox("use-skills.ts", "skill-doctor");
    box.skills("hq");
    box.manifest("hq for claude");
    await box.done();
    assertEquals(await doctor(box), { status: 0, said: "" });
    for (const [what, make, expected, cure] of ILLS) {
      make(box);
      const before = stamps(box.path);
      const { status, said } = await doctor(box);
      assertEquals(status, 1, what);
      assertMatch(said, expected, what);
      everything.push(said);
      assertEquals(stamps(box.path), before, `${what}: something was written`);
      cure?.(box);
      if (what === "a CODEX_HOME that is not there") continue; // what cures it calls for the next
      assertEquals(await doctor(box), { status: 0, said: "" }, `after ${what}`);
    }
    const unheard = sayings().filter((saying) => !everything.join().includes(saying));
    // These have tests of their own.
    assertEquals(unheard, ["cannot be deployed", "it is gone, and what it had deployed is not"]);
    for (const said of everything) {
      assert(sayings().some((saying) => said.includes(saying)), `not in the README: ${said}`);
    }
  });

  it("runs its own commands with success", async () => {
    using box = new Sandbox("use-skills.ts", "skill-doctor");
    box.skills("hq", "un'wanted");
    box.manifest("hq for claude");
    await box.done();
    box.link(".claude/skills/un'wanted", "../../skills/un'wanted");
    box.link(".claude/skills/old", "nowhere");
    const { said } = await doctor(box);
    for (const [, command = ""] of said.matchAll(/(?:: |, or )(rm .*)$/gm)) {
      const { success } = await new Deno.Command("sh", { args: ["-c", command], cwd: box.repo }).output();
      assert(success, command);
    }
    assertEquals(await doctor(box), { status: 0, said: "" });
    assertEquals(isThere(box.at(".claude/skills/hq")), true);
  });

  it("tells of each agent what it sees, in which folder, and whose it is", async () => {
    using box = new Sandbox("use-skills.ts", "skill-doctor");
    box.skills("hq");
    box.manifest("hq for claude cursor ./tools/skills");
    await box.done();
    box.skills(".agents/skills/theirs");
    box.write(`${box.home}/.config/opencode/skills/mine/SKILL.md`, skillText("mine"));
    const { stdout } = await box.run("doctor");
    assertEquals(
      stdout,
      [
        "claude",
        "  .claude/skills",
        "     hq  skills/hq",
        "opencode",
        "  .claude/skills",
        "     hq  skills/hq",
        "  .agents/skills",
        "     theirs  .agents/skills/theirs (not ours)",
        "  ~/.config/opencode/skills",
        "     mine  ~/.config/opencode/skills/mine (not ours)",
        "codex",
        "  .agents/skills",
        "     theirs  .agents/skills/theirs (not ours)",
        "cursor",
        "  .cursor/skills",
        "     hq  skills/hq",
        "./tools/skills",
        "  tools/skills",
        "     hq  skills/hq",
        "",
      ].join("\n"),
    );
  });

  it("looks above the directory that it is started in, up to the repo's root", async () => {
    using box = new Sandbox("use-skills.ts", "skill-doctor");
    box.directory(".git");
    box.skills(".claude/skills/top", "a/.claude/skills/middle", "a/b/.claude/skills/here", "../.claude/skills/outside");
    const { stdout } = await box.run("doctor", "-C", "a/b", "--json");
    const [claude] = JSON.parse(stdout).agents;
    const names = claude.folders.flatMap((folder: { skills: { name: string }[] }) =>
      folder.skills.map(({ name }) => name)
    );
    assertEquals(names, ["here", "middle", "top"]);
  });

  it("finds what repos that are gone have left, and clean removes it", async () => {
    using box = new Sandbox("use-skills.ts", "skill-doctor");
    box.environment["CODEX_HOME"] = `${box.home}/.codex`;
    box.directory(`${box.home}/.codex`);
    box.enter("gone");
    box.skills("hq", "pdf");
    box.manifest("hq for codex", "pdf for codex");
    await box.done();
    box.enter("also-gone");
    box.skills("a");
    box.manifest("a for claude");
    await box.done();
    box.enter("repo");
    for (const name of ["gone", "also-gone"]) Deno.removeSync(`${box.path}/${name}`, { recursive: true });
    box.manifest();
    const { status, said } = await doctor(box);
    assertEquals(status, 1);
    const left = new RegExp(
      `^${box.path}/gone/\\.skills: it is gone, and what it had deployed is not \\(hq, pdf\\): .* clean -C ${box.path}/gone$`,
      "m",
    );
    assertMatch(said, left);
    assertStringIncludes(
      said,
      `Note: nothing but a record is left of ${box.path}/also-gone: use-skills.ts clean -C DIR`,
    );
    for (const name of ["gone", "also-gone"]) await box.run("clean", "-C", `${box.path}/${name}`);
    assertEquals(await doctor(box), { status: 0, said: "" });
    assertEquals(isThere(`${box.home}/.codex/skills`), false);
    assertStringIncludes(await box.fails(2, "clean", "-C", `${box.path}/gone`), "No directory");
  });

  it("is of use where there is no manifest, or one that cannot be read", async () => {
    using box = new Sandbox("use-skills.ts", "skill-doctor");
    box.skills(".claude/skills/hq");
    const { status, said } = await doctor(box);
    assertEquals([status, said], [0, ".skills: Note: it is not there, so nothing is deployed from here\n"]);
    box.manifest("hq as");
    const { status: wrong, said: why } = await doctor(box);
    assertEquals([wrong, why], [1, '.skills:1: No name follows "as"\n']);
  });

  it("looks at a home's own folders with --global", async () => {
    using box = new Sandbox("use-skills.ts", "skill-doctor");
    box.skills(".claude/skills/project");
    box.write(`${box.home}/.claude/skills/own/SKILL.md`, skillText("own"));
    const { stdout } = await box.run("doctor", "--global");
    assertStringIncludes(stdout, "  ~/.claude/skills\n     own  ~/.claude/skills/own (not ours)\n");
    assertEquals(stdout.includes("project"), false);
  });

  it("counts as an older script's only what .skills names for no agent, and only where it can be read", async () => {
    using box = new Sandbox("use-skills.ts", "skill-doctor");
    box.skills("hq", "tools/other");
    box.link(".claude/skills/hq", "../../skills/hq");
    box.link(".claude/skills/other", "../../tools/other");
    box.link(`${box.home}/.claude/skills/mine`, `${box.repo}/skills/hq`);
    box.manifest("hq for cursor");
    assertEquals((await doctor(box)).status, 0);
    box.manifest("a b c");
    const { said } = await doctor(box);
    assertEquals(said.includes("older script"), false, said);
  });

  it("never has a person remove what is their own", async () => {
    using box = new Sandbox("use-skills.ts", "skill-doctor");
    box.enter("other");
    box.skills("zz", "yy");
    box.manifest(`for ${box.path}/repo/.claude/skills`, "zz", "yy");
    await box.done();
    box.enter("repo");
    Deno.removeSync(`${box.path}/other`, { recursive: true });
    Deno.removeSync(`${box.home}/.local`, { recursive: true }); // nothing knows of that repo but the folder itself
    box.remove(".claude/skills/zz");
    box.skills(".claude/skills/zz");
    const { said } = await doctor(box);
    assertStringIncludes(said, "it is gone, and what it had deployed is not (yy): rm -r .claude/skills/yy\n");
  });

  it("has clean remove what a repo inside of another has left, and leave the outer one's", async () => {
    using box = new Sandbox("use-skills.ts", "skill-doctor");
    box.skills("hq", "inner/skills/sub");
    box.manifest("hq");
    box.write("inner/.skills", "sub\n");
    await box.done();
    await box.done("-C", "inner");
    box.remove("inner/.skills");
    const { said } = await doctor(box, "-C", "inner");
    assertStringIncludes(said, "use-skills.ts clean -C inner\n");
    await box.done("clean", "-C", "inner");
    assertEquals([isThere(box.at(".claude/skills/hq")), isThere(box.at("inner/.claude"))], [true, false]);
  });

  it("names clean --global for a home's manifest that is gone", async () => {
    using box = new Sandbox("use-skills.ts", "skill-doctor");
    box.skills("hq");
    // Into a folder that no agent which is looked at reads: only the record names it, from the home.
    box.write(`${box.home}/.config/use-skills/skills`, `${box.repo}/skills/hq for cursor\n`);
    await box.done("--global");
    box.remove(`${box.home}/.config/use-skills/skills`);
    const { said } = await doctor(box);
    assertMatch(said, /it is gone, and what it had deployed is not \(hq\): use-skills\.ts clean --global$/m);
    await box.done("clean", "--global");
    assertEquals(isThere(`${box.home}/.cursor/skills`), false);
  });

  it("says where to mend what another manifest has there", async () => {
    using box = new Sandbox("use-skills.ts", "skill-doctor");
    box.skills("hq");
    box.write(`${box.home}/.config/use-skills/skills`, `${box.repo}/skills/hq\n`);
    await box.done("--global");
    box.remove("skills/hq");
    const { said } = await doctor(box);
    assertStringIncludes(said, "bring it back, or take it out of ~/.config/use-skills/skills; then sync there\n");
  });

  it("takes for equal only what it has read", async () => {
    using box = new Sandbox("use-skills.ts", "skill-doctor");
    box.skills("hq");
    box.manifest("hq for claude");
    await box.done();
    box.link("skills/hq/dead", "nowhere");
    box.write(`${box.home}/.claude/skills/hq/SKILL.md`, skillText("hq") + "Differently.\n");
    box.link(`${box.home}/.claude/skills/hq/dead`, "nowhere");
    assertMatch((await doctor(box)).said, /claude finds another "hq"/);
  });

  it("finds a CODEX_HOME that is no folder, and a login that leads nowhere", async () => {
    using box = new Sandbox("use-skills.ts", "skill-doctor");
    box.environment["CODEX_HOME"] = `${box.path}/codex`;
    box.link(`${box.path}/codex`, "nowhere");
    assertMatch((await doctor(box)).said, /Codex stops without such a folder: rm .*\/codex$/m);
    box.remove(`${box.path}/codex`);
    box.write(`${box.path}/codex`, "");
    assertMatch((await doctor(box)).said, /Codex stops without such a folder: move away what is there, then rm /);
    box.remove(`${box.path}/codex`);
    box.link(`${box.path}/codex/auth.json`, "nowhere");
    box.write(`${box.home}/.codex/auth.json`, "{}");
    const [, command = ""] = (await doctor(box)).said.match(/in ~\/\.codex: (ln .*)$/m) ?? [];
    const { success } = await new Deno.Command("sh", { args: ["-c", command], env: { HOME: box.home } }).output();
    assert(success, command);
    assertEquals((await doctor(box)).status, 0);
  });

  it("leaves alone what is well where nothing is deployed", async () => {
    using box = new Sandbox("use-skills.ts", "skill-doctor");
    box.skills("hq", "dotfiles/mine");
    box.link(".claude/skills/hq", "../../skills/hq"); // by hand
    box.link(`${box.home}/.claude/skills`, `${box.repo}/dotfiles`);
    box.link(".codex/skills", "../.claude/skills");
    assertEquals((await doctor(box)).said, ".skills: Note: it is not there, so nothing is deployed from here\n");
  });

  it("finds a file where a folder has to be, and a link that leads in circles", async () => {
    using box = new Sandbox("use-skills.ts", "skill-doctor");
    box.write(".opencode/skills", "");
    box.link(".claude/skills/loop", "loop");
    const { said } = await doctor(box);
    assertStringIncludes(said, ".opencode/skills: it is not a folder: move it away, then sync\n");
    assertStringIncludes(said, '.claude/skills/loop: this link leads nowhere, to "loop": rm .claude/skills/loop\n');
  });

  it("leaves a moved repo to sync", async () => {
    using box = new Sandbox("use-skills.ts", "skill-doctor");
    box.environment["CODEX_HOME"] = `${box.home}/.codex`;
    box.skills("hq");
    box.manifest("hq for codex");
    await box.done();
    Deno.renameSync(box.repo, `${box.path}/moved`);
    box.repo = `${box.path}/moved`;
    const { said } = await doctor(box);
    assertMatch(said, /hq: this link leads nowhere, to .*: sync$/m);
    assertEquals(said.includes("it is gone, and what"), false, said);
    await box.done();
    assertEquals((await doctor(box)).status, 0);
  });

  it("says what keeps a skill of the manifest from being seen at all", async () => {
    using box = new Sandbox("use-skills.ts", "skill-doctor");
    box.write("skills/low/skill.md", skillText("low"));
    box.manifest("low", "nosuch");
    const { status, said } = await doctor(box);
    assertEquals(status, 1);
    assertStringIncludes(said, '.skills:1: "low" cannot be deployed: it has no SKILL.md, but "skill.md"');
    assertStringIncludes(said, '.skills:2: No skill "nosuch"');
  });

  it("shows a name that could pass for its own words as one", async () => {
    using box = new Sandbox("use-skills.ts", "skill-doctor");
    box.link(".claude/skills/x\nuse-skills: all is well", "nowhere");
    const { said } = await doctor(box);
    assertEquals(said.split("\n").filter((line) => line.startsWith("use-skills")), []);
    box.remove(".claude/skills/x\nuse-skills: all is well");
    box.skills(".claude/skills/y\nuse-skills: all is well");
    const { stdout, stderr } = await box.run("doctor");
    assertEquals((stdout + stderr).split("\n").filter((line) => line.startsWith("use-skills")), []);
  });

  it("shows with --quiet what is wrong alone", async () => {
    using box = new Sandbox("use-skills.ts", "skill-doctor");
    box.skills("hq");
    box.manifest("hq");
    await box.done();
    assertEquals(await box.done("doctor", "--quiet"), "");
  });

  requires("setpriv")("goes on where a folder cannot be read", async () => {
    using box = new Sandbox("use-skills.ts", "skill-doctor");
    box.skills("hq");
    box.manifest("hq for claude");
    box.directory(".opencode/skills");
    Deno.chmodSync(box.at(".opencode/skills"), 0o000);
    const { status, stdout, stderr } = await box.runUnprivileged("doctor");
    assertEquals([status, stderr], [1, ".opencode/skills: it cannot be read: Permission denied\n"]);
    assertStringIncludes(stdout, "claude\n");
  });
});

/** Runs the doctor; gives what it says besides what is seen. */
async function doctor(box: Sandbox, ...args: string[]): Promise<{ status: number; said: string }> {
  const { status, stderr } = await box.run("doctor", ...args);
  return { status, said: stderr };
}
