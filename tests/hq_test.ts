/**
 * Walks through the skills `hq` and `review-gate` as an agent would that does just what they say: every fenced shell
 * block is run as it is written, in its order, in a repo where a scripted agent stands in for Claude Code.
 *
 * A block's language says who runs it: `sh` is HQ or the reviewer, `sh human` a person, `sh worker` a reviewer who was
 * given a task of `worker`, `sh install` and `sh settings` a person who sets it up.
 */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "jsr:@std/assert@^1";
import { describe, it } from "jsr:@std/testing@^1/bdd";
import { DEFAULT_AGENTS, VERSIONS } from "./agents.ts";
import { execute, isThere, requires, type Result, Sandbox, succeed } from "./helpers.ts";
import { type Box, inBox } from "./worker_box.ts";

const checkout = new URL("..", import.meta.url).pathname;

/** The fenced blocks of a file under `skills/`, with their language. */
function blocks(file: string): { language: string; text: string }[] {
  const text = Deno.readTextFileSync(`${checkout}skills/${file}`);
  return [...text.matchAll(/^( *)```(.*)\n([^]*?)^\1```$/gm)].map(([, indent = "", language = "", body = ""]) => ({
    language,
    text: body.replaceAll(new RegExp(`^${indent}`, "gm"), ""),
  }));
}

/**
 * What stands in for an agent: it reads its prompt, edits, commits, and asks or submits. `$2` is the prompt, as after
 * `claude -p`.
 */
const AGENT = `#!/bin/sh
set -eu
mkdir -p src
commit() { git add src && git commit --quiet --message "$1" && printf '%s\\n' "Done: $1" | worker submit --report -; }
case "$WORKER_TASK" in
  export-csv)
    if [ -e src/export.txt ]; then echo 'quotes around commas' >>src/export.txt; commit quotes
    else echo 'comma separated' >src/export.txt; commit export; fi ;;
  fix-dates)
    case "$2" in
      *UTC*) echo 'all dates are UTC' >src/dates.txt; git add src; git commit --quiet --message dates; echo notes >notes.txt ;;
      *) worker block --question 'Which time zone?' ;;
    esac ;;
  audit-login) echo 'who, when, from where' >src/auth.txt; commit audit ;;
esac
`;

/** A repo with a worker on the `PATH`, and an agent that stands in for Claude Code. */
class Headquarters extends Sandbox {
  /** What a shell that HQ starts gets. */
  shellEnvironment(more: Record<string, string> = {}): Record<string, string> {
    return {
      HOME: this.home,
      PATH: `${this.path}/bin:${Deno.env.get("PATH")}`,
      GIT_CONFIG_NOSYSTEM: "1",
      GIT_CONFIG_GLOBAL: `${this.home}/.gitconfig`,
      ...more,
    };
  }

  async open(): Promise<this> {
    this.write(
      `${this.home}/.gitconfig`,
      "[user]\n\tname = A\n\temail = a@example.org\n[init]\n\tdefaultBranch = main\n",
    );
    this.link(`${this.path}/bin/worker`, `${checkout}skills/hq/scripts/worker.ts`);
    this.link(`${this.path}/bin/deno`, Deno.execPath());
    this.write(`${this.path}/bin/claude`, AGENT);
    this.write("run-tests", '#!/bin/sh\nset -e\nfor file in src/*; do test -s "$file"; done\n');
    for (const path of [`${this.path}/bin/claude`, "run-tests"]) Deno.chmodSync(this.at(path), 0o755);
    this.write("src/main.txt", "main\n");
    await this.shell("git init --quiet && git add . && git commit --quiet --message first");
    return this;
  }

  /** Runs a script, which has to succeed. */
  async shell(script: string, more: Record<string, string> = {}): Promise<Result> {
    const start = { cwd: this.repo, environment: this.shellEnvironment(more) };
    const result = await execute(["bash", "-euo", "pipefail", "-c", script], start);
    assertEquals(result.status, 0, `${script}\n${result.stdout}${result.stderr}`);
    return result;
  }

  /** The tasks' states, once no agent is at work; read again then, as the last one may have ended between two looks. */
  async states(): Promise<Record<string, string>> {
    for (let quiet = 0;;) {
      const { data } = JSON.parse((await this.shell("worker list --all --json")).stdout);
      const tasks: { id: string; state: string; alive?: boolean | null }[] = data.tasks;
      quiet = tasks.some(({ alive }) => alive) ? 0 : quiet + 1;
      if (quiet === 2) return Object.fromEntries(tasks.map(({ id, state }) => [id, state]));
      await new Promise((go) => setTimeout(go, 50));
    }
  }
}

