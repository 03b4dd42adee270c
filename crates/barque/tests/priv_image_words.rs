//! What the commands about images say and how they end, played on Barque and on Docker with one registry.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on may panic")]

mod pair;

use pair::play::same;
use pair::{Engine, docker_registry, in_namespaces, installed, sh};

const REGISTRY: &str = "127.0.0.1:5071";

/// Words of commands; `~` is a space within one, `{R}` the repository, `{D}` the digest of its tag 2.
const STEPS: &[&str] = &[
    // Pulls: of what is not here, is here, is here under another name.
    "pull {R}:1",
    "pull {R}:1",
    "pull -q {R}:1",
    "pull {R}:same",
    "pull {R}:same",
    "pull {R}@{D}",
    "pull {R}@{D}",
    "pull {R}:2@{D}",
    "pull {R}:2",
    "rmi {R}:same",
    "pull -a {R}",
    "pull -a {R}",
    "pull -a -q {R}",
    "pull -a {R}:1",
    "pull {R}:nosuch",
    "pull {R}/nosuch",
    "pull {R}@sha256:0000000000000000000000000000000000000000000000000000000000000000",
    "pull -a {R}/nosuch",
    "pull UPPER",
    "pull a~b",
    // Platforms that are none, or others.
    "pull --platform foo {R}:1",
    "pull --platform a/b/c/d {R}:1",
    "pull --platform linux/amd64 {R}:1",
    "pull --platform windows/amd64 {R}",
    "create --platform foo {R}:1 true",
    "create --platform a/b/c/d {R}:1 true",
    "create --platform linux/arm64/v:8 {R}:1 true",
    "create --platform /a --pull always {R}:1 true",
    "run --platform foo {R}:1 true",
    "run --rm --network none --platform linux/x86_64 {R}:1 true",
    "import --platform foo {H}/t.tar",
    "import --platform windows/amd64 {H}/t.tar",
    "import --platform linux/arm64 {H}/t.tar arm:1",
    "image inspect -f {{.Os}}/{{.Architecture}} arm:1",
    // Names.
    "tag {R}:1 sha256:abc",
    "tag {R}:1 docker.io/library/sha256",
    "tag {R}:1 sha256/x:1",
    "tag {R}:1 sha512:abc",
    "tag {R}:1 UPPER:1",
    "tag {R}:1 a:b:c",
    "tag {R}:1 x@{D}",
    "tag {R}:1 0000000000000000000000000000000000000000000000000000000000000000",
    "tag nosuch x",
    "import {H}/t.tar sha256:abc",
    "import {H}/t.tar UPPER",
    "create --name box {R}:1 true",
    "commit box sha256:abc",
    "commit box UPPER",
    "commit nosuch x",
    "commit -m words -a me -c LABEL~a=b -c EXPOSE~80 box made:1",
    "commit -c NONSENSE~x box made:2",
    "image inspect -f {{.Author}}~{{.Comment}}~{{json~.Config.Labels}}~{{json~.Config.ExposedPorts}} made:1",
    "history --format {{.CreatedBy}}|{{.Size}}|{{.Comment}} --no-trunc made:1",
    "history -q nosuch",
    // Lists.
    "images --format {{.Repository}}:{{.Tag}}~{{.CreatedAt}} -f reference={R}:*",
    "images --format {{.Repository}}:{{.Tag}} -f label=a",
    "images --format {{.Repository}}:{{.Tag}} -f since={R}:2",
    "images --format {{.Repository}}:{{.Tag}} -f before=nosuch",
    "images -q -f dangling=maybe",
    "images -q -f nosuch=1",
    "images {R}:nosuch",
    "image inspect nosuch",
    "image inspect -f {{.Nosuch}} made:1",
    // Out and in.
    "save nosuch",
    "save -o {H}/none/x {R}:1",
    "save -o {H}/saved.tar made:1 nosuch",
    "save -o {H}/saved.tar made:1",
    "load -i {H}/none",
    "load -i {H}/t.tar",
    "load -q -i {H}/saved.tar",
    "import {H}/none x",
    "import {H}/junk x",
    "import -c NONSENSE~x {H}/t.tar x",
    "export nosuch",
    // Pushes.
    "push nosuch/x",
    "push {R}/none",
    "push {R}/none:1",
    "push -a {R}/none",
    "push {R}:nosuch",
    "push {R}@{D}",
    "push -a {R}:1",
    "tag made:1 {R}/made:1",
    "push -q {R}/made:1",
    // Removals.
    "rmi nosuch",
    "rmi -f nosuch",
    "rmi {R}:1",
    "rmi -f made:1 nosuch",
    "rm box",
    "rmi {R}@{D}",
    "rmi sha512:abc sha256/x:1 arm:1",
    "image rm {R}/made:1",
    "image prune -f",
    "image prune -a -f --filter label=nosuch",
    "image prune --filter nosuch=1 -f",
    "images --format {{.Repository}}:{{.Tag}}~{{.CreatedAt}} -f reference={R}:*",
];

