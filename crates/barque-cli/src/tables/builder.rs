//! `barque builder …`.

use crate::cmdline::{Args, Cmd, Flag, Kind, flag};
use crate::commands::builder;
use crate::opts::check_filter;

pub(super) const PRUNE: Cmd =
    Cmd::new("prune", "", "Remove build cache", run!(builder::prune)).args(Args::None).flags(&[PRUNE_FLAGS]);

const PRUNE_FLAGS: &[Flag] = &[
    flag("dry-run", Kind::Bool, "Only print what would be removed"),
    flag("all", Kind::Bool, "Remove all unused build cache, not just dangling ones").letter('a'),
    flag("filter", Kind::Custom("filter", check_filter), "Provide filter values (e.g. \"until=24h\")"),
    flag("force", Kind::Bool, "Do not prompt for confirmation").letter('f'),
    flag("keep-storage", Kind::Bytes, "Amount of disk space to keep for cache"),
    flag("max-used-space", Kind::Bytes, "Maximum amount of disk space allowed to keep for cache"),
    flag("min-free-space", Kind::Bytes, "Target amount of free disk space after pruning"),
    flag("reserved-space", Kind::Bytes, "Amount of disk space always allowed to keep for cache"),
    flag("verbose", Kind::Bool, "Provide a more verbose output"),
];
