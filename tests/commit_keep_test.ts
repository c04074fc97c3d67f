/** Tests of `mode commit`: what stays deployed and recorded although a run could not do everything. */
import { assertEquals } from "jsr:@std/assert@^1";
import { describe } from "jsr:@std/testing@^1/bdd";
import { cloneElsewhere, commit, start } from "./commit_helpers.ts";
import { isThere, requires, tree } from "./helpers.ts";
import { scenario } from "./scenario.ts";

const it = requires("git", "openssl");

describe("mode commit keeps", () => {
  it("what it can't deploy under a new name or to another agent, because the skill is not on this machine", async () => {
    await using setting = await start();
    const box = cloneElsewhere(setting);
    const [manifest, lockfile] = [box.read(".skills"), box.read(".skills.lock")];
    for (const [change, name] of [["as mine", "mine"], ["for cursor", "style"]] as const) {
      box.write(".skills", manifest.replace("~/notes/style", `~/notes/style ${change}`));
      const problem = `.skills:4: Cannot deploy "${name}" from ~/notes/style: "~/notes/style" does not exist\n`;
      assertEquals(await box.fails(1), problem);
      assertEquals(box.read(".skills.lock"), lockfile);
      assertEquals(await box.git("status", "--porcelain"), " M .skills\n");
    }
  });

  it("a skill that is not on this machine, but not for an agent or under a name that its entry no longer has", async () => {
    await using setting = await start("~/notes/style as mine");
    const box = cloneElsewhere(setting);
    const manifest = box.read(".skills");
    box.write(
      ".skills",
      manifest.replace("~/notes/style as mine", "").replace("~/notes/style", "~/notes/style for claude"),
    );
    assertEquals(
      await box.done(),
      "use-skills: removed mine for claude, opencode, codex\nuse-skills: removed style for opencode, codex\n",
    );
    assertEquals(await box.done("check"), "");
    await commit(box, "less");
    assertEquals(await box.done("--frozen"), "");
  });

  it("the last copy of a skill that is not on this machine, if something else is where it should go now", async () => {
    await using setting = await start();
    const box = cloneElsewhere(setting);
    box.write(".cursor/skills/style/SKILL.md", "mine");
    const [manifest, lockfile] = [box.read(".skills"), box.read(".skills.lock")];
    box.write(".skills", manifest.replace("~/notes/style", "~/notes/style for cursor"));
    assertEquals(
      await box.fails(1),
      '.skills:4: Cannot deploy "style" to .cursor/skills: a directory that use-skills did not create is there; move it ' +
        'away, or write "as NAME" after the entry\n',
    );
    assertEquals(box.read(".skills.lock"), lockfile);
    assertEquals(await box.git("status", "--porcelain"), " M .skills\n?? .cursor/\n");
  });

  it("the last copy of a skill that is not on this machine, if its entry has the name of another one", async () => {
    await using setting = await start();
    const box = cloneElsewhere(setting);
    const [manifest, lockfile] = [box.read(".skills"), box.read(".skills.lock")];
    box.write(
      ".skills",
      manifest.replace("~/notes/style", "./skills/hq as style for cursor\n~/notes/style for cursor"),
    );
    await box.fails(1);
    const line = lockfile.split("\n").find((line) => line.startsWith('"~/notes/style"'))!;
    assertEquals(box.read(".skills.lock").includes(line), true);
    assertEquals(isThere(box.at(".claude/skills/style/SKILL.md")), true);
  });

  it("every copy of a skill that is not on this machine, if another entry takes its name", async () => {
    await using setting = await start();
    const box = cloneElsewhere(setting);
    const [manifest, lockfile] = [box.read(".skills"), box.read(".skills.lock")];
    box.write(".skills", manifest.replace("~/notes/style", "./skills/hq as style\n~/notes/style"));
    const taken =
      'Cannot deploy "style" from skills/hq: a copy of "~/notes/style" is there, which could not be deployed ' +
      'again: write "as NAME" after the entry, or delete the one of "~/notes/style"';
    const twice =
      '"style" names two skills, ~/notes/style here and skills/hq in line 4: write "as NAME" after one of them';
    assertEquals(await box.fails(1), `.skills:4: ${taken}\n.skills:5: ${twice}\n`);
    assertEquals(box.read(".skills.lock"), lockfile);
    assertEquals(await box.git("status", "--porcelain"), " M .skills\n");
    // Also if one of them was edited for a while; but what is gone need not be kept.
    box.write(
      ".skills",
      manifest.replace("~/notes/style", "./skills/hq as style for claude\n~/notes/style for cursor"),
    );
    box.write(".claude/skills/style/SKILL.md", "edited");
    await box.fails(1);
    assertEquals(box.read(".skills.lock"), lockfile);
    await box.git("restore", ".claude");
    await box.fails(1);
    assertEquals(await box.git("status", "--porcelain"), " M .skills\n");
    box.remove(".claude/skills/style");
    await box.fails(1);
    assertEquals(Deno.readLinkSync(box.at(".claude/skills/style")), "../../skills/hq");
  });

  it("links into the project that a path of another machine names", async () => {
    await using setting = await start();
    const { box } = setting;
    box.link(`${box.home}/all`, `${box.repo}/skills`);
    box.manifest("mode commit", "~/all/* for claude");
    await box.run();
    await commit(box, "all");
    cloneElsewhere(setting);
    assertEquals(await box.fails(1), '.skills:2: The directory of "~/all/*" does not exist\n');
    assertEquals(await box.git("status", "--porcelain"), "");
  });

  it("what DIRECTORY/* deployed when another mode follows and the directory is not on this machine", async () => {
    await using setting = await start("~/notes/* for cursor");
    const box = cloneElsewhere(setting);
    box.write(".skills", "mode copy\n~/notes/* for cursor\n");
    for (const quiet of ["", "-q"]) {
      const message = await box.fails(1, ...["sync", quiet].filter((word) => word !== ""));
      assertEquals(
        message.slice(message.indexOf(".skills:")),
        '.skills:2: The directory of "~/notes/*" does not exist\n',
      );
      assertEquals(isThere(box.at(".cursor/skills/style/SKILL.md")), true);
    }
  });

  it("the record of a copy in whose place something else is", async () => {
    await using setting = await start();
    const { box } = setting;
    const before = box.read(".skills.lock");
    box.remove(".claude/skills/pdf");
    box.write(".claude/skills/pdf", "mine");
    box.skills("new");
    const line = '.skills:3: Cannot deploy "pdf" to .claude/skills: a file that use-skills did not create is there; ' +
      'move it away, or write "as NAME" after the entry\n';
    assertEquals(await box.fails(1, "add", "-q", "./skills/new"), line);
    assertEquals(
      box.read(".skills.lock").split("\n").filter((line) => !line.includes("skills/new")).join("\n"),
      before,
    );
    assertEquals(box.read(".claude/skills/pdf"), "mine");
  });

  it("the record of a target that can't be read for one run", async () => {
    await using setting = await start();
    const { box } = setting;
    const before = tree(box.repo);
    const state = ".claude/skills/.use-skills.json";
    box.link(state, "/dev/zero");
    await box.fails(1);
    Deno.removeSync(box.at(state));
    Deno.renameSync(box.at(".claude/skills"), box.at(".claude/moved"));
    box.link(".claude/skills", "/nowhere");
    await box.fails(1);
    Deno.removeSync(box.at(".claude/skills"));
    Deno.renameSync(box.at(".claude/moved"), box.at(".claude/skills"));
    assertEquals(tree(box.repo), before);
    assertEquals(await box.done(), "");
    box.write(`${box.home}/notes/style/SKILL.md`, "newer");
    assertEquals(await box.done(), "use-skills: copied again style for claude, opencode, codex\n");
  });

  it("no record of a target that leads to another one now", async () => {
    await using setting = await start();
    const { box } = setting;
    box.remove(".claude/skills");
    box.link(".claude/skills", "../.agents/skills");
    assertEquals(await box.done(), "");
    assertEquals(box.read(".skills.lock").includes(".claude"), false);
  });
});

