/** Tests of `use-skills.ts`: its pure functions, and the script itself as a process, in temporary repos and homes. */
import {
  assert,
  assertEquals,
  assertMatch,
  assertNotEquals,
  assertRejects,
  assertStringIncludes,
  assertThrows,
} from "jsr:@std/assert@^1";
import { describe, it } from "jsr:@std/testing@^1/bdd";
import {
  decide,
  nameProblem,
  parseFrontMatter,
  parseManifest,
  parseReference,
  type Situation,
  type Step,
} from "../use-skills.ts";
import {
  deployed,
  execute,
  installed,
  isThere,
  kill,
  requires,
  Sandbox,
  skillText,
  stamps,
  succeed,
  type Tree,
  tree,
  whatIs,
} from "./helpers.ts";

/** The numbers from 0 up to, and without, `count`. */
function upTo(count: number): number[] {
  return Array.from({ length: count }, (_, index) => index);
}

/** Which lines of the manifest problems were printed for. */
function problemLines(stderr: string): number[] {
  return [...stderr.matchAll(/^\.skills:(\d+): (?!Warning)/gm)].map(([, line]) => Number(line));
}

/** That nothing in a text could fool a reader or a terminal. */
function assertPlain(text: string): void {
  assert(!/[\p{Cc}\p{Cf}]/u.test(text.replaceAll("\n", "")), text);
}

// ── Pure functions ──────────────────────────────────────────────────────────────────────────────────────────────

describe("parseReference()", () => {
  const git = (url: string, path: string, ref?: string) => ({ kind: "git", url, path, ...(ref && { ref }) });
  const browse = (url: string, tail: string) => ({ kind: "git", url, path: "", tail });
  const forms: [text: string, reference: unknown][] = [
    ["hq", { kind: "name", name: "hq" }],
    ["./tools/skills/house-style", { kind: "path", path: "./tools/skills/house-style", all: false }],
    ["../shared/hq/", { kind: "path", path: "../shared/hq", all: false }],
    ["/srv/skills/hq", { kind: "path", path: "/srv/skills/hq", all: false }],
    ["~/hq", { kind: "path", path: "~/hq", all: false }],
    ["~/notes/skills/*", { kind: "path", path: "~/notes/skills", all: true }],
    ["./*", { kind: "path", path: ".", all: true }],
    ["anthropics/skills", git("https://github.com/anthropics/skills", "")],
    ["anthropics/skills/skills/pdf#main", git("https://github.com/anthropics/skills", "skills/pdf", "main")],
    ["a/b.c_d#feature/x", git("https://github.com/a/b.c_d", "", "feature/x")],
    ["https://git.example.org/t/s.git", git("https://git.example.org/t/s.git", "")],
    ["https://git.example.org/t/s.git//x/y#v2.1.0", git("https://git.example.org/t/s.git", "x/y", "v2.1.0")],
    ["ssh://git@example.org:2222/t/s.git//x", git("ssh://git@example.org:2222/t/s.git", "x")],
    ["file:///srv/s.git//x#main", git("file:///srv/s.git", "x", "main")],
    ["git@example.org:team/s.git", git("git@example.org:team/s.git", "")],
    ["git@example.org:team/s.git//x/y#v2", git("git@example.org:team/s.git", "x/y", "v2")],
    ["https://github.com/a/b/tree/main/x/y", browse("https://github.com/a/b", "main/x/y")],
    ["https://gitlab.com/g/sub/b/-/tree/main/x", browse("https://gitlab.com/g/sub/b", "main/x")],
    ["https://codeberg.org/a/b/src/branch/main/x", browse("https://codeberg.org/a/b", "main/x")],
    ["https://codeberg.org/a/b/src/tag/v1/x", browse("https://codeberg.org/a/b", "v1/x")],
    ["https://codeberg.org/a/b/src/commit/0a1b2c/x", browse("https://codeberg.org/a/b", "0a1b2c/x")],
  ];
  for (const [text, reference] of forms) {
    it(`reads ${text}`, () => {
      const read = JSON.parse(JSON.stringify(parseReference(text)));
      if (read.kind === "path") read.path = read.path.replace(/\/$/, "");
      assertEquals(read, reference);
    });
  }

  const refused = [
    "http://example.org/s.git",
    "git://example.org/s.git",
    "ext::sh",
    "a/b#",
    "./a*",
    "./*/b",
    "a/b/../../c",
    "https://example.org/s.git//../x",
    "-a/b",
    '"./a',
  ];
  for (const text of refused) {
    it(`refuses ${text}`, () => {
      assertThrows(() => parseReference(text), SyntaxError);
    });
  }
});

describe("parseManifest()", () => {
  /** Each entry in short: line, reference, and what else is said. */
  const read = (text: string) => {
    const { entries, errors } = parseManifest(text);
    assertEquals(errors, []);
    return entries.map(({ line, text, as, trust, agents }) =>
      [line, text, as ?? "", trust, agents?.names.join() ?? ""].join(" ").trimEnd()
    );
  };
  const errorLines = (text: string) => parseManifest(text).errors.map(({ line }) => line);

  it("skips blank lines and comments", () => {
    assertEquals(read("\n# one\n  \t# two\nhq # three\nx\t#four\n   \n"), ["4 hq  false", "5 x  false"]);
  });

  it("keeps # inside a reference", () => {
    assertEquals(read("a/b#v1 # the first\na/b#v1#2"), ["1 a/b#v1  false", "2 a/b#v1#2  false"]);
  });

  it("reads every clause", () => {
    assertEquals(read("a/b as c trust for claude ./x"), ["1 a/b c true claude,./x"]);
    assertEquals(read("hq trust\nhq as x\nhq for codex"), ["1 hq  true", "2 hq x false", "3 hq  false codex"]);
  });

  it("has a line with for hold until the next one, and a line's own for win", () => {
    assertEquals(read("a\nfor claude codex\nb\nc for pi\nd\nfor cursor # now\ne"), [
      "1 a  false",
      "3 b  false claude,codex",
      "4 c  false pi",
      "5 d  false claude,codex",
      "7 e  false cursor",
    ]);
  });

  it("reads CRLF, a byte-order mark and a last line without an end", () => {
    assertEquals(read("\ufeffa\r\n\r\nb for claude\r\nc"), ["1 a  false", "3 b  false claude", "4 c  false"]);
  });

  it("says in which lines the grammar is broken", () => {
    const wrong = [
      "hq extra",
      "hq as",
      "hq for",
      "for",
      "hq for claude as x",
      "hq trust as x",
      "./my skill",
      "http://x/y",
    ];
    for (const line of wrong) assertEquals(errorLines(`hq\n${line}\nhq`), [2], line);
    assertEquals(errorLines(wrong.join("\n")), upTo(wrong.length).map((index) => index + 1));
  });

  it("says that a path cannot have white space", () => {
    for (const line of ["./my skill", '"./my skill"']) {
      assertMatch(parseManifest(line).errors[0]?.message ?? "", /white space/, line);
    }
  });
});

describe("nameProblem()", () => {
  it("has nothing against legal names", () => {
    for (const name of ["a", "0", "hq", "review-gate", "a-b-c-1", "a".repeat(64)]) {
      assertEquals(nameProblem(name), undefined, name);
    }
  });

  it("says what is wrong with others", () => {
    const wrong = [
      "",
      "-a",
      "a-",
      "a--b",
      "A",
      "a_b",
      "a b",
      "a/b",
      "..",
      ".",
      ".git",
      "a\0b",
      "a\nb",
      "ä",
      "hq\u200b",
    ];
    for (const name of [...wrong, "a".repeat(65), "as", "for", "trust", "\uff48q"]) {
      assertMatch(nameProblem(name) ?? "", /\w/, JSON.stringify(name));
    }
  });

  it("names the look-alike that nobody can see", () => {
    assertStringIncludes(nameProblem("h\u0430") ?? "", "U+0430");
  });
});

describe("parseFrontMatter()", () => {
  it("reads every scalar as the text that was written", async () => {
    const fields = await parseFrontMatter("---\nname: 1.0\nok: yes\nnone: null\nmetadata:\n  n: 2\n---\nBody\n---\n");
    assertEquals(fields, { name: "1.0", ok: "yes", none: "null", metadata: { n: "2" } });
  });

  it("reads CRLF, a byte-order mark and folded text", async () => {
    const fields = await parseFrontMatter("\ufeff---\r\nname: a\r\ndescription: >-\r\n  one\r\n  two\r\n---\r\n");
    assertEquals(fields, { name: "a", description: "one two" });
  });

  it("refuses what is no front matter", async () => {
    const wrong = [
      "",
      "# Title\n",
      "---\nname: a\n",
      "---\n- a\n---\n",
      "---\ntext\n---\n",
      "---\na: [\n---\n",
      "---\n---\n",
    ];
    for (const text of wrong) await assertRejects(() => parseFrontMatter(text), SyntaxError, undefined, text);
  });
});

// ── Commands ────────────────────────────────────────────────────────────────────────────────────────────────────

