// What the tests of the native room use of vitest, on Node's own test runner: vitest itself needs native packages of this
// machine's architecture, test-arm64.mjs runs the tests on another.
import { after, afterEach, before, beforeEach, test as single, describe as suite } from "node:test";
import { format } from "node:util";
import { chai, JestAsymmetricMatchers, JestChaiExpect, JestExtend, setState } from "@vitest/expect";

for (const plugin of [JestExtend, JestChaiExpect, JestAsymmetricMatchers]) chai.use(plugin);

export const expect = Object.assign((value, message) => chai.expect(value, message), chai.expect);
setState({ assertionCalls: 0, isExpectingAssertions: false, testPath: "", currentTestName: "" }, expect);
Object.defineProperty(globalThis, Symbol.for("expect-global"), { value: expect, writable: true, configurable: true });

/** `name` may hold %s and the like, as in vitest. Timeouts are not kept: an emulator is slow. */
function each(define) {
  return (cases) => (name, body) => {
    for (const one of cases) {
      const values = Array.isArray(one) ? one : [one];
      define(format(name, ...values), () => body(...values));
    }
  };
}

export const describe = Object.assign((name, body) => suite(name, body), {
  each: each((name, body) => suite(name, body)),
});
export const test = Object.assign((name, body) => single(name, () => body()), {
  each: each((name, body) => single(name, () => body())),
});
export const it = test;
export { after as afterAll, afterEach, before as beforeAll, beforeEach };
