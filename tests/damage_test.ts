/** Tests of damaged and hostile files: state files, the target index, and lockfiles. */
import { assertEquals } from "jsr:@std/assert@^1";
import { describe, it } from "jsr:@std/testing@^1/bdd";
import { deployed, isThere, Sandbox, tree } from "./helpers.ts";
import { scenario } from "./scenario.ts";

const STATE = ".claude/skills/.use-skills.json";

describe("a state file", () => {
  const damages: [what: string, damage: (text: string) => string][] = [
    ["cut short", (text) => text.slice(0, text.length / 2)],
    ["empty", () => ""],
    ["not JSON", () => "<<<<<<< HEAD\n"],
    ["null", () => "null"],
    ["other JSON", () => '{"version":1,"entries":{"hq":7,"one":{"target":1,"for":{}}}}'],
    ["an array", () => "[]"],
  ];
  for (const [what, damage] of damages) {
    scenario(`that is ${what} is written again, and the links are adopted`)
      .skills("hq", "one").manifest("hq for claude", "one for claude").sync().remember()
      .do((box) => box.write(STATE, damage(box.read(STATE)))).sync().same()
      .manifest("hq for claude").sync().has(".claude/skills", { hq: "../../skills/hq" });
  }

  const refused: [what: string, setup: (test: ReturnType<typeof scenario>) => unknown, reason: string][] = [
    [
      "that is a link",
      (test) => test.write("precious", "precious").link(STATE, "../../precious"),
      "is not a regular file: delete it",
    ],
    ["that is a broken link", (test) => test.link(STATE, "../../../new"), "is not a regular file: delete it"],
    ["that is a link to /dev/zero", (test) => test.link(STATE, "/dev/zero"), "is not a regular file: delete it"],
    ["that is a directory", (test) => test.write(`${STATE}/precious`, "precious"), "is not a regular file: delete it"],
    ["larger than 1 MiB", (test) => test.write(STATE, " ".repeat(2 ** 20 + 1)), "has more than 1 MiB: delete it"],
    [
      "of a newer version",
      (test) => test.write(STATE, '{"version":2}'),
      "was written by a newer use-skills: update this one",
    ],
  ];
  for (const [what, setup, reason] of refused) {
    const test = scenario(`${what} is refused, and the other targets are deployed to`)
      .skills("hq").manifest("hq for claude cursor");
    setup(test);
    test.remember()
      .sync().fails(
        "use-skills: linked hq for cursor",
        `.skills:1: Cannot read .claude/skills: its .use-skills.json ${reason}`,
      )
      .mode("copy").sync("-q").fails(`.skills:2: Cannot read .claude/skills: its .use-skills.json ${reason}`)
      .same("repo/.claude").same("repo/precious").lacks("/box/new").has(".cursor/skills", { hq: "copy" });
  }

  const owned = (target: string) => ({ target, for: ["../../.skills"] });
  const hostile = JSON.stringify({
    version: 1,
    entries: {
      "../../precious": owned("skills/hq"),
      "../precious": owned("../skills/hq"),
      "a/../../../precious": owned("skills/hq"),
      "/": owned("x"),
      "..": owned("x"),
      ".": owned("x"),
      "": owned("x"),
      ".gitignore": owned("x"),
      "hq\0": owned("x"),
      "__proto__": owned("x"),
    },
  });
  for (const lines of [["hq for claude"], ["# nothing"]]) {
    scenario(`with names that lead elsewhere changes nothing there, with the manifest ${lines}`)
      .skills("hq").link("precious", "skills/hq").link(".claude/precious", "../skills/hq").manifest(...lines)
      .write(STATE, hostile).sync().write(STATE, hostile).run("clean")
      .is("precious", "-> skills/hq").is(".claude/precious", "-> ../skills/hq").is("skills/hq", "directory");
  }

  for (const name of [".use-skills.tmp", ".use-skills.new", "../.use-skills.tmp"]) {
    for (const target of ["target", "target/precious", "../new"]) {
      scenario(`cannot be replaced by way of a link ${name} to ${target}`)
        .skills("hq").write("target/precious", "precious").write("target/skills/hq.old/file", "precious")
        .write("target/.gitignore", "precious")
        .link(`.claude/skills/${name}`, `/box/repo/${target}`).manifest("hq for claude").remember()
        .do(async (box) => {
          for (const mode of ["link", "copy"]) {
            box.mode(mode);
            await box.run();
          }
          await box.run("clean");
          box.mode();
        })
        .same("repo/target").same("repo/skills").lacks("/box/new");
    }
  }
});

