/** The Nix package of a release. */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "jsr:@std/assert@^1";
import { describe } from "jsr:@std/testing@^1/bdd";
import { type Build } from "../release.ts";
import { execute, requires, type Result, Sandbox, succeed } from "./helpers.ts";
import { AMD64, ARM64, elf, encode, LOADER, machO, record, release, repo, universal } from "./release_box.ts";

/** What stands in for nixpkgs: it gives a package what it asks for, and back what the package makes of it. */
const NIXPKGS = String.raw`
  system: file: with builtins;
  let
    lib = {
      optional = condition: value: if condition then [ value ] else [ ];
      optionals = condition: list: if condition then list else [ ];
      sourceTypes = { fromSource = "fromSource"; binaryNativeCode = "binaryNativeCode"; };
    };
    stdenv = {
      mkDerivation = given: given;
      hostPlatform = { inherit system; };
      buildPlatform.canExecute = platform: platform.system == system;
      cc.cc.lib = "libgcc";
    };
    names = [ "bash" "coreutils" "deno" "nodejs" "python3" "python312" "ruby" ];
    pkgs = listToAttrs (map (name: { inherit name; value = name; }) names);
    scope = pkgs // { inherit lib stdenv pkgs; fetchurl = given: given; autoPatchelfHook = "autoPatchelfHook"; };
    package = import file;
  in
  package (intersectAttrs (functionArgs package) scope)
`;

/** Evaluates an attribute of a release's package, as on a system. */
async function evaluate(box: Sandbox, system: string, attribute = ""): Promise<Result> {
  const expression = `(${NIXPKGS}) "${system}" ${box.at("releases/tool.nix")}`;
  return await box.nix("nix-instantiate", "--eval", "--strict", "--json", "--expr", `(${expression})${attribute}`);
}

