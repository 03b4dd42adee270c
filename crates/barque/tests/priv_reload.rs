//! What a SIGHUP changes in an engine that runs, and what it leaves alone.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on may panic")]

mod pair;

use std::time::Duration;

use pair::{Engine, in_namespaces, sh};

#[test]
fn priv_a_hangup_reloads_the_configuration() {
    in_namespaces("priv_a_hangup_reloads_the_configuration", |scratch| {
        let file = scratch.join("daemon.json");
        std::fs::write(&file, r#"{"labels": ["a=1"]}"#).unwrap();
        let mut engine = Engine::barque(scratch, &["--config-file", &file.display().to_string()]);
        let log = |engine: &Engine| std::fs::read_to_string(engine.dir.join("log")).unwrap();
        let reload = |engine: &Engine, text: &str| {
            let before = log(engine).len();
            std::fs::write(&file, text).unwrap();
            sh(&format!("kill -HUP {}", engine.pid()));
            for _ in 0..100 {
                let new = log(engine).split_off(before);
                if new.contains("reloaded") {
                    return new;
                }
                std::thread::sleep(Duration::from_millis(50));
            }
            panic!("nothing was reloaded: {}", log(engine));
        };
        let info = |engine: &Engine, what: &str| engine.ok(&["info", "-f", what]);
        // Lines of the lowest level that a call leaves.
        let chatter = |engine: &Engine| {
            let before = log(engine).len();
            sh(&format!(
                "printf nonsense | nc -U -N {0}/sock 2>/dev/null | true; curl -s --unix-socket {0}/sock http://e/nowhere",
                engine.dir.display()
            ));
            std::thread::sleep(Duration::from_millis(300));
            log(engine).split_off(before).contains("DEBUG")
        };
        assert!(!chatter(&engine) && info(&engine, "{{.Debug}}") == "false");
        reload(
            &engine,
            r#"{"debug": true, "labels": ["b=2", "c=3"], "registry-mirrors": ["http://127.0.0.1:5999"],
               "insecure-registries": ["reg.example:5000"], "live-restore": false, "max-concurrent-downloads": 1,
               "max-concurrent-uploads": 2, "shutdown-timeout": 3, "mtu": 1300}"#,
        );
        assert!(chatter(&engine), "no line of the level debug: {}", engine.log());
        assert_eq!(info(&engine, "{{.Debug}} {{.LiveRestoreEnabled}} {{.Labels}}"), "true false [b=2 c=3]");
        assert!(info(&engine, "{{.RegistryConfig.Mirrors}}").contains("http://127.0.0.1:5999"));
        assert!(info(&engine, "{{json .RegistryConfig.IndexConfigs}}").contains("reg.example:5000"));
        // What cannot be changed while running has not been.
        let mtu = engine.ok(&["network", "inspect", "-f", "{{json .Options}}", "bridge"]);
        assert!(!mtu.contains("1300"), "{mtu}");

        // A configuration that is no good changes nothing.
        let said = reload(&engine, r#"{"debug": false, "labelz": []}"#);
        assert!(said.contains("was not reloaded") && said.contains("labelz"), "{said}");
        assert_eq!(info(&engine, "{{.Debug}} {{.Labels}}"), "true [b=2 c=3]");

        reload(&engine, r#"{"log-level": "debug"}"#);
        assert!(chatter(&engine) && info(&engine, "{{.Debug}}") == "false");
        reload(&engine, "{}");
        assert!(!chatter(&engine));
        assert_eq!(info(&engine, "{{.LiveRestoreEnabled}} {{.Labels}} {{.RegistryConfig.Mirrors}}"), "true [] []");
        engine.down(false);
    });
}
