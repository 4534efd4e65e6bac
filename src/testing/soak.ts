/**
 * Random load on a server for as long as it is told: whole and streamed answers, aborts by rid, clients that leave,
 * deadlines, priorities, pauses. Every token that comes back is compared with what the same request gave when it ran
 * alone with an empty cache. At the end no page may be missing.
 *
 * Start the server with a tiny KV cache (`--max-total-tokens`) and `--enable-priority-scheduling`, so that it must retract
 * and preempt. One soak at a time per server.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { createRandom } from "../runtime/random.js";

export interface SoakOptions {
  /** Where the server is. */
  url: string;
  seconds: number;
  /** Clients that send one request after the other. @default 24 */
  clients?: number;
  /** Different requests. @default 24 */
  cases?: number;
  /** @default 1 */
  seed?: number;
  /** Called about once a second. */
  onSecond?: (soFar: SoakReport) => void;
}

export interface SoakReport {
  seconds: number;
  requests: number;
  /** How requests ended. */
  ended: { complete: number; aborted: number; left: number; late: number; refused: number };
  pauses: number;
  /** Answers that were not what they are alone; must be 0. The first few are described. */
  wrong: number;
  wrongAnswers: string[];
  /** Pages that were neither free nor cached when nothing ran any more; must be 0. */
  leakedPages: number;
  counters: Record<string, number>;
  /** Resident memory of the server in MB: at a third of the time and at the end, and its slope from there on. */
  memory: { third: number; end: number; slopePerMinute: number };
}

interface Case {
  text: string;
  sampling_params: Record<string, unknown>;
  expected: number[];
}

type Json = Record<string, unknown>;

const WORDS =
  "the a river stone quietly under seven lamps and Ada writes code that sails through night storms again".split(" ");

export async function soak(options: SoakOptions): Promise<SoakReport> {
  const { url, seconds, clients = 24, cases: count = 24, seed = 1, onSecond } = options;
  const random = createRandom(seed);
  const pick = (n: number) => Math.floor(random() * n);
  const report: SoakReport = {
    seconds: 0,
    requests: 0,
    ended: { complete: 0, aborted: 0, left: 0, late: 0, refused: 0 },
    pauses: 0,
    wrong: 0,
    wrongAnswers: [],
    leakedPages: 0,
    counters: {},
    memory: { third: 0, end: 0, slopePerMinute: 0 },
  };

  const post = (path: string, body?: Json, signal?: AbortSignal) =>
    fetch(url + path, {
      method: "POST",
      ...(body && { headers: { "content-type": "application/json" }, body: JSON.stringify(body) }),
      signal,
    });
  const state = async (): Promise<Json> => {
    const info = (await (await fetch(`${url}/server_info`)).json()) as { internal_states: Json[] };
    return info.internal_states[0];
  };

  const cases: Case[] = [];
  for (let i = 0; i < count; i++) {
    const one = makeCase(i, random);
    await post("/flush_cache?timeout=60");
    const reply = await post("/generate", { text: one.text, sampling_params: one.sampling_params });
    if (!reply.ok) throw new Error(`A soak request is refused: ${await reply.text()}`);
    cases.push({ ...one, expected: ((await reply.json()) as { output_ids: number[] }).output_ids });
  }

  const check = (one: Case, ids: readonly number[], isWhole: boolean) => {
    const { expected } = one;
    const isRight = ids.every((id, i) => id === expected[i]) && (isWhole ? ids.length === expected.length : true);
    if (isRight) return;
    report.wrong++;
    if (report.wrongAnswers.length < 5)
      report.wrongAnswers.push(
        `${JSON.stringify(one.text.slice(-40))}: expected ${expected.join()}, got ${ids.join()}`,
      );
  };

  const started = performance.now();
  const isOver = () => performance.now() - started > seconds * 1000;

  async function request(rid: string): Promise<void> {
    const one = cases[pick(cases.length)];
    const how = random();
    const body: Json = {
      text: one.text,
      sampling_params: one.sampling_params,
      rid,
      priority: pick(40),
      stream: how < 0.7,
    };
    if (how > 0.9) body.timeout_s = 0.05 + random();
    const leave = new AbortController();
    // A few steps, or many.
    const delay = 10 + 1500 * random() ** 3;
    if (how < 0.15) void sleep(delay).then(() => leave.abort());
    if (how >= 0.15 && how < 0.3) void sleep(delay).then(() => post("/abort_request", { rid }).catch(() => {}));
    report.requests++;
    let ids: number[] = [];
    try {
      const reply = await post("/generate", body, leave.signal);
      if (!reply.ok) {
        await reply.text();
        if (reply.status === 504) report.ended.late++;
        else if (reply.status === 503) report.ended.refused++;
        else throw new Error(`status ${reply.status}`);
        return;
      }
      let last: { output_ids: number[]; meta_info: { finish_reason: { type: string } | null } };
      if (body.stream) {
        for await (const event of events(reply)) {
          last = event as typeof last;
          ids = last.output_ids;
        }
      } else {
        last = (await reply.json()) as typeof last;
        ids = last.output_ids;
      }
      const isAborted = last!.meta_info.finish_reason?.type === "abort";
      check(one, ids, !isAborted);
      if (!isAborted) report.ended.complete++;
      else if (how > 0.9) report.ended.late++;
      else report.ended.aborted++;
    } catch (error) {
      if (!leave.signal.aborted) throw error;
      report.ended.left++;
      check(one, ids, false);
    }
  }

  async function client(name: number): Promise<void> {
    for (let i = 0; !isOver(); i++) {
      await request(`${name}-${i}-`);
      await sleep(-Math.log(1 - random()) * 100);
    }
  }

  async function pauses(): Promise<void> {
    while (!isOver()) {
      await sleep(2000 + 6000 * random());
      await post("/pause_generation", { mode: random() < 0.5 ? "retract" : "in_place" });
      await sleep(50);
      await post("/continue_generation");
      report.pauses++;
    }
  }

  const memory: { at: number; mb: number }[] = [];
  async function watch(): Promise<void> {
    while (!isOver()) {
      await sleep(1000);
      memory.push({ at: (performance.now() - started) / 60_000, mb: residentMb(await state()) });
      report.seconds = (performance.now() - started) / 1000;
      onSecond?.(report);
    }
  }

  await Promise.all([watch(), pauses(), ...Array.from({ length: clients }, (_, i) => client(i))]);
  if (!(await post("/flush_cache?timeout=60")).ok) throw new Error("The server does not become idle.");
  const end = await state();
  const pages = end.pages as Record<string, number>;
  report.seconds = (performance.now() - started) / 1000;
  report.leakedPages = pages.total - pages.free;
  report.counters = end.counters as Record<string, number>;
  const late = memory.slice(Math.floor(memory.length / 3));
  report.memory = { third: late[0]?.mb ?? 0, end: late.at(-1)?.mb ?? 0, slopePerMinute: slope(late) };
  return report;
}

