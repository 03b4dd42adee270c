//! `--link` through restarts, other addresses and other names, and what endpoints of containers can be given.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on may panic")]

mod pair;

use pair::{Engine, in_namespaces, sh};

const ADDRESS: &str = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";

/// The line of the hosts file that names `alias`.
fn hosts(engine: &Engine, container: &str, alias: &str) -> String {
    let text = engine.ok(&["exec", container, "cat", "/etc/hosts"]);
    let line = text.lines().find(|l| l.split_whitespace().skip(1).any(|name| name == alias));
    line.unwrap_or_default().replace('\t', " ")
}

fn links(engine: &Engine) {
    engine.import_busybox("busybox:1", &["ENV PATH=/bin"]);
    let run = |name: &str, more: &[&str]| {
        let args = [&["run", "-d", "--name", name], more, &["busybox:1", "sleep", "1000"]].concat();
        engine.ok(&args);
    };
    let links = || engine.ok(&["inspect", "-f", "{{.HostConfig.Links}}", "ap1"]);
    engine.fails(&["create", "--link", "nobody:x", "busybox:1", "true"], "could not get container for nobody");
    run("db1", &["-e", "A=b"]);
    run("ap1", &["--link", "db1:db"]);
    let address = || engine.ok(&["inspect", "-f", ADDRESS, "db1"]);
    let old = address();
    assert!(hosts(engine, "ap1", "db").starts_with(&format!("{old} db ")), "{}", hosts(engine, "ap1", "db"));
    assert_eq!(links(), "[/db1:/ap1/db]");

    // Another has taken the address meanwhile.
    engine.ok(&["stop", "-t", "0", "db1"]);
    run("filler", &[]);
    run("filler2", &[]);
    engine.ok(&["start", "db1"]);
    let new = address();
    assert_ne!(new, old);
    assert!(hosts(engine, "ap1", "db").starts_with(&format!("{new} db ")), "{}", hosts(engine, "ap1", "db"));

    // Under another name, and started again.
    engine.ok(&["rename", "db1", "db2"]);
    engine.ok(&["restart", "-t", "0", "ap1"]);
    assert!(hosts(engine, "ap1", "db2").starts_with(&format!("{new} db ")), "{}", hosts(engine, "ap1", "db"));
    assert_eq!(links(), "[/db2:/ap1/db]");
    assert!(engine.ok(&["exec", "ap1", "env"]).contains("DB_ENV_A=b"));

    engine.fails(&["rm", "--link", "ap1/none"], "No such container: ap1/none");
    engine.ok(&["rm", "--link", "ap1/db"]);
    assert_eq!(links(), "[]");
    engine.ok(&["restart", "-t", "0", "ap1"]);
    assert_eq!(hosts(engine, "ap1", "db2"), "");
}

#[test]
fn priv_links_follow_their_targets() {
    in_namespaces("priv_links_follow_their_targets", |dir| links(&Engine::barque(dir, &[])));
}

/// The same on Docker, so that it is known to be Docker's behaviour.
#[test]
fn priv_links_follow_so_on_docker() {
    in_namespaces("priv_links_follow_so_on_docker", |dir| {
        if let Some(docker) = Engine::docker(dir, &[]) {
            links(&docker);
        }
    });
}

