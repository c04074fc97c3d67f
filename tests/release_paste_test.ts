/** Tests of a pasted release.ts without libraries: alone in a repo, with an empty cache, where no registry answers. */
import { assertEquals } from "jsr:@std/assert@^1";
import { describe, it } from "jsr:@std/testing@^1/bdd";
import { execute, Sandbox, stamps } from "./helpers.ts";

describe("release.ts without libraries", () => {
  for (const args of [[], ["--help"], ["tool"], ["tool", "--dry-run"], ["verify"]]) {
    it(`says what is missing and what to do, and changes nothing: ${args.join(" ") || "no words"}`, async () => {
      using box = new Sandbox("release.ts");
      const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
      const registry = `http://127.0.0.1:${listener.addr.port}/`;
      listener.close();
      box.environment = { JSR_URL: registry, DENO_DIR: `${box.path}/empty`, NO_COLOR: "1" };
      box.write("tool", "#!/bin/sh\necho tool 1.0.0\n");
      const [script = ""] = (await box.call()).slice(-1);
      box.write("release.ts", Deno.readTextFileSync(script));
      const before = stamps(box.repo);
      const call = [Deno.execPath(), "run", "-A", "--no-lock", "--no-config", "release.ts", ...args];
      const { status, stdout, stderr } = await execute(call, await box.start());
      // Several are loaded at once, and the first that fails is named.
      const said = stderr.replaceAll(/^Download .*\n/gm, "").replaceAll(/@std\/(path|semver|fmt|bytes)/g, "@std/cli");
      assertEquals({ status, stdout, stderr: said }, {
        status: 1,
        stdout: "",
        stderr: `release: Cannot load the standard library, which reads options, paths and versions: \
JSR package manifest for '@std/cli' failed to load. Import '${registry}@std/cli/meta.json' failed.
  In a checkout of use-skills, run "npx -y deno task dependencies" once
  A pasted file: run it once with access to JSR, or with "deno run --config CHECKOUT/deno.json"
`,
      });
      assertEquals(stamps(box.repo), before);
    });
  }
});
