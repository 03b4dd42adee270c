//! Build events as text: the classic builder's stream of messages, and BuildKit's plain progress.
//!
//! Both are pure: they take events and give what to print, without clock, terminal or I/O.

pub mod classic;
pub mod plain;
