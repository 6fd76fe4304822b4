#include "shim.hpp"

using namespace collective;

// Frees the memory of a tensor that has all of its storage; views of it stay, and must not be read.
extern "C" int32_t collective_storage_release(at::Tensor* tensor, char** message) {
  return guarded(message, [&] {
    c10::StorageImpl* storage = tensor->storage().unsafeGetStorageImpl();
    storage->set_data_ptr_noswap(at::DataPtr(nullptr, tensor->device()));
    storage->set_nbytes(static_cast<size_t>(0));
  });
}

// Gives it memory again, of unknown content.
extern "C" int32_t collective_storage_restore(at::Tensor* tensor, char** message) {
  return guarded(message, [&] {
    c10::StorageImpl* storage = tensor->storage().unsafeGetStorageImpl();
    const size_t bytes = static_cast<size_t>(tensor->numel()) * tensor->element_size();
    storage->set_data_ptr_noswap(storage->allocator()->allocate(bytes));
    storage->set_nbytes(bytes);
  });
}
