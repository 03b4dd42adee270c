//! The command line of `compose`, flag for flag that of Docker Compose v2.

use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand};

pub use super::args_services::{
    Commit, Export, Restart, Rm, Run, Scale, Start, Stats, Stop, Up, Version, Volumes, Wait, Watch,
};

/// Define and run multi-container applications.
#[derive(Debug, Parser)]
#[command(
    name = "compose",
    disable_version_flag = true,
    disable_help_subcommand = true,
    subcommand_required = false,
    arg_required_else_help = false,
    max_term_width = 100
)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// Options before the command.
#[derive(Clone, Debug, Default, Args)]
pub struct Global {
    /// Include all resources, even those not used by services
    #[arg(long)]
    pub all_resources: bool,
    /// Control when to print ANSI control characters ("never"|"always"|"auto")
    #[arg(long, value_name = "string", value_parser = ["never", "always", "auto"])]
    pub ansi: Option<String>,
    /// Run compose in backward compatibility mode
    #[arg(long)]
    pub compatibility: bool,
    /// Execute command in dry run mode
    #[arg(long, global = true)]
    pub dry_run: bool,
    /// Specify an alternate environment file
    #[arg(long = "env-file", value_name = "stringArray", action = ArgAction::Append)]
    pub env_file: Vec<PathBuf>,
    /// Compose configuration files
    #[arg(short = 'f', long = "file", value_name = "stringArray", action = ArgAction::Append)]
    pub file: Vec<String>,
    /// Control max parallelism, -1 for unlimited
    #[arg(long, value_name = "int", allow_negative_numbers = true)]
    pub parallel: Option<i64>,
    /// Specify a profile to enable
    #[arg(long, value_name = "stringArray", action = ArgAction::Append)]
    pub profile: Vec<String>,
    /// Set type of progress output (auto, tty, plain, json, quiet)
    #[arg(long, value_name = "string", value_parser = ["auto", "tty", "plain", "json", "quiet"])]
    pub progress: Option<String>,
    /// Specify an alternate working directory (default: the path of the, first specified, Compose file)
    #[arg(long, value_name = "string", visible_alias = "workdir")]
    pub project_directory: Option<PathBuf>,
    /// Project name
    #[arg(short = 'p', long, value_name = "string")]
    pub project_name: Option<String>,
    /// Show the version information
    #[arg(short = 'v', long, hide = true)]
    pub version: bool,
    #[arg(long, hide = true)]
    pub verbose: bool,
    #[arg(long, hide = true)]
    pub no_ansi: bool,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Attach local standard input, output, and error streams to a service's running container
    Attach(Attach),
    /// Build or rebuild services
    Build(Build),
    /// Parse, resolve and render compose file in canonical format
    Config(Config),
    /// Converts the compose file to platform's canonical format (the same as config)
    Convert(Config),
    /// Copy files/folders between a service container and the local filesystem
    Cp(Cp),
    /// Creates containers for a service
    Create(Create),
    /// Stop and remove containers, networks
    Down(Down),
    /// Receive real time events from containers
    Events(Events),
    /// Execute a command in a running container
    Exec(Exec),
    /// List images used by the created containers
    Images(Images),
    /// Force stop service containers
    Kill(Kill),
    /// View output from containers
    Logs(Logs),
    /// List running compose projects
    Ls(Ls),
    /// Pause services
    Pause(Services),
    /// Show what up would do, and why (exit status 0: nothing, 2: changes, 1: error)
    Plan(Plan),
    /// Print the public port for a port binding
    Port(Port),
    /// List containers
    Ps(Ps),
    /// Pull service images
    Pull(Pull),
    /// Push service images
    Push(Push),
    /// Restart service containers
    Restart(Restart),
    /// Removes stopped service containers
    Rm(Rm),
    /// Run a one-off command on a service
    Run(Run),
    /// Scale services
    Scale(Scale),
    /// Start services
    Start(Start),
    /// Display a live stream of container(s) resource usage statistics
    Stats(Stats),
    /// Stop services
    Stop(Stop),
    /// Display the running processes
    Top(Services),
    /// Unpause services
    Unpause(Services),
    /// Create and start containers
    Up(Box<Up>),
    /// Show the version information
    Version(Version),
    /// List volumes
    Volumes(Volumes),
    /// Block until containers of all (or specified) services stop
    Wait(Wait),
    /// Watch build context for service and rebuild/refresh containers when files are updated
    Watch(Watch),
    /// Create a new image from a service container's changes
    Commit(Commit),
    /// Export a service container's filesystem as a tar archive
    Export(Export),
    #[command(hide = true, disable_help_flag = true)]
    Alpha(Unbuilt),
    #[command(hide = true, disable_help_flag = true)]
    Bridge(Unbuilt),
    #[command(hide = true, disable_help_flag = true)]
    Publish(Unbuilt),
}

