//! Decides what becomes of a query: an answer of our own, or a question to other servers.

use std::net::IpAddr;
use std::sync::Arc;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, PTR};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};

use super::SandboxDns;
use super::names::{Addresses, Table};

/// Seconds an answer of ours may be kept. Docker's.
const TTL: u32 = 600;
/// What a client without EDNS takes over UDP (RFC 1035).
const UDP_LIMIT: usize = 512;
/// What we say we take (RFC 9715).
const EDNS_PAYLOAD: u16 = 1232;
/// Length of a message's header: less is no query.
const HEADER: usize = 12;

/// What is known to one container.
pub(super) struct View<'a> {
    pub(super) settings: &'a SandboxDns,
    pub(super) tables: &'a [Arc<Table>],
    /// Answers with several addresses begin with another one each time.
    pub(super) turn: usize,
}

/// What becomes of a query.
#[derive(Debug)]
pub(super) enum Outcome {
    /// An answer of our own.
    Reply(Box<Message>),
    /// To be asked elsewhere; if that fails, this is the answer.
    Forward(Box<Message>),
    /// No query at all.
    Ignore,
}

/// Decides.
pub(super) fn decide(packet: &[u8], view: &View<'_>) -> Outcome {
    const RESPONSE_BIT: u8 = 0x80;
    if packet.len() < HEADER || packet[2] & RESPONSE_BIT != 0 {
        return Outcome::Ignore;
    }
    let id = u16::from_be_bytes([packet[0], packet[1]]);
    let fail = |code| Outcome::Reply(Box::new(Message::error_msg(id, OpCode::Query, code)));
    let Ok(query) = Message::from_vec(packet) else { return fail(ResponseCode::FormErr) };
    if query.metadata.op_code != OpCode::Query {
        return fail(ResponseCode::NotImp);
    }
    let [question] = query.queries.as_slice() else { return fail(ResponseCode::FormErr) };
    let name = question.name();
    let found = match (question.query_class(), question.query_type()) {
        (DNSClass::IN, RecordType::PTR) => view.reverse(name).map(|full| vec![RData::PTR(PTR(full))]),
        (DNSClass::IN, kind) => text(name).and_then(|n| view.resolve(&n)).map(|a| records(&a, kind, view.turn)),
        _ => None,
    };
    match found {
        Some(data) => Outcome::Reply(Box::new(reply(&query, name, data))),
        None => Outcome::Forward(Box::new(respond(&query, ResponseCode::ServFail))),
    }
}

fn respond(query: &Message, code: ResponseCode) -> Message {
    let mut out = Message::new(query.metadata.id, MessageType::Response, OpCode::Query);
    out.metadata.recursion_desired = query.metadata.recursion_desired;
    out.metadata.recursion_available = true;
    out.metadata.response_code = code;
    out.add_queries(query.queries.iter().cloned());
    if query.edns.is_some() {
        let mut edns = Edns::new();
        edns.set_max_payload(EDNS_PAYLOAD);
        out.set_edns(edns);
    }
    out
}

/// An answer without records says: the name exists, but not with this type.
fn reply(query: &Message, name: &Name, data: Vec<RData>) -> Message {
    let mut out = respond(query, ResponseCode::NoError);
    out.add_answers(data.into_iter().map(|d| Record::from_rdata(name.clone(), TTL, d)));
    out
}

fn records(addresses: &Addresses, kind: RecordType, turn: usize) -> Vec<RData> {
    let mut out = Vec::new();
    if matches!(kind, RecordType::A | RecordType::ANY) {
        out.extend(turned(&addresses.v4, turn).map(|ip| RData::A(A(*ip))));
    }
    if matches!(kind, RecordType::AAAA | RecordType::ANY) {
        out.extend(turned(&addresses.v6, turn).map(|ip| RData::AAAA(AAAA(*ip))));
    }
    out
}

