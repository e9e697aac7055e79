// What planted_bugs.py runs on the mixtures' kernel with a bug in it: one formula, every way in
// which threads share a position.
#include "cuda/call.cpp"
#include "cuda/launch.cpp"
#include "cuda/mixture.cuh"
#include "cuda/path.cpp"
#include "cuda/plan.cpp"
#include "cuda/plan_mixture.cpp"
#include "emulated.h"
#include "mixture_case.h"

namespace vae_fast::cuda {

int start_mixture(int, const Pass& pass, void* stream) {
  MixtureLoop loop = *pass.mixture;
  loop.scores = pass.args.partials;
  return start(mixture<LikelihoodComponent<BernoulliNll>, float>, pass.blocks, stream, loop);
}

}  // namespace vae_fast::cuda

using namespace vae_fast;

int main() {
  testing::Emulated device;
  testing::Random random;
  // A thread for a position, a team, a block, a block in several rounds; the last not all used.
  for (const auto& [positions, run] :
       {std::pair<int64_t, int64_t>{300, 1}, {9, 5}, {3, 60}, {2, 200}, {2, 700}}) {
    const Shape shape{1, {positions}, positions};
    for (int repeated = 0; repeated < 2; ++repeated) {
      testing::MixtureCase<BernoulliNll>(random, shape, run, 3, Dtype::kFloat32)
          .run_and_check(device);
    }
  }
  return testing::report();
}
