//! A registry with TLS and passwords: certificates, login and logout, credential helpers.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on may panic")]

mod pair;

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use pair::{Engine, barque_registry, in_namespaces, installed, sh};

const HOST: &str = "reg.test:5443";

/// An `/etc` of the test's own, where `reg.test` is this machine, and a certificate for it that nobody has signed.
fn own_etc(dir: &Path) {
    let d = dir.display();
    sh(&format!(
        "set -e; cp -a /etc {d}/etc; mount --bind {d}/etc /etc; mkdir -p /etc/docker /etc/barque; \
         rm -rf /etc/docker/certs.d /etc/barque/certs.d; echo 127.0.0.1 reg.test >> /etc/hosts; \
         openssl req -x509 -newkey rsa:2048 -nodes -keyout {d}/key -out {d}/cert -days 2 -subj /CN=reg.test \
         -addext subjectAltName=DNS:reg.test 2> /dev/null"
    ));
}

#[test]
fn priv_registries_with_certificates_that_nobody_knows() {
    in_namespaces("priv_registries_with_certificates_that_nobody_knows", |dir| {
        if !installed("openssl") {
            return;
        }
        own_etc(dir);
        let path = |name: &str| dir.join(name).display().to_string();
        let (cert, key) = (path("cert"), path("key"));
        let _registry = barque_registry(dir, "127.0.0.1:5443", &["--tls-cert", &cert, "--tls-key", &key]);
        let name = format!("{HOST}/team/app:1");
        let mut engine = Engine::barque(dir, &[]);
        engine.import_busybox("base:1", &[]);
        engine.ok(&["tag", "base:1", &name]);
        // The cause in Docker's words, and the cures.
        for args in [&["push", &name][..], &["pull", &name]] {
            let why = engine.fails(args, "certificate signed by unknown authority");
            assert!(why.contains("certs.d/HOST/ca.crt") && why.contains("insecure registries"), "{why}");
        }
        // Each of the cures.
        for place in ["/etc/barque", "/etc/docker"] {
            sh(&format!("mkdir -p {place}/certs.d/{HOST} && cp {cert} {place}/certs.d/{HOST}/ca.crt"));
            engine.ok(&["push", &name]);
            sh(&format!("rm -r {place}/certs.d"));
            engine.down(false);
            engine.up();
            engine.fails(&["push", &name], "unknown authority");
        }
        engine.down(false);
        drop(engine);
        let engine = Engine::barque(dir, &["--insecure-registry", HOST]);
        engine.ok(&["rmi", &name]);
        engine.ok(&["pull", &name]);
        assert!(engine.ok(&["info"]).contains(HOST), "info names it");
    });
}

/// Docker's own client asks the engine to check the password, keeps it, and sends it along.
fn by_dockers_client(engine: &Engine, name: &str) {
    let docker = |args: &[&str]| engine.by_docker(args);
    let other = format!("{HOST}/team/other:1");
    let why = docker(&["pull", name]).unwrap_err();
    assert!(why.contains("no basic auth credentials"), "{why}");
    let why = docker(&["login", "-u", "pupil", "-p", "wrong", HOST]).unwrap_err();
    assert!(why.contains("401"), "{why}");
    let said = docker(&["login", "-u", "pupil", "-p", "secret", HOST]).unwrap();
    assert!(said.contains("Login Succeeded"), "{said}");
    let said = docker(&["pull", name]).unwrap();
    assert!(said.contains(&format!("Status: Downloaded newer image for {name}")), "{said}");
    docker(&["tag", name, &other]).unwrap();
    let said = docker(&["push", &other]).unwrap();
    assert!(said.contains("1: digest: sha256:"), "{said}");
    docker(&["rmi", name, &other]).unwrap();
    docker(&["pull", "-q", &other]).unwrap();
    docker(&["rmi", &other]).unwrap();
    docker(&["logout", HOST]).unwrap();
    let why = docker(&["pull", &other]).unwrap_err();
    assert!(why.contains("no basic auth credentials"), "{why}");
}

