#include "sampler.h"

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <cstring>
#include <limits>

namespace sgl {
namespace {

constexpr float kForbidden = -std::numeric_limits<float>::infinity();

uint64_t mix(uint64_t z) {
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

// NaN and +infinity: what a model must not produce. -infinity is a legal way to forbid an id.
bool has_bad(const float* x, int n) {
  int bad = 0;
  for (int i = 0; i < n; i++) bad |= !(x[i] <= FLT_MAX);
  return bad != 0;
}

// Larger first, ties to the lower id.
struct Better {
  const float* x;
  bool operator()(int32_t a, int32_t b) const { return x[a] > x[b] || (x[a] == x[b] && a < b); }
};

// The k best ids of x into ids, in no particular order. k < n.
void select_best(const float* x, int n, int k, std::vector<int32_t>& ids) {
  // Candidates above the k-th best so far; cut back to k whenever the buffer is full, so the work is O(n).
  const size_t room = std::max<size_t>(static_cast<size_t>(k) * 2, 1024);
  ids.clear();
  ids.reserve(room + 1);
  float threshold = -std::numeric_limits<float>::infinity();
  bool full = false;  // k ids at or above the threshold are in: later ids must be strictly better (ties: lower id)
  for (int i = 0; i < n; i++) {
    if (full && !(x[i] > threshold)) continue;
    ids.push_back(i);
    if (ids.size() > room) {
      std::nth_element(ids.begin(), ids.begin() + (k - 1), ids.end(), Better{x});
      ids.resize(static_cast<size_t>(k));
      threshold = x[ids[static_cast<size_t>(k - 1)]];
      full = true;
    }
  }
  if (ids.size() > static_cast<size_t>(k)) {
    std::nth_element(ids.begin(), ids.begin() + (k - 1), ids.end(), Better{x});
    ids.resize(static_cast<size_t>(k));
  }
}

// Sum of 256 weights in a fixed order that vectorises: eight interleaved sums, then those in order.
constexpr int kSpan = 256;
double span_sum(const float* w, int n) {
  double lane[8] = {};
  int i = 0;
  for (; i + 8 <= n; i += 8)
    for (int j = 0; j < 8; j++) lane[j] += w[i + j];
  double sum = 0;
  for (double x : lane) sum += x;
  for (; i < n; i++) sum += w[i];
  return sum;
}

// Index drawn with probability w[i] / sum(w): the first whose cumulative weight exceeds u * sum(w), ids ascending.
int draw_index(const float* w, int n, double u, std::vector<double>& mass) {
  const int spans = (n + kSpan - 1) / kSpan;
  mass.resize(static_cast<size_t>(spans));
  double total = 0;
  for (int s = 0; s < spans; s++) {
    mass[s] = span_sum(w + s * kSpan, std::min(kSpan, n - s * kSpan));
    total += mass[s];
  }
  const double target = u * total;
  double below = 0;
  int last = -1;  // last index with weight, where rounding ends up when the target is not quite reached
  for (int s = 0; s < spans; s++) {
    const int begin = s * kSpan, end = std::min(n, begin + kSpan);
    if (below + mass[s] <= target && s + 1 < spans) {
      if (mass[s] > 0) last = end - 1;
      below += mass[s];
      continue;
    }
    for (int i = begin; i < end; i++) {
      if (!(w[i] > 0)) continue;
      last = i;
      below += w[i];
      if (below > target) return i;
    }
  }
  while (last >= 0 && !(w[last] > 0)) last--;
  return last;
}

// Zeroes every weight outside the smallest set of best weights whose sum reaches top_p * total, ties to the lower id.
// No full sort: weights are counted by size, and only those that share the boundary's size class are sorted.
void keep_top_p(float* w, int n, double total, float top_p, SamplerScratch& scratch) {
  const double wanted = total * static_cast<double>(top_p);
  // All weights below this together weigh less than (1 - top_p) of the total: none of them is in the set.
  const float negligible = static_cast<float>(total * (1.0 - static_cast<double>(top_p)) / n * 0.999);
  constexpr int kShift = 19, kClasses = 1 << (32 - kShift - 1);  // sign + 8 exponent bits + 4 of the mantissa
  const auto size_class = [](float x) {
    uint32_t bits;
    std::memcpy(&bits, &x, sizeof bits);
    return static_cast<int>(bits >> kShift);
  };
  auto& mass = scratch.mass;
  mass.assign(kClasses, 0.0);
  for (int i = 0; i < n; i++)
    if (w[i] > 0 && w[i] >= negligible) mass[size_class(w[i])] += w[i];
  double above = 0;
  int boundary = kClasses - 1;
  for (; boundary > 0 && above + mass[boundary] < wanted; boundary--) above += mass[boundary];
  auto& ids = scratch.ids;
  ids.clear();
  for (int i = 0; i < n; i++) {
    const int c = w[i] > 0 && w[i] >= negligible ? size_class(w[i]) : -1;
    if (c == boundary) ids.push_back(i);
    else if (c < boundary) w[i] = 0;
  }
  std::sort(ids.begin(), ids.end(), Better{w});
  size_t kept = 0;
  for (double sum = above; kept < ids.size() && (sum < wanted || (above == 0 && kept == 0)); kept++) sum += w[ids[kept]];
  for (; kept < ids.size(); kept++) w[ids[kept]] = 0;
}

// The row after penalties, bias and mask; the raw row itself when none applies.
const float* apply(const SampleRow& row, std::vector<float>& copy) {
  const bool penalised = row.frequency != 0 || row.presence != 0 || row.repetition != 1;
  const int newest = penalised && row.newest >= 0 && row.newest < row.vocab ? row.newest : -1;
  if (row.seen == 0 && newest < 0 && row.biases == 0 && !row.mask) return row.logits;
  copy.assign(row.logits, row.logits + row.vocab);
  float* x = copy.data();
  const auto penalise = [&](int id, int count) {
    float& v = x[id];
    v = v > 0 ? v / row.repetition : v * row.repetition;
    if (count > 0) {
      v -= row.frequency * static_cast<float>(count);
      v -= row.presence;
    }
  };
  bool fresh = newest >= 0;
  for (int i = 0; i < row.seen; i++) {
    const bool again = row.seen_ids[i] == newest;
    penalise(row.seen_ids[i], row.seen_counts[i] + (again ? 1 : 0));
    if (again) fresh = false;
  }
  if (fresh) penalise(newest, 1);
  for (int i = 0; i < row.biases; i++) x[row.bias_ids[i]] += row.bias_values[i];
  if (row.mask) {
    for (int base = 0; base < row.vocab; base += 32) {
      const uint32_t word = row.mask[base >> 5];
      if (word == 0xFFFFFFFFu) continue;
      const int end = std::min(32, row.vocab - base);
      for (int j = 0; j < end; j++)
        if (!(word >> j & 1)) x[base + j] = kForbidden;
    }
  }
  return x;
}

int sample(const KernelTable& kernels, const SampleRow& row, const float* x, SamplerScratch& scratch) {
  const int n = row.vocab;
  const int best = kernels.argmax(x, n);
  if (best < 0 || x[best] == kForbidden) return -1;
  if (row.temperature < kGreedyTemperature || row.top_k == 1) return best;
  const float inverse = 1.0f / row.temperature;
  const double u = uniform(row.seed, row.draw);
  auto& w = scratch.weights;

  if (row.top_k > 0 && row.top_k < n) {
    auto& ids = scratch.ids;
    select_best(x, n, row.top_k, ids);
    std::sort(ids.begin(), ids.end(), Better{x});
    const int k = static_cast<int>(ids.size());
    w.resize(static_cast<size_t>(k) * 2);
    float* sorted = w.data() + k;
    for (int i = 0; i < k; i++) sorted[i] = x[ids[i]];
    const double total = kernels.exp_sum(w.data(), sorted, k, x[best], inverse);
    int kept = k;
    if (row.top_p < 1) {
      double sum = 0;
      for (kept = 0; kept < k && (kept == 0 || sum < total * static_cast<double>(row.top_p)); kept++) sum += w[kept];
    }
    if (row.min_p > 0) {
      const float least = w[0] * row.min_p;
      while (kept > 1 && w[kept - 1] < least) kept--;
    }
    // Drawn in the order of ids, as every other path does.
    std::vector<double>& mass = scratch.mass;
    auto& order = scratch.order;
    order.resize(static_cast<size_t>(kept));
    for (int i = 0; i < kept; i++) order[i] = i;
    std::sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return ids[a] < ids[b]; });
    for (int i = 0; i < kept; i++) sorted[i] = w[order[i]];
    const int drawn = draw_index(sorted, kept, u, mass);
    return drawn < 0 ? best : ids[order[drawn]];
  }

