//! Plugging a container into its networks at its start, and out again at its end.
//!
//! Addresses are rows: chosen and written in one transaction, so that two starts never get the same one.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use barque_model::{Error, Id, Result};
use barque_net::dns::{NameEntry, SandboxDns};
use barque_net::files::hosts::{HostsPlan, hosts};
use barque_net::files::resolv::{ResolvConf, ResolvPlan, resolv_conf, upstreams};
use barque_net::{Attached, EndpointDef, Mac, NetNs, PortRequest, Target};
use ipnet::IpNet;

use super::endpoint::{InterfaceOptions, on_link, outside};
use super::record::NetworkRecord;
use crate::Engine;
use crate::container::request::ContainerPaths;
use crate::container::spec::{ContainerSpec, EndpointWish, NetworkMode};
use crate::container::view::{EndpointView, PublishedPort};

/// What a running container has plugged in.
#[derive(Debug, Default)]
pub struct Plugged {
    /// Held until the first process runs, then dropped: the process keeps the namespace.
    pub ns: Option<NetNs>,
    pub attached: Vec<Attached>,
    pub endpoints: Vec<EndpointView>,
    pub ports: Vec<PublishedPort>,
    /// The embedded resolver serves it.
    pub dns: bool,
}

impl Plugged {
    /// A copy of what a running container has; it holds its namespace itself.
    pub(super) fn of_running(&self) -> Plugged {
        Plugged {
            ns: None,
            attached: self.attached.clone(),
            endpoints: self.endpoints.clone(),
            ports: self.ports.clone(),
            dns: self.dns,
        }
    }
}

/// What is needed to know of a container to plug it in.
pub struct PlugRequest<'a> {
    pub id: Id,
    pub name: &'a str,
    pub spec: &'a ContainerSpec,
    pub paths: &'a ContainerPaths,
    pub hostname: &'a str,
    /// Addresses and names of `--link` targets on the default bridge.
    pub links: Vec<(IpAddr, Vec<String>)>,
    /// No row of a container stands for it: a build step. Its addresses are held in memory.
    pub transient: bool,
}

impl Engine {
    /// The networks a definition names, the one with the default route first.
    pub(crate) fn wished_networks(&self, spec: &ContainerSpec) -> Result<Vec<(NetworkRecord, EndpointWish)>> {
        let mut wishes: Vec<(NetworkRecord, EndpointWish)> = Vec::new();
        let main = match &spec.network.mode {
            NetworkMode::Default => Some("bridge"),
            NetworkMode::Named(name) => Some(name.as_str()),
            NetworkMode::Host | NetworkMode::None | NetworkMode::Container(_) => None,
        };
        if let Some(name) = main {
            wishes.push((Engine::joinable(self.network_record(name)?)?, EndpointWish::default()));
        }
        for wish in &spec.network.endpoints {
            let record = Engine::joinable(self.network_record(&wish.network)?)?;
            match wishes.iter_mut().find(|(r, _)| r.def.id == record.def.id) {
                Some((_, present)) => *present = wish.clone(),
                None => wishes.push((record, wish.clone())),
            }
        }
        // Docker: the highest priority has the default route, of equals the first by name; internal networks have none.
        wishes.sort_by_cached_key(|(r, w)| (r.def.internal, std::cmp::Reverse(w.gw_priority), r.def.name.clone()));
        Ok(wishes)
    }

    /// Gives a starting container its namespace, interfaces, ports, names and files. Blocking.
    /// On error nothing stays behind.
    pub(crate) fn plug(&self, request: &PlugRequest<'_>) -> Result<Plugged> {
        let wishes = self.wished_networks(request.spec)?;
        let mut plugged = Plugged::default();
        let result = self.plug_all(request, &wishes, &mut plugged);
        if let Err(e) = result {
            self.unplug_blocking(&request.id, &mut plugged);
            return Err(e);
        }
        Ok(plugged)
    }

