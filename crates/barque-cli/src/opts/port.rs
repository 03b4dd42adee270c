//! `-p`: `[ADDRESS:][HOST[-HOST]:]CONTAINER[-CONTAINER][/PROTOCOL]`, and `--expose`.

use std::net::IpAddr;

/// One published port; several come from one range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Published {
    /// `80/tcp`.
    pub(crate) port: String,
    pub(crate) host_ip: String,
    /// Empty: any free port; `8000-8010`: any of these.
    pub(crate) host_port: String,
}

/// Reads a `-p` value, in the short form or as `published=…,target=…,protocol=…`.
pub(crate) fn publish(text: &str) -> Result<Vec<Published>, String> {
    if text.contains('=') { short_form(&long_form(text)?) } else { short_form(text) }
}

fn long_form(text: &str) -> Result<String, String> {
    let (mut published, mut target, mut protocol) = ("", "", "tcp");
    for part in text.split(',') {
        match part.split_once('=') {
            Some(("published", value)) => published = value,
            Some(("target", value)) => target = value,
            Some(("protocol", value)) => protocol = value,
            Some((key, _)) if !key.is_empty() => {}
            _ => return Err(format!("invalid publish opts format (should be name=value but got '{part}')")),
        }
    }
    Ok(format!("{published}:{target}/{protocol}"))
}

fn short_form(text: &str) -> Result<Vec<Published>, String> {
    let (ip, host, container) = split(text);
    let (container, protocol) = port_and_protocol(container);
    let ip = address(ip)?;
    if container.is_empty() {
        return Err(format!("no port specified: {text}<empty>"));
    }
    let (first, last) = range(container).map_err(|_| format!("invalid containerPort: {container}"))?;
    let hosts = match host {
        "" => None,
        host => Some(range(host).map_err(|_| format!("invalid hostPort: {host}"))?),
    };
    if let Some((low, high)) = hosts
        && last - first != high - low
        && last != first
    {
        return Err(format!("invalid ranges specified for container and host Ports: {container} and {host}"));
    }
    let protocol = protocol.to_lowercase();
    if !["tcp", "udp", "sctp"].contains(&protocol.as_str()) {
        return Err(format!("invalid proto: {protocol}"));
    }
    let one = |offset: u16| Published {
        port: format!("{}/{protocol}", first + offset),
        host_ip: ip.clone(),
        host_port: match hosts {
            None => String::new(),
            // One container port for a range of host ports: the engine picks a free one.
            Some((low, high)) if first == last && low != high => format!("{low}-{high}"),
            Some((low, _)) => (low + offset).to_string(),
        },
    };
    Ok((0..=last - first).map(one).collect())
}

/// Address, host port and container port; an IPv6 address may hold colons of its own.
fn split(text: &str) -> (&str, &str, &str) {
    let Some((front, container)) = text.rsplit_once(':') else { return ("", "", text) };
    match front.rsplit_once(':') {
        Some((ip, host)) => (ip, host, container),
        None => ("", front, container),
    }
}

/// The address without its brackets.
fn address(ip: &str) -> Result<String, String> {
    if ip.is_empty() {
        return Ok(String::new());
    }
    let bare = match ip.strip_prefix('[') {
        Some(rest) => rest
            .strip_suffix(']')
            .ok_or_else(|| format!("invalid IP address {ip}: address {ip}:: missing ']' in address"))?,
        None => ip,
    };
    match bare.parse::<IpAddr>() {
        Ok(_) => Ok(bare.to_owned()),
        Err(_) => Err(format!("invalid IP address: {bare}")),
    }
}

/// `80/udp` as port and protocol; TCP where none is given.
pub(crate) fn port_and_protocol(text: &str) -> (&str, &str) {
    match text.split_once('/') {
        Some((port, protocol)) => {
            let protocol = protocol.split('/').next().unwrap_or_default();
            (port, if protocol.is_empty() { "tcp" } else { protocol })
        }
        None => (text, "tcp"),
    }
}

