/** What real agents see of deployed skills, and whether skill-doctor says the same. */
import { assert, assertEquals } from "jsr:@std/assert@^1";
import { describe } from "jsr:@std/testing@^1/bdd";
import {
  type Agent,
  areInstalled,
  DEFAULT_AGENTS,
  MORE_AGENTS,
  offline,
  pathWith,
  requiresAgents,
  toldByClaude,
} from "./agents.ts";
import { Setting, skillFiles } from "./git_helpers.ts";
import { execute, installed, isThere, kill, readAgentTable, Sandbox, skillText, succeed } from "./helpers.ts";
import { Model } from "./model.ts";

const it = requiresAgents(DEFAULT_AGENTS);
const itMore = requiresAgents(MORE_AGENTS);

interface Seen {
  name: string;
  path: string;
}

/** What an agent sees by its name, and what skill-doctor says about it. */
interface View {
  asked: Record<string, Seen[]>;
  expected: Record<string, Seen[]>;
  problems: string[];
}

/** Asks agents through `doctor --ask`. */
async function ask(box: Sandbox, directory: string, agents: readonly Agent[] = DEFAULT_AGENTS): Promise<View> {
  const { script, environment } = await installed("skills/skill-doctor/scripts/doctor.ts");
  const doctor = async (...options: string[]) => {
    const withEtc = ["unshare", "-rm", "sh", "-c", 'mount --bind "$0/etc" /etc && exec "$@"', box.path];
    const prefix = isThere(`${box.path}/etc`) ? withEtc : [];
    const words = [...prefix, Deno.execPath(), "run", "-A", "--no-lock", script, "show", "--json", ...options];
    const variables = {
      HOME: box.home,
      OPENCODE_DISABLE_MODELS_FETCH: "1",
      ...box.environment,
      PATH: pathWith(agents),
    };
    const result = await execute(words, { cwd: box.at(directory), environment: { ...environment, ...variables } });
    assert(result.stdout.startsWith("{"), result.stderr);
    const { agents: views, problems } = JSON.parse(result.stdout);
    return {
      views: views as { agent: string; asked: boolean; skills: Seen[] }[],
      problems: problems as { message: string }[],
    };
  };
  const [before, after] = [await doctor(), await doctor("--ask", "--yes")];
  const byAgent = (views: { agent: string; skills: Seen[] }[]) =>
    Object.fromEntries(views.map(({ agent, skills }) => [agent, skills]));
  return {
    asked: byAgent(after.views.filter(({ asked }) => asked)),
    expected: byAgent(before.views),
    problems: after.problems.map(({ message }) => message).filter((message) =>
      /says that|cannot be asked/.test(message)
    ),
  };
}

/** What Claude Code tells its model about skills: their descriptions by name. */
async function askClaude(box: Sandbox, directory: string): Promise<Record<string, string>> {
  await using model = new Model();
  const environment = { HOME: box.home, ...box.environment, ...offline("claude", model).environment };
  const result = await execute(["claude", "-p", "hello"], {
    cwd: box.at(directory),
    environment: { ...environment, PATH: pathWith(["claude"]) },
  });
  assertEquals(result.status, 0, result.stderr + result.stdout);
  const told = toldByClaude(model).filter(({ name }) => !BUILT_IN.has(name));
  return Object.fromEntries(told.map(({ name, description }) => [name, description]));
}

/** The skills that come with Claude Code. */
let BUILT_IN = new Set<string>();
if (areInstalled(["claude"])) {
  using box = new Sandbox();
  BUILT_IN = new Set(Object.keys(await askClaude(box, ".")));
}

/** The texts of the skills that an agent sees, by name. */
function textsOf(skills: readonly Seen[] = []): Record<string, string> {
  return Object.fromEntries(skills.map(({ name, path }) => [name, Deno.readTextFileSync(`${path}/SKILL.md`)]));
}

function descriptionOf(text: string): string {
  return /^description: (.*)$/m.exec(text)?.[1] ?? "";
}

/** Every agent sees these skills, from the directory. Claude Code's names are in `directories`, if they differ. */
async function assertSeen(box: Sandbox, from: string, texts: Record<string, string>, directories = texts) {
  const { asked, problems } = await ask(box, from);
  assertEquals(problems, []);
  for (const agent of ["opencode", "codex"]) assertEquals(textsOf(asked[agent]), texts, `${agent} in ${from}`);
  const descriptions = Object.entries(directories).map(([name, text]) => [name, descriptionOf(text)]);
  assertEquals(await askClaude(box, from), Object.fromEntries(descriptions), `claude in ${from}`);
}

const FULL = `---
name: full
description: What full is for
license: MIT
compatibility: Needs nothing
metadata:
  requires: "sh"
  version: "1"
allowed-tools: Read
---

Do it.
`;