    fn plug_all(
        &self,
        request: &PlugRequest<'_>,
        wishes: &[(NetworkRecord, EndpointWish)],
        plugged: &mut Plugged,
    ) -> Result<()> {
        if request.spec.network.mode != NetworkMode::Host {
            plugged.ns = Some(self.fabric().netns(wishes.first().map(|(r, _)| &r.def))?);
        }
        for (index, (record, wish)) in wishes.iter().enumerate() {
            let (attached, view) = self.plug_one(request, record, wish, index == 0, plugged.ns.as_ref())?;
            plugged.endpoints.push(view);
            plugged.attached.push(attached);
        }
        if let Some((record, _)) = wishes.first() {
            self.publish_ports(request, record, plugged)?;
        }
        self.write_files(request, wishes, plugged)?;
        self.serve_names(request, wishes, plugged)
    }

    /// One more network, at the start or while it runs.
    pub(crate) fn plug_one(
        &self,
        request: &PlugRequest<'_>,
        record: &NetworkRecord,
        wish: &EndpointWish,
        default_gateway: bool,
        ns: Option<&NetNs>,
    ) -> Result<(Attached, EndpointView)> {
        let ns = ns.ok_or_else(|| Error::internal("no network namespace to plug into"))?;
        let options = InterfaceOptions::parse(&wish.driver_opts)?;
        // First: from here on the network cannot be removed, and devices are not made for one that has been.
        let (v4, v6, mac) = self.allocate(request, record, wish)?;
        let endpoint_id = Id::random();
        let InterfaceOptions { ifname, sysctls } = options;
        let on_link = wish.link_local.iter().map(|ip| on_link(*ip)).collect();
        let definition = EndpointDef { id: endpoint_id, v4, v6, mac, ifname, default_gateway, sysctls, on_link };
        let ready = self.fabric().ensure_network(&record.def);
        let attached = match ready.and_then(|()| self.fabric().attach(&record.def, &definition, ns)) {
            Ok(attached) => attached,
            Err(e) => {
                self.free_addresses(&request.id, &[record.def.id]);
                return Err(e);
            }
        };
        let view = endpoint_view(request, record, wish, &attached);
        Ok((attached, view))
    }

    fn allocate(
        &self,
        request: &PlugRequest<'_>,
        record: &NetworkRecord,
        wish: &EndpointWish,
    ) -> Result<(Option<Ipv4Addr>, Option<Ipv6Addr>, Option<Mac>)> {
        let wanted_mac = wish.mac_address.as_deref().or(request.spec.network.mac_address.as_deref());
        let mac: Option<Mac> = wanted_mac.map(str::parse).transpose()?;
        let def = &record.def;
        self.store().write(|tx| {
            let mut used = self.used_addresses(tx.endpoints_of_network(&def.id)?, &request.id);
            used.extend(self.networks_state().held(&def.id));
            let pick = |v4: bool, wanted: Option<IpAddr>| -> Result<Option<IpAddr>> {
                let mut last = None;
                for pool in def.pools.iter().filter(|p| p.subnet.addr().is_ipv4() == v4) {
                    if wanted.is_some_and(|w| !pool.subnet.contains(&w)) {
                        continue;
                    }
                    match barque_net::ipam::choose_address(&def.name, pool, &used, wanted) {
                        Ok(address) => return Ok(Some(address)),
                        Err(e) => last = Some(e),
                    }
                }
                match (last, wanted) {
                    (Some(e), _) => Err(e),
                    (None, Some(w)) => Err(outside(&def.name, w)),
                    (None, None) => Ok(None),
                }
            };
            let v4 = match pick(true, wish.ipv4)? {
                Some(IpAddr::V4(a)) => Some(a),
                _ => None,
            };
            let v6 = match pick(false, wish.ipv6)? {
                Some(IpAddr::V6(a)) => Some(a),
                _ => None,
            };
            if request.transient {
                if tx.network(&def.id)?.is_none() {
                    return Err(Error::not_found(format!("network {} not found", def.name)));
                }
                self.networks_state().hold(&request.id, &def.id, v4, v6);
                return Ok((v4, v6, mac));
            }
            tx.endpoint_put(&barque_store::Endpoint {
                container: request.id,
                network: def.id,
                ip4: v4,
                ip6: v6,
                mac: None,
                definition: "{}".into(),
            })?;
            Ok((v4, v6, mac))
        })
    }

