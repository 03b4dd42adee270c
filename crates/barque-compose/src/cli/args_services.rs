//! The second half of the command line: the flags of the commands from `run` on.

use std::path::PathBuf;

use clap::{ArgAction, Args};

use super::args::Converge;

#[derive(Debug, Args)]
pub struct Restart {
    /// Don't restart dependent services
    #[arg(long)]
    pub no_deps: bool,
    /// Specify a shutdown timeout in seconds
    #[arg(short = 't', long, value_name = "int", allow_negative_numbers = true)]
    pub timeout: Option<i64>,
    #[arg(value_name = "SERVICE")]
    pub services: Vec<String>,
}

#[derive(Debug, Args)]
pub struct Rm {
    /// Don't ask to confirm removal
    #[arg(short = 'f', long)]
    pub force: bool,
    /// Stop the containers, if required, before removing
    #[arg(short = 's', long)]
    pub stop: bool,
    /// Remove any anonymous volumes attached to containers
    #[arg(short = 'v', long)]
    pub volumes: bool,
    #[arg(short = 'a', long, hide = true)]
    pub all: bool,
    #[arg(value_name = "SERVICE")]
    pub services: Vec<String>,
}

#[derive(Debug, Args)]
pub struct Run {
    /// Build image before starting container
    #[arg(long)]
    pub build: bool,
    /// Add Linux capabilities
    #[arg(long, value_name = "list", action = ArgAction::Append)]
    pub cap_add: Vec<String>,
    /// Drop Linux capabilities
    #[arg(long, value_name = "list", action = ArgAction::Append)]
    pub cap_drop: Vec<String>,
    /// Run container in background and print container ID
    #[arg(short = 'd', long)]
    pub detach: bool,
    /// Override the entrypoint of the image
    #[arg(long, value_name = "string")]
    pub entrypoint: Option<String>,
    /// Set environment variables
    #[arg(short = 'e', long, value_name = "stringArray", action = ArgAction::Append)]
    pub env: Vec<String>,
    /// Set environment variables from file
    #[arg(long, value_name = "stringArray", action = ArgAction::Append)]
    pub env_from_file: Vec<PathBuf>,
    /// Keep STDIN open even if not attached
    #[arg(short = 'i', long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = barque_model::strconv::parse_bool, action = ArgAction::Set, default_value_t = true)]
    pub interactive: bool,
    /// Add or override a label
    #[arg(short = 'l', long, value_name = "stringArray", action = ArgAction::Append)]
    pub label: Vec<String>,
    /// Assign a name to the container
    #[arg(long, value_name = "string")]
    pub name: Option<String>,
    /// Disable pseudo-TTY allocation (default: auto-detected)
    #[arg(short = 'T', long, alias = "no-TTY")]
    pub no_tty: bool,
    #[arg(short = 't', long, hide = true)]
    pub tty: bool,
    /// Don't start linked services
    #[arg(long)]
    pub no_deps: bool,
    /// Publish a container's port(s) to the host
    #[arg(short = 'p', long, value_name = "stringArray", action = ArgAction::Append)]
    pub publish: Vec<String>,
    /// Pull image before running ("always"|"missing"|"never")
    #[arg(long, value_name = "string", value_parser = ["always", "missing", "never", "build", "policy"])]
    pub pull: Option<String>,
    /// Don't print anything to STDOUT
    #[arg(short = 'q', long)]
    pub quiet: bool,
    /// Suppress progress output from the build process
    #[arg(long)]
    pub quiet_build: bool,
    /// Pull without printing progress information
    #[arg(long)]
    pub quiet_pull: bool,
    /// Remove containers for services not defined in the Compose file
    #[arg(long)]
    pub remove_orphans: bool,
    /// Automatically remove the container when it exits
    #[arg(long)]
    pub rm: bool,
    /// Run command with all service's ports enabled and mapped to the host
    #[arg(short = 'P', long)]
    pub service_ports: bool,
    /// Use the service's network aliases in the network(s) the container connects to
    #[arg(long)]
    pub use_aliases: bool,
    /// Run as specified username or uid
    #[arg(short = 'u', long, value_name = "string")]
    pub user: Option<String>,
    /// Bind mount a volume
    #[arg(short = 'v', long, value_name = "stringArray", action = ArgAction::Append)]
    pub volume: Vec<String>,
    /// Working directory inside the container
    #[arg(short = 'w', long, value_name = "string")]
    pub workdir: Option<String>,
    /// SERVICE [COMMAND] [ARGS...]
    #[arg(value_name = "SERVICE COMMAND", required = true, trailing_var_arg = true, num_args = 1..)]
    pub words: Vec<String>,
}

