/** Adding up usage. */
import type { BackendUsage } from "./backend.js";

/** Usage over the answers of one request: the prompt counts once, as its first answer found it. */
export class UsageSum {
  readonly #byIndex = new Map<number, BackendUsage>();

  /** The answer's usage so far. */
  set(index: number, usage: BackendUsage): void {
    this.#byIndex.set(index, usage);
  }

  total(): BackendUsage {
    const first = this.#byIndex.get(0) ?? [...this.#byIndex.values()][0];
    let completionTokens = 0;
    let reasoningTokens: number | undefined;
    for (const usage of this.#byIndex.values()) {
      completionTokens += usage.completionTokens;
      if (usage.reasoningTokens !== undefined) reasoningTokens = (reasoningTokens ?? 0) + usage.reasoningTokens;
    }
    return {
      promptTokens: first?.promptTokens ?? 0,
      completionTokens,
      cachedTokens: first?.cachedTokens ?? 0,
      ...(reasoningTokens !== undefined && { reasoningTokens }),
    };
  }
}

export const addUsage = (a: BackendUsage, b: BackendUsage): BackendUsage => ({
  promptTokens: a.promptTokens + b.promptTokens,
  completionTokens: a.completionTokens + b.completionTokens,
  cachedTokens: a.cachedTokens + b.cachedTokens,
});
