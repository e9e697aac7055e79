#include "calls/schemas.h"

#include "calls/checks.h"

namespace vae_fast::calls {
namespace {

std::string operands_of(const LossInfo& info) {
  std::string result;
  for (int k = 0; k < info.operand_count; ++k) result += text("Tensor ", info.operands[k], ", ");
  return result + "Tensor? mask, int keep, int mean_dims, int want";
}

std::string gradients_of(const LossInfo& info) {
  std::string result;
  for (int k = 0; k < info.operand_count; ++k) {
    result += text(k == 0 ? "" : ", ", "Tensor grad_", info.operands[k]);
  }
  return result;
}

}  // namespace

std::vector<std::string> loss_schemas() {
  std::vector<std::string> schemas;
  for (int loss = 0; loss < kLossCount; ++loss) {
    const LossInfo& info = loss_info(loss);
    const std::string operands = operands_of(info), gradients = gradients_of(info);
    schemas.push_back(text(info.name, "(", operands, "=0) -> (Tensor value, ", gradients, ")"));
    schemas.push_back(
        text(info.name, "_backward(Tensor upstream, ", operands, ") -> (", gradients, ")"));
  }
  return schemas;
}

}  // namespace vae_fast::calls
