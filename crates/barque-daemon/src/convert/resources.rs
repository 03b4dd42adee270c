//! Limits, ulimits and devices.

use barque_api::container as wire;
use barque_engine::container::spec::{BlockLimit, DeviceSpec, Resources, Ulimit};
use barque_model::{Error, Result};

use super::limits::{self, Machine};

/// The engine's limits, and warnings for the client.
///
/// # Errors
/// Negative limits; what [`limits::check`] refuses; limits that are not built.
pub(crate) fn limits(
    wire: &wire::Resources,
    oom_score_adj: i64,
    machine: &Machine,
) -> Result<(Resources, Vec<String>)> {
    refuse_unsupported(wire)?;
    let warnings = limits::check(wire, oom_score_adj, machine)?;
    if !(-1000..=1000).contains(&oom_score_adj) {
        return Err(Error::invalid(format!("Invalid value {oom_score_adj}, range for oom score adj is [-1000, 1000]")));
    }
    let natural = |name: &str, value: i64| {
        u64::try_from(value).map_err(|_| Error::invalid(format!("invalid {name}: {value}: it must not be negative")))
    };
    // -1 is an older way to say "no limit".
    let bytes = |name: &str, value: i64| if value == -1 { Ok(0) } else { natural(name, value) };
    let resources = Resources {
        memory: bytes("Memory", wire.memory)?,
        memory_reservation: bytes("MemoryReservation", wire.memory_reservation)?,
        memory_swap: wire.memory_swap,
        memory_swappiness: wire.memory_swappiness.filter(|value| *value != -1),
        nano_cpus: natural("NanoCpus", wire.nano_cpus)?,
        cpu_shares: natural("CpuShares", wire.cpu_shares)?,
        cpu_period: natural("CpuPeriod", wire.cpu_period)?,
        cpu_quota: wire.cpu_quota,
        cpuset_cpus: wire.cpuset_cpus.clone(),
        cpuset_mems: wire.cpuset_mems.clone(),
        pids_limit: wire.pids_limit,
        blkio_weight: wire.blkio_weight,
        block_devices: block_devices(wire)?,
        oom_kill_disable: wire.oom_kill_disable.unwrap_or(false),
        oom_score_adj: i32::try_from(oom_score_adj).unwrap_or(0),
    };
    Ok((resources, warnings))
}

/// The limits of each block device, in the order the request first names them.
fn block_devices(wire: &wire::Resources) -> Result<Vec<BlockLimit>> {
    if wire.blkio_weight != 0 && !(10..=1000).contains(&wire.blkio_weight) {
        return Err(Error::invalid("range of blkio weight is from 10 to 1000"));
    }
    let mut found: Vec<BlockLimit> = Vec::new();
    let mut of = |path: &str, set: &dyn Fn(&mut BlockLimit)| {
        let index = found.iter().position(|limit| limit.path.as_os_str() == path).unwrap_or_else(|| {
            found.push(BlockLimit { path: path.into(), ..BlockLimit::default() });
            found.len() - 1
        });
        set(&mut found[index]);
    };
    for device in wire.blkio_weight_device.iter().flatten() {
        if !(10..=1000).contains(&device.weight) {
            return Err(Error::invalid(format!("range of blkio weight is from 10 to 1000: {}", device.path)));
        }
        of(&device.path, &|limit| limit.weight = Some(device.weight));
    }
    for device in wire.blkio_device_read_bps.iter().flatten() {
        of(&device.path, &|limit| limit.read_bps = Some(device.rate));
    }
    for device in wire.blkio_device_write_bps.iter().flatten() {
        of(&device.path, &|limit| limit.write_bps = Some(device.rate));
    }
    for device in wire.blkio_device_read_iops.iter().flatten() {
        of(&device.path, &|limit| limit.read_iops = Some(device.rate));
    }
    for device in wire.blkio_device_write_iops.iter().flatten() {
        of(&device.path, &|limit| limit.write_iops = Some(device.rate));
    }
    Ok(found)
}

