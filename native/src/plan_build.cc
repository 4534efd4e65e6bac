// Plan::create: reads the words of a description and proves that executing them stays inside its buffers, weights and
// KV pool. After this no instruction needs a check at run time.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "plan.h"
#include "pack.h"
#include "packed_format.h"
#include "runtime.h"

namespace sgl {

const char* opcode_name(Opcode opcode) {
  static const char* const names[] = {"Embed", "RmsNorm", "Add", "AddRmsNorm", "Linear", "Rope", "KvWrite", "Attention", "GatedAct", "TakeRows", "GatedLinear", "Logits"};
  return names[static_cast<int>(opcode)];
}

class PlanBuilder {
 public:
  PlanBuilder(Plan& plan, const PlanDescription& description) : plan_(plan), d_(description) {}

  bool build() {
    return sizes() && buffers() && instructions() && outputs() && head_keeps_tokens();
  }
  const std::string& error() const { return error_; }

 private:
  enum Role { kIn, kOut };
  struct Use {
    View view;
    Role role;
    const char* name;
  };

  bool fail(const std::string& message) {
    if (error_.empty()) {
      error_ = message;
      if (op_) error_ = "instruction " + std::to_string(op_->index) + " (" + opcode_name(op_->code) + "): " + message;
    }
    return false;
  }
  static std::string count(int64_t n, const char* noun) { return std::to_string(n) + " " + noun; }

  bool sizes() {
    if (d_.instructions.size() % kInstructionWords != 0)
      return fail("instructions must hold a multiple of 16 words, got " + std::to_string(d_.instructions.size()));
    if (d_.buffers.size() % kBufferWords != 0)
      return fail("buffers must hold a multiple of 5 words, got " + std::to_string(d_.buffers.size()));
    const auto instructions = static_cast<int64_t>(d_.instructions.size() / kInstructionWords);
    if (d_.head_start < 0 || d_.head_start > instructions)
      return fail("headStart must be in [0, " + count(instructions, "instructions]") + ", got " + std::to_string(d_.head_start));
    if (!(d_.arena_bytes >= 0 && d_.arena_bytes <= 0x1p46 && std::floor(d_.arena_bytes) == d_.arena_bytes))
      return fail("arenaBytes must be an integer >= 0, got " + std::to_string(d_.arena_bytes));
    if (!plan_.arena_.allocate(static_cast<size_t>(d_.arena_bytes)))
      return fail("out of memory: an arena of " + std::to_string(static_cast<uint64_t>(d_.arena_bytes)) + " bytes could not be allocated");
    return true;
  }

  bool buffers() {
    const size_t n = d_.buffers.size() / kBufferWords;
    for (size_t i = 0; i < n; i++) {
      const int32_t* w = &d_.buffers[i * kBufferWords];
      const int64_t offset = static_cast<int64_t>(w[0]) * 64;
      const std::string name = "buffer " + std::to_string(i) + ": ";
      if (w[0] < 0) return fail(name + "offset must be >= 0, got " + std::to_string(w[0]));
      if (w[3] < 1) return fail(name + "columns must be >= 1, got " + std::to_string(w[3]));
      if (w[2] < 0 || static_cast<int64_t>(w[2]) + w[3] > w[1])
        return fail(name + "columns [" + std::to_string(w[2]) + ", " + std::to_string(static_cast<int64_t>(w[2]) + w[3]) +
                    ") reach outside the parent's rows of " + count(w[1], "floats"));
      if (w[4] != 0 && w[4] != 1) return fail(name + "extent must be 0 (tokens) or 1 (rows), got " + std::to_string(w[4]));
      const int64_t rows = w[4] ? d_.max_rows : d_.max_tokens;
      if (static_cast<double>(offset) + static_cast<double>(rows) * w[1] * 4 > d_.arena_bytes)
        return fail(name + count(rows, "rows of ") + count(w[1], "floats at byte ") + std::to_string(offset) +
                    " reach beyond the arena of " + count(static_cast<int64_t>(d_.arena_bytes), "bytes"));
      View view;
      view.data = plan_.arena_.floats() + offset / 4 + w[2];
      view.stride = static_cast<size_t>(w[1]);
      view.columns = w[3];
      view.of_rows = w[4] == 1;
      plan_.views_.push_back(view);
    }
    return true;
  }

  // ---- words of one instruction

