//! Where credentials come from.

use std::os::unix::fs::{PermissionsExt as _, symlink};

use super::Pusher;
use crate::support::registry::{PASSWORD, Registry, USER};
use crate::support::{Bench, run};

/// `me:s3cret?~>pw`
const AUTH: &str = "bWU6czNjcmV0P34+cHc=";

/// A helper for credentials, as a script; found in the bench's own folder of programs.
fn helper(pusher: &Pusher, name: &str, script: &str) -> String {
    let program = format!("bin/docker-credential-{name}");
    let path = pusher
        .bench
        .write(&program, &format!("#!/bin/sh\n{script}\n"));
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    let folder = path.parent().unwrap().display().to_string();
    format!("{folder}:{}", std::env::var("PATH").unwrap())
}

fn configure(pusher: &Pusher, config: &serde_json::Value) {
    pusher
        .bench
        .write("home/.docker/config.json", &config.to_string());
}

#[test]
fn helpers_and_variables_are_asked_in_dockers_order() {
    let registry = Registry::with_password();
    let pusher = Pusher::new(registry.address());
    pusher.build("1.0.0");
    let server = pusher.registry.to_string();
    let script = format!(
        "[ \"$1\" = get ] && [ \"$(cat)\" = '{server}' ] && echo '{{\"ServerURL\":\"{server}\",\"Username\":\"{USER}\",\"Secret\":\"{PASSWORD}\"}}'"
    );
    let path = helper(&pusher, "good", &script);
    helper(
        &pusher,
        "bad",
        "echo \"credentials not found in native keychain\"; exit 1",
    );
    helper(
        &pusher,
        "null",
        "echo '{\"ServerURL\":null,\"Username\":null,\"Secret\":null}'",
    );
    for (config, code) in [
        (serde_json::json!({ "credsStore": "good" }), 0),
        (
            serde_json::json!({ "credsStore": "bad", "credHelpers": { &server: "good" } }),
            0,
        ),
        (
            serde_json::json!({ "credsStore": "good", "credHelpers": { &server: "bad" } }),
            1,
        ),
        (serde_json::json!({ "credsStore": "bad" }), 1),
        // An empty helper is the file, as for docker, and `null` is nothing at all.
        (
            serde_json::json!({
                "credsStore": "bad",
                "credHelpers": { &server: "" },
                "auths": { &server: { "auth": AUTH } },
            }),
            0,
        ),
        // A registry's own helper that is `null` is an empty one.
        (
            serde_json::json!({
                "credsStore": "bad",
                "credHelpers": { &server: null },
                "auths": { &server: { "auth": AUTH } },
            }),
            0,
        ),
        (
            serde_json::json!({
                "credsStore": "good",
                "credHelpers": { "other.example": null },
            }),
            0,
        ),
        // One that answers `null` knows no credentials.
        (serde_json::json!({ "credsStore": "null" }), 1),
        (
            serde_json::json!({
                "credsStore": null,
                "credHelpers": null,
                "currentContext": null,
                "proxies": { "default": null },
                "auths": { "other.example": null, &server: { "auth": AUTH, "identitytoken": null } },
            }),
            0,
        ),
    ] {
        configure(&pusher, &config);
        let ended = run(pusher.command("1.0.0", &[]).env("PATH", &path));
        assert_eq!(ended.code, Some(code), "{config}: {ended:?}");
    }
    let variable = serde_json::json!({ "auths": { &server: { "auth": AUTH } } });
    let mut command = pusher.command("1.0.0", &[]);
    let ended = run(command
        .env("PATH", &path)
        .env("DOCKER_AUTH_CONFIG", variable.to_string()));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let mut command = pusher.command("1.0.0", &[]);
    let ended = run(command.env("DOCKER_AUTH_CONFIG", "hush{"));
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(!ended.stderr.contains("hush"), "{}", ended.stderr);
}

#[test]
fn a_helper_that_is_missing_or_broken_is_named_and_what_it_prints_is_not_shown() {
    let pusher = Pusher::new(([127, 0, 0, 1], 1).into());
    pusher.build("1.0.0");
    let path = helper(&pusher, "junk", "echo hush-hush");
    helper(
        &pusher,
        "fails",
        "echo hush-hush >&2; echo hush-hush; exit 7",
    );
    helper(&pusher, "hangs", "exec sleep 1000");
    for (name, said) in [
        (
            "missing",
            "`docker-credential-missing` for 127.0.0.1:1 is not in PATH",
        ),
        (
            "junk",
            "`docker-credential-junk` for 127.0.0.1:1 printed something else than credentials",
        ),
        (
            "fails",
            "`docker-credential-fails` for 127.0.0.1:1 failed with exit code 7",
        ),
        (
            "hangs",
            "`docker-credential-hangs` for 127.0.0.1:1 did not answer within 10 s",
        ),
    ] {
        configure(&pusher, &serde_json::json!({ "credsStore": name }));
        let ended = run(pusher.command("1.0.0", &[]).env("PATH", &path));
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(ended.stderr.contains(said), "{said}: {}", ended.stderr);
        assert!(!ended.stderr.contains("hush-hush"), "{}", ended.stderr);
    }
}

#[test]
fn logging_in_keeps_all_else_of_dockers_configuration() {
    let registry = Registry::with_password();
    let pusher = Pusher::new(registry.address());
    let config = serde_json::json!({
        "auths": { "other.example": { "auth": "eA==" } },
        "HttpHeaders": { "X": "y" },
        "currentContext": "",
    });
    let kept = pusher.bench.write("elsewhere.json", &config.to_string());
    std::fs::set_permissions(&kept, std::fs::Permissions::from_mode(0o640)).unwrap();
    let link = pusher.bench.path().join("home/.docker/config.json");
    symlink(&kept, &link).unwrap();
    assert_eq!(pusher.log_in(PASSWORD).code, Some(0));
    assert!(link.symlink_metadata().unwrap().file_type().is_symlink());
    assert_eq!(kept.metadata().unwrap().permissions().mode() & 0o777, 0o640);
    let text = std::fs::read_to_string(&kept).unwrap();
    let mut found: serde_json::Value = serde_json::from_str(&text).unwrap();
    let auths = found["auths"].as_object_mut().unwrap();
    assert!(auths.remove(&pusher.registry.to_string()).is_some());
    assert_eq!(found, config);
    let mut logout = pusher.bench.jobctl();
    let ended = run(logout.args(["logout", &pusher.registry.to_string()]));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let found: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(&kept).unwrap()).unwrap();
    assert_eq!(found, config);
}

#[test]
fn an_image_is_not_pushed_by_its_digest() {
    let digest = "1".repeat(64);
    let bench = Bench::new();
    let image = format!("127.0.0.1:1/x@sha256:{digest}");
    let ended = run(bench.jobctl().args(["push", &image]));
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.stderr.contains("is a digest"), "{ended:?}");
}
