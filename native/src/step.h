// One step's inputs and outputs as plain vectors, mirrors of StepInputs and StepOutputs in src/native/addon.ts.
#pragma once
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <vector>

namespace sgl {

struct StepInputs {
  // T tokens, B sequences
  std::vector<int32_t> tokens, positions, seq_start, kv_length, page_start, page_table;
  // S rows
  std::vector<int32_t> row_token, row_target, row_slot;
  std::vector<float> temperature, top_p, min_p, penalties;
  std::vector<int32_t> top_k, draw;
  std::vector<uint32_t> seed;
  std::vector<int32_t> seen_start, seen_ids, seen_counts;
  std::vector<int32_t> bias_start, bias_ids;
  std::vector<float> bias_values;
  std::vector<int32_t> mask_index;
  double mask_ticket = 0;  // names the step to supply_masks; 0 = no late rows
  std::vector<int32_t> top_logprobs, wanted_start, wanted_ids;
  bool return_logits = false, return_hidden = false;
};

struct StepOutputs {
  std::vector<int32_t> ids;
  std::vector<float> logprobs;
  std::vector<size_t> top_start;  // [S + 1] ranges in top_ids
  std::vector<int32_t> top_ids;
  std::vector<float> top_logprobs;
  std::vector<float> wanted_logprobs;
  std::vector<float> logits, hidden;
  int64_t start_ns = 0, end_ns = 0;
  int64_t mask_wait_ns = 0, sample_ns = 0;
};

// One bit per id of the vocabulary, 1 = allowed. Shared with the mask table, so that an entry may be replaced while steps
// that name its old contents are queued.
using Mask = std::shared_ptr<const std::vector<uint32_t>>;
// Entries of StepInputs::mask_index and of what supply_masks gives.
constexpr int32_t kNoMask = -1;      // every id is allowed
constexpr int32_t kLateMask = -2;    // in a step: supplied later
constexpr int32_t kFailedMask = -2;  // when supplied: the row fails

// Consecutive tokens of one sequence that attend together.
struct AttentionTile {
  int sequence, token, count;  // token: index in the step
};

// Positions [begin, end) that some sequences have in the same pages, and the tokens that go through them together.
struct SharedRun {
  int level;     // runs of a level need those of all levels before it
  int sequence;  // whose page table names the pages
  int begin, end;
  size_t first_row;  // its tokens: Step::shared_rows[first_row, first_row + rows)
  int rows;
};

// A submitted step and what the runner derives from it.
struct Step {
  StepInputs in;
  StepOutputs out;
  int tokens = 0, sequences = 0, rows = 0;

  // One per row; null = all allowed. Entries of late rows are written by supply_masks, under the runtime's gate, until
  // `masks_ready`.
  std::vector<Mask> masks;
  std::vector<int32_t> late_rows;
  std::vector<char> mask_failed;  // per row, empty unless one failed
  bool masks_ready = true;
  std::string masks_error;  // why the masks will never come

  // Runner: ids with token-pool references resolved; page and slot of every token; attention work, longest first.
  std::vector<int32_t> ids, page, slot;
  std::vector<AttentionTile> tiles;
  int64_t attention_cost = 0;
  std::vector<SharedRun> shared_runs;  // by level
  std::vector<int32_t> shared_rows;
  std::vector<int> begin;  // per tile: positions that shared runs go through for it

  // The first failure; empty = none. A failed step runs no further, unless only rows of its sampling failed.
  std::string error;
  std::vector<int32_t> failed_rows;
  std::vector<const char*> failed_reasons;  // one per failed row, static text
};

}  // namespace sgl