/** How the tasks stand once a block of `hq/SKILL.md` has been run and all agents are done; no word for as before. */
const AFTERWARDS: readonly Record<string, string>[] = [
  {},
  { "export-csv": "submitted", "fix-dates": "blocked", "audit-login": "needs_human" },
  {}, // the task that overlaps is refused
  { "fix-dates": "working" }, // its agent has ended without a word: stalled
  { "export-csv": "changes_requested" },
  { "export-csv": "submitted" }, // for the second time
  { "export-csv": "approved" },
  { "export-csv": "merged" }, // and cleaned up
  { "audit-login": "submitted" },
  { "audit-login": "merged" },
  { "fix-dates": "cancelled" },
];

describe("skills/hq", () => {
  requires("git")("works as documented, block by block", async () => {
    using hq = await new Headquarters().open();
    let expected: Record<string, string> = {};
    let said = "";
    const steps = blocks("hq/SKILL.md");
    assertEquals(steps.length, AFTERWARDS.length);
    for (const [index, { language, text }] of steps.entries()) {
      const isHuman = language === "sh human";
      if (isHuman) {
        const refused = await execute(["bash", "-ec", text], { cwd: hq.repo, environment: hq.shellEnvironment() });
        assertEquals(refused.status, 8, refused.stderr);
      }
      const { stdout, stderr } = await hq.shell(text, isHuman ? { WORKER_HUMAN: "1" } : {});
      said += stdout + stderr;
      expected = { ...expected, ...AFTERWARDS[index] };
      assertEquals(await hq.states(), expected, text);
    }
    assertStringIncludes(said, "export-csv"); // the overlap is named
    assertMatch(said, /^\+quotes around commas$/m);
    assertEquals(
      (await hq.shell("cat src/*; git status --porcelain")).stdout,
      [
        ...["who, when, from where", "comma separated", "quotes around commas", "main", ""],
      ].join("\n"),
    );
    const saved = await hq.shell(
      "git ls-tree -r --name-only refs/worker/backup/fix-dates; git branch --list 'worker/fix*'",
    );
    assertEquals(saved.stdout, "notes.txt\nrun-tests\nsrc/dates.txt\nsrc/main.txt\n");
    assertEquals(isThere(`${hq.repo}.worktrees/fix-dates`), false);
  });

  requires("git")("documents how each agent is started", async () => {
    using hq = await new Headquarters().open();
    const rows = Deno.readTextFileSync(`${checkout}skills/hq/references/agents.md`)
      .matchAll(/^\| `(\w+)` \| `(.+)` \| /gm);
    const agents = [...rows].map(([, agent = "", line = ""]) => ({ agent, line }));
    assertEquals(agents.map(({ agent }) => agent), ["claude", "codex", "opencode"]);
    for (const { agent, line } of agents) {
      hq.write(`${hq.path}/bin/${agent}`, `#!/bin/sh\nprintf '%s\\0' ${agent} "$@" >${hq.path}/${agent}\n`);
      Deno.chmodSync(`${hq.path}/bin/${agent}`, 0o755);
      await hq.shell(`printf 'Do it.\n' | worker spawn --taskId ${agent}-task --agent ${agent} --brief -`);
      await hq.states();
      const words = hq.read(`${hq.path}/${agent}`).split("\0").slice(0, -1);
      assertEquals(words.map((word) => word.includes("Do it.\n") ? "PROMPT" : word).join(" "), line);
      await hq.shell(`git config worker.model.${agent} large && worker resume ${agent}-task`);
      await hq.states();
      assertEquals(hq.read(`${hq.path}/${agent}`).split("\0").filter((_, at, all) => all[at - 1] === "--model"), [
        "large",
      ]);
    }
  });

  it("names the versions of the agents that the tests run", () => {
    const text = Deno.readTextFileSync(`${checkout}skills/hq/references/agents.md`);
    for (const agent of DEFAULT_AGENTS) assertStringIncludes(text, VERSIONS[agent][1]);
  });

  requires("git")("can be installed as its README says", async () => {
    using hq = await new Headquarters().open();
    const [link = "", unpack = ""] = blocks("hq/README.md").filter(({ language }) => language === "sh install")
      .map(({ text }) => text);
    assert(unpack !== "", "Where are they?");
    for (const text of [link, unpack]) {
      Deno.removeSync(`${hq.path}/bin/worker`);
      const inCheckout = `rm -rf ~/.local; cd ${checkout}; PATH=~/.local/bin:$PATH; ${text}`;
      assertStringIncludes((await hq.shell(inCheckout)).stdout, "worker 0.");
      hq.link(`${hq.path}/bin/worker`, `${hq.home}/.local/bin/worker`);
      await hq.shell("worker doctor");
    }
  });

  requires("nix")("has Nix code that can be read", async () => {
    using box = new Sandbox();
    const texts = [
      ...blocks("hq/README.md").filter(({ language }) => language === "nix").map(({ text }) => text),
      Deno.readTextFileSync(`${checkout}releases/worker.nix`),
    ];
    assertEquals(texts.length, 2);
    for (const [index, text] of texts.entries()) {
      box.write(`${index}.nix`, text);
      const { status, stderr } = await box.nix("nix-instantiate", "--parse", `${index}.nix`);
      assertEquals(status, 0, stderr);
    }
  });

  requires("git")("has settings that worker knows", async () => {
    using hq = await new Headquarters().open();
    for (const { text } of blocks("hq/README.md").filter(({ language }) => language === "sh settings")) {
      await hq.shell(text);
    }
    await hq.shell("worker list");
    const states = Deno.readTextFileSync(`${checkout}skills/hq/references/states.md`);
    const documented = [...states.matchAll(/`worker\.(\w+)`/g)].map(([, name]) => name).sort();
    const program = Deno.readTextFileSync(`${checkout}skills/hq/scripts/worker.ts`);
    const known = program.toLowerCase();
    for (const name of documented) assert(known.includes(`${name}`.toLowerCase()), `worker.${name} is not one`);
  });
});

