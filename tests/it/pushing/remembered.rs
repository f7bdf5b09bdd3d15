//! What is remembered of builds, where that can't be kept, and what others have built.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use super::Pusher;
use crate::support::image::docker;
use crate::support::registry::{Deed, Proxy, Registry};
use crate::support::{Ended, jobctl, run, wait_for};

/// What is done while something is pushed.
type Build = Box<dyn Fn() + Send + Sync>;

/// A job of a test's own, with a version.
fn write(pusher: &Pusher, version: &str) {
    let name = pusher.image.as_str();
    let label = pusher.image.label();
    let manifest = format!(
        "version: 1\nname: test\nimage: {{ prefix: \"{}\", version: {version} }}\njobs:\n  {name}: {{ build: ., \
         command: [\"/a\"] }}\n",
        pusher.prefix()
    );
    pusher.bench.write("jobs.yaml", &manifest);
    pusher.bench.write("a", version);
    let dockerfile = format!("FROM scratch\nLABEL {label}\nCOPY a /a\n");
    pusher.bench.write("Dockerfile", &dockerfile);
}

/// Calls jobctl with a home, or without one.
fn call(pusher: &Pusher, home: Option<&Path>, words: &[&str]) -> Ended {
    let mut command = pusher.bench.command(jobctl());
    command.args(words).arg(pusher.image.as_str());
    match home {
        Some(home) => command.env("HOME", home),
        None => command.env_remove("HOME"),
    };
    let ended = run(&mut command);
    assert_eq!(ended.code, Some(0), "{words:?}: {ended:?}");
    ended
}

fn id(pusher: &Pusher, tag: &str) -> String {
    let name = format!("test-{}:{tag}", pusher.image.as_str());
    let id = docker(&["image", "inspect", "--format", "{{.Id}}", &name]);
    id.trim().to_owned()
}

/// The images that would be pushed and run.
fn taken(pusher: &Pusher, home: Option<&Path>) -> [Ended; 2] {
    [
        call(pusher, home, &["push", "--dry-run"]),
        call(pusher, home, &["run", "--no-build", "--dry-run"]),
    ]
}

#[test]
fn what_is_built_is_remembered_behind_links() {
    let registry = Registry::new();
    let pusher = Pusher::new(registry.address());
    let real = pusher.bench.path().join("data");
    fs::create_dir(&real).unwrap();
    let home = pusher.bench.path().join("linked");
    symlink(&real, &home).unwrap();
    let build = |version| {
        write(&pusher, version);
        call(&pusher, Some(&home), &["build"])
    };
    build("1.0.0");
    let again = build("1.0.0");
    assert!(again.stdout.contains("up to date"), "{again:?}");
    // The cache becomes a link as well.
    let moved = pusher.bench.path().join("scratch");
    fs::rename(real.join(".cache"), &moved).unwrap();
    symlink(&moved, real.join(".cache")).unwrap();
    let ended = build("1.1.0");
    assert!(!ended.stderr.contains("warning"), "{}", ended.stderr);
    let [push, run] = taken(&pusher, Some(&home));
    assert!(push.stdout.contains(&id(&pusher, "1.1.0")), "{push:?}");
    assert!(run.stdout.contains(":1.1.0"), "{run:?}");
    for ended in [push, run] {
        assert!(!ended.stderr.contains("warning"), "{}", ended.stderr);
    }
}

#[test]
fn without_a_place_to_remember_it_the_newest_is_taken_with_a_warning() {
    let registry = Registry::new();
    let relative = Path::new("relative");
    let fix = "set XDG_CACHE_HOME to the path of a directory that you can write to";
    for home in [None, Some(Path::new("/proc")), Some(relative)] {
        let pusher = Pusher::new(registry.address());
        let said = match home {
            Some(home) if home.is_absolute() => "can't be written down in `/proc/.cache/jobctl`: ",
            _ => "neither XDG_CACHE_HOME nor HOME is an absolute path; ",
        };
        for version in ["1.0.0", "1.1.0"] {
            write(&pusher, version);
            let ended = call(&pusher, home, &["build"]);
            assert_eq!(ended.stderr.matches(said).count(), 1, "{}", ended.stderr);
            assert!(ended.stderr.contains(fix), "{}", ended.stderr);
        }
        let [push, run] = taken(&pusher, home);
        assert!(push.stdout.contains(&id(&pusher, "1.1.0")), "{push:?}");
        assert!(run.stdout.contains(":1.1.0"), "{run:?}");
        for ended in [push, run] {
            assert_eq!(ended.stderr.matches(said).count(), 1, "{}", ended.stderr);
            let chosen = "is taken for the newest of the job, by its time";
            assert!(ended.stderr.contains(chosen), "{}", ended.stderr);
        }
        let listed = call(&pusher, home, &["images", "--quiet"]);
        assert_eq!(listed.stdout.lines().count(), 2, "{listed:?}");
        assert!(listed.stderr.contains(said), "{}", listed.stderr);
        assert!(!pusher.bench.path().join(relative).exists());
    }
}

