//! Host names to addresses without the C library.
//!
//! The binary links statically, and a static `getaddrinfo` loads whatever plug-ins `/etc/nsswitch.conf` names from
//! another C library's build. What registries need is `/etc/hosts` and the servers of `/etc/resolv.conf`.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

const NAMESERVERS_MAX: usize = 3;
const SEARCH_MAX: usize = 6;
const DATAGRAM_BYTES_MAX: usize = 4096;

/// The system's words without Rust's `(os error N)`, in lower case as Go has them.
pub(super) fn errno_text(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_lowercase()
}

/// What `/etc/resolv.conf` says (resolv.conf(5)).
#[derive(Debug, Clone, PartialEq, Eq)]
struct ResolvConf {
    servers: Vec<SocketAddr>,
    search: Vec<String>,
    ndots: usize,
    attempts: u32,
    timeout: Duration,
}

/// All addresses of `host`, IPv6 and IPv4 alternating.
///
/// # Errors
/// `NotFound` when the name does not exist, in the form `lookup HOST: no such host`.
pub(super) async fn lookup(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    if let Ok(address) = bare.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let hosts = tokio::fs::read_to_string("/etc/hosts").await.unwrap_or_default();
    let mut found = from_hosts(&hosts, bare);
    if found.is_empty() && (bare == "localhost" || bare.ends_with(".localhost")) {
        found = vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    }
    if found.is_empty() {
        let text = tokio::fs::read_to_string("/etc/resolv.conf").await.unwrap_or_default();
        found = query_all(&parse_resolv_conf(&text), bare).await?;
    }
    Ok(interleave(found).into_iter().map(|address| SocketAddr::new(address, port)).collect())
}

/// The addresses of a host by this machine's files and name servers, without the C library.
///
/// # Errors
/// `NotFound` when the name does not exist, in the form `lookup HOST: no such host`.
pub async fn lookup_host(host: &str) -> io::Result<Vec<IpAddr>> {
    Ok(lookup(host, 0).await?.into_iter().map(|address| address.ip()).collect())
}

fn from_hosts(text: &str, host: &str) -> Vec<IpAddr> {
    let mut found = Vec::new();
    for line in text.lines() {
        let mut words = line.split('#').next().unwrap_or("").split_ascii_whitespace();
        let Some(Ok(address)) = words.next().map(str::parse::<IpAddr>) else { continue };
        if words.any(|name| name.eq_ignore_ascii_case(host)) && !found.contains(&address) {
            found.push(address);
        }
    }
    found
}

fn parse_resolv_conf(text: &str) -> ResolvConf {
    let mut conf =
        ResolvConf { servers: Vec::new(), search: Vec::new(), ndots: 1, attempts: 2, timeout: Duration::from_secs(5) };
    for line in text.lines() {
        let mut words = line.split(['#', ';']).next().unwrap_or("").split_ascii_whitespace();
        match words.next() {
            Some("nameserver") => {
                // A scope (`fe80::1%eth0`) cannot be kept without an interface index.
                let address = words.next().and_then(|word| word.split('%').next()?.parse::<IpAddr>().ok());
                conf.servers.extend(address.map(|address| SocketAddr::new(address, 53)));
            }
            Some("search" | "domain") => conf.search = words.take(SEARCH_MAX).map(str::to_owned).collect(),
            Some("options") => words.for_each(|word| option(&mut conf, word)),
            _ => {}
        }
    }
    conf.servers.truncate(NAMESERVERS_MAX);
    if conf.servers.is_empty() {
        conf.servers.push(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 53));
    }
    conf
}

fn option(conf: &mut ResolvConf, word: &str) {
    let Some((name, Ok(value))) = word.split_once(':').map(|(name, value)| (name, value.parse::<u32>())) else {
        return;
    };
    match name {
        "ndots" => conf.ndots = value.min(15) as usize,
        "attempts" => conf.attempts = value.clamp(1, 5),
        "timeout" => conf.timeout = Duration::from_secs(u64::from(value.clamp(1, 30))),
        _ => {}
    }
}

