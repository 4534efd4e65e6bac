/** What every way of fetching a file shares: progress, messages, abort, injectable network, and how failures read. */
import type { spawn as nodeSpawn } from "node:child_process";
import { SglangError } from "../core/errors.js";

export interface DownloadProgress {
  /** What is being fetched, for people: a model or file name. */
  label: string;
  phase: "download" | "verify";
  /** Bytes that are there, those of an earlier run included. */
  received: number;
  /** Bytes in all; null when the server does not say. */
  total: number | null;
}

export interface Transfer {
  /** @default globalThis.fetch */
  fetch?: typeof globalThis.fetch;
  /** Starts pip. @default child_process.spawn */
  spawn?: typeof nodeSpawn;
  /** @default process.env */
  env?: NodeJS.ProcessEnv;
  /** Aborting keeps the partial file, so that the next run goes on from there. */
  signal?: AbortSignal;
  onProgress?: (progress: DownloadProgress) => void;
  /** One line for people: which mirror is tried, what is waited for. */
  onMessage?: (line: string) => void;
}

/** The error of a transfer that its caller stopped. */
export function abortedError(label: string, cause?: unknown): SglangError {
  return new SglangError(
    "ABORTED",
    `Fetching ${label} was stopped; what has arrived is kept, and the same command goes on from there.`,
    {},
    { cause },
  );
}

/** "getaddrinfo ENOTFOUND huggingface.co" instead of fetch's bare "fetch failed". */
export function networkReason(error: unknown): string {
  let current = error;
  for (let depth = 0; depth < 5 && current instanceof Error; depth++) {
    if (current instanceof AggregateError && current.errors.length > 0) {
      current = current.errors[0];
      continue;
    }
    if (current.cause === undefined) break;
    current = current.cause;
  }
  if (!(current instanceof Error)) return String(current);
  const code = (current as NodeJS.ErrnoException).code;
  if (!current.message) return code ?? current.name;
  return code && !current.message.includes(code) ? `${code}: ${current.message}` : current.message;
}

/** Resolves after `ms`, or rejects with the signal's reason. */
export function pause(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason);
    const stop = () => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", stop);
      resolve();
    }, ms);
    signal?.addEventListener("abort", stop, { once: true });
  });
}

/** 98.4 MB: decimal units, as download sizes are given elsewhere. */
export function formatBytes(bytes: number): string {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let value = bytes;
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit++;
  }
  return `${unit === 0 || value >= 1000 ? value : value.toFixed(1)} ${units[unit]}`;
}

/** Adds up the progress of several files that make one model. */
export class ProgressSum {
  readonly #label: string;
  readonly #total: number;
  readonly #transfer: Transfer;
  readonly #received = new Map<string, number>();

  /** @param total bytes of all parts */
  constructor(label: string, total: number, transfer: Transfer) {
    this.#label = label;
    this.#total = total;
    this.#transfer = transfer;
  }

  /** A part is there without a transfer. */
  done(part: string, size: number): void {
    this.#received.set(part, size);
    this.#report("download");
  }

  /** The transfer options for one part: its progress arrives as the sum's. */
  part(part: string): Transfer {
    return {
      ...this.#transfer,
      onProgress: ({ phase, received }) => {
        this.#received.set(part, received);
        this.#report(phase);
      },
    };
  }

  #report(phase: DownloadProgress["phase"]): void {
    let received = 0;
    for (const bytes of this.#received.values()) received += bytes;
    this.#transfer.onProgress?.({ label: this.#label, phase, received, total: this.#total });
  }
}
