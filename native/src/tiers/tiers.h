// The tables of the tiers, for dispatch.cc. Null when not built for this architecture.
#pragma once
#include "../kernel_table.h"

namespace sgl {

const KernelTable* portable_table();
const KernelTable* avx2_table();
const KernelTable* avx512_table();

}  // namespace sgl
