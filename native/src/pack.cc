// Rearranges file rows into packed blocks (packed_format.h). A permutation of bits: nothing is rounded, but in Rotated8.
#include "pack.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <new>

#include "checksum.h"
#include "packed_format.h"
#include "quant.h"
#include "rotation.h"

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace sgl {
namespace {

constexpr size_t kHugePage = (size_t)2 << 20;

// Large matrices start on a huge page: decode streams them, and 4 KiB pages would cost a TLB miss every 64 lines.
uint8_t* allocate(size_t bytes) {
  const size_t align = bytes >= 2 * kHugePage ? kHugePage : 4096;
  void* p = nullptr;
  if (posix_memalign(&p, align, bytes) != 0) return nullptr;
#ifdef __linux__
  if (align == kHugePage) madvise(p, bytes / kHugePage * kHugePage, MADV_HUGEPAGE);
#endif
  return (uint8_t*)p;
}

// One channel's 64 codes into lane `channel` of a step. `half` = only the first 32 exist.
void put_codes(const PackedLayout& layout, uint8_t* step, int channel, const uint8_t* code, bool half) {
  const int tile = channel / 16, lane = channel % 16, rows = half ? 8 : 16;
  if (layout.code_bits == 8) {
    uint8_t* out = step + tile * 1024 + lane * 4;
    for (int r = 0; r < rows; r++) memcpy(out + r * 64, code + r * 4, 4);
    return;
  }
  uint8_t merged[32];
  for (int j = 0; j < 32; j++) merged[j] = (uint8_t)((code[j] & 15) | (half ? 0 : (code[j + 32] & 15) << 4));
  uint8_t* out = step + tile * 512 + lane * 4;
  for (int r = 0; r < 8; r++) memcpy(out + r * 64, merged + r * 4, 4);
  for (int h = 0; h < (half ? 1 : 2) && layout.high_bits != 0; h++) {
    uint32_t plane[2] = {0, 0};
    for (int r = 0; r < 8; r++) {
      uint32_t quad;
      memcpy(&quad, code + h * 32 + r * 4, 4);  // little endian: byte j is k = 4r + j
      if (layout.high_bits == 1)
        plane[0] |= ((quad >> 4) & 0x01010101u) << r;
      else
        plane[r / 4] |= ((quad >> 4) & 0x03030303u) << (2 * (r % 4));
    }
    uint8_t* high = step + layout.code_bytes() + (tile * 2 + h) * 64 * layout.high_bits + lane * 4;
    for (int i = 0; i < layout.high_bits; i++) memcpy(high + i * 64, &plane[i], 4);
  }
}

// Scales of a 32-element block, for half h of its step.
void put_scales32(const PackedLayout& layout, uint8_t* step, int channel, int h, const uint8_t* block) {
  uint8_t* s = step + layout.scale_offset() + h * (layout.scale_bytes() / 2) + channel * 2;
  memcpy(s, block, 2);
  if (layout.scale == Scale::DM) memcpy(s + 64, block + 2, 2);
}

// Scales of a 256-element block: the unit's head and those of its four steps.
void put_scales256(GgmlType type, const PackedLayout& layout, uint8_t* unit, int channel, const uint8_t* block) {
  uint8_t scale[16], minimum[8] = {0};
  int d_offset = 0, min_offset = -1;
  if (type == GgmlType::Q6_K) {
    memcpy(scale, block + 192, 16);
    d_offset = 208;
  } else if (type == GgmlType::Q3_K) {
    q3_scales(block + 96, (int8_t*)scale);
    d_offset = 108;
  } else if (type == GgmlType::Q2_K) {
    memcpy(scale, block, 16);
    d_offset = 80;
    min_offset = 82;
  } else {
    k_scales(block + 4, scale, minimum);
    min_offset = 2;
  }
  memcpy(unit + channel * 2, block + d_offset, 2);
  if (min_offset >= 0) memcpy(unit + 64 + channel * 2, block + min_offset, 2);
  for (int s = 0; s < 4; s++) {
    uint8_t* out = unit + layout.step_offset(s) + layout.scale_offset() + channel;
    if (layout.scale == Scale::K45) {
      for (int h = 0; h < 2; h++) {
        out[h * 64] = scale[s * 2 + h];
        out[h * 64 + 32] = minimum[s * 2 + h];
      }
    } else {
      for (int i = 0; i < 4; i++) out[i * 32] = scale[s * 4 + i];
    }
  }
}

void pack_quantised(GgmlType type, int columns, const uint8_t* const* rows, int channels, uint8_t* out) {
  const PackedLayout layout = packed_layout(type);
  const BlockShape shape = block_shape(type);
  alignas(64) uint8_t code[256];
  if (shape.elements == 256) {
    for (int k = 0; k < columns; k += 256)
      for (int c = 0; c < channels; c++) {
        const uint8_t* block = rows[c] + (size_t)(k / 256) * shape.bytes;
        uint8_t* unit = out + layout.unit_offset(k / 64);
        block_codes(type, block, code);
        for (int s = 0; s < 4; s++) put_codes(layout, unit + layout.step_offset(s), c, code + s * 64, false);
        put_scales256(type, layout, unit, c, block);
      }
    return;
  }
  for (int k = 0; k < columns; k += 64) {
    const bool half = columns - k < 64;
    uint8_t* step = out + layout.step_offset(k / 64);
    for (int c = 0; c < channels; c++) {
      const uint8_t* block = rows[c] + (size_t)(k / 32) * shape.bytes;
      for (int h = 0; h < (half ? 1 : 2); h++) {
        block_codes(type, block + h * shape.bytes, code + h * 32);
        put_scales32(layout, step, c, h, block + h * shape.bytes);
      }
      put_codes(layout, step, c, code, half);
    }
  }
}

template <class T>
void pack_floats(int columns, const uint8_t* const* rows, int channels, uint8_t* out) {
  constexpr int kSpan = 64;  // columns at a time, so that the written lines stay in L1
  for (int k0 = 0; k0 < columns; k0 += kSpan)
    for (int c = 0; c < channels; c++)
      for (int k = k0; k < k0 + kSpan && k < columns; k++)
        memcpy(out + ((size_t)k * 32 + c) * sizeof(T), rows[c] + (size_t)k * sizeof(T), sizeof(T));
}

// Rows of any type: dequantised, rotated and rounded. Squares are sums over the rows.
void pack_rotated(GgmlType type, int columns, const uint8_t* const* rows, int channels, uint8_t* out, double* squares, double* error_squares) {
  const PackedLayout layout = packed_layout(PackedFormat::Rotated8);
  const int padded = rotated_columns(columns), size = rotation_size(columns);
  std::vector<float> row((size_t)padded);
  std::vector<uint8_t> code((size_t)padded, (uint8_t)layout.zero);
  float scales[32] = {};
  *squares = *error_squares = 0;
  for (int c = 0; c < channels; c++) {
    dequantize_row(type, rows[c], row.data(), columns);
    for (int k = 0; k < columns; k += size) rotate_block(row.data() + k, size);
    uint32_t bits = 0;  // so that NaN beats infinity beats every number
    for (int k = 0; k < columns; k++) bits = std::max(bits, f32_to_bits(row[(size_t)k]) & 0x7fffffff);
    const float largest = bits_to_f32(bits);
    const float step = largest / 127.0f, inverse = largest < 1e-30f ? 0.0f : 127.0f / largest;
    double sum = 0, error = 0;
    for (int k = 0; k < columns; k++) {
      const float x = row[(size_t)k], rounded = (x * inverse + 12582912.0f) - 12582912.0f;  // to nearest even
      const double left = (double)x - (double)rounded * step;
      sum += (double)x * x;
      error += left * left;
      code[(size_t)k] = std::isfinite(rounded) ? (uint8_t)(int)(rounded + (float)layout.zero) : (uint8_t)layout.zero;
    }
    *squares += sum / size;
    *error_squares += error / size;
    scales[c] = step / (float)size;  // exact
    for (int s = 0; s < padded / 64; s++) put_codes(layout, out + rotated_step(s), c, code.data() + s * 64, false);
  }
  memcpy(out, scales, sizeof scales);
}

PackedFormat format_of(const PackSource& s) { return s.rotated ? PackedFormat::Rotated8 : s.type; }

}  // namespace

PackedMatrix* pack_prepare(int columns, const PackSource* sources, size_t count, const PackedBytes* stored, const char** error) {
  *error = nullptr;
  if (columns <= 0) *error = "a packed matrix needs at least one column";
  if (count == 0) *error = "a packed matrix needs at least one source";
  size_t total = 0;
  int64_t rows = 0;
  for (size_t i = 0; i < count && *error == nullptr; i++) {
    const PackSource& s = sources[i];
    if (s.rows <= 0)
      *error = "every source of a packed matrix needs at least one row";
    else if (block_shape(s.type).elements == 0)
      *error = "unknown element type in a packed matrix";
    else if (row_bytes(s.type, columns) == 0)
      *error = "the columns of a packed matrix must be a multiple of its type's block";
    else if (s.rotated && columns > kRotatedColumns)
      *error = "a rotated matrix may have at most 131072 columns";
    rows += s.rows;
    if (rows > INT32_MAX) *error = "a packed matrix has too many rows";
    if (*error == nullptr) total += (size_t)((s.rows + 31) / 32) * block_bytes(format_of(s), columns);
  }
  if (*error == nullptr && stored != nullptr && stored->bytes != total) *error = "the stored bytes are not those of this packed matrix";
  if (*error == nullptr && stored != nullptr && (uintptr_t)stored->data % 64 != 0) *error = "the stored bytes are not aligned to 64";
  if (*error != nullptr) return nullptr;
  PackedMatrix* m = new (std::nothrow) PackedMatrix;
  uint8_t* storage = m == nullptr ? nullptr : stored != nullptr ? const_cast<uint8_t*>(stored->data) : allocate(total);
  if (storage == nullptr) {
    delete m;
    *error = "out of memory for a packed matrix";
    return nullptr;
  }
  m->rows = (int)rows;
  m->columns = columns;
  m->storage = storage;
  m->bytes = total;
  m->owned = stored == nullptr;
  int channel = 0;
  for (size_t i = 0; i < count; i++) {
    const PackSource& s = sources[i];
    const size_t bytes = block_bytes(format_of(s), columns);
    for (int r = 0; r < s.rows; r += 32, storage += bytes)
      m->blocks.push_back({storage, (int32_t)format_of(s), channel + r, s.rows - r < 32 ? s.rows - r : 32});
    channel += s.rows;
  }
  if (m->owned) {
    m->squares.resize(m->blocks.size());
    m->error_squares.resize(m->blocks.size());
  }
  return m;
}

void pack_blocks(PackedMatrix& m, const PackSource* sources, size_t count, int block0, int block1) {
  int first = 0, channel = 0;  // of the source at hand
  size_t at = 0;
  for (int b = block0; b < block1; b++) {
    const PackedBlock& block = m.blocks[(size_t)b];
    while (at < count && b >= first + (sources[at].rows + 31) / 32) {
      first += (sources[at].rows + 31) / 32;
      channel += sources[at++].rows;
    }
    const PackSource& s = sources[at];
    const size_t stride = row_bytes(s.type, m.columns);
    const uint8_t* rows[32];
    for (int c = 0; c < block.channels; c++) {
      const int r = block.channel - channel + c;
      rows[c] = s.data + (size_t)(s.order != nullptr ? s.order[r] : r) * stride;
    }
    const PackedLayout layout = packed_layout(format_of(s));
    uint8_t* out = m.storage + (block.data - m.storage);
    if (block.channels < 32 || m.columns % 64 != 0) memset(out, 0, block_bytes(format_of(s), m.columns));
    if (s.rotated)
      pack_rotated(s.type, m.columns, rows, block.channels, out, &m.squares[(size_t)b], &m.error_squares[(size_t)b]);
    else if (layout.quantised)
      pack_quantised(s.type, m.columns, rows, block.channels, out);
    else if (s.type == GgmlType::F32)
      pack_floats<uint32_t>(m.columns, rows, block.channels, out);
    else
      pack_floats<uint16_t>(m.columns, rows, block.channels, out);
  }
}

const PackedBlock* matrix_blocks(const PackedMatrix& m, int* count) {
  *count = (int)m.blocks.size();
  return m.blocks.data();
}

double pack_error(const PackedMatrix& m) {
  double squares = 0, error_squares = 0;
  for (size_t b = 0; b < m.squares.size(); b++) {
    squares += m.squares[b];
    error_squares += m.error_squares[b];
  }
  return squares == 0 ? 0 : std::sqrt(error_squares / squares);
}

void pack_free(PackedMatrix* m) {
  if (m == nullptr) return;
  if (m->owned) free(m->storage);
  delete m;
}

uint64_t pack_layout_id() {
  constexpr int kRows = 33, kColumns = 512;  // two blocks, the second partly filled
  constexpr GgmlType kTypes[] = {GgmlType::F32,  GgmlType::F16,  GgmlType::BF16, GgmlType::Q4_0, GgmlType::Q4_1, GgmlType::Q5_0, GgmlType::Q5_1,
                                 GgmlType::Q8_0, GgmlType::Q2_K, GgmlType::Q3_K, GgmlType::Q4_K, GgmlType::Q5_K, GgmlType::Q6_K, GgmlType::IQ4_NL};
  std::vector<uint64_t> ids;
  const auto take = [&](const PackSource& source, int columns) {
    const char* error = nullptr;
    PackedMatrix* m = pack_prepare(columns, &source, 1, nullptr, &error);
    if (m == nullptr) return;
    pack_blocks(*m, &source, 1, 0, (int)m->blocks.size());
    ids.push_back(xxh64(m->storage, m->bytes));
    pack_free(m);
  };
  for (const GgmlType type : kTypes)
    for (const int columns : {kColumns, kColumns - 32}) {
      const size_t stride = row_bytes(type, columns);
      if (stride == 0) continue;
      std::vector<uint8_t> rows(kRows * stride);
      uint32_t noise = 1;
      for (auto& byte : rows) byte = (uint8_t)((noise = noise * 1664525u + 1013904223u) >> 24);
      take({rows.data(), type, kRows, nullptr}, columns);
    }
  // One type stands for all: they are dequantised before they are rotated.
  std::vector<float> values((size_t)kRows * kColumns);
  for (size_t i = 0; i < values.size(); i++) values[i] = (float)(i * 2654435761u % 1009) - 504.0f;
  for (const int columns : {kColumns, kColumns - 32}) take({(const uint8_t*)values.data(), GgmlType::F32, kRows, nullptr, true}, columns);
  return xxh64((const uint8_t*)ids.data(), ids.size() * sizeof(uint64_t));
}

}  // namespace sgl
