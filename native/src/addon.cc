// The door of the addon: every function of src/native/addon.ts, its argument checks, and the table that exports them.
// Longer than other files so that the whole surface can be read in one place; the work is done elsewhere.
#include <algorithm>
#ifdef __GLIBC__
#include <malloc.h>
#endif

#include "checksum.h"
#include "cpu_info.h"
#include "napi_args.h"
#include "packed_format.h"

namespace sgl {
namespace {

constexpr int kMaxThreads = 256;
constexpr int kMaxInt = INT32_MAX;
// Of a layer's keys and values, what comes in small pages: a few thousand positions of a small model.
constexpr size_t kSmallPagesPerLayer = size_t{2} << 20;
// Bytes of logits that one step may return: a test's convenience, not a way to run out of memory.
constexpr uint64_t kMaxReturnBytes = uint64_t{4} << 30;

// A task that settles a promise with a result or an error.
class PromiseTask : public Task {
 public:
  // Null when the promise can't be made.
  napi_value promise(napi_env env) {
    napi_value promise = nullptr;
    napi_create_promise(env, &deferred_, &promise);
    return promise;
  }

 protected:
  void resolve(napi_env env, napi_value value) {
    if (value) napi_resolve_deferred(env, deferred_, value);
    else reject(env, make_error(env, "out of memory: the result could not be made"));
  }
  void reject(napi_env env, napi_value error) { napi_reject_deferred(env, deferred_, error); }

