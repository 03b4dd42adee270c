//! Documents with types: what Go's client would have decoded into its structs.
//!
//! A template over typed data knows fields that the engine left out of the document. The types come from the
//! structs of `barque-api`: serialising one of them names each field, the left-out ones too.

use std::collections::BTreeMap;
use std::rc::Rc;

use serde::ser::{self, Serialize};

use super::data::{Data, Field, Struct};

/// `value` as a template sees it.
pub fn typed<T: Serialize + ?Sized>(value: &T) -> Data {
    value.serialize(Builder { field: "" }).unwrap_or(Data::Nil)
}

/// As [`typed`], under the type name that errors show.
pub fn typed_as<T: Serialize + ?Sized>(value: &T, type_name: &str) -> Data {
    match typed(value) {
        Data::Struct(fields) => match Rc::try_unwrap(fields) {
            Ok(fields) => Data::Struct(Rc::new(Struct { type_name: type_name.to_owned(), ..fields })),
            Err(shared) => Data::Struct(shared),
        },
        other => other,
    }
}

/// Fields that are pointers.
const POINTERS: [&str; 30] = [
    "Health",
    "Healthcheck",
    "Init",
    "StopTimeout",
    "MemorySwappiness",
    "OomKillDisable",
    "PidsLimit",
    "SizeRw",
    "SizeRootFs",
    "IPAMConfig",
    "BindOptions",
    "VolumeOptions",
    "ImageOptions",
    "TmpfsOptions",
    "ClusterOptions",
    "DriverConfig",
    "UsageData",
    "Platform",
    "ImageManifestDescriptor",
    "Descriptor",
    "Config",
    "ContainerConfig",
    "HostConfig",
    "GraphDriver",
    "Swarm",
    "Storage",
    "Scope",
    "FirewallBackend",
    "Containerd",
    "Cluster",
];

/// Fields that are pointers, numbers, or yes-or-no where they are left out; lists and maps by their names.
fn zero(field: &str) -> Data {
    match field {
        // The old names of an event's fields.
        "status" => Data::str(""),
        name if POINTERS.contains(&name) => Data::Nil,
        "Labels" | "Options" | "Tmpfs" | "Sysctls" | "Annotations" | "StorageOpt" | "PortBindings" | "ExposedPorts"
        | "Volumes" | "Ports" | "Networks" | "DriverOpts" | "Containers" | "Services" | "AuxiliaryAddresses"
        | "Details" | "Data" | "Status" => Data::NilMap,
        "ArgsEscaped"
        | "NetworkDisabled"
        | "NonRecursive"
        | "CreateMountpoint"
        | "ReadOnlyNonRecursive"
        | "ReadOnlyForceRecursive"
        | "ReadOnly"
        | "NoCopy"
        | "Dead"
        | "Experimental" => Data::Bool(false),
        "KernelMemory" | "KernelMemoryTCP" | "Size" | "VirtualSize" | "SizeBytes" | "Mode" | "Interval" | "Timeout"
        | "StartPeriod" | "StartInterval" | "Retries" | "GwPriority" => Data::Int(0),
        // The keys of port maps.
        name if ["/tcp", "/udp", "/sctp"].iter().any(|protocol| name.ends_with(protocol)) => Data::NilList,
        name if name.ends_with('s') && !name.ends_with("ss") && !name.ends_with("Cpus") && !name.ends_with("Mems") => {
            Data::NilList
        }
        "Cmd"
        | "Env"
        | "Entrypoint"
        | "Shell"
        | "Test"
        | "OnBuild"
        | "CapAdd"
        | "CapDrop"
        | "Dns"
        | "DnsSearch"
        | "GroupAdd"
        | "SecurityOpt"
        | "VolumesFrom"
        | "IPAM"
        | "BlkioWeightDevice"
        | "BlkioDeviceReadBps"
        | "BlkioDeviceWriteBps" => Data::NilList,
        _ => Data::str(""),
    }
}

