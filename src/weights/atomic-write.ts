/** Writes a file so that readers see the old content or the new one, never a part. */
import { randomBytes } from "node:crypto";
import { open, rename, rm } from "node:fs/promises";
import { SglangError } from "../core/errors.js";

/**
 * Writes `chunks` one after another into a temporary file beside `path`, syncs it, and renames it to `path`.
 * @throws SglangError FILE_NOT_FOUND when the folder can't be written to; the temporary file is gone then.
 */
export async function writeAtomically(path: string, chunks: Iterable<Uint8Array>): Promise<void> {
  const temporary = `${path}.${process.pid}-${randomBytes(4).toString("hex")}.tmp`;
  try {
    const handle = await open(temporary, "wx");
    try {
      // On a handle, writeFile goes on from the current position and finishes partial writes.
      for (const chunk of chunks) await handle.writeFile(chunk);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(temporary, path);
  } catch (cause) {
    await rm(temporary, { force: true });
    if (SglangError.isInstance(cause)) throw cause;
    throw new SglangError(
      "FILE_NOT_FOUND",
      `${path} cannot be written: ${(cause as Error).message}.`,
      { file: path },
      { cause },
    );
  }
}