 private:
  napi_deferred deferred_ = nullptr;
};

napi_value submit(napi_env env, Runtime& runtime, std::unique_ptr<PromiseTask> task) {
  napi_value promise = task->promise(env);
  if (promise) runtime.submit(std::move(task));
  return promise;
}

// ---- the machine

napi_value CpuInfoOf(napi_env env, napi_callback_info) {
  const CpuInfo cpu = cpu_info();
  napi_value object, features;
  if (napi_create_object(env, &object) != napi_ok || napi_create_array(env, &features) != napi_ok) return nullptr;
  for (size_t i = 0; i < cpu.features.size(); i++) napi_set_element(env, features, static_cast<uint32_t>(i), make_string(env, cpu.features[i]));
  set(env, object, "model", make_string(env, cpu.model));
  set(env, object, "features", features);
  set(env, object, "cores", make_number(env, cpu.cores));
  return object;
}

// Pages that malloc keeps after large structures were freed go back to the system.
napi_value TrimHeap(napi_env, napi_callback_info) {
#ifdef __GLIBC__
  malloc_trim(0);
#endif
  return nullptr;
}

bool runs_here(const Tier& tier) { return tier.table && tier.supported(); }

std::string tier_reason(const Tier& tier) {
  if (!tier.table) return "not built for this architecture";
  const std::string needs = tier.needs && *tier.needs ? std::string("needs ") + tier.needs : "needs nothing special";
  return needs + (tier.supported() ? "; this CPU has it" : "; this CPU lacks it");
}

napi_value Tiers(napi_env env, napi_callback_info) {
  int count = 0;
  const Tier* list = tiers(&count);
  napi_value array;
  if (napi_create_array(env, &array) != napi_ok) return nullptr;
  for (int i = 0; i < count; i++) {
    napi_value object;
    if (napi_create_object(env, &object) != napi_ok) return nullptr;
    set(env, object, "name", make_string(env, list[i].name));
    set(env, object, "supported", make_bool(env, runs_here(list[i])));
    set(env, object, "reason", make_string(env, tier_reason(list[i])));
    napi_set_element(env, array, static_cast<uint32_t>(i), object);
  }
  return array;
}

// ---- runtime

napi_value CreateRuntime(napi_env env, napi_callback_info info) {
  ARGUMENTS(1);
  REQUIRE_OBJECT(argv[0], "options");
  REQUIRE_PROPERTY(threads_value, argv[0], "threads");
  REQUIRE_PROPERTY(tier_value, argv[0], "tier");
  REQUIRE_PROPERTY(nice_value, argv[0], "nice");
  REQUIRE_INT(threads, threads_value, "options.threads", 1, kMaxThreads);
  REQUIRE_INT(nice, nice_value, "options.nice", 0, 19);
  napi_valuetype type = napi_undefined;
  napi_typeof(env, tier_value, &type);
  std::string tier;
  const bool named = type != napi_null;
  if (named && type != napi_string) {
    expected(env, "options.tier", "a string or null", tier_value);
    return nullptr;
  }
  if (named && !read_string(env, tier_value, "options.tier", &tier)) return nullptr;
  const char* why = nullptr;
  const KernelTable* kernels = select_tier(named ? tier.c_str() : nullptr, &why);
  if (!kernels) {
    std::string names;
    int count = 0;
    const Tier* list = tiers(&count);
    for (int i = 0; i < count; i++)
      if (runs_here(list[i])) names += (names.empty() ? "" : ", ") + std::string(list[i].name);
    return throw_range(env, "options.tier must be null or one of " + names + ", got " + describe(env, tier_value) + (why ? std::string(": ") + why : ""));
  }
  std::string error;
  auto runtime = Runtime::create(env, threads, nice, kernels, why, &error);
  if (!runtime) return throw_error(env, "createRuntime: " + error);
  return make_handle(env, std::move(runtime));
}

napi_value RuntimeInfo(napi_env env, napi_callback_info info) {
  ARGUMENTS(1);
  REQUIRE_HANDLE(Runtime, runtime, argv[0], "runtime");
  napi_value object;
  if (napi_create_object(env, &object) != napi_ok) return nullptr;
  set(env, object, "tier", make_string(env, runtime->kernels().name));
  set(env, object, "reason", make_string(env, runtime->reason()));
  set(env, object, "threads", make_number(env, runtime->pool().threads()));
  return object;
}

napi_value PoolStats(napi_env env, napi_callback_info info) {
  ARGUMENTS(1);
  REQUIRE_HANDLE(Runtime, runtime, argv[0], "runtime");
  napi_value object;
  if (napi_create_object(env, &object) != napi_ok) return nullptr;
  set(env, object, "runs", make_number(env, static_cast<double>(runtime->pool().runs())));
  set(env, object, "chunks", make_number(env, static_cast<double>(runtime->pool().chunks())));
  return object;
}

napi_value CloseRuntime(napi_env env, napi_callback_info info) {
  ARGUMENTS(1);
  Box<Runtime>* box = read_box<Runtime>(env, argv[0], "runtime");
  // The handle stays usable for runtimeInfo and poolStats; plans hold the runtime too and see that it is closed.
  if (box && box->value) box->value->close(env);
  return nullptr;
}

template <class T>
napi_value CloseHandle(napi_env env, napi_callback_info info) {
  ARGUMENTS(1);
  Box<T>* box = read_box<T>(env, argv[0], HandleKind<T>::name);
  if (box) box->close();
  return nullptr;
}

// ---- files and weights

napi_value MapFile(napi_env env, napi_callback_info info) {
  ARGUMENTS(1);
  REQUIRE_STRING(path, argv[0], "path");
  if (path.find('\0') != std::string::npos) return throw_type(env, "path must not contain a zero byte");
  std::string error;
  auto file = MappedFile::open(path, &error);
  if (!file) return throw_error(env, error);
  return make_handle(env, std::move(file));
}

bool known_type(int type) {
  // Every type's block divides 256.
  return row_bytes(static_cast<GgmlType>(type), 256) > 0;
}

// The type and the bytes of a row of `columns`; false after having thrown.
bool read_type(napi_env env, napi_value value, const std::string& name, int columns, GgmlType* type, size_t* bytes) {
  int id;
  if (!read_int(env, value, name, 0, kMaxInt, &id)) return false;
  if (!known_type(id)) {
    throw_range(env, name + " must be a ggml type that this package reads, got " + std::to_string(id));
    return false;
  }
  *type = static_cast<GgmlType>(id);
  *bytes = row_bytes(*type, columns);
  if (*bytes) return true;
  throw_range(env, "columns must be a multiple of the block of ggml type " + std::to_string(id) + ", got " + std::to_string(columns));
  return false;
}

bool inside_file(napi_env env, const std::string& name, const MappedFile& file, uint64_t offset, uint64_t rows, size_t row_size) {
  // rows <= 2^31 and row_size < 2^33: no overflow in 64 bits.
  if (offset <= file.size() && rows * row_size <= file.size() - offset) return true;
  throw_range(env, name + ": " + std::to_string(rows) + " rows of " + std::to_string(row_size) + " bytes at offset " + std::to_string(offset) +
                       " reach beyond the " + std::to_string(file.size()) + " bytes of " + file.path());
  return false;
}

bool read_part(napi_env env, napi_value object, const std::string& name, int columns, MatrixPart* part) {
  if (!is_object(env, object)) return expected(env, name, "an object", object);
  napi_value file, offset, type, rows, order;
  uint64_t at;
  if (!read_property(env, object, "file", &file) || !read_property(env, object, "offset", &offset) || !read_property(env, object, "type", &type) ||
      !read_property(env, object, "rows", &rows) || !read_property(env, object, "order", &order) ||
      !read_handle<MappedFile>(env, file, name + ".file", &part->file) || !read_size(env, offset, name + ".offset", &at) ||
      !read_type(env, type, name + ".type", columns, &part->type, &part->row_size) || !read_int(env, rows, name + ".rows", 1, kMaxInt, &part->rows))
    return false;
  part->offset = static_cast<size_t>(at);
  napi_valuetype kind = napi_undefined;
  napi_typeof(env, order, &kind);
  int64_t last = part->rows - 1;
  if (kind != napi_undefined) {
    if (!copy_array(env, order, name + ".order", &part->order)) return false;
    if (part->order.size() != static_cast<size_t>(part->rows)) {
      throw_range(env, name + ".order must have " + std::to_string(part->rows) + " entries (one per row), got " + std::to_string(part->order.size()));
      return false;
    }
    last = 0;
    for (size_t i = 0; i < part->order.size(); i++) {
      if (part->order[i] < 0) {
        throw_range(env, name + ".order[" + std::to_string(i) + "] must be >= 0, got " + std::to_string(part->order[i]));
        return false;
      }
      last = std::max<int64_t>(last, part->order[i]);
    }
  }
  return inside_file(env, name, *part->file, part->offset, static_cast<uint64_t>(last) + 1, part->row_size);
}

std::string checksum_text(uint64_t value) {
  char text[17];
  std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(value));
  return text;
}

bool read_checksum(napi_env env, napi_value value, const std::string& name, uint64_t* out) {
  std::string text;
  if (!read_string(env, value, name, &text)) return false;
  char* end = nullptr;
  *out = std::strtoull(text.c_str(), &end, 16);
  if (text.size() == 16 && text.find_first_not_of("0123456789abcdef") == std::string::npos) return true;
  throw_range(env, name + " must be 16 hexadecimal digits, got " + describe(env, value));
  return false;
}

// options.stored of packMatrix.
bool read_stored(napi_env env, napi_value object, const std::string& name, StoredMatrix* stored) {
  if (!is_object(env, object)) return expected(env, name, "an object", object);
  napi_value file, offset, bytes, checksum;
  uint64_t at, size;
  if (!read_property(env, object, "file", &file) || !read_property(env, object, "offset", &offset) || !read_property(env, object, "bytes", &bytes) ||
      !read_property(env, object, "checksum", &checksum) || !read_handle<MappedFile>(env, file, name + ".file", &stored->file) ||
      !read_size(env, offset, name + ".offset", &at) || !read_size(env, bytes, name + ".bytes", &size) ||
      !read_checksum(env, checksum, name + ".checksum", &stored->checksum))
    return false;
  stored->offset = static_cast<size_t>(at);
  stored->bytes = static_cast<size_t>(size);
  return inside_file(env, name, *stored->file, at, 1, stored->bytes);
}

class PackTask : public PromiseTask {
 public:
  PackTask(int columns, std::vector<MatrixPart> parts, bool rotated, StoredMatrix stored)
      : columns_(columns), parts_(std::move(parts)), rotated_(rotated), stored_(std::move(stored)) {}
  void run(int) override {
    weight_ = stored_.file ? map_matrix(runtime->pool(), columns_, parts_, rotated_, stored_, &error_)
                           : pack_matrix(runtime->pool(), columns_, parts_, rotated_, &error_);
  }
  void settle(napi_env env, const char* dropped) override {
    if (dropped) error_ = dropped;
    if (weight_ && error_.empty()) resolve(env, make_handle(env, std::move(weight_)));
    else reject(env, make_error(env, "packMatrix: " + error_));
  }

