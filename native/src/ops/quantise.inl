// Activations to integers (quantised_rows.h). Expects largest32, codes8 and codes16 of the tier, and quantise_many, which does as
// many groups as it likes.

template <Precision P> SGL_INLINE void quantise_row(const float* x, int columns, int k0, int k1, uint8_t* row) {
  constexpr float kMost = P == Precision::s8 ? 127.0f : 32767.0f;
  RowGroup* group = (RowGroup*)(row + groups_offset(P, columns)) + k0 / 32;
  x += k0;
  row += (size_t)k0 * code_bytes(P);
  const int done = quantise_many<P>(x, (k1 - k0) / 32, kMost, row, group);
  x += done * 32;
  row += done * 32 * code_bytes(P);
  group += done;
  for (int k = k0 + done * 32; k < k1; k += 32, x += 32, group++, row += 32 * code_bytes(P)) {
    const float largest = largest32(x);
    // Below 1e-30 the inverse could overflow; such a group is zero next to anything it is added to.
    const float inverse = largest < 1e-30f ? 0.0f : kMost / largest;
    group->scale = largest < 1e-30f ? 0.0f : largest / kMost;
    if constexpr (P == Precision::s8)
      codes8(x, inverse, row, *group);
    else
      codes16(x, inverse, row, *group);
  }
}

static void quantise(Precision precision, const float* x, int columns, int k0, int k1, uint8_t* row) {
  if (precision == Precision::s8)
    quantise_row<Precision::s8>(x, columns, k0, k1, row);
  else
    quantise_row<Precision::s16>(x, columns, k0, k1, row);
}
