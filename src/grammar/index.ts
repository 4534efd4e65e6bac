/**
 * Structured output: grammars to token masks, without native code.
 *
 *   const compiler = new GrammarCompiler(new Vocabulary(tokenizer));
 *   const matcher = compiler.compile({ kind: "json_schema", schema }).matcher();
 *   matcher.fillBitmask(words);      // which tokens may come next
 *   matcher.acceptToken(id);
 */
export {
  CompiledGrammar,
  type CompileLimits,
  GrammarCompiler,
  type GrammarSpec,
} from "./compiler.js";
export * from "./ir.js";
export { type JsonSchemaGrammar, type JsonSchemaOptions, jsonSchemaGrammar } from "./json-schema.js";
export { type JsonObject, type JsonValue, parseJsonText } from "./json-text.js";
export { certainTokens, forcedTokens, onlyToken, type TextEncoding } from "./jump-forward.js";
export { Matcher, type MatcherOptions } from "./matcher.js";
export { regexToExpression } from "./regex.js";
export { type TokenSource, Vocabulary, type VocabularyData } from "./vocabulary.js";
export type { WhitespaceMode } from "./whitespace.js";
