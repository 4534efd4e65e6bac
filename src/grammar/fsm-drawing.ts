/** Draws a compressed finite state machine as SVG without help from outside: columns by distance from the start. */
import type { CompressedFsm, FsmEdge } from "./compressed-fsm.js";

const COLUMN = 220;
const ROW = 90;
const MARGIN = 60;
const RADIUS = 20;
/** Longer labels are cut: the whole text is in the tooltip. */
const MAX_LABEL = 24;

interface Point {
  x: number;
  y: number;
}

export function fsmToSvg(fsm: CompressedFsm): string {
  const places = layout(fsm);
  const width = Math.max(...places.map(({ x }) => x)) + MARGIN * 2;
  const height = Math.max(...places.map(({ y }) => y)) + MARGIN * 2;
  const edges = fsm.states.flatMap((state) =>
    joinTargets(state.edges).map((edge) => drawEdge(edge, places[state.id], places[edge.to])),
  );
  const nodes = fsm.states.map(({ id, accepts, explored }) => {
    const { x, y } = places[id];
    const dash = explored ? "" : ' stroke-dasharray="4 3"';
    const inner = accepts ? `<circle cx="${x}" cy="${y}" r="${RADIUS - 4}" fill="none" stroke="#333"/>` : "";
    return (
      `<circle cx="${x}" cy="${y}" r="${RADIUS}" fill="#fff" stroke="#333"${dash}/>${inner}` +
      `<text x="${x}" y="${y + 4}" text-anchor="middle">${id}</text>`
    );
  });
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" font-family="monospace" font-size="12">`,
    '<defs><marker id="arrow" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" orient="auto"><path d="M0 0L10 5L0 10z" fill="#666"/></marker></defs>',
    ...edges,
    ...nodes,
    "</svg>",
  ].join("\n");
}

/** Column: steps from the start. Row: order of discovery in the column. */
function layout(fsm: CompressedFsm): Point[] {
  const depth = new Map([[0, 0]]);
  const queue = [0];
  for (const id of queue)
    for (const { to } of fsm.states[id].edges)
      if (!depth.has(to)) {
        depth.set(to, depth.get(id)! + 1);
        queue.push(to);
      }
  const used = new Map<number, number>();
  return fsm.states.map(({ id }) => {
    const column = depth.get(id) ?? 0;
    const row = used.get(column) ?? 0;
    used.set(column, row + 1);
    return { x: MARGIN + column * COLUMN, y: MARGIN + row * ROW };
  });
}

/** Edges between the same two states share one line. */
function joinTargets(edges: readonly FsmEdge[]): FsmEdge[] {
  const byTarget = new Map<number, FsmEdge>();
  for (const edge of edges) {
    const same = byTarget.get(edge.to);
    byTarget.set(
      edge.to,
      same ? { ...same, label: `${same.label} | ${edge.label}`, length: Math.max(same.length, edge.length) } : edge,
    );
  }
  return [...byTarget.values()];
}

function drawEdge({ label, length, to }: FsmEdge, from: Point, target: Point): string {
  const loop = from === target;
  const dx = target.x - from.x;
  const dy = target.y - from.y;
  const distance = Math.hypot(dx, dy) || 1;
  // Lines that go back or stay in a column are bent, so that they don't cover the way forward.
  const bend = dx > 0 ? 0 : 50;
  const middle = loop
    ? { x: from.x, y: from.y - 55 }
    : { x: from.x + dx / 2 - (dy / distance) * bend, y: from.y + dy / 2 + (dx / distance) * bend };
  const start = loop ? { x: from.x - 12, y: from.y - 16 } : toward(from, middle);
  const end = loop ? { x: from.x + 12, y: from.y - 16 } : toward(target, middle);
  const path = loop
    ? `M${start.x} ${start.y}C${from.x - 40} ${from.y - 70} ${from.x + 40} ${from.y - 70} ${end.x} ${end.y}`
    : `M${round(start.x)} ${round(start.y)}Q${round(middle.x)} ${round(middle.y)} ${round(end.x)} ${round(end.y)}`;
  const shown = label.length > MAX_LABEL ? `${label.slice(0, MAX_LABEL - 1)}…` : label;
  return (
    `<g><title>${escapeXml(`${label} -> ${to}`)}</title>` +
    `<path d="${path}" fill="none" stroke="#666" stroke-width="${length > 1 ? 2.5 : 1}" marker-end="url(#arrow)"/>` +
    `<text x="${round(middle.x)}" y="${round(middle.y - 5)}" text-anchor="middle" fill="#225">${escapeXml(shown)}</text></g>`
  );
}

function toward(from: Point, to: Point): Point {
  const distance = Math.hypot(to.x - from.x, to.y - from.y) || 1;
  return { x: from.x + ((to.x - from.x) * RADIUS) / distance, y: from.y + ((to.y - from.y) * RADIUS) / distance };
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}

function escapeXml(text: string): string {
  return text.replace(/[&<>"]/g, (char) => `&#${char.charCodeAt(0)};`);
}
