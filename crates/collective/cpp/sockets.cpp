#include "sockets.hpp"

#include <cstddef>
#include <cstdlib>
#include <cstring>

#include <dirent.h>
#include <fcntl.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

namespace collective {
namespace {

template <class Visit>
void each_socket(Visit&& visit) {
  std::unique_ptr<DIR, int (*)(DIR*)> folder(opendir("/proc/self/fd"), closedir);
  TORCH_CHECK(folder != nullptr, "cannot list /proc/self/fd: ", std::strerror(errno));
  while (const dirent* entry = readdir(folder.get())) {
    char* end = nullptr;
    const long number = std::strtol(entry->d_name, &end, 10);
    if (end == entry->d_name || *end != '\0') continue;
    struct stat status {};
    const int fd = static_cast<int>(number);
    if (fstat(fd, &status) == 0 && S_ISSOCK(status.st_mode)) visit(fd, status.st_ino);
  }
}

std::string local_key(int fd) {
  sockaddr_storage address{};
  socklen_t size = sizeof(address);
  if (getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) != 0) return {};
  return address_key(&address, sizeof(address));
}

bool connected(int fd) {
  sockaddr_storage address{};
  socklen_t size = sizeof(address);
  return getpeername(fd, reinterpret_cast<sockaddr*>(&address), &size) == 0;
}

}  // namespace

std::string address_key(const void* bytes, size_t size) {
  sockaddr_storage address{};
  std::memcpy(&address, bytes, std::min(size, sizeof(address)));
  std::string key;
  const auto append = [&key](const auto& value) {
    key.append(reinterpret_cast<const char*>(&value), sizeof(value));
  };
  append(address.ss_family);
  if (address.ss_family == AF_INET) {
    const auto& v4 = reinterpret_cast<const sockaddr_in&>(address);
    append(v4.sin_port);
    append(v4.sin_addr);
  } else if (address.ss_family == AF_INET6) {
    const auto& v6 = reinterpret_cast<const sockaddr_in6&>(address);
    append(v6.sin6_port);
    append(v6.sin6_addr);
  } else {
    return {};
  }
  return key;
}

std::set<ino_t> open_sockets() {
  std::set<ino_t> inodes;
  each_socket([&](int, ino_t inode) { inodes.insert(inode); });
  return inodes;
}

Sockets::Sockets(const std::set<ino_t>& before, const std::set<std::string>& local) {
  std::vector<int> matching;
  each_socket([&](int fd, ino_t inode) {
    if (before.count(inode) == 0 && local.count(local_key(fd)) != 0 && connected(fd)) matching.push_back(fd);
  });
  for (const int fd : matching) {
    const int duplicate = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (duplicate < 0) continue;
    // Another thread may have closed and reused the number in between.
    if (local.count(local_key(duplicate)) != 0) {
      duplicates_.push_back(duplicate);
    } else {
      close(duplicate);
    }
  }
}

Sockets::~Sockets() {
  for (const int fd : duplicates_) close(fd);
}

int64_t Sockets::sent() const noexcept {
  int64_t total = 0;
  for (const int fd : duplicates_) {
    tcp_info info{};
    socklen_t size = sizeof(info);
    if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) != 0) return -1;
    if (size < offsetof(tcp_info, tcpi_bytes_retrans) + sizeof(info.tcpi_bytes_retrans)) return -1;
    total += static_cast<int64_t>(info.tcpi_bytes_sent - info.tcpi_bytes_retrans);
  }
  return total;
}

void Sockets::cut() noexcept {
  for (const int fd : duplicates_) ::shutdown(fd, SHUT_RDWR);
}

}  // namespace collective