describe("sync", () => {
  it("makes relative links for claude and opencode", async () => {
    using box = new Sandbox();
    box.skills("hq", "./tools/house-style");
    box.manifest("hq", "./tools/house-style as style");
    await box.done();
    const links = { hq: "../../skills/hq", style: "../../tools/house-style" };
    assertEquals(deployed(box.at(".claude/skills")), links);
    assertEquals(deployed(box.at(".opencode/skills")), links);
    assertEquals([...Deno.readDirSync(box.repo)].map((entry) => entry.name).sort(), [
      ".claude",
      ".opencode",
      ".skills",
      "skills",
      "tools",
    ]);
    assertEquals(box.read(".claude/skills/hq/SKILL.md"), skillText("hq"));
  });

  it("makes links for codex too where CODEX_HOME is set", async () => {
    using box = new Sandbox();
    box.skills("hq");
    box.manifest("hq");
    box.environment = { CODEX_HOME: box.at(".codex") };
    await box.done();
    assertEquals(deployed(box.at(".codex/skills")), { hq: "../../skills/hq" });
    assertEquals(deployed(box.at(".claude/skills")), { hq: "../../skills/hq" });
  });

  it("makes absolute links to skills outside the repo", async () => {
    using box = new Sandbox();
    box.skills(`${box.home}/notes/one`, `${box.home}/notes/two`, `${box.path}/beside`);
    box.directory(`${box.home}/notes/no-skill`);
    box.manifest("~/notes/*", "../beside", "/nowhere/*/");
    box.manifest("~/notes/*", "../beside");
    await box.done();
    assertEquals(deployed(box.at(".claude/skills")), {
      beside: `${box.path}/beside`,
      one: `${box.home}/notes/one`,
      two: `${box.home}/notes/two`,
    });
  });

  it("is the command when none is given", async () => {
    using box = new Sandbox();
    box.skills("hq");
    box.manifest("hq");
    await box.done("sync");
    assertEquals(deployed(box.at(".claude/skills")), { hq: "../../skills/hq" });
  });

  it("says and writes nothing when there is nothing to do", async () => {
    using box = new Sandbox();
    box.skills("hq", "one");
    box.environment = { CODEX_HOME: `${box.path}/codex` };
    box.manifest("hq", "one for cursor ./own");
    assertNotEquals(await box.done(), "");
    const before = stamps(box.path);
    assertEquals(await box.done(), "");
    assertEquals(stamps(box.path), before);
  });

  it("follows the manifest", async () => {
    using box = new Sandbox();
    box.skills("one", "two", "three");
    box.manifest("one", "two");
    await box.done();
    box.manifest("two", "three", "one as first");
    await box.done();
    const links = { first: "../../skills/one", three: "../../skills/three", two: "../../skills/two" };
    assertEquals(deployed(box.at(".claude/skills")), links);
    box.manifest("two as first");
    await box.done();
    assertEquals(deployed(box.at(".claude/skills")), { first: "../../skills/two" });
    box.manifest("# nothing");
    await box.done();
    assertEquals(Object.keys(tree(box.repo)).filter((path) => !path.startsWith("skills")), [".skills"]);
  });

  it("puts back what somebody has removed", async () => {
    using box = new Sandbox();
    box.skills("hq", "one");
    box.manifest("hq", "one");
    await box.done();
    const before = tree(box.path);
    for (const path of ["/hq", "/.gitignore", "/.use-skills.json", ""]) {
      box.remove(`.claude/skills${path}`);
      if (path === "/hq") await box.fails(1, "check");
      await box.done();
      assertEquals(tree(box.path), before);
    }
  });

  it("deploys to the agents and folders of a line", async () => {
    using box = new Sandbox();
    box.skills("one", "two", "three");
    box.manifest("one for cursor droid", "for agents codex", "two", `three for ./own/folder ${box.path}/far`);
    await box.done();
    assertEquals(deployed(box.at(".cursor/skills")), { one: "../../skills/one" });
    assertEquals(deployed(box.at(".factory/skills")), { one: "../../skills/one" });
    assertEquals(deployed(box.at(".agents/skills")), { two: "../../skills/two" });
    assertEquals(deployed(box.at("own/folder")), { three: "../../skills/three" });
    assertEquals(deployed(`${box.path}/far`), { three: box.at("skills/three") });
    assertEquals(deployed(box.at(".claude/skills")), {});
  });

  it("looks for names beside the manifest, then in SKILLS_PATH, then beside the script", async () => {
    using box = new Sandbox();
    const { script } = await installed("use-skills.ts");
    box.write(`${box.path}/program/use-skills.ts`, Deno.readTextFileSync(script));
    box.skills("a", `${box.path}/p/a`, `${box.path}/p/b`, `${box.path}/q/b`, `${box.path}/q/c`);
    box.skills(...["a", "b", "c", "d"].map((name) => `${box.path}/program/skills/${name}`));
    box.skills("./b"); // What lies in the working directory is not found by an empty part.
    box.environment = { SKILLS_PATH: `:/nowhere::${box.path}/p:${box.path}/missing:${box.path}/q:` };
    box.manifest("a", "b", "c", "d");
    box.link("linked.ts", "../program/use-skills.ts"); // Its real path counts.
    const call = [Deno.execPath(), "run", "-A", "--no-lock", box.at("linked.ts")];
    await succeed(call, await box.start());
    assertEquals(deployed(box.at(".claude/skills")), {
      a: "../../skills/a",
      b: `${box.path}/p/b`,
      c: `${box.path}/q/c`,
      d: `${box.path}/program/skills/d`,
    });
  });

  it("finds the manifest above the working directory, up to the repo's root", async () => {
    using box = new Sandbox();
    box.skills("hq");
    box.manifest("hq");
    box.directory("a/b");
    box.directory("inner/.git");
    box.directory("inner/a");
    await succeed(await box.call(), await box.start({ cwd: box.at("a/b") }));
    assertEquals(deployed(box.at(".claude/skills")), { hq: "../../skills/hq" });
    const { status, stderr } = await execute(await box.call(), await box.start({ cwd: box.at("inner/a") }));
    assertEquals(status, 2);
    assertStringIncludes(stderr, "init");
    assertEquals(Object.keys(tree(box.at("inner"))), [".git", "a"]);
  });

  it("never takes the home manifest for a repo's", async () => {
    using box = new Sandbox();
    box.skills(`${box.home}/skills/hq`, `${box.home}/.config/use-skills/skills/hq`);
    box.remove(`${box.home}/.config/use-skills/skills`);
    box.write(`${box.home}/.config/use-skills/skills`, "hq\n");
    box.write(`${box.home}/.skills`, "hq\n");
    box.directory(`${box.home}/project`);
    for (const cwd of [`${box.home}/project`, `${box.home}/.config/use-skills`]) {
      const before = tree(box.path);
      const { status } = await execute(await box.call(), await box.start({ cwd }));
      assertEquals(status, 2);
      assertEquals(tree(box.path), before);
    }
  });

  it("works from another directory with --directory", async () => {
    using box = new Sandbox();
    box.skills("hq");
    box.manifest("hq");
    const start = await box.start({ cwd: box.home });
    for (const args of [["-C", "../repo"], [`--directory=${box.repo}`], ["check", "-C", box.repo]]) {
      await succeed(await box.call(...args), start);
    }
    assertEquals(deployed(box.at(".claude/skills")), { hq: "../../skills/hq" });
    assertEquals((await execute(await box.call("-C", "nowhere"), start)).status === 0, false);
  });

  it("only tells with --dry-run", async () => {
    using box = new Sandbox();
    box.skills("one", "two");
    box.manifest("one");
    await box.done();
    box.manifest("two");
    const before = stamps(box.path);
    for (const option of ["--dry-run", "-n"]) {
      const stderr = await box.done(option);
      assertMatch(stderr, /link .*\.claude\/skills\/two/);
      assertMatch(stderr, /remove .*\.claude\/skills\/one/);
    }
    assertEquals(stamps(box.path), before);
  });

  it("says only problems with --quiet", async () => {
    using box = new Sandbox();
    box.skills("hq");
    box.manifest("hq");
    assertEquals(await box.done("--quiet"), "");
    box.manifest("hq", "gone");
    assertEquals(problemLines(await box.fails(1, "-q")), [2]);
  });

  it("prints one JSON object with --json", async () => {
    using box = new Sandbox();
    box.skills("hq", "one");
    box.manifest("one for claude");
    await box.done();
    box.directory(".opencode/skills/hq");
    box.manifest("hq", "gone");
    const { status, stdout } = await box.run("--json");
    assertEquals(status, 1);
    const { version, root, actions, problems, ...more } = JSON.parse(stdout);
    assertEquals([typeof version, root, more], ["number", box.repo, {}]);
    for (const action of actions) {
      assertEquals(Object.keys(action).sort(), ["action", "agent", "name", "path", "reason", "target"]);
      assertEquals(typeof action.reason, "string");
    }
    const short = actions.map((each: Record<string, string>) =>
      [each.action, each.agent, each.name, each.path?.replace(`${box.repo}/`, ""), each.target].join(" ")
    );
    assertEquals(short.sort(), [
      "blocked opencode hq .opencode/skills/hq ../../skills/hq",
      "link claude hq .claude/skills/hq ../../skills/hq",
      "remove claude one .claude/skills/one ../../skills/one",
    ]);
    for (const problem of problems) {
      assertEquals(Object.keys(problem).sort(), ["file", "line", "message", "name"]);
      assertMatch(problem.message, /^[A-Z].*[^.]$/);
    }
    const places = problems.map((each: Record<string, unknown>) =>
      [each["file"], each["line"], each["name"]].join(" ")
    );
    assertEquals(places.sort(), [".skills 1 hq", ".skills 2 gone"]);
  });

  it("prints an empty plan with --json when there is nothing to do", async () => {
    using box = new Sandbox();
    box.skills("hq");
    box.manifest("hq");
    await box.done();
    const { status, stdout, stderr } = await box.run("--json");
    const { actions, problems } = JSON.parse(stdout);
    assertEquals({ status, stderr, actions, problems }, { status: 0, stderr: "", actions: [], problems: [] });
  });

  it("prints no colour where no terminal is", async () => {
    using box = new Sandbox();
    box.manifest("gone");
    assert(!(await box.fails(1)).includes("\x1b"));
  });
});

describe("sync --copy", () => {
  it("makes copies with what makes a skill work", async () => {
    using box = new Sandbox();
    box.skills("hq", "gone");
    box.write("skills/hq/bin/run", "#!/bin/sh\n");
    Deno.chmodSync(box.at("skills/hq/bin/run"), 0o750);
    box.link("skills/hq/manual", "SKILL.md");
    box.write("skills/hq/empty/.keep", "");
    box.manifest("hq", "gone");
    await box.done("--copy");
    for (const folder of [".claude", ".opencode"]) {
      const copy = tree(box.at(`${folder}/skills/hq`));
      assertEquals(copy["SKILL.md"]?.slice(4), skillText("hq"));
      assertMatch(copy["bin/run"] ?? "", /^7/);
      assertEquals(copy["manual"], "-> SKILL.md");
      assertEquals(copy["empty"], "directory");
    }
    const before = stamps(box.path);
    assertEquals(await box.done("--copy"), "");
    assertEquals(stamps(box.path), before);
    box.manifest("hq");
    await box.done("--copy");
    assertEquals(deployed(box.at(".claude/skills")), { hq: "copy" });
  });

  it("brings copies up to date", async () => {
    using box = new Sandbox();
    box.skills("hq");
    box.write("skills/hq/old", "old");
    box.manifest("hq");
    await box.done("--copy");
    box.remove("skills/hq/old");
    box.write("skills/hq/SKILL.md", `${skillText("hq")}More.\n`);
    await box.fails(1, "check");
    await box.done("--copy");
    assertEquals(box.read(".claude/skills/hq/SKILL.md"), `${skillText("hq")}More.\n`);
    assertEquals(isThere(box.at(".claude/skills/hq/old")), false);
    assertEquals(await box.done("check"), "");
  });

  it("follows the manifest to a skill that looks the same from outside", async () => {
    using box = new Sandbox();
    for (const place of ["a", "b"]) {
      box.write(`${place}/hq/SKILL.md`, `${skillText("hq")}This is ${place}.\n`);
      Deno.utimeSync(box.at(`${place}/hq/SKILL.md`), 1_700_000_000, 1_700_000_000);
    }
    for (const place of ["a", "b"]) {
      box.manifest(`./${place}/hq`);
      await box.done("--copy");
      assertStringIncludes(box.read(".claude/skills/hq/SKILL.md"), `This is ${place}.`);
    }
  });

  it("is remembered by check and list, and undone by a sync without it", async () => {
    using box = new Sandbox();
    box.skills("hq");
    box.manifest("hq");
    await box.done("--copy");
    assertEquals(await box.done("check"), "");
    assertMatch(await succeed(await box.call("list"), await box.start()), /^hq .*\bok$/m);
    await box.done();
    assertEquals(deployed(box.at(".claude/skills")), { hq: "../../skills/hq" });
    await box.done("--copy");
    assertEquals(deployed(box.at(".claude/skills")), { hq: "copy" });
  });
});

describe("check", () => {
  it("finds nothing after a sync", async () => {
    using box = new Sandbox();
    box.skills("hq", "one");
    box.manifest("hq", "one for cursor");
    await box.done();
    const before = stamps(box.path);
    assertEquals(await box.done("check"), "");
    assertEquals(stamps(box.path), before);
  });

  it("prints every difference and problem, changes nothing, and exits with 1", async () => {
    using box = new Sandbox();
    box.skills("one", "two", "three");
    box.manifest("one", "two");
    await box.done();
    box.manifest("one", "three", "gone");
    box.remove(".opencode/skills/one");
    const before = stamps(box.path);
    const stderr = await box.fails(1, "check");
    for (const folder of [".claude", ".opencode"]) {
      assertMatch(stderr, new RegExp(`link .*${folder}/skills/three`));
      assertMatch(stderr, new RegExp(`remove .*${folder}/skills/two`));
    }
    assertMatch(stderr, /link .*\.opencode\/skills\/one/);
    assertEquals(problemLines(stderr), [3]);
    assertEquals(stamps(box.path), before);
  });

  it("exits with 1 on a difference alone, and on a problem alone", async () => {
    using box = new Sandbox();
    box.skills("hq");
    box.manifest("hq");
    await box.fails(1, "check");
    await box.done();
    box.manifest("hq", "gone");
    assertEquals(problemLines(await box.fails(1, "check")), [2]);
  });

  it("says with --json what sync would do", async () => {
    using box = new Sandbox();
    box.skills("hq");
    box.manifest("hq", "gone");
    const { status, stdout } = await box.run("check", "--json");
    const { root, actions, problems } = JSON.parse(stdout);
    assertEquals([status, root], [1, box.repo]);
    assertEquals(actions.map((each: { action: string }) => each.action), ["link", "link"]);
    assertEquals(problems.map((each: { line: number }) => each.line), [2]);
    assertEquals(isThere(box.at(".claude")), false);
  });
});

describe("list", () => {
  it("shows name, source, agents and state in aligned columns", async () => {
    using box = new Sandbox();
    const names = ["fine", "lost", "moved", "taken", "vanished", "a-name-that-is-rather-long"];
    box.skills(...names);
    box.skills("elsewhere/moved");
    box.directory(".claude/skills/taken");
    box.manifest(...names.map((name) => `${name} for claude`));
    await box.fails(1);
    box.remove(".claude/skills/lost");
    box.remove("skills/vanished");
    box.manifest(...names.map((name) => name === "moved" ? "./elsewhere/moved for claude" : `${name} for claude`));
    const { stdout } = await box.run("list");
    const lines = stdout.trimEnd().split("\n");
    const rows = lines.map((line) => line.split(/ {2,}/));
    const states = Object.fromEntries(rows.map((row) => [row[0], row.at(-1)]));
    assertEquals(states["fine"], "ok");
    assertEquals(states["lost"], "missing");
    assertEquals(states["moved"], "changed");
    assertEquals(states["taken"], "blocked");
    assertEquals(states["vanished"], "broken");
    const fine = rows.find((row) => row[0] === "fine");
    assertEquals(fine, ["fine", "skills/fine", "claude", "ok"]);
    for (const column of [1, 2, 3]) {
      const starts = lines.map((line, index) => line.indexOf(`  ${rows[index]?.[column]}`));
      assertEquals(new Set(starts).size, 1, stdout);
    }
  });

  it("shows an edited copy as changed", async () => {
    using box = new Sandbox();
    box.skills("hq");
    box.manifest("hq for claude");
    await box.done("--copy");
    box.write(".claude/skills/hq/SKILL.md", `${skillText("hq")}Mine.\n`);
    const { stdout } = await box.run("list");
    assertMatch(stdout, /^hq .* changed$/m);
  });

  it("names all agents that have a skill, and changes nothing", async () => {
    using box = new Sandbox();
    box.skills("hq");
    box.manifest("hq for claude cursor");
    await box.done();
    const before = stamps(box.path);
    const { status, stdout, stderr } = await box.run("list");
    assertEquals({ status, stderr }, { status: 0, stderr: "" });
    assertMatch(stdout, /^hq +skills\/hq +claude, ?cursor +ok\n$/);
    assertEquals(stamps(box.path), before);
  });

  it("prints one JSON object with --json", async () => {
    using box = new Sandbox();
    box.skills("hq");
    box.manifest("hq for claude cursor");
    await box.done();
    const { status, stdout } = await box.run("list", "--json");
    const { version, root, skills } = JSON.parse(stdout);
    assertEquals([status, typeof version, root], [0, "number", box.repo]);
    assertEquals(skills.length, 1);
    assertEquals([skills[0].name, skills[0].agents, skills[0].state], ["hq", ["claude", "cursor"], "ok"]);
  });
});

