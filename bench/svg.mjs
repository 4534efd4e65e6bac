// Plots as SVG, without a library: lines over a logarithmic or a linear axis, and a legend. Small on purpose.

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
  const py = (value) => HEIGHT - AREA.bottom - (value / most) * (HEIGHT - AREA.top - AREA.bottom);
  const right = WIDTH - AREA.right;
  const base = HEIGHT - AREA.bottom;
  const grid = linearTicks(most, 6).map(
    (value) =>
      `<line x1="${AREA.left}" x2="${right}" y1="${py(value)}" y2="${py(value)}" stroke="#e5e7eb"/>` +
      `<text x="${AREA.left - 8}" y="${py(value) + 4}" text-anchor="end">${short(value)}</text>`,
  );
  const marks = xs.map(
    (value) => `<text x="${px(value)}" y="${base + 18}" text-anchor="middle">${short(value)}</text>`,
  );
  const lines = series.map(({ points, dashed }, i) => {
    const colour = COLOURS[i % COLOURS.length];
    const path = points.map(([at, value]) => `${px(at).toFixed(1)},${py(value).toFixed(1)}`).join(" ");
    const dots = dashed
      ? []
      : points.map(
          ([at, value]) => `<circle cx="${px(at).toFixed(1)}" cy="${py(value).toFixed(1)}" r="3" fill="${colour}"/>`,
        );
    const dash = dashed ? ' stroke-dasharray="6 4"' : "";
    return `<polyline points="${path}" fill="none" stroke="${colour}" stroke-width="2"${dash}/>${dots.join("")}`;
  });
  const legend = series.map(({ name }, i) => {
    const top = AREA.top + 8 + i * 16;
    return (
      `<rect x="${right - 178}" y="${top - 8}" width="10" height="10" fill="${COLOURS[i % COLOURS.length]}"/>` +
      `<text x="${right - 162}" y="${top + 1}">${escapeText(name)}</text>`
    );
  });
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" font-family="sans-serif" font-size="12" fill="#111827">
<rect width="${WIDTH}" height="${HEIGHT}" fill="white"/>
<text x="${AREA.left}" y="22" font-size="15" font-weight="bold">${escapeText(title)}</text>
<text x="${AREA.left}" y="37" font-size="10" fill="#6b7280">${escapeText(note)}</text>
${grid.join("\n")}
${marks.join("\n")}
<line x1="${AREA.left}" x2="${right}" y1="${base}" y2="${base}" stroke="#111827"/>
<text x="${(AREA.left + right) / 2}" y="${HEIGHT - 18}" text-anchor="middle">${escapeText(x)}</text>
<text transform="translate(18 ${(AREA.top + base) / 2}) rotate(-90)" text-anchor="middle">${escapeText(y)}</text>
${lines.join("\n")}
${legend.join("\n")}
</svg>
`;
}
