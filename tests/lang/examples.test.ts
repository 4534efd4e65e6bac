/** Every example runs, on a backend that plays the model. */
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { main as quickStart } from "../../examples/01-quick-start.js";
import { main as fewShot } from "../../examples/02-few-shot.js";
import { main as multiTurn } from "../../examples/03-multi-turn.js";
import { main as selectMethods } from "../../examples/04-select.js";
import { main as person } from "../../examples/05-person-schema.js";
import { main as address } from "../../examples/06-regex-ip-address.js";
import { main as expansion } from "../../examples/07-parallel-expansion.js";
import { main as treeOfThought } from "../../examples/08-tree-of-thought.js";
import { main as skeleton } from "../../examples/09-skeleton-of-thought.js";
import { main as judge } from "../../examples/10-judge.js";
import { main as react } from "../../examples/11-react-sqlite.js";
import { main as rag } from "../../examples/12-rag.js";
import { main as page } from "../../examples/13-stream-to-page.js";
import { main as picture } from "../../examples/14-image-question.js";
import { main as batch } from "../../examples/15-batch-jsonl.js";
import { FakeBackend, promptOf } from "../../src/lang/backends/fake.js";

const examples = new URL("../../examples/", import.meta.url);
/** Likelier the more often the prompt has the choice's first word. */
const byMention = (choice: string, prompt: string | null) => [
  -1 / (1 + (prompt?.split(choice.split(" ")[0]).length ?? 1)),
];

