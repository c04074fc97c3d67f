/** Tests of the run that has nothing to do, which happens on every `cd`. */
import { assertEquals } from "jsr:@std/assert@^1";
import { describe } from "jsr:@std/testing@^1/bdd";
import { execute, requires, Sandbox, stamps } from "./helpers.ts";

/** A project with nothing to do. */
async function deployedProject(mode = "link"): Promise<Sandbox> {
  const box = new Sandbox();
  box.skills("hq", "one", `${box.home}/notes/two`);
  box.environment = { CODEX_HOME: `${box.path}/codex` };
  box.manifest(`mode ${mode}`, "hq", "one for cursor ./own/folder", "~/notes/two as three");
  await box.done();
  return box;
}

const PERMISSIONS = [
  "--allow-read",
  "--allow-env",
  "--deny-write",
  "--deny-run",
  "--deny-net",
  "--deny-ffi",
  "--deny-sys",
];

/** The words of a call with these permissions only. */
async function restricted(box: Sandbox): Promise<string[]> {
  const [deno = "", run = "", , ...rest] = await box.call();
  return [deno, run, "--no-prompt", ...PERMISSIONS, ...rest];
}

describe("a run with nothing to do", () => {
  const environments: [where: string, environment: Record<string, string>][] = [
    ["", {}],
    [" under direnv", { DIRENV_IN_ENVRC: "1" }],
    [" under direnv that asked", { DIRENV_IN_ENVRC: "1", SKILLS_ALLOWED: "1" }],
    [" in CI", { CI: "true" }],
  ];
  for (const [where, environment] of environments) {
    requires()(`prints nothing, writes nothing, and needs only to read${where}`, async () => {
      using box = await deployedProject();
      const before = stamps(box.path);
      box.environment = { ...box.environment, ...environment };
      const result = await execute(await restricted(box), await box.start());
      assertEquals(result, { status: 0, stdout: "", stderr: "" });
      assertEquals(stamps(box.path), before);
    });
  }

  requires()("needs only to read without a manifest's skills, and without CODEX_HOME", async () => {
    using box = await deployedProject();
    box.environment = {};
    assertEquals(await execute(await restricted(box), await box.start()), { status: 0, stdout: "", stderr: "" });
    box.enter("empty");
    box.manifest("# nothing");
    assertEquals(await execute(await restricted(box), await box.start()), { status: 0, stdout: "", stderr: "" });
  });

  for (const mode of ["link", "copy", "commit"]) {
    requires("strace")(
      `tries no path that doesn't exist, and takes no lock, in mode ${mode}`,
      async () => {
        using box = await deployedProject(mode);
        const log = `${box.path}/log`;
        const calls = "trace=file,process,network,flock";
        const trace = ["strace", "-f", "-s", "500", "-e", calls, "-o", log, ...await box.call()];
        assertEquals(await execute(trace, await box.start()), { status: 0, stdout: "", stderr: "" });
        const lines = resume(Deno.readTextFileSync(log).split("\n"));
        const script = trace.find((word) => word.endsWith("/use-skills.ts")) ?? "";
        const loaded = lines.findLastIndex((line) => line.includes(`"${script}"`) && line.includes("openat"));
        const after = lines.slice(loaded + 1);
        assertEquals(loaded > 0 && after.length > 10, true);
        const own = after.filter((line) =>
          ["repo", "home", "codex"].some((each) => line.includes(`"${box.path}/${each}`))
        );
        assertEquals(own.filter((line) => / = -1 (?!EINVAL)/.test(line)), []); // EINVAL: readlink of what isn't a link
        assertEquals(own.filter((line) => /O_(WRONLY|RDWR|CREAT)|mkdir|rename|unlink|symlink/.test(line)), []);
        assertEquals(after.filter((line) => /\b(execve|fork|vfork|socket|connect|flock)\(/.test(line)), []);
      },
    );
  }
});

/** Joins the two halves of calls that strace interrupted to print another thread's. */
function resume(lines: string[]): string[] {
  const unfinished = new Map<string, string>();
  return lines.flatMap((line) => {
    const [, thread = "", start] = /^(\d+) +(.*) <unfinished \.\.\.>$/.exec(line) ?? [];
    if (start !== undefined) {
      unfinished.set(thread, line.replace(/ <unfinished \.\.\.>$/, ""));
      return [];
    }
    const [, again = "", rest] = /^(\d+) +<\.\.\. \w+ resumed>(.*)$/.exec(line) ?? [];
    return rest === undefined ? [line] : [(unfinished.get(again) ?? again) + rest];
  });
}
