/**
 * `sglang-ts chat`: a conversation in the terminal. Answers stream; Ctrl-C stops the answer and not the program;
 * a line under each answer tells tokens, reuse of the prefix cache, and speed.
 */
import { createInterface, type Interface } from "node:readline";
import type { Command } from "commander";
import { SglangError } from "../core/errors.js";
import type { ChatMessage, EngineApi, GenerateChunk } from "../core/protocol.js";
import type { SamplingParams } from "../core/sampling-params.js";
import { DEFAULT_MODEL } from "../weights/catalog.js";
import { loadEngine } from "./load-engine.js";
import { addSamplingFlags, samplingFromOptions } from "./sampling-flags.js";
import { addServerFlags, splitOptions } from "./server-args.js";

const HELP = `  /reset            forget the conversation
  /system TEXT      set the system message and start over (no TEXT: remove it)
  /help             this list
  /exit             leave (Ctrl-D too); Ctrl-C stops an answer
`;

/** Long answers are the point of a chat: the context length is the limit, not 128 tokens. */
const DEFAULT_MAX_NEW_TOKENS = 1024;

export function registerChatCommand(program: Command): void {
  const command = program
    .command("chat")
    .description("talk to a model in the terminal")
    .option("--system <text>", "system message");
  addSamplingFlags(command);
  addServerFlags(command, ["engine", "cli"]);
  command.action(async (options: Record<string, unknown>) => {
    const { engine: engineOptions, cli } = splitOptions(options);
    const engine = await loadEngine((cli.modelPath as string | undefined) ?? DEFAULT_MODEL, engineOptions, {
      logLevel: cli.logLevel as string | undefined,
    });
    try {
      await new ChatSession(engine, process.stdin, process.stdout, {
        system: options.system as string | undefined,
        sampling: { maxNewTokens: DEFAULT_MAX_NEW_TOKENS, ...samplingFromOptions(options) },
      }).run();
    } finally {
      await engine.close();
    }
  });
}

/** The conversation itself, over any engine and any pair of streams. */
export class ChatSession {
  readonly #engine: EngineApi;
  readonly #output: NodeJS.WritableStream;
  readonly #lines: Interface;
  readonly #sampling: Partial<SamplingParams>;
  readonly #dim: (text: string) => string;
  #messages: ChatMessage[] = [];
  #system: string | undefined;
  #answer: AbortController | null = null;

  constructor(
    engine: EngineApi,
    input: NodeJS.ReadableStream,
    output: NodeJS.WritableStream & { isTTY?: boolean },
    options: { system?: string; sampling?: Partial<SamplingParams> } = {},
  ) {
    this.#engine = engine;
    this.#output = output;
    this.#sampling = options.sampling ?? {};
    this.#system = options.system;
    this.#dim = output.isTTY ? (text) => `\u001b[2m${text}\u001b[0m` : (text) => text;
    this.#lines = createInterface({ input, output, terminal: output.isTTY ?? false, prompt: "> " });
    this.#lines.on("SIGINT", () => {
      if (this.#answer) this.#answer.abort();
      else this.#dropLine();
    });
    this.#reset();
  }

  async run(): Promise<void> {
    this.#output.write(`${this.#engine.model.servedModelName}. ${this.#dim("/help lists the commands.")}\n`);
    this.#lines.prompt();
    for await (const line of this.#lines) {
      const text = line.trim();
      if (text === "/exit" || text === "/quit") break;
      if (text.startsWith("/")) this.#command(text);
      else if (text !== "") await this.#reply(line);
      this.#lines.prompt();
    }
    this.#lines.close();
  }

  /** Ctrl-C at the prompt: what was typed so far is thrown away, or it would be sent with the next line. */
  #dropLine(): void {
    const typed = this.#lines.line !== "";
    // The editor's own keys: to the end of the line, then delete all before the cursor.
    this.#lines.write(null, { ctrl: true, name: "e" });
    this.#lines.write(null, { ctrl: true, name: "u" });
    if (!typed) this.#output.write(`\n${this.#dim("(/exit or Ctrl-D leaves)")}\n`);
    this.#lines.prompt();
  }

  #reset(): void {
    this.#messages = this.#system === undefined ? [] : [{ role: "system", content: this.#system }];
  }

  #command(text: string): void {
    const [name, ...words] = text.split(" ");
    switch (name) {
      case "/reset":
        this.#reset();
        this.#output.write(this.#dim("The conversation starts over.\n"));
        break;
      case "/system":
        this.#system = words.length > 0 ? words.join(" ") : undefined;
        this.#reset();
        this.#output.write(
          this.#dim(
            this.#system === undefined ? "No system message.\n" : "System message set; the conversation starts over.\n",
          ),
        );
        break;
      case "/help":
        this.#output.write(HELP);
        break;
      default:
        this.#output.write(this.#dim(`${name} is not a command; /help lists them.\n`));
    }
  }

  async #reply(text: string): Promise<void> {
    this.#messages.push({ role: "user", content: text });
    this.#answer = new AbortController();
    const started = performance.now();
    let answer = "";
    let last: GenerateChunk | null = null;
    try {
      for await (const chunk of this.#engine.generate({
        prompt: { messages: this.#messages },
        samplingParams: this.#sampling,
        signal: this.#answer.signal,
      })) {
        answer += chunk.textDelta;
        this.#output.write(chunk.textDelta);
        last = chunk;
      }
    } catch (error) {
      if (!(SglangError.isInstance(error) && error.code === "ABORTED")) {
        // The message stays out of the history, so the next try starts from a conversation that worked.
        this.#messages.pop();
        this.#output.write(`${this.#dim(`error: ${(error as Error).message}`)}\n`);
        return;
      }
    } finally {
      this.#answer = null;
    }
    this.#messages.push({ role: "assistant", content: answer });
    if (last) this.#output.write(`\n${this.#dim(summary(last, performance.now() - started))}\n`);
  }
}

function summary(last: GenerateChunk, totalMs: number): string {
  const { promptTokens, cachedTokens, completionTokens } = last.usage;
  const first = last.timing.firstTokenMs ?? totalMs;
  const decodeMs = last.timing.totalMs - first;
  const speed =
    completionTokens > 1 && decodeMs > 0 ? `${(((completionTokens - 1) * 1000) / decodeMs).toFixed(1)} tok/s` : "";
  const stopped =
    last.finishReason?.type === "abort"
      ? ", stopped"
      : last.finishReason?.type === "length"
        ? ", cut at max_new_tokens"
        : "";
  return `[${promptTokens} prompt tokens, ${cachedTokens} from the cache, ${completionTokens} new${stopped}; first after ${(first / 1000).toFixed(2)} s${speed ? `, ${speed}` : ""}]`;
}
