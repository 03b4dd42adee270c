//! The image's configuration once all layers exist: times and empty layers.

use barque_model::Timestamp;

use crate::config::{History, ImageConfig};
use crate::event::VertexId;

/// What the configuration must know of a finished vertex.
#[derive(Debug, Clone, Copy)]
pub(super) struct LayerFact {
    /// Layers that changed something.
    pub(super) layers: usize,
    pub(super) created: Timestamp,
}

/// Fills in `empty_layer` and every missing time. With `epoch` all own times are that; without, an entry without
/// a layer has the time of the first new layer, later ones that of the layer before them (as in BuildKit).
pub(super) fn complete(
    config: &mut ImageConfig,
    history: &[Option<VertexId>],
    fact: impl Fn(VertexId) -> Option<LayerFact>,
    epoch: Option<Timestamp>,
) {
    let mut entries = Vec::with_capacity(config.history.len());
    for (mut entry, vertex) in std::mem::take(&mut config.history).into_iter().zip(history) {
        let Some(fact) = vertex.and_then(&fact) else {
            entries.push(entry);
            continue;
        };
        entry.empty_layer = fact.layers == 0;
        entry.created = Some(epoch.unwrap_or(fact.created).to_string());
        entries.push(entry.clone());
        // Every layer must have its entry.
        for part in 2..=fact.layers {
            let created_by = format!("{} (part {part} of {})", entry.created_by, fact.layers);
            entries.push(History { created_by, ..entry.clone() });
        }
    }
    config.history = entries;
    if let Some(epoch) = epoch {
        let text = epoch.to_string();
        for entry in &mut config.history {
            entry.created.get_or_insert_with(|| text.clone());
        }
        config.created = Some(text);
        return;
    }
    let mut time = first_time(config);
    let mut gap = false;
    for entry in &mut config.history {
        match &entry.created {
            Some(created) if gap => time = Some(created.clone()),
            Some(_) => {}
            None => {
                gap = true;
                entry.created = time.clone();
            }
        }
    }
    config.created = config.history.last().and_then(|h| h.created.clone()).or(config.created.take());
}

/// The time of the first entry after one without a time; else of the last entry with one.
fn first_time(config: &ImageConfig) -> Option<String> {
    let mut found = None;
    let mut gap = false;
    for entry in &config.history {
        match &entry.created {
            Some(created) => {
                found = Some(created.clone());
                if gap {
                    break;
                }
            }
            None => gap = true,
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(base: &[Option<&str>], own: &[Option<i64>], epoch: Option<i64>) -> Vec<String> {
        let mut config = ImageConfig::default();
        let mut vertices = Vec::new();
        for created in base {
            config.history.push(History { created: created.map(str::to_owned), ..History::default() });
            vertices.push(None);
        }
        for (i, layer) in own.iter().enumerate() {
            config.history.push(History { empty_layer: layer.is_none(), ..History::default() });
            vertices.push(layer.map(|_| VertexId(i as u32)));
        }
        let fact =
            |id: VertexId| Some(LayerFact { layers: 1, created: Timestamp::from_secs(own[id.0 as usize].unwrap()) });
        complete(&mut config, &vertices, fact, epoch.map(Timestamp::from_secs));
        config.history.iter().map(|h| h.created.clone().unwrap_or_default()).collect()
    }

    #[test]
    fn every_layer_has_its_entry() {
        let history = |layers| {
            let mut config = ImageConfig::default();
            config.history.push(History { created_by: "COPY . /x".into(), ..History::default() });
            let fact = |_| Some(LayerFact { layers, created: Timestamp::from_secs(1) });
            complete(&mut config, &[Some(VertexId(0))], fact, None);
            config.history.into_iter().map(|h| (h.created_by, h.empty_layer)).collect::<Vec<_>>()
        };
        assert_eq!(history(0), [("COPY . /x".to_owned(), true)]);
        assert_eq!(history(2), [("COPY . /x".to_owned(), false), ("COPY . /x (part 2 of 2)".to_owned(), false)]);
    }

    #[test]
    fn metadata_takes_the_time_of_its_neighbours() {
        let t = |s: i64| Timestamp::from_secs(s).to_string();
        assert_eq!(times(&[Some("old")], &[None, Some(5), None], None), ["old".to_owned(), t(5), t(5), t(5)]);
        assert_eq!(times(&[Some("old")], &[None], None), ["old", "old"]);
        assert_eq!(times(&[], &[Some(1), None, Some(2)], None), [t(1), t(2), t(2)]);
        assert_eq!(times(&[Some("old")], &[None, Some(5)], Some(9)), ["old".to_owned(), t(9), t(9)]);
        assert_eq!(times(&[], &[None], None), [""]);
    }
}
