//! Limits of block devices, from the command line to what the kernel has been told.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on may panic")]

mod pair;

use pair::{Engine, in_namespaces, sh};

/// A whole disk of this machine: its node and number.
fn disk() -> Option<(String, String)> {
    let disks = std::fs::read_dir("/sys/block").ok()?.flatten();
    let mut nodes = disks.filter_map(|disk| {
        let node = format!("/dev/{}", disk.file_name().to_str()?);
        let size = std::fs::read_to_string(disk.path().join("size")).ok()?;
        let number = std::fs::read_to_string(disk.path().join("dev")).ok()?;
        let there = size.trim() != "0" && std::path::Path::new(&node).exists();
        there.then(|| (node, number.trim().to_owned()))
    });
    nodes.next()
}

#[test]
fn priv_rates_and_weights_of_disks() {
    in_namespaces("priv_rates_and_weights_of_disks", |scratch| {
        let Some((disk, number)) = disk() else {
            eprintln!("skipped: no disk");
            return;
        };
        if !std::path::Path::new("/sys/fs/cgroup/blkio").exists() {
            eprintln!("skipped: cgroup v1 has no blkio here; what is written on v2 has unit tests");
            return;
        }
        let engine = Engine::barque(scratch, &[]);
        engine.import_busybox("box", &["ENV PATH=/bin"]);
        let of = |value: &str| format!("{disk}:{value}");
        let rates = [
            ("--device-read-bps", of("1mb"), "read_bps_device", 1048576, "BlkioDeviceReadBps"),
            ("--device-write-bps", of("2097152"), "write_bps_device", 2097152, "BlkioDeviceWriteBps"),
            ("--device-read-iops", of("100"), "read_iops_device", 100, "BlkioDeviceReadIOps"),
            ("--device-write-iops", of("200"), "write_iops_device", 200, "BlkioDeviceWriteIOps"),
        ];
        let mut args = vec!["run", "-d", "--name", "limited", "--blkio-weight", "300"];
        for (flag, value, ..) in &rates {
            args.extend([*flag, value.as_str()]);
        }
        args.extend(["box", "sleep", "1000"]);
        engine.ok(&args);
        let id = engine.ok(&["ps", "-q", "--no-trunc"]);
        let group = sh(&format!("find /sys/fs/cgroup/blkio -type d -name {id}"));
        let file = |name: &str| std::fs::read_to_string(format!("{group}/{name}")).unwrap_or_default();
        for (flag, _, name, rate, field) in &rates {
            assert_eq!(file(&format!("blkio.throttle.{name}")), format!("{number} {rate}\n"), "{flag}");
            let shown = engine.ok(&["inspect", "-f", &format!("{{{{json .HostConfig.{field}}}}}"), "limited"]);
            assert_eq!(shown, format!(r#"[{{"Path":"{disk}","Rate":{rate}}}]"#), "{flag}");
        }
        // Only kernels with BFQ have weights.
        let weight = |expected: &str| ["", expected].contains(&file("blkio.bfq.weight").trim());
        assert!(weight("300"), "{}", file("blkio.bfq.weight"));
        engine.ok(&["update", "--blkio-weight", "400", "limited"]);
        assert!(weight("400"), "{}", file("blkio.bfq.weight"));
        assert_eq!(engine.ok(&["inspect", "-f", "{{.HostConfig.BlkioWeight}}", "limited"]), "400");
        engine.ok(&["rm", "-f", "limited"]);
        // A weight that this disk's scheduler ignores is said to be ignored.
        let name = disk.trim_start_matches("/dev/");
        let schedulers = std::fs::read_to_string(format!("/sys/block/{name}/queue/scheduler")).unwrap_or_default();
        let said = engine.run(&["create", "--name", "weighed", "--blkio-weight-device", &of("500"), "box", "true"]);
        let said = said.unwrap();
        assert_eq!(said.contains("WARNING"), !schedulers.contains("[bfq]"), "{schedulers}: {said}");
        let shown = engine.ok(&["inspect", "-f", "{{json .HostConfig.BlkioWeightDevice}}", "weighed"]);
        assert_eq!(shown, format!(r#"[{{"Path":"{disk}","Weight":500}}]"#));
        engine.fails(&["run", "--rm", "--device-read-bps", "/dev/null:1mb", "box", "true"], "is not a block device");
        engine
            .fails(&["run", "--rm", "--blkio-weight", "5", "box", "true"], "range of blkio weight is from 10 to 1000");
    });
}

#[test]
fn priv_the_engines_oom_score_is_its_own() {
    in_namespaces("priv_the_engines_oom_score_is_its_own", |scratch| {
        // Raising it needs no right; units lower it.
        std::fs::write("/proc/self/oom_score_adj", "300").unwrap();
        let engine = Engine::barque(scratch, &[]);
        engine.import_busybox("box", &["ENV PATH=/bin"]);
        let cat = ["cat", "/proc/self/oom_score_adj"];
        assert_eq!(engine.ok(&[&["run", "--rm", "box"][..], &cat].concat()), "0");
        engine.ok(&["run", "-d", "--name", "first", "--oom-score-adj", "400", "box", "sleep", "100"]);
        assert_eq!(engine.ok(&[&["exec", "first"][..], &cat].concat()), "400");
    });
}
