//! The cure below an error: what to do about the failures that people meet most often.
//!
//! Engines of others send only Docker's sentence, so the cure is found by the sentence. The first line of a message,
//! which scripts read, stays as it is.

use barque_api::container::ContainerListQuery;
use barque_api::image::ImageListQuery;
use barque_client::Client;

use crate::cli::{Cli, distance};

/// What an object is that the engine does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Noun {
    Container,
    Image,
    Volume,
    Network,
}

impl Noun {
    fn listing(self) -> &'static str {
        match self {
            Noun::Container => "ps -a",
            Noun::Image => "images",
            Noun::Volume => "volume ls",
            Noun::Network => "network ls",
        }
    }

    fn word(self) -> &'static str {
        match self {
            Noun::Container => "container",
            Noun::Image => "image",
            Noun::Volume => "volume",
            Noun::Network => "network",
        }
    }
}

/// The message with its cure below, unless it has one already or none is known.
pub(crate) async fn with_cure(cli: &Cli, message: &str) -> String {
    if message.contains("hint: ") {
        return message.to_owned();
    }
    for line in message.lines() {
        if let Some((noun, name)) = unknown_object(line) {
            let names = match cli.connected() {
                Some(client) => names(client, noun).await,
                None => Vec::new(),
            };
            return format!("{message}\n\nhint: {}", for_unknown(&cli.program, noun, name, &names));
        }
        if let Some(cure) = of_line(&cli.program, line) {
            return format!("{message}\n\nhint: {cure}");
        }
    }
    message.to_owned()
}

/// The cure for a failure, where its message alone tells it.
pub(crate) fn of_message(program: &str, message: &str) -> Option<String> {
    if message.contains("hint: ") {
        return None;
    }
    message.lines().find_map(|line| of_line(program, line))
}

fn of_line(program: &str, line: &str) -> Option<String> {
    cure(program, line).or_else(|| of_objects(program, line)).or_else(|| of_words(line))
}

/// The object that a sentence of the engine says it does not have.
fn unknown_object(line: &str) -> Option<(Noun, &str)> {
    let after =
        |text: &str| line.split_once(text).map(|(_, rest)| rest.trim()).filter(|r| !r.contains(' ') && !r.is_empty());
    if let Some(name) = after("No such container: ") {
        return Some((Noun::Container, name));
    }
    if let Some(name) = after("No such image: ") {
        return Some((Noun::Image, name));
    }
    let between = |before: &str, behind: &str| {
        let rest = line.split_once(before)?.1;
        rest.split_once(behind).map(|(name, _)| name).filter(|name| !name.contains(' ') && !name.is_empty())
    };
    if let Some(name) = between("get ", ": no such volume") {
        return Some((Noun::Volume, name));
    }
    between("network ", " not found").map(|name| (Noun::Network, name))
}

/// All names of that kind; none where the engine does not say.
async fn names(client: &Client, noun: Noun) -> Vec<String> {
    let names: Option<Vec<String>> = match noun {
        Noun::Container => {
            let query = ContainerListQuery { all: true, ..ContainerListQuery::default() };
            let found = client.container_list(&query).await.ok();
            found.map(|all| {
                all.into_iter().flat_map(|c| c.names).map(|n| n.trim_start_matches('/').to_owned()).collect()
            })
        }
        Noun::Image => {
            let found = client.image_list(&ImageListQuery::default()).await.ok();
            found.map(|all| all.into_iter().flat_map(|i| i.repo_tags).collect())
        }
        Noun::Volume => {
            let found = client.volume_list(&Default::default()).await.ok();
            found.map(|all| all.volumes.into_iter().map(|v| v.name).collect())
        }
        Noun::Network => {
            let found = client.network_list(&Default::default()).await.ok();
            found.map(|all| all.into_iter().map(|n| n.name).collect())
        }
    };
    names.unwrap_or_default()
}

