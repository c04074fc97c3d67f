/** Tests of `mode copy`: what a copy contains, when it is replaced, and what is refused. */
import { assert, assertEquals } from "jsr:@std/assert@^1";
import { describe, it } from "jsr:@std/testing@^1/bdd";
import { deployed, execute, requires, Sandbox, skillText, succeed } from "./helpers.ts";
import { scenario } from "./scenario.ts";

describe("mode copy", () => {
  scenario("copies files, directories, links inside the skill, and the executable bit")
    .skills("hq").write("skills/hq/bin/run", "#!/bin/sh\n").do((box) =>
      Deno.chmodSync(box.at("skills/hq/bin/run"), 0o750)
    )
    .link("skills/hq/manual", "SKILL.md").directory("skills/hq/empty").manifest("hq")
    .mode("copy").sync().says("use-skills: copied hq for claude, opencode, codex")
    .is(".claude/skills/hq/SKILL.md", `644 ${skillText("hq")}`).is(".opencode/skills/hq/bin/run", "755 #!/bin/sh\n")
    .is(".agents/skills/hq/manual", "-> SKILL.md").is(".claude/skills/hq/empty", "directory")
    .has(".claude/skills", { hq: "copy" }).remember()
    .sync().says().untouched();

  scenario("updates a copy when its skill changes, and leaves no old files")
    .skills("hq").write("skills/hq/old", "old").manifest("hq for claude").mode("copy").sync()
    .remove("skills/hq/old").write("skills/hq/SKILL.md", "New")
    .run("check").fails("would replace the copy .claude/skills/hq -> skills/hq: the skill changed")
    .sync().says("use-skills: copied again hq for claude")
    .is(".claude/skills/hq/SKILL.md", "644 New").lacks(".claude/skills/hq/old").has(".claude/skills", { hq: "copy" })
    .run("check").says();

  it("notices a change that neither size nor time tell", async () => {
    using box = new Sandbox();
    box.skills("hq");
    box.manifest("hq");
    box.mode("copy");
    for (const version of ["v1", "v2"]) {
      box.write("skills/hq/version", version);
      Deno.utimeSync(box.at("skills/hq/version"), 1, 1);
      await box.done();
      assertEquals(box.read(".claude/skills/hq/version"), version);
    }
  });

  scenario("follows the manifest to another skill of the same name")
    .write("a/hq/SKILL.md", "This is a").write("b/hq/SKILL.md", "This is b")
    .manifest("./a/hq for claude").mode("copy").sync().is(".claude/skills/hq/SKILL.md", "644 This is a")
    .manifest("./b/hq for claude").sync().says("use-skills: copied again hq for claude")
    .is(".claude/skills/hq/SKILL.md", "644 This is b");

  scenario("stays in effect, also for direnv, and switching it converts what is owned")
    .skills("hq").manifest("hq for claude").mode("copy").sync().remember()
    .run("check").says().run("list").prints("STATE  NAME  AGENTS  SOURCE", "ok     hq    claude  skills/hq")
    .environment({ DIRENV_IN_ENVRC: "1" }).sync().says().untouched()
    .mode("link").sync().says("use-skills: relinked hq for claude").has(".claude/skills", { hq: "../../skills/hq" })
    .mode("copy").sync().says("use-skills: copied again hq for claude").has(".claude/skills", { hq: "copy" })
    .mode().sync().says("use-skills: relinked hq for claude").has(".claude/skills", { hq: "../../skills/hq" });

  scenario("replaced --copy")
    .skills("hq").manifest("hq").remember().sync("--copy")
    .refuses('use-skills: Unknown option "--copy": use the line "mode copy" above the first entry of .skills')
    .untouched();

  scenario("is not edited by what Python and Finder leave in a copy, which goes with it")
    .skills("hq").manifest("hq for claude").mode("copy").sync()
    .write(".claude/skills/hq/scripts/__pycache__/x.pyc", "x").write(".claude/skills/hq/.DS_Store", "x")
    .sync().says().run("check").says()
    .write("skills/hq/new", "new").sync().says("use-skills: copied again hq for claude")
    .lacks(".claude/skills/hq/scripts", ".claude/skills/hq/.DS_Store")
    .write(".claude/skills/hq/__pycache__/x.pyc", "x").run("clean").lacks(".claude");

  scenario("doesn't replace a user's own directory that is the same without what Python left in both")
    .skills("hq", ".claude/skills/hq").write("skills/hq/__pycache__/x.pyc", "x")
    .write(".claude/skills/hq/__pycache__/x.pyc", "mine").manifest("hq for claude").mode("copy").sync().says()
    .mode("link").sync().says().is(".claude/skills/hq/__pycache__/x.pyc", "644 mine");

  scenario("is made without what Python and Finder left in a skill")
    .skills("hq").write("skills/hq/scripts/__pycache__/x.pyc", "x").write("skills/hq/.DS_Store", "x")
    .link("skills/hq/__pycache__/broken", "nowhere").manifest("hq for claude").mode("copy").sync()
    .has(".claude/skills/hq", { "SKILL.md": "file", scripts: "copy" }).has(".claude/skills/hq/scripts", {})
    .write("skills/hq/.DS_Store", "y").write(".claude/skills/hq/.DS_Store", "z").sync().says().run("check").says();

  for (const mode of ["link", "commit"]) {
    scenario(`leaves an edited copy that equals its skill by now, also if mode ${mode} follows`)
      .skills("one").manifest("one for claude").mode("copy").sync()
      .write(".claude/skills/one/SKILL.md", "better").write("skills/one/SKILL.md", "better")
      .mode(mode).sync().says().run("check").says().is(".claude/skills/one/SKILL.md", "644 better");
  }

  scenario("makes copies that clean removes")
    .skills("hq").manifest("hq").mode("copy").remember().sync().run("clean").same("repo");

  scenario("replaces and removes a copy with a read-only directory", "setpriv")
    .skills("hq").write("skills/hq/sub/file", "v1").manifest("hq for claude").mode("copy").runUnprivileged()
    .do((box) => Deno.chmodSync(box.at(".claude/skills/hq/sub"), 0o555)).write("skills/hq/sub/file", "v2")
    .runUnprivileged().says("use-skills: copied again hq for claude").is(".claude/skills/hq/sub/file", "644 v2")
    .do((box) => Deno.chmodSync(box.at(".claude/skills/hq/sub"), 0o555))
    .runUnprivileged("clean").lacks(".claude", ".use-skills.tmp");
});

