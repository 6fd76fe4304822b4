#include "shim.hpp"
#include "sockets.hpp"

#include <gloo/rendezvous/context.h>
#include <gloo/transport/address.h>
#include <gloo/transport/pair.h>

#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>

using namespace collective;

namespace {

// Opens what the base class keeps to itself: the connections.
class Mesh final : public c10d::ProcessGroupGloo {
 public:
  using ProcessGroupGloo::ProcessGroupGloo;

  // The local addresses of the connections to all peers.
  std::set<std::string> local_addresses() const {
    std::set<std::string> keys;
    for (const auto& context : contexts_) {
      for (int peer = 0; peer < getSize(); ++peer) {
        if (peer == getRank()) continue;
        const auto bytes = context->getPair(peer)->address().bytes();
        keys.insert(address_key(bytes.data(), bytes.size()));
      }
    }
    return keys;
  }
};

}  // namespace

// Binds to `interface` where it is not null, else to `host`.
extern "C" int32_t collective_gloo_form(
    Store* store, const char* prefix, int32_t rank, int32_t world, const char* host, const char* interface,
    int64_t timeout_ms, const bool* aborted, Group** out, char** message) {
  return guarded(message, [&] {
    const auto timeout = std::chrono::milliseconds(timeout_ms);
    auto options = c10d::ProcessGroupGloo::Options::create(timeout);
    options->devices.push_back(
        interface != nullptr ? c10d::ProcessGroupGloo::createDeviceForInterface(interface)
                             : c10d::ProcessGroupGloo::createDeviceForHostname(host));
    auto meeting = rendezvous(*store, prefix, timeout);
    // Gloo cannot be interrupted while it connects: it begins when all are there.
    meet(*meeting, rank, world, timeout, aborted);
    const auto before = open_sockets();
    auto mesh = c10::make_intrusive<Mesh>(meeting, rank, world, options);
    auto sockets = std::make_shared<Sockets>(before, mesh->local_addresses());
    TORCH_CHECK(
        sockets->count() == static_cast<size_t>(world - 1), "found ", sockets->count(), " sockets of a group with ",
        world - 1, " peers: is Gloo's header of another version than libtorch?");
    // No rank has formed before all have: one that leaves early must not break the forming of the others.
    try {
      mesh->barrier()->wait(timeout);
    } catch (...) {
      sockets->cut();
      throw;
    }
    mesh->setTimeout(kOperationLimit);
    *out = new Group{std::move(mesh), std::move(sockets), true};
  });
}
