/** Tests of runs at the same time, and of people who edit during a run. */
import { assertEquals, assertMatch } from "jsr:@std/assert@^1";
import { describe, it } from "jsr:@std/testing@^1/bdd";
import { deployed, execute, isThere, kill, type Result, Sandbox, skillText, tree, whatIs } from "./helpers.ts";

const times = (count: number) => Array.from({ length: count }, (_, index) => index);

/** The files of a repo that aren't use-skills' own. */
function files(box: Sandbox): string[] {
  return Object.entries(tree(box.repo)).filter(([, what]) => what !== "directory").map(([path]) => path);
}

describe("runs at the same time", () => {
  for (const mode of ["link", "copy"]) {
    it(`all succeed, and the last manifest is deployed in mode ${mode}`, async () => {
      using box = new Sandbox();
      box.environment = { CODEX_HOME: `${box.path}/codex` };
      const names = times(30).map((index) => `skill-${index}`);
      box.skills(...names);
      const first = [`mode ${mode}`, ...names.slice(0, 20)];
      const last = [`mode ${mode}`, "skill-1 as x", ...names.slice(10).map((name) => `${name} for claude cursor`)];
      box.manifest(...last);
      await box.done();
      const wanted = tree(box.repo);
      await box.done("clean");

      box.manifest(...first);
      const runs = times(6).map(() => box.run());
      await Promise.race(runs);
      box.write(".skills.new", last.map((line) => `${line}\n`).join(""));
      Deno.renameSync(box.at(".skills.new"), box.at(".skills"));
      runs.push(...times(6).map(() => box.run()));
      for (const { status, stderr } of await Promise.all(runs)) {
        assertEquals(status, 0, stderr);
        assertEquals(stderr.replace(/^use-skills: (linked|copied|copied again|removed|relinked) .*\n/gm, ""), "");
      }
      assertEquals(await box.done(), "");
      assertEquals(tree(box.repo), wanted);
      assertEquals(deployed(`${box.path}/codex/skills`), { x: mode === "copy" ? "copy" : box.at("skills/skill-1") });
      await box.done("clean");
      assertEquals(files(box), [".skills", ...files(box).filter((path) => path.startsWith("skills/"))]);
    });
  }

  it("of clean and sync all succeed", async () => {
    using box = new Sandbox();
    box.skills("hq", "one");
    box.manifest("hq", "one for ./a/b/c");
    const results = await Promise.all(times(10).map((index) => box.run(index % 2 === 0 ? "sync" : "clean")));
    for (const { status, stderr } of results) assertEquals(status, 0, stderr);
    await box.done();
    assertEquals(deployed(box.at("a/b/c")), { one: "../../../skills/one" });
    assertEquals(deployed(box.at(".claude/skills")), { hq: "../../skills/hq" });
    await box.done("clean");
    assertEquals(files(box), [".skills", "skills/hq/SKILL.md", "skills/one/SKILL.md"]);
  });

  it("of add lose no entry", async () => {
    using box = new Sandbox();
    const names = times(6).map((index) => `skill-${index}`);
    box.skills(...names);
    box.manifest();
    for (const { status, stderr } of await Promise.all(names.map((name) => box.run("add", name)))) {
      assertEquals(status, 0, stderr);
    }
    assertEquals(box.read(".skills").trim().split("\n").sort(), names);
    assertEquals(Object.keys(deployed(box.at(".claude/skills"))), names);
  });

  it("of two projects share a target", async () => {
    using box = new Sandbox();
    box.environment = { CODEX_HOME: `${box.path}/codex` };
    const call = await box.call();
    const runs: Promise<Result>[] = [];
    for (const name of ["one", "two", "three", "four"]) {
      box.enter(name);
      box.skills(name);
      box.manifest(`${name} for codex`);
      runs.push(execute(call, await box.start()));
    }
    for (const { status, stderr } of await Promise.all(runs)) assertEquals(status, 0, stderr);
    assertEquals(Object.keys(deployed(`${box.path}/codex/skills`)), ["four", "one", "three", "two"]);
  });
});

/** A project with an owned copy, whose next run replaces it by a large one, which takes a while. */
async function beforeReplacement(): Promise<Sandbox> {
  const box = new Sandbox();
  box.skills("hq");
  box.manifest("mode copy", "hq for claude");
  await box.done();
  for (const index of times(1500)) box.write(`skills/hq/data/${index}`, `${index}`.repeat(500));
  return box;
}

/** Runs the program, stops it while it prepares the new copy, calls `act`, and lets it go on. */
async function duringCopy(box: Sandbox, act: (child: Deno.ChildProcess) => void): Promise<Deno.CommandOutput> {
  for (let attempt = 0; attempt < 10; attempt++) {
    box.write("skills/hq/attempt", `${attempt}`); // so that there is something to copy
    const child = await box.spawn();
    let hasEnded = false;
    const output = child.output().finally(() => hasEnded = true);
    while (!hasEnded && !isThere(box.at(".claude/.use-skills.tmp/skills/hq.new/data"))) await Deno.lstat(box.path);
    if (!hasEnded) child.kill("SIGSTOP");
    const [isPrepared, isMoved] = ["new", "old"].map((kind) =>
      isThere(box.at(`.claude/.use-skills.tmp/skills/hq.${kind}`))
    );
    const isInTime = !hasEnded && isPrepared && !isMoved;
    if (isInTime) act(child);
    if (!hasEnded) child.kill("SIGCONT");
    const result = await output;
    if (isInTime) return result;
  }
  throw new Error("Every run was over before it could be stopped");
}

