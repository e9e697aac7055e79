// The two terms of a VAE whose networks are multilayer perceptrons as one node of the graph: the
// same ops and products that the networks, the sampler and the likelihood would call one by one,
// without the nodes and the calls from Python between them.
#include <string>
#include <utility>

#include "bindings/calls.h"
#include "bindings/entry.h"
#include "bindings/mlp.h"

namespace vae_fast::bindings {
namespace {

constexpr Reduction kBatchMean{0, 1};
constexpr int64_t kOfBoth = 3;  // the encoder's two halves, mu and logvar

using SavedVariables = c10::SmallVector<SavedVariable, 8>;

struct Terms {
  Tensor nll, kl;
};

// What the terms are of: all plain tensors of the CPU. x (rows, features) and the parameters are
// float32, the target (rows, outputs) may be uint8.
struct Problem {
  Tensor x, target;
  Parameters encoder, decoder;
  int loss;                    // the likelihood's
  std::vector<Tensor> shared;  // its parameters that all elements share

  // Of what may require a gradient, in the order of the node's edges.
  std::vector<Tensor> operands() const {
    std::vector<Tensor> result = encoder;
    result.insert(result.end(), decoder.begin(), decoder.end());
    result.insert(result.end(), shared.begin(), shared.end());
    return result;
  }

  // Another one, of other operands.
  Problem with(const std::vector<Tensor>& operands) const {
    Problem other = *this;
    size_t next = 0;
    for (Parameters* part : {&other.encoder, &other.decoder, &other.shared}) {
      for (Tensor& operand : *part) operand = operands[next++];
    }
    return other;
  }

  TensorVector likelihood(const Tensor& first, int64_t want) const {
    TensorVector operands = {first};
    operands.append(shared.begin(), shared.end());
    operands.push_back(target);
    return call_loss(loss, operands, std::nullopt, kBatchMean, want);
  }

  bool fits() const {
    const bool is_plain_target = is_plain(target, at::kFloat) || is_plain(target, at::kByte);
    if (x.requires_grad() || target.requires_grad() || !is_plain_target) return false;
    if (target.dim() != 2 || x.dim() != 2 || target.size(0) != x.size(0)) return false;
    for (const Tensor& value : shared) {
      if (!is_plain(value, at::kFloat) || value.dim() != 0) return false;
    }
    const int64_t heads = mlp_outputs(x, x.size(1), encoder);
    return heads > 0 && heads % 2 == 0 && mlp_outputs(x, heads / 2, decoder) == target.size(1);
  }

  // In torch's own ops and this package's, through their nodes.
  Terms through_graph(const Tensor& seed) const {
    const std::vector<Tensor> halves = plain_mlp(x, encoder).chunk(2, 1);
    const auto [z, kl, _] =
        call_sample_kl(halves[0], halves[1], std::nullopt, std::nullopt, seed, kBatchMean, 0);
    return {likelihood(plain_mlp(z, decoder), 0)[0], kl};
  }
};

Tensor times(const Tensor& gradient, const Tensor& upstream) {
  return upstream.item<double>() == 1 ? gradient : gradient * upstream;
}

class ElboBackward : public torch::autograd::Node {
 public:
  ElboBackward(const Problem& problem, const Tensor& seed)
      : layers_{problem.encoder.size() / 2, problem.decoder.size() / 2}, loss_(problem.loss) {
    save(operands_, problem.operands());
    save(constants_, {problem.x, problem.target, seed});
  }

  // What the networks' layers have read (and the encoder's output), and what the likelihood's op
  // has given.
  void save_forward(const std::vector<Tensor>& encoded, const std::vector<Tensor>& decoded,
                    const Tensor& noise, const TensorVector& likelihood) {
    save(encoded_, {encoded.begin() + 1, encoded.end()});
    save(decoded_, {decoded.begin(), decoded.end() - 1});
    save(noise_, {noise});
    save(gradients_, {likelihood.begin() + 1, likelihood.end() - 1});
  }

  std::string name() const override { return "VaeFastBackward[elbo]"; }

  void release_variables() override {
    std::lock_guard<std::mutex> lock(mutex_);
    for (SavedVariables* saved :
         {&operands_, &constants_, &encoded_, &decoded_, &noise_, &gradients_}) {
      for (SavedVariable& variable : *saved) variable.reset_data();
    }
  }

  variable_list apply(variable_list&& upstream) override {
    std::lock_guard<std::mutex> lock(mutex_);
    const auto is_given = [](const Tensor& gradient) { return gradient.defined(); };
    if (std::none_of(upstream.begin(), upstream.end(), is_given)) {
      return variable_list(operands_.size());
    }
    const auto is_special = [](const Tensor& gradient) {
      return gradient.defined() && at::isTensorSubclassLike(gradient);
    };
    const bool through_graph =
        at::GradMode::is_enabled() || std::any_of(upstream.begin(), upstream.end(), is_special);
    return through_graph ? differentiable(upstream) : gradients(upstream[0], upstream[1]);
  }

 private:
  static void save(SavedVariables& saved, const std::vector<Tensor>& tensors) {
    for (const Tensor& tensor : tensors) saved.emplace_back(tensor, false);
  }

  Tensor weight(size_t layer) const { return operands_[2 * layer].unpack(); }

