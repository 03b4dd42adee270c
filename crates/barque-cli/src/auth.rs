//! Credentials for registries: the configuration file's `auths`, and credential helpers.
//!
//! Kept where and how the `docker` client keeps them. A helper is a program `docker-credential-NAME` that takes
//! a verb and speaks JSON on its standard streams.

use std::io::Write as _;
use std::process::{Command, Stdio};

use barque_api::auth::{AuthConfig, AuthConfigs};
use barque_model::Reference;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use crate::config::Config;
use crate::error::{CliResult, Failure};

/// The key of the public hub's credentials.
pub(crate) const HUB: &str = "https://index.docker.io/v1/";

/// The key of a registry's credentials.
pub(crate) fn key_of(domain: &str) -> &str {
    if matches!(domain, "docker.io" | "index.docker.io") { HUB } else { domain }
}

/// The host of a registry's address, without scheme and path.
pub(crate) fn hostname(address: &str) -> &str {
    let bare = address.split_once("://").map_or(address, |(_, rest)| rest);
    bare.split('/').next().unwrap_or(bare)
}

/// What to log in with for an image, if anything is stored. A helper that is missing or fails is told of, but many
/// images need no login.
pub(crate) fn for_image(config: &Config, image: &Reference) -> Option<AuthConfig> {
    get(config, key_of(image.domain())).unwrap_or_else(|failure| {
        barque_client::tell(&format!("WARNING: {}: going on without a login", failure.message));
        None
    })
}

/// The credentials of one registry.
pub(crate) fn get(config: &Config, server: &str) -> CliResult<Option<AuthConfig>> {
    match helper_for(config, server) {
        Some(helper) => from_helper(&helper, server),
        None => Ok(from_file(config, server)),
    }
}

/// Every credential there is, for builds.
pub(crate) fn all(config: &Config) -> AuthConfigs {
    let mut servers: Vec<String> =
        config.values.get("auths").and_then(Value::as_object).map_or_else(Vec::new, |m| m.keys().cloned().collect());
    servers.extend(config.map("credHelpers").into_keys());
    if let Some(helper) = Some(config.text("credsStore")).filter(|h| !h.is_empty())
        && let Ok(text) = call(helper, "list", "")
        && let Ok(Value::Object(listed)) = serde_json::from_str(&text)
    {
        servers.extend(listed.keys().cloned());
    }
    servers.sort();
    servers.dedup();
    let found = servers.into_iter().filter_map(|server| {
        // One helper that fails must not keep a build from what it may not need.
        let auth = get(config, &server).ok().flatten()?;
        Some((server, auth))
    });
    found.collect()
}

/// Credentials as the text of a configuration file that needs no helper.
pub(crate) fn as_file(all: &AuthConfigs) -> String {
    let auths: Map<String, Value> =
        all.iter().map(|(server, auth)| (server.clone(), Value::Object(entry(auth)))).collect();
    let mut text = serde_json::to_string_pretty(&json!({"auths": auths})).unwrap_or_default();
    text.push('\n');
    text
}

/// Credentials as they stand in the file.
fn entry(auth: &AuthConfig) -> Map<String, Value> {
    let mut entry = Map::new();
    if auth.identitytoken.is_empty() || !auth.username.is_empty() {
        let plain = format!("{}:{}", auth.username, auth.password);
        entry.insert("auth".into(), STANDARD.encode(plain).into());
    }
    if !auth.identitytoken.is_empty() {
        entry.insert("identitytoken".into(), auth.identitytoken.clone().into());
    }
    entry
}

/// The helper of one registry, or the one for all.
fn helper_for(config: &Config, server: &str) -> Option<String> {
    let own = config.map("credHelpers").remove(server).or_else(|| config.map("credHelpers").remove(hostname(server)));
    own.or_else(|| Some(config.text("credsStore").to_owned())).filter(|helper| !helper.is_empty())
}

fn from_file(config: &Config, server: &str) -> Option<AuthConfig> {
    let auths = config.values.get("auths")?.as_object()?;
    let entry = auths.get(server).or_else(|| {
        // Older files hold addresses with a scheme or a path.
        auths.iter().find(|(key, _)| hostname(key) == hostname(server)).map(|(_, value)| value)
    })?;
    let text = |key: &str| entry.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut auth = AuthConfig {
        username: text("username"),
        password: text("password"),
        identitytoken: text("identitytoken"),
        registrytoken: text("registrytoken"),
        serveraddress: server.to_owned(),
        ..AuthConfig::default()
    };
    if let Some((username, password)) = decode(&text("auth")) {
        (auth.username, auth.password) = (username, password);
    }
    Some(auth)
}

fn decode(text: &str) -> Option<(String, String)> {
    let plain = String::from_utf8(STANDARD.decode(text.trim()).ok()?).ok()?;
    let (username, password) = plain.split_once(':')?;
    Some((username.to_owned(), password.trim_end_matches('\0').to_owned()))
}

fn from_helper(helper: &str, server: &str) -> CliResult<Option<AuthConfig>> {
    let text = match call(helper, "get", server) {
        Ok(text) => text,
        Err(why) if why.contains("credentials not found") => return Ok(None),
        Err(why) => return Err(Failure::new(format!("error getting credentials - err: {why}"))),
    };
    let reply: Value = serde_json::from_str(&text)
        .map_err(|e| Failure::new(format!("error getting credentials - docker-credential-{helper}: {e}")))?;
    let field = |key: &str| reply.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut auth = AuthConfig { serveraddress: server.to_owned(), ..AuthConfig::default() };
    if field("Username") == "<token>" {
        auth.identitytoken = field("Secret");
    } else {
        (auth.username, auth.password) = (field("Username"), field("Secret"));
    }
    Ok(Some(auth))
}

