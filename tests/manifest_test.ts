/** Tests of the manifest's grammar: references, lines and names, as tables. */
import { assertEquals, assertThrows } from "jsr:@std/assert@^1";
import { describe, it } from "jsr:@std/testing@^1/bdd";
import { nameProblem, parseManifest, parseReference } from "../use-skills.ts";
import { scenario } from "./scenario.ts";

/** A git reference; `tail` is a ref and a path in one. */
function git(url: string, path: string, more: { ref?: string; tail?: string; all?: true } = {}) {
  return { kind: "git", url, path, ...more };
}

describe("parseReference()", () => {
  const GITHUB = "https://github.com";
  const references: Record<string, unknown> = {
    "hq": { kind: "name", name: "hq" },
    "./tools/skills/house-style": { kind: "path", path: "./tools/skills/house-style", all: false },
    "../shared/hq/": { kind: "path", path: "../shared/hq/", all: false },
    "/srv/skills/hq": { kind: "path", path: "/srv/skills/hq", all: false },
    "~/hq": { kind: "path", path: "~/hq", all: false },
    "~/notes/skills/*": { kind: "path", path: "~/notes/skills", all: true },
    "./*": { kind: "path", path: ".", all: true },
    "/*": { kind: "path", path: "/", all: true },
    "anthropics/skills": git(`${GITHUB}/anthropics/skills`, ""),
    "anthropics/skills/*": git(`${GITHUB}/anthropics/skills`, "", { all: true }),
    "anthropics/skills/skills/*": git(`${GITHUB}/anthropics/skills`, "skills", { all: true }),
    "anthropics/skills/skills/pdf#main": git(`${GITHUB}/anthropics/skills`, "skills/pdf", { ref: "main" }),
    "a/b.c_d#feature/x": git(`${GITHUB}/a/b.c_d`, "", { ref: "feature/x" }),
    "https://git.example.org/t/s.git": git("https://git.example.org/t/s.git", ""),
    "https://git.example.org/t/s.git//x/y#v2.1.0": git("https://git.example.org/t/s.git", "x/y", { ref: "v2.1.0" }),
    "ssh://git@example.org:2222/t/s.git//x": git("ssh://git@example.org:2222/t/s.git", "x"),
    "file:///srv/s.git//x#main": git("file:///srv/s.git", "x", { ref: "main" }),
    "git@example.org:team/s.git": git("git@example.org:team/s.git", ""),
    "git@example.org:team/s.git//x/y#v2": git("git@example.org:team/s.git", "x/y", { ref: "v2" }),
    "https://github.com/a/b/tree/main/x/y": git(`${GITHUB}/a/b`, "", { tail: "main/x/y" }),
    "https://github.com/a/b/blob/main/x/SKILL.md": git(`${GITHUB}/a/b`, "", { tail: "main/x" }),
    "https://gitlab.com/g/sub/b/-/tree/main/x": git("https://gitlab.com/g/sub/b", "", { tail: "main/x" }),
    "https://codeberg.org/a/b/src/branch/main/x": git("https://codeberg.org/a/b", "", { tail: "main/x" }),
    "https://codeberg.org/a/b/src/tag/v1/x": git("https://codeberg.org/a/b", "", { tail: "v1/x" }),
    "https://codeberg.org/a/b/src/commit/0a1b2c/x": git("https://codeberg.org/a/b", "", { tail: "0a1b2c/x" }),
  };
  for (const [text, reference] of Object.entries(references)) {
    it(`reads ${text}`, () => assertEquals(JSON.parse(JSON.stringify(parseReference(text))), reference));
  }

  const neither = (text: string) => `"${text}" is not a name, a path (./ ../ / ~/), OWNER/REPO or a git URL`;
  const dots = (text: string) => `"." and ".." are not allowed in a URL or in a repo's path: "${text}"`;
  const credentials = "This URL contains a user or a password: remove it and use git's credential helper";
  const refused: Record<string, string> = {
    "http://example.org/s.git":
      'http is not supported, because anyone on the way can change what it transfers: use https for "http://example.org/s.git", or map it in your git configuration with url.BASE.insteadOf',
    "git://example.org/s.git": 'Only https, ssh and file URLs are supported, not "git://example.org/s.git"',
    "https://me:secret@example.org/s.git": credentials,
    "https://me@example.org/s.git": credentials,
    "ssh://me:secret@example.org/s.git": credentials,
    "ext::sh": neither("ext::sh"),
    "-a/b": neither("-a/b"),
    "a/b#": 'A branch, tag or commit is missing after "#" in "a/b#"',
    "./a*": '"*" is only allowed as the last segment, not in "./a*"',
    "./*/b": '"*" is only allowed as the last segment, not in "./*/b"',
    "a/b/../../c": dots("a/b/../../c"),
    "https://example.org/s.git//../x": dots("https://example.org/s.git//../x"),
    '"./a': "Quotes are not supported: for a path with white space, create a link without",
  };
  for (const [text, message] of Object.entries(refused)) {
    it(`refuses ${text}`, () => void assertThrows(() => parseReference(text), SyntaxError, message));
  }
});

