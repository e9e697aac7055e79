// The multinomial likelihood, by rows of classes.
#include "cuda/multinomial.cuh"
#include "cuda/start.h"

namespace vae_fast::cuda {

int start_multinomial(const Pass& pass, void* stream) {
  switch (pass.path) {
    case Path::kFlatFloat32:
      return start(multinomial_rows<float, 4, float>, pass.blocks, stream, pass.args);
    case Path::kFlatBFloat16:
      return start(multinomial_rows<float, 8, BFloat16>, pass.blocks, stream, pass.args);
    case Path::kFlatFloat16:
      return start(multinomial_rows<float, 8, Float16>, pass.blocks, stream, pass.args);
    case Path::kFlatFloat64:
      return start(multinomial_rows<double, 2, double>, pass.blocks, stream, pass.args);
    case Path::kOne:
      return start(multinomial_rows<float, 1, AnyDtype>, pass.blocks, stream, pass.args);
    case Path::kDouble:
      return start(multinomial_rows<double, 1, AnyDtype>, pass.blocks, stream, pass.args);
    case Path::kFourFloat32:
    case Path::kFour:
      break;
  }
  return kInvalidArguments;
}

}  // namespace vae_fast::cuda
