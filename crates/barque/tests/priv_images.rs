//! Images on their way between Barque, Docker, skopeo and registries: nothing may change on the way.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on may panic")]

mod pair;

use std::path::Path;

use pair::{Engine, barque_registry, docker_registry, in_namespaces, installed, sh};

const DEBIAN: &str = "127.0.0.1:5071";
const OWN: &str = "127.0.0.1:5072";

fn id(engine: &Engine, name: &str) -> String {
    engine.ok(&["image", "inspect", "-f", "{{.Id}}", name])
}

fn digest(engine: &Engine, name: &str) -> String {
    let all = engine.ok(&["image", "inspect", "-f", "{{range .RepoDigests}}{{println .}}{{end}}", name]);
    let repository = name.rsplit_once(':').unwrap().0;
    let line =
        all.lines().find(|l| l.starts_with(&format!("{repository}@"))).unwrap_or_else(|| panic!("{name}: {all}"));
    line.rsplit_once('@').unwrap().1.to_owned()
}

/// A base with a user, and two layers of its own on it.
fn make(engine: &Engine, name: &str) {
    engine.import_busybox("base:1", &["ENV PATH=/bin", "CMD [\"sh\"]"]);
    engine.ok(&[
        "run",
        "--name",
        "maker",
        "base:1",
        "sh",
        "-c",
        "echo one > /one; mkdir /dir; chown web /dir; rm /data/seed",
    ]);
    engine.ok(&["commit", "-m", "first", "-a", "me", "-c", "ENV A=b", "maker", "base:2"]);
    engine.ok(&["rm", "maker"]);
    engine.ok(&["run", "--name", "maker", "base:2", "sh", "-c", "rm /one; echo two > /dir/two; ln /dir/two /dir/same"]);
    engine.ok(&["commit", "-c", "EXPOSE 80", "-c", "WORKDIR /dir", "maker", name]);
    engine.ok(&["rm", "maker"]);
}

/// What an image looks like from within.
fn listing(engine: &Engine, name: &str) -> String {
    engine.ok(&[
        "run", "--rm", "--network", "none", name, "sh", "-c",
        "find / -xdev \\( -path /proc -o -path /sys -o -path /dev -o -path /etc -o -path /.dockerenv \\) -prune -o -exec stat -c '%n %F %a %u:%g %h %s' {} + | \
         sed '/directory/s/ [0-9]*$//' | sort; cat /dir/two; ls /data",
    ])
}

fn same_lines(found: &str, expected: &str, what: &str) {
    let only =
        |a: &str, b: &str| a.lines().filter(|l| !b.lines().any(|o| o == *l)).map(str::to_owned).collect::<Vec<_>>();
    let (more, less) = (only(found, expected), only(expected, found));
    assert!(more.is_empty() && less.is_empty(), "{what}: only here {more:?}, only there {less:?}");
}

#[test]
fn priv_images_survive_every_way_between_engines_and_registries() {
    in_namespaces("priv_images_survive_every_way_between_engines_and_registries", |dir| {
        if !installed("docker-registry") {
            return;
        }
        let barque = Engine::barque(dir, &[]);
        let docker = Engine::docker(dir, &[]);
        let mut registries = [docker_registry(dir, DEBIAN, ""), barque_registry(dir, OWN, &[])];
        // Where there is no Docker, Barque is on both ends.
        let pairs = match &docker {
            Some(docker) => vec![(&barque, docker), (docker, &barque)],
            None => vec![(&barque, &barque)],
        };
        for (maker, taker) in pairs {
            let local = format!("made-by-{}:1", maker.name);
            make(maker, &local);
            let (original, looks) = (id(maker, &local), listing(maker, &local));
            for registry in [DEBIAN, OWN] {
                let name = format!("{registry}/by-{}/app:1", maker.name);
                maker.ok(&["tag", &local, &name]);
                maker.ok(&["push", &name]);
                let pushed = digest(maker, &name);
                taker.ok(&["pull", &name]);
                assert_eq!((id(taker, &name), digest(taker, &name)), (original.clone(), pushed.clone()), "{name}");
                same_lines(&listing(taker, &name), &looks, &name);
                // And back again, under another name.
                let again = format!("{registry}/again-{}/app:2", maker.name);
                taker.ok(&["tag", &name, &again]);
                taker.ok(&["push", &again]);
                maker.ok(&["rmi", &name]);
                maker.ok(&["pull", &again]);
                assert_eq!(id(maker, &again), original, "{again}");
                if taker.name == "barque" {
                    // Docker writes a manifest of its own for what it pushes.
                    assert_eq!(digest(maker, &again), pushed, "{again}");
                }
            }
            archives(dir, maker, taker, &local, &original, &looks);
        }
        skopeo(dir, &barque);
        for registry in &mut registries {
            registry.kill().unwrap();
            registry.wait().unwrap();
        }
    });
}

