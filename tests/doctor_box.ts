/** What the tests of skill-doctor share: sandboxes, and ways to run it in them. */
import { assertEquals } from "jsr:@std/assert@^1";
import { Sandbox } from "./helpers.ts";

/** A sandbox whose runs know only the file system. */
export const direct = () => new Sandbox("skills/skill-doctor/scripts/doctor.ts");

/** A sandbox whose runs compare with the manifest. */
export const withManifest = () => new Sandbox("use-skills.ts", "skill-doctor");

/** Runs the doctor; returns the problems that it prints. */
export async function doctor(box: Sandbox, ...args: string[]): Promise<string> {
  const command = box.program === "use-skills.ts" ? "doctor" : "show";
  const { status, stderr } = await box.run(command, ...args);
  assertEquals(status, stderr === "" ? 0 : 1, stderr);
  return stderr;
}
