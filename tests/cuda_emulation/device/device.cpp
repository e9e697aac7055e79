// The emulated device to torch: its streams, its generator, its place beside the other devices.
// There are two, so that a launch on the wrong one can be told. Work is done when it is queued.
#include <ATen/EmptyTensor.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <ATen/native/TensorFactories.h>
#include <c10/core/Stream.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <cuda_runtime_api.h>
#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/library.h>

#include <array>
#include <atomic>

#include "device/device.h"
#include "device/memory.h"
#include "simt.h"

namespace vae_fast::testing {
namespace {

using c10::Device;
using c10::DeviceIndex;
using c10::Stream;
using c10::StreamId;

constexpr DeviceIndex kDevices = 2;

thread_local DeviceIndex current = 0;
thread_local std::array<StreamId, kDevices> current_streams = {};
std::atomic<StreamId> last_stream = 0;
std::atomic<uint64_t> recording = 0;

Device device_of(DeviceIndex index) { return Device(c10::kPrivateUse1, index); }

DeviceIndex index_of(Device device) { return device.has_index() ? device.index() : current; }

Stream current_stream(DeviceIndex index) {
  return Stream(Stream::UNSAFE, device_of(index), current_streams[index]);
}

struct Guard final : c10::impl::DeviceGuardImplInterface {
  c10::DeviceType type() const override { return c10::kPrivateUse1; }
  Device exchangeDevice(Device device) const override {
    return device_of(std::exchange(current, index_of(device)));
  }
  Device getDevice() const override { return device_of(current); }
  void setDevice(Device device) const override { current = index_of(device); }
  void uncheckedSetDevice(Device device) const noexcept override { current = index_of(device); }
  Stream getStream(Device device) const override { return current_stream(index_of(device)); }
  Stream getDefaultStream(Device device) const override {
    return Stream(Stream::UNSAFE, device_of(index_of(device)), 0);
  }
  Stream getNewStream(Device device, int) const override {
    return Stream(Stream::UNSAFE, device_of(index_of(device)), ++last_stream);
  }
  Stream getStreamFromGlobalPool(Device device, bool) const override {
    return getNewStream(device, 0);
  }
  Stream exchangeStream(Stream stream) const override {
    const DeviceIndex index = index_of(stream.device());
    const Stream before = current_stream(index);
    current_streams[index] = stream.id();
    return before;
  }
  DeviceIndex deviceCount() const noexcept override { return kDevices; }

