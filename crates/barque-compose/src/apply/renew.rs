//! A network whose configuration changed: removed and made again, while what is in it stands aside.

use std::collections::{BTreeMap, BTreeSet};

use barque_api::network::{EndpointSettings, NetworkConnectRequest};
use barque_model::Error;
use futures_util::future::{join_all, try_join_all};

use super::body::model_error;
use super::engine::Engine;
use super::execute::Executor;
use super::{hooks, resources, teardown};
use crate::plan::observed::{Container, State};

impl Executor<'_> {
    /// Stops what is in a network, removes and makes it again; those that nothing replaces return to it as they were.
    pub(super) async fn renew_network(
        &self,
        key: &str,
        old: &str,
        users: &[Container],
        kept: &BTreeSet<String>,
    ) -> Result<(), Error> {
        let Some(network) = self.project.networks.get(key) else { return Ok(()) };
        let name = &network.spec.name;
        for layer in teardown::layers(users, Some(self.project)) {
            let up = layer.iter().filter(|c| c.state.is_up() && !self.is_stopped(&c.id));
            try_join_all(up.map(|container| async move {
                self.stop(container).await?;
                self.set_stopped(&container.id, true);
                Ok::<(), Error>(())
            }))
            .await?;
        }
        let mut settings = BTreeMap::new();
        for container in users {
            match endpoint(self.engine, &container.id, name).await {
                Ok(found) => settings.insert(container.id.as_str(), found),
                // one of `run --rm` goes when it is stopped
                Err(e) if e.kind() == barque_model::ErrorKind::NotFound => continue,
                Err(e) => return Err(e),
            };
            let gone = self.engine.disconnect(old, &container.id).await;
            gone.or_else(|e| if e.is_not_found() { Ok(()) } else { Err(e) }).map_err(|e| model_error(&e))?;
        }
        let id = format!("Network {name}");
        let before = self.engine.read().network(old).await.map_err(|e| model_error(&e))?;
        self.progress.working(&id, "Removing");
        if let Err(e) = self.engine.remove_network(old).await {
            self.progress.failed(&id, e.message());
            // it is still there: everything goes on as before
            let _ = self.come_back(old, users, &settings).await;
            return Err(model_error(&e));
        }
        self.progress.done(&id, "Removed");
        if let Err(e) = resources::create_network(self.engine, self.progress, self.project, key, self.version).await {
            // as it was, so that what ran goes on; the next `up` tries again
            return Err(match self.engine.create_network(&resources::same_again(&before)).await {
                Ok(_) => {
                    let _ = self.come_back(name, users, &settings).await;
                    e.with_hint(format!("network {name} is as it was before, and its services run"))
                }
                Err(_) => e.with_hint(format!("network {name} is gone and its services are stopped: mend it, then up")),
            });
        }
        let back: Vec<Container> = users.iter().filter(|c| kept.contains(&c.id)).cloned().collect();
        self.come_back(name, &back, &settings).await
    }

    /// Connects containers again and starts those that ran; tells the first failure after all were tried.
    async fn come_back(
        &self,
        network: &str,
        back: &[Container],
        settings: &BTreeMap<&str, EndpointSettings>,
    ) -> Result<(), Error> {
        let mut failure = None;
        for layer in teardown::layers(back, Some(self.project)).into_iter().rev() {
            let left = layer.iter().filter(|c| settings.contains_key(c.id.as_str()));
            let done = join_all(left.map(|c| self.connect_and_start(network, c, settings))).await;
            failure = failure.or(done.into_iter().find_map(Result::err));
        }
        failure.map_or(Ok(()), Err)
    }

    async fn connect_and_start(
        &self,
        network: &str,
        container: &Container,
        settings: &BTreeMap<&str, EndpointSettings>,
    ) -> Result<(), Error> {
        let shown = format!("Container {}", container.name);
        let fail = |e: Error| {
            self.progress.failed(&shown, e.message());
            e.context(format!("container {} cannot return to network {network}", container.name))
        };
        let endpoint_config = settings.get(container.id.as_str()).cloned();
        let request = NetworkConnectRequest { container: container.id.clone(), endpoint_config };
        match self.engine.connect(network, &request).await {
            // it was on its way out when it was looked at
            Err(e) if e.is_not_found() => return Ok(()),
            other => other.map_err(|e| fail(model_error(&e)))?,
        }
        if !container.state.is_up() {
            return Ok(());
        }
        self.progress.working(&shown, "Starting");
        self.engine.start(&container.id).await.map_err(|e| fail(model_error(&e)))?;
        self.set_stopped(&container.id, false);
        let service = self.project.services.get(&container.service);
        if let Some(service) = service.or_else(|| self.project.disabled.get(&container.service)) {
            let (hooks, name) = (&service.spec.post_start, container.log_name());
            hooks::run(self.engine, self.progress, hooks, &container.id, &name, "post_start").await.map_err(fail)?;
        }
        if container.state == State::Paused {
            self.engine.pause(&container.id, true).await.map_err(|e| fail(model_error(&e)))?;
        }
        self.progress.done(&shown, "Started");
        Ok(())
    }
}

/// How a container stands in a network, without what the engine added while it ran.
async fn endpoint(engine: &Engine, id: &str, network: &str) -> Result<EndpointSettings, Error> {
    let inspected = engine.read().inspect(id).await.map_err(|e| model_error(&e))?;
    let found = inspected.network_settings.networks.get(network).cloned().flatten().unwrap_or_default();
    Ok(EndpointSettings {
        ipam_config: found.ipam_config,
        links: found.links,
        aliases: found.aliases,
        mac_address: found.mac_address,
        driver_opts: found.driver_opts,
        gw_priority: found.gw_priority,
        ..EndpointSettings::default()
    })
}
