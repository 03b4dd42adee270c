//! macvlan and ipvlan networks on a machine's interface, and what stands in the way of traffic.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use barque_model::{ErrorKind, Id};
use barque_net::{Driver, NetworkDef};
use barque_sys::netlink::nft::{Expr, Hook, NftSocket, Transaction, Verdict};
use common::{Container, Machine, ask, bridge, check, fabric, on_machine, pool, serve};

fn network(driver: &str, options: &[(&str, &str)]) -> NetworkDef {
    let id = Id::random();
    let options = options.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
    NetworkDef {
        id,
        name: driver.into(),
        driver: Driver::parse(driver, &id, &options, false).unwrap(),
        pools: vec![pool("192.0.2.0/24", "192.0.2.9")],
        internal: false,
    }
}

#[test]
fn macvlan_containers_are_machines_of_their_own() {
    on_machine(|machine| {
        let outside = Machine::new();
        machine.cable("up0", &["192.0.2.1/24"], &outside, "eth0", &["192.0.2.9/24", "198.51.100.1/32"]);
        let fabric = fabric("m");
        let lan = network("macvlan", &[("parent", "up0")]);
        fabric.ensure_network(&lan).unwrap();
        let a = Container::start(&fabric, &lan, Some("192.0.2.50"), None);
        let b = Container::start(&fabric, &lan, Some("192.0.2.51"), None);
        assert_eq!((a.attached.host_ifname.as_deref(), a.attached.ifname.as_str()), (None, "eth0"));
        serve(&a, "a", "0.0.0.0:80");
        serve(&outside, "outside", "0.0.0.0:80");
        check(&[
            ("outside to container", ask(&outside, "192.0.2.50:80"), "a 192.0.2.9"),
            ("container to container", ask(&b, "192.0.2.50:80"), "a 192.0.2.51"),
            ("container to outside", ask(&a, "192.0.2.9:80"), "outside 192.0.2.50"),
            // Its server answers datagrams from another of its addresses.
            ("container through its router", ask(&a, "198.51.100.1:80"), r#"tcp Some("outside 192.0.2.50") udp None"#),
            ("machine to container", ask(machine, "192.0.2.50:80"), "-"),
        ]);
        fabric.release(&a.attached).unwrap();
        fabric.disconnect(&b.attached, &b.ns).unwrap();
        assert!(fabric.stats(&b.ns).unwrap().is_empty());
        fabric.remove_network(&lan).unwrap();
        assert!(machine.links().contains(&"up0".to_owned()), "the parent is not ours");
    });
}

#[test]
fn what_the_kernel_or_the_machine_lacks_is_said() {
    on_machine(|machine| {
        let outside = Machine::new();
        machine.cable("up0", &["192.0.2.1/24"], &outside, "eth0", &["192.0.2.9/24"]);
        let fabric = fabric("m");
        let error = fabric.ensure_network(&network("macvlan", &[("parent", "nosuch0")])).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(error.message().contains("parent interface nosuch0"), "{error}");
        let lan = network("ipvlan", &[("parent", "up0")]);
        fabric.ensure_network(&lan).unwrap();
        let ns = fabric.netns(None).unwrap();
        let endpoint = barque_net::EndpointDef::new(Id::random(), Some([192, 0, 2, 60].into()));
        match fabric.attach(&lan, &endpoint, &ns) {
            Ok(_) => {
                serve(&ns, "ip", "0.0.0.0:80");
                check(&[("ipvlan, from outside", ask(&outside, "192.0.2.60:80"), "ip 192.0.2.9")]);
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Unsupported, "{}", error.chain());
                assert!(error.hint().unwrap().contains("module"), "{error}");
            }
        }
    });
}

#[test]
fn a_missing_parent_is_no_reason_to_lose_the_other_networks() {
    on_machine(|machine| {
        let outside = Machine::new();
        machine.cable("up0", &["192.0.2.1/24"], &outside, "eth0", &["192.0.2.9/24"]);
        let (lost, lan) = (network("macvlan", &[("parent", "later0")]), network("macvlan", &[("parent", "up0")]));
        let fabric = fabric("m");
        let failed = fabric.restore(&[lost.clone(), lan.clone()], &[]).unwrap();
        assert_eq!(failed.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [lost.id]);
        assert!(failed[0].1.message().contains("parent interface later0"), "{}", failed[0].1);
        serve(&Container::start(&fabric, &lan, Some("192.0.2.50"), None), "a", "0.0.0.0:80");
        machine.cable("later0", &["198.51.100.1/24"], &outside, "eth1", &["198.51.100.9/24"]);
        fabric.ensure_network(&lost).unwrap();
    });
}