/// An unset value of a field that is not left out.
fn unset(field: &str) -> Data {
    match zero(field) {
        Data::Str(_) | Data::Bool(_) | Data::Int(_) => Data::Nil,
        other => other,
    }
}

/// What HostConfig leaves out: its limits are written in line, which hides the names of the fields left out.
const HOST_CONFIG: [&str; 8] =
    ["Annotations", "StorageOpt", "Tmpfs", "Sysctls", "Runtime", "Mounts", "Init", "KernelMemory"];

/// Serialisation into [`Data`] cannot fail; the type is what serde asks for.
#[derive(Debug)]
pub(crate) struct Never;

impl std::fmt::Display for Never {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("not serialisable")
    }
}

impl std::error::Error for Never {}

impl ser::Error for Never {
    fn custom<T: std::fmt::Display>(_: T) -> Never {
        Never
    }
}

/// Builds the value of the field called `field`.
struct Builder<'a> {
    field: &'a str,
}

struct Items(Vec<Data>);

struct Entries {
    key: String,
    found: Vec<(String, Data)>,
    /// Made by a struct with in-line parts rather than by a map.
    is_struct: bool,
    /// A set: its values are Go's `struct{}`.
    is_set: bool,
}

struct Fields(Vec<Field>);

impl ser::Serializer for Builder<'_> {
    type Ok = Data;
    type Error = Never;
    type SerializeSeq = Items;
    type SerializeTuple = Items;
    type SerializeTupleStruct = Items;
    type SerializeTupleVariant = Items;
    type SerializeMap = Entries;
    type SerializeStruct = Fields;
    type SerializeStructVariant = Fields;

    fn serialize_bool(self, v: bool) -> Result<Data, Never> {
        Ok(Data::Bool(v))
    }
    fn serialize_i8(self, v: i8) -> Result<Data, Never> {
        Ok(Data::Int(v.into()))
    }
    fn serialize_i16(self, v: i16) -> Result<Data, Never> {
        Ok(Data::Int(v.into()))
    }
    fn serialize_i32(self, v: i32) -> Result<Data, Never> {
        Ok(Data::Int(v.into()))
    }
    fn serialize_i64(self, v: i64) -> Result<Data, Never> {
        Ok(Data::Int(v))
    }
    fn serialize_u8(self, v: u8) -> Result<Data, Never> {
        Ok(Data::Int(v.into()))
    }
    fn serialize_u16(self, v: u16) -> Result<Data, Never> {
        Ok(Data::Int(v.into()))
    }
    fn serialize_u32(self, v: u32) -> Result<Data, Never> {
        Ok(Data::Int(v.into()))
    }
    fn serialize_u64(self, v: u64) -> Result<Data, Never> {
        Ok(i64::try_from(v).map_or(Data::Float(v as f64), Data::Int))
    }
    fn serialize_f32(self, v: f32) -> Result<Data, Never> {
        Ok(Data::Float(v.into()))
    }
    fn serialize_f64(self, v: f64) -> Result<Data, Never> {
        Ok(Data::Float(v))
    }
    fn serialize_char(self, v: char) -> Result<Data, Never> {
        Ok(Data::from(v.to_string()))
    }
    fn serialize_str(self, v: &str) -> Result<Data, Never> {
        Ok(Data::str(v))
    }
    fn serialize_bytes(self, v: &[u8]) -> Result<Data, Never> {
        Ok(Data::from(String::from_utf8_lossy(v).into_owned()))
    }
    fn serialize_none(self) -> Result<Data, Never> {
        Ok(unset(self.field))
    }
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<Data, Never> {
        value.serialize(self)
    }
    fn serialize_unit(self) -> Result<Data, Never> {
        Ok(unset(self.field))
    }
    fn serialize_unit_struct(self, _: &'static str) -> Result<Data, Never> {
        Ok(Struct::shown("struct {}", Vec::new()))
    }
    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result<Data, Never> {
        Ok(Data::str(variant))
    }
    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result<Data, Never> {
        value.serialize(self)
    }
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        value: &T,
    ) -> Result<Data, Never> {
        value.serialize(self)
    }
    fn serialize_seq(self, _: Option<usize>) -> Result<Items, Never> {
        Ok(Items(Vec::new()))
    }
    fn serialize_tuple(self, _: usize) -> Result<Items, Never> {
        Ok(Items(Vec::new()))
    }
    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Items, Never> {
        Ok(Items(Vec::new()))
    }
    fn serialize_tuple_variant(self, _: &'static str, _: u32, _: &'static str, _: usize) -> Result<Items, Never> {
        Ok(Items(Vec::new()))
    }
    fn serialize_map(self, length: Option<usize>) -> Result<Entries, Never> {
        // serde writes a struct with `flatten` as a map of unknown length.
        let is_set = matches!(self.field, "ExposedPorts" | "Volumes");
        Ok(Entries { key: String::new(), found: Vec::new(), is_struct: length.is_none(), is_set })
    }
    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Fields, Never> {
        Ok(Fields(Vec::new()))
    }
    fn serialize_struct_variant(self, _: &'static str, _: u32, _: &'static str, _: usize) -> Result<Fields, Never> {
        Ok(Fields(Vec::new()))
    }
}

