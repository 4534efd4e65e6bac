// Ops over one row: norms, addition, rotary embedding, gated activation, and the row functions of sampling.
// Reductions use lanes in a fixed order, so a row's result does not depend on how it is reached.

/// 1 / rms of a row. Four vectors of squares, added pairwise.
SGL_INLINE float inverse_rms(const float* x, int width, float eps) {
  V sum[4] = {v_zero(), v_zero(), v_zero(), v_zero()};
  int i = 0;
  for (; i + 64 <= width; i += 64)
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++) {
      const V v = v_load(x + i + j * 16);
      sum[j] = v_fma(v, v, sum[j]);
    }
  for (; i < width; i += 16) {
    const V v = v_load_n(x + i, lanes_at(i, width));
    sum[0] = v_fma(v, v, sum[0]);
  }
  const float total = v_sum(v_add(v_add(sum[0], sum[1]), v_add(sum[2], sum[3])));
  return 1.0f / __builtin_sqrtf(total / (float)width + eps);
}

static void rms_norm(float* out, const float* x, const float* weight, int width, float eps) {
  const V scale = v_set(inverse_rms(x, width, eps));
  int i = 0;
  for (; i + 16 <= width; i += 16) v_store(out + i, v_mul(v_mul(v_load(x + i), scale), v_load(weight + i)));
  if (i < width) {
    const int n = width - i;
    v_store_n(out + i, v_mul(v_mul(v_load_n(x + i, n), scale), v_load_n(weight + i, n)), n);
  }
}

static void add(float* out, const float* a, const float* b, int n) {
  int i = 0;
  for (; i + 16 <= n; i += 16) v_store(out + i, v_add(v_load(a + i), v_load(b + i)));
  if (i < n) v_store_n(out + i, v_add(v_load_n(a + i, n - i), v_load_n(b + i, n - i)), n - i);
}

static void add_rms_norm(float* sum, float* out, const float* a, const float* b, const float* weight, int width, float eps) {
  add(sum, a, b, width);
  rms_norm(out, sum, weight, width, eps);
}

static void rope(float* row, const float* cos_sin, int heads, int head_dim, int half) {
  const float *cosine = cos_sin, *sine = cos_sin + half;
  for (int h = 0; h < heads; h++, row += head_dim)
    for (int i = 0; i < half; i += 16) {
      const int n = lanes_at(i, half);
      const V c = v_load_n(cosine + i, n), s = v_load_n(sine + i, n);
      const V a = v_load_n(row + i, n), b = v_load_n(row + half + i, n);
      v_store_n(row + i, v_fnma(b, s, v_mul(a, c)), n);
      v_store_n(row + half + i, v_fma(a, s, v_mul(b, c)), n);
    }
}

SGL_INLINE V sigmoid_times(V x, V argument) {
  return v_div(x, v_add(v_set(1.0f), v_exp(v_sub(v_zero(), argument))));
}

/// 0.5 x (1 + tanh(u)) = x sigmoid(2u), u = sqrt(2 / pi) (x + 0.044715 x^3)
SGL_INLINE V gelu_tanh(V x) {
  const V cubic = v_fma(v_mul(v_set(0.044715f), v_mul(x, x)), x, x);
  return sigmoid_times(x, v_mul(v_set(1.5957691216057308f), cubic));
}

/// erf by a rational minimax approximation on [-4, 4], beyond which erf is 1 in f32.
SGL_INLINE V v_erf(V value) {
  const V x = v_min(v_set(4.0f), v_max(v_set(-4.0f), value)), z = v_mul(x, x);
  V p = v_set(-2.72614225801306e-10f);
  p = v_fma(p, z, v_set(2.77068142495902e-08f));
  p = v_fma(p, z, v_set(-2.10102402082508e-06f));
  p = v_fma(p, z, v_set(-5.69250639462346e-05f));
  p = v_fma(p, z, v_set(-7.34990630326855e-04f));
  p = v_fma(p, z, v_set(-2.95459980854025e-03f));
  p = v_fma(p, z, v_set(-1.60960333262415e-02f));
  V q = v_set(-1.45660718464996e-05f);
  q = v_fma(q, z, v_set(-2.13374055278905e-04f));
  q = v_fma(q, z, v_set(-1.68282697438203e-03f));
  q = v_fma(q, z, v_set(-7.37332916720468e-03f));
  q = v_fma(q, z, v_set(-1.42647390514189e-02f));
  return v_div(v_mul(x, p), q);
}

SGL_INLINE V activate(V x, int activation) {
  if (activation == 1) return gelu_tanh(x);
  if (activation == 2)
    return v_mul(v_mul(v_set(0.5f), x), v_add(v_set(1.0f), v_erf(v_mul(x, v_set(0.70710678118654752f)))));
  return sigmoid_times(x, x);
}

