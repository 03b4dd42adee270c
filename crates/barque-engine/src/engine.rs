//! The handle.

/// An engine; cheap to clone.
#[derive(Clone, Debug)]
pub struct Engine;
