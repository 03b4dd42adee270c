//! What `up` decides, without an engine.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use barque_api::container::{ContainerSummary, MountPoint, SummaryNetworkSettings};
use barque_api::network::EndpointSettings;
use barque_compose::file::hash::{self, Form};
use barque_compose::file::load::{Files, Options};
use barque_compose::file::project::{self, Project};
use barque_compose::plan::images::{ImageWish, Need, Policy, needs};
use barque_compose::plan::labels;
use barque_compose::plan::observed::{Container, Image, Observed, Resource};
use barque_compose::plan::reconcile::{self, Recreate, Wish};
use barque_compose::plan::step::{Action, Plan};
use barque_compose::plan::text;

/// One file, in memory.
struct Memory(String);

impl Files for Memory {
    fn read(&self, path: &Path) -> io::Result<String> {
        if path == Path::new("/p/compose.yaml") { Ok(self.0.clone()) } else { Err(io::ErrorKind::NotFound.into()) }
    }

    fn is_file(&self, path: &Path) -> bool {
        path == Path::new("/p/compose.yaml")
    }

    fn is_dir(&self, _: &Path) -> bool {
        false
    }
}

fn load(text: &str) -> Project {
    load_with(text, &[])
}

fn load_with(text: &str, services: &[&str]) -> Project {
    let services = services.iter().map(|s| (*s).to_owned()).collect();
    let options = Options { cwd: "/p".into(), services, ..Options::default() };
    project::load(&options, &Memory(text.to_owned())).unwrap_or_else(|e| panic!("{e}"))
}

const FILE: &str = "
services:
  db:
    image: db
    volumes: [data:/d]
    environment: {A: '1'}
  init: {image: tool, depends_on: [db]}
  web:
    image: web
    depends_on: {init: {condition: service_completed_successfully}, db: {condition: service_started}}
    networks: [front, default]
networks: {front: {}}
volumes: {data: {}}
";

/// A container as `up` would have made it.
fn container(project: &Project, service: &str, number: usize, state: &str, status: &str) -> Container {
    let spec = &project.services[service];
    let json = hash::hashed(&spec.json, Form::V5);
    let labels = BTreeMap::from([
        (labels::PROJECT.to_owned(), project.name.clone()),
        (labels::SERVICE.to_owned(), service.to_owned()),
        (labels::NUMBER.to_owned(), number.to_string()),
        (labels::HASH.to_owned(), hash::service(&spec.json, Form::V5)),
        (labels::ONEOFF.to_owned(), "False".to_owned()),
        (labels::IMAGE.to_owned(), format!("sha256:{}", spec.spec.image)),
        (labels::CONFIG.to_owned(), json.to_string()),
    ]);
    let networks = spec.spec.networks.keys().map(|key| {
        let name = project.networks[key].spec.name.clone();
        (name.clone(), Some(EndpointSettings { network_id: format!("id-{name}"), ..Default::default() }))
    });
    let mounts = spec.spec.volumes.iter().map(|v| MountPoint {
        kind: "volume".into(),
        name: project.volumes[&v.source].spec.name.clone(),
        destination: v.target.clone(),
        rw: true,
        ..Default::default()
    });
    Container::new(ContainerSummary {
        id: format!("id-{service}-{number}-{}", "0".repeat(12)),
        names: vec![format!("/{}-{service}-{number}", project.name)],
        image: spec.spec.image.clone(),
        image_id: format!("sha256:{}", spec.spec.image),
        state: state.into(),
        status: status.into(),
        labels,
        network_settings: Some(SummaryNetworkSettings { networks: networks.collect() }),
        mounts: mounts.collect(),
        ..Default::default()
    })
}

