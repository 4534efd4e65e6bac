// From one row of logits to a token id and the logprobs that were asked for.
//
// Everything here is a deterministic function of the row and its parameters: sums run in a fixed order and the draw
// depends on (seed, draw) only.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernel_table.h"

namespace sgl {

// Below this temperature a row is greedy.
constexpr float kGreedyTemperature = 1e-6f;

struct SampleRow {
  const float* logits;  // [vocab], raw; padding ids beyond vocab are not looked at
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

struct SamplerScratch {
  std::vector<float> logits, weights, kept;
  std::vector<int32_t> ids, order;
  std::vector<double> mass;
};

// The id, or -1 with *fault set.
int sample_row(const KernelTable& kernels, const SampleRow& row, SamplerScratch& scratch, SampleFault* fault);

// Uniform in [0, 1) from (seed, draw): u = m(m(seed + g) + (draw + 1) g) / 2^53 with the 53 high bits of splitmix64's
// finaliser m and its constant g = 0x9E3779B97F4A7C15, all modulo 2^64.
double uniform(uint64_t seed, uint32_t draw);

}  // namespace sgl
