/**
 * Tokenizers and chat templates, without native code.
 *
 *     const tokenizer = loadTokenizer(checkpoint.tokenizer);
 *     const ids = tokenizer.encode(tokenizer.chatTemplate.render([{ role: "user", content: "Hello" }]), false);
 *     const text = createDetokenizer(tokenizer, {}, ids);
 *     for await (const id of answer) process.stdout.write(text.push([id]));
 */
export { createChatTemplate } from "./chat-template.js";
export { createDetokenizer } from "./detokenizer.js";
export { type EncoderPool, LONG_TEXT_CHARS } from "./encoder-pool.js";
export { createEncoderPool, loadTokenizer } from "./load.js";
export type { ChatTemplate, DecodeOptions, Detokenizer, Tokenizer } from "./tokenizer.js";
