//! What limits make sense together and on this machine: one list for containers, their updates, and builds.

use std::collections::BTreeSet;

use barque_api::container::{Resources, Ulimit};
use barque_engine::system::own_hard_limit;
use barque_model::{Error, Result};
use rustix::thread::{CapabilitySet, capabilities};

const MEMORY_MIN: i64 = 6 << 20;
/// Microseconds (sched-bwc(7)): the kernel takes no others.
const PERIODS: std::ops::RangeInclusive<i64> = 1_000..=1_000_000;
const QUOTA_MIN: i64 = 1_000;
/// No machine has a CPU of a higher number: longer lists are not taken apart.
const CPU_MAX: u32 = 8191;

/// What the machine has, and what it lets the engine do.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    pub(crate) cpus: usize,
    /// As in cpuset(7), "List format".
    cpu_list: String,
    node_list: String,
    /// The unified hierarchy: containers get a cgroup namespace of their own.
    pub(crate) cgroup_v2: bool,
    /// Block I/O has weights (cgroup v1 without CFQ or BFQ has none).
    weights: bool,
    /// CAP_SYS_RESOURCE: hard limits may be raised, OOM scores lowered.
    may_raise: bool,
    /// The engine's own hard limits by the names of `--ulimit`; `None`: without limit.
    hard: fn(&str) -> Option<u64>,
    oom_score_adj: i64,
}

impl Machine {
    pub(crate) fn this() -> Machine {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
        let there = |path: &str| std::path::Path::new(path).exists();
        let cgroup_v2 = there("/sys/fs/cgroup/cgroup.controllers");
        Machine {
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            cpu_list: read("/sys/devices/system/cpu/online"),
            node_list: read("/sys/devices/system/node/online"),
            cgroup_v2,
            weights: cgroup_v2
                || ["weight", "bfq.weight"].iter().any(|f| there(&format!("/sys/fs/cgroup/blkio/blkio.{f}"))),
            may_raise: capabilities(None).is_ok_and(|own| own.effective.contains(CapabilitySet::SYS_RESOURCE)),
            hard: own_hard_limit,
            oom_score_adj: read("/proc/self/oom_score_adj").parse().unwrap_or(0),
        }
    }

    #[cfg(test)]
    pub(crate) fn with_two_cpus() -> Machine {
        Machine {
            cpus: 2,
            cpu_list: "0-1".into(),
            node_list: "0".into(),
            cgroup_v2: false,
            weights: true,
            may_raise: true,
            hard: |name| (name == "nofile").then_some(20_000),
            oom_score_adj: 0,
        }
    }
}

/// Warnings on limits that are dangerous, or cannot be had here.
///
/// # Errors
/// Docker's sentences on limits that the kernel would refuse, or that contradict each other.
pub(crate) fn check(limits: &Resources, oom_score_adj: i64, machine: &Machine) -> Result<Vec<String>> {
    memory(limits)?;
    processors(limits, machine)?;
    let mut warnings = discarded(limits, machine);
    warnings.extend(beyond_rights(limits, oom_score_adj, machine));
    if limits.oom_kill_disable == Some(true) && limits.memory <= 0 && !machine.cgroup_v2 {
        warnings.push(
            "OOM killer is disabled for the container, but no memory limit is set, this can result in the system \
             running out of resources."
                .into(),
        );
    }
    Ok(warnings)
}

/// What the kernel has no means for, in Docker's words.
fn discarded(limits: &Resources, machine: &Machine) -> Vec<String> {
    let mut warnings = Vec::new();
    if limits.blkio_weight != 0 && !machine.weights {
        let lacking = "Your kernel does not support Block I/O weight or the cgroup is not mounted. Weight discarded.";
        warnings.push(lacking.into());
    }
    if machine.cgroup_v2 && limits.oom_kill_disable == Some(true) {
        warnings.push("Your kernel does not support OomKillDisable. OomKillDisable discarded.".into());
    }
    if machine.cgroup_v2 && limits.memory_swappiness.is_some_and(|value| value != -1) {
        warnings.push(
            "Your kernel does not support memory swappiness capabilities or the cgroup is not mounted. Memory \
             swappiness discarded."
                .into(),
        );
    }
    warnings
}

