//! Mount system calls that rustix lacks, and detached mounts.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use rustix::io::Errno;

pub const MOUNT_ATTR_RDONLY: u32 = 0x1;
pub const MOUNT_ATTR_NOSUID: u32 = 0x2;
pub const MOUNT_ATTR_NODEV: u32 = 0x4;
pub const MOUNT_ATTR_NOEXEC: u32 = 0x8;
pub const MOUNT_ATTR_NOATIME: u32 = 0x10;
pub const MOUNT_ATTR_STRICTATIME: u32 = 0x20;

/// `MS_*` propagation flags.
pub const MS_REC: u32 = libc::MS_REC as u32;
pub const MS_PRIVATE: u32 = libc::MS_PRIVATE as u32;
pub const MS_SLAVE: u32 = libc::MS_SLAVE as u32;
pub const MS_SHARED: u32 = libc::MS_SHARED as u32;

/// `struct mount_attr`, linux/mount.h.
#[repr(C)]
#[derive(Default)]
struct MountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

const AT_RECURSIVE: libc::c_int = 0x8000;

/// mount_setattr(2) (kernel 5.12) on the mount whose root `mount` is: sets `attrs` (`MOUNT_ATTR_*`) and, if not
/// zero, the propagation.
pub fn mount_setattr(mount: BorrowedFd<'_>, attrs: u64, propagation: u64, recursive: bool) -> Result<(), Errno> {
    let mut attr = MountAttr { attr_set: attrs, propagation, ..MountAttr::default() };
    // Atime modes are one field of values, not bits: the whole field is cleared before one is set.
    if attrs & u64::from(MOUNT_ATTR_NOATIME | MOUNT_ATTR_STRICTATIME) != 0 {
        attr.attr_clr = 0x70;
    }
    let flags = libc::AT_EMPTY_PATH | if recursive { AT_RECURSIVE } else { 0 };
    // SAFETY: the descriptor is borrowed for the call, the path is a C string, and the kernel reads the given
    // number of bytes of `attr`.
    let r = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attr,
            size_of::<MountAttr>(),
        )
    };
    if r == 0 { Ok(()) } else { Err(last_errno()) }
}

/// Whether the kernel has mount_setattr(2).
pub fn has_mount_setattr() -> bool {
    // Nothing to set on any descriptor: EINVAL or success where the call exists.
    !matches!(mount_setattr(rustix::fs::CWD.as_fd(), 0, 0, false), Err(Errno::NOSYS))
}

pub(crate) fn last_errno() -> Errno {
    Errno::from_raw_os_error(std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO))
}

/// Runs `f` on a thread of its own in a private copy of the mount namespace, where it may also change its
/// working directory: nothing of that is seen outside. The copy goes with the thread.
pub fn in_private_mounts<T: Send>(f: impl FnOnce() -> std::io::Result<T> + Send) -> std::io::Result<T> {
    on_own_thread(|| {
        // SAFETY: integers only; affects this thread alone, which ends with the closure.
        let r = unsafe { libc::unshare(libc::CLONE_NEWNS | libc::CLONE_FS) };
        if r < 0 {
            return Err(std::io::Error::last_os_error());
        }
        let private = rustix::mount::MountPropagationFlags::PRIVATE | rustix::mount::MountPropagationFlags::REC;
        rustix::mount::mount_change(c"/", private)?;
        f()
    })
}

/// Runs `f` on a thread of its own in the mount namespace of the process `pidfd` stands for (kernel 5.8).
pub fn in_mounts_of<T: Send>(
    pidfd: BorrowedFd<'_>,
    f: impl FnOnce() -> std::io::Result<T> + Send,
) -> std::io::Result<T> {
    on_own_thread(|| {
        // SAFETY: integers only; affect this thread alone, which ends with the closure.
        let r = unsafe {
            match libc::unshare(libc::CLONE_FS) {
                0 => libc::setns(pidfd.as_raw_fd(), libc::CLONE_NEWNS),
                failed => failed,
            }
        };
        if r < 0 { Err(std::io::Error::last_os_error()) } else { f() }
    })
}

fn on_own_thread<T: Send>(f: impl FnOnce() -> std::io::Result<T> + Send) -> std::io::Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("mounts".into()).spawn_scoped(scope, f)?;
        thread.join().unwrap_or_else(|_| Err(std::io::Error::other("the mount thread panicked")))
    })
}
