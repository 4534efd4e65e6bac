/** A web page that shows a program while it runs: events go out as server-sent events, and closing the page aborts. */
import { createServer, type Server } from "node:http";
import { type Backend, gen, program } from "../src/lang/index.js";

const PAGE = `<!doctype html><pre id="out"></pre><script>
new EventSource("/events").onmessage = ({ data }) => { document.getElementById("out").textContent += JSON.parse(data); };
</script>`;

const story = program(async (s) => {
  s.user("Tell a story of five sentences.");
  s.assistant(gen({ maxTokens: 200 }));
});

export function main(backend: Backend, port = 8080): Promise<Server> {
  const server = createServer(async (request, response) => {
    if (request.url !== "/events") {
      response.setHeader("content-type", "text/html").end(PAGE);
      return;
    }
    const controller = new AbortController();
    response.on("close", () => controller.abort());
    response.setHeader("content-type", "text/event-stream");
    try {
      for await (const text of story.stream({ backend, signal: controller.signal }).text()) {
        response.write(`data: ${JSON.stringify(text)}\n\n`);
      }
    } catch (error) {
      response.write(`data: ${JSON.stringify(String(error))}\n\n`);
    }
    response.end();
  });
  return new Promise((resolve) => server.listen(port, "127.0.0.1", () => resolve(server)));
}
