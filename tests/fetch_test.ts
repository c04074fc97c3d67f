/** How skills are fetched: from servers of all kinds, with few processes and bytes, at once, and killed at any moment. */
import { assert, assertEquals, assertMatch } from "jsr:@std/assert@^1";
import { describe } from "jsr:@std/testing@^1/bdd";
import type { ForgeOptions } from "./forge.ts";
import { AGENTS, manyNames, noise, PDF, Setting, skillFiles } from "./git_helpers.ts";
import { isThere, kill, requires, skillText } from "./helpers.ts";

const it = requires("git", "openssl");

describe("sync of git references", () => {
  const servers: [what: string, options: ForgeOptions][] = [
    ["that leaves out what is not asked for", {}],
    ["that has no filters", { filter: false }],
    ["that only has what refs name", { filter: false, protocol: 0 }],
  ];
  for (const [what, options] of servers) {
    it(`fetches an old commit from a server ${what}`, async () => {
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
      assertEquals(Object.keys(setting.links), ["pdf"]);
    });
  }

  it("works with a server that serves only files", async () => {
    await using setting = await Setting.start();
    const { box, forge } = setting;
    await forge.git("team/skills", "repack", "-adq");
    await forge.git("team/skills", "update-server-info");
    forge.onRequest = (line) => line.includes("git-upload-pack") ? "dumb" : undefined;
    box.manifest("team/skills/skills/pdf");
    assertEquals(await box.done(), `use-skills: linked pdf for ${AGENTS}\n`);
  });

  it("transfers little of a large repo, and less the next time", async () => {
    await using setting = await Setting.start();
    const { box, forge } = setting;
    const assets = Array.from({ length: 20 }, (_, index) => [`assets/${index}.bin`, noise(2 ** 20)]);
    await forge.commit("team/skills", { ...Object.fromEntries(assets), "skills/pdf/forms.md": "x".repeat(40_000) });
    box.manifest("team/skills/skills/pdf");
    await box.done();
    assert(forge.bytes < 100_000, `${forge.bytes} bytes`);
    forge.bytes = 0;
    await forge.commit("team/skills", { "skills/pdf/new": "x" });
    await box.done("update");
    assert(forge.bytes < 10_000, `${forge.bytes} bytes`);
  });

  it("deploys 150 skills of one repo completely, each time from nothing", async () => {
    const names = manyNames(150);
    await using setting = await Setting.start(skillFiles("skills", names));
    const { box } = setting;
    box.manifest(...names.map((name) => `team/skills/skills/${name}`));
    await box.done();
    const [store, lock] = [setting.store, box.read(".skills.lock")];
    assertEquals(Object.keys(store).filter((path) => path.endsWith("/SKILL.md")).length, 150);
    for (const isLocked of [false, true, true]) {
      setting.forgetAll();
      if (!isLocked) box.remove(".skills.lock");
      await box.done();
      assertEquals(Object.keys(setting.links), names.toSorted());
      assertEquals([setting.store, box.read(".skills.lock")], [store, lock]);
      assertEquals(await box.done("check"), "");
    }
  });

  it("needs few git processes for 200 skills of one repo, and asks for its refs at most once", async () => {
    const names = manyNames(200);
    await using setting = await Setting.start(skillFiles("skills", names));
    const { box } = setting;
    const calls = await setting.recordGit();
    const commands = () => calls().map((call) => call.split(" ", 1)[0]);
    box.manifest(...names.map((name) => `team/skills/skills/${name}`));
    await box.done();
    const first = commands();
    assertEquals(first.filter((command) => command === "ls-remote").length, 2, "one asks only for the mapped URL");
    assert(first.length <= 14, first.join("\n"));
    setting.forgetAll();
    await box.done();
    const locked = commands();
    assertEquals(locked.filter((command) => command === "ls-remote").length, 1, "only for the mapped URL");
    assert(locked.length <= 13, locked.join("\n"));
    assertEquals(Object.keys(setting.links).length, 200);
  });

  it("takes missing output of git as an error, never as an answer", async () => {
    await using setting = await Setting.start();
    const { box, forge } = setting;
    await forge.commit("team/root", { "SKILL.md": skillText("root") });
    box.manifest("team/skills/skills/pdf", "team/root");
    await setting.recordGit();
    const wrapper = box.read(`${box.path}/bin/git`);
    for (
      const command of ["ls-tree", "cat-file", "ls-remote", "fetch", "checkout-index", "update-index"]
    ) {
      const silent = `case " $* " in *" ${command} "*) exit 0;; esac\nexec`;
      box.write(`${box.path}/bin/git`, wrapper.replace("exec", silent));
      const { status, stderr } = await box.run();
      assertEquals(stderr.match(/^\.skills:\d/gm), [".skills:1", ".skills:2"], stderr);
      assertEquals([status, setting.links], [1, {}], command);
      assertEquals([setting.store, isThere(box.at(".skills.lock"))], [{}, false], command);
      setting.forgetAll();
    }
  });

  it("deploys local skills if nothing can be fetched or stored, and says why", async () => {
    await using setting = await Setting.start();
    const { box } = setting;
    box.skills("local");
    box.manifest("local", "team/skills/skills/pdf");
    await box.done();
    const failures: [environment: Record<string, string>, message: RegExp][] = [
      [{ XDG_DATA_HOME: "/sys" }, /^Cannot use the store.*: \w+ not permitted|Permission denied/],
      [{ XDG_CACHE_HOME: "/sys" }, /\w+ not permitted|Permission denied/],
      [{ PATH: "/nowhere" }, /^git is not installed, or not on the PATH$/],
    ];
    for (const [environment, message] of failures) {
      setting.forgetAll();
      box.environment = environment;
      const [first, second = "", ...rest] = (await box.fails(1)).trimEnd().split("\n");
      assertEquals([first, second.slice(0, 11), rest], [`use-skills: linked local for ${AGENTS}`, ".skills:2: ", []]);
      assertMatch(second.slice(11), message);
      assertEquals(Object.keys(setting.links), ["local"]);
    }
  });

  it("replaces a damaged cache", async () => {
    await using setting = await Setting.start();
    const { box } = setting;
    box.manifest("team/skills/skills/pdf");
    await box.done();
    const [{ name } = { name: "" }] = Deno.readDirSync(setting.cachePath);
    const cache = `${setting.cachePath}/${name}`;
    const packs = () =>
      [...Deno.readDirSync(`${cache}/objects/pack`)].map(({ name }) => `${cache}/objects/pack/${name}`);
    const damages = [
      () =>
        packs().filter((path) => path.endsWith(".pack")).forEach((path) => {
          Deno.chmodSync(path, 0o644);
          Deno.truncateSync(path, 0);
        }),
      () =>
        packs().filter((path) => /\.(pack|idx)$/.test(path)).forEach((path) => {
          Deno.chmodSync(path, 0o644);
          Deno.truncateSync(path, 40);
        }),
      () => Deno.writeTextFileSync(`${cache}/shallow`, "garbage\n"),
      () => Deno.writeTextFileSync(`${cache}/shallow.lock`, ""),
      () => ["objects", "refs"].forEach((name) => Deno.removeSync(`${cache}/${name}`, { recursive: true })),
    ];
    for (const damage of damages) {
      damage();
      box.remove(`${box.home}/.local/share`);
      await box.done();
      assertEquals(await box.done("check"), "");
    }
  });

  it("fetches once when twenty run at once on an empty store", async () => {
    await using setting = await Setting.start();
    const { box } = setting;
    box.manifest("team/skills/skills/pdf", "team/skills/skills/pdf#v1 as tagged");
    const calls = await setting.recordGit();
    const runs = await Promise.all(Array.from({ length: 20 }, () => box.run()));
    assertEquals(runs.map(({ status }) => status), runs.map(() => 0), runs.map(({ stderr }) => stderr).join(""));
    assertEquals(Object.keys(setting.links), ["pdf", "tagged"]);
    const fetches = calls().filter((call) => call.startsWith("fetch "));
    assertEquals(fetches.length, 2, "the commit, then the files");
    assertEquals(await box.done("check"), "");
  });

  it("completes after a kill at any moment, and leaves nothing behind", async () => {
    await using setting = await Setting.start({ ...PDF, "skills/pdf/large": noise(60_000) });
    const { box } = setting;
    box.manifest("team/skills/skills/pdf");
    await box.done();
    const store = setting.store;
    for (let round = 0; round < 15; round++) {
      setting.forgetAll();
      box.remove(".skills.lock");
      const child = await box.spawn();
      await new Promise((go) => setTimeout(go, 20 + round * 30));
      kill(child);
      await child.status;
      if (isThere(box.at(".skills.lock"))) setting.locked; // whole, or not there
      await box.done();
      assertEquals(await box.done("check"), "");
      assertEquals(Object.keys(setting.store).filter((path) => !(path in store) && !path.startsWith(".new-")), []);
    }
  });

  it("does not download the whole repo because of a commit that is gone", async () => {
    await using setting = await Setting.start();
    const { box, forge } = setting;
    await forge.commit("team/skills", { large: noise(2 ** 22) });
    const gone = `${"0".repeat(39)}1`;
    box.manifest("team/skills/skills/pdf", `team/skills/skills/pdf#${gone} as gone`);
    assertEquals(
      await box.fails(1),
      `use-skills: linked pdf for ${AGENTS}
.skills:2: https://github.com/team/skills no longer has the commit ${gone}: "update" fetches the newest one\n`,
    );
    assert(forge.bytes < 100_000, `${forge.bytes} bytes`);
  });
});
