// What planted_bugs.py runs on the kernels of pairs with a bug in them: tiles of owners, others and
// numbers that are not full, and several of each.
#include "cuda/call.cpp"
#include "cuda/launch.cpp"
#include "cuda/pairs.cu"
#include "cuda/path.cpp"
#include "cuda/plan.cpp"
#include "cuda/plan_pairs.cpp"
#include "emulated.h"
#include "pairs_case.h"

using namespace vae_fast;

int main() {
  testing::Emulated device;
  testing::Random random;
  for (const bool marginal : {false, true}) {
    for (const auto& [rows, components, dims] :
         {std::tuple<int64_t, int64_t, int64_t>{3, 5, 2}, {18, 70, 20}, {70, 18, 20}}) {
      testing::PairsCase(random, PairsReduction::kLogSumExp, marginal, false, rows, components,
                         dims)
          .run_and_check(device);
    }
  }
  testing::PairsCase(random, PairsReduction::kNearest, false, false, 18, 70, 20)
      .run_and_check(device);
  return testing::report();
}
