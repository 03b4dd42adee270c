//! Runs the command line against the engine of `DOCKER_HOST`: `cargo run -p barque-compose --example compose -- ps`.
#![expect(clippy::print_stderr, reason = "a program may print")]
use std::sync::Arc;

fn main() {
    let host = barque_compose::cli::Host {
        program: "barque compose".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        environment: std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect(),
        cwd: std::env::current_dir().unwrap_or_default(),
        home: std::env::var_os("HOME").map(Into::into),
        connect: Arc::new(|| {
            Box::pin(async {
                let text = std::env::var("DOCKER_HOST").unwrap_or_else(|_| "unix:///var/run/docker.sock".to_owned());
                let host =
                    barque_client::Host::parse(&text).map_err(|e| barque_model::Error::invalid(e.to_string()))?;
                Ok(barque_client::Client::new(host))
            })
        }),
        auth: Arc::new(|_| None),
        logins: Arc::new(|| "{\"auths\":{}}\n".to_owned()),
        nearby: |_| false,
        render: |_, _| Err("templates need the whole command line".into()),
        cure: std::sync::Arc::new(|_| None),
    };
    std::process::exit(barque_compose::cli::main(std::env::args_os().skip(1).collect(), host));
}