describe("parseManifest()", () => {
  /** Each entry in short: line, reference, and the clauses. */
  const read = (text: string) =>
    parseManifest(text).entries.map(({ line, text, as, trust, agents }) =>
      [line, text, as && `as ${as}`, trust && "trust", agents && `for ${agents.names}`].filter(Boolean).join(" ")
    );
  const texts: [behaviour: string, text: string, entries: string[]][] = [
    ["skips blank lines and comments", "\n# one\n  \t# two\nhq # three\nx\t#four\n   \n", ["4 hq", "5 x"]],
    ["keeps # inside a reference", "a/b#v1 # the first\na/b#v1#2", ["1 a/b#v1", "2 a/b#v1#2"]],
    ["reads every clause", "a/b as c trust for claude ./x", ["1 a/b as c trust for claude,./x"]],
    ["reads each clause alone", "hq trust\nhq as x\nhq for pi", ["1 hq trust", "2 hq as x", "3 hq for pi"]],
    [
      "applies a for line until the next one",
      "a\nfor claude codex\nb\nfor cursor # now\nc",
      ["1 a", "3 b for claude,codex", "5 c for cursor"],
    ],
    ["prefers the agents of an entry", "for claude\na for pi\nb", ["2 a for pi", "3 b for claude"]],
    [
      "reads CRLF, a byte order mark and a last line without an end",
      "\ufeffa\r\n\r\nb for claude\r\nc",
      ["1 a", "3 b for claude", "4 c"],
    ],
  ];
  for (const [behaviour, text, entries] of texts) {
    it(behaviour, () => {
      assertEquals(parseManifest(text).errors, []);
      assertEquals(read(text), entries);
    });
  }

  const unexpected = (word: string) =>
    `Unexpected "${word}": an entry is REF [as NAME] [trust] [for AGENT...], without white space in REF`;
  const wrong: Record<string, string> = {
    "hq extra": unexpected("extra"),
    "hq as": 'A name is missing after "as"',
    "hq for": 'An agent is missing after "for"',
    "for": 'An agent is missing after "for"',
    "hq for claude as x": unexpected("as"),
    "hq trust as x": unexpected("as"),
    "as x": 'A reference is missing before "as"',
    "./my skill": unexpected("skill"),
    '"./my skill"': "Quotes are not supported: for a path with white space, create a link without",
    "<<<<<<< HEAD": "This is a merge conflict: keep the lines you want",
    "=======": "This is a merge conflict: keep the lines you want",
    ["x".repeat(4097)]: "This line has more than 4,096 bytes",
    [`hq # ${"ä".repeat(2046)}`]: "This line has more than 4,096 bytes",
    "hq # \ufffd": "This line is not UTF-8",
  };
  for (const [line, message] of Object.entries(wrong)) {
    it(`refuses ${line.slice(0, 30)}`, () => {
      assertEquals(parseManifest(`hq\n${line}\nhq`).errors, [{ line: 2, message }]);
    });
  }

  it("reports every invalid line", () => {
    assertEquals(parseManifest(Object.keys(wrong).join("\n")).errors.length, Object.keys(wrong).length);
  });

  it("refuses an unknown mode, a second one, and one below an entry", () => {
    assertEquals(parseManifest("mode move").errors, [{ line: 1, message: '"mode" needs one of link, copy, commit' }]);
    const message = '"mode" is only allowed once, above the first entry';
    for (const text of ["mode copy\nmode link", "hq\nmode copy"]) {
      assertEquals(parseManifest(text).errors, [{ line: 2, message }]);
    }
  });

  it("accepts a line of 4,096 bytes", () => {
    assertEquals(parseManifest("x".repeat(4096)).errors, []);
  });
});

