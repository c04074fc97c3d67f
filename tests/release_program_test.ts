/** What `release.ts` reads from a program. */
import { assertEquals, assertThrows } from "jsr:@std/assert@^1";
import { describe, it } from "jsr:@std/testing@^1/bdd";
import { identify, type Kind } from "../release.ts";
import { AMD64, ARM64, elf, encode, LOADER, machO, record, release, repo, universal } from "./release_box.ts";

const KINDS: [name: string, bytes: Uint8Array<ArrayBuffer>, platform: string, kind: Kind, interpreter?: string][] = [
  ["ELF for amd64", elf(62, 64), "linux_amd64", "elf-static"],
  ["dynamic ELF for amd64", elf(62, 64, { segment: LOADER }), "linux_amd64", "elf-dynamic"],
  ["ELF for arm64", elf(183, 64), "linux_arm64", "elf-static"],
  ["ELF for 386", elf(3, 32), "linux_386", "elf-static"],
  ["dynamic ELF for 386", elf(3, 32, { segment: LOADER }), "linux_386", "elf-dynamic"],
  ["ELF for armv7", elf(40, 32), "linux_armv7", "elf-static"],
  ["ELF for riscv64, marked as Linux", elf(243, 64, { system: 3 }), "linux_riscv64", "elf-static"],
  ["ELF that is a header alone", elf(62, 64).slice(0, 20), "linux_amd64", "elf-static"],
  ["Mach-O for amd64", machO(AMD64), "darwin_amd64", "mach-o"],
  ["Mach-O for arm64", machO(ARM64), "darwin_arm64", "mach-o"],
  ["universal Mach-O", universal(AMD64, ARM64), "darwin_all", "mach-o"],
  ["universal Mach-O of one machine", universal(ARM64), "darwin_arm64", "mach-o"],
  ["script by path", encode("#!/bin/bash -e\n"), "noarch", "script", "bash"],
  ["script by env", encode("#! /usr/bin/env python3.12\n"), "noarch", "script", "python3.12"],
  ["script by env -S", encode("#!/usr/bin/env -S deno run -A\n"), "noarch", "script", "deno"],
  ["script by env -S without a line end", encode("#!/usr/bin/env -S  node"), "noarch", "script", "node"],
];

const NO_KINDS: [name: string, bytes: Uint8Array<ArrayBuffer>, message: string][] = [
  ["x32 ELF", elf(62, 32), "32-bit little-endian machine 62"],
  ["big-endian ELF", elf(183, 64, { order: 2 }), "big-endian"],
  ["ELF for s390", elf(22, 64), "machine 22"],
  ["ELF for FreeBSD", elf(62, 64, { system: 9 }), "another system than Linux"],
  ["ELF that is cut short", elf(62, 64).slice(0, 159), "truncated: 159 of at least 160 bytes"],
  ["Mach-O for PowerPC", machO(18), "machine 18"],
  ["Java class", new Uint8Array([0xca, 0xfe, 0xba, 0xbe, 0, 0, 0, 61, 0]), "universal Mach-O"],
  ["Windows program", encode("MZ\x90\0"), "neither an ELF file"],
  ["text", encode("echo hello\n"), "neither an ELF file"],
  ["script with CR LF", encode("#!/bin/sh\r\n"), "CR LF"],
  ["script that names nothing", encode("#!\necho\n"), 'its first line is "#!"'],
  ["script by env with a variable", encode("#!/usr/bin/env A=1 node\n"), "write #!/usr/bin/env NAME or"],
  ["script by env with an option", encode("#!/usr/bin/env -u X node\n"), "write #!/usr/bin/env NAME or"],
  ["script of somebody's store", encode("#!/nix/store/x-bash/bin/bash\n"), "does not exist on other machines"],
  ["object file", elf(62, 64, { type: 1 }), "it is an ELF file, but no program"],
  ["core dump", elf(62, 64, { type: 4 }), "it is an ELF file, but no program"],
  ["universal Mach-O for PowerPC", universal(18, 7), "machine 18"],
];

describe("identify()", () => {
  for (const [name, bytes, platform, kind, interpreter] of KINDS) {
    it(`knows a ${name}`, () => {
      assertEquals(identify(bytes), interpreter === undefined ? { platform, kind } : { platform, kind, interpreter });
    });
  }

  for (const [name, bytes, message] of NO_KINDS) {
    it(`refuses a ${name}`, () => {
      assertThrows(() => identify(bytes), Error, message);
    });
  }

  it("identifies a real program of this machine", async () => {
    using box = await repo(Deno.readFileSync("/bin/true"));
    const platform = `${Deno.build.os}_${Deno.build.arch === "aarch64" ? "arm64" : "amd64"}`;
    await release(box, "--version", "1.0.0", "--no-run", "--platform", platform);
    const { kind, interpreter } = record(box).platforms[platform] ?? {};
    assertEquals({ kind, interpreter }, {
      kind: Deno.build.os === "darwin" ? "mach-o" : "elf-dynamic",
      interpreter: undefined,
    });
  });
});