describe("skills/review-gate", () => {
  requires("git")("works with git alone", async () => {
    using hq = await new Headquarters().open();
    await hq.shell("git switch -qc feature && echo more >>src/main.txt && git commit -qam more && git switch -q main");
    const script = blocks("review-gate/SKILL.md").filter(({ language }) => language === "sh").map(({ text }) => text)
      .join("\n");
    const { stdout } = await hq.shell(script, { TMPDIR: hq.path });
    assertMatch(stdout, /^\+more$/m);
    assertEquals((await hq.shell("git worktree list")).stdout.trim().split("\n").length, 1);
  });

  requires("git")("gets its range from worker and records the verdict", async () => {
    using hq = await new Headquarters().open();
    await hq.shell("echo 'Export as CSV' | worker spawn --taskId export-csv --brief -");
    await hq.states();
    hq.write(`${hq.path}/verdict`, "VERDICT: REQUEST CHANGES\nimportant  src/export.txt:1  no quotes\n");
    const script = blocks("review-gate/SKILL.md").filter(({ language }) => language === "sh worker").map(({ text }) =>
      text
    );
    const { stdout } = await hq.shell(script.join("\n"), { VERDICT: `${hq.path}/verdict` });
    assertMatch(stdout, /^\+comma separated$/m);
    assertEquals(await hq.states(), { "export-csv": "changes_requested" });
  });
});

describe("skills", () => {
  requires("git")("are valid", async () => {
    using box = new Sandbox("skills/skill-doctor/scripts/doctor.ts");
    assertEquals(
      await box.done("validate", ...["hq", "review-gate", "skill-doctor"].map((name) => `${checkout}skills/${name}`)),
      "3 of 3 skills are valid\n",
    );
    const lines = Deno.readTextFileSync(`${checkout}skills/hq/SKILL.md`).split("\n").length;
    assert(lines < 300, `${lines} lines`);
  });
});

