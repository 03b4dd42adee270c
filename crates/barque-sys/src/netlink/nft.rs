//! The packet filter (nf_tables, include/uapi/linux/netfilter/nf_tables.h): transactions on one
//! table of family `inet`, and a view of everybody's chains.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use libc::{
    NFNL_MSG_BATCH_BEGIN, NFNL_MSG_BATCH_END, NFNL_SUBSYS_NFTABLES, NFPROTO_INET, NFT_MSG_DELCHAIN, NFT_MSG_DELRULE,
    NFT_MSG_DELSETELEM, NFT_MSG_DELTABLE, NFT_MSG_GETCHAIN, NFT_MSG_GETRULE, NFT_MSG_GETTABLE, NFT_MSG_NEWCHAIN,
    NFT_MSG_NEWRULE, NFT_MSG_NEWSET, NFT_MSG_NEWSETELEM, NFT_MSG_NEWTABLE,
};

use super::wire::{self, APPEND, Body, CREATE, DUMP};
use super::{Batch, Reply, Result, Socket};

use super::nft_expr::fate;
pub use super::nft_expr::{CmpOp, CtKey, Expr, MetaKey, NatFamily, PayloadBase, Reg, Verdict};

const TABLE_NAME: u16 = 1;
const CHAIN_TABLE: u16 = 1;
const CHAIN_NAME: u16 = 3;
const CHAIN_HOOK: u16 = 4;
const CHAIN_POLICY: u16 = 5;
const CHAIN_TYPE: u16 = 7;
const HOOK_NUMBER: u16 = 1;
const HOOK_PRIORITY: u16 = 2;
const RULE_TABLE: u16 = 1;
const RULE_CHAIN: u16 = 2;
const RULE_EXPRESSIONS: u16 = 4;
const SET_TABLE: u16 = 1;
const SET_NAME: u16 = 2;
const SET_FLAGS: u16 = 3;
const SET_KEY_TYPE: u16 = 4;
const SET_KEY_LEN: u16 = 5;
const SET_DATA_TYPE: u16 = 6;
const SET_DATA_LEN: u16 = 7;
const SET_ID: u16 = 10;
const SET_USERDATA: u16 = 13;
/// nft's own note (libnftnl's udata.h) that the key is in host order; without it nft lists
/// interface names as empty strings.
const KEY_IN_HOST_ORDER: [u8; 6] = [0, 4, 1, 0, 0, 0];
const SET_FLAG_MAP: u32 = 8;
const ELEM_KEY: u16 = 1;
const ELEM_DATA: u16 = 2;
const ELEM_LIST_TABLE: u16 = 1;
const ELEM_LIST_SET: u16 = 2;
const ELEM_LIST_ELEMENTS: u16 = 3;
/// Elements of one message, whose list must stay under 64 KiB.
const ELEMENTS_PER_MESSAGE: usize = 400;
const DATA_TYPE_VERDICT: u32 = 0xffff_ff00;
/// Multicast group of ruleset changes (NFNLGRP_NFTABLES).
const GROUP_NFTABLES: u32 = 1 << 6;

fn kind(message: libc::c_int) -> u16 {
    ((NFNL_SUBSYS_NFTABLES as u16) << 8) | message as u16
}

fn genmsg(family: u8, resource: u16) -> [u8; 4] {
    let [high, low] = resource.to_be_bytes();
    [family, 0, high, low]
}

/// A base chain's place in the packet's way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hook {
    /// `filter` or `nat`.
    pub kind: &'static str,
    /// NF_INET_PRE_ROUTING and so on.
    pub number: u32,
    pub priority: i32,
}

/// A set, or a map if `data` is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetSpec {
    pub name: String,
    /// nft's number of the key's type (concatenations: 6 bits each), for those who list the set.
    pub key_type: u32,
    /// Bytes, each part of a concatenation padded to four.
    pub key_len: u32,
    /// Whether nft takes the key to be in host order (interface names) or network order (addresses, ports).
    pub host_order: bool,
    pub data: Option<SetData>,
}