describe("clean", () => {
  it("leaves the repo as it was before the first sync", async () => {
    using box = new Sandbox();
    box.skills("hq", "one");
    box.environment = { CODEX_HOME: `${box.path}/codex` };
    box.manifest("hq", "one for cursor ./a/b/c");
    box.directory(".claude/skills");
    box.write(".opencode/settings.json", "{}");
    box.link(".claude/skills/mine", "../../skills/one");
    const before = tree(box.path);
    await box.done();
    box.manifest("hq", "one for cursor ./a/b/d");
    await box.done();
    await box.done("clean");
    const after = tree(box.path);
    for (const path of Object.keys(after)) if (path.startsWith("home/")) delete after[path];
    box.manifest("hq", "one for cursor ./a/b/c");
    assertEquals({ ...after, "repo/.skills": before["repo/.skills"] ?? "" }, before);
    assertEquals(Object.entries(tree(box.home)).filter(([, what]) => what !== "directory"), []);
    assertEquals(await box.done("clean"), "");
  });

  it("removes copies too", async () => {
    using box = new Sandbox();
    box.skills("hq");
    box.manifest("hq");
    const before = tree(box.repo);
    await box.done("--copy");
    await box.done("clean");
    assertEquals(tree(box.repo), before);
  });

  it("needs no manifest", async () => {
    using box = new Sandbox();
    box.directory(".git");
    box.directory("a");
    box.skills("hq");
    box.manifest("hq", "hq for ./own");
    await box.done();
    box.remove(".skills");
    await succeed(await box.call("clean"), await box.start({ cwd: box.at("a") }));
    assertEquals(Object.keys(tree(box.repo)), [".git", "a", "skills", "skills/hq", "skills/hq/SKILL.md"]);
  });

  it("does not need a manifest that can be read", async () => {
    using box = new Sandbox();
    box.skills("hq");
    box.manifest("hq");
    await box.done();
    box.manifest("hq and more");
    await box.done("clean");
    assertEquals(isThere(box.at(".claude")), false);
  });

  it("only tells with --dry-run", async () => {
    using box = new Sandbox();
    box.skills("hq");
    box.manifest("hq");
    await box.done();
    const before = stamps(box.path);
    assertMatch(await box.done("clean", "-n"), /remove .*\.claude\/skills\/hq/);
    assertEquals(stamps(box.path), before);
  });
});

