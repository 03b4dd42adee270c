//! `barque system …`.

use super::{FORMAT_PLAIN, FORMAT_TABLE};
use crate::cmdline::{Args, Cmd, Flag, Kind, flag};
use crate::commands::system;
use crate::opts::check_filter;

pub(super) const DF: Cmd =
    Cmd::new("df", "[OPTIONS]", "Show docker disk usage", run!(system::df)).args(Args::None).flags(&[DF_FLAGS]);

const DF_FLAGS: &[Flag] = &[
    flag("format", Kind::Str, FORMAT_TABLE),
    flag("verbose", Kind::Bool, "Show detailed information on space usage").letter('v'),
];

pub(super) const EVENTS: Cmd =
    Cmd::new("events", "[OPTIONS]", "Get real time events from the server", run!(system::events))
        .spellings(&["system events", "events"])
        .args(Args::None)
        .flags(&[EVENTS_FLAGS]);

const EVENTS_FLAGS: &[Flag] = &[
    flag("filter", Kind::Custom("filter", check_filter), "Filter output based on conditions provided").letter('f'),
    flag("format", Kind::Str, FORMAT_PLAIN),
    flag("since", Kind::Str, "Show all events created since timestamp"),
    flag("until", Kind::Str, "Stream events until this timestamp"),
];

pub(super) const INFO: Cmd = Cmd::new("info", "[OPTIONS]", "Display system-wide information", run!(system::info))
    .spellings(&["system info", "info"])
    .args(Args::None)
    .flags(&[INFO_FLAGS]);

const INFO_FLAGS: &[Flag] = &[flag("format", Kind::Str, FORMAT_PLAIN).letter('f')];

pub(super) const PRUNE: Cmd =
    Cmd::new("prune", "[OPTIONS]", "Remove unused data", run!(system::prune)).args(Args::None).flags(&[PRUNE_FLAGS]);

const PRUNE_FLAGS: &[Flag] = &[
    flag("dry-run", Kind::Bool, "Only print what would be removed"),
    flag("all", Kind::Bool, "Remove all unused images not just dangling ones").letter('a'),
    flag("filter", Kind::Custom("filter", check_filter), "Provide filter values (e.g. \"label=<key>=<value>\")"),
    flag("force", Kind::Bool, "Do not prompt for confirmation").letter('f'),
    flag("volumes", Kind::Bool, "Prune anonymous volumes"),
];
