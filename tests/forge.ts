/**
 * A git server for tests: real git behind HTTPS on loopback, with repos that tests create commit by commit.
 *
 * Git's own server speaks git's own protocol, so a test sees what a user's git sees. {@linkcode Forge.mode} selects
 * faults: the server hangs, asks for a password, or is no git server.
 */
import { Buffer } from "node:buffer";
import { createHash } from "node:crypto";
import { deflateSync } from "node:zlib";
import { isThere, kill, succeed } from "./helpers.ts";

/**
 * The content of a path in a commit: a file's text or bytes; an executable file; a link's text; a commit of another
 * repo; the hash of a tree in the repo.
 */
export type FileContent =
  | string
  | Uint8Array
  | { executable: string | Uint8Array }
  | { link: string }
  | { submodule: string }
  | { tree: string };

/**
 * How a request is answered. `hang`: never; `stall`: until half of a pack is sent; `garbage`: with noise that has git's
 * content type; `dumb`: with files, as a server without git does; `html`: with a web page; a number: with an HTTP
 * status; `error`: with an error of git's protocol.
 */
export type Mode = "serve" | "hang" | "stall" | "garbage" | "html" | "dumb" | number | { error: string };

/** How a server is started. */
export interface ForgeOptions {
  /** Whether it leaves out what a client does not want, as the big forges do: `--filter`. It does unless told. */
  filter?: boolean;
  /** The newest protocol that it speaks, 2 unless told. With 0 and no filter, only what refs name can be asked for. */
  protocol?: 0 | 2;
  /** Whether it speaks HTTPS, as it does unless told. */
  tls?: boolean;
}

/** The entry of a path in a tree: its mode, and the hash of its object or the object's content. */
function entry(content: FileContent): { mode: string; id?: string; blob: string | Uint8Array } {
  if (typeof content === "string" || content instanceof Uint8Array) return { mode: "100644", blob: content };
  if ("executable" in content) return { mode: "100755", blob: content.executable };
  if ("link" in content) return { mode: "120000", blob: content.link };
  if ("tree" in content) return { mode: "40000", id: content.tree, blob: "" };
  return { mode: "160000", id: content.submodule, blob: "" };
}

/** The bytes of a name, in which U+DC80 to U+DCFF stand for single bytes that are not UTF-8. */
function nameBytes(name: string): Buffer {
  const parts = name.split(/([\udc80-\udcff])/);
  return Buffer.concat(parts.map((part, index) => Buffer.from(index % 2 ? [part.charCodeAt(0) - 0xdc00] : part)));
}

/** A key with a self-signed certificate for loopback, which is valid while the tests run. */
async function makeCertificate(): Promise<string> {
  const kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"];
  const subject = ["-subj", "/CN=forge", "-addext", "subjectAltName=IP:127.0.0.1"];
  return await succeed(["openssl", "req", "-x509", ...kind, ...subject, "-keyout", "-", "-out", "-"]);
}

let certificate: Promise<string> | undefined;

/**
 * A git server on loopback, with its repos in a temporary directory.
 *
 * @example
 * ```ts
 * await using forge = await Forge.start();
 * using box = new Sandbox();
 * box.write(`${box.home}/.gitconfig`, forge.config("https://github.com/"));
 * const commit = await forge.commit("team/skills", { "skills/tdd/SKILL.md": skillText("tdd") });
 * const listing = ["git", "ls-remote", "https://github.com/team/skills", "HEAD"];
 * assertEquals(await succeed(listing, { environment: { HOME: box.home } }), `${commit}\tHEAD\n`);
 * ```
 */