/// See [`same`].
const KNOWN: &[(&str, &str)] = &[
    // 20.10 takes the system of a platform only.
    ("image inspect -f {{.Os}}/{{.Architecture}} arm:1", "linux/arm64"),
    // What it imported or committed under a name that it then refused stays there without one.
    ("images --format {{.Repository}}:{{.Tag}} -f since={R}:2", "made:1\narm:1\n"),
    ("image prune -f", "Total reclaimed space: 0B"),
    // Words of later versions.
    ("images -q -f dangling=maybe", "invalid filter 'dangling=[maybe]'"),
    ("images -q -f nosuch=1", "invalid filter 'nosuch'"),
    ("image prune --filter nosuch=1 -f", "invalid filter 'nosuch'"),
    ("image inspect nosuch", "Error response from daemon: No such image: nosuch:latest"),
    // What is wrong rather than where a program broke off.
    ("load -i {H}/t.tar", "this is not an image archive: it has neither manifest.json nor index.json"),
    ("import {H}/junk x", "Error response from daemon: damaged "),
];

#[test]
fn priv_images_are_told_of_as_dockers() {
    in_namespaces("priv_images_are_told_of_as_dockers", |dir| {
        if !installed("docker-registry") {
            return;
        }
        let _registry = docker_registry(dir, REGISTRY, "");
        let (barque, docker) = (Engine::barque(dir, &[]), Engine::docker(dir, &[]));
        let repository = format!("{REGISTRY}/words/app");
        barque.import_busybox(&format!("{repository}:1"), &["ENV PATH=/bin"]);
        // The list goes by seconds.
        sh(&format!(
            "sleep 1.1; cd {0}; mkdir root; echo x > root/x; tar -C root -cf t.tar .; yes junk | head -c 5000 > junk",
            dir.display()
        ));
        barque.ok(&["import", &dir.join("t.tar").display().to_string(), &format!("{repository}:2")]);
        barque.ok(&["tag", &format!("{repository}:1"), &format!("{repository}:same")]);
        barque.ok(&["push", "-a", "-q", &repository]);
        let digest = barque.ok(&["image", "inspect", "-f", "{{index .RepoDigests 0}}", &format!("{repository}:2")]);
        let digest = digest.rsplit_once('@').unwrap().1;
        for image in barque.ok(&["images", "-q"]).lines() {
            let _already_gone = barque.run(&["rmi", "-f", image]);
        }
        let fill = |step: &str| step.replace("{R}", &repository).replace("{D}", digest);
        let list: Vec<String> = STEPS.iter().map(|step| fill(step)).collect();
        let known: Vec<(String, &str)> = KNOWN.iter().map(|(step, words)| (fill(step), *words)).collect();
        let known: Vec<(&str, &str)> = known.iter().map(|(step, words)| (step.as_str(), *words)).collect();
        same(dir, &barque, docker.as_ref(), &list, &known, true);
    });
}