fn turned<T>(list: &[T], turn: usize) -> impl Iterator<Item = &T> {
    list.iter().cycle().skip(turn % list.len().max(1)).take(list.len())
}

/// The name in lower case with dots, without the last one. `None` if a label holds what no name
/// of ours does.
fn text(name: &Name) -> Option<String> {
    let mut out = String::with_capacity(name.len());
    for label in name.iter() {
        if !label.iter().all(|b| b.is_ascii_graphic() && *b != b'.') {
            return None;
        }
        if !out.is_empty() {
            out.push('.');
        }
        out.extend(label.iter().map(|b| char::from(b.to_ascii_lowercase())));
    }
    Some(out)
}

impl View<'_> {
    fn resolve(&self, name: &str) -> Option<Addresses> {
        let mut fixed = Addresses::default();
        for (_, ip) in self.settings.hosts.iter().filter(|(host, _)| host.eq_ignore_ascii_case(name)) {
            match ip {
                IpAddr::V4(ip) => fixed.v4.push(*ip),
                IpAddr::V6(ip) => fixed.v6.push(*ip),
            }
        }
        if fixed != Addresses::default() {
            return Some(fixed);
        }
        let alias = self.settings.links.iter().find(|(alias, _)| alias.eq_ignore_ascii_case(name));
        let linked = alias.and_then(|(_, target)| self.find(&target.to_ascii_lowercase()));
        linked.or_else(|| self.find(name)).cloned()
    }

    fn find(&self, name: &str) -> Option<&Addresses> {
        self.tables.iter().find_map(|table| table.find(name))
    }

    fn reverse(&self, name: &Name) -> Option<Name> {
        let mut absolute = name.clone();
        absolute.set_fqdn(true);
        let net = absolute.parse_arpa_name().ok().filter(|net| net.prefix_len() == net.max_prefix_len())?;
        let full = self.tables.iter().find_map(|table| table.name_of(&net.addr()))?;
        let mut full = Name::from_labels(full.split('.').map(str::as_bytes)).ok()?;
        full.set_fqdn(true);
        Some(full)
    }
}

/// The wire form; over UDP cut to what the client takes.
pub(super) fn encode(reply: &Message, udp: Option<&[u8]>) -> Option<Vec<u8>> {
    let bytes = reply.to_vec().ok()?;
    match udp {
        Some(query) if bytes.len() > udp_limit(query) => reply.truncate().to_vec().ok(),
        _ => Some(bytes),
    }
}

