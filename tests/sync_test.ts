/** Tests of `sync`, `check` and `list`: what is deployed follows the manifest. */
import { assertEquals, assertMatch } from "jsr:@std/assert@^1";
import { describe, it } from "jsr:@std/testing@^1/bdd";
import { Sandbox, tree } from "./helpers.ts";
import { scenario } from "./scenario.ts";

const LINKED = "use-skills: linked hq for claude, opencode, codex";

/** What `tree` of a repo lists besides its skills and what use-skills keeps for itself. */
function isDeployed(path: string): boolean {
  return !path.startsWith("skills") && !/\/\.(gitignore|use-skills\.json)$/.test(path);
}

/** A directory that is in the way of `hq`, as JSON and as a problem. */
const CONFLICT = {
  action: {
    action: "conflict",
    agent: "claude",
    name: "hq",
    path: "/box/repo/.claude/skills/hq",
    target: "../../skills/hq",
    reason: "a directory that use-skills did not create is there",
  },
  message:
    'Cannot deploy "hq" to .claude/skills: a directory that use-skills did not create is there (compare: diff -r skills/hq .claude/skills/hq); ' +
    'move it away, or write "as NAME" after the entry',
};

describe("sync", () => {
  scenario("makes relative links to skills in the project")
    .skills("hq", "./tools/house-style").manifest("hq", "./tools/house-style as style")
    .sync().says("use-skills: linked hq, style for claude, opencode, codex")
    .has(".claude/skills", { hq: "../../skills/hq", style: "../../tools/house-style" })
    .has(".opencode/skills", { hq: "../../skills/hq", style: "../../tools/house-style" })
    .has(".agents/skills", { hq: "../../skills/hq", style: "../../tools/house-style" });

  scenario("makes absolute links to skills outside the project")
    .skills("/box/home/notes/one", "/box/home/notes/two", "/box/beside").directory("/box/home/notes/no-skill")
    .manifest("~/notes/*", "../beside")
    .sync().says("use-skills: linked one, two, beside for claude, opencode, codex")
    .has(".claude/skills", { beside: "/box/beside", one: "/box/home/notes/one", two: "/box/home/notes/two" });

  scenario("is the default command")
    .skills("hq").manifest("hq")
    .run("sync").says(LINKED)
    .run("sync").says();

  scenario("follows the manifest")
    .skills("one", "two", "three").manifest("one", "two").sync()
    .manifest("two", "three", "one as first").sync().says(
      "use-skills: linked three, first for claude, opencode, codex",
      "use-skills: removed one for claude, opencode, codex",
    )
    .has(".claude/skills", { first: "../../skills/one", three: "../../skills/three", two: "../../skills/two" })
    .manifest("two as first").sync().says(
      "use-skills: relinked first for claude, opencode, codex",
      "use-skills: removed three, two for claude, opencode, codex",
    )
    .has(".claude/skills", { first: "../../skills/two" })
    .manifest("# nothing").sync().says("use-skills: removed first for codex, claude, opencode")
    .lacks(".claude", ".opencode", ".agents");

  for (const path of ["hq", ".gitignore", ".use-skills.json", ""]) {
    scenario(`restores ${path || "a target"} that somebody removed`)
      .skills("hq", "one").manifest("hq", "one").sync().remember()
      .remove(`.claude/skills/${path}`)
      .sync().same();
  }

  scenario("deploys to the agents and directories of an entry")
    .skills("one", "two", "three")
    .manifest("one for cursor droid", "for agents codex", "two", "three for ./own/folder /box/far")
    .sync().says(
      "use-skills: linked one for cursor, droid",
      "use-skills: linked two for agents, codex",
      "use-skills: linked three for ./own/folder, /box/far",
    )
    .has(".cursor/skills", { one: "../../skills/one" })
    .has(".factory/skills", { one: "../../skills/one" })
    .has(".agents/skills", { two: "../../skills/two" })
    .has("own/folder", { three: "../../skills/three" })
    .has("/box/far", { three: "/box/repo/skills/three" })
    .lacks(".claude");

  it("leaves nothing behind when the agents of an entry change", async () => {
    using box = new Sandbox();
    box.skills("hq");
    for (const agents of ["cursor ./own", "droid", "codex", "claude"]) {
      box.manifest(`hq for ${agents}`);
      await box.done();
    }
    const left = Object.keys(tree(box.repo)).filter(isDeployed);
    assertEquals(left, [".claude", ".claude/skills", ".claude/skills/hq", ".skills"]);
  });

  scenario("finds the manifest above the working directory, up to the repo's root")
    .skills("hq").manifest("hq").directory("a/b", "inner/.git", "inner/a")
    .from("a/b").sync().says(LINKED)
    .from("inner/a").sync().refuses(
      'use-skills: No .skills in /box/repo/inner/a or above it in its repo: "use-skills.ts init" creates one',
    )
    .lacks("inner/.claude", "inner/a/.claude");

  scenario("never takes a home's manifest for a project's")
    .directory("/box/home/project").skills("/box/home/skills/hq")
    .write("/box/home/.config/use-skills/skills", "hq\n").write("/box/home/.skills", "hq\n").remember()
    .from("/box/home/project").sync().refuses(
      'use-skills: No .skills in /box/home/project or above it in its repo: "use-skills.ts init" creates one',
    )
    .from("/box/home/.config/use-skills").sync().refuses()
    .untouched();

  scenario("works from another directory with --directory")
    .skills("hq").manifest("hq").directory("a")
    .from("/box/home").sync("-C", "../repo").says(LINKED)
    .run("check", "--directory=/box/repo/a").says()
    .sync("-C", "nowhere").refuses('use-skills: No directory "nowhere"');

  scenario("changes nothing with --dry-run")
    .skills("one", "two").manifest("one for claude").sync()
    .manifest("two for claude").remember()
    .sync("--dry-run").says(
      "would link .claude/skills/two -> skills/two: nothing is there",
      "would remove .claude/skills/one: it is no longer desired",
    )
    .sync("-n").untouched();

  scenario("prints only problems with --quiet")
    .skills("hq").manifest("hq").sync("--quiet").says()
    .manifest("hq", "./gone").sync("-q").fails('.skills:2: "./gone" does not exist');

  scenario("names the first of many skills")
    .skills(...Array.from({ length: 9 }, (_, index) => `s${index}`)).manifest("./skills/* for claude")
    .sync().says("use-skills: linked s0, s1, s2, s3, s4, s5 and 3 more for claude");

  scenario("prints the first 50 problems")
    .manifest(...Array.from({ length: 60 }, (_, index) => `./gone-${index}`))
    .sync().fails(
      "use-skills: the first 50 of 60 problems:",
      ...Array.from({ length: 50 }, (_, index) => `.skills:${index + 1}: "./gone-${index}" does not exist`),
    );

  scenario("prints one JSON object with --json")
    .skills("hq", "one").manifest("one for claude").sync().manifest("hq for claude", "./gone")
    .sync("--json").fails(
      "use-skills: linked hq for claude",
      "use-skills: removed one for claude",
      '.skills:2: "./gone" does not exist',
    )
    .printsJson({
      version: 2,
      directory: "/box/repo",
      actions: [
        {
          action: "link",
          agent: "claude",
          name: "hq",
          path: "/box/repo/.claude/skills/hq",
          target: "../../skills/hq",
          reason: "nothing is there",
        },
        {
          action: "prune",
          agent: "claude",
          name: "one",
          path: "/box/repo/.claude/skills/one",
          target: "../../skills/one",
          reason: "it is no longer desired",
        },
      ],
      problems: [{ file: ".skills", line: 2, name: "gone", message: '"./gone" does not exist' }],
    });

  scenario("prints no actions with --json when there is nothing to do")
    .skills("hq").manifest("hq").sync()
    .sync("--json").says().printsJson({ version: 2, directory: "/box/repo", actions: [], problems: [] });

  scenario("prints conflicts with --json, as check does")
    .skills("hq", "one").directory(".claude/skills/hq").manifest("hq for claude", "one for claude")
    .sync("--json", "-q").fails(`.skills:1: ${CONFLICT.message}`).printsJson({
      version: 2,
      directory: "/box/repo",
      actions: [
        CONFLICT.action,
        {
          action: "link",
          agent: "claude",
          name: "one",
          path: "/box/repo/.claude/skills/one",
          target: "../../skills/one",
          reason: "nothing is there",
        },
      ],
      problems: [{ file: ".skills", line: 1, name: "hq", message: CONFLICT.message }],
    })
    .run("check", "--json", "-q").fails(`.skills:1: ${CONFLICT.message}`).printsJson({
      version: 2,
      directory: "/box/repo",
      actions: [CONFLICT.action],
      problems: [{ file: ".skills", line: 1, name: "hq", message: CONFLICT.message }],
    });

  it("prints no colour without a terminal", async () => {
    using box = new Sandbox();
    box.manifest("gone");
    assertEquals((await box.fails(1)).includes("\x1b"), false);
  });
});

