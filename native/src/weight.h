// What a plan names by index: a packed matrix, a table of rows gathered from a mapped file, or a vector of f32.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "mapped_file.h"
#include "memory.h"
#include "pack.h"

namespace sgl {

class ThreadPool;

struct Weight {
  enum class Kind { matrix, table, vector };
  Kind kind = Kind::vector;
  int rows = 1, columns = 0;
  size_t bytes = 0;
  // matrix
  PackedMatrix* packed = nullptr;
  // table, and a matrix that was packed before
  std::shared_ptr<MappedFile> file;
  const uint8_t* data = nullptr;
  GgmlType type = GgmlType::F32;
  size_t row_size = 0;
  // vector
  Memory values;

  Weight() = default;
  ~Weight();
  Weight(const Weight&) = delete;
  Weight& operator=(const Weight&) = delete;

  const float* vector() const { return values.floats(); }
  const char* kind_name() const;
  // One dequantised row of a table, [columns].
  void gather(int row, float* out) const { dequantize_row(type, data + static_cast<size_t>(row) * row_size, out, columns); }
};

// One part of a matrix to pack, its bounds already checked.
struct MatrixPart {
  std::shared_ptr<MappedFile> file;
  size_t offset = 0;
  GgmlType type = GgmlType::F32;
  int rows = 0;
  size_t row_size = 0;
  std::vector<int32_t> order;  // empty = identity
};

// Where a matrix that was packed before lies, its bounds already checked.
struct StoredMatrix {
  std::shared_ptr<MappedFile> file;
  size_t offset = 0, bytes = 0;
  uint64_t checksum = 0;
};

// `rotated`: rows are rotated and rounded to 8 bits, for plans with numerics fast.

// The matrix of `parts` over the bytes of `stored`, which stay mapped. Null and *error when they are damaged or another
// matrix's.
std::shared_ptr<Weight> map_matrix(ThreadPool& pool, int columns, const std::vector<MatrixPart>& parts, bool rotated, const StoredMatrix& stored,
                                   std::string* error);

// Packs over the pool. Null and *error when the packed form can't be laid out, or when the pool was cancelled.
std::shared_ptr<Weight> pack_matrix(ThreadPool& pool, int columns, const std::vector<MatrixPart>& parts, bool rotated, std::string* error);

}  // namespace sgl
