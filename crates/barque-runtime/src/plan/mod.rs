//! Specification → launch plan: a flat list of operations and the descriptors they need. Pure.

mod container;
mod describe;
mod exec;
mod mounts;
mod process;

use std::ffi::CString;
use std::fmt;
use std::sync::Arc;

use barque_model::{Error, Result};
use barque_sys::child::{Op, SockFilter};
use barque_sys::codec::Writer;

pub use container::compile;
pub use describe::describe;
pub use exec::compile_exec;
pub(crate) use mounts::{DEVPTS_OPTIONS, attrs as mount_attrs, propagation as mount_propagation};
pub(crate) use process::rlimit_number;

use crate::cgroup::Layout;
use crate::spec::Join;
use crate::users::User;

/// What a plan depends on besides the specification.
#[derive(Debug)]
pub struct Facts<'a> {
    pub user: User,
    pub layout: &'a Layout,
    /// Path of the container's cgroup below the root of each hierarchy, without a leading slash.
    pub cgroup_path: String,
    /// Number of v1 hierarchies to enter.
    pub v1_groups: usize,
    /// Capabilities the engine has itself and may give away.
    pub available_caps: u64,
    /// mount_setattr(2), kernel 5.12.
    pub mount_setattr: bool,
    pub apparmor: bool,
    pub seccomp: Option<Arc<[SockFilter]>>,
    /// There is a program for inits ([`Slot::Init`]).
    pub init_program: bool,
}

/// A descriptor the plan needs, in the order of its slots (which come after those of the v1 cgroups).
#[derive(Clone, Debug)]
pub enum Slot {
    Rootfs,
    /// The detached mount for `spec.mounts[n]`.
    Mount(usize),
    Namespace(Join),
    /// The devpts instance the terminal was opened in.
    Devpts,
    /// `process.extra_fds[n]`.
    Extra(usize),
    /// A pidfd of the container's first process.
    Container,
    /// The program that the init is.
    Init,
}

/// A compiled launch.
#[derive(Debug)]
pub struct Plan {
    /// Encoded operations.
    pub ops: Vec<u8>,
    pub slots: Vec<Slot>,
    /// `CLONE_NEW*` for the clone itself.
    pub namespaces: u32,
    /// The process namespace to be born in, if it is another container's.
    pub pid_namespace: Option<Join>,
}

impl Plan {
    /// What operation number `index` does, in words.
    pub fn words(&self, index: usize) -> String {
        let ops = Op::decode_all(&self.ops).unwrap_or_default();
        ops.get(index).map_or_else(|| "an unknown operation".to_owned(), describe)
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for op in Op::decode_all(&self.ops).map_err(|_| fmt::Error)? {
            writeln!(f, "{}", describe(&op))?;
        }
        Ok(())
    }
}

/// Collects operations and the slots they refer to.
#[derive(Debug, Default)]
struct Builder {
    ops: Writer,
    /// Slots taken by cgroups.
    first_slot: usize,
    slots: Vec<Slot>,
}

impl Builder {
    fn new(facts: &Facts<'_>) -> Builder {
        let mut b = Builder { first_slot: facts.v1_groups, ..Builder::default() };
        for slot in 0..facts.v1_groups {
            b.op(Op::JoinCgroup { slot: slot as u16 });
        }
        b
    }

    fn finish(self, namespaces: u32, pid_namespace: Option<Join>) -> Plan {
        let ops = self.ops.into_bytes();
        Plan { ops, slots: self.slots, namespaces, pid_namespace }
    }

    fn op(&mut self, op: Op<'_>) {
        op.encode(&mut self.ops);
    }

    fn slot(&mut self, slot: Slot) -> u16 {
        self.slots.push(slot);
        u16::try_from(self.first_slot + self.slots.len() - 1).unwrap_or(u16::MAX)
    }
}

/// A C string; NUL bytes inside are an error that says where.
fn c(text: impl AsRef<[u8]>, what: &str) -> Result<CString> {
    CString::new(text.as_ref()).map_err(|_| Error::invalid(format!("{what} contains a NUL byte")))
}

#[cfg(test)]
mod tests;
