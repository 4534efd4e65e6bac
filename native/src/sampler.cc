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

// Larger first, ties to the lower id.
struct Better {
  const float* x;
  bool operator()(int32_t a, int32_t b) const { return x[a] > x[b] || (x[a] == x[b] && a < b); }
};

// Values per look at a row: a stretch whose largest is too small is skipped without looking at each.
constexpr int kStretch = 64;

// f(begin, end) for stretches of x that hold a value above `least()`, which f may raise.
template <class Least, class F>
void each_stretch(const KernelTable& kernels, const float* x, int n, const Least& least, const F& f) {
  for (int begin = 0; begin < n; begin += kStretch) {
    const int end = std::min(n, begin + kStretch);
    if (kernels.max(x + begin, end - begin) >= least()) f(begin, end);
  }
}

// The k best ids of x into ids, in no particular order. k < n.
void select_best(const KernelTable& kernels, const float* x, int n, int k, std::vector<int32_t>& ids) {
  // Candidates above the k-th best so far; cut back to k whenever the buffer is full, so the work is O(n).
  const size_t room = std::max<size_t>(static_cast<size_t>(k) * 2, 1024);
  ids.clear();
  ids.reserve(room + 1);
  float threshold = -std::numeric_limits<float>::infinity();
  bool full = false;  // k ids at or above the threshold are in: later ids must be strictly better (ties: lower id)
  each_stretch(kernels, x, n, [&] { return threshold; }, [&](int begin, int end) {
    for (int i = begin; i < end; i++) {
      if (full && !(x[i] > threshold)) continue;
      ids.push_back(i);
      if (ids.size() > room) {
        std::nth_element(ids.begin(), ids.begin() + (k - 1), ids.end(), Better{x});
        ids.resize(static_cast<size_t>(k));
        threshold = x[ids[static_cast<size_t>(k - 1)]];
        full = true;
      }
    }
  });
  if (ids.size() > static_cast<size_t>(k)) {
    std::nth_element(ids.begin(), ids.begin() + (k - 1), ids.end(), Better{x});
    ids.resize(static_cast<size_t>(k));
  }
}

// Ids of the weights above 0 that are at least `least`, ascending, with their weights, at the front of scratch.ids and
// scratch.kept; returns how many. Those only grow: making them smaller and larger again would fill them with zeros each time.
size_t select_from(const KernelTable& kernels, const float* w, int n, float least, SamplerScratch& scratch) {
  if (scratch.ids.size() < static_cast<size_t>(n)) scratch.ids.resize(static_cast<size_t>(n));
  if (scratch.kept.size() < static_cast<size_t>(n)) scratch.kept.resize(static_cast<size_t>(n));
  int32_t* ids = scratch.ids.data();
  float* kept = scratch.kept.data();
  size_t count = 0;
  each_stretch(kernels, w, n, [&] { return least; }, [&](int begin, int end) {
    // Written first and counted then: which weights are large enough is no pattern that a branch could follow.
    for (int i = begin; i < end; i++) {
      ids[count] = i;
      kept[count] = w[i];
      count += w[i] > 0 && w[i] >= least ? 1 : 0;
    }
  });
  return count;
}

// A weight below which all weights together weigh less than `light`. `mass`: the sums of spans of kSumSpan weights. Of a span
// they weigh no more than it does, and no more than kSumSpan of the bound.
float light_below(const std::vector<double>& mass, int n, double light) {
  constexpr double kMargin = 0.999;  // for what rounding does to sums
  const auto at_most = [&](double bound) {
    double sum = 0;
    for (const double span : mass) sum += std::min(span, bound * kSumSpan);
    return sum;
  };
  double bound = light / n * kMargin;
  while (at_most(bound * 2) < light * kMargin) bound *= 2;
  return static_cast<float>(bound * kMargin);
}

