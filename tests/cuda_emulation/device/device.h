// The emulated device as its own files see it: two of them, and their generators.
#pragma once

#include <ATen/ATen.h>
#include <ATen/core/Generator.h>
#include <c10/core/GeneratorImpl.h>

namespace vae_fast::testing {

c10::DeviceIndex current_device();

// Two numbers, as torch's for CUDA.
class CounterGenerator : public c10::GeneratorImpl {
 public:
  explicit CounterGenerator(c10::DeviceIndex device);

  static c10::DeviceType device_type() { return c10::kPrivateUse1; }
  // What it draws that number from, and as many behind it.
  uint64_t draw(uint64_t count);

  void set_current_seed(uint64_t seed) override;
  uint64_t current_seed() const override { return seed_; }
  uint64_t seed() override;
  void set_offset(uint64_t offset) override { offset_ = offset; }
  uint64_t get_offset() const override { return offset_; }
  void set_state(const c10::TensorImpl& state) override;
  c10::intrusive_ptr<c10::TensorImpl> get_state() const override;

 private:
  CounterGenerator* clone_impl() const override;

  uint64_t seed_ = c10::default_rng_seed_val;
  uint64_t offset_ = 0;
};

const at::Generator& default_generator(c10::DeviceIndex device);

}  // namespace vae_fast::testing
