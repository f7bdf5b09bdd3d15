//! Releases are pushed before the names that move to them.

use std::sync::{Arc, OnceLock};

use super::Pusher;
use crate::support::image::docker;
use crate::support::registry::{Deed, Proxy, Registry};

const IMMUTABLE: &str = r#"{"errors":[{"code":"TAG_INVALID","message":"tag is immutable"}]}"#;

#[test]
fn no_name_moves_to_a_release_that_is_refused() {
    for is_deployed in [false, true] {
        let registry = Registry::new();
        let proxy = Proxy::start(registry.address(), |method, path, _| {
            if method == "PUT" && path.ends_with("/manifests/1.2.3") {
                Deed::Answer(409, "", IMMUTABLE)
            } else {
                Deed::Pass
            }
        });
        let pusher = Pusher::new(proxy.address);
        let ended = if is_deployed {
            pusher.deploy("1.2.3")
        } else {
            pusher.build("1.2.3");
            pusher.push_built(&[])
        };
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(ended.stderr.contains("immutable"), "{}", ended.stderr);
        let none: [&str; 0] = [];
        assert_eq!(registry.tags(pusher.image.as_str()), none);
    }
}

#[test]
fn no_name_moves_to_a_version_that_somebody_else_releases_meanwhile() {
    let registry = Registry::new();
    let names: Arc<OnceLock<[String; 2]>> = Arc::default();
    let known = Arc::clone(&names);
    // The first layer is sent once it is known that the version is not there.
    let proxy = Proxy::start(registry.address(), move |method, _, _| {
        if let Some([other, direct]) = known.get().filter(|_| method == "PATCH") {
            docker(&["tag", other, direct]);
            docker(&["push", "--quiet", direct]);
        }
        Deed::Pass
    });
    let pusher = Pusher::new(proxy.address);
    let repository = pusher.image.as_str();
    pusher.build("0.9.0");
    pusher.bench.write("a", "two\n");
    pusher.build("1.2.3");
    let direct = format!("{}/{repository}:1.2.3", registry.address());
    names.set([pusher.name("0.9.0"), direct]).unwrap();
    let ended = pusher.push_built(&[]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let said = format!(
        "`{}` is released already, as {}",
        pusher.name("1.2.3"),
        registry.digest(repository, "1.2.3")
    );
    assert!(ended.stderr.contains(&said), "{}", ended.stderr);
    assert_eq!(registry.tags(repository), ["1.2.3"]);
    assert_eq!(proxy.count("PUT", "/manifests/"), 0);
}

/// A pusher of 1.0.0, of whose names one exists already in the registry.
struct Moved {
    proxy: Proxy,
    pusher: Pusher,
    /// The digest of that name.
    before: String,
}

impl Moved {
    /// Somebody else moves `name` to a pre-release while `trigger` is pushed.
    fn new(registry: &Registry, name: &str, trigger: &'static str) -> Self {
        let names: Arc<OnceLock<[String; 2]>> = Arc::default();
        let known = Arc::clone(&names);
        let proxy = Proxy::start(registry.address(), move |method, path, _| {
            if method == "PUT" && path.ends_with(&format!("/manifests/{trigger}")) {
                let [other, direct] = known.get().unwrap();
                docker(&["tag", other, direct]);
                docker(&["push", "--quiet", direct]);
            }
            Deed::Pass
        });
        let pusher = Pusher::new(proxy.address);
        let repository = pusher.image.as_str();
        pusher.build("1.0.0-rc.1");
        pusher.bench.write("a", "two\n");
        pusher.build("1.0.0");
        let direct = format!("{}/{repository}:{name}", registry.address());
        docker(&["tag", &pusher.name("1.0.0"), &direct]);
        docker(&["push", "--quiet", &direct]);
        let before = registry.digest(repository, name);
        names.set([pusher.name("1.0.0-rc.1"), direct]).unwrap();
        Self {
            proxy,
            pusher,
            before,
        }
    }
}

#[test]
fn a_name_that_was_there_and_is_moved_meanwhile_is_pushed() {
    let registry = Registry::new();
    let Moved { proxy, pusher, .. } = Moved::new(&registry, "latest", "1.0.0");
    let repository = pusher.image.as_str();
    let ended = pusher.push_built(&[]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let digest = registry.digest(repository, "latest");
    assert_eq!(digest, registry.digest(repository, "1.0.0"));
    let said = format!("{} pushed\n{digest}\n", pusher.name("latest"));
    assert!(ended.stdout.ends_with(&said), "{}", ended.stdout);
    // What nobody moves was there.
    let ended = pusher.push_built(&[]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(!ended.stdout.contains(" pushed\n"), "{}", ended.stdout);
    assert_eq!(proxy.count("PUT", "/manifests/latest"), 1);
}

#[test]
fn a_name_that_was_there_and_is_moved_after_its_turn_is_reported() {
    let registry = Registry::new();
    let Moved {
        proxy: _proxy,
        pusher,
        before,
    } = Moved::new(&registry, "1.0", "latest");
    let repository = pusher.image.as_str();
    let ended = pusher.push_built(&[]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let said = format!(
        "`{}` existed already, as {before}, and was moved while others were pushed",
        pusher.name("1.0")
    );
    assert!(ended.stderr.contains(&said), "{}", ended.stderr);
    assert_eq!(ended.stdout, "");
    // The next push moves it back.
    let ended = pusher.push_built(&[]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(registry.digest(repository, "1.0"), before);
}
