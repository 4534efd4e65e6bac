/**
 * The two model hubs as sources: what a repository holds at a revision, and the URL, size and digest of each file.
 *
 * Hugging Face: `GET /api/models/{id}/revision/{rev}?expand=sha`, `GET /api/models/{id}/tree/{sha}?recursive=true` (pages
 * by Link header), files at `/{id}/resolve/{sha}/{path}`. ModelScope: `GET /api/v1/models/{id}/repo/files`, files at
 * `/api/v1/models/{id}/repo?FilePath=`. Both let only the hub's own host see the token.
 */
import { readFile } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";
import { z } from "zod";
import { SglangError } from "../core/errors.js";
import { type Digest, sha256 } from "./digest.js";
import { refusal } from "./download.js";
import { networkReason, type Transfer } from "./transfer.js";

/** A hub that has not answered by then counts as unreachable, for this run. */
const FIRST_CONTACT_MS = 5_000;
/** Longest wait for a listing from a hub that has answered before. */
const LISTING_MS = 30_000;
/** Listings are small; more pages than this are a loop. */
const MAX_PAGES = 1_000;

export interface HubFile {
  /** Path inside the repository, with `/`; checked to stay inside. */
  path: string;
  size: number;
  /** Absent where the hub states none. */
  digest?: Digest;
  url: string;
}

export interface HubSnapshot {
  repo: string;
  /** Commit (Hugging Face) or branch (ModelScope) that the URLs are bound to. */
  revision: string;
  files: HubFile[];
  /** For the downloads: carries the token, if any. */
  headers: Record<string, string>;
}

export interface Hub {
  readonly id: "huggingface" | "modelscope";
  readonly title: string;
  /** Without trailing slash. */
  readonly endpoint: string;
  readonly defaultRevision: string;
  /**
   * Lists a repository.
   * @throws SglangError NOT_FOUND (no such repository or revision, or it needs a token), DOWNLOAD_FAILED (unreachable)
   */
  snapshot(repo: string, revision?: string): Promise<HubSnapshot>;
}

/** Endpoints that did not answer in this process, with the reason: they are not asked again. */
export type Unreachable = Map<string, string>;
const unreachableInThisRun: Unreachable = new Map();

export interface HubContext extends Transfer {
  /** @default one map for the whole process */
  unreachable?: Unreachable;
  /** @default 5000 */
  firstContactMs?: number;
}

const HfRevision = z.object({ sha: z.string().regex(/^[0-9a-f]{7,64}$/) });
const HfTree = z.array(
  z.object({
    type: z.string(),
    path: z.string(),
    oid: z.string(),
    size: z.number().int().nonnegative(),
    lfs: z.object({ oid: z.string(), size: z.number().int().nonnegative() }).optional(),
  }),
);
const ModelScopeFiles = z.object({
  Code: z.number(),
  Success: z.boolean().optional(),
  Message: z.string().optional(),
  Data: z
    .object({
      Files: z
        .array(
          z.object({
            Path: z.string(),
            Type: z.string(),
            Size: z.number().int().nonnegative().optional(),
            Sha256: z.string().optional(),
          }),
        )
        .nullable(),
    })
    .nullish(),
});

