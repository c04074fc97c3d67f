/**
 * Drives `release.ts` as people do, in repos in temporary folders, and looks at what is then on the disk.
 *
 * git, GNU tar, sha256sum, Python and Nix are the real ones, and what is fetched is served on loopback.
 */
import { assert, assertEquals, assertMatch, assertStringIncludes, assertThrows } from "jsr:@std/assert@^1";
import { describe, it } from "jsr:@std/testing@^1/bdd";
import { type Build, identify, type Kind, parseRemote, type Release, tar, untar } from "../release.ts";
import { execute, installed, isThere, kill, requires, type Result, Sandbox, stamps, succeed, tree } from "./helpers.ts";

// ── What is released ────────────────────────────────────────────────────────────────────────────────────────────

const HTTPS = "https://codeberg.org/team/tool.git";

/** The text of a program that prints its version. */
function program(version: string, more = ""): string {
  return `#!/bin/sh\necho "tool ${version}"\n${more}`;
}

/** A repo with a commit and an origin, and a program that was built and is ignored. */
async function repo(text: string | Uint8Array = program("1.0.0"), origin = HTTPS): Promise<Sandbox> {
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

/** Releases `out/tool.sh`, which has to succeed. */
async function release(box: Sandbox, ...args: string[]): Promise<Result> {
  const result = await box.run("out/tool.sh", ...args);
  assertEquals(result.status, 0, result.stderr);
  return result;
}

/** What is refused changes nothing, in the folder or in git. */
async function refuses(box: Sandbox, status: number, ...args: string[]): Promise<string> {
  const look =
    async () => [tree(box.repo), await box.git("log", "--all", "--format=%H"), await box.git("diff", "--cached")];
  const before = await look();
  const message = await box.fails(status, ...args);
  assertEquals(await look(), before);
  return message;
}

function record(box: Sandbox): Release {
  return JSON.parse(box.read("releases/tool.json"));
}

function files(box: Sandbox): string[] {
  return Object.keys(tree(box.at("releases"))).sort();
}

async function gunzip(bytes: Uint8Array<ArrayBuffer>): Promise<Uint8Array<ArrayBuffer>> {
  return await new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).bytes();
}

async function gzip(bytes: Uint8Array<ArrayBuffer>): Promise<Uint8Array<ArrayBuffer>> {
  return await new Response(new Blob([bytes]).stream().pipeThrough(new CompressionStream("gzip"))).bytes();
}

async function sha256(bytes: Uint8Array<ArrayBuffer>): Promise<Uint8Array> {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
}

const encode = (text: string) => new TextEncoder().encode(text);

// ── Programs of every kind ──────────────────────────────────────────────────────────────────────────────────────

/** An ELF file: a header, and a segment of the given type, which is all of the file. */
function elf(
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

function machO(type: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(32);
  bytes.set([0xcf, 0xfa, 0xed, 0xfe]);
  new DataView(bytes.buffer).setUint32(4, type, true);
  return bytes;
}

function universal(...types: number[]): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(8 + types.length * 20);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, 0xcafebabe);
  view.setUint32(4, types.length);
  types.forEach((type, index) => view.setUint32(8 + index * 20, type));
  return bytes;
}

