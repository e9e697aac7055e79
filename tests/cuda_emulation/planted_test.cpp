// What planted_bugs.py runs on kernels with a bug in them: few cases and few kernels, compiled
// fast, yet every way in which the loops over losses and over rows of classes or counts share their
// work.
#include "counts_case.h"
#include "cuda/call.cpp"
#include "cuda/counts.cu"
#include "cuda/launch.cpp"
#include "cuda/losses_columns.cu"
#include "cuda/losses_gradients.cu"
#include "cuda/losses_values.cu"
#include "cuda/multinomial.cu"
#include "cuda/path.cpp"
#include "cuda/plan.cpp"
#include "emulated.h"
#include "multinomial_case.h"

using namespace vae_fast;
using testing::shape_of;

int main() {
  using Case = testing::LossCase<StandardNormalKl>;
  testing::Emulated device;
  testing::Random random;
  const Dtype dtype = Dtype::kFloat32;
  for (const int64_t n : {1, 17, 1023, 9000}) {
    Case(random, shape_of({n}), 1, dtype, 0).run_and_check(device);
    Case(random, shape_of({n}), n, dtype, 0).run_and_check(device);
  }
  Case(random, shape_of({1023}), 1, dtype, 1).run_and_check(device);
  Case(random, shape_of({200, 12}), 200, dtype, 0).run_and_check(device);
  Case(random, shape_of({12, 1100}), 12, dtype, 0).run_and_check(device);
  for (const std::vector<int64_t>& strides : {std::vector<int64_t>{0, 0}, {0, 1}, {1, 0}}) {
    Case loss(random, shape_of({90, 40}), 1, dtype, 0);
    loss.operands[1] = testing::View(dtype, loss.args.shape, strides);
    loss.gradients[1] = loss.operands[1];
    random.fill(loss.operands[1]);
    loss.connect(false, loss.wanted());
    loss.run_and_check(device);
  }
  for (const int64_t classes : {5, 48, 700, 1025, 5000}) {
    for (const bool in_place : {false, true}) {
      const Shape shape = shape_of({2, classes});
      testing::MultinomialCase(random, shape, dtype, dtype, 0, in_place).run_and_check(device);
    }
  }
  for (const int64_t classes : {5, 700, 2500}) {
    testing::CountCase<PoissonNll>(random, shape_of({2, classes}), 1, /*float64=*/false,
                                   testing::Emulated::kCountsByElement)
        .run_and_check(device);
  }
  return testing::report();
}