/// Runs a helper; the error is what it said.
fn call(helper: &str, verb: &str, input: &str) -> Result<String, String> {
    let program = format!("docker-credential-{helper}");
    let child =
        Command::new(&program).arg(verb).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn();
    let mut child = child.map_err(|e| {
        format!(
            "exec: \"{program}\": {}",
            match e.kind() {
                std::io::ErrorKind::NotFound => "executable file not found in $PATH".to_owned(),
                _ => barque_client::archive::plain_io(&e),
            }
        )
    })?;
    if let Some(mut stdin) = child.stdin.take() {
        // A helper that does not read its input says so by its status.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().map_err(|e| e.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if output.status.success() { Ok(text) } else { Err(format!("{}, out: `{text}`", output.status)) }
}

/// Stores credentials; gives the warning to print if a password lies there unencrypted that did not before.
pub(crate) fn store(config: &Config, auth: &AuthConfig) -> CliResult<Option<String>> {
    let fault = |why: String| Failure::new(format!("Error saving credentials: {why}"));
    let server = auth.serveraddress.as_str();
    if let Some(helper) = helper_for(config, server) {
        let (user, secret) = match auth.identitytoken.as_str() {
            "" => (auth.username.as_str(), auth.password.as_str()),
            token => ("<token>", token),
        };
        let input = json!({"ServerURL": server, "Username": user, "Secret": secret}).to_string();
        call(&helper, "store", &input).map_err(fault)?;
        // The file tells others where there is a login.
        let mut changed = config.clone();
        let auths = changed.values.entry("auths").or_insert_with(|| json!({}));
        if let Some(auths) = auths.as_object_mut()
            && auths.insert(server.to_owned(), json!({})) != Some(json!({}))
        {
            changed.save().map_err(|f| fault(f.message))?;
        }
        return Ok(None);
    }
    let mut changed = config.clone();
    let auths = changed.values.entry("auths").or_insert_with(|| json!({}));
    if let Some(auths) = auths.as_object_mut() {
        let entry = Value::Object(entry(auth));
        if auths.insert(server.to_owned(), entry.clone()) == Some(entry) {
            return Ok(None);
        }
    }
    changed.save().map_err(|f| fault(f.message))?;
    if auth.password.is_empty() {
        return Ok(None);
    }
    let path = changed.directory.join("config.json");
    Ok(Some(format!(
        "\nWARNING! Your credentials are stored unencrypted in '{}'.\nConfigure a credential helper to remove this \
         warning. See\nhttps://docs.docker.com/go/credential-store/\n",
        path.display()
    )))
}

/// Removes credentials; true if there were any.
pub(crate) fn erase(config: &mut Config, server: &str) -> CliResult<bool> {
    if let Some(helper) = helper_for(config, server) {
        call(&helper, "erase", server).map_err(Failure::new)?;
        if config
            .values
            .get_mut("auths")
            .and_then(Value::as_object_mut)
            .is_some_and(|a| a.shift_remove(server).is_some())
        {
            config.save()?;
        }
        return Ok(true);
    }
    let Some(auths) = config.values.get_mut("auths").and_then(Value::as_object_mut) else { return Ok(false) };
    let had = auths.shift_remove(server).is_some();
    if had {
        config.save()?;
    }
    Ok(had)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(values: Value) -> Config {
        Config { values: values.as_object().cloned().expect("object"), ..Config::default() }
    }

    #[test]
    fn credentials_are_found_by_host() {
        let config = config(json!({"auths": {
            HUB: {"auth": STANDARD.encode("me:secret")},
            "https://old.example/v1/": {"auth": STANDARD.encode("a:b:c")},
        }}));
        let hub = get(&config, key_of("docker.io")).expect("reads").expect("there");
        assert_eq!((hub.username.as_str(), hub.password.as_str()), ("me", "secret"));
        let old = get(&config, "old.example").expect("reads").expect("there");
        assert_eq!(old.password, "b:c");
        assert_eq!(get(&config, "new.example").expect("reads"), None);
        assert_eq!(all(&config).len(), 2);
        let text: Value = serde_json::from_str(&as_file(&all(&config))).expect("json");
        let config = self::config(text);
        assert_eq!(get(&config, HUB).expect("reads").expect("there").password, "secret", "it is a file like any other");
    }

    #[test]
    fn a_missing_helper_is_named() {
        let config = config(json!({"credHelpers": {"x.example": "no-such-helper"}}));
        let fault = get(&config, "x.example").expect_err("fails").message;
        assert!(fault.contains("docker-credential-no-such-helper"), "{fault}");
        assert_eq!(get(&config, "y.example").expect("no helper"), None);
    }

    #[test]
    fn what_is_stored_is_found_and_erased() {
        let dir = tempfile::tempdir().expect("tempdir");
        let directory = dir.path().to_str().expect("utf8");
        let (config, _) = Config::load(directory);
        let auth = AuthConfig {
            username: "u".into(),
            password: "p".into(),
            serveraddress: "r.example".into(),
            ..AuthConfig::default()
        };
        assert!(store(&config, &auth).expect("stores").expect("a warning").contains("stored unencrypted"));
        let (mut config, _) = Config::load(directory);
        assert_eq!(store(&config, &auth).expect("stores"), None, "it is known where it lies");
        let token = AuthConfig { password: String::new(), identitytoken: "t".into(), ..auth.clone() };
        assert_eq!(store(&config, &AuthConfig { serveraddress: "t.example".into(), ..token }).expect("stores"), None);
        assert_eq!(get(&config, "r.example").expect("reads").expect("there").password, "p");
        assert!(erase(&mut config, "r.example").expect("erases"));
        assert!(!erase(&mut config, "r.example").expect("none left"));
    }
}
