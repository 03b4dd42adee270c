//! Security options, capabilities, namespaces.

use barque_api::container::HostConfig;
use barque_engine::container::spec::{NamespaceMode, NamespaceSpec, SeccompSpec, SecuritySpec};
use barque_model::{Error, Result};

/// # Errors
/// An unknown security option.
pub(crate) fn security(host: &HostConfig) -> Result<SecuritySpec> {
    let mut security = SecuritySpec {
        privileged: host.privileged,
        cap_add: host.cap_add.clone().unwrap_or_default(),
        cap_drop: host.cap_drop.clone().unwrap_or_default(),
        masked_paths: host.masked_paths.clone(),
        readonly_paths: host.readonly_paths.clone(),
        ..SecuritySpec::default()
    };
    for option in host.security_opt.iter().flatten() {
        apply(&mut security, option)?;
    }
    Ok(security)
}

fn apply(security: &mut SecuritySpec, option: &str) -> Result<()> {
    // Docker numbers the two ways to be wrong: no value, and an unknown name or value.
    let invalid = |way: u8| Error::invalid(format!("invalid --security-opt {way}: {option:?}"));
    if option == "no-new-privileges" {
        security.no_new_privileges = Some(true);
        return Ok(());
    }
    if option == "disable" {
        return Ok(());
    }
    // `name:value` is the older form.
    let (name, value) = option.split_once('=').or_else(|| option.split_once(':')).ok_or_else(|| invalid(1))?;
    let truth = || match value {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(invalid(2)),
    };
    match name {
        "label" => security.selinux.push(value.to_owned()),
        "apparmor" => security.apparmor = Some(value.to_owned()),
        "no-new-privileges" => security.no_new_privileges = Some(truth()?),
        "writable-cgroups" => security.writable_cgroups = truth()?,
        "systempaths" if value == "unconfined" => security.unconfined_paths = true,
        "seccomp" => {
            security.seccomp = match value {
                "unconfined" => SeccompSpec::Unconfined,
                "builtin" | "default" => SeccompSpec::Default,
                profile => {
                    if serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(profile).is_err() {
                        return Err(Error::invalid("Decoding seccomp profile failed: it is no JSON object")
                            .with_hint("--security-opt seccomp=FILE, or seccomp=unconfined"));
                    }
                    SeccompSpec::Profile(profile.to_owned())
                }
            };
        }
        _ => return Err(invalid(2)),
    }
    Ok(())
}

/// # Errors
/// An unknown mode.
pub(crate) fn namespaces(host: &HostConfig) -> Result<NamespaceSpec> {
    Ok(NamespaceSpec {
        pid: mode(&host.pid_mode, "PID", &[])?,
        ipc: mode(&host.ipc_mode, "IPC", &["shareable", "none"])?,
        uts: mode(&host.uts_mode, "UTS", &[])?,
        cgroup: mode(&host.cgroupns_mode, "cgroup namespace", &[])?,
        user: match host.userns_mode.as_str() {
            "" | "host" => NamespaceMode::Host,
            other => return Err(Error::invalid(format!("invalid userns mode: {other:?}"))),
        },
    })
}

fn mode(text: &str, what: &str, more: &[&str]) -> Result<NamespaceMode> {
    let joinable = matches!(what, "PID" | "IPC");
    match text {
        "" | "private" => Ok(NamespaceMode::Private),
        "host" => Ok(NamespaceMode::Host),
        "shareable" if more.contains(&text) => Ok(NamespaceMode::Shareable),
        "none" if more.contains(&text) => Ok(NamespaceMode::None),
        _ => match text.strip_prefix("container:") {
            Some(name) if joinable && !name.is_empty() => Ok(NamespaceMode::Container(name.to_owned())),
            _ => Err(Error::invalid(format!("invalid {what} mode: {text}"))),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(options: &[&str]) -> Result<SecuritySpec> {
        let security_opt = Some(options.iter().map(|option| (*option).to_owned()).collect());
        security(&HostConfig { security_opt, ..HostConfig::default() })
    }

    #[test]
    fn options() {
        let spec =
            of(&["no-new-privileges", "apparmor:x", "label=disable", "seccomp={\"defaultAction\":\"A\"}"]).unwrap();
        assert_eq!(spec.no_new_privileges, Some(true));
        assert_eq!(spec.apparmor.as_deref(), Some("x"));
        assert!(matches!(spec.seccomp, SeccompSpec::Profile(_)));
        assert_eq!(of(&["seccomp=unconfined"]).unwrap().seccomp, SeccompSpec::Unconfined);
        for bad in ["foo", "foo=bar", "no-new-privileges=maybe", "seccomp=/etc/x.json"] {
            assert!(of(&[bad]).is_err(), "{bad}");
        }
        assert_eq!(of(&["foo"]).unwrap_err().to_string(), "invalid --security-opt 1: \"foo\"");
        assert_eq!(of(&["foo=bar"]).unwrap_err().to_string(), "invalid --security-opt 2: \"foo=bar\"");
    }

    #[test]
    fn modes() {
        let host = HostConfig { pid_mode: "container:a".into(), ipc_mode: "shareable".into(), ..Default::default() };
        let spec = namespaces(&host).unwrap();
        assert_eq!((spec.pid, spec.ipc), (NamespaceMode::Container("a".into()), NamespaceMode::Shareable));
        for host in [
            HostConfig { pid_mode: "shareable".into(), ..Default::default() },
            HostConfig { uts_mode: "container:a".into(), ..Default::default() },
            HostConfig { ipc_mode: "container:".into(), ..Default::default() },
        ] {
            assert!(namespaces(&host).is_err());
        }
    }
}