fn for_unknown(program: &str, noun: Noun, name: &str, names: &[String]) -> String {
    // Two slips of the pen, but not half of a short word.
    let limit = if name.len() < 4 { 1 } else { 2 };
    let of = |candidate: &str| {
        let bare = candidate.split_once(':').map_or(candidate, |(bare, _)| bare);
        let asked = if name.contains(':') { candidate } else { bare };
        // A name that begins so was cut short.
        let begins = name.len() >= 3 && asked.starts_with(name.strip_suffix(":latest").unwrap_or(name));
        let far = distance(asked, name).min(distance(candidate, name));
        (begins || far <= limit).then_some(far)
    };
    let near = names.iter().filter_map(|n| Some((of(n)?, n))).min();
    match near {
        Some((_, near)) => format!("did you mean {near}? All of them: {program} {}", noun.listing()),
        None if noun == Noun::Image => {
            format!("{program} images lists those that are here; {program} pull {name} fetches one from a registry")
        }
        None => format!("{program} {} lists every {} there is", noun.listing(), noun.word()),
    }
}

/// The cure for a failure whose sentence says all that is needed.
fn cure(program: &str, line: &str) -> Option<String> {
    let says = |text: &str| line.contains(text);
    let doctor = "`barque doctor` checks network, name servers and registry access";
    Some(match () {
        () if says("The container name") && says("is already in use") => {
            let name = line.split('"').nth(1).unwrap_or_default().trim_start_matches('/');
            format!("remove the other one ({program} rm -f {name}), or take another name with --name")
        }
        () if says("container is running: stop the container before removing") => {
            let name = line.split('"').nth(1).unwrap_or_default().trim_start_matches('/');
            format!("stop it first ({program} stop {name}), or remove it as it runs: {program} rm -f {name}")
        }
        () if says("no such host") || says("server misbehaving") || (says("lookup ") && says("timeout")) => {
            format!("the name cannot be found: a slip of the pen in it, or no name server answers; {doctor}")
        }
        () if says("network is unreachable") || says("Network is unreachable") || says("no route to host") => {
            format!("this machine has no way there: is it connected, is a proxy needed? {doctor}")
        }
        () if says("connection refused") && (says("dial tcp") || says("Get \"")) => {
            format!("nothing listens there: check the address, and that the server runs; {doctor}")
        }
        () if says("o such object: ") => {
            format!(
                "what there is list {program} ps -a, {program} images, {program} volume ls and {program} network ls"
            )
        }
        () if says("docker-credential-") && says("executable file not found in $PATH") => {
            "install that credential helper, or take credsStore and credHelpers out of ~/.docker/config.json".to_owned()
        }
        () if says("executable file not found in $PATH") => {
            let name = line.split("exec: \"").nth(1).and_then(|r| r.split('"').next()).unwrap_or_default();
            format!(
                "the image has no program {name:?} on its PATH: correct the command, or look inside with {program} run \
                 --rm -it --entrypoint sh IMAGE"
            )
        }
        () if says("exec: \"") && says("is a directory") => "name a program, not a directory".to_owned(),
        () if (says("exec: \"") || says("exec /")) && says("permission denied") => {
            "the file is there but may not be run: give it the right to (chmod +x, or COPY --chmod=755), or name its \
             interpreter (sh FILE)"
                .to_owned()
        }
        () if says("exec format error") => {
            "the program is for another machine (run --platform says for which), or a script whose first line names no \
             interpreter: #!/bin/sh"
                .to_owned()
        }
        () if (says("exec: \"") || says("exec /")) && says("no such file or directory") => {
            "there is no such file in the image, or its interpreter (the first line of a script, the loader of a \
             program) is missing there"
                .to_owned()
        }
        () if says("Client sent an HTTP request to an HTTPS server") => tls(program),
        _ => return None,
    })
}

