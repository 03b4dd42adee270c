//! The test program itself as a server and as a client in containers: it is linked statically, and so runs in any.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Command, Stdio};
use std::time::Duration;

/// What the program is to be: `serve NAME PORT` or `ask KEY=PROTO:ADDRESS:PORT…`.
pub const ROLE: &str = "BARQUE_PROBE";
/// Arguments that make a test binary with a test named `probe` play its role.
pub const ARGS: [&str; 4] = ["probe", "--exact", "--ignored", "--nocapture"];
const PATIENCE: Duration = Duration::from_millis(600);

/// Plays the role of the environment; the body of the ignored test `probe`.
pub fn play() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let words: Vec<&str> = role.split(' ').collect();
    match words.as_slice() {
        ["serve", name, port] => serve(name, port.parse().unwrap()),
        ["ask", targets @ ..] => ask(targets),
        _ => panic!("{role}"),
    }
}

fn serve(name: &str, port: u16) {
    let any = |v6: bool| -> SocketAddr { if v6 { ([0u16; 8], port).into() } else { ([0u8; 4], port).into() } };
    let tcp = TcpListener::bind(any(true)).or_else(|_| TcpListener::bind(any(false))).unwrap();
    let udp = UdpSocket::bind(any(true)).or_else(|_| UdpSocket::bind(any(false))).unwrap();
    let own = name.to_owned();
    std::thread::spawn(move || {
        let mut buffer = [0u8; 64];
        while let Ok((_, peer)) = udp.recv_from(&mut buffer) {
            let _ = udp.send_to(format!("{own} {}", peer.ip().to_canonical()).as_bytes(), peer);
        }
    });
    println!("READY");
    for mut stream in tcp.incoming().flatten() {
        let peer = stream.peer_addr().map(|p| p.ip().to_canonical().to_string()).unwrap_or_default();
        let _ = stream.write_all(format!("{name} {peer}").as_bytes());
    }
}

fn ask(targets: &[&str]) {
    let threads: Vec<_> = targets
        .iter()
        .map(|target| {
            let (key, rest) = target.split_once('=').unwrap();
            let (proto, address) = rest.split_once(':').unwrap();
            let (key, proto, address) = (key.to_owned(), proto.to_owned(), address.to_owned());
            std::thread::spawn(move || {
                // One loss on a busy machine is no answer.
                let found = (0..3).find_map(|_| one(&proto, &address));
                println!("ANSWER {key} {}", found.unwrap_or_else(|| "-".into()));
            })
        })
        .collect();
    threads.into_iter().for_each(|t| t.join().unwrap());
}

/// What the other side says, or `None`.
fn one(proto: &str, address: &str) -> Option<String> {
    match proto {
        "tcp" => {
            let mut stream = TcpStream::connect_timeout(&address.parse().unwrap(), PATIENCE).ok()?;
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).ok()?;
            Some(text).filter(|t| !t.is_empty())
        }
        "udp" => {
            let to: SocketAddr = address.parse().unwrap();
            let from: SocketAddr = if to.is_ipv6() { ([0u16; 8], 0).into() } else { ([0u8; 4], 0).into() };
            let socket = UdpSocket::bind(from).ok()?;
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            socket.connect(to).ok()?;
            socket.send(b"?").ok()?;
            let mut buffer = [0u8; 64];
            let n = socket.recv(&mut buffer).ok()?;
            Some(String::from_utf8_lossy(&buffer[..n]).into_owned())
        }
        "icmp" => {
            let ip: IpAddr = address.parse().unwrap();
            let family = if ip.is_ipv6() { "-6" } else { "-4" };
            let mut ping = Command::new("busybox");
            ping.args(["ping", family, "-c", "1", "-W", "1", address]).stdout(Stdio::null()).stderr(Stdio::null());
            ping.status().ok()?.success().then(|| "pong".to_owned())
        }
        other => panic!("{other}"),
    }
}