#[test]
fn priv_endpoints_have_what_they_were_given() {
    in_namespaces("priv_endpoints_have_what_they_were_given", |dir| {
        let engine = Engine::barque(dir, &[]);
        engine.import_busybox("busybox:1", &["ENV PATH=/bin"]);
        engine.ok(&["network", "create", "--subnet", "10.78.1.0/24", "neta"]);
        let key = "com.docker.network.endpoint";
        let network = format!(
            "name=neta,driver-opt={key}.ifname=lan0,driver-opt={key}.sysctls=net.ipv4.conf.IFNAME.log_martians=1"
        );
        let script = "ip -o -4 addr show lan0; cat /proc/sys/net/ipv4/conf/lan0/log_martians";
        let said = engine.ok(&[
            "run",
            "--rm",
            "--network",
            &network,
            "--link-local-ip",
            "169.254.8.8",
            "busybox:1",
            "sh",
            "-c",
            script,
        ]);
        assert!(said.contains("10.78.1.2/24") && said.ends_with("\n1"), "{said}");
        let bad = format!("name=neta,driver-opt={key}.sysctls=net.ipv4.ip_forward=1");
        engine.fails(&["create", "--network", &bad, "busybox:1", "true"], "invalid endpoint sysctl");
        let said = engine.ok(&[
            "run",
            "--rm",
            "--network",
            "neta",
            "--link-local-ip",
            "169.254.8.8",
            "busybox:1",
            "ip",
            "-o",
            "addr",
        ]);
        assert!(said.contains("169.254.8.8/16"), "{said}");

        // Refused in Docker's words, with a cure.
        engine.fails(&["network", "create", "--ingress", "x"], "Ingress network can only be global scope network");
        engine.fails(&["network", "create", "--ipam-driver", "nosuch", "x"], "plugin \"nosuch\" not found\nhint: ");
        engine.fails(&["network", "create", "-d", "nosuch", "x"], "hint: drivers are");
        engine.fails(&["volume", "create", "-d", "nosuch"], "hint: use the driver local");
        let refused = "user specified IP address is supported on user defined networks only";
        engine.fails(&["run", "--rm", "--network", "host", "--ip", "1.2.3.4", "busybox:1", "true"], refused);
        engine.ok(&["create", "--name", "idle", "busybox:1", "true"]);
        engine.fails(&["network", "connect", "--ip", "10.79.0.2", "neta", "idle"], "no configured subnet");
        engine.fails(&["network", "connect", "--alias", "bad alias", "neta", "idle"], "invalid network alias");
        engine.fails(&["create", "--volumes-from", "idle:foo", "busybox:1", "true"], "invalid mode: foo");
    });
}

/// Of networks of equal priority the first by name has the default route.
fn gateway(engine: &Engine) {
    engine.import_busybox("busybox:1", &["ENV PATH=/bin"]);
    engine.ok(&["network", "create", "--subnet", "10.78.9.0/24", "zeta"]);
    engine.ok(&["network", "create", "--subnet", "10.78.1.0/24", "alpha"]);
    engine.ok(&["create", "--name", "box", "--network", "zeta", "busybox:1", "sleep", "1000"]);
    engine.ok(&["network", "connect", "alpha", "box"]);
    engine.ok(&["start", "box"]);
    let route =
        |engine: &Engine| engine.ok(&["exec", "box", "ip", "route"]).lines().next().unwrap_or_default().to_owned();
    assert!(route(engine).starts_with("default via 10.78.1.1"), "{}", route(engine));
    engine.ok(&["network", "disconnect", "alpha", "box"]);
    assert!(route(engine).starts_with("default via 10.78.9.1"), "{}", route(engine));
    engine.ok(&["network", "connect", "alpha", "box"]);
    assert!(route(engine).starts_with("default via 10.78.1.1"), "{}", route(engine));
}

#[test]
fn priv_the_first_network_by_name_has_the_default_route() {
    in_namespaces("priv_the_first_network_by_name_has_the_default_route", |dir| {
        gateway(&Engine::barque(dir, &[]));
        if let Some(docker) = Engine::docker(dir, &[]) {
            gateway(&docker);
        }
    });
}

#[test]
fn priv_names_ports_and_filters_of_every_form() {
    in_namespaces("priv_names_ports_and_filters_of_every_form", |dir| {
        let engine = Engine::barque(dir, &[]);
        engine.import_busybox("busybox:1", &["ENV PATH=/bin"]);
        let file =
            |more: &[&str], path: &str| engine.ok(&[&["run", "--rm"], more, &["busybox:1", "cat", path]].concat());
        let resolv =
            file(&["--dns", "10.9.9.9", "--dns-search", "example.test", "--dns-option", "ndots:3"], "/etc/resolv.conf");
        for line in ["nameserver 10.9.9.9", "search example.test", "options ndots:3"] {
            assert!(resolv.lines().any(|l| l == line), "{resolv}");
        }
        let hosts = file(&["--add-host", "a:10.1.2.3", "--add-host", "gw:host-gateway"], "/etc/hosts");
        let address = |name: &str| {
            let line = hosts.lines().find(|l| l.split_whitespace().nth(1) == Some(name));
            line.and_then(|l| l.split_whitespace().next()).unwrap_or_default().to_owned()
        };
        let found = [address("a"), address("gw"), address("host.docker.internal")];
        assert_eq!(found, ["10.1.2.3", "10.214.0.1", "10.214.0.1"], "{hosts}");

        engine.ok(&[
            "network",
            "create",
            "--ipv6",
            "--subnet",
            "10.78.2.0/24",
            "--ip-range",
            "10.78.2.128/25",
            "--subnet",
            "fd78::/64",
            "six",
        ]);
        let addresses = engine.ok(&[
            "run",
            "--rm",
            "--network",
            "six",
            "--ip6",
            "fd78::77",
            "busybox:1",
            "ip",
            "-o",
            "addr",
            "show",
            "eth0",
        ]);
        assert!(addresses.contains("fd78::77/64") && addresses.contains("10.78.2.12"), "{addresses}");

        engine.ok(&[
            "run",
            "-d",
            "--name",
            "ports",
            "-p",
            "127.0.0.1:18000-18001:80-81",
            "-p",
            "82",
            "-p",
            "[::1]:18002:83",
            "-p",
            "18003:84/udp",
            "-p",
            "18010-18020:85",
            "busybox:1",
            "sleep",
            "1000",
        ]);
        let ports = engine.ok(&["port", "ports"]);
        for line in [
            "80/tcp -> 127.0.0.1:18000",
            "81/tcp -> 127.0.0.1:18001",
            "83/tcp -> [::1]:18002",
            "84/udp -> 0.0.0.0:18003",
            "85/tcp -> 0.0.0.0:18010",
        ] {
            assert!(ports.lines().any(|l| l == line), "{line}: {ports}");
        }
        assert!(ports.lines().any(|l| l.starts_with("82/tcp -> 0.0.0.0:")), "{ports}");

        engine.ok(&["volume", "create", "--label", "tier=db", "labelled"]);
        engine.ok(&["volume", "create", "plain"]);
        let listed = |filter: &str| engine.ok(&["volume", "ls", "-q", "-f", filter]);
        assert_eq!(listed("label=tier=db"), "labelled");
        assert_eq!(listed("label=tier"), "labelled");
        assert_eq!(listed("driver=local").lines().count(), 2);
        assert_eq!(listed("driver=other"), "");
    });
}