 private:
  int columns_;
  std::vector<MatrixPart> parts_;
  bool rotated_;
  StoredMatrix stored_;
  std::shared_ptr<Weight> weight_;
  std::string error_;
};

napi_value PackMatrix(napi_env env, napi_callback_info info) {
  ARGUMENTS(2);
  REQUIRE_HANDLE(Runtime, runtime, argv[0], "runtime");
  REQUIRE_OBJECT(argv[1], "options");
  REQUIRE_PROPERTY(columns_value, argv[1], "columns");
  REQUIRE_PROPERTY(sources, argv[1], "sources");
  REQUIRE_INT(columns, columns_value, "options.columns", 1, kMaxInt);
  bool is_array = false;
  uint32_t count = 0;
  if (napi_is_array(env, sources, &is_array) != napi_ok || !is_array) {
    expected(env, "options.sources", "an array", sources);
    return nullptr;
  }
  napi_get_array_length(env, sources, &count);
  if (count == 0) return throw_range(env, "options.sources must have at least one entry, got 0");
  std::vector<MatrixPart> parts(count);
  int64_t rows = 0;
  for (uint32_t i = 0; i < count; i++) {
    napi_value source;
    if (napi_get_element(env, sources, i, &source) != napi_ok) return nullptr;
    if (!read_part(env, source, "options.sources[" + std::to_string(i) + "]", columns, &parts[i])) return nullptr;
    rows += parts[i].rows;
  }
  if (rows > kMaxInt) return throw_range(env, "options.sources must have at most 2147483647 rows together, got " + std::to_string(rows));
  REQUIRE_PROPERTY(rotated_value, argv[1], "rotated");
  napi_valuetype kind = napi_undefined;
  napi_typeof(env, rotated_value, &kind);
  bool rotated = false;
  if (kind != napi_undefined && !read_bool(env, rotated_value, "options.rotated", &rotated)) return nullptr;
  if (rotated && columns > kRotatedColumns)
    return throw_range(env, "options.columns must be at most " + std::to_string(kRotatedColumns) + " for a rotated matrix, got " + std::to_string(columns));
  REQUIRE_PROPERTY(stored_value, argv[1], "stored");
  napi_typeof(env, stored_value, &kind);
  StoredMatrix stored;
  if (kind != napi_undefined && !read_stored(env, stored_value, "options.stored", &stored)) return nullptr;
  REQUIRE_OPEN(runtime, "packMatrix");
  return submit(env, *runtime, std::make_unique<PackTask>(columns, std::move(parts), rotated, std::move(stored)));
}

class ChecksumTask : public PromiseTask {
 public:
  explicit ChecksumTask(std::shared_ptr<Weight> weight) : weight_(std::move(weight)) {}
  void run(int) override {
    checksum_ = checksum(runtime->pool(), weight_->packed->storage, weight_->packed->bytes);
    cancelled_ = runtime->pool().cancelled();
  }
  void settle(napi_env env, const char* dropped) override {
    if (dropped || cancelled_) return reject(env, make_error(env, std::string("packedBytes: ") + (dropped ? dropped : "the runtime was closed")));
    // The bytes are lent, not copied: the array keeps the weight alive.
    auto* owner = new std::shared_ptr<Weight>(weight_);
    const auto release = [](napi_env, void*, void* hint) { delete static_cast<std::shared_ptr<Weight>*>(hint); };
    napi_value buffer, bytes, object;
    const size_t size = weight_->packed->bytes;
    if (napi_create_external_arraybuffer(env, weight_->packed->storage, size, release, owner, &buffer) != napi_ok) {
      delete owner;
      return reject(env, make_error(env, "packedBytes: this JavaScript engine allows no memory from outside"));
    }
    if (napi_create_typedarray(env, napi_uint8_array, size, buffer, 0, &bytes) != napi_ok || napi_create_object(env, &object) != napi_ok)
      return reject(env, make_error(env, "packedBytes: out of memory"));
    set(env, object, "bytes", bytes);
    set(env, object, "checksum", make_string(env, checksum_text(checksum_)));
    resolve(env, object);
  }

