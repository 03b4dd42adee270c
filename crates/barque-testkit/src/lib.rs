//! barque-testkit.