/// SCTP is the packet filter's work alone: rules are the same as for the others, and no program has to carry it.
#[test]
fn priv_sctp_ports_are_published_by_the_packet_filter() {
    in_namespaces("priv_sctp_ports_are_published_by_the_packet_filter", |dir| {
        let mut engine = Engine::barque(dir, &["--ipv6", "--fixed-cidr-v6", "fd79::/64"]);
        engine.import_busybox("busybox:1", &["ENV PATH=/bin"]);
        let sleep = ["busybox:1", "sleep", "1000"];
        let ports = ["-p", "7000:7001/sctp", "-p", "7000:7002/tcp", "-p", "10.214.0.1:7005:7003/sctp"];
        engine.ok(&[&["run", "-d", "--name", "one", "--expose", "7004/sctp"], &ports[..], &sleep].concat());
        let shown = engine.ok(&["port", "one"]);
        assert!(shown.lines().any(|l| l == "7001/sctp -> 0.0.0.0:7000"), "{shown}");
        assert!(engine.ok(&["ps"]).contains("0.0.0.0:7000->7001/sctp"), "{}", engine.ok(&["ps"]));
        let field = |name: &str| engine.ok(&["inspect", "-f", &format!("{{{{.NetworkSettings.{name}}}}}"), "one"]);
        let (four, six) = (field("IPAddress"), field("GlobalIPv6Address"));
        let rules = || sh("nft list ruleset").split_whitespace().collect::<Vec<_>>().join(" ");
        let wanted = [
            format!("sctp . 7000 : {four} . 7001"),
            format!("sctp . 7000 : {six} . 7001"),
            format!("10.214.0.1 . sctp . 7005 : {four} . 7003"),
            format!("tcp . 7000 : {four} . 7002"),
        ];
        wanted.iter().for_each(|rule| assert!(rules().contains(rule), "{rule}:\n{}", rules()));

        // The same number of another protocol is another port; of the same, it is taken.
        let taken = [&["run", "-d", "--name", "two", "-p", "7000:1/sctp"], &sleep[..]].concat();
        let why = engine.fails(&taken, "port is already allocated");
        assert!(why.contains("one"), "{why}");
        engine.ok(&["rm", "two"]);
        engine.ok(&[&["run", "-d", "--name", "two", "-p", "7000:1/udp", "-p", "1/sctp"], &sleep[..]].concat());
        assert!(engine.ok(&["port", "two", "1/sctp"]).starts_with("0.0.0.0:"));

        engine.down(true);
        engine.up();
        wanted.iter().for_each(|rule| assert!(rules().contains(rule), "a later engine: {rule}:\n{}", rules()));
        let again = [&["run", "--rm", "-p", "7000:1/sctp"], &sleep[..]].concat();
        engine.fails(&again, "port is already allocated");
        engine.ok(&["rm", "-f", "one", "two"]);
        assert!(!rules().contains("sctp . "), "{}", rules());
        let loopback = [&["run", "--rm", "-p", "[::1]:7000:1/sctp"], &sleep[..]].concat();
        engine.fails(&loopback, "not implemented yet: publishing 1/sctp without the packet filter");
        assert_eq!(engine.ok(&["ps", "-aq"]), "");
    });
}

