// Checks of JavaScript arguments, one line each, and type-tagged handles.
//
// Every REQUIRE_* throws a TypeError (wrong kind of value) or RangeError (right kind, wrong value) that names the
// argument, what was expected and what arrived, and returns from the calling function.
#pragma once
#define NAPI_VERSION 8
#include <node_api.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "mapped_file.h"
#include "plan.h"
#include "runtime.h"
#include "weight.h"

namespace sgl {

// ---- handles: an object with a type tag that owns one shared pointer; closing empties it

template <class T>
struct HandleKind;
template <>
struct HandleKind<Runtime> {
  static constexpr const char* name = "runtime";
  static constexpr napi_type_tag tag{0x73676c2d72756e74, 0x8d1f6a0b52c94e01};
};
template <>
struct HandleKind<MappedFile> {
  static constexpr const char* name = "file";
  static constexpr napi_type_tag tag{0x73676c2d66696c65, 0x8d1f6a0b52c94e02};
};
template <>
struct HandleKind<Weight> {
  static constexpr const char* name = "weight";
  static constexpr napi_type_tag tag{0x73676c2d77656967, 0x8d1f6a0b52c94e03};
};
template <>
struct HandleKind<KvPool> {
  static constexpr const char* name = "KV pool";
  static constexpr napi_type_tag tag{0x73676c2d6b767078, 0x8d1f6a0b52c94e04};
};
template <>
struct HandleKind<Plan> {
  static constexpr const char* name = "plan";
  static constexpr napi_type_tag tag{0x73676c2d706c616e, 0x8d1f6a0b52c94e05};
};

template <>
struct HandleKind<KvBlock> {
  static constexpr const char* name = "KV block";
  static constexpr napi_type_tag tag{0x73676c2d6b76626c, 0x8d1f6a0b52c94e06};
};

// What must happen when the handle goes away while queued work keeps the value alive.
template <class T>
void on_close(T&) {}
inline void on_close(Plan& plan) { plan.abandon_masks("the plan was closed before the step's masks were supplied"); }

template <class T>
struct Box {
  std::shared_ptr<T> value;
  ~Box() { close(); }
  void close() {
    if (value) on_close(*value);
    value.reset();
  }
};

template <class T>
bool has_tag(napi_env env, napi_value object) {
  bool tagged = false;
  return napi_check_object_type_tag(env, object, &HandleKind<T>::tag, &tagged) == napi_ok && tagged;
}

template <class T>
napi_value make_handle(napi_env env, std::shared_ptr<T> value) {
  napi_value object;
  auto* box = new Box<T>{std::move(value)};
  const auto finalize = [](napi_env, void* data, void*) { delete static_cast<Box<T>*>(data); };
  if (napi_create_object(env, &object) != napi_ok || napi_wrap(env, object, box, finalize, nullptr, nullptr) != napi_ok) {
    delete box;
    return nullptr;
  }
  // The tag makes the pointer safe to unwrap: only objects made here carry it.
  if (napi_type_tag_object(env, object, &HandleKind<T>::tag) != napi_ok) return nullptr;
  return object;
}

// ---- what arrived, in words

inline std::string describe(napi_env env, napi_value value) {
  napi_valuetype type;
  if (!value || napi_typeof(env, value, &type) != napi_ok) return "nothing";
  switch (type) {
    case napi_undefined: return "undefined";
    case napi_null: return "null";
    case napi_boolean: {
      bool flag = false;
      napi_get_value_bool(env, value, &flag);
      return flag ? "true" : "false";
    }
    case napi_number: {
      double number = 0;
      napi_get_value_double(env, value, &number);
      if (std::isnan(number)) return "NaN";
      if (std::isinf(number)) return number > 0 ? "Infinity" : "-Infinity";
      char text[40];
      std::snprintf(text, sizeof text, "%.17g", number);
      char brief[40];
      std::snprintf(brief, sizeof brief, "%.9g", number);
      return std::strtod(brief, nullptr) == number ? brief : text;
    }
    case napi_string: {
      char text[64];
      size_t length = 0;
      napi_get_value_string_utf8(env, value, text, sizeof text, &length);
      return "\"" + std::string(text, length) + (length == sizeof text - 1 ? "...\"" : "\"");
    }
    case napi_symbol: return "a symbol";
    case napi_function: return "a function";
    case napi_bigint: return "a bigint";
    case napi_external: return "an external";
    case napi_object: break;
  }
  if (has_tag<Runtime>(env, value)) return "a runtime handle";
  if (has_tag<MappedFile>(env, value)) return "a file handle";
  if (has_tag<Weight>(env, value)) return "a weight handle";
  if (has_tag<KvPool>(env, value)) return "a KV pool handle";
  if (has_tag<Plan>(env, value)) return "a plan handle";
  if (has_tag<KvBlock>(env, value)) return "a KV block handle";
  bool is = false;
  if (napi_is_typedarray(env, value, &is) == napi_ok && is) {
    static const char* const names[] = {"an Int8Array",    "a Uint8Array",   "a Uint8ClampedArray", "an Int16Array",     "a Uint16Array", "an Int32Array",
                                        "a Uint32Array", "a Float32Array", "a Float64Array",      "a BigInt64Array", "a BigUint64Array"};
    napi_typedarray_type kind;
    if (napi_get_typedarray_info(env, value, &kind, nullptr, nullptr, nullptr, nullptr) == napi_ok && kind >= 0 && kind <= napi_biguint64_array) return names[kind];
    return "a typed array";
  }
  if (napi_is_array(env, value, &is) == napi_ok && is) return "an array";
  return "an object";
}

inline std::nullptr_t throw_type(napi_env env, const std::string& message) {
  napi_throw_type_error(env, nullptr, message.c_str());
  return nullptr;
}
inline std::nullptr_t throw_range(napi_env env, const std::string& message) {
  napi_throw_range_error(env, nullptr, message.c_str());
  return nullptr;
}
inline std::nullptr_t throw_error(napi_env env, const std::string& message) {
  napi_throw_error(env, nullptr, message.c_str());
  return nullptr;
}
inline bool expected(napi_env env, const std::string& name, const std::string& what, napi_value found) {
  throw_type(env, name + " must be " + what + ", got " + describe(env, found));
  return false;
}

// ---- readers: false after having thrown. `name` is what the message calls the value.

inline bool is_object(napi_env env, napi_value value) {
  napi_valuetype type;
  return value && napi_typeof(env, value, &type) == napi_ok && type == napi_object;
}

template <class T>
Box<T>* read_box(napi_env env, napi_value value, const std::string& name) {
  void* box = nullptr;
  if (!is_object(env, value) || !has_tag<T>(env, value) || napi_unwrap(env, value, &box) != napi_ok) {
    expected(env, name, std::string("a ") + HandleKind<T>::name + " handle", value);
    return nullptr;
  }
  return static_cast<Box<T>*>(box);
}

template <class T>
bool read_handle(napi_env env, napi_value value, const std::string& name, std::shared_ptr<T>* out) {
  Box<T>* box = read_box<T>(env, value, name);
  if (!box) return false;
  *out = box->value;
  if (*out) return true;
  throw_type(env, name + " is a " + HandleKind<T>::name + " that was closed");
  return false;
}

inline bool read_number(napi_env env, napi_value value, const std::string& name, double low, double high, bool whole, double* out) {
  if (!value || napi_get_value_double(env, value, out) != napi_ok) return expected(env, name, whole ? "an integer" : "a number", value);
  if (*out >= low && *out <= high && (!whole || std::floor(*out) == *out)) return true;
  char range[80];
  std::snprintf(range, sizeof range, "%s from %.16g to %.16g", whole ? "an integer" : "a number", low, high);
  throw_range(env, name + " must be " + range + ", got " + describe(env, value));
  return false;
}

inline bool read_int(napi_env env, napi_value value, const std::string& name, int low, int high, int* out) {
  double number;
  if (!read_number(env, value, name, low, high, true, &number)) return false;
  *out = static_cast<int>(number);
  return true;
}

// Offsets and sizes: integers that a double holds exactly.
inline bool read_size(napi_env env, napi_value value, const std::string& name, uint64_t* out) {
  double number;
  if (!read_number(env, value, name, 0, 9007199254740991.0, true, &number)) return false;
  *out = static_cast<uint64_t>(number);
  return true;
}

inline bool read_string(napi_env env, napi_value value, const std::string& name, std::string* out) {
  size_t length = 0;
  if (!value || napi_get_value_string_utf8(env, value, nullptr, 0, &length) != napi_ok) return expected(env, name, "a string", value);
  out->resize(length + 1);
  napi_get_value_string_utf8(env, value, &(*out)[0], length + 1, &length);
  out->resize(length);
  return true;
}

inline bool read_bool(napi_env env, napi_value value, const std::string& name, bool* out) {
  if (!value || napi_get_value_bool(env, value, out) != napi_ok) return expected(env, name, "true or false", value);
  return true;
}

template <class T>
struct ArrayKind;
template <>
struct ArrayKind<int32_t> {
  static constexpr napi_typedarray_type type = napi_int32_array;
  static constexpr const char* name = "an Int32Array";
};
template <>
struct ArrayKind<uint32_t> {
  static constexpr napi_typedarray_type type = napi_uint32_array;
  static constexpr const char* name = "a Uint32Array";
};
template <>
struct ArrayKind<float> {
  static constexpr napi_typedarray_type type = napi_float32_array;
  static constexpr const char* name = "a Float32Array";
};
template <>
struct ArrayKind<double> {
  static constexpr napi_typedarray_type type = napi_float64_array;
  static constexpr const char* name = "a Float64Array";
};
template <>
struct ArrayKind<uint8_t> {
  static constexpr napi_typedarray_type type = napi_uint8_array;
  static constexpr const char* name = "a Uint8Array";
};

// A view of the array's memory, valid until control returns to JavaScript.
template <class T>
bool read_array(napi_env env, napi_value value, const std::string& name, const T** data, size_t* length) {
  bool is = false;
  napi_typedarray_type type;
  void* memory = nullptr;
  if (!value || napi_is_typedarray(env, value, &is) != napi_ok || !is ||
      napi_get_typedarray_info(env, value, &type, length, &memory, nullptr, nullptr) != napi_ok || type != ArrayKind<T>::type)
    return expected(env, name, ArrayKind<T>::name, value);
  *data = static_cast<const T*>(memory);
  return true;
}

template <class T>
bool copy_array(napi_env env, napi_value value, const std::string& name, std::vector<T>* out) {
  const T* data = nullptr;
  size_t length = 0;
  if (!read_array(env, value, name, &data, &length)) return false;
  out->resize(length);
  if (length) std::memcpy(out->data(), data, length * sizeof(T));
  return true;
}

// A property of an options object; a getter that throws leaves its exception pending.
inline bool read_property(napi_env env, napi_value object, const char* key, napi_value* out) {
  return napi_get_named_property(env, object, key, out) == napi_ok;
}

// ---- one line per argument

#define ARGUMENTS(count)                                                        \
  napi_value argv[count] = {};                                                  \
  size_t argc = count;                                                          \
  if (napi_get_cb_info(env, info, &argc, argv, nullptr, nullptr) != napi_ok) return nullptr

#define REQUIRE_HANDLE(T, variable, value, name) \
  std::shared_ptr<T> variable;                   \
  if (!read_handle<T>(env, value, name, &variable)) return nullptr

#define REQUIRE_OBJECT(value, name)                                              \
  if (!is_object(env, value)) {                                                  \
    expected(env, name, "an object", value);                                     \
    return nullptr;                                                              \
  }

#define REQUIRE_PROPERTY(variable, object, key) \
  napi_value variable;                          \
  if (!read_property(env, object, key, &variable)) return nullptr

#define REQUIRE_INT(variable, value, name, low, high) \
  int variable;                                       \
  if (!read_int(env, value, name, low, high, &variable)) return nullptr

#define REQUIRE_SIZE(variable, value, name) \
  uint64_t variable;                        \
  if (!read_size(env, value, name, &variable)) return nullptr

#define REQUIRE_STRING(variable, value, name) \
  std::string variable;                       \
  if (!read_string(env, value, name, &variable)) return nullptr

#define REQUIRE_ARRAY(T, variable, length, value, name) \
  const T* variable = nullptr;                          \
  size_t length = 0;                                    \
  if (!read_array<T>(env, value, name, &variable, &length)) return nullptr

// Work that JavaScript waits for would wait for ever behind a step that waits for JavaScript.
#define REQUIRE_SUPPLIED(runtime, what)                                                     \
  if ((runtime)->unsupplied > 0) return throw_error(env, std::string(what) + ": a queued step waits for its masks; supply them first")

#define REQUIRE_OPEN(runtime, what)                                                          \
  if ((runtime)->closed()) return throw_error(env, std::string(what) + ": the runtime was closed")

// ---- results

template <class T>
napi_value make_array(napi_env env, const T* data, size_t length) {
  napi_value buffer, array;
  void* memory = nullptr;
  if (napi_create_arraybuffer(env, length * sizeof(T), &memory, &buffer) != napi_ok) return nullptr;
  if (length) std::memcpy(memory, data, length * sizeof(T));
  return napi_create_typedarray(env, ArrayKind<T>::type, length, buffer, 0, &array) == napi_ok ? array : nullptr;
}

inline napi_value make_string(napi_env env, const std::string& text) {
  napi_value value = nullptr;
  napi_create_string_utf8(env, text.data(), text.size(), &value);
  return value;
}
inline napi_value make_number(napi_env env, double number) {
  napi_value value = nullptr;
  napi_create_double(env, number, &value);
  return value;
}
inline napi_value make_bool(napi_env env, bool flag) {
  napi_value value = nullptr;
  napi_get_boolean(env, flag, &value);
  return value;
}
inline napi_value make_null(napi_env env) {
  napi_value value = nullptr;
  napi_get_null(env, &value);
  return value;
}
inline void set(napi_env env, napi_value object, const char* key, napi_value value) {
  if (value) napi_set_named_property(env, object, key, value);
}
inline napi_value make_error(napi_env env, const std::string& message) {
  napi_value error = nullptr;
  napi_create_error(env, nullptr, make_string(env, message), &error);
  return error;
}

// step_io.cc
bool read_step_inputs(napi_env env, napi_value object, StepInputs* inputs);
napi_value make_step_outputs(napi_env env, const Step& step);

}  // namespace sgl