  int32_t word(int i) const { return words_[1 + i]; }
  float float_word(int i) const {
    float f;
    std::memcpy(&f, &words_[1 + i], sizeof f);
    return f;
  }

  bool view(int i, const char* name, Role role, View* out) {
    const int32_t index = word(i);
    if (index < 0 || index >= plan_.buffer_count())
      return fail(std::string(name) + " names buffer " + std::to_string(index) + ", but the plan has " + count(plan_.buffer_count(), "buffers"));
    *out = plan_.buffer(index);
    uses_.push_back({*out, role, name});
    return true;
  }

  bool weight(int i, const char* name, Weight::Kind kind, const Weight** out) {
    const int32_t index = word(i);
    if (index < 0 || static_cast<size_t>(index) >= d_.weights.size())
      return fail(std::string(name) + " names weight " + std::to_string(index) + ", but the plan has " +
                  count(static_cast<int64_t>(d_.weights.size()), "weights"));
    *out = d_.weights[static_cast<size_t>(index)].get();
    if ((*out)->kind != kind) {
      Weight wanted;
      wanted.kind = kind;
      return fail(std::string(name) + " must be " + wanted.kind_name() + ", but weight " + std::to_string(index) + " is " + (*out)->kind_name());
    }
    return true;
  }

  bool same(const char* what, int64_t found, const char* expected_what, int64_t expected) {
    if (found == expected) return true;
    return fail(std::string(what) + " is " + std::to_string(found) + ", but " + expected_what + " is " + std::to_string(expected));
  }
  bool at_least(const char* what, int64_t found, int64_t least) {
    return found >= least || fail(std::string(what) + " must be >= " + std::to_string(least) + ", got " + std::to_string(found));
  }
  bool finite(const char* what, float f) { return std::isfinite(f) || fail(std::string(what) + " must be finite, got " + std::to_string(f)); }
  bool layer(int found) {
    const int layers = plan_.kv_->layout.layers;
    return (found >= 0 && found < layers) || fail("layer is " + std::to_string(found) + ", but the KV pool has " + count(layers, "layers"));
  }

  // Two views of the same parent overlap by columns, others by the bytes of their whole parents.
  bool overlap(const View& x, const View& y) const {
    const auto bounds = [&](const View& v) {
      const int rows = v.of_rows ? d_.max_rows : d_.max_tokens;
      const float* begin = v.data;
      return std::make_pair(begin, begin + static_cast<size_t>(std::max(rows - 1, 0)) * v.stride + v.columns);
    };
    const auto [xb, xe] = bounds(x);
    const auto [yb, ye] = bounds(y);
    if (xe <= yb || ye <= xb) return false;
    if (x.stride != y.stride) return true;
    // Same row length: the distance of the starts modulo the row tells whether the column ranges ever meet.
    const auto stride = static_cast<int64_t>(x.stride);
    const int64_t distance = ((y.data - x.data) % stride + stride) % stride;
    return distance < x.columns || distance + y.columns > stride;
  }
  static bool identical(const View& x, const View& y) { return x.data == y.data && x.stride == y.stride && x.columns == y.columns; }

  bool apart(const char* out_name, const View& out, const char* in_name, const View& in) {
    return !overlap(out, in) || fail(std::string(out_name) + " shares memory with " + in_name);
  }
  // Element by element operations may write where they read.
  bool apart_or_in_place(const char* out_name, const View& out, const char* in_name, const View& in) {
    return identical(out, in) || apart(out_name, out, in_name, in);
  }

  // [out, in, matrix, bias]
  bool product(Op& op) {
    using Kind = Weight::Kind;
    if (!view(0, "out", kOut, &op.a) || !view(1, "in", kIn, &op.b) || !weight(2, "matrix", Kind::matrix, &op.w0)) return false;
    const bool rotated = static_cast<PackedFormat>(op.w0->packed->blocks[0].format) == PackedFormat::Rotated8;
    if (rotated != (d_.numerics == Numerics::fast))
      return fail(std::string("matrix is packed ") + (rotated ? "rotated, for numerics fast" : "as it is in the file, not rotated") +
                  ", but the plan's numerics are " + numerics_name(d_.numerics));
    if (word(3) != -1) {
      if (!weight(3, "bias", Kind::vector, &op.w1)) return false;
      if (!same("the length of bias", op.w1->columns, "the number of the matrix's rows", op.w0->rows)) return false;
    }
    return same("the width of in", op.b.columns, "the number of the matrix's columns", op.w0->columns) && apart("out", op.a, "in", op.b);
  }
  bool activation(Op& op, int i) {
    op.i0 = word(i);
    return (op.i0 >= 0 && op.i0 < kActivations) || fail("activation must be 0 (silu), 1 (gelu tanh) or 2 (gelu erf), got " + std::to_string(op.i0));
  }

