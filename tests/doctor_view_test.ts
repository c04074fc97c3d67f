/** What skill-doctor says that agents see: the grid, other skills, notes, and answers of the agents themselves. */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "jsr:@std/assert@^1";
import { describe, it } from "jsr:@std/testing@^1/bdd";
import { direct, doctor, withManifest } from "./doctor_box.ts";
import { PDF, Setting, skillFiles } from "./git_helpers.ts";
import { isThere, requires, skillText, succeed } from "./helpers.ts";

describe("doctor", () => {
  it("shows which agent sees which skill", async () => {
    using box = withManifest();
    box.skills("hq");
    box.manifest("hq for claude cursor ./tools/skills");
    await box.done();
    box.skills(".agents/skills/theirs");
    box.write(`${box.home}/.config/opencode/skills/mine/SKILL.md`, skillText("mine"));
    assertEquals(
      await box.run("doctor"),
      {
        status: 0,
        stderr: "",
        stdout: "SKILL  claude  opencode  codex  cursor  ./tools/skills\n" +
          "hq     seen    seen      -      seen    seen\n" +
          "\nOther skills:\n" +
          " theirs  .agents/skills/theirs (opencode, codex, cursor)\n" +
          " mine    ~/.config/opencode/skills/mine (opencode)\n",
      },
    );
    assertEquals(await box.done("doctor", "--quiet"), "");
  });

  it("says under which name an agent sees a skill, and when it sees another one", async () => {
    using box = withManifest();
    box.skills("hq", "pdf", `${box.home}/.claude/skills/hq`);
    box.write(`${box.home}/.claude/skills/hq/SKILL.md`, skillText("hq") + "Differently.\n");
    box.write("skills/pdf/SKILL.md", skillText("documents"));
    box.manifest("hq for claude", "pdf");
    await box.done();
    const { stdout } = await box.run("doctor");
    assertEquals(
      stdout,
      "SKILL  claude   opencode      codex\n" +
        "hq     another  seen          -\n" +
        "pdf    seen     as documents  as documents\n" +
        "\nOther skills:\n hq  ~/.claude/skills/hq (claude)\n",
    );
  });

  it("says when something else is where the skill should be", async () => {
    using box = withManifest();
    box.skills("hq", "pdf");
    box.write(".claude/skills/hq/SKILL.md", skillText("hq") + "Differently.\n");
    box.manifest("mode copy", "hq for claude", "pdf for claude");
    await box.fails(1);
    box.write(".claude/skills/pdf/SKILL.md", skillText("pdf") + "Edited.\n");
    const { stdout } = await box.run("doctor");
    assertEquals(
      stdout,
      "SKILL  claude   opencode  codex\n" +
        "hq     another  another   -\n" +
        "pdf    another  another   -\n" +
        "\nOther skills:\n hq   .claude/skills/hq (claude, opencode)\n pdf  .claude/skills/pdf (claude, opencode)\n",
    );
  });

  it("says when a copy was edited in mode commit, and ignores what Python leaves in one", async () => {
    using box = withManifest();
    box.skills(`${box.home}/notes/hq`, `${box.home}/notes/pdf`);
    for (const mode of ["copy", "commit"]) {
      box.manifest(`mode ${mode}`, "~/notes/hq for claude codex", "~/notes/pdf for claude");
      await box.done();
      box.write(".claude/skills/hq/__pycache__/x.pyc", mode);
      box.write(".claude/skills/pdf/SKILL.md", skillText("pdf") + "Edited.\n");
      const { stdout, stderr } = await box.run("doctor");
      assertEquals(
        stdout,
        "SKILL  claude   opencode  codex\n" +
          "hq     seen     seen      seen\n" +
          "pdf    another  another   -\n" +
          "\nOther skills:\n pdf  .claude/skills/pdf (claude, opencode)\n",
      );
      assertEquals(stderr, "");
      box.write(".claude/skills/pdf/SKILL.md", skillText("pdf"));
    }
  });

  it("ignores a damaged state file", async () => {
    using box = withManifest();
    box.skills("hq");
    box.manifest("hq for claude");
    await box.done();
    for (const damage of ['"was":[null]', '"was":5', '"for":[1]', '"for":null', '"for":"ab"']) {
      box.write(".claude/skills/.use-skills.json", `{"version":1,"entries":{"hq":{"target":"x","for":[],${damage}}}}`);
      const { stdout, stderr } = await box.run("doctor");
      assertEquals([stdout, stderr], ["SKILL  claude  opencode  codex\nhq     seen    seen      -\n", ""], damage);
    }
  });

  it("counts the same content elsewhere as the skill", async () => {
    using box = withManifest();
    box.skills("hq", `${box.home}/.claude/skills/hq`);
    box.manifest("hq for claude");
    await box.done();
    const { stdout, stderr } = await box.run("doctor");
    assertEquals([stdout, stderr], ["SKILL  claude  opencode  codex\nhq     seen    seen      -\n", ""]);
  });

  it("finds the skills after one with many files, and says where it stopped to search", async () => {
    using box = direct();
    box.skills(".claude/skills/a", ".claude/skills/z", ".claude/skills/a/zz");
    for (let index = 0; index < 5_000; index++) box.write(`.claude/skills/a/node_modules/${index}`, "");
    const { stdout, stderr } = await box.run("show");
    assertEquals(stdout, "SKILL  claude  opencode  codex\na      seen    seen      -\nz      seen    seen      -\n");
    assertEquals(
      stderr,
      ".claude/skills/a (claude, opencode): It has more than 5000 files, so skills in it may be missing here: move " +
        "them out\n",
    );
  });

  it("reads no device or pipe", async () => {
    using box = direct();
    box.skills(".claude/skills/hq");
    const paths = [
      "hq/.claude-plugin/plugin.json",
      "hq/scripts/run",
      "hq2/SKILL.md",
      ".use-skills.json",
    ].map((path) => `.claude/skills/${path}`);
    for (const path of [...paths, ".git"]) {
      box.directory(path.replace(/\/?[^/]*$/, "") || ".");
      const { success } = await new Deno.Command("mkfifo", { args: [box.at(path)] }).output();
      assert(success);
    }
    box.link(`${box.home}/.local/state/use-skills/x.json`, "/dev/zero");
    assertMatch(await doctor(box), /SKILL.md is not a file\n$/);
    assertEquals(await box.done("validate", ".claude/skills/hq"), "1 of 1 skills are valid\n");
  });

  it("shows for Gemini CLI only what is in the working directory", async () => {
    using box = withManifest();
    box.skills("hq");
    box.manifest("hq for gemini copilot");
    await box.done();
    box.directory("sub");
    await box.git("init", "-q");
    const run = async (path: string) => (await box.run("doctor", "-C", path)).stdout.split("\n")[1];
    assertEquals(await run("."), "hq     -       seen      seen   seen    seen");
    assertEquals(await run("sub"), "hq     -       seen      seen   not seen  seen");
  });

  it("shows fetched skills as REPO@COMMIT", async () => {
    await using setting = await Setting.start({ ...PDF, ...skillFiles("skills", ["docx"]) }, {}, withManifest());
    const { box } = setting;
    box.manifest("team/skills/skills/pdf", "team/skills/skills/docx");
    await box.done();
    const store = Deno.realPathSync(box.at(".claude/skills/docx"));
    box.manifest("team/skills/skills/pdf");
    box.link(`${box.home}/.claude/skills/mine`, store);
    const { stdout } = await box.run("doctor");
    const commit = (await setting.hash("HEAD")).slice(0, 7);
    assertStringIncludes(stdout, ` docx  team/skills/skills/docx@${commit} (opencode, codex)\n`);
  });

  it("notes how much of the listing budget is used from 80% on", async () => {
    using box = direct();
    const write = (name: string, length: number) =>
      box.write(`.claude/skills/${name}/SKILL.md`, `---\nname: ${name}\ndescription: ${"d".repeat(length)}\n---\n`);
    for (const name of ["a", "b", "c", "d"]) write(name, 1000);
    write("f", 2000); // of which Claude Code passes on 1,536
    assertEquals(await doctor(box), "");
    write("e", 1000);
    box.write(`${box.home}/.claude/skills/e/SKILL.md`, box.read(".claude/skills/e/SKILL.md")); // is counted once
    assertEquals(await doctor(box, "--quiet"), "");
    const { status, stderr } = await box.run("show");
    assertEquals([status, stderr], [
      0,
      "Note: claude: names and descriptions have 6542 characters, 82% of the 8000 that its model gets; the longest: " +
      "f (1537), e (1001), a (1001), b (1001), c (1001)\n",
    ]);
  });

  it("reads the main checkout's skills in a linked worktree, as Claude Code does", async () => {
    using box = direct();
    box.skills(".claude/skills/hq");
    await box.git("init", "-q");
    await box.git("commit", "-q", "--allow-empty", "-m", "first");
    await box.git("worktree", "add", "-q", "../linked");
    box.enter("linked");
    const { stdout } = await box.run();
    assertEquals(stdout, "SKILL  claude  opencode  codex\nhq     seen    -         -\n");
  });

  it("starts agents only if asked to", async () => {
    using box = direct();
    box.skills(".agents/skills/hq");
    box.write(`${box.path}/bin/codex`, "#!/bin/sh\ntouch started\n");
    Deno.chmodSync(`${box.path}/bin/codex`, 0o755);
    box.environment["PATH"] = `${box.path}/bin:${Deno.env.get("PATH")}`;
    assertEquals(await doctor(box), "");
    assertEquals(
      await box.fails(2, "show", "--ask"),
      "skill-doctor: --ask starts agents, which may run plugins of this project, and OpenCode writes " +
        ".opencode/.gitignore: add --yes\n",
    );
    assertEquals(isThere(box.at("started")), false);
    assertEquals(
      await doctor(box, "--ask", "--yes"),
      ".agents/skills (codex): It cannot be asked: it did not answer as expected\n",
    );
    assertEquals(isThere(box.at("started")), true);
  });

  requires("ps")("ends an agent that it asks if it is interrupted", async () => {
    using box = direct();
    box.skills(".agents/skills/hq");
    box.write(`${box.path}/bin/codex`, "#!/bin/sh\necho $$ > pid\nexec sleep 60\n");
    Deno.chmodSync(`${box.path}/bin/codex`, 0o755);
    box.environment["PATH"] = `${box.path}/bin:${Deno.env.get("PATH")}`;
    const child = await box.spawn("show", "--ask", "--yes");
    while (!isThere(box.at("pid")) || box.read("pid") === "") await new Promise((go) => setTimeout(go, 10));
    child.kill("SIGINT");
    assertEquals((await child.output()).code, 130);
    let isRunning = true;
    for (let tries = 0; isRunning && tries < 200; tries++) { // The kernel may take a moment.
      isRunning = await succeed(["ps", "-o", "stat=", "-p", box.read("pid").trim()])
        .then((state) => !state.startsWith("Z"), () => false);
    }
    assertEquals(isRunning, false);
  });

  it("does not read a huge SKILL.md, or one that is a device", async () => {
    using box = direct();
    box.write(".claude/skills/huge/SKILL.md", "x".repeat(9 * 2 ** 20));
    box.link(".claude/skills/device/SKILL.md", "/dev/zero");
    assertEquals(
      await doctor(box),
      ".claude/skills/device (opencode): Ignored: SKILL.md is not a file\n" +
        ".claude/skills/huge (opencode): Ignored: SKILL.md has more than 8 MiB\n",
    );
  });

  it("shows in which way an agent's answer differs", async () => {
    using box = direct();
    box.skills(".agents/skills/hq");
    const answer = JSON.stringify([{ name: "other", location: box.at("other/SKILL.md") }]);
    box.write(`${box.path}/bin/opencode`, `#!/bin/sh\necho '${answer}'\n`);
    Deno.chmodSync(`${box.path}/bin/opencode`, 0o755);
    box.environment["PATH"] = `${box.path}/bin:/usr/bin:/bin`;
    const { status, stdout, stderr } = await box.run("show", "--ask", "--yes");
    assertEquals({ status, stdout, stderr }, {
      status: 1,
      stdout:
        "SKILL  claude  opencode (asked)  codex\nhq     -       -                 seen\nother  -       seen              -\n",
      stderr: 'other (opencode): It says that it sees "other" here, which was not expected\n' +
        '.agents/skills/hq (opencode): It says that it does not see "hq" here, which was expected\n',
    });
  });

  it("works without use-skills", async () => {
    using box = direct();
    box.directory(".git");
    box.skills(".claude/skills/top", "a/.claude/skills/middle", "a/b/.claude/skills/here", "../.claude/skills/outside");
    box.link("a/b/.claude/skills/old", "nowhere");
    box.link("a/b/.claude/skills/lint", "../../../../plugin/skills/lint");
    box.skills("plugin/skills/lint");
    box.repo = box.at("a/b");
    const { status, stdout, stderr } = await box.run();
    assertEquals(
      { status, stderr },
      {
        status: 1,
        stderr: '.claude/skills/old (claude, opencode): The link to "nowhere" is broken: rm .claude/skills/old\n',
      },
    );
    const rows = ["here  ", "lint  ", "middle", "top   "].map((name) => `${name}  seen    seen      -\n`);
    assertEquals(stdout, `SKILL   claude  opencode  codex\n${rows.join("")}`);
  });

  it("shows an agent if its own directory exists", async () => {
    using box = direct();
    box.skills(".cursor/skills/top");
    const { stdout } = await box.run("show", "--json");
    const { agents } = JSON.parse(stdout);
    assertEquals(agents.map(({ agent }: { agent: string }) => agent), ["claude", "opencode", "codex", "cursor"]);
    const path = box.at(".cursor/skills/top");
    const skills = [{ name: "top", path, source: path, owned: false }];
    assertEquals(agents[3], { agent: "cursor", asked: false, tested: false, skills });
  });

  it("accepts the same content twice, and targets that are links", async () => {
    using box = direct();
    box.skills(".claude/skills/hq", ".agents/skills/hq", "dotfiles/mine");
    box.link(".opencode/skills", "../.claude/skills");
    box.link(".codex/skills", "../.claude/skills");
    box.link(`${box.home}/.claude/skills`, `${box.repo}/dotfiles`);
    assertEquals(await doctor(box), "");
  });

  it("compares names as the agent does", async () => {
    using box = direct();
    box.write(".claude/skills/a/SKILL.md", skillText("same"));
    box.write(".claude/skills/b/SKILL.md", skillText("same") + "Other.\n");
    assertEquals(
      await doctor(box),
      '.claude/skills/b (opencode): A different "same" is in .claude/skills/a: ' +
        'remove one, or rename it in its SKILL.md and with "as NAME"\n',
    );
  });
});
