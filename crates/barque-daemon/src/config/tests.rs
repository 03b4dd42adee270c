//! Flags and file, merged.

use super::*;

fn defaults() -> Defaults {
    Defaults {
        data_root: "/var/lib/x".into(),
        exec_root: "/run/x".into(),
        pidfile: "/run/x.pid".into(),
        hosts: vec!["unix:///run/x.sock".into()],
        cert_dir: "/root/.docker".into(),
    }
}

fn settings(words: &[&str], file: &str) -> Result<Settings> {
    merge(&Flags::parse(words)?.values, Some(file).filter(|text| !text.is_empty()), &defaults())
}

fn failure(words: &[&str], file: &str) -> (String, String) {
    let error = settings(words, file).unwrap_err();
    (error.to_string(), error.hint().unwrap_or_default().to_owned())
}

#[test]
fn nothing_said_is_the_defaults() {
    let settings = settings(&[], "").unwrap();
    assert_eq!(settings.hosts, ["unix:///run/x.sock"]);
    assert_eq!((settings.log_level.as_str(), settings.shutdown_timeout), ("info", 15));
    assert_eq!(settings.live_restore, None);
}

#[test]
fn another_exec_root_has_a_pid_file_of_its_own() {
    assert_eq!(settings(&[], "").unwrap().pidfile.display().to_string(), "/run/x.pid");
    for root in ["/run/two", "/run/two/"] {
        assert_eq!(settings(&["--exec-root", root], "").unwrap().pidfile.display().to_string(), "/run/two.pid");
    }
    assert_eq!(settings(&["--exec-root", "/run/two", "-p", "/p"], "").unwrap().pidfile.display().to_string(), "/p");
}

#[test]
fn flags_in_every_form() {
    let words = [
        "-H",
        "unix:///a",
        "--host=tcp://127.0.0.1:2375",
        "-Hfd://",
        "-D",
        "--data-root",
        "/d",
        "-l=warn",
        "--icc=false",
        "--log-opt",
        "max-size=1m",
        "--log-opt",
        "max-file=2",
        "--default-ulimit",
        "nofile=1:2",
        "--add-runtime",
        "kata=/usr/bin/kata",
        "--default-address-pool",
        "base=10.0.0.0/8,size=24",
        "--mtu=1400",
        "--registry-mirror",
        "http://127.0.0.1:5005",
        "--feature",
        "buildkit=true",
    ];
    let settings = settings(&words, "").unwrap();
    assert_eq!(settings.hosts, ["unix:///a", "tcp://127.0.0.1:2375", "fd://"]);
    assert!(settings.debug);
    assert_eq!(settings.log_level, "warn");
    assert_eq!(settings.icc, Some(false));
    assert_eq!(settings.log_opts["max-file"], "2");
    assert_eq!((settings.ulimits[0].soft, settings.ulimits[0].hard), (1, 2));
    assert_eq!(settings.runtimes["kata"].path, "/usr/bin/kata");
    assert_eq!(settings.address_pools[0].1, 24);
    assert_eq!(settings.mtu, Some(1400));
    assert!(settings.features["buildkit"]);
}

#[test]
fn a_file_of_the_usual_kind() {
    let file = r#"{
        "data-root": "/data", "debug": true, "hosts": ["unix:///b"], "insecure-registries": ["r:5000"],
        "log-driver": "json-file", "log-opts": {"max-size": "10m"}, "live-restore": true,
        "default-address-pools": [{"base": "172.30.0.0/16", "size": 24}],
        "default-ulimits": {"nofile": {"Name": "nofile", "Hard": 64000, "Soft": 64000}},
        "exec-opts": ["native.cgroupdriver=systemd"], "storage-driver": "overlay2", "bip": "10.1.0.1/24",
        "proxies": {"http-proxy": "http://p:1", "no-proxy": "localhost"}, "features": {"containerd-snapshotter": true},
        "builder": {"gc": {"enabled": true, "defaultKeepStorage": "20GB"}}, "default-shm-size": "128M",
        "containerd": "/run/containerd/containerd.sock", "dns": ["1.1.1.1"], "mtu": 1400, "icc": null
    }"#;
    let settings = settings(&[], file).unwrap();
    assert_eq!(settings.data_root.to_str(), Some("/data"));
    assert_eq!(settings.live_restore, Some(true));
    assert_eq!(settings.proxies.http.as_deref(), Some("http://p:1"));
    assert_eq!(settings.cgroup_driver.as_deref(), Some("systemd"));
    assert_eq!(settings.shm_size, Some(128 << 20));
    assert_eq!(
        settings.warnings,
        [
            "the option containerd has no effect: no containerd is used",
            "the feature containerd-snapshotter has no effect: images have one store, which is no containerd",
            "the exec-opt native.cgroupdriver=systemd has no effect: control groups are made in the file system (cgroupfs)"
        ]
    );
    assert_eq!(settings.icc, None);
    let engine = settings.engine_config();
    assert_eq!(settings.hosts, ["unix:///b"]);
    let certs: Vec<_> = engine.registry.certs_dirs.iter().filter_map(|d| d.to_str()).collect();
    assert_eq!(certs, ["/etc/barque/certs.d", "/etc/docker/certs.d"]);
    assert_eq!(engine.network.bip.unwrap().to_string(), "10.1.0.1/24");
}

