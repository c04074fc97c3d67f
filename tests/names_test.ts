/** Tests of finding skills: by name, by path, and what happens to entries that fail. */
import { assertEquals } from "jsr:@std/assert@^1";
import { describe, it } from "jsr:@std/testing@^1/bdd";
import { deployed, installed, Sandbox, succeed } from "./helpers.ts";
import { scenario } from "./scenario.ts";

describe("a name", () => {
  it("is looked up next to the manifest, then in SKILLS_PATH, then next to the script", async () => {
    using box = new Sandbox();
    const { script } = await installed("use-skills.ts");
    box.write(`${box.path}/program/use-skills.ts`, Deno.readTextFileSync(script));
    box.skills("a", `${box.path}/p/a`, `${box.path}/p/b`, `${box.path}/q/b`, `${box.path}/q/c`);
    box.skills(...["a", "b", "c", "d"].map((name) => `${box.path}/program/skills/${name}`));
    box.skills("./b"); // An empty segment of SKILLS_PATH isn't the working directory.
    box.environment = { SKILLS_PATH: `:/nowhere::${box.path}/p:${box.path}/missing:${box.path}/q:` };
    box.manifest("a", "b", "c", "d");
    box.link("linked.ts", "../program/use-skills.ts"); // The real path counts.
    await succeed([Deno.execPath(), "run", "-A", "--no-lock", box.at("linked.ts")], await box.start());
    assertEquals(deployed(box.at(".claude/skills")), {
      a: "../../skills/a",
      b: `${box.path}/p/b`,
      c: `${box.path}/q/c`,
      d: `${box.path}/program/skills/d`,
    });
  });

  const missing = "write the path of its folder, for example ~/use-skills/skills/";

  scenario("that nobody has is reported with the directories that were searched")
    .skills("hq").manifest("oncall").environment({ SKILLS_PATH: "~/a:/box/b" })
    .sync().fails(
      `.skills:1: No skill "oncall" in ./skills, ~/a, /box/b, /installed/program/skills: ${missing}oncall, or set SKILLS_PATH`,
    );

  scenario("that is misspelt is reported with a similar one")
    .skills("review-gate", "hq").manifest("review-gat", "hqq")
    .sync().fails(
      `.skills:1: No skill "review-gat" in ./skills, /installed/program/skills, did you mean "review-gate"? Otherwise ${missing}review-gat, or set SKILLS_PATH`,
      `.skills:2: No skill "hqq" in ./skills, /installed/program/skills, did you mean "hq"? Otherwise ${missing}hqq, or set SKILLS_PATH`,
    );

  for (const [where, environment] of Object.entries({ "in the home": {}, "at USE_SKILLS": undefined })) {
    const place = environment ? "/box/home/use-skills" : "/box/home/src/checkout";
    scenario(`that only a checkout ${where} has is reported with its path there`)
      .skills(`${place}/skills/hq`).manifest("hq")
      .environment(environment ?? { USE_SKILLS: `${place}/use-skills.ts` })
      .sync().fails(
        `.skills:1: No skill "hq" in ./skills, /installed/program/skills: write the path of its folder, for example ${
          place.replace("/box/home", "~")
        }/skills/hq, or set SKILLS_PATH`,
      )
      .manifest(`${place.replace("/box/home", "~")}/skills/hq`) // as the message says
      .sync().says("use-skills: linked hq for claude, opencode, codex");
  }

  const rule = "is not a skill name: 1 to 64 lowercase letters, digits and single hyphens";
  scenario("that is not allowed is not looked up")
    .skills("good").manifest("..", "-rf", "A", "h\u0430", "\x1b[31mhq", "x".repeat(65), "good")
    .sync().fails(
      "use-skills: linked good for claude, opencode, codex",
      `.skills:1: ".." ${rule}`,
      `.skills:2: "-rf" ${rule}, did you mean "rf"?`,
      `.skills:3: "A" ${rule}, did you mean "a"?`,
      `.skills:4: "h\u0430" ${rule}; it contains U+0430`,
      `.skills:5: "\\u001b[31mhq" ${rule}; it contains U+001B`,
      `.skills:6: "${"x".repeat(65)}" ${rule}; it has 65 characters`,
    );

  const aliases = ["..", ".git", "--help", "../../../escaped", "a/b", "A", "as", ".use-skills.json", ".use-skills.tmp"];
  for (const name of [...aliases, ".gitignore", "hq\u200b", "x".repeat(65)]) {
    scenario(`as ${JSON.stringify(name).slice(0, 20)} is not deployed`)
      .skills("hq", "good").manifest("good for claude", `hq as ${name} for claude`).remember()
      .sync().fails()
      .has(".claude/skills", { good: "../../skills/good" })
      .lacks("/box/escaped", "/escaped");
  }

  scenario("of a directory that is not allowed is a problem of the entry for all")
    .skills("good", "A", "two words", "a\nb").manifest("# all", "./skills/* for claude")
    .sync().fails(
      "use-skills: linked good for claude",
      `.skills:2: "A" ${rule}, did you mean "a"? Rename the directory, or write "as NAME" after its path`,
      `.skills:2: "a\\nb" ${rule}; it contains U+000A: rename the directory, or write "as NAME" after its path`,
      `.skills:2: "two words" ${rule}, did you mean "two-words"? Rename the directory, or write "as NAME" after its path`,
    );

  scenario("in two directories, all of whose skills are named, can't be renamed there")
    .skills("a/hq", "b/hq").write("b/hq/SKILL.md", "other").manifest("./a/* for claude", "./b/* for claude")
    .sync().fails(
      "use-skills: linked hq for claude",
      '.skills:2: "hq" names two skills, b/hq here and a/hq in line 1: replace one of the entries by entries for single skills',
    );

  scenario("of two different skills is a problem of the later entry")
    .skills("hq", "./other/hq").manifest("hq for claude", "", "./other/hq for claude")
    .sync().fails(
      "use-skills: linked hq for claude",
      '.skills:3: "hq" names two skills, other/hq here and skills/hq in line 1: write "as NAME" after one of them',
    )
    .has(".claude/skills", { hq: "../../skills/hq" });

  scenario("that reaches one skill in several ways is deployed once")
    .skills("hq").link("again", "skills").manifest("hq", "hq for agents amp", "./skills/*", "./again/hq")
    .sync().says(
      "use-skills: linked hq for claude, opencode, codex, agents, amp",
    );

  scenario("of different skills in different targets is fine")
    .skills("hq", "./other/hq").manifest("hq for claude", "./other/hq for cursor")
    .sync().has(".claude/skills", { hq: "../../skills/hq" }).has(".cursor/skills", { hq: "../../other/hq" });
});

