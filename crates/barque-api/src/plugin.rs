//! Managed plugins: not supported, so lists are empty and documents opaque.

/// A plugin as the wire has it.
pub type Plugin = serde_json::Value;
