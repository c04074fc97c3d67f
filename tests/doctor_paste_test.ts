/** Tests of `doctor` and `validate` from a pasted copy: which skill-doctor is run, and with which options. */
import { assertEquals } from "jsr:@std/assert@^1";
import { describe, it } from "jsr:@std/testing@^1/bdd";
import { AGENTS } from "../use-skills.ts";
import { readAgentTable } from "./helpers.ts";
import { type Scenario, scenario } from "./scenario.ts";

/** A skill-doctor that prints what it was called with. */
const DOCTOR = `export function main(args, { directory, global }) {
  console.log([...args, "in", directory, ...global ? ["globally"] : []].join(" "));
  return 0;
}
`;

/** Writes a skill-doctor into a directory of skills. */
const withDoctor = (test: Scenario, skills: string) =>
  test.skills(`${skills}/skill-doctor`).write(`${skills}/skill-doctor/scripts/doctor.ts`, DOCTOR);

const HOME_MANIFEST = "/box/home/.config/use-skills/skills";

/** What is said if none is found. */
const missing = (paths: string, checkout?: string) => {
  const wayOut = checkout
    ? `run ${checkout}/use-skills.ts instead, or set SKILLS_PATH=${checkout}/skills`
    : "run the use-skills.ts of a checkout of use-skills, or set SKILLS_PATH to the checkout's skills directory";
  return `use-skills: No skill-doctor at ${paths}: ${wayOut}`;
};

const NEXT = "skills/skill-doctor/scripts/doctor.ts";

describe("a pasted copy runs skill-doctor", () => {
  withDoctor(scenario("from an absolute SKILLS_PATH"), "/box/tools")
    .paste().environment({ SKILLS_PATH: "/box/nothing:/box/tools" })
    .run("doctor").says().prints("show in /box/repo").run("validate", "skills").prints("validate skills in /box/repo");

  withDoctor(scenario("from the home's manifest"), "/box/home/tools")
    .paste().write(HOME_MANIFEST, "for cursor\n~/tools/skill-doctor\n")
    .run("doctor").says().prints("show in /box/repo").run("doctor", "-g").prints("show in /box/home globally");

  withDoctor(scenario("from the home's manifest, under whatever name it has in the project's"), "/box/home/tools")
    .paste().skills("other").write(HOME_MANIFEST, "~/tools/*\n").manifest("other as skill-doctor")
    .run("doctor").says().prints("show in /box/repo");

  withDoctor(scenario("from the manifest of its own project"), "./tools")
    .paste("bin/use-skills.ts").manifest("./tools/skill-doctor for cursor").run("doctor").prints("show in /box/repo")
    .directory("a").from("a").run("doctor").prints("show in /box/repo");

  withDoctor(scenario("next to itself"), "./bin/skills").paste("bin/use-skills.ts").run("doctor").prints(
    "show in /box/repo",
  );

  withDoctor(scenario("with all other options, in their order"), "/box/tools")
    .paste().environment({ SKILLS_PATH: "/box/tools" }).directory("a", "/box/other")
    .run("doctor", "--json").says().prints("show --json in /box/repo")
    .run("--json", "doctor", "-x").prints("show --json -x in /box/repo")
    .run("validate", "--json", "a", "b").prints("validate --json a b in /box/repo")
    .run("-C", "/box/other", "validate", "-q", "a").prints("validate -q a in /box/other")
    .run("validate", "--directory=/box/other", "a").prints("validate a in /box/other")
    .run("doctor", "--global", "--json").prints("show --json in /box/home globally");

  withDoctor(scenario("under direnv, also with options"), "/box/tools")
    .paste().environment({ SKILLS_PATH: "/box/tools", DIRENV_IN_ENVRC: "1" })
    .run("doctor", "--json").prints("show --json in /box/repo");
});

