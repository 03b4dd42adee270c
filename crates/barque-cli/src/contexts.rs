//! Contexts: named engines, stored as the `docker` client stores them, in `~/.docker/contexts`.

use std::path::{Path, PathBuf};

use barque_client::TlsFiles;
use barque_client::archive::plain_io;
use barque_model::Digest;
use serde_json::{Map, Value, json};

use crate::config::{create_private_directory, write_private};

use crate::error::{CliResult, Failure};

/// The context that stands for flags, variables and the default socket.
pub(crate) const DEFAULT: &str = "default";

/// The store below a configuration directory.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    root: PathBuf,
}

/// What the store knows of one context.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Context {
    /// `Name`, `Metadata`, `Endpoints`, as in the file.
    pub(crate) meta: Map<String, Value>,
}

impl Context {
    /// A new context for the engine at `host`.
    pub(crate) fn new(name: &str, description: &str, host: &str, skip_verify: bool) -> Context {
        let mut metadata = Map::new();
        if !description.is_empty() {
            metadata.insert("Description".into(), description.into());
        }
        let endpoint = json!({"docker": {"Host": host, "SkipTLSVerify": skip_verify}});
        let mut meta = Map::new();
        meta.insert("Name".into(), name.into());
        meta.insert("Metadata".into(), Value::Object(metadata));
        meta.insert("Endpoints".into(), endpoint);
        Context { meta }
    }

    pub(crate) fn name(&self) -> &str {
        self.meta.get("Name").and_then(Value::as_str).unwrap_or_default()
    }

    pub(crate) fn description(&self) -> &str {
        let metadata = self.meta.get("Metadata");
        metadata.and_then(|m| m.get("Description")).and_then(Value::as_str).unwrap_or_default()
    }

    pub(crate) fn set_description(&mut self, text: &str) {
        if let Some(metadata) = self.meta.get_mut("Metadata").and_then(Value::as_object_mut) {
            metadata.insert("Description".into(), text.into());
        }
    }

    fn docker(&self) -> Option<&Value> {
        self.meta.get("Endpoints")?.get("docker")
    }

    /// The engine's address; empty: the default one.
    pub(crate) fn host(&self) -> &str {
        self.docker().and_then(|d| d.get("Host")).and_then(Value::as_str).unwrap_or_default()
    }

    pub(crate) fn skip_verify(&self) -> bool {
        self.docker().and_then(|d| d.get("SkipTLSVerify")).and_then(Value::as_bool).unwrap_or(false)
    }
}

/// Certificates kept with a context: file name and content.
pub(crate) type TlsMaterial = Vec<(String, Vec<u8>)>;

/// The names certificates may have.
const TLS_NAMES: [&str; 3] = ["ca.pem", "cert.pem", "key.pem"];

impl Store {
    pub(crate) fn new(directory: &Path) -> Store {
        Store { root: directory.join("contexts") }
    }

    fn key(name: &str) -> String {
        Digest::of(name.as_bytes()).hex()
    }

    /// The directory of a context's document.
    pub(crate) fn meta_dir(&self, name: &str) -> PathBuf {
        self.root.join("meta").join(Self::key(name))
    }

    /// The directory of a context's certificates.
    pub(crate) fn tls_dir(&self, name: &str) -> PathBuf {
        self.root.join("tls").join(Self::key(name))
    }

    /// Reads one context.
    pub(crate) fn get(&self, name: &str) -> CliResult<Context> {
        let path = self.meta_dir(name).join("meta.json");
        let bytes = std::fs::read(&path).map_err(|e| {
            let why = format!("open {}: {}", path.display(), plain_io(&e));
            let text = format!("context \"{name}\": context not found: {why}");
            Failure { kind: Some(barque_model::ErrorKind::NotFound), ..Failure::new(text) }
        })?;
        let meta = serde_json::from_slice(&bytes)
            .map_err(|e| Failure::new(format!("context \"{name}\": parsing {}: {e}", path.display())))?;
        Ok(Context { meta })
    }

    pub(crate) fn exists(&self, name: &str) -> bool {
        self.meta_dir(name).join("meta.json").exists()
    }

