/**
 * Real coding agents for the tests: installs them from npm, and says which skills they see.
 *
 * `deno task agents` installs the pinned versions into the user's cache directory and runs the tests that need them.
 * With `--newest`, it takes the latest versions instead; with `--more`, also agents that are not deployed to by default.
 */
import { parseArgs } from "jsr:@std/cli@^1/parse-args";
import { it } from "jsr:@std/testing@^1/bdd";
import { Model } from "./model.ts";

/** The agents, and the versions with which their tests pass. */
export const VERSIONS = {
  claude: ["@anthropic-ai/claude-code", "2.1.332"],
  opencode: ["opencode-ai", "1.18.33"],
  codex: ["@openai/codex", "0.169.0"],
  gemini: ["@google/gemini-cli", "0.61.0"],
  copilot: ["@github/copilot", "1.0.102"],
  qwen: ["@qwen-code/qwen-code", "0.15.10"],
} as const;

export type Agent = keyof typeof VERSIONS;

/** The agents of an entry without `for`. */
export const DEFAULT_AGENTS: readonly Agent[] = ["claude", "opencode", "codex"];
export const MORE_AGENTS: readonly Agent[] = ["gemini", "copilot", "qwen"];

/** Where `deno task agents` says which versions to test: a JSON object. */
const VERSIONS_VARIABLE = "AGENT_VERSIONS";

const cache = Deno.env.get("XDG_CACHE_HOME") || `${Deno.env.get("HOME")}/.cache`;

/** The directory with an agent's program. */
function programDirectory(agent: Agent): string {
  const versions: Partial<Record<Agent, string>> = JSON.parse(Deno.env.get(VERSIONS_VARIABLE) ?? "{}");
  return `${installDirectory(agent, versions[agent] ?? VERSIONS[agent][1])}/node_modules/.bin`;
}

function installDirectory(agent: Agent, version: string): string {
  return `${cache}/use-skills/agents/${agent}-${version}`;
}

/** Whether agents are installed. */
export function areInstalled(agents: readonly Agent[]): boolean {
  return agents.every((agent) => {
    try {
      return Deno.statSync(`${programDirectory(agent)}/${agent}`).isFile;
    } catch {
      return false;
    }
  });
}

/** `it` for tests that need agents. Without them, the tests are skipped by name. */
export function requiresAgents(agents: readonly Agent[]): (name: string, work: () => Promise<void>) => void {
  if (areInstalled(agents)) return (name, work) => void it(name, work);
  const option = agents.some((agent) => MORE_AGENTS.includes(agent)) ? " --more" : "";
  return (name, work) => void it.skip(`${name} (needs deno task agents${option})`, work);
}

/** A `PATH` on which agents are, before everything else that is on it; and `rg`, which OpenCode needs and Codex has. */
export function pathWith(agents: readonly Agent[]): string {
  const directories = agents.map(programDirectory);
  const packages = `${programDirectory("codex")}/../@openai`;
  for (const { name } of areInstalled(["codex"]) ? Deno.readDirSync(packages) : []) {
    const vendor = `${packages}/${name}/vendor`;
    try {
      for (const { name } of Deno.readDirSync(vendor)) directories.push(`${vendor}/${name}/codex-path`);
    } catch { // It is for another platform.
    }
  }
  return [...directories, Deno.env.get("PATH")].join(":");
}

// ── What an agent sees, as it tells its model ───────────────────────────────────────────────────────────────────

/** A skill that an agent tells its model about. */
export interface Told {
  name: string;
  description: string;
}

/** What an agent needs to work with a loopback model: arguments for one prompt, variables, and files in its home. */
export function offline(
  agent: Agent,
  model: Model,
): { environment: Record<string, string>; files: Record<string, string> } {
  switch (agent) {
    case "claude":
      return {
        environment: {
          ANTHROPIC_BASE_URL: model.url,
          ANTHROPIC_API_KEY: "none",
          CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC: "1",
        },
        files: {},
      };
    case "codex":
      return {
        environment: {},
        files: {
          ".codex/config.toml": `model = "model"\nmodel_provider = "loopback"\n\n[model_providers.loopback]\n` +
            `name = "loopback"\nbase_url = "${model.url}/v1"\nwire_api = "responses"\n`,
        },
      };
    case "opencode":
      return {
        environment: { OPENCODE_DISABLE_MODELS_FETCH: "1", OPENCODE_DISABLE_AUTOUPDATE: "1" },
        files: {
          ".config/opencode/opencode.json": JSON.stringify({
            model: "loopback/model",
            provider: {
              loopback: {
                npm: "@ai-sdk/openai-compatible",
                options: { baseURL: `${model.url}/v1` },
                models: { model: {} },
              },
            },
          }),
        },
      };
    default:
      return {
        environment: { OPENAI_BASE_URL: `${model.url}/v1`, OPENAI_API_KEY: "none", OPENAI_MODEL: "model" },
        files: {},
      };
  }
}

