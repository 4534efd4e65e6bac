/**
 * API speculative execution, for APIs that charge for the whole prompt on every call.
 *
 * Raw text: a gen with a stop asks for more than it needs, without the stop. What lies behind the stop is kept: when the
 * program's next text is how it starts, the next gen is cut from it, and no second request is sent.
 * Turns: a whole assistant turn, texts and gens, is asked for at once, and the reply is matched against it.
 */

import { type Answers, gatherAnswers } from "./answer.js";
import { type BackendGenerateRequest, requireGenerate } from "./backends/backend.js";
import { BackendError } from "./errors.js";
import { estimateTokens } from "./estimate.js";
import type { GenExpression } from "./expression.js";
import { type GenOptions, toSampling } from "./gen-options.js";
import type { Interpreter, Operation } from "./interpreter.js";
import { type Meta, plainMeta, type VariableWriter } from "./variable.js";

type Request = Omit<BackendGenerateRequest, "signal">;
type Ask = (request: Request) => Promise<{ value: Answers; attempts: number }>;

/** First place where one of `stops` begins, or null. */
function firstStop(text: string, stops: readonly string[]): { at: number; stop: string } | null {
  let found: { at: number; stop: string } | null = null;
  for (const stop of stops) {
    const at = text.indexOf(stop);
    if (at >= 0 && (found === null || at < found.at)) found = { at, stop };
  }
  return found;
}

/** The program wrote `text`: what was speculated stays useful only when it goes on like that. */
export function consumeSpeculated(interpreter: Interpreter, text: string): void {
  const { speculated } = interpreter;
  if (speculated === "") return;
  interpreter.speculated = speculated.startsWith(text) ? speculated.slice(text.length) : "";
}

function cutAnswers(answers: Answers, text: string, stop: string): Answers {
  const [first] = answers.answers;
  return {
    ...answers,
    answers: [{ ...first, text, finish: "stop", matched: stop, tokenIds: [], logprobs: [], topLogprobs: [] }],
  };
}

/**
 * A gen on raw text, from what is left of the last request or with a longer request; undefined when the run does not
 * speculate or the gen has nothing to be cut by.
 */
export function completeSpeculatively(
  interpreter: Interpreter,
  request: Request,
  ask: Ask,
): Promise<{ value: Answers; attempts: number }> | undefined {
  const { setup } = interpreter.run;
  const { stop = [], n, maxNewTokens } = request.sampling;
  const left = interpreter.speculated;
  interpreter.speculated = "";
  if (setup.apiSpeculation === 0 || request.prompt.type !== "text" || stop.length === 0 || n !== undefined)
    return undefined;
  if (request.constraint || request.logprobs || request.tools || setup.streaming) return undefined;
  const found = firstStop(left, stop);
  if (found) {
    interpreter.speculated = left.slice(found.at);
    const free: Answers = {
      answers: [
        {
          text: left.slice(0, found.at),
          reasoning: "",
          finish: "stop",
          matched: found.stop,
          tokenIds: [],
          logprobs: [],
          topLogprobs: [],
          toolCalls: [],
        },
      ],
      usage: { promptTokens: 0, completionTokens: 0, cachedTokens: 0 },
      firstTextMs: performance.now(),
    };
    return Promise.resolve({ value: free, attempts: 0 });
  }
  return (async () => {
    const { stop: _, ...sampling } = request.sampling;
    const longer = Math.max(setup.apiSpeculation, maxNewTokens ?? 0);
    const result = await ask({ ...request, sampling: { ...sampling, maxNewTokens: longer } });
    const [answer] = result.value.answers;
    const end = firstStop(answer.text, stop);
    if (end) {
      interpreter.speculated = answer.text.slice(end.at);
      return { ...result, value: cutAnswers(result.value, answer.text.slice(0, end.at), end.stop) };
    }
    if (answer.finish === "stop" || longer === maxNewTokens) return result;
    // More than was allowed, and no stop in it: where the answer would have ended is unknown.
    const again = await ask(request);
    return { value: again.value, attempts: result.attempts + again.attempts };
  })();
}

export type TurnPiece =
  | { text: string }
  | { name: string; expression: GenExpression<unknown>; writer: VariableWriter<unknown> };

const TURN_TRIES = 3;

