// The kernel for a pass over rows, by its path.
#pragma once

#include "cuda/loops.cuh"
#include "cuda/start.h"

namespace vae_fast::cuda {

template <class Element>
int start_rows_float(const Pass& pass, void* stream) {
  switch (pass.path) {
    case Path::kFlatFloat32:
      return start(rows<Element, float, 4, float>, pass.blocks, stream, pass.args);
    case Path::kFlatBFloat16:
      return start(rows<Element, float, 8, BFloat16>, pass.blocks, stream, pass.args);
    case Path::kFlatFloat16:
      return start(rows<Element, float, 8, Float16>, pass.blocks, stream, pass.args);
    case Path::kFour:
      return start(rows<Element, float, 4, AnyDtype>, pass.blocks, stream, pass.args);
    case Path::kOne:
      return start(rows<Element, float, 1, AnyDtype>, pass.blocks, stream, pass.args);
    case Path::kFlatFloat64:
    case Path::kDouble:
      break;
  }
  return kInvalidArguments;
}

template <class Element>
int start_rows_double(const Pass& pass, void* stream) {
  return pass.path == Path::kFlatFloat64
             ? start(rows<Element, double, 2, double>, pass.blocks, stream, pass.args)
             : start(rows<Element, double, 1, AnyDtype>, pass.blocks, stream, pass.args);
}

template <class Element>
int start_rows(const Pass& pass, void* stream) {
  return is_double(pass.path) ? start_rows_double<Element>(pass, stream)
                              : start_rows_float<Element>(pass, stream);
}

template <class Element>
int start_columns(const Pass& pass, void* stream) {
  switch (pass.path) {
    case Path::kFour:
      return start(columns<Element, float, 4>, pass.blocks, stream, pass.args);
    case Path::kOne:
      return start(columns<Element, float, 1>, pass.blocks, stream, pass.args);
    case Path::kDouble:
      return start(columns<Element, double, 1>, pass.blocks, stream, pass.args);
    default:
      break;
  }
  return kInvalidArguments;
}

}  // namespace vae_fast::cuda
