import { afterEach, describe, expect, it } from "vitest";
import { createEncoderPool, type EncoderPool, LONG_TEXT_CHARS, loadTokenizer } from "../../src/tokenizer/index.js";
import { byteLevelGguf, byteLevelJson, huggingFace, SAMPLE, START, sentencePieceGguf, TRICKY } from "./fixtures.js";

const LONG = `${SAMPLE} ${TRICKY.join(" ")} `.repeat(Math.ceil((4 * LONG_TEXT_CHARS) / SAMPLE.length));
let pool: EncoderPool | undefined;
afterEach(() => pool?.close());

describe("the encoder thread", () => {
  it.each([
    ["tokenizer.json", huggingFace(byteLevelJson())],
    ["GGUF, byte-level", byteLevelGguf({ bos_token_id: START, add_bos_token: true })],
    ["GGUF, SentencePiece with tied scores", sentencePieceGguf()],
  ])("answers with the ids of encode, from %s", async (_, source) => {
    const tokenizer = loadTokenizer(source);
    pool = createEncoderPool(source);
    const [long, bare, short, empty] = await Promise.all([
      pool.encodeLong(LONG),
      pool.encodeLong(LONG, false),
      pool.encodeLong("a"),
      pool.encodeLong(""),
    ]);
    expect(long).toEqual(tokenizer.encode(LONG));
    expect(bare).toEqual(tokenizer.encode(LONG, false));
    expect(short).toEqual(tokenizer.encode("a"));
    expect(empty).toEqual(tokenizer.encode(""));
  });

  it("leaves the event loop to others while it works", async () => {
    pool = createEncoderPool(byteLevelGguf());
    await pool.encodeLong("warm");
    let done = false;
    const job = pool.encodeLong(LONG).then(() => {
      done = true;
    });
    let turns = 0;
    while (!done) {
      await new Promise((resolve) => setImmediate(resolve));
      turns++;
    }
    await job;
    // The event loop went round while the text was being encoded: the main thread did not do it.
    expect(turns).toBeGreaterThan(1);
  });

  it("answers a text it can't encode with an error, and goes on", async () => {
    pool = createEncoderPool(huggingFace(byteLevelJson({ post_processor: { type: "Weird" } })));
    await expect(pool.encodeLong("a")).rejects.toMatchObject({
      code: "ENGINE_FAILED",
      message: expect.stringMatching(/Weird/),
    });
    await expect(pool.encodeLong("b")).rejects.toMatchObject({ code: "ENGINE_FAILED" });
  });

  it("refuses texts after close, and those that wait when it closes", async () => {
    pool = createEncoderPool(byteLevelGguf());
    const waiting = pool.encodeLong(LONG);
    const refusal = expect(waiting).rejects.toMatchObject({ code: "SHUTTING_DOWN" });
    await pool.close();
    await pool.close();
    await refusal;
    await expect(pool.encodeLong("a")).rejects.toMatchObject({ code: "SHUTTING_DOWN" });
  });
});