/// The names to ask for, in order (resolv.conf(5), "search" and "ndots").
fn candidates(conf: &ResolvConf, host: &str) -> Vec<String> {
    let absolute = format!("{}.", host.trim_end_matches('.'));
    if host.ends_with('.') {
        return vec![absolute];
    }
    let searched = conf.search.iter().map(|domain| format!("{host}.{}.", domain.trim_end_matches('.')));
    let mut names: Vec<String> = searched.collect();
    let first = host.matches('.').count() >= conf.ndots;
    names.insert(if first { 0 } else { names.len() }, absolute);
    names
}

async fn query_all(conf: &ResolvConf, host: &str) -> io::Result<Vec<IpAddr>> {
    let mut last = None;
    for name in candidates(conf, host) {
        let Ok(name) = Name::from_ascii(&name) else { continue };
        let (v6, v4) = tokio::join!(ask(conf, &name, RecordType::AAAA), ask(conf, &name, RecordType::A));
        let mut found: Vec<IpAddr> = Vec::new();
        for answer in [v6, v4] {
            match answer {
                Ok(addresses) => found.extend(addresses),
                Err(error) => last = Some(error),
            }
        }
        if !found.is_empty() {
            return Ok(found);
        }
    }
    match last {
        Some(error) => Err(io::Error::new(error.kind(), format!("lookup {host} on {error}"))),
        None => {
            let server = conf.servers.first().map(ToString::to_string).unwrap_or_default();
            Err(io::Error::new(io::ErrorKind::NotFound, format!("lookup {host} on {server}: no such host")))
        }
    }
}

/// Asks the servers in turn. A name that does not exist is an empty answer, not an error.
async fn ask(conf: &ResolvConf, name: &Name, kind: RecordType) -> io::Result<Vec<IpAddr>> {
    let mut last = io::Error::other("no name server");
    for _ in 0..conf.attempts {
        for server in &conf.servers {
            match timeout(conf.timeout, ask_server(*server, name, kind)).await {
                Ok(Ok(found)) => return Ok(found),
                Ok(Err(error)) => last = io::Error::new(error.kind(), format!("{server}: {}", errno_text(&error))),
                Err(_) => last = io::Error::new(io::ErrorKind::TimedOut, format!("{server}: i/o timeout")),
            }
        }
    }
    Err(last)
}

async fn ask_server(server: SocketAddr, name: &Name, kind: RecordType) -> io::Result<Vec<IpAddr>> {
    let mut query = Message::query();
    query.metadata.recursion_desired = true;
    query.add_query(Query::query(name.clone(), kind));
    let bytes = query.to_vec().map_err(io::Error::other)?;

    let any: IpAddr = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0)).await?;
    socket.connect(server).await?;
    socket.send(&bytes).await?;
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    loop {
        let length = socket.recv(&mut buffer).await?;
        // Answers to other questions are late or forged: keep listening until the time is up.
        let Some(answer) = matching(&buffer[..length], &query) else { continue };
        if !answer.metadata.truncation {
            return addresses(&answer);
        }
        let mut stream = TcpStream::connect(server).await?;
        let length = u16::try_from(bytes.len()).map_err(io::Error::other)?;
        stream.write_all(&[&length.to_be_bytes()[..], &bytes].concat()).await?;
        let length = stream.read_u16().await?;
        let mut reply = vec![0; usize::from(length)];
        stream.read_exact(&mut reply).await?;
        let answer = matching(&reply, &query).ok_or_else(|| io::Error::other("unusable answer"))?;
        return addresses(&answer);
    }
}

fn matching(bytes: &[u8], query: &Message) -> Option<Message> {
    let answer = Message::from_vec(bytes).ok()?;
    (answer.metadata.id == query.metadata.id && answer.queries == query.queries).then_some(answer)
}

fn addresses(answer: &Message) -> io::Result<Vec<IpAddr>> {
    match answer.metadata.response_code {
        ResponseCode::NoError => {}
        ResponseCode::NXDomain => return Ok(Vec::new()),
        other => return Err(io::Error::other(format!("server misbehaving ({other})"))),
    }
    let found = answer.answers.iter().filter_map(|record| match &record.data {
        RData::A(address) => Some(IpAddr::V4(address.0)),
        RData::AAAA(address) => Some(IpAddr::V6(address.0)),
        _ => None,
    });
    Ok(found.collect())
}