/// What the client that sent `query` takes over UDP.
pub(super) fn udp_limit(query: &[u8]) -> usize {
    Message::from_vec(query).map_or(UDP_LIMIT, |m| usize::from(m.max_payload()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::{NameEntry, NameTable};
    use hickory_proto::op::Query;
    use std::str::FromStr;

    fn table() -> Arc<Table> {
        let entry = |names: &[&str], v4: Option<&str>, v6: Option<&str>| NameEntry {
            names: names.iter().map(|n| n.to_string()).collect(),
            v4: v4.map(|ip| ip.parse().unwrap()),
            v6: v6.map(|ip| ip.parse().unwrap()),
        };
        Arc::new(Table::new(&NameTable {
            network: "lan".into(),
            entries: vec![
                entry(&["web-1", "web"], Some("10.0.0.2"), None),
                entry(&["web-2", "web"], Some("10.0.0.3"), Some("fd00::3")),
            ],
        }))
    }

    fn ask(name: &str, kind: RecordType, turn: usize) -> Outcome {
        let settings = SandboxDns {
            hosts: vec![("host.docker.internal".into(), "10.0.0.1".parse().unwrap())],
            links: vec![("db".into(), "web-2".into())],
            ..SandboxDns::default()
        };
        let mut query = Message::new(7, MessageType::Query, OpCode::Query);
        query.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
        decide(&query.to_vec().unwrap(), &View { settings: &settings, tables: &[table()], turn })
    }

    fn answers(outcome: Outcome) -> String {
        match outcome {
            Outcome::Reply(m) => {
                let data: Vec<String> = m.answers.iter().map(|r| r.data.to_string()).collect();
                format!("{:?} {}", m.metadata.response_code, data.join(" "))
            }
            Outcome::Forward(_) => "forward".into(),
            Outcome::Ignore => "ignore".into(),
        }
    }

    #[test]
    fn names_aliases_and_fixed_names_resolve() {
        for (name, kind, turn, want) in [
            ("web-1.", RecordType::A, 0, "NoError 10.0.0.2"),
            ("WEB-1.Lan.", RecordType::A, 0, "NoError 10.0.0.2"),
            ("web.", RecordType::A, 0, "NoError 10.0.0.2 10.0.0.3"),
            ("web.", RecordType::A, 1, "NoError 10.0.0.3 10.0.0.2"),
            ("web.", RecordType::AAAA, 1, "NoError fd00::3"),
            ("web-1.", RecordType::AAAA, 0, "NoError "),
            ("web-1.", RecordType::MX, 0, "NoError "),
            ("db.", RecordType::A, 0, "NoError 10.0.0.3"),
            ("host.docker.internal.", RecordType::A, 5, "NoError 10.0.0.1"),
            ("host.docker.internal.", RecordType::AAAA, 5, "NoError "),
            ("2.0.0.10.in-addr.arpa.", RecordType::PTR, 0, "NoError web-1.lan."),
            ("9.0.0.10.in-addr.arpa.", RecordType::PTR, 0, "forward"),
            ("0.0.10.in-addr.arpa.", RecordType::PTR, 0, "forward"),
            ("example.com.", RecordType::A, 0, "forward"),
            ("web-1.other.", RecordType::A, 0, "forward"),
            (".", RecordType::NS, 0, "forward"),
        ] {
            assert_eq!(answers(ask(name, kind, turn)), want, "{name} {kind}");
        }
    }

    #[test]
    fn answers_repeat_the_question_as_it_was_written() {
        let Outcome::Reply(m) = ask("WeB-1.", RecordType::A, 0) else { panic!() };
        assert_eq!(m.queries[0].name().to_ascii(), "WeB-1.");
        assert_eq!((m.metadata.id, m.metadata.recursion_available), (7, true));
    }

    #[test]
    fn what_is_no_query_is_refused_or_ignored() {
        let settings = SandboxDns::default();
        let view = View { settings: &settings, tables: &[], turn: 0 };
        for (packet, want) in [
            (&b""[..], "ignore"),
            (&[0; 11][..], "ignore"),
            // A response: answering it could go on for ever.
            (&[0, 7, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0][..], "ignore"),
            (&[0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0][..], "FormErr "),
            (&[0, 7, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 255, 255][..], "FormErr "),
            (&[0, 7, 0x28, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1][..], "NotImp "),
        ] {
            assert_eq!(answers(decide(packet, &view)), want, "{packet:?}");
        }
    }

    #[test]
    fn large_answers_are_cut_for_udp_only() {
        let entries =
            (0..100u8).map(|i| NameEntry { names: vec!["many".into()], v4: Some([10, 0, 1, i].into()), v6: None });
        let table = Arc::new(Table::new(&NameTable { network: "lan".into(), entries: entries.collect() }));
        let settings = SandboxDns::default();
        let mut query = Message::new(7, MessageType::Query, OpCode::Query);
        query.add_query(Query::query(Name::from_str("many.").unwrap(), RecordType::A));
        let packet = query.to_vec().unwrap();
        let Outcome::Reply(m) = decide(&packet, &View { settings: &settings, tables: &[table], turn: 0 }) else {
            panic!()
        };
        let cut = Message::from_vec(&encode(&m, Some(&packet)).unwrap()).unwrap();
        assert!(cut.metadata.truncation && cut.answers.is_empty());
        assert_eq!(Message::from_vec(&encode(&m, None).unwrap()).unwrap().answers.len(), 100);
    }
}