#[test]
fn what_cannot_be_honoured_is_not_taken_in_silence() {
    for (words, expected) in [
        (["--default-runtime", "crun"], "specified default runtime 'crun' does not exist"),
        (["--log-driver", "journald"], "failed to set log opts: not implemented yet: the log driver journald"),
        (["--log-format", "json"], "not implemented yet: log-format json"),
    ] {
        assert_eq!(settings(&words, "").unwrap_err().chain(), expected);
    }
    let file = r#"{"runtimes": {"kata": {"path": "/usr/bin/kata"}}, "default-runtime": "runc"}"#;
    let warned = settings(&[], file).unwrap().warnings;
    assert!(warned[0].starts_with("the option runtimes has no effect"), "{warned:?}");
    let file = r#"{"runtimes": {"kata": {"path": "/usr/bin/kata"}}, "default-runtime": "kata"}"#;
    assert!(settings(&[], file).unwrap_err().chain().contains("'kata' does not exist"));
}

#[test]
fn the_same_option_twice() {
    let (text, _) = failure(&["-H", "unix:///a", "--debug"], r#"{"hosts": ["unix:///b"], "debug": true, "mtu": 1}"#);
    assert_eq!(
        text,
        "the following directives are specified both as a flag and in the configuration file: \
         debug: (from flag: true, from file: true), hosts: (from flag: [unix:///a], from file: [unix:///b])"
    );
    let (text, _) = failure(&["--http-proxy=http://u:secret@a"], r#"{"proxies": {"http-proxy": "http://u:secret@b"}}"#);
    assert!(!text.contains("secret") && text.contains("xxxxx"), "{text}");
}

#[test]
fn unknown_keys_and_flags_name_the_likely_one() {
    let (text, hint) = failure(&[], r#"{"log_driver": "none", "zzzzzzzzzz": 1}"#);
    assert_eq!(text, "the following directives don't match any configuration option: log_driver, zzzzzzzzzz");
    assert_eq!(hint, "did you mean log_driver → log-driver?");
    let (_, hint) = failure(&[], r#"{"label": ["a=b"]}"#);
    assert_eq!(hint, "did you mean label → labels?");
    let (text, hint) = failure(&["--registry-miror=x"], "");
    assert_eq!((text.as_str(), hint.as_str()), ("unknown flag: --registry-miror", "did you mean --registry-mirror?"));
}

#[test]
fn malformed_values() {
    for (words, file, wanted) in [
        (&["--mtu=x"][..], "", "invalid argument \"x\" for \"--mtu\" flag"),
        (&["--mtu"], "", "flag needs an argument: --mtu"),
        (&["serve"], "", "accepts no arguments"),
        (&[], "{", "invalid JSON"),
        (&[], "[]", "must hold an object"),
        (&[], r#"{"debug": "yes"}"#, "expected true or false"),
        (&[], r#"{"hosts": "unix:///a"}"#, "expected a list of strings"),
        (&[], r#"{"log-opts": {"a": 1}}"#, "expected an object of strings"),
        (&[], r#"{"bip": "10.0.0.1"}"#, "invalid bip"),
        (&[], r#"{"labels": ["a=1", "a=2"]}"#, "conflict labels for a=2 and a=1"),
        (&[], r#"{"log-level": "loud"}"#, "invalid logging level: loud"),
        (&[], r#"{"min-api-version": "1.12"}"#, "minimum supported API version is 1.24: 1.12"),
        (&[], r#"{"storage-driver": "zfs"}"#, "not implemented yet: the storage driver zfs"),
        (&[], r#"{"userns-remap": "default"}"#, "not implemented yet: the daemon option userns-remap"),
        (&[], r#"{"registry-mirrors": ["mirror.local"]}"#, "no scheme specified"),
        (&[], r#"{"default-address-pools": [{"base": "10.0.0.0/16", "size": 8}]}"#, "does not fit"),
        (&[], r#"{"hosts": ["ftp://x"]}"#, "invalid protocol"),
    ] {
        let (text, _) = failure(words, file);
        assert!(text.contains(wanted), "{words:?} {file}: {text}");
    }
}

#[test]
fn defaults_of_unsupported_options_are_fine() {
    settings(&["--selinux-enabled=false"], r#"{"userns-remap": "", "authorization-plugins": []}"#).unwrap();
}

#[test]
fn tls_is_implied_by_verify() {
    let tls = settings(&["--tlsverify"], "").unwrap().tls.unwrap();
    assert!(tls.verify && tls.ca.ends_with("ca.pem"));
    assert!(!settings(&["--tls", "--tlscert=/c"], "").unwrap().tls.unwrap().verify);
    assert_eq!(settings(&["--tls=false"], "").unwrap().tls, None);
}

#[test]
fn help_lists_every_flag() {
    let text = help();
    assert!(text.contains("  -H, --host list") && text.contains("--data-root string"), "{text}");
    let sorted: Vec<_> = options::OPTIONS.iter().map(|opt| opt.name()).collect();
    let unique: std::collections::BTreeSet<_> = sorted.iter().collect();
    assert_eq!(unique.len(), sorted.len());
}
