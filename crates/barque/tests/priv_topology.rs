//! Who reaches whom: every pair of containers on several networks, the host and another machine, IPv4 and IPv6, TCP,
//! UDP and ICMP, directly and through published ports; the same on Docker, with every difference explained.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on may panic")]

mod pair;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use pair::{Engine, apart, installed, probe, sh};

const PORT: u16 = 7000;
/// Container, its networks, and what it publishes.
const MACHINES: [(&str, &[&str], &[&str]); 9] = [
    ("a1", &["neta"], &["8001:7000/tcp", "8001:7000/udp"]),
    ("a2", &["neta"], &[]),
    ("b1", &["netb"], &[]),
    ("b2", &["netb"], &["127.0.0.1:8004:7000"]),
    ("both", &["neta", "netb"], &[]),
    ("in1", &["inner"], &["8003:7000"]),
    ("in2", &["inner"], &[]),
    ("d1", &["bridge"], &["127.0.0.1:8002:7000"]),
    ("d2", &["bridge"], &[]),
];
/// Number of a network in its addresses.
const NETWORKS: [(&str, u8, bool); 3] = [("neta", 1, false), ("netb", 2, false), ("inner", 3, true)];
/// The host, and the machine behind its link.
const HOST4: &str = "10.99.0.1";
const HOST6: &str = "fd99::1";

#[test]
#[ignore = "a role that containers play"]
fn probe() {
    probe::play();
}

#[test]
fn priv_everybody_reaches_whom_they_should_and_nobody_else() {
    if !installed("dockerd") {
        return;
    }
    let name = "priv_everybody_reaches_whom_they_should_and_nobody_else";
    apart(name, &["barque", "docker"], play, |dir| {
        let read = |label: &str| table(&std::fs::read_to_string(dir.join(format!("{label}.table"))).unwrap());
        let (ours, theirs) = (read("barque"), read("docker"));
        assert!(ours.len() > 600, "{} pairs", ours.len());
        let mut wrong: Vec<String> = Vec::new();
        for (pair, answer) in &ours {
            let (from, to) = pair.split_once('>').unwrap();
            if let Err(why) = judge(from, to, answer) {
                wrong.push(format!("{pair}: {answer:?}: {why}"));
            }
        }
        assert!(wrong.is_empty(), "{} of {} pairs are wrong:\n{}", wrong.len(), ours.len(), wrong.join("\n"));
        let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
        let mut unexplained = Vec::new();
        for (pair, answer) in &ours {
            let Some(other) = theirs.get(pair) else { continue };
            if (answer == "-") == (other == "-") {
                continue;
            }
            let (from, to) = pair.split_once('>').unwrap();
            match explained(from, to, answer != "-") {
                Some(why) => *kinds.entry(why).or_default() += 1,
                None => unexplained.push(format!("{pair}: here {answer:?}, Docker {other:?}")),
            }
        }
        println!("{} pairs, {} differ from Docker: {kinds:#?}", ours.len(), kinds.values().sum::<usize>());
        assert!(unexplained.is_empty(), "differences from Docker:\n{}", unexplained.join("\n"));
    });
}

fn table(text: &str) -> BTreeMap<String, String> {
    text.lines().filter_map(|l| l.split_once('\t')).map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
}

fn networks_of(machine: &str) -> BTreeSet<&'static str> {
    MACHINES.iter().filter(|(name, ..)| *name == machine).flat_map(|(_, n, _)| n.iter().copied()).collect()
}

/// What has to be true of one pair. `to` is `NAME@NETWORK/FAMILY/PROTO` or `PORT@ADDRESS/PROTO`.
fn judge(from: &str, to: &str, answer: &str) -> Result<(), String> {
    let (what, rest) = to.split_once('@').unwrap();
    let reached = answer != "-";
    let should = |wanted: bool, why: &str| if reached == wanted { Ok(()) } else { Err(why.to_owned()) };
    if what.parse::<u16>().is_err() {
        let (network, proto) = (rest.split('/').next().unwrap(), rest.rsplit('/').next().unwrap());
        should(directly(from, what, network), "reached directly or not")?;
        if reached && proto != "icmp" && !answer.starts_with(&format!("{what} ")) {
            return Err("another one answered".into());
        }
        return Ok(());
    }
    published(from, what, rest, answer)
}

