#include "shim.hpp"

#include <thread>

#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

namespace collective {

c10::intrusive_ptr<c10d::Store> rendezvous(
    const Store& store, const char* prefix, std::chrono::milliseconds timeout) {
  auto connection = store.store->clone();
  connection->setTimeout(timeout);
  return c10::make_intrusive<c10d::PrefixStore>(prefix, std::move(connection));
}

void meet(
    c10d::Store& store, int32_t rank, int32_t world, std::chrono::milliseconds timeout, const bool* aborted) {
  std::vector<std::string> all;
  for (int32_t other = 0; other < world; ++other) all.push_back("here/" + std::to_string(other));
  store.set(all[rank], std::string("1"));
  const auto end = std::chrono::steady_clock::now() + timeout;
  while (!store.check(all)) {
    if (__atomic_load_n(aborted, __ATOMIC_ACQUIRE)) C10_THROW_ERROR(DistStoreError, "the meeting was aborted");
    if (std::chrono::steady_clock::now() >= end) C10_THROW_ERROR(DistStoreError, "the meeting timed out");
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
}

}  // namespace collective

using namespace collective;

// Serves on the listening socket `fd`, which the store owns from here on; `host` and `port` are its address.
extern "C" int32_t collective_store_host(
    int32_t fd, const char* host, uint16_t port, int64_t timeout_ms, Store** out, char** message) {
  return guarded(message, [&] {
    c10d::TCPStoreOptions options;
    options.port = port;
    options.isServer = true;
    options.waitWorkers = false;
    options.timeout = std::chrono::milliseconds(timeout_ms);
    options.masterListenFd = fd;
    *out = new Store{c10::make_intrusive<c10d::TCPStore>(host, options)};
  });
}

extern "C" int32_t collective_store_connect(
    const char* host, uint16_t port, int64_t timeout_ms, Store** out, char** message) {
  return guarded(message, [&] {
    c10d::TCPStoreOptions options;
    options.port = port;
    options.isServer = false;
    options.waitWorkers = false;
    options.timeout = std::chrono::milliseconds(timeout_ms);
    *out = new Store{c10::make_intrusive<c10d::TCPStore>(host, options)};
  });
}

extern "C" void collective_store_free(Store* store) {
  delete store;
}