// Index drawn with probability w[i] / sum(w): the first whose cumulative weight exceeds u * sum(w). `mass`: the sums of
// spans of kSumSpan weights.
int draw_index(const float* w, int n, double u, const std::vector<double>& mass) {
  const auto spans = static_cast<int>(mass.size());
  double total = 0;
  for (const double sum : mass) total += sum;
  const double target = u * total;
  double below = 0;
  int last = -1;  // last index with weight, where rounding ends up when the target is not quite reached
  for (int s = 0; s < spans; s++) {
    const int begin = s * kSumSpan, end = std::min(n, begin + kSumSpan);
    if (below + mass[static_cast<size_t>(s)] <= target && s + 1 < spans) {
      if (mass[static_cast<size_t>(s)] > 0) last = end - 1;
      below += mass[static_cast<size_t>(s)];
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

// The same for weights in a row: one sum after the other.
int draw_among(const float* w, size_t n, double u, std::vector<double>& mass) {
  mass.assign((n + kSumSpan - 1) / kSumSpan, 0.0);
  for (size_t span = 0; span < mass.size(); span++) {
    const size_t end = std::min(n, (span + 1) * kSumSpan);
    double sum = 0;
    for (size_t i = span * kSumSpan; i < end; i++) sum += w[i];
    mass[span] = sum;
  }
  return draw_index(w, static_cast<int>(n), u, mass);
}

uint32_t bits_of(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  return bits;
}

// Zeroes every one of n weights outside the smallest set of best weights whose sum reaches `wanted`, ties to the lower index.
// No sort: weights (>= 0, so their bits rise with them) are counted by their high bits, those that share the boundary's
// by the bits below, and so on; what is left at the end is equal.
void keep_top_p(float* w, size_t n, double wanted, SamplerScratch& scratch) {
  struct Digit {
    int shift, bits;
  };
  constexpr Digit kDigits[] = {{19, 12}, {9, 10}, {0, 9}};  // the first: 8 exponent bits and 4 of the mantissa; no sign
  auto& mass = scratch.mass;
  auto& edge = scratch.order;  // what may still be on either side, ascending
  if (edge.size() < n) edge.resize(n);
  double above = 0;  // sum of what is known to be in the set
  size_t count = n;
  for (const Digit digit : kDigits) {
    const bool first = digit.shift == kDigits[0].shift;  // all of w, not listed yet
    const uint32_t most = (1u << digit.bits) - 1;
    const auto value_of = [&](size_t i) { return bits_of(w[i]) >> digit.shift & most; };
    // Four tables in turn: neighbours of one size would wait for each other's addition.
    mass.assign((size_t{most} + 1) * 4, 0.0);
    for (size_t k = 0; k < count; k++) {
      const size_t i = first ? k : static_cast<size_t>(edge[k]);
      mass[static_cast<size_t>(value_of(i)) * 4 + k % 4] += w[i];
    }
    const auto sum_of = [&](uint32_t value) {
      const double* m = &mass[static_cast<size_t>(value) * 4];
      return (m[0] + m[1]) + (m[2] + m[3]);
    };
    uint32_t boundary = most;
    for (; boundary > 0 && above + sum_of(boundary) < wanted; boundary--) above += sum_of(boundary);
    size_t left = 0;
    for (size_t k = 0; k < count; k++) {
      const size_t i = first ? k : static_cast<size_t>(edge[k]);
      const uint32_t value = value_of(i);
      w[i] = value < boundary ? 0 : w[i];
      edge[left] = static_cast<int32_t>(i);
      left += value == boundary ? 1 : 0;
    }
    count = left;
  }
  size_t kept = 0;
  for (double sum = above; kept < count && (sum < wanted || (above == 0 && kept == 0)); kept++) sum += w[static_cast<size_t>(edge[kept])];
  for (; kept < count; kept++) w[static_cast<size_t>(edge[kept])] = 0;
}

// The raw row; null when it holds NaN or +infinity, which a model must not produce. -infinity is a legal way to forbid
// an id.
const float* finite(const KernelTable& kernels, const SampleRow& row) {
  return kernels.checked_copy(nullptr, row.logits, row.vocab, nullptr) ? row.logits : nullptr;
}

// The row after mask, penalties and bias (an id forbidden stays so); the raw row itself when none applies. Null as above.
const float* apply(const KernelTable& kernels, const SampleRow& row, std::vector<float>& copy) {
  const bool penalised = row.frequency != 0 || row.presence != 0 || row.repetition != 1;
  const int newest = penalised && row.newest >= 0 && row.newest < row.vocab ? row.newest : -1;
  if (row.seen == 0 && newest < 0 && row.biases == 0 && !row.mask) return finite(kernels, row);
  copy.resize(static_cast<size_t>(row.vocab));
  float* x = copy.data();
  if (!kernels.checked_copy(x, row.logits, row.vocab, row.mask)) return nullptr;
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
  return x;
}

bool is_greedy(float temperature, int top_k) { return temperature < kGreedyTemperature || top_k == 1; }

// Draws among ids by falling logit, with their logits.
int draw_best(const KernelTable& kernels, const SampleRow& row, const std::vector<int32_t>& ids, const float* sorted, SamplerScratch& scratch) {
  auto& w = scratch.weights;
  const int k = static_cast<int>(ids.size());
  w.resize(static_cast<size_t>(k));
  const double total = kernels.exp_sum(w.data(), sorted, k, sorted[0], 1.0f / row.temperature, nullptr);
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
  auto& order = scratch.order;
  order.resize(static_cast<size_t>(kept));
  for (int i = 0; i < kept; i++) order[i] = i;
  std::sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return ids[a] < ids[b]; });
  scratch.kept.resize(static_cast<size_t>(kept));
  for (int i = 0; i < kept; i++) scratch.kept[static_cast<size_t>(i)] = w[order[i]];
  const int drawn = draw_among(scratch.kept.data(), scratch.kept.size(), uniform(row.seed, row.draw), scratch.mass);
  return drawn < 0 ? ids[0] : ids[order[drawn]];
}

// The same as sample() over the row's logits.
int sample_best(const KernelTable& kernels, const SampleRow& row, SamplerScratch& scratch, SampleFault* fault) {
  auto& ids = scratch.ids;
  auto& values = scratch.logits;
  if (!row.best->best(ids, values)) {
    *fault = SampleFault::not_a_number;
    return -1;
  }
  if (ids.empty() || values[0] == kForbidden) {
    *fault = SampleFault::nothing_allowed;
    return -1;
  }
  return is_greedy(row.temperature, row.top_k) ? ids[0] : draw_best(kernels, row, ids, values.data(), scratch);
}

int sample(const KernelTable& kernels, const SampleRow& row, const float* x, SamplerScratch& scratch) {
  const int n = row.vocab;
  const int best = kernels.argmax(x, n);
  if (best < 0 || x[best] == kForbidden) return -1;
  if (is_greedy(row.temperature, row.top_k)) return best;
  const float inverse = 1.0f / row.temperature;
  const double u = uniform(row.seed, row.draw);
  auto& w = scratch.weights;

  if (row.top_k > 0 && row.top_k < n) {
    auto& ids = scratch.ids;
    select_best(kernels, x, n, row.top_k, ids);
    std::sort(ids.begin(), ids.end(), Better{x});
    auto& sorted = scratch.values;
    sorted.resize(ids.size());
    for (size_t i = 0; i < ids.size(); i++) sorted[i] = x[ids[i]];
    return draw_best(kernels, row, ids, sorted.data(), scratch);
  }

  w.resize(static_cast<size_t>(n));
  scratch.mass.resize(static_cast<size_t>((n + kSumSpan - 1) / kSumSpan));
  const double total = kernels.exp_sum(w.data(), x, n, x[best], inverse, scratch.mass.data());
  if (row.top_p >= 1 && row.min_p <= 0) {
    const int drawn = draw_index(w.data(), n, u, scratch.mass);
    return drawn < 0 ? best : drawn;
  }
  const double top_p = static_cast<double>(row.top_p);
  const float least = w[static_cast<size_t>(best)] * row.min_p;
  // What is lighter together than 1 - top_p of the total is not in the set.
  const size_t count = select_from(kernels, w.data(), n, row.top_p < 1 ? light_below(scratch.mass, n, total * (1.0 - top_p)) : least, scratch);
  float* kept = scratch.kept.data();
  if (row.top_p < 1) keep_top_p(kept, count, total * top_p, scratch);
  for (size_t i = 0; i < count; i++)
    if (kept[i] < least) kept[i] = 0;
  const int drawn = draw_among(kept, count, u, scratch.mass);
  return drawn < 0 ? best : scratch.ids[static_cast<size_t>(drawn)];
}

// log-softmax of the raw row at `id` is logits[id] - normaliser.
double normaliser(const KernelTable& kernels, const SampleRow& row, SamplerScratch& scratch) {
  auto& w = scratch.weights;
  w.resize(static_cast<size_t>(row.vocab));
  const float max = kernels.max(row.logits, row.vocab);
  if (max == kForbidden) return 0;  // every id forbidden by the model: all logprobs are -infinity
  return static_cast<double>(max) + std::log(kernels.exp_sum(w.data(), row.logits, row.vocab, max, 1.0f, nullptr));
}

}  // namespace

