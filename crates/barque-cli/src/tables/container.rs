//! `barque container …` but for `run` and `create`.

use super::FORMAT_PLAIN;
use super::FORMAT_TABLE;
use crate::cmdline::{Args, Cmd, Flag, Kind, flag};
use crate::commands::container;
use crate::opts::{any, check_env, check_filter};

pub(super) const ATTACH: Cmd = Cmd::new(
    "attach",
    "[OPTIONS] CONTAINER",
    "Attach local standard input, output, and error streams to a running container",
    run!(container::attach),
)
.spellings(&["container attach", "attach"])
.args(Args::Exactly(1))
.flags(&[ATTACH_FLAGS]);

const ATTACH_FLAGS: &[Flag] = &[
    flag("detach-keys", Kind::Str, "Override the key sequence for detaching a container"),
    flag("no-stdin", Kind::Bool, "Do not attach STDIN"),
    flag("sig-proxy", Kind::Bool, "Proxy all received signals to the process").default("true"),
];

pub(super) const COMMIT: Cmd = Cmd::new(
    "commit",
    "[OPTIONS] CONTAINER [REPOSITORY[:TAG]]",
    "Create a new image from a container's changes",
    run!(container::commit),
)
.spellings(&["container commit", "commit"])
.args(Args::Between(1, 2))
.flags_first()
.flags(&[COMMIT_FLAGS]);

const COMMIT_FLAGS: &[Flag] = &[
    flag("author", Kind::Str, "Author (e.g., \"John Hannibal Smith <hannibal@a-team.com>\")").letter('a'),
    flag("change", Kind::List(any), "Apply Dockerfile instruction to the created image").letter('c'),
    flag("message", Kind::Str, "Commit message").letter('m'),
    flag("pause", Kind::Bool, "Pause container during commit").letter('p').default("true"),
];

pub(super) const CP: Cmd = Cmd::new("cp", "[OPTIONS] CONTAINER:SRC_PATH DEST_PATH|-\n\tPROGRAM cp [OPTIONS] SRC_PATH|- CONTAINER:DEST_PATH", "Copy files/folders between a container and the local filesystem", run!(container::cp))
    .long("Copy files/folders between a container and the local filesystem\n\nUse '-' as the source to read a tar archive from stdin\nand extract it to a directory destination in a container.\nUse '-' as the destination to stream a tar archive of a\ncontainer source to stdout.")
    .spellings(&["container cp", "cp"])
    .args(Args::Exactly(2))
    .flags(&[CP_FLAGS]);

const CP_FLAGS: &[Flag] = &[
    flag("archive", Kind::Bool, "Archive mode (copy all uid/gid information)").letter('a'),
    flag("follow-link", Kind::Bool, "Always follow symbol link in SRC_PATH").letter('L'),
    flag(
        "quiet",
        Kind::Bool,
        "Suppress progress output during copy. Progress output is automatically suppressed if no terminal is attached",
    )
    .letter('q'),
];

pub(super) const DIFF: Cmd = Cmd::new(
    "diff",
    "CONTAINER",
    "Inspect changes to files or directories on a container's filesystem",
    run!(container::diff),
)
.spellings(&["container diff", "diff"])
.args(Args::Exactly(1));

pub(super) const EXEC: Cmd = Cmd::new(
    "exec",
    "[OPTIONS] CONTAINER COMMAND [ARG...]",
    "Execute a command in a running container",
    run!(container::exec),
)
.spellings(&["container exec", "exec"])
.args(Args::AtLeast(2))
.flags_first()
.flags(&[EXEC_FLAGS]);

