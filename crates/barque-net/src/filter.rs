//! The engine's table: what should be in it, and the changes that get it there.
//!
//! The table is a function of this value. A change that meets something unexpected (the table was
//! flushed, an element is missing) is answered by writing the table anew, in one transaction.

use std::collections::BTreeMap;

use barque_model::{ErrorKind, Id, Result};
use barque_sys::netlink::nft::{NftSocket, Transaction};

use crate::apply::rules as apply;
use crate::plan::rules::{Element, NetworkRules};

pub(crate) struct Filter {
    table: String,
    /// `None`: the engine is not to touch the packet filter.
    socket: Option<NftSocket>,
    /// This process has written the table.
    present: bool,
    /// Whether connections to 127.0.0.1 are translated.
    loopback: bool,
    networks: BTreeMap<Id, NetworkRules>,
    /// Elements by endpoint.
    ports: BTreeMap<Id, Vec<Element>>,
}

impl Filter {
    pub(crate) fn new(table: String, socket: Option<NftSocket>) -> Filter {
        Filter { table, socket, present: false, loopback: true, networks: BTreeMap::new(), ports: BTreeMap::new() }
    }

    pub(crate) fn is_enabled(&self) -> bool {
        self.socket.is_some()
    }

    /// Stops translating connections to 127.0.0.1, which would not come back.
    pub(crate) fn disable_loopback(&mut self) {
        self.present &= !self.loopback;
        self.loopback = false;
    }

    /// Whether the network's rules are written, and nobody deleted the table since.
    pub(crate) fn has_network(&mut self, id: &Id) -> Result<bool> {
        if !self.is_enabled() {
            return Ok(true);
        }
        Ok(self.present && self.networks.contains_key(id) && self.is_written()?)
    }

    pub(crate) fn add_network(&mut self, id: Id, rules: NetworkRules) -> Result<()> {
        if self.present && self.networks.get(&id) == Some(&rules) && self.is_written()? {
            return Ok(());
        }
        let before = self.networks.insert(id, rules.clone());
        let change = match &before {
            // Rules that differ may leave chains behind; the whole table is written instead.
            Some(old) if *old != rules => None,
            _ => Some(apply::add_network(&self.table, &rules)),
        };
        let done = self.change(change, "add a network");
        if done.is_err() {
            restore(&mut self.networks, id, before);
        }
        done
    }

    pub(crate) fn remove_network(&mut self, id: &Id) -> Result<()> {
        let Some(rules) = self.networks.remove(id) else { return Ok(()) };
        let change = apply::remove_network(&self.table, &rules);
        let done = self.change(Some(change), "remove a network");
        if done.is_err() {
            self.networks.insert(*id, rules);
        }
        done
    }

    /// Sets the elements of an endpoint, in place of those it has.
    pub(crate) fn set_ports(&mut self, endpoint: Id, elements: Vec<Element>) -> Result<()> {
        let before = if elements.is_empty() {
            self.ports.remove(&endpoint)
        } else {
            self.ports.insert(endpoint, elements.clone())
        };
        let change = match &before {
            None if elements.is_empty() => return Ok(()),
            None => Some(apply::add(&self.table, &elements)),
            Some(old) if elements.is_empty() => Some(apply::delete(&self.table, old)),
            Some(_) => None,
        };
        let done = self.change(change, "open or close a port");
        if done.is_err() {
            restore(&mut self.ports, endpoint, before);
        }
        done
    }

    /// Puts networks and ports in place without writing them; [`Filter::sync`] does.
    pub(crate) fn assume(&mut self, networks: BTreeMap<Id, NetworkRules>, ports: BTreeMap<Id, Vec<Element>>) {
        (self.networks, self.ports) = (networks, ports);
        self.present = false;
    }

    /// Writes the table anew.
    pub(crate) fn sync(&mut self) -> Result<()> {
        let Some(socket) = &mut self.socket else { return Ok(()) };
        let elements: Vec<Element> = self.ports.values().flatten().cloned().collect();
        let all = apply::replace_all(&self.table, self.loopback, self.networks.values(), &elements);
        apply::commit(socket, all, "write the engine's table")?;
        self.present = true;
        Ok(())
    }

    /// Writes the table anew if it was deleted behind our back; tells whether it was.
    pub(crate) fn repair(&mut self) -> Result<bool> {
        if !self.present || self.is_written()? {
            return Ok(false);
        }
        self.sync()?;
        Ok(true)
    }

    /// Deletes the table. What is in it is forgotten.
    pub(crate) fn remove_table(&mut self) -> Result<()> {
        (self.networks, self.ports) = (BTreeMap::new(), BTreeMap::new());
        self.present = false;
        let Some(socket) = &mut self.socket else { return Ok(()) };
        let mut transaction = Transaction::new(self.table.as_str());
        transaction.add_table();
        transaction.delete_table();
        apply::commit(socket, transaction, "remove the engine's table")
    }

    fn is_written(&mut self) -> Result<bool> {
        let Some(socket) = &mut self.socket else { return Ok(true) };
        socket.has_table(&self.table).map_err(|e| crate::apply::links::refused("look for the engine's table", e))
    }

    /// Commits a change, or writes everything anew where there is none or it does not fit.
    fn change(&mut self, change: Option<Transaction>, what: &str) -> Result<()> {
        let (Some(socket), Some(change), true) = (&mut self.socket, change, self.present) else { return self.sync() };
        match apply::commit(socket, change, what) {
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::Conflict) => self.sync(),
            other => other,
        }
    }
}

fn restore<T>(map: &mut BTreeMap<Id, T>, key: Id, before: Option<T>) {
    match before {
        Some(value) => map.insert(key, value),
        None => map.remove(&key),
    };
}