const [AMD64, ARM64] = [0x01000007, 0x0100000c];
/** The type of the segment that names what loads a program: `PT_INTERP`. */
const LOADER = 3;

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
  ["ELF that is cut short", elf(62, 64).slice(0, 159), "cut short: 159 bytes of at least 160"],
  ["Mach-O for PowerPC", machO(18), "machine 18"],
  ["Java class", new Uint8Array([0xca, 0xfe, 0xba, 0xbe, 0, 0, 0, 61, 0]), "universal Mach-O"],
  ["Windows program", encode("MZ\x90\0"), "neither an ELF file"],
  ["text", encode("echo hello\n"), "neither an ELF file"],
  ["script with CR LF", encode("#!/bin/sh\r\n"), "CR LF"],
  ["script that names nothing", encode("#!\necho\n"), 'its first line is "#!"'],
  ["script by env with a variable", encode("#!/usr/bin/env A=1 node\n"), "write #!/usr/bin/env NAME or"],
  ["script by env with an option", encode("#!/usr/bin/env -u X node\n"), "write #!/usr/bin/env NAME or"],
  ["script of somebody's store", encode("#!/nix/store/x-bash/bin/bash\n"), "which others do not have"],
  ["object file", elf(62, 64, { type: 1 }), "it is an object file"],
  ["core dump", elf(62, 64, { type: 4 }), "it is a core dump"],
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

  it("knows a real program of this machine", async () => {
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

// ── The archive ─────────────────────────────────────────────────────────────────────────────────────────────────

describe("tar()", () => {
  for (const length of [1, 511, 512, 513, 10_000]) {
    requires("tar")(`writes the bytes of GNU tar for ${length} bytes`, async () => {
      using box = new Sandbox();
      const content = crypto.getRandomValues(new Uint8Array(length));
      box.write("tool", content);
      const how = "--format=ustar --sort=name --owner=0 --group=0 --numeric-owner --mode=755 --mtime=@315532800 -b1"
        .split(" ");
      await succeed(["tar", ...how, "-cf", "tool.tar", "tool"], { cwd: box.repo });
      assertEquals(tar("tool", content, 315532800), Deno.readFileSync(box.at("tool.tar")));
    });
  }
});

describe("untar()", () => {
  const good = tar("tool", encode("x"), 0);

  it("reads what tar() writes", () => {
    assertEquals(untar(good), { name: "tool", mode: "0755", time: 0, content: encode("x") });
  });

  const longer = new Uint8Array([...good.subarray(0, 1024), ...good]);
  const rows: [string, Uint8Array<ArrayBuffer>, string][] = [
    ["a second file", longer, "more than one file"],
    ["no checksum", good.slice().fill(0, 148, 156), "no tar archive"],
    ["an end that is missing", good.slice(0, 1024), "cut short"],
    ["nothing", new Uint8Array(), "no tar archive"],
  ];
  for (const [name, bytes, message] of rows) {
    it(`refuses an archive with ${name}`, () => {
      assertThrows(() => untar(bytes), Error, message);
    });
  }
});

describe("release FILE", () => {
  it("writes a tarball, its hash, its record and its package, and prints its URL alone", async () => {
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

  requires("tar", "sha256sum", "python3")("is read by tar, Python and sha256sum", async () => {
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

  it("writes bytes that depend on the file, the name, the version and SOURCE_DATE_EPOCH alone", async () => {
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
    assertStringIncludes(again.stderr, "released already");
    assertEquals(stamps(box.at("releases")), before);
  });

  it("takes the name and the version from options, and the folder from any place in the repo", async () => {
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

  it("adds a second platform to a version, starts anew with the next, and keeps the older tarballs", async () => {
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

  it("leaves alone a package that a person has changed, and all that it has not made", async () => {
    using box = await repo();
    await release(box);
    box.write("releases/tool.nix", "mine");
    box.write("releases/README.md", "how to");
    box.write("releases/old/keep", "this");
    box.link("releases/link", "nowhere");
    box.write("out/tool.sh", program("1.1.0"));
    const { stderr } = await release(box, "--allow-dirty");
    assertStringIncludes(stderr, "releases/tool.nix was changed by somebody");
    assertEquals(box.read("releases/tool.nix"), "mine");
    assertEquals([box.read("releases/README.md"), box.read("releases/old/keep")], ["how to", "this"]);
    assertEquals(Deno.readLinkSync(box.at("releases/link")), "nowhere");
    assertEquals(record(box).version, "1.1.0");
  });

  it("writes nothing with --dry-run, and says what it would", async () => {
    using box = await repo();
    const before = stamps(box.repo);
    const { stdout, stderr } = await release(box, "-n", "--commit");
    assertMatch(stdout, /^https:\S+\n$/);
    assertStringIncludes(stderr, "tool.nix, tool_1.0.0_noarch.tar.gz, if this were no dry run");
    assertEquals(stamps(box.repo), before);
    assertEquals(await box.git("tag"), "");
  });

  it("prints the record with --json", async () => {
    using box = await repo();
    const { stdout } = await release(box, "--json");
    assertEquals(stdout, box.read("releases/tool.json"));
  });

  it("works where it was pasted, in a repo without deno.json", async () => {
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

// ── The URL ─────────────────────────────────────────────────────────────────────────────────────────────────────

describe("parseRemote()", () => {
  const rows: [address: string, site: string, project: string][] = [
    ["https://github.com/me/tool.git", "https://github.com", "me/tool"],
    ["https://www.github.com/me/tool", "https://github.com", "me/tool"],
    ["https://user:secret@git.example.org:8443/a/b/c.git/", "https://git.example.org:8443", "a/b/c"],
    ["http://127.0.0.1:3000/me/tool", "http://127.0.0.1:3000", "me/tool"],
    ["ssh://git@git.example.org:2222/me/tool.git", "https://git.example.org", "me/tool"],
    ["git@git.example.org:me/tool.git", "https://git.example.org", "me/tool"],
    ["git.example.org:/me/tool", "https://git.example.org", "me/tool"],
    ["git@git.sr.ht:~me/tool", "https://git.sr.ht", "~me/tool"],
    ["ssh://git@ssh.github.com:443/me/tool.git", "https://github.com", "me/tool"],
    ["git@git.example.org:me/a tool.git", "https://git.example.org", "me/a%20tool"],
  ];
  for (const [address, site, project] of rows) {
    it(`reads ${address}`, () => assertEquals(parseRemote(address), { site, project }));
  }
  for (
    const address of [
      "/srv/tool.git",
      "../tool",
      "file:///srv/me/tool.git",
      "https://example.org/tool",
      "ext::sh -c x",
      "git@work:me/tool",
    ]
  ) {
    it(`finds no page for ${address}`, () => assertEquals(parseRemote(address), undefined));
  }
});

describe("the URL", () => {
  const file = "tool_1.0.0_noarch.tar.gz";
  const rows: [origin: string, args: string[], url: string][] = [
    ["git@github.com:me/tool.git", [], "https://raw.githubusercontent.com/me/tool/main/releases"],
    [
      "git@github.com:me/tool.git",
      ["--ref", "tool-v1.0.0"],
      "https://raw.githubusercontent.com/me/tool/tool-v1.0.0/releases",
    ],
    ["https://ghe.example.org/me/tool", ["--forge", "github"], "https://ghe.example.org/me/tool/raw/main/releases"],
    ["https://gitlab.com/a/b/tool.git", [], "https://gitlab.com/a/b/tool/-/raw/main/releases"],
    ["https://git.example.org/a/tool", ["--forge", "gitlab"], "https://git.example.org/a/tool/-/raw/main/releases"],
    [
      "https://codeberg.org/me/tool",
      ["--ref", "tool-v1.0.0"],
      "https://codeberg.org/me/tool/raw/tag/tool-v1.0.0/releases",
    ],
    ["ssh://git@git.example.org:22/me/tool.git", [], "https://git.example.org/me/tool/raw/branch/main/releases"],
    [
      "https://git.example.org/me/tool",
      ["--ref", "v#1/x"],
      "https://git.example.org/me/tool/raw/branch/v%231/x/releases",
    ],
    [
      "https://git.example.org/me/tool",
      ["--forge", "gitea"],
      "https://git.example.org/me/tool/raw/branch/main/releases",
    ],
    ["git@git.sr.ht:~me/tool", [], "https://git.sr.ht/~me/tool/blob/main/releases"],
    ["/srv/tool", ["--url-base", "https://example.org/dl/"], "https://example.org/dl"],
    ["", ["--url-base", "https://example.org/dl"], "https://example.org/dl"],
  ];
  for (const [origin, args, url] of rows) {
    it(`is right for ${[origin || "no origin", ...args].join(" ")}`, async () => {
      using box = await repo(program("1.0.0"), origin);
      await box.git("branch", "v#1/x");
      assertEquals((await release(box, "--dry-run", ...args)).stdout, `${url}/${file}\n`);
    });
  }

  it("names the default branch of origin, else the one that is checked out, and the forge that git config names", async () => {
    using box = await repo(program("1.0.0"), "https://git.example.org/me/tool");
    await box.git("checkout", "--quiet", "-b", "side");
    assertStringIncludes((await release(box, "-n")).stdout, "/raw/branch/side/");
    await box.git("update-ref", "refs/remotes/origin/trunk", "HEAD");
    await box.git("symbolic-ref", "refs/remotes/origin/HEAD", "refs/remotes/origin/trunk");
    assertStringIncludes((await release(box, "-n")).stdout, "/raw/branch/trunk/");
    await box.git("config", "release.forge", "gitlab");
    assertStringIncludes((await release(box, "-n")).stdout, "/-/raw/trunk/");
  });

  it("has no credentials in it, nor has any message or file", async () => {
    using box = await repo(program("1.0.0"), "https://me:s3cret@git.example.org/me/tool.git");
    const { stdout, stderr } = await release(box, "--commit");
    assertEquals([stdout, stderr, JSON.stringify(tree(box.at("releases")))].join().match(/s3cret|me:/), null);
    await box.git("remote", "set-url", "origin", "https://me:s3cret/s3cret@git.example.org/tool.git?token=s3cret");
    box.write("out/tool.sh", program("1.0.1"));
    const message = await refuses(box, 1, "out/tool.sh");
    assertStringIncludes(message, '"https://git.example.org/tool.git", where origin is: give --url-base');
  });

  const refused: [what: string, origin: string, args: string[], status: number, message: string][] = [
    ["no origin", "", [], 1, 'no remote "origin"'],
    ["a folder", "/srv/tool", [], 1, 'Cannot make a URL for "/srv/tool"'],
    ["a forge that is not known", HTTPS, ["--forge", "svn"], 2, 'Unknown forge "svn": one of forgejo, gitea'],
    ["a branch that is not there", HTTPS, ["--ref", "nosuch"], 1, 'no branch or tag "nosuch"'],
    ["a base that is no URL", HTTPS, ["--url-base", "example.org"], 2, 'as it is, not "example.org"'],
    ["a base with a password", HTTPS, ["--url-base", "https://me:s3cret@x.org"], 2, 'as it is, not "https://x.org"'],
    ["a base with a token", HTTPS, ["--url-base", "https://x.org/?t=s3cret"], 2, 'as it is, not "https://x.org/"'],
    ["a name that only ssh knows", "git@work:me/tool.git", [], 1, 'Cannot make a URL for "git@work:me/tool.git"'],
  ];
  it("is as it was for the release before where origin gives none, as in a clone of a clone", async () => {
    using box = await repo(program("1.0.0"), HTTPS);
    await release(box, "--commit");
    const before = JSON.parse(box.read("releases/tool.json")).platforms.noarch.url;
    await box.git("remote", "set-url", "origin", "/srv/tool");
    const { stdout } = await release(box);
    assertStringIncludes(stdout, before);
    box.write("out/tool.sh", program("1.1.0"));
    await release(box);
    assertEquals(JSON.parse(box.read("releases/tool.json")).platforms.noarch.url, before.replaceAll("1.0.0", "1.1.0"));
  });

  for (const [what, origin, args, status, message] of refused) {
    it(`cannot be made with ${what}`, async () => {
      using box = await repo(program("1.0.0"), origin);
      assertStringIncludes(await refuses(box, status, "out/tool.sh", ...args), message);
    });
  }
});

// ── What is refused ─────────────────────────────────────────────────────────────────────────────────────────────

describe("release FILE refuses", () => {
  const rows: [what: string, prepare: (box: Sandbox) => unknown, args: string[], status: number, message: string][] = [
    ["a file that is not there", (box) => box.remove("out/tool.sh"), [], 1, "there is no "],
    ["an empty file", (box) => box.write("out/tool.sh", ""), [], 1, "out/tool.sh: it is empty"],
    ["a directory", (box) => (box.remove("out/tool.sh"), box.directory("out/tool.sh")), [], 1, "it is a directory"],
    [
      "a link that leads nowhere",
      (box) => (box.remove("out/tool.sh"), box.link("out/tool.sh", "nowhere")),
      [],
      1,
      "it is a link to nowhere, which is not there",
    ],
    ["a file of no known kind", (box) => box.write("out/tool.sh", "hello"), [], 1, "neither an ELF file"],
    [
      "another platform than it is for",
      () => {},
      ["--platform", "linux_amd64"],
      1,
      'for noarch, not for "linux_amd64"',
    ],
    ["a name that fits no file", () => {}, ["--name", "../tool"], 2, '"../tool" cannot be a program\'s name'],
    [
      "a version with a v",
      () => {},
      ["--version", "v1.0.0"],
      2,
      '--version, "v1.0.0", has a "v" in front: give --version 1.0.0',
    ],
    ["a version of two numbers", () => {}, ["--version", "1.0"], 2, '--version, "1.0", is not semantic versioning'],
    ["a version with zeros in front", () => {}, ["--version", "1.0.01"], 2, "is not semantic versioning"],
    [
      "a program that prints a version with a v",
      (box) => box.write("out/tool.sh", program("v1.0.0")),
      [],
      1,
      'What tool prints for --version, "v1.0.0", has a "v" in front',
    ],
    [
      "a program that prints no version, where none is given",
      (box) => box.write("out/tool.sh", "#!/bin/sh\n"),
      [],
      1,
      "Which version is tool? Say it with --version: it prints no version",
    ],
    [
      "a program that fails, whatever it prints",
      (box) => box.write("out/tool.sh", "#!/bin/sh\necho libfoo 2.3.4 is missing\nexit 127\n"),
      [],
      1,
      'it ends with status 127 and "libfoo 2.3.4 is missing"',
    ],
    [
      "a program that prints several versions",
      (box) => box.write("out/tool.sh", "#!/bin/sh\necho tool with libfoo 2.3.4, version 1.0.0\n"),
      [],
      1,
      "tool prints several versions, 2.3.4 and 1.0.0: say which",
    ],
    [
      "a version that cannot be in a tag, with --commit",
      () => {},
      ["--version", "1.0.0-x.lock", "--no-run", "--commit"],
      1,
      "cannot be a tag",
    ],
    [
      "--commit on no branch",
      (box) => box.git("checkout", "--quiet", "--detach"),
      ["--commit", "--ref", "main"],
      1,
      "No branch is checked out",
    ],
    [
      "--commit in a merge",
      (box) => box.write(".git/MERGE_HEAD", box.read(".git/refs/heads/main")),
      ["--commit"],
      1,
      "A merge is not finished",
    ],
    [
      "a tag in the URL that is there without the file",
      (box) => box.git("tag", "old"),
      ["--ref", "old"],
      1,
      "The tag old (--ref) is there, without tool_1.0.0_noarch.tar.gz",
    ],
    [
      "no version with --no-run",
      () => {},
      ["--no-run"],
      1,
      "Which version is tool? Say it with --version: it was not run",
    ],
    ["another version than it prints", () => {}, ["--version", "1.0.1"], 1, "tool prints version 1.0.0, not 1.0.1"],
    [
      "a change that is not committed",
      (box) => box.write(".gitignore", "/out/\n#\n"),
      [],
      1,
      " M .gitignore\nCommit or stash",
    ],
    ["a file that is not committed", (box) => box.write("source.c", ""), [], 1, "  ?? source.c\n"],
    [
      "a tarball that git ignores",
      async (box) => {
        box.write(".gitignore", "/out/\n*.tar.gz\n");
        await box.git("commit", "--quiet", "--all", "--message=ignore");
      },
      [],
      1,
      'git ignores releases/tool_1.0.0_noarch.tar.gz, because of "*.tar.gz" in .gitignore:2',
    ],
    ...["text", "crlf", "eol=crlf", "filter=lfs", "ident", "working-tree-encoding=UTF-16"].map((attribute): [
      string,
      (box: Sandbox) => unknown,
      string[],
      number,
      string,
    ] => [
      `a tarball to which ${attribute} applies`,
      async (box) => {
        box.write(".gitattributes", `*.gz ${attribute}\n`);
        await box.git("add", ".gitattributes");
        await box.git("commit", "--quiet", "--message=attributes");
      },
      [],
      1,
      "  /releases/*.tar.gz -text -filter -ident -working-tree-encoding",
    ]),
    [
      "a tag on another commit",
      async (box) => {
        await box.git("tag", "tool-v1.0.0");
        await box.git("commit", "--quiet", "--allow-empty", "--message=next");
      },
      [],
      1,
      "The tag tool-v1.0.0 is there already, on another commit",
    ],
    [
      "a tag that --commit would have to move",
      (box) => box.git("tag", "tool-v1.0.0"),
      ["--commit"],
      1,
      "on another commit",
    ],
    [
      "a folder that is a link",
      (box) => (box.directory("out/x"), box.link("releases", "out/x")),
      ["--allow-dirty"],
      1,
      "is a link",
    ],
    [
      "a list of hashes with a merge conflict in it",
      (box) => box.write("releases/SHA256SUMS", "<<<<<<< HEAD\n"),
      [],
      1,
      'releases/SHA256SUMS:1: "<<<<<<< HEAD" is no hash and a file',
    ],
    [
      "a record that cannot be read",
      (box) => box.write("releases/tool.json", "{"),
      [],
      1,
      "releases/tool.json is no record",
    ],
    [
      "a date that is none",
      (box) => box.environment = { SOURCE_DATE_EPOCH: "today" },
      [],
      2,
      'SOURCE_DATE_EPOCH is not a number of seconds since 1970: "today"',
    ],
    [
      "--commit by nobody",
      (box) => box.git("config", "user.useConfigOnly", "true").then(() => box.git("config", "--unset", "user.email")),
      ["--commit"],
      1,
      "git var failed",
    ],
  ];
  for (const [what, prepare, args, status, message] of rows) {
    it(what, async () => {
      using box = await repo();
      await prepare(box);
      assertStringIncludes(await refuses(box, status, "out/tool.sh", ...args), message);
    });
  }

  it("to forget what is committed, when the folder is gone or was never checked out", async () => {
    using box = await repo();
    await release(box, "--commit");
    box.write("out/tool.sh", program("1.0.0", "# new\n"));
    box.remove("releases");
    const message = "releases/SHA256SUMS is committed, and not here: get it back (git restore releases";
    assertStringIncludes(await refuses(box, 1, "out/tool.sh", "--commit"), message);
    await box.git("sparse-checkout", "set", "--no-cone", "/*", "!/releases/");
    assertStringIncludes(await refuses(box, 1, "out/tool.sh", "--allow-dirty"), message);
  });

  it("a tag that was made before its release, with --commit", async () => {
    using box = await repo();
    await box.git("tag", "tool-v1.0.0");
    await release(box);
    assertStringIncludes(await refuses(box, 1, "out/tool.sh", "--commit"), "The tag tool-v1.0.0 is there already");
  });

  it("what git ignores, until its advice is taken", async () => {
    for (const pattern of ["*.tar.gz", "releases/", "/releases/*", "SHA256*"]) {
      using box = await repo();
      box.write(".git/info/exclude", `${pattern}\n`);
      const message = await refuses(box, 1, "out/tool.sh");
      const lines = message.match(/^ {2}!.*/gm) ?? [];
      assertEquals(lines.length, 2, message);
      box.write(".gitignore", `/out/\n${lines.map((line) => `${line.trim()}\n`).join("")}`);
      await release(box, "--allow-dirty");
    }
  });

  requires("setpriv")("what it may not read or write, and says where that is", async () => {
    using box = await repo();
    await release(box);
    box.write("out/tool.sh", program("1.1.0"));
    const run = async (path: string, mode: number) => {
      Deno.chmodSync(box.at(path), mode);
      const before = tree(box.at("releases"));
      const { status, stderr } = await box.runUnprivileged("out/tool.sh");
      assertEquals([status, tree(box.at("releases"))], [1, before], stderr);
      Deno.chmodSync(box.at(path), 0o755);
      return stderr;
    };
    assertMatch(await run("releases/SHA256SUMS", 0), /Permission denied.*releases\/SHA256SUMS/);
    assertMatch(await run("releases", 0o555), /Permission denied.*SHA256SUMS/);
    box.write("releases/kept/file", "");
    Deno.chmodSync(box.at("releases/kept"), 0o555);
    const { status, stderr } = await box.runUnprivileged("out/tool.sh", "--allow-dirty");
    assertEquals(status, 0, stderr);
    assertEquals((Deno.statSync(box.at("releases/kept")).mode ?? 0) & 0o777, 0o555);
    assertEquals(isThere(box.at(".git/release.ts")), false);
  });

  it("a released version with another content, whatever is allowed", async () => {
    using box = await repo();
    await release(box);
    box.write("out/tool.sh", program("1.0.0", "# new\n"));
    const message = await refuses(
      box,
      1,
      "out/tool.sh",
      "--allow-dirty",
      "--allow-older",
      "--no-run",
      "--version",
      "1.0.0",
    );
    assertStringIncludes(message, "released already, with another content: a released version never changes");
    box.write("out/tool.sh", program("1.0.0"));
    box.environment = { SOURCE_DATE_EPOCH: "0" };
    assertStringIncludes(await refuses(box, 1, "out/tool.sh"), "another name or time (SOURCE_DATE_EPOCH)");
  });

  it("a tarball that was damaged, or that is gone and would come back with other bytes", async () => {
    using box = await repo();
    await release(box);
    const tarball = "releases/tool_1.0.0_noarch.tar.gz";
    const bytes = Deno.readFileSync(box.at(tarball));
    box.write(tarball, "version https://git-lfs.example.org/spec/v1\n");
    assertStringIncludes(await refuses(box, 1, "out/tool.sh"), `${tarball} is not what SHA256SUMS has the hash of`);
    box.remove(tarball);
    box.write("out/tool.sh", program("1.0.0", "# new\n"));
    assertStringIncludes(await refuses(box, 1, "out/tool.sh"), `${tarball} was released with other bytes`);
    box.write("out/tool.sh", program("1.0.0"));
    await release(box);
    assertEquals(Deno.readFileSync(box.at(tarball)), bytes);
  });

  it("takes a tarball that another gzip has packed for what it is", async () => {
    using box = await repo();
    await release(box);
    const tarball = "releases/tool_1.0.0_noarch.tar.gz";
    await succeed(["sh", "-c", `gunzip ${tarball} && gzip -1 -n releases/*.tar`], { cwd: box.repo });
    box.remove("releases/SHA256SUMS");
    const before = Deno.readFileSync(box.at(tarball));
    await release(box);
    assertEquals(Deno.readFileSync(box.at(tarball)), before);
    await succeed(["sha256sum", "-c", "SHA256SUMS"], { cwd: box.at("releases") });
  });

  it("a program that does not answer", async () => {
    using box = await repo("#!/bin/sh\nsleep 12 &\n");
    assertStringIncludes(await refuses(box, 1, "out/tool.sh"), "it did not end within 10 seconds");
  });

  it("a tarball of more than 100 MiB, and warns above 10 MiB", async () => {
    using box = await repo();
    const noise = new Uint8Array(101 * 2 ** 20);
    for (let at = 0; at < noise.length; at += 65536) crypto.getRandomValues(noise.subarray(at, at + 65536));
    noise.set(elf(62, 64));
    box.write("out/tool.sh", noise);
    const message = await box.fails(1, "out/tool.sh", "--version", "1.0.0", "--no-run");
    assertStringIncludes(message, "forges refuse more than 100.0 MiB");
    assertEquals(isThere(box.at("releases")), false);
    box.write("out/tool.sh", noise.subarray(0, 11 * 2 ** 20));
    const { stderr } = await release(box, "--version", "1.0.0", "--no-run");
    assertMatch(stderr, /^warning +with it releases\/ has 11\.0 MiB/m);
  });

  it("a command line that it does not know", async () => {
    using box = await repo();
    const rows: [args: string[], message: string][] = [
      [[], "Which FILE"],
      [["out/tool.sh", "more"], 'Unexpected "more"'],
      [["--nosuch", "out/tool.sh"], 'Unknown option "--nosuch"'],
      [["out/tool.sh", "--name"], "--name needs a value"],
      [["list", "--commit"], "--commit does not go with list"],
      [["verify", "--no-run"], "--no-run does not go with verify"],
      [["verify", "--timeout", "soon"], '--timeout is a number of seconds, not "soon"'],
    ];
    for (const [args, message] of rows) assertStringIncludes(await refuses(box, 2, ...args), message);
  });

  it("what is in no repo", async () => {
    using box = new Sandbox("release.ts");
    box.write("tool.sh", program("1.0.0"));
    box.environment = { GIT_CEILING_DIRECTORIES: box.path };
    assertStringIncludes(await box.fails(1, "tool.sh"), "not a git repository");
  });
});

describe("release FILE allows", () => {
  it("a program that was built in the tree and is not committed, and with --allow-dirty all else", async () => {
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

  it("text=auto, which leaves archives alone, and other line ends", async () => {
    using box = await repo();
    box.write(".gitattributes", "* text=auto eol=crlf\n");
    await box.git("add", ".");
    await box.git("commit", "--quiet", "--message=attributes");
    await release(box, "--commit");
    box.remove("releases");
    await box.git("checkout", "--quiet", "releases");
    assertStringIncludes(box.read("releases/SHA256SUMS"), "\r\n");
    assertStringIncludes((await release(box)).stderr, "released already");
    box.write("out/tool.sh", program("1.1.0"));
    await release(box, "--commit");
    assertEquals((await box.run("verify")).status, 0);
    assertEquals(await box.git("status", "--porcelain"), "");
  });

  it("a program by a link, as that of a Nix build", async () => {
    using box = await repo();
    box.link("result", "out/tool.sh");
    const { status, stderr } = await box.run("result");
    assertEquals(status, 0, stderr);
    assertEquals(files(box).at(-1), "result_1.0.0_noarch.tar.gz");
  });

  it("the tag of the release in the URL, and then tells to make it", async () => {
    using box = await repo();
    const { stdout, stderr } = await release(box, "--ref", "tool-v1.0.0");
    assertStringIncludes(stdout, "/raw/tag/tool-v1.0.0/");
    const commands = 'git tag -a -m "release: tool 1.0.0" tool-v1.0.0 && git push origin HEAD tool-v1.0.0';
    assertStringIncludes(stderr, commands);
  });

  it("nothing new to be written for the same content from another branch, and says where the URL works", async () => {
    using box = await repo();
    const { stdout } = await release(box, "--commit");
    await box.git("checkout", "--quiet", "-b", "side");
    const again = await release(box);
    assertStringIncludes(again.stderr, "released already");
    assertEquals(again.stdout, stdout);
    const message = "the URL works when this is on main; you are on side";
    assertStringIncludes((await release(box, "--ref", "main", "-n")).stderr, message);
    assertStringIncludes((await release(box, "--ref", "side")).stdout, "/raw/branch/side/");
  });

  it("a version that the program does not print, and says that the install check will want it", async () => {
    using box = await repo("#!/bin/sh\n");
    const { stderr } = await release(box, "--version", "1.0.0");
    assertStringIncludes(stderr, "the install check of tool.nix runs tool --version");
  });

  it("to be run from within the folder, and says that it is a new one", async () => {
    using box = await repo();
    await release(box);
    box.write("out/tool.sh", program("1.1.0"));
    const cwd = box.at("releases");
    const { status, stderr } = await execute(await box.call("../out/tool.sh"), await box.start({ cwd }));
    assertEquals(status, 0, stderr);
    assertStringIncludes(stderr, `releases/ is a new folder, and you are in the old one: cd "$PWD"`);
  });
});

// ── git ─────────────────────────────────────────────────────────────────────────────────────────────────────────

describe("release FILE --commit", () => {
  it("commits the release and nothing else, tags it, and does neither twice", async () => {
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

  it("goes on where an earlier run ended, and leaves the tag where it is for a second platform", async () => {
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

  it("refuses while another program's tarball, which would be listed, is not committed", async () => {
    using box = await repo();
    await release(box, "--name", "other");
    assertStringIncludes(
      await refuses(box, 1, "out/tool.sh", "--commit"),
      "releases/other_1.0.0_noarch.tar.gz is not committed, and SHA256SUMS, which would be, has it",
    );
  });

  it("finds out when other bytes were committed, and makes no tag then", async () => {
    using box = await repo();
    const path = "releases/tool_1.0.0_noarch.tar.gz";
    box.write(
      ".git/hooks/pre-commit",
      `#!/bin/sh\ngit update-index --cacheinfo 100644,$(echo x | git hash-object -w --stdin),${path}\n`,
    );
    Deno.chmodSync(box.at(".git/hooks/pre-commit"), 0o755);
    assertStringIncludes(
      await box.fails(1, "out/tool.sh", "--commit"),
      `git has committed other bytes than are in ${path}`,
    );
    assertEquals(await box.git("tag"), "");
  });

  it("says what git says when a hook refuses, and can be run again", async () => {
    using box = await repo();
    box.write(".git/hooks/pre-commit", "#!/bin/sh\necho not today >&2\nexit 1\n");
    Deno.chmodSync(box.at(".git/hooks/pre-commit"), 0o755);
    assertStringIncludes(await box.fails(1, "out/tool.sh", "--commit"), "not today");
    box.remove(".git/hooks/pre-commit");
    await release(box, "--commit");
    assertEquals(await box.git("status", "--porcelain"), "");
  });
});

// ── All or nothing ──────────────────────────────────────────────────────────────────────────────────────────────

describe("releases/", () => {
  it("is as before or whole when a run is killed, and the next run leaves nothing behind", async () => {
    using box = await repo();
    await release(box);
    const before = tree(box.at("releases"));
    box.write("out/tool.sh", program("1.1.0", `: '${"x".repeat(1e6)}'\n`));
    await release(box);
    const after = tree(box.at("releases"));
    const [workshop, released] = [box.at(".git/release.ts"), box.at("releases/tool_1.1.0_noarch.tar.gz")];
    let killed = 0;
    for (let round = 0; round < 24; round++) {
      box.remove("releases");
      for (const [path, text] of Object.entries(before)) box.write(`releases/${path}`, text.replace(/^\d+ /, ""));
      const child = await box.spawn("out/tool.sh");
      while (![workshop, released].some(isThere)) await new Promise((go) => setTimeout(go, 0));
      for (const start = performance.now(); performance.now() - start < round / 4;);
      kill(child);
      killed += (await child.status).success ? 0 : 1;
      const now = tree(box.at("releases"));
      assertEquals(now, "tool_1.1.0_noarch.tar.gz" in now ? after : before);
      assertEquals(await box.git("status", "--porcelain"), "?? releases/\n");
    }
    assert(killed > 0, "All were too quick");
    await release(box);
    assertEquals(tree(box.at("releases")), after);
    assertEquals(isThere(workshop), false);
  });

  it("is put in place by two renames where paths cannot be swapped, and put back after a kill between them", async () => {
    using box = await repo();
    await release(box);
    const before = tree(box.at("releases"));
    box.write("out/tool.sh", program("1.1.0"));
    const words = (await box.call("out/tool.sh")).flatMap((word) => word === "-A" ? ["-A", "--deny-ffi"] : [word]);
    const { status, stderr } = await execute(words, await box.start());
    assertEquals(status, 0, stderr);
    assertEquals(files(box).length, 5);
    const after = tree(box.at("releases"));
    assertEquals(isThere(box.at(".git/release.ts")), false);
    // As a kill between the two leaves it.
    for (const [path, text] of Object.entries(before)) {
      box.write(`.git/release.ts/old/${path}`, text.replace(/^\d+ /, ""));
    }
    assertStringIncludes(await refuses(box, 1, "out/tool.sh"), "A run was killed, and left the folder in");
    box.remove("releases");
    await release(box);
    assertEquals(tree(box.at("releases")), after);
  });

  it("loses nothing that somebody writes in it meanwhile", async () => {
    using box = await repo();
    for (let index = 0; index < 2000; index++) box.write(`releases/notes/${index}`, "");
    const child = await box.spawn("out/tool.sh", "--allow-dirty");
    let [written, isOver] = [0, false];
    const ended = child.output().then(() => isOver = true);
    while (!isOver) {
      box.write(`releases/${written++}.md`, "");
      await new Promise((go) => setTimeout(go, 1));
    }
    await ended;
    const notes = files(box).filter((file) => file.endsWith(".md"));
    assertEquals(notes.length, written);
    assert(written > 50, "It was too quick");
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

// ── Nix ─────────────────────────────────────────────────────────────────────────────────────────────────────────

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

// ── verify and list ─────────────────────────────────────────────────────────────────────────────────────────────

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
      `${file}: it is not in SHA256SUMS`,
    ],
    ["one that is gone", (box) => box.remove(`releases/${file}`), `${file}: SHA256SUMS has it, and it is not there`],
    ["one that the record names and that is gone", (box) => {
      box.remove(`releases/${file}`);
      box.write("releases/SHA256SUMS", "");
    }, "tool.json: it names a tarball for noarch, which is not there"],
    ["no gzip file", (box) => box.write(`releases/${file}`, "<html>"), `${file}: it is not a whole gzip file`],
    ["one that is cut short", (box) => {
      box.write(`releases/${file}`, Deno.readFileSync(box.at(`releases/${file}`)).slice(0, -9));
    }, `${file}: it is not a whole gzip file`],
    ["something behind the gzip file", (box) => {
      box.write(`releases/${file}`, new Uint8Array([...Deno.readFileSync(box.at(`releases/${file}`)), 1]));
    }, `${file}: it is not a whole gzip file, and nothing else`],
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
      "tool.json has the size 1",
    ],
    [
      "another hash in the record",
      (box) => edit(box, "releases/tool.json", /sha256-../, "sha256-AA"),
      "tool.json has the hash sha256-AA",
    ],
    [
      "another interpreter in the record",
      (box) => edit(box, "releases/tool.json", '"sh"', '"zsh"'),
      "tool.json has the interpreter zsh, and it is sh",
    ],
    [
      "another version in the record",
      (box) => edit(box, "releases/tool.json", '"1.0.0"', '"0.9.0"'),
      "it is of 0.9.0, and 1.0.0 is there",
    ],
    [
      "a record of something else",
      (box) => edit(box, "releases/tool.json", '"tool"', '"other"'),
      'tool.json: it is of "other"',
    ],
    ["no package", (box) => box.remove("releases/tool.nix"), "tool.nix: it is not there"],
    ["two hashes of one tarball", (box) => {
      box.write("releases/SHA256SUMS", `${box.read("releases/SHA256SUMS")}${"0".repeat(64)}  ${file}\n`);
    }, `SHA256SUMS:2: a second hash of ${file}`],
    ["a record that holds nothing", (box) => box.write("releases/tool.json", "null"), "tool.json is no record"],
    ["a folder in the place of a tarball", (box) => {
      box.remove(`releases/${file}`);
      box.directory(`releases/${file}`);
    }, `${file}: SHA256SUMS has it, and it is not there`],
    ["no record", (box) => box.remove("releases/tool.json"), "tool.json: it is not there"],
    [
      "a record with a merge conflict in it",
      (box) => edit(box, "releases/tool.json", "{", "<<<<<<< HEAD\n{"),
      "tool.json is no record",
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

  it("is content with what is released, by release.ts or by GNU tar, and with nothing", async () => {
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

  it("looks at one program alone where it is named, and knows the others", async () => {
    using box = await repo();
    await release(box);
    await release(box, "--name", "other");
    box.write(`releases/${file}`, "");
    assertEquals((await box.run("verify", "other")).status, 0);
    box.remove(`releases/${file}`);
    assertStringIncludes(await box.fails(1, "verify", "tool"), `${file}: SHA256SUMS has it, and it is not there`);
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
    ["another file", (_, bytes) => new Response(bytes.toReversed()), "gives another content, with the hash sha256-"],
    [
      "a web page",
      () => new Response("<!DOCTYPE html>", { headers: { "content-type": "text/html" } }),
      "gives a web page, of login perhaps",
    ],
    ["a web page that is not called one", () => new Response("\n<html>"), "gives a web page, of login perhaps"],
    ["404", () => new Response("", { status: 404 }), "is not there (404): is it pushed"],
    ["500", () => new Response("", { status: 500 }), "answers 500"],
    ["less", (_, bytes) => new Response(bytes.slice(1)), "bytes of "],
    ["what breaks off", "HTTP/1.1 200 OK\r\ncontent-length: 9999\r\n\r\nxx", "broke off: "],
    ["what is no answer", "SSH-2.0-x\r\n", "cannot be fetched: invalid HTTP version"],
    ["what never ends", () => new Response(endless()), "gives more than the "],
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

describe("list", () => {
  it("prints a table of what is released, by name, the newest first, or the same as JSON", async () => {
    using box = await repo();
    assertEquals((await box.run("list")).stdout, "");
    for (const version of ["1.9.0", "1.10.0", "1.10.0-rc.1"]) {
      box.write("out/tool.sh", program(version));
      await release(box, "--allow-older");
    }
    await release(box, "--name", "another", "--version", "0.1.0", "--no-run");
    const { stdout } = await box.run("list");
    assertEquals(
      stdout.replaceAll(/\d+ B/g, "N").replaceAll(/ +/g, " "),
      [
        "NAME VERSION PLATFORM SIZE\n",
        "another 0.1.0 noarch N newest\n",
        "tool 1.10.0 noarch N newest\n",
        "tool 1.10.0-rc.1 noarch N\n",
        "tool 1.9.0 noarch N\n",
      ].join(""),
    );
    const [first] = JSON.parse((await box.run("list", "--json")).stdout);
    const { size, ...facts } = first;
    const file = "another_0.1.0_noarch.tar.gz";
    assertEquals(size, Deno.statSync(box.at(`releases/${file}`)).size);
    assertEquals(facts, { file, name: "another", newest: true, platform: "noarch", version: "0.1.0" });
  });
});

describe("--help and --version", () => {
  it("are printed on standard output", async () => {
    using box = new Sandbox("release.ts");
    assertMatch((await box.run("--version")).stdout, /^\d+\.\d+\.\d+\n$/);
    assertStringIncludes((await box.run("--help")).stdout, "Usage: deno run -A release.ts FILE");
    assertEquals((await box.run("--help")).stdout, (await box.run("-h")).stdout);
  });
});