 private:
  std::shared_ptr<Weight> weight_;
  uint64_t checksum_ = 0;
  bool cancelled_ = false;
};

napi_value PackedBytesOf(napi_env env, napi_callback_info info) {
  ARGUMENTS(2);
  REQUIRE_HANDLE(Runtime, runtime, argv[0], "runtime");
  REQUIRE_HANDLE(Weight, weight, argv[1], "weight");
  if (weight->kind != Weight::Kind::matrix) return throw_type(env, std::string("weight must be a matrix, got ") + weight->kind_name());
  // A mapped matrix is read-only: an array over it would end the process at the first write.
  if (!weight->packed->owned) return throw_type(env, "weight must be a matrix that was packed here, got one that is mapped from a file");
  REQUIRE_OPEN(runtime, "packedBytes");
  return submit(env, *runtime, std::make_unique<ChecksumTask>(std::move(weight)));
}

napi_value PackedLayoutOf(napi_env env, napi_callback_info) { return make_string(env, checksum_text(pack_layout_id())); }

napi_value MapTable(napi_env env, napi_callback_info info) {
  ARGUMENTS(1);
  REQUIRE_OBJECT(argv[0], "options");
  REQUIRE_PROPERTY(file_value, argv[0], "file");
  REQUIRE_PROPERTY(offset_value, argv[0], "offset");
  REQUIRE_PROPERTY(type_value, argv[0], "type");
  REQUIRE_PROPERTY(rows_value, argv[0], "rows");
  REQUIRE_PROPERTY(columns_value, argv[0], "columns");
  REQUIRE_HANDLE(MappedFile, file, file_value, "options.file");
  REQUIRE_SIZE(offset, offset_value, "options.offset");
  REQUIRE_INT(rows, rows_value, "options.rows", 1, kMaxInt);
  REQUIRE_INT(columns, columns_value, "options.columns", 1, kMaxInt);
  auto weight = std::make_shared<Weight>();
  if (!read_type(env, type_value, "options.type", columns, &weight->type, &weight->row_size)) return nullptr;
  if (!inside_file(env, "options", *file, offset, static_cast<uint64_t>(rows), weight->row_size)) return nullptr;
  weight->kind = Weight::Kind::table;
  weight->rows = rows;
  weight->columns = columns;
  weight->bytes = static_cast<size_t>(rows) * weight->row_size;
  weight->data = file->data() + offset;
  weight->file = std::move(file);
  return make_handle(env, std::move(weight));
}

napi_value UploadVector(napi_env env, napi_callback_info info) {
  ARGUMENTS(1);
  REQUIRE_ARRAY(float, values, length, argv[0], "values");
  if (length == 0 || length > static_cast<size_t>(kMaxInt)) return throw_range(env, "values must have at least one entry, got " + std::to_string(length));
  auto weight = std::make_shared<Weight>();
  if (!weight->values.allocate(length * sizeof(float))) return throw_error(env, "out of memory: a vector of " + std::to_string(length) + " floats");
  std::memcpy(weight->values.data(), values, length * sizeof(float));
  weight->columns = static_cast<int>(length);
  weight->bytes = length * sizeof(float);
  return make_handle(env, std::move(weight));
}

napi_value WeightInfo(napi_env env, napi_callback_info info) {
  ARGUMENTS(1);
  REQUIRE_HANDLE(Weight, weight, argv[0], "weight");
  napi_value object;
  if (napi_create_object(env, &object) != napi_ok) return nullptr;
  set(env, object, "rows", make_number(env, weight->rows));
  set(env, object, "columns", make_number(env, weight->columns));
  set(env, object, "bytes", make_number(env, static_cast<double>(weight->bytes)));
  set(env, object, "roundingError", make_number(env, weight->packed ? pack_error(*weight->packed) : 0));
  return object;
}

// ---- KV pool

napi_value CreateKvPool(napi_env env, napi_callback_info info) {
  ARGUMENTS(1);
  REQUIRE_OBJECT(argv[0], "options");
  REQUIRE_PROPERTY(layers_value, argv[0], "layers");
  REQUIRE_PROPERTY(heads_value, argv[0], "kvHeads");
  REQUIRE_PROPERTY(dim_value, argv[0], "headDim");
  REQUIRE_PROPERTY(size_value, argv[0], "pageSize");
  REQUIRE_PROPERTY(pages_value, argv[0], "pages");
  REQUIRE_PROPERTY(dtype_value, argv[0], "dtype");
  REQUIRE_INT(layers, layers_value, "options.layers", 1, 4096);
  REQUIRE_INT(kv_heads, heads_value, "options.kvHeads", 1, 4096);
  REQUIRE_INT(head_dim, dim_value, "options.headDim", 1, sgl::kMaxHeadDim);
  REQUIRE_INT(page_size, size_value, "options.pageSize", 1, 4096);
  REQUIRE_INT(pages, pages_value, "options.pages", 1, kMaxInt);
  REQUIRE_STRING(dtype, dtype_value, "options.dtype");
  int type = 0;
  while (type < kKvDtypes && dtype != kKvDtypeNames[type]) type++;
  if (type == kKvDtypes) return throw_range(env, "options.dtype must be f32, f16, bf16, int8 or fp8_e4m3, got " + describe(env, dtype_value));
  auto kv = std::make_shared<KvPool>();
  kv->layout = {layers, kv_heads, head_dim, page_size, pages, static_cast<KvDtype>(type)};
  REQUIRE_PROPERTY(scales_value, argv[0], "keyScales");
  napi_valuetype scales_type = napi_undefined;
  napi_typeof(env, scales_value, &scales_type);
  if (scales_type != napi_null) {
    if (!copy_array(env, scales_value, "options.keyScales", &kv->key_scales)) return nullptr;
    const size_t wanted = static_cast<size_t>(layers) * kv_heads * head_dim;
    if (kv->key_scales.size() != wanted)
      return throw_range(env, "options.keyScales must have layers x kvHeads x headDim = " + std::to_string(wanted) + " entries, got " +
                                  std::to_string(kv->key_scales.size()));
    for (size_t i = 0; i < wanted; i++)
      if (!(kv->key_scales[i] >= 1e-9f && kv->key_scales[i] <= 1e9f))
        return throw_range(env, "options.keyScales[" + std::to_string(i) + "] must be from 1e-9 to 1e9, got " + std::to_string(kv->key_scales[i]));
    kv->layout.key_scales = kv->key_scales.data();
  }
  const double bytes = 1.0 * layers * kv_heads * pages * static_cast<double>(kv->layout.page_bytes());
  if (bytes > 0x1p46 || !kv->memory.allocate(kv->layout.total_bytes()))
    return throw_error(env, "out of memory: a KV pool of " + describe(env, make_number(env, bytes)) + " bytes could not be allocated");
  // Pages of low numbers are used first: with huge pages the first token would take two megabytes of every layer.
  const size_t layer_bytes = kv->layout.total_bytes() / static_cast<size_t>(layers);
  for (int layer = 0; layer < layers; layer++) kv->memory.use_small_pages(static_cast<size_t>(layer) * layer_bytes, std::min(layer_bytes, kSmallPagesPerLayer));
  return make_handle(env, std::move(kv));
}

napi_value KvPoolBytes(napi_env env, napi_callback_info info) {
  ARGUMENTS(1);
  REQUIRE_HANDLE(KvPool, kv, argv[0], "kv");
  return make_number(env, static_cast<double>(kv->layout.total_bytes()));
}

size_t kv_block_bytes(const KvLayout& layout) { return (size_t)layout.layers * layout.kv_heads * layout.page_bytes(); }

napi_value KvBlockBytes(napi_env env, napi_callback_info info) {
  ARGUMENTS(1);
  REQUIRE_HANDLE(KvPool, kv, argv[0], "kv");
  return make_number(env, static_cast<double>(kv_block_bytes(kv->layout)));
}

napi_value CreateKvBlock(napi_env env, napi_callback_info info) {
  ARGUMENTS(1);
  REQUIRE_HANDLE(KvPool, kv, argv[0], "kv");
  auto block = std::make_shared<KvBlock>();
  const size_t bytes = kv_block_bytes(kv->layout);
  block->data.reset(new (std::nothrow) uint8_t[bytes]);
  block->bytes = bytes;
  if (!block->data) return throw_error(env, "out of memory: a KV block of " + std::to_string(bytes) + " bytes");
  return make_handle(env, std::move(block));
}

// The block's bytes, lent: the array keeps them alive.
napi_value KvBlockView(napi_env env, napi_callback_info info) {
  ARGUMENTS(1);
  REQUIRE_HANDLE(KvBlock, block, argv[0], "block");
  auto* owner = new std::shared_ptr<KvBlock>(block);
  const auto release = [](napi_env, void*, void* hint) { delete static_cast<std::shared_ptr<KvBlock>*>(hint); };
  napi_value buffer, bytes;
  if (napi_create_external_arraybuffer(env, block->data.get(), block->bytes, release, owner, &buffer) != napi_ok) {
    delete owner;
    return throw_error(env, "kvBlockView: this JavaScript engine allows no memory from outside");
  }
  if (napi_create_typedarray(env, napi_uint8_array, block->bytes, buffer, 0, &bytes) != napi_ok) return nullptr;
  return bytes;
}

// Copies pages between the pool and blocks, in its turn among the steps.
class KvCopyTask : public PromiseTask {
 public:
  KvCopyTask(std::shared_ptr<KvPool> kv, std::vector<int32_t> pages, std::vector<std::shared_ptr<KvBlock>> blocks, bool out)
      : kv_(std::move(kv)), pages_(std::move(pages)), blocks_(std::move(blocks)), out_(out) {}
  void run(int) override {
    const KvLayout& layout = kv_->layout;
    const size_t bytes = layout.kv_heads * layout.page_bytes();  // the heads of a page lie together
    runtime->pool().parallel_for(static_cast<int>(pages_.size()), 1, [&](int begin, int end, int) {
      for (int i = begin; i < end; i++) for (int layer = 0; layer < layout.layers; layer++) {
        uint8_t* page = kv_->memory.data() + layout.page_offset(layer, pages_[i], 0);
        uint8_t* copy = blocks_[i]->data.get() + layer * bytes;
        std::memcpy(out_ ? copy : page, out_ ? page : copy, bytes);
      }
    });
    cancelled_ = runtime->pool().cancelled();
  }
  void settle(napi_env env, const char* dropped) override {
    if (dropped || cancelled_) return reject(env, make_error(env, std::string("KV pages were not copied: ") + (dropped ? dropped : "the runtime was closed")));
    napi_value undefined = nullptr;
    napi_get_undefined(env, &undefined);
    resolve(env, undefined);
  }

