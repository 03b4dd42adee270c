//! Tar streams: a reader that trusts nothing, and a deterministic writer.
