/**
 * Programs: functions of a state, run once, streamed, or over many inputs.
 *
 *     const ask = program(async (s, question: string) => {
 *       s.user(question);
 *       return s.assistant(gen({ maxTokens: 64 }));
 *     });
 *     const { value } = await ask.run("Why is the sky blue?", { backend });
 */
import { invalidField, SglangError } from "../core/errors.js";
import { didYouMean } from "../core/near-miss.js";
import type { Backend, BackendPrompt, PromptMessage } from "./backends/backend.js";
import { Batch, type BatchOptions } from "./batch.js";
import { EventQueue, type ProgramEvent } from "./events.js";
import type { SamplingOptions } from "./gen-options.js";
import { toSampling } from "./gen-options.js";
import { Limiter, type LimitOptions } from "./limits.js";
import { environment, nodeFiles } from "./node-files.js";
import { warmPrefix } from "./prefix.js";
import { type RetryOptions, resolveRetry } from "./retry.js";
import type { Resolved } from "./returned.js";
import { resolveReturned } from "./returned.js";
import { type Pricing, Run, type RunSetup } from "./run.js";
import { State } from "./state.js";
import type { TracerLike } from "./telemetry.js";
import { Trace, type TraceState, type TraceUsage } from "./trace.js";
import type { Meta, Variable } from "./variable.js";

export interface RunOptions extends SamplingOptions {
  /** Who answers. @default the one of `setDefaultBackend` */
  backend?: Backend;
  /** Stops the program: every request ends, what waits fails with ABORTED. */
  signal?: AbortSignal;
  /** Tries of a request that may succeed later, or their number. @default 3 attempts */
  retry?: RetryOptions | number;
  /** Requests in flight, requests and tokens per minute. A `Limiter` may be shared by many runs. */
  limits?: LimitOptions | Limiter;
  /** `inline`: one request at a time, in the order they become ready. @default "background" */
  execution?: "background" | "inline";
  /** Per million tokens; gives `usage.cost`. */
  pricing?: Pricing;
  /** OpenTelemetry tracer. @default the one that is registered in the process */
  tracer?: TracerLike;
  /** Tokens to ask for past a gen, for APIs where every call pays for the whole prompt. @default 0 */
  apiSpeculation?: number;
}

export interface ProgramOptions extends RunOptions {
  /** Shown in traces. @default the function's name */
  name?: string;
}

const RUN_KEYS = new Set<string>([
  ..."backend signal retry limits execution pricing tracer apiSpeculation".split(" "),
  ..."maxTokens minTokens stop stopTokenIds stopRegex temperature topP topK minP frequencyPenalty".split(" "),
  ..."presencePenalty repetitionPenalty ignoreEos logitBias seed logprobs timeoutMs".split(" "),
]);

let defaultBackend: Backend | undefined;

/** The backend of runs that name none. */
export function setDefaultBackend(backend: Backend | undefined): void {
  defaultBackend = backend;
}

function pickBackend(options: RunOptions): Backend {
  const backend = options.backend ?? defaultBackend;
  if (backend) return backend;
  throw new SglangError("INVALID_REQUEST", "A run needs a backend: pass { backend } or call setDefaultBackend.", {
    field: "backend",
  });
}

/** Empties the prefix cache of a backend; false when it was busy or has none. */
export async function flushCache(backend: Backend | undefined = defaultBackend): Promise<boolean> {
  return (await backend?.flushCache?.()) ?? false;
}

/** What a run left behind. */
export class ProgramResult<R> {
  /** What the program returned, with the variables in it replaced by their values. */
  readonly value: R;
  /** The first failure of any state or fork, also when nobody awaited it. */
  readonly error: unknown;
  readonly usage: TraceUsage;
  /** The prompt at the end, for people. */
  readonly text: string;
  readonly messages: readonly PromptMessage[];
  readonly #state: State;
  readonly #trace: Trace;

  constructor(
    value: R,
    error: unknown,
    state: State,
    facts: { text: string; messages: readonly PromptMessage[] },
    trace: Trace,
  ) {
    this.value = value;
    this.error = error;
    this.text = facts.text;
    this.messages = facts.messages;
    this.usage = trace.usage;
    this.#state = state;
    this.#trace = trace;
  }

  /** A variable by its name. @throws SglangError INVALID_REQUEST for an unknown one, with the nearest */
  get<T = string>(name: string): Variable<T> {
    return this.#state.get<T>(name);
  }