/// The project as it is after `up`.
fn settled(project: &Project) -> Observed {
    let mut observed = Observed::default();
    for name in project.services.keys() {
        let (state, status) = if name == "init" { ("exited", "Exited (0) 1 minute ago") } else { ("running", "Up") };
        observed.containers.push(container(project, name, 1, state, status));
    }
    let resource = |name: &str, hash: String| Resource {
        id: format!("id-{name}"),
        name: name.to_owned(),
        project: Some(project.name.clone()),
        hash: Some(hash),
        ..Default::default()
    };
    for network in project.networks.values() {
        let name = &network.spec.name;
        observed.networks.insert(name.clone(), resource(name, hash::network(&network.json)));
    }
    for volume in project.volumes.values() {
        let name = &volume.spec.name;
        observed.volumes.insert(name.clone(), resource(name, hash::volume(&volume.json)));
    }
    for service in project.services.values() {
        let image = Image { id: format!("sha256:{}", service.spec.image), ..Default::default() };
        observed.images.insert(service.spec.image.clone(), image);
    }
    observed
}

fn wish() -> Wish {
    Wish { start: true, ..Wish::default() }
}

fn plan(project: &Project, observed: &Observed, wish: &Wish) -> Plan {
    reconcile::plan(project, observed, wish)
}

fn lines(plan: &Plan) -> String {
    text::text(plan, &BTreeMap::new(), false)
}

#[test]
fn from_nothing_everything_is_made() {
    let project = load(FILE);
    let plan = plan(&project, &Observed::default(), &wish());
    assert_eq!(
        lines(&plan),
        "+ create   network p_default
      it does not exist
+ create   network p_front
      it does not exist
+ create   volume p_data
      it does not exist
+ create   container p-db-1
      it does not exist
+ create   container p-init-1
      it does not exist
+ create   container p-web-1
      it does not exist
Plan: 6 to create.
"
    );
    // a container waits for its networks and volumes, a start for the starts of what it needs
    let after = |name: &str, start: bool| -> Vec<String> {
        let step =
            plan.steps.iter().find(|s| s.name == name && matches!(s.action, Action::Start { .. }) == start).unwrap();
        step.after.iter().map(|i| plan.steps[*i].name.clone()).collect()
    };
    assert_eq!(after("p-db-1", false), ["p_default", "p_data"]);
    assert_eq!(after("p-web-1", false), ["p_default", "p_front"]);
    assert_eq!(after("p-web-1", true), ["p-db-1", "p-init-1", "p-web-1"]);
}

#[test]
fn as_it_should_be_nothing_is_done() {
    let project = load(FILE);
    let plan = plan(&project, &settled(&project), &wish());
    assert_eq!(lines(&plan), "Nothing to do: everything is as the file says.\n");
    // the finished one-shot is neither started nor counted as running
    assert_eq!(plan.running.iter().map(|c| c.service.as_str()).collect::<Vec<_>>(), ["db", "web"]);
}

#[test]
fn containers_of_older_compose_versions_are_kept() {
    let project = load(FILE);
    for form in hash::FORMS {
        let mut observed = settled(&project);
        for container in &mut observed.containers {
            container.hash = hash::service(&project.services[&container.service].json, form);
        }
        assert!(plan(&project, &observed, &wish()).is_empty(), "{form:?}");
    }
}

#[test]
fn only_what_changed_is_made_again_and_the_field_is_named() {
    let before = load(FILE);
    let after = load(&FILE.replace("{A: '1'}", "{A: '2', B: x}"));
    let plan = plan(&after, &settled(&before), &wish());
    assert_eq!(
        lines(&plan),
        "~ recreate container p-db-1
      environment.A: \"1\" → \"2\"
      environment.B: \"x\" added
Plan: 1 to recreate.
"
    );
}

#[test]
fn dependents_that_ask_for_it_restart_with_what_is_made_again() {
    let file = FILE.replace("db: {condition: service_started}", "db: {condition: service_started, restart: true}");
    let before = load(&file);
    let after = load(&file.replace("{A: '1'}", "{A: '2'}"));
    let plan = plan(&after, &settled(&before), &wish());
    let names: Vec<String> = plan
        .steps
        .iter()
        .map(|s| {
            let word = match s.action {
                Action::Recreate { .. } => "recreate",
                Action::Stop { .. } => "stop",
                Action::Start { .. } => "start",
                _ => "other",
            };
            format!("{word} {}", s.name)
        })
        .collect();
    assert_eq!(names, ["recreate p-db-1", "start p-db-1", "stop p-web-1", "start p-web-1"]);
    assert_eq!(plan.steps[3].after, [1, 2]);
}

