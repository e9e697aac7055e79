// Sampling with the divergence in the same pass, its backward, and what else serves a call: the
// scaling of a saved gradient.
#include "cuda/noise.cuh"
#include "cuda/rows.cuh"

namespace vae_fast::cuda {
namespace {

template <class Element>
int start_noise(const Pass& pass, void* stream) {
  switch (pass.path) {
    case Path::kFlatFloat32:
      return start(noise<Element, float>, pass.blocks, stream, pass.args);
    case Path::kFlatBFloat16:
      return start(noise<Element, BFloat16>, pass.blocks, stream, pass.args);
    case Path::kFlatFloat16:
      return start(noise<Element, Float16>, pass.blocks, stream, pass.args);
    default:
      return start(noise<Element, AnyDtype>, pass.blocks, stream, pass.args);
  }
}

// In whole blocks of noise, or each element by itself.
template <class Element>
int start_draw(const Pass& pass, void* stream) {
  if (pass.loop == Loop::kNoise) return start_noise<Element>(pass, stream);
  return pass.path == Path::kDouble
             ? start(rows<Element, double, 1, AnyDtype>, pass.blocks, stream, pass.args)
             : start(rows<Element, float, 1, AnyDtype>, pass.blocks, stream, pass.args);
}

template <class Element>
int start_backward(const Pass& pass, void* stream) {
  return pass.loop == Loop::kColumns ? start_columns<Element>(pass, stream)
                                     : start_rows<Element>(pass, stream);
}

struct Divergence {
  StartPass sample = start_nothing;
  StartPass backward = start_nothing;
};

template <class Formula>
constexpr Divergence divergence_of() {
  if constexpr (kIsDivergence<Formula>) {
    return {start_draw<SampleElement<Formula>>, start_backward<SampleBackwardElement<Formula>>};
  }
  return {};
}

template <class... Formula>
const Divergence& find(int loss, FormulaList<Formula...>) {
  static constexpr Divergence kDivergences[] = {divergence_of<Formula>()...};
  return kDivergences[loss];
}

}  // namespace

int start_sample(int divergence, const Pass& pass, void* stream) {
  if (pass.args.value.data == nullptr) return start_draw<DrawElement>(pass, stream);
  return find(divergence, Losses{}).sample(pass, stream);
}

int start_sample_backward(int divergence, const Pass& pass, void* stream) {
  return find(divergence, Losses{}).backward(pass, stream);
}

int start_scale(const Pass& pass, void* stream) { return start_rows<ScaleElement>(pass, stream); }

int start_clearing(void* memory, size_t bytes, void* stream) {
  return cudaMemsetAsync(memory, 0, bytes, static_cast<cudaStream_t>(stream));
}

const char* error_string(int error) { return cudaGetErrorString(static_cast<cudaError_t>(error)); }

}  // namespace vae_fast::cuda
