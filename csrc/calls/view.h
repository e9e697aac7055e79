// Tensors as a call sees them, whoever holds them: what the bindings of PyTorch give to this
// folder, which checks a call, says what its results look like, and makes of it the kernels'
// structs (kernels.h). No torch.
#pragma once

#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <span>
#include <sstream>
#include <stdexcept>
#include <string>

#include "kernels.h"

namespace vae_fast::calls {
#pragma GCC visibility push(default)

// What Python calls a ValueError and a TypeError; the bindings raise them as such.
struct Refusal : std::invalid_argument {
  Refusal(const char* kind, const std::string& what);
};
struct BadValue : Refusal {
  explicit BadValue(const std::string& what) : Refusal("ValueError", what) {}
};
struct BadType : Refusal {
  explicit BadType(const std::string& what) : Refusal("TypeError", what) {}
};

// This thread's last one, "ValueError: ..."; for a binding whose exceptions lose their type.
const std::string& last_refusal();

template <class... Parts>
std::string text(const Parts&... parts) {
  std::ostringstream stream;
  (stream << ... << parts);
  return stream.str();
}

// A macro, so that the parts of a message are made where it is needed.
#define VAE_FAST_REQUIRE(condition, Error, ...)                                             \
  do {                                                                                      \
    if (!(condition)) throw ::vae_fast::calls::Error(::vae_fast::calls::text(__VA_ARGS__)); \
  } while (false)

using Span = std::span<const int64_t>;

// A tensor's sizes or strides.
class Sizes {
 public:
  Sizes() = default;
  Sizes(std::initializer_list<int64_t> values) : Sizes(Span(values.begin(), values.size())) {}
  Sizes(Span values) { append(values); }
  // Not the places that hold nothing.
  Sizes(const Sizes& other) : Sizes(Span(other)) {}
  Sizes& operator=(const Sizes& other) {
    std::copy(other.begin(), other.end(), values_);
    count_ = other.count_;
    return *this;
  }

  operator Span() const { return {values_, count_}; }

  size_t size() const { return count_; }
  bool empty() const { return count_ == 0; }
  const int64_t* begin() const { return values_; }
  const int64_t* end() const { return values_ + count_; }
  int64_t* begin() { return values_; }
  int64_t* end() { return values_ + count_; }
  int64_t& operator[](size_t d) { return values_[d]; }
  int64_t operator[](size_t d) const { return values_[d]; }
  int64_t& back() { return values_[count_ - 1]; }
  int64_t back() const { return values_[count_ - 1]; }

  void insert(size_t d, int64_t value) {
    grow(1);
    std::copy_backward(values_ + d, end() - 1, end());
    values_[d] = value;
  }
  void erase(size_t d) {
    std::copy(values_ + d + 1, end(), values_ + d);
    --count_;
  }
  void append(Span values) {
    grow(values.size());
    std::copy(values.begin(), values.end(), end() - values.size());
  }
  void push_back(int64_t value) { append({&value, 1}); }

  friend bool operator==(const Sizes& a, const Sizes& b) { return std::ranges::equal(a, b); }

 private:
  void grow(size_t by) {
    VAE_FAST_REQUIRE(count_ + by <= kMaxDims, BadValue, count_ + by,
                     " dimensions, expected at most ", kMaxDims);
    count_ += by;
  }

  int64_t values_[kMaxDims];
  size_t count_ = 0;
};

// As Python writes it: (2, 3), (4,).
std::string shown(Span sizes);

// A device by torch's numbers.
struct Place {
  int type = 0;
  int index = -1;

  friend bool operator==(const Place&, const Place&) = default;
};

inline constexpr int kCpuType = 0;
inline bool is_cpu(const Place& place) { return place.type == kCpuType; }

std::string shown(const Place& place);

// Torch's numbers of element types (c10/core/ScalarType.h): they are in every file that torch.save
// writes.
constexpr int torch_dtype(Dtype dtype) {
  switch (dtype) {
    case Dtype::kUInt8:
      return 0;
    case Dtype::kInt32:
      return 3;
    case Dtype::kInt64:
      return 4;
    case Dtype::kFloat16:
      return 5;
    case Dtype::kFloat32:
      return 6;
    case Dtype::kFloat64:
      return 7;
    case Dtype::kBool:
      return 11;
    case Dtype::kBFloat16:
      return 15;
  }
  return -1;
}

// Of every number, the one that the kernels know; null where they know none.
std::optional<Dtype> known_dtype(int torch_dtype);
// As Python writes it, torch.float32.
std::string shown_dtype(int torch_dtype);

bool is_floating(Dtype dtype);

// A dense or strided tensor. What is no operand of a call that was checked may have an element type
// or more dimensions than the kernels know.
struct View {
  void* data = nullptr;  // of an operand it is only read
  int torch_dtype = 0;
  Place place;
  Sizes sizes;
  Sizes strides;

  int64_t dims() const { return static_cast<int64_t>(sizes.size()); }
  // BadType where the kernels do not know it.
  Dtype dtype() const;
  int64_t numel() const;
  bool is_contiguous() const;
  // Its elements fill a piece of memory, in whatever order.
  bool is_dense() const;

  // The same memory seen otherwise.
  View narrow(int64_t dim, int64_t first, int64_t count) const;
  View select(int64_t dim, int64_t index) const;
  View expand(Span shape) const;
  // With dimensions of one behind its own, so many in all.
  View with_trailing(int64_t dims) const;
};

// The number of elements of a shape: BadValue where it exceeds 64 bits.
int64_t product(Span sizes);

Sizes contiguous_strides(Span sizes);
// Of a dense tensor whose dimensions follow one another in memory as the strides have it.
Sizes dense_strides(Span sizes, Span strides);

#pragma GCC visibility pop
}  // namespace vae_fast::calls
