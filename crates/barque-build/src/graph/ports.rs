//! `EXPOSE`'s ports.

/// What one word of `EXPOSE` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Exposed {
    /// `80/tcp`, one for each port of a range.
    pub(super) ports: Vec<String>,
    /// The protocol was not in lower case.
    pub(super) odd_case: bool,
    /// An address or a host port was given, which mean nothing here.
    pub(super) mapped: bool,
}

/// Reads `80`, `80/udp`, `8000-8010/tcp`, `[ip:]host:container`. Errors are Docker's sentences.
pub(super) fn parse(raw: &str) -> Result<Exposed, String> {
    let parts: Vec<&str> = raw.split(':').collect();
    let (ip, host, container) = match parts.as_slice() {
        [container] => (String::new(), "", *container),
        [host, container] => (String::new(), *host, *container),
        [ip @ .., host, container] => (ip.join(":"), *host, *container),
        [] => (String::new(), "", ""),
    };
    let (port, protocol) = container.split_once('/').unwrap_or((container, ""));
    if port.is_empty() {
        return Err(format!("invalid port: {raw:?}: no port specified"));
    }
    let lower = match protocol.to_lowercase().as_str() {
        "" => "tcp".to_owned(),
        p @ ("tcp" | "udp" | "sctp") => p.to_owned(),
        _ => return Err(format!("invalid port: {raw:?}: invalid proto: {protocol}")),
    };
    let bare = ip.trim_start_matches('[').trim_end_matches(']');
    if !ip.is_empty() && bare.parse::<std::net::IpAddr>().is_err() {
        return Err(format!("invalid IP address: {ip}"));
    }
    let (start, end) = range(port).ok_or_else(|| format!("invalid containerPort: {port}"))?;
    if !host.is_empty() {
        let (host_start, host_end) = range(host).ok_or_else(|| format!("invalid hostPort: {host}"))?;
        if end - start != host_end - host_start && end != start {
            return Err(format!("invalid ranges specified for container and host Ports: {port} and {host}"));
        }
    }
    Ok(Exposed {
        ports: (start..=end).map(|n| format!("{n}/{lower}")).collect(),
        odd_case: protocol != protocol.to_lowercase(),
        mapped: !ip.is_empty() || !host.is_empty(),
    })
}

fn range(text: &str) -> Option<(u16, u16)> {
    let number = |s: &str| s.bytes().all(|b| b.is_ascii_digit()).then(|| s.parse().ok()).flatten();
    let (start, end) = match text.split_once('-') {
        Some((start, end)) => (number(start)?, number(end)?),
        None => (number(text)?, number(text)?),
    };
    (start <= end).then_some((start, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_read_as_docker_reads_them() {
        let ports = |raw: &str| parse(raw).map(|e| e.ports);
        assert_eq!(ports("80").unwrap(), ["80/tcp"]);
        assert_eq!(ports("53/UDP").unwrap(), ["53/udp"]);
        assert_eq!(ports("7000-7002/tcp").unwrap(), ["7000/tcp", "7001/tcp", "7002/tcp"]);
        assert_eq!(ports("127.0.0.1:80:8080").unwrap(), ["8080/tcp"]);
        assert_eq!(ports("[::1]:80:8080").unwrap(), ["8080/tcp"]);
        assert_eq!(ports("70000").unwrap_err(), "invalid containerPort: 70000");
        assert_eq!(ports("80/foo").unwrap_err(), "invalid port: \"80/foo\": invalid proto: foo");
        assert_eq!(ports("/tcp").unwrap_err(), "invalid port: \"/tcp\": no port specified");
        assert_eq!(ports("x:80").unwrap_err(), "invalid hostPort: x");
        assert_eq!(ports("9-8").unwrap_err(), "invalid containerPort: 9-8");
        assert!(ports("1:2-3").is_err() && ports("foo:1:2").is_err());
    }
}
