/** A Req outside of any engine, for tests of what orders and counts requests. */
import { DEFAULT_SAMPLING_PARAMS } from "../../src/core/sampling-params.js";
import { ProbeOutput } from "../../src/runtime/output.js";
import { Req, type ReqInit } from "../../src/runtime/request.js";

/** @param options.promptTokens makes up a prompt of that many equal tokens, unless `promptIds` are given */
export function makeReq(options: Partial<ReqInit> & { promptTokens?: number } = {}): Req {
  const { promptTokens = 1, ...init } = options;
  return new Req({
    rid: "r",
    group: {},
    promptIds: Array.from({ length: promptTokens }, () => 0),
    params: { ...DEFAULT_SAMPLING_PARAMS },
    maxNewTokens: 1,
    seed: 0n,
    stopIds: new Set(),
    output: new ProbeOutput(),
    ...init,
  });
}
