//! The table of dockerd's options.

/// The form of an option's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Bool,
    Int,
    Text,
    /// Repeatable; a list in the file.
    List,
    /// Repeatable `key=value`; an object of strings in the file.
    Map,
    /// A document in the file; the flag's words are turned into one.
    Json,
}

/// What Barque does with an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Support {
    Yes,
    /// Taken, with a warning that says why it has no effect.
    Ignored(&'static str),
    /// An error if it is set to anything but its default.
    Not,
}

/// An option of the daemon.
#[derive(Clone, Copy, Debug)]
pub struct Opt {
    /// Without dashes; empty if only the file has it.
    pub flag: &'static str,
    pub short: Option<char>,
    /// The key in `daemon.json`; empty if only flags have it.
    pub key: &'static str,
    pub kind: Kind,
    pub support: Support,
    pub help: &'static str,
}

impl Opt {
    /// The name it has among the values.
    pub fn name(&self) -> &'static str {
        if self.key.is_empty() { self.flag } else { self.key }
    }
}

const fn opt(flag: &'static str, kind: Kind, help: &'static str) -> Opt {
    Opt { flag, short: None, key: flag, kind, support: Support::Yes, help }
}

impl Opt {
    const fn key(mut self, key: &'static str) -> Opt {
        self.key = key;
        self
    }

    const fn short(mut self, short: char) -> Opt {
        self.short = Some(short);
        self
    }

    const fn ignored(mut self, why: &'static str) -> Opt {
        self.support = Support::Ignored(why);
        self
    }

    const fn not(mut self) -> Opt {
        self.support = Support::Not;
        self
    }
}

const NO_CONTAINERD: &str = "no containerd is used";
const ONE_RUNTIME: &str = "the built-in runtime starts all containers, and no other can be named";
const NO_SWARM: &str = "there is no swarm mode";

use Kind::{Bool, Int, Json, List, Map, Text};

