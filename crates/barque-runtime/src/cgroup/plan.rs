//! Limits as writes to cgroup files. Pure.

use super::layout::Layout;
use crate::spec::{BlkioLimit, Resources};

/// One write. `controller` says in which v1 hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    pub controller: &'static str,
    pub file: String,
    pub value: String,
    /// A kernel without this file, or one that refuses, is a warning only.
    pub optional: bool,
}

/// CPU periods where the user gives none, microseconds.
const PERIOD: u64 = 100_000;

/// The writes for `r`, in an order a fresh group accepts, and warnings for what this version cannot do.
pub fn writes(layout: &Layout, r: &Resources) -> (Vec<Write>, Vec<String>) {
    if layout.is_v2() { v2(r) } else { v1(r) }
}

struct List(Vec<Write>);

impl List {
    fn add(&mut self, controller: &'static str, file: &str, value: impl ToString) {
        self.push(controller, file, value, false);
    }

    fn try_add(&mut self, controller: &'static str, file: &str, value: impl ToString) {
        self.push(controller, file, value, true);
    }

    fn push(&mut self, controller: &'static str, file: &str, value: impl ToString, optional: bool) {
        self.0.push(Write { controller, file: file.to_owned(), value: value.to_string(), optional });
    }
}

/// Quota and period; nano CPUs are Docker's shorthand for them.
fn cpu_quota(r: &Resources) -> (Option<i64>, Option<u64>) {
    match r.nano_cpus {
        Some(nano) => {
            let quota = u128::from(nano) * u128::from(PERIOD) / 1_000_000_000;
            (Some(i64::try_from(quota).unwrap_or(i64::MAX)), Some(PERIOD))
        }
        None => (r.cpu_quota, r.cpu_period),
    }
}

/// Memory and swap together: asked for, else twice the memory.
fn memory_and_swap(r: &Resources) -> Option<i64> {
    r.memory_swap.or_else(|| r.memory.map(|m| i64::try_from(m.saturating_mul(2)).unwrap_or(-1)))
}

fn v1(r: &Resources) -> (Vec<Write>, Vec<String>) {
    let mut w = List(Vec::new());
    if let Some(memory) = r.memory {
        w.add("memory", "memory.limit_in_bytes", memory);
    }
    if let Some(both) = memory_and_swap(r) {
        // Missing where the kernel does not account for swap.
        w.try_add("memory", "memory.memsw.limit_in_bytes", both);
    }
    if let Some(soft) = r.memory_reservation {
        w.add("memory", "memory.soft_limit_in_bytes", soft);
    }
    if let Some(swappiness) = r.memory_swappiness {
        w.add("memory", "memory.swappiness", swappiness);
    }
    if r.oom_kill_disable {
        w.add("memory", "memory.oom_control", 1);
    }
    if let Some(shares) = r.cpu_shares {
        w.add("cpu", "cpu.shares", shares);
    }
    let (quota, period) = cpu_quota(r);
    if let Some(period) = period {
        w.add("cpu", "cpu.cfs_period_us", period);
    }
    if let Some(quota) = quota {
        w.add("cpu", "cpu.cfs_quota_us", quota);
    }
    if let Some(cpus) = &r.cpuset_cpus {
        w.add("cpuset", "cpuset.cpus", cpus);
    }
    if let Some(mems) = &r.cpuset_mems {
        w.add("cpuset", "cpuset.mems", mems);
    }
    pids(&mut w, r);
    if let Some(weight) = r.blkio_weight {
        w.try_add("blkio", "blkio.bfq.weight", weight);
    }
    for (major, minor, weight) in &r.blkio_weight_devices {
        w.try_add("blkio", "blkio.bfq.weight_device", format!("{major}:{minor} {weight}"));
    }
    for limit in &r.blkio_throttle {
        for (file, value) in [
            ("blkio.throttle.read_bps_device", limit.read_bps),
            ("blkio.throttle.write_bps_device", limit.write_bps),
            ("blkio.throttle.read_iops_device", limit.read_iops),
            ("blkio.throttle.write_iops_device", limit.write_iops),
        ] {
            if let Some(value) = value {
                w.add("blkio", file, format!("{}:{} {value}", limit.major, limit.minor));
            }
        }
    }
    (w.0, Vec::new())
}

