//! Installing a seccomp filter.

use rustix::io::Errno;

use crate::child::SockFilter;

/// Installs `filter` for the calling thread; needs `no_new_privs` or CAP_SYS_ADMIN. Filters of more than 4096
/// instructions are refused by the kernel.
pub fn install(filter: &[SockFilter]) -> Result<(), Errno> {
    const SET_MODE_FILTER: libc::c_ulong = 1;
    // Without it, kernels before 5.16 switch speculative store bypass off for the task, which is slow.
    const FLAG_SPEC_ALLOW: libc::c_ulong = 4;
    let len = u16::try_from(filter.len()).map_err(|_| Errno::INVAL)?;
    let program = libc::sock_fprog { len, filter: filter.as_ptr().cast_mut().cast::<libc::sock_filter>() };
    // SAFETY: `SockFilter` has the layout of `sock_filter`; the kernel only reads `len` of them.
    let r = unsafe { libc::syscall(libc::SYS_seccomp, SET_MODE_FILTER, FLAG_SPEC_ALLOW, &raw const program) };
    if r == 0 { Ok(()) } else { Err(crate::mount::last_errno()) }
}
