//! The plan of a further process in a running container.

use barque_model::Result;
use barque_sys::child::Op;
use barque_sys::process::{CLONE_NEWCGROUP, CLONE_NEWIPC, CLONE_NEWNET, CLONE_NEWNS, CLONE_NEWUTS};

use super::container::{check_id, keyring};
use super::process::{Tail, become_and_exec, check, streams_and_limits};
use super::{Builder, Facts, Plan, Slot, c};
use crate::spec::ExecSpec;

/// Compiles an exec in the container whose id is `container`. The monitor enters the process namespace, which holds for its children only; the child
/// enters all others by the container's pidfd.
pub fn compile_exec(spec: &ExecSpec, container: &str, facts: &Facts<'_>) -> Result<Plan> {
    check(&spec.process)?;
    check_id(&spec.id)?;
    let mut b = Builder::new(facts);
    let slot = b.slot(Slot::Container);
    let kinds = CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWNET | CLONE_NEWCGROUP;
    b.op(Op::SetNs { slot, kinds });
    b.op(Op::SessionKeyring(&keyring(container)?));
    b.op(Op::AdoptRoot);
    b.op(Op::Cwd { path: &c(&spec.process.cwd, "the working directory")?, create: false });
    let tail = Tail { process: &spec.process, apparmor: spec.apparmor.as_deref(), init: false };
    streams_and_limits(&mut b, &tail, facts)?;
    become_and_exec(&mut b, &tail, facts)?;
    Ok(b.finish(0, None))
}
