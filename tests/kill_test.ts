/** Slow tests: runs that are killed at any point. */
import { assert, assertEquals } from "jsr:@std/assert@^1";
import { describe, it } from "jsr:@std/testing@^1/bdd";
import { deployed, execute, kill, requires, Sandbox, skillText, type Tree, tree, whatIs } from "./helpers.ts";

const times = (count: number) => Array.from({ length: count }, (_, index) => index);
const names = (from: number, to: number) => times(to - from).map((index) => `skill-${from + index}`);

/** Runs the program and kills it as soon as `isTime` says so; says whether it was killed before it had ended. */
async function runAndKill(box: Sandbox, isTime: () => boolean): Promise<boolean> {
  const child = await box.spawn();
  let hasEnded = false;
  const end = child.output().then(({ signal }) => {
    hasEnded = true;
    return signal === "SIGKILL";
  });
  while (!hasEnded && !isTime()) await Deno.lstat(box.path); // Yields only as long as it must.
  kill(child);
  return await end;
}

/** What is in each directory that an agent reads as a skill, by the skill's path. */
function skillsOf(all: Tree): Map<string, string> {
  const skills = Map.groupBy(Object.entries(all), ([path]) => /^.*\/\.\w+\/skills\/[^./][^/]*/.exec(path)?.[0] ?? "");
  skills.delete("");
  return new Map([...skills].map(([path, entries]) => [path, JSON.stringify(entries)]));
}

/**
 * Goes from one manifest to the other and back, and each time kills the run at another moment. Whatever moment that is,
 * an agent finds no partial skill, and one more run leaves what an undisturbed one leaves. Finally, `clean` leaves what
 * was there at the start.
 */
async function killOften(box: Sandbox, count: number, manifests: string[][]): Promise<void> {
  const start = tree(box.repo);
  const trees: Tree[] = [];
  const began = performance.now();
  for (const lines of [...manifests, ...manifests]) {
    box.manifest(...lines);
    await box.done();
    trees.push(tree(box.path));
  }
  const duration = (performance.now() - began) / trees.length;
  const [one, other] = trees.slice(-2) as [Tree, Tree];
  const changing = Object.keys({ ...one, ...other }).filter((path) =>
    /\/skills\/[^.]/.test(path) && one[path] !== other[path] && path !== "repo/.skills"
  ).sort();

  let [killed, amid] = [0, 0];
  for (const index of times(count)) {
    const [from, to] = index % 2 === 0 ? [other, one] : [one, other];
    box.manifest(...manifests[index % 2] ?? []);
    const watched = changing[Math.floor(index / count * changing.length)] ?? "";
    const began = performance.now();
    const isTime = index % 3 < 2
      ? () => whatIs(`${box.path}/${watched}`) !== from[watched]
      : () => performance.now() - began > duration * index / count;
    if (await runAndKill(box, isTime)) killed++;
    const now = tree(box.path);
    const complete = [skillsOf(from), skillsOf(to)];
    for (const [path, content] of skillsOf(now)) {
      assert(complete.some((skills) => skills.get(path) === content), `${path} is partial: ${content}`);
    }
    const done = changing.filter((path) => now[path] === to[path]).length;
    if (done > 0 && done < changing.length) amid++;
    await box.done();
    assertEquals(tree(box.path), to);
  }
  assert(killed > 1 && amid > 0, `Of ${count} runs, ${killed} were killed, ${amid} of them amid their work`);
  await box.done("clean");
  const cleaned = tree(box.repo);
  delete cleaned[".skills"];
  assertEquals(cleaned, start);
}