/** The Hugging Face hub, or what HF_ENDPOINT names. Token: HF_TOKEN, else the file that `hf auth login` writes. */
export function huggingFaceHub(context: HubContext = {}): Hub {
  const env = context.env ?? process.env;
  const endpoint = trimSlash(env.HF_ENDPOINT || "https://huggingface.co");
  const door = new Door("Hugging Face", endpoint, "HF_TOKEN", context);
  return {
    id: "huggingface",
    title: "Hugging Face",
    endpoint,
    defaultRevision: "main",
    async snapshot(repo, revision = "main") {
      const token = await huggingFaceToken(env);
      const headers: Record<string, string> = token ? { authorization: `Bearer ${token}` } : {};
      const api = `${endpoint}/api/models/${repo}`;
      const head = await door.json(
        `${api}/revision/${encodeURIComponent(revision)}?expand=sha`,
        headers,
        HfRevision,
        repo,
      );
      const { sha } = head.value;
      const files: HubFile[] = [];
      let next: string | null = `${api}/tree/${sha}?recursive=true`;
      for (let page = 0; next !== null && page < MAX_PAGES; page++) {
        const listing: { value: z.infer<typeof HfTree>; link: string | null } = await door.json(
          next,
          headers,
          HfTree,
          repo,
        );
        for (const entry of listing.value) {
          if (entry.type !== "file") continue;
          const path = safePath(entry.path, repo);
          files.push({
            path,
            size: entry.lfs?.size ?? entry.size,
            digest: entry.lfs ? sha256(entry.lfs.oid) : { algorithm: "git-sha1", hex: entry.oid },
            url: `${endpoint}/${repo}/resolve/${sha}/${encodePath(path)}`,
          });
        }
        next = nextPage(listing.link, endpoint);
      }
      return { repo, revision: sha, files, headers };
    },
  };
}

/** ModelScope, or the site MODELSCOPE_DOMAIN names. Token: MODELSCOPE_API_TOKEN, sent as the session cookie. */
export function modelScopeHub(context: HubContext = {}): Hub {
  const env = context.env ?? process.env;
  const domain = env.MODELSCOPE_DOMAIN || "www.modelscope.cn";
  const endpoint = trimSlash(/^https?:\/\//.test(domain) ? domain : `https://${domain}`);
  const door = new Door("ModelScope", endpoint, "MODELSCOPE_API_TOKEN", context);
  return {
    id: "modelscope",
    title: "ModelScope",
    endpoint,
    defaultRevision: "master",
    async snapshot(repo, revision = "master") {
      const token = env.MODELSCOPE_API_TOKEN;
      const headers: Record<string, string> = token ? { cookie: `m_session_id=${token}` } : {};
      const api = `${endpoint}/api/v1/models/${repo}/repo`;
      const rev = encodeURIComponent(revision);
      const { value } = await door.json(`${api}/files?Revision=${rev}&Recursive=True`, headers, ModelScopeFiles, repo);
      if (value.Code !== 200 || !value.Data?.Files) {
        throw new SglangError(
          "NOT_FOUND",
          `ModelScope has no listing of ${repo} at ${revision}: ${value.Message ?? `code ${value.Code}`}.`,
        );
      }
      const files: HubFile[] = [];
      for (const entry of value.Data.Files) {
        if (entry.Type !== "blob") continue;
        const path = safePath(entry.Path, repo);
        const hex = entry.Sha256;
        files.push({
          path,
          size: entry.Size ?? 0,
          digest: hex && /^[0-9a-fA-F]{64}$/.test(hex) ? sha256(hex) : undefined,
          url: `${api}?Revision=${rev}&FilePath=${encodeURIComponent(path)}`,
        });
      }
      return { repo, revision, files, headers };
    },
  };
}

/** Asks one hub for JSON, with a short first contact and a memory for failure. */
class Door {
  readonly #title: string;
  readonly #endpoint: string;
  readonly #tokenVariable: string;
  readonly #context: HubContext;
  readonly #unreachable: Unreachable;
  #answered = false;

  constructor(title: string, endpoint: string, tokenVariable: string, context: HubContext) {
    this.#title = title;
    this.#endpoint = endpoint;
    this.#tokenVariable = tokenVariable;
    this.#context = context;
    this.#unreachable = context.unreachable ?? unreachableInThisRun;
  }

  async json<T>(
    url: string,
    headers: Record<string, string>,
    schema: z.ZodType<T>,
    repo: string,
  ): Promise<{ value: T; link: string | null }> {
    const known = this.#unreachable.get(this.#endpoint);
    if (known !== undefined) throw this.#unreachableError(known);
    const limit = this.#answered ? LISTING_MS : (this.#context.firstContactMs ?? FIRST_CONTACT_MS);
    const timeout = AbortSignal.timeout(limit);
    const { signal } = this.#context;
    let response: Response;
    let text: string;
    try {
      response = await (this.#context.fetch ?? globalThis.fetch)(url, {
        headers: { ...headers, accept: "application/json" },
        signal: signal ? AbortSignal.any([signal, timeout]) : timeout,
      });
      text = await response.text();
    } catch (error) {
      if (signal?.aborted) throw error;
      const reason = timeout.aborted ? `no answer for ${limit / 1000} s` : networkReason(error);
      this.#unreachable.set(this.#endpoint, reason);
      throw this.#unreachableError(reason, error);
    }
    this.#answered = true;
    if (!response.ok) {
      const { status } = response;
      const missing = status === 401 || status === 403 || status === 404;
      const hint = missing ? ` Check the name; a private or gated repository needs ${this.#tokenVariable}.` : "";
      throw new SglangError(
        missing ? "NOT_FOUND" : "DOWNLOAD_FAILED",
        `${this.#title} can't give ${repo}: ${refusal(status)}.${hint}`,
        { expected: "HTTP 200", found: `HTTP ${status}` },
      );
    }
    return { value: this.#parse(text, schema, url), link: response.headers.get("link") };
  }

  #parse<T>(text: string, schema: z.ZodType<T>, url: string): T {
    let value: unknown;
    try {
      value = JSON.parse(text);
    } catch (cause) {
      const start = JSON.stringify(text.slice(0, 60));
      throw new SglangError(
        "DOWNLOAD_FAILED",
        `${this.#title} answered ${url} with something that is not JSON (${start}): is a proxy or login page in between?`,
        { expected: "JSON", found: start },
        { cause },
      );
    }
    const parsed = schema.safeParse(value);
    if (parsed.success) return parsed.data;
    const issue = parsed.error.issues[0];
    throw new SglangError(
      "DOWNLOAD_FAILED",
      `${this.#title} answered ${url} in a form this version does not know: ${issue.path.join(".") || "the answer"}: ${issue.message}.`,
      { field: issue.path.join(".") },
    );
  }

  #unreachableError(reason: string, cause?: unknown): SglangError {
    return new SglangError("DOWNLOAD_FAILED", `${this.#title}: unreachable (${reason})`, { found: reason }, { cause });
  }
}