/// `save` here, `load` there, and what was saved again is the same.
fn archives(dir: &Path, maker: &Engine, taker: &Engine, name: &str, original: &str, looks: &str) {
    let first = dir.join(format!("{}.tar", maker.name)).display().to_string();
    maker.ok(&["save", "-o", &first, name]);
    let loaded = taker.ok(&["load", "-i", &first]);
    assert!(loaded.contains(&format!("Loaded image: {name}")), "{loaded}");
    assert_eq!(id(taker, name), original);
    same_lines(&listing(taker, name), looks, name);
    taker.ok(&["save", "-o", &format!("{first}.2"), name]);
    let read = |path: &str| {
        sh(&format!(
            "tar -xOf {path} manifest.json | tr ',' '\\n' | grep -o '\"Config\":\"[^\"]*' | grep -oE '[0-9a-f]{{64}}'"
        ))
    };
    assert_eq!(read(&first), read(&format!("{first}.2")), "the configuration's digest");
    if maker.name == "barque" {
        // The same bytes every time.
        maker.ok(&["save", "-o", &format!("{first}.3"), name]);
        sh(&format!("cmp {first} {first}.3"));
    }
}

/// Skopeo reads and writes the archives and layouts that Barque writes and reads.
fn skopeo(dir: &Path, barque: &Engine) {
    if !installed("skopeo") {
        return;
    }
    let (name, original) = ("made-by-barque:1", id(barque, "made-by-barque:1"));
    let saved = dir.join("skopeo.tar").display().to_string();
    barque.ok(&["save", "-o", &saved, name]);
    let remote = format!("docker://{OWN}/by-barque/app:1");
    let work = dir.join("skopeo");
    std::fs::create_dir(&work).unwrap();
    let w = work.display();
    sh(&format!("skopeo copy -q docker-archive:{saved} oci:{w}/from-archive:1"));
    sh(&format!(
        "mkdir {w}/x && tar -C {w}/x -xf {saved} && skopeo copy -q oci:{w}/x {w}/y-is-dir 2>/dev/null || true"
    ));
    for (kind, file) in [("docker-archive", "a.tar:again/docker:1"), ("oci-archive", "b.tar:again/oci:1")] {
        sh(&format!("skopeo copy -q --src-tls-verify=false {remote} {kind}:{w}/{file}"));
    }
    sh(&format!(
        "skopeo copy -q --src-tls-verify=false {remote} oci:{w}/layout:again/layout:1 && tar -C {w}/layout -cf {w}/c.tar ."
    ));
    for (file, name) in [("a.tar", "again/docker:1"), ("b.tar", "again/oci:1"), ("c.tar", "again/layout:1")] {
        barque.ok(&["load", "-i", &format!("{w}/{file}")]);
        if file == "a.tar" {
            assert_eq!(id(barque, name), original, "{file}");
        }
        assert!(barque.ok(&["run", "--rm", "--network", "none", name, "cat", "/dir/two"]).contains("two"));
    }
    // Skopeo to the registry, Barque from it, with the digest unchanged.
    sh(&format!(
        "skopeo copy -q --dest-tls-verify=false oci:{w}/layout:again/layout:1 docker://{OWN}/skopeo/app:1 && \
         skopeo copy -q --dest-tls-verify=false oci:{w}/layout:again/layout:1 docker://{DEBIAN}/skopeo/app:1"
    ));
    for registry in [OWN, DEBIAN] {
        let name = format!("{registry}/skopeo/app:1");
        barque.ok(&["pull", &name]);
        let there = sh(&format!("skopeo inspect --tls-verify=false -f '{{{{.Digest}}}}' docker://{name}"));
        assert_eq!(digest(barque, &name), there);
    }
}

