/** Releases with `--commit`. */
import { assertEquals, assertStringIncludes } from "jsr:@std/assert@^1";
import { describe, it } from "jsr:@std/testing@^1/bdd";
import { elf, refuses, release, repo } from "./release_box.ts";

describe("release FILE --commit", () => {
  it("commits only the release, tags it, and does both once", async () => {
    using box = await repo();
    box.write("staged.c", "");
    await box.git("add", "staged.c");
    await release(box, "--commit", "--allow-dirty");
    assertEquals(await box.git("log", "-1", "--format=%s"), "release: tool 1.0.0\n");
    const committed = ["SHA256SUMS", "tool.json", "tool.nix", "tool_1.0.0_noarch.tar.gz"].map((file) =>
      `releases/${file}\n`
    );
    assertEquals(await box.git("show", "--name-only", "--format="), committed.join(""));
    assertEquals(await box.git("status", "--porcelain"), "A  staged.c\n");
    assertEquals(await box.git("cat-file", "-t", "tool-v1.0.0"), "tag\n");
    assertEquals(await box.git("rev-parse", "tool-v1.0.0^{commit}"), await box.git("rev-parse", "HEAD"));
    const before = await box.git("for-each-ref");
    await release(box, "--commit", "--allow-dirty");
    assertEquals(await box.git("for-each-ref"), before);
  });

  it("completes an earlier run, and keeps the tag for a second platform", async () => {
    using box = await repo(elf(62, 64));
    const options = ["--version", "1.0.0", "--no-run"];
    await release(box, ...options);
    await release(box, ...options, "--commit");
    const tagged = await box.git("rev-parse", "tool-v1.0.0^{commit}");
    assertEquals(tagged, await box.git("rev-parse", "HEAD"));
    box.write("out/tool.sh", elf(183, 64));
    await release(box, ...options, "--commit");
    assertEquals(await box.git("status", "--porcelain"), "");
    assertEquals(await box.git("rev-parse", "tool-v1.0.0^{commit}", "HEAD^"), `${tagged}${tagged}`);
  });

  it("refuses if another program's tarball is listed but not committed", async () => {
    using box = await repo();
    await release(box, "--name", "other");
    assertStringIncludes(
      await refuses(box, 1, "out/tool.sh", "--commit"),
      "releases/other_1.0.0_noarch.tar.gz is not committed, but SHA256SUMS lists it: commit it first",
    );
  });

  it("creates no tag if other bytes were committed", async () => {
    using box = await repo();
    const path = "releases/tool_1.0.0_noarch.tar.gz";
    box.write(
      ".git/hooks/pre-commit",
      `#!/bin/sh\ngit update-index --cacheinfo 100644,$(echo x | git hash-object -w --stdin),${path}\n`,
    );
    Deno.chmodSync(box.at(".git/hooks/pre-commit"), 0o755);
    assertStringIncludes(
      await box.fails(1, "out/tool.sh", "--commit"),
      `git has committed other bytes than ${path} contains`,
    );
    assertEquals(await box.git("tag"), "");
  });

  it("prints git's message if a hook refuses, and can be run again", async () => {
    using box = await repo();
    box.write(".git/hooks/pre-commit", "#!/bin/sh\necho not today >&2\nexit 1\n");
    Deno.chmodSync(box.at(".git/hooks/pre-commit"), 0o755);
    assertStringIncludes(await box.fails(1, "out/tool.sh", "--commit"), "not today");
    box.remove(".git/hooks/pre-commit");
    await release(box, "--commit");
    assertEquals(await box.git("status", "--porcelain"), "");
  });
});
