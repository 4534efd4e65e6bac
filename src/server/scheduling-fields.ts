/** Request fields that steer the scheduler, the same on every generating route. */
import type { z } from "zod";
import type { GenerateRequest } from "../core/protocol.js";
import { integer, number } from "./fields.js";
import { invalid } from "./validation.js";

/** Longest timeout, in seconds: a timer's limit. */
const MAX_TIMEOUT = (2 ** 31 - 1) / 1000;

export const schedulingShape = {
  priority: integer().nullish(),
  /** Seconds after which the request is aborted. */
  timeout_s: number("a number of seconds above 0").nullish(),
};

/** @throws SglangError INVALID_REQUEST; whether priorities are on is for the engine to say */
export function schedulingFields(
  given: z.output<z.ZodObject<typeof schedulingShape>>,
): Pick<GenerateRequest, "priority" | "timeoutSeconds"> {
  const { priority, timeout_s: seconds } = given;
  if (typeof seconds === "number" && !(seconds > 0 && seconds <= MAX_TIMEOUT))
    throw invalid(
      "timeout_s",
      `timeout_s must be a number of seconds above 0, at most ${MAX_TIMEOUT}, got ${seconds}.`,
    );
  return { priority: priority ?? undefined, timeoutSeconds: seconds ?? undefined };
}
