//! barque-sys.
pub mod netlink;
pub mod rootdir;
pub mod bpf;
pub mod child;
pub mod codec;
pub mod fdpass;
pub mod mount;
pub mod process;
pub mod pty;
pub mod seccomp;
