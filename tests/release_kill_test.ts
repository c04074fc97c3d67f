/** Releases that are killed, and what else happens in `releases/` meanwhile. */
import { assert, assertEquals, assertStringIncludes } from "jsr:@std/assert@^1";
import { describe, it } from "jsr:@std/testing@^1/bdd";
import { execute, requires, succeed, tree } from "./helpers.ts";
import { encode, files, program, record, refuses, release, repo } from "./release_box.ts";

describe("releases/", () => {
  requires("strace")("has only whole files whenever a run is killed, and the next run completes them", async () => {
    using box = await repo();
    await release(box);
    const before = tree(box.at("releases"));
    box.write("out/tool.sh", program("1.1.0", `: '${"x".repeat(1e5)}'\n`));
    await release(box);
    const after = tree(box.at("releases"));
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
        const now = tree(box.at("releases"));
        const { ".release.new": _, ...whole } = now;
        for (const [file, text] of Object.entries(whole)) {
          assert(text === before[file] || text === after[file], `${file} after ${call} ${count}`);
        }
        const order = ["tool_1.1.0_noarch.tar.gz", "SHA256SUMS", "tool.json"];
        const written = order.map((file) => whole[file] === after[file]);
        assertEquals(written, written.toSorted().reverse(), `after ${call} ${count}`);
        if (written[0] && !written[1]) {
          const { stderr } = await box.run("verify");
          assertStringIncludes(stderr, "tool_1.1.0_noarch.tar.gz: it is not in SHA256SUMS");
        }
        await release(box);
        assertEquals(tree(box.at("releases")), after, `${call} ${count}`);
      }
    }
    assert(killed >= 10, `${killed}`);
  });

  it("keeps what somebody writes in it meanwhile, and needs nothing but itself", async () => {
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

  it("says so if a tarball is there that was never released, and leaves it", async () => {
    using box = await repo();
    await release(box);
    box.write("releases/tool_1.1.0_noarch.tar.gz", Deno.readFileSync(box.at("releases/tool_1.0.0_noarch.tar.gz")));
    box.write("out/tool.sh", program("1.1.0"));
    const message = await refuses(box, 1, "out/tool.sh");
    assertStringIncludes(
      message,
      "is there with another content, and was never released: remove it, and run this again",
    );
  });

  requires("mkfifo")("is written by one run at a time; the other says so", async () => {
    using box = await repo(`#!/bin/sh\ncat "$FIFO"\n`);
    const fifo = box.at("out/fifo");
    await succeed(["mkfifo", fifo]);
    box.environment = { FIFO: fifo };
    const first = await box.spawn("out/tool.sh", "--version", "1.0.0");
    try {
      using writer = await Deno.open(fifo, { write: true }); // opens when the first run has come to read it
      const message = await box.fails(1, "out/tool.sh", "--version", "1.0.0", "--no-run");
      assertStringIncludes(message, "Another release.ts is at work");
      writer.writeSync(encode("1.0.0\n"));
    } finally {
      const { success } = await first.output();
      assert(success);
    }
    assertEquals(record(box).version, "1.0.0");
  });
});
