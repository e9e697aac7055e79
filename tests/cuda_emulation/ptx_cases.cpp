// Writes, as JSON, launches for ptx_test.py to repeat: the kernel's symbol, its arguments, the
// memory that they point to, and what the emulation left there. Addresses are this process's.
#include <dlfcn.h>

#include <cstdio>
#include <string>

#include "counts_case.h"
#include "emulated.h"
#include "mixture_case.h"
#include "multinomial_case.h"

namespace {

using namespace vae_fast;
using testing::CountCase;
using testing::Emulated;
using testing::LossCase;
using testing::MultinomialCase;
using testing::Random;
using testing::shape_of;
using testing::View;

std::string hex(const void* data, size_t bytes) {
  std::string text;
  char digits[3];
  for (size_t i = 0; i < bytes; ++i) {
    std::snprintf(digits, sizeof digits, "%02x", static_cast<const unsigned char*>(data)[i]);
    text += digits;
  }
  return text;
}

class Recorder {
 public:
  void input(const View& view) { add(view.storage.data(), view.storage.size(), nullptr); }
  void input(const void* data, size_t bytes) { add(data, bytes, nullptr); }
  void output(const View& view) {
    add(view.data(), view.storage.data() + view.storage.size() - view.data(), name_of(view.dtype));
  }
  void scratch(const void* data, size_t bytes) { add(data, bytes, "scratch"); }

  // The launch that was last, with all that was named since the one before.
  void record() {
    Dl_info symbol;
    if (dladdr(simt::launched.kernel, &symbol) == 0 || symbol.dli_sname == nullptr) {
      simt::fail("a kernel without a symbol");
    }
    std::printf("%s{\"kernel\": \"%s\", \"blocks\": %u, \"args\": \"%s\", \"memory\": [",
                is_first_ ? "[" : ",\n", symbol.dli_sname, simt::launched.blocks,
                hex(simt::launched.args, simt::launched.args_bytes).c_str());
    is_first_ = false;
    for (size_t i = 0; i < memory_.size(); ++i) {
      const Allocation& a = memory_[i];
      std::printf("%s{\"address\": %llu, \"content\": \"%s\", \"output\": \"%s\"}", i ? ", " : "",
                  reinterpret_cast<unsigned long long>(a.data), hex(a.data, a.bytes).c_str(),
                  a.output ? a.output : "");
    }
    std::printf("]}");
    memory_.clear();
  }
  void finish() { std::printf("]\n"); }

 private:
  struct Allocation {
    const void* data;
    size_t bytes;
    const char* output;  // its dtype; null for an input
  };

  static const char* name_of(Dtype dtype) {
    return dtype == Dtype::kFloat64    ? "float64"
           : dtype == Dtype::kFloat32  ? "float32"
           : dtype == Dtype::kBFloat16 ? "bfloat16"
                                       : "float16";
  }

  void add(const void* data, size_t bytes, const char* output) {
    if (bytes > 0) memory_.push_back({data, bytes, output});
  }

