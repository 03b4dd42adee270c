//! A project and the engine it runs on.

use barque_api::ApiVersion;

use super::context::{Ansi, Context, Failure};
use crate::apply::engine::Engine;
use crate::apply::observe;
use crate::apply::progress::Progress;
use crate::file::project::Project;
use crate::plan::observed::Container;
use crate::plan::{api_socket, labels};

/// What most commands work with.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) engine: Engine,
    pub(super) progress: Progress,
    pub(super) project: Option<Project>,
    pub(super) name: String,
    /// How the user calls us, for hints.
    pub(super) program: String,
}

impl Session {
    /// Loads the project, if there is one, and connects.
    pub(super) async fn open(cx: &Context, title: &str) -> Result<Session, Failure> {
        let (project, name) = cx.project_or_name(&[])?;
        let mut session = Session::with(cx, project, name, title).await?;
        if cx.is_by_name()? {
            session.forget_other_files().await?;
        }
        Ok(session)
    }

    /// The name alone was given: the file that lies about is the project's only if its containers say so. Then their
    /// hooks are known.
    async fn forget_other_files(&mut self) -> Result<(), Failure> {
        let Some(project) = &self.project else { return Ok(()) };
        let dir = project.working_dir.display().to_string();
        let found = observe::containers(self.engine.read(), &self.name, true).await?;
        if !found.iter().any(|c| c.labels.get(labels::WORKING_DIR) == Some(&dir)) {
            self.project = None;
        }
        Ok(())
    }

    /// Connects for a project that is loaded.
    pub(super) async fn with(
        cx: &Context,
        mut project: Option<Project>,
        name: String,
        title: &str,
    ) -> Result<Session, Failure> {
        let client = cx.connect().await?;
        if let Some(project) = project.as_mut().filter(|p| api_socket::is_asked(p)) {
            let socket = match client.host() {
                barque_client::Host::Unix(path) => path.display().to_string(),
                // of an engine on another machine nothing else is known
                _ => api_socket::SOCKET.to_owned(),
            };
            api_socket::give(project, &socket, (cx.host.logins)());
        }
        let mut engine = Engine::new(client, cx.host.auth.clone(), cx.global.dry_run).with_nearby(cx.host.nearby);
        // without the option a stop of many containers takes as long as the slowest of them
        if let Some(limit) = super::up::asked_parallel(cx) {
            engine = engine.with_parallel(limit);
        }
        let progress = progress(cx);
        progress.title(title);
        Ok(Session { engine, progress, project, name, program: cx.host.program.clone() })
    }

    /// The containers of the project; of some services if any are named. Those of `run` only with `oneoff`.
    pub(super) async fn containers(
        &self,
        services: &[String],
        all: bool,
        oneoff: bool,
    ) -> Result<Vec<Container>, Failure> {
        let found = observe::containers(self.engine.read(), &self.name, all).await?;
        self.check_services(services, &found)?;
        let wanted = |c: &Container| (services.is_empty() || services.contains(&c.service)) && (oneoff || !c.oneoff);
        Ok(found.into_iter().filter(wanted).collect())
    }

    fn check_services(&self, services: &[String], found: &[Container]) -> Result<(), Failure> {
        for name in services {
            let in_file =
                self.project.as_ref().is_some_and(|p| p.services.contains_key(name) || p.disabled.contains_key(name));
            if !in_file && !found.iter().any(|c| c.service == *name) {
                let of_file = self.project.iter().flat_map(|p| p.services.keys().chain(p.disabled.keys()));
                return Err(no_such_service(name, of_file.chain(found.iter().map(|c| &c.service))));
            }
        }
        Ok(())
    }

    /// The running container of a service with a number (0: the first).
    pub(super) async fn one(&self, service: &str, index: usize) -> Result<Container, Failure> {
        let found = self.containers(&[service.to_owned()], false, false).await?;
        let mut found: Vec<Container> = found.into_iter().filter(|c| index == 0 || c.number == index).collect();
        found.sort_by_key(|c| c.number);
        if found.is_empty() {
            let text = match index {
                0 => format!("service {service:?} is not running"),
                index => format!("service {service:?} is not running container #{index}"),
            };
            return Err(Failure::new(text).with_hint(format!("start it: {} up -d {service}", self.program)));
        }
        Ok(found.remove(0))
    }
}

/// The failure for a service that is not there, with the one that was probably meant.
pub(super) fn no_such_service<'a>(name: &str, known: impl Iterator<Item = &'a String>) -> Failure {
    let failure = Failure::new(format!("no such service: {name}"));
    let mut known: Vec<&str> = known.map(String::as_str).collect();
    known.sort_unstable();
    known.dedup();
    match crate::file::diag::suggest(name, known.iter().copied()) {
        Some(near) => failure.with_hint(format!("did you mean {near:?}?")),
        None if known.is_empty() => failure,
        None => failure.with_hint(format!("services are: {}", known.join(", "))),
    }
}

/// The view of `--progress`.
pub(super) fn progress(cx: &Context) -> Progress {
    Progress::new(cx.progress_word(), cx.ansi() != Ansi::Never, cx.global.dry_run)
}

/// The API version spoken.
pub(super) async fn api(engine: &Engine) -> Result<ApiVersion, Failure> {
    Ok(engine.read().client().version_used().await?)
}

impl From<barque_client::Error> for Failure {
    fn from(e: barque_client::Error) -> Self {
        Failure::new(e.for_user())
    }
}
