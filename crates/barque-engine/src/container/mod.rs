//! Containers: definition, state, life.

pub mod health;
pub mod request;
pub mod spec;
pub mod state;
pub mod view;
