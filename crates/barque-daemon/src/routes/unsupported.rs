//! Paths of the API that are not built, and those that have one true answer without being built.

use barque_model::Error;

use crate::http::{self, Outcome};
use crate::router::{Routed, inline};

/// Finds the answer for a path that no other file serves.
pub(crate) fn route(method: &str, path: &[&str]) -> Option<Routed> {
    let answer: Outcome = match (method, path) {
        // There are none, and there can be none.
        ("GET", ["plugins"]) => http::json::<[u8; 0]>(&[]),
        ("GET", ["plugins", name @ .., "json"]) if !name.is_empty() => {
            Err(Error::not_found(format!("plugin \"{}\" not found", name.join("/"))))
        }
        (_, ["plugins", ..]) => not_built("managed plugins"),
        // Docker says 503 and names `docker swarm init`, which would only lead to this answer.
        ("GET" | "POST" | "DELETE", ["swarm" | "nodes" | "services" | "tasks" | "secrets" | "configs", ..]) => {
            not_built("swarm mode")
        }
        (_, ["containers", _, "checkpoints", ..]) => not_built("checkpoints"),
        ("POST", ["session"]) => not_built("BuildKit sessions"),
        ("POST", ["grpc"]) => not_built("BuildKit over the API's socket"),
        ("GET", ["debug", ..]) => not_built("debug endpoints"),
        _ => return None,
    };
    Some(inline(std::future::ready(answer)))
}

fn not_built(what: &str) -> Outcome {
    Err(Error::not_implemented(what))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn of(method: &str, path: &str) -> Option<(u16, String)> {
        let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
        Some(match route(method, &segments)?.await {
            Ok(reply) => (reply.status().as_u16(), String::new()),
            Err(error) => (error.kind().http_status(), error.to_string()),
        })
    }

    #[tokio::test]
    async fn answers() {
        assert_eq!(of("GET", "/plugins").await, Some((200, String::new())));
        assert_eq!(of("GET", "/plugins/a/b/json").await, Some((404, "plugin \"a/b\" not found".into())));
        assert_eq!(of("POST", "/plugins/pull").await.unwrap().0, 501);
        let swarm = Some((501, "not implemented yet: swarm mode".to_owned()));
        assert_eq!(of("POST", "/swarm/init").await, swarm);
        for path in ["/swarm", "/nodes", "/services/x/logs", "/tasks", "/secrets", "/configs/x"] {
            assert_eq!(of("GET", path).await, swarm, "{path}");
        }
        assert_eq!(of("POST", "/session").await.unwrap().0, 501);
        assert_eq!(of("GET", "/nonsense").await, None);
        assert_eq!(of("PUT", "/swarm").await, None);
    }
}
