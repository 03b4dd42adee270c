//! The engine's own socket in a container: mounted read-only, it only reads, however the engine came by it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod common;

use common::{Machine, missing};

/// Tries to read and to change something through the socket, mounted in this form.
fn through(machine: &Machine, form: &str) -> (bool, String) {
    let program = format!("{}:/barque:ro", common::BARQUE);
    let socket = format!("{}:/s{form}", machine.text("sock"));
    let mut args =
        vec!["run", "--rm", "--network", "none", "-v", &program, "-v", &socket, "-e", "DOCKER_HOST=unix:///s"];
    args.extend(["barque/host", "sh", "-c", "/barque ps -q && /barque volume create made 2>&1"]);
    let done = machine.try_run("barque", &args).unwrap();
    assert_eq!(String::from_utf8_lossy(&done.stderr), "");
    (done.status.success(), String::from_utf8(done.stdout).unwrap())
}

fn reads_only(machine: &Machine) {
    let (changed, said) = through(machine, ":ro");
    assert!(!changed && said.contains("mounted read-only here"), "{said}");
    assert_eq!(machine.barque(&["volume", "ls", "-q"]), "");
    let (changed, said) = through(machine, "");
    assert!(changed, "{said}");
    assert_eq!(machine.barque(&["volume", "ls", "-q"]), "made\n");
}

#[test]
fn a_socket_mounted_read_only_only_reads() {
    if let Some(why) = missing(&[]) {
        println!("skipped: {why}");
        return;
    }
    reads_only(&Machine::start(&[]));
}

#[test]
fn so_does_a_socket_that_systemd_opened() {
    if let Some(why) = missing(&[]) {
        println!("skipped: {why}");
        return;
    }
    reads_only(&Machine::start_activated());
}

#[test]
fn a_directory_mounted_read_only_protects_no_socket_and_that_is_said() {
    if let Some(why) = missing(&[]) {
        println!("skipped: {why}");
        return;
    }
    let machine = Machine::start(&[]);
    std::fs::create_dir(machine.path("other")).unwrap();
    let said = |form: &str| {
        let done = machine.try_run("barque", &["create", "-v", form, "barque/host", "true"]).unwrap();
        assert!(done.status.success());
        String::from_utf8(done.stderr).unwrap()
    };
    let socket = machine.path("sock").canonicalize().unwrap();
    let warning = said(&format!("{}:/run/engine:ro", machine.dir.path().display()));
    assert!(warning.contains("WARNING: ") && warning.contains(socket.to_str().unwrap()), "{warning}");
    assert!(warning.contains("mount the socket itself with :ro"), "{warning}");
    for form in [format!("{}:/s:ro", machine.text("sock")), format!("{}:/o:ro", machine.text("other"))] {
        assert_eq!(said(&form), "");
    }
}

#[test]
fn a_container_that_asks_gets_the_socket_and_the_logins() {
    if let Some(why) = missing(&[]) {
        println!("skipped: {why}");
        return;
    }
    let machine = Machine::start(&[]);
    std::fs::create_dir(machine.path(".docker")).unwrap();
    // "me:secret"
    let logins = r#"{"auths": {"registry.example": {"auth": "bWU6c2VjcmV0"}}}"#;
    std::fs::write(machine.path(".docker/config.json"), logins).unwrap();
    let program = format!("{}:/barque:ro", common::BARQUE);
    let command =
        "DOCKER_HOST=unix:///var/run/docker.sock /barque volume create made-$1 && cat $DOCKER_CONFIG/config.json";
    let words = ["barque/host", "sh", "-c", command, "sh"];
    let check = |said: &str, name: &str| {
        assert!(said.starts_with(&format!("made-{name}\n")) && said.contains("bWU6c2VjcmV0"), "{said}");
    };
    let run = ["run", "--rm", "--network", "none", "--use-api-socket", "-v", &program];
    check(&machine.barque(&[&run[..], &words, &["run"]].concat()), "run");
    // who names a configuration gets no other
    let own = [&run[..], &["-e", "DOCKER_CONFIG=/nowhere", "barque/host", "ls", "/run/secrets"]].concat();
    assert!(!machine.try_run("barque", &own).unwrap().status.success());
    let project = format!(
        "services: {{a: {{image: barque/host, network_mode: none, use_api_socket: true, volumes: ['{program}'],\n  \
         command: [sh, -c, {:?}, sh, compose]}}}}",
        command.replace('$', "$$")
    );
    std::fs::write(machine.path("compose.yaml"), project).unwrap();
    check(&machine.barque(&["compose", "run", "--rm", "-T", "a"]), "compose");
    assert_eq!(machine.barque(&["volume", "ls", "-q"]), "made-compose\nmade-run\n");
}
