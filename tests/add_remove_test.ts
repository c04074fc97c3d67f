/** What `add` and `remove` of git references write, keep and refuse. */
import { assertEquals } from "jsr:@std/assert@^1";
import { describe } from "jsr:@std/testing@^1/bdd";
import { AGENTS, noise, PDF, Setting, skillFiles } from "./git_helpers.ts";
import { isThere, kill, requires, skillText, stamps } from "./helpers.ts";

const it = requires("git", "openssl");

const REFERENCE = "team/skills/skills/pdf";

describe("add and remove", () => {
  it("write and delete lines, and keep every other byte", async () => {
    await using setting = await Setting.start();
    const { box } = setting;
    box.skills("local");
    const text = "\ufeff# mine\r\n\r\nlocal   # here\r\n\r\nfor cursor  # the rest\r\nlocal as there";
    box.write(".skills", text);
    assertEquals(
      await box.done("add", REFERENCE),
      `use-skills: added to .skills: ${REFERENCE}\nuse-skills: linked local, pdf for ${AGENTS}
use-skills: linked there for cursor\n`,
    );
    const added = text.replace("# here\r\n", `# here\r\n${REFERENCE}\r\n`);
    assertEquals(box.read(".skills"), `${added}\r\n`);
    assertEquals(Object.keys(setting.links), ["local", "pdf"]);
    await box.done("add", `${REFERENCE}#v1`, "--as", "tagged", "--for", "claude", "--for", "kilo");
    assertEquals(box.read(".skills"), `${added}\r\n${REFERENCE}#v1 as tagged for claude kilo\r\n`);
    assertEquals(Object.keys(setting.links), ["local", "pdf", "tagged"]);
    assertEquals(
      await box.done("remove", "tagged", "pdf"),
      `use-skills: deleted from .skills: ${REFERENCE}
use-skills: deleted from .skills: ${REFERENCE}#v1 as tagged for claude kilo
use-skills: removed pdf for ${AGENTS}\nuse-skills: removed tagged for claude, kilo\n`,
    );
    assertEquals(box.read(".skills"), `${text}\r\n`);
    assertEquals(Object.keys(setting.links), ["local"]);
    assertEquals(isThere(box.at(".skills.lock")), false);
  });

  it("write paths from the project, or from the home, so that they mean the same elsewhere", async () => {
    await using setting = await Setting.start();
    const { box } = setting;
    box.skills("tools/inside", `${box.home}/notes/mine`, `${box.path}/elsewhere`);
    await box.done("add", box.at("tools/inside"), `${box.home}/notes/mine`, `${box.path}/elsewhere`);
    assertEquals(box.read(".skills"), `./tools/inside\n~/notes/mine\n${box.path}/elsewhere\n`);
    assertEquals(Object.keys(setting.links), ["elsewhere", "inside", "mine"]);
  });

  it("keep what others write into the manifest meanwhile", async () => {
    await using setting = await Setting.start();
    const { box, forge } = setting;
    box.skills("local");
    box.manifest("# mine");
    forge.onRequest = () => box.manifest("# mine", "local");
    await box.done("add", REFERENCE);
    assertEquals(box.read(".skills"), `# mine\nlocal\n${REFERENCE}\n`);
    forge.onRequest = undefined;
    box.manifest();
    await Promise.all(["one", "two", "three"].map((name) => box.done("add", `${REFERENCE}#v1`, "--as", name)));
    assertEquals(box.read(".skills").split("\n").length, 4);
    assertEquals(Object.keys(setting.links), ["one", "three", "two"]);
  });

  it("keep a comment with the for line that it is about", async () => {
    await using setting = await Setting.start();
    const { box } = setting;
    box.skills("local");
    box.manifest("\ufeff# about all", "", "# only", "# for cursor", "for cursor", "local");
    await box.done("add", REFERENCE);
    const lines = ["\ufeff# about all", "", REFERENCE, "# only", "# for cursor", "for cursor", "local"];
    assertEquals(box.read(".skills"), lines.map((line) => `${line}\n`).join(""));
  });

  it("create a manifest with several skills at once, and leave an empty one", async () => {
    await using setting = await Setting.start();
    const { box } = setting;
    box.skills("local");
    await box.done("add", REFERENCE, "local");
    assertEquals(box.read(".skills"), `${REFERENCE}\nlocal\n`);
    await box.done("remove", REFERENCE, "local");
    assertEquals([box.read(".skills"), setting.links], ["", {}]);
  });

  const url = "https://github.com/team/skills";
  const skills = "at COMMIT; skills in this repo: skills/pdf";
  const refused: [args: string[], status: number, message: string][] = [
    [["team/skills"], 1, `"team/skills": ${url} has no SKILL.md ${skills}`],
    [
      ["team/skills/skills/nosuch"],
      1,
      `"team/skills/skills/nosuch": ${url} has no directory "skills/nosuch" ${skills}`,
    ],
    [
      [`${REFERENCE}#v1`, "gone"],
      1,
      'No skill "gone" in ./skills, PROGRAM/skills: write the path of its folder, for example ~/use-skills/skills/gone, ' +
      "or set SKILLS_PATH",
    ],
    [
      [REFERENCE, "--as", "local"],
      1,
      '"local" names two skills, team/skills/skills/pdf here and skills/local in line 1: write "as NAME" after one of them',
    ],
    [
      [REFERENCE, "--as", "Pdf"],
      1,
      '"Pdf" is not a skill name: 1 to 64 lowercase letters, digits and single hyphens, did you mean "pdf"?',
    ],
    [[REFERENCE, "--for", "cursr"], 1, 'Unknown agent "cursr", did you mean "cursor"?'],
    [
      ["skills/pdf"],
      1,
      '"skills/pdf" can be a path, because ./skills exists: write ./skills/pdf or https://github.com/skills/pdf',
    ],
    [["./empty"], 1, 'Cannot deploy "empty" from empty: it has no SKILL.md'],
    [["local"], 1, 'use-skills: "local" is already in line 1 of .skills'],
    [["team/skills/*", "--as", "all"], 1, '"as" needs one skill, but "team/skills/*" names many'],
    [["a b"], 2, '"a b" is not a reference: it contains white space or "#"'],
    [["local as other"], 2, '"local as other" is not a reference: it contains white space or "#"'],
    [["local #x"], 2, '"local #x" is not a reference: it contains white space or "#"'],
    [[""], 2, '"" is not a reference: it contains white space or "#"'],
    [[], 2, "Usage: use-skills.ts add REF... [--as NAME] [--for AGENT] [--allow-large]"],
    [["local", REFERENCE, "--as", "x"], 2, "--as needs one skill, but there are several"],
    [
      ["https://me:s3cret@github.com/a/b"],
      2,
      "This URL contains a user or a password: remove it and use git's credential helper",
    ],
  ];
  it("refuse to add what cannot be deployed, and change nothing", async () => {
    await using setting = await Setting.start();
    const { box } = setting;
    box.skills("local");
    box.directory("empty");
    box.manifest("local");
    await box.done();
    const before = stamps(box.repo);
    const commit = (await setting.hash("main")).slice(0, 7);
    const tree = await setting.hash("main:skills/pdf");
    const program = (await box.call()).find((word) => word.endsWith("/use-skills.ts"))!.replace("/use-skills.ts", "");
    for (const [args, status, message] of refused) {
      const expected = message.replace("COMMIT", commit).replace("PROGRAM", program)
        .replace("STORE", `~/.local/share/use-skills/store/${tree}`);
      const place = message.startsWith("use-skills: ") ? "" : status === 1 ? ".skills: " : "use-skills: ";
      assertEquals([args, await box.fails(status, "add", ...args)], [args, `${place}${expected}\n`]);
      assertEquals(stamps(box.repo), before);
    }
  });

  it("add all skills of a repo, and refuse to remove one of them", async () => {
    await using setting = await Setting.start({ ...PDF, ...skillFiles("more", ["csv"]) });
    const { box } = setting;
    box.skills("local");
    await box.done("add", "local");
    const line = "team/skills/*";
    assertEquals(
      await box.done("add", line),
      `use-skills: added to .skills: ${line}\nuse-skills: linked csv, pdf for ${AGENTS}\n`,
    );
    assertEquals(
      await box.fails(2, "remove", "csv"),
      'use-skills: "team/skills/*" in line 2 deploys others, too: remove that entry, or replace it by entries for ' +
        "the others\n",
    );
    assertEquals(await box.fails(2, "remove", "nosuch"), 'use-skills: No entry of .skills deploys "nosuch"\n');
    assertEquals(await box.fails(2, "remove"), "use-skills: Usage: use-skills.ts remove NAME...\n");
    assertEquals(
      await box.done("remove", line),
      `use-skills: deleted from .skills: ${line}\nuse-skills: removed csv, pdf for ${AGENTS}\n`,
    );
    assertEquals(Object.keys(setting.links), ["local"]);
  });

  it("add a large skill with --allow-large, and the lockfile says so", async () => {
    const files = Object.fromEntries(Array.from({ length: 5_000 }, (_, index) => [`bad/n/${index}`, ""]));
    await using setting = await Setting.start({ ...files, "bad/SKILL.md": skillText("bad") });
    const { box } = setting;
    assertEquals(
      await box.fails(1, "add", "team/skills/bad"),
      '.skills: Refused "bad": it has 5001 files, more than 5000 (--allow-large)\n',
    );
    assertEquals([isThere(box.at(".skills")), isThere(box.at(".skills.lock"))], [false, false]);
    assertEquals(await box.done("add", "-q", "--allow-large", "team/skills/bad"), "");
    assertEquals(Object.values(setting.locked).map((each) => `${each["large"]}`), ["true"]);
    setting.forgetAll();
    assertEquals(await box.done("--frozen"), `use-skills: linked bad for ${AGENTS}\n`);
  });

  it("never leave a manifest that names something that is not locked, killed at any moment", async () => {
    await using setting = await Setting.start({ ...PDF, "skills/pdf/large": noise(60_000) });
    const { box } = setting;
    box.skills("local");
    for (let round = 0; round < 16; round++) {
      setting.forgetAll();
      box.manifest("local");
      if (isThere(box.at(".skills.lock"))) box.remove(".skills.lock");
      if (round % 2 === 0) { // The files are stored already, so that most moments are those of writing.
        await box.done("add", REFERENCE);
        await box.done("remove", "pdf");
      }
      const child = await box.spawn("add", REFERENCE);
      await new Promise((go) => setTimeout(go, 20 + round * 30));
      kill(child);
      await child.status;
      const manifest = box.read(".skills");
      const isNamed = manifest.includes(REFERENCE);
      assertEquals(manifest, isNamed ? `local\n${REFERENCE}\n` : "local\n");
      if (isNamed) assertEquals(Object.keys(setting.locked), [REFERENCE]);
      await box.done();
      assertEquals(Object.keys(setting.links), isNamed ? ["local", "pdf"] : ["local"]);
      assertEquals(isThere(box.at(".skills.lock")), isNamed);
      assertEquals(await box.done("check"), "");
      const left = [...Deno.readDirSync(box.repo)].map(({ name }) => name).filter((name) =>
        name.startsWith(".use-skills")
      );
      assertEquals(left, []);
    }
  });
});