#[test]
fn a_newer_image_of_another_user_is_not_passed_over_silently() {
    let registry = Registry::new();
    let pusher = Pusher::new(registry.address());
    let [own, other] = ["home", "other"].map(|name| pusher.bench.path().join(name));
    fs::create_dir_all(&other).unwrap();
    write(&pusher, "1.0.0");
    call(&pusher, Some(&own), &["build"]);
    for ended in taken(&pusher, Some(&own)) {
        assert!(!ended.stderr.contains("warning"), "{}", ended.stderr);
    }
    write(&pusher, "1.1.0");
    call(&pusher, Some(&other), &["build"]);
    let [push, run] = taken(&pusher, Some(&own));
    assert!(push.stdout.contains(&id(&pusher, "1.0.0")), "{push:?}");
    assert!(run.stdout.contains(":1.0.0"), "{run:?}");
    let latest = format!("test-{}:latest` is another image", pusher.image.as_str());
    for ended in [push, run] {
        assert_eq!(ended.stderr.matches(&latest).count(), 1, "{}", ended.stderr);
    }
    // It is not, once the job is built here.
    call(&pusher, Some(&own), &["build"]);
    let [push, run] = taken(&pusher, Some(&own));
    for ended in [&push, &run] {
        assert!(!ended.stderr.contains("warning"), "{}", ended.stderr);
    }
    assert!(push.stdout.contains(&id(&pusher, "1.1.0")), "{push:?}");
}

#[test]
fn what_is_being_pushed_is_not_removed_by_a_build() {
    let registry = Registry::new();
    // What is built while the version is on its way.
    let building: Arc<OnceLock<Build>> = Arc::default();
    let known = Arc::clone(&building);
    let proxy = Proxy::start(registry.address(), move |method, path, before| {
        if method == "PUT" && path.ends_with("/manifests/1.0.0-rc.1") && before == 0 {
            known.get().unwrap()();
        }
        Deed::Pass
    });
    let pusher = Arc::new(Pusher::new(proxy.address));
    let home: PathBuf = pusher.bench.path().join("home");
    write(&pusher, "1.0.0-rc.1");
    call(&pusher, Some(&home), &["build"]);
    let pushed = id(&pusher, "1.0.0-rc.1");
    let contexts = |pusher: &Pusher| {
        let tags = pusher.image.tags();
        tags.iter().filter(|tag| tag.contains(":ctx-")).count()
    };
    assert_eq!(contexts(&pusher), 2);
    let other = Arc::downgrade(&pusher);
    let at = home.clone();
    // How many names of contexts there are then.
    let found: Arc<OnceLock<usize>> = Arc::default();
    let left = Arc::clone(&found);
    let build: Build = Box::new(move || {
        let pusher = other.upgrade().unwrap();
        write(&pusher, "1.0.0-rc.2");
        call(&pusher, Some(&at), &["build"]);
        assert!(left.set(contexts(&pusher)).is_ok());
    });
    assert!(building.set(build).is_ok());
    let ended = call(&pusher, Some(&home), &["push"]);
    assert_eq!(found.get(), Some(&4));
    let tags = registry.tags(&format!("test-{}", pusher.image.as_str()));
    assert!(
        tags.contains(&"1.0.0-rc.1".to_owned()),
        "{tags:?}: {ended:?}"
    );
    assert!(tags.iter().any(|tag| tag.starts_with("ctx-")), "{tags:?}");
    assert_eq!(id(&pusher, "1.0.0-rc.1"), pushed);
    // Nothing keeps it any more.
    write(&pusher, "1.0.0-rc.3");
    call(&pusher, Some(&home), &["build"]);
    wait_for(|| contexts(&pusher) == 2);
}