/// `8000` or `8000-8010`, both ends included.
pub(crate) fn range(text: &str) -> Result<(u16, u16), String> {
    if text.is_empty() {
        return Err("empty string specified for ports".into());
    }
    let number = |s: &str| {
        let digits = !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
        let reason = if digits { "value out of range" } else { "invalid syntax" };
        let number = if digits { s.parse().ok() } else { None };
        number.ok_or_else(|| format!("strconv.ParseUint: parsing {s:?}: {reason}"))
    };
    let mut parts = text.split('-');
    let first = number(parts.next().unwrap_or_default())?;
    let last = parts.next().map_or(Ok(first), number)?;
    if last < first {
        return Err(format!("invalid range specified for port: {text}"));
    }
    Ok((first, last))
}

/// Reads an `--expose` value.
pub(crate) fn expose(text: &str) -> Result<Vec<String>, String> {
    if text.contains(':') {
        return Err(format!("invalid port format for --expose: {text}"));
    }
    let (port, protocol) = port_and_protocol(text);
    let (first, last) =
        range(port).map_err(|reason| format!("invalid range format for --expose: {text}, error: {reason}"))?;
    Ok((first..=last).map(|number| format!("{number}/{protocol}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flat(text: &str) -> Vec<String> {
        let ports = publish(text).expect(text);
        ports.iter().map(|p| format!("{}|{}|{}", p.host_ip, p.host_port, p.port)).collect()
    }

    #[test]
    fn every_form() {
        assert_eq!(flat("80"), ["||80/tcp"]);
        assert_eq!(flat("8080:80"), ["|8080|80/tcp"]);
        assert_eq!(flat("8080:80/UDP"), ["|8080|80/udp"]);
        assert_eq!(flat("127.0.0.1:8080:80"), ["127.0.0.1|8080|80/tcp"]);
        assert_eq!(flat("127.0.0.1::80"), ["127.0.0.1||80/tcp"]);
        assert_eq!(flat("[::1]:8080:80"), ["::1|8080|80/tcp"]);
        assert_eq!(flat("::1:8080:80"), ["::1|8080|80/tcp"]);
        assert_eq!(flat("8000-8001:80-81"), ["|8000|80/tcp", "|8001|81/tcp"]);
        assert_eq!(flat("8000-8010:80"), ["|8000-8010|80/tcp"]);
        assert_eq!(flat("3000-3001/sctp"), ["||3000/sctp", "||3001/sctp"]);
        assert_eq!(flat("published=8080,target=80,protocol=udp"), ["|8080|80/udp"]);
    }

    #[test]
    fn faults() {
        let fault = |text| publish(text).unwrap_err();
        assert_eq!(fault("abc"), "invalid containerPort: abc");
        assert_eq!(fault("x:80"), "invalid hostPort: x");
        assert_eq!(fault("1.2.3:80:80"), "invalid IP address: 1.2.3");
        assert_eq!(fault("8080:"), "no port specified: 8080:<empty>");
        assert_eq!(fault("1-3:1-2"), "invalid ranges specified for container and host Ports: 1-2 and 1-3");
        assert_eq!(fault("80/icmp"), "invalid proto: icmp");
        assert_eq!(fault("70000"), "invalid containerPort: 70000");
        assert_eq!(fault("x=1,y"), "invalid publish opts format (should be name=value but got 'y')");
    }

    #[test]
    fn exposed_ranges() {
        assert_eq!(expose("53/udp").expect("one"), ["53/udp"]);
        assert_eq!(expose("1-2").expect("two"), ["1/tcp", "2/tcp"]);
        assert_eq!(expose("80:80").unwrap_err(), "invalid port format for --expose: 80:80");
        assert!(expose("x").unwrap_err().starts_with("invalid range format for --expose: x, error: strconv.ParseUint"));
    }
}
