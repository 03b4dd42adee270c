//! `GET /containers/{id}/stats`.

use barque_api::container as wire;
use barque_engine::container::ContainerStats;

/// One reading as the wire has it; `previous` fills `precpu_stats`.
pub(crate) fn reading(
    id: &str,
    name: &str,
    now: &Reading,
    previous: Option<&Reading>,
    version: barque_api::ApiVersion,
) -> wire::ContainerStats {
    let stats = &now.stats;
    wire::ContainerStats {
        id: id.to_owned(),
        name: format!("/{name}"),
        os_type: if version.at_least(52) { "linux".into() } else { String::new() },
        read: now.time.clone(),
        cpu_stats: cpu(stats),
        memory_stats: memory(stats),
        networks: networks(stats),
        pids_stats: wire::PidsStats { current: stats.cgroup.pids.current, limit: stats.cgroup.pids.limit },
        blkio_stats: blkio(stats),
        preread: previous.map_or_else(|| barque_model::time::ZERO.to_owned(), |previous| previous.time.clone()),
        precpu_stats: previous.map(|previous| cpu(&previous.stats)).unwrap_or_default(),
        ..wire::ContainerStats::default()
    }
}

/// A reading and its time, RFC 3339.
pub(crate) struct Reading {
    pub(crate) stats: ContainerStats,
    pub(crate) time: String,
}

/// What Docker sends for a container that does not run.
pub(crate) fn stopped(id: &str, name: &str) -> wire::ContainerStats {
    wire::ContainerStats {
        id: id.to_owned(),
        name: format!("/{name}"),
        read: barque_model::time::ZERO.to_owned(),
        preread: barque_model::time::ZERO.to_owned(),
        ..wire::ContainerStats::default()
    }
}

fn cpu(stats: &ContainerStats) -> wire::CpuStats {
    let cpu = &stats.cgroup.cpu;
    wire::CpuStats {
        cpu_usage: wire::CpuUsage {
            total_usage: cpu.total,
            percpu_usage: super::listed(cpu.per_cpu.clone()),
            usage_in_kernelmode: cpu.kernel,
            usage_in_usermode: cpu.user,
        },
        system_cpu_usage: stats.system_cpu,
        online_cpus: u32::try_from(stats.online_cpus).unwrap_or(0),
        throttling_data: wire::ThrottlingData {
            periods: cpu.periods,
            throttled_periods: cpu.throttled_periods,
            throttled_time: cpu.throttled_time,
        },
    }
}

fn memory(stats: &ContainerStats) -> wire::MemoryStats {
    let memory = &stats.cgroup.memory;
    wire::MemoryStats {
        usage: memory.usage,
        max_usage: memory.max_usage,
        stats: Some(memory.stat.iter().cloned().collect()),
        failcnt: memory.failcnt,
        limit: memory.limit,
    }
}

fn networks(stats: &ContainerStats) -> Option<std::collections::BTreeMap<String, wire::NetworkStats>> {
    let rows = stats.interfaces.iter().filter(|interface| interface.ifname != "lo").map(|interface| {
        let counters = wire::NetworkStats {
            rx_bytes: interface.rx_bytes,
            rx_packets: interface.rx_packets,
            rx_errors: interface.rx_errors,
            rx_dropped: interface.rx_dropped,
            tx_bytes: interface.tx_bytes,
            tx_packets: interface.tx_packets,
            tx_errors: interface.tx_errors,
            tx_dropped: interface.tx_dropped,
        };
        (interface.ifname.clone(), counters)
    });
    Some(rows.collect())
}

fn blkio(stats: &ContainerStats) -> wire::BlkioStats {
    // v1 has capital letters, v2 none; clients compare without regard to case.
    let (read, write) = if stats.cgroup.v2 { ("read", "write") } else { ("Read", "Write") };
    let (mut bytes, mut operations) = (Vec::new(), Vec::new());
    for device in &stats.cgroup.blkio {
        let entry = |op: &str, value| wire::BlkioStatEntry {
            major: u64::from(device.major),
            minor: u64::from(device.minor),
            op: op.to_owned(),
            value,
        };
        bytes.extend([entry(read, device.read_bytes), entry(write, device.write_bytes)]);
        operations.extend([entry(read, device.read_ops), entry(write, device.write_ops)]);
    }
    wire::BlkioStats {
        io_service_bytes_recursive: Some(bytes),
        io_serviced_recursive: Some(operations),
        io_queue_recursive: Some(Vec::new()),
        io_service_time_recursive: Some(Vec::new()),
        io_wait_time_recursive: Some(Vec::new()),
        io_merged_recursive: Some(Vec::new()),
        io_time_recursive: Some(Vec::new()),
        sectors_recursive: Some(Vec::new()),
    }
}
