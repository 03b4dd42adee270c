//! Command lines as users type them, and what they mean.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::*;
use crate::cmdline::{Outcome, parse};
use crate::tables::ROOT;

fn files(path: &str) -> Result<Vec<u8>, String> {
    match path {
        "a.env" => Ok(b"FROM_FILE=1\nHOME\n".to_vec()),
        "labels" => Ok(b"x=1\nbare\n".to_vec()),
        "seccomp.json" => Ok(b"{ \"defaultAction\" : \"SCMP_ACT_ALLOW\" }".to_vec()),
        _ => Err(format!("open {path}: no such file or directory")),
    }
}

fn run(line: &str) -> Result<Value, String> {
    let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
    let cmd = ROOT.find("run").expect("run");
    let Outcome::Run { flags, operands, .. } = parse(cmd, &words)? else { return Err("help".into()) };
    let inputs = Inputs {
        surroundings: Surroundings {
            directory: "/work".into(),
            variable: &|name| (name == "HOME").then(|| "/root".to_owned()),
        },
        read: &files,
        proxies: BTreeMap::new(),
    };
    let launch = launch(&flags, &operands, &inputs)?;
    Ok(serde_json::to_value(&launch.request).expect("serialises"))
}

fn ok(line: &str) -> Value {
    run(line).unwrap_or_else(|e| panic!("{line}: {e}"))
}

fn fault(line: &str) -> String {
    run(line).err().unwrap_or_else(|| panic!("{line}: no error"))
}

#[test]
fn a_plain_run() {
    let r = ok("busybox echo hi");
    assert_eq!(r["Image"], "busybox");
    assert_eq!(r["Cmd"], json!(["echo", "hi"]));
    assert_eq!((&r["AttachStdout"], &r["AttachStdin"], &r["OpenStdin"]), (&json!(true), &json!(false), &json!(false)));
    let host = &r["HostConfig"];
    assert_eq!(host["NetworkMode"], "default");
    assert_eq!(host["RestartPolicy"], json!({"Name": "no", "MaximumRetryCount": 0}));
    assert_eq!((&host["Dns"], &host["MemorySwappiness"]), (&json!([]), &json!(-1)));
    assert!(host.get("Init").is_none());
    assert_eq!(r["NetworkingConfig"]["EndpointsConfig"]["default"]["Aliases"], Value::Null);
}

#[test]
fn streams() {
    let r = ok("-it busybox");
    assert_eq!((&r["Tty"], &r["StdinOnce"], &r["AttachStdin"]), (&json!(true), &json!(true), &json!(true)));
    let r = ok("-a STDOUT busybox");
    assert_eq!((&r["AttachStdout"], &r["AttachStderr"]), (&json!(true), &json!(false)));
    assert!(fault("-a foo busybox").contains("valid streams are STDIN, STDOUT and STDERR"));
}

#[test]
fn variables_and_labels() {
    let r = ok("-e A=1 -e HOME -e NONE --env-file a.env --label k=v --label-file labels busybox");
    assert_eq!(r["Env"], json!(["FROM_FILE=1", "HOME=/root", "A=1", "HOME=/root", "NONE"]));
    assert_eq!(r["Labels"], json!({"k": "v", "x": "1"}));
    assert_eq!(fault("--env-file nope busybox"), "open nope: no such file or directory");
}

#[test]
fn volumes_mounts_and_tmpfs() {
    let r =
        ok("-v ./src:/app:ro -v vol:/data -v /anon --mount type=bind,source=./x,target=/x --tmpfs /t:size=1m busybox");
    let mount = json!([{"Type": "bind", "Source": "/work/x", "Target": "/x"}]);
    assert_eq!(r["HostConfig"]["Mounts"], mount);
    assert_eq!(r["HostConfig"]["Binds"], json!(["/work/src:/app:ro", "vol:/data"]));
    assert_eq!(r["Volumes"], json!({"/anon": {}}));
    assert_eq!(r["HostConfig"]["Tmpfs"], json!({"/t": "size=1m"}));
}

#[test]
fn ports() {
    let r = ok("-p 8080:80 -p 127.0.0.1::53/udp --expose 9000-9001 busybox");
    assert_eq!(r["ExposedPorts"], json!({"53/udp": {}, "80/tcp": {}, "9000/tcp": {}, "9001/tcp": {}}));
    assert_eq!(
        r["HostConfig"]["PortBindings"],
        json!({"53/udp": [{"HostIp": "127.0.0.1", "HostPort": ""}], "80/tcp": [{"HostIp": "", "HostPort": "8080"}]})
    );
    assert_eq!(fault("-p abc busybox"), "invalid containerPort: abc");
}

