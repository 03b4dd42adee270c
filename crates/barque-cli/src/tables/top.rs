//! Commands without a group: `inspect`, `login`, `logout`, `search`, `version`.

use super::FORMAT_PLAIN;
use crate::cmdline::{Args, Cmd, Flag, Kind, flag};
use crate::commands::{inspect, login, search, version};
use crate::opts::check_filter;

pub(super) const INSPECT: Cmd = Cmd::new(
    "inspect",
    "[OPTIONS] NAME|ID [NAME|ID...]",
    "Return low-level information on Docker objects",
    run!(inspect::inspect),
)
.args(Args::AtLeast(1))
.flags(&[INSPECT_FLAGS]);

const INSPECT_FLAGS: &[Flag] = &[
    flag("format", Kind::Str, FORMAT_PLAIN).letter('f'),
    flag("size", Kind::Bool, "Display total file sizes if the type is container").letter('s'),
    flag("type", Kind::Str, "Only inspect objects of the given type"),
];

pub(super) const LOGIN: Cmd = Cmd::new("login", "[OPTIONS] [SERVER]", "Authenticate to a registry", run!(login::login))
    .long("Authenticate to a registry.\nDefaults to Docker Hub if no server is specified.")
    .args(Args::AtMost(1))
    .flags(&[LOGIN_FLAGS]);

const LOGIN_FLAGS: &[Flag] = &[
    flag("password", Kind::Str, "Password or Personal Access Token (PAT)").letter('p'),
    flag("password-stdin", Kind::Bool, "Take the Password or Personal Access Token (PAT) from stdin"),
    flag("username", Kind::Str, "Username").letter('u'),
];

pub(super) const LOGOUT: Cmd = Cmd::new("logout", "[SERVER]", "Log out from a registry", run!(login::logout))
    .long("Log out from a registry.\nIf no server is specified, the default is defined by the daemon.")
    .args(Args::AtMost(1));

pub(super) const SEARCH: Cmd =
    Cmd::new("search", "[OPTIONS] TERM", "Search Docker Hub for images", run!(search::search))
        .args(Args::Exactly(1))
        .flags(&[SEARCH_FLAGS]);

const SEARCH_FLAGS: &[Flag] = &[
    flag("filter", Kind::Custom("filter", check_filter), "Filter output based on conditions provided").letter('f'),
    flag("format", Kind::Str, "Pretty-print search using a Go template"),
    flag("limit", Kind::Int, "Max number of search results"),
    flag("no-trunc", Kind::Bool, "Don't truncate output"),
];

pub(super) const VERSION: Cmd =
    Cmd::new("version", "[OPTIONS]", "Show the Docker version information", run!(version::version))
        .args(Args::None)
        .flags(&[VERSION_FLAGS]);

const VERSION_FLAGS: &[Flag] = &[flag("format", Kind::Str, FORMAT_PLAIN).letter('f')];
