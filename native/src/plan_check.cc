// Plan::check: proves a step's inputs before it is queued, so that the runner never reads outside them. Messages name
// the field, its index, what was expected and what arrived.
#include <algorithm>
#include <cmath>
#include <cstdio>

#include "plan.h"
#include "runtime.h"

namespace sgl {
namespace {

// Collects the first failure; every check returns false once there is one.
class Checker {
 public:
  std::string error;

  bool fail(std::string message) {
    if (error.empty()) error = std::move(message);
    return false;
  }

  bool length(const char* name, size_t found, size_t expected, const char* per) {
    return found == expected || fail("inputs." + std::string(name) + " must have " + std::to_string(expected) + " entries (" + per + "), got " +
                                     std::to_string(found));
  }

  bool entry(const char* name, size_t index, int64_t found, int64_t low, int64_t high) {
    if (found >= low && found <= high) return true;
    return fail("inputs." + std::string(name) + "[" + std::to_string(index) + "] must be an integer from " + std::to_string(low) + " to " +
                std::to_string(high) + ", got " + std::to_string(found));
  }

  bool value(const char* name, size_t index, bool ok, const char* expected, float found) {
    if (ok) return true;
    char text[32] = "NaN";
    if (std::isinf(found)) std::snprintf(text, sizeof text, "%s", found > 0 ? "Infinity" : "-Infinity");
    else if (found == found) std::snprintf(text, sizeof text, "%g", static_cast<double>(found));
    return fail("inputs." + std::string(name) + "[" + std::to_string(index) + "] must be " + expected + ", got " + text);
  }

  bool all(const char* name, const std::vector<int32_t>& values, int64_t low, int64_t high) {
    for (size_t i = 0; i < values.size(); i++)
      if (values[i] < low || values[i] > high) return entry(name, i, values[i], low, high);
    return true;
  }

