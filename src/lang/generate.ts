/** The `gen` operation: prompt, constraint and sampling to a request, and its answers to the value of the variable. */
import { SglangError } from "../core/errors.js";
import { type ReasoningFormat, reasoningFormat } from "../core/reasoning.js";
import type { SamplingParams } from "../core/sampling-params.js";
import { type Answer, type Answers, gatherAnswers } from "./answer.js";
import { type BackendGenerateRequest, requireGenerate } from "./backends/backend.js";
import { type ResolvedConstraint, resolveConstraint } from "./constraints.js";
import { estimateTokens } from "./estimate.js";
import type { GenExpression } from "./expression.js";
import { checkGenOptions, type GenOptions, topLogprobs, toSampling } from "./gen-options.js";
import type { Interpreter, Operation } from "./interpreter.js";
import type { Run } from "./run.js";
import { sampleAnswer } from "./sample-value.js";
import { completeSpeculatively } from "./speculation.js";
import { globalTracer, startCallSpan } from "./telemetry.js";
import { executeTool, toolDefinitions } from "./tools.js";
import type { TraceCall } from "./trace.js";
import type { Meta, VariableWriter } from "./variable.js";

/** Rounds of tool calls before the model must answer. */
const DEFAULT_MAX_STEPS = 8;
/** Tokens that an answer of unknown length is taken for by limits. */
const ESTIMATED_ANSWER = 128;

export class GenerateOperation implements Operation {
  readonly name: string;
  readonly #options: GenOptions;
  readonly #writer: VariableWriter<unknown>;
  readonly #constraint: ResolvedConstraint;
  readonly #sampling: Partial<SamplingParams>;
  readonly #reasoning: ReasoningFormat | undefined;
  #shown = false;
  #attempts = 0;

  /** @throws SglangError INVALID_REQUEST for options that no backend could honour */
  constructor(run: Run, name: string, expression: GenExpression<unknown>, writer: VariableWriter<unknown>) {
    const { options } = expression;
    checkGenOptions(options);
    this.name = name;
    this.#options = options;
    this.#writer = writer;
    this.#constraint = resolveConstraint(options, name);
    this.#sampling = toSampling(options, run.setup.sampling);
    const { stop } = this.#constraint;
    if (stop.length > 0) this.#sampling.stop = [...new Set([...(this.#sampling.stop ?? []), ...stop])];
    this.#reasoning = options.separateReasoning === undefined ? undefined : reasoningFormat(options.separateReasoning);
  }

  async run(interpreter: Interpreter): Promise<void> {
    const { run, trace } = interpreter;
    const call: TraceCall = { type: "call", kind: "gen", name: this.name, meta: null };
    trace.events.push(call);
    if (run.setup.emit) run.emit({ type: "started", state: trace.id, name: this.name, kind: "gen" });
    const startMs = performance.now();
    try {
      const held = run.firstPrompt(() => interpreter.transcript.prompt());
      if (held) await run.outside(held);
      const answers = run.setup.symbolic ? this.#symbolic(run) : await this.#answer(interpreter);
      const meta = this.#meta(answers, startMs);
      const value = await this.#value(run, answers.answers);
      interpreter.addText(meta.text);
      if (meta.toolCalls.length > 0) interpreter.transcript.addToolCalls(meta.toolCalls);
      call.meta = meta;
      call.value = value;
      this.#writer.resolve(value, meta);
      if (run.setup.emit) run.emit({ type: "done", state: trace.id, name: this.name, value, meta });
    } catch (error) {
      call.error = error instanceof Error ? error.message : String(error);
      throw error;
    }
  }

  fail(error: unknown): void {
    this.#writer.reject(error);
  }

