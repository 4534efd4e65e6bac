// Activations rotated and rounded with one scale per row (rotation.h, quantised_rows.h).

/// Stages 1 to 8 of a block: inside a vector.
SGL_INLINE V rotate_lanes(V v) { return v_butterfly<8>(v_butterfly<4>(v_butterfly<2>(v_butterfly<1>(v)))); }
SGL_INLINE void butterfly(V& a, V& b) {
  const V sum = v_add(a, b);
  b = v_sub(a, b);
  a = sum;
}

/// Blocks of N >= 16 values: what rotate_block does, in its order.
template <int N> static __attribute__((noinline)) void rotate_blocks(const float* x, int columns, float* out) {
  constexpr int kVectors = N / 16;
  for (int k = 0; k < columns; k += N, x += N, out += N) {
    // Four vectors at a time: more would not stay in registers everywhere.
    if constexpr (kVectors == 1) {
      v_store(out, rotate_lanes(v_load(x)));
    } else if constexpr (kVectors == 2) {
      V a = rotate_lanes(v_load(x)), b = rotate_lanes(v_load(x + 16));
      butterfly(a, b);
      v_store(out, a);
      v_store(out + 16, b);
    } else {
      for (int i = 0; i < N; i += 64) {
        V a = rotate_lanes(v_load(x + i)), b = rotate_lanes(v_load(x + i + 16));
        V c = rotate_lanes(v_load(x + i + 32)), d = rotate_lanes(v_load(x + i + 48));
        butterfly(a, b);
        butterfly(c, d);
        butterfly(a, c);
        butterfly(b, d);
        v_store(out + i, a);
        v_store(out + i + 16, b);
        v_store(out + i + 32, c);
        v_store(out + i + 48, d);
      }
    }
    if constexpr (kVectors == 8) {
      for (int i = 0; i < 64; i += 16) {
        V a = v_load(out + i), b = v_load(out + i + 64);
        butterfly(a, b);
        v_store(out + i, a);
        v_store(out + i + 64, b);
      }
    }
    if constexpr (kVectors == 16) {
      for (int i = 0; i < 64; i += 16) {
        V a = v_load(out + i), b = v_load(out + i + 64), c = v_load(out + i + 128), d = v_load(out + i + 192);
        butterfly(a, b);
        butterfly(c, d);
        butterfly(a, c);
        butterfly(b, d);
        v_store(out + i, a);
        v_store(out + i + 64, b);
        v_store(out + i + 128, c);
        v_store(out + i + 192, d);
      }
    }
  }
}

static void quantise_rotated(Precision precision, const float* x, int columns, uint8_t* row, uint8_t* scratch) {
  float* turned = (float*)scratch;
  const int padded = rotated_columns(columns), size = rotation_size(columns);
  switch (size) {
    case 256: rotate_blocks<256>(x, columns, turned); break;
    case 128: rotate_blocks<128>(x, columns, turned); break;
    case 64: rotate_blocks<64>(x, columns, turned); break;
    case 32: rotate_blocks<32>(x, columns, turned); break;
    case 16: rotate_blocks<16>(x, columns, turned); break;
    default:
      memcpy(turned, x, (size_t)columns * 4);
      for (int k = 0; k < columns; k += size) rotate_block(turned + k, size);
  }
  for (int k = columns; k < padded; k++) turned[k] = 0;
  uint32_t best = 0;
  for (int k = 0; k < padded; k += 32) {
    const uint32_t bits = f32_to_bits(largest32(turned + k));
    best = bits > best ? bits : best;
  }
  const float largest = bits_to_f32(best);
  float inverse = largest < 1e-30f ? 0.0f : 127.0f / largest, scale = largest < 1e-30f ? 0.0f : largest / 127.0f;
  for (int line = 0; line < line_count(precision); line++, row += line_stride(columns)) {
    if (line > 0) {
      // What rounding took, at most half a step, in steps of 1 / 254: exact but for the last rounding.
      for (int k = 0; k < padded; k += 16) {
        const V steps = v_mul(v_load(turned + k), v_set(inverse));
        v_store(turned + k, v_sub(steps, v_round(steps)));
      }
      inverse = 254.0f;
      scale = scale / 254.0f;
    }
    RowLine& end = *(RowLine*)(row + line_end(columns));
    end = {scale, 0};
    for (int k = 0; k < padded; k += 32) {
      RowGroup group;
      codes8(turned + k, inverse, row + k, group);
      end.sum += (int32_t)group.sum;
    }
  }
}

