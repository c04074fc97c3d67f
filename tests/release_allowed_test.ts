/** What a release allows. */
import { assertEquals, assertStringIncludes } from "jsr:@std/assert@^1";
import { describe, it } from "jsr:@std/testing@^1/bdd";
import { execute } from "./helpers.ts";
import { elf, files, program, record, refuses, release, repo } from "./release_box.ts";

describe("release FILE allows", () => {
  it("an uncommitted program, and with --allow-dirty any other change", async () => {
    using box = await repo();
    box.write("built", program("1.0.0"));
    assertEquals((await box.run("built", "--name", "tool")).status, 0);
    assertStringIncludes(await refuses(box, 1, "out/tool.sh", "--name", "other"), "  ?? built\n");
    box.write("source.c", "");
    box.write("out/tool.sh", program("1.0.1"));
    await release(box, "--allow-dirty");
  });

  it("a program with another version, with --no-run, and one for another machine", async () => {
    using box = await repo();
    await release(box, "--version", "2.0.0", "--no-run");
    box.write("out/tool.sh", elf(183, 64));
    assertStringIncludes((await release(box, "--version", "2.0.0")).stderr, "it is not for this machine");
  });

  it("text=auto, which doesn't change archives, and other line ends", async () => {
    using box = await repo();
    box.write(".gitattributes", "* text=auto eol=crlf\n");
    await box.git("add", ".");
    await box.git("commit", "--quiet", "--message=attributes");
    await release(box, "--commit");
    box.remove("releases");
    await box.git("checkout", "--quiet", "releases");
    assertStringIncludes(box.read("releases/SHA256SUMS"), "\r\n");
    assertStringIncludes((await release(box)).stderr, "already released");
    box.write("out/tool.sh", program("1.1.0"));
    await release(box, "--commit");
    assertEquals((await box.run("verify")).status, 0);
    assertEquals(await box.git("status", "--porcelain"), "");
  });

  it("a link to a program, such as the result of a Nix build", async () => {
    using box = await repo();
    box.link("result", "out/tool.sh");
    const { status, stderr } = await box.run("result");
    assertEquals(status, 0, stderr);
    assertEquals(files(box).at(-1), "result_1.0.0_noarch.tar.gz");
  });

  it("the tag of the release in the URL, and then says how to create it", async () => {
    using box = await repo();
    const { stdout, stderr } = await release(box, "--ref", "tool-v1.0.0");
    assertStringIncludes(stdout, "/raw/tag/tool-v1.0.0/");
    const commands = 'git tag -a -m "release: tool 1.0.0" tool-v1.0.0 && git push origin HEAD tool-v1.0.0';
    assertStringIncludes(stderr, commands);
  });

  it("the same content from another branch, writes nothing, and says when the URL works", async () => {
    using box = await repo();
    const { stdout } = await release(box, "--commit");
    await box.git("checkout", "--quiet", "-b", "side");
    const again = await release(box);
    assertStringIncludes(again.stderr, "already released");
    assertEquals(again.stdout, stdout);
    const message = "the URL works when this is on main; you are on side";
    assertStringIncludes((await release(box, "--ref", "main", "-n")).stderr, message);
    assertStringIncludes((await release(box, "--ref", "side")).stdout, "/raw/branch/side/");
  });

  it("a version that the program doesn't print, and says that the package checks it", async () => {
    using box = await repo("#!/bin/sh\n");
    const { stderr } = await release(box, "--version", "1.0.0");
    assertStringIncludes(stderr, "tool.nix checks that tool --version prints 1.0.0");
  });

  it("to be run in releases/", async () => {
    using box = await repo();
    await release(box);
    box.write("out/tool.sh", program("1.1.0"));
    const cwd = box.at("releases");
    const { status, stderr } = await execute(await box.call("../out/tool.sh"), await box.start({ cwd }));
    assertEquals(status, 0, stderr);
    assertEquals(record(box).version, "1.1.0");
  });
});