/** Prompts that share beginnings, of many lengths; greedy and seeded. */
function makeCase(index: number, random: () => number): Omit<Case, "expected"> {
  const words = (n: number) => Array.from({ length: n }, () => WORDS[Math.floor(random() * WORDS.length)]).join(" ");
  const beginning = WORDS.map((_, i) => WORDS[(i * 3 + (index % 3)) % WORDS.length]).join(" ");
  const shared = index % 4 === 0 ? "" : `${beginning} ${beginning}`.slice(0, 60 + 40 * (index % 5));
  return {
    text: `${shared} ${words(3 + Math.floor(random() * 30))}`,
    sampling_params: {
      max_new_tokens: 4 + Math.floor(random() * 60),
      ignore_eos: true,
      ...(index % 2 === 0 ? { temperature: 0 } : { temperature: 0.9, sampling_seed: index }),
    },
  };
}

async function* events(reply: Response): AsyncGenerator<unknown> {
  let text = "";
  const decoder = new TextDecoder();
  for await (const bytes of reply.body as unknown as AsyncIterable<Uint8Array>) {
    text += decoder.decode(bytes, { stream: true });
    const parts = text.split("\n\n");
    text = parts.pop() as string;
    for (const part of parts) {
      const data = part.slice("data: ".length);
      if (data === "[DONE]") continue;
      const event = JSON.parse(data) as { error?: { message: string } };
      if (event.error) throw new Error(event.error.message);
      yield event;
    }
  }
}

function residentMb(state: Json): number {
  return ((state.memory_usage as Record<string, number>).rss * 2 ** 30) / 1e6;
}

/** Slope of a least-squares line. */
function slope(points: readonly { at: number; mb: number }[]): number {
  const mean = (of: (point: { at: number; mb: number }) => number) =>
    points.reduce((sum, point) => sum + of(point), 0) / points.length;
  const [at, mb] = [mean((p) => p.at), mean((p) => p.mb)];
  const spread = points.reduce((sum, p) => sum + (p.at - at) ** 2, 0);
  return spread > 0 ? points.reduce((sum, p) => sum + (p.at - at) * (p.mb - mb), 0) / spread : 0;
}