describe("a skill that cannot be copied", () => {
  const fail = (reason: string) => `.skills:2: Cannot deploy "hq" from skills/hq: ${reason}`;
  const outside = (text: string) => fail(`the link "sub/trap" leads out of the skill, to "${text}"`);
  const traps: [what: string, setup: (box: Sandbox) => unknown, message: string][] = [
    [
      "a relative link that leads out",
      (box) => box.link("skills/hq/sub/trap", "../../../secret"),
      outside("../../../secret"),
    ],
    ["an absolute link", (box) => box.link("skills/hq/sub/trap", box.at("secret")), outside("/box/repo/secret")],
    [
      "a link to a directory outside",
      (box) => box.link("skills/hq/sub/trap", "../../good"),
      outside("../../good"),
    ],
    ["a link that leads out through another", (box) => {
      box.link("skills/hq/x/y/z/down", "../../../sub");
      box.link("skills/hq/sub/trap", "../x/y/z/down/../../secret"); // Its text stays in skills/hq.
      box.write("skills/secret", "secret");
    }, outside("../x/y/z/down/../../secret")],
    [
      "a link that leads out and back",
      (box) => box.link("skills/hq/sub/trap", "../../hq/SKILL.md"),
      outside("../../hq/SKILL.md"),
    ],
    ["a broken link", (box) => box.link("skills/hq/sub/trap", "gone"), fail('the link "sub/trap" is broken')],
    ["a link to itself", (box) => box.link("skills/hq/sub/trap", "trap"), fail('the link "sub/trap" is broken')],
    ["a link to its parent", (box) => box.link("skills/hq/sub/trap", "../.."), outside("../..")],
    ["a socket", (box) => {
      using _socket = Deno.listen({ transport: "unix", path: `${box.path}/socket` });
      Deno.renameSync(`${box.path}/socket`, box.at("skills/hq/sub/trap")); // It is removed where it was when closed.
    }, fail('"sub/trap" is not a file, a directory or a link')],
    [
      "a pipe",
      (box) => succeed(["mkfifo", box.at("skills/hq/sub/trap")]),
      fail('"sub/trap" is not a file, a directory or a link'),
    ],
  ];
  for (const [what, setup, message] of traps) {
    scenario(
      `because of ${what} is reported once, and the others are copied`,
      ...what === "a pipe" ? ["mkfifo" as const] : [],
    )
      .skills("hq", "good").write("secret", "secret").directory("skills/hq/sub").do(setup)
      .manifest("hq for claude cursor", "good for claude cursor")
      .mode("copy").sync().fails("use-skills: copied good for claude, cursor", message)
      .has(".claude/skills", { good: "copy" }).has(".cursor/skills", { good: "copy" });
  }

  scenario("is linked in mode link")
    .skills("hq").link("skills/hq/up", "..").manifest("hq for claude")
    .sync().says("use-skills: linked hq for claude");

  scenario("because it contains the target is reported")
    .write("SKILL.md", skillText("repo")).skills("good").manifest("../repo for claude", "good for claude")
    .mode("copy").sync().fails(
      "use-skills: copied good for claude",
      '.skills:2: Cannot deploy "repo" from .: it contains the target',
    )
    .has(".claude/skills", { good: "copy" });

  scenario("any more keeps its copy")
    .skills("hq").manifest("hq for claude").mode("copy").sync().remember()
    .link("skills/hq/sub/trap", "gone").sync().fails(fail('the link "sub/trap" is broken')).same(
      "repo/.claude",
    );
});