/// The words of a command of Docker Compose that is not built.
#[derive(Clone, Debug, Default, Args)]
pub struct Unbuilt {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    pub words: Vec<String>,
}

#[derive(Clone, Debug, Default, Args)]
pub struct Services {
    #[arg(value_name = "SERVICE")]
    pub services: Vec<String>,
}

#[derive(Debug, Args)]
pub struct Attach {
    /// Override the key sequence for detaching from a container
    #[arg(long, value_name = "string")]
    pub detach_keys: Option<String>,
    /// Index of the container if service has multiple replicas
    #[arg(long, default_value_t = 0, value_name = "int")]
    pub index: usize,
    /// Do not attach STDIN
    #[arg(long)]
    pub no_stdin: bool,
    /// Proxy all received signals to the process
    #[arg(long, default_value_t = true, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = barque_model::strconv::parse_bool)]
    pub sig_proxy: bool,
    #[arg(value_name = "SERVICE")]
    pub service: String,
}

#[derive(Clone, Debug, Default, Args)]
pub struct Build {
    /// Set build-time variables for services
    #[arg(long = "build-arg", value_name = "stringArray", action = ArgAction::Append)]
    pub build_arg: Vec<String>,
    /// Set builder to use
    #[arg(long, value_name = "string")]
    pub builder: Option<String>,
    /// Check build configuration
    #[arg(long)]
    pub check: bool,
    /// Set memory limit for the build container
    #[arg(short = 'm', long, value_name = "bytes")]
    pub memory: Option<String>,
    /// Do not use cache when building the image
    #[arg(long)]
    pub no_cache: bool,
    /// Print equivalent bake file
    #[arg(long)]
    pub print: bool,
    #[arg(long, hide = true, value_name = "string")]
    pub progress: Option<String>,
    /// Add a provenance attestation
    #[arg(long, value_name = "string")]
    pub provenance: Option<String>,
    /// Always attempt to pull a newer version of the image
    #[arg(long)]
    pub pull: bool,
    /// Push service images
    #[arg(long)]
    pub push: bool,
    /// Suppress the build output
    #[arg(short = 'q', long)]
    pub quiet: bool,
    /// Add a SBOM attestation
    #[arg(long, value_name = "string")]
    pub sbom: Option<String>,
    /// Set SSH authentications used when building service images
    #[arg(long, value_name = "string")]
    pub ssh: Option<String>,
    /// Also build dependencies (transitively)
    #[arg(long)]
    pub with_dependencies: bool,
    #[arg(long, hide = true)]
    pub compress: bool,
    #[arg(long, hide = true)]
    pub force_rm: bool,
    #[arg(long, hide = true)]
    pub no_rm: bool,
    #[arg(long, hide = true)]
    pub parallel: bool,
    #[arg(value_name = "SERVICE")]
    pub services: Vec<String>,
}

