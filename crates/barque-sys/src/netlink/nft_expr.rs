//! Expressions of packet-filter rules: small register-machine instructions.

use super::wire::{self, Body};

const LIST_ELEMENT: u16 = 1;
const EXPR_NAME: u16 = 1;
const EXPR_DATA: u16 = 2;

/// A 4-byte register, 0 to 15. Longer values take the following ones as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reg(pub u8);

impl Reg {
    /// NFT_REG32_00 is 8.
    fn number(self) -> u32 {
        8 + u32::from(self.0)
    }
}

/// What `meta` loads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetaKey {
    /// 16 bytes, padded with zeros.
    InputName,
    /// 16 bytes, padded with zeros.
    OutputName,
    /// One byte: NFPROTO_IPV4 or NFPROTO_IPV6.
    Family,
    /// One byte.
    Protocol,
}

/// What `ct` loads; both are bit sets of four bytes in host order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CtKey {
    State,
    Status,
}

/// Where a payload offset counts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PayloadBase {
    Network,
    Transport,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CmpOp {
    Equal,
    NotEqual,
}

/// Address family of a translation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NatFamily {
    V4,
    V6,
}

/// What becomes of the packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Accept,
    Drop,
    Return,
    Jump(String),
    Goto(String),
}

impl Verdict {
    pub(super) fn encode(&self, data: &mut Body<'_>) {
        let (code, chain) = match self {
            Verdict::Accept => (1, None),
            Verdict::Drop => (0, None),
            Verdict::Return => (-5, None),
            Verdict::Jump(chain) => (-3, Some(chain)),
            Verdict::Goto(chain) => (-4, Some(chain)),
        };
        data.nest(2, |v| {
            v.be32(1, code as u32);
            if let Some(chain) = chain {
                v.str(2, chain);
            }
        });
    }
}

/// One instruction. A comparison or look-up that fails ends the rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expr {
    Meta {
        key: MetaKey,
        to: Reg,
    },
    Ct {
        key: CtKey,
        to: Reg,
    },
    Payload {
        base: PayloadBase,
        offset: u32,
        len: u32,
        to: Reg,
    },
    /// `reg &= mask`
    And {
        reg: Reg,
        mask: Vec<u8>,
    },
    Cmp {
        reg: Reg,
        op: CmpOp,
        value: Vec<u8>,
    },
    /// The kind of the destination address by the routing table, four bytes: 2 is local.
    FibDestinationType {
        to: Reg,
    },
    /// Looks `key` up in a set.
    InSet {
        set: String,
        key: Reg,
    },
    /// Looks `key` up in a map of values.
    Map {
        set: String,
        key: Reg,
        to: Reg,
    },
    /// Looks `key` up in a map of verdicts and follows it.
    VerdictMap {
        set: String,
        key: Reg,
    },
    DestinationNat {
        family: NatFamily,
        address: Reg,
        port: Reg,
    },
    Masquerade,
    /// Loads a constant.
    Immediate {
        value: Vec<u8>,
        to: Reg,
    },
    Verdict(Verdict),
}

impl Expr {
    pub(super) fn encode(&self, list: &mut Body<'_>) {
        list.nest(LIST_ELEMENT, |e| {
            e.str(EXPR_NAME, self.name());
            e.nest(EXPR_DATA, |d| self.data(d));
        });
    }

