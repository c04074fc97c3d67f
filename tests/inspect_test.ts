/** Tests of what users see before they trust a skill: `add --dry-run`, and `add` of a skill by its name in a repo. */
import { assertEquals } from "jsr:@std/assert@^1";
import { describe } from "jsr:@std/testing@^1/bdd";
import { AGENTS, PDF, Setting, skillFiles } from "./git_helpers.ts";
import { requires, skillText, stamps } from "./helpers.ts";
import { scenario } from "./scenario.ts";

const it = requires("git", "openssl");

describe("add --dry-run", () => {
  it("shows a skill's files, and where to read it, without deploying it", async () => {
    const hidden = `${skillText("pdf")}\u200b\n`;
    await using setting = await Setting.start({
      ...PDF,
      "skills/pdf/SKILL.md": hidden,
      "skills/pdf/data": "x".repeat(2048),
      "skills/pdf/link": { link: "data" },
    });
    const { box } = setting;
    box.manifest("# mine");
    const before = stamps(box.repo);
    const commit = (await setting.hash("main")).slice(0, 7);
    const skill = `~/.local/share/use-skills/store/${await setting.hash("main:skills/pdf")}/pdf`;
    const { status, stdout, stderr } = await box.run("add", "-n", "team/skills/skills/pdf");
    const lines = [
      `pdf: team/skills/skills/pdf at ${commit}`,
      `  ${new TextEncoder().encode(hidden).length} B       SKILL.md`,
      "  2.0 KiB    data",
      "  link to data link",
      "  10 B       run.sh (executable)",
      "  hidden character: SKILL.md:7:1 U+200B zero-width character",
      `  Read it in ${skill}`,
    ];
    assertEquals(stdout, lines.map((line) => `${line}\n`).join(""));
    assertEquals([status, stderr], [0, ""]);
    assertEquals(stamps(box.repo), before);
  });

  scenario("shows a line end in a name or a link as an escape")
    .skills("hq").write("skills/hq/a\n  10 B       b", "").link("skills/hq/c", "x\ny")
    .run("add", "-n", "./skills/hq").says().prints(
      "hq: ./skills/hq",
      "  53 B       SKILL.md",
      "  0 B        a\\n  10 B       b",
      "  link to x\\ny c",
      "  Read it in skills/hq",
    );

  scenario("accepts a local skill, and writes nothing")
    .skills("hq").write("skills/hq/run", "#!/bin/sh\n").do((box) => Deno.chmodSync(box.at("skills/hq/run"), 0o755))
    .remember().run("add", "--dry-run", "./skills/hq").says().prints(
      "hq: ./skills/hq",
      "  53 B       SKILL.md",
      "  10 B       run (executable)",
      "  Read it in skills/hq",
    ).untouched();

  scenario("reports what add would report")
    .run("add", "-n", "./gone").fails('.skills: "./gone" does not exist');
});

describe("add OWNER/REPO@NAME", () => {
  it("finds the skill in the repo, and writes a line with its path", async () => {
    await using setting = await Setting.start({ ...PDF, ...skillFiles("more/deep", ["csv"]) });
    const { box } = setting;
    assertEquals(
      await box.done("add", "team/skills@csv", "team/skills@pdf#v1"),
      "use-skills: added to .skills: team/skills/more/deep/csv\n" +
        "use-skills: added to .skills: team/skills/skills/pdf#v1\n" +
        `use-skills: linked csv, pdf for ${AGENTS}\n`,
    );
    assertEquals(box.read(".skills"), "team/skills/more/deep/csv\nteam/skills/skills/pdf#v1\n");
  });

  it("finds it by the name in its front matter, too, and deploys it under that name", async () => {
    const names: [directory: string, line: string][] = [
      ["react", "name: team-react"],
      ["quoted", 'name: "team-quoted"\r'],
      ["body", "description: x\n---\nname: team-body\n8e2adabcdef1234567890123456789012345678a blob 12"],
      ["large", `${"#".repeat(2 ** 20)}\nname: team-large`],
    ];
    const files = names.map(([directory, line]) => [`skills/${directory}/SKILL.md`, `---\n${line}\n---\n`]);
    await using setting = await Setting.start({ ...PDF, ...Object.fromEntries(files) });
    const { box } = setting;
    assertEquals(
      await box.done("add", "team/skills@team-react", "team/skills@team-quoted#v1"),
      "use-skills: added to .skills: team/skills/skills/react as team-react\n" +
        "use-skills: added to .skills: team/skills/skills/quoted#v1 as team-quoted\n" +
        `use-skills: linked team-react, team-quoted for ${AGENTS}\n`,
    );
    assertEquals(
      await box.fails(1, "add", "team/skills@team-body"),
      'use-skills: team/skills has no skill "team-body"; skills in this repo: skills/body, skills/large, skills/pdf, skills/quoted, skills/react\n',
    );
  });

  it("says which skills there are if it finds none or several, and changes nothing", async () => {
    await using setting = await Setting.start({ ...PDF, ...skillFiles("a", ["x"]), ...skillFiles("b", ["x"]) });
    const { box } = setting;
    const before = stamps(box.repo);
    assertEquals(
      await box.fails(1, "add", "team/skills@nosuch"),
      'use-skills: team/skills has no skill "nosuch"; skills in this repo: a/x, b/x, skills/pdf\n',
    );
    assertEquals(
      await box.fails(1, "add", "team/skills@x"),
      'use-skills: team/skills has several skills "x", a/x, b/x: write team/skills/PATH\n',
    );
    assertEquals(stamps(box.repo), before);
  });

  it("refuses a directory whose name would be read as more than a path", async () => {
    await using setting = await Setting.start({ ...PDF, "x for /tmp/pdf/SKILL.md": skillText("pdf") });
    const before = stamps(setting.box.repo);
    await setting.forge.commit("team/skills", { "skills/pdf": undefined });
    assertEquals(
      await setting.box.fails(2, "add", "team/skills@pdf"),
      'use-skills: "team/skills/x for /tmp/pdf" is not a reference: it contains white space or "#"\n',
    );
    assertEquals(stamps(setting.box.repo), before);
  });

  scenario("is the only place for this form")
    .manifest("team/skills@pdf").remember()
    .sync().refuses('.skills:1: "team/skills@pdf" has no path: run "use-skills.ts add team/skills@pdf", which finds it')
    .untouched();
});
