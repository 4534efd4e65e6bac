// The AMX tier: the AVX-512 VNNI tier, but for products of 8-bit integers and of rotated rows with many rows, which tiles take. Nobody has run it on a
// processor with AMX yet: it is tested through the emulation in tile_amx.h.
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
void matmul_quantised(const PackedMatrix& w, int block0, int block1, const QuantisedRows& rows, int m, const float* bias, float* y, size_t y_stride,
                      uint8_t* scratch);
void matmul_rotated_tiles(const PackedMatrix& w, int block0, int block1, const QuantisedRows& rows, int m, const float* bias, float* y, size_t y_stride,
                          uint8_t* scratch);
int matmul_passes(const PackedMatrix& w, Precision precision, int m);

}  // namespace

// Before the region: it is called on every processor.
const KernelTable* amx_table() {
  static const KernelTable table = [] {
    KernelTable t = base();
    t.name = "amx";
    t.matmul_quantised = matmul_quantised;
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

#define SGL_AMX  // panels are used by tiles_amx.inl
#include "vec_avx512.inl"
// In this order: each builds on those before it.
#include "../ops/math.inl"
#include "../ops/unpack.inl"
#include "../ops/direct.inl"
#include "dot_avx512vnni.inl"
#include "../ops/integer.inl"
#include "../ops/integer_panel.inl"
#include "../ops/rotated_args.inl"
#include "rotated_amx.inl"

constexpr int kTileLeast = 13;  // rows for which a panel and tiles beat registers

/// Both ways give the same bits, so the number of rows may choose.
void matmul_quantised(const PackedMatrix& w, int block0, int block1, const QuantisedRows& rows, int m, const float* bias, float* y,
                             size_t y_stride, uint8_t* scratch) {
  if (rows.precision != Precision::s8 || m < kTileLeast) return base().matmul_quantised(w, block0, block1, rows, m, bias, y, y_stride, scratch);
  const IntegerArgs args = {&w, &rows, m, bias, y, y_stride, scratch};
  int all;
  const PackedBlock* blocks = matrix_blocks(w, &all);
  for (int b = block0; b < block1;) {
    const int end = run_end(blocks, b, block1);
    switch ((PackedFormat)blocks[b].format) {
#define SGL_CASE(F) \
  case PackedFormat::F: integer_panel_rows<Precision::s8, PackedFormat::F>(args, blocks + b, end - b); break;
      SGL_CASE(Q4_0) SGL_CASE(Q4_1) SGL_CASE(Q5_0) SGL_CASE(Q5_1) SGL_CASE(Q8_0) SGL_CASE(Q2_K) SGL_CASE(Q3_K) SGL_CASE(Q4_K) SGL_CASE(Q5_K)
      SGL_CASE(Q6_K) SGL_CASE(IQ4_NL)
#undef SGL_CASE
      case PackedFormat::Rotated8: break;  // has products of its own
      case PackedFormat::F32:
      case PackedFormat::F16:
      case PackedFormat::BF16: base().matmul(w, b, end, rows.x, rows.x_stride, m, bias, y, y_stride, scratch); break;
    }
    b = end;
  }
}

}  // namespace

}  // namespace sgl

SGL_END_REGION
#else
namespace sgl {
const KernelTable* amx_table() { return nullptr; }
}  // namespace sgl
#endif
