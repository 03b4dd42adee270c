//! The lines of listings: which fields a template may use, and their texts.

pub(crate) mod containers;
pub(crate) mod disk_usage;
pub(crate) mod images;
pub(crate) mod misc;
pub(crate) mod stats;

use std::collections::BTreeMap;
use std::rc::Rc;

use barque_template::{Data, Method};

/// `key=value` of all labels, separated by commas.
pub(crate) fn labels(labels: &BTreeMap<String, String>) -> String {
    let pairs: Vec<String> = labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
    pairs.join(",")
}

/// `.Label "key"`.
pub(crate) fn label_method(labels: BTreeMap<String, String>) -> Data {
    let method: Method = Rc::new(move |args| match args {
        [Data::Str(key)] => Ok(Data::str(labels.get(&**key).map(String::as_str).unwrap_or_default())),
        [_] => Err("wrong type for value; expected string".into()),
        args => Err(format!("wrong number of args for Label: want 1 got {}", args.len())),
    });
    Data::Method(method)
}
