// The AVX2 tier: x86-64 with AVX2, FMA and F16C.
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "../kernel_table.h"
#include "../pack.h"
#include "../packed_format.h"
#include "../quant.h"
#include "../target_region.h"
#include "tiers.h"

#include <immintrin.h>

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wuninitialized"  // _mm512_undefined_ps in the compiler's own header
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

SGL_AVX2_REGION

namespace sgl {
namespace {

#define SGL_TIER_NAME "avx2"
#include "vec_avx2.inl"
// In this order: each builds on those before it.
#include "../ops/math.inl"
#include "../ops/unpack.inl"
#include "../ops/direct.inl"
#include "../ops/panel.inl"
#include "../ops/matmul.inl"
#include "dot_avx2.inl"
#include "quantise_x86.inl"
#include "quantise_single.inl"
#include "../ops/quantise.inl"
#include "../ops/integer.inl"
#include "../ops/integer_direct.inl"
#include "../ops/integer_panel.inl"
#include "../ops/integer_matmul.inl"
#include "../ops/rotate.inl"
#include "../ops/rotated_args.inl"
#include "../ops/rotated.inl"
#include "../ops/attention.inl"
#include "../ops/rows.inl"
#include "../ops/table.inl"

}  // namespace

const KernelTable* avx2_table() { return &kTable; }

}  // namespace sgl

SGL_END_REGION