describe("releases/worker", () => {
  const record = () => JSON.parse(Deno.readTextFileSync(`${checkout}releases/worker.json`));
  const tarball = (version: string) => `${checkout}releases/worker_${version}_noarch.tar.gz`;

  requires("git", "tar")("contains this worker, or an older version", async () => {
    using hq = await new Headquarters().open();
    const [, version = ""] = (await hq.shell("worker --version")).stdout.match(/^worker (\S+)\n$/) ?? [];
    assert(isThere(tarball(record().version)), "the newest release is not there");
    if (!isThere(tarball(version))) return; // that version is yet to be released
    await hq.shell(`tar -xzf ${tarball(version)} -C ${hq.path}`);
    const [now, released] = [`${checkout}skills/hq/scripts/worker.ts`, `${hq.path}/worker`].map((path) =>
      Deno.readTextFileSync(path)
    );
    assert(now === released, `skills/hq/scripts/worker.ts is not what was released as ${version}: raise its VERSION`);
  });

  requires("git", "tar")("contains all that the worker needs, except Deno and git", async () => {
    using hq = await new Headquarters().open();
    await hq.shell(
      `mkdir ${hq.path}/only ${hq.path}/unpacked; tar -xzf ${tarball(record().version)} -C ${hq.path}/unpacked`,
    );
    const git = (await hq.shell("command -v git")).stdout.trim();
    for (const [name, path] of [["deno", Deno.execPath()], ["git", git]]) {
      Deno.symlinkSync(path!, `${hq.path}/only/${name}`);
    }
    const environment = { ...hq.shellEnvironment(), PATH: `${hq.path}/only`, DENO_DIR: `${hq.path}/empty` };
    hq.write("brief.md", "Do it\n");
    for (const words of [["spawn", "--taskId", "a", "--brief", "brief.md", "--agent", "none"], ["list"]]) {
      const result = await execute([`${hq.path}/unpacked/worker`, ...words], { cwd: hq.repo, environment });
      assertEquals(result.status, 0, result.stderr);
    }
    assertEquals(await hq.states(), { a: "working" });
    assertEquals(/^\s*(import|export)\b.* from |\bimport\(/m.test(hq.read(`${hq.path}/unpacked/worker`)), false);
  });

  requires("git", "tar")("is what `deno task release` makes, byte for byte", async () => {
    using hq = await new Headquarters().open();
    const [files, origin] = ["ls-files -co --exclude-standard -z", "x"];
    const listed = await execute(["git", "-C", checkout, "-c", "safe.directory=*", ...files.split(" ")], {
      environment: { HOME: hq.home },
    });
    hq.enter(origin);
    for (const file of listed.stdout.split("\0").filter((name) => name !== "" && isThere(checkout + name))) {
      if (/^releases\/(worker|SHA256SUMS)/.test(file)) continue;
      hq.write(file, Deno.readFileSync(checkout + file));
      Deno.chmodSync(hq.at(file), Deno.statSync(checkout + file).mode! & 0o777);
    }
    await hq.shell(
      `cp -r ${checkout}vendor . && git init --quiet && git remote add origin https://git.example.org/a/b.git`,
    );
    await hq.shell("git add . && git commit --quiet --message first && deno task release");
    const { version } = record();
    const made = hq.at(`releases/worker_${version}_noarch.tar.gz`);
    await succeed(["cmp", made, tarball(version)]); // which, unlike assertEquals, takes no minutes to show a difference
  });
});

/** How a task comes to each numbered step of the loop, and what it is afterwards; the first one is step 1. */
const STEPS: readonly [before: (box: Box) => Promise<unknown>, after: string, environment?: Record<string, string>][] =
  [
    [async (box) => {
      await box.spawnTask("x");
      await box.do(["block", "x", "--question", "Which?"]);
    }, "working"],
    [(box) => box.submitted("x"), "submitted"],
    [(box) => box.approved("x"), "merged"],
    [async (box) => {
      const head = await box.submitted("x");
      await box.do(`review start x --head ${head} --actor eve`);
      box.write("../findings.md", "no\n");
      await box.do(`review request-changes x --head ${head} --actor eve --findings ../findings.md`);
    }, "working"],
    [(box) => box.submitted("x", { ".envrc": "1\n" }), "needs_human"],
    [async (box) => {
      await box.do(["spawn", "x", "--brief", "../brief.md", "--", box.agent("exit 1\n")]);
      await box.until(async () => (await box.do("list")).data.tasks[0].stalled);
    }, "cancelled"],
    [async (box) => {
      const head = await box.submitted("x");
      await box.do(`review start x --head ${head} --actor eve`);
      box.remove(".git/worker/x/reviewer"); // so that nothing is known of its program
    }, "reviewing"],
    [() => Promise.resolve(), ""],
    [(box) => box.spawnTask("x"), "working"],
  ];

describe("the loop of skills/hq", () => {
  const text = Deno.readTextFileSync(`${checkout}skills/hq/SKILL.md`);
  const [, loop = ""] = /^## The loop\n([^]*?)^## /m.exec(text) ?? [];
  const steps = [...loop.matchAll(/^(\d)\. ([^]*?)(?=^\d\. |^$)/gm)].map(([, , step = ""]) => step);

  it("has nine steps", () => assertEquals(steps.length, STEPS.length));

  for (const [index, [before, after]] of STEPS.entries()) {
    it(
      `works in step ${index + 1}`,
      inBox(async (box) => {
        await before(box);
        const head = await box.resolve("refs/heads/worker/x");
        for (const [, command = ""] of steps[index]!.matchAll(/`worker ([^`]*)`/g)) {
          const values = { ID: "x", HEAD: `${head}`, NAME: "bob", TEXT: "this", 600: "0" };
          const words = command.split(" ").map((word) => values[word as keyof typeof values] ?? word);
          await box.do(words);
        }
        assertEquals(after === "" ? "" : await box.state("x"), after);
      }),
    );
  }
});
