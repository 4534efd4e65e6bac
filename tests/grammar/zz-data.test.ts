import { gunzipSync } from "node:zlib";
import { readFileSync } from "node:fs";
import { it } from "vitest";
import { formatExpression } from "../../src/grammar/formats.js";
import { matches } from "./expression-matcher.js";
it("data", () => {
  const rows = gunzipSync(readFileSync("/work/shared/data/json-schemas-dev.jsonl.gz")).toString().trim().split("\n").map((l) => JSON.parse(l));
  const seen: Record<string, [number, number, number]> = {}; const bad = new Set<string>();
  const go = (schema: any, data: any, valid: boolean, root: any, d = 0): void => {
    if (!schema || typeof schema !== "object" || d > 12) return;
    if (typeof schema.$ref === "string" && schema.$ref.startsWith("#/")) { let t = root; for (const k of schema.$ref.slice(2).split("/")) t = t?.[k.replace(/~1/g, "/").replace(/~0/g, "~")]; go(t, data, valid, root, d + 1); }
    if (typeof schema.format === "string" && typeof data === "string") {
      let e; try { e = formatExpression(schema.format); } catch { e = undefined; }
      const s = (seen[schema.format] ??= [0, 0, 0]); s[0]++;
      if (e && valid) { if (!matches(e, data)) { s[1]++; bad.add(`${schema.format} ${data}`); } }
      if (e && !valid && !matches(e, data)) s[2]++;
    }
    if (data && typeof data === "object" && !Array.isArray(data)) for (const [k, v] of Object.entries(schema.properties ?? {})) if (k in data) go(v, data[k], valid, root, d + 1);
    if (Array.isArray(data) && schema.items && !Array.isArray(schema.items)) for (const x of data) go(schema.items, x, valid, root, d + 1);
    for (const k of ["allOf"]) for (const s of schema[k] ?? []) go(s, data, valid, root, d + 1);
  };
  for (const r of rows) for (const t of r.tests) go(r.schema, t.data, t.valid, r.schema);
  console.log(Object.entries(seen).map(([k, v]) => `${k} ${v}`).join(" | "));
  console.log([...bad].slice(0, 60).join("\n"));
}, 100000);
