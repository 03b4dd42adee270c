//! The formats of `~/.docker/config.json` and of credential helpers.
