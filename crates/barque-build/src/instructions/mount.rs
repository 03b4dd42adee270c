//! `RUN --mount=…`.

use barque_model::size;
use barque_model::strconv::parse_bool;

use crate::parse::Word;
use crate::span::Diagnostic;
use crate::suggest;
use crate::worker::CacheSharing;

/// One mount, with variables expanded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    pub kind: MountKind,
    /// Stage, image or named context; `None` is the build context (or nothing, for a cache).
    pub from: Option<String>,
    pub source: String,
    pub target: String,
    pub read_only: bool,
    /// `id=`, or `source=` of a secret.
    pub id: Option<String>,
    pub sharing: Option<CacheSharing>,
    pub required: bool,
    /// Bytes of a tmpfs, 0 for unlimited.
    pub size: u64,
    /// `env=` of a secret: the variable that holds it.
    pub env: Option<String>,
    pub mode: Option<u32>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
}

/// `type=`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MountKind {
    Bind,
    Cache,
    Tmpfs,
    Secret,
    Ssh,
}

const KEYS: [&str; 19] = [
    "type",
    "from",
    "source",
    "target",
    "readonly",
    "id",
    "sharing",
    "required",
    "size",
    "mode",
    "uid",
    "gid",
    "src",
    "dst",
    "destination",
    "ro",
    "rw",
    "readwrite",
    "env",
];

impl MountKind {
    fn name(self) -> &'static str {
        match self {
            MountKind::Bind => "bind",
            MountKind::Cache => "cache",
            MountKind::Tmpfs => "tmpfs",
            MountKind::Secret => "secret",
            MountKind::Ssh => "ssh",
        }
    }
}

/// What can be said before variables have values: `from` takes none.
pub(super) fn check(word: &Word) -> Result<(), Diagnostic> {
    let fields = fields(&word.text).map_err(|e| Diagnostic::new(word.span, e))?;
    let from = fields.iter().filter_map(|f| split(f)).find(|(key, _)| key == "from");
    if from.is_some_and(|(_, value)| value.find('$').is_some_and(|i| i + 1 != value.len())) {
        let message = "'from' doesn't support variable expansion, define alias stage instead";
        return Err(
            Diagnostic::new(word.span, message).with_hint("write FROM IMAGE:$VAR AS name above, and from=name here")
        );
    }
    if fields.iter().any(|f| f.contains('$')) {
        return Ok(());
    }
    parse_mount(&word.text, &mut |v| Ok(v.to_owned())).map(drop).map_err(|e| Diagnostic::new(word.span, e))
}

/// The value of `from=`, which has no variables.
pub fn mount_from(text: &str) -> Option<String> {
    let fields = fields(text).ok()?;
    fields.iter().rev().filter_map(|f| split(f)).find(|(k, _)| k == "from").map(|(_, v)| v)
}

fn split(field: &str) -> Option<(String, String)> {
    let (key, value) = field.split_once('=')?;
    Some((key.to_lowercase(), value.to_owned()))
}

/// Reads a mount; `expand` gives values to variables. Errors are Docker's sentences.
pub fn parse_mount(text: &str, expand: &mut dyn FnMut(&str) -> Result<String, String>) -> Result<Mount, String> {
    let mut mount = Mount {
        kind: MountKind::Bind,
        from: None,
        source: String::new(),
        target: String::new(),
        read_only: false,
        id: None,
        sharing: None,
        required: false,
        size: 0,
        env: None,
        mode: None,
        uid: None,
        gid: None,
    };
    let mut read_only = None;
    for field in fields(text)? {
        match split(&field) {
            None => flag(&field, &mut mount, &mut read_only)?,
            Some((key, value)) => {
                let value = expand(&value)?;
                option(&key, &value, &field, &mut mount, &mut read_only)?;
            }
        }
    }
    mount.read_only = read_only.unwrap_or(!matches!(mount.kind, MountKind::Cache | MountKind::Tmpfs));
    validate(mount)
}

fn flag(field: &str, mount: &mut Mount, read_only: &mut Option<bool>) -> Result<(), String> {
    match field.to_lowercase().as_str() {
        "readonly" | "ro" => *read_only = Some(true),
        "readwrite" | "rw" => *read_only = Some(false),
        "required" if matches!(mount.kind, MountKind::Secret | MountKind::Ssh) => mount.required = true,
        key @ "required" => return Err(format!("unexpected key '{key}' for mount type '{}'", mount.kind.name())),
        _ => return Err(format!("invalid field '{field}' must be a key=value pair")),
    }
    Ok(())
}