const EXEC_FLAGS: &[Flag] = &[
    flag("detach", Kind::Bool, "Detached mode: run command in the background").letter('d'),
    flag("detach-keys", Kind::Str, "Override the key sequence for detaching a container"),
    flag("env", Kind::List(check_env), "Set environment variables").letter('e'),
    flag("env-file", Kind::List(any), "Read in a file of environment variables"),
    flag("interactive", Kind::Bool, "Keep STDIN open even if not attached").letter('i'),
    flag("privileged", Kind::Bool, "Give extended privileges to the command"),
    flag("tty", Kind::Bool, "Allocate a pseudo-TTY").letter('t'),
    flag("user", Kind::Str, "Username or UID (format: \"<name|uid>[:<group|gid>]\")").letter('u'),
    flag("workdir", Kind::Str, "Working directory inside the container").letter('w'),
];

pub(super) const EXPORT: Cmd = Cmd::new(
    "export",
    "[OPTIONS] CONTAINER",
    "Export a container's filesystem as a tar archive",
    run!(container::export),
)
.spellings(&["container export", "export"])
.args(Args::Exactly(1))
.flags(&[EXPORT_FLAGS]);

const EXPORT_FLAGS: &[Flag] = &[flag("output", Kind::Str, "Write to a file, instead of STDOUT").letter('o')];

pub(super) const INSPECT: Cmd = Cmd::new(
    "inspect",
    "[OPTIONS] CONTAINER [CONTAINER...]",
    "Display detailed information on one or more containers",
    run!(container::inspect),
)
.args(Args::AtLeast(1))
.flags(&[INSPECT_FLAGS]);

const INSPECT_FLAGS: &[Flag] = &[
    flag("format", Kind::Str, FORMAT_PLAIN).letter('f'),
    flag("size", Kind::Bool, "Display total file sizes").letter('s'),
];

pub(super) const KILL: Cmd = Cmd::new(
    "kill",
    "[OPTIONS] CONTAINER [CONTAINER...]",
    "Kill one or more running containers",
    run!(container::kill),
)
.spellings(&["container kill", "kill"])
.args(Args::AtLeast(1))
.flags(&[KILL_FLAGS]);

const KILL_FLAGS: &[Flag] = &[flag("signal", Kind::Str, "Signal to send to the container").letter('s')];

pub(super) const LOGS: Cmd =
    Cmd::new("logs", "[OPTIONS] CONTAINER", "Fetch the logs of a container", run!(container::logs))
        .spellings(&["container logs", "logs"])
        .args(Args::Exactly(1))
        .flags(&[LOGS_FLAGS]);

const LOGS_FLAGS: &[Flag] = &[
    flag("details", Kind::Bool, "Show extra details provided to logs"),
    flag("follow", Kind::Bool, "Follow log output").letter('f'),
    flag(
        "since",
        Kind::Str,
        "Show logs since timestamp (e.g. \"2013-01-02T13:23:37Z\") or relative (e.g. \"42m\" for 42 minutes)",
    ),
    flag("tail", Kind::Str, "Number of lines to show from the end of the logs").letter('n').default("all"),
    flag("timestamps", Kind::Bool, "Show timestamps").letter('t'),
    flag(
        "until",
        Kind::Str,
        "Show logs before a timestamp (e.g. \"2013-01-02T13:23:37Z\") or relative (e.g. \"42m\" for 42 minutes)",
    ),
];

pub(super) const LS: Cmd = Cmd::new("ls", "[OPTIONS]", "List containers", run!(container::ls))
    .spellings(&["container ls", "container list", "container ps", "ps"])
    .aliases(&["list", "ps"])
    .args(Args::None)
    .flags(&[LS_FLAGS]);

const LS_FLAGS: &[Flag] = &[
    flag("all", Kind::Bool, "Show all containers (default shows just running)").letter('a'),
    flag("filter", Kind::Custom("filter", check_filter), "Filter output based on conditions provided").letter('f'),
    flag("format", Kind::Str, FORMAT_TABLE),
    flag("last", Kind::Int, "Show n last created containers (includes all states)").letter('n').default("-1"),
    flag("latest", Kind::Bool, "Show the latest created container (includes all states)").letter('l'),
    flag("no-trunc", Kind::Bool, "Don't truncate output"),
    flag("quiet", Kind::Bool, "Only display container IDs").letter('q'),
    flag("size", Kind::Bool, "Display total file sizes").letter('s'),
];

