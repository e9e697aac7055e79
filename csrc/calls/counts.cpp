#include "calls/counts.h"

#include <vector>

#include "calls/index_space.h"

namespace vae_fast::calls {
namespace {

bool expands_to(const View& x, Span shape) {
  if (x.sizes.size() > shape.size()) return false;
  const Span own = shape.last(x.sizes.size());
  return std::equal(own.begin(), own.end(), x.sizes.begin(),
                    [](int64_t of, int64_t size) { return size == of || size == 1; });
}

void add_csr(Csr& csr, const CountsTensors& tensors) {
  IndexSpace line(tensors.target.sizes);
  line.add(csr.values, tensors.target);
  csr.starts = tensors.starts->data;
  csr.columns = tensors.columns->data;
  csr.has_int64 = tensors.columns->dtype() == Dtype::kInt64;
  csr.rows = tensors.starts->numel() - 1;
}

// For a device that sums no gradients: those in the logits, and those that are to be summed, in the
// arithmetic's dtype.
void make_gradients_by_element(Results& results, Views parameters, Dtype arithmetic, int64_t want,
                               Gradients& gradients) {
  const Sizes& shape = parameters[0].sizes;
  for (size_t k = 0; k < parameters.size(); ++k) {
    const bool is_final = k > 0 && parameters[k].sizes == shape;
    const Dtype dtype = is_final ? parameters[k].dtype() : arithmetic;
    if (is_wanted(want, k)) {
      gradients[k] = results.make_like(1 + k, parameters[is_final ? k : 0], shape, dtype);
    } else {
      results.make_nothing(1 + k, dtype);
    }
  }
}

}  // namespace

bool takes(const CountsTensors& tensors, int64_t batch_dims) {
  const View& first = tensors.parameters[0];
  if (batch_dims >= first.dims() || first.numel() == 0) return false;
  const auto fits = [&](const View& x) { return x.place == first.place; };
  const auto expands = [&](const View* x) {
    return x == nullptr || (fits(*x) && expands_to(*x, first.sizes));
  };
  for (const View& parameter : tensors.parameters) {
    if (!expands(&parameter)) return false;
  }
  if (!expands(tensors.library) || !expands(tensors.mask)) return false;
  if (tensors.library != nullptr) {
    const Sizes& sizes = tensors.library->sizes;
    const size_t event = first.sizes.size() - batch_dims;
    if (!std::ranges::all_of(Span(sizes).last(std::min(event, sizes.size())),
                             [](int64_t size) { return size == 1; })) {
      return false;
    }
  }
  if (tensors.starts == nullptr) return expands(&tensors.target);
  return fits(*tensors.starts) && fits(*tensors.columns) && fits(tensors.target) &&
         is_plain_csr({*tensors.starts, *tensors.columns, tensors.target}) && batch_dims > 0 &&
         first.dims() == batch_dims + 1 &&
         tensors.starts->numel() == first.sizes[batch_dims - 1] + 1;
}

void counts(const Kernels& kernels, const CountsCall& call, const CountsTensors& tensors,
            Results& results) {
  const Views parameters = tensors.parameters;
  const Sizes& shape = parameters[0].sizes;
  std::vector<View> numbers(parameters.begin(), parameters.end());
  numbers.push_back(tensors.target);
  if (tensors.library != nullptr) numbers.push_back(*tensors.library);
  const Dtype dtype = sum_dtype(promoted_dtype(numbers));
  CountArgs args;
  args.classes = product(Span(shape).subspan(call.batch_dims));
  args.is_log = call.is_log;
  args.loss.loss = call.loss;
  args.loss.float64 = is_float64(numbers);
  args.loss.scale = call.scale;

  const Span batch = Span(shape).first(call.batch_dims);
  const View value = results.make(0, batch, dtype);
  Gradients gradients;
  if (kernels.counts_by_element) {
    const Dtype arithmetic = args.loss.float64 ? Dtype::kFloat64 : Dtype::kFloat32;
    make_gradients_by_element(results, parameters, arithmetic, call.want, gradients);
  } else {
    make_gradients(results, 1, parameters, call.want, gradients);
  }

  IndexSpace space(shape);
  for (size_t k = 0; k < parameters.size(); ++k) {
    space.add(args.loss.operands[k], parameters[k]);
    if (is_wanted(call.want, k)) space.add(args.loss.gradients[k], gradients[k]);
  }
  if (tensors.starts != nullptr) {
    add_csr(args.target, tensors);
  } else {
    space.add(args.loss.operands[parameters.size()], tensors.target);
  }
  if (tensors.library != nullptr) space.add(args.library, *tensors.library);
  if (tensors.mask != nullptr) space.add(args.loss.mask, *tensors.mask);
  if (tensors.upstream != nullptr) {
    space.add(args.loss.upstream, tensors.upstream->with_trailing(parameters[0].dims()));
  }
  const size_t of_library = 1 + parameters.size();
  const bool is_library_wanted = is_wanted(call.want, parameters.size());
  if (is_library_wanted) {
    Sizes sizes = batch;
    while (sizes.size() < shape.size()) sizes.push_back(1);
    space.add_value(args.library_gradient, results.make(of_library, sizes, dtype));
  } else {
    results.make_nothing(of_library, dtype);
  }
  space.add_value(args.loss.value, value);
  space.simplify(args.loss.shape, call.batch_dims);
  kernels.counts(args);

  if (call.is_summed) results.reduce(0, 0, call.scale);
  if (is_library_wanted) results.sum_to(of_library, tensors.library->sizes);
}

}  // namespace vae_fast::calls