/** Texts of the gens in a reply that follows `pieces`, or null when it does not. */
export function matchTurn(pieces: readonly TurnPiece[], reply: string): string[] | null {
  const values: string[] = [];
  let rest = reply.trimStart();
  let first = true;
  for (let index = 0; index < pieces.length; index++) {
    const piece = pieces[index];
    if ("text" in piece) {
      const text = first ? piece.text.trimStart() : piece.text;
      if (!rest.startsWith(text)) return null;
      rest = rest.slice(text.length);
    } else {
      const { stop = [] } = piece.expression.options;
      const found = firstStop(rest, typeof stop === "string" ? [stop] : stop);
      if (!found && index < pieces.length - 1) return null;
      const end = found ? found.at : rest.length;
      values.push(rest.slice(0, end));
      rest = rest.slice(end);
    }
    first = false;
  }
  return values;
}

/** Whether a turn can be asked for at once: gens with stops, the same sampling, and nothing else than text around them. */
export function canSpeculateTurn(pieces: readonly TurnPiece[]): boolean {
  const gens = pieces.flatMap((piece) => ("text" in piece ? [] : [piece.expression.options]));
  const comparable = ({ name: _, stop: __, maxTokens: ___, ...rest }: GenOptions) => JSON.stringify(rest);
  const constrained = ({ schema, regex, type, grammar, tools, n, logprobs, separateReasoning }: GenOptions) =>
    [schema, regex, type, grammar, tools, n, logprobs, separateReasoning].some((value) => value !== undefined);
  return (
    gens.length > 0 &&
    gens.every((options) => options.stop !== undefined && !constrained(options)) &&
    new Set(gens.map(comparable)).size === 1
  );
}

/** A whole assistant turn in one request. */
export class SpeculativeTurnOperation implements Operation {
  readonly name: string;
  readonly #pieces: readonly TurnPiece[];

  constructor(pieces: readonly TurnPiece[]) {
    this.#pieces = pieces;
    this.name = pieces.flatMap((piece) => ("text" in piece ? [] : [piece.name])).join(", ");
  }

  async run(interpreter: Interpreter): Promise<void> {
    const { run, trace } = interpreter;
    const held = run.firstPrompt(() => interpreter.transcript.prompt());
    if (held) await run.outside(held);
    const gens = this.#pieces.flatMap((piece) => ("text" in piece ? [] : [piece]));
    const { stop: _, ...sampling } = toSampling(gens[0].expression.options, run.setup.sampling);
    const wanted = gens.reduce((sum, { expression }) => sum + (expression.options.maxTokens ?? 0), 0);
    const request: Request = {
      prompt: interpreter.transcript.prompt(),
      sampling: { ...sampling, maxNewTokens: Math.max(run.setup.apiSpeculation, wanted) },
      stream: false,
    };
    requireGenerate(run.backend, { ...request, signal: new AbortController().signal });
    const startMs = performance.now();
    for (let attempt = 1; ; attempt++) {
      const { value } = await run.call(
        this.name,
        estimateTokens(run, request.prompt),
        run.setup.sampling.timeoutMs,
        async (signal) => {
          const value = await gatherAnswers(
            run.backend.generate({ ...request, signal }),
            1,
            run.backend.name,
            undefined,
            undefined,
          );
          return { value, usage: value.usage };
        },
        () => true,
      );
      const texts = matchTurn(this.#pieces, value.answers[0].text);
      if (texts) {
        this.#fill(interpreter, texts, { usage: value.usage, attempts: attempt, startMs });
        return;
      }
      if (attempt === TURN_TRIES) {
        const { name: backend } = run.backend;
        const message = `Backend ${backend} did not follow the pattern of ${this.name} in ${TURN_TRIES} tries; give an example of it in the prompt. It wrote ${JSON.stringify(value.answers[0].text)}.`;
        throw new BackendError("ENGINE_FAILED", message, { backend });
      }
      trace.events.push({ type: "warning", message: `try ${attempt}: the reply did not follow the pattern` });
    }
  }

  fail(error: unknown): void {
    for (const piece of this.#pieces) if (!("text" in piece)) piece.writer.reject(error);
  }

  #fill(interpreter: Interpreter, texts: readonly string[], facts: Pick<Meta, "usage" | "attempts" | "startMs">): void {
    const { run, trace } = interpreter;
    let next = 0;
    for (const piece of this.#pieces) {
      if ("text" in piece) {
        interpreter.addText(piece.text);
        trace.events.push({ type: "text", text: piece.text });
        continue;
      }
      const text = texts[next];
      // The request is counted once, with its first variable.
      const meta: Meta = { ...plainMeta("gen", text), finish: "stop", ...(next === 0 ? facts : {}) };
      next++;
      interpreter.addText(text);
      trace.events.push({ type: "call", kind: "gen", name: piece.name, meta, value: text });
      piece.writer.resolve(text, meta);
      if (run.setup.emit) run.emit({ type: "done", state: trace.id, name: piece.name, value: text, meta });
    }
  }
}
