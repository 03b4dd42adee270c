//! Devices on their way out. Deleting one waits for grace periods in the kernel, tens of
//! milliseconds that nobody needs to sit through: its addresses and routes go at once, the
//! device itself behind the caller's back.

use std::sync::Mutex;
use std::thread::JoinHandle;

use barque_model::Result;
use barque_sys::netlink::Batch;
use barque_sys::netlink::route::{self, LinkInfo, LinkRef, RouteSocket};
use rustix::io::Errno;

use super::lock;
use crate::apply::links::refused;

/// Deletions under way, by name.
#[derive(Default)]
pub(super) struct Graveyard {
    pending: Mutex<Vec<(String, JoinHandle<()>)>>,
}

impl Graveyard {
    /// Takes a device's addresses away and starts its deletion.
    pub(super) fn bury(&self, socket: &mut RouteSocket, link: &LinkInfo) -> Result<()> {
        let addresses = socket.addresses().map_err(|e| refused("list addresses", e))?;
        let mut batch = Batch::new();
        for held in addresses.iter().filter(|a| a.link == link.index) {
            route::delete_address(&mut batch, link.index, held.address);
        }
        // The device goes anyway, with what is left on it.
        let _ = socket.apply_all(&mut batch);
        let mut own = RouteSocket::open().map_err(|e| refused("open a netlink socket", e))?;
        let index = link.index;
        let work = move || {
            if let Err(error) = delete(&mut own, index) {
                tracing::warn!(error = error.chain(), "a device stays behind");
            }
        };
        match std::thread::Builder::new().name("link-del".into()).stack_size(128 << 10).spawn(work) {
            Ok(thread) => {
                let mut pending = lock(&self.pending);
                pending.retain(|(_, thread)| !thread.is_finished());
                pending.push((link.name.clone(), thread));
                Ok(())
            }
            Err(_) => delete(socket, index),
        }
    }

    /// Waits until the device `name` is gone, or all are.
    pub(super) fn wait(&self, name: Option<&str>) {
        let due: Vec<_> = {
            let mut pending = lock(&self.pending);
            let all = std::mem::take(&mut *pending);
            let (due, rest) = all.into_iter().partition(|(n, _)| name.is_none_or(|name| n == name));
            *pending = rest;
            due
        };
        // A panic has been printed already.
        due.into_iter().for_each(|(_, thread)| drop(thread.join()));
    }
}

impl Drop for Graveyard {
    fn drop(&mut self) {
        self.wait(None);
    }
}

fn delete(socket: &mut RouteSocket, index: u32) -> Result<()> {
    let mut batch = Batch::new();
    route::delete_link(&mut batch, LinkRef::Index(index));
    match socket.apply(&mut batch) {
        Err(e) if e.errno != Errno::NODEV => Err(refused("delete a network's device", e)),
        _ => Ok(()),
    }
}
