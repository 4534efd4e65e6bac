/** The `select` operation: every choice scored in one batch that shares the prompt, and the best one appended. */
import { gatherAnswers } from "./answer.js";
import {
  type BackendGenerateRequest,
  type BackendScoreRequest,
  type BackendScoreResult,
  requireGenerate,
  requireScore,
} from "./backends/backend.js";
import { bestIndex, type ChoicesMethod, tokenLengthNormalized } from "./choices.js";
import { BackendError, CapabilityError } from "./errors.js";
import { estimateTokens } from "./estimate.js";
import type { SelectExpression } from "./expression.js";
import type { Interpreter, Operation } from "./interpreter.js";
import { globalTracer, startCallSpan } from "./telemetry.js";
import type { TraceCall } from "./trace.js";
import { type Meta, plainMeta, type VariableWriter } from "./variable.js";

export class SelectOperation implements Operation {
  readonly name: string;
  readonly #choices: readonly string[];
  readonly #method: ChoicesMethod | undefined;
  readonly #writer: VariableWriter<unknown>;

  constructor(name: string, expression: SelectExpression<unknown>, writer: VariableWriter<unknown>) {
    this.name = name;
    this.#choices = expression.choices;
    this.#method = expression.method;
    this.#writer = writer;
  }

  async run(interpreter: Interpreter): Promise<void> {
    const { run, trace } = interpreter;
    const call: TraceCall = { type: "call", kind: "select", name: this.name, meta: null };
    trace.events.push(call);
    if (run.setup.emit) run.emit({ type: "started", state: trace.id, name: this.name, kind: "select" });
    try {
      const held = run.firstPrompt(() => interpreter.transcript.prompt());
      if (held) await run.outside(held);
      const meta = await this.#choose(interpreter);
      interpreter.addText(meta.text);
      call.meta = meta;
      call.value = meta.text;
      if (run.setup.streaming) {
        this.#writer.write(meta.text);
        if (run.setup.emit) run.emit({ type: "delta", state: trace.id, name: this.name, text: meta.text });
      }
      this.#writer.resolve(meta.text, meta);
      if (run.setup.emit) run.emit({ type: "done", state: trace.id, name: this.name, value: meta.text, meta });
    } catch (error) {
      call.error = error instanceof Error ? error.message : String(error);
      throw error;
    }
  }

  fail(error: unknown): void {
    this.#writer.reject(error);
  }

  async #choose(interpreter: Interpreter): Promise<Meta> {
    const { run } = interpreter;
    if (run.setup.symbolic) {
      run.countSymbolicCall();
      return { ...plainMeta("select", this.#choices[0]), finish: "stop" };
    }
    const prompt = interpreter.transcript.prompt();
    const tracer = run.setup.tracer ?? globalTracer();
    const endSpan = tracer ? startCallSpan(tracer, run.backend, this.name, { prompt, sampling: {} }) : undefined;
    try {
      const { capabilities } = run.backend;
      const constrained =
        this.#method === undefined && !capabilities.score && capabilities.constraints.includes("choices");
      const meta = constrained ? await this.#constrained(interpreter) : await this.#scored(interpreter);
      endSpan?.({ meta });
      return meta;
    } catch (error) {
      endSpan?.({ error });
      throw error;
    }
  }

  async #scored(interpreter: Interpreter): Promise<Meta> {
    const { run } = interpreter;
    const { backend } = run;
    const method = this.#method ?? tokenLengthNormalized;
    const request: Omit<BackendScoreRequest, "signal"> = {
      prompt: interpreter.transcript.prompt(),
      continuations: this.#choices,
      unconditional: method.requiresUnconditional ?? false,
    };
    requireScore(backend, { ...request, signal: NEVER });
    const startMs = performance.now();
    const longest = Math.max(...this.#choices.map((choice) => choice.length));
    const { value, attempts } = await run.call(
      this.name,
      estimateTokens(run, request.prompt) + longest,
      run.setup.sampling.timeoutMs,
      async (signal) => {
        const value: BackendScoreResult = await backend.score({ ...request, signal });
        return { value, usage: value.usage };
      },
      () => true,
    );
    if (value.scores.length !== this.#choices.length || value.scores.some(({ tokens }) => tokens.length === 0)) {
      const message = `Backend ${backend.name} did not score every choice of "${this.name}".`;
      throw new BackendError("ENGINE_FAILED", message, { backend: backend.name });
    }
    const scored = value.scores.map((score, index) => ({ ...score, choice: this.#choices[index] }));
    const scores = method.scores(scored);
    const best = bestIndex(scores);
    const endMs = performance.now();
    return {
      ...plainMeta("select", this.#choices[best]),
      finish: "stop",
      usage: value.usage,
      tokenIds: scored[best].tokens.map(([, id]) => id),
      logprobs: scored[best].tokens,
      choices: scored.map((choice, index) => ({ ...choice, score: scores[index] })),
      attempts,
      startMs,
      firstTextMs: endMs,
      endMs,
    };
  }

  /** Where texts cannot be scored: the backend generates one of the choices, greedily. */
  async #constrained(interpreter: Interpreter): Promise<Meta> {
    const { run } = interpreter;
    const { backend } = run;
    const request: Omit<BackendGenerateRequest, "signal"> = {
      prompt: interpreter.transcript.prompt(),
      sampling: backend.capabilities.sampling.includes("temperature") ? { temperature: 0 } : {},
      constraint: { type: "choices", choices: this.#choices },
      stream: false,
    };
    requireGenerate(backend, { ...request, signal: NEVER });
    const startMs = performance.now();
    const { value, attempts } = await run.call(
      this.name,
      estimateTokens(run, request.prompt),
      run.setup.sampling.timeoutMs,
      async (signal) => {
        const value = await gatherAnswers(
          backend.generate({ ...request, signal }),
          1,
          backend.name,
          undefined,
          undefined,
        );
        return { value, usage: value.usage };
      },
      () => true,
    );
    const [answer] = value.answers;
    if (!this.#choices.includes(answer.text)) {
      const message = `Backend ${backend.name} answered ${JSON.stringify(answer.text)} to "${this.name}", which is none of its choices.`;
      throw new CapabilityError(backend.name, "constraints.choices", message);
    }
    const endMs = performance.now();
    return {
      ...plainMeta("select", answer.text),
      finish: "stop",
      usage: value.usage,
      tokenIds: answer.tokenIds,
      logprobs: answer.logprobs,
      attempts,
      startMs,
      firstTextMs: endMs,
      endMs,
    };
  }
}

/** Stands for the signal where a request is only checked. */
const NEVER = new AbortController().signal;
