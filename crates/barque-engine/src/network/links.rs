//! `--link` on the default bridge: hosts entries and environment variables about another container.

use std::net::IpAddr;
use std::sync::Arc;

use barque_model::{Error, ErrorKind, Result};

use crate::Engine;
use crate::container::driver::Core;
use crate::container::spec::{ContainerSpec, NetworkMode, PortProto};
use crate::container::view::ContainerView;
use crate::network::live::change_hosts;

/// A link to a running container.
#[derive(Clone, Debug)]
pub struct Link {
    pub alias: String,
    /// Name and short id of the target.
    pub name: String,
    pub short_id: String,
    pub address: IpAddr,
    pub ports: Vec<PortProto>,
    /// The target's own variables.
    pub env: Vec<String>,
}

impl Engine {
    /// Makes the targets of a new container's links ids, which no renaming changes. On user-defined networks links are
    /// names of the resolver, and stay as they are.
    pub(crate) fn resolve_links(&self, spec: &mut ContainerSpec) -> Result<()> {
        if spec.network.mode != NetworkMode::Default {
            return Ok(());
        }
        for text in &mut spec.network.links {
            let (target, alias) = parse(text);
            let alias = alias.to_owned();
            let mut view = self.linked(target)?;
            // Whose network it is in answers for it; a chain of these has an end, since each was there before the next.
            while let NetworkMode::Container(other) = &view.spec.network.mode {
                view = self.linked(other)?;
            }
            if view.spec.network.mode == NetworkMode::Host {
                return Err(Error::invalid(
                    "conflicting options: host type networking can't be used with links. This would result in \
                     undefined behavior",
                ));
            }
            *text = format!("{}:{alias}", view.id);
        }
        Ok(())
    }

    fn linked(&self, name: &str) -> Result<Arc<ContainerView>> {
        self.container(name).map_err(|e| e.context(format!("could not get container for {name}")))
    }

    /// The links of a container about to start.
    pub(crate) fn links_of(&self, core: &Core) -> Result<Vec<Link>> {
        if core.spec.network.mode != NetworkMode::Default {
            return Ok(Vec::new());
        }
        let there = core.spec.network.links.iter().filter_map(|text| self.link(&core.name, text).transpose());
        there.collect()
    }

    /// A container's links as `inspect` shows them: `/target:/own/alias`.
    pub fn shown_links(&self, view: &ContainerView) -> Vec<String> {
        let shown = |text: &String| {
            let (target, alias) = parse(text);
            let target = self.container(target).ok()?;
            Some(format!("/{}:/{}/{alias}", target.name, view.name))
        };
        view.spec.network.links.iter().filter_map(shown).collect()
    }

    /// Writes the new address of a container that has started into the hosts files of those that are linked to it.
    pub(crate) fn tell_linkers(&self, core: &Core) {
        let bridge = core.endpoints.iter().find(|e| e.network_name == "bridge");
        let Some(address) = bridge.and_then(|e| e.ipv4) else { return };
        let id = core.fixed.id.to_string();
        for view in self.containers().iter().filter(|v| v.state.is_running()) {
            if view.spec.network.links.iter().any(|text| parse(text).0 == id) {
                rewrite(view, |text| moved(text, &core.fixed.id.short(), Some(address)));
            }
        }
    }

    /// Takes a link off a container (`rm --link PARENT/ALIAS`).
    ///
    /// Errors: NotFound where there is no such link.
    pub async fn container_remove_link(&self, parent: &str, alias: &str) -> Result<()> {
        let missing = || Error::not_found(format!("No such container: {parent}/{alias}"));
        let handle = self.find(parent)?;
        let mut core = handle.lock().await;
        let mut spec = ContainerSpec::clone(&core.spec);
        let links = &mut spec.network.links;
        let position = links.iter().position(|text| parse(text).1 == alias).ok_or_else(missing)?;
        let removed = links.remove(position);
        let target = parse(&removed).0.get(..SHORT).unwrap_or_default().to_owned();
        core.spec = spec.into();
        self.save_spec(&core)?;
        handle.publish(&core);
        if core.task.is_some() && !target.is_empty() {
            rewrite(&core.view(), |text| moved(text, &target, None));
        }
        Ok(())
    }

    /// A link of a container to what runs; none to what has been removed.
    fn link(&self, own_name: &str, text: &str) -> Result<Option<Link>> {
        let (target, alias) = parse(text);
        let alias = alias.to_owned();
        let view = match self.container(target) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        if !view.state.is_running() {
            return Err(Error::conflict(format!(
                "Cannot link to a non running container: /{} AS /{own_name}/{alias}",
                view.name
            ))
            .with_hint(format!("start it first: barque start {}", view.name)));
        }
        let bridge = view.endpoints.iter().find(|e| e.network_name == "bridge");
        let address = bridge.and_then(|e| e.ipv4).ok_or_else(|| {
            Error::invalid(format!("Cannot link to /{}, as it does not belong to the default network", view.name))
        })?;
        let mut ports = view.spec.exposed_ports.clone();
        ports.sort();
        Ok(Some(Link {
            alias,
            name: view.name.clone(),
            short_id: view.id.short(),
            address,
            ports,
            env: view.spec.process.env.clone(),
        }))
    }
}