/** Runs the program, calls `look` again and again until it ends, and gives what it printed. */
async function whileRunning(box: Sandbox, look: () => void): Promise<string> {
  let hasEnded = false;
  const run = box.run().finally(() => hasEnded = true);
  while (!hasEnded) {
    for (let count = 0; count < 100; count++) look(); // Without a pause: it could be wrong only for an instant.
    await Deno.lstat(box.path);
  }
  return (await run).stderr;
}

describe("an agent that reads a target", () => {
  for (const mode of ["link", "copy"]) {
    it(`never sees a partial ${mode} while it is replaced`, async () => {
      using box = new Sandbox();
      const sizes = { a: 100_000, b: 200_000 };
      for (const [place, size] of Object.entries(sizes)) {
        box.write(`${place}/hq/SKILL.md`, place.repeat(size));
        for (let index = 0; index < 20; index++) box.write(`${place}/hq/data/${index}`, place.repeat(1000));
      }
      box.manifest("./a/hq for claude");
      box.mode(mode);
      await box.done();
      for (const place of ["b", "a", "b", "a"] as const) {
        box.manifest(`./${place}/hq for claude`);
        const message = await whileRunning(box, () => {
          let size: number | undefined;
          try {
            size = Deno.statSync(box.at(".claude/skills/hq/SKILL.md")).size;
          } catch (error) {
            if (!(error instanceof Deno.errors.NotFound) || mode === "link") throw error; // A copy is absent for an instant.
          }
          assert([sizes.a, sizes.b, undefined].includes(size), `It read ${size} bytes`);
          const names = Object.keys(deployed(box.at(".claude/skills"))).filter((name) => !name.startsWith("."));
          assert(names.every((name) => name === "hq"), `It saw ${names}`);
        });
        assertEquals(message, `use-skills: ${mode === "copy" ? "copied again" : "relinked"} hq for claude\n`);
      }
    });
  }
});

