// Large zeroed blocks straight from the system, aligned for vectors and, when big enough, for huge pages.
#pragma once
#include <cstddef>
#include <cstdint>

namespace sgl {

class Memory {
 public:
  Memory() = default;
  ~Memory();
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

  // Zeroed, at least 64-byte aligned; the system gives pages as they are touched. False when it refuses.
  // Call once. bytes = 0 gives an empty block.
  bool allocate(size_t bytes);

  // Advice: bytes [offset, offset + count) come in small pages, so that little of them takes little memory.
  void use_small_pages(size_t offset, size_t count);

  uint8_t* data() const { return data_; }
  float* floats() const { return reinterpret_cast<float*>(data_); }
  size_t bytes() const { return bytes_; }

 private:
  uint8_t* data_ = nullptr;
  size_t bytes_ = 0;
  void* mapping_ = nullptr;
  size_t mapped_ = 0;
};

}  // namespace sgl
