import { describe, expect, it } from "vitest";
import { loadModel, loadWeights } from "../../src/models/load.js";
import type { MatrixSource, NativeAddon, NativeRuntime, PlanDescription } from "../../src/native/addon.js";
import { fakeCheckpoint, LLAMA, LLAMA_GGUF_TENSORS, LLAMA_METADATA, LLAMA_TENSORS } from "./fake-checkpoint.js";

/** Hands out numbers as handles, remembers what was asked, and can fail at a chosen call. */
function fakeAddon(failAt?: string) {
  const open = new Set<unknown>();
  const calls: { name: string; options: unknown }[] = [];
  const make = (name: string, options: unknown) => {
    if (name === failAt) throw new RangeError(`${name} failed`);
    calls.push({ name, options });
    const handle = { name, number: calls.length };
    open.add(handle);
    return handle;
  };
  const close = (handle: unknown) => {
    if (!open.delete(handle)) throw new Error("closed twice");
  };
  const addon = {
    mapFile: (path: string) => make("mapFile", path),
    closeFile: close,
    packMatrix: async (_runtime: unknown, options: unknown) => make("packMatrix", options),
    mapTable: (options: unknown) => make("mapTable", options),
    uploadVector: (values: Float32Array) => make("uploadVector", [...values]),
    weightInfo: () => ({ rows: 1, columns: 1, bytes: 100 }),
    closeWeight: close,
    createKvPool: (options: unknown) => make("createKvPool", options),
    kvPoolBytes: () => 4096,
    closeKvPool: close,
    createPlan: (_runtime: unknown, options: unknown) => make("createPlan", options),
    closePlan: close,
  };
  const optionsOf = <T>(name: string) => calls.filter((call) => call.name === name).map(({ options }) => options as T);
  return { native: { addon: addon as unknown as NativeAddon, runtime: {} as NativeRuntime }, open, optionsOf };
}

const PLAN = { maxTokens: 8, maxRows: 4, kvPages: 6, pageSize: 16, kvDtype: "f16" } as const;
const llama = () => fakeCheckpoint({ config: LLAMA, tensors: LLAMA_TENSORS });
const gguf = () => fakeCheckpoint({ format: "gguf", metadata: LLAMA_METADATA, tensors: LLAMA_GGUF_TENSORS });

