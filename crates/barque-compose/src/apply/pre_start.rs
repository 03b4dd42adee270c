//! `pre_start`: containers that run to their end before a service starts, such as migrations.

use std::collections::BTreeMap;
use std::sync::Arc;

use barque_api::container::LogsQuery;
use barque_api::stdcopy::Decoder;
use barque_model::Error;
use tokio::sync::OnceCell;

use super::body::{self, Making, model_error};
use super::execute::Executor;
use super::{files, hooks, images};
use crate::file::model::Hook;
use crate::file::project::Service;
use crate::plan::labels;
use crate::plan::observed::State;

/// Services whose hooks ran, so that several replicas run them once.
pub(super) type Ran = std::sync::Mutex<BTreeMap<String, Arc<OnceCell<()>>>>;

impl Executor<'_> {
    /// Runs the hooks a container waits for. `state` is that of a container that was there before: one that was
    /// started once had its hooks then.
    pub(super) async fn pre_start(&self, service: &Service, number: usize, state: Option<State>) -> Result<(), Error> {
        let hooks = &service.spec.pre_start;
        if hooks.is_empty() || self.engine.is_dry_run() || state.is_some_and(|s| s != State::Created) {
            return Ok(());
        }
        let cell = {
            let mut ran = self.hooks.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            Arc::clone(ran.entry(service.name.clone()).or_default())
        };
        cell.get_or_try_init(|| async {
            self.remove_old_hooks(service).await?;
            for (index, hook) in hooks.iter().enumerate().filter(|(_, h)| !h.per_replica) {
                self.hook(service, hook, index, None).await?;
            }
            Ok::<(), Error>(())
        })
        .await?;
        for (index, hook) in hooks.iter().enumerate().filter(|(_, h)| h.per_replica) {
            self.hook(service, hook, index, Some(number)).await?;
        }
        Ok(())
    }

    /// A hook that failed was kept, so that its log can be read; the next try clears it away.
    async fn remove_old_hooks(&self, service: &Service) -> Result<(), Error> {
        let is_old =
            |c: &&crate::plan::observed::Container| c.service == service.name && c.labels.contains_key(labels::HOOK);
        let old: Vec<String> = self.observed().containers.iter().filter(is_old).map(|c| c.id.clone()).collect();
        for id in old {
            self.engine.remove(&id, true).await.map_err(|e| model_error(&e))?;
        }
        Ok(())
    }

    async fn hook(&self, service: &Service, hook: &Hook, index: usize, number: Option<usize>) -> Result<(), Error> {
        let observed = self.observed();
        let changed = hook_service(service, hook);
        let image = changed.image(&self.project.name);
        if self.engine.read().image(&image).await.map_err(|e| model_error(&e))?.is_none() {
            images::pull(self.engine, self.progress, &service.name, &image, &service.spec.platform).await?;
        }
        let replica = number.map_or_else(String::new, |n| format!("-{n}"));
        let name = format!("{}-{}-pre_start-{}{replica}", self.project.name, service.name, index + 1);
        let shown = format!("Container {name}");
        self.progress.working(&shown, "Running");
        let making = Making {
            project: self.project,
            service: &changed,
            observed: &observed,
            image: observed.images.get(&image),
            number: 0,
            name: &name,
            inherit: None,
            aliases: false,
            version: self.version,
            api: self.api,
        };
        let mut made = body::make(&making)?;
        made.request.config.labels.get_or_insert_default().insert(labels::HOOK.to_owned(), "pre_start".to_owned());
        let created = self.engine.create(&name, &service.spec.platform, &made.request).await;
        let (id, _) = created.map_err(|e| model_error(&e))?;
        Box::pin(files::complete(self.engine, self.project, &changed, &id, made.later)).await?;
        let code = Box::pin(self.run_to_end(&id, &name)).await?;
        if code != 0 {
            let text = format!("service {:?}: pre_start hook {} exited with status {code}", service.name, index + 1);
            self.progress.failed(&shown, &text);
            return Err(Error::conflict(text).with_hint(format!("see why: docker logs {name}")));
        }
        self.progress.done(&shown, "Exited");
        self.engine.remove(&id, true).await.map_err(|e| model_error(&e))
    }

    async fn run_to_end(&self, id: &str, name: &str) -> Result<i64, Error> {
        let client = self.engine.read().client();
        let waiting = client.container_wait(id, "next-exit").await.map_err(|e| model_error(&e))?;
        self.engine.start(id).await.map_err(|e| model_error(&e))?;
        let query =
            LogsQuery { follow: true, stdout: true, stderr: true, tail: "all".to_owned(), ..LogsQuery::default() };
        let mut log = client.container_logs(id, &query).await.map_err(|e| model_error(&e))?;
        let mut decoder = Decoder::new();
        let mut pending = Vec::new();
        while let Some(piece) = log.next().await.map_err(|e| model_error(&e))? {
            decoder.push(&piece);
            while let Ok(Some((_, text))) = decoder.next_piece() {
                pending.extend_from_slice(&text);
            }
            hooks::print_lines(self.progress, name, "pre_start", &mut pending, false);
        }
        hooks::print_lines(self.progress, name, "pre_start", &mut pending, true);
        Ok(waiting.finish().await.map_err(|e| model_error(&e))?.status_code)
    }
}

/// The service as its hook runs: the same networks and mounts, another command.
fn hook_service(service: &Service, hook: &Hook) -> Service {
    let mut out = service.clone();
    let spec = &mut out.spec;
    spec.command.clone_from(&hook.command);
    spec.entrypoint = None;
    if !hook.image.is_empty() {
        spec.image.clone_from(&hook.image);
    }
    if !hook.user.is_empty() {
        spec.user.clone_from(&hook.user);
    }
    if !hook.working_dir.is_empty() {
        spec.working_dir.clone_from(&hook.working_dir);
    }
    spec.privileged |= hook.privileged;
    spec.environment.extend(hook.environment.clone());
    spec.ports.clear();
    spec.container_name.clear();
    spec.restart.clear();
    spec.tty = false;
    spec.healthcheck = None;
    if let Some(deploy) = spec.deploy.as_mut() {
        deploy.restart_policy = None;
    }
    out
}
