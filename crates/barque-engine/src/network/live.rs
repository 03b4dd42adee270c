//! Networks of running containers: plugged in and out while the process goes on.
//!
//! The first endpoint has the default route and the published ports. When it changes, they move.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::io::Read as _;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use barque_model::{Context, Error, Id, Result};
use barque_net::NetNs;
use barque_net::fabric::Gateway;

use super::plug::{PlugRequest, Plugged, name_entry};
use super::record::NetworkRecord;
use crate::Engine;
use crate::container::driver::{Core, Fixed};
use crate::container::spec::{ContainerSpec, EndpointWish};

/// A running container and what is to be true of its networks.
struct Live {
    id: Id,
    name: String,
    /// The definition as it will be.
    spec: Arc<ContainerSpec>,
    fixed: Arc<Fixed>,
    pid: i32,
    plugged: Plugged,
}

impl Live {
    fn of(core: &Core, spec: &ContainerSpec) -> Result<Live> {
        Ok(Live {
            id: core.fixed.id,
            name: core.name.clone(),
            spec: Arc::new(spec.clone()),
            fixed: core.fixed.clone(),
            pid: core.running_task()?.pid(),
            plugged: core.plugged.as_ref().map(Plugged::of_running).unwrap_or_default(),
        })
    }

    fn request(&self) -> PlugRequest<'_> {
        PlugRequest {
            id: self.id,
            name: &self.name,
            spec: &self.spec,
            paths: &self.fixed.paths,
            hostname: &self.spec.hostname,
            links: Vec::new(),
            transient: false,
        }
    }

    fn namespace(&self) -> Result<NetNs> {
        NetNs::open(Path::new(&format!("/proc/{}/ns/net", self.pid)))
    }

    fn position(&self, network: &Id) -> Option<usize> {
        self.plugged.attached.iter().position(|a| a.network == *network)
    }

    fn addresses(&self) -> BTreeSet<IpAddr> {
        self.plugged.endpoints.iter().flat_map(|e| e.ipv4.into_iter().chain(e.ipv6)).collect()
    }
}

impl Engine {
    /// Plugs a running container into one more network; `spec` is its definition with that network. On error
    /// everything is as before.
    pub(super) async fn connect_running(
        &self,
        core: &mut Core,
        spec: &ContainerSpec,
        record: &NetworkRecord,
        wish: &EndpointWish,
    ) -> Result<()> {
        let mut live = Live::of(core, spec)?;
        let (engine, record, wish) = (self.clone(), record.clone(), wish.clone());
        let plugged = self.blocking(move || {
            let ns = live.namespace()?;
            let before = live.addresses();
            let first = live.plugged.attached.is_empty();
            let (attached, view) = engine.plug_one(&live.request(), &record, &wish, first, Some(&ns))?;
            live.plugged.attached.push(attached);
            live.plugged.endpoints.push(view);
            let settled =
                engine.publish_name(&live, &record).and_then(|()| engine.settle(&mut live, &ns, first, &before));
            if let Err(e) = settled {
                let after = live.addresses();
                // The first error is the one to tell.
                let undone = engine
                    .take_out(&mut live, &record, &ns)
                    .and_then(|()| engine.settle(&mut live, &ns, false, &after));
                if let Err(e) = undone {
                    tracing::error!(container = %live.id, "a network is left half plugged in: {}", e.chain());
                }
                return Err(e);
            }
            Ok(live.plugged)
        });
        took_effect(core, plugged.await?);
        Ok(())
    }

    /// Takes a running container off a network; `spec` is its definition without that network.
    pub(super) async fn disconnect_running(
        &self,
        core: &mut Core,
        spec: &ContainerSpec,
        record: &NetworkRecord,
    ) -> Result<()> {
        let mut live = Live::of(core, spec)?;
        let (engine, record) = (self.clone(), record.clone());
        let plugged = self.blocking(move || {
            let ns = live.namespace()?;
            let before = live.addresses();
            let first = live.position(&record.def.id) == Some(0);
            engine.take_out(&mut live, &record, &ns)?;
            // It is out; what could not follow is worth a message, but no reason to say that it is not.
            if let Err(e) = engine.settle(&mut live, &ns, first, &before) {
                tracing::error!(container = %live.id, "after network disconnect: {}", e.chain());
            }
            Ok(live.plugged)
        });
        took_effect(core, plugged.await?);
        Ok(())
    }

    fn publish_name(&self, live: &Live, record: &NetworkRecord) -> Result<()> {
        if let Some(view) = live.plugged.endpoints.last().filter(|_| record.serves_names()) {
            self.set_name(&record.def, &live.id, Some(name_entry(view)));
        }
        Ok(())
    }