  meta(name: string): Promise<Meta> {
    return this.#state.meta(name);
  }

  names(): string[] {
    return this.#state.names();
  }

  /** What happened, as a tree; `toHTML()` makes a page of it. */
  trace(): Trace {
    return this.#trace;
  }
}

/** A running program: its events as they come, and its result. */
export interface ProgramStream<R> extends AsyncIterable<ProgramEvent> {
  /** Resolves when the program has ended. */
  readonly result: Promise<ProgramResult<R>>;
  /** Text as it comes: of the program's own state, or of one variable in any state. */
  text(variable?: string): AsyncIterable<string>;
}

type Fixed<A extends unknown[]> = number extends A["length"] ? false : [A] extends [Required<A>] ? true : false;
/** A program, or for a function with optional or rest parameters an error in the place of one. */
export type ProgramOf<A extends unknown[], R> =
  Fixed<A> extends true ? Program<A, R> : "programs take a fixed number of arguments: put optional ones into an object";

type Prefix<A extends unknown[]> = A extends [...infer Shorter, unknown] ? A | Prefix<Shorter> : [];

type Drop<A extends unknown[], H extends unknown[]> = H extends [unknown, ...infer HeadRest]
  ? A extends [unknown, ...infer Rest]
    ? Drop<Rest, HeadRest>
    : []
  : A;

export interface Program<A extends unknown[], R> {
  /** Inside of another program: goes on in its state. */
  (s: State, ...args: A): Promise<R>;
  readonly programName: string;
  /** Runs it. @throws what the function throws, and what a variable that it awaits or returns failed with */
  run(...args: [...args: A, options?: RunOptions]): Promise<ProgramResult<R>>;
  /** Runs it and tells what happens; leaving the loop early aborts it. */
  stream(...args: [...args: A, options?: RunOptions]): ProgramStream<R>;
  /** Runs it for every item, its first argument. Await it for all results in order, or iterate over them. */
  batch(items: Iterable<A[0]> | AsyncIterable<A[0]>, options?: BatchOptions<A[0], [A[0]]>): Batch<R>;
  /** The same with the arguments that `options.args` makes of an item. */
  batch<I>(
    items: Iterable<I> | AsyncIterable<I>,
    options: BatchOptions<I, A> & { args: (item: I, index: number) => A },
  ): Batch<R>;
  /** Fixes the first arguments. */
  bind<H extends Prefix<A>>(...head: H): Program<Drop<A, H>, R>;
  /** The same program with other defaults. */
  with(options: RunOptions): Program<A, R>;
  /** Runs it without a model: answers are placeholders of the right type. Shows the calls and forks it would make. */
  trace(...args: A): Promise<Trace>;
  /** Sends the text before the first gen to the backend's prefix cache. false: too short, or the backend keeps none. */
  cache(...args: [...args: A, options?: RunOptions]): Promise<boolean>;
  /** For `s.run`. */
  runInside(parent: Run, args: A): Promise<R>;
}

/**
 * Makes a program of a function whose first parameter is the state. The number of its arguments is fixed, so that options
 * can follow them.
 * @param options defaults of every run
 */
export function program<A extends unknown[], R>(
  fn: (s: State, ...args: A) => R,
  options: ProgramOptions = {},
): ProgramOf<A, Resolved<R>> {
  const body = fn as unknown as Body;
  const { name = body.name || "program", ...defaults } = options;
  return makeProgram(body, Math.max(0, body.length - 1), name, checkOptions(defaults)) as unknown as ProgramOf<
    A,
    Resolved<R>
  >;
}

type Body = (s: State, ...args: unknown[]) => unknown;

interface Extras {
  emit?: (event: ProgramEvent) => void;
  symbolic?: boolean;
  limiters?: readonly Limiter[];
  onFirstPrompt?: (prompt: BackendPrompt) => void | Promise<void>;
  onRun?: (run: Run) => void;
}

