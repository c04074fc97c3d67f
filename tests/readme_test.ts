/**
 * Holds the README against the program: its commands are run, its examples are read, its lists are compared.
 *
 * A fenced block's language says what becomes of it: `sh` is run in a person's repo beside which a checkout lies in
 * `~/use-skills`, `sh fetch` in one that finds a git server under a known host, `sh release` in one with a program that is built and an origin to push to, `sh checkout` in a copy of
 * this checkout, `sh worker` in a repo with a brief and `worker` on the `PATH`. `nix` is parsed.
 */
import { assert, assertEquals, assertStringIncludes } from "jsr:@std/assert@^1";
import { describe, it } from "jsr:@std/testing@^1/bdd";
import { AGENTS as READERS } from "../skills/skill-doctor/scripts/doctor.ts";
import { AGENTS, parseManifest } from "../use-skills.ts";
import { Forge } from "./forge.ts";
import { execute, installed, isThere, requires, Sandbox, skillText, succeed } from "./helpers.ts";

const checkout = new URL("..", import.meta.url).pathname;
const readme = Deno.readTextFileSync(`${checkout}README.md`);
const howToRelease = Deno.readTextFileSync(`${checkout}releases/README.md`);

/** The fenced blocks of a kind. */
function blocks(kind: string, from = readme): string[] {
  const fences = from.matchAll(/^( *)```(.*)\n([^]*?)^\1```$/gm);
  return [...fences].filter(([, , info]) => info === kind)
    .map(([, indent = "", , text = ""]) => text.replaceAll(new RegExp(`^${indent}`, "gm"), ""));
}

/** The one block of a kind. */
function block(kind: string): string {
  const [text, ...more] = blocks(kind);
  assert(text !== undefined && more.length === 0, `Not one block of ${kind}`);
  return text;
}

/** The first cells of the README's table rows that match. */
function tableRows(pattern: RegExp): string[] {
  return [...readme.matchAll(pattern)].map(([, cell = ""]) => cell);
}

/** A value's shape: the keys of objects, the shape of an array's first element, the types of the rest. */
function shape(value: unknown): unknown {
  if (Array.isArray(value)) return value.slice(0, 1).map(shape);
  if (typeof value !== "object" || value === null) return typeof value;
  return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, shape(each)]));
}

/** A person's repo, with a checkout of this one in the home. */
async function person(program = "use-skills.ts", ...skills: string[]): Promise<Sandbox> {
  const box = new Sandbox(program, ...skills);
  const { script } = await installed(program, ...skills);
  await succeed(["cp", "-r", script.replace(/\/[^/]*$/, ""), `${box.home}/use-skills`]);
  Deno.symlinkSync(Deno.execPath(), `${box.home}/deno`);
  return box;
}

/** Runs a shell script, with the same Deno as ours; `npx -y deno` is that too, since npx only fetches one. */
async function runShell(box: Sandbox, script: string, environment: Record<string, string> = {}): Promise<void> {
  const start = await box.start({ environment: { PATH: `${box.home}:${Deno.env.get("PATH")}`, ...environment } });
  const words = ["bash", "-euo", "pipefail", "-c", script.replaceAll("npx -y deno", "deno")];
  const { status, stderr, stdout } = await execute(words, start);
  assertEquals(status, 0, `${script}\n${stdout}${stderr}`);
}

/** A person's repo with a program that is built, and a forge that it can be pushed to and fetched from. */
async function maintainer(): Promise<Sandbox & { site: string; [Symbol.asyncDispose](): Promise<void> }> {
  const box = await person("release.ts");
  const bare = `${box.path}/forge.git`;
  const forge = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, async ({ url }) => {
    const path = new URL(url).pathname.replace("/you/hello/raw/branch/main/", "");
    const args = ["-C", bare, "show", `main:${path}`];
    const { success, stdout } = await new Deno.Command("git", { args, stderr: "null" }).output();
    return new Response(stdout, { status: success ? 200 : 404 });
  });
  const site = `http://127.0.0.1:${forge.addr.port}`;
  box.write("build/hello", "#!/bin/sh\necho hello 1.2.0\n");
  box.write(".gitignore", "/build/\n");
  await box.git("init", "--quiet", "--bare", "--initial-branch=main", bare);
  await box.git("init", "--quiet", "--initial-branch=main");
  const settings = {
    "user.name": "A",
    "user.email": "a@example.org",
    "remote.origin.url": `${site}/you/hello.git`,
    [`url.${bare}.pushInsteadOf`]: `${site}/you/hello.git`,
  };
  for (const [key, value] of Object.entries(settings)) await box.git("config", key, value);
  await box.git("add", ".");
  await box.git("commit", "--quiet", "--message=first");
  await box.git("push", "--quiet", "--set-upstream", "origin", "main");
  return Object.assign(box, {
    site,
    async [Symbol.asyncDispose]() {
      await forge.shutdown();
      box[Symbol.dispose]();
    },
  });
}

