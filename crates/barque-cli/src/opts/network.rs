//! `--network NAME` and its long form, `name=…,alias=…,ip=…`.

use std::collections::BTreeMap;

use barque_model::csv::csv;

/// A network to attach to and how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Attachment {
    pub(crate) target: String,
    pub(crate) aliases: Vec<String>,
    pub(crate) driver_opts: BTreeMap<String, String>,
    pub(crate) ip: String,
    pub(crate) ip6: String,
    pub(crate) link_local_ips: Vec<String>,
    pub(crate) mac_address: String,
    pub(crate) gw_priority: i64,
}

/// Reads one `--network` value.
pub(crate) fn parse(text: &str) -> Result<Attachment, String> {
    if !is_long_form(text) {
        return Ok(Attachment { target: text.to_owned(), ..Attachment::default() });
    }
    let mut found = Attachment::default();
    for field in csv(text) {
        // Docker folds all of it to lower case, values too but those of driver options.
        let lower = field.to_lowercase();
        let (key, value) =
            lower.split_once('=').filter(|(key, _)| !key.is_empty()).ok_or_else(|| format!("invalid field {field}"))?;
        let value = value.trim().to_owned();
        match key.trim() {
            "name" => found.target = value,
            "alias" => found.aliases.push(value),
            "ip" => found.ip = value,
            "ip6" => found.ip6 = value,
            "mac-address" => found.mac_address = value,
            "link-local-ip" => found.link_local_ips.push(value),
            "driver-opt" => {
                let (_, value) = field.split_once('=').unwrap_or_default();
                let (key, value) = driver_opt(value)?;
                found.driver_opts.insert(key, value);
            }
            "gw-priority" => {
                found.gw_priority =
                    value.parse().map_err(|_| format!("invalid gw-priority ({value}): invalid syntax"))?;
            }
            key => return Err(format!("invalid field key {key}")),
        }
    }
    if found.target.is_empty() {
        return Err("network name/id is not specified".into());
    }
    Ok(found)
}

/// `key=value` of a network driver's option.
pub(crate) fn driver_opt(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.trim().to_lowercase(), value.trim().to_owned())),
        _ => Err("invalid key value pair format in driver options".into()),
    }
}

/// Whether a word, `=` and a word follow each other anywhere.
fn is_long_form(text: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.match_indices('=').any(|(at, _)| text[..at].ends_with(word) && text[at + 1..].starts_with(word))
}

/// Whether a network mode names a network that a user made.
pub(crate) fn is_user_defined(mode: &str) -> bool {
    !matches!(mode, "default" | "bridge" | "host" | "none" | "nat") && !mode.starts_with("container:")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_and_long() {
        assert_eq!(parse("sky_net").map(|a| a.target), Ok("sky_net".into()));
        assert_eq!(parse("container:x").map(|a| a.target), Ok("container:x".into()));
        let long = parse("name=net,alias=a,alias=b,ip=10.0.0.9,driver-opt=x=y,gw-priority=5").expect("parses");
        assert_eq!((long.target.as_str(), long.ip.as_str(), long.gw_priority), ("net", "10.0.0.9", 5));
        assert_eq!(long.aliases, ["a", "b"]);
        assert_eq!(long.driver_opts.get("x").map(String::as_str), Some("y"));
        let sysctl = parse("name=net,driver-opt=A.b=net.ipv4.conf.IFNAME.forwarding=1").expect("parses");
        assert_eq!(sysctl.driver_opts.get("a.b").map(String::as_str), Some("net.ipv4.conf.IFNAME.forwarding=1"));
        assert_eq!(parse("alias=a").unwrap_err(), "network name/id is not specified");
        assert_eq!(parse("name=a,foo=b").unwrap_err(), "invalid field key foo");
        assert_eq!(parse("name=a,foo").unwrap_err(), "invalid field foo");
        assert_eq!(parse("name=a,gw-priority=x").unwrap_err(), "invalid gw-priority (x): invalid syntax");
    }
}
