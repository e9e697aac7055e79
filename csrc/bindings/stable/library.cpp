// What Python asks the library itself, by ctypes: functions of C.
#include <string>
#include <vector>

#include "bindings/stable/schemas.h"
#include "calls/sampling.h"
#include "calls/schemas.h"
#include "calls/view.h"
#include "kernels.h"

#define VAE_FAST_EXPORT extern "C" __attribute__((visibility("default")))

namespace {

std::vector<std::string> all_schemas() {
  namespace calls = vae_fast::calls;
  std::vector<std::string> schemas = calls::loss_schemas();
  schemas.insert(schemas.end(), std::begin(calls::kMultinomialSchemas),
                 std::end(calls::kMultinomialSchemas));
  schemas.insert(schemas.end(), std::begin(calls::kPairsSchemas), std::end(calls::kPairsSchemas));
  schemas.insert(schemas.end(), std::begin(calls::kSamplingSchemas),
                 std::end(calls::kSamplingSchemas));
  schemas.insert(schemas.end(), std::begin(vae_fast::stable::kKernelSchemas),
                 std::end(vae_fast::stable::kKernelSchemas));
  return schemas;
}

}  // namespace

// The ops that are to be defined; null-terminated.
VAE_FAST_EXPORT const char* const* vae_fast_schemas() {
  static const std::vector<std::string> schemas = all_schemas();
  static const std::vector<const char*> pointers = [] {
    std::vector<const char*> result;
    for (const std::string& schema : schemas) result.push_back(schema.c_str());
    result.push_back(nullptr);
    return result;
  }();
  return pointers.data();
}

// kernels.h: null-terminated, and the one in use.
VAE_FAST_EXPORT const char* const* vae_fast_capabilities() { return vae_fast::cpu::capabilities(); }

// Null where VAE_FAST_CPU_CAPABILITY names one that is not there.
VAE_FAST_EXPORT const char* vae_fast_capability() {
  try {
    return vae_fast::cpu::capability();
  } catch (const std::invalid_argument&) {
    return nullptr;
  }
}

// Whether there is such a one.
VAE_FAST_EXPORT bool vae_fast_set_capability(const char* name) {
  try {
    vae_fast::cpu::set_capability(name);
    return true;
  } catch (const std::invalid_argument&) {
    return false;
  }
}

// calls/sampling.h
VAE_FAST_EXPORT uint64_t vae_fast_draw_from_counter(uint64_t seed, uint64_t offset, int64_t rows,
                                                    vae_fast::Seed* seeds) {
  return vae_fast::calls::draw_from_counter(seed, offset, rows, seeds);
}

// Of this thread, with Python's name of its kind: torch may make another error of it on its way.
VAE_FAST_EXPORT const char* vae_fast_last_refusal() {
  return vae_fast::calls::last_refusal().c_str();
}
