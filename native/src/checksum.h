// A checksum that keeps up with memory: XXH64 of pieces, taken by all threads, then of the pieces' sums. It finds damage
// (a torn write, a bad disk), not forgery.
#pragma once
#include <cstddef>
#include <cstdint>

namespace sgl {

class ThreadPool;

// XXH64 with seed 0, little endian (https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md).
uint64_t xxh64(const uint8_t* data, size_t bytes);

// Over pieces of 1 MiB on the pool. Reads every byte once, so mapped pages are in memory afterwards. A cancelled pool
// gives a meaningless value: ask it.
uint64_t checksum(ThreadPool& pool, const uint8_t* data, size_t bytes);

}  // namespace sgl
