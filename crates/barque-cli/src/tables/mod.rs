//! The commands as data: names, operands, flags and texts, and which function runs each.
//!
//! The texts are those of `docker COMMAND --help` (version 28), which users and scripts know; a test holds them
//! against an installed client.

/// The function of a command as the tables hold it.
macro_rules! run {
    ($($path:tt)+) => {
        |invocation| Box::pin($($path)+(invocation))
    };
}

mod builder;
mod container;
mod context;
mod image;
mod later;
mod launch;
mod network;
mod own;
mod system;
#[cfg(test)]
mod tests;
mod top;
mod volume;

use crate::cmdline::{Category, Cmd, Flag, Kind, flag};
use crate::opts::any;

const FORMAT_TABLE: &str = "Format output using a custom template:\n'table':            Print output in table format with column headers (default)\n'table TEMPLATE':   Print output in table format using the given Go template\n'json':             Print in JSON format\n'TEMPLATE':         Print output using the given Go template.\nRefer to https://docs.docker.com/go/formatting/ for more information about formatting output with templates";
const FORMAT_PLAIN: &str = "Format output using a custom template:\n'json':             Print in JSON format\n'TEMPLATE':         Print output using the given Go template.\nRefer to https://docs.docker.com/go/formatting/ for more information about formatting output with templates";

const CONTAINER: Cmd = Cmd::group(
    "container",
    "Manage containers",
    &[
        &container::ATTACH,
        &container::COMMIT,
        &container::CP,
        &launch::CREATE,
        &container::DIFF,
        &container::EXEC,
        &container::EXPORT,
        &container::INSPECT,
        &container::KILL,
        &container::LOGS,
        &container::LS,
        &container::PAUSE,
        &container::PORT,
        &container::PRUNE,
        &container::RENAME,
        &container::RESTART,
        &container::RM,
        &launch::RUN,
        &container::START,
        &container::STATS,
        &container::STOP,
        &container::TOP,
        &container::UNPAUSE,
        &container::UPDATE,
        &container::WAIT,
    ],
);

const IMAGE: Cmd = Cmd::group(
    "image",
    "Manage images",
    &[
        &image::BUILD,
        &image::HISTORY,
        &image::IMPORT,
        &image::INSPECT,
        &image::LOAD,
        &image::LS,
        &image::PRUNE,
        &image::PULL,
        &image::PUSH,
        &image::RM,
        &image::SAVE,
        &image::TAG,
    ],
);

const NETWORK: Cmd = Cmd::group(
    "network",
    "Manage networks",
    &[
        &network::CONNECT,
        &network::CREATE,
        &network::DISCONNECT,
        &network::INSPECT,
        &network::LS,
        &network::PRUNE,
        &network::RM,
    ],
);

const VOLUME: Cmd = Cmd::group(
    "volume",
    "Manage volumes",
    &[
        &own::VOLUME_CLONE,
        &volume::CREATE,
        &own::VOLUME_EXPORT,
        &own::VOLUME_IMPORT,
        &volume::INSPECT,
        &volume::LS,
        &volume::PRUNE,
        &own::VOLUME_RENAME,
        &volume::RM,
        &volume::UPDATE,
    ],
);

const SYSTEM: Cmd = Cmd::group(
    "system",
    "Manage Docker",
    &[&system::DF, &own::DIAL_STDIO, &system::EVENTS, &system::INFO, &own::INSTALL, &system::PRUNE, &own::UNINSTALL],
);

const CONTEXT: Cmd = Cmd::group(
    "context",
    "Manage contexts",
    &[
        &context::CREATE,
        &context::EXPORT,
        &context::IMPORT,
        &context::INSPECT,
        &context::LS,
        &context::RM,
        &context::SHOW,
        &context::UPDATE,
        &context::USE,
    ],
);

const BUILDER: Cmd = Cmd::group("builder", "Manage builds", &[&image::BUILD, &builder::PRUNE, &own::BUILDER_LS]);