    fn name(&self) -> &'static str {
        match self {
            Expr::Meta { .. } => "meta",
            Expr::Ct { .. } => "ct",
            Expr::Payload { .. } => "payload",
            Expr::And { .. } => "bitwise",
            Expr::Cmp { .. } => "cmp",
            Expr::FibDestinationType { .. } => "fib",
            Expr::InSet { .. } | Expr::Map { .. } | Expr::VerdictMap { .. } => "lookup",
            Expr::DestinationNat { .. } => "nat",
            Expr::Masquerade => "masq",
            Expr::Immediate { .. } | Expr::Verdict(_) => "immediate",
        }
    }

    fn data(&self, d: &mut Body<'_>) {
        match self {
            Expr::Meta { key, to } => {
                let key = match key {
                    MetaKey::InputName => libc::NFT_META_IIFNAME,
                    MetaKey::OutputName => libc::NFT_META_OIFNAME,
                    MetaKey::Family => libc::NFT_META_NFPROTO,
                    MetaKey::Protocol => libc::NFT_META_L4PROTO,
                };
                d.be32(1, to.number()).be32(2, key as u32);
            }
            Expr::Ct { key, to } => {
                let key = match key {
                    CtKey::State => libc::NFT_CT_STATE,
                    CtKey::Status => libc::NFT_CT_STATUS,
                };
                d.be32(1, to.number()).be32(2, key as u32);
            }
            Expr::Payload { base, offset, len, to } => {
                let base = match base {
                    PayloadBase::Network => libc::NFT_PAYLOAD_NETWORK_HEADER,
                    PayloadBase::Transport => libc::NFT_PAYLOAD_TRANSPORT_HEADER,
                };
                d.be32(1, to.number()).be32(2, base as u32).be32(3, *offset).be32(4, *len);
            }
            Expr::And { reg, mask } => {
                d.be32(1, reg.number()).be32(2, reg.number()).be32(3, mask.len() as u32);
                value(d, 4, mask);
                value(d, 5, &vec![0; mask.len()]);
            }
            Expr::Cmp { reg, op, value: wanted } => {
                d.be32(1, reg.number()).be32(2, if *op == CmpOp::Equal { 0 } else { 1 });
                value(d, 3, wanted);
            }
            Expr::FibDestinationType { to } => {
                const RESULT_ADDRESS_TYPE: u32 = 3;
                const DESTINATION: u32 = 2;
                d.be32(1, to.number()).be32(2, RESULT_ADDRESS_TYPE).be32(3, DESTINATION);
            }
            Expr::InSet { set, key } => {
                d.str(1, set).be32(2, key.number());
            }
            Expr::Map { set, key, to } => {
                d.str(1, set).be32(2, key.number()).be32(3, to.number());
            }
            Expr::VerdictMap { set, key } => {
                d.str(1, set).be32(2, key.number()).be32(3, libc::NFT_REG_VERDICT as u32);
            }
            Expr::DestinationNat { family, address, port } => {
                let family = match family {
                    NatFamily::V4 => libc::NFPROTO_IPV4,
                    NatFamily::V6 => libc::NFPROTO_IPV6,
                };
                d.be32(1, libc::NFT_NAT_DNAT as u32).be32(2, family as u32);
                d.be32(3, address.number()).be32(5, port.number());
            }
            Expr::Masquerade => {}
            Expr::Immediate { value: constant, to } => {
                d.be32(1, to.number());
                value(d, 2, constant);
            }
            Expr::Verdict(verdict) => {
                d.be32(1, libc::NFT_REG_VERDICT as u32);
                d.nest(2, |v| verdict.encode(v));
            }
        }
    }
}

/// What a rule with these expressions does with every packet: accept it or drop it (reject it, too). `None` where it
/// depends on the packet, or the packet goes on.
pub(super) fn fate(expressions: &[u8]) -> Option<Verdict> {
    for (_, expression) in wire::attributes(expressions) {
        let name = wire::find(expression, EXPR_NAME).map(wire::get_str)?;
        let data = wire::find(expression, EXPR_DATA).unwrap_or_default();
        match name.as_str() {
            // These watch a packet and let it go on.
            "counter" | "log" => {}
            "reject" => return Some(Verdict::Drop),
            // iptables' own: the name of the target is the first attribute.
            "target" => return (wire::find(data, 1).map(wire::get_str)? == "REJECT").then_some(Verdict::Drop),
            "immediate" => {
                let verdict = wire::find(data, 2).and_then(|d| wire::find(d, 2))?;
                return match wire::find(verdict, 1).and_then(wire::get_be32)? {
                    0 => Some(Verdict::Drop),
                    1 => Some(Verdict::Accept),
                    _ => None,
                };
            }
            _ => return None,
        }
    }
    None
}

fn value(d: &mut Body<'_>, attribute: u16, bytes: &[u8]) {
    d.nest(attribute, |v| {
        v.attr(1, bytes);
    });
}

#[cfg(test)]
mod tests {
    use super::super::Batch;
    use super::*;

    fn encoded(fill: impl FnOnce(&mut Body<'_>)) -> Vec<u8> {
        let mut batch = Batch::new();
        batch.message(0, 0, fill);
        wire::messages(batch.bytes()).next().map(|m| m.body.to_vec()).unwrap_or_default()
    }

    fn named(list: &mut Body<'_>, name: &str, data: impl FnOnce(&mut Body<'_>)) {
        list.nest(LIST_ELEMENT, |e| {
            e.str(EXPR_NAME, name).nest(EXPR_DATA, data);
        });
    }

    #[test]
    fn a_rules_fate_is_that_of_every_packet_or_none() {
        let rule = |list: &[Expr]| fate(&encoded(|m| list.iter().for_each(|e| e.encode(m))));
        assert_eq!(rule(&[Expr::Verdict(Verdict::Drop)]), Some(Verdict::Drop));
        assert_eq!(rule(&[Expr::Verdict(Verdict::Accept)]), Some(Verdict::Accept));
        assert_eq!(rule(&[Expr::Verdict(Verdict::Jump("x".into()))]), None);
        let some = Expr::Meta { key: MetaKey::InputName, to: Reg(0) };
        assert_eq!(rule(&[some, Expr::Verdict(Verdict::Drop)]), None, "depends on the packet");
        let target = |name: &str| {
            fate(&encoded(|m| {
                named(m, "counter", |_| {});
                named(m, "target", |d| {
                    d.str(1, name);
                });
            }))
        };
        assert_eq!(target("REJECT"), Some(Verdict::Drop), "iptables -A FORWARD -j REJECT");
        assert_eq!(target("LOG"), None);
        assert_eq!(fate(&encoded(|m| named(m, "reject", |_| {}))), Some(Verdict::Drop));
        assert_eq!(fate(&encoded(|m| named(m, "counter", |_| {}))), None);
        assert_eq!(fate(&[9, 0, 1]), None, "malformed");
    }
}
