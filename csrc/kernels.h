// The contract between the kernels and whatever calls them: plain structs of pointers, sizes,
// strides and dtypes, one launch function per loop shape. No torch.
//
// All tensors of a call are seen through one row-major index space, `Shape`. An input's stride is
// 0 along the dimensions over which it broadcasts, an output's along those over which it is summed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <type_traits>

#include "formulas/philox.h"

namespace vae_fast {

enum class Dtype : uint8_t {
  kFloat32,
  kFloat64,
  kBFloat16,
  kFloat16,
  kUInt8,
  kBool,
  kInt32,
  kInt64
};

inline int bytes_of(Dtype dtype) {
  switch (dtype) {
    case Dtype::kFloat64:
    case Dtype::kInt64:
      return 8;
    case Dtype::kFloat32:
    case Dtype::kInt32:
      return 4;
    case Dtype::kBFloat16:
    case Dtype::kFloat16:
      return 2;
    case Dtype::kUInt8:
    case Dtype::kBool:
      return 1;
  }
  return 0;
}

inline constexpr int kMaxDims = 16;
inline constexpr int kMaxOperands = 4;

struct Shape {
  int dims = 0;
  int64_t sizes[kMaxDims] = {};
  int64_t numel = 1;
};

struct Input {
  const void* data = nullptr;  // null: not given
  Dtype dtype = Dtype::kFloat32;
  int64_t strides[kMaxDims] = {};  // in elements
};

struct Output {
  void* data = nullptr;  // null: not wanted
  Dtype dtype = Dtype::kFloat32;
  int64_t strides[kMaxDims] = {};
  int64_t numel = 0;       // of the output itself
  bool is_summed = false;  // has a zero stride along a dimension of more than one element
};

// value[g] = scale * (sum over the g-th of `groups` equal runs of the index space of the loss), and
// its gradients in the operands, times scale and `upstream`. With groups == numel nothing is
// summed.
struct LossArgs {
  int loss = 0;          // index into formulas/list.h
  bool float64 = false;  // the arithmetic; float otherwise
  Shape shape;
  Input operands[kMaxOperands];
  Input mask;      // bool; where false neither value nor gradient
  Input upstream;  // of losses, not of divergences: only where no value is wanted
  int64_t groups = 1;
  double scale = 1;
  Output value;  // dense, (groups,)
  Output gradients[kMaxOperands];
};

// z = mu + exp(logvar / 2) * eps, with mu and logvar the divergence's first two operands; its
// noise = dz/dlogvar = exp(logvar / 2) * eps / 2; and, where divergence.value is wanted, the
// divergence in the same pass. Row q of the seeds drives the q-th equal share of the index space.
struct SampleArgs {
  LossArgs divergence;
  const Seed* seeds = nullptr;
  int64_t seed_rows = 1;
  Output z;
  Output noise;
};

// The gradients of sum(z * grad_z) + sum(value * grad_value): into divergence.gradients.
struct SampleBackwardArgs {
  LossArgs divergence;
  Input grad_z;
  Input grad_value;
  Input noise;  // read where grad_z is given and the gradient in logvar is wanted
};

// value[r] = the multinomial's loss of row r, a run of `classes` elements along the last dimension,
// and its gradient in the logits, times scale and upstream: to memory of its own or to that of the
// logits.
struct MultinomialArgs {
  bool float64 = false;
  Shape shape;
  int64_t classes = 1;
  double scale = 1;
  Input logits;
  Input target;
  Input upstream;  // a number per row
  Output value;    // dense, a number per row
  Output gradient;
};

// A table of numbers in CSR: row r has values[k] in columns[k], for k from starts[r] to starts[r +
// 1]. What has no entry is 0, what has several their sum. Checked: every index is inside.
struct Csr {
  const void* starts = nullptr;  // null: not given
  const void* columns = nullptr;
  Input values;            // dense, of one dimension
  bool has_int64 = false;  // indices are; else int32
  int64_t rows = 1;
};

// value[r] = the loss of row r, a run of `classes` elements, and its gradients, times scale and
// upstream, as of LossArgs. Where a library is given, which is the row's total, the formula's first
// parameter, a mean, is made of the logits in its place: softmax(logits) * library. A mean and a
// total count as at least kLeastMean (formulas/counts.h).
struct CountArgs {
  LossArgs loss;
  int64_t classes = 1;
  bool is_log = false;      // the formula's first parameter is a mean's logarithm
  Input library;            // a number per row
  Output library_gradient;  // dense, a number per row
  Csr target;               // in place of the loss's last operand; row r % target.rows is row r's
};

// y += x weight, of a table x in CSR, checked, whose values are of the arithmetic's type as all
// that is here; or weight_gradient += x' upstream. All are dense.
struct SparseLinearArgs {
  bool float64 = false;
  bool has_int64 = false;  // indices are; else int32
  int64_t rows = 0, inputs = 0, outputs = 0;
  const void* starts = nullptr;
  const void* columns = nullptr;
  const void* values = nullptr;
  const void* weight = nullptr;     // (inputs, outputs)
  void* y = nullptr;                // (rows, outputs); null: the gradient is wanted
  const void* upstream = nullptr;   // (rows, outputs)
  void* weight_gradient = nullptr;  // (inputs, outputs)
};

// A tensor with one part for each component of a mixture, `stride` elements apart.
template <class Tensor>
struct OfComponents {
  Tensor first;
  int64_t stride = 0;

