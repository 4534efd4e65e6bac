// What this machine calls its processor, for reports; which kernels run is decided in dispatch.cc.
#pragma once
#include <string>
#include <vector>

namespace sgl {

struct CpuInfo {
  std::string model;                  // "unknown" when the system does not say
  std::vector<std::string> features;  // the ones that matter to kernels, of those this CPU has
  int cores = 1;                      // logical CPUs this process may run on
};
CpuInfo cpu_info();

}  // namespace sgl
