/** Tests of targets: which directories the agents of an entry stand for, and which of them are refused. */
import { assertEquals } from "jsr:@std/assert@^1";
import { describe } from "jsr:@std/testing@^1/bdd";
import { deployed } from "./helpers.ts";
import { scenario } from "./scenario.ts";

const HQ = { hq: "../../skills/hq" };
const ABSOLUTE = { hq: "/box/repo/skills/hq" };

describe("an entry without for", () => {
  scenario("is deployed for claude, opencode and codex")
    .skills("hq").manifest("hq").sync().says("use-skills: linked hq for claude, opencode, codex")
    .has(".claude/skills", HQ).has(".opencode/skills", HQ).has(".agents/skills", HQ)
    .lacks(".codex", "/box/home/.codex", "/box/home/.claude");

  scenario("is deployed to CODEX_HOME, too, if that is set")
    .skills("hq").manifest("hq").environment({ CODEX_HOME: "/box/codex" })
    .sync().says("use-skills: linked hq for claude, opencode, codex")
    .has(".agents/skills", HQ).has("/box/codex/skills", ABSOLUTE);

  scenario("is deployed with a relative link if CODEX_HOME is in the project")
    .skills("hq").manifest("hq").environment({ CODEX_HOME: "/box/repo/.codex" })
    .sync().has(".codex/skills", HQ);

  scenario("ignores an empty CODEX_HOME, and CLAUDE_CONFIG_DIR in a project")
    .skills("hq").manifest("hq").environment({ CODEX_HOME: "", CLAUDE_CONFIG_DIR: "/box/claude" })
    .sync().has(".claude/skills", HQ).lacks("/box/claude");
});

describe("a run without CODEX_HOME", () => {
  const test = (name: string) =>
    scenario(name)
      .skills("hq", "one").manifest("hq", "one").environment({ CODEX_HOME: "/box/codex" }).sync()
      .environment({});

  test("keeps what an earlier run deployed there").remember()
    .sync().says().run("check").says().untouched();

  test("prunes there what left the manifest")
    .manifest("one").sync().says("use-skills: removed hq for claude, opencode, codex, /box/codex/skills")
    .has("/box/codex/skills", { one: "/box/repo/skills/one" })
    .sync().says();

  test("prunes there what is no longer for codex")
    .manifest("hq for claude", "one").sync()
    .has("/box/codex/skills", { one: "/box/repo/skills/one" }).has(".agents/skills", { one: "../../skills/one" });

  test("doesn't deploy there what is new")
    .skills("two").manifest("hq", "one", "two").sync().says("use-skills: linked two for claude, opencode, codex")
    .has("/box/codex/skills", { hq: "/box/repo/skills/hq", one: "/box/repo/skills/one" })
    .environment({ CODEX_HOME: "/box/codex" }).sync().says("use-skills: linked two for codex");

  test("removes everything there on clean")
    .run("clean").lacks("/box/codex/skills");

  test("keeps what is in a home that CODEX_HOME named before")
    .environment({ CODEX_HOME: "/box/other" }).sync().says("use-skills: linked hq, one for codex")
    .has("/box/other/skills", { hq: "/box/repo/skills/hq", one: "/box/repo/skills/one" })
    .run("clean").lacks("/box/other", "/box/codex");
});