fn refuse_unsupported(wire: &wire::Resources) -> Result<()> {
    if wire.cpu_realtime_period != 0 || wire.cpu_realtime_runtime != 0 {
        return Err(Error::not_implemented("real-time CPU limits"));
    }
    if let Some(request) = wire.device_requests.iter().flatten().next() {
        let capabilities = request.capabilities.clone().unwrap_or_default();
        let capabilities: Vec<String> = capabilities.iter().map(|list| format!("[{}]", list.join(" "))).collect();
        return Err(Error::invalid(format!(
            "could not select device driver {:?} with capabilities: [{}]",
            request.driver,
            capabilities.join(" ")
        ))
        .with_hint("device requests (--gpus) are not implemented yet: name the devices with --device"));
    }
    Ok(())
}

/// # Errors
/// A soft limit above the hard one.
pub(crate) fn ulimits(wire: Option<&Vec<wire::Ulimit>>) -> Result<Vec<Ulimit>> {
    let one = |limit: &wire::Ulimit| {
        if limit.hard != -1 && (limit.soft == -1 || limit.soft > limit.hard) {
            return Err(Error::invalid(format!(
                "ulimit soft limit must be less than or equal to hard limit: {} > {}",
                limit.soft, limit.hard
            )));
        }
        Ok(Ulimit { name: limit.name.clone(), soft: limit.soft, hard: limit.hard })
    };
    wire.into_iter().flatten().map(one).collect()
}

/// # Errors
/// Permissions with other letters than `rwm`.
pub(crate) fn devices(wire: Option<&Vec<wire::DeviceMapping>>) -> Result<Vec<DeviceSpec>> {
    let one = |device: &wire::DeviceMapping| {
        let permissions = match device.cgroup_permissions.as_str() {
            "" => "rwm",
            letters if letters.bytes().all(|letter| b"rwm".contains(&letter)) => letters,
            letters => return Err(Error::invalid(format!("invalid device mode: {letters}"))),
        };
        let container = match device.path_in_container.as_str() {
            "" => &device.path_on_host,
            path => path,
        };
        Ok(DeviceSpec {
            host_path: (&device.path_on_host).into(),
            container_path: container.into(),
            permissions: permissions.to_owned(),
        })
    };
    wire.into_iter().flatten().map(one).collect()
}

