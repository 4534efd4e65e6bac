// From one row of logits to a token id and the logprobs that were asked for.
//
// Everything here is a deterministic function of the row and its parameters: sums run in a fixed order and the draw
// depends on (seed, draw) only.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernel_table.h"
#include "step.h"

namespace sgl {

// Below this temperature a row is greedy.
constexpr float kGreedyTemperature = 1e-6f;

struct SamplerScratch {
  std::vector<float> logits, weights, kept, values;
  std::vector<int32_t> ids, order;
  std::vector<double> mass;
};

// Most best ids that are kept instead of a row of logits.
constexpr int kMostBest = 64;
// What wanted_ids() says when the row's logits are needed.
constexpr int kAllLogits = -1;
// How many of a row's best ids sampling needs: 0 = none, 1 for the likeliest, top_k for few candidates; kAllLogits when
// penalties, bias, masks, logprobs or a draw among more ids look at the logits themselves.
int wanted_ids(const StepInputs& in, size_t row, int vocab);

// The best ids of a row, from those of ranges of ids that threads take as they compute them.
class BestIds {
 public:
  bool all = false;  // the row has its logits instead

  void begin(int wanted, int ranges);
  // Values [from, from + n) of the row, range number `range`. Any thread, each range once.
  void take(const KernelTable& kernels, int range, int from, const float* values, int n, SamplerScratch& scratch);
  // The wanted best by falling value, ties to the lower id, into the caller's ids and values. False when a value is NaN
  // or +infinity.
  bool best(std::vector<int32_t>& ids, std::vector<float>& values) const;

 private:
  struct Entry {
    float value;
    int32_t id;
  };
  int wanted_ = 0;
  std::vector<Entry> entries_;  // [range][wanted]
  std::vector<int32_t> counts_;  // of each range; -1: it holds NaN or +infinity
};

struct SampleRow {
  const float* logits;  // [vocab], raw; padding ids beyond vocab are not looked at
  const BestIds* best;  // what there is instead of logits; null = logits
  int vocab;
  int target;  // >= 0: no sampling, this is the id
  float temperature, top_p, min_p;
  int top_k;  // <= 0 = all
  uint64_t seed;
  uint32_t draw;
  float frequency, presence, repetition;
  const int32_t *seen_ids, *seen_counts;
  int seen;
  int newest;  // an output token that the seen ones lack: counts as one more of its id. -1 = none
  const int32_t* bias_ids;
  const float* bias_values;
  int biases;
  const uint32_t* mask;  // null = all allowed
  // Logprobs of the raw logits. report: the id's own and the `top` likeliest.
  bool report;
  int top;
  const int32_t* wanted_ids;
  int wanted;
  // Out.
  float* logprob;
  int32_t* top_ids;
  float *top_logprobs, *wanted_logprobs;
};

enum class SampleFault {
  none,
  not_a_number,     // a logit is NaN or +infinity
  nothing_allowed,  // mask, bias and the model itself forbid every id
  no_mask,          // the mask was announced and could not be made
};

// The id, or -1 with *fault set.
int sample_row(const KernelTable& kernels, const SampleRow& row, SamplerScratch& scratch, SampleFault* fault);

// Uniform in [0, 1) from (seed, draw): u = m(m(seed + g) + (draw + 1) g) / 2^53 with the 53 high bits of splitmix64's
// finaliser m and its constant g = 0x9E3779B97F4A7C15, all modulo 2^64.
double uniform(uint64_t seed, uint32_t draw);

}  // namespace sgl
