//! Kernel and cgroups.

use barque_runtime::cgroup::Layout;

use super::{Finding, read};

const KERNEL: &str = "Kernel";
const CGROUPS: &str = "Cgroups";
/// clone3(2), openat2(2), pidfds and CLONE_INTO_CGROUP are there from here on.
const OLDEST: (u32, u32) = (5, 10);

pub(super) fn check() -> Vec<Finding> {
    let uname = rustix::system::uname();
    let release = uname.release().to_string_lossy().into_owned();
    let mut findings = vec![version(&release, &uname.machine().to_string_lossy())];
    findings.extend(namespaces(&|name| std::path::Path::new("/proc/self/ns").join(name).exists()));
    findings.push(seccomp(&read("/proc/self/status")));
    findings.push(rights(rustix::process::geteuid().is_root(), &read("/proc/self/status")));
    findings.extend(modules_of_security(&read("/sys/kernel/security/lsm")));
    let layout = Layout::detect().ok();
    let controllers = match &layout {
        Some(Layout::V2(root)) => read(&root.join("cgroup.controllers").display().to_string()),
        _ => String::new(),
    };
    findings.extend(cgroups(layout.as_ref(), &controllers, std::path::Path::new("/run/systemd/system").exists()));
    findings
}

fn version(release: &str, machine: &str) -> Finding {
    let mut numbers = release.split(['.', '-', '+']).map(|n| n.parse::<u32>().unwrap_or(0));
    let found = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let text = format!("Linux {release} on {machine}");
    if found < OLDEST {
        let cure = format!("update the system: Linux {}.{} or newer is needed", OLDEST.0, OLDEST.1);
        return Finding::fault(KERNEL, format!("{text} is too old"), cure);
    }
    if machine != "x86_64" {
        return Finding::warning(KERNEL, text, "only x86_64 is tested; please report what does not work");
    }
    Finding::ok(KERNEL, text)
}

fn namespaces(exists: &dyn Fn(&str) -> bool) -> Option<Finding> {
    let missing: Vec<&str> = ["mnt", "pid", "net", "ipc", "uts", "cgroup"].into_iter().filter(|n| !exists(n)).collect();
    if missing.is_empty() {
        return Some(Finding::ok(KERNEL, "namespaces: mnt, pid, net, ipc, uts, cgroup"));
    }
    let text = format!("the kernel has no namespaces of these kinds: {}", missing.join(", "));
    Some(Finding::fault(KERNEL, text, "use a kernel with CONFIG_NAMESPACES, CONFIG_PID_NS, CONFIG_NET_NS and so on"))
}

fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

fn seccomp(status: &str) -> Finding {
    match field(status, "Seccomp") {
        Some(_) => Finding::ok(KERNEL, "seccomp filters"),
        None => Finding::fault(
            KERNEL,
            "the kernel has no seccomp filters: containers could call everything",
            "use a kernel with CONFIG_SECCOMP_FILTER, or allow it knowingly: barque daemon --seccomp-profile unconfined",
        ),
    }
}

/// CAP_SYS_ADMIN, proc_pid_status(5), capabilities(7).
const SYS_ADMIN: u32 = 21;

fn rights(root: bool, status: &str) -> Finding {
    let effective = field(status, "CapEff").and_then(|text| u64::from_str_radix(text, 16).ok()).unwrap_or(0);
    if !root {
        return Finding::warning(
            KERNEL,
            "not called by root: some checks are left out",
            "for all of them: sudo barque doctor",
        );
    }
    if effective & (1 << SYS_ADMIN) == 0 {
        return Finding::fault(
            KERNEL,
            "root here lacks CAP_SYS_ADMIN: this is itself a container or a restricted service",
            "run the engine outside, or give the outer container more rights (docker run --privileged)",
        );
    }
    Finding::ok(KERNEL, "root with the right to make namespaces and mounts")
}

fn modules_of_security(list: &str) -> Option<Finding> {
    let active: Vec<&str> = list.trim().split(',').filter(|m| matches!(*m, "apparmor" | "selinux")).collect();
    match active.as_slice() {
        [] => None,
        ["selinux"] => Some(Finding::warning(
            KERNEL,
            "SELinux is on: containers get no labels of their own, a policy may refuse them files",
            "if one is refused: ausearch -m avc -ts recent; see docs/security.md",
        )),
        active => Some(Finding::ok(KERNEL, format!("security modules: {}", active.join(", ")))),
    }
}