describe("loadModel", () => {
  it("packs stacked parts in one matrix, in order, from their places in the file", async () => {
    const { native, optionsOf } = fakeAddon();
    await loadModel(llama(), native, PLAN);
    const matrices = optionsOf<{ columns: number; sources: MatrixSource[] }>("packMatrix");
    expect(matrices.map(({ columns, sources }) => [columns, sources.map(({ rows }) => rows)])).toEqual([
      [8, [8, 8, 8]],
      [8, [8]],
      [8, [6, 6]],
      [6, [8]],
      [8, [10]],
    ]);
    const { tensors } = llama();
    expect(matrices[2].sources.map(({ offset, type }) => [offset, type])).toEqual(
      ["gate", "up"].map((p) => [tensors.get(`model.layers.0.mlp.${p}_proj.weight`)!.offset, 0]),
    );
    expect(matrices[0].sources.some((source) => "order" in source)).toBe(false);
    expect(optionsOf("mapTable")).toEqual([expect.objectContaining({ rows: 10, columns: 8, type: 0, offset: 0 })]);
  });

  it("gives the native side the row order of llama GGUF files for q and k alone", async () => {
    const { native, optionsOf } = fakeAddon();
    await loadModel(gguf(), native, PLAN);
    const [{ sources }] = optionsOf<{ sources: MatrixSource[] }>("packMatrix");
    expect(sources.map(({ order }) => order && [...order])).toEqual([
      [0, 2, 1, 3, 4, 6, 5, 7],
      [0, 2, 1, 3],
      undefined,
    ]);
  });

  it("makes a plan whose weights stand in the plan's order, over a pool of the model's shape", async () => {
    const { native, optionsOf } = fakeAddon();
    const model = await loadModel(llama(), native, { ...PLAN, vocabSize: 9 });
    expect(optionsOf("createKvPool")).toEqual([
      { layers: 1, kvHeads: 2, headDim: 4, pageSize: 16, pages: 6, dtype: "f16", keyScales: null },
    ]);
    const [description] = optionsOf<PlanDescription>("createPlan");
    expect(description).toMatchObject({
      vocabSize: 9,
      maxTokens: 8,
      maxRows: 4,
      kv: model.kv,
      arenaBytes: model.lowered.arenaBytes,
    });
    const kinds = { table: "mapTable", matrix: "packMatrix", vector: "uploadVector", constant: "uploadVector" };
    expect(description.weights).toEqual(
      model.lowered.weights.map(({ kind }) => expect.objectContaining({ name: kinds[kind] })),
    );
  });

  it("tells sizes", async () => {
    const { native } = fakeAddon();
    const model = await loadModel(llama(), native, PLAN);
    expect(model.kvBytesPerToken).toBe(2 * 1 * 2 * 4 * 2);
    expect(model.weights.kvBytesPerToken("f32")).toBe(2 * model.kvBytesPerToken);
    expect(model.weights.kvBytesPerToken("bf16")).toBe(model.kvBytesPerToken);
    expect(model.weights.kvBytesPerToken("int8")).toBe(2 * 1 * 2 * (4 + 4));
    expect(model.weightBytes).toBe(100 * model.lowered.weights.length);
    expect(model.kvBytes).toBe(4096);
    expect(model.weights.arenaBytes(PLAN)).toBe(model.lowered.arenaBytes);
    expect(model.weights.contextLength).toBe(32);
  });

  it("reports bytes of the files as it goes, up to all of them", async () => {
    const { native } = fakeAddon();
    const seen: { loadedBytes: number; totalBytes: number }[] = [];
    await loadModel(llama(), native, { ...PLAN, onProgress: (progress) => seen.push(progress) });
    const total = [...llama().tensors.values()].reduce((sum, { byteLength }) => sum + byteLength, 0);
    expect(seen.at(-1)).toEqual({ loadedBytes: total, totalBytes: total });
    expect(seen.map(({ loadedBytes }) => loadedBytes)).toEqual(
      seen.map(({ loadedBytes }) => loadedBytes).sort((a, b) => a - b),
    );
  });

  it("frees everything on close, also when closed twice or plan first", async () => {
    const { native, open } = fakeAddon();
    const model = await loadModel(llama(), native, PLAN);
    const second = model.weights.createPlan(PLAN);
    second.close();
    second.close();
    model.close();
    model.close();
    expect([...open]).toEqual([]);
    expect(() => model.weights.createPlan(PLAN)).toThrow(/closed/);
  });

  it.each(["mapFile", "packMatrix", "mapTable", "createKvPool", "createPlan"])(
    "frees what it made when %s fails",
    async (failAt) => {
      const { native, open } = fakeAddon(failAt);
      await expect(loadModel(llama(), native, PLAN)).rejects.toThrow(`${failAt} failed`);
      expect([...open]).toEqual([]);
    },
  );
});

describe("loadWeights", () => {
  it.each([0, 33, 1.5])("refuses a context length of %d for a model of 32", async (contextLength) => {
    const { native, open } = fakeAddon();
    await expect(loadWeights(llama(), native, { contextLength })).rejects.toThrow(
      expect.objectContaining({
        code: "INVALID_ARGUMENT",
        details: expect.objectContaining({ field: "--context-length" }),
      }),
    );
    expect([...open]).toEqual([]);
  });
  it("takes a shorter context length", async () => {
    const { native } = fakeAddon();
    expect((await loadWeights(llama(), native, { contextLength: 16 })).contextLength).toBe(16);
  });
});
