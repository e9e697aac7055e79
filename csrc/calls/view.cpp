#include "calls/view.h"

#include <array>
#include <numeric>

namespace vae_fast::calls {
namespace {

struct Name {
  int number;
  const char* text;
};

constexpr Name kDtypes[] = {
    {0, "uint8"},     {1, "int8"},         {2, "int16"},          {3, "int32"},
    {4, "int64"},     {5, "float16"},      {6, "float32"},        {7, "float64"},
    {8, "complex32"}, {9, "complex64"},    {10, "complex128"},    {11, "bool"},
    {15, "bfloat16"}, {23, "float8_e5m2"}, {24, "float8_e4m3fn"}, {27, "uint16"},
    {28, "uint32"},   {29, "uint64"},
};

// c10/core/DeviceType.h
constexpr Name kDevices[] = {{0, "cpu"}, {1, "cuda"}, {12, "xpu"}, {13, "mps"}, {14, "meta"}};

template <size_t N>
std::string name_in(const Name (&names)[N], int number, const char* otherwise) {
  const auto* found = std::ranges::find(names, number, &Name::number);
  return found == std::end(names) ? text(otherwise, ' ', number) : found->text;
}

thread_local std::string refusal;

}  // namespace

Refusal::Refusal(const char* kind, const std::string& what) : std::invalid_argument(what) {
  refusal = text(kind, ": ", what);
}

const std::string& last_refusal() { return refusal; }

std::string shown(Span sizes) {
  std::string result = "(";
  for (size_t i = 0; i < sizes.size(); ++i) {
    result += std::to_string(sizes[i]);
    if (i + 1 < sizes.size()) result += ", ";
  }
  return result + (sizes.size() == 1 ? ",)" : ")");
}

std::string shown(const Place& place) {
  const std::string name = name_in(kDevices, place.type, "device");
  return place.index < 0 ? name : text(name, ':', place.index);
}

std::string shown_dtype(int torch_dtype) {
  return "torch." + name_in(kDtypes, torch_dtype, "dtype");
}

namespace {

constexpr Dtype kKnown[] = {Dtype::kFloat32, Dtype::kFloat64, Dtype::kBFloat16, Dtype::kFloat16,
                            Dtype::kUInt8,   Dtype::kBool,    Dtype::kInt32,    Dtype::kInt64};

constexpr auto kDtypeOf = [] {
  std::array<std::optional<Dtype>, 16> result;
  for (const Dtype dtype : kKnown) result[torch_dtype(dtype)] = dtype;
  return result;
}();

}  // namespace

std::optional<Dtype> known_dtype(int number) {
  return 0 <= number && number < static_cast<int>(kDtypeOf.size()) ? kDtypeOf[number]
                                                                   : std::nullopt;
}

Dtype View::dtype() const {
  const std::optional<Dtype> known = known_dtype(torch_dtype);
  VAE_FAST_REQUIRE(known, BadType, shown_dtype(torch_dtype), " is no element type of the kernels");
  return *known;
}

bool is_floating(Dtype dtype) {
  return dtype == Dtype::kFloat32 || dtype == Dtype::kFloat64 || dtype == Dtype::kBFloat16 ||
         dtype == Dtype::kFloat16;
}

int64_t product(Span sizes) {
  if (std::ranges::find(sizes, 0) != sizes.end()) return 0;
  int64_t result = 1;
  for (const int64_t size : sizes) {
    VAE_FAST_REQUIRE(!__builtin_mul_overflow(result, size, &result), BadValue,
                     "the operands broadcast to ", shown(sizes),
                     ", more elements than 64 bits can count");
  }
  return result;
}

Sizes contiguous_strides(Span sizes) {
  Sizes strides(sizes);
  int64_t stride = 1;
  for (size_t d = sizes.size(); d-- > 0;) {
    strides[d] = stride;
    stride *= std::max<int64_t>(sizes[d], 1);
  }
  return strides;
}

Sizes dense_strides(Span sizes, Span strides) {
  Sizes order(sizes);  // the innermost first
  std::iota(order.begin(), order.end(), 0);
  std::reverse(order.begin(), order.end());
  // Torch's order (at::infer_dense_strides): a stride of 0 tells nothing, and what nothing tells
  // apart stays as it is.
  const auto follows = [&](int64_t a, int64_t b) {
    if (strides[a] == 0 || strides[b] == 0) return 0;
    if (strides[a] != strides[b]) return strides[a] < strides[b] ? -1 : 1;
    return sizes[a] > sizes[b] ? 1 : 0;
  };
  for (size_t end = 1; end < order.size(); ++end) {
    size_t place = end;
    for (size_t before = end; before-- > 0;) {
      const int comparison = follows(order[before], order[place]);
      if (comparison < 0) break;
      if (comparison > 0) {
        std::swap(order[before], order[place]);
        place = before;
      }
    }
  }
  Sizes result(sizes);
  int64_t stride = 1;
  for (const int64_t d : order) {
    result[d] = stride;
    stride *= std::max<int64_t>(sizes[d], 1);
  }
  return result;
}

int64_t View::numel() const { return product(sizes); }

bool View::is_contiguous() const {
  int64_t expected = 1;
  for (size_t d = sizes.size(); d-- > 0;) {
    if (sizes[d] == 1) continue;
    if (strides[d] != expected) return numel() == 0;
    expected *= sizes[d];
  }
  return true;
}

bool View::is_dense() const {
  Sizes own_sizes, own_strides;
  for (size_t d = 0; d < sizes.size(); ++d) {
    if (sizes[d] < 2) continue;
    own_sizes.push_back(sizes[d]);
    own_strides.push_back(strides[d]);
  }
  return own_strides == dense_strides(own_sizes, own_strides);
}

View View::narrow(int64_t dim, int64_t first, int64_t count) const {
  View result = *this;
  result.data = static_cast<char*>(data) + first * strides[dim] * bytes_of(dtype());
  result.sizes[dim] = count;
  return result;
}

View View::select(int64_t dim, int64_t index) const {
  View result = narrow(dim, index, 1);
  result.sizes.erase(dim);
  result.strides.erase(dim);
  return result;
}

View View::expand(Span shape) const {
  View result = *this;
  result.sizes = shape;
  result.strides = shape;
  const size_t missing = shape.size() - sizes.size();
  for (size_t d = 0; d < shape.size(); ++d) {
    const bool is_own = d >= missing && (sizes[d - missing] != 1 || shape[d] == 1);
    result.strides[d] = is_own ? strides[d - missing] : 0;
  }
  return result;
}

View View::with_trailing(int64_t dims) const {
  View result = *this;
  while (!sizes.empty() && result.dims() < dims) {
    result.sizes.push_back(1);
    result.strides.push_back(1);
  }
  return result;
}

}  // namespace vae_fast::calls
