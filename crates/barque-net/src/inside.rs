//! What is done in, and read from, the namespace of a running container.

use barque_model::Result;

use crate::apply::links::{Existing, refused, run};
use crate::endpoint::InterfaceStats;
use crate::fabric::{Gateway, Hop};
use crate::host::within;
use crate::netns::NetNs;
use crate::plan::links::{LinkOp, default_of};

/// Replaces the default routes.
pub(crate) fn set_gateway(ns: &NetNs, gateway: &Gateway) -> Result<()> {
    const MAIN_TABLE: u32 = 254;
    ns.enter(|inside| {
        let links = inside.socket.links().map_err(|e| refused("list links", e))?;
        let routes = inside.socket.routes().map_err(|e| refused("list routes", e))?;
        let name = |index| links.iter().find(|l| l.index == index).map(|l| l.name.clone());
        let wanted = [(false, &gateway.v4), (true, &gateway.v6)];
        let mut ops = Vec::new();
        for route in routes.iter().filter(|r| r.to.prefix_len() == 0 && r.table == MAIN_TABLE) {
            let Some(link) = route.link.and_then(name) else { continue };
            let hop = Hop { ifname: link, via: route.via };
            let keep = wanted.iter().any(|(v6, w)| *v6 == route.to.addr().is_ipv6() && w.as_ref() == Some(&hop));
            if !keep {
                ops.push(LinkOp::DeleteRoute { to: route.to, via: hop.via, link: hop.ifname });
            }
        }
        for (v6, hop) in wanted {
            let Some(hop) = hop else { continue };
            ops.push(LinkOp::SetRoute { to: default_of(v6), via: hop.via, link: hop.ifname.clone() });
        }
        let index_of = |name: &str| links.iter().find(|l| l.name == name).map(|l| l.index);
        run(&ops, &mut within(inside.socket, &index_of, inside.ns), Existing::Refuse)
    })
}

/// Reads the counters of all interfaces but loopback.
pub(crate) fn stats(ns: &NetNs) -> Result<Vec<InterfaceStats>> {
    ns.enter(|inside| {
        let links = inside.socket.links().map_err(|e| refused("list links", e))?;
        let one = |l: barque_sys::netlink::route::LinkInfo| InterfaceStats {
            ifname: l.name,
            rx_bytes: l.stats.rx_bytes,
            rx_packets: l.stats.rx_packets,
            rx_errors: l.stats.rx_errors,
            rx_dropped: l.stats.rx_dropped,
            tx_bytes: l.stats.tx_bytes,
            tx_packets: l.stats.tx_packets,
            tx_errors: l.stats.tx_errors,
            tx_dropped: l.stats.tx_dropped,
        };
        Ok(links.into_iter().filter(|l| !l.loopback).map(one).collect())
    })
}
