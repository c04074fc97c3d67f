/** What `.skills.lock` contains, when it changes, and what is not believed in it. */
import { assert, assertEquals } from "jsr:@std/assert@^1";
import { describe } from "jsr:@std/testing@^1/bdd";
import { AGENTS, PDF, Setting } from "./git_helpers.ts";
import { isThere, requires, skillText, stamps, tree, whatIs } from "./helpers.ts";

const it = requires("git", "openssl");

const URL = "https://github.com/team/skills";
const RESTORE = "restore the file from git, or delete it and sync";

describe(".skills.lock", () => {
  it("has the same bytes on every machine, and leads to the same files there", async () => {
    await using setting = await Setting.start();
    const { box, forge } = setting;
    box.manifest("team/skills/skills/pdf", "team/skills/skills/pdf#v1 as tagged");
    await box.done();
    const [lock, store] = [box.read(".skills.lock"), setting.store];
    setting.forgetAll();
    await forge.commit("team/skills", { "skills/pdf/new": "x" });
    await box.done();
    assertEquals([box.read(".skills.lock"), setting.store], [lock, store]);
    box.remove(".skills.lock");
    await forge.git("team/skills", "update-ref", "refs/heads/main", "v1");
    setting.forgetAll();
    await box.done();
    assertEquals(box.read(".skills.lock"), lock);
  });

  it("can have CRLF line ends, after a checkout that converts them", async () => {
    await using setting = await Setting.start();
    const { box } = setting;
    box.manifest("team/skills/skills/pdf");
    await box.done();
    box.write(".skills.lock", box.read(".skills.lock").replaceAll("\n", "\r\n"));
    assertEquals(await box.done("check"), "");
  });

  it("keeps what update wrote while add was fetching", async () => {
    await using setting = await Setting.start();
    const { box, forge } = setting;
    await forge.commit("team/other", { "SKILL.md": skillText("other") });
    box.manifest("team/skills/skills/pdf");
    await box.done();
    const commit = await forge.commit("team/skills", { "skills/pdf/new": "x" });
    let isUpdated = false;
    forge.onRequest = async (line) => {
      if (isUpdated || !line.includes("/other")) return;
      isUpdated = true;
      await box.done("update");
    };
    await box.done("add", "team/other");
    assertEquals(setting.locked["team/skills/skills/pdf"]?.["commit"], commit);
    assertEquals(isThere(`${setting.links["pdf"]}/new`), true);
  });

  it("is written with its mode, like the manifest, and in a home to where a link leads; neighbours stay", async () => {
    await using setting = await Setting.start();
    const { box } = setting;
    const manifest = `${box.home}/.config/use-skills/skills`;
    box.write("dotfiles/skills", "# mine\n");
    Deno.chmodSync(box.at("dotfiles/skills"), 0o600);
    box.link(manifest, box.at("dotfiles/skills"));
    box.write("dotfiles/skills.new/mine", "x");
    await box.done("add", "-g", "team/skills/skills/pdf");
    assertEquals(whatIs(manifest), `-> ${box.at("dotfiles/skills")}`);
    assertEquals(whatIs(box.at("dotfiles/skills")), "600 # mine\nteam/skills/skills/pdf\n");
    assertEquals(box.read("dotfiles/skills.new/mine"), "x");
    assertEquals(Object.keys(tree(box.path)).filter((path) => path.includes("/.use-skills.new")), []);
  });

  it("of version 1 is read, stays as it is until something is to change, and then becomes version 2", async () => {
    await using setting = await Setting.start();
    const { box } = setting;
    box.manifest("team/skills/skills/pdf");
    await box.done();
    const [first = "", line = "", ...end] = box.read(".skills.lock").split("\n");
    const old = [first, '"skills": {', line.replace(/,$/, ""), "},", '"version": 1', "}", ""].join("\n");
    box.write(".skills.lock", old);
    assertEquals([await box.done(), await box.done("check"), box.read(".skills.lock")], ["", "", old]);
    box.manifest("team/skills/skills/pdf", "team/skills/skills/pdf#v1 as tagged");
    await box.done("-q");
    assertEquals(box.read(".skills.lock"), [first, line, line.replace("pdf", "pdf#v1"), ...end].join("\n"));
  });

  it("loses what the manifest no longer names, and is removed with the last entry", async () => {
    await using setting = await Setting.start();
    const { box } = setting;
    box.skills("local");
    box.manifest("team/skills/skills/pdf", "team/skills/skills/pdf#v1 as tagged");
    await box.done();
    box.manifest("team/skills/skills/pdf#v1 as tagged");
    await box.done();
    assertEquals(Object.keys(setting.locked), ["team/skills/skills/pdf#v1"]);
    box.manifest("local");
    await box.done();
    assertEquals(isThere(box.at(".skills.lock")), false);
  });

  it("keeps an entry that could not be fetched", async () => {
    await using setting = await Setting.start();
    const { box, forge } = setting;
    box.manifest("team/skills/skills/pdf");
    await box.done();
    const lock = box.read(".skills.lock");
    setting.forgetAll();
    forge.mode = 500;
    await box.fails(1);
    assertEquals(box.read(".skills.lock"), lock);
  });

  const written = "this is not as use-skills writes it. After a merge, keep one line per skill, a comma after each, " +
    "and no conflict markers; otherwise restore the file from git, or delete it and sync";
  const text = (line: RegExp, change: (line: string) => string) => (text: string) => text.replace(line, change);
  const refused: [what: string, spoil: (text: string) => string, message: string][] = [
    ["conflict markers", text(/^"team/m, (line) => `<<<<<<< HEAD\n${line}`), `.skills.lock:2: ${written}`],
    ["conflict markers at the end", text(/^\}\n$/m, (line) => `>>>>>>> x\n${line}`), `.skills.lock:5: ${written}`],
    ["a missing comma", text(/\},\n/, () => "}\n"), `.skills.lock:2: ${written}`],
    ["a comma too many", text(/"version"/, () => ',"version"'), `.skills.lock:4: ${written}`],
    ["half of the text", (text) => text.slice(0, 16), `.skills.lock:2: ${written}`],
    ["no text", () => "", `.skills.lock:1: ${written}`],
    ["noise", () => "{ hello }\n", `.skills.lock:1: ${written}`],
    ["no entries", () => '{\n"version": 2\n}\n', `.skills.lock is not a lockfile: ${RESTORE}`],
    ["another kind of value", () => "[]\n", `.skills.lock:1: ${written}`],
    ["nothing but null", () => "null\n", `.skills.lock:1: ${written}`],
    ["no version", text(/,\n"version": 2/, () => ""), `.skills.lock:3: ${written}`],
    ["no end", text(/\}\n$/, () => ""), `.skills.lock is not a lockfile: ${RESTORE}`],
    [
      "a newer version",
      text(/"version": 2/, () => '"version": 3'),
      ".skills.lock was written by a newer use-skills: update this one",
    ],
    [
      "a tree that is a path",
      text(/"tree":"\w+"/, () => '"tree":"../../x"'),
      `.skills.lock has an invalid entry, "team/skills/skills/pdf": ${RESTORE}`,
    ],
    [
      "a path that goes upwards",
      text(/"path":"skills/, () => '"path":"..'),
      `.skills.lock has an invalid entry, "team/skills/skills/pdf": ${RESTORE}`,
    ],
    [
      "no skills where many are named",
      text(/"tree"/, () => '"skills":{},"tree"'),
      `.skills.lock has an invalid entry, "team/skills/skills/pdf": ${RESTORE}`,
    ],
    [
      "an entry twice, with other values",
      text(/^"team.*pdf":.*$/m, (line) => `${line.replace(/,$/, "").replace(/"commit":"\w/, '"commit":"0')},\n${line}`),
      `.skills.lock:3: ${written}`,
    ],
    [
      "an entry twice, with the same values",
      text(/^"team.*pdf":.*$/m, (line) => `${line.replace(/,$/, "")},\n${line}`),
      `.skills.lock:3: ${written}`,
    ],
    [
      "a key twice in an entry",
      text(/"tree":/, () => `"tree":"${"0".repeat(40)}","tree":`),
      `.skills.lock:2: ${written}`,
    ],
    [
      "a key that use-skills does not write",
      text(/"tree":/, () => '"extra":1,"tree":'),
      `.skills.lock:2: ${written}`,
    ],
    [
      "two entries on one line",
      text(/\},\n"team/, () => '},"team'),
      `.skills.lock:2: ${written}`,
    ],
  ];
  it("that is not as use-skills writes it is refused, the message names the line, and nothing changes", async () => {
    await using setting = await Setting.start();
    const { box } = setting;
    box.manifest("team/skills/skills/pdf", "team/skills/skills/pdf#v1 as tagged");
    await box.done();
    const lock = box.read(".skills.lock");
    const messages: Record<string, string> = {};
    for (const [what, spoil] of refused) {
      const spoilt = spoil(lock);
      assert(spoilt !== lock, what);
      box.write(".skills.lock", spoilt);
      const before = stamps(box.repo);
      messages[what] = await box.fails(2);
      assertEquals(stamps(box.repo), before, what);
    }
    for (const args of [["check"], ["list"], ["update"], ["add", "pdf"]]) {
      assertEquals(await box.fails(2, ...args), messages[refused.at(-1)![0]]);
    }
    const expected = refused.map(([what, , message]) => [what, `use-skills: ${message}\n`]);
    assertEquals(messages, Object.fromEntries(expected));
  });

  it("cannot change which commit a reference to a commit means", async () => {
    await using setting = await Setting.start();
    const { box, forge } = setting;
    const commit = await setting.hash("main");
    const other = await forge.commit("team/skills", { "skills/pdf/new": "x" });
    box.manifest(`team/skills/skills/pdf#${commit}`);
    await box.done();
    box.write(".skills.lock", box.read(".skills.lock").replace(`"commit":"${commit}"`, `"commit":"${other}"`));
    assertEquals(
      await box.fails(1),
      `.skills:1: "team/skills/skills/pdf#${commit}" is locked to something else, "${URL}": delete its line from ` +
        ".skills.lock, then sync\n",
    );
  });

  it("is not believed if it names another repo, another path, or other content than the commit has", async () => {
    await using setting = await Setting.start({ ...PDF, "skills/evil/SKILL.md": skillText("evil") });
    const { box } = setting;
    box.manifest("team/skills/skills/pdf");
    await box.done();
    const lock = box.read(".skills.lock");
    const [commit, evil] = [await setting.hash("main"), await setting.hash("main:skills/evil")];
    const elsewhere = (url = URL) =>
      `.skills:1: "team/skills/skills/pdf" is locked to something else, "${url}": delete its line from .skills.lock, ` +
      "then sync\n";
    const changes: [from: string | RegExp, to: string, message: string][] = [
      ['"path":"skills/pdf"', '"path":"skills/evil"', elsewhere()],
      ["github.com/team", "github.com/evil", elsewhere("https://github.com/evil/skills")],
      ['"tree"', `"skills":{"doc":"${evil}"},"tree"`, elsewhere()],
      [
        /"tree":"\w+"/,
        `"tree":"${evil}"`,
        `.skills:1: "team/skills/skills/pdf" has other content than .skills.lock says, in ${URL} at ${commit}\n`,
      ],
    ];
    for (const [from, to, message] of changes) {
      setting.forgetAll();
      box.write(".skills.lock", lock.replace(from, to));
      assertEquals(await box.fails(1), message);
      assertEquals([setting.store, setting.links], [{}, {}]);
    }
  });
});

