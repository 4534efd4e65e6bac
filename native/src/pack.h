// Packed weights: GGUF and float matrices rearranged into blocks of 32 output channels, the file's own integers and
// scales kept bit for bit, but for sources that ask to be rotated and rounded to 8 bits (numerics fast). Repacking is a permutation; dequantising a packed weight gives the same f32 as
// dequantising the file's block (quant.h), which is the definition of exact.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

namespace sgl {

enum class GgmlType : int32_t {
  F32 = 0, F16 = 1, Q4_0 = 2, Q4_1 = 3, Q5_0 = 6, Q5_1 = 7, Q8_0 = 8, Q2_K = 10, Q3_K = 11, Q4_K = 12, Q5_K = 13, Q6_K = 14,
  IQ4_NL = 20, BF16 = 30,
  Rotated8 = 1000,  // of no file: packed_format.h
};

// One block: up to 32 consecutive output channels that share a format. Missing channels are zero.
struct PackedBlock {
  const uint8_t* data;   // 64-byte aligned
  int32_t format;        // PackedFormat of pack.cc
  int32_t channel;       // first output channel
  int32_t channels;      // 1..32
};

struct PackedMatrix {
  int rows = 0, columns = 0;           // output channels, K
  std::vector<PackedBlock> blocks;     // sources never share a block, so a source of 40 rows takes two
  uint8_t* storage = nullptr;          // huge-page friendly and owned, or mapped read-only
  size_t bytes = 0;
  bool owned = true;
  // Per block of Rotated8: sums of squares of the weights and of what rounding changed. Empty when nothing was rounded here.
  std::vector<double> squares, error_squares;
};

// A source: `rows` rows of the file, row i of the part being row order[i] (identity when null).
struct PackSource {
  const uint8_t* data;   // row 0
  GgmlType type;
  int rows;
  const int32_t* order;
  bool rotated = false;  // to Rotated8
};

// Bytes that were packed before: pack_blocks wrote them for the same columns, types and rows.
struct PackedBytes {
  const uint8_t* data;   // 64-byte aligned, outlives the matrix
  size_t bytes;
};

// Lays out blocks and allocates, or puts them over `stored` when that is not null. Returns null and sets *error when a
// type is unknown, columns do not fit its block, or `stored` has another size.
PackedMatrix* pack_prepare(int columns, const PackSource* sources, size_t count, const PackedBytes* stored, const char** error);
// Packs blocks [block0, block1); calls with disjoint ranges may run in parallel.
void pack_blocks(PackedMatrix& m, const PackSource* sources, size_t count, int block0, int block1);
// Relative root mean square error of what was rounded; 0 when nothing was.
double pack_error(const PackedMatrix& m);
void pack_free(PackedMatrix* m);
// Changes whenever packing writes other bytes for the same rows: the identity of the layout, of what is stored on disk.
uint64_t pack_layout_id();
// m.blocks, for code that must not instantiate a vector's members (target_region.h).
const PackedBlock* matrix_blocks(const PackedMatrix& m, int* count);

// quant.cc: exact dequantisation of one row of `columns` elements as it lies in the file.
size_t row_bytes(GgmlType type, int columns);      // 0 when columns do not fit the type's block or the type is unknown
void dequantize_row(GgmlType type, const uint8_t* src, float* dst, int columns);

}  // namespace sgl
