//! Containers: definition, state, life.

pub mod attach;
mod checks;
mod composed;
pub mod copy;
pub mod create;
pub mod driver;
pub mod exec;
pub mod files;
pub mod health;
pub(crate) mod launch;
mod lifecycle;
mod limits;
pub mod logs;
pub(crate) mod marker;
pub mod merge;
pub mod names;
mod propagation;
pub mod request;
pub mod spec;
mod start;
pub mod state;
pub mod top;
pub mod view;
mod wait;

pub use attach::ContainerStats;
pub use copy::CopyInOptions;
pub use exec::ExecStart;
pub(crate) use wait::exit_of;
