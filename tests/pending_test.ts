/** What use-skills.ts does not do yet. Each test belongs into the file that it names. */
import { assertEquals } from "jsr:@std/assert@^1";
import { describe } from "jsr:@std/testing@^1/bdd";
import { AGENTS, PDF, Setting, skillFiles } from "./git_helpers.ts";
import { requires, skillText } from "./helpers.ts";

const it = requires("git", "openssl");

describe("pending", () => {
  it("stranger: a submodule is refused by its name", async () => {
    await using setting = await Setting.start({
      "bad/SKILL.md": skillText("bad"),
      "bad/lib": { submodule: "1".repeat(40) },
    });
    setting.box.manifest("team/skills/bad");
    assertEquals(await setting.box.fails(1), '.skills:1: Refused "bad": "lib" is a submodule\n');
  });

  it("git reference: skills after a submodule in the directory are found", async () => {
    await using setting = await Setting.start({
      ...skillFiles("skills", ["a", "z"]),
      "skills/m": { submodule: "1".repeat(40) },
    });
    setting.box.manifest("team/skills/skills/*");
    assertEquals(await setting.box.done(), `use-skills: linked a, z for ${AGENTS}\n`);
  });

  it("fetch: an empty answer of rev-parse is an error", async () => {
    await using setting = await Setting.start();
    const { box } = setting;
    await setting.recordGit();
    const wrapper = box.read(`${box.path}/bin/git`);
    box.write(`${box.path}/bin/git`, wrapper.replace("exec", 'case " $* " in *" rev-parse "*) exit 0;; esac\nexec'));
    box.manifest("team/skills/*");
    await box.fails(1);
  });

  it("stranger: the message about a too long list names the entry", async () => {
    await using setting = await Setting.start();
    const { box, forge } = setting;
    await forge.commit("team/bomb", PDF);
    await forge.commit("team/bomb", { x: { tree: forge.nestedTrees("team/bomb", 7, 12) } });
    box.manifest("team/bomb/nosuch");
    assertEquals(
      await box.fails(1),
      '.skills:1: Refused "team/bomb/nosuch": the list of its files has more than 8 MiB\n',
    );
  });
});