describe("a copy in preparation", () => {
  it("is next to the target, ignored by git, and the old copy is complete", async () => {
    using box = await beforeReplacement();
    const before = tree(box.at(".claude/skills/hq"));
    const { code } = await duringCopy(box, () => {
      assertEquals(box.read(".claude/.use-skills.tmp/.gitignore"), "*\n");
      assertEquals(deployed(box.at(".claude/skills")), { "../.use-skills.tmp": "debris", hq: "copy" });
      assertEquals(tree(box.at(".claude/skills/hq")), before);
    });
    assertEquals(code, 0);
    assertEquals(deployed(box.at(".claude/skills")), { hq: "copy" });
  });

  it("is removed by the next run if this one is killed, and the old copy stays complete until then", async () => {
    using box = await beforeReplacement();
    const before = tree(box.at(".claude/skills/hq"));
    await duringCopy(box, kill);
    assertEquals(tree(box.at(".claude/skills/hq")), before);
    assertEquals(await box.done(), "use-skills: copied again hq for claude\n");
    assertEquals(deployed(box.at(".claude/skills")), { hq: "copy" });
  });
});

describe("a copy that the user edits during a run", () => {
  const edit = (box: Sandbox) => box.write(".claude/skills/hq/note", "mine");

  it("is kept and reported", async () => {
    using box = await beforeReplacement();
    const { code, stderr } = await duringCopy(box, () => edit(box));
    assertEquals(code, 1);
    assertEquals(
      new TextDecoder().decode(stderr),
      '.skills:2: Cannot replace the copy "hq" in .claude/skills: it was edited while this ran, and stays\n',
    );
    assertEquals(box.read(".claude/skills/hq/note"), "mine");
    assertEquals(deployed(box.at(".claude/skills")), { hq: "copy" });
    assertMatch(await box.fails(1), /this copy was edited/);
    await box.done("clean");
    assertEquals(box.read(".claude/skills/hq/note"), "mine");
  });

  it("is kept if the run is then killed", async () => {
    using box = await beforeReplacement();
    await duringCopy(box, (child) => {
      edit(box);
      kill(child);
    });
    await box.fails(1);
    assertEquals(box.read(".claude/skills/hq/note"), "mine");
    assertEquals(deployed(box.at(".claude/skills")), { hq: "copy" });
  });

  it("is kept if the user replaces it by something else", async () => {
    using box = await beforeReplacement();
    const { code } = await duringCopy(box, () => {
      Deno.renameSync(box.at(".claude/skills/hq"), box.at("saved"));
      box.write(".claude/skills/hq", "mine");
    });
    assertEquals([code, whatIs(box.at(".claude/skills/hq"))], [1, "644 mine"]);
    assertEquals(deployed(box.at(".claude/skills")), { hq: "file" });
  });
});

describe("a copy that a killed run moved away", () => {
  /** The state after a kill between moving the old copy away and moving the new one into place. */
  async function killedBetween(isEdited: boolean): Promise<Sandbox> {
    const box = new Sandbox();
    box.skills("hq");
    box.manifest("mode copy", "hq for claude");
    await box.done();
    box.directory(".claude/.use-skills.tmp/skills");
    Deno.renameSync(box.at(".claude/skills/hq"), box.at(".claude/.use-skills.tmp/skills/hq.old"));
    if (isEdited) box.write(".claude/.use-skills.tmp/skills/hq.old/note", "mine");
    box.write(".claude/.use-skills.tmp/skills/hq.new/SKILL.md", "partial");
    box.write("skills/hq/more", "more");
    return box;
  }

  it("is removed by the next run if it wasn't edited", async () => {
    using box = await killedBetween(false);
    await box.done();
    assertEquals(deployed(box.at(".claude/skills")), { hq: "copy" });
    assertEquals(box.read(".claude/skills/hq/more"), "more");
    assertEquals(await box.done(), "");
  });

  it("is put back under its name by the next run if it was edited", async () => {
    using box = await killedBetween(true);
    const { stderr } = await box.run();
    assertEquals(deployed(box.at(".claude/skills")), { hq: "copy" }, stderr);
    assertEquals(box.read(".claude/skills/hq/note"), "mine");
    assertMatch(await box.fails(1), /this copy was edited/);
  });

  it("is put back under another name if its name is taken", async () => {
    using box = await killedBetween(true);
    box.write(".claude/skills/hq/SKILL.md", skillText("hq"));
    box.write(".claude/skills/hq.edited", "taken");
    await box.run();
    assertEquals(Object.keys(deployed(box.at(".claude/skills"))), ["hq", "hq.edited", "hq.edited-2"]);
    assertEquals(box.read(".claude/skills/hq.edited-2/note"), "mine");
  });

  it("is put back by clean, too", async () => {
    using box = await killedBetween(true);
    await box.run("clean");
    assertEquals(box.read(".claude/skills/hq/note"), "mine");
    assertEquals(deployed(box.at(".claude/skills")), { hq: "copy" });
  });

  it("is put back in a target that the manifest no longer names", async () => {
    using box = await killedBetween(true);
    box.manifest("# nothing");
    await box.run();
    assertEquals(box.read(".claude/skills/hq/note"), "mine");
    assertEquals(deployed(box.at(".claude/skills")), { hq: "copy" });
  });
});