describe("a frozen sync", () => {
  const ways: [what: string, args: string[], environment: Record<string, string>][] = [
    ["--frozen", ["--frozen"], {}],
    ["CI=true", [], { CI: "true" }],
    ["direnv without SKILLS_ALLOWED", [], { DIRENV_IN_ENVRC: "1" }],
    ["direnv with another value of SKILLS_ALLOWED", [], { DIRENV_IN_ENVRC: "1", SKILLS_ALLOWED: "true" }],
  ];
  for (const [what, args, environment] of ways) {
    it(`(${what}) fetches what is locked and nothing else, and never changes the lockfile`, async () => {
      await using setting = await Setting.start();
      const { box, forge } = setting;
      const script = (await box.call()).find((word) => word.endsWith("use-skills.ts"))!;
      const wayOut = "DIRENV_IN_ENVRC" in environment
        ? `run "deno run -A --no-config ${script}" once`
        : "--frozen (or CI=true) doesn't change .skills.lock, so run sync without it and commit that file";
      const isNew = (line: number, text: string) =>
        `.skills:${line}: "${text}" is new in .skills and not fetched yet: ${wayOut}\n`;

      box.manifest("team/skills/skills/pdf");
      box.environment = environment;
      assertEquals(await box.fails(1, ...args), isNew(1, "team/skills/skills/pdf"));
      assertEquals([forge.requests, setting.store, isThere(box.at(".skills.lock"))], [[], {}, false]);

      box.environment = {};
      box.manifest("team/skills/skills/pdf", "team/skills/skills/pdf#v1 as tagged");
      await box.done();
      const before = stamps(box.repo)[".skills.lock"];
      setting.forgetAll();
      box.environment = environment;
      assertEquals(await box.done(...args), `use-skills: linked pdf, tagged for ${AGENTS}\n`);
      box.manifest("team/skills/skills/pdf", "team/skills/skills/pdf#main as other");
      setting.forgetAll();
      assertEquals(
        await box.fails(1, ...args),
        `use-skills: linked pdf for ${AGENTS}\n${isNew(2, "team/skills/skills/pdf#main")}`,
      );
      box.skills("local");
      box.manifest("local");
      await box.done(...args);
      assertEquals(setting.links, { local: "../../skills/local" });
      assertEquals(stamps(box.repo)[".skills.lock"], before);
    });
  }

  it("records trust only when it is not frozen", async () => {
    await using setting = await Setting.start({ "bad/SKILL.md": `${skillText("bad")}\u200b` });
    const { box } = setting;
    box.manifest("team/skills/bad trust");
    await box.done();
    box.write(".skills.lock", box.read(".skills.lock").replace(/"trusted":"\w+",/, ""));
    const lock = box.read(".skills.lock");
    setting.forgetAll();
    assertEquals(
      await box.fails(1, "--frozen"),
      '.skills:1: "team/skills/bad" contains hidden characters: bad/SKILL.md:7:1 U+200B zero-width character; its ' +
        "line has trust, but .skills.lock doesn't: run sync without --frozen\n",
    );
    assertEquals(box.read(".skills.lock"), lock);
    await box.done();
    assertEquals(setting.locked["team/skills/bad"]?.["trusted"], await setting.hash("main:bad"));
  });

  it("under direnv with SKILLS_ALLOWED=1 is not frozen", async () => {
    await using setting = await Setting.start();
    const { box } = setting;
    box.manifest("team/skills/skills/pdf");
    box.environment = { DIRENV_IN_ENVRC: "1", SKILLS_ALLOWED: "1" };
    assertEquals(await box.done(), `use-skills: linked pdf for ${AGENTS}\n`);
    assertEquals(Object.keys(setting.locked), ["team/skills/skills/pdf"]);
  });

  it("--offline uses no network, and reports what is missing", async () => {
    await using setting = await Setting.start();
    const { box, forge } = setting;
    box.skills("local");
    box.manifest("local", "team/skills/skills/pdf");
    assertEquals(
      await box.fails(1, "--offline"),
      `use-skills: linked local for ${AGENTS}
.skills:2: "team/skills/skills/pdf" is not on this machine, and --offline fetches nothing\n`,
    );
    assertEquals([Object.keys(setting.links), forge.requests], [["local"], []]);
    await box.done();
    forge.requests = [];
    await box.done("--offline");
    assertEquals(forge.requests, []);
  });

  it("and --dry-run, check and list fetch nothing and write nothing", async () => {
    await using setting = await Setting.start();
    const { box, forge } = setting;
    box.manifest("team/skills/skills/pdf");
    const before = stamps(box.path);
    const message = '.skills:1: "team/skills/skills/pdf" is not fetched yet: run sync\n';
    for (const args of [["-n"], ["check"]]) assertEquals(await box.fails(1, ...args), message);
    assertEquals(await box.run("list"), { status: 0, stdout: "", stderr: message });
    assertEquals([stamps(box.path), forge.requests], [before, []]);
  });
});
