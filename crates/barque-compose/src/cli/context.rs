//! What every command needs: the host's world, the global options, the project, the engine.

use std::collections::BTreeMap;
use std::future::Future;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use barque_client::Client;

use super::args::Global;
use crate::file::load::{Disk, Options};
use crate::file::project::{self, LoadError, Project};

/// Tells the cure for a failure by its message.
pub type Cure = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// Opens a connection to the engine, starting one if that is what the host does.
pub type Connect =
    Arc<dyn Fn() -> Pin<Box<dyn Future<Output = Result<Client, barque_model::Error>> + Send>> + Send + Sync>;
/// Registry host → the credentials for it, if there are any.
pub type Auth = Arc<dyn Fn(&str) -> Option<barque_api::auth::AuthConfig> + Send + Sync>;

/// The world the commands run in; the library reads none of it by itself.
#[derive(Clone)]
pub struct Host {
    /// How the user calls us: `barque compose`, `docker compose`, `docker-compose`.
    pub program: String,
    /// The version printed and written into labels.
    pub version: String,
    /// The environment.
    pub environment: BTreeMap<String, String>,
    /// The current directory, absolute.
    pub cwd: PathBuf,
    /// The user's home directory.
    pub home: Option<PathBuf>,
    /// Opens a connection.
    pub connect: Connect,
    /// Looks up registry credentials.
    pub auth: Auth,
    /// All the user's logins, as the text of a client's configuration file.
    pub logins: Arc<dyn Fn() -> String + Send + Sync>,
    /// Whether an engine at this address sees the same files as this process.
    pub nearby: fn(&barque_client::Host) -> bool,
    /// Fills a Go template with a row; the error is its text.
    pub render: fn(&str, &serde_json::Value) -> Result<String, String>,
    /// The cure for a failure, by its message, where one is known.
    pub cure: Cure,
}

impl Host {
    /// Called by Docker's name, it answers as Docker Compose does.
    pub fn is_docker(&self) -> bool {
        self.program.starts_with("docker")
    }
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Host").field("program", &self.program).field("cwd", &self.cwd).finish_non_exhaustive()
    }
}

/// Why a command failed.
#[derive(Debug)]
pub struct Failure {
    /// What to print, if anything.
    pub message: String,
    /// The cure, if known.
    pub hint: Option<String>,
    /// The exit status.
    pub code: i32,
}

/// The exit status of a command, or why it failed.
pub type Outcome = Result<i32, Failure>;

impl Failure {
    /// A failure with exit status 1.
    pub fn new(message: impl Into<String>) -> Self {
        Failure { message: message.into(), hint: None, code: 1 }
    }

    /// Something not built: `not implemented yet: …`, exit status 125.
    pub fn not_implemented(what: impl std::fmt::Display) -> Self {
        Failure { code: 125, ..Failure::new(format!("not implemented yet: {what}")) }
    }

    /// Adds the cure.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Sets the exit status.
    #[must_use]
    pub fn with_code(mut self, code: i32) -> Self {
        self.code = code;
        self
    }
}

impl From<barque_model::Error> for Failure {
    fn from(e: barque_model::Error) -> Self {
        let code = if e.kind() == barque_model::ErrorKind::Unsupported { 125 } else { 1 };
        Failure { message: e.chain(), hint: e.hint().map(str::to_owned), code }
    }
}

impl From<crate::file::diag::Diag> for Failure {
    fn from(diag: crate::file::diag::Diag) -> Self {
        let code = diag.kind().exit_status();
        Failure { message: crate::file::diag::SourceMap::default().render(&diag), hint: None, code }
    }
}

/// Whether colours and cursor movements are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ansi {
    /// Never.
    Never,
    /// Always.
    Always,
    /// On terminals.
    Auto,
}

/// What a command runs with.
#[derive(Clone, Debug)]
pub struct Context {
    /// The world.
    pub host: Host,
    /// The options before the command.
    pub global: Global,
}

impl Context {
    /// Options for loading the project with these services named.
    pub fn load_options(&self, services: &[String]) -> Options {
        let stdin = self.global.file.iter().any(|f| f == "-").then(|| {
            let mut text = String::new();
            let _ = std::io::Read::read_to_string(&mut std::io::stdin().lock(), &mut text);
            text
        });
        Options {
            files: self.global.file.clone(),
            stdin,
            project_dir: self.global.project_directory.clone(),
            name: self.global.project_name.clone(),
            env_files: self.global.env_file.clone(),
            profiles: self.global.profile.clone(),
            services: services.to_vec(),
            environment: self.host.environment.clone(),
            cwd: self.host.cwd.clone(),
            home: self.host.home.clone(),
            all_resources: self.global.all_resources,
            ..Options::default()
        }
    }

    /// Loads the project and prints its warnings.
    ///
    /// # Errors
    /// Whatever is wrong with its files.
    pub fn load(&self, services: &[String]) -> Result<Project, Failure> {
        self.load_with(&self.load_options(services))
    }

    /// As [`Context::load`], with options of one's own.
    ///
    /// # Errors
    /// Whatever is wrong with its files.
    pub fn load_with(&self, options: &Options) -> Result<Project, Failure> {
        match project::load(options, &Disk) {
            Ok(project) => {
                project.warnings.iter().for_each(|w| self.warn(w));
                Ok(project)
            }
            Err(e) => {
                e.warnings.iter().for_each(|w| self.warn(w));
                Err(load_failure(&e))
            }
        }
    }

