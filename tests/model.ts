/**
 * A loopback model for real coding agents: it speaks their three protocols, records what they send, and answers with
 * scripted steps.
 *
 * - `POST .../messages`: Anthropic Messages (Claude Code)
 * - `POST .../responses`: OpenAI Responses (Codex)
 * - `POST .../chat/completions`: OpenAI Chat Completions (OpenCode, Qwen Code)
 */

/** What the model does in a turn: call the agent's shell, load a skill, or say something. */
export interface Step {
  run?: string;
  skill?: string;
  say?: string;
}

// deno-lint-ignore no-explicit-any -- requests of other programs
type Body = any;

interface Tool {
  name: string;
  type?: string;
  namespace?: string;
}

interface Call extends Tool {
  /** Arguments, or the text of a tool that takes one. */
  input: Record<string, unknown> | string;
}

/** The tools that a request offers. Codex puts some into namespaces, and some into its input. */
function toolsOf(body: Body): Tool[] {
  const flatten = (tools: Body[] = [], namespace?: string): Tool[] =>
    tools.flatMap((tool) =>
      tool.type === "namespace"
        ? flatten(tool.tools, tool.name)
        : [{ name: tool.name ?? tool.function?.name ?? "", type: tool.type, namespace }]
    );
  const input: Body[] = Array.isArray(body.input) ? body.input : [];
  return [...flatten(body.tools), ...input.flatMap(({ tools }) => flatten(tools))];
}

/** How many results of tools a conversation holds, which is the number of steps that are done. */
function countResults(body: Body): number {
  const input: Body[] = Array.isArray(body.input) ? body.input : [];
  const messages: Body[] = body.messages ?? [];
  const blocks = messages.flatMap(({ content }) => Array.isArray(content) ? content : []);
  return input.filter(({ type }) => `${type}`.endsWith("_call_output")).length +
    messages.filter(({ role }) => role === "tool").length +
    blocks.filter(({ type }) => type === "tool_result").length;
}

/** The call with which an agent carries out a step; `undefined` if the step only says something. */
function callFor({ run, skill }: Step, body: Body): Call | undefined {
  const tools = toolsOf(body);
  const find = (...names: string[]) => tools.find(({ name }) => names.includes(name));
  const loader = skill === undefined ? undefined : find("Skill", "skill");
  if (loader) return { ...loader, input: loader.name === "Skill" ? { skill } : { name: skill } };
  const command = skill === undefined ? run : `cat .agents/skills/${skill}/SKILL.md`; // Codex reads the file itself.
  if (command === undefined) return undefined;
  const shell = find("Bash", "bash", "shell_command", "exec_command", "run_shell_command", "exec", "shell");
  if (shell === undefined) throw new Error(`No shell among the tools ${tools.map(({ name }) => name).join(", ")}`);
  const wait = { cmd: command, yield_time_ms: 30_000 };
  if (shell.name === "exec_command") return { ...shell, input: wait };
  if (shell.name === "exec") { // runs JavaScript
    return { ...shell, input: `text(JSON.stringify(await tools.exec_command(${JSON.stringify(wait)})));` };
  }
  if (shell.name === "shell") return { ...shell, input: { command: ["bash", "-c", command] } };
  return { ...shell, input: { command, description: "A scripted step" } };
}

/** An answer as server-sent events. */
function stream(events: readonly Record<string, unknown>[], end = ""): Response {
  const lines = events.map((event) =>
    `${event.type ? `event: ${event.type}\n` : ""}data: ${JSON.stringify(event)}\n\n`
  );
  return new Response(lines.join("") + end, { headers: { "content-type": "text/event-stream" } });
}

function answerMessages(id: string, text: string, call: Call | undefined, body: Body): Response {
  const usage = { input_tokens: 1, output_tokens: 1, cache_creation_input_tokens: 0, cache_read_input_tokens: 0 };
  const message = { id: `msg_${id}`, type: "message", role: "assistant", model: body.model, content: [], usage };
  const block = call ? { type: "tool_use", id: `toolu_${id}`, name: call.name, input: {} } : { type: "text", text: "" };
  const delta = call
    ? { type: "input_json_delta", partial_json: JSON.stringify(call.input) }
    : { type: "text_delta", text };
  const stop_reason = call ? "tool_use" : "end_turn";
  if (!body.stream) return Response.json({ ...message, content: [{ type: "text", text }], stop_reason });
  return stream([
    { type: "message_start", message },
    { type: "content_block_start", index: 0, content_block: block },
    { type: "content_block_delta", index: 0, delta },
    { type: "content_block_stop", index: 0 },
    { type: "message_delta", delta: { stop_reason, stop_sequence: null }, usage },
    { type: "message_stop" },
  ]);
}

