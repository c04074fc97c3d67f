/** The URL of a release. */
import { assertEquals, assertStringIncludes } from "jsr:@std/assert@^1";
import { describe, it } from "jsr:@std/testing@^1/bdd";
import { parseRemote } from "../release.ts";
import { tree } from "./helpers.ts";
import { HTTPS, program, refuses, release, repo } from "./release_box.ts";

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

  it("contains the default branch of origin, otherwise the current one, and uses the forge in git's configuration", async () => {
    using box = await repo(program("1.0.0"), "https://git.example.org/me/tool");
    await box.git("checkout", "--quiet", "-b", "side");
    assertStringIncludes((await release(box, "-n")).stdout, "/raw/branch/side/");
    await box.git("update-ref", "refs/remotes/origin/trunk", "HEAD");
    await box.git("symbolic-ref", "refs/remotes/origin/HEAD", "refs/remotes/origin/trunk");
    assertStringIncludes((await release(box, "-n")).stdout, "/raw/branch/trunk/");
    await box.git("config", "release.forge", "gitlab");
    assertStringIncludes((await release(box, "-n")).stdout, "/-/raw/trunk/");
  });

  it("contains no credentials, nor does any message or file", async () => {
    using box = await repo(program("1.0.0"), "https://me:s3cret@git.example.org/me/tool.git");
    const { stdout, stderr } = await release(box, "--commit");
    assertEquals([stdout, stderr, JSON.stringify(tree(box.at("releases")))].join().match(/s3cret|me:/), null);
    await box.git("remote", "set-url", "origin", "https://me:s3cret/s3cret@git.example.org/tool.git?token=s3cret");
    box.write("out/tool.sh", program("1.0.1"));
    const message = await refuses(box, 1, "out/tool.sh");
    assertStringIncludes(
      message,
      'origin is "https://git.example.org/tool.git", so it determines no URL: set it (git remote), or give --url-base',
    );
  });

  const refused: [what: string, origin: string, args: string[], status: number, message: string][] = [
    ["no origin", "", [], 1, "origin is missing, so it determines no URL"],
    ["a folder", "/srv/tool", [], 1, 'origin is "/srv/tool", so it determines no URL'],
    ["a forge that is not known", HTTPS, ["--forge", "svn"], 2, 'Unknown forge "svn": one of forgejo, gitea'],
    ["a branch that is not there", HTTPS, ["--ref", "nosuch"], 1, 'no branch or tag "nosuch"'],
    ["a base that is no URL", HTTPS, ["--url-base", "example.org"], 2, 'and fragment, not "example.org"'],
    [
      "a base with a password",
      HTTPS,
      ["--url-base", "https://me:s3cret@x.org"],
      2,
      'and fragment, not "https://x.org"',
    ],
    ["a base with a token", HTTPS, ["--url-base", "https://x.org/?t=s3cret"], 2, 'and fragment, not "https://x.org/"'],
    [
      "a name that only ssh knows",
      "git@work:me/tool.git",
      [],
      1,
      'origin is "git@work:me/tool.git", so it determines no URL',
    ],
  ];
  it("is that of the earlier release if origin determines none, as in a clone of a clone", async () => {
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
