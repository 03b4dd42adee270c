//! Plans: what is to be done, as inert lists that print like `ip` and `nft` commands.
//!
//! [`links`] holds link operations, [`rules`] the packet filter's content; [`network`] and
//! [`endpoint`] turn definitions into them. Nothing here asks the kernel anything: indexes,
//! MTU and names come in as arguments.

pub mod endpoint;
pub mod links;
pub mod network;
pub mod rules;
pub mod terms;

#[cfg(test)]
mod tests;