describe("check", () => {
  scenario("finds nothing after a sync, and writes nothing")
    .skills("hq", "one").manifest("hq", "one for cursor").sync().remember()
    .run("check").says().untouched();

  scenario("prints every difference and problem, and changes nothing")
    .skills("one", "two", "three").manifest("for claude cursor", "one", "two").sync()
    .manifest("for claude cursor", "one", "three", "./gone").remove(".cursor/skills/one").remember()
    .run("check").fails(
      "would link .claude/skills/three -> skills/three: nothing is there",
      "would remove .claude/skills/two: it is no longer desired",
      "would link .cursor/skills/one -> skills/one: nothing is there",
      "would link .cursor/skills/three -> skills/three: nothing is there",
      "would remove .cursor/skills/two: it is no longer desired",
      '.skills:4: "./gone" does not exist',
    )
    .untouched();

  scenario("exits with 1 on a difference alone, and on a problem alone")
    .skills("hq").manifest("hq for claude")
    .run("check").fails("would link .claude/skills/hq -> skills/hq: nothing is there").sync()
    .manifest("hq for claude", "./gone").run("check").fails('.skills:2: "./gone" does not exist');

  scenario("prints with --json what sync would do")
    .skills("hq").manifest("hq for claude")
    .run("check", "--json").fails("would link .claude/skills/hq -> skills/hq: nothing is there").printsJson({
      version: 2,
      directory: "/box/repo",
      actions: [{
        action: "link",
        agent: "claude",
        name: "hq",
        path: "/box/repo/.claude/skills/hq",
        target: "../../skills/hq",
        reason: "nothing is there",
      }],
      problems: [],
    })
    .lacks(".claude");
});

