/** Tests of ownership: what isn't owned stays, what is as desired is adopted, and projects share targets. */
import { assertEquals } from "jsr:@std/assert@^1";
import { describe, it } from "jsr:@std/testing@^1/bdd";
import { deployed, execute, isThere, requires, Sandbox, succeed } from "./helpers.ts";
import { scenario } from "./scenario.ts";

const wayOut = 'move it away, or write "as NAME" after the entry';
const conflict = (name: string, reason: string, target = ".claude/skills") => {
  const isDirectory = /^a directory|edited$/.test(reason);
  const difference = isDirectory ? ` (compare: diff -r skills/${name} ${target}/${name})` : "";
  return `Cannot deploy "${name}" to ${target}: ${reason}${difference}; ${wayOut}`;
};

describe("a conflict", () => {
  const obstacles: [what: string, setup: (test: ReturnType<typeof scenario>) => unknown, reason: string][] = [
    [
      "a directory",
      (test) => test.write(".claude/skills/hq/precious", "precious"),
      "a directory that use-skills did not create is there",
    ],
    [
      "an empty directory",
      (test) => test.directory(".claude/skills/hq"),
      "a directory that use-skills did not create is there",
    ],
    ["a file", (test) => test.write(".claude/skills/hq", "precious"), "a file that use-skills did not create is there"],
    [
      "another link",
      (test) => test.link(".claude/skills/hq", "../../elsewhere"),
      'a link to "../../elsewhere" that use-skills did not create is there',
    ],
    [
      "a broken link",
      (test) => test.link(".claude/skills/hq", "gone"),
      'a link to "gone" that use-skills did not create is there',
    ],
  ];
  for (const [what, setup, reason] of obstacles) {
    const test = scenario(`with ${what} is reported, and changes neither it nor other skills`)
      .skills("hq", "other", "./elsewhere").manifest("for claude cursor", "other", "hq");
    setup(test);
    test.remember()
      .sync().fails(
        "use-skills: linked other for claude, cursor",
        "use-skills: linked hq for cursor",
        `.skills:3: ${conflict("hq", reason)}`,
      )
      .sync().fails(`.skills:3: ${conflict("hq", reason)}`)
      .mode("copy").sync("-q").fails(`.skills:4: ${conflict("hq", reason)}`)
      .do((box) => assertEquals(Object.keys(deployed(box.at(".claude/skills"))), ["hq", "other"]))
      .mode().run("clean").same("repo");
  }

  scenario("with what replaced something owned is reported, and that is no longer owned")
    .skills("one", "two", "three").manifest("for claude", "one", "two", "three").sync()
    .remove(".claude/skills/one", ".claude/skills/two", ".claude/skills/three")
    .write(".claude/skills/one", "precious").link(".claude/skills/two", "../../skills/three")
    .write(".claude/skills/three/precious", "precious").remember()
    .sync().fails(
      `.skills:2: ${conflict("one", "a file that use-skills did not create is there")}`,
      `.skills:3: ${conflict("two", 'a link to "../../skills/three" that use-skills did not create is there')}`,
      `.skills:4: ${conflict("three", "a directory that use-skills did not create is there")}`,
    )
    .run("clean").says()
    .has(".claude/skills", { one: "file", three: "copy", two: "../../skills/three" });

  scenario("goes away with another name")
    .skills("hq").write(".claude/skills/hq", "precious").manifest("hq as orchestrator for claude")
    .sync().says("use-skills: linked orchestrator for claude")
    .has(".claude/skills", { hq: "file", orchestrator: "../../skills/hq" });
});

