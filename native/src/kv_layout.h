// Where keys and values lie: pages of a few positions of one layer and kv head. Only kernels look inside a page; whoever
// copies or counts pages needs page_offset and page_bytes.
#pragma once
#include <cstddef>
#include <cstdint>

namespace sgl {

// Attention keeps one block of keys and values of a head in scratch.
constexpr int kMaxHeadDim = 1024;

// Types of cached keys and values. The 8-bit ones have one f32 scale per token, kv head and K or V.
enum class KvDtype { f32, f16, bf16, int8, fp8_e4m3 };
constexpr int kKvDtypes = 5;
constexpr const char* kKvDtypeNames[kKvDtypes] = {"f32", "f16", "bf16", "int8", "fp8_e4m3"};

struct KvLayout {
  int layers, kv_heads, head_dim, page_size, pages;
  KvDtype dtype;
  // [layers][kv_heads][head_dim], or null for 1: keys are divided by it before they are rounded and queries multiplied,
  // so that all columns of a key need about the same range. Products are the same.
  const float* key_scales = nullptr;
  // Page p of layer l, kv head h: K as [head_dim][page_size] (token lanes), then V as [page_size][head_dim], then, with
  // 8 bits, scales of K [page_size] and of V [page_size].
  size_t element_bytes() const { return dtype == KvDtype::f32 ? 4 : scaled() ? 1 : 2; }
  bool scaled() const { return dtype == KvDtype::int8 || dtype == KvDtype::fp8_e4m3; }
  size_t values_offset() const { return (size_t)head_dim * page_size * element_bytes(); }
  size_t scales_offset() const { return 2 * values_offset(); }
  size_t page_bytes() const { return scales_offset() + (scaled() ? (size_t)2 * page_size * 4 : 0); }
  size_t page_offset(int layer, int page, int kv_head) const {
    return (((size_t)layer * pages + page) * kv_heads + kv_head) * page_bytes();
  }
  size_t total_bytes() const { return (size_t)layers * pages * kv_heads * page_bytes(); }
  const float* key_scale(int layer, int kv_head) const {
    return key_scales == nullptr ? nullptr : key_scales + ((size_t)layer * kv_heads + kv_head) * head_dim;
  }
};

}  // namespace sgl
