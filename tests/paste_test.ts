/** Tests of a pasted file: alone in a repo, without libraries, a network or a configuration. */
import { describe } from "jsr:@std/testing@^1/bdd";
import { type Sandbox, tree } from "./helpers.ts";
import { scenario } from "./scenario.ts";
import { assertEquals } from "jsr:@std/assert@^1";
import { VERSION } from "../use-skills.ts";

const pasted = (name: string) => scenario(name).paste().withoutLibraries();

/** That nothing was fetched or left next to the file. */
const leftNothing = (box: Sandbox) =>
  assertEquals(Object.keys(tree(box.repo)).filter((path) => /lock|vendor|node_modules/.test(path)), []);

describe("a pasted file without libraries", () => {
  pasted("does everything that needs no option")
    .run("init").says(
      "use-skills: wrote .skills",
      "use-skills: wrote .envrc",
      'use-skills: next: write skills into .skills, then run "direnv allow"',
    )
    .sync().says()
    .skills("./tools/hq", "one").run("add", "./tools/hq").says(
      "use-skills: added to .skills: ./tools/hq",
      "use-skills: linked hq for claude, opencode, codex",
    )
    .run("add", "one").says("use-skills: added to .skills: one", "use-skills: linked one for claude, opencode, codex")
    .run("list").says().prints(
      "STATE  NAME  AGENTS                   SOURCE",
      "ok     hq    claude, opencode, codex  tools/hq",
      "ok     one   claude, opencode, codex  skills/one",
    )
    .run("check").says().sync().says()
    .run("remove", "one").says(
      "use-skills: deleted from .skills: one",
      "use-skills: removed one for claude, opencode, codex",
    )
    .run("clean").says("use-skills: removed hq for codex, claude, opencode")
    .lacks(".claude", ".opencode", ".agents").do(leftNothing);

  pasted("prints its version and help")
    .run("--version").says().prints(VERSION).run("-V").prints(VERSION)
    .run("--help").says().prints().run("-h").prints();

  const cli = [
    "use-skills: Cannot load jsr:@std/cli@^1/parse-args, which reads command line options: JSR package manifest for '@std/cli' failed to load. Import 'REGISTRY/@std/cli/meta.json' failed.",
    '  In a checkout of use-skills, run "npx -y deno task use-skills" once',
    '  A pasted file: run it once with access to JSR, or with "deno run --config CHECKOUT/deno.json"',
  ];
  for (const args of [["list", "--json"], ["--offline"], ["-n"], ["check", "-C", "."], ["--global"]]) {
    pasted(`says what ${args.join(" ")} needs, and what to do`)
      .skills("hq").manifest("hq").remember().run(...args).fails(...cli).same("repo");
  }

  pasted("reports a name that it can't find, with a suggestion")
    .skills("review-gate").manifest("review-gaet")
    .sync().fails(
      '.skills:1: No skill "review-gaet" in ./skills, did you mean "review-gate"? Otherwise write the path of its folder, for example ~/use-skills/skills/review-gaet, or set SKILLS_PATH',
    );

  pasted("reports an unknown command, with a suggestion")
    .run("chekc").refuses('use-skills: Unknown command "chekc", did you mean "check"?');

  pasted("finds no name outside its repo, and suggests the path of a checkout in the home")
    .skills("/box/home/use-skills/skills/hq").manifest("hq")
    .sync().fails(
      '.skills:1: No skill "hq" in ./skills: write the path of its folder, for example ~/use-skills/skills/hq, or set SKILLS_PATH',
    )
    .manifest("~/use-skills/skills/hq").sync().says("use-skills: linked hq for claude, opencode, codex");

  scenario("in a directory of its own also looks next to itself")
    .paste("tools/use-skills.ts").withoutLibraries().skills("./tools/skills/hq").manifest("hq", "one")
    .sync().fails(
      "use-skills: linked hq for claude, opencode, codex",
      '.skills:2: No skill "one" in ./skills, ./tools/skills: write the path of its folder, for example ~/use-skills/skills/one, or set SKILLS_PATH',
    );

  pasted("validates nothing without skill-doctor, and says where to get it")
    .run("validate").fails(
      "use-skills: No skill-doctor at skills/skill-doctor/scripts/doctor.ts: run the use-skills.ts of a checkout of use-skills, or set SKILLS_PATH to the checkout's skills directory",
    );
});

describe("a pasted file", () => {
  const companions: Record<string, Record<string, string>> = {
    "alone": {},
    "next to a deno.json": { "deno.json": '{"imports":{"@std/path":"jsr:@std/path@^1"},"tasks":{"x":"true"}}\n' },
    "next to a deno.json that replaces the library": { "deno.json": '{"imports":{"jsr:@std/cli@^1/":"./evil/"}}\n' },
    "next to a frozen lock file": { "deno.json": '{"lock":{"frozen":true}}\n', "deno.lock": '{"version":"5"}\n' },
    "next to a package.json": { "package.json": '{"name":"x","type":"module","dependencies":{}}\n' },
    "next to a CommonJS package.json": { "package.json": '{"name":"x","type":"commonjs"}\n' },
  };
  for (const [where, files] of Object.entries(companions)) {
    const test = scenario(`works ${where}, and leaves nothing behind`).paste().skills("hq");
    for (const [path, text] of Object.entries(files)) test.write(path, text);
    test.manifest("hq").remember()
      .sync().says("use-skills: linked hq for claude, opencode, codex").run("check", "-q").says()
      .mode("copy").sync("-q").run("list", "--json").prints().mode().run("clean").same("repo");
  }
});