describe("an edited copy", () => {
  const edited = (name: string) => conflict(name, "this copy was edited");
  scenario("is kept and reported when its skill changes, leaves the manifest, and by clean")
    .skills("one", "two").manifest("for claude", "one", "two").mode("copy").sync()
    .write(".claude/skills/one/SKILL.md", "Mine").write(".claude/skills/two/more", "Mine")
    .write("skills/one/SKILL.md", "Changed").remember()
    .sync().fails(`.skills:3: ${edited("one")}`, `.skills:4: ${edited("two")}`)
    .mode().sync().fails(`.skills:2: ${edited("one")}`, `.skills:3: ${edited("two")}`)
    .same("repo/.claude")
    .manifest("one for claude").sync().fails(
      "use-skills: .claude/skills/two stays, because this copy was edited",
      `.skills:1: ${edited("one")}`,
    )
    .run("clean").says("use-skills: .claude/skills/one stays, because this copy was edited")
    .has(".claude/skills", { one: "copy", two: "copy" })
    .is(".claude/skills/one/SKILL.md", "644 Mine").is(".claude/skills/two/more", "644 Mine")
    .lacks(".claude/skills/.gitignore", ".claude/skills/.use-skills.json");

  scenario("is owned again once the edit is undone")
    .skills("hq").manifest("hq for claude").mode("copy").sync()
    .write(".claude/skills/hq/more", "Mine").sync().fails()
    .remove(".claude/skills/hq/more").sync().says()
    .run("clean").lacks(".claude");

  scenario("that cannot be read is kept, and others are deployed", "setpriv")
    .skills("hq", "one").manifest("hq for claude").mode("copy").runUnprivileged()
    .write(".claude/skills/hq/secret", "mine").do((box) => Deno.chmodSync(box.at(".claude/skills/hq/secret"), 0))
    .manifest("hq for claude", "one for claude")
    .runUnprivileged().fails(
      "use-skills: copied one for claude",
      `.skills:2: ${edited("hq")}`,
    )
    .has(".claude/skills", { hq: "copy", one: "copy" });
});

describe("an old copy that a killed run moved away", () => {
  for (const isEdited of [false, true]) {
    scenario(`is not put back into another target next to its own if it was ${isEdited ? "" : "not "}edited`)
      .skills("hq").manifest("hq for ./a/y").mode("copy").sync()
      .do((box) => { // as a kill leaves it between moving the old copy away and the new one into place
        box.directory("a/.use-skills.tmp/y");
        Deno.renameSync(box.at("a/y/hq"), box.at("a/.use-skills.tmp/y/hq.old"));
        if (isEdited) box.write("a/.use-skills.tmp/y/hq.old/note", "mine");
      })
      .manifest("hq for ./a/x ./a/y").do((box) => box.run())
      .lacks("a/x/hq/note").is("a/y/hq/note", isEdited ? "644 mine" : undefined)
      .has("a/x", { hq: "copy" }).has("a/y", { hq: "copy" })
      .do(async (box) => {
        const { status, stderr } = await box.run();
        const message = `.skills:2: ${conflict("hq", "this copy was edited", "a/y")}\n`;
        assertEquals([status, stderr], isEdited ? [1, message] : [0, ""]);
      });
  }
});

describe("a link that leads to the desired skill", () => {
  scenario("is adopted, whatever its text, and pruned later")
    .skills("one", "/box/home/notes/two").link("skills-again", "skills")
    .link(".claude/skills/one", "/box/repo/skills-again/one/.").link(".claude/skills/two", "../../../home/notes/two")
    .manifest("for claude", "one", "~/notes/two")
    .sync().says("use-skills: adopted one, two for claude")
    .has(".claude/skills", { one: "/box/repo/skills-again/one/.", two: "../../../home/notes/two" })
    .sync().says().run("check").says()
    .manifest("~/notes/two for claude").sync().says("use-skills: removed one for claude")
    .has(".claude/skills", { two: "../../../home/notes/two" });
});