    /// Addresses of a network with the names of those who have them.
    fn used_addresses(&self, endpoints: Vec<barque_store::Endpoint>, own: &Id) -> Vec<(IpAddr, String)> {
        let mut used = Vec::with_capacity(endpoints.len());
        for e in endpoints.into_iter().filter(|e| e.container != *own) {
            let owner = self.container_name(&e.container);
            used.extend(e.ip4.map(|a| (IpAddr::V4(a), owner.clone())));
            used.extend(e.ip6.map(|a| (IpAddr::V6(a), owner.clone())));
        }
        used
    }

    fn free_addresses(&self, container: &Id, networks: &[Id]) {
        if self.networks_state().let_go(container) || networks.is_empty() {
            return;
        }
        let freed =
            self.store().write(|tx| networks.iter().try_for_each(|network| tx.endpoint_delete(container, network)));
        if let Err(e) = freed {
            tracing::error!("cannot free addresses: {}", e.chain());
        }
    }

    /// Opens the ports a definition asks for at the first endpoint, which is in `record`.
    pub(super) fn publish_ports(
        &self,
        request: &PlugRequest<'_>,
        record: &NetworkRecord,
        plugged: &mut Plugged,
    ) -> Result<()> {
        let wishes = port_requests(request.spec)?;
        if wishes.is_empty() || record.def.bridge().is_none() {
            return Ok(());
        }
        let Some(first) = plugged.attached.first() else { return Ok(()) };
        let reservation = self.fabric().reserve(request.name, &record.def, &wishes)?;
        let ports = reservation.bindings().iter().map(published_port).collect();
        let target = Target { v4: first.v4.map(|n| n.addr()), v6: first.v6.map(|n| n.addr()) };
        self.fabric().publish(&record.def, &first.endpoint, target, reservation)?;
        plugged.ports = ports;
        Ok(())
    }

    /// hosts, hostname and resolv.conf in the container's directory.
    fn write_files(
        &self,
        request: &PlugRequest<'_>,
        wishes: &[(NetworkRecord, EndpointWish)],
        plugged: &Plugged,
    ) -> Result<()> {
        let plan = self.resolv_plan(request.spec, wishes)?;
        let text = match request.spec.network.mode {
            NetworkMode::Host => self.host_hosts(request)?,
            _ => hosts(&HostsPlan {
                hostname: request.hostname.to_owned(),
                domainname: request.spec.domainname.clone(),
                addresses: addresses(&plugged.endpoints),
                extra: self.extra_hosts(request.spec, wishes)?,
                links: request.links.clone(),
                ipv6: true,
            }),
        };
        let dir = &request.paths.dir;
        write(dir, "hosts", &text)?;
        write(dir, "resolv.conf", &resolv_conf(&plan))?;
        write(dir, "hostname", &barque_net::files::hosts::hostname(request.hostname))
    }

    /// The machine's own hosts file with `--add-host` appended.
    fn host_hosts(&self, request: &PlugRequest<'_>) -> Result<String> {
        let mut text = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
        for (name, address) in self.extra_hosts(request.spec, &[])? {
            text.push_str(&format!("{address}\t{name}\n"));
        }
        Ok(text)
    }

    fn extra_hosts(
        &self,
        spec: &ContainerSpec,
        wishes: &[(NetworkRecord, EndpointWish)],
    ) -> Result<Vec<(String, IpAddr)>> {
        let gateway = self.host_gateway(wishes);
        let mut extra = Vec::new();
        for entry in &spec.network.extra_hosts {
            extra.extend(barque_net::files::hosts::parse_extra_host(entry, &gateway)?);
        }
        let named = extra.iter().any(|(name, _)| name == HOST_NAME);
        if !named && let Some(address) = gateway.first() {
            extra.push((HOST_NAME.to_owned(), *address));
        }
        Ok(extra)
    }

    /// Where containers reach this machine: configured, else the default bridge's, else their own network's gateway.
    fn host_gateway(&self, wishes: &[(NetworkRecord, EndpointWish)]) -> Vec<IpAddr> {
        if let Some(ip) = self.config().network.host_gateway_ip {
            return vec![ip];
        }
        let own = wishes.iter().find_map(|(r, _)| r.def.host_address());
        let bridge = || self.network_record("bridge").ok().and_then(|r| r.def.host_address());
        own.or_else(bridge).into_iter().collect()
    }

