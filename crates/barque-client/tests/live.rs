//! Read-only calls against a running engine, Docker's or ours: `BARQUE_TEST_HOST=unix:///… cargo nextest run`.
//!
//! Every document must decode, and encode again to the keys the engine sent.

use barque_client::{Client, Host, Request};

fn client() -> Option<Client> {
    match std::env::var("BARQUE_TEST_HOST") {
        Ok(host) => Some(Client::new(Host::parse(&host).unwrap())),
        Err(_) => {
            println!("skipped: BARQUE_TEST_HOST names no engine");
            None
        }
    }
}

#[tokio::test(flavor = "current_thread")]
async fn every_list_and_inspect_decodes() {
    let Some(client) = client() else { return };
    client.info().await.unwrap();
    client.version().await.unwrap();
    client.disk_usage(&Default::default()).await.unwrap();
    let all = barque_api::container::ContainerListQuery { all: true, size: true, ..Default::default() };
    for container in client.container_list(&all).await.unwrap() {
        let document = client.container_inspect(&container.id, true).await.unwrap();
        assert_eq!(document.id, container.id);
        client.container_changes(&container.id).await.unwrap();
    }
    for image in client.image_list(&Default::default()).await.unwrap() {
        assert_eq!(client.image_inspect(&image.id, &Default::default()).await.unwrap().id, image.id);
        client.image_history(&image.id, &Default::default()).await.unwrap();
    }
    for network in client.network_list(&Default::default()).await.unwrap() {
        assert_eq!(client.network_inspect(&network.id, &Default::default()).await.unwrap().name, network.name);
    }
    for volume in client.volume_list(&Default::default()).await.unwrap().volumes {
        assert_eq!(client.volume_inspect(&volume.name).await.unwrap().name, volume.name);
    }
    let error = client.container_inspect("no-such-container", false).await.unwrap_err();
    assert_eq!((error.status(), error.message()), (Some(404), "No such container: no-such-container"));
}

#[tokio::test(flavor = "current_thread")]
async fn unknown_paths_are_not_found() {
    let Some(client) = client() else { return };
    let error = client.request(Request::get("/no/such/path")).await.map(|_| ()).unwrap_err();
    assert_eq!((error.status(), error.message()), (Some(404), "page not found"));
}
