import { resolve } from "node:path";
import { build } from "vite";

const src = resolve(import.meta.dirname, "../../src");
const ENTRY = "\0entry";

export interface Bundle {
  /** The minified entry: what is loaded at once. */
  code: string;
  /** Its name; lazy chunks are loaded from beside it. */
  fileName: string;
  /** Chunks that are loaded when they are needed, by file name. None in an `iife`. */
  lazy: Map<string, string>;
}

/**
 * Bundles `source` for a place without Node; "sglang-ts/lang" and "sglang-ts/lang/backends" are the ones in `src`.
 * @param format `iife` runs as a script and leaves its exports in the global `bundle`
 * @throws Error when a Node module is needed
 */
export async function bundle(source: string, format: "es" | "iife" = "es"): Promise<Bundle> {
  const result = await build({
    configFile: false,
    logLevel: "silent",
    plugins: [
      {
        name: "entry",
        enforce: "pre",
        resolveId(id) {
          if (id === "entry") return ENTRY;
          if (id === "sglang-ts/lang") return resolve(src, "lang/index.ts");
          if (id === "sglang-ts/lang/backends") return resolve(src, "lang/backends/index.ts");
          if (id.startsWith("node:")) throw new Error(`there is no ${id} outside of Node`);
          return null;
        },
        load: (id) => (id === ENTRY ? source : null),
        // package.json says the same of the built files: importing one does nothing by itself.
        transform: (code, id) => (id.startsWith(src) ? { code, map: null, moduleSideEffects: false } : null),
      },
    ],
    build: {
      write: false,
      minify: true,
      target: "es2022",
      rollupOptions: {
        input: "entry",
        preserveEntrySignatures: "strict",
        output: { format, ...(format === "iife" && { name: "bundle", codeSplitting: false }) },
      },
    },
  });
  const [built] = Array.isArray(result) ? result : [result];
  if (!("output" in built)) throw new Error("vite watches instead of building");
  const [entry, ...others] = built.output;
  return {
    code: entry.code,
    fileName: entry.fileName,
    lazy: new Map(others.flatMap((chunk) => (chunk.type === "chunk" ? [[chunk.fileName, chunk.code]] : []))),
  };
}
