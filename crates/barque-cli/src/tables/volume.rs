//! `barque volume …`.

use super::{FORMAT_PLAIN, FORMAT_TABLE};
use crate::cmdline::{Args, Cmd, Flag, Kind, flag};
use crate::commands::volume;
use crate::opts::{any, check_filter, check_label};

pub(super) const CREATE: Cmd = Cmd::new("create", "[OPTIONS] [VOLUME]", "Create a volume", run!(volume::create))
    .args(Args::AtMost(1))
    .flags(&[CREATE_FLAGS]);

const CREATE_FLAGS: &[Flag] = &[
    flag("name", Kind::Str, "Specify volume name").hidden(),
    flag("availability", Kind::Str, "Cluster Volume availability (\"active\", \"pause\", \"drain\")")
        .default("active")
        .since("1.42"),
    flag("driver", Kind::Str, "Specify volume driver name").letter('d').default("local"),
    flag("group", Kind::Str, "Cluster Volume group (cluster volumes)").since("1.42"),
    flag("label", Kind::List(check_label), "Set metadata for a volume"),
    flag("limit-bytes", Kind::Bytes, "Minimum size of the Cluster Volume in bytes").since("1.42"),
    flag("opt", Kind::Map(any), "Set driver specific options").letter('o').default("map[]"),
    flag("required-bytes", Kind::Bytes, "Maximum size of the Cluster Volume in bytes").since("1.42"),
    flag("scope", Kind::Str, "Cluster Volume access scope (\"single\", \"multi\")").default("single").since("1.42"),
    flag("secret", Kind::Map(any), "Cluster Volume secrets").default("map[]"),
    flag("sharing", Kind::Str, "Cluster Volume access sharing (\"none\", \"readonly\", \"onewriter\", \"all\")")
        .default("none")
        .since("1.42"),
    flag("topology-preferred", Kind::List(any), "A topology that the Cluster Volume would be preferred in")
        .since("1.42"),
    flag("topology-required", Kind::List(any), "A topology that the Cluster Volume must be accessible from")
        .since("1.42"),
    flag("type", Kind::Str, "Cluster Volume access type (\"mount\", \"block\")").default("block").since("1.42"),
];

pub(super) const INSPECT: Cmd = Cmd::new(
    "inspect",
    "[OPTIONS] VOLUME [VOLUME...]",
    "Display detailed information on one or more volumes",
    run!(volume::inspect),
)
.args(Args::AtLeast(1))
.flags(&[INSPECT_FLAGS]);

const INSPECT_FLAGS: &[Flag] = &[flag("format", Kind::Str, FORMAT_PLAIN).letter('f')];

pub(super) const LS: Cmd = Cmd::new("ls", "[OPTIONS]", "List volumes", run!(volume::ls))
    .spellings(&["volume ls", "volume list"])
    .aliases(&["list"])
    .args(Args::None)
    .flags(&[LS_FLAGS]);

const LS_FLAGS: &[Flag] = &[
    flag("cluster", Kind::Bool, "Display only cluster volumes, and use cluster volume list formatting").since("1.42"),
    flag("filter", Kind::Custom("filter", check_filter), "Provide filter values (e.g. \"dangling=true\")").letter('f'),
    flag("format", Kind::Str, FORMAT_TABLE),
    flag("quiet", Kind::Bool, "Only display volume names").letter('q'),
];

pub(super) const PRUNE: Cmd = Cmd::new("prune", "[OPTIONS]", "Remove unused local volumes", run!(volume::prune))
    .args(Args::None)
    .flags(&[PRUNE_FLAGS]);

const PRUNE_FLAGS: &[Flag] = &[
    flag("dry-run", Kind::Bool, "Only print what would be removed"),
    flag("all", Kind::Bool, "Remove all unused volumes, not just anonymous ones").letter('a').since("1.42"),
    flag("filter", Kind::Custom("filter", check_filter), "Provide filter values (e.g. \"label=<label>\")"),
    flag("force", Kind::Bool, "Do not prompt for confirmation").letter('f'),
];

pub(super) const RM: Cmd =
    Cmd::new("rm", "[OPTIONS] VOLUME [VOLUME...]", "Remove one or more volumes", run!(volume::rm))
        .long("Remove one or more volumes. You cannot remove a volume that is in use by a container.")
        .spellings(&["volume rm", "volume remove"])
        .aliases(&["remove"])
        .args(Args::AtLeast(1))
        .flags(&[RM_FLAGS]);

const RM_FLAGS: &[Flag] = &[flag("force", Kind::Bool, "Force the removal of one or more volumes").letter('f')];

pub(super) const UPDATE: Cmd =
    Cmd::new("update", "[OPTIONS] [VOLUME]", "Update a volume (cluster volumes only)", run!(volume::update))
        .args(Args::Exactly(1))
        .flags(&[UPDATE_FLAGS]);

const UPDATE_FLAGS: &[Flag] =
    &[flag("availability", Kind::Str, "Cluster Volume availability (\"active\", \"pause\", \"drain\")")
        .default("active")
        .since("1.42")];
