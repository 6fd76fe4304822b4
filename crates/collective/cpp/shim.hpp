// What the shim's parts share. Every function of the C ABI returns a Code and, unless it is OK, a message
// that the caller frees with collective_message_free.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>

#include <torch/csrc/distributed/c10d/Backend.hpp>
#include <torch/csrc/distributed/c10d/Store.hpp>

namespace collective {

enum Code : int32_t { OK = 0, TIMEOUT = 1, PEER_LOST = 2, INVALID = 3, INTERNAL = 4 };

// An operation that nobody ends by a shutdown ends by itself after this.
constexpr std::chrono::milliseconds kOperationLimit = std::chrono::hours(1);

// A group's connections to its peers: cut from any thread, for good, without waiting.
struct Line {
  virtual ~Line() = default;
  virtual void cut() noexcept = 0;
  // Bytes that the kernel sent to the peers, repetitions left out; -1 where it does not say.
  virtual int64_t sent() const noexcept { return -1; }
};

struct Store {
  c10::intrusive_ptr<c10d::Store> store;
};

struct Group {
  c10::intrusive_ptr<c10d::Backend> backend;
  std::shared_ptr<Line> line;
  // Whether the first failed operation cuts the line, so that the loss of one peer reaches all at once.
  bool cut_on_failure;
};

struct Work {
  c10::intrusive_ptr<c10d::Work> work;
};

// Classifies the exception in flight; only to be called within a catch block.
Code report(char** message) noexcept;

template <class Body>
int32_t guarded(char** message, Body&& body) noexcept {
  try {
    body();
    return OK;
  } catch (...) {
    return report(message);
  }
}

// The store under a prefix, on a connection of its own that waits for keys at most `timeout`.
c10::intrusive_ptr<c10d::Store> rendezvous(
    const Store& store, const char* prefix, std::chrono::milliseconds timeout);

// Says on the store that this rank has come, and waits at most `timeout` until all `world` have. Another thread may
// set `aborted`, which ends it within milliseconds, as does the store's end.
void meet(
    c10d::Store& store, int32_t rank, int32_t world, std::chrono::milliseconds timeout, const bool* aborted);

}  // namespace collective
