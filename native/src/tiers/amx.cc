// The AMX tier: the AVX-512 VNNI tier, but for products of rotated rows, which tiles take. Those of groups of 16 or 32 stay where
// they are: tiles would have to be stored and folded after each group (decision 19).
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "../kernel_table.h"
#include "../pack.h"
#include "../packed_format.h"
#include "../quant.h"
#include "../target_region.h"
#include "../tile_amx.h"
#include "tiers.h"

#if defined(SGL_HAS_TILES)
#include <immintrin.h>

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wuninitialized"  // _mm512_undefined_ps in the compiler's own header
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

namespace sgl {
namespace {

const KernelTable& base() { return *avx512vnni_table(); }
void matmul_rotated_tiles(const PackedMatrix& w, int block0, int block1, const QuantisedRows& rows, int m, const float* bias, float* y, size_t y_stride,
                          uint8_t* scratch);
int matmul_passes(const PackedMatrix& w, Precision precision, int m);

}  // namespace

// Before the region: it is called on every processor.
const KernelTable* amx_table() {
  static const KernelTable table = [] {
    KernelTable t = base();
    t.name = "amx";
    t.matmul_rotated = matmul_rotated_tiles;
    t.matmul_passes = matmul_passes;
    return t;
  }();
  return &table;
}

}  // namespace sgl

SGL_AVX512VNNI_REGION

namespace sgl {
namespace {

#include "vec_avx512.inl"
// In this order: each builds on those before it.
#include "../ops/math.inl"
#include "../ops/unpack.inl"
#include "../ops/direct.inl"
#include "../ops/rotated_args.inl"
#include "rotated_amx.inl"

}  // namespace

}  // namespace sgl

SGL_END_REGION
#else
namespace sgl {
const KernelTable* amx_table() { return nullptr; }
}  // namespace sgl
#endif
