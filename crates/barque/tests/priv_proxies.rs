//! Registries behind a proxy, as an engine is told of it in its environment, its configuration and its options.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on may panic")]

mod pair;

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use pair::{Engine, barque_registry, in_namespaces, installed, sh};

/// What a proxy was asked, a line each.
type Asked = Arc<Mutex<Vec<String>>>;

/// A proxy that takes every host for this machine; gives its address and what it is asked.
fn proxy() -> (String, Asked) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let asked = Asked::default();
    let seen = asked.clone();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let (client, seen) = (client.unwrap(), seen.clone());
            std::thread::spawn(move || relay(client, &seen));
        }
    });
    (address, asked)
}

/// One connection: the first request says where to. `None` if it broke.
fn relay(mut client: TcpStream, seen: &Asked) -> Option<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        client.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let text = String::from_utf8(head.clone()).ok()?;
    let login =
        text.lines().find_map(|l| l.split_once(": ").filter(|(k, _)| k.eq_ignore_ascii_case("proxy-authorization")));
    let line = text.lines().next()?;
    seen.lock().unwrap().push(format!("{line} {}", login.map_or("", |(_, value)| value)));
    let target = line.split(' ').nth(1)?.trim_start_matches("http://");
    let port = target.split('/').next()?.rsplit(':').next()?;
    let mut server = TcpStream::connect(("127.0.0.1", port.parse().ok()?)).ok()?;
    match line.starts_with("CONNECT ") {
        true => client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").ok()?,
        // A server has to take the whole address as well (RFC 9112, section 3.2.2).
        false => server.write_all(&head).ok()?,
    }
    let (mut up, mut down) = (client.try_clone().ok()?, server.try_clone().ok()?);
    std::thread::spawn(move || {
        let _ended = std::io::copy(&mut up, &mut server);
        let _gone = server.shutdown(std::net::Shutdown::Write);
    });
    std::io::copy(&mut down, &mut client).ok()?;
    client.shutdown(std::net::Shutdown::Write).ok()
}

#[test]
fn priv_registries_are_reached_through_proxies() {
    in_namespaces("priv_registries_are_reached_through_proxies", |dir| {
        if !installed("openssl") {
            return;
        }
        let d = dir.display();
        // Names that only a proxy knows, and one that is this machine.
        sh(&format!(
            "set -e; cp -a /etc {d}/etc; mount --bind {d}/etc /etc; mkdir -p /etc/barque; rm -rf /etc/barque/certs.d; \
             echo '192.0.2.1 near.test' >> /etc/hosts; ip addr add 192.0.2.1/32 dev lo; \
             openssl req -x509 -newkey rsa:2048 -nodes -keyout {d}/key -out {d}/cert -days 2 -subj /CN=far.test \
             -addext subjectAltName=DNS:far.test,DNS:near.test 2> /dev/null; \
             for h in far.test near.test; do mkdir -p /etc/barque/certs.d/$h:5443; \
             cp {d}/cert /etc/barque/certs.d/$h:5443/ca.crt; done"
        ));
        let file = |name: &str| dir.join(name).display().to_string();
        let tls = ["--tls-cert", &file("cert"), "--tls-key", &file("key")];
        let _sealed = barque_registry(dir, "0.0.0.0:5443", &tls);
        let _plain = barque_registry(dir, "127.0.0.1:5072", &[]);
        let (address, asked) = proxy();
        let asked = || std::mem::take(&mut *asked.lock().unwrap());
        let mut engine = Engine::barque(dir, &["--insecure-registry", "plain.test:5072"]);
        engine.import_busybox("base:1", &[]);
        let (far, near, plain) =
            ("far.test:5443/team/app:1", "near.test:5443/team/app:1", "plain.test:5072/team/app:1");
        for name in [far, near, plain] {
            engine.ok(&["tag", "base:1", name]);
        }
        engine.fails(&["push", far], "far.test");
        let url = format!("http://me:p%40ss@{address}");
        let settled = |engine: &mut Engine, env: &[(&str, &str)], config: &str| {
            engine.down(false);
            engine.env = env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            std::fs::write("/etc/barque/daemon.json", config).unwrap();
            engine.up();
        };
        let proxies =
            format!(r#"{{"proxies": {{"http-proxy": "{url}", "https-proxy": "{url}", "no-proxy": "near.test"}}}}"#);
        let dead = [("HTTP_PROXY", "http://127.0.0.1:1"), ("HTTPS_PROXY", "http://127.0.0.1:1")];
        let upper = [("HTTP_PROXY", url.as_str()), ("HTTPS_PROXY", &url), ("NO_PROXY", "near.test")];
        let lower = [("http_proxy", url.as_str()), ("https_proxy", &url), ("no_proxy", "near.test")];
        // The configuration counts before the environment.
        for (env, config) in [(&upper[..], "{}"), (&lower, "{}"), (&[], proxies.as_str()), (&dead, &proxies)] {
            settled(&mut engine, env, config);
            let said = engine.ok(&["info"]);
            let shown = format!("HTTPS Proxy: http://xxxxx:xxxxx@{address}");
            assert!(said.contains(&shown) && said.contains("No Proxy: near.test"), "{env:?}: {said}");
            engine.ok(&["push", far]);
            let seen = asked();
            let tunnel = "CONNECT far.test:5443 HTTP/1.1 Basic bWU6cEBzcw==";
            assert!(!seen.is_empty() && seen.iter().all(|line| line == tunnel), "{env:?}: {seen:?}");
            engine.ok(&["push", near]);
            assert_eq!(asked(), [""; 0], "{env:?}: what needs no proxy has none");
            // Of what is insecure TLS is tried first, and that by a tunnel too.
            engine.ok(&["push", plain]);
            let seen = asked();
            let whole = |line: &&String| line.contains(" http://plain.test:5072/v2/team/app/");
            assert!(seen.iter().any(|line| whole(&line)), "{env:?}: {seen:?}");
            for name in [far, near, plain] {
                engine.ok(&["rmi", name]);
                engine.ok(&["pull", "-q", name]);
            }
            asked();
        }
        // Nobody is there, or nobody is to be asked.
        settled(&mut engine, &dead, "{}");
        engine.fails(&["pull", far], "connection refused");
        settled(&mut engine, &[upper[0], upper[1], ("NO_PROXY", ".test")], "{}");
        engine.fails(&["pull", far], "far.test");
        assert_eq!(asked(), [""; 0]);
    });
}
