// Integer dot products of 16 channels in plain C++: see dot_avx2.inl for what these are.

constexpr int kIntegerRows = 2;
constexpr int kIntegerPanelK = 448, kIntegerPanelK16 = 448;

/// -(sum of codes) of a part of a group.
template <Precision P> SGL_INLINE int32_t negated_sum(const RowGroup& g, int part) {
  const auto sum = [](int32_t v) { return P == Precision::s8 ? (int16_t)v + (v >> 16) : v; };
  return part == 0 ? sum(g.negated) : part == 1 ? sum(g.first) : sum(g.negated) - sum(g.first);
}
template <Precision P> SGL_INLINE V code_sum(const RowGroup& g, int part) { return v_set((float)-negated_sum<P>(g, part)); }

template <Precision P, bool kWide> struct Operand {
  static constexpr int kBytes = 64;
  Q w;
  SGL_MEMBER static Operand of(Q codes) { return {codes}; }
  SGL_MEMBER static Operand load(const uint8_t* p) { return {q_load(p)}; }
  SGL_MEMBER void store(uint8_t* p) const { memcpy(p, &w, sizeof w); }
};

template <Precision P, int kZero, bool kWide> struct Dot {
  I sum;
  SGL_MEMBER void start(const RowGroup& g, int part) { sum = (I)v_set(0) + kZero * negated_sum<P>(g, part); }
  SGL_MEMBER void add(const Operand<P, kWide>& w, const uint8_t* x) {
    int32_t a[4];  // of k, k + 1, k + 2, k + 3
    if constexpr (P == Precision::s8) {
      for (int i = 0; i < 4; i++) a[i] = (int8_t)x[i];
    } else {
      int16_t word[4];
      memcpy(word, x, 8);
      a[0] = word[0], a[1] = word[2], a[2] = word[1], a[3] = word[3];
    }
    sum += (I)(w.w & 255u) * a[0] + (I)((w.w >> 8) & 255u) * a[1] + (I)((w.w >> 16) & 255u) * a[2] + (I)(w.w >> 24) * a[3];
  }
  SGL_MEMBER V floats() const { return __builtin_convertvector(sum, V); }
};
