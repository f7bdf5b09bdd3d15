//! `latest`, `1` and `1.2` never move backwards in the repository that they are pushed to.

use std::sync::{Arc, OnceLock};

use super::Pusher;
use crate::support::image::docker;
use crate::support::registry::{Deed, Proxy, Registry};
use crate::support::run;

#[test]
fn a_newer_release_that_is_pushed_meanwhile_keeps_its_names() {
    let registry = Registry::new();
    // What is pushed straight to the registry, by another, while the older release is on its way.
    let names: Arc<OnceLock<[String; 3]>> = Arc::default();
    let known = Arc::clone(&names);
    let proxy = Proxy::start(registry.address(), move |method, path, _| {
        if method == "PUT" && path.ends_with("/manifests/1.0.0") {
            let [newer, others @ ..] = known.get().unwrap();
            for other in others {
                docker(&["tag", newer, other]);
                docker(&["push", "--quiet", other]);
            }
        }
        Deed::Pass
    });
    let pusher = Pusher::new(proxy.address);
    let repository = pusher.image.as_str();
    pusher.build("1.0.0");
    pusher.bench.write("a", "two\n");
    pusher.build("2.0.0");
    docker(&["tag", &pusher.name("1.0.0"), &pusher.name("latest")]);
    let direct = |tag: &str| format!("{}/{repository}:{tag}", registry.address());
    names
        .set([pusher.name("2.0.0"), direct("2.0.0"), direct("latest")])
        .unwrap();
    let ended = pusher.push_built(&["--version", "1.0.0"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let said = format!(
        "`{}` stays as it is: 1.0.0 is older than 2.0.0",
        pusher.name("latest")
    );
    assert_eq!(ended.stderr.matches(&said).count(), 1, "{}", ended.stderr);
    assert_eq!(proxy.count("PUT", "/manifests/latest"), 0);
    let digest = |tag: &str| registry.digest(repository, tag);
    assert_eq!(digest("latest"), digest("2.0.0"));
    assert_eq!(digest("1"), digest("1.0.0"));
    // The digest is that of what was pushed.
    assert!(ended.stdout.ends_with(&format!("{}\n", digest("1.0.0"))));
}

#[test]
fn a_prerelease_moves_latest_forwards_alone() {
    let registry = Registry::new();
    let pusher = Pusher::new(registry.address());
    let digest = |tag: &str| registry.digest(pusher.image.as_str(), tag);
    let latest = pusher.name("latest");
    let deploy = |version: &str| {
        pusher.bench.write("a", version);
        let prefix = pusher.prefix();
        let flags = ["--version", version, "--image-prefix", &prefix];
        let asked = ["--deploy", "--tag", &latest];
        run(&mut pusher
            .image
            .build(&pusher.bench, &[&flags[..], &asked].concat()))
    };
    pusher.released("1.3.0");
    // It comes before that release, and before others of the same line.
    for version in ["1.3.0-rc.2", "1.2.4-rc.1"] {
        let ended = deploy(version);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let said = format!("`{latest}` stays as it is: {version} is older than 1.3.0");
        assert!(ended.stderr.contains(&said), "{}", ended.stderr);
        assert_ne!(digest(version), digest("1.3.0"));
        assert_eq!(digest("latest"), digest("1.3.0"));
        assert_eq!(pusher.ids("latest")[0], pusher.ids("1.3.0")[0]);
    }
    let ended = deploy("1.4.0-rc.1");
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(digest("latest"), digest("1.4.0-rc.1"));
    // By its name alone, be its version in a label or in another name of it.
    docker(&["tag", &pusher.name("1.3.0-rc.2"), &latest]);
    let ended = pusher.push("latest", &[]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let said = format!("`{latest}` stays with 1.3.0: 1.3.0-rc.2 is older");
    assert!(ended.stderr.contains(&said), "{}", ended.stderr);
    assert_eq!(digest("latest"), digest("1.4.0-rc.1"));
    let ended = pusher.push("latest", &["--force"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(digest("latest"), digest("1.3.0-rc.2"));
}

#[test]
fn what_another_repository_has_keeps_no_name_from_a_new_one() {
    let registry = Registry::new();
    let pusher = Pusher::new(registry.address());
    let name = pusher.image.as_str();
    let build = |version: &str| {
        pusher.bench.write("a", version);
        let ended = run(&mut pusher.image.build(&pusher.bench, &["--version", version]));
        assert_eq!(ended.code, Some(0), "{ended:?}");
    };
    build("2.0.0");
    let ended = pusher.released("1.2.3");
    let said = format!("version 1.2.3 does not get `{name}:latest`: 2.0.0 is newer");
    assert!(ended.stderr.contains(&said), "{}", ended.stderr);
    let digest = |repository: &str, tag: &str| registry.digest(repository, tag);
    assert_eq!(digest(name, "latest"), digest(name, "1.2.3"));
    let [with, without] = pusher.ids("latest");
    assert_eq!(with, pusher.ids("1.2.3")[0]);
    assert_eq!(without, pusher.ids("2.0.0")[1]);
    // One that was built without a prefix, after a newer one, is the newest of a repository that is new.
    build("1.2.4");
    assert_eq!(pusher.ids("latest")[1], without);
    let prefix = format!("{}team-", pusher.prefix());
    let mut push = pusher.bench.jobctl();
    push.args(["push", "--name", name, "--image-prefix", &prefix]);
    let ended = run(push.args(["--version", "1.2.4"]));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let repository = format!("team-{name}");
    for tag in ["latest", "1", "1.2"] {
        assert_eq!(digest(&repository, tag), digest(&repository, "1.2.4"));
    }
    // And not of the first one any more.
    let ended = pusher.push_built(&["--version", "2.0.0"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(digest(name, "latest"), digest(name, "2.0.0"));
    let ended = pusher.push_built(&["--version", "1.2.4"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(digest(name, "latest"), digest(name, "2.0.0"));
    assert_eq!(digest(name, "1"), digest(name, "1.2.4"));
}

#[test]
fn a_name_that_another_repository_keeps_moves_in_its_own() {
    let registry = Registry::new();
    let pusher = Pusher::new(registry.address());
    let name = pusher.image.as_str();
    // It ends like the job's own, and has a newer release.
    let other = |tag: &str| format!("{}other/{name}:{tag}", pusher.prefix());
    pusher.build("2.0.0");
    for tag in ["2.0.0", "latest"] {
        docker(&["tag", &pusher.name("2.0.0"), &other(tag)]);
        docker(&["push", "--quiet", &other(tag)]);
    }
    let names = pusher.image.tags();
    docker(
        &[
            &["rmi"],
            &names.iter().map(String::as_str).collect::<Vec<_>>()[..],
        ]
        .concat(),
    );
    pusher.bench.write("a", "two\n");
    let prefix = pusher.prefix();
    let own = other("latest");
    let flags = ["--version", "1.0.0", "--image-prefix", &prefix, "--deploy"];
    let flags = [&flags[..], &["--tag", &own]].concat();
    let ended = run(&mut pusher.image.build(&pusher.bench, &flags));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let said = format!("`{own}` stays as it is: 1.0.0 is older than 2.0.0");
    assert!(ended.stderr.contains(&said), "{}", ended.stderr);
    assert_eq!(
        registry.digest(name, "latest"),
        registry.digest(name, "1.0.0")
    );
    assert!(!pusher.image.tags().contains(&own));
    let [with, without] = pusher.ids("latest");
    assert!(with.is_some());
    assert_eq!(without, with);
}
