/**
 * Drives `use-skills.ts` with skills from git servers: real git over real transports, and looks at lock, store and links.
 *
 * Servers run on loopback; `url.<base>.insteadOf` in a sandbox's `~/.gitconfig` has them answer for the real ones.
 */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "jsr:@std/assert@^1";
import { describe } from "jsr:@std/testing@^1/bdd";
import { type FileContent, Forge, type ForgeOptions } from "./forge.ts";
import {
  deployed,
  execute,
  isThere,
  kill,
  requires,
  Sandbox,
  skillText,
  stamps,
  succeed,
  tree,
  whatIs,
} from "./helpers.ts";

const it = requires("git", "openssl");

const SITES = ["https://github.com/", "https://gitlab.com/", "https://codeberg.org/", "https://git.example.org/"];
const PDF = { "skills/pdf/SKILL.md": skillText("pdf"), "skills/pdf/run.sh": { executable: "#!/bin/sh\n" } };

/** A forge with the repo `team/skills`, and a person whose git finds it under the known hosts. */
class Setting implements AsyncDisposable {
  private constructor(readonly forge: Forge, readonly box: Sandbox) {}

  static async start(files: Record<string, FileContent> = PDF, options: ForgeOptions = {}): Promise<Setting> {
    const forge = await Forge.start(options);
    await forge.commit("team/skills", files, { tag: "v1" });
    const setting = new Setting(forge, new Sandbox());
    setting.moveIn();
    return setting;
  }

  /** Gives the home what lets git find the forge. */
  moveIn(): void {
    this.box.write(`${this.box.home}/.gitconfig`, this.forge.config(...SITES, "git@git.example.org:"));
  }

  /** Another machine: nothing fetched, nothing deployed, the same repo. */
  forgetAll(): void {
    for (const path of [`${this.box.home}/.local`, `${this.box.home}/.cache`, ".claude", ".opencode"]) {
      if (isThere(this.box.at(path))) this.box.remove(path);
    }
    this.forge.requests = [];
    this.forge.bytes = 0;
  }

  get lock(): Record<string, Record<string, string>> {
    return JSON.parse(this.box.read(".skills.lock")).skills;
  }

  /** What is in the store, by path. */
  get store(): Record<string, string> {
    const path = `${this.box.home}/.local/share/use-skills/store`;
    return isThere(path) ? tree(path) : {};
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.box[Symbol.dispose]();
    await this.forge[Symbol.asyncDispose]();
  }
}

function links(box: Sandbox): Record<string, string> {
  return deployed(box.at(".claude/skills"));
}

