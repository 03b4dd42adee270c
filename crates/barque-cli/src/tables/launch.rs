//! `run` and `create`.

use crate::cmdline::{Args, Cmd, Flag, Kind, flag};
use crate::commands::container;
use crate::opts::{
    any, check_attach, check_bps_device, check_device_rule, check_dns_search, check_env, check_extra_host, check_gpus,
    check_iops_device, check_ip, check_label, check_link, check_mount, check_network, check_sysctl, check_ulimit,
    check_weight_device,
};

pub(super) const CREATE: Cmd =
    Cmd::new("create", "[OPTIONS] IMAGE [COMMAND] [ARG...]", "Create a new container", run!(container::create))
        .spellings(&["container create", "create"])
        .args(Args::AtLeast(1))
        .flags_first()
        .flags(&[LAUNCH_FLAGS, CREATE_FLAGS]);

const CREATE_FLAGS: &[Flag] =
    &[flag("pull", Kind::Str, "Pull image before creating (\"always\", \"|missing\", \"never\")").default("missing")];

pub(super) const RUN: Cmd = Cmd::new(
    "run",
    "[OPTIONS] IMAGE [COMMAND] [ARG...]",
    "Create and run a new container from an image",
    run!(container::run),
)
.spellings(&["container run", "run"])
.args(Args::AtLeast(1))
.flags_first()
.flags(&[LAUNCH_FLAGS, RUN_FLAGS]);

const RUN_FLAGS: &[Flag] = &[
    flag("detach", Kind::Bool, "Run container in background and print container ID").letter('d'),
    flag("detach-keys", Kind::Str, "Override the key sequence for detaching a container"),
    flag("pull", Kind::Str, "Pull image before running (\"always\", \"missing\", \"never\")").default("missing"),
    flag("sig-proxy", Kind::Bool, "Proxy received signals to the process").default("true"),
];

