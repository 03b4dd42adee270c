//! What a container has used, read from its cgroups.

use std::os::fd::OwnedFd;

use barque_model::{Error, Result};

use super::dir;
use super::live::Group;

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

/// Clock ticks of the kernel's user interfaces, per second: 100 on every architecture.
const NANOS_PER_TICK: u64 = 10_000_000;

/// Reads all numbers of a container.
pub(super) fn read(group: &Group) -> Result<Stats> {
    if group.pids().is_err() && group.dirs.iter().all(|d| !d.path.exists()) {
        return Err(Error::not_found("the container has ended"));
    }
    let mut stats = if group.v2 { read_v2(group) } else { read_v1(group) };
    let text = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    (stats.cpu.system, stats.cpu.online_cpus) = system_cpu(&text);
    let memory = total_memory();
    stats.memory.limit = if stats.memory.limit == 0 { memory } else { stats.memory.limit.min(memory) };
    Ok(stats)
}

fn opened(group: &Group, controller: &str) -> Option<OwnedFd> {
    dir::open(group.dir_of(controller)?).ok()
}

fn read_v1(group: &Group) -> Stats {
    let mut s = Stats::default();
    if let Some(d) = opened(group, "cpuacct") {
        s.cpu.total = dir::read_number(&d, "cpuacct.usage").unwrap_or(0);
        let ticks = |key| dir::read_key(&d, "cpuacct.stat", key).unwrap_or(0) * NANOS_PER_TICK;
        (s.cpu.user, s.cpu.kernel) = (ticks("user"), ticks("system"));
        let per_cpu = dir::read(&d, "cpuacct.usage_percpu").unwrap_or_default();
        s.cpu.per_cpu = per_cpu.split_ascii_whitespace().filter_map(|n| n.parse().ok()).collect();
    }
    if let Some(d) = opened(group, "cpu") {
        let key = |key| dir::read_key(&d, "cpu.stat", key).unwrap_or(0);
        s.cpu.periods = key("nr_periods");
        s.cpu.throttled_periods = key("nr_throttled");
        s.cpu.throttled_time = key("throttled_time");
    }
    if let Some(d) = opened(group, "memory") {
        let number = |file| dir::read_number(&d, file).unwrap_or(0);
        s.memory.usage = number("memory.usage_in_bytes");
        s.memory.max_usage = number("memory.max_usage_in_bytes");
        s.memory.limit = number("memory.limit_in_bytes");
        s.memory.failcnt = number("memory.failcnt");
        s.memory.stat = pairs(&dir::read(&d, "memory.stat").unwrap_or_default());
    }
    read_pids(group, &mut s);
    if let Some(d) = opened(group, "blkio") {
        for (file, bytes) in
            [("blkio.throttle.io_service_bytes_recursive", true), ("blkio.throttle.io_serviced_recursive", false)]
        {
            blkio_v1(&dir::read(&d, file).unwrap_or_default(), bytes, &mut s.blkio);
        }
    }
    s
}

fn read_v2(group: &Group) -> Stats {
    let mut s = Stats { v2: true, ..Stats::default() };
    let Some(d) = opened(group, "") else { return s };
    let cpu = pairs(&dir::read(&d, "cpu.stat").unwrap_or_default());
    let key = |name: &str| cpu.iter().find(|(k, _)| k == name).map_or(0, |(_, v)| *v);
    s.cpu.total = key("usage_usec") * 1000;
    s.cpu.user = key("user_usec") * 1000;
    s.cpu.kernel = key("system_usec") * 1000;
    s.cpu.periods = key("nr_periods");
    s.cpu.throttled_periods = key("nr_throttled");
    s.cpu.throttled_time = key("throttled_usec") * 1000;
    s.memory.usage = dir::read_number(&d, "memory.current").unwrap_or(0);
    s.memory.limit = dir::read_number(&d, "memory.max").unwrap_or(0);
    s.memory.failcnt = dir::read_key(&d, "memory.events", "max").unwrap_or(0);
    s.memory.stat = pairs(&dir::read(&d, "memory.stat").unwrap_or_default());
    read_pids(group, &mut s);
    s.blkio = io_stat(&dir::read(&d, "io.stat").unwrap_or_default());
    s
}

