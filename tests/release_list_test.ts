/** `release.ts list`, `--help` and `--version`. */
import { assertEquals, assertMatch, assertStringIncludes } from "jsr:@std/assert@^1";
import { describe, it } from "jsr:@std/testing@^1/bdd";
import { Sandbox } from "./helpers.ts";
import { program, release, repo } from "./release_box.ts";

describe("list", () => {
  it("prints a table of releases by name, the newest first, or JSON", async () => {
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
    assertEquals((await box.run("--help")).stdout.split("\n").filter((line) => line.length > 80), []);
  });
});
