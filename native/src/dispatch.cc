// Chooses a kernel tier: the best this CPU and operating system support, or one by name.
#include <cstring>

#include "kernel_table.h"
#include "tiers/tiers.h"

#if defined(__x86_64__)
#include <cpuid.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif

namespace sgl {
namespace {

#if defined(__x86_64__)
struct X86Features {
  bool avx2 = false, avxvnni = false, avx512 = false, avx512vnni = false, amx = false;
  X86Features() {
    unsigned a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d)) return;
    const bool osxsave = c >> 27 & 1, fma = c >> 12 & 1, f16c = c >> 29 & 1;
    if (!osxsave) return;
    unsigned low, high;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    // The operating system must save the registers: XMM and YMM; for AVX-512 also masks and both halves of ZMM.
    const bool ymm = (low & 6) == 6, zmm = (low & 0xe6) == 0xe6;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return;
    avx2 = ymm && fma && f16c && (b >> 5 & 1);
    const unsigned needed = 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31;  // F, DQ, BW, VL
    avx512 = avx2 && zmm && (b & needed) == needed;
    avx512vnni = avx512 && (c >> 11 & 1);
    const bool tiles = (low >> 17 & 3) == 3;  // the operating system saves their configuration and their data
    amx = avx512vnni && tiles && (d >> 24 & 3) == 3;
    if (__get_cpuid_count(7, 1, &a, &b, &c, &d)) avxvnni = avx2 && (a >> 4 & 1);
  }
};
const X86Features& features() {
  static const X86Features found;
  return found;
}
bool has_avx512vnni() { return features().avx512vnni; }
#if defined(SGL_AMX_EMULATED)
bool has_amx() { return features().avx512vnni; }
#else
/// Linux gives the memory to save tiles only to processes that ask, for all of their threads.
bool may_use_tiles() {
#if defined(__linux__)
  constexpr long kRequestPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM; old headers have neither
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
#else
  return false;
#endif
}
bool has_amx() { return features().amx && may_use_tiles(); }
#endif
bool has_avx512() { return features().avx512; }
bool has_avxvnni() { return features().avxvnni; }
bool has_avx2() { return features().avx2; }
#else
bool has_avx512vnni() { return false; }
bool has_amx() { return false; }
bool has_avx512() { return false; }
bool has_avxvnni() { return false; }
bool has_avx2() { return false; }
#endif
#if defined(__aarch64__) && defined(__linux__)
bool has_dotprod() { return getauxval(AT_HWCAP) >> 20 & 1; }  // HWCAP_ASIMDDP, which old headers lack
#else
bool has_dotprod() { return true; }  // every Arm processor Apple has built into a Mac
#endif
bool always() { return true; }

}  // namespace

const char* numerics_name(Numerics numerics) {
  static const char* const names[] = {"f32", "exact", "faithful", "fast"};
  return names[(int)numerics];
}

const Tier* tiers(int* count) {
  static const Tier all[] = {
      {"amx", amx_table(), has_amx, "AMX (amx_tile, amx_int8), which Linux 5.16 and newer allow, and what avx512-vnni needs"},
      {"avx512-vnni", avx512vnni_table(), has_avx512vnni, "AVX-512 F, BW, VL, DQ, VNNI, and AVX2, FMA, F16C"},
      {"avx512", avx512_table(), has_avx512, "AVX-512 F, BW, VL, DQ, and AVX2, FMA, F16C"},
      {"avx-vnni", avxvnni_table(), has_avxvnni, "AVX-VNNI, AVX2, FMA, F16C"},
      {"avx2", avx2_table(), has_avx2, "AVX2, FMA, F16C"},
      {"neon-dotprod", neon_dotprod_table(), has_dotprod, "Armv8.2 dot products (asimddp)"},
      {"neon", neon_table(), always, "AArch64"},
      {"portable", portable_table(), always, "nothing special"},
  };
  *count = (int)(sizeof all / sizeof all[0]);
  return all;
}

const KernelTable* select_tier(const char* name, const char** reason) {
  int count;
  const Tier* all = tiers(&count);
  for (int i = 0; i < count; i++) {
    const bool usable = all[i].table != nullptr && all[i].supported();
    if (name == nullptr) {
      if (!usable) continue;
      *reason = "the best this CPU supports";
      return all[i].table;
    }
    if (strcmp(name, all[i].name) != 0) continue;
    if (usable) {
      *reason = "asked for by name";
      return all[i].table;
    }
    *reason = all[i].table == nullptr ? "this tier is not built for this architecture" : all[i].needs;
    return nullptr;
  }
  *reason = "no tier has this name";
  return nullptr;
}

}  // namespace sgl