describe("the target index", () => {
  it("that is damaged doesn't stop a run, and is written again", async () => {
    using box = new Sandbox();
    box.skills("hq", "one");
    box.environment = { XDG_STATE_HOME: `${box.path}/state` };
    box.manifest("hq", "one");
    await box.done();
    assertEquals(isThere(`${box.home}/.local`), false);
    const files = Object.entries(tree(`${box.path}/state`)).filter(([, what]) => what !== "directory");
    assertEquals(files.length, 1);
    for (const text of ["", "null", "[]", '{"targets":7}', '{"targets":{"x":null}}', "{"]) {
      for (const [path] of files) box.write(`${box.path}/state/${path}`, text);
      const names = text === "null" ? ["hq", "one"] : ["hq"];
      box.manifest(...names);
      await box.done();
      assertEquals(Object.keys(deployed(box.at(".claude/skills"))), names);
    }
    await box.done("clean");
    const left = Object.entries(tree(box.repo)).filter(([, what]) => what !== "directory").map(([path]) => path);
    assertEquals(left, [".skills", "skills/hq/SKILL.md", "skills/one/SKILL.md"]);
  });

  scenario("in a relative XDG_STATE_HOME is ignored, as the specification says")
    .skills("hq").manifest("hq").environment({ XDG_STATE_HOME: "state" }).sync().lacks("state").is(
      "/box/home/.local",
      "directory",
    );

  scenario("that is a file where its directory should be is a warning")
    .skills("hq").manifest("hq for claude").write("/box/home/.local/state/use-skills", "")
    .sync().says(
      "use-skills: linked hq for claude",
      "use-skills: Warning: cannot record where skills are deployed: Cannot create /box/home/.local/state/use-skills (see HOME and the XDG variables): File exists",
    );
});