    fn take_out(&self, live: &mut Live, record: &NetworkRecord, ns: &NetNs) -> Result<()> {
        let Some(position) = live.position(&record.def.id) else { return Ok(()) };
        let Some(attached) = live.plugged.attached.get(position) else { return Ok(()) };
        self.fabric().disconnect(attached, ns)?;
        self.forget_name(&record.def.id, &live.id);
        self.store().write(|tx| tx.endpoint_delete(&live.id, &record.def.id))?;
        live.plugged.attached.remove(position);
        live.plugged.endpoints.remove(position);
        Ok(())
    }

    /// Makes everything else follow from the endpoints: default route, published ports, resolver, hosts file, and
    /// what a later engine is to know. `moved`: the first endpoint is not the one it was.
    fn settle(&self, live: &mut Live, ns: &NetNs, moved: bool, before: &BTreeSet<IpAddr>) -> Result<()> {
        let holder = self.holder(&live.plugged);
        if moved || holder != 0 {
            self.move_to(live, ns, holder)?;
        }
        let wishes = self.wished_networks(&live.spec)?;
        let names = wishes.iter().any(|(record, _)| record.serves_names());
        if live.plugged.dns || names {
            let settings = self.sandbox_dns(&live.spec, &wishes)?;
            if live.plugged.dns {
                self.fabric().dns().update(&live.id, settings);
            } else {
                self.fabric().dns().start(&live.id, ns, settings)?;
                live.plugged.dns = true;
                self.rewrite_resolv(&live.spec, &wishes, &live.fixed.paths)?;
            }
        }
        self.rewrite_hosts(live, before)?;
        self.remember_plugged(&live.fixed.paths.run_dir, &live.plugged)
    }

    /// The endpoint that is to have the default route, by the rule of starts.
    fn holder(&self, plugged: &Plugged) -> usize {
        let key = |(position, view): (usize, &crate::container::view::EndpointView)| {
            let internal = self.network_record(&view.network_id).is_ok_and(|r| r.def.internal);
            (internal, Reverse(view.gw_priority), view.network_name.clone(), position)
        };
        plugged.endpoints.iter().enumerate().map(key).min().map_or(0, |(.., position)| position)
    }

    /// Gives the endpoint at `holder` the first place, with the default route and the ports.
    fn move_to(&self, live: &mut Live, ns: &NetNs, holder: usize) -> Result<()> {
        if let Some(former) = live.plugged.attached.first() {
            self.fabric().unpublish(&former.endpoint)?;
        }
        live.plugged.ports.clear();
        let Plugged { attached, endpoints, .. } = &mut live.plugged;
        if holder < attached.len().min(endpoints.len()) {
            attached[..=holder].rotate_right(1);
            endpoints[..=holder].rotate_right(1);
        }
        let Some(first) = attached.first() else { return Ok(()) };
        let record = self.network_record(&first.network.to_string())?;
        self.fabric().set_gateway(ns, &Gateway::through(&record.def, first))?;
        let mut plugged = std::mem::take(&mut live.plugged);
        let published = self.publish_ports(&live.request(), &record, &mut plugged);
        live.plugged = plugged;
        published
    }

    fn rewrite_hosts(&self, live: &Live, before: &BTreeSet<IpAddr>) -> Result<()> {
        let (spec, now) = (&live.spec, live.addresses());
        change_hosts(&live.fixed.paths.dir.join("hosts"), |text| {
            barque_net::files::hosts::move_own(text, &spec.hostname, &spec.domainname, before, &now)
        })
    }

    fn rewrite_resolv(
        &self,
        spec: &ContainerSpec,
        wishes: &[(NetworkRecord, EndpointWish)],
        paths: &crate::container::request::ContainerPaths,
    ) -> Result<()> {
        let text = barque_net::files::resolv::resolv_conf(&self.resolv_plan(spec, wishes)?);
        let path = paths.dir.join("resolv.conf");
        std::fs::write(&path, text).with_context(|| format!("cannot change {}", path.display()))
    }
}

/// Bytes a hosts file may have: whoever is in the container can make it as long as they like.
const HOSTS_MAX: u64 = 16 << 20;

/// Changes a hosts file in place, as all such files: the container has the file itself mounted, not its name. Lines
/// that somebody else wrote stay.
///
/// Errors: InvalidArgument if it has grown too large to be held in memory.
pub(super) fn change_hosts(path: &Path, change: impl FnOnce(&str) -> String) -> Result<()> {
    let what = || format!("cannot change {}", path.display());
    let mut text = String::new();
    std::fs::File::open(path).and_then(|file| file.take(HOSTS_MAX + 1).read_to_string(&mut text)).with_context(what)?;
    if text.len() as u64 > HOSTS_MAX {
        return Err(Error::invalid(format!("{}: it has more than {HOSTS_MAX} bytes", what())));
    }
    let changed = change(&text);
    if changed == text { Ok(()) } else { std::fs::write(path, changed).with_context(what) }
}

fn took_effect(core: &mut Core, plugged: Plugged) {
    core.endpoints.clone_from(&plugged.endpoints);
    core.ports.clone_from(&plugged.ports);
    core.plugged = Some(plugged);
}
