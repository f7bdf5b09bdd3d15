//! What is pushed.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::ops::push::{Fate, Pushed};
use crate::plan::push::Wanted;

/// A line for each name, and behind those of an image its digest: the last line is one.
#[must_use]
pub fn push_human(pushed: &[Pushed]) -> String {
    let mut text = String::new();
    for (at, one) in pushed.iter().enumerate() {
        let word = if one.was_there { "was there" } else { "pushed" };
        let _ = writeln!(text, "{} {word}", one.name);
        let next = pushed.get(at + 1);
        if next.is_none_or(|next| next.digest != one.digest) {
            let _ = writeln!(text, "{}", one.digest);
        }
    }
    text
}

/// `{"schema":"jobctl.push/1","images":[…]}`.
#[must_use]
pub fn push_json(pushed: &[Pushed]) -> Value {
    let images = pushed.iter().map(|one| {
        json!({
            "name": one.name.to_string(),
            "digest": one.digest.as_str(),
            "reference": format!("{}@{}", one.name.repository(), one.digest),
            "state": if one.was_there { "was_there" } else { "pushed" },
            "run": one.run.as_ref().map(|(id, digest)| {
                json!({ "id": id.to_string(), "digest": digest.as_str() })
            }),
        })
    });
    json!({ "schema": "jobctl.push/1", "images": images.collect::<Vec<_>>() })
}

/// What would be pushed, in its order.
#[must_use]
pub fn push_plan_human(foreseen: &[(Wanted, Fate)]) -> String {
    let mut text = String::new();
    for (one, fate) in foreseen {
        let verb = match fate {
            Fate::Pushed => "push",
            Fate::WasThere => "keep",
            Fate::Left => "leave",
        };
        let why = match fate {
            Fate::Pushed => "",
            Fate::WasThere => ", which is there already",
            Fate::Left => ", which does not get it",
        };
        let _ = writeln!(text, "{verb} {} (image {}{why})", one.name, one.id);
    }
    text
}

/// `{"schema":"jobctl.push-plan/1","images":[…]}`.
#[must_use]
pub fn push_plan_json(foreseen: &[(Wanted, Fate)]) -> Value {
    let images = foreseen.iter().map(|(one, fate)| {
        json!({
            "name": one.name.to_string(),
            "id": one.id.as_str(),
            "action": match fate {
                Fate::Pushed => "push",
                Fate::WasThere => "keep",
                Fate::Left => "leave",
            },
        })
    });
    json!({ "schema": "jobctl.push-plan/1", "images": images.collect::<Vec<_>>() })
}
