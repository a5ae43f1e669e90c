//! Shared memory: the areas that the extension requests at server start.
//!
//! Memory is requested while the postmaster loads libraries, and set up after each creation of
//! shared memory: at the start of the server, and again after a crash of one of its processes.
#![expect(unsafe_code, reason = "lives in PostgreSQL's shared memory")]

use crate::pg::error::{Error, Obstacle};
use crate::pg::settings::preloading;
use pgrx::pg_sys;
use std::ffi::CStr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicPtr, Ordering};

/// Areas begin on a boundary of this many bytes.
pub const ALIGNMENT: usize = 128;

const TRANCHE: &CStr = c"allsource";

static mut PREVIOUS_REQUEST_HOOK: pg_sys::shmem_request_hook_type = None;
static mut PREVIOUS_STARTUP_HOOK: pg_sys::shmem_startup_hook_type = None;

/// A piece of shared memory.
pub struct Area {
    /// its name in `pg_shmem_allocations`
    pub name: &'static CStr,
    /// how many bytes; called when all settings are known
    pub bytes: fn() -> usize,
    /// Initializes zeroed memory; called before there is any backend.
    pub set_up: unsafe fn(*mut u8),
    /// its address; null if the library was not loaded at server start
    pub start: AtomicPtr<u8>,
}

impl Area {
    /// Where the area is.
    pub fn start(&self) -> Result<*mut u8, Error> {
        // Relaxed: set by the postmaster, from which all processes are forked.
        let start = self.start.load(Ordering::Relaxed);
        if start.is_null() { Err(Error::CannotExecute(Obstacle::NotPreloaded)) } else { Ok(start) }
    }
}

/// The light-weight locks of the extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lock {
    /// Setting up and reserving positions.
    Positions = 0,
    /// Who serves a queue, and its last error.
    Workers = 1,
}

const LOCKS: i32 = 2;

const AREAS: usize = 7;

/// All areas.
static AREA_LIST: OnceLock<[&'static Area; AREAS]> = OnceLock::new();

/// Runs `f` while holding a lock. An error within releases it, as PostgreSQL does at every abort.
pub fn with_lock<T>(lock: Lock, f: impl FnOnce() -> T) -> T {
    // SAFETY: the tranche was asked for with `LOCKS` locks; there is no caller without an area.
    unsafe {
        let tranche = pg_sys::GetNamedLWLockTranche(TRANCHE.as_ptr());
        let lock = &raw mut (*tranche.add(lock as usize)).lock;
        pg_sys::LWLockAcquire(lock, pg_sys::LWLockMode::LW_EXCLUSIVE);
        let result = f();
        pg_sys::LWLockRelease(lock);
        result
    }
}

/// Requests shared memory if the library is loaded at server start.
pub fn init(areas: [&'static Area; AREAS]) {
    if !preloading() {
        return;
    }
    // Set once: the library is loaded once.
    let _ = AREA_LIST.set(areas);
    // SAFETY: the hooks are set while the postmaster loads libraries, single-threaded.
    unsafe {
        PREVIOUS_REQUEST_HOOK = pg_sys::shmem_request_hook;
        pg_sys::shmem_request_hook = Some(request_memory);
        PREVIOUS_STARTUP_HOOK = pg_sys::shmem_startup_hook;
        pg_sys::shmem_startup_hook = Some(set_up_memory);
    }
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn request_memory() {
    // SAFETY: called by the postmaster at the time for requests.
    unsafe {
        if let Some(previous) = PREVIOUS_REQUEST_HOOK {
            previous();
        }
        for area in AREA_LIST.get().into_iter().flatten() {
            pg_sys::RequestAddinShmemSpace((area.bytes)() + ALIGNMENT);
        }
        pg_sys::RequestNamedLWLockTranche(TRANCHE.as_ptr(), LOCKS);
    }
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn set_up_memory() {
    // SAFETY: called by the postmaster after each creation of shared memory, before any backend.
    unsafe {
        if let Some(previous) = PREVIOUS_STARTUP_HOOK {
            previous();
        }
        for area in AREA_LIST.get().into_iter().flatten() {
            let bytes = (area.bytes)();
            let mut found = false;
            let memory = pg_sys::ShmemInitStruct(area.name.as_ptr(), bytes + ALIGNMENT, &mut found)
                .cast::<u8>();
            let start = memory.add(memory.align_offset(ALIGNMENT));
            if !found {
                std::ptr::write_bytes(start, 0, bytes);
                (area.set_up)(start);
            }
            area.start.store(start, Ordering::Relaxed);
        }
    }
}
