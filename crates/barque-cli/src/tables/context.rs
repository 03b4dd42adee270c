//! `barque context …`.

use super::{FORMAT_PLAIN, FORMAT_TABLE};
use crate::cmdline::{Args, Cmd, Flag, Kind, flag};
use crate::commands::context;
use crate::opts::any;

pub(super) const CREATE: Cmd = Cmd::new("create", "[OPTIONS] CONTEXT", "Create a context", run!(context::create))
    .long("Create a context\n\nDocker endpoint config:\n\nNAME                DESCRIPTION\nfrom                Copy named context's Docker endpoint configuration\nhost                Docker endpoint on which to connect\nca                  Trust certs signed only by this CA\ncert                Path to TLS certificate file\nkey                 Path to TLS key file\nskip-tls-verify     Skip TLS certificate validation\n\nExample:\n\n$ docker context create my-context --description \"some description\" --docker \"host=tcp://myserver:2376,ca=~/ca-file,cert=~/cert-file,key=~/key-file\"")
    .args(Args::Exactly(1))
    .flags(&[CREATE_FLAGS]);

const CREATE_FLAGS: &[Flag] = &[
    flag("description", Kind::Str, "Description of the context"),
    flag("docker", Kind::Custom("stringToString", any), "set the docker endpoint").default("[]"),
    flag("from", Kind::Str, "create context from a named context"),
];

pub(super) const EXPORT: Cmd = Cmd::new(
    "export",
    "[OPTIONS] CONTEXT [FILE|-]",
    "Export a context to a tar archive FILE or a tar stream on STDOUT.",
    run!(context::export),
)
.args(Args::Between(1, 2));

pub(super) const IMPORT: Cmd =
    Cmd::new("import", "CONTEXT FILE|-", "Import a context from a tar or zip file", run!(context::import))
        .args(Args::Exactly(2));

pub(super) const INSPECT: Cmd = Cmd::new(
    "inspect",
    "[OPTIONS] [CONTEXT] [CONTEXT...]",
    "Display detailed information on one or more contexts",
    run!(context::inspect),
)
.args(Args::Any)
.flags(&[INSPECT_FLAGS]);

const INSPECT_FLAGS: &[Flag] = &[flag("format", Kind::Str, FORMAT_PLAIN).letter('f')];

pub(super) const LS: Cmd = Cmd::new("ls", "[OPTIONS]", "List contexts", run!(context::ls))
    .spellings(&["context ls", "context list"])
    .aliases(&["list"])
    .args(Args::None)
    .flags(&[LS_FLAGS]);

const LS_FLAGS: &[Flag] =
    &[flag("format", Kind::Str, FORMAT_TABLE), flag("quiet", Kind::Bool, "Only show context names").letter('q')];

pub(super) const RM: Cmd = Cmd::new("rm", "CONTEXT [CONTEXT...]", "Remove one or more contexts", run!(context::rm))
    .spellings(&["context rm", "context remove"])
    .aliases(&["remove"])
    .args(Args::AtLeast(1))
    .flags(&[RM_FLAGS]);

const RM_FLAGS: &[Flag] = &[flag("force", Kind::Bool, "Force the removal of a context in use").letter('f')];

pub(super) const SHOW: Cmd =
    Cmd::new("show", "", "Print the name of the current context", run!(context::show)).args(Args::None);

pub(super) const UPDATE: Cmd = Cmd::new("update", "[OPTIONS] CONTEXT", "Update a context", run!(context::update))
    .long("Update a context\n\nDocker endpoint config:\n\nNAME                DESCRIPTION\nfrom                Copy named context's Docker endpoint configuration\nhost                Docker endpoint on which to connect\nca                  Trust certs signed only by this CA\ncert                Path to TLS certificate file\nkey                 Path to TLS key file\nskip-tls-verify     Skip TLS certificate validation\n\nExample:\n\n$ docker context update my-context --description \"some description\" --docker \"host=tcp://myserver:2376,ca=~/ca-file,cert=~/cert-file,key=~/key-file\"")
    .args(Args::Exactly(1))
    .flags(&[UPDATE_FLAGS]);

const UPDATE_FLAGS: &[Flag] = &[
    flag("description", Kind::Str, "Description of the context"),
    flag("docker", Kind::Custom("stringToString", any), "set the docker endpoint").default("[]"),
];

pub(super) const USE: Cmd =
    Cmd::new("use", "CONTEXT", "Set the current docker context", run!(context::use_context)).args(Args::Exactly(1));