  // Whatever was queued has been done.
  void record(void**, const Stream&, DeviceIndex, c10::EventFlag) const override {}
  void block(void*, const Stream&) const override {}
  bool queryEvent(void*) const override { return true; }
  bool queryStream(const Stream&) const override { return true; }
  void synchronizeStream(const Stream&) const override {}
  void synchronizeEvent(void*) const override {}
  void synchronizeDevice(DeviceIndex) const override {}
};

struct Hooks final : at::PrivateUse1HooksInterface {
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(DeviceIndex) const override { return true; }
  DeviceIndex deviceCount() const override { return kDevices; }
  DeviceIndex getCurrentDevice() const override { return current; }
  void setCurrentDevice(DeviceIndex index) const override { current = index; }
  DeviceIndex exchangeDevice(DeviceIndex index) const override {
    return std::exchange(current, index);
  }
  DeviceIndex maybeExchangeDevice(DeviceIndex index) const override {
    return index < 0 ? current : exchangeDevice(index);
  }
  const at::Generator& getDefaultGenerator(DeviceIndex index) const override {
    return default_generator(index);
  }
  at::Generator getNewGenerator(DeviceIndex index) const override {
    return at::make_generator<CounterGenerator>(index < 0 ? current : index);
  }
};

C10_REGISTER_GUARD_IMPL(PrivateUse1, Guard);

const bool registered = [] {
  c10::register_privateuse1_backend("emulated");
  at::RegisterPrivateUse1HooksInterface(new Hooks);  // torch keeps it
  c10::SetAllocator(c10::kPrivateUse1, device_memory());
  return true;
}();

TORCH_LIBRARY(vae_fast_emulation, library) {
  library.def("check_memory() -> ()", check_memory);
  library.def("default_generator(int device) -> Generator?",
              [](int64_t device) -> std::optional<at::Generator> {
                return default_generator(static_cast<DeviceIndex>(device));
              });
  library.def("set_recording(int id) -> ()",
              [](int64_t id) { recording = static_cast<uint64_t>(id); });
  library.def("set_schedule(int schedule) -> ()",
              [](int64_t schedule) { simt::set_schedule(static_cast<unsigned>(schedule)); });
  library.def("threads_run() -> int", simt::threads_run);
}

at::Tensor empty_memory_format(at::IntArrayRef sizes, std::optional<at::ScalarType> dtype,
                               std::optional<at::Layout>, std::optional<Device> device,
                               std::optional<bool>, std::optional<at::MemoryFormat> memory_format) {
  const c10::OptionalDeviceGuard guard(device);
  return at::detail::empty_generic(
      sizes, device_memory(), c10::DispatchKeySet(c10::DispatchKey::PrivateUse1),
      dtype.value_or(at::get_default_dtype_as_scalartype()), memory_format);
}

at::Tensor empty_strided(at::IntArrayRef sizes, at::IntArrayRef strides,
                         std::optional<at::ScalarType> dtype, std::optional<at::Layout>,
                         std::optional<Device> device, std::optional<bool>) {
  const c10::OptionalDeviceGuard guard(device);
  return at::detail::empty_strided_generic(sizes, strides, device_memory(),
                                           c10::DispatchKeySet(c10::DispatchKey::PrivateUse1),
                                           dtype.value_or(at::get_default_dtype_as_scalartype()));
}

// Zeros that have no memory: autograd's tangents.
at::Tensor efficient_zeros(at::IntArrayRef sizes, std::optional<at::ScalarType> dtype,
                           std::optional<at::Layout>, std::optional<Device> device,
                           std::optional<bool>) {
  at::native::ZeroTensorAllocator allocator(device_of(device ? index_of(*device) : current));
  const c10::DispatchKeySet keys{c10::DispatchKey::PrivateUse1, c10::DispatchKey::ZeroTensor};
  return at::detail::empty_generic(
      sizes, &allocator, keys, dtype.value_or(at::get_default_dtype_as_scalartype()), std::nullopt);
}

TORCH_LIBRARY_IMPL(aten, PrivateUse1, library) {
  library.impl("_efficientzerotensor", efficient_zeros);
  library.impl("empty.memory_format", empty_memory_format);
  library.impl("empty_strided", empty_strided);
}

}  // namespace

DeviceIndex current_device() { return current; }

CounterGenerator::CounterGenerator(DeviceIndex device)
    : GeneratorImpl(device_of(device), c10::DispatchKeySet(c10::DispatchKey::PrivateUse1)) {}

void CounterGenerator::set_current_seed(uint64_t seed) {
  seed_ = seed;
  offset_ = 0;
}

uint64_t CounterGenerator::seed() {
  set_current_seed(c10::detail::getNonDeterministicRandom());
  return seed_;
}

uint64_t CounterGenerator::draw(uint64_t count) {
  const uint64_t drawn = seed_ + offset_;
  offset_ += count;
  return drawn;
}

void CounterGenerator::set_state(const c10::TensorImpl& state) {
  at::detail::check_rng_state(state);
  TORCH_CHECK(state.numel() == 2 * sizeof(uint64_t), "a state of another generator");
  const auto* words = static_cast<const uint64_t*>(state.data());
  seed_ = words[0];
  offset_ = words[1];
}

c10::intrusive_ptr<c10::TensorImpl> CounterGenerator::get_state() const {
  const at::Tensor state =
      at::empty({2 * sizeof(uint64_t)}, at::TensorOptions(at::kByte).device(at::kCPU));
  auto* words = static_cast<uint64_t*>(state.mutable_data_ptr());
  words[0] = seed_;
  words[1] = offset_;
  return state.getIntrusivePtr();
}

CounterGenerator* CounterGenerator::clone_impl() const {
  auto* copy = new CounterGenerator(device().index());
  copy->seed_ = seed_;
  copy->offset_ = offset_;
  return copy;
}

const at::Generator& default_generator(DeviceIndex device) {
  static const std::array generators = {at::make_generator<CounterGenerator>(DeviceIndex{0}),
                                        at::make_generator<CounterGenerator>(DeviceIndex{1})};
  return generators.at(static_cast<size_t>(device < 0 ? current : device));
}

}  // namespace vae_fast::testing

// What csrc/bindings/cuda/library.cpp asks of torch and of CUDA's runtime.

int32_t aoti_torch_device_type_cuda() { return aoti_torch_device_type_privateuse1(); }

// No address, but no two streams' are the same.
AOTITorchError aoti_torch_get_current_cuda_stream(int32_t device, void** stream) {
  using namespace vae_fast::testing;
  const auto index = static_cast<DeviceIndex>(device < 0 ? current : device);
  *stream = reinterpret_cast<void*>(current_stream(index).id());
  return AOTI_TORCH_SUCCESS;
}

extern "C" cudaError_t cudaStreamGetCaptureInfo(cudaStream_t, cudaStreamCaptureStatus* status,
                                                unsigned long long* id, cudaGraph_t*,
                                                const cudaGraphNode_t**, const cudaGraphEdgeData**,
                                                size_t*) {
  *id = vae_fast::testing::recording;
  *status = *id == 0 ? cudaStreamCaptureStatusNone : cudaStreamCaptureStatusActive;
  return cudaSuccess;
}