    pub(crate) fn resolv_plan(
        &self,
        spec: &ContainerSpec,
        wishes: &[(NetworkRecord, EndpointWish)],
    ) -> Result<ResolvPlan> {
        let settings = &self.config().network;
        let or = |own: &Vec<String>, general: &Vec<String>| if own.is_empty() { general.clone() } else { own.clone() };
        Ok(ResolvPlan {
            host: host_resolv_conf(),
            dns: if spec.network.dns.is_empty() { settings.dns.clone() } else { spec.network.dns.clone() },
            search: or(&spec.network.dns_search, &settings.dns_search),
            options: or(&spec.network.dns_options, &settings.dns_options),
            embedded: wishes.iter().any(|(r, _)| r.serves_names()),
            host_network: spec.network.mode == NetworkMode::Host,
            ipv6: true,
        })
    }

    /// Makes the container known by its names, and answers its own questions.
    fn serve_names(
        &self,
        request: &PlugRequest<'_>,
        wishes: &[(NetworkRecord, EndpointWish)],
        plugged: &mut Plugged,
    ) -> Result<()> {
        for (record, view) in wishes.iter().map(|(r, _)| r).zip(&plugged.endpoints) {
            if record.serves_names() {
                self.set_name(&record.def, &request.id, Some(name_entry(view)));
            }
        }
        if !wishes.iter().any(|(r, _)| r.serves_names()) {
            return Ok(());
        }
        let settings = self.sandbox_dns(request.spec, wishes)?;
        let Some(ns) = &plugged.ns else { return Ok(()) };
        self.fabric().dns().start(&request.id, ns, settings)?;
        plugged.dns = true;
        Ok(())
    }

    pub(crate) fn sandbox_dns(
        &self,
        spec: &ContainerSpec,
        wishes: &[(NetworkRecord, EndpointWish)],
    ) -> Result<SandboxDns> {
        let link = |l: &String| {
            let (name, alias) = super::links::parse(l);
            // Of ids the resolver knows the short ones.
            let id = name.len() == 64 && name.bytes().all(|b| b.is_ascii_hexdigit());
            (alias.to_owned(), name[..if id { 12 } else { name.len() }].to_owned())
        };
        let own = wishes.iter().flat_map(|(_, w)| w.links.iter());
        Ok(SandboxDns {
            networks: wishes.iter().filter(|(r, _)| r.serves_names()).map(|(r, _)| r.def.id).collect(),
            links: own.chain(&spec.network.links).map(link).collect(),
            hosts: self.extra_hosts(spec, wishes)?,
            upstreams: upstreams(&self.resolv_plan(spec, wishes)?),
            forward: wishes.iter().any(|(r, _)| !r.def.internal),
            // A server of its own wants port 53.
            redirect: spec.exposed_ports.iter().any(|p| p.port == DNS_PORT)
                || spec.network.ports.iter().any(|p| p.container.port == DNS_PORT),
        })
    }

    /// Takes a container off all its networks. Never fails for what is already gone. Blocking.
    pub(crate) fn unplug_blocking(&self, container: &Id, plugged: &mut Plugged) {
        if plugged.dns {
            self.fabric().dns().stop(container);
        }
        for attached in &plugged.attached {
            if let Err(e) = self.fabric().release(attached) {
                tracing::warn!(%container, "cannot release an endpoint: {}", e.chain());
            }
        }
        let networks: Vec<Id> = plugged.attached.iter().map(|a| a.network).collect();
        for network in &networks {
            self.forget_name(network, container);
        }
        self.free_addresses(container, &networks);
        *plugged = Plugged::default();
    }
}

/// The machine itself, by name, in every container.
const HOST_NAME: &str = "host.docker.internal";
const DNS_PORT: u16 = 53;

/// The machine's resolver configuration; behind systemd-resolved's stub, the servers it asks.
pub fn host_resolv_conf() -> ResolvConf {
    let read = |path: &str| ResolvConf::parse(&std::fs::read_to_string(path).unwrap_or_default());
    let conf = read("/etc/resolv.conf");
    if conf.is_resolved_stub() { read("/run/systemd/resolve/resolv.conf") } else { conf }
}

