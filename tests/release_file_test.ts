/** What a release writes, and what it leaves alone. */
import { assertEquals, assertMatch, assertStringIncludes } from "jsr:@std/assert@^1";
import { describe, it } from "jsr:@std/testing@^1/bdd";
import { type Build, tar, untar } from "../release.ts";
import { execute, installed, requires, Sandbox, stamps, succeed } from "./helpers.ts";
import {
  ARM64,
  elf,
  encode,
  files,
  gunzip,
  machO,
  program,
  record,
  refuses,
  release,
  repo,
  sha256,
} from "./release_box.ts";

describe("release FILE", () => {
  it("writes a tarball, its hash, its record and its package, and prints only the URL", async () => {
    using box = await repo();
    const { stdout, stderr } = await release(box);
    const file = "tool_1.0.0_noarch.tar.gz";
    const url = `https://codeberg.org/team/tool/raw/branch/main/releases/${file}`;
    assertEquals(stdout, `${url}\n`);
    assertEquals(files(box), ["SHA256SUMS", "tool.json", "tool.nix", file]);
    const tarball = Deno.readFileSync(box.at(`releases/${file}`));
    const hash = await sha256(tarball);
    assertEquals(box.read("releases/SHA256SUMS"), `${hash.toHex()}  ${file}\n`);
    const build: Build = {
      file,
      hash: `sha256-${hash.toBase64()}`,
      interpreter: "sh",
      kind: "script",
      size: tarball.length,
      url,
    };
    const text = JSON.stringify({ name: "tool", platforms: { noarch: build }, version: "1.0.0" }, undefined, 2);
    assertEquals(box.read("releases/tool.json"), `${text}\n`);
    assertEquals(await gunzip(tarball), tar("tool", encode(program("1.0.0")), 315532800));
    for (
      const said of [build.hash, `${tarball.length} B`, "git commit", "git push", "callPackage ./releases/tool.nix"]
    ) {
      assertStringIncludes(stderr, said);
    }
  });

  requires("tar", "sha256sum", "python3")("can be read by tar, Python and sha256sum", async () => {
    using box = await repo();
    await release(box);
    const cwd = box.at("releases");
    const file = "tool_1.0.0_noarch.tar.gz";
    const listed = await succeed(["tar", "-tvzf", file], { cwd, environment: { TZ: "UTC", LC_ALL: "C" } });
    assertMatch(listed, /^-rwxr-xr-x 0\/0 +\d+ 1980-01-01 00:00 tool\n$/);
    assertEquals(await succeed(["sha256sum", "-c", "SHA256SUMS"], { cwd }), `${file}: OK\n`);
    const python =
      "import sys, tarfile; [print(m.name, oct(m.mode), m.isfile()) for m in tarfile.open(sys.argv[1], 'r:gz')]";
    assertEquals(await succeed(["python3", "-c", python, file], { cwd }), "tool 0o755 True\n");
    await succeed(["tar", "-xzf", file], { cwd });
    assertEquals(await succeed([`${cwd}/tool`], { cwd }), "tool 1.0.0\n");
  });

  it("writes bytes that depend only on the file, the name, the version and SOURCE_DATE_EPOCH", async () => {
    const tarball = async (prepare: (box: Sandbox) => void, umask = "022", ...args: string[]) => {
      using box = await repo();
      prepare(box);
      const words = ["sh", "-c", `umask ${umask} && exec "$@"`, "sh", ...await box.call("out/tool.sh", ...args)];
      const { status, stderr } = await execute(words, await box.start());
      assertEquals(status, 0, stderr);
      return Deno.readFileSync(box.at("releases/tool_1.0.0_noarch.tar.gz"));
    };
    const plain = await tarball(() => {});
    const elsewhere = await tarball((box) => {
      box.environment = { TZ: "Asia/Kathmandu", LANG: "tr_TR.UTF-8", LC_ALL: "tr_TR.UTF-8", USER: "somebody" };
      Deno.chmodSync(box.at("out/tool.sh"), 0o600);
      Deno.utimeSync(box.at("out/tool.sh"), 0, 1e9);
    }, "077");
    assertEquals(elsewhere, plain);
    const dated = await tarball((box) => box.environment = { SOURCE_DATE_EPOCH: "1700000000" });
    assertEquals(untar(await gunzip(dated)).time, 1700000000);
  });

  it("changes nothing when there is nothing to do", async () => {
    using box = await repo();
    const { stdout } = await release(box);
    const before = stamps(box.at("releases"));
    const again = await release(box);
    assertEquals(again.stdout, stdout);
    assertStringIncludes(again.stderr, "already released");
    assertEquals(stamps(box.at("releases")), before);
  });

  it("uses the name and the version from options, and works in any directory of the repo", async () => {
    using box = await repo("#!/bin/sh\n");
    box.directory("some/where");
    const args = await box.call("../../out/tool.sh", "--name", "my_tool.x", "--version", "2.0.0-rc.1+b.5");
    const { status, stdout, stderr } = await execute(args, await box.start({ cwd: box.at("some/where") }));
    assertEquals(status, 0, stderr);
    assertEquals(files(box), [
      "SHA256SUMS",
      "my_tool.x.json",
      "my_tool.x.nix",
      "my_tool.x_2.0.0-rc.1+b.5_noarch.tar.gz",
    ]);
    assertStringIncludes(stdout, "/releases/my_tool.x_2.0.0-rc.1%2Bb.5_noarch.tar.gz");
    assertStringIncludes(stderr, "prints no version");
  });

  it("leaves out the v in front of a version, in an option and in what the program prints", async () => {
    using box = await repo(program("v1.0.0"));
    await release(box, "--dry-run", "--version", "v1.0.0");
    const { stderr } = await release(box);
    assertStringIncludes(stderr, "version  1.0.0, printed by the program\n");
    assertEquals([record(box).version, (await box.run("verify")).status], ["1.0.0", 0]);
  });

  it("adds a second platform to a version, starts a new record for the next version, and keeps older tarballs", async () => {
    using box = await repo(elf(62, 64));
    const options = ["--version", "1.0.0", "--no-run"];
    await release(box, ...options);
    box.write("out/tool.sh", elf(183, 64));
    await release(box, ...options);
    assertEquals(Object.keys(record(box).platforms), ["linux_amd64", "linux_arm64"]);
    box.write("out/tool.sh", machO(ARM64));
    await release(box, "--version", "1.0.1", "--no-run");
    assertEquals([record(box).version, Object.keys(record(box).platforms)], ["1.0.1", ["darwin_arm64"]]);
    const tarballs = [
      "tool_1.0.0_linux_amd64.tar.gz",
      "tool_1.0.0_linux_arm64.tar.gz",
      "tool_1.0.1_darwin_arm64.tar.gz",
    ];
    assertEquals(files(box), ["SHA256SUMS", "tool.json", "tool.nix", ...tarballs]);
    assertEquals(box.read("releases/SHA256SUMS").match(/tool_.*/g), tarballs);
    assertEquals((await box.run("verify")).status, 0);
  });

  it("keeps the newest version's record when an older one is released", async () => {
    using box = await repo(program("1.10.0"));
    await release(box);
    box.write("out/tool.sh", program("1.9.0"));
    assertStringIncludes(await refuses(box, 1, "out/tool.sh"), "tool 1.10.0 is released, and 1.9.0 is older");
    await release(box, "--allow-older");
    assertEquals(record(box).version, "1.10.0");
    assertEquals((await box.run("verify")).status, 0);
  });

  it("keeps an edited package and other files", async () => {
    using box = await repo();
    await release(box);
    box.write("releases/tool.nix", "mine");
    box.write("releases/README.md", "how to");
    box.write("releases/old/keep", "this");
    box.link("releases/link", "nowhere");
    box.write("out/tool.sh", program("1.1.0"));
    const { stderr } = await release(box, "--allow-dirty");
    assertStringIncludes(stderr, "releases/tool.nix was edited");
    assertEquals(box.read("releases/tool.nix"), "mine");
    assertEquals([box.read("releases/README.md"), box.read("releases/old/keep")], ["how to", "this"]);
    assertEquals(Deno.readLinkSync(box.at("releases/link")), "nowhere");
    assertEquals(record(box).version, "1.1.0");
  });

  it("writes nothing with --dry-run, and says what it would write", async () => {
    using box = await repo();
    const before = stamps(box.repo);
    const { stdout, stderr } = await release(box, "-n", "--commit");
    assertMatch(stdout, /^https:\S+\n$/);
    assertStringIncludes(stderr, "tool.nix, tool_1.0.0_noarch.tar.gz (not in a dry run)");
    assertEquals(stamps(box.repo), before);
    assertEquals(await box.git("tag"), "");
  });

  it("prints the record with --json", async () => {
    using box = await repo();
    const { stdout } = await release(box, "--json");
    assertEquals(stdout, box.read("releases/tool.json"));
  });

  it("works as a pasted file in a repo without deno.json", async () => {
    using box = await repo();
    const { script, environment } = await installed("release.ts");
    box.write("release.ts", Deno.readTextFileSync(script));
    await box.git("add", ".");
    await box.git("commit", "--quiet", "--message=pasted");
    const words = [Deno.execPath(), "run", "-A", "--no-lock", "release.ts", "out/tool.sh"];
    const { status, stderr } = await execute(words, await box.start({ environment }));
    assertEquals(status, 0, stderr);
    assertEquals(await box.git("status", "--porcelain"), "?? releases/\n");
  });
});
