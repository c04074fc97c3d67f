#!/usr/bin/env -S deno run -A --no-lock --no-config
/**
 * Turns a built program into a reproducible tarball in `releases/`, with its hash, its raw URL and its Nix package.
 *
 * One file, to be pasted into a repo or called from a checkout. `releases/README.md` explains how to release.
 *
 * All checks are made before the first write.
 *
 * @module
 */
const [
  { parseArgs },
  { basename, extname, join, relative, resolve },
  { canParse, compare, parse },
  { format },
  { equals },
] = await Promise.all([
  import("jsr:@std/cli@^1/parse-args"),
  import("jsr:@std/path@^1/posix"),
  import("jsr:@std/semver@^1"),
  import("jsr:@std/fmt@^1/bytes"),
  import("jsr:@std/bytes@^1/equals"),
]).catch((error: Error) => {
  console.error(
    `release: Cannot load the standard library, which reads options, paths and versions: ${error.message.split("\n")[0]}
  In a checkout of use-skills, run "npx -y deno task dependencies" once
  A pasted file: run it once with access to JSR, or with "deno run --config CHECKOUT/deno.json"`,
  );
  return Deno.exit(1);
});

// ── Tables ──────────────────────────────────────────────────────────────────────────────────────────────────────

export const VERSION = "0.1.0";

const HELP = `release ${VERSION}: packs a built program into a tarball that users and Nix can fetch

Usage: deno run -A release.ts FILE [OPTION...]     pack FILE into releases/
       deno run -A release.ts verify [NAME]        check all of releases/
       deno run -A release.ts list                 show what is in releases/

      --name NAME          instead of FILE's name without its extension
      --version VERSION    instead of what FILE prints for --version
      --platform OS_ARCH   refuse FILE if it is for another platform
      --ref REF            the branch or tag in the URL, not the default branch
      --forge FORGE        the server's URLs: those of forgejo, github, gitlab
      --url-base URL       the URL of releases/, if origin doesn't determine it
      --commit             commit the release and tag it
  -n, --dry-run            run all checks and write nothing
      --json               print the release's record, or the list, as JSON
      --allow-dirty        in spite of uncommitted changes
      --allow-older        in spite of a newer version
      --no-run             don't run FILE to find out its version
      --remote             fetch what was released and compare it, too (verify)
      --timeout SECONDS    how long verify --remote may take for a file, else 60
  -h, --help               --version without FILE prints this program's version

Write a FILE named list or verify as ./list or ./verify.
Exit status: 0 done or nothing to do, 1 refused or a problem, 2 wrong usage`;

const TEXTS = ["name", "version", "platform", "ref", "forge", "url-base", "timeout"] as const;
const SWITCHES = ["commit", "dry-run", "json", "allow-dirty", "allow-older", "no-run", "remote", "help"] as const;

/** The options of the commands other than a release. */
const OPTIONS_OF: Readonly<Record<string, readonly string[]>> = {
  verify: ["remote", "timeout", "help"],
  list: ["json", "help"],
};

type Options = Partial<Record<typeof TEXTS[number], string>> & Record<typeof SWITCHES[number], boolean>;

const MiB = 2 ** 20;

/** The size of chunks, in bytes. Large ones stay in memory longer than needed. */
const PIECE = 64 * 1024;

const LIMITS = {
  program: 1024 * MiB, // the size of a program, which is held in memory
  tarball: 100 * MiB, // GitHub, for example, refuses larger files. Source: docs.github.com, "About large files".
  warning: 10 * MiB, // the size of a tarball that causes a warning about the repo's size
  seconds: 10, // how long a program may take to print its version
};

/** The platforms that run on each of Nix's systems, the best first. */
const SYSTEMS: Readonly<Record<string, readonly string[]>> = {
  "aarch64-darwin": ["darwin_arm64", "darwin_all", "noarch"],
  "aarch64-linux": ["linux_arm64", "noarch"],
  "armv7l-linux": ["linux_armv7", "noarch"],
  "i686-linux": ["linux_386", "noarch"],
  "riscv64-linux": ["linux_riscv64", "noarch"],
  "x86_64-darwin": ["darwin_amd64", "darwin_all", "noarch"],
  "x86_64-linux": ["linux_amd64", "noarch"],
};

/** What ELF files are for. x32, for example, is not supported. Source: `e_machine` in `elf.h`. */
const ELF_MACHINES = new Map([
  ["32-bit little-endian machine 3", "386"],
  ["32-bit little-endian machine 40", "armv7"],
  ["64-bit little-endian machine 62", "amd64"],
  ["64-bit little-endian machine 183", "arm64"],
  ["64-bit little-endian machine 243", "riscv64"],
]);

/** `cputype` of a Mach-O file. Source: `mach/machine.h`. */
const MACH_O_MACHINES = new Map([[0x01000007, "amd64"], [0x0100000c, "arm64"]]);

/** Each forge's public host, and its raw URLs. Source: the links to raw files on the forges' own pages. */
const FORGES = new Map([
  ["forgejo", { host: "codeberg.org", form: "SITE/PROJECT/raw/KIND/REF" }],
  ["gitea", { host: "gitea.com", form: "SITE/PROJECT/raw/KIND/REF" }],
  ["github", { host: "github.com", form: "SITE/PROJECT/raw/REF" }],
  ["gitlab", { host: "gitlab.com", form: "SITE/PROJECT/-/raw/REF" }],
  ["bitbucket", { host: "bitbucket.org", form: "SITE/PROJECT/raw/REF" }],
  ["sourcehut", { host: "git.sr.ht", form: "SITE/PROJECT/blob/REF" }],
]);

// ── Helpers ─────────────────────────────────────────────────────────────────────────────────────────────────────

type Bytes = Uint8Array<ArrayBuffer>;

/** A reason not to release, with what to do about it. */
class Refusal extends Error {}

class UsageError extends Refusal {}

function quote(value: string): string {
  return JSON.stringify(value.length > 200 ? `${value.slice(0, 200)}...` : value);
}

