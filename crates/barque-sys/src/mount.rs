//! Mount system calls that rustix lacks, and detached mounts.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

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
    call_setattr(mount, &attr, recursive)
}

/// Shows the files of the detached mount `mount` with the owners that the user namespace `owners` maps theirs to
/// (kernel 5.12).
///
/// Errors: EINVAL where the file system cannot, EPERM for a mount that is mapped already.
pub fn map_owners(mount: BorrowedFd<'_>, owners: BorrowedFd<'_>, recursive: bool) -> Result<(), Errno> {
    const MOUNT_ATTR_IDMAP: u64 = 0x0010_0000;
    let userns_fd = u64::try_from(owners.as_raw_fd()).map_err(|_| Errno::BADF)?;
    call_setattr(mount, &MountAttr { attr_set: MOUNT_ATTR_IDMAP, userns_fd, ..MountAttr::default() }, recursive)
}

/// A user namespace with these contents of `uid_map` and `gid_map`, user_namespaces(7). Nothing lives in it.
pub fn user_namespace(uid_map: &str, gid_map: &str) -> io::Result<OwnedFd> {
    // Only a process can make one, and a process with threads cannot for itself.
    let (ready, hold) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    let child = crate::child::spawn_waiting(&ready, hold.as_fd(), libc::CLONE_NEWUSER as u32)?;
    let make = || {
        let proc = format!("/proc/{}", child.pid);
        std::fs::write(format!("{proc}/uid_map"), uid_map)?;
        std::fs::write(format!("{proc}/gid_map"), gid_map)?;
        std::fs::File::open(format!("{proc}/ns/user"))
    };
    let made = make();
    drop(hold);
    let ended = rustix::process::WaitIdOptions::EXITED;
    while let Err(Errno::INTR) = rustix::process::waitid(rustix::process::WaitId::PidFd(child.pidfd.as_fd()), ended) {}
    made.map(OwnedFd::from)
}

fn call_setattr(mount: BorrowedFd<'_>, attr: &MountAttr, recursive: bool) -> Result<(), Errno> {
    let flags = libc::AT_EMPTY_PATH | if recursive { AT_RECURSIVE } else { 0 };
    // SAFETY: the descriptor is borrowed for the call, the path is a C string, and the kernel reads the given
    // number of bytes of `attr`.
    let r = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            std::ptr::from_ref(attr),
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
    Errno::from_raw_os_error(io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO))
}

/// Runs `f` on a thread of its own in a private copy of the mount namespace, where it may also change its
/// working directory: nothing of that is seen outside. The copy goes with the thread.
pub fn in_private_mounts<T: Send>(f: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    on_own_thread(|| {
        // SAFETY: integers only; affects this thread alone, which ends with the closure.
        let r = unsafe { libc::unshare(libc::CLONE_NEWNS | libc::CLONE_FS) };
        if r < 0 {
            return Err(io::Error::last_os_error());
        }
        let private = rustix::mount::MountPropagationFlags::PRIVATE | rustix::mount::MountPropagationFlags::REC;
        rustix::mount::mount_change(c"/", private)?;
        f()
    })
}

/// Runs `f` on a thread of its own in the mount namespace of the process `pidfd` stands for (kernel 5.8).
pub fn in_mounts_of<T: Send>(pidfd: BorrowedFd<'_>, f: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    on_own_thread(|| {
        // SAFETY: integers only; affect this thread alone, which ends with the closure.
        let r = unsafe {
            match libc::unshare(libc::CLONE_FS) {
                0 => libc::setns(pidfd.as_raw_fd(), libc::CLONE_NEWNS),
                failed => failed,
            }
        };
        if r < 0 { Err(io::Error::last_os_error()) } else { f() }
    })
}

fn on_own_thread<T: Send>(f: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("mounts".into()).spawn_scoped(scope, f)?;
        thread.join().unwrap_or_else(|_| Err(io::Error::other("the mount thread panicked")))
    })
}