// activation: 0 SiLU, 1 GELU by tanh, 2 GELU by erf (graph/instructions.ts).
static void gated_act(float* out, const float* gate, const float* up, int n, int activation) {
  int i = 0;
  for (; i + 16 <= n; i += 16) v_store(out + i, v_mul(activate(v_load(gate + i), activation), v_load(up + i)));
  if (i < n) {
    const V v = v_mul(activate(v_load_n(gate + i, n - i), activation), v_load_n(up + i, n - i));
    v_store_n(out + i, v, n - i);
  }
}

// ---- sampling

/// Largest value; NaN never wins; -infinity for an empty row.
static float row_max(const float* x, int n) {
  const V none = v_set(-__builtin_inff());
  V best[4] = {none, none, none, none};
  int i = 0;
  for (; i + 64 <= n; i += 64)
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++) best[j] = v_max(v_load(x + i + j * 16), best[j]);
  for (; i < n; i += 16) {
    const int lanes = lanes_at(i, n);
    best[0] = v_max(v_keep(v_load_n(x + i, lanes), 0, lanes, none), best[0]);
  }
  return v_max_lane(v_max(v_max(best[0], best[1]), v_max(best[2], best[3])));
}

static double exp_sum(float* out, const float* x, int n, float max, float inverse_temperature, double* spans) {
  const V top = v_set(max), scale = v_set(inverse_temperature);
  double total = 0;
  for (int from = 0; from < n; from += kSumSpan) {
    Doubles sums;
    sums.clear();
    const int to = lesser(n, from + kSumSpan);
    int i = from;
    for (; i + 16 <= to; i += 16) {
      const V v = v_exp(v_mul(v_sub(v_load(x + i), top), scale));
      v_store(out + i, v);
      sums.add(v);
    }
    if (i < to) {
      const V v = v_keep(v_exp(v_mul(v_sub(v_load_n(x + i, to - i), top), scale)), 0, to - i, v_zero());
      v_store_n(out + i, v, to - i);
      sums.add(v);
    }
    double part[8];
    sums.store(part);
    const double span = ((part[0] + part[4]) + (part[2] + part[6])) + ((part[1] + part[5]) + (part[3] + part[7]));
    if (spans != nullptr) spans[from / kSumSpan] = span;
    total += span;
  }
  return total;
}

/// 0 or -infinity for each of the four low bits.
struct Forbidding {
  float lanes[16][4];
};
constexpr Forbidding forbidding() {
  Forbidding f = {};
  for (int bits = 0; bits < 16; bits++)
    for (int i = 0; i < 4; i++) f.lanes[bits][i] = bits >> i & 1 ? 0.0f : -__builtin_inff();
  return f;
}
static constexpr Forbidding kForbidding = forbidding();

/// v where the bit of the lane is 1, else -infinity.
SGL_INLINE V allow(V v, uint32_t bits) {
  if (bits == 0xffff) return v;
  if (bits == 0) return v_set(-__builtin_inff());
  float lanes[16];
  for (int i = 0; i < 4; i++) memcpy(lanes + 4 * i, kForbidding.lanes[bits >> 4 * i & 15], 16);
  return v_add(v, v_load(lanes));
}

static bool checked_copy(float* out, const float* x, int n, const uint32_t* mask) {
  const V low = v_set(-__FLT_MAX__);
  V odd = v_zero();  // stays 0 while all is well
  const auto check = [&](V v) {
    const V bounded = v_max(low, v);  // -infinity is fine; NaN comes through
    odd = v_add(odd, v_sub(bounded, bounded));
  };
  int i = 0;
  for (; i + 16 <= n; i += 16) {
    const V v = v_load(x + i);
    check(v);
    if (out != nullptr) v_store(out + i, mask == nullptr ? v : allow(v, mask[i >> 5] >> (i & 31) & 0xffff));
  }
  if (i < n) {
    const V v = v_load_n(x + i, n - i);
    check(v);
    if (out != nullptr) v_store_n(out + i, mask == nullptr ? v : allow(v, mask[i >> 5] >> (i & 31) & 0xffff), n - i);
  }
  return v_sum(odd) == 0.0f;
}

static int argmax(const float* x, int n) {
  const float best = row_max(x, n);
  constexpr int kSpan = 256;
  for (int from = 0; from < n; from += kSpan) {
    const int count = lesser(kSpan, n - from);
    if (row_max(x + from, count) != best) continue;
    for (int i = from; i < from + count; i++)
      if (x[i] == best) return i;
  }
  return 0;  // only NaN
}