/** A project with six skills: from a path, by name, with `as`, from git, from the home, and with every field. */
async function sixSkills(): Promise<Setting & { texts: Record<string, string>; directories: Record<string, string> }> {
  const setting = await Setting.start(skillFiles("skills", ["pdf"]), {}, new Sandbox("use-skills.ts"));
  const { box } = setting;
  box.skills("tools/house-style", "review", "renamed", `${box.home}/notes/mine`);
  box.write("skills/full/SKILL.md", FULL);
  await box.git("init", "-q");
  box.directory("deep/inside");
  box.manifest("./tools/house-style", "review", "renamed as other", "team/skills/skills/pdf", "~/notes/mine", "full");
  const named = Object.fromEntries(["house-style", "review", "pdf", "mine"].map((name) => [name, skillText(name)]));
  const texts = { ...named, full: FULL, renamed: skillText("renamed") };
  const directories = { ...named, full: FULL, other: skillText("renamed") };
  return Object.assign(setting, { texts, directories });
}

describe("real agents", () => {
  it("see exactly the deployed skills, and none after remove and clean", async () => {
    await using setting = await sixSkills();
    const { box, texts, directories } = setting;
    await box.done();
    await assertSeen(box, ".", texts, directories);
    await assertSeen(box, "deep/inside", texts, directories);
    await box.done("remove", "review", "other", "pdf", "mine", "full");
    await assertSeen(box, ".", { "house-style": texts["house-style"]! });
    await box.done("clean");
    await assertSeen(box, ".", {});
  });

  for (const mode of ["copy", "commit"]) {
    it(`see exactly the deployed skills in mode ${mode}`, async () => {
      await using setting = await sixSkills();
      const { box, texts, directories } = setting;
      box.mode(mode);
      await box.done();
      await assertSeen(box, ".", texts, directories);
      await assertSeen(box, "deep/inside", texts, directories);
    });
  }

  it("see exactly the deployed skills in a linked worktree", async () => {
    await using setting = await sixSkills();
    const { box, texts, directories } = setting;
    await box.done();
    await box.git("add", "--all");
    await box.git("commit", "-qm", "All");
    await box.git("worktree", "add", "-q", "../linked");
    box.enter("linked");
    await box.done();
    box.directory("deep/inside");
    await assertSeen(box, ".", texts, directories);
    await assertSeen(box, "deep/inside", texts, directories);
  });

  it("see exactly the deployed skills with directories of their own in the environment", async () => {
    await using setting = await sixSkills();
    const { box, texts, directories } = setting;
    const variables = { CODEX_HOME: "codex", CLAUDE_CONFIG_DIR: "claude", XDG_CONFIG_HOME: "config" };
    for (const [variable, name] of Object.entries(variables)) {
      box.directory(`${box.path}/${name}`);
      box.environment[variable] = `${box.path}/${name}`;
    }
    await box.done();
    assert(isThere(`${box.path}/codex/skills/full`));
    const skills = ["home-full", "home-style"];
    for (const name of skills) box.skills(`${box.home}/notes/${name}`);
    box.write(`${box.path}/config/use-skills/skills`, skills.map((name) => `~/notes/${name}\n`).join(""));
    await box.done("--global");
    const more = Object.fromEntries(skills.map((name) => [name, skillText(name)]));
    await assertSeen(box, ".", { ...texts, ...more }, { ...directories, ...more });
    await assertSeen(box, "deep/inside", { ...texts, ...more }, { ...directories, ...more });
  });

  it("never see a part of a skill of 4,000 files, whenever sync is killed", async () => {
    using box = new Sandbox();
    box.skills("large");
    for (let index = 0; index < 3999; index++) box.write(`skills/large/files/${index}.md`, `${index}\n`);
    box.manifest("mode copy", "large");
    const complete = 4000;
    let seen = 0;
    for (const delay of [60, 150, 250, 400, 600, 900, 1300, 2000]) {
      const child = await box.spawn();
      await new Promise((done) => setTimeout(done, delay));
      kill(child);
      await child.output();
      const { asked, expected } = await ask(box, ".");
      for (const { path } of [...asked["opencode"]!, ...asked["codex"]!, ...expected["claude"]!]) {
        const count = [...Deno.readDirSync(`${path}/files`)].length + 1;
        assertEquals(count, complete, path);
        seen++;
      }
      assertEquals(Object.keys(await askClaude(box, ".")), expected["claude"]!.map(({ name }) => name));
      await box.done("clean");
    }
    await box.done();
    seen += Object.keys(await askClaude(box, ".")).length;
    assert(seen > 0);
  });

  /** Puts a skill with a name of its own into each directory that the table names for an agent. */
  async function fillDirectories(box: Sandbox, agent: Agent): Promise<string[]> {
    const { project, home } = (await readAgentTable())[agent]!;
    box.environment["OPENCODE_CONFIG_DIR"] = `${box.home}/opencode`;
    const isEtc = (path: string) => path.startsWith("/etc/");
    const readable = home.split(" ").filter((path) => Deno.build.os === "linux" || !isEtc(path));
    if (readable.some(isEtc)) {
      box.directory(`${box.path}/etc`); // mounted in place of the real one
      const needed = ["alternatives", "group", "hosts", "ld.so.cache", "ld.so.conf", "nsswitch.conf", "passwd"];
      const paths = needed.map((name) => `/etc/${name}`).filter(isThere);
      await succeed(["cp", "-r", ...paths, `${box.path}/etc`]);
    }
    const paths = [
      ...project.split(" "),
      ...readable.map((path) => isEtc(path) ? box.path + path : path)
        .map((path) => path.replace("${OPENCODE_CONFIG_DIR:-~/.opencode}", box.environment["OPENCODE_CONFIG_DIR"]!))
        .map((path) => path.replace(/^\$\{\w+:-([^}]+)\}/, "$1").replace("~", box.home)),
    ];
    return paths.map((path, index) => {
      box.skills(`${path}/${agent}-${index}`);
      return `${agent}-${index}`;
    });
  }

  it("see a skill in each directory that the table names for them", async () => {
    for (const agent of DEFAULT_AGENTS) {
      using box = new Sandbox();
      await box.git("init", "-q");
      const names = await fillDirectories(box, agent);
      const { asked, expected, problems } = await ask(box, ".");
      assertEquals(problems, []);
      assertEquals(
        expected[agent]!.map(({ name }) => name).filter((name) => name.startsWith(agent)).sort(),
        names.sort(),
      );
      const seen = agent === "claude" ? Object.keys(await askClaude(box, ".")) : asked[agent]!.map(({ name }) => name);
      assertEquals(seen.sort(), names.sort(), agent);
    }
  });

  it("see what skill-doctor says if a variable turns directories of OpenCode off", async () => {
    const seen: Record<string, string[]> = {
      CLAUDE_CODE: ["b", "c"],
      CLAUDE_CODE_SKILLS: ["b", "c"],
      EXTERNAL_SKILLS: ["c"],
      PROJECT_CONFIG: ["a", "b", "d"],
    };
    for (const [name, some] of Object.entries(seen)) {
      for (const value of ["1", "0"]) {
        using box = new Sandbox();
        await box.git("init", "-q");
        box.skills(".claude/skills/a", ".agents/skills/b", ".opencode/skills/c", `${box.home}/.claude/skills/d`);
        box.environment[`OPENCODE_DISABLE_${name}`] = value;
        const { asked, problems } = await ask(box, ".", ["opencode"]);
        assertEquals(problems, [], name);
        const names = asked["opencode"]!.map(({ name }) => name).sort();
        assertEquals(names, value === "1" ? some : ["a", "b", "c", "d"], name);
      }
    }
  });

  it("see what skill-doctor says, of skills with every peculiarity", async () => {
    using box = new Sandbox();
    await box.git("init", "-q");
    const front = (...lines: string[]) => `---\n${lines.join("\n")}\n---\n\nDo it.\n`;
    const named = (name: string) => front(`name: ${name}`, `description: What ${name} is for`);
    const peculiar: Record<string, string> = {
      "plain": named("plain"),
      "other-name": named("called-otherwise"),
      "no-description": front("name: no-description"),
      "empty-description": front("name: empty-description", 'description: ""'),
      "no-name": front("description: A skill"),
      "no-front-matter": "Do it.\n",
      "unclosed": "---\nname: unclosed\ndescription: d\n\nDo it.\n",
      "not-yaml": front("name: not-yaml", "description: d", "no mapping"),
      "a-list": front("- name"),
      "two-colons": front("name: two-colons", "description: a: b"),
      "number": front("name: number", "description: 123"),
      "date": front("name: date", "description: 2024-01-01"),
      "numeric-name": front("name: 123", "description: d"),
      "metadata": front("name: metadata", "description: d", "metadata: 5"),
      ["n".repeat(65)]: named("n".repeat(65)),
      "mark": `\ufeff${named("mark")}`,
      "long-description": front("name: long-description", `description: ${"d".repeat(1100)}`),
      "long-text": named("long-text") + "It is long.\n".repeat(10_000), // OpenCode prints all of it.
      "extra": front("name: extra", "description: d", "effort: high", "type: x"),
      "crlf": named("crlf").replaceAll("\n", "\r\n"),
      "group/nested": named("nested"),
      "plain/parts/nested-in-plain": named("nested-in-plain"),
      "group/node_modules/in-modules": named("in-modules"),
      "1/2/3/4/5/level-6": named("level-6"),
      "1/2/3/4/5/6/level-7": named("level-7"),
      ".hidden": named("hidden"),
      "group/.hidden-inside": named("hidden-inside"),
    };
    for (const target of [".claude/skills", ".opencode/skills", ".agents/skills"]) {
      for (const [path, text] of Object.entries(peculiar)) box.write(`${target}/${path}/SKILL.md`, text);
      box.write(`${target}/lower-case/skill.md`, named("lower-case"));
      box.write(`${target}/linked-file/REAL.md`, named("linked-file"));
      box.link(`${target}/linked-file/SKILL.md`, "REAL.md");
      box.link(`${target}/relative`, "../../elsewhere/relative");
      box.link(`${target}/absolute`, box.at("elsewhere/absolute"));
      box.link(`${target}/outside`, `${box.path}/outside`);
      box.link(`${target}/chain`, "../../elsewhere/second");
      box.link(`${target}/again`, "../../elsewhere/relative");
      box.link(`${target}/broken`, "nowhere");
      box.link(`${target}/from-plugin`, "../../plugin/skills/from-plugin");
      box.link(`${target}/linked-group`, "../../elsewhere/group");
      box.write(`${target}/two-contents/SKILL.md`, named("two-contents") + target);
    }
    box.skills("elsewhere/relative", "elsewhere/absolute", `${box.path}/outside`, "elsewhere/third");
    box.skills("elsewhere/group/in-linked-group", "plugin/skills/from-plugin");
    box.write("plugin/.claude-plugin/plugin.json", '{ "name": "tools" }');
    box.link("elsewhere/second", "third");
    box.write(`${box.home}/.claude/skills/two-contents/SKILL.md`, named("two-contents") + "home");
    box.write("below/.claude/skills/too-deep/SKILL.md", named("too-deep"));
    box.link(".codex/skills", "../elsewhere/target");
    box.skills("elsewhere/target/in-linked-target");
    for (const from of [".", "below"]) {
      const { asked, expected, problems } = await ask(box, from);
      assertEquals(problems, [], from);
      const names = (skills: readonly Seen[]) => skills.map(({ name }) => name).sort();
      for (const agent of ["opencode", "codex"]) {
        assertEquals(names(asked[agent]!), names(expected[agent]!), `${agent} in ${from}`);
      }
      assertEquals(Object.keys(await askClaude(box, from)).sort(), names(expected["claude"]!), `claude in ${from}`);
    }
  });

  it("deploy with the SessionStart hook of the README, and see it from the next session on", async () => {
    using box = new Sandbox();
    await box.git("init", "-q");
    box.skills("hq");
    box.manifest("hq");
    const readme = Deno.readTextFileSync(new URL("../README.md", import.meta.url));
    const [, hook = ""] = /```json hook\n([^]*?)```/.exec(readme) ?? [];
    const { script } = await installed("use-skills.ts");
    box.write("use-skills.ts", Deno.readTextFileSync(script));
    box.write(".claude/settings.json", hook);
    assertEquals([await askClaude(box, "."), await askClaude(box, ".")], [{}, { hq: "What hq is for" }]);
  });

  itMore("see a skill in each directory that the table names, also Gemini CLI, Copilot and Qwen Code", async () => {
    for (const agent of MORE_AGENTS) {
      using box = new Sandbox();
      await box.git("init", "-q");
      if (agent === "gemini") box.environment["GEMINI_CLI_TRUST_WORKSPACE"] = "true";
      const names = await fillDirectories(box, agent);
      box.directory("deep");
      assertEquals((await ask(box, "deep", [agent])).problems, []);
      const { asked, problems } = await ask(box, ".", [agent]);
      assertEquals(problems, []);
      const seen = agent === "qwen" ? await toldByQwen(box) : asked[agent]!.map(({ name }) => name);
      assertEquals(seen.sort(), names.sort(), agent);
    }
  });

  itMore("are asked which skills are disabled: Gemini CLI", async () => {
    using box = new Sandbox();
    await box.git("init", "-q");
    box.environment["GEMINI_CLI_TRUST_WORKSPACE"] = "true";
    box.skills(".gemini/skills/on", ".gemini/skills/off");
    box.write(".gemini/settings.json", '{"skills":{"disabled":["off"]}}');
    const { asked, problems } = await ask(box, ".", ["gemini"]);
    assertEquals(asked["gemini"]!.map(({ name }) => name), ["on"]);
    assertEquals(problems, ['It says that it does not see "off" here, which was expected']);
  });

  async function toldByQwen(box: Sandbox): Promise<string[]> {
    await using model = new Model();
    const environment = { HOME: box.home, ...offline("qwen", model).environment, PATH: pathWith(["qwen"]) };
    await execute(["qwen", "--auth-type", "openai", "-p", "hello"], { cwd: box.repo, environment });
    return [...new Set(JSON.stringify(model.requests[0]).match(/\bqwen-\d+\b/g) ?? [])];
  }
});
