/**
 * Runs `validate` on skills of which the verdict of the specification's reference validator is known, and `doctor` on
 * folders in which everything that it looks for is wrong.
 */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "jsr:@std/assert@^1";
import { describe, it } from "jsr:@std/testing@^1/bdd";
import { isThere, requires, Sandbox, skillText, stamps } from "./helpers.ts";

// ── validate ────────────────────────────────────────────────────────────────────────────────────────────────────

const long = "x".repeat(64);

/** Front matter with a name and a description, and more. */
const front = (name: string, more = "", description = "d") =>
  `---\nname: ${name}\ndescription: ${description}\n${more}---\n`;

/**
 * Skills by the name of their directory, and at which lines something is to be found, with words of it. The reference
 * validator (skills-ref 0.1.0 with strictyaml 1.6.1) was asked about each, and finds the same ones wrong.
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
  // What is not YAML, or not what the reference validator takes for it.
  ["colon", front("colon", "", "use when: you"), "3 not YAML"],
  ["twice", front("twice", "description: e\n"), "4 duplicated key"],
  ["at", front("at", "", "@x"), "3 not YAML"],
  ["percent", front("percent", "", "%x"), "3 not YAML"],
  ["star", front("star", "", "*x"), "3 not YAML"],
  ["half-quoted", front("half-quoted", "", '"a" b'), "4 not YAML"],
  ["quote", front("quote", "", "'a"), "4 not YAML"],
  ["control", front("control", "", "a\x01b"), "3 not YAML"],
  ["anchor", front("&x anchor"), "2 an anchor"],
  ["tag", front("!!str tag"), "2 a tag"],
  ["tab", "---\nname: tab\ndescription:\td\n---\n", "3 a tab"],
  ["end-tab", "---\nname: end-tab\t\ndescription: d\n---\n", "2 a tab"],
  ["flow", front("flow", "metadata: {a: b}\n"), "4 in one line"],
  ["all-flow", "---\n{name: all-flow, description: d}\n---\n", "2 in one line"],
  ["deep-anchor", front("deep-anchor", "metadata:\n  a: &b c\n"), "5 an anchor"],
  ["key-anchor", front("key-anchor", "&k license: x\n"), "4 an anchor"],
  ["quoted-key", front("quoted-key", '"license": !!str x\n'), "4 a tag"],
  ["text-tab", front("text-tab", "", "a\tb"), "3 a tab"],
  ["deep-tab", front("deep-tab", "metadata:\n  a: b\tc\n"), "5 a tab"],
  ["top-tab", "---\t\nname: top-tab\ndescription: d\n---\n", "1 a tab"],
  ["literal-text", front("literal-text", "", "|\n  a: [b]\n\n  c: &d\te")],
  ["folded-text", front("folded-text", "", ">-\n  {a}: !b # \n")],
  ["quoted-text", front("quoted-text", "", '"a: [b] &c\\" !d"')],
  ["over-lines", front("over-lines", "", "'a\n  b: [c\n  d'")],
  ["wrapped", front("wrapped", "license: x\n", "see\n  [this](https://example.org)\n   & {that} !")],
  ["wrapped-tab", front("wrapped-tab", "", "see\n  a\tb"), "4 a tab"],
  ["headed", front("headed", "", "> # why\n  [a] !b")],
  ["headed-too", front("headed-too", '"license": |\n  [a] &b\n')],
  ["remarked", "---\n# a\t{b}\nname: remarked # &c\ndescription: d\n---\n"],
  // Lines are those of the front matter.
  ["below-name", "---\ndescription: d\n---\nx\nname: below-name\n", "1 has no name"],
  ["indented", "---\n  name: Indented\n  description: d\n---\n", "2 directory", "2 lowercase"],
  ["inner-name", "---\nmetadata:\n  name: x\nname: other\ndescription: d\n---\n", "4 directory"],
];

describe("validate", () => {
  it("finds all that the reference validator finds, each at its line", async () => {
    using box = new Sandbox();
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
    using box = new Sandbox();
    box.write("a/SKILL.md", front("a", "allowed-tools:\n- Read\nmetadata:\n  x:\n    y: z\n"));
    const text = await box.fails(1, "validate", "a");
    assertStringIncludes(text, "a/SKILL.md:4: its allowed-tools is not a string\n");
    assertStringIncludes(text, "a/SKILL.md:6: its metadata is not a mapping of strings to strings\n");
    assertStringIncludes(text, "use-skills: 0 of 1 skills are");
  });

  it("says where sync is stricter", async () => {
    using box = new Sandbox();
    box.write("skills/café/SKILL.md", front("café"));
    const text = await box.done("validate", "skills/café");
    assertMatch(text, /SKILL\.md:1: Warning: the specification allows this name, and sync is stricter .*U\+00E9/);
    box.manifest("./skills/café", "./skills/café as cafe");
    await box.fails(1, "sync");
    assertEquals(Deno.readLinkSync(box.at(".claude/skills/cafe")), "../../skills/café");
  });

  it("warns of long texts, links to nothing and scripts that cannot be run", async () => {
    using box = new Sandbox();
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
    using box = new Sandbox();
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
    using box = new Sandbox();
    box.skills("hq");
    for (const words of [["skills/hq"], ["skills/hq/SKILL.md"], ["skills/hq/"], ["-C", "skills", "hq"]]) {
      assertEquals(await box.done("validate", ...words), "use-skills: 1 of 1 skills are as the specification has it\n");
    }
    assertStringIncludes(await box.fails(2, "validate"), "No .skills in");
  });

  it("says what is no skill", async () => {
    using box = new Sandbox();
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

// ── doctor ──────────────────────────────────────────────────────────────────────────────────────────────────────

/** What each row of what the doctor looks for needs to be there, and what it says of it. */
const ILLS: [what: string, make: (box: Sandbox) => void, said: RegExp, cure?: (box: Sandbox) => void][] = [
  [
    "a broken link of nobody's",
    (box) => box.link(".claude/skills/old", "nowhere"),
    /^\.claude\/skills\/old: this link leads nowhere, to "nowhere": rm \.claude\/skills\/old$/m,
    (box) => box.remove(".claude/skills/old"),
  ],
  [
    "a broken link of ours",
    (box) => box.remove("skills/hq"),
    /^\.claude\/skills\/hq: this link leads nowhere, .*: bring it back, or take it out of \.skills; then sync$/m,
    (box) => box.skills("hq"),
  ],
  [
    "a SKILL.md that is a link",
    (box) => {
      Deno.renameSync(box.at("skills/hq/SKILL.md"), box.at("skills/hq/REAL.md"));
      box.link("skills/hq/SKILL.md", "REAL.md");
    },
    /^skills\/hq: its SKILL\.md is a link, which Codex ignores: /m,
    (box) => Deno.renameSync(box.at("skills/hq/REAL.md"), box.at("skills/hq/SKILL.md")),
  ],
  [
    "a SKILL.md in a folder of a skill",
    (box) => box.skills("skills/hq/parts/inner"),
    /^skills\/hq: OpenCode and Codex see skills in it, and Claude Code does not \(parts\/inner\/SKILL\.md\): move /m,
    (box) => box.remove("skills/hq/parts"),
  ],
  [
    "a skill one level too deep",
    (box) => box.skills(".claude/skills/group/inner"),
    /^\.claude\/skills\/group: it is no skill, and OpenCode and Codex see skills in it, .* \(inner\/SKILL\.md\): link or move/m,
    (box) => box.remove(".claude/skills/group"),
  ],
  [
    "a skill.md in lower case",
    (box) => box.write(".opencode/skills/low/skill.md", skillText("low")),
    /^\.opencode\/skills\/low: agents cannot use it: it has no SKILL\.md, but "skill\.md", and agents look for SKILL\.md: rename/m,
    (box) => box.remove(".opencode/skills/low"),
  ],
  [
    "one name with two contents",
    (box) => box.write(`${box.home}/.claude/skills/hq/SKILL.md`, skillText("hq") + "Differently.\n"),
    /^~\/\.claude\/skills\/hq: claude finds another "hq" in \.claude\/skills\/hq: take one away, or give it another name/m,
    (box) => box.remove(`${box.home}/.claude/skills/hq`),
  ],
  [
    "a plugin above a linked skill",
    (box) => {
      box.write("tools/.claude-plugin/plugin.json", "{}");
      box.skills("tools/skills/lint");
      box.link(".agents/skills/lint", "../../tools/skills/lint");
    },
    /^\.agents\/skills\/lint: Codex counts it to the plugin in tools, and names it after that: deploy it with --copy/m,
    (box) => box.remove(".agents"),
  ],
  [
    "a CODEX_HOME that is not there",
    (box) => box.environment["CODEX_HOME"] = `${box.path}/codex`,
    /codex: CODEX_HOME names it, and Codex stops without such a folder: mkdir -p .*\/codex$/m,
    (box) => box.directory(`${box.path}/codex`),
  ],
  [
    "a CODEX_HOME without a login",
    (box) => box.write(`${box.home}/.codex/auth.json`, "{}"),
    /codex: Codex is not logged in with this CODEX_HOME, and is in ~\/\.codex: ln -sf ~\/\.codex\/auth\.json .*auth\.json$/m,
    (box) => box.link(`${box.path}/codex/auth.json`, `${box.home}/.codex/auth.json`),
  ],
  [
    "a folder that is a link",
    (box) => {
      Deno.renameSync(box.at(".claude/skills"), box.at(".claude/real"));
      box.link(".claude/skills", "real");
    },
    /^\.claude\/skills: the folder is itself a link, which not every agent follows: rm \.claude\/skills, then sync$/m,
    (box) => {
      box.remove(".claude/skills");
      Deno.renameSync(box.at(".claude/real"), box.at(".claude/skills"));
    },
  ],
  [
    "programs that are not on the PATH",
    (box) => box.write("skills/hq/SKILL.md", front("hq", "metadata:\n  requires: sh  no-such-program nor-this\n")),
    /^skills\/hq: it needs what is not on the PATH: no-such-program, nor-this$/m,
    (box) => box.skills("hq"),
  ],
  [
    "a skill that no agent can use",
    (box) => box.write("skills/hq/SKILL.md", "# No front matter\n"),
    /^skills\/hq: agents cannot use it: it has no front matter$/m,
    (box) => box.skills("hq"),
  ],
  [
    "links that an older script has left",
    (box) => {
      box.skills("unwanted", "not wanted");
      for (const name of ["unwanted", "not wanted"]) box.link(`.claude/skills/${name}`, `../../skills/${name}`);
    },
    /^\.claude\/skills: an older script has left links here that \.skills does not name: name them, or rm '.*\/\.claude\/skills\/not wanted' \.claude\/skills\/unwanted$/m,
    (box) => ["unwanted", "not wanted"].forEach((name) => box.remove(`.claude/skills/${name}`)),
  ],
];

