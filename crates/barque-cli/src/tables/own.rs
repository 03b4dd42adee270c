//! Barque's own commands, beyond those of the `docker` client.

use super::later::later;
use crate::cmdline::{Args, Category, Cmd, Flag, Kind, flag};
use crate::commands::{completion, compose, roles, system, volume};

pub(super) const VOLUME_EXPORT: Cmd =
    Cmd::new("export", "[OPTIONS] VOLUME", "Export a volume's content as a tar archive", run!(volume::export))
        .args(Args::Exactly(1))
        .flags(&[OUTPUT]);

const OUTPUT: &[Flag] = &[flag("output", Kind::Str, "Write to a file, instead of STDOUT").letter('o')];

pub(super) const VOLUME_IMPORT: Cmd =
    Cmd::new("import", "VOLUME [FILE|-]", "Fill a volume from a tar archive or STDIN", run!(volume::import))
        .args(Args::Between(1, 2));

pub(super) const VOLUME_CLONE: Cmd =
    Cmd::new("clone", "SOURCE TARGET", "Create a volume with the content of another", run!(volume::clone))
        .args(Args::Exactly(2));

pub(super) const VOLUME_RENAME: Cmd =
    Cmd::new("rename", "VOLUME NEW_NAME", "Rename an unused volume", run!(volume::rename)).args(Args::Exactly(2));

pub(super) const DIAL_STDIO: Cmd = Cmd::new(
    "dial-stdio",
    "",
    "Proxy the stdio stream to the daemon connection. Should not be invoked manually.",
    run!(system::dial_stdio),
)
.args(Args::None)
.category(Category::Hidden);

pub(super) const INSTALL: Cmd = Cmd::new(
    "install",
    "[OPTIONS]",
    "Install systemd units that start the engine",
    run!(system::install),
)
.long(
    "Install systemd units: a socket at /run/barque/barque.sock and the engine behind it, started at boot and when first\n\
     used.\n\
     With --docker-alias, a `docker` command that is this program as well.",
)
.args(Args::None)
.flags(&[INSTALL_FLAGS]);

const INSTALL_FLAGS: &[Flag] = &[
    flag("docker-alias", Kind::Bool, "Also install this program under the name docker"),
    flag("docker-socket", Kind::Bool, "Also listen on /var/run/docker.sock"),
    flag("dry-run", Kind::Bool, "Print what would be done and change nothing"),
    flag("enable", Kind::Bool, "Enable and start the socket").default("true"),
    flag("prefix", Kind::Str, "Directory under which the program is installed").default("/usr/local"),
    flag("root", Kind::Str, "Install below this directory, for packages and images"),
];

pub(super) const UNINSTALL: Cmd =
    Cmd::new("uninstall", "[OPTIONS]", "Remove what install made; data stay", run!(system::uninstall))
        .args(Args::None)
        .flags(&[UNINSTALL_FLAGS]);

const UNINSTALL_FLAGS: &[Flag] = &[
    flag("dry-run", Kind::Bool, "Print what would be done and change nothing"),
    flag("prefix", Kind::Str, "Directory under which the program was installed").default("/usr/local"),
    flag("root", Kind::Str, "Directory below which it was installed"),
];

pub(super) const COMPOSE: Cmd =
    Cmd::new("compose", "[OPTIONS] COMMAND", "Define and run multi-container applications", run!(compose::compose))
        .raw()
        .category(Category::Management);

const BUILDERS: Cmd = Cmd::new("ls", "", "List builder instances", run!(crate::commands::builder::ls)).args(Args::None);
/// Where Buildx is installed, `builder` is another name for it.
pub(super) const BUILDER_LS: Cmd = BUILDERS.category(Category::Hidden);

pub(super) const BUILDX: Cmd = Cmd::group(
    "buildx",
    "Manage builds with the options of Docker Buildx",
    &[
        &super::image::BUILDX_BUILD,
        &later("bake", "[OPTIONS] [TARGET...]", "Build from a file"),
        &later("create", "[OPTIONS] [CONTEXT|ENDPOINT]", "Create a new builder instance"),
        &later("du", "[OPTIONS]", "Disk usage"),
        &later("history", "COMMAND", "Commands to work on build records"),
        &later("imagetools", "COMMAND", "Commands to work on images in registry"),
        &later("inspect", "[NAME]", "Inspect current builder instance"),
        &later("rm", "[OPTIONS] [NAME...]", "Remove one or more builder instances"),
        &later("stop", "[NAME]", "Stop builder instance"),
        &later("use", "[OPTIONS] NAME", "Set the current builder instance"),
        &BUILDERS,
        &super::builder::PRUNE,
        &Cmd::new("version", "", "Show buildx version information", run!(crate::commands::builder::version))
            .args(Args::None),
    ],
);

const fn role(name: &'static str, usage: &'static str, short: &'static str) -> Cmd {
    Cmd::new(name, usage, short, run!(roles::role)).category(Category::Own).raw()
}

pub(super) const DAEMON: Cmd = role("daemon", "[OPTIONS]", "Run the engine in the foreground");
pub(super) const REGISTRY: Cmd = role("registry", "serve [OPTIONS]", "Serve a registry or a pull-through mirror").long(
    "Serve a registry of images (OCI distribution-spec 1.1) from a directory, or a pull-through mirror of another one.\n\
     The options: barque registry serve --help",
);
pub(super) const RUNTIME: Cmd = role("runtime", "[OPTIONS] COMMAND", "Act as an OCI runtime (not implemented yet)").long(
    "Act as an OCI runtime for another engine: create, start, state, kill, delete. Not implemented yet; Barque's own\n\
     engine runs containers without it.",
);
pub(super) const DOCTOR: Cmd = role("doctor", "[OPTIONS]", "Check this machine and explain what is missing");

pub(super) const HELP: Cmd =
    Cmd::new("help", "[command]", "Help about the command", run!(completion::help)).category(Category::Hidden);

pub(super) const COMPLETION: Cmd = Cmd::new(
    "completion",
    "[bash|zsh|fish|powershell]",
    "Generate the autocompletion script for the specified shell",
    run!(completion::script),
)
.args(Args::Exactly(1))
.category(Category::Hidden);

pub(super) const COMPLETE: Cmd =
    Cmd::new("__complete", "WORD...", "Print completions", run!(completion::complete)).raw().category(Category::Hidden);

pub(super) const MAN: Cmd = Cmd::new("man", "DIRECTORY", "Write manual pages to a directory", run!(completion::man))
    .args(Args::Exactly(1))
    .category(Category::Hidden);
