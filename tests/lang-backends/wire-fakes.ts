/** What the real servers send for an answer, in each protocol: whole replies and event streams. */
import type { Script, ScriptedAnswer } from "../contracts/backend.js";
import type { Received, Reply } from "./loopback.js";

const data = (value: unknown) => `data: ${JSON.stringify(value)}\n\n`;
const DONE = "data: [DONE]\n\n";

/** One token per piece; its logprob tells which. */
const logprobOf = (i: number) => -(i + 1) / 8;
const idOf = (piece: string) => [...piece].reduce((sum, c) => (sum * 31 + (c.codePointAt(0) as number)) % 50_000, 7);
const textOf = ({ pieces }: ScriptedAnswer) => pieces.join("");

const FINISH = { stop: "stop", length: "length", toolCalls: "tool_calls", contentFilter: "content_filter" } as const;

/** Interleaves the answers' parts as a server that runs them together does. */
function interleave<T>(lists: readonly (readonly T[])[]): T[] {
  const longest = Math.max(...lists.map((list) => list.length));
  return Array.from({ length: longest }, (_, i) => lists.flatMap((list) => (i < list.length ? [list[i]] : []))).flat();
}

function openAiUsage({ usage }: Script) {
  const { promptTokens, completionTokens, cachedTokens } = usage;
  return {
    prompt_tokens: promptTokens,
    completion_tokens: completionTokens,
    total_tokens: promptTokens + completionTokens,
    prompt_tokens_details: { cached_tokens: cachedTokens },
  };
}

const chatToken = (token: string, i: number, top: number) => ({
  token,
  logprob: logprobOf(i),
  bytes: [...Buffer.from(token)],
  top_logprobs: Array.from({ length: top }, (_, k) => ({
    token: `${token}${k}`,
    logprob: logprobOf(i) - k,
    bytes: [],
  })),
});

/** /chat/completions. */
export function chatReply(script: Script, { body }: Received): Reply {
  const head = { id: "chatcmpl-1", created: 1_700_000_000, model: body.model, system_fingerprint: "fp_1" };
  const top = body.top_logprobs ?? 0;
  const logprobs = (tokens: string[], from: number) =>
    body.logprobs ? { content: tokens.map((token, i) => chatToken(token, from + i, top)), refusal: null } : null;
  if (!body.stream) {
    const choices = script.answers.map((answer, index) => ({
      index,
      message: {
        role: "assistant",
        content: answer.toolCalls && textOf(answer) === "" ? null : textOf(answer),
        refusal: null,
        ...(answer.reasoning && { reasoning_content: answer.reasoning }),
        ...(answer.toolCalls && {
          tool_calls: answer.toolCalls.map(({ id, name, arguments: args }) => ({
            id,
            type: "function",
            function: { name, arguments: args },
          })),
        }),
      },
      logprobs: logprobs(answer.pieces, 0),
      finish_reason: FINISH[answer.finish],
      ...(answer.matched !== undefined && { matched_stop: answer.matched }),
    }));
    return { json: { ...head, object: "chat.completion", choices, usage: openAiUsage(script) } };
  }
  const event = (choices: unknown[], usage: unknown = null) =>
    data({ ...head, object: "chat.completion.chunk", choices, usage });
  const lists = script.answers.map((answer, index) => {
    const choice = (delta: unknown, rest: object = {}) =>
      event([{ index, delta, logprobs: null, finish_reason: null, ...rest }]);
    const calls = (answer.toolCalls ?? []).flatMap(({ id, name, arguments: args }, i) => [
      choice({ tool_calls: [{ index: i, id, type: "function", function: { name, arguments: "" } }] }),
      ...(args.match(/.{1,4}/gs) ?? []).map((part) =>
        choice({ tool_calls: [{ index: i, function: { arguments: part } }] }),
      ),
    ]);
    return [
      choice({ role: "assistant", content: "" }),
      ...(answer.reasoning ? [choice({ reasoning_content: answer.reasoning })] : []),
      ...answer.pieces.map((piece, i) => choice({ content: piece }, { logprobs: logprobs([piece], i) })),
      ...calls,
      ...(script.hangs
        ? []
        : [
            choice(
              {},
              {
                finish_reason: FINISH[answer.finish],
                ...(answer.matched !== undefined && { matched_stop: answer.matched }),
              },
            ),
          ]),
    ];
  });
  const end = script.hangs ? [] : [...(body.stream_options ? [event([], openAiUsage(script))] : []), DONE];
  return { events: [...interleave(lists), ...end], hangs: script.hangs };
}

/** /completions. */
export function completionReply(script: Script, { body }: Received): Reply {
  const head = { id: "cmpl-1", object: "text_completion", created: 1_700_000_000, model: body.model };
  const logprobs = (tokens: string[], from: number) =>
    body.logprobs === undefined
      ? null
      : {
          text_offset: tokens.map((_, i) => i),
          token_logprobs: tokens.map((_, i) => logprobOf(from + i)),
          tokens,
          top_logprobs:
            body.logprobs > 0
              ? tokens.map((token, i) =>
                  Object.fromEntries(
                    Array.from({ length: body.logprobs }, (_, k) => [`${token}${k}`, logprobOf(from + i) - k]),
                  ),
                )
              : null,
        };
  if (!body.stream) {
    const choices = script.answers.map((answer, index) => ({
      index,
      text: textOf(answer),
      logprobs: logprobs(answer.pieces, 0),
      finish_reason: FINISH[answer.finish],
    }));
    return { json: { ...head, choices, usage: openAiUsage(script) } };
  }
  const lists = script.answers.map((answer, index) => [
    ...answer.pieces.map((text, i) =>
      data({ ...head, choices: [{ index, text, logprobs: logprobs([text], i), finish_reason: null }] }),
    ),
    ...(script.hangs
      ? []
      : [data({ ...head, choices: [{ index, text: "", logprobs: null, finish_reason: FINISH[answer.finish] }] })]),
  ]);
  const end = script.hangs ? [] : [data({ ...head, choices: [], usage: openAiUsage(script) }), DONE];
  return { events: [...interleave(lists), ...end], hangs: script.hangs };
}

