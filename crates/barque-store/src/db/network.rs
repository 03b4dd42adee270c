//! Networks and endpoints. Uniqueness of an address within its network is a constraint of the table.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use barque_model::{Error, Id, Result, Timestamp};
use rusqlite::{OptionalExtension, Row, params};

use super::column::{col, get};
use super::{Read, Tx};
use crate::error::{self, Violation};

/// A network. `definition` is the engine's JSON, opaque here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    pub id: Id,
    pub name: String,
    pub driver: String,
    pub created_at: Timestamp,
    pub definition: String,
}

/// An Ethernet address, printed as `02:42:ac:11:00:02`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MacAddr(pub [u8; 6]);

/// A container's place in a network. The addresses are reserved as long as the row holds them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub container: Id,
    pub network: Id,
    pub ip4: Option<Ipv4Addr>,
    pub ip6: Option<Ipv6Addr>,
    pub mac: Option<MacAddr>,
    /// The engine's JSON (aliases, driver options, …), opaque here.
    pub definition: String,
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl FromStr for MacAddr {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad = || Error::invalid(format!("invalid MAC address: {text}"));
        let mut out = [0u8; 6];
        let mut parts = text.split([':', '-']);
        for byte in &mut out {
            let part = parts.next().filter(|p| p.len() == 2).ok_or_else(bad)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| bad())?;
        }
        if parts.next().is_some() { Err(bad()) } else { Ok(MacAddr(out)) }
    }
}

fn network_row(row: &Row<'_>) -> rusqlite::Result<Network> {
    Ok(Network {
        id: get(row, 0)?,
        name: row.get(1)?,
        driver: row.get(2)?,
        created_at: get(row, 3)?,
        definition: row.get(4)?,
    })
}

fn parse<T: FromStr>(text: Option<String>) -> Option<T> {
    text.and_then(|t| t.parse().ok())
}

fn endpoint_row(row: &Row<'_>) -> rusqlite::Result<Endpoint> {
    Ok(Endpoint {
        container: get(row, 0)?,
        network: get(row, 1)?,
        ip4: parse(row.get(2)?),
        ip6: parse(row.get(3)?),
        mac: parse(row.get(4)?),
        definition: row.get(5)?,
    })
}

const NETWORK: &str = "id, name, driver, created_at, definition";
const ENDPOINT: &str = "container, network, ip4, ip6, mac, definition";

impl Read<'_> {
    pub fn network(&self, id: &Id) -> Result<Option<Network>> {
        let sql = format!("SELECT {NETWORK} FROM network WHERE id = ?");
        let mut query = self.conn.prepare_cached(&sql).map_err(error::db)?;
        query.query_row([col(*id)], network_row).optional().map_err(error::db)
    }

    pub fn network_by_name(&self, name: &str) -> Result<Option<Network>> {
        let sql = format!("SELECT {NETWORK} FROM network WHERE name = ?");
        let mut query = self.conn.prepare_cached(&sql).map_err(error::db)?;
        query.query_row([name], network_row).optional().map_err(error::db)
    }

    /// All networks, the oldest first.
    pub fn networks(&self) -> Result<Vec<Network>> {
        let sql = format!("SELECT {NETWORK} FROM network ORDER BY created_at, name");
        let mut query = self.conn.prepare_cached(&sql).map_err(error::db)?;
        let rows = query.query_map([], network_row).map_err(error::db)?;
        rows.collect::<Result<_, _>>().map_err(error::db)
    }

    /// Resolves a full id, a name, or a unique prefix of an id.
    ///
    /// Errors: NotFound `network X not found`; InvalidArgument if several ids have the prefix.
    pub fn network_find(&self, text: &str) -> Result<Network> {
        if let Ok(id) = text.parse::<Id>()
            && let Some(found) = self.network(&id)?
        {
            return Ok(found);
        }
        if let Some(found) = self.network_by_name(text)? {
            return Ok(found);
        }
        let not_found = || Error::not_found(format!("network {text} not found"));
        match self.ids_with_prefix("network", text)?.as_slice() {
            [id] => self.network(id)?.ok_or_else(not_found),
            [] => Err(not_found()),
            _ => Err(Error::invalid(format!("network {text} is ambiguous (2 matches found based on ID prefix)"))),
        }
    }

    fn endpoints_where(&self, condition: &'static str, id: &Id) -> Result<Vec<Endpoint>> {
        let sql = format!("SELECT {ENDPOINT} FROM endpoint WHERE {condition} = ? ORDER BY container, network");
        let mut query = self.conn.prepare_cached(&sql).map_err(error::db)?;
        let rows = query.query_map([col(*id)], endpoint_row).map_err(error::db)?;
        rows.collect::<Result<_, _>>().map_err(error::db)
    }

    pub fn endpoints_of_container(&self, container: &Id) -> Result<Vec<Endpoint>> {
        self.endpoints_where("container", container)
    }

    pub fn endpoints_of_network(&self, network: &Id) -> Result<Vec<Endpoint>> {
        self.endpoints_where("network", network)
    }

    /// Every endpoint of every container.
    pub fn endpoints(&self) -> Result<Vec<Endpoint>> {
        let sql = format!("SELECT {ENDPOINT} FROM endpoint ORDER BY container, network");
        let mut query = self.conn.prepare_cached(&sql).map_err(error::db)?;
        let rows = query.query_map([], endpoint_row).map_err(error::db)?;
        rows.collect::<Result<_, _>>().map_err(error::db)
    }

    pub fn endpoint(&self, container: &Id, network: &Id) -> Result<Option<Endpoint>> {
        let sql = format!("SELECT {ENDPOINT} FROM endpoint WHERE container = ? AND network = ?");
        let mut query = self.conn.prepare_cached(&sql).map_err(error::db)?;
        query.query_row([col(*container), col(*network)], endpoint_row).optional().map_err(error::db)
    }

    /// The addresses that endpoints of `network` hold, for the allocator to avoid.
    pub fn addresses_in_use(&self, network: &Id) -> Result<Vec<IpAddr>> {
        let endpoints = self.endpoints_of_network(network)?;
        let both = |e: &Endpoint| [e.ip4.map(IpAddr::V4), e.ip6.map(IpAddr::V6)];
        Ok(endpoints.iter().flat_map(both).flatten().collect())
    }
}

