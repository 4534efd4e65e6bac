// Plan::each_row, for the files that execute instructions.
#pragma once
#include <algorithm>

#include "plan.h"
#include "runtime.h"

namespace sgl {

// f(row, thread) for every row; `cost`: floats touched per row.
template <class F>
void Plan::each_row(int rows, size_t cost, const F& f) {
  if (rows < 2 || static_cast<size_t>(rows) * cost < kWorthSharing) {
    for (int r = 0; r < rows; r++) f(r, 0);
    return;
  }
  const int chunk = std::max(1, rows / 16);
  runtime_->pool().parallel_for(rows, chunk, [&](int begin, int end, int thread) {
    for (int r = begin; r < end; r++) f(r, thread);
  });
}

}  // namespace sgl
