/** The archive that `release.ts` writes and reads. */
import { assertEquals, assertThrows } from "jsr:@std/assert@^1";
import { describe, it } from "jsr:@std/testing@^1/bdd";
import { tar, untar } from "../release.ts";
import { requires, Sandbox, succeed } from "./helpers.ts";
import { encode } from "./release_box.ts";

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
    ["an end that is missing", good.slice(0, 1024), "truncated"],
    ["nothing", new Uint8Array(), "no tar archive"],
  ];
  for (const [name, bytes, message] of rows) {
    it(`refuses an archive with ${name}`, () => {
      assertThrows(() => untar(bytes), Error, message);
    });
  }
});
