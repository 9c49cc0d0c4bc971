// SPDX-License-Identifier: Apache-2.0
#include <bight/shared_memory.hpp>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <limits>

namespace bight {
namespace {

constexpr int kSeals = F_SEAL_SHRINK | F_SEAL_GROW;

[[noreturn]] void fail(int error, const char* what) { throw std::system_error(error, std::generic_category(), what); }

}  // namespace

struct SharedMemory::Mapping {
  Mapping(Fd owned, std::size_t bytes) : fd(std::move(owned)), size(bytes) {
    void* where = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
    if (where == MAP_FAILED) fail(errno, "map shared memory");
    data = static_cast<std::byte*>(where);
  }
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  ~Mapping() { ::munmap(data, size); }

  Fd fd;
  std::size_t size;
  std::byte* data = nullptr;
};

SharedMemory::SharedMemory(std::size_t size) {
  if (size == 0) fail(EINVAL, "make shared memory of no bytes");
  if (size > static_cast<std::size_t>(std::numeric_limits<off_t>::max())) fail(ENOMEM, "make shared memory");
  Fd fd(::memfd_create("bight shared memory", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!fd) fail(errno, "make shared memory: memfd_create");
  if (::ftruncate(fd.get(), static_cast<off_t>(size)) != 0) fail(errno, "make shared memory: ftruncate");
  if (::fcntl(fd.get(), F_ADD_SEALS, kSeals | F_SEAL_SEAL) != 0) fail(errno, "make shared memory: seal it");
  mapping_ = std::make_shared<Mapping>(std::move(fd), size);
}

SharedMemory::SharedMemory(Fd fd) {
  struct ::stat status {};
  const int seals = ::fcntl(fd.get(), F_GET_SEALS);
  if (seals < 0 && errno == EBADF) fail(errno, "take over shared memory");
  if (seals < 0 || (seals & kSeals) != kSeals) fail(EINVAL, "take over shared memory that is not sealed");
  if (::fstat(fd.get(), &status) != 0) fail(errno, "take over shared memory: fstat");
  if (status.st_size <= 0) fail(EINVAL, "take over shared memory of no bytes");
  mapping_ = std::make_shared<Mapping>(std::move(fd), static_cast<std::size_t>(status.st_size));
}

std::size_t SharedMemory::size() const noexcept { return mapping_ != nullptr ? mapping_->size : 0; }
std::byte* SharedMemory::data() const noexcept { return mapping_ != nullptr ? mapping_->data : nullptr; }
int SharedMemory::fd() const noexcept { return mapping_ != nullptr ? mapping_->fd.get() : -1; }

}  // namespace bight