 private:
  std::shared_ptr<KvPool> kv_;
  std::vector<int32_t> pages_;
  std::vector<std::shared_ptr<KvBlock>> blocks_;
  bool out_, cancelled_ = false;
};

napi_value copy_kv_pages(napi_env env, napi_callback_info info, const char* name, bool out) {
  ARGUMENTS(4);
  REQUIRE_HANDLE(Runtime, runtime, argv[0], "runtime");
  REQUIRE_HANDLE(KvPool, kv, argv[1], "kv");
  std::vector<int32_t> pages;
  if (!copy_array(env, argv[2], "pages", &pages)) return nullptr;
  bool is_array = false;
  uint32_t count = 0;
  if (napi_is_array(env, argv[3], &is_array) != napi_ok || !is_array) {
    expected(env, "blocks", "an array", argv[3]);
    return nullptr;
  }
  napi_get_array_length(env, argv[3], &count);
  if (count != pages.size())
    return throw_range(env, "blocks must have one entry per page (" + std::to_string(pages.size()) + "), got " + std::to_string(count));
  const size_t bytes = kv_block_bytes(kv->layout);
  std::vector<std::shared_ptr<KvBlock>> blocks(count);
  for (uint32_t i = 0; i < count; i++) {
    const std::string at = "[" + std::to_string(i) + "]";
    if (pages[i] < 0 || pages[i] >= kv->layout.pages)
      return throw_range(env, "pages" + at + " must be a page in [0, " + std::to_string(kv->layout.pages) + "), got " + std::to_string(pages[i]));
    napi_value value;
    if (napi_get_element(env, argv[3], i, &value) != napi_ok || !read_handle<KvBlock>(env, value, "blocks" + at, &blocks[i])) return nullptr;
    if (blocks[i]->bytes != bytes)
      return throw_range(env, "blocks" + at + " must have " + std::to_string(bytes) + " bytes, like a page of this pool, got " + std::to_string(blocks[i]->bytes));
  }
  REQUIRE_OPEN(runtime, name);
  if (count > static_cast<uint32_t>(kMaxInt)) return throw_range(env, "pages are too many");
  return submit(env, *runtime, std::make_unique<KvCopyTask>(std::move(kv), std::move(pages), std::move(blocks), out));
}

napi_value SaveKvPages(napi_env env, napi_callback_info info) { return copy_kv_pages(env, info, "saveKvPages", true); }
napi_value LoadKvPages(napi_env env, napi_callback_info info) { return copy_kv_pages(env, info, "loadKvPages", false); }

// ---- plans

napi_value CreatePlan(napi_env env, napi_callback_info info) {
  ARGUMENTS(2);
  REQUIRE_HANDLE(Runtime, runtime, argv[0], "runtime");
  REQUIRE_OBJECT(argv[1], "description");
  PlanDescription d;
  napi_value value;
  const auto integer = [&](const char* key, int low, int* out) {
    return read_property(env, argv[1], key, &value) && read_int(env, value, std::string("description.") + key, low, kMaxInt, out);
  };
  const auto words = [&](const char* key, std::vector<int32_t>* out) {
    return read_property(env, argv[1], key, &value) && copy_array(env, value, std::string("description.") + key, out);
  };
  if (!words("instructions", &d.instructions) || !integer("headStart", 0, &d.head_start) || !words("buffers", &d.buffers)) return nullptr;
  REQUIRE_PROPERTY(weights, argv[1], "weights");
  bool is_array = false;
  uint32_t count = 0;
  if (napi_is_array(env, weights, &is_array) != napi_ok || !is_array) {
    expected(env, "description.weights", "an array", weights);
    return nullptr;
  }
  napi_get_array_length(env, weights, &count);
  for (uint32_t i = 0; i < count; i++) {
    if (napi_get_element(env, weights, i, &value) != napi_ok) return nullptr;
    REQUIRE_HANDLE(Weight, weight, value, "description.weights[" + std::to_string(i) + "]");
    d.weights.push_back(std::move(weight));
  }
  uint64_t arena;
  if (!read_property(env, argv[1], "arenaBytes", &value) || !read_size(env, value, "description.arenaBytes", &arena)) return nullptr;
  d.arena_bytes = static_cast<double>(arena);
  if (!integer("maxTokens", 1, &d.max_tokens) || !integer("maxRows", 1, &d.max_rows) || !integer("logits", -1, &d.logits) ||
      !integer("hidden", -1, &d.hidden) || !integer("vocabSize", 0, &d.vocab))
    return nullptr;
  REQUIRE_PROPERTY(cascade_value, argv[1], "cascade");
  if (!read_bool(env, cascade_value, "description.cascade", &d.cascade)) return nullptr;
  REQUIRE_PROPERTY(numerics_value, argv[1], "numerics");
  std::string numerics;
  if (!read_string(env, numerics_value, "description.numerics", &numerics)) return nullptr;
  int mode = 0;
  while (mode < kNumerics && numerics != numerics_name(static_cast<Numerics>(mode))) mode++;
  if (mode == kNumerics) return throw_range(env, "description.numerics must be f32, exact, faithful or fast, got \"" + numerics + "\"");
  d.numerics = static_cast<Numerics>(mode);
  REQUIRE_PROPERTY(kv_value, argv[1], "kv");
  if (!read_handle<KvPool>(env, kv_value, "description.kv", &d.kv)) return nullptr;
  REQUIRE_OPEN(runtime, "createPlan");
  std::string error;
  auto plan = Plan::create(runtime, std::move(d), &error);
  if (!plan) return error.rfind("out of memory", 0) == 0 ? throw_error(env, "createPlan: " + error) : throw_range(env, "createPlan: " + error);
  return make_handle(env, std::move(plan));
}

class StepTask : public PromiseTask {
 public:
  StepTask(std::shared_ptr<Plan> plan, std::unique_ptr<Step> step, bool by_op)
      : plan_(std::move(plan)), step_(std::move(step)), actions_(plan_->actions(*step_)), by_op_(by_op) {}
  ~StepTask() override { plan_->forget(*step_); }

