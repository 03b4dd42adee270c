//! `update`.

use barque_api::container::{ContainerUpdateRequest, Resources, RestartPolicy};

use crate::cmdline::{Flags, parse_cpus};

/// Turns the flags of `update` into a request; what was not given stays zero and so is not changed.
pub(crate) fn update(flags: &Flags) -> Result<ContainerUpdateRequest, String> {
    if flags.names().next().is_none() {
        return Err("you must provide one or more flags when using this command".into());
    }
    let restart_policy = match flags.get("restart") {
        Some(text) if !text.is_empty() => super::options::restart(text)?,
        _ => RestartPolicy::default(),
    };
    let int = |name: &str| flags.int(name).unwrap_or(0);
    let bytes = |name: &str| flags.bytes(name).unwrap_or(0);
    let resources = Resources {
        blkio_weight: u16::try_from(int("blkio-weight")).unwrap_or(0),
        cpuset_cpus: flags.text("cpuset-cpus").to_owned(),
        cpuset_mems: flags.text("cpuset-mems").to_owned(),
        cpu_shares: int("cpu-shares"),
        memory: bytes("memory"),
        memory_reservation: bytes("memory-reservation"),
        memory_swap: bytes("memory-swap"),
        kernel_memory: bytes("kernel-memory"),
        cpu_period: int("cpu-period"),
        cpu_quota: int("cpu-quota"),
        cpu_realtime_period: int("cpu-rt-period"),
        cpu_realtime_runtime: int("cpu-rt-runtime"),
        nano_cpus: flags.get("cpus").and_then(|v| parse_cpus(v).ok()).unwrap_or(0),
        pids_limit: flags.int("pids-limit"),
        ..Resources::default()
    };
    Ok(ContainerUpdateRequest { resources, restart_policy })
}