int wanted_ids(const StepInputs& in, size_t row, int vocab) {
  if (in.return_logits || in.top_logprobs[row] >= 0 || in.wanted_start[row + 1] > in.wanted_start[row]) return kAllLogits;
  if (in.row_target[row] >= 0) return 0;
  const float* penalties = &in.penalties[3 * row];
  if (in.mask_index[row] != kNoMask || penalties[0] != 0 || penalties[1] != 0 || penalties[2] != 1 || in.bias_start[row + 1] > in.bias_start[row])
    return kAllLogits;
  if (is_greedy(in.temperature[row], in.top_k[row])) return 1;
  return in.top_k[row] > 0 && in.top_k[row] <= std::min(kMostBest, vocab - 1) ? in.top_k[row] : kAllLogits;
}

void BestIds::begin(int wanted, int ranges) {
  all = wanted == kAllLogits;
  wanted_ = std::max(0, wanted);
  entries_.resize(static_cast<size_t>(ranges) * static_cast<size_t>(wanted_));
  counts_.assign(static_cast<size_t>(ranges), 0);
}

void BestIds::take(const KernelTable& kernels, int range, int from, const float* values, int n, SamplerScratch& scratch) {
  if (wanted_ == 0) return;
  auto& count = counts_[static_cast<size_t>(range)];
  if (!kernels.checked_copy(nullptr, values, n, nullptr)) {
    count = -1;
    return;
  }
  Entry* out = entries_.data() + static_cast<size_t>(range) * static_cast<size_t>(wanted_);
  if (wanted_ == 1) {
    const int id = kernels.argmax(values, n);
    out[count++] = {values[id], from + id};
    return;
  }
  auto& ids = scratch.ids;
  if (wanted_ < n) {
    select_best(kernels, values, n, wanted_, ids);
  } else {
    ids.resize(static_cast<size_t>(n));
    for (int i = 0; i < n; i++) ids[static_cast<size_t>(i)] = i;
  }
  for (const int32_t id : ids) out[count++] = {values[id], from + id};
}

