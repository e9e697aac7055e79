// Every standard header that the kernels use: they must come before a stub sets its target, so that
// nothing of the standard library is compiled for it.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>
#include <utility>

#if defined(__x86_64__)
#include <immintrin.h>
#endif