/// What the engine lacks the right for. Docker's container would not start; here it does, with less.
fn beyond_rights(limits: &Resources, oom_score_adj: i64, machine: &Machine) -> Vec<String> {
    if machine.may_raise {
        return Vec::new();
    }
    let above = |limit: &Ulimit| {
        let own = (machine.hard)(&limit.name)?;
        // -1 is no limit.
        let beyond = u64::try_from(limit.hard).map_or(true, |hard| hard > own);
        beyond.then(|| {
            format!(
                "ulimit {}: the engine may not raise its own hard limit here (CAP_SYS_RESOURCE is missing): it stays {own}",
                limit.name
            )
        })
    };
    let mut warnings: Vec<String> = limits.ulimits.iter().flatten().filter_map(above).collect();
    if oom_score_adj != 0 && oom_score_adj < machine.oom_score_adj {
        warnings.push(format!(
            "OOM score {oom_score_adj}: the engine may not go below its own here (CAP_SYS_RESOURCE is missing): it stays {}",
            machine.oom_score_adj
        ));
    }
    warnings
}

fn memory(limits: &Resources) -> Result<()> {
    let (memory, swap, reservation) = (limits.memory, limits.memory_swap, limits.memory_reservation);
    let refused = |sentence: &str| Err(Error::invalid(sentence));
    if memory > 0 && memory < MEMORY_MIN {
        return refused("Minimum memory limit allowed is 6MB");
    }
    if memory > 0 && swap > 0 && swap < memory {
        return refused("Minimum memoryswap limit should be larger than memory limit, see usage");
    }
    if memory == 0 && swap > 0 {
        return refused("You should always set the Memory limit when using Memoryswap limit, see usage");
    }
    if let Some(swappiness) = limits.memory_swappiness.filter(|value| !(-1..=100).contains(value)) {
        return refused(&format!("Invalid value: {swappiness}, valid memory swappiness range is 0-100"));
    }
    if reservation > 0 && reservation < MEMORY_MIN {
        return refused("Minimum memory reservation allowed is 6MB");
    }
    if memory > 0 && reservation > memory {
        return refused("Minimum memory limit can not be less than memory reservation limit, see usage");
    }
    Ok(())
}

fn processors(limits: &Resources, machine: &Machine) -> Result<()> {
    let refused = |sentence: String| Err(Error::invalid(sentence));
    if limits.nano_cpus > 0 {
        for (other, name) in [(limits.cpu_period, "Period"), (limits.cpu_quota, "Quota")] {
            if other > 0 {
                return refused(format!("Conflicting options: Nano CPUs and CPU {name} cannot both be set"));
            }
        }
        let cpus = machine.cpus;
        let whole = i64::try_from(cpus).unwrap_or(i64::MAX).saturating_mul(1_000_000_000);
        if !(10_000_000..=whole).contains(&limits.nano_cpus) {
            return refused(format!(
                "range of CPUs is from 0.01 to {cpus}.00, as there are only {cpus} CPUs available"
            ));
        }
    }
    if limits.cpu_period != 0 && !PERIODS.contains(&limits.cpu_period) {
        return refused("CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)".into());
    }
    if limits.cpu_quota > 0 && limits.cpu_quota < QUOTA_MIN {
        return refused("CPU cfs quota can not be less than 1ms (i.e. 1000)".into());
    }
    subset(&limits.cpuset_cpus, &machine.cpu_list, "cpus", "CPUs")?;
    subset(&limits.cpuset_mems, &machine.node_list, "mems", "memory nodes")
}

/// Whether a list of numbers is within what the machine has; anything goes where that is not known.
fn subset(wanted: &str, available: &str, option: &str, what: &str) -> Result<()> {
    if wanted.is_empty() {
        return Ok(());
    }
    let Some(numbers) = numbers(wanted) else {
        return Err(Error::invalid(format!("Invalid value {wanted} for cpuset {option}")));
    };
    match self::numbers(available) {
        Some(there) if !there.is_empty() && !numbers.is_subset(&there) => Err(Error::invalid(format!(
            "Requested {what} are not available - requested {wanted}, available: {available}"
        ))),
        _ => Ok(()),
    }
}

