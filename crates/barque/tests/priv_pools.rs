//! Address pools: what of the machine they avoid, and what is said when they, or a subnet, are used up.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on may panic")]

mod pair;

use pair::{Engine, in_namespaces, sh};

/// A configuration file with these pools.
fn pools(dir: &std::path::Path, pools: &str) -> String {
    let file = dir.join("daemon.json");
    std::fs::write(&file, format!(r#"{{"default-address-pools": [{pools}]}}"#)).unwrap();
    file.display().to_string()
}

fn subnet(engine: &Engine, network: &str) -> String {
    engine.ok(&["network", "inspect", "-f", "{{(index .IPAM.Config 0).Subnet}}", network])
}

#[test]
fn priv_used_up_addresses_are_said_with_who_has_them_and_the_cure() {
    in_namespaces("priv_used_up_addresses_are_said_with_who_has_them_and_the_cure", |scratch| {
        let config = pools(scratch, r#"{"base": "10.201.0.0/28", "size": 30}"#);
        let engine = Engine::barque(scratch, &["--config-file", &config]);
        for name in ["one", "two", "three", "four"] {
            engine.ok(&["network", "create", name]);
        }
        assert_eq!(subnet(&engine, "four"), "10.201.0.12/30");
        let why =
            engine.fails(&["network", "create", "five"], "all predefined address pools have been fully subnetted");
        assert!(why.contains("10.201.0.0/30 (network one)") && why.contains("10.201.0.12/30 (network four)"), "{why}");
        for cure in ["network prune", "--subnet", "--default-address-pool"] {
            assert!(why.contains(cure), "{why}");
        }
        let overlap = engine.fails(&["network", "create", "--subnet", "10.201.0.4/31", "in-two"], "Pool overlaps");
        assert!(overlap.contains("10.201.0.4/30 of network two") && overlap.contains("hint: "), "{overlap}");

        // One address besides the gateway's.
        engine.import_busybox("box", &["ENV PATH=/bin"]);
        engine.ok(&["run", "-d", "--name", "holder", "--network", "three", "box", "sleep", "1000"]);
        let full = ["run", "--rm", "--network", "three", "box", "true"];
        let why = engine.fails(&full, "no available IPv4 addresses on this network's address pools: three");
        assert!(why.contains("10.201.0.10") && why.contains("holder") && why.contains("larger subnet"), "{why}");
        let taken = ["run", "--rm", "--network", "three", "--ip", "10.201.0.10", "box", "true"];
        assert!(engine.run(&taken).unwrap_err().contains("holder"));

        // What is given back is there again.
        engine.ok(&["rm", "-f", "holder"]);
        engine.ok(&full);
        engine.ok(&["network", "rm", "two"]);
        engine.ok(&["network", "create", "five"]);
        assert_eq!(subnet(&engine, "five"), "10.201.0.4/30");
    });
}

#[test]
fn priv_pools_avoid_what_the_machine_routes() {
    in_namespaces("priv_pools_avoid_what_the_machine_routes", |scratch| {
        sh(
            "ip link add office type veth peer name far && ip link set far up && ip addr add 10.210.0.9/24 dev office && ip link set office up",
        );
        let config = pools(scratch, r#"{"base": "10.210.0.0/16", "size": 24}"#);
        // No address for the default bridge: it is chosen from the pools too.
        let mut engine = Engine::barque_on(scratch, "bqpair0", &["--config-file", &config]);
        assert_eq!(subnet(&engine, "bridge"), "10.210.1.0/24");
        // Routes to elsewhere count, however they come to be, and wider ones than a piece of the pool.
        sh("ip route add 10.210.2.128/25 via 10.210.0.1 && ip route add 10.210.4.0/22 dev office");
        for (name, expected) in [("one", "10.210.3.0/24"), ("two", "10.210.8.0/24")] {
            engine.ok(&["network", "create", name]);
            assert_eq!(subnet(&engine, name), expected);
        }
        // The engine's own bridges are no reason to move; a way out for everything is none at all.
        sh("ip route add default via 10.210.0.1");
        engine.down(true);
        engine.up();
        assert_eq!(subnet(&engine, "bridge"), "10.210.1.0/24");
        engine.ok(&["network", "rm", "one"]);
        engine.ok(&["network", "create", "one-more"]);
        assert_eq!(subnet(&engine, "one-more"), "10.210.3.0/24");
        // The pools of Docker, with what it takes first on a machine that has a VPN there.
        sh("ip route add 172.16.0.0/12 dev office");
        engine.down(false);
        let fresh = Engine::barque_on(&scratch.join("fresh"), "bqpair1", &[]);
        assert_eq!(subnet(&fresh, "bridge"), "192.168.0.0/20");
    });
}