/** What the README's section on troubleshooting says that the doctor says. */
function sayings(): string[] {
  const readme = Deno.readTextFileSync(new URL("../README.md", import.meta.url));
  const [section = ""] = readme.split("\n## Troubleshooting\n")[1]?.split("\n## ") ?? [];
  return [...section.matchAll(/^\| `([^`]+)` \| .* \| .* \|$/gm)].map(([, saying = ""]) => saying);
}

describe("doctor", () => {
  it("finds what is wrong, says what to do, and is content once that is done", async () => {
    const everything: string[] = [];
    using box = new Sandbox();
    box.skills("hq");
    box.manifest("hq for claude");
    await box.done();
    assertEquals(await doctor(box), { status: 0, said: "" });
    for (const [what, make, expected, cure] of ILLS) {
      make(box);
      const before = stamps(box.path);
      const { status, said } = await doctor(box);
      assertEquals(status, 1, what);
      assertMatch(said, expected, what);
      everything.push(said);
      assertEquals(stamps(box.path), before, `${what}: something was written`);
      cure?.(box);
      if (what === "a CODEX_HOME that is not there") continue; // what cures it calls for the next
      assertEquals(await doctor(box), { status: 0, said: "" }, `after ${what}`);
    }
    const unheard = sayings().filter((saying) => !everything.join().includes(saying));
    // These have tests of their own.
    assertEquals(unheard, ["cannot be deployed", "it is gone, and what it had deployed is not"]);
    for (const said of everything) {
      assert(sayings().some((saying) => said.includes(saying)), `not in the README: ${said}`);
    }
  });

  it("runs its own commands with success", async () => {
    using box = new Sandbox();
    box.skills("hq", "un'wanted");
    box.manifest("hq for claude");
    await box.done();
    box.link(".claude/skills/un'wanted", "../../skills/un'wanted");
    box.link(".claude/skills/old", "nowhere");
    const { said } = await doctor(box);
    for (const [, command = ""] of said.matchAll(/(?:: |, or )(rm .*)$/gm)) {
      const { success } = await new Deno.Command("sh", { args: ["-c", command], cwd: box.repo }).output();
      assert(success, command);
    }
    assertEquals(await doctor(box), { status: 0, said: "" });
    assertEquals(isThere(box.at(".claude/skills/hq")), true);
  });

  it("tells of each agent what it sees, in which folder, and whose it is", async () => {
    using box = new Sandbox();
    box.skills("hq");
    box.manifest("hq for claude cursor ./tools/skills");
    await box.done();
    box.skills(".agents/skills/theirs");
    box.write(`${box.home}/.config/opencode/skills/mine/SKILL.md`, skillText("mine"));
    const { stdout } = await box.run("doctor");
    assertEquals(
      stdout,
      [
        "claude",
        "  .claude/skills",
        "     hq  skills/hq",
        "opencode",
        "  .claude/skills",
        "     hq  skills/hq",
        "  .agents/skills",
        "     theirs  .agents/skills/theirs (not ours)",
        "  ~/.config/opencode/skills",
        "     mine  ~/.config/opencode/skills/mine (not ours)",
        "codex",
        "  .agents/skills",
        "     theirs  .agents/skills/theirs (not ours)",
        "cursor",
        "  .cursor/skills",
        "     hq  skills/hq",
        "./tools/skills",
        "  tools/skills",
        "     hq  skills/hq",
        "",
      ].join("\n"),
    );
  });

  it("looks above the directory that it is started in, up to the repo's root", async () => {
    using box = new Sandbox();
    box.directory(".git");
    box.skills(".claude/skills/top", "a/.claude/skills/middle", "a/b/.claude/skills/here", "../.claude/skills/outside");
    const { stdout } = await box.run("doctor", "-C", "a/b", "--json");
    const [claude] = JSON.parse(stdout).agents;
    const names = claude.folders.flatMap((folder: { skills: { name: string }[] }) =>
      folder.skills.map(({ name }) => name)
    );
    assertEquals(names, ["here", "middle", "top"]);
  });

  it("notes what an agent reads twice, with the line that avoids it", async () => {
    using box = new Sandbox();
    box.skills("hq", "review-gate");
    box.manifest("hq", "review-gate");
    await box.done();
    const { status, said } = await doctor(box);
    assertEquals(status, 0);
    assertEquals(
      said,
      ".skills: Note: opencode reads hq, review-gate twice, in .opencode/skills and .claude/skills: " +
        'with "for claude" (and codex, where CODEX_HOME is set) at the end of their lines, it reads them once\n',
    );
    box.manifest("for claude", "hq", "review-gate");
    await box.done();
    assertEquals(await doctor(box), { status: 0, said: "" });
  });

  it("does not count twice for Codex what it goes to by its real path", async () => {
    using box = new Sandbox();
    box.skills("tools/hq");
    for (const folder of [".agents/skills", ".codex/skills"]) box.link(`${folder}/hq`, "../../tools/hq");
    box.manifest("./tools/hq for agents");
    assertEquals(await doctor(box), { status: 0, said: "" });
  });

  it("finds what repos that are gone have left, and clean removes it", async () => {
    using box = new Sandbox();
    box.environment["CODEX_HOME"] = `${box.home}/.codex`;
    box.directory(`${box.home}/.codex`);
    box.enter("gone");
    box.skills("hq", "pdf");
    box.manifest("hq for codex", "pdf for codex");
    await box.done();
    box.enter("also-gone");
    box.skills("a");
    box.manifest("a for claude");
    await box.done();
    box.enter("repo");
    for (const name of ["gone", "also-gone"]) Deno.removeSync(`${box.path}/${name}`, { recursive: true });
    box.manifest();
    const { status, said } = await doctor(box);
    assertEquals(status, 1);
    const left = new RegExp(
      `^${box.path}/gone/\\.skills: it is gone, and what it had deployed is not \\(hq, pdf\\): .* clean -C ${box.path}/gone$`,
      "m",
    );
    assertMatch(said, left);
    assertStringIncludes(
      said,
      `Note: nothing but a record is left of ${box.path}/also-gone: use-skills.ts clean -C DIR`,
    );
    for (const name of ["gone", "also-gone"]) await box.run("clean", "-C", `${box.path}/${name}`);
    assertEquals(await doctor(box), { status: 0, said: "" });
    assertEquals(isThere(`${box.home}/.codex/skills`), false);
    assertStringIncludes(await box.fails(2, "clean", "-C", `${box.path}/gone`), "No directory");
  });

  it("is of use where there is no manifest, or one that cannot be read", async () => {
    using box = new Sandbox();
    box.skills(".claude/skills/hq");
    const { status, said } = await doctor(box);
    assertEquals([status, said], [0, ".skills: Note: it is not there, so nothing is deployed from here\n"]);
    box.manifest("hq as");
    const { status: wrong, said: why } = await doctor(box);
    assertEquals([wrong, why], [1, '.skills:1: No name follows "as"\n']);
  });

  it("looks at a home's own folders with --global", async () => {
    using box = new Sandbox();
    box.skills(".claude/skills/project");
    box.write(`${box.home}/.claude/skills/own/SKILL.md`, skillText("own"));
    const { stdout } = await box.run("doctor", "--global");
    assertStringIncludes(stdout, "  ~/.claude/skills\n     own  ~/.claude/skills/own (not ours)\n");
    assertEquals(stdout.includes("project"), false);
  });

  for (
    const [lines, way] of [
      [["hq"], 'with "for claude codex" at the end'],
      [["hq", "./skills/hq as foo"], ".skills names it as foo and hq"],
      [["hq for claude opencode cursor"], 'with "for claude cursor" at the end'],
      [["hq for claude agents"], "each is there for another agent, so there is nothing to do"],
    ] as const
  ) {
    it(`says for ${lines} what loses no other agent its skills`, async () => {
      using box = new Sandbox();
      box.directory("codex");
      box.environment["CODEX_HOME"] = `${box.repo}/codex`;
      box.skills("hq");
      box.manifest(...lines);
      await box.done();
      const { status, said } = await doctor(box);
      assertEquals(status, 0);
      assertMatch(said, /^\.skills: Note: opencode reads hq twice, in .*: /m);
      assertStringIncludes(said, way);
    });
  }

  it("counts as an older script's only what .skills names for no agent, and only where it can be read", async () => {
    using box = new Sandbox();
    box.skills("hq", "tools/other");
    box.link(".claude/skills/hq", "../../skills/hq");
    box.link(".claude/skills/other", "../../tools/other");
    box.link(`${box.home}/.claude/skills/mine`, `${box.repo}/skills/hq`);
    box.manifest("hq for cursor");
    assertEquals((await doctor(box)).status, 0);
    box.manifest("a b c");
    const { said } = await doctor(box);
    assertEquals(said.includes("older script"), false, said);
  });

  it("never has a person remove what is their own", async () => {
    using box = new Sandbox();
    box.enter("other");
    box.skills("zz", "yy");
    box.manifest(`for ${box.path}/repo/.claude/skills`, "zz", "yy");
    await box.done();
    box.enter("repo");
    Deno.removeSync(`${box.path}/other`, { recursive: true });
    Deno.removeSync(`${box.home}/.local`, { recursive: true }); // nothing knows of that repo but the folder itself
    box.remove(".claude/skills/zz");
    box.skills(".claude/skills/zz");
    const { said } = await doctor(box);
    assertStringIncludes(said, "it is gone, and what it had deployed is not (yy): rm -r .claude/skills/yy\n");
  });

  it("knows whose a folder's entries are where it is a link to another depth, and what else is in it", async () => {
    using box = new Sandbox();
    box.skills("hq");
    box.directory("a/b/c/skills");
    box.link(".claude/skills", "../a/b/c/skills");
    box.manifest("hq for claude");
    await box.done();
    box.skills("a/b/c/skills/own");
    const { said } = await doctor(box);
    const way = "rm .claude/skills, then sync, and link own into the new folder, one by one";
    assertEquals(said, `.claude/skills: the folder is itself a link, which not every agent follows: ${way}\n`);
  });

  it("has clean remove what a repo inside of another has left, and leave the outer one's", async () => {
    using box = new Sandbox();
    box.skills("hq", "inner/skills/sub");
    box.manifest("hq");
    box.write("inner/.skills", "sub\n");
    await box.done();
    await box.done("-C", "inner");
    box.remove("inner/.skills");
    const { said } = await doctor(box, "-C", "inner");
    assertStringIncludes(said, "use-skills.ts clean -C inner\n");
    await box.done("clean", "-C", "inner");
    assertEquals([isThere(box.at(".claude/skills/hq")), isThere(box.at("inner/.claude"))], [true, false]);
  });

  it("names clean --global for a home's manifest that is gone", async () => {
    using box = new Sandbox();
    box.skills("hq");
    // Into a folder that no agent which is looked at reads: only the record names it, from the home.
    box.write(`${box.home}/.config/use-skills/skills`, `${box.repo}/skills/hq for cursor\n`);
    await box.done("--global");
    box.remove(`${box.home}/.config/use-skills/skills`);
    const { said } = await doctor(box);
    assertMatch(said, /it is gone, and what it had deployed is not \(hq\): use-skills\.ts clean --global$/m);
    await box.done("clean", "--global");
    assertEquals(isThere(`${box.home}/.cursor/skills`), false);
  });

  it("says where to mend what another manifest has there", async () => {
    using box = new Sandbox();
    box.skills("hq");
    box.write(`${box.home}/.config/use-skills/skills`, `${box.repo}/skills/hq\n`);
    await box.done("--global");
    box.remove("skills/hq");
    const { said } = await doctor(box);
    assertStringIncludes(said, "bring it back, or take it out of ~/.config/use-skills/skills; then sync there\n");
  });

  it("takes for equal only what it has read", async () => {
    using box = new Sandbox();
    box.skills("hq");
    box.manifest("hq for claude");
    await box.done();
    box.link("skills/hq/dead", "nowhere");
    box.write(`${box.home}/.claude/skills/hq/SKILL.md`, skillText("hq") + "Differently.\n");
    box.link(`${box.home}/.claude/skills/hq/dead`, "nowhere");
    assertMatch((await doctor(box)).said, /claude finds another "hq"/);
  });

  it("finds a CODEX_HOME that is no folder, and a login that leads nowhere", async () => {
    using box = new Sandbox();
    box.environment["CODEX_HOME"] = `${box.path}/codex`;
    box.link(`${box.path}/codex`, "nowhere");
    assertMatch((await doctor(box)).said, /Codex stops without such a folder: rm .*\/codex$/m);
    box.remove(`${box.path}/codex`);
    box.write(`${box.path}/codex`, "");
    assertMatch((await doctor(box)).said, /Codex stops without such a folder: move away what is there, then rm /);
    box.remove(`${box.path}/codex`);
    box.link(`${box.path}/codex/auth.json`, "nowhere");
    box.write(`${box.home}/.codex/auth.json`, "{}");
    const [, command = ""] = (await doctor(box)).said.match(/in ~\/\.codex: (ln .*)$/m) ?? [];
    const { success } = await new Deno.Command("sh", { args: ["-c", command], env: { HOME: box.home } }).output();
    assert(success, command);
    assertEquals((await doctor(box)).status, 0);
  });

  it("leaves alone what is well where nothing is deployed", async () => {
    using box = new Sandbox();
    box.skills("hq", "dotfiles/mine");
    box.link(".claude/skills/hq", "../../skills/hq"); // by hand
    box.link(`${box.home}/.claude/skills`, `${box.repo}/dotfiles`);
    box.link(".codex/skills", "../.claude/skills");
    assertEquals((await doctor(box)).said, ".skills: Note: it is not there, so nothing is deployed from here\n");
  });

  it("finds a file where a folder has to be, and a link that leads in circles", async () => {
    using box = new Sandbox();
    box.write(".opencode/skills", "");
    box.link(".claude/skills/loop", "loop");
    const { said } = await doctor(box);
    assertStringIncludes(said, ".opencode/skills: it is not a folder: move it away, then sync\n");
    assertStringIncludes(said, '.claude/skills/loop: this link leads nowhere, to "loop": rm .claude/skills/loop\n');
  });

  it("says who asks for what an agent reads twice", async () => {
    using box = new Sandbox();
    box.skills("hq");
    box.write(`${box.home}/.config/use-skills/skills`, `${box.repo}/skills/hq\n`);
    await box.done("--global");
    box.manifest();
    assertStringIncludes(
      (await doctor(box)).said,
      "~/.config/use-skills/skills asks for both, and doctor says more there\n",
    );
    box.manifest("hq for claude");
    await box.done();
    assertStringIncludes((await doctor(box)).said, "take it out of one of .skills and ~/.config/use-skills/skills\n");
    await box.done("clean", "--global");
    box.skills(`../home/.claude/skills/hq`);
    assertStringIncludes((await doctor(box)).said, "take away one that use-skills did not make, if it is not needed\n");
  });

  it("leaves a moved repo to sync", async () => {
    using box = new Sandbox();
    box.environment["CODEX_HOME"] = `${box.home}/.codex`;
    box.skills("hq");
    box.manifest("hq for codex");
    await box.done();
    Deno.renameSync(box.repo, `${box.path}/moved`);
    box.repo = `${box.path}/moved`;
    const { said } = await doctor(box);
    assertMatch(said, /hq: this link leads nowhere, to .*: sync$/m);
    assertEquals(said.includes("it is gone, and what"), false, said);
    await box.done();
    assertEquals((await doctor(box)).status, 0);
  });

  it("says what keeps a skill of the manifest from being seen at all", async () => {
    using box = new Sandbox();
    box.write("skills/low/skill.md", skillText("low"));
    box.manifest("low", "nosuch");
    const { status, said } = await doctor(box);
    assertEquals(status, 1);
    assertStringIncludes(said, '.skills:1: "low" cannot be deployed: it has no SKILL.md, but "skill.md"');
    assertStringIncludes(said, '.skills:2: No skill "nosuch"');
  });

  it("shows a name that could pass for its own words as one", async () => {
    using box = new Sandbox();
    box.link(".claude/skills/x\nuse-skills: all is well", "nowhere");
    const { said } = await doctor(box);
    assertEquals(said.split("\n").filter((line) => line.startsWith("use-skills")), []);
    box.remove(".claude/skills/x\nuse-skills: all is well");
    box.skills(".claude/skills/y\nuse-skills: all is well");
    const { stdout, stderr } = await box.run("doctor");
    assertEquals((stdout + stderr).split("\n").filter((line) => line.startsWith("use-skills")), []);
  });

  it("shows with --quiet what is wrong alone", async () => {
    using box = new Sandbox();
    box.skills("hq");
    box.manifest("hq");
    await box.done();
    assertEquals(await box.done("doctor", "--quiet"), "");
  });

  requires("setpriv")("goes on where a folder cannot be read", async () => {
    using box = new Sandbox();
    box.skills("hq");
    box.manifest("hq for claude");
    box.directory(".opencode/skills");
    Deno.chmodSync(box.at(".opencode/skills"), 0o000);
    const { status, stdout, stderr } = await box.runUnprivileged("doctor");
    assertEquals([status, stderr], [1, ".opencode/skills: it cannot be read: Permission denied\n"]);
    assertStringIncludes(stdout, "claude\n");
  });
});

/** Runs the doctor; gives what it says besides what is seen. */
async function doctor(box: Sandbox, ...args: string[]): Promise<{ status: number; said: string }> {
  const { status, stderr } = await box.run("doctor", ...args);
  return { status, said: stderr };
}

describe("sync", () => {
  it("says once which of the programs that a skill requires are missing", async () => {
    using box = new Sandbox();
    box.write("skills/hq/SKILL.md", front("hq", "metadata:\n  requires: sh no-such-program nor-this\n"));
    box.manifest("hq");
    const said = await box.done();
    assertEquals(said.split("\n").slice(1), [
      '.skills:1: "hq" needs what is not on the PATH: no-such-program, nor-this',
      "",
    ]);
    assertEquals(await box.done(), "");
  });
});