/// Characters of a short id.
const SHORT: usize = 12;

/// Target and alias of `target:alias`, `target` or Docker's `/target:/own/alias`.
pub(crate) fn parse(text: &str) -> (&str, &str) {
    let (target, alias) = text.split_once(':').unwrap_or((text, text));
    let alias = alias.rsplit('/').next().unwrap_or(alias);
    (target.trim_start_matches('/'), alias)
}

/// A hosts file with another address for the container of this short id, or without it.
fn moved(text: &str, short_id: &str, address: Option<IpAddr>) -> String {
    let mut changed = String::with_capacity(text.len());
    for line in text.lines() {
        let names = line.split_once(char::is_whitespace).map_or("", |(_, names)| names);
        match (names.split_whitespace().any(|name| name == short_id), address) {
            (true, None) => continue,
            (true, Some(address)) => changed.push_str(&format!("{address}\t{}", names.trim_start())),
            (false, _) => changed.push_str(line),
        }
        changed.push('\n');
    }
    changed
}

fn rewrite(view: &ContainerView, change: impl Fn(&str) -> String) {
    if let Err(e) = change_hosts(&view.hosts_path, change) {
        tracing::warn!("{}", e.chain());
    }
}

impl Link {
    /// Address and names for the hosts file.
    pub fn hosts_line(&self) -> (IpAddr, Vec<String>) {
        let mut names = vec![self.alias.clone(), self.short_id.clone()];
        if self.name != self.alias {
            names.push(self.name.clone());
        }
        (self.address, names)
    }

    /// `ALIAS_PORT_5000_TCP_ADDR` and the like, for the container `own_name`.
    pub fn environment(&self, own_name: &str) -> Vec<String> {
        let prefix = self.alias.replace('-', "_").to_ascii_uppercase();
        let mut env = Vec::new();
        let url = |p: &PortProto| format!("{}://{}:{}", p.proto, self.address, p.port);
        if let Some(first) = self.ports.first() {
            env.push(format!("{prefix}_PORT={}", url(first)));
        }
        for port in &self.ports {
            let name = format!("{prefix}_PORT_{}_{}", port.port, port.proto.to_ascii_uppercase());
            env.push(format!("{name}={}", url(port)));
            env.push(format!("{name}_ADDR={}", self.address));
            env.push(format!("{name}_PORT={}", port.port));
            env.push(format!("{name}_PROTO={}", port.proto));
        }
        env.push(format!("{prefix}_NAME=/{own_name}/{}", self.alias));
        for entry in &self.env {
            match entry.split_once('=') {
                None | Some(("HOME" | "PATH", _)) => {}
                Some((key, value)) => env.push(format!("{prefix}_ENV_{key}={value}")),
            }
        }
        env
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_follow_the_target() {
        let text = "127.0.0.1\tlocalhost\n172.17.0.2\tdb 0123456789ab db1\n172.17.0.3\tme\n";
        let moved_text = moved(text, "0123456789ab", Some("172.17.0.9".parse().unwrap()));
        assert_eq!(moved_text, "127.0.0.1\tlocalhost\n172.17.0.9\tdb 0123456789ab db1\n172.17.0.3\tme\n");
        assert_eq!(moved(text, "0123456789ab", None), "127.0.0.1\tlocalhost\n172.17.0.3\tme\n");
        assert_eq!(moved(text, "ffffffffffff", None), text);
    }

    #[test]
    fn links_in_every_form() {
        assert_eq!(parse("db:ap"), ("db", "ap"));
        assert_eq!(parse("db"), ("db", "db"));
        assert_eq!(parse("/db1:/ap1/db"), ("db1", "db"));
    }

    #[test]
    fn variables_are_dockers() {
        let link = Link {
            alias: "alias-for_two".into(),
            name: "two".into(),
            short_id: "0123456789ab".into(),
            address: "172.17.0.3".parse().unwrap(),
            ports: vec![PortProto { port: 5000, proto: "tcp".into() }],
            env: vec!["PATH=/bin".into(), "A=b".into()],
        };
        assert_eq!(
            link.environment("three"),
            [
                "ALIAS_FOR_TWO_PORT=tcp://172.17.0.3:5000",
                "ALIAS_FOR_TWO_PORT_5000_TCP=tcp://172.17.0.3:5000",
                "ALIAS_FOR_TWO_PORT_5000_TCP_ADDR=172.17.0.3",
                "ALIAS_FOR_TWO_PORT_5000_TCP_PORT=5000",
                "ALIAS_FOR_TWO_PORT_5000_TCP_PROTO=tcp",
                "ALIAS_FOR_TWO_NAME=/three/alias-for_two",
                "ALIAS_FOR_TWO_ENV_A=b",
            ]
        );
        assert_eq!(link.hosts_line().1, ["alias-for_two", "0123456789ab", "two"]);
    }
}
