/** Tests of the block in `.envrc`, with direnv. */
import { assertEquals, assertMatch, assertStringIncludes } from "jsr:@std/assert@^1";
import { describe } from "jsr:@std/testing@^1/bdd";
import { deployed, execute, installed, isThere, requires, Sandbox, succeed } from "./helpers.ts";
import { scenario } from "./scenario.ts";

const itWithDirenv = requires("direnv");

/** A repo with a pasted copy and an `.envrc` in which `init` wrote its block between the given lines. */
async function prepare(before = "", after = ""): Promise<Sandbox> {
  const box = new Sandbox();
  const { script, environment } = await installed("use-skills.ts");
  box.write("use-skills.ts", Deno.readTextFileSync(script));
  box.skills("one", "two");
  if (before) box.write(".envrc", before);
  await succeed([Deno.execPath(), "run", "-A", "--no-lock", "use-skills.ts", "init"], await box.start());
  Deno.writeTextFileSync(box.at(".envrc"), after, { append: true });
  box.link(`${box.path}/bin/deno`, Deno.execPath());
  box.environment = { ...environment, PATH: `${box.path}/bin:${Deno.env.get("PATH")}` };
  return box;
}

/** Runs lines of bash in the repo. */
async function enter(box: Sandbox, ...lines: string[]): Promise<{ stdout: string; stderr: string }> {
  const { cwd, environment } = await box.start();
  return await execute(["bash", "-c", lines.join("\n")], { cwd, environment });
}

const allow = ["direnv allow .", "direnv exec . sh -c 'echo \"entered $ENTERED\"'"];

describe(".envrc", () => {
  itWithDirenv("deploys on entering, and follows the manifest", async () => {
    using box = await prepare();
    box.manifest("one");
    const { stdout } = await enter(
      box,
      "direnv allow .",
      'eval "$(direnv export bash)"',
      "readlink .claude/skills/*",
      'echo "unchanged: <$(direnv export bash)>"',
      "echo two > .skills",
      "touch -d '+10 seconds' .skills",
      "direnv allow .",
      'eval "$(direnv export bash)"',
      "readlink .claude/skills/*",
    );
    assertEquals(stdout, "../../skills/one\nunchanged: <>\n../../skills/two\n");
  });

  itWithDirenv("says nothing of its own when there is nothing to do", async () => {
    using box = await prepare();
    box.manifest("one");
    await enter(box, ...allow);
    const { stderr } = await enter(box, ...allow);
    assertEquals(stderr.replace(/^.*direnv: .*\n/gm, ""), "");
  });

  itWithDirenv("deploys to CODEX_HOME in the project, too, if that is exported above", async () => {
    using box = await prepare('export CODEX_HOME="$PWD/.codex"\n');
    box.manifest("one");
    await enter(box, ...allow);
    assertEquals(deployed(box.at(".codex/skills")), { one: "../../skills/one" });
  });

  itWithDirenv("fetches nothing new and deploys to no new place outside if direnv can't ask about it", async () => {
    using box = await prepare("unset -f require_allowed\n");
    box.manifest("one", "a/b/c", `two for ${box.path}/far`);
    const { stderr } = await enter(box, ...allow);
    const once = `run "deno run -A --no-config ${box.at("use-skills.ts")}" once\n`;
    assertStringIncludes(
      stderr,
      `.skills:2: "a/b/c" is new in .skills and not fetched yet: ${once}` +
        `.skills:3: Cannot deploy to ${box.path}/far: it is new and outside the project: ${once}`,
    );
    assertEquals(deployed(box.at(".claude/skills")), { one: "../../skills/one" });
    assertEquals([isThere(box.at(".skills.lock")), isThere(`${box.path}/far`)], [false, false]);
  });

  itWithDirenv("passes SKILLS_ALLOWED, and no option, if direnv asked about every file", async () => {
    using box = await prepare(
      'require_allowed() { echo "asked: $*" >&2; }\ndeno() { echo "deno $* ($SKILLS_ALLOWED)" >&2; }\n',
    );
    box.manifest("one");
    const said = async () => (await enter(box, ...allow)).stderr.match(/^(asked|deno) .*|^asked: .*/gm);
    const run = "deno run -A --no-lock --no-config use-skills.ts (1)";
    assertEquals(await said(), ["asked: .skills use-skills.ts", run]);
    box.write(".skills.lock", "{}");
    assertEquals(await said(), ["asked: .skills use-skills.ts .skills.lock", run]);
  });

  for (const strict of ["", "strict_env\n", "set -euo pipefail\n"]) {
    const how = strict === "" ? "" : `, with ${strict.trim()}`;
    itWithDirenv(`lets the user in whatever is wrong with the manifest${how}`, async () => {
      using box = await prepare(strict, "export ENTERED=yes\n");
      for (const manifest of [["one"], ["one", "./gone"], ["no manifest at all"], undefined]) {
        if (manifest) box.manifest(...manifest);
        else box.remove(".skills");
        const { stdout, stderr } = await enter(box, ...allow);
        assertEquals(stdout, "entered yes\n", stderr);
        if (manifest?.[1]) assertStringIncludes(stderr, '.skills:2: "./gone" does not exist\n');
        if (manifest?.length !== 1 || manifest[0] !== "one") {
          assertStringIncludes(stderr, "use-skills: not all skills are deployed");
        }
        assertEquals(deployed(box.at(".claude/skills")), { one: "../../skills/one" });
      }
    });

    itWithDirenv(`lets the user in without Deno${how}`, async () => {
      using box = await prepare(strict, "export ENTERED=yes\n");
      box.manifest("one");
      box.remove(`${box.path}/bin`);
      for (const tool of ["bash", "sh", "direnv", "env", "git", "mkdir", "dirname", "cat"]) {
        const path = (await execute(["sh", "-c", `command -v ${tool}`])).stdout.trim();
        if (path) box.link(`${box.path}/bin/${tool}`, path);
      }
      box.environment["PATH"] = `${box.path}/bin`;
      const { stdout, stderr } = await enter(box, ...allow);
      assertEquals(stdout, "entered yes\n", stderr);
      assertMatch(stderr, /use-skills: deno is not installed, so no skills are deployed/);
      assertEquals(isThere(box.at(".claude")), false);
    });
  }
});

