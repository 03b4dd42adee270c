//! Which engine has which default bridge. Two that shared one would give out the same addresses.
//!
//! A claim is an abstract socket: its name belongs to the network namespace, and goes with the process.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};

use barque_model::{Error, Result};

use super::{Host, OWN_TABLES, find, lock};

/// How many engines of a machine find a bridge by themselves.
const ENGINES_MAX: usize = 64;

/// The name of an engine's default bridge and what holds it; `None` where the kernel could not tell.
pub(super) type Claim = (String, Option<UnixListener>);

fn address(bridge: &str) -> std::io::Result<SocketAddr> {
    SocketAddr::from_abstract_name(format!("barque/bridge/{bridge}"))
}

/// What a claim came to.
enum Outcome {
    Ours(Option<UnixListener>),
    /// With the process of the other engine, where it can be told.
    Theirs(Option<i32>),
}

fn try_claim(bridge: &str) -> Outcome {
    match address(bridge).and_then(|address| UnixListener::bind_addr(&address)) {
        Ok(socket) => Outcome::Ours(Some(socket)),
        Err(e) if e.kind() == std::io::ErrorKind::AddrInUse => Outcome::Theirs(holder(bridge)),
        // Not to know is no reason to refuse.
        Err(e) => {
            tracing::debug!("cannot claim bridge {bridge}: {e}");
            Outcome::Ours(None)
        }
    }
}

fn holder(bridge: &str) -> Option<i32> {
    let stream = UnixStream::connect_addr(&address(bridge).ok()?).ok()?;
    Some(rustix::net::sockopt::socket_peercred(&stream).ok()?.pid.as_raw_nonzero().get())
}

/// Names of default bridges in order, each with its number.
fn names(base: &str) -> impl Iterator<Item = (usize, String)> + '_ {
    (0..ENGINES_MAX).map(move |n| (n, format!("{base}{n}")))
}

impl Host {
    /// Keeps the default bridge for this engine as long as it lives.
    pub(super) fn claim(&self, bridge: &str) -> Result<()> {
        let mut claim = lock(&self.claim);
        if claim.as_ref().is_some_and(|(name, _)| name == bridge) {
            return Ok(());
        }
        match try_claim(bridge) {
            Outcome::Ours(socket) => *claim = Some((bridge.to_owned(), socket)),
            Outcome::Theirs(pid) => {
                let who = pid.map(|pid| format!(" (process {pid})")).unwrap_or_default();
                return Err(Error::conflict(format!(
                    "another engine on this machine{who} has the bridge {bridge} for its default network"
                ))
                .with_hint(
                    "leave --bridge out, and this engine takes a free one; or give it one of its own: barque daemon \
                     --bridge NAME --bip ADDRESS/PREFIX; or none: --bridge none",
                ));
            }
        }
        Ok(())
    }

    /// Chooses and keeps a default bridge that no other engine has: `kept`, which this one had before, or else the
    /// first of `base` with a number behind it. Gives the number too.
    ///
    /// Errors: [`barque_model::ErrorKind::Unavailable`] where 64 engines have one each.
    pub(crate) fn choose_bridge(&self, base: &str, kept: Option<&str>) -> Result<(usize, String)> {
        let number = |name: &str| name.strip_prefix(base).and_then(|digits| digits.parse::<usize>().ok());
        let kept = kept.and_then(|name| Some((number(name)?, name.to_owned())));
        for (n, name) in kept.into_iter().chain(names(base)) {
            if !self.is_free(&name)? {
                continue;
            }
            if let Outcome::Ours(socket) = try_claim(&name) {
                *lock(&self.claim) = Some((name.clone(), socket));
                return Ok((n, name));
            }
        }
        Err(Error::unavailable(format!("other engines have all bridges from {base}0 to {base}{}", ENGINES_MAX - 1))
            .with_hint("give this engine one of its own: barque daemon --bridge NAME --bip ADDRESS/PREFIX"))
    }

    /// Whether a bridge of this name may be ours: there is none, or it is ours, or one that no engine has made. The
    /// bridge of an engine that does not run now may have running containers.
    fn is_free(&self, name: &str) -> Result<bool> {
        let link = find(&mut self.route(), name)?;
        Ok(link.is_none_or(|link| {
            link.alias == self.names.table || (link.kind == "bridge" && !link.alias.starts_with(OWN_TABLES))
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_tells_who_has_it_and_ends_with_its_socket() {
        let bridge = format!("claim-test-{}", std::process::id());
        let Outcome::Ours(Some(held)) = try_claim(&bridge) else { panic!("free") };
        let Outcome::Theirs(pid) = try_claim(&bridge) else { panic!("taken") };
        assert_eq!(pid, i32::try_from(std::process::id()).ok());
        drop(held);
        assert!(matches!(try_claim(&bridge), Outcome::Ours(Some(_))));
    }
}
