//! Asks other servers, from the machine's own namespace: servers on its loopback answer there, and
//! containers on networks without a way out are none the wiser.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

/// A server gets this long while there are others to ask; clients commonly give up after five seconds.
const PATIENCE: Duration = Duration::from_secs(2);
/// The last one.
const LAST: Duration = Duration::from_secs(4);
/// Servers asked for one query.
const SERVERS: usize = 3;
const HEADER: usize = 12;
const DATAGRAM: usize = 4096;

/// Asks `servers` in turn, beginning with the one that answered last, and returns the answer as
/// it came, under the query's own id. `None` if none answers.
pub(super) async fn ask(query: &[u8], servers: &[SocketAddr], good: &AtomicUsize, tcp: bool) -> Option<Vec<u8>> {
    let count = servers.len().min(SERVERS);
    let start = good.load(Ordering::Relaxed);
    let mut refusal = None;
    for i in 0..count {
        let at = (start + i) % count;
        let patience = if i + 1 == count { LAST } else { PATIENCE };
        let asked = async { if tcp { ask_tcp(query, servers[at]).await } else { ask_udp(query, servers[at]).await } };
        let Ok(Ok(mut answer)) = timeout(patience, asked).await else { continue };
        answer[..2].copy_from_slice(&query[..2]);
        if is_refusal(&answer) {
            refusal = Some(answer);
            continue;
        }
        good.store(at, Ordering::Relaxed);
        return Some(answer);
    }
    refusal
}

/// SERVFAIL, NOTIMP, REFUSED: another server may know better.
fn is_refusal(answer: &[u8]) -> bool {
    matches!(answer[3] & 15, 2 | 4 | 5)
}

/// A socket and an id of its own for each query: an answer cannot be guessed from outside.
async fn ask_udp(query: &[u8], server: SocketAddr) -> std::io::Result<Vec<u8>> {
    let any: SocketAddr = match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(server).await?;
    let asked = with_fresh_id(query);
    socket.send(&asked).await?;
    let mut buf = vec![0u8; DATAGRAM];
    loop {
        let length = socket.recv(&mut buf).await?;
        if answers(&buf[..length], &asked) {
            buf.truncate(length);
            return Ok(buf);
        }
    }
}

async fn ask_tcp(query: &[u8], server: SocketAddr) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    let asked = with_fresh_id(query);
    let length = u16::try_from(asked.len()).map_err(|_| std::io::ErrorKind::InvalidInput)?;
    let mut framed = length.to_be_bytes().to_vec();
    framed.extend_from_slice(&asked);
    stream.write_all(&framed).await?;
    let mut answer = vec![0u8; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut answer).await?;
    if answers(&answer, &asked) { Ok(answer) } else { Err(std::io::ErrorKind::InvalidData.into()) }
}

fn with_fresh_id(query: &[u8]) -> Vec<u8> {
    let mut asked = query.to_vec();
    barque_model::id::fill_random(&mut asked[..2]);
    asked
}

/// Whether `packet` is a response with the id and the question of `asked`.
fn answers(packet: &[u8], asked: &[u8]) -> bool {
    let Some(question) = question(asked) else { return false };
    packet.len() >= HEADER
        && packet[..2] == asked[..2]
        && packet[2] & 0x80 != 0
        // Some servers leave the question out of a refusal.
        && (packet[4..6] == [0, 0] && is_refusal(packet)
            || packet.get(HEADER..HEADER + question.len()).is_some_and(|p| p.eq_ignore_ascii_case(question)))
}

/// The bytes of the first question: labels up to the root, type, class.
fn question(packet: &[u8]) -> Option<&[u8]> {
    const MAX_LABEL: u8 = 63;
    let mut at = HEADER;
    loop {
        match *packet.get(at)? {
            0 => break,
            length if length <= MAX_LABEL => at += usize::from(length) + 1,
            _ => return None,
        }
    }
    packet.get(HEADER..at + 5)
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUERY: &[u8] = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03wWw\x00\x00\x01\x00\x01";

    #[test]
    fn only_an_answer_to_the_question_counts() {
        let mut reply = QUERY.to_ascii_lowercase();
        reply[2] |= 0x80;
        assert!(answers(&reply, QUERY));
        assert!(!answers(QUERY, QUERY), "a query is no answer");
        let mut other = reply.clone();
        other[1] ^= 1;
        assert!(!answers(&other, QUERY), "another id");
        let mut other = reply.clone();
        other[14] = b'x';
        assert!(!answers(&other, QUERY), "another name");
        assert!(!answers(&reply[..HEADER], QUERY), "no question");
        assert!(!answers(&[], QUERY));
    }

    #[test]
    fn questions_end_at_the_root() {
        assert_eq!(question(QUERY).map(<[u8]>::len), Some(9));
        assert_eq!(question(&QUERY[..14]), None);
        assert_eq!(question(b"\0\0\0\0\0\0\0\0\0\0\0\0\xc0\x0c\0\x01\0\x01"), None, "a pointer");
    }
}
