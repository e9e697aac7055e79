// The loop over blocks of noise, around any element that draws.
#pragma once

#include "cuda/loops.cuh"

namespace vae_fast::cuda {

// The contract's unit (formulas/philox.h): 16 counters make the normals of 64 elements. A thread
// takes 4 neighbouring counters, and so 4 vectors of 4 elements, 16 elements apart.
inline constexpr int kNoiseVector = 4;
inline constexpr int kNoiseComponents = kNoiseBlock / kNoiseLanes;

// eps[component][lane]
__device__ __forceinline__ void draw_vectors(const Seed& seed, uint64_t first_counter,
                                             float (*eps)[kNoiseVector]) {
  VAE_FAST_UNROLL
  for (int lane = 0; lane < kNoiseVector; ++lane) {
    const PhiloxWords words = philox(seed, first_counter + lane);
    VAE_FAST_UNROLL
    for (int pair = 0; pair < 2; ++pair) {
      const NormalPair<float> normals =
          box_muller<float>(words.word[2 * pair], words.word[2 * pair + 1]);
      eps[2 * pair][lane] = normals.first;
      eps[2 * pair + 1][lane] = normals.second;
    }
  }
}

// Groups begin at multiples of 64 elements.
template <class Element, class S>
__global__ void __launch_bounds__(kBlockThreads, kMinBlocks)
    noise(const __grid_constant__ LoopArgs args) {
  const Common<float> common = common_of<Element, float>(args);
  const Seed seed = seed_of_share(args, 0);
  for_each_part<1 + Element::kOutputs>(
      args, [&](int64_t group, int64_t item, double* sums) VAE_FAST_INLINE {
        const uint64_t block = static_cast<uint64_t>(item) / kNoiseThreads;
        const uint64_t lane = item % kNoiseThreads * kNoiseVector;
        const int64_t within_group = static_cast<int64_t>(block * kNoiseBlock + lane);
        const int64_t first = group * args.parts.group_elements + within_group;
        const uint64_t first_block = static_cast<uint64_t>(first) / kNoiseBlock;
        const uint64_t counter = first_block * kNoiseLanes + lane;
        float eps[kNoiseComponents][kNoiseVector];
        draw_vectors(seed, counter, eps);
        VAE_FAST_UNROLL
        for (int component = 0; component < kNoiseComponents; ++component) {
          const int apart = component * kNoiseLanes;
          const int64_t left = args.parts.group_elements - (within_group + apart);
          if (left <= 0) break;
          const int64_t element = first + apart;
          Offsets<Element> offsets;
          if constexpr (kIsFlat<S>) {
            offsets.start_flat(args, element);
          } else {
            const int64_t row = divide(element, args.space.row_elements);
            offsets.start(args, element - row * args.space.row_length);
            offsets.add(args, 0, args.space.outer_dims, row);
          }
          visit_some<Element, float, kNoiseVector, S>(args, offsets, left, common, eps[component],
                                                      sums);
        }
      });
}

}  // namespace vae_fast::cuda
