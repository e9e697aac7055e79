// The emulated device's memory: blocks that end to the byte where a tensor does, all ones (NaN)
// until something is written, between guard zones that nothing may touch.
#pragma once

#include <c10/core/Allocator.h>

namespace vae_fast::testing {

c10::Allocator* device_memory();

// Raises where a guard zone of a block, freed since the last call or not, was written to.
void check_memory();

}  // namespace vae_fast::testing
