//! The token flow against a registry and token server of the usual kind.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use barque_model::{ErrorKind, Reference};
use barque_registry::{Credentials, media};
use common::image::Image;
use common::script::{Say, Script, Seen};
use common::{client, noise};

/// A token server for `pupil:secret`; tokens say what they are good for. Anonymous tokens are good for `public/…`.
async fn token_server(lifetime: u32) -> Script {
    let issued = AtomicUsize::new(0);
    Script::start(move |seen| {
        let url = url::Url::parse(&format!("http://x{}", seen.path)).unwrap();
        let form = match seen.method.as_str() {
            "POST" => String::from_utf8(seen.body.clone()).unwrap(),
            _ => url.query().unwrap_or_default().to_owned(),
        };
        let pairs: Vec<(String, String)> = url::form_urlencoded::parse(form.as_bytes()).into_owned().collect();
        let get = |key: &str| pairs.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str());
        assert_eq!(get("service"), Some("test service"));
        let user = match (seen.method.as_str(), seen.header("authorization"), get("refresh_token")) {
            ("POST", None, Some("refresh-me")) => "pupil",
            ("GET", None, None) => "",
            ("GET", Some("Basic cHVwaWw6c2VjcmV0"), None) => "pupil",
            _ => return Say::status(401, &[], "{\"details\":\"incorrect username or password\"}"),
        };
        let scopes: Vec<&str> =
            pairs.iter().filter(|(name, _)| name == "scope").flat_map(|(_, value)| value.split(' ')).collect();
        let good: Vec<&str> =
            scopes.into_iter().filter(|scope| user == "pupil" || scope.contains("repository:public/")).collect();
        let number = issued.fetch_add(1, Ordering::SeqCst);
        let refresh = if get("offline_token") == Some("true") { ",\"refresh_token\":\"refresh-me\"" } else { "" };
        let token = format!("t{number}|{user}|{}", good.join("+"));
        Say::ok(format!("{{\"access_token\":\"{token}\",\"expires_in\":{lifetime}{refresh}}}"))
    })
    .await
}

/// A registry that trusts that token server. `revoked` tokens by number are refused.
async fn registry(tokens: &Script, image: &Image, revoked: Arc<AtomicUsize>) -> Script {
    let realm = format!("http://{}/token", tokens.host());
    let image = image.clone();
    Script::start(move |seen| {
        let scope = scope_of(seen);
        let challenge = |extra: &str| {
            let value = format!("Bearer realm=\"{realm}\",service=\"test service\",scope=\"{scope}\"{extra}");
            Say::status(
                401,
                &[("WWW-Authenticate", &value)],
                "{\"errors\":[{\"code\":\"UNAUTHORIZED\",\"message\":\"authentication required\"}]}",
            )
        };
        let Some(token) = seen.header("authorization").and_then(|value| value.strip_prefix("Bearer ")) else {
            return challenge("");
        };
        let parts: Vec<&str> = token.split('|').collect();
        let number: usize = parts[0].trim_start_matches('t').parse().unwrap();
        if number < revoked.load(Ordering::SeqCst) {
            return challenge(",error=\"invalid_token\"");
        }
        if !scope.is_empty() && !parts[2].split('+').any(|good| good == scope) {
            return challenge(",error=\"insufficient_scope\"");
        }
        answer(seen, &image)
    })
    .await
}

fn scope_of(seen: &Seen) -> String {
    let path = seen.path.split('?').next().unwrap();
    let Some(rest) = path.strip_prefix("/v2/").filter(|rest| !rest.is_empty()) else { return String::new() };
    let name = rest.split("/manifests/").next().unwrap().split("/blobs/").next().unwrap();
    let actions = if matches!(seen.method.as_str(), "PUT" | "POST" | "PATCH") { "pull,push" } else { "pull" };
    format!("repository:{name}:{actions}")
}

fn answer(seen: &Seen, image: &Image) -> Say {
    if seen.path == "/v2/" {
        return Say::ok("{}");
    }
    if seen.method == "PUT" && seen.path.contains("/manifests/") {
        return Say::status(201, &[], "");
    }
    if seen.path.contains("/manifests/") {
        return Say::status(200, &[("Content-Type", media::OCI_MANIFEST)], &image.manifest.bytes);
    }
    match image.blobs().find(|(descriptor, _)| seen.path.ends_with(&descriptor.digest.to_string())) {
        Some((_, bytes)) => Say::ok(bytes),
        None => Say::status(404, &[], ""),
    }
}

fn reference(script: &Script, rest: &str) -> Reference {
    format!("{}/{rest}", script.host()).parse().unwrap()
}

