//! A plan as text and as JSON.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Value as Json, json};

use super::images::Need;
use super::step::{Action, Plan, Step};

fn verb(step: &Step) -> (&'static str, &'static str, &'static str) {
    match &step.action {
        Action::CreateNetwork { .. } => ("+", "create", "network"),
        Action::RecreateNetwork { .. } => ("~", "recreate", "network"),
        Action::CreateVolume { .. } => ("+", "create", "volume"),
        Action::Create { .. } => ("+", "create", "container"),
        Action::Recreate { .. } => ("~", "recreate", "container"),
        Action::Remove { .. } => ("-", "remove", "container"),
        Action::Stop { .. } => ("-", "stop", "container"),
        Action::Start { .. } => (">", "start", "container"),
    }
}

/// Steps worth a line: starting what was just made goes without saying.
fn shown(plan: &Plan) -> impl Iterator<Item = &Step> {
    plan.steps.iter().filter(|s| !matches!(&s.action, Action::Start { existing: None, .. }))
}

fn image_steps(images: &BTreeMap<String, Need>) -> Vec<(&'static str, &str, String)> {
    images
        .iter()
        .filter_map(|(service, need)| match need {
            Need::Pull { why, .. } => Some(("pull", service.as_str(), why.clone())),
            Need::PullOrBuild { why } => {
                Some(("pull", service.as_str(), format!("{why}; built if it cannot be pulled")))
            }
            Need::Build { why } => Some(("build", service.as_str(), why.clone())),
            Need::Missing => {
                Some(("missing", service.as_str(), "the image is missing and may not be pulled".to_owned()))
            }
            Need::Nothing => None,
        })
        .collect()
}

/// The plan for people: one line a step, its reasons below.
pub fn text(plan: &Plan, images: &BTreeMap<String, Need>, colour: bool) -> String {
    let mut out = String::new();
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for (verb, service, why) in image_steps(images) {
        *counts.entry(verb).or_default() += 1;
        let _ = writeln!(out, "{} {verb:<8} image of {service}\n      {why}", paint("*", "*", colour));
    }
    for step in shown(plan) {
        let (sign, verb, kind) = verb(step);
        *counts.entry(verb).or_default() += 1;
        let maybe = if step.is_maybe() { " (maybe)" } else { "" };
        let _ = writeln!(out, "{} {verb:<8} {kind} {}{maybe}", paint(sign, sign, colour), step.name);
        for reason in &step.reasons {
            let _ = writeln!(out, "      {reason}");
        }
    }
    if counts.is_empty() {
        out.push_str("Nothing to do: everything is as the file says.\n");
    } else {
        let list: Vec<String> = ["pull", "build", "missing", "create", "recreate", "stop", "start", "remove"]
            .iter()
            .filter_map(|verb| counts.get(verb).map(|n| format!("{n} to {verb}")))
            .collect();
        let _ = writeln!(out, "Plan: {}.", list.join(", ").replace("to missing", "missing"));
    }
    for warning in &plan.warnings {
        let _ = writeln!(out, "warning: {warning}");
    }
    out
}

fn paint(text: &str, sign: &str, colour: bool) -> String {
    let code = match sign {
        "+" => "32",
        "-" => "31",
        "~" => "33",
        _ => "36",
    };
    if colour { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
}

/// The plan for programs.
pub fn json(plan: &Plan, images: &BTreeMap<String, Need>) -> Json {
    let images: Vec<Json> = image_steps(images)
        .into_iter()
        .map(|(verb, service, why)| json!({"action": verb, "kind": "image", "service": service, "reasons": [{"text": why}]}))
        .collect();
    let steps: Vec<Json> = shown(plan)
        .map(|step| {
            let (_, verb, kind) = verb(step);
            let reasons: Vec<Json> = step
                .reasons
                .iter()
                .map(|r| match r.field.is_empty() {
                    true => json!({"text": r.text}),
                    false => json!({"field": r.field, "old": r.old, "new": r.new}),
                })
                .collect();
            let mut line = json!({"action": verb, "kind": kind, "name": step.name, "reasons": reasons});
            if step.is_maybe() {
                line["maybe"] = json!(true);
            }
            line
        })
        .collect();
    json!({"changes": !(images.is_empty() && steps.is_empty()), "images": images, "steps": steps, "warnings": plan.warnings})
}

/// True if carrying it out would change anything.
pub fn changes(plan: &Plan, images: &BTreeMap<String, Need>) -> bool {
    shown(plan).next().is_some() || !image_steps(images).is_empty()
}