  w.resize(static_cast<size_t>(n));
  const double total = kernels.exp_sum(w.data(), x, n, x[best], inverse);
  if (row.top_p < 1) keep_top_p(w.data(), n, total, row.top_p, scratch);
  if (row.min_p > 0) {
    const float least = w[best] * row.min_p;
    for (int i = 0; i < n; i++)
      if (w[i] < least) w[i] = 0;
  }
  const int drawn = draw_index(w.data(), n, u, scratch.mass);
  return drawn < 0 ? best : drawn;
}

// log-softmax of the raw row at `id` is logits[id] - normaliser.
double normaliser(const KernelTable& kernels, const SampleRow& row, SamplerScratch& scratch) {
  auto& w = scratch.weights;
  w.resize(static_cast<size_t>(row.vocab));
  const float max = kernels.max(row.logits, row.vocab);
  if (max == kForbidden) return 0;  // every id forbidden by the model: all logprobs are -infinity
  return static_cast<double>(max) + std::log(kernels.exp_sum(w.data(), row.logits, row.vocab, max, 1.0f));
}

}  // namespace

double uniform(uint64_t seed, uint32_t draw) {
  constexpr uint64_t g = 0x9E3779B97F4A7C15u;
  const uint64_t z = mix(mix(seed + g) + (static_cast<uint64_t>(draw) + 1) * g);
  return static_cast<double>(z >> 11) * 0x1p-53;
}