#[test]
fn a_new_image_makes_the_container_again() {
    let project = load(FILE);
    let mut observed = settled(&project);
    observed.images.get_mut("web").unwrap().id = "sha256:newer".into();
    assert!(lines(&plan(&project, &observed, &wish())).contains("image id: web → newer"));
}

#[test]
fn flags_force_and_forbid() {
    let project = load(FILE);
    let observed = settled(&project);
    let force = Wish { recreate: Recreate::Always, named: vec!["web".into()], ..wish() };
    assert!(lines(&plan(&project, &observed, &force)).ends_with("Plan: 1 to recreate.\n"));
    let changed = load(&FILE.replace("{A: '1'}", "{A: '2'}"));
    let forbid = Wish { recreate: Recreate::Never, recreate_deps: Recreate::Never, ..wish() };
    assert!(plan(&changed, &observed, &forbid).is_empty());
}

#[test]
fn scaling_down_removes_the_outdated_and_the_highest_first() {
    let project = load(FILE);
    let mut observed = settled(&project);
    for number in 2..=4 {
        observed.containers.push(container(&project, "web", number, "running", "Up"));
    }
    let outdated = observed.containers.iter_mut().find(|c| c.name == "p-web-2").unwrap();
    outdated.hash = "old".into();
    outdated.labels.remove(labels::CONFIG);
    let down = Wish { scale: BTreeMap::from([("web".to_owned(), 2)]), ..wish() };
    let removed: Vec<String> = plan(&project, &observed, &down)
        .steps
        .iter()
        .filter(|s| matches!(s.action, Action::Remove { .. }))
        .map(|s| s.name.clone())
        .collect();
    assert_eq!(removed, ["p-web-4", "p-web-2"]);
}

#[test]
fn a_project_keeps_the_form_of_its_hashes() {
    let project = load(FILE);
    let mut observed = settled(&project);
    assert_eq!(reconcile::hash_form(&project, &Observed::default()), Form::WRITTEN);
    for form in [Form::V2_26, Form::V2_30] {
        for container in &mut observed.containers {
            container.hash = hash::service(&project.services[&container.service].json, form);
        }
        // both newer forms are the same here; what counts is that the older tool would know it, or the newer
        let form_of = |form| hash::service(&project.services["web"].json, form);
        assert_eq!(form_of(reconcile::hash_form(&project, &observed)), form_of(form));
    }
}

#[test]
fn a_hash_that_only_an_older_form_changes_makes_nothing_anew() {
    let project = load(FILE);
    let mut observed = settled(&project);
    for container in &mut observed.containers {
        container.hash = hash::service(&project.services[&container.service].json, Form::V2_26);
    }
    let fewer = load(&FILE.replace("depends_on: [db]", "depends_on: []"));
    assert_ne!(
        hash::service(&fewer.services["init"].json, Form::V2_26),
        hash::service(&project.services["init"].json, Form::V2_26)
    );
    assert!(plan(&fewer, &observed, &wish()).is_empty(), "the order of starting needs no other container");
}

#[test]
fn scaling_up_takes_the_free_numbers() {
    let project = load(FILE);
    let mut observed = settled(&project);
    observed.containers.push(container(&project, "web", 3, "running", "Up"));
    let up = Wish { scale: BTreeMap::from([("web".to_owned(), 4)]), ..wish() };
    let made: Vec<String> = plan(&project, &observed, &up)
        .steps
        .iter()
        .filter(|s| matches!(s.action, Action::Create { .. }))
        .map(|s| s.name.clone())
        .collect();
    assert_eq!(made, ["p-web-2", "p-web-4"]);
}