    /// All stored contexts, by name.
    pub(crate) fn list(&self) -> Vec<Context> {
        let entries = std::fs::read_dir(self.root.join("meta")).into_iter().flatten().flatten();
        let documents = entries.filter_map(|entry| std::fs::read(entry.path().join("meta.json")).ok());
        let mut found: Vec<Context> =
            documents.filter_map(|bytes| serde_json::from_slice(&bytes).ok().map(|meta| Context { meta })).collect();
        found.sort_by(|a, b| a.name().cmp(b.name()));
        found
    }

    /// Writes one context.
    pub(crate) fn put(&self, context: &Context) -> CliResult<()> {
        let dir = self.meta_dir(context.name());
        let bytes = serde_json::to_vec(&context.meta).unwrap_or_default();
        create_private_directory(&dir).and_then(|()| write_private(&dir.join("meta.json"), &bytes)).map_err(Into::into)
    }

    /// Replaces a context's certificates.
    pub(crate) fn put_tls(&self, name: &str, material: &TlsMaterial) -> CliResult<()> {
        let dir = self.tls_dir(name);
        if dir.exists() {
            std::fs::remove_dir_all(&dir)?;
        }
        let docker = dir.join("docker");
        for (file, bytes) in material {
            if !TLS_NAMES.contains(&file.as_str()) {
                return Err(Failure::new(format!("unexpected context file: tls/docker/{file}")));
            }
            create_private_directory(&docker)?;
            write_private(&docker.join(file), bytes)?;
        }
        Ok(())
    }

    /// A context's certificates.
    pub(crate) fn tls(&self, name: &str) -> CliResult<TlsMaterial> {
        let docker = self.tls_dir(name).join("docker");
        let mut material = TlsMaterial::new();
        for file in TLS_NAMES {
            match std::fs::read(docker.join(file)) {
                Ok(bytes) => material.push((file.to_owned(), bytes)),
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(material)
    }

    /// The certificates to connect with, if the context has any.
    pub(crate) fn tls_files(&self, context: &Context) -> Option<TlsFiles> {
        let files = TlsFiles::in_dir(&self.tls_dir(context.name()).join("docker"), !context.skip_verify());
        let any = files.ca.is_some() || files.cert.is_some() || files.key.is_some();
        (any || context.skip_verify()).then_some(files)
    }

    /// Removes a context and its certificates.
    pub(crate) fn remove(&self, name: &str) -> CliResult<()> {
        for dir in [self.meta_dir(name), self.tls_dir(name)] {
            match std::fs::remove_dir_all(&dir) {
                Ok(()) => {}
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(())
    }
}

/// Letters, digits and `_.+-`, at least two of them, none of the signs first.
pub(crate) fn check_name(name: &str) -> CliResult<()> {
    if name == DEFAULT {
        return Err(Failure::new("\"default\" is a reserved context name"));
    }
    let mut chars = name.chars();
    let first = chars.next().is_some_and(|c| c.is_ascii_alphanumeric());
    let rest = name.len() > 1 && chars.all(|c| c.is_ascii_alphanumeric() || "_.+-".contains(c));
    if first && rest {
        return Ok(());
    }
    Err(Failure::new(format!(
        "context name \"{name}\" is invalid, names are validated against regexp \"^[a-zA-Z0-9][a-zA-Z0-9_.+-]+$\""
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contexts_are_stored_as_docker_stores_them() {
        let dir = tempfile::tempdir().expect("tempdir");
        let store = Store::new(dir.path());
        store.put(&Context::new("mine", "d", "tcp://h:1", false)).expect("stores");
        let real = store.meta_dir("mine").join("meta.json");
        let text = std::fs::read_to_string(real).expect("reads");
        assert_eq!(
            text,
            r#"{"Name":"mine","Metadata":{"Description":"d"},"Endpoints":{"docker":{"Host":"tcp://h:1","SkipTLSVerify":false}}}"#
        );
        store.put_tls("mine", &vec![("ca.pem".into(), b"x".to_vec())]).expect("stores");
        assert!(store.tls_files(&store.get("mine").expect("there")).expect("files").ca.is_some());
        assert!(store.put_tls("mine", &vec![("../x".into(), Vec::new())]).is_err());
        assert_eq!(store.list().len(), 1);
        store.remove("mine").expect("removes");
        assert!(store.get("mine").expect_err("gone").message.starts_with("context \"mine\": context not found: open "));
    }

    #[test]
    fn names() {
        for good in ["ab", "a1_.+-"] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in ["", "a", "a b", "-ab", "../x", "default"] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }
}
