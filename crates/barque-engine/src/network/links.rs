//! `--link` on the default bridge: hosts entries and environment variables about another container.

use std::net::IpAddr;

use barque_model::{Error, Result};

use crate::Engine;
use crate::container::driver::Core;
use crate::container::spec::{NetworkMode, PortProto};

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
    /// The links of a container about to start. On user-defined networks links are names of the resolver.
    pub(crate) fn links_of(&self, core: &Core) -> Result<Vec<Link>> {
        if core.spec.network.mode != NetworkMode::Default {
            return Ok(Vec::new());
        }
        core.spec.network.links.iter().map(|text| self.link(&core.name, text)).collect()
    }

    fn link(&self, own_name: &str, text: &str) -> Result<Link> {
        let (target, alias) = text.split_once(':').unwrap_or((text, text));
        let target = target.trim_start_matches('/');
        let alias = alias.trim_start_matches('/').rsplit('/').next().unwrap_or(alias).to_owned();
        let view = self.container(target).map_err(|e| e.context(format!("could not get container for {target}")))?;
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
        Ok(Link {
            alias,
            name: view.name.clone(),
            short_id: view.id.short(),
            address,
            ports,
            env: view.spec.process.env.clone(),
        })
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
