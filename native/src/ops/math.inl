// Small functions every op shares: integer minimum, exp, tails of rows.

SGL_INLINE int lesser(int a, int b) { return a < b ? a : b; }
SGL_INLINE int greater(int a, int b) { return a > b ? a : b; }

/// e^x to about 1 ulp; 0 below -87.3 (e^x would leave the normal range), saturates at e^88.37; NaN stays NaN.
SGL_INLINE V v_exp(V x) {
  const V low = v_set(-87.33654f);
  const V t = v_min(v_set(88.37626f), v_max(low, x));
  const V n = v_round(v_mul(t, v_set(1.44269504f)));
  V r = v_fnma(n, v_set(0.693359375f), t);  // ln 2 in two parts, the first exact in few bits
  r = v_fnma(n, v_set(-2.12194440e-4f), r);
  V p = v_set(1.9875691500e-4f);
  p = v_fma(p, r, v_set(1.3981999507e-3f));
  p = v_fma(p, r, v_set(8.3334519073e-3f));
  p = v_fma(p, r, v_set(4.1665795894e-2f));
  p = v_fma(p, r, v_set(1.6666665459e-1f));
  p = v_fma(p, r, v_set(5.0000001201e-1f));
  p = v_add(v_fma(p, v_mul(r, r), r), v_set(1.0f));
  return v_where_less(x, low, v_zero(), v_mul(p, v_pow2(n)));
}

/// One value through the same arithmetic as sixteen.
SGL_INLINE float scalar_exp(float x) {
  float out[16];
  v_store(out, v_exp(v_set(x)));
  return out[0];
}

/// Lanes of a row of n that start at i: 16, or fewer at its end.
SGL_INLINE int lanes_at(int i, int n) { return lesser(16, n - i); }
