//! Building the container's tree of mounts.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};

use super::files::{file_type, open_in, open_or_create};
use super::{At, Done, Failure, Interpreter, LateAttrs, Step};
use crate::mount::{MOUNT_ATTR_RDONLY, mount_setattr};

const CLONE_TREE: OpenTreeFlags =
    OpenTreeFlags::OPEN_TREE_CLONE.union(OpenTreeFlags::OPEN_TREE_CLOEXEC).union(OpenTreeFlags::AT_EMPTY_PATH);

/// Puts the detached mount `mount` on the file `target` stands for.
fn place(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> rustix::io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mount, c"", target, c"", flags)
}

impl Interpreter<'_> {
    /// The way of the initial ramdisk: cover the (empty) root with the new one and enter it. Nothing has to be
    /// unmounted, so nothing waits for an RCU grace period as after pivot_root(2).
    pub(super) fn switch_root(&mut self, slot: u16) -> Done {
        let new = self.slot(slot)?;
        rustix::process::umask(rustix::fs::Mode::empty());
        move_mount(new, c"", rustix::fs::CWD, c"/", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH).at(Step::Place)?;
        rustix::process::fchdir(new).at(Step::Place)?;
        rustix::process::chroot(c".").at(Step::Place)?;
        self.root = new.as_raw_fd();
        Ok(())
    }

    pub(super) fn adopt_root(&mut self) -> Done {
        rustix::process::umask(rustix::fs::Mode::empty());
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(c"/", flags, rustix::fs::Mode::empty()).at(Step::Call)?;
        self.root = root.as_raw_fd();
        // Needed up to execve, which closes it.
        std::mem::forget(root);
        Ok(())
    }

    pub(super) fn mount(
        &self,
        fs: &CStr,
        options: &[(&CStr, &CStr)],
        subpath: &CStr,
        attrs: u32,
        target: &CStr,
    ) -> Done {
        let mut text = [0u8; 8];
        let inherits = fs == c"tmpfs" && !options.iter().any(|(key, _)| *key == c"mode");
        let mode = if inherits { self.mode_of(target, &mut text) } else { None };
        let mount = new_mount(fs, options, mode, attrs)?;
        let target = open_or_create(self.root()?, target, true).at(Step::Target)?;
        if subpath.is_empty() {
            return place(mount.as_fd(), target.as_fd()).at(Step::Place);
        }
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        match open_tree(&mount, subpath, flags) {
            Ok(part) => place(part.as_fd(), target.as_fd()).at(Step::Place),
            // Before kernel 6.15 a mount must be attached to be cloned: the whole stays hidden below the part.
            Err(Errno::INVAL) => {
                place(mount.as_fd(), target.as_fd()).at(Step::Place)?;
                let part = open_tree(&mount, subpath, flags).at(Step::Subpath)?;
                place(part.as_fd(), mount.as_fd()).at(Step::Place)
            }
            Err(e) => Err(Failure(Step::Subpath, e)),
        }
    }

    /// The permission bits of a directory that is there, in octal: what a tmpfs on it has, too.
    fn mode_of<'b>(&self, target: &CStr, text: &'b mut [u8; 8]) -> Option<&'b CStr> {
        let there = open_in(self.root().ok()?, target, OFlags::DIRECTORY).ok()?;
        let mode = rustix::fs::fstat(&there).ok()?.st_mode & 0o7777;
        for (at, digit) in text.iter_mut().take(4).enumerate() {
            *digit = b'0' + (mode >> (9 - 3 * at) & 7) as u8;
        }
        CStr::from_bytes_until_nul(text).ok()
    }

    pub(super) fn attach(&self, slot: u16, target: &CStr, late: LateAttrs) -> Done {
        let mount = self.slot(slot)?;
        let dir = file_type(mount).at(Step::Target)? == FileType::Directory;
        let target = open_or_create(self.root()?, target, dir).at(Step::Target)?;
        let target_is_dir = file_type(&target).at(Step::Target)? == FileType::Directory;
        if target_is_dir != dir {
            let errno = if dir { Errno::NOTDIR } else { Errno::ISDIR };
            return Err(Failure(Step::Target, errno));
        }
        place(mount, target.as_fd()).at(Step::Place)?;
        if late.propagation != 0 {
            self.propagation(mount, late.propagation)?;
        }
        if late.attrs != 0 {
            self.set_attrs(mount, late.attrs)?;
        }
        Ok(())
    }

    pub(super) fn set_attrs_of(&self, path: &CStr, attrs: u32) -> Done {
        let mount = open_in(self.root()?, path, OFlags::empty()).at(Step::Target)?;
        self.set_attrs(mount.as_fd(), attrs)
    }

    fn set_attrs(&self, mount: BorrowedFd<'_>, attrs: u32) -> Done {
        match mount_setattr(mount, u64::from(attrs), 0, false) {
            Err(Errno::NOSYS) => self.remount(mount, attrs),
            other => other.at(Step::Attributes),
        }
    }

    /// mount(2) wants a path: the descriptor has one in the host's procfs.
    fn by_path(&self, fd: BorrowedFd<'_>, call: impl FnOnce(&CStr) -> rustix::io::Result<()>) -> Done {
        let mut text = [0u8; 24];
        let path = proc_fd_path(fd, &mut text);
        rustix::process::fchdir(self.proc()?).at(Step::Attributes)?;
        let result = call(path).at(Step::Attributes);
        rustix::process::fchdir(self.root()?).at(Step::Attributes)?;
        result
    }

    /// Before kernel 5.12: a bind remount, keeping the flags already set.
    fn remount(&self, mount: BorrowedFd<'_>, attrs: u32) -> Done {
        let old = rustix::fs::fstatvfs(mount).at(Step::Attributes)?.f_flag.bits() as u32;
        // ST_RDONLY, ST_NOSUID, ST_NODEV and ST_NOEXEC have the values of MS_* and MOUNT_ATTR_*.
        let keep = (old | attrs) & 0xf;
        let flags = rustix::mount::MountFlags::from_bits_retain(keep | libc::MS_BIND as u32);
        self.by_path(mount, |path| rustix::mount::mount_remount(path, flags, c""))
    }

    pub(super) fn propagation(&self, mount: BorrowedFd<'_>, flags: u32) -> Done {
        let recursive = flags & libc::MS_REC as u32 != 0;
        match mount_setattr(mount, 0, u64::from(flags & !(libc::MS_REC as u32)), recursive) {
            Err(Errno::NOSYS) => {
                let flags = rustix::mount::MountPropagationFlags::from_bits_retain(flags);
                self.by_path(mount, |path| rustix::mount::mount_change(path, flags))
            }
            other => other.at(Step::Attributes),
        }
    }

    /// Hides a file behind `/dev/null` or a directory behind an empty one. What is not there needs no hiding.
    pub(super) fn mask(&mut self, path: &CStr) -> Done {
        let root = self.root()?;
        let target = match open_in(root, path, OFlags::empty()) {
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
            other => other.at(Step::Target)?,
        };
        if file_type(&target).at(Step::Target)? != FileType::Directory {
            let null = null_device(root)?;
            return place(null.as_fd(), target.as_fd()).at(Step::Place);
        }
        if let Some(empty) = &self.empty {
            let again = open_tree(empty, c"", CLONE_TREE).at(Step::Create)?;
            return place(again.as_fd(), target.as_fd()).at(Step::Place);
        }
        // Attached first, since only then kernels before 6.15 clone it.
        let options = [(c"source", c"tmpfs"), (c"size", c"4k"), (c"mode", c"0755"), (c"nr_inodes", c"2")];
        let empty = new_mount(c"tmpfs", &options, None, MOUNT_ATTR_RDONLY)?;
        place(empty.as_fd(), target.as_fd()).at(Step::Place)?;
        self.empty = Some(empty);
        Ok(())
    }

    pub(super) fn readonly_path(&self, path: &CStr) -> Done {
        let target = match open_in(self.root()?, path, OFlags::empty()) {
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
            other => other.at(Step::Target)?,
        };
        let tree = open_tree(&target, c"", CLONE_TREE | OpenTreeFlags::AT_RECURSIVE).at(Step::Create)?;
        let early = mount_setattr(tree.as_fd(), u64::from(MOUNT_ATTR_RDONLY), 0, true);
        place(tree.as_fd(), target.as_fd()).at(Step::Place)?;
        match early {
            Err(Errno::NOSYS) => self.remount(tree.as_fd(), MOUNT_ATTR_RDONLY),
            other => other.at(Step::Attributes),
        }
    }

    /// Shows the terminal as `/dev/console`. A terminal that lies on no mount of this container stays hidden.
    pub(super) fn console(&self) -> Done {
        let Some(terminal) = super::borrow(self.ctx.stdio[0]) else { return Ok(()) };
        let Ok(tree) = open_tree(terminal, c"", CLONE_TREE) else { return Ok(()) };
        let target = open_or_create(self.root()?, c"/dev/console", false).at(Step::Target)?;
        place(tree.as_fd(), target.as_fd()).at(Step::Place)
    }
}

