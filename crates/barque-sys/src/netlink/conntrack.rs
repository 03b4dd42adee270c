//! Connection tracking (ctnetlink): finding and forgetting flows of a port.

use std::net::IpAddr;

use libc::NFNL_SUBSYS_CTNETLINK;

use super::dump::ip;
use super::wire::{self, ACK, Body, DUMP};
use super::{Batch, Reply, Result, Socket};

const NEW: u16 = 0;
const GET: u16 = 1;
const DELETE: u16 = 2;
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_ID: u16 = 12;
const CTA_ZONE: u16 = 18;
const CTA_FILTER: u16 = 25;
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_SRC_PORT: u16 = 2;
const CTA_PROTO_DST_PORT: u16 = 3;

/// One direction of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuple {
    pub source: IpAddr,
    pub destination: IpAddr,
    pub source_port: u16,
    pub destination_port: u16,
}

/// A tracked flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flow {
    /// As the first packet came in.
    pub original: Tuple,
    /// As answers come in; differs from the mirror image where addresses are translated.
    pub reply: Tuple,
    raw: Vec<u8>,
    id: Option<u32>,
    zone: Option<u16>,
    v6: bool,
}

/// A socket of connection tracking.
#[derive(Debug)]
pub struct ConntrackSocket(Socket);

fn kind(message: u16) -> u16 {
    ((NFNL_SUBSYS_CTNETLINK as u16) << 8) | message
}

fn genmsg(v6: bool) -> [u8; 4] {
    [if v6 { libc::AF_INET6 as u8 } else { libc::AF_INET as u8 }, 0, 0, 0]
}

impl ConntrackSocket {
    /// Opens a socket in the calling thread's network namespace.
    pub fn open() -> Result<ConntrackSocket> {
        Socket::open(Some(rustix::net::netlink::NETFILTER), 0).map(ConntrackSocket)
    }

    /// The flows of IP protocol `proto` whose first packet went to `port`.
    pub fn flows(&mut self, v6: bool, proto: u8, port: u16) -> Result<Vec<Flow>> {
        let mut batch = Batch::new();
        batch.message(kind(GET), DUMP, |m| {
            m.raw(&genmsg(v6));
            filter(m, proto, port);
        });
        let mut out = Vec::new();
        self.0.dump(&mut batch, |reply| match reply {
            Reply::Start => out.clear(),
            Reply::Message(k, body) if k == kind(NEW) => {
                // Kernels before 5.8 do not filter.
                out.extend(flow(body, v6, proto).filter(|f| f.original.destination_port == port));
            }
            Reply::Message(..) => {}
        })?;
        Ok(out)
    }

    /// Forgets flows; those already gone are no error.
    pub fn forget(&mut self, flows: &[Flow]) -> Result<()> {
        for flow in flows {
            let mut batch = Batch::new();
            batch.message(kind(DELETE), ACK, |m| {
                m.raw(&genmsg(flow.v6)).attr(CTA_TUPLE_ORIG | 1 << 15, &flow.raw);
                if let Some(id) = flow.id {
                    m.u32(CTA_ID, id);
                }
                if let Some(zone) = flow.zone {
                    m.be16(CTA_ZONE, zone);
                }
            });
            match self.0.transact(&mut batch) {
                Err(e) if e.errno != rustix::io::Errno::NOENT => return Err(e),
                _ => {}
            }
        }
        Ok(())
    }
}

fn filter(m: &mut Body<'_>, proto: u8, port: u16) {
    const PROTO_NUMBER: u32 = 1 << 3;
    const PROTO_DESTINATION: u32 = 1 << 5;
    m.nest(CTA_TUPLE_ORIG, |t| {
        t.nest(CTA_TUPLE_PROTO, |p| {
            p.u8(CTA_PROTO_NUM, proto).be16(CTA_PROTO_DST_PORT, port);
        });
    });
    m.nest(CTA_FILTER, |f| {
        f.u32(1, PROTO_NUMBER | PROTO_DESTINATION).u32(2, 0);
    });
}

fn flow(body: &[u8], v6: bool, proto: u8) -> Option<Flow> {
    let attrs = body.get(4..)?;
    let raw = wire::find(attrs, CTA_TUPLE_ORIG)?;
    Some(Flow {
        original: tuple(raw, proto)?,
        reply: tuple(wire::find(attrs, CTA_TUPLE_REPLY)?, proto)?,
        raw: raw.to_vec(),
        id: wire::find(attrs, CTA_ID).and_then(wire::get_u32),
        zone: wire::find(attrs, CTA_ZONE).and_then(wire::get_be16),
        v6,
    })
}

fn tuple(data: &[u8], proto: u8) -> Option<Tuple> {
    let addresses = wire::find(data, CTA_TUPLE_IP)?;
    let ports = wire::find(data, CTA_TUPLE_PROTO)?;
    if wire::find(ports, CTA_PROTO_NUM)? != [proto] {
        return None;
    }
    // 1 and 2 are IPv4's source and destination, 3 and 4 IPv6's.
    let address = |v4, v6| wire::find(addresses, v4).or_else(|| wire::find(addresses, v6)).and_then(ip);
    let port = |kind| wire::find(ports, kind).and_then(wire::get_be16);
    Some(Tuple {
        source: address(1, 3)?,
        destination: address(2, 4)?,
        source_port: port(CTA_PROTO_SRC_PORT)?,
        destination_port: port(CTA_PROTO_DST_PORT)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_bodies_are_skipped() {
        for length in 0..64 {
            assert!(flow(&vec![0xff; length], false, 17).is_none());
        }
    }
}