/** SGLang's /generate. `incremental`: as under --incremental-streaming-output. */
export function nativeReply(script: Script, { body }: Received, incremental = false): Reply {
  const single = script.answers.length === 1;
  const { promptTokens, cachedTokens } = script.usage;
  const answerBody = (answer: ScriptedAnswer, from: number, count: number, finished: boolean) => {
    const shown = answer.pieces.slice(from, count);
    const item = (piece: string, i: number) => [logprobOf(from + i), idOf(piece), piece];
    return {
      text: shown.join(""),
      output_ids: shown.map(idOf),
      meta_info: {
        id: "0123456789abcdef",
        finish_reason: finished ? nativeFinish(answer) : null,
        prompt_tokens: promptTokens,
        weight_version: "default",
        num_retractions: 0,
        completion_tokens: count,
        cached_tokens: cachedTokens,
        ...(finished && { e2e_latency: 0.25 }),
        ...(body.return_logprob && {
          input_token_logprobs: [],
          output_token_logprobs: shown.map(item),
          output_token_logprobs_length: count,
          ...(body.top_logprobs_num > 0 && {
            output_top_logprobs: shown.map((piece, i) =>
              Array.from({ length: body.top_logprobs_num }, (_, k) => [logprobOf(from + i) - k, k, `${piece}${k}`]),
            ),
          }),
        }),
      },
    };
  };
  if (!body.stream) {
    const bodies = script.answers.map((answer) => answerBody(answer, 0, answer.pieces.length, true));
    return { json: single ? bodies[0] : bodies };
  }
  const lists = script.answers.map((answer, index) =>
    answer.pieces.map((_, i) =>
      data({
        ...answerBody(answer, incremental ? i : 0, i + 1, !script.hangs && i === answer.pieces.length - 1),
        ...(!single && { index }),
      }),
    ),
  );
  return { events: [...interleave(lists), ...(script.hangs ? [] : [DONE])], hangs: script.hangs };
}

function nativeFinish({ finish, matched, pieces }: ScriptedAnswer) {
  return finish === "length" ? { type: "length", length: pieces.length } : { type: "stop", matched: matched ?? 2 };
}

/** /v1/messages. */
export function anthropicReply(script: Script, { body }: Received): Reply {
  const [answer] = script.answers;
  const { promptTokens, completionTokens, cachedTokens } = script.usage;
  const input = {
    input_tokens: promptTokens - cachedTokens,
    cache_creation_input_tokens: 0,
    cache_read_input_tokens: cachedTokens,
  };
  const reasons = { stop: "end_turn", length: "max_tokens", toolCalls: "tool_use", contentFilter: "refusal" } as const;
  const stop = {
    stop_reason: answer.matched === undefined ? reasons[answer.finish] : "stop_sequence",
    stop_sequence: answer.matched ?? null,
  };
  const head = { id: "msg_1", type: "message", role: "assistant", model: body.model };
  if (!body.stream) {
    const content = [
      ...(answer.reasoning ? [{ type: "thinking", thinking: answer.reasoning, signature: "c2ln" }] : []),
      ...(textOf(answer) ? [{ type: "text", text: textOf(answer) }] : []),
      ...(answer.toolCalls ?? []).map(({ id, name, arguments: args }) => ({
        type: "tool_use",
        id,
        name,
        input: JSON.parse(args),
      })),
    ];
    return { json: { ...head, content, ...stop, usage: { ...input, output_tokens: completionTokens } } };
  }
  const event = (type: string, rest: object = {}) => `event: ${type}\n${data({ type, ...rest })}`;
  let index = -1;
  const block = (content_block: object, deltas: object[]) => {
    index += 1;
    return [
      event("content_block_start", { index, content_block }),
      ...deltas.map((delta) => event("content_block_delta", { index, delta })),
      ...(script.hangs ? [] : [event("content_block_stop", { index })]),
    ];
  };
  const events = [
    event("message_start", {
      message: { ...head, content: [], stop_reason: null, stop_sequence: null, usage: { ...input, output_tokens: 1 } },
    }),
    event("ping"),
    ...(answer.reasoning
      ? block({ type: "thinking", thinking: "", signature: "" }, [
          { type: "thinking_delta", thinking: answer.reasoning },
          { type: "signature_delta", signature: "c2ln" },
        ])
      : []),
    ...(answer.pieces.length > 0
      ? block(
          { type: "text", text: "" },
          answer.pieces.map((text) => ({ type: "text_delta", text })),
        )
      : []),
    ...(answer.toolCalls ?? []).flatMap(({ id, name, arguments: args }) =>
      block(
        { type: "tool_use", id, name, input: {} },
        ["", ...(args.match(/.{1,4}/gs) ?? [])].map((partial_json) => ({ type: "input_json_delta", partial_json })),
      ),
    ),
  ];
  if (!script.hangs) {
    events.push(event("message_delta", { delta: stop, usage: { output_tokens: completionTokens } }));
    events.push(event("message_stop"));
  }
  return { events, hangs: script.hangs };
}
