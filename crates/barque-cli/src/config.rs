//! The user's configuration, shared with the `docker` client: `~/.docker/config.json`.
//!
//! Unknown keys are kept when the file is written back.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use barque_client::archive::plain_io;

use crate::error::{CliResult, Failure};

/// The configuration file and where it lies.
#[derive(Clone, Debug, Default)]
pub(crate) struct Config {
    pub(crate) directory: PathBuf,
    pub(crate) values: Map<String, Value>,
}

impl Config {
    /// Reads the file in `directory`, or where the environment says; also gives a warning to print.
    pub(crate) fn load(directory: &str) -> (Config, Option<String>) {
        let directory = match directory {
            "" => default_directory(),
            given => PathBuf::from(given),
        };
        let path = directory.join("config.json");
        let (values, warning) = match read(&path) {
            Ok(values) => (values, None),
            Err(why) => (Map::new(), Some(format!("WARNING: Error loading config file: {}: {why}", path.display()))),
        };
        (Config { directory, values }, warning)
    }

    /// A text value; empty if missing.
    pub(crate) fn text(&self, key: &str) -> &str {
        self.values.get(key).and_then(Value::as_str).unwrap_or_default()
    }

    /// A map of texts.
    pub(crate) fn map(&self, key: &str) -> BTreeMap<String, String> {
        let entries = self.values.get(key).and_then(Value::as_object).into_iter().flatten();
        entries.filter_map(|(k, v)| Some((k.clone(), v.as_str()?.to_owned()))).collect()
    }

    /// Sets a value, or removes it.
    pub(crate) fn set(&mut self, key: &str, value: Option<Value>) {
        match value {
            Some(value) => self.values.insert(key.to_owned(), value),
            None => self.values.shift_remove(key),
        };
    }

    /// Writes the file back, as a whole or not at all, readable by its owner only.
    pub(crate) fn save(&self) -> CliResult<()> {
        let fault = |e: std::io::Error| Failure::new(format!("saving {}: {}", self.directory.display(), plain_io(&e)));
        let path = self.directory.join("config.json");
        // A link, as of a dotfile manager, stays one.
        let path = std::fs::canonicalize(&path).unwrap_or(path);
        let text = serde_json::to_string(&self.values).unwrap_or_default();
        let text = crate::output::json::indent(&text, "", "\t");
        create_private_directory(&self.directory).map_err(fault)?;
        write_private(&path, text.as_bytes()).map_err(fault)
    }

    /// Proxy variables for containers and builds, by the engine's address: from `proxies` of the file.
    pub(crate) fn proxies(&self, host: &str) -> BTreeMap<String, String> {
        let all = self.values.get("proxies").and_then(Value::as_object);
        let found = all.and_then(|p| p.get(host).or_else(|| p.get("default"))).and_then(Value::as_object);
        let names = [
            ("httpProxy", "HTTP_PROXY"),
            ("httpsProxy", "HTTPS_PROXY"),
            ("ftpProxy", "FTP_PROXY"),
            ("noProxy", "NO_PROXY"),
            ("allProxy", "ALL_PROXY"),
        ];
        let mut variables = BTreeMap::new();
        for (key, name) in names {
            let value = found.and_then(|p| p.get(key)).and_then(Value::as_str).unwrap_or_default();
            if !value.is_empty() {
                variables.insert(name.to_owned(), value.to_owned());
                variables.insert(name.to_lowercase(), value.to_owned());
            }
        }
        variables
    }
}

fn read(path: &Path) -> Result<Map<String, Value>, String> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Map::new()),
        Err(e) => return Err(format!("open {}: {}", path.display(), plain_io(&e))),
    };
    if text.trim().is_empty() {
        return Ok(Map::new());
    }
    serde_json::from_str(&text).map_err(|e| e.to_string())
}

/// `$DOCKER_CONFIG`, or `.docker` in the home directory.
pub(crate) fn default_directory() -> PathBuf {
    match std::env::var_os("DOCKER_CONFIG") {
        Some(directory) if !directory.is_empty() => PathBuf::from(directory),
        _ => PathBuf::from(std::env::var_os("HOME").unwrap_or_else(|| "/root".into())).join(".docker"),
    }
}

/// Makes a directory that only its owner may enter.
pub(crate) fn create_private_directory(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Replaces a file as a whole: written beside it, then renamed over it.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = path.with_file_name(name);
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all()).and_then(|()| std::fs::rename(&temporary, path));
    if written.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_keys_survive_and_the_file_is_private() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().expect("tempdir");
        std::fs::write(dir.path().join("config.json"), r#"{"zz":{"a":1},"psFormat":"x"}"#).expect("write");
        let directory = dir.path().to_str().expect("utf8");
        let (mut config, warning) = Config::load(directory);
        assert_eq!((config.text("psFormat"), warning), ("x", None));
        config.set("currentContext", Some("here".into()));
        config.set("psFormat", None);
        config.save().expect("saves");
        let (again, _) = Config::load(directory);
        assert_eq!(again.text("currentContext"), "here");
        assert_eq!(again.values["zz"]["a"], 1);
        assert!(!again.values.contains_key("psFormat"));
        let mode = std::fs::metadata(dir.path().join("config.json")).expect("stat").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_broken_file_is_a_warning() {
        let dir = tempfile::tempdir().expect("tempdir");
        std::fs::write(dir.path().join("config.json"), "{").expect("write");
        let (config, warning) = Config::load(dir.path().to_str().expect("utf8"));
        assert!(config.values.is_empty());
        assert!(warning.expect("a warning").starts_with("WARNING: Error loading config file: "));
    }

    #[test]
    fn proxies_by_host() {
        let values = serde_json::json!({"proxies": {"default": {"httpProxy": "http://p:1", "noProxy": "x"}}});
        let config = Config { values: values.as_object().cloned().expect("object"), ..Config::default() };
        let found = config.proxies("unix:///x");
        assert_eq!(found["HTTP_PROXY"], "http://p:1");
        assert_eq!(found["no_proxy"], "x");
        assert_eq!(found.len(), 4);
    }
}
