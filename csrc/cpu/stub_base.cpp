// The kernels for any machine of the architecture: SSE2 on x86-64, NEON on 64-bit Arm.
#include "cpu/standard_headers.h"

#define VAE_FAST_ISA isa_base
#define VAE_FAST_TABLE kBase
#define VAE_FAST_NAME "base"
#include "cpu/stub_body.h"
