//! `GET /containers/{id}/stats`: one document per second, or one in all.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::json;

/// One reading of a container's counters (definition `ContainerStatsResponse`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerStats {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// With a leading slash.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Since 1.52.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub os_type: String,
    /// RFC 3339 with nanoseconds.
    pub read: String,
    pub cpu_stats: CpuStats,
    pub memory_stats: MemoryStats,
    /// By interface name.
    #[serde(skip_serializing_if = "json::no_entries")]
    pub networks: Option<BTreeMap<String, NetworkStats>>,
    pub pids_stats: PidsStats,
    pub blkio_stats: BlkioStats,
    /// Windows only.
    pub num_procs: u32,
    /// Windows only.
    pub storage_stats: StorageStats,
    /// The previous reading's time.
    pub preread: String,
    pub precpu_stats: CpuStats,
}

/// CPU time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CpuStats {
    pub cpu_usage: CpuUsage,
    /// Nanoseconds of the whole machine.
    #[serde(skip_serializing_if = "json::is_zero")]
    pub system_cpu_usage: u64,
    #[serde(skip_serializing_if = "json::is_zero")]
    pub online_cpus: u32,
    pub throttling_data: ThrottlingData,
}

/// CPU time of a container, nanoseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CpuUsage {
    pub total_usage: u64,
    #[serde(skip_serializing_if = "json::no_items")]
    pub percpu_usage: Option<Vec<u64>>,
    pub usage_in_kernelmode: u64,
    pub usage_in_usermode: u64,
}

/// How often and how long a container was throttled.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ThrottlingData {
    pub periods: u64,
    pub throttled_periods: u64,
    /// Nanoseconds.
    pub throttled_time: u64,
}

/// Memory, bytes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct MemoryStats {
    #[serde(skip_serializing_if = "json::is_zero")]
    pub usage: u64,
    /// cgroup v1 only.
    #[serde(skip_serializing_if = "json::is_zero")]
    pub max_usage: u64,
    /// The lines of `memory.stat`.
    #[serde(skip_serializing_if = "json::no_entries")]
    pub stats: Option<BTreeMap<String, u64>>,
    /// cgroup v1 only.
    #[serde(skip_serializing_if = "json::is_zero")]
    pub failcnt: u64,
    #[serde(skip_serializing_if = "json::is_zero")]
    pub limit: u64,
}

/// Processes and threads.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PidsStats {
    #[serde(skip_serializing_if = "json::is_zero")]
    pub current: u64,
    #[serde(skip_serializing_if = "json::is_zero")]
    pub limit: u64,
}

/// Block devices.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct BlkioStats {
    pub io_service_bytes_recursive: Option<Vec<BlkioStatEntry>>,
    pub io_serviced_recursive: Option<Vec<BlkioStatEntry>>,
    pub io_queue_recursive: Option<Vec<BlkioStatEntry>>,
    pub io_service_time_recursive: Option<Vec<BlkioStatEntry>>,
    pub io_wait_time_recursive: Option<Vec<BlkioStatEntry>>,
    pub io_merged_recursive: Option<Vec<BlkioStatEntry>>,
    pub io_time_recursive: Option<Vec<BlkioStatEntry>>,
    pub sectors_recursive: Option<Vec<BlkioStatEntry>>,
}

/// One counter of one block device.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct BlkioStatEntry {
    pub major: u64,
    pub minor: u64,
    /// `read`, `write`, …
    pub op: String,
    pub value: u64,
}

/// Counters of one interface.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct NetworkStats {
    pub rx_bytes: u64,
    pub rx_packets: u64,
    pub rx_errors: u64,
    pub rx_dropped: u64,
    pub tx_bytes: u64,
    pub tx_packets: u64,
    pub tx_errors: u64,
    pub tx_dropped: u64,
}

/// Windows only.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct StorageStats {
    #[serde(skip_serializing_if = "json::is_zero")]
    pub read_count_normalized: u64,
    #[serde(skip_serializing_if = "json::is_zero")]
    pub read_size_bytes: u64,
    #[serde(skip_serializing_if = "json::is_zero")]
    pub write_count_normalized: u64,
    #[serde(skip_serializing_if = "json::is_zero")]
    pub write_size_bytes: u64,
}

crate::query! {
    /// Query of `GET /containers/{id}/stats`.
    pub struct StatsQuery {
        /// Keep sending, one document per second (default).
        stream: Option<bool> => "stream",
        /// With `stream=0`: do not wait for a second reading (1.41).
        one_shot: bool => "one-shot",
    }
}