function makeProgram(body: Body, arity: number, name: string, defaults: RunOptions): Program<unknown[], unknown> {
  const split = (given: readonly unknown[], method: string): { args: unknown[]; options: RunOptions } => {
    if (given.length < arity || given.length > arity + 1) {
      const found = given.length < arity ? given.length : given.length - 1;
      throw invalidField(
        `${name}.${method}`,
        `called with ${arity} argument${arity === 1 ? "" : "s"} and options`,
        `${found} arguments`,
      );
    }
    return { args: given.slice(0, arity), options: checkOptions((given[arity] ?? {}) as RunOptions) };
  };
  const start = (args: readonly unknown[], options: RunOptions, extras: Extras = {}) =>
    execute(body, args, name, { ...defaults, ...options }, extras);

  const inside = async (s: State, ...args: unknown[]) => resolveReturned(body(s, ...args));
  const self = (s: State, ...args: unknown[]) => metWhereAwaited(inside(s, ...args));
  const methods: Omit<Program<unknown[], unknown>, never> = {
    programName: name,
    run: async (...given) => {
      const { args, options } = split(given, "run");
      return start(args, options);
    },
    stream: (...given) => {
      const { args, options } = split(given, "stream");
      return makeStream((extras) => start(args, options, extras));
    },
    batch: (items: Iterable<unknown> | AsyncIterable<unknown>, options: BatchOptions<unknown, unknown[]> = {}) => {
      const { concurrency, progress, checkpoint, args, sharedPrefix, ...rest } = options;
      checkOptions(rest);
      const backend = pickBackend({ ...defaults, ...rest });
      const limits = rest.limits ?? defaults.limits;
      const limiters = limits ? [limits instanceof Limiter ? limits : new Limiter(limits)] : undefined;
      if (!args && arity > 1)
        throw invalidField("batch.args", `a function that makes ${arity} arguments of an item`, undefined);
      return new Batch(
        items,
        { concurrency, progress, checkpoint, sharedPrefix, signal: rest.signal },
        async (item, index, hooks) => {
          const made = args ? args(item, index) : [item].slice(0, arity);
          const { signal: _, ...options } = rest;
          const result = await start(made, { ...options, backend }, { ...hooks, ...(limiters ? { limiters } : {}) });
          return { value: result.value, usage: result.usage };
        },
        (prompts, signal) => warmPrefix(backend, prompts, signal),
      );
    },
    bind: ((...head: unknown[]) => {
      if (head.length > arity)
        throw invalidField(`${name}.bind`, `called with at most ${arity} arguments`, head.length);
      return makeProgram((s, ...rest) => body(s, ...head, ...rest), arity - head.length, name, defaults);
    }) as unknown as Program<unknown[], unknown>["bind"],
    with: (options) => makeProgram(body, arity, name, { ...defaults, ...checkOptions(options) }),
    trace: async (...args) => {
      let trace: Trace | undefined;
      const options = { ...defaults, backend: SYMBOLIC };
      const ended = await execute(body, args, name, options, { symbolic: true }, (made) => {
        trace = made;
      }).catch((error: unknown) => ({ error }));
      const stopped = ended.error === undefined ? undefined : String((ended.error as Error).message ?? ended.error);
      return new Trace({ ...(trace as Trace), backend: "", ...(stopped === undefined ? {} : { stopped }) });
    },
    cache: async (...given) => {
      const { args, options } = split(given, "cache");
      const merged = { ...defaults, ...options };
      const backend = pickBackend(merged);
      let found: BackendPrompt | undefined;
      const stop = new SglangError("ABORTED", "The prefix is known.");
      await execute(
        body,
        args,
        name,
        { ...merged, backend: SYMBOLIC },
        {
          symbolic: true,
          onFirstPrompt: (prompt) => {
            found ??= prompt;
            throw stop;
          },
        },
      ).catch((error: unknown) => {
        if (found === undefined) throw error;
      });
      if (!found) return false;
      return warmPrefix(backend, [found], merged.signal ?? new AbortController().signal);
    },
    runInside: (parent, args) => {
      const run = new Run(parent.setup, parent);
      return metWhereAwaited(executeIn(run, body, args, name).then(({ value }) => value));
    },
  };
  return Object.assign(self, methods);
}

/** Inside of a program a failure is met where it is awaited, like that of a variable; nobody awaiting is not an error. */
function metWhereAwaited<T>(work: Promise<T>): Promise<T> {
  work.catch(() => {});
  return work;
}

function checkOptions<T extends RunOptions>(options: T): T {
  if (typeof options !== "object" || options === null)
    throw invalidField("options", "an object after the arguments", options);
  for (const key of Object.keys(options)) {
    if (!RUN_KEYS.has(key)) {
      throw new SglangError("INVALID_REQUEST", `A run has no option "${key}".${didYouMean(key, RUN_KEYS)}`, {
        field: key,
      });
    }
  }
  return options;
}

