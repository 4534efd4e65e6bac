// The tables of the tiers, for dispatch.cc. Null when not built for this architecture: binding.gyp picks the files.
#pragma once
#include "../kernel_table.h"

namespace sgl {

const KernelTable* portable_table();
#if defined(__x86_64__)
const KernelTable* avx2_table();
const KernelTable* avxvnni_table();
const KernelTable* avx512_table();
const KernelTable* avx512vnni_table();
const KernelTable* amx_table();
#else
inline const KernelTable* avx2_table() { return nullptr; }
inline const KernelTable* avxvnni_table() { return nullptr; }
inline const KernelTable* avx512_table() { return nullptr; }
inline const KernelTable* avx512vnni_table() { return nullptr; }
inline const KernelTable* amx_table() { return nullptr; }
#endif
#if defined(__aarch64__)
const KernelTable* neon_table();
const KernelTable* neon_dotprod_table();  // null from compilers that cannot
#else
inline const KernelTable* neon_table() { return nullptr; }
inline const KernelTable* neon_dotprod_table() { return nullptr; }
#endif

}  // namespace sgl