/// Every option, sorted by flag.
pub const OPTIONS: &[Opt] = &[
    opt("add-runtime", Json, "Register an additional OCI compatible runtime").key("runtimes").ignored(ONE_RUNTIME),
    opt("allow-direct-routing", Bool, "Allow remote access to published ports on container IP addresses").not(),
    opt("allow-nondistributable-artifacts", List, "Allow push of nondistributable artifacts to registry")
        .ignored("all layers are pushed"),
    opt("api-cors-header", Text, "Set CORS headers in the Engine API").not(),
    opt("authorization-plugin", List, "Authorization plugins to load").key("authorization-plugins").not(),
    opt("bip", Text, "IPv4 address for the default bridge"),
    opt("bip6", Text, "IPv6 address for the default bridge").not(),
    opt("bridge", Text, "Attach containers to a network bridge").short('b'),
    opt("bridge-accept-fwmark", Text, "In bridge networks, accept packets with this firewall mark/mask").not(),
    Opt { flag: "", ..opt("builder", Json, "Settings of the builder") },
    opt("cdi-spec-dir", List, "CDI specification directories to use").key("cdi-spec-dirs").not(),
    opt("cgroup-parent", Text, "Set parent cgroup for all containers"),
    opt("config-file", Text, "Daemon configuration file").key(""),
    opt("containerd", Text, "containerd grpc address").ignored(NO_CONTAINERD),
    opt("containerd-namespace", Text, "Containerd namespace to use").ignored(NO_CONTAINERD),
    opt("containerd-plugins-namespace", Text, "Containerd namespace to use for plugins")
        .key("containerd-plugin-namespace")
        .ignored(NO_CONTAINERD),
    opt("cpu-rt-period", Int, "Limit the CPU real-time period in microseconds for the parent cgroup").not(),
    opt("cpu-rt-runtime", Int, "Limit the CPU real-time runtime in microseconds for the parent cgroup").not(),
    opt("cri-containerd", Bool, "start containerd with cri").not(),
    opt("data-root", Text, "Root directory of persistent state"),
    opt("debug", Bool, "Enable debug mode").short('D'),
    opt("default-address-pool", Json, "Default address pools for node specific local networks")
        .key("default-address-pools"),
    opt("default-cgroupns-mode", Text, "Default mode for containers cgroup namespace (\"host\" | \"private\")"),
    opt("default-gateway", Text, "Default gateway IPv4 address for the default bridge network"),
    opt("default-gateway-v6", Text, "Default gateway IPv6 address for the default bridge network").not(),
    opt("default-ipc-mode", Text, "Default mode for containers ipc (\"shareable\" | \"private\")"),
    opt("default-network-opt", Json, "Default network options").key("default-network-opts").not(),
    opt("default-runtime", Text, "Default OCI runtime for containers"),
    opt("default-shm-size", Text, "Default shm size for containers"),
    opt("default-stop-timeout", Int, "Set the default container stop timeout in seconds").not(),
    opt("default-ulimit", Json, "Default ulimits for containers").key("default-ulimits"),
    opt("dns", List, "DNS server to use"),
    opt("dns-opt", List, "DNS options to use").key("dns-opts"),
    opt("dns-search", List, "DNS search domains to use"),
    opt("exec-opt", List, "Runtime execution options").key("exec-opts"),
    opt("exec-root", Text, "Root directory for execution state files"),
    opt("experimental", Bool, "Enable experimental features"),
    opt("feature", Json, "Enable feature in the daemon").key("features"),
    opt("firewall-backend", Text, "Firewall backend to use, iptables or nftables"),
    opt("fixed-cidr", Text, "IPv4 subnet for the default bridge network"),
    opt("fixed-cidr-v6", Text, "IPv6 subnet for the default bridge network"),
    opt("group", Text, "Group for the unix socket").short('G'),
    opt("host", List, "Daemon socket(s) to connect to").short('H').key("hosts"),
    opt("host-gateway-ip", List, "IP addresses that the special 'host-gateway' string in --add-host resolves to")
        .key("host-gateway-ips"),
    opt("http-proxy", Text, "HTTP proxy URL to use for outgoing traffic"),
    opt("https-proxy", Text, "HTTPS proxy URL to use for outgoing traffic"),
    opt("icc", Bool, "Enable inter-container communication for the default bridge network"),
    opt("init", Bool, "Run an init in the container to forward signals and reap processes"),
    opt("init-path", Text, "Path to the docker-init binary").ignored("the built-in init is used"),
    opt("insecure-registry", List, "Enable insecure registry communication").key("insecure-registries"),
    opt("ip", Text, "Host IP for port publishing from the default bridge network"),
    opt("ip-forward", Bool, "Enable IP forwarding in system configuration"),
    opt("ip-forward-no-drop", Bool, "Do not set the filter-FORWARD policy to DROP when enabling IP forwarding")
        .ignored("the FORWARD policy is never changed"),
    opt("ip-masq", Bool, "Enable IP masquerading for the default bridge network"),
    opt("ip6tables", Bool, "Enable addition of ip6tables rules"),
    opt("iptables", Bool, "Enable addition of iptables rules"),
    opt("ipv6", Bool, "Enable IPv6 networking for the default bridge network"),
    opt("label", List, "Set key=value labels to the daemon").key("labels"),
    opt("live-restore", Bool, "Keep containers running while the daemon is down"),
    opt("log-driver", Text, "Default driver for container logs"),
    opt("log-format", Text, "Set the logging format (\"text\"|\"json\")"),
    opt("log-level", Text, "Set the logging level (\"debug\"|\"info\"|\"warn\"|\"error\"|\"fatal\")").short('l'),
    opt("log-opt", Map, "Default log driver options for containers").key("log-opts"),
    opt("max-concurrent-downloads", Int, "Set the max concurrent downloads"),
    opt("max-concurrent-uploads", Int, "Set the max concurrent uploads"),
    opt("max-download-attempts", Int, "Set the max download attempts for each pull")
        .ignored("transfers go on where they broke off"),
    opt("metrics-addr", Text, "Set default address and port to serve the metrics api on").not(),
    Opt { flag: "", ..opt("min-api-version", Text, "Oldest API version to serve") },
    opt("mtu", Int, "Set the MTU for the default \"bridge\" network"),
    opt("network-control-plane-mtu", Int, "Network Control plane MTU").ignored(NO_SWARM),
    opt("network-diagnostic-port", Int, "TCP port number of the network diagnostic server").ignored(NO_SWARM),
    opt("no-new-privileges", Bool, "Set no-new-privileges by default for new containers"),
    opt("no-proxy", Text, "Comma-separated list of hosts or IP addresses for which the proxy is skipped"),
    opt("node-generic-resource", List, "Advertise user-defined resource")
        .key("node-generic-resources")
        .ignored(NO_SWARM),
    opt("oom-score-adjust", Int, "Set the oom_score_adj for the daemon")
        .ignored("it is the unit's that starts the engine: OOMScoreAdjust="),
    opt("pidfile", Text, "Path to use for daemon PID file").short('p'),
    opt("raw-logs", Bool, "Full timestamps without ANSI coloring"),
    opt("registry-mirror", List, "Preferred registry mirror").key("registry-mirrors"),
    opt("resolv-conf", Text, "Path to the host's resolver configuration").not(),
    opt("rootless", Bool, "Enable rootless mode").not(),
    opt(
        "seccomp-profile",
        Text,
        "Path to seccomp profile. Set to \"unconfined\" to disable the default seccomp profile",
    ),
    opt("selinux-enabled", Bool, "Enable selinux support").not(),
    opt("shutdown-timeout", Int, "Set the default shutdown timeout"),
    opt("storage-driver", Text, "Storage driver to use").short('s'),
    opt("storage-opt", List, "Storage driver options").key("storage-opts").ignored("the overlay driver has no options"),
    opt("swarm-default-advertise-addr", Text, "Set default address or interface for swarm advertised address")
        .ignored(NO_SWARM),
    opt("tls", Bool, "Use TLS; implied by --tlsverify"),
    opt("tlscacert", Text, "Trust certs signed only by this CA"),
    opt("tlscert", Text, "Path to TLS certificate file"),
    opt("tlskey", Text, "Path to TLS key file"),
    opt("tlsverify", Bool, "Use TLS and verify the remote"),
    opt("userland-proxy", Bool, "Use userland proxy for loopback traffic"),
    opt("userland-proxy-path", Text, "Path to the userland proxy binary").ignored("the built-in proxy is used"),
    opt("userns-remap", Text, "User/Group setting for user namespaces").not(),
    opt("validate", Bool, "Validate daemon configuration and exit").key(""),
];

