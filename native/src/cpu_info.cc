#include "cpu_info.h"

#include <algorithm>
#include <fstream>
#include <sstream>
#include <thread>
#ifdef __linux__
#include <sched.h>
#endif
#ifdef __APPLE__
#include <sys/sysctl.h>
#endif

namespace sgl {
namespace {

// Names as /proc/cpuinfo spells them.
const char* const kFeatures[] = {
    "sse4_2", "avx", "avx2", "fma", "f16c", "avx_vnni", "avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512vbmi", "avx512_vnni", "avx512_bf16",
    "avx512_fp16", "amx_tile", "amx_int8", "amx_bf16", "asimd", "asimdhp", "asimddp", "i8mm", "bf16", "sve", "sve2", "sme"};

int usable_cores() {
  int cores = static_cast<int>(std::thread::hardware_concurrency());
#ifdef __linux__
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) == 0) cores = CPU_COUNT(&set);
#endif
  return std::max(1, cores);
}

}  // namespace

CpuInfo cpu_info() {
  CpuInfo info;
  info.cores = usable_cores();
  std::string flags;
#ifdef __APPLE__
  char brand[256];
  size_t size = sizeof brand;
  if (sysctlbyname("machdep.cpu.brand_string", brand, &size, nullptr, 0) == 0) info.model = brand;
#if defined(__aarch64__)
  flags = "asimd asimdhp asimddp";
#endif
#else
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    const auto colon = line.find(':');
    if (colon == std::string::npos) continue;
    const std::string value = colon + 2 <= line.size() ? line.substr(colon + 2) : "";
    if (info.model.empty() && line.rfind("model name", 0) == 0) info.model = value;
    if (flags.empty() && (line.rfind("flags", 0) == 0 || line.rfind("Features", 0) == 0)) flags = value;
  }
#endif
  if (info.model.empty()) info.model = "unknown";
  std::istringstream words(flags);
  std::vector<std::string> present;
  for (std::string word; words >> word;) present.push_back(word);
  for (const char* feature : kFeatures)
    if (std::find(present.begin(), present.end(), feature) != present.end()) info.features.emplace_back(feature);
  return info;
}

}  // namespace sgl
