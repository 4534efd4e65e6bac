/** Reading machine code for vectors that kernels keep on the stack, and the kernels that were built. */
import { describe, expect, test } from "vitest";
import { BUDGETS_OF, compilersOf, functionsOf, hotFunctions, worstLoop } from "../../scripts/check-spills.mjs";
import { addonPath } from "../../src/native/load.js";

const SYMBOLS = `
0000000000000000 l    df *ABS*	0000000000000000 avx512.cc
0000000000001000 l     F .text	0000000000000040 tile<2, 1>
0000000000000000 l    df *ABS*	0000000000000000 avx2.cc
0000000000002000 l     F .text	0000000000000040 tile<2, 1>
`;
const CODE = `
0000000000001000 <tile<2, 1>>:
    1000:	push   %rbp
    1001:	vmovaps %zmm0,0x40(%rsp)
    1008:	vfmadd231ps (%rax),%zmm1,%zmm2
    100c:	vmovaps 0x40(%rsp),%zmm3
    1010:	mov    0x10(%rsp),%rax
    1014:	vmovups (%rbp),%zmm4
    1018:	jne    1008 <tile<2, 1>+0x8>
    101c:	vmovaps %zmm3,(%rsp)
    1020:	jne    1000 <tile<2, 1>>
    1024:	ret

0000000000002000 <tile<2, 1>>:
    2000:	push   %rbp
    2001:	mov    %rsp,%rbp
    2004:	vmovups -0x20(%rbp),%ymm4
    2008:	jb     2004 <tile<2, 1>+0x4>
    200c:	ret

0000000000003000 <straight>:
    3000:	vmovaps %zmm0,(%rsp)
    3004:	ret
`;

describe("check:spills", () => {
  const [first, second, third] = functionsOf(SYMBOLS, CODE);

  test("knows which file a function came from", () => {
    expect([first, second, third].map(({ file, name }) => [file, name])).toEqual([
      ["avx512.cc", "tile<2, 1>"],
      ["avx2.cc", "tile<2, 1>"],
      ["", "straight"],
    ]);
  });

  test("counts vectors in the frame inside innermost loops only, and rbp only where it is the frame", () => {
    expect(worstLoop(first.instructions)).toEqual({ size: 5, found: 1 });
    expect(worstLoop(second.instructions)).toEqual({ size: 2, found: 1 });
    expect(worstLoop(third.instructions)).toBeNull();
  });

  test("the hot loops of every tier that was built are within their budgets", { timeout: 120_000 }, (context) => {
    if (process.env.SGLANG_ADDON !== undefined) context.skip("an instrumented addon keeps everything in the frame");
    const looked = hotFunctions(addonPath({}));
    if (looked === null) return context.skip("objdump was not found (package binutils)");
    const compilers = compilersOf(addonPath({})) ?? "";
    if (!BUDGETS_OF.test(compilers)) context.skip(`budgets are those of g++ 12, this was built with ${compilers}`);
    expect(looked.filter(({ found, budget }) => found > budget)).toEqual([]);
    expect(new Set(looked.map(({ file }) => file)).size).toBeGreaterThanOrEqual(1);
  });
});
