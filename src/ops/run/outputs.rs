//! Outputs before a run and after it: a place for each in the container, and a second try at those that
//! could not be collected.

use std::io;

use super::adopt::{Adopted, find, look_after, secrets_of};
use super::attempt::{Work, latest};
use super::supervise::finish;
use super::{RunFailure, collect};
use crate::engine::docker::DockerEngine;
use crate::engine::run::{RunError, RunSpec};
use crate::event::{Event, Events};
use crate::facts::host::now;
use crate::model::RunId;
use crate::records::mask::Masker;
use crate::records::{Ending, Policy, Record, Store};

/// The largest `/etc/passwd` that is read.
const MOST_USERS: u64 = 1 << 20;

/// Makes the directories of outputs that the image does not have, for the user that the job runs as: one
/// that is not root could not. Where the last part of a path has a dot, it is a file most likely, and only
/// the directory that it is in is made.
///
/// Where that can't be done the job may do it by itself.
pub(super) async fn make_room(work: &Work<'_>, container: &str, spec: &RunSpec, policy: &Policy) {
    if spec.is_read_only {
        return;
    }
    for path in policy.outputs.values() {
        if is_mounted(spec, path) {
            continue;
        }
        if let Err(error) = make(work.engine, container, path).await {
            work.events.send(Event::Warning(format!(
                "`{path}` can't be made in the container, and the job has to make it: {error}"
            )));
        }
    }
}

/// Whether something is mounted at a path or above it, which has owners of its own.
fn is_mounted(spec: &RunSpec, path: &str) -> bool {
    let volumes = spec.mounts.iter().map(|mount| mount.target().as_str());
    let mut targets = volumes.chain(spec.bound.iter().map(|bound| bound.target.as_str()));
    targets.any(|target| std::path::Path::new(path).starts_with(target))
}

async fn make(engine: &DockerEngine, container: &str, path: &str) -> Result<(), RunError> {
    let (above, name) = path.rsplit_once('/').unwrap_or_default();
    let wanted = if name.contains('.') { above } else { path };
    let mut there = wanted;
    while !there.is_empty() && engine.stat(container, there).await?.is_none() {
        there = there.rsplit_once('/').unwrap_or_default().0;
    }
    let missing = wanted[there.len()..].trim_start_matches('/');
    if missing.is_empty() {
        return Ok(());
    }
    let owner = owner(engine, container).await?;
    let archive = directories(missing, owner).expect("memory can be written to");
    let parts = futures_util::stream::iter([Ok(archive.into())]);
    let there = if there.is_empty() { "/" } else { there };
    engine.copy_in(container, there, parts).await
}

/// An archive with a directory and those that it is in.
fn directories(path: &str, (user, group): (u64, u64)) -> io::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    let ends = path.match_indices('/').map(|(at, _)| at);
    for end in ends.chain([path.len()]) {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Directory);
        header.set_mode(0o755);
        header.set_uid(user);
        header.set_gid(group);
        header.set_size(0);
        header.set_mtime(u64::try_from(now().as_second()).unwrap_or(0));
        archive.append_data(&mut header, &path[..end], io::empty())?;
    }
    archive.into_inner()
}

/// The numbers of the user and the group that a container's program runs as.
async fn owner(engine: &DockerEngine, container: &str) -> Result<(u64, u64), RunError> {
    let written = engine.user_of(container).await?;
    let (user, group) = match written.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (written.as_str(), None),
    };
    if matches!(user, "" | "0" | "root") && matches!(group, None | Some("0" | "root")) {
        return Ok((0, 0));
    }
    let users = engine
        .small_file(container, "/etc/passwd", MOST_USERS)
        .await?;
    let groups = match group {
        Some(group) if group.parse::<u64>().is_err() => {
            engine
                .small_file(container, "/etc/group", MOST_USERS)
                .await?
        }
        _ => String::new(),
    };
    Ok(numbers(user, group, &users, &groups))
}

