//! The formats of `~/.docker/config.json` and of credential helpers (`docker-credential-NAME get|store|erase`).
//!
//! Pure but for [`Helper`], which runs the program it is given; nothing here looks for files or in the environment.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::process::Stdio;
use std::time::Duration;

use barque_model::{Context as _, Error, Result};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::credentials::{AuthConfig, decode_auth};

/// The key of Docker Hub in configuration files.
pub const HUB_KEY: &str = "https://index.docker.io/v1/";
/// A helper that takes longer is waiting for somebody.
const HELPER_TIMEOUT: Duration = Duration::from_secs(60);
const HELPER_BYTES_MAX: u64 = 1024 * 1024;
/// The user name that says that the secret is an identity token.
const TOKEN_USER: &str = "<token>";

/// The parts of Docker's configuration file that are about credentials.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct DockerConfig {
    /// Credentials by registry.
    pub auths: BTreeMap<String, AuthConfig>,
    /// Helper for all registries.
    pub creds_store: String,
    /// Helpers by registry.
    pub cred_helpers: BTreeMap<String, String>,
}

/// Where a registry's credentials are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In the file.
    Inline(AuthConfig),
    /// With this helper, under this key.
    Helper {
        /// `NAME` of `docker-credential-NAME`.
        name: String,
        /// What the helper knows the registry by.
        key: String,
    },
    /// Nowhere.
    None,
}

impl DockerConfig {
    /// Reads the file's text; an empty text is an empty file.
    ///
    /// # Errors
    /// `InvalidArgument` when it is not JSON of this form.
    pub fn parse(text: &str) -> Result<Self> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        serde_json::from_str(text)
            .map_err(|error| Error::invalid(format!("cannot read the Docker configuration: {error}")))
    }

    /// Where the credentials of a registry (`host[:port]`, `docker.io` for Docker Hub) are.
    pub fn place(&self, registry: &str) -> Place {
        let key = if is_hub(registry) { HUB_KEY } else { registry };
        let helper = self.cred_helpers.iter().find(|(name, _)| same(name, registry)).map(|(_, helper)| helper);
        let store = Some(&self.creds_store).filter(|store| !store.is_empty());
        if let Some(name) = helper.or(store) {
            return Place::Helper { name: name.clone(), key: key.to_owned() };
        }
        let exact = self.auths.get(key).or_else(|| self.auths.get(registry));
        let found = exact.or_else(|| self.auths.iter().find(|(name, _)| same(name, registry)).map(|(_, auth)| auth));
        match found {
            None => Place::None,
            Some(auth) => {
                let mut auth = auth.clone();
                if let Some((user, password)) = decode_auth(&auth.auth) {
                    auth.username = user;
                    auth.password = password;
                    auth.auth.clear();
                }
                key.clone_into(&mut auth.serveraddress);
                Place::Inline(auth)
            }
        }
    }
}

fn is_hub(registry: &str) -> bool {
    matches!(host_of(registry), "docker.io" | "index.docker.io" | "registry-1.docker.io")
}

fn host_of(text: &str) -> &str {
    let bare = text.trim_start_matches("https://").trim_start_matches("http://");
    bare.split('/').next().unwrap_or_default()
}

/// Old files write registries as URLs.
fn same(entry: &str, registry: &str) -> bool {
    host_of(entry) == host_of(registry) || (is_hub(entry) && is_hub(registry))
}

/// A credential helper: a program that speaks JSON on its standard streams.
#[derive(Debug, Clone)]
pub struct Helper {
    /// The program, such as `docker-credential-pass`; looked up by the caller or in its `PATH`.
    pub program: OsString,
}

/// What a helper is told and tells.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HelperDocument {
    #[serde(rename = "ServerURL", default)]
    server_url: String,
    #[serde(default)]
    username: String,
    #[serde(default)]
    secret: String,
}

impl Helper {
    /// The credentials under `key`; `None` when the helper has none.
    ///
    /// # Errors
    /// When the helper cannot be run or fails.
    pub async fn get(&self, key: &str) -> Result<Option<AuthConfig>> {
        let answer = match self.run("get", key.as_bytes()).await? {
            Ok(answer) => answer,
            Err(said) if said.contains("credentials not found") => return Ok(None),
            Err(said) => return Err(self.failed("get", &said)),
        };
        let found: HelperDocument = serde_json::from_slice(&answer)
            .map_err(|error| self.failed("get", &format!("malformed answer: {error}")))?;
        let mut auth = AuthConfig { serveraddress: key.to_owned(), ..AuthConfig::default() };
        if found.username == TOKEN_USER {
            auth.identitytoken = found.secret;
        } else {
            auth.username = found.username;
            auth.password = found.secret;
        }
        Ok(Some(auth))
    }

    /// Stores credentials under `key`.
    ///
    /// # Errors
    /// When the helper cannot be run or fails.
    pub async fn store(&self, key: &str, auth: &AuthConfig) -> Result<()> {
        let (username, secret) = match auth.identitytoken.as_str() {
            "" => (auth.username.clone(), auth.password.clone()),
            token => (TOKEN_USER.to_owned(), token.to_owned()),
        };
        let document = HelperDocument { server_url: key.to_owned(), username, secret };
        let input = serde_json::to_vec(&document).context("cannot write credentials")?;
        self.run("store", &input).await?.map(|_| ()).map_err(|said| self.failed("store", &said))
    }