#[test]
fn priv_images_from_urls_other_platforms_and_shared_layers() {
    in_namespaces("priv_images_from_urls_other_platforms_and_shared_layers", |dir| {
        let barque = Engine::barque(dir, &[]);
        let mut registry = barque_registry(dir, OWN, &[]);
        barque.import_busybox("base:1", &["CMD [\"sh\"]"]);
        // Imports of what a web server has.
        let served = barque.dir.join("busybox.tar");
        let url = serve_file(&served);
        barque.ok(&["import", "-m", "from afar", &url, "afar:1"]);
        assert!(barque.ok(&["history", "--no-trunc", "afar:1"]).contains("from afar"));
        assert!(barque.ok(&["run", "--rm", "--network", "none", "afar:1", "cat", "/data/seed"]).contains("seed"));
        barque.fails(&["import", "http://127.0.0.1:1/nothing", "x:1"], "refused");
        // What a registry has, without pulling it.
        let name = format!("{OWN}/team/app:1");
        barque.ok(&["tag", "base:1", &name]);
        let pushed = barque.ok(&["push", &name]);
        assert_eq!(pushed.matches(": Pushed").count(), 1, "{pushed}");
        let said = sh(&format!(
            "curl -s --unix-socket {}/sock http://d/distribution/{OWN}/team/app:1/json",
            barque.dir.display()
        ));
        assert!(said.contains(&digest(&barque, &name)) && said.contains("\"architecture\":\"amd64\""), "{said}");
        // A layer the registry has elsewhere is linked, not sent.
        let other = format!("{OWN}/other/app:1");
        barque.ok(&["tag", "base:1", &other]);
        let mounted = barque.ok(&["push", &other]);
        assert!(mounted.contains("Mounted from team/app"), "{mounted}");
        // An image for another machine is not run by accident, and it is said what it is for.
        barque.ok(&["import", "--platform", "linux/arm64", &served.display().to_string(), "phone:1"]);
        let said = barque.run(&["create", "--pull", "never", "phone:1", "sh"]).unwrap();
        assert!(
            said.contains("platform (linux/arm64) does not match the detected host platform (linux/amd64"),
            "{said}"
        );
        barque.fails(&["create", "--pull", "never", "--platform", "linux/arm64", "base:1", "sh"], "linux/arm64");
        let phone = format!("{OWN}/phone/app:1");
        barque.ok(&["tag", "phone:1", &phone]);
        barque.ok(&["push", &phone]);
        barque.ok(&["rmi", "-f", &phone]);
        let said = barque.ok(&["pull", "--platform", "linux/amd64", &phone]);
        assert!(
            said.contains("does not match the specified platform: wanted linux/amd64, actual: linux/arm64"),
            "{said}"
        );
        let save = |platforms: &[&str], name: &str| {
            let mut args = vec!["save", "-o", "/dev/null"];
            platforms.iter().for_each(|p| args.extend(["--platform", p]));
            args.push(name);
            barque.run(&args)
        };
        save(&["linux/amd64"], "base:1").unwrap();
        let why = save(&["linux/amd64", "linux/arm64"], "base:1").unwrap_err();
        assert!(why.contains("does not provide the specified platform (linux/arm64)"), "{why}");
        // A name without a tag stands for all its tags, not for all platforms.
        save(&["linux/amd64"], "base").unwrap();
        for other in ["linux/arm64", "linux/bogus"] {
            let sentence = format!("does not provide the specified platform ({other})");
            let why = save(&[other], "base").unwrap_err();
            assert!(why.contains(&sentence), "{why}");
            barque.fails(&["history", "--platform", other, "base:1"], &sentence);
        }
        barque.ok(&["history", "--platform", "linux/amd64", "base:1"]);
        let archive = dir.join("both.tar").display().to_string();
        barque.ok(&["save", "-o", &archive, "base:1", "phone:1"]);
        barque.fails(
            &["load", "--platform", "linux/s390x", "-i", &archive],
            "requested platform (linux/s390x) not found",
        );
        let loaded = barque.ok(&["load", "--platform", "linux/arm64", "--platform", "linux/s390x", "-i", &archive]);
        assert!(loaded.contains("phone:1") && !loaded.contains("base:1"), "{loaded}");
        for args in [&["push", "--platform", "linux/arm64", &name][..], &["rmi", "--platform", "linux/arm64", &name]] {
            barque.fails(args, "does not provide the specified platform (linux/arm64)");
        }
        barque.ok(&["rmi", "--platform", "linux/amd64", &name]);
        other_compression(dir, &barque);
        registry.kill().unwrap();
        registry.wait().unwrap();
    });
}