fn pids(w: &mut List, r: &Resources) {
    match r.pids {
        Some(n) if n > 0 => w.add("pids", "pids.max", n),
        Some(_) => w.add("pids", "pids.max", "max"),
        None => {}
    }
}

fn v2(r: &Resources) -> (Vec<Write>, Vec<String>) {
    let mut w = List(Vec::new());
    let mut warnings = Vec::new();
    if let Some(memory) = r.memory {
        w.add("memory", "memory.max", memory);
    }
    match (memory_and_swap(r), r.memory) {
        (Some(both), _) if both < 0 => w.try_add("memory", "memory.swap.max", "max"),
        (Some(both), Some(memory)) => {
            w.try_add("memory", "memory.swap.max", u64::try_from(both).unwrap_or(0).saturating_sub(memory));
        }
        _ => {}
    }
    if let Some(soft) = r.memory_reservation {
        w.add("memory", "memory.low", soft);
    }
    if r.memory_swappiness.is_some() {
        warnings.push("memory swappiness needs cgroup v1, discarded".to_owned());
    }
    if r.oom_kill_disable {
        warnings.push("disabling the OOM killer needs cgroup v1, discarded".to_owned());
    }
    if let Some(shares) = r.cpu_shares.filter(|s| *s != 0) {
        w.add("cpu", "cpu.weight", weight_of_shares(shares));
    }
    let (quota, period) = cpu_quota(r);
    if quota.is_some() || period.is_some() {
        let quota = quota.filter(|q| *q > 0).map_or_else(|| "max".to_owned(), |q| q.to_string());
        w.add("cpu", "cpu.max", format!("{quota} {}", period.unwrap_or(PERIOD)));
    }
    if let Some(cpus) = &r.cpuset_cpus {
        w.add("cpuset", "cpuset.cpus", cpus);
    }
    if let Some(mems) = &r.cpuset_mems {
        w.add("cpuset", "cpuset.mems", mems);
    }
    pids(&mut w, r);
    // The scheduler BFQ has a file of its own, with v1's range; io.weight is the cost model's.
    if let Some(weight) = r.blkio_weight {
        w.try_add("io", "io.bfq.weight", format!("default {weight}"));
        w.try_add("io", "io.weight", format!("default {}", io_weight(weight)));
    }
    for (major, minor, weight) in &r.blkio_weight_devices {
        w.try_add("io", "io.bfq.weight", format!("{major}:{minor} {weight}"));
        w.try_add("io", "io.weight", format!("{major}:{minor} {}", io_weight(*weight)));
    }
    for limit in &r.blkio_throttle {
        if let Some(value) = io_max(limit) {
            w.add("io", "io.max", value);
        }
    }
    (w.0, warnings)
}

/// 10..=1000 (v1) to 1..=10000 (v2), keeping the ends.
fn io_weight(weight: u16) -> u32 {
    1 + u32::from(weight).saturating_sub(10) * 9999 / 990
}

fn io_max(limit: &BlkioLimit) -> Option<String> {
    let mut text = format!("{}:{}", limit.major, limit.minor);
    let bare = text.len();
    for (key, value) in
        [("rbps", limit.read_bps), ("wbps", limit.write_bps), ("riops", limit.read_iops), ("wiops", limit.write_iops)]
    {
        if let Some(value) = value {
            text.push_str(&format!(" {key}={value}"));
        }
    }
    (text.len() > bare).then_some(text)
}