#[test]
fn networks() {
    let r = ok("--net=sky --network-alias=other --ip 10.0.0.9 --link one busybox");
    let sky = &r["NetworkingConfig"]["EndpointsConfig"]["sky"];
    assert_eq!((&sky["Aliases"], &sky["Links"]), (&json!(["other"]), &json!(["one"])));
    assert_eq!(sky["IPAMConfig"]["IPv4Address"], "10.0.0.9");
    assert_eq!(r["HostConfig"]["NetworkMode"], "sky");
    assert_eq!(r["HostConfig"]["Links"], json!(["one"]));
    assert_eq!(ok("--network host busybox")["NetworkingConfig"]["EndpointsConfig"], json!({}));
    let two = ok("--network a1 --network b1 busybox");
    assert_eq!(two["NetworkingConfig"]["EndpointsConfig"].as_object().expect("map").len(), 2);
    assert!(fault("--network a1 --network host busybox").contains("cannot attach both user-defined"));
    assert!(fault("--network-alias x busybox").contains("only supported for user-defined networks"));
    assert!(fault("--network a1 --network a1 busybox").contains("is specified multiple times"));
}

#[test]
fn limits() {
    let r = ok(
        "-m 64m --memory-swap -1 --cpus 1.5 --pids-limit 100 --ulimit nofile=1:2 --shm-size 2g --cpu-shares 5 busybox",
    );
    let host = &r["HostConfig"];
    assert_eq!((&host["Memory"], &host["MemorySwap"]), (&json!(64 << 20), &json!(-1)));
    assert_eq!((&host["NanoCpus"], &host["PidsLimit"]), (&json!(1_500_000_000), &json!(100)));
    assert_eq!(host["Ulimits"], json!([{"Name": "nofile", "Hard": 2, "Soft": 1}]));
    assert_eq!(host["ShmSize"], json!(2u64 << 30));
    assert!(fault("--memory-swappiness 101 busybox").contains("Valid memory swappiness range is 0-100"));
}

#[test]
fn security() {
    let r = ok(
        "--security-opt seccomp=seccomp.json --security-opt no-new-privileges --security-opt systempaths=unconfined --cap-add NET_ADMIN busybox",
    );
    let host = &r["HostConfig"];
    assert_eq!(host["SecurityOpt"], json!(["seccomp={\"defaultAction\":\"SCMP_ACT_ALLOW\"}", "no-new-privileges"]));
    assert_eq!((&host["MaskedPaths"], &host["CapAdd"]), (&json!([]), &json!(["CAP_NET_ADMIN"])));
    assert_eq!(fault("--security-opt foo busybox"), "Invalid --security-opt: \"foo\"");
    assert!(
        fault("--security-opt seccomp=none.json busybox").starts_with("opening seccomp profile (none.json) failed")
    );
}

#[test]
fn restart_health_and_others() {
    let r = ok(
        "--restart on-failure:3 --health-cmd true --health-interval 5s --init --stop-timeout 3 --entrypoint sh busybox -c x",
    );
    assert_eq!(r["HostConfig"]["RestartPolicy"], json!({"Name": "on-failure", "MaximumRetryCount": 3}));
    assert_eq!(r["Healthcheck"], json!({"Test": ["CMD-SHELL", "true"], "Interval": 5_000_000_000i64}));
    assert_eq!((&r["HostConfig"]["Init"], &r["StopTimeout"]), (&json!(true), &json!(3)));
    assert_eq!((&r["Entrypoint"], &r["Cmd"]), (&json!(["sh"]), &json!(["-c", "x"])));
    assert_eq!(ok("--entrypoint= busybox")["Entrypoint"], json!([""]));
    assert!(fault("--restart always --rm busybox").contains("both --restart and --rm"));
    assert!(fault("--no-healthcheck --health-cmd x busybox").contains("conflicts with --health-*"));
    assert!(fault("--restart :3 busybox").contains("no policy provided before colon"));
    assert_eq!(fault("--pid foo busybox"), "--pid: invalid PID mode");
    assert_eq!(fault("--log-driver none --log-opt a=b busybox"), "invalid logging opts for driver none");
}

#[test]
fn updates_need_a_flag() {
    assert!(update(&crate::cmdline::Flags::default()).is_err());
    let flags = crate::cmdline::Flags::from_pairs(&[("memory", "1g"), ("restart", "always")]);
    let request = serde_json::to_value(update(&flags).expect("lowers")).expect("serialises");
    assert_eq!((&request["Memory"], &request["RestartPolicy"]["Name"]), (&json!(1 << 30), &json!("always")));
    assert_eq!(request["PidsLimit"], Value::Null);
}