bool BestIds::best(std::vector<int32_t>& ids, std::vector<float>& values) const {
  std::vector<Entry> found;
  for (size_t range = 0; range < counts_.size(); range++) {
    if (counts_[range] < 0) return false;
    const auto first = entries_.begin() + static_cast<long>(range * static_cast<size_t>(wanted_));
    found.insert(found.end(), first, first + counts_[range]);
  }
  const size_t k = std::min(found.size(), static_cast<size_t>(wanted_));
  std::partial_sort(found.begin(), found.begin() + static_cast<long>(k), found.end(),
                    [](const Entry& a, const Entry& b) { return a.value > b.value || (a.value == b.value && a.id < b.id); });
  ids.clear();
  values.clear();
  for (size_t i = 0; i < k; i++) {
    ids.push_back(found[i].id);
    values.push_back(found[i].value);
  }
  return true;
}

double uniform(uint64_t seed, uint32_t draw) {
  constexpr uint64_t g = 0x9E3779B97F4A7C15u;
  const uint64_t z = mix(mix(seed + g) + (static_cast<uint64_t>(draw) + 1) * g);
  return static_cast<double>(z >> 11) * 0x1p-53;
}

int sample_row(const KernelTable& kernels, const SampleRow& row, SamplerScratch& scratch, SampleFault* fault) {
  *fault = SampleFault::none;
  const bool logprobs = row.report || row.wanted > 0;
  if (row.target >= 0 && !logprobs) return row.target;
  if (row.best) return sample_best(kernels, row, scratch, fault);
  const float* x = row.target < 0 ? apply(kernels, row, scratch.logits) : finite(kernels, row);
  if (!x) {
    *fault = SampleFault::not_a_number;
    return -1;
  }
  int id = row.target;
  if (id < 0) {
    id = sample(kernels, row, x, scratch);
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
        select_best(kernels, row.logits, row.vocab, row.top, ids);
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
