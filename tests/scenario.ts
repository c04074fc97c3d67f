/**
 * Tests of a line or two: what is set up, what is run, and what is expected.
 *
 * Whole messages are compared, so their wording is reviewed with the tests.
 */
import { assertEquals } from "jsr:@std/assert@^1/equals";
import {
  deployed,
  execute,
  installed,
  requires,
  type Result,
  Sandbox,
  stamps,
  type Tool,
  type Tree,
  tree,
  whatIs,
} from "./helpers.ts";

/** What is expected of a run. What is `undefined` may be anything. */
interface Expectation {
  status: number;
  stderr?: string;
  stdout?: string;
}

/**
 * A test as one chain: what is set up, run and expected, in this order.
 *
 * Everywhere, `/box` stands for the sandbox, with `/box/home` and `/box/repo` in it, and `/installed` for the directory
 * with the program. Relative paths are below the repo. A run must succeed and print nothing on standard output, unless
 * what follows says otherwise.
 */
export class Scenario {
  readonly #steps: [step: (box: Sandbox) => unknown, place: string][] = [];
  #expected: Expectation = { status: 0 };
  #cwd: string | undefined;
  #pasted: string[] | undefined;
  #memory: [trees: Tree, stamps: Tree] | undefined;

  /** Does anything else. */
  do(step: (box: Sandbox) => unknown): this {
    const lines = (new Error().stack ?? "").split("\n").slice(1);
    const place = lines.find((line) => !line.includes("scenario.ts"))?.trim() ?? "";
    this.#steps.push([step, place]);
    return this;
  }

  /** Carries out the steps in a sandbox of their own. */
  async execute(): Promise<void> {
    using box = new Sandbox();
    for (const [step, place] of this.#steps) {
      try {
        await step(box);
      } catch (error) {
        if (error instanceof Error) error.message = `${place}\n${error.message}`;
        throw error;
      }
    }
  }

  // What is set up.

  skills(...names: string[]): this {
    return this.do((box) => box.skills(...names.map((name) => insert(name, box))));
  }
  manifest(...lines: string[]): this {
    return this.do((box) => box.manifest(...lines.map((line) => insert(line, box))));
  }
  /** Changes the mode of this and later manifests. */
  mode(mode?: string): this {
    return this.do((box) => box.mode(mode));
  }
  write(path: string, content: string | Uint8Array): this {
    const text = (box: Sandbox) => typeof content === "string" ? insert(content, box) : content;
    return this.do((box) => box.write(insert(path, box), text(box)));
  }
  link(path: string, text: string): this {
    return this.do((box) => box.link(insert(path, box), insert(text, box)));
  }
  directory(...paths: string[]): this {
    return this.do((box) => paths.forEach((path) => box.directory(insert(path, box))));
  }
  remove(...paths: string[]): this {
    return this.do((box) => paths.forEach((path) => box.remove(insert(path, box))));
  }
  /** Goes over to another repo. */
  enter(name: string): this {
    return this.do((box) => {
      this.#cwd = undefined;
      box.enter(name);
    });
  }
  /** Starts the following runs in a directory. */
  from(path: string): this {
    return this.do((box) => this.#cwd = box.at(insert(path, box)));
  }
  /** Writes a copy of the program, and has the following runs use it as `.envrc` does, or with other options of Deno. */
  paste(path = "use-skills.ts", options = ["--no-lock", "--no-config"]): this {
    return this.do(async (box) => {
      const script = box.at(insert(path, box));
      this.#pasted = [...options, script];
      box.write(script, Deno.readTextFileSync((await installed(box.program)).script));
    });
  }
  /** Has the following runs find no library: the cache is empty, and no registry answers. */
  withoutLibraries(): this {
    return this.do((box) => {
      using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
      const registry = `http://127.0.0.1:${listener.addr.port}/`; // Nobody listens any more when this is used.
      box.environment = { ...box.environment, JSR_URL: registry, DENO_DIR: `${box.path}/empty`, NO_COLOR: "1" };
    });
  }
  /** Sets the environment of the following runs. */
  environment(variables: Record<string, string>): this {
    return this.do((box) => {
      box.environment = Object.fromEntries(Object.entries(variables).map(([key, value]) => [key, insert(value, box)]));
    });
  }

  // Runs, and what they come to.

  /** Runs the program. */
  run(...args: string[]): this {
    return this.#run(async (box, words) => {
      const pasted = this.#pasted && [Deno.execPath(), "run", "-A", ...this.#pasted, ...words];
      return await execute(pasted || await box.call(...words), await box.start(this.#cwd ? { cwd: this.#cwd } : {}));
    }, args);
  }
  /** Runs the program without a command, with these options. */
  sync(...options: string[]): this {
    return this.run(...options);
  }
  /** Runs the program as somebody whom permissions stop. */
  runUnprivileged(...args: string[]): this {
    return this.#run((box, words) => box.runUnprivileged(...words), args);
  }
  #run(start: (box: Sandbox, words: string[]) => Promise<Result>, args: string[]): this {
    const expected: Expectation = this.#expected = { status: 0, stdout: "" };
    return this.do(async (box) => {
      const { status, stderr, stdout } = await start(box, args.map((word) => insert(word, box)));
      const actual = { status, stdout: await generalize(stdout, box), stderr: await generalize(stderr, box) };
      assertEquals(actual, { ...actual, ...expected });
    });
  }
  /** What the last run says on standard error. */
  says(...lines: string[]): this {
    this.#expected.stderr = lines.map((line) => `${line}\n`).join("");
    return this;
  }
  /** The last run ends with status 1, and says this if it is given. */
  fails(...lines: string[]): this {
    this.#expected.status = 1;
    return lines.length > 0 ? this.says(...lines) : this;
  }
  /** The last run ends with status 2, and says this if it is given. */
  refuses(...lines: string[]): this {
    this.#expected.status = 2;
    return lines.length > 0 ? this.says(...lines) : this;
  }
  /** What the last run prints on standard output; without lines, it may be anything. */
  prints(...lines: string[]): this {
    delete this.#expected.stdout;
    if (lines.length > 0) this.#expected.stdout = lines.map((line) => `${line}\n`).join("");
    return this;
  }
  /** The JSON object that the last run prints on standard output. */
  printsJson(value: unknown): this {
    return this.prints(...JSON.stringify(value, undefined, 2).split("\n"));
  }

