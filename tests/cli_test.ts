/** Tests of the command line: help, options, wrong usage, `add` and `remove` of skills on this machine. */
import { assert, assertEquals, assertMatch } from "jsr:@std/assert@^1";
import { describe, it } from "jsr:@std/testing@^1/bdd";
import { Sandbox } from "./helpers.ts";
import { scenario } from "./scenario.ts";

describe("help", () => {
  it("names every command and option, and fits 80 columns", async () => {
    using box = new Sandbox();
    for (const words of [["--help"], ["-h"], ["help"], ["-h", "help"]]) {
      const { status, stdout, stderr } = await box.run(...words);
      assertEquals([status, stderr], [0, ""]);
      assertEquals(stdout.split("\n").filter((line) => line.length > 80), []);
      for (const word of ["sync", "check", "list", "add", "remove", "update", "clean", "init", "validate", "doctor"]) {
        assertMatch(stdout, new RegExp(`^  ${word} `, "m"));
      }
      for (
        const word of ["--global", "--directory", "--dry-run", "--json", "--quiet", "--version", "--frozen"]
      ) {
        assert(stdout.includes(word), word);
      }
    }
  });

  it("of each command shows usage, options and examples, needs no library, and fits 80 columns", async () => {
    using box = new Sandbox();
    const help = (await box.run("--help")).stdout;
    const names = [...help.matchAll(/^ {2}([a-z]+) /gm)].map(([, name]) => name ?? "");
    assertEquals(names.length, 10);
    box.environment = { JSR_URL: "http://127.0.0.1:1/", DENO_DIR: `${box.path}/empty` };
    for (const name of names) {
      const { stdout, status } = await box.run(name, "--help");
      assertEquals([status, stdout.split("\n").filter((line) => line.length > 80)], [0, []]);
      assertEquals(stdout, (await box.run("help", name)).stdout);
      assertMatch(stdout, new RegExp(`^Usage: use-skills.ts ${name}\\b.*\n  .*\nOptions:\n( .*\n)+Examples:\n`));
      const examples = stdout.slice(stdout.indexOf("Examples:")).trim().split("\n").slice(1);
      assertEquals(examples.map((line) => line.startsWith(`  use-skills.ts ${name}`)), examples.map(() => true));
      assert(examples.length >= 2 && examples.length <= 3, name);
    }
  });

  it("prints the version alone", async () => {
    using box = new Sandbox();
    for (const option of ["--version", "-V"]) assertMatch((await box.run(option)).stdout, /^\d+\.\d+\.\d+\n$/);
  });
});

describe("wrong usage", () => {
  const cases: [args: string[], message: string][] = [
    [["chekc"], 'Unknown command "chekc", did you mean "check"?'],
    [["frobnicate"], 'Unknown command "frobnicate"'],
    [["--dryrun"], 'Unknown option "--dryrun", did you mean "--dry-run"?'],
    [["--jsno"], 'Unknown option "--jsno", did you mean "--json"?'],
    [["-x"], 'Unknown option "-x"'],
    [["add", "a/b", "--skill", "pdf"], 'Unknown option "--skill": use "add OWNER/REPO@NAME"'],
    [["add", "a/b", "--agent=codex"], 'Unknown option "--agent": use "--for AGENT"'],
    [["sync", "hq"], 'Unexpected "hq" after sync'],
    [["check", "hq"], 'Unexpected "hq" after check'],
    [["--directory="], "--directory needs DIR"],
    [["check", "--frozen"], "check has no option --frozen"],
    [["list", "--frozen"], "list has no option --frozen"],
    [["install"], 'Unknown command "install": use "sync" or "add"'],
    [["unsync"], 'Unknown command "unsync"'],
    [["i"], 'Unknown command "i": use "sync" or "add"'],
    [["restore"], 'Unknown command "restore": use "sync"'],
    [["recover"], 'Unknown command "recover"'],
    [["remvoe"], 'Unknown command "remvoe", did you mean "remove"?'],
    [["move"], 'Unknown command "move": use "as NAME" in .skills'],
    [["clean", "--frozen"], "clean has no option --frozen"],
    [["sync", "--as", "x"], "sync has no option --as"],
    [["sync", "--for", "pi"], "sync has no option --for"],
    [["add"], "Usage: use-skills.ts add REF... [--as NAME] [--for AGENT] [--allow-large]"],
    [["add", "hq", "one", "--as", "x"], "--as needs one skill, but there are several"],
    [["add", "hq", "--as="], "--as needs NAME"],
    [["add", "hq", "--for="], "--for needs AGENT"],
    [["add", "hq one"], '"hq one" is not a reference: it contains white space or "#"'],
    [["add", "hq trust"], '"hq trust" is not a reference: it contains white space or "#"'],
    [["add", "hq # one"], '"hq # one" is not a reference: it contains white space or "#"'],
    [["remove"], "Usage: use-skills.ts remove NAME..."],
    [["remove", "gone"], 'No entry of .skills deploys "gone"'],
    [["remove", "hqq"], 'No entry of .skills deploys "hqq", did you mean "hq"?'],
    [["update", "hq"], 'No entry of .skills fetches "hq"'],
    [["clean", "--store", "--json"], "--store has no --json"],
    [["-C", "nowhere"], 'No directory "nowhere"'],
  ];
  for (const [args, message] of cases) {
    scenario(`such as ${args.join(" ")} exits with 2 and changes nothing`)
      .skills("hq").manifest("hq").remember().run(...args).refuses(`use-skills: ${message}`).untouched();
  }

  const no = 'use-skills: No .skills in /box/repo or above it in its repo: "use-skills.ts init" creates one';
  for (const args of [["sync"], ["check"], ["list"], ["remove", "hq"], ["update"]]) {
    scenario(`such as ${args[0]} without a manifest exits with 2`).directory(".git").run(...args).refuses(no);
  }
});