/// An image whose layers are here already, as other bytes, goes out under the digest that it came with.
fn other_compression(dir: &Path, barque: &Engine) {
    if !installed("skopeo") {
        return;
    }
    let saved = dir.join("plain.tar").display().to_string();
    barque.ok(&["save", "-o", &saved, "base:1"]);
    // In repositories of their own, and in one.
    let of = |place: &str| ["1", "9"].map(|level| (level, format!("{OWN}/{}", place.replace('?', level))));
    let levels: Vec<_> = ["level?/app:1", "both/app:?"].iter().flat_map(|place| of(place)).collect();
    for (level, name) in &levels {
        // The one layer packed anew: skopeo itself keeps what is packed already.
        let place = dir.join(name.replace(['/', ':'], "-")).display().to_string();
        sh(&format!(
            r#"skopeo copy -q --insecure-policy docker-archive:{saved} dir:{place} && cd {place} &&
            old=$(grep -o 'sha256:[0-9a-f]*' manifest.json | tail -n 1 | cut -d: -f2) && size=$(stat -c %s $old) &&
            {{ zcat < $old 2> /dev/null || cat $old; }} | gzip -n -{level} > new && new=$(sha256sum < new | cut -d' ' -f1) &&
            sed -i "s/$old/$new/; s/\"size\": *$size/\"size\":$(stat -c %s new)/" manifest.json && mv new $new &&
            sed -i 's/diff\.tar"/diff.tar.gzip"/' manifest.json &&
            skopeo copy -q --insecure-policy --dest-tls-verify=false --preserve-digests dir:{place} docker://{name}"#
        ));
    }
    let came: Vec<String> = levels
        .iter()
        .map(|(_, name)| {
            let said = barque.ok(&["pull", name]);
            said.lines().find_map(|l| l.strip_prefix("Digest: ")).unwrap().to_owned()
        })
        .collect();
    assert_ne!(came[0], came[1], "the registry has them as the same bytes");
    for ((_, name), came) in levels.iter().zip(came) {
        let said = barque.ok(&["push", name]);
        assert!(said.contains(&format!("digest: {came}")), "{name} came as {came}: {said}");
        // Under another name too.
        let again = format!("{name}-again");
        barque.ok(&["tag", name, &again]);
        let said = barque.ok(&["push", &again]);
        assert!(said.contains(&format!("digest: {came}")), "{again} came as {came}: {said}");
    }
}

/// Serves one file over HTTP on loopback for as long as the process lives; gives its address.
fn serve_file(path: &Path) -> String {
    use std::io::{Read as _, Write as _};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let bytes = std::fs::read(path).unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut request = [0u8; 4096];
            let _ = stream.read(&mut request);
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", bytes.len());
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&bytes));
        }
    });
    format!("http://{address}/root.tar")
}
