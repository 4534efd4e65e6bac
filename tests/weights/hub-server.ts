/** The two hubs' HTTP interfaces, small, on the loopback interface. */
import { gitSha1Hex, type Loopback, loopback, sendJson, serveFile, sha256Hex } from "./loopback.js";

export type RepoFiles = Record<string, Buffer>;

const COMMIT = "0123456789abcdef0123456789abcdef01234567";

/** LFS is what the hub does with weights. */
function isLfs(path: string): boolean {
  return /\.(?:safetensors|gguf|bin)$/.test(path);
}

export interface HubServer extends Loopback {
  commit: string;
  /** Paths of files that were fetched, in order. */
  fetched(): string[];
}

/** A Hugging Face hub with one repository, `org/name`. @param pageSize entries per page of the listing */
export async function huggingFaceServer(
  files: RepoFiles,
  options: { repo?: string; pageSize?: number } = {},
): Promise<HubServer> {
  const repo = options.repo ?? "org/name";
  const pageSize = options.pageSize ?? 1000;
  const server = await loopback((request, response) => {
    const url = new URL(request.url ?? "", "http://localhost");
    const path = decodeURIComponent(url.pathname);
    if (path === `/api/models/${repo}/revision/main` || path === `/api/models/${repo}/revision/${COMMIT}`) {
      return sendJson(response, { _id: "1", id: repo, sha: COMMIT });
    }
    if (path === `/api/models/${repo}/tree/${COMMIT}`) {
      const start = Number(url.searchParams.get("cursor") ?? 0);
      const entries = [
        { type: "directory", oid: "0".repeat(40), size: 0, path: "sub" },
        ...Object.entries(files).map(([name, data]) => {
          const base = { type: "file", oid: gitSha1Hex(data), size: data.length, path: name };
          return isLfs(name) ? { ...base, lfs: { oid: sha256Hex(data), size: data.length, pointerSize: 134 } } : base;
        }),
      ];
      const next = `<${server.url}${url.pathname}?recursive=true&cursor=${start + pageSize}>; rel="next"`;
      const headers: Record<string, string> = start + pageSize < entries.length ? { link: next } : {};
      return sendJson(response, entries.slice(start, start + pageSize), headers);
    }
    const prefix = `/${repo}/resolve/${COMMIT}/`;
    const data = path.startsWith(prefix) ? files[path.slice(prefix.length)] : undefined;
    if (data) return serveFile(request, response, data);
    response.writeHead(path.startsWith("/api/models/private/") ? 401 : 404).end('{"error":"Repository not found"}');
  });
  const fetched = () =>
    server.seen.flatMap(({ url }) =>
      url.includes("/resolve/") ? [decodeURIComponent(url.split(`${COMMIT}/`)[1])] : [],
    );
  return { ...server, commit: COMMIT, fetched };
}

/** A ModelScope site with one repository, `org/name`. */
export async function modelScopeServer(files: RepoFiles, options: { repo?: string } = {}): Promise<HubServer> {
  const repo = options.repo ?? "org/name";
  const server = await loopback((request, response) => {
    const url = new URL(request.url ?? "", "http://localhost");
    if (url.pathname === `/api/v1/models/${repo}/repo/files`) {
      const blobs = Object.entries(files).map(([path, data]) => ({
        Path: path,
        Name: path.split("/").at(-1),
        Type: "blob",
        Size: data.length,
        Sha256: sha256Hex(data),
      }));
      const tree = { Path: "sub", Name: "sub", Type: "tree", Size: 0, Sha256: "" };
      return sendJson(response, { Code: 200, Success: true, Data: { Files: [tree, ...blobs] } });
    }
    const data =
      url.pathname === `/api/v1/models/${repo}/repo` ? files[url.searchParams.get("FilePath") ?? ""] : undefined;
    if (data && url.searchParams.get("Revision") === "master") return serveFile(request, response, data);
    response.writeHead(404).end('{"Code":10010205001,"Message":"not found","Success":false}');
  });
  const fetched = () => server.seen.flatMap(({ url }) => new URL(url, "http://x").searchParams.get("FilePath") ?? []);
  return { ...server, commit: "master", fetched };
}