describe("a git reference", () => {
  it("is fetched, locked, stored read-only with its exact bytes, and linked; then nothing is asked any more", async () => {
    await using setting = await Setting.start({
      ...PDF,
      "skills/pdf/a/crlf.txt": "a\r\nb\r\n",
      "skills/pdf/link": { link: "a/crlf.txt" },
      ".gitattributes": "* text eol=lf\n*.sh export-ignore\n",
      "skills/other/SKILL.md": skillText("other"),
    });
    const { box, forge } = setting;
    box.write(`${box.home}/.gitconfig`, `${box.read(`${box.home}/.gitconfig`)}[core]\n\tautocrlf = input\n`);
    box.manifest("team/skills/skills/pdf");
    assertEquals(await box.done(), "use-skills: linked pdf for claude, opencode\n");
    const commit = (await forge.git("team/skills", "rev-parse", "main")).trim();
    const hash = (await forge.git("team/skills", "rev-parse", "main:skills/pdf")).trim();
    const line =
      `"team/skills/skills/pdf": {"commit":"${commit}","path":"skills/pdf","tree":"${hash}","url":"https://github.com/team/skills"}`;
    assertEquals(box.read(".skills.lock"), `{\n"skills": {\n${line}\n},\n"version": 1\n}\n`);
    const skill = `${box.home}/.local/share/use-skills/store/${hash}/pdf`;
    assertEquals(links(box), { pdf: skill });
    assertEquals(tree(skill), {
      "SKILL.md": `444 ${skillText("pdf")}`,
      a: "directory",
      "a/crlf.txt": "444 a\r\nb\r\n",
      link: "-> a/crlf.txt",
      "run.sh": "555 #!/bin/sh\n",
    });
    for (const path of ["", "/a"]) assertEquals((Deno.statSync(skill + path).mode ?? 0) & 0o777, 0o555);
    const [asked, before] = [forge.requests.length, stamps(box.path)];
    box.environment = { PATH: `${box.home}:/nowhere` }; // nor is git run
    assertEquals(await box.done(), "");
    assertEquals(await box.done("check"), "");
    assertEquals([forge.requests.length, stamps(box.path)], [asked, before]);
  });

  const forms: [text: string, name: string, path: string][] = [
    ["team/skills/skills/pdf", "pdf", "skills/pdf"],
    ["team/skills/skills/pdf#v1", "pdf", "skills/pdf"],
    ["team/skills/skills/pdf#feat/x as other", "other", "skills/pdf"],
    ["https://github.com/team/skills/tree/main/skills/pdf", "pdf", "skills/pdf"],
    ["https://github.com/team/skills/tree/feat/x/skills/pdf", "pdf", "skills/pdf"],
    ["https://gitlab.com/team/skills/-/tree/feat/x/skills/pdf", "pdf", "skills/pdf"],
    ["https://codeberg.org/team/skills/src/branch/feat/x/skills/pdf", "pdf", "skills/pdf"],
    ["https://codeberg.org/team/skills/src/tag/v1/skills/pdf", "pdf", "skills/pdf"],
    ["https://git.example.org/team/skills.git//skills/pdf#v1", "pdf", "skills/pdf"],
    ["git@git.example.org:team/skills.git//skills/pdf", "pdf", "skills/pdf"],
    ["team/root", "root", ""],
  ];
  for (const [text, name, path] of forms) {
    it(`is ${text}`, async () => {
      await using setting = await Setting.start();
      const { box, forge } = setting;
      await forge.git("team/skills", "branch", "feat/x");
      await forge.git("team/skills", "branch", "feat-not-this-one");
      await forge.commit("team/root", { "SKILL.md": skillText("root") });
      box.manifest(text);
      await box.done();
      assertEquals(Object.keys(links(box)), [name]);
      assertEquals(Object.values(setting.lock).map((each) => each["path"]), [path]);
      assertEquals(await box.done("check"), "");
    });
  }

  it("is a commit, which stays", async () => {
    await using setting = await Setting.start();
    const { box, forge } = setting;
    const commit = (await forge.git("team/skills", "rev-parse", "main")).trim();
    await forge.commit("team/skills", { "skills/pdf/new": "x" });
    box.manifest(
      `team/skills/skills/pdf#${commit}`,
      `https://github.com/team/skills/tree/${commit}/skills/pdf as pasted`,
    );
    await box.done();
    assertEquals(await box.done("update"), "");
    assertEquals(Object.values(setting.lock).map((each) => each["commit"]), [commit, commit]);
  });

  it("is a file URL, or goes by ssh", async () => {
    await using setting = await Setting.start();
    const { box, forge } = setting;
    box.remove(`${box.home}/.gitconfig`);
    box.environment = { PATH: forge.sshOn(box.home) };
    box.write(`${box.home}/.gitconfig`, "[safe]\n\tdirectory = *\n");
    box.manifest(
      `file://${forge.path}/team/skills.git//skills/pdf`,
      "ssh://git@git.example.org:2222/team/skills.git//skills/pdf as by-ssh",
      "git@git.example.org:team/skills.git//skills/pdf as by-scp",
    );
    await box.done();
    assertEquals(Object.keys(links(box)), ["by-scp", "by-ssh", "pdf"]);
    assertMatch(box.read(`${box.home}/ssh.log`), /-oBatchMode=yes/);
    assertEquals(
      Object.keys(setting.store).filter((path) => path.endsWith("/SKILL.md")).length,
      1,
      "one entry serves all",
    );
  });

  const unreadable: [what: string, line: string, message: string][] = [
    [
      "a password in an address of another kind",
      "http://me:s3cret@github.com/x/y",
      "leave it to git's credential helper",
    ],
    ["a password in an scp address", "me:s3cret@git.example.org:team/skills", "leave it to git's credential helper"],
    [
      "a password in the address",
      "https://me:s3cret@github.com/team/skills//skills/pdf",
      "leave it to git's credential helper",
    ],
    ["a path upwards", "team/skills/a/../../x", 'have no "." or ".."'],
    ["an address that goes upwards", "https://github.com/team/skills/..", 'have no "." or ".."'],
    ["a pasted address that goes upwards", "https://github.com/team/skills/tree/main/../../x", 'have no "." or ".."'],
    ["an scp address that goes upwards", "git@git.example.org:team/..", 'have no "." or ".."'],
  ];
  for (const [what, line, message] of unreadable) {
    it(`with ${what} is no reference, and nothing of it is shown or fetched`, async () => {
      await using setting = await Setting.start();
      const { box, forge } = setting;
      box.manifest(line);
      for (const args of [[], ["check"], ["list"], ["--offline"]]) {
        const stderr = await box.fails(2, ...args);
        assertStringIncludes(stderr, message);
        assertEquals(stderr.includes("s3cret"), false);
      }
      assertEquals([forge.requests, setting.store], [[], {}]);
    });
  }

  const spellings: [text: string, names: string[]][] = [
    ["https://github.com/team/skills/*", ["pdf"]],
    ["git@git.example.org:team/skills.git/*", ["pdf"]],
    ["https://github.com/team/skills/blob/main/skills/pdf/SKILL.md", ["pdf"]],
    ["https://github.com/team/skills/tree/main/skills/a%62c", ["abc"]],
    ["https://github.com/team/root/", ["root"]],
    ["https://github.com/team/root?tab=readme-ov-file", ["root"]],
  ];
  for (const [text, names] of spellings) {
    it(`may be written ${text}`, async () => {
      await using setting = await Setting.start();
      const { box, forge } = setting;
      await forge.commit("team/root", { "SKILL.md": skillText("root") });
      if (names[0] === "abc") await forge.commit("team/skills", { "skills/abc/SKILL.md": skillText("abc") });
      box.manifest(text);
      await box.done();
      assertEquals(Object.keys(links(box)), names);
    });
  }

  it("goes by ssh or https as it is written, whatever the person's git has for a remote called origin", async () => {
    await using setting = await Setting.start();
    const { box, forge } = setting;
    await forge.commit("evil/skills", { "skills/pdf/SKILL.md": skillText("pdf"), "skills/pdf/evil": "" });
    box.write(
      `${box.home}/.gitconfig`,
      `${box.read(`${box.home}/.gitconfig`)}[remote "origin"]\n\turl = https://github.com/evil/skills\n`,
    );
    box.manifest("team/skills/skills/pdf");
    await box.done();
    assertEquals(isThere(`${links(box)["pdf"]}/evil`), false);
  });

  it("that is a branch and another tag of one name is refused, be it that one came later", async () => {
    await using setting = await Setting.start();
    const { box, forge } = setting;
    box.manifest("team/skills/skills/pdf#v1");
    await box.done();
    const lock = box.read(".skills.lock");
    await forge.commit("team/skills", { "skills/pdf/evil": "" }, { branch: "v1" });
    assertStringIncludes(await box.fails(1, "update"), 'has a branch "v1" and a tag of that name');
    assertEquals(box.read(".skills.lock"), lock);
  });

  it("is every skill in a folder, or in a whole repo", async () => {
    await using setting = await Setting.start({
      ...PDF,
      "skills/docx/SKILL.md": skillText("docx"),
      "skills/docx/inner/SKILL.md": skillText("inner"),
      "skills/notes/README.md": "no skill",
      "more/deep/csv/SKILL.md": skillText("csv"),
    });
    const { box } = setting;
    box.manifest("team/skills/skills/*");
    await box.done();
    assertEquals(Object.keys(links(box)), ["docx", "pdf"]);
    box.manifest("team/skills/*", "https://github.com/team/skills/tree/main/more/* for cursor");
    assertStringIncludes(await box.fails(1), "no skill");
    box.manifest("team/skills/*");
    await box.done();
    assertEquals(Object.keys(links(box)), ["csv", "docx", "pdf"]);
    assertEquals(Object.keys(setting.lock), ["team/skills/*"]);
    assertEquals(await box.done("check"), "");
  });

  const problems: [what: string, line: string, message: string][] = [
    ["a path that is not there", "team/skills/skills/pfd", 'no folder "skills/pfd" at'],
    [
      "a path that is not there, with the nearest first",
      "team/skills/skills/pfd",
      "its skills are skills/pdf, skills/docx",
    ],
    ["a repo without a path", "team/skills", "no skill at its root at"],
    ["a folder that is none", "team/skills/notes", 'no skill in "notes"'],
    ["a link in the repo", "team/skills/latest", 'no folder "latest"'],
    ["a branch that is not there", "team/skills/skills/pdf#nosuch", 'has no branch or tag "nosuch"'],
    ["a commit that is cut short", "team/skills/skills/pdf#abcdef0", "a commit is written whole"],
    ["a commit that is not there", `team/skills/skills/pdf#${"0".repeat(39)}1`, "no longer has the commit"],
    ["a ref that looks like an option", "team/skills/skills/pdf#--upload-pack=x", "has no branch or tag"],
    ["a repo that is not there", "team/nosuch/skills/pdf", "Cannot fetch https://github.com/team/nosuch: "],
    ["a protocol that runs programs", "ext::sh", '"ext::sh" is no skill name'],
  ];
  for (const [what, line, message] of problems) {
    it(`with ${what} is that line's problem`, async () => {
      await using setting = await Setting.start({
        ...PDF,
        "skills/docx/SKILL.md": skillText("docx"),
        "notes/README.md": "x",
        latest: { link: "skills/pdf" },
      });
      const { box } = setting;
      box.skills("local");
      box.manifest("local", line);
      const { status, stderr } = await box.run();
      assertEquals(status, what.startsWith("a protocol") ? 2 : 1, stderr);
      assertStringIncludes(stderr, ".skills:2: ");
      assertStringIncludes(stderr, message);
      if (status === 1) assertEquals(Object.keys(links(box)), ["local"]);
      assertEquals([setting.store, isThere(box.at(".skills.lock"))], [{}, false]);
    });
  }
});