macro_rules! items {
    ($($kind:ident $method:ident),* $(,)?) => {$(
        impl ser::$kind for Items {
            type Ok = Data;
            type Error = Never;
            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Never> {
                self.0.push(value.serialize(Builder { field: "" })?);
                Ok(())
            }
            fn end(self) -> Result<Data, Never> {
                Ok(Data::List(Rc::new(self.0)))
            }
        }
    )*};
}

items! {
    SerializeSeq serialize_element,
    SerializeTuple serialize_element,
    SerializeTupleStruct serialize_field,
    SerializeTupleVariant serialize_field,
}

impl ser::SerializeMap for Entries {
    type Ok = Data;
    type Error = Never;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Never> {
        self.key = key.serialize(Builder { field: "" })?.print();
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Never> {
        let key = std::mem::take(&mut self.key);
        let value = match self.is_set {
            true => Struct::shown("struct {}", Vec::new()),
            false => value.serialize(Builder { field: &key })?,
        };
        self.found.push((key, value));
        Ok(())
    }

    fn end(self) -> Result<Data, Never> {
        if !self.is_struct {
            return Ok(Data::Map(Rc::new(self.found.into_iter().collect::<BTreeMap<_, _>>())));
        }
        let field = |(name, value)| Field { name, value, omitted: false };
        let mut fields: Vec<Field> = self.found.into_iter().map(field).collect();
        if fields.iter().any(|f| f.name == "ContainerIDFile") {
            for name in HOST_CONFIG {
                if !fields.iter().any(|f| f.name == name) {
                    fields.push(Field { name: name.to_owned(), value: zero(name), omitted: true });
                }
            }
        }
        Ok(Data::Struct(Rc::new(Struct { type_name: "struct".into(), fields, is_row: false })))
    }
}

macro_rules! fields {
    ($($kind:ident),* $(,)?) => {$(
        impl ser::$kind for Fields {
            type Ok = Data;
            type Error = Never;
            fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<(), Never> {
                let value = value.serialize(Builder { field: name })?;
                self.0.push(Field { name: name.to_owned(), value, omitted: false });
                Ok(())
            }
            fn skip_field(&mut self, name: &'static str) -> Result<(), Never> {
                self.0.push(Field { name: name.to_owned(), value: zero(name), omitted: true });
                Ok(())
            }
            fn end(self) -> Result<Data, Never> {
                Ok(Data::Struct(Rc::new(Struct { type_name: "struct".into(), fields: self.0, is_row: false })))
            }
        }
    )*};
}

fields! { SerializeStruct, SerializeStructVariant }