describe("the staging directory", () => {
  requires("setpriv")("is in the target if its parent isn't writable", async () => {
    using box = new Sandbox();
    box.skills("hq");
    box.manifest("hq for claude");
    box.directory(".claude/skills");
    Deno.chmodSync(box.at(".claude"), 0o555);
    box.mode("copy");
    await box.runUnprivileged("list"); // prepares the sandbox for the other user
    using watcher = Deno.watchFs(box.at(".claude/skills"), { recursive: false });
    const { status, stderr } = await box.runUnprivileged();
    assertEquals([status, stderr], [0, "use-skills: copied hq for claude\n"]);
    const timer = setTimeout(() => watcher.close(), 30_000);
    let isSeen = false;
    for await (const { paths } of watcher) {
      isSeen ||= paths.some((path) => path.endsWith(".claude/skills/.use-skills.tmp"));
      if (isSeen) break;
    }
    clearTimeout(timer);
    assert(isSeen);
    assertEquals(deployed(box.at(".claude/skills")), { hq: "copy" });
  });

  requires("tmpfs")("is in the target if that is another file system", async () => {
    using box = new Sandbox();
    box.skills("hq");
    box.manifest("hq for claude");
    box.directory(".claude/skills");
    box.mode("copy");
    const call = (await box.call()).map((word) => `'${word}'`).join(" ");
    const lines = ["mount -t tmpfs none .claude/skills", call, "find .claude | sort"];
    const result = await execute(["unshare", "-rm", "sh", "-ec", lines.join("\n")], await box.start());
    assertEquals(result, {
      status: 0,
      stderr: "use-skills: copied hq for claude\n",
      stdout: [
        ".claude",
        ".claude/skills",
        ".claude/skills/.gitignore",
        ".claude/skills/.use-skills.json",
        ".claude/skills/hq",
        ".claude/skills/hq/SKILL.md\n",
      ].join("\n"),
    });
  });

  scenario("that is a link is not followed")
    .skills("hq").write("precious/skills/hq.old/file", "precious").link(".claude/.use-skills.tmp", "../precious")
    .manifest("hq for claude").remember()
    .mode("copy").sync().same("repo/precious").is(".claude/.use-skills.tmp", "-> ../precious");
});

describe("an edited copy", () => {
  scenario("is owned again when the skill has become equal to it")
    .skills("hq").manifest("mode copy", "hq for claude").sync()
    .write(".claude/skills/hq/SKILL.md", "better").write("skills/hq/SKILL.md", "better")
    .sync().run("check").write("skills/hq/SKILL.md", "best")
    .sync().says("use-skills: copied again hq for claude").is(".claude/skills/hq/SKILL.md", "644 best");
});

describe("a full disk", () => {
  requires("tmpfs")("leaves nothing partial, and other skills are deployed", async () => {
    using box = new Sandbox();
    box.skills("big", "small");
    box.write("skills/big/data/much", "x".repeat(500_000));
    box.manifest("big for claude", "small for claude");
    box.directory(".claude");
    box.mode("copy");
    const call = (await box.call()).map((word) => `'${word}'`).join(" ");
    // The file system is gone with this shell, so it has to list what was there.
    const lines = [
      "mount -t tmpfs -o size=300k none .claude",
      `${call}; echo "status $?"`,
      "find .claude | sort",
      "mount --options-source=disable -o remount,size=3m none .claude",
      `${call}; echo "status $?"`,
      "find .claude | sort",
    ];
    const { stdout, stderr } = await execute(["unshare", "-rm", "sh", "-c", lines.join("\n")], await box.start());
    const [full, whole] = stdout.split("status ").slice(1).map((text) => text.trimEnd().split("\n"));
    assertEquals(
      stderr,
      'use-skills: copied small for claude\n.skills:2: Cannot copy "big" in .claude/skills: No space left on device\n' +
        "use-skills: copied big for claude\n",
    );
    const own = [".claude", ".claude/skills", ".claude/skills/.gitignore", ".claude/skills/.use-skills.json"];
    const small = [".claude/skills/small", ".claude/skills/small/SKILL.md"];
    const big = ["", "/SKILL.md", "/data", "/data/much"].map((path) => `.claude/skills/big${path}`);
    assertEquals(full, ["1", ...own, ...small]);
    assertEquals(whole, ["0", ...own, ...big, ...small]);
  });
});
