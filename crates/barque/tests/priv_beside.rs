//! Engines that differ in nothing but their directories and sockets, on one machine.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on may panic")]

mod pair;

use std::collections::BTreeSet;

use pair::{Engine, in_namespaces, sh};

const SERVE: &str = "mkdir /w; hostname > /w/index.html; exec httpd -f -p 80 -h /w";

fn of_bridge(engine: &Engine) -> (String, String) {
    let format = r#"{{index .Options "com.docker.network.bridge.name"}} {{(index .IPAM.Config 0).Subnet}}"#;
    let said = engine.ok(&["network", "inspect", "-f", format, "bridge"]);
    said.split_once(' ').map(|(bridge, subnet)| (bridge.to_owned(), subnet.to_owned())).unwrap()
}

/// A container that answers on this port of the machine with its engine's name.
fn serve(engine: &Engine, name: &str, port: u16) {
    engine.import_busybox("box", &["ENV PATH=/bin"]);
    let publish = format!("{port}:80");
    engine.ok(&["run", "-d", "--name", "web", "-h", name, "-p", &publish, "box", "sh", "-c", SERVE]);
}

fn answer(port: u16) -> String {
    sh(&format!("curl -s --retry 20 --retry-delay 0 --retry-all-errors --max-time 5 http://127.0.0.1:{port}/"))
}

/// The engines' tables of the packet filter.
fn tables() -> BTreeSet<String> {
    sh("nft list tables | grep barque-").lines().map(str::to_owned).collect()
}

#[test]
fn priv_engines_with_other_directories_leave_each_other_alone() {
    in_namespaces("priv_engines_with_other_directories_leave_each_other_alone", |dir| {
        // At the same moment, when neither sees what the other makes.
        let places = ["one", "two"].map(|name| dir.join(name));
        let [mut one, mut two] = std::thread::scope(|scope| {
            places.each_ref().map(|place| scope.spawn(|| Engine::barque_plain(place, &[]))).map(|t| t.join().unwrap())
        });
        let (first, second) = (of_bridge(&one), of_bridge(&two));
        let bridges = BTreeSet::from([first.0.as_str(), second.0.as_str()]);
        assert_eq!(bridges, BTreeSet::from(["barque0", "barque1"]));
        let subnets = BTreeSet::from([first.1.as_str(), second.1.as_str()]);
        assert_eq!(subnets, BTreeSet::from(["172.17.0.0/16", "172.18.0.0/16"]));
        serve(&one, "one", 8091);
        serve(&two, "two", 8092);
        assert_eq!((answer(8091), answer(8092)), ("one".into(), "two".into()));
        assert_eq!(one.ok(&["ps", "--format", "{{.Names}}"]), "web");
        assert_eq!(tables().len(), 2);
        // Out to the other's port, by the machine's address on the own bridge.
        let gateway = "wget -qO- http://$(ip route | grep default | cut -d' ' -f3):8092/";
        assert_eq!(one.ok(&["exec", "web", "sh", "-c", gateway]), "two");
        let taken = one.fails(&["run", "--rm", "-p", "8092:80", "box", "true"], "port is already allocated");
        assert!(taken.contains("8092"), "{taken}");

        // Both keep what they have, whoever starts first.
        one.down(true);
        two.down(true);
        two.up();
        assert_eq!(of_bridge(&two), second);
        // A third one does not take the bridge of an engine that is down while its containers run.
        let mut third = Engine::barque_plain(&dir.join("three"), &[]);
        let (bridge, subnet) = of_bridge(&third);
        assert!(bridge == "barque2" && !subnets.contains(subnet.as_str()), "{bridge} {subnet}");
        one.up();
        assert_eq!(of_bridge(&one), first);
        assert_eq!((answer(8091), answer(8092)), ("one".into(), "two".into()));
        third.down(false);

        // The end of one is nothing to the other.
        one.ok(&["rm", "-f", "web"]);
        one.ok(&["network", "create", "own"]);
        one.ok(&["network", "rm", "own"]);
        one.down(false);
        assert_eq!(answer(8092), "two");
        assert_eq!(two.ok(&["exec", "web", "hostname"]), "two");
        two.ok(&["rm", "-f", "web"]);
    });
}

#[test]
fn priv_an_engine_whose_bridge_was_taken_gets_another_with_other_addresses() {
    in_namespaces("priv_an_engine_whose_bridge_was_taken_gets_another_with_other_addresses", |dir| {
        let mut one = Engine::barque_plain(&dir.join("one"), &[]);
        assert_eq!(of_bridge(&one), ("barque0".into(), "172.17.0.0/16".into()));
        one.down(true);
        // As after the machine has started again.
        sh("ip link del barque0");
        let two = Engine::barque_plain(&dir.join("two"), &[]);
        assert_eq!(of_bridge(&two), ("barque0".into(), "172.17.0.0/16".into()));
        one.up();
        assert_eq!(of_bridge(&one), ("barque1".into(), "172.18.0.0/16".into()));
        serve(&one, "one", 8091);
        serve(&two, "two", 8092);
        assert_eq!((answer(8091), answer(8092)), ("one".into(), "two".into()));
    });
}
