import { createServer, type Server } from "node:net";
import { afterEach, describe, expect, it } from "vitest";
import { checkAddress } from "../../src/server/address.js";

const open: Server[] = [];
afterEach(async () => {
  for (const server of open.splice(0)) await new Promise((done) => server.close(done));
});

async function listen(port: number): Promise<number> {
  const server = createServer();
  open.push(server);
  await new Promise<void>((done, fail) => server.once("error", fail).listen({ host: "127.0.0.1", port }, done));
  return (server.address() as { port: number }).port;
}

describe("checkAddress", () => {
  it("refuses a port that another program has, and says what to do", async () => {
    const port = await listen(0);
    await expect(checkAddress({ host: "127.0.0.1", port })).rejects.toMatchObject({
      code: "PORT_IN_USE",
      message: expect.stringMatching(new RegExp(`127\\.0\\.0\\.1:${port} is already in use: .*--port`)),
    });
  });

  it("refuses an address that this machine does not have", async () => {
    await expect(checkAddress({ host: "203.0.113.9", port: 0 })).rejects.toMatchObject({
      code: "INVALID_ARGUMENT",
      message: expect.stringContaining("--host 203.0.113.9 is not an address of this machine"),
    });
  });

  it("leaves a free port free", async () => {
    const port = await listen(0);
    await new Promise((done) => open.pop()?.close(done));
    await checkAddress({ host: "127.0.0.1", port });
    expect(await listen(port)).toBe(port);
  });
});
