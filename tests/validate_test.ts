/** Runs `validate` on skills for which the verdict of the specification's reference validator is known. */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "jsr:@std/assert@^1";
import { describe, it } from "jsr:@std/testing@^1/bdd";
import { isThere, Sandbox } from "./helpers.ts";

const long = "x".repeat(64);

/** Front matter with a name and a description, and more. */
const front = (name: string, more = "", description = "d") =>
  `---\nname: ${name}\ndescription: ${description}\n${more}---\n`;

/**
 * Skills by the name of their directory, each with the expected problems: the line, and words of the message. The
 * specification's reference validator (skills-ref 0.1.0) was run on each and rejects the same skills.
 */
const VERDICTS: [name: string, text: string, ...found: string[]][] = [
  // Names.
  ["123", "---\nname: 123\ndescription: yes\n---\n"],
  ["café", front("café")],
  ["日本語", front("日本語")],
  ["ﬁx", front("fix")],
  ["x²y", front("x²y")],
  ["padded", front('" padded "')],
  [long, front(long)],
  [`${long}y`, front(`${long}y`), "2 is not 1 to 64"],
  ["Upper", front("Upper"), "2 is not 1 to 64 lowercase"],
  ["under_score", front("under_score"), "2 is not 1 to 64"],
  ["a--b", front("a--b"), "2 is not 1 to 64"],
  ["-a", front("-a"), "2 is not 1 to 64"],
  ["a-", front("a-"), "2 is not 1 to 64"],
  ["other", front("another"), '2 The name is "another", but the directory is "other"'],
  ["both", front("Other"), "2 but the directory is", "2 is not 1 to 64 lowercase"],
  // Required fields.
  ["no-name", "---\ndescription: d\n---\n", "1 has no name"],
  ["no-description", "---\nname: no-description\n---\n", "1 has no description"],
  ["neither", "---\nlicense: x\n---\n", "1 has no name", "1 has no description"],
  ["empty-text", front("empty-text", "", ""), "3 has no description"],
  ["blank-text", front("blank-text", "", '"  "'), "3 has no description"],
  ["list-text", front("list-text", "", "\n- a"), "3 has no description"],
  ["map-name", "---\nname:\n  a: b\ndescription: d\n---\n", "2 has no name"],
  // Scalars are strings.
  ["tilde", front("tilde", "", "~")],
  ["yes", front("yes", "license: 1.10\n", "yes")],
  ["number", front("123"), '2 The name is "123"'],
  ["folded", front("folded", "", ">\n  a\n  b")],
  ["literal", front("literal", "", "|\n  a: b\n  c")],
  ["quoted", front('"quoted"', "", "'it''s: so'")],
  ["braces", front("braces", "", "use {x} and [y] & z")],
  ["commented", "---\n# c\nname: commented # x\ndescription: a#b\n---\n"],
  // Optional fields.
  ["known", front("known", "license: MIT\ncompatibility: Linux\nmetadata:\n  a: b\nallowed-tools: Read Bash(git:*)\n")],
  ["unknown", front("unknown", "type: x\nmodel: y\n"), '4 Unknown field "type"', '5 Unknown field "model"'],
  ["odd-field", front("odd-field", '"a.b(": x\n'), '4 Unknown field "a.b("'],
  ["merge", front("merge", "<<: x\n"), '4 Unknown field "<<"'],
  ["map-field", front("map-field", "compatibility:\n  a: b\n"), "4 The field compatibility is not a string"],
  ["empty-field", front("empty-field", "compatibility:\n")],
  // Lengths, in characters.
  ["letters", front("letters", "", "é".repeat(1024))],
  ["emoji", front("emoji", "", "\u{1F600}".repeat(1024))],
  ["too-long", front("too-long", "", "\u{1F600}".repeat(1025)), "3 is not a string of up to 1024 characters"],
  ["fits", front("fits", `compatibility: ${"c".repeat(500)}\n`)],
  ["fits-not", front("fits-not", `compatibility: ${"c".repeat(501)}\n`), "4 is not a string of up to 500 characters"],
  // Front matter that is missing, unclosed, or not a mapping.
  ["nothing", "", "1 has no front matter"],
  ["heading", "# Hello\n", "1 has no front matter"],
  ["late", `\n${front("late")}`, "1 has no front matter"],
  ["marked", `\ufeff${front("marked")}`, "1 byte order mark"],
  ["open", "---\nname: open\ndescription: d\n", "1 has unclosed front matter"],
  ["dots", "---\nname: dots\ndescription: d\n...\n", "1 has unclosed front matter"],
  ["four", "----\nname: four\ndescription: d\n----\n", "1 has unclosed front matter"],
  ["blank", "---\n---\n", "2 not a mapping"],
  ["remark", "---\n# nothing\n---\n", "2 not a mapping"],
  ["list", "---\n- a\n---\n", "2 not a mapping"],
  ["word", "---\nhello\n---\n", "2 not a mapping"],
  ["windows", front("windows").replaceAll("\n", "\r\n")],
  ["trailing", "--- \nname: trailing\ndescription: d\n---  \nBody\n---\n"],
  ["unended", front("unended").trimEnd()],
  // What is not YAML.
  ["colon", front("colon", "", "use when: you"), "3 not YAML"],
  ["flow", front("flow", "metadata: {a: &b c}\n")],
  ["twice", front("twice", "description: e\n"), "4 duplicated key"],
  ["at", front("at", "", "@x"), "3 not YAML"],
  ["percent", front("percent", "", "%x"), "3 not YAML"],
  ["star", front("star", "", "*x"), "3 not YAML"],
  ["half-quoted", front("half-quoted", "", '"a" b'), "4 not YAML"],
  ["quote", front("quote", "", "'a"), "4 not YAML"],
  ["control", front("control", "", "a\x01b"), "3 not YAML"],
  // Line numbers are those of the front matter.
  ["below-name", "---\ndescription: d\n---\nx\nname: below-name\n", "1 has no name"],
  [
    "indented",
    "---\n  name: Indented\n  description: d\n---\n",
    "1 but the directory is",
    "1 is not 1 to 64 lowercase",
  ],
  ["inner-name", "---\nmetadata:\n  name: x\nname: other\ndescription: d\n---\n", "4 but the directory is"],
];

