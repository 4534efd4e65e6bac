// Plots as SVG, without a library: lines over a logarithmic or a linear axis, groups of bars, and a legend. Small on purpose.

const COLOURS = ["#2563eb", "#dc2626", "#059669", "#d97706", "#7c3aed", "#64748b"];
const WIDTH = 640;
const HEIGHT = 400;
const AREA = { left: 70, right: 20, top: 44, bottom: 56 };

const escapeText = (text) => String(text).replace(/[&<>"]/g, (c) => `&#${c.charCodeAt(0)};`);
const short = (value) =>
  Math.abs(value) >= 1e6
    ? `${value / 1e6}M`
    : Math.abs(value) >= 1e4
      ? `${value / 1e3}k`
      : String(Number(value.toPrecision(3)));

/** 1, 2 or 5 times a power of ten: about `count` steps from 0 to `most`. */
function linearTicks(most, count) {
  const rough = most / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((m) => m * power).find((candidate) => candidate >= rough);
  return Array.from({ length: Math.floor(most / step) + 1 }, (_, i) => i * step);
}

const legendOf = (names) =>
  names.map((name, i) => {
    const top = AREA.top + 8 + i * 16;
    const left = WIDTH - AREA.right - 178;
    return (
      `<rect x="${left}" y="${top - 8}" width="10" height="10" fill="${COLOURS[i % COLOURS.length]}"/>` +
      `<text x="${left + 16}" y="${top + 1}">${escapeText(name)}</text>`
    );
  });

/** A document with title, note, horizontal grid up to `most`, axes and whatever is drawn between them. */
function frame({ title, note, x, y, most }, content) {
  const base = HEIGHT - AREA.bottom;
  const right = WIDTH - AREA.right;
  const grid = linearTicks(most, 6).map(
    (value) =>
      `<line x1="${AREA.left}" x2="${right}" y1="${heightOf(value, most)}" y2="${heightOf(value, most)}" stroke="#e5e7eb"/>` +
      `<text x="${AREA.left - 8}" y="${heightOf(value, most) + 4}" text-anchor="end">${short(value)}</text>`,
  );
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" font-family="sans-serif" font-size="12" fill="#111827">
<rect width="${WIDTH}" height="${HEIGHT}" fill="white"/>
<text x="${AREA.left}" y="22" font-size="15" font-weight="bold">${escapeText(title)}</text>
<text x="${AREA.left}" y="37" font-size="10" fill="#6b7280">${escapeText(note)}</text>
${grid.join("\n")}
<line x1="${AREA.left}" x2="${right}" y1="${base}" y2="${base}" stroke="#111827"/>
<text x="${(AREA.left + right) / 2}" y="${HEIGHT - 18}" text-anchor="middle">${escapeText(x)}</text>
<text transform="translate(18 ${(AREA.top + base) / 2}) rotate(-90)" text-anchor="middle">${escapeText(y)}</text>
${content.join("\n")}
</svg>
`;
}

/** Where a value stands on the vertical axis. */
const heightOf = (value, most) => HEIGHT - AREA.bottom - (value / most) * (HEIGHT - AREA.top - AREA.bottom);
const centred = (x, y, text, size = 12) =>
  `<text x="${x.toFixed(1)}" y="${y.toFixed(1)}" text-anchor="middle" font-size="${size}">${escapeText(text)}</text>`;

/**
 * @param {{ title: string, x: string, y: string, note?: string, logX?: boolean,
 *   series: { name: string, points: [number, number][], dashed?: boolean }[] }} plot a dashed series is a limit
 * @returns {string} an SVG document
 */
export function linePlot({ title, x, y, note = "", logX = true, series }) {
  const points = series.flatMap((line) => line.points);
  const xs = [...new Set(points.map(([at]) => at))].sort((a, b) => a - b);
  const most = Math.max(...points.map(([, value]) => value)) * 1.05;
  const scale = logX ? Math.log : (value) => value;
  const span = scale(xs.at(-1)) - scale(xs[0]) || 1;
  const px = (value) => AREA.left + ((scale(value) - scale(xs[0])) / span) * (WIDTH - AREA.left - AREA.right);
  const marks = xs.map((value) => centred(px(value), HEIGHT - AREA.bottom + 18, short(value)));
  const lines = series.map(({ points, dashed }, i) => {
    const colour = COLOURS[i % COLOURS.length];
    const at = points.map(([x, y]) => [px(x).toFixed(1), heightOf(y, most).toFixed(1)]);
    const dots = dashed ? [] : at.map(([cx, cy]) => `<circle cx="${cx}" cy="${cy}" r="3" fill="${colour}"/>`);
    const dash = dashed ? ' stroke-dasharray="6 4"' : "";
    const path = at.map((pair) => pair.join(",")).join(" ");
    return `<polyline points="${path}" fill="none" stroke="${colour}" stroke-width="2"${dash}/>${dots.join("")}`;
  });
  return frame({ title, note, x, y, most }, [...marks, ...lines, ...legendOf(series.map(({ name }) => name))]);
}

/**
 * Groups of bars side by side, each with its value on top; a group may have a limit, drawn as a dashed line over it.
 * @param {{ title: string, y: string, note?: string, series: string[],
 *   groups: { name: string, bars: { value: number, label: string }[], limit?: number }[] }} plot `bars` in the order of
 *   `series`; a value of NaN leaves its place empty
 * @returns {string} an SVG document
 */
export function barPlot({ title, y, note = "", series, groups }) {
  const values = groups.flatMap(({ bars, limit }) => [...bars.map(({ value }) => value), limit ?? 0]);
  const most = Math.max(...values.filter(Number.isFinite)) * 1.1;
  const base = HEIGHT - AREA.bottom;
  const step = (WIDTH - AREA.left - AREA.right) / groups.length;
  const width = (step * 0.8) / series.length;
  const content = groups.flatMap(({ name, bars, limit }, g) => {
    const left = AREA.left + step * (g + 0.1);
    const drawn = bars.map(({ value, label }, i) => {
      if (!Number.isFinite(value)) return "";
      const top = heightOf(value, most);
      const at = left + width * i;
      const box = `x="${at.toFixed(1)}" y="${top.toFixed(1)}" width="${(width - 2).toFixed(1)}" height="${(base - top).toFixed(1)}"`;
      return `<rect ${box} fill="${COLOURS[i % COLOURS.length]}"/>${centred(at + width / 2 - 1, top - 4, label, 9)}`;
    });
    const line = limit === undefined ? "" : heightOf(limit, most).toFixed(1);
    const dashed = `<line x1="${left}" x2="${left + step * 0.8}" y1="${line}" y2="${line}" stroke="#111827" stroke-width="1.5" stroke-dasharray="5 3"/>`;
    return [...drawn, line === "" ? "" : dashed, centred(left + step * 0.4, base + 18, name)];
  });
  const legend = series.map((name, i) => {
    const [left, top] = [AREA.left + i * ((WIDTH - AREA.left - AREA.right) / series.length), HEIGHT - 18];
    return (
      `<rect x="${left}" y="${top - 9}" width="10" height="10" fill="${COLOURS[i % COLOURS.length]}"/>` +
      `<text x="${left + 16}" y="${top}">${escapeText(name)}</text>`
    );
  });
  return frame({ title, note, x: "", y, most }, [...content, ...legend]);
}