  // starts[0] = 0, never falling, within `size` entries; all of them when `whole`.
  bool ranges(const char* name, const std::vector<int32_t>& starts, size_t size, const char* of, bool whole) {
    if (starts[0] != 0) return fail("inputs." + std::string(name) + "[0] must be 0, got " + std::to_string(starts[0]));
    for (size_t i = 1; i < starts.size(); i++)
      if (starts[i] < starts[i - 1])
        return fail("inputs." + std::string(name) + "[" + std::to_string(i) + "] must be at least the entry before it, " +
                    std::to_string(starts[i - 1]) + ", got " + std::to_string(starts[i]));
    const auto last = static_cast<size_t>(starts.back());
    if (whole ? last == size : last <= size) return true;
    return fail("inputs." + std::string(name) + " must end " + (whole ? "with " : "at or before ") + std::to_string(size) + ", the length of " + of +
                ", got " + std::to_string(last));
  }
};

bool check_tokens(Checker& c, const StepInputs& in, int max_tokens, int table_rows) {
  const size_t n = in.tokens.size();
  if (n > static_cast<size_t>(max_tokens))
    return c.fail("inputs.tokens has " + std::to_string(n) + " entries, but the plan takes at most " + std::to_string(max_tokens) + " per step");
  if (!c.length("positions", in.positions.size(), n, "one per token")) return false;
  return c.all("tokens", in.tokens, -int64_t{kTokenSlots}, int64_t{table_rows} - 1);
}

bool check_sequences(Checker& c, const StepInputs& in, const KvLayout& kv) {
  const size_t n = in.kv_length.size();
  if (!c.length("seqStart", in.seq_start.size(), n + 1, "one per sequence and one more") ||
      !c.length("pageStart", in.page_start.size(), n + 1, "one per sequence and one more") ||
      !c.ranges("seqStart", in.seq_start, in.tokens.size(), "inputs.tokens", true) ||
      !c.ranges("pageStart", in.page_start, in.page_table.size(), "inputs.pageTable", false))
    return false;
  for (size_t i = 0; i < n; i++) {
    const int count = in.seq_start[i + 1] - in.seq_start[i];
    const int64_t held = in.page_start[i + 1] - in.page_start[i];
    if (!c.entry("kvLength", i, in.kv_length[i], count, INT32_MAX)) return false;
    const int64_t pages = (static_cast<int64_t>(in.kv_length[i]) + kv.page_size - 1) / kv.page_size;
    if (held < pages)
      return c.fail("inputs.pageTable holds " + std::to_string(held) + " pages for sequence " + std::to_string(i) + ", but its kvLength " +
                    std::to_string(in.kv_length[i]) + " takes " + std::to_string(pages));
    for (int64_t p = 0; p < pages; p++) {
      const auto at = static_cast<size_t>(in.page_start[i] + p);
      if (!c.entry("pageTable", at, in.page_table[at], 0, kv.pages - 1)) return false;
    }
    for (int j = 0; j < count; j++) {
      const auto at = static_cast<size_t>(in.seq_start[i] + j);
      const int position = in.kv_length[i] - count + j;
      if (in.positions[at] != position)
        return c.fail("inputs.positions[" + std::to_string(at) + "] must be " + std::to_string(position) + " (token " + std::to_string(j) + " of " +
                      std::to_string(count) + " of sequence " + std::to_string(i) + ", whose kvLength is " + std::to_string(in.kv_length[i]) + "), got " +
                      std::to_string(in.positions[at]));
    }
  }
  return true;
}

bool check_rows(Checker& c, const StepInputs& in, int vocab) {
  const size_t n = in.row_token.size();
  const char* per = "one per row";
  if (!c.length("rowTarget", in.row_target.size(), n, per) || !c.length("rowSlot", in.row_slot.size(), n, per) ||
      !c.length("temperature", in.temperature.size(), n, per) || !c.length("topP", in.top_p.size(), n, per) ||
      !c.length("topK", in.top_k.size(), n, per) || !c.length("minP", in.min_p.size(), n, per) ||
      !c.length("seed", in.seed.size(), 2 * n, "two per row") || !c.length("draw", in.draw.size(), n, per) ||
      !c.length("penalties", in.penalties.size(), 3 * n, "three per row") ||
      !c.length("seenStart", in.seen_start.size(), n + 1, "one per row and one more") ||
      !c.length("seenCounts", in.seen_counts.size(), in.seen_ids.size(), "one per entry of seenIds") ||
      !c.length("biasStart", in.bias_start.size(), n + 1, "one per row and one more") ||
      !c.length("biasValues", in.bias_values.size(), in.bias_ids.size(), "one per entry of biasIds") ||
      !c.length("maskIndex", in.mask_index.size(), n, per) || !c.length("topLogprobs", in.top_logprobs.size(), n, per) ||
      !c.length("wantedStart", in.wanted_start.size(), n + 1, "one per row and one more") ||
      !c.ranges("seenStart", in.seen_start, in.seen_ids.size(), "inputs.seenIds", true) ||
      !c.ranges("biasStart", in.bias_start, in.bias_ids.size(), "inputs.biasIds", true) ||
      !c.ranges("wantedStart", in.wanted_start, in.wanted_ids.size(), "inputs.wantedIds", true))
    return false;
  // Without a head there is nothing to report; the entries below can only say "none".
  if (!c.all("rowToken", in.row_token, 0, static_cast<int64_t>(in.tokens.size()) - 1) || !c.all("rowTarget", in.row_target, -1, int64_t{vocab} - 1) ||
      !c.all("rowSlot", in.row_slot, -1, kTokenSlots - 1) || !c.all("seenIds", in.seen_ids, 0, int64_t{vocab} - 1) ||
      !c.all("seenCounts", in.seen_counts, 0, INT32_MAX) || !c.all("biasIds", in.bias_ids, 0, int64_t{vocab} - 1) ||
      !c.all("maskIndex", in.mask_index, vocab ? kLateMask : kNoMask, vocab ? kMaskSlots - 1 : kNoMask) || !c.all("topLogprobs", in.top_logprobs, -1, vocab ? vocab : -1) ||
      !c.all("wantedIds", in.wanted_ids, 0, int64_t{vocab} - 1))
    return false;
  for (size_t i = 0; i < n; i++) {
    const float temperature = in.temperature[i], top_p = in.top_p[i], min_p = in.min_p[i];
    if (!c.value("temperature", i, std::isfinite(temperature) && temperature >= 0, "a finite number >= 0", temperature) ||
        !c.value("topP", i, top_p > 0 && top_p <= 1, "a number in (0, 1]", top_p) || !c.value("minP", i, min_p >= 0 && min_p <= 1, "a number in [0, 1]", min_p))
      return false;
    const float* p = &in.penalties[3 * i];
    if (!c.value("penalties", 3 * i, std::isfinite(p[0]), "a finite frequency penalty", p[0]) ||
        !c.value("penalties", 3 * i + 1, std::isfinite(p[1]), "a finite presence penalty", p[1]) ||
        !c.value("penalties", 3 * i + 2, std::isfinite(p[2]) && p[2] > 0, "a finite repetition penalty > 0", p[2]))
      return false;
  }
  for (size_t i = 0; i < in.bias_values.size(); i++)
    if (!c.value("biasValues", i, in.bias_values[i] < INFINITY, "a finite number or -Infinity", in.bias_values[i])) return false;
  return true;
}

}  // namespace

std::string Plan::check(const StepInputs& in) const {
  Checker c;
  // Negative ids name token-pool slots; the tables bound the others.
  if (!check_tokens(c, in, max_tokens_, table_rows_) || !check_sequences(c, in, kv_->layout) || !check_rows(c, in, logits_ < 0 ? 0 : vocab_)) return c.error;
  if (in.return_logits && logits_ < 0) return "inputs.returnLogits must be false: the plan has no logits";
  if (in.return_hidden && hidden_ < 0) return "inputs.returnHidden must be false: the plan names no hidden buffer";
  return "";
}

void Plan::set_mask(int index, Mask mask) {
  const auto at = static_cast<size_t>(index);
  if (at >= masks_.size()) {
    if (!mask) return;
    masks_.resize(at + 1);
  }
  masks_[at] = std::move(mask);
}

std::string Plan::bind_masks(Step& step) {
  const StepInputs& in = step.in;
  const size_t rows = in.mask_index.size();
  step.masks.assign(rows, nullptr);
  for (size_t i = 0; i < rows; i++) {
    const int32_t index = in.mask_index[i];
    if (index == kLateMask) step.late_rows.push_back(static_cast<int32_t>(i));
    if (index < 0) continue;
    if (static_cast<size_t>(index) < masks_.size()) step.masks[i] = masks_[static_cast<size_t>(index)];
    if (!step.masks[i]) return "inputs.maskIndex[" + std::to_string(i) + "] names entry " + std::to_string(index) + " of the mask table, which is empty";
  }
  if (step.late_rows.empty()) return "";
  if (in.mask_ticket == 0) return "inputs.maskTicket must not be 0: row " + std::to_string(step.late_rows[0]) + " has a late mask";
  for (const Step* other : waiting_)
    if (other->in.mask_ticket == in.mask_ticket) return "inputs.maskTicket is the ticket of a step that waits for its masks already";
  step.masks_ready = false;
  waiting_.push_back(&step);
  runtime_->unsupplied++;
  return "";
}

void Plan::forget(Step& step) {
  const auto at = std::find(waiting_.begin(), waiting_.end(), &step);
  if (at == waiting_.end()) return;
  waiting_.erase(at);
  runtime_->unsupplied--;
}

bool Plan::supply_masks(double ticket, const std::vector<int32_t>& indices, std::string* error) {
  const auto at = std::find_if(waiting_.begin(), waiting_.end(), [&](const Step* step) { return step->in.mask_ticket == ticket; });
  if (at == waiting_.end()) return false;
  Step& step = **at;
  const size_t late = step.late_rows.size();
  if (indices.size() != late) {
    *error = "masks must have " + std::to_string(late) + " entries (one per late row), got " + std::to_string(indices.size());
    return false;
  }
  std::vector<Mask> found(late);
  for (size_t i = 0; i < late; i++) {
    const int32_t index = indices[i];
    if (index < kFailedMask || index >= kMaskSlots) {
      *error = "masks[" + std::to_string(i) + "] must be an integer from -2 to " + std::to_string(kMaskSlots - 1) + ", got " + std::to_string(index);
      return false;
    }
    if (index < 0) continue;
    if (static_cast<size_t>(index) < masks_.size()) found[i] = masks_[static_cast<size_t>(index)];
    if (found[i]) continue;
    *error = "masks[" + std::to_string(i) + "] names entry " + std::to_string(index) + " of the mask table, which is empty";
    return false;
  }
  runtime_->change([&] {
    for (size_t i = 0; i < late; i++) {
      const auto row = static_cast<size_t>(step.late_rows[i]);
      step.masks[row] = std::move(found[i]);
      if (indices[i] != kFailedMask) continue;
      step.mask_failed.resize(step.masks.size());
      step.mask_failed[row] = 1;
    }
    step.masks_ready = true;
  });
  forget(step);
  return true;
}

void Plan::abandon_masks(const char* why) {
  runtime_->change([&] {
    for (Step* step : waiting_) step->masks_error = why;
  });
  while (!waiting_.empty()) forget(*waiting_.back());
}

void Plan::prepare_outputs(Step& step) const {
  const StepInputs& in = step.in;
  StepOutputs& out = step.out;
  step.tokens = static_cast<int>(in.tokens.size());
  step.sequences = static_cast<int>(in.kv_length.size());
  step.rows = static_cast<int>(in.row_token.size());
  const auto rows = static_cast<size_t>(step.rows);
  constexpr float kNone = std::numeric_limits<float>::quiet_NaN();
  out.ids.assign(rows, -1);
  out.logprobs.assign(rows, kNone);
  out.top_start.assign(rows + 1, 0);
  for (size_t i = 0; i < rows; i++) out.top_start[i + 1] = out.top_start[i] + static_cast<size_t>(std::max(0, in.top_logprobs[i]));
  out.top_ids.assign(out.top_start[rows], -1);
  out.top_logprobs.assign(out.top_start[rows], kNone);
  out.wanted_logprobs.assign(in.wanted_ids.size(), kNone);
}

}  // namespace sgl
