#include "checksum.h"

#include <cstring>
#include <vector>

#include "thread_pool.h"

namespace sgl {
namespace {

constexpr uint64_t kPrime1 = 0x9E3779B185EBCA87, kPrime2 = 0xC2B2AE3D27D4EB4F, kPrime3 = 0x165667B19E3779F9,
                   kPrime4 = 0x85EBCA77C2B2AE63, kPrime5 = 0x27D4EB2F165667C5;
constexpr size_t kPiece = size_t{1} << 20;

uint64_t rotate(uint64_t x, int bits) { return x << bits | x >> (64 - bits); }
uint64_t read64(const uint8_t* p) {
  uint64_t value;
  std::memcpy(&value, p, 8);
  return value;
}
uint64_t lane(uint64_t sum, uint64_t input) { return rotate(sum + input * kPrime2, 31) * kPrime1; }
uint64_t merge(uint64_t hash, uint64_t sum) { return (hash ^ lane(0, sum)) * kPrime1 + kPrime4; }

}  // namespace

uint64_t xxh64(const uint8_t* p, size_t bytes) {
  const uint8_t* const end = p + bytes;
  uint64_t hash = kPrime5;
  if (bytes >= 32) {
    uint64_t a = kPrime1 + kPrime2, b = kPrime2, c = 0, d = 0 - kPrime1;
    for (; end - p >= 32; p += 32) {
      a = lane(a, read64(p));
      b = lane(b, read64(p + 8));
      c = lane(c, read64(p + 16));
      d = lane(d, read64(p + 24));
    }
    hash = merge(merge(merge(merge(rotate(a, 1) + rotate(b, 7) + rotate(c, 12) + rotate(d, 18), a), b), c), d);
  }
  hash += bytes;
  for (; end - p >= 8; p += 8) hash = rotate(hash ^ lane(0, read64(p)), 27) * kPrime1 + kPrime4;
  if (end - p >= 4) {
    uint32_t word;
    std::memcpy(&word, p, 4);
    hash = rotate(hash ^ word * kPrime1, 23) * kPrime2 + kPrime3;
    p += 4;
  }
  for (; p < end; p++) hash = rotate(hash ^ *p * kPrime5, 11) * kPrime1;
  hash = (hash ^ hash >> 33) * kPrime2;
  hash = (hash ^ hash >> 29) * kPrime3;
  return hash ^ hash >> 32;
}

uint64_t checksum(ThreadPool& pool, const uint8_t* data, size_t bytes) {
  const size_t pieces = (bytes + kPiece - 1) / kPiece;
  std::vector<uint64_t> sums(pieces);
  pool.parallel_for(static_cast<int>(pieces), 1, [&](int begin, int end, int) {
    for (auto i = static_cast<size_t>(begin); i < static_cast<size_t>(end); i++)
      sums[i] = xxh64(data + i * kPiece, i + 1 < pieces ? kPiece : bytes - i * kPiece);
  });
  return xxh64(reinterpret_cast<const uint8_t*>(sums.data()), pieces * sizeof(uint64_t));
}

}  // namespace sgl
