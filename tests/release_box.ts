/** What the tests of `release.ts` share: repos with a built program, and programs of every kind. */
import { assertEquals } from "jsr:@std/assert@^1";
import { type Release } from "../release.ts";
import { type Result, Sandbox, tree } from "./helpers.ts";

export const HTTPS = "https://codeberg.org/team/tool.git";

/** The text of a program that prints its version. */
export function program(version: string, more = ""): string {
  return `#!/bin/sh\necho "tool ${version}"\n${more}`;
}

/** A repo with a commit, an origin, and a built program that git ignores. */
export async function repo(text: string | Uint8Array = program("1.0.0"), origin = HTTPS): Promise<Sandbox> {
  const box = new Sandbox("release.ts");
  await box.git("init", "--quiet", "--initial-branch=main");
  for (const [key, value] of [["user.name", "A"], ["user.email", "a@example.org"]]) {
    await box.git("config", key!, value!);
  }
  if (origin !== "") await box.git("remote", "add", "origin", origin);
  box.write(".gitignore", "/out/\n");
  await box.git("add", ".");
  await box.git("commit", "--quiet", "--message=first");
  box.write("out/tool.sh", text);
  return box;
}

/** Releases `out/tool.sh`, which must succeed. */
export async function release(box: Sandbox, ...args: string[]): Promise<Result> {
  const result = await box.run("out/tool.sh", ...args);
  assertEquals(result.status, 0, result.stderr);
  return result;
}

/** Expects a refusal, which changes nothing on the disk or in git. */
export async function refuses(box: Sandbox, status: number, ...args: string[]): Promise<string> {
  const look =
    async () => [tree(box.repo), await box.git("log", "--all", "--format=%H"), await box.git("diff", "--cached")];
  const before = await look();
  const message = await box.fails(status, ...args);
  assertEquals(await look(), before);
  return message;
}

export function record(box: Sandbox): Release {
  return JSON.parse(box.read("releases/tool.json"));
}

export function files(box: Sandbox): string[] {
  return Object.keys(tree(box.at("releases"))).sort();
}

export async function gunzip(bytes: Uint8Array<ArrayBuffer>): Promise<Uint8Array<ArrayBuffer>> {
  return await new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).bytes();
}

export async function gzip(bytes: Uint8Array<ArrayBuffer>): Promise<Uint8Array<ArrayBuffer>> {
  return await new Response(new Blob([bytes]).stream().pipeThrough(new CompressionStream("gzip"))).bytes();
}

export async function sha256(bytes: Uint8Array<ArrayBuffer>): Promise<Uint8Array> {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
}

export const encode = (text: string) => new TextEncoder().encode(text);

/** An ELF file: a header, and one segment of the given type that covers the file. */
export function elf(
  machine: number,
  bits: 32 | 64,
  { segment = 1, order = 1, system = 0, type = 2 } = {},
): Uint8Array<ArrayBuffer> {
  const wide = bits === 64;
  const bytes = new Uint8Array(160);
  const view = new DataView(bytes.buffer);
  bytes.set([0x7f, 0x45, 0x4c, 0x46, wide ? 2 : 1, order, 1, system]);
  view.setUint16(16, type, true); // by default ET_EXEC
  view.setUint16(18, machine, true);
  view.setUint32(wide ? 32 : 28, 64, true); // where the table of segments is
  view.setUint16(wide ? 54 : 42, wide ? 56 : 32, true);
  view.setUint16(wide ? 56 : 44, 1, true);
  view.setUint32(64, segment, true);
  view.setUint32(64 + (wide ? 32 : 16), bytes.length, true); // its bytes in the file
  return bytes;
}

export function machO(type: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(32);
  bytes.set([0xcf, 0xfa, 0xed, 0xfe]);
  new DataView(bytes.buffer).setUint32(4, type, true);
  return bytes;
}

export function universal(...types: number[]): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(8 + types.length * 20);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, 0xcafebabe);
  view.setUint32(4, types.length);
  types.forEach((type, index) => view.setUint32(8 + index * 20, type));
  return bytes;
}

export const [AMD64, ARM64] = [0x01000007, 0x0100000c];
/** The type of the segment with a program's loader: `PT_INTERP`. */
export const LOADER = 3;
