// What decoding on the CPU needs of libtorch and tch does not offer: oneDNN's products with weights packed once, and
// libtorch's own pool of threads (a second pool would fight it for the cores).

#include "shim.hpp"

#include <cstdlib>
#include <optional>
#include <string_view>

#include <ATen/Parallel.h>
#include <ATen/core/dispatch/Dispatcher.h>

namespace {

using Pack = at::Tensor(const at::Tensor&, std::optional<int64_t>);
using Linear = at::Tensor(const at::Tensor&, const at::Tensor&, const std::optional<at::Tensor>&, std::string_view,
                          c10::List<std::optional<at::Scalar>>, std::optional<std::string_view>);
using LinearWith = at::Tensor(const at::Tensor&, const at::Tensor&, const at::Tensor&,
                              const std::optional<at::Tensor>&, std::string_view);

template <typename Signature>
c10::TypedOperatorHandle<Signature> find(const char* name, const char* overload) {
  return c10::Dispatcher::singleton().findSchemaOrThrow(name, overload).typed<Signature>();
}

}  // namespace

extern "C" {

char* model_pack(const at::Tensor* weight, int64_t rows, at::Tensor** out) noexcept {
  return model::guarded([&] {
    static const auto pack = find<Pack>("mkldnn::_reorder_linear_weight", "");
    at::AutoDispatchBelowADInplaceOrView no_autograd;
    *out = new at::Tensor(pack.call(*weight, rows));
  });
}

// `other` joins elementwise by `op` ("add", "mul"); without it `op` is applied to the product ("none", "swish").
char* model_linear(const at::Tensor* x, const at::Tensor* packed, const at::Tensor* bias, const at::Tensor* other,
                   const char* op, at::Tensor** out) noexcept {
  return model::guarded([&] {
    static const auto linear = find<Linear>("mkldnn::_linear_pointwise", "");
    static const auto linear_with = find<LinearWith>("mkldnn::_linear_pointwise", "binary");
    at::AutoDispatchBelowADInplaceOrView no_autograd;
    const auto b = bias ? std::optional<at::Tensor>(*bias) : std::nullopt;
    *out = new at::Tensor(other ? linear_with.call(*x, *other, *packed, b, op)
                                : linear.call(*x, *packed, b, op, c10::List<std::optional<at::Scalar>>(), std::nullopt));
  });
}

// Calls `body(context, begin, end)` over [0, count) on libtorch's threads, at least `grain` at a time.
void model_parallel(int64_t count, int64_t grain, void (*body)(const void*, int64_t, int64_t), const void* context) {
  at::parallel_for(0, count, grain, [&](int64_t begin, int64_t end) { body(context, begin, end); });
}

void model_message_free(char* message) noexcept { std::free(message); }

}  // extern "C"
