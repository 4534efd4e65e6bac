// The tile instructions that the amx tier uses, one function each. Written as assembly: g++ 12 miscompiles the intrinsics
// (_tile_loadconfig names 8 of its 64 bytes as input, _tile_loadd has no memory clobber).
//
// SGL_AMX_EMULATED, which test builds define, replaces them by plain C++, so that everything but these few lines is
// tested on machines without AMX.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>

// Assemblers that come with older compilers do not know the instructions.
#if defined(SGL_AMX_EMULATED) || defined(__clang__) || __GNUC__ >= 11
#define SGL_HAS_TILES
#endif

namespace sgl {

/// The operand of ldtilecfg: rows and bytes per row of each tile.
struct alignas(64) TileConfig {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t bytes[16] = {};
  uint8_t rows[16] = {};
  void set(int tile, int rows_, int bytes_) {
    rows[tile] = (uint8_t)rows_;
    bytes[tile] = (uint16_t)bytes_;
  }
};
static_assert(sizeof(TileConfig) == 64, "ldtilecfg reads 64 bytes");

#if defined(SGL_AMX_EMULATED)

struct EmulatedTiles {
  TileConfig config;
  uint8_t data[8][16][64];
};
inline EmulatedTiles& emulated_tiles() {
  static thread_local EmulatedTiles tiles;
  return tiles;
}
inline void tile_configure(const TileConfig& config) {
  emulated_tiles().config = config;
  memset(emulated_tiles().data, 0, sizeof emulated_tiles().data);
}
inline void tile_release() { tile_configure(TileConfig()); }
template <int T> void tile_zero() { memset(emulated_tiles().data[T], 0, sizeof emulated_tiles().data[T]); }
template <int T> void tile_load(const void* p, size_t stride) {
  EmulatedTiles& e = emulated_tiles();
  tile_zero<T>();
  for (int r = 0; r < e.config.rows[T]; r++) memcpy(e.data[T][r], (const uint8_t*)p + r * stride, e.config.bytes[T]);
}
template <int T> void tile_load_once(const void* p, size_t stride) { tile_load<T>(p, stride); }
template <int T> void tile_store(void* p, size_t stride) {
  const EmulatedTiles& e = emulated_tiles();
  for (int r = 0; r < e.config.rows[T]; r++) memcpy((uint8_t*)p + r * stride, e.data[T][r], e.config.bytes[T]);
}
template <int C, int A, int B> void tile_dot_su() {
  EmulatedTiles& e = emulated_tiles();
  for (int m = 0; m < e.config.rows[C]; m++)
    for (int n = 0; n < e.config.bytes[C] / 4; n++) {
      int32_t sum;
      memcpy(&sum, &e.data[C][m][n * 4], 4);
      for (int k = 0; k < e.config.bytes[A]; k++) sum += (int8_t)e.data[A][m][k] * (int32_t)e.data[B][k / 4][n * 4 + k % 4];
      memcpy(&e.data[C][m][n * 4], &sum, 4);
    }
}

#else

/// Sizes of all tiles, which become 0.
inline void tile_configure(const TileConfig& config) { asm volatile("ldtilecfg %0" ::"m"(config) : "memory"); }
/// Back to the state in which threads switch without saving tiles.
inline void tile_release() { asm volatile("tilerelease" ::: "memory"); }
template <int T> inline void tile_zero() { asm volatile("tilezero %%tmm%c0" ::"i"(T)); }
/// Rows `stride` bytes apart.
template <int T> inline void tile_load(const void* p, size_t stride) {
  asm volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(p), "r"(stride), "i"(T) : "memory");
}
/// With the hint that these rows need not stay in L1.
template <int T> inline void tile_load_once(const void* p, size_t stride) {
  asm volatile("tileloaddt1 (%0,%1,1), %%tmm%c2" ::"r"(p), "r"(stride), "i"(T) : "memory");
}
template <int T> inline void tile_store(void* p, size_t stride) {
  asm volatile("tilestored %%tmm%c2, (%0,%1,1)" ::"r"(p), "r"(stride), "i"(T) : "memory");
}
/// C[m][n] += sum over k of A[m][k] * B[k / 4][n][k % 4]: s32 += s8 * u8.
template <int C, int A, int B> inline void tile_dot_su() {
  asm volatile("tdpbsud %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(C), "i"(A), "i"(B));
}

#endif

}  // namespace sgl