/// Containers reach those on a network they share; the host reaches all; other machines reach nobody by address.
fn directly(from: &str, to: &str, network: &str) -> bool {
    from == to || from == "host" || (from != "far" && networks_of(from).contains(network))
}

fn published(from: &str, port: &str, at: &str, answer: &str) -> Result<(), String> {
    let (address, proto) = at.rsplit_once('/').unwrap();
    let loopback = address == "127.0.0.1" || address == "::1";
    let internal = networks_of(from).contains("inner");
    let wanted = match (port, from) {
        // Another machine's loopback is not ours.
        (_, "far") if loopback => false,
        (_, container) if container != "host" && loopback => false,
        // Internal networks lead nowhere, not even to the host's other addresses.
        (_, _) if internal => return Ok(()),
        ("8001", _) => true,
        // Bound to 127.0.0.1 only.
        ("8002" | "8004", "host") => address == "127.0.0.1" && proto == "tcp",
        ("8002" | "8004", _) => false,
        // Published from an internal network: as Docker, nothing comes in from elsewhere.
        ("8003", "host") => return Ok(()),
        ("8003", _) => false,
        _ => return Err("unknown port".into()),
    };
    if (answer != "-") != wanted {
        return Err("published or not".into());
    }
    // Who comes from elsewhere is seen under their own address.
    let seen = answer.split(' ').nth(1).unwrap_or_default();
    match (wanted, from) {
        (true, "far") if address.contains('.') && seen != "10.99.0.2" => Err("the client's address is lost".into()),
        (true, "far") if address.contains(':') && seen != "fd99::2" => Err("the client's address is lost".into()),
        _ => Ok(()),
    }
}

/// Why a pair may differ from Docker 20.10.
fn explained(from: &str, to: &str, here: bool) -> Option<&'static str> {
    let (what, at) = to.split_once('@').unwrap();
    let container = from != "host" && from != "far";
    match what {
        "8001" if container && here => Some("a published port is open to containers of other networks, too"),
        "8001" | "8002" | "8003" | "8004" if at.contains("::1") => Some("IPv6 loopback"),
        "8003" => Some("publishing from an internal network"),
        "in1" | "in2" if here && at.contains("/v6/") => Some("Docker 20.10 drops IPv6 within internal networks"),
        _ if from == "far" && !here => {
            Some("a published port's container cannot be had by its own address from outside")
        }
        _ => None,
    }
}

