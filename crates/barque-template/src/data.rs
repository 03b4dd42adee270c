//! The values a template works on.

use std::collections::BTreeMap;
use std::rc::Rc;

use serde_json::{Map, Number, Value};

/// A field that takes arguments, such as `.Label "key"`.
pub type Method = Rc<dyn Fn(&[Data]) -> Result<Data, String>>;

/// A value as Go's templates see it. Cloning is cheap.
#[derive(Clone)]
pub enum Data {
    /// A nil pointer or interface.
    Nil,
    /// A list that was never made: empty, but `null` in JSON.
    NilList,
    /// A map that was never made.
    NilMap,
    /// What a missing key of a map of anything gives.
    NoValue,
    Bool(bool),
    Int(i64),
    Float(f64),
    Str(Rc<str>),
    List(Rc<Vec<Data>>),
    Map(Rc<BTreeMap<String, Data>>),
    Struct(Rc<Struct>),
    /// A field that is worked out when it is asked for.
    Lazy(Rc<dyn Fn() -> Data>),
    Method(Method),
}

/// A Go struct: named fields in order.
pub struct Struct {
    /// As errors name it, `*formatter.ContainerContext`.
    pub type_name: String,
    pub fields: Vec<Field>,
    /// A line of a listing.
    pub is_row: bool,
}

/// One field of a struct.
pub struct Field {
    /// As JSON has it.
    pub name: String,
    pub value: Data,
    /// Left out of JSON, as Go's `omitempty` does.
    pub omitted: bool,
}

impl Struct {
    /// One line of a listing: fields in the order of their names, as Docker's JSON has them.
    pub fn row(type_name: &str, mut fields: Vec<(&str, Data)>) -> Data {
        fields.sort_by_key(|(name, _)| *name);
        Struct::build(type_name, fields, true)
    }

    /// A struct of shown fields.
    pub fn shown(type_name: &str, fields: Vec<(&str, Data)>) -> Data {
        Struct::build(type_name, fields, false)
    }

    fn build(type_name: &str, fields: Vec<(&str, Data)>, is_row: bool) -> Data {
        let fields = fields.into_iter().map(|(name, value)| Field { name: name.to_owned(), value, omitted: false });
        Data::Struct(Rc::new(Struct { type_name: type_name.to_owned(), fields: fields.collect(), is_row }))
    }

    pub fn get(&self, name: &str) -> Option<&Data> {
        let exact = self.fields.iter().find(|f| f.name == name);
        exact.or_else(|| self.fields.iter().find(|f| go_name(&f.name) == name)).map(|f| &f.value)
    }
}

/// What Go calls a field where that differs from its name in JSON: templates know it by either.
fn go_name(name: &str) -> &str {
    match name {
        "Id" | "id" => "ID",
        "Dns" => "DNS",
        "DnsOptions" => "DNSOptions",
        "DnsSearch" => "DNSSearch",
        "CpuShares" => "CPUShares",
        "NanoCpus" => "NanoCPUs",
        "CpuPeriod" => "CPUPeriod",
        "CpuQuota" => "CPUQuota",
        "CpuRealtimePeriod" => "CPURealtimePeriod",
        "CpuRealtimeRuntime" => "CPURealtimeRuntime",
        "CpuCount" => "CPUCount",
        "CpuPercent" => "CPUPercent",
        "CpuCfsPeriod" => "CPUCfsPeriod",
        "CpuCfsQuota" => "CPUCfsQuota",
        "HostIp" => "HostIP",
        "ApiVersion" => "APIVersion",
        "HttpProxy" => "HTTPProxy",
        "HttpsProxy" => "HTTPSProxy",
        "status" => "Status",
        "from" => "From",
        "scope" => "Scope",
        "time" => "Time",
        "timeNano" => "TimeNano",
        "path" => "Path",
        "runtimeArgs" => "Args",
        name => name,
    }
}

impl Data {
    /// A field that is worked out when it is asked for.
    pub fn lazy(make: impl Fn() -> Data + 'static) -> Data {
        Data::Lazy(Rc::new(make))
    }

    /// The value itself.
    pub fn force(self) -> Data {
        match self {
            Data::Lazy(make) => make(),
            value => value,
        }
    }

    pub fn str(text: impl AsRef<str>) -> Data {
        Data::Str(Rc::from(text.as_ref()))
    }

    /// A document without types: objects become maps of anything.
    pub fn from_json(value: &Value) -> Data {
        match value {
            Value::Null => Data::Nil,
            Value::Bool(b) => Data::Bool(*b),
            Value::Number(n) => match n.as_i64() {
                Some(int) => Data::Int(int),
                None => Data::Float(n.as_f64().unwrap_or_default()),
            },
            Value::String(s) => Data::str(s),
            Value::Array(items) => Data::List(Rc::new(items.iter().map(Data::from_json).collect())),
            Value::Object(map) => {
                Data::Map(Rc::new(map.iter().map(|(k, v)| (k.clone(), Data::from_json(v))).collect()))
            }
        }
    }