    /// The project if there are files, and its name in any case.
    ///
    /// # Errors
    /// Whatever is wrong with its files, or no files and no name.
    pub fn project_or_name(&self, services: &[String]) -> Result<(Option<Project>, String), Failure> {
        let options = self.load_options(services);
        // -p NAME without -f speaks of the running project, whatever files lie about
        if self.is_by_name()?
            && let Some(name) = project::given_name(&options, &options.environment)?
        {
            return Ok((project::load(&options, &Disk).ok(), name));
        }
        let project = self.load_with(&options)?;
        let name = project.name.clone();
        Ok((Some(project), name))
    }

    /// True if the project is given by its name, and no file.
    ///
    /// # Errors
    /// A name that is not valid.
    pub fn is_by_name(&self) -> Result<bool, Failure> {
        if !self.global.file.is_empty() {
            return Ok(false);
        }
        let options = self.load_options(&[]);
        Ok(project::given_name(&options, &options.environment)?.is_some())
    }

    /// Opens a connection to the engine.
    ///
    /// # Errors
    /// No engine, or one that does not answer.
    pub async fn connect(&self) -> Result<Client, Failure> {
        Ok((self.host.connect)().await?)
    }

    /// Whether to print colours: `--ansi`, `COMPOSE_ANSI`, `NO_COLOR`.
    pub fn ansi(&self) -> Ansi {
        let chosen = self.global.ansi.clone().or_else(|| self.host.environment.get("COMPOSE_ANSI").cloned());
        match chosen.as_deref() {
            Some("never") => Ansi::Never,
            Some("always") => Ansi::Always,
            _ if self.global.no_ansi || self.host.environment.get("NO_COLOR").is_some_and(|v| !v.is_empty()) => {
                Ansi::Never
            }
            _ => Ansi::Auto,
        }
    }

    /// The word of `--progress` or `COMPOSE_PROGRESS`.
    pub fn progress_word(&self) -> Option<&str> {
        let from_env = || self.host.environment.get("COMPOSE_PROGRESS").filter(|w| !w.is_empty());
        self.global.progress.as_ref().or_else(from_env).map(String::as_str)
    }

    /// Refuses words for the look of progress that make no sense, in Docker Compose's words.
    ///
    /// # Errors
    /// An unknown word, or one that contradicts `--ansi`.
    pub fn check_progress(&self) -> Result<(), Failure> {
        match (self.progress_word(), self.ansi()) {
            (Some("tty"), Ansi::Never) => Err(Failure::new("can't use --progress tty while ANSI support is disabled")),
            (Some("plain"), Ansi::Always) => {
                Err(Failure::new("can't use --progress plain while ANSI support is forced"))
            }
            (None | Some("auto" | "tty" | "plain" | "json" | "quiet"), _) => Ok(()),
            (Some(other), _) => Err(Failure::new(format!("unsupported --progress value {other:?}"))
                .with_hint("it is auto, tty, plain, json or quiet")),
        }
    }

    /// True if output to stdout is to be coloured.
    pub fn colour(&self) -> bool {
        match self.ansi() {
            Ansi::Never => false,
            Ansi::Always => true,
            Ansi::Auto => std::io::stdout().is_terminal(),
        }
    }

    /// Prints to stdout; a reader that went away is no error.
    pub fn print(&self, text: &str) {
        let mut out = std::io::stdout().lock();
        let _ = out.write_all(text.as_bytes());
        let _ = out.flush();
    }

    /// Prints a warning in the form of Docker Compose's log.
    pub fn warn(&self, text: &str) {
        let mut err = std::io::stderr().lock();
        let terminal = std::io::stderr().is_terminal() && self.ansi() != Ansi::Never;
        let _ = if self.progress_word() == Some("json") {
            let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
            writeln!(err, "{}", serde_json::json!({"level": "warning", "msg": text, "time": now}))
        } else if terminal {
            writeln!(err, "\u{1b}[33mWARN\u{1b}[0m[0000] {text}")
        } else {
            let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ");
            writeln!(err, "time=\"{now}\" level=warning msg={text:?}")
        };
    }

    /// Says of flags of older times which were given and do nothing, in Docker Compose's words.
    pub fn warn_ignored(&self, flags: &[(bool, &str)]) {
        for (_, flag) in flags.iter().filter(|(given, _)| *given) {
            barque_client::tell(&format!("option '--{flag}' is DEPRECATED and will be ignored."));
        }
    }

    /// `--compatibility`: names are joined by `_` instead of `-`.
    pub fn compatibility(&self) -> bool {
        let set =
            self.host.environment.get("COMPOSE_COMPATIBILITY").is_some_and(|v| matches!(v.as_str(), "1" | "true"));
        self.global.compatibility || set
    }
}

/// A loading error as a failure: exit status 14 for missing files, 15 for files that are not valid, 125 for what is not
/// built.
fn load_failure(error: &LoadError) -> Failure {
    Failure { message: error.to_string(), hint: None, code: error.diag.kind().exit_status() }
}