#[test]
fn priv_logins_certificates_and_credential_helpers() {
    in_namespaces("priv_logins_certificates_and_credential_helpers", |dir| {
        if !installed("openssl") || !installed("htpasswd") {
            return;
        }
        let d = dir.display();
        own_etc(dir);
        sh(&format!("htpasswd -Bbc {d}/htpasswd pupil secret"));
        let path = |name: &str| dir.join(name).display().to_string();
        let (users, cert, key) = (path("htpasswd"), path("cert"), path("key"));
        let more = ["--htpasswd", &users, "--tls-cert", &cert, "--tls-key", &key];
        let mut registry = barque_registry(dir, "127.0.0.1:5443", &more);
        let engine = Engine::barque(dir, &[]);
        engine.import_busybox("base:1", &[]);
        let name = format!("{HOST}/team/app:1");
        engine.ok(&["tag", "base:1", &name]);
        let why = engine.run(&["push", &name]).unwrap_err();
        assert!(why.contains("certificate"), "{why}");
        sh(&format!("mkdir -p /etc/docker/certs.d/{HOST} && cp {d}/cert /etc/docker/certs.d/{HOST}/ca.crt"));
        let why = engine.run(&["push", &name]).unwrap_err();
        assert!(why.contains("no basic auth credentials") || why.contains("unauthorized"), "{why}");
        engine.fails(&["login", "-u", "pupil", "-p", "wrong", HOST], "401");
        let login = || engine.run(&["login", "-u", "pupil", "-p", "secret", HOST]).unwrap();
        let said = login();
        assert!(said.contains("Login Succeeded"), "{said}");
        for warning in ["Using --password via the CLI is insecure", "stored unencrypted"] {
            assert_eq!(said.matches(warning).count(), 1, "{said}");
        }
        // Where the password lies has been said.
        let said = login();
        assert!(said.contains("Login Succeeded") && !said.contains("stored unencrypted"), "{said}");
        let config = engine.dir.join("config/config.json");
        assert!(std::fs::read_to_string(&config).unwrap().contains("cHVwaWw6c2VjcmV0"));
        engine.ok(&["push", &name]);
        engine.ok(&["logout", HOST]);
        engine.ok(&["rmi", &name]);
        assert!(engine.run(&["pull", &name]).is_err(), "the password is forgotten");
        if installed("docker") {
            by_dockers_client(&engine, &name);
        }
        // Docker's client reads the same file, and so does a helper's.
        let bin = dir.join("bin");
        std::fs::create_dir(&bin).unwrap();
        let helper = bin.join("docker-credential-drawer");
        std::fs::write(
            &helper,
            format!(
                "#!/bin/sh\ncase $1 in\nstore) cat > {d}/drawer;;\nget) [ -f {d}/drawer ] && cat {d}/drawer || \
                 {{ echo credentials not found in native keychain; exit 1; }};;\nerase) cat > /dev/null; rm -f {d}/drawer;;\nesac\n"
            ),
        )
        .unwrap();
        std::fs::set_permissions(&helper, std::fs::Permissions::from_mode(0o755)).unwrap();
        let with_helper = |args: &[&str]| {
            let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
            let output = engine.command(args).env("PATH", path).output().unwrap();
            let said =
                format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            (output.status.success(), said)
        };
        for setting in [format!("{{\"credHelpers\":{{\"{HOST}\":\"drawer\"}}}}"), "{\"credsStore\":\"drawer\"}".into()]
        {
            std::fs::write(&config, &setting).unwrap();
            assert!(!with_helper(&["pull", &name]).0);
            let (done, said) = with_helper(&["login", "-u", "pupil", "-p", "secret", HOST]);
            assert!(done && said.contains("Login Succeeded") && !said.contains("unencrypted"), "{said}");
            assert!(std::fs::read_to_string(dir.join("drawer")).unwrap().contains("secret"));
            assert!(!std::fs::read_to_string(&config).unwrap().contains("cHVwaWw6c2VjcmV0"), "{setting}");
            let (done, said) = with_helper(&["pull", &name]);
            assert!(done, "{said}");
            assert!(with_helper(&["logout", HOST]).0 && !dir.join("drawer").exists());
            engine.ok(&["rmi", &name]);
            assert!(!with_helper(&["pull", &name]).0);
        }
        registry.kill().unwrap();
        registry.wait().unwrap();
    });
}
