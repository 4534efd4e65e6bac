#include "weight.h"

#include <algorithm>

#include "checksum.h"
#include "thread_pool.h"

namespace sgl {

Weight::~Weight() {
  if (packed) pack_free(packed);
}

const char* Weight::kind_name() const {
  switch (kind) {
    case Kind::matrix: return "a matrix";
    case Kind::table: return "a table";
    case Kind::vector: return "a vector";
  }
  return "?";
}

namespace {

std::vector<PackSource> sources_of(const std::vector<MatrixPart>& parts, bool rotated) {
  std::vector<PackSource> sources;
  for (const auto& part : parts)
    sources.push_back({part.file->data() + part.offset, part.type, part.rows, part.order.empty() ? nullptr : part.order.data(), rotated});
  return sources;
}

std::shared_ptr<Weight> matrix_of(PackedMatrix* packed) {
  auto weight = std::make_shared<Weight>();
  weight->kind = Weight::Kind::matrix;
  weight->packed = packed;
  weight->rows = packed->rows;
  weight->columns = packed->columns;
  weight->bytes = packed->bytes;
  return weight;
}

}  // namespace

std::shared_ptr<Weight> map_matrix(ThreadPool& pool, int columns, const std::vector<MatrixPart>& parts, bool rotated, const StoredMatrix& stored,
                                   std::string* error) {
  const std::vector<PackSource> sources = sources_of(parts, rotated);
  const PackedBytes bytes{stored.file->data() + stored.offset, stored.bytes};
  const char* why = nullptr;
  PackedMatrix* packed = pack_prepare(columns, sources.data(), sources.size(), &bytes, &why);
  if (!packed) {
    *error = why;
    return nullptr;
  }
  auto weight = matrix_of(packed);
  weight->file = stored.file;
  stored.file->will_need(stored.offset, stored.bytes);
  const bool intact = checksum(pool, bytes.data, bytes.bytes) == stored.checksum;
  if (pool.cancelled()) *error = "the runtime was closed while the matrix was checked";
  else if (!intact) *error = "the stored bytes at offset " + std::to_string(stored.offset) + " of " + stored.file->path() + " are damaged";
  return error->empty() ? weight : nullptr;
}

std::shared_ptr<Weight> pack_matrix(ThreadPool& pool, int columns, const std::vector<MatrixPart>& parts, bool rotated, std::string* error) {
  const std::vector<PackSource> sources = sources_of(parts, rotated);
  const auto span = [](const MatrixPart& part) {
    int last = part.rows - 1;
    if (!part.order.empty()) last = *std::max_element(part.order.begin(), part.order.end());
    return (static_cast<size_t>(last) + 1) * part.row_size;
  };
  for (const auto& part : parts) part.file->will_need(part.offset, span(part));
  const char* why = "the packed matrix could not be allocated";
  PackedMatrix* packed = pack_prepare(columns, sources.data(), sources.size(), nullptr, &why);
  if (!packed) {
    *error = why;
    return nullptr;
  }
  auto weight = matrix_of(packed);
  // Small enough that a closing process waits for milliseconds at most, large enough to amortise the hand-over.
  constexpr int kBlocks = 4;
  pool.parallel_for(static_cast<int>(packed->blocks.size()), kBlocks, [&](int begin, int end, int) {
    pack_blocks(*packed, sources.data(), sources.size(), begin, end);
  });
  for (const auto& part : parts) part.file->done_with(part.offset, span(part));
  if (pool.cancelled()) {
    *error = "the runtime was closed while the matrix was packed";
    return nullptr;
  }
  return weight;
}

}  // namespace sgl
