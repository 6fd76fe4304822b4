#include "shim.hpp"

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <cstring>
#include <future>
#include <thread>

#include <gloo/common/error.h>

using namespace collective;

namespace collective {
namespace {

Code explain(Code code, const char* text, char** message) noexcept {
  *message = strdup(text);
  return code;
}

bool says_timeout(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(), [](unsigned char c) { return std::tolower(c); });
  return text.find("timed out") != std::string::npos || text.find("timeout") != std::string::npos;
}

// Gloo wraps what broke while connecting in an exception without a type of its own.
bool says_unconnected(const std::string& text) {
  return text.find("connectFullMesh failed") != std::string::npos;
}

Code lost_or_late(const char* text) {
  return says_timeout(text) ? TIMEOUT : PEER_LOST;
}

}  // namespace

Code report(char** message) noexcept {
  try {
    throw;
  } catch (const ::gloo::IoException& error) {
    return explain(lost_or_late(error.what()), error.what(), message);
  } catch (const c10::DistError& error) {
    const char* text = error.what_without_backtrace();
    return explain(lost_or_late(text), text, message);
  } catch (const c10::ValueError& error) {
    return explain(INVALID, error.what_without_backtrace(), message);
  } catch (const c10::Error& error) {
    const char* text = error.what_without_backtrace();
    return explain(says_timeout(text) ? TIMEOUT : INTERNAL, text, message);
  } catch (const std::exception& error) {
    const char* text = error.what();
    return explain(says_unconnected(text) ? lost_or_late(text) : INTERNAL, text, message);
  } catch (...) {
    return explain(INTERNAL, "an exception of an unknown type", message);
  }
}

}  // namespace collective

namespace {

enum Kind : int32_t {
  ALL_REDUCE = 0,
  ALL_GATHER = 1,
  REDUCE_SCATTER = 2,
  ALL_TO_ALL = 3,
  BROADCAST = 4,
  BARRIER = 5,
  SHIFT = 6
};

c10d::ReduceOp reduction(int32_t reduce) {
  switch (reduce) {
    case 0:
      return c10d::ReduceOp::SUM;
    case 1:
      return c10d::ReduceOp::MIN;
    case 2:
      return c10d::ReduceOp::MAX;
    default:
      TORCH_CHECK_VALUE(false, "no reduction has the number ", reduce);
  }
}

c10::intrusive_ptr<c10d::Work> start(
    c10d::Backend& backend, int32_t kind, int32_t reduce, int32_t root, at::Tensor* output, at::Tensor* input) {
  switch (kind) {
    case ALL_REDUCE: {
      std::vector<at::Tensor> tensors{*output};
      c10d::AllreduceOptions options;
      options.reduceOp = reduction(reduce);
      return backend.allreduce(tensors, options);
    }
    case ALL_GATHER:
      return backend._allgather_base(*output, *input);
    case REDUCE_SCATTER: {
      c10d::ReduceScatterOptions options;
      options.reduceOp = reduction(reduce);
      return backend._reduce_scatter_base(*output, *input, options);
    }
    case ALL_TO_ALL: {
      std::vector<int64_t> even;
      return backend.alltoall_base(*output, *input, even, even);
    }
    case SHIFT: {
      // All to all in which everything goes to one rank, and comes from one.
      const int64_t world = backend.getSize(), rank = backend.getRank(), by = root;
      std::vector<int64_t> taken(world, 0), given(world, 0);
      taken[(rank + world - by) % world] = output->numel();
      given[(rank + by) % world] = input->numel();
      return backend.alltoall_base(*output, *input, taken, given);
    }
    case BROADCAST: {
      std::vector<at::Tensor> tensors{*output};
      c10d::BroadcastOptions options;
      options.rootRank = root;
      return backend.broadcast(tensors, options);
    }
    case BARRIER:
      return backend.barrier();
    default:
      TORCH_CHECK_VALUE(false, "no operation has the number ", kind);
  }
}

}  // namespace

extern "C" int32_t collective_group_start(
    Group* group, int32_t kind, int32_t reduce, int32_t root, at::Tensor* output, at::Tensor* input, Work** out,
    char** message) {
  return guarded(message, [&] {
    auto work = start(*group->backend, kind, reduce, root, output, input);
    if (group->cut_on_failure) {
      work->getFuture()->addCallback([line = group->line](c10::ivalue::Future& future) {
        if (future.hasError()) line->cut();
      });
    }
    *out = new Work{std::move(work)};
  });
}

// Waits at most `deadline_ms`, which is at least 1. A TIMEOUT leaves the operation running.
extern "C" int32_t collective_work_wait(Work* work, int64_t deadline_ms, char** message) {
  return guarded(message, [&] { work->work->wait(std::chrono::milliseconds(deadline_ms)); });
}

extern "C" bool collective_work_is_completed(Work* work) {
  char* message = nullptr;
  bool completed = true;
  guarded(&message, [&] { completed = work->work->isCompleted(); });
  std::free(message);
  return completed;
}

extern "C" void collective_work_free(Work* work) {
  delete work;
}

extern "C" std::shared_ptr<Line>* collective_group_line(Group* group) {
  return new std::shared_ptr<Line>(group->line);
}

extern "C" void collective_line_cut(std::shared_ptr<Line>* line) {
  (*line)->cut();
}

extern "C" int64_t collective_line_sent(std::shared_ptr<Line>* line) {
  return (*line)->sent();
}

extern "C" void collective_line_free(std::shared_ptr<Line>* line) {
  delete line;
}

// Frees the group on a thread of its own, because that waits for operations that still run (cut the line first).
// Returns when it is freed, or after `limit_ms`.
extern "C" void collective_group_free(Group* group, int64_t limit_ms) {
  std::promise<void> freed;
  auto is_freed = freed.get_future();
  try {
    std::thread([group, freed = std::move(freed)]() mutable {
      delete group;
      freed.set_value();
    }).detach();
  } catch (...) {
    // There can be no more threads.
    delete group;
    return;
  }
  is_freed.wait_for(std::chrono::milliseconds(limit_ms));
}

extern "C" void collective_message_free(char* message) {
  std::free(message);
}
