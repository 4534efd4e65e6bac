// The NEON tier: any AArch64 processor.
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "../kernel_table.h"
#include "../pack.h"
#include "../packed_format.h"
#include "../quant.h"
#include "../target_region.h"
#include "tiers.h"

#include <arm_neon.h>

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // a buffer of kv_write, filled for the head's values only
#endif

namespace sgl {
namespace {

#define SGL_TIER_NAME "neon"
#define SGL_NEON_DOTPROD 0
#include "vec_neon.inl"
// In this order: each builds on those before it.
#include "../ops/math.inl"
#include "../ops/unpack.inl"
#include "../ops/direct.inl"
#include "../ops/panel.inl"
#include "../ops/matmul.inl"
#include "dot_neon.inl"
#include "quantise_neon.inl"
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

const KernelTable* neon_table() { return &kTable; }

}  // namespace sgl
