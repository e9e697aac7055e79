#include "device/memory.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <unordered_map>

#include "device/device.h"

#ifdef VAE_FAST_ASAN
#include <sanitizer/asan_interface.h>
#endif

namespace vae_fast::testing {
namespace {

constexpr size_t kGuardBytes = 512;  // and CUDA's own alignment
constexpr unsigned char kGuard = 0xa5;
constexpr int kUnwritten = 0xff;

class Memory : public c10::Allocator {
 public:
  c10::DataPtr allocate(size_t bytes) override {
    const c10::Device device(c10::kPrivateUse1, current_device());
    if (bytes == 0) return {nullptr, device};
    void* block = nullptr;
    TORCH_CHECK(posix_memalign(&block, kGuardBytes, kGuardBytes + bytes + kGuardBytes) == 0,
                "no memory for ", bytes, " bytes");
    char* data = static_cast<char*>(block) + kGuardBytes;
    std::memset(data - kGuardBytes, kGuard, kGuardBytes);
    std::memset(data, kUnwritten, bytes);
    std::memset(data + bytes, kGuard, kGuardBytes);
#ifdef VAE_FAST_ASAN
    __asan_poison_memory_region(data - kGuardBytes, kGuardBytes);
    __asan_poison_memory_region(data + bytes, kGuardBytes);
#endif
    std::lock_guard<std::mutex> lock(mutex_);
    bytes_[data] = bytes;
    return {data, data, [](void* freed) { static_cast<Memory*>(device_memory())->free(freed); },
            device};
  }

  c10::DeleterFnPtr raw_deleter() const override { return nullptr; }

  void copy_data(void* to, const void* from, size_t bytes) const override {
    std::memcpy(to, from, bytes);
  }

  void check() {
    std::lock_guard<std::mutex> lock(mutex_);
    for (const auto& [data, bytes] : bytes_) count_damage(data, bytes);
    const int damaged = std::exchange(damaged_, 0);
    TORCH_CHECK(damaged == 0, damaged, " blocks of device memory were written to beyond an end");
  }

 private:
  void free(void* freed) {
    char* data = static_cast<char*>(freed);
    std::lock_guard<std::mutex> lock(mutex_);
    const auto found = bytes_.find(data);
    const size_t bytes = found->second;
    bytes_.erase(found);
    count_damage(data, bytes);
#ifdef VAE_FAST_ASAN
    __asan_unpoison_memory_region(data - kGuardBytes, kGuardBytes + bytes + kGuardBytes);
#endif
    std::memset(data, kUnwritten, bytes);
    std::free(data - kGuardBytes);
  }

  // AddressSanitizer, where it is on, has reported the write itself.
  void count_damage([[maybe_unused]] const char* data, [[maybe_unused]] size_t bytes) {
#ifndef VAE_FAST_ASAN
    const auto is_whole = [](const char* zone) {
      return std::all_of(zone, zone + kGuardBytes,
                         [](char byte) { return static_cast<unsigned char>(byte) == kGuard; });
    };
    damaged_ += !is_whole(data - kGuardBytes) || !is_whole(data + bytes);
#endif
  }

  std::mutex mutex_;
  std::unordered_map<char*, size_t> bytes_;
  int damaged_ = 0;
};

Memory& memory() {
  static Memory& memory = *new Memory;  // tensors may outlive the process's other statics
  return memory;
}

}  // namespace

c10::Allocator* device_memory() { return &memory(); }

void check_memory() { memory().check(); }

}  // namespace vae_fast::testing
