//! `compose …`: hands the words to the Compose command line, with this program's view of the world.

use std::ffi::OsString;
use std::sync::Arc;

use barque_compose::cli::Host;
use barque_template::{Data, Missing, Struct, Template};

use crate::auth;
use crate::cli::Invocation;
use crate::error::CliResult;
use crate::output::rows::label_method;

pub(crate) async fn compose(inv: &Invocation<'_>) -> CliResult<u8> {
    let host = host(inv)?;
    let words = inv.operands.iter().map(OsString::from).collect();
    let status = barque_compose::cli::run(words, host).await;
    Ok(u8::try_from(status & 0xff).unwrap_or(1))
}

pub(super) fn host(inv: &Invocation<'_>) -> CliResult<Host> {
    let (target, config) = (inv.cli.target()?.clone(), inv.cli.config().clone());
    let (for_auth, for_logins) = (config.clone(), config.clone());
    let program = inv.cli.program.clone();
    Ok(Host {
        program: format!("{} compose", inv.cli.program),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        environment: environment(),
        cwd: std::env::current_dir()?,
        home: std::env::var_os("HOME").map(Into::into),
        connect: Arc::new(move || {
            let (target, config) = (target.clone(), config.clone());
            Box::pin(async move {
                target.connect(&config).await.map_err(|failure| {
                    let kind = failure.kind.unwrap_or(barque_model::ErrorKind::Internal);
                    barque_model::Error::new(kind, failure.message)
                })
            })
        }),
        nearby: super::image::shares_files,
        render: |template, row| {
            let template = Template::parse(template).map_err(|e| format!("template parsing error: {e}"))?;
            template.execute(&row_data(row), Missing::Error)
        },
        cure: Arc::new(move |message| crate::hints::of_message(&program, message)),
        logins: Arc::new(move || auth::as_file(&auth::all(&for_logins))),
        auth: Arc::new(move |registry| auth::get(&for_auth, auth::key_of(registry)).ok().flatten()),
    })
}

/// A row as templates see it; its labels, by key, are the method `.Label`.
fn row_data(row: &serde_json::Value) -> Data {
    let (Some(fields), Some(labels)) = (row.as_object(), row["Label"].as_object()) else { return Data::from_json(row) };
    let labels = labels.iter().map(|(k, v)| (k.clone(), v.as_str().unwrap_or_default().to_owned())).collect();
    let others = fields.iter().filter(|(name, _)| *name != "Label");
    let mut all: Vec<(&str, Data)> = others.map(|(name, value)| (name.as_str(), Data::from_json(value))).collect();
    all.push(("Label", label_method(labels)));
    Struct::row("*formatter.ContainerContext", all)
}

/// The environment as text; what is none is left out, since a Compose file can neither name nor hold it.
fn environment() -> std::collections::BTreeMap<String, String> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}