/// CPU shares (v1, 2 to 262144, normal 1024) as a weight (v2, 1 to 10000, normal 100): the curve through
/// (2, 1), (1024, 100) and (262144, 10000) in logarithms, as OCI runtimes convert since 2025.
fn weight_of_shares(shares: u64) -> u64 {
    if shares <= 2 {
        return 1;
    }
    if shares >= 262_144 {
        return 10_000;
    }
    let l = (shares as f64).log2();
    let exponent = (l * l + 125.0 * l) / 612.0 - 7.0 / 34.0;
    (10f64.powf(exponent).ceil() as u64).clamp(1, 10_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(layout: &Layout, r: &Resources) -> Vec<String> {
        writes(layout, r).0.into_iter().map(|w| format!("{}={}", w.file, w.value)).collect()
    }

    #[test]
    fn the_same_limits_in_both_versions() {
        let r = Resources {
            memory: Some(64 << 20),
            memory_reservation: Some(1 << 20),
            nano_cpus: Some(1_500_000_000),
            cpu_shares: Some(1024),
            pids: Some(-1),
            cpuset_cpus: Some("0-1".into()),
            blkio_throttle: vec![BlkioLimit {
                major: 8,
                minor: 0,
                read_bps: Some(1000),
                write_bps: None,
                read_iops: None,
                write_iops: Some(5),
            }],
            ..Resources::default()
        };
        assert_eq!(
            lines(&Layout::V1(Vec::new()), &r),
            [
                "memory.limit_in_bytes=67108864",
                "memory.memsw.limit_in_bytes=134217728",
                "memory.soft_limit_in_bytes=1048576",
                "cpu.shares=1024",
                "cpu.cfs_period_us=100000",
                "cpu.cfs_quota_us=150000",
                "cpuset.cpus=0-1",
                "pids.max=max",
                "blkio.throttle.read_bps_device=8:0 1000",
                "blkio.throttle.write_iops_device=8:0 5",
            ]
        );
        assert_eq!(
            lines(&Layout::V2("/c".into()), &r),
            [
                "memory.max=67108864",
                "memory.swap.max=67108864",
                "memory.low=1048576",
                "cpu.weight=100",
                "cpu.max=150000 100000",
                "cpuset.cpus=0-1",
                "pids.max=max",
                "io.max=8:0 rbps=1000 wiops=5",
            ]
        );
    }

    #[test]
    fn unlimited_swap_and_quota() {
        let r = Resources {
            memory: Some(10),
            memory_swap: Some(-1),
            cpu_quota: Some(-1),
            oom_kill_disable: true,
            ..Resources::default()
        };
        assert_eq!(lines(&Layout::V2("/c".into()), &r)[1..], ["memory.swap.max=max", "cpu.max=max 100000"]);
        assert_eq!(writes(&Layout::V2("/c".into()), &r).1.len(), 1, "no OOM switch on v2");
        assert_eq!(lines(&Layout::V1(Vec::new()), &Resources::default()), Vec::<String>::new());
    }

    #[test]
    fn block_devices_in_both_versions() {
        let limit = BlkioLimit {
            major: 254,
            minor: 0,
            read_bps: Some(1),
            write_bps: Some(2),
            read_iops: Some(3),
            write_iops: Some(4),
        };
        let r = Resources {
            blkio_weight: Some(300),
            blkio_weight_devices: vec![(254, 0, 1000)],
            blkio_throttle: vec![limit, BlkioLimit { major: 8, minor: 16, ..BlkioLimit::default() }],
            ..Resources::default()
        };
        assert_eq!(
            lines(&Layout::V1(Vec::new()), &r),
            [
                "blkio.bfq.weight=300",
                "blkio.bfq.weight_device=254:0 1000",
                "blkio.throttle.read_bps_device=254:0 1",
                "blkio.throttle.write_bps_device=254:0 2",
                "blkio.throttle.read_iops_device=254:0 3",
                "blkio.throttle.write_iops_device=254:0 4",
            ]
        );
        assert_eq!(
            lines(&Layout::V2("/c".into()), &r),
            [
                "io.bfq.weight=default 300",
                "io.weight=default 2930",
                "io.bfq.weight=254:0 1000",
                "io.weight=254:0 10000",
                "io.max=254:0 rbps=1 wbps=2 riops=3 wiops=4",
            ]
        );
    }

    #[test]
    fn weights_keep_ends_and_middle() {
        assert_eq!([10, 505, 1000].map(io_weight), [1, 5000, 10_000]);
        assert_eq!([0, 2, 1024, 262_144, 1 << 40].map(weight_of_shares), [1, 1, 100, 10_000, 10_000]);
        assert!(weight_of_shares(512) < 100 && weight_of_shares(2048) > 100);
    }
}