describe("list", () => {
  scenario("shows name, source, agents and state in aligned columns")
    .skills("fine", "lost", "moved", "taken", "vanished", "./elsewhere/moved", "a-name-that-is-rather-long")
    .directory(".claude/skills/taken")
    .manifest("for claude", "fine", "lost", "moved", "taken", "vanished", "a-name-that-is-rather-long").sync().fails()
    .remove(".claude/skills/lost", "skills/vanished")
    .manifest("for claude", "fine", "lost", "./elsewhere/moved", "taken", "vanished", "a-name-that-is-rather-long")
    .run("list").prints(
      "STATE     NAME                        AGENTS  SOURCE",
      "ok        a-name-that-is-rather-long  claude  skills/a-name-that-is-rather-long",
      "ok        fine                        claude  skills/fine",
      "missing   lost                        claude  skills/lost",
      "drift     moved                       claude  elsewhere/moved",
      "conflict  taken                       claude  skills/taken",
      "broken    vanished                    claude  skills/vanished",
    );

  scenario("shows an edited copy, and one whose skill changed")
    .skills("one", "two").manifest("for claude", "one", "two").mode("copy").sync()
    .write(".claude/skills/one/SKILL.md", "Edited").write("skills/two/SKILL.md", "Changed")
    .run("list").prints(
      "STATE   NAME  AGENTS  SOURCE",
      "edited  one   claude  skills/one",
      "drift   two   claude  skills/two",
    );

  scenario("names all agents that have a skill, and writes nothing")
    .skills("hq").manifest("hq for claude cursor").sync().remember()
    .run("list").says().prints("STATE  NAME  AGENTS          SOURCE", "ok     hq    claude, cursor  skills/hq")
    .untouched();

  scenario("prints one JSON object with --json")
    .skills("hq").manifest("hq for claude cursor").sync()
    .run("list", "--json").printsJson({
      version: 2,
      directory: "/box/repo",
      skills: [{ name: "hq", from: "skills/hq", agents: ["claude", "cursor"], state: "ok", commit: null }],
      problems: [],
    });

  scenario("prints nothing for an empty manifest")
    .manifest("# nothing")
    .run("list").says();

  it("succeeds although an entry fails", async () => {
    using box = new Sandbox();
    box.manifest("gone");
    const { status, stdout, stderr } = await box.run("list");
    assertEquals({ status, stdout }, { status: 0, stdout: "" });
    assertMatch(stderr, /^\.skills:1: No skill "gone"/);
  });
});
