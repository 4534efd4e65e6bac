// Execution: each instruction splits its work over the pool, or stays on the runner when a fork-join would cost more
// than the work. How work is split never changes a bit of the result (kernel_table.h).
#include "plan.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstring>

#include "plan_rows.h"

namespace sgl {
namespace {

const char* fault_reason(SampleFault fault) {
  switch (fault) {
    case SampleFault::not_a_number: return "the model produced NaN or infinite logits";
    case SampleFault::no_mask: return "the mask of its next token could not be made";
    default: return "no token is allowed: mask and bias forbid every id";
  }
}

int64_t now_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace

std::vector<Plan::Action> Plan::actions(const Step& step) const {
  using Kind = Action::Kind;
  std::vector<Action> list{{Kind::begin, 0, 0}};
  const int count = static_cast<int>(ops_.size());
  if (step.tokens > 0)
    for (int i = 0; i < head_start_; i++) list.push_back({Kind::op, i, 0});
  for (int block = 0; block * static_cast<int64_t>(max_rows_) < step.rows; block++) {
    for (int i = head_start_; i < count; i++) list.push_back({Kind::op, i, block});
    list.push_back({Kind::sample, 0, block});
  }
  list.push_back({Kind::end, 0, 0});
  return list;
}

void Plan::run(Step& step, const Action& action, bool inspecting) {
  const int64_t start = now_ns(), waited = step.out.mask_wait_ns;
  perform(step, action, inspecting);
  const size_t count = ops_.size();
  const size_t at = action.kind == Action::Kind::op ? static_cast<size_t>(action.op) : action.kind == Action::Kind::sample ? count + 1 : count;
  timings_[at].ns += now_ns() - start - (step.out.mask_wait_ns - waited);
  if (action.kind != Action::Kind::end) timings_[at].runs++;
}

Plan::Timings Plan::take_timings() {
  Timings taken{std::vector<Timing>(timings_.size()), 0, 0};
  taken.ops.swap(timings_);
  std::swap(taken.positions_read, positions_read_);
  std::swap(taken.logits_written, logits_written_);
  return taken;
}

void Plan::perform(Step& step, const Action& action, bool inspecting) {
  const int row0 = action.block * max_rows_, rows = std::min(max_rows_, step.rows - row0);
  switch (action.kind) {
    case Action::Kind::begin:
      step.out.start_ns = now_ns();
      begin(step);
      return;
    case Action::Kind::end:
      // A step that failed as a whole leaves valid ids behind for steps that are queued already, as a failed row does.
      if (!step.error.empty() && step.failed_rows.empty())
        for (const int32_t slot : step.in.row_slot)
          if (slot >= 0) token_pool_[static_cast<size_t>(slot)] = 0;
      step.out.end_ns = now_ns();
      return;
    default: break;
  }
  if (runtime_->pool().cancelled() && step.error.empty()) step.error = "the runtime was closed while the step ran";
  // A row that could not be sampled leaves the other rows whole; anything else ends the step.
  if (!step.error.empty() && step.failed_rows.empty()) return;
  if (action.kind == Action::Kind::sample) {
    last_block_rows_ = rows;
    if (!await_masks(step, row0, rows)) return;
    const int64_t start = now_ns();
    sample(step, row0, rows);
    step.out.sample_ns += now_ns() - start;
    return;
  }
  const Op& op = ops_[static_cast<size_t>(action.op)];
  const int m = action.op < head_start_ ? step.tokens : rows;
  execute(op, step, m, row0, inspecting);
  if (inspecting) inspect(op, step, m);
}

// Resolves token-pool references and page slots, lists the attention tiles, computes the rotations of the step.
void Plan::begin(Step& step) {
  const StepInputs& in = step.in;
  last_tokens_ = step.tokens;
  last_block_rows_ = 0;
  const auto tokens = static_cast<size_t>(step.tokens);
  step.ids.resize(tokens);
  for (size_t t = 0; t < tokens; t++) {
    int32_t id = in.tokens[t];
    if (id < 0) {
      const int32_t slot = -(id + 1);
      id = token_pool_[static_cast<size_t>(slot)];
      if (id < 0) {
        step.error = "inputs.tokens[" + std::to_string(t) + "] reads token-pool slot " + std::to_string(slot) + ", which no earlier step has written";
        return;
      }
    }
    step.ids[t] = id;
  }
  const int page_size = kv_->layout.page_size;
  step.page.resize(tokens);
  step.slot.resize(tokens);
  for (int s = 0; s < step.sequences; s++) {
    const int begin = in.seq_start[s], end = in.seq_start[s + 1];
    for (int t = begin; t < end; t++) {
      const int position = in.positions[t];
      step.page[t] = in.page_table[in.page_start[s] + position / page_size];
      step.slot[t] = position % page_size;
    }
    for (int t = begin; t < end; t += kTileTokens) {
      const int count = std::min(kTileTokens, end - t);
      step.tiles.push_back({s, t, count});
      step.attention_cost += static_cast<int64_t>(count) * (in.positions[t] + count);
    }
  }
  const auto cost = [&](const AttentionTile& tile) { return static_cast<int64_t>(tile.count) * (in.positions[tile.token] + tile.count); };
  std::stable_sort(step.tiles.begin(), step.tiles.end(), [&](const AttentionTile& a, const AttentionTile& b) { return cost(a) > cost(b); });
  if (cascade_) find_shared(step, page_size);
  fill_ropes(step);
}

void Plan::fill_ropes(const Step& step) {
  for (RopeTable& rope : ropes_) {
    const int half = rope.half();
    const float* frequencies = rope.frequencies->vector();
    // Sine and cosine in double cost about as much as fifty floats of other work.
    each_row(step.tokens, static_cast<size_t>(half) * 50, [&](int t, int) {
      float* cos_sin = rope.cos_sin.data() + static_cast<size_t>(t) * 2 * static_cast<size_t>(half);
      for (int i = 0; i < half; i++) {
        const double angle = static_cast<double>(step.in.positions[t]) * static_cast<double>(frequencies[i]);
        cos_sin[i] = static_cast<float>(std::cos(angle)) * rope.mscale;
        cos_sin[half + i] = static_cast<float>(std::sin(angle)) * rope.mscale;
      }
    });
  }
}

void Plan::execute(const Op& op, Step& step, int rows, int row0, bool inspecting) {
  const KernelTable& k = runtime_->kernels();
  const auto width = static_cast<size_t>(op.a.columns);
  switch (op.code) {
    case Opcode::embed: return embed(op, step, rows);
    case Opcode::rms_norm: {
      const int group = op.b.columns / op.i0;
      const float* weight = op.w0->vector();
      const Op* next = taker(op);
      return each_row(rows, width, [&](int r, int thread) {
        float* out = op.a.row(r);
        const float* in = op.b.row(r);
        for (int g = 0; g < op.i0; g++) k.rms_norm(out + g * group, in + g * group, weight, group, op.f);
        if (next) quantise(*next, r, 0, op.a.columns, thread);
      });
    }
    case Opcode::add:
      return each_row(rows, width, [&](int r, int) { k.add(op.a.row(r), op.b.row(r), op.c.row(r), op.a.columns); });
    case Opcode::add_rms_norm: {
      const Op* next = taker(op);
      return each_row(rows, width * 2, [&](int r, int thread) {
        k.add_rms_norm(op.a.row(r), op.b.row(r), op.c.row(r), op.d.row(r), op.w0->vector(), op.a.columns, op.f);
        if (next) quantise(*next, r, 0, op.b.columns, thread);
      });
    }
    case Opcode::linear: return linear(op, rows);
    case Opcode::gated_linear: return gated_linear(op, rows);
    case Opcode::logits: return logits(op, step, rows, row0, inspecting);
    case Opcode::rope: {
      const RopeTable& rope = ropes_[static_cast<size_t>(op.rope)];
      const int half = rope.half();
      return each_row(rows, width, [&](int r, int) {
        k.rope(op.a.row(r), rope.cos_sin.data() + static_cast<size_t>(r) * 2 * static_cast<size_t>(half), op.i0, op.i1, half);
      });
    }
    case Opcode::kv_write: return kv_write(op, step, rows);
    case Opcode::attention: return attention(op, step);
    case Opcode::gated_act:
      return each_row(rows, width * 4, [&](int r, int) { k.gated_act(op.a.row(r), op.b.row(r), op.b.row(r) + width, op.a.columns, op.i0); });
    case Opcode::take_rows:
      return each_row(rows, width, [&](int r, int) {
        std::memcpy(op.a.row(r), op.b.row(step.in.row_token[static_cast<size_t>(row0 + r)]), width * sizeof(float));
      });
    case Opcode::count: return;
  }
}

void Plan::embed(const Op& op, const Step& step, int rows) {
  each_row(rows, static_cast<size_t>(op.a.columns) * 4, [&](int r, int) {
    float* out = op.a.row(r);
    op.w0->gather(step.ids[static_cast<size_t>(r)], out);
    if (op.f != 1)
      for (int i = 0; i < op.a.columns; i++) out[i] *= op.f;
  });
}

void Plan::kv_write(const Op& op, Step& step, int rows) {
  const KernelTable& k = runtime_->kernels();
  const KvLayout& layout = kv_->layout;
  std::atomic<bool> fits{true};
  each_row(rows, static_cast<size_t>(op.a.columns) * 4, [&](int r, int) {
    const auto t = static_cast<size_t>(r);
    for (int h = 0; h < layout.kv_heads; h++)
      if (!k.kv_write(kv_->memory.data(), layout, op.i0, step.page[t], step.slot[t], h, op.a.row(r) + h * layout.head_dim, op.b.row(r) + h * layout.head_dim))
        fits.store(false, std::memory_order_relaxed);
  });
  if (fits) return;
  step.error = "keys or values of layer " + std::to_string(op.i0) +
               " are too large for the f16 KV cache (above 65504); start with --kv-cache-dtype bf16 or f32";
}

// The pages that sequences of few tokens have in common, as runs that one call per kv head can go through for all of
// them. Sequences are sorted by their pages, so that those with a common beginning are neighbours; then each group is
// split where its sequences part, as the branches of a tree.
void Plan::find_shared(Step& step, int page_size) {
  const StepInputs& in = step.in;
  step.begin.assign(step.tiles.size(), 0);
  struct Member {
    int sequence, tokens, limit;  // limit: blocks before its first token
    const int32_t* pages;
  };
  std::vector<Member> members;
  for (int s = 0; s < step.sequences; s++) {
    const int tokens = in.seq_start[s + 1] - in.seq_start[s];
    if (tokens == 0 || tokens > kSharingTokens) continue;
    const int limit = in.positions[in.seq_start[s]] / kSharedBlock;
    if (limit > 0) members.push_back({s, tokens, limit, in.page_table.data() + in.page_start[s]});
  }
  if (members.size() < 2) return;
  const auto pages_of = [&](const Member& m) { return m.limit * kSharedBlock / page_size + (m.limit * kSharedBlock % page_size != 0); };
  // Blocks that two sequences have in common.
  const auto common = [&](const Member& x, const Member& y) {
    const int most = std::min(pages_of(x), pages_of(y));
    const int same = static_cast<int>(std::mismatch(x.pages, x.pages + most, y.pages).first - x.pages);
    return std::min({same * page_size / kSharedBlock, x.limit, y.limit});
  };
  std::sort(members.begin(), members.end(), [&](const Member& x, const Member& y) {
    const bool less = std::lexicographical_compare(x.pages, x.pages + pages_of(x), y.pages, y.pages + pages_of(y));
    return less || (x.sequence < y.sequence && std::equal(x.pages, x.pages + pages_of(x), y.pages, y.pages + pages_of(y)));
  });
  std::vector<int> joint(members.size(), 0);  // blocks in common with the member before
  for (size_t i = 1; i < members.size(); i++) joint[i] = common(members[i - 1], members[i]);
  std::vector<int> done(static_cast<size_t>(step.sequences), 0);

  // Members [from, to) have gone through `start` blocks together.
  struct Group {
    size_t from, to;
    int start, level;
  };
  std::vector<Group> groups{{0, members.size(), 0, 0}};
  while (!groups.empty()) {
    Group g = groups.back();
    groups.pop_back();
    const int end = *std::min_element(joint.begin() + static_cast<long>(g.from) + 1, joint.begin() + static_cast<long>(g.to));
    const auto size = static_cast<int>(g.to - g.from);
    // What is read once instead of by each: enough to be worth a call of its own.
    if (end > g.start && (size - 1) * (end - g.start) >= kSharedWorth) {
      SharedRun run{g.level, members[g.from].sequence, g.start * kSharedBlock, end * kSharedBlock, step.shared_rows.size(), 0};
      for (size_t i = g.from; i < g.to; i++) {
        const Member& m = members[i];
        for (int t = 0; t < m.tokens; t++) step.shared_rows.push_back(in.seq_start[m.sequence] + t);
        done[static_cast<size_t>(m.sequence)] = end * kSharedBlock;
      }
      run.rows = static_cast<int>(step.shared_rows.size() - run.first_row);
      step.shared_runs.push_back(run);
      g.start = end;
      g.level++;
    }
    // Sub-groups: neighbours that go on together.
    for (size_t i = g.from; i < g.to;) {
      size_t j = i + 1;
      while (j < g.to && joint[j] > end) j++;
      // A group that did not pay keeps its start: its parts may still pay from there, if none of it was done.
      if (j - i > 1) groups.push_back({i, j, g.start, g.level});
      i = j;
    }
  }
  std::stable_sort(step.shared_runs.begin(), step.shared_runs.end(), [](const SharedRun& a, const SharedRun& b) { return a.level < b.level; });
  for (size_t i = 0; i < step.tiles.size(); i++) step.begin[i] = done[static_cast<size_t>(step.tiles[i].sequence)];
}

void Plan::attention(const Op& op, const Step& step) {
  const KernelTable& k = runtime_->kernels();
  const KvLayout& layout = kv_->layout;
  const StepInputs& in = step.in;
  const int kv_heads = layout.kv_heads;
  // A window cuts off the beginning, which is what is shared.
  const bool sharing = !step.shared_runs.empty() && op.i2 == 0;
  AttentionArgs all = {};
  all.q_stride = op.b.stride;
  all.out_stride = op.a.stride;
  all.kv = kv_->memory.data();
  all.layout = &layout;
  all.layer = op.i0;
  all.heads_per_kv = op.i1 / kv_heads;
  all.scale = op.f;
  all.window = op.i2;
  all.causal = op.causal;
  all.state_stride = static_cast<size_t>(op.i1) * 2;
  if (sharing) {
    if (attention_state_.size() < static_cast<size_t>(step.tokens) * all.state_stride)
      attention_state_.resize(static_cast<size_t>(max_tokens_) * all.state_stride);
    share(op, step, all);
  }
  const auto part = [&](int begin, int end, int thread) {
    for (int item = begin; item < end; item++) {
      const auto i = static_cast<size_t>(item / kv_heads);
      const AttentionTile& tile = step.tiles[i];
      AttentionArgs a = all;
      a.q = op.b.row(tile.token);
      a.out = op.a.row(tile.token);
      a.kv_head = item % kv_heads;
      a.pages = in.page_table.data() + in.page_start[tile.sequence];
      a.first_position = in.positions[tile.token];
      a.tokens = tile.count;
      a.kv_length = in.kv_length[tile.sequence];
      if (sharing && step.begin[i] > 0) {
        a.begin = step.begin[i];
        a.state = attention_state_.data() + static_cast<size_t>(tile.token) * a.state_stride;
      }
      k.attention(a, runtime_->scratch(thread));
    }
  };
  const int items = static_cast<int>(step.tiles.size()) * kv_heads;
  for (size_t i = 0; i < step.tiles.size(); i++) {
    const AttentionTile& tile = step.tiles[i];
    const int seen = op.causal ? in.positions[tile.token] + tile.count : in.kv_length[tile.sequence];
    positions_read_ += seen - (sharing ? step.begin[i] : op.i2 > 0 ? std::max(0, in.positions[tile.token] + 1 - op.i2) : 0);
  }
  // Two multiply-adds per position and element of q.
  if (static_cast<size_t>(step.attention_cost) * static_cast<size_t>(op.a.columns) * 2 < kWorthSharing * 4) return part(0, items, 0);
  runtime_->pool().parallel_for(items, 1, part);
}

// Shared runs, level by level: the tokens of a run are shared out over as many calls as keep the threads busy, each of
// which reads the run's pages once.
void Plan::share(const Op& op, const Step& step, const AttentionArgs& all) {
  const KernelTable& k = runtime_->kernels();
  const int kv_heads = kv_->layout.kv_heads;
  struct Call {
    const SharedRun* run;
    int first, count;
  };
  std::vector<Call> calls;
  for (size_t r = 0; r < step.shared_runs.size();) {
    size_t end = r;
    int rows = 0;
    for (; end < step.shared_runs.size() && step.shared_runs[end].level == step.shared_runs[r].level; end++) rows += step.shared_runs[end].rows;
    const int wanted = std::max(kSharingTokens, (rows * kv_heads + 2 * runtime_->pool().threads() - 1) / (2 * runtime_->pool().threads()));
    calls.clear();
    for (; r < end; r++) {
      const SharedRun& run = step.shared_runs[r];
      positions_read_ += run.end - run.begin;
      const int parts = (run.rows + wanted - 1) / wanted;
      for (int i = 0; i < parts; i++) {
        const int first = run.rows * i / parts;
        calls.push_back({&run, first, run.rows * (i + 1) / parts - first});
      }
    }
    runtime_->pool().parallel_for(static_cast<int>(calls.size()) * kv_heads, 1, [&](int begin, int finish, int thread) {
      for (int item = begin; item < finish; item++) {
        const Call& call = calls[static_cast<size_t>(item / kv_heads)];
        AttentionArgs a = all;
        a.q = op.b.data;
        a.out = op.a.data;
        a.state = attention_state_.data();
        a.rows = step.shared_rows.data() + call.run->first_row + call.first;
        a.tokens = call.count;
        a.kv_head = item % kv_heads;
        a.pages = step.in.page_table.data() + step.in.page_start[call.run->sequence];
        a.begin = call.run->begin;
        a.end = call.run->end;
        k.attention(a, runtime_->scratch(thread));
      }
    });
  }
}

// True when the masks of the block's rows are there.
bool Plan::await_masks(Step& step, int row0, int rows) {
  const auto late = std::lower_bound(step.late_rows.begin(), step.late_rows.end(), row0);
  if (late == step.late_rows.end() || *late >= row0 + rows) return true;
  const int64_t start = now_ns();
  const bool ready = runtime_->await([&] { return step.masks_ready || !step.masks_error.empty(); });
  step.out.mask_wait_ns += now_ns() - start;
  if (ready && step.masks_error.empty()) return true;
  if (step.error.empty()) step.error = ready ? step.masks_error : "the runtime was closed while the step waited for its masks";
  step.failed_rows.clear();
  step.failed_reasons.clear();
  return false;
}

void Plan::sample(Step& step, int row0, int rows) {
  const StepInputs& in = step.in;
  StepOutputs& out = step.out;
  if (in.return_hidden) {
    const View& hidden = buffer(hidden_);
    for (int r = 0; r < rows; r++)
      std::memcpy(out.hidden.data() + static_cast<size_t>(row0 + r) * hidden.columns, hidden.row(r), sizeof(float) * hidden.columns);
  }
  if (logits_ < 0) return;
  const View& logits = buffer(logits_);
  if (in.return_logits)
    for (int r = 0; r < rows; r++)
      std::memcpy(out.logits.data() + static_cast<size_t>(row0 + r) * vocab_, logits.row(r), sizeof(float) * vocab_);

  std::vector<SampleFault> faults(static_cast<size_t>(rows), SampleFault::none);
  const auto one = [&](int r, int thread) {
    const auto i = static_cast<size_t>(row0 + r);
    SampleRow row;
    row.logits = logits.row(r);
    row.best = chosen_ && !best_[static_cast<size_t>(r)].all ? &best_[static_cast<size_t>(r)] : nullptr;
    row.vocab = vocab_;
    row.target = in.row_target[i];
    row.temperature = in.temperature[i];
    row.top_p = in.top_p[i];
    row.min_p = in.min_p[i];
    row.top_k = in.top_k[i];
    row.seed = static_cast<uint64_t>(in.seed[2 * i + 1]) << 32 | in.seed[2 * i];
    row.draw = static_cast<uint32_t>(in.draw[i]);
    row.frequency = in.penalties[3 * i];
    row.presence = in.penalties[3 * i + 1];
    row.repetition = in.penalties[3 * i + 2];
    row.seen_ids = in.seen_ids.data() + in.seen_start[i];
    row.seen_counts = in.seen_counts.data() + in.seen_start[i];
    row.seen = in.seen_start[i + 1] - in.seen_start[i];
    row.bias_ids = in.bias_ids.data() + in.bias_start[i];
    row.bias_values = in.bias_values.data() + in.bias_start[i];
    row.biases = in.bias_start[i + 1] - in.bias_start[i];
    row.mask = step.masks[i] ? step.masks[i]->data() : nullptr;
    // Steps are queued before the id that the step before sampled is known: it is not among the seen ones yet.
    const auto token = static_cast<size_t>(in.row_token[i]);
    row.newest = in.tokens[token] < 0 && row.target < 0 ? step.ids[token] : -1;
    row.report = in.top_logprobs[i] >= 0;
    row.top = std::max(0, in.top_logprobs[i]);
    row.wanted_ids = in.wanted_ids.data() + in.wanted_start[i];
    row.wanted = in.wanted_start[i + 1] - in.wanted_start[i];
    row.logprob = &out.logprobs[i];
    row.top_ids = out.top_ids.data() + out.top_start[i];
    row.top_logprobs = out.top_logprobs.data() + out.top_start[i];
    row.wanted_logprobs = out.wanted_logprobs.data() + in.wanted_start[i];
    if (!step.mask_failed.empty() && step.mask_failed[i]) {
      faults[static_cast<size_t>(r)] = SampleFault::no_mask;
      return;
    }
    out.ids[i] = sample_row(runtime_->kernels(), row, sampler_scratch_[static_cast<size_t>(thread)], &faults[static_cast<size_t>(r)]);
  };
  if (static_cast<size_t>(rows) * static_cast<size_t>(vocab_) < kWorthSharing)
    for (int r = 0; r < rows; r++) one(r, 0);
  else
    runtime_->pool().parallel_for(rows, 1, [&](int begin, int end, int thread) {
      for (int r = begin; r < end; r++) one(r, thread);
    });
  if (runtime_->pool().cancelled()) return;

  for (int r = 0; r < rows; r++) {
    const auto i = static_cast<size_t>(row0 + r);
    if (faults[static_cast<size_t>(r)] != SampleFault::none) {
      const char* reason = fault_reason(faults[static_cast<size_t>(r)]);
      if (step.error.empty()) step.error = "row " + std::to_string(i) + ": " + reason;
      step.failed_rows.push_back(static_cast<int32_t>(i));
      step.failed_reasons.push_back(reason);
    }
    // In order, so that a slot named twice holds the id of the later row. A failed row leaves a valid id behind: a step
    // queued after this one may read the slot, and its result for that sequence is thrown away with the request.
    if (in.row_slot[i] >= 0) token_pool_[static_cast<size_t>(in.row_slot[i])] = std::max(0, out.ids[i]);
  }
}

// Looks for NaN in what the instruction has just written.
void Plan::inspect(const Op& op, Step& step, int rows) const {
  if (op.code == Opcode::kv_write) return;
  const View* written[] = {&op.a, op.code == Opcode::add_rms_norm ? &op.b : nullptr};
  for (const View* view : written) {
    for (int r = 0; view && r < rows; r++) {
      const float* row = view->row(r);
      for (int c = 0; c < view->columns; c++) {
        if (row[c] == row[c]) continue;
        step.error = "instruction " + std::to_string(op.index) + " (" + opcode_name(op.code) + ") produced NaN at row " + std::to_string(r) + ", column " +
                     std::to_string(c);
        return;
      }
    }
  }
}

}  // namespace sgl
