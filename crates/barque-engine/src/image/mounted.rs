//! Images that containers mount (`--mount type=image`): in use like those they are made from.

use barque_model::{Error, ImageId, Result};
use barque_store::Image;

use crate::Engine;
use crate::container::spec::{ContainerSpec, MountSource};

impl Engine {
    /// Settles which images the mounts mean: a name may mean another one at the next start. One that is not here is
    /// told of at the start.
    pub(crate) fn pin_mounted_images(&self, spec: &mut ContainerSpec) {
        for mount in &mut spec.mounts {
            if let MountSource::Image { reference, image, .. } = &mut mount.source {
                *image = self.image_for_container(reference, None).ok().map(|found| found.id);
            }
        }
    }

    /// Whether a container has the image mounted; of those that run, if it is only about them.
    pub(super) fn is_mounted(&self, id: &ImageId, running: bool) -> Option<barque_model::Id> {
        let mounts = |spec: &ContainerSpec| {
            spec.mounts.iter().any(|m| matches!(&m.source, MountSource::Image { image, .. } if *image == Some(*id)))
        };
        self.containers().iter().find(|v| mounts(&v.spec) && (!running || v.state.is_up())).map(|v| v.id)
    }

    /// Errors: Conflict where `image`, called `shown`, would go although a container mounts it.
    pub(super) fn check_unmounted(&self, image: &Image, shown: &str, force: bool) -> Result<()> {
        let (how, state, user) = match (self.is_mounted(&image.id, true), self.is_mounted(&image.id, false)) {
            (Some(user), _) => ("cannot be forced", "running", user),
            (None, Some(user)) if !force => ("must be forced", "stopped", user),
            _ => return Ok(()),
        };
        let user = user.short();
        Err(Error::conflict(format!(
            "conflict: unable to delete {shown} ({how}) - image is mounted by {state} container {user}"
        ))
        .with_hint(format!("remove the container first: barque rm -f {user}")))
    }
}
