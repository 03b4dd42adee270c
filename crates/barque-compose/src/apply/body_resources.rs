//! Limits, devices and security options of a container request.

use barque_api::container::{DeviceMapping, DeviceRequest, Resources, ThrottleDevice, Ulimit, WeightDevice};
use barque_model::{Context, Error};

use crate::file::model::{self, Blkio, BlkioRate, ServiceSpec};
use crate::file::paths;
use crate::file::project::Project;

#[expect(clippy::cast_possible_truncation, reason = "counts of processors are small")]
fn nano(cpus: f64) -> i64 {
    // in 32 bits, as Docker Compose does
    (cpus as f32 * 1e9).round() as i64
}

pub(super) fn resources(spec: &ServiceSpec) -> Resources {
    let mut out = Resources {
        cgroup_parent: spec.cgroup_parent.clone(),
        memory: spec.mem_limit,
        memory_swap: spec.memswap_limit,
        memory_swappiness: (spec.mem_swappiness != 0).then_some(spec.mem_swappiness),
        memory_reservation: spec.mem_reservation,
        oom_kill_disable: spec.oom_kill_disable.then_some(true),
        cpu_count: spec.cpu_count,
        cpu_period: spec.cpu_period,
        cpu_quota: spec.cpu_quota,
        cpu_realtime_period: spec.cpu_rt_period,
        cpu_realtime_runtime: spec.cpu_rt_runtime,
        cpu_shares: spec.cpu_shares,
        nano_cpus: nano(spec.cpus),
        #[expect(clippy::cast_possible_truncation, reason = "a percentage")]
        cpu_percent: (spec.cpu_percent * 100.0) as i64,
        cpuset_cpus: spec.cpuset.clone(),
        device_cgroup_rules: (!spec.device_cgroup_rules.is_empty()).then(|| spec.device_cgroup_rules.clone()),
        pids_limit: (spec.pids_limit != 0).then_some(spec.pids_limit),
        ulimits: ulimits(&spec.ulimits),
        ..Resources::default()
    };
    if let Some(blkio) = &spec.blkio_config {
        set_blkio(&mut out, blkio);
    }
    let mut requests = Vec::new();
    if let Some(deploy) = &spec.deploy {
        if let Some(limits) = &deploy.resources.limits {
            if limits.memory != 0 {
                out.memory = limits.memory;
            }
            if limits.cpus != 0.0 {
                out.nano_cpus = nano(limits.cpus);
            }
            if limits.pids > 0 {
                out.pids_limit = Some(limits.pids);
            }
        }
        if let Some(reservations) = &deploy.resources.reservations {
            if reservations.memory != 0 {
                out.memory_reservation = reservations.memory;
            }
            requests.extend(reservations.devices.iter().map(|d| request(d, false)));
        }
    }
    requests.extend(spec.gpus.iter().map(|d| request(d, true)));
    devices(spec, &mut out, &mut requests);
    out.device_requests = (!requests.is_empty()).then_some(requests);
    out
}

fn devices(spec: &ServiceSpec, out: &mut Resources, requests: &mut Vec<DeviceRequest>) {
    // vendor.com/class=name is a device of the Container Device Interface
    let (cdi, plain): (Vec<_>, Vec<_>) =
        spec.devices.iter().partition(|d| d.source == d.target && d.source.contains('=') && !d.source.starts_with('/'));
    if !cdi.is_empty() {
        let ids = cdi.iter().map(|d| d.source.clone()).collect();
        requests.push(DeviceRequest { driver: "cdi".to_owned(), device_ids: Some(ids), ..DeviceRequest::default() });
    }
    if !plain.is_empty() {
        let map = |d: &&model::Device| DeviceMapping {
            path_on_host: d.source.clone(),
            path_in_container: if d.target.is_empty() { d.source.clone() } else { d.target.clone() },
            cgroup_permissions: if d.permissions.is_empty() { "rwm".to_owned() } else { d.permissions.clone() },
        };
        out.devices = Some(plain.iter().map(map).collect());
    }
}

fn request(device: &model::DeviceRequest, gpu: bool) -> DeviceRequest {
    let mut capabilities = device.capabilities.clone();
    if gpu {
        capabilities.push("gpu".to_owned());
    }
    DeviceRequest {
        driver: device.driver.clone(),
        count: device.count,
        device_ids: (!device.device_ids.is_empty()).then(|| device.device_ids.clone()),
        capabilities: Some(vec![capabilities]),
        options: (!device.options.is_empty()).then(|| device.options.clone()),
    }
}

pub(super) fn ulimits(limits: &std::collections::BTreeMap<String, model::Ulimit>) -> Option<Vec<Ulimit>> {
    let map = |(name, limit): (&String, &model::Ulimit)| {
        let (soft, hard) = match *limit {
            model::Ulimit::Single(n) => (n, n),
            model::Ulimit::Both { soft, hard } => (soft, hard),
        };
        Ulimit { name: name.clone(), soft, hard }
    };
    (!limits.is_empty()).then(|| limits.iter().map(map).collect())
}

fn set_blkio(out: &mut Resources, blkio: &Blkio) {
    let rates = |rates: &[BlkioRate]| {
        let map = |r: &BlkioRate| ThrottleDevice { path: r.path.clone(), rate: u64::try_from(r.rate).unwrap_or(0) };
        (!rates.is_empty()).then(|| rates.iter().map(map).collect())
    };
    out.blkio_weight = blkio.weight;
    out.blkio_weight_device = (!blkio.weight_device.is_empty())
        .then(|| blkio.weight_device.iter().map(|w| WeightDevice { path: w.path.clone(), weight: w.weight }).collect());
    out.blkio_device_read_bps = rates(&blkio.device_read_bps);
    out.blkio_device_read_iops = rates(&blkio.device_read_iops);
    out.blkio_device_write_bps = rates(&blkio.device_write_bps);
    out.blkio_device_write_iops = rates(&blkio.device_write_iops);
}

/// Security options; a seccomp profile is read from its file. True if system paths shall not be masked.
pub(super) fn security(spec: &ServiceSpec, project: &Project) -> Result<(Vec<String>, bool), Error> {
    let mut out = Vec::new();
    let mut unconfined = false;
    for option in &spec.security_opt {
        if option == "systempaths=unconfined" {
            unconfined = true;
            continue;
        }
        let (key, value) = option.split_once('=').or_else(|| option.split_once(':')).unwrap_or((option, ""));
        if value.is_empty() && key != "no-new-privileges" {
            return Err(Error::invalid(format!("invalid security-opt: {option:?}")));
        }
        if key == "seccomp" && !matches!(value, "unconfined" | "builtin") {
            let path = paths::absolute(value, &project.working_dir, None);
            let text =
                std::fs::read_to_string(&path).with_context(|| format!("opening seccomp profile ({value}) failed"))?;
            let json: serde_json::Value = serde_json::from_str(&text)
                .with_context(|| format!("compacting json for seccomp profile ({value}) failed"))?;
            out.push(format!("seccomp={json}"));
        } else {
            out.push(option.clone());
        }
    }
    Ok((out, unconfined))
}
