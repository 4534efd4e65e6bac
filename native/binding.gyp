# One target, a flat list of sources and the kernel tiers of the architecture. Tiers carry their own `#pragma GCC target`
# regions, so no file needs flags of its own.
#
# -ffp-contract=off: a compiler that fuses a*b+c in a vector loop but not in its tail breaks the rule that a row's bits
# do not depend on how the work was split. Kernels that want a fused multiply-add say so with an intrinsic.
#
# -Dsanitize=address adds ASan and UBSan, -Dsanitize=thread adds TSan (see scripts/test-sanitized.mjs). Both compile at
# -O0 (the kernels at -O1, see target_region.h): g++ takes many minutes to optimise instrumented kernels.
{
  "variables": { "sanitize%": "" },
  "targets": [
    {
      "target_name": "sglang",
      "sources": [
        "src/addon.cc",
        "src/checksum.cc",
        "src/cpu_info.cc",
        "src/mapped_file.cc",
        "src/memory.cc",
        "src/plan.cc",
        "src/plan_build.cc",
        "src/plan_check.cc",
        "src/plan_products.cc",
        "src/runtime.cc",
        "src/sampler.cc",
        "src/step_io.cc",
        "src/thread_pool.cc", "src/worker_placement.cc",
        "src/weight.cc",
        "src/pack.cc",
        "src/quant.cc",
        "src/dispatch.cc",
        "src/tiers/portable.cc"
      ],
      "include_dirs": ["src"],
      "defines": ["NAPI_VERSION=8"],
      "cflags": ["-O3", "-Wall", "-Wextra", "-pthread", "-ffp-contract=off", "-fvisibility=hidden", "-Wno-psabi"],
      "cflags_cc": ["-std=c++17"],
      "ldflags": ["-pthread"],
      "xcode_settings": {
        "CLANG_CXX_LANGUAGE_STANDARD": "c++17",
        "MACOSX_DEPLOYMENT_TARGET": "11.0",
        "GCC_OPTIMIZATION_LEVEL": "3",
        "GCC_SYMBOLS_PRIVATE_EXTERN": "YES",
        "OTHER_CPLUSPLUSFLAGS": ["-Wall", "-Wextra", "-ffp-contract=off"]
      },
      "conditions": [
        ["target_arch=='x64'", {
          "sources": ["src/tiers/avx2.cc", "src/tiers/avxvnni.cc", "src/tiers/avx512.cc", "src/tiers/avx512vnni.cc", "src/tiers/amx.cc"]
        }],
        ["target_arch=='arm64'", {
          "sources": ["src/tiers/neon.cc", "src/tiers/neon_dotprod.cc"]
        }],
        ["sanitize=='address'", {
          "cflags": ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-fno-omit-frame-pointer", "-g1", "-O0"],
          "ldflags": ["-fsanitize=address,undefined"]
        }],
        ["sanitize=='thread'", {
          "cflags": ["-fsanitize=thread", "-fno-omit-frame-pointer", "-g1", "-O0"],
          "ldflags": ["-fsanitize=thread"]
        }]
      ]
    }
  ]
}
