//! Completions that need no engine: values of flags that are one of a few words, and the options of the roles, which
//! have a command line of their own.

use std::os::unix::process::CommandExt as _;

use barque_model::Signal;

use crate::cmdline::Cmd;
use crate::opts::limits::ULIMITS;

/// Filters of `ps`.
const PS_FILTERS: &[&str] = &[
    "ancestor=",
    "before=",
    "exited=",
    "expose=",
    "health=",
    "id=",
    "is-task=",
    "label=",
    "name=",
    "network=",
    "publish=",
    "since=",
    "status=",
    "volume=",
];
const STATUSES: &[&str] = &[
    "status=created",
    "status=restarting",
    "status=running",
    "status=removing",
    "status=paused",
    "status=exited",
    "status=dead",
];
const HEALTHS: &[&str] = &["health=starting", "health=healthy", "health=unhealthy", "health=none"];
/// capabilities(7), and Docker's word for all of them.
const CAPABILITIES: &[&str] = &[
    "ALL",
    "AUDIT_CONTROL",
    "AUDIT_READ",
    "AUDIT_WRITE",
    "BLOCK_SUSPEND",
    "BPF",
    "CHECKPOINT_RESTORE",
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "IPC_LOCK",
    "IPC_OWNER",
    "KILL",
    "LEASE",
    "LINUX_IMMUTABLE",
    "MAC_ADMIN",
    "MAC_OVERRIDE",
    "MKNOD",
    "NET_ADMIN",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_RAW",
    "PERFMON",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYSLOG",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_CHROOT",
    "SYS_MODULE",
    "SYS_NICE",
    "SYS_PACCT",
    "SYS_PTRACE",
    "SYS_RAWIO",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "WAKE_ALARM",
];

const EVENT_FILTERS: &[&str] =
    &["container=", "daemon=", "event=", "image=", "label=", "network=", "scope=", "type=", "volume="];
const PLATFORMS: &[&str] = &["linux/amd64", "linux/arm64", "linux/arm/v7", "linux/386", "linux/ppc64le", "linux/s390x"];

/// Values that stand in no list of completion's own: variables that are set, names of signals and of limits.
pub(super) fn known_elsewhere(flag: &str) -> Vec<String> {
    match flag {
        "env" => std::env::vars().map(|(name, _)| name).collect(),
        "signal" | "stop-signal" => Signal::names().map(|(name, _)| name.to_owned()).collect(),
        "ulimit" => ULIMITS.iter().map(|name| format!("{name}=")).collect(),
        _ => Vec::new(),
    }
}

/// The words that the value of a flag may be; `started` is what of it stands there already.
pub(super) fn of_flag(cmd: &Cmd, flag: &str, started: &str) -> &'static [&'static str] {
    let launches = matches!(cmd.name, "run" | "create");
    match flag {
        "restart" => &["no", "always", "unless-stopped", "on-failure", "on-failure:"],
        "pull" if launches => &["missing", "always", "never"],
        "log-driver" if launches => &["json-file", "local", "none"],
        "cap-add" | "cap-drop" => CAPABILITIES,
        "log-level" => &["debug", "info", "warn", "error", "fatal"],
        "platform" => PLATFORMS,
        "filter" if cmd.name == "events" => EVENT_FILTERS,
        "progress" => &["auto", "plain", "tty", "quiet", "rawjson"],
        "format" if !matches!(cmd.name, "export" | "commit") => &["json", "table"],
        "type" if cmd.name == "inspect" => &["container", "image", "network", "volume"],
        "attach" if launches => &["stdin", "stdout", "stderr"],
        "cgroupns" | "ipc" | "pid" | "uts" | "userns" if launches => namespaces(flag),
        "security-opt" if launches => {
            &["no-new-privileges", "seccomp=", "seccomp=unconfined", "apparmor=", "systempaths=unconfined"]
        }
        "driver" if cmd.usage.contains("NETWORK") => &["bridge", "macvlan", "ipvlan"],
        "filter" if cmd.spellings.contains(&"ps") => match started.split_once('=') {
            Some(("status", _)) => STATUSES,
            Some(("health", _)) => HEALTHS,
            _ => PS_FILTERS,
        },
        _ => &[],
    }
}

fn namespaces(flag: &str) -> &'static [&'static str] {
    match flag {
        "cgroupns" => &["host", "private"],
        "ipc" => &["host", "private", "shareable", "none", "container:"],
        "pid" => &["host", "container:"],
        _ => &["host"],
    }
}

/// The words that an operand may be.
pub(super) fn of_operand(cmd: &Cmd) -> &'static [&'static str] {
    match cmd.name {
        "completion" => &["bash", "zsh", "fish", "powershell"],
        "registry" => &["serve"],
        _ => &[],
    }
}

/// The words before the options of a role, if the line names one.
pub(super) fn role(words: &[String]) -> Option<&[String]> {
    match words.first()?.as_str() {
        "daemon" | "doctor" => words.get(..1),
        "registry" if words.get(1).is_some_and(|w| w == "serve") => words.get(..2),
        _ => None,
    }
}

/// What the role says of itself: its options are no table of the command line.
pub(super) fn help_of_role(role: &[String]) -> String {
    let Ok(own) = std::env::current_exe() else { return String::new() };
    let asked = std::process::Command::new(own).arg0("barque").args(role).arg("--help").output();
    asked.map(|done| String::from_utf8_lossy(&done.stdout).into_owned()).unwrap_or_default()
}

/// The options that the role names in its help.
pub(super) fn options_of_role(role: &[String]) -> Vec<(String, String)> {
    options(&help_of_role(role))
}

/// The long flags of a help text, and the first line of what each does.
fn options(help: &str) -> Vec<(String, String)> {
    let line = |line: &str| {
        let text = line.trim_start();
        let long = if text.starts_with("--") { text } else { text.strip_prefix('-')?.split_once(", ")?.1 };
        let (flag, rest) = long.split_at(long.find([' ', '=']).unwrap_or(long.len()));
        let about = rest.split_once("  ").map(|(_, about)| about.trim()).unwrap_or_default();
        flag.starts_with("--").then(|| (flag.to_owned(), about.to_owned()))
    };
    help.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_from_a_help() {
        let help = "Usage:  x [OPTIONS]\n\nOptions:\n  -c, --context string   The one\n      --quiet            Say - less\n\nDone.\n";
        let pair = |flag: &str, about: &str| (flag.to_owned(), about.to_owned());
        assert_eq!(options(help), [pair("--context", "The one"), pair("--quiet", "Say - less")]);
    }

    #[test]
    fn roles_are_found_by_their_words() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(role(&words("daemon --debug")), Some(&words("daemon")[..]));
        assert_eq!(role(&words("registry serve")), Some(&words("registry serve")[..]));
        assert_eq!(role(&words("registry")), None);
        assert_eq!(role(&[]), None);
    }
}