describe("a lockfile", () => {
  const hash = "0123456789abcdef0123456789abcdef01234567";
  const line = `"a/b/c": {"commit":"${hash}","path":"c","tree":"${hash}","url":"https://github.com/a/b"}`;
  const text = (...lines: string[]) => `{\n${lines.map((line) => `${line},\n`).join("")}"version": 2\n}\n`;
  const restore = "restore the file from git, or delete it and sync";
  const odd = (line: number) =>
    `.skills.lock:${line}: this is not as use-skills writes it. After a merge, keep one line per skill, a comma after ` +
    `each, and no conflict markers; otherwise ${restore}`;
  const refused: [what: string, content: string, message: string][] = [
    [
      "with conflict markers",
      text(line).replace(line, `<<<<<<< HEAD\n${line}\n=======\n${line}\n>>>>>>> x`),
      odd(2),
    ],
    ["that is empty", "", odd(1)],
    ["without a version", '{"skills": {}}\n', odd(1)],
    ["of a newer version", '{"version": 3}\n', ".skills.lock was written by a newer use-skills: update this one"],
    ["with an entry twice", text(line, line), odd(3)],
    ["that was formatted", JSON.stringify(JSON.parse(text(line)), undefined, 2), odd(2)],
    ["with a line that looks like an entry", text(` ${line}`, line), odd(2)],
    ["with an invalid entry", text('"a/b": {"commit":"main"}'), `.skills.lock has an invalid entry, "a/b": ${restore}`],
    ...["../x", "/x", ".git/hooks", "a/../../x", "a/".repeat(64) + "a", "a".repeat(4097)].map((path): [
      string,
      string,
      string,
    ] => [
      `with the target ${path.slice(0, 20)}`,
      text(`"./hq": {"link":"hq","targets":{"${path}":["hq"]}}`),
      `.skills.lock has an invalid entry, "./hq": ${restore}`,
    ]),
    ...['"../hq"', '"a/b"', "1"].map((name): [string, string, string] => [
      `with the deployed name ${name}`,
      text(`"./hq": {"link":"hq","targets":{".claude/skills":[${name}]}}`),
      `.skills.lock has an invalid entry, "./hq": ${restore}`,
    ]),
    [
      "with a link that leads out",
      text('"./hq": {"link":"../hq","targets":{".claude/skills":["hq"]}}'),
      `.skills.lock has an invalid entry, "./hq": ${restore}`,
    ],
    [
      "with a path that leads out",
      text(line.replace('"c"', '"../c"')),
      `.skills.lock has an invalid entry, "a/b/c": ${restore}`,
    ],
    [
      "with more than 1,000 targets",
      text(`"./hq": {"link":"hq","targets":{${Array.from({ length: 1001 }, (_, n) => `"a${n + 1000}":["hq"]`)}}}`),
      `.skills.lock names more than 1000 targets: ${restore}`,
    ],
    ["larger than 8 MiB", " ".repeat(8 * 2 ** 20 + 1), "Cannot read .skills.lock: it has more than 8 MiB"],
  ];
  for (const [what, content, message] of refused) {
    scenario(`${what} is refused, and nothing changes`)
      .skills("hq").manifest("hq").write(".skills.lock", content).remember()
      .sync().refuses(`use-skills: ${message}`).run("check").refuses(`use-skills: ${message}`).untouched();
  }

  const links = { "out of the project": "../outside", "to /dev/zero": "/dev/zero" };
  for (const [what, target] of Object.entries(links)) {
    scenario(`that is a link ${what} is refused`)
      .skills("hq").manifest("hq").write("/box/outside", text(line)).link(".skills.lock", target).remember()
      .sync().refuses("use-skills: Cannot read .skills.lock: it is a link, not a regular file")
      .untouched();
  }

  scenario("whose new content cannot be written, because a link is in the way, is not written")
    .skills("hq").manifest("mode commit", "hq").link(".use-skills.new", "/box/outside")
    .sync().fails(
      "use-skills: Cannot write .skills.lock: /box/repo/.use-skills.new is not a regular file: delete it",
    ).lacks("/box/outside");

  scenario("that is a directory is refused")
    .skills("hq").manifest("hq").directory(".skills.lock")
    .sync().refuses("use-skills: Cannot read .skills.lock: it is not a regular file");

  scenario("that records targets which don't exist leaves nothing in the target index")
    .skills("hq").manifest("hq for claude").sync().remember()
    .write(".skills.lock", text('"./x": {"link":"skills/x","targets":{"a/b":["one"],"c":["two"]}}'))
    .environment({ DIRENV_IN_ENVRC: "1" }).sync().says().same("home");

  const inLockfile = text(
    `"./hq": {"link":"skills/hq","targets":{".claude/skills":["hq"]}}`,
    `"x": {"targets":{"tools":["zz"]},"tree":"${hash}"}`,
  );
  for (const owner of ["../.skills", "../gone"]) {
    const state = `{"version":1,"entries":{\n"foo":{"target":"../lib/foo","for":["${owner}"]}\n}}\n`;
    for (const mode of ["link", "commit"]) {
      const run = scenario(`doesn't make a directory with a state file for ${owner} a target in mode ${mode}`)
        .skills("hq").manifest(`mode ${mode}`, "./skills/hq for claude").sync()
        .link("tools/foo", "../lib/foo").write("tools/.use-skills.json", state).write(".skills.lock", inLockfile)
        .remember().environment({ CI: "true" }).sync();
      if (mode === "commit") {
        run.fails(
          '.skills: .skills.lock still records "zz": --frozen (or CI=true) doesn\'t change .skills.lock, so run sync ' +
            "without it and commit that file",
        );
      }
      if (mode === "link") run.says();
      run.same("repo");
    }
  }

  scenario("that records a target doesn't make a frozen run forget that it deployed there")
    .skills("hq").manifest("hq for claude").environment({ DIRENV_IN_ENVRC: "1" })
    .write(".skills.lock", text('"./x": {"link":"skills/x","targets":{".claude/skills":["hq"]}}'))
    .sync().says("use-skills: linked hq for claude")
    .remove(".skills.lock").manifest("hq for cursor").sync()
    .says("use-skills: linked hq for cursor", "use-skills: removed hq for claude").lacks(".claude");

  const recorded = text(`"./x": {"link":"skills/x","targets":{"own":["hq","one"]}}`);
  scenario("that records what is not there removes at most what is exactly as recorded, and nothing under direnv")
    .skills("hq", "x").manifest("hq for claude").write("own/hq/mine", "mine").link("own/one", "../skills/x")
    .write(".skills.lock", recorded).environment({ DIRENV_IN_ENVRC: "1" })
    .sync().has("own", { hq: "copy", one: "../skills/x" }).is(".skills.lock", `644 ${recorded}`)
    .environment({}).sync().has("own", { hq: "copy" }).lacks(".skills.lock"); // That link is exactly as recorded.

  for (const environment of [{ DIRENV_IN_ENVRC: "1" }, { CI: "true" }] as Record<string, string>[]) {
    const [variable] = Object.keys(environment);
    const inTheWay = (name: string, what: string, line: number) =>
      `.skills:${line}: Cannot deploy "${name}" to .claude/skills: ${what} that use-skills did not create is there; ` +
      'move it away, or write "as NAME" after the entry';
    scenario(`that records somebody's own link and directory does not replace them with ${variable}`)
      .skills("private/foo", "evil").link(".claude/skills/foo", "../../private/foo").write(
        ".claude/skills/pub/x",
        "mine",
      )
      .manifest("./skills/evil as foo for claude", "./skills/evil as pub for claude")
      .write(
        ".skills.lock",
        text(
          `"./p": {"link":"private/foo","targets":{".claude/skills":["foo"]}},\n` +
            `"./q": {"targets":{".claude/skills":["pub"]},"tree":"65e4461d44ea892a49e35c1389881050271aa6af"}`,
        ),
      )
      .environment(environment)
      .sync().fails(
        inTheWay("foo", 'a link to "../../private/foo"', 1),
        inTheWay("pub", "a directory", 2).replace(
          "is there;",
          "is there (compare: diff -r skills/evil .claude/skills/pub);",
        ),
      ).has(".claude/skills", { foo: "../../private/foo", pub: "copy" });
  }

  scenario("is removed with its last entry")
    .skills("hq").manifest("hq").write(".skills.lock", text(line))
    .sync().lacks(".skills.lock");

  scenario("of the same content is not written")
    .skills("hq").manifest("hq", "a/b/c").write(".skills.lock", text(line)).remember()
    .sync("--offline").fails().same("repo/.skills.lock");

  for (
    const [mode, options, environment] of [
      ["--frozen", ["--frozen"], {}],
      ["CI=true", [], { CI: "true" }],
      ["direnv", [], { DIRENV_IN_ENVRC: "1" }],
    ] as [string, string[], Record<string, string>][]
  ) {
    scenario(`is not changed under ${mode}, not even by removing entries`)
      .skills("hq").manifest("hq").write(".skills.lock", text(line)).environment(environment)
      .sync(...options).says("use-skills: linked hq for claude, opencode, codex")
      .is(".skills.lock", `644 ${text(line)}`);
  }

  scenario("is changed under direnv if the user was asked")
    .skills("hq").manifest("hq").write(".skills.lock", text(line)).environment({
      DIRENV_IN_ENVRC: "1",
      SKILLS_ALLOWED: "1",
    })
    .sync().lacks(".skills.lock");

  scenario("is not changed by check, list, clean and --dry-run")
    .skills("hq").manifest("hq").sync().write(".skills.lock", text(line)).remember()
    .run("check").run("list").prints().run("--dry-run").run("clean").same("repo/.skills.lock");
});
