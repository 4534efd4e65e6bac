#include "mapped_file.h"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

namespace sgl {
namespace {

std::string failure(const std::string& path, const char* what) {
  return path + ": " + what + ": " + std::strerror(errno) + " (errno " + std::to_string(errno) + ")";
}

}  // namespace

std::shared_ptr<MappedFile> MappedFile::open(const std::string& path, std::string* error) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) {
    *error = failure(path, "cannot be opened");
    return nullptr;
  }
  struct stat info;
  if (fstat(fd, &info) != 0) {
    *error = failure(path, "cannot be examined");
    ::close(fd);
    return nullptr;
  }
  if (!S_ISREG(info.st_mode)) {
    *error = path + ": is not a regular file";
    ::close(fd);
    return nullptr;
  }
  const auto size = static_cast<size_t>(info.st_size);
  void* data = nullptr;
  if (size > 0) {  // mmap refuses length 0
    data = mmap(nullptr, size, PROT_READ, MAP_SHARED, fd, 0);
    if (data == MAP_FAILED) {
      *error = failure(path, "cannot be mapped");
      ::close(fd);
      return nullptr;
    }
  }
  ::close(fd);
  return std::shared_ptr<MappedFile>(new MappedFile(path, static_cast<const uint8_t*>(data), size));
}

MappedFile::~MappedFile() {
  if (data_) munmap(const_cast<uint8_t*>(data_), size_);
}

void MappedFile::will_need(size_t offset, size_t bytes) const { advise(offset, bytes, MADV_WILLNEED, false); }
void MappedFile::done_with(size_t offset, size_t bytes) const { advise(offset, bytes, MADV_DONTNEED, true); }

// `inside` rounds the range to the pages it holds whole, else to all pages it touches. Failure changes speed only.
void MappedFile::advise(size_t offset, size_t bytes, int advice, bool inside) const {
  const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  size_t begin = offset, end = offset + bytes;
  if (inside) {
    begin = (begin + page - 1) / page * page;
    end = end / page * page;
  } else {
    begin = begin / page * page;
  }
  if (begin < end && end <= size_) (void)madvise(const_cast<uint8_t*>(data_) + begin, end - begin, advice);
}

}  // namespace sgl