  int entries() const override { return by_op_ ? static_cast<int>(actions_.size()) : 1; }
  void run(int entry) override {
    if (by_op_) return plan_->run(*step_, actions_[static_cast<size_t>(entry)], true);
    for (const Plan::Action& action : actions_) plan_->run(*step_, action, false);
  }
  void settle(napi_env env, const char* dropped) override {
    plan_->forget(*step_);
    if (!dropped && step_->error.empty()) return resolve(env, make_step_outputs(env, *step_));
    napi_value error = make_error(env, std::string("runPlan: ") + (dropped ? dropped : step_->error));
    // Rows fail alone: whoever wants to can go on with the others.
    if (!step_->failed_rows.empty()) {
      napi_value reasons = nullptr;
      napi_create_array_with_length(env, step_->failed_reasons.size(), &reasons);
      for (size_t i = 0; reasons && i < step_->failed_reasons.size(); i++)
        napi_set_element(env, reasons, static_cast<uint32_t>(i), make_string(env, step_->failed_reasons[i]));
      set(env, error, "rows", make_array(env, step_->failed_rows.data(), step_->failed_rows.size()));
      set(env, error, "reasons", reasons);
      set(env, error, "outputs", make_step_outputs(env, *step_));
    }
    reject(env, error);
  }

 private:
  std::shared_ptr<Plan> plan_;
  std::unique_ptr<Step> step_;
  std::vector<Plan::Action> actions_;
  bool by_op_;
};

napi_value submit_step(napi_env env, napi_callback_info info, bool by_op) {
  ARGUMENTS(2);
  REQUIRE_HANDLE(Plan, plan, argv[0], "plan");
  auto step = std::make_unique<Step>();
  if (!read_step_inputs(env, argv[1], &step->in)) return nullptr;
  const std::string error = plan->check(step->in);
  if (!error.empty()) return throw_range(env, error);
  plan->prepare_outputs(*step);
  const auto rows = static_cast<uint64_t>(step->rows);
  const uint64_t logits = step->in.return_logits ? rows * static_cast<uint64_t>(plan->vocab()) : 0;
  const uint64_t hidden = step->in.return_hidden ? rows * static_cast<uint64_t>(plan->hidden_columns()) : 0;
  if ((logits + hidden) * sizeof(float) > kMaxReturnBytes)
    return throw_range(env, "inputs.returnLogits: " + std::to_string(rows) + " rows of logits do not fit 4 GiB; ask for fewer rows");
  step->out.logits.resize(logits);
  step->out.hidden.resize(hidden);
  REQUIRE_OPEN(plan->runtime(), by_op ? "runPlanByOp" : "runPlan");
  const std::string mask_error = plan->bind_masks(*step);
  if (!mask_error.empty()) return throw_range(env, mask_error);
  Runtime& runtime = *plan->runtime();
  return submit(env, runtime, std::make_unique<StepTask>(std::move(plan), std::move(step), by_op));
}

napi_value RunPlan(napi_env env, napi_callback_info info) { return submit_step(env, info, false); }
napi_value RunPlanByOp(napi_env env, napi_callback_info info) { return submit_step(env, info, true); }

napi_value SetMask(napi_env env, napi_callback_info info) {
  ARGUMENTS(3);
  REQUIRE_HANDLE(Plan, plan, argv[0], "plan");
  REQUIRE_INT(index, argv[1], "index", 0, kMaskSlots - 1);
  napi_valuetype type = napi_undefined;
  napi_typeof(env, argv[2], &type);
  if (type == napi_null) {
    plan->set_mask(index, nullptr);
    return nullptr;
  }
  auto words = std::make_shared<std::vector<uint32_t>>();
  if (!copy_array(env, argv[2], "mask", words.get())) return nullptr;
  if (words->size() != static_cast<size_t>(plan->mask_words()) || words->empty())
    return throw_range(env, "mask must have " + std::to_string(plan->mask_words()) + " entries (one bit per id of the vocabulary), got " +
                                std::to_string(words->size()));
  plan->set_mask(index, std::move(words));
  return nullptr;
}

napi_value SupplyMasks(napi_env env, napi_callback_info info) {
  ARGUMENTS(3);
  REQUIRE_HANDLE(Plan, plan, argv[0], "plan");
  double ticket;
  if (!read_number(env, argv[1], "ticket", 1, 9007199254740991.0, true, &ticket)) return nullptr;
  std::vector<int32_t> indices;
  if (!copy_array(env, argv[2], "masks", &indices)) return nullptr;
  std::string error;
  const bool supplied = plan->supply_masks(ticket, indices, &error);
  if (!error.empty()) return throw_range(env, error);
  return make_bool(env, supplied);
}

napi_value ReadBuffer(napi_env env, napi_callback_info info) {
  ARGUMENTS(2);
  REQUIRE_HANDLE(Plan, plan, argv[0], "plan");
  REQUIRE_INT(index, argv[1], "buffer", 0, plan->buffer_count() - 1);
  REQUIRE_SUPPLIED(plan->runtime(), "readBuffer");
  const View& view = plan->buffer(index);
  std::vector<float> values;
  const auto copy = [&] {
    const int rows = plan->last_rows(view);
    values.resize(static_cast<size_t>(rows) * static_cast<size_t>(view.columns));
    for (int r = 0; r < rows; r++) std::memcpy(values.data() + static_cast<size_t>(r) * view.columns, view.row(r), sizeof(float) * view.columns);
  };
  // After the steps under way; a closed runtime runs none.
  if (plan->runtime()->closed()) copy();
  else plan->runtime()->run_now(copy);
  return make_array(env, values.data(), values.size());
}

napi_value TakePlanTimings(napi_env env, napi_callback_info info) {
  ARGUMENTS(1);
  REQUIRE_HANDLE(Plan, plan, argv[0], "plan");
  Plan::Timings taken;
  const auto take = [&] { taken = plan->take_timings(); };
  if (plan->runtime()->closed()) take();
  else plan->runtime()->run_now(take);
  const std::vector<Plan::Timing>& timings = taken.ops;
  std::vector<double> ns, runs;
  napi_value object, names;
  if (napi_create_object(env, &object) != napi_ok || napi_create_array_with_length(env, timings.size(), &names) != napi_ok) return nullptr;
  for (size_t i = 0; i < timings.size(); i++) {
    const int op = static_cast<int>(i) - plan->op_count();
    const char* name = op < 0 ? plan->op_name(static_cast<int>(i)) : op == 0 ? "begin" : "sample";
    napi_set_element(env, names, static_cast<uint32_t>(i), make_string(env, name));
    ns.push_back(static_cast<double>(timings[i].ns));
    runs.push_back(static_cast<double>(timings[i].runs));
  }
  set(env, object, "names", names);
  set(env, object, "ns", make_array(env, ns.data(), ns.size()));
  set(env, object, "runs", make_array(env, runs.data(), runs.size()));
  set(env, object, "positionsRead", make_number(env, static_cast<double>(taken.positions_read)));
  set(env, object, "logitsWritten", make_number(env, static_cast<double>(taken.logits_written)));
  return object;
}

// ---- for tests and the kernel bench

napi_value Matmul(napi_env env, napi_callback_info info) {
  ARGUMENTS(4);
  REQUIRE_HANDLE(Runtime, runtime, argv[0], "runtime");
  REQUIRE_HANDLE(Weight, weight, argv[1], "weight");
  REQUIRE_ARRAY(float, x, length, argv[2], "x");
  REQUIRE_INT(m, argv[3], "m", 0, kMaxInt);
  if (weight->kind != Weight::Kind::matrix) return throw_type(env, std::string("weight must be a matrix, got ") + weight->kind_name());
  const auto columns = static_cast<size_t>(weight->columns), rows = static_cast<size_t>(weight->rows);
  if (length != columns * static_cast<size_t>(m))
    return throw_range(env, "x must have m x columns = " + std::to_string(columns * static_cast<size_t>(m)) + " entries, got " + std::to_string(length));
  REQUIRE_OPEN(runtime, "matmul");
  REQUIRE_SUPPLIED(runtime, "matmul");
  napi_value buffer, y;
  void* memory = nullptr;
  const size_t count = rows * static_cast<size_t>(m);
  if (napi_create_arraybuffer(env, count * sizeof(float), &memory, &buffer) != napi_ok ||
      napi_create_typedarray(env, napi_float32_array, count, buffer, 0, &y) != napi_ok)
    return nullptr;
  if (m == 0) return y;
  const KernelTable& k = runtime->kernels();
  const PackedMatrix& w = *weight->packed;
  const bool rotated = static_cast<PackedFormat>(w.blocks[0].format) == PackedFormat::Rotated8;
  const size_t stride = row_stride(Precision::rotated8, weight->columns);
  Memory integers;
  if (rotated && !integers.allocate(stride * static_cast<size_t>(m))) return throw_error(env, "out of memory: " + std::to_string(m) + " rows as integers");
  const QuantisedRows quantised = {Precision::rotated8, integers.data(), x, columns};
  float* out = static_cast<float*>(memory);
  runtime->run_now([&] {
    for (int r = 0; rotated && r < m; r++) {
      const auto row = static_cast<size_t>(r);
      k.quantise_rotated(Precision::rotated8, x + row * columns, weight->columns, integers.data() + row * stride, runtime->scratch(0));
    }
    runtime->pool().parallel_for(static_cast<int>(w.blocks.size()), k.matmul_chunk(w, m), [&](int begin, int end, int thread) {
      uint8_t* scratch = runtime->scratch(thread);
      if (rotated)
        k.matmul_rotated(w, begin, end, quantised, m, nullptr, out, rows, scratch);
      else
        k.matmul(w, begin, end, x, columns, m, nullptr, out, rows, scratch);
    });
  });
  return y;
}

napi_value Xxh64(napi_env env, napi_callback_info info) {
  ARGUMENTS(1);
  REQUIRE_ARRAY(uint8_t, bytes, length, argv[0], "bytes");
  return make_string(env, checksum_text(xxh64(bytes, length)));
}

napi_value DequantizeRow(napi_env env, napi_callback_info info) {
  ARGUMENTS(3);
  REQUIRE_INT(columns, argv[2], "columns", 1, kMaxInt);
  GgmlType type;
  size_t wanted;
  if (!read_type(env, argv[0], "type", columns, &type, &wanted)) return nullptr;
  REQUIRE_ARRAY(uint8_t, bytes, length, argv[1], "bytes");
  if (length != wanted) return throw_range(env, "bytes must have " + std::to_string(wanted) + " entries (one row), got " + std::to_string(length));
  std::vector<float> row(static_cast<size_t>(columns));
  dequantize_row(type, bytes, row.data(), columns);
  return make_array(env, row.data(), row.size());
}

}  // namespace

