/** What the tests of skills from git servers share: a server with a repo, and a sandbox whose git finds it. */
import { type FileContent, Forge, type ForgeOptions } from "./forge.ts";
import { deployed, execute, isThere, type Result, Sandbox, skillText, succeed, tree } from "./helpers.ts";

/** The prefixes of the addresses that lead to the server. */
const SITES = [
  "https://github.com/",
  "https://gitlab.com/",
  "https://codeberg.org/",
  "https://git.example.org/",
  "git@git.example.org:",
];

/** The files of a repo with one valid skill. */
export const PDF: Record<string, FileContent> = {
  "skills/pdf/SKILL.md": skillText("pdf"),
  "skills/pdf/run.sh": { executable: "#!/bin/sh\n" },
};

/** The agents of an entry without `for`, as reports name them. */
export const AGENTS = "claude, opencode, codex";

/** Files of skills with these names, below a directory. */
export function skillFiles(directory: string, names: readonly string[]): Record<string, FileContent> {
  return Object.fromEntries(names.map((name) => [`${directory}/${name}/SKILL.md`, skillText(name)]));
}

/** Names such as `skill-0` to `skill-149`. */
export function manyNames(count: number): string[] {
  return Array.from({ length: count }, (_, index) => `skill-${index}`);
}

/** Bytes that cannot be compressed. */
export function noise(length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  for (let at = 0; at < length; at += 65536) crypto.getRandomValues(bytes.subarray(at, at + 65536));
  return bytes;
}

/** A server with the repo `team/skills`, tagged `v1`, and a sandbox whose git reaches it under the known addresses. */
export class Setting implements AsyncDisposable {
  private constructor(readonly forge: Forge, readonly box: Sandbox) {}

  static async start(
    files: Record<string, FileContent> = PDF,
    options: ForgeOptions = {},
    box = new Sandbox(),
  ): Promise<Setting> {
    const forge = await Forge.start(options);
    await forge.commit("team/skills", files, { tag: "v1" });
    const setting = new Setting(forge, box);
    setting.configure("");
    return setting;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.box[Symbol.dispose]();
    await this.forge[Symbol.asyncDispose]();
  }

  /** Writes the user's git configuration: what leads to the server, and more. */
  configure(more: string, home = this.box.home): void {
    this.box.write(`${home}/.gitconfig`, this.forge.config(...SITES) + more);
  }

  /** Like another machine: nothing is fetched or deployed, the project is the same. */
  forgetAll(): void {
    for (const path of [`${this.box.home}/.local`, `${this.box.home}/.cache`, ".claude", ".opencode", ".agents"]) {
      // Not removed: what a killed run started may still write there.
      if (isThere(this.box.at(path))) Deno.renameSync(this.box.at(path), `${this.box.path}/${crypto.randomUUID()}`);
    }
    this.forge.requests = [];
    this.forge.bytes = 0;
  }

  /** The entries of the lockfile. */
  get locked(): Record<string, Record<string, string>> {
    const { version: _, ...entries } = JSON.parse(this.box.read(".skills.lock"));
    return entries;
  }

  /** The deployed skills: where the links of the first target lead. */
  get links(): Record<string, string> {
    return deployed(this.box.at(".claude/skills"));
  }

  /** The path of the store. */
  get storePath(): string {
    return `${this.box.home}/.local/share/use-skills/store`;
  }

  /** What is in the store, by path. */
  get store(): Record<string, string> {
    return isThere(this.storePath) ? tree(this.storePath) : {};
  }

  /** The path of the directory with a cache for each repo. */
  get cachePath(): string {
    return `${this.box.home}/.cache/use-skills/git`;
  }

  /** What is in the caches, by path. */
  get cachedPaths(): string[] {
    return isThere(this.cachePath) ? listPaths(this.cachePath) : [];
  }

  /** The commit or tree that a name stands for on the server. */
  async hash(name: string, repo = "team/skills"): Promise<string> {
    return (await this.forge.git(repo, "rev-parse", name)).trim();
  }

  /** Has every call of git recorded from now on; returns a function that gives the calls since it was last called. */
  async recordGit(): Promise<() => string[]> {
    const real = (await succeed(["sh", "-c", "command -v git"])).trim();
    const log = `${this.box.path}/git.log`;
    this.box.write(`${this.box.path}/bin/git`, `#!/bin/sh\necho "$*" >> '${log}'\nexec '${real}' "$@"\n`);
    Deno.chmodSync(`${this.box.path}/bin/git`, 0o755);
    this.box.environment = { ...this.box.environment, PATH: `${this.box.path}/bin:${Deno.env.get("PATH")}` };
    return () => {
      const calls = isThere(log) ? Deno.readTextFileSync(log).trimEnd().split("\n") : [];
      Deno.writeTextFileSync(log, "");
      return calls.map((call) => call.replace(/(^| )-c \S+=\S*( \S*-o\S+)*/g, "").trim());
    };
  }

  /** Runs the script on a terminal; everything it prints is in `stdout`. */
  async runOnTerminal(...args: string[]): Promise<Result> {
    const words = (await this.box.call(...args)).map((word) => `'${word}'`).join(" ");
    return await execute(["script", "-qec", words, "/dev/null"], await this.box.start());
  }
}

/** The paths of everything below a directory, without reading any file. */
function listPaths(directory: string, prefix = ""): string[] {
  return [...Deno.readDirSync(`${directory}/${prefix}`)].flatMap(({ name, isDirectory }) =>
    isDirectory ? [prefix + name, ...listPaths(directory, `${prefix}${name}/`)] : [prefix + name]
  );
}
