//! `latest`, `1` and `1.2` never move backwards in the repository that they are pushed to.

use std::sync::{Arc, OnceLock};

use super::Pusher;
use crate::support::image::docker;
use crate::support::registry::{Deed, Proxy, Registry};

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
