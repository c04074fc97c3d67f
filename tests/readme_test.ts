/**
 * Holds the READMEs against the programs: their commands are run, their examples are read, their lists are compared.
 *
 * A fenced block's language says what becomes of it. All `sh` blocks of README.md are run in their order, in a person's
 * repo, with an empty home, git servers under known hosts, and nothing installed but what `sh install` installs, for which
 * programs of this machine stand in. `sh release` is run in a repo with a program that is built and an origin to push to,
 * `sh worker` in one with `worker` on the `PATH`. `text` blocks show what commands print.
 */
import { assert, assertEquals, assertStringIncludes } from "jsr:@std/assert@^1";
import { describe, it } from "jsr:@std/testing@^1/bdd";
import { AGENTS, parseManifest } from "../use-skills.ts";
import { Forge } from "./forge.ts";
import { execute, installed, isThere, readAgentTable, requires, Sandbox, skillText, succeed } from "./helpers.ts";
import { inBox } from "./worker_box.ts";

const checkout = new URL("..", import.meta.url).pathname;
const read = (path: string) => Deno.readTextFileSync(`${checkout}${path}`);
const readme = read("README.md");

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

/** A value's shape: the keys of objects, the shape of an array's first element, the types of the rest. */
function shape(value: unknown): unknown {
  if (Array.isArray(value)) return value.slice(0, 1).map(shape);
  if (typeof value !== "object" || value === null) return typeof value;
  return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, shape(each)]));
}

/** A person's repo in an empty home, with a git server that has this checkout and `anthropics/skills`. */
class Newcomer extends Sandbox {
  forge: Forge | undefined;

  static async start(): Promise<Newcomer> {
    const box = new Newcomer("use-skills.ts", "skill-doctor", "hq", "review-gate");
    box.repo = `${box.home}/repo`;
    box.directory(box.repo);
    await box.git("init", "--quiet", "--initial-branch=main");
    for (const [key, value] of [["user.name", "A"], ["user.email", "a@example.org"]]) {
      await box.git("config", key!, value!);
    }
    const source = `${box.path}/source`;
    const { script } = await installed("use-skills.ts", "skill-doctor", "hq", "review-gate");
    await succeed(["cp", "-r", script.replace(/\/[^/]*$/, ""), source]);
    const setUp =
      "git init --quiet && git add . && git -c user.name=A -c user.email=a@b.c commit --quiet --message=all";
    await succeed(["sh", "-c", `cd ${source} && ${setUp}`], { environment: { HOME: box.home } });
    box.forge = await Forge.start();
    const files = { "skills/pdf/SKILL.md": skillText("pdf"), "skills/docx/SKILL.md": skillText("docx") };
    await box.forge.commit("anthropics/skills", files);
    const config = `${box.forge.config("https://github.com/")}\n[url "${source}"]\n` +
      "  insteadOf = https://git.example.org/use-skills/use-skills\n";
    box.write(`${box.home}/.gitconfig`, config);
    Deno.symlinkSync(Deno.execPath(), `${box.home}/deno`);
    return box;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this[Symbol.dispose]();
    await this.forge?.[Symbol.asyncDispose]();
  }
}

/** A person's repo, with a program of this checkout in `~/use-skills`. */
async function person(program = "use-skills.ts"): Promise<Sandbox> {
  const box = new Sandbox(program);
  const { script } = await installed(program);
  await succeed(["cp", "-r", script.replace(/\/[^/]*$/, ""), `${box.home}/use-skills`]);
  Deno.symlinkSync(Deno.execPath(), `${box.home}/deno`);
  return box;
}

/** Runs a shell script, with the same Deno as ours; gives what it prints on standard output and error. */
async function runShell(box: Sandbox, script: string, environment: Record<string, string> = {}): Promise<string> {
  const start = await box.start({ environment: { PATH: `${box.home}:${Deno.env.get("PATH")}`, ...environment } });
  const words = ["bash", "-euo", "pipefail", "-c", script];
  const { status, stderr, stdout } = await execute(words, start);
  assertEquals(status, 0, `${script}\n${stdout}${stderr}`);
  return stdout + stderr;
}

/** What every Debian has. */
const BASE = "bash sh env cat cp ls chmod mkdir mktemp rm ln mv tr sed grep head tail sort uname id dirname basename";

/**
 * A `PATH` with nothing but what every Debian has, and the installers that the README calls. They put programs of this
 * machine on the path, because a test needs no network.
 */
