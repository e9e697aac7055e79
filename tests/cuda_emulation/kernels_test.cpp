// Every kernel under the emulation: random index spaces, as the CPU's are tested; tails, misaligned
// starts, empty inputs; sums that many blocks share; the same results as the CPU's kernels. Each
// launch is repeated on outputs that are NaN again, under another schedule of threads and blocks.
#include <dlfcn.h>
#include <unistd.h>

#include <set>
#include <string>

#include "counts_case.h"
#include "emulated.h"
#include "mixture_checks.h"
#include "multinomial_checks.h"
#include "pairs_case.h"

namespace {

using namespace vae_fast;
using testing::allocate;
using testing::check_close;
using testing::Emulated;
using testing::kDtypes;
using testing::kIsSlow;
using testing::LossCase;
using testing::Random;
using testing::shape_of;
using testing::Upstream;
using testing::View;

#ifdef VAE_FAST_TSAN
constexpr int kTrials = 2;
constexpr int64_t kSummedRows = 25;  // that it has room for, at a block for each
#elif defined(VAE_FAST_ASAN)
constexpr int kTrials = 25;
constexpr int64_t kSummedRows = 90;
#else
constexpr int kTrials = 60;
constexpr int64_t kSummedRows = 90;
#endif
// So many elements fill a device: a thread takes several vectors.
constexpr int64_t kFullDevice = 3 * 87383;

// ---- losses ------------------------------------------------------------------------------------

template <class... Formula>
void check_tails(Random& random, Emulated& device, FormulaList<Formula...>) {
  for (int64_t n = 1; n <= 17; n += kIsSlow ? 4 : 1) {
    for (const Dtype dtype : kDtypes) {
      const int64_t skew = n % 3;  // a misaligned start, too
      (LossCase<Formula>(random, shape_of({n}), 1, dtype, skew).run_and_check(device), ...);
      if (kIsSlow) break;
    }
    (LossCase<Formula>(random, shape_of({3, n}), 3, Dtype::kFloat32, 0).run_and_check(device), ...);
    (LossCase<Formula>(random, shape_of({n}), n, Dtype::kFloat32, 0).run_and_check(device), ...);
  }
}

// How a kernel reaches memory: dense, rows of half a tensor, misaligned.
enum class Layout { kDense, kHalves, kSkewed };

View laid_out(Random& random, Dtype dtype, const Shape& shape, Layout layout,
              bool is_broadcast = false) {
  std::vector<int64_t> strides = testing::dense_strides(shape);
  if (layout == Layout::kHalves) strides[0] *= 2;
  if (is_broadcast) strides[0] = 0;
  View view(dtype, shape, strides, layout == Layout::kSkewed ? 1 : 0);
  random.fill(view);
  return view;
}

// Each way to memory, with and without gradients.
template <class Formula>
void check_paths(Random& random, Emulated& device) {
  for (const Dtype dtype : kDtypes) {
    for (const Layout layout : {Layout::kDense, Layout::kHalves, Layout::kSkewed}) {
      LossCase<Formula> loss(random, shape_of({3, 40}), 3, dtype, 0);
      for (View& operand : loss.operands) {
        operand = laid_out(random, dtype, loss.args.shape, layout);
      }
      for (const int64_t wanted : {0, (1 << LossCase<Formula>::kOperands) - 1}) {
        loss.connect(false, wanted);
        loss.run_and_check(device);
      }
      loss.with_upstream(random, layout != Layout::kHalves).run_and_check(device);
    }
  }
}

// Sums that several blocks share, in one group and in several, and many blocks without a sum.
template <class... Formula>
void check_large(Random& random, Emulated& device, FormulaList<Formula...>) {
  for (const int64_t n : {9000, 12345}) {
    (LossCase<Formula>(random, shape_of({n}), 1, Dtype::kFloat32, 0).run_and_check(device), ...);
    (LossCase<Formula>(random, shape_of({n}), n, Dtype::kFloat32, 0).run_and_check(device), ...);
    (LossCase<Formula>(random, shape_of({n}), 1, Dtype::kBFloat16, 0).run_and_check(device), ...);
  }
  (LossCase<Formula>(random, shape_of({2, 5000}), 2, Dtype::kFloat32, 0).run_and_check(device),
   ...);
  (LossCase<Formula>(random, shape_of({2, 2500}), 2, Dtype::kFloat32, 1).run_and_check(device),
   ...);
  (LossCase<Formula>(random, shape_of({200, 12}), 200, Dtype::kFloat32, 0).run_and_check(device),
   ...);
}

template <class Formula>
void check_full_device(Random& random, Emulated& device) {
  for (const int64_t groups : {int64_t{1}, int64_t{3}, kFullDevice}) {
    for (const int64_t skew : {0, 1}) {
      LossCase<Formula>(random, shape_of({kFullDevice}), groups, Dtype::kFloat32, skew)
          .run_and_check(device);
    }
  }
}

// The parameters broadcast over the rows, their gradients are summed: over all, along rows, down
// columns, in the middle.
template <class Formula>
void check_summed(Random& random, Emulated& device) {
  const Shape shape = shape_of({kSummedRows, 4, 20});
  const std::vector<int64_t> layouts[] = {{0, 0, 0}, {1, 0, 0}, {0, 20, 1}, {0, 1, 0}, {20, 0, 1}};
  // In vectors, element by element, and in double.
  const std::pair<Dtype, int64_t> ways[] = {
      {Dtype::kFloat32, 0}, {Dtype::kFloat32, 1}, {Dtype::kFloat64, 0}};
  for (const auto& [dtype, skew] : ways) {
    for (const std::vector<int64_t>& strides : layouts) {
      LossCase<Formula> loss(random, shape, 1, dtype, skew);
      for (int k = 1; k < LossCase<Formula>::kOperands; ++k) {
        loss.operands[k] = View(dtype, shape, strides);
        random.fill(loss.operands[k]);
        loss.gradients[k] = View(dtype, shape, strides);
      }
      loss.connect(false, loss.wanted());
      loss.run_and_check(device);
    }
  }
}

// Dense parameters of one dtype, beside them a target of another and a parameter that is one
// number.
template <class Formula>
void check_mixed(Random& random, Emulated& device) {
  constexpr int kParameters = kParameterCount<Formula>, kOperands = LossCase<Formula>::kOperands;
  for (const Dtype dtype : kDtypes) {
    for (const Dtype other :
         {Dtype::kUInt8, Dtype::kFloat32, Dtype::kFloat16, Dtype::kInt32, Dtype::kInt64}) {
      if (testing::is_integer(other) && !LossCase<Formula>::kMayBeWide) continue;
      for (const bool has_number : {false, true}) {
        const Shape shape = shape_of({has_number ? 1037 : 40});
        LossCase<Formula> loss(random, shape, 1, dtype, 0);
        int64_t wanted = 1;
        if (kParameters < kOperands) {
          loss.operands[kOperands - 1] = View(other, shape, {1});
          random.fill(loss.operands[kOperands - 1]);
        }
        if (has_number && kParameters > 1) {
          loss.operands[1] = View(Dtype::kFloat32, shape, {0});
          random.fill(loss.operands[1]);
        } else {
          wanted = (1 << kParameters) - 1;
        }
        loss.connect(false, wanted);
        loss.run_and_check(device);
      }
    }
  }
}

// Nothing in, zeros out; a mean over nothing is NaN.
template <class Formula>
void check_empty(Emulated& device) {
  LossArgs args;
  args.loss = kLossIndex<Formula>;
  args.shape = shape_of({3, 0});
  args.groups = 3;
  const auto value = allocate<float>(3), gradient = allocate<float>(5);
  args.value.data = value.get();
  args.value.numel = 3;
  args.gradients[0].data = gradient.get();
  args.gradients[0].numel = 5;
  args.gradients[0].is_summed = true;
  device.loss(args, 0);
  for (int i = 0; i < 3; ++i) CHECK(value[i] == 0, "%s: %g", Formula::kName, value[i]);
  for (int i = 0; i < 5; ++i) CHECK(gradient[i] == 0, "%s: %g", Formula::kName, gradient[i]);
  args.scale = std::numeric_limits<double>::infinity();
  device.loss(args, 0);
  CHECK(value[0] != value[0], "%s: the mean of nothing is %g", Formula::kName, value[0]);
}

// ---- sampling ----------------------------------------------------------------------------------

// z, noise and divergence of the emulated kernels beside the CPU's, from the same seed: whole
// blocks of noise, halves of a chunked tensor, groups of any length, misaligned starts.
template <class Divergence>
void check_against_cpu(Random& random, Emulated& device, Dtype dtype) {
  const double unit = dtype == Dtype::kFloat32    ? 4e-7
                      : dtype == Dtype::kFloat64  ? 1e-13
                      : dtype == Dtype::kBFloat16 ? 0x1p-7
                                                  : 0x1p-10;
  struct Case {
    Shape shape;
    int64_t groups, row_stride, skew;
  };
  std::vector<Case> cases = {{shape_of({1}), 1, 1, 0},        {shape_of({17}), 1, 17, 0},
                             {shape_of({4099}), 1, 4099, 0},  {shape_of({5, 64}), 5, 64, 0},
                             {shape_of({5, 128}), 5, 256, 0}, {shape_of({7, 20}), 1, 40, 0},
                             {shape_of({7, 20}), 7, 20, 0},   {shape_of({6, 10}), 1, 20, 0},
                             {shape_of({3, 320}), 3, 320, 1}, {shape_of({2, 2048}), 2, 2048, 0},
                             {shape_of({3, 33}), 99, 33, 0}};
  if (!kIsSlow && dtype == Dtype::kFloat32) {
    cases.push_back({shape_of({kFullDevice}), 1, kFullDevice, 0});
  }
  for (const Case& c : cases) {
    LossCase<Divergence> divergence(random, c.shape, c.groups, dtype, 0);
    for (View& operand : divergence.operands) {
      std::vector<int64_t> strides = testing::dense_strides(c.shape);
      if (c.shape.dims == 2) strides[0] = c.row_stride;
      operand = View(dtype, c.shape, strides, c.skew);
      random.fill(operand);
    }
    divergence.connect(false, 0);
    View z(dtype, c.shape, testing::dense_strides(c.shape), c.skew), noise = z;
    const Seed seed = {0x123456789abcdef0u, 77};
    SampleArgs args;
    args.divergence = divergence.args;
    args.seeds = &seed;
    args.z = output_of(z, c.shape);
    args.noise = output_of(noise, c.shape);
    cpu::sample(args, testing::on_one_thread);
    const View cpu_z = z, cpu_noise = noise, cpu_value = divergence.value;
    for (int setting = 0; setting < Emulated::kSettings; ++setting) {
      args.z = output_of(z, c.shape);
      args.noise = output_of(noise, c.shape);
      for (int64_t g = 0; g < c.groups; ++g) divergence.value.set(g, std::nan(""));
      if (setting == 1) {
        // By value, as an eager call gives it.
        args.seeds = nullptr;
        device.run(cuda::sample(args, seed), setting);
        args.seeds = &seed;
      } else {
        device.sample(args, setting);
      }
      for (int64_t i = 0; i < z.elements(); ++i) {
        CHECK(std::fabs(z.get(i) - cpu_z.get(i)) <= unit * (1 + std::fabs(cpu_z.get(i))),
              "z of %lld elements at %lld: %.9g, on the CPU %.9g", (long long)c.shape.numel,
              (long long)i, z.get(i), cpu_z.get(i));
        CHECK(std::fabs(noise.get(i) - cpu_noise.get(i)) <= unit * (1 + std::fabs(noise.get(i))),
              "noise at %lld: %.9g, on the CPU %.9g", (long long)i, noise.get(i), cpu_noise.get(i));
      }
      for (int64_t g = 0; g < c.groups; ++g) {
        CHECK(std::fabs(divergence.value.get(g) - cpu_value.get(g)) <=
                  2e-6 * (1 + std::fabs(cpu_value.get(g))),
              "divergence: %.9g, on the CPU %.9g", divergence.value.get(g), cpu_value.get(g));
      }
    }
    // Without the divergence, z is the same.
    const View with_divergence = z;
    args.divergence.value = {};
    args.z = output_of(z, c.shape);
    device.sample(args, 0);
    CHECK(with_divergence.storage == z.storage, "z depends on the divergence");
  }
}

// The backward, each way to memory, and with parameters that broadcast over rows of memory.
template <class Divergence>
void check_backward_paths(Random& random, Emulated& device) {
  constexpr Layout kLayouts[] = {Layout::kDense, Layout::kHalves, Layout::kSkewed};
  const Shape shape = shape_of({6, 40});
  for (const Dtype dtype : kDtypes) {
    for (const Layout layout : kLayouts) {
      for (const bool is_summed : {false, true}) {
        LossCase<Divergence> divergence(random, shape, 1, dtype, 0);
        for (int k = 0; k < LossCase<Divergence>::kOperands; ++k) {
          divergence.operands[k] = laid_out(random, dtype, shape, layout, is_summed);
          if (is_summed) divergence.gradients[k] = View(dtype, shape, {0, 1});
        }
        const View noise = laid_out(random, dtype, shape, layout), grad_z = noise;
        View grad_value(divergence.value.dtype, shape, {0, 0});
        random.fill(grad_value);
        check_backward(device, divergence, Upstream{grad_z, grad_value, noise, true, true},
                       divergence.wanted());
      }
    }
  }
}

// The gradients of every loss are the CPU's to within two units of the last place of their terms,
// which are of the order of one: a log-normal's in the target is 1 / x less another.
template <class Formula>
void check_gradients_against_cpu(Random& random, Emulated& device) {
  LossCase<Formula> loss(random, shape_of({40, 33}), 40, Dtype::kFloat32, 0);
  cpu::loss(loss.args, testing::on_one_thread);
  const std::vector<View> on_cpu = loss.gradients;
  loss.connect(false, loss.wanted());
  device.loss(loss.args, 1);
  for (int k = 0; k < LossCase<Formula>::kOperands; ++k) {
    for (int64_t i = 0; i < on_cpu[k].elements(); ++i) {
      const double x = loss.gradients[k].get(i), y = on_cpu[k].get(i);
      const bool is_near = std::isfinite(y) ? std::fabs(x - y) <= 0x1p-21 * (1 + std::fabs(y))
                           : std::isnan(y)  ? std::isnan(x)
                                            : x == y;
      CHECK(is_near, "%s in %s: %.9g, on the CPU %.9g", Formula::kName, Formula::kOperands[k], x,
            y);
    }
  }
}

// ---- the rest ----------------------------------------------------------------------------------

void check_scaling(Random& random, Emulated& device, const Shape& shape) {
  const std::vector<int64_t> layouts[] = {{0, 0}, {1, 0}, testing::dense_strides(shape)};
  for (const Dtype dtype : kDtypes) {
    for (const std::vector<int64_t>& strides : layouts) {
      View gradient(dtype, shape, testing::dense_strides(shape));
      View upstream(dtype == Dtype::kFloat64 ? dtype : Dtype::kFloat32, shape, strides);
      random.fill(gradient);
      random.fill(upstream);
      const View before = gradient;
      cuda::ScaleArgs args;
      args.float64 = dtype == Dtype::kFloat64;
      args.shape = shape;
      args.upstream = testing::input_of(upstream);
      args.gradient.data = gradient.data();
      args.gradient.dtype = dtype;
      std::copy(gradient.strides.begin(), gradient.strides.end(), args.gradient.strides);
      device.run(cuda::scale_by_upstream(args), 2);
      for (int64_t i = 0; i < shape.numel; ++i) {
        const double factor = upstream.get(testing::offset_of(shape, strides.data(), i));
        check_close(device.name(), "scaled", gradient.get(i), before.get(i) * factor, 1, dtype,
                    false);
      }
      // A factor of one: the gradient is not even touched (it may be freed memory to a tool).
      if (strides[0] + strides[1] > 0) continue;
      upstream.set(0, 1);
      const View scaled = gradient;
      args.gradient.data = nullptr;
      device.run(cuda::scale_by_upstream(args), 2);
      CHECK(scaled.storage == gradient.storage, "a factor of one changes the gradient");
    }
  }
}

// The instantiations of the kernels' templates, as the program's own symbols.
std::set<const void*> launched;

void check_all_launched() {
  const std::string command = "nm --defined-only /proc/" + std::to_string(getpid()) + "/exe";
  FILE* symbols = popen(command.c_str(), "r");
  // A template's; void (LoopArgs), void (MixtureLoop).
  const std::string ends[] = {"EEvNS0_8LoopArgsE", "EEvNS0_11MixtureLoopE"};
  char name[4096];
  int kernels = 0;
  while (std::fscanf(symbols, "%*s %*c %4095s", name) == 1) {
    const std::string symbol = name;
    if (std::none_of(std::begin(ends), std::end(ends),
                     [&](const std::string& end) { return symbol.ends_with(end); })) {
      continue;
    }
    ++kernels;
    CHECK(launched.count(dlsym(RTLD_DEFAULT, name)) == 1, "%s is never launched", name);
  }
  CHECK(kernels > 0, "no kernel found");
  pclose(symbols);
}

template <class... Formula>
void check_all(FormulaList<Formula...> losses) {
  Emulated device;
  Random random;
  check_tails(random, device, losses);
  check_large(random, device, losses);
  if (!kIsSlow) check_full_device<GaussianKl>(random, device);
  (check_paths<Formula>(random, device), ...);
  (check_summed<Formula>(random, device), ...);
  (check_mixed<Formula>(random, device), ...);
  (check_empty<Formula>(device), ...);
  (check_gradients_against_cpu<Formula>(random, device), ...);
  check_backward_paths<StandardNormalKl>(random, device);
  check_backward_paths<GaussianKl>(random, device);
  for (const Dtype dtype : kDtypes) {
    check_against_cpu<StandardNormalKl>(random, device, dtype);
    check_against_cpu<GaussianKl>(random, device, dtype);
  }
  check_scaling(random, device, shape_of({13, 37}));
  check_scaling(random, device, shape_of({13, 36}));
  testing::check_losses(random, device, kTrials, losses);
  testing::check_sampling<StandardNormalKl>(random, device, kTrials);
  testing::check_sampling<GaussianKl>(random, device, kTrials);
  testing::check_multinomial_rows(random, device);
  testing::check_multinomial_views(random, device);
  testing::check_multinomial_edges(random, device);
  testing::check_multinomial_empty(device);
  testing::check_multinomial(random, device, kTrials);
  testing::Random of_pairs;
  testing::check_pairs(of_pairs, device, kTrials);
  testing::check_counts(random, device, kTrials, losses);
  testing::check_all_mixtures(random, device, kTrials / 4, losses);
}

}  // namespace

int main() {
  simt::after_launch = [] { launched.insert(simt::launched.kernel); };
  check_all(Losses{});
  check_all_launched();
  std::printf("%lld emulated threads\n", static_cast<long long>(simt::threads_run()));
  return testing::report();
}
