#pragma once

#include <cstring>

#include <ATen/ATen.h>

namespace model {

// Runs `body`; null, or what went wrong, which `model_message_free` frees.
template <typename Body>
char* guarded(Body body) noexcept {
  try {
    body();
    return nullptr;
  } catch (const c10::Error& error) {
    return strdup(error.what_without_backtrace());
  } catch (const std::exception& error) {
    return strdup(error.what());
  }
}

}  // namespace model