/// Alternates families, IPv6 first (RFC 8305 section 4).
fn interleave(addresses: Vec<IpAddr>) -> Vec<IpAddr> {
    let (v6, v4): (Vec<_>, Vec<_>) = addresses.into_iter().partition(IpAddr::is_ipv6);
    let mut mixed = Vec::with_capacity(v6.len() + v4.len());
    let (mut v6, mut v4) = (v6.into_iter(), v4.into_iter());
    loop {
        let before = mixed.len();
        mixed.extend(v6.next());
        mixed.extend(v4.next());
        if mixed.len() == before {
            return mixed;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::op::MessageType;
    use hickory_proto::rr::Record;
    use hickory_proto::rr::rdata::A;

    #[test]
    fn reads_resolv_conf() {
        let conf = parse_resolv_conf(
            "# c\nnameserver 192.0.2.1\nnameserver fe80::1%eth0\nnameserver junk\nsearch a.example b.example\noptions ndots:2 timeout:1 attempts:9 edns0\n",
        );
        assert_eq!(conf.servers, ["192.0.2.1:53".parse().unwrap(), "[fe80::1]:53".parse().unwrap()]);
        assert_eq!((conf.ndots, conf.attempts, conf.timeout), (2, 5, Duration::from_secs(1)));
        assert_eq!(candidates(&conf, "reg.x"), ["reg.x.a.example.", "reg.x.b.example.", "reg.x."]);
        assert_eq!(candidates(&conf, "a.b.c")[0], "a.b.c.");
        assert_eq!(candidates(&conf, "reg."), ["reg."]);
        assert_eq!(parse_resolv_conf("").servers, ["127.0.0.1:53".parse().unwrap()]);
    }

    #[test]
    fn reads_hosts() {
        let text = "127.0.0.1 localhost\n192.0.2.5 Reg.example reg # other\n::5\treg.example\nbad reg.example\n";
        assert_eq!(from_hosts(text, "reg.example").len(), 2);
        assert!(from_hosts(text, "other").is_empty());
        let mixed = interleave(["192.0.2.1", "192.0.2.2", "2001:db8::1"].map(|a| a.parse().unwrap()).to_vec());
        assert!(mixed[0].is_ipv6() && mixed[1].is_ipv4() && mixed[2].is_ipv4());
    }

    /// A name server that first sends a forged answer with another id, then the right one.
    async fn name_server() -> SocketAddr {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        tokio::spawn(async move {
            let mut buffer = [0; 512];
            loop {
                let (length, peer) = socket.recv_from(&mut buffer).await.unwrap();
                let query = Message::from_vec(&buffer[..length]).unwrap();
                let question = query.queries[0].clone();
                let reply = |id: u16, last: u8| {
                    let mut reply = Message::new(id, MessageType::Response, query.metadata.op_code);
                    reply.add_query(question.clone());
                    match question.name.to_string().as_str() {
                        "reg.example." if question.query_type == RecordType::A => {
                            let data = RData::A(A::new(192, 0, 2, last));
                            reply.add_answer(Record::from_rdata(question.name.clone(), 60, data));
                        }
                        "reg.example." => {}
                        _ => reply.metadata.response_code = ResponseCode::NXDomain,
                    }
                    reply.to_vec().unwrap()
                };
                socket.send_to(&reply(query.metadata.id.wrapping_add(1), 66), peer).await.unwrap();
                socket.send_to(&reply(query.metadata.id, 7), peer).await.unwrap();
            }
        });
        address
    }

    #[tokio::test]
    async fn asks_a_server_and_ignores_forgeries() {
        let server = name_server().await;
        let mut conf = parse_resolv_conf("search none.example\noptions timeout:2 attempts:1\n");
        conf.servers = vec![server];
        assert_eq!(query_all(&conf, "reg.example").await.unwrap(), ["192.0.2.7".parse::<IpAddr>().unwrap()]);
        let error = query_all(&conf, "gone.example").await.unwrap_err();
        assert_eq!(error.to_string(), format!("lookup gone.example on {server}: no such host"));
    }

    #[tokio::test]
    async fn a_dead_server_is_named() {
        let dead = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let mut conf = parse_resolv_conf("options attempts:1\n");
        conf.servers = vec![dead.local_addr().unwrap()];
        conf.timeout = Duration::from_millis(50);
        let error = query_all(&conf, "reg.example").await.unwrap_err();
        assert!(error.to_string().contains(&dead.local_addr().unwrap().to_string()), "{error}");
    }
}
