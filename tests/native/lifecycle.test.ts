import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, describe, expect, test } from "vitest";
import { Opcode } from "../../src/graph/instructions.js";
import type { NativeFile, NativeKvPool, NativePlan, NativeRuntime, NativeWeight } from "../../src/native/addon.js";
import { addonPath } from "../../src/native/load.js";
import { addon, F32, f, kvPool, mapFloats, noise, PlanWriter, runtime, step } from "./support.js";

const WIDTH = 64;

interface Everything {
  runtime: NativeRuntime;
  files: NativeFile[];
  weights: NativeWeight[];
  kv: NativeKvPool;
  plan: NativePlan;
}

/** A plan of embed and `products` square products, with every handle it is made from. */
async function everything(products: number, maxTokens = 64): Promise<Everything> {
  const rt = runtime();
  const files = [mapFloats(noise(8 * WIDTH, 1)), mapFloats(noise(WIDTH * WIDTH, 2).map((x) => x / 5))];
  const table = addon.mapTable({ file: files[0], offset: 0, type: F32, rows: 8, columns: WIDTH });
  const matrix = await addon.packMatrix(rt, {
    columns: WIDTH,
    sources: [{ file: files[1], offset: 0, type: F32, rows: WIDTH }],
  });
  const kv = kvPool({ pages: maxTokens / 4 });
  const p = new PlanWriter(maxTokens, 4);
  const [x, y] = [p.buffer(WIDTH), p.buffer(WIDTH)];
  const [t, m] = [p.weight(table), p.weight(matrix)];
  p.op(Opcode.Embed, x, t, f(1));
  for (let i = 0; i < products; i++) p.op(Opcode.Linear, i % 2 ? x : y, i % 2 ? y : x, m, -1);
  p.head();
  p.hidden = p.buffer(WIDTH, "rows");
  p.op(Opcode.TakeRows, p.hidden, products % 2 ? y : x);
  return { runtime: rt, files, weights: [table, matrix], kv, plan: p.create(rt, 0, kv) };
}

const inputs = () => step([{ tokens: [1, 2, 3, 4, 5] }], [{ token: 4 }], { hidden: true });

function permutations<T>(items: T[]): T[][] {
  if (items.length < 2) return [items];
  return items.flatMap((item, i) =>
    permutations([...items.slice(0, i), ...items.slice(i + 1)]).map((rest) => [item, ...rest]),
  );
}

describe("closing", () => {
  test("files, weights, pools and plans in any order, under a queued step, leaves the step whole", async () => {
    const reference = await everything(6);
    const expected = (await addon.runPlan(reference.plan, inputs())).hidden;
    addon.closeRuntime(reference.runtime);
    for (const order of permutations(["file", "weight", "kv", "plan"])) {
      const all = await everything(6);
      const pending = addon.runPlan(all.plan, inputs());
      for (const what of order) {
        if (what === "file") for (const file of all.files) addon.closeFile(file);
        if (what === "weight") for (const weight of all.weights) addon.closeWeight(weight);
        if (what === "kv") addon.closeKvPool(all.kv);
        if (what === "plan") addon.closePlan(all.plan);
      }
      expect((await pending).hidden).toEqual(expected);
      addon.closeRuntime(all.runtime);
    }
  });

  test("a file leaves the tables that read it usable, and a plan keeps the weights it was made from", async () => {
    const all = await everything(2);
    const before = (await addon.runPlan(all.plan, inputs())).hidden;
    for (const file of all.files) addon.closeFile(file);
    for (const weight of all.weights) addon.closeWeight(weight);
    addon.closeKvPool(all.kv);
    expect((await addon.runPlan(all.plan, inputs())).hidden).toEqual(before);
    addon.closeRuntime(all.runtime);
  });

  test("the runtime finishes the step under way and rejects those that have not begun, in order", async () => {
    const all = await everything(400);
    const steps = Array.from({ length: 60 }, (_, i) =>
      i % 2 ? addon.runPlanByOp(all.plan, inputs()) : addon.runPlan(all.plan, inputs()),
    );
    await steps[0];
    addon.closeRuntime(all.runtime);
    const outcomes = await Promise.allSettled(steps);
    const ends = outcomes.map((o) => (o.status === "fulfilled" ? "done" : (o.reason as Error).message));
    const finished = ends.lastIndexOf("done") + 1;
    expect(ends.slice(0, finished)).toEqual(new Array(finished).fill("done"));
    expect(ends.slice(finished)).toEqual(
      new Array(60 - finished).fill("runPlan: the runtime was closed before it ran"),
    );
    expect(ends[59]).not.toBe("done");
  });

  test("what a closed runtime's plan last computed can still be read", async () => {
    const all = await everything(1);
    const { hidden } = await addon.runPlan(all.plan, inputs());
    addon.closeRuntime(all.runtime);
    expect(addon.readBuffer(all.plan, 1).slice(4 * WIDTH)).toEqual(hidden);
  });

  test("many runtimes live side by side", async () => {
    const several = await Promise.all([everything(3), everything(3), everything(3), everything(3)]);
    const outs = await Promise.all(several.map((all) => addon.runPlan(all.plan, inputs())));
    for (const out of outs) expect(out.hidden).toEqual(outs[0].hidden);
    for (const all of several) addon.closeRuntime(all.runtime);
  });
});

describe("a process", () => {
  const folder = mkdtempSync(join(tmpdir(), "sglang-child-"));
  afterAll(() => rmSync(folder, { recursive: true, force: true }));
  const script = fileURLToPath(new URL("fixtures/busy-child.mjs", import.meta.url));

  /** Exit code, signal and output of a child; killed, and so failed, when it hangs. */
  function child(mode: string): Promise<{ code: number | null; signal: string | null; output: string }> {
    return new Promise((resolve, reject) => {
      const run = spawn(process.execPath, ["--expose-gc", script, addonPath(), folder, mode], { timeout: 20_000 });
      let output = "";
      run.stdout.on("data", (text) => (output += text));
      run.stderr.on("data", (text) => (output += text));
      run.on("error", reject);
      run.on("exit", (code, signal) => resolve({ code, signal, output }));
    });
  }

  test.each([
    ["idle", "ends by itself when nothing is queued, with every handle open", "done\n"],
    ["exit", "ends at once when it exits under a step that runs for minutes", ""],
    ["throw", "ends at once when an exception ends it under such a step", "done\n"],
    ["pack", "ends at once when it exits while a matrix is packed", ""],
    ["masks-exit", "ends at once when it exits under a step that waits for its masks", ""],
    ["masks-collect", "ends when the plan of such a step is collected", "done\n"],
    ["worker-terminate", "goes on when a worker is terminated under such a step", "done\n"],
    ["worker-exit", "goes on when a worker exits under such a step", "done\n"],
    ["collect", "frees runtimes, plans and weights that nobody closes", "done\n"],
  ])("%s: %s", async (mode, _, output) => {
    expect(await child(mode)).toEqual({ code: 0, signal: null, output });
  });
});