  std::vector<Allocation> memory_;
  bool is_first_ = true;
};

Recorder recorder;
Emulated device;

void launch(cuda::Prepared call) {
  simt::after_launch = [] { recorder.record(); };
  const size_t bytes = call.workspace_bytes(), tickets = call.ticket_bytes();
  device.run(std::move(call), 0, [&](const unsigned char* workspace) {
    recorder.input(workspace, tickets);
    recorder.scratch(workspace + tickets, bytes - tickets);
  });
  simt::after_launch = nullptr;
}

template <class Formula>
void record(LossCase<Formula>& loss) {
  for (const View& operand : loss.operands) recorder.input(operand);
  if (loss.args.mask.data != nullptr) recorder.input(loss.mask);
  for (const View& upstream : loss.upstream) recorder.input(upstream);
  if (loss.args.value.data != nullptr) recorder.output(loss.value);
  for (int k = 0; k < LossCase<Formula>::kOperands; ++k) {
    if (loss.args.gradients[k].data != nullptr) recorder.output(loss.gradients[k]);
  }
  launch(cuda::loss(loss.args));
}

void record_losses(Random& random) {
  using Case = LossCase<BernoulliNll>;
  // Dense float32: a tail; a sum that two blocks share.
  for (const int64_t n : {30, 4500}) {
    Case loss(random, shape_of({n}), 1, Dtype::kFloat32, 0);
    record(loss);
  }
  // A byte for a target; a mask; rows that are half of a tensor; a sum for each.
  Case bytes(random, shape_of({6, 40}), 6, Dtype::kFloat32, 0);
  bytes.operands[0] = View(Dtype::kFloat32, bytes.args.shape, {80, 1});
  bytes.operands[1] = View(Dtype::kUInt8, bytes.args.shape, {40, 1});
  for (View& operand : bytes.operands) random.fill(operand);
  bytes.mask = View(Dtype::kBool, bytes.args.shape, {0, 1});
  random.fill(bytes.mask);
  bytes.connect(true, 3);
  record(bytes);
  // Half a float, in vectors of 8 and a tail; with a target of another dtype.
  for (const Dtype dtype : {Dtype::kBFloat16, Dtype::kFloat16}) {
    Case halves(random, shape_of({43}), 1, dtype, 0);
    record(halves);
  }
  Case mixed(random, shape_of({24}), 1, Dtype::kBFloat16, 0);
  mixed.operands[1] = View(Dtype::kUInt8, mixed.args.shape, {1});
  random.fill(mixed.operands[1]);
  mixed.connect(false, 1);
  record(mixed);
  // Misaligned; double, also misaligned for vectors.
  Case skewed(random, shape_of({5, 7}), 5, Dtype::kFloat32, 1);
  record(skewed);
  for (const int64_t skew : {0, 1}) {
    Case doubles(random, shape_of({21}), 1, Dtype::kFloat64, skew);
    record(doubles);
  }
  // The other elementary functions.
  LossCase<GaussianNll> gaussian(random, shape_of({30}), 1, Dtype::kFloat32, 0);
  record(gaussian);
  LossCase<BernoulliProbsNll> probs(random, shape_of({30}), 1, Dtype::kFloat32, 0);
  record(probs);
  // A gradient summed down its columns, by several blocks, beside all else.
  Case columns(random, shape_of({70, 12}), 1, Dtype::kFloat32, 0);
  columns.operands[0] = columns.gradients[0] = View(Dtype::kFloat32, columns.args.shape, {0, 1});
  random.fill(columns.operands[0]);
  columns.connect(false, columns.wanted());
  record(columns);
}

void record_sampling(Random& random, Dtype dtype, const Shape& shape, int64_t row_stride) {
  LossCase<StandardNormalKl> divergence(random, shape, 1, dtype, 0);
  for (View& operand : divergence.operands) {
    operand = View(dtype, shape, {row_stride, 1});
    random.fill(operand);
    recorder.input(operand);
  }
  divergence.connect(false, 0);
  View z(dtype, shape, testing::dense_strides(shape)), noise = z;
  SampleArgs args;
  args.divergence = divergence.args;
  args.z = output_of(z, shape);
  args.noise = output_of(noise, shape);
  recorder.output(z);
  recorder.output(noise);
  recorder.output(divergence.value);
  launch(cuda::sample(args, Seed{0x123456789abcdef0u, 77}));
}

void record_backward(Random& random) {
  const Shape shape = shape_of({4, 11});
  LossCase<StandardNormalKl> divergence(random, shape, 1, Dtype::kFloat32, 0);
  View grad_z(Dtype::kFloat32, shape, {11, 1}), grad_value(Dtype::kFloat32, shape, {0, 0});
  View noise = grad_z;
  SampleBackwardArgs args;
  divergence.connect(false, 3);
  args.divergence = divergence.args;
  args.divergence.value = {};
  for (View* view : {&grad_z, &grad_value, &noise}) {
    random.fill(*view);
    recorder.input(*view);
  }
  args.grad_z = input_of(grad_z);
  args.grad_value = input_of(grad_value);
  args.noise = input_of(noise);
  for (const View& operand : divergence.operands) recorder.input(operand);
  for (const View& gradient : divergence.gradients) recorder.output(gradient);
  launch(cuda::sample_backward(args));
}

void record_multinomial(Random& random, const Shape& shape, Dtype dtype, Dtype of_target,
                        int64_t skew) {
  MultinomialCase rows(random, shape, dtype, of_target, skew, false);
  recorder.input(rows.logits);
  recorder.input(rows.target);
  for (const View& upstream : rows.upstream) recorder.input(upstream);
  recorder.output(rows.gradient);
  recorder.output(rows.value);
  launch(cuda::multinomial(rows.args));
}

template <class Formula>
void record_counts(Random& random, const Shape& shape, bool float64, int wanted) {
  CountCase<Formula> rows(random, shape, 1, float64, /*by_element=*/true);
  rows.connect(wanted, /*with_mask=*/true, /*with_upstream=*/wanted != 0);
  for (const View& operand : rows.operands) recorder.input(operand);
  for (const View* view : {&rows.library, &rows.mask, &rows.upstream}) recorder.input(*view);
  for (int k = 0; k < CountCase<Formula>::kParameters && wanted != 0; ++k) {
    recorder.output(rows.gradients[k]);
  }
  if (wanted != 0) recorder.output(rows.to_library);
  recorder.output(rows.value);
  launch(cuda::counts(rows.args));
}

void record_mixture(Random& random, int64_t positions, int64_t run, Dtype dtype) {
  testing::MixtureCase<GaussianNll> mixture(random, shape_of({positions}), run, 3, dtype);
  for (const View& operand : mixture.operands) recorder.input(operand);
  for (const View& upstream : mixture.upstream) recorder.input(upstream);
  if (mixture.with_mask) recorder.input(mixture.mask);
  recorder.input(mixture.logits);
  for (const View& gradient : mixture.gradients) recorder.output(gradient);
  recorder.output(mixture.grad_logits);
  recorder.output(mixture.value);
  launch(cuda::mixture(mixture.args));
}

void record_pixels(Random& random) {
  testing::PixelCase pixels(random, 2, 9, 2, kMaxPixelChannels, Dtype::kFloat32);
  for (const View* view : {&pixels.params, &pixels.target, &pixels.levels}) recorder.input(*view);
  for (const View* view : {&pixels.gradient, &pixels.value}) recorder.output(*view);
  launch(cuda::mixture(pixels.args));
}

}  // namespace