fn read_pids(group: &Group, s: &mut Stats) {
    if let Some(d) = opened(group, "pids") {
        s.pids.current = dir::read_number(&d, "pids.current").unwrap_or(0);
        s.pids.limit = dir::read_number(&d, "pids.max").unwrap_or(0);
    }
}

/// Lines `name number`.
fn pairs(text: &str) -> Vec<(String, u64)> {
    let pair = |line: &str| {
        let (name, value) = line.split_once(' ')?;
        Some((name.to_owned(), value.trim().parse().ok()?))
    };
    text.lines().filter_map(pair).collect()
}

fn device<'a>(list: &'a mut Vec<BlkioStats>, number: &str) -> Option<&'a mut BlkioStats> {
    let (major, minor) = number.split_once(':')?;
    let (major, minor) = (major.parse().ok()?, minor.parse().ok()?);
    let at = list.iter().position(|b| (b.major, b.minor) == (major, minor)).unwrap_or_else(|| {
        list.push(BlkioStats { major, minor, ..BlkioStats::default() });
        list.len() - 1
    });
    list.get_mut(at)
}

/// Lines `8:0 Read 4096`, and a total at the end.
fn blkio_v1(text: &str, bytes: bool, list: &mut Vec<BlkioStats>) {
    for line in text.lines() {
        let mut words = line.split(' ');
        let (Some(number), Some(operation), Some(value)) = (words.next(), words.next(), words.next()) else { continue };
        let Ok(value) = value.parse::<u64>() else { continue };
        let Some(stats) = device(list, number) else { continue };
        match (operation, bytes) {
            ("Read", true) => stats.read_bytes = value,
            ("Write", true) => stats.write_bytes = value,
            ("Read", false) => stats.read_ops = value,
            ("Write", false) => stats.write_ops = value,
            _ => {}
        }
    }
}

/// Lines `8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0`.
fn io_stat(text: &str) -> Vec<BlkioStats> {
    let mut list = Vec::new();
    for line in text.lines() {
        let mut words = line.split(' ');
        let Some(stats) = words.next().and_then(|number| device(&mut list, number)) else { continue };
        for (key, value) in words.filter_map(|w| w.split_once('=')) {
            let value = value.parse().unwrap_or(0);
            match key {
                "rbytes" => stats.read_bytes = value,
                "wbytes" => stats.write_bytes = value,
                "rios" => stats.read_ops = value,
                "wios" => stats.write_ops = value,
                _ => {}
            }
        }
    }
    list
}

/// Nanoseconds of all CPUs in all states but guests', and the number of CPUs, from `/proc/stat`.
fn system_cpu(text: &str) -> (u64, u32) {
    let mut total = 0;
    let mut cpus = 0;
    for line in text.lines().take_while(|l| l.starts_with("cpu")) {
        if line.starts_with("cpu ") {
            let ticks = line.split_ascii_whitespace().skip(1).take(8);
            total = ticks.filter_map(|n| n.parse::<u64>().ok()).sum::<u64>() * NANOS_PER_TICK;
        } else {
            cpus += 1;
        }
    }
    (total, cpus)
}

fn total_memory() -> u64 {
    let info = rustix::system::sysinfo();
    info.totalram as u64 * u64::from(info.mem_unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn block_devices_of_both_versions() {
        let mut list = Vec::new();
        blkio_v1("8:0 Read 10\n8:0 Write 20\n8:0 Sync 1\n8:16 Read 5\nTotal 35\n", true, &mut list);
        blkio_v1("8:0 Read 1\n8:0 Write 2\n", false, &mut list);
        assert_eq!(list.len(), 2);
        let v2 = io_stat("8:0 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=0 dios=0\nbad\n");
        assert_eq!(list[0], v2[0]);
        assert_eq!(list[1].read_bytes, 5);
    }

    #[test]
    fn time_of_the_machine() {
        let text = "cpu  1 2 3 4 5 6 7 8 100 100\ncpu0 1 1\ncpu1 1 1\nintr 5\n";
        assert_eq!(system_cpu(text), (36 * NANOS_PER_TICK, 2));
        assert_eq!(system_cpu(""), (0, 0));
    }
}
