/** Tests of `init`: the manifest and the block for `.envrc`. */
import { assertEquals, assertMatch } from "jsr:@std/assert@^1";
import { describe } from "jsr:@std/testing@^1/bdd";
import { parseManifest } from "../use-skills.ts";
import { succeed } from "./helpers.ts";
import { scenario } from "./scenario.ts";

const wrote = [
  "use-skills: wrote .skills",
  "use-skills: wrote .envrc",
  "use-skills: next: export USE_SKILLS with the path of use-skills.ts, which is outside your home",
  'use-skills: next: write skills into .skills, then run "direnv allow"',
];

const OTHERWISE = ".envrc is a link, or calls use-skills in another way: change it to contain this";

/** The lines of the block that call the script. */
const block = (call: string, asked = ".skills") =>
  `# use-skills: deploy the skills that .skills names
watch_file .skills .skills.lock .skills.local
if ! has deno; then
  log_status "use-skills: deno is not installed, so no skills are deployed"
elif declare -F require_allowed >/dev/null; then
  require_allowed ${asked} $(ls .skills.lock .skills.local 2>/dev/null)
  SKILLS_ALLOWED=1 deno run -A --no-lock --no-config ${call} || log_status "use-skills: not all skills are deployed"
else # this direnv can't ask you about a changed .skills, so nothing new is fetched
  deno run -A --no-lock --no-config ${call} || log_status "use-skills: not all skills are deployed"
fi
`;

/** The blocks of earlier versions that call a script. */
const earlierBlocks = (call: string) => {
  const run = `deno run -A --no-lock ${call} || log_status "use-skills: not all skills are deployed"`;
  const asking = (lines: string) =>
    `# use-skills: the agents have the skills that .skills names
watch_file .skills
watch_file .skills.lock
if ! has deno; then
  log_status "use-skills: deno is not installed, so no skills are deployed"
elif declare -F require_allowed >/dev/null; then
  ${lines}
  ${run}
else # this direnv cannot ask you about a changed .skills, so nothing new is fetched
  ${run.replace(" ||", " sync --frozen ||")}
fi
`;
  const withoutLocal = block(call, call.includes("$") ? ".skills" : `.skills ${call}`)
    .replace("$(ls .skills.lock .skills.local 2>/dev/null)", "$([ ! -e .skills.lock ] || echo .skills.lock)")
    .replace("watch_file .skills .skills.lock .skills.local", "watch_file .skills .skills.lock");
  return [
    withoutLocal,
    `# use-skills: the agents have the skills that .skills names
watch_file .skills
if declare -F require_allowed >/dev/null; then require_allowed .skills; fi
if has deno; then
  ${run}
else
  log_status "use-skills: deno is not installed, so no skills are deployed"
fi
`,
    asking("require_allowed .skills .skills.lock"),
    asking('for file in .skills .skills.lock; do if [ -e "$file" ]; then require_allowed "$file"; fi; done'),
    asking(
      "if [ -e .skills.lock ]; then require_allowed .skills .skills.lock; else require_allowed .skills; fi",
    ),
  ];
};

/** Bytes that are not UTF-8, and then a text. */
const latin = (text: string) => new Uint8Array([0x23, 0xe9, 0x0a, ...new TextEncoder().encode(text)]);