/// Keys that old files have and that are passed over in silence.
pub(crate) const OBSOLETE_KEYS: &[&str] = &["deprecated-key-path", "default-init", "nri-opts"];

/// Older spellings of keys.
pub(crate) const RENAMED_KEYS: &[(&str, &str)] = &[("host-gateway-ip", "host-gateway-ips"), ("graph", "data-root")];

/// The option with this long flag.
pub fn by_flag(flag: &str) -> Option<&'static Opt> {
    OPTIONS.iter().find(|opt| !opt.flag.is_empty() && opt.flag == flag)
}

/// The option with this short flag.
pub fn by_short(short: char) -> Option<&'static Opt> {
    OPTIONS.iter().find(|opt| opt.short == Some(short))
}

/// The option with this key in the file.
pub fn by_key(key: &str) -> Option<&'static Opt> {
    OPTIONS.iter().find(|opt| !opt.key.is_empty() && opt.key == key)
}

/// The known word that a mistyped one is likely to mean.
pub(crate) fn likely<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (word.len() / 3).clamp(1, 3);
    known
        .filter(|candidate| !candidate.is_empty())
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, candidate)| candidate)
}

/// How many letters must be inserted, removed, replaced (Levenshtein); `_` and `-` are the same letter.
fn distance(a: &str, b: &str) -> usize {
    let letters = |text: &str| -> Vec<u8> {
        text.bytes().map(|b| if b == b'_' { b'-' } else { b.to_ascii_lowercase() }).take(64).collect()
    };
    let (a, b) = (letters(a), letters(b));
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}