fn option(key: &str, value: &str, field: &str, mount: &mut Mount, read_only: &mut Option<bool>) -> Result<(), String> {
    let invalid = || format!("invalid value for {key}: {value}");
    let number = |radix| u32::from_str_radix(value, radix).map_err(|_| format!("invalid value {value} for {key}"));
    match key {
        "type" => {
            let kinds = [MountKind::Bind, MountKind::Cache, MountKind::Tmpfs, MountKind::Secret, MountKind::Ssh];
            let found = kinds.into_iter().find(|k| k.name() == value.to_lowercase());
            let unknown =
                || suggest::with(format!("unsupported mount type {value:?}"), value, kinds.map(MountKind::name));
            mount.kind = found.ok_or_else(unknown)?;
        }
        "from" => mount.from = Some(value.to_owned()),
        "source" | "src" => mount.source = value.to_owned(),
        "target" | "dst" | "destination" => mount.target = value.to_owned(),
        "readonly" | "ro" => *read_only = Some(parse_bool(value).map_err(|_| invalid())?),
        "readwrite" | "rw" => *read_only = Some(!parse_bool(value).map_err(|_| invalid())?),
        "required" if matches!(mount.kind, MountKind::Secret | MountKind::Ssh) => {
            mount.required = parse_bool(value).map_err(|_| invalid())?;
        }
        "size" if mount.kind == MountKind::Tmpfs => mount.size = size::parse_binary(value).map_err(|_| invalid())?,
        "required" | "size" => return Err(format!("unexpected key '{key}' for mount type '{}'", mount.kind.name())),
        "id" => mount.id = Some(value.to_owned()),
        "sharing" => {
            mount.sharing = Some(match value.to_lowercase().as_str() {
                "shared" => CacheSharing::Shared,
                "private" => CacheSharing::Private,
                "locked" => CacheSharing::Locked,
                _ => {
                    let message = format!("unsupported sharing value {value:?}");
                    return Err(suggest::with(message, value, ["shared", "private", "locked"]));
                }
            });
        }
        "mode" => mount.mode = Some(number(8)?),
        "uid" => mount.uid = Some(number(10)?),
        "gid" => mount.gid = Some(number(10)?),
        "env" => mount.env = Some(value.to_owned()),
        _ => return Err(suggest::with(format!("unexpected key '{key}' in '{field}'"), key, KEYS)),
    }
    Ok(())
}

fn validate(mut mount: Mount) -> Result<Mount, String> {
    let has_owner = matches!(mount.kind, MountKind::Secret | MountKind::Ssh | MountKind::Cache);
    let owner = [("mode", mount.mode.is_some()), ("uid", mount.uid.is_some()), ("gid", mount.gid.is_some())];
    if let Some((key, _)) = owner.iter().find(|(_, set)| *set && !has_owner) {
        return Err(format!("{key} not allowed for {:?} type mounts", mount.kind.name()));
    }
    match mount.kind {
        MountKind::Secret => {
            if mount.from.is_some() {
                return Err("secret mount should not have a from".into());
            }
            if mount.sharing.is_some() {
                return Err("secret mount should not define sharing".into());
            }
            if mount.source.is_empty() && mount.target.is_empty() && mount.id.is_none() {
                return Err("invalid secret mount. one of source, target required".into());
            }
            if !mount.source.is_empty() && mount.id.is_some() {
                return Err("both source and id can't be set".into());
            }
            if !mount.source.is_empty() {
                mount.id = Some(std::mem::take(&mut mount.source));
            }
        }
        MountKind::Ssh if !mount.source.is_empty() => return Err("ssh does not support source".into()),
        MountKind::Bind | MountKind::Tmpfs | MountKind::Cache | MountKind::Ssh => {}
    }
    if mount.sharing.is_some() && mount.kind != MountKind::Cache {
        return Err(format!("invalid cache sharing set for {} mount", mount.kind.name()));
    }
    let needs_target = matches!(mount.kind, MountKind::Bind | MountKind::Tmpfs | MountKind::Cache);
    if needs_target && mount.target.is_empty() {
        return Err(format!("a {} mount needs a target, such as target=/path", mount.kind.name()));
    }
    Ok(mount)
}

/// One line of CSV (RFC 4180).
fn fields(text: &str) -> Result<Vec<String>, String> {
    let bad = |why: &str| Err(format!("failed to parse csv mounts: {why}"));
    let mut fields = Vec::new();
    let mut chars = text.chars().peekable();
    loop {
        let mut field = String::new();
        if chars.next_if_eq(&'"').is_some() {
            loop {
                match chars.next() {
                    None => return bad("a quote is not closed"),
                    Some('"') if chars.next_if_eq(&'"').is_some() => field.push('"'),
                    Some('"') => break,
                    Some(c) => field.push(c),
                }
            }
            if chars.peek().is_some_and(|c| *c != ',') {
                return bad("text follows a closing quote");
            }
        }
        while let Some(c) = chars.next_if(|c| *c != ',') {
            if c == '"' {
                return bad("a quote stands inside an unquoted field");
            }
            field.push(c);
        }
        fields.push(field);
        if chars.next().is_none() {
            return Ok(fields);
        }
    }
}
