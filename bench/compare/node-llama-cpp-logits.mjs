// Logits of node-llama-cpp for `npm run bench:accuracy`: a child process that answers one line of JSON per window.
//   node node-llama-cpp-logits.mjs MODEL.gguf THREADS
// in:  {"ids": [...], "stride": 2, "file": "out.f32"}   out: {"rows": 256, "columns": 151936}
// The file holds the raw logits after the tokens 0, stride, 2 * stride, ...
import { writeFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { getLlama } from "node-llama-cpp";

const [, , modelPath, threadsText] = process.argv;
const threads = Number(threadsText);
const llama = await getLlama({ gpu: false, build: "never", maxThreads: threads, logLevel: "error" });
const model = await llama.loadModel({ modelPath, gpuLayers: 0 });
const context = await model.createContext({ sequences: 1, contextSize: 1024, batchSize: 512, threads });
const sequence = context.getSequence();

for await (const line of createInterface({ input: process.stdin })) {
  const { ids, stride, file } = JSON.parse(line);
  await sequence.clearHistory();
  const wanted = (index) => index % stride === 0;
  let columns = 0;
  let rows;
  await sequence.controlledEvaluate(
    ids.map((id, i) => (wanted(i) ? [id, { generateNext: { logits: true } }] : id)),
    {
      onTokenResult(index, { next }) {
        columns = next.logits.size;
        rows ??= new Float32Array(Math.ceil(ids.length / stride) * columns);
        const start = (index / stride) * columns;
        for (const [id, logit] of next.logits) rows[start + id] = logit;
        // A window's results are gigabytes as maps.
        delete next.logits;
      },
    },
  );
  writeFileSync(file, rows);
  console.log(JSON.stringify({ rows: rows.length / columns, columns }));
}
process.exit(0);
