//! Groups that the help lists and that are not built yet.

use crate::cmdline::Cmd;
use crate::commands::unbuilt;

pub(super) const SWARM: Cmd = Cmd::group(
    "swarm",
    "Manage Swarm",
    &[
        &later("ca", "[OPTIONS]", "Display and rotate the root CA"),
        &later("init", "[OPTIONS]", "Initialize a swarm"),
        &later("join", "[OPTIONS] HOST:PORT", "Join a swarm as a node and/or manager"),
        &later("join-token", "[OPTIONS] (worker|manager)", "Manage join tokens"),
        &later("leave", "[OPTIONS]", "Leave the swarm"),
        &later("unlock", "", "Unlock swarm"),
        &later("unlock-key", "[OPTIONS]", "Manage the unlock key"),
        &later("update", "[OPTIONS]", "Update the swarm"),
    ],
);
pub(super) const SERVICE: Cmd = Cmd::group(
    "service",
    "Manage Swarm services",
    &[
        &later("create", "[OPTIONS] IMAGE [COMMAND] [ARG...]", "Create a new service"),
        &later("inspect", "[OPTIONS] SERVICE [SERVICE...]", "Display detailed information on one or more services"),
        &later("logs", "[OPTIONS] SERVICE|TASK", "Fetch the logs of a service or task"),
        &later("ls", "[OPTIONS]", "List services").aliases(&["list"]),
        &later("ps", "[OPTIONS] SERVICE [SERVICE...]", "List the tasks of one or more services"),
        &later("rm", "SERVICE [SERVICE...]", "Remove one or more services").aliases(&["remove"]),
        &later("rollback", "[OPTIONS] SERVICE", "Revert changes to a service's configuration"),
        &later("scale", "SERVICE=REPLICAS [SERVICE=REPLICAS...]", "Scale one or multiple replicated services"),
        &later("update", "[OPTIONS] SERVICE", "Update a service"),
    ],
);
pub(super) const STACK: Cmd = Cmd::group(
    "stack",
    "Manage Swarm stacks",
    &[
        &later("config", "[OPTIONS]", "Outputs the final config file, after doing merges and interpolations"),
        &later("deploy", "[OPTIONS] STACK", "Deploy a new stack or update an existing stack").aliases(&["up"]),
        &later("ls", "[OPTIONS]", "List stacks").aliases(&["list"]),
        &later("ps", "[OPTIONS] STACK", "List the tasks in the stack"),
        &later("rm", "[OPTIONS] STACK [STACK...]", "Remove one or more stacks").aliases(&["down", "remove"]),
        &later("services", "[OPTIONS] STACK", "List the services in the stack"),
    ],
);
pub(super) const NODE: Cmd = Cmd::group(
    "node",
    "Manage Swarm nodes",
    &[
        &later("demote", "NODE [NODE...]", "Demote one or more nodes from manager in the swarm"),
        &later("inspect", "[OPTIONS] self|NODE [NODE...]", "Display detailed information on one or more nodes"),
        &later("ls", "[OPTIONS]", "List nodes in the swarm").aliases(&["list"]),
        &later("promote", "NODE [NODE...]", "Promote one or more nodes to manager in the swarm"),
        &later("ps", "[OPTIONS] [NODE...]", "List tasks running on one or more nodes, defaults to current node"),
        &later("rm", "[OPTIONS] NODE [NODE...]", "Remove one or more nodes from the swarm").aliases(&["remove"]),
        &later("update", "[OPTIONS] NODE", "Update a node"),
    ],
);
pub(super) const SECRET: Cmd = Cmd::group(
    "secret",
    "Manage Swarm secrets",
    &[
        &later("create", "[OPTIONS] SECRET [file|-]", "Create a secret from a file or STDIN as content"),
        &later("inspect", "[OPTIONS] SECRET [SECRET...]", "Display detailed information on one or more secrets"),
        &later("ls", "[OPTIONS]", "List secrets").aliases(&["list"]),
        &later("rm", "SECRET [SECRET...]", "Remove one or more secrets").aliases(&["remove"]),
    ],
);
pub(super) const CONFIG: Cmd = Cmd::group(
    "config",
    "Manage Swarm configs",
    &[
        &later("create", "[OPTIONS] CONFIG file|-", "Create a config from a file or STDIN"),
        &later("inspect", "[OPTIONS] CONFIG [CONFIG...]", "Display detailed information on one or more configs"),
        &later("ls", "[OPTIONS]", "List configs").aliases(&["list"]),
        &later("rm", "CONFIG [CONFIG...]", "Remove one or more configs").aliases(&["remove"]),
    ],
);
pub(super) const PLUGIN: Cmd = Cmd::group(
    "plugin",
    "Manage plugins",
    &[
        &later(
            "create",
            "[OPTIONS] PLUGIN PLUGIN-DATA-DIR",
            "Create a plugin from a rootfs and configuration. Plugin data directory must contain config.json and rootfs directory.",
        ),
        &later("disable", "[OPTIONS] PLUGIN", "Disable a plugin"),
        &later("enable", "[OPTIONS] PLUGIN", "Enable a plugin"),
        &later("inspect", "[OPTIONS] PLUGIN [PLUGIN...]", "Display detailed information on one or more plugins"),
        &later("install", "[OPTIONS] PLUGIN [KEY=VALUE...]", "Install a plugin"),
        &later("ls", "[OPTIONS]", "List plugins").aliases(&["list"]),
        &later("push", "[OPTIONS] PLUGIN[:TAG]", "Push a plugin to a registry"),
        &later("rm", "[OPTIONS] PLUGIN [PLUGIN...]", "Remove one or more plugins").aliases(&["remove"]),
        &later("set", "PLUGIN KEY=VALUE [KEY=VALUE...]", "Change settings for a plugin"),
        &later("upgrade", "[OPTIONS] PLUGIN [REMOTE]", "Upgrade an existing plugin"),
    ],
);
pub(super) const CHECKPOINT: Cmd = Cmd::group(
    "checkpoint",
    "Manage checkpoints",
    &[
        &later("create", "[OPTIONS] CONTAINER CHECKPOINT", "Create a checkpoint from a running container"),
        &later("ls", "[OPTIONS] CONTAINER", "List checkpoints for a container").aliases(&["list"]),
        &later("rm", "[OPTIONS] CONTAINER CHECKPOINT", "Remove a checkpoint").aliases(&["remove"]),
    ],
);
pub(super) const TRUST: Cmd = Cmd::group(
    "trust",
    "Manage trust on Docker images",
    &[
        &Cmd::group(
            "key",
            "Manage keys for signing Docker images",
            &[
                &later("generate", "NAME", "Generate and load a signing key-pair"),
                &later("load", "[OPTIONS] KEYFILE", "Load a private key file for signing"),
            ],
        ),
        &Cmd::group(
            "signer",
            "Manage entities who can sign Docker images",
            &[
                &later("add", "OPTIONS NAME REPOSITORY [REPOSITORY...]", "Add a signer"),
                &later("remove", "[OPTIONS] NAME REPOSITORY [REPOSITORY...]", "Remove a signer"),
            ],
        ),
        &later("inspect", "IMAGE[:TAG] [IMAGE[:TAG]...]", "Return low-level information about keys and signatures"),
        &later("revoke", "[OPTIONS] IMAGE[:TAG]", "Remove trust for an image"),
        &later("sign", "IMAGE:TAG", "Sign an image"),
    ],
);
pub(super) const MANIFEST: Cmd = Cmd::group(
    "manifest",
    "Manage Docker image manifests and manifest lists",
    &[
        &later("annotate", "[OPTIONS] MANIFEST_LIST MANIFEST", "Add additional information to a local image manifest"),
        &later(
            "create",
            "MANIFEST_LIST MANIFEST [MANIFEST...]",
            "Create a local manifest list for annotating and pushing to a registry",
        ),
        &later("inspect", "[OPTIONS] [MANIFEST_LIST] MANIFEST", "Display an image manifest, or manifest list"),
        &later("push", "[OPTIONS] MANIFEST_LIST", "Push a manifest list to a repository"),
        &later("rm", "MANIFEST_LIST [MANIFEST_LIST...]", "Delete one or more manifest lists from local storage"),
    ],
);

/// A command that is known, but not built yet, whatever its flags.
pub(super) const fn later(name: &'static str, usage: &'static str, short: &'static str) -> Cmd {
    Cmd::new(name, usage, short, run!(unbuilt::unbuilt)).raw()
}