function answerResponses(id: string, text: string, call: Call | undefined, body: Body): Response {
  const { name, namespace, input } = call ?? {};
  const place = namespace === undefined || namespace === "functions" ? {} : { namespace };
  const item = typeof input === "string"
    ? { type: "custom_tool_call", id: `ctc_${id}`, call_id: `call_${id}`, name, ...place, input }
    : input
    ? { type: "function_call", id: `fc_${id}`, call_id: `call_${id}`, name, ...place, arguments: JSON.stringify(input) }
    : { type: "message", role: "assistant", id: `msg_${id}`, content: [{ type: "output_text", text }] };
  const usage = { input_tokens: 1, output_tokens: 1, total_tokens: 2 };
  const response = { id, object: "response", model: body.model, status: "completed", output: [item], usage };
  return stream([
    { type: "response.created", response: { id } },
    { type: "response.output_item.added", output_index: 0, item },
    { type: "response.output_item.done", output_index: 0, item },
    { type: "response.completed", response },
  ]);
}

function answerChat(id: string, text: string, call: Call | undefined, body: Body): Response {
  const target = { name: call?.name, arguments: JSON.stringify(call?.input) };
  const tool_calls = [{ index: 0, id: `call_${id}`, type: "function", function: target }];
  const message = call ? { role: "assistant", tool_calls } : { role: "assistant", content: text };
  const finish_reason = call ? "tool_calls" : "stop";
  const usage = { prompt_tokens: 1, completion_tokens: 1, total_tokens: 2 };
  const base = { id, created: 1, model: body.model };
  if (!body.stream) return Response.json({ ...base, choices: [{ index: 0, message, finish_reason }], usage });
  const chunk = { ...base, object: "chat.completion.chunk" };
  return stream([
    { ...chunk, choices: [{ index: 0, delta: message, finish_reason: null }] },
    { ...chunk, choices: [{ index: 0, delta: {}, finish_reason }] },
    { ...chunk, choices: [], usage },
  ], "data: [DONE]\n\n");
}

/** A running model. */
export class Model implements AsyncDisposable {
  /** The bodies of all requests that offered tools. */
  readonly requests: Body[] = [];
  readonly #server: Deno.HttpServer<Deno.NetAddr>;
  #count = 0;

  /**
   * @param script What to do in a conversation: an agent that was told `key` gets these steps, one for each turn. After
   * the last step, or without any, the model says "Done."
   */
  constructor(readonly script: Readonly<Record<string, readonly Step[]>> = {}) {
    this.#server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, (request) => this.#answer(request));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#server.shutdown();
  }

  get url(): string {
    return `http://127.0.0.1:${this.#server.addr.port}`;
  }

  async #answer(request: Request): Promise<Response> {
    const { pathname } = new URL(request.url);
    if (request.method !== "POST") return Response.json({ object: "list", data: [{ id: "model", object: "model" }] });
    if (pathname.endsWith("/count_tokens")) return Response.json({ input_tokens: 1 });
    const body = await request.json();
    const id = `${++this.#count}`.padStart(6, "0");
    const isTurn = toolsOf(body).length > 0; // otherwise a title or a summary
    if (isTurn) this.requests.push(body);
    const told = isTurn ? JSON.stringify(body.messages ?? body.input) : "";
    const steps = Object.entries(this.script).find(([key]) => told.includes(key))?.[1] ?? [];
    const step = (isTurn ? steps[countResults(body)] : undefined) ?? { say: "Done." };
    const call = callFor(step, body);
    const text = step.say ?? "Done.";
    if (pathname.endsWith("/messages")) return answerMessages(id, text, call, body);
    if (pathname.endsWith("/responses")) return answerResponses(id, text, call, body);
    if (pathname.endsWith("/chat/completions")) return answerChat(id, text, call, body);
    return new Response(null, { status: 404 });
  }
}