#[test]
fn parents_of_our_own_come_and_go() {
    on_machine(|machine| {
        machine.cable("up0", &[], &Machine::new(), "x", &[]);
        let fabric = fabric("m");
        for (name, lan) in [("up0.50", network("macvlan", &[("parent", "up0.50")])), ("", network("macvlan", &[]))] {
            let name = if name.is_empty() { format!("dm-{}", lan.id.short()) } else { name.to_owned() };
            if let Err(error) = fabric.ensure_network(&lan) {
                assert_eq!(error.kind(), ErrorKind::Unsupported, "{}", error.chain());
                continue;
            }
            assert!(machine.links().contains(&name));
            let a = Container::start(&fabric, &lan, Some("192.0.2.50"), None);
            let b = Container::start(&fabric, &lan, Some("192.0.2.51"), None);
            serve(&a, "a", "0.0.0.0:80");
            assert_eq!(ask(&b, "192.0.2.50:80"), "a 192.0.2.51");
            drop((a, b));
            fabric.remove_network(&lan).unwrap();
            // Made again at once, whatever is left of the first one.
            fabric.ensure_network(&lan).unwrap();
            assert!(machine.links().contains(&name));
        }
        fabric.remove_all().unwrap();
        let mut links = machine.links();
        links.sort();
        assert_eq!(links, ["lo", "up0"]);
    });
}

#[test]
fn drop_policies_of_others_are_found() {
    on_machine(|_| {
        let (fabric, lan) = (fabric("x"), bridge("lan", "barque0", &[("172.17.0.0/16", "172.17.0.1")]));
        fabric.ensure_network(&lan).unwrap();
        assert_eq!(fabric.diagnose().unwrap(), []);
        let mut strict = Transaction::new("firewall");
        strict.add_table();
        strict.add_chain("forward", Some(Hook { kind: "filter", number: 2, priority: 0 }));
        strict.add_rule("forward", &[Expr::Verdict(Verdict::Accept)]);
        NftSocket::open().unwrap().commit(strict).unwrap();
        // Policy accept: nothing to complain about.
        assert_eq!(fabric.diagnose().unwrap(), []);
        let out = std::process::Command::new("nft").args(["add chain inet firewall forward { policy drop; }"]).status();
        if out.is_ok_and(|status| status.success()) {
            let findings = fabric.diagnose().unwrap();
            assert_eq!(findings.len(), 1);
            assert!(findings[0].problem.contains("chain forward of table inet firewall drops"), "{findings:?}");
        }
        // A last rule for all packets is as good as a policy; one for some is not.
        for (rules, guilty) in [
            ("add table ip o { chain f { type filter hook forward priority 1; iifname \"x\" drop; }; }", false),
            ("add rule ip o f counter reject", true),
        ] {
            let before = fabric.diagnose().unwrap().len();
            let out = std::process::Command::new("nft").args([rules]).status();
            if out.is_ok_and(|status| status.success()) {
                let findings = fabric.diagnose().unwrap();
                assert_eq!(findings.len(), before + usize::from(guilty), "{rules}: {findings:?}");
            }
        }
        let out = std::process::Command::new("iptables").args(["-A", "FORWARD", "-j", "REJECT"]).status();
        if out.is_ok_and(|status| status.success()) {
            let findings = fabric.diagnose().unwrap();
            assert!(findings.iter().any(|f| f.problem.contains("chain FORWARD of table ip filter")), "{findings:?}");
        }
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "0").unwrap();
        assert!(fabric.diagnose().unwrap().iter().any(|f| f.cure.contains("ip_forward=1")));
    });
}

/// An administrator's `nft list ruleset > file; nft -f file` must not break.
#[test]
fn the_table_can_be_listed_and_loaded_again() {
    on_machine(|_| {
        let nft = |args: &[&str]| std::process::Command::new("nft").args(args).output();
        if nft(&["--version"]).is_err() {
            eprintln!("skipped: needs the nft program");
            return;
        }
        let fabric = fabric("x");
        let pools = [("172.17.0.0/16", "172.17.0.1"), ("fd00:1::/64", "fd00:1::1")];
        let lan = bridge("lan", "barque0", &pools);
        fabric.ensure_network(&lan).unwrap();
        fabric
            .ensure_network(&NetworkDef { internal: true, ..bridge("i", "br-i", &[("10.0.0.0/8", "10.0.0.1")]) })
            .unwrap();
        let web = Container::start(&fabric, &lan, Some("172.17.0.2"), Some("fd00:1::2"));
        common::publish(&fabric, &lan, &web, None, &[(8080, 80)]);
        let listed = nft(&["list", "ruleset"]).unwrap();
        let text = String::from_utf8(listed.stdout).unwrap();
        assert!(text.contains(r#""barque0" : jump into-barque0"#), "{text}");
        assert!(text.contains("tcp . 8080 : 172.17.0.2 . 80"), "{text}");
        drop(fabric);
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), format!("flush ruleset\n{text}")).unwrap();
        let loaded = nft(&["-f", file.path().to_str().unwrap()]).unwrap();
        assert!(loaded.status.success(), "{}", String::from_utf8_lossy(&loaded.stderr));
        let again = String::from_utf8(nft(&["list", "ruleset"]).unwrap().stdout).unwrap();
        assert_eq!(sorted(&again), sorted(&text));
    });
}

/// The elements of a set come in any order.
fn sorted(text: &str) -> Vec<String> {
    let line = |l: &str| l.replace("elements = {", "").trim_matches([' ', '\t', ',', '}']).to_owned();
    let mut lines: Vec<String> = text.lines().map(line).collect();
    lines.sort();
    lines
}
