// VAE_FAST_VECTOR_BYTES: the vector registers' bytes, by the stub's name for its instruction set:
// after #pragma GCC target g++ knows the instructions, but still does not define __AVX2__ or
// __AVX512F__.
#pragma once

#define VAE_FAST_VECTOR_BYTES_isa_avx2 32
#define VAE_FAST_VECTOR_BYTES_isa_avx512 64
#define VAE_FAST_VECTOR_BYTES_OF(isa) VAE_FAST_VECTOR_BYTES_##isa
#define VAE_FAST_VECTOR_BYTES_OF_EXPANDED(isa) VAE_FAST_VECTOR_BYTES_OF(isa)
#if VAE_FAST_VECTOR_BYTES_OF_EXPANDED(VAE_FAST_ISA)
#define VAE_FAST_VECTOR_BYTES VAE_FAST_VECTOR_BYTES_OF_EXPANDED(VAE_FAST_ISA)
#else
#define VAE_FAST_VECTOR_BYTES 16
#endif
