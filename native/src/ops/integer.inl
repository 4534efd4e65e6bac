// y = x W^T over packed blocks with activations as integers (quantised_rows.h).
//
// A weight is a * (code - zero) + b, with a and b per channel and 16 or 32 k: a part. Every output has one f32 sum that
// takes, for each part in order of k,
//     sum = fma(scale, a * dot, sum)                    dot: the part's exact integer sum of (code - zero) * activation
//     sum = fma(scale, fma(b, codes, a * dot), sum)     codes: sum of the activations' codes, in formats with b
// and the bias is added last.

/// What of a format decides how its integers become f32; formats that agree here share code.
template <int Parts, bool Offset, int Zero, bool Wide> struct Shape {
  static constexpr int kParts = Parts;      // per half step
  static constexpr bool kOffset = Offset;   // has b
  static constexpr int kZero = Zero;
  static constexpr bool kWide = Wide;       // 8-bit codes
};
constexpr int zero_of(PackedFormat f) {
  const PackedLayout L = packed_layout(f);
  // Five unsigned bits are taken around 16, so that sums fit 16 bits; b makes up for it.
  if (L.scale == Scale::DM || L.scale == Scale::K45) return L.high_bits == 1 ? 16 : 0;
  return L.zero;
}
template <PackedFormat F>
using ShapeOf = Shape<packed_layout(F).groups(), packed_layout(F).scale == Scale::DM || packed_layout(F).scale == Scale::K45 || packed_layout(F).scale == Scale::K2,
                      zero_of(F), packed_layout(F).code_bits == 8 || F == PackedFormat::IQ4_NL>;

/// a and b of 16 channels.
template <PackedFormat F> SGL_INLINE void load_scales(const uint8_t* unit, const uint8_t* step, int half, int part, int tile, V& a, V& b) {
  load_affine<F>(unit, step, half, part, tile, a, b);
  using S = ShapeOf<F>;
  if constexpr (S::kOffset && S::kZero != 0) b = v_fma(v_set((float)S::kZero), a, b);
}

struct IntegerArgs {
  const PackedMatrix* w;
  const QuantisedRows* rows;
  int m;
  const float* bias;
  float* y;
  size_t y_stride;
  uint8_t* scratch;
};

SGL_INLINE const RowGroup& group_at(const uint8_t* groups, size_t bytes) { return *(const RowGroup*)(groups + bytes); }

template <Precision P, class S> using OperandOf = Operand<P, S::kZero, S::kWide>;
template <Precision P, class S> using DotOf = Dot<P, S::kZero, S::kWide>;

/// Scales of a part and 16 channels as its fold takes them.
template <Precision P, class S> struct Weights {
  static constexpr int kVectors = 1 + DotOf<P, S>::kShifts + S::kOffset;
  V a, shift, b;
  SGL_MEMBER static Weights of(V a, V b) { return {a, shift_of(a), b}; }
  SGL_MEMBER static Weights load(const float* p) {
    return {v_load(p), DotOf<P, S>::kShifts ? v_load(p + 16) : v_zero(), S::kOffset ? v_load(p + 16 * (kVectors - 1)) : v_zero()};
  }
  SGL_MEMBER void store(float* p) const {
    v_store(p, a);
    if constexpr (DotOf<P, S>::kShifts) v_store(p + 16, shift);
    if constexpr (S::kOffset) v_store(p + 16 * (kVectors - 1), b);
  }
};

/// A part's products added to the sum of one row and 16 channels.
template <Precision P, class S> SGL_INLINE V fold(V sum, const DotOf<P, S>& dot, const Weights<P, S>& w, const RowGroup& g, int part) {
  V t = dot.times(w.a, w.shift);
  if constexpr (S::kOffset) t = v_fma(w.b, code_sum<P>(g, part), t);
  return v_fma(v_set(g.scale), t, sum);
}

/// Which RowGroup::start and sum a part of a half step has.
template <class S> constexpr int part_of(int p) { return S::kParts == 1 ? 0 : p + 1; }

/// The sums of a block's rows, [rows][32], to y.
SGL_INLINE void store_block(const IntegerArgs& args, const PackedBlock& block, int row, int rows, const float* sums) {
  const float* bias = args.bias == nullptr ? nullptr : args.bias + block.channel;
  for (int m = 0; m < rows; m++)
    for (int at = 0; at < block.channels; at += 16)
      store_sums(args.y + (row + m) * args.y_stride + block.channel + at, v_load(sums + m * 32 + at), bias == nullptr ? nullptr : bias + at,
                 block.channels - at);
}
