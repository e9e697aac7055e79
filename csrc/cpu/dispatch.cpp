// Chooses the instruction set, once, at run time.
#include <array>
#include <atomic>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "cpu/instruction_set.h"

namespace vae_fast::cpu {
namespace {

std::vector<const InstructionSet*> available_sets() {
  std::vector<const InstructionSet*> sets = {&kBase};
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) sets.push_back(&kAvx2);
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl")) {
    sets.push_back(&kAvx512);
  }
#endif
  return sets;
}

const std::vector<const InstructionSet*>& available() {
  static const std::vector<const InstructionSet*> sets = available_sets();
  return sets;
}

const InstructionSet& find(const char* what, std::string_view name) {
  std::string names;
  for (const InstructionSet* set : available()) {
    if (set->name == name) return *set;
    names += names.empty() ? "" : ", ";
    names += set->name;
  }
  throw std::invalid_argument(std::string(what) + " is '" + std::string(name) +
                              "', expected one that this machine has: " + names);
}

std::atomic<const InstructionSet*>& current() {
  static std::atomic<const InstructionSet*> set = [] {
    const char* variable = "VAE_FAST_CPU_CAPABILITY";
    const char* wanted = std::getenv(variable);
    return wanted != nullptr && *wanted != '\0' ? &find(variable, wanted) : available().back();
  }();
  return set;
}

}  // namespace

const InstructionSet& instruction_set() { return *current().load(std::memory_order_relaxed); }

const char* capability() { return instruction_set().name; }

void set_capability(const char* name) { current().store(&find("CPU capability", name)); }

const char* const* capabilities() {
  static const std::vector<const char*> names = [] {
    std::vector<const char*> result;
    for (const InstructionSet* set : available()) result.push_back(set->name);
    result.push_back(nullptr);
    return result;
  }();
  return names.data();
}

}  // namespace vae_fast::cpu
