/** Runs `validate` on skills of which the verdict of the specification's reference validator is known. */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "jsr:@std/assert@^1";
import { describe, it } from "jsr:@std/testing@^1/bdd";
import { isThere, Sandbox } from "./helpers.ts";

const long = "x".repeat(64);

/** Front matter with a name and a description, and more. */
const front = (name: string, more = "", description = "d") =>
  `---\nname: ${name}\ndescription: ${description}\n${more}---\n`;

/**
 * Skills by the name of their directory, and at which lines something is to be found, with words of it. The reference
 * validator (skills-ref 0.1.0) was asked about each, and finds the same ones wrong.
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
  [`${long}y`, front(`${long}y`), "2 1 to 64"],
  ["Upper", front("Upper"), "2 lowercase"],
  ["under_score", front("under_score"), "2 letters, digits and single hyphens"],
  ["a--b", front("a--b"), "2 single hyphens"],
  ["-a", front("-a"), "2 none at the ends"],
  ["a-", front("a-"), "2 none at the ends"],
  ["other", front("another"), '2 its name is "another", its directory "other"'],
  ["both", front("Other"), "2 directory", "2 lowercase"],
  // Fields that must be there.
  ["no-name", "---\ndescription: d\n---\n", "1 has no name"],
  ["no-description", "---\nname: no-description\n---\n", "1 has no description"],
  ["neither", "---\nlicense: x\n---\n", "1 has no name", "1 has no description"],
  ["empty-text", front("empty-text", "", ""), "3 has no description"],
  ["blank-text", front("blank-text", "", '"  "'), "3 has no description"],
  ["list-text", front("list-text", "", "\n- a"), "3 has no description"],
  ["map-name", "---\nname:\n  a: b\ndescription: d\n---\n", "2 has no name"],
  // Scalars are the strings that were written.
  ["tilde", front("tilde", "", "~")],
  ["yes", front("yes", "license: 1.10\n", "yes")],
  ["number", front("123"), '2 its name is "123"'],
  ["folded", front("folded", "", ">\n  a\n  b")],
  ["literal", front("literal", "", "|\n  a: b\n  c")],
  ["quoted", front('"quoted"', "", "'it''s: so'")],
  ["braces", front("braces", "", "use {x} and [y] & z")],
  ["commented", "---\n# c\nname: commented # x\ndescription: a#b\n---\n"],
  // Fields that may be there.
  ["known", front("known", "license: MIT\ncompatibility: Linux\nmetadata:\n  a: b\nallowed-tools: Read Bash(git:*)\n")],
  ["unknown", front("unknown", "type: x\nmodel: y\n"), '4 unknown field "type"', '5 unknown field "model"'],
  ["odd-field", front("odd-field", '"a.b(": x\n'), '4 unknown field "a.b("'],
  ["merge", front("merge", "<<: x\n"), '4 unknown field "<<"'],
  ["map-field", front("map-field", "compatibility:\n  a: b\n"), "4 compatibility is not a string"],
  ["empty-field", front("empty-field", "compatibility:\n")],
  // Lengths, in characters.
  ["letters", front("letters", "", "é".repeat(1024))],
  ["emoji", front("emoji", "", "\u{1F600}".repeat(1024))],
  ["too-long", front("too-long", "", "\u{1F600}".repeat(1025)), "3 1025 characters, over 1024"],
  ["fits", front("fits", `compatibility: ${"c".repeat(500)}\n`)],
  ["fits-not", front("fits-not", `compatibility: ${"c".repeat(501)}\n`), "4 501 characters, over 500"],
  // Front matter that is not there, has no end, or is no mapping.
  ["nothing", "", "1 no front matter"],
  ["heading", "# Hello\n", "1 no front matter"],
  ["late", `\n${front("late")}`, "1 no front matter"],
  ["marked", `\ufeff${front("marked")}`, "1 byte order mark"],
  ["open", "---\nname: open\ndescription: d\n", "1 has no end"],
  ["dots", "---\nname: dots\ndescription: d\n...\n", "1 has no end"],
  ["four", "----\nname: four\ndescription: d\n----\n", "1 has no end"],
  ["blank", "---\n---\n", "2 not a mapping"],
  ["remark", "---\n# nothing\n---\n", "2 not a mapping"],
  ["list", "---\n- a\n---\n", "2 not a mapping"],
  ["word", "---\nhello\n---\n", "2 not a mapping"],
  ["windows", front("windows").replaceAll("\n", "\r\n")],
  ["trailing", "--- \nname: trailing\ndescription: d\n---  \nBody\n---\n"],
  ["unended", front("unended").trimEnd()],
  // What is not YAML.
  ["colon", front("colon", "", "use when: you"), "3 not YAML"],
  ["twice", front("twice", "description: e\n"), "4 duplicated key"],
  ["at", front("at", "", "@x"), "3 not YAML"],
  ["percent", front("percent", "", "%x"), "3 not YAML"],
  ["star", front("star", "", "*x"), "3 not YAML"],
  ["half-quoted", front("half-quoted", "", '"a" b'), "4 not YAML"],
  ["quote", front("quote", "", "'a"), "4 not YAML"],
  ["control", front("control", "", "a\x01b"), "3 not YAML"],
  // Lines are those of the front matter.
  ["below-name", "---\ndescription: d\n---\nx\nname: below-name\n", "1 has no name"],
  ["indented", "---\n  name: Indented\n  description: d\n---\n", "2 directory", "2 lowercase"],
  ["inner-name", "---\nmetadata:\n  name: x\nname: other\ndescription: d\n---\n", "4 directory"],
];

describe("validate", () => {
  it("finds all that the reference validator finds, each at its line", async () => {
    using box = new Sandbox("skills/skill-doctor/scripts/doctor.ts");
    for (const [name, text] of VERDICTS) box.write(`skills/${name}/SKILL.md`, text);
    const { status, stdout, stderr } = await box.run(
      "validate",
      "--json",
      ...VERDICTS.map(([name]) => `skills/${name}`),
    );
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
        if (!/[^ -~]/.test(each)) assertStringIncludes(stderr, `skills/${name}/SKILL.md:${line}: `);
      }
    }
  });

  it("goes by the specification where the reference validator does not look", async () => {
    using box = new Sandbox("skills/skill-doctor/scripts/doctor.ts");
    box.write("a/SKILL.md", front("a", "allowed-tools:\n- Read\nmetadata:\n  x:\n    y: z\n"));
    const text = await box.fails(1, "validate", "a");
    assertStringIncludes(text, "a/SKILL.md:4: its allowed-tools is not a string\n");
    assertStringIncludes(text, "a/SKILL.md:6: its metadata is not a mapping of strings to strings\n");
    assertStringIncludes(text, "use-skills: 0 of 1 skills are");
  });

  it("says where sync is stricter", async () => {
    using box = new Sandbox("use-skills.ts", "skill-doctor");
    box.write("skills/café/SKILL.md", front("café"));
    const text = await box.done("validate", "skills/café");
    assertMatch(text, /SKILL\.md:1: Warning: the specification allows this name, and sync is stricter .*U\+00E9/);
    box.manifest("./skills/café", "./skills/café as cafe");
    await box.fails(1, "sync");
    assertEquals(Deno.readLinkSync(box.at(".claude/skills/cafe")), "../../skills/café");
  });

  it("warns of long texts, links to nothing and scripts that cannot be run", async () => {
    using box = new Sandbox("skills/skill-doctor/scripts/doctor.ts");
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
      "[last](last.md)",
    ];
    box.write("a/SKILL.md", front("a") + text.join("\n"));
    for (const name of ["references/guide.md", "references/f(x).md", "assets/a b.png", "scripts/lib.sh"]) {
      box.write(`a/${name}`, "x");
    }
    box.write("a/scripts/run.sh", "#!/bin/sh\n");
    box.write("a/scripts/deep/er.py", "#!/usr/bin/env python3\n");
    box.write("a/scripts/fine.sh", "#!/bin/sh\n");
    Deno.chmodSync(box.at("a/scripts/fine.sh"), 0o755);
    box.write("b/SKILL.md", front("b") + "line\n".repeat(501));
    box.write("c/SKILL.md", front("c") + "line\n".repeat(500));
    const said = (await box.done("validate", "a", "b", "c")).split("\n");
    assertEquals(said.slice(0, 8), [
      'a/SKILL.md:6: Warning: it links to "references/gone.md", which is not there',
      'a/SKILL.md:6: Warning: it links to "./gone%20too.md", which is not there',
      'a/SKILL.md:15: Warning: it links to "references/below.md", which is not there',
      'a/SKILL.md:18: Warning: it links to "gone.md", which is not there',
      'a/SKILL.md:26: Warning: it links to "last.md", which is not there',
      "a/scripts/deep/er.py:1: Warning: this script cannot be run: chmod +x",
      "a/scripts/run.sh:1: Warning: this script cannot be run: chmod +x",
      "b/SKILL.md:5: Warning: its text has 501 lines, over 500: agents read all of it, so move parts into files",
    ]);
    assertEquals(said[8], "use-skills: 3 of 3 skills are as the specification has it");
    assertEquals(await box.done("validate", "--quiet", "a", "b", "c"), "");
    const { warnings, problems } = JSON.parse((await box.run("validate", "--json", "a", "b", "c")).stdout);
    assertEquals([warnings.length, problems], [8, []]);
  });

  it("takes all that the manifest names, each once", async () => {
    using box = new Sandbox("use-skills.ts", "skill-doctor");
    box.skills("hq", "review-gate", "unnamed");
    box.write("skills/wrong/SKILL.md", front("other"));
    box.manifest("hq for claude", "hq for cursor", "review-gate", "wrong", "nosuch");
    const text = await box.fails(1, "validate");
    assertStringIncludes(text, '.skills:5: No skill "nosuch"');
    assertStringIncludes(text, 'skills/wrong/SKILL.md:2: its name is "other", its directory "wrong"');
    assertStringIncludes(text, "use-skills: 2 of 3 skills are");
    assertEquals(isThere(box.at(".claude")), false);
  });

  it("works where there is no manifest, from any directory, for the file as for the folder", async () => {
    using box = new Sandbox("use-skills.ts", "skill-doctor");
    box.skills("hq");
    for (const words of [["skills/hq"], ["skills/hq/SKILL.md"], ["skills/hq/"], ["-C", "skills", "hq"]]) {
      assertEquals(await box.done("validate", ...words), "use-skills: 1 of 1 skills are as the specification has it\n");
    }
    assertStringIncludes(await box.fails(2, "validate"), "No .skills in");
  });

  it("says what is no skill", async () => {
    using box = new Sandbox("skills/skill-doctor/scripts/doctor.ts");
    box.skills("hq");
    box.write("lower/skill.md", front("lower"));
    box.directory("pipe");
    box.directory("folder/SKILL.md");
    box.write("latin/SKILL.md", new Uint8Array([...new TextEncoder().encode("---\nname: latin\nd: "), 0xE9, 10]));
    const text = await box.fails(1, "validate", "skills", "nosuch", "lower", "folder", "latin");
    assertStringIncludes(text, "skills: it has no SKILL.md, and folders in it do: validate skills/*\n");
    assertStringIncludes(text, "nosuch: nothing is there\n");
    assertStringIncludes(text, 'lower: it has no SKILL.md, but "skill.md", and agents look for SKILL.md: rename it\n');
    assertStringIncludes(text, "folder/SKILL.md:1: SKILL.md is not a file\n");
    assertStringIncludes(text, "latin/SKILL.md:3: line 3 is not UTF-8\n");
  });
});
