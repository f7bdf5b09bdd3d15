//! Registries that fail.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::Pusher;
use crate::support::image::docker;
use crate::support::registry::{Deed, PASSWORD, Proxy, Registry, USER};
use crate::support::{Ended, run, wait_for};

/// The bytes of a large layer.
const LARGE: u64 = 100_000_000;
/// What a registry answers to one that may not push.
const DENIED: &str = r#"{"errors":[{"code":"DENIED","message":"requested access is denied"}]}"#;
const BUSY: &str = r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"slow down"}]}"#;

const UNSUPPORTED: &str =
    r#"{"errors":[{"code":"UNSUPPORTED","message":"the operation is unsupported"}]}"#;

/// A registry behind a proxy, and an image that is there to be pushed.
fn pusher(
    registry: &Registry,
    decide: impl Fn(&str, &str, usize) -> Deed + Send + Sync + 'static,
) -> (Pusher, Proxy) {
    let proxy = Proxy::start(registry.address(), decide);
    let pusher = Pusher::new(proxy.address);
    pusher.build("1.0.0");
    (pusher, proxy)
}

/// The lines that tell of another try.
fn tries(ended: &Ended) -> usize {
    let lines = ended.stderr.lines();
    lines.filter(|line| line.contains("; try ")).count()
}

