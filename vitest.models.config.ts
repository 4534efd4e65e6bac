import { defineConfig } from "vitest/config";

/** Tests on real weights: golden files and whole-system runs. `npm run test:models` fetches the weights first. */
export default defineConfig({
  test: {
    include: ["tests/golden/**/*.test.ts", "tests/real/**/*.test.ts"],
    testTimeout: 300_000,
    hookTimeout: 300_000,
    pool: "forks",
    maxWorkers: 1,
    fileParallelism: false,
  },
});