export class Forge implements AsyncDisposable {
  /** The real path of the folder with the repos, as `team/skills.git`. */
  readonly path: string = Deno.realPathSync(Deno.makeTempDirSync({ prefix: "forge-" }));
  /** The address, as `https://127.0.0.1:4711`. */
  readonly site: string;
  /** How many bytes of bodies were sent. */
  bytes = 0;
  /** The requests so far, as `GET /team/skills.git/info/refs?service=git-upload-pack`. */
  requests: string[] = [];
  /** What requests meet from now on. */
  mode: Mode = "serve";
  /** Is called before each request is answered, to change a repo at that moment, or to give this request's mode. */
  onRequest?: (line: string) => Mode | undefined | void | Promise<Mode | undefined | void>;

  /** All that git's processes here have as environment. Dates are fixed for the ids of commits to be. */
  readonly #environment = {
    HOME: this.path,
    GIT_CONFIG_NOSYSTEM: "1",
    GIT_AUTHOR_NAME: "A",
    GIT_AUTHOR_EMAIL: "a@example.org",
    GIT_AUTHOR_DATE: "1700000000 +0000",
    GIT_COMMITTER_NAME: "A",
    GIT_COMMITTER_EMAIL: "a@example.org",
    GIT_COMMITTER_DATE: "1700000000 +0000",
  };
  readonly #server: Deno.HttpServer<Deno.NetAddr>;
  readonly #backends = new Set<Deno.ChildProcess>();
  /** Ends what hangs. */
  readonly #end = Promise.withResolvers<void>();
  readonly #abort = new AbortController();

  /** The path of `git http-backend`. */
  readonly #program: string;
  readonly #protocol: 0 | 2;

  private constructor(program: string, protocol: 0 | 2, pem: string, isSecure: boolean) {
    [this.#program, this.#protocol] = [program, protocol];
    Deno.writeTextFileSync(`${this.path}/forge.pem`, pem);
    const tls = { key: pem, cert: pem.slice(pem.indexOf("-----BEGIN CERTIFICATE")) };
    const options = {
      hostname: "127.0.0.1",
      port: 0,
      signal: this.#abort.signal,
      onListen() {},
      ...isSecure ? tls : {},
    };
    this.#server = Deno.serve(options, async (request) => {
      const response = await this.#answer(request);
      const count = (chunk: Uint8Array, controller: TransformStreamDefaultController) => {
        this.bytes += chunk.length;
        controller.enqueue(chunk);
      };
      return new Response(response.body?.pipeThrough(new TransformStream({ transform: count })), response);
    });
    this.site = `${isSecure ? "https" : "http"}://127.0.0.1:${this.#server.addr.port}`;
  }

  /** Starts a server without repos. */
  static async start({ filter = true, protocol = 2, tls = true }: ForgeOptions = {}): Promise<Forge> {
    // Not through `git`, which would stay between us and the process to kill.
    const program = `${(await succeed(["git", "--exec-path"])).trim()}/git-http-backend`;
    const forge = new Forge(program, protocol, await (certificate ??= makeCertificate()), tls);
    const uploadpack = `[uploadpack]\n\tallowFilter = ${filter}\n\tallowAnySHA1InWant = ${filter}\n`;
    Deno.writeTextFileSync(`${forge.path}/.gitconfig`, `[safe]\n\tdirectory = *\n[gc]\n\tauto = 0\n${uploadpack}`);
    return forge;
  }

  /** Ends the server, whatever hangs there, and removes the repos. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#end.resolve();
    this.#abort.abort();
    const backends = [...this.#backends];
    backends.forEach(kill);
    await Promise.all([this.#server.finished, ...backends.map(({ status }) => status)]);
    Deno.removeSync(this.path, { recursive: true });
  }

  // ── Repos ─────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Runs git in a repo. */
  async git(repo: string, ...args: string[]): Promise<string> {
    return await succeed(["git", ...args], { cwd: `${this.path}/${repo}.git`, environment: this.#environment });
  }

  /**
   * Commits on a branch of a repo; makes what is missing of these. The first branch is the one that `HEAD` names.
   *
   * Objects are written as they are stored, not with `git add`, for paths that git refuses to add (`.GIT/x`, `../x`)
   * and for speed. The same calls give the same commits.
   *
   * @param repo The repo's name, as `team/skills`.
   * @param files What changes, by path. `undefined` removes a path with all that is below it.
   * @param options The branch (`main` unless told), the commit's message, and a tag to put on it.
   * @returns The commit's id.
   */
  async commit(
    repo: string,
    files: Record<string, FileContent | undefined>,
    { branch = "main", message = "Change", tag }: { branch?: string; message?: string; tag?: string } = {},
  ): Promise<string> {
    const directory = `${this.path}/${repo}.git`;
    const init = ["git", "init", "--quiet", "--bare", "--template=", `--initial-branch=${branch}`, directory];
    await Deno.lstat(directory).catch(() => succeed(init, { environment: this.#environment }));
    const parent = (await this.git(repo, "for-each-ref", "--format=%(objectname)", `refs/heads/${branch}`)).trim();

    const entries = new Map<string, { mode: string; id: string }>();
    const listing = parent === "" ? "" : await this.git(repo, "ls-tree", "-r", "-z", parent);
    for (const [, mode = "", id = "", path = ""] of listing.matchAll(/(\d+) \w+ (\w+)\t([^\0]+)\0/g)) {
      entries.set(path, { mode, id });
    }
    for (const [path, content] of Object.entries(files)) {
      if (content !== undefined) {
        const { mode, id, blob } = entry(content);
        entries.set(path, { mode, id: id ?? this.#write(repo, "blob", blob) });
      } else {
        for (const each of entries.keys()) if (`${each}/`.startsWith(`${path}/`)) entries.delete(each);
      }
    }

    const who = "A <a@example.org> 1700000000 +0000";
    const head = [`tree ${this.#tree(repo, [...entries])}`, ...(parent === "" ? [] : [`parent ${parent}`])];
    const text = [...head, `author ${who}`, `committer ${who}`, "", message, ""].join("\n");
    const commit = this.#write(repo, "commit", text);
    await this.git(repo, "update-ref", `refs/heads/${branch}`, commit);
    if (tag !== undefined) await this.git(repo, "update-ref", `refs/tags/${tag}`, commit);
    return commit;
  }

  /**
   * Writes trees in trees, all the same, in a repo that exists: few objects that stand for many files.
   *
   * @returns The id of the outermost tree. It has `width ** levels` files.
   */
  nestedTrees(repo: string, levels: number, width: number): string {
    const names = Array.from({ length: width }, (_, index) => `${index}`);
    let content: FileContent = "x";
    for (let level = 0; level < levels; level++) {
      const { mode, id, blob } = entry(content);
      const each = { mode, id: id ?? this.#write(repo, "blob", blob) };
      content = { tree: this.#tree(repo, names.map((name) => [name, each])) };
    }
    return (content as { tree: string }).tree;
  }

  /** Writes the tree of these paths, with the trees in it; gives its id. */
  #tree(repo: string, entries: [path: string, { mode: string; id: string }][]): string {
    const rows: { key: Buffer; row: Buffer }[] = [];
    const add = (name: string, mode: string, id: string) => {
      // Git's order is that of the names' bytes, where a folder's name ends with a slash.
      const bytes = nameBytes(name);
      const key = mode === "40000" ? Buffer.concat([bytes, Buffer.from("/")]) : bytes;
      rows.push({
        key,
        row: Buffer.concat([Buffer.from(`${mode} `), bytes, Buffer.from([0]), Buffer.from(id, "hex")]),
      });
    };
    const folders = Map.groupBy(entries, ([path]) => path.includes("/") ? path.slice(0, path.indexOf("/")) : undefined);
    for (const [name, { mode, id }] of folders.get(undefined) ?? []) add(name, mode, id);
    folders.delete(undefined);
    for (const [folder = "", inside] of folders) {
      add(folder, "40000", this.#tree(repo, inside.map(([path, each]) => [path.slice(folder.length + 1), each])));
    }
    rows.sort((a, b) => Buffer.compare(a.key, b.key));
    return this.#write(repo, "tree", Buffer.concat(rows.map(({ row }) => row)));
  }

  /** Writes an object as git keeps it; gives its id. */
  #write(repo: string, type: string, content: string | Uint8Array): string {
    const bytes = typeof content === "string" ? Buffer.from(content) : content;
    const object = Buffer.concat([Buffer.from(`${type} ${bytes.length}\0`), bytes]);
    const id = createHash("sha1").update(object).digest("hex");
    const directory = `${this.path}/${repo}.git/objects/${id.slice(0, 2)}`;
    const file = `${directory}/${id.slice(2)}`;
    if (isThere(file)) return id;
    Deno.mkdirSync(directory, { recursive: true });
    // Noise, of which a large repo is made here, gets no smaller for more effort.
    Deno.writeFileSync(file, deflateSync(object, { level: 1 }));
    return id;
  }

  /**
   * Has the server send a message to the client before each pack, as progress.
   *
   * @param text The message, in which `\r` and `\n` written with a backslash are line ends.
   * @param seconds How long the server waits before it sends the message.
   */
  sayBefore(text: string, seconds: number): void {
    const hook = `${this.path}/say`;
    const say = `printf '%b' '${text}' >&2`;
    Deno.writeTextFileSync(hook, `#!/bin/sh\nsleep ${seconds}\n${say}\nexec "$@"\n`, { mode: 0o755 });
    Deno.writeTextFileSync(`${this.path}/.gitconfig`, `[uploadpack]\n\tpackObjectsHook = ${hook}\n`, { append: true });
  }

  // ── Ways here ─────────────────────────────────────────────────────────────────────────────────────────────────

  /**
   * What a `~/.gitconfig` says for git to fetch from here what it is asked for from these sites.
   *
   * @param sites What addresses begin with, as `https://github.com/` or `git@git.example.org:`.
   */
  config(...sites: string[]): string {
    const tls = `[http]\n\tsslCAInfo = ${this.path}/forge.pem\n`;
    return `${tls}[url "${this.site}/"]\n${sites.map((site) => `\tinsteadOf = ${JSON.stringify(site)}\n`).join("")}`;
  }

  /**
   * Writes an `ssh` into a home that reaches these repos on whatever host it is asked for: git's server runs here as a
   * child, where the real one would run it on that host. Its arguments are kept in `ssh.log` beside it, a line a call.
   *
   * @returns The `PATH` on which it is found.
   */
  sshOn(home: string): string {
    // Git puts the host and the command last. The command is quoted for a shell, and its path may begin with a slash.
    const script = `#!/bin/sh
echo "$*" >> '${home}/ssh.log'
while [ $# -gt 2 ]; do shift; done
eval "set -- $2"
path=\${2#/}
export HOME='${this.path}' GIT_CONFIG_NOSYSTEM=1
exec git upload-pack "$HOME/\${path%.git}.git"
`;
    Deno.writeTextFileSync(`${home}/ssh`, script, { mode: 0o755 });
    return `${home}:${Deno.env.get("PATH")}`;
  }

  // ── Requests ──────────────────────────────────────────────────────────────────────────────────────────────────

  async #answer(request: Request): Promise<Response> {
    const { pathname, search } = new URL(request.url);
    const line = `${request.method} ${pathname}${search}`;
    this.requests.push(line);
    const mode = await this.onRequest?.(line) ?? this.mode;
    if (mode === "serve") return await this.#serve(request);
    if (mode === "dumb") {
      const file = `${this.path}${pathname.replace(/^(\/[^/]+\/[^/.]+)(?:\.git)?\//, "$1.git/")}`;
      return await Deno.readFile(file).then((bytes) => new Response(bytes), () => new Response(null, { status: 404 }));
    }
    if (mode === "stall") return await this.#stall(await this.#serve(request));
    if (mode === "html") {
      // With its line ends: git takes a page of one line for a server of the old kind that has no refs.
      const page = "<!doctype html>\n<title>Sign in</title>\n";
      return new Response(page, { headers: { "content-type": "text/html" } });
    }
    if (mode === "garbage") {
      const kind = request.method === "GET" ? "advertisement" : "result";
      return new Response("\0\xffzzzz".repeat(99), {
        headers: { "content-type": `application/x-git-upload-pack-${kind}` },
      });
    }
    if (typeof mode === "object") {
      const packet = (text: string) => (Buffer.byteLength(text) + 4).toString(16).padStart(4, "0") + text;
      const body = `${packet("# service=git-upload-pack\n")}0000${packet(`ERR ${mode.error}`)}`;
      return new Response(body, { headers: { "content-type": "application/x-git-upload-pack-advertisement" } });
    }
    if (mode === "hang") await this.#end.promise;
    const status = mode === "hang" ? 503 : mode;
    return new Response(null, { status, headers: status === 401 ? { "www-authenticate": 'Basic realm="forge"' } : {} });
  }

  /** Has git answer, as a CGI program. */
  async #serve(request: Request): Promise<Response> {
    const { pathname, search } = new URL(request.url);
    const header = (name: string) => request.headers.get(name) ?? "";
    const env = {
      ...this.#environment,
      PATH: Deno.env.get("PATH") ?? "",
      GIT_PROJECT_ROOT: this.path,
      GIT_HTTP_EXPORT_ALL: "1",
      GIT_PROTOCOL: this.#protocol === 0 ? "" : header("git-protocol"),
      REQUEST_METHOD: request.method,
      PATH_INFO: decodeURIComponent(pathname).replace(/(\.git)?(?=\/(info\/refs|git-[a-z-]+)$)/, ".git"),
      QUERY_STRING: search.slice(1),
      CONTENT_TYPE: header("content-type"),
      HTTP_CONTENT_ENCODING: header("content-encoding"),
      // Absent where a body comes in chunks of unknown number; git then reads to its end.
      ...(request.headers.has("content-length") ? { CONTENT_LENGTH: header("content-length") } : {}),
    };
    const options = { env, clearEnv: true, stdin: "piped", stdout: "piped", stderr: "null" } as const;
    const backend = new Deno.Command(this.#program, options).spawn();
    this.#backends.add(backend);
    backend.status.then(() => this.#backends.delete(backend));
    // Either side may go away in the middle.
    const input = request.body?.pipeTo(backend.stdin) ?? backend.stdin.close();
    input.catch(() => {});

    const reader = backend.stdout.getReader();
    let bytes = Buffer.alloc(0);
    let end = -1;
    while (end < 0) {
      const { value, done } = await reader.read();
      if (done) return new Response("No answer", { status: 500 });
      bytes = Buffer.concat([bytes, value]);
      end = bytes.indexOf("\r\n\r\n");
    }
    reader.releaseLock();
    const headers = new Headers(
      bytes.toString("utf8", 0, end).split("\r\n").map((line) => line.split(": ", 2) as [string, string]),
    );
    const status = parseInt(headers.get("status") ?? "200");
    headers.delete("status");
    const rest = bytes.subarray(end + 4);
    const body = backend.stdout.pipeThrough(
      new TransformStream<Uint8Array<ArrayBuffer>, Uint8Array<ArrayBuffer>>({
        start: (controller) => controller.enqueue(rest),
      }),
    );
    return new Response(body, { status, headers });
  }

  /** Lets through what has no pack, and half of a pack. */
  async #stall(response: Response): Promise<Response> {
    const bytes = Buffer.from(await response.arrayBuffer());
    const start = bytes.indexOf("PACK");
    if (start < 0) return new Response(bytes, response);
    const body = new ReadableStream({
      start: (controller) => controller.enqueue(bytes.subarray(0, (start + bytes.length) / 2)),
      pull: async (controller) => {
        await this.#end.promise;
        controller.close();
      },
    });
    return new Response(body, response);
  }
}