  /** One request, and one more for each round of tool calls. */
  async #answer(interpreter: Interpreter): Promise<Answers> {
    const { run, transcript } = interpreter;
    const { tools, maxSteps = DEFAULT_MAX_STEPS } = this.#options;
    const automatic = tools !== undefined && Object.values(tools).some((tool) => tool.execute);
    if (tools && transcript.role === null) {
      throw new SglangError(
        "INVALID_REQUEST",
        `"${this.name}" has tools; gen them in s.assistant, tool calls need turns.`,
      );
    }
    for (let step = 0; ; step++) {
      const result = await this.#request(interpreter, step);
      const [{ toolCalls, text }] = result.answers;
      if (!automatic || toolCalls.length === 0) return result;
      if (step === maxSteps) {
        throw new SglangError(
          "ENGINE_FAILED",
          `"${this.name}" still called tools after ${maxSteps} rounds; raise maxSteps or lower what the tools ask for.`,
          { field: "maxSteps" },
        );
      }
      interpreter.addText(text);
      transcript.addToolCalls(toolCalls);
      transcript.end();
      for (const toolCall of toolCalls) {
        const { name, arguments: given } = toolCall.function;
        const controller = new AbortController();
        const result = await run
          .outside(executeTool(tools, toolCall, controller.signal))
          .finally(() => controller.abort());
        transcript.push({ role: "tool", content: [{ type: "text", text: result }], toolCallId: toolCall.id, name });
        const shown = { tool: name, arguments: typeof given === "string" ? given : JSON.stringify(given), result };
        interpreter.trace.events.push({ type: "tool", ...shown });
        if (run.setup.emit) run.emit({ type: "tool", state: interpreter.trace.id, name: this.name, ...shown });
      }
      transcript.begin("assistant");
    }
  }

  /** @param step rounds of calls that were answered: a call that was demanded has been made then */
  async #request(interpreter: Interpreter, step: number): Promise<Answers> {
    const { run, trace } = interpreter;
    const options = this.#options;
    const top = topLogprobs({ logprobs: options.logprobs ?? run.setup.sampling.logprobs });
    const request: Omit<BackendGenerateRequest, "signal"> = {
      prompt: interpreter.transcript.prompt(),
      sampling: this.#sampling,
      stream: run.setup.streaming,
      ...(this.#constraint.constraint ? { constraint: this.#constraint.constraint } : {}),
      ...(this.#reasoning ? { reasoning: this.#reasoning } : {}),
      ...(top === undefined ? {} : { logprobs: { top } }),
      ...(options.tools ? { tools: toolDefinitions(options.tools) } : {}),
      ...(options.toolChoice === undefined || (step > 0 && options.toolChoice !== "none")
        ? {}
        : { toolChoice: options.toolChoice }),
    };
    requireGenerate(run.backend, { ...request, signal: NEVER });
    const show = run.setup.streaming
      ? ({ text, reasoning }: { text: string; reasoning: string }) => {
          this.#shown = true;
          if (text !== "") this.#writer.write(text);
          if (!run.setup.emit) return;
          const at = { state: trace.id, name: this.name };
          if (text !== "") run.emit({ type: "delta", ...at, text });
          if (reasoning !== "") run.emit({ type: "reasoning", ...at, text: reasoning });
        }
      : undefined;
    const tracer = run.setup.tracer ?? globalTracer();
    const endSpan = tracer ? startCallSpan(tracer, run.backend, this.name, request) : undefined;
    const startMs = performance.now();
    try {
      const result = await this.#send(interpreter, request, show);
      this.#attempts += result.attempts;
      endSpan?.({ meta: this.#meta(result.value, startMs) });
      return result.value;
    } catch (error) {
      endSpan?.({ error });
      throw error;
    }
  }

  #send(
    interpreter: Interpreter,
    request: Omit<BackendGenerateRequest, "signal">,
    show: ((piece: { text: string; reasoning: string }) => void) | undefined,
  ): Promise<{ value: Answers; attempts: number }> {
    const { run } = interpreter;
    const timeoutMs = this.#options.timeoutMs ?? run.setup.sampling.timeoutMs;
    const estimate = estimateTokens(run, request.prompt) + (request.sampling.maxNewTokens ?? ESTIMATED_ANSWER);
    const ask = (asked: Omit<BackendGenerateRequest, "signal">) =>
      run.call(
        this.name,
        estimate,
        timeoutMs,
        async (signal) => {
          const deltas = run.backend.generate({ ...asked, signal });
          const count = asked.sampling.n ?? 1;
          const value = await gatherAnswers(deltas, count, run.backend.name, this.#reasoning, show);
          return { value, usage: value.usage };
        },
        () => !this.#shown,
      );
    return completeSpeculatively(interpreter, request, ask) ?? ask(request);
  }

  #symbolic(run: Run): Answers {
    run.countSymbolicCall();
    const text = sampleAnswer(this.#options, this.#constraint.constraint, this.name);
    const answer: Answer = {
      text,
      reasoning: "",
      finish: "stop",
      tokenIds: [],
      logprobs: [],
      topLogprobs: [],
      toolCalls: [],
    };
    return {
      answers: Array.from({ length: this.#options.n ?? 1 }, () => answer),
      usage: { promptTokens: 0, completionTokens: 0, cachedTokens: 0 },
      firstTextMs: performance.now(),
    };
  }

  async #value(run: Run, answers: readonly Answer[]): Promise<unknown> {
    const parse = async ({ text, finish, toolCalls }: Answer) => {
      // An answer that only calls tools has no text to parse; a placeholder need not fit.
      if (toolCalls.length > 0 && text === "") return text;
      if (run.setup.symbolic && this.#options.regex !== undefined) return text;
      return this.#constraint.parse(text, finish ?? "stop");
    };
    if (this.#options.n === undefined) return parse(answers[0]);
    return Promise.all(answers.map(parse));
  }

  #meta({ answers, usage, firstTextMs }: Answers, startMs: number): Meta {
    const [first] = answers;
    const endMs = performance.now();
    return {
      kind: "gen",
      text: first.text,
      texts: answers.map(({ text }) => text),
      finish: first.finish,
      ...(first.matched === undefined ? {} : { matched: first.matched }),
      usage,
      tokenIds: first.tokenIds,
      logprobs: first.logprobs,
      topLogprobs: first.topLogprobs,
      reasoning: first.reasoning,
      toolCalls: first.toolCalls,
      attempts: this.#attempts,
      startMs,
      firstTextMs: firstTextMs || endMs,
      endMs,
    };
  }
}

/** Stands for the signal where a request is only checked. */
const NEVER = new AbortController().signal;
