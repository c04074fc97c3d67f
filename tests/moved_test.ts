/** Tests of `clean` and the target index: moved projects, deleted manifests, and the directories that are removed. */
import { describe } from "jsr:@std/testing@^1/bdd";
import { scenario } from "./scenario.ts";

const HQ = { hq: "../../skills/hq" };

/** Moves the project, and goes over there. */
const move = (test: ReturnType<typeof scenario>) =>
  test.directory("/box/elsewhere").do((box) => {
    Deno.renameSync(box.repo, `${box.path}/elsewhere/moved`);
  }).enter("elsewhere/moved");

describe("clean", () => {
  scenario("leaves the project as it was before the first sync")
    .skills("hq", "one").environment({ CODEX_HOME: "/box/codex" }).manifest("hq", "one for cursor ./a/b/c")
    .directory(".claude/skills").write(".opencode/settings.json", "{}").link(".claude/skills/mine", "../../skills/one")
    .remember()
    .sync().run("clean").says(
      "use-skills: removed hq for codex, claude, opencode",
      "use-skills: removed one for cursor, ./a/b/c",
    )
    .same("repo").lacks("/box/codex").run("clean").says();

  scenario("removes the parents that use-skills created for a target, in whatever order it created them")
    .skills("hq").manifest("hq for ./a/b/c").sync().manifest("hq for ./a/b/c ./a/d").sync()
    .has("a/b/c", { hq: "../../../skills/hq" }).has("a/d", HQ)
    .run("clean").lacks("a");

  scenario("removes a parent once nothing is in it any more")
    .skills("hq").manifest("hq for ./a/b/c ./a/d").sync()
    .manifest("hq for ./a/d").sync().lacks("a/b").has("a/d", HQ)
    .manifest("# nothing").sync().lacks("a");

  scenario("removes a parent that was a target for a while")
    .skills("hq").manifest("hq for ./a/b").sync().manifest("hq for ./a").sync().manifest("hq for ./a/b").sync()
    .run("clean").lacks("a");

  scenario("removes what was deployed where a link was for a while")
    .skills("hq", "one").manifest("hq for ./a/b", "one for claude").sync()
    .do((box) => Deno.renameSync(box.at("a"), box.at("c"))).link("a", "/nowhere")
    .manifest("one for claude").sync().says()
    .do((box) => Deno.removeSync(box.at("a"))).do((box) => Deno.renameSync(box.at("c"), box.at("a")))
    .sync().says("use-skills: removed hq for ./a/b").lacks("a");

  scenario("forgets a target that a link replaced")
    .skills("hq").manifest("hq for ./a/b").sync().remove("a").link("a", "/nowhere")
    .run("clean").says().has("/box/home/.local/state/use-skills", {});

  scenario("keeps the parents that were there before")
    .skills("hq").directory("a").manifest("hq for ./a/b/c claude").directory(".claude").sync()
    .run("clean").is("a", "directory").is(".claude", "directory").lacks("a/b", ".claude/skills");

  scenario("keeps a parent that contains something else")
    .skills("hq").manifest("hq for ./a/b/c").sync().write("a/note", "mine")
    .run("clean").is("a/note", "644 mine").lacks("a/b");

  scenario("keeps an agent's home that was there before")
    .skills("hq").directory("/box/codex").environment({ CODEX_HOME: "/box/codex" }).manifest("hq for codex").sync()
    .run("clean").is("/box/codex", "directory").lacks("/box/codex/skills");

  scenario("needs no manifest, and finds the project from below")
    .directory(".git", "a").skills("hq").manifest("hq", "hq for ./own").sync().remove(".skills")
    .from("a").run("clean").says("use-skills: removed hq for codex, claude, opencode, ./own")
    .lacks(".claude", ".opencode", ".agents", "own", ".skills");

  scenario("needs no valid manifest")
    .skills("hq").manifest("hq").sync().manifest("hq and more").run("clean").lacks(".claude");

  scenario("finds the targets of a project that was deleted")
    .skills("hq").environment({ CODEX_HOME: "/box/codex" }).manifest("hq for codex").sync()
    .do((box) => Deno.removeSync(box.repo, { recursive: true }))
    .from("/box").run("clean", "-C", "repo").says("use-skills: removed hq for codex")
    .lacks("/box/codex/skills/hq").run("clean", "-C", "repo").refuses('use-skills: No directory "repo"');

  scenario("changes nothing with --dry-run")
    .skills("hq").manifest("hq for claude").sync().remember()
    .run("clean", "-n").says("would remove .claude/skills/hq: it is no longer desired").untouched();

  scenario("has nothing to do in a project without targets")
    .manifest("# nothing").run("clean").says().lacks("/box/home/.local");
});

describe("a project that was moved", () => {
  move(
    scenario("keeps its entries, and its first run changes no target")
      .skills("hq", "one").manifest("hq", "one for cursor ./own/folder").sync(),
  ).remember()
    .sync().says().same("elsewhere/moved")
    .manifest("hq for claude").sync().says(
      "use-skills: removed hq for codex, opencode",
      "use-skills: removed one for cursor, ./own/folder",
    )
    .has(".claude/skills", HQ).lacks(".opencode/skills", ".agents/skills", ".cursor/skills", "own/folder");

  move(
    scenario("and whose manifest changed meanwhile leaves nothing in the targets of agents")
      .skills("hq").manifest("hq for claude cursor").sync().manifest("hq for claude"),
  ).sync().says("use-skills: removed hq for cursor").has(".cursor/skills", {}).has(".claude/skills", HQ);

  move(
    scenario("is cleaned")
      .skills("hq").manifest("hq").sync().remove(".skills"),
  ).run("clean").has(".claude/skills", {}).has(".opencode/skills", {}).has(".agents/skills", {});

  move(
    scenario("takes over what it had in a target outside")
      .skills("hq", "one").environment({ CODEX_HOME: "/box/codex" }).manifest("hq for codex", "one for codex").sync()
      .manifest("hq for codex"),
  ).sync().has("/box/codex/skills", { hq: "/box/elsewhere/moved/skills/hq" })
    .sync().says().run("clean").has("/box/codex/skills", {});
});

describe("a target index that is gone", () => {
  scenario("doesn't keep the targets of agents from being pruned")
    .skills("hq").manifest("hq", "hq for cursor").sync().remove("/box/home/.local")
    .manifest("hq for claude").sync().says("use-skills: removed hq for opencode, codex, cursor")
    .has(".claude/skills", HQ).has(".opencode/skills", {}).has(".agents/skills", {}).has(".cursor/skills", {});

  scenario("is written again by a run that has nothing else to do")
    .skills("hq").manifest("hq").sync().remember().remove("/box/home/.local")
    .sync().says().same("repo").run("clean").lacks(".claude/skills/hq");
});
