//! The extended attributes that travel with a file: capabilities and `user.*`.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::AsFd;

use rustix::io::Errno;

/// Largest value (the kernel's limit).
const MAX_VALUE: usize = 64 << 10;

fn travels(name: &CStr) -> bool {
    let bytes = name.to_bytes();
    bytes == b"security.capability" || bytes.starts_with(b"user.")
}

/// Attributes to copy, sorted by name. File systems without attributes have none.
pub(crate) fn of_fd(file: impl AsFd) -> io::Result<Vec<(CString, Vec<u8>)>> {
    let file = file.as_fd();
    let mut list = [0u8; 1024];
    let names = match rustix::fs::flistxattr(file, &mut list[..]) {
        Ok(0) => return Ok(Vec::new()),
        Ok(length) => list[..length].to_vec(),
        Err(Errno::RANGE) => {
            let mut list = vec![0u8; MAX_VALUE];
            let length = rustix::fs::flistxattr(file, &mut list[..])?;
            list.truncate(length);
            list
        }
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => return Ok(Vec::new()),
        Err(e) => return Err(e.into()),
    };
    let mut found = Vec::new();
    for name in names.split_inclusive(|b| *b == 0).filter_map(|n| CStr::from_bytes_with_nul(n).ok()) {
        if !travels(name) {
            continue;
        }
        let mut value = vec![0u8; MAX_VALUE];
        match rustix::fs::fgetxattr(file, name, &mut value[..]) {
            Ok(length) => {
                value.truncate(length);
                found.push((name.to_owned(), value));
            }
            Err(Errno::NODATA) => {}
            Err(e) => return Err(e.into()),
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// Sets attributes; what the file system or the caller's rights do not allow is left out, as in Docker.
pub(crate) fn set(file: impl AsFd, attributes: &[(CString, Vec<u8>)]) -> io::Result<()> {
    for (name, value) in attributes.iter().filter(|(n, _)| travels(n)) {
        match rustix::fs::fsetxattr(file.as_fd(), name.as_c_str(), value, rustix::fs::XattrFlags::empty()) {
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::PERM | Errno::NOSPC) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}