describe("NAME.nix", () => {
  const itWithNix = requires("nix");
  const native = { provenance: "binaryNativeCode", hooks: [] as string[], inputs: [] as string[] };
  const script = { provenance: "fromSource", hooks: [] as string[] };
  const unix = "aarch64-darwin aarch64-linux armv7l-linux i686-linux riscv64-linux x86_64-darwin x86_64-linux";
  const rows: [what: string, bytes: Uint8Array, systems: string, facts: typeof native][] = [
    ["a static ELF", elf(183, 64), "aarch64-linux", native],
    ["a dynamic ELF", elf(62, 64, { segment: LOADER }), "x86_64-linux", {
      ...native,
      hooks: ["autoPatchelfHook"],
      inputs: ["libgcc"],
    }],
    ["an ELF for 386", elf(3, 32), "i686-linux", native],
    ["an ELF for armv7", elf(40, 32), "armv7l-linux", native],
    ["an ELF for riscv64", elf(243, 64), "riscv64-linux", native],
    ["a Mach-O", machO(AMD64), "x86_64-darwin", native],
    ["a universal Mach-O", universal(AMD64, ARM64), "aarch64-darwin x86_64-darwin", native],
    ["a script for sh", encode("#!/bin/sh\n"), unix, { ...script, inputs: ["bash", "coreutils"] }],
    ["a script for deno", encode("#!/usr/bin/env -S deno run\n"), unix, { ...script, inputs: ["deno", "coreutils"] }],
    ["a script for node", encode("#!/usr/bin/env node\n"), unix, { ...script, inputs: ["nodejs", "coreutils"] }],
    ["a script for Python", encode("#!/usr/bin/python3.12\n"), unix, { ...script, inputs: ["python312", "coreutils"] }],
  ];
  for (const [what, bytes, systems, { provenance, hooks, inputs }] of rows) {
    itWithNix(`is a package of ${what}`, async () => {
      using box = await repo(bytes);
      await release(box, "--version", "1.0.0-rc.1", "--no-run");
      for (const system of systems.split(" ")) {
        const { status, stdout, stderr } = await evaluate(box, system);
        assertEquals(status, 0, stderr);
        const { pname, version, src, nativeBuildInputs, buildInputs, meta, doInstallCheck } = JSON.parse(stdout);
        const [{ file, url, hash }] = Object.values(record(box).platforms) as [Build];
        assertEquals({ pname, version, src }, { pname: "tool", version: "1.0.0-rc.1", src: { name: file, url, hash } });
        assertEquals({ nativeBuildInputs, buildInputs }, { nativeBuildInputs: hooks, buildInputs: inputs });
        const expected = { mainProgram: "tool", platforms: systems.split(" "), sourceProvenance: [provenance] };
        assertEquals({ meta, doInstallCheck }, { meta: expected, doInstallCheck: true });
      }
    });
  }

  itWithNix("chooses the build for the system, and says for which there is none", async () => {
    using box = await repo(universal(AMD64, ARM64));
    const options = ["--version", "1.0.0", "--no-run"];
    for (const bytes of [universal(AMD64, ARM64), machO(ARM64), elf(62, 64)]) {
      box.write("out/tool.sh", bytes);
      await release(box, ...options);
    }
    const file = async (system: string) => JSON.parse((await evaluate(box, system, ".src.name")).stdout);
    assertEquals(await file("aarch64-darwin"), "tool_1.0.0_darwin_arm64.tar.gz");
    assertEquals(await file("x86_64-darwin"), "tool_1.0.0_darwin_all.tar.gz");
    assertEquals(await file("x86_64-linux"), "tool_1.0.0_linux_amd64.tar.gz");
    const { status, stderr } = await evaluate(box, "riscv64-linux", ".src.url");
    assertEquals(status, 1);
    const message = "tool 1.0.0 is not released for riscv64-linux, but for aarch64-darwin x86_64-darwin x86_64-linux";
    assertStringIncludes(stderr, message);
    const systems = JSON.parse((await evaluate(box, "riscv64-linux", ".meta.platforms")).stdout);
    assertEquals(systems, ["aarch64-darwin", "x86_64-darwin", "x86_64-linux"]);
  });

  itWithNix("says when nixpkgs has no such interpreter", async () => {
    using box = await repo("#!/usr/bin/env cobol\n");
    await release(box, "--version", "1.0.0", "--no-run");
    const { stderr } = await evaluate(box, "x86_64-linux", ".buildInputs");
    assertStringIncludes(stderr, "tool is run by cobol, and nixpkgs has no cobol");
  });

  itWithNix("is data for the next version, and code for no other", async () => {
    using box = await repo();
    await release(box);
    const before = box.read("releases/tool.nix");
    box.write("out/tool.sh", elf(62, 64));
    await release(box, "--version", "1.1.0", "--no-run");
    assertEquals(box.read("releases/tool.nix"), before);
    const src = JSON.parse((await evaluate(box, "x86_64-linux", ".src")).stdout);
    assertEquals(src.hash, record(box).platforms["linux_amd64"]?.hash);
  });

  itWithNix("installs the program, and checks the version that it prints", async () => {
    using box = await repo();
    await release(box);
    const { stdout } = await evaluate(box, "x86_64-linux");
    const { installPhase, installCheckPhase } = JSON.parse(stdout);
    await succeed(["tar", "-xzf", box.at("releases/tool_1.0.0_noarch.tar.gz")], { cwd: box.repo });
    const environment = { out: box.at("built"), TMPDIR: box.home };
    const run = async (phase: string) =>
      (await execute(["bash", "-euo", "pipefail", "-c", `runHook() { :; }\n${phase}`], { cwd: box.repo, environment }))
        .status;
    assertEquals(await run(installPhase), 0);
    assertEquals(await succeed([box.at("built/bin/tool"), "--version"]), "tool 1.0.0\n");
    assertEquals(await run(installCheckPhase), 0);
    assertEquals(await run(installCheckPhase.replaceAll("1[.]0[.]0", "1[.]0")), 1);
  });

  itWithNix("has the hash that Nix has, which Nix's own fetcher accepts, and no other", async () => {
    using box = await repo();
    await release(box);
    const [{ file, hash }] = Object.values(record(box).platforms) as [Build];
    const [sum = ""] = box.read("releases/SHA256SUMS").split(" ");
    assertEquals((await box.nix("nix", "hash", "to-sri", "--type", "sha256", sum)).stdout, `${hash}\n`);
    const fetch = async (name: string) => {
      const expression = `import <nix/fetchurl.nix> { url = "file://${
        box.at(`releases/${file}`)
      }"; hash = "${hash}"; name = "${name}"; }`;
      return await box.nix("nix-build", "--no-out-link", "--expr", expression);
    };
    const { stdout, stderr } = await fetch(file);
    assertMatch(stdout, /tool_1\.0\.0_noarch\.tar\.gz\n$/, stderr);
    const bytes = Deno.readFileSync(box.at(`releases/${file}`));
    bytes[bytes.length - 1] = 255 - (bytes.at(-1) ?? 0);
    box.write(`releases/${file}`, bytes);
    const refused = await fetch("another");
    assert(refused.status !== 0);
    assertStringIncludes(refused.stderr, "hash mismatch");
  });
});
