// Every function of one argument on every float: prints the largest error in ULP and where it is,
// for each instruction set, and fails above the bound in functions.h. Minutes.
//
//   exhaustive [NAME...]     all functions, or those named
#include <algorithm>
#include <atomic>
#include <bit>
#include <cstdint>
#include <cstring>
#include <mutex>
#include <thread>
#include <vector>

#include "check.h"
#include "functions.h"
#include "ulp.h"

namespace {

using vae_fast::testing::CompiledFunctions;
using vae_fast::testing::Exact;
using vae_fast::testing::TestedFunction;

constexpr int64_t kBlock = 1 << 16;
constexpr int64_t kBlocks = int64_t{1} << 16;

struct Worst {
  double error = -1;
  float argument = 0;
  float result = 0;
};

Worst worst_of_block(const std::vector<float>& xs, const std::vector<Exact>& exact,
                     const std::vector<float>& ys) {
  double distances[256];
  Worst worst;
  for (size_t first = 0; first < xs.size(); first += 256) {
    const size_t n = std::min<size_t>(256, xs.size() - first);
    for (size_t i = 0; i < n; ++i) distances[i] = exact[first + i].distance(ys[first + i]);
    for (size_t i = 0; i < n; ++i) {
      if (distances[i] <= worst.error) continue;  // NaN goes on
      const double error = exact[first + i].error(ys[first + i]);
      if (error > worst.error) worst = {error, xs[first + i], ys[first + i]};
    }
  }
  return worst;
}

std::vector<float> block_in_domain(const TestedFunction& function, int64_t block) {
  std::vector<float> xs;
  xs.reserve(kBlock);
  for (int64_t i = 0; i < kBlock; ++i) {
    const float x = std::bit_cast<float>(static_cast<uint32_t>(block * kBlock + i));
    if (!(x < function.lowest || x > function.highest)) xs.push_back(x);
  }
  return xs;
}

// The oracle is the expensive part: it is asked once for all instruction sets.
std::vector<Worst> search(size_t index, const std::vector<CompiledFunctions>& sets) {
  const TestedFunction& function = vae_fast::testing::tested_functions()[index];
  std::vector<Worst> worst(sets.size());
  std::mutex mutex;
  std::atomic<int64_t> next = 0;
  const auto work = [&] {
    for (int64_t block; (block = next.fetch_add(1)) < kBlocks;) {
      const std::vector<float> xs = block_in_domain(function, block);
      std::vector<Exact> exact;
      exact.reserve(xs.size());
      for (const float x : xs) exact.emplace_back(function.oracle(x));
      std::vector<float> ys(xs.size()), previous;
      Worst of_block;
      for (size_t s = 0; s < sets.size(); ++s) {
        sets[s].maps[index](xs.data(), ys.data(), static_cast<int64_t>(xs.size()));
        // Sets with FMA agree almost everywhere: no need to measure the same results twice.
        const bool same =
            s > 0 && std::memcmp(ys.data(), previous.data(), ys.size() * sizeof(float)) == 0;
        if (!same) of_block = worst_of_block(xs, exact, ys);
        previous = ys;
        const std::lock_guard lock(mutex);
        if (of_block.error > worst[s].error) worst[s] = of_block;
      }
    }
  };
  std::vector<std::jthread> threads;
  const unsigned cores = std::max(1u, std::thread::hardware_concurrency());
  for (unsigned i = 0; i < cores; ++i) threads.emplace_back(work);
  threads.clear();
  return worst;
}

bool is_wanted(const char* name, int argc, char** argv) {
  return argc == 1 || std::any_of(argv + 1, argv + argc, [name](const char* wanted) {
           return std::strcmp(wanted, name) == 0;
         });
}

}  // namespace

int main(int argc, char** argv) {
  const auto sets = vae_fast::testing::compiled_functions();
  const auto& functions = vae_fast::testing::tested_functions();
  std::printf("%-20s %-12s %9s %9s   at\n", "function", "set", "max ULP", "bound");
  for (size_t index = 0; index < functions.size(); ++index) {
    const TestedFunction& function = functions[index];
    if (!is_wanted(function.name, argc, argv)) continue;
    const std::vector<Worst> worst = search(index, sets);
    for (size_t s = 0; s < sets.size(); ++s) {
      const double x = worst[s].argument, y = worst[s].result, bound = function.bound(s);
      std::printf("%-20s %-12s %9.4f %9.4f   %.9g (%a): %.9g, exactly %.12g\n", function.name,
                  sets[s].instruction_set, worst[s].error, bound, x, x, y, function.oracle(x));
      CHECK(worst[s].error <= bound, "%s", function.name);
    }
    std::fflush(stdout);
  }
  return vae_fast::testing::report();
}