pub(super) const PAUSE: Cmd = Cmd::new(
    "pause",
    "CONTAINER [CONTAINER...]",
    "Pause all processes within one or more containers",
    run!(container::pause),
)
.spellings(&["container pause", "pause"])
.args(Args::AtLeast(1));

pub(super) const PORT: Cmd = Cmd::new(
    "port",
    "CONTAINER [PRIVATE_PORT[/PROTO]]",
    "List port mappings or a specific mapping for the container",
    run!(container::port),
)
.spellings(&["container port", "port"])
.args(Args::Between(1, 2));

pub(super) const PRUNE: Cmd = Cmd::new("prune", "[OPTIONS]", "Remove all stopped containers", run!(container::prune))
    .args(Args::None)
    .flags(&[PRUNE_FLAGS]);

const PRUNE_FLAGS: &[Flag] = &[
    flag("dry-run", Kind::Bool, "Only print what would be removed"),
    flag("filter", Kind::Custom("filter", check_filter), "Provide filter values (e.g. \"until=<timestamp>\")"),
    flag("force", Kind::Bool, "Do not prompt for confirmation").letter('f'),
];

pub(super) const RENAME: Cmd = Cmd::new("rename", "CONTAINER NEW_NAME", "Rename a container", run!(container::rename))
    .spellings(&["container rename", "rename"])
    .args(Args::Exactly(2));

pub(super) const RESTART: Cmd = Cmd::new(
    "restart",
    "[OPTIONS] CONTAINER [CONTAINER...]",
    "Restart one or more containers",
    run!(container::restart),
)
.spellings(&["container restart", "restart"])
.args(Args::AtLeast(1))
.flags(&[RESTART_FLAGS]);

const RESTART_FLAGS: &[Flag] = &[
    flag("signal", Kind::Str, "Signal to send to the container").letter('s'),
    flag("timeout", Kind::Int, "Seconds to wait before killing the container").letter('t'),
    flag("time", Kind::Int, "Seconds to wait before killing the container").deprecated("use --timeout instead"),
];

pub(super) const RM: Cmd =
    Cmd::new("rm", "[OPTIONS] CONTAINER [CONTAINER...]", "Remove one or more containers", run!(container::rm))
        .spellings(&["container rm", "container remove", "rm"])
        .aliases(&["remove"])
        .args(Args::AtLeast(1))
        .flags(&[RM_FLAGS]);

const RM_FLAGS: &[Flag] = &[
    flag("force", Kind::Bool, "Force the removal of a running container (uses SIGKILL)").letter('f'),
    flag("link", Kind::Bool, "Remove the specified link").letter('l'),
    flag("volumes", Kind::Bool, "Remove anonymous volumes associated with the container").letter('v'),
];

pub(super) const START: Cmd = Cmd::new(
    "start",
    "[OPTIONS] CONTAINER [CONTAINER...]",
    "Start one or more stopped containers",
    run!(container::start),
)
.spellings(&["container start", "start"])
.args(Args::AtLeast(1))
.flags(&[START_FLAGS]);

const START_FLAGS: &[Flag] = &[
    flag("attach", Kind::Bool, "Attach STDOUT/STDERR and forward signals").letter('a'),
    flag("checkpoint", Kind::Str, "Restore from this checkpoint"),
    flag("checkpoint-dir", Kind::Str, "Use a custom checkpoint storage directory"),
    flag("detach-keys", Kind::Str, "Override the key sequence for detaching a container"),
    flag("interactive", Kind::Bool, "Attach container's STDIN").letter('i'),
];

pub(super) const STATS: Cmd = Cmd::new(
    "stats",
    "[OPTIONS] [CONTAINER...]",
    "Display a live stream of container(s) resource usage statistics",
    run!(container::stats),
)
.spellings(&["container stats", "stats"])
.args(Args::AtLeast(0))
.flags(&[STATS_FLAGS]);