/// Flags before the first command.
const GLOBAL: &[Flag] = &[
    flag("config", Kind::Str, "Location of client config files").default("~"),
    flag(
        "context",
        Kind::Str,
        "Name of the context to use to connect to the daemon (overrides DOCKER_HOST env var and default context set with \"docker context use\")",
    )
    .letter('c'),
    flag("debug", Kind::Bool, "Enable debug mode").letter('D'),
    flag("host", Kind::List(any), "Daemon socket to connect to").letter('H'),
    flag("log-level", Kind::Str, "Set the logging level (\"debug\", \"info\", \"warn\", \"error\", \"fatal\")")
        .letter('l')
        .default("info"),
    flag("tls", Kind::Bool, "Use TLS; implied by --tlsverify"),
    flag("tlscacert", Kind::Str, "Trust certs signed only by this CA").default("~/ca.pem"),
    flag("tlscert", Kind::Str, "Path to TLS certificate file").default("~/cert.pem"),
    flag("tlskey", Kind::Str, "Path to TLS key file").default("~/key.pem"),
    flag("tlsverify", Kind::Bool, "Use TLS and verify the remote"),
    flag("version", Kind::Bool, "Print version information and quit").letter('v'),
];

const fn top(cmd: Cmd, name: &'static str) -> Cmd {
    cmd.named(name)
}

const fn common(cmd: Cmd, name: &'static str) -> Cmd {
    cmd.named(name).category(Category::Common)
}

/// The program itself: everything hangs off it.
pub(crate) static ROOT: Cmd = Cmd::group(
    "",
    "A self-sufficient runtime for containers",
    &[
        &common(launch::RUN, "run"),
        &common(container::EXEC, "exec"),
        &common(container::LS, "ps"),
        &common(image::BUILD, "build"),
        &common(image::PULL, "pull"),
        &common(image::PUSH, "push"),
        &common(image::LS, "images"),
        &common(top::LOGIN, "login"),
        &common(top::LOGOUT, "logout"),
        &common(top::SEARCH, "search"),
        &common(top::VERSION, "version"),
        &common(system::INFO, "info"),
        &BUILDER,
        &own::BUILDX,
        &later::CHECKPOINT,
        &own::COMPOSE,
        &CONTAINER,
        &CONTEXT,
        &IMAGE,
        &later::MANIFEST,
        &NETWORK,
        &later::PLUGIN,
        &SYSTEM,
        &later::TRUST,
        &VOLUME,
        &later::CONFIG.category(Category::Swarm),
        &later::NODE.category(Category::Swarm),
        &later::SECRET.category(Category::Swarm),
        &later::SERVICE.category(Category::Swarm),
        &later::STACK.category(Category::Swarm),
        &later::SWARM.category(Category::Swarm),
        &own::DAEMON,
        &own::DOCTOR,
        &own::REGISTRY,
        &own::RUNTIME,
        &top(container::ATTACH, "attach"),
        &top(container::COMMIT, "commit"),
        &top(container::CP, "cp"),
        &top(launch::CREATE, "create"),
        &top(container::DIFF, "diff"),
        &top(system::EVENTS, "events"),
        &top(container::EXPORT, "export"),
        &top(image::HISTORY, "history"),
        &top(image::IMPORT, "import"),
        &top(top::INSPECT, "inspect"),
        &top(container::KILL, "kill"),
        &top(image::LOAD, "load"),
        &top(container::LOGS, "logs"),
        &top(container::PAUSE, "pause"),
        &top(container::PORT, "port"),
        &top(container::RENAME, "rename"),
        &top(container::RESTART, "restart"),
        &top(container::RM, "rm"),
        &top(image::RM, "rmi"),
        &top(image::SAVE, "save"),
        &top(container::START, "start"),
        &top(container::STATS, "stats"),
        &top(container::STOP, "stop"),
        &top(image::TAG, "tag"),
        &top(container::TOP, "top"),
        &top(container::UNPAUSE, "unpause"),
        &top(container::UPDATE, "update"),
        &top(container::WAIT, "wait"),
        &own::HELP,
        &own::COMPLETION,
        &own::COMPLETE,
        &own::MAN,
    ],
)
.usage("[OPTIONS] COMMAND [ARG...]")
.flags(&[GLOBAL]);
