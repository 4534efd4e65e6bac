/** The package's version, from its package.json (two folders up, in sources and in the build alike). */
import { readFileSync } from "node:fs";

export const VERSION: string = JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8")).version;