#[derive(Debug, Default, Args)]
pub struct Config {
    /// Print environment used for interpolation
    #[arg(long)]
    pub environment: bool,
    /// Print where each value came from: file, line, variable, default
    #[arg(long)]
    pub explain: bool,
    /// Format the output. Values: [yaml | json]
    #[arg(long, value_name = "string", value_parser = ["yaml", "json"])]
    pub format: Option<String>,
    /// Print the service config hash, one per line
    #[arg(long, value_name = "string")]
    pub hash: Option<String>,
    /// Print the image names, one per line
    #[arg(long)]
    pub images: bool,
    /// Produces an override file with image digests
    #[arg(long)]
    pub lock_image_digests: bool,
    /// Print the model names, one per line
    #[arg(long)]
    pub models: bool,
    /// Print the network names, one per line
    #[arg(long)]
    pub networks: bool,
    /// Don't check model consistency - warning: may produce invalid Compose output
    #[arg(long)]
    pub no_consistency: bool,
    /// Don't resolve service env files
    #[arg(long)]
    pub no_env_resolution: bool,
    /// Don't interpolate environment variables
    #[arg(long)]
    pub no_interpolate: bool,
    /// Don't normalize compose model
    #[arg(long)]
    pub no_normalize: bool,
    /// Don't resolve file paths
    #[arg(long)]
    pub no_path_resolution: bool,
    /// Save to file (default to stdout)
    #[arg(short = 'o', long, value_name = "string")]
    pub output: Option<PathBuf>,
    /// Print the profile names, one per line
    #[arg(long)]
    pub profiles: bool,
    /// Only validate the configuration, don't print anything
    #[arg(short = 'q', long)]
    pub quiet: bool,
    /// Pin image tags to digests
    #[arg(long)]
    pub resolve_image_digests: bool,
    /// Print the service names, one per line
    #[arg(long)]
    pub services: bool,
    /// Print model variables and default values
    #[arg(long)]
    pub variables: bool,
    /// Print the volume names, one per line
    #[arg(long)]
    pub volumes: bool,
    #[arg(value_name = "SERVICE")]
    pub named: Vec<String>,
}

#[derive(Debug, Args)]
pub struct Cp {
    /// Include containers created by the run command
    #[arg(long)]
    pub all: bool,
    /// Archive mode (copy all uid/gid information)
    #[arg(short = 'a', long)]
    pub archive: bool,
    /// Always follow symbol link in SRC_PATH
    #[arg(short = 'L', long)]
    pub follow_link: bool,
    /// Index of the container if service has multiple replicas
    #[arg(long, default_value_t = 0, value_name = "int")]
    pub index: usize,
    #[arg(value_name = "SERVICE:SRC_PATH|SRC_PATH|-")]
    pub source: String,
    #[arg(value_name = "DEST_PATH|-|SERVICE:DEST_PATH")]
    pub target: String,
}

/// What `up`, `create` and `plan` share.
#[derive(Clone, Debug, Default, Args)]
pub struct Converge {
    /// Build images before starting containers
    #[arg(long)]
    pub build: bool,
    /// Recreate containers even if their configuration and image haven't changed
    #[arg(long)]
    pub force_recreate: bool,
    /// Don't build an image, even if it's policy
    #[arg(long)]
    pub no_build: bool,
    /// If containers already exist, don't recreate them. Incompatible with --force-recreate
    #[arg(long, conflicts_with = "force_recreate")]
    pub no_recreate: bool,
    /// Pull image before running ("always"|"missing"|"never"|"build")
    #[arg(long, value_name = "string", value_parser = ["always", "missing", "if_not_present", "never", "build", "policy"])]
    pub pull: Option<String>,
    /// Pull without printing progress information
    #[arg(long)]
    pub quiet_pull: bool,
    /// Remove containers for services not defined in the Compose file
    #[arg(long)]
    pub remove_orphans: bool,
    /// Scale SERVICE to NUM instances. Overrides the `scale` setting in the Compose file if present
    #[arg(long, value_name = "scale", action = ArgAction::Append)]
    pub scale: Vec<String>,
    /// Assume "yes" as answer to all prompts and run non-interactively
    #[arg(short = 'y', long = "yes", alias = "assume-yes")]
    pub yes: bool,
}

#[derive(Debug, Default, Args)]
pub struct Create {
    #[command(flatten)]
    pub converge: Converge,
    #[arg(value_name = "SERVICE")]
    pub services: Vec<String>,
}

#[derive(Debug, Default, Args)]
pub struct Plan {
    #[command(flatten)]
    pub converge: Converge,
    /// Recreate dependent containers
    #[arg(long)]
    pub always_recreate_deps: bool,
    /// Don't start linked services
    #[arg(long)]
    pub no_deps: bool,
    /// Format the output. Values: [text | json]
    #[arg(long, value_name = "string", default_value = "text", value_parser = ["text", "json"])]
    pub format: String,
    #[arg(value_name = "SERVICE")]
    pub services: Vec<String>,
}