/// `0-2,7`.
fn numbers(list: &str) -> Option<BTreeSet<u32>> {
    let mut found = BTreeSet::new();
    for part in list.split(',').filter(|_| !list.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        if first > last || last > CPU_MAX {
            return None;
        }
        found.extend(first..=last);
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MB: i64 = 1 << 20;

    fn said(limits: &Resources) -> String {
        check(limits, 0, &Machine::with_two_cpus())
            .map_or_else(|error| error.to_string(), |warnings| warnings.join("; "))
    }

    #[test]
    fn limits_that_contradict_each_other_are_refused() {
        let none = Resources::default;
        for (limits, expected) in [
            (Resources { memory: 4 * MB, ..none() }, "Minimum memory limit allowed is 6MB"),
            (
                Resources { memory: 64 * MB, memory_swap: 32 * MB, ..none() },
                "Minimum memoryswap limit should be larger than memory limit, see usage",
            ),
            (
                Resources { memory_swap: 32 * MB, ..none() },
                "You should always set the Memory limit when using Memoryswap limit, see usage",
            ),
            (
                Resources { memory: 32 * MB, memory_reservation: 64 * MB, ..none() },
                "Minimum memory limit can not be less than memory reservation limit, see usage",
            ),
            (Resources { memory_reservation: MB, ..none() }, "Minimum memory reservation allowed is 6MB"),
            (
                Resources { memory_swappiness: Some(101), ..none() },
                "Invalid value: 101, valid memory swappiness range is 0-100",
            ),
            (
                Resources { nano_cpus: 1_000_000_000, cpu_quota: 50_000, ..none() },
                "Conflicting options: Nano CPUs and CPU Quota cannot both be set",
            ),
            (
                Resources { nano_cpus: 1_000_000_000, cpu_period: 50_000, ..none() },
                "Conflicting options: Nano CPUs and CPU Period cannot both be set",
            ),
            (
                Resources { cpu_period: 999, ..none() },
                "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)",
            ),
            (Resources { cpu_quota: 999, ..none() }, "CPU cfs quota can not be less than 1ms (i.e. 1000)"),
            (
                Resources { oom_kill_disable: Some(true), ..none() },
                "OOM killer is disabled for the container, but no memory limit is set, this can result in the system \
                 running out of resources.",
            ),
            (Resources { oom_kill_disable: Some(true), memory: 64 * MB, ..none() }, ""),
            (Resources { memory: 64 * MB, memory_swap: -1, cpu_quota: -1, cpu_period: 1000, ..none() }, ""),
        ] {
            assert_eq!(said(&limits), expected, "{limits:?}");
        }
    }

    #[test]
    fn what_cannot_be_had_here_is_said() {
        let ulimit = |name: &str, hard: i64| Ulimit { name: name.into(), soft: 1, hard };
        let limits = Resources {
            blkio_weight: 100,
            oom_kill_disable: Some(true),
            memory_swappiness: Some(50),
            ulimits: Some(vec![ulimit("nofile", 20_001), ulimit("core", -1), ulimit("nofile", 20_000)]),
            ..Resources::default()
        };
        let plenty = check(&limits, -500, &Machine::with_two_cpus()).unwrap();
        assert!(plenty.len() == 1 && plenty[0].starts_with("OOM killer is disabled"), "{plenty:?}");
        let poor = Machine { cgroup_v2: true, weights: false, may_raise: false, ..Machine::with_two_cpus() };
        let warnings = check(&limits, -500, &poor).unwrap();
        let begin = |warning: &String| warning.split([':', '.']).next().unwrap_or_default().to_owned();
        assert_eq!(
            warnings.iter().map(begin).collect::<Vec<_>>(),
            [
                "Your kernel does not support Block I/O weight or the cgroup is not mounted",
                "Your kernel does not support OomKillDisable",
                "Your kernel does not support memory swappiness capabilities or the cgroup is not mounted",
                "ulimit nofile",
                "OOM score -500",
            ]
        );
    }

    #[test]
    fn cpus_that_are_not_there() {
        let of = |cpus: &str, mems: &str| {
            said(&Resources { cpuset_cpus: cpus.into(), cpuset_mems: mems.into(), ..Resources::default() })
        };
        assert_eq!(of("9", ""), "Requested CPUs are not available - requested 9, available: 0-1");
        assert_eq!(of("", "3"), "Requested memory nodes are not available - requested 3, available: 0");
        for bad in ["x", "1-", "1-0", ",", "0-4294967295", "-1"] {
            assert_eq!(of(bad, ""), format!("Invalid value {bad} for cpuset cpus"));
        }
        assert_eq!(of("", "x"), "Invalid value x for cpuset mems");
        assert_eq!((of("0", "0"), of("0-1", ""), of("0,1", "")), Default::default());
        // Where the machine does not say what it has, the kernel decides.
        assert!(subset("9", "", "cpus", "CPUs").is_ok());
    }
}
