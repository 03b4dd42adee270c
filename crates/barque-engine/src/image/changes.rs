//! Dockerfile instructions applied to a configuration: `commit --change` and `import --change`.

use barque_build::graph::Planner;
use barque_build::instructions::parse;
use barque_build::options::BuildOptions;
use barque_build::worker::BaseImage;
use barque_model::{Digest, Error, ImageId, Platform, Result};

use super::types::{ImageConfig, RootFs, RunConfig};

/// What may be changed, as in Docker's engine.
const VALID: [&str; 11] = [
    "cmd",
    "entrypoint",
    "healthcheck",
    "env",
    "expose",
    "label",
    "onbuild",
    "stopsignal",
    "user",
    "volume",
    "workdir",
];

/// Applies `changes` in order. Instructions that change more than the configuration are refused.
pub fn apply(config: RunConfig, changes: &[String]) -> Result<RunConfig> {
    if changes.is_empty() {
        return Ok(config);
    }
    let text = format!("FROM base\n{}\n", changes.join("\n"));
    let mut continued = false;
    for line in changes.iter().flat_map(|c| c.lines()).map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#')) {
        let word = line.split_whitespace().next().unwrap_or_default().to_ascii_lowercase();
        if !continued && !VALID.contains(&word.as_str()) {
            return Err(Error::invalid(format!("{word} is not a valid change command")));
        }
        continued = line.ends_with('\\');
    }
    // Nobody wrote the file that an excerpt would show.
    let plain = |e: Error| Error::invalid(e.to_string());
    let file = parse(text.as_bytes(), "changes").map_err(|e| plain(e.to_error()))?;
    // The base's triggers are for builds on it, not for changes to it.
    let kept = config.on_build.clone();
    let base = ImageConfig {
        config: RunConfig { on_build: None, ..config },
        os: "linux".into(),
        architecture: Platform::host().architecture,
        rootfs: RootFs { kind: "layers".into(), diff_ids: Vec::new() },
        ..ImageConfig::default()
    };
    let json = serde_json::to_vec(&base).map_err(|e| Error::internal(e.to_string()))?;
    let options = BuildOptions::new(std::path::PathBuf::new());
    let fail = |d: barque_build::span::Diagnostic| plain(d.to_error(&file.source));
    let mut planner = Planner::new(&file, &options, None).map_err(fail)?;
    for (request, _) in planner.pending() {
        let image = BaseImage {
            name: "base".into(),
            id: ImageId(Digest::of(&json)),
            config: json.clone(),
            snapshot: None,
            layers: Vec::new(),
        };
        planner.provide(&request, image).map_err(fail)?;
    }
    let graph = planner.finish().map_err(fail)?;
    let changed = graph.config.to_json(&[])?;
    let mut changed = super::config::parse(&changed)?.config;
    let mut triggers = kept.unwrap_or_default();
    triggers.extend(changed.on_build.take().unwrap_or_default());
    changed.on_build = Some(triggers).filter(|t| !t.is_empty());
    Ok(changed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(changes: &[&str]) -> Result<RunConfig> {
        let config = RunConfig { env: Some(vec!["A=1".into()]), ..RunConfig::default() };
        apply(config, &changes.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn instructions_change_the_configuration() {
        let c = changed(&["CMD [\"x\", \"y\"]", "ENV B=2", "EXPOSE 80", "WORKDIR /w", "LABEL a=b"]).unwrap();
        assert_eq!(c.cmd.unwrap(), ["x", "y"]);
        assert!(c.env.unwrap().contains(&"B=2".to_owned()));
        assert!(c.exposed_ports.unwrap().contains_key("80/tcp"));
        assert_eq!(c.working_dir.unwrap(), "/w");
        assert_eq!(c.labels.unwrap()["a"], "b");
        assert_eq!(changed(&["LABEL a=b \\\n  from=c"]).unwrap().labels.unwrap()["from"], "c");
    }

    #[test]
    fn instructions_that_change_files_are_refused() {
        assert!(changed(&["RUN true"]).is_err());
        for change in
            ["NONSENSE 1", "FROM scratch", "ARG a", "MAINTAINER me", "SHELL [\"x\"]", "LABEL a=b\nFROM scratch"]
        {
            let error = changed(&[change]).unwrap_err();
            assert!(error.to_string().ends_with("is not a valid change command"), "{change}: {error}");
        }
        let error = changed(&["EXPOSE x"]).unwrap_err();
        assert!(!error.to_string().contains('\n') && error.hint().is_none(), "{error:?}");
    }
}