fn new_mount(fs: &CStr, options: &[(&CStr, &CStr)], mode: Option<&CStr>, attrs: u32) -> Done<OwnedFd> {
    let context = fsopen(fs, FsOpenFlags::FSOPEN_CLOEXEC).at(Step::FsType)?;
    if let Some(mode) = mode {
        fsconfig_set_string(context.as_fd(), c"mode", mode).at(Step::Option)?;
    }
    for (key, value) in options {
        let set = if value.is_empty() {
            fsconfig_set_flag(context.as_fd(), *key)
        } else {
            fsconfig_set_string(context.as_fd(), *key, *value)
        };
        set.at(Step::Option)?;
    }
    fsconfig_create(context.as_fd()).at(Step::Create)?;
    let attrs = MountAttrFlags::from_bits_retain(attrs);
    fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attrs).at(Step::Create)
}

/// The container's `/dev/null`, if it is the real one.
fn null_device(root: BorrowedFd<'_>) -> Done<OwnedFd> {
    let null = open_in(root, c"/dev/null", OFlags::NOFOLLOW).at(Step::Create)?;
    let stat = rustix::fs::fstat(&null).at(Step::Create)?;
    let is_char = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice;
    if !is_char || stat.st_rdev != rustix::fs::makedev(1, 3) {
        return Err(Failure(Step::Create, Errno::NODEV));
    }
    open_tree(&null, c"", CLONE_TREE).at(Step::Create)
}

/// `self/fd/N`.
fn proc_fd_path<'b>(fd: BorrowedFd<'_>, text: &'b mut [u8; 24]) -> &'b CStr {
    let prefix = b"self/fd/";
    text[..prefix.len()].copy_from_slice(prefix);
    let mut digits = [0u8; 10];
    let mut n = fd.as_raw_fd();
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (n % 10) as u8;
        n /= 10;
        if n == 0 {
            break;
        }
    }
    let number = &digits[at..];
    text[prefix.len()..prefix.len() + number.len()].copy_from_slice(number);
    CStr::from_bytes_until_nul(text).unwrap_or(c"self/fd/-1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptor_paths() {
        let mut text = [0; 24];
        // SAFETY: only the number is used.
        let fd = unsafe { BorrowedFd::borrow_raw(1207) };
        assert_eq!(proc_fd_path(fd, &mut text), c"self/fd/1207");
        // SAFETY: as above.
        let fd = unsafe { BorrowedFd::borrow_raw(0) };
        assert_eq!(proc_fd_path(fd, &mut [0; 24]), c"self/fd/0");
    }
}
