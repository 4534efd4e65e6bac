/** Pictures and videos: from a path, a URL or bytes to what a prompt holds. */
import { invalidField, SglangError } from "../core/errors.js";
import { nodeFiles } from "./node-files.js";

export type MediaSource = string | URL | Uint8Array | ArrayBuffer;

export interface Media {
  mediaType?: string;
  data?: Uint8Array;
  url?: string;
}

const BY_EXTENSION: Readonly<Record<string, string>> = {
  png: "image/png",
  jpg: "image/jpeg",
  jpeg: "image/jpeg",
  webp: "image/webp",
  gif: "image/gif",
  mp4: "video/mp4",
  webm: "video/webm",
  mov: "video/quicktime",
};

function extensionType(path: string): string | undefined {
  const extension = /\.([a-z0-9]+)(?:[?#].*)?$/i.exec(path)?.[1];
  return extension === undefined ? undefined : BY_EXTENSION[extension.toLowerCase()];
}

/** First bytes of the kinds of file that models take. */
function sniff(data: Uint8Array): string | undefined {
  const ascii = (from: number, to: number) => String.fromCharCode(...data.subarray(from, to));
  if (data[0] === 0x89 && ascii(1, 4) === "PNG") return "image/png";
  if (data[0] === 0xff && data[1] === 0xd8) return "image/jpeg";
  if (ascii(0, 4) === "GIF8") return "image/gif";
  if (ascii(0, 4) === "RIFF" && ascii(8, 12) === "WEBP") return "image/webp";
  if (ascii(4, 8) === "ftyp") return "video/mp4";
  if (data[0] === 0x1a && data[1] === 0x45) return "video/webm";
  return undefined;
}

function fromBytes(data: Uint8Array, mediaType: string | undefined): Media {
  return { data, mediaType: sniff(data) ?? mediaType };
}

function fromDataUrl(url: string): Media {
  const match = /^data:([^;,]*)((?:;[^;,]*)*),(.*)$/s.exec(url);
  if (!match) throw invalidField("image", "a data: URL with a media type and data", `${url.slice(0, 40)}...`);
  const [, mediaType, parameters, body] = match;
  const binary = parameters.endsWith(";base64") ? atob(body) : decodeURIComponent(body);
  return fromBytes(
    Uint8Array.from(binary, (char) => char.charCodeAt(0)),
    mediaType || undefined,
  );
}

/** @throws SglangError FILE_NOT_FOUND for a path that cannot be read, INVALID_REQUEST for what is no source */
export async function loadMedia(source: MediaSource): Promise<Media> {
  if (source instanceof ArrayBuffer) return fromBytes(new Uint8Array(source), undefined);
  if (source instanceof Uint8Array) return fromBytes(source, undefined);
  const isUrl = source instanceof URL || /^(https?|data|file):/i.test(source);
  const text = String(source);
  if (/^https?:/i.test(text)) return { url: text, mediaType: extensionType(text) };
  if (/^data:/i.test(text)) return fromDataUrl(text);
  const files = nodeFiles("pass the picture's bytes or an https: URL.");
  try {
    return fromBytes(await files.readFile(isUrl ? new URL(text) : text), extensionType(text));
  } catch (cause) {
    const message = `Picture or video ${text} cannot be read: ${(cause as Error).message}.`;
    throw new SglangError("FILE_NOT_FOUND", message, { file: text }, { cause });
  }
}
