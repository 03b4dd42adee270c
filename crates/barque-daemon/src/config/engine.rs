//! The settings that concern the engine, in its terms.

use barque_engine::EngineConfig;
use barque_engine::config::{NetworkSettings, RegistrySettings};

use super::Settings;

/// Where certificates of registries are looked for, `HOST/ca.crt` and the client's own; the first has precedence.
pub const CERTS_DIRS: [&str; 2] = ["/etc/barque/certs.d", "/etc/docker/certs.d"];

impl Settings {
    /// The engine's configuration. The caller has to set `sockets`, once they are open, and the seccomp profile if it
    /// is a file.
    pub fn engine_config(&self) -> EngineConfig {
        let mut config = EngineConfig::new(&self.data_root, &self.exec_root);
        config.network = self.network_settings();
        config.registry = self.registry_settings();
        if let Some(driver) = &self.log_driver {
            config.default_log.driver.clone_from(driver);
        }
        config.default_log.options.clone_from(&self.log_opts);
        config.default_ulimits.clone_from(&self.ulimits);
        if let Some(size) = self.shm_size {
            config.default_shm_size = size;
        }
        config.cgroup_parent.clone_from(&self.cgroup_parent);
        config.init = self.init;
        if let Some(live_restore) = self.live_restore {
            config.live_restore = live_restore;
        }
        config.no_new_privileges = self.no_new_privileges;
        config.labels.clone_from(&self.labels);
        config.debug = self.debug;
        config.shutdown_timeout_secs = self.shutdown_timeout;
        config.read_only_socket = Some(config.exec_root.join("read-only.sock"));
        config
    }

    /// Addresses at which everybody on the network may give the engine orders: no certificate is asked for.
    pub fn open_to_all(&self) -> impl Iterator<Item = &str> {
        let asked = self.tls.as_ref().is_some_and(|tls| tls.verify);
        self.hosts.iter().map(String::as_str).filter(move |host| !asked && crate::listen::is_remote(host))
    }

    /// The path of the seccomp profile, if it is a file.
    pub fn seccomp_file(&self) -> Option<&str> {
        self.seccomp_profile.as_deref().filter(|text| !matches!(*text, "builtin" | "unconfined"))
    }

    /// How registries are reached; taken on anew by a reload.
    pub fn registry_settings(&self) -> RegistrySettings {
        RegistrySettings {
            mirrors: self.registry_mirrors.clone(),
            insecure: self.insecure_registries.clone(),
            certs_dirs: CERTS_DIRS.map(Into::into).to_vec(),
            http_proxy: self.proxies.http.clone(),
            https_proxy: self.proxies.https.clone(),
            no_proxy: self.proxies.no_proxy.clone(),
            max_concurrent_downloads: self.max_concurrent_downloads,
            max_concurrent_uploads: self.max_concurrent_uploads,
            index_url: None,
        }
    }

    fn network_settings(&self) -> NetworkSettings {
        NetworkSettings {
            bridge: self.bridge.clone(),
            bip: self.bip,
            fixed_cidr: self.fixed_cidr,
            default_gateway: self.default_gateway,
            mtu: self.mtu,
            address_pools: self.address_pools.clone(),
            default_ip: self.ip,
            ipv6: self.ipv6,
            fixed_cidr_v6: self.fixed_cidr_v6,
            icc: self.icc,
            ip_masq: self.ip_masq,
            ip_forward: self.ip_forward,
            firewall: self.iptables,
            userland_proxy: self.userland_proxy,
            dns: self.dns.clone(),
            dns_search: self.dns_search.clone(),
            dns_options: self.dns_opts.clone(),
            host_gateway_ip: self.host_gateway_ips.first().copied(),
        }
    }
}
