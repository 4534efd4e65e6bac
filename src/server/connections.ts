/** Open connections and whether they carry a reply, so that a closing server waits for replies only. */
import type { Server } from "node:http";
import type { Socket } from "node:net";

export class Connections {
  /** Replies under way, by connection. Node's own list of idle connections lacks those that never sent a request. */
  readonly #replies = new Map<Socket, number>();
  #closing = false;

  constructor(server: Server) {
    server.on("connection", (socket: Socket) => {
      this.#replies.set(socket, 0);
      socket.on("close", () => this.#replies.delete(socket));
    });
    server.on("request", ({ socket }, reply) => {
      this.#add(socket, 1);
      reply.on("close", () => this.#add(socket, -1));
    });
  }

  /** Ends idle connections now, and every other one when its reply is through. */
  closeWhenIdle(): void {
    this.#closing = true;
    for (const [socket, replies] of this.#replies) if (replies === 0) socket.destroySoon();
  }

  #add(socket: Socket, change: number): void {
    const replies = this.#replies.get(socket);
    if (replies === undefined) return;
    this.#replies.set(socket, replies + change);
    if (this.#closing && replies + change === 0) socket.destroySoon();
  }
}