/// The cure for a failure that an object, its name or its state is the cause of.
fn of_objects(program: &str, line: &str) -> Option<String> {
    let says = |text: &str| line.contains(text);
    let after = |text: &str| line.split_once(text).and_then(|(_, rest)| rest.split_whitespace().next());
    Some(match () {
        () if says("unable to delete ") && says("running container ") => {
            let user = after("running container ").unwrap_or_default();
            format!("end it first: {program} rm -f {user}")
        }
        () if says("unable to delete ") && says("(must be forced)") && says("container ") => {
            let user = after("stopped container ").or_else(|| after("container ")).unwrap_or_default();
            format!("remove the container ({program} rm {user}), or take away the name alone: {program} rmi -f")
        }
        () if says("network with name ") && says("already exists") => {
            let name = after("network with name ").unwrap_or_default();
            format!("use it as it is, take another name, or remove it: {program} network rm {name}")
        }
        () if says("is a pre-defined network and cannot be removed") => {
            format!("bridge, host and none are always there; {program} network prune removes what is unused")
        }
        () if says("no matching entries in passwd file") => {
            "the user must exist in the container's /etc/passwd; a number works without".to_owned()
        }
        () if says("Could not find the file ") => {
            let container = after(" in container ").unwrap_or_default();
            format!(
                "paths begin at the container's root; see what there is, also in one that does not run: {program} cp \
                 {container}:/DIRECTORY - | tar -t"
            )
        }
        () if says("unable to evaluate symlinks in Dockerfile path") => {
            format!("name the file with -f, or the directory that holds it: {program} build -f FILE DIRECTORY")
        }
        () if says("client version ") && says(" is too new") => {
            "let client and engine agree by themselves: unset DOCKER_API_VERSION".to_owned()
        }
        () if says("ontainer ") && says(" is not running") => {
            format!("{program} ps -a tells since when and with which status, {program} start NAME starts it")
        }
        () if says("context not found") => format!("{program} context ls lists those there are"),
        () if says("truncated tar archive") || says("archive has no manifest") || says("in a tar header") => {
            format!("is the file whole? {program} load takes what {program} save wrote, {program} import plain files")
        }
        () if says("Invalid signal: ") => "signals are names such as TERM, HUP, USR1, or numbers".to_owned(),
        () if says("An image does not exist locally with the tag: ") => {
            let name = after("with the tag: ").unwrap_or_default();
            format!("give an image that name first: {program} tag IMAGE {name}; {program} images lists them")
        }
        () if says("error gathering device information") => "see what this machine has: ls -l /dev".to_owned(),
        _ => return None,
    })
}

/// The cure for a value that cannot be.
fn of_words(line: &str) -> Option<String> {
    let says = |text: &str| line.contains(text);
    Some(
        match () {
            () if says("invalid containerPort: ") || says("invalid hostPort: ") => {
                "ports are written [ADDRESS:][HOST:]CONTAINER[/udp], from 1 to 65535: -p 8080:80"
            }
            () if says("invalid CIDR address: ") || says("invalid subnet ") => {
                "a subnet is an address and the number of its fixed bits: --subnet 10.9.0.0/24"
            }
            () if says("nvalid filter '") => {
                "ps filters by name, status, label, ancestor, network, volume, health and more; images by reference, \
             dangling, label, before, since; volume ls and network ls by name, driver, label, dangling; builder prune by \
             until, id, parent, type, description, inuse, shared, private"
            }
            () if says("file not found in build context or excluded by .dockerignore") => {
                "COPY sees what lies below the context, the last word of build, less what .dockerignore names"
            }
            () if says("Minimum memory limit allowed is 6MB") || says("Minimum memory reservation allowed is 6MB") => {
                "a number without a letter is bytes: -m 512m, -m 2g"
            }
            () if says("nvalid --security-opt") => {
                "it takes seccomp=FILE or =unconfined, apparmor=PROFILE, label=…, no-new-privileges, systempaths=unconfined"
            }
            () if says("volume name is too short") => {
                "a volume's name has two characters at least; a directory of this machine begins with / or ./"
            }
            () if says("invalid mode: ") => {
                "behind the second colon stand, with commas between: ro, rw, z, Z, nocopy, and one of private, rprivate, \
                 slave, rslave, shared, rshared"
            }
            () if says("invalid IP address: ") => {
                "ports are written [ADDRESS:][HOST:]CONTAINER[/udp]: -p 8080:80, -p 127.0.0.1:8080:80"
            }
            () if says("user specified IP address is supported on user defined networks only") => {
                "make a network first: network create --subnet 10.9.0.0/24 NAME, then --network NAME --ip 10.9.0.5"
            }
            () if line.ends_with("invalid reference format") => {
                "an image is written [HOST/]NAME[:TAG] in small letters; is there a space too much before it?"
            }
            () if says("the input device is not a TTY") => {
                "there is no terminal here (a pipe, a script, CI): leave out -t, keep -i"
            }
            () if says("invalid output path: ") => "that directory has to be there before: mkdir -p makes it",
            () if says("manifest unknown") => {
                "the registry has no such image or tag: check the spelling; HOST/v2/NAME/tags/list names the tags"
            }
            () if says("can't evaluate field ") => "--format json shows the fields there are",
            () if says("unable to prepare context: path ") && says("not found") => {
                "the last word is the directory with the Dockerfile and what it copies; \".\" is where you are"
            }
            () if says("chdir to cwd (") && says("not a directory") => "-w names a directory, which is made if missing",
            () if says("open ") && line.ends_with(": no such file or directory") => {
                "paths begin in the directory where the command is given: pwd tells it"
            }
            _ => return None,
        }
        .to_owned(),
    )
}