/// What a map maps to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetData {
    Verdict,
    /// nft's number of the type, bytes.
    Value(u32, u32),
}

/// An element of a set or map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Element {
    pub key: Vec<u8>,
    pub data: Option<ElementData>,
}

/// The value of a map's element.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ElementData {
    Verdict(Verdict),
    Value(Vec<u8>),
}

/// Changes to one table that take effect together or not at all.
#[derive(Debug)]
pub struct Transaction {
    table: String,
    batch: Batch,
    sets: u32,
}

impl Transaction {
    /// An empty transaction on the table `table` of family inet.
    pub fn new(table: impl Into<String>) -> Transaction {
        let mut batch = Batch::new();
        batch.message(NFNL_MSG_BATCH_BEGIN as u16, 0, |m| {
            m.raw(&genmsg(0, NFNL_SUBSYS_NFTABLES as u16));
        });
        Transaction { table: table.into(), batch, sets: 0 }
    }

    /// Whether nothing was asked for yet.
    pub fn is_empty(&self) -> bool {
        self.batch.len() == 1
    }

    fn add(&mut self, message: libc::c_int, flags: u16, fill: impl FnOnce(&mut Body<'_>, &str)) {
        let table = &self.table;
        self.batch.message(kind(message), flags, |m| {
            m.raw(&genmsg(NFPROTO_INET as u8, 0));
            fill(m, table);
        });
    }

    /// Makes the table; no error if it is there.
    pub fn add_table(&mut self) {
        self.add(NFT_MSG_NEWTABLE, CREATE, |m, table| {
            m.str(TABLE_NAME, table);
        });
    }

    /// Deletes the table with everything in it. Refused if it is not there.
    pub fn delete_table(&mut self) {
        self.add(NFT_MSG_DELTABLE, 0, |m, table| {
            m.str(TABLE_NAME, table);
        });
    }

    /// Makes a chain, with policy accept if it is a base chain.
    pub fn add_chain(&mut self, name: &str, hook: Option<Hook>) {
        self.add(NFT_MSG_NEWCHAIN, CREATE, |m, table| {
            m.str(CHAIN_TABLE, table).str(CHAIN_NAME, name);
            if let Some(hook) = hook {
                m.nest(CHAIN_HOOK, |h| {
                    h.be32(HOOK_NUMBER, hook.number).be32(HOOK_PRIORITY, hook.priority as u32);
                });
                m.be32(CHAIN_POLICY, 1).str(CHAIN_TYPE, hook.kind);
            }
        });
    }

    /// Removes all rules of a chain.
    pub fn flush_chain(&mut self, name: &str) {
        self.add(NFT_MSG_DELRULE, 0, |m, table| {
            m.str(RULE_TABLE, table).str(RULE_CHAIN, name);
        });
    }

    /// Deletes a chain without rules to which nothing jumps.
    pub fn delete_chain(&mut self, name: &str) {
        self.add(NFT_MSG_DELCHAIN, 0, |m, table| {
            m.str(CHAIN_TABLE, table).str(CHAIN_NAME, name);
        });
    }

    /// Appends a rule to a chain.
    pub fn add_rule(&mut self, chain: &str, expressions: &[Expr]) {
        self.add(NFT_MSG_NEWRULE, CREATE | APPEND, |m, table| {
            m.str(RULE_TABLE, table).str(RULE_CHAIN, chain);
            m.nest(RULE_EXPRESSIONS, |list| expressions.iter().for_each(|e| e.encode(list)));
        });
    }

    /// Makes a set or map; no error if it is there and alike.
    pub fn add_set(&mut self, set: &SetSpec) {
        self.sets += 1;
        let id = self.sets;
        self.add(NFT_MSG_NEWSET, CREATE, |m, table| {
            m.str(SET_TABLE, table).str(SET_NAME, &set.name);
            m.be32(SET_FLAGS, if set.data.is_some() { SET_FLAG_MAP } else { 0 });
            m.be32(SET_KEY_TYPE, set.key_type).be32(SET_KEY_LEN, set.key_len);
            match set.data {
                Some(SetData::Verdict) => m.be32(SET_DATA_TYPE, DATA_TYPE_VERDICT).be32(SET_DATA_LEN, 0),
                Some(SetData::Value(kind, length)) => m.be32(SET_DATA_TYPE, kind).be32(SET_DATA_LEN, length),
                None => m,
            };
            m.be32(SET_ID, id);
            if set.host_order {
                m.attr(SET_USERDATA, &KEY_IN_HOST_ORDER);
            }
        });
    }

    /// Adds elements. One that is there already is no error unless it maps elsewhere (`EEXIST`).
    pub fn add_elements(&mut self, set: &str, elements: &[Element]) {
        for chunk in elements.chunks(ELEMENTS_PER_MESSAGE) {
            self.add(NFT_MSG_NEWSETELEM, CREATE, |m, table| element_list(m, table, set, chunk));
        }
    }

    /// Deletes elements by key. Refused (`ENOENT`) if one is not there.
    pub fn delete_elements(&mut self, set: &str, elements: &[Element]) {
        for chunk in elements.chunks(ELEMENTS_PER_MESSAGE) {
            self.add(NFT_MSG_DELSETELEM, 0, |m, table| element_list(m, table, set, chunk));
        }
    }
}

fn element_list(m: &mut Body<'_>, table: &str, set: &str, elements: &[Element]) {
    m.str(ELEM_LIST_TABLE, table).str(ELEM_LIST_SET, set);
    m.nest(ELEM_LIST_ELEMENTS, |list| {
        for element in elements {
            list.nest(1, |e| {
                e.nest(ELEM_KEY, |k| {
                    k.attr(1, &element.key);
                });
                match &element.data {
                    Some(ElementData::Value(value)) => {
                        e.nest(ELEM_DATA, |d| {
                            d.attr(1, value);
                        });
                    }
                    Some(ElementData::Verdict(verdict)) => {
                        e.nest(ELEM_DATA, |d| verdict.encode(d));
                    }
                    None => {}
                }
            });
        }
    });
}

/// A chain that sees packets by itself, of any table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseChain {
    /// NFPROTO_INET, NFPROTO_IPV4, …
    pub family: u8,
    pub table: String,
    pub name: String,
    pub kind: String,
    /// NF_INET_FORWARD and so on.
    pub hook: u32,
    pub priority: i32,
    pub policy_drop: bool,
}