#[derive(Debug, Default, Args)]
pub struct Down {
    /// Remove containers for services not defined in the Compose file
    #[arg(long)]
    pub remove_orphans: bool,
    /// Remove images used by services. "local" remove only images that don't have a custom tag ("local"|"all")
    #[arg(long, value_name = "string", value_parser = ["local", "all"])]
    pub rmi: Option<String>,
    /// Specify a shutdown timeout in seconds
    #[arg(short = 't', long, value_name = "int", allow_negative_numbers = true)]
    pub timeout: Option<i64>,
    /// Remove named volumes declared in the "volumes" section of the Compose file and anonymous volumes attached to containers
    #[arg(short = 'v', long, alias = "volume")]
    pub volumes: bool,
    #[arg(value_name = "SERVICE")]
    pub services: Vec<String>,
}

#[derive(Debug, Args)]
pub struct Events {
    /// Output events as a stream of json objects
    #[arg(long)]
    pub json: bool,
    /// Show all events created since timestamp
    #[arg(long, value_name = "string")]
    pub since: Option<String>,
    /// Stream events until this timestamp
    #[arg(long, value_name = "string")]
    pub until: Option<String>,
    #[arg(value_name = "SERVICE")]
    pub services: Vec<String>,
}

#[derive(Debug, Args)]
pub struct Exec {
    /// Detached mode: Run command in the background
    #[arg(short = 'd', long, alias = "detached")]
    pub detach: bool,
    /// Set environment variables
    #[arg(short = 'e', long, value_name = "stringArray", action = ArgAction::Append)]
    pub env: Vec<String>,
    /// Index of the container if service has multiple replicas
    #[arg(long, default_value_t = 0, value_name = "int")]
    pub index: usize,
    #[arg(short = 'i', long, hide = true)]
    pub interactive: bool,
    /// Disable pseudo-TTY allocation. By default a TTY is allocated
    #[arg(short = 'T', long, alias = "no-TTY")]
    pub no_tty: bool,
    #[arg(short = 't', long, hide = true)]
    pub tty: bool,
    /// Give extended privileges to the process
    #[arg(long)]
    pub privileged: bool,
    /// Run the command as this user
    #[arg(short = 'u', long, value_name = "string")]
    pub user: Option<String>,
    /// Path to workdir directory for this command
    #[arg(short = 'w', long, value_name = "string")]
    pub workdir: Option<String>,
    /// SERVICE COMMAND [ARGS...]
    #[arg(value_name = "SERVICE COMMAND", required = true, trailing_var_arg = true, num_args = 1..)]
    pub words: Vec<String>,
}

#[derive(Debug, Args)]
pub struct Images {
    /// Format the output. Values: [table | json]
    #[arg(long, value_name = "string", default_value = "table", value_parser = ["table", "json"])]
    pub format: String,
    /// Only display IDs
    #[arg(short = 'q', long)]
    pub quiet: bool,
    #[arg(value_name = "SERVICE")]
    pub services: Vec<String>,
}

#[derive(Debug, Args)]
pub struct Kill {
    /// Remove containers for services not defined in the Compose file
    #[arg(long)]
    pub remove_orphans: bool,
    /// SIGNAL to send to the container
    #[arg(short = 's', long, value_name = "string", default_value = "SIGKILL")]
    pub signal: String,
    #[arg(value_name = "SERVICE")]
    pub services: Vec<String>,
}

