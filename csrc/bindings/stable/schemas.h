// The ops that this binding alone has; rows.cpp says what they are.
#pragma once

namespace vae_fast::stable {

inline constexpr const char* kKernelSchemas[] = {
    "counts_kernel(Tensor[] parameters, Tensor? library, Tensor target, Tensor? starts,"
    " Tensor? columns, Tensor? mask, Tensor? upstream, str op, int batch_dims, int keep,"
    " int mean_dims, bool is_log, int want) -> (Tensor value, Tensor[] gradients)",
    "mixture_kernel(Tensor[] operands, Tensor target, Tensor? mask, Tensor? upstream, str op,"
    " int batch_dims, int event_dims, int keep, int mean_dims, int want)"
    " -> (Tensor value, Tensor[] gradients)",
    "pixel_mixture_kernel(Tensor params, Tensor target, Tensor? mask, Tensor levels,"
    " Tensor? upstream, int components, int channels, int batch_dims, int keep, int mean_dims,"
    " int want) -> (Tensor value, Tensor[] gradients)",
    "csr_product_(Tensor(a!) out, Tensor other, Tensor starts, Tensor columns, Tensor values,"
    " bool is_transposed) -> ()",
    // On the GPU alone: calls::Gpu's.
    "recording(Tensor x) -> int",
    "scale_(Tensor(a!) gradient, Tensor factor) -> ()",
};

}  // namespace vae_fast::stable