#[test]
fn orphans_are_named_and_removed_if_asked() {
    let before = load(&(FILE.replace("networks: {front", "  old: {image: x}\nnetworks: {front")));
    let observed = settled(&before);
    let after = load(FILE);
    let kept = plan(&after, &observed, &wish());
    assert_eq!(kept.orphans.iter().map(|c| c.name.as_str()).collect::<Vec<_>>(), ["p-old-1"]);
    assert!(kept.is_empty());
    let removed = plan(&after, &observed, &Wish { remove_orphans: true, ..wish() });
    assert_eq!(
        lines(&removed),
        "- remove   container p-old-1\n      the file has no service old\nPlan: 1 to remove.\n"
    );
    // services that are only not selected are no orphans
    let some = load_with(FILE, &["db"]);
    assert!(plan(&some, &settled(&load(FILE)), &wish()).orphans.is_empty());
}

#[test]
fn what_is_stopped_is_started() {
    let project = load(FILE);
    let mut observed = settled(&project);
    *observed.containers.iter_mut().find(|c| c.service == "web").unwrap() =
        container(&project, "web", 1, "exited", "Exited (137) 1 minute ago");
    assert_eq!(
        lines(&plan(&project, &observed, &wish())),
        "> start    container p-web-1\n      it has exited (137)\nPlan: 1 to start.\n"
    );
    assert!(plan(&project, &observed, &Wish::default()).is_empty());
}

#[test]
fn a_one_shot_that_failed_runs_again() {
    let project = load(FILE);
    let mut observed = settled(&project);
    *observed.containers.iter_mut().find(|c| c.service == "init").unwrap() =
        container(&project, "init", 1, "exited", "Exited (1) 1 minute ago");
    assert!(lines(&plan(&project, &observed, &wish())).contains("start    container p-init-1"));
}

#[test]
fn a_finished_one_shot_stays_finished_unless_it_is_asked_for() {
    let project = load(FILE);
    let observed = settled(&project);
    assert!(plan(&project, &observed, &wish()).is_empty(), "init ended with 0 and web waited for that");
    let named = Wish { named: vec!["web".into()], ..wish() };
    assert!(plan(&load_with(FILE, &["web"]), &observed, &named).is_empty(), "nor for those that need it");
    let asked = Wish { named: vec!["init".into()], ..wish() };
    assert_eq!(
        lines(&plan(&load_with(FILE, &["init"]), &observed, &asked)),
        "> start    container p-init-1\n      it has exited (0)\nPlan: 1 to start.\n"
    );
    let forced = Wish { recreate: Recreate::Always, ..wish() };
    assert!(lines(&plan(&project, &observed, &forced)).contains("~ recreate container p-init-1"));
    let changed = load(&FILE.replace("{image: tool,", "{image: tool, command: again,"));
    assert!(lines(&plan(&changed, &observed, &wish())).contains("~ recreate container p-init-1"), "changed, it is new");
}

#[test]
fn what_ended_and_is_awaited_by_none_starts_again() {
    // `db` ended with 0, or `stop` ended it: both look the same
    let project = load(FILE);
    let mut observed = settled(&project);
    *observed.containers.iter_mut().find(|c| c.service == "db").unwrap() =
        container(&project, "db", 1, "exited", "Exited (0) 1 minute ago");
    assert_eq!(
        lines(&plan(&project, &observed, &wish())),
        "> start    container p-db-1\n      it has exited (0)\nPlan: 1 to start.\n"
    );
}