describe(".skills.lock", () => {
  it("has the same bytes on every machine, and gives the same files there", async () => {
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

  it("is read where a merge by hand left a comma too few or too many, and put right", async () => {
    await using setting = await Setting.start();
    const { box } = setting;
    box.manifest("team/skills/skills/pdf", "team/skills/skills/pdf#v1 as tagged");
    await box.done();
    const lock = box.read(".skills.lock");
    for (const spoilt of [lock.replace("},\n", "}\n"), lock.replace('"}\n}', '"},\n}')]) {
      assert(spoilt !== lock);
      box.write(".skills.lock", spoilt);
      assertEquals(await box.done("check"), "");
      await box.done();
      assertEquals(box.read(".skills.lock"), lock);
    }
  });

  it("cannot give a reference that names a commit another one", async () => {
    await using setting = await Setting.start();
    const { box, forge } = setting;
    const commit = (await forge.git("team/skills", "rev-parse", "main")).trim();
    const other = await forge.commit("team/skills", { "skills/pdf/new": "x" });
    box.manifest(`team/skills/skills/pdf#${commit}`);
    await box.done();
    box.write(".skills.lock", box.read(".skills.lock").replace(`"commit":"${commit}"`, `"commit":"${other}"`));
    assertStringIncludes(await box.fails(1), "is locked to something else");
  });

  it("keeps what update has done while add was at work", async () => {
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
    assertEquals(setting.lock["team/skills/skills/pdf"]?.["commit"], commit);
    assertEquals(isThere(`${links(box)["pdf"]}/new`), true);
  });

  it("is kept where a link leads and with the mode that it has, like the manifest; what lies beside stays", async () => {
    await using setting = await Setting.start();
    const { box } = setting;
    box.write("dotfiles/skills", "# mine\n");
    Deno.chmodSync(box.at("dotfiles/skills"), 0o600);
    box.link(".skills", "dotfiles/skills");
    box.write(".skills.new/mine", "x");
    box.write(".skills.lock.new/mine", "x");
    await box.done("add", "team/skills/skills/pdf");
    assertEquals(whatIs(box.at(".skills")), "-> dotfiles/skills");
    assertEquals(whatIs(box.at("dotfiles/skills")), "600 # mine\nteam/skills/skills/pdf\n");
    assertEquals([box.read(".skills.new/mine"), box.read(".skills.lock.new/mine")], ["x", "x"]);
    assertEquals(Object.keys(tree(box.repo)).filter((path) => path.startsWith(".use-skills-")), []);
  });

  it("loses what the manifest no longer names, and is gone with the last", async () => {
    await using setting = await Setting.start();
    const { box } = setting;
    box.skills("local");
    box.manifest("team/skills/skills/pdf", "team/skills/skills/pdf#v1 as tagged");
    await box.done();
    box.manifest("team/skills/skills/pdf#v1 as tagged");
    await box.done();
    assertEquals(Object.keys(setting.lock), ["team/skills/skills/pdf#v1"]);
    box.manifest("local");
    await box.done();
    assertEquals(isThere(box.at(".skills.lock")), false);
  });

  const refused: [what: string, spoil: (text: string) => string, message: string][] = [
    ["a merge conflict", (text) => text.replace('"team', '<<<<<<< HEAD\n"team'), ".skills.lock:3: a merge conflict"],
    ["a newer version", (text) => text.replace('"version": 1', '"version": 2'), "is from a newer use-skills"],
    [
      "an entry that leads elsewhere",
      (text) => text.replace(/"tree":"\w+"/, '"tree":"../../x"'),
      "has an entry that is not right",
    ],
    ["noise", () => "hello\n", "is not what use-skills writes"],
    ["nothing", () => "", "is not what use-skills writes"],
    ["half of it", (text) => text.slice(0, 16), "is not what use-skills writes"],
    [
      "one reference twice",
      (text) => text.replace(/("team.*\})/, (line) => `${line},\n${line.replace(/"commit":"\w/, '"commit":"0')}`),
      '.skills.lock:4: a second entry for "team/skills/skills/pdf": keep one',
    ],
  ];
  for (const [what, spoil, message] of refused) {
    it(`with ${what} is refused, and nothing is changed`, async () => {
      await using setting = await Setting.start();
      const { box } = setting;
      box.manifest("team/skills/skills/pdf");
      await box.done();
      box.write(".skills.lock", spoil(box.read(".skills.lock")));
      const before = stamps(box.repo);
      for (const args of [[], ["check"], ["update"]]) {
        assertStringIncludes(await box.fails(2, ...args), message);
      }
      assertEquals(stamps(box.repo), before);
    });
  }

  it("is not believed where it names another repo, or other files than the commit has", async () => {
    await using setting = await Setting.start({ ...PDF, "skills/evil/SKILL.md": skillText("evil") });
    const { box, forge } = setting;
    box.manifest("team/skills/skills/pdf");
    await box.done();
    const lock = box.read(".skills.lock");
    const evil = (await forge.git("team/skills", "rev-parse", "main:skills/evil")).trim();
    setting.forgetAll();
    box.write(".skills.lock", lock.replace(/"tree":"\w+"/, `"tree":"${evil}"`));
    assertStringIncludes(await box.fails(1), "is not what the lock says");
    assertEquals(setting.store, {});
    for (
      const odd of [
        lock.replace('"tree"', '"skills":{"doc":"' + evil + '"},"tree"'),
        lock.replace('"tree"', '"skills":{},"tree"'),
      ]
    ) {
      box.write(".skills.lock", odd);
      assertMatch((await box.run("check")).stderr, /is locked to something else|has an entry that is not right/);
    }
    box.write(".skills.lock", lock.replace('"path":"skills/pdf"', '"path":"skills/evil"'));
    assertStringIncludes(await box.fails(1), "is locked to something else");
    box.write(".skills.lock", lock.replace("github.com/team", "github.com/evil"));
    assertStringIncludes(await box.fails(1, "check"), "is locked to something else");
  });
});

describe("sync", () => {
  it("--frozen, or in CI, adds nothing to the lock, and fetches what is locked", async () => {
    await using setting = await Setting.start();
    const { box } = setting;
    box.manifest("team/skills/skills/pdf");
    const message = '"team/skills/skills/pdf" is not in .skills.lock, and --frozen (or CI)';
    assertStringIncludes(await box.fails(1, "--frozen"), message);
    box.environment = { CI: "true" };
    assertStringIncludes(await box.fails(1), message);
    assertEquals(setting.forge.requests, []);
    box.environment = {};
    await box.done();
    setting.forgetAll();
    const lock = stamps(box.repo)[".skills.lock"];
    await box.done("--frozen");
    assertEquals(Object.keys(links(box)), ["pdf"]);
    assertEquals(stamps(box.repo)[".skills.lock"], lock);
  });

  it("--offline asks nobody, and names what is missing", async () => {
    await using setting = await Setting.start();
    const { box } = setting;
    box.skills("local");
    box.manifest("local", "team/skills/skills/pdf");
    const { stderr } = await box.run("--offline");
    assertStringIncludes(stderr, '.skills:2: "team/skills/skills/pdf" is not on this machine, and --offline');
    assertEquals([Object.keys(links(box)), setting.forge.requests], [["local"], []]);
    await box.done();
    setting.forge.requests = [];
    await box.done("--offline");
    assertEquals(setting.forge.requests, []);
  });

  it("--dry-run, check and list fetch nothing, and write nothing", async () => {
    await using setting = await Setting.start();
    const { box } = setting;
    box.manifest("team/skills/skills/pdf");
    const before = stamps(box.path);
    for (const args of [["-n"], ["check"]]) {
      assertStringIncludes(await box.fails(1, ...args), "not in .skills.lock yet");
    }
    await box.run("list");
    assertEquals([stamps(box.path), setting.forge.requests], [before, []]);
  });

  const servers: [what: string, options: ForgeOptions][] = [
    ["that leaves out what is not asked for", {}],
    ["that cannot", { filter: false }],
    ["that gives only what has a name", { filter: false, protocol: 0 }],
  ];
  for (const [what, options] of servers) {
    it(`has an old commit from a server ${what}`, async () => {
      await using setting = await Setting.start(PDF, options);
      const { box, forge } = setting;
      box.manifest("team/skills/skills/pdf");
      await box.done();
      const lock = box.read(".skills.lock");
      await forge.commit("team/skills", { "skills/pdf/new": "x" });
      await forge.commit("team/skills", { "skills/pdf/newer": "x" });
      setting.forgetAll();
      await box.done();
      assertEquals(box.read(".skills.lock"), lock);
      assertEquals(Object.keys(links(box)), ["pdf"]);
    });
  }

  it("moves little of a large repo, and less the next time", async () => {
    await using setting = await Setting.start();
    const { box, forge } = setting;
    const noise = Array.from({ length: 20 }, (_, index): [string, Uint8Array] => {
      const bytes = new Uint8Array(2 ** 20);
      for (let at = 0; at < bytes.length; at += 65536) crypto.getRandomValues(bytes.subarray(at, at + 65536));
      return [`assets/${index}.bin`, bytes];
    });
    await forge.commit("team/skills", { ...Object.fromEntries(noise), "skills/pdf/forms.md": "x".repeat(40_000) });
    box.manifest("team/skills/skills/pdf");
    await box.done();
    assert(forge.bytes < 100_000, `${forge.bytes} bytes`);
    forge.bytes = 0;
    await forge.commit("team/skills", { "skills/pdf/new": "x" });
    await box.done("update");
    assert(forge.bytes < 10_000, `${forge.bytes} bytes`);
  });

  it("repairs what was changed in the store, which check finds", async () => {
    await using setting = await Setting.start();
    const { box } = setting;
    box.manifest("team/skills/skills/pdf");
    await box.done();
    const [store, skill] = [setting.store, links(box)["pdf"] ?? ""];
    const spoil: (() => void)[] = [
      () => Deno.writeTextFileSync(`${skill}/SKILL.md`, "Do harm"),
      () => Deno.writeTextFileSync(`${skill}/run.sh`, "Do harm"),
      () => {
        Deno.writeTextFileSync(`${skill}/SKILL.md`, skillText("pdf").replace("Do it", "Do harm"));
        Deno.utimeSync(`${skill}/SKILL.md`, 1, 1); // made to look old
      },
      () => Deno.removeSync(`${skill}/run.sh`),
      () => Deno.writeTextFileSync(`${skill}/new`, ""),
      () => Deno.removeSync(skill, { recursive: true }),
    ];
    for (const each of spoil) {
      await succeed(["chmod", "-R", "u+w", skill]);
      each();
      assertMatch(await box.fails(1, "check"), /not what its hash says: sync brings it back|not on this machine yet/);
      await box.done();
      assertEquals(setting.store, store);
      assertEquals(await box.done("check"), "");
    }
  });

  const outages: [what: string, mode: Forge["mode"], message: RegExp][] = [
    ["hangs", "hang", /no answer within 2 seconds \(SKILLS_TIMEOUT\)/],
    ["stalls", "stall", /no answer within 2 seconds \(SKILLS_TIMEOUT\)/],
    ["answers 404", 404, /there is no such repo, or it is private/],
    ["wants a password", 401, /it wants access, or is not there; git has none here/],
    ["answers 500", 500, /Cannot fetch https:\/\/github\.com\/team\/slow: .*500/],
    ["answers noise", "garbage", /Cannot fetch https:\/\/github\.com\/team\/slow: /],
    ["answers a web page", "html", /Cannot fetch https:\/\/github\.com\/team\/slow: /],
  ];
  for (const [what, mode, message] of outages) {
    it(`deploys the rest when a server ${what}, and keeps what it had`, async () => {
      await using setting = await Setting.start();
      const { box, forge } = setting;
      await forge.commit("team/slow", {
        "SKILL.md": skillText("slow"),
        x: crypto.getRandomValues(new Uint8Array(60_000)),
      });
      box.skills("local");
      box.manifest("team/slow");
      await box.done();
      const kept = links(box)["slow"];
      box.remove(".skills.lock"); // so that it is to be found out anew
      box.remove(`${box.home}/.cache`);
      box.manifest("team/slow", "team/skills/skills/pdf", "local");
      box.environment = { SKILLS_TIMEOUT: "2" };
      forge.onRequest = (line) => line.includes("/slow") ? mode : undefined;
      const { status, stderr } = await box.run();
      assertEquals(status, 1);
      assertMatch(stderr, message);
      assertMatch(stderr, /^\.skills:1: /m);
      assertEquals(Object.keys(links(box)), ["local", "pdf", "slow"]);
      assertEquals(links(box)["slow"], kept);
    });
  }

  it("deploys local skills where nothing can be fetched or kept, and says why at the others' lines", async () => {
    await using setting = await Setting.start();
    const { box } = setting;
    box.skills("local");
    box.manifest("local", "team/skills/skills/pdf");
    await box.done();
    const settings: [environment: Record<string, string>, message: RegExp][] = [
      [{ XDG_DATA_HOME: "/sys" }, /^\.skills:2: Cannot use the store, \/sys\/use-skills\/store: /m],
      [{ XDG_CACHE_HOME: "/sys" }, /^\.skills:2: /m],
      [{ PATH: "/nowhere" }, /^\.skills:2: git is not installed/m],
    ];
    for (const [environment, message] of settings) {
      setting.forgetAll();
      box.environment = environment;
      assertMatch(await box.fails(1), message);
      assertEquals(Object.keys(links(box)), ["local"]);
    }
  });

  it("looks through what is stored again where nothing says that it was", async () => {
    await using setting = await Setting.start({ "bad/SKILL.md": `${skillText("bad")}\u200b` });
    const { box } = setting;
    box.manifest("team/skills/bad");
    assertStringIncludes(await box.fails(1), "U+200B");
    const [marker = ""] = Object.keys(setting.store).filter((path) => path.endsWith("/.hidden.json"));
    Deno.removeSync(`${box.home}/.local/share/use-skills/store/${marker}`);
    assertStringIncludes(await box.fails(1), "U+200B");
    assertEquals(links(box), {});
  });

  it("is not held up by what an ssh leaves running", async () => {
    await using setting = await Setting.start();
    const { box, forge } = setting;
    box.remove(`${box.home}/.gitconfig`);
    const path = forge.sshOn(box.home);
    box.write(`${box.home}/ssh`, box.read(`${box.home}/ssh`).replace("\n", "\nsleep 4 &\n"));
    box.environment = { PATH: path, SKILLS_TIMEOUT: "15" };
    box.manifest("git@git.example.org:team/skills.git//skills/pdf");
    await box.done();
  });

  it("runs no git for skills whose times alone have changed, as in a backup that was brought back", async () => {
    await using setting = await Setting.start();
    const { box } = setting;
    box.manifest("team/skills/skills/pdf");
    await box.done();
    Deno.utimeSync(`${links(box)["pdf"]}/SKILL.md`, new Date(), new Date());
    box.remove(`${box.home}/.cache`);
    box.environment = { PATH: "/nowhere" };
    assertEquals(await box.done("--offline"), "");
    assertEquals(isThere(`${box.home}/.cache/use-skills`), false);
  });

  it("begins a damaged cache anew", async () => {
    await using setting = await Setting.start();
    const { box } = setting;
    box.manifest("team/skills/skills/pdf");
    await box.done();
    const caches = `${box.home}/.cache/use-skills/git`;
    const [{ name } = { name: "" }] = Deno.readDirSync(caches);
    const cache = `${caches}/${name}`;
    const damages = [
      () =>
        Object.keys(tree(`${cache}/objects`)).filter((path) => /\.(pack|idx)$/.test(path)).forEach((path) => {
          Deno.chmodSync(`${cache}/objects/${path}`, 0o644);
          Deno.truncateSync(`${cache}/objects/${path}`, 40);
        }),
      () => Deno.writeTextFileSync(`${cache}/shallow`, "garbage\n"),
      () => Deno.writeTextFileSync(`${cache}/shallow.lock`, ""),
      () => {
        Deno.removeSync(`${cache}/objects`, { recursive: true });
        Deno.removeSync(`${cache}/refs`, { recursive: true });
      },
    ];
    for (const damage of damages) {
      damage();
      box.remove(`${box.home}/.local/share`);
      await box.done();
      assertEquals(await box.done("check"), "");
    }
  });

  requires("git", "openssl", "ps")(
    "ends all that it has started, and asks no further when the time is over",
    async () => {
      await using setting = await Setting.start();
      const { box, forge } = setting;
      box.environment = { SKILLS_TIMEOUT: "2" };
      forge.mode = "hang";
      box.skills("local");
      box.manifest("local", ...Array.from({ length: 12 }, (_, index) => `team/dead-${index}`));
      assertStringIncludes(await box.fails(1), "no answer within 2 seconds");
      assert(forge.requests.length <= 4, forge.requests.join("\n"));
      assertEquals(Object.keys(links(box)), ["local"]);
      const { stdout } = await execute(["ps", "-eo", "args"]);
      assertEquals(stdout.split("\n").filter((line) => line.includes("team/dead-") && line.includes(forge.site)), []);
    },
  );

  it("has skills from a server that knows no git, only files", async () => {
    await using setting = await Setting.start();
    const { box, forge } = setting;
    await forge.git("team/skills", "repack", "-adq");
    await forge.git("team/skills", "update-server-info");
    forge.onRequest = (line) => line.includes("git-upload-pack") ? "dumb" : undefined;
    box.manifest("team/skills/skills/pdf");
    await box.done();
    assertEquals(Object.keys(links(box)), ["pdf"]);
  });

  requires("git", "openssl", "script")("tells a person at a terminal what takes a while, and nobody else", async () => {
    await using setting = await Setting.start();
    const { box, forge } = setting;
    forge.onRequest = () => new Promise((go) => setTimeout(go, 600));
    box.manifest("team/skills/skills/pdf");
    assertEquals(await box.done(), "use-skills: linked pdf for claude, opencode\n");
    setting.forgetAll();
    const words = ["script", "-qec", (await box.call()).map((word) => `'${word}'`).join(" "), "/dev/null"];
    const { stdout } = await execute(words, await box.start());
    assertMatch(stdout, /^use-skills: fetching https:\/\/github\.com\/team\/skills\r$/m);
    assertMatch(stdout, /Receiving objects: 100%/);
    assertEquals(stdout.includes("fatal:"), false);
  });

  it("fetches once when twenty run at once on an empty store", async () => {
    await using setting = await Setting.start();
    const { box, forge } = setting;
    box.manifest("team/skills/skills/pdf", "team/skills/skills/pdf#v1 as tagged");
    const runs = await Promise.all(Array.from({ length: 20 }, () => box.run()));
    assertEquals(runs.map(({ status }) => status), runs.map(() => 0), runs.map(({ stderr }) => stderr).join(""));
    assertEquals(Object.keys(links(box)), ["pdf", "tagged"]);
    assert(forge.requests.length <= 10, forge.requests.join("\n"));
    assertEquals(await box.done("check"), "");
  });

  it("killed at any moment is finished by the next, with nothing left behind", async () => {
    await using setting = await Setting.start({
      ...PDF,
      "skills/pdf/large": crypto.getRandomValues(new Uint8Array(60_000)),
    });
    const { box } = setting;
    box.manifest("team/skills/skills/pdf");
    await box.done();
    const store = setting.store;
    for (let round = 0; round < 20; round++) {
      setting.forgetAll();
      box.remove(".skills.lock");
      const child = await box.spawn();
      await new Promise((go) => setTimeout(go, 20 + round * 12));
      kill(child);
      await child.status;
      await box.done();
      assertEquals(await box.done("check"), "");
      await box.done("clean", "--store", "-n");
      const left = Object.keys(setting.store).filter((path) => !(path in store) && !path.startsWith(".new-"));
      assertEquals(left, []);
    }
  });
});

describe("update", () => {
  it("shows what moves, relocks and deploys; with --dry-run it shows only", async () => {
    await using setting = await Setting.start();
    const { box, forge } = setting;
    box.manifest("team/skills/skills/pdf", "team/skills/skills/pdf#v1 as tagged");
    await box.done();
    const before = [box.read(".skills.lock"), links(box)];
    await forge.commit("team/skills", {
      "skills/pdf/SKILL.md": `${skillText("pdf")}More.\n`,
      "skills/pdf/new.sh": { executable: "#!/bin/sh\n" },
      "skills/pdf/link": { link: "new.sh" },
    });
    const expected = [
      /^team\/skills\/skills\/pdf: [0-9a-f]{12} -> [0-9a-f]{12}$/m,
      /^ SKILL\.md +\| 1 \+$/m,
      /^ 3 files changed/m,
      /^ can be run now: new\.sh$/m,
      /^ is a link now: link$/m,
    ];
    const shown = await box.done("update", "-n");
    for (const each of expected) assertMatch(shown, each);
    assertEquals([box.read(".skills.lock"), links(box)], before);
    const done = await box.done("update", "pdf");
    for (const each of [...expected, /relinked pdf/]) assertMatch(done, each);
    const commit = (await forge.git("team/skills", "rev-parse", "main")).trim();
    assertEquals(setting.lock["team/skills/skills/pdf"]?.["commit"], commit);
    assertStringIncludes((await box.run("list")).stdout, commit.slice(0, 12));
    assertEquals(isThere(`${links(box)["pdf"]}/new.sh`), true);
    assertEquals(await box.done("update"), "");
  });

  it("says that a skill is the same at another commit", async () => {
    await using setting = await Setting.start();
    const { box, forge } = setting;
    box.manifest("team/skills/skills/pdf");
    await box.done();
    await forge.commit("team/skills", { "README.md": "x" });
    assertMatch(await box.done("update"), /-> [0-9a-f]{12}, and the skill is the same$/m);
  });

  it("follows a branch that was pushed by force, and says what to do about a commit that is gone", async () => {
    await using setting = await Setting.start();
    const { box, forge } = setting;
    box.manifest("team/skills/skills/pdf");
    await box.done();
    const lock = box.read(".skills.lock");
    await forge.commit("team/other", { ...PDF, "skills/pdf/new": "x" });
    await forge.git("team/skills", "fetch", "--quiet", "../other.git", "+main:main");
    await forge.git("team/skills", "tag", "--delete", "v1");
    await forge.git("team/skills", "reflog", "expire", "--expire=all", "--all");
    await forge.git("team/skills", "gc", "--quiet", "--prune=now");
    setting.forgetAll();
    const message = await box.fails(1);
    assertStringIncludes(message, "https://github.com/team/skills no longer has the commit");
    assertStringIncludes(message, '"update" takes the newest');
    assertEquals(box.read(".skills.lock"), lock);
    await box.done("update");
    assertEquals(Object.keys(links(box)), ["pdf"]);
  });

  it("refuses a tag that was moved", async () => {
    await using setting = await Setting.start();
    const { box, forge } = setting;
    box.manifest("team/skills/skills/pdf#v1");
    await box.done();
    const lock = box.read(".skills.lock");
    await forge.commit("team/skills", { "skills/pdf/new": "x" }, { tag: "v1" });
    await box.done();
    assertMatch(await box.fails(1, "update"), /The tag of "team\/skills\/skills\/pdf#v1" was moved, from \w+ to \w+/);
    assertEquals(box.read(".skills.lock"), lock);
  });

  it("knows no name that no line fetches", async () => {
    await using setting = await Setting.start();
    const { box } = setting;
    box.skills("local");
    box.manifest("local", "team/skills/skills/pdf");
    assertStringIncludes(await box.fails(2, "update", "local"), 'No line of .skills fetches "local"');
  });
});

describe("add and remove", () => {
  it("write lines and take them out, and keep every other byte", async () => {
    await using setting = await Setting.start();
    const { box } = setting;
    box.skills("local");
    const text = "\ufeff# mine\r\n\r\nlocal   # here\r\n\r\nfor cursor  # the rest\r\nlocal as there";
    box.write(".skills", text);
    await box.done("add", "team/skills/skills/pdf");
    const added = text.replace("# here\r\n", "# here\r\nteam/skills/skills/pdf\r\n");
    assertEquals(box.read(".skills"), `${added}\r\n`);
    assertEquals(Object.keys(links(box)), ["local", "pdf"]);
    await box.done("add", "team/skills/skills/pdf#v1", "--as", "tagged", "--for", "claude", "--for", "codex");
    assertEquals(box.read(".skills"), `${added}\r\nteam/skills/skills/pdf#v1 as tagged for claude codex\r\n`);
    assertEquals(Object.keys(links(box)), ["local", "pdf", "tagged"]);
    await box.done("remove", "tagged", "pdf");
    assertEquals(box.read(".skills"), `${text}\r\n`);
    assertEquals(Object.keys(links(box)), ["local"]);
    assertEquals(isThere(box.at(".skills.lock")), false);
  });

  it("keep a line with what another has written meanwhile", async () => {
    await using setting = await Setting.start();
    const { box, forge } = setting;
    box.skills("local");
    box.manifest("# mine");
    forge.onRequest = () => box.manifest("# mine", "local");
    await box.done("add", "team/skills/skills/pdf");
    assertEquals(box.read(".skills"), "# mine\nlocal\nteam/skills/skills/pdf\n");
    forge.onRequest = undefined;
    box.manifest();
    await Promise.all(
      ["one", "two", "three"].map((name) => box.done("add", "team/skills/skills/pdf#v1", "--as", name)),
    );
    assertEquals(box.read(".skills").split("\n").length, 4);
    assertEquals(Object.keys(links(box)), ["one", "three", "two"]);
  });

  it("keep a comment with the for line that it is about", async () => {
    await using setting = await Setting.start();
    const { box } = setting;
    box.skills("local");
    box.manifest("\ufeff# about all", "", "# only", "# for cursor", "for cursor", "local");
    await box.done("add", "team/skills/skills/pdf");
    const lines = ["\ufeff# about all", "", "team/skills/skills/pdf", "# only", "# for cursor", "for cursor", "local"];
    assertEquals(box.read(".skills"), lines.map((line) => `${line}\n`).join(""));
  });

  it("begin a manifest, with several skills at once, and end up with none", async () => {
    await using setting = await Setting.start();
    const { box } = setting;
    box.skills("local");
    await box.done("add", "team/skills/skills/pdf", "local");
    assertEquals(box.read(".skills"), "team/skills/skills/pdf\nlocal\n");
    await box.done("remove", "team/skills/skills/pdf", "local");
    assertEquals([box.read(".skills"), links(box)], ["", {}]);
  });

  const refused: [what: string, args: string[], status: number, message: string][] = [
    ["a repo without a path, with its skills", ["team/skills"], 1, "its skills are skills/pdf"],
    ["a path that is not there", ["team/skills/skills/nosuch"], 1, 'no folder "skills/nosuch"'],
    ["one that is not there among others", ["team/skills/skills/pdf#v1", "gone"], 1, 'No skill "gone"'],
    ["a name that is taken", ["team/skills/skills/pdf", "--as", "local"], 1, '"local" is '],
    ["a name that cannot be one", ["team/skills/skills/pdf", "--as", "Pdf"], 1, '"Pdf" is not a skill name'],
    ["an agent that nobody knows", ["team/skills/skills/pdf", "--for", "cursr"], 1, 'Unknown agent "cursr"'],
    ["what could be a path", ["skills/pdf"], 1, "write ./skills/pdf"],
    ["what is no skill", ["./empty"], 1, "it has no SKILL.md"],
    ["what is no reference", ["a b"], 2, "white space"],
    ["what is there already", ["local"], 1, '"local" is in line 1 already'],
    ["a whole line as one word", ["local as other"], 2, "is no reference"],
    ["nothing at all as a word", [""], 2, "is no reference"],
    ["nothing", [], 2, "add REF..."],
  ];
  for (const [what, args, status, message] of refused) {
    it(`refuse to add ${what}`, async () => {
      await using setting = await Setting.start();
      const { box } = setting;
      box.skills("local");
      box.directory("empty");
      box.manifest("local");
      await box.done();
      const before = stamps(box.repo);
      assertStringIncludes(await box.fails(status, "add", ...args), message);
      assertEquals(stamps(box.repo), before);
    });
  }

  it("take all skills of a repo, and refuse to take one of them out", async () => {
    await using setting = await Setting.start({ ...PDF, "more/csv/SKILL.md": skillText("csv") });
    const { box } = setting;
    await box.done("add", "team/skills/*");
    assertEquals(Object.keys(links(box)), ["csv", "pdf"]);
    const message = '"csv" comes from "team/skills/*" in line 1, with others';
    assertStringIncludes(await box.fails(2, "remove", "csv"), message);
    assertStringIncludes(await box.fails(2, "remove", "nosuch"), 'No line of .skills is for "nosuch"');
    await box.done("remove", "team/skills/*");
    assertEquals(links(box), {});
  });
});

describe("clean --store", () => {
  it("removes what no known root uses, and says how much it freed", async () => {
    await using setting = await Setting.start();
    const { box, forge } = setting;
    box.manifest("team/skills/skills/pdf");
    await box.done();
    const used = Object.keys(setting.store).find((path) => path.endsWith("/pdf"));
    box.enter("another");
    box.manifest("team/skills/skills/pdf#v1");
    await box.done();
    await forge.commit("team/skills", { "skills/pdf/new": "x" });
    box.manifest("team/skills/skills/pdf");
    await box.done("update");
    const newer = Object.keys(setting.store).find((path) => path.endsWith("/pdf") && path !== used);
    assert(newer);
    assertStringIncludes(
      await box.done("clean", "--store"),
      "removed what no known repo uses from the store: 0 skills",
    );
    box.manifest();
    await box.done();
    assertMatch(
      await box.done("clean", "--store", "-n"),
      /would remove what no known repo uses from the store: 1 skills/,
    );
    assertMatch(await box.done("clean", "--store"), /removed what .* from the store: 1 skills, \d+\.\d KiB/);
    assertEquals(Object.keys(setting.store).filter((path) => path.endsWith("/pdf")), [used]);
    box.enter("repo");
    assertEquals(await box.done("check"), "");
    box.remove(".skills.lock"); // what is deployed counts, too
    box.enter("another");
    await box.done("clean", "--store");
    assertEquals(Object.keys(setting.store).filter((path) => path.endsWith("/pdf")), [used]);
  });

  it("takes nothing away that a run beside it has just fetched", async () => {
    await using setting = await Setting.start();
    const { box } = setting;
    box.manifest("team/skills/skills/pdf");
    for (let round = 0; round < 4; round++) {
      setting.forgetAll();
      const [sync] = await Promise.all([box.run(), ...[1, 2, 3].map(() => box.run("clean", "--store"))]);
      assertEquals(sync?.status, 0, sync?.stderr);
      assertEquals(await box.done("check"), "");
    }
  });
});

describe("a stranger's skill", () => {
  const skill = (files: Record<string, FileContent>) => ({
    ...Object.fromEntries(Object.entries(files).map(([path, content]) => [`bad/${path}`, content])),
    ...("SKILL.md" in files ? {} : { "bad/SKILL.md": skillText("bad") }),
    ...PDF,
  });
  const many = Object.fromEntries(Array.from({ length: 5_000 }, (_, index) => [`n/${index}`, ""]));
  const refused: [what: string, files: Record<string, FileContent>, message: string][] = [
    ["a link out of it", { "a/link": { link: "../../pdf" } }, 'the link "a/link" leads out of it, to "../../pdf"'],
    ["an absolute link", { link: { link: "/etc/passwd" } }, 'the link "link" leads out of it, to "/etc/passwd"'],
    [
      "a link out of it over a link",
      { up: { link: "a/b" }, "a/b/x": "", "a/b/out": { link: "../../up/../.." } },
      "leads out of it",
    ],
    ["a submodule", { "lib/x": { submodule: "1".repeat(40) } }, '"lib/x" is a submodule'],
    ["names that differ in case", { "a/Read": "", "A/read": "" }, "differ only in case"],
    [".git in it", { ".git/config": "" }, 'it has ".git/config"'],
    [".GIT in it", { "a/.GIT/hooks/x": "" }, 'it has "a/.GIT/hooks/x"'],
    ["a path upwards", { "../evil": "" }, "Refused"],
    ["more than 5,000 files", many, "it has 5001 files, more than 5000 (--allow-large)"],
    ["a tag character", { "a.md": "a\n\u{E0041}" }, "a.md:2:1 U+E0041 tag character"],
    [
      "a bidirectional control",
      { "SKILL.md": `${skillText("bad")}\u202e` },
      "SKILL.md:7:1 U+202E bidirectional control",
    ],
    ["a zero-width character", { "x/y.txt": "ab\u200b" }, "x/y.txt:1:3 U+200B zero-width character"],
    ["a hidden character in a file's name", { "a\u200bb": "" }, 'the name "a\\u200bb":1:2 U+200B'],
    ["a hidden character among bytes that are no text", {
      "a.md": new Uint8Array([...Array(9000).fill(255), 0, 0xe2, 0x80, 0xae]),
    }, "a.md:1:"],
    [
      "a link that leads nowhere, or will lead out",
      { "q/d": { link: "../.." }, "q/x": { link: "d/../../later" } },
      "the link",
    ],
    ["a private-use character", { "a.md": "\ue000" }, "a.md:1:1 U+E000 private-use character"],
  ];
  for (const [what, files, message] of refused) {
    it(`with ${what} is refused by name, and others are not`, async () => {
      await using setting = await Setting.start(skill(files));
      const { box } = setting;
      box.manifest("team/skills/bad", "team/skills/skills/pdf");
      const { status, stderr } = await box.run();
      assertEquals(status, 1, stderr);
      assertStringIncludes(stderr, message);
      assertMatch(stderr, /^\.skills:1: /m);
      assertEquals(Object.keys(links(box)), ["pdf"]);
      assertEquals(isThere(`${box.home}/evil`) || isThere(`${box.path}/evil`), false);
    });
  }

  it("of more than 50 MiB, or 5,000 files, is let in with --allow-large, and the lock says so", async () => {
    const files = Object.fromEntries(
      Array.from({ length: 51 }, (_, index) => [`${index}`, new Uint8Array(2 ** 20).fill(index + 65)]),
    );
    await using setting = await Setting.start(skill(files));
    const { box } = setting;
    box.manifest("team/skills/bad");
    assertStringIncludes(await box.fails(1), "it has 52 MiB, more than 50 (--allow-large)");
    await box.done("--allow-large");
    assertEquals(Object.values(setting.lock).map((each) => `${each["large"]}`), ["true"]);
    setting.forgetAll();
    await box.done("--frozen");
  });

  it("with emoji and scripts that need them is let in", async () => {
    await using setting = await Setting.start(skill({ "a.md": "👩‍💻 ❤️ می‌شود\n" }));
    setting.box.manifest("team/skills/bad");
    await setting.box.done();
  });

  it("with hidden characters is let in by trust, which holds for what it was given for", async () => {
    await using setting = await Setting.start(skill({ "a.md": "\u200b" }));
    const { box, forge } = setting;
    box.manifest("team/skills/bad trust");
    await box.done();
    assertEquals(Object.keys(links(box)), ["bad"]);
    const [{ trusted, tree: locked } = {}] = Object.values(setting.lock);
    assertEquals(trusted, locked);
    const before = box.read(".skills.lock");
    await forge.commit("team/skills", { "bad/b.md": "\u202e" });
    const message = await box.fails(1, "update");
    assertStringIncludes(message, "nobody sees: bad/b.md:1:1 U+202E bidirectional control");
    assertStringIncludes(message, 'it has changed since it was trusted: look at it, then "update --trust"');
    assertEquals(box.read(".skills.lock"), before);
    await box.done("update", "--trust");
    assertEquals(isThere(`${links(box)["bad"]}/b.md`), true);
    box.manifest("team/skills/bad");
    assertStringIncludes(await box.fails(1), 'end its line with "trust" if it is meant');
  });

  it("cannot ride on trust that was given to a clean one, by a change of the lock", async () => {
    await using setting = await Setting.start(skill({ "a.md": "clean" }));
    const { box, forge } = setting;
    box.manifest("team/skills/bad trust");
    await box.done();
    const commit = await forge.commit("team/skills", { "bad/a.md": "\u200b" });
    const hash = (await forge.git("team/skills", "rev-parse", "main:bad")).trim();
    const lock = box.read(".skills.lock").replace(/"commit":"\w+"/, `"commit":"${commit}"`).replace(
      /"tree":"\w+"/,
      `"tree":"${hash}"`,
    );
    box.write(".skills.lock", lock);
    assertStringIncludes(await box.fails(1), "it has changed since it was trusted");
  });

  it("with hidden characters is refused in a repo that does not trust it, though another has stored it", async () => {
    await using setting = await Setting.start(skill({ "a.md": "\u200b" }));
    const { box } = setting;
    box.manifest("team/skills/bad trust");
    await box.done();
    const lock = box.read(".skills.lock");
    box.enter("another");
    box.manifest("team/skills/bad");
    box.write(".skills.lock", lock.replace(/"trusted":"\w+",/, ""));
    assertStringIncludes(await box.fails(1), "has characters that nobody sees: bad/a.md:1:1 U+200B");
    assertEquals(links(box), {});
  });

  it("runs nothing: no hook, no filter, nothing of the surrounding repo's settings", async () => {
    await using setting = await Setting.start({ ...PDF, ".gitattributes": "* filter=evil\n" });
    const { box } = setting;
    const evil = `touch ${box.path}/evil`;
    box.write(`${box.home}/evil.sh`, `#!/bin/sh\n${evil}\n`);
    Deno.chmodSync(`${box.home}/evil.sh`, 0o755);
    const config = `${box.read(`${box.home}/.gitconfig`)}[filter "evil"]\n\tsmudge = ${evil}\n\trequired = true\n`;
    box.write(`${box.home}/.gitconfig`, `${config}[core]\n\thooksPath = ${box.home}/hooks\n`);
    for (const hook of ["post-checkout", "reference-transaction", "post-index-change"]) {
      box.write(`${box.home}/hooks/${hook}`, `#!/bin/sh\n${evil}\n`);
      Deno.chmodSync(`${box.home}/hooks/${hook}`, 0o755);
    }
    box.environment = {
      GIT_DIR: `${box.path}/nowhere`,
      GIT_INDEX_FILE: `${box.path}/evil`,
      GIT_EXTERNAL_DIFF: `${box.home}/evil.sh`,
      GIT_SSH_COMMAND: `${box.home}/evil.sh`,
      GIT_ASKPASS: `${box.home}/evil.sh`,
    };
    box.manifest("team/skills/skills/pdf");
    await box.done();
    assertEquals([isThere(`${box.path}/evil`), isThere(`${box.path}/nowhere`)], [false, false]);
  });

  it("is not fetched over http, even where git is told to go there, but from this machine itself", async () => {
    await using setting = await Setting.start(PDF, { tls: false });
    const { box } = setting;
    const config = box.read(`${box.home}/.gitconfig`);
    box.write(`${box.home}/.gitconfig`, config.replaceAll("http://127.0.0.1", "http://git.example.invalid"));
    box.manifest("team/skills/skills/pdf");
    assertStringIncludes(await box.fails(1), "transport 'http' not allowed");
    box.write(`${box.home}/.gitconfig`, config);
    await box.done();
    assertEquals(Object.keys(links(box)), ["pdf"]);
  });
});

describe("the store", () => {
  requires("git", "openssl", "setpriv")(
    "can be written, moved and repaired by somebody whom permissions stop",
    async () => {
      await using setting = await Setting.start({ ...PDF, "skills/pdf/deep/er/file": "x" });
      const { box, forge } = setting;
      Deno.chmodSync(forge.path, 0o755);
      box.manifest("team/skills/skills/pdf");
      const first = await box.runUnprivileged();
      assertEquals(first.status, 0, first.stderr);
      const skill = links(box)["pdf"] ?? "";
      await succeed(["chmod", "-R", "u+w", skill]);
      Deno.writeTextFileSync(`${skill}/SKILL.md`, "x");
      const repaired = await box.runUnprivileged();
      assertEquals(repaired.status, 0, repaired.stderr);
      assertEquals(whatIs(`${skill}/SKILL.md`), `444 ${skillText("pdf")}`);
      box.manifest();
      await box.runUnprivileged();
      const cleaned = await box.runUnprivileged("clean", "--store");
      assertMatch(cleaned.stderr, /removed what no known repo uses from the store: 1 skills/);
      assertEquals(isThere(skill), false);
    },
  );

  requires("git", "openssl", "tmpfs")("that is on a full disk leaves nothing half done", async () => {
    await using setting = await Setting.start({
      ...PDF,
      "skills/pdf/large": crypto.getRandomValues(new Uint8Array(60_000)),
    });
    const { box } = setting;
    box.manifest("team/skills/skills/pdf");
    const data = `${box.home}/full`;
    box.directory(data);
    const script =
      `mount -t tmpfs -o size=40k none ${data} && "$@"; status=$?; find ${data} -name SKILL.md; exit $status`;
    const words = ["unshare", "-rm", "sh", "-c", script, "sh", ...await box.call()];
    const environment = { XDG_DATA_HOME: data };
    const { status, stdout, stderr } = await execute(words, await box.start({ environment }));
    assertEquals([status, stdout], [1, ""], stderr);
    assertMatch(stderr, /^\.skills:1: .*No space left/m);
    assertEquals(links(box), {});
    await box.done();
    assertEquals(Object.keys(links(box)), ["pdf"]);
  });
});
