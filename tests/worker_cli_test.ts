/** The command line of `worker`, and the globs that it accepts. */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "jsr:@std/assert@^1";
import { describe, it } from "jsr:@std/testing@^1/bdd";
import { globsMeet, globToRegExp, type Task, VERSION } from "../skills/hq/scripts/worker.ts";
import { inBox } from "./worker_box.ts";

describe("worker", () => {
  it(
    "prints its version and its help, which fits a terminal",
    inBox(async (box) => {
      assertEquals((await box.worker(["--version"])).stdout, `worker ${VERSION}\n`);
      const { stdout, status } = await box.worker(["--help"]);
      assertEquals(status, 0);
      const lines = stdout.trimEnd().split("\n");
      assert(lines.length <= 30 && lines.every((line) => line.length <= 80), stdout);
      assertEquals((await box.worker(["help"])).stdout, stdout);
      for (const group of ["review", "human"]) {
        const rows = (await box.worker([group, "--help"])).stdout.split("\n").filter((line) => line.startsWith("  "));
        assert(rows.length > 1 && rows.every((row) => row.startsWith(`  ${group} `)), rows.join("\n"));
      }
      const commands = Array.from(stdout.matchAll(/^ {2}([a-z-]+(?: [a-z-]+)?)/gm), ([, command = ""]) => command);
      assert(commands.length >= 19);
      for (const command of commands) {
        const help = (await box.worker([...command.split(" "), "--help"])).stdout;
        assertStringIncludes(help, `Usage: worker ${command}`);
        assert(help.split("\n").every((line) => line.length <= 80), help);
      }
    }),
  );

  const misuses: [string, string][] = [
    ["", "Which command?"],
    ["frobnicate", 'Unknown command \\"frobnicate\\"'],
    ["list --frob", 'Unknown option \\"--frob\\"'],
    ["list --cleanup", "--cleanup does not go with list"],
    ["spawn --taskId x", "spawn needs --brief"],
    ["spawn --taskId X/y --brief ../brief.md", "cannot be"],
    ["spawn --taskId -x --brief ../brief.md --agent none", "is not a valid ID"],
    ["spawn --taskId x --brief ../none.md --agent none", "Cannot read --brief"],
    ["spawn --taskId x --brief ../brief.md --agent gpt", "Unknown agent"],
    ["spawn --taskId x --brief ../brief.md --agent none --base v9", "no branch"],
    ["spawn --taskId x --brief ../brief.md -- ./not-there", "is not installed"],
    ["submit", "Which task?"],
    ["merge a b", "Unexpected"],
  ];
  it(
    "refuses wrong usage with exit status 2, and changes nothing",
    inBox(async (box) => {
      await Promise.all(misuses.map(async ([line, message]) => {
        const { status, stdout } = await box.worker(["--json", ...line.split(" ").filter(Boolean)]);
        assertEquals(status, 2, `${line}: ${stdout}`);
        assertStringIncludes(stdout, message);
        assertStringIncludes(stdout, '"ok": false');
      }));
      assertEquals(await box.git("for-each-ref", "--format=%(refname)"), "refs/heads/main\n");
    }),
  );

  it(
    "exits with 3 for an unknown task, 10 outside a repo, and 2 for a wrong setting",
    inBox(async (box) => {
      assertEquals((await box.ask(3, "status nothing")).error?.code, "no_task");
      assertEquals((await box.ask(10, "list", box.home)).error?.code, "git");
      await box.git("config", "worker.wip", "9");
      assertStringIncludes((await box.ask(2, "overlaps")).error?.message ?? "", "3 to 7");
    }),
  );

  it(
    "prints only the requested result on standard output",
    inBox(async (box) => {
      const spawn = await box.worker(["spawn", "--taskId=x", "--brief", "../brief.md", "--agent", "none"]);
      assertEquals(spawn.stdout, "");
      assertStringIncludes(spawn.stderr, box.tree("x"));
      const list = await box.worker(["list"]);
      assertMatch(list.stdout, /^ID .*\nx {3}working .* Do it\n$/);
    }),
  );

  it(
    "works in a subdirectory, a worktree, a hook and a bare repo",
    inBox(async (box) => {
      await box.spawnTask("x");
      box.directory("deep/er");
      const from = async (cwd: string, environment?: Record<string, string>) =>
        (await box.do("list", cwd, environment)).data.tasks.map(({ id }: Task) => id);
      assertEquals(await from(box.at("deep/er")), ["x"]);
      assertEquals(await from(box.tree("x")), ["x"]);
      assertEquals(await from(box.home, { GIT_DIR: box.at(".git"), GIT_INDEX_FILE: "nowhere" }), ["x"]);
      await box.git("clone", "--quiet", "--bare", ".", "../bare.git");
      const { data } = await box.do(
        `spawn --taskId y --brief ${box.path}/brief.md --agent none`,
        `${box.path}/bare.git`,
      );
      assertEquals(data.base, "refs/heads/main");
      assertEquals(box.read(`${box.path}/bare.worktrees/y/a`), "1\n");
    }),
  );
});

describe("globToRegExp()", () => {
  const rows: [glob: string, path: string, is: boolean][] = [
    ["*.key", "deploy/server.key", true],
    ["src/api", "src/api/v1/users.ts", true],
    ["src/api", "lib/src/api/x", false],
    ["src/*.ts", "src/a.ts", true],
    ["src/*.ts", "src/a/b.ts", false],
    ["src/**/b.ts", "src/b.ts", true],
    ["auth.*", "AUTH.ts", true],
    ["auth", "authors.md", false],
    ["/.ci", ".ci/run", true],
    ["/.ci", "sub/.ci/run", false],
    ["*authori[sz]*", "Authorise.java", true],
    ["a+(b).?", "a+(b).c", true],
  ];
  it("reads globs as .gitignore does", () => {
    for (const [glob, path, is] of rows) assertEquals(globToRegExp(glob).test(`${path}/`), is, `${glob} ${path}`);
  });
});

describe("globsMeet()", () => {
  const rows: [a: string, b: string, meet: boolean][] = [
    ["src/a/**", "src/b/**", false],
    ["src/**", "src/b/c.ts", true],
    ["src", "src/b", true],
    ["*.ts", "docs/x.md", true], // a name with an extension can be a directory
    ["src/my.app", "src/**/*.ts", true],
    ["src/a.ts", "src/b/**", false],
    ["/src/A.ts", "./src/a.ts", true],
    ["*.ts", "src/x.ts", true],
    ["src/a*.ts", "src/b*.ts", false],
    ["src/a*.ts", "src/*b.ts", true],
    ["**/x", "a/b/x/y", true],
    ["src", "docs", false],
    ["docs", "src/api", false],
    ["live-1", "live-2", false],
    ["*.md", "docs", true],
  ];
  it("says whether a path could match both", () => {
    for (const [a, b, meet] of rows) {
      assertEquals([globsMeet(a, b), globsMeet(b, a)], [meet, meet], `${a} ${b}`);
    }
  });
});
