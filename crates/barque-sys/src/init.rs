//! The init of containers as a program of its own (`--init`): what a read-only mount of this program does when it is
//! executed under the name [`PROGRAM`].

use std::ffi::CStr;

use crate::child::init;

/// What a container's init is called, as Docker's.
pub const PROGRAM: &CStr = c"/sbin/docker-init";

/// Tends the child that an init was started with, until it ends; returns where there is none.
pub fn run() {
    if init::has_child() {
        let _ = rustix::thread::set_name(init::NAME);
        init::tend();
    }
}
