//! Exposed and published ports.

use std::collections::BTreeMap;

use barque_api::container::{PortBinding, PortMap, PortSummary};
use barque_api::json::{Set, set};
use barque_engine::container::merge::parse_ports;
use barque_engine::container::spec::{PortProto, PortWish};
use barque_engine::container::view::ContainerView;
use barque_model::{Error, Result};

use super::address;

/// The keys of `ExposedPorts`.
pub(crate) fn exposed(ports: Option<&Set>) -> Result<Vec<PortProto>> {
    let mut all = Vec::new();
    for key in ports.into_iter().flat_map(BTreeMap::keys) {
        for port in parse_ports(key)? {
            if !all.contains(&port) {
                all.push(port);
            }
        }
    }
    Ok(all)
}

/// `PortBindings`; an exposed port without a binding wishes for any free host port.
pub(crate) fn wishes(bindings: Option<&PortMap>) -> Result<Vec<PortWish>> {
    let mut wishes = Vec::new();
    for (key, bindings) in bindings.into_iter().flatten() {
        let bindings = bindings.as_deref().unwrap_or_default();
        let any = [PortBinding::default()];
        for container in parse_ports(key)? {
            for binding in if bindings.is_empty() { &any[..] } else { bindings } {
                wishes.push(PortWish {
                    container: container.clone(),
                    host_ip: address(&binding.host_ip, "host IP")?,
                    host_ports: host_ports(&binding.host_port)?,
                });
            }
        }
    }
    Ok(wishes)
}

/// `8080`, `8000-8010`; empty and 0 are any.
fn host_ports(text: &str) -> Result<Option<(u16, u16)>> {
    let invalid = || Error::invalid(format!("invalid port specification: \"{text}\""));
    if text.is_empty() {
        return Ok(None);
    }
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let number = |text: &str| text.parse::<u16>().map_err(|_| invalid());
    match (number(first)?, number(last)?) {
        (0, 0) => Ok(None),
        (first, last) if first <= last && first > 0 => Ok(Some((first, last))),
        _ => Err(invalid()),
    }
}

pub(crate) fn exposed_set(ports: &[PortProto]) -> Option<Set> {
    (!ports.is_empty()).then(|| set(ports.iter().map(PortProto::to_string)))
}

/// `NetworkSettings.Ports`: every exposed port of a running container, with its bindings.
pub(crate) fn in_force(view: &ContainerView) -> PortMap {
    let mut map = PortMap::new();
    if !view.state.is_running() {
        return map;
    }
    for port in &view.spec.exposed_ports {
        map.entry(port.to_string()).or_default();
    }
    for port in &view.ports {
        map.entry(port.container.to_string())
            .or_default()
            .get_or_insert_default()
            .push(PortBinding { host_ip: port.host_ip.to_string(), host_port: port.host_port.to_string() });
    }
    map
}

/// `Ports` of a list.
pub(crate) fn summaries(view: &ContainerView) -> Vec<PortSummary> {
    let mut rows: Vec<PortSummary> = Vec::new();
    if !view.state.is_running() {
        return rows;
    }
    for port in &view.ports {
        rows.push(PortSummary {
            ip: port.host_ip.to_string(),
            private_port: port.container.port,
            public_port: port.host_port,
            kind: port.container.proto.clone(),
        });
    }
    let published: Vec<_> = view.ports.iter().map(|port| &port.container).collect();
    for port in view.spec.exposed_ports.iter().filter(|port| !published.contains(port)) {
        rows.push(PortSummary { private_port: port.port, kind: port.proto.clone(), ..PortSummary::default() });
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(json: &str) -> Result<Vec<PortWish>> {
        wishes(Some(&barque_api::json::from_str::<PortMap>(json).unwrap()))
    }

    #[test]
    fn bindings() {
        let list =
            of(r#"{"80/tcp":[{"HostIp":"127.0.0.1","HostPort":"8080"},{"HostPort":"9000-9010"}],"53/udp":null}"#);
        let list = list.unwrap();
        assert_eq!(list.len(), 3);
        assert_eq!((list[0].container.to_string().as_str(), list[0].host_ports), ("53/udp", None));
        assert_eq!(list[1].host_ip, Some([127, 0, 0, 1].into()));
        assert_eq!(list[2].host_ports, Some((9000, 9010)));
    }

    #[test]
    fn malformed_bindings() {
        for bad in [
            r#"{"x/tcp":[]}"#,
            r#"{"80/tcp":[{"HostPort":"a"}]}"#,
            r#"{"80/tcp":[{"HostPort":"9-8"}]}"#,
            r#"{"80/tcp":[{"HostPort":"70000"}]}"#,
            r#"{"80/tcp":[{"HostIp":"me"}]}"#,
        ] {
            assert!(of(bad).is_err(), "{bad}");
        }
    }
}
