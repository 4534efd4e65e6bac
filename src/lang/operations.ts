/** The operations without a model: text, turns, values of other states, pictures, scopes, forks. */
import { SglangError } from "../core/errors.js";
import type { ImagePart, Role, VideoPart } from "./backends/backend.js";
import type { Interpreter, Operation } from "./interpreter.js";
import { consumeSpeculated } from "./speculation.js";
import type { TurnFacts } from "./transcript.js";
import { plainMeta, type Variable, type VariableWriter } from "./variable.js";

export class TextOperation implements Operation {
  readonly #text: string;

  constructor(text: string) {
    this.#text = text;
  }

  run(interpreter: Interpreter): void {
    writeText(interpreter, this.#text);
  }
}

function writeText(interpreter: Interpreter, text: string): void {
  if (text === "") return;
  consumeSpeculated(interpreter, text);
  interpreter.addText(text);
  interpreter.trace.events.push({ type: "text", text });
  const { run } = interpreter;
  if (run.setup.emit) run.emit({ type: "text", state: interpreter.trace.id, text });
}

/** A variable in a text: waits for it, and goes on as the model wrote it. */
export class VariableOperation implements Operation {
  readonly #variable: Variable<unknown>;

  constructor(variable: Variable<unknown>) {
    this.#variable = variable;
  }

  run(interpreter: Interpreter): void | Promise<void> {
    const variable = this.#variable;
    const { run } = interpreter;
    const settled = variable.settled ? variable.text() : run.outside(whenSettled(variable).then(() => variable.text()));
    return settled.then(
      (text) => {
        consumeSpeculated(interpreter, text);
        interpreter.addText(text);
        interpreter.trace.events.push({ type: "variable", name: variable.name, text });
        if (run.setup.emit) run.emit({ type: "text", state: interpreter.trace.id, text });
      },
      (error) => {
        if (run.aborted) throw error;
        const code = SglangError.isInstance(error) ? error.code : "ENGINE_FAILED";
        const message = error instanceof Error ? error.message : String(error);
        throw new SglangError(
          code,
          `The value of "${variable.name}" was used in a text, but it failed: ${message}`,
          { field: variable.name },
          { cause: error },
        );
      },
    );
  }
}

function whenSettled(variable: Variable<unknown>): Promise<void> {
  return new Promise((resolve) => variable.whenSettled(resolve));
}

/** A promise in a text: something of the outside world. */
export class PromiseOperation implements Operation {
  readonly #value: Promise<string>;

  constructor(value: Promise<string>) {
    this.#value = value;
    // Met again when the queue gets here; until then a rejection is nobody's business.
    value.catch(() => {});
  }

