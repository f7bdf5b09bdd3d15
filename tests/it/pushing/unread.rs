//! Registries that can't be asked what they have, or don't let the user see.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::Pusher;
use crate::support::image::docker;
use crate::support::registry::{Deed, Proxy, Registry};
use crate::support::run;

const DENIED: &str = r#"{"errors":[{"code":"DENIED","message":"requested access is denied"}]}"#;

/// Has another image released in a registry, which has to be reported to a pusher.
fn released(registry: &Registry, pusher: &Pusher, tags: &[&str]) -> String {
    let repository = pusher.image.as_str();
    pusher.bench.write("a", "released before\n");
    pusher.build("1.0.0");
    for tag in tags {
        let direct = format!("{}/{repository}:{tag}", registry.address());
        docker(&["tag", &pusher.name("1.0.0"), &direct]);
        docker(&["push", "--quiet", &direct]);
    }
    pusher.bench.write("a", "another\n");
    pusher.build("1.0.0");
    registry.digest(repository, tags[0])
}

#[test]
fn a_registry_that_answers_again_keeps_what_was_released() {
    // It answers before the first try of the engine, or before the second.
    for (unanswered, tries) in [(1, 0), (2, 1)] {
        let registry = Registry::new();
        let proxy = Proxy::start(registry.address(), move |method, path, before| {
            match (method, path.ends_with("/manifests/1.0.0")) {
                ("GET", true) if before < unanswered => Deed::Lose(0),
                ("PUT", true) if before == 0 && tries > 0 => {
                    Deed::Answer(503, "", r#"{"errors":[]}"#)
                }
                _ => Deed::Pass,
            }
        });
        let pusher = Pusher::new(proxy.address);
        let before = released(&registry, &pusher, &["1.0.0"]);
        let ended = pusher.push("1.0.0", &[]);
        assert_eq!(ended.code, Some(1), "{ended:?}");
        for said in [
            "can't be asked from here what it has; only the engine reaches it".to_owned(),
            format!(
                "`{}` is released already, as {before}",
                pusher.name("1.0.0")
            ),
        ] {
            assert!(ended.stderr.contains(&said), "{said}: {}", ended.stderr);
        }
        assert_eq!(proxy.count("PUT", "/manifests/1.0.0"), tries);
        let repository = pusher.image.as_str();
        assert_eq!(registry.digest(repository, "1.0.0"), before);
        let ended = pusher.push("1.0.0", &["--force"]);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert_ne!(registry.digest(repository, "1.0.0"), before);
    }
}

#[test]
fn a_registry_that_answers_slowly_keeps_what_was_released() {
    // It lets the first one who asks wait in vain, and answers the others in its own time. One name is another's
    // release; the other belongs to a release that only the registry has.
    for (tag, has, flags, said) in [
        ("1.0.0", "1.0.0", &[][..], "is released already, as"),
        ("1.0.0", "1.0.0", &["--dry-run"], "is released already, as"),
        ("latest", "2.0.0", &[], "stays with 2.0.0: 1.0.0 is older"),
    ] {
        let registry = Registry::new();
        let first = AtomicBool::new(true);
        let proxy = Proxy::start(registry.address(), move |method, path, _| {
            let is_look = path.contains("/manifests/") || path.contains("/tags/");
            if method != "GET" || !is_look {
                return Deed::Pass;
            }
            if first.swap(false, Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(1500));
                return Deed::Lose(0);
            }
            std::thread::sleep(Duration::from_secs(3));
            Deed::Pass
        });
        let pusher = Pusher::new(proxy.address);
        let before = released(&registry, &pusher, &[has, tag]);
        docker(&[
            "rmi",
            &format!("{}/{}:{has}", registry.address(), pusher.image.as_str()),
        ]);
        let ended = pusher.push(tag, flags);
        assert_eq!(ended.code, Some(1), "{ended:?}");
        let lost = "can't be asked from here what it has; only the engine reaches it";
        assert!(ended.stderr.contains(lost), "{}", ended.stderr);
        assert!(ended.stderr.contains(said), "{}", ended.stderr);
        assert_eq!(proxy.count("PUT", "/manifests/"), 0);
        assert_eq!(registry.digest(pusher.image.as_str(), tag), before);
    }
}

#[test]
fn no_name_moves_without_its_release_where_a_registry_answers_again() {
    let registry = Registry::new();
    // Each name is asked for once in vain.
    let proxy = Proxy::start(registry.address(), |method, path, before| {
        if method == "GET" && path.contains("/manifests/") && before == 0 {
            Deed::Lose(0)
        } else {
            Deed::Pass
        }
    });
    let pusher = Pusher::new(proxy.address);
    let before = released(&registry, &pusher, &["1.0.0", "1.0", "1", "latest"]);
    let ended = pusher.push_built(&[]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("is released already"), "{ended:?}");
    assert_eq!(proxy.count("PUT", "/manifests/"), 0);
    for tag in registry.tags(pusher.image.as_str()) {
        assert_eq!(
            registry.digest(pusher.image.as_str(), &tag),
            before,
            "{tag}"
        );
    }
}

