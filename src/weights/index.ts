/**
 * Model files: found, fetched, read, checked, dequantised and written. Imports nothing native.
 *
 *   const { path } = await resolveModel("qwen2.5-coder-0.5b");
 *   const checkpoint = await openCheckpoint(path);
 *   const norm = checkpoint.readFloat32("output_norm.weight");
 */

export type { Checkpoint, Metadata, MetadataValue, TensorInfo, TokenizerSource } from "../core/model-files.js";
export { CATALOG, type CatalogModel, DEFAULT_MODEL, findModel } from "./catalog.js";
export { type OpenedCheckpoint, openCheckpoint } from "./checkpoint.js";
export { encodeFloat16, floatToBfloat16, floatToHalf } from "./float16.js";
export type { GgufValueType } from "./gguf.js";
export { type GgufContents, type GgufTensor, type GgufValue, writeGguf } from "./gguf-writer.js";
export { formatInspection, type Inspection, inspectCheckpoint, type TokenizerInspection } from "./inspect.js";
export { dequantize } from "./quant.js";
export { type QuantizableDType, quantize } from "./quantize.js";
export {
  type CatalogStatus,
  catalogStatus,
  type ResolvedModel,
  type ResolveOptions,
  removeModel,
  resolveModel,
} from "./resolve.js";
export { type SafetensorsDType, type TensorToWrite, writeSafetensors } from "./safetensors.js";