fn cgroups(layout: Option<&Layout>, v2_controllers: &str, systemd: bool) -> Vec<Finding> {
    let mount = "mount it: mount -t cgroup2 none /sys/fs/cgroup (systemd does so at boot)";
    let Some(layout) = layout else { return vec![Finding::fault(CGROUPS, "no cgroup file system is mounted", mount)] };
    type HasController = Box<dyn Fn(&str) -> bool>;
    let (name, has): (String, HasController) = match layout {
        Layout::V2(root) => {
            let found: Vec<String> = v2_controllers.split_whitespace().map(str::to_owned).collect();
            (format!("version 2 at {}", root.display()), Box::new(move |c| found.iter().any(|f| f == c)))
        }
        Layout::V1(all) => {
            let all = all.clone();
            ("version 1".into(), Box::new(move |c| all.iter().any(|h| h.has(c))))
        }
    };
    let by = if systemd { ", systemd manages it" } else { "" };
    let mut findings = vec![Finding::ok(CGROUPS, format!("{name}{by}"))];
    let uses = [
        ("memory", "--memory has no effect", "add cgroup_enable=memory to the kernel's command line and boot again"),
        ("pids", "--pids-limit has no effect", "use a kernel with CONFIG_CGROUP_PIDS"),
        ("cpu", "--cpus and --cpu-shares have no effect", "use a kernel with CONFIG_CFS_BANDWIDTH"),
        ("cpuset", "--cpuset-cpus has no effect", "use a kernel with CONFIG_CPUSETS"),
    ];
    let missing: Vec<_> = uses.iter().filter(|(c, ..)| !has(c)).collect();
    for (controller, effect, cure) in &missing {
        findings.push(Finding::warning(CGROUPS, format!("no {controller} controller: {effect}"), *cure));
    }
    if missing.is_empty() {
        findings.push(Finding::ok(CGROUPS, "controllers: memory, pids, cpu, cpuset"));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    #[test]
    fn old_kernels_are_told_so() {
        assert_eq!(version("6.1.0-25-amd64", "x86_64").level, Level::Ok);
        assert_eq!(version("5.10.0", "x86_64").level, Level::Ok);
        assert_eq!(version("5.4.0-generic", "x86_64").level, Level::Fault);
        assert_eq!(version("nonsense", "x86_64").level, Level::Fault);
        assert_eq!(version("6.1", "riscv64").level, Level::Warning);
    }

    #[test]
    fn missing_rights_and_filters() {
        assert_eq!(rights(true, "CapEff:\t000001ffffffffff\n").level, Level::Ok);
        assert_eq!(rights(true, "CapEff:\t00000000a80425fb\n").level, Level::Fault);
        assert_eq!(rights(false, "").level, Level::Warning);
        assert_eq!(seccomp("Name:\tx\n").level, Level::Fault);
        assert_eq!(seccomp("Seccomp:\t0\n").level, Level::Ok);
        assert!(namespaces(&|n| n != "cgroup").unwrap().text.ends_with("kinds: cgroup"));
    }

    #[test]
    fn cgroups_of_both_versions() {
        let v2 = Layout::V2("/sys/fs/cgroup".into());
        let levels = |findings: &[Finding]| findings.iter().map(|f| f.level).collect::<Vec<_>>();
        assert_eq!(levels(&cgroups(Some(&v2), "cpuset cpu io memory pids", true)), [Level::Ok, Level::Ok]);
        let poor = cgroups(Some(&v2), "cpuset cpu pids", false);
        assert_eq!(levels(&poor), [Level::Ok, Level::Warning]);
        assert!(poor[1].cure.contains("cgroup_enable=memory"));
        assert_eq!(levels(&cgroups(None, "", false)), [Level::Fault]);
        let v1 =
            Layout::parse("1 2 0:3 / /c/m rw - cgroup cgroup rw,memory\n4 5 0:6 / /c/p rw - cgroup cgroup rw,pids\n");
        assert_eq!(levels(&cgroups(v1.as_ref(), "", false)), [Level::Ok, Level::Warning, Level::Warning]);
    }
}
