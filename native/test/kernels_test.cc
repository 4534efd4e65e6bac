// Checks every kernel of every tier this CPU has: values against double-precision references, and the promise of
// kernel_table.h that a row's bits do not depend on how work is split. Prints "N passed, N failed"; exits 1 on failure.
// kernels_test [tier or "all" [type or "brief"]]: everything, or products with weights of one type only, or few shapes.
// Long because every kernel has its reference beside it, and they share the shapes and the counters.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include "../src/kernel_table.h"
#include "../src/pack.h"
#include "../src/packed_format.h"
#include "../src/quant.h"

using namespace sgl;

namespace {

int passed = 0, failed = 0;

#define CHECK(condition, ...)             \
  do {                                    \
    if (condition) {                      \
      passed++;                           \
    } else {                              \
      failed++;                           \
      if (failed <= 40) {                 \
        printf("FAILED %s: ", #condition); \
        printf(__VA_ARGS__);              \
        printf("\n");                     \
      }                                   \
    }                                     \
  } while (0)

struct Random {
  uint64_t state = 0x9e3779b97f4a7c15ull;
  uint64_t next() {
    state ^= state << 13;
    state ^= state >> 7;
    return state ^= state << 17;
  }
  int below(int n) { return (int)((next() >> 33) % (uint64_t)n); }
  float unit() { return (float)(next() >> 40) * 0x1p-24f; }
  float normal() { return (unit() + unit() + unit() + unit() - 2.0f) * 1.7f; }
} rng;

const KernelTable* table;
uint8_t* scratch;

std::vector<float> normals(size_t n, float scale = 1) {
  std::vector<float> v(n);
  for (float& x : v) x = rng.normal() * scale;
  return v;
}

bool same_bits(const float* a, const float* b, size_t n) { return memcmp(a, b, n * 4) == 0; }

struct Type {
  GgmlType type;
  const char* name;
};
const Type kTypes[] = {
    {GgmlType::F32, "F32"},   {GgmlType::F16, "F16"},   {GgmlType::BF16, "BF16"}, {GgmlType::Q4_0, "Q4_0"}, {GgmlType::Q4_1, "Q4_1"},
    {GgmlType::Q5_0, "Q5_0"}, {GgmlType::Q5_1, "Q5_1"}, {GgmlType::Q8_0, "Q8_0"}, {GgmlType::Q2_K, "Q2_K"}, {GgmlType::Q3_K, "Q3_K"},
    {GgmlType::Q4_K, "Q4_K"}, {GgmlType::Q5_K, "Q5_K"}, {GgmlType::Q6_K, "Q6_K"}, {GgmlType::IQ4_NL, "IQ4_NL"},
};

// Random bytes are valid blocks once their half-precision scales are finite and small.
std::vector<uint8_t> random_rows(GgmlType type, int rows, int columns) {
  const size_t stride = row_bytes(type, columns);
  std::vector<uint8_t> data(stride * rows);
  for (uint8_t& b : data) b = (uint8_t)rng.next();
  const BlockShape shape = block_shape(type);
  auto put_half = [](uint8_t* p, float v) {
    const uint16_t h = f32_to_f16(v);
    memcpy(p, &h, 2);
  };
  for (size_t at = 0; at < data.size(); at += shape.bytes) {
    uint8_t* b = data.data() + at;
    const float d = (rng.unit() - 0.3f) * 0.02f, m = (rng.unit() - 0.5f) * 0.02f;
    switch (type) {
      case GgmlType::F32: {
        const float v = rng.normal() * 0.05f;
        memcpy(b, &v, 4);
        break;
      }
      case GgmlType::F16: put_half(b, rng.normal() * 0.05f); break;
      case GgmlType::BF16: {
        const uint16_t h = (uint16_t)(f32_to_bits(rng.normal() * 0.05f) >> 16);
        memcpy(b, &h, 2);
        break;
      }
      case GgmlType::Q4_1:
      case GgmlType::Q5_1: put_half(b, d); put_half(b + 2, m); break;
      case GgmlType::Q4_K:
      case GgmlType::Q5_K: put_half(b, d * 0.03f); put_half(b + 2, m * 0.03f); break;
      case GgmlType::Q2_K: put_half(b + 80, d * 0.1f); put_half(b + 82, m * 0.1f); break;
      case GgmlType::Q3_K: put_half(b + 108, d * 0.03f); break;
      case GgmlType::Q6_K: put_half(b + 208, d * 0.01f); break;
      default: put_half(b, d);
    }
  }
  return data;
}

struct Packed {
  PackedMatrix* m;
  explicit Packed(int columns, const std::vector<PackSource>& sources) {
    const char* error;
    m = pack_prepare(columns, sources.data(), sources.size(), nullptr, &error);
    if (m == nullptr) {
      printf("pack_prepare: %s\n", error);
      exit(1);
    }
    // Uneven ranges: packing must not depend on how it is split.
    const int blocks = (int)m->blocks.size();
    for (int b = 0; b < blocks;) {
      const int end = std::min(blocks, b + 1 + b % 3);
      pack_blocks(*m, sources.data(), sources.size(), b, end);
      b = end;
    }
  }
  ~Packed() { pack_free(m); }
  Packed(const Packed&) = delete;
  int blocks() const { return (int)m->blocks.size(); }
};

std::vector<float> multiply(const PackedMatrix& w, const std::vector<float>& x, int m, const float* bias) {
  std::vector<float> y((size_t)m * w.rows, NAN);
  table->matmul(w, 0, (int)w.blocks.size(), x.data(), w.columns, m, bias, y.data(), w.rows, scratch);
  return y;
}

void check_matmul(const Type& type, int rows, int columns) {
  if (row_bytes(type.type, columns) == 0) return;
  const std::vector<uint8_t> data = random_rows(type.type, rows, columns);
  std::vector<int32_t> order(rows);
  for (int i = 0; i < rows; i++) order[i] = i;
  for (int i = rows - 1; i > 0; i--) std::swap(order[i], order[rng.below(i + 1)]);
  const Packed plain(columns, {{data.data(), type.type, rows, nullptr}}), shuffled(columns, {{data.data(), type.type, rows, order.data()}});
  std::vector<float> w((size_t)rows * columns);
  for (int r = 0; r < rows; r++)
    dequantize_row(type.type, data.data() + r * row_bytes(type.type, columns), w.data() + (size_t)r * columns, columns);

  const int kMost = 40;
  const std::vector<float> x = normals((size_t)kMost * columns), bias = normals(rows);
  // One row at a time is the reference for bits; it is checked against doubles.
  std::vector<float> single((size_t)kMost * rows);
  double worst = 0;
  for (int i = 0; i < kMost; i++) {
    table->matmul(*plain.m, 0, plain.blocks(), x.data() + (size_t)i * columns, columns, 1, bias.data(), single.data() + (size_t)i * rows, rows, scratch);
    for (int r = 0; r < rows && i < 3; r++) {
      double sum = bias[r], size = std::abs((double)bias[r]);
      for (int k = 0; k < columns; k++) {
        const double term = (double)x[(size_t)i * columns + k] * w[(size_t)r * columns + k];
        sum += term;
        size += std::abs(term);
      }
      worst = std::max(worst, std::abs(single[(size_t)i * rows + r] - sum) / size);
    }
  }
  CHECK(worst < 2e-6, "%s %s %dx%d: error %g of the sum of magnitudes", table->name, type.name, rows, columns, worst);

  // Exactness of the weights: a unit vector picks out one dequantised value, to the bit.
  int wrong = 0;
  std::vector<float> pick(columns, 0.0f), out(rows);
  for (int probe = 0; probe < 24; probe++) {
    const int k = probe < 4 ? std::min(columns - 1, probe * 37) : rng.below(columns);
    pick[k] = 1;
    table->matmul(*plain.m, 0, plain.blocks(), pick.data(), columns, 1, nullptr, out.data(), rows, scratch);
    pick[k] = 0;
    for (int r = 0; r < rows; r++) wrong += out[r] != w[(size_t)r * columns + k];
  }
  CHECK(wrong == 0, "%s %s %dx%d: %d weights differ from dequantize_row", table->name, type.name, rows, columns, wrong);

  for (int m = 1; m <= kMost; m++) {
    const std::vector<float> y = multiply(*plain.m, x, m, bias.data());
    CHECK(same_bits(y.data(), single.data(), (size_t)m * rows), "%s %s %dx%d: m = %d differs from one row at a time", table->name, type.name, rows, columns, m);
  }
  // Any split of blocks and rows, into a wider y with other strides; nothing outside its channels is written.
  for (int round = 0; round < 3; round++) {
    const size_t y_stride = rows + 5, x_stride = columns + 3;
    std::vector<float> wide((size_t)kMost * x_stride), y((size_t)kMost * y_stride, 77.0f);
    for (int i = 0; i < kMost; i++) memcpy(wide.data() + i * x_stride, x.data() + (size_t)i * columns, (size_t)columns * 4);
    for (int i = 0; i < kMost;) {
      const int take = std::min(kMost - i, 1 + rng.below(17));
      for (int b = 0; b < plain.blocks();) {
        const int end = std::min(plain.blocks(), b + 1 + rng.below(3));
        table->matmul(*plain.m, b, end, wide.data() + i * x_stride, x_stride, take, bias.data(), y.data() + i * y_stride, y_stride, scratch);
        b = end;
      }
      i += take;
    }
    bool same = true, clean = true;
    for (int i = 0; i < kMost; i++) {
      same = same && same_bits(y.data() + i * y_stride, single.data() + (size_t)i * rows, rows);
      for (size_t j = rows; j < y_stride; j++) clean = clean && y[i * y_stride + j] == 77.0f;
    }
    CHECK(same && clean, "%s %s %dx%d: random split, same %d, clean %d", table->name, type.name, rows, columns, same, clean);
  }
  const std::vector<float> mixed = multiply(*shuffled.m, x, 13, nullptr), straight = multiply(*plain.m, x, 13, nullptr);
  bool permuted = true;
  for (int i = 0; i < 13; i++)
    for (int r = 0; r < rows; r++) permuted = permuted && same_bits(&mixed[(size_t)i * rows + r], &straight[(size_t)i * rows + order[r]], 1);
  CHECK(permuted, "%s %s %dx%d: row order", table->name, type.name, rows, columns);
}

// Products with integers by the first tier that was checked: integer sums are exact, so every tier with a fused multiply-add
// folds them to the same bits.
std::map<std::string, std::vector<float>> first_products;

// Rows as integers: what they stand for, the products against doubles of just that, and the same bits however work is
// split. columns: a multiple of 32.
void check_quantised(const Type& type, int rows, int columns, Precision precision) {
  if (row_bytes(type.type, columns) == 0) return;
  rng = Random();  // the same numbers in every tier
  const char* name = precision == Precision::s8 ? "s8" : "s16";
  const std::vector<uint8_t> data = random_rows(type.type, rows, columns);
  const Packed plain(columns, {{data.data(), type.type, rows, nullptr}});
  std::vector<float> w((size_t)rows * columns);
  for (int r = 0; r < rows; r++)
    dequantize_row(type.type, data.data() + r * row_bytes(type.type, columns), w.data() + (size_t)r * columns, columns);

  const int kMost = 64;
  std::vector<float> x = normals((size_t)kMost * columns);
  const std::vector<float> bias = normals(rows);
  // A group of zeros, one far larger than the others, one that is all one value.
  for (int k = 0; k < 32; k++) {
    x[k] = 0;
    x[(size_t)columns + k] *= 1000;
    x[2 * (size_t)columns + k] = -3;
  }
  const size_t stride = row_stride(precision, columns);
  std::vector<uint8_t> memory((size_t)kMost * stride + 64);
  uint8_t* quantised = memory.data() + (64 - (uintptr_t)memory.data() % 64) % 64;
  std::vector<float> meant((size_t)kMost * columns);  // what the codes stand for
  double furthest = 0;
  for (int i = 0; i < kMost; i++) {
    uint8_t* row = quantised + i * stride;
    table->quantise(precision, x.data() + (size_t)i * columns, columns, 0, columns, row);
    const RowGroup* groups = (const RowGroup*)(row + groups_offset(precision, columns));
    for (int k = 0; k < columns; k++) {
      static const int order[] = {0, 2, 1, 3};
      const int at = precision == Precision::s8 ? k : k / 4 * 4 + order[k % 4];
      const int code = precision == Precision::s8 ? ((const int8_t*)row)[at] : ((const int16_t*)row)[at];
      const size_t to = (size_t)i * columns + k;
      // Float formats take the values as they were.
      meant[to] = block_shape(type.type).elements == 1 ? x[to] : groups[k / 32].scale * (float)code;
      if (groups[k / 32].scale > 0) furthest = std::max(furthest, std::abs((double)x[to] - (double)groups[k / 32].scale * code) / groups[k / 32].scale);
    }
  }
  CHECK(furthest < 0.51, "%s %s: a value is %g steps from its code", table->name, name, furthest);

  const auto run = [&](int b0, int b1, int row, int m, float* y, size_t y_stride) {
    const QuantisedRows picked = {precision, quantised + row * stride, x.data() + (size_t)row * columns, (size_t)columns};
    table->matmul_quantised(*plain.m, b0, b1, picked, m, bias.data(), y + row * y_stride, y_stride, scratch);
  };
  std::vector<float> single((size_t)kMost * rows);
  double worst = 0;
  for (int i = 0; i < kMost; i++) {
    run(0, plain.blocks(), i, 1, single.data(), rows);
    for (int r = 0; r < rows && i < 4; r++) {
      double sum = bias[r], size = std::abs((double)bias[r]);
      for (int k = 0; k < columns; k++) {
        const double term = (double)meant[(size_t)i * columns + k] * w[(size_t)r * columns + k];
        sum += term;
        size += std::abs(term);
      }
      worst = std::max(worst, std::abs(single[(size_t)i * rows + r] - sum) / size);
    }
  }
  CHECK(worst < 2e-6, "%s %s %s %dx%d: error %g of the sum of magnitudes", table->name, name, type.name, rows, columns, worst);
  if (strcmp(table->name, "portable") != 0 && block_shape(type.type).elements > 1) {
    const auto first = first_products.try_emplace(std::string(name) + type.name + std::to_string(columns), single).first;
    CHECK(same_bits(single.data(), first->second.data(), single.size()), "%s %s %s %dx%d: differs from the tier before", table->name, name, type.name, rows, columns);
  }
  for (int m = 1; m <= kMost; m++) {
    std::vector<float> y((size_t)m * rows, NAN);
    run(0, plain.blocks(), 0, m, y.data(), rows);
    CHECK(same_bits(y.data(), single.data(), y.size()), "%s %s %s %dx%d: m = %d differs from one row at a time", table->name, name, type.name, rows, columns, m);
  }
  for (int round = 0; round < 2; round++) {
    const size_t y_stride = rows + 5;
    std::vector<float> y((size_t)kMost * y_stride, 77.0f);
    for (int i = 0; i < kMost;) {
      const int take = std::min(kMost - i, 1 + rng.below(17));
      for (int b = 0; b < plain.blocks();) {
        const int end = std::min(plain.blocks(), b + 1 + rng.below(3));
        run(b, end, i, take, y.data(), y_stride);
        b = end;
      }
      i += take;
    }
    bool same = true, clean = true;
    for (int i = 0; i < kMost; i++) {
      same = same && same_bits(y.data() + i * y_stride, single.data() + (size_t)i * rows, rows);
      for (size_t j = rows; j < y_stride; j++) clean = clean && y[i * y_stride + j] == 77.0f;
    }
    CHECK(same && clean, "%s %s %s %dx%d: random split, same %d, clean %d", table->name, name, type.name, rows, columns, same, clean);
  }
}

// Rotated rows of every tier, by their bytes: the first tier's.
std::map<std::string, std::vector<uint8_t>> first_rows;

// Rows and weights that are rotated and rounded: near the product they stand for, exactly the arithmetic that rotated_args.inl
// names, the same bits in every tier and however work is split.
void check_rotated(const Type& type, int rows, int columns, Precision precision) {
  if (row_bytes(type.type, columns) == 0) return;
  rng = Random();  // the same numbers in every tier
  const std::string name = std::string(precision == Precision::rotated8 ? "rotated8 " : "rotated16 ") + type.name + " " + std::to_string(columns);
  const std::vector<uint8_t> data = random_rows(type.type, rows, columns);
  const Packed plain(columns, {{data.data(), type.type, rows, nullptr, true}});
  std::vector<float> w((size_t)rows * columns);
  for (int r = 0; r < rows; r++)
    dequantize_row(type.type, data.data() + r * row_bytes(type.type, columns), w.data() + (size_t)r * columns, columns);

  const int kMost = 64, kNan = 5, kZero = 6;
  std::vector<float> x = normals((size_t)kMost * columns);
  const std::vector<float> bias = normals(rows);
  x[1] *= 300;  // an outlier
  x[(size_t)kNan * columns + columns / 2] = NAN;
  for (int k = 0; k < columns; k++) x[(size_t)kZero * columns + k] = 0;
  const int lines = line_count(precision);
  const size_t stride = row_stride(precision, columns), end = line_end(columns);
  std::vector<uint8_t> memory((size_t)kMost * stride + 64, 0);
  uint8_t* quantised = memory.data() + (64 - (uintptr_t)memory.data() % 64) % 64;
  for (int i = 0; i < kMost; i++) table->quantise_rotated(precision, x.data() + (size_t)i * columns, columns, quantised + i * stride, scratch);
  {
    std::vector<uint8_t> bytes(quantised, quantised + kMost * stride);
    memset(bytes.data() + kNan * stride, 0, stride);
    CHECK(first_rows.try_emplace(name, bytes).first->second == bytes, "%s %s: rows differ from the tier before", table->name, name.c_str());
  }
  const auto run = [&](int b0, int b1, int row, int m, float* y, size_t y_stride) {
    const QuantisedRows picked = {precision, quantised + row * stride, nullptr, 0};
    table->matmul_rotated(*plain.m, b0, b1, picked, m, bias.data(), y + row * y_stride, y_stride, scratch);
  };
  std::vector<float> single((size_t)kMost * rows, 77.0f);
  double error = 0, size = 0;
  int wrong = 0;
  for (int i = 0; i < kMost; i++) {
    run(0, plain.blocks(), i, 1, single.data(), rows);
    if (i == kNan) continue;
    for (int r = 0; r < rows; r++) {
      const uint8_t* block = plain.m->blocks[r / 32].data;
      float scale, expected = 0;
      memcpy(&scale, block + r % 32 * 4, 4);
      for (int line = 0; line < lines; line++) {
        const uint8_t* codes = quantised + i * stride + line * line_stride(columns);
        const RowLine& tail = *(const RowLine*)(codes + end);
        int32_t sum = 0, all = 0;
        for (int k = 0; k < columns; k++) {
          sum += (int8_t)codes[k] * (block[rotated_step(k / 64) + r % 32 / 16 * 1024 + k % 64 / 4 * 64 + r % 16 * 4 + k % 4] - 128);
          all += (int8_t)codes[k];
        }
        wrong += all != tail.sum;
        const float value = ((float)sum * scale) * tail.scale;
        expected = line == 0 ? value : expected + value;
      }
      wrong += single[(size_t)i * rows + r] != expected + bias[r];
      double product = 0, a = 0, b = 0;
      for (int k = 0; k < columns; k++) {
        const double u = x[(size_t)i * columns + k], v = w[(size_t)r * columns + k];
        product += u * v;
        a += u * u;
        b += v * v;
      }
      error += (single[(size_t)i * rows + r] - bias[r] - product) * (single[(size_t)i * rows + r] - bias[r] - product);
      size += a * b / columns;
    }
  }
  CHECK(wrong == 0, "%s %s: %d values are not their arithmetic", table->name, name.c_str(), wrong);
  CHECK(std::sqrt(error / size) < 0.02, "%s %s: relative error %g", table->name, name.c_str(), std::sqrt(error / size));
  CHECK(pack_error(*plain.m) > 0 && pack_error(*plain.m) < 0.02, "%s: weights changed by %g", name.c_str(), pack_error(*plain.m));
  for (int r = 0; r < rows; r++) CHECK(std::isnan(single[(size_t)kNan * rows + r]) && single[(size_t)kZero * rows + r] == bias[r], "%s %s: NaN and zeros", table->name, name.c_str());
  for (int m = 1; m <= kMost; m++) {
    std::vector<float> y((size_t)m * rows, 77.0f);
    run(0, plain.blocks(), 0, m, y.data(), rows);
    CHECK(same_bits(y.data(), single.data(), y.size()), "%s %s: m = %d differs from one row at a time", table->name, name.c_str(), m);
  }
  for (int round = 0; round < 2; round++) {
    const size_t y_stride = rows + 5;
    std::vector<float> y((size_t)kMost * y_stride, 77.0f);
    for (int i = 0; i < kMost;) {
      const int take = std::min(kMost - i, 1 + rng.below(40));
      for (int b = 0; b < plain.blocks();) {
        const int to = std::min(plain.blocks(), b + 1 + rng.below(3));
        run(b, to, i, take, y.data(), y_stride);
        b = to;
      }
      i += take;
    }
    bool same = true, clean = true;
    for (int i = 0; i < kMost; i++) {
      same = same && same_bits(y.data() + i * y_stride, single.data() + (size_t)i * rows, rows);
      for (size_t j = rows; j < y_stride; j++) clean = clean && y[i * y_stride + j] == 77.0f;
    }
    CHECK(same && clean, "%s %s: random split, same %d, clean %d", table->name, name.c_str(), same, clean);
  }
}

// A matrix of several sources of different types, as fused QKV is.
void check_stack() {
  const int columns = 256;
  const GgmlType types[] = {GgmlType::Q5_0, GgmlType::Q8_0, GgmlType::F16, GgmlType::Q6_K, GgmlType::Q6_K};
  const int rows[] = {100, 40, 33, 64, 5};
  std::vector<std::vector<uint8_t>> data;
  std::vector<PackSource> sources;
  for (int i = 0; i < 5; i++) data.push_back(random_rows(types[i], rows[i], columns));
  for (int i = 0; i < 5; i++) sources.push_back({data[i].data(), types[i], rows[i], nullptr});
  const Packed stack(columns, sources);
  CHECK(stack.m->rows == 242 && stack.blocks() == 4 + 2 + 2 + 2 + 1, "%d rows, %d blocks", stack.m->rows, stack.blocks());
  const std::vector<float> x = normals(20 * columns);
  for (int m : {1, 2, 7, 20}) {
    const std::vector<float> y = multiply(*stack.m, x, m, nullptr);
    int channel = 0;
    for (int i = 0; i < 5; i++) {
      const Packed part(columns, {sources[i]});
      const std::vector<float> expected = multiply(*part.m, x, m, nullptr);
      bool same = true;
      for (int r = 0; r < m; r++) same = same && same_bits(&y[(size_t)r * 242 + channel], &expected[(size_t)r * rows[i]], rows[i]);
      CHECK(same, "%s: part %d of a stack, m = %d", table->name, i, m);
      channel += rows[i];
    }
  }
}

void check_pack_errors() {
  const char* error;
  const uint8_t byte = 0;
  const PackSource odd[] = {{&byte, GgmlType::Q4_0, 4, nullptr}}, empty[] = {{&byte, GgmlType::F32, 0, nullptr}}, unknown[] = {{&byte, (GgmlType)99, 4, nullptr}};
  CHECK(pack_prepare(48, odd, 1, nullptr, &error) == nullptr && error != nullptr, "columns that do not fit are refused");
  CHECK(pack_prepare(32, empty, 1, nullptr, &error) == nullptr && error != nullptr, "a source without rows is refused");
  CHECK(pack_prepare(32, unknown, 1, nullptr, &error) == nullptr && error != nullptr, "an unknown type is refused");
  CHECK(pack_prepare(0, empty, 1, nullptr, &error) == nullptr && error != nullptr, "no columns are refused");
  CHECK(pack_prepare(32, empty, 0, nullptr, &error) == nullptr && error != nullptr, "no sources are refused");
  CHECK(row_bytes(GgmlType::Q4_K, 128) == 0 && row_bytes(GgmlType::Q4_K, 512) == 288 && row_bytes((GgmlType)99, 32) == 0, "row_bytes");
}

// ---- attention

struct AttentionCase {
  int page_size, head_dim, heads_per_kv;
  KvDtype dtype;
  int window;
  bool causal;
};

const char* dtype_name(KvDtype d) { return kKvDtypeNames[(int)d]; }

// What pages hold of `n` values, in plain arithmetic; 8-bit types have one scale for all of them.
std::vector<double> stored(const float* x, int n, KvDtype dtype, const float* key_scale) {
  std::vector<double> v(n);
  double most = 0;
  for (int i = 0; i < n; i++) {
    v[i] = key_scale == nullptr ? x[i] : x[i] / key_scale[i];
    most = std::max(most, std::abs(v[i]));
  }
  for (int i = 0; i < n; i++) {
    if (dtype == KvDtype::f16) v[i] = f16_to_f32(f32_to_f16((float)v[i]));
    // eight and four significant bits
    int exponent = 0;
    if (dtype == KvDtype::bf16) {
      std::frexp(v[i], &exponent);
      v[i] = std::ldexp(std::nearbyint(std::ldexp(v[i], 8 - exponent)), exponent - 8);
    }
    if (dtype == KvDtype::int8) v[i] = std::nearbyint((float)v[i] * (127.0f / (float)most)) * most / 127;
    if (dtype == KvDtype::fp8_e4m3) {
      const double y = (float)v[i] * (448.0f / (float)most);  // as the kernels do: ties must fall alike
      std::frexp(y, &exponent);
      const int step = std::max(exponent - 4, -9);  // of the last bit; subnormals share one
      v[i] = std::ldexp(std::nearbyint(std::ldexp(y, -step)), step) * most / 448;
    }
    if (key_scale != nullptr) v[i] *= key_scale[i];
  }
  return v;
}

void check_attention(const AttentionCase& c) {
  const int length = 150, kv_heads = 2, layers = 2, dim = c.head_dim, layer = 1;
  const int used = (length + c.page_size - 1) / c.page_size;
  KvLayout layout = {layers, kv_heads, dim, c.page_size, used + 3, c.dtype};
  std::vector<float> key_scales((size_t)layers * kv_heads * dim);
  for (float& s : key_scales) s = 0.5f + 8 * rng.unit();
  if (layout.scaled()) layout.key_scales = key_scales.data();
  const int heads = kv_heads * c.heads_per_kv, width = heads * dim;
  const std::vector<float> q = normals((size_t)length * width), k = normals((size_t)length * kv_heads * dim), v = normals((size_t)length * kv_heads * dim);
  const std::string name = std::string(table->name) + " attention, page " + std::to_string(c.page_size) + ", head " + std::to_string(dim) + ", gqa " +
                           std::to_string(c.heads_per_kv) + ", " + dtype_name(c.dtype) + ", window " + std::to_string(c.window) + (c.causal ? "" : ", not causal");

  auto fill = [&](const std::vector<int32_t>& pages) {
    std::vector<uint8_t> kv(layout.total_bytes(), 0xff);  // NaN where nothing was written
    for (int t = 0; t < length; t++)
      for (int h = 0; h < kv_heads; h++)
        table->kv_write(kv.data(), layout, layer, pages[t / c.page_size], t % c.page_size, h, &k[((size_t)t * kv_heads + h) * dim], &v[((size_t)t * kv_heads + h) * dim]);
    return kv;
  };
  std::vector<int32_t> pages(used);
  for (int i = 0; i < used; i++) pages[i] = i;
  const std::vector<uint8_t> kv = fill(pages);
  const float scale = 1.0f / std::sqrt((float)dim);
  // What the pages hold.
  std::vector<std::vector<double>> keys, values;
  for (int i = 0; i < length * kv_heads; i++) {
    keys.push_back(stored(&k[(size_t)i * dim], dim, c.dtype, layout.key_scale(layer, i % kv_heads)));
    values.push_back(stored(&v[(size_t)i * dim], dim, c.dtype, nullptr));
  }
  // Tokens [first, first + tokens) at their positions; a causal call sees what came before, as in chunked prefill.
  auto arguments = [&](const std::vector<uint8_t>& pool, const std::vector<int32_t>& table_of_pages, int first, int tokens, int h, std::vector<float>& out) {
    AttentionArgs a = {};
    a.q = q.data() + (size_t)first * width;
    a.q_stride = width;
    a.out = out.data() + (size_t)first * width;
    a.out_stride = width;
    a.kv = pool.data();
    a.layout = &layout;
    a.layer = layer;
    a.kv_head = h;
    a.heads_per_kv = c.heads_per_kv;
    a.pages = table_of_pages.data();
    a.first_position = first;
    a.tokens = tokens;
    a.kv_length = c.causal ? first + tokens : length;
    a.scale = scale;
    a.window = c.window;
    a.causal = c.causal;
    return a;
  };
  auto run = [&](const std::vector<uint8_t>& pool, const std::vector<int32_t>& table_of_pages, int first, int tokens, std::vector<float>& out) {
    for (int h = 0; h < kv_heads; h++) table->attention(arguments(pool, table_of_pages, first, tokens, h, out), scratch);
  };
  std::vector<float> whole((size_t)length * width, NAN);
  run(kv, pages, 0, length, whole);
  double worst = 0;
  for (int t = 0; t < length; t += 7)
    for (int head = 0; head < heads; head++) {
      const int h = head / c.heads_per_kv, lo = c.window > 0 ? std::max(0, t + 1 - c.window) : 0, hi = c.causal ? t + 1 : length;
      std::vector<double> p(length), out(dim);
      double top = -1e300, sum = 0;
      for (int s = lo; s < hi; s++) {
        double dot = 0;
        for (int d = 0; d < dim; d++) dot += (double)q[(size_t)t * width + head * dim + d] * keys[(size_t)s * kv_heads + h][d];
        top = std::max(top, p[s] = dot * scale);
      }
      for (int s = lo; s < hi; s++) sum += p[s] = std::exp(p[s] - top);
      for (int s = lo; s < hi; s++)
        for (int d = 0; d < dim; d++) out[d] += p[s] / sum * values[(size_t)s * kv_heads + h][d];
      for (int d = 0; d < dim; d++) worst = std::max(worst, std::abs(out[d] - whole[(size_t)t * width + head * dim + d]) / 1.0);
      if (std::isnan(whole[(size_t)t * width + head * dim])) worst = 1e9;
    }
  CHECK(worst < 3e-6, "%s: error %g", name.c_str(), worst);

  std::vector<float> split((size_t)length * width, NAN);
  for (int t = 0; t < length; t++) run(kv, pages, t, 1, split);
  CHECK(same_bits(split.data(), whole.data(), split.size()), "%s: one token at a time differs", name.c_str());
  std::fill(split.begin(), split.end(), NAN);
  for (int t = 0; t < length;) {
    const int take = std::min(length - t, 1 + rng.below(50));
    run(kv, pages, t, take, split);
    t += take;
  }
  CHECK(same_bits(split.data(), whole.data(), split.size()), "%s: random chunks differ", name.c_str());
  std::vector<int32_t> other(used + 3);
  for (int i = 0; i < used + 3; i++) other[i] = i;
  for (int i = used + 2; i > 0; i--) std::swap(other[i], other[rng.below(i + 1)]);
  std::fill(split.begin(), split.end(), NAN);
  run(fill(other), other, 0, length, split);
  CHECK(same_bits(split.data(), whole.data(), split.size()), "%s: order of pages matters", name.c_str());

  // The way cut at every multiple of 32, as shared pages do, for tokens that are no neighbours; every fifth goes in one.
  if (c.window > 0) return;
  std::fill(split.begin(), split.end(), NAN);
  std::vector<float> state((size_t)length * heads * 2, NAN);
  const auto cuts = [&](int t) { return t % 5 == 0 ? 0 : (c.causal ? t + 1 : length) / 32; };
  for (int h = 0; h < kv_heads; h++) {
    for (int block = 0; block < length / 32; block++) {
      std::vector<int32_t> rows;
      for (int t = length - 1; t >= 0; t--)
        if (cuts(t) > block) rows.push_back(t);
      AttentionArgs a = arguments(kv, pages, 0, (int)rows.size(), h, split);
      a.state = state.data();
      a.state_stride = (size_t)heads * 2;
      a.rows = rows.data();
      a.begin = block * 32;
      a.end = a.begin + 32;
      table->attention(a, scratch);
    }
    for (int t = 0; t < length; t++) {
      AttentionArgs a = arguments(kv, pages, t, 1, h, split);
      a.state = state.data() + (size_t)t * heads * 2;
      a.state_stride = (size_t)heads * 2;
      a.begin = cuts(t) * 32;
      table->attention(a, scratch);
    }
  }
  CHECK(same_bits(split.data(), whole.data(), split.size()), "%s: where the way is cut matters", name.c_str());
}

void check_kv_write() {
  const int dim = 40;
  std::vector<float> x(dim, 1.0f), big = x, bad = x;
  big[7] = -65520.0f;
  bad[9] = NAN;
  for (int d = 0; d < kKvDtypes; d++) {
    const KvLayout layout = {1, 1, dim, 16, 1, (KvDtype)d};
    std::vector<uint8_t> kv(layout.total_bytes());
    const bool f16 = layout.dtype == KvDtype::f16;
    const auto write = [&](const std::vector<float>& k, const std::vector<float>& v) { return table->kv_write(kv.data(), layout, 0, 0, 3, 0, k.data(), v.data()); };
    CHECK(write(x, x) && write(x, bad) && write(big, x) == !f16 && write(x, big) == !f16, "%s: too large for %s", table->name, dtype_name(layout.dtype));
    if (!layout.scaled()) continue;
    // NaN shows: attention over it gives NaN.
    for (int which = 0; which < 2; which++) {
      for (int slot = 0; slot < 4; slot++) table->kv_write(kv.data(), layout, 0, 0, slot, 0, (slot == 2 && which == 0 ? bad : x).data(), (slot == 2 && which == 1 ? bad : x).data());
      std::vector<float> out(dim);
      const int32_t page = 0;
      AttentionArgs a = {};
      a.q = x.data();
      a.out = out.data();
      a.kv = kv.data();
      a.layout = &layout;
      a.heads_per_kv = a.tokens = 1;
      a.pages = &page;
      a.first_position = 3;
      a.kv_length = 4;
      a.scale = 1;
      a.causal = true;
      table->attention(a, scratch);
      CHECK(std::isnan(out[0]), "%s: NaN in %s pages gives %g", table->name, dtype_name(layout.dtype), out[0]);
    }
  }
}

// ---- row ops

void check_rows() {
  for (int width : {1, 7, 16, 64, 100, 896, 1000}) {
    const std::vector<float> a = normals(width), b = normals(width), weight = normals(width);
    std::vector<float> out(width), sum(width), again(width);
    table->rms_norm(out.data(), a.data(), weight.data(), width, 1e-6f);
    double squares = 0, worst = 0;
    for (float v : a) squares += (double)v * v;
    for (int i = 0; i < width; i++) {
      const double expected = a[i] / std::sqrt(squares / width + 1e-6) * weight[i];
      worst = std::max(worst, std::abs(out[i] - expected) / (std::abs(expected) + 1e-6));
    }
    CHECK(worst < 1e-6, "%s rms_norm %d: %g", table->name, width, worst);
    again = a;
    table->rms_norm(again.data(), again.data(), weight.data(), width, 1e-6f);
    CHECK(same_bits(again.data(), out.data(), width), "%s rms_norm in place %d", table->name, width);

    std::vector<float> plain(width);
    table->add(plain.data(), a.data(), b.data(), width);
    bool exact = true;
    for (int i = 0; i < width; i++) exact = exact && plain[i] == a[i] + b[i];
    CHECK(exact, "%s add %d", table->name, width);
    table->rms_norm(again.data(), plain.data(), weight.data(), width, 1e-5f);
    table->add_rms_norm(sum.data(), out.data(), a.data(), b.data(), weight.data(), width, 1e-5f);
    CHECK(same_bits(sum.data(), plain.data(), width) && same_bits(out.data(), again.data(), width), "%s add_rms_norm %d", table->name, width);
    sum = a;
    table->add_rms_norm(sum.data(), out.data(), sum.data(), b.data(), weight.data(), width, 1e-5f);
    CHECK(same_bits(sum.data(), plain.data(), width) && same_bits(out.data(), again.data(), width), "%s add_rms_norm in place %d", table->name, width);

    for (int activation = 0; activation < 3; activation++) {
      const std::vector<float> gate = normals(width, 3);
      table->gated_act(out.data(), gate.data(), b.data(), width, activation);
      worst = 0;
      for (int i = 0; i < width; i++) {
        const double g = gate[i], u = 0.7978845608028654 * (g + 0.044715 * g * g * g);
        const double act = activation == 0 ? g / (1 + std::exp(-g)) : activation == 1 ? 0.5 * g * (1 + std::tanh(u)) : 0.5 * g * (1 + std::erf(g / std::sqrt(2.0)));
        worst = std::max(worst, std::abs(out[i] - act * b[i]) / (std::abs(g * b[i]) + 1e-6));
      }
      CHECK(worst < 5e-7, "%s gated_act %d, %d wide: %g", table->name, activation, width, worst);
    }
  }
  for (int half : {1, 5, 16, 24, 32, 64}) {
    const int dim = 2 * half + (half == 5 ? 3 : 0), heads = 3;
    const std::vector<float> before = normals((size_t)heads * dim), angles = normals(half, 3);
    std::vector<float> row = before, cos_sin(2 * half);
    for (int i = 0; i < half; i++) cos_sin[i] = std::cos(angles[i]), cos_sin[half + i] = std::sin(angles[i]);
    table->rope(row.data(), cos_sin.data(), heads, dim, half);
    double worst = 0;
    for (int h = 0; h < heads; h++)
      for (int i = 0; i < dim; i++) {
        const float* o = &before[(size_t)h * dim];
        double expected = o[i];
        if (i < half) expected = (double)o[i] * cos_sin[i] - (double)o[i + half] * cos_sin[half + i];
        else if (i < 2 * half) expected = (double)o[i] * cos_sin[i - half] + (double)o[i - half] * cos_sin[i];
        worst = std::max(worst, std::abs(row[(size_t)h * dim + i] - expected));
      }
    CHECK(worst < 1e-6, "%s rope half %d: %g", table->name, half, worst);
  }
}

void check_sampling() {
  for (int n : {1, 15, 16, 33, 64, 1000, 5003}) {
    std::vector<float> x = normals(n, 4), out(n);
    const int at = rng.below(n);
    x[at] = 30;
    if (n > 20) x[n - 1] = x[n / 2] = std::min(30.0f, x[at]);
    const int first = (int)(std::max_element(x.begin(), x.end()) - x.begin());
    CHECK(table->max(x.data(), n) == 30 && table->argmax(x.data(), n) == first, "%s max of %d", table->name, n);
    std::vector<double> spans((n + kSumSpan - 1) / kSumSpan);
    const double sum = table->exp_sum(out.data(), x.data(), n, 30, 0.7f, spans.data());
    double expected = 0, worst = 0;
    for (int i = 0; i < n; i++) {
      const double e = std::exp((double)((x[i] - 30.0f) * 0.7f));
      expected += e;
      worst = std::max(worst, std::abs(out[i] - e) / e);
    }
    CHECK(worst < 2.5e-7 && std::abs(sum / expected - 1) < 2e-7, "%s exp_sum of %d: %g", table->name, n, worst);
    double in_order = 0;
    for (size_t s = 0; s < spans.size(); s++) {
      double span = 0;
      for (int i = (int)s * kSumSpan; i < std::min(n, (int)(s + 1) * kSumSpan); i++) span += out[i];
      CHECK(std::abs(spans[s] - span) <= 1e-12 * span, "%s span %d of %d", table->name, (int)s, n);
      in_order += spans[s];
    }
    CHECK(in_order == sum, "%s spans of %d", table->name, n);
    // Copies: any mask, all allowed, none allowed; what is checked is the whole row.
    std::vector<uint32_t> mask((n + 31) / 32);
    for (uint32_t& word : mask) word = rng.below(3) == 0 ? 0u : rng.below(2) == 0 ? ~0u : (uint32_t)rng.next();
    std::vector<float> copy(n + 1, 7.0f);
    CHECK(table->checked_copy(nullptr, x.data(), n, nullptr) && table->checked_copy(copy.data(), x.data(), n, mask.data()), "%s %d finite values", table->name, n);
    bool right = copy[n] == 7.0f;
    for (int i = 0; i < n; i++) right = right && copy[i] == (mask[i / 32] >> i % 32 & 1 ? x[i] : -INFINITY);
    CHECK(right && table->checked_copy(copy.data(), x.data(), n, nullptr) && same_bits(copy.data(), x.data(), n), "%s masked copy of %d", table->name, n);
    for (float odd : {(float)NAN, (float)INFINITY, -INFINITY}) {
      copy.assign(x.begin(), x.end());
      copy[rng.below(n)] = odd;
      CHECK(table->checked_copy(nullptr, copy.data(), n, nullptr) == (odd == -INFINITY), "%s %g among %d", table->name, odd, n);
    }
    if (n > 20) {
      x[3] = NAN;
      x[n - 2] = NAN;
      std::vector<float> clean = x;
      clean[3] = clean[n - 2] = -1e9f;
      CHECK(table->max(x.data(), n) == table->max(clean.data(), n) && table->argmax(x.data(), n) == table->argmax(clean.data(), n), "%s NaN in %d", table->name, n);
      std::fill(x.begin(), x.end(), -std::numeric_limits<float>::infinity());
      x[n - 1] = -5;
      CHECK(table->argmax(x.data(), n) == n - 1 && table->exp_sum(out.data(), x.data(), n, -5, 1, nullptr) == 1, "%s all but one forbidden, %d", table->name, n);
    }
  }
  std::vector<float> x, out;
  for (float v = -110; v <= 0; v += 0.0037f) x.push_back(v);
  out.resize(x.size());
  table->exp_sum(out.data(), x.data(), (int)x.size(), 0, 1, nullptr);
  double worst = 0;
  for (size_t i = 0; i < x.size(); i++)
    if (x[i] > -87.3f) worst = std::max(worst, std::abs(out[i] / std::exp((double)x[i]) - 1));
    else if (out[i] > 1.3e-38f) worst = 1;
  CHECK(worst < 2e-7, "%s exp over [-110, 0]: %g", table->name, worst);
}

void check_halves() {
  int wrong = 0;
  for (uint32_t h = 0; h < 65536; h++) {
    const float f = f16_to_f32((uint16_t)h);
    const int exponent = h >> 10 & 31, mantissa = h & 1023;
    if (exponent == 31 && mantissa != 0) {
      wrong += !std::isnan(f) || !std::isnan(f16_to_f32(f32_to_f16(f)));
      continue;
    }
    const double expected = exponent == 31 ? INFINITY : std::ldexp(exponent ? 1024 + mantissa : mantissa, (exponent ? exponent : 1) - 25);
    wrong += f != (float)(h >> 15 ? -expected : expected) || f32_to_f16(f) != h;
    if (exponent == 31 || h == 0x7bff || h == 0xfbff) continue;
    const float next = f16_to_f32((uint16_t)(h + 1)), middle = (float)(((double)f + next) / 2);  // exact
    wrong += f32_to_f16(middle) != (h & 1 ? h + 1 : h);
    wrong += f32_to_f16(std::nextafter(middle, f)) != h || f32_to_f16(std::nextafter(middle, next)) != h + 1;
  }
  CHECK(wrong == 0, "%d half conversions are wrong", wrong);
  CHECK(f32_to_f16(65519.996f) == 0x7bff && f32_to_f16(65520.0f) == 0x7c00 && f32_to_f16(-1e9f) == 0xfc00 && f32_to_f16(1e-9f) == 0, "limits of half");

  // The tier's own conversions, through the pages: every finite half comes back, and rounding is the same.
  const KvLayout layout = {1, 1, 64, 16, 1, KvDtype::f16};
  std::vector<uint8_t> kv(layout.total_bytes());
  wrong = 0;
  for (int base = 0; base < 2000; base++) {
    float k[64], v[64];
    for (int i = 0; i < 64; i++) {
      k[i] = bits_to_f32((uint32_t)rng.next());
      v[i] = rng.normal() * std::ldexp(1.0f, rng.below(40) - 26);
      if (std::isnan(k[i])) k[i] = 0;
    }
    table->kv_write(kv.data(), layout, 0, 0, base % 16, 0, k, v);
    for (int i = 0; i < 64; i++)
      wrong += read_u16(kv.data() + (i * 16 + base % 16) * 2) != f32_to_f16(k[i]) || read_u16(kv.data() + 2048 + (base % 16 * 64 + i) * 2) != f32_to_f16(v[i]);
  }
  CHECK(wrong == 0, "%s: %d values rounded to half in another way", table->name, wrong);
}

}  // namespace

int main(int argc, char** argv) {
  const char* only = argc > 1 ? argv[1] : nullptr;
  // For emulators: every kernel and format, fewer shapes.
  const bool brief = argc > 2 && strcmp(argv[2], "brief") == 0;
  scratch = (uint8_t*)aligned_alloc(64, kScratchBytes);
  int count, skipped = 0;
  const Tier* all = tiers(&count);
  check_pack_errors();
  for (int i = 0; i < count; i++) {
    if (only != nullptr && strcmp(only, all[i].name) != 0 && strcmp(only, "all") != 0) continue;
    const char* reason;
    table = select_tier(all[i].name, &reason);
    if (table == nullptr) {
      printf("skipped tier %s: %s\n", all[i].name, reason);
      skipped++;
      continue;
    }
    const int before = passed;
    const auto wanted = [&](const Type& type) { return argc < 3 || brief || strcmp(argv[2], type.name) == 0; };
    for (const Type& type : kTypes) {
      if (!wanted(type)) continue;
      const bool floats = block_shape(type.type).elements == 1;
      for (int rows : {1, 31, 32, 40, 100}) {
        if (brief && rows != 40) continue;
        for (int columns : {32, 64, 96, 256, 512, 896})
          if (!brief || columns == 96 || columns == 256) check_matmul(type, rows, columns);
        if (floats)
          for (int columns : {1, 7, 48}) check_matmul(type, rows, columns);
      }
    }
    for (const Type& type : kTypes)
      for (Precision precision : {Precision::s8, Precision::s16})
        for (int columns : {32, 64, 96, 256, 512, 896, 2304})
          // Float formats take the values as they are, whatever their number: check_matmul has their lengths.
          if (wanted(type) && (block_shape(type.type).elements > 1 || columns < 2304) && (!brief || columns == 96 || columns == (precision == Precision::s8 ? 512 : 256)))
            check_quantised(type, 70, columns, precision);
    if (argc > 2 && !brief) continue;
    // Blocks of 1 to 256 columns, one step and many, half a step at the end.
    for (Precision precision : {Precision::rotated8, Precision::rotated16})
      for (int columns : {7, 24, 48, 96, 192, 256, 896, 4864})
        if (!brief || columns == 24 || columns == 192) check_rotated({GgmlType::F32, "F32"}, 70, columns, precision);
    check_rotated({GgmlType::Q5_0, "Q5_0"}, 70, 640, Precision::rotated8);
    check_rotated({GgmlType::Q6_K, "Q6_K"}, 1, 512, Precision::rotated8);
    if (!brief) {
      check_matmul({GgmlType::Q6_K, "Q6_K"}, 40, 2304);
      check_matmul({GgmlType::Q5_0, "Q5_0"}, 40, 2336);
    }
    check_stack();
    for (int page : {1, 8, 16, 32, 48, 64})
      for (KvDtype dtype : {KvDtype::f32, KvDtype::f16, KvDtype::bf16, KvDtype::int8, KvDtype::fp8_e4m3}) {
        if (!brief || page == 8 || page == 32) check_attention({page, 64, brief ? 3 : 7, dtype, 0, true});
        if (!brief || page == 48) check_attention({page, 80, 2, dtype, 0, false});
      }
    check_attention({16, 128, 1, KvDtype::f16, 0, true});
    check_attention({32, 16, 4, KvDtype::int8, 0, true});
    check_attention({16, 40, 3, KvDtype::f16, 20, true});
    check_attention({8, 7, 1, KvDtype::f32, 33, true});
    check_attention({8, 7, 1, KvDtype::fp8_e4m3, 33, true});
    if (!brief) check_attention({64, 256, 40, KvDtype::f16, 0, true});
    check_attention({1, 24, 30, KvDtype::bf16, 64, false});
    check_kv_write();
    check_rows();
    check_sampling();
    check_halves();
    printf("tier %s: %d checks\n", all[i].name, passed - before);
  }
  if (argc == 1) {
    const char* reason;
    CHECK(select_tier("no such tier", &reason) == nullptr && reason != nullptr, "an unknown tier is refused");
    CHECK(select_tier(nullptr, &reason) != nullptr, "some tier is always there");
  }
  printf("%d tiers skipped\n%d passed, %d failed\n", skipped, passed, failed);
  return failed == 0 ? 0 : 1;
}