describe("README.md", () => {
  it("has commands that work in a person's repo", async () => {
    using box = await person("use-skills.ts", "skill-doctor");
    const commands = blocks("sh");
    assert(commands.length >= 5, "Where are they?");
    for (const script of commands) {
      if (/ init$/m.test(script) && isThere(box.at(".envrc"))) box.remove(".envrc"); // It is one way or the other.
      await runShell(box, script);
    }
  });

  requires("git", "openssl")("has commands that fetch skills", async () => {
    await using forge = await Forge.start();
    using box = await person();
    await forge.commit("anthropics/skills", { "skills/pdf/SKILL.md": skillText("pdf") });
    box.write(`${box.home}/.gitconfig`, forge.config("https://github.com/"));
    await runShell(box, "cp ~/use-skills/use-skills.ts .");
    const commands = blocks("sh fetch").flatMap((text) => text.trim().split("\n"));
    assertEquals(commands.length, 4);
    for (const command of commands) {
      await runShell(box, command);
      if (command.includes(" add ")) assertEquals(isThere(box.at(".claude/skills/pdf")), true);
    }
    assertEquals(isThere(box.at(".claude/skills/pdf")), false);
  });

  requires("git")("has commands that work in a checkout", async () => {
    using box = await person();
    const files = await succeed(["git", "-C", checkout, "ls-files", "-co", "--exclude-standard", "-z"], {
      environment: { GIT_CONFIG_COUNT: "1", GIT_CONFIG_KEY_0: "safe.directory", GIT_CONFIG_VALUE_0: "*" },
    });
    for (const file of files.split("\0").filter((name) => name !== "")) {
      box.write(file, Deno.readFileSync(checkout + file));
    }
    await succeed(["cp", "-r", `${checkout}vendor`, box.repo]);
    await box.git("init", "--quiet");
    // What runs these tests is run by .ci/run, word for word.
    const isOther = (command: string) => !/ task (test|ok)$/.test(command);
    const commands = blocks("sh checkout").flatMap((text) => text.trim().split("\n")).filter(isOther);
    assert(commands.length >= 3, "Where are they?");
    for (const command of commands) await runShell(box, command, { JSR_URL: Deno.env.get("JSR_URL") ?? "" });
    for (const name of ["hq", "review-gate"]) {
      assertEquals(Deno.readLinkSync(box.at(`.claude/skills/${name}`)), `../../skills/${name}`);
    }
  });

  requires("git")("has commands that direct agents", async () => {
    using box = await person();
    box.link(`${box.home}/worker`, `${checkout}skills/hq/scripts/worker.ts`);
    box.write("brief.md", "Say more\n");
    box.write("README.md", "Little\n");
    await box.git("init", "--quiet", "--initial-branch=main");
    await box.git("add", ".");
    await box.git("commit", "--quiet", "--message=first");
    for (const script of blocks("sh worker")) await runShell(box, script);
    assertStringIncludes(await box.git("for-each-ref"), "refs/worker/backup/readme\n");
  });

  for (const [file, text] of [["README.md", readme], ["releases/README.md", howToRelease]] as const) {
    requires("git", "curl", "sha256sum", "tar")(`has commands that release a program, in ${file}`, async () => {
      await using box = await maintainer();
      if (text === howToRelease) {
        await runShell(
          box,
          `cp ~/use-skills/release.ts . && git add . && git commit --quiet --message paste && git push`,
        );
      }
      const scripts = blocks("sh release", text);
      assert(scripts.length >= 2, "Where are they?");
      for (const script of scripts) await runShell(box, script.replaceAll("https://git.example.org", box.site));
      assertEquals(isThere(box.at("releases/hello_1.2.0_noarch.tar.gz")), true);
    });
  }

  requires("nix")("has Nix code that can be read", async () => {
    using box = new Sandbox();
    assertEquals(blocks("nix").length, 4);
    for (const [index, text] of blocks("nix").entries()) {
      box.write(`${index}.nix`, text);
      const { status, stderr } = await box.nix("nix-instantiate", "--parse", `${index}.nix`);
      assertEquals(status, 0, stderr);
    }
  });

  it("lists the options of release.ts", async () => {
    using box = new Sandbox("release.ts");
    const { stdout } = await box.run("--help");
    const options = (text: string) => [...new Set(text.match(/--[a-z][a-z-]+/g))].sort();
    const section = readme.slice(readme.indexOf("## Releasing a program"), readme.indexOf("**In Nix**"));
    assertEquals(options(section.replaceAll(/```[^]*?```/g, "")), options(stdout));
  });

  it("names the test command that .ci/run runs", () => {
    const command = "npx -y deno task test";
    assertStringIncludes(readme, command);
    assertStringIncludes(Deno.readTextFileSync(`${checkout}.ci/run`), `\n${command}`);
  });

  it("has the block that init writes", async () => {
    using box = await person();
    await runShell(box, "cp ~/use-skills/use-skills.ts . && deno run -A --no-lock use-skills.ts init");
    assertEquals(box.read(".envrc"), block("bash envrc"));
    assertEquals(Deno.readTextFileSync(`${checkout}.envrc`), block("bash envrc"));
  });

  it("has an example of a manifest that can be read", () => {
    const { entries, errors } = parseManifest(block("text skills"));
    assertEquals([entries.length, errors], [8, []]);
  });

  it("has the shape of the JSON that is printed", async () => {
    using box = new Sandbox("use-skills.ts", "skill-doctor");
    box.skills("hq");
    box.manifest("hq", "nosuch");
    const printed = async (...args: string[]) => shape(JSON.parse((await box.run(...args, "--json")).stdout));
    assertEquals(await printed("sync"), shape(JSON.parse(block("json sync"))));
    box.manifest("hq");
    assertEquals(await printed("list"), shape(JSON.parse(block("json list"))));
    await box.done();
    box.link(".claude/skills/old", "nowhere");
    assertEquals(await printed("doctor"), shape(JSON.parse(block("json doctor"))));
    box.write("skills/hq/SKILL.md", skillText("hq").replace("\n---", "\ntype: x\n---") + "[a](a.md)\n");
    assertEquals(await printed("validate"), shape(JSON.parse(block("json validate"))));
  });

  it("has the table that the bench prints", () => {
    const bench = Deno.readTextFileSync(`${checkout}tests/bench.ts`);
    const goals = tableRows(/^\| .* \| (<= [\d.]+), (?:met|missed) \|$/gm);
    assertEquals(goals.length, 12);
    for (const goal of goals) assertStringIncludes(bench, goal.replace("<= ", ""));
  });

  it("lists the agents that the programs know, and which of them tests verify", () => {
    const agents = Object.keys(AGENTS);
    const rows = [...readme.matchAll(/^\| `(\w+)` \| (?:`[$.].*|-) \| (?:.*skills`|-) \| (yes)? ?\|$/gm)];
    assertEquals(rows.map(([, agent]) => agent).sort(), agents.sort());
    assertEquals(Object.keys(READERS).sort(), agents);
    for (const [, agent = "", mark] of rows) assertEquals(mark === "yes", READERS[agent]!.source === "test", agent);
  });

  it("lists the commands and options of --help", async () => {
    using box = new Sandbox();
    const { stdout } = await box.run("--help");
    const commands = [...stdout.matchAll(/^ {2}([a-z]+) (?=[ A-Z[])/gm)].map(([, name]) => name);
    assertEquals(tableRows(/^\| `(sync|check|list|add|remove|update|clean|init|validate|doctor)\b/gm), commands);
    const options = (text: string) => [...new Set(text.match(/--[a-z][a-z-]+/g))].sort();
    assertEquals(
      options(readme.slice(readme.indexOf("| option |"), readme.indexOf("The manifest is searched"))),
      options(stdout),
    );
  });
});
