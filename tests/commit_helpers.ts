/** What the tests of `mode commit` share: a committed deployment, and a clone of it on another machine. */
import { PDF, Setting } from "./git_helpers.ts";
import type { Sandbox } from "./helpers.ts";

export const TARGETS = [".claude/skills", ".opencode/skills", ".agents/skills"];

/** What a target contains for git. */
export const ATTRIBUTES = "# Written by use-skills\n* -text -filter -ident -working-tree-encoding\n";

/** The part of a lockfile's line that names where skills are deployed. */
export function targets(...names: string[]): string {
  return `"targets":${JSON.stringify(Object.fromEntries(TARGETS.toSorted().map((target) => [target, names])))}`;
}

/** A project in git with a skill of its own, one from a server, and one from the home, all deployed and committed. */
export async function start(...more: string[]): Promise<Setting> {
  const setting = await Setting.start({ ...PDF, "skills/pdf/crlf": "a\r\n", "skills/pdf/link": { link: "run.sh" } });
  const { box } = setting;
  await box.git("init", "-q", "-b", "main");
  box.skills("hq", `${box.home}/notes/style`);
  box.manifest("mode commit", "./skills/hq", "team/skills/skills/pdf", "~/notes/style", ...more);
  await box.done();
  await commit(box, "deploy");
  return setting;
}

export async function commit(box: Sandbox, message: string): Promise<void> {
  await box.git("add", "--all");
  await box.git("commit", "-qm", message);
}

/** Goes over to a clone on another machine: another path, home and umask, and no network. */
export function cloneElsewhere(setting: Setting): Sandbox {
  const { box } = setting;
  new Deno.Command("sh", { args: ["-c", `umask 077; git clone -q . ${box.path}/clone`], cwd: box.repo }).outputSync();
  box.enter("clone");
  box.directory(`${box.path}/elsewhere`);
  box.environment = { HOME: `${box.path}/elsewhere`, XDG_CONFIG_HOME: `${box.path}/none` };
  setting.forge.requests = [];
  return box;
}