describe("a target", () => {
  const refused: Record<string, [setup: (test: ReturnType<typeof scenario>) => unknown, reason: string]> = {
    "that is a file": [
      (test) => test.write(".claude/skills", "precious"),
      "Cannot deploy to .claude/skills: /box/repo/.claude/skills is not a directory",
    ],
    "in a file": [
      (test) => test.write(".claude", "precious"),
      "Cannot deploy to .claude/skills: /box/repo/.claude is not a directory",
    ],
    "that is a broken link": [
      (test) => test.link(".claude/skills", "nowhere"),
      "Cannot deploy to .claude/skills: /box/repo/.claude/skills is a broken link",
    ],
    "that is a link to one that leads back": [
      (test) => test.link(".claude/skills", "../.agents/skills").link(".agents/skills", "../.claude/skills"),
      "Cannot deploy to .claude/skills: /box/repo/.claude/skills is a broken link",
    ],
    "that is a link out of the project": [
      (test) => test.link(".claude/skills", "../../outside"),
      "Cannot deploy to .claude/skills: it leads out of the project, to /box/outside: name that path if you want this",
    ],
    "behind a link out of the project": [
      (test) => test.link(".claude", "/box/outside"),
      "Cannot deploy to .claude/skills: it leads out of the project, to /box/outside/skills: name that path if you want this",
    ],
    "behind a link into .git": [
      (test) => test.directory(".git/skills").link(".claude/skills", "../.git/skills"),
      "Cannot deploy to .claude/skills: it is inside .git",
    ],
  };
  for (const [what, [setup, reason]] of Object.entries(refused)) {
    const test = scenario(`${what} is refused, and the others are deployed to`)
      .skills("hq").manifest("# first", "hq for claude cursor").write("/box/outside/skills/.keep", "");
    setup(test);
    test.remember();
    test.sync("-q").fails(`.skills:2: ${reason}`).mode("copy").sync("-q").fails(`.skills:3: ${reason}`).mode();
    test.same("repo/.claude").same("box/outside").same("repo/.git")
      .do((box) => assertEquals(Object.keys(deployed(box.at(".cursor/skills"))), ["hq"]))
      .run("clean").same("repo").same("outside");
  }

  scenario("that is a git directory with another name is refused")
    .skills("hooks").write(".bare/HEAD", "ref: refs/heads/main\n").directory(".bare/objects").link(
      ".claude/skills",
      "../.bare",
    )
    .manifest("hooks for claude").sync().fails(".skills:1: Cannot read .bare: it is a git directory").lacks(
      ".bare/hooks",
    );

  const levels = (count: number) => `./${"d/".repeat(count - 1)}d`;
  scenario("that is too deep is refused")
    .skills("hq").manifest("mode commit", `hq for ${levels(64)}`).sync().says(`use-skills: linked hq for ${levels(64)}`)
    .sync().says()
    .manifest("mode commit", `hq for ${levels(65)}`)
    .sync("-q").fails(`.skills:2: Cannot deploy to ${levels(65).slice(2)}: it is more than 64 levels deep`);

  scenario("inside .git is refused by any name")
    .skills("hq").directory(".git").manifest("hq for ./.git/skills", "hq for /box/repo/.git/hooks", "hq for ./a/.git/b")
    .sync().fails(
      ".skills:1: Cannot deploy to .git/skills: it is inside .git",
      ".skills:2: Cannot deploy to .git/hooks: it is inside .git",
      ".skills:3: Cannot deploy to a/.git/b: it is inside .git",
    )
    .lacks(".git/skills", ".git/hooks", "a");

  scenario("outside the project is accepted if an absolute path names it")
    .skills("hq").directory("/box/outside").link("out", "../outside")
    .manifest("hq for /box/outside/a", "hq for /box/repo/out/b", "hq for ~/c", "hq for ./out/d", "hq for ../e")
    .sync().fails(
      "use-skills: linked hq for /box/outside/a, /box/repo/out/b, ~/c",
      ".skills:4: Cannot deploy to out/d: it leads out of the project, to /box/outside/d: name that path if you want this",
      ".skills:5: Cannot deploy to /box/e: it leads out of the project, to /box/e: name that path if you want this",
    )
    .has("/box/outside/a", ABSOLUTE).has("/box/outside/b", ABSOLUTE).has("/box/home/c", ABSOLUTE)
    .lacks("/box/outside/d", "/box/e");

  scenario("that is a link to another one is written once")
    .skills("hq").directory(".claude/skills").link(".opencode/skills", "../.claude/skills").manifest(
      "hq for claude opencode",
    )
    .sync().says("use-skills: linked hq for claude, opencode")
    .has(".claude/skills", HQ).is(".opencode/skills", "-> ../.claude/skills")
    .sync().says()
    .run("list").prints("STATE  NAME  AGENTS            SOURCE", "ok     hq    claude, opencode  skills/hq")
    .run("clean").says("use-skills: removed hq for claude")
    .is(".opencode/skills", "-> ../.claude/skills").has(".claude/skills", {});

  scenario("that is a link to another one which doesn't exist yet, as in a fresh clone, is written once")
    .skills("hq").link(".opencode/skills", "../.claude/skills").manifest("hq for claude opencode")
    .sync().says("use-skills: linked hq for claude, opencode")
    .run("check").says().is(".opencode/skills", "-> ../.claude/skills");

  scenario("of several agents is written once")
    .skills("hq").manifest("hq for agents amp codex gemini copilot")
    .sync().says("use-skills: linked hq for agents, amp, codex, gemini, copilot").has(".agents/skills", HQ);

  scenario("can contain skills of its own")
    .skills("./.claude/skills/own", "hq").manifest(
      "for claude cursor",
      "hq",
      "./.claude/skills/own",
      "./.claude/skills/*",
    )
    .sync().says("use-skills: linked hq for claude, cursor", "use-skills: linked own for cursor")
    .has(".claude/skills", { hq: "../../skills/hq", own: "copy" })
    .has(".cursor/skills", { hq: "../../skills/hq", own: "../../.claude/skills/own" })
    .sync().says()
    .run("clean").has(".claude/skills", { own: "copy" });
});

