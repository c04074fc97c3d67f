/** Tests that links in a cloned repo can't make a run write or read outside of it. */
import { describe } from "jsr:@std/testing@^1/bdd";
import { scenario } from "./scenario.ts";

const UNDER = { DIRENV_IN_ENVRC: "1" };
const LINKED = "use-skills: linked hq for";

describe("a link in a repo", () => {
  scenario("in place of a target has nothing moved or removed behind it")
    .skills("hq").manifest("hq").sync().remove(".claude/skills").link(".claude/skills", "../../home/.claude/skills")
    .skills(".claude/.use-skills.tmp/skills/evil.old").write(".use-skills.new", "")
    .write("/box/home/.claude/skills/mine/SKILL.md", "precious").environment(UNDER)
    .sync().fails(
      ".skills:1: Cannot deploy to .claude/skills: it leads out of the project, to /box/home/.claude/skills: name " +
        "that path if you want this",
    )
    .has("/box/home/.claude/skills", { mine: "copy" })
    .is("/box/home/.claude/skills/mine/SKILL.md", "644 precious");

  scenario("to a target of another project has nothing moved there")
    .enter("other").skills("hq").manifest("hq").sync()
    .enter("repo").skills("hq", ".claude/.use-skills.tmp/skills/evil.old").manifest("hq for cursor")
    .link(".claude/skills", "../../other/.claude/skills").write(".use-skills.new", "").environment(UNDER)
    .sync().says(`${LINKED} cursor`)
    .has("/box/other/.claude/skills", { hq: "../../skills/hq" });

  scenario("that is broken, and leads out through another link, is no target")
    .skills("hq").manifest("hq for claude").directory("/box/home/.claude")
    .link(".claude/skills", "../.opencode/skills").link(".opencode", "../home/.claude").environment(UNDER)
    .sync().fails(".skills:1: Cannot deploy to .claude/skills: /box/repo/.claude/skills is a broken link")
    .has("/box/home/.claude", {});

  scenario("that is CODEX_HOME in the project must not lead out of it")
    .skills("hq").manifest("hq for codex").directory("/box/home/.claude").link(".codex", "../home/.claude")
    .environment({ ...UNDER, CODEX_HOME: "/box/repo/.codex" })
    .sync().fails(
      `.skills:1: Cannot deploy to .codex/skills: it leads out of the project, to /box/home/.claude/skills: name ` +
        "that path if you want this",
    )
    .has("/box/home/.claude", {});

  for (const path of ["./.GIT/hooks", "./.git/hooks"]) {
    scenario(`is not needed to refuse ${path}`)
      .skills("hq").manifest(`hq for ${path}`)
      .sync().fails(`.skills:1: Cannot deploy to ${path.slice(2)}: it is inside .git`);
  }

  scenario("is not needed to refuse the project's own directory")
    .skills("hq").manifest("hq for ./").sync().fails(".skills:1: Cannot deploy to .: it is the project's directory");

  scenario("that is another project's lockfile or state file is not read by clean --store")
    .enter("other").skills("hq").manifest("hq for claude").sync().link(".skills.lock", "/dev/zero")
    .do((box) => box.remove(".claude/skills/.use-skills.json")).link(".claude/skills/.use-skills.json", "/dev/zero")
    .enter("repo").manifest("# nothing").run("clean", "--store").says(
      "use-skills: removed what no known project uses: 0 skills, 0 B",
      "use-skills: removed what no known project uses: 0 cached repos, 0 B",
    );

  scenario("that is .skills is refused, and nothing is written through it")
    .write(".git/info/exclude", "hq\n").link(".skills", ".git/info/exclude").run("add", "./skills/hq")
    .refuses("use-skills: Cannot read .skills: it is a link, not a regular file").is(".git/info/exclude", "644 hq\n");

  const both = (one: string, other: string) => `Cannot deploy to both ${one} and ${other}: one is in the other`;
  scenario("that a run itself creates can't lead another target anywhere")
    .skills("evil").write("X/SKILL.md", "x").link("X/.use-skills.json", "../../home/.bashrc")
    .link("X/out", "../../home/.ssh").write("/box/home/.bashrc", "precious").directory("/box/home/.ssh")
    .manifest("./X as a for ./t", "./skills/evil for ./t/a ./t/a/out/new")
    .sync().fails(
      "use-skills: linked a for ./t",
      `.skills:2: ${both("t/a", "t")}`,
      `.skills:2: ${both("t/a/out/new", "t")}`,
    )
    .is("/box/home/.bashrc", "644 precious").has("/box/home/.ssh", {});

  scenario("to a skill in the home can't lead another target there")
    .skills("evil", "/box/home/.claude/skills/pdf")
    .manifest("~/.claude/skills/pdf as skills for ./.claude", "evil for claude")
    .sync().fails("use-skills: linked skills for ./.claude", `.skills:2: ${both(".claude/skills", ".claude")}`)
    .has("/box/home/.claude/skills/pdf", { "SKILL.md": "file" });

  scenario("in the staging directory is not put back")
    .skills("hq", "one").manifest("hq for claude").sync().link(
      ".claude/.use-skills.tmp/skills/y.old",
      "../../../../home",
    )
    .manifest("one for claude").environment(UNDER)
    .sync().says("use-skills: linked one for claude", "use-skills: removed hq for claude")
    .has(".claude/skills", { one: "../../skills/one" });

  scenario("above the project doesn't make CODEX_HOME in it lead out of it")
    .skills("hq").manifest("hq for codex").directory("/box/home/.claude").link(".codex", "../home/.claude")
    .link("/box/home/work", "/box/repo").environment({ ...UNDER, CODEX_HOME: "/box/home/work/.codex" })
    .sync().fails(
      ".skills:1: Cannot deploy to ~/work/.codex/skills: it leads out of the project, to /box/home/.claude/skills: " +
        "name that path if you want this",
    )
    .has("/box/home/.claude", {});
});
