//! Tracked UDP flows around a change of published ports.
//!
//! A UDP client that keeps sending keeps its tracked flow, and with it the decision made for the
//! first packet: not to translate (before the port was published), or to translate to a
//! container that is gone. TCP connections end by themselves.

use std::net::IpAddr;

use barque_sys::netlink::conntrack::{ConntrackSocket, Flow};

use crate::ports::{PortBinding, Proto, Target};

/// Forgets flows to ports just opened that do not lead to `target`.
pub(crate) fn forget_unpublished(bindings: &[PortBinding], target: &Target) {
    let leads_there = |flow: &Flow| {
        let source = flow.reply.source;
        Some(source) == target.v4.map(IpAddr::V4) || Some(source) == target.v6.map(IpAddr::V6)
    };
    // Flows through this machine to the same port of others are nobody's business.
    let to_us = |flow: &Flow, b: &PortBinding| {
        flow.original.destination == b.host_ip || (b.host_ip.is_unspecified() && is_own(flow))
    };
    forget(bindings, |flow, b| to_us(flow, b) && !leads_there(flow));
}

/// Forgets translated flows to ports just closed.
pub(crate) fn forget_published(bindings: &[PortBinding]) {
    forget(bindings, |flow, b| {
        flow.reply.source_port == b.container_port && flow.reply.source != flow.original.destination
    });
}

/// Not forwarded elsewhere: the answer comes from the very address that was asked.
fn is_own(flow: &Flow) -> bool {
    flow.reply.source != flow.original.destination || is_local(flow.original.destination)
}

/// Whether the machine has the address: only its own can be bound.
fn is_local(ip: IpAddr) -> bool {
    std::net::UdpSocket::bind((ip, 0)).is_ok()
}

fn forget(bindings: &[PortBinding], stale: impl Fn(&Flow, &PortBinding) -> bool) {
    let mut socket = None;
    for binding in bindings.iter().filter(|b| b.proto == Proto::Udp) {
        if socket.is_none() {
            socket = ConntrackSocket::open().ok();
        }
        // Without ctnetlink a stale flow ends by its timeout, 30 to 120 seconds of silence.
        let Some(socket) = &mut socket else { return };
        let flows = socket.flows(binding.host_ip.is_ipv6(), binding.proto.number(), binding.host_port);
        let flows: Vec<Flow> = flows.unwrap_or_default().into_iter().filter(|f| stale(f, binding)).collect();
        if let Err(error) = socket.forget(&flows) {
            tracing::debug!(%error, "cannot forget UDP flows of port {}", binding.host_port);
        }
    }
}
