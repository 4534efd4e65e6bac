// The AVX-VNNI tier: the AVX2 tier with four products of 8-bit integers per instruction.
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "../kernel_table.h"
#include "../pack.h"
#include "../packed_format.h"
#include "../quant.h"
#include "../target_region.h"
#include "tiers.h"

// Older compilers and their assemblers do not know the instructions.
#if defined(__clang__) ? __clang_major__ >= 12 : __GNUC__ >= 11
#include <immintrin.h>

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wuninitialized"  // _mm512_undefined_ps in the compiler's own header
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

SGL_AVXVNNI_REGION

namespace sgl {
namespace {

#define SGL_TIER_NAME "avx-vnni"
#include "vec_avx2.inl"
// In this order: each builds on those before it.
#include "../ops/math.inl"
#include "../ops/unpack.inl"
#include "../ops/direct.inl"
#include "../ops/panel.inl"
#include "../ops/matmul.inl"
#include "dot_avxvnni.inl"
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

const KernelTable* avxvnni_table() { return &kTable; }

}  // namespace sgl

SGL_END_REGION
#else
namespace sgl {
const KernelTable* avxvnni_table() { return nullptr; }
}  // namespace sgl
#endif