describe("a pasted copy runs no skill-doctor", () => {
  for (const path of ["tools", "./tools", "../repo/tools", "."]) {
    withDoctor(withDoctor(scenario(`from the relative SKILLS_PATH ${path}`), "./tools"), ".")
      .paste("/box/home/bin/use-skills.ts").manifest("skill-doctor").environment({ SKILLS_PATH: path })
      .run("doctor").fails(missing(`~/bin/${NEXT}`)).run("validate", ".").fails(missing(`~/bin/${NEXT}`))
      .paste().manifest("# nothing").run("doctor").fails(missing(NEXT));
  }

  for (const lines of [["./tools/skill-doctor"], ["skill-doctor"], ["./tools/*"]]) {
    withDoctor(withDoctor(scenario(`from a project that it isn't in, which names ${lines[0]}`), "./tools"), "./skills")
      .paste("/box/home/bin/use-skills.ts").manifest(...lines)
      .run("doctor").fails(missing(`~/bin/${NEXT}`))
      .run("validate", "tools/skill-doctor").fails(missing(`~/bin/${NEXT}`));
  }

  withDoctor(scenario("from another project that -C names"), "/box/other/tools")
    .paste().write("/box/other/.skills", "./tools/skill-doctor\n")
    .run("doctor", "-C", "/box/other").fails(missing(`/box/repo/${NEXT}`));

  withDoctor(scenario("from a project into which a link leads to it"), "./tools")
    .write("/box/home/bin/use-skills.ts", "").link("use-skills.ts", "/box/home/bin/use-skills.ts").paste()
    .manifest("./tools/skill-doctor")
    .run("doctor").fails(missing(`~/bin/${NEXT}`));

  scenario("that is missing, and names all places")
    .paste().environment({ SKILLS_PATH: "/box/a:~/b:c:/box/home/d" }).write(HOME_MANIFEST, "~/e/skill-doctor\n")
    .skills("/box/home/e/skill-doctor")
    .run("doctor").fails(missing(
      [NEXT, "/box/a/skill-doctor/scripts/doctor.ts", "~/d/skill-doctor/scripts/doctor.ts"].join(", ") +
        ", ~/e/skill-doctor/scripts/doctor.ts",
    ));

  scenario("without one, and names the checkout that has it")
    .paste().environment({ USE_SKILLS: "/box/home/src/use-skills/use-skills.ts" })
    .skills("/box/home/src/use-skills/skills/skill-doctor")
    .run("doctor").fails(missing(NEXT, "~/src/use-skills"));
});

describe("skill-doctor", () => {
  /** Directories as a shell expands them, with these variables. */
  const expand = (template: string, variables: Record<string, string>) =>
    template.replace(/^\$\{?(\w+)(?::-([^}]+)\})?/, (_, name, fallback) => variables[name] ?? fallback ?? "nowhere")
      .replace(/^(?![~/])/, "~/");
  const environments: Record<string, Record<string, string>> = {
    "": {},
    " with variables": { CLAUDE_CONFIG_DIR: "/claude", CODEX_HOME: "/codex", XDG_CONFIG_HOME: "/config" },
  };
  for (const [where, variables] of Object.entries(environments)) {
    it(`knows that each agent reads the directories that skills are deployed to${where}`, async () => {
      const READ = await readAgentTable();
      const unread = Object.entries(AGENTS).flatMap(([agent, { project, home }]) => {
        const inProject = READ[agent]?.project.split(" ") ?? [];
        const readInHome = READ[agent]?.home.split(" ").map((path) => expand(path, variables)) ?? [];
        const isRead = (path: string) =>
          path.startsWith("$") ? readInHome.includes(expand(path, variables)) : inProject.includes(path);
        const used = project.filter((path) => !path.startsWith("$") || variables["CODEX_HOME"] !== undefined);
        return [
          ...used.filter((path) => !isRead(path)),
          ...home === undefined || readInHome.includes(expand(home, variables)) ? [] : [`~ ${home}`],
        ].map((path) => `${agent}: ${path}`);
      });
      assertEquals(unread, []);
    });
  }
});
