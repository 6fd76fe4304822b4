// Functions whose derivative is computed in Rust, as nodes of libtorch's graph; and backward from a given gradient.

#include "shim.hpp"

#include <vector>

#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Fills `gradients` with `inputs` new tensors.
using Backward = void (*)(const void* context, at::Tensor* const* saved, int64_t count, const at::Tensor* gradient,
                          at::Tensor** gradients);

// The Rust side of a node.
struct Context : torch::CustomClassHolder {
  void* rust;
  Backward backward;
  void (*drop)(void*);
  ~Context() override { drop(rust); }
};

// What forward has computed already: no variable in libtorch's eyes.
struct Made {
  at::Tensor value;
  variable_list saved;
  c10::intrusive_ptr<Context> context;
};

struct Node : torch::autograd::Function<Node> {
  static at::Tensor forward(AutogradContext* graph, at::TensorList inputs, const Made* made) {
    graph->save_for_backward(made->saved);
    graph->saved_data["context"] = at::IValue::make_capsule(made->context);
    graph->saved_data["inputs"] = static_cast<int64_t>(inputs.size());
    return made->value;
  }

  static variable_list backward(AutogradContext* graph, const variable_list& gradients) {
    const auto capsule = graph->saved_data["context"].toCapsule();
    const auto* context = static_cast<const Context*>(capsule.get());
    auto saved = graph->get_saved_variables();
    std::vector<at::Tensor*> borrowed;
    for (auto& tensor : saved) borrowed.push_back(&tensor);
    std::vector<at::Tensor*> made(graph->saved_data["inputs"].toInt(), nullptr);
    context->backward(context->rust, borrowed.data(), static_cast<int64_t>(borrowed.size()), &gradients[0], made.data());
    variable_list out;
    for (auto* tensor : made) {
      out.push_back(std::move(*tensor));
      delete tensor;
    }
    out.emplace_back();  // of `made`
    return out;
  }
};

}  // namespace

extern "C" {

char* model_node(const at::Tensor* const* inputs, int64_t input_count, const at::Tensor* value,
                 const at::Tensor* const* saved, int64_t saved_count, void* rust, Backward backward,
                 void (*drop)(void*), at::Tensor** out) noexcept {
  auto context = c10::make_intrusive<Context>();
  context->rust = rust;
  context->backward = backward;
  context->drop = drop;
  return model::guarded([&] {
    variable_list list;
    for (int64_t i = 0; i < input_count; ++i) list.push_back(*inputs[i]);
    Made made{*value, {}, context};
    for (int64_t i = 0; i < saved_count; ++i) made.saved.push_back(*saved[i]);
    *out = new at::Tensor(Node::apply(at::TensorList(list), static_cast<const Made*>(&made)));
  });
}

// Backward from `value` with its gradient, into the leaves' gradients.
char* model_backward(const at::Tensor* value, const at::Tensor* gradient) noexcept {
  return model::guarded([&] { torch::autograd::backward({*value}, {*gradient}); });
}

}  // extern "C"
