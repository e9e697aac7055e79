#include "bindings/buffer_cache.h"

#include <c10/core/CPUAllocator.h>
#include <c10/core/impl/alloc_cpu.h>
#include <pthread.h>

#include <algorithm>
#include <mutex>
#include <unordered_map>
#include <vector>

namespace vae_fast::bindings {
namespace {

struct Block {
  void* memory;
  size_t bytes;
};

void free_all(const std::vector<Block>& blocks) {
  for (const Block& block : blocks) c10::free_cpu(block.memory);
}

// Holds, kept and in use together, at most what was in use at one time.
class BufferCache final : public c10::Allocator {
 public:
  c10::DataPtr allocate(size_t bytes) override {
    if (bytes < kCachedFrom) return c10::GetDefaultCPUAllocator()->allocate(bytes);
    // Sizes that are nearly the same are the same.
    const size_t rounded = (bytes + kUnit - 1) / kUnit * kUnit;
    void* memory = take_kept(rounded);
    if (memory == nullptr) memory = take_new(rounded);
    return {memory, memory, &give_back, c10::Device(c10::kCPU)};
  }

  void copy_data(void* to, const void* from, size_t bytes) const override {
    default_copy_data(to, from, bytes);
  }

  BufferCacheInfo info() {
    const std::lock_guard lock(mutex_);
    return {limit_, kept_bytes_};
  }

  void set_limit(size_t bytes) {
    std::unique_lock lock(mutex_);
    limit_ = bytes;
    const std::vector<Block> surplus = surplus_over(bytes);
    lock.unlock();
    free_all(surplus);
  }

  void empty() {
    std::unique_lock lock(mutex_);
    const std::vector<Block> surplus = surplus_over(0);
    lock.unlock();
    free_all(surplus);
  }

  std::mutex& mutex() { return mutex_; }

 private:
  static constexpr size_t kUnit = size_t{1} << 20;

  // The smallest block that wastes less than an eighth; null where there is none.
  void* take_kept(size_t bytes) {
    const std::lock_guard lock(mutex_);
    auto best = kept_.end();
    for (auto it = kept_.begin(); it != kept_.end(); ++it) {
      const bool fits = it->bytes >= bytes && it->bytes - bytes <= bytes / 8;
      if (fits && (best == kept_.end() || it->bytes < best->bytes)) best = it;
    }
    if (best == kept_.end()) return nullptr;
    const Block block = *best;
    kept_.erase(best);
    kept_bytes_ -= block.bytes;
    add_used(block);
    return block.memory;
  }

  void* take_new(size_t bytes) {
    std::unique_lock lock(mutex_);
    const size_t needed = used_bytes_ + bytes;
    const size_t room = needed < most_used_bytes_ ? most_used_bytes_ - needed : 0;
    const std::vector<Block> surplus = surplus_over(room);
    lock.unlock();
    free_all(surplus);
    const Block block = {c10::alloc_cpu(bytes), bytes};
    lock.lock();
    add_used(block);
    return block.memory;
  }

  void add_used(const Block& block) {
    used_.emplace(block.memory, block.bytes);
    used_bytes_ += block.bytes;
    most_used_bytes_ = std::max(most_used_bytes_, used_bytes_);
  }

  static void give_back(void* memory);

  void keep(void* memory) {
    std::unique_lock lock(mutex_);
    const auto found = used_.find(memory);
    const Block block = {memory, found->second};
    used_.erase(found);
    used_bytes_ -= block.bytes;
    kept_.push_back(block);
    kept_bytes_ += block.bytes;
    const std::vector<Block> surplus = surplus_over(limit_);
    lock.unlock();
    free_all(surplus);
  }

  // Takes out the blocks that were kept longest, until no more than so many bytes are left.
  std::vector<Block> surplus_over(size_t bytes) {
    auto end = kept_.begin();
    while (kept_bytes_ > bytes) kept_bytes_ -= (end++)->bytes;
    const std::vector<Block> surplus(kept_.begin(), end);
    kept_.erase(kept_.begin(), end);
    return surplus;
  }

  std::mutex mutex_;
  std::vector<Block> kept_;  // those kept longest come first
  std::unordered_map<void*, size_t> used_;
  size_t limit_ = size_t{1} << 30;
  size_t kept_bytes_ = 0, used_bytes_ = 0, most_used_bytes_ = 0;
};

// Never destroyed: tensors give their memory back until the process ends.
BufferCache& cache() {
  static BufferCache* const instance = [] {
    // A child of fork must not find the lock held by a thread that it does not have.
    pthread_atfork([] { cache().mutex().lock(); }, [] { cache().mutex().unlock(); },
                   [] { cache().mutex().unlock(); });
    return new BufferCache;
  }();
  return *instance;
}

void BufferCache::give_back(void* memory) { cache().keep(memory); }

}  // namespace

c10::Allocator* buffer_cache() { return &cache(); }
BufferCacheInfo buffer_cache_info() { return cache().info(); }
void set_buffer_cache_limit(size_t bytes) { cache().set_limit(bytes); }
void empty_buffer_cache() { cache().empty(); }

}  // namespace vae_fast::bindings
