// From tensors to the kernels' structs: checks, allocation, and a simple index space.
#pragma once

#include "bindings/autograd.h"
#include "bindings/device.h"

namespace vae_fast::bindings {

// Checks the operands' dtypes, devices and shapes; returns the shape they broadcast to. Raises
// TypeError and ValueError that name the operand, what was expected and what came.
at::DimVector check_operands(const LossInfo& info, const char* op, at::TensorList operands,
                             const OptionalTensor& mask);

// The public functions' rule, for their own entries (checks.check_shapes has it in words): a target
// has the first operand's shape but for leading batch dimensions, all else broadcasts to that
// shape.
void check_public_shapes(const LossInfo& info, at::TensorList operands, const OptionalTensor& mask,
                         int64_t batch_dims);

// An op's `keep` and `mean_dims`: ValueError where they do not fit the dimensions.
void check_reduction(const char* op, int64_t keep, int64_t mean_dims, int64_t dims);

// What a gradient that comes to a backward, or was kept for one, must be.
void check_gradient(const char* op, const char* name, const Tensor& gradient, at::IntArrayRef shape,
                    at::Device device);

// Whether the arithmetic is float64's: where any operand is.
bool is_float64(at::TensorList operands);

// An upstream gradient as the kernels take it: float64 only where the arithmetic is.
Tensor in_arithmetic(const Tensor& x, bool is_float64);

// The factor that makes a mean of a sum.
double mean_factor(at::IntArrayRef shape, Reduction reduction);

// The floating dtype that the operands promote to, by torch's rule: one without dimensions does not
// raise that of others.
at::ScalarType promoted_dtype(at::TensorList operands);

// `dtype` for elementwise results; at least float32 for sums.
at::ScalarType sum_dtype(at::ScalarType dtype);

// The number of elements of a shape: a ValueError where it exceeds 64 bits.
int64_t product(at::IntArrayRef sizes);

// `sizes`, aligned to the right of `shape`, without its leading `keep` dimensions, of which
// `shape` has the sizes: the shape of a gradient that is summed where the operand broadcasts.
at::DimVector gradient_shape(at::IntArrayRef shape, at::IntArrayRef sizes, int64_t keep);

// A dense tensor, in the operand's order of dimensions where that has the shape, by torch's rule;
// but the memory is the device's own.
Tensor empty_laid_out_like(const Device& device, const Tensor& operand, at::IntArrayRef shape,
                           at::ScalarType dtype);

// One for each operand that `want` has a bit for, of the shape's `keep` leading sizes, then the
// operand's; the others are empty.
TensorVector allocate_gradients(const Device& device, at::TensorList operands,
                                at::IntArrayRef shape, int64_t keep, int64_t want);

// Collects the tensors of one call in the index space `shape`, then makes that space as simple as
// their strides allow: fewer dimensions, longer runs.
class IndexSpace {
 public:
  explicit IndexSpace(at::IntArrayRef shape);

  void add(Input& input, const Tensor& tensor);
  void add(Output& output, const Tensor& tensor);

  // A value: in the index space only where it has one entry per element, else dense by itself.
  void add_value(Output& output, const Tensor& tensor);

  // From here on the dimensions from `first_movable` on may be reordered, to follow the memory of
  // the input added first.
  void simplify(Shape& result, int64_t first_movable);

 private:
  void add_strides(int64_t* strides, const Tensor& tensor);
  void follow_memory(int64_t first_movable);
  void drop_dimension(int64_t d);
  bool can_merge(int64_t d) const;

  at::DimVector shape_;
  c10::SmallVector<int64_t*, 12> strides_;
};

}  // namespace vae_fast::bindings
