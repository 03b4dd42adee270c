//! Barque's own container runtime, in process: a typed [`Spec`] becomes a printable plan, the plan
//! becomes a process in its own namespaces, watched by a small monitor that outlives the daemon.
//!
//! ```text
//! daemon ── Spawner::launch(&Spec) ──▶ plan (pure) ──▶ prepare (host-side descriptors)
//!    │                                                      │ one message, descriptors by SCM_RIGHTS
//!    │                                   spawner ◀──────────┘   (forked once, single-threaded)
//!    │                                      │ fork
//!    └─ Task: monitor.sock ◀──────────── monitor (one per task: stdio, log, reaping, exit.json)
//!                                           │ clone3
//!                                        task (interprets the plan, then execve)
//! ```
//!
//! Everything here is synchronous and blocking; all handles are `Send + Sync`.
#![forbid(unsafe_code)]

pub mod caps;
pub mod cgroup;
pub mod defaults;
pub mod error;
mod launch;
mod monitor;
pub mod overlay;
pub mod plan;
mod protocol;
mod request;
mod seccomp;
pub mod spawner;
pub mod spec;
pub mod task;
pub mod tree;
pub mod users;

pub use cgroup::stats::Stats;
pub use error::{LaunchError, LaunchErrorKind};
pub use spawner::Spawner;
pub use spec::{ExecSpec, Spec};
pub use task::{Attach, Exit, Reopened, Task, TaskStatus};

#[cfg(test)]
mod tests {
    fn shared_between_threads<T: Send + Sync>() {}

    #[test]
    fn handles_are_shared_between_threads() {
        shared_between_threads::<super::Spawner>();
        shared_between_threads::<super::Task>();
        shared_between_threads::<super::Spec>();
    }
}
