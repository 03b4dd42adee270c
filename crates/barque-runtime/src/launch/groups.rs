//! The cgroups a container is to have: parents prepared, writes planned.

use std::os::fd::OwnedFd;

use barque_model::Result;
use barque_sys::bpf::Instruction;

use crate::cgroup::live::{Group, GroupDir};
use crate::cgroup::plan::{self, Write};
use crate::cgroup::{devices, parent};
use crate::spawner::Host;
use crate::spec::Spec;

/// One group to be made by the monitor.
pub(super) struct NewGroup {
    pub parent: OwnedFd,
    pub name: String,
    pub writes: Vec<Write>,
    pub devices: Vec<Instruction>,
    pub v2: bool,
}

pub(super) struct NewGroups {
    pub groups: Vec<NewGroup>,
    /// The same groups as paths, for later.
    pub group: Group,
    /// Path below the root of each hierarchy, without a leading slash.
    pub path: String,
    pub warnings: Vec<String>,
}

impl NewGroups {
    pub(super) fn plan(host: &Host, spec: &Spec) -> Result<NewGroups> {
        let parent = spec.cgroup.parent.as_deref().unwrap_or(host.layout.default_parent());
        let prepared = parent::prepare(&host.layout, parent)?;
        let v2 = host.layout.is_v2();
        let (planned, mut warnings) = plan::writes(&host.layout, &spec.cgroup.resources);
        let mut writes = prepared.writes;
        writes.extend(planned);
        let default_rules = crate::defaults::device_rules();
        let rules = if spec.cgroup.devices.is_empty() { &default_rules } else { &spec.cgroup.devices };
        if !v2 {
            writes.extend(devices::v1_lines(rules).into_iter().map(|(file, value)| Write {
                controller: "devices",
                file: file.to_owned(),
                value,
                optional: false,
            }));
        }
        let mut group = Group { v2, dirs: Vec::new() };
        let mut groups = Vec::new();
        for parent in prepared.parents {
            let (mine, others) = writes.into_iter().partition(|w| parent.controllers.iter().any(|c| c == w.controller));
            writes = others;
            group.dirs.push(GroupDir { path: parent.path.join(&spec.id), controllers: parent.controllers });
            let devices = if v2 { devices::v2_program(rules) } else { Vec::new() };
            groups.push(NewGroup { parent: parent.dir, name: spec.id.clone(), writes: mine, devices, v2 });
        }
        for write in writes {
            warnings.push(format!("this machine has no {} cgroup controller: limit discarded", write.controller));
        }
        warnings.dedup();
        let path = format!("{}/{}", parent.trim_matches('/'), spec.id).trim_start_matches('/').to_owned();
        Ok(NewGroups { groups, group, path, warnings })
    }

    /// Number of v1 groups to be entered one by one.
    pub(super) fn v1_count(&self) -> usize {
        self.groups.iter().filter(|g| !g.v2).count()
    }
}
