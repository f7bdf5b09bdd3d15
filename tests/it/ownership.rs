//! Only what is ours: containers, processes and files that a record names are not taken at its word.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use jobctl::model::RunId;
use jobctl::records::{EngineRecord, FileLock, Record, State, Store};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::support::docker::Container;
use crate::support::image::{DEBIAN, docker, ensure_debian};
use crate::support::project::Project;
use crate::support::{is_root, run, wait_for};

/// A run that waits, without a supervisor; its id.
fn unsupervised(project: &Project, flags: &[&str]) -> String {
    let flags = [&["-d"], flags].concat();
    let mut command = project.run_image(&flags, &["sh", "-c", "echo begun; exec sleep 600"]);
    let ended = run(&mut command);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let id = ended.stdout.trim().to_owned();
    kill_process(supervisor(&id), Signal::KILL).unwrap();
    wait_for(|| project.output(&["ps"]).contains("unattended"));
    id
}

/// The process that supervises a run.
fn supervisor(id: &str) -> Pid {
    let found = run(Command::new("pgrep").args(["-f", &format!("supervise --state .* {id}")]));
    Pid::from_raw(found.stdout.trim().parse().unwrap()).unwrap()
}

/// Changes the record of a run, as somebody may have who made it.
fn change(project: &Project, id: &str, change: impl FnOnce(&mut Value)) {
    let path = project
        .bench
        .path()
        .join(".jobctl/runs")
        .join(id)
        .join("run.json");
    let mut record: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut record);
    fs::write(&path, record.to_string()).unwrap();
}

/// A container that has ended, and that nobody but the test knows.
fn victim(command: &str) -> Container {
    ensure_debian();
    let label = "dev.jobctl.test=victim";
    let args = ["run", "-d", "--label", label, DEBIAN, "sh", "-c", command];
    Container(docker(&args).trim().to_owned())
}

fn state(container: &str) -> String {
    let format = "{{.State.Status}} {{.State.ExitCode}}";
    docker(&["inspect", "--format", format, container])
        .trim()
        .to_owned()
}

#[test]
fn a_container_that_a_record_names_is_left_alone_unless_it_is_the_runs() {
    let project = Project::empty();
    let ended = victim("mkdir /data; echo irreplaceable > /data/f");
    let up = victim("exec sleep 600");
    wait_for(|| state(&ended.0) == "exited 0");
    for victim in [&ended.0, &up.0] {
        let before = state(victim);
        let id = unsupervised(&project, &[]);
        change(&project, &id, |record| {
            record["attempts"][0]["container_id"] = json!(victim);
            record["policy"]["outputs"] = json!({ "o": "/data" });
        });
        assert!(project.output(&["ps"]).contains("unattended"));
        let ended = run(&mut project.jobctl(&["exec", &id, "cat", "/proc/1/cmdline"]));
        assert!(ended.stdout.contains("exec sleep 600"), "{ended:?}");
        assert_eq!(project.output(&["logs", &id]), "begun\n");
        project.output(&["stop", "-t", "1", &id]);
        change(&project, &id, |record| {
            record["attempts"][0]["container_id"] = json!(victim);
            record["attempts"][0]["is_removed"] = json!(false);
        });
        project.output(&["rm", &id]);
        assert_eq!(state(victim), before);
        project.assert_clean();
    }

    // A run whose container is gone, too.
    let id = unsupervised(&project, &[]);
    docker(&[
        "rm",
        "-f",
        project.containers()[0].split(' ').next().unwrap(),
    ]);
    change(&project, &id, |record| {
        record["attempts"][0]["container_id"] = json!(up.0);
        record["policy"]["outputs"] = json!({ "o": "/data" });
    });
    project.output(&["ps"]);
    let record = project.record();
    assert_eq!(record["ending"], "removed");
    assert_eq!(state(&up.0), "running 0");
    assert!(project.bench.path().join(".jobctl/runs").join(&id).exists());
}