    /// Forgets the credentials under `key`; there may be none.
    ///
    /// # Errors
    /// When the helper cannot be run or fails.
    pub async fn erase(&self, key: &str) -> Result<()> {
        match self.run("erase", key.as_bytes()).await? {
            Err(said) if !said.contains("credentials not found") => Err(self.failed("erase", &said)),
            _ => Ok(()),
        }
    }

    fn failed(&self, action: &str, said: &str) -> Error {
        let program = self.program.to_string_lossy();
        let said = crate::wire::printable(said.trim());
        let doing = match action {
            "get" => "getting",
            "store" => "storing",
            _ => "erasing",
        };
        Error::internal(format!("error {doing} credentials - {program}: {said}"))
    }

    /// Runs the helper; the inner error is what it said when it failed (helpers write that to standard output).
    async fn run(&self, action: &str, input: &[u8]) -> Result<std::result::Result<Vec<u8>, String>> {
        let program = self.program.to_string_lossy().into_owned();
        let named = || format!("cannot run the credential helper {program}");
        let mut child = tokio::process::Command::new(&self.program)
            .arg(action)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .with_context(named)?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let talk = async {
            if let Some(mut stdin) = stdin {
                // A helper that does not read its input may have ended already; its exit status says more.
                let _ = stdin.write_all(input).await;
            }
            let mut output = Vec::new();
            if let Some(stdout) = stdout {
                stdout.take(HELPER_BYTES_MAX).read_to_end(&mut output).await?;
            }
            let status = child.wait().await?;
            Ok::<_, std::io::Error>((status, output))
        };
        let (status, output) = tokio::time::timeout(HELPER_TIMEOUT, talk)
            .await
            .map_err(|_| Error::unavailable(format!("the credential helper {program} does not answer")))?
            .with_context(named)?;
        if status.success() {
            return Ok(Ok(output));
        }
        let said = String::from_utf8_lossy(&output).into_owned();
        Ok(Err(if said.trim().is_empty() { status.to_string() } else { said }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn places() {
        let config = DockerConfig::parse(
            r#"{"auths": {"https://index.docker.io/v1/": {"auth": "dTpw"}, "https://old.example/v1/": {"auth": "bzpw"},
                "r.example:5000": {"username": "x", "identitytoken": "it"}},
                "credHelpers": {"gcr.example": "gcloud"}, "HttpHeaders": {}, "detachKeys": "x"}"#,
        )
        .unwrap();
        let inline = |registry: &str| match config.place(registry) {
            Place::Inline(auth) => (auth.username, auth.password, auth.identitytoken),
            other => panic!("{registry}: {other:?}"),
        };
        assert_eq!(inline("docker.io"), ("u".into(), "p".into(), String::new()));
        assert_eq!(inline("old.example").0, "o");
        assert_eq!(inline("r.example:5000").2, "it");
        assert_eq!(config.place("r.example"), Place::None);
        assert_eq!(config.place("gcr.example"), Place::Helper { name: "gcloud".into(), key: "gcr.example".into() });
        let store = DockerConfig::parse(r#"{"credsStore": "pass"}"#).unwrap();
        assert_eq!(store.place("docker.io"), Place::Helper { name: "pass".into(), key: HUB_KEY.into() });
        assert_eq!(DockerConfig::parse(" ").unwrap(), DockerConfig::default());
        assert!(DockerConfig::parse("{").is_err());
    }

    fn helper(script: &str) -> (tempfile::TempDir, Helper) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("docker-credential-test");
        std::fs::write(&path, format!("#!/bin/sh\ncd {}\n{script}\n", dir.path().display())).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        (dir, Helper { program: path.into() })
    }

    #[tokio::test]
    async fn helpers_store_get_and_erase() {
        let (_dir, helper) = helper(
            r#"case $1 in
              store) cat > db ;;
              get) cat > /dev/null; cat db 2> /dev/null || { echo "credentials not found in native keychain"; exit 1; } ;;
              erase) cat > /dev/null; rm db ;;
            esac"#,
        );
        assert_eq!(helper.get("r.example").await.unwrap(), None);
        let auth = AuthConfig { username: "u".into(), password: "p\"w".into(), ..AuthConfig::default() };
        helper.store("r.example", &auth).await.unwrap();
        let found = helper.get("r.example").await.unwrap().unwrap();
        assert_eq!((found.username.as_str(), found.password.as_str()), ("u", "p\"w"));
        let token = AuthConfig { identitytoken: "it".into(), ..AuthConfig::default() };
        helper.store("r.example", &token).await.unwrap();
        assert_eq!(helper.get("r.example").await.unwrap().unwrap().identitytoken, "it");
        helper.erase("r.example").await.unwrap();
        assert_eq!(helper.get("r.example").await.unwrap(), None);
    }

    #[tokio::test]
    async fn helpers_that_fail_are_named() {
        let (_dir, broken) = helper("echo 'keychain is locked'; exit 3");
        let error = broken.get("r.example").await.unwrap_err();
        assert!(
            error.message().contains("error getting credentials") && error.message().contains("keychain is locked")
        );
        let missing = Helper { program: "/nonexistent/docker-credential-x".into() };
        assert!(missing.get("r.example").await.unwrap_err().message().contains("docker-credential-x"));
    }
}