/** Prints a text. Escapes characters, except line ends and tabs, that could mislead a reader or control a terminal. */
function printError(text: string): void {
  const escape = (unit: string) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`;
  console.error(text.replace(/[^\n\t\P{C}]|[\p{Zl}\p{Zp}]/gu, (odd) => odd.split("").map(escape).join("")));
}

function printStep(step: string, text: string): void {
  printError(`${step.padEnd(9)}${text}`);
}

/** An error's message, without the operating system's error number. */
function explain(error: unknown): string {
  return (error instanceof Error ? error.message : String(error)).replace(/ \(os error \d+\)/, "");
}

/** A size in bytes for a reader, with three digits. */
function size(bytes: number): string {
  return format(bytes, { binary: true }).replace("k", "K");
}

function attempt<T>(read: () => T): T | Error {
  try {
    return read();
  } catch (error) {
    return error instanceof Error ? error : new Error(String(error));
  }
}

/** Compares texts by code units, in every locale. */
function byCode(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** Reads a stream up to `limit` bytes, and a little more if it is longer. With the right `room`, it needs less memory. */
async function readUpTo(limit: number, stream: ReadableStream<Uint8Array>, room = PIECE): Promise<Bytes> {
  let [whole, length] = [new Uint8Array(room), 0];
  for await (const piece of stream) {
    const end = length + piece.length;
    if (end > whole.length) whole = new Uint8Array(whole.buffer.transfer(2 * end));
    whole.set(piece, length);
    length = end;
    if (length > limit) break;
  }
  return whole.subarray(0, length);
}

async function sha256(bytes: Bytes): Promise<Uint8Array> {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
}

// ── The archive: one member, and nothing of the machine ─────────────────────────────────────────────────────────

const BLOCK = 512;

/**
 * Packs a program into a tar archive, as GNU tar does with `--format=ustar --owner=0 --group=0 --numeric-owner --mode=755
 * -b1`. The parameters determine every byte. Source: "ustar Interchange Format" in POSIX, `pax`.
 *
 * @param content The program's file.
 * @param name The member's name, up to 100 bytes of ASCII.
 * @param time The modification time, in seconds since 1970.
 *
 * @example
 * ```ts
 * tar("hello", new TextEncoder().encode("#!/bin/sh\necho hello\n"), 315532800).length; // 2048
 * ```
 */
export function tar(name: string, content: Uint8Array, time: number): Bytes {
  const archive = new Uint8Array(BLOCK + Math.ceil(content.length / BLOCK) * BLOCK + 2 * BLOCK);
  const octal = (value: number, digits: number) => value.toString(8).padStart(digits, "0");
  const write = (offset: number, text: string) => new TextEncoder().encodeInto(text, archive.subarray(offset));
  const fields: [offset: number, text: string][] = [
    [0, name],
    [100, octal(0o755, 7)],
    [108, octal(0, 7)], // user
    [116, octal(0, 7)], // group
    [124, octal(content.length, 11)],
    [136, octal(time, 11)],
    [148, " ".repeat(8)], // for the checksum, which counts itself as spaces
    [156, "0"], // a plain file
    [257, "ustar\0" + "00"],
    [329, octal(0, 7)], // device
    [337, octal(0, 7)],
  ];
  for (const [offset, text] of fields) write(offset, text);
  write(148, `${octal(sum(archive.subarray(0, BLOCK)), 6)}\0 `);
  archive.set(content, BLOCK);
  return archive;
}

function sum(bytes: Uint8Array): number {
  return bytes.reduce((total, byte) => total + byte, 0);
}

/**
 * Reads an archive of one file, made by {@linkcode tar} or by a tar program.
 *
 * @returns The file in it, with its mode as octal digits, and its time in seconds since 1970.
 * @throws {Error} If it isn't such an archive.
 */
export function untar(archive: Bytes): { name: string; mode: string; time: number; content: Bytes } {
  const text = (offset: number, length: number) =>
    new TextDecoder().decode(archive.subarray(offset, offset + length)).replace(/\0.*$/s, "");
  const number = (offset: number, length: number) =>
    /^ *[0-7]+ *$/.test(text(offset, length)) ? parseInt(text(offset, length), 8) : NaN;
  const header = archive.slice(0, BLOCK).fill(0x20, 148, 156);
  if (header.length < BLOCK || number(148, 8) !== sum(header)) throw new Refusal("it contains no tar archive");
  if (!["0", ""].includes(text(156, 1))) throw new Refusal("its first entry is not a regular file");
  const length = number(124, 12);
  const end = BLOCK + Math.ceil(length / BLOCK) * BLOCK;
  if (!(end + 2 * BLOCK <= archive.length)) throw new Refusal("its archive is truncated");
  if (archive.subarray(BLOCK + length).some((byte) => byte !== 0)) throw new Refusal("it contains more than one file");
  return {
    name: [text(345, 155), text(0, 100)].filter((part) => part !== "").join("/"),
    mode: (number(100, 8) & 0o7777).toString(8).padStart(4, "0"),
    time: number(136, 12),
    content: archive.subarray(BLOCK, BLOCK + length),
  };
}

/** Sends bytes through gzip, in pieces of a fixed size, because the packed bytes depend on them. */
async function pipe(bytes: Bytes, gzip: CompressionStream | DecompressionStream, limit = Infinity): Promise<Bytes> {
  const starts = Array.from({ length: Math.ceil(bytes.length / PIECE) }, (_, index) => index * PIECE);
  const pieces = ReadableStream.from(starts.map((start) => bytes.subarray(start, start + PIECE)));
  const room = Math.ceil(bytes.length * 1.001) + PIECE; // what cannot be packed gets a little longer
  return await readUpTo(limit, pieces.pipeThrough(gzip), room);
}

async function gunzip(bytes: Bytes): Promise<Bytes> {
  const limit = LIMITS.program + 4 * BLOCK;
  const unpacked = await pipe(bytes, new DecompressionStream("gzip"), limit)
    .catch(() => Promise.reject(new Refusal("it is not exactly one complete gzip file")));
  if (unpacked.length > limit) throw new Refusal(`it unpacks to more than ${size(LIMITS.program)}`);
  return unpacked;
}

/** The modification time in archives, in seconds since 1970: by default 1980, because tools warn about earlier times. */
function archiveTime(): number {
  const given = Deno.env.get("SOURCE_DATE_EPOCH") || "315532800";
  const time = Number(given);
  if (/^\d+$/.test(given) && time < 8 ** 11) return time;
  throw new UsageError(`SOURCE_DATE_EPOCH is not a number of seconds since 1970: ${quote(given)}`);
}

// ── The program: what its file says of itself ───────────────────────────────────────────────────────────────────

export type Kind = "elf-static" | "elf-dynamic" | "mach-o" | "script";

/** What a program is for. */
export interface Identity {
  /** `OS_ARCH`, or `noarch`. */
  platform: string;
  kind: Kind;
  /** The command that runs a script. */
  interpreter?: string;
}

/**
 * Finds out what a program is for.
 *
 * @param bytes The program's file.
 * @throws {Error} If it is of an unknown kind, or truncated.
 *
 * @example
 * ```ts
 * identify(new TextEncoder().encode("#!/bin/sh\n")); // { platform: "noarch", kind: "script", interpreter: "sh" }
 * ```
 */
export function identify(bytes: Uint8Array): Identity {
  const magic = bytes.subarray(0, 4).toHex();
  if (magic === "7f454c46") return identifyElf(bytes);
  if (["cffaedfe", "cafebabe", "cafebabf"].includes(magic)) return identifyMachO(bytes, magic);
  if (magic.startsWith("2321")) return identifyScript(bytes);
  throw new Refusal("it is neither an ELF file, nor a Mach-O file, nor a script that begins with #!");
}

function readNumber(bytes: Uint8Array, offset: number, length: number, order: "little" | "big" = "little"): number {
  const field = bytes.slice(offset, offset + length);
  if (order === "little") field.reverse();
  return field.reduce((number, byte) => number * 256 + byte, 0);
}

/** Source: `man 5 elf`, which has the names of the offsets. */
function identifyElf(bytes: Uint8Array): Identity {
  const bits = bytes[4] === 2 ? 64 : 32;
  const half = (offset: number) => readNumber(bytes, offset, 2);
  const address = (offset: number) => readNumber(bytes, offset, bits / 8);
  const machine = `${bits}-bit ${bytes[5] === 1 ? "little" : "big"}-endian machine ${half(18)}`;
  const name = ELF_MACHINES.get(machine);
  if (name === undefined) throw new Refusal(`it is an ELF file for a ${machine}, which is not supported`);
  const system = bytes[7];
  if (system !== 0 && system !== 3) throw new Refusal(`it is an ELF file for another system than Linux (${system})`);
  if (![2, 3].includes(half(16))) throw new Refusal("it is an ELF file, but no program"); // an object file, for example

  const at = bits === 64
    ? { phoff: 32, phentsize: 54, phnum: 56, offset: 8, filesz: 32, end: 56 }
    : { phoff: 28, phentsize: 42, phnum: 44, offset: 4, filesz: 16, end: 32 };
  let kind: Kind = "elf-static";
  for (let index = 0; index < half(at.phnum); index++) {
    const start = address(at.phoff) + index * half(at.phentsize);
    const end = Math.max(start + at.end, address(start + at.offset) + address(start + at.filesz));
    if (end > bytes.length) throw new Refusal(`it is truncated: ${bytes.length} of at least ${end} bytes`);
    if (readNumber(bytes, start, 4) === 3) kind = "elf-dynamic"; // PT_INTERP
  }
  return { platform: `linux_${name}`, kind };
}

/** Source: `mach-o/loader.h`; for universal files, which list several machines, `mach-o/fat.h`. */
function identifyMachO(bytes: Uint8Array, magic: string): Identity {
  let types = [readNumber(bytes, 4, 4)];
  if (magic !== "cffaedfe") {
    const [count, step] = [readNumber(bytes, 4, 4, "big"), magic === "cafebabf" ? 32 : 20];
    if (count === 0 || count > 20 || 8 + count * step > bytes.length) { // a Java class, for example
      throw new Refusal("it begins like a universal Mach-O file, but is none");
    }
    types = Array.from({ length: count }, (_, index) => readNumber(bytes, 8 + index * step, 4, "big"));
  }
  const names = new Set(types.flatMap((type) => MACH_O_MACHINES.get(type) ?? []));
  if (names.size === 0) throw new Refusal(`it is a Mach-O file for machine ${types[0]}, which is not supported`);
  return { platform: `darwin_${names.size > 1 ? "all" : [...names][0]}`, kind: "mach-o" };
}

/** Identifies a script, with a first line that nixpkgs can rewrite. Source: `man 2 execve`; `patch-shebangs.sh` of nixpkgs. */
function identifyScript(bytes: Uint8Array): Identity {
  const line = new TextDecoder().decode(bytes.subarray(0, 1024)).split("\n", 1)[0] ?? "";
  if (line.endsWith("\r")) throw new Refusal("its first line ends with CR LF, so no system finds its interpreter");
  const [, path = "", words = ""] = /^#!\s*(\S+)\s*(.*?)\s*$/.exec(line) ?? [];
  if (path.startsWith("/nix/")) throw new Refusal(`its interpreter ${path} does not exist on other machines`);
  const program = basename(path) === "env" ? /^(?:-S\s+)?(?!-)([^\s="']+)(?=\s|$)/.exec(words)?.[1] : path;
  if (program) return { platform: "noarch", kind: "script", interpreter: basename(program) };
  throw new Refusal(
    `its first line is ${quote(line)}: write #!/usr/bin/env NAME or #!/usr/bin/env -S NAME ARGUMENT...`,
  );
}

