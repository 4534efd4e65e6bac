// A plan: instructions over one arena, checked once when it is made and executed once per step.
//
//   plan_build.cc  words -> Ops, every index and shape checked
//   plan_check.cc  a step's inputs, every value checked before anything runs
//   plan.cc        execution over the thread pool
//   plan_products.cc  matrix products and what is done to their outputs while those are in a thread's cache
//
// Steps run one at a time on the runner thread of the runtime. Extents: buffers of the body have one row per token of
// the step, buffers of the head one per wanted row of a block of at most max_rows.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "kernel_table.h"
#include "memory.h"
#include "sampler.h"
#include "step.h"
#include "weight.h"

namespace sgl {

class Runtime;

// graph/instructions.ts holds the same numbers.
constexpr int kInstructionWords = 16;
constexpr int kBufferWords = 5;
enum class Opcode : int32_t { embed, rms_norm, add, add_rms_norm, linear, rope, kv_write, attention, gated_act, take_rows, gated_linear, logits, count };
constexpr int kActivations = 3;
const char* opcode_name(Opcode opcode);

// Token-pool slots: sampled ids that later steps may name before JavaScript has seen them.
constexpr int kTokenSlots = 65536;
// Entries of the mask table.
constexpr int kMaskSlots = 65536;
// Tokens of one sequence that go through attention together: enough to reuse a page, few enough to share out work.
constexpr int kTileTokens = 16;

// Sequences of at most this many tokens (decode, verification of drafts) read shared pages together. Longer ones read
// each page for many rows as it is.
constexpr int kSharingTokens = 4;
// Shared runs are cut at multiples of this many positions, as the kernels' blocks are.
constexpr int kSharedBlock = 32;
// Blocks that need not be read again for a shared run to be worth its own call.
constexpr int kSharedWorth = 8;

// Work below this (about one float touched or one multiply-add of a small kernel each) is done by the runner alone:
// waking another thread costs as much.
constexpr size_t kWorthSharing = 16384;

// Outputs of a product that are used up before they leave a thread's cache: at most this many rows, and this many floats
// per thread.
constexpr int kTileRows = 512;
constexpr size_t kTileFloats = size_t{1} << 18;

struct KvPool {
  KvLayout layout;
  std::vector<float> key_scales;  // what layout.key_scales points to
  Memory memory;
};

// The bytes of one page, all layers and heads, outside of the pool: [layers][kv_heads][page_bytes].
struct KvBlock {
  std::unique_ptr<uint8_t[]> data;
  size_t bytes = 0;
};

// A buffer of the arena: columns [0, columns) of row r at data + r * stride.
struct View {
  float* data = nullptr;
  size_t stride = 0;
  int columns = 0;
  bool of_rows = false;  // extent: rows of the head, else tokens
  float* row(int r) const { return data + static_cast<size_t>(r) * stride; }
};

// One instruction, resolved: what its words name, in the order of graph/instructions.ts.
struct Op {
  Opcode code;
  int index;  // in the plan, for messages
  View a, b, c, d;
  const Weight* w0 = nullptr;
  const Weight* w1 = nullptr;
  int i0 = 0, i1 = 0, i2 = 0, i3 = 0, i4 = 0;
  float f = 0;
  bool causal = true;
  int rope = -1;  // index into Plan::ropes
  // A product whose input becomes integers: which of Plan::quantised_ holds it, and whether the op before has filled it.
  Precision precision = Precision::f32;
  int quantised = 0;
  bool filled = false;
};

// cos and sin of every token of a step, [tokens][2 * half], once per distinct (frequencies, mscale).
struct RopeTable {
  const Weight* frequencies;
  float mscale;
  std::vector<float> cos_sin;
  int half() const { return frequencies->columns; }
};

struct PlanDescription {
  std::vector<int32_t> instructions;
  int head_start = 0;
  std::vector<int32_t> buffers;
  std::vector<std::shared_ptr<Weight>> weights;
  double arena_bytes = 0;
  int max_tokens = 0, max_rows = 0;
  int logits = -1, hidden = -1;
  int vocab = 0;
  Numerics numerics = Numerics::f32;
  bool cascade = true;
  std::shared_ptr<KvPool> kv;
};

class Plan {
 public:
  // Null and *error (it names the instruction and its opcode) when the description does not hold together.
  static std::shared_ptr<Plan> create(std::shared_ptr<Runtime> runtime, PlanDescription description, std::string* error);

  // Empty when the inputs may be run, else what is wrong with which field. Reads only what create() made.
  std::string check(const StepInputs& inputs) const;
  // Sizes the outputs of checked inputs.
  void prepare_outputs(Step& step) const;

  // ---- masks, on the JavaScript thread

  int mask_words() const { return logits_ < 0 ? 0 : (vocab_ + 31) / 32; }
  // Entry `index` of the mask table; null empties it. Steps that were submitted before keep the mask they named.
  void set_mask(int index, Mask mask);
  // Resolves the masks of checked inputs and remembers a step with late ones until it is settled. Empty, or what is wrong.
  std::string bind_masks(Step& step);
  // Gives a step its late masks, one entry per late row in order. False when no step of that ticket waits for masks; *error
  // (and nothing changed) when the entries are wrong.
  bool supply_masks(double ticket, const std::vector<int32_t>& indices, std::string* error);
  // The step is settled, or will never be supplied (`why`).
  void forget(Step& step);
  void abandon_masks(const char* why);

