//! `inspect`: one kind of object, or whatever bears the name.

use barque_api::query::escape_segment;
use barque_client::Request;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::Faults;
use crate::cli::Invocation;
use crate::error::{CliResult, Failure};
use crate::output::inspect::{Inspector, Object};

/// Inspects every operand at the path that `place` gives for its (escaped) name; `T` gives the types.
pub(crate) async fn inspect_each<T: DeserializeOwned + Serialize>(
    inv: &Invocation<'_>,
    place: impl Fn(&str) -> (String, String),
) -> CliResult<u8> {
    inspect_with(inv, place, Object::read::<T>).await
}

/// As [`inspect_each`]; `read` gives the types.
pub(crate) async fn inspect_with(
    inv: &Invocation<'_>,
    place: impl Fn(&str) -> (String, String),
    read: impl Fn(Box<RawValue>) -> Object,
) -> CliResult<u8> {
    let mut inspector = Inspector::new(inv.flags.text("format"))?;
    let mut faults = Faults::default();
    for name in &inv.operands {
        let (path, query) = place(&escape_name(name));
        let added = match fetch(inv, &path, &query).await {
            Ok(raw) => inspector.add(read(raw)),
            Err(failure) => Err(failure),
        };
        if let Err(failure) = added {
            faults.add(failure);
        }
    }
    inv.cli.out(&inspector.finish())?;
    faults.finish()
}

/// A name keeps its slashes.
fn escape_name(name: &str) -> String {
    name.split('/').map(escape_segment).collect::<Vec<_>>().join("/")
}

/// The document at a path, as the engine wrote it.
pub(crate) async fn fetch(inv: &Invocation<'_>, path: &str, query: &str) -> CliResult<Box<RawValue>> {
    let request = Request::get(path).query(query.to_owned());
    let bytes = inv.client().await?.request_bytes(request).await?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    RawValue::from_string(text.trim().to_owned()).map_err(|e| Failure::new(format!("invalid reply to {path}: {e}")))
}

/// A kind of object that `inspect` knows.
struct Kind {
    name: &'static str,
    /// The path, with `{}` for the name.
    path: &'static str,
    sizes: bool,
    read: fn(Box<RawValue>) -> Object,
    /// Part of a swarm: asked for only if named by `--type`.
    swarm: bool,
}

const fn kind(name: &'static str, path: &'static str, read: fn(Box<RawValue>) -> Object) -> Kind {
    Kind { name, path, sizes: false, read, swarm: false }
}

const fn swarm(name: &'static str, path: &'static str) -> Kind {
    Kind { name, path, sizes: false, read: Object::read::<serde_json::Value>, swarm: true }
}

/// In the order in which a name is looked up.
const KINDS: [Kind; 10] = [
    Kind {
        sizes: true,
        ..kind("container", "/containers/{}/json", Object::read::<barque_api::container::ContainerInspect>)
    },
    kind("image", "/images/{}/json", Object::read::<barque_api::image::ImageInspect>),
    kind("network", "/networks/{}", Object::read::<barque_api::network::Network>),
    kind("volume", "/volumes/{}", Object::read::<barque_api::volume::Volume>),
    swarm("service", "/services/{}"),
    swarm("task", "/tasks/{}"),
    swarm("node", "/nodes/{}"),
    kind("plugin", "/plugins/{}/json", Object::read::<serde_json::Value>),
    swarm("secret", "/secrets/{}"),
    swarm("config", "/configs/{}"),
];

/// `inspect NAME…`.
pub(crate) async fn inspect(inv: &Invocation<'_>) -> CliResult<u8> {
    let wanted = inv.flags.text("type");
    if inv.flags.given("type") && wanted.is_empty() {
        return Err(Failure::new(
            "type is empty: must be one of \"config\", \"container\", \"image\", \"network\", \"node\", \"plugin\", \"secret\", \"service\", \"task\", \"volume\"",
        ));
    }
    if !wanted.is_empty() && !KINDS.iter().any(|k| k.name == wanted) {
        let mut names: Vec<String> = KINDS.iter().map(|k| format!("{:?}", k.name)).collect();
        names.sort();
        return Err(Failure::new(format!("unknown type: {wanted:?}: must be one of {}", names.join(", "))));
    }
    let mut inspector = Inspector::new(inv.flags.text("format"))?;
    let mut faults = Faults::default();
    for name in &inv.operands {
        let added = match find(inv, wanted, name).await {
            Ok(object) => inspector.add(object),
            Err(failure) => Err(failure),
        };
        if let Err(failure) = added {
            faults.add(failure);
        }
    }
    inv.cli.out(&inspector.finish())?;
    faults.finish()
}

/// The object that bears the name.
async fn find(inv: &Invocation<'_>, wanted: &str, name: &str) -> CliResult<Object> {
    let size = inv.flags.is("size");
    let kinds = KINDS.iter().filter(|k| if wanted.is_empty() { !k.swarm } else { k.name == wanted });
    for kind in kinds {
        let query = if size && kind.sizes { "size=1" } else { "" };
        let found = fetch(inv, &kind.path.replace("{}", &escape_name(name)), query).await;
        match found {
            Ok(raw) => {
                if size && !kind.sizes {
                    inv.cli.err(&format!("WARNING: --size ignored for {}", kind.name));
                }
                return Ok((kind.read)(raw));
            }
            Err(failure) if wanted.is_empty() && may_be_another(&failure) => {}
            Err(failure) => return Err(failure),
        }
    }
    Err(Failure::new(format!("Error: No such object: {name}")))
}

/// Not there, or not to be asked for here: the name may be another kind's.
fn may_be_another(failure: &Failure) -> bool {
    use barque_model::ErrorKind::{InvalidArgument, NotFound, Unavailable, Unsupported};
    match failure.kind {
        Some(NotFound | Unsupported) => true,
        Some(InvalidArgument) => failure.message.contains("invalid reference format"),
        Some(Unavailable) => failure.message.contains("not a swarm manager"),
        _ => false,
    }
}