/** Stands for the backend of symbolic runs, which ask none. */
const SYMBOLIC: Backend = {
  name: "symbolic",
  capabilities: {
    text: true,
    chat: true,
    continueTurn: true,
    constraints: [],
    sampling: [],
    score: false,
    logprobs: false,
    images: true,
    video: true,
    tools: true,
    reasoning: false,
    prefixHint: false,
  },
  generate: () => {
    throw new SglangError("UNSUPPORTED", "A symbolic run asks no model.");
  },
};

async function execute(
  body: Body,
  args: readonly unknown[],
  name: string,
  options: RunOptions,
  extras: Extras = {},
  onTrace?: (trace: Trace) => void,
): Promise<ProgramResult<unknown>> {
  const { backend: _, signal, retry, limits, execution, pricing, tracer, apiSpeculation = 0, ...sampling } = options;
  toSampling(sampling, undefined);
  const limiters = [...(extras.limiters ?? (limits ? [limits instanceof Limiter ? limits : new Limiter(limits)] : []))];
  if (execution === "inline") limiters.push(new Limiter({ concurrency: 1 }));
  const setup: RunSetup = {
    backend: pickBackend(options),
    sampling,
    limiters,
    retry: resolveRetry(retry),
    pricing,
    tracer,
    streaming: extras.emit !== undefined,
    emit: extras.emit,
    symbolic: extras.symbolic ?? false,
    apiSpeculation,
    onFirstPrompt: extras.onFirstPrompt,
  };
  const run = new Run(setup);
  extras.onRun?.(run);
  const abort = () => run.abort(signal?.reason);
  if (signal?.aborted) abort();
  else signal?.addEventListener("abort", abort, { once: true });
  try {
    return await executeIn(run, body, args, name, onTrace);
  } finally {
    signal?.removeEventListener("abort", abort);
  }
}

async function executeIn(
  run: Run,
  body: Body,
  args: readonly unknown[],
  name: string,
  onTrace?: (trace: Trace) => void,
): Promise<ProgramResult<unknown>> {
  if (run.aborted) throw run.abortError();
  const root: TraceState = { id: "0", label: name, startMs: performance.now(), endMs: null, events: [] };
  const state = new State(run, root);
  const makeTrace = () => {
    const trace = new Trace({ program: name, backend: run.backend.name, root, usage: run.usage() });
    onTrace?.(trace);
    return trace;
  };
  try {
    const value = await run.outside(resolveReturned(body(state, ...args)));
    await run.outside(run.whenIdle());
    State.close(state, "the program ended");
    const facts = { text: await state.transcript(), messages: await state.messages() };
    const trace = makeTrace();
    await saveTrace(trace);
    return new ProgramResult(value, run.firstError?.error, state, facts, trace);
  } catch (error) {
    // Nothing is waited for: what still runs meets the abort, and the program's own promises are its own.
    run.abort(error);
    State.close(state, "the program ended");
    await saveTrace(makeTrace());
    throw error;
  } finally {
    run.close();
  }
}

let traceFiles = 0;

/** `SGLANG_TRACE=dir` writes a page for every run. */
async function saveTrace(trace: Trace): Promise<void> {
  const folder = environment("SGLANG_TRACE");
  if (!folder || trace.backend === SYMBOLIC.name) return;
  const files = nodeFiles("unset SGLANG_TRACE.");
  await files.mkdir(folder, { recursive: true });
  const stamp = new Date().toISOString().replace(/[:.]/g, "-");
  const name = trace.program.replace(/[^A-Za-z0-9_-]/g, "_");
  await files.writeFile(`${folder}/${stamp}-${++traceFiles}-${name}.html`, await trace.toHTML());
}

function makeStream(start: (extras: Extras) => Promise<ProgramResult<unknown>>): ProgramStream<unknown> {
  let run: Run | undefined;
  const queue = new EventQueue<ProgramEvent>(() =>
    run?.abort(new SglangError("ABORTED", "The reader of the stream left.")),
  );
  const result = start({
    emit: (event) => queue.push(event),
    onRun: (started) => {
      run = started;
    },
  });
  result.then(
    () => queue.end(),
    (error) => queue.end({ error }),
  );
  return {
    result,
    [Symbol.asyncIterator]: () => queue[Symbol.asyncIterator](),
    async *text(variable) {
      for await (const event of queue) {
        if (variable !== undefined) {
          if (event.type === "delta" && event.name === variable) yield event.text;
        } else if ((event.type === "delta" || event.type === "text") && event.state === "0") {
          yield event.text;
        }
      }
    },
  };
}
