// The floor between the plan executor (plan.cc, sampler.cc) and the kernels (tiers/*.cc): one struct of function
// pointers per instruction-set tier. The executor splits work and owns memory; a kernel computes its share on the
// calling thread and allocates nothing.
//
// Invariant of every kernel here: the bits of an output row depend on that row's inputs and absolute positions only,
// never on m, on how rows, blocks or tokens were split into calls, or on the thread. One accumulator per output in
// k order (or position order), the same expression in every code path.
#pragma once
#include <cstddef>
#include <cstdint>

#include "kv_layout.h"
#include "quantised_rows.h"

namespace sgl {

struct PackedMatrix;  // pack.h: rows grouped into blocks of 32 output channels

// Per-thread scratch, 64-byte aligned, kScratchBytes long. Contents are undefined between calls.
constexpr size_t kScratchBytes = 1 << 20;

// Attention of all query heads of one kv head, for some tokens.
//
// A row (one query head of one token) goes through the positions it sees in order. That way may be cut at any multiple
// of 32: a call that ends early leaves the row's sums in `out` and `state`, and the call that begins there goes on. So
// tokens of different sequences whose first pages are the same go through those together, and bits do not change.
struct AttentionArgs {
  const float* q;      // head h of row t at q + t * q_stride + h * head_dim (h: absolute query head)
  size_t q_stride;     // floats
  float* out;          // same addressing with out_stride
  size_t out_stride;
  float* state;        // largest score and sum of head h of row t at state + t * state_stride + 2 * h; for cut ways only
  size_t state_stride;
  const int32_t* rows;  // the t of each token; null = 0, 1, 2, ...
  int tokens;
  const uint8_t* kv;   // the whole pool
  const KvLayout* layout;
  int layer, kv_head;
  int heads_per_kv;    // query heads of this kv head: [kv_head * heads_per_kv, +heads_per_kv)
  const int32_t* pages;  // page ids of the sequence
  int begin;           // positions below were done by an earlier call; a multiple of 32
  int end;             // > 0: every token sees all of [begin, end), a multiple of 32, and goes on in a later call
  int first_position;  // with end = 0: absolute position of token 0; token t sits at first_position + t
  int kv_length;       // positions available (for non-causal attention)
  float scale;
  int window;          // 0 = all; else only positions > p - window
  bool causal;
};

// Values per partial sum of exp_sum.
constexpr int kSumSpan = 256;
/// How far results may be from exact arithmetic on the file's weights; docs/architecture.md has the measured promises.
enum class Numerics : int { f32, exact, faithful, fast };
constexpr int kNumerics = 4;
const char* numerics_name(Numerics numerics);

struct KernelTable {
  const char* name;
  // y[i][c] = sum_k x[i][k] * w[c][k] (+ bias[c]), i < m, for the channels of blocks [block0, block1) of w.
  // bias may be null. y is written at its absolute channel: y + i * y_stride + c.
  void (*matmul)(const PackedMatrix& w, int block0, int block1, const float* x, size_t x_stride, int m, const float* bias,
                 float* y, size_t y_stride, uint8_t* scratch);
  // What this tier turns the input of a product into; `head`: the product that gives logits.
  Precision (*precision)(Numerics numerics, bool head);
  // Values [k0, k1) of one row of x into a row of QuantisedRows; all three are multiples of 32. precision: s16 or s8.
  void (*quantise)(Precision precision, const float* x, int columns, int k0, int k1, uint8_t* row);
  // matmul over rows that were quantised. Blocks of float formats take x as it is.
  void (*matmul_quantised)(const PackedMatrix& w, int block0, int block1, const QuantisedRows& rows, int m, const float* bias,
                           float* y, size_t y_stride, uint8_t* scratch);
  // A row of x rotated and rounded with one scale (rotated8 or rotated16), to a row of QuantisedRows. Scratch holds it in between.
  void (*quantise_rotated)(Precision precision, const float* x, int columns, uint8_t* row, uint8_t* scratch);
  // matmul over rotated rows; all blocks are Rotated8.
  void (*matmul_rotated)(const PackedMatrix& w, int block0, int block1, const QuantisedRows& rows, int m, const float* bias, float* y,
                         size_t y_stride, uint8_t* scratch);
  // Blocks per work item that suit m rows: the executor hands out ranges of this size.
  int (*matmul_chunk)(const PackedMatrix& w, int m);
  // Row ranges of about equal height that suit m rows: what a thread keeps in L2 while it goes through ranges of blocks.
  int (*matmul_passes)(const PackedMatrix& w, Precision precision, int m);
  // Keys and values of one token and kv head into its page slot. k, v: [head_dim]. False when a finite value is too large
  // for f16 pages.
  bool (*kv_write)(uint8_t* kv, const KvLayout& layout, int layer, int page, int slot, int kv_head, const float* k, const float* v);
  void (*attention)(const AttentionArgs& a, uint8_t* scratch);
  // out = x * rsqrt(mean(x^2) + eps) * weight, [width]. out may be x.
  void (*rms_norm)(float* out, const float* x, const float* weight, int width, float eps);
  // sum = a + b; out = rms_norm(sum). sum may be a.
  void (*add_rms_norm)(float* sum, float* out, const float* a, const float* b, const float* weight, int width, float eps);
  void (*add)(float* out, const float* a, const float* b, int n);
  // Rotates `heads` heads of one row in place. cos_sin: [2 * half] cos then sin, already times mscale.
  void (*rope)(float* row, const float* cos_sin, int heads, int head_dim, int half);
  // out[i] = act(gate[i]) * up[i]
  void (*gated_act)(float* out, const float* gate, const float* up, int n, int activation);
  // ---- sampling, over one row of logits
  float (*max)(const float* x, int n);
  // out[i] = exp((x[i] - max) * inverse_temperature); returns the sum. Sums of spans of kSumSpan, in a fixed order in
  // double, go to `spans` unless it is null; the whole is the sum of those in order.
  double (*exp_sum)(float* out, const float* x, int n, float max, float inverse_temperature, double* spans);
  // False when something is NaN or +infinity. Unless out is null it becomes x, with -infinity where the bit of mask is 0;
  // mask may be null.
  bool (*checked_copy)(float* out, const float* x, int n, const uint32_t* mask);
  // Index of the largest value, ties to the lowest index; NaN never wins.
  int (*argmax)(const float* x, int n);
};

// dispatch.cc
struct Tier {
  const char* name;
  const KernelTable* table;        // null when not built for this architecture
  bool (*supported)();
  const char* needs;               // CPU features, for messages
};
const Tier* tiers(int* count);     // best first
const KernelTable* select_tier(const char* name_or_null, const char** reason);  // null + reason when not possible

}  // namespace sgl
