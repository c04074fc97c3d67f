/** Which content of other people's repos is refused, with which message, and that nothing in a repo is run. */
import { assert, assertEquals } from "jsr:@std/assert@^1";
import { describe } from "jsr:@std/testing@^1/bdd";
import type { FileContent } from "./forge.ts";
import { AGENTS, PDF, Setting } from "./git_helpers.ts";
import { execute, isThere, requires, skillText } from "./helpers.ts";

const it = requires("git", "openssl");

const REFUSED = 'Refused "bad": ';
const TOO_LONG = "Cannot fetch https://github.com/REPO: git lists more than 8 MiB (--allow-large)";
const SAME = "are the same name on some systems";

/** Files of the skill `bad`. */
function bad(files: Record<string, FileContent>): Record<string, FileContent> {
  const all = { "SKILL.md": skillText("bad"), ...files };
  return Object.fromEntries(Object.entries(all).map(([path, content]) => [`bad/${path}`, content]));
}

/** The message about hidden characters. */
function hidden(tree: string, ...places: string[]): string {
  return `"team/skills/bad" contains hidden characters: ${places.join("; ")}; read it in ` +
    `~/.local/share/use-skills/store/${tree}/bad; if they are intended, write "team/skills/bad trust" into .skills`;
}

describe("a stranger's skill", () => {
  const refused: [what: string, files: Record<string, FileContent>, message: string][] = [
    [
      "a link out of it",
      { "a/l": { link: "../../.." } },
      `${REFUSED}the link "a/l" leads out of the skill, to "../../.."`,
    ],
    [
      "a link that will lead out of it",
      { "a/l": { link: "../../later" } },
      `${REFUSED}the link "a/l" leads out of the skill, to "../../later"`,
    ],
    [
      "a link out of it by way of another link",
      { up: { link: "a/b" }, "a/b/x": "", "a/b/out": { link: "../../up/../../.." } },
      `${REFUSED}the link "a/b/out" leads out of the skill, to "../../up/../../.."`,
    ],
    [
      "a link that will lead out of it by way of another link",
      { "q/d": { link: ".." }, "q/x": { link: "d/../later" } },
      `${REFUSED}the link "q/x" is broken`,
    ],
    [
      "an absolute link",
      { l: { link: "/etc/passwd" } },
      `${REFUSED}the link "l" leads out of the skill, to "/etc/passwd"`,
    ],
    ["a link to nothing", { l: { link: "nosuch" } }, `${REFUSED}the link "l" is broken`],
    ["a link to itself", { l: { link: "l" } }, `${REFUSED}the link "l" is broken`],
    ["directories that differ in case", { "a/x": "", "A/x": "" }, `${REFUSED}"a/x" and "A/x" ${SAME}`],
    ["files that differ in case", { "n/Read": "", "n/read": "" }, `${REFUSED}"n/read" and "n/Read" ${SAME}`],
    ["a file and a directory that differ in case", { "X/y": "", x: "" }, `${REFUSED}"x" and "X" ${SAME}`],
    ["names that differ in ß", { "stra\u00dfe": "", strasse: "" }, `${REFUSED}"stra\u00dfe" and "strasse" ${SAME}`],
    ["names that differ in ſ", { "\u017fo": "", so: "" }, `${REFUSED}"\u017fo" and "so" ${SAME}`],
    ["names that differ in a ligature", { "\ufb01x": "", fix: "" }, `${REFUSED}"\ufb01x" and "fix" ${SAME}`],
    ["names that differ in composition", { "\u00e9": "", "e\u0301": "" }, `${REFUSED}"\u00e9" and "e\u0301" ${SAME}`],
    [".git in it", { ".git/config": "" }, `${REFUSED}it contains ".git/config"`],
    [".GIT in it", { "a/.GIT/hooks/x": "" }, `${REFUSED}it contains "a/.GIT/hooks/x"`],
    ["a file .git in it", { ".git": "gitdir: /x\n" }, `${REFUSED}it contains ".git"`],
    ["git~1 in it", { "git~1": "" }, `${REFUSED}it contains "git~1"`],
    [".git with a hidden character", { ".g\u200cit/x": "" }, `${REFUSED}it contains ".g\\u200cit/x"`],
    [".git with a dot at its end", { ".git./x": "" }, `${REFUSED}it contains ".git./x"`],
    ["a path upwards", { "../evil": "" }, `${REFUSED}it contains "../evil"`],
    ["a directory called .", { "./evil": "" }, `${REFUSED}it contains "./evil"`],
    [
      "a submodule",
      { "lib/x": { submodule: "1".repeat(40) } },
      `${REFUSED}"lib/x" is a submodule, or has another mode that is not allowed`,
    ],
    ["a name of 256 bytes", { ["x".repeat(256)]: "" }, `${REFUSED}the name "${"x".repeat(200)}..." is too long`],
    ["a link with a long text", { l: { link: "a".repeat(5000) } }, `${REFUSED}the link "l" is empty or too long`],
    ["a link without a text", { l: { link: "" } }, `${REFUSED}the link "l" is empty or too long`],
    ["a name that is not UTF-8", { "a\udcff": "" }, `${REFUSED}the name "a\ufffd" is not UTF-8`],
    [
      "5,001 files",
      Object.fromEntries(Array.from({ length: 5_000 }, (_, index) => [`n/${index}`, ""])),
      `${REFUSED}it has 5001 files, more than 5000 (--allow-large)`,
    ],
    ["a tag character", { "a.md": "a\n\u{E0041}" }, hidden("TREE", "bad/a.md:2:1 U+E0041 tag character")],
    [
      "a bidirectional control",
      { "SKILL.md": `${skillText("bad")}\u202e` },
      hidden("TREE", "bad/SKILL.md:7:1 U+202E bidirectional control"),
    ],
    [
      "a zero-width character",
      { "x/y.txt": "ab\u200b" },
      hidden("TREE", "bad/x/y.txt:1:3 U+200B zero-width character"),
    ],
    ["a lone carriage return", { "a.md": "Do evil\rDo good\n" }, hidden("TREE", "bad/a.md:1:8 U+000D carriage return")],
    ["a private-use character", { "a.md": "\ue000" }, hidden("TREE", "bad/a.md:1:1 U+E000 private-use character")],
    [
      "a hidden character in a file's name",
      { "a\u200bb": "" },
      hidden("TREE", 'bad/the name "a\\u200bb":1:2 U+200B zero-width character'),
    ],
    [
      "many hidden characters",
      { "a.md": "\u200b\n".repeat(7) },
      hidden("TREE", ...[1, 2, 3, 4, 5].map((line) => `bad/a.md:${line}:1 U+200B zero-width character`), "and 2 more"),
    ],
    [
      "a hidden character after much that is no text",
      { "a.md": new Uint8Array([...Array(9000).fill(255), 0, 0xe2, 0x80, 0xae]) },
      hidden("TREE", "bad/a.md:1:9002 U+202E bidirectional control"),
    ],
  ];
  for (const [what, files, message] of refused) {
    it(`with ${what} is refused, and others are deployed`, async () => {
      await using setting = await Setting.start({ ...PDF, ...bad(files) });
      const { box } = setting;
      box.manifest("team/skills/bad", "team/skills/skills/pdf");
      const tree = message.includes("TREE") ? await setting.hash("main:bad") : "";
      const expected = message.replace("TREE", tree);
      assertEquals(await box.fails(1), `use-skills: linked pdf for ${AGENTS}\n.skills:1: ${expected}\n`);
      assertEquals(Object.keys(setting.links), ["pdf"]);
      assertEquals(isThere(`${box.home}/evil`) || isThere(`${box.path}/evil`), false);
    });
  }

  it("with hidden characters is named with its place in the store if a reference names many", async () => {
    await using setting = await Setting.start({ ...PDF, "skills/bad/SKILL.md": `${skillText("bad")}\u200b` });
    const place = `~/.local/share/use-skills/store/${await setting.hash("main:skills/bad")}/bad`;
    assertEquals(
      await setting.box.fails(1, "add", "team/skills/skills/*"),
      '.skills: "team/skills/skills/*" contains hidden characters: bad/SKILL.md:7:1 U+200B zero-width character; ' +
        `read it in ${place}; if they are intended, write "team/skills/skills/* trust" into .skills\n`,
    );
    assertEquals(isThere(place.replace("~", setting.box.home)), true);
  });

  it("with a list of files that is too long does not make other skills of the repo fail", async () => {
    await using setting = await Setting.start({ ...PDF, "bad/SKILL.md": skillText("bad") });
    const { box, forge } = setting;
    await forge.commit("team/skills", { "bad/x": { tree: forge.nestedTrees("team/skills", 7, 12) } });
    box.manifest("team/skills/bad", "team/skills/skills/pdf");
    assertEquals(
      await box.fails(1),
      `use-skills: linked pdf for ${AGENTS}
.skills:1: ${TOO_LONG.replace("REPO", "team/skills")}\n`,
    );
  });

  it("in a repo whose list of files is too long is found by its path, but not by its name", async () => {
    await using setting = await Setting.start();
    const { box, forge } = setting;
    await forge.commit("team/large", PDF);
    const hash = await forge.commit("team/large", { x: { tree: forge.nestedTrees("team/large", 4, 20) } });
    box.manifest("team/large/nosuch");
    assertEquals(
      await box.fails(1),
      `.skills:1: "team/large/nosuch": https://github.com/team/large has no directory "nosuch" at ${
        hash.slice(0, 7)
      }\n`,
    );
    box.manifest();
    assertEquals(
      await box.fails(1, "add", "team/large@pdf"),
      `use-skills: ${TOO_LONG.replace("REPO", "team/large")}\n`,
    );
    assertEquals(
      await box.done("add", "-q", "--allow-large", "team/large@pdf"),
      "",
    );
    assertEquals(Object.keys(setting.links), ["pdf"]);
  });

  it("in a repo with a list of branches that is too long does not make skills of other repos fail", async () => {
    await using setting = await Setting.start();
    const { box, forge } = setting;
    const hash = await forge.commit("team/branches", PDF);
    const refs = Array.from({ length: 4500 }, (_, number) => `${hash} refs/x/${"x".repeat(2000)}/${number}/HEAD`);
    Deno.writeTextFileSync(`${forge.path}/team/branches.git/packed-refs`, refs.map((ref) => `${ref}\n`).join(""));
    box.manifest("team/branches", "team/skills/skills/pdf");
    const message = TOO_LONG.replace("REPO", "team/branches");
    assertEquals(await box.fails(1), `use-skills: linked pdf for ${AGENTS}\n.skills:1: ${message}\n`);
    assertEquals(await box.fails(1, "add", "team/branches@pdf"), `use-skills: ${message}\n`);
  });

  const accepted: [what: string, files: Record<string, FileContent>][] = [
    ["emoji and scripts that need joiners", { "a.md": "👩‍💻 ❤️ می‌شود\n" }],
    ["links inside it", { l: { link: "a/b" }, "a/b": "x", "a/up": { link: "../a/b" } }],
    ["names that only look alike", { "a/x": "", "b/X": "", "stra\u00dfe": "", strase: "", ".gitignore": "x\n" }],
    ["CRLF line ends", { "a.md": "one\r\ntwo\r\n" }],
    ["5,000 files", Object.fromEntries(Array.from({ length: 4_999 }, (_, index) => [`n/${index}`, ""]))],
  ];
  for (const [what, files] of accepted) {
    it(`with ${what} is accepted`, async () => {
      await using setting = await Setting.start(bad(files));
      setting.box.manifest("team/skills/bad");
      assertEquals(await setting.box.done(), `use-skills: linked bad for ${AGENTS}\n`);
      assertEquals(await setting.box.done("check"), "");
    });
  }

  it("of more than 50 MiB is accepted with --allow-large only, and a refused download is not kept", async () => {
    const files = Object.fromEntries(
      Array.from({ length: 51 }, (_, index) => [`${index}`, new Uint8Array(2 ** 20).fill(index + 65)]),
    );
    await using setting = await Setting.start(bad(files));
    const { box } = setting;
    box.manifest("team/skills/bad");
    assertEquals(
      await box.fails(1),
      '.skills:1: Refused "bad": it has 52 MiB, more than 50 (--allow-large)\n',
    );
    assertEquals([setting.cachedPaths.filter((path) => /\/objects\/(pack\/.|..\/)/.test(path)), setting.store], [
      [],
      {},
    ]);
    assertEquals(await box.done("--allow-large"), `use-skills: linked bad for ${AGENTS}\n`);
    assertEquals(Object.values(setting.locked).map((each) => `${each["large"]}`), ["true"]);
    setting.forgetAll();
    assertEquals(await box.done("--frozen"), `use-skills: linked bad for ${AGENTS}\n`);
  });

  requires("git", "openssl", "python3")(
    "that expands to millions of entries is refused with little memory",
    async () => {
      await using setting = await Setting.start();
      const { box, forge } = setting;
      await forge.commit("team/bomb", bad({}));
      await forge.commit("team/bomb", bad({ x: { tree: forge.nestedTrees("team/bomb", 8, 12) } }));
      for (const text of ["team/bomb/bad", "team/bomb/*", "team/bomb"]) {
        box.manifest(text);
        const measure = "import resource, subprocess, sys\n" +
          "status = subprocess.call(sys.argv[1:])\n" +
          "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)\nsys.exit(status)\n";
        const words = ["python3", "-c", measure, ...await box.call()];
        const { status, stdout, stderr } = await execute(words, await box.start());
        assertEquals([status, stderr], [
          1,
          `.skills:1: ${TOO_LONG.replace("REPO", "team/bomb")}\n`,
        ]);
        const kilobytes = Number(stdout) / (Deno.build.os === "darwin" ? 1024 : 1);
        assert(kilobytes > 0 && kilobytes < 150 * 1024, `${kilobytes} kB`);
      }
    },
  );

  it("with a path of more than 4,000 characters is refused", async () => {
    const deep = Array.from({ length: 21 }, () => "d".repeat(200)).join("/");
    await using setting = await Setting.start(bad({ [deep]: "" }));
    setting.box.manifest("team/skills/bad");
    assertEquals(
      await setting.box.fails(1),
      ".skills:1: https://github.com/team/skills has a path of more than 4,000 characters\n",
    );
  });

  const wide: [what: string, files: Record<string, FileContent>][] = [
    ["1,000 directories in each other", { [`${"d/".repeat(1_000)}x`]: "x" }],
    [
      "1,000 files of one directory",
      Object.fromEntries(Array.from({ length: 1_000 }, (_, index) => [`n/${index}`, "x"])),
    ],
    [
      "1,000 files at the end of 400 directories in each other",
      Object.fromEntries(Array.from({ length: 1_000 }, (_, index) => [`${"d/".repeat(400)}${index}`, "x"])),
    ],
  ];
  for (const [what, files] of wide) {
    it(`with ${what} is accepted`, async () => {
      await using setting = await Setting.start(bad(files));
      const { box } = setting;
      box.manifest("team/skills/bad");
      assertEquals(await box.done(), `use-skills: linked bad for ${AGENTS}\n`);
      assertEquals(await box.done("check"), "");
    });
  }

  it("with hidden characters is not covered by trust for other content, even if the lockfile is changed", async () => {
    await using setting = await Setting.start(bad({ "a.md": "clean" }));
    const { box, forge } = setting;
    box.manifest("team/skills/bad trust");
    await box.done();
    const commit = await forge.commit("team/skills", { "bad/a.md": "\u200b" });
    const tree = await setting.hash("main:bad");
    const lock = box.read(".skills.lock").replace(/"commit":"\w+"/, `"commit":"${commit}"`)
      .replace(/"tree":"\w+"/, `"tree":"${tree}"`);
    box.write(".skills.lock", lock);
    assertEquals(
      await box.fails(1),
      '.skills:1: "team/skills/bad" contains hidden characters: bad/a.md:1:1 U+200B zero-width character; it changed ' +
        'since it was trusted: read it, then run "update --trust"\n',
    );
  });

  it("with hidden characters is refused by a project that does not trust it, though another has stored it", async () => {
    await using setting = await Setting.start(bad({ "a.md": "\u200b" }));
    const { box } = setting;
    box.manifest("team/skills/bad trust");
    await box.done();
    const lock = box.read(".skills.lock");
    box.enter("another");
    box.manifest("team/skills/bad");
    box.write(".skills.lock", lock.replace(/"trusted":"\w+",/, ""));
    const message = hidden(await setting.hash("main:bad"), "bad/a.md:1:1 U+200B zero-width character");
    assertEquals(await box.fails(1), `.skills:1: ${message}\n`);
    assertEquals(setting.links, {});
  });

  it("with hidden characters is examined again if the record of that is lost", async () => {
    await using setting = await Setting.start(bad({ "a.md": "\u200b" }));
    const { box } = setting;
    box.manifest("team/skills/bad");
    const message = await box.fails(1);
    const [marker = ""] = Object.keys(setting.store).filter((path) => path.endsWith("/.hidden.json"));
    Deno.removeSync(`${setting.storePath}/${marker}`);
    assertEquals(await box.fails(1), message);
    assertEquals(setting.links, {});
  });

  it("runs nothing: no hook, no filter, and nothing that the environment names for git", async () => {
    await using setting = await Setting.start({ ...PDF, ".gitattributes": "* filter=evil\n" });
    const { box } = setting;
    const evil = `touch ${box.path}/evil`;
    const scripts = [
      "evil.sh",
      ...["post-checkout", "reference-transaction", "post-index-change"].map((name) => `hooks/${name}`),
    ];
    for (const script of scripts) {
      box.write(`${box.home}/${script}`, `#!/bin/sh\n${evil}\n`);
      Deno.chmodSync(`${box.home}/${script}`, 0o755);
    }
    setting.configure(
      `[filter "evil"]\n\tsmudge = ${evil}\n\trequired = true\n[core]\n\thooksPath = ${box.home}/hooks\n`,
    );
    box.environment = {
      GIT_DIR: `${box.path}/nowhere`,
      GIT_INDEX_FILE: `${box.path}/evil`,
      GIT_EXTERNAL_DIFF: `${box.home}/evil.sh`,
      GIT_SSH_COMMAND: `${box.home}/evil.sh`,
      GIT_ASKPASS: `${box.home}/evil.sh`,
    };
    box.manifest("team/skills/skills/pdf");
    assertEquals(await box.done(), `use-skills: linked pdf for ${AGENTS}\n`);
    assertEquals([isThere(`${box.path}/evil`), isThere(`${box.path}/nowhere`)], [false, false]);
  });
});