const DOCTOR = "skills/skill-doctor/scripts/doctor.ts";

describe("validate", () => {
  it("finds what the reference validator finds, with line numbers", async () => {
    using box = new Sandbox(DOCTOR);
    for (const [name, text] of VERDICTS) box.write(`skills/${name}/SKILL.md`, text);
    const paths = VERDICTS.map(([name]) => `skills/${name}`);
    const { status, stdout } = await box.run("validate", "--json", ...paths);
    assertEquals(status, 1);
    const { skills, problems } = JSON.parse(stdout);
    assertEquals(skills.length, VERDICTS.length);
    for (const [index, [name, , ...expected]] of VERDICTS.entries()) {
      const found: { line: number; message: string; file: string }[] = problems.filter(
        (problem: { file: string }) => problem.file === `skills/${name}/SKILL.md`,
      );
      const shown = found.map(({ line, message }) => `${line} ${message}`);
      assertEquals(skills[index].valid, expected.length === 0, `${name}: ${shown}`);
      assertEquals(shown.length, expected.length, `${name}: ${shown}`);
      for (const each of expected) {
        const [line = "", words = ""] = [each.split(" ", 1)[0], each.slice(each.indexOf(" ") + 1)];
        const isFound = shown.some((text) => text.startsWith(`${line} `) && text.includes(words));
        assert(isFound, `${name}: ${each} is not in ${shown}`);
      }
    }
  });

  it("checks types that the reference validator does not check", async () => {
    using box = new Sandbox(DOCTOR);
    box.write("a/SKILL.md", front("a", "allowed-tools:\n- Read\nmetadata:\n  x:\n    y: z\n"));
    assertEquals(
      await box.fails(1, "validate", "a"),
      "a/SKILL.md:4: The field allowed-tools is not a string\n" +
        "a/SKILL.md:6: The field metadata is not a mapping of strings to strings\n" +
        "0 of 1 skills are valid\n",
    );
  });

  it("warns about long texts, broken links and scripts that are not executable", async () => {
    using box = new Sandbox(DOCTOR);
    const text = [
      'See [the guide](references/guide.md#use), ![a picture](<assets/a b.png>), [this](scripts/run.sh "Run").',
      "[gone](references/gone.md) and [gone too](./gone%20too.md?x=1) [web](https://example.org/x) [part](#part) [mail](mailto:a@example.org)",
      "`[code](no.md)` and [absolute](/etc/nothing)",
      "````",
      "[fenced](no.md)",
      "```",
      "````",
      "~~~md",
      "[fenced](no.md)",
      "~~~",
      "[below]: references/below.md",
      "[^1]: See that, \\[no\\](no.md) <!-- [no](no.md) --> [home](~/x.md) [brackets](references/f(x).md)",
      "    [code](no.md)",
      "```inline``` [shown](gone.md)",
      "- ```sh",
      "  [fenced](no.md)",
      "  ```js",
      "  ```",
      "> ```",
      "> [fenced](no.md)",
      "> ```",
      "[last](last.md) [other](../other/SKILL.md)",
      "```",
      "[unclosed](no.md)",
    ];
    box.write("a/SKILL.md", front("a") + text.join("\n"));
    for (const name of ["references/guide.md", "references/f(x).md", "assets/a b.png", "scripts/lib.sh"]) {
      box.write(`a/${name}`, "x");
    }
    box.write("a/scripts/run.sh", "#!/bin/sh\n");
    box.write("a/scripts/deep/er.py", "#!/usr/bin/env python3\n");
    box.write("a/scripts/fine.sh", "#!/bin/sh\n");
    Deno.chmodSync(box.at("a/scripts/fine.sh"), 0o755);
    box.write("outside/run.sh", "#!/bin/sh\n");
    box.link("a/scripts/outside", "../../outside");
    box.write("b/SKILL.md", front("b") + "line\n".repeat(501));
    box.write("c/SKILL.md", front("c") + "line\n".repeat(500));
    assertEquals((await box.done("validate", "a", "b", "c")).split("\n"), [
      'a/SKILL.md:6: Warning: The link target "references/gone.md" does not exist',
      'a/SKILL.md:6: Warning: The link target "./gone%20too.md" does not exist',
      'a/SKILL.md:15: Warning: The link target "references/below.md" does not exist',
      'a/SKILL.md:18: Warning: The link target "gone.md" does not exist',
      'a/SKILL.md:26: Warning: The link target "last.md" does not exist',
      'a/SKILL.md:26: Warning: The link target "../other/SKILL.md" is outside the skill and not there: "mode copy" deploys skills next to each other',
      "a/scripts/deep/er.py:1: Warning: The script is not executable: chmod +x",
      "a/scripts/run.sh:1: Warning: The script is not executable: chmod +x",
      "b/SKILL.md:5: Warning: The text has 501 lines, over 500, and agents read it all: move parts into other files",
      "3 of 3 skills are valid",
      "",
    ]);
    assertEquals(await box.done("validate", "--quiet", "a", "b", "c"), "");
    const { warnings, problems } = JSON.parse((await box.run("validate", "--json", "a", "b", "c")).stdout);
    assertEquals([warnings.length, problems], [9, []]);
  });

  it("explains why a directory is not a skill", async () => {
    using box = new Sandbox(DOCTOR);
    box.skills("hq");
    box.write("lower/skill.md", front("lower"));
    box.directory("folder/SKILL.md");
    box.write("latin/SKILL.md", new Uint8Array([...new TextEncoder().encode("---\nname: latin\nd: "), 0xE9, 10]));
    assertEquals(
      await box.fails(1, "validate", "skills", "nosuch", "lower", "folder", "latin"),
      "skills: SKILL.md is missing: to validate the skills in it, add /*\n" +
        "nosuch: There is no such directory\n" +
        'lower: SKILL.md is missing: rename "skill.md" to SKILL.md\n' +
        "folder/SKILL.md:1: SKILL.md is not a file\n" +
        "latin/SKILL.md:3: SKILL.md is not UTF-8\n" +
        "0 of 5 skills are valid\n",
    );
  });

  it("accepts a directory or its SKILL.md, from any directory", async () => {
    using box = new Sandbox("use-skills.ts", "skill-doctor");
    box.skills("hq");
    for (const words of [["skills/hq"], ["skills/hq/SKILL.md"], ["skills/hq/"], ["-C", "skills", "hq"]]) {
      assertEquals(await box.done("validate", ...words), "1 of 1 skills are valid\n");
    }
    assertStringIncludes(await box.fails(2, "validate"), "No .skills in");
  });

  it("validates each skill of the manifest once", async () => {
    using box = new Sandbox("use-skills.ts", "skill-doctor");
    box.skills("hq", "review-gate", "unnamed");
    box.write("skills/wrong/SKILL.md", front("other"));
    box.write("skills/renamed/SKILL.md", front("deployed")); // is valid where agents find it
    box.manifest("hq for claude", "hq for cursor", "review-gate", "wrong", "nosuch", "./skills/renamed as deployed");
    const text = await box.fails(1, "validate");
    assertMatch(text, /^\.skills:5: No skill "nosuch" in .*$/m);
    assertStringIncludes(
      text,
      'skills/wrong/SKILL.md:2: The name is "other", but the directory is "wrong"\n3 of 4 skills are valid\n',
    );
    assertEquals(isThere(box.at(".claude")), false);
  });
});

describe("doctor.ts", () => {
  const USAGE: [args: string[], message: string][] = [
    [["validate"], "Usage: doctor.ts validate DIR..."],
    [["validate", "--fast"], 'Unknown option "--fast"'],
    [["cure"], 'Unknown command "cure"'],
    [["show", "7"], 'Unexpected "7" after show'],
  ];
  for (const [args, message] of USAGE) {
    it(`refuses ${args.join(" ")}`, async () => {
      using box = new Sandbox(DOCTOR);
      assertEquals(await box.fails(2, ...args), `skill-doctor: ${message}\n`);
    });
  }

  it("prints --help and --version", async () => {
    using box = new Sandbox(DOCTOR);
    const help = await box.run("--help");
    assertEquals([help.status, help.stdout.startsWith("skill-doctor 0.2.0: ")], [0, true]);
    assertEquals(help.stdout.split("\n").filter((line) => line.length > 80), []);
    assertEquals((await box.run("-V")).stdout, "0.2.0\n");
  });
});
