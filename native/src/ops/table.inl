// The tier's kernels as one table (kernel_table.h). Expects SGL_TIER_NAME.

static const KernelTable kTable = {SGL_TIER_NAME, matmul, precision, quantise, matmul_quantised, quantise_rotated, matmul_rotated, matmul_chunk, matmul_passes, kv_write, attention, rms_norm, add_rms_norm,
                                   add,           rope,   gated_act,    row_max,  exp_sum,   checked_copy, argmax};
