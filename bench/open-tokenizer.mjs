/** The tokenizer of a model file or folder, through our own readers. */
import { loadTokenizer } from "../dist/tokenizer/index.js";
import { openCheckpoint } from "../dist/weights/index.js";

export async function openTokenizer(path) {
  const opened = await openCheckpoint(path);
  try {
    return loadTokenizer(opened.tokenizer);
  } finally {
    await opened.close?.();
  }
}
