/** What is done and shown when a git server hangs, fails, or sends what it should not. */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "jsr:@std/assert@^1";
import { describe } from "jsr:@std/testing@^1/bdd";
import type { Mode } from "./forge.ts";
import { AGENTS, noise, PDF, Setting } from "./git_helpers.ts";
import { execute, requires, skillText } from "./helpers.ts";

const it = requires("git", "openssl");

const SLOW = "Cannot fetch https://github.com/team/slow: ";
/** Enough for the servers that answer, also on a busy machine. */
const SECONDS = "6";
const NO_ANSWER = `no answer within ${SECONDS} seconds (SKILLS_TIMEOUT)`;

describe("sync with a git server", () => {
  const outages: [what: string, mode: Mode, message: string | RegExp][] = [
    ["hangs", "hang", SLOW + NO_ANSWER],
    ["stalls", "stall", SLOW + NO_ANSWER],
    ["answers 404", 404, `${SLOW}there is no such repo, or it is private`],
    [
      "wants a password",
      401,
      `${SLOW}there is no such repo, or git has no credentials for it (try: git ls-remote https://github.com/team/slow)`,
    ],
    ["answers 500", 500, /^Cannot fetch https:\/\/github\.com\/team\/slow: .*The requested URL returned error: 500$/],
    ["answers noise", "garbage", /^Cannot fetch https:\/\/github\.com\/team\/slow: .+$/],
    ["answers a web page", "html", /^Cannot fetch https:\/\/github\.com\/team\/slow: .+$/],
    ["reports an error", { error: "closed for today" }, `${SLOW}remote error: closed for today`],
    [
      "reports an error with control characters",
      { error: "\x1b]52;c;ZXZpbA==\x07closed\u202e" },
      // Git itself may replace some of them.
      /^Cannot fetch https:\/\/github\.com\/team\/slow: remote error: (\?|\\u001b)\]52;c;ZXZpbA==(\?|\\u0007)closed\\u202e$/,
    ],
  ];
  for (const [what, mode, message] of outages) {
    it(`deploys the rest when a server ${what}, and keeps what was deployed`, async () => {
      await using setting = await Setting.start();
      const { box, forge } = setting;
      await forge.commit("team/slow", { "SKILL.md": skillText("slow"), x: noise(60_000) });
      box.skills("local");
      box.manifest("team/slow");
      await box.done();
      const kept = setting.links["slow"];
      box.remove(".skills.lock");
      box.remove(`${box.home}/.cache`);
      box.manifest("team/slow", "team/skills/skills/pdf", "local");
      if (mode === "hang" || mode === "stall") box.environment = { SKILLS_TIMEOUT: SECONDS };
      forge.onRequest = (line) => line.includes("/slow") ? mode : undefined;
      const stderr = await box.fails(1);
      const deployed = `use-skills: linked pdf, local for ${AGENTS}\n.skills:1: `;
      if (typeof message === "string") assertEquals(stderr, `${deployed}${message}\n`);
      else {
        assert(stderr.startsWith(deployed), stderr);
        assertMatch(stderr.slice(deployed.length).trimEnd(), message);
      }
      assertEquals(Object.keys(setting.links), ["local", "pdf", "slow"]);
      assertEquals(setting.links["slow"], kept);
    });
  }

  it("removes an unfinished download", async () => {
    await using setting = await Setting.start({ ...PDF, "skills/pdf/large": noise(2 ** 20) }, { filter: false });
    const { box, forge } = setting;
    box.manifest("team/skills/skills/pdf");
    box.environment = { SKILLS_TIMEOUT: SECONDS };
    const unfinished = () => setting.cachedPaths.filter((path) => /\/tmp_/.test(path));
    forge.mode = "stall";
    let [isRunning, isSeen] = [true, false];
    const run = box.fails(1).finally(() => isRunning = false);
    while (isRunning && !isSeen) {
      await new Promise((go) => setTimeout(go, 10));
      try {
        isSeen = unfinished().length > 0;
      } catch { /* A directory is gone that was listed. */ }
    }
    assertEquals(await run, `.skills:1: Cannot fetch https://github.com/team/skills: ${NO_ANSWER}\n`);
    assert(isSeen);
    forge.mode = "serve";
    box.environment = {};
    await box.done();
    assertEquals(unfinished(), []);
  });

  it("is not held up by what an ssh leaves running", async () => {
    await using setting = await Setting.start();
    const { box, forge } = setting;
    const path = forge.sshOn(box.home);
    box.write(`${box.home}/.gitconfig`, "");
    box.write(`${box.home}/ssh`, box.read(`${box.home}/ssh`).replace("\n", "\nsleep 3600 &\n"));
    box.environment = { PATH: path, SKILLS_TIMEOUT: "50" };
    box.manifest("git@git.example.org:team/skills.git//skills/pdf");
    assertEquals(await box.done(), `use-skills: linked pdf for ${AGENTS}\n`);
  });

  requires("git", "openssl", "ps")("ends every process it started, and asks for nothing when time is up", async () => {
    await using setting = await Setting.start();
    const { box, forge } = setting;
    box.environment = { SKILLS_TIMEOUT: SECONDS };
    forge.mode = "hang";
    box.skills("local");
    const dead = Array.from({ length: 12 }, (_, index) => `team/dead-${index}`);
    box.manifest("local", ...dead);
    assertEquals(
      await box.fails(1),
      `use-skills: linked local for ${AGENTS}\n` +
        dead.map((text, index) => `.skills:${index + 2}: Cannot fetch https://github.com/${text}: ${NO_ANSWER}\n`).join(
          "",
        ),
    );
    assert(forge.requests.length <= 4, forge.requests.join("\n"));
    const { stdout } = await execute(["ps", "-eo", "args"]);
    assertEquals(stdout.split("\n").filter((line) => line.includes("team/dead-") && line.includes(forge.site)), []);
  });

  it("ends git also if that has closed its output", async () => {
    await using setting = await Setting.start();
    const { box } = setting;
    const git = (await execute(["sh", "-c", "command -v git"])).stdout.trim();
    const script = `#!/bin/sh\ncase "$*" in *ls-remote*HEAD*) exec >&- 2>&-; exec sleep 60;; esac\nexec ${git} "$@"\n`;
    box.write("bin/git", script);
    Deno.chmodSync(box.at("bin/git"), 0o755);
    box.environment = { SKILLS_TIMEOUT: "2", PATH: `${box.at("bin")}:${Deno.env.get("PATH")}` };
    box.manifest("team/skills");
    const message = "no answer within 2 seconds (SKILLS_TIMEOUT)";
    assertEquals(await box.fails(1), `.skills:1: Cannot fetch https://github.com/team/skills: ${message}\n`);
  });

  for (const args of [["update"], ["add", "team/skills@pdf"]]) {
    requires("git", "openssl", "ps")(`ends git if a signal ends ${args[0]}`, async () => {
      await using setting = await Setting.start();
      const { box, forge } = setting;
      forge.mode = "hang";
      box.manifest("team/skills/skills/pdf");
      const child = await box.spawn(...args);
      while (forge.requests.length === 0) await new Promise((go) => setTimeout(go, 10));
      child.kill("SIGINT");
      assertEquals((await child.status).code, 130);
      let isRunning = true;
      for (let tries = 0; isRunning && tries < 300; tries++) { // Git itself gives up after 60 seconds.
        await new Promise((go) => setTimeout(go, 100));
        isRunning = (await execute(["ps", "-eo", "args"])).stdout.includes(`${forge.site}/team/skills`);
      }
      assertEquals(isRunning, false);
    });
  }

  const onTerminal = requires("git", "openssl", "script");
  onTerminal("shows on a terminal what takes a while, and nothing elsewhere", async () => {
    await using setting = await Setting.start();
    const { box, forge } = setting;
    forge.onRequest = () => forge.requests.length === 1 ? new Promise((go) => setTimeout(go, 1200)) : undefined;
    box.manifest("team/skills/skills/pdf");
    assertEquals(await box.done(), `use-skills: linked pdf for ${AGENTS}\n`);
    setting.forgetAll();
    const { stdout } = await setting.runOnTerminal();
    assertStringIncludes(stdout, "\r\x1b[Kfetching github.com/team/skills (1 s of 60)\r\x1b[K");
    assertEquals(stdout.includes("fatal:"), false);
  });

  onTerminal("is removed before a message, and isn't shown with -q", async () => {
    await using setting = await Setting.start();
    const { box, forge } = setting;
    forge.onRequest = (line) => line.includes("slow") ? new Promise((go) => setTimeout(go, 1500)) : undefined;
    box.manifest("team/slow", "team/skills/skills/pdf");
    const problem =
      `\x1b[31m.skills:1:\x1b[39m Cannot fetch https://github.com/team/slow: there is no such repo, or it is private\n`;
    assertEquals((await setting.runOnTerminal("-q")).stdout.replaceAll("\r", ""), problem);
    await forge.commit("team/skills", { "skills/pdf/new": "" });
    const { stdout } = await setting.runOnTerminal("update", "team/skills/skills/pdf", "team/slow");
    assertStringIncludes(stdout, "\x1b[Kfetching github.com/team/slow (1 s of 60)\r\x1b[K");
  });

  onTerminal("prints nothing of a server's messages if all goes well", async () => {
    await using setting = await Setting.start();
    const { box, forge } = setting;
    forge.sayBefore("\x1b]52;c;ZXZpbA==\x07 \x1b]0;title\x07 \x1b[2J\x9b2J \u202e\n", 0);
    box.manifest("team/skills/skills/pdf");
    const { stdout } = await setting.runOnTerminal();
    assertEquals(
      stdout.replaceAll("\r", "").split("\x1b[K").at(-1),
      `use-skills: linked pdf for ${AGENTS}\n1 skill up to date for ${AGENTS}\n`,
    );
  });

  it("uses http only to this machine itself, even if git maps an address to it", async () => {
    await using setting = await Setting.start(PDF, { tls: false });
    const { box } = setting;
    const config = box.read(`${box.home}/.gitconfig`);
    box.write(`${box.home}/.gitconfig`, config.replaceAll("http://127.0.0.1", "http://git.example.invalid"));
    box.manifest("team/skills/skills/pdf");
    assertEquals(
      await box.fails(1),
      ".skills:1: Cannot fetch https://github.com/team/skills: transport 'http' not allowed\n",
    );
    box.write(`${box.home}/.gitconfig`, config);
    assertEquals(await box.done(), `use-skills: linked pdf for ${AGENTS}\n`);
  });

  requires("git", "openssl", "python3")(
    "that sends messages without end takes little memory",
    async () => {
      await using setting = await Setting.start();
      const { box, forge } = setting;
      forge.sayBefore("'; yes \"$(printf %01000d 0)\" >&2; printf '", 0);
      box.environment = { SKILLS_TIMEOUT: "5" };
      box.manifest("team/skills/skills/pdf");
      const measure = "import resource, subprocess, sys\nsubprocess.call(sys.argv[1:])\n" +
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)\n";
      const { stdout } = await execute(["python3", "-c", measure, ...await box.call()], await box.start());
      assert(Number(stdout) > 0 && Number(stdout) < 150 * 1024, `${stdout} kB`);
    },
  );
});
