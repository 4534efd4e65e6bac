#include "memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>

namespace sgl {
namespace {
constexpr size_t kHugePage = size_t{2} << 20;
}

bool Memory::allocate(size_t bytes) {
  if (bytes == 0) return true;
  const bool huge = bytes >= kHugePage;
  const size_t size = bytes + (huge ? kHugePage : 0);
  if (size < bytes) return false;
  void* mapping = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANON, -1, 0);
  if (mapping == MAP_FAILED) return false;
  mapping_ = mapping;
  mapped_ = size;
  auto address = reinterpret_cast<uintptr_t>(mapping);
  if (huge) address = (address + kHugePage - 1) & ~(kHugePage - 1);
  data_ = reinterpret_cast<uint8_t*>(address);
  bytes_ = bytes;
#ifdef MADV_HUGEPAGE
  // Advice only: without huge pages everything works, with more TLB misses.
  if (huge) (void)madvise(data_, bytes, MADV_HUGEPAGE);
#endif
  return true;
}

void Memory::use_small_pages(size_t offset, size_t count) {
#ifdef MADV_NOHUGEPAGE
  const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  const size_t begin = (offset + page - 1) / page * page, end = std::min(offset + count, bytes_) / page * page;
  if (begin < end) (void)madvise(data_ + begin, end - begin, MADV_NOHUGEPAGE);
#else
  (void)offset;
  (void)count;
#endif
}

Memory::~Memory() {
  if (mapping_) munmap(mapping_, mapped_);
}

}  // namespace sgl