#[tokio::test]
async fn anonymous_tokens_are_fetched_once() {
    let image = Image::new(vec![noise(1, 100), noise(2, 100)]);
    let tokens = token_server(300).await;
    let registry = registry(&tokens, &image, Arc::default()).await;
    let client = client();
    let name = reference(&registry, "public/app:1");
    let resolved = client.resolve(&name, None, &Credentials::Anonymous).await.unwrap();
    for layer in &resolved.image.layers {
        client.blob_bytes(&name, layer, 1000, &Credentials::Anonymous).await.unwrap();
    }
    assert_eq!(tokens.seen().len(), 1);
    let requests = registry.seen();
    assert_eq!(requests.len(), 4, "one challenge, then three requests with the token");
    assert!(tokens.seen()[0].header("authorization").is_none());
}

#[tokio::test]
async fn parallel_requests_share_one_token() {
    let image = Image::new((0..8).map(|seed| noise(seed + 1, 100)).collect());
    let tokens = token_server(300).await;
    let registry = registry(&tokens, &image, Arc::default()).await;
    let client = client();
    let name = reference(&registry, "public/app:1");
    let fetches = image.layers.iter().map(|(layer, _)| client.blob_bytes(&name, layer, 1000, &Credentials::Anonymous));
    for fetched in futures_util::future::join_all(fetches).await {
        fetched.unwrap();
    }
    assert_eq!(tokens.seen().len(), 1);
}

#[tokio::test]
async fn private_repositories_need_the_right_user() {
    let image = Image::new(vec![]);
    let tokens = token_server(300).await;
    let registry = registry(&tokens, &image, Arc::default()).await;
    let client = client();
    let name = reference(&registry, "private/app:1");
    client.resolve(&name, None, &Credentials::basic("pupil", "secret")).await.unwrap();

    let error = client.resolve(&name, None, &Credentials::Anonymous).await.unwrap_err();
    let expected = format!(
        "pull access denied for {}/private/app, repository does not exist or may require 'docker login': denied: requested access to the resource is denied",
        registry.host()
    );
    assert_eq!((error.message(), error.kind()), (expected.as_str(), ErrorKind::NotFound));

    let error = client.resolve(&name, None, &Credentials::basic("pupil", "wrong")).await.unwrap_err();
    assert!(error.message().ends_with("unauthorized: incorrect username or password"), "{error}");
    assert_eq!(error.kind(), ErrorKind::Unauthorized);
}

#[tokio::test]
async fn a_token_that_is_refused_is_renewed_once() {
    let image = Image::new(vec![noise(1, 100)]);
    let tokens = token_server(300).await;
    let revoked = Arc::new(AtomicUsize::new(0));
    let registry = registry(&tokens, &image, revoked.clone()).await;
    let client = client();
    let name = reference(&registry, "public/app:1");
    client.resolve(&name, None, &Credentials::Anonymous).await.unwrap();
    revoked.store(1, Ordering::SeqCst);
    client.resolve(&name, None, &Credentials::Anonymous).await.unwrap();
    assert_eq!(tokens.seen().len(), 2);
    revoked.store(usize::MAX, Ordering::SeqCst);
    let before = registry.seen().len();
    let error = client.resolve(&name, None, &Credentials::Anonymous).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized);
    assert_eq!(registry.seen().len() - before, 2, "one try with the old token, one with a new one");
}

#[tokio::test]
async fn a_token_that_expires_is_not_used() {
    let image = Image::new(vec![]);
    let tokens = token_server(1).await;
    let registry = registry(&tokens, &image, Arc::default()).await;
    let client = client();
    let name = reference(&registry, "public/app:1");
    client.resolve(&name, None, &Credentials::Anonymous).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(1000)).await;
    client.resolve(&name, None, &Credentials::Anonymous).await.unwrap();
    assert_eq!(tokens.seen().len(), 2);
    assert_eq!(registry.seen().len(), 3, "the second time without a challenge");
}

#[tokio::test]
async fn login_gives_an_identity_token_that_works() {
    let image = Image::new(vec![]);
    let tokens = token_server(300).await;
    let registry = registry(&tokens, &image, Arc::default()).await;
    let client = client();
    let login = client.login(&registry.host(), &Credentials::basic("pupil", "secret")).await.unwrap();
    assert_eq!((login.status.as_str(), login.identity_token.as_str()), ("Login Succeeded", "refresh-me"));
    let identity = Credentials::IdentityToken(login.identity_token);
    client.resolve(&reference(&registry, "private/app:1"), None, &identity).await.unwrap();
    let last = tokens.seen().pop().unwrap();
    assert_eq!(last.method, "POST");
    assert!(String::from_utf8(last.body).unwrap().contains("grant_type=refresh_token"));

    let error = client.login(&registry.host(), &Credentials::basic("pupil", "wrong")).await.unwrap_err();
    assert!(error.message().ends_with("unauthorized: incorrect username or password"), "{error}");
}

