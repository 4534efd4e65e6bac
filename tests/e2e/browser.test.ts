/** Pages in a real browser: a program of the language in a page, its trace, and the server's API documentation. */
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import type { Browser, Page } from "playwright-core";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { FakeBackend } from "../../src/lang/backends/fake.js";
import { gen, program, select } from "../../src/lang/index.js";
import { type RunningServer, startServer } from "../../src/server/server.js";
import { bundle } from "../lang/bundle.js";
import { FakeEngine, fakeTokenizer } from "../server/fake-engine.js";
import { silent } from "../server/harness.js";
import { chromiumPath, launchChromium } from "./chromium.js";

const PAGE = `
import { endpointBackend, gen, program } from "sglang-ts/lang";
const tell = program(async (s, topic) => {
  s.user\`Tell me of \${topic}.\`;
  return s.assistant(gen("story"));
});
const out = document.querySelector("#out");
const stream = tell.stream("tea", { backend: endpointBackend(location.hash.slice(1)) });
for await (const piece of stream.text("story")) out.append(piece);
const result = await stream.result;
document.querySelector("#trace").srcdoc = await result.trace().toHTML();
document.title = "done";
`;

describe.skipIf(!chromiumPath)("in Chromium", () => {
  let browser: Browser;
  let page: Page;
  let model: RunningServer;
  let site: Server;
  let siteUrl: string;
  const files = new Map<string, [type: string, text: string]>();
  const troubles: string[] = [];

  beforeAll(async () => {
    const { code, fileName, lazy } = await bundle(PAGE);
    files.set("/", [
      "text/html",
      `<!doctype html><p id="out"></p><iframe id="trace"></iframe><script type="module" src="/${fileName}"></script>`,
    ]);
    files.set(`/${fileName}`, ["text/javascript", code]);
    for (const [name, text] of lazy) files.set(`/${name}`, ["text/javascript", text]);
    files.set("/favicon.ico", ["image/x-icon", ""]);
    site = createServer((request, reply) => {
      const [type, text] = files.get(new URL(request.url ?? "/", "http://site").pathname) ?? ["text/plain", ""];
      reply.writeHead(type === "text/plain" ? 404 : 200, { "content-type": `${type}; charset=utf-8` }).end(text);
    });
    await new Promise<void>((resolve) => site.listen(0, "127.0.0.1", resolve));
    siteUrl = `http://127.0.0.1:${(site.address() as AddressInfo).port}/`;
    model = await startServer({
      engine: new FakeEngine({ answer: () => ({ pieces: ["Once ", "upon ", "a <time>."] }) }),
      tokenizer: fakeTokenizer,
      config: { port: 0 },
      logger: silent,
    });
    browser = await launchChromium();
  });
  afterAll(async () => {
    await browser?.close();
    await model?.close();
    site?.closeAllConnections();
    site?.close();
  });

  beforeEach(async () => {
    troubles.length = 0;
    page = await browser.newPage();
    page.on("console", (message) => {
      if (message.type() === "error") troubles.push(message.text());
    });
    page.on("pageerror", (error) => troubles.push(String(error)));
    page.on("requestfailed", (request) => troubles.push(`failed: ${request.url()}`));
    page.on("response", (response) => {
      if (response.status() >= 400) troubles.push(`${response.status()}: ${response.url()}`);
    });
  });
  afterEach(async () => {
    await page.close();
    expect(troubles).toEqual([]);
  });

  it("a page streams a program's text from a server of another origin, and shows its trace", async () => {
    await page.goto(`${siteUrl}#${model.url}`);
    await page.waitForFunction(() => document.title === "done");
    expect(await page.textContent("#out")).toBe("Once upon a <time>.");
    const trace = page.frameLocator("#trace");
    await trace.getByText("Timeline").waitFor();
    expect(await trace.locator("summary", { hasText: "Once upon a <time>." }).count()).toBe(1);
  });

  it("a trace page shows branches, values, choices and what was cached", async () => {
    const plan = program(async (s) => {
      s.system`You know cities. ${"Be brief. ".repeat(20)}`;
      s.user`Name one.`;
      const parts = await s.fork(
        ["food", "history"],
        (f, about) => f.assistant`${about}: ${gen(about, { logprobs: 1 })}`,
      );
      return { parts, likes: s.assistant(select("likes", ["yes", "no"])) };
    });
    const backend = new FakeBackend({ answers: () => "Lisbon", cache: true });
    const html = await (await plan.run({ backend })).trace().toHTML();
    await page.setContent(html);
    expect(await page.locator(".lane").count()).toBeGreaterThanOrEqual(3);
    expect(await page.locator(".state .state").count()).toBe(2);
    // The hint before the fork computed the prompt, so that both branches found it.
    expect(await page.locator(".cached").first().textContent()).toMatch(/^You know cities\. (Be brief\. )+$/);
    await page.locator("summary", { hasText: "Lisbon" }).first().click();
    await page
      .getByText(/\d\d prompt tokens, \d\d of them cached, 1 new/)
      .first()
      .waitFor();
    expect(await page.locator(".lp").count()).toBe(3);
  });

  it("the API pages list every route of the server", async () => {
    await page.goto(`${model.url}/docs`);
    await page.locator(".opblock").first().waitFor();
    const listed = await page.locator(".opblock-summary-path").allTextContents();
    const routes = listed.map((path) => path.replace(/\u200b/g, "").trim());
    expect(routes).toEqual(expect.arrayContaining(["/generate", "/v1/chat/completions", "/v1/models", "/health"]));
    await page.locator(".opblock", { hasText: "/v1/chat/completions" }).click();
    await page.locator(".opblock.is-open", { hasText: "max_tokens" }).waitFor();
  });
});
