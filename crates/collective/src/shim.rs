//! The C ABI of the C++ shim, and the handles that own what it returns.

use std::ffi::{CStr, CString, c_char};
use std::net::SocketAddr;
use std::os::fd::{IntoRawFd, OwnedFd};
use std::ptr::{self, NonNull};
use std::time::Duration;

use tch::Tensor;
use torch_sys::C_tensor;

use crate::{Error, Patience, ReduceOp, Result};

macro_rules! opaque {
    ($($name:ident),*) => { $(
        #[repr(C)]
        struct $name {
            _private: [u8; 0],
        }
    )* };
}
opaque!(RawStore, RawGroup, RawWork, RawLine);

unsafe extern "C" {
    fn collective_store_host(
        fd: i32,
        host: *const c_char,
        port: u16,
        timeout_ms: i64,
        out: *mut *mut RawStore,
        message: *mut *mut c_char,
    ) -> i32;
    fn collective_store_connect(
        host: *const c_char,
        port: u16,
        timeout_ms: i64,
        out: *mut *mut RawStore,
        message: *mut *mut c_char,
    ) -> i32;
    fn collective_store_free(store: *mut RawStore);
    fn collective_gloo_form(
        store: *mut RawStore,
        prefix: *const c_char,
        rank: i32,
        world: i32,
        host: *const c_char,
        interface: *const c_char,
        timeout_ms: i64,
        aborted: *const bool,
        out: *mut *mut RawGroup,
        message: *mut *mut c_char,
    ) -> i32;
    #[cfg(feature = "nccl")]
    fn collective_nccl_form(
        store: *mut RawStore,
        prefix: *const c_char,
        rank: i32,
        world: i32,
        device: i32,
        timeout_ms: i64,
        aborted: *const bool,
        out: *mut *mut RawGroup,
        message: *mut *mut c_char,
    ) -> i32;
    fn collective_group_start(
        group: *mut RawGroup,
        kind: i32,
        reduce: i32,
        root: i32,
        output: *const C_tensor,
        input: *const C_tensor,
        out: *mut *mut RawWork,
        message: *mut *mut c_char,
    ) -> i32;
    fn collective_group_line(group: *mut RawGroup) -> *mut RawLine;
    fn collective_group_free(group: *mut RawGroup, limit_ms: i64);
    fn collective_work_wait(work: *mut RawWork, deadline_ms: i64, message: *mut *mut c_char) -> i32;
    fn collective_work_is_completed(work: *mut RawWork) -> bool;
    fn collective_work_free(work: *mut RawWork);
    fn collective_line_cut(line: *mut RawLine);
    fn collective_line_sent(line: *mut RawLine) -> i64;
    fn collective_line_free(line: *mut RawLine);
    fn collective_storage_release(tensor: *const C_tensor, message: *mut *mut c_char) -> i32;
    fn collective_storage_restore(tensor: *const C_tensor, message: *mut *mut c_char) -> i32;
    fn collective_message_free(message: *mut c_char);
}

/// What the shim says of a failed call, before it is known what was called.
#[derive(Debug)]
pub(crate) enum Failure {
    Timeout,
    PeerLost(String),
    Invalid(String),
    Internal(String),
}

impl Failure {
    /// The typed error, where a timeout needs no more than this.
    pub(crate) fn or_timeout(self, timeout: Error) -> Error {
        match self {
            Self::Timeout => timeout,
            Self::PeerLost(detail) => Error::PeerLost { detail },
            Self::Invalid(what) => Error::Unsupported { what },
            Self::Internal(detail) => Error::Internal { detail },
        }
    }
}

/// An operation as the shim numbers it, with what it needs.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Call<'a> {
    AllReduce {
        tensor: &'a Tensor,
        op: ReduceOp,
    },
    AllGather {
        output: &'a Tensor,
        input: &'a Tensor,
    },
    #[cfg_attr(not(feature = "nccl"), allow(dead_code, reason = "Gloo has none that honours a deadline"))]
    ReduceScatter {
        output: &'a Tensor,
        input: &'a Tensor,
        op: ReduceOp,
    },
    AllToAll {
        output: &'a Tensor,
        input: &'a Tensor,
    },
    Broadcast {
        tensor: &'a Tensor,
        root: usize,
    },
    Shift {
        output: &'a Tensor,
        input: &'a Tensor,
        by: usize,
    },
    Barrier,
}

/// Runs a shim function and turns its code and message into a result.
fn call(function: impl FnOnce(*mut *mut c_char) -> i32) -> std::result::Result<(), Failure> {
    let mut message: *mut c_char = ptr::null_mut();
    let code = function(&mut message);
    let text = if message.is_null() {
        String::new()
    } else {
        // SAFETY: the shim's messages end in a zero byte and are ours until freed, once, here.
        unsafe {
            let text = CStr::from_ptr(message).to_string_lossy().into_owned();
            collective_message_free(message);
            text
        }
    };
    match code {
        0 => Ok(()),
        1 => Err(Failure::Timeout),
        2 => Err(Failure::PeerLost(text)),
        3 => Err(Failure::Invalid(text)),
        _ => Err(Failure::Internal(text)),
    }
}