type Program = ReturnType<typeof readProgram>;

function readProgram(file: string) {
  const path = resolve(file);
  try {
    const info = Deno.statSync(path);
    if (!info.isFile) throw new Refusal(info.isDirectory ? "it is a directory" : "it is not a regular file");
    if (info.size === 0) throw new Refusal("it is empty");
    if (info.size > LIMITS.program) throw new Refusal(`it has more than ${size(LIMITS.program)}`);
    const content = Deno.readFileSync(path);
    return { path, content, ...identify(content) };
  } catch (error) {
    throw new Refusal(`Cannot release ${file}: ${explain(error)}`);
  }
}

function isVersion(text: string): boolean {
  return /^\d\S*$/.test(text) && canParse(text);
}

function compareVersions(a: string, b: string): number {
  return compare(parse(a), parse(b));
}

/** Runs a program with `--version`; returns the versions in the first line that has any, or why there are none. */
async function askVersion(program: Program, name: string, options: Options) {
  const none = (problem: string): { printed: string[]; problem: string } => ({ printed: [], problem });
  if (options["no-run"]) return none("it was not run (--no-run)");
  // Here it would be given to a shell, as if it were a script.
  const isNative = SYSTEMS[`${Deno.build.arch}-${Deno.build.os}`]?.includes(program.platform);
  if (!isNative) return none("it is not for this machine");
  const directory = Deno.makeTempDirSync({ prefix: "release-" });
  try {
    Deno.writeFileSync(`${directory}/${name}`, program.content);
    Deno.chmodSync(`${directory}/${name}`, 0o755); // whatever the umask
    const streams = { stdin: "null", stdout: "piped", stderr: "piped" } as const;
    const child = new Deno.Command(`${directory}/${name}`, { args: ["--version"], cwd: directory, ...streams }).spawn();
    // What it starts in the background may keep its output open, also when it has ended.
    const ended = Promise.all([child.status, readUpTo(PIECE, child.stdout), readUpTo(PIECE, child.stderr)]);
    const late = new Promise<[]>((resolve) => setTimeout(resolve, LIMITS.seconds * 1000, []));
    const [status, ...texts] = await Promise.race([ended, late]);
    if (status === undefined) {
      attempt(() => child.kill("SIGKILL"));
      return none(`it did not end within ${LIMITS.seconds} seconds`);
    }
    const lines = texts.flatMap((bytes) => new TextDecoder().decode(bytes).split("\n"));
    if (!status.success) return none(`it ends with status ${status.code} and ${quote(lines.find(Boolean) ?? "")}`);
    const found = lines.map((line) => line.match(/(?<![\w.+-])v?\d+\.\d+[\w.+-]*(?<![.+-])/g)).find(Boolean) ?? [];
    return { printed: found.map((each) => each.replace(/^v/, "")), problem: "it prints no version for --version" };
  } catch (error) {
    return none(`it cannot be run here: ${explain(error)}`);
  } finally {
    attempt(() => Deno.removeSync(directory, { recursive: true }));
  }
}

// ── The URL ─────────────────────────────────────────────────────────────────────────────────────────────────────

function forgeOf(host: string): string | undefined {
  return FORGES.entries().find(([, forge]) => forge.host === host)?.[0];
}

function encodePath(path: string): string {
  return path.split("/").map(encodeURIComponent).join("/");
}

/**
 * Finds a repo's web page from its address in git.
 *
 * @param address What `git remote get-url` prints: an https or ssh URL, or ssh's short form. A user, a password and
 * ssh's port are left out.
 * @returns The page, as `https://example.org` and `owner/repo`; `undefined` for a directory, or a host name that only ssh knows.
 *
 * @example
 * ```ts
 * parseRemote("git@example.org:team/tool.git"); // { site: "https://example.org", project: "team/tool" }
 * ```
 */
export function parseRemote(address: string): { site: string; project: string } | undefined {
  const [, host, path] = /^(?:[^@/:]+@)?(\[[^\]]+\]|[^/:]+):(?!\/\/)(.+)$/.exec(address) ?? [];
  const url = URL.parse(host !== undefined && path !== undefined ? `ssh://${host}/${encodePath(path)}` : address);
  if (!url || !/^(https?|ssh|git|git\+ssh):$/.test(url.protocol)) return undefined;
  const isWeb = url.protocol.startsWith("http");
  if (!isWeb && !/[.:]/.test(url.hostname)) return undefined;
  const common = url.hostname.toLowerCase().replace(/^(www|ssh|altssh)\./, ""); // ssh.github.com has no pages
  const site = forgeOf(common) ? common : isWeb ? url.host : url.hostname;
  const project = url.pathname.replace(/\/+$/, "").replace(/\.git$/, "").split("/").filter((part) => part !== "");
  if (project.length < 2) return undefined;
  return { site: `${isWeb ? url.protocol : "https:"}//${site}`, project: project.join("/") };
}

