#include "shim.hpp"

#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>

using namespace collective;

namespace {

// Aborts the communicators; the group may be gone by then.
class Communicators final : public Line {
 public:
  explicit Communicators(const c10::intrusive_ptr<c10d::Backend>& backend) : backend_(backend) {}

  void cut() noexcept override {
    try {
      if (auto backend = backend_.lock()) backend->abort();
    } catch (...) {
      // What cannot be aborted ends with the operation limit.
    }
  }

 private:
  c10::weak_intrusive_ptr<c10d::Backend> backend_;
};

}  // namespace

extern "C" int32_t collective_nccl_form(
    Store* store, const char* prefix, int32_t rank, int32_t world, int32_t device, int64_t timeout_ms, const bool* aborted,
    Group** out, char** message) {
  return guarded(message, [&] {
    const auto timeout = std::chrono::milliseconds(timeout_ms);
    auto options = c10d::ProcessGroupNCCL::Options::create();
    options->timeout = kOperationLimit;
    auto meeting = rendezvous(*store, prefix, timeout);
    meet(*meeting, rank, world, timeout, aborted);
    c10::intrusive_ptr<c10d::Backend> backend =
        c10::make_intrusive<c10d::ProcessGroupNCCL>(std::move(meeting), rank, world, options);
    const at::Device gpu(at::kCUDA, static_cast<c10::DeviceIndex>(device));
    backend->setBoundDeviceId(gpu);
    // The communicator forms now, within the deadline, and not with the first operation.
    backend->eagerConnectSingleDevice(gpu);
    auto line = std::make_shared<Communicators>(backend);
    *out = new Group{std::move(backend), std::move(line), false};
  });
}