const STATS_FLAGS: &[Flag] = &[
    flag("all", Kind::Bool, "Show all containers (default shows just running)").letter('a'),
    flag("format", Kind::Str, FORMAT_TABLE),
    flag("no-stream", Kind::Bool, "Disable streaming stats and only pull the first result"),
    flag("no-trunc", Kind::Bool, "Do not truncate output"),
];

pub(super) const STOP: Cmd = Cmd::new(
    "stop",
    "[OPTIONS] CONTAINER [CONTAINER...]",
    "Stop one or more running containers",
    run!(container::stop),
)
.spellings(&["container stop", "stop"])
.args(Args::AtLeast(1))
.flags(&[STOP_FLAGS]);

const STOP_FLAGS: &[Flag] = &[
    flag("signal", Kind::Str, "Signal to send to the container").letter('s'),
    flag("timeout", Kind::Int, "Seconds to wait before killing the container").letter('t'),
    flag("time", Kind::Int, "Seconds to wait before killing the container").deprecated("use --timeout instead"),
];

pub(super) const TOP: Cmd =
    Cmd::new("top", "CONTAINER [ps OPTIONS]", "Display the running processes of a container", run!(container::top))
        .spellings(&["container top", "top"])
        .args(Args::AtLeast(1))
        .flags_first();

pub(super) const UNPAUSE: Cmd = Cmd::new(
    "unpause",
    "CONTAINER [CONTAINER...]",
    "Unpause all processes within one or more containers",
    run!(container::unpause),
)
.spellings(&["container unpause", "unpause"])
.args(Args::AtLeast(1));

pub(super) const UPDATE: Cmd = Cmd::new(
    "update",
    "[OPTIONS] CONTAINER [CONTAINER...]",
    "Update configuration of one or more containers",
    run!(container::update),
)
.spellings(&["container update", "update"])
.args(Args::AtLeast(1))
.flags(&[UPDATE_FLAGS]);

const UPDATE_FLAGS: &[Flag] = &[
    flag("kernel-memory", Kind::Bytes, "Kernel memory limit (deprecated)").hidden(),
    flag("blkio-weight", Kind::Uint16, "Block IO (relative weight), between 10 and 1000, or 0 to disable").default("0"),
    flag("cpu-period", Kind::Int, "Limit CPU CFS (Completely Fair Scheduler) period"),
    flag("cpu-quota", Kind::Int, "Limit CPU CFS (Completely Fair Scheduler) quota"),
    flag("cpu-rt-period", Kind::Int, "Limit the CPU real-time period in microseconds"),
    flag("cpu-rt-runtime", Kind::Int, "Limit the CPU real-time runtime in microseconds"),
    flag("cpu-shares", Kind::Int, "CPU shares (relative weight)").letter('c'),
    flag("cpus", Kind::Cpus, "Number of CPUs"),
    flag("cpuset-cpus", Kind::Str, "CPUs in which to allow execution (0-3, 0,1)"),
    flag("cpuset-mems", Kind::Str, "MEMs in which to allow execution (0-3, 0,1)"),
    flag("memory", Kind::Bytes, "Memory limit").letter('m'),
    flag("memory-reservation", Kind::Bytes, "Memory soft limit"),
    flag("memory-swap", Kind::SwapBytes, "Swap limit equal to memory plus swap: -1 to enable unlimited swap"),
    flag("pids-limit", Kind::Int, "Tune container pids limit (set -1 for unlimited)"),
    flag("restart", Kind::Str, "Restart policy to apply when a container exits"),
];

pub(super) const WAIT: Cmd = Cmd::new(
    "wait",
    "CONTAINER [CONTAINER...]",
    "Block until one or more containers stop, then print their exit codes",
    run!(container::wait),
)
.spellings(&["container wait", "wait"])
.args(Args::AtLeast(1));
