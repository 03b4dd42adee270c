//! The embedded resolver, asked from inside containers.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use barque_model::Id;
use barque_net::dns::{NameEntry, NameTable, SandboxDns};
use barque_sys::netlink::netns;
use common::{Container, Machine, bridge, fabric, on_machine};
use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{Name, RData, Record, RecordType};

const PATIENCE: Duration = Duration::from_secs(6);

fn query(name: &str, kind: RecordType) -> Message {
    let mut message = Message::new(4711, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(name.parse::<Name>().unwrap(), kind));
    message
}

fn text(packet: &[u8]) -> String {
    let message = Message::from_vec(packet).unwrap();
    assert_eq!(message.metadata.id, 4711);
    let data: Vec<String> = message.answers.iter().map(|r| r.data.to_string()).collect();
    format!("{:?} {}", message.metadata.response_code, data.join(" "))
}

fn ask_udp(ns: impl AsFd, name: &str, kind: RecordType) -> String {
    let socket = netns::inside(ns.as_fd(), || UdpSocket::bind("0.0.0.0:0").unwrap()).unwrap();
    socket.connect("127.0.0.11:53").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.send(&query(name, kind).to_vec().unwrap()).unwrap();
    let mut buf = [0; 4096];
    socket.recv(&mut buf).map_or_else(|e| e.kind().to_string(), |length| text(&buf[..length]))
}

fn ask_tcp(ns: impl AsFd, name: &str, kind: RecordType) -> String {
    let mut stream = netns::inside(ns.as_fd(), || TcpStream::connect("127.0.0.11:53").unwrap()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let packet = query(name, kind).to_vec().unwrap();
    stream.write_all(&(packet.len() as u16).to_be_bytes()).unwrap();
    stream.write_all(&packet).unwrap();
    let mut length = [0; 2];
    stream.read_exact(&mut length).unwrap();
    let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut answer).unwrap();
    text(&answer)
}

/// A server that knows one name, `known.`, and refuses `refused.`; on the calling thread's machine.
fn upstream(at: &str) {
    let udp = UdpSocket::bind(at).unwrap();
    let tcp = std::net::TcpListener::bind(at).unwrap();
    let answer = |packet: &[u8]| {
        let query = Message::from_vec(packet).unwrap();
        let mut out = Message::new(query.metadata.id, MessageType::Response, OpCode::Query);
        let name = query.queries[0].name().clone();
        out.add_query(query.queries[0].clone());
        match name.to_ascii().to_ascii_lowercase().as_str() {
            "known." => drop(out.add_answer(Record::from_rdata(name, 5, RData::A(A([192, 0, 2, 53].into()))))),
            "refused." => out.metadata.response_code = ResponseCode::Refused,
            _ => out.metadata.response_code = ResponseCode::NXDomain,
        };
        out.to_vec().unwrap()
    };
    std::thread::spawn(move || {
        let mut buf = [0; 4096];
        while let Ok((length, client)) = udp.recv_from(&mut buf) {
            // Forgeries first: another id, then another question.
            let mut reply = answer(&buf[..length]);
            reply[0] ^= 0xff;
            let _ = udp.send_to(&reply, client);
            reply[0] ^= 0xff;
            let mut wrong = reply.clone();
            wrong[13] ^= 1;
            let _ = udp.send_to(&wrong, client);
            let _ = udp.send_to(&reply, client);
        }
    });
    std::thread::spawn(move || {
        for mut stream in tcp.incoming().flatten() {
            let mut length = [0; 2];
            let _ = stream.read_exact(&mut length);
            let mut packet = vec![0; usize::from(u16::from_be_bytes(length))];
            let _ = stream.read_exact(&mut packet);
            let reply = answer(&packet);
            let _ = stream.write_all(&(reply.len() as u16).to_be_bytes());
            let _ = stream.write_all(&reply);
        }
    });
}

fn names(entries: &[(&str, &str)]) -> NameTable {
    let entry = |(name, ip): &(&str, &str)| NameEntry {
        names: vec![name.to_string()],
        v4: Some(ip.parse().unwrap()),
        v6: None,
    };
    NameTable { network: "lan".into(), entries: entries.iter().map(entry).collect() }
}

