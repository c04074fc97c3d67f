/** The store and the caches: who may read them, how damage is found and repaired, and what `clean --store` removes. */
import { assertEquals, assertMatch } from "jsr:@std/assert@^1";
import { describe } from "jsr:@std/testing@^1/bdd";
import { AGENTS, noise, PDF, Setting } from "./git_helpers.ts";
import { execute, isThere, requires, skillText, succeed, whatIs } from "./helpers.ts";

const it = requires("git", "openssl");

/** The whole message of `clean --store`, with how many skills and repos it names; sizes become `SIZE`. */
function cleaned(skills: number, repos: number, words = "removed"): string {
  return `use-skills: ${words} what no known project uses: ${skills} skill${skills === 1 ? "" : "s"}, SIZE
use-skills: ${words} what no known project uses: ${repos} cached repo${repos === 1 ? "" : "s"}, SIZE
`;
}

/** A message with every size that is not 0 replaced. */
function maskSizes(message: string): string {
  return message.replace(/\b[\d.]+ (B|KiB|MiB)$/gm, "SIZE");
}

/** The last three digits of a path's mode. */
function modeOf(path: string): string {
  return ((Deno.statSync(path).mode ?? 0) & 0o777).toString(8);
}

describe("the store", () => {
  it("is repaired after changes, which check finds", async () => {
    await using setting = await Setting.start();
    const { box } = setting;
    box.manifest("team/skills/skills/pdf");
    await box.done();
    const [store, skill] = [setting.store, setting.links["pdf"] ?? ""];
    const changed = '.skills:1: "pdf" in the store was changed: sync replaces it\n';
    const damages: [what: string, damage: () => void, message: string][] = [
      ["another SKILL.md", () => Deno.writeTextFileSync(`${skill}/SKILL.md`, "Do harm"), changed],
      ["another file", () => Deno.writeTextFileSync(`${skill}/run.sh`, "Do harm"), changed],
      ["a missing file", () => Deno.removeSync(`${skill}/run.sh`), changed],
      ["a new file", () => Deno.writeTextFileSync(`${skill}/new`, ""), changed],
      ["a file that cannot be run", () => Deno.chmodSync(`${skill}/run.sh`, 0o444), changed],
      ["a link instead of a file", () => {
        Deno.removeSync(`${skill}/run.sh`);
        Deno.symlinkSync("SKILL.md", `${skill}/run.sh`);
      }, changed],
      [
        "nothing",
        () => Deno.removeSync(skill, { recursive: true }),
        '.skills:1: "team/skills/skills/pdf" is not on this machine: run sync\n',
      ],
    ];
    for (const [what, damage, message] of damages) {
      await succeed(["chmod", "-R", "u+w", skill]);
      damage();
      assertEquals(await box.fails(1, "check"), message, what);
      await box.done();
      assertEquals(setting.store, store, what);
      assertEquals(await box.done("check"), "", what);
    }
  });

  it("is private, like the cache and the state; directories with other modes are corrected", async () => {
    await using setting = await Setting.start();
    const { box } = setting;
    const directories = [".local/share/use-skills/store", ".cache/use-skills", ".local/state/use-skills"]
      .map((path) => `${box.home}/${path}`);
    const modes = () => directories.map((path) => modeOf(path));
    box.manifest("team/skills/skills/pdf");
    await box.done();
    assertEquals(modes(), ["700", "700", "700"]);
    setting.forgetAll();
    for (const path of directories) {
      box.directory(path);
      Deno.chmodSync(path, 0o777);
    }
    await box.done();
    assertEquals(modes(), ["700", "700", "700"]);
  });

  requires("git", "openssl", "setpriv")("and the cache are not used if they belong to another user", async () => {
    if (Deno.uid() !== 0) return; // Only root can run this as one user with the directory of another.
    await using setting = await Setting.start();
    const { box, forge } = setting;
    Deno.chmodSync(forge.path, 0o755);
    box.manifest("team/skills/skills/pdf");
    const foreign = Deno.realPathSync(Deno.makeTempDirSync({ prefix: "foreign-" }));
    try {
      for (const path of ["", "use-skills", "use-skills/store"]) {
        Deno.mkdirSync(`${foreign}/${path}`, { recursive: true });
        Deno.chmodSync(`${foreign}/${path}`, 0o777);
      }
      box.environment = { XDG_DATA_HOME: foreign };
      const message = (path: string) => `.skills:1: ${path} belongs to another user\n`;
      const store = message(`Cannot use the store: ${foreign}/use-skills/store`);
      assertEquals(await box.runUnprivileged(), { status: 1, stdout: "", stderr: store });
      box.environment = { XDG_CACHE_HOME: foreign };
      const cache = message(`${foreign}/use-skills`);
      assertEquals(await box.runUnprivileged(), { status: 1, stdout: "", stderr: cache });
      assertEquals([setting.links, forge.requests], [{}, []]);
    } finally {
      Deno.removeSync(foreign, { recursive: true });
    }
  });

  requires("git", "openssl", "setpriv")(
    "can be written, moved and repaired by a user with limited permissions",
    async () => {
      await using setting = await Setting.start({ ...PDF, "skills/pdf/deep/er/file": "x" });
      const { box, forge } = setting;
      Deno.chmodSync(forge.path, 0o755);
      box.manifest("team/skills/skills/pdf");
      const first = await box.runUnprivileged();
      assertEquals(first, { status: 0, stdout: "", stderr: `use-skills: linked pdf for ${AGENTS}\n` });
      const skill = setting.links["pdf"] ?? "";
      await succeed(["chmod", "-R", "u+w", skill]);
      Deno.writeTextFileSync(`${skill}/SKILL.md`, "x");
      await box.runUnprivileged("check");
      assertEquals(await box.runUnprivileged(), { status: 0, stdout: "", stderr: "" });
      assertEquals(whatIs(`${skill}/SKILL.md`), `444 ${skillText("pdf")}`);
      box.manifest();
      await box.runUnprivileged();
      const { status, stderr } = await box.runUnprivileged("clean", "--store");
      assertEquals([status, maskSizes(stderr)], [0, cleaned(1, 1)]);
      assertEquals(isThere(skill), false);
    },
  );

  requires("git", "openssl", "tmpfs")("on a full disk contains nothing incomplete", async () => {
    await using setting = await Setting.start({ ...PDF, "skills/pdf/large": noise(60_000) });
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
    assertMatch(stderr, /^\.skills:1: [^\n]*(No space left on device|unable to write)[^\n]*\n$/);
    assertEquals(setting.links, {});
    assertEquals(await box.done(), `use-skills: linked pdf for ${AGENTS}\n`);
  });
});

