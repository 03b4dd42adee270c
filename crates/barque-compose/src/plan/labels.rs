//! The labels Docker Compose v2 puts on what it makes, and ours.

/// Name of the project.
pub const PROJECT: &str = "com.docker.compose.project";
/// Key of the service.
pub const SERVICE: &str = "com.docker.compose.service";
/// Number of the container within its service, from 1.
pub const NUMBER: &str = "com.docker.compose.container-number";
/// Hash of the configuration.
pub const HASH: &str = "com.docker.compose.config-hash";
/// `True` for containers of `run`.
pub const ONEOFF: &str = "com.docker.compose.oneoff";
/// Unique part of the name of a container of `run`.
pub const SLUG: &str = "com.docker.compose.slug";
/// Id of the image it was made from.
pub const IMAGE: &str = "com.docker.compose.image";
/// `dep:condition:restart`, joined by commas.
pub const DEPENDS: &str = "com.docker.compose.depends_on";
/// Version of the program that made it.
pub const VERSION: &str = "com.docker.compose.version";
/// The project's directory.
pub const WORKING_DIR: &str = "com.docker.compose.project.working_dir";
/// The project's files, joined by commas.
pub const CONFIG_FILES: &str = "com.docker.compose.project.config_files";
/// The files of `--env-file`, joined by commas.
pub const ENVIRONMENT_FILE: &str = "com.docker.compose.project.environment_file";
/// Key of a network.
pub const NETWORK: &str = "com.docker.compose.network";
/// Key of a volume.
pub const VOLUME: &str = "com.docker.compose.volume";
/// Name of the container it replaced.
pub const REPLACE: &str = "com.docker.compose.replace";
/// Kind of hook a container runs.
pub const HOOK: &str = "com.docker.compose.hook";
/// Ours: hash of the secrets and configs that were copied in.
pub const FILES: &str = "io.barque.compose.files";
/// Ours: the configuration the hash was taken over, so that changes can be told field by field.
pub const CONFIG: &str = "io.barque.compose.config";