describe("nameProblem()", () => {
  for (const name of ["a", "0", "hq", "review-gate", "a-b-c-1", "commit", "a".repeat(64)]) {
    it(`accepts ${name}`, () => assertEquals(nameProblem(name), undefined));
  }

  const rule = " is not a skill name: 1 to 64 lowercase letters, digits and single hyphens";
  const names: Record<string, string> = {
    "": `""${rule}`,
    ".": `"."${rule}`,
    "..": `".."${rule}`,
    "-a": `"-a"${rule}, did you mean "a"?`,
    "a-": `"a-"${rule}, did you mean "a"?`,
    "a--b": `"a--b"${rule}, did you mean "a-b"?`,
    "A": `"A"${rule}, did you mean "a"?`,
    "a_b": `"a_b"${rule}, did you mean "a-b"?`,
    "a b": `"a b"${rule}, did you mean "a-b"?`,
    "a/b": `"a/b"${rule}, did you mean "a-b"?`,
    ".git": `".git"${rule}, did you mean "git"?`,
    "a\0b": `"a\\u0000b"${rule}; it contains U+0000`,
    "a\nb": `"a\\nb"${rule}; it contains U+000A`,
    "ä": `"ä"${rule}; it contains U+00E4`,
    "h\u0430": `"h\u0430"${rule}; it contains U+0430`,
    "hq\u200b": `"hq\u200b"${rule}; it contains U+200B`,
    "\uff48q": `"\uff48q"${rule}; it contains U+FF48`,
    ["a".repeat(65)]: `"${"a".repeat(65)}"${rule}; it has 65 characters`,
    "mode": '"mode" is a keyword of .skills, not a skill name',
    "as": '"as" is a keyword of .skills, not a skill name',
    "for": '"for" is a keyword of .skills, not a skill name',
    "trust": '"trust" is a keyword of .skills, not a skill name',
  };
  for (const [name, message] of Object.entries(names)) {
    it(`refuses ${JSON.stringify(name)}`, () => assertEquals(nameProblem(name), message));
  }
});

describe("a manifest", () => {
  const bytes = new Uint8Array([...new TextEncoder().encode("hq\none # "), 0xff, 0x0a]);
  const refused: [what: string, content: string | Uint8Array, messages: string[]][] = [
    ["that is not UTF-8", bytes, [".skills:2: This line is not UTF-8"]],
    ["with a NUL in a name", "hq\na\0b\n", [".skills:2: This line contains a NUL"]],
    ["with a NUL in a path", "hq\n./a\0b\n", [".skills:2: This line contains a NUL"]],
    ["with a NUL in a comment", "hq\none # a\0b\n", [".skills:2: This line contains a NUL"]],
    ["with a line over 4,096 bytes", `hq\n${"x".repeat(5000)}\n`, [
      ".skills:2: This line has more than 4,096 bytes",
    ]],
    ["with invalid lines", "hq\n./my skill\nhq for\n\nhq as\n", [
      '.skills:2: Unexpected "skill": an entry is REF [as NAME] [trust] [for AGENT...], without white space in REF',
      '.skills:3: An agent is missing after "for"',
      '.skills:5: A name is missing after "as"',
    ]],
    ["larger than 1 MiB", `hq\n${"# comment\n".repeat(110_000)}`, [
      "use-skills: Cannot read .skills: it has more than 1 MiB",
    ]],
  ];
  for (const [what, content, messages] of refused) {
    const test = scenario(`${what} is refused and changes nothing`)
      .skills("hq", "one").manifest("hq", "one for cursor").sync()
      .write(".skills", content).remember();
    for (const command of ["sync", "check", "list"]) test.run(command).refuses(...messages);
    test.untouched();
  }

  scenario("of almost 1 MiB is read")
    .skills("hq", "one").manifest(...Array<string>(25_000).fill("# one of very many lines, of comment"), "hq", "one")
    .sync().says("use-skills: linked hq, one for claude, opencode, codex");

  scenario("with CRLF and a byte order mark is read")
    .skills("hq", "one").write(".skills", "\ufeffhq for claude\r\n\r\none as two for claude # two\r\n")
    .sync().has(".claude/skills", { hq: "../../skills/hq", two: "../../skills/one" });

  scenario("that is a directory is refused")
    .directory(".skills")
    .sync().refuses("use-skills: Cannot read .skills: it is not a regular file");

  scenario("that is a link is refused, wherever it leads")
    .skills("hq").write("config/skills", "hq\n").link(".skills", "config/skills")
    .sync().refuses("use-skills: Cannot read .skills: it is a link, not a regular file");

  scenario("that is a pipe is not waited for", "mkfifo")
    .do((box) => new Deno.Command("mkfifo", { args: [box.at(".skills")] }).outputSync())
    .sync().refuses("use-skills: Cannot read .skills: it is not a regular file");

  scenario("with more than 5,000 entries is refused, and nothing changes")
    .skills("hq").manifest(...Array.from({ length: 5_001 }, () => "hq")).remember()
    .sync().refuses(".skills:5001: There are more than 5000 entries").untouched();

  scenario("that deploys to more than 200 directories is refused from there on")
    .skills("hq").manifest(`hq for ${Array.from({ length: 202 }, (_, index) => `./t/${index}`).join(" ")}`)
    .run("check", "-q").fails(
      ".skills:1: There are more than 200 targets",
    );
});