#[test]
fn the_newest_attempt_is_told_by_its_label() {
    let project = Project::empty();
    let id = unsupervised(&project, &["--name", "zz"]);
    let name = project.containers()[0]
        .split(' ')
        .next()
        .unwrap()
        .to_owned();
    let inspected = docker(&["inspect", "--format", "{{json .Config.Labels}}", &name]);
    let mut labels: Value = serde_json::from_str(&inspected).unwrap();
    assert_eq!(labels["dev.jobctl.attempt"], "1");
    let folder = project.bench.path().join(".jobctl").canonicalize().unwrap();
    assert_eq!(labels["dev.jobctl.state"], folder.to_str().unwrap());
    labels["dev.jobctl.attempt"] = json!("10");
    let mut args = vec!["run".to_owned(), "-d".to_owned()];
    for (name, value) in labels.as_object().unwrap() {
        args.extend([
            "--label".to_owned(),
            format!("{name}={}", value.as_str().unwrap()),
        ]);
    }
    args.extend([DEBIAN, "sleep", "700"].map(str::to_owned));
    let args: Vec<_> = args.iter().map(String::as_str).collect();
    let newest = Container(docker(&args).trim().to_owned());
    let ended = run(&mut project.jobctl(&["exec", &id, "cat", "/proc/1/cmdline"]));
    assert_eq!(ended.stdout, "sleep\x00700\0", "{ended:?}");
    drop(newest);
}

#[test]
fn a_copy_of_a_state_folder_does_not_end_what_the_original_runs() {
    let project = Project::empty();
    let id = unsupervised(&project, &[]);
    let copy = project.bench.path().join("copy");
    let copied = run(Command::new("cp")
        .args(["-a"])
        .arg(project.bench.path().join(".jobctl"))
        .arg(&copy));
    assert_eq!(copied.code, Some(0), "{copied:?}");
    let there = |args: &[&str]| run(project.jobctl(args).env("JOBCTL_STATE_DIR", &copy));
    let ended = there(&["stop", &id]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("and this is a copy"), "{ended:?}");
    assert_eq!(there(&["rm", "--force", &id]).code, Some(0));
    assert!(project.output(&["ps"]).contains("unattended"));

    // One that was moved is the original.
    let moved = project.bench.path().join("moved");
    fs::rename(project.bench.path().join(".jobctl"), &moved).unwrap();
    let ended = run(project
        .jobctl(&["stop", "-t", "1", &id])
        .env("JOBCTL_STATE_DIR", &moved));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    project.assert_clean();
}

#[test]
fn a_run_whose_folder_is_moved_is_kept_there_to_its_end() {
    let project = Project::empty();
    project.bench.write("shared/.keep", "");
    let script = "until [ -e /shared/go ]; do sleep 0.05; done; echo ended; exit 3";
    let flags = ["-d", "-v", "./shared:/shared"];
    let ended = run(&mut project.run_image(&flags, &["sh", "-c", script]));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let moved = project.bench.path().join("moved");
    fs::rename(project.bench.path().join(".jobctl"), &moved).unwrap();
    project.bench.write("shared/go", "");
    let id = ended.stdout.trim();
    let there = |args: &[&str]| run(project.jobctl(args).env("JOBCTL_STATE_DIR", &moved));
    assert_eq!(there(&["wait", id]).stdout, "3\n");
    assert_eq!(there(&["logs", id]).stdout, "ended\n");
    assert!(!project.bench.path().join(".jobctl").exists());
    project.assert_clean();
}

#[test]
fn a_container_whose_record_is_gone_is_an_orphan_that_can_be_ended() {
    let project = Project::empty();
    let id = unsupervised(&project, &[]);
    fs::remove_dir_all(project.bench.path().join(".jobctl")).unwrap();
    let short = &id[..14];
    let ended = run(&mut project.jobctl(&["ps"]));
    assert!(ended.stdout.contains(" orphan "), "{ended:?}");
    let said = format!("the run {short} has a container, and its record and log are gone from");
    assert!(ended.stderr.contains(&said), "{ended:?}");
    let ended = run(&mut project.jobctl(&["rm", short]));
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert_eq!(
        project.output(&["stop", "-t", "1", short]),
        format!("{id}\n")
    );
    assert_eq!(project.output(&["rm", short]), format!("{id}\n"));
    project.assert_clean();
    // One of another host's is not ours, whatever the path of its state folder.
    let place = project.bench.path().canonicalize().unwrap().join(".jobctl");
    let [run_label, state, host] = [
        format!("dev.jobctl.run={id}"),
        format!("dev.jobctl.state={}", place.display()),
        "dev.jobctl.host=elsewhere".to_owned(),
    ];
    let mut args = vec!["create", "--label", "dev.jobctl.test=victim"];
    for label in [&run_label, &state, &host] {
        args.extend(["--label", label]);
    }
    args.extend([DEBIAN, "true"]);
    let _theirs = Container(docker(&args).trim().to_owned());
    assert!(!project.output(&["ps"]).contains("orphan"));
    // Another project's is not ours.
    let other = Project::empty();
    assert_eq!(run(&mut other.jobctl(&["stop", short])).code, Some(1));
}

