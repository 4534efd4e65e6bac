import { gunzipSync } from "node:zlib";
import { readFileSync } from "node:fs";
import { it } from "vitest";
import { regexToExpression } from "../../src/grammar/regex.js";
import { matches } from "./expression-matcher.js";
it("data", () => {
  const rows = gunzipSync(readFileSync("/work/shared/data/json-schemas-dev.jsonl.gz")).toString().trim().split("\n").map((l) => JSON.parse(l));
  const patterns = new Set<string>(); const strings = new Set<string>();
  const walk = (x: any): void => { if (Array.isArray(x)) x.forEach(walk); else if (x && typeof x === "object") for (const [k, v] of Object.entries(x)) { if (k === "pattern" && typeof v === "string") patterns.add(v); if (k === "patternProperties" && v && typeof v === "object") Object.keys(v).forEach((p) => patterns.add(p)); walk(v); } };
  const strs = (x: any): void => { if (typeof x === "string") { if (x.length < 80 && x.isWellFormed()) strings.add(x); } else if (Array.isArray(x)) x.forEach(strs); else if (x && typeof x === "object") for (const [k, v] of Object.entries(x)) { strings.add(k); strs(v); } };
  for (const r of rows) { walk(r.schema); for (const t of r.tests) strs(t.data); }
  const all = [...strings].filter((_, i) => i % 40 === 0);
  console.log(patterns.size, "patterns", strings.size, "strings", all.length);
  let refused = 0, bad = 0, onlyLoose = 0; const times: [number, string][] = [];
  for (const p of patterns) {
    let js: RegExp; try { js = new RegExp(p, "u"); } catch { try { js = new RegExp(p); onlyLoose++; } catch { js = null as any; } }
    try {
      const t = performance.now();
      const e = regexToExpression(p, undefined, { anchored: false });
      times.push([performance.now() - t, p]);
      if (!js) { console.log("accepted invalid", p); continue; }
      const t1 = performance.now();
      for (const s of all) if (js.test(s) !== matches(e, s)) { bad++; if (bad < 20) console.log("MISMATCH", p, JSON.stringify(s), js.test(s)); break; }
      if (performance.now() - t1 > 300) console.log("slow match", performance.now() - t1, p.slice(0, 200));
    } catch (err) { refused++; console.log(`${js ? "" : "(invalid in JS) "}${(err as Error).message.slice(0, 200)}`); }
  }
  times.sort((a, b) => b[0] - a[0]);
  console.log({ refused, bad, onlyLoose }, times.slice(0, 12).map(([t, p]) => `${t.toFixed(1)} ${p.slice(0, 90)}`));
}, 300000);
