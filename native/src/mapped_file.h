// A file mapped read-only. Weights that gather rows in place share it, so it stays mapped as long as one needs it.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

namespace sgl {

class MappedFile {
 public:
  // Null and *error ("<path>: <what the system said>") when the file can't be opened or mapped.
  static std::shared_ptr<MappedFile> open(const std::string& path, std::string* error);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const uint8_t* data() const { return data_; }
  size_t size() const { return size_; }
  const std::string& path() const { return path_; }

  // Advice to the system about [offset, offset + bytes): it will be read soon; it will not be needed for a while.
  void will_need(size_t offset, size_t bytes) const;
  void done_with(size_t offset, size_t bytes) const;

 private:
  MappedFile(std::string path, const uint8_t* data, size_t size) : path_(std::move(path)), data_(data), size_(size) {}
  void advise(size_t offset, size_t bytes, int advice, bool inside) const;

  std::string path_;
  const uint8_t* data_;
  size_t size_;
};

}  // namespace sgl