  Tensor of(int64_t component) const {
    Tensor result = first;
    if (result.data != nullptr) {
      using Byte = std::conditional_t<std::is_same_v<Tensor, Input>, const char, char>;
      result.data = static_cast<Byte*>(first.data) + component * stride * bytes_of(first.dtype);
    }
    return result;
  }
};

inline constexpr int kMaxMixtureOperands = 13;

// value[p] = -log sum_k softmax(logits)_k exp(-nll_k) of position p, where nll_k is the sum over
// the position's elements, a run of `run` along the last dimension of `elements`; and its gradients
// in the logits and in the components' parameters, times scale and upstream.
struct MixtureArgs {
  int loss = 0;            // index into formulas/list.h, or
  int pixel_channels = 0;  // above 0: formulas/discretized_logistic_pixel.h
  bool float64 = false;
  int64_t components = 1;
  int64_t run = 1;
  Shape positions;
  Shape elements;
  double scale = 1;
  OfComponents<Input> logits;                         // of positions
  OfComponents<Input> operands[kMaxMixtureOperands];  // of elements: the parameters, the targets
  Input mask;                                         // of elements
  Input upstream;                                     // of positions
  Output value;
  OfComponents<Output> grad_logits;
  OfComponents<Output> gradients[kMaxMixtureOperands];  // in the parameters, none of them summed
};

// What becomes of the squared distances of a row from all components (formulas/pairs.h).
enum class PairsReduction : uint8_t {
  kLogSumExp,       // log sum_k exp(log weight_k) N(x; mean_k, exp(logvar_k))
  kGaussian,        // sum_k exp(-square / (2 width)), and over the widths
  kMultiquadratic,  // sum_k width / (width + square), and over the widths
  kNearest          // the least square's k
};

inline constexpr int kMaxWidths = 16;

// value[b] = a reduction over the components of rows x_b of `dims` numbers; with `marginal`, of
// each number by itself, value[b, d]. Its gradients, times upstream, where they are wanted: then
// the value is read. All is of two dimensions but the values of whole rows.
struct PairsArgs {
  PairsReduction reduction = PairsReduction::kLogSumExp;
  bool marginal = false;
  bool float64 = false;
  int64_t rows = 1, components = 1, dims = 1;
  Input x;            // (rows, dims)
  Input mean;         // (components, dims)
  Input logvar;       // (components, dims), of kLogSumExp alone, as the weights are
  Input log_weights;  // (rows, components)
  int widths = 0;
  double width[kMaxWidths] = {};
  Output value;                // dense, a number or `dims` numbers per row; not of kNearest
  int64_t* nearest = nullptr;  // dense, of kNearest
  Input computed;              // the value, where gradients are wanted
  Input upstream;              // like the value
  Output grad_x;
  Output grad_mean;
  Output grad_logvar;
  Output grad_log_weights;  // (components): of weights that all rows share
};

namespace cpu {
#pragma GCC visibility push(default)

// Calls body(context, begin, end) on parts of [0, n), each of at least `grain`, in any order and on
// any threads; returns when all are done.
using ParallelFor = void (*)(int64_t n, int64_t grain,
                             void (*body)(void* context, int64_t begin, int64_t end),
                             void* context);

void loss(const LossArgs& args, ParallelFor parallel_for);
void sample(const SampleArgs& args, ParallelFor parallel_for);
void sample_backward(const SampleBackwardArgs& args, ParallelFor parallel_for);
void multinomial(const MultinomialArgs& args, ParallelFor parallel_for);
void counts(const CountArgs& args, ParallelFor parallel_for);
void sparse_linear(const SparseLinearArgs& args, ParallelFor parallel_for);
void mixture(const MixtureArgs& args, ParallelFor parallel_for);
void pairs(const PairsArgs& args, ParallelFor parallel_for);

// out (columns, rows) = the transpose of x (rows, columns), whose rows are `stride` apart.
void transpose(const float* x, int64_t rows, int64_t columns, int64_t stride, float* out,
               ParallelFor parallel_for);

// The instruction sets that this machine can run, best last, and the one in use: the best, or
// what VAE_FAST_CPU_CAPABILITY names. Choosing one that is not there throws std::invalid_argument.
const char* const* capabilities();  // null-terminated
const char* capability();
void set_capability(const char* name);

#pragma GCC visibility pop
}  // namespace cpu

// The same on a CUDA device: every pointer of the arguments is one of device memory, float64
// tensors come with float64 arithmetic only, and no function waits for the device. A result other
// than 0 is a cudaError_t. Sums do not depend on the device or its load.
namespace cuda {

// A call, planned once: what is asked of it is about the very passes that launch() starts.
class Prepared {
 public:
  struct Call;  // launch.cpp