  // What is there afterwards.

  /** What a target contains, as {@linkcode deployed} lists it. */
  has(target: string, entries: Record<string, string>): this {
    return this.do(async (box) => {
      const actual = JSON.stringify(deployed(box.at(insert(target, box))));
      assertEquals(JSON.parse(await generalize(actual, box)), entries);
    });
  }
  /** What is at a path, as {@linkcode whatIs} says it. */
  is(path: string, what: string | undefined): this {
    return this.do(async (box) => {
      const actual = whatIs(box.at(insert(path, box)));
      assertEquals(actual && await generalize(actual, box), what);
    });
  }
  /** Nothing is at these paths. */
  lacks(...paths: string[]): this {
    return paths.reduce((scenario, path) => scenario.is(path, undefined), this);
  }
  /** Remembers everything that is there. */
  remember(): this {
    return this.do((box) => this.#memory = [tree(box.path), stamps(box.path)]);
  }
  /** The same is there as was remembered, below a path of the sandbox. */
  same(below = ""): this {
    const select = (all: Tree) => Object.fromEntries(Object.entries(all).filter(([path]) => path.startsWith(below)));
    return this.do((box) => assertEquals(select(tree(box.path)), select(this.#memory?.[0] ?? {})));
  }
  /** Nothing was written since it was remembered. */
  untouched(): this {
    return this.do((box) => assertEquals(stamps(box.path), this.#memory?.[1]));
  }
}

/** A text with the sandbox's path where `/box` stands for it. */
function insert(text: string, box: Sandbox): string {
  return text.replace(/\/box(?=\/|$|[^\w-])/g, box.path);
}

/** A text with `/box`, `/installed` and `REGISTRY` in place of what this run has, without what Deno itself prints. */
async function generalize(text: string, box: Sandbox): Promise<string> {
  const directory = (await installed(box.program)).script.replace(/\/program\/[^/]*$/, "");
  return text.replaceAll(box.path, "/box").replaceAll(directory, "/installed")
    .replaceAll(box.environment["JSR_URL"] ?? "\0", "REGISTRY/").replaceAll(/^Download .*\n/gm, "");
}

/**
 * Registers a test that is a chain of steps.
 *
 * @param name What the program does, to complete "it".
 * @param tools What is needed, see {@linkcode requires}.
 *
 * @example
 * ```ts
 * scenario("links a skill").skills("hq").manifest("hq").sync().says("use-skills: linked hq for claude, opencode, codex");
 * ```
 */
export function scenario(name: string, ...tools: Tool[]): Scenario {
  const result = new Scenario();
  requires(...tools)(name, () => result.execute());
  return result;
}
