// The sockets of this process, found by their addresses.
#pragma once

#include <set>
#include <string>
#include <vector>

#include <sys/types.h>

#include "shim.hpp"

namespace collective {

// A local address as bytes: family, port, host.
std::string address_key(const void* sockaddr_storage, size_t size);

// The inodes of all sockets that are open now.
std::set<ino_t> open_sockets();

// Duplicates of the connected sockets that were not open before and whose local address is one of `local`.
class Sockets final : public Line {
 public:
  Sockets(const std::set<ino_t>& before, const std::set<std::string>& local);
  ~Sockets() override;
  Sockets(const Sockets&) = delete;
  Sockets& operator=(const Sockets&) = delete;

  size_t count() const { return duplicates_.size(); }
  void cut() noexcept override;
  int64_t sent() const noexcept override;

 private:
  std::vector<int> duplicates_;
};

}  // namespace collective
