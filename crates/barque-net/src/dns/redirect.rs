//! Sends queries to 127.0.0.11 port 53 to other ports, within a container's namespace.

use barque_model::Result;
use barque_sys::netlink::nft::{
    CmpOp, Expr, Hook, MetaKey, NatFamily, NftSocket, PayloadBase, Reg, Transaction, Verdict,
};

use super::RESOLVER;
use crate::apply::links::refused;

const TABLE: &str = "barque-dns";
const CHAIN: &str = "output";
const HOOK_OUTPUT: u32 = 3;
const UDP: u8 = 17;
const TCP: u8 = 6;

/// Installs the redirection in the calling thread's namespace, in place of one that is there.
pub(super) fn install(udp: u16, tcp: u16) -> Result<()> {
    let mut t = Transaction::new(TABLE);
    t.add_table();
    t.delete_table();
    t.add_table();
    t.add_chain(CHAIN, Some(Hook { kind: "nat", number: HOOK_OUTPUT, priority: -100 }));
    t.add_rule(CHAIN, &rule(UDP, udp));
    t.add_rule(CHAIN, &rule(TCP, tcp));
    let mut socket = NftSocket::open().map_err(|e| refused("open a packet-filter socket", e))?;
    socket.commit(t).map_err(|e| refused("redirect DNS queries in the container", e))
}

/// `ip daddr 127.0.0.11 PROTO dport 53 dnat to 127.0.0.11:PORT`
fn rule(proto: u8, port: u16) -> Vec<Expr> {
    const IPV4: u8 = 2;
    let (a, b) = (Reg(0), Reg(1));
    let equal = |value: &[u8]| Expr::Cmp { reg: a, op: CmpOp::Equal, value: value.to_vec() };
    vec![
        Expr::Meta { key: MetaKey::Family, to: a },
        equal(&[IPV4]),
        Expr::Payload { base: PayloadBase::Network, offset: 16, len: 4, to: a },
        equal(&RESOLVER.octets()),
        Expr::Meta { key: MetaKey::Protocol, to: a },
        equal(&[proto]),
        Expr::Payload { base: PayloadBase::Transport, offset: 2, len: 2, to: a },
        equal(&53u16.to_be_bytes()),
        Expr::Immediate { value: RESOLVER.octets().to_vec(), to: a },
        Expr::Immediate { value: port.to_be_bytes().to_vec(), to: b },
        Expr::DestinationNat { family: NatFamily::V4, address: a, port: b },
        Expr::Verdict(Verdict::Accept),
    ]
}
