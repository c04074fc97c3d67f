/** Tests of what killed runs and hostile repos leave around targets, and of skills named like commands. */
import { describe } from "jsr:@std/testing@^1/bdd";
import { scenario } from "./scenario.ts";

describe("use-skills", () => {
  for (const [where, target] of [["outside", "/box/home"], ["to the target's parent", "."]] as const) {
    scenario(`a link at .claude/.use-skills.tmp that leads ${where} deletes nothing`)
      .skills("hq").write("/box/home/skills/mine", "precious").write(".claude/skills/own/SKILL.md", "precious")
      .link(".claude/.use-skills.tmp", target).manifest("hq for claude").do((box) => box.run())
      .is("/box/home/skills/mine", "644 precious").is(".claude/skills/own/SKILL.md", "644 precious");
  }

  for (const files of [[], [".gitignore"]]) {
    scenario(
      `a staging directory with ${files[0] ?? "nothing"} in it is removed by the next run that changes something`,
    )
      .skills("hq", "one").manifest("hq for claude").sync().directory(".claude/.use-skills.tmp")
      .do((box) => files.forEach((file) => box.write(`.claude/.use-skills.tmp/${file}`, "*\n")))
      .manifest("one for claude").sync().lacks(".claude/.use-skills.tmp");
  }

  scenario("a skill named doctor can be added with an option")
    .skills("doctor").run("add", "doctor", "--for", "claude").says(
      "use-skills: added to .skills: doctor for claude",
      "use-skills: linked doctor for claude",
    );
  scenario("a skill named validate can be removed with an option")
    .skills("validate").manifest("validate").sync().run("remove", "validate", "-q").says().is(".skills", "644 ");
  scenario("a directory named doctor can be validated with an option")
    .skills("/box/tools/skill-doctor").write(
      "/box/tools/skill-doctor/scripts/doctor.ts",
      'export const main = (args) => (console.log(args.join(" ")), 0);\n',
    )
    .environment({ SKILLS_PATH: "/box/tools" }).run("validate", "--json", "doctor").prints("validate --json doctor");

  const foreign = 'Deno.writeTextFileSync("/box/foreign", "");\n' +
    "export const [basename, dirname, relative, resolve] = [];\n";
  const environments: Record<string, string>[] = [{}, { DIRENV_IN_ENVRC: "1" }];
  for (const environment of environments) {
    scenario(`doctor runs no code of a deno.json ${Object.keys(environment)}`)
      .skills("/box/tools/skill-doctor").do((box) =>
        box.write(
          `${box.path}/tools/skill-doctor/scripts/doctor.ts`,
          Deno.readTextFileSync(new URL("../skills/skill-doctor/scripts/doctor.ts", import.meta.url)),
        )
      )
      .paste("use-skills.ts", []).write("foreign.ts", foreign)
      .write("deno.json", '{"imports":{"jsr:@std/path@^1/posix":"./foreign.ts"}}')
      .environment({ SKILLS_PATH: "/box/tools", ...environment })
      .do(async (box) => {
        const { environment } = await box.start();
        await new Deno.Command(Deno.execPath(), {
          args: ["run", "-A", "use-skills.ts", "doctor"],
          cwd: box.repo,
          env: environment,
          stderr: "null",
        }).output();
      })
      .lacks("/box/foreign");
  }

  scenario("init updates an earlier block with a quoted path")
    .paste("my tools/use-skills.ts").manifest()
    .write(
      ".envrc",
      `# use-skills: the agents have the skills that .skills names
watch_file .skills
if declare -F require_allowed >/dev/null; then require_allowed .skills; fi
if has deno; then
  deno run -A --no-lock "my tools/use-skills.ts" || log_status "use-skills: not all skills are deployed"
else
  log_status "use-skills: deno is not installed, so no skills are deployed"
fi
`,
    )
    .run("init").says(
      "use-skills: .skills exists already",
      "use-skills: wrote .envrc",
      'use-skills: next: write skills into .skills, then run "direnv allow"',
    );
});
