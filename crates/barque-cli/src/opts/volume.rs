//! `-v`: `[SOURCE:]TARGET[:OPTIONS]`.

/// What a `-v` value is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum VolumeSpec {
    /// Only a path in the container: an anonymous volume.
    Anonymous(String),
    /// A bind or a named volume, in the engine's form.
    Bind(String),
}

/// Reads one `-v` value; `absolute` completes a host path that begins with a dot.
pub(crate) fn parse(text: &str, absolute: &dyn Fn(&str) -> String) -> Result<VolumeSpec, String> {
    if text.is_empty() {
        return Err("invalid empty volume spec".into());
    }
    if text.len() <= 2 {
        return Ok(VolumeSpec::Anonymous(text.to_owned()));
    }
    let parts: Vec<&str> = text.split(':').collect();
    let fault = |reason: &str| Err(format!("invalid spec: {text}: {reason}"));
    if parts.iter().any(|p| p.is_empty()) {
        return fault("empty section between colons");
    }
    if parts.len() > 3 {
        return fault("too many colons");
    }
    if parts.len() == 1 {
        return Ok(VolumeSpec::Anonymous(text.to_owned()));
    }
    if parts[0].starts_with('.') {
        return Ok(VolumeSpec::Bind(format!("{}:{}", absolute(parts[0]), parts[1..].join(":"))));
    }
    Ok(VolumeSpec::Bind(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(text: &str) -> Result<VolumeSpec, String> {
        parse(text, &|path| format!("/here/{}", path.trim_start_matches("./")))
    }

    #[test]
    fn volumes() {
        assert_eq!(spec("/data"), Ok(VolumeSpec::Anonymous("/data".into())));
        assert_eq!(spec("vol:/data:ro"), Ok(VolumeSpec::Bind("vol:/data:ro".into())));
        assert_eq!(spec("./src:/app:ro"), Ok(VolumeSpec::Bind("/here/src:/app:ro".into())));
        assert_eq!(spec("/a:/b:ro:x").unwrap_err(), "invalid spec: /a:/b:ro:x: too many colons");
        assert_eq!(spec("/a::ro").unwrap_err(), "invalid spec: /a::ro: empty section between colons");
        assert_eq!(spec("").unwrap_err(), "invalid empty volume spec");
    }
}
