//! A project directory beside an engine that has a little image.

use std::time::{Duration, Instant};

use super::Machine;

/// An engine with an image `little` of the machine's busybox, and a project directory `p`.
pub fn machine() -> Machine {
    let machine = Machine::start(&[]);
    let script = "mkdir -p little p; cp $(command -v busybox) little/busybox; cd little
        printf 'FROM scratch\\nCOPY busybox /bin/busybox\\nRUN [\"/bin/busybox\", \"--install\", \"-s\", \"/bin\"]\\n' > Dockerfile
        barque build -q -t little .";
    sh(&machine, ".", script);
    machine
}

/// A script in a directory; its standard output. It has a minute.
pub fn sh(machine: &Machine, dir: &str, script: &str) -> String {
    let done =
        machine.command("timeout", &["60", "bash", "-ec", script]).current_dir(machine.path(dir)).output().unwrap();
    let error = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{script}\n{error}");
    String::from_utf8(done.stdout).unwrap()
}

/// Tries until it holds; panics after 40 seconds.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(40);
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(200));
    }
}
