/**
 * Progress of downloads on the terminal: a bar where there is one to draw on, a line every tenth elsewhere (logs, CI).
 * Everything goes to stderr, so that stdout stays the command's answer.
 */
import { SingleBar } from "cli-progress";
import type { DownloadProgress } from "../weights/transfer.js";
import { formatBytes } from "../weights/transfer.js";

export interface ProgressReporter {
  /** For `onProgress`; needs no `this`. */
  update: (progress: DownloadProgress) => void;
  /** For `onMessage`: prints a line without tearing the bar. */
  message: (line: string) => void;
  /** Takes the bar down; may be called more than once. */
  stop: () => void;
}

/** Lines in a log are at least this far apart, the first and the last excepted. */
const LINE_MS = 1_000;
/** Speed is measured over this much of the past. */
const SPEED_WINDOW_MS = 3_000;

/** @param stream @default process.stderr */
export function createProgress(stream: NodeJS.WriteStream = process.stderr): ProgressReporter {
  return stream.isTTY ? new BarProgress(stream) : new LineProgress(stream);
}

/** Bytes per second over the last few seconds. */
class Speed {
  readonly #samples: { at: number; bytes: number }[] = [];

  add(bytes: number): string {
    const now = performance.now();
    const last = this.#samples.at(-1);
    // Going back means that another file or phase began.
    if (last && bytes < last.bytes) this.#samples.length = 0;
    this.#samples.push({ at: now, bytes });
    while (this.#samples.length > 2 && now - this.#samples[0].at > SPEED_WINDOW_MS) this.#samples.shift();
    const first = this.#samples[0];
    const seconds = (now - first.at) / 1000;
    return seconds > 0.2 ? `${formatBytes((bytes - first.bytes) / seconds)}/s` : "";
  }
}

function title({ label, phase }: DownloadProgress): string {
  return phase === "verify" ? `${label} (checking)` : label;
}

class BarProgress implements ProgressReporter {
  readonly #stream: NodeJS.WriteStream;
  #bar: SingleBar | null = null;
  #title = "";
  #speed = new Speed();

  constructor(stream: NodeJS.WriteStream) {
    this.#stream = stream;
  }

  update = (progress: DownloadProgress): void => {
    const total = progress.total ?? 0;
    if (this.#title !== title(progress)) this.stop();
    const shown = {
      title: title(progress),
      bytes:
        progress.total === null
          ? formatBytes(progress.received)
          : `${formatBytes(progress.received)} of ${formatBytes(total)}`,
      speed: this.#speed.add(progress.received),
    };
    if (this.#bar) {
      this.#bar.setTotal(total);
      this.#bar.update(progress.received, shown);
      return;
    }
    this.#title = shown.title;
    this.#bar = new SingleBar({
      format: "{title} {bar} {percentage}% {bytes} {speed}",
      barCompleteChar: "\u2588",
      barIncompleteChar: "\u2591",
      barsize: 24,
      stream: this.#stream,
      hideCursor: true,
      linewrap: true,
      emptyOnZero: true,
      // Ctrl-C is the command's to handle: it stops the download and keeps what has arrived.
      gracefulExit: false,
    });
    this.#bar.start(total, progress.received, shown);
  };

  message = (line: string): void => {
    this.stop();
    this.#stream.write(`${line}\n`);
  };

  stop = (): void => {
    this.#bar?.stop();
    this.#bar = null;
    this.#title = "";
    this.#speed = new Speed();
  };
}

class LineProgress implements ProgressReporter {
  readonly #stream: NodeJS.WritableStream;
  #title = "";
  #tenth = -1;
  #printedAt = 0;
  #speed = new Speed();

  constructor(stream: NodeJS.WritableStream) {
    this.#stream = stream;
  }

  update = (progress: DownloadProgress): void => {
    const { received, total } = progress;
    if (this.#title !== title(progress)) {
      this.#title = title(progress);
      this.#tenth = -1;
      this.#speed = new Speed();
    }
    const speed = this.#speed.add(received);
    // Without a total: every 100 MB.
    const tenth = total ? Math.floor((received / total) * 10) : Math.floor(received / 1e8);
    if (tenth <= this.#tenth) return;
    const now = performance.now();
    const edge = this.#tenth === -1 || received === total;
    if (!edge && now - this.#printedAt < LINE_MS) return;
    this.#tenth = tenth;
    this.#printedAt = now;
    const share = total ? `${tenth * 10} % of ${formatBytes(total)}` : formatBytes(received);
    this.#stream.write(`${this.#title}: ${share}${speed ? `, ${speed}` : ""}\n`);
  };

  message = (line: string): void => {
    this.#stream.write(`${line}\n`);
  };

  stop = (): void => {};
}
