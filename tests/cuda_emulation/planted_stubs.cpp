// Kernels that a program of planted_bugs.py does without.
#include <cstring>

#include "cuda/start.h"

#define VAE_FAST_STUB __attribute__((weak))

namespace vae_fast::cuda {

VAE_FAST_STUB int start_loss_values(int, const Pass&, void*) { return kInvalidArguments; }
VAE_FAST_STUB int start_loss_gradients(int, const Pass&, void*) { return kInvalidArguments; }
VAE_FAST_STUB int start_loss_double(int, bool, const Pass&, void*) { return kInvalidArguments; }
VAE_FAST_STUB int start_loss_columns(int, const Pass&, void*) { return kInvalidArguments; }
VAE_FAST_STUB int start_sample(int, const Pass&, void*) { return kInvalidArguments; }
VAE_FAST_STUB int start_sample_backward(int, const Pass&, void*) { return kInvalidArguments; }
VAE_FAST_STUB int start_pairs(const Pass&, void*) { return kInvalidArguments; }
VAE_FAST_STUB int start_multinomial(const Pass&, void*) { return kInvalidArguments; }
VAE_FAST_STUB int start_counts(int, bool, const Pass&, void*) { return kInvalidArguments; }
VAE_FAST_STUB int start_mixture(int, const Pass&, void*) { return kInvalidArguments; }
VAE_FAST_STUB Plan plan_mixture(const MixtureArgs&) { return invalid(); }
VAE_FAST_STUB Plan plan_pairs(const PairsArgs&) { return invalid(); }
VAE_FAST_STUB int start_scale(const Pass&, void*) { return kInvalidArguments; }

int start_clearing(void* memory, size_t bytes, void*) {
  std::memset(memory, 0, bytes);
  return 0;
}
const char* error_string(int) { return "error"; }

}  // namespace vae_fast::cuda
