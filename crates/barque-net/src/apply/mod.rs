//! Carries plans out over netlink.

pub(crate) mod links;
pub(crate) mod rules;