  explicit Prepared(Call call);
  Prepared(Prepared&&) noexcept;
  ~Prepared();

  size_t workspace_bytes() const;
  // The first so many of them count blocks. launch() clears them; they are zero again behind it.
  size_t ticket_bytes() const;

  // On a cudaStream_t of the current device. The workspace, aligned to 16, may be used again as
  // soon as the stream has come by.
  [[nodiscard]] int launch(void* stream, void* workspace);

 private:
  std::unique_ptr<Call> call_;
};

// A saved gradient times the upstream one, in place; an upstream gradient of one element that is
// exactly one is recognised on the device, and nothing else is then read or written.
struct ScaleArgs {
  bool float64 = false;
  Shape shape;
  Output gradient;
  Input upstream;
};

Prepared loss(const LossArgs& args);
// args.seeds lies on the device; where it is null, `seed` drives all of z.
Prepared sample(const SampleArgs& args, const Seed& seed);
Prepared sample_backward(const SampleBackwardArgs& args);
Prepared multinomial(const MultinomialArgs& args);
// Of a dense target, with a library; a row is one run, all tensors' elements equally far apart. No
// gradient is summed, and the one in the logits, which holds the one in the means' logarithms in
// between, is of the arithmetic's type.
Prepared counts(const CountArgs& args);
Prepared mixture(const MixtureArgs& args);
Prepared pairs(const PairsArgs& args);
Prepared scale_by_upstream(const ScaleArgs& args);

const char* error_string(int error);

}  // namespace cuda
}  // namespace vae_fast
