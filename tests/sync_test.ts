/** Tests of `sync`, `check` and `list`: links follow the manifest. */
import { describe } from "jsr:@std/testing@^1/bdd";
import { scenario } from "./helpers.ts";

describe("sync", () => {
  scenario("makes relative links for claude, opencode and codex")
    .skills("hq", "./tools/house-style").manifest("hq", "./tools/house-style as style")
    .sync().says("use-skills: linked hq, style for claude, opencode, codex")
    .has(".claude/skills", { hq: "../../skills/hq", style: "../../tools/house-style" })
    .has(".opencode/skills", { hq: "../../skills/hq", style: "../../tools/house-style" })
    .has(".agents/skills", { hq: "../../skills/hq", style: "../../tools/house-style" })
    .lacks("/box/home/.codex");
});
