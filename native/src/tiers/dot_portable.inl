// Integer dot products of 16 channels in plain C++: see dot_avx2.inl for what these are.

constexpr int kIntegerRows = 2, kIntegerTiles = 1;
constexpr int kIntegerPanelK = 448, kIntegerPanelK16 = 448;
constexpr int kIntegerDirect = 0, kIntegerPair = 0;  // rows always go through a panel: less code to compile
constexpr int kRotatedLines = 2;

/// Sum of the codes of a part of a group, in every lane; RowGroup::start is minus that.
template <Precision P> SGL_INLINE V code_sum(const RowGroup& g, int part) { return v_set((float)-g.start[part]); }

template <Precision P> struct Four {
  int32_t of_k[4];
  SGL_MEMBER static Four of(const uint8_t* p) {
    if constexpr (P == Precision::s8) return {{(int8_t)p[0], (int8_t)p[1], (int8_t)p[2], (int8_t)p[3]}};
    int16_t word[4];
    memcpy(word, p, 8);
    return {{word[0], word[2], word[1], word[3]}};
  }
};

template <Precision P, int kZero, bool kWide> struct Operand {
  static constexpr int kBytes = 64;
  Q w;
  SGL_MEMBER static Operand of(Q codes) { return {codes}; }
  SGL_MEMBER static Operand load(const uint8_t* p) { return {q_load(p)}; }
  SGL_MEMBER void store(uint8_t* p) const { memcpy(p, &w, sizeof w); }
};

template <Precision P, int kZero, bool kWide> struct Dot {
  static constexpr bool kShifts = false;
  I sum;
  SGL_MEMBER void start(const RowGroup& g, int part) { sum = (I)v_set(0) + kZero * g.start[part]; }
  /// See dot_avx2.inl.
  SGL_MEMBER void begin(int32_t codes) { sum = (I)v_set(0) - kZero * codes; }
  SGL_MEMBER V value() const { return __builtin_convertvector(sum, V); }
  SGL_MEMBER void add(const Operand<P, kZero, kWide>& w, const Four<P>& a) {
    sum += (I)(w.w & 255u) * a.of_k[0] + (I)((w.w >> 8) & 255u) * a.of_k[1] + (I)((w.w >> 16) & 255u) * a.of_k[2] + (I)(w.w >> 24) * a.of_k[3];
  }
  SGL_MEMBER V times(V a, V) const { return v_mul(a, __builtin_convertvector(sum, V)); }
};

SGL_INLINE V shift_of(V) { return v_zero(); }
