//! Forked processes and memory that they share, for the test and the bench of the ring.

use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, munmap};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid};
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;

/// Zeroed memory that is the same in this process and those it forks.
pub struct SharedMemory {
    address: NonNull<u8>,
    bytes: NonZeroUsize,
}

impl SharedMemory {
    /// Maps so many bytes.
    pub fn new(bytes: usize) -> Self {
        let bytes = NonZeroUsize::new(bytes).expect("a size");
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: the kernel chooses where.
        let address = unsafe { mmap_anonymous(None, bytes, access, MapFlags::MAP_SHARED) };
        Self { address: address.expect("memory to share").cast(), bytes }
    }

    /// Where it begins, on a boundary of a page.
    pub fn address(&self) -> NonNull<u8> {
        self.address
    }
}

impl Drop for SharedMemory {
    fn drop(&mut self) {
        // SAFETY: mapped by `new`; whoever uses the address keeps `self` until then.
        unsafe { munmap(self.address.cast(), self.bytes.get()) }.expect("mapped memory");
    }
}

/// A process that was forked.
pub struct Child(Pid);

/// How a process has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Its work returned.
    Done,
    /// It was killed with SIGKILL.
    Killed,
    /// Its work panicked, or something else went wrong.
    Failed,
}

impl Child {
    /// Does `work` in a new process. There must be only one thread in this one.
    pub fn fork(work: impl FnOnce()) -> Self {
        // SAFETY: with one thread no lock of the parent's can be held by another one.
        match unsafe { nix::unistd::fork() }.expect("a process") {
            ForkResult::Parent { child } => Self(child),
            ForkResult::Child => {
                let failed = catch_unwind(AssertUnwindSafe(work)).is_err();
                // SAFETY: ends the process without what the parent has registered for its end.
                unsafe { nix::libc::_exit(failed.into()) }
            }
        }
    }

    /// Kills it. It still has to be waited for.
    #[allow(dead_code, reason = "the bench kills nobody")]
    pub fn kill(&self) {
        kill(self.0, Signal::SIGKILL).expect("a process that was not waited for");
    }

    /// Waits until it ends.
    pub fn wait(self) -> End {
        match waitpid(self.0, None).expect("a process that was not waited for") {
            WaitStatus::Exited(_, 0) => End::Done,
            WaitStatus::Signaled(_, Signal::SIGKILL, _) => End::Killed,
            _ => End::Failed,
        }
    }
}