  bool instructions() {
    const size_t n = d_.instructions.size() / kInstructionWords;
    for (size_t i = 0; i < n; i++) {
      words_ = &d_.instructions[i * kInstructionWords];
      if (words_[0] < 0 || words_[0] >= static_cast<int32_t>(Opcode::count))
        return fail("instruction " + std::to_string(i) + ": unknown opcode " + std::to_string(words_[0]));
      Op op;
      op.code = static_cast<Opcode>(words_[0]);
      op.index = static_cast<int>(i);
      op_ = &op;
      uses_.clear();
      const bool head = op.index >= d_.head_start;
      if (!instruction(op) || !extents(op, head)) return false;
      op_ = nullptr;
      for (const Use& use : uses_)
        if (head && use.role == kOut) head_outputs_.push_back({use, op.index});
      if (op.code == Opcode::take_rows) taken_.push_back(op.b);
      plan_.ops_.push_back(op);
    }
    return true;
  }

  bool instruction(Op& op) {
    using Kind = Weight::Kind;
    const KvLayout& kv = plan_.kv_->layout;
    switch (op.code) {
      case Opcode::embed:
        if (!view(0, "out", kOut, &op.a) || !weight(1, "table", Kind::table, &op.w0)) return false;
        op.f = float_word(2);
        plan_.table_rows_ = std::min(plan_.table_rows_, op.w0->rows);
        return finite("scale", op.f) && same("the width of out", op.a.columns, "that of the table", op.w0->columns);

      case Opcode::rms_norm: {
        if (!view(0, "out", kOut, &op.a) || !view(1, "in", kIn, &op.b) || !weight(2, "weight", Kind::vector, &op.w0)) return false;
        op.f = float_word(3);
        op.i0 = word(4);
        if (!finite("eps", op.f) || !at_least("groups", op.i0, 1)) return false;
        if (op.b.columns % op.i0 != 0)
          return fail("in has " + count(op.b.columns, "columns") + ", which " + count(op.i0, "groups") + " do not divide");
        return same("the width of out", op.a.columns, "that of in", op.b.columns) &&
               same("the length of weight", op.w0->columns, "the width of a group", op.b.columns / op.i0) &&
               apart_or_in_place("out", op.a, "in", op.b);
      }
      case Opcode::add:
        return view(0, "out", kOut, &op.a) && view(1, "a", kIn, &op.b) && view(2, "b", kIn, &op.c) &&
               same("the width of a", op.b.columns, "that of out", op.a.columns) &&
               same("the width of b", op.c.columns, "that of out", op.a.columns) && apart_or_in_place("out", op.a, "a", op.b) &&
               apart_or_in_place("out", op.a, "b", op.c);

      case Opcode::add_rms_norm:
        if (!view(0, "sum", kOut, &op.a) || !view(1, "out", kOut, &op.b) || !view(2, "a", kIn, &op.c) || !view(3, "b", kIn, &op.d) ||
            !weight(4, "weight", Kind::vector, &op.w0))
          return false;
        op.f = float_word(5);
        return finite("eps", op.f) && same("the width of out", op.b.columns, "that of sum", op.a.columns) &&
               same("the width of a", op.c.columns, "that of sum", op.a.columns) &&
               same("the width of b", op.d.columns, "that of sum", op.a.columns) &&
               same("the length of weight", op.w0->columns, "the width of sum", op.a.columns) && apart("out", op.b, "sum", op.a) &&
               apart("out", op.b, "a", op.c) && apart("out", op.b, "b", op.d) && apart_or_in_place("sum", op.a, "a", op.c) &&
               apart_or_in_place("sum", op.a, "b", op.d);

      case Opcode::linear:
        return product(op) && same("the width of out", op.a.columns, "the number of the matrix's rows", op.w0->rows);
      case Opcode::logits:
        if (op.index < d_.head_start) return fail("belongs to the head, at or after headStart " + std::to_string(d_.head_start));
        if (word(0) != d_.logits) return fail("out is buffer " + std::to_string(word(0)) + ", but the plan's logits are buffer " + std::to_string(d_.logits));
        plan_.chosen_ = true;
        return product(op) && same("the width of out", op.a.columns, "the number of the matrix's rows", op.w0->rows);
      case Opcode::gated_linear: {
        if (!product(op) || !activation(op, 4) || !same("twice the width of out", int64_t{2} * op.a.columns, "the number of the matrix's rows", op.w0->rows))
          return false;
        const auto& blocks = op.w0->packed->blocks;
        const size_t half = blocks.size() / 2;
        bool paired = blocks.size() % 2 == 0;
        for (size_t i = 0; paired && i < half; i++)
          paired = blocks[i + half].channel == blocks[i].channel + op.a.columns && blocks[i + half].channels == blocks[i].channels;
        return paired || fail("the matrix must be packed from two parts of " + count(op.a.columns, "rows, or from one whose half is a multiple of 32"));
      }
      case Opcode::rope: {
        if (!view(0, "inout", kOut, &op.a) || !weight(1, "freq", Kind::vector, &op.w0)) return false;
        op.i0 = word(2);
        op.i1 = word(3);
        op.f = float_word(4);
        if (!at_least("heads", op.i0, 1) || !at_least("headDim", op.i1, 1) || !finite("mscale", op.f)) return false;
        if (int64_t{2} * op.w0->columns > op.i1)
          return fail("freq has " + count(op.w0->columns, "entries") + ", more than half of headDim " + std::to_string(op.i1));
        if (!same("the width of inout", op.a.columns, "heads x headDim", int64_t{op.i0} * op.i1)) return false;
        for (size_t r = 0; r < plan_.ropes_.size() && op.rope < 0; r++)
          if (plan_.ropes_[r].frequencies == op.w0 && plan_.ropes_[r].mscale == op.f) op.rope = static_cast<int>(r);
        if (op.rope < 0) {
          op.rope = static_cast<int>(plan_.ropes_.size());
          plan_.ropes_.push_back({op.w0, op.f, {}});
        }
        return true;
      }
      case Opcode::kv_write: {
        if (!view(0, "k", kIn, &op.a) || !view(1, "v", kIn, &op.b)) return false;
        op.i0 = word(2);
        const int64_t width = int64_t{kv.kv_heads} * kv.head_dim;
        return layer(op.i0) && same("the width of k", op.a.columns, "kvHeads x headDim of the KV pool", width) &&
               same("the width of v", op.b.columns, "kvHeads x headDim of the KV pool", width);
      }
      case Opcode::attention: {
        if (!view(0, "out", kOut, &op.a) || !view(1, "q", kIn, &op.b)) return false;
        op.i0 = word(2);  // layer
        op.i1 = word(3);  // heads
        const int kv_heads = word(4), head_dim = word(5);
        op.f = float_word(6);
        op.i2 = word(7);  // window
        op.causal = word(8) == 1;
        if (!layer(op.i0) || !at_least("heads", op.i1, 1) || !finite("scale", op.f) || !at_least("window", op.i2, 0)) return false;
        if (word(8) != 0 && word(8) != 1) return fail("causal must be 0 or 1, got " + std::to_string(word(8)));
        if (!same("kvHeads", kv_heads, "that of the KV pool", kv.kv_heads) || !same("headDim", head_dim, "that of the KV pool", kv.head_dim))
          return false;
        if (op.i1 % kv_heads != 0) return fail(count(op.i1, "heads") + " cannot be shared out over " + count(kv_heads, "kv heads"));
        const int64_t width = int64_t{op.i1} * head_dim;
        return same("the width of q", op.b.columns, "heads x headDim", width) && same("the width of out", op.a.columns, "heads x headDim", width) &&
               apart("out", op.a, "q", op.b);
      }
      case Opcode::gated_act: {
        if (!view(0, "out", kOut, &op.a) || !view(1, "in", kIn, &op.b)) return false;
        if (!activation(op, 2) || !same("the width of in", op.b.columns, "twice that of out", int64_t{2} * op.a.columns)) return false;
        View gate = op.b, up = op.b;
        gate.columns = up.columns = op.a.columns;
        up.data += op.a.columns;
        return apart_or_in_place("out", op.a, "the gate half of in", gate) && apart_or_in_place("out", op.a, "the up half of in", up);
      }
      case Opcode::take_rows:
        return view(0, "out", kOut, &op.a) && view(1, "in", kIn, &op.b) && same("the width of out", op.a.columns, "that of in", op.b.columns) &&
               apart("out", op.a, "in", op.b);

      case Opcode::count: break;
    }
    return fail("unknown opcode");
  }

