// The loops over rows of counts and of tables in CSR on every instruction set, with threads:
// against the textbook in long double, of dense and of sparse targets; any tensors (counts_case.h).
// Their tensors end where their memory does, for the sanitizers.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <random>
#include <thread>
#include <vector>

#include "counts_case.h"

namespace {

using namespace vae_fast;

std::mt19937 generator(7);

void two_threads(int64_t n, int64_t, void (*body)(void*, int64_t, int64_t), void* context) {
  std::thread other(body, context, n / 2, n);
  body(context, 0, n / 2);
  other.join();
}

std::vector<float> drawn(int64_t n, float center, float spread) {
  std::normal_distribution<float> normal(center, spread);
  std::vector<float> x(n);
  for (float& number : x) number = normal(generator);
  return x;
}

Input input_of(const std::vector<float>& x, int64_t row, int64_t column) {
  return {.data = x.data(), .strides = {row, column}};
}

Output output_of(std::vector<float>& x, int64_t row, int64_t column) {
  return {.data = x.data(),
          .strides = {row, column},
          .numel = static_cast<int64_t>(x.size()),
          .is_summed = row == 0};
}

// A table of counts, dense and in CSR, its columns backwards.
struct Table {
  int64_t rows, columns;
  std::vector<float> dense, values;
  std::vector<int32_t> starts = {0}, places;

  Table(int64_t number_of_rows, int64_t number_of_columns)
      : rows(number_of_rows), columns(number_of_columns), dense(rows * columns) {
    std::poisson_distribution<int> few(0.3);
    for (float& x : dense) x = static_cast<float>(few(generator));
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t c = columns - 1; c >= 0; --c) {
        if (dense[r * columns + c] == 0) continue;
        values.push_back(dense[r * columns + c]);
        places.push_back(static_cast<int32_t>(c));
      }
      starts.push_back(static_cast<int32_t>(values.size()));
    }
  }
};

void check_close(const char* what, double x, long double exact, double size) {
  CHECK(std::abs(x - static_cast<double>(exact)) <= 1e-4 * (size + 1e-3),
        "%s, %s: %.9g, expected %.9Lg", cpu::capability(), what, x, exact);
}

// lgamma(t) - lgamma(x + t) + lgamma(x + 1) + t log(1 + mu / t) + x log(1 + t / mu), and what it
// changes by with log(mu).
long double negative_binomial(long double mu, long double t, long double x) {
  return std::lgamma(t) - std::lgamma(x + t) + std::lgamma(x + 1) + t * std::log1p(mu / t) +
         x * std::log1p(t / mu);
}

long double to_log_mean(long double mu, long double t, long double x) {
  return (mu - x) * t / (mu + t);
}

struct Results {
  std::vector<float> value, to_library, to_logits, to_theta;
  bool operator==(const Results&) const = default;
};

Results call(const Table& table, const std::vector<float>& logits,
             const std::vector<float>& library, const std::vector<float>& theta, bool is_sparse) {
  const int64_t n = table.columns;
  Results results{std::vector<float>(table.rows), std::vector<float>(table.rows),
                  std::vector<float>(logits.size()), std::vector<float>(theta.size())};
  CountArgs args;
  args.classes = n;
  args.loss.loss = kLossIndex<NegativeBinomialNll>;
  args.loss.shape = {.dims = 2, .sizes = {table.rows, n}, .numel = table.rows * n};
  args.loss.operands[0] = input_of(logits, n, 1);
  args.loss.operands[1] = input_of(theta, 0, 1);
  if (is_sparse) {
    args.target = {.starts = table.starts.data(),
                   .columns = table.places.data(),
                   .values = input_of(table.values, 1, 0),
                   .rows = table.rows};
  } else {
    args.loss.operands[2] = input_of(table.dense, n, 1);
  }
  args.library = input_of(library, 1, 0);
  args.loss.value = output_of(results.value, 1, 0);
  args.library_gradient = output_of(results.to_library, 1, 0);
  args.loss.gradients[0] = output_of(results.to_logits, n, 1);
  args.loss.gradients[1] = output_of(results.to_theta, 0, 1);
  cpu::counts(args, two_threads);
  return results;
}