/// A socket of the packet filter.
#[derive(Debug)]
pub struct NftSocket(Socket);

impl AsFd for NftSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for NftSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl NftSocket {
    /// Opens a socket in the calling thread's network namespace.
    pub fn open() -> Result<NftSocket> {
        Socket::open(Some(rustix::net::netlink::NETFILTER), 0).map(NftSocket)
    }

    /// Opens a socket that is told of every change of the ruleset ([`NftSocket::next_change`]).
    pub fn monitor() -> Result<NftSocket> {
        Socket::open(Some(rustix::net::netlink::NETFILTER), GROUP_NFTABLES).map(NftSocket)
    }

    /// Carries out a transaction.
    ///
    /// Errors: the first refused message; the index counts from the transaction's first request.
    pub fn commit(&mut self, mut transaction: Transaction) -> Result<()> {
        if transaction.is_empty() {
            return Ok(());
        }
        let last = transaction.batch.len() - 1;
        transaction.batch.request_ack(last);
        transaction.batch.message(NFNL_MSG_BATCH_END as u16, 0, |m| {
            m.raw(&genmsg(0, NFNL_SUBSYS_NFTABLES as u16));
        });
        self.0.transact(&mut transaction.batch).map_err(|mut e| {
            e.index = e.index.and_then(|i| i.checked_sub(1));
            e
        })
    }