describe("examples", () => {
  it("are under 40 lines each, and every one is tested here", async () => {
    const names = (await readdir(examples)).filter((name) => /^\d\d-.*\.ts$/.test(name));
    const tested = await readFile(new URL(import.meta.url), "utf8");
    expect(names.length).toBeGreaterThanOrEqual(12);
    for (const name of names) {
      const text = await readFile(new URL(name, examples), "utf8");
      expect(text.trimEnd().split("\n").length, name).toBeLessThan(40);
      expect(tested).toContain(name.replace(/\.ts$/, ".js"));
    }
  });

  it("01 quick start", async () => {
    const result = await quickStart(
      new FakeBackend({ answers: ["Lisbon\nMore"], scores: (choice) => [choice === "yes" ? -0.1 : -2] }),
    );
    expect(result).toMatchObject({ city: "Lisbon", sea: "yes" });
    expect(result.tokens).toBeGreaterThan(10);
  });

  it("02 few-shot", async () => {
    const capitals: Record<string, string> = { Spain: "Madrid", Japan: "Tokyo", Peru: "Lima" };
    const backend = new FakeBackend({
      answers: (request) => ` ${capitals[/of (\w+)\?\nA:$/.exec(promptOf(request))?.[1] ?? ""]}\nQ:`,
    });
    expect(await fewShot(backend)).toEqual(["Madrid", "Tokyo", "Lima"]);
    expect(backend.hints).toHaveLength(1);
  });

  it("03 multi-turn", async () => {
    expect((await multiTurn(new FakeBackend({ answers: ["Walk. Eat.", "Walking."] }))).at(-1)).toBe(
      "assistant: Walking.",
    );
  });

  it("04 select", async () => {
    const without: Record<string, number> = {
      "the heart": -1,
      "the cerebellum": -9,
      "the left ventricle of the heart": -5,
    };
    const after: Record<string, number[]> = {
      "the heart": [-0.4, -0.4],
      "the cerebellum": [-0.4, -3],
      "the left ventricle of the heart": [-0.5, -0.1],
    };
    const scores = (choice: string, prompt: string | null) =>
      prompt === null ? after[choice].map(() => without[choice]) : after[choice];
    const results = await selectMethods(new FakeBackend({ scores }));
    expect(results.map(({ choice }) => choice)).toEqual([
      "the left ventricle of the heart",
      "the heart",
      "the cerebellum",
    ]);
  });

  it("05 person schema", async () => {
    const backend = new FakeBackend({
      answers: ['{"name":"Ada","born":1815,"professions":["mathematician","writer"]}'],
    });
    expect(await person(backend)).toBe("ADA was 28 when she published, as mathematician and writer");
  });

  it("06 regex IP address", async () => {
    expect(await address(new FakeBackend({ answers: ["8.8.4.4"] }))).toBe("8.8.4.4");
    await expect(address(new FakeBackend({ answers: ["8.8.4.400"] }))).rejects.toThrow("not a text that matches");
  });

  it("07 parallel expansion", async () => {
    const backend = new FakeBackend({
      answers: (request) => /about (diet|exercise) into/.exec(promptOf(request))?.[1] ?? "Live well.",
    });
    const result = await expansion(backend);
    expect(result.details[0]).toBe("diet");
    expect(promptOf(backend.requests[2])).toContain("Sum up in one sentence:\ndiet\nexercise");
  });

  it("08 tree of thought", async () => {
    const backend = new FakeBackend({
      answers: (request) =>
        `${promptOf(request).includes("Carry out") ? "answer" : "plan"} ${/plan (\d)/.exec(promptOf(request))?.[1]}`,
      scores: (grade, prompt) => [-Math.abs(Number(grade) - Number(/Propose plan (\d)/.exec(prompt ?? "")?.[1]))],
    });
    expect(await treeOfThought(backend)).toEqual({ answer: "answer 3", grade: 3 });
  });

  it("09 skeleton of thought", async () => {
    const backend = new FakeBackend({
      answers: (request) => /nothing else: (.*)\n/.exec(promptOf(request))?.[1]?.toLowerCase() ?? "Scan\nParse\n\nEmit",
    });
    expect(await skeleton(backend)).toBe("Scan\nscan\n\nParse\nparse\n\nEmit\nemit");
  });

  it("10 judge", async () => {
    const backend = new FakeBackend({
      answers: (request) => /Judge its (\w+)/.exec(promptOf(request))?.[1] ?? "?",
      scores: (grade) => [grade === "B" ? -0.1 : -2],
    });
    const { grade } = await judge(backend);
    expect(grade).toBe("B");
    expect(promptOf(backend.requests[3])).toContain("originality: originality");
  });

  it("11 ReAct", async () => {
    const queries: string[] = [];
    const backend = new FakeBackend({
      answers: [
        { toolCalls: [{ name: "sql", arguments: { query: "select bad" } }] },
        { toolCalls: [{ name: "sql", arguments: { query: "select name from city" } }] },
        "Lisbon.",
      ],
    });
    const result = await react(backend, (sql) => {
      queries.push(sql);
      return [{ name: "Lisbon" }];
    });
    expect(result).toEqual({ answer: "Lisbon.", rounds: 2 });
    expect(queries).toHaveLength(2);
  });

  it("12 RAG", async () => {
    const embed = async (text: string) =>
      Float32Array.from(["native", "import", "room"], (word) => (text.includes(word) ? 1 : 0));
    const { found, answer } = await rag(new FakeBackend({ answers: ["Rooms above it."] }), embed);
    expect(found).toHaveLength(3);
    expect(found[0]).toContain("native");
    expect(answer).toBe("Rooms above it.");
  });

  it("13 streaming to a page", async () => {
    const server = await page(new FakeBackend({ answers: ["Once upon a time."] }), 0);
    const { port } = server.address() as AddressInfo;
    expect(await (await fetch(`http://127.0.0.1:${port}/`)).text()).toContain("EventSource");
    const events = await (await fetch(`http://127.0.0.1:${port}/events`)).text();
    server.close();
    const text = events
      .split("\n\n")
      .flatMap((event) => (event === "" ? [] : [JSON.parse(event.slice("data: ".length))]));
    expect(text.join("")).toBe("Tell a story of five sentences.Once upon a time.");
  });

  it("14 image question", async () => {
    const backend = new FakeBackend({ answers: ["A cat."], scores: byMention });
    expect((await picture(backend, Uint8Array.from([0xff, 0xd8]))).answer).toBe("A cat.");
    await expect(picture(new FakeBackend({ capabilities: { images: false } }), "https://a.b/c.png")).rejects.toThrow(
      "lacks images",
    );
  });

  it("15 batch over JSONL, twice", async () => {
    const folder = await mkdtemp(join(tmpdir(), "lang-example-"));
    const path = join(folder, "reviews.jsonl");
    await writeFile(path, ["Great!", "Awful.", "Great again!"].map((text) => JSON.stringify({ text })).join("\n"));
    const scores = (choice: string, prompt: string | null) => [
      (choice === "positive") === (prompt ?? "").includes("Great") ? -0.1 : -3,
    ];
    const first = new FakeBackend({ scores });
    expect(await batch(first, path)).toEqual({ positive: 2, negative: 1 });
    const second = new FakeBackend({ scores });
    expect(await batch(second, path)).toEqual({ positive: 2, negative: 1 });
    expect([first.scored.length, second.scored.length]).toEqual([3, 0]);
    await rm(folder, { recursive: true });
  });
});