fn write(dir: &std::path::Path, name: &str, text: &str) -> Result<()> {
    use barque_model::Context;
    let path = dir.join(name);
    std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
}

fn addresses(endpoints: &[EndpointView]) -> Vec<IpAddr> {
    endpoints.iter().flat_map(|e| e.ipv4.into_iter().chain(e.ipv6)).collect()
}

/// The names of an endpoint for the resolver.
pub fn name_entry(view: &EndpointView) -> NameEntry {
    let v4 = match view.ipv4 {
        Some(IpAddr::V4(a)) => Some(a),
        _ => None,
    };
    let v6 = match view.ipv6 {
        Some(IpAddr::V6(a)) => Some(a),
        _ => None,
    };
    NameEntry { names: view.dns_names.clone(), v4, v6 }
}

fn published_port(binding: &barque_net::PortBinding) -> PublishedPort {
    PublishedPort {
        container: crate::container::spec::PortProto { port: binding.container_port, proto: binding.proto.to_string() },
        host_ip: binding.host_ip,
        host_port: binding.host_port,
    }
}

fn port_requests(spec: &ContainerSpec) -> Result<Vec<PortRequest>> {
    let mut requests = Vec::new();
    for wish in &spec.network.ports {
        requests.push(PortRequest {
            container_port: wish.container.port,
            proto: wish.container.proto.parse()?,
            host_ip: wish.host_ip,
            host_ports: wish.host_ports,
        });
    }
    if spec.network.publish_all {
        for port in &spec.exposed_ports {
            if !spec.network.ports.iter().any(|w| w.container == *port) {
                requests.push(PortRequest {
                    container_port: port.port,
                    proto: port.proto.parse()?,
                    host_ip: None,
                    host_ports: None,
                });
            }
        }
    }
    Ok(requests)
}

fn endpoint_view(
    request: &PlugRequest<'_>,
    record: &NetworkRecord,
    wish: &EndpointWish,
    attached: &Attached,
) -> EndpointView {
    let mut names = Vec::new();
    if record.serves_names() {
        names.push(request.name.to_owned());
        names.extend(wish.aliases.iter().cloned());
        names.push(request.id.short());
        if !request.spec.hostname.is_empty() {
            names.push(request.spec.hostname.clone());
        }
        let mut seen = std::collections::BTreeSet::new();
        names.retain(|n| seen.insert(n.clone()));
    }
    EndpointView {
        network_id: record.def.id.to_string(),
        network_name: record.def.name.clone(),
        endpoint_id: attached.endpoint.to_string(),
        gateway: attached.gateway_v4.map(IpAddr::V4),
        gateway6: attached.gateway_v6.map(IpAddr::V6),
        ipv4: attached.v4.map(|n| IpAddr::V4(n.addr())),
        prefix4: attached.v4.map_or(0, |n| IpNet::V4(n).prefix_len()),
        ipv6: attached.v6.map(|n| IpAddr::V6(n.addr())),
        prefix6: attached.v6.map_or(0, |n| IpNet::V6(n).prefix_len()),
        mac: attached.mac.to_string(),
        wanted_ipv4: wish.ipv4,
        wanted_ipv6: wish.ipv6,
        wanted_link_local: wish.link_local.clone(),
        aliases: wish.aliases.clone(),
        dns_names: names,
        links: wish.links.clone(),
        driver_opts: wish.driver_opts.clone(),
        gw_priority: wish.gw_priority,
    }
}

/// The endpoint of a container that does not run: names and wishes without addresses.
pub fn idle_endpoint(record: &NetworkRecord, wish: &EndpointWish) -> EndpointView {
    EndpointView {
        network_id: record.def.id.to_string(),
        network_name: record.def.name.clone(),
        wanted_ipv4: wish.ipv4,
        wanted_ipv6: wish.ipv6,
        wanted_link_local: wish.link_local.clone(),
        aliases: wish.aliases.clone(),
        links: wish.links.clone(),
        driver_opts: wish.driver_opts.clone(),
        gw_priority: wish.gw_priority,
        ..EndpointView::default()
    }
}

/// Names by network and container.
pub type Names = BTreeMap<Id, BTreeMap<Id, NameEntry>>;