  variable_list gradients(const Tensor& of_nll, const Tensor& of_kl) {
    const auto [encoder_layers, decoder_layers] = layers_;
    const size_t shared = 2 * (encoder_layers + decoder_layers);
    const auto wanted = [&](size_t k) { return task_should_compute_output(k); };
    variable_list result(operands_.size());
    Tensor of_z;
    if (of_nll.defined()) {
      for (size_t k = shared; k < result.size(); ++k) {
        if (wanted(k)) result[k] = times(gradients_[1 + k - shared].unpack().squeeze(), of_nll);
      }
      const variable_list decoder = mlp_gradients(
          decoder_layers, times(gradients_[0].unpack(), of_nll),
          [&](size_t layer) { return decoded_[layer].unpack(); },
          [&](size_t layer) { return weight(encoder_layers + layer); },
          [&](size_t k) { return k == 0 || wanted(2 * encoder_layers + k - 1); });
      of_z = decoder[0];
      std::copy(decoder.begin() + 1, decoder.end(), result.begin() + 2 * encoder_layers);
    }
    bool is_encoder_wanted = false;
    for (size_t k = 0; k < 2 * encoder_layers; ++k) is_encoder_wanted |= wanted(k);
    if (!is_encoder_wanted) return result;
    const std::vector<Tensor> halves = encoded_.back().unpack().chunk(2, 1);
    const auto [of_mu, of_logvar, _, none] =
        call_sample_kl_backward(given(of_z), given(of_kl), halves[0], halves[1], std::nullopt,
                                std::nullopt, noise_[0].unpack(), kBatchMean, kOfBoth);
    const variable_list encoder = mlp_gradients(
        encoder_layers, at::cat({of_mu, of_logvar}, 1),
        [&](size_t layer) {
          return layer == 0 ? constants_[0].unpack() : encoded_[layer - 1].unpack();
        },
        [&](size_t layer) { return weight(layer); },
        [&](size_t k) { return k > 0 && wanted(k - 1); });
    std::copy(encoder.begin() + 1, encoder.end(), result.begin());
    return result;
  }

  variable_list differentiable(const variable_list& upstream) {
    std::vector<Tensor> operands;
    for (const SavedVariable& operand : operands_) operands.push_back(operand.unpack());
    Problem problem{constants_[0].unpack(), constants_[1].unpack(), {}, {}, loss_, {}};
    problem.encoder.resize(2 * layers_.first);
    problem.decoder.resize(2 * layers_.second);
    problem.shared.resize(operands.size() - problem.encoder.size() - problem.decoder.size());
    const Tensor seed = constants_[2].unpack();
    return gradients_through_graph(
        operands, upstream, [&](size_t k) { return task_should_compute_output(k); },
        [&](const std::vector<Tensor>& own) {
          const Terms terms = problem.with(own).through_graph(seed);
          return variable_list{terms.nll, terms.kl};
        });
  }

  std::pair<size_t, size_t> layers_;  // the encoder's and the decoder's
  int loss_;
  SavedVariables operands_;   // Problem::operands
  SavedVariables constants_;  // x, target, seed
  SavedVariables encoded_;    // what the encoder's layers but the first read, and the heads
  SavedVariables decoded_;    // what the decoder's layers read
  SavedVariables noise_;
  SavedVariables gradients_;  // of the nll, in the decoder's output, and in what is shared
};

// None where the modules are to be called.
std::optional<std::pair<Tensor, Tensor>> elbo(const Tensor& x, const Tensor& target,
                                              const Parameters& encoder, const Parameters& decoder,
                                              const std::string& likelihood,
                                              const std::vector<Tensor>& shared,
                                              const OptionalGenerator& generator) {
  const Problem problem{x, target, encoder, decoder, loss_named(likelihood), shared};
  if (!problem.fits()) return std::nullopt;
  const Tensor seed = call_draw_seed(x, generator);
  const std::vector<Tensor> operands = problem.operands();
  c10::intrusive_ptr<ElboBackward> node;
  if (requiring_gradient(operands) != 0) {
    node = c10::make_intrusive<ElboBackward>(problem, seed);
    connect(*node, operands);
  }
  const int64_t want = node ? 1 | requiring_gradient(shared) << 1 : 0;
  Terms terms;
  {
    const at::AutoDispatchBelowADInplaceOrView below_autograd;
    const std::vector<Tensor> encoded = mlp_activations(x, encoder, /*keep=*/true);
    const std::vector<Tensor> halves = encoded.back().chunk(2, 1);
    const auto [z, kl, noise] =
        call_sample_kl(halves[0], halves[1], std::nullopt, std::nullopt, seed, kBatchMean,
                       requiring_gradient(encoder) != 0 ? kOfBoth : 0);
    const std::vector<Tensor> decoded =
        mlp_activations(z, decoder, /*keep=*/static_cast<bool>(node));
    const TensorVector result = problem.likelihood(decoded.back(), want);
    terms = {result[0], kl};
    if (node) node->save_forward(encoded, decoded, noise, result);
  }
  if (node) {
    torch::autograd::set_history(variable_list{terms.nll, terms.kl}, node);
    announce(node);
  }
  return std::make_pair(terms.nll, terms.kl);
}

}  // namespace

void register_elbo(pybind11::module_& module) { module.def("elbo", entry<&elbo>()); }

}  // namespace vae_fast::bindings
