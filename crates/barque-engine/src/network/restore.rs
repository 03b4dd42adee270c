//! Networks after a restart of the engine: what runs keeps its addresses, ports and names.
//!
//! What a running container has plugged in is written beside its process ([`FILE`]): it ends with the uptime.

use std::path::Path;

use barque_model::{Error, Id, Result};
use barque_net::fabric::Publication;
use barque_net::{Attached, NetNs, PortBinding, Target};
use serde::{Deserialize, Serialize};

use super::plug::{Plugged, name_entry};
use crate::Engine;
use crate::container::driver::Fixed;
use crate::container::spec::{ContainerSpec, PortProto};
use crate::container::view::{EndpointView, PublishedPort};

const FILE: &str = "network.json";

#[derive(Default, Serialize, Deserialize)]
struct Stored {
    attached: Vec<Attached>,
    endpoints: Vec<EndpointView>,
    ports: Vec<PublishedPort>,
    dns: bool,
}

impl Engine {
    /// Remembers what is plugged in, for a later engine.
    pub(crate) fn remember_plugged(&self, run_dir: &Path, plugged: &Plugged) -> Result<()> {
        let stored = Stored {
            attached: plugged.attached.clone(),
            endpoints: plugged.endpoints.clone(),
            ports: plugged.ports.clone(),
            dns: plugged.dns,
        };
        let text = serde_json::to_vec(&stored).map_err(|e| Error::internal(e.to_string()))?;
        // Whole or as it was, whenever the engine is killed.
        let fresh = run_dir.join(format!("{FILE}.new"));
        std::fs::write(&fresh, text).and_then(|()| std::fs::rename(&fresh, run_dir.join(FILE)))?;
        Ok(())
    }

    /// Makes an adopted container known by its names again, and serves its questions.
    pub(crate) fn replug(&self, id: &Id, name: &str, spec: &ContainerSpec, fixed: &Fixed, pid: i32) -> Result<Plugged> {
        let stored: Stored = match std::fs::read(fixed.paths.run_dir.join(FILE)) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map_err(|e| Error::internal(format!("the network state of {name} is broken: {e}")))?,
            Err(_) => Stored::default(),
        };
        let mut plugged = Plugged {
            ns: None,
            attached: stored.attached,
            endpoints: stored.endpoints,
            ports: stored.ports,
            dns: false,
        };
        for view in &plugged.endpoints {
            let Ok(record) = self.network_record(&view.network_id) else { continue };
            if record.serves_names() {
                self.set_name(&record.def, id, Some(name_entry(view)));
            }
        }
        if stored.dns {
            let ns = NetNs::open(Path::new(&format!("/proc/{pid}/ns/net")))?;
            let wishes = self.wished_networks(spec)?;
            self.fabric().dns().start(id, &ns, self.sandbox_dns(spec, &wishes)?)?;
            plugged.dns = true;
        }
        Ok(plugged)
    }

    /// Rules and bridges of all networks, once all running containers are known.
    pub(crate) async fn restore_networks(&self) -> Result<()> {
        let mut published = Vec::new();
        for handle in self.handles() {
            let core = handle.lock().await;
            let Some(plugged) = &core.plugged else { continue };
            let Some(first) = plugged.attached.first().filter(|_| !plugged.ports.is_empty()) else { continue };
            published.push(Publication {
                endpoint: first.endpoint,
                network: first.network,
                owner: core.name.clone(),
                bindings: plugged.ports.iter().map(binding).collect::<Result<_>>()?,
                target: Target { v4: first.v4.map(|n| n.addr()), v6: first.v6.map(|n| n.addr()) },
            });
        }
        let networks: Vec<_> = self.networks_state().all().into_iter().map(|r| r.def).collect();
        let engine = self.clone();
        self.blocking(move || {
            for (id, error) in engine.fabric().restore(&networks, &published)? {
                match networks.iter().find(|def| def.id == id) {
                    Some(def) => tracing::error!("network {} cannot be used for now: {}", def.name, error.chain()),
                    None => tracing::error!(endpoint = %id, "a published port was lost: {}", error.chain()),
                }
            }
            let bridge = engine.network_record("bridge").ok().map(|r| r.def);
            if let Some(def) = &bridge {
                engine.fabric().ensure_network(def)?;
            }
            engine.fabric().set_pool_network(bridge.as_ref());
            Ok(())
        })
        .await
    }
}

fn binding(port: &PublishedPort) -> Result<PortBinding> {
    let PortProto { port: container_port, proto } = &port.container;
    Ok(PortBinding {
        container_port: *container_port,
        proto: proto.parse()?,
        host_ip: port.host_ip,
        host_port: port.host_port,
    })
}