describe("an entry that fails", () => {
  const unfetched = (text: string) =>
    `"${text}" is new in .skills and not fetched yet: --frozen (or CI=true) doesn't change .skills.lock, so run sync without it and commit that file`;
  const path = (text: string) =>
    `"${text}" can be a path, because ./skills exists: write ./${text} or https://github.com/${
      text.split("/", 2).join("/")
    }`;
  const entries: Record<string, string> = {
    "./nothing/here": '"./nothing/here" does not exist',
    "./.skills": '"./.skills" is a file: name the skill\'s directory',
    "~/nothing/*": 'The directory of "~/nothing/*" does not exist',
    "./skills/* as all": '"as" needs one skill, but "./skills/*" names many',
    "hq as Not-A-Name":
      '"Not-A-Name" is not a skill name: 1 to 64 lowercase letters, digits and single hyphens, did you mean "not-a-name"?',
    "hq for cursr": 'Unknown agent "cursr", did you mean "cursor"?',
    "hq for claude nobody": 'Unknown agent "nobody"',
    "a/b/c#main as pdf": unfetched("a/b/c#main"),
    "https://git.example.org/s.git//x": unfetched("https://git.example.org/s.git//x"),
    "git@example.org:s.git": unfetched("git@example.org:s.git"),
    "https://github.com/a/b/tree/main/x": unfetched("https://github.com/a/b/tree/main/x"),
    "skills/hq": path("skills/hq"),
    "skills/hq/deep": path("skills/hq/deep"),
    "other as good":
      '"good" names two skills, skills/other here and skills/good in line 2: write "as NAME" after one of them',
    "empty": 'Cannot deploy "empty" from skills/empty: it has no SKILL.md',
  };
  for (const [entry, message] of Object.entries(entries)) {
    scenario(`such as ${JSON.stringify(entry)} doesn't stop the others`)
      .environment({ CI: "true" }) // nothing is fetched
      .skills("good", "hq", "other").directory("skills/empty")
      .manifest("for claude", "good", entry, "other as last").sync().fails()
      .run("-q").fails(`.skills:3: ${message}`)
      .do((box) => {
        const { good, last } = deployed(box.at(".claude/skills"));
        assertEquals([good, last], ["../../skills/good", "../../skills/other"]);
      });
  }

  scenario("is reported once, also if it is for many targets")
    .directory("skills/bad").manifest("bad for claude opencode cursor")
    .sync().fails('.skills:1: Cannot deploy "bad" from skills/bad: it has no SKILL.md');

  scenario("is refused before its files are read, also to copy it")
    .directory("skills/bad").link("skills/bad/out", "/box/home").manifest("mode copy", "./skills/bad")
    .sync().fails('.skills:2: Cannot deploy "bad" from skills/bad: it has no SKILL.md');

  scenario("keeps what was deployed for it")
    .skills("one", "two", "three", "./more/four", "five")
    .manifest("one", "two for claude", "./skills/three", "./more/*", "five for cursor").sync().remember()
    .remove("skills/one", "skills/three", "more")
    .manifest("one", "a/b as two for claude", "./skills/three", "./more/*", "five for cursr")
    .environment({ CI: "true" }).sync("-q").fails()
    .same("repo/.claude").same("repo/.opencode").same("repo/.agents").same("repo/.cursor");

  for (const entry of ["./skills/* for claude cursr", "./skills/* as one"]) {
    scenario(`keeps what ${JSON.stringify(entry)} had deployed`)
      .skills("hq", "one").manifest("./skills/* for claude cursor").sync().remember()
      .manifest(entry).sync().fails()
      .same("repo/.cursor");
  }

  scenario("for an unknown agent doesn't change those of later entries")
    .skills("one", "two").manifest("for nobody", "one", "two for claude")
    .sync().fails("use-skills: linked two for claude", '.skills:1: Unknown agent "nobody"');

  scenario("without a home doesn't stop the others")
    .skills("hq").manifest("hq for claude", "~/x", "~/y/*").environment({ HOME: "", SKILLS_PATH: "~/z" })
    .sync("-q").fails(
      '.skills:2: Cannot expand "~/x": HOME is not set',
      '.skills:3: Cannot expand "~/y": HOME is not set',
    );

  scenario("without a home is none, and the warning names no directory")
    .skills("hq").manifest("hq for claude").environment({ HOME: "" })
    .sync().says(
      "use-skills: linked hq for claude",
      "use-skills: Warning: cannot record where skills are deployed: Neither XDG_STATE_HOME nor HOME is set",
    );

  scenario("without SKILL.md is reported only if it is not deployed yet, or by check")
    .skills("hq").manifest("hq for claude").sync()
    .remove("skills/hq/SKILL.md").write("skills/hq/other", "").sync().says()
    .run("check").fails('.skills:1: Cannot deploy "hq" from skills/hq: it has no SKILL.md');
});

describe("output", () => {
  scenario("contains no control or formatting characters of the manifest")
    .skills("hq").manifest("hq for ./\x1b[31mX\x1b]0;title\x07", "./\u202ex", "hq as \x9bz", "hq for ./\u2028y")
    .do(async (box) => {
      for (const command of ["sync", "list", "check", "clean"]) {
        const { stdout, stderr } = await box.run(command);
        assertEquals(/[\p{Cc}\p{Cf}\p{Zl}]/u.test((stdout + stderr).replaceAll("\n", "")), false);
      }
    });
});