/** The skills that Claude Code lists in its first request to the model. */
export function toldByClaude({ requests: [body] }: Model): Told[] {
  type Message = { content: string | { text?: string }[] };
  const texts = (body?.messages as Message[] ?? []).flatMap(({ content }) =>
    typeof content === "string" ? [content] : content.map(({ text = "" }) => text)
  ).join("\n");
  const [, list = ""] = /for use with the Skill tool:\n\n([^]*?)(?=\n<\/system-reminder>|\n\n(?!- )|$)/.exec(texts) ??
    [];
  // "- DIRECTORY: DESCRIPTION", or "- DIRECTORY (NAME): DESCRIPTION" if the front matter has another name.
  return Array.from(list.matchAll(/^- (\S+?)(?: \([^\n]*?\))?(?:: ([^]*?))?$(?=\n- |(?![^]))/gm), (match) => {
    return { name: match[1] ?? "", description: match[2] ?? "" };
  });
}

// ── Installation ────────────────────────────────────────────────────────────────────────────────────────────────

/** How long all downloads together may take, in minutes. */
const MINUTES = 6;

async function run(words: string[], options: Deno.CommandOptions = {}): Promise<boolean> {
  const [program = "", ...args] = words;
  return (await new Deno.Command(program, { args, stdin: "null", ...options }).output()).success;
}

/** Installs a version of an agent, if it isn't yet. Returns whether it is installed. */
async function install(agent: Agent, version: string, signal: AbortSignal): Promise<boolean> {
  const directory = installDirectory(agent, version);
  const name = `${VERSIONS[agent][0]}@${version}`;
  if (areInstalled([agent])) return true;
  const temporary = `${directory}.new`;
  for (let tries = 1; tries <= 3 && !signal.aborted; tries++) {
    console.log(`Installing ${name}`);
    await Deno.remove(temporary, { recursive: true }).catch(() => {});
    await Deno.mkdir(temporary, { recursive: true });
    await Deno.writeTextFile(`${temporary}/package.json`, "{}");
    const options = { cwd: temporary, stdout: "inherit", stderr: "inherit", signal } as const;
    const started = [`${temporary}/node_modules/.bin/${agent}`, "--version"]; // Its own download can fail silently.
    if (
      await run(["npm", "install", "--no-audit", "--no-fund", "--progress", name], options) &&
      await run(started, { stdout: "null", stderr: "null", signal })
    ) {
      await Deno.remove(directory, { recursive: true }).catch(() => {});
      await Deno.rename(temporary, directory);
      return true;
    }
  }
  await Deno.remove(temporary, { recursive: true }).catch(() => {});
  console.log(`${name} could not be downloaded`);
  return false;
}

async function newestVersion(agent: Agent, signal: AbortSignal): Promise<string> {
  const args = ["view", VERSIONS[agent][0], "version"];
  const { stdout } = await new Deno.Command("npm", { args, signal }).output();
  return new TextDecoder().decode(stdout).trim() || VERSIONS[agent][1];
}

async function main(): Promise<number> {
  const { newest, more } = parseArgs(Deno.args, { boolean: ["newest", "more"] });
  const agents = more ? [...DEFAULT_AGENTS, ...MORE_AGENTS] : DEFAULT_AGENTS;
  const versions: Partial<Record<Agent, string>> = {};
  const signal = AbortSignal.timeout(MINUTES * 60_000);
  for (const agent of agents) versions[agent] = newest ? await newestVersion(agent, signal) : VERSIONS[agent][1];
  Deno.env.set(VERSIONS_VARIABLE, JSON.stringify(versions));
  const missing = agents.filter((agent) => !areInstalled([agent]));
  if (missing.length > 0) {
    console.log(`${missing.join(", ")}: about ${150 * missing.length} MB from npm, kept in ${cache}/use-skills/agents`);
  }
  for (const agent of missing) {
    if (!await install(agent, versions[agent]!, signal)) {
      console.log("The registry does not deliver, so the tests with agents are left out");
      return 0;
    }
  }
  for (const agent of agents) {
    const pinned = VERSIONS[agent][1];
    const change = versions[agent] === pinned ? "" : ` (the pinned version is ${pinned})`;
    console.log(`${agent} ${versions[agent]}${change}`);
  }
  // Without a network, agents cannot even try to reach their servers.
  const isolated = ["unshare", "-rn", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"];
  const prefix = await run([...isolated, "true"], { stdout: "null", stderr: "null" }).catch(() => false)
    ? isolated
    : [];
  const tests = [...Deno.readDirSync(import.meta.dirname!)].map(({ name }) => name)
    .filter((name) => /^agents_.*test\.ts$/.test(name)).map((name) => `${import.meta.dirname}/${name}`);
  const words = [...prefix, Deno.execPath(), "test", "-A", "--parallel", ...tests];
  return await run(words, { stdout: "inherit", stderr: "inherit" }) ? 0 : 1;
}

if (import.meta.main) Deno.exit(await main());
