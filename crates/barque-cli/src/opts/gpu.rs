//! `--gpus`.

use barque_api::container::DeviceRequest;
use barque_model::csv::csv;

/// `all`, a number, or `device=…`, `driver=…`, `count=…`, `capabilities=…`, `options=…`, separated by commas.
pub(crate) fn parse(text: &str) -> Result<DeviceRequest, String> {
    let mut request = DeviceRequest::default();
    let mut seen: Vec<String> = Vec::new();
    for field in csv(text) {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (field.as_str(), None),
        };
        if seen.iter().any(|s| s == key) {
            return Err(format!("gpu request key '{key}' can be specified only once"));
        }
        seen.push(key.to_owned());
        let Some(value) = value else {
            seen.push("count".into());
            request.count = count(key)?;
            continue;
        };
        let list = |s: &str| s.split(',').map(str::to_owned).collect::<Vec<_>>();
        match key {
            "driver" => request.driver = value.to_owned(),
            "count" => request.count = count(value)?,
            "device" => request.device_ids = Some(list(value)),
            "capabilities" => {
                let mut all = list(value);
                all.push("gpu".into());
                request.capabilities = Some(vec![all]);
            }
            "options" => {
                let options = csv(value);
                request.options = Some(super::map(options.iter().map(String::as_str)));
            }
            _ => return Err(format!("unexpected key '{key}' in '{field}'")),
        }
    }
    if !seen.iter().any(|s| s == "count") && request.device_ids.is_none() {
        request.count = 1;
    }
    request.options.get_or_insert_default();
    request.capabilities.get_or_insert_with(|| vec![vec!["gpu".into()]]);
    Ok(request)
}

fn count(text: &str) -> Result<i64, String> {
    if text == "all" {
        return Ok(-1);
    }
    text.parse()
        .map_err(|_| format!("invalid count ({text}): value must be either \"all\" or an integer: invalid syntax"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gpus() {
        assert_eq!(parse("all").map(|r| r.count), Ok(-1));
        let two = parse(r#"driver=nvidia,"device=0,1","capabilities=compute,utility""#).expect("parses");
        assert_eq!(two.device_ids, Some(vec!["0".into(), "1".into()]));
        assert_eq!(two.capabilities, Some(vec![vec!["compute".into(), "utility".into(), "gpu".into()]]));
        assert_eq!(two.count, 0);
        assert_eq!(parse("x=1").unwrap_err(), "unexpected key 'x' in 'x=1'");
        assert!(parse("abc").unwrap_err().starts_with("invalid count (abc)"));
        assert!(parse("count=1,count=2").unwrap_err().contains("only once"));
    }
}
