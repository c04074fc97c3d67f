/** What git references may look like, what they lead to, and what is said about those that lead nowhere. */
import { assertEquals, assertMatch } from "jsr:@std/assert@^1";
import { describe } from "jsr:@std/testing@^1/bdd";
import { AGENTS, manyNames, PDF, Setting, skillFiles } from "./git_helpers.ts";
import { deployed, isThere, requires, skillText, stamps, tree } from "./helpers.ts";

const it = requires("git", "openssl");

describe("a git reference", () => {
  it("is fetched, locked, stored read-only with its exact bytes, and linked; then git is not run again", async () => {
    await using setting = await Setting.start({
      ...PDF,
      "skills/pdf/a/crlf.txt": "a\r\nb\r\n",
      "skills/pdf/link": { link: "a/crlf.txt" },
      ".gitattributes": "* text eol=lf\n*.sh export-ignore\n",
      "skills/other/SKILL.md": skillText("other"),
    });
    const { box, forge } = setting;
    setting.configure("[core]\n\tautocrlf = input\n");
    box.manifest("team/skills/skills/pdf");
    assertEquals(await box.done(), `use-skills: linked pdf for ${AGENTS}\n`);
    const [commit, hash] = [await setting.hash("main"), await setting.hash("main:skills/pdf")];
    const line =
      `"team/skills/skills/pdf": {"commit":"${commit}","path":"skills/pdf","tree":"${hash}","url":"https://github.com/team/skills"}`;
    assertEquals(box.read(".skills.lock"), `{\n${line},\n"version": 2\n}\n`);
    const skill = `${setting.storePath}/${hash}/pdf`;
    for (const target of [".claude/skills", ".opencode/skills", ".agents/skills"]) {
      assertEquals(deployed(box.at(target)), { pdf: skill });
    }
    assertEquals(tree(skill), {
      "SKILL.md": `444 ${skillText("pdf")}`,
      a: "directory",
      "a/crlf.txt": "444 a\r\nb\r\n",
      link: "-> a/crlf.txt",
      "run.sh": "555 #!/bin/sh\n",
    });
    for (const path of ["", "/a"]) assertEquals((Deno.statSync(skill + path).mode ?? 0) & 0o777, 0o555);
    const [asked, before] = [forge.requests.length, stamps(box.path)];
    box.environment = { PATH: "/nowhere" };
    assertEquals(await box.done(), "");
    assertEquals(await box.done("check"), "");
    assertEquals([forge.requests.length, stamps(box.path)], [asked, before]);
  });

  const forms: [entry: string, name: string, path: string][] = [
    ["team/skills/skills/pdf", "pdf", "skills/pdf"],
    ["team/skills/skills/pdf#v1 as a", "a", "skills/pdf"],
    ["team/skills/skills/pdf#feat/x as b", "b", "skills/pdf"],
    ["https://github.com/team/skills/tree/main/skills/pdf as c", "c", "skills/pdf"],
    ["https://github.com/team/skills/tree/feat/x/skills/pdf as d", "d", "skills/pdf"],
    ["https://gitlab.com/team/skills/-/tree/feat/x/skills/pdf as e", "e", "skills/pdf"],
    ["https://codeberg.org/team/skills/src/branch/feat/x/skills/pdf as f", "f", "skills/pdf"],
    ["https://codeberg.org/team/skills/src/tag/v1/skills/pdf as g", "g", "skills/pdf"],
    ["https://git.example.org/team/skills.git//skills/pdf#v1 as h", "h", "skills/pdf"],
    ["git@git.example.org:team/skills.git//skills/pdf as i", "i", "skills/pdf"],
    ["https://github.com/team/skills/blob/main/skills/pdf/SKILL.md as j", "j", "skills/pdf"],
    ["https://github.com/team/skills/tree/main/skills/a%62c", "abc", "skills/abc"],
    ["team/root", "root", ""],
    ["https://github.com/team/root/ as k", "k", ""],
    ["https://github.com/team/root?tab=readme-ov-file as l", "l", ""],
    ["https://github.com/team/two/* for cursor", "", ""],
    ["git@git.example.org:team/two.git/* for kilo", "", ""],
  ];
  it("can be written in many ways", async () => {
    await using setting = await Setting.start({ ...PDF, "skills/abc/SKILL.md": skillText("abc") });
    const { box, forge } = setting;
    await forge.git("team/skills", "branch", "feat/x");
    await forge.git("team/skills", "branch", "feat-not-this-one");
    await forge.commit("team/root", { "SKILL.md": skillText("root") });
    await forge.commit("team/two", skillFiles("skills", ["one", "two"]));
    box.manifest(...forms.map(([entry]) => entry));
    await box.done();
    assertEquals(Object.keys(setting.links), forms.flatMap(([, name]) => name || []).sort());
    const paths = Object.fromEntries(forms.map(([entry, , path]) => [entry.split(" ", 1)[0], path]));
    assertEquals(Object.fromEntries(Object.entries(setting.locked).map(([text, { path }]) => [text, path])), paths);
    for (const agent of [".cursor", ".kilo"]) {
      const names = [...Deno.readDirSync(box.at(`${agent}/skills`))].map(({ name }) => name);
      assertEquals(names.filter((name) => !name.startsWith(".")).sort(), ["one", "two"]);
    }
    assertEquals(await box.done("check"), "");
  });

  it("to a commit stays at that commit", async () => {
    await using setting = await Setting.start();
    const { box, forge } = setting;
    const commit = await setting.hash("main");
    await forge.commit("team/skills", { "skills/pdf/new": "x" });
    const entries = [
      `team/skills/skills/pdf#${commit}`,
      `https://github.com/team/skills/tree/${commit}/skills/pdf as b`,
    ];
    box.manifest(...entries);
    await box.done();
    assertEquals(await box.done("update"), "");
    assertEquals(Object.values(setting.locked).map((each) => each["commit"]), [commit, commit]);
  });

  it("can be a file URL or use ssh, and the same content is stored once", async () => {
    await using setting = await Setting.start();
    const { box, forge } = setting;
    box.environment = { PATH: forge.sshOn(box.home) };
    box.write(`${box.home}/.gitconfig`, "[safe]\n\tdirectory = *\n");
    box.manifest(
      `file://${forge.path}/team/skills.git//skills/pdf`,
      "ssh://git@git.example.org:2222/team/skills.git//skills/pdf as by-ssh",
      "git@git.example.org:team/skills.git//skills/pdf as by-scp",
    );
    await box.done();
    assertEquals(Object.keys(setting.links), ["by-scp", "by-ssh", "pdf"]);
    assertMatch(box.read(`${box.home}/ssh.log`), /-oBatchMode=yes/);
    assertEquals(Object.keys(setting.store).filter((path) => path.endsWith("/SKILL.md")).length, 1);
  });

  it("is not redirected by the user's settings for a remote called origin", async () => {
    await using setting = await Setting.start();
    const { box, forge } = setting;
    await forge.commit("evil/skills", { ...PDF, "skills/pdf/evil": "" });
    setting.configure('[remote "origin"]\n\turl = https://github.com/evil/skills\n');
    box.manifest("team/skills/skills/pdf");
    await box.done();
    assertEquals(isThere(`${setting.links["pdf"]}/evil`), false);
  });

  const credentials = "This URL contains a user or a password: remove it and use git's credential helper";
  const dots = (text: string) => `"." and ".." are not allowed in a URL or in a repo's path: "${text}"`;
  const invalid: [text: string, message: string][] = [
    ["http://me:s3cret@github.com/x/y", credentials],
    ["me:s3cret@git.example.org:team/skills", credentials],
    ["https://me:s3cret@github.com/team/skills//skills/pdf", credentials],
    ["https://me@github.com/team/skills", credentials],
    ["ssh://git:s3cret@github.com/team/skills", credentials],
    ["team/skills/a/../../x", dots("team/skills/a/../../x")],
    ["https://github.com/team/skills/..", dots("https://github.com/team/skills/..")],
    ["https://github.com/a/b/tree/main/../../x", dots("https://github.com/a/b/tree/main/../../x")],
    ["git@git.example.org:team/..", dots("git@git.example.org:team/..")],
    ["team/skills#", 'A branch, tag or commit is missing after "#" in "team/skills#"'],
    ["ext::sh", '"ext::sh" is not a name, a path (./ ../ / ~/), OWNER/REPO or a git URL'],
    ["git://github.com/a/b", 'Only https, ssh and file URLs are supported, not "git://github.com/a/b"'],
    [
      "http://github.com/a/b",
      "http is not supported, because anyone on the way can change what it transfers: use https for " +
      '"http://github.com/a/b", or map it in your git configuration with url.BASE.insteadOf',
    ],
  ];
  it("is invalid with a password, with dots, or of an unknown kind, whatever the command, and nothing is fetched", async () => {
    await using setting = await Setting.start();
    const { box, forge } = setting;
    box.manifest(...invalid.map(([text]) => text));
    const expected = invalid.map(([, message], index) => `.skills:${index + 1}: ${message}\n`).join("");
    for (const args of [[], ["check"], ["list"], ["update"], ["--offline"]]) {
      assertEquals(await box.fails(2, ...args), expected);
    }
    assertEquals([forge.requests, setting.store], [[], {}]);
  });

  it("to a name that is both a branch and another tag fails, also if the branch was created later", async () => {
    await using setting = await Setting.start();
    const { box, forge } = setting;
    box.manifest("team/skills/skills/pdf#v1");
    await box.done();
    const lock = box.read(".skills.lock");
    await forge.commit("team/skills", { "skills/pdf/evil": "" }, { branch: "v1" });
    assertEquals(
      await box.fails(1, "update"),
      '.skills:1: https://github.com/team/skills has a branch and a tag named "v1": write the commit instead\n',
    );
    assertEquals(box.read(".skills.lock"), lock);
  });

  it("to an annotated tag is locked to the commit", async () => {
    await using setting = await Setting.start();
    const { box, forge } = setting;
    await forge.git("team/skills", "tag", "-a", "-m", "Two", "v2", "main");
    box.manifest("team/skills/skills/pdf#v2");
    await box.done();
    assertEquals(Object.values(setting.locked).map((each) => each["commit"]), [await setting.hash("main")]);
    assertEquals(await box.done("update"), "");
  });

  it("can be every skill in a directory, or in a whole repo", async () => {
    await using setting = await Setting.start({
      ...PDF,
      ...skillFiles("skills", ["docx", "docx/inner"]),
      ...skillFiles("more/deep", ["csv"]),
      "skills/notes/README.md": "no skill",
    });
    const { box } = setting;
    box.manifest("team/skills/skills/*");
    await box.done();
    assertEquals(Object.keys(setting.links), ["docx", "pdf"]);
    box.manifest("team/skills/*", "https://github.com/team/skills/tree/main/more/* for cursor");
    const commit = (await setting.hash("main")).slice(0, 7);
    assertEquals(
      await box.fails(1),
      `use-skills: linked csv for ${AGENTS}
.skills:2: "https://github.com/team/skills/tree/main/more/*": "more" has no skills at ${commit}; ` +
        "skills in this repo: more/deep/csv, skills/docx, skills/pdf\n",
    );
    box.manifest("team/skills/*");
    await box.done();
    assertEquals(Object.keys(setting.links), ["csv", "docx", "pdf"]);
    assertEquals(Object.keys(setting.locked), ["team/skills/*"]);
    assertEquals(await box.done("check"), "");
  });

  const url = "https://github.com/team/skills";
  const skills = "skills in this repo: skills/docx, skills/pdf";
  const gone = `${"0".repeat(39)}1`;
  const problems: [text: string, message: string][] = [
    ["team/skills/skills/pfd", `"team/skills/skills/pfd": ${url} has no directory "skills/pfd" at COMMIT; ${skills}`],
    ["team/skills", `"team/skills": ${url} has no SKILL.md at COMMIT; ${skills}`],
    ["team/skills/notes", `"team/skills/notes": "notes" has no SKILL.md at COMMIT; ${skills}`],
    ["team/skills/notes/*", `"team/skills/notes/*": "notes" has no skills at COMMIT; ${skills}`],
    ["team/skills/latest", `"team/skills/latest": ${url} has no directory "latest" at COMMIT; ${skills}`],
    ["team/skills/skills/pdf#nosuch", `${url} has no branch or tag "nosuch"`],
    ["team/skills/skills/pdf#abcdef0", `${url} has no branch or tag "abcdef0"; a commit needs all 40 digits`],
    [`team/skills/skills/pdf#${gone}`, `${url} no longer has the commit ${gone}: "update" fetches the newest one`],
    ["team/skills/skills/pdf#--upload-pack=x", `${url} has no branch or tag "--upload-pack=x"`],
    [`${url}/tree/nosuch/skills/pdf`, `${url} has no branch or tag "nosuch"`],
    ["team/nosuch/skills/pdf", "Cannot fetch https://github.com/team/nosuch: there is no such repo, or it is private"],
    ["team/empty/skills/pdf", 'https://github.com/team/empty has no default branch: write one after "#"'],
  ];
  it("that leads nowhere fails alone, and the message says what there is", async () => {
    await using setting = await Setting.start({
      ...PDF,
      "skills/docx/SKILL.md": skillText("docx"),
      "notes/README.md": "x",
      latest: { link: "skills/pdf" },
    });
    const { box, forge } = setting;
    await forge.commit("team/empty", PDF);
    await forge.git("team/empty", "update-ref", "-d", "refs/heads/main");
    box.skills("local");
    box.manifest("local", ...problems.map(([text]) => text));
    const commit = (await setting.hash("main")).slice(0, 7);
    const expected = problems.map(([, message], index) =>
      `.skills:${index + 2}: ${message.replace("COMMIT", commit)}\n`
    );
    assertEquals(await box.fails(1), `use-skills: linked local for ${AGENTS}\n${expected.join("")}`);
    assertEquals(Object.keys(setting.links), ["local"]);
    assertEquals([setting.store, isThere(box.at(".skills.lock"))], [{}, false]);
  });

  it("with a misspelt path in a repo of 20,000 skills gets the nearest names as an answer", async () => {
    const files = manyNames(20_000).map((name) => [`s/${name}/SKILL.md`, skillText("same")]);
    await using setting = await Setting.start(Object.fromEntries(files));
    const { box } = setting;
    box.manifest("team/skills/s/skill-12x45");
    const commit = (await setting.hash("main")).slice(0, 7);
    const message = await box.fails(1);
    const [, nearest = ""] = / repo: (s\/skill-12[^ ]*, [^\n]*) and 19994 more\n$/.exec(message) ?? [];
    assertEquals(nearest.split(", ").length, 6);
    assertEquals(
      message,
      `.skills:1: "team/skills/s/skill-12x45": https://github.com/team/skills has no directory "s/skill-12x45" at ` +
        `${commit}; skills in this repo: ${nearest} and 19994 more\n`,
    );
  });

  it("to a directory with a submodule finds the skills after it", async () => {
    await using setting = await Setting.start({
      ...skillFiles("skills", ["a", "z"]),
      "skills/m": { submodule: "1".repeat(40) },
    });
    setting.box.manifest("team/skills/skills/*");
    assertEquals(await setting.box.done(), `use-skills: linked a, z for ${AGENTS}\n`);
  });

  it("with a path that looks like a pathspec does not make other entries fail", async () => {
    await using setting = await Setting.start();
    setting.box.manifest("team/skills/:(icase)x as x", "team/skills/skills/pdf");
    const commit = (await setting.hash("main")).slice(0, 7);
    assertEquals(
      await setting.box.fails(1),
      `use-skills: linked pdf for ${AGENTS}
.skills:1: "team/skills/:(icase)x": https://github.com/team/skills has no directory ":(icase)x" at ${commit}; ` +
        "skills in this repo: skills/pdf\n",
    );
    assertEquals(Object.keys(setting.links), ["pdf"]);
  });
});
