/** What a release refuses. */
import { assertEquals, assertMatch, assertStringIncludes } from "jsr:@std/assert@^1";
import { describe, it } from "jsr:@std/testing@^1/bdd";
import { isThere, requires, Sandbox, succeed, tree } from "./helpers.ts";
import { elf, program, refuses, release, repo } from "./release_box.ts";

describe("release FILE refuses", () => {
  const rows: [what: string, prepare: (box: Sandbox) => unknown, args: string[], status: number, message: string][] = [
    ["a file that is not there", (box) => box.remove("out/tool.sh"), [], 1, "No such file or directory"],
    ["an empty file", (box) => box.write("out/tool.sh", ""), [], 1, "out/tool.sh: it is empty"],
    ["a directory", (box) => (box.remove("out/tool.sh"), box.directory("out/tool.sh")), [], 1, "it is a directory"],
    [
      "a link that leads nowhere",
      (box) => (box.remove("out/tool.sh"), box.link("out/tool.sh", "nowhere")),
      [],
      1,
      "Cannot release out/tool.sh: No such file or directory",
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
    ["a version of two numbers", () => {}, ["--version", "1.0"], 2, 'The version "1.0" is not semantic versioning'],
    ["a version with zeros in front", () => {}, ["--version", "1.0.01"], 2, "is not semantic versioning"],
    [
      "a program that prints a version of two numbers",
      (box) => box.write("out/tool.sh", program("v1.0")),
      [],
      1,
      'The version "1.0" is not semantic versioning',
    ],
    [
      "a program that prints no version, where none is given",
      (box) => box.write("out/tool.sh", "#!/bin/sh\n"),
      [],
      1,
      "The version of tool is unknown: it prints no version for --version. Give --version",
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
      "tool prints several versions, 2.3.4 and 1.0.0: give --version",
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
      "The tag old (--ref) exists without tool_1.0.0_noarch.tar.gz",
    ],
    [
      "no version with --no-run",
      () => {},
      ["--no-run"],
      1,
      "The version of tool is unknown: it was not run (--no-run). Give --version",
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
      "The tag tool-v1.0.0 already exists, on another commit",
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
      "releases must be a directory, and not a link",
    ],
    [
      "a list of hashes with a merge conflict in it",
      (box) => box.write("releases/SHA256SUMS", "<<<<<<< HEAD\n"),
      [],
      1,
      'releases/SHA256SUMS:1: "<<<<<<< HEAD" is not a hash and a file name',
    ],
    [
      "a record that cannot be read",
      (box) => box.write("releases/tool.json", "{"),
      [],
      1,
      "releases/tool.json is not a valid record",
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

  it("to continue if committed files are missing or not checked out", async () => {
    using box = await repo();
    await release(box, "--commit");
    box.write("out/tool.sh", program("1.0.0", "# new\n"));
    box.remove("releases");
    const message = "releases/SHA256SUMS is committed, but missing here: restore it (git restore releases";
    assertStringIncludes(await refuses(box, 1, "out/tool.sh", "--commit"), message);
    await box.git("sparse-checkout", "set", "--no-cone", "/*", "!/releases/");
    assertStringIncludes(await refuses(box, 1, "out/tool.sh", "--allow-dirty"), message);
  });

  it("a tag that is older than its release, with --commit", async () => {
    using box = await repo();
    await box.git("tag", "tool-v1.0.0");
    await release(box);
    assertStringIncludes(await refuses(box, 1, "out/tool.sh", "--commit"), "The tag tool-v1.0.0 already exists");
  });

  it("ignored files, until its advice is followed", async () => {
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

  requires("setpriv")("unreadable and unwritable files, with their paths", async () => {
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
    assertMatch(await run("releases", 0o555), /Cannot write releases\/tool_1.1.0_noarch.tar.gz: Permission denied/);
    box.write("releases/kept/file", "");
    Deno.chmodSync(box.at("releases/kept"), 0o555);
    const { status, stderr } = await box.runUnprivileged("out/tool.sh", "--allow-dirty");
    assertEquals(status, 0, stderr);
    assertEquals((Deno.statSync(box.at("releases/kept")).mode ?? 0) & 0o777, 0o555);
    assertEquals(isThere(box.at(".git/release.ts")), false);
  });

  it("a released version with other content, with any option", async () => {
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
    assertStringIncludes(message, "already released with other content, or another time");
    box.write("out/tool.sh", program("1.0.0"));
    box.environment = { SOURCE_DATE_EPOCH: "0" };
    assertStringIncludes(
      await refuses(box, 1, "out/tool.sh"),
      "another time (SOURCE_DATE_EPOCH): a released version never changes",
    );
  });

  it("a damaged tarball, and a missing one that would get other bytes", async () => {
    using box = await repo();
    await release(box);
    const tarball = "releases/tool_1.0.0_noarch.tar.gz";
    const bytes = Deno.readFileSync(box.at(tarball));
    box.write(tarball, "version https://git-lfs.example.org/spec/v1\n");
    assertStringIncludes(await refuses(box, 1, "out/tool.sh"), `${tarball} does not match its hash in SHA256SUMS`);
    box.remove(tarball);
    box.write("out/tool.sh", program("1.0.0", "# new\n"));
    assertStringIncludes(
      await refuses(box, 1, "out/tool.sh"),
      `${tarball} is missing, and SHA256SUMS has another hash for it`,
    );
    box.write("out/tool.sh", program("1.0.0"));
    await release(box);
    assertEquals(Deno.readFileSync(box.at(tarball)), bytes);
  });

  it("not a tarball that another gzip has packed", async () => {
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

  it("a program that doesn't end", async () => {
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
    assertStringIncludes(message, "forges refuse more than 100 MiB");
    assertEquals(isThere(box.at("releases")), false);
    box.write("out/tool.sh", noise.subarray(0, 11 * 2 ** 20));
    const { stderr } = await release(box, "--version", "1.0.0", "--no-run");
    assertMatch(stderr, /^tarball .* 11 MiB\n(.*\n)*warning +the tarball is large, and every clone/m);
  });

  it("an unknown command line", async () => {
    using box = await repo();
    const rows: [args: string[], message: string][] = [
      [[], "Usage: release.ts FILE (see --help)"],
      [["out/tool.sh", "more"], 'Unexpected "more"'],
      [["--nosuch", "out/tool.sh"], 'Unknown option "--nosuch"'],
      [["out/tool.sh", "--name"], "--name needs a value"],
      [["list", "--commit"], "--commit does not go with list"],
      [["verify", "--no-run"], "--no-run does not go with verify"],
      [["verify", "--timeout", "soon"], '--timeout is a number of seconds, not "soon"'],
    ];
    for (const [args, message] of rows) assertStringIncludes(await refuses(box, 2, ...args), message);
  });

  it("a program outside a repo", async () => {
    using box = new Sandbox("release.ts");
    box.write("tool.sh", program("1.0.0"));
    box.environment = { GIT_CEILING_DIRECTORIES: box.path };
    assertStringIncludes(await box.fails(1, "tool.sh"), "not a git repository");
  });
});