#[test]
fn an_engine_pushes_where_it_alone_reaches_the_registry() {
    let registry = Registry::new();
    // Nobody but the engine puts manifests, and nobody else is let through.
    let proxy = Proxy::start(registry.address(), |method, path, _| {
        if method == "GET" && (path.contains("/manifests/") || path.contains("/tags/")) {
            Deed::Lose(0)
        } else {
            Deed::Pass
        }
    });
    let pusher = Pusher::new(proxy.address);
    pusher.build("2.0.0");
    let ended = pusher.push_built(&[]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let said = "only the engine reaches it";
    assert_eq!(ended.stderr.matches(said).count(), 1, "{}", ended.stderr);
    let repository = pusher.image.as_str();
    let digest = |tag: &str| registry.digest(repository, tag);
    assert_eq!(digest("latest"), digest("2.0.0"));
    // What the engine has decides then.
    pusher.bench.write("a", "older\n");
    pusher.build("1.0.0");
    docker(&["tag", &pusher.name("1.0.0"), &pusher.name("latest")]);
    let ended = pusher.push("latest", &[]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let said = format!(
        "`{}` stays with 2.0.0: 1.0.0 is older",
        pusher.name("latest")
    );
    assert!(ended.stderr.contains(&said), "{}", ended.stderr);
    assert_eq!(digest("latest"), digest("2.0.0"));
}

#[test]
fn a_release_that_may_not_be_read_is_replaced_by_force_alone() {
    let registry = Registry::new();
    let proxy = Proxy::start(registry.address(), |method, path, _| match method {
        "GET" if path.contains("/manifests/") => Deed::Answer(403, "", DENIED),
        "GET" if path.contains("/tags/") => Deed::Answer(403, "", DENIED),
        _ => Deed::Pass,
    });
    let pusher = Pusher::new(proxy.address);
    let before = released(&registry, &pusher, &["1.0.0", "latest"]);
    let repository = pusher.image.as_str();
    let shown = format!("{}/{repository}", pusher.registry);
    let denied = format!("anybody without credentials has no right to pull from {shown}");
    for flags in [&["--dry-run"][..], &[]] {
        let ended = pusher.push_built(flags);
        assert_eq!(ended.code, Some(1), "{ended:?}");
        let said = format!(
            "error[push]: whether `{}` is released already can't be read: {denied}\n |\n = help: ask for the \
             right to pull from there; for what was never pushed there before, `jobctl push --force`\n",
            pusher.name("1.0.0")
        );
        assert!(ended.stderr.contains(&said), "{}", ended.stderr);
    }
    assert_eq!(proxy.count("PUT", "/manifests/"), 0);
    assert_eq!(registry.digest(repository, "1.0.0"), before);
    // What is no release is not held against anybody; a name that may move backwards is.
    docker(&["tag", &pusher.name("1.0.0"), &pusher.name("dev")]);
    let ended = pusher.push("dev", &[]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    for said in [
        format!("what `{shown}` has already can't be read, and may be replaced: {denied}"),
        format!(
            "`{}` was pushed, and can't be read back: {denied}",
            pusher.name("dev")
        ),
    ] {
        assert!(ended.stderr.contains(&said), "{said}: {}", ended.stderr);
    }
    let digest = registry.digest(repository, "dev");
    assert!(ended.stdout.ends_with(&format!("{digest}\n")), "{ended:?}");
    let ended = pusher.push("latest", &[]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let said = format!(
        "`{}` stays as it is: its registry does not list its tags",
        pusher.name("latest")
    );
    assert!(ended.stderr.contains(&said), "{}", ended.stderr);
    assert_eq!(registry.digest(repository, "latest"), before);
    let ended = pusher.push_built(&["--force"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    for tag in ["1.0.0", "1.0", "1", "latest"] {
        assert_eq!(registry.digest(repository, tag), digest, "{tag}");
    }
}

#[test]
fn who_may_neither_read_nor_push_has_no_right_to_push() {
    let registry = Registry::new();
    let proxy = Proxy::start(registry.address(), |method, path, _| match method {
        "GET" if path.contains("/manifests/") => Deed::Answer(403, "", DENIED),
        "POST" if path.contains("/blobs/uploads/") => Deed::Answer(403, "", DENIED),
        _ => Deed::Pass,
    });
    let pusher = Pusher::new(proxy.address);
    pusher.build("1.0.0");
    let ended = pusher.push("1.0.0", &[]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let said = "error[push]: anybody without credentials has no right to push to ";
    assert!(ended.stderr.starts_with(said), "{}", ended.stderr);
}

#[test]
fn a_repository_that_only_those_see_who_may_push_is_read_as_they_do() {
    let registry = Registry::new();
    let challenge: &'static str = {
        // The proxy is asked at its own address, which is known once it is there.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            use std::io::{Read as _, Write as _};
            for mut client in listener.incoming().map_while(Result::ok) {
                let mut byte = [0];
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") && client.read(&mut byte).is_ok_and(|n| n > 0) {
                    head.push(byte[0]);
                }
                let _ = client.write_all(
                    b"HTTP/1.1 200 OK\r\nContent-Length: 13\r\nConnection: close\r\n\r\n{\"token\":\"x\"}",
                );
            }
        });
        let challenge =
            format!("Www-Authenticate: Bearer realm=\"http://{address}/token\",service=\"t\"\r\n");
        challenge.leak()
    };
    // Of each two questions, the first is by one who may pull; of the first four, two are without a token.
    let proxy = Proxy::start(registry.address(), move |method, path, before| {
        if method != "GET" || !path.contains("/manifests/") {
            return Deed::Pass;
        }
        match before {
            0 | 2 => Deed::Answer(401, challenge, ""),
            _ if before == 1 || before % 2 == 0 => Deed::Answer(403, "", DENIED),
            _ => Deed::Pass,
        }
    });
    let pusher = Pusher::new(proxy.address);
    pusher.build("1.0.0");
    let ended = pusher.push("1.0.0", &[]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(!ended.stderr.contains("warning"), "{}", ended.stderr);
    assert_eq!(registry.tags(pusher.image.as_str()), ["1.0.0"]);
    assert_eq!(proxy.count("GET", "/manifests/"), 8);
    // What is released there is seen, too.
    pusher.bench.write("a", "two\n");
    pusher.build("1.0.0");
    let before = registry.digest(pusher.image.as_str(), "1.0.0");
    let direct = Pusher {
        registry: registry.address(),
        ..pusher
    };
    let name = direct.name("1.0.0");
    docker(&["tag", &format!("{}:1.0.0", direct.image.as_str()), &name]);
    let ended = run(direct.bench.jobctl().args(["push", &name]));
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let said = format!("`{name}` is released already, as {before}");
    assert!(ended.stderr.contains(&said), "{}", ended.stderr);
}

#[test]
fn what_a_refused_deploy_has_built_is_pushed_by_force_with_all_names() {
    let registry = Registry::new();
    let pusher = Pusher::new(registry.address());
    let repository = pusher.image.as_str();
    let before = released(&registry, &pusher, &["1.0.0"]);
    pusher.bench.write("a", "refused\n");
    let ended = pusher.deploy("1.0.0");
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let ended = pusher.push_built(&["--force"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let digest = registry.digest(repository, "1.0.0");
    assert_ne!(digest, before);
    for tag in registry.tags(repository) {
        assert_eq!(registry.digest(repository, &tag), digest, "{tag}");
    }
    assert!(registry.tags(repository).contains(&"latest".to_owned()));
}

#[test]
fn a_name_of_the_users_own_that_a_deploy_is_refused_for_is_pushed_as_the_help_says() {
    let registry = Registry::new();
    let pusher = Pusher::new(registry.address());
    let repository = format!("other/{}", pusher.image.as_str());
    let own = format!("{}{repository}:1.0.0", pusher.prefix());
    pusher.build("1.0.0");
    docker(&["tag", &pusher.name("1.0.0"), &own]);
    docker(&["push", "--quiet", &own]);
    let before = registry.digest(&repository, "1.0.0");
    pusher.bench.write("a", "two\n");
    let prefix = pusher.prefix();
    let flags = ["--version", "1.1.0", "--image-prefix", &prefix];
    let deploy = [&flags[..], &["--deploy", "--tag", &own]].concat();
    let ended = run(&mut pusher.image.build(&pusher.bench, &deploy));
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let said = format!("`{own}` is released already, as {before}");
    assert!(ended.stderr.contains(&said), "{}", ended.stderr);
    let (_, help) = ended.stderr.split_once("`jobctl tag ").unwrap();
    let (id, _) = help.split_once(' ').unwrap();
    let said = format!("`jobctl tag {id} {own}`, and then `jobctl push {own}`");
    assert!(ended.stderr.contains(&said), "{}", ended.stderr);
    let ended = run(pusher.bench.jobctl().args(["tag", id, &own]));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let ended = run(pusher.bench.jobctl().args(["push", &own]));
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert_eq!(registry.digest(&repository, "1.0.0"), before);
    let ended = run(pusher.bench.jobctl().args(["push", "--force", &own]));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    // The job's own names are left to `push JOB`, which pushes the same image.
    assert!(registry.tags(pusher.image.as_str()).is_empty());
    let ended = pusher.push_built(&[]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let digest = registry.digest(&repository, "1.0.0");
    assert_eq!(registry.digest(pusher.image.as_str(), "1.1.0"), digest);
}
