// y = x W^T where rows of both sides are rotated and rounded to 8 bits with one scale each (rotation.h, quantised_rows.h).
//
// An output is (sum * a) * scale + bias, each step rounded once: sum the exact integer over all k, a the channel's scale, scale
// the line's; of two lines both values are added before the bias. Integer sums do not depend on their order, so neither rows,
// nor blocks, nor the tier change a bit.

struct RotatedArgs {
  const PackedMatrix* w;
  const uint8_t* lines;
  int count;  // of lines
  const float* bias;
  float* y;
  size_t y_stride;
};

SGL_INLINE const RowLine& line_at(const RotatedArgs& args, int line) {
  return *(const RowLine*)(args.lines + line * line_stride(args.w->columns) + line_end(args.w->columns));
}
SGL_INLINE const float* block_scales(const PackedBlock& block) { return (const float*)block.data; }
SGL_INLINE const uint8_t* block_codes(const PackedBlock& block, int step) { return block.data + rotated_step(step); }
/// 16 channels of a row, from channel `at` of the block on.
SGL_INLINE void store_rotated(const RotatedArgs& args, const PackedBlock& block, int row, int at, V value) {
  store_sums(args.y + row * args.y_stride + block.channel + at, value, args.bias == nullptr ? nullptr : args.bias + block.channel + at, block.channels - at);
}

