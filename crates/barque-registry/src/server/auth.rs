//! Basic authentication against an `htpasswd` file with bcrypt hashes (`htpasswd -B`).

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::SystemTime;

use barque_model::{Context as _, Digest, Error, Result};
use base64::Engine as _;

/// Verified passwords remembered, so that each request need not pay for bcrypt.
const REMEMBERED_MAX: usize = 1024;
/// A hash nobody's password has: unknown users must cost as much as known ones.
const NOBODY: &str = "$2b$10$abcdefghijklmnopqrstuuNbfRFXF0GBJ3xyF5Z0nwGVpGpGXOeZK";

/// The users of a registry.
pub(super) struct Users {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    modified: Option<SystemTime>,
    hashes: HashMap<String, String>,
    /// User → fingerprint of the password that was right.
    verified: HashMap<String, Digest>,
    salt: [u8; 16],
}

impl Users {
    /// Reads the file.
    ///
    /// # Errors
    /// When it cannot be read or names no user with a bcrypt hash.
    pub(super) fn load(path: PathBuf) -> Result<Self> {
        let mut salt = [0; 16];
        barque_model::id::fill_random(&mut salt);
        let users = Self { path, state: Mutex::new(State { salt, ..State::default() }) };
        users.refresh()?;
        Ok(users)
    }

    fn refresh(&self) -> Result<()> {
        let named = || format!("cannot read the htpasswd file {}", self.path.display());
        let modified = std::fs::metadata(&self.path).and_then(|metadata| metadata.modified()).with_context(named)?;
        let mut state = self.lock();
        if state.modified == Some(modified) {
            return Ok(());
        }
        let text = std::fs::read_to_string(&self.path).with_context(named)?;
        let hashes = parse(&text);
        if hashes.is_empty() {
            return Err(Error::invalid(format!("{} names no user with a bcrypt hash", self.path.display()))
                .with_hint("make it with `htpasswd -B -c FILE USER`"));
        }
        state.hashes = hashes;
        state.verified.clear();
        state.modified = Some(modified);
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Whether an `Authorization` header is good. Blocks for as long as bcrypt takes.
    pub(super) fn admits(&self, authorization: Option<&str>) -> bool {
        let Some((user, password)) = authorization.and_then(basic) else { return false };
        // While the file is being replaced, the last good content counts.
        if let Err(error) = self.refresh() {
            tracing::warn!(error = %error.chain(), "htpasswd");
        }
        let (hash, fingerprint) = {
            let state = self.lock();
            let fingerprint = Digest::of(&[&state.salt[..], password.as_bytes()].concat());
            if state.verified.get(&user) == Some(&fingerprint) {
                return true;
            }
            (state.hashes.get(&user).cloned(), fingerprint)
        };
        let known = hash.is_some();
        let good = bcrypt::verify(&password, hash.as_deref().unwrap_or(NOBODY)).unwrap_or(false);
        if known && good {
            let mut state = self.lock();
            if state.verified.len() >= REMEMBERED_MAX {
                state.verified.clear();
            }
            // Only if the file did not change meanwhile.
            if state.hashes.get(&user) == hash.as_ref() {
                state.verified.insert(user, fingerprint);
            }
        }
        known && good
    }
}

fn parse(text: &str) -> HashMap<String, String> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let pairs = lines.filter_map(|line| line.split_once(':'));
    let bcrypt = pairs.filter(|(_, hash)| ["$2y$", "$2b$", "$2a$"].iter().any(|kind| hash.starts_with(kind)));
    bcrypt.map(|(user, hash)| (user.to_owned(), hash.to_owned())).collect()
}

fn basic(header: &str) -> Option<(String, String)> {
    let (scheme, value) = header.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let plain = base64::engine::general_purpose::STANDARD.decode(value.trim()).ok()?;
    let plain = String::from_utf8(plain).ok()?;
    let (user, password) = plain.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(user: &str, password: &str) -> String {
        format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}")))
    }

    #[test]
    fn admits_by_bcrypt_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("htpasswd");
        let hash = bcrypt::hash("se:cret", 4).unwrap().replace("$2b$", "$2y$");
        std::fs::write(&path, format!("# c\n\nme:{hash}\nold:$apr1$x$y\n")).unwrap();
        let users = Users::load(path.clone()).unwrap();
        assert!(users.admits(Some(&header("me", "se:cret"))));
        assert!(users.admits(Some(&header("me", "se:cret"))), "and again from memory");
        for bad in
            [header("me", "wrong"), header("you", "se:cret"), header("old", ""), "Bearer x".into(), "Basic".into()]
        {
            assert!(!users.admits(Some(&bad)), "{bad}");
        }
        assert!(!users.admits(None));

        let other = bcrypt::hash("new", 4).unwrap();
        std::fs::write(&path, format!("me:{other}\n")).unwrap();
        let later = SystemTime::now() + std::time::Duration::from_secs(5);
        std::fs::File::options().append(true).open(&path).unwrap().set_modified(later).unwrap();
        assert!(users.admits(Some(&header("me", "new"))));
        assert!(!users.admits(Some(&header("me", "se:cret"))), "the remembered password is void");
    }

    #[test]
    fn a_file_without_bcrypt_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("htpasswd");
        std::fs::write(&path, "a:{SHA}x\n").unwrap();
        assert!(Users::load(path).err().unwrap().hint().unwrap().contains("htpasswd -B"));
        assert!(bcrypt::verify("x", NOBODY).is_ok(), "the decoy must cost a full hash");
    }
}
