//! What commands print: listings by template or table, human units, inspected documents.

pub(crate) mod build;
pub(crate) mod human;
pub(crate) mod inspect;
pub(crate) mod json;
pub(crate) mod listing;
pub(crate) mod live;
pub(crate) mod meter;
pub(crate) mod progress;
pub(crate) mod rows;
pub(crate) mod tabwriter;
