// `npm run check:spills [-- FILE]`: vector registers that the hot loops of the built kernels keep on the stack.
//
// A compiler that runs out of registers, or keeps an array in the frame because an unrolled loop indexes it, makes a kernel
// half as fast and no test wrong. So the machine code is read: in every innermost loop of the functions below, instructions
// that move or use a vector in the frame are counted and held against a budget.
//
// Needs objdump (binutils); without it the check is skipped, and says so. FILE: another addon or object file.
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

const root = resolve(dirname(fileURLToPath(import.meta.url)), "..");

/** Files of native/src/tiers whose functions are looked at. The portable tier has no vector registers to run out of. */
const TIERS = /^(?!portable)\w+\.cc$/;
/** Functions with loops over all of a product, of the positions, of a row: where the time of a step goes. */
const HOT =
  /^(tile|direct|direct_scores|direct_sums|attention_tile|integer_tile|integer_direct|fill_panel|fill_integer_panel|quantise|quantise_rotated|rotate_blocks|rotated_lines|tile_steps|gated_act|rms_norm|row_max|exp_sum|checked_copy)\b/;
/**
 * Vectors in the frame that an innermost loop may touch. The first entry that fits a function decides; what it is for stands
 * beside it. Everything else: none.
 */
export const BUDGETS = [
  // Two tables, planes of high bits and the sums of up to eight rows: the frame holds what is read once per step.
  { file: /^avx512/, name: /^direct</, most: 20 },
  { file: /^avx512/, name: /^integer_direct<1/, most: 3 },
  { file: /^avx512/, name: /^attention_tile/, most: 2 },
  { file: /^avx512vnni/, name: /^integer_tile<1/, most: 8 },
  // Half the registers of AVX-512, and each vector of 16 takes two.
  { file: /^avx/, name: /^direct</, most: 40 },
  { file: /^avx/, name: /^(direct_s(cores|ums)|fill_panel)/, most: 2 },
  { file: /^avx/, name: /^attention_tile/, most: 23 },
  { file: /^avx/, name: /^exp_sum/, most: 6 },
  { file: /^avx/, name: /^(gated_act|fill_integer_panel)/, most: 1 },
  { file: /^avx/, name: /^integer_direct<1/, most: 14 },
  { file: /^avx/, name: /^integer_direct<2/, most: 8 },
  // Signs and magnitudes of weights beside the sums of four lines: three lines at a time would read all weights more often.
  { file: /^avx2/, name: /^rotated_lines/, most: 9 },
  { file: /^avxvnni/, name: /^integer_tile<1/, most: 57 },
];

/**
 * Innermost loops of a function and what they do with the frame.
 * @param instructions [address, text] in order of address
 * @returns of the innermost loop that is worst: its instructions, and those of them that touch a vector in the frame; null
 *   when there is no loop
 */