describe("projects that share a target", () => {
  const test = (name: string) =>
    scenario(name)
      .environment({ CODEX_HOME: "/box/codex" })
      .skills("/box/both/hq", "/box/other/hq", "/box/one/skills/own", "/box/two/skills/own-too");
  const HQ = { hq: "/box/both/hq" };
  const OWN = { own: "/box/one/skills/own" };
  const OWN_TOO = { "own-too": "/box/two/skills/own-too" };

  test("keep what both want until neither does")
    .enter("one").manifest("../both/hq", "own").sync()
    .enter("two").manifest("../both/hq", "own-too").sync()
    .has("/box/codex/skills", { ...HQ, ...OWN, ...OWN_TOO }).sync().says()
    .enter("one").sync().says().manifest("# nothing").sync().has("/box/codex/skills", { ...HQ, ...OWN_TOO })
    .manifest("../both/hq").sync()
    .enter("two").run("clean").has("/box/codex/skills", HQ)
    .enter("one").run("clean").lacks("/box/codex").is("/box/both/hq", "directory");

  test("cannot have different skills under one name")
    .enter("one").manifest("../both/hq for codex").sync()
    .enter("two").manifest("../other/hq for codex", "own-too for codex").sync().fails(
      "use-skills: linked hq, own-too for codex",
      `.skills:1: ${conflict("hq", "/box/one/.skills has another skill of that name there", "/box/codex/skills")}`,
    )
    .has("/box/codex/skills", { ...HQ, ...OWN_TOO })
    .enter("one").sync().says().manifest("# nothing").sync()
    .enter("two").sync().says("use-skills: linked hq for codex")
    .has("/box/codex/skills", { hq: "/box/other/hq", ...OWN_TOO });

  test("take over the name of a project that was deleted")
    .enter("one").manifest("../both/hq for codex", "own for codex").sync().remove(".skills")
    .enter("two").manifest("../other/hq for codex").sync().says(
      "use-skills: linked hq for codex",
      "use-skills: relinked hq for codex",
      "use-skills: removed own for codex",
    )
    .has("/box/codex/skills", { hq: "/box/other/hq" })
    .run("clean").lacks("/box/codex/skills");

  test("leave the choice between link and copy to the first")
    .enter("one").manifest("../both/hq for codex").mode("copy").sync()
    .enter("two").write(".skills", "../both/hq for codex\n").sync()
    .has("/box/codex/skills", { hq: "copy" }).sync().says();

  scenario("don't interfere if one of them is the home")
    .environment({ HOME: "/box/repo" }).skills("both", "mine", "ours").manifest("both for claude", "mine for claude")
    .write(".config/use-skills/skills", "~/skills/both for claude\n~/skills/ours for claude\n")
    .sync().sync("--global")
    .has(".claude/skills", { both: "../../skills/both", mine: "../../skills/mine", ours: "../../skills/ours" })
    .sync().says().sync("--global").says()
    .run("clean").has(".claude/skills", { both: "../../skills/both", ours: "../../skills/ours" })
    .run("clean", "--global").has(".claude/skills", {});

  requires("git")("have targets of their own if they are worktrees of one repo", async () => {
    using box = new Sandbox();
    box.skills("hq", "one");
    box.manifest("hq");
    await box.git("init", "--quiet");
    await box.git("add", ".");
    await box.git("commit", "--quiet", "-m", "skills");
    await box.done();
    for (const path of ["../beside", ".trees/inside"]) {
      await box.git("worktree", "add", "--quiet", "--detach", path);
      const worktree = `${box.repo}/${path}`;
      Deno.writeTextFileSync(`${worktree}/.skills`, "one\n");
      await succeed(await box.call(), await box.start({ cwd: worktree }));
      assertEquals(deployed(`${worktree}/.claude/skills`), { one: "../../skills/one" });
      assertEquals(await succeed(["git", "status", "--porcelain"], { cwd: worktree }), " M .skills\n");
      assertEquals(await box.done(), "");
      await succeed(await box.call("clean"), await box.start({ cwd: worktree }));
      assertEquals(isThere(`${worktree}/.claude`), false);
    }
    assertEquals(deployed(box.at(".claude/skills")), { hq: "../../skills/hq" });
  });

  it("of two homes are deployed one after the other", async () => {
    using box = new Sandbox();
    box.skills("hq");
    box.manifest("hq");
    box.directory(`${box.path}/other-home`);
    const start = await box.start();
    const other = { ...start, environment: { ...start.environment, HOME: `${box.path}/other-home` } };
    const call = await box.call();
    const results = await Promise.all([start, other, start, other].map((each) => execute(call, each)));
    assertEquals(results.map(({ status }) => status), [0, 0, 0, 0]);
    assertEquals(deployed(box.at(".claude/skills")), { hq: "../../skills/hq" });
  });
});
