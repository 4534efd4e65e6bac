/**
 * The state `s` of a program: an append-only prompt with a background queue.
 *
 * Everything here returns at once. What could never work (nested roles, gen outside the assistant's turn, an unknown
 * variable) throws at the call; what fails later is met where the variable is awaited.
 *
 * The file is long because it is the whole surface that a program sees, with its overloads; the work is in `operations`,
 * `generate`, `select` and `fork`.
 */
import { invalidField, SglangError } from "../core/errors.js";
import { didYouMean } from "../core/near-miss.js";
import { type ReasoningFormat, type ReasoningFormatName, reasoningFormat } from "../core/reasoning.js";
import type { PromptMessage, Role } from "./backends/backend.js";
import {
  type Expression,
  type GenExpression,
  isExpression,
  type MediaExpression,
  type SelectExpression,
} from "./expression.js";
import { ForkGroup, type ForkOptions, type JoinMode } from "./fork.js";
import { GenerateOperation } from "./generate.js";
import { Interpreter, type Operation } from "./interpreter.js";
import {
  BeginTurnOperation,
  ConcatenateOperation,
  END_TURN,
  ForkOperation,
  MediaOperation,
  PromiseOperation,
  ScopeBeginOperation,
  ScopeEndOperation,
  TextOperation,
  VariableOperation,
} from "./operations.js";
import type { Program } from "./program.js";
import type { Resolved } from "./returned.js";
import type { Run } from "./run.js";
import { SelectOperation } from "./select.js";
import { canSpeculateTurn, SpeculativeTurnOperation, type TurnPiece } from "./speculation.js";
import { toolResultText } from "./tools.js";
import type { TraceState } from "./trace.js";
import type { TurnFacts } from "./transcript.js";
import { type Meta, plainMeta, Variable } from "./variable.js";

/** What may stand in a template: texts, numbers, variables, expressions, promises, and values that are written as JSON. */
export type TemplatePart =
  | string
  | number
  | bigint
  | boolean
  | Expression<unknown>
  | MediaExpression
  | PromiseLike<unknown>
  | object;

type ExpressionValues<P extends readonly unknown[]> = P extends readonly [infer First, ...infer Rest]
  ? First extends Expression<infer T>
    ? [T, ...ExpressionValues<Rest>]
    : ExpressionValues<Rest>
  : [];
/** The variables of several expressions: a list of them that also awaits as a list of their values. */
export type Variables<T extends readonly unknown[]> = { [K in keyof T]: Variable<T[K]> } & PromiseLike<T>;

/** What appending `P` gives: nothing, the one variable, or all of them. */
export type Appended<P extends readonly unknown[]> =
  ExpressionValues<P> extends []
    ? undefined
    : ExpressionValues<P> extends [infer T]
      ? Variable<T>
      : Variables<ExpressionValues<P>>;

interface Prepared {
  operation: Operation;
  /** For speculation: the same as a piece of a turn. */
  piece?: TurnPiece;
}

interface PreparedParts {
  items: readonly Prepared[];
  variables: readonly { name: string | undefined; variable: Variable<unknown> }[];
}

type Mode = "text" | "chat" | null;

function isTemplate(value: unknown): value is TemplateStringsArray {
  return Array.isArray(value) && "raw" in value;
}

function isThenable(value: unknown): value is PromiseLike<unknown> {
  return typeof value === "object" && value !== null && typeof (value as { then?: unknown }).then === "function";
}

export class State {
  readonly #run: Run;
  readonly #interpreter: Interpreter;
  #mode: Mode = null;
  #role: Role | null = null;
  #variables: Map<string, Variable<unknown>> | undefined;
  #ended: string | undefined;
  #forks = 0;

