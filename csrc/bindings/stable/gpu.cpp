// The GPU: its kernels, once they are there (calls/gpu.h).
#include "calls/gpu.h"

#include "bindings/stable/tensors.h"

namespace vae_fast::stable {
namespace {

const calls::Gpu* kernels = nullptr;

int64_t recording(Tensor x) {
  const OnDevice device(x);
  return static_cast<int64_t>(kernels->recording());
}

void scale(Tensor gradient, Tensor factor) {
  const OnDevice device(gradient);
  calls::scale(*kernels, view_of(gradient), view_of(factor));
}

}  // namespace

const calls::Gpu* gpu() { return kernels; }

}  // namespace vae_fast::stable

// Takes what vae_fast_gpu() returned, once, and registers the ops for that key of the dispatcher.
extern "C" __attribute__((visibility("default"))) void vae_fast_use_gpu(
    const vae_fast::calls::Gpu* gpu, const char* dispatch_key) {
  namespace stable = vae_fast::stable;
  stable::kernels = gpu;
  // What is registered lives as long as this.
  static stable::Library library(stable::Library::Kind::IMPL, "vae_fast", dispatch_key, __FILE__,
                                 __LINE__);
  stable::implement_losses(library);
  stable::implement_rows(library);
  stable::implement_pairs(library);
  stable::implement_sampling(library);
  library.impl("recording", TORCH_BOX(&stable::recording));
  library.impl("scale_", TORCH_BOX(&stable::scale));
}