/// The numbers of a user and a group, as passwd(5) and group(5) have them. What they don't know is root's.
fn numbers(user: &str, group: Option<&str>, users: &str, groups: &str) -> (u64, u64) {
    let mut lines = users
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>());
    let known = lines.find(|fields| {
        fields.first() == Some(&user) || (fields.get(2) == Some(&user) && fields.len() > 3)
    });
    let field = |at: usize| known.as_ref()?.get(at)?.parse().ok();
    let own = user.parse().ok().or_else(|| field(2)).unwrap_or(0);
    let of_group = |group: &str| {
        let mut lines = groups
            .lines()
            .map(|line| line.split(':').collect::<Vec<_>>());
        let found = lines.find(|fields| fields.first() == Some(&group))?;
        found.get(2)?.parse().ok()
    };
    let group = match group {
        Some(group) => group.parse().ok().or_else(|| of_group(group)),
        None => field(3),
    };
    (own, group.unwrap_or(0))
}

/// Tries once more to collect the outputs of a run that could not be collected, and finishes it as it
/// would have been. What is still lost is in its record. `today` is what the job says of its outputs now:
/// where they are, how large they may be, and whether they must be there, may have been corrected.
///
/// # Errors
///
/// The run is not over, its container is gone, or the engine can't be used.
pub async fn collect_again(
    engine: &DockerEngine,
    store: &Store,
    id: RunId,
    today: Option<&Policy>,
    events: &Events,
) -> Result<Record, RunFailure> {
    if let Adopted::Unattended(_) = look_after(engine, store, id, events).await? {
        return Err(RunFailure::NotOver { id });
    }
    let folder = store.run(id);
    let Some(_lock) = folder.try_lock()? else {
        return Err(RunFailure::NotOver { id });
    };
    let mut record = folder.read()?;
    if record.ending != Some(Ending::OutputsLost) {
        return Ok(record);
    }
    let container = find(engine, &folder, &mut record).await?;
    let secrets = secrets_of(engine, &record, container.as_ref()).await?;
    let work = Work {
        engine,
        folder: &folder,
        events,
        masker: Masker::new(&secrets),
    };
    if container.is_none() {
        latest(&mut record).is_removed = true;
        work.keep(&mut record, "removed")?;
        let outputs = record.lost_outputs.into_keys().collect();
        return Err(RunFailure::ContainerGone { id, outputs });
    }
    if let Some(today) = today {
        correct(&mut record, today);
    }
    collect::collect(&work, &mut record).await;
    finish(&work, &mut record, None).await?;
    Ok(record)
}

/// Takes over what is now said of outputs that were lost.
fn correct(record: &mut Record, today: &Policy) {
    let policy = &mut record.policy;
    for name in record.lost_outputs.keys() {
        let Some(path) = today.outputs.get(name) else {
            continue;
        };
        policy.outputs.insert(name.clone(), path.clone());
        policy.max_output_bytes.remove(name);
        let most = today.max_output_bytes.get(name);
        policy
            .max_output_bytes
            .extend(most.map(|most| (name.clone(), *most)));
        policy.optional_outputs.remove(name);
        policy
            .optional_outputs
            .extend(today.optional_outputs.get(name).cloned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_and_groups_have_numbers() {
        let users = "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001::/home/app:/bin/sh\nbroken\n";
        let groups = "root:x:0:\nstaff:x:50:app\n";
        for (user, group, expected) in [
            ("app", None, (1000, 1001)),
            ("1000", None, (1000, 1001)),
            ("1234", None, (1234, 0)),
            ("app", Some("staff"), (1000, 50)),
            ("app", Some("7"), (1000, 7)),
            ("", Some("staff"), (0, 50)),
            ("nobody", Some("none"), (0, 0)),
        ] {
            assert_eq!(
                numbers(user, group, users, groups),
                expected,
                "{user} {group:?}"
            );
        }
    }
}
