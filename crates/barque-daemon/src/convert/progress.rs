//! Progress of transfers.

use barque_api::ApiVersion;
use barque_api::progress::{JsonMessage, ProgressDetail};
use barque_engine::image::types::Progress;

/// Cells of the bar that is sent as text to clients that draw none.
const BAR: i64 = 50;

/// One message; `bar` adds the progress as text (until 1.51).
pub(crate) fn message(progress: &Progress, version: ApiVersion) -> JsonMessage {
    if let Some(aux) = &progress.aux {
        return JsonMessage::aux(serde_json::from_str(aux).unwrap_or(serde_json::Value::Null));
    }
    let signed = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    let mut message = JsonMessage::status(progress.id.clone().unwrap_or_default(), &*progress.status);
    // A layer's message always has the key, a status line never.
    message.progress_detail = progress.id.is_some().then(|| ProgressDetail {
        current: progress.current.map_or(0, signed),
        total: progress.total.map_or(0, signed),
        ..ProgressDetail::default()
    });
    if let (Some(current), true) = (progress.current, version.before(52)) {
        message.progress = bar(current, progress.total.unwrap_or(0));
    }
    message
}

/// `[=====>      ]  1.2MB/10MB`.
fn bar(current: u64, total: u64) -> String {
    let current_text = barque_model::size::human(current);
    if total == 0 {
        return current_text;
    }
    let done = i64::try_from(u128::from(current.min(total)) * BAR as u128 / u128::from(total)).unwrap_or(BAR);
    let filled = "=".repeat(usize::try_from(done).unwrap_or(0));
    let rest = " ".repeat(usize::try_from((BAR - done).max(0)).unwrap_or(0));
    let total_text = barque_model::size::human(total);
    format!("[{filled}>{rest}] {current_text:>8}/{total_text}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages() {
        let text = |progress: Progress, version| serde_json::to_string(&message(&progress, version)).unwrap();
        let new = text(Progress::of("abc", "Downloading").at(5, 10), ApiVersion::MAX);
        assert_eq!(new, r#"{"status":"Downloading","progressDetail":{"current":5,"total":10},"id":"abc"}"#);
        let old = text(Progress::of("abc", "Downloading").at(5, 10), ApiVersion::new(1, 41));
        assert!(old.contains(r#""progress":"[=========================>"#), "{old}");
        let layer = text(Progress::of("abc", "Pull complete"), ApiVersion::MAX);
        assert_eq!(layer, r#"{"status":"Pull complete","progressDetail":{},"id":"abc"}"#);
        assert_eq!(text(Progress::status("Digest: x"), ApiVersion::MAX), r#"{"status":"Digest: x"}"#);
        let aux = Progress { aux: Some(r#"{"Tag":"a"}"#.into()), ..Progress::status("") };
        assert_eq!(text(aux, ApiVersion::MAX), r#"{"aux":{"Tag":"a"}}"#);
    }
}
