/**
 * Runs an example: `node run.ts 01-quick-start` (Node 22.18 or later, or through tsx).
 *
 * SGLANG_URL names a server of ours or SGLang's; without it a model is loaded into this process (SGLANG_MODEL).
 */
import { endpointBackend, engineBackend } from "../src/lang/index.js";
import { Engine } from "../src/runtime/index.js";

const [name] = process.argv.slice(2);
const url = process.env.SGLANG_URL;
await using engine = url ? undefined : await Engine.load(process.env.SGLANG_MODEL ?? "qwen2.5-coder-0.5b");
const backend = engine ? engineBackend(engine) : endpointBackend({ baseUrl: url as string });
const { main } = await import(`./${name}.ts`);
console.log(await main(backend));
