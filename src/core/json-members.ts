/**
 * The members of a JSON object as they are written, without parsing them: 64-bit integers keep their digits.
 */

/** Index after the JSON string that starts at `text[at]` (a quote). */
function afterString(text: string, at: number): number {
  let i = at + 1;
  while (text[i] !== '"') i += text[i] === "\\" ? 2 : 1;
  return i + 1;
}

/**
 * Source text of each top-level member's value. A key given twice has its last value, as with JSON.parse.
 * @param text one JSON object; must be valid JSON
 */
export function rawMembers(text: string): Map<string, string> {
  const members = new Map<string, string>();
  let depth = 0;
  let key: string | null = null;
  let valueStart = -1;
  for (let i = 0; i < text.length; ) {
    const c = text[i];
    if (c === '"') {
      const end = afterString(text, i);
      if (depth === 1 && key === null) key = JSON.parse(text.slice(i, end)) as string;
      i = end;
      continue;
    }
    const closes = c === "}" || c === "]";
    if (depth === 1 && key !== null && (c === "," || closes)) {
      members.set(key, text.slice(valueStart, i).trim());
      key = null;
      valueStart = -1;
    }
    if (c === "{" || c === "[") depth += 1;
    else if (closes) depth -= 1;
    else if (c === ":" && depth === 1 && valueStart < 0) valueStart = i + 1;
    i += 1;
  }
  return members;
}