/// Modes of all files and folders of a state folder but those of outputs.
fn loose(top: &Path, found: &mut Vec<String>) {
    let metadata = top.symlink_metadata().unwrap();
    let expected = if metadata.is_dir() { 0o700 } else { 0o600 };
    if metadata.mode() & 0o777 != expected {
        found.push(format!("{} {:o}", top.display(), metadata.mode()));
    }
    if metadata.is_dir() && !top.ends_with("outputs") {
        for entry in fs::read_dir(top).unwrap() {
            loose(&entry.unwrap().path(), found);
        }
    }
}

#[test]
fn the_state_folder_is_for_its_owner_alone_under_any_umask() {
    for umask in ["000", "022", "277"] {
        let project = Project::empty();
        let line = format!("umask {umask}; exec \"$0\" \"$@\"");
        let under = |command: Command| {
            let mut shell = project.bench.command("sh");
            shell
                .args(["-c", &line])
                .arg(command.get_program())
                .args(command.get_args());
            let ended = run(&mut shell);
            assert_eq!(ended.code, Some(0), "{umask}: {ended:?}");
        };
        under(project.run_image(&[], &["sh", "-c", "echo out; echo error >&2"]));
        under(project.run_image(&["-d"], &["true"]));
        under(project.jobctl(&["wait", project.records()[0]["id"].as_str().unwrap()]));
        under(project.jobctl(&["runs"]));
        let mut found = Vec::new();
        loose(&project.bench.path().join(".jobctl"), &mut found);
        assert_eq!(found, Vec::<String>::new(), "{umask}");
        project.assert_clean();
    }
}

#[test]
fn an_old_state_folder_is_closed_when_it_is_next_written_to() {
    let project = Project::empty();
    let state = project.bench.path().join(".jobctl");
    for folder in [state.clone(), state.join("runs"), state.join("staging")] {
        fs::create_dir_all(&folder).unwrap();
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
    }
    fs::write(state.join("up.lock"), "").unwrap();
    fs::set_permissions(state.join("up.lock"), fs::Permissions::from_mode(0o644)).unwrap();
    let ended = run(&mut project.run_image(&[], &["true"]));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    project.output(&["down"]);
    let mut found = Vec::new();
    loose(&state, &mut found);
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn nothing_is_written_through_a_link_in_a_state_folder() {
    let project = Project::empty();
    let state = project.bench.path().join(".jobctl");
    let precious = project.bench.write("precious", "kept");
    fs::create_dir_all(state.join("services")).unwrap();
    symlink(&precious, state.join("up.lock")).unwrap();
    let ended = run(&mut project.jobctl(&["down"]));
    assert_eq!(ended.code, Some(125), "{ended:?}");
    assert!(ended.stderr.contains("up.lock is a link"), "{ended:?}");
    assert_eq!(fs::read_to_string(&precious).unwrap(), "kept");
    fs::remove_file(state.join("up.lock")).unwrap();

    let elsewhere = project.bench.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    fs::set_permissions(&elsewhere, fs::Permissions::from_mode(0o755)).unwrap();
    for name in ["runs", ""] {
        let place = state.join(name);
        if place.exists() {
            fs::remove_dir_all(&place).unwrap();
        }
        symlink(
            &elsewhere,
            place.as_os_str().to_str().unwrap().trim_end_matches('/'),
        )
        .unwrap();
        let ended = run(&mut project.run_image(&[], &["true"]));
        assert_eq!(ended.code, Some(125), "{name}: {ended:?}");
        assert!(ended.stderr.contains("is a link"), "{ended:?}");
        assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0);
        assert_eq!(elsewhere.metadata().unwrap().mode() & 0o777, 0o755);
    }
    fs::remove_file(&state).unwrap();
    project.assert_clean();
}

