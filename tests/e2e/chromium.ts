import { existsSync } from "node:fs";
import { type Browser, chromium } from "playwright-core";

/** A Chromium of this machine; tests that need one are skipped where there is none. */
export const chromiumPath: string | undefined = [
  process.env.SGLANG_TEST_CHROMIUM,
  "/usr/bin/chromium",
  "/usr/bin/chromium-browser",
  "/usr/bin/google-chrome",
].find((path) => path !== undefined && existsSync(path));

/** A headless browser that talks to nobody by itself. */
export function launchChromium(): Promise<Browser> {
  return chromium.launch({
    executablePath: chromiumPath,
    args: [
      ..."--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking".split(" "),
      ..."--disable-component-update --disable-sync".split(" "),
    ],
  });
}
