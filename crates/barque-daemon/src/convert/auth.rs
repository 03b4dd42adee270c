//! Registry credentials.

use barque_api::auth::AuthConfig;
use barque_engine::image::types::RegistryAuth;

use crate::http::decode_base64;

/// Credentials of a request.
pub(crate) fn credentials(wire: AuthConfig) -> RegistryAuth {
    if !wire.registrytoken.is_empty() {
        return RegistryAuth::RegistryToken(wire.registrytoken);
    }
    if !wire.identitytoken.is_empty() {
        return RegistryAuth::IdentityToken(wire.identitytoken);
    }
    if !wire.username.is_empty() {
        return RegistryAuth::Password { username: wire.username, password: wire.password };
    }
    // The form of the client's configuration file.
    let pair = decode_base64(&wire.auth).and_then(|bytes| String::from_utf8(bytes).ok());
    match pair.as_deref().and_then(|pair| pair.split_once(':')) {
        Some((username, password)) if !username.is_empty() => {
            RegistryAuth::Password { username: username.into(), password: password.trim_end_matches('\0').into() }
        }
        _ => RegistryAuth::Anonymous,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let of = |json: &str| credentials(barque_api::json::from_str(json).unwrap());
        assert!(matches!(of("{}"), RegistryAuth::Anonymous));
        let wanted = |auth| matches!(auth, RegistryAuth::Password { username, password } if username == "a" && password == "b:c");
        assert!(wanted(of(r#"{"username":"a","password":"b:c"}"#)));
        assert!(wanted(of(r#"{"auth":"YTpiOmM="}"#)));
        assert!(matches!(of(r#"{"identitytoken":"t"}"#), RegistryAuth::IdentityToken(_)));
        assert!(matches!(of(r#"{"auth":"!!"}"#), RegistryAuth::Anonymous));
    }
}