fn owned<T>(pointer: *mut T) -> std::result::Result<NonNull<T>, Failure> {
    NonNull::new(pointer).ok_or_else(|| Failure::Internal("the shim returned nothing".into()))
}

fn text(value: &str) -> std::result::Result<CString, Failure> {
    CString::new(value).map_err(|_| Failure::Invalid(format!("{value:?} holds a zero byte")))
}

/// At least a millisecond (0 would mean for ever), at most the shim's limit of an operation.
fn milliseconds(time: Duration) -> i64 {
    time.min(Duration::from_secs(3600)).as_millis().max(1) as i64
}

#[derive(Debug)]
pub(crate) struct StoreHandle(NonNull<RawStore>);

// SAFETY: c10d's stores lock around every request and hold no tensors.
unsafe impl Send for StoreHandle {}
// SAFETY: as above.
unsafe impl Sync for StoreHandle {}

impl StoreHandle {
    pub(crate) fn host(
        listener: OwnedFd,
        address: SocketAddr,
        timeout: Duration,
    ) -> std::result::Result<Self, Failure> {
        let host = text(&address.ip().to_string())?;
        let mut out = ptr::null_mut();
        call(|message| {
            // SAFETY: the strings and out-pointers live through the call; the shim takes over the descriptor.
            unsafe {
                collective_store_host(
                    listener.into_raw_fd(),
                    host.as_ptr(),
                    address.port(),
                    milliseconds(timeout),
                    &mut out,
                    message,
                )
            }
        })?;
        owned(out).map(Self)
    }

    pub(crate) fn connect(address: SocketAddr, timeout: Duration) -> std::result::Result<Self, Failure> {
        let host = text(&address.ip().to_string())?;
        let mut out = ptr::null_mut();
        call(|message| {
            // SAFETY: the strings and out-pointers live through the call.
            unsafe {
                collective_store_connect(
                    host.as_ptr(),
                    address.port(),
                    milliseconds(timeout),
                    &mut out,
                    message,
                )
            }
        })?;
        owned(out).map(Self)
    }
}

impl Drop for StoreHandle {
    fn drop(&mut self) {
        // SAFETY: the pointer came from the shim and is freed once.
        unsafe { collective_store_free(self.0.as_ptr()) }
    }
}

/// A c10d process group. Its queue may hold tensors, so it stays on the thread that formed it.
#[derive(Debug)]
pub(crate) struct GroupHandle(NonNull<RawGroup>);

impl GroupHandle {
    pub(crate) fn form_gloo(
        store: &StoreHandle,
        prefix: &str,
        (rank, world): (i32, i32),
        bind: &crate::Bind,
        patience: &Patience,
    ) -> std::result::Result<Self, Failure> {
        let prefix = text(prefix)?;
        let (host, interface) = match bind {
            crate::Bind::Host(host) => (Some(text(host)?), None),
            crate::Bind::Interface(name) => (None, Some(text(name)?)),
        };
        let pointer = |value: &Option<CString>| value.as_ref().map_or(ptr::null(), |value| value.as_ptr());
        let mut out = ptr::null_mut();
        call(|message| {
            // SAFETY: the store, the strings, the flag (read atomically) and the out-pointers live through the call;
            // one of host and interface is not null.
            unsafe {
                collective_gloo_form(
                    store.0.as_ptr(),
                    prefix.as_ptr(),
                    rank,
                    world,
                    pointer(&host),
                    pointer(&interface),
                    milliseconds(patience.timeout()),
                    patience.flag(),
                    &mut out,
                    message,
                )
            }
        })?;
        owned(out).map(Self)
    }

    #[cfg(feature = "nccl")]
    pub(crate) fn form_nccl(
        store: &StoreHandle,
        prefix: &str,
        (rank, world): (i32, i32),
        device: i32,
        patience: &Patience,
    ) -> std::result::Result<Self, Failure> {
        let prefix = text(prefix)?;
        let mut out = ptr::null_mut();
        call(|message| {
            // SAFETY: the store, the string, the flag (read atomically) and the out-pointers live through the call.
            unsafe {
                collective_nccl_form(
                    store.0.as_ptr(),
                    prefix.as_ptr(),
                    rank,
                    world,
                    device,
                    milliseconds(patience.timeout()),
                    patience.flag(),
                    &mut out,
                    message,
                )
            }
        })?;
        owned(out).map(Self)
    }

