/** The address a server listens on: whether it can be had, and what its errors say. */
import { createServer } from "node:net";
import { SglangError } from "../core/errors.js";
import type { ServerConfig } from "./config.js";

/**
 * Listens for a moment, so that a port that is taken is found before a model is loaded for it.
 * @throws SglangError PORT_IN_USE or INVALID_ARGUMENT
 */
export async function checkAddress({ host, port }: Pick<ServerConfig, "host" | "port">): Promise<void> {
  const probe = createServer();
  try {
    await new Promise<void>((resolve, reject) => probe.once("error", reject).listen({ host, port }, resolve));
  } catch (error) {
    throw listenError(error as NodeJS.ErrnoException, host, port);
  }
  await new Promise((resolve) => probe.close(resolve));
}

/** Why an address can't be had, as a sentence. */
export function listenError(error: NodeJS.ErrnoException, host: string, port: number): Error {
  const address = `${host}:${port}`;
  if (error.code === "EADDRINUSE") {
    const message = `${address} is already in use: stop the other program, or choose another port with --port (0 picks a free one).`;
    return new SglangError("PORT_IN_USE", message, { field: "--port", found: String(port) }, { cause: error });
  }
  if (error.code === "EACCES") {
    const message = `--port ${port} needs more rights than this process has: choose one from 1024 on.`;
    return new SglangError("INVALID_ARGUMENT", message, { field: "--port", found: String(port) }, { cause: error });
  }
  if (error.code === "EADDRNOTAVAIL" || error.code === "ENOTFOUND" || error.code === "EAI_AGAIN") {
    const message = `--host ${host} is not an address of this machine: use 127.0.0.1, or 0.0.0.0 for every address.`;
    return new SglangError("INVALID_ARGUMENT", message, { field: "--host", found: host }, { cause: error });
  }
  return error;
}

/** An address that a client on this machine can use. */
export function urlHost(host: string): string {
  if (host === "0.0.0.0") return "127.0.0.1";
  if (host === "::") return "[::1]";
  return host.includes(":") ? `[${host}]` : host;
}