impl Tx<'_> {
    /// Errors: Conflict `network with name X already exists`.
    pub fn network_insert(&self, n: &Network) -> Result<()> {
        let sql = format!("INSERT INTO network ({NETWORK}) VALUES (?, ?, ?, ?, ?)");
        let mut query = self.conn.prepare_cached(&sql).map_err(error::db)?;
        query.execute(params![col(n.id), n.name, n.driver, col(n.created_at), n.definition]).map(|_| ()).map_err(|e| {
            match error::violation(&e) {
                Some(Violation::Taken) => {
                    Error::conflict(format!("network with name {} already exists", n.name)).with_source(e)
                }
                _ => error::db(e),
            }
        })
    }

    pub fn network_set_definition(&self, id: &Id, definition: &str) -> Result<()> {
        let mut query =
            self.conn.prepare_cached("UPDATE network SET definition = ? WHERE id = ?").map_err(error::db)?;
        match query.execute(params![definition, col(*id)]).map_err(error::db)? {
            0 => Err(Error::not_found(format!("network {id} not found"))),
            _ => Ok(()),
        }
    }

    /// Errors: Conflict if containers have endpoints in it; the message names them.
    pub fn network_delete(&self, id: &Id) -> Result<()> {
        let Some(network) = self.network(id)? else { return Err(Error::not_found(format!("network {id} not found"))) };
        let mut query = self.conn.prepare_cached("DELETE FROM network WHERE id = ?").map_err(error::db)?;
        match query.execute([col(*id)]) {
            Ok(_) => Ok(()),
            Err(e) if error::violation(&e) == Some(Violation::Referenced) => {
                Err(self.network_in_use(&network)?.with_source(e))
            }
            Err(e) => Err(error::db(e)),
        }
    }

    fn network_in_use(&self, network: &Network) -> Result<Error> {
        let mut holders = Vec::new();
        for endpoint in self.endpoints_of_network(&network.id)? {
            let name = self.container(&endpoint.container)?.map(|c| c.name).unwrap_or_default();
            holders.push(format!("name:\"{name}\" id:\"{}\"", endpoint.container.short()));
        }
        Ok(Error::conflict(format!(
            "error while removing network: network {} has active endpoints ({})",
            network.name,
            holders.join(", ")
        ))
        .with_hint("disconnect or remove these containers first"))
    }

    /// Inserts the endpoint, or replaces the one the container has in that network.
    ///
    /// Errors: Conflict `Address already in use` naming the holder; NotFound if the network is gone.
    pub fn endpoint_put(&self, e: &Endpoint) -> Result<()> {
        let sql = format!(
            "INSERT INTO endpoint ({ENDPOINT}) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (container, network) DO UPDATE \
             SET ip4 = excluded.ip4, ip6 = excluded.ip6, mac = excluded.mac, definition = excluded.definition"
        );
        let mut query = self.conn.prepare_cached(&sql).map_err(error::db)?;
        let (ip4, ip6, mac) = (text(&e.ip4), text(&e.ip6), text(&e.mac));
        let result = query.execute(params![col(e.container), col(e.network), ip4, ip6, mac, e.definition]);
        result.map(|_| ()).map_err(|source| match error::violation(&source) {
            Some(Violation::Taken) => self.address_taken(e).with_source(source),
            Some(Violation::Referenced) => {
                Error::not_found(format!("network {} or container {} not found", e.network, e.container))
                    .with_source(source)
            }
            None => error::db(source),
        })
    }

    fn address_taken(&self, wanted: &Endpoint) -> Error {
        let same = |o: &Endpoint| {
            (wanted.ip4.is_some() && o.ip4 == wanted.ip4) || (wanted.ip6.is_some() && o.ip6 == wanted.ip6)
        };
        let others = self.endpoints_of_network(&wanted.network).unwrap_or_default();
        let holder = others.iter().find(|o| o.container != wanted.container && same(o));
        let name = holder.and_then(|o| self.container(&o.container).ok().flatten()).map(|c| c.name);
        let error = Error::conflict("Address already in use");
        match name {
            Some(name) => error.with_hint(format!("container {name} holds this address")),
            None => error,
        }
    }

    pub fn endpoint_delete(&self, container: &Id, network: &Id) -> Result<()> {
        let sql = "DELETE FROM endpoint WHERE container = ? AND network = ?";
        let mut query = self.conn.prepare_cached(sql).map_err(error::db)?;
        query.execute([col(*container), col(*network)]).map(|_| ()).map_err(error::db)
    }
}

fn text<T: ToString>(value: &Option<T>) -> Option<String> {
    value.as_ref().map(T::to_string)
}