    /// Starts an operation; the caller keeps its tensors until [`WorkHandle::is_completed`].
    pub(crate) fn start(&self, operation: Call<'_>) -> std::result::Result<WorkHandle, Failure> {
        let number = |op: ReduceOp| match op {
            ReduceOp::Sum => 0,
            ReduceOp::Min => 1,
            ReduceOp::Max => 2,
        };
        let (kind, reduce, root, output, input) = match operation {
            Call::AllReduce { tensor, op } => (0, number(op), 0, Some(tensor), None),
            Call::AllGather { output, input } => (1, 0, 0, Some(output), Some(input)),
            Call::ReduceScatter { output, input, op } => (2, number(op), 0, Some(output), Some(input)),
            Call::AllToAll { output, input } => (3, 0, 0, Some(output), Some(input)),
            Call::Broadcast { tensor, root } => (4, 0, root as i32, Some(tensor), None),
            Call::Barrier => (5, 0, 0, None, None),
            Call::Shift { output, input, by } => (6, 0, by as i32, Some(output), Some(input)),
        };
        let pointer = |tensor: Option<&Tensor>| tensor.map_or(ptr::null(), Tensor::as_ptr);
        let mut out = ptr::null_mut();
        call(|message| {
            // SAFETY: the group and the tensors live through the call, in which the shim takes references of
            // its own; the kinds name the tensors that they use, and those are not null.
            unsafe {
                collective_group_start(
                    self.0.as_ptr(),
                    kind,
                    reduce,
                    root,
                    pointer(output),
                    pointer(input),
                    &mut out,
                    message,
                )
            }
        })?;
        owned(out).map(WorkHandle)
    }

    pub(crate) fn line(&self) -> LineHandle {
        // SAFETY: the group lives; the shim allocates and so never returns null.
        unsafe { LineHandle(NonNull::new_unchecked(collective_group_line(self.0.as_ptr()))) }
    }
}

impl GroupHandle {
    /// Frees the group, which waits for whatever still runs in it; returns when that is done, or after `limit`.
    pub(crate) fn free_within(self, limit: Duration) {
        let group = std::mem::ManuallyDrop::new(self);
        // SAFETY: the pointer came from the shim and is freed once: the handle is not dropped.
        unsafe { collective_group_free(group.0.as_ptr(), milliseconds(limit)) }
    }
}

impl Drop for GroupHandle {
    fn drop(&mut self) {
        // SAFETY: the pointer came from the shim and is freed once.
        unsafe { collective_group_free(self.0.as_ptr(), milliseconds(Duration::MAX)) }
    }
}

/// An operation of a c10d process group.
#[derive(Debug)]
pub(crate) struct WorkHandle(NonNull<RawWork>);

impl WorkHandle {
    pub(crate) fn wait(&self, deadline: Duration) -> std::result::Result<(), Failure> {
        call(|message| {
            // SAFETY: the work lives; the shim writes a message or none.
            unsafe { collective_work_wait(self.0.as_ptr(), milliseconds(deadline), message) }
        })
    }

    pub(crate) fn is_completed(&self) -> bool {
        // SAFETY: the work lives.
        unsafe { collective_work_is_completed(self.0.as_ptr()) }
    }
}

impl Drop for WorkHandle {
    fn drop(&mut self) {
        // SAFETY: the pointer came from the shim and is freed once.
        unsafe { collective_work_free(self.0.as_ptr()) }
    }
}

/// A group's connections, which any thread may cut.
#[derive(Debug)]
pub(crate) struct LineHandle(NonNull<RawLine>);

// SAFETY: a line holds descriptors or a weak reference to the group, no tensors, and cutting needs no lock.
unsafe impl Send for LineHandle {}
// SAFETY: as above.
unsafe impl Sync for LineHandle {}

impl LineHandle {
    pub(crate) fn cut(&self) {
        // SAFETY: the line lives.
        unsafe { collective_line_cut(self.0.as_ptr()) }
    }
}

impl LineHandle {
    /// Bytes that the kernel sent to the peers; none where it does not say.
    pub(crate) fn sent(&self) -> Option<u64> {
        // SAFETY: the line lives, and what it reads nobody writes.
        u64::try_from(unsafe { collective_line_sent(self.0.as_ptr()) }).ok()
    }
}

impl Drop for LineHandle {
    fn drop(&mut self) {
        // SAFETY: the pointer came from the shim and is freed once.
        unsafe { collective_line_free(self.0.as_ptr()) }
    }
}

/// Frees the memory of a tensor that has all of its storage; see [`crate::Buffer::release`] for what that asks.
pub(crate) fn release_storage(tensor: &Tensor) -> std::result::Result<(), Failure> {
    // SAFETY: the tensor lives through the call; its caller answers for the views.
    call(|message| unsafe { collective_storage_release(tensor.as_ptr(), message) })
}

/// Gives such a tensor memory again.
pub(crate) fn restore_storage(tensor: &Tensor) -> std::result::Result<(), Failure> {
    // SAFETY: the tensor lives through the call.
    call(|message| unsafe { collective_storage_restore(tensor.as_ptr(), message) })
}

/// Helper for callers that have a use for the typed result only.
pub(crate) trait Typed<T> {
    fn typed(self, timeout: impl FnOnce() -> Error) -> Result<T>;
}

impl<T> Typed<T> for std::result::Result<T, Failure> {
    fn typed(self, timeout: impl FnOnce() -> Error) -> Result<T> {
        self.map_err(|failure| failure.or_timeout(timeout()))
    }
}