#[derive(Debug, Args)]
pub struct Logs {
    /// Follow log output
    #[arg(short = 'f', long)]
    pub follow: bool,
    /// Index of the container if service has multiple replicas
    #[arg(long, default_value_t = 0, value_name = "int")]
    pub index: usize,
    /// Produce monochrome output
    #[arg(long)]
    pub no_color: bool,
    /// Don't print prefix in logs
    #[arg(long)]
    pub no_log_prefix: bool,
    /// Show logs since timestamp (e.g. 2013-01-02T13:23:37Z) or relative (e.g. 42m for 42 minutes)
    #[arg(long, value_name = "string")]
    pub since: Option<String>,
    /// Number of lines to show from the end of the logs for each container
    #[arg(short = 'n', long, value_name = "string", default_value = "all", allow_negative_numbers = true)]
    pub tail: String,
    /// Show timestamps
    #[arg(short = 't', long)]
    pub timestamps: bool,
    /// Show logs before a timestamp (e.g. 2013-01-02T13:23:37Z) or relative (e.g. 42m for 42 minutes)
    #[arg(long, value_name = "string")]
    pub until: Option<String>,
    #[arg(value_name = "SERVICE")]
    pub services: Vec<String>,
}

#[derive(Debug, Args)]
pub struct Ls {
    /// Show all stopped Compose projects
    #[arg(short = 'a', long)]
    pub all: bool,
    /// Filter output based on conditions provided
    #[arg(long, value_name = "filter", action = ArgAction::Append)]
    pub filter: Vec<String>,
    /// Format the output. Values: [table | json]
    #[arg(long, value_name = "string", default_value = "table", value_parser = ["table", "json"])]
    pub format: String,
    /// Only display project names
    #[arg(short = 'q', long)]
    pub quiet: bool,
}

#[derive(Debug, Args)]
pub struct Port {
    /// Index of the container if service has multiple replicas
    #[arg(long, default_value_t = 0, value_name = "int")]
    pub index: usize,
    /// tcp or udp
    #[arg(long, value_name = "string", default_value = "tcp")]
    pub protocol: String,
    #[arg(value_name = "SERVICE")]
    pub service: String,
    #[arg(value_name = "PRIVATE_PORT")]
    pub private_port: u16,
}

#[derive(Debug, Args)]
pub struct Ps {
    /// Show all stopped containers (including those created by the run command)
    #[arg(short = 'a', long)]
    pub all: bool,
    /// Filter services by a property (supported filters: status)
    #[arg(long, value_name = "string")]
    pub filter: Option<String>,
    /// Format output: table, json, or a template such as '{{.Name}}'
    #[arg(long, value_name = "string", default_value = "table")]
    pub format: String,
    /// Don't truncate output
    #[arg(long)]
    pub no_trunc: bool,
    /// Include orphaned services (not declared by project)
    #[arg(long, default_value_t = true, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = barque_model::strconv::parse_bool)]
    pub orphans: bool,
    /// Only display IDs
    #[arg(short = 'q', long)]
    pub quiet: bool,
    /// Display services
    #[arg(long = "services")]
    pub list_services: bool,
    /// Filter services by status. Values: [paused | restarting | removing | running | dead | created | exited]
    #[arg(long, value_name = "stringArray", action = ArgAction::Append)]
    pub status: Vec<String>,
    #[arg(value_name = "SERVICE")]
    pub services: Vec<String>,
}

#[derive(Debug, Args)]
pub struct Pull {
    /// Ignore images that can be built
    #[arg(long)]
    pub ignore_buildable: bool,
    /// Pull what it can and ignores images with pull failures
    #[arg(long)]
    pub ignore_pull_failures: bool,
    /// Also pull services declared as dependencies
    #[arg(long)]
    pub include_deps: bool,
    /// Apply pull policy ("missing"|"always")
    #[arg(long, value_name = "string", value_parser = ["missing", "always"])]
    pub policy: Option<String>,
    /// Pull without printing progress information
    #[arg(short = 'q', long)]
    pub quiet: bool,
    #[arg(long, hide = true)]
    pub parallel: bool,
    #[arg(long, hide = true)]
    pub no_parallel: bool,
    #[arg(value_name = "SERVICE")]
    pub services: Vec<String>,
}

#[derive(Debug, Args)]
pub struct Push {
    /// Push what it can and ignores images with push failures
    #[arg(long)]
    pub ignore_push_failures: bool,
    /// Also push images of services declared as dependencies
    #[arg(long)]
    pub include_deps: bool,
    /// Push without printing progress information
    #[arg(short = 'q', long)]
    pub quiet: bool,
    #[arg(value_name = "SERVICE")]
    pub services: Vec<String>,
}
