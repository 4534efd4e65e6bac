// The file of a model that a bench names: a catalog name, a file, or `q8_0:NAME`, the same weights requantised to Q8_0 by
// our own writer and kept in the cache folder (a file quantised from the original weights may differ in the last digits of
// accuracy, not in speed).
import { existsSync, mkdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { cacheFolders } from "../dist/weights/cache.js";
import { openCheckpoint, quantize, resolveModel, writeGguf } from "../dist/weights/index.js";

const REQUANTISED = "q8_0:";
/** Metadata whose type a reader insists on; the rest is written as its value suggests. */
const FLOATS = /\.(rope\.freq_base|attention\.layer_norm_rms_epsilon|rope\.scaling\.factor)$/;
const INTEGER_ARRAYS = { "tokenizer.ggml.token_type": "i32" };

/** @returns {Promise<{ path: string, note: string | null }>} */
export async function openModelFile(spec) {
  if (!spec.startsWith(REQUANTISED)) return { path: (await resolveModel(spec, {})).path, note: null };
  const source = (await resolveModel(spec.slice(REQUANTISED.length), {})).path;
  const path = join(dirname(cacheFolders().models), "bench-models", `${spec.slice(REQUANTISED.length)}-q8_0.gguf`);
  const note = `weights of ${spec.slice(REQUANTISED.length)} requantised to Q8_0 by bench/model-file.mjs`;
  if (!existsSync(path)) await requantise(source, path);
  return { path, note };
}

async function requantise(source, path) {
  mkdirSync(dirname(path), { recursive: true });
  const checkpoint = await openCheckpoint(source);
  try {
    const metadata = Object.fromEntries(
      Object.entries(checkpoint.metadata).map(([key, value]) => {
        if (FLOATS.test(key)) return [key, { type: "f32", value }];
        if (key in INTEGER_ARRAYS)
          return [key, { type: "array", items: INTEGER_ARRAYS[key], value: Array.from(value) }];
        return [key, value];
      }),
    );
    const tensors = [...checkpoint.tensors.values()].map(({ name, shape }) => {
      const type = shape.length > 1 ? "Q8_0" : "F32";
      return { name, type, shape, bytes: quantize(type, checkpoint.readFloat32(name)) };
    });
    // 7 = mostly Q8_0.
    await writeGguf(path, { metadata: { ...metadata, "general.file_type": 7 }, tensors });
  } finally {
    checkpoint.close();
  }
}