int sample_row(const KernelTable& kernels, const SampleRow& row, SamplerScratch& scratch, SampleFault* fault) {
  *fault = SampleFault::none;
  const bool logprobs = row.report || row.wanted > 0;
  if (row.target >= 0 && !logprobs) return row.target;
  if (has_bad(row.logits, row.vocab)) {
    *fault = SampleFault::not_a_number;
    return -1;
  }
  int id = row.target;
  if (id < 0) {
    id = sample(kernels, row, apply(row, scratch.logits), scratch);
    if (id < 0) *fault = SampleFault::nothing_allowed;
  }
  if (!logprobs) return id;
  const double z = normaliser(kernels, row, scratch);
  const auto logprob = [&](int32_t i) { return static_cast<float>(static_cast<double>(row.logits[i]) - z); };
  if (row.report) {
    if (id >= 0) *row.logprob = logprob(id);
    if (row.top > 0) {
      auto& ids = scratch.ids;
      if (row.top < row.vocab) {
        select_best(row.logits, row.vocab, row.top, ids);
      } else {
        ids.resize(static_cast<size_t>(row.vocab));
        for (int i = 0; i < row.vocab; i++) ids[i] = i;
      }
      std::sort(ids.begin(), ids.end(), Better{row.logits});
      for (int i = 0; i < row.top; i++) {
        row.top_ids[i] = ids[i];
        row.top_logprobs[i] = logprob(ids[i]);
      }
    }
  }
  for (int i = 0; i < row.wanted; i++) row.wanted_logprobs[i] = logprob(row.wanted_ids[i]);
  return id;
}

}  // namespace sgl
