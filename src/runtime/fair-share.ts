/**
 * Deficit round robin over tenants (Shreedhar and Varghese, 1995): however many requests one tenant sends, every tenant
 * that waits gets the same number of tokens per round.
 *
 * A round gives each waiting tenant `quantum` tokens, and a request goes in the round in which they have paid for its
 * prompt and for what the tenant was served before. Rounds are counted, not played: the tokens a tenant was served say
 * in which round its next request is due. Output is paid for when a request ends, since nobody knows its length before.
 * A tenant that comes anew starts with as much as the one that was served least, so nobody saves up by staying away. What
 * was served while nobody waited cost nobody anything and is forgotten.
 */
import type { Req } from "./request.js";

export class FairShare {
  readonly #quantum: number;
  /** Tokens served by tenant, on top of what it started with. */
  readonly #served = new Map<string, number>();
  /** What a tenant starts with: the least that a waiting one has been served. Never falls while anybody waits. */
  #least = 0;

  /** @param quantum tokens a tenant gets per round; smaller takes turns more often */
  constructor(quantum: number) {
    this.#quantum = quantum;
  }

  /** Tenants with an account. */
  get tenants(): number {
    return this.#served.size;
  }

  /** The requests by the round they are due in. Within a tenant and a round the order given stays. */
  order(waiting: readonly Req[]): Req[] {
    this.#update(waiting);
    const paid = new Map(this.#served);
    const due = waiting.map((req) => {
      const tokens = (paid.get(req.tenant) as number) + this.#cost(req);
      paid.set(req.tenant, tokens);
      return { req, round: Math.ceil(tokens / this.#quantum) };
    });
    return due.sort((a, b) => a.round - b.round).map(({ req }) => req);
  }

  /** A request is admitted: its tenant pays for the prompt. A retracted one has paid before. */
  admit(req: Req): void {
    this.#charge(req.tenant, this.#cost(req));
    req.isCharged = true;
  }

  /** A request has ended: its tenant pays for the output. */
  end(req: Req): void {
    if (req.isCharged) this.#charge(req.tenant, req.outputLength);
  }

  /** Opens accounts for tenants that come, closes those of tenants that go and owe nothing. */
  #update(waiting: readonly Req[]): void {
    const tenants = new Set(waiting.map(({ tenant }) => tenant));
    if (tenants.size === 0) this.#served.clear();
    let least = Number.POSITIVE_INFINITY;
    for (const tenant of tenants) {
      const served = this.#served.get(tenant) ?? this.#least;
      this.#served.set(tenant, served);
      least = Math.min(least, served);
    }
    if (tenants.size > 0) this.#least = least;
    for (const [tenant, served] of this.#served)
      if (!tenants.has(tenant) && served <= this.#least) this.#served.delete(tenant);
  }

  #charge(tenant: string, tokens: number): void {
    const served = this.#served.get(tenant);
    if (served !== undefined) this.#served.set(tenant, served + tokens);
  }

  #cost(req: Req): number {
    return req.isCharged ? 0 : req.promptLength;
  }
}