/** `text` without the credentials in its URLs. */
function withoutSecrets(text: string): string {
  return text.replace(/\/\/\S*@/g, "//").replace(/[?#]\S+/g, "");
}

function folderUrl(root: string, options: Options, tag: string, file: string, before?: Release): string {
  const base = options["url-base"];
  if (base !== undefined) {
    const url = URL.parse(base)?.href ?? "";
    if (/^(https?|file):\/\/[^/@]*\/[^?#]*$/.test(url)) return url.replace(/\/+$/, "");
    const given = quote(withoutSecrets(base));
    throw new UsageError(`--url-base must be a URL without user, password, query and fragment, not ${given}`);
  }
  const address = queryGit(root, "remote", "get-url", "origin");
  const recorded = Object.values(before?.platforms ?? {})[0]?.url.replace(/\/[^/]*$/, "");
  // For example, a clone of a clone has the releases, but not the address from which they are fetched.
  if (recorded !== undefined && (address === undefined || /^(\.|\/|file:)/.test(address))) {
    printStep("url", "as for the earlier release, because origin determines none");
    return recorded;
  }
  const remote = parseRemote(address ?? "");
  if (remote === undefined) {
    const origin = address === undefined ? "missing" : quote(withoutSecrets(address));
    throw new Refusal(`origin is ${origin}, so it determines no URL: set it (git remote), or give --url-base`);
  }
  const host = new URL(remote.site).hostname;
  const known = options.forge ?? forgeOf(host) ?? queryGit(root, "config", "release.forge");
  const forge = known ?? "forgejo";
  const form = FORGES.get(forge)?.form;
  if (form === undefined) {
    throw new UsageError(`Unknown forge ${quote(forge)}: one of ${[...FORGES.keys()].join(", ")}`);
  }
  const { kind, name } = findRef(root, options.ref, tag, file);
  printStep("url", `on ${forge}${known ? "" : " (assumed; otherwise give --forge)"}, from ${kind} ${name}`);
  const parts: Record<string, string> = { ...remote, kind, ref: encodePath(name) };
  const isGitHub = forge === "github" && host === "github.com";
  const words = isGitHub ? "https://raw.githubusercontent.com/PROJECT/REF" : form;
  return `${words.replace(/[A-Z]+/g, (part) => parts[part.toLowerCase()] ?? part)}/${FOLDER}`;
}

/** The branch or tag in the URL, which has or will have the tarball. */
function findRef(root: string, wanted: string | undefined, tag: string, file: string): { kind: string; name: string } {
  const current = queryGit(root, "symbolic-ref", "--quiet", "--short", "HEAD");
  const main = queryGit(root, "symbolic-ref", "--quiet", "--short", "refs/remotes/origin/HEAD")?.replace("origin/", "");
  const name = wanted ?? main ?? current;
  if (name === undefined) throw new Refusal("No branch is checked out, so the URL needs --ref BRANCH");
  const is = (ref: string) => queryGit(root, "show-ref", "--verify", "--quiet", ref) !== undefined;
  if (name === current) return { kind: "branch", name };
  if (is(`refs/heads/${name}`) || is(`refs/remotes/origin/${name}`)) {
    printStep("note", `the URL works when this is on ${name}; you are on ${current ?? "no branch"}`);
    return { kind: "branch", name };
  }
  const isTag = is(`refs/tags/${name}`);
  if (isTag && queryGit(root, "cat-file", "-e", `refs/tags/${name}:${FOLDER}/${file}`) === undefined) {
    throw new Refusal(`The tag ${name} (--ref) exists without ${file}, and tags must not move: give --ref BRANCH`);
  }
  if (isTag || name === tag) return { kind: "tag", name };
  throw new Refusal(`There is no branch or tag ${quote(name)} here (--ref); this release's own tag is ${tag}`);
}

// ── The folder ──────────────────────────────────────────────────────────────────────────────────────────────────

const FOLDER = "releases";
const SUMS = "SHA256SUMS";

/** What is recorded about a version for one platform. */
export interface Build {
  file: string;
  /** As in Nix and browsers: `sha256-` and base64. */
  hash: string;
  interpreter?: string;
  kind: Kind;
  /** The size of the tarball, in bytes. */
  size: number;
  url: string;
}

/** The content of `NAME.json`: a program's newest version. */
export interface Release {
  name: string;
  version: string;
  /** By `OS_ARCH`. */
  platforms: Record<string, Build>;
}

type Folder = ReturnType<typeof readFolder>;

const TARBALL = new RegExp(`^(.+)_([^_]+)_(${[...new Set(Object.values(SYSTEMS).flat())].join("|")})\\.tar\\.gz$`);

/** Parses a tarball's name; returns an empty list for another name. */
function parseTarball(file: string) {
  const [, name = "", version = "", platform = ""] = TARBALL.exec(file) ?? [];
  return isVersion(version) ? [{ file, name, version, platform }] : [];
}

/** Reads `releases/`: its files, sorted; those in the last commit; the tarballs; and the hexadecimal hashes in the sums. */
function readFolder(root: string) {
  const path = join(root, FOLDER);
  const info = attempt(() => Deno.lstatSync(path));
  if (!(info instanceof Error || info.isDirectory)) throw new Refusal(`${path} must be a directory, and not a link`);
  const entries = info instanceof Error ? [] : [...Deno.readDirSync(path)];
  const files = entries.flatMap(({ isFile, name }) => isFile && name !== TEMPORARY ? name : []).sort(byCode);
  const committed = queryGit(root, "ls-tree", "-z", "--name-only", `HEAD:${FOLDER}`)?.split("\0") ?? [];
  const sums = new Map<string, string>();
  for (const [index, line] of (readText({ path, files }, SUMS) ?? "").split("\n").entries()) {
    const [, hash = "", file = ""] = /^([0-9a-f]{64}) [ *](.+)$/.exec(line) ?? [];
    if (line.trim() === "" || sums.get(file) === hash) continue;
    const place = `${FOLDER}/${SUMS}:${index + 1}`;
    if (file === "") {
      throw new Refusal(`${place}: ${quote(line)} is not a hash and a file name: after a merge, keep only such lines`);
    }
    if (sums.has(file)) {
      throw new Refusal(`${place}: a second hash of ${file}: keep the one that git log has first`);
    }
    sums.set(file, hash);
  }
  return { path, files, committed, tarballs: files.flatMap(parseTarball), sums };
}

/** Reads a text file of `releases/`, if it exists. git may have changed its line ends. */
function readText({ path, files }: { path: string; files: string[] }, file: string): string | undefined {
  return files.includes(file) ? Deno.readTextFileSync(join(path, file)).replaceAll("\r\n", "\n") : undefined;
}

function readRelease(folder: Folder, name: string): Release | undefined {
  const file = `${name}.json`;
  const text = readText(folder, file);
  if (text === undefined) return undefined;
  try {
    const release: Release = Object(JSON.parse(text));
    const builds = Object.values(release.platforms ?? [{}]);
    const texts = [release.name, ...builds.flatMap(({ file, hash, kind, url }) => [file, hash, kind, url])];
    if (isVersion(release.version) && texts.every((text) => typeof text === "string")) return release;
    throw new Error("a name, a version, a hash or a URL is missing or wrong");
  } catch (error) {
    throw new Refusal(`${FOLDER}/${file} is not a valid record: ${explain(error)}. Restore it from git, or correct it`);
  }
}

/** The newest released version of a program, if there is one. */
function newestVersion(folder: Folder, name: string): string | undefined {
  const released = folder.tarballs.filter((each) => each.name === name && folder.sums.has(each.file));
  const versions = released.map(({ version }) => version);
  const recorded = readRelease(folder, name)?.version;
  return versions.concat(recorded ?? []).sort(compareVersions).at(-1);
}

type Target = Awaited<ReturnType<typeof resolveTarget>>;

/** Decides what to record about a tarball, `NAME.json`, and which files are new or changed. */
async function plan(folder: Folder, target: Target, tarball: Bytes) {
  const { name, version, platform, kind, interpreter, file } = target;
  const digest = await sha256(tarball);
  const [hex, hash] = [digest.toHex(), `sha256-${digest.toBase64()}`];
  if ((folder.sums.get(file) ?? hex) !== hex) {
    throw new Refusal(`${FOLDER}/${file} is missing, and ${SUMS} has another hash for it: restore it from git`);
  }
  const recorded = readRelease(folder, name);
  const others = recorded?.version === version ? recorded.platforms : {};
  const before = others[platform];
  const url = before?.hash === hash && !target.isChosen ? before.url : target.url;
  const build: Build = { file, hash, ...interpreter !== undefined && { interpreter }, kind, size: tarball.length, url };
  const builds = Object.entries({ ...others, [platform]: build }).sort(([a], [b]) => byCode(a, b));
  const record: Release = { name, platforms: Object.fromEntries(builds), version };
  const json = `${JSON.stringify(record, undefined, 2)}\n`; // The keys are sorted: the same release gives the same bytes.

  const sums = [...new Map(folder.sums).set(file, hex)].sort(([a], [b]) => byCode(a, b));
  const texts = new Map([[SUMS, sums.map(([file, hash]) => `${hash}  ${file}\n`).join("")]]);
  if (compareVersions(version, newestVersion(folder, name) ?? version) >= 0) texts.set(`${name}.json`, json);
  if (!folder.files.includes(`${name}.nix`)) texts.set(`${name}.nix`, nixPackage(name));
  const changed = [...texts].filter(([each, text]) => readText(folder, each) !== text);
  const files = new Map(changed.map(([each, text]) => [each, new TextEncoder().encode(text)]));
  if (!folder.files.includes(file)) files.set(file, tarball);
  return { build, json, files };
}

// ── The package ─────────────────────────────────────────────────────────────────────────────────────────────────

/** A program's Nix package, which reads `NAME.json`. */
function nixPackage(name: string): string {
  const rows = Object.entries(SYSTEMS).map(([system, platforms]) =>
    `    ${system} = [ ${platforms.map((platform) => `"${platform}"`).join(" ")} ];\n`
  );
  return `# The package of ${name}:
#
#   ${name} = pkgs.callPackage ./${FOLDER}/${name}.nix { };
#
# All facts are in ${name}.json, so that a release changes data and never this code. Add to it what you like, such as a
# description and a licence: release.ts writes it where it is not there, and leaves it alone where it is.
{
  lib,
  stdenv,
  fetchurl,
  autoPatchelfHook ? null, # for a program that is linked dynamically
  pkgs ? { }, # for what runs a script
}:

let
  release = builtins.fromJSON (builtins.readFile ./${name}.json);
  inherit (release) name version platforms;
  inherit (stdenv.hostPlatform) system;

  # What runs where, best first.
  platformsOf = {
${rows.join("")}  };
  buildsFor =
    system:
    map (platform: platforms.\${platform}) (
      builtins.filter (platform: platforms ? \${platform}) (platformsOf.\${system} or [ ])
    );
  systems = builtins.filter (system: buildsFor system != [ ]) (builtins.attrNames platformsOf);
  build =
    if buildsFor system != [ ] then
      builtins.head (buildsFor system)
    else
      throw "\${name} \${version} is not released for \${system}, but for \${toString systems}";

  # Where nixpkgs has another name for an interpreter than its command.
  attributes = {
    Rscript = "R";
    awk = "gawk";
    node = "nodejs";
    nu = "nushell";
    pwsh = "powershell";
    python = "python3";
    sh = "bash";
    tclsh = "tcl";
  };
  # python3.12 is python312 there.
  attribute = builtins.replaceStrings [ "." ] [ "" ] (attributes.\${build.interpreter} or build.interpreter);
  exactly = builtins.replaceStrings [ "." "+" ] [ "[.]" "[+]" ];
  interpreter =
    pkgs.\${attribute} or (throw "\${name} is run by \${build.interpreter}, and nixpkgs has no \${attribute}");
in
stdenv.mkDerivation {
  pname = name;
  inherit version;

  src = fetchurl {
    name = build.file;
    inherit (build) url hash;
  };
  sourceRoot = ".";

  nativeBuildInputs = lib.optional (build.kind == "elf-dynamic") autoPatchelfHook;
  # The first line of a script is rewritten to name what is found in here, env included.
  buildInputs =
    lib.optional (build.kind == "elf-dynamic") stdenv.cc.cc.lib
    ++ lib.optionals (build.kind == "script") [
      interpreter
      pkgs.coreutils
    ];

  dontConfigure = true;
  dontBuild = true;
  # A program may carry its data behind its code.
  dontStrip = true;
  dontPatchELF = true;
  installPhase = ''
    runHook preInstall
    install -D -m 755 \${name} "$out/bin/\${name}"
    runHook postInstall
  '';

  doInstallCheck = stdenv.buildPlatform.canExecute stdenv.hostPlatform;
  installCheckPhase = ''
    runHook preInstallCheck
    HOME=$TMPDIR "$out/bin/\${name}" --version 2>&1 | grep -E "(^|[^A-Za-z0-9_.+-])v?\${exactly version}[.]?([^A-Za-z0-9_.+-]|$)"
    runHook postInstallCheck
  '';

  meta = {
    mainProgram = name;
    platforms = systems;
    sourceProvenance = [
      (
        if builtins.all (build: build.kind == "script") (builtins.attrValues platforms) then
          lib.sourceTypes.fromSource
        else
          lib.sourceTypes.binaryNativeCode
      )
    ];
  };
}
`;
}

// ── The repo ────────────────────────────────────────────────────────────────────────────────────────────────────

/** Runs git, which must succeed; returns its output without the last line end. */
function git(root: string, ...args: string[]): string {
  // Reading must not take a lock, because another git may be running.
  const env = { LC_ALL: "C", GIT_OPTIONAL_LOCKS: "0" };
  const done = new Deno.Command("git", { args, cwd: root, env, stdin: "null" }).outputSync();
  const [printed = "", reason = ""] = [done.stdout, done.stderr].map((bytes) => new TextDecoder().decode(bytes));
  if (done.success) return printed.replace(/\n$/, "");
  throw new Refusal(`git ${args[0]} failed in ${root}: ${withoutSecrets((reason || printed).trim())}`);
}

function queryGit(root: string, ...args: string[]): string | undefined {
  const printed = attempt(() => git(root, ...args));
  return printed instanceof Error ? undefined : printed;
}

function findRoot(): string {
  return git(Deno.cwd(), "rev-parse", "--show-toplevel");
}

/** Fails if there are uncommitted changes, except in `releases/` and of the program. */
function checkTree(root: string, program: string): void {
  const status = git(root, "status", "--porcelain", "-z", "--untracked-files=all", "--no-renames");
  const built = [program, Deno.realPathSync(program)].map((path) => `?? ${relative(root, path)}`);
  const own = new RegExp(`^...${FOLDER}/(${SUMS}|${TEMPORARY}|[^/]+\\.(json|nix|tar\\.gz))$`, "s");
  const changes = status.split("\0").filter((line) => line !== "" && !built.includes(line) && !own.test(line));
  if (changes.length === 0) return;
  const shown = changes.slice(0, 5).map((line) => `  ${line}\n`).join("");
  throw new Refusal(
    `Uncommitted changes in ${root}: ${changes.length}\n${shown}Commit or stash them, or give --allow-dirty`,
  );
}

/** Fails if a committed file of `releases/` is missing, because its release would be forgotten. */
function checkComplete({ committed, files }: Folder): void {
  const missing = committed.find((file) => !files.includes(file) && (file === SUMS || /\.(json|tar\.gz)$/.test(file)));
  if (missing === undefined) return;
  throw new Refusal(
    `${FOLDER}/${missing} is committed, but missing here: restore it (git restore ${FOLDER}, or git sparse-checkout add ${FOLDER})`,
  );
}

/** Fails if git ignores one of the files, or would change the tarball. */
function checkKept(root: string, paths: string[], tarball: string): void {
  const [ignored] = queryGit(root, "check-ignore", "--", ...paths)?.split("\n") ?? [];
  if (ignored !== undefined) {
    const [, place = "", pattern = ""] = /^(.*:\d+):(.*)\t/.exec(git(root, "check-ignore", "-v", "--", ignored)) ?? [];
    const orEnd = place.startsWith(FOLDER) ? "" : `, or end .gitignore with the lines\n  !/${FOLDER}/\n  !/${FOLDER}/*`;
    throw new Refusal(`git ignores ${ignored}, because of ${quote(pattern)} in ${place}: remove that${orEnd}`);
  }
  const path = `${FOLDER}/${tarball}`;
  const names = ["text", "crlf", "eol", "filter", "ident", "working-tree-encoding"];
  const lines = git(root, "check-attr", ...names, "--", path).split("\n").map((line) => line.slice(path.length + 2));
  // "text=auto" doesn't change files with zero bytes, such as gzip files. "text" overrides "crlf" and "eol".
  const isOverridden = (line: string) => lines[0] !== "text: unspecified" && /^(crlf|eol): /.test(line);
  const wrong = lines.find((line) => !/: (unset|unspecified)$|^text: auto$/.test(line) && !isOverridden(line));
  if (wrong === undefined) return;
  throw new Refusal(
    `git would change ${path} on commit: .gitattributes gives it ${wrong.replace(": ", "=")}. ` +
      `End .gitattributes with the line\n  /${FOLDER}/*.tar.gz -text -filter -ident -working-tree-encoding`,
  );
}

/**
 * Fails if the version's tag is on another commit. Another platform's build can follow the tag: then the version isn't new,
 * which means that a build of it is committed. With `isTagged`, the tag will be created.
 */
function checkTag(root: string, tag: string, isNew: boolean, isTagged: boolean): void {
  const commitOf = (ref: string) => queryGit(root, "rev-parse", "--verify", "--quiet", `${ref}^{commit}`);
  const [there, head] = [commitOf(`refs/tags/${tag}`), commitOf("HEAD")];
  if (there === undefined || (there === head && !(isNew && isTagged))) return;
  const isBelow = head !== undefined && queryGit(root, "merge-base", "--is-ancestor", there, head) !== undefined;
  if (isBelow && !isNew) return;
  throw new Refusal(
    `The tag ${tag} already exists, on another commit (${there.slice(0, 12)}): ` +
      `release another version, or delete it (git tag --delete ${tag}) if nobody uses it`,
  );
}

/** Fails if the commit can't be made, or would list tarballs that it doesn't contain. */
function checkCommit(root: string, folder: Folder, tag: string, paths: string[]): void {
  const is = (...args: string[]) => queryGit(root, ...args) !== undefined;
  git(root, "var", "GIT_COMMITTER_IDENT");
  if (!is("symbolic-ref", "--quiet", "HEAD")) {
    throw new Refusal("No branch is checked out, so the commit would be on none");
  }
  if (is("rev-parse", "--verify", "--quiet", "MERGE_HEAD")) {
    throw new Refusal("A merge is not finished: commit it first");
  }
  if (!is("check-ref-format", `refs/tags/${tag}`)) throw new Refusal(`${quote(tag)} cannot be a tag in git`);
  const listed = folder.files.filter((file) => folder.sums.has(file) && !folder.committed.includes(file));
  const other = listed.map((file) => `${FOLDER}/${file}`).find((path) => !paths.includes(path));
  if (other !== undefined) throw new Refusal(`${other} is not committed, but ${SUMS} lists it: commit it first`);
}

/** Commits files of `releases/` and nothing else, and tags the commit, unless that is done. */
function commit(root: string, paths: string[], { name, version, tag }: Target): string {
  const done: string[] = [];
  if (git(root, "status", "--porcelain", "--untracked-files=all", "--", ...paths) !== "") {
    git(root, "add", "--", ...paths);
    git(root, "commit", "--quiet", "--message", `release: ${name} ${version}`, "--only", "--", ...paths);
    done.push(`"release: ${name} ${version}"`);
  }
  for (const path of paths.filter((each) => each.endsWith(".tar.gz"))) {
    if (git(root, "rev-parse", `HEAD:${path}`) === git(root, "hash-object", "--no-filters", "--", path)) continue;
    throw new Refusal(
      `git has committed other bytes than ${path} contains: undo it (git reset --soft HEAD~1), and see .gitattributes`,
    );
  }
  if (queryGit(root, "rev-parse", "--verify", "--quiet", `refs/tags/${tag}`) === undefined) {
    git(root, "tag", "--annotate", "--message", `${name} ${version}`, tag);
    done.push(`tag ${tag}`);
  }
  return done.join(", ");
}

// ── Writing ─────────────────────────────────────────────────────────────────────────────────────────────────────

/** In `releases/`: a file while it is written. Only a killed run leaves it behind. */
const TEMPORARY = ".release.new";

/** Locks the repo until the handle is closed or the process ends. */
function lock(root: string): Deno.FsFile {
  const handle = Deno.openSync(root);
  if (!handle.tryLockSync(true)) {
    throw new Refusal(`Another release.ts is running in ${root}: try again when it has finished`);
  }
  attempt(() => Deno.removeSync(join(root, FOLDER, TEMPORARY)));
  return handle;
}

/**
 * Writes each file next to its destination and renames it, in an order that is safe to interrupt: first the tarball, then
 * what names it. The next run writes what is missing.
 */
function writeFolder(root: string, files: ReadonlyMap<string, Uint8Array>): void {
  const folder = join(root, FOLDER);
  const temporary = join(folder, TEMPORARY);
  const order = (file: string) => [".tar.gz", SUMS, ".json", ".nix"].findIndex((end) => file.endsWith(end));
  Deno.mkdirSync(folder, { recursive: true });
  for (const [file, bytes] of [...files].sort(([a], [b]) => order(a) - order(b))) {
    try {
      using handle = Deno.openSync(temporary, { write: true, createNew: true });
      for (let written = 0; written < bytes.length;) written += handle.writeSync(bytes.subarray(written));
      handle.syncSync();
      Deno.renameSync(temporary, join(folder, file));
    } catch (error) {
      attempt(() => Deno.removeSync(temporary)); // The disk may be full.
      throw new Refusal(`Cannot write ${FOLDER}/${file}: ${explain(error)}`);
    }
  }
}

// ── Release ─────────────────────────────────────────────────────────────────────────────────────────────────────

/** Finds the version, without a "v" in front: from the command line, and from what the program prints. */
async function findVersion(program: Program, name: string, options: Options): Promise<string> {
  const wanted = options.version?.replace(/^v(?=\d)/, "");
  const { printed, problem } = await askVersion(program, name, options);
  const [first, ...others] = new Set(printed);
  const version = wanted ?? first;
  if (version === undefined) throw new Refusal(`The version of ${name} is unknown: ${problem}. Give --version`);
  if (wanted === undefined && others.length > 0) {
    throw new Refusal(`${name} prints several versions, ${printed.join(" and ")}: give --version`);
  }
  if (!isVersion(version)) {
    const rule = "is not semantic versioning, MAJOR.MINOR.PATCH and perhaps -PRERELEASE and +BUILD";
    const message = `The version ${quote(version)} ${rule}: give --version 1.2.3`;
    throw wanted === undefined ? new Refusal(message) : new UsageError(message);
  }
  if (first !== undefined && !printed.includes(version)) {
    throw new Refusal(`${name} prints version ${first}, not ${version}: build it again, or give --no-run`);
  }
  printStep("version", first !== undefined ? `${version}, printed by the program` : `${version}; ${problem}`);
  if (first === undefined) printStep("note", `${name}.nix checks that ${name} --version prints ${version}`);
  return version;
}

/** Reads the tarball with the name `file`, if it exists. Fails if it isn't `archive`: a released version never changes. */
async function readReleased(folder: Folder, file: string, archive: Uint8Array): Promise<Bytes | undefined> {
  if (!folder.files.includes(file)) return undefined;
  const path = `${FOLDER}/${file}`;
  const bytes = Deno.readFileSync(join(folder.path, file));
  const recorded = folder.sums.get(file);
  if (recorded !== undefined && recorded !== (await sha256(bytes)).toHex()) {
    throw new Refusal(`${path} does not match its hash in ${SUMS}: restore it from git`);
  }
  const there = await gunzip(bytes).catch(() => undefined);
  if (there !== undefined && equals(there, archive)) return bytes;
  if (recorded === undefined && !folder.committed.includes(file)) {
    throw new Refusal(`${path} exists with other content, but was never released: remove it, and run this again`);
  }
  throw new Refusal(
    `${path} is already released with other content, or another time (SOURCE_DATE_EPOCH): ` +
      "a released version never changes, so release another version",
  );
}

/** Decides name, version, tarball, tag and URL of a release. `isChosen`: the command line determines the URL. */
async function resolveTarget(root: string, file: string, folder: Folder, options: Options) {
  const program = readProgram(file);
  const { content, ...facts } = program;
  const { platform, kind, interpreter } = facts;
  const name = options.name ?? basename(file, extname(file));
  // Valid in a file name, a URL, a tag and the Nix store.
  if (!/^[A-Za-z0-9](?!.*\.\.)[A-Za-z0-9._+-]{0,63}$/.test(name)) {
    const rule = "up to 64 letters, digits and any of . _ + -, a letter or digit first";
    throw new UsageError(`${quote(name)} cannot be a program's name: give --name, ${rule}`);
  }
  if (options.platform !== undefined && options.platform !== platform) {
    throw new Refusal(`${file} is for ${platform}, not for ${quote(options.platform)} (--platform)`);
  }
  const what = interpreter === undefined ? kind : `${kind} for ${interpreter}`;
  printStep("program", `${name} for ${platform}: ${what}, ${size(content.length)}`);
  const version = await findVersion(program, name, options);
  const [tarball, tag] = [`${name}_${version}_${platform}.tar.gz`, `${name}-v${version}`];
  const url = `${folderUrl(root, options, tag, tarball, readRelease(folder, name))}/${encodeURIComponent(tarball)}`;
  const isChosen = (options.ref ?? options.forge ?? options["url-base"]) !== undefined;
  const archive = tar(name, content, archiveTime());
  content.buffer.transfer(0); // The archive contains it. This frees its memory before the compression needs more.
  return { ...facts, name, version, file: tarball, url, isChosen, tag, archive };
}

/** The paths in a release's commit. A tarball that isn't in the sums was left by an interrupted run. */
function pathsOf({ tarballs, committed, sums }: Folder, { name, version, file }: Target): string[] {
  const builds = tarballs.filter((each) => each.name === name && each.version === version && sums.has(each.file));
  const nix = `${name}.nix`; // a person's own, once it is there
  const own = new Set([...builds.map((each) => each.file), file]);
  const files = [...own, SUMS, `${name}.json`, ...committed.includes(nix) ? [] : [nix]];
  return files.map((each) => `${FOLDER}/${each}`);
}

function checkRelease(root: string, folder: Folder, target: Target, paths: string[], options: Options): void {
  const { name, version, file, tag } = target;
  checkComplete(folder);
  if (!options["allow-dirty"]) checkTree(root, target.path);
  const newest = newestVersion(folder, name) ?? version;
  if (!options["allow-older"] && compareVersions(version, newest) < 0) {
    throw new Refusal(`${name} ${newest} is released, and ${version} is older: give --allow-older if this is intended`);
  }
  checkKept(root, paths, file);
  const isNew = !folder.committed.flatMap(parseTarball).some((each) => each.name === name && each.version === version);
  checkTag(root, tag, isNew, options.commit);
  if (options.commit) checkCommit(root, folder, tag, paths);
  printStep("tree", options["allow-dirty"] ? "not checked (--allow-dirty)" : `committed, except ${FOLDER}/`);
}

async function release(path: string, options: Options): Promise<void> {
  const root = findRoot();
  const isDry = options["dry-run"];
  using _lock = isDry ? undefined : lock(root);
  const folder = readFolder(root);
  const target = await resolveTarget(root, path, folder, options);
  const { name, version, file, archive } = target;
  const paths = pathsOf(folder, target);

  const released = await readReleased(folder, file, archive);
  const check = () => checkRelease(root, folder, target, paths, options);
  if (!released) check(); // before the compression, which takes time
  const tarball = released ?? await pipe(archive, new CompressionStream("gzip"));
  const { build, json, files } = await plan(folder, target, tarball);
  const isDone = files.size === 0;
  if (released && (!isDone || options.commit)) check();
  if (build.size > LIMITS.tarball) {
    throw new Refusal(`${file} has ${size(build.size)}, and forges refuse more than ${size(LIMITS.tarball)}`);
  }
  printStep("tarball", `${FOLDER}/${file}, ${size(build.size)}`);
  printStep("hash", build.hash);
  if (build.size > LIMITS.warning) {
    printStep("warning", "the tarball is large, and every clone of the repo contains those of all versions");
  }
  if ((readText(folder, `${name}.nix`) ?? nixPackage(name)) !== nixPackage(name)) {
    printStep("note", `${FOLDER}/${name}.nix was edited, and stays as it is`);
  }
  if (isDone) printStep("done", `${name} ${version} is already released with this content`);
  else printStep("write", `${[...files.keys()].sort(byCode).join(", ")}${isDry ? " (not in a dry run)" : ""}`);
  if (!isDone && !isDry) writeFolder(root, files);
  const made = options.commit && !isDry ? commit(root, paths, target) : "";
  if (made !== "") printStep("commit", made);
  if (!isDone || made !== "") printNext(target, build.url, paths, options.commit);
  console.log(options.json ? json.trimEnd() : build.url);
}

function printNext({ name, version, tag }: Target, url: string, paths: string[], isCommitted: boolean): void {
  const message = JSON.stringify(`release: ${name} ${version}`);
  const isTagged = isCommitted || decodeURIComponent(url).includes(`/${tag}/`);
  const steps = [`git add ${paths.join(" ")}`, `git commit -m ${message}`];
  if (isTagged) steps.push(`git tag -a -m ${message} ${tag}`);
  const push = isTagged ? `git push origin HEAD ${tag}` : "git push";
  printStep("next", [...isCommitted ? [] : steps, push].join(" && "));
  const attribute = /^[A-Za-z_][\w-]*$/.test(name) ? name : JSON.stringify(name);
  printStep("nix", `${attribute} = pkgs.callPackage ./${FOLDER}/${name}.nix { };   (in a flake, or in an overlay)`);
}

// ── Verify and list ─────────────────────────────────────────────────────────────────────────────────────────────

/** Returns what is wrong with a tarball, which is in `releases/` or in the sums. */
async function examine(folder: Folder, file: string): Promise<string[]> {
  const [tarball] = parseTarball(file);
  const recorded = folder.sums.get(file);
  if (!folder.files.includes(file)) return [`it is in ${SUMS}, but missing`];
  if (tarball === undefined) return ["its name is not NAME_VERSION_OS_ARCH.tar.gz"];
  if (recorded === undefined) return [`it is not in ${SUMS}, so it was not released: release it again, or remove it`];
  const bytes = Deno.readFileSync(join(folder.path, file));
  const hash = await sha256(bytes);
  if (recorded !== hash.toHex()) return [`its hash is ${hash.toHex()}, not that in ${SUMS}: restore it from git`];
  const member = untar(await gunzip(bytes));
  const { platform, kind, interpreter } = identify(member.content);
  const wrong: string[] = [];
  if (member.name !== tarball.name) wrong.push(`the file in it is ${quote(member.name)}, not ${quote(tarball.name)}`);
  if (member.mode !== "0755") wrong.push(`the file in it has mode ${member.mode}, not 0755`);
  if (platform !== tarball.platform) wrong.push(`the program in it is for ${platform}`);
  const release = attempt(() => readRelease(folder, tarball.name));
  if (release instanceof Error || release?.version !== tarball.version) return wrong;
  const build = release.platforms[tarball.platform];
  if (build === undefined) return [...wrong, `it is not in ${tarball.name}.json: release it again`];
  const facts = { file, size: bytes.length, hash: `sha256-${hash.toBase64()}`, kind, interpreter };
  for (const [key, fact] of Object.entries(facts)) {
    const said = build[key as keyof Build];
    if (said !== fact) wrong.push(`${tarball.name}.json says that the ${key} is ${said}, but it is ${fact}`);
  }
  return wrong;
}

function examineRecord(folder: Folder, name: string, release: Release): string[] {
  const platforms = Object.keys(release.platforms);
  const isThere = (platform: string) => folder.files.includes(`${name}_${release.version}_${platform}.tar.gz`);
  const missing = platforms.filter((platform) => !isThere(platform));
  const newest = newestVersion(folder, name);
  return [
    ...release.name === name ? [] : [`it is for ${quote(release.name)}`],
    ...newest === release.version ? [] : [`it is for ${release.version}, but ${newest} exists`],
    ...platforms.length > 0 ? [] : ["it names no platform"],
    ...missing.map((platform) => `it names a tarball for ${platform}, which is missing`),
  ];
}

async function examineRemote({ url, hash, size: length }: Build, seconds: number): Promise<string[]> {
  let response: Response | undefined;
  try {
    // Some servers declare a tarball as compressed content, which would be decompressed during the transfer.
    const headers = { "accept-encoding": "identity" };
    response = await fetch(url, { headers, signal: AbortSignal.timeout(seconds * 1000) });
    if (response.status === 404) return [`${url} was not found (404): is it pushed, and can everybody read it?`];
    if (!response.ok) return [`${url} answers ${response.status} ${response.statusText}`];
    const bytes = await readUpTo(length, response.body ?? new Blob().stream());
    if (`sha256-${(await sha256(bytes)).toBase64()}` === hash) return [];
    const isPage = /^\s*<(!doctype|html)/i.test(new TextDecoder().decode(bytes.subarray(0, 256)));
    return [`${url} returns ${isPage ? "a web page, perhaps a login," : "other content"} instead of the file`];
  } catch (error) {
    if (error instanceof DOMException) return [`${url} took longer than ${seconds} seconds`];
    const cause = explain(error instanceof Error && error.cause || error).replace(/^.*client error \(\w+\): /, "");
    return [`${url} ${response ? "broke off" : "cannot be fetched"}: ${cause}`];
  } finally {
    await response?.body?.cancel().catch(() => {});
  }
}

/** Checks all releases, or those of one program; returns whether there are no problems. */
async function verify(name: string | undefined, options: Options): Promise<boolean> {
  const timeout = Number(options.timeout ?? 60);
  if (!(timeout > 0 && timeout <= 86400)) {
    throw new UsageError(`--timeout is a number of seconds, not ${quote(options.timeout ?? "")}`);
  }
  const folder = readFolder(findRoot());
  const records = folder.files.filter((file) => file.endsWith(".json")).map((file) => file.slice(0, -".json".length));
  const missing = [...folder.sums.keys()].filter((file) => !folder.files.includes(file));
  const tarballs = [...folder.files.filter((file) => file.endsWith(".tar.gz")), ...missing];
  const names = [...new Set(tarballs.flatMap(parseTarball).map((each) => each.name).concat(records))].sort(byCode);
  if (name !== undefined && !names.includes(name)) {
    throw new Refusal(`No ${quote(name)} is released${names.length > 0 ? `; there are ${names.join(", ")}` : ""}`);
  }
  let problems = 0;
  const report = (file: string, wrong: readonly string[], well = "as recorded") => {
    problems += wrong.length;
    for (const each of wrong.length > 0 ? wrong : [well]) printError(`${file}: ${each}`);
  };
  for (const each of name === undefined ? names : [name]) {
    const record = attempt(() => readRelease(folder, each)) ?? new Error("it is missing");
    const isRead = !(record instanceof Error);
    report(`${each}.json`, isRead ? examineRecord(folder, each, record) : [explain(record)], "complete");
    if (!folder.files.includes(`${each}.nix`)) report(`${each}.nix`, ["it is missing"]);
    for (const build of options.remote && isRead ? Object.values(record.platforms) : []) {
      report(build.file, await examineRemote(build, timeout), "the same at its URL");
    }
  }
  const meant = tarballs.filter((file) => name === undefined || parseTarball(file)[0]?.name === name);
  for (const file of meant) report(file, await examine(folder, file).catch((error) => [explain(error)]));
  const isEmpty = names.length === 0 && problems === 0;
  printError(isEmpty ? `Nothing is released in ${folder.path}` : `Tarballs: ${meant.length}. Problems: ${problems}`);
  return problems === 0;
}

/** Prints the releases by name, the newest version first. */
function list(options: Options): void {
  const folder = readFolder(findRoot());
  const rows = folder.tarballs
    .sort((a, b) => byCode(a.name, b.name) || compareVersions(b.version, a.version) || byCode(a.platform, b.platform))
    .map(({ file, name, version, platform }) => {
      const newest = version === newestVersion(folder, name);
      return { file, name, newest, platform, size: Deno.statSync(join(folder.path, file)).size, version };
    });
  if (options.json) return console.log(JSON.stringify(rows, undefined, 2));
  if (rows.length === 0) return printError(`Nothing is released in ${folder.path}`);
  const cells = rows.map((row) => [row.name, row.version, row.platform, size(row.size), row.newest ? "newest" : ""]);
  const table = [["NAME", "VERSION", "PLATFORM", "SIZE", ""], ...cells];
  const width = (column: number) => Math.max(...table.map((row) => row[column]?.length ?? 0));
  for (const row of table) console.log(row.map((cell, column) => cell.padEnd(width(column))).join("  ").trimEnd());
}

// ── The command line ────────────────────────────────────────────────────────────────────────────────────────────

function readArguments(args: string[]): { words: string[]; options: Options } {
  const unknown: string[] = [];
  const parsed = parseArgs(args, {
    string: ["_", ...TEXTS],
    boolean: SWITCHES,
    alias: { "dry-run": "n", help: "h" },
    unknown: (argument, key) => key === undefined || (unknown.push(argument), false),
  });
  if (unknown[0] !== undefined) throw new UsageError(`Unknown option ${quote(unknown[0])}`);
  const words = parsed._.map(String);
  const empty = TEXTS.find((name) => parsed[name] === "");
  if (empty !== undefined) throw new UsageError(`--${empty} needs a value`);
  const fitting = OPTIONS_OF[words[0] ?? ""];
  const stray = [...TEXTS, ...SWITCHES].find((name) => fitting?.includes(name) === false && parsed[name]);
  if (stray !== undefined) throw new UsageError(`--${stray} does not go with ${words[0]}`);
  return { words, options: parsed };
}

/**
 * The program.
 *
 * @returns The exit status: 0 done or nothing to do, 1 refused or a problem found, 2 wrong usage.
 */
export async function main(args: string[]): Promise<number> {
  try {
    if (Deno.build.os === "windows") throw new Error("Native Windows is not supported: use WSL");
    if (!("toHex" in Uint8Array.prototype)) throw new Error(`Deno ${Deno.version.deno} is too old: 2.5 is needed`);
    if (args.join() === "--version") return console.log(VERSION), 0;
    const { words: [word, ...more], options } = readArguments(args);
    if (options.help) return console.log(HELP), 0;
    if (word === undefined) throw new UsageError("Usage: release.ts FILE (see --help)");
    const extra = more[word === "verify" ? 1 : 0];
    if (extra !== undefined) throw new UsageError(`Unexpected ${quote(extra)}`);
    if (word === "verify") return await verify(more[0], options) ? 0 : 1;
    if (word === "list") list(options);
    else await release(word, options);
    return 0;
  } catch (error) {
    printError(`release: ${explain(error)}`);
    return error instanceof UsageError ? 2 : 1;
  }
}

if (import.meta.main) Deno.exit(await main(Deno.args));
