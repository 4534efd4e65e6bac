/** What a program or a fork returned, with the variables in it replaced by their values. */

type IsAny<T> = 0 extends 1 & T ? true : false;
type ResolvedProperties<T> = { [K in keyof T]: T[K] extends PromiseLike<infer V> ? V : T[K] };
type HasPending<T> = true extends { [K in keyof T]: T[K] extends PromiseLike<unknown> ? true : false }[keyof T]
  ? true
  : false;

/** Type of a returned value once the variables in it (one level deep) have theirs. */
export type Resolved<T> =
  IsAny<T> extends true
    ? T
    : T extends PromiseLike<infer V>
      ? Resolved<V>
      : T extends readonly unknown[]
        ? ResolvedProperties<T>
        : T extends object
          ? HasPending<T> extends true
            ? ResolvedProperties<T>
            : T
          : T;

function isThenable(value: unknown): value is PromiseLike<unknown> {
  return typeof value === "object" && value !== null && typeof (value as { then?: unknown }).then === "function";
}

/** Waits for a value, and for what is awaitable in its list or plain object. @throws the first failure, in order */
export async function resolveReturned(returned: unknown): Promise<unknown> {
  const value = await returned;
  if (Array.isArray(value)) return value.some(isThenable) ? settleAll(value) : value;
  if (typeof value !== "object" || value === null) return value;
  const prototype = Object.getPrototypeOf(value);
  if (prototype !== Object.prototype && prototype !== null) return value;
  const entries = Object.entries(value);
  if (!entries.some(([, property]) => isThenable(property))) return value;
  const values = await settleAll(entries.map(([, property]) => property));
  return Object.fromEntries(entries.map(([key], index) => [key, values[index]]));
}

/** Like Promise.all, but the failure is the first in order, whichever came first in time. */
async function settleAll(values: readonly unknown[]): Promise<unknown[]> {
  const settled = await Promise.allSettled(values);
  return settled.map((outcome) => {
    if (outcome.status === "rejected") throw outcome.reason;
    return outcome.value;
  });
}
