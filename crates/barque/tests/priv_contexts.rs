//! One client with several engines: contexts over a unix socket, ssh and TLS with client certificates.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod common;

use std::process::{Command, Output};

use common::{Machine, missing};

fn context(machine: &Machine, args: &[&str]) -> Output {
    // A variable would have the last word over contexts.
    machine.command("barque", args).env_remove("DOCKER_HOST").output().unwrap()
}

fn good(machine: &Machine, args: &[&str]) -> String {
    let done = context(machine, args);
    assert!(done.status.success(), "{args:?}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}

fn bad(machine: &Machine, args: &[&str]) -> String {
    let done = context(machine, args);
    assert!(!done.status.success(), "{args:?} succeeded: {}", String::from_utf8_lossy(&done.stdout));
    String::from_utf8(done.stderr).unwrap()
}

/// A shell script that must succeed.
fn shell(directory: &std::path::Path, script: &str) {
    let done = Command::new("sh").args(["-ec", script]).current_dir(directory).output().unwrap();
    assert!(done.status.success(), "{script}: {}", String::from_utf8_lossy(&done.stderr));
}

#[test]
fn contexts_are_made_used_moved_and_removed() {
    if let Some(why) = missing(&[]) {
        return println!("skipped: {why}");
    }
    let machine = Machine::start(&[]);
    let host = format!("host=unix://{}", machine.text("sock"));
    assert_eq!(good(&machine, &["context", "show"]), "default\n");
    assert_eq!(good(&machine, &["context", "create", "one", "--description", "first", "--docker", &host]), "one\n");
    assert_eq!(good(&machine, &["context", "use", "one"]), "one\n");
    assert_eq!(good(&machine, &["context", "show"]), "one\n");
    assert!(good(&machine, &["context", "ls"]).contains("one *"));
    good(&machine, &["ps"]);
    good(&machine, &["context", "export", "one", "a.tar"]);
    assert_eq!(good(&machine, &["context", "import", "two", "a.tar"]), "two\n");
    good(&machine, &["--context", "two", "ps"]);
    good(&machine, &["context", "update", "two", "--description", "second"]);
    assert_eq!(good(&machine, &["context", "inspect", "two", "-f", "{{.Metadata.Description}}"]), "second\n");
    assert!(bad(&machine, &["context", "rm", "one"]).contains("is in use"));
    assert!(bad(&machine, &["context", "create", "two", "--docker", &host]).contains("already exists"));
    assert!(bad(&machine, &["context", "use", "nobody"]).contains("not found"));
    assert!(bad(&machine, &["context", "create", "three", "--docker", "host=ftp://x"]).contains("unknown scheme ftp"));
    good(&machine, &["context", "use", "default"]);
    assert_eq!(good(&machine, &["context", "rm", "one", "two"]), "one\ntwo\n");
    assert_eq!(good(&machine, &["context", "ls", "-q"]), "default\n");
}

#[test]
fn an_engine_over_ssh() {
    if let Some(why) = missing(&["sshd", "ssh", "ssh-keygen"]) {
        return println!("skipped: {why}");
    }
    let machine = Machine::start(&[]);
    let dir = machine.dir.path();
    shell(
        dir,
        "ssh-keygen -q -t ed25519 -N '' -f host; ssh-keygen -q -t ed25519 -N '' -f user; mkdir -p ssh /run/sshd",
    );
    let config = format!(
        "Port 2222\nListenAddress 127.0.0.1\nHostKey {dir}/host\nAuthorizedKeysFile {dir}/user.pub\nPidFile \
         {dir}/sshd.pid\nStrictModes no\nUsePAM no\nPermitRootLogin prohibit-password\nSetEnv \
         PATH={dir}/bin:/usr/bin:/bin\n",
        dir = dir.display()
    );
    std::fs::write(dir.join("sshd.conf"), config).unwrap();
    // ssh finds its files by the user's home in passwd; a wrapper on PATH names others.
    let wrapper = format!(
        "#!/bin/sh\nexec /usr/bin/ssh -F /dev/null -i {0}/user -o StrictHostKeyChecking=no -o \
         UserKnownHostsFile=/dev/null -o LogLevel=ERROR \"$@\"\n",
        dir.display()
    );
    std::fs::write(dir.join("bin/ssh"), wrapper).unwrap();
    shell(dir, "chmod +x bin/ssh");
    let started = machine.try_run("/usr/sbin/sshd", &["-f", &machine.text("sshd.conf")]).unwrap();
    assert!(started.status.success(), "{}", String::from_utf8_lossy(&started.stderr));
    let result = std::panic::catch_unwind(|| {
        let host = format!("host=ssh://root@127.0.0.1:2222{}", machine.text("sock"));
        good(&machine, &["context", "create", "far", "--docker", &host]);
        assert_eq!(
            good(&machine, &["-c", "far", "version", "-f", "{{.Server.Version}}"]).trim(),
            env!("CARGO_PKG_VERSION")
        );
        // A hijacked stream with both directions.
        assert_eq!(good(&machine, &["-c", "far", "run", "--rm", "barque/host", "echo", "there"]), "there\n");
        good(&machine, &["context", "create", "wrong", "--docker", "host=ssh://root@127.0.0.1:1"]);
        let refused = bad(&machine, &["-c", "wrong", "ps"]);
        assert!(refused.contains("ssh") && refused.contains("127.0.0.1"), "{refused}");
    });
    shell(dir, "kill $(cat sshd.pid)");
    if let Err(panic) = result {
        std::panic::resume_unwind(panic);
    }
}

#[test]
fn an_engine_over_tls_asks_for_a_certificate() {
    if let Some(why) = missing(&["openssl"]) {
        return println!("skipped: {why}");
    }
    let dir = tempfile::Builder::new().prefix("barque-test").tempdir().unwrap();
    let certificates = "mkdir -p server client other
        authority() { openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=$1 -keyout $1.key -out $1.pem 2>/dev/null; }
        signed() { # authority, directory, extension
          openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=$2 -keyout $2/key.pem -out $2.csr 2>/dev/null
          echo \"$3\" > $2.ext
          openssl x509 -req -in $2.csr -CA $1.pem -CAkey $1.key -CAcreateserial -days 2 -extfile $2.ext -out $2/cert.pem 2>/dev/null
          cp ca.pem $2/ca.pem; }
        authority ca; authority strange
        signed ca server 'subjectAltName=DNS:localhost,IP:127.0.0.1'
        signed ca client 'extendedKeyUsage=clientAuth'
        signed strange other 'extendedKeyUsage=clientAuth'";
    shell(dir.path(), certificates);
    let file = |name: &str| dir.path().join("server").join(name).display().to_string();
    let (ca, cert, key) = (file("ca.pem"), file("cert.pem"), file("key.pem"));
    let options =
        ["--tlsverify", "--tlscacert", &ca, "--tlscert", &cert, "--tlskey", &key, "-H", "tcp://127.0.0.1:2376"];
    let options: Vec<String> = options.iter().map(|o| (*o).to_owned()).collect();
    let machine = Machine::start_in(dir, &options.iter().map(String::as_str).collect::<Vec<_>>());
    let endpoint = |who: &str| {
        let at = |name: &str| machine.text(&format!("{who}/{name}"));
        let (ca, cert, key) = (at("ca.pem"), at("cert.pem"), at("key.pem"));
        format!("host=tcp://127.0.0.1:2376,ca={ca},cert={cert},key={key}")
    };
    good(&machine, &["context", "create", "tls", "--docker", &endpoint("client")]);
    assert_eq!(good(&machine, &["-c", "tls", "run", "--rm", "barque/host", "echo", "sealed"]), "sealed\n");
    // The certificates travel with the context.
    good(&machine, &["context", "export", "tls", "tls.tar"]);
    good(&machine, &["context", "import", "again", "tls.tar"]);
    shell(machine.dir.path(), "mv client gone");
    good(&machine, &["-c", "again", "ps"]);
    // Without a certificate, or with one of another authority, nobody enters.
    let ca_only = format!("host=tcp://127.0.0.1:2376,ca={}", machine.text("server/ca.pem"));
    good(&machine, &["context", "create", "none", "--docker", &ca_only]);
    bad(&machine, &["-c", "none", "ps"]);
    good(&machine, &["context", "create", "other", "--docker", &endpoint("other")]);
    bad(&machine, &["-c", "other", "ps"]);
    // And a server of another authority is not believed.
    let strange = format!("host=tcp://127.0.0.1:2376,ca={}", machine.text("strange.pem"));
    good(&machine, &["context", "create", "strange", "--docker", &strange]);
    assert!(bad(&machine, &["-c", "strange", "ps"]).contains("certificate"));
    // The same by flags.
    let at = |name: &str| machine.text(&format!("gone/{name}"));
    let (ca, cert, key) = (at("ca.pem"), at("cert.pem"), at("key.pem"));
    good(&machine, &["--tlsverify", "--tlscacert", &ca, "--tlscert", &cert, "--tlskey", &key, "-H", "127.0.0.1", "ps"]);
}