describe("a plain run under direnv", () => {
  const UNDER = { DIRENV_IN_ENVRC: "1" };
  const once = 'it is new and outside the project: run "deno run -A --no-config /installed/program/use-skills.ts" once';

  scenario("deploys inside the project")
    .skills("hq").manifest("hq").environment(UNDER).sync().says("use-skills: linked hq for claude, opencode, codex")
    .sync().says();

  scenario("fetches nothing new, and says how to")
    .manifest("a/b/c").environment(UNDER)
    .sync().fails(
      '.skills:1: "a/b/c" is new in .skills and not fetched yet: run "deno run -A --no-config /installed/program/use-skills.ts" once',
    )
    .lacks(".skills.lock", ".claude");

  scenario("deploys to no new target outside the project, and says how to")
    .skills("hq").manifest("hq for /box/far claude", "hq for ~/near").environment(UNDER)
    .sync().fails(
      "use-skills: linked hq for claude",
      `.skills:1: Cannot deploy to /box/far: ${once}`,
      `.skills:2: Cannot deploy to ~/near: ${once}`,
    )
    .lacks("/box/far", "/box/home/near");

  const inside =
    'it is new, and no agent\'s directory: run "deno run -A --no-config /installed/program/use-skills.ts" once';
  const packages = "node_modules/x/node_modules";
  scenario("deploys to no new directory in the project but those of agents, whatever the lockfile says")
    .skills("hq").directory(packages).link(".claude/skills", `../${packages}`)
    .write(".skills.lock", `{\n"hq": {"link":"skills/hq","targets":{"${packages}":["hq"]}},\n"version": 2\n}\n`)
    .manifest(`hq as lodash for ./${packages}`, "hq for claude cursor").environment(UNDER)
    .sync().fails(
      "use-skills: linked hq for cursor",
      `.skills:1: Cannot deploy to ${packages}: ${inside}`,
      `.skills:2: Cannot deploy to .claude/skills: ${inside}`,
    )
    .has(packages, {})
    .manifest("mode commit", `hq as lodash for ./${packages}`)
    .sync().fails(`.skills:2: Cannot deploy to ${packages}: ${inside}`)
    .sync().fails(`.skills:2: Cannot deploy to ${packages}: ${inside}`).has(packages, {})
    .manifest(`hq as lodash for ./${packages}`, "hq for claude cursor")
    .environment({}).sync().says("use-skills: linked lodash, hq for ./node_modules/x/node_modules, claude")
    .environment(UNDER).sync().says();

  scenario("keeps deploying to a target outside that the user once accepted")
    .skills("hq", "one").manifest("hq for /box/far").sync().environment(UNDER).sync().says()
    .manifest("hq for /box/far", "one for /box/far").sync().says("use-skills: linked one for /box/far");

  scenario("deploys to new targets outside with SKILLS_ALLOWED")
    .skills("hq").manifest("hq for /box/far").environment({ ...UNDER, SKILLS_ALLOWED: "1" })
    .sync().says("use-skills: linked hq for /box/far");

  scenario("deploys to CODEX_HOME, which the user's environment names")
    .skills("hq").manifest("hq for codex").environment({ ...UNDER, CODEX_HOME: "/box/codex" })
    .sync().says("use-skills: linked hq for codex").has("/box/codex/skills", { hq: "/box/repo/skills/hq" });

  scenario("suggests a similar name, for which it loads no library")
    .skills("hq").manifest("hqq", "hq for cursr").environment({
      ...UNDER,
      JSR_URL: "http://127.0.0.1:9/",
      DENO_DIR: "/box/empty",
    })
    .sync().fails(
      '.skills:1: No skill "hqq" in ./skills, /installed/program/skills, did you mean "hq"? Otherwise write the path of its folder, for example ~/use-skills/skills/hqq, or set SKILLS_PATH',
      '.skills:2: Unknown agent "cursr", did you mean "cursor"?',
    );
});
