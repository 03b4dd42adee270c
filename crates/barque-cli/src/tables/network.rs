//! `barque network …`.

use super::{FORMAT_PLAIN, FORMAT_TABLE};
use crate::cmdline::{Args, Cmd, Flag, Kind, flag};
use crate::commands::network;
use crate::opts::{any, check_filter, check_label, check_link};

pub(super) const CONNECT: Cmd =
    Cmd::new("connect", "[OPTIONS] NETWORK CONTAINER", "Connect a container to a network", run!(network::connect))
        .args(Args::Exactly(2))
        .flags(&[CONNECT_FLAGS]);

const CONNECT_FLAGS: &[Flag] = &[
    flag("alias", Kind::Strings, "Add network-scoped alias for the container"),
    flag("driver-opt", Kind::Strings, "driver options for the network"),
    flag(
        "gw-priority",
        Kind::Int,
        "Highest gw-priority provides the default gateway. Accepts positive and negative values.",
    ),
    flag("ip", Kind::Str, "IPv4 address (e.g., \"172.30.100.104\")"),
    flag("ip6", Kind::Str, "IPv6 address (e.g., \"2001:db8::33\")"),
    flag("link", Kind::List(check_link), "Add link to another container"),
    flag("link-local-ip", Kind::Strings, "Add a link-local address for the container"),
];

pub(super) const CREATE: Cmd = Cmd::new("create", "[OPTIONS] NETWORK", "Create a network", run!(network::create))
    .args(Args::Exactly(1))
    .flags(&[CREATE_FLAGS]);

const CREATE_FLAGS: &[Flag] = &[
    flag("attachable", Kind::Bool, "Enable manual container attachment"),
    flag("aux-address", Kind::Map(any), "Auxiliary IPv4 or IPv6 addresses used by Network driver").default("map[]"),
    flag("config-from", Kind::Str, "The network from which to copy the configuration"),
    flag("config-only", Kind::Bool, "Create a configuration only network"),
    flag("driver", Kind::Str, "Driver to manage the Network").letter('d').default("bridge"),
    flag("gateway", Kind::Strings, "IPv4 or IPv6 Gateway for the master subnet"),
    flag("ingress", Kind::Bool, "Create swarm routing-mesh network"),
    flag("internal", Kind::Bool, "Restrict external access to the network"),
    flag("ip-range", Kind::Strings, "Allocate container ip from a sub-range"),
    flag("ipam-driver", Kind::Str, "IP Address Management Driver").default("default"),
    flag("ipam-opt", Kind::Map(any), "Set IPAM driver specific options").default("map[]"),
    flag("ipv4", Kind::Bool, "Enable or disable IPv4 address assignment").default("true"),
    flag("ipv6", Kind::Bool, "Enable or disable IPv6 address assignment"),
    flag("label", Kind::List(check_label), "Set metadata on a network"),
    flag("opt", Kind::Map(any), "Set driver specific options").letter('o').default("map[]"),
    flag("scope", Kind::Str, "Control the network's scope"),
    flag("subnet", Kind::Strings, "Subnet in CIDR format that represents a network segment"),
];

pub(super) const DISCONNECT: Cmd = Cmd::new(
    "disconnect",
    "[OPTIONS] NETWORK CONTAINER",
    "Disconnect a container from a network",
    run!(network::disconnect),
)
.args(Args::Exactly(2))
.flags(&[DISCONNECT_FLAGS]);

const DISCONNECT_FLAGS: &[Flag] =
    &[flag("force", Kind::Bool, "Force the container to disconnect from a network").letter('f')];

pub(super) const INSPECT: Cmd = Cmd::new(
    "inspect",
    "[OPTIONS] NETWORK [NETWORK...]",
    "Display detailed information on one or more networks",
    run!(network::inspect),
)
.args(Args::AtLeast(1))
.flags(&[INSPECT_FLAGS]);

const INSPECT_FLAGS: &[Flag] = &[
    flag("format", Kind::Str, FORMAT_PLAIN).letter('f'),
    flag("verbose", Kind::Bool, "Verbose output for diagnostics").letter('v'),
];

pub(super) const LS: Cmd = Cmd::new("ls", "[OPTIONS]", "List networks", run!(network::ls))
    .spellings(&["network ls", "network list"])
    .aliases(&["list"])
    .args(Args::None)
    .flags(&[LS_FLAGS]);

const LS_FLAGS: &[Flag] = &[
    flag("filter", Kind::Custom("filter", check_filter), "Provide filter values (e.g. \"driver=bridge\")").letter('f'),
    flag("format", Kind::Str, FORMAT_TABLE),
    flag("no-trunc", Kind::Bool, "Do not truncate the output"),
    flag("quiet", Kind::Bool, "Only display network IDs").letter('q'),
];

pub(super) const PRUNE: Cmd = Cmd::new("prune", "[OPTIONS]", "Remove all unused networks", run!(network::prune))
    .args(Args::None)
    .flags(&[PRUNE_FLAGS]);

const PRUNE_FLAGS: &[Flag] = &[
    flag("dry-run", Kind::Bool, "Only print what would be removed"),
    flag("filter", Kind::Custom("filter", check_filter), "Provide filter values (e.g. \"until=<timestamp>\")"),
    flag("force", Kind::Bool, "Do not prompt for confirmation").letter('f'),
];

pub(super) const RM: Cmd = Cmd::new("rm", "NETWORK [NETWORK...]", "Remove one or more networks", run!(network::rm))
    .spellings(&["network rm", "network remove"])
    .aliases(&["remove"])
    .args(Args::AtLeast(1))
    .flags(&[RM_FLAGS]);

const RM_FLAGS: &[Flag] = &[flag("force", Kind::Bool, "Do not error if the network does not exist").letter('f')];
