//! Networks that are only a configuration, and those made of one (`--config-only`, `--config-from`).

use barque_model::{Error, ErrorKind, Id, Result, Timestamp};
use barque_net::{Driver, NetworkDef};

use super::record::NetworkRecord;
use super::types::CreateNetwork;
use crate::Engine;

impl Engine {
    /// Stores a configuration; nothing is made in the kernel.
    pub(super) fn create_configuration(&self, name: String, request: CreateNetwork) -> Result<(Id, Option<String>)> {
        if request.internal || request.attachable || request.ingress {
            return Err(Error::new(
                ErrorKind::Forbidden,
                "configuration network can only contain network specific fields. Network operator fields like [ ingress | \
                 internal | attachable ] are not supported",
            )
            .with_hint("give them to the network that is made with --config-from"));
        }
        let id = Id::random();
        let record = NetworkRecord {
            def: NetworkDef { id, name, driver: Driver::None, pools: Vec::new(), internal: false },
            wishes: request.pools,
            config_only: true,
            config_from: None,
            attachable: false,
            enable_ipv4: request.enable_ipv4.unwrap_or(true),
            enable_ipv6: request.enable_ipv6.unwrap_or(false),
            ipam_options: request.ipam_options,
            options: request.options,
            labels: request.labels,
            created_at: Timestamp::now(),
        };
        self.put_network(record.clone())?;
        self.network_event(&record, "create", []);
        Ok((id, None))
    }

    /// Fills a request in from the configuration it names.
    pub(super) fn take_over_configuration(&self, request: &mut CreateNetwork) -> Result<()> {
        let Some(from) = request.config_from.clone() else { return Ok(()) };
        let forbidden = |text: String| Error::new(ErrorKind::Forbidden, text);
        if request.config_only {
            return Err(forbidden("a configuration network cannot depend on another configuration network".into()));
        }
        if !request.pools.is_empty() || !request.options.is_empty() || !request.ipam_options.is_empty() {
            return Err(forbidden(
                "user supplied configurations are not supported if the network depends on a configuration network"
                    .into(),
            )
            .with_hint(format!("put subnets and options into {from}, or leave --config-from out")));
        }
        let record = self
            .network_record(&from)
            .map_err(|e| e.context(format!("could not find configuration network {from:?}")))?;
        if !record.config_only {
            return Err(forbidden(format!("network {:?} is not a configuration network", record.def.name)));
        }
        request.config_from = Some(record.def.name);
        request.pools = record.wishes;
        request.options = record.options;
        request.ipam_options = record.ipam_options;
        request.enable_ipv4 = Some(record.enable_ipv4);
        request.enable_ipv6 = Some(request.enable_ipv6.unwrap_or(false) || record.enable_ipv6);
        for (key, value) in record.labels {
            request.labels.entry(key).or_insert(value);
        }
        Ok(())
    }

    /// Errors: Forbidden for a network that is only a configuration.
    pub(crate) fn joinable(record: NetworkRecord) -> Result<NetworkRecord> {
        if record.config_only {
            return Err(Error::new(
                ErrorKind::Forbidden,
                format!("cannot attach to configuration-only network {}", record.def.name),
            )
            .with_hint(format!("make a network of it: barque network create --config-from {} NAME", record.def.name)));
        }
        Ok(record)
    }
}
