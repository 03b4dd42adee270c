//! `barque doctor` on this machine: it changes nothing and its status tells whether something must be mended.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

use std::process::{Command, Output};

fn doctor(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_barque")).arg("doctor").arg("--no-registry").args(args).output().unwrap()
}

#[test]
fn findings_and_status_agree() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().display().to_string();
    let done = doctor(&["--format", "json", "--data-root", &root]);
    let findings: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
    let findings = findings.as_array().unwrap();
    let areas: std::collections::BTreeSet<&str> = findings.iter().filter_map(|f| f["area"].as_str()).collect();
    for area in ["Kernel", "Cgroups", "Storage", "Disk", "Network", "Engine"] {
        assert!(areas.contains(area), "{area} is missing in {areas:?}");
    }
    let faults = findings.iter().filter(|f| f["level"] == "fault").count();
    assert_eq!(done.status.code(), Some(i32::from(faults > 0)), "{findings:?}");
    assert!(findings.iter().all(|f| (f["level"] == "ok") == (f["cure"] == "")), "each fault has a cure: {findings:?}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is left behind");
}

#[test]
fn a_broken_configuration_is_a_fault() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("daemon.json");
    std::fs::write(&file, r#"{"registry-mirors": []}"#).unwrap();
    let done = doctor(&["-q", "--config-file", file.to_str().unwrap()]);
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    assert_eq!(done.status.code(), Some(1), "{text}");
    assert!(text.contains("Configuration") && text.contains("registry-mirors"), "{text}");
    assert!(!text.contains("  ok "), "only what is wrong: {text}");
}

#[test]
fn the_engine_that_is_named_is_the_one_that_is_asked() {
    let asked = |variables: &[(&str, &str)], args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_barque"));
        command.args(["doctor", "--no-registry", "--format", "json", "--config-file", "/dev/null"]).args(args);
        for name in ["BARQUE_HOST", "DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG", "BARQUE_CONFIG"] {
            command.env_remove(name);
        }
        let done = command.env("HOME", "/nonexistent").envs(variables.iter().copied()).output().unwrap();
        let findings: Vec<serde_json::Value> = serde_json::from_slice(&done.stdout).unwrap();
        (done.status.code(), findings)
    };
    let here = "unix:///nonexistent/sock";
    for (variables, args, by) in [
        (&[("DOCKER_HOST", here)][..], &[][..], "(DOCKER_HOST)"),
        (&[("DOCKER_HOST", "unix:///nonexistent/other")], &["-H", here], "(-H)"),
        (&[("DOCKER_CONTEXT", "nowhere")], &[], "nowhere"),
    ] {
        let (status, findings) = asked(variables, args);
        let faults: Vec<&str> = findings
            .iter()
            .filter(|f| f["level"] == "fault" && f["area"] == "Engine")
            .filter_map(|f| f["text"].as_str())
            .collect();
        assert!(status == Some(1) && faults.iter().any(|text| text.contains(by)), "{by}: {findings:?}");
        assert!(findings.iter().any(|f| f["area"] == "Kernel"), "an engine of this machine: {findings:?}");
    }
    // Another machine's: nothing is said about this one's kernel.
    let (status, findings) = asked(&[("DOCKER_HOST", "tcp://nowhere.invalid:2375")], &[]);
    assert!(status == Some(1) && findings.iter().all(|f| f["area"] == "Engine"), "{findings:?}");
}
