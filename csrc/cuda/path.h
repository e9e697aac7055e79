// How a kernel reaches memory, and which of the ways a call's tensors allow.
#pragma once

#include <cstdint>
#include <optional>

#include "cuda/call.h"

namespace vae_fast::cuda {

// One kernel is compiled for each.
enum class Path : uint8_t {
  // Of one dtype (the target of any), and dense or one element for all: nothing to look up.
  kFlatFloat32,   // vectors of 4
  kFlatBFloat16,  // vectors of 8; of 4 where noise is drawn
  kFlatFloat16,
  kFlatFloat64,  // vectors of 2
  kFourFloat32,  // float32 (the target of any dtype), any strides of rows, vectors of 4
  kFour,         // any dtypes and strides of rows, vectors of 4
  kOne,          // element by element: any strides and alignment
  kDouble,       // the same in float64 arithmetic
};

inline bool is_double(Path path) { return path == Path::kFlatFloat64 || path == Path::kDouble; }

inline bool is_flat(Path path) { return path <= Path::kFlatFloat64; }

// Elements of a vector.
int vector_of(Path path);

// The path over elements as they lie in memory, where the tensors allow it. group_elements: a group
// begins at every multiple of so many elements.
std::optional<Path> flat_path_of(Call& call, int64_t group_elements);

// Whether vectors of so many elements can be loaded and stored: along rows all tensors are
// consecutive and aligned, or the same. A tail is left where there is one row and one group.
bool fits(Call& call, int64_t vector, int64_t groups);

// The path over rows where they fit no flat one; `groups` as in fits().
Path strided_path_of(Call& call, int64_t groups);

Path path_of(Call& call, int64_t groups);

// Of the loop over rows of classes: in vectors where logits and gradient share a dtype, rows are
// consecutive, and all tensors' begin at the same place between two vectors.
Path path_of_classes(Call& call);

}  // namespace vae_fast::cuda
