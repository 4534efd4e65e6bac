import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Command } from "commander";
import { afterEach, describe, expect, it, vi } from "vitest";
import { modelTable, registerModelsCommand } from "../../src/cli/models.js";
import { createProgress } from "../../src/cli/progress.js";
import { CATALOG, DEFAULT_MODEL } from "../../src/weights/catalog.js";

const folders: string[] = [];
function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "models-test-"));
  folders.push(folder);
  return folder;
}

afterEach(() => {
  vi.restoreAllMocks();
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true });
});

/** Runs `sglang-ts models ...` and returns what it prints. */
async function models(...args: string[]): Promise<string> {
  let printed = "";
  vi.spyOn(process.stdout, "write").mockImplementation((text) => {
    printed += text;
    return true;
  });
  vi.spyOn(process.stderr, "write").mockImplementation(() => true);
  const program = new Command("sglang-ts").exitOverride();
  registerModelsCommand(program);
  await program.parseAsync(["models", ...args], { from: "user" });
  return printed;
}

describe("sglang-ts models", () => {
  it.each([[[]], [["list"]]])("with %j lists every model with a name", async (args) => {
    const text = await models(...args, "--download-dir", temporaryFolder());
    for (const { name } of CATALOG) expect(text).toContain(name);
    expect(text.split("\n")[0]).toMatch(/^NAME +PARAMETERS +FORMAT +SIZE +LICENCE +ON DISK +SERVABLE$/);
  });

  it("lists as JSON what a script wants to know", async () => {
    const rows = JSON.parse(await models("list", "--json", "--download-dir", temporaryFolder()));
    expect(rows.map((row: { name: string }) => row.name)).toEqual(CATALOG.map((model) => model.name));
    expect(rows[0]).toMatchObject({ name: DEFAULT_MODEL, path: null, servable: true, size: 491_400_064 });
  });

  it("prints a local model's path for `path` and `pull`, fetching nothing", async () => {
    const file = join(temporaryFolder(), "m.gguf");
    writeFileSync(file, "x");
    expect(await models("path", file)).toBe(`${file}\n`);
    expect(await models("pull", file)).toBe(`${file}\n`);
  });

  it("fails for a model that is not here, with the command that fetches it", async () => {
    const folder = temporaryFolder();
    await expect(models("path", "smollm2", "--download-dir", folder)).rejects.toThrow(
      "sglang-ts models pull smollm2-135m",
    );
    await expect(models("pull", "smollm2", "--offline", "--download-dir", folder)).rejects.toThrow(
      "sglang-ts models pull",
    );
    await expect(models("rm", "smollm2", "--download-dir", folder)).rejects.toThrow("nothing to remove");
  });

  it("refuses a mirror it does not know", async () => {
    await expect(models("pull", "smollm2", "--mirror", "ftp")).rejects.toThrow(/huggingface, modelscope, pip/);
  });

  it("lines its table up and shows what an interrupted fetch left", () => {
    const [model] = CATALOG;
    const text = modelTable([
      { model, path: "/m", partialBytes: 0 },
      { model: { ...model, name: "b", servable: false, unservableReason: "why" }, path: null, partialBytes: 1_500_000 },
    ]);
    const [head, first, second] = text.split("\n");
    const column = head.indexOf("ON DISK");
    expect(first.slice(column)).toMatch(/^yes +yes$/);
    expect(second.slice(column)).toMatch(/^1\.5 MB so far +no: why$/);
    expect(first).toContain("qwen2.5-coder-0.5b *");
    expect(first).toContain("494M");
  });
});

describe("progress", () => {
  function stream(isTTY: boolean) {
    const written: string[] = [];
    const fake = {
      isTTY,
      columns: 100,
      written,
      write: (text: string) => written.push(text),
      on: () => fake,
      once: () => fake,
    };
    for (const name of ["clearLine", "cursorTo", "moveCursor", "removeListener", "off"])
      Object.assign(fake, { [name]: () => fake });
    return fake as typeof fake & NodeJS.WriteStream;
  }

  it("prints the first and the last line of a download into a log, and little in between", () => {
    const out = stream(false);
    const progress = createProgress(out);
    progress.message("Fetching m.");
    for (let received = 0; received <= 1000; received++) {
      progress.update({ label: "m", phase: "download", received, total: 1000 });
    }
    progress.stop();
    expect(out.written[0]).toBe("Fetching m.\n");
    expect(out.written[1]).toBe("m: 0 % of 1.0 kB\n");
    expect(out.written.at(-1)).toMatch(/^m: 100 % of 1\.0 kB/);
    expect(out.written.length).toBeLessThan(14);
  });

  it("prints lines for a download of unknown length, and tells checking from fetching", () => {
    const out = stream(false);
    const progress = createProgress(out);
    progress.update({ label: "m", phase: "download", received: 5, total: null });
    progress.update({ label: "m", phase: "verify", received: 0, total: 10 });
    expect(out.written).toEqual(["m: 5 B\n", "m (checking): 0 % of 10 B\n"]);
  });

  it("draws a bar on a terminal, keeps messages on their own lines, and may be stopped twice", () => {
    const out = stream(true);
    const { update, message, stop } = createProgress(out);
    update({ label: "m", phase: "download", received: 50, total: 100 });
    message("waiting…");
    update({ label: "m", phase: "download", received: 100, total: 100 });
    stop();
    stop();
    const text = out.written.join("");
    expect(text).toContain("50%");
    expect(text).toContain("\nwaiting…\n");
    expect(text).toContain("100%");
  });
});