async function bareMachine(box: Sandbox): Promise<string> {
  const bin = `${box.home}/bin`;
  box.directory(bin);
  const find = async (name: string) => (await succeed(["sh", "-c", `command -v ${name}`])).trim();
  for (const name of BASE.split(" ")) Deno.symlinkSync(await find(name), `${bin}/${name}`);
  const installer = (name: string, command: string, programs: Record<string, string>) => {
    const links = Object.entries(programs).map(([name, path]) => `  ${name}) ln -s ${path} ${bin}/${name};;\n`).join(
      "",
    );
    const rest = `for name; do case $name in\n${links}  *) echo "${name} has no $name" >&2; exit 1;; esac; done\n`;
    box.write(`${bin}/${name}`, `#!/bin/sh\n[ "$1 $2" = "${command}" ] || exit 1\nshift 2\n${rest}`);
    Deno.chmodSync(`${bin}/${name}`, 0o755);
  };
  installer("npm", "install --global", { deno: Deno.execPath() });
  installer("apt-get", "install --yes", { direnv: await find("direnv"), git: await find("git") });
  box.write(`${bin}/sudo`, '#!/bin/sh\nexec "$@"\n');
  Deno.chmodSync(`${bin}/sudo`, 0o755);
  return bin;
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

/** What of a capture differs from run to run: commits, times and how cells are padded. */
function normalize(text: string): string {
  return text.replace(/@[0-9a-f]{7}\b/g, "@COMMIT").replace(/\b\d+[smhd]\b/g, "TIME").replace(/ {2,}/g, "  ")
    .replace(/^ +/gm, "").trimEnd();
}

describe("README.md", () => {
  requires("git", "openssl", "direnv")("has commands that work in their order, for a new user", async () => {
    await using box = await Newcomer.start();
    const PATH = await bareMachine(box);
    const commands = [block("sh install"), ...blocks("sh")];
    assert(commands.length >= 8, "Where are they?");
    for (const script of commands) await runShell(box, script, { PATH });
    assertEquals(box.read(`${box.home}/.bashrc`), 'eval "$(direnv hook bash)"\n');
    for (const name of ["pdf", "hq", "review-gate", "skill-doctor"]) {
      assert(isThere(box.at(`.claude/skills/${name}`)), name);
    }
    // The git hooks deploy after a checkout and a pull.
    await runShell(box, "git add .skills && git commit --quiet --message=skills");
    for (
      const command of [
        "git checkout --quiet -b other",
        "git commit -q --allow-empty -m x && git checkout -q main && git merge --quiet other",
      ]
    ) {
      box.remove(".claude/skills/pdf");
      await runShell(box, command);
      assert(isThere(box.at(".claude/skills/pdf")), command);
    }
    // They don't stop git if a skill is missing, or in a branch without use-skills.ts.
    box.write(".skills", `${box.read(".skills")}./nosuch\n`);
    await runShell(box, "git checkout --quiet -b third; rm use-skills.ts; git checkout -q -b fourth");
  });

  requires("git", "openssl", "direnv")("shows what the first commands, list and doctor print", async () => {
    await using box = await Newcomer.start();
    await runShell(
      box,
      "git clone --quiet https://git.example.org/use-skills/use-skills ~/use-skills; cp ~/use-skills/use-skills.ts .",
    );
    box.skills("house-style", `${box.home}/notes/oncall`, `${box.home}/.claude/skills/old`);
    const [, manifest = ""] = /\$ cat \.skills\n([^]*?)\n\n/.exec(block("text first")) ?? [];
    const printed = await runShell(box, "./use-skills.ts init");
    box.write(".skills", `${manifest}\n`);
    const deployed = await runShell(box, "./use-skills.ts");
    const loaded = await runShell(box, "direnv allow; direnv export bash > /dev/null");
    const shown = loaded.replaceAll("\x1b[m", "").split("\n").filter((line) =>
      /^(direnv: loading|use-skills:)/.test(line)
    ).join("\n");
    const capture = `$ ./use-skills.ts init\n${printed}\n$ cat .skills\n${manifest}\n\n` +
      `$ ./use-skills.ts\n${deployed}\n$ direnv allow                  # from now on, every cd does this\n${shown}\n`;
    assertEquals(capture, block("text first"));
    const useSkills = "deno run -A --no-lock --no-config ~/use-skills/use-skills.ts";
    assertEquals(normalize(await runShell(box, `${useSkills} list`)), normalize(block("text list")));
    assertEquals(normalize(await runShell(box, `${useSkills} doctor`)), normalize(block("text doctor")));
  });

  it(
    "shows what worker list prints",
    inBox(async (box) => {
      const briefs = {
        "export-csv": "Export reports as CSV",
        "fix-dates": "One time zone for all dates",
        "audit-login": "Write down failed logins",
      };
      for (const [id, title] of Object.entries(briefs)) {
        box.write("../brief.md", `# ${title}\n`);
        await box.spawnTask(id);
      }
      await box.commit("export-csv", { "src/export.txt": "1\n" });
      await box.do("submit export-csv");
      await box.do(["block", "fix-dates", "--question", "Which time zone?"]);
      await box.commit("audit-login", { "src/auth.txt": "1\n" });
      await box.do("submit audit-login");
      assertEquals(normalize((await box.worker(["list"])).stdout), normalize(block("text worker")));
    }),
  );

  it("has a command that prints the lines for .skills from the lockfile of npx skills", async () => {
    using box = await person();
    const skills = {
      pdf: { source: "anthropics/skills", sourceType: "github", skillPath: "skills/pdf/SKILL.md", computedHash: "x" },
      root: { source: "team/skill", sourceType: "github", skillPath: "SKILL.md", ref: "v1", computedHash: "x" },
      oncall: {
        ...{ source: "team/skills", sourceUrl: "https://git.example.org/team/skills.git", sourceType: "git" },
        ...{ ref: "main", skillPath: "skills/oncall/SKILL.md", computedHash: "x" },
      },
      own: { source: "tools", sourceType: "local", skillPath: "own/SKILL.md", computedHash: "x" },
      lab: { source: "team/lab", sourceType: "gitlab", skillPath: "lab/SKILL.md", computedHash: "x" },
      "My Skill": { source: "team/skills", sourceType: "github", skillPath: "my/SKILL.md", computedHash: "x" },
      spaced: { source: "team/skills", sourceType: "github", skillPath: "my skill/SKILL.md", computedHash: "x" },
      site: { source: "example.org", sourceType: "well-known", computedHash: "x" },
    };
    box.write("skills-lock.json", JSON.stringify({ version: 1, skills }));
    const lines = await runShell(box, block("sh migrate"));
    assertEquals(
      lines,
      "anthropics/skills/skills/pdf as pdf\nteam/skill#v1 as root\n" +
        "https://git.example.org/team/skills.git//skills/oncall#main as oncall\n./tools/own as own\n" +
        "https://gitlab.com/team/lab//lab as lab\nteam/skills/my as my-skill\n" +
        "# copy spaced of team/skills into skills/\n# copy site of example.org into skills/\n",
    );
    assertEquals(parseManifest(lines).errors, []);
  });

  requires("git")("has commands that work in a checkout with only Node", async () => {
    using box = await person();
    const files = await succeed(["git", "-C", checkout, "ls-files", "-co", "--exclude-standard", "-z"], {
      environment: { GIT_CONFIG_COUNT: "1", GIT_CONFIG_KEY_0: "safe.directory", GIT_CONFIG_VALUE_0: "*" },
    });
    for (const file of files.split("\0").filter((name) => name !== "")) {
      box.write(file, Deno.readFileSync(checkout + file));
    }
    await succeed(["cp", "-r", `${checkout}vendor`, box.repo]);
    await box.git("init", "--quiet");
    const [, command = ""] = /`npx -y (deno task use-skills)`/.exec(readme) ?? []; // npx only fetches Deno.
    await runShell(box, command, { JSR_URL: Deno.env.get("JSR_URL") ?? "" });
    for (const name of ["hq", "review-gate"]) {
      assertEquals(Deno.readLinkSync(box.at(`.claude/skills/${name}`)), `../../skills/${name}`);
    }
  });

  it("is short enough to be read, and names what has to be installed", () => {
    assert(readme.split("\n").length <= 401, `${readme.split("\n").length}`);
    assertStringIncludes(block("sh install"), "direnv git");
  });

  it("has the block that init writes", async () => {
    using box = await person();
    await runShell(box, "cp ~/use-skills/use-skills.ts . && deno run -A --no-lock --no-config use-skills.ts init");
    assertEquals(box.read(".envrc"), block("bash envrc"));
    assertEquals(Deno.readTextFileSync(`${checkout}.envrc`), block("bash envrc"));
  });

  it("has an example of a manifest that can be read", () => {
    const { entries, errors } = parseManifest(block("text skills"));
    assertEquals([entries.length, errors], [9, []]);
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

  it("lists the agents that the programs know, and which of them tests verify", async () => {
    const READERS = await readAgentTable();
    const rows = [...readme.matchAll(/^\| (`[^|]*`(?: ✓)?) \| ([^|]*)\| ([^|]*)\|$/gm)]
      .filter(([, agents = ""]) => /^`[a-z]+`/.test(agents) && Object.hasOwn(AGENTS, /[a-z]+/.exec(agents)![0]));
    const listed = new Map(
      rows.flatMap(([, agents = "", project = "", home = ""]) =>
        Array.from(agents.matchAll(/`(\w+)`( ✓)?/g), ([, agent = "", mark]) => {
          const paths = [project, home].map((cell) => cell.replaceAll("NAME", agent));
          return [agent, { project: paths[0]!, home: paths[1]!, isTested: mark !== undefined }] as const;
        })
      ),
    );
    assertEquals([...listed.keys()].sort(), Object.keys(AGENTS).sort());
    assertEquals(Object.keys(READERS).sort(), Object.keys(AGENTS).sort());
    for (const [agent, { project, home, isTested }] of listed) {
      for (const path of AGENTS[agent]!.project) assertStringIncludes(project, `\`${path}\``, agent);
      const path = AGENTS[agent]!.home?.replace(/\$\{\w+:-([^}]+)\}/, "$1");
      assertEquals(home.includes(`\`~/${path}\``) || path === undefined && home.trim() === "", true, agent);
      assertEquals(isTested, READERS[agent]!.source === "test", agent);
    }
  });

  it("lists the commands as --help does", async () => {
    using box = new Sandbox();
    const { stdout } = await box.run("--help");
    const rows = Array.from(
      stdout.matchAll(/^ {2}([a-z]+(?: [A-Z[][^ ]*)?) {2,}(.*)$/gm),
      ([, left, right]) => `| \`${left}\` | ${right} |`,
    );
    assert(rows.length === 10, stdout);
    assertStringIncludes(readme, rows.join("\n"));
  });
});

describe("releases/README.md", () => {
  const text = read("releases/README.md");

  requires("git", "curl", "sha256sum", "tar")("has commands that release a program", async () => {
    await using box = await maintainer();
    const scripts = blocks("sh release", text);
    assert(scripts.length >= 5, "Where are they?");
    for (const script of scripts) await runShell(box, script.replaceAll("https://git.example.org", box.site));
    assertEquals(isThere(box.at("releases/hello_1.2.0_noarch.tar.gz")), true);
  });

  it("says that origin is needed before the first command", () => {
    assert(text.indexOf("a remote named `origin`") < text.indexOf("```sh"));
  });

  it("lists the options of release.ts", async () => {
    using box = new Sandbox("release.ts");
    const { stdout } = await box.run("--help");
    const options = (text: string) => [...new Set(text.match(/--[a-z][a-z-]+/g))].sort();
    const section = text.slice(text.indexOf("## Commands and options"), text.indexOf("## What is refused"));
    assertEquals(options(section), options(stdout));
  });
});

describe("skills/hq/README.md", () => {
  requires("git")("has commands that work", async () => {
    using box = await person();
    box.link(`${box.home}/worker`, `${checkout}skills/hq/scripts/worker.ts`);
    box.write("README.md", "Little\n");
    await box.git("init", "--quiet", "--initial-branch=main");
    await box.git("add", ".");
    await box.git("commit", "--quiet", "--message=first");
    const scripts = blocks("sh worker", read("skills/hq/README.md"));
    assertEquals(scripts.length, 1);
    for (const script of scripts) await runShell(box, script);
    assertStringIncludes(await box.git("for-each-ref"), "refs/worker/backup/readme\n");
  });
});

describe("the READMEs", () => {
  requires("nix")("have Nix code that can be read", async () => {
    using box = new Sandbox();
    const texts = ["releases/README.md", "skills/README.md"].flatMap((path) => blocks("nix", read(path)));
    assertEquals(texts.length, 4);
    for (const [index, text] of texts.entries()) {
      box.write(`${index}.nix`, text);
      const { status, stderr } = await box.nix("nix-instantiate", "--parse", `${index}.nix`);
      assertEquals(status, 0, stderr);
    }
  });
});
