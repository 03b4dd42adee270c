//! What a container has used, read from its cgroups.

/// A reading. Fields the kernel does not offer are zero or empty.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stats {
    pub cpu: CpuStats,
    pub memory: MemoryStats,
    pub pids: PidsStats,
    pub blkio: Vec<BlkioStats>,
    /// Read from cgroup v2.
    pub v2: bool,
}

/// Nanoseconds unless said otherwise.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CpuStats {
    pub total: u64,
    pub user: u64,
    pub kernel: u64,
    /// Per CPU; v1 only.
    pub per_cpu: Vec<u64>,
    /// Number of enforcement periods, of those throttled, and the time spent so.
    pub periods: u64,
    pub throttled_periods: u64,
    pub throttled_time: u64,
    /// Of the whole machine, all states, as Docker's `system_cpu_usage`.
    pub system: u64,
    pub online_cpus: u32,
}

/// Bytes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MemoryStats {
    pub usage: u64,
    /// v1 only.
    pub max_usage: u64,
    /// The limit, at most the memory of the machine.
    pub limit: u64,
    /// How often the limit was hit.
    pub failcnt: u64,
    /// `memory.stat`, by name, in file order.
    pub stat: Vec<(String, u64)>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct PidsStats {
    pub current: u64,
    /// 0: unlimited.
    pub limit: u64,
}

/// One block device.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BlkioStats {
    pub major: u32,
    pub minor: u32,
    pub read_bytes: u64,
    pub write_bytes: u64,
    pub read_ops: u64,
    pub write_ops: u64,
}
