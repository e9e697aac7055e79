// torch's own operators on the emulated device: the CPU's, on the same memory. An operator gets
// tensors of the CPU that share the memory of the device's; a result that is one of them, or a view
// of one, goes back as that, any other is copied to new memory of the device.
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/library.h>

#include <vector>

#include "device/device.h"
#include "device/memory.h"

namespace vae_fast::testing {
namespace {

using at::Tensor;
using c10::IValue;

constexpr auto kEmulated = c10::kPrivateUse1;

// sizes, strides, offset and lazy signs.
void copy_layout(const Tensor& from, const Tensor& to) {
  at::TensorImpl* impl = to.unsafeGetTensorImpl();
  impl->set_sizes_and_strides(from.sizes(), from.strides(), from.storage_offset());
  to._set_neg(from.is_neg());
  to._set_conj(from.is_conj());
}

class Call {
 public:
  // What an operator of the CPU gets in place of an argument.
  IValue to_host(const IValue& value) {
    if (value.isTensor()) return to_host(value.toTensor());
    if (value.isDevice()) return to_host(value.toDevice());
    if (value.isGenerator()) return to_host(value.toGenerator());
    if (value.isStorage()) return to_host(value.toStorage());
    if (!value.isList()) return value;
    c10::impl::GenericList list(value.toList().elementType());
    for (const IValue& element : value.toListRef()) list.push_back(to_host(element));
    return list;
  }

  IValue to_device(const IValue& value) {
    if (value.isTensor()) return to_device(value.toTensor());
    if (!value.isList()) return value;
    c10::impl::GenericList list(value.toList().elementType());
    for (const IValue& element : value.toListRef()) list.push_back(to_device(element));
    return list;
  }

  Tensor to_host(const Tensor& tensor) {
    if (!tensor.defined()) return tensor;
    if (tensor.device().type() != kEmulated) {
      of_host_.push_back(tensor);
      return tensor;
    }
    device_ = tensor.device();
    const Tensor host = at::detail::make_tensor<at::TensorImpl>(
        to_host(tensor.storage()), c10::DispatchKeySet(c10::DispatchKey::CPU), tensor.dtype());
    copy_layout(tensor, host);
    tensors_.push_back({tensor, host});
    return host;
  }

  Tensor to_device(const Tensor& host) {
    if (!host.defined() || host.device().type() != c10::kCPU || !device_) return host;
    for (const Tensor& given : of_host_) {
      if (given.is_same(host) || given.is_alias_of(host)) return host;
    }
    for (const auto& shared : tensors_) {
      if (!shared.host.is_same(host)) continue;
      take_over(shared);
      return shared.device;
    }
    for (const auto& shared : storages_) {
      if (shared.host.is_alias_of(host.storage())) return view_of(shared.device, host);
    }
    return copy_of(host);
  }

 private:
  template <class T>
  struct Shared {
    T device, host;
  };

  c10::Storage to_host(const c10::Storage& storage) {
    if (storage.device_type() != kEmulated) return storage;
    for (const auto& [device, host] : storages_) {
      if (device.is_alias_of(storage)) return host;
    }
    c10::DataPtr data(storage.mutable_data(), c10::kCPU);  // owned by the device's
    storages_.push_back({storage, c10::Storage(c10::Storage::use_byte_size_t(), storage.nbytes(),
                                               std::move(data), c10::GetAllocator(c10::kCPU),
                                               /*resizable=*/true)});
    return storages_.back().host;
  }

  c10::Device to_host(c10::Device device) {
    if (device.type() != kEmulated) return device;
    device_ = device;
    return c10::kCPU;
  }

  // The CPU's operators draw from the CPU's generators: one that the given one determines.
  at::Generator to_host(const at::Generator& generator) {
    if (generator.device().type() != kEmulated) return generator;
    return at::detail::createCPUGenerator(generator.get<CounterGenerator>()->draw(/*count=*/4));
  }

  // What an operator in place may have changed: layout, size, the storage itself.
  void take_over(const Shared<Tensor>& tensor) {
    for (const auto& [device, host] : storages_) {
      if (!host.is_alias_of(tensor.host.storage())) continue;
      if (host.data() != device.data()) grow(device, host);
      tensor.device.unsafeGetTensorImpl()->set_storage_keep_dtype(device);
    }
    copy_layout(tensor.host, tensor.device);
  }

