/**
 * Holds the README against the program: its commands are run, its examples are read, its lists are compared.
 *
 * A fenced block's language says what becomes of it: `sh` is run in a person's repo beside which a checkout lies in
 * `~/use-skills`, `sh checkout` in a copy of this checkout.
 */
import { assert, assertEquals, assertStringIncludes } from "jsr:@std/assert@^1";
import { describe, it } from "jsr:@std/testing@^1/bdd";
import { AGENTS, parseManifest } from "../use-skills.ts";
import { execute, installed, requires, Sandbox, succeed } from "./helpers.ts";

const checkout = new URL("..", import.meta.url).pathname;
const readme = Deno.readTextFileSync(`${checkout}README.md`);

/** The README's fenced blocks of a kind. */
function blocks(kind: string): string[] {
  const fences = readme.matchAll(/^```(.*)\n([^]*?)^```$/gm);
  return [...fences].filter(([, info]) => info === kind).map(([, , text = ""]) => text);
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
async function person(): Promise<Sandbox> {
  const box = new Sandbox();
  const { script } = await installed("use-skills.ts");
  box.write(`${box.home}/use-skills/use-skills.ts`, Deno.readTextFileSync(script));
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

describe("README.md", () => {
  it("has commands that work in a person's repo", async () => {
    using box = await person();
    const commands = blocks("sh");
    assert(commands.length >= 5, "Where are they?");
    for (const script of commands) await runShell(box, script);
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
    // What runs these tests is run by .ci/run, word for word.
    const isOther = (command: string) => !/ task (test|ok)$/.test(command);
    const commands = blocks("sh checkout").flatMap((text) => text.trim().split("\n")).filter(isOther);
    assert(commands.length >= 3, "Where are they?");
    for (const command of commands) await runShell(box, command, { JSR_URL: Deno.env.get("JSR_URL") ?? "" });
    assertEquals(Deno.readLinkSync(box.at(".claude/skills/review-gate")), "../../skills/review-gate");
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
    assertEquals([entries.length, errors], [6, []]);
  });

  it("has the shape of the JSON that is printed", async () => {
    using box = new Sandbox();
    box.skills("hq");
    box.manifest("hq", "nosuch");
    const printed = async (...args: string[]) => shape(JSON.parse((await box.run(...args, "--json")).stdout));
    assertEquals(await printed("sync"), shape(JSON.parse(block("json sync"))));
    box.manifest("hq");
    assertEquals(await printed("list"), shape(JSON.parse(block("json list"))));
  });

  it("has the table that the bench prints", () => {
    const bench = Deno.readTextFileSync(`${checkout}tests/bench.ts`);
    const goals = tableRows(/^\| .* \| (<= [\d.]+), (?:met|missed) \|$/gm);
    assertEquals(goals.length, 5);
    for (const goal of goals) assertStringIncludes(bench, goal.replace("<= ", ""));
  });

  it("lists the agents that the program knows", () => {
    assertEquals(tableRows(/^\| `(\w+)` \| `[$.].*skills`/gm), [...AGENTS.keys()]);
  });

  it("lists the commands and options of --help", async () => {
    using box = new Sandbox();
    const { stdout } = await box.run("--help");
    const commands = [...stdout.matchAll(/^ {2}([a-z]+) {3,}/gm)].map(([, name]) => name);
    assertEquals(tableRows(/^\| `(sync|check|list|clean|init)`/gm), commands);
    const options = (text: string) => [...new Set(text.match(/--[a-z][a-z-]+/g))].sort();
    assertEquals(
      options(readme.slice(readme.indexOf("| option |"), readme.indexOf("The manifest is looked"))),
      options(stdout),
    );
  });
});