/// The resources after `docker update`: what the request leaves at zero stays as it was.
pub(crate) fn updated(old: &wire::Resources, new: &wire::Resources) -> Result<wire::Resources> {
    fn number<T: Copy + Default + PartialEq>(old: T, new: T) -> T {
        if new == T::default() { old } else { new }
    }
    fn text(old: &str, new: &str) -> String {
        if new.is_empty() { old.to_owned() } else { new.to_owned() }
    }
    if new.nano_cpus > 0 && (old.cpu_period > 0 || old.cpu_quota > 0) {
        return Err(Error::conflict(
            "Conflicting options: NanoCPUs cannot be updated as CPU Period/Quota has already been set",
        ));
    }
    if (new.cpu_period > 0 || new.cpu_quota > 0) && old.nano_cpus > 0 {
        return Err(Error::conflict(
            "Conflicting options: CPU Period/Quota cannot be updated as NanoCPUs has already been set",
        ));
    }
    let memory = number(old.memory, new.memory);
    let memory_swap = number(old.memory_swap, new.memory_swap);
    if new.memory != 0 && new.memory_swap == 0 && memory_swap > 0 && memory > memory_swap {
        return Err(Error::conflict(
            "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time",
        ));
    }
    Ok(wire::Resources {
        memory,
        memory_swap,
        memory_reservation: number(old.memory_reservation, new.memory_reservation),
        nano_cpus: number(old.nano_cpus, new.nano_cpus),
        cpu_shares: number(old.cpu_shares, new.cpu_shares),
        cpu_period: number(old.cpu_period, new.cpu_period),
        cpu_quota: number(old.cpu_quota, new.cpu_quota),
        cpu_realtime_period: number(old.cpu_realtime_period, new.cpu_realtime_period),
        cpu_realtime_runtime: number(old.cpu_realtime_runtime, new.cpu_realtime_runtime),
        cpuset_cpus: text(&old.cpuset_cpus, &new.cpuset_cpus),
        cpuset_mems: text(&old.cpuset_mems, &new.cpuset_mems),
        blkio_weight: number(old.blkio_weight, new.blkio_weight),
        pids_limit: new.pids_limit.map(|limit| limit.max(0)).or(old.pids_limit),
        memory_swappiness: new.memory_swappiness.or(old.memory_swappiness),
        oom_kill_disable: new.oom_kill_disable.or(old.oom_kill_disable),
        blkio_weight_device: new.blkio_weight_device.clone().filter(|l| !l.is_empty()),
        blkio_device_read_bps: new.blkio_device_read_bps.clone().filter(|l| !l.is_empty()),
        blkio_device_write_bps: new.blkio_device_write_bps.clone().filter(|l| !l.is_empty()),
        blkio_device_read_iops: new.blkio_device_read_iops.clone().filter(|l| !l.is_empty()),
        blkio_device_write_iops: new.blkio_device_write_iops.clone().filter(|l| !l.is_empty()),
        ..old.clone()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(wire: &wire::Resources, oom_score_adj: i64) -> Result<Resources> {
        super::limits(wire, oom_score_adj, &Machine::with_two_cpus()).map(|(limits, _)| limits)
    }

    #[test]
    fn negative_limits_are_refused() {
        let wire = wire::Resources { memory: -5, ..Default::default() };
        assert!(limits(&wire, 0).is_err());
        let wire = wire::Resources { memory: -1, memory_swap: -1, ..Default::default() };
        assert_eq!(limits(&wire, 0).unwrap().memory_swap, -1);
        let wire_cpus = wire::Resources { nano_cpus: 2_500_000_000, ..Default::default() };
        let error = limits(&wire_cpus, 0).unwrap_err().to_string();
        assert_eq!(error, "range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs available");
        let error = limits(&wire, 2000).unwrap_err().to_string();
        assert_eq!(error, "Invalid value 2000, range for oom score adj is [-1000, 1000]");
    }

    #[test]
    fn limits_of_one_device_come_together() {
        let rate = |path: &str, rate| Some(vec![wire::ThrottleDevice { path: path.into(), rate }]);
        let wire = wire::Resources {
            blkio_device_read_bps: rate("/dev/a", 1),
            blkio_device_write_iops: rate("/dev/a", 2),
            blkio_device_write_bps: rate("/dev/b", 3),
            ..Default::default()
        };
        let found = limits(&wire, 0).unwrap().block_devices;
        let short: Vec<_> =
            found.iter().map(|l| (l.path.to_str().unwrap(), l.read_bps, l.write_bps, l.write_iops)).collect();
        assert_eq!(short, [("/dev/a", Some(1), None, Some(2)), ("/dev/b", None, Some(3), None)]);
        let heavy = vec![wire::WeightDevice { path: "/dev/a".into(), weight: 5 }];
        assert!(limits(&wire::Resources { blkio_weight_device: Some(heavy), ..Default::default() }, 0).is_err());
    }

    #[test]
    fn updates_keep_the_rest() {
        let old = wire::Resources { memory: 10, memory_swap: 20, cpuset_cpus: "0".into(), ..Default::default() };
        let new = wire::Resources { cpu_shares: 5, ..Default::default() };
        let merged = updated(&old, &new).unwrap();
        assert_eq!((merged.memory, merged.cpu_shares, merged.cpuset_cpus.as_str()), (10, 5, "0"));
        let error = updated(&old, &wire::Resources { memory: 30, ..Default::default() }).unwrap_err();
        assert!(error.to_string().starts_with("Memory limit should be smaller than already set memoryswap limit"));
    }

    #[test]
    fn device_letters_and_ulimits() {
        let device = wire::DeviceMapping { path_on_host: "/dev/x".into(), ..Default::default() };
        assert_eq!(devices(Some(&vec![device.clone()])).unwrap()[0].permissions, "rwm");
        let device = wire::DeviceMapping { cgroup_permissions: "rx".into(), ..device };
        assert_eq!(devices(Some(&vec![device])).unwrap_err().to_string(), "invalid device mode: rx");
        let limit = wire::Ulimit { name: "nofile".into(), soft: 2, hard: 1 };
        assert!(ulimits(Some(&vec![limit])).is_err());
    }
}