#[test]
fn anothers_files_are_refused() {
    if !is_root("anothers_files_are_refused") {
        return;
    }
    let project = Project::empty();
    let state = project.bench.path().join(".jobctl");
    fs::create_dir(&state).unwrap();
    std::os::unix::fs::chown(&state, Some(12345), None).unwrap();
    let ended = run(&mut project.run_image(&[], &["true"]));
    assert_eq!(ended.code, Some(125), "{ended:?}");
    assert!(
        ended.stderr.contains(".jobctl belongs to user 12345"),
        "{ended:?}"
    );
}

/// A process that has a lock and does not hear.
struct Stranger(Child);

impl Stranger {
    fn sleeping() -> Self {
        let mut command = Command::new("sleep");
        Self(command.arg("600").stdin(Stdio::null()).spawn().unwrap())
    }

    fn is_there(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_process_is_not_ended_for_a_number_in_a_file() {
    let project =
        Project::with_name("serve:\n  image: IMAGE\n  command: [sleep, '600']\n  service: true\n");
    let service = project.bench.path().join(".jobctl/services/serve");
    fs::create_dir_all(&service).unwrap();
    let lock = service.join("lock");
    let mut stranger = Stranger::sleeping();
    // Nobody has the lock.
    fs::write(&lock, stranger.0.id().to_string()).unwrap();
    project.output(&["down"]);
    assert!(stranger.is_there());

    // Another has it than the number says, as one of an earlier version in another container.
    fs::create_dir_all(&service).unwrap();
    fs::write(&lock, stranger.0.id().to_string()).unwrap();
    let mut command = Command::new("flock");
    command.arg(&lock).args(["sleep", "600"]).process_group(0);
    let mut holder = Stranger(command.spawn().unwrap());
    wait_for(|| {
        let mut tried = Command::new("flock");
        run(tried.arg("-n").arg(&lock).arg("true")).code != Some(0)
    });
    let ended = run(&mut project.jobctl(&["down"]));
    assert_eq!(ended.code, Some(125), "{ended:?}");
    let said = "the process that listens on the ports of `serve` does not end";
    assert!(ended.stderr.contains(said), "{ended:?}");
    assert!(stranger.is_there() && holder.is_there());

    // One that says its number, and has the lock, is ended.
    fs::write(&lock, holder.0.id().to_string()).unwrap();
    let group = Pid::from_child(&holder.0);
    let ended = run(&mut project.jobctl(&["down"]));
    // Its child has the lock as well.
    let _ = rustix::process::kill_process_group(group, Signal::KILL);
    assert!(!ended.stderr.contains("panicked"), "{ended:?}");
    wait_for(|| !holder.is_there());
    project.output(&["down"]);
}

#[test]
fn a_supervisor_has_no_more_of_the_environment_than_it_needs() {
    let project = Project::empty();
    let mut command = project.run_image(&["-d"], &["sleep", "600"]);
    command
        .env("MY_PASSWORD", "canary")
        .env("XDG_RUNTIME_DIR", "/run/user/0");
    let ended = run(&mut command);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let id = ended.stdout.trim();
    let pid = supervisor(id).as_raw_pid();
    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap();
    let environment = String::from_utf8(environment).unwrap();
    let names: Vec<_> = environment
        .split_terminator('\0')
        .map(|line| line.split('=').next().unwrap())
        .collect();
    let mut names: Vec<_> = names.into_iter().collect();
    names.sort_unstable();
    assert_eq!(names, ["HOME", "PATH", "XDG_RUNTIME_DIR"]);
    project.output(&["stop", "-t", "1", id]);
    project.assert_clean();
}

#[test]
fn a_run_of_another_host_is_left_alone_and_told() {
    let project = Project::empty();
    let id = unsupervised(&project, &[]);
    change(&project, &id, |record| {
        record["host"]["name"] = json!("elsewhere");
    });
    assert!(project.output(&["ps"]).contains("running on elsewhere "));
    for verb in ["stop", "wait"] {
        let ended = run(&mut project.jobctl(&[verb, &id]));
        let said = format!("the run {} is on the host `elsewhere`", &id[..14]);
        assert!(ended.stderr.contains(&said), "{verb}: {ended:?}");
    }
    project.output(&["rm", "--force", &id]);
    project.assert_clean();
}

#[test]
fn a_state_folder_that_the_user_names_may_be_a_link() {
    let project = Project::empty();
    let [place, link] = ["place", "link"].map(|name| project.bench.path().join(name));
    fs::create_dir(&place).unwrap();
    symlink(&place, &link).unwrap();
    let mut command = project.run_image(&[], &["true"]);
    let ended = run(command.env("JOBCTL_STATE_DIR", &link));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(place.join("runs").is_dir());
    project.assert_clean();
}

/// The record of a service that is up on some other engine.
fn foreign_service(job: &str) -> Record {
    let now = jiff::Timestamp::UNIX_EPOCH;
    let mut record = Record::new(RunId::new(now), now);
    record.job = Some(job.to_owned());
    record.state = State::Running;
    record.policy.is_service = true;
    record.engine = Some(EngineRecord {
        address: "unix:///x".to_owned(),
        ..EngineRecord::default()
    });
    record
}

#[test]
fn down_does_nothing_to_a_directory_or_process_that_a_record_names() {
    let project = Project::empty();
    let victim = project.bench.path().join("victim");
    fs::create_dir(&victim).unwrap();
    fs::write(victim.join("kept"), "kept").unwrap();
    // It names this very process, which `down` would end.
    let _lock = FileLock::take(&victim.join("lock")).unwrap().unwrap();
    let store = Store::new(project.bench.path().join(".jobctl"));
    for job in [victim.to_str().unwrap(), "../../victim", "..", "."] {
        let record = foreign_service(job);
        store.begin(&record).unwrap();
        fs::create_dir_all(store.path().join("services")).unwrap();
        let ended = run(&mut project.jobctl(&["down"]));
        assert_eq!(ended.code, Some(0), "{job}: {ended:?}");
        assert_eq!(fs::read(victim.join("kept")).unwrap(), b"kept", "{job}");
        store.remove(record.id).unwrap();
    }
}

#[test]
fn down_refuses_a_service_of_another_engine_before_it_does_anything_to_it() {
    let project = Project::empty();
    let store = Store::new(project.bench.path().join(".jobctl"));
    store.begin(&foreign_service("web")).unwrap();
    let service = store.service(&"web".parse().unwrap());
    fs::create_dir_all(service.path()).unwrap();
    let _lock = FileLock::take(&service.lock()).unwrap().unwrap();
    let ended = run(&mut project.jobctl(&["down"]));
    assert_eq!(ended.code, Some(125), "{ended:?}");
    assert!(ended.stderr.contains("unix:///x"), "{ended:?}");
    assert!(FileLock::is_held(&service.lock()).unwrap());
}

#[test]
fn down_follows_no_link_to_the_service_of_another_project() {
    let project = Project::empty();
    let top = project.bench.path();
    let name = "web".parse().unwrap();
    let other = Store::new(top.join("other")).service(&name);
    fs::create_dir_all(other.path()).unwrap();
    // It names this very process, which `down` would end.
    let _lock = FileLock::take(&other.lock()).unwrap().unwrap();
    let store = Store::new(top.join(".jobctl"));
    let mut record = foreign_service("web");
    record.engine = None;
    // Its supervisor is this process.
    let _open = store.begin(&record).unwrap();
    let services = store.path().join("services");
    for (link, target) in [
        (services.join("web"), other.path()),
        (services.clone(), other.path().parent().unwrap()),
    ] {
        let _ = fs::remove_dir_all(&services);
        fs::create_dir_all(link.parent().unwrap()).unwrap();
        symlink(target, &link).unwrap();
        let ended = run(&mut project.jobctl(&["down"]));
        assert_eq!(ended.code, Some(125), "{ended:?}");
        assert!(FileLock::is_held(&other.lock()).unwrap());
        fs::remove_file(&link).unwrap();
    }
}