#[tokio::test]
async fn registry_tokens_are_used_as_they_are() {
    let image = Image::new(vec![]);
    let tokens = token_server(300).await;
    let registry = registry(&tokens, &image, Arc::default()).await;
    let name = reference(&registry, "private/app:1");
    let ready = Credentials::RegistryToken("t0|me|repository:private/app:pull".to_owned());
    client().resolve(&name, None, &ready).await.unwrap();
    assert!(tokens.seen().is_empty());
    let useless = Credentials::RegistryToken("t0|me|".to_owned());
    assert!(client().resolve(&name, None, &useless).await.is_err());
    assert!(tokens.seen().is_empty());
}

#[tokio::test]
async fn pushing_asks_for_more() {
    let image = Image::new(vec![]);
    let tokens = token_server(300).await;
    let registry = registry(&tokens, &image, Arc::default()).await;
    let client = client();
    let name = reference(&registry, "private/app:1");
    let creds = Credentials::basic("pupil", "secret");
    client.put_manifest(&name, &image.manifest, &creds).await.unwrap();
    let asked = tokens.seen().pop().unwrap().path;
    assert!(asked.contains("scope=repository%3Aprivate%2Fapp%3Apull%2Cpush"), "{asked}");
    let error = client.put_manifest(&name, &image.manifest, &Credentials::Anonymous).await.unwrap_err();
    assert_eq!(error.message(), "denied: requested access to the resource is denied");
}

#[tokio::test]
async fn token_servers_that_talk_nonsense() {
    for (body, expected) in [
        ("", "malformed token"),
        ("{}", "did not include a token"),
        ("{\"token\":\"a\\nb: c\"}", "forbidden characters"),
        ("[]", "malformed token"),
    ] {
        let tokens = Script::start(move |_| Say::ok(body)).await;
        let realm = format!("Bearer realm=\"http://{}/\",service=\"s\"", tokens.host());
        let registry = Script::start(move |_| Say::status(401, &[("WWW-Authenticate", &realm)], "")).await;
        let name = reference(&registry, "a:1");
        let error = client().resolve(&name, None, &Credentials::Anonymous).await.unwrap_err();
        assert!(error.message().contains(expected), "{body}: {error}");
    }
}

#[tokio::test]
async fn registry_and_token_server_on_one_host_with_one_request_at_a_time() {
    let image = Image::new((0..4).map(|seed| noise(seed + 1, 100)).collect());
    let content = image.clone();
    let script = Script::start(move |seen| {
        if seen.path.starts_with("/token") {
            return Say::ok("{\"token\":\"t\"}");
        }
        let realm = format!("Bearer realm=\"http://{}/token\"", seen.header("host").unwrap());
        match seen.header("authorization") {
            Some("Bearer t") => answer(seen, &content),
            _ => Say::status(401, &[("WWW-Authenticate", &realm)], ""),
        }
    })
    .await;
    let config = barque_registry::ClientConfig { max_per_host: 1, ..common::quick() };
    let client = barque_registry::Client::new(config).unwrap();
    let name = reference(&script, "a:1");
    let fetches = image.layers.iter().map(|(layer, _)| client.blob_bytes(&name, layer, 1000, &Credentials::Anonymous));
    let all = tokio::time::timeout(std::time::Duration::from_secs(10), futures_util::future::join_all(fetches)).await;
    for fetched in all.expect("they wait for each other") {
        fetched.unwrap();
    }
}

#[tokio::test]
async fn search_asks_the_index() {
    let index = Script::start(|seen| {
        assert!(seen.path.starts_with("/v1/search?q=py+thon&n=7"), "{}", seen.path);
        Say::ok("{\"num_results\":2,\"results\":[{\"name\":\"python\",\"description\":\"d\\u001b[1m\\ne\",\"star_count\":3,\"is_official\":true},{\"name\":\"x/y\"}]}")
    })
    .await;
    let client = client();
    let term = format!("{}/py thon", index.host());
    let found = client.search(&term, 7, &Credentials::Anonymous).await.unwrap();
    assert_eq!(found.len(), 2);
    assert_eq!((found[0].name.as_str(), found[0].star_count, found[0].is_official), ("python", 3, true));
    assert_eq!(found[0].description, "d[1m e", "one line, and no control characters");
    let config = barque_registry::ClientConfig { index_url: format!("http://{}", index.host()), ..common::quick() };
    let by_default = barque_registry::Client::new(config).unwrap();
    assert_eq!(by_default.search("library/py thon", 7, &Credentials::Anonymous).await.unwrap().len(), 2);
    assert!(client.search("x", 0, &Credentials::Anonymous).await.is_err());
    assert!(client.search("x", 101, &Credentials::Anonymous).await.is_err());
}