  static void grow(const c10::Storage& device, const c10::Storage& host) {
    const c10::OptionalDeviceGuard guard(device.device());
    c10::DataPtr grown = device_memory()->allocate(host.nbytes());
    std::memcpy(grown.get(), host.data(), host.nbytes());
    device.set_data_ptr_noswap(std::move(grown));
    device.set_nbytes(host.nbytes());
  }

  Tensor view_of(const c10::Storage& storage, const Tensor& host) {
    const Tensor view = at::detail::make_tensor<at::TensorImpl>(
        c10::Storage(storage), c10::DispatchKeySet(c10::DispatchKey::PrivateUse1), host.dtype());
    copy_layout(host, view);
    return view;
  }

  Tensor copy_of(const Tensor& host) {
    const c10::OptionalDeviceGuard guard(device_);
    const size_t bytes = host.storage().nbytes();
    c10::DataPtr data = device_memory()->allocate(bytes);
    if (bytes > 0) std::memcpy(data.get(), host.storage().data(), bytes);
    return view_of(c10::Storage(c10::Storage::use_byte_size_t(), bytes, std::move(data),
                                device_memory(), /*resizable=*/true),
                   host);
  }

  std::optional<c10::Device> device_;
  std::vector<Tensor> of_host_;
  std::vector<Shared<Tensor>> tensors_;
  std::vector<Shared<c10::Storage>> storages_;
};

void on_the_cpu(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  const auto arguments = static_cast<std::ptrdiff_t>(op.schema().arguments().size());
  Call call;
  for (auto value = stack->end() - arguments; value != stack->end(); ++value) {
    *value = call.to_host(*value);
  }
  {
    const at::AutoDispatchBelowADInplaceOrView guard;
    op.callBoxed(stack);
  }
  const auto results = static_cast<std::ptrdiff_t>(op.schema().returns().size());
  for (auto value = stack->end() - results; value != stack->end(); ++value) {
    *value = call.to_device(*value);
  }
}

// To this device, from it, or both; lazily negated or conjugated, as the CPU's reads it.
Tensor& copy(Tensor& to, const Tensor& source, bool) {
  const at::AutoDispatchBelowADInplaceOrView guard;
  Call call;
  call.to_host(to).copy_(call.to_host(source));
  return to;
}

// The convolutions of a device that torch does not know.
Tensor convolution(const Tensor& input, const Tensor& weight, const std::optional<Tensor>& bias,
                   at::IntArrayRef stride, at::IntArrayRef padding, at::IntArrayRef dilation,
                   bool transposed, at::IntArrayRef output_padding, int64_t groups) {
  const at::AutoDispatchBelowADInplaceOrView guard;
  Call call;
  return call.to_device(at::convolution(call.to_host(input), call.to_host(weight),
                                        bias ? call.to_host(*bias) : Tensor(), stride, padding,
                                        dilation, transposed, output_padding, groups));
}

std::tuple<Tensor, Tensor, Tensor> convolution_backward(
    const Tensor& gradient, const Tensor& input, const Tensor& weight, at::IntArrayRef stride,
    at::IntArrayRef padding, at::IntArrayRef dilation, bool transposed,
    at::IntArrayRef output_padding, int64_t groups, std::array<bool, 3> mask) {
  const at::AutoDispatchBelowADInplaceOrView guard;
  Call call;
  const int64_t channels = gradient.size(1);
  const auto [of_input, of_weight, of_bias] = at::convolution_backward(
      call.to_host(gradient), call.to_host(input), call.to_host(weight), at::IntArrayRef(channels),
      stride, padding, dilation, transposed, output_padding, groups, mask);
  return {call.to_device(of_input), call.to_device(of_weight), call.to_device(of_bias)};
}

TORCH_LIBRARY_IMPL(aten, PrivateUse1, library) {
  library.impl("copy_", copy);
  library.impl("convolution_overrideable", convolution);
  library.impl("convolution_backward_overrideable", convolution_backward);
}

TORCH_LIBRARY_IMPL(_, PrivateUse1, library) {
  library.fallback(torch::CppFunction::makeFromBoxedFunction<&on_the_cpu>());
}

}  // namespace
}  // namespace vae_fast::testing
