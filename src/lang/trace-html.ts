/** A trace as one self-contained page: a timeline of branches, and each state's prompt with its variables. */
import type { Trace, TraceCall, TraceEvent, TraceState } from "./trace.js";
import type { Meta } from "./variable.js";

const ENTITIES: Readonly<Record<string, string>> = {
  "&": "&amp;",
  "<": "&lt;",
  ">": "&gt;",
  '"': "&quot;",
  "'": "&#39;",
};

function escapeHtml(text: unknown): string {
  return String(text).replace(/[&<>"']/g, (char) => ENTITIES[char]);
}

const STYLE = `
:root{color-scheme:light dark;--ink:#1d2733;--paper:#fbfaf7;--line:#d9d4c8;--gen:#c9ead0;--select:#cfe0fa;--cached:#e9e2cf;--bad:#f6cdc6}
@media(prefers-color-scheme:dark){:root{--ink:#e6e3da;--paper:#15191e;--line:#343b43;--gen:#1f4a2c;--select:#1f3a63;--cached:#38331f;--bad:#5c2620}}
body{font:14px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);max-width:1100px;margin:2rem auto;padding:0 1rem}
h1{font-size:1.3rem}h2{font-size:1rem;margin:2rem 0 .5rem}
table{border-collapse:collapse}td,th{text-align:left;padding:.15rem .8rem .15rem 0;vertical-align:top}
.lane{display:flex;height:20px;border-bottom:1px solid var(--line)}
.lane i{flex:0 0 8rem;font-style:normal;font-size:11px;opacity:.7;overflow:hidden;white-space:nowrap;text-overflow:ellipsis}
.lane div{flex:1;position:relative}
.bar{position:absolute;top:2px;height:16px;border-radius:3px;min-width:2px;overflow:hidden;font-size:11px;white-space:nowrap}
.gen{background:var(--gen)}.select{background:var(--select)}.failed{background:var(--bad)}
.state{border:1px solid var(--line);border-radius:6px;padding:.6rem .8rem;margin:.6rem 0}
.state .state{margin-left:1rem}
pre{white-space:pre-wrap;overflow-wrap:anywhere;margin:.3rem 0;font:13px/1.5 ui-monospace,monospace}
.cached{background:var(--cached)}
details{display:inline-block;border-radius:3px;padding:0 .2rem;vertical-align:top}
summary{cursor:pointer;list-style:none}.role{opacity:.6;font-weight:600}
.lp{border-bottom:2px solid;border-color:hsl(calc(120*var(--p)),60%,45%)}
`;

function timeline(trace: Trace): string {
  const calls = trace.calls().filter((call): call is typeof call & { meta: Meta } => call.meta !== null);
  if (calls.length === 0) return "";
  const start = Math.min(...calls.map(({ meta }) => meta.startMs));
  const end = Math.max(...calls.map(({ meta }) => meta.endMs));
  const span = Math.max(end - start, 0.001);
  const percent = (ms: number) => `${((100 * ms) / span).toFixed(2)}%`;
  const lanes = trace.states().map((state) => {
    const bars = calls
      .filter((call) => call.state === state.id)
      .map(({ kind, name, meta }) => {
        const title = `${name}: ${(meta.endMs - meta.startMs).toFixed(1)} ms, ${tokenLine(meta)}`;
        const place = `left:${percent(meta.startMs - start)};width:${percent(meta.endMs - meta.startMs)}`;
        return `<span class="bar ${kind}" style="${place}" title="${escapeHtml(title)}">${escapeHtml(name)}</span>`;
      });
    return bars.length === 0
      ? ""
      : `<div class="lane"><i>${escapeHtml(state.label || state.id)}</i><div>${bars.join("")}</div></div>`;
  });
  return `<h2>Timeline, ${span.toFixed(1)} ms</h2>${lanes.join("")}`;
}

function tokenLine({ usage, attempts }: Meta): string {
  if (attempts === 0) return "no request";
  const { promptTokens, cachedTokens, completionTokens } = usage;
  return `${promptTokens} prompt tokens, ${cachedTokens} of them cached, ${completionTokens} new`;
}

function callHtml(call: TraceCall): string {
  const { kind, name, meta, value, error } = call;
  if (error !== undefined)
    return `<details class="failed"><summary>${escapeHtml(name)} failed</summary>${escapeHtml(error)}</details>`;
  if (!meta) return `<span class="${kind}">${escapeHtml(name)} ...</span>`;
  const logprobs = meta.logprobs
    .map(
      ([logprob, , text]) =>
        `<span class="lp" style="--p:${Math.exp(logprob).toFixed(3)}" title="${logprob.toFixed(3)}">${escapeHtml(text)}</span>`,
    )
    .join("");
  const choices = meta.choices
    ?.map(({ choice, score }) => `<tr><td>${escapeHtml(choice)}</td><td>${score.toFixed(4)}</td></tr>`)
    .join("");
  const rows = [
    `<tr><th>${kind}</th><td>${escapeHtml(name)}</td></tr>`,
    `<tr><th>value</th><td>${escapeHtml(JSON.stringify(value))}</td></tr>`,
    `<tr><th>tokens</th><td>${tokenLine(meta)}</td></tr>`,
    `<tr><th>time</th><td>${(meta.endMs - meta.startMs).toFixed(1)} ms, first text after ${(meta.firstTextMs - meta.startMs).toFixed(1)} ms</td></tr>`,
    meta.finish ? `<tr><th>finish</th><td>${escapeHtml(meta.finish)}</td></tr>` : "",
    meta.reasoning ? `<tr><th>reasoning</th><td>${escapeHtml(meta.reasoning)}</td></tr>` : "",
    logprobs ? `<tr><th>logprobs</th><td>${logprobs}</td></tr>` : "",
    choices ? `<tr><th>choices</th><td><table>${choices}</table></td></tr>` : "",
  ];
  return `<details class="${kind}"><summary>${escapeHtml(meta.text) || "&nbsp;"}</summary><table>${rows.join("")}</table></details>`;
}

/** What an event adds to the prompt, for telling cached text from computed text. */
function promptPart(event: TraceEvent): string {
  if (event.type === "text" || event.type === "variable") return event.text;
  if (event.type === "call") return event.meta?.text ?? "";
  return event.type === "tool" ? event.result : "";
}

/**
 * Characters of the prompt that were in the cache when the first request after `events[at]` was sent, in this state or
 * in a fork of it; null when none followed. Backends count tokens: their share of the prompt stands for its characters.
 * @param length characters of the prompt before `events[at]`
 */
function cachedLength(events: readonly TraceEvent[], at: number, length: number): number | null {
  let before = length;
  for (const event of events.slice(at)) {
    if (event.type === "call" && event.meta && event.meta.usage.promptTokens > 0)
      return (before * event.meta.usage.cachedTokens) / event.meta.usage.promptTokens;
    if (event.type === "fork") {
      for (const child of event.children) {
        const found = cachedLength(child.events, 0, before);
        if (found !== null) return found;
      }
    }
    before += promptPart(event).length;
  }
  return null;
}

/** Text that stands at `start` of the prompt, with what was cached of it shaded. */
function promptHtml(text: string, start: number, cached: number | null): string {
  const length = Math.max(0, Math.min(text.length, Math.round((cached ?? 0) - start)));
  const shaded = length > 0 ? `<span class="cached">${escapeHtml(text.slice(0, length))}</span>` : "";
  return shaded + escapeHtml(text.slice(length));
}

function eventHtml(event: Exclude<TraceEvent, { type: "fork" }>, start: number, cached: number | null): string {
  switch (event.type) {
    case "text":
      return promptHtml(event.text, start, cached);
    case "turn":
      return `\n<span class="role">${escapeHtml(event.role)}:</span> `;
    case "image":
      return `[${event.media}]`;
    case "variable":
      return `<span title="${escapeHtml(event.name)}">${promptHtml(event.text, start, cached)}</span>`;
    case "tool":
      return `\n<span class="role">tool ${escapeHtml(event.tool)}(${escapeHtml(event.arguments)}):</span> ${promptHtml(event.result, start, cached)}\n`;
    case "join":
      return `\n<span class="role">join ${event.mode}</span>\n`;
    case "warning":
      return `\n<span class="failed">${escapeHtml(event.message)}</span>\n`;
    case "call":
      return callHtml(event);
  }
}

/** The prompt of a state, whose first `start` characters its parent shows. */
function stateHtml(state: TraceState, start: number): string {
  const blocks: string[] = [];
  let prompt = "";
  let length = start;
  const flush = () => {
    if (prompt !== "") blocks.push(`<pre>${prompt}</pre>`);
    prompt = "";
  };
  for (const [at, event] of state.events.entries()) {
    if (event.type === "fork") {
      flush();
      blocks.push(event.children.map((child) => stateHtml(child, length)).join(""));
      continue;
    }
    prompt += eventHtml(event, length, cachedLength(state.events, at, length));
    length += promptPart(event).length;
  }
  flush();
  return `<div class="state"><b>${escapeHtml(state.id)}</b> ${escapeHtml(state.label)}${blocks.join("")}</div>`;
}

export function traceHtml(trace: Trace): string {
  const { calls, promptTokens, cachedTokens, completionTokens, cost } = trace.usage;
  const totals = `${calls} requests, ${promptTokens} prompt tokens (${cachedTokens} cached), ${completionTokens} new tokens`;
  const price = cost === null ? "" : `, cost ${cost.toFixed(6)}`;
  return `<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>${escapeHtml(trace.program)}</title><style>${STYLE}</style></head><body><h1>${escapeHtml(trace.program)}</h1><p>${escapeHtml(trace.backend)}: ${totals}${price}</p>${timeline(trace)}<h2>States</h2><p>Shaded: found in the prefix cache by the first request after it.</p>${stateHtml(trace.root, 0)}</body></html>`;
}
