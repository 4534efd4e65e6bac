/**
 * The background queue of one state: operations run one after another, in the order they were submitted.
 *
 * An operation that needs no waiting runs at once when nothing is before it, so plain text costs no promise. The first
 * failure stops the queue for good: what waits fails with an error that says what failed before it.
 */
import { type ErrorCode, SglangError } from "../core/errors.js";
import type { Run } from "./run.js";
import type { TraceState } from "./trace.js";
import { Transcript } from "./transcript.js";
import type { VariableWriter } from "./variable.js";

export interface Operation {
  /** The variable it fills, for errors. */
  readonly name?: string;
  run(interpreter: Interpreter): void | Promise<void>;
  /** It failed, or will never run. */
  fail?(error: unknown): void;
}

/** An open `s.scope`: gathers text until it ends. */
export interface Scope {
  name: string;
  text: string;
  writer: VariableWriter<string>;
}

interface Failure {
  name: string | undefined;
  error: unknown;
}

export class Interpreter {
  readonly run: Run;
  readonly trace: TraceState;
  transcript = new Transcript();
  scopes: Scope[] | undefined;
  /** Text that speculation generated past the last gen, not yet matched. */
  speculated = "";
  /** Where a fork started: turns before it, characters of the open text before it. */
  forkedAt = { turns: 0, text: 0 };
  #queue: Operation[] = [];
  /** Something runs, or the state waits for its parent. */
  #running: boolean;
  #failure: Failure | undefined;
  #drained: (() => void)[] | undefined;

  /** @param held wait for {@link start} before running anything */
  constructor(run: Run, trace: TraceState, held: boolean) {
    this.run = run;
    this.trace = trace;
    this.#running = held;
    if (held) run.begin();
  }

  get failure(): Failure | undefined {
    return this.#failure;
  }

  /** A fork starts from its parent's prompt. */
  start(transcript: Transcript): void {
    this.transcript = transcript;
    this.forkedAt = { turns: transcript.turns, text: transcript.openLength };
    this.#advance();
  }

  /** A fork whose parent failed. */
  startFailed(failure: Failure): void {
    this.#fail(failure.name, failure.error);
    this.#stopRunning();
  }

  submit(operation: Operation): void {
    if (this.#failure) {
      operation.fail?.(this.#blocked(operation));
      return;
    }
    if (this.#running) {
      this.#queue.push(operation);
      return;
    }
    const pending = this.#begin(operation);
    if (!pending) return;
    this.#running = true;
    this.run.begin();
    this.#follow(operation, pending);
  }

  /** Calls `done` once everything submitted so far has run or failed. */
  whenDrained(done: () => void): void {
    if (!this.#running) {
      done();
      return;
    }
    this.#drained ??= [];
    this.#drained.push(done);
  }

  /** Text that becomes part of the prompt. */
  addText(text: string): void {
    this.transcript.addText(text);
    if (this.scopes) for (const scope of this.scopes) scope.text += text;
  }

  /** Runs `operation`; a promise when it is not done yet. */
  #begin(operation: Operation): Promise<void> | undefined {
    try {
      return operation.run(this) ?? undefined;
    } catch (error) {
      operation.fail?.(error);
      this.#fail(operation.name, error);
      return undefined;
    }
  }

  #follow(operation: Operation, pending: Promise<void>): void {
    pending.then(
      () => this.#advance(),
      (error) => {
        operation.fail?.(error);
        this.#fail(operation.name, error);
        this.#stopRunning();
      },
    );
  }

  #advance(): void {
    while (!this.#failure) {
      const operation = this.#queue.shift();
      if (!operation) break;
      const pending = this.#begin(operation);
      if (!pending) continue;
      this.#follow(operation, pending);
      return;
    }
    this.#stopRunning();
  }

  #stopRunning(): void {
    this.#running = false;
    const drained = this.#drained;
    this.#drained = undefined;
    if (drained) for (const done of drained) done();
    this.run.done();
  }

  #fail(name: string | undefined, error: unknown): void {
    this.#failure = { name, error };
    this.run.firstError ??= { error };
    const queue = this.#queue;
    this.#queue = [];
    for (const operation of queue) operation.fail?.(this.#blocked(operation));
    for (const scope of this.scopes ?? []) scope.writer.reject(this.#blocked(scope));
    this.scopes = undefined;
    this.run.emit({ type: "error", state: this.trace.id, name: name ?? "", error });
  }

  /** The error of what comes after a failure. */
  #blocked({ name }: { readonly name?: string }): unknown {
    const { name: failed, error } = this.#failure as Failure;
    const code: ErrorCode = SglangError.isInstance(error) ? error.code : "ENGINE_FAILED";
    if (code === "ABORTED" && this.run.aborted) return error;
    const before = failed === undefined ? "an earlier step of its state" : `"${failed}" before it`;
    const message = error instanceof Error ? error.message : String(error);
    const subject = name === undefined ? "The step" : `"${name}"`;
    return new SglangError(
      code,
      `${subject} did not run because ${before} failed: ${message}`,
      { field: name },
      { cause: error },
    );
  }
}