int main() {
  Random random;
  record_losses(random);
  record_sampling(random, Dtype::kFloat32, shape_of({3, 128}), 128);
  record_sampling(random, Dtype::kBFloat16, shape_of({3, 44}), 44);
  record_sampling(random, Dtype::kFloat32, shape_of({3, 128}), 256);
  record_sampling(random, Dtype::kFloat32, shape_of({3, 10}), 20);
  record_sampling(random, Dtype::kFloat64, shape_of({3, 10}), 20);
  record_backward(random);
  // Rows that a few threads hold, a warp, a block, and nobody; that do not begin at a vector.
  record_multinomial(random, shape_of({70, 12}), Dtype::kFloat32, Dtype::kFloat32, 0);
  record_multinomial(random, shape_of({3, 203}), Dtype::kBFloat16, Dtype::kUInt8, 0);
  record_multinomial(random, shape_of({2, 601}), Dtype::kFloat64, Dtype::kFloat64, 0);
  record_multinomial(random, shape_of({1, 9000}), Dtype::kFloat32, Dtype::kBool, 0);
  record_multinomial(random, shape_of({2, 70}), Dtype::kFloat16, Dtype::kFloat16, 1);
  record_counts<NegativeBinomialNll>(random, shape_of({3, 21}), false, 7);
  record_counts<NegativeBinomialNll>(random, shape_of({1, 540}), false, 7);
  record_counts<PoissonNll>(random, shape_of({2, 300}), false, 0);
  record_counts<PoissonNll>(random, shape_of({2, 70}), true, 3);
  // A thread for a position, a team; a block, in two rounds.
  record_mixture(random, 40, 1, Dtype::kFloat32);
  record_mixture(random, 5, 12, Dtype::kBFloat16);
  record_mixture(random, 2, 300, Dtype::kFloat32);
  record_pixels(random);
  recorder.finish();
  return testing::report();
}
