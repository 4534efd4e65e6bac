import { readdirSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { expect, it } from "vitest";

const folder = resolve(import.meta.dirname, "../../src/lang/backends");

it.each(readdirSync(folder))("backends/%s imports nothing that a browser lacks", (file) => {
  const source = readFileSync(join(folder, file), "utf8");
  const imported = [...source.matchAll(/(?:from|import\()\s*"([^"]+)"/g)].map(([, path]) => path);
  // The engine's own types come from core/protocol; nothing reaches for the runtime, Node, or a package.
  expect(
    imported.filter(
      (path) =>
        !/^\.\/|^\.\.\/[^.]|^\.\.\/\.\.\/core\/(errors|reasoning|protocol|sampling-params|tool-calls|tool-constraint)\.js$/.test(
          path,
        ),
    ),
  ).toEqual([]);
  expect(source).not.toMatch(/\b(Buffer|setImmediate|__dirname)\b/);
});
