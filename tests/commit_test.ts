/** Tests of `mode commit`: what is committed, what a clone needs, and how branches merge. */
import { assertEquals, assertMatch } from "jsr:@std/assert@^1";
import { describe } from "jsr:@std/testing@^1/bdd";
import { ATTRIBUTES, cloneElsewhere, commit, start, TARGETS, targets } from "./commit_helpers.ts";
import { AGENTS, PDF, Setting } from "./git_helpers.ts";
import { deployed, isThere, requires, skillText, stamps, tree } from "./helpers.ts";
import { scenario } from "./scenario.ts";

const it = requires("git", "openssl");

describe("mode commit", () => {
  it("deploys relative links and real files, and records them in the lockfile only", async () => {
    await using setting = await start();
    const { box } = setting;
    const [head, pdf] = [await setting.hash("main"), await setting.hash("main:skills/pdf")];
    await box.git("-C", `${box.home}/notes/style`, "init", "-q");
    await box.git("-C", `${box.home}/notes/style`, "add", "SKILL.md");
    const style = (await box.git("-C", `${box.home}/notes/style`, "write-tree")).trim();
    for (const target of TARGETS) {
      const entries = { ".gitattributes": "file", hq: "../../skills/hq", pdf: "copy", style: "copy" };
      assertEquals(deployed(box.at(target)), entries);
      assertEquals([...Deno.readDirSync(box.at(target))].length, 4);
      assertEquals(box.read(`${target}/.gitattributes`), ATTRIBUTES);
    }
    assertEquals(
      box.read(".skills.lock"),
      [
        "{",
        `"./skills/hq": {"link":"skills/hq",${targets("hq")}},`,
        `"team/skills/skills/pdf": {"commit":"${head}","path":"skills/pdf",${targets("pdf")},"tree":"${pdf}",` +
        '"url":"https://github.com/team/skills"},',
        `"~/notes/style": {${targets("style")},"tree":"${style}"},`,
        '"version": 2',
        "}",
        "",
      ].join("\n"),
    );
    assertEquals(await box.git("status", "--porcelain", "--ignored"), "");
  });

  it("changes nothing in a second run", async () => {
    await using setting = await start();
    const { box } = setting;
    const before = stamps(box.repo);
    for (const args of [[], ["check"]]) assertEquals(await box.done(...args), "");
    assertEquals(stamps(box.repo), before);
  });

  it("needs nothing in a clone but the clone: no store, no network, no home", async () => {
    await using setting = await start();
    const original = tree(setting.box.repo);
    const box = cloneElsewhere(setting);
    for (const args of [[], ["check"], ["--frozen"]]) assertEquals(await box.done(...args), "");
    assertEquals(setting.forge.requests, []);
    assertEquals(await box.git("status", "--porcelain", "--ignored"), "");
    const modes = (all: Record<string, string>) =>
      Object.entries(all).map(([path, what]) => [path, what.replace(/^600/, "644").replace(/^700/, "755")]);
    assertEquals(modes(tree(box.repo)), modes(original));
    assertEquals(box.read(".claude/skills/pdf/crlf"), "a\r\n");
  });

  it("lists in a clone what is deployed", async () => {
    await using setting = await start();
    const { stdout } = await setting.box.run("list");
    const box = cloneElsewhere(setting);
    assertEquals((await box.run("list")).stdout, stdout);
  });

  it("finds in CI what was edited, is missing, or was added, and fetches only what is missing", async () => {
    await using setting = await start();
    const box = cloneElsewhere(setting);
    box.environment = { ...box.environment, CI: "true" };
    box.write(".claude/skills/pdf/SKILL.md", "edited");
    box.write(".agents/skills/style/added", "new");
    box.remove(".opencode/skills/hq");
    const edited = (line: number, name: string, target: string) =>
      `.skills:${line}: Cannot deploy "${name}" to ${target}: this copy was edited; restore it: git restore ` +
      `${target}/${name}\n`;
    const problems = edited(3, "pdf", ".claude/skills") + edited(4, "style", ".agents/skills");
    assertEquals(
      await box.fails(1, "check"),
      `would link .opencode/skills/hq -> skills/hq: nothing is there\n${problems}`,
    );
    assertEquals(await box.fails(1), `use-skills: linked hq for opencode\n${problems}`);
    assertEquals(setting.forge.requests, []);
    box.remove(".claude/skills/pdf");
    box.remove(".agents/skills/style/added");
    setting.configure("", box.environment["HOME"]);
    assertEquals(await box.done(), "use-skills: copied pdf for claude\n");
    assertEquals(await box.git("status", "--porcelain"), "");
  });

  it("reports a skill that is neither on this machine nor in the clone", async () => {
    await using setting = await start();
    const box = cloneElsewhere(setting);
    box.remove(".claude/skills/style");
    const message = '.skills:4: Cannot deploy "style" from ~/notes/style: "~/notes/style" does not exist\n';
    assertEquals(await box.fails(1), message);
    assertEquals(await box.fails(1, "check"), message);
    assertEquals(Object.keys(deployed(box.at(".agents/skills"))), [".gitattributes", "hq", "pdf", "style"]);
  });

  it("records the hash of a directory that was there already, so a clone needs no store", async () => {
    await using setting = await Setting.start();
    const { box } = setting;
    await box.git("init", "-q", "-b", "main");
    box.skills(`${box.home}/notes/style`);
    box.manifest("mode commit", "team/skills/skills/pdf for claude", "~/notes/style for claude");
    await box.done();
    box.remove(".skills.lock");
    assertEquals(await box.done(), "");
    assertEquals(box.read(".claude/skills/.gitattributes"), ATTRIBUTES);
    await commit(box, "deploy");
    const clone = cloneElsewhere(setting);
    clone.environment = { ...clone.environment, CI: "true" };
    for (const args of [["check"], []]) assertEquals(await clone.done(...args), "");
    assertEquals(setting.forge.requests, []);
    clone.write(".claude/skills/style/SKILL.md", "edited");
    assertEquals(
      await clone.fails(1, "check"),
      '.skills:3: Cannot deploy "style" to .claude/skills: a directory that use-skills did not create is there; ' +
        'move it away, or write "as NAME" after the entry\n',
    );
  });

  it("accepts files that git includes again, and asks the project's repo whatever a hook has set", async () => {
    await using setting = await start();
    const { box } = setting;
    box.write(".claude/skills/.gitignore", "pdf/*\n!pdf/*\n");
    await box.git("rm", "-rq", "--cached", ".claude");
    await box.git("init", "-q", "../other");
    box.write("../other/.git/info/exclude", ".claude/\n");
    for (const GIT_DIR of [`${box.path}/other/.git`, "."]) {
      box.environment = { ...box.environment, GIT_DIR };
      assertEquals(await box.done("check"), "", GIT_DIR);
    }
  });

  it("accepts what Python leaves in a copy and git ignores, but not another ignored file", async () => {
    await using setting = await start();
    const { box } = setting;
    box.write(".gitignore", "__pycache__/\n*.pyc\n");
    box.write(".claude/skills/pdf/__pycache__/x.pyc", "x");
    for (const args of [[], ["check"]]) assertEquals(await box.done(...args), "");
    box.write(".claude/skills/pdf/x\ny.pyc", "x");
    assertEquals(
      await box.fails(1, "check"),
      '.skills: A clone lacks .claude/skills/pdf/x\\ny.pyc, because git ignores it ("*.pyc" in .gitignore:2): ' +
        "change that line, or add it with git add --force\n" +
        '.skills:3: Cannot deploy "pdf" to .claude/skills: this copy was edited (compare: diff -r ' +
        `~/.local/share/use-skills/store/${await setting.hash("main:skills/pdf")}/pdf .claude/skills/pdf); ` +
        'move it away, or write "as NAME" after the entry\n',
    );
  });

  it("leaves out what Python and Finder left in a skill from the home, so a clone is complete", async () => {
    await using setting = await start();
    const { box } = setting;
    const before = tree(box.repo);
    for (const path of ["__pycache__/x.pyc", ".DS_Store"]) {
      box.write(`${box.home}/notes/style/${path}`, "x");
    }
    for (const args of [[], ["check"]]) assertEquals(await box.done(...args), "");
    assertEquals(tree(box.repo), before);
    box.write(".gitignore", "__pycache__/\n.DS_Store\n");
    box.write(`${box.home}/notes/style/new`, "new");
    assertEquals(await box.done(), `use-skills: copied again style for ${AGENTS}\n`);
    assertEquals(Object.keys(tree(box.at(".claude/skills/style"))), ["SKILL.md", "new"]);
    await commit(box, "new");
    const clone = cloneElsewhere(setting);
    for (const args of [["check"], []]) assertEquals(await clone.done(...args), "");
  });

  it("finds what a clone lacks if a skill from a server contains what Python leaves", async () => {
    await using setting = await Setting.start({ ...PDF, "skills/pdf/__pycache__/x.pyc": "x" });
    const { box } = setting;
    await box.git("init", "-q", "-b", "main");
    box.write(".gitignore", "__pycache__/\n");
    box.manifest("mode commit", "team/skills/skills/pdf for claude");
    const lost = ".skills: A clone lacks .claude/skills/pdf/__pycache__/x.pyc, because git ignores it " +
      '("__pycache__/" in .gitignore:1): change that line, or add it with git add --force\n';
    assertEquals(await box.fails(1), `use-skills: copied pdf for claude\n${lost}`);
    assertEquals(await box.fails(1, "check"), lost);
    await box.git("add", "--force", ".");
    await commit(box, "deploy");
    assertEquals(await cloneElsewhere(setting).done("check"), "");
  });

  it("checks that the lockfile records what is deployed, because a clone has only that", async () => {
    await using setting = await start();
    const { box } = setting;
    for (const path of [`${box.home}/notes/style`, ...TARGETS.map((target) => `${target}/style`)]) {
      box.write(`${path}/SKILL.md`, "better");
    }
    assertEquals(
      await box.fails(1, "check"),
      ".skills: .skills.lock is not as sync would write it: run sync\n",
    );
    assertEquals(await box.done(), "");
    assertEquals(await box.done("check"), "");
    await commit(box, "better");
    assertEquals(await cloneElsewhere(setting).done("check"), "");
  });

  it("compares all files of a skill from a server with a directory that was there already", async () => {
    const name = "__pycache__/x.pyc";
    await using setting = await Setting.start({ "skills/pdf/SKILL.md": skillText("pdf"), [`skills/pdf/${name}`]: "x" });
    const { box } = setting;
    box.skills(".claude/skills/pdf");
    for (const mode of ["link", "commit"]) {
      box.manifest(`mode ${mode}`, "team/skills/skills/pdf for claude");
      box.write(`.claude/skills/pdf/${name}`, "mine");
      assertMatch(await box.fails(1), /a directory that use-skills did not create is there/);
      box.write(`.claude/skills/pdf/${name}`, "x");
      assertEquals(await box.done(), "");
    }
  });

  it("merges two branches that each add a skill, with merge=union and one more sync", async () => {
    await using setting = await start("./skills/hq as zebra");
    const { box } = setting;
    const readme = Deno.readTextFileSync(new URL("../README.md", import.meta.url));
    box.write(".gitattributes", /```text attributes\n([^]*?)```/.exec(readme)?.[1] ?? "");
    await commit(box, "attributes");
    for (const name of ["aa", "ab"]) {
      await box.git("switch", "-qc", name, "main");
      box.skills(name);
      await box.done("add", `./skills/${name}`);
      await commit(box, name);
    }
    await box.git("merge", "-q", "--no-edit", "aa");
    await box.done();
    assertEquals(await box.done("check"), "");
    assertMatch(box.read(".skills.lock"), /"\.\/skills\/aa": .*\n"\.\/skills\/ab": .*\n"\.\/skills\/hq": /);
    assertEquals(deployed(box.at(".claude/skills"))["aa"], "../../skills/aa");
    await commit(box, "merged");
    assertEquals(await box.done(), "");
    assertEquals(await box.git("status", "--porcelain"), "");
  });

  it("is left and entered without losing a skill", async () => {
    await using setting = await start();
    const { box } = setting;
    const committed = tree(box.repo);
    const manifest = box.read(".skills");
    for (const mode of ["link", "copy"]) {
      box.write(".skills", manifest.replace("commit", mode));
      await box.done();
      const kinds = Object.values(deployed(box.at(".claude/skills")));
      assertEquals(kinds.map((kind) => kind === "copy"), Array(3).fill(mode === "copy"));
      assertEquals(isThere(box.at(".claude/skills/.gitattributes")), false);
      assertEquals(await box.done("check"), "");
      assertEquals(/targets|notes/.test(box.read(".skills.lock")), false);
      box.write(".skills", manifest);
      await box.done();
      assertEquals(tree(box.repo), committed);
    }
  });

  it("removes what clean, remove and update no longer need", async () => {
    await using setting = await start();
    const { box, forge } = setting;
    await forge.commit("team/skills", { "skills/pdf/new": "new" });
    await box.done("update", "-q");
    assertEquals(box.read(".claude/skills/pdf/new"), "new");
    await box.done("remove", "pdf", "-q");
    assertEquals(Object.keys(deployed(box.at(".claude/skills"))), [".gitattributes", "hq", "style"]);
    await box.done("clean", "-q");
    assertEquals(TARGETS.map((target) => isThere(box.at(target))), [false, false, false]);
    assertEquals(isThere(box.at(".skills.lock")), false);
    await box.done("-q");
    await box.done("check");
  });

  it("cleans in a clone", async () => {
    await using setting = await start();
    const box = cloneElsewhere(setting);
    assertEquals(await box.done("clean"), "use-skills: removed hq, pdf, style for codex, claude, opencode\n");
    assertEquals([isThere(box.at(".claude/skills")), isThere(box.at("skills/hq"))], [false, true]);
  });

  for (const [edited, other] of [[".claude/skills", ".agents/skills"], [".agents/skills", ".claude/skills"]]) {
    it(`keeps an edited file in ${edited} when its skill changes or goes`, async () => {
      await using setting = await start();
      const { box } = setting;
      box.write(`${edited}/style/SKILL.md`, "mine");
      box.write(`${box.home}/notes/style/SKILL.md`, "newer");
      await box.fails(1);
      assertEquals(box.read(`${edited}/style/SKILL.md`), "mine");
      assertEquals(box.read(`${other}/style/SKILL.md`), "newer");
      await box.run("remove", "style");
      assertEquals(box.read(`${edited}/style/SKILL.md`), "mine");
      assertEquals(isThere(box.at(`${other}/style`)), false);
    });
  }

  it("frozen, changes nothing that would change the lockfile", async () => {
    await using setting = await start();
    const { box } = setting;
    const before = tree(box.repo);
    box.write(`${box.home}/notes/style/SKILL.md`, "newer");
    box.skills("new");
    box.manifest("mode commit", "./skills/hq", "~/notes/style", "./skills/new");
    const message = await box.fails(1, "--frozen");
    const wayOut = "--frozen (or CI=true) doesn't change .skills.lock, so run sync without it and commit that file";
    assertEquals(
      message,
      `.skills: .skills.lock still records "pdf": ${wayOut}\n` +
        `.skills:4: Cannot deploy "new" from skills/new: it is not recorded in .skills.lock: ${wayOut}\n`,
    );
    box.manifest("mode commit", "./skills/hq", "team/skills/skills/pdf", "~/notes/style");
    box.remove("skills/new");
    assertEquals(tree(box.repo), before);
    assertEquals(await box.done("--frozen"), "");
    assertEquals(
      await box.fails(1, "check"),
      TARGETS.map((target) => `would replace the copy ${target}/style -> ~/notes/style: the skill changed\n`)
        .join(""),
    );
  });

  it("frozen, keeps the record of what another mode deployed", async () => {
    await using setting = await Setting.start();
    const { box } = setting;
    box.skills("hq", `${box.home}/notes/style`);
    box.manifest("mode copy", "hq", "~/notes/style");
    await box.done();
    const before = tree(box.repo);
    box.manifest("mode commit", "hq", "~/notes/style");
    for (const name of ["DIRENV_IN_ENVRC", "CI"]) {
      box.environment = { [name]: "true" };
      assertEquals((await box.run("sync", "-q")).status, 1);
    }
    box.manifest("mode copy", "hq", "~/notes/style");
    assertEquals(tree(box.repo), before);
    box.environment = {};
    box.manifest("# nothing");
    await box.done();
    assertEquals(isThere(box.at(".claude")), false);
  });

  it("accepts a lockfile to which git gave CRLF line ends", async () => {
    await using setting = await start();
    const { box } = setting;
    const text = box.read(".skills.lock").replaceAll("\n", "\r\n");
    box.write(".skills.lock", text);
    assertEquals(await box.done(), "");
    assertEquals(box.read(".skills.lock"), text);
  });
});