describe("clean --store", () => {
  it("completes what a killed one began, and leaves files alone that are no skills", async () => {
    await using setting = await Setting.start();
    const { box } = setting;
    for (const place of [`${box.home}/.local/share/use-skills/store`, setting.cachePath]) {
      box.write(`${place}/.new-removed/x`, "x");
      box.write(`${place}/file`, "");
    }
    box.manifest("# nothing");
    assertEquals(await box.done("clean", "--store"), cleaned(0, 0).replaceAll("SIZE", "0 B"));
    assertEquals([...Deno.readDirSync(setting.cachePath)].map(({ name }) => name), ["file"]);
  });

  it("removes the skills and repos that no known project uses, and reports how much that was", async () => {
    await using setting = await Setting.start();
    const { box, forge } = setting;
    await forge.commit("team/other", { "SKILL.md": skillText("other"), x: noise(2 ** 21) });
    const skills = () => Object.keys(setting.store).filter((path) => /\/(pdf|other)$/.test(path));
    const repos = () => [...Deno.readDirSync(setting.cachePath)].map(({ name }) => name.replace(/.*%2F/, "")).sort();
    const clean = async (...args: string[]) => maskSizes(await box.done("clean", "--store", ...args));
    box.manifest("team/skills/skills/pdf");
    await box.done();
    const used = skills();
    box.enter("another");
    box.manifest("team/skills/skills/pdf#v1", "team/other");
    await box.done();
    assertEquals(await box.done("clean", "--store"), cleaned(0, 0).replaceAll("SIZE", "0 B"));
    await forge.commit("team/skills", { "skills/pdf/new": "x" });
    box.manifest("team/skills/skills/pdf");
    await box.done("update");
    assertEquals([skills().length, repos()], [3, ["other", "skills"]]);
    assertEquals(await clean("-n"), cleaned(1, 1, "would remove"));
    assertEquals([skills().length, repos()], [3, ["other", "skills"]]);
    assertMatch(
      await box.done("clean", "--store"),
      /^use-skills: .*: 1 skill, 2\.0 MiB\nuse-skills: .*: 1 cached repo, 2\.\d MiB\n$/,
    );
    assertEquals([skills().length, repos()], [2, ["skills"]]);
    box.manifest();
    await box.done();
    assertEquals(await clean(), cleaned(1, 0));
    assertEquals([skills(), repos()], [used, ["skills"]]);
    box.enter("repo");
    assertEquals(await box.done("check"), "");
    box.remove(".skills.lock"); // A deployed skill is used, too.
    box.enter("another");
    await clean();
    assertEquals([skills(), repos()], [used, []]);
    box.enter("repo");
    box.manifest();
    await box.done();
    assertEquals(await clean("--quiet"), "");
    assertEquals([skills(), repos()], [[], []]);
  });

  it("keeps the skills of the project it runs in, also of a moved one and of a new clone", async () => {
    await using setting = await Setting.start();
    const { box } = setting;
    box.manifest("team/skills/skills/pdf for ./agents/skills");
    await box.done();
    Deno.renameSync(box.repo, `${box.path}/moved`);
    box.enter("moved");
    const nothing = cleaned(0, 0).replaceAll("SIZE", "0 B");
    assertEquals(await box.done("clean", "--store"), nothing);
    assertEquals(whatIs(box.at("agents/skills/pdf/SKILL.md")), `444 ${skillText("pdf")}`);
    const lockfile = box.read(".skills.lock");
    await box.done("clean", "-q");
    Deno.removeSync(box.repo, { recursive: true });
    box.enter("clone");
    box.write(".skills.lock", lockfile);
    box.manifest("team/skills/skills/pdf for ./agents/skills");
    assertEquals(await box.done("clean", "--store"), nothing);
    assertEquals(await box.done("sync", "--offline"), "use-skills: linked pdf for ./agents/skills\n");
  });

  it("runs where there is no manifest, and creates the store at most", async () => {
    await using setting = await Setting.start();
    const { box } = setting;
    assertEquals(await box.done("clean", "--store"), cleaned(0, 0).replaceAll("SIZE", "0 B"));
    assertEquals([...Deno.readDirSync(box.repo)], []);
    assertEquals(setting.store, {});
  });

  it("removes what killed runs left", async () => {
    await using setting = await Setting.start();
    const { box } = setting;
    box.write(`${setting.storePath}/.new-x/files/0/SKILL.md`, skillText("x"));
    assertEquals(
      maskSizes(await box.done("clean", "--store")),
      cleaned(1, 0),
    );
    assertEquals(setting.store, {});
  });

  it("does not remove what another run has just fetched", async () => {
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

  it("has no --json", async () => {
    await using setting = await Setting.start();
    assertEquals(await setting.box.fails(2, "clean", "--store", "--json"), "use-skills: --store has no --json\n");
  });
});