    /// The value as JSON. Titles and methods have none.
    pub fn to_json(&self) -> Value {
        match self {
            Data::Nil | Data::NilList | Data::NilMap | Data::NoValue | Data::Method(_) => Value::Null,
            Data::Lazy(make) => make().to_json(),
            Data::Bool(b) => Value::Bool(*b),
            Data::Int(i) => Value::Number((*i).into()),
            // Go writes whole numbers without a fraction.
            Data::Float(f) if f.fract() == 0.0 && f.abs() < 1e15 => Value::Number((*f as i64).into()),
            Data::Float(f) => Number::from_f64(*f).map_or(Value::Null, Value::Number),
            Data::Str(s) => Value::String(s.to_string()),
            Data::List(items) => Value::Array(items.iter().map(Data::to_json).collect()),
            Data::Map(map) => Value::Object(map.iter().map(|(k, v)| (k.clone(), v.to_json())).collect()),
            Data::Struct(fields) => {
                let shown = fields.fields.iter().filter(|f| !f.omitted && !matches!(f.value, Data::Method(_)));
                Value::Object(shown.map(|f| (f.name.clone(), f.value.to_json())).collect::<Map<_, _>>())
            }
        }
    }

    /// Go's truth: whether the value is not empty.
    pub fn truth(&self) -> bool {
        match self {
            Data::Nil | Data::NilList | Data::NilMap | Data::NoValue => false,
            Data::Bool(b) => *b,
            Data::Int(i) => *i != 0,
            Data::Float(f) => *f != 0.0,
            Data::Str(s) => !s.is_empty(),
            Data::List(items) => !items.is_empty(),
            Data::Map(map) => !map.is_empty(),
            Data::Lazy(make) => make().truth(),
            Data::Struct(_) | Data::Method(_) => true,
        }
    }

    /// The value as `print` shows it.
    pub fn print(&self) -> String {
        let mut out = String::new();
        self.print_to(&mut out);
        out
    }

    fn print_to(&self, out: &mut String) {
        match self {
            Data::Nil => out.push_str("<nil>"),
            Data::NoValue => out.push_str("<no value>"),
            Data::NilList => out.push_str("[]"),
            Data::NilMap => out.push_str("map[]"),
            Data::Bool(b) => out.push_str(if *b { "true" } else { "false" }),
            Data::Int(i) => out.push_str(&i.to_string()),
            Data::Float(f) => out.push_str(&super::format::float_g(*f)),
            Data::Str(s) => out.push_str(s),
            Data::List(items) => list(out, "[", "]", items.iter().map(|item| ("", item))),
            Data::Map(map) => list(out, "map[", "]", map.iter().map(|(k, v)| (k.as_str(), v))),
            Data::Struct(fields) => list(out, "{", "}", fields.fields.iter().map(|f| ("", &f.value))),
            Data::Lazy(make) => make().print_to(out),
            Data::Method(_) => out.push_str("<func>"),
        }
    }

    /// What Go calls the type, for error texts.
    pub fn type_name(&self) -> String {
        match self {
            Data::Nil | Data::NoValue => "<nil>".into(),
            Data::NilList => "[]interface {}".into(),
            Data::NilMap => "map[string]interface {}".into(),
            Data::Bool(_) => "bool".into(),
            Data::Int(_) => "int".into(),
            Data::Float(_) => "float64".into(),
            Data::Str(_) => "string".into(),
            Data::List(items) => match items.first() {
                Some(Data::Str(_)) => "[]string".into(),
                _ => "[]interface {}".into(),
            },
            Data::Map(map) => match map.values().next() {
                Some(Data::Str(_)) => "map[string]string".into(),
                _ => "map[string]interface {}".into(),
            },
            Data::Struct(fields) => fields.type_name.clone(),
            Data::Lazy(make) => make().type_name(),
            Data::Method(_) => "func".into(),
        }
    }
}

fn list<'a>(out: &mut String, open: &str, close: &str, items: impl Iterator<Item = (&'a str, &'a Data)>) {
    out.push_str(open);
    for (index, (key, value)) in items.enumerate() {
        if index > 0 {
            out.push(' ');
        }
        if open == "map[" {
            out.push_str(key);
            out.push(':');
        }
        value.print_to(out);
    }
    out.push_str(close);
}

impl std::fmt::Debug for Data {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.print())
    }
}

impl From<&str> for Data {
    fn from(text: &str) -> Data {
        Data::str(text)
    }
}

impl From<String> for Data {
    fn from(text: String) -> Data {
        Data::Str(Rc::from(text))
    }
}

impl From<bool> for Data {
    fn from(value: bool) -> Data {
        Data::Bool(value)
    }
}

impl From<i64> for Data {
    fn from(value: i64) -> Data {
        Data::Int(value)
    }
}
