/** What `update` fetches, shows, locks and refuses. */
import { assertEquals, assertMatch } from "jsr:@std/assert@^1";
import { describe } from "jsr:@std/testing@^1/bdd";
import { AGENTS, PDF, Setting } from "./git_helpers.ts";
import { isThere, requires, skillText } from "./helpers.ts";

const it = requires("git", "openssl");

const REFERENCE = "team/skills/skills/pdf";
const short = (commit: string) => commit.slice(0, 12);

describe("update", () => {
  it("shows what changes, locks it and deploys it; with --dry-run it only shows", async () => {
    await using setting = await Setting.start();
    const { box, forge } = setting;
    box.manifest(REFERENCE, `${REFERENCE}#v1 as tagged`);
    await box.done();
    const old = await setting.hash("main");
    const before = [box.read(".skills.lock"), setting.links];
    const commit = await forge.commit("team/skills", {
      "skills/pdf/SKILL.md": `${skillText("pdf")}More.\n`,
      "skills/pdf/new.sh": { executable: "#!/bin/sh\n" },
      "skills/pdf/link": { link: "new.sh" },
    });
    const shown = `${REFERENCE}: ${short(old)} -> ${short(commit)}
 SKILL.md | 1 +
 link     | 1 +
 new.sh   | 1 +
 3 files changed, 3 insertions(+)
 create mode 120000 link
 create mode 100755 new.sh
`;
    const planned = `use-skills: would relink pdf for ${AGENTS}\n`;
    const script = (await box.call()).find((word) => word.endsWith("use-skills.ts"));
    const apply = `use-skills: to apply this: deno run -A --no-config ${script} update\n`;
    for (const args of [["update", "-n"], ["outdated"]]) {
      assertEquals(await box.done(...args), shown + planned + apply);
    }
    box.directory("a directory");
    const there = await box.done("outdated", "-C", "a directory");
    assertEquals(there.split("\n").at(-2), apply.trimEnd().replace(/update$/, "update -C 'a directory'"));
    assertEquals([box.read(".skills.lock"), setting.links], before);
    assertEquals(await box.done("update", "pdf"), `${shown}use-skills: relinked pdf for ${AGENTS}\n`);
    assertEquals(setting.locked[REFERENCE]?.["commit"], commit);
    assertEquals(setting.locked[`${REFERENCE}#v1`]?.["commit"], old);
    assertMatch((await box.run("list")).stdout, new RegExp(`^ok +pdf .*@${commit.slice(0, 7)}$`, "m"));
    assertEquals(isThere(`${setting.links["pdf"]}/new.sh`), true);
    assertEquals(await box.done("update"), "");
  });

  it("says that a skill is the same at another commit", async () => {
    await using setting = await Setting.start();
    const { box, forge } = setting;
    box.manifest(REFERENCE);
    await box.done();
    const old = await setting.hash("main");
    const commit = await forge.commit("team/skills", { "README.md": "x" });
    const message = `${REFERENCE}: ${short(old)} -> ${short(commit)}, and the skill is the same\n`;
    assertEquals(await box.done("update"), message);
    assertEquals(setting.locked[REFERENCE]?.["commit"], commit);
    await forge.commit("team/skills", { "README.md": "y" });
    assertEquals(await box.done("update", "--quiet"), "");
  });

  it("locks what was not locked yet", async () => {
    await using setting = await Setting.start();
    const { box } = setting;
    box.manifest(REFERENCE);
    const commit = await setting.hash("main");
    assertEquals(
      await box.done("update"),
      `${REFERENCE}: ${short(commit)}, new\nuse-skills: linked pdf for ${AGENTS}\n`,
    );
  });

  it("shows changes of a reference to many skills, and deploys and removes skills", async () => {
    await using setting = await Setting.start({ ...PDF, "skills/csv/SKILL.md": skillText("csv") });
    const { box, forge } = setting;
    box.manifest("team/skills/skills/*");
    await box.done();
    const old = await setting.hash("main");
    const changes = { "skills/csv": undefined, "skills/docx/SKILL.md": skillText("docx") };
    const commit = await forge.commit("team/skills", changes);
    assertEquals(
      await box.done("update"),
      `team/skills/skills/*: ${short(old)} -> ${short(commit)}
 csv/SKILL.md  | 6 ------
 docx/SKILL.md | 6 ++++++
 2 files changed, 6 insertions(+), 6 deletions(-)
 delete mode 100644 csv/SKILL.md
 create mode 100644 docx/SKILL.md
use-skills: linked docx for ${AGENTS}
use-skills: removed csv for ${AGENTS}
`,
    );
    assertEquals(Object.keys(setting.links), ["docx", "pdf"]);
  });

  it("follows a branch that was pushed by force; sync says what to do about a commit that is gone", async () => {
    await using setting = await Setting.start();
    const { box, forge } = setting;
    box.manifest(REFERENCE);
    await box.done();
    const old = await setting.hash("main");
    const lock = box.read(".skills.lock");
    await forge.commit("team/other", { ...PDF, "skills/pdf/new": "x" });
    await forge.git("team/skills", "fetch", "--quiet", "../other.git", "+main:main");
    await forge.git("team/skills", "tag", "--delete", "v1");
    await forge.git("team/skills", "reflog", "expire", "--expire=all", "--all");
    await forge.git("team/skills", "gc", "--quiet", "--prune=now");
    setting.forgetAll();
    assertEquals(
      await box.fails(1),
      `.skills:1: https://github.com/team/skills no longer has the commit ${old}: "update" fetches the newest one\n`,
    );
    assertEquals(box.read(".skills.lock"), lock);
    assertEquals(
      await box.done("update"),
      `${REFERENCE}: ${short(old)} -> ${short(await setting.hash("main"))}
 (the old commit is gone, so the changes can't be shown)
use-skills: linked pdf for ${AGENTS}
`,
    );
  });

  it("refuses a tag that was moved", async () => {
    await using setting = await Setting.start();
    const { box, forge } = setting;
    box.manifest(`${REFERENCE}#v1`);
    await box.done();
    const [old, lock] = [await setting.hash("v1"), box.read(".skills.lock")];
    const commit = await forge.commit("team/skills", { "skills/pdf/new": "x" }, { tag: "v1" });
    assertEquals(await box.done(), "");
    assertEquals(
      await box.fails(1, "update"),
      `.skills:1: The tag of "${REFERENCE}#v1" was moved from ${short(old)} to ${short(commit)}, and tags should not ` +
        `move. If you know why, run "use-skills.ts update --accept-moved ${REFERENCE}#v1"\n`,
    );
    assertEquals(box.read(".skills.lock"), lock);
    const [apply] = (await box.done("outdated", "--accept-moved", "--trust", `${REFERENCE}#v1`)).split("\n").slice(-2);
    assertEquals(apply?.replace(/.* update/, "update"), `update --trust --accept-moved '${REFERENCE}#v1'`);
    await box.done("update", "--accept-moved", `${REFERENCE}#v1`, "-q");
    assertEquals(setting.locked[`${REFERENCE}#v1`]?.["commit"], commit);
  });

  it("keeps everything as it is if a skill is gone from the repo", async () => {
    await using setting = await Setting.start();
    const { box, forge } = setting;
    box.manifest(REFERENCE);
    await box.done();
    const before = [box.read(".skills.lock"), setting.links];
    const files = { "skills/pdf": undefined, "skills/pdf2/SKILL.md": skillText("pdf2") };
    const commit = await forge.commit("team/skills", files);
    assertEquals(
      await box.fails(1, "update"),
      `.skills:1: "${REFERENCE}": https://github.com/team/skills has no directory "skills/pdf" at ` +
        `${commit.slice(0, 7)}; skills in this repo: skills/pdf2\n`,
    );
    assertEquals([box.read(".skills.lock"), setting.links], before);
  });

  it("accepts a reference or a deployed name, and refuses others", async () => {
    await using setting = await Setting.start();
    const { box } = setting;
    box.skills("local");
    box.manifest("local", REFERENCE, `${REFERENCE}#v1 as tagged`);
    await box.done();
    for (const word of ["pdf", "tagged", REFERENCE, `${REFERENCE}#v1`]) {
      assertEquals(await box.done("update", word), "", word);
    }
    for (const word of ["local", "nosuch"]) {
      assertEquals(await box.fails(2, "update", word), `use-skills: No entry of .skills fetches "${word}"\n`);
    }
  });

  it("trusts hidden characters only with --trust, and only for the content it was given for", async () => {
    await using setting = await Setting.start({ "bad/SKILL.md": skillText("bad"), "bad/a.md": "\u200b\n" });
    const { box, forge } = setting;
    box.manifest("team/skills/bad trust");
    await box.done();
    assertEquals(Object.keys(setting.links), ["bad"]);
    const [{ trusted, tree: locked } = {}] = Object.values(setting.locked);
    assertEquals(trusted, locked);
    const [old, before] = [await setting.hash("main"), box.read(".skills.lock")];
    const commit = await forge.commit("team/skills", { "bad/a.md": "\u200b\n\u202e\n" });
    const title = `team/skills/bad: ${short(old)} -> ${short(commit)}
 a.md | 1 +
 1 file changed, 1 insertion(+)
 hidden character: bad/a.md:1:1 U+200B zero-width character
 hidden character: bad/a.md:2:1 U+202E bidirectional control
`;
    assertEquals(
      await box.fails(1, "update"),
      `${title}.skills:1: "team/skills/bad" contains hidden characters: bad/a.md:1:1 U+200B zero-width character; ` +
        "bad/a.md:2:1 U+202E bidirectional control; it changed since it was trusted: read it, then run " +
        '"update --trust"\n',
    );
    assertEquals(box.read(".skills.lock"), before);
    assertEquals(await box.done("update", "--trust"), `${title}use-skills: relinked bad for ${AGENTS}\n`);
    assertEquals(setting.locked["team/skills/bad"]?.["trusted"], await setting.hash("main:bad"));
  });
});