describe("a target that became a link", () => {
  scenario("to another project's target costs that project nothing")
    .enter("other").skills("theirs").manifest("theirs").sync().remember()
    .enter("repo").skills("hq").manifest("hq for claude cursor").sync()
    .remove(".cursor").link(".cursor", "../other/.claude")
    .sync().fails(
      ".skills:1: Cannot deploy to .cursor/skills: it leads out of the project, to /box/other/.claude/skills: name that path if you want this",
    )
    .manifest("hq for claude").sync().run("clean")
    .same("other");

  scenario("inside the project is used under its new name, and the link stays")
    .skills("hq").manifest("hq for claude").sync()
    .do((box) => Deno.renameSync(box.at(".claude"), box.at("dot"))).link(".claude", "dot").remember()
    .sync().says().run("check").says().same("repo");

  scenario("to the user's own directory is not removed by clean")
    .skills("hq").manifest("hq for claude").sync()
    .remove(".claude").write("mine/note", "mine").link(".claude", "mine")
    .run("clean").is(".claude", "-> mine").is("mine/note", "644 mine");

  scenario("to another target is written once")
    .skills("hq", "one").manifest("for claude cursor", "hq", "one").sync()
    .remove(".cursor/skills").link(".cursor/skills", "../.claude/skills").remember()
    .sync().says().sync().says().same("repo/.claude");
});

describe("a target without permissions", () => {
  scenario("is reported, and the others are deployed to", "setpriv")
    .skills("hq").manifest("hq for claude cursor").directory(".claude/skills")
    .do((box) => Deno.chmodSync(box.at(".claude/skills"), 0o555))
    .runUnprivileged().fails(
      "use-skills: linked hq for cursor",
      ".skills:1: Cannot write to .claude/skills: Permission denied (see the owner and mode of it and its directory)",
    )
    .has(".claude/skills", {}).has(".cursor/skills", HQ);

  scenario("stays as it is if nothing has to change, and is reported if something has", "setpriv")
    .skills("hq").manifest("hq for claude cursor").runUnprivileged()
    .do((box) => Deno.chmodSync(box.at(".claude/skills"), 0o555)).remember()
    .runUnprivileged().says()
    .manifest().runUnprivileged().fails(
      "use-skills: removed hq for cursor",
      ".skills: Cannot write to .claude/skills: Permission denied (see the owner and mode of it and its directory)",
    )
    .same("repo/.claude").lacks(".cursor");

  scenario("for the index of targets is a warning", "setpriv")
    .skills("hq").manifest("hq for claude").directory("/box/home/.local")
    .do((box) => Deno.chmodSync(`${box.home}/.local`, 0o555))
    .runUnprivileged().says(
      "use-skills: linked hq for claude",
      "use-skills: Warning: cannot record where skills are deployed: Cannot create /box/home/.local/state/use-skills (see HOME and the XDG variables): Permission denied (see the owner and mode of it and its directory)",
    )
    .has(".claude/skills", HQ);
});
