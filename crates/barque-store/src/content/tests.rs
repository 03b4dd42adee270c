//! Blobs: written, resumed, verified, refused.