#[test]
fn what_is_in_a_changed_network_is_made_again_and_the_others_return_to_it() {
    let project = load_with(FILE, &["web"]);
    let mut observed = settled(&load(FILE));
    observed.networks.get_mut("p_front").unwrap().hash = Some("other".into());
    let other = observed.containers.iter_mut().find(|c| c.service == "db").unwrap();
    other.networks.insert("p_front".into(), "id-p_front".into());
    let mut oneoff = container(&project, "web", 9, "exited", "Exited (0) 1 minute ago");
    (oneoff.oneoff, oneoff.name) = (true, "p-web-run-1".into());
    observed.containers.push(oneoff);
    let no_deps = Wish { named: vec!["web".into()], ..wish() };
    let text = lines(&plan(&project, &observed, &no_deps));
    let returns = "~ recreate network p_front
      its configuration changed
      container p-db-1 is stopped, connected to it and started again
      container p-web-run-1 is connected to it again
";
    assert!(text.starts_with(returns), "{text}");
    assert!(text.contains("~ recreate container p-web-1\n      network p_front is made again\n"), "{text}");
    let forbid = Wish { recreate: Recreate::Never, recreate_deps: Recreate::Never, ..wish() };
    let forbidden = plan(&load(FILE), &observed, &forbid);
    let Action::RecreateNetwork { users, kept, .. } = &forbidden.steps[0].action else { panic!("{forbidden:?}") };
    assert_eq!((users.len(), kept.len(), forbidden.steps.len()), (3, 3, 1), "all return, and none is started twice");
}

#[test]
fn containers_wait_for_the_networks_they_were_in() {
    let before = load(FILE);
    let after = load(
        &FILE
            .replace("networks: [front, default]", "networks: [default]")
            .replace("{image: tool,", "{image: tool, networks: [front],"),
    );
    let mut observed = settled(&before);
    for network in observed.networks.values_mut() {
        network.hash = Some("other".into());
    }
    let plan = plan(&after, &observed, &Wish { scale: BTreeMap::from([("db".to_owned(), 0)]), ..wish() });
    let step = |name: &str| plan.steps.iter().position(|s| s.name == name).unwrap();
    let (default, front) = (step("p_default"), step("p_front"));
    assert_eq!(plan.steps[front].after, [default], "a container may be in both");
    let after = |name: &str| &plan.steps[step(name)].after;
    assert!(after("p-web-1").contains(&front), "it was in front: {plan:?}");
    assert!(after("p-db-1").contains(&default), "{plan:?}");
}

#[test]
fn a_stopped_container_that_lost_its_network_is_made_again() {
    let project = load(FILE);
    let mut observed = settled(&project);
    let web = observed.containers.iter_mut().find(|c| c.service == "web").unwrap();
    *web = container(&project, "web", 1, "exited", "Exited (0) 1 minute ago");
    web.networks.remove("p_front");
    assert!(lines(&plan(&project, &observed, &wish())).contains("it is not connected to network p_front"));
}

#[test]
fn a_plan_is_no_surer_than_up() {
    let project = load(FILE);
    let mut observed = settled(&project);
    let pending = Wish { images_pending: [("web".to_owned(), "pull_policy: always".to_owned())].into(), ..wish() };
    let maybe = plan(&project, &observed, &pending);
    assert_eq!(
        lines(&maybe),
        "~ recreate container p-web-1 (maybe)
      if the new image differs (pull_policy: always)
Plan: 1 to recreate.
"
    );
    assert_eq!(text::json(&maybe, &BTreeMap::new())["steps"][0]["maybe"], true);
    let deps = Wish { named: vec!["web".into()], recreate_deps: Recreate::Always, ..wish() };
    let text = lines(&plan(&project, &observed, &deps));
    assert!(text.contains("--always-recreate-deps") && !text.contains("--force-recreate"), "{text}");
    // networks and volumes name their fields, too
    let changed =
        load(&FILE.replace("front: {}", "front: {internal: true}").replace("data: {}", "data: {driver_opts: {o: a}}"));
    observed.networks.get_mut("p_front").unwrap().config = Some(project.networks["front"].json.clone());
    observed.volumes.get_mut("p_data").unwrap().config = Some(project.volumes["data"].json.clone());
    let text = lines(&plan(&changed, &observed, &wish()));
    assert!(text.contains("~ recreate network p_front\n      internal: true added\n"), "{text}");
    assert!(text.contains("match configuration in compose file: driver_opts"), "{text}");
}