describe("init", () => {
  const outside = block('"${USE_SKILLS:-$HOME/use-skills/use-skills.ts}"');

  scenario("writes a manifest of comments, and the block for .envrc")
    .run("init").says(...wrote).is(".envrc", `644 ${outside}`)
    .do((box) => assertEquals(parseManifest(box.read(".skills")), { mode: "link", entries: [], errors: [] }))
    .do((box) => assertMatch(box.read(".skills"), /^(#.*\n)+$/))
    .sync().says().remember()
    .run("init").says("use-skills: .skills exists already", "use-skills: .envrc is up to date").untouched();

  for (const text of ["export A=1\n", "export A=1"]) {
    scenario(`keeps what is in .skills and in an .envrc ${text.endsWith("\n") ? "with" : "without"} a last line end`)
      .skills("hq").manifest("hq").write(".envrc", text)
      .run("init").says("use-skills: .skills exists already", ...wrote.slice(1))
      .is(".skills", "644 hq\n").is(".envrc", `644 export A=1\n\n${outside}`);
  }

  scenario("keeps what isn't UTF-8 in .envrc")
    .do((box) => Deno.writeFileSync(box.at(".envrc"), new Uint8Array([0x23, 0xe9, 0x0a]))).run("init", "-q").says()
    .do((box) => assertEquals([...Deno.readFileSync(box.at(".envrc")).subarray(0, 4)], [0x23, 0xe9, 0x0a, 0x0a]));

  scenario("does not rewrite an .envrc that isn't UTF-8")
    .do((box) => Deno.writeFileSync(box.at(".envrc"), latin(earlierBlocks("use-skills.ts")[0]!))).paste().manifest()
    .run("init", "-q").fails(OTHERWISE, "", ...block("use-skills.ts", ".skills use-skills.ts").split("\n"))
    .do((box) => assertEquals(Deno.readFileSync(box.at(".envrc")), latin(earlierBlocks("use-skills.ts")[0]!)));

  scenario("prints the block if .envrc isn't a regular file")
    .write("rc", "mine\n").link(".envrc", "rc")
    .run("init").fails(
      wrote[0]!,
      OTHERWISE,
      "",
      ...outside.split("\n"),
    )
    .is("rc", "644 mine\n");

  scenario("only says what it would write with --dry-run")
    .remember().run("init", "--dry-run").says(...wrote.map((line) => line.replace(": wrote", ": would write")))
    .untouched();

  scenario("says nothing with --quiet").run("init", "-q").says().is(".envrc", `644 ${outside}`);

  scenario("works at the root of the repo")
    .directory(".git", "a").from("a").run("init").is(".envrc", `644 ${outside}`).lacks("a/.skills", "a/.envrc");

  scenario("refers to a script in the home by its path there")
    .paste("/box/home/src/tools/use-skills.ts").run("init").says(wrote[0]!, wrote[1]!, wrote[3]!)
    .is(".envrc", `644 ${block('"${USE_SKILLS:-$HOME/src/tools/use-skills.ts}"')}`);

  scenario("refers to a pasted script by its path in the repo, and has direnv ask about it")
    .paste("tools/use-skills.ts").run("init").says(wrote[0]!, wrote[1]!, wrote[3]!)
    .is(".envrc", `644 ${block("tools/use-skills.ts", ".skills tools/use-skills.ts")}`);

  scenario("quotes the path of a pasted script if the shell needs it")
    .paste("my tools/$x/use-skills.ts").run("init")
    .is(".envrc", `644 ${block('"my tools/\\$x/use-skills.ts"', '.skills "my tools/\\$x/use-skills.ts"')}`)
    .do((box) => succeed(["bash", "-n", box.at(".envrc")]));

  scenario("says what is wrong with a home to which it can't write")
    .write("/box/home/.config", "").run("init", "--global").fails(
      "use-skills: Cannot write /box/home/.config/use-skills/skills (see HOME and the XDG variables): Not a directory",
    );

  scenario("writes the home's manifest with --global")
    .run("init", "--global").says("use-skills: wrote ~/.config/use-skills/skills").lacks(
      ".skills",
      ".envrc",
      "/box/home/.envrc",
    )
    .run("init", "-g").says("use-skills: ~/.config/use-skills/skills exists already");
});

describe("init, if .envrc has an earlier block,", () => {
  const kept = "use-skills: .skills exists already";
  const scripts: [what: string, script: string, call: string, asked: string][] = [
    ["pasted", "use-skills.ts", "use-skills.ts", ".skills use-skills.ts"],
    ["pasted below the repo's root", "tools/use-skills.ts", "tools/use-skills.ts", ".skills tools/use-skills.ts"],
    [
      "called",
      "/box/home/use-skills/use-skills.ts",
      '"${USE_SKILLS:-$HOME/use-skills/use-skills.ts}"',
      ".skills",
    ],
  ];
  for (const [what, script, call, asked] of scripts) {
    const now = block(call, asked);
    for (const [index, earlier] of earlierBlocks(call).entries()) {
      scenario(`updates block ${index + 1} for a ${what} script, and keeps the other lines`)
        .paste(script).manifest().write(".envrc", `export A=1\n\n${earlier}export B=2\n`)
        .run("init").says(kept, "use-skills: wrote .envrc", wrote.at(-1)!)
        .is(".envrc", `644 export A=1\n\n${now}export B=2\n`)
        .remember().run("init").says(kept, "use-skills: .envrc is up to date").untouched();
    }

    const earlier = earlierBlocks(call).at(-1)!;
    const changes: Record<string, (text: string) => string> = {
      "another message": (text) => text.replaceAll("not all skills", "some skills aren't"),
      "another option": (text) => text.replaceAll("--frozen", "--offline"),
      "a line more": (text) => text.replace("\nelif", "\n  export A=1\nelif"),
      "a comment out": (text) => text.replace(/ # this .*/, ""),
    };
    for (const [how, change] of Object.entries(changes)) {
      scenario(`prints the block for a ${what} script if a person changed the earlier one: ${how}`)
        .paste(script).manifest().write(".envrc", `${change(earlier)}export B=2\n`).remember()
        .run("init").fails(kept, OTHERWISE, "", ...now.split("\n"))
        .untouched();
    }
  }

  const [, , call, asked] = scripts[2]!;
  scenario("replaces it by one for a script that was pasted meanwhile")
    .paste().manifest().write(".envrc", earlierBlocks(call).at(-1)!)
    .run("init").is(".envrc", `644 ${block("use-skills.ts", ".skills use-skills.ts")}`);

  scenario("only says so with --dry-run, and nothing with --quiet")
    .paste(scripts[2]![1]).manifest().write(".envrc", earlierBlocks(call)[0]!).remember()
    .run("init", "-n").says(kept, "use-skills: would write .envrc", wrote.at(-1)!).untouched()
    .run("init", "-q").says().is(".envrc", `644 ${block(call, asked)}`);
});

describe("init, if .envrc calls use-skills in another way,", () => {
  for (const line of ["deno run -A use-skills.ts", '"$USE_SKILLS" || true', "  has deno && ~/bin/use-skills.ts sync"]) {
    scenario(`as ${line.trim()}, prints the block`)
      .paste().manifest().write(".envrc", `${line}\n`).remember()
      .run("init").fails(
        "use-skills: .skills exists already",
        OTHERWISE,
        "",
        ...block("use-skills.ts", ".skills use-skills.ts").split("\n"),
      )
      .untouched();
  }

  scenario("only in a comment, adds the block")
    .paste().manifest().write(".envrc", "# deno run -A use-skills.ts\n")
    .run("init").is(
      ".envrc",
      `644 # deno run -A use-skills.ts\n\n${block("use-skills.ts", ".skills use-skills.ts")}`,
    );
});
