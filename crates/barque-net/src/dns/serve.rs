//! Sockets in containers' namespaces, read by the engine's network thread.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener as StdTcp, UdpSocket as StdUdp};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use barque_model::{Context, Error, Result};
use barque_sys::netlink::netns;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::answer::{self, Outcome, View};
use super::names::{Table, Tables};
use super::{RESOLVER, SandboxDns, forward, redirect};
use crate::io::Guard;
use crate::netns::NetNs;

const DNS_PORT: u16 = 53;
/// Queries of one container on their way to other servers. Bounds a container that asks itself.
const FORWARDED: usize = 128;
/// TCP connections of one container.
const CONNECTIONS: usize = 32;
/// A TCP client may be silent so long.
const IDLE: Duration = Duration::from_secs(10);
/// Pause after an error of a socket that is not about one client.
const TROUBLE: Duration = Duration::from_millis(50);
const DATAGRAM: usize = 4096;

/// The sockets of one container.
pub(super) struct Sockets {
    pub(super) udp: StdUdp,
    pub(super) tcp: StdTcp,
}

/// Opens the sockets in `ns`: on port 53, or, if that must stay free or is taken, on other ports
/// to which queries are redirected.
pub(super) fn open(ns: &NetNs, redirected: bool) -> Result<Sockets> {
    let bind = |port: u16| -> std::io::Result<Sockets> {
        let sockets = Sockets { udp: StdUdp::bind((RESOLVER, port))?, tcp: StdTcp::bind((RESOLVER, port))? };
        sockets.udp.set_nonblocking(true)?;
        sockets.tcp.set_nonblocking(true)?;
        Ok(sockets)
    };
    let inside = || -> Result<Sockets> {
        let what = || format!("cannot open the resolver's sockets on {RESOLVER}");
        let taken = match if redirected { Err(ErrorKind::AddrInUse.into()) } else { bind(DNS_PORT) } {
            Ok(sockets) => return Ok(sockets),
            Err(e) if e.kind() == ErrorKind::AddrInUse => bind(0).with_context(what)?,
            Err(e) => return Err(e).with_context(what),
        };
        let port = |address: std::io::Result<SocketAddr>| address.map(|a| a.port()).with_context(what);
        redirect::install(port(taken.udp.local_addr())?, port(taken.tcp.local_addr())?)?;
        Ok(taken)
    };
    netns::inside(ns.as_fd(), inside)
        .map_err(|e| Error::internal("cannot enter the container's network namespace").with_source(e))?
}

/// What the tasks of one container share.
pub(super) struct Sandbox {
    settings: RwLock<Arc<SandboxDns>>,
    tables: Arc<RwLock<Tables>>,
    turn: AtomicUsize,
    /// The server that answered last.
    good: AtomicUsize,
    forwarded: Arc<Semaphore>,
    connections: Arc<Semaphore>,
}

impl Sandbox {
    pub(super) fn new(settings: SandboxDns, tables: Arc<RwLock<Tables>>) -> Sandbox {
        Sandbox {
            settings: RwLock::new(Arc::new(settings)),
            tables,
            turn: AtomicUsize::new(0),
            good: AtomicUsize::new(0),
            forwarded: Arc::new(Semaphore::new(FORWARDED)),
            connections: Arc::new(Semaphore::new(CONNECTIONS)),
        }
    }

    pub(super) fn set(&self, settings: SandboxDns) {
        *self.settings.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(settings);
        self.good.store(0, Ordering::Relaxed);
    }

    fn settings(&self) -> Arc<SandboxDns> {
        Arc::clone(&self.settings.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn decide(&self, packet: &[u8], settings: &SandboxDns) -> Outcome {
        let tables: Vec<Arc<Table>> = {
            let all = self.tables.read().unwrap_or_else(PoisonError::into_inner);
            settings.networks.iter().filter_map(|id| all.get(id)).cloned().collect()
        };
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        answer::decide(packet, &View { settings, tables: &tables, turn })
    }

    fn permit(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.forwarded).try_acquire_owned().ok()
    }

    /// The answer of other servers, else `failed`.
    async fn forward(&self, query: &[u8], settings: &SandboxDns, failed: Vec<u8>, tcp: bool) -> Vec<u8> {
        if !settings.forward {
            return failed;
        }
        forward::ask(query, &settings.upstreams, &self.good, tcp).await.unwrap_or(failed)
    }
}

/// Answers datagrams.
pub(super) async fn udp(socket: StdUdp, sandbox: Arc<Sandbox>, guard: Guard) {
    // The guard outlives the socket: locals are dropped last to first.
    let guard = guard;
    let Ok(socket) = UdpSocket::from_std(socket) else { return };
    let socket = Arc::new(socket);
    let mut asked = JoinSet::new();
    let mut buf = vec![0u8; DATAGRAM];
    loop {
        while asked.try_join_next().is_some() {}
        let Ok((length, client)) = socket.recv_from(&mut buf).await else {
            tokio::time::sleep(TROUBLE).await;
            continue;
        };
        let query = &buf[..length];
        let settings = sandbox.settings();
        match sandbox.decide(query, &settings) {
            Outcome::Ignore => {}
            Outcome::Reply(reply) => {
                if let Some(bytes) = answer::encode(&reply, Some(query)) {
                    let _ = socket.send_to(&bytes, client).await;
                }
            }
            Outcome::Forward(failed) => {
                // Too many at once: the client asks again.
                let (Some(permit), Some(failed)) = (sandbox.permit(), answer::encode(&failed, None)) else { continue };
                let (sandbox, socket, query) = (Arc::clone(&sandbox), Arc::clone(&socket), query.to_vec());
                let guard = guard.clone();
                asked.spawn(async move {
                    let (_guard, _permit) = (guard, permit);
                    let socket = socket;
                    let answer = sandbox.forward(&query, &settings, failed, false).await;
                    let _ = socket.send_to(&answer, client).await;
                });
            }
        }
    }
}

/// Answers TCP connections.
pub(super) async fn tcp(listener: StdTcp, sandbox: Arc<Sandbox>, guard: Guard) {
    let guard = guard;
    let Ok(listener) = TcpListener::from_std(listener) else { return };
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok(permit) = Arc::clone(&sandbox.connections).acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(TROUBLE).await;
            continue;
        };
        let (sandbox, guard) = (Arc::clone(&sandbox), guard.clone());
        connections.spawn(async move {
            let (_guard, _permit) = (guard, permit);
            converse(stream, &sandbox).await;
        });
    }
}

/// Any number of queries on one connection, one after the other.
async fn converse(mut stream: TcpStream, sandbox: &Sandbox) {
    while let Ok(Ok(length)) = timeout(IDLE, stream.read_u16()).await {
        let mut query = vec![0u8; usize::from(length)];
        let Ok(Ok(_)) = timeout(IDLE, stream.read_exact(&mut query)).await else { return };
        let settings = sandbox.settings();
        let answer = match sandbox.decide(&query, &settings) {
            Outcome::Ignore => return,
            Outcome::Reply(reply) => answer::encode(&reply, None),
            Outcome::Forward(failed) => match (sandbox.permit(), answer::encode(&failed, None)) {
                (Some(_permit), Some(failed)) => Some(sandbox.forward(&query, &settings, failed, true).await),
                (_, failed) => failed,
            },
        };
        let Some(answer) = answer else { return };
        let Ok(length) = u16::try_from(answer.len()) else { return };
        let mut framed = length.to_be_bytes().to_vec();
        framed.extend_from_slice(&answer);
        let Ok(Ok(())) = timeout(IDLE, stream.write_all(&framed)).await else { return };
    }
}