#[derive(Debug, Args)]
pub struct Scale {
    /// Don't start linked services
    #[arg(long)]
    pub no_deps: bool,
    #[arg(value_name = "SERVICE=REPLICAS", required = true)]
    pub scale: Vec<String>,
}

#[derive(Debug, Args)]
pub struct Start {
    /// Wait for services to be running|healthy. Implies detached mode
    #[arg(long)]
    pub wait: bool,
    /// Maximum duration in seconds to wait for the project to be running|healthy
    #[arg(long, value_name = "int")]
    pub wait_timeout: Option<u64>,
    #[arg(value_name = "SERVICE")]
    pub services: Vec<String>,
}

#[derive(Debug, Args)]
pub struct Stats {
    /// Show all containers (default shows just running)
    #[arg(short = 'a', long)]
    pub all: bool,
    /// Format output: table, json, or a template
    #[arg(long, value_name = "string")]
    pub format: Option<String>,
    /// Disable streaming stats and only pull the first result
    #[arg(long)]
    pub no_stream: bool,
    /// Do not truncate output
    #[arg(long)]
    pub no_trunc: bool,
    #[arg(value_name = "SERVICE")]
    pub services: Vec<String>,
}

#[derive(Debug, Args)]
pub struct Stop {
    /// Specify a shutdown timeout in seconds
    #[arg(short = 't', long, value_name = "int", allow_negative_numbers = true)]
    pub timeout: Option<i64>,
    #[arg(value_name = "SERVICE")]
    pub services: Vec<String>,
}

#[derive(Debug, Default, Args)]
pub struct Up {
    #[command(flatten)]
    pub converge: Converge,
    /// Stops all containers if any container was stopped. Incompatible with -d
    #[arg(long)]
    pub abort_on_container_exit: bool,
    /// Stops all containers if any container exited with failure. Incompatible with -d
    #[arg(long)]
    pub abort_on_container_failure: bool,
    /// Recreate dependent containers. Incompatible with --no-recreate
    #[arg(long)]
    pub always_recreate_deps: bool,
    /// Restrict attaching to the specified services. Incompatible with --attach-dependencies
    #[arg(long, value_name = "stringArray", action = ArgAction::Append)]
    pub attach: Vec<String>,
    /// Automatically attach to log output of dependent services
    #[arg(long)]
    pub attach_dependencies: bool,
    /// Detached mode: Run containers in the background
    #[arg(short = 'd', long)]
    pub detach: bool,
    /// Return the exit code of the selected service container. Implies --abort-on-container-exit
    #[arg(long, value_name = "string")]
    pub exit_code_from: Option<String>,
    /// Enable interactive shortcuts when running attached (also by the variable COMPOSE_MENU)
    #[arg(long)]
    pub menu: bool,
    /// Do not attach (stream logs) to the specified services
    #[arg(long, value_name = "stringArray", action = ArgAction::Append)]
    pub no_attach: Vec<String>,
    /// Produce monochrome output
    #[arg(long)]
    pub no_color: bool,
    /// Don't start linked services
    #[arg(long)]
    pub no_deps: bool,
    /// Don't print prefix in logs
    #[arg(long)]
    pub no_log_prefix: bool,
    /// Don't start the services after creating them
    #[arg(long)]
    pub no_start: bool,
    /// Suppress the build output
    #[arg(long)]
    pub quiet_build: bool,
    /// Recreate anonymous volumes instead of retrieving data from the previous containers
    #[arg(short = 'V', long)]
    pub renew_anon_volumes: bool,
    /// Use this timeout in seconds for container shutdown when attached or when containers are already running
    #[arg(short = 't', long, value_name = "int", allow_negative_numbers = true)]
    pub timeout: Option<i64>,
    /// Show timestamps
    #[arg(long)]
    pub timestamps: bool,
    /// Wait for services to be running|healthy. Implies detached mode
    #[arg(long)]
    pub wait: bool,
    /// Maximum duration in seconds to wait for the project to be running|healthy
    #[arg(long, value_name = "int")]
    pub wait_timeout: Option<u64>,
    /// Watch source code and rebuild/refresh containers when files are updated
    #[arg(short = 'w', long)]
    pub watch: bool,
    #[arg(value_name = "SERVICE")]
    pub services: Vec<String>,
}

