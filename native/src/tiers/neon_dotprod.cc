// The NEON tier with the dot products of Armv8.2: sdot.
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "../kernel_table.h"
#include "../pack.h"
#include "../packed_format.h"
#include "../quant.h"
#include "../target_region.h"
#include "tiers.h"

#if defined(SGL_DOTPROD_REGION)
#include <arm_neon.h>

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // a buffer of kv_write, filled for the head's values only
#endif

SGL_DOTPROD_REGION

namespace sgl {
namespace {

#define SGL_TIER_NAME "neon-dotprod"
#define SGL_NEON_DOTPROD 1
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

const KernelTable* neon_dotprod_table() { return &kTable; }

}  // namespace sgl

SGL_END_REGION
#else
namespace sgl {
const KernelTable* neon_dotprod_table() { return nullptr; }
}  // namespace sgl
#endif
