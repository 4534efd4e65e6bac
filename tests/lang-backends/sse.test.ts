import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { readSse, type SseEvent, SseParser } from "../../src/lang/backends/sse.js";
import { pieces } from "./loopback.js";

async function read(chunks: readonly Uint8Array[]): Promise<SseEvent[]> {
  const events: SseEvent[] = [];
  const stream = new ReadableStream<Uint8Array>({
    start(controller) {
      for (const chunk of chunks) controller.enqueue(chunk);
      controller.close();
    },
  });
  for await (const event of readSse(stream)) events.push(event);
  return events;
}

const bytes = (text: string) => new TextEncoder().encode(text);

describe("server-sent events", () => {
  it.each<[string, string, SseEvent[]]>([
    ["one line of data", "data: a\n\n", [{ event: "message", data: "a" }]],
    ["no space after the colon", "data:a\n\n", [{ event: "message", data: "a" }]],
    ["only the first space", "data:  a \n\n", [{ event: "message", data: " a " }]],
    ["several data lines", "data: a\ndata\ndata: b\n\n", [{ event: "message", data: "a\n\nb" }]],
    ["a named event", "event: ping\ndata: {}\n\n", [{ event: "ping", data: "{}" }]],
    [
      "names that do not stick",
      "event: x\ndata: 1\n\ndata: 2\n\n",
      [
        { event: "x", data: "1" },
        { event: "message", data: "2" },
      ],
    ],
    [
      "comments, ids and unknown fields",
      ": hi\nid: 4\nretry: 5\nfoo: bar\ndata: a\n\n",
      [{ event: "message", data: "a" }],
    ],
    [
      "CR LF and CR",
      "data: a\r\n\r\ndata: b\r\rdata: c\n\n",
      ["a", "b", "c"].map((data) => ({ event: "message", data })),
    ],
    ["events without data", "event: x\n\n\n\ndata: a\n\n", [{ event: "message", data: "a" }]],
    ["a byte order mark", "\uFEFFdata: a\n\n", [{ event: "message", data: "a" }]],
    ["an event without its end", "data: a\n\ndata: b\n", [{ event: "message", data: "a" }]],
  ])("reads %s", async (_, text, events) => {
    expect(await read([bytes(text)])).toEqual(events);
    expect(await read(pieces(bytes(text), [1]))).toEqual(events);
  });

  it("reads the same events wherever the bytes are cut", async () => {
    const line = fc.stringMatching(/^[^\r\n]{0,12}$/u);
    const event = fc.record({
      name: fc.option(fc.stringMatching(/^[a-z_]{1,8}$/), { nil: undefined }),
      data: fc.array(line, { minLength: 1, maxLength: 3 }),
      end: fc.constantFrom("\n", "\r\n", "\r"),
      comment: fc.boolean(),
    });
    const lengths = fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 1, maxLength: 12 });
    await fc.assert(
      fc.asyncProperty(fc.array(event, { maxLength: 6 }), lengths, async (events, cut) => {
        const text = events
          .map(({ name, data, end, comment }) =>
            [
              ...(comment ? [": keep-alive"] : []),
              ...(name ? [`event: ${name}`] : []),
              ...data.map((one) => `data: ${one}`),
              "",
              "",
            ].join(end),
          )
          .join("");
        const expected = events.map(({ name = "message", data }) => ({ event: name, data: data.join("\n") }));
        expect(await read(pieces(bytes(text), cut))).toEqual(expected);
      }),
    );
  });

  it("takes an LF as part of the CR before it, also across pieces", () => {
    const parser = new SseParser();
    expect([...parser.push("data: a\r"), ...parser.push(""), ...parser.push("\n\r"), ...parser.push("\n")]).toEqual([
      { event: "message", data: "a" },
    ]);
    expect(parser.push("data: b\n\n")).toEqual([{ event: "message", data: "b" }]);
  });

  it("cancels the stream when the reader leaves", async () => {
    let cancelled = false;
    const stream = new ReadableStream<Uint8Array>({
      pull: (controller) => controller.enqueue(bytes("data: a\n\n")),
      cancel: () => {
        cancelled = true;
      },
    });
    for await (const { data } of readSse(stream)) {
      expect(data).toBe("a");
      break;
    }
    expect(cancelled).toBe(true);
  });
});
