//! Limits of a container as the runtime takes them.

use barque_model::{Error, Result};
use barque_runtime as rt;
use barque_runtime::spec as rs;

use super::spec::{BlockLimit, Resources};

/// Limits as the runtime takes them.
///
/// Errors: InvalidArgument where a limited device is not there.
pub(super) fn resources(r: &Resources) -> Result<rs::Resources> {
    let (blkio_weight_devices, blkio_throttle) = block_limits(&r.block_devices)?;
    let positive = |n: u64| (n > 0).then_some(n);
    Ok(rs::Resources {
        memory: positive(r.memory),
        memory_swap: (r.memory_swap != 0).then_some(r.memory_swap),
        memory_reservation: positive(r.memory_reservation),
        memory_swappiness: r.memory_swappiness.and_then(|s| u64::try_from(s).ok()),
        oom_kill_disable: r.oom_kill_disable,
        cpu_shares: positive(r.cpu_shares),
        cpu_quota: (r.cpu_quota != 0).then_some(r.cpu_quota),
        cpu_period: positive(r.cpu_period),
        nano_cpus: positive(r.nano_cpus),
        cpuset_cpus: Some(r.cpuset_cpus.clone()).filter(|s| !s.is_empty()),
        cpuset_mems: Some(r.cpuset_mems.clone()).filter(|s| !s.is_empty()),
        pids: r.pids_limit.filter(|n| *n != 0),
        blkio_weight: (r.blkio_weight > 0).then_some(r.blkio_weight),
        blkio_weight_devices,
        blkio_throttle,
    })
}

/// Weights and rates by the devices' numbers.
#[allow(clippy::type_complexity, reason = "two lists of one kind each")]
fn block_limits(limits: &[BlockLimit]) -> Result<(Vec<(u32, u32, u16)>, Vec<rs::BlkioLimit>)> {
    let (mut weights, mut rates) = (Vec::new(), Vec::new());
    for limit in limits {
        let device = rt::defaults::device_at(&limit.path, &limit.path.to_string_lossy())?;
        if device.kind != rs::DeviceKind::Block {
            return Err(Error::invalid(format!("{} is not a block device", limit.path.display()))
                .with_hint("limits are for whole disks: lsblk -d lists them"));
        }
        let (major, minor) = (device.major, device.minor);
        weights.extend(limit.weight.map(|weight| (major, minor, weight)));
        let rate = rs::BlkioLimit {
            major,
            minor,
            read_bps: limit.read_bps,
            write_bps: limit.write_bps,
            read_iops: limit.read_iops,
            write_iops: limit.write_iops,
        };
        if rate != (rs::BlkioLimit { major, minor, ..rs::BlkioLimit::default() }) {
            rates.push(rate);
        }
    }
    Ok((weights, rates))
}

/// Weights of disks that have no effect, because the disk's scheduler knows none.
pub(super) fn ignored_weights(limits: &[BlockLimit]) -> Vec<String> {
    let ignored = |limit: &BlockLimit| {
        limit.weight?;
        let device = rt::defaults::device_at(&limit.path, "").ok()?;
        let file = format!("/sys/dev/block/{}:{}/queue/scheduler", device.major, device.minor);
        let active = active_scheduler(&std::fs::read_to_string(file).ok()?)?;
        (active != "bfq").then(|| {
            format!(
                "The scheduler of {} ({active}) knows no weights: its weight has no effect. To change that: echo bfq > \
                 /sys/dev/block/{}:{}/queue/scheduler",
                limit.path.display(),
                device.major,
                device.minor
            )
        })
    };
    // The cost model of cgroup v2 needs no scheduler.
    match rt::cgroup::Layout::detect() {
        Ok(layout) if !layout.is_v2() => limits.iter().filter_map(ignored).collect(),
        _ => Vec::new(),
    }
}

/// The one in brackets: `none [mq-deadline] bfq`.
fn active_scheduler(text: &str) -> Option<String> {
    let (_, rest) = text.split_once('[')?;
    rest.split_once(']').map(|(name, _)| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedulers() {
        assert_eq!(active_scheduler("none [mq-deadline] kyber bfq\n").as_deref(), Some("mq-deadline"));
        assert_eq!(active_scheduler("none\n"), None);
        assert_eq!(active_scheduler("[none"), None);
    }

    #[test]
    fn what_is_no_disk_has_no_limits() {
        let limit = BlockLimit { path: "/dev/null".into(), read_bps: Some(1), ..BlockLimit::default() };
        assert!(block_limits(&[limit]).unwrap_err().to_string().contains("not a block device"));
        assert!(
            ignored_weights(&[BlockLimit { path: "/none".into(), weight: Some(1), ..BlockLimit::default() }])
                .is_empty()
        );
    }
}