  // A step is a list of actions that run in order on the runner; run by op, each is a queue entry of its own.
  struct Action {
    enum class Kind { begin, op, sample, end } kind;
    int op, block;
  };
  std::vector<Action> actions(const Step& step) const;
  // Runner. `inspect` looks at every output of the op for NaN, and errors name the instruction.
  void run(Step& step, const Action& action, bool inspect);

  // Where steps spend their time, summed since the last take: one entry per instruction, then one for what a step derives
  // from its inputs and one for sampling. Always kept: two readings of the clock per instruction. Runner thread.
  struct Timing {
    int64_t ns = 0, runs = 0;
  };
  struct Timings {
    std::vector<Timing> ops;
    int64_t positions_read;  // of one layer's keys and values by attention: shared ones once, those of a tile once
    int64_t logits_written;  // floats: rows of which only the best ids are wanted write none
  };
  Timings take_timings();
  int op_count() const { return static_cast<int>(ops_.size()); }
  const char* op_name(int index) const { return opcode_name(ops_[static_cast<size_t>(index)].code); }

  int buffer_count() const { return static_cast<int>(views_.size()); }
  const View& buffer(int index) const { return views_[static_cast<size_t>(index)]; }
  // Rows a buffer held in the last step (of the head: in its last block).
  int last_rows(const View& view) const { return view.of_rows ? last_block_rows_ : last_tokens_; }
  const std::shared_ptr<Runtime>& runtime() const { return runtime_; }
  int vocab() const { return vocab_; }
  int hidden_columns() const { return hidden_ < 0 ? 0 : views_[static_cast<size_t>(hidden_)].columns; }

 private:
  friend class PlanBuilder;
  Plan() = default;

  void begin(Step& step);
  void perform(Step& step, const Action& action, bool inspect);
  void execute(const Op& op, Step& step, int rows, int row0, bool inspecting);
  void embed(const Op& op, const Step& step, int rows);
  void linear(const Op& op, int rows);
  void gated_linear(const Op& op, int rows);
  void logits(const Op& op, const Step& step, int rows, int row0, bool all);
  // Channels of blocks [begin, end) of rows [row, row + rows) of a product, to y + r * stride + channel.
  void multiply(const Op& op, int begin, int end, int row, int rows, float* y, size_t stride, int thread);
  void quantise_input(const Op& op, int rows);
  // The product right after `op` that takes its output as integers and leaves making them to `op`; or null.
  const Op* taker(const Op& op) const;
  // Columns [k0, k1) of one row of a product's input as integers.
  void quantise(const Op& product, int row, int k0, int k1, int thread);
  float* tile(int thread) { return tiles_.floats() + static_cast<size_t>(thread) * kTileFloats; }
  template <class F>
  void share_blocks(const Op& op, int blocks, int chunk, int rows, const F& part);
  // Decides who makes integers of what, and takes memory for them and for tiles.
  bool plan_products(std::string* error);
  void kv_write(const Op& op, Step& step, int rows);
  void find_shared(Step& step, int page_size);
  void share(const Op& op, const Step& step, const AttentionArgs& all);
  void attention(const Op& op, const Step& step);
  void sample(Step& step, int row0, int rows);
  bool await_masks(Step& step, int row0, int rows);
  void fill_ropes(const Step& step);
  void inspect(const Op& op, Step& step, int rows) const;
  template <class F>
  void each_row(int rows, size_t cost, const F& f);

  std::shared_ptr<Runtime> runtime_;
  std::vector<std::shared_ptr<Weight>> weights_;
  std::shared_ptr<KvPool> kv_;
  Memory arena_;
  std::vector<View> views_;
  std::vector<Op> ops_;
  std::vector<RopeTable> ropes_;
  std::vector<SamplerScratch> sampler_scratch_;  // per pool thread
  std::vector<int32_t> token_pool_;
  std::vector<Mask> masks_;     // the mask table
  std::vector<Step*> waiting_;  // steps whose late masks were not supplied
  std::vector<Timing> timings_;
  int64_t positions_read_ = 0, logits_written_ = 0;
  std::vector<float> attention_state_;  // [tokens][query heads][2] of rows whose way through the pages is cut
  bool chosen_ = false;        // logits come from Opcode::logits: best_ says which rows have them
  bool cascade_ = true;
  Numerics numerics_ = Numerics::f32;
  Memory quantised_[2];  // inputs of products as integers: what is read, and what is written for the next
  Memory tiles_;         // per pool thread, kTileFloats
  std::vector<BestIds> best_;  // per row of the head's block
  int head_start_ = 0, max_tokens_ = 0, max_rows_ = 0, logits_ = -1, hidden_ = -1, vocab_ = 0;
  int table_rows_ = INT32_MAX;  // ids must be below: the smallest table an Embed gathers from
  int last_tokens_ = 0, last_block_rows_ = 0;
};

}  // namespace sgl