#[test]
fn priv_names_of_every_kind_resolve_and_take_turns() {
    in_namespaces("priv_names_of_every_kind_resolve_and_take_turns", |dir| {
        let engine = Engine::barque(dir, &[]);
        engine.import_busybox("busybox:1", &["ENV PATH=/bin"]);
        engine.ok(&["network", "create", "lan"]);
        let start = |name: &str, more: &[&str]| {
            let options = ["run", "-d", "--name", name, "--network", "lan", "--network-alias", "pair"];
            engine.ok(&[&options[..], more, &["busybox:1", "sleep", "1000"]].concat())
        };
        let ids = [start("one", &["--hostname", "own-name"]), start("two", &[])];
        engine.ok(&["run", "-d", "--name", "asks", "--network", "lan", "busybox:1", "sleep", "1000"]);
        let told = |name: &str| -> Vec<String> {
            let said = engine.ok(&["exec", "asks", "nslookup", "-type=a", name]);
            let found = said.lines().filter_map(|line| line.strip_prefix("Address: "));
            found.map(str::trim).filter(|a| !a.contains(':')).map(str::to_owned).collect()
        };
        let address = |name: &str| engine.ok(&["inspect", "-f", ADDRESS, name]);
        for (name, id) in ["one", "two"].into_iter().zip(&ids) {
            for asked in [name, &format!("{name}.lan"), &name.to_uppercase(), &id[..12]] {
                assert_eq!(told(asked), [address(name)], "{asked}");
            }
        }
        // As with Docker since version 25.
        assert_eq!(told("own-name"), [address("one")]);
        let mut first = std::collections::BTreeSet::new();
        for _ in 0..8 {
            let all = told("pair");
            assert_eq!(all.len(), 2, "{all:?}");
            first.insert(all[0].clone());
        }
        assert_eq!(first.len(), 2, "each is the first one at times: {first:?}");
        engine.ok(&["stop", "-t", "0", "two"]);
        assert_eq!(told("pair"), [address("one")], "who does not run has no name");
    });
}

#[test]
fn priv_networks_on_a_parent_are_made_and_left_by_commands() {
    in_namespaces("priv_networks_on_a_parent_are_made_and_left_by_commands", |dir| {
        let engine = Engine::barque(dir, &[]);
        engine.import_busybox("busybox:1", &["ENV PATH=/bin"]);
        sh(
            "ip link add parent0 type veth peer name eth0 && ip link set eth0 up && ip addr add 10.91.0.1/24 dev parent0 && \
             ip link set parent0 up",
        );
        for (driver, mode) in [("macvlan", "macvlan_mode=bridge"), ("ipvlan", "ipvlan_mode=l2")] {
            let create = ["network", "create", "-d", driver, "-o", "parent=parent0", "-o", mode];
            engine.ok(&[&create[..], &["--subnet", "10.91.0.0/24", "--gateway", "10.91.0.1", "lan"]].concat());
            let start = |name: &str, ip: &str| {
                let options = ["run", "-d", "--name", name, "--network", "lan", "--ip", ip];
                engine.run(&[&options[..], &["busybox:1", "sleep", "1000"]].concat())
            };
            if let Err(why) = start("one", "10.91.0.11") {
                assert!(driver == "ipvlan" && why.contains("module"), "{driver}: {why}");
                engine.ok(&["rm", "-f", "one"]);
                engine.ok(&["network", "rm", "lan"]);
                continue;
            }
            start("two", "10.91.0.12").unwrap();
            engine.ok(&["exec", "one", "ping", "-c", "1", "-W", "2", "two"]);
            engine.fails(&["exec", "one", "ping", "-c", "1", "-W", "1", "10.91.0.1"], "100% packet loss");
            assert!(engine.ok(&["exec", "one", "ip", "route"]).contains("default via 10.91.0.1"));
            engine.fails(&["network", "rm", "lan"], "has active endpoints");
            engine.ok(&["rm", "-f", "one", "two"]);
            engine.ok(&["network", "rm", "lan"]);
            let left = sh("ip -o link show parent0; ip -o link show type macvlan; ip -o link show type ipvlan || true");
            assert!(left.lines().count() == 1 && left.contains("parent0"), "{left}");
        }
    });
}
