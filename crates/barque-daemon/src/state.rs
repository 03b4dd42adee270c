//! What the routes share.

use std::sync::{Arc, PoisonError, RwLock};

use barque_engine::Engine;
use tokio::sync::{Notify, watch};

use crate::config::Settings;
use crate::convert::limits::Machine;

/// How the product names itself in `/version`, `/info` and the `Server` header.
#[derive(Clone, Debug)]
pub struct Product {
    /// `Barque Engine`.
    pub name: String,
    /// `1.2.3`.
    pub version: String,
    pub git_commit: String,
    /// RFC 3339.
    pub build_time: String,
}

impl Default for Product {
    fn default() -> Self {
        Product {
            name: "Barque Engine".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            git_commit: String::new(),
            build_time: String::new(),
        }
    }
}

/// What the routes share.
pub(crate) struct State {
    pub(crate) engine: Engine,
    pub(crate) product: Product,
    pub(crate) machine: Machine,
    /// True when the daemon stops: streams without an end of their own end then.
    pub(crate) stop: watch::Receiver<bool>,
    /// Told of each request.
    pub(crate) activity: Notify,
    settings: Arc<RwLock<Arc<Settings>>>,
}

impl State {
    pub(crate) fn new(
        engine: Engine,
        product: Product,
        settings: Arc<RwLock<Arc<Settings>>>,
        stop: watch::Receiver<bool>,
    ) -> State {
        let machine = Machine::this();
        State { engine, product, machine, stop, activity: Notify::new(), settings }
    }

    /// The settings in force; a reload replaces them.
    pub(crate) fn settings(&self) -> Arc<Settings> {
        self.settings.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
