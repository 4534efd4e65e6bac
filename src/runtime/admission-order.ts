/**
 * In which order waiting requests may be admitted: the policy's, then turns of tenants, then classes of priority. Each
 * keeps the order before it where it has no preference.
 */
import type { FairShare } from "./fair-share.js";
import { orderWaiting, type Random, type SchedulePolicy } from "./policy.js";
import type { RadixCache } from "./radix-cache.js";
import type { Req } from "./request.js";

export interface AdmissionOrderOptions {
  policy: SchedulePolicy;
  random: Random;
  /** Requests of a higher priority go before all others. */
  byPriority: boolean;
  /** null = tenants do not matter. */
  fairShare: FairShare | null;
}

/** @param waiting in order of arrival, retracted requests in front */
export function admissionOrder(
  waiting: readonly Req[],
  radix: RadixCache | null,
  { policy, random, byPriority, fairShare }: AdmissionOrderOptions,
): readonly Req[] {
  let order = orderWaiting(policy, waiting, radix, random);
  if (fairShare) order = fairShare.order(order);
  // Infinities cannot be subtracted: requests without a priority have the lowest.
  if (byPriority) order = [...order].sort((a, b) => (a.priority === b.priority ? 0 : b.priority > a.priority ? 1 : -1));
  return order;
}