#[test]
fn names_resolve_and_the_rest_is_forwarded() {
    on_machine(|_: &Machine| {
        // On the machine's loopback: out of the container's reach, but not of the resolver's.
        upstream("127.0.0.53:53");
        let fabric = fabric("d");
        let lan = bridge("lan", "br-lan", &[("172.18.0.0/16", "172.18.0.1")]);
        fabric.ensure_network(&lan).unwrap();
        let web = Container::start(&fabric, &lan, Some("172.18.0.2"), None);
        fabric.dns().set_names(&lan.id, names(&[("web", "172.18.0.2"), ("db", "172.18.0.3")]));
        let settings = SandboxDns {
            networks: vec![lan.id],
            // The first one is not there.
            upstreams: vec!["127.0.0.99:53".parse().unwrap(), "127.0.0.53:53".parse().unwrap()],
            forward: true,
            ..SandboxDns::default()
        };
        let id = Id::random();
        for redirect in [false, true] {
            fabric.dns().start(&id, &web.ns, SandboxDns { redirect, ..settings.clone() }).unwrap();
            for ask in [ask_udp, ask_tcp] {
                assert_eq!(ask(&web.ns, "db.", RecordType::A), "NoError 172.18.0.3");
                assert_eq!(ask(&web.ns, "db.", RecordType::AAAA), "NoError ");
                assert_eq!(ask(&web.ns, "3.0.18.172.in-addr.arpa.", RecordType::PTR), "NoError db.lan.");
                assert_eq!(ask(&web.ns, "known.", RecordType::A), "NoError 192.0.2.53");
                assert_eq!(ask(&web.ns, "unknown.", RecordType::A), "NXDomain ");
                assert_eq!(ask(&web.ns, "refused.", RecordType::A), "Refused ");
            }
            // Redirected, the container's own server has the port.
            let own = netns::inside(web.as_fd(), || UdpSocket::bind("0.0.0.0:53").is_ok()).unwrap();
            assert_eq!(own, redirect);
        }
        fabric.dns().set_names(&lan.id, names(&[("web", "172.18.0.2")]));
        assert_eq!(ask_udp(&web.ns, "db.", RecordType::A), "NXDomain ");
        fabric.dns().update(&id, SandboxDns { forward: false, ..settings });
        assert_eq!(ask_udp(&web.ns, "known.", RecordType::A), "ServFail ");
        fabric.dns().stop(&id);
        assert_eq!(ask_udp(&web.ns, "web.", RecordType::A), "connection refused");
    });
}

#[test]
fn a_silent_server_costs_seconds_once() {
    on_machine(|_: &Machine| {
        let _silent = UdpSocket::bind("127.0.0.98:53").unwrap();
        upstream("127.0.0.53:53");
        let fabric = fabric("d");
        let ns = fabric.netns(None).unwrap();
        let upstreams = vec!["127.0.0.98:53".parse().unwrap(), "127.0.0.53:53".parse().unwrap()];
        let settings = SandboxDns { upstreams, forward: true, ..SandboxDns::default() };
        fabric.dns().start(&Id::random(), &ns, settings).unwrap();
        let timed = || {
            let start = Instant::now();
            assert_eq!(ask_udp(&ns, "known.", RecordType::A), "NoError 192.0.2.53");
            start.elapsed()
        };
        assert!(timed() > Duration::from_secs(1));
        assert!(timed() < Duration::from_secs(1));
    });
}

#[test]
fn the_resolver_lets_go_of_the_namespace() {
    on_machine(|machine: &Machine| {
        let fabric = fabric("d");
        let lan = bridge("lan", "br-lan", &[("172.18.0.0/16", "172.18.0.1")]);
        fabric.ensure_network(&lan).unwrap();
        let web = Container::start(&fabric, &lan, Some("172.18.0.2"), None);
        let id = Id::random();
        fabric.dns().start(&id, &web.ns, SandboxDns::default()).unwrap();
        assert!(ask_tcp(&web.ns, "x.", RecordType::A).starts_with("ServFail"));
        let veth = web.attached.host_ifname.clone().unwrap();
        drop(web);
        std::thread::sleep(Duration::from_millis(200));
        assert!(machine.links().contains(&veth), "served, it stays");
        fabric.dns().stop(&id);
        let gone = (0..100).any(|_| {
            std::thread::sleep(Duration::from_millis(20));
            !machine.links().contains(&veth)
        });
        assert!(gone, "stopped, it goes");
    });
}
