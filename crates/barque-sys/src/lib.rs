//! barque-sys.
pub mod bpf;
pub mod child;
pub mod codec;
pub mod fdpass;
pub mod init;
pub mod memory;
pub mod mount;
pub mod netlink;
pub mod process;
pub mod pty;
pub mod rootdir;
pub mod seccomp;