describe("a killed add", () => {
  requires("strace")("leaves no temporary file after the next run, whichever file it was replacing", async () => {
    using box = new Sandbox();
    box.skills("hq", "one");
    for (let count = 1, isDone = false; !isDone; count++) {
      assert(count < 100);
      box.manifest("hq");
      await box.done();
      const trace = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", `inject=/^rename:signal=KILL:when=${count}`];
      const { status } = await execute([...trace, ...await box.call("add", "one")], await box.start());
      isDone = status === 0;
      const isLeft = () => Object.keys(tree(box.path)).filter((path) => path.endsWith("/.use-skills.new"));
      assert(isDone ? count > 5 : isLeft().length === 1, `${count} ${isLeft()}`);
      await box.done();
      assertEquals(isLeft(), [], `after a kill at the rename ${count}`);
      const names = box.read(".skills").trim().split("\n");
      assert(["hq", "hq one"].includes(names.join(" ")));
      assertEquals(Object.keys(deployed(box.at(".claude/skills"))), names);
    }
  });
});

describe("a killed run", () => {
  it("is completed by the next one, also the first and the last", async () => {
    using box = new Sandbox();
    box.environment = { CODEX_HOME: box.at(".codex") };
    box.skills(...names(0, 200));
    await killOften(box, 12, [["# nothing"], names(0, 200)]);
  });

  it("is completed by the next one after a change of the manifest", async () => {
    using box = new Sandbox();
    box.environment = { CODEX_HOME: box.at(".codex") };
    box.skills(...names(0, 200), ...names(40, 80).map((name) => `./other/${name}`));
    await killOften(box, 12, [
      names(0, 150),
      [...names(40, 80).map((name) => `./other/${name}`), "for claude cursor", ...names(80, 200)],
    ]);
  });

  it("is completed by the next one if it copied", async () => {
    using box = new Sandbox();
    box.skills(...names(0, 24));
    for (const name of names(8, 16)) box.write(`other/${name}/SKILL.md`, `${skillText(name)}Other.\n`);
    for (const name of names(0, 24)) box.write(`skills/${name}/data/more`, "x".repeat(2000));
    await killOften(box, 16, [
      ["mode copy", ...names(0, 16)],
      ["mode copy", ...names(8, 16).map((name) => `./other/${name}`), ...names(16, 24)],
    ]);
  });

  it("is completed by the next one in mode commit", async () => {
    using box = new Sandbox();
    box.skills(...names(0, 8));
    for (const name of names(4, 24)) {
      box.write(`${box.home}/one/${name}/SKILL.md`, `${skillText(name)}${"One.".repeat(2000)}\n`);
      box.write(`${box.home}/two/${name}/SKILL.md`, `${skillText(name)}${"Two.".repeat(2000)}\n`);
    }
    await killOften(box, 16, [
      ["mode commit", ...names(0, 8), ...names(8, 20).map((name) => `~/one/${name}`)],
      ["mode commit", ...names(0, 4), ...names(4, 24).map((name) => `~/two/${name}`)],
    ]);
  });

  for (const [one, other] of [["commit", "link"], ["copy", "commit"]]) {
    it(`is completed by the next one if it went from mode ${one} to ${other}`, async () => {
      using box = new Sandbox();
      box.skills(...names(0, 12));
      for (const name of names(12, 16)) box.write(`${box.home}/one/${name}/SKILL.md`, skillText(name));
      const entries = [...names(0, 12), ...names(12, 16).map((name) => `~/one/${name}`)];
      await killOften(box, 8, [[`mode ${one}`, ...entries], [`mode ${other}`, ...entries]]);
    });
  }

  it("is completed by the next one if it replaced links by copies", async () => {
    using box = new Sandbox();
    box.skills(...names(0, 12));
    for (const name of names(0, 12)) box.write(`skills/${name}/data/more`, "x".repeat(2000));
    box.manifest(...names(0, 12));
    await box.done();
    const links = tree(box.path);
    for (const index of times(6)) {
      const watched = box.at(`.claude/skills/skill-${index}`);
      box.mode("copy");
      await runAndKill(box, () => whatIs(watched) === "directory");
      await box.done();
      assertEquals(
        deployed(box.at(".claude/skills")),
        Object.fromEntries(names(0, 12).sort().map((name) => [name, "copy"])),
      );
      box.mode();
      await runAndKill(box, () => whatIs(watched) !== "directory");
      await box.done();
      assertEquals(tree(box.path), links);
    }
  });
});
