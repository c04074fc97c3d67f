/** Tests of `--global`: the home's manifest and targets. */
import { describe } from "jsr:@std/testing@^1/bdd";
import { scenario } from "./scenario.ts";

const MANIFEST = "/box/home/.config/use-skills/skills";

describe("--global", () => {
  scenario("deploys the home's manifest to the home's targets")
    .skills("/box/home/notes/hq").write(MANIFEST, "~/notes/hq\n~/notes/hq as x for codex gemini\n")
    .sync("-g").says(
      "use-skills: linked hq for claude, opencode, codex",
      "use-skills: linked x for codex, gemini",
    )
    .has("/box/home/.claude/skills", { hq: "../../notes/hq" })
    .has("/box/home/.config/opencode/skills", { hq: "../../../notes/hq" })
    .has("/box/home/.codex/skills", { hq: "../../notes/hq", x: "../../notes/hq" })
    .has("/box/home/.gemini/skills", { x: "../../notes/hq" })
    .remember().sync("--global").says().run("check", "--global").says().untouched()
    .run("list", "-g").prints(
      "STATE  NAME  AGENTS                   SOURCE",
      "ok     hq    claude, opencode, codex  ~/notes/hq",
      "ok     x     codex, gemini            ~/notes/hq",
    )
    .run("clean", "--global").lacks(
      "/box/home/.claude",
      "/box/home/.codex",
      "/box/home/.gemini",
      "/box/home/.config/opencode",
    );

  scenario("uses CLAUDE_CONFIG_DIR, CODEX_HOME and XDG_CONFIG_HOME")
    .environment({ CLAUDE_CONFIG_DIR: "/box/claude", CODEX_HOME: "/box/codex", XDG_CONFIG_HOME: "/box/config" })
    .skills("/box/home/hq").write("/box/config/use-skills/skills", "~/hq\n").sync("--global")
    .has("/box/claude/skills", { hq: "/box/home/hq" }).has("/box/codex/skills", { hq: "/box/home/hq" })
    .has("/box/config/opencode/skills", { hq: "/box/home/hq" }).lacks("/box/home/.claude", "/box/home/.codex");

  scenario("finds names next to the manifest")
    .skills("/box/home/.config/use-skills/skills-of-mine/hq").write(MANIFEST, "./skills-of-mine/*\n")
    .sync("-g").has("/box/home/.claude/skills", { hq: "../../.config/use-skills/skills-of-mine/hq" });

  scenario("accepts a manifest that is a link into a repo of dotfiles")
    .skills("/box/dotfiles/hq").write("/box/dotfiles/manifest", "/box/dotfiles/hq for claude\n").link(
      MANIFEST,
      "/box/dotfiles/manifest",
    )
    .sync("-g").says("use-skills: linked hq for claude").is(MANIFEST, "-> /box/dotfiles/manifest");

  scenario("accepts a target that is a link into a repo of dotfiles")
    .skills("/box/home/hq").directory("/box/home/dotfiles/claude").link("/box/home/.claude", "dotfiles/claude").write(
      MANIFEST,
      "~/hq for claude\n",
    )
    .sync("-g").says("use-skills: linked hq for claude").has("/box/home/dotfiles/claude/skills", { hq: "../../../hq" });

  scenario("refuses an invalid manifest")
    .write(MANIFEST, "~/hq\n~/hq for codex as x\n")
    .sync("--global").refuses(
      '~/.config/use-skills/skills:2: Unexpected "as": an entry is REF [as NAME] [trust] [for AGENT...], without white space in REF',
    );

  scenario("says what to do without a manifest or a home")
    .sync("--global").refuses('use-skills: No ~/.config/use-skills/skills: "use-skills.ts init --global" creates one')
    .environment({ HOME: "" }).sync("-g").refuses("use-skills: --global needs HOME to be set")
    .environment({ HOME: "/box/gone" }).sync("-g").refuses('use-skills: HOME is "/box/gone", which does not exist');
});