#[test]
fn who_may_not_push_is_told_at_once() {
    let registry = Registry::new();
    let (pusher, proxy) = pusher(&registry, |method, path, _| match method {
        "POST" if path.contains("/blobs/uploads/") => Deed::Answer(403, "", DENIED),
        _ => Deed::Pass,
    });
    let start = Instant::now();
    let ended = pusher.push("1.0.0", &[]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    // An engine alone tries for most of a minute.
    assert!(start.elapsed() < Duration::from_secs(20));
    let repository = format!("{}/{}", pusher.registry, pusher.image.as_str());
    let said = format!("anybody without credentials has no right to push to {repository}\n");
    assert!(ended.stderr.contains(&said), "{}", ended.stderr);
    assert_eq!(proxy.count("POST", "/blobs/uploads/"), 1);
}

#[test]
fn a_wrong_password_is_told_at_once_with_its_origin() {
    let registry = Registry::with_password();
    let (pusher, proxy) = pusher(&registry, |_, _, _| Deed::Pass);
    // `me:wrong`
    let auth =
        serde_json::json!({ "auths": { pusher.registry.to_string(): { "auth": "bWU6d3Jvbmc=" } } });
    pusher
        .bench
        .write("home/.docker/config.json", &auth.to_string());
    let ended = pusher.push("1.0.0", &[]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(
        ended.stderr.contains("does not let `me` (auths of "),
        "{}",
        ended.stderr
    );
    assert!(
        ended.stderr.contains("= help: `jobctl login "),
        "{}",
        ended.stderr
    );
    assert!(!ended.stderr.contains("wrong"), "{}", ended.stderr);
    assert_eq!(tries(&ended), 0);
    assert!(proxy.count("GET", "/manifests/") <= 2);
}

#[test]
fn what_fails_twice_is_tried_again_when_the_registry_says() {
    let registry = Registry::new();
    for (status, headers, body) in [
        (429, "Retry-After: 1\r\n", BUSY),
        (503, "", ""),
        (502, "", ""),
    ] {
        let (pusher, proxy) = pusher(&registry, move |method, path, before| {
            let is_check = method == "POST" && path.ends_with("/blobs/uploads/");
            if is_check && before < 2 {
                Deed::Answer(status, headers, body)
            } else {
                Deed::Pass
            }
        });
        let ended = pusher.push("1.0.0", &[]);
        assert_eq!(ended.code, Some(0), "{status}: {ended:?}");
        assert_eq!(tries(&ended), 2, "{}", ended.stderr);
        if status == 429 {
            assert!(
                ended.stderr.contains("(429); try 2 of 5 in 1 s"),
                "{}",
                ended.stderr
            );
            assert!(
                ended.stderr.contains("(429); try 3 of 5 in 1 s"),
                "{}",
                ended.stderr
            );
        }
        assert!(proxy.count("POST", "/blobs/uploads/") >= 3);
        assert_eq!(registry.tags(pusher.image.as_str()), ["1.0.0"]);
    }
}

#[test]
fn what_a_registry_does_not_support_is_not_tried_again() {
    let registry = Registry::new();
    // Before the push, and by the engine.
    for (method, part) in [("POST", "/blobs/uploads/"), ("PUT", "/manifests/")] {
        let (pusher, proxy) = pusher(&registry, move |asked, path, _| {
            if asked == method && path.contains(part) {
                Deed::Answer(501, "", UNSUPPORTED)
            } else {
                Deed::Pass
            }
        });
        let ended = pusher.push("1.0.0", &[]);
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert_eq!(tries(&ended), 0, "{}", ended.stderr);
        assert_eq!(proxy.count(method, part), 1, "{}", ended.stderr);
    }
}

#[test]
fn what_fails_always_is_given_up() {
    let registry = Registry::new();
    let (pusher, proxy) = pusher(&registry, |method, path, _| {
        if method == "POST" && path.contains("/blobs/uploads/") {
            Deed::Answer(500, "Retry-After: 0\r\n", "")
        } else {
            Deed::Pass
        }
    });
    let ended = pusher.push("1.0.0", &[]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert_eq!(tries(&ended), 4, "{}", ended.stderr);
    assert_eq!(proxy.count("POST", "/blobs/uploads/"), 5);
    assert!(
        ended.stderr.contains("can't just now (500)"),
        "{}",
        ended.stderr
    );
    assert!(
        ended
            .stderr
            .contains("layers that are there are not sent again")
    );
    assert!(registry.tags(pusher.image.as_str()).is_empty());
}

#[test]
fn a_manifest_that_is_refused_leaves_latest_where_it_was() {
    let registry = Registry::new();
    let refused = r#"{"errors":[{"code":"TAG_INVALID","message":"tag is immutable"}]}"#;
    let proxy = Proxy::start(registry.address(), move |method, path, _| {
        if method == "PUT" && path.ends_with("/manifests/1.0") {
            Deed::Answer(409, "", refused)
        } else {
            Deed::Pass
        }
    });
    let pusher = Pusher::new(proxy.address);
    let ended = pusher.deploy("1.0.0");
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("immutable"), "{}", ended.stderr);
    let help = "= help: raise the version: `jobctl build --bump patch`";
    assert!(ended.stderr.contains(help), "{}", ended.stderr);
    let tags = registry.tags(pusher.image.as_str());
    assert!(!tags.contains(&"latest".to_owned()), "{tags:?}");
    assert_eq!(
        proxy.count("PUT", "/manifests/1.0"),
        2,
        "1.0.0, and 1.0 once"
    );
}

#[test]
fn a_link_that_breaks_in_a_layer_is_mended() {
    let registry = Registry::new();
    let broken = AtomicUsize::new(0);
    let proxy = Proxy::start(registry.address(), move |method, path, _| {
        let is_layer = method == "PATCH" && path.contains("/blobs/uploads/");
        // Each upload has a path of its own.
        if is_layer && broken.fetch_add(1, Ordering::Relaxed) < 2 {
            Deed::Break(300_000)
        } else {
            Deed::Pass
        }
    });
    let pusher = Pusher::new(proxy.address);
    pusher.fill(1_600_000);
    pusher.build("1.0.0");
    let ended = pusher.push("1.0.0", &[]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(registry.tags(pusher.image.as_str()), ["1.0.0"]);
}

/// Pushes a layer of 100 MB through a link that breaks five times; how many bytes travelled.
fn pushed_through_breaks(deed: impl Fn(usize) -> Deed + Send + Sync + 'static) -> u64 {
    let registry = Registry::new();
    let parts = AtomicUsize::new(0);
    let proxy = Proxy::start(registry.address(), move |method, path, _| {
        if method != "PATCH" || !path.contains("/blobs/uploads/") {
            return Deed::Pass;
        }
        match parts.fetch_add(1, Ordering::Relaxed) {
            part @ (5 | 20 | 40 | 60 | 70) => deed(part),
            _ => Deed::Pass,
        }
    });
    let pusher = Pusher::new(proxy.address);
    pusher.fill(LARGE);
    pusher.build("1.0.0");
    let ended = pusher.push("1.0.0", &[]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(tries(&ended), 5, "{}", ended.stderr);
    assert!(proxy.count("PATCH", "/blobs/uploads/") > 70);
    // No name of what helped is left.
    let tags = pusher.image.tags();
    let ours = |tag: &String| tag.contains(pusher.image.as_str());
    assert!(tags.iter().all(ours), "{tags:?}");
    // The engine, which has nothing of it any more, gets the same by itself.
    let repository = pusher.image.as_str();
    let (name, digest) = (pusher.name("1.0.0"), registry.digest(repository, "1.0.0"));
    let id = || docker(&["image", "inspect", "--format", "{{.Id}}", &name]);
    let before = id();
    docker(&["rmi", "-f", before.trim()]);
    let pulled = docker(&["pull", &name]);
    assert!(pulled.contains(&digest), "{pulled}");
    assert_eq!(id(), before);
    proxy.sent()
}

#[test]
fn a_layer_goes_on_where_the_link_broke() {
    // What is lost: half a chunk and more each time.
    let sent = pushed_through_breaks(|_| Deed::Lose(900_000));
    assert!(sent > LARGE + 4_000_000, "{sent}");
    assert!(sent * 10 <= LARGE * 11, "{sent}");
}

#[test]
fn what_a_registry_keeps_of_a_chunk_is_not_sent_again() {
    let sent = pushed_through_breaks(|_| Deed::Keep(900_000));
    assert!(sent >= LARGE, "{sent}");
    assert!(sent <= LARGE + 1_000_000, "{sent}");
}

#[test]
fn a_registry_that_takes_no_chunks_gets_layers_in_one_piece() {
    for (status, times) in [(405, 1), (416, 1), (500, 5)] {
        let registry = Registry::new();
        let parts = AtomicUsize::new(0);
        // It takes the first: only the next one shows that there are more.
        let (pusher, proxy) = pusher(&registry, move |method, path, _| {
            let is_part = method == "PATCH" && path.contains("/blobs/uploads/");
            if is_part && (1..=times).contains(&parts.fetch_add(1, Ordering::Relaxed)) {
                Deed::Answer(status, "Retry-After: 0\r\n", "")
            } else {
                Deed::Pass
            }
        });
        pusher.fill(3_000_000);
        pusher.build("1.0.0");
        let ended = pusher.push("1.0.0", &[]);
        assert_eq!(ended.code, Some(0), "{status}: {ended:?}");
        let said = "the engine pushes without chunks\n";
        assert!(ended.stderr.contains(said), "{}", ended.stderr);
        assert_eq!(registry.tags(pusher.image.as_str()), ["1.0.0"]);
        // The first, those that were refused, the layer in one piece, and the configuration.
        assert_eq!(proxy.count("PATCH", "/blobs/uploads/"), 1 + times + 2);
    }
}

#[test]
fn a_link_that_is_stuck_is_given_another_try() {
    if std::env::var_os("JOBCTL_TEST_FULL").is_none() {
        return;
    }
    let registry = Registry::new();
    let parts = AtomicUsize::new(0);
    let proxy = Proxy::start(registry.address(), move |method, _, _| {
        if method == "PATCH" && parts.fetch_add(1, Ordering::Relaxed) == 1 {
            Deed::Hang
        } else {
            Deed::Pass
        }
    });
    let pusher = Pusher::new(proxy.address);
    pusher.fill(3_000_000);
    pusher.build("1.0.0");
    let ended = pusher.push("1.0.0", &[]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(tries(&ended), 1, "{}", ended.stderr);
    assert!(
        ended.stderr.contains("no answer within 60 s; try 2 of 5"),
        "{}",
        ended.stderr
    );
}

#[test]
fn a_token_that_expires_while_layers_travel_is_got_anew() {
    let registry = Registry::new();
    let proxy = Proxy::with_tokens(registry.address(), 10);
    let pusher = Pusher::new(proxy.address);
    pusher.fill(20_000_000);
    pusher.build("1.0.0");
    let ended = pusher.push("1.0.0", &[]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(
        ended
            .stderr
            .contains("does not let anybody without credentials in"),
        "{}",
        ended.stderr
    );
    let before = proxy.count("GET", "/token");
    // An engine does not log in with a user where a token would do.
    let auth = STANDARD.encode(format!("{USER}:{PASSWORD}"));
    let auths = serde_json::json!({ "auths": { pusher.registry.to_string(): { "auth": auth } } });
    pusher
        .bench
        .write("home/.docker/config.json", &auths.to_string());
    let ended = pusher.push("1.0.0", &["-vv"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(tries(&ended), 0, "{}", ended.stderr);
    assert!(proxy.count("PATCH", "/blobs/uploads/") >= 20);
    // Twenty chunks need two at least.
    let given = proxy.count("GET", "/token") - before;
    assert!(given >= 4, "{given}");
    for secret in [PASSWORD, &auth, "token-"] {
        assert!(!ended.stderr.contains(secret), "{}", ended.stderr);
    }
}

#[test]
fn what_another_repository_of_the_registry_has_is_not_sent() {
    let registry = Registry::new();
    let (pusher, proxy) = pusher(&registry, |_, _, _| Deed::Pass);
    assert_eq!(pusher.push("1.0.0", &[]).code, Some(0));
    let sent = proxy.count("PATCH", "/blobs/uploads/");
    let other = format!("{}/other-{}:1.0.0", pusher.registry, pusher.image.as_str());
    docker(&["tag", &pusher.name("1.0.0"), &other]);
    let ended = run(pusher.bench.jobctl().args(["push", &other]));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(proxy.count("PATCH", "/blobs/uploads/"), sent);
    assert_eq!(
        proxy.count("POST", "mount="),
        2,
        "the layer and the configuration"
    );
}

#[test]
fn a_push_that_is_stopped_leaves_no_name() {
    let registry = Registry::new();
    let (pusher, proxy) = pusher(&registry, |method, _, _| match method {
        "PATCH" => Deed::Hang,
        _ => Deed::Pass,
    });
    let helpers = || {
        let tags = pusher.image.tags().into_iter();
        tags.filter(|tag| tag.contains("/jobctl-push:")).count()
    };
    for signal in ["INT", "KILL"] {
        let before = proxy.count("PATCH", "/blobs/uploads/");
        let mut command = pusher.command("1.0.0", &[]);
        let mut child = command.stderr(Stdio::null()).spawn().unwrap();
        wait_for(|| proxy.count("PATCH", "/blobs/uploads/") > before);
        assert_eq!(helpers(), 1);
        let id = child.id().to_string();
        let killed = run(Command::new("kill").args(["-s", signal, &id]));
        assert_eq!(killed.code, Some(0), "{killed:?}");
        let status = child.wait().unwrap();
        assert!(!status.success());
        if signal == "INT" {
            assert_eq!(helpers(), 0);
        }
    }
    // The next push, of anything, clears away what is left of one that was killed.
    let other = Pusher::new(registry.address());
    assert_eq!(other.deploy("1.0.0").code, Some(0));
    assert_eq!(helpers(), 0);
}

#[test]
fn a_registry_that_is_started_again_goes_on() {
    let mut registry = Registry::new();
    let (pusher, proxy) = pusher(&registry, |_, _, _| Deed::Pass);
    registry.stop();
    // Behind a proxy that answers nothing.
    let child = {
        let mut command = pusher.command("1.0.0", &[]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    };
    wait_for(|| proxy.count("GET", "/") > 0);
    registry.restart();
    let ended: Ended = child.wait_with_output().unwrap().into();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(registry.tags(pusher.image.as_str()), ["1.0.0"]);
}

#[test]
fn what_the_registry_has_at_the_end_is_looked_at() {
    let registry = Registry::with_password();
    let manifest = r#"{"schemaVersion":2,"config":{"digest":"sha256:0000000000000000000000000000000000000000000000000000000000000000"}}"#;
    let (pusher, _proxy) = pusher(&registry, move |method, path, before| {
        // Behind the first look and the one right before the push, somebody else's manifest is there.
        if method == "GET" && path.contains("/manifests/") && before >= 3 {
            Deed::Answer(200, "", manifest)
        } else {
            Deed::Pass
        }
    });
    assert_eq!(pusher.log_in(PASSWORD).code, Some(0));
    let ended = run(&mut pusher.command("1.0.0", &[]));
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(
        ended.stderr.contains("was pushed as sha256:"),
        "{}",
        ended.stderr
    );
    assert!(
        ended.stderr.contains("and the registry has sha256:"),
        "{}",
        ended.stderr
    );
    assert_eq!(ended.stdout, "");
}

#[test]
fn a_registry_that_accepts_nothing_of_what_it_is_sent_is_given_up() {
    let registry = Registry::new();
    let chunks = std::sync::Arc::<AtomicUsize>::default();
    let counting = std::sync::Arc::clone(&chunks);
    let (pusher, _) = pusher(&registry, move |method, _, _| {
        // What the engine sends afterwards, by itself, is let through.
        if method == "PATCH" && counting.fetch_add(1, Ordering::Relaxed) <= 10 {
            return Deed::Answer(202, "Range: 0-0\r\n", "");
        }
        Deed::Pass
    });
    let ended = pusher.push("1.0.0", &[]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let said = "it says 11 times in a row that it has less of a layer than it was sent; the engine \
                pushes without chunks";
    assert!(ended.stderr.contains(said), "{}", ended.stderr);
    assert_eq!(registry.tags(pusher.image.as_str()), ["1.0.0"]);
}

#[test]
fn a_name_that_another_build_takes_meanwhile_is_not_pushed() {
    let registry = Registry::new();
    let names: Arc<OnceLock<[String; 2]>> = Arc::default();
    let known = Arc::clone(&names);
    let (pusher, proxy) = pusher(&registry, move |method, path, _| {
        if method == "PUT" && path.ends_with("/manifests/1.1.0") {
            let [older, latest] = known.get().unwrap();
            docker(&["tag", older, latest]);
        }
        Deed::Pass
    });
    pusher.bench.write("a", "two\n");
    pusher.build("1.1.0");
    names
        .set([pusher.name("1.0.0"), pusher.name("latest")])
        .unwrap();
    let mut push = pusher.bench.jobctl();
    let name = pusher.image.as_str();
    let ended = run(push.args(["push", "--name", name, "--image-prefix", &pusher.prefix()]));
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let said = format!("`{}` means another image by now", pusher.name("latest"));
    assert!(ended.stderr.contains(&said), "{}", ended.stderr);
    assert_eq!(proxy.count("PUT", "/manifests/1.1.0"), 1);
    assert_eq!(proxy.count("PUT", "/manifests/latest"), 0);
}
