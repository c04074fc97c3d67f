/** Tests of `mode commit`: what git would not keep in a clone. */
import { assertEquals, assertStringIncludes } from "jsr:@std/assert@^1";
import { describe } from "jsr:@std/testing@^1/bdd";
import { ATTRIBUTES, cloneElsewhere, commit, start, TARGETS } from "./commit_helpers.ts";
import { execute, isThere, requires } from "./helpers.ts";

const it = requires("git", "openssl");

const otherContent = (path: string) =>
  `A clone has other content in ${path}, because git attributes change it (see: git check-attr -a ${path})`;

describe("what git would not keep", () => {
  it("is reported: ignored files of copies, and links whose skill git ignores", async () => {
    await using setting = await start();
    const { box, forge } = setting;
    await forge.commit("team/skills", { "skills/pdf/build/a": "a" });
    box.skills("node_modules/tool");
    box.write("skills/hq/build/b", "b");
    box.write("skills/hq/.DS_Store", "");
    box.write("skills/hq/.env", "secret");
    box.write(".gitignore", "build/\nnode_modules/\n.DS_Store\n.env\n");
    const expected =
      '.skills: A clone lacks .claude/skills/pdf/build/a and 2 other files, because git ignores them ("build/" in ' +
      ".gitignore:1): change that line, or add them with git add --force\n" +
      '.skills: A clone lacks node_modules/tool/SKILL.md, because git ignores it ("node_modules/" in .gitignore:2): ' +
      "change that line, or add it with git add --force\n";
    box.manifest("mode commit", "./skills/hq", "team/skills/skills/pdf", "./node_modules/tool");
    const message = await box.fails(1, "update");
    assertEquals(message.slice(message.indexOf(".skills:")), expected);
    assertEquals(await box.fails(1, "check"), expected);
    await box.git("add", "--force", ".");
    assertEquals(await box.done("check"), "");
  });

  it("is nothing that the project's own attributes ask for", async () => {
    await using setting = await start();
    const { box } = setting;
    box.write(".gitattributes", "* text=auto eol=crlf\n");
    await commit(box, "attributes");
    const clone = cloneElsewhere(setting);
    assertEquals(await clone.done("check"), "");
  });

  it("is reported: files that attributes of the skill itself change", async () => {
    await using setting = await start();
    const { box, forge } = setting;
    await forge.commit("team/skills", { "skills/pdf/.gitattributes": "crlf text\n" });
    const message = await box.fails(1, "update", "-q");
    const changed = (target: string) => `.skills: ${otherContent(`${target}/pdf/crlf`)}\n`;
    assertEquals(message, TARGETS.map(changed).join(""));
  });

  it("is reported: exactly the files that attributes of the skill itself change in a clone", async () => {
    await using setting = await start();
    const { box, forge } = setting;
    const attributes = [
      "*.crlf text=auto",
      "lf text=auto",
      "*.bat text eol=crlf",
      "*.auto text=auto eol=crlf",
      "*.id ident",
      "*.utf working-tree-encoding=UTF-8",
      "*.none filter",
      "*.lfs filter=lfs -text",
    ];
    const files = {
      "run.bat": "a\nb\n",
      "line.bat": "a",
      "binary.auto": "a\n\0\n",
      "text.auto": "a\n",
      "mixed.auto": "a\r\nb\n",
      "a.id": "$Id$\n",
      "b.id": "$Ident$\n",
      "a.utf": "ä\n",
      "a.none": "a\n",
      "a.lfs": "a\n",
      "new.crlf": "a\r\n",
      "lf": "a\n",
    };
    const paths = Object.entries(files).map(([name, text]) => [`skills/pdf/${name}`, text]);
    await forge.commit("team/skills", {
      "skills/pdf/.gitattributes": attributes.join("\n") + "\n",
      ...Object.fromEntries(paths),
    });
    box.write(".git/info/attributes", "lf text eol=crlf\n"); // which no clone has
    box.manifest("mode commit", "team/skills/skills/pdf for claude");
    const message = await box.fails(1, "update", "-q");
    await box.git("add", "--force", "--all");
    await box.git("commit", "-qm", "all");
    const clone = cloneElsewhere(setting);
    const changed = Object.entries(files).filter(([name, text]) => clone.read(`.claude/skills/pdf/${name}`) !== text);
    assertEquals(changed.map(([name]) => name), ["run.bat", "text.auto", "mixed.auto", "a.id", "new.crlf"]);
    const lines = changed.map(([name]) => `.skills: ${otherContent(`.claude/skills/pdf/${name}`)}`);
    assertEquals(message.trimEnd().split("\n").toSorted(), lines.toSorted());
  });

  it("is nothing that git converts on commit, and back on checkout", async () => {
    await using setting = await start();
    const { box, forge } = setting;
    await forge.commit("team/skills", { "skills/pdf/.gitattributes": "crlf text eol=crlf\n" });
    await box.done("update", "-q");
    await commit(box, "crlf");
    assertEquals(await box.done("check"), "");
    assertEquals(await cloneElsewhere(setting).done("check"), "");
  });

  it("is reported: lines after ours in the project's own .gitattributes", async () => {
    await using setting = await start();
    const { box } = setting;
    box.manifest("mode commit", "team/skills/skills/pdf for claude");
    await box.done();
    box.write(".claude/skills/.gitattributes", `${ATTRIBUTES}SKILL.md text eol=crlf\n`);
    assertEquals(await box.fails(1, "check"), `.skills: ${otherContent(".claude/skills/pdf/SKILL.md")}\n`);
  });

  it("is reported: what Python has left in a copy, if it is committed", async () => {
    await using setting = await start();
    const { box } = setting;
    const cache = ".claude/skills/pdf/scripts/__pycache__/util.pyc";
    box.write(cache, "other code");
    assertEquals(await box.done("check"), "");
    await box.git("add", "--force", cache);
    const message = `.skills: A clone has ${cache}, which is not part of the skill: git rm --cached it\n`;
    assertEquals(await box.fails(1, "check"), message);
  });

  it("is reported: an absolute link that is there already", async () => {
    await using setting = await start();
    const { box } = setting;
    box.remove(".claude/skills/hq");
    box.link(".claude/skills/hq", `${box.repo}/skills/hq`);
    const message =
      ".skills: A clone elsewhere has a broken link .claude/skills/hq, because it is absolute: rm it, then sync\n";
    assertEquals((await box.fails(1, "check")).split("\n").at(-2), message.trimEnd());
    box.remove(".claude/skills/hq");
    await box.done();
    assertEquals(await box.done("check"), "");
  });

  it("is nothing for a link that leads into the project from elsewhere, or for ~ if the project is the home", async () => {
    await using setting = await start();
    const { box } = setting;
    box.link(`${box.home}/n/hq`, `${box.repo}/skills/hq`);
    box.manifest("mode commit", "~/n/hq for claude");
    await box.done("-q");
    assertEquals(Deno.lstatSync(box.at(".claude/skills/hq")).isDirectory, true);
    assertEquals([await box.done(), await box.done("check"), await box.done("--frozen")], ["", "", ""]);
    box.environment = { HOME: box.repo };
    box.manifest("mode commit", "~/skills/hq for claude");
    await box.done("-q");
    assertEquals(Deno.readLinkSync(box.at(".claude/skills/hq")), "../../skills/hq");
    assertEquals(await box.done("check"), "");
  });

  it("is reported: a path of this machine that names a skill in the project", async () => {
    await using setting = await start();
    const { box } = setting;
    box.skills("tools/lint");
    box.manifest("mode commit", `${box.repo}/tools/*`, `${box.repo}/skills/hq as boss`);
    const lost = (path: string) =>
      `.skills: A clone elsewhere doesn't find "${box.repo}/${path}": write a path that starts with ./\n`;
    assertEquals(await box.fails(1, "-q"), lost("skills/hq") + lost("tools/*"));
    assertEquals(await box.fails(1, "check"), lost("skills/hq") + lost("tools/*"));
    box.manifest("mode commit", "./tools/*", "./skills/hq as boss");
    await box.done("-q");
    assertEquals(await box.done("check"), "");
  });

  it("is reported: .gitattributes that was deleted, or that is the project's own and lacks our line", async () => {
    await using setting = await start();
    const { box } = setting;
    const line = ATTRIBUTES.split("\n")[1];
    const lacking = (target: string) =>
      `.skills: A clone may have other content in ${target}: add this line to its .gitattributes: ${line}\n`;
    const [claude, opencode] = [".claude/skills", ".opencode/skills"];
    box.remove(`${claude}/.gitattributes`);
    box.write(`${opencode}/.gitattributes`, "*.md text\n");
    assertEquals(await box.fails(1, "check"), lacking(claude) + lacking(opencode));
    box.write(`${opencode}/.gitattributes`, `*.md text\n${line}\n`);
    assertEquals(await box.done("--frozen"), "");
    assertEquals(isThere(box.at(`${claude}/.gitattributes`)), false);
    assertEquals(await box.done(), "");
    assertEquals(box.read(`${claude}/.gitattributes`), ATTRIBUTES);
    assertEquals(await box.done("check"), "");
  });

  it("is found without running a program that a committed bare repo names", async () => {
    await using setting = await start();
    const { box } = setting;
    box.write("pkg/HEAD", "ref: refs/heads/main\n");
    for (const name of ["objects", "refs"]) box.directory(`pkg/${name}`);
    const clean = `touch ${box.path}/ran; cat`;
    box.write(
      "pkg/config",
      `[core]\n\tbare = false\n\tworktree = .\n[filter "x"]\n\tclean = ${JSON.stringify(clean)}\n`,
    );
    box.write("pkg/info/attributes", "* filter=x\n");
    box.write("pkg/.skills", "mode commit\n~/notes/style\n");
    await box.done("-C", "pkg");
    await box.done("check", "-C", "pkg");
    assertEquals(isThere(`${box.path}/ran`), false);
  });

  it("is reported: an executable file that core.fileMode=false has not kept", async () => {
    await using setting = await start();
    const { box } = setting;
    await box.git("config", "core.fileMode", "false");
    assertEquals(await box.done("check"), "");
    await box.git("update-index", "--chmod=-x", ".claude/skills/pdf/run.sh");
    const path = ".claude/skills/pdf/run.sh";
    assertEquals(
      await box.fails(1, "check"),
      `.skills: A clone can't execute ${path}, because core.fileMode is off: git add --chmod=+x ${path}\n`,
    );
    const elsewhere = await execute(await box.call("check"), await box.start({ cwd: box.at(".claude") }));
    assertStringIncludes(elsewhere.stderr, "core.fileMode is off: git add --chmod=+x ../.claude/skills/pdf/run.sh\n");
    await box.git("add", "--chmod=+x", path);
    assertEquals(await box.done("check"), "");
  });

  it("is reported: a skill in another repo that is no submodule", async () => {
    await using setting = await start();
    const { box } = setting;
    box.skills("other/skill");
    await box.git("init", "-q", "other");
    await box.git("-C", "other", "add", ".");
    await box.git("-C", "other", "commit", "-qm", "all");
    box.write(".gitignore", "other/\n");
    box.manifest("mode commit", "./other/skill");
    const lost = ".skills: A clone lacks other, because it is another repo: make it a submodule, or remove its .git\n";
    assertEquals(await box.fails(1, "-q"), lost);
    assertEquals(await box.fails(1, "check"), lost);
    await box.git("add", "--force", "other");
    assertEquals(await box.done("check"), "");
  });

  it("is reported: that git can't be asked", async () => {
    await using setting = await start();
    const { box } = setting;
    box.write(".git/config", "[broken");
    const reason = "fatal: bad config line 2 in file .git/config";
    const problem = `.skills: Cannot test whether a clone gets what is deployed here: ${reason}\n`;
    assertEquals(await box.fails(1, "check"), problem);
  });

  it("is reported: that git refuses another user's repo, with what git says one can do", async () => {
    await using setting = await start();
    const { box } = setting;
    box.environment = { ...box.environment, GIT_TEST_ASSUME_DIFFERENT_OWNER: "1" };
    const reason = `fatal: detected dubious ownership in repository at '${box.repo}' To add an exception for this ` +
      `directory, call: git config --global --add safe.directory ${box.repo}`;
    const problem = `.skills: Cannot test whether a clone gets what is deployed here: ${reason}\n`;
    assertEquals(await box.fails(1, "check"), problem);
  });

  it("is nothing without git, or outside a git repo", async () => {
    await using setting = await start();
    const { box } = setting;
    const { environment } = box;
    box.environment = { ...environment, PATH: `${box.path}/none` };
    assertEquals(await box.done("check"), "");
    box.environment = environment;
    Deno.renameSync(box.at(".git"), `${box.path}/git`);
    assertEquals(await box.done("check"), "");
  });
});