    /// Whether the table `name` of family inet exists.
    pub fn has_table(&mut self, name: &str) -> Result<bool> {
        let mut batch = Batch::new();
        batch.message(kind(NFT_MSG_GETTABLE), 0, |m| {
            m.raw(&genmsg(NFPROTO_INET as u8, 0)).str(TABLE_NAME, name);
        });
        match self.0.exchange(&mut batch, &mut |_, _| {}) {
            Ok(()) => Ok(true),
            Err(e) if e.errno == rustix::io::Errno::NOENT => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// The base chains of all tables and families.
    pub fn base_chains(&mut self) -> Result<Vec<BaseChain>> {
        let mut batch = Batch::new();
        batch.message(kind(NFT_MSG_GETCHAIN), DUMP, |m| {
            m.raw(&genmsg(0, 0));
        });
        let mut chains = Vec::new();
        self.0.dump(&mut batch, |reply| match reply {
            Reply::Start => chains.clear(),
            Reply::Message(k, body) if k == kind(NFT_MSG_NEWCHAIN) => chains.extend(base_chain(body)),
            Reply::Message(..) => {}
        })?;
        Ok(chains)
    }

    /// Whether a rule of the chain drops or rejects each packet that comes to it: no rule before lets all pass. What
    /// the chain jumps to is not looked at.
    pub fn drops_the_rest(&mut self, chain: &BaseChain) -> Result<bool> {
        let mut batch = Batch::new();
        batch.message(kind(NFT_MSG_GETRULE), DUMP, |m| {
            m.raw(&genmsg(chain.family, 0)).str(RULE_TABLE, &chain.table).str(RULE_CHAIN, &chain.name);
        });
        let mut end = None;
        self.0.dump(&mut batch, |reply| match reply {
            Reply::Start => end = None,
            Reply::Message(k, body) if k == kind(NFT_MSG_NEWRULE) && end.is_none() => {
                let attrs = body.get(4..).unwrap_or_default();
                // Old kernels give the rules of all chains.
                let is = |what, name: &str| wire::find(attrs, what).is_some_and(|v| wire::get_str(v) == name);
                if is(RULE_TABLE, &chain.table) && is(RULE_CHAIN, &chain.name) {
                    end = wire::find(attrs, RULE_EXPRESSIONS).and_then(fate);
                }
            }
            Reply::Message(..) => {}
        })?;
        Ok(end == Some(Verdict::Drop))
    }

    /// Waits for the next change and tells whether the table `name` of family inet was deleted in it.
    ///
    /// Errors: `ENOBUFS` when changes were missed.
    pub fn next_change(&mut self, name: &str) -> Result<bool> {
        let mut deleted = false;
        self.0.notifications(|k, body| {
            let ours = body.first() == Some(&(NFPROTO_INET as u8))
                && wire::find(body.get(4..).unwrap_or_default(), TABLE_NAME).is_some_and(|t| wire::get_str(t) == name);
            deleted |= k == kind(NFT_MSG_DELTABLE) && ours;
        })?;
        Ok(deleted)
    }
}

fn base_chain(body: &[u8]) -> Option<BaseChain> {
    let attrs = body.get(4..)?;
    let hook = wire::find(attrs, CHAIN_HOOK)?;
    Some(BaseChain {
        family: body[0],
        table: wire::find(attrs, CHAIN_TABLE).map(wire::get_str)?,
        name: wire::find(attrs, CHAIN_NAME).map(wire::get_str)?,
        kind: wire::find(attrs, CHAIN_TYPE).map(wire::get_str).unwrap_or_default(),
        hook: wire::find(hook, HOOK_NUMBER).and_then(wire::get_be32)?,
        priority: wire::find(hook, HOOK_PRIORITY).and_then(wire::get_be32)? as i32,
        policy_drop: wire::find(attrs, CHAIN_POLICY).and_then(wire::get_be32) == Some(0),
    })
}
