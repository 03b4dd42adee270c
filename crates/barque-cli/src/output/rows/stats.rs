//! `stats`.

use barque_api::container::ContainerStats;
use barque_template::{Data, Struct};

use crate::output::human;
use crate::output::listing::Titles;

pub(crate) const TITLES: Titles = &[
    ("Container", "CONTAINER"),
    ("Name", "NAME"),
    ("ID", "CONTAINER ID"),
    ("CPUPerc", "CPU %"),
    ("MemUsage", "MEM USAGE / LIMIT"),
    ("MemPerc", "MEM %"),
    ("NetIO", "NET I/O"),
    ("BlockIO", "BLOCK I/O"),
    ("PIDs", "PIDS"),
];

pub(crate) const TABLE: &str =
    "table {{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t{{.BlockIO}}\t{{.PIDs}}";

/// The figures of one container.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Entry {
    /// As the user named it.
    pub(crate) container: String,
    pub(crate) id: String,
    /// Without the slash; empty before the first sample.
    pub(crate) name: String,
    /// Nothing before the first sample, and after an error.
    pub(crate) sample: Option<Sample>,
}

/// What one sample says.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Sample {
    pub(crate) cpu_percent: f64,
    pub(crate) memory: u64,
    pub(crate) memory_limit: u64,
    pub(crate) received: u64,
    pub(crate) sent: u64,
    pub(crate) read: u64,
    pub(crate) written: u64,
    pub(crate) pids: u64,
}

/// The figures of a sample, computed as Docker's client does.
pub(crate) fn sample(stats: &ContainerStats) -> Sample {
    let memory = memory(stats);
    let network = stats.networks.iter().flatten();
    let (received, sent) = network.fold((0, 0), |(r, s), (_, n)| (r + n.rx_bytes, s + n.tx_bytes));
    let (mut read, mut written) = (0, 0);
    for entry in stats.blkio_stats.io_service_bytes_recursive.iter().flatten() {
        match entry.op.chars().next().map(|c| c.to_ascii_lowercase()) {
            Some('r') => read += entry.value,
            Some('w') => written += entry.value,
            _ => {}
        }
    }
    Sample {
        cpu_percent: cpu_percent(stats),
        memory,
        memory_limit: stats.memory_stats.limit,
        received,
        sent,
        read,
        written,
        pids: stats.pids_stats.current,
    }
}

/// Share of all CPUs' time since the sample before, 100 per CPU.
fn cpu_percent(stats: &ContainerStats) -> f64 {
    let (now, before) = (&stats.cpu_stats, &stats.precpu_stats);
    let used = now.cpu_usage.total_usage as f64 - before.cpu_usage.total_usage as f64;
    let total = now.system_cpu_usage as f64 - before.system_cpu_usage as f64;
    let cpus = match now.online_cpus {
        0 => now.cpu_usage.percpu_usage.as_ref().map_or(0, Vec::len) as f64,
        online => f64::from(online),
    };
    if total > 0.0 && used > 0.0 { used / total * cpus * 100.0 } else { 0.0 }
}

/// Memory in use, without the cache that the kernel would give back first.
fn memory(stats: &ContainerStats) -> u64 {
    let usage = stats.memory_stats.usage;
    let figures = stats.memory_stats.stats.as_ref();
    // cgroup v1, then v2.
    let cache = ["total_inactive_file", "inactive_file"]
        .iter()
        .find_map(|name| figures.and_then(|s| s.get(*name)).copied().filter(|inactive| *inactive < usage));
    usage - cache.unwrap_or(0)
}

/// One line.
pub(crate) fn row(entry: &Entry, trunc: bool) -> Data {
    let none = || "--".to_owned();
    let sample = entry.sample.as_ref();
    let with = |text: &dyn Fn(&Sample) -> String| Data::from(sample.map_or_else(none, text));
    let percent = |value: f64| format!("{value:.2}%");
    let pair = |a: u64, b: u64| {
        let three = |n| barque_model::size::human_precision(n, 3);
        format!("{} / {}", three(a), three(b))
    };
    let memory = sample.map_or_else(
        || "-- / --".to_owned(),
        |s| {
            let binary = barque_model::size::binary;
            format!("{} / {}", binary(s.memory), binary(s.memory_limit))
        },
    );
    let memory_percent = |s: &Sample| {
        let share = if s.memory_limit == 0 { 0.0 } else { s.memory as f64 / s.memory_limit as f64 * 100.0 };
        percent(share)
    };
    Struct::row(
        "*container.statsContext",
        vec![
            ("Container", Data::str(&entry.container)),
            ("Name", Data::from(if entry.name.is_empty() { none() } else { entry.name.clone() })),
            ("ID", Data::str(if trunc { human::short_id(&entry.id) } else { &entry.id })),
            ("CPUPerc", with(&|s| percent(s.cpu_percent))),
            ("MemUsage", Data::from(memory)),
            ("MemPerc", with(&memory_percent)),
            ("NetIO", with(&|s| pair(s.received, s.sent))),
            ("BlockIO", with(&|s| pair(s.read, s.written))),
            ("PIDs", with(&|s| s.pids.to_string())),
        ],
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stats(cgroup: &str) -> ContainerStats {
        barque_api::json::from_str(&format!(
            r#"{{"name":"/one","cpu_stats":{{"cpu_usage":{{"total_usage":300}},"system_cpu_usage":2000,"online_cpus":2}},
            "precpu_stats":{{"cpu_usage":{{"total_usage":100}},"system_cpu_usage":1000}},
            "memory_stats":{{"usage":1000,"limit":4000,"stats":{{"{cgroup}":600}}}},
            "networks":{{"eth0":{{"rx_bytes":1,"tx_bytes":2}},"eth1":{{"rx_bytes":10,"tx_bytes":20}}}},
            "blkio_stats":{{"io_service_bytes_recursive":[{{"op":"Read","value":5}},{{"op":"write","value":7}}]}}}}"#
        ))
        .expect("parses")
    }

    #[test]
    fn figures_are_dockers() {
        for cgroup in ["total_inactive_file", "inactive_file"] {
            let sample = sample(&stats(cgroup));
            assert!((sample.cpu_percent - 40.0).abs() < 1e-9);
            assert_eq!((sample.memory, sample.received, sample.sent), (400, 11, 22));
            assert_eq!((sample.read, sample.written), (5, 7));
        }
    }

    #[test]
    fn before_the_first_sample_there_are_dashes() {
        let entry = Entry { container: "x".into(), ..Entry::default() };
        let text = crate::output::listing::render("{{.Name}} {{.MemUsage}} {{.CPUPerc}}", TITLES, &[row(&entry, true)]);
        assert_eq!(text.expect("renders"), "-- -- / -- --\n");
    }
}