#[test]
fn resources_of_others_are_not_touched() {
    let project = load(FILE);
    let mut observed = Observed::default();
    let foreign = |project: Option<&str>| Resource { project: project.map(str::to_owned), ..Resource::default() };
    observed.networks.insert("p_front".into(), foreign(None));
    observed.volumes.insert("p_data".into(), foreign(Some("elsewhere")));
    let plan = plan(&project, &observed, &wish());
    assert!(plan.warnings[0].contains("network with name p_front exists but was not created by compose"));
    assert!(plan.warnings[1].contains("already exists but was created for project \"elsewhere\""));
    assert!(!plan.steps.iter().any(|s| s.name == "p_front" || s.name == "p_data"));
}

#[test]
fn what_shares_a_namespace_is_made_again_with_its_owner() {
    let file = "services:\n  a: {image: x, environment: {A: '1'}}\n  b: {image: x, network_mode: 'service:a'}\n";
    let before = load(file);
    let mut observed = settled(&before);
    let json = reconcile::resolved(&before.services["b"], &observed);
    observed.containers[1].hash = hash::service(&json, Form::V5);
    assert!(plan(&before, &observed, &wish()).is_empty());
    let after = load(&file.replace("'1'", "'2'"));
    assert!(
        lines(&plan(&after, &observed, &wish()))
            .contains("service a, whose namespace or volumes it shares, is made again")
    );
}

#[test]
fn a_disconnected_container_is_made_again() {
    let project = load(FILE);
    let mut observed = settled(&project);
    observed.containers.iter_mut().find(|c| c.service == "web").unwrap().networks.remove("p_front");
    assert!(lines(&plan(&project, &observed, &wish())).contains("it is not connected to network p_front"));
}

#[test]
fn images_are_pulled_or_built_as_each_service_says() {
    let project = load(
        "services:
  there: {image: there}
  missing: {image: missing}
  built: {build: .}
  both: {image: both, build: .}
  always: {image: there, pull_policy: always}
  never: {image: missing, pull_policy: never}
  rebuilt: {image: there, build: ., pull_policy: build}
  daily: {image: there, pull_policy: daily}
",
    );
    let mut observed = Observed::default();
    let image = Image { id: "x".into(), tagged: "2026-01-01T00:00:00Z".into(), ..Image::default() };
    observed.images.insert("there".into(), image);
    let now = "2026-01-01T12:00:00Z".parse::<jiff::Timestamp>().unwrap().as_second();
    let words = |wish: ImageWish, now: i64| -> Vec<&'static str> {
        needs(&project, &observed, wish, now)
            .into_values()
            .map(|need| match need {
                Need::Nothing => "-",
                Need::Pull { .. } => "pull",
                Need::PullOrBuild { .. } => "pull or build",
                Need::Build { .. } => "build",
                Need::Missing => "missing",
            })
            .collect()
    };
    // always both built daily missing never rebuilt there
    let old = load("services: {a: {image: there, pull_policy: refresh, pull_refresh_after: 2h}}");
    let of = |now| needs(&old, &observed, ImageWish::default(), now)["a"].clone();
    assert!(matches!(of(now - 11 * 3600), Need::Nothing), "an hour old");
    assert!(matches!(of(now), Need::Pull { .. }), "older than its own time");
    let usual = ImageWish::default();
    assert_eq!(words(usual, now), ["pull", "pull or build", "build", "-", "pull", "missing", "build", "-"]);
    assert_eq!(words(usual, now + 86_400)[3], "pull");
    let build = ImageWish { build: true, ..usual };
    assert_eq!(words(build, now), ["pull", "build", "build", "-", "pull", "missing", "build", "-"]);
    let no_build = ImageWish { no_build: true, ..usual };
    assert_eq!(words(no_build, now), ["pull", "pull", "missing", "-", "pull", "missing", "-", "-"]);
    let never = ImageWish { pull: Policy::Never, ..usual };
    assert_eq!(words(never, now), ["-", "build", "build", "-", "missing", "missing", "-", "-"]);
}