/// How to speak to an engine that asks for certificates.
pub(crate) fn tls(program: &str) -> String {
    format!(
        "that engine asks for TLS: {program} --tlsverify --tlscacert ca.pem --tlscert cert.pem --tlskey key.pem -H …, or \
         set DOCKER_TLS_VERIFY=1 and DOCKER_CERT_PATH"
    )
}

/// Why two ends could not agree on TLS, and whose certificate is to blame. The words are rustls'.
pub(crate) fn of_handshake(chain: &str) -> Option<&'static str> {
    let says = |text: &str| chain.contains(text);
    Some(match () {
        () if says("fatal alert: CertificateRequired") => {
            "that engine lets in only who shows a certificate: name yours with --tlscert cert.pem --tlskey key.pem, or \
             put cert.pem and key.pem into the directory DOCKER_CERT_PATH names"
        }
        () if says("fatal alert: CertificateExpired") => "your certificate has run out: have a new one signed",
        () if says("fatal alert: ") && (says("Certificate") || says("UnknownCA") || says("DecryptError")) => {
            "that engine does not accept your certificate: it takes those that the authority it was started with \
             (its --tlscacert) has signed for clients"
        }
        () if says("UnknownIssuer") || says("CaUsedAsEndEntity") || says("BadSignature") => {
            "no authority you trust has signed that engine's certificate: take the ca.pem of whoever runs it (--tlscacert)"
        }
        () if says("certificate not valid for name") || says("NotValidForName") => {
            "that engine's certificate is made out to other names: call it by one of them"
        }
        () if says("certificate expired") || says("Expired") || says("NotValidYet") => {
            "that engine's certificate is not valid today: it needs a new one, or a clock is wrong (date)"
        }
        () if says("InvalidContentType") => {
            "nothing speaks TLS there: leave out --tlsverify, or unset DOCKER_TLS_VERIFY and DOCKER_TLS"
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handshake_names_whose_certificate_is_to_blame() {
        let of = |text: &str| of_handshake(text).unwrap_or_default();
        assert!(of("connection error: received fatal alert: CertificateRequired").contains("--tlscert"));
        assert!(of("connection error: received fatal alert: CertificateUnknown").contains("does not accept"));
        assert!(of("invalid peer certificate: UnknownIssuer").contains("authority you trust"));
        assert!(of("invalid peer certificate: certificate not valid for name \"x\"").contains("other names"));
        assert!(of("invalid peer certificate: certificate expired: verification time 1").contains("clock"));
        assert!(of("received corrupt message of type InvalidContentType").contains("nothing speaks TLS"));
        assert!(of_handshake("connection refused").is_none());
    }

    #[test]
    fn what_is_unknown_and_what_is_near() {
        let daemon = "Error response from daemon: ";
        for (text, wanted) in [
            ("No such container: wbe", Some((Noun::Container, "wbe"))),
            ("No such image: nginx:latset", Some((Noun::Image, "nginx:latset"))),
            ("get data: no such volume", Some((Noun::Volume, "data"))),
            ("network lan not found", Some((Noun::Network, "lan"))),
            ("something else", None),
        ] {
            assert_eq!(unknown_object(&format!("{daemon}{text}")), wanted, "{text}");
        }
        let names = ["web".to_owned(), "postgres".to_owned(), "nginx:latest".to_owned()];
        let near = |noun, name: &str| for_unknown("barque", noun, name, &names);
        assert_eq!(near(Noun::Container, "postgers"), "did you mean postgres? All of them: barque ps -a");
        assert_eq!(near(Noun::Image, "ngins:latest"), "did you mean nginx:latest? All of them: barque images");
        assert_eq!(near(Noun::Container, "post"), "did you mean postgres? All of them: barque ps -a");
        assert_eq!(near(Noun::Volume, "zzzzzz"), "barque volume ls lists every volume there is");
        assert!(near(Noun::Image, "zzzzzz").contains("barque pull zzzzzz"));
    }

    #[test]
    fn common_failures_have_a_cure() {
        for (line, part) in [
            (
                "Error response from daemon: Conflict. The container name \"/web\" is already in use by container \"0a\".",
                "docker rm -f web",
            ),
            (
                "cannot remove container \"/web\": container is running: stop the container before removing or force remove",
                "docker stop web",
            ),
            ("dial tcp: lookup registry.example on 10.0.0.1:53: no such host", "barque doctor"),
            ("connect: network is unreachable", "proxy"),
            ("docker: Error response from daemon: exec: \"nope\": executable file not found in $PATH", "\"nope\""),
            ("exec: \"/data\": permission denied", "chmod +x"),
            ("Error response from daemon: Client sent an HTTP request to an HTTPS server.", "--tlsverify"),
        ] {
            assert!(cure("docker", line).is_some_and(|c| c.contains(part)), "{line}");
        }
        let helper = cure("docker", "exec: \"docker-credential-x\": executable file not found in $PATH");
        assert!(helper.is_some_and(|c| c.contains("credsStore")));
        let directory = cure("docker", "exec: \"/etc\": permission denied: it is a directory");
        assert!(directory.is_some_and(|c| c.contains("not a directory")));
        assert_eq!(cure("docker", "invalid reference format"), None);
        for (line, part) in [
            (
                "conflict: unable to delete a:1 (must be forced) - container 8d1c is using its referenced image 9e",
                "rm 8d1c)",
            ),
            (
                "conflict: unable to delete 9e (must be forced) - image is being used by stopped container 8d1c",
                "rm 8d1c)",
            ),
            (
                "conflict: unable to delete 9e (cannot be forced) - image is being used by running container 8d1c",
                "-f 8d1c",
            ),
            ("network with name shop already exists", "network rm shop"),
            ("bridge is a pre-defined network and cannot be removed", "network prune"),
            ("Could not find the file /nope in container web", "cp web:/DIRECTORY - | tar -t"),
            ("unable to evaluate symlinks in Dockerfile path: lstat /x: no such file or directory", "build -f"),
            ("context \"nope\": context not found: open x", "context ls"),
            ("truncated tar archive: it ends in the middle of an entry", "import"),
            ("Invalid signal: FOO", "TERM"),
            ("An image does not exist locally with the tag: a/b", "tag IMAGE a/b"),
        ] {
            assert!(of_objects("docker", line).is_some_and(|c| c.contains(part)), "{line}");
        }
        for (line, part) in [
            ("invalid argument \"x:80\" for \"-p, --publish\" flag: invalid hostPort: x", "8080:80"),
            ("open /tmp/none.env: no such file or directory", "pwd"),
            ("Error response from daemon: invalid filter 'nope'", "ancestor"),
            ("unable to start container process: exec /s.sh: no such file or directory", "its interpreter"),
            ("unable to start container process: exec /s: exec format error", "#!/bin/sh"),
            (
                "COPY failed: file not found in build context or excluded by .dockerignore: stat x: file does not exist",
                "below the context",
            ),
            ("Error response from daemon: Minimum memory limit allowed is 6MB", "-m 512m"),
        ] {
            assert!(of_message("docker", line).is_some_and(|c| c.contains(part)), "{line}");
        }
    }
}