describe("add", () => {
  scenario("writes entries at the end, and deploys them")
    .skills("hq", "one", "./tools/two").manifest("hq # first")
    .run("add", "one", "./tools/two").says(
      "use-skills: added to .skills: one",
      "use-skills: added to .skills: ./tools/two",
      "use-skills: linked hq, one, two for claude, opencode, codex",
    )
    .is(".skills", "644 hq # first\none\n./tools/two\n");

  scenario("writes --as and --for")
    .skills("hq").manifest("# mine")
    .run("add", "hq", "--as", "x", "--for", "claude", "--for", "pi").says(
      "use-skills: added to .skills: hq as x for claude pi",
      "use-skills: linked x for claude, pi",
    )
    .is(".skills", "644 # mine\nhq as x for claude pi\n");

  scenario("writes entries for the default agents before the first for line")
    .skills("hq", "one").manifest("# all", "hq", "", "# some", "for claude", "hq as x")
    .run("add", "one").is(".skills", "644 # all\nhq\none\n\n# some\nfor claude\nhq as x\n");

  scenario("writes a reference that is given twice once")
    .skills("hq").manifest().run("add", "hq", "hq").is(".skills", "644 hq\n");

  scenario("keeps CRLF, and a last line without an end")
    .skills("hq", "one").write(".skills", "hq\r\n# end").run("add", "one").is(".skills", "644 hq\r\n# end\r\none\r\n");

  scenario("creates the manifest at the root of the repo")
    .directory(".git", "a").skills("hq").from("a").run("add", "hq").is(".skills", "644 hq\n").lacks("a/.skills");

  scenario("writes nothing if an entry would fail")
    .skills("hq").directory("skills/empty").manifest("hq").sync().remember()
    .run("add", "./gone").fails('.skills: "./gone" does not exist')
    .run("add", "empty").fails('.skills: Cannot deploy "empty" from skills/empty: it has no SKILL.md')
    .run("add", "hq").fails('use-skills: "hq" is already in line 1 of .skills')
    .run("add", "hq", "--for", "cursr").fails('use-skills: "hq" is already in line 1 of .skills')
    .run("add", "hq", "--as", "x", "--for", "cursr").fails('.skills: Unknown agent "cursr", did you mean "cursor"?')
    .untouched();

  scenario("keeps the manifest's permissions")
    .skills("hq", "one").write(".skills", "hq\n").do((box) => Deno.chmodSync(box.at(".skills"), 0o640))
    .run("add", "one").is(".skills", "640 hq\none\n");
});

describe("remove", () => {
  scenario("deletes lines, keeps the others, and prunes")
    .skills("hq", "one", "./tools/two").manifest("# mine", "hq  # first", "one as x", "./tools/two").sync()
    .run("remove", "x", "./tools/two").says(
      "use-skills: deleted from .skills: one as x",
      "use-skills: deleted from .skills: ./tools/two",
      "use-skills: removed two, x for claude, opencode, codex",
    )
    .is(".skills", "644 # mine\nhq  # first\n");

  scenario("refuses one of many skills of an entry")
    .skills("hq", "one").manifest("./skills/*").sync().remember()
    .run("remove", "hq").refuses(
      'use-skills: "./skills/*" in line 1 deploys others, too: remove that entry, or replace it by entries for the others',
    )
    .untouched();
});

describe("--dry-run", () => {
  scenario("shows what remove would do")
    .skills("hq", "one").manifest("hq for claude", "one for claude").sync().remember()
    .run("remove", "-n", "one").says(
      "use-skills: would delete from .skills: one for claude",
      "would remove .claude/skills/one: it is no longer desired",
    )
    .run("check", "-n").says().run("list", "-n").prints().untouched();
});

describe("a home that cannot be used", () => {
  scenario("is named, with what it was needed for")
    .skills("hq").manifest("./skills/hq for claude").environment({ HOME: "/proc/nowhere" })
    .sync().says(
      "use-skills: linked hq for claude",
      "use-skills: Warning: cannot record where skills are deployed: Cannot create " +
        "/proc/nowhere/.local/state/use-skills (see HOME and the XDG variables): No such file or directory",
    )
    .run("add", "team/skills/pdf").fails(
      ".skills: Cannot use the store: Cannot create /proc/nowhere/.local/share/use-skills/store " +
        "(see HOME and the XDG variables): No such file or directory",
    );
});

describe("on a terminal", () => {
  scenario("places are red, unless NO_COLOR is set", "script")
    .manifest("./gone").do(async (box) => {
      const call = (await box.call()).map((word) => `'${word}'`).join(" ");
      for (
        const [value, expected] of [["", '\x1b[31m.skills:1:\x1b[39m "./gone" does not exist\n'], [
          "1",
          '.skills:1: "./gone" does not exist\n',
        ]]
      ) {
        const start = await box.start({ environment: { NO_COLOR: value ?? "" } });
        const { stdout } = await new Deno.Command("script", {
          args: ["-qec", call, "/dev/null"],
          cwd: start.cwd,
          env: { PATH: Deno.env.get("PATH") ?? "", TERM: "xterm", ...start.environment },
          clearEnv: true,
          stdin: "null",
        }).output();
        const summary = "0 skills up to date; 1 problem\n";
        assertEquals(new TextDecoder().decode(stdout).replaceAll("\r", ""), expected + summary);
      }
    });
});
