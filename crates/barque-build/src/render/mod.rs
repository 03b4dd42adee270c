//! Build events as text: the classic builder's stream of messages.
//!
//! It is pure: it takes events and gives what to print, without clock, terminal or I/O.

pub mod classic;