void check_counts(int64_t rows, int64_t columns) {
  const Table table(rows, columns);
  const std::vector<float> logits = drawn(rows * columns, 0, 2);
  std::vector<float> library = drawn(rows, 0, 1), theta = drawn(columns, 0, 1);
  for (float& x : library) x = 30 * std::exp(x);
  for (float& x : theta) x = std::exp(x);
  const Results results = call(table, logits, library, theta, /*is_sparse=*/false);
  CHECK(results == call(table, logits, library, theta, /*is_sparse=*/true),
        "%s: a target in CSR gives something else", cpu::capability());
  for (int64_t r = 0; r < rows; ++r) {
    const float* const l = &logits[r * columns];
    long double weights = 0, value = 0, to_logs = 0, size = 0;
    for (int64_t c = 0; c < columns; ++c) weights += std::exp(static_cast<long double>(l[c]));
    const auto mean = [&](int64_t c) {
      return library[r] * std::exp(static_cast<long double>(l[c])) / weights;
    };
    for (int64_t c = 0; c < columns; ++c) {
      const float x = table.dense[r * columns + c];
      value += negative_binomial(mean(c), theta[c], x);
      to_logs += to_log_mean(mean(c), theta[c], x);
      size += std::abs(to_log_mean(mean(c), theta[c], x));
    }
    check_close("value", results.value[r], value, static_cast<double>(value));
    check_close("to library", results.to_library[r], to_logs / library[r],
                static_cast<double>(size / library[r]));
    for (int64_t c = 0; c < columns; ++c) {
      const long double share = mean(c) / library[r];
      const long double exact =
          to_log_mean(mean(c), theta[c], table.dense[r * columns + c]) - share * to_logs;
      check_close("to logits", results.to_logits[r * columns + c], exact,
                  static_cast<double>(std::abs(exact) + share * size));
    }
  }
}

struct Cpu {
  static constexpr int kSettings = 1;
  static constexpr int64_t kMaxElements = 20000;
  static constexpr bool kCountsByElement = false;

  static const char* name() { return cpu::capability(); }
  void counts(const CountArgs& args, int) { cpu::counts(args, two_threads); }
};

void check_sparse_linear(int64_t rows, int64_t inputs, int64_t outputs) {
  const Table table(rows, inputs);
  const std::vector<float> weight = drawn(inputs * outputs, 0, 1),
                           upstream = drawn(rows * outputs, 0, 1);
  std::vector<float> y(rows * outputs), gradient(inputs * outputs);
  SparseLinearArgs args{.rows = rows,
                        .inputs = inputs,
                        .outputs = outputs,
                        .starts = table.starts.data(),
                        .columns = table.places.data(),
                        .values = table.values.data(),
                        .weight = weight.data(),
                        .y = y.data(),
                        .upstream = upstream.data(),
                        .weight_gradient = gradient.data()};
  cpu::sparse_linear(args, two_threads);
  args.y = nullptr;
  cpu::sparse_linear(args, two_threads);
  for (int64_t o = 0; o < outputs; ++o) {
    for (int64_t r = 0; r < rows; ++r) {
      double sum = 0;
      for (int64_t i = 0; i < inputs; ++i) {
        sum += table.dense[r * inputs + i] * weight[i * outputs + o];
      }
      check_close("product", y[r * outputs + o], sum, std::abs(sum) + 1);
    }
    for (int64_t i = 0; i < inputs; ++i) {
      double sum = 0;
      for (int64_t r = 0; r < rows; ++r) {
        sum += table.dense[r * inputs + i] * upstream[r * outputs + o];
      }
      check_close("weight's gradient", gradient[i * outputs + o], sum, std::abs(sum) + 1);
    }
  }
}

}  // namespace

int main() {
  for (const char* const* name = cpu::capabilities(); *name != nullptr; ++name) {
    cpu::set_capability(*name);
    for (const int64_t columns : {1, 5, 64, 1023, 1024, 2500}) check_counts(9, columns);
    check_counts(1, 300);
    Cpu device;
    testing::Random random;
    testing::check_counts(random, device, 40, Losses{});
    check_sparse_linear(6, 50, 19);
    check_sparse_linear(9, 300, 70);
  }
  return vae_fast::testing::report();
}
