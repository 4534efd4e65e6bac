// Matrix products of a plan, and what is done to their outputs while those are in a thread's cache: the gated activation,
// the best ids of a row of logits, integers for the next product. None of it changes a bit: elements are computed one by
// one, a row's integers 32 values at a time, and the best of a row are the best of its stretches.
#include <algorithm>
#include <cstring>

#include "packed_format.h"
#include "plan_rows.h"

namespace sgl {
namespace {

bool is_product(Opcode code) { return code == Opcode::linear || code == Opcode::gated_linear || code == Opcode::logits; }

bool same(const View& x, const View& y) { return x.data == y.data && x.stride == y.stride && x.columns == y.columns; }

// Channels [from, to) of blocks [begin, end).
struct Channels {
  Channels(const PackedMatrix& w, int begin, int end)
      : from(w.blocks[static_cast<size_t>(begin)].channel),
        to(w.blocks[static_cast<size_t>(end) - 1].channel + w.blocks[static_cast<size_t>(end) - 1].channels) {}
  int from, to;
  int width() const { return to - from; }
};

// Rows of a tile begin an odd number of cache lines apart, so that they do not fall into the same sets of L1.
size_t tile_stride(int columns) { return (static_cast<size_t>(columns + 15) / 16 | 1) * 16; }

// Blocks whose tile of at least min(rows, 16) rows fits; `parts` tiles of that width lie side by side.
int tile_blocks(int blocks, int parts, int rows) {
  const int at_most = static_cast<int>(kTileFloats / static_cast<size_t>(std::max(16, std::min(rows, kTileRows)))) / 32 - 1;
  return std::max(1, std::min(blocks, at_most / parts));
}

int tile_rows(size_t stride) { return static_cast<int>(std::min(static_cast<size_t>(kTileRows), kTileFloats / stride)); }

}  // namespace

bool Plan::plan_products(std::string* error) {
  size_t bytes[2] = {0, 0};
  bool tiles = false;
  for (size_t i = 0; i < ops_.size(); i++) {
    Op& op = ops_[i];
    if (!is_product(op.code)) continue;
    tiles = tiles || op.code != Opcode::linear;
    const auto& blocks = op.w0->packed->blocks;
    const bool quantised = std::any_of(blocks.begin(), blocks.end(), [](const PackedBlock& b) { return packed_layout(static_cast<PackedFormat>(b.format)).quantised; });
    if (quantised) op.precision = runtime_->kernels().precision(numerics_, op.index >= head_start_);
    if (op.precision == Precision::f32) continue;
    // The op right before may leave integers behind, when it is in the same part of the plan and computes whole rows; a gated
    // product does so block by block, which rotated rows, with one scale for all of them, do not allow.
    const Op* before = i > 0 && static_cast<int>(i) != head_start_ ? &ops_[i - 1] : nullptr;
    if (before && before->code == Opcode::gated_linear && !is_rotated(op.precision) && same(before->a, op.b) && !(before->precision != Precision::f32 && before->quantised == 1)) {
      op.filled = true;
      op.quantised = 1;  // the product before still reads its own input
    } else if (before && ((before->code == Opcode::rms_norm && same(before->a, op.b)) || (before->code == Opcode::add_rms_norm && same(before->b, op.b)))) {
      op.filled = true;
    }
    const int rows = op.b.of_rows ? max_rows_ : max_tokens_;
    bytes[op.quantised] = std::max(bytes[op.quantised], static_cast<size_t>(rows) * row_stride(op.precision, op.w0->packed->columns));
  }
  for (int i = 0; i < 2; i++)
    if (!quantised_[i].allocate(bytes[i])) {
      *error = "out of memory: " + std::to_string(bytes[i]) + " bytes for activations as integers could not be allocated";
      return false;
    }
  const size_t tile_bytes = tiles ? static_cast<size_t>(runtime_->pool().threads()) * kTileFloats * sizeof(float) : 0;
  if (!tiles_.allocate(tile_bytes)) {
    *error = "out of memory: " + std::to_string(tile_bytes) + " bytes for tiles could not be allocated";
    return false;
  }
  return true;
}

const Op* Plan::taker(const Op& op) const {
  const auto next = static_cast<size_t>(op.index) + 1;
  return next < ops_.size() && ops_[next].filled ? &ops_[next] : nullptr;
}

void Plan::quantise(const Op& product, int row, int k0, int k1, int thread) {
  const int columns = product.w0->packed->columns;
  uint8_t* out = quantised_[product.quantised].data() + static_cast<size_t>(row) * row_stride(product.precision, columns);
  if (is_rotated(product.precision))
    runtime_->kernels().quantise_rotated(product.precision, product.b.row(row), columns, out, runtime_->scratch(thread));
  else
    runtime_->kernels().quantise(product.precision, product.b.row(row), columns, k0, k1, out);
}

void Plan::quantise_input(const Op& op, int rows) {
  if (op.precision == Precision::f32 || op.filled) return;
  each_row(rows, static_cast<size_t>(op.b.columns), [&](int r, int thread) { quantise(op, r, 0, op.b.columns, thread); });
}

void Plan::multiply(const Op& op, int begin, int end, int row, int rows, float* y, size_t stride, int thread) {
  const KernelTable& k = runtime_->kernels();
  const PackedMatrix& w = *op.w0->packed;
  const float* bias = op.w1 ? op.w1->vector() : nullptr;
  if (op.precision == Precision::f32) return k.matmul(w, begin, end, op.b.row(row), op.b.stride, rows, bias, y, stride, runtime_->scratch(thread));
  const uint8_t* integers = quantised_[op.quantised].data() + static_cast<size_t>(row) * row_stride(op.precision, w.columns);
  const QuantisedRows quantised = {op.precision, integers, op.b.row(row), op.b.stride};
  const auto product = is_rotated(op.precision) ? k.matmul_rotated : k.matmul_quantised;
  product(w, begin, end, quantised, rows, bias, y, stride, runtime_->scratch(thread));
}

// part(begin, end, thread) for ranges of `chunk` of the product's blocks, or of other items that make it up.
template <class F>
void Plan::share_blocks(const Op& op, int blocks, int chunk, int rows, const F& part) {
  const PackedMatrix& w = *op.w0->packed;
  if (static_cast<size_t>(w.rows) * static_cast<size_t>(w.columns) * static_cast<size_t>(rows) < kWorthSharing) {
    for (int begin = 0; begin < blocks; begin += chunk) part(begin, std::min(blocks, begin + chunk), 0);
    return;
  }
  runtime_->pool().parallel_for(blocks, chunk, part);
}

void Plan::linear(const Op& op, int rows) {
  if (rows == 0) return;
  quantise_input(op, rows);
  const KernelTable& k = runtime_->kernels();
  const PackedMatrix& w = *op.w0->packed;
  // Rows outside, blocks inside: a thread finds the same rows in its cache from item to item.
  const int blocks = static_cast<int>(w.blocks.size()), chunk = k.matmul_chunk(w, rows), ranges = (blocks + chunk - 1) / chunk;
  const int passes = k.matmul_passes(w, op.precision, rows);
  const auto row_of = [&](int pass) { return static_cast<int>(static_cast<int64_t>(rows) * pass / passes); };
  share_blocks(op, passes * ranges, 1, rows, [&](int first, int last, int thread) {
    for (int item = first; item < last; item++) {
      const int begin = item % ranges * chunk, row = row_of(item / ranges);
      multiply(op, begin, std::min(blocks, begin + chunk), row, row_of(item / ranges + 1) - row, op.a.row(row), op.a.stride, thread);
    }
  });
}

// Blocks of the gate and of as many channels of up, then the activation over both: [rows][gate | up] in a tile.
void Plan::gated_linear(const Op& op, int rows) {
  if (rows == 0) return;
  quantise_input(op, rows);
  const KernelTable& k = runtime_->kernels();
  const PackedMatrix& w = *op.w0->packed;
  const Op* next = taker(op);
  const int half = static_cast<int>(w.blocks.size()) / 2, channels = w.rows / 2;
  const int chunk = tile_blocks(std::max(2, k.matmul_chunk(w, rows) / 4 * 2), 2, rows);
  share_blocks(op, half, chunk, rows, [&](int begin, int end, int thread) {
    const Channels of(w, begin, end);
    const int width = of.width();
    const size_t stride = tile_stride(2 * width);
    const int take = tile_rows(stride);
    float* at = tile(thread);
    for (int row = 0; row < rows; row += take) {
      const int count = std::min(take, rows - row);
      multiply(op, begin, end, row, count, at - of.from, stride, thread);
      multiply(op, half + begin, half + end, row, count, at + width - (channels + of.from), stride, thread);
      for (int r = 0; r < count; r++) {
        const float* gate = at + static_cast<size_t>(r) * stride;
        k.gated_act(op.a.row(row + r) + of.from, gate, gate + width, width, op.i0);
        if (next) quantise(*next, row + r, of.from, of.to, thread);
      }
    }
  });
}

// Rows of which the sampler wants only the best ids leave those of each range of blocks behind, and no logits.
void Plan::logits(const Op& op, const Step& step, int rows, int row0, bool all) {
  if (rows == 0) return;
  quantise_input(op, rows);
  const PackedMatrix& w = *op.w0->packed;
  const int blocks = static_cast<int>(w.blocks.size());
  const int chunk = tile_blocks(runtime_->kernels().matmul_chunk(w, rows), 1, rows);
  const int ranges = (blocks + chunk - 1) / chunk;
  int whole = 0;
  for (int r = 0; r < rows; r++) {
    const int wanted = all ? kAllLogits : wanted_ids(step.in, static_cast<size_t>(row0 + r), vocab_);
    best_[static_cast<size_t>(r)].begin(wanted, ranges);
    if (wanted == kAllLogits) whole++;
  }
  logits_written_ += static_cast<int64_t>(whole) * op.a.columns;
  share_blocks(op, blocks, chunk, rows, [&](int begin, int end, int thread) {
    if (whole == rows) return multiply(op, begin, end, 0, rows, op.a.data, op.a.stride, thread);
    const Channels of(w, begin, end);
    const int width = of.width(), ids = std::min(of.to, vocab_) - of.from;
    const size_t stride = tile_stride(width);
    const int take = tile_rows(stride);
    float* at = tile(thread);
    for (int row = 0; row < rows; row += take) {
      const int count = std::min(take, rows - row);
      multiply(op, begin, end, row, count, at - of.from, stride, thread);
      for (int r = 0; r < count; r++) {
        const float* values = at + static_cast<size_t>(r) * stride;
        BestIds& best = best_[static_cast<size_t>(row + r)];
        if (best.all)
          std::memcpy(op.a.row(row + r) + of.from, values, sizeof(float) * static_cast<size_t>(width));
        else if (ids > 0)
          best.take(runtime_->kernels(), begin / chunk, of.from, values, ids, sampler_scratch_[static_cast<size_t>(thread)]);
      }
    }
  });
}

}  // namespace sgl
