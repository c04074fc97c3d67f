/** Tests of the `.gitignore` in each target. */
import { assertEquals } from "jsr:@std/assert@^1";
import { describe } from "jsr:@std/testing@^1/bdd";
import { type Sandbox, skillText } from "./helpers.ts";
import { scenario } from "./scenario.ts";

const status = (expected: string) => async (box: Sandbox) =>
  assertEquals(await box.git("status", "--porcelain", "-uall"), expected);

describe(".gitignore", () => {
  scenario("hides what is deployed from git, and nothing else", "git")
    .skills("hq", "one").manifest("hq", "one for ./own").do(async (box) => {
      await box.git("init", "--quiet");
      await box.git("add", ".");
      await box.git("commit", "--quiet", "-m", "skills");
    })
    .sync().do(status("")).mode("copy").sync().do(status(" M .skills\n")).mode().sync()
    .write(".claude/skills/mine/SKILL.md", skillText("mine")).do(status("?? .claude/skills/mine/SKILL.md\n"))
    .manifest("hq").sync().do(status(" M .skills\n?? .claude/skills/mine/SKILL.md\n"));

  const yours = [
    "use-skills: .claude/skills/.gitignore is yours and stays as it is; you may want to add",
    "/.use-skills.*",
    "/hq",
  ];
  scenario("of the user stays as it is, and the user is told once")
    .skills("hq", "one").write(".claude/skills/.gitignore", "mine\n").manifest("hq for claude")
    .sync().says("use-skills: linked hq for claude", ...yours)
    .manifest("hq for claude", "one for claude").sync().says("use-skills: linked one for claude")
    .sync().says().run("clean")
    .is(".claude/skills/.gitignore", "644 mine\n").has(".claude/skills", {}).lacks(".claude/skills/.use-skills.json");

  scenario("that the user edited stays as it is")
    .skills("hq", "one").manifest("hq for claude").sync()
    .do((box) => box.write(".claude/skills/.gitignore", `${box.read(".claude/skills/.gitignore")}/mine\n`)).remember()
    .manifest("hq for claude", "one for claude").sync().run("clean")
    .same("repo/.claude/skills/.gitignore").lacks(".claude/skills/hq");

  for (
    const [what, text] of [["a file", "../../ignored"], ["nothing", "../../nowhere"], [
      "/dev/zero",
      "/dev/zero",
    ]] as const
  ) {
    scenario(`that is a link to ${what} stays one`)
      .skills("hq").write("ignored", "mine\n").link(".claude/skills/.gitignore", text).manifest("hq for claude")
      .sync().says("use-skills: linked hq for claude", ...yours).sync().says().run("clean")
      .is(".claude/skills/.gitignore", `-> ${text}`).is("ignored", "644 mine\n");
  }

  scenario("that is a directory stays one")
    .skills("hq").write(".claude/skills/.gitignore/precious", "precious").manifest("hq for claude")
    .sync().says("use-skills: linked hq for claude", ...yours).sync().says()
    .is(".claude/skills/.gitignore/precious", "644 precious");
});