/// Plays the scenario on one engine and writes the table of answers.
fn play(label: &str, dir: &Path) {
    let _far = far();
    let six = if label == "barque" { "fd77:ba::/64" } else { "fd77:d0::/64" };
    let mut args = vec!["--ipv6", "--fixed-cidr-v6", six];
    let engine = if label == "barque" {
        Engine::barque(dir, &args)
    } else {
        args.extend(["--experimental", "--ip6tables"]);
        Engine::docker(dir, &args).unwrap()
    };
    engine.import_probe("probe:1");
    for (name, number, internal) in NETWORKS {
        let (four, six) = (format!("172.28.{number}.0/24"), format!("fd28:{number}::/64"));
        let mut args = vec!["network", "create", "--ipv6", "--subnet", &four, "--subnet", &six];
        if internal {
            args.push("--internal");
        }
        args.push(name);
        engine.ok(&args);
    }
    for (name, networks, ports) in MACHINES {
        let role = format!("{}=serve {name} {PORT}", probe::ROLE);
        let mut args = vec!["run", "-d", "--name", name, "--network", networks[0], "-e", &role];
        ports.iter().for_each(|p| args.extend(["-p", p]));
        args.extend(["probe:1", "/probe"]);
        args.extend(probe::ARGS);
        engine.ok(&args);
        networks[1..].iter().for_each(|n| drop(engine.ok(&["network", "connect", n, name])));
    }
    let far_pid = _far.0.id().to_string();
    for (name, ..) in MACHINES {
        let ready = (0..100).any(|_| {
            std::thread::sleep(Duration::from_millis(50));
            engine.run(&["logs", name]).is_ok_and(|l| l.contains("READY"))
        });
        assert!(ready, "{name}: {:?}", engine.run(&["logs", name]));
    }
    // Duplicate address detection takes a second.
    std::thread::sleep(Duration::from_millis(1500));
    let targets = targets(&engine);
    let names = MACHINES.iter().map(|(name, ..)| *name).chain(["host", "far"]);
    let lines: String = std::thread::scope(|scope| {
        let (engine, targets, far_pid) = (&engine, &targets, &far_pid);
        let asking: Vec<_> = names.map(|from| scope.spawn(move || answers(engine, from, targets, far_pid))).collect();
        asking.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let lines = ask_again(&engine, lines, &targets, &far_pid);
    std::fs::write(dir.join(format!("{label}.table")), lines).unwrap();
    moves(&engine);
    for (name, ..) in MACHINES {
        engine.ok(&["rm", "-f", name]);
    }
    NETWORKS.iter().for_each(|(name, ..)| drop(engine.ok(&["network", "rm", name])));
    if label == "barque" {
        let rules = sh("nft list ruleset");
        assert!(!rules.contains("\"\""), "names of devices are shown as such:\n{rules}");
        assert!(!rules.contains("8001"), "rules stay behind:\n{rules}");
    }
}

/// A thousand questions at once are too many for a busy machine: who should have been reached and was not is asked
/// again, by one observer at a time. What is never to be reached is not.
fn ask_again(engine: &Engine, lines: String, targets: &[String], far_pid: &str) -> String {
    let mut all = table(&lines);
    for _ in 0..3 {
        let mut missed: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (pair, _) in all.iter().filter(|(_, answer)| *answer == "-") {
            let (from, to) = pair.split_once('>').unwrap();
            if judge(from, to, "-").is_err() {
                let target = targets.iter().find(|t| t.split_once('=').unwrap().0 == to).unwrap();
                missed.entry(from.to_owned()).or_default().push(target.clone());
            }
        }
        for (from, targets) in missed {
            all.extend(table(&answers(engine, &from, &targets, far_pid)));
        }
    }
    all.iter().map(|(pair, answer)| format!("{pair}\t{answer}\n")).collect()
}

/// One observer's lines of the table.
fn answers(engine: &Engine, from: &str, targets: &[String], far_pid: &str) -> String {
    let output = match from {
        "host" => own(Command::new(std::env::current_exe().unwrap()), targets),
        "far" => {
            let mut command = Command::new("nsenter");
            command.args(["-t", far_pid, "-n", "--"]).arg(std::env::current_exe().unwrap());
            own(command, targets)
        }
        container => {
            let role = format!("{}=ask {}", probe::ROLE, targets.join(" "));
            let mut args = vec!["exec", "-e", &role, container, "/probe"];
            args.extend(probe::ARGS);
            engine.ok(&args)
        }
    };
    let found = output.lines().filter_map(|l| l.split_once("ANSWER ").map(|(_, rest)| rest));
    found.map(|line| line.split_once(' ').unwrap()).map(|(key, answer)| format!("{from}>{key}\t{answer}\n")).collect()
}

fn own(mut command: Command, targets: &[String]) -> String {
    let output = command.args(probe::ARGS).env(probe::ROLE, format!("ask {}", targets.join(" "))).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// All that is asked for: `KEY=PROTO:ADDRESS`.
fn targets(engine: &Engine) -> Vec<String> {
    let mut all = Vec::new();
    for (name, networks, _) in MACHINES {
        for network in networks {
            for (family, field) in [("v4", "IPAddress"), ("v6", "GlobalIPv6Address")] {
                let template = format!("{{{{(index .NetworkSettings.Networks \"{network}\").{field}}}}}");
                let address = engine.ok(&["inspect", "-f", &template, name]);
                assert!(!address.is_empty(), "{name} has no {family} address on {network}");
                let shown = if family == "v6" { format!("[{address}]") } else { address.clone() };
                for proto in ["tcp", "udp"] {
                    all.push(format!("{name}@{network}/{family}/{proto}={proto}:{shown}:{PORT}"));
                }
                all.push(format!("{name}@{network}/{family}/icmp=icmp:{address}"));
            }
        }
    }
    for address in [HOST4, "127.0.0.1", HOST6, "::1"] {
        let shown = if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
        for (port, protos) in [(8001, &["tcp", "udp"][..]), (8002, &["tcp"]), (8003, &["tcp"]), (8004, &["tcp"])] {
            for proto in protos {
                all.push(format!("{port}@{address}/{proto}={proto}:{shown}:{port}"));
            }
        }
    }
    all
}

/// Names follow containers from network to network, in both families and in both directions.
fn moves(engine: &Engine) {
    let resolves = |from: &str, name: &str| engine.run(&["exec", from, "nslookup", name]).is_ok();
    // Addresses are asked for backwards without being told.
    let told = |from: &str, kind: &str, name: &str| {
        let kind = format!("-type={kind}");
        let args: Vec<&str> =
            ["exec", from, "nslookup", &kind, name].into_iter().filter(|word| *word != "-type=ptr").collect();
        engine.run(&args).unwrap_or_else(|failed| failed)
    };
    let addresses = |network: &str| {
        let field = |field: &str| {
            engine.ok(&["inspect", "-f", &format!("{{{{.NetworkSettings.Networks.{network}.{field}}}}}"), "a1"])
        };
        [field("IPAddress"), field("GlobalIPv6Address")]
    };
    assert!(resolves("a2", "a1") && resolves("a1", "both") && resolves("b1", "both"));
    assert!(!resolves("b1", "a1") && !resolves("a2", "b1") && !resolves("d1", "d2"));
    let here = addresses("neta");
    engine.ok(&["network", "connect", "--alias", "guest", "netb", "a1"]);
    assert!(resolves("b1", "a1") && resolves("b1", "guest") && !resolves("a2", "guest"));
    let there = addresses("netb");
    for (from, name, reverse, found) in
        [("a2", "a1", "a1.neta", &here), ("b1", "a1", "a1.netb", &there), ("b1", "guest", "a1.netb", &there)]
    {
        for (kind, address) in ["a", "aaaa"].into_iter().zip(found) {
            let said = told(from, kind, name);
            assert!(said.lines().any(|l| l.starts_with("Address: ") && l.ends_with(address.as_str())), "{said}");
            let said = told(from, "ptr", address);
            assert!(said.contains(reverse), "{from} asks for {address}: {said}");
        }
    }
    let asked = |from: &str, to: &str| {
        let shown = if to.contains(':') { format!("[{to}]") } else { to.to_owned() };
        let role = format!("{}=ask x=tcp:{shown}:{PORT}", probe::ROLE);
        let mut args = vec!["exec", "-e", &role, from, "/probe"];
        args.extend(probe::ARGS);
        engine.ok(&args).contains("ANSWER x a1 ")
    };
    for address in &there {
        // Duplicate address detection takes a second.
        assert!((0..5).any(|_| asked("b1", address)), "{address}");
    }
    engine.ok(&["network", "disconnect", "netb", "a1"]);
    // Both kinds of address are asked for by name; what nobody knows takes its time elsewhere.
    assert!(!resolves("b1", "a1") && !told("b1", "ptr", &there[1]).contains("a1.netb"));
    there.iter().for_each(|address| assert!(!asked("b1", address), "{address}"));
    for (kind, address) in ["a", "aaaa"].into_iter().zip(&here) {
        assert!(asked("a2", address) && told("a2", kind, "a1").contains(address.as_str()), "{address}");
    }
}

/// Another machine: a namespace behind a link of the host, with the host as its router.
struct Far(Child);

impl Drop for Far {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn far() -> Far {
    let child = Command::new("unshare").args(["--net", "sleep", "1000"]).stdout(Stdio::null()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(300));
    let pid = child.id();
    sh(&format!(
        "set -e; ip link add tofar type veth peer name eth0 netns {pid}; ip addr add {HOST4}/24 dev tofar; \
         ip -6 addr add {HOST6}/64 dev tofar nodad; ip link set tofar up; \
         nsenter -t {pid} -n sh -ec 'ip link set lo up; ip addr add 10.99.0.2/24 dev eth0; \
         ip -6 addr add fd99::2/64 dev eth0 nodad; ip link set eth0 up; ip route add default via {HOST4}; \
         ip -6 route add default via {HOST6}'"
    ));
    Far(child)
}