  bool extents(const Op& op, bool head) {
    const bool per_token = op.code == Opcode::embed || op.code == Opcode::rope || op.code == Opcode::kv_write || op.code == Opcode::attention;
    if (head && per_token) return fail("works on tokens and must come before headStart " + std::to_string(d_.head_start));
    if (!head && op.code == Opcode::take_rows) return fail("belongs to the head, at or after headStart " + std::to_string(d_.head_start));
    for (const Use& use : uses_) {
      const bool of_rows = head && !(op.code == Opcode::take_rows && use.role == kIn);
      if (use.view.of_rows != of_rows)
        return fail(std::string(use.name) + " must have extent " + (of_rows ? "1 (rows)" : "0 (tokens)") + (head ? " in the head" : " before headStart"));
    }
    return true;
  }

  bool output(const char* name, int index) {
    if (index == -1) return true;
    if (index < 0 || index >= plan_.buffer_count())
      return fail(std::string(name) + " names buffer " + std::to_string(index) + ", but the plan has " + count(plan_.buffer_count(), "buffers"));
    if (!plan_.buffer(index).of_rows) return fail(std::string(name) + " must have extent 1 (rows)");
    return true;
  }

  bool outputs() {
    if (!output("logits", d_.logits) || !output("hidden", d_.hidden)) return false;
    if (d_.logits == -1) return true;
    if (d_.vocab < 1) return fail("vocabSize must be >= 1 for a plan with logits, got " + std::to_string(d_.vocab));
    if (plan_.buffer(d_.logits).columns < d_.vocab)
      return fail("logits has " + count(plan_.buffer(d_.logits).columns, "columns, fewer than vocabSize ") + std::to_string(d_.vocab));
    if (d_.vocab > plan_.table_rows_)
      return fail("vocabSize is " + std::to_string(d_.vocab) + ", but the table of Embed has " + count(plan_.table_rows_, "rows"));
    return true;
  }

