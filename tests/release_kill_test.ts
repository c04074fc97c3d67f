/** Releases that are killed, and what else happens in `releases/` meanwhile. */
import { assert, assertEquals, assertStringIncludes } from "jsr:@std/assert@^1";
import { describe, it } from "jsr:@std/testing@^1/bdd";
import { execute, isThere, requires, succeed, tree } from "./helpers.ts";
import { encode, files, program, record, refuses, release, repo } from "./release_box.ts";

describe("releases/", () => {
  for (const [what, earlier] of [["a first release", []], ["an update", ["1.0.0"]]] as const) {
    requires("strace")(`has only whole files whenever ${what} is killed, and the next run completes it`, async () => {
      using box = await repo();
      const releases = () => isThere(box.at("releases")) ? tree(box.at("releases")) : {};
      for (const version of earlier) {
        box.write("out/tool.sh", program(version));
        await release(box);
      }
      const before = releases();
      box.write("out/tool.sh", program("1.1.0", `: '${"x".repeat(1e5)}'\n`));
      await release(box);
      const after = releases();
      const restore = () => {
        box.remove("releases");
        for (const [path, text] of Object.entries(before)) box.write(`releases/${path}`, text.replace(/^\d+ /, ""));
      };
      const paths = ["", ".release.new", ...Object.keys(after)].flatMap((name) => ["-P", box.at(`releases/${name}`)]);
      const start = await box.start();
      let killed = 0;
      for (const call of ["mkdir", "openat", "write", "fsync", "fdatasync", "rename", "unlink", "chmod", "ftruncate"]) {
        for (let count = 1;; count++) {
          restore();
          const inject = `--inject=${call}:signal=SIGKILL:when=${count}`;
          const words = ["strace", "-f", "-qq", "-o", "/dev/null", ...paths, inject, ...await box.call("out/tool.sh")];
          if ((await execute(words, start)).status === 0) break;
          killed++;
          const { ".release.new": _, ...whole } = releases();
          for (const [file, text] of Object.entries(whole)) {
            assert(text === before[file] || text === after[file], `${file} after ${call} ${count}`);
          }
          const order = ["tool_1.1.0_noarch.tar.gz", "SHA256SUMS", "tool.json"];
          const written = order.map((file) => whole[file] === after[file]);
          assertEquals(written, written.toSorted().reverse(), `after ${call} ${count}`);
          if (written[0] && !written[1]) {
            const { stderr } = await box.run("verify");
            assertStringIncludes(stderr, "tool_1.1.0_noarch.tar.gz: it is not in SHA256SUMS, so it was not released");
          }
          await release(box);
          assertEquals(releases(), after, `${call} ${count}`);
        }
      }
      assert(killed >= 10, `${killed}`);
    });
  }

  it("is committed and tagged by the next run if one with --commit is killed after any of its calls of git", async () => {
    using box = await repo();
    const git = (await succeed(["sh", "-c", "command -v git"])).trim();
    box.write(
      "../bin/git",
      `#!/bin/sh\n${git} "$@"\nstatus=$?\necho >> "$COUNT"\n\
[ "$(wc -l < "$COUNT")" -lt "$AT" ] || kill -9 $PPID\nexit $status\n`,
    );
    Deno.chmodSync(`${box.path}/bin/git`, 0o755);
    const path = `${box.path}/bin:${Deno.env.get("PATH")}`;
    const fresh = await box.git("rev-parse", "HEAD");
    let at = 0;
    for (let status = 1; status !== 0;) {
      box.write("../count", "");
      box.environment = { PATH: path, COUNT: `${box.path}/count`, AT: `${++at}` };
      status = (await box.run("out/tool.sh", "--commit")).status;
      box.environment = {};
      await release(box, "--commit");
      assertEquals(await box.git("status", "--porcelain"), "", `${at}`);
      assertEquals(await box.git("log", "--format=%s", `${fresh.trim()}..tool-v1.0.0`), "release: tool 1.0.0\n");
      await box.git("tag", "--delete", "tool-v1.0.0");
      await box.git("reset", "--quiet", "--hard", fresh.trim());
    }
    assert(at > 5, `${at}`);
  });

  it("keeps files that are written there at the same time", async () => {
    using box = await repo();
    for (let index = 0; index < 200; index++) box.write(`releases/notes/${index}`, "");
    const child = await box.spawn("out/tool.sh", "--allow-dirty");
    let [written, isOver] = [0, false];
    const ended = child.output().then(() => isOver = true);
    while (!isOver) {
      box.write(`releases/${written++}.md`, "");
      await new Promise((go) => setTimeout(go, 1));
    }
    await ended;
    assertEquals(files(box).filter((file) => file.endsWith(".md")).length, written);
    assertEquals([...Deno.readDirSync(box.at(".git"))].some(({ name }) => name.startsWith("release")), false);
  });

  it("reports and keeps a tarball that was never released", async () => {
    using box = await repo();
    await release(box);
    box.write("releases/tool_1.1.0_noarch.tar.gz", Deno.readFileSync(box.at("releases/tool_1.0.0_noarch.tar.gz")));
    box.write("out/tool.sh", program("1.1.0"));
    const message = await refuses(box, 1, "out/tool.sh");
    assertStringIncludes(
      message,
      "exists with other content, but was never released: remove it, and run this again",
    );
  });

  it("doesn't count a tarball that an interrupted run left, nor add it to a commit", async () => {
    for (const [left, text] of [["1.1.0_noarch", program("1.0.1")], ["1.0.1_linux_amd64", program("1.0.1")]] as const) {
      for (const args of [[], ["--commit"]]) {
        using box = await repo();
        await release(box, "--commit");
        const file = `releases/tool_${left}.tar.gz`;
        box.write(file, Deno.readFileSync(box.at("releases/tool_1.0.0_noarch.tar.gz")));
        box.write("out/tool.sh", text);
        const { stderr } = await release(box, ...args);
        const [, commands = ""] = stderr.match(/^next +(git add .*) && git push$/m) ?? [];
        assertEquals(commands !== "", args.length === 0);
        await succeed(["sh", "-c", commands || "true"], { cwd: box.repo });
        assertEquals(await box.git("status", "--porcelain"), `?? ${file}\n`);
        assertEquals(record(box).version, "1.0.1");
        const message = await box.fails(1, "verify");
        assertEquals(message.match(/^.*: (?!as recorded|complete).+$/gm), [
          `tool_${left}.tar.gz: it is not in SHA256SUMS, so it was not released: release it again, or remove it`,
          "Tarballs: 3. Problems: 1",
        ]);
      }
    }
  });

  requires("mkfifo")("is written by one run at a time, and another run says so", async () => {
    using box = await repo(`#!/bin/sh\ncat "$FIFO"\n`);
    const fifo = box.at("out/fifo");
    await succeed(["mkfifo", fifo]);
    box.environment = { FIFO: fifo };
    const first = await box.spawn("out/tool.sh", "--version", "1.0.0");
    try {
      using writer = await Deno.open(fifo, { write: true }); // opens when the first run has come to read it
      const message = await box.fails(1, "out/tool.sh", "--version", "1.0.0", "--no-run");
      assertStringIncludes(message, "Another release.ts is running");
      writer.writeSync(encode("1.0.0\n"));
    } finally {
      const { success } = await first.output();
      assert(success);
    }
    assertEquals(record(box).version, "1.0.0");
  });
});