describe("mode commit refuses", () => {
  scenario("a home").write("/box/home/.config/use-skills/skills", "mode commit\nhq\n")
    .sync("-g").refuses("~/.config/use-skills/skills: A home is not committed: write mode link or mode copy");

  scenario("a target outside the project").skills("hq").manifest("mode commit", "./skills/hq for claude /box/other")
    .sync().fails(
      "use-skills: linked hq for claude",
      ".skills:2: Cannot deploy to /box/other: mode commit deploys only into the project",
    );

  scenario('the entry "version", which the lockfile could not tell from its own')
    .skills("version").manifest("mode commit", "version", "./skills/version as v2")
    .sync().fails(
      `use-skills: linked v2 for ${AGENTS}`,
      '.skills:2: "version" needs its path in mode commit, for example ./skills/version',
    );

  scenario("a skill that contains .git").skills("hq", "/box/home/x").directory("/box/home/x/.git")
    .manifest("mode commit", "hq", "~/x").sync().fails(
      `use-skills: linked hq for ${AGENTS}`,
      '.skills:3: Cannot deploy "x" from ~/x: it contains .git, which git cannot commit',
    );

  scenario("no directory because of its name")
    .skills("hq").manifest("mode commit", "hq for ./constructor ./__proto__")
    .sync().says("use-skills: linked hq for ./constructor, ./__proto__")
    .has("constructor", { hq: "../skills/hq" }).run("check").says().manifest("mode commit")
    .sync().says("use-skills: removed hq for ./__proto__, ./constructor").lacks("constructor");

  scenario("nothing because of CODEX_HOME, and ignores it").skills("hq").manifest("mode commit", "hq")
    .environment({ CODEX_HOME: "/box/codex" }).sync().says(`use-skills: linked hq for ${AGENTS}`).lacks("/box/codex");
});