  // The head runs once per block of rows, so no block may overwrite the tokens that the next one takes its rows from.
  bool head_keeps_tokens() {
    for (const auto& [use, index] : head_outputs_)
      for (const View& in : taken_)
        if (overlap(use.view, in))
          return fail("instruction " + std::to_string(index) + ": " + use.name + " shares memory with tokens that TakeRows reads for the next block of rows");
    return true;
  }

  struct HeadOutput {
    Use use;
    int index;
  };
  Plan& plan_;
  const PlanDescription& d_;
  std::string error_;
  const Op* op_ = nullptr;
  const int32_t* words_ = nullptr;
  std::vector<Use> uses_;
  std::vector<HeadOutput> head_outputs_;
  std::vector<View> taken_;
};

std::shared_ptr<Plan> Plan::create(std::shared_ptr<Runtime> runtime, PlanDescription description, std::string* error) {
  std::shared_ptr<Plan> plan(new Plan());
  plan->runtime_ = std::move(runtime);
  plan->kv_ = description.kv;
  PlanBuilder builder(*plan, description);
  if (!builder.build()) {
    *error = builder.error();
    return nullptr;
  }
  plan->weights_ = std::move(description.weights);
  plan->head_start_ = description.head_start;
  plan->max_tokens_ = description.max_tokens;
  plan->max_rows_ = description.max_rows;
  plan->logits_ = description.logits;
  plan->hidden_ = description.hidden;
  plan->vocab_ = description.vocab;
  plan->cascade_ = description.cascade;
  plan->numerics_ = description.numerics;
  if (!plan->plan_products(error)) return nullptr;
  plan->best_.resize(static_cast<size_t>(plan->max_rows_));
  for (RopeTable& rope : plan->ropes_) rope.cos_sin.resize(static_cast<size_t>(description.max_tokens) * 2 * static_cast<size_t>(rope.half()));
  plan->sampler_scratch_.resize(static_cast<size_t>(plan->runtime_->pool().threads()));
  plan->token_pool_.assign(kTokenSlots, -1);
  plan->timings_.resize(plan->ops_.size() + 2);
  return plan;
}

}  // namespace sgl