describe("mode commit still owns", () => {
  scenario("what another mode has deployed for an entry that fails now")
    .skills("hq").manifest("mode copy", "hq for codex").sync()
    .manifest("mode commit", "hq for /box/other")
    .sync().fails(".skills:2: Cannot deploy to /box/other: mode commit deploys only into the project")
    .has(".agents/skills", { hq: "copy" }).manifest("mode commit")
    .sync().says("use-skills: removed hq for codex").lacks(".agents");
});

describe("a frozen run with mode commit", () => {
  const UNDER = { DIRENV_IN_ENVRC: "1" };
  const once = 'run "deno run -A --no-config /installed/program/use-skills.ts" once';
  const unrecorded = (line: number) =>
    `.skills:${line}: Cannot deploy "two" from ~/n/two: it is not recorded in .skills.lock: ${once}`;

  scenario("deploys nothing unrecorded, also if the entry fails for another target")
    .skills("/box/home/n/two").manifest("mode commit", "~/n/two for claude ./.git").environment(UNDER)
    .sync().fails(".skills:2: Cannot deploy to .git: it is inside .git", unrecorded(2)).lacks(".claude");

  scenario("doesn't advise to commit what another mode deployed", "git").do((box) => box.git("init", "-q"))
    .skills("one", "/box/home/n/two").manifest("mode copy", "one", "~/n/two for claude").sync().remember()
    .manifest("mode commit", "~/n/two for claude").environment(UNDER)
    .sync().fails("use-skills: removed one for claude, codex, opencode", unrecorded(2)).same(".claude");
});

describe("a forged or former lockfile", () => {
  scenario("removes no directory that is the user's own")
    .skills("one").directory("data", "uploads/x").manifest("one for claude")
    .write(
      ".skills.lock",
      '{\n"./p": {"link":"skills/one","targets":{"data":["x"],"uploads/x":["y"]}},\n"version": 2\n}\n',
    )
    .environment({ DIRENV_IN_ENVRC: "1" }).sync().says("use-skills: linked one for claude")
    .environment({}).sync().says().lacks(".skills.lock").is("data", "directory").is("uploads/x", "directory");

  scenario("doesn't make a frozen run forget which directories are to be removed later")
    .skills("one").manifest("mode commit", "one").sync().manifest("one for opencode")
    .environment({ DIRENV_IN_ENVRC: "1" }).sync().says("use-skills: adopted one for opencode").environment({}).sync()
    .lacks(
      ".claude",
      ".agents",
    );
});

describe("mode commit deploys what is directly in the project's directory", () => {
  scenario("all of it", "git").do((box) => box.git("init", "-q"))
    .skills("/box/repo/x", "/box/repo/y").manifest("mode commit", "./* for claude")
    .sync().says("use-skills: linked x, y for claude").remember()
    .sync().says().run("check").says().environment({ CI: "true" }).sync().says().untouched()
    .environment({}).manifest("mode commit").sync().says("use-skills: removed x, y for claude").lacks(".claude");

  scenario("itself", "git").do((box) => box.git("init", "-q"))
    .write("SKILL.md", "x").manifest("mode commit", "./ as root for claude")
    .sync().says("use-skills: linked root for claude").has(".claude/skills", { root: "../../" })
    .sync().says().run("check").says().run("clean").says("use-skills: removed root for claude").lacks(".claude");
});