/// What `run` and `create` have in common.
const LAUNCH_FLAGS: &[Flag] = &[
    flag("add-host", Kind::List(check_extra_host), "Add a custom host-to-IP mapping (host:ip)"),
    flag("annotation", Kind::Map(any), "Add an annotation to the container (passed through to the OCI runtime)").default("map[]").since("1.43"),
    flag("attach", Kind::List(check_attach), "Attach to STDIN, STDOUT or STDERR").letter('a'),
    flag("blkio-weight", Kind::Uint16, "Block IO (relative weight), between 10 and 1000, or 0 to disable").default("0"),
    flag("blkio-weight-device", Kind::List(check_weight_device), "Block IO weight (relative device weight)").default("[]"),
    flag("cap-add", Kind::List(any), "Add Linux capabilities"),
    flag("cap-drop", Kind::List(any), "Drop Linux capabilities"),
    flag("cgroup-parent", Kind::Str, "Optional parent cgroup for the container"),
    flag("cgroupns", Kind::Str, "Cgroup namespace to use (host|private)\n'host':    Run the container in the Docker host's cgroup namespace\n'private': Run the container in its own private cgroup namespace\n'':        Use the cgroup namespace as configured by the\n           default-cgroupns-mode option on the daemon (default)").since("1.41"),
    flag("cidfile", Kind::Str, "Write the container ID to the file"),
    flag("cpu-count", Kind::Int, "CPU count (Windows only)"),
    flag("cpu-percent", Kind::Int, "CPU percent (Windows only)"),
    flag("cpu-period", Kind::Int, "Limit CPU CFS (Completely Fair Scheduler) period"),
    flag("cpu-quota", Kind::Int, "Limit CPU CFS (Completely Fair Scheduler) quota"),
    flag("cpu-rt-period", Kind::Int, "Limit CPU real-time period in microseconds"),
    flag("cpu-rt-runtime", Kind::Int, "Limit CPU real-time runtime in microseconds"),
    flag("cpu-shares", Kind::Int, "CPU shares (relative weight)").letter('c'),
    flag("cpus", Kind::Cpus, "Number of CPUs"),
    flag("cpuset-cpus", Kind::Str, "CPUs in which to allow execution (0-3, 0,1)"),
    flag("cpuset-mems", Kind::Str, "MEMs in which to allow execution (0-3, 0,1)"),
    flag("device", Kind::List(any), "Add a host device to the container"),
    flag("device-cgroup-rule", Kind::List(check_device_rule), "Add a rule to the cgroup allowed devices list"),
    flag("device-read-bps", Kind::List(check_bps_device), "Limit read rate (bytes per second) from a device").default("[]"),
    flag("device-read-iops", Kind::List(check_iops_device), "Limit read rate (IO per second) from a device").default("[]"),
    flag("device-write-bps", Kind::List(check_bps_device), "Limit write rate (bytes per second) to a device").default("[]"),
    flag("device-write-iops", Kind::List(check_iops_device), "Limit write rate (IO per second) to a device").default("[]"),
    flag("disable-content-trust", Kind::Bool, "Skip image verification").default("true"),
    flag("dns", Kind::List(check_ip), "Set custom DNS servers"),
    flag("dns-option", Kind::List(any), "Set DNS options"),
    flag("dns-search", Kind::List(check_dns_search), "Set custom DNS search domains"),
    flag("domainname", Kind::Str, "Container NIS domain name"),
    flag("entrypoint", Kind::Str, "Overwrite the default ENTRYPOINT of the image"),
    flag("env", Kind::List(check_env), "Set environment variables").letter('e'),
    flag("env-file", Kind::List(any), "Read in a file of environment variables"),
    flag("expose", Kind::List(any), "Expose a port or a range of ports"),
    flag("gpus", Kind::Custom("gpu-request", check_gpus), "GPU devices to add to the container ('all' to pass all GPUs)").since("1.40"),
    flag("group-add", Kind::List(any), "Add additional groups to join"),
    flag("health-cmd", Kind::Str, "Command to run to check health"),
    flag("health-interval", Kind::Duration, "Time between running the check (ms|s|m|h)").default("0s"),
    flag("health-retries", Kind::Int, "Consecutive failures needed to report unhealthy"),
    flag("health-start-interval", Kind::Duration, "Time between running the check during the start period (ms|s|m|h)").default("0s").since("1.44"),
    flag("health-start-period", Kind::Duration, "Start period for the container to initialize before starting health-retries countdown (ms|s|m|h)").default("0s"),
    flag("health-timeout", Kind::Duration, "Maximum time to allow one check to run (ms|s|m|h)").default("0s"),
    flag("hostname", Kind::Str, "Container host name").letter('h'),
    flag("init", Kind::Bool, "Run an init inside the container that forwards signals and reaps processes"),
    flag("interactive", Kind::Bool, "Keep STDIN open even if not attached").letter('i'),
    flag("io-maxbandwidth", Kind::Bytes, "Maximum IO bandwidth limit for the system drive (Windows only)"),
    flag("io-maxiops", Kind::Uint, "Maximum IOps limit for the system drive (Windows only)"),
    flag("ip", Kind::Str, "IPv4 address (e.g., 172.30.100.104)"),
    flag("ip6", Kind::Str, "IPv6 address (e.g., 2001:db8::33)"),
    flag("ipc", Kind::Str, "IPC mode to use"),
    flag("isolation", Kind::Str, "Container isolation technology"),
    flag("kernel-memory", Kind::Bytes, "Kernel memory limit"),
    flag("label", Kind::List(check_label), "Set meta data on a container").letter('l'),
    flag("label-file", Kind::List(any), "Read in a line delimited file of labels"),
    flag("link", Kind::List(check_link), "Add link to another container"),
    flag("link-local-ip", Kind::List(check_ip), "Container IPv4/IPv6 link-local addresses"),
    flag("log-driver", Kind::Str, "Logging driver for the container"),
    flag("log-opt", Kind::List(any), "Log driver options"),
    flag("mac-address", Kind::Str, "Container MAC address (e.g., 92:d0:c6:0a:29:33)"),
    flag("memory", Kind::Bytes, "Memory limit").letter('m'),
    flag("memory-reservation", Kind::Bytes, "Memory soft limit"),
    flag("memory-swap", Kind::SwapBytes, "Swap limit equal to memory plus swap: '-1' to enable unlimited swap"),
    flag("memory-swappiness", Kind::Int, "Tune container memory swappiness (0 to 100)").default("-1"),
    flag("mount", Kind::Custom("mount", check_mount), "Attach a filesystem mount to the container"),
    flag("name", Kind::Str, "Assign a name to the container"),
    flag("network", Kind::Custom("network", check_network), "Connect a container to a network"),
    flag("network-alias", Kind::List(any), "Add network-scoped alias for the container"),
    flag("no-healthcheck", Kind::Bool, "Disable any container-specified HEALTHCHECK"),
    flag("oom-kill-disable", Kind::Bool, "Disable OOM Killer"),
    flag("oom-score-adj", Kind::Int, "Tune host's OOM preferences (-1000 to 1000)"),
    flag("pid", Kind::Str, "PID namespace to use"),
    flag("pids-limit", Kind::Int, "Tune container pids limit (set -1 for unlimited)"),
    flag("platform", Kind::Str, "Set platform if server is multi-platform capable"),
    flag("privileged", Kind::Bool, "Give extended privileges to this container"),
    flag("publish", Kind::List(any), "Publish a container's port(s) to the host").letter('p'),
    flag("publish-all", Kind::Bool, "Publish all exposed ports to random ports").letter('P'),
    flag("quiet", Kind::Bool, "Suppress the pull output").letter('q'),
    flag("read-only", Kind::Bool, "Mount the container's root filesystem as read only"),
    flag("restart", Kind::Str, "Restart policy to apply when a container exits").default("no"),
    flag("rm", Kind::Bool, "Automatically remove the container and its associated anonymous volumes when it exits"),
    flag("runtime", Kind::Str, "Runtime to use for this container"),
    flag("security-opt", Kind::List(any), "Security Options"),
    flag("shm-size", Kind::Bytes, "Size of /dev/shm"),
    flag("stop-signal", Kind::Str, "Signal to stop the container"),
    flag("stop-timeout", Kind::Int, "Timeout (in seconds) to stop a container"),
    flag("storage-opt", Kind::List(any), "Storage driver options for the container"),
    flag("sysctl", Kind::Map(check_sysctl), "Sysctl options").default("map[]"),
    flag("tmpfs", Kind::List(any), "Mount a tmpfs directory"),
    flag("tty", Kind::Bool, "Allocate a pseudo-TTY").letter('t'),
    flag("ulimit", Kind::Custom("ulimit", check_ulimit), "Ulimit options").default("[]"),
    flag("use-api-socket", Kind::Bool, "Bind mount Docker API socket and required auth"),
    flag("user", Kind::Str, "Username or UID (format: <name|uid>[:<group|gid>])").letter('u'),
    flag("userns", Kind::Str, "User namespace to use"),
    flag("uts", Kind::Str, "UTS namespace to use"),
    flag("volume", Kind::List(any), "Bind mount a volume").letter('v'),
    flag("volume-driver", Kind::Str, "Optional volume driver for the container"),
    flag("volumes-from", Kind::List(any), "Mount volumes from the specified container(s)"),
    flag("workdir", Kind::Str, "Working directory inside the container").letter('w'),
    flag("dns-opt", Kind::List(any), "Set DNS options").hidden(),
    flag("net", Kind::Custom("network", check_network), "Connect a container to a network").hidden(),
    flag("net-alias", Kind::List(any), "Add network-scoped alias for the container").hidden(),
    flag("help", Kind::Bool, "Print usage"),
];