  async run(interpreter: Interpreter): Promise<void> {
    writeText(interpreter, await interpreter.run.outside(this.#value));
  }
}

export class MediaOperation implements Operation {
  readonly #part: Promise<ImagePart | VideoPart>;

  constructor(part: Promise<ImagePart | VideoPart>) {
    this.#part = part;
    part.catch(() => {});
  }

  async run(interpreter: Interpreter): Promise<void> {
    const { run, trace } = interpreter;
    const part = await run.outside(this.#part);
    interpreter.speculated = "";
    interpreter.transcript.addPart(part);
    trace.events.push({ type: "image", media: part.type });
    if (run.setup.emit) run.emit({ type: "image", state: trace.id, media: part.type });
  }
}

export class BeginTurnOperation implements Operation {
  readonly #role: Role;
  readonly #facts: TurnFacts;

  constructor(role: Role, facts: TurnFacts) {
    this.#role = role;
    this.#facts = facts;
  }

  run(interpreter: Interpreter): void {
    const { transcript, trace } = interpreter;
    const facts = { ...this.#facts };
    if (this.#role === "tool" && facts.toolCallId === undefined) {
      const call = transcript.unansweredCall();
      if (!call) {
        throw new SglangError(
          "INVALID_REQUEST",
          "s.tool answers a call, but the last assistant turn has no call without an answer; pass { callId, name }.",
        );
      }
      facts.toolCallId = call.id;
      facts.name ??= call.function.name;
    }
    interpreter.speculated = "";
    transcript.begin(this.#role, facts);
    trace.events.push({ type: "turn", role: this.#role });
  }
}

export const END_TURN: Operation = {
  run: (interpreter) => {
    interpreter.speculated = "";
    interpreter.transcript.end();
  },
};

export class ScopeBeginOperation implements Operation {
  readonly name: string;
  readonly #writer: VariableWriter<string>;

  constructor(name: string, writer: VariableWriter<string>) {
    this.name = name;
    this.#writer = writer;
  }

  run(interpreter: Interpreter): void {
    interpreter.scopes ??= [];
    interpreter.scopes.push({ name: this.name, text: "", writer: this.#writer });
  }

  fail(error: unknown): void {
    this.#writer.reject(error);
  }
}

/** Ends the scope whose variable `writer` fills. */
export class ScopeEndOperation implements Operation {
  readonly #writer: VariableWriter<string>;

  constructor(writer: VariableWriter<string>) {
    this.#writer = writer;
  }

  run(interpreter: Interpreter): void {
    const scope = interpreter.scopes?.find(({ writer }) => writer === this.#writer);
    if (!scope) return;
    interpreter.scopes = interpreter.scopes?.filter((other) => other !== scope);
    scope.writer.resolve(scope.text, plainMeta("scope", scope.text));
  }

  fail(error: unknown): void {
    this.#writer.reject(error);
  }
}

/** Starts forks from the prompt as it is here; the runtime is told of a prefix that several will share. */
export class ForkOperation implements Operation {
  readonly #children: readonly Interpreter[];

  constructor(children: readonly Interpreter[]) {
    this.#children = children;
  }

  run(interpreter: Interpreter): void | Promise<void> {
    const { run, transcript, trace } = interpreter;
    const ids = this.#children.map((child) => child.trace.id);
    trace.events.push({ type: "fork", children: this.#children.map((child) => child.trace) });
    if (run.setup.emit) run.emit({ type: "fork", state: trace.id, children: ids });
    const held = transcript.isEmpty ? undefined : run.firstPrompt(() => transcript.prompt());
    const hint = this.#children.length > 1 && !transcript.isEmpty && !run.setup.symbolic && run.backend.prefixHint;
    if (!held && !hint) {
      this.#start(interpreter);
      return;
    }
    return (async () => {
      if (held) await run.outside(held);
      if (hint) await this.#hint(interpreter);
      this.#start(interpreter);
    })();
  }

  fail(error: unknown): void {
    for (const child of this.#children) child.startFailed({ name: undefined, error });
  }

  #start(interpreter: Interpreter): void {
    for (const child of this.#children) {
      child.speculated = interpreter.speculated;
      child.start(interpreter.transcript.copy());
    }
  }

  /** A hint may fail without harm: the children send the same prefix themselves. */
  async #hint({ run, transcript, trace }: Interpreter): Promise<void> {
    const prompt = transcript.prompt();
    const controller = new AbortController();
    try {
      await run.outside(run.backend.prefixHint?.(prompt, controller.signal) ?? Promise.resolve());
    } catch (error) {
      if (run.aborted) throw error;
      trace.events.push({ type: "warning", message: `prefix hint: ${(error as Error).message}` });
    } finally {
      controller.abort();
    }
  }
}

/** What a fork added since it started, appended to its parent. */
export class ConcatenateOperation implements Operation {
  readonly #children: readonly Interpreter[];
  readonly #ready: Promise<unknown>;

  constructor(children: readonly Interpreter[], ready: Promise<unknown>) {
    this.#children = children;
    this.#ready = ready;
    ready.catch(() => {});
  }

  async run(interpreter: Interpreter): Promise<void> {
    const { run, transcript } = interpreter;
    await run.outside(this.#ready);
    for (const child of this.#children) {
      if (child.failure) throw child.failure.error;
      const from = child.forkedAt;
      const added = child.transcript.messages().slice(from.turns);
      if (child.transcript.turns === from.turns && child.transcript.role === transcript.role) {
        writeText(interpreter, child.transcript.openText().slice(from.text));
      } else if (transcript.role === null && child.transcript.role === null) {
        for (const message of added) transcript.push(message);
      } else {
        throw new SglangError(
          "INVALID_REQUEST",
          'join "concatenate" needs forks that add text to the open turn or whole turns, not half of both.',
        );
      }
    }
  }
}
