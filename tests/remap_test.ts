/** Tests that a configuration next to a pasted copy can't replace the libraries by other code. */
import { describe } from "jsr:@std/testing@^1/bdd";
import { installed } from "./helpers.ts";
import { type Scenario, scenario } from "./scenario.ts";

const LIBRARY = "jsr:@std/cli@^1/parse-args";

/** Code in place of the library, which leaves a file behind when it is loaded. */
const FOREIGN = 'Deno.writeTextFileSync("/box/foreign", "");\nexport const parseArgs = () => ({ _: [] });\n';

/** A package of the library's name. */
const PACKAGE = JSON.stringify({ name: "@std/cli", version: "1.99.0", exports: { "./parse-args": "./foreign.ts" } });

const MAP = JSON.stringify({ imports: { [LIBRARY]: "./foreign.ts" } });

/** The files of each way to replace the library. */
const REMAPPED: Record<string, Record<string, string>> = {
  "imports": { "deno.json": MAP },
  "imports in deno.jsonc": { "deno.jsonc": `// mine\n${MAP}` },
  "imports above the repo": { "/box/deno.json": JSON.stringify({ imports: { [LIBRARY]: "./repo/foreign.ts" } }) },
  "scopes": { "deno.json": JSON.stringify({ scopes: { "./": { [LIBRARY]: "./foreign.ts" } } }) },
  "importMap": { "deno.json": '{"importMap":"./map.json"}', "map.json": MAP },
  "links": { "deno.json": '{"links":["./cli"]}', "cli/deno.json": PACKAGE, "cli/foreign.ts": FOREIGN },
  "workspace": { "deno.json": '{"workspace":["./cli"]}', "cli/deno.json": PACKAGE, "cli/foreign.ts": FOREIGN },
  "its own name": { "deno.json": PACKAGE },
};

/** A repo with a pasted copy, which is run without `--no-config` unless `options` say otherwise, next to some files. */
function repo(name: string, files: Record<string, string>, options: string[] = []): Scenario {
  const test = scenario(name).paste("use-skills.ts", options).skills("hq").manifest("hq").write("foreign.ts", FOREIGN);
  for (const [path, text] of Object.entries(files)) test.write(path, text);
  return test;
}

/** Writes a `vendor/` with other code in the library's place. */
const vendor = (test: Scenario) =>
  test.write("deno.json", '{"vendor":true}').do(async (box) => {
    const { protocol, host } = new URL((await installed("use-skills.ts")).environment["JSR_URL"] ?? "");
    const folder = `vendor/${protocol}${host}`.replaceAll(":", "_"); // as Deno names it
    const version = "1.99.0";
    const exports = { "./parse-args": "./foreign.ts" };
    const meta = { scope: "std", name: "cli", latest: version, versions: { [version]: {} } };
    box.write(`${folder}/@std/cli/meta.json`, JSON.stringify(meta));
    box.write(`${folder}/@std/cli/${version}_meta.json`, JSON.stringify({ manifest: {}, exports }));
    box.write(`${folder}/@std/cli/${version}/foreign.ts`, box.read("foreign.ts"));
  });

const OPTIONS = [["--dry-run"], ["list", "--json"], ["-C", "."], ["--offline"]];

const LINKED = "use-skills: linked hq for claude, opencode, codex";

/** Under direnv, the skills are deployed without options, and no option is accepted. */
function runUnderDirenv(test: Scenario): void {
  test.environment({ DIRENV_IN_ENVRC: "1" }).sync().says(LINKED).run("check").says();
  for (const options of OPTIONS) {
    test.run(...options).fails(
      'use-skills: Remove the options from .envrc ("use-skills.ts init" updates the block): under direnv, no library ' +
        "is loaded, because a repo could replace it",
    );
  }
  test.lacks("/box/foreign");
}

describe("under direnv, a pasted copy runs no other code", () => {
  for (const [how, files] of Object.entries(REMAPPED)) runUnderDirenv(repo(`because of ${how}`, files));
  runUnderDirenv(vendor(repo("because of vendor", {})));
});

// Without --no-config, Deno runs the other file instead, and the script can do nothing about it.
describe("a pasted copy with --no-config", () => {
  const map = { "deno.json": '{"imports":{"./use-skills.ts":"./foreign.ts"}}' };
  repo("is not replaced itself", map, ["--no-lock", "--no-config"]).sync().says(LINKED).lacks("/box/foreign");
});

describe("a pasted copy with options", () => {
  for (const [how, files] of Object.entries(REMAPPED)) {
    const test = repo(`refuses a library that is replaced by ${how}`, files);
    for (const options of OPTIONS) {
      test.run(...options).fails(`use-skills: A deno.json replaces ${LIBRARY} by other code: run with --no-config`);
    }
    test.sync().says(LINKED).lacks("/box/foreign");

    repo(`uses the right library with --no-config in spite of ${how}`, files, ["--no-lock", "--no-config"])
      .mode("copy").sync("-q").says().has(".claude/skills", { hq: "copy" }).lacks("/box/foreign");
  }

  vendor(repo("uses the right library with --no-config in spite of vendor", {}, ["--no-lock", "--no-config"]))
    .mode("copy").sync("-q").says().has(".claude/skills", { hq: "copy" }).lacks("/box/foreign");

  vendor(repo("cannot know of a changed vendor directory without --no-config", {}))
    .sync("--dry-run").is("/box/foreign", "644 ");
});
