/** Model files: read, checked, dequantised and written. Imports nothing native. */
export {
  parseSafetensors,
  type SafetensorsDType,
  type SafetensorsFile,
  type TensorToWrite,
  writeSafetensors,
} from "./safetensors.js";
