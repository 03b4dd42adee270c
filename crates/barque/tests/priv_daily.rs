//! What people do every day from a shell: leave a terminal, read an id from a file, choose the engine.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on may panic")]

mod pair;

use std::process::Command;

use pair::{Engine, in_namespaces, installed};

fn running(engine: &Engine, name: &str) -> bool {
    engine.run(&["inspect", "-f", "{{.State.Running}}", name]).is_ok_and(|said| said == "true")
}

/// Runs a line of shell with a keyboard in it: its exit status, and what the terminal showed.
fn typed(engine: &Engine, keyboard: &str) -> (Option<i32>, String) {
    let mut command = Command::new("timeout");
    command.args(["30", "sh", "-c", keyboard]).env("DOCKER_HOST", format!("unix://{}/sock", engine.dir.display()));
    let done = command.output().unwrap();
    (done.status.code(), String::from_utf8_lossy(&done.stdout).into_owned())
}

#[test]
fn priv_ids_in_files_and_ports_by_exposure() {
    in_namespaces("priv_ids_in_files_and_ports_by_exposure", |scratch| {
        let engine = Engine::barque(scratch, &[]);
        engine.import_busybox("box", &["ENV PATH=/bin", "EXPOSE 80"]);
        let file = scratch.join("id").display().to_string();
        let id = engine.ok(&["run", "-d", "-P", "--expose", "81/udp", "--cidfile", &file, "box", "sleep", "1000"]);
        assert_eq!(std::fs::read_to_string(&file).unwrap(), id);
        engine.fails(&["run", "--rm", "--cidfile", &file, "box", "true"], "container ID file found");
        let ports = engine.ok(&["port", &id]);
        for exposed in ["80/tcp -> 0.0.0.0:", "81/udp -> 0.0.0.0:"] {
            let (_, port) = ports.split_once(exposed).unwrap();
            assert!(port.lines().next().unwrap().parse::<u16>().unwrap() >= 1024, "{ports}");
        }
        // The variable of its own wins over Docker's.
        let socket = format!("unix://{}/sock", engine.dir.display());
        let of = |own: &str, dockers: &str| {
            let mut command = engine.command(&["ps", "-q", "--no-trunc"]);
            let done = command.env("BARQUE_HOST", own).env("DOCKER_HOST", dockers).output().unwrap();
            (done.status.success(), String::from_utf8(done.stdout).unwrap().trim().to_owned())
        };
        assert_eq!(of(&socket, "unix:///nonexistent"), (true, id));
        assert!(!of("unix:///nonexistent", &socket).0);
    });
}

#[test]
fn priv_a_terminal_is_left_by_its_keys() {
    in_namespaces("priv_a_terminal_is_left_by_its_keys", |scratch| {
        if !installed("script") {
            return;
        }
        let engine = Engine::barque(scratch, &[]);
        engine.import_busybox("box", &["ENV PATH=/bin"]);
        for (name, option, keys) in [("usual", "", r"\020\021"), ("own", "--detach-keys ctrl-a,x", r"\001x")] {
            let program = pair::barque_program().display().to_string();
            let run = format!("{program} run -it --name {name} {option} box sh");
            let keyboard = format!(
                "(sleep 3; printf 'echo hi\\n'; sleep 1; printf '{keys}'; sleep 5) | script -qec '{run}' /dev/null"
            );
            let (status, said) = typed(&engine, &keyboard);
            assert_eq!(status, Some(0), "{said}");
            assert!(said.contains("hi"), "{said}");
            assert!(running(&engine, name), "{said}");
        }
    });
}

#[test]
fn priv_a_terminal_is_as_before_however_a_run_ends() {
    in_namespaces("priv_a_terminal_is_as_before_however_a_run_ends", |scratch| {
        if !installed("script") {
            return;
        }
        let mut engine = Engine::barque(scratch, &[]);
        engine.import_busybox("box", &["ENV PATH=/bin"]);
        let program = pair::barque_program().display().to_string();
        let pid = scratch.join("client").display().to_string();
        // What happens to the run once its shell answers; the last one takes the engine away.
        let ends = [
            ("exit", "printf 'exit 7\\n'".to_owned(), "ended 7"),
            ("terminated", format!("kill $(cat {pid})"), "ended"),
            ("removed", format!("{program} rm -f removed > /dev/null"), "ended 137"),
            ("engine", format!("kill -9 {}", engine.pid()), "ended"),
        ];
        for (name, end, said) in ends {
            let run = format!("sh -c 'echo $$ > {pid}; exec {program} run -it --name {name} box sh'");
            let inside = scratch.join("inside");
            let modes = "echo modes $(stty -g)";
            std::fs::write(&inside, format!("{modes}\n{run}\necho ended $?\n{modes}\n")).unwrap();
            let keyboard = format!(
                "(sleep 3; printf 'stty -g\\n'; sleep 1; {end}; sleep 3) | script -qec 'sh {}' /dev/null",
                inside.display()
            );
            let (_, output) = typed(&engine, &keyboard);
            let modes: Vec<&str> = output.lines().filter(|l| l.starts_with("modes ")).collect();
            assert!(modes.len() == 2 && modes[0] == modes[1] && output.contains(said), "{name}: {output}");
        }
        engine.up();
        engine.ok(&["rm", "-f", "exit", "terminated", "engine"]);
    });
}