describe("init", () => {
  it("writes a manifest that only has comments, and the block for .envrc", async () => {
    using box = new Sandbox();
    await box.done("init");
    assertEquals(parseManifest(box.read(".skills")), { entries: [], errors: [] });
    assertMatch(box.read(".skills"), /^#/);
    const block = box.read(".envrc");
    for (const part of ["watch_file .skills", "require_allowed .skills", "--no-lock", "${USE_SKILLS:-", "has deno"]) {
      assertStringIncludes(block, part);
    }
    assertEquals(await box.done(), "");
  });

  it("changes nothing the second time", async () => {
    using box = new Sandbox();
    await box.done("init");
    const before = stamps(box.path);
    await box.done("init");
    assertEquals(stamps(box.path), before);
  });

  it("keeps what is in .skills and .envrc", async () => {
    using box = new Sandbox();
    box.skills("hq");
    box.manifest("hq");
    for (const text of ["export A=1\n", "export A=1"]) {
      box.write(".envrc", text);
      await box.done("init");
      const lines = box.read(".envrc").split("\n");
      assertEquals(lines[0], "export A=1");
      assert(lines.includes("watch_file .skills"));
      assertEquals(box.read(".skills"), "hq\n");
    }
  });

  it("writes no path of this machine, be the script in the home or outside", async () => {
    using box = new Sandbox();
    const { script } = await installed("use-skills.ts");
    const inHome = `${box.home}/src/tools/use-skills.ts`;
    box.write(inHome, Deno.readTextFileSync(script));
    for (const path of [inHome, script]) {
      await succeed([Deno.execPath(), "run", "-A", "--no-lock", path, "init"], await box.start());
      const block = box.read(".envrc");
      for (const part of [box.path, box.home, script, Deno.execPath()]) assert(!block.includes(part), block);
      assertMatch(block, /"\$\{USE_SKILLS:-(\$HOME|~)\/.*use-skills\.ts\}"/);
      if (path === inHome) assertStringIncludes(block, "$HOME/src/tools/use-skills.ts");
      box.remove(".envrc");
    }
  });

  it("calls a script that is in the repo by its path there", async () => {
    using box = new Sandbox();
    const { script } = await installed("use-skills.ts");
    box.write("tools/use-skills.ts", Deno.readTextFileSync(script));
    await succeed([Deno.execPath(), "run", "-A", "--no-lock", "tools/use-skills.ts", "init"], await box.start());
    const block = box.read(".envrc");
    assertMatch(block, /--no-lock "?(\.\/)?tools\/use-skills\.ts/);
    assert(!block.includes("USE_SKILLS:-"));
  });

  it("only tells with --dry-run", async () => {
    using box = new Sandbox();
    assertMatch(await box.done("init", "--dry-run"), /\.envrc/);
    assertEquals(tree(box.repo), {});
  });

  it("writes the home manifest with --global", async () => {
    using box = new Sandbox();
    await box.done("init", "--global");
    assertEquals(parseManifest(box.read(`${box.home}/.config/use-skills/skills`)), { entries: [], errors: [] });
    assertEquals(tree(box.repo), {});
    assertEquals(isThere(`${box.home}/.envrc`), false);
  });
});

describe("--global", () => {
  it("deploys the home manifest into the home", async () => {
    using box = new Sandbox();
    box.skills(`${box.home}/notes/hq`);
    box.write(
      `${box.home}/.config/use-skills/skills`,
      "~/notes/hq\n~/notes/hq for codex gemini as x\n~/notes/hq as y for codex\n",
    );
    assertStringIncludes(await box.fails(2, "--global"), "skills:2: ");
    box.write(`${box.home}/.config/use-skills/skills`, "~/notes/hq\n~/notes/hq as x for codex gemini\n");
    await box.done("-g");
    const link = { hq: "../../notes/hq" };
    assertEquals(deployed(`${box.home}/.claude/skills`), link);
    assertEquals(deployed(`${box.home}/.config/opencode/skills`), { hq: "../../../notes/hq" });
    assertEquals(deployed(`${box.home}/.codex/skills`), { x: "../../notes/hq" });
    assertEquals(deployed(`${box.home}/.gemini/skills`), { x: "../../notes/hq" });
    assertEquals(tree(box.repo), {});
    assertEquals(await box.done("check", "--global"), "");
    await box.done("clean", "--global");
    assertEquals(isThere(`${box.home}/.claude`), false);
  });

  it("heeds CLAUDE_CONFIG_DIR, CODEX_HOME and XDG_CONFIG_HOME", async () => {
    using box = new Sandbox();
    box.environment = {
      CLAUDE_CONFIG_DIR: `${box.path}/claude`,
      CODEX_HOME: `${box.path}/codex`,
      XDG_CONFIG_HOME: `${box.path}/config`,
    };
    box.skills(`${box.home}/hq`);
    box.write(`${box.path}/config/use-skills/skills`, "~/hq\n");
    await box.done("--global");
    const link = { hq: `${box.home}/hq` };
    assertEquals(deployed(`${box.path}/claude/skills`), link);
    assertEquals(deployed(`${box.path}/config/opencode/skills`), link);
    assertEquals(deployed(`${box.path}/codex/skills`), link);
    assertEquals(isThere(`${box.home}/.claude`), false);
  });

  it("heeds CLAUDE_CONFIG_DIR in no repo", async () => {
    using box = new Sandbox();
    box.environment = { CLAUDE_CONFIG_DIR: `${box.path}/claude` };
    box.skills("hq");
    box.manifest("hq");
    await box.done();
    assertEquals(deployed(box.at(".claude/skills")), { hq: "../../skills/hq" });
    assertEquals(isThere(`${box.path}/claude`), false);
  });
});

describe("command line", () => {
  it("shows help that fits on one screen", async () => {
    using box = new Sandbox();
    for (const option of ["--help", "-h"]) {
      const { status, stdout } = await box.run(option);
      assertEquals(status, 0);
      const lines = stdout.trimEnd().split("\n");
      const rows = lines.reduce((sum, line) => sum + Math.max(1, Math.ceil(line.length / 80)), 0);
      assert(rows <= 24, stdout);
      for (const word of ["sync", "check", "list", "add", "remove", "update", "clean", "init"]) {
        assertMatch(stdout, new RegExp(`^ +${word} `, "m"));
      }
      for (const word of ["--global", "--directory", "--copy", "--dry-run", "--json", "--quiet", "--version"]) {
        assertStringIncludes(stdout, word);
      }
    }
  });

  it("shows its version", async () => {
    using box = new Sandbox();
    for (const option of ["--version", "-V"]) {
      const { status, stdout } = await box.run(option);
      assertEquals(status, 0);
      assertMatch(stdout, /\d+\.\d+\.\d+\n$/);
    }
  });

  it("suggests what an unknown word may have meant", async () => {
    using box = new Sandbox();
    box.skills("hq");
    box.manifest("hq");
    const before = tree(box.path);
    assertStringIncludes(await box.fails(2, "chekc"), '"check"');
    assertStringIncludes(await box.fails(2, "--dryrun"), '"--dry-run"');
    assertStringIncludes(await box.fails(2, "--jsno"), '"--json"');
    await box.fails(2, "-x");
    await box.fails(2, "sync", "hq");
    await box.fails(2, "--directory=");
    assertEquals(tree(box.path), before);
  });

  it("exits with 2 where there is no manifest", async () => {
    using box = new Sandbox();
    for (const command of ["sync", "check", "list"]) assertStringIncludes(await box.fails(2, command), ".skills");
    assertStringIncludes(await box.fails(2, "--global"), "init --global");
    assertEquals(tree(box.path), { home: "directory", repo: "directory" });
  });
});

// ── What is not ours ────────────────────────────────────────────────────────────────────────────────────────────

describe("what is not ours", () => {
  const obstacles: [what: string, make: (box: Sandbox, path: string) => void][] = [
    ["a directory", (box, path) => box.write(`${path}/precious`, "precious")],
    ["an empty directory", (box, path) => box.directory(path)],
    ["a file", (box, path) => box.write(path, "precious")],
    ["a link elsewhere", (box, path) => box.link(path, "../../elsewhere")],
    ["a broken link", (box, path) => box.link(path, "../../../gone")],
  ];
  for (const [what, make] of obstacles) {
    it(`stays where ${what} has a wanted name`, async () => {
      using box = new Sandbox();
      box.skills("hq", "other", "./elsewhere");
      make(box, ".claude/skills/hq");
      const before = tree(box.at(".claude"));
      for (const args of [[], ["--copy"], ["clean"], []]) {
        box.manifest("other", "hq");
        if (args[0] === "clean") {
          await box.done(...args);
          assertEquals(tree(box.at(".claude")), before);
          continue;
        }
        const stderr = await box.fails(1, ...args);
        assertEquals(problemLines(stderr), [2]);
        assertStringIncludes(stderr, "as NAME");
        const now = tree(box.at(".claude"));
        for (const path of Object.keys(before)) assertEquals(now[path], before[path]);
        assertEquals(Object.keys(deployed(box.at(".claude/skills"))), ["hq", "other"]);
        assertEquals(Object.keys(deployed(box.at(".opencode/skills"))), ["hq", "other"]);
      }
      box.manifest("other as hq");
      await box.run();
      box.manifest();
      await box.done();
      assertEquals(tree(box.at(".claude")), before);
    });
  }

  it("stays where it took the place of what was ours", async () => {
    using box = new Sandbox();
    box.skills("one", "two", "three");
    box.manifest("one", "two", "three");
    await box.done();
    for (const name of ["one", "two", "three"]) box.remove(`.claude/skills/${name}`);
    box.write(".claude/skills/one", "precious");
    box.link(".claude/skills/two", "../../skills/three");
    box.write(".claude/skills/three/precious", "precious");
    assertEquals(problemLines(await box.fails(1)), [1, 2, 3]);
    box.manifest("two");
    await box.fails(1);
    await box.done("clean");
    assertEquals(tree(box.at(".claude/skills")), {
      one: "644 precious",
      three: "directory",
      "three/precious": "644 precious",
      two: "-> ../../skills/three",
    });
  });

  requires("setpriv")("stays where the folder is read-only", async () => {
    using box = new Sandbox();
    box.skills("hq");
    box.manifest("hq");
    box.directory(".claude/skills");
    Deno.chmodSync(box.at(".claude/skills"), 0o555);
    const { status, stderr } = await box.runUnprivileged();
    assertEquals(status, 1);
    assertStringIncludes(stderr, ".claude/skills");
    assertEquals(tree(box.at(".claude")), { skills: "directory" });
    assertEquals(deployed(box.at(".opencode/skills")), { hq: "../../skills/hq" });
    Deno.chmodSync(box.at(".claude/skills"), 0o755);
    assertEquals((await box.runUnprivileged()).status, 0);
    Deno.chmodSync(box.at(".claude/skills"), 0o555);
    const before = tree(box.at(".claude"));
    const again = await box.runUnprivileged();
    assertEquals({ status: again.status, stderr: again.stderr }, { status: 0, stderr: "" });
    box.manifest();
    assertEquals((await box.runUnprivileged()).status, 1);
    assertEquals(tree(box.at(".claude")), before);
    assertEquals(isThere(box.at(".opencode")), false);
  });

  requires("setpriv")("stays where nothing can be recorded", async () => {
    using box = new Sandbox();
    box.skills("hq");
    box.manifest("hq");
    box.directory(`${box.home}/.local`);
    Deno.chmodSync(`${box.home}/.local`, 0o555);
    const { stderr } = await box.runUnprivileged();
    assertStringIncludes(stderr, "use-skills");
    assertEquals(deployed(box.at(".claude/skills")), { hq: "../../skills/hq" });
  });

  const targets: [what: string, make: (box: Sandbox) => void][] = [
    ["is a file", (box) => box.write(".claude/skills", "precious")],
    ["would lie in a file", (box) => box.write(".claude", "precious")],
    ["is a link that leads nowhere", (box) => box.link(".claude/skills", "nowhere")],
    ["leads out of the repo", (box) => box.link(".claude/skills", "../../outside")],
    ["lies in a link that leads out of the repo", (box) => box.link(".claude", `${box.path}/outside`)],
  ];
  for (const [what, make] of targets) {
    it(`stays where a target folder ${what}`, async () => {
      using box = new Sandbox();
      box.skills("hq");
      box.manifest("# claude's", "hq");
      box.write(`${box.path}/outside/skills/.keep`, "");
      make(box);
      const before = tree(box.path);
      for (const args of [["sync"], ["sync", "--copy"]]) {
        const stderr = await box.fails(1, ...args);
        assertEquals([...new Set(problemLines(stderr))], [2]);
        assertStringIncludes(stderr, ".claude");
        assertEquals(Object.keys(deployed(box.at(".opencode/skills"))), ["hq"]);
      }
      await box.done("clean");
      const after = tree(box.path);
      for (const path of Object.keys(after)) if (path.startsWith("home/")) delete after[path];
      assertEquals(after, before);
    });
  }

  it("may be outside the repo where an absolute path names it", async () => {
    using box = new Sandbox();
    box.skills("hq");
    box.directory(`${box.path}/outside`);
    box.link("out", "../outside");
    box.manifest(`hq for ${box.path}/outside/a`, `hq for ${box.repo}/out/b`, "hq for ./out/c");
    assertEquals(problemLines(await box.fails(1)), [3]);
    assertEquals(deployed(`${box.path}/outside/a`), { hq: box.at("skills/hq") });
    assertEquals(deployed(`${box.path}/outside/b`), { hq: box.at("skills/hq") });
    assertEquals(isThere(`${box.path}/outside/c`), false);
  });

  it("is written once where two target folders are one", async () => {
    using box = new Sandbox();
    box.skills("hq");
    box.directory(".claude/skills");
    box.link(".opencode/skills", "../.claude/skills");
    const before = tree(box.repo);
    box.manifest("hq");
    const { stdout } = await box.run("--json");
    const { actions } = JSON.parse(stdout);
    assertEquals(actions.length, 1);
    assertMatch(actions[0].agent, /claude.*opencode/);
    assertEquals(deployed(box.at(".opencode/skills")), { hq: "../../skills/hq" });
    assertEquals(Deno.readLinkSync(box.at(".opencode/skills")), "../.claude/skills");
    assertEquals(await box.done(), "");
    assertMatch(await succeed(await box.call("list"), await box.start()), /claude, ?opencode +ok/);
    await box.done("clean");
    box.remove(".skills");
    assertEquals(tree(box.repo), before);
  });

  it("has what is ours and edited: kept when it changes, leaves the manifest, and on clean", async () => {
    using box = new Sandbox();
    box.skills("one", "two");
    box.manifest("one for claude", "two for claude");
    await box.done("--copy");
    box.write(".claude/skills/one/SKILL.md", "Mine");
    box.write(".claude/skills/two/more", "Mine");
    box.write("skills/one/SKILL.md", `${skillText("one")}More\n`);
    const before = tree(box.at(".claude/skills"));
    for (const args of [["--copy"], []]) {
      assertEquals(problemLines(await box.fails(1, ...args)), [1, 2]);
      assertEquals(tree(box.at(".claude/skills")), before);
    }
    box.manifest("one for claude");
    assertStringIncludes((await box.run("--copy")).stderr, "two");
    assertEquals(box.read(".claude/skills/two/more"), "Mine");
    assertStringIncludes((await box.run("clean")).stderr, "one");
    assertEquals(deployed(box.at(".claude/skills")), { one: "copy", two: "copy" });
    assertEquals(box.read(".claude/skills/one/SKILL.md"), "Mine");
    assertEquals(Object.keys(tree(box.at(".claude/skills"))).filter((path) => path.startsWith(".")), []);
  });

  it("becomes ours where a link leads to the wanted skill by whatever text", async () => {
    using box = new Sandbox();
    box.skills("one", `${box.home}/notes/two`);
    box.link("skills-again", "skills");
    box.link(".claude/skills/one", `${box.repo}/skills-again/one/.`);
    box.link(".claude/skills/two", "../../../home/notes/two");
    box.manifest("one for claude", "~/notes/two for claude");
    const { status, stdout } = await box.run("--json");
    assertEquals(status, 0);
    assertEquals(JSON.parse(stdout).actions.map((each: { action: string }) => each.action), ["adopt", "adopt"]);
    assertEquals(Object.keys(deployed(box.at(".claude/skills"))), ["one", "two"]);
    assertEquals(await box.done(), "");
    assertEquals(await box.done("check"), "");
    box.manifest("~/notes/two for claude");
    await box.done();
    assertEquals(Object.keys(deployed(box.at(".claude/skills"))), ["two"]);
    assert(isThere(box.at("skills/one/SKILL.md")));
  });

  it("includes skills that live in a target folder", async () => {
    using box = new Sandbox();
    box.skills("./.claude/skills/own", "hq");
    box.manifest("hq", "./.claude/skills/own", "./.claude/skills/*");
    await box.done();
    assertEquals(deployed(box.at(".claude/skills")), { hq: "../../skills/hq", own: "copy" });
    assertEquals(deployed(box.at(".opencode/skills"))["own"], "../../.claude/skills/own");
    await box.done("clean");
    assertEquals(deployed(box.at(".claude/skills")), { own: "copy" });
    assertEquals(box.read(".claude/skills/own/SKILL.md"), skillText("own"));
  });
});

describe(".gitignore", () => {
  requires("git")("keeps what is deployed out of git status", async () => {
    using box = new Sandbox();
    box.skills("hq", "one");
    box.manifest("hq", "one for ./own");
    await box.git("init", "--quiet");
    await box.git("add", ".");
    await box.git("commit", "--quiet", "-m", "skills");
    for (const args of [[], ["--copy"]]) {
      await box.done(...args);
      assertEquals(await box.git("status", "--porcelain", "-uall"), "");
    }
    box.write(".claude/skills/mine/SKILL.md", skillText("mine"));
    assertEquals(await box.git("status", "--porcelain", "-uall"), "?? .claude/skills/mine/SKILL.md\n");
    box.manifest("hq");
    await box.done();
    assertEquals(await box.git("status", "--porcelain"), " M .skills\n?? .claude/\n");
  });

  it("is left alone where it is the person's, who is told once", async () => {
    using box = new Sandbox();
    box.skills("hq", "one");
    box.write(".claude/skills/.gitignore", "mine\n");
    box.manifest("hq for claude");
    assertStringIncludes(await box.done(), ".claude/skills/.gitignore");
    box.manifest("hq for claude", "one for claude");
    assertEquals((await box.done()).includes(".gitignore"), false);
    assertEquals(await box.done(), "");
    await box.done("clean");
    assertEquals(tree(box.at(".claude")), { skills: "directory", "skills/.gitignore": "644 mine\n" });
  });

  it("is left alone once the person has edited it", async () => {
    using box = new Sandbox();
    box.skills("hq", "one");
    box.manifest("hq for claude");
    await box.done();
    const text = `${box.read(".claude/skills/.gitignore")}/mine\n`;
    box.write(".claude/skills/.gitignore", text);
    box.manifest("hq for claude", "one for claude");
    await box.done();
    assertEquals(box.read(".claude/skills/.gitignore"), text);
    await box.done("clean");
    assertEquals(tree(box.at(".claude/skills")), { ".gitignore": `644 ${text}` });
  });

  it("is left alone where it is a link", async () => {
    using box = new Sandbox();
    box.skills("hq");
    box.write("ignored", "mine\n");
    box.link(".claude/skills/.gitignore", "../../ignored");
    box.manifest("hq for claude");
    await box.done();
    await box.done("clean");
    assertEquals(tree(box.at(".claude/skills")), { ".gitignore": "-> ../../ignored" });
    assertEquals(box.read("ignored"), "mine\n");
  });
});

// ── Killed, full, damaged ───────────────────────────────────────────────────────────────────────────────────────

/** Runs the script and kills it as soon as `isTime` says so; says whether it was killed before it had ended. */
async function runAndKill(box: Sandbox, args: string[], isTime: () => boolean): Promise<boolean> {
  const child = await box.spawn(...args);
  let hasEnded = false;
  const end = child.output().then(({ signal }) => {
    hasEnded = true;
    return signal === "SIGKILL";
  });
  while (!hasEnded && !isTime()) await Deno.lstat(box.path); // Gives way only as long as it must.
  kill(child);
  return await end;
}

/**
 * Goes from one manifest to the other and back, and each time kills the run at another moment. Holds what is there
 * after one more run against what an undisturbed one leaves; then against the start, after `clean`.
 */
async function killOften(box: Sandbox, count: number, args: string[], manifests: string[][]): Promise<void> {
  const start = tree(box.repo);
  const trees: Tree[] = [];
  const began = performance.now();
  for (const lines of [...manifests, ...manifests]) {
    box.manifest(...lines);
    await box.done(...args);
    trees.push(tree(box.path));
  }
  const duration = (performance.now() - began) / trees.length;
  const [one, other] = trees.slice(-2) as [Tree, Tree];
  const changing = Object.keys({ ...one, ...other }).filter((path) =>
    /\/skills\/[^.]/.test(path) && one[path] !== other[path] && path !== "repo/.skills"
  ).sort();

  let [killed, amid] = [0, 0];
  for (const index of upTo(count)) {
    const [from, to] = index % 2 === 0 ? [other, one] : [one, other];
    box.manifest(...manifests[index % 2] ?? []);
    const watched = changing[Math.floor(index / count * changing.length)] ?? "";
    const began = performance.now();
    const isTime = index % 3 < 2
      ? () => whatIs(`${box.path}/${watched}`) !== from[watched]
      : () => performance.now() - began > duration * index / count;
    if (await runAndKill(box, args, isTime)) killed++;
    const done = changing.filter((path) => whatIs(`${box.path}/${path}`) === to[path]).length;
    if (done > 0 && done < changing.length) amid++;
    await box.done(...args);
    assertEquals(tree(box.path), to);
  }
  assert(killed > count / 2 && amid > 1, `Of ${count} runs, ${killed} were killed, ${amid} of them amid their work`);
  await box.done("clean");
  const cleaned = tree(box.repo);
  delete cleaned[".skills"];
  assertEquals(cleaned, start);
}

describe("a killed run", () => {
  const names = (from: number, to: number) => upTo(to - from).map((index) => `skill-${from + index}`);

  it("is finished by the next one, be it the first or the last", async () => {
    using box = new Sandbox();
    box.environment = { CODEX_HOME: box.at(".codex") };
    box.skills(...names(0, 200));
    await killOften(box, 16, [], [[], names(0, 200)]);
  });

  it("is finished by the next one after a change of the manifest", async () => {
    using box = new Sandbox();
    box.environment = { CODEX_HOME: box.at(".codex") };
    box.skills(...names(0, 200), ...names(40, 80).map((name) => `./other/${name}`));
    await killOften(box, 16, [], [
      names(0, 150),
      [...names(40, 80).map((name) => `./other/${name}`), "for claude cursor", ...names(80, 200)],
    ]);
  });

  it("is finished by the next one where it copied", async () => {
    using box = new Sandbox();
    box.skills(...names(0, 24));
    for (const name of names(8, 16)) box.write(`other/${name}/SKILL.md`, `${skillText(name)}Other.\n`);
    for (const name of names(0, 24)) box.write(`skills/${name}/data/more`, "x".repeat(2000));
    await killOften(box, 16, ["--copy"], [
      names(0, 16),
      [...names(8, 16).map((name) => `./other/${name}`), ...names(16, 24)],
    ]);
  });
});

describe("an agent that looks", () => {
  for (const args of [[], ["--copy"]]) {
    it(`never finds a skill missing or half-made after sync ${args.join()}`.trimEnd(), async () => {
      using box = new Sandbox();
      const sizes = { a: 100_000, b: 200_000 };
      for (const [place, size] of Object.entries(sizes)) {
        box.write(`${place}/hq/SKILL.md`, skillText("hq").padEnd(size, place));
      }
      box.manifest("./a/hq for claude");
      await box.done(...args);
      for (const index of upTo(8)) {
        const place = index % 2 === 0 ? "b" : "a";
        box.manifest(`./${place}/hq for claude`);
        let hasEnded = false;
        const run = box.done(...args).finally(() => hasEnded = true);
        while (!hasEnded) {
          for (const _ of upTo(100)) { // Without a pause, as it could only be missing for a moment.
            const { size } = Deno.statSync(box.at(".claude/skills/hq/SKILL.md"));
            assert(size === sizes.a || size === sizes.b, `It found ${size} bytes`);
          }
          await Deno.lstat(box.path);
        }
        await run;
        assertEquals(box.read(".claude/skills/hq/SKILL.md").length, sizes[place]);
      }
    });
  }
});

describe("a full disk", () => {
  requires("tmpfs")("leaves nothing half-made, and other skills be", async () => {
    using box = new Sandbox();
    box.skills("big", "small");
    box.write("skills/big/data/much", "x".repeat(500_000));
    box.manifest("big for claude", "small for claude");
    box.directory(".claude");
    const [start, call] = [await box.start(), (await box.call("--copy")).map((word) => `'${word}'`).join(" ")];
    // The file system is gone with this shell, so it has to say what was there.
    const lines = [
      "mount -t tmpfs -o size=300k none .claude",
      `${call}; echo "status $?"`,
      "find .claude | sort",
      "mount --options-source=disable -o remount,size=3m none .claude",
      `${call}; echo "status $?"`,
      "find .claude | sort",
    ];
    const words = ["unshare", "-rm", "sh", "-c", lines.join("\n")];
    const { stdout, stderr } = await execute(words, start);
    const [full, whole] = stdout.split("status ").slice(1).map((text) => text.trimEnd().split("\n"));
    assertEquals(problemLines(stderr), [1], stderr);
    assertMatch(stderr, /\.skills:1: .*"big".*[Nn]o space left/);
    const ours = [".claude", ".claude/skills", ".claude/skills/.gitignore", ".claude/skills/.use-skills.json"];
    const small = [".claude/skills/small", ".claude/skills/small/SKILL.md"];
    const big = ["", "/SKILL.md", "/data", "/data/much"].map((path) => `.claude/skills/big${path}`);
    assertEquals(full, ["1", ...ours, ...small]);
    assertEquals(whole, ["0", ...ours, ...big, ...small]);
  });
});

describe("a damaged state file", () => {
  const damages: [what: string, damage: (text: string) => string][] = [
    ["cut short", (text) => text.slice(0, text.length / 2)],
    ["empty", () => ""],
    ["no JSON", () => "<<<<<<< HEAD\n"],
    ["null", () => "null"],
    ["other JSON", () => '{"version":1,"entries":{"hq":7,"one":{"target":1,"for":{}}}}'],
  ];
  for (const [what, damage] of damages) {
    it(`that is ${what} has the links adopted again`, async () => {
      using box = new Sandbox();
      box.skills("hq", "one");
      box.manifest("hq", "one");
      await box.done();
      const before = tree(box.path);
      box.write(".claude/skills/.use-skills.json", damage(box.read(".claude/skills/.use-skills.json")));
      await box.done();
      assertEquals(tree(box.path), before);
      box.manifest("hq");
      await box.done();
      assertEquals(deployed(box.at(".claude/skills")), { hq: "../../skills/hq" });
    });
  }

  it("in XDG_STATE_HOME does not keep the run from its work", async () => {
    using box = new Sandbox();
    box.skills("hq", "one");
    box.environment = { XDG_STATE_HOME: `${box.path}/state` };
    box.manifest("hq", "one");
    await box.done();
    assertEquals(isThere(`${box.home}/.local`), false);
    const files = Object.entries(tree(`${box.path}/state`)).filter(([, what]) => what !== "directory");
    assert(files.length > 0);
    for (const text of ["", "null", "[]", '{"folders":7}', "{"]) {
      for (const [path] of files) box.write(`${box.path}/state/${path}`, text);
      box.manifest("hq", ...text === "null" ? ["one"] : []);
      await box.done();
      assertEquals(Object.keys(deployed(box.at(".claude/skills"))).length, text === "null" ? 2 : 1);
    }
    await box.done("clean");
    const left = Object.entries(tree(box.repo)).filter(([, what]) => what !== "directory").map(([path]) => path);
    assertEquals(left, [".skills", "skills/hq/SKILL.md", "skills/one/SKILL.md"]);
  });
});

describe("runs at once", () => {
  it("all end well, and as the last manifest has it", async () => {
    using box = new Sandbox();
    box.environment = { CODEX_HOME: `${box.path}/codex` };
    const names = upTo(40).map((index) => `skill-${index}`);
    box.skills(...names);
    const manifests = [names.slice(0, 30), [
      ...names.slice(20).map((name) => `${name} for claude cursor`),
      "skill-1 as x",
    ]];
    box.manifest(...manifests[1] ?? []);
    await box.done();
    const wanted = tree(box.path);
    await box.done("clean");

    for (const copy of [[], ["--copy"]]) {
      box.manifest(...manifests[0] ?? []);
      const runs = upTo(10).map(() => box.run(...copy));
      await Promise.race(runs);
      box.write(".skills.new", (manifests[1] ?? []).join("\n") + "\n");
      Deno.renameSync(box.at(".skills.new"), box.at(".skills"));
      runs.push(...upTo(10).map(() => box.run(...copy)));
      for (const { status, stderr } of await Promise.all(runs)) {
        assertEquals(status, 0, stderr);
        assertEquals(stderr.replace(/^use-skills: .*\n/gm, ""), "");
      }
      assertEquals(await box.done(...copy), "");
      if (copy.length === 0) assertEquals(tree(box.path), wanted);
      assertEquals(
        deployed(box.at(".opencode/skills")),
        copy.length === 0 ? { x: "../../skills/skill-1" } : { x: "copy" },
      );
      await box.done("clean");
    }
  });

  it("of clean and sync end well", async () => {
    using box = new Sandbox();
    box.skills("hq", "one");
    box.manifest("hq", "one for ./a/b/c");
    const results = await Promise.all(upTo(16).map((index) => box.run(index % 2 === 0 ? "sync" : "clean")));
    for (const { status, stderr } of results) assertEquals(status, 0, stderr);
    await box.done();
    assertEquals(deployed(box.at("a/b/c")), { one: "../../../skills/one" });
    assertEquals(deployed(box.at(".claude/skills")), { hq: "../../skills/hq" });
    await box.done("clean");
    const left = Object.entries(tree(box.repo)).filter(([, what]) => what !== "directory").map(([path]) => path);
    assertEquals(left, [".skills", "skills/hq/SKILL.md", "skills/one/SKILL.md"]);
  });
});

// ── Hostile input ───────────────────────────────────────────────────────────────────────────────────────────────

describe("hostile names", () => {
  const names = [
    "..",
    ".",
    ".git",
    "-rf",
    "--help",
    "../../../escaped",
    "a/b",
    "a\0b",
    "A",
    "h\u0430",
    "\uff48q",
    "hq\u200b",
    "\x1b[31mhq",
    "x".repeat(65),
    "as",
    ".use-skills.json",
    ".use-skills.tmp",
    ".gitignore",
  ];
  for (const name of names) {
    const shown = JSON.stringify(name.length > 64 ? `${name.length} characters` : name);
    it(`such as ${shown} are no names to deploy under`, async () => {
      using box = new Sandbox();
      box.skills("hq", "good");
      box.manifest("good", `hq as ${name}`);
      const stderr = await box.fails(1);
      assertEquals(problemLines(stderr), [2]);
      assertPlain(stderr);
      for (const folder of [".claude/skills", ".opencode/skills"]) {
        assertEquals(deployed(box.at(folder)), { good: "../../skills/good" });
      }
      assertEquals(Object.keys(tree(box.path)).filter((path) => path.includes("escaped")), []);
    });
  }

  it("are no names of skills to look for", async () => {
    using box = new Sandbox();
    box.skills("good");
    const odd = ["..", ".", "-rf", "A", "h\u0430", "\x1b[31mhq", "a\0b", "x".repeat(65), "x".repeat(5000)];
    box.manifest(...odd, "good");
    const stderr = await box.fails(1);
    assertEquals(problemLines(stderr), upTo(odd.length).map((index) => index + 1));
    assertPlain(stderr);
    assertEquals(deployed(box.at(".claude/skills")), { good: "../../skills/good" });
  });

  it("of folders are problems of the line that stands for them", async () => {
    using box = new Sandbox();
    const odd = ["a\nb", "A", "h\u0430", "\x1b[31mred", "-rf", "two words"];
    box.skills("good", ...odd);
    box.manifest("# all", "./skills/*");
    const stderr = await box.fails(1);
    assertEquals(problemLines(stderr), odd.map(() => 2));
    assertEquals(stderr.split("\n").filter((line) => !/^(\.skills:2: |use-skills: |$)/.test(line)), []);
    assertPlain(stderr);
    assertEquals(deployed(box.at(".claude/skills")), { good: "../../skills/good" });
  });

  it("with NUL in paths and agents are problems of their lines", async () => {
    using box = new Sandbox();
    box.skills("good");
    box.manifest("./a\0b", "/\0", "~/\0/*", "good for ./a\0b", "good for cl\0aude", "good");
    const stderr = await box.fails(1);
    assertEquals(problemLines(stderr), [1, 2, 3, 4, 5]);
    assertEquals(deployed(box.at(".claude/skills")), { good: "../../skills/good" });
  });
});

describe("a manifest", () => {
  /** That a manifest has exit status 2 and changes nothing; gives what was said. */
  async function refuse(box: Sandbox, content: string | Uint8Array): Promise<string> {
    box.skills("hq", "one");
    box.manifest("hq", "one for cursor");
    await box.done();
    box.write(".skills", content);
    const before = stamps(box.path);
    let stderr = "";
    for (const command of ["sync", "check", "list"]) stderr = await box.fails(2, command);
    assertEquals(stamps(box.path), before);
    return stderr;
  }

  it("that is not UTF-8 is refused with its line", async () => {
    using box = new Sandbox();
    const bytes = new Uint8Array([...new TextEncoder().encode("hq\n# fine: \ufffd\none # "), 0xff, 0x0a]);
    const stderr = await refuse(box, bytes);
    assertMatch(stderr, /^\.skills:3: .*UTF-8/);
  });

  it("that breaks the grammar is refused with every line", async () => {
    using box = new Sandbox();
    const stderr = await refuse(box, "hq\n./my skill\nhq for\n\nhttp://x/y\nhq as\n");
    assertEquals(problemLines(stderr), [2, 3, 5, 6]);
  });

  it("of a megabyte is read", async () => {
    using box = new Sandbox();
    box.skills("hq", "one");
    const lines = upTo(40_000).map((index) => `hq # the ${index}th time in a manifest`);
    box.manifest(...lines, "one", `# ${"x".repeat(1_000_000)}`);
    await box.done();
    assertEquals(deployed(box.at(".claude/skills")), { hq: "../../skills/hq", one: "../../skills/one" });
  });

  it("of a megabyte in one line gets a message that can be read", async () => {
    using box = new Sandbox();
    box.skills("hq");
    const lines = [
      "x".repeat(1_000_000),
      `a/${"b".repeat(1_000_000)}`,
      `./${"x/".repeat(500_000)}`,
      `.${"/".repeat(1_000_000)}x`,
      `a/b${"/".repeat(1_000_000)}x`,
      `https://git.example.org/a/b/tree/main${"/".repeat(1_000_000)}x`,
      `git@git.example.org:${"a/".repeat(500_000)}x`,
    ];
    for (const line of lines) {
      box.manifest("hq", line);
      const stderr = await box.fails(1);
      assertEquals(problemLines(stderr), [2]);
      assert(stderr.length < 2000, `The message has ${stderr.length} characters`);
      assertEquals(deployed(box.at(".claude/skills")), { hq: "../../skills/hq" });
    }
  });

  it("with CRLF and a byte-order mark is read", async () => {
    using box = new Sandbox();
    box.skills("hq", "one");
    box.write(".skills", "\ufeffhq for claude\r\n\r\none as two for claude # two\r\ngone\r\n");
    assertEquals(problemLines(await box.fails(1)), [4]);
    assertEquals(deployed(box.at(".claude/skills")), { hq: "../../skills/hq", two: "../../skills/one" });
  });

  it("that is a folder, or a link that leads nowhere, is refused", async () => {
    using box = new Sandbox();
    box.directory(".skills");
    assertStringIncludes(await box.fails(2), ".skills");
    box.remove(".skills");
    box.link(".skills", "gone");
    assertStringIncludes(await box.fails(2), ".skills");
    assertEquals(Object.keys(tree(box.path)), ["home", "repo", "repo/.skills"]);
  });

  it("that is a link is read", async () => {
    using box = new Sandbox();
    box.skills("hq");
    box.write("config/skills", "hq\n");
    box.link(".skills", "config/skills");
    await box.done();
    assertEquals(deployed(box.at(".claude/skills")), { hq: "../../skills/hq" });
  });
});

describe("a skill folder", () => {
  it("that links to its own parent is linked, and not copied", async () => {
    using box = new Sandbox();
    box.skills("hq", "good");
    box.link("skills/hq/up", "..");
    box.manifest("hq", "good");
    const stderr = await box.fails(1, "--copy");
    assertEquals(problemLines(stderr).every((line) => line === 1), true, stderr);
    assertStringIncludes(stderr, '"up"');
    assertEquals(deployed(box.at(".claude/skills")), { good: "copy" });
    await box.done("clean");
    await box.done();
    assertEquals(deployed(box.at(".claude/skills")), { good: "../../skills/good", hq: "../../skills/hq" });
  });

  it("that holds the target folder is not copied into itself", async () => {
    using box = new Sandbox();
    box.skills("good");
    box.write("SKILL.md", skillText("repo"));
    box.manifest("good", "../repo for claude");
    assertEquals(problemLines(await box.fails(1, "--copy")), [2]);
    assertEquals(deployed(box.at(".claude/skills")), { good: "copy" });
  });

  const traps: [what: string, make: (box: Sandbox) => void | Promise<unknown>][] = [
    ["a relative link that leads out", (box) => box.link("skills/hq/sub/trap", "../../../secret")],
    ["an absolute link", (box) => box.link("skills/hq/sub/trap", box.at("secret"))],
    ["a link to a folder outside", (box) => box.link("skills/hq/sub/trap", "../../good")],
    ["a link that goes out by way of another", (box) => {
      box.link("skills/hq/x/y/z/down", "../../../sub");
      box.link("skills/hq/sub/trap", "../x/y/z/down/../../secret"); // As text, it stays in skills/hq/x/y.
      box.write("skills/secret", "secret");
    }],
    ["a link that goes out and comes back", (box) => box.link("skills/hq/sub/trap", "../../hq/SKILL.md")],
    ["a link to another that leads out", (box) => {
      box.link("skills/hq/sub/trap", "trap2");
      box.link("skills/hq/sub/trap2", "../../../secret");
    }],
    ["a broken link", (box) => box.link("skills/hq/sub/trap", "gone")],
    ["a link to itself", (box) => box.link("skills/hq/sub/trap", "trap")],
    ["a socket", (box) => {
      using _socket = Deno.listen({ transport: "unix", path: `${box.path}/socket` });
      Deno.renameSync(`${box.path}/socket`, box.at("skills/hq/sub/trap")); // Where it was, it is removed when closed.
    }],
    ["a pipe", (box) => succeed(["mkfifo", box.at("skills/hq/sub/trap")])],
  ];
  if (Deno.uid() === 0) { // Nobody else may make one.
    traps.push(["a device", (box) => succeed(["mknod", box.at("skills/hq/sub/trap"), "c", "1", "3"])]);
  }
  for (const [what, make] of traps) {
    it(`with ${what} in it is not copied`, async () => {
      using box = new Sandbox();
      box.skills("hq", "good");
      box.write("secret", "secret");
      box.directory("skills/hq/sub");
      await make(box);
      box.manifest("hq", "good");
      const stderr = await box.fails(1, "--copy");
      assertEquals([...new Set(problemLines(stderr))], [1]);
      assertStringIncludes(stderr, "sub/trap");
      assertEquals(deployed(box.at(".claude/skills")), { good: "copy" });
      assertEquals(deployed(box.at(".opencode/skills")), { good: "copy" });
    });
  }

  it("that stops being fit to be copied keeps its copy", async () => {
    using box = new Sandbox();
    box.skills("hq");
    box.manifest("hq");
    await box.done("--copy");
    const before = tree(box.at(".claude"));
    box.link("skills/hq/trap", "../../.skills");
    await box.fails(1, "--copy");
    assertEquals(tree(box.at(".claude")), before);
  });
});

describe("a hostile repo", () => {
  it("cannot have anything removed by a state file that it brings along", async () => {
    using box = new Sandbox();
    box.skills("hq", "one");
    box.link("precious", "skills/hq");
    box.link(".claude/precious", "../skills/hq");
    const owned = (target: string) => ({ target, for: ["../../.skills"] });
    const entries = {
      "../../precious": owned("skills/hq"),
      "../precious": owned("../skills/hq"),
      "/": owned("x"),
      "..": owned("x"),
      "": owned("x"),
      ".gitignore": owned("x"),
      "hq\0": owned("x"),
    };
    const state = JSON.stringify({ version: 1, entries });
    for (const lines of [["hq"], []]) {
      box.manifest(...lines);
      box.write(".claude/skills/.use-skills.json", state);
      await box.done();
      box.write(".claude/skills/.use-skills.json", state);
      await box.done("clean");
      assertEquals(whatIs(box.at("precious")), "-> skills/hq");
      assertEquals(whatIs(box.at(".claude/precious")), "-> ../skills/hq");
      assertEquals(isThere(box.at("skills/hq/SKILL.md")), true);
    }
  });

  for (const name of [".use-skills.tmp", ".use-skills.json", ".use-skills.json.tmp"]) {
    it(`cannot have anything changed through a link called ${name}`, async () => {
      using box = new Sandbox();
      box.skills("hq");
      box.write("target/precious", "precious");
      box.write("target/hq", "precious");
      box.write("target/.gitignore", "precious");
      for (const target of ["../../target", "../../target/precious", `${box.path}/new`]) {
        box.directory(".claude/skills");
        box.link(`.claude/skills/${name}`, target);
        const before = [tree(box.at("target")), tree(box.at("skills"))];
        box.manifest("hq");
        await box.run();
        await box.run("--copy");
        await box.run("clean");
        assertEquals([tree(box.at("target")), tree(box.at("skills"))], before);
        assertEquals(isThere(`${box.path}/new`), false);
        if (isThere(box.at(".claude"))) box.remove(".claude");
      }
    });
  }

  it("that has folders in place of the small files gets a message", async () => {
    using box = new Sandbox();
    box.skills("hq");
    box.write(".claude/skills/.use-skills.json/precious", "precious");
    box.write(".opencode/skills/.gitignore/precious", "precious");
    box.manifest("hq", "hq for cursor");
    const stderr = await box.fails(1);
    assertStringIncludes(stderr, ".claude/skills");
    assertEquals(box.read(".claude/skills/.use-skills.json/precious"), "precious");
    assertEquals(box.read(".opencode/skills/.gitignore/precious"), "precious");
    assertEquals(deployed(box.at(".cursor/skills")), { hq: "../../skills/hq" });
  });
});

// ── Skills and lines that cannot be had ─────────────────────────────────────────────────────────────────────────

describe("a skill", () => {
  const broken: [what: string, text: string | undefined][] = [
    ["no SKILL.md", undefined],
    ["no front matter", "# Skill\n"],
    ["front matter that is not closed", "---\nname: bad\ndescription: x\n"],
    ["front matter that is not YAML", "---\nname: bad\ndescription: [\n---\n"],
    ["no name", "---\ndescription: x\n---\n"],
    ["no description", "---\nname: bad\n---\n"],
    ["an empty description", "---\nname: bad\ndescription:\n---\n"],
    ["a name that is a list", "---\nname: [bad]\ndescription: x\n---\n"],
  ];
  for (const [what, text] of broken) {
    it(`with ${what} is not deployed, the others are`, async () => {
      using box = new Sandbox();
      box.skills("good", "fine");
      box.directory("skills/bad");
      if (text !== undefined) box.write("skills/bad/SKILL.md", text);
      box.manifest("good", "bad", "fine");
      for (const args of [["check"], [], ["--copy"], []]) {
        const stderr = await box.fails(1, ...args);
        assertEquals([...new Set(problemLines(stderr))], [2]);
        assertStringIncludes(stderr, "bad");
      }
      for (const folder of [".claude/skills", ".opencode/skills"]) {
        assertEquals(deployed(box.at(folder)), { fine: "../../skills/fine", good: "../../skills/good" });
      }
    });
  }

  it("that cannot be deployed is told of once, be it wanted in many folders", async () => {
    using box = new Sandbox();
    box.directory("skills/bad");
    box.manifest("bad for claude opencode cursor");
    for (const args of [["check"], [], ["--copy"]]) assertEquals(problemLines(await box.fails(1, ...args)), [1]);
    box.skills("bad");
    box.link("skills/bad/trap", "/");
    assertEquals(problemLines(await box.fails(1, "--copy")), [1]);
  });

  it("that breaks the specification in other ways is deployed with a warning, once", async () => {
    using box = new Sandbox();
    box.skills("good", "renamed", "extra", "long");
    box.write("skills/renamed/SKILL.md", skillText("other"));
    box.write("skills/extra/SKILL.md", "---\nname: extra\ndescription: x\neffort: high\n---\n");
    box.write("skills/long/SKILL.md", `---\nname: long\ndescription: ${"x".repeat(1025)}\n---\n`);
    box.manifest("good", "renamed", "extra", "long");
    const warnings = (await box.done()).split("\n").filter((line) => /warning/i.test(line));
    assertEquals(warnings.length, 3);
    assertMatch(warnings[0] ?? "", /^\.skills:2: .*"other".*"renamed"/);
    assertMatch(warnings[1] ?? "", /^\.skills:3: .*"effort"/);
    assertMatch(warnings[2] ?? "", /^\.skills:4: .*1024/);
    assertEquals(Object.keys(deployed(box.at(".claude/skills"))), ["extra", "good", "long", "renamed"]);
    assertEquals(await box.done(), "");
    assertEquals(await box.done("check"), "");
  });

  it("that is deployed is not read again", async () => {
    using box = new Sandbox();
    box.skills("hq");
    box.manifest("hq");
    await box.done();
    box.write("skills/hq/SKILL.md", "no front matter");
    assertEquals(await box.done(), "");
  });
});

describe("a bad line", () => {
  const lines: [line: string, part: string][] = [
    ["gone", '"gone"'],
    ["god", '"good"'],
    ["./nothing/here", "./nothing/here"],
    ["./.skills", "./.skills"],
    ["~/nothing/*", "~/nothing/*"],
    ["./skills/* as all", '"as"'],
    ["hq as Not-A-Name", "Not-A-Name"],
    ["hq for cursr", '"cursor"'],
    ["hq for claude nobody", '"nobody"'],
    [
      "anthropics/skills/skills/pdf#main as pdf",
      '"anthropics/skills/skills/pdf#main" is not in .skills.lock',
    ],
    [
      "https://git.example.org/s.git//x",
      '"https://git.example.org/s.git//x" is not in .skills.lock',
    ],
    ["git@example.org:s.git", '"git@example.org:s.git" is not in .skills.lock'],
    [
      "https://github.com/a/b/tree/main/x",
      '"https://github.com/a/b/tree/main/x" is not in .skills.lock',
    ],
    ["skills/hq", "write ./skills/hq"],
    ["skills/hq/deep", "write ./skills/hq/deep"],
    ["skills/hqq", "write ./skills/hqq"],
    ["other as good", '"good"'],
  ];
  for (const [line, part] of lines) {
    it(`as ${JSON.stringify(line)} is a problem of its own`, async () => {
      using box = new Sandbox();
      box.environment = { CI: "true" }; // nothing is fetched
      box.skills("good", "hq", "other");
      box.directory("skills/hq/deep");
      box.manifest("good", line, "other as last");
      const { status, stderr } = await box.run();
      assertEquals([status, problemLines(stderr)], [1, [2]], stderr);
      assertStringIncludes(stderr, part);
      const { good, last } = deployed(box.at(".claude/skills"));
      assertEquals([good, last], ["../../skills/good", "../../skills/other"]);
      assertEquals(Object.keys(deployed(box.at(".opencode/skills"))), ["good", "last"]);
    });
  }

  it("keeps what it had deployed", async () => {
    using box = new Sandbox();
    box.skills("one", "two", "three", "./more/four", "five");
    box.manifest("one", "two for claude", "./skills/three", "./more/*", "five for cursor");
    await box.done();
    const before = tree(box.repo);
    box.remove("skills/one");
    box.remove("skills/three");
    box.remove("more");
    box.manifest("one", "a/b as two for claude", "./skills/three", "./more/*", "five for cursr");
    assertEquals(problemLines(await box.fails(1)), [1, 2, 3, 4, 5]);
    const after = tree(box.repo);
    for (const folder of [".claude", ".opencode", ".cursor"]) {
      for (const [path, what] of Object.entries(before)) {
        if (path.startsWith(folder)) assertEquals(after[path], what, path);
      }
    }
  });

  it("above others does not change theirs", async () => {
    using box = new Sandbox();
    box.skills("one", "two");
    box.manifest("for nobody", "one", "two for claude");
    assertEquals(problemLines(await box.fails(1)), [1]);
    assertEquals(deployed(box.at(".claude/skills")), { two: "../../skills/two" });
  });
});

describe("a name that comes twice", () => {
  it("for different skills is a problem of the later line, naming both", async () => {
    using box = new Sandbox();
    box.skills("hq", "./other/hq");
    box.manifest("hq", "", "./other/hq");
    const stderr = await box.fails(1);
    assertEquals(problemLines(stderr), [3]);
    assertMatch(stderr, /skills\/hq/);
    assertMatch(stderr, /other\/hq/);
    assertEquals(deployed(box.at(".claude/skills")), { hq: "../../skills/hq" });
  });

  it("for one skill is none", async () => {
    using box = new Sandbox();
    box.skills("hq");
    box.link("again", "skills");
    box.manifest("hq", "hq for agents amp", "./skills/*", "./again/hq");
    await box.done();
    assertEquals(deployed(box.at(".claude/skills")), { hq: "../../skills/hq" });
    assertEquals(deployed(box.at(".agents/skills")), { hq: "../../skills/hq" });
  });

  it("in different folders is none", async () => {
    using box = new Sandbox();
    box.skills("hq", "./other/hq");
    box.manifest("hq for claude", "./other/hq for cursor");
    await box.done();
    assertEquals(deployed(box.at(".cursor/skills")), { hq: "../../other/hq" });
  });
});

// ── Moved and shared ────────────────────────────────────────────────────────────────────────────────────────────

describe("a repo that was moved", () => {
  it("keeps its links, and what leaves its manifest then is removed", async () => {
    using box = new Sandbox();
    box.skills("hq", "one", "two");
    box.manifest("hq", "one for cursor ./own/folder", "two for cursor");
    await box.done();
    const moved = `${box.path}/elsewhere/moved`;
    Deno.mkdirSync(`${box.path}/elsewhere`);
    Deno.renameSync(box.repo, moved);
    box.enter("elsewhere/moved");
    const before = tree(box.repo);
    assertEquals(box.read("own/folder/one/SKILL.md"), skillText("one"));
    assertEquals(await box.done(), "");
    assertEquals(tree(box.repo), before);
    box.manifest("hq for claude");
    await box.done();
    const left = Object.keys(tree(box.repo)).filter((path) => !path.startsWith("skills") && !/\/\./.test(path));
    assertEquals(left, [".claude", ".claude/skills", ".claude/skills/hq", ".skills"]);
  });

  it("and whose manifest changed meanwhile leaves nothing behind", async () => {
    using box = new Sandbox();
    box.skills("hq");
    box.manifest("hq for claude ./own");
    await box.done();
    box.manifest("hq for claude");
    Deno.renameSync(box.repo, `${box.path}/moved`);
    box.enter("moved");
    await box.done();
    assertEquals(isThere(box.at("own")), false);
    assertEquals(deployed(box.at(".claude/skills")), { hq: "../../skills/hq" });
  });

  it("and has a folder outside leaves nothing behind there", async () => {
    using box = new Sandbox();
    box.environment = { CODEX_HOME: `${box.path}/codex` };
    box.skills("hq", "one");
    box.manifest("hq for codex", "one for codex");
    await box.done();
    Deno.renameSync(box.repo, `${box.path}/moved`);
    box.enter("moved");
    box.manifest("hq for codex");
    await box.done();
    assertEquals(deployed(`${box.path}/codex/skills`), { hq: box.at("skills/hq") });
    assertEquals(await box.done(), "");
    await box.done("clean");
    assertEquals(deployed(`${box.path}/codex/skills`), {});
  });
});

describe("a state folder that is gone", () => {
  it("does not keep what is in the usual folders from being removed", async () => {
    using box = new Sandbox();
    box.skills("hq");
    box.manifest("hq", "hq for cursor");
    await box.done();
    box.remove(`${box.home}/.local`); // As where the repo was taken to another machine.
    box.manifest("hq for claude");
    await box.done();
    assertEquals(deployed(box.at(".cursor/skills")), {});
    assertEquals(deployed(box.at(".opencode/skills")), {});
    assertEquals(deployed(box.at(".claude/skills")), { hq: "../../skills/hq" });
  });
});

describe("what changes over time", () => {
  it("leaves nothing behind when a line's agents change", async () => {
    using box = new Sandbox();
    box.skills("hq");
    for (const agents of ["cursor ./own", "droid", "codex", "claude"]) {
      box.manifest(`hq for ${agents}`);
      await box.done();
    }
    assertEquals(Object.keys(tree(box.repo)).filter((path) => !path.startsWith("skills") && !/\/\./.test(path)), [
      ".claude",
      ".claude/skills",
      ".claude/skills/hq",
      ".skills",
    ]);
  });

  it("leaves nothing behind when CODEX_HOME changes", async () => {
    using box = new Sandbox();
    box.skills("hq");
    box.manifest("hq");
    box.directory(`${box.path}/kept`);
    for (const home of [`${box.path}/kept`, box.at(".codex"), `${box.path}/last`]) {
      box.environment = { CODEX_HOME: home };
      await box.done();
      assertEquals(Object.keys(deployed(`${home}/skills`)), ["hq"]);
    }
    assertEquals(isThere(box.at(".codex")), false);
    assertEquals(tree(`${box.path}/kept`), {});
    box.environment = {};
    await box.done();
    assertEquals(isThere(`${box.path}/last`), false);
  });
});

describe("repos that share a folder", () => {
  function share(): Sandbox {
    const box = new Sandbox();
    box.environment = { CODEX_HOME: `${box.path}/codex` };
    box.skills(
      `${box.path}/both/hq`,
      `${box.path}/other/hq`,
      `${box.path}/one/skills/own`,
      `${box.path}/two/skills/own-too`,
    );
    return box;
  }
  const codex = (box: Sandbox) => deployed(`${box.path}/codex/skills`);

  it("keep what both want until neither does", async () => {
    using box = share();
    const hq = `${box.path}/both/hq`;
    const start = tree(`${box.path}/both`);
    for (const repo of ["one", "two"]) {
      box.enter(repo);
      box.manifest("../both/hq", repo === "one" ? "own" : "own-too");
      await box.done();
    }
    const [own, ownToo] = [`${box.path}/one/skills/own`, `${box.path}/two/skills/own-too`];
    assertEquals(codex(box), { hq, own, "own-too": ownToo });
    for (const repo of ["one", "two"]) {
      box.enter(repo);
      assertEquals(await box.done(), "");
    }
    box.enter("one");
    box.manifest("# none");
    await box.done();
    assertEquals(codex(box), { hq, "own-too": ownToo });
    box.manifest("../both/hq");
    await box.done();
    box.enter("two");
    await box.done("clean");
    assertEquals(codex(box), { hq });
    box.enter("one");
    await box.done("clean");
    assertEquals(isThere(`${box.path}/codex`), false);
    assertEquals(tree(`${box.path}/both`), start);
  });

  it("cannot have different skills under one name", async () => {
    using box = share();
    box.enter("one");
    box.manifest("../both/hq for codex");
    await box.done();
    box.enter("two");
    box.manifest("../other/hq for codex", "own-too for codex");
    const stderr = await box.fails(1);
    assertEquals(problemLines(stderr), [1]);
    assertStringIncludes(stderr, `${box.path}/one`);
    assertEquals(codex(box), { hq: `${box.path}/both/hq`, "own-too": `${box.path}/two/skills/own-too` });
    box.enter("one");
    assertEquals(await box.done(), "");
    box.manifest("# none");
    await box.done();
    box.enter("two");
    await box.done();
    assertEquals(codex(box)["hq"], `${box.path}/other/hq`);
  });

  it("cannot have a name that a repo which is gone had claimed", async () => {
    using box = share();
    box.enter("one");
    box.manifest("../both/hq for codex", "own for codex");
    await box.done();
    box.remove(".skills");
    box.enter("two");
    box.manifest("../other/hq for codex");
    await box.done();
    assertEquals(codex(box), { hq: `${box.path}/other/hq` });
    await box.done("clean");
    assertEquals(codex(box), {});
  });

  it("do not meddle where one is the home itself", async () => {
    using box = new Sandbox();
    box.environment = { HOME: box.repo };
    box.skills("both", "mine", "ours");
    box.manifest("both for claude", "mine for claude");
    box.write(".config/use-skills/skills", "~/skills/both for claude\n~/skills/ours for claude\n");
    for (const args of [[], ["--global"]]) await box.done(...args);
    const all = { both: "../../skills/both", mine: "../../skills/mine", ours: "../../skills/ours" };
    assertEquals(deployed(box.at(".claude/skills")), all);
    for (const args of [[], ["--global"]]) assertEquals(await box.done(...args), "");
    await box.done("clean");
    assertEquals(Object.keys(deployed(box.at(".claude/skills"))), ["both", "ours"]);
    await box.done("clean", "--global");
    assertEquals(deployed(box.at(".claude/skills")), {});
  });

  requires("git")("have folders of their own where they are worktrees of one", async () => {
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
});

// ── Where it is used ────────────────────────────────────────────────────────────────────────────────────────────

describe("a pasted copy", () => {
  const companions: [what: string, files: Record<string, string>][] = [
    ["alone", {}],
    ["beside a deno.json", { "deno.json": '{"imports":{"@std/path":"jsr:@std/path@^1"},"tasks":{"x":"true"}}\n' }],
    ["beside a frozen lock file", { "deno.json": '{"lock":{"frozen":true}}\n', "deno.lock": '{"version":"5"}\n' }],
    ["beside a package.json", { "package.json": '{"name":"x","type":"module","dependencies":{}}\n' }],
    ["beside a package.json of CommonJS", { "package.json": '{"name":"x","type":"commonjs"}\n' }],
  ];
  for (const [what, files] of companions) {
    it(`works ${what}, called as init writes it, and leaves no lock file`, async () => {
      using box = new Sandbox();
      const { script } = await installed("use-skills.ts");
      box.skills("hq", "bad");
      box.write("skills/bad/SKILL.md", "---\nname: [\n---\n");
      box.write("use-skills.ts", Deno.readTextFileSync(script));
      for (const [path, text] of Object.entries(files)) box.write(path, text);
      const before = tree(box.repo);
      const start = await box.start();
      await succeed([Deno.execPath(), "run", "-A", "--no-lock", "use-skills.ts", "init"], start);
      const [, call] = box.read(".envrc").match(/^ *deno (run .*?)(?: *\|\|.*)?$/m) ?? [];
      const words = (call ?? "").replaceAll('"', "").split(" ");
      const run = (...args: string[]) => execute([Deno.execPath(), ...words, ...args], start);
      box.manifest("hq", "bad", "hqq");
      const { status, stderr } = await run();
      assertEquals([status, [...new Set(problemLines(stderr))]], [1, [2, 3]], stderr);
      assertStringIncludes(stderr, '"hq"');
      box.manifest("hq");
      await run();
      assertEquals(deployed(box.at(".claude/skills")), { hq: "../../skills/hq" });
      for (const args of [["check"], ["--copy"], ["list", "--json"], ["clean"]]) {
        const result = await run(...args);
        assertEquals(result.status, 0, result.stderr);
      }
      box.remove(".skills");
      box.remove(".envrc");
      assertEquals(tree(box.repo), before);
    });
  }
});

describe(".envrc", () => {
  const itWithDirenv = requires("direnv");

  /** A repo with a pasted copy and an `.envrc` in which `init` put its block between the given lines. */
  async function prepare(before: string, after: string): Promise<Sandbox> {
    const box = new Sandbox();
    const { script, environment } = await installed("use-skills.ts");
    box.write("use-skills.ts", Deno.readTextFileSync(script));
    box.skills("one", "two");
    if (before) box.write(".envrc", before);
    await succeed([Deno.execPath(), "run", "-A", "--no-lock", "use-skills.ts", "init"], await box.start());
    Deno.writeTextFileSync(box.at(".envrc"), after, { append: true });
    box.link(`${box.path}/bin/deno`, Deno.execPath());
    box.environment = { ...environment, PATH: `${box.path}/bin:${Deno.env.get("PATH")}` };
    await enter(box, "direnv allow .");
    return box;
  }

  /** Runs lines of bash in the repo. */
  async function enter(box: Sandbox, ...lines: string[]): Promise<{ stdout: string; stderr: string }> {
    const { cwd, environment } = await box.start();
    return await execute(["bash", "-c", lines.join("\n")], { cwd, environment });
  }
  const reload = 'eval "$(direnv export bash)"';

  itWithDirenv("has the links there on entering, and they follow the manifest", async () => {
    using box = await prepare("", "");
    box.manifest("one");
    const { stdout } = await enter(
      box,
      reload,
      "readlink .claude/skills/*",
      'echo "unchanged: <$(direnv export bash)>"',
      "echo two > .skills",
      "touch -d '+10 seconds' .skills",
      "if direnv stdlib | grep -q ^require_allowed; then direnv allow .; fi",
      reload,
      "readlink .claude/skills/*",
    );
    assertEquals(stdout, "../../skills/one\nunchanged: <>\n../../skills/two\n");
  });

  itWithDirenv("has Codex's folder too where CODEX_HOME is exported above", async () => {
    using box = await prepare('export CODEX_HOME="$PWD/.codex"\n', "");
    box.manifest("one");
    await enter(box, "direnv allow .", "direnv exec . true");
    assertEquals(deployed(box.at(".codex/skills")), { one: "../../skills/one" });
  });

  itWithDirenv("fetches nothing for a line that is new, where direnv cannot ask about it", async () => {
    using box = await prepare("unset -f require_allowed\n", "");
    box.manifest("one", "a/b/c");
    const { stderr } = await enter(box, "direnv allow .", "direnv exec . true");
    assertStringIncludes(stderr, '"a/b/c" is not in .skills.lock, and --frozen');
    assertEquals(deployed(box.at(".claude/skills")), { one: "../../skills/one" });
  });

  itWithDirenv("has direnv ask about each of the two files that is there", async () => {
    using box = await prepare('require_allowed() { echo "asked: $*" >&2; }\n', "");
    box.manifest("one");
    const { stderr } = await enter(box, "direnv allow .", "direnv exec . true");
    assertEquals(stderr.match(/asked: .*/g), ["asked: .skills"]);
    box.write(".skills.lock", '{\n"skills": {\n},\n"version": 1\n}\n');
    const both = await enter(box, "direnv allow .", "direnv exec . true");
    assertEquals(both.stderr.match(/asked: .*/g), ["asked: .skills .skills.lock"]);
  });

  for (const strict of ["", "strict_env\n", "set -euo pipefail\n"]) {
    const how = strict.trim() === "" ? "" : `, with ${strict.trim()} too`;
    itWithDirenv(`keeps nobody out for a bad line${how}`, async () => {
      using box = await prepare(strict, "export ENTERED=yes\n");
      for (const manifest of [["one"], ["one", "gone"], ["no manifest at all"], undefined]) {
        if (manifest) box.manifest(...manifest);
        else box.remove(".skills");
        const { stdout, stderr } = await enter(box, "direnv allow .", "direnv exec . sh -c 'echo \"$ENTERED\"'");
        assertEquals(stdout, "yes\n", stderr);
        if (manifest?.[1]) assertStringIncludes(stderr, ".skills:2: ");
        assertEquals(deployed(box.at(".claude/skills")), { one: "../../skills/one" });
      }
    });

    itWithDirenv(`keeps nobody out where Deno is not installed${how}`, async () => {
      using box = await prepare(strict, "export ENTERED=yes\n");
      box.manifest("one");
      box.remove(`${box.path}/bin`);
      for (const tool of ["bash", "sh", "direnv", "env", "git", "mkdir", "dirname", "cat"]) {
        const path = (await execute(["sh", "-c", `command -v ${tool}`])).stdout.trim();
        if (path) box.link(`${box.path}/bin/${tool}`, path);
      }
      box.environment["PATH"] = `${box.path}/bin`;
      const { stdout, stderr } = await enter(box, "direnv allow .", "direnv exec . sh -c 'echo \"$ENTERED\"'");
      assertEquals(stdout, "yes\n", stderr);
      assertMatch(stderr, /deno is not installed/i);
      assertEquals(isThere(box.at(".claude")), false);
    });
  }
});

// ── The decision ────────────────────────────────────────────────────────────────────────────────────────────────

describe("decide()", () => {
  const me = "../../.skills";
  const [link, other, copy] = [{ target: "../../skills/hq" }, { target: "../hq" }, {
    target: "../../skills/hq",
    copy: "a1",
  }];
  const there = (text: string, leads = false): Situation["found"] => ({ kind: "link", text, leads });
  const directory = (hash?: string): Situation["found"] => ({ kind: "directory", hash });
  const rows: [what: string, action: Step["action"], situation: Partial<Situation>, next?: Step["next"]][] = [
    ["links where nothing is", "link", { want: link }, { ...link, for: [me] }],
    ["copies where nothing is", "copy", { want: copy }, { ...copy, for: [me] }],
    ["does nothing about what is right", "ok", {
      want: link,
      owned: { ...link, for: [me] },
      found: there(link.target, true),
    }],
    ["takes over a link that leads there", "adopt", { want: link, found: there("/abs/hq", true) }, {
      target: "/abs/hq",
      for: [me],
    }],
    ["relinks a link of ours", "relink", { want: link, owned: { ...other, for: [me] }, found: there(other.target) }],
    ["relinks what a killed run was replacing", "relink", {
      want: { target: "third" },
      owned: { ...link, was: [other], for: [me] },
      found: there(other.target),
    }],
    ["leaves a link that is not ours", "blocked", { want: link, found: there(other.target) }],
    ["leaves a link of ours that was changed", "blocked", {
      want: link,
      owned: { ...link, for: [me] },
      found: there("x"),
    }],
    ["leaves a file", "blocked", { want: link, found: { kind: "file" } }],
    ["leaves a directory", "blocked", { want: copy, found: directory() }],
    ["leaves a copy that was edited", "blocked", { want: copy, owned: { ...copy, for: [me] }, found: directory("b2") }],
    ["replaces a copy whose skill changed", "recopy", {
      want: { ...copy, copy: "b2" },
      owned: { ...copy, for: [me] },
      found: directory("a1"),
    }],
    ["makes a copy a link", "relink", { want: link, owned: { ...copy, for: [me] }, found: directory("a1") }],
    ["removes what is no longer wanted", "remove", { owned: { ...link, for: [me] }, found: there(link.target) }],
    ["removes what only the dead want", "remove", { owned: { ...link, for: ["dead"] }, found: there(link.target) }],
    ["keeps what another wants too", "ok", { owned: { ...link, for: [me, "other"] }, found: there(link.target) }, {
      ...link,
      for: ["other"],
    }],
    ["gives another's name to nobody", "blocked", { want: link, owned: { ...other, for: ["other"] } }],
    ["shares what another wants too", "adopt", {
      want: link,
      owned: { ...link, for: ["other"] },
      found: there(link.target, true),
    }, { ...link, for: [me, "other"] }],
    ["keeps what a bad line may mean", "keep", {
      kept: true,
      owned: { ...link, for: [me] },
      found: there(link.target),
    }],
    ["gives up what a person replaced", "release", { owned: { ...link, for: [me] }, found: directory() }],
    ["forgets what is gone", "ok", { owned: { ...link, for: [me] } }],
  ];
  for (const [what, action, situation, next] of rows) {
    it(what, () => {
      const alive = (claim: string) => claim !== "dead";
      const step = decide({ name: "hq", found: { kind: "nothing" }, kept: false, claim: me, alive, ...situation });
      assertEquals(step.action, action);
      if (next) assertEquals(JSON.stringify(step.next), JSON.stringify(next));
    });
  }
});

// ── Links where folders were, and what else an adversary thought of ─────────────────────────────────────────────

describe("a folder that became a link", () => {
  it("to another repo's folder costs that repo nothing", async () => {
    using box = new Sandbox();
    box.enter("other");
    box.skills("theirs");
    box.manifest("theirs");
    await box.done();
    const theirs = tree(box.repo);
    box.enter("repo");
    box.skills("hq");
    box.manifest("hq for claude cursor");
    await box.done();
    box.remove(".cursor");
    box.link(".cursor", "../other/.claude");
    await box.fails(1);
    box.manifest("hq for claude");
    await box.done();
    await box.done("clean");
    box.enter("other");
    assertEquals(tree(box.repo), theirs);
  });

  it("within the repo goes on under its new name, and the link stays", async () => {
    using box = new Sandbox();
    box.skills("hq");
    box.manifest("hq for claude");
    await box.done();
    Deno.renameSync(box.at(".claude"), box.at("dot"));
    box.link(".claude", "dot");
    const before = tree(box.repo);
    assertEquals(await box.done(), "");
    assertEquals(await box.done("check"), "");
    assertEquals(tree(box.repo), before);
  });

  it("to the person's own is not removed by clean", async () => {
    using box = new Sandbox();
    box.skills("hq");
    box.manifest("hq for claude");
    await box.done();
    box.remove(".claude");
    box.write("mine/note", "mine");
    box.link(".claude", "mine");
    await box.done("clean");
    assertEquals([whatIs(box.at(".claude")), box.read("mine/note")], ["-> mine", "mine"]);
  });

  it("to a folder that is yet to be made, as in a fresh clone, is written once", async () => {
    using box = new Sandbox();
    box.skills("hq");
    box.manifest("hq");
    box.link(".opencode/skills", "../.claude/skills");
    assertEquals(await box.done(), "use-skills: linked hq for claude, opencode\n");
    assertEquals(await box.done("check"), "");
    assertEquals(whatIs(box.at(".opencode/skills")), "-> ../.claude/skills");
  });

  it("to another folder that is deployed into is written once", async () => {
    using box = new Sandbox();
    box.skills("hq", "one");
    box.manifest("for claude cursor", "hq", "one");
    await box.done();
    box.remove(".cursor/skills");
    box.link(".cursor/skills", "../.claude/skills");
    const before = tree(box.at(".claude"));
    assertEquals([await box.done(), await box.done()], ["", ""]);
    assertEquals(tree(box.at(".claude")), before);
  });
});

describe("a line that cannot be done", () => {
  for (const line of ["./skills/* for claude cursr", "./skills/* as one", "./skills/* for claude ./x\u0000y"]) {
    it(`keeps what ${JSON.stringify(line)} had deployed`, async () => {
      using box = new Sandbox();
      box.skills("hq", "one");
      box.manifest("./skills/* for claude cursor");
      await box.done();
      box.manifest(line);
      await box.fails(1);
      assertEquals(Object.keys(deployed(box.at(".cursor/skills"))), ["hq", "one"]);
    });
  }

  it("for want of a home does not hold up the others", async () => {
    using box = new Sandbox();
    box.skills("hq");
    box.manifest("hq", "~/x", "~/y/*");
    box.environment = { HOME: "", SKILLS_PATH: "~/z" };
    assertEquals(problemLines(await box.fails(1)), [2, 3]);
    assertEquals(Object.keys(deployed(box.at(".claude/skills"))), ["hq"]);
  });
});

describe("a copy", () => {
  it("follows its skill also where neither size nor time tell of a change", async () => {
    using box = new Sandbox();
    box.skills("hq");
    box.manifest("hq");
    for (const version of ["v1", "v2"]) {
      box.write("skills/hq/version", version);
      Deno.utimeSync(box.at("skills/hq/version"), 1, 1);
      await box.done("--copy");
      assertEquals(box.read(".claude/skills/hq/version"), version);
    }
  });

  requires("setpriv")("with a folder that was made read-only is replaced and removed", async () => {
    using box = new Sandbox();
    box.skills("hq");
    box.write("skills/hq/sub/file", "v1");
    box.manifest("hq for claude");
    assertEquals((await box.runUnprivileged("--copy")).status, 0);
    Deno.chmodSync(box.at(".claude/skills/hq/sub"), 0o555);
    box.write("skills/hq/sub/file", "v2");
    const { status, stderr } = await box.runUnprivileged("--copy");
    assertEquals([status, box.read(".claude/skills/hq/sub/file")], [0, "v2"], stderr);
    Deno.chmodSync(box.at(".claude/skills/hq/sub"), 0o555);
    assertEquals((await box.runUnprivileged("clean")).status, 0);
    assertEquals(isThere(box.at(".claude")), false);
  });

  requires("setpriv")("that cannot be read is left, and others be", async () => {
    using box = new Sandbox();
    box.skills("hq", "one");
    box.manifest("hq for claude");
    assertEquals((await box.runUnprivileged("--copy")).status, 0);
    box.write(".claude/skills/hq/secret", "mine");
    Deno.chmodSync(box.at(".claude/skills/hq/secret"), 0);
    box.manifest("hq for claude", "one for claude");
    const { status, stderr } = await box.runUnprivileged("--copy");
    assertEquals([status, problemLines(stderr)], [1, [1]], stderr);
    assertEquals(deployed(box.at(".claude/skills")), { hq: "copy", one: "copy" });
  });
});

describe("a hostile manifest", () => {
  it("cannot reach the terminal with what it names", async () => {
    using box = new Sandbox();
    box.skills("hq");
    box.manifest("hq for ./\u001b[31mX\u001b]0;title\u0007", "./\u202ex", "hq as \u009bz", "hq for ./\u2028y");
    for (const command of ["sync", "list", "check", "clean"]) {
      const { stdout, stderr } = await box.run(command);
      assertPlain(stdout + stderr);
    }
  });

  requires("mkfifo")("that is a pipe is not waited for", async () => {
    using box = new Sandbox();
    box.skills("hq");
    await succeed(["mkfifo", box.at(".skills")]);
    assertStringIncludes(await box.fails(2), "not a file");
    box.remove(".skills");
    box.manifest("hq");
    box.remove("skills/hq/SKILL.md");
    await succeed(["mkfifo", box.at("skills/hq/SKILL.md")]);
    assertEquals(problemLines(await box.fails(1)), [1]);
  });
});

describe("a .gitignore that is a link", () => {
  it("stays one, wherever it leads", async () => {
    using box = new Sandbox();
    box.skills("hq");
    box.manifest("hq for claude");
    box.link(".claude/skills/.gitignore", "../../nowhere");
    assertStringIncludes(await box.done(), ".gitignore");
    assertEquals(await box.done(), "");
    assertEquals(whatIs(box.at(".claude/skills/.gitignore")), "-> ../../nowhere");
    await box.done("clean");
    assertEquals(Object.keys(tree(box.at(".claude"))), ["skills", "skills/.gitignore"]);
  });
});

describe("a folder that another run holds", () => {
  it("is reported, and the others are deployed", async () => {
    using box = new Sandbox();
    box.skills("hq");
    box.manifest("# claude's", "hq");
    box.directory(".claude/skills");
    using held = Deno.openSync(box.at(".claude/skills"));
    held.lockSync(true);
    const stderr = await box.fails(1);
    assertMatch(stderr, /^\.skills:2: .*\.claude\/skills.*another run/m);
    assertEquals(Object.keys(deployed(box.at(".opencode/skills"))), ["hq"]);
  });
});
