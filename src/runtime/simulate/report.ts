/** What a run of a trace came to, simulated or real: the numbers policies are compared by. */

/** One request's times, in milliseconds from the start of the run. */
export interface RequestTimes {
  arrived: number;
  firstToken: number;
  finished: number;
  inputTokens: number;
  outputTokens: number;
  cachedTokens: number;
  retractions: number;
  tenant: string;
}

export interface Spread {
  mean: number;
  p50: number;
  p90: number;
  p99: number;
}

export interface RunReport {
  requests: number;
  /** Requests that could not be served: too long, or the queue was full. */
  refused: number;
  seconds: number;
  inputTokensPerSecond: number;
  outputTokensPerSecond: number;
  /** Milliseconds to the first token, from arrival. */
  firstTokenMs: Spread;
  /** Mean milliseconds between two tokens of a request. */
  interTokenMs: Spread;
  endToEndMs: Spread;
  /** Cached share of all prompt tokens. */
  cacheHitRate: number;
  retractions: number;
  /** By tenant, where there are several. */
  tenants?: Record<string, { requests: number; firstTokenMs: Spread; endToEndMs: Spread }>;
}

export function spread(values: readonly number[]): Spread {
  const sorted = Float64Array.from(values).sort();
  const at = (share: number) => sorted[Math.max(0, Math.ceil(sorted.length * share) - 1)] ?? Number.NaN;
  return { mean: sorted.reduce((a, b) => a + b, 0) / sorted.length, p50: at(0.5), p90: at(0.9), p99: at(0.99) };
}

const firstTokenMs = (r: RequestTimes) => r.firstToken - r.arrived;
const endToEndMs = (r: RequestTimes) => r.finished - r.arrived;

export function report(times: readonly RequestTimes[], refused: number): RunReport {
  const sum = (value: (r: RequestTimes) => number) => times.reduce((total, r) => total + value(r), 0);
  const first = times.reduce((least, r) => Math.min(least, r.arrived), Number.POSITIVE_INFINITY);
  const last = times.reduce((most, r) => Math.max(most, r.finished), 0);
  const seconds = times.length > 0 ? (last - first) / 1000 : 0;
  const inputTokens = sum((r) => r.inputTokens);
  const names = [...new Set(times.map((r) => r.tenant))].sort();
  const byTenant = names.map((name) => {
    const own = times.filter((r) => r.tenant === name);
    const figures = {
      requests: own.length,
      firstTokenMs: spread(own.map(firstTokenMs)),
      endToEndMs: spread(own.map(endToEndMs)),
    };
    return [name, figures] as const;
  });
  return {
    requests: times.length,
    refused,
    seconds,
    inputTokensPerSecond: inputTokens / seconds,
    outputTokensPerSecond: sum((r) => r.outputTokens) / seconds,
    firstTokenMs: spread(times.map(firstTokenMs)),
    interTokenMs: spread(
      times.filter((r) => r.outputTokens > 1).map((r) => (r.finished - r.firstToken) / (r.outputTokens - 1)),
    ),
    endToEndMs: spread(times.map(endToEndMs)),
    cacheHitRate: inputTokens > 0 ? sum((r) => r.cachedTokens) / inputTokens : 0,
    retractions: sum((r) => r.retractions),
    ...(names.length > 1 && { tenants: Object.fromEntries(byTenant) }),
  };
}
