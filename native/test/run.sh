#!/bin/sh
# Builds and runs the kernel tests: test/run.sh [tier]; with PROGRAM=kernels_bench, attention_bench or pool_bench those. Objects go to build/kernels; only changed files are compiled.
# kernels_test covers the amx tier on every AVX-512 VNNI machine: where the processor has no tiles, or with TILES=emulated, they are
# emulated (src/tile_amx.h).
# CXX and CXXFLAGS are respected, e.g. CXXFLAGS="-O1 -g -fsanitize=address,undefined".
set -e
cd "$(dirname "$0")/.."
out=build/kernels${SUFFIX}
mkdir -p "$out"
flags="-std=gnu++17 -Wall -Wextra -Wno-psabi -ffp-contract=off ${CXXFLAGS:--O3}"
objects=""
case $(${CXX:-g++} -dumpmachine) in
  aarch64* | arm64*) tiers="neon neon_dotprod" ;;
  *) tiers="avx2 avxvnni avx512 avx512vnni amx" ;;
esac
changed=$(find src test -name '*.h' -newer "$out/stamp" -o -name '*.inl' -newer "$out/stamp" 2>/dev/null || echo all)
program=${PROGRAM:-kernels_test}
tiles=${TILES:-emulated}
[ -n "$TILES" ] || ! grep -qw amx_int8 /proc/cpuinfo 2>/dev/null || tiles=real
case $program in
  pool_bench) sources="thread_pool worker_placement" ;;
  *) sources="thread_pool worker_placement checksum quant pack dispatch tiers/portable $(printf 'tiers/%s ' $tiers)" ;;
esac
for name in $sources; do
  source=src/$name.cc
  object="$out/$(basename "$source" .cc)"
  define=""
  case $program:$tiles:$name in
    kernels_test:emulated:dispatch | kernels_test:emulated:tiers/amx) object="$object-emulated" define=-DSGL_AMX_EMULATED ;;
  esac
  object="$object.o"
  if [ ! -f "$object" ] || [ "$source" -nt "$object" ] || [ -n "$changed" ]; then ${CXX:-g++} $flags $define -c "$source" -o "$object"; fi
  objects="$objects $object"
done
[ "$program" = pool_bench ] || touch "$out/stamp"
${CXX:-g++} $flags "test/$program.cc" $objects -pthread -o "$out/$program"
exec "$out/$program" "$@"