// NAPI_MODULE_INIT is per environment: each worker thread gets its own handles and runtimes. A runtime joins its threads
// in a cleanup hook of the environment that made it (runtime.cc); nothing here is static, so process.exit() may leave
// running threads behind without anything being torn down under them.
NAPI_MODULE_INIT() {
  const struct {
    const char* name;
    napi_callback function;
  } table[] = {
      {"cpuInfo", CpuInfoOf},
      {"trimHeap", TrimHeap},
      {"tiers", Tiers},
      {"createRuntime", CreateRuntime},
      {"runtimeInfo", RuntimeInfo},
      {"closeRuntime", CloseRuntime},
      {"mapFile", MapFile},
      {"closeFile", CloseHandle<MappedFile>},
      {"packMatrix", PackMatrix},
      {"packedBytes", PackedBytesOf},
      {"packedLayout", PackedLayoutOf},
      {"mapTable", MapTable},
      {"uploadVector", UploadVector},
      {"weightInfo", WeightInfo},
      {"closeWeight", CloseHandle<Weight>},
      {"createKvPool", CreateKvPool},
      {"kvPoolBytes", KvPoolBytes},
      {"closeKvPool", CloseHandle<KvPool>},
      {"kvBlockBytes", KvBlockBytes},
      {"createKvBlock", CreateKvBlock},
      {"kvBlockView", KvBlockView},
      {"closeKvBlock", CloseHandle<KvBlock>},
      {"saveKvPages", SaveKvPages},
      {"loadKvPages", LoadKvPages},
      {"createPlan", CreatePlan},
      {"runPlan", RunPlan},
      {"runPlanByOp", RunPlanByOp},
      {"setMask", SetMask},
      {"supplyMasks", SupplyMasks},
      {"readBuffer", ReadBuffer},
      {"takePlanTimings", TakePlanTimings},
      {"closePlan", CloseHandle<Plan>},
      {"matmul", Matmul},
      {"dequantizeRow", DequantizeRow},
      {"xxh64", Xxh64},
      {"poolStats", PoolStats},
  };
  for (const auto& entry : table) {
    napi_value function;
    if (napi_create_function(env, entry.name, NAPI_AUTO_LENGTH, entry.function, nullptr, &function) != napi_ok ||
        napi_set_named_property(env, exports, entry.name, function) != napi_ok) {
      napi_throw_error(env, nullptr, (std::string("the addon could not export ") + entry.name).c_str());
      return nullptr;
    }
  }
  return exports;
}

}  // namespace sgl
