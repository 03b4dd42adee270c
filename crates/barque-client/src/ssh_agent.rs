//! Agents that builds may ask to sign with keys (`--ssh`, `build.ssh`).

use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;

use barque_model::Error;

/// `default`, `ID`, `ID=SOCKET` → the id and the absolute path of the agent's socket. A path is relative to `base`;
/// without one it is `SSH_AUTH_SOCK` of `variable`.
///
/// # Errors
/// No agent runs, the path is not there, or it is a key's file.
pub fn parse(text: &str, base: &Path, variable: &dyn Fn(&str) -> Option<String>) -> Result<(String, String), Error> {
    let (id, path) = text.split_once('=').unwrap_or((text, ""));
    let id = if id.is_empty() { "default" } else { id };
    let path = match path {
        "" => variable("SSH_AUTH_SOCK").filter(|p| !p.is_empty()).ok_or_else(|| {
            Error::invalid(format!("invalid empty ssh agent socket for {id}: SSH_AUTH_SOCK is not set"))
                .with_hint("start an agent: eval $(ssh-agent) && ssh-add")
        })?,
        path => path.to_owned(),
    };
    let whole = base.join(&path);
    let meta = std::fs::metadata(&whole).map_err(|e| Error::from(e).context(format!("ssh {id}: stat {path}")))?;
    if !meta.file_type().is_socket() {
        return Err(Error::not_implemented(format!("ssh {id} with the key file {path}"))
            .with_hint(format!("add the key to an agent with ssh-add, and write only {id}")));
    }
    let whole = whole.to_str().ok_or_else(|| Error::invalid(format!("ssh {id}: the path of {path} is not UTF-8")))?;
    Ok((id.to_owned(), whole.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_by_variable_and_by_path() {
        let dir = tempfile::tempdir().expect("tempdir");
        let socket = dir.path().join("agent");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).expect("binds");
        let path = socket.display().to_string();
        let (set, unset) = (|_: &str| Some(path.clone()), |_: &str| None);
        let root = Path::new("/");
        let pair = |id: &str| (id.to_owned(), path.clone());
        assert_eq!(parse("default", root, &set).expect("variable"), pair("default"));
        assert_eq!(parse("", root, &set).expect("no id"), pair("default"));
        assert_eq!(parse(&format!("x={path}"), root, &unset).expect("absolute"), pair("x"));
        assert_eq!(
            parse("x=agent", dir.path(), &unset).expect("relative"),
            pair("x"),
            "the engine's directory is another"
        );
        assert!(parse("default", root, &unset).expect_err("none").to_string().contains("SSH_AUTH_SOCK"));
        assert!(parse("x=none", dir.path(), &unset).is_err());
        let key = parse("x=/dev/null", root, &unset).expect_err("no socket");
        assert_eq!(key.kind(), barque_model::ErrorKind::Unsupported);
    }
}
