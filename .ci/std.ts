/**
 * Makes the standard library available, so that every task of `deno.json` works on a fresh machine.
 *
 * The scripts and the tests import `jsr:@std/...`, and `"vendor": true` has Deno keep what it fetches in
 * `vendor/`. Where JSR can be reached, Deno fetches them. Where only npm can, for example behind a mirror of
 * npm packages, `vendor/` gets the same code from two npm packages, compiled to JavaScript and laid out
 * as Deno lays out what it has fetched. It is removed as soon as JSR can be reached.
 *
 * This file imports nothing, because it runs before anything can be imported.
 */

const root = decodeURIComponent(new URL("..", import.meta.url).pathname);
const vendor = `${root}vendor`;

/** Where `vendor/` is built, and removed: next to it, so that one rename does either. */
const staging = `${root}vendor.new`;

/** Where JSR is, if it is not where Deno looks by itself. Each registry has a folder in `vendor/`. */
const registry = Deno.env.get("JSR_URL") ?? "";

/** Says where the code in a `vendor/` is from. Written last: without it, `vendor/` is not complete. */
const stamp = "filled.json";

interface Stamp {
  from: "JSR" | "npm";
  registry: string;
  /** What the scripts and the tests imported at that time. */
  imports: string[];
}

/** How long to wait for an answer. Behind a dead network, every task waits this long for JSR. */
const seconds = { jsr: 3, npm: 60 };

/** `std` has most packages, without types; `sandbox` has types, and `@std/fs`, which the other lacks. */
const packages = {
  std: {
    name: "deno-std@1.4.0",
    tarball: "deno-std-1.4.0.tgz",
    sha512: "7c0Y6tyn0Sx0NKiaAeGtDwrpG+C7VFcOStVcYXPnjAuIEonxzVV+n6s8iuFjg6keqzxo/zrPbR/J9EY9BLNsRA==",
  },
  sandbox: {
    name: "@deno/sandbox@0.13.2",
    tarball: "deno-sandbox-0.13.2.tgz",
    sha512: "hteIwQ/mqkJHLrxtcONSCntziOAEWZz0Q2m/Ps4E+HjimLaQxsqpBU0Xn6hin23yf2wOCls336PG9epbMliUOQ==",
  },
};

/** The version that npm's code goes by: within every `^1`, and in a stack trace plainly no release. */
const version = "1.99.0";

/** No npm package has `@std/testing`, but Deno's own `node:test` has what the tests use of its `bdd`. */
const bdd = `export {
  after, after as afterAll, afterEach, before, before as beforeAll, beforeEach, describe, it, test,
} from "node:test";
`;

/**
 * Types of what comes without them. Everything else there is `any`, which does for a call, but not for
 * what narrows (`assert`), what never returns (`fail`), and a result whose parts are used (`parseArgs`).
 */
const handwrittenTypes: Record<string, string> = {
  "assert/assert.js": `
    export function assert(expression: unknown, message?: string): asserts expression;`,
  "assert/exists.js": `
    export function assertExists<T>(actual: T, message?: string): asserts actual is NonNullable<T>;`,
  "assert/fail.js": `
    export function fail(message?: string): never;`,
  "assert/instance_of.js": `
    export function assertInstanceOf<T extends abstract new (...args: any[]) => any>(
      actual: unknown, type: T, message?: string): asserts actual is InstanceType<T>;`,
  "assert/unreachable.js": `
    export function unreachable(reason?: string): never;`,
  "cli/parse_args.js": `
    type Names<T> = boolean | T | readonly T[];
    export function parseArgs<
      const B extends string = never, const S extends string = never, const C extends string = never,
    >(args: readonly string[], options?: {
      boolean?: Names<B>, string?: Names<S>, collect?: Names<C>, negatable?: Names<string>,
      default?: Record<string, unknown>, alias?: Record<string, Names<string>>,
      stopEarly?: boolean, "--"?: boolean,
      unknown?: (arg: string, key?: string, value?: unknown) => unknown,
    }): { [K in B]: boolean } & { [K in Exclude<S, C>]?: string } & { [K in C]: string[] } &
      { _: (string | number)[], [name: string]: any };`,
};

