// Opens a region whose functions are compiled for one instruction set, so that no per-file compiler flags are needed.
// A region runs to the end of its file: templates that a pragma covers may be instantiated only there. Include every
// header before opening one, and use no standard-library templates inside: their instantiations would be merged with
// those of code that must run on any CPU.
#pragma once

#if defined(__clang__)
#define SGL_AVX2_REGION \
  _Pragma("clang attribute push(__attribute__((target(\"avx2,fma,f16c\"))), apply_to = function)")
#define SGL_AVX512_REGION \
  _Pragma("clang attribute push(__attribute__((target(\"avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq\"))), apply_to = function)")
#define SGL_AVXVNNI_REGION \
  _Pragma("clang attribute push(__attribute__((target(\"avx2,fma,f16c,avxvnni\"))), apply_to = function)")
#define SGL_AVX512VNNI_REGION \
  _Pragma("clang attribute push(__attribute__((target(\"avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni\"))), apply_to = function)")
#define SGL_END_REGION _Pragma("clang attribute pop")
// Before version 16 arm_neon.h has no dot products unless the whole file is compiled for them, as it is for Apple's.
#if defined(__aarch64__) && (defined(__ARM_FEATURE_DOTPROD) || __clang_major__ >= 16)
#define SGL_DOTPROD_REGION _Pragma("clang attribute push(__attribute__((target(\"dotprod\"))), apply_to = function)")
#endif
#else
#define SGL_AVX2_REGION _Pragma("GCC target(\"avx2,fma,f16c\")")
#define SGL_AVX512_REGION _Pragma("GCC target(\"avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq\")")
#define SGL_AVXVNNI_REGION _Pragma("GCC target(\"avx2,fma,f16c,avxvnni\")")
#define SGL_AVX512VNNI_REGION _Pragma("GCC target(\"avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni\")")
#if defined(__aarch64__)
#define SGL_DOTPROD_REGION _Pragma("GCC target(\"arch=armv8.2-a+dotprod\")")
#endif
#define SGL_END_REGION
#endif

// A sanitizer checks every access: with everything inlined a tier takes g++ a quarter of an hour and gigabytes.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#pragma GCC optimize("O1")
#define SGL_INLINE static inline
#define SGL_MEMBER inline
#else
#define SGL_INLINE static inline __attribute__((always_inline))
#define SGL_MEMBER inline __attribute__((always_inline))
#endif
