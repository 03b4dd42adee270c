//! Serves a directory as a registry: `serve DIR ADDR [HTPASSWD [CERT KEY]]`, or `serve DIR ADDR --mirror-of URL`.

use std::process::ExitCode;

use barque_registry::server::{MirrorConfig, ServerConfig, TlsFiles, serve};
use barque_registry::{ClientConfig, Credentials};

#[tokio::main]
async fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [dir, addr, rest @ ..] = &args[..] else {
        eprintln!("usage: serve DIR ADDR [HTPASSWD [CERT KEY]] | serve DIR ADDR --mirror-of URL");
        return ExitCode::from(2);
    };
    let mut config = ServerConfig::new(dir);
    match rest {
        [flag, url] if flag == "--mirror-of" => {
            let (upstream, credentials, client) = (url.clone(), Credentials::Anonymous, ClientConfig::default());
            config.mirror = Some(MirrorConfig { upstream, credentials, client });
        }
        [htpasswd, tls @ ..] => {
            config.htpasswd = (!htpasswd.is_empty()).then(|| htpasswd.into());
            if let [cert, key] = tls {
                config.tls = Some(TlsFiles { cert: cert.into(), key: key.into() });
            }
        }
        [] => {}
    }
    let listener = match tokio::net::TcpListener::bind(addr).await {
        Ok(listener) => listener,
        Err(error) => {
            eprintln!("cannot listen on {addr}: {error}");
            return ExitCode::FAILURE;
        }
    };
    let stop = async {
        let _ = tokio::signal::ctrl_c().await;
    };
    match serve(config, vec![listener], stop).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}", error.chain());
            ExitCode::FAILURE
        }
    }
}