// -------------------------------------------------------------------------------------- What is imported

/** The scripts and the tests of this repo. */
function entryPoints(): string[] {
  const filesIn = (folder: string) =>
    exists(root + folder) ? Array.from(Deno.readDirSync(root + folder), ({ name }) => `${folder}/${name}`) : [];
  const skills = filesIn("skills").flatMap((skill) => filesIn(`${skill}/scripts`));
  return ["use-skills.ts", "release.ts", ...skills, ...filesIn("tests")]
    .filter((path) => path.endsWith(".ts"))
    .map((path) => root + path)
    .filter(exists);
}

/** What they import. A name that only stands in a comment is taken for an import; that does no harm. */
function wantedImports(): string[] {
  const text = entryPoints().map((path) => Deno.readTextFileSync(path)).join("\n");
  return [...new Set(text.match(/jsr:@std\/[^"'`\s]+/g))].sort();
}

function readStamp(): Stamp | undefined {
  try {
    return JSON.parse(Deno.readTextFileSync(`${vendor}/${stamp}`));
  } catch {
    return undefined; // Not there, or cut short by a kill.
  }
}

function writeStamp(folder: string, from: Stamp["from"]): void {
  const content: Stamp = { from, registry, imports: wantedImports() };
  write(`${folder}/${stamp}`, JSON.stringify(content));
}

/** Whether all that is wanted is there, and is not npm's while JSR can be reached. */
async function isDone(): Promise<boolean> {
  const stamp = readStamp();
  if (stamp?.registry !== registry) return false;
  if (stamp.from === "npm") return await askJsr() !== undefined;
  return wantedImports().every((name) => stamp.imports.includes(name));
}

// ------------------------------------------------------------------------------------------- From JSR

/** Has Deno ask JSR, which only Deno knows where to find; gives what went wrong, if anything did. */
async function askJsr(): Promise<string | undefined> {
  const cache = Deno.makeTempDirSync();
  const args = ["cache", "--quiet", "--no-config", "--no-lock", "jsr:@std/internal@^1/os"];
  const problem = await run(Deno.execPath(), args, { env: { DENO_DIR: cache }, seconds: seconds.jsr });
  remove(cache);
  return problem;
}

/** Has Deno fetch what the scripts and the tests import. */
async function fillFromJsr(): Promise<void> {
  if (readStamp()?.from === "npm") {
    remove(staging);
    Deno.renameSync(vendor, staging);
    remove(staging);
  }
  const args = ["cache", ...entryPoints()];
  const { success } = await new Deno.Command(Deno.execPath(), { args, cwd: root }).spawn().status;
  if (!success) Deno.exit(1); // Deno itself has said why.
  writeStamp(vendor, "JSR");
}

// ------------------------------------------------------------------------------------------- From npm

/** The files of each `@std` package, by their path in it. */
type Packages = Map<string, Map<string, string>>;

/** Builds a `vendor/` from the npm packages; gives what went wrong, if anything did. */
async function fillFromNpm(): Promise<string | undefined> {
  remove(staging);
  try {
    const problem = await download();
    if (problem !== undefined) return problem;

    const dependencies = `${staging}/sandbox/esm/deps`;
    const [host] = [...Deno.readDirSync(dependencies)].map(({ name }) => name);
    const found: Packages = new Map([["testing", new Map([["bdd.js", bdd]])]]);
    collect(`${staging}/std`, found);
    collect(`${dependencies}/${host}/@std`, found);

    const scope = `${staging}/vendor/${vendorFolder(registry || `https://${host}`)}/@std`;
    for (const [name, files] of found) await layOut(`${scope}/${name}`, name, files);
    writeStamp(`${staging}/vendor`, "npm");
    remove(vendor);
    Deno.renameSync(`${staging}/vendor`, vendor);
  } finally {
    remove(staging);
  }
}

/** Downloads the npm packages, each into a directory in the staging directory; gives what went wrong, if anything did. */
async function download(): Promise<string | undefined> {
  for (const folder of Object.keys(packages)) Deno.mkdirSync(`${staging}/${folder}`, { recursive: true });
  const options = { cwd: staging, seconds: seconds.npm };
  const names = Object.values(packages).map(({ name }) => name);
  // By itself, npm keeps trying for minutes where nobody answers.
  const impatience = ["--fetch-retries=1", "--fetch-retry-mintimeout=500", "--fetch-timeout=10000"];
  const problem = await run("npm", ["pack", ...impatience, ...names], options);
  if (problem !== undefined) return problem;

  for (const [folder, { name, tarball, sha512 }] of Object.entries(packages)) {
    const hash = await crypto.subtle.digest("SHA-512", Deno.readFileSync(`${staging}/${tarball}`));
    if (new Uint8Array(hash).toBase64() !== sha512) return `${name} is not what it was: its hash differs`;
    const problem = await run("tar", ["-xzf", tarball, "-C", folder, "--strip-components=1"], options);
    if (problem !== undefined) return problem;
  }
}

/** Adds the `@std` packages below `folder` to `found`; a file that is there already is replaced. */
function collect(folder: string, found: Packages): void {
  for (const path of filesBelow(folder)) {
    const { name, file } = split(path);
    if (file === undefined || !/\.(js|d\.ts)$/.test(file)) continue;
    const files = found.get(name) ?? new Map<string, string>();
    found.set(name, files.set(file, adapt(Deno.readTextFileSync(`${folder}/${path}`), path)));
  }
}

/** Takes `path/1.1.4/posix/join.js`, or the same without the version, apart. */
function split(path: string): { name: string; file?: string } {
  const [name, ...rest] = path.split("/").filter((part) => !/^\d/.test(part));
  return { name: kebab(name!), file: rest.length > 0 ? rest.join("/") : undefined };
}

/** Makes imports of other packages `jsr:` specifiers, and takes out what emulates Deno on Node. */
function adapt(text: string, path: string): string {
  return text
    .replace(/^import \* as dntShim .*\n/m, "")
    .replaceAll("dntShim.dntGlobalThis", "globalThis")
    .replaceAll("dntShim.Deno", "Deno")
    .replace(/(?<= from ")\.[^"]+(?=")/g, (specifier) => {
      const { name, file } = split(new URL(specifier, `file:///${path}`).pathname.slice(1));
      if (file === undefined || name === split(path).name) return specifier;
      return `jsr:@std/${name}@^1${exportName(file).slice(1)}`;
    });
}

/**
 * Writes a package as Deno keeps it, which is also how JSR serves it. Deno keeps a file whose name has more
 * than 30 characters under a hash; a few modules have such names (`@std/streams`), and are not found here.
 */
async function layOut(folder: string, name: string, files: Map<string, string>): Promise<void> {
  const manifest: Record<string, { size: number; checksum: string }> = {};
  const exports: Record<string, string> = {};
  const add = async (file: string, text: string) => {
    const bytes = new TextEncoder().encode(text);
    const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
    manifest[`/${file}`] = { size: bytes.length, checksum: `sha256-${hash.toHex()}` };
    write(`${folder}/${version}/${file}`, text);
  };
  for (const [file, text] of files) {
    if (!file.endsWith(".js")) continue;
    if (!/(^|\/)_/.test(file)) exports[exportName(file)] = `./${file}`;
    const declarations = file.replace(/\.js$/, ".d.ts");
    const types = files.get(declarations) ?? typesOf(`${name}/${file}`, text);
    if (types === "") {
      await add(file, text);
    } else {
      await add(declarations, types);
      await add(file, `// @ts-self-types="./${declarations.split("/").at(-1)}"\n${text}`);
    }
  }
  const versions = { [version]: {} };
  write(`${folder}/meta.json`, JSON.stringify({ scope: "std", name, latest: version, versions }));
  write(`${folder}/${version}_meta.json`, JSON.stringify({ manifest, exports }));
}

/** Declares what an untyped module exports. One that only passes on what others export needs nothing. */
function typesOf(path: string, text: string): string {
  if (path in handwrittenTypes) return handwrittenTypes[path]!;
  const names = text.matchAll(/^export (?:async )?(?:function\*?|const|class) (\w+)/gm);
  return [...names].map(([, name]) => `export const ${name}: any;\nexport type ${name} = any;\n`).join("");
}

/** `posix/join.js` is exported as `./posix/join`, and `posix/mod.js` as `./posix`. */
function exportName(file: string): string {
  return `./${kebab(file)}`.replace(/\.js$/, "").replace(/\/mod$/, "");
}

/** Where below `vendor/` Deno looks for what it would fetch from `url`. */
function vendorFolder(url: string): string {
  const { protocol, host, pathname } = new URL(url);
  const scheme = protocol === "https:" ? "" : protocol.replace(":", "_");
  return `${scheme}${host.replace(":", "_")}${pathname}`.replace(/\/$/, "");
}

// ------------------------------------------------------------------------------------- Helpers

/** Runs a program to its end; gives what went wrong, if anything did. */
async function run(
  program: string,
  args: string[],
  options: { seconds: number; cwd?: string; env?: Record<string, string> },
): Promise<string | undefined> {
  const { seconds, cwd, env } = options;
  const signal = AbortSignal.timeout(seconds * 1000);
  try {
    const command = new Deno.Command(program, {
      args,
      cwd,
      env: { NO_COLOR: "1", ...env },
      stdin: "null",
      signal,
    });
    const { success, stderr } = await command.output();
    if (success) return undefined;
    if (signal.aborted) return `no answer within ${seconds} seconds`;
    const lines = new TextDecoder().decode(stderr).split("\n");
    const reason = lines.find((line) => /error: |reason: /i.test(line)) ??
      lines.find((line) => /error/i.test(line));
    return reason?.replace(/^(npm )?error:? /, "") ?? `${program} failed`;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

function* filesBelow(folder: string, prefix = ""): Generator<string> {
  for (const { name, isDirectory } of Deno.readDirSync(`${folder}/${prefix}`)) {
    if (isDirectory) yield* filesBelow(folder, `${prefix}${name}/`);
    else yield prefix + name;
  }
}

function write(path: string, text: string): void {
  Deno.mkdirSync(path.replace(/\/[^/]*$/, ""), { recursive: true });
  Deno.writeTextFileSync(path, text);
}

function remove(path: string): void {
  if (exists(path)) Deno.removeSync(path, { recursive: true });
}

function exists(path: string): boolean {
  try {
    Deno.statSync(path);
    return true;
  } catch {
    return false;
  }
}

function kebab(name: string): string {
  return name.replaceAll("_", "-");
}

// ----------------------------------------------------------------------------------------------- Main

async function main(): Promise<void> {
  if (await isDone()) return;

  // Tasks may start side by side: one fills, the others wait here and then find it done. The lock is the
  // operating system's, so a run that is killed leaves none behind.
  using lock = Deno.openSync(new URL(import.meta.url));
  lock.lockSync(true);
  if (await isDone()) return;

  const jsrProblem = await askJsr();
  if (jsrProblem === undefined) return await fillFromJsr();

  const names = Object.values(packages).map(({ name }) => name).join(" and ");
  console.error(`JSR cannot be reached: taking the standard library from npm (${names})`);
  const npmProblem = await fillFromNpm();
  if (npmProblem === undefined) return;

  console.error(`Cannot get the standard library, which the scripts and the tests import
  from JSR: ${jsrProblem}
  from npm: ${npmProblem}
Make one of them reachable (JSR_URL and npm_config_registry name mirrors), then run the task again`);
  Deno.exit(1);
}

await main();
