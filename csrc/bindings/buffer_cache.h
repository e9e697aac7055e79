// Large blocks of CPU memory that are used again. The C library maps every block above 32 MB
// afresh, and the faults of fresh pages cost more than the arithmetic on them.
#pragma once

#include <c10/core/Allocator.h>

#include <cstddef>

namespace vae_fast::bindings {

struct BufferCacheInfo {
  size_t limit;   // bytes that it may keep
  size_t cached;  // bytes that it keeps now, for nobody
};

// For blocks of kCachedFrom bytes and more; smaller ones are torch's own business.
inline constexpr size_t kCachedFrom = size_t{32} << 20;
c10::Allocator* buffer_cache();

BufferCacheInfo buffer_cache_info();

// 0: nothing is kept. What is kept beyond the new limit is freed at once.
void set_buffer_cache_limit(size_t bytes);
void empty_buffer_cache();

}  // namespace vae_fast::bindings
