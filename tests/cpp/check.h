// What a C++ test needs: CHECK(condition, printf arguments that say what was seen), and at the end
// of main `return vae_fast::testing::report();`.
#pragma once

#include <cstdio>

namespace vae_fast::testing {

inline int failures = 0;

inline int report() {
  if (failures > 0) std::fprintf(stderr, "%d checks failed\n", failures);
  return failures > 0 ? 1 : 0;
}

}  // namespace vae_fast::testing

// The first failures of a program are printed, all are counted.
#define CHECK(condition, ...)                                              \
  do {                                                                     \
    if (!(condition) && ++vae_fast::testing::failures <= 20) {             \
      std::fprintf(stderr, "%s:%d: %s: ", __FILE__, __LINE__, #condition); \
      std::fprintf(stderr, __VA_ARGS__);                                   \
      std::fprintf(stderr, "\n");                                          \
    }                                                                      \
  } while (false)
