/** Tests of `.skills.local`: a person's own entries, which are not committed. */
import { describe } from "jsr:@std/testing@^1/bdd";
import { scenario } from "./scenario.ts";

describe(".skills.local", () => {
  scenario("adds entries to those of .skills")
    .skills("hq", "/box/home/notes/mine").manifest("hq for claude").write(".skills.local", "~/notes/mine for claude\n")
    .sync().says("use-skills: linked hq, mine for claude")
    .has(".claude/skills", { hq: "../../skills/hq", mine: "/box/home/notes/mine" })
    .run("check").says().remember().sync().says().untouched()
    .remove(".skills.local").sync().says("use-skills: removed mine for claude")
    .has(".claude/skills", { hq: "../../skills/hq" });

  scenario("does not replace a skill that .skills names, but adds it for other agents")
    .skills("hq").write("other/hq/SKILL.md", "x").manifest("hq for claude")
    .write(".skills.local", "./other/hq for claude cursor\n")
    .sync().says("use-skills: linked hq for claude, cursor")
    .has(".claude/skills", { hq: "../../skills/hq" }).has(".cursor/skills", { hq: "../../other/hq" })
    .run("check").says();

  scenario("does not replace what a failing entry of .skills has deployed")
    .skills("hq").write("other/hq/SKILL.md", "x").manifest("hq for claude").sync()
    .write(".skills.local", "./other/hq for claude\n").manifest("team/skills/skills/hq for claude")
    .run("--offline").fails('.skills:1: "team/skills/skills/hq" is not on this machine, and --offline fetches nothing')
    .has(".claude/skills", { hq: "../../skills/hq" });

  scenario("follows the mode of .skills")
    .skills("hq", "mine").manifest("mode copy", "hq for claude").write(".skills.local", "mine for claude\n")
    .sync().has(".claude/skills", { hq: "copy", mine: "copy" });

  scenario("is named in messages, with its line")
    .skills("hq").manifest("hq for claude").write(".skills.local", "\n./gone\n")
    .sync().fails("use-skills: linked hq for claude", '.skills.local:2: "./gone" does not exist');

  scenario("can be invalid, and then nothing changes")
    .skills("hq").manifest("hq").write(".skills.local", "hq for\nmode copy\nowner/repo\n").remember()
    .sync().refuses(
      '.skills.local:1: An agent is missing after "for"',
      ".skills.local:2: Only .skills can name a mode",
      '.skills.local:3: "owner/repo" is not a name or a path: only .skills can name skills from git',
    ).untouched();

  scenario("cannot be combined with mode commit")
    .skills("hq").manifest("mode commit", "hq").write(".skills.local", "~/notes/*\n").remember()
    .sync().refuses(".skills.local: Mode commit excludes this file: delete it, or choose another mode")
    .untouched();

  scenario("is not read for a home")
    .skills("/box/home/x/hq").write("/box/home/.config/use-skills/skills", "~/x/hq for claude\n")
    .write("/box/home/.config/use-skills/skills.local", "~/gone\n")
    .sync("-g").says("use-skills: linked hq for claude");

  scenario("alone is not a manifest")
    .skills("hq").write(".skills.local", "hq\n")
    .sync().refuses('use-skills: No .skills in /box/repo or above it in its repo: "use-skills.ts init" creates one');

  scenario("is left to the person by add and remove")
    .skills("hq", "mine").manifest("hq").write(".skills.local", "mine\n").sync()
    .run("remove", "mine").refuses('use-skills: "mine" is in line 1 of .skills.local: delete it there')
    .run("add", "mine").says("use-skills: added to .skills: mine").run("check").says();
});