#[derive(Debug, Args)]
pub struct Version {
    /// Format the output. Values: [pretty | json]
    #[arg(short = 'f', long, value_name = "string", value_parser = ["pretty", "json"])]
    pub format: Option<String>,
    /// Shows only the version number
    #[arg(long)]
    pub short: bool,
}

#[derive(Debug, Args)]
pub struct Volumes {
    /// Format the output. Values: [table | json]
    #[arg(long, value_name = "string", default_value = "table", value_parser = ["table", "json"])]
    pub format: String,
    /// Only display volume names
    #[arg(short = 'q', long)]
    pub quiet: bool,
    #[arg(value_name = "SERVICE")]
    pub services: Vec<String>,
}

#[derive(Debug, Args)]
pub struct Wait {
    /// Drops project when the first container stops
    #[arg(long)]
    pub down_project: bool,
    #[arg(value_name = "SERVICE", required = true)]
    pub services: Vec<String>,
}

#[derive(Debug, Args)]
pub struct Watch {
    /// Do not build & start services before watching
    #[arg(long)]
    pub no_up: bool,
    /// Prune dangling images on rebuild
    #[arg(long)]
    pub prune: bool,
    /// Hide build output
    #[arg(long)]
    pub quiet: bool,
    #[arg(value_name = "SERVICE")]
    pub services: Vec<String>,
}

#[derive(Debug, Args)]
pub struct Commit {
    /// Author (e.g., "John Hannibal Smith <hannibal@a-team.com>")
    #[arg(short = 'a', long, value_name = "string")]
    pub author: Option<String>,
    /// Apply Dockerfile instruction to the created image
    #[arg(short = 'c', long, value_name = "list", action = ArgAction::Append)]
    pub change: Vec<String>,
    /// Index of the container if service has multiple replicas
    #[arg(long, default_value_t = 0, value_name = "int")]
    pub index: usize,
    /// Commit message
    #[arg(short = 'm', long, value_name = "string")]
    pub message: Option<String>,
    /// Pause container during commit
    #[arg(short = 'p', long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = barque_model::strconv::parse_bool, action = ArgAction::Set, default_value_t = true)]
    pub pause: bool,
    #[arg(value_name = "SERVICE")]
    pub service: String,
    #[arg(value_name = "REPOSITORY[:TAG]")]
    pub image: Option<String>,
}

#[derive(Debug, Args)]
pub struct Export {
    /// Index of the container if service has multiple replicas
    #[arg(long, default_value_t = 0, value_name = "int")]
    pub index: usize,
    /// Write to a file, instead of STDOUT
    #[arg(short = 'o', long, value_name = "string")]
    pub output: Option<PathBuf>,
    #[arg(value_name = "SERVICE")]
    pub service: String,
}