async function huggingFaceToken(env: NodeJS.ProcessEnv): Promise<string | null> {
  const given = env.HF_TOKEN || env.HUGGING_FACE_HUB_TOKEN;
  if (given) return given.trim();
  if (env.HF_HUB_DISABLE_IMPLICIT_TOKEN === "1") return null;
  const home = env.HF_HOME || join(env.XDG_CACHE_HOME || join(homedir(), ".cache"), "huggingface");
  const text = await readFile(env.HF_TOKEN_PATH || join(home, "token"), "utf8").catch(() => "");
  return text.trim() || null;
}

/** Target of `Link: <…>; rel="next"`, which must be on the same host: the token goes with it. */
function nextPage(link: string | null, endpoint: string): string | null {
  const target = /<([^>]+)>\s*;\s*rel="?next"?/.exec(link ?? "")?.[1];
  if (!target) return null;
  const url = new URL(target, endpoint);
  if (url.host !== new URL(endpoint).host) {
    throw new SglangError(
      "DOWNLOAD_FAILED",
      `The listing of ${endpoint} goes on at another host, ${url.host}: refused.`,
      {
        expected: new URL(endpoint).host,
        found: url.host,
      },
    );
  }
  return url.href;
}

/** A path from a listing becomes a path on this disk: it may not leave its folder, on any system. */
function safePath(path: string, repo: string): string {
  const bad =
    path === "" ||
    path.includes("\\") ||
    path.includes("\0") ||
    /^[a-zA-Z]:/.test(path) ||
    path.split("/").some((part) => part === "" || part === "." || part === "..");
  if (!bad) return path;
  throw new SglangError(
    "DOWNLOAD_FAILED",
    `${repo} lists ${JSON.stringify(path)}, a path that leaves its folder: refused.`,
    {
      file: path,
    },
  );
}

function encodePath(path: string): string {
  return path.split("/").map(encodeURIComponent).join("/");
}

function trimSlash(url: string): string {
  return url.replace(/\/+$/, "");
}
