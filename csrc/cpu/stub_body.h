// The table of one instruction set. A stub includes the standard headers, sets its target and the
// two macros, and then includes this: all of it, the formulas too, is compiled for that target, in
// a namespace of its own, so that the linker has nothing to merge across instruction sets.
#include "cpu/counts.h"
#include "cpu/loops.h"
#include "cpu/mixture.h"
#include "cpu/multinomial.h"
#include "cpu/pairs.h"
#include "cpu/sparse_linear.h"

namespace vae_fast::cpu {
inline namespace VAE_FAST_ISA {
namespace {

void loss(const LossArgs& args, const Tiling& tiling, int64_t begin, int64_t end,
          const Sums& sums) {
  (args.float64 ? loss_tiles<double> : loss_tiles<float>)(args, tiling, begin, end, sums);
}

void sample(const SampleArgs& args, const Tiling& tiling, int64_t begin, int64_t end,
            const Sums& sums) {
  (args.divergence.float64 ? sample_tiles<double> : sample_tiles<float>)(args, tiling, begin, end,
                                                                         sums);
}

void sample_backward(const SampleBackwardArgs& args, const Tiling& tiling, int64_t begin,
                     int64_t end, const Sums& sums) {
  (args.divergence.float64 ? sample_backward_tiles<double>
                           : sample_backward_tiles<float>)(args, tiling, begin, end, sums);
}

void multinomial(const MultinomialArgs& args, int64_t begin, int64_t end, double* values) {
  (args.float64 ? multinomial_rows<double> : multinomial_rows<float>)(args, begin, end, values);
}

void counts(const CountArgs& args, const Tiling& tiling, int64_t begin, int64_t end,
            const Sums& sums, double* to_library, void* room) {
  (args.loss.float64 ? count_rows<double> : count_rows<float>)(args, tiling, begin, end, sums,
                                                               to_library, room);
}

template <class T, class Index>
void sparse_linear(const SparseLinearArgs& args, int64_t begin, int64_t end) {
  (args.y != nullptr ? sparse_product_rows<T, Index> : sparse_gradient_rows<T, Index>)(args, begin,
                                                                                       end);
}

template <class T>
void sparse_linear(const SparseLinearArgs& args, int64_t begin, int64_t end) {
  (args.has_int64 ? sparse_linear<T, int64_t> : sparse_linear<T, int32_t>)(args, begin, end);
}

void sparse_linear(const SparseLinearArgs& args, int64_t begin, int64_t end) {
  (args.float64 ? sparse_linear<double> : sparse_linear<float>)(args, begin, end);
}

void mixture(const MixtureArgs& args, const MixtureTiling& tiling, int64_t begin, int64_t end,
             void* workspace) {
  if (args.float64) {
    mixture_tiles(args, tiling, begin, end, static_cast<double*>(workspace));
  } else {
    mixture_tiles(args, tiling, begin, end, static_cast<float*>(workspace));
  }
}

void pack_pairs(const PairsArgs& args, const PairsPass& pass, int64_t begin, int64_t end,
                void* room) {
  (args.float64 ? pack_pairs<double> : pack_pairs<float>)(args, pass, begin, end, room);
}

void run_pairs(const PairsArgs& args, const PairsPass& pass, int64_t begin, int64_t end,
               void* room) {
  (args.float64 ? run_pairs<double> : run_pairs<float>)(args, pass, begin, end, room);
}

}  // namespace
}  // namespace VAE_FAST_ISA

const InstructionSet VAE_FAST_TABLE = {
    .name = VAE_FAST_NAME,
    .loss = VAE_FAST_ISA::loss,
    .sample = VAE_FAST_ISA::sample,
    .sample_backward = VAE_FAST_ISA::sample_backward,
    .multinomial = VAE_FAST_ISA::multinomial,
    .counts = VAE_FAST_ISA::counts,
    .sparse_linear = VAE_FAST_ISA::sparse_linear,
    .mixture = VAE_FAST_ISA::mixture,
    .pack_pairs = VAE_FAST_ISA::pack_pairs,
    .run_pairs = VAE_FAST_ISA::run_pairs,
    .store = VAE_FAST_ISA::store_sums,
};

}  // namespace vae_fast::cpu