  /** Programs make states; see `program`. */
  constructor(run: Run, trace: TraceState, parent?: State) {
    this.#run = run;
    this.#interpreter = new Interpreter(run, trace, parent !== undefined);
    if (!parent) return;
    this.#mode = parent.#mode;
    this.#role = parent.#role;
    if (parent.#variables) this.#variables = new Map(parent.#variables);
  }

  /** "0" for the program's own state, "0.1" for its second fork. */
  get id(): string {
    return this.#interpreter.trace.id;
  }

  /** A whole system turn. */
  system<const P extends readonly TemplatePart[]>(strings: TemplateStringsArray, ...parts: P): Appended<P>;
  system<const P extends readonly TemplatePart[]>(...parts: P): Appended<P>;
  system(first: TemplatePart | TemplateStringsArray, ...rest: TemplatePart[]): unknown {
    return this.#turn("system", first, rest);
  }

  /** A whole user turn. */
  user<const P extends readonly TemplatePart[]>(strings: TemplateStringsArray, ...parts: P): Appended<P>;
  user<const P extends readonly TemplatePart[]>(...parts: P): Appended<P>;
  user(first: TemplatePart | TemplateStringsArray, ...rest: TemplatePart[]): unknown {
    return this.#turn("user", first, rest);
  }

  /** A whole assistant turn: text that the model is taken to have said, and what it says now. */
  assistant<const P extends readonly TemplatePart[]>(strings: TemplateStringsArray, ...parts: P): Appended<P>;
  assistant<const P extends readonly TemplatePart[]>(...parts: P): Appended<P>;
  assistant(first: TemplatePart | TemplateStringsArray, ...rest: TemplatePart[]): unknown {
    return this.#turn("assistant", first, rest);
  }

  /**
   * The answer to a tool call: by default to the first call of the last assistant turn that has none.
   * @param facts which call it answers, and the tool's name
   */
  tool(result: unknown, facts?: { callId?: string; name?: string }): void;
  tool(strings: TemplateStringsArray, ...parts: TemplatePart[]): void;
  tool(first: unknown, ...rest: unknown[]): void {
    if (isTemplate(first)) {
      this.#turn("tool", first, rest as TemplatePart[]);
      return;
    }
    const { callId, name } = (rest[0] ?? {}) as { callId?: string; name?: string };
    const content = isThenable(first) ? first : toolResultText(first);
    const facts = { ...(callId === undefined ? {} : { toolCallId: callId }), ...(name === undefined ? {} : { name }) };
    this.#turn("tool", content, [], facts);
  }

  /** Raw text, or more of the turn that `begin` opened. */
  text<const P extends readonly TemplatePart[]>(strings: TemplateStringsArray, ...parts: P): Appended<P>;
  text<const P extends readonly TemplatePart[]>(...parts: P): Appended<P>;
  text(first: TemplatePart | TemplateStringsArray, ...rest: TemplatePart[]): unknown {
    return this.#append(this.#prepare(first, rest, this.#role));
  }

  /** The same as {@link text}, for expressions: `s.append(gen("answer"))`. */
  append<const P extends readonly TemplatePart[]>(strings: TemplateStringsArray, ...parts: P): Appended<P>;
  append<const P extends readonly TemplatePart[]>(...parts: P): Appended<P>;
  append(first: TemplatePart | TemplateStringsArray, ...rest: TemplatePart[]): unknown {
    return this.#append(this.#prepare(first, rest, this.#role));
  }

  /** Opens a turn by hand; {@link end} closes it. */
  begin(role: Role, facts: { callId?: string; name?: string } = {}): void {
    const { callId, name } = facts;
    this.#begin(role, {
      ...(callId === undefined ? {} : { toolCallId: callId }),
      ...(name === undefined ? {} : { name }),
    });
  }

  /** Closes the turn that {@link begin} opened. */
  end(): void {
    this.#checkOpen("end");
    if (this.#role === null)
      throw new SglangError("INVALID_REQUEST", "s.end has no turn to close; s.begin(role) opens one.");
    this.#role = null;
    this.#interpreter.submit(END_TURN);
  }

  /** Gives a variable a value. It is not part of the prompt. */
  set(name: string, value: unknown): void {
    this.#checkOpen("set");
    const { variable, writer } = Variable.create<unknown>(name);
    writer.resolve(value, plainMeta("set", value === undefined ? "" : partText(value)));
    this.#remember(name, variable);
  }

  /**
   * A variable by its name; await it for its value.
   * @throws SglangError INVALID_REQUEST for a name that no gen, select, scope or set has made, with the nearest one
   */
  get<T = string>(name: string): Variable<T> {
    const found = this.#variables?.get(name);
    if (found) return found as unknown as Variable<T>;
    const known = [...(this.#variables?.keys() ?? [])];
    const list = known.length === 0 ? "It has none." : `It has ${known.map((key) => `"${key}"`).join(", ")}.`;
    throw new SglangError("INVALID_REQUEST", `The state has no variable "${name}".${didYouMean(name, known)} ${list}`, {
      field: name,
      expected: known.join(", "),
    });
  }

  /** Whether {@link get} would find it. */
  has(name: string): boolean {
    return this.#variables?.has(name) ?? false;
  }

  /** Names of the variables so far. */
  names(): string[] {
    return [...(this.#variables?.keys() ?? [])];
  }

  /** Tokens, logprobs, times of a variable. Waits. */
  meta(name: string): Promise<Meta> {
    return this.get(name).meta();
  }

  /** A variable that holds all text appended inside `body`. */
  scope(name: string, body: () => unknown): Variable<string> {
    this.#checkOpen("scope");
    const { variable, writer } = Variable.create<string>(name);
    this.#remember(name, variable);
    this.#interpreter.submit(new ScopeBeginOperation(name, writer));
    const end = () => this.#interpreter.submit(new ScopeEndOperation(writer));
    const result = body();
    if (!isThenable(result)) {
      end();
      return variable;
    }
    this.#run.begin();
    const close = (failure?: { error: unknown }) => {
      if (failure) writer.reject(failure.error);
      end();
      this.#run.done();
    };
    result.then(
      () => close(),
      (error) => close({ error }),
    );
    return variable;
  }

  /**
   * Keeps the thinking of a reasoning model out of an expression's value and of the prompt; `meta().reasoning` has it.
   * With a name `x`, the thinking is also the variable `x_reasoning_content`.
   */
  separateReasoning<T>(expression: Expression<T>, format: ReasoningFormatName | ReasoningFormat): Variable<T> {
    const { name, options } = expression as GenExpression<T>;
    if (expression.expression !== "gen") throw invalidField("separateReasoning", "a gen", expression.expression);
    const split = { ...expression, options: { ...options, separateReasoning: reasoningFormat(format) } };
    const variable = this.append(split as Expression<T>) as Variable<T>;
    if (name !== undefined) this.#rememberReasoning(name, variable);
    return variable;
  }

  /**
   * Splits the state: each fork starts from the prompt as it is here and goes on by itself. With several forks the
   * backend is told that the prompt is shared, so it is computed once.
   *
   *     const [a, b] = await s.fork(["history", "food"], (f, about) => { ...; return f.assistant(gen()); });
   */
  fork<R>(count: number, body: (state: State, index: number) => R, options?: ForkOptions): ForkGroup<Resolved<R>>;
  fork<I, R>(
    items: readonly I[],
    body: (state: State, item: I, index: number) => R,
    options?: ForkOptions,
  ): ForkGroup<Resolved<R>>;
  fork(count: number): ForkGroup<void>;
  fork(
    over: number | readonly unknown[],
    body?: (state: State, ...rest: never[]) => unknown,
    options: ForkOptions = {},
  ): ForkGroup<unknown> {
    this.#checkOpen("fork");
    const items = typeof over === "number" ? undefined : over;
    const count = typeof over === "number" ? over : over.length;
    if (!Number.isSafeInteger(count) || count < 0) throw invalidField("fork", "a number of forks or a list", over);
    const states = Array.from({ length: count }, (_, index) => this.#child(items ? labelOf(items[index]) : ""));
    const interpreters = states.map((state) => state.#interpreter);
    this.#interpreter.submit(new ForkOperation(interpreters));
    const call = body as ((state: State, ...rest: unknown[]) => unknown) | undefined;
    const work =
      call && ((state: State, index: number) => (items ? call(state, items[index], index) : call(state, index)));
    return new ForkGroup<unknown>(
      {
        run: this.#run,
        gather: (children) => this.#gather(children),
        concatenate: (children, ready) => this.#concatenate(children, ready),
        drained: (child) => child.sync(),
        end: (children, mode) => this.#endForks(children, mode),
      },
      states,
      work,
      options,
    );
  }

  /** One fork, by itself: what it says stays out of this state. */
  copy(): State {
    return this.fork(1).states[0];
  }

  /** Calls another program with a state of its own; backend, limits and abort are this run's. */
  run<A extends unknown[], R>(called: Program<A, R>, ...args: A): Promise<R> {
    this.#checkOpen("run");
    return called.runInside(this.#run, args);
  }

  /** Waits until everything appended so far has run; never rejects. */
  sync(): Promise<void> {
    return new Promise((resolve) => this.#interpreter.whenDrained(resolve));
  }

  /** The prompt so far, for people: raw text, or `role: text` lines. Waits. */
  async transcript(): Promise<string> {
    await this.sync();
    return this.#interpreter.transcript.text();
  }

  /** The turns so far. Waits. */
  async messages(): Promise<readonly PromptMessage[]> {
    await this.sync();
    return this.#interpreter.transcript.messages();
  }

  /** What stopped this state, or undefined. Waits; never rejects. */
  async error(): Promise<unknown> {
    await this.sync();
    return this.#interpreter.failure?.error;
  }

  /** No more may be appended: `why` completes "... because". Used when a program or a join ends. */
  static close(state: State, why: string): void {
    state.#ended ??= why;
    state.#interpreter.trace.endMs ??= performance.now();
  }

  #checkOpen(what: string): void {
    if (this.#ended === undefined) return;
    throw new SglangError("INVALID_REQUEST", `s.${what} cannot be used any more, because ${this.#ended}.`, {
      field: what,
    });
  }

  #turn(role: Role, first: TemplatePart | TemplateStringsArray, rest: TemplatePart[], facts: TurnFacts = {}): unknown {
    const prepared = this.#prepare(first, rest, role);
    this.#begin(role, facts);
    const speculated = role === "assistant" ? this.#speculative(prepared) : undefined;
    const result = this.#append(speculated ? { ...prepared, items: [speculated] } : prepared);
    this.#role = null;
    this.#interpreter.submit(END_TURN);
    return result;
  }

  #begin(role: Role, facts: TurnFacts): void {
    this.#checkOpen("begin");
    if (this.#role !== null) {
      throw new SglangError(
        "INVALID_REQUEST",
        `A ${role} turn cannot begin inside the ${this.#role} turn that is open; close it with s.end().`,
        { field: role },
      );
    }
    if (this.#mode === "text") {
      throw new SglangError("INVALID_REQUEST", `A ${role} turn cannot follow raw text; put the text in a turn too.`, {
        field: role,
      });
    }
    this.#mode = "chat";
    this.#role = role;
    this.#interpreter.submit(new BeginTurnOperation(role, facts));
  }

  /** Everything that can be wrong is found here, before anything is appended. */
  #prepare(
    first: TemplatePart | TemplateStringsArray,
    rest: readonly TemplatePart[],
    role: Role | null,
  ): PreparedParts {
    this.#checkOpen("append");
    const parts: unknown[] = isTemplate(first)
      ? first.flatMap((text, index) => (index < rest.length ? [text, rest[index]] : [text]))
      : [first, ...rest];
    const items: Prepared[] = [];
    const variables: { name: string | undefined; variable: Variable<unknown> }[] = [];
    let text = "";
    const flush = () => {
      if (text !== "") items.push({ operation: new TextOperation(text), piece: { text } });
      text = "";
    };
    for (const part of parts) {
      if (part instanceof Variable) {
        flush();
        items.push({ operation: new VariableOperation(part) });
      } else if (isExpression(part)) {
        flush();
        if (part.expression === "media") {
          items.push({ operation: new MediaOperation(part.load()) });
          continue;
        }
        this.#checkGenPlace(part, role);
        const prepared = this.#prepareExpression(part);
        items.push(prepared.item);
        variables.push({ name: part.name, variable: prepared.variable });
      } else if (isThenable(part)) {
        flush();
        items.push({ operation: new PromiseOperation(Promise.resolve(part).then(partText)) });
      } else {
        text += partText(part);
      }
    }
    flush();
    if (role === null && this.#mode === "chat" && items.length > 0) {
      throw new SglangError(
        "INVALID_REQUEST",
        "Raw text cannot follow turns; put it in s.user, s.assistant or s.system.",
      );
    }
    return { items, variables };
  }

  #checkGenPlace({ expression }: GenExpression<unknown> | SelectExpression<unknown>, role: Role | null): void {
    if (role === "assistant" || (role === null && this.#mode !== "chat")) return;
    const place = role === null ? "between turns" : `in the ${role} turn`;
    throw new SglangError("INVALID_REQUEST", `${expression} cannot stand ${place}; models speak in s.assistant.`, {
      field: expression,
    });
  }

  #prepareExpression(part: GenExpression<unknown> | SelectExpression<unknown>) {
    const name = part.name ?? this.#run.nextName();
    const { variable, writer } = Variable.create<unknown>(name);
    if (part.expression === "select") return { item: { operation: new SelectOperation(name, part, writer) }, variable };
    const operation = new GenerateOperation(this.#run, name, part, writer);
    return { item: { operation, piece: { name, expression: part, writer } }, variable };
  }

  #append({ items, variables }: PreparedParts): unknown {
    if (items.length > 0) this.#mode ??= "text";
    for (const { name, variable } of variables) if (name !== undefined) this.#remember(name, variable);
    for (const { operation } of items) this.#interpreter.submit(operation);
    if (variables.length === 0) return undefined;
    if (variables.length === 1) return variables[0].variable;
    const list = variables.map(({ variable }) => variable);
    return Object.assign(list, {
      // biome-ignore lint/suspicious/noThenProperty: several variables await as the list of their values
      then: (onValue?: (values: unknown[]) => unknown, onError?: (reason: unknown) => unknown) =>
        Promise.all(list).then(onValue, onError),
    });
  }

  /** The whole turn in one request, when the run speculates and the turn allows. */
  #speculative({ items }: { items: readonly Prepared[] }): Prepared | undefined {
    const { apiSpeculation, streaming, symbolic } = this.#run.setup;
    if (apiSpeculation === 0 || streaming || symbolic || items.length < 2) return undefined;
    const pieces = items.flatMap(({ piece }) => (piece ? [piece] : []));
    if (pieces.length !== items.length || !canSpeculateTurn(pieces)) return undefined;
    return { operation: new SpeculativeTurnOperation(pieces) };
  }

  #remember(name: string, variable: Variable<unknown>): void {
    this.#variables ??= new Map();
    this.#variables.set(name, variable);
  }

  #rememberReasoning(name: string, source: Variable<unknown>): void {
    const { variable, writer } = Variable.create<string>(`${name}_reasoning_content`);
    this.#remember(variable.name, variable);
    source.meta().then(
      ({ reasoning }) => writer.resolve(reasoning, plainMeta("set", reasoning)),
      (error) => writer.reject(error),
    );
  }

  #child(label: string): State {
    const id = `${this.id}.${this.#forks++}`;
    const trace: TraceState = { id, label, startMs: performance.now(), endMs: null, events: [] };
    return new State(this.#run, trace, this);
  }

  #gather(children: readonly State[]): void {
    const names = new Set<string>();
    for (const child of children) {
      for (const [name, variable] of child.#variables ?? []) {
        if (this.#variables?.get(name) !== variable) names.add(name);
      }
    }
    for (const name of names) {
      const { variable, writer } = Variable.create<unknown>(name);
      this.#remember(name, variable);
      const parts = children.flatMap((child) => child.#variables?.get(name) ?? []);
      Promise.all(parts).then(
        (values) => writer.resolve(values, plainMeta("join", values.map(partText).join("\n"))),
        (error) => writer.reject(error),
      );
    }
  }

  #concatenate(children: readonly State[], ready: Promise<unknown>): void {
    this.#interpreter.submit(
      new ConcatenateOperation(
        children.map((child) => child.#interpreter),
        ready,
      ),
    );
  }

  #endForks(children: readonly State[], mode: JoinMode): void {
    const ids = children.map(({ id }) => id);
    this.#interpreter.trace.events.push({ type: "join", mode, children: ids });
    this.#run.emit({ type: "join", state: this.id, mode, children: ids });
    for (const child of children) State.close(child, "its forks were joined");
  }
}

function labelOf(item: unknown): string {
  if (typeof item === "string") return item;
  return typeof item === "number" || typeof item === "boolean" ? String(item) : "";
}

/**
 * A value as text of a prompt: texts and numbers as they are, objects as JSON.
 * @throws SglangError INVALID_REQUEST for null, undefined, functions and symbols
 */
export function partText(value: unknown): string {
  if (typeof value === "string") return value;
  if (typeof value === "number" || typeof value === "bigint" || typeof value === "boolean") return String(value);
  if (typeof value === "object" && value !== null) return JSON.stringify(value);
  throw new SglangError(
    "INVALID_REQUEST",
    `A prompt cannot take ${value === null ? "null" : typeof value}; give it a text.`,
    {
      expected: "text, number, variable or expression",
      found: String(value),
    },
  );
}