export function worstLoop(instructions) {
  const first = instructions[0][0];
  // A frame that is aligned is addressed from rbp, or x29; elsewhere rbp is a register like any other.
  const hasFrame = instructions.some(([, text]) => /^mov\s+%rsp,%rbp$|^mov\s+x29, sp$/.test(text));
  const frame = hasFrame ? /\(%r[sb]p[),]|\[sp\b|\[x29\b/ : /\(%rsp[),]|\[sp\b/;
  const vector = /%[xyz]mm\d|\b[qv]\d+\b/;
  const loops = [];
  for (const [at, text] of instructions) {
    const target = /^(?:j\w+|b(?:\.\w+)?|cbn?z\s+\w+,|tbn?z\s+\w+, #\d+,)\s+(?:0x)?([0-9a-f]+)\s/.exec(`${text} `);
    const to = target === null ? Number.NaN : Number.parseInt(target[1], 16);
    if (to >= first && to <= at) loops.push([to, at]);
  }
  const inner = loops.filter(([from, to]) => !loops.some(([a, b]) => (a !== from || b !== to) && a >= from && b <= to));
  const counts = inner.map(([from, to]) => {
    const body = instructions.filter(([at]) => at >= from && at <= to).map(([, text]) => text);
    return { size: body.length, found: body.filter((text) => vector.test(text) && frame.test(text)).length };
  });
  return counts.sort((a, b) => b.found - a.found)[0] ?? null;
}

/** Functions of a file's machine code by the source file they came from: [{ file, name, instructions }]. */
export function functionsOf(symbols, disassembly) {
  // Local symbols stand after the name of their file.
  const files = new Map();
  let file = "";
  for (const line of symbols.split("\n")) {
    const source = /^\S+\s+l\s+df\s+\*ABS\*\s+\S+\s+(\S.*)$/.exec(line);
    if (source !== null) file = source[1];
    const local = /^([0-9a-f]+)\s+l\s+F\s+\.text\S*\s+[0-9a-f]+\s+/.exec(line);
    if (local !== null) files.set(Number.parseInt(local[1], 16), file);
  }
  const functions = [];
  let current = null;
  for (const line of disassembly.split("\n")) {
    const head = /^([0-9a-f]+) <(.*)>:$/.exec(line);
    if (head !== null) {
      const address = Number.parseInt(head[1], 16);
      current = { file: files.get(address) ?? "", name: head[2], instructions: [] };
      functions.push(current);
      continue;
    }
    const instruction = /^\s*([0-9a-f]+):\s+(.*\S)/.exec(line);
    if (instruction !== null) current?.instructions.push([Number.parseInt(instruction[1], 16), instruction[2]]);
  }
  return functions.filter(({ instructions }) => instructions.length > 0);
}

/** Without arguments and namespaces: `tile<6, 2>`. */
function shortName(name) {
  // Names that are too long for objdump stay mangled: the function, and its numbers in order.
  const mangled = /^_ZN3sgl12_GLOBAL__N_1L?\d+([a-z_]+)I/.exec(name);
  if (mangled !== null)
    return `${mangled[1]}<${Array.from(name.matchAll(/L(?:NS_\w*?|i)E?(\d+)E/g), (m) => m[1])
      .slice(0, 2)
      .join(", ")}>`;
  return name
    .replaceAll("(anonymous namespace)", "")
    .replace(/\(sgl::\w+\)/g, "")
    .replace(/\(.*$/, "")
    .replaceAll(/sgl::|::/g, "")
    .replace(/^(?:void|bool|float|double|int) /, "");
}

function objdump(...args) {
  const done = spawnSync("objdump", args, { encoding: "utf8", maxBuffer: 1 << 30 });
  if (done.error?.code === "ENOENT") return null;
  if (done.status !== 0) throw new Error(`objdump ${args.join(" ")} failed: ${done.stderr || done.error}`);
  return done.stdout;
}

/**
 * What the budgets were counted with: another compiler has other habits. (What clang makes names g++ as well, of which the
 * start-up files are.)
 */
export const BUDGETS_OF = /^(?!.*clang).*GCC: \(.*\) ?12\./s;

/** Compilers that a file names in its comments; null without objdump. */
export function compilersOf(path) {
  const dump = objdump("-s", "-j", ".comment", path);
  // Hex on the left, text on the right, sixteen bytes a line.
  const text = dump?.split("\n").map((line) => /^ [0-9a-f]+ .{36} {1,2}(.*)$/.exec(line)?.[1] ?? "");
  return text === undefined
    ? null
    : text
        .join("")
        .replace(/\.(?=GCC|clang|$)/g, "\n")
        .trim();
}

/**
 * Hot functions of a built addon: those over their budget first. null without objdump.
 * @throws Error when there is no such file, or none of its functions is known
 */
export function hotFunctions(path) {
  if (!existsSync(path)) throw new Error(`There is no ${path}: build the addon first (npm run build:native).`);
  const symbols = objdump("-t", "-C", path);
  if (symbols === null) return null;
  const looked = functionsOf(symbols, objdump("-d", "-C", "--no-show-raw-insn", path))
    .filter(({ file, name }) => TIERS.test(file) && HOT.test(shortName(name)))
    .map(({ file, name, instructions }) => ({ file, name: shortName(name), ...worstLoop(instructions) }))
    .filter(({ found }) => found !== undefined)
    .map((entry) => ({
      ...entry,
      budget: BUDGETS.find((b) => b.file.test(entry.file) && b.name.test(entry.name))?.most ?? 0,
    }));
  if (looked.length === 0)
    throw new Error(`${path} holds no function of a kernel: it has no symbols, or kernels have other names now (HOT).`);
  return looked.sort((a, b) => b.found - b.budget - (a.found - a.budget));
}

function main(path) {
  const looked = hotFunctions(path);
  if (looked === null) {
    console.log("check:spills skipped: objdump was not found (Debian, Fedora, Alpine: package binutils).");
    return 0;
  }
  const over = looked.filter(({ found, budget }) => found > budget);
  for (const { file, name, found, size, budget } of over)
    console.error(
      `${file} ${name}: ${found} of ${size} instructions of an innermost loop touch a vector in the frame; budget ${budget}`,
    );
  for (const tier of [...new Set(looked.map(({ file }) => file))]) {
    const of = looked.filter(({ file }) => file === tier);
    console.log(
      `${tier}: ${of.length} hot functions, ${of.filter(({ found }) => found > 0).length} with vectors in the frame of an innermost loop`,
    );
  }
  const compilers = compilersOf(path);
  if (!BUDGETS_OF.test(compilers)) {
    console.log(`check:spills skipped: the budgets are g++ 12's, this was built with ${compilers}.`);
    return 0;
  }
  console.log(over.length === 0 ? "check:spills: all within budget" : `check:spills: ${over.length} over budget`);
  return over.length === 0 ? 0 : 1;
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href)
  process.exit(main(process.argv[2] ?? join(root, "native/build/Release/sglang.node")));
