//! Builds by the command line: what they share with containers, and what is left of names and files.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod common;

use common::{Machine, missing};

#[test]
fn a_build_in_the_network_of_a_container_has_its_address_and_names() {
    if let Some(why) = missing(&[]) {
        println!("skipped: {why}");
        return;
    }
    let machine = Machine::start(&[]);
    machine.barque(&["network", "create", "own"]);
    machine.barque(&["run", "-d", "--name", "holder", "--network", "own", "barque/host", "sleep", "1000"]);
    let address = machine.barque(&["inspect", "-f", "{{.NetworkSettings.Networks.own.IPAddress}}", "holder"]);
    let context = machine.path("context");
    std::fs::create_dir_all(&context).unwrap();
    let text = "FROM barque/host\nRUN ip -4 -o addr show eth0 > /seen; cat /etc/hosts /etc/resolv.conf >> /seen\n";
    std::fs::write(context.join("Dockerfile"), text).unwrap();
    let context = context.display().to_string();
    machine.barque(&["build", "-q", "-t", "made", "--network", "container:holder", &context]);
    let seen = machine.barque(&["run", "--rm", "made", "cat", "/seen"]);
    assert!(seen.matches(address.trim()).count() > 1 && seen.contains("127.0.0.11"), "{address}: {seen}");
    machine.barque(&["rm", "-f", "holder"]);
}

#[test]
fn outputs_have_the_names_they_were_given_and_failures_leave_no_id() {
    if let Some(why) = missing(&["tar"]) {
        println!("skipped: {why}");
        return;
    }
    let machine = Machine::start(&[]);
    let context = machine.path("context");
    std::fs::create_dir_all(&context).unwrap();
    std::fs::write(context.join("Dockerfile"), "FROM scratch\nCOPY Dockerfile /\n").unwrap();
    let (context, archive, id) = (context.display().to_string(), machine.text("out.tar"), machine.text("id"));
    let output = format!("type=docker,dest={archive},name=given:1");
    machine.barque(&["build", "-q", "-o", &output, "--iidfile", &id, &context]);
    let manifest = std::process::Command::new("tar").args(["-xOf", &archive, "manifest.json"]).output().unwrap();
    assert!(String::from_utf8_lossy(&manifest.stdout).contains("given:1"), "{manifest:?}");
    assert_eq!(machine.barque(&["images", "-q", "given:1"]), "", "the name was for the archive alone");
    assert!(std::fs::read_to_string(&id).unwrap().starts_with("sha256:"));
    std::fs::write(format!("{context}/Dockerfile"), "FROM scratch\nCOPY missing /\n").unwrap();
    let failed = machine.try_run("barque", &["build", "-q", "--iidfile", &id, &context]);
    assert!(!failed.unwrap().status.success());
    assert!(!std::path::Path::new(&id).exists(), "it would name another image");
}
