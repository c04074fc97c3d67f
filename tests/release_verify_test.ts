/** `release.ts verify`. */
import { assert, assertEquals, assertStringIncludes } from "jsr:@std/assert@^1";
import { describe, it } from "jsr:@std/testing@^1/bdd";
import { tar } from "../release.ts";
import { Sandbox, succeed } from "./helpers.ts";
import { elf, encode, gzip, program, record, release, repo, sha256 } from "./release_box.ts";

describe("verify", () => {
  const file = "tool_1.0.0_noarch.tar.gz";
  /** Puts another archive in the place of the released one, and its hash where that is looked for. */
  const replace = async (box: Sandbox, archive: Uint8Array<ArrayBuffer>) => {
    const packed = await gzip(archive);
    const hash = await sha256(packed);
    box.write(`releases/${file}`, packed);
    box.write("releases/SHA256SUMS", `${hash.toHex()}  ${file}\n`);
    const release = record(box);
    Object.assign(release.platforms["noarch"] ?? {}, { hash: `sha256-${hash.toBase64()}`, size: packed.length });
    box.write("releases/tool.json", JSON.stringify(release));
  };
  const edit = (box: Sandbox, path: string, from: string | RegExp, to: string) => {
    const text = box.read(path);
    assert(text.search(from) >= 0);
    box.write(path, text.replace(from, to));
  };
  const good = tar("tool", encode(program("1.0.0")), 0);
  const rows: [what: string, spoil: (box: Sandbox) => unknown, message: string][] = [
    ["a tarball with another hash", (box) => {
      const bytes = Deno.readFileSync(box.at(`releases/${file}`));
      bytes[4] = 1;
      box.write(`releases/${file}`, bytes);
    }, `${file}: its hash is `],
    [
      "one that SHA256SUMS does not have",
      (box) => box.write("releases/SHA256SUMS", ""),
      `${file}: it is not in SHA256SUMS, so it was not released: release it again, or remove it`,
    ],
    [
      "one that the record does not have",
      (box) => box.write("releases/tool.json", JSON.stringify({ ...record(box), platforms: {} })),
      `${file}: it is not in tool.json: release it again`,
    ],
    ["one that is gone", (box) => box.remove(`releases/${file}`), `${file}: it is in SHA256SUMS, but missing`],
    ["one that the record names and that is gone", (box) => {
      box.remove(`releases/${file}`);
      box.write("releases/SHA256SUMS", "");
    }, "tool.json: it names a tarball for noarch, which is missing"],
    [
      "no gzip file",
      async (box) => {
        box.write(`releases/${file}`, "<html>");
        box.write("releases/SHA256SUMS", await succeed(["sha256sum", file], { cwd: box.at("releases") }));
      },
      `${file}: it is not exactly one complete gzip file`,
    ],
    ["one that is cut short", (box) => {
      box.write(`releases/${file}`, Deno.readFileSync(box.at(`releases/${file}`)).slice(0, -9));
    }, `${file}: its hash is `],
    ["something behind the gzip file", (box) => {
      box.write(`releases/${file}`, new Uint8Array([...Deno.readFileSync(box.at(`releases/${file}`)), 1]));
    }, `${file}: its hash is `],
    [
      "a second member",
      (box) => replace(box, new Uint8Array([...good.subarray(0, 1024), ...good])),
      "more than one file",
    ],
    [
      "a member of another name",
      (box) => replace(box, tar("other", encode("#!/bin/sh\n"), 0)),
      'is "other", not "tool"',
    ],
    ["a member that nobody may run", async (box) => {
      box.write("tool", program("1.0.0"));
      Deno.chmodSync(box.at("tool"), 0o644);
      await succeed(["tar", "--format=ustar", "-cf", "tool.tar", "tool"], { cwd: box.repo });
      await replace(box, Deno.readFileSync(box.at("tool.tar")));
    }, "the file in it has mode 0644, not 0755"],
    [
      "a program for another platform",
      (box) => replace(box, tar("tool", elf(62, 64), 0)),
      "the program in it is for linux_amd64",
    ],
    ["no program", (box) => replace(box, tar("tool", encode("hello"), 0)), "neither an ELF file"],
    [
      "another size in the record",
      (box) => edit(box, "releases/tool.json", /"size": \d+/, '"size": 1'),
      "tool.json says that the size is 1",
    ],
    [
      "another hash in the record",
      (box) => edit(box, "releases/tool.json", /sha256-../, "sha256-AA"),
      "tool.json says that the hash is sha256-AA",
    ],
    [
      "another interpreter in the record",
      (box) => edit(box, "releases/tool.json", '"sh"', '"zsh"'),
      "tool.json says that the interpreter is zsh, but it is sh",
    ],
    [
      "another version in the record",
      (box) => edit(box, "releases/tool.json", '"1.0.0"', '"0.9.0"'),
      "it is for 0.9.0, but 1.0.0 exists",
    ],
    [
      "a record of something else",
      (box) => edit(box, "releases/tool.json", '"tool"', '"other"'),
      'tool.json: it is for "other"',
    ],
    ["no package", (box) => box.remove("releases/tool.nix"), "tool.nix: it is missing"],
    ["two hashes of one tarball", (box) => {
      box.write("releases/SHA256SUMS", `${box.read("releases/SHA256SUMS")}${"0".repeat(64)}  ${file}\n`);
    }, `SHA256SUMS:2: a second hash of ${file}`],
    [
      "a record that holds nothing",
      (box) => box.write("releases/tool.json", "null"),
      "tool.json is not a valid record",
    ],
    [
      "a record without platforms",
      (box) => box.write("releases/tool.json", '{"name": "tool", "version": "1.0.0"}'),
      "tool.json is not a valid record",
    ],
    ["a folder in the place of a tarball", (box) => {
      box.remove(`releases/${file}`);
      box.directory(`releases/${file}`);
    }, `${file}: it is in SHA256SUMS, but missing`],
    ["no record", (box) => box.remove("releases/tool.json"), "tool.json: it is missing"],
    [
      "a record with a merge conflict in it",
      (box) => edit(box, "releases/tool.json", "{", "<<<<<<< HEAD\n{"),
      "tool.json is not a valid record",
    ],
    [
      "a tarball of no version",
      (box) => box.write("releases/tool_new.tar.gz", ""),
      "tool_new.tar.gz: its name is not NAME_VERSION_OS_ARCH.tar.gz",
    ],
    [
      "SHA256SUMS with a merge conflict in it",
      (box) => edit(box, "releases/SHA256SUMS", /^/, "=======\n"),
      'SHA256SUMS:1: "======="',
    ],
  ];
  for (const [what, spoil, message] of rows) {
    it(`finds ${what}`, async () => {
      using box = await repo();
      await release(box);
      await spoil(box);
      assertStringIncludes(await box.fails(1, "verify"), message);
    });
  }

  it("accepts releases by release.ts or GNU tar, and an empty directory", async () => {
    using box = await repo();
    assertStringIncludes((await box.run("verify")).stderr, "Nothing is released");
    await release(box);
    assertEquals((await box.run("verify", "tool")).status, 0);
    box.write("tool", program("1.0.0"));
    Deno.chmodSync(box.at("tool"), 0o755);
    await succeed(["tar", "-cf", "tool.tar", "tool"], { cwd: box.repo });
    await replace(box, Deno.readFileSync(box.at("tool.tar")));
    const { status, stderr } = await box.run("verify");
    assertEquals(status, 0, stderr);
  });

  it("checks only the named program, and names the others if it is unknown", async () => {
    using box = await repo();
    await release(box);
    await release(box, "--name", "other");
    box.write(`releases/${file}`, "");
    assertEquals((await box.run("verify", "other")).status, 0);
    box.remove(`releases/${file}`);
    assertStringIncludes(await box.fails(1, "verify", "tool"), `${file}: it is in SHA256SUMS, but missing`);
    assertStringIncludes(await box.fails(1, "verify", "nosuch"), 'No "nosuch" is released; there are other, tool');
  });

  /** Answers with raw bytes, and then hangs up. */
  const raw = (text: string) => async (listener: Deno.Listener) => {
    for await (const connection of listener) {
      await connection.read(new Uint8Array(4096));
      await connection.write(encode(text));
      connection.close();
    }
  };
  const endless = () => new ReadableStream({ pull: (control) => control.enqueue(new Uint8Array(65536)) });
  type Answer = (request: Request, bytes: Uint8Array<ArrayBuffer>) => Response | Promise<Response>;
  const answers: [what: string, answer: Answer | string, message: string | undefined, args?: string[]][] = [
    ["the file", (_, bytes) => new Response(bytes), undefined],
    ["the file behind a redirect", ({ url }, bytes) => {
      return url.endsWith("/x") ? new Response(bytes) : Response.redirect(new URL("/x", url));
    }, undefined],
    ["the file, said to be packed gzip", (_, bytes) => {
      return new Response(bytes, { headers: { "content-encoding": "gzip" } });
    }, undefined],
    ["the file, said to be a web page", (_, bytes) => {
      return new Response(bytes, { headers: { "content-type": "text/html" } });
    }, undefined],
    ["another file", (_, bytes) => new Response(bytes.toReversed()), "returns other content instead of the file"],
    [
      "a web page",
      () => new Response("<!DOCTYPE html>", { headers: { "content-type": "text/html" } }),
      "returns a web page, perhaps a login",
    ],
    ["a web page that is not called one", () => new Response("\n<html>"), "returns a web page, perhaps a login"],
    ["404", () => new Response("", { status: 404 }), "was not found (404): is it pushed"],
    ["500", () => new Response("", { status: 500 }), "answers 500"],
    ["less", (_, bytes) => new Response(bytes.slice(1)), "returns other content"],
    ["what breaks off", "HTTP/1.1 200 OK\r\ncontent-length: 9999\r\n\r\nxx", "broke off: "],
    ["what is no answer", "SSH-2.0-x\r\n", "cannot be fetched: invalid HTTP version"],
    ["what never ends", () => new Response(endless()), "returns other content"],
    ["redirects without end", ({ url }) => Response.redirect(url), "redirects"],
    ["nothing in time", () => new Promise(() => {}), "took longer than 0.5 seconds", ["--timeout", "0.5"]],
  ];
  for (const [what, answer, message, args = []] of answers) {
    it(`--remote meets ${what}`, async () => {
      using box = await repo();
      let bytes = new Uint8Array();
      const local = { hostname: "127.0.0.1", port: 0 };
      const quiet = { onListen() {}, onError: () => new Response(null, { status: 500 }) };
      const listener = typeof answer === "string" ? Deno.listen(local) : undefined;
      if (listener && typeof answer === "string") raw(answer)(listener).catch(() => {});
      const control = new AbortController();
      const server = typeof answer === "string"
        ? undefined
        : Deno.serve({ ...local, ...quiet, signal: control.signal }, (request) => answer(request, bytes));
      try {
        const { port } = (listener ?? server)!.addr as Deno.NetAddr;
        await release(box, "--url-base", `http://127.0.0.1:${port}`);
        bytes = Deno.readFileSync(box.at(`releases/${file}`));
        const { status, stderr } = await box.run("verify", "--remote", ...args);
        assertEquals(status, message === undefined ? 0 : 1, stderr);
        assertStringIncludes(stderr, message ?? "the same at its URL");
      } finally {
        control.abort();
        listener?.close();
        await server?.finished;
      }
    });
  }
});
