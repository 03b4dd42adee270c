//! Names that are nobody's on a network: asked of the servers that a container was given.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on may panic")]

mod pair;

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, UdpSocket};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use pair::{Engine, in_namespaces, sh};

/// The question in a DNS message that is well formed, as `kind NAME` (RFC 1035, section 4.1.2).
fn question(message: &[u8]) -> Option<(String, usize)> {
    let (mut at, mut labels) = (12, Vec::new());
    while let length @ 1.. = usize::from(*message.get(at)?) {
        labels.push(String::from_utf8_lossy(message.get(at + 1..at + 1 + length)?).into_owned());
        at += 1 + length;
    }
    Some((labels.join("."), at + 5))
}

/// The answer 192.0.2.77 to a question.
fn answered(message: &[u8]) -> Vec<u8> {
    let (_, end) = question(message).unwrap();
    let mut reply = [&message[..2], &[0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0], &message[12..end]].concat();
    reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 77]);
    reply
}

/// A name server at `at` that knows every name; what it is asked, and how.
fn name_server(at: &str) -> Arc<Mutex<Vec<String>>> {
    let (udp, tcp) = (UdpSocket::bind(at).unwrap(), TcpListener::bind(at).unwrap());
    let asked = Arc::new(Mutex::new(Vec::new()));
    let (by_udp, by_tcp) = (asked.clone(), asked.clone());
    std::thread::spawn(move || {
        let mut packet = [0; 512];
        while let Ok((length, from)) = udp.recv_from(&mut packet) {
            by_udp.lock().unwrap().push(format!("udp {}", question(&packet[..length]).unwrap().0));
            udp.send_to(&answered(&packet[..length]), from).unwrap();
        }
    });
    std::thread::spawn(move || {
        for stream in tcp.incoming() {
            let (mut stream, mut length) = (stream.unwrap(), [0; 2]);
            if stream.read_exact(&mut length).is_err() {
                continue;
            }
            let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
            stream.read_exact(&mut message).unwrap();
            by_tcp.lock().unwrap().push(format!("tcp {}", question(&message).unwrap().0));
            let reply = answered(&message);
            stream.write_all(&[&(reply.len() as u16).to_be_bytes()[..], &reply].concat()).unwrap();
        }
    });
    asked
}

/// What a container asks at 127.0.0.11 goes on to the servers it was given, as it was asked, past one that is silent.
#[test]
fn priv_names_of_others_are_asked_of_the_servers_given() {
    in_namespaces("priv_names_of_others_are_asked_of_the_servers_given", |dir| {
        sh("ip addr add 192.0.2.53/32 dev lo; ip addr add 192.0.2.54/32 dev lo");
        let asked = name_server("192.0.2.53:53");
        let asked = || std::mem::take(&mut *asked.lock().unwrap());
        let _silent = UdpSocket::bind("192.0.2.54:53").unwrap();
        let engine = Engine::barque(dir, &[]);
        engine.import_busybox("busybox:1", &["ENV PATH=/bin"]);
        engine.ok(&["network", "create", "lan"]);
        let start = |name: &str, servers: &[&str]| {
            let options: Vec<&str> = servers.iter().flat_map(|s| ["--dns", s]).collect();
            let known = ["run", "-d", "--name", name, "--network", "lan"];
            engine.ok(&[&known[..], &options, &["busybox:1", "sleep", "1000"]].concat());
        };
        start("asks", &["192.0.2.53"]);
        start("waits", &["192.0.2.54", "192.0.2.53"]);
        let by_udp = |who: &str, name: &str| engine.ok(&["exec", who, "nslookup", "-type=a", name]);
        assert!(engine.ok(&["exec", "asks", "cat", "/etc/resolv.conf"]).contains("nameserver 127.0.0.11"));
        assert!(by_udp("asks", "far.example").contains("Address: 192.0.2.77"));
        assert_eq!(asked(), ["udp far.example"]);
        // A query by hand: two bytes of length, then the message; the address stands at the end of the answer.
        let by_tcp = "printf '\\0\\035\\0\\7\\1\\0\\0\\1\\0\\0\\0\\0\\0\\0\\3far\\7example\\0\\0\\1\\0\\1' | \
                      nc -w 5 127.0.0.11 53 | tail -c 4 | od -An -tu1";
        assert_eq!(
            engine.ok(&["exec", "asks", "sh", "-c", by_tcp]).split_whitespace().collect::<Vec<_>>(),
            ["192", "0", "2", "77"]
        );
        assert_eq!(asked(), ["tcp far.example"]);
        // The names of the network are nobody else's matter.
        assert!(!by_udp("asks", "waits").contains("192.0.2.77"));
        assert_eq!(asked(), [""; 0]);
        let started = Instant::now();
        assert!(by_udp("waits", "far.example").contains("Address: 192.0.2.77"));
        assert!(started.elapsed() > Duration::from_secs(1), "the silent one was waited for");
        let again = Instant::now();
        assert!(by_udp("waits", "other.example").contains("Address: 192.0.2.77"));
        assert!(again.elapsed() < started.elapsed(), "and not for long once more");
        assert_eq!(asked(), ["udp far.example", "udp other.example"]);
    });
}
