//! Whether an image is as good as a new one.

use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};

use super::{COPY, built, rename, set_mode, state};
use crate::support::image::{ImageName, docker, docker_build, file_of};
use crate::support::{Bench, run};

/// A context in a folder of its own, so that jobctl's cache is no part of it.
fn plant(bench: &Bench) {
    bench.write("context/Dockerfile", COPY);
    bench.write("context/a/x", "one");
    bench.write("context/a/y", "two");
    fs::create_dir(bench.path().join("context/empty")).unwrap();
    let path = |name: &str| bench.path().join("context").join(name);
    fs::hard_link(path("a/x"), path("linked")).unwrap();
}

const FOLDER: [&str; 2] = ["--directory", "context"];

#[test]
fn each_change_to_the_tree_builds() {
    type Change = (&'static str, fn(&Bench));
    let changes: [Change; 8] = [
        ("a new empty folder", |bench| {
            fs::create_dir(bench.path().join("context/new")).unwrap();
        }),
        ("a folder gone", |bench| {
            fs::remove_dir(bench.path().join("context/empty")).unwrap();
        }),
        ("a file gone", |bench| {
            fs::remove_file(bench.path().join("context/a/y")).unwrap();
        }),
        ("a folder's mode", |bench| {
            set_mode(bench, "context/a", 0o700);
        }),
        ("a set-user bit", |bench| {
            set_mode(bench, "context/a/y", 0o4755);
        }),
        ("two files that change places", |bench| {
            rename(bench, "context/a/x", "context/a/z");
            rename(bench, "context/a/y", "context/a/x");
            rename(bench, "context/a/z", "context/a/y");
        }),
        ("a file that becomes a folder", |bench| {
            fs::remove_file(bench.path().join("context/a/y")).unwrap();
            fs::create_dir(bench.path().join("context/a/y")).unwrap();
        }),
        ("an ignore file of the Dockerfile", |bench| {
            drop(bench.write("context/Dockerfile.dockerignore", "a/y\n"));
        }),
    ];
    let bench = Bench::new();
    for (what, change) in changes {
        let name = ImageName::new();
        let _ = fs::remove_dir_all(bench.path().join("context"));
        plant(&bench);
        let first = built(&mut name.build(&bench, &FOLDER));
        assert_eq!(state(&mut name.build(&bench, &FOLDER)), "up_to_date");
        change(&bench);
        let second = built(&mut name.build(&bench, &FOLDER));
        assert_eq!(second["state"], "built", "{what}");
        assert_ne!(second["id"], first["id"], "{what}");
    }
}

/// A base image with nothing in it but its label, of which each is another.
fn import(name: &ImageName, tag: &str, number: u32) {
    let label = name.label();
    let mut import = Command::new("docker")
        .args([
            "import",
            "--change",
            &format!("LABEL {label} number={number}"),
            "-",
            tag,
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    // An archive with nothing in it is two blocks of zeros.
    import.stdin.take().unwrap().write_all(&[0; 1024]).unwrap();
    assert!(import.wait().unwrap().success());
}

#[test]
fn another_base_of_the_same_name_builds() {
    let bench = Bench::new();
    let name = ImageName::new();
    let base = format!("{}-base:1", name.as_str());
    bench.write(
        "context/Dockerfile",
        &format!("FROM {base}\nCMD [\"none\"]\n"),
    );
    import(&name, &base, 1);
    let first = built(&mut name.build(&bench, &FOLDER));
    assert_eq!(state(&mut name.build(&bench, &FOLDER)), "up_to_date");
    import(&name, &base, 2);
    let second = built(&mut name.build(&bench, &FOLDER));
    assert_eq!(second["state"], "built");
    assert_ne!(second["id"], first["id"]);
}

#[test]
fn what_is_made_from_an_image_is_not_taken_for_it() {
    let bench = Bench::new();
    let name = ImageName::new();
    plant(&bench);
    let first = built(&mut name.build(&bench, &FOLDER));
    let id = first["id"].as_str().unwrap();
    let latest = format!("{}:latest", name.as_str());
    let child = docker_build(&format!("FROM {latest}\nENV A=b\n"), &latest);
    assert_ne!(child, id);
    let container = docker(&["create", id]);
    let container = container.trim();
    let committed = docker(&["commit", "--change", "ENV A=c", container, &latest]);
    docker(&["rm", container]);
    let is_first = |state: &str| {
        let again = built(&mut name.build(&bench, &FOLDER));
        assert_eq!(again["state"], state);
        assert_eq!(again["id"], first["id"]);
        let named = docker(&["inspect", "--format", "{{.Id}}", &latest]);
        assert_eq!(named.trim(), id);
    };
    // The image itself is still there; it gets its name back.
    is_first("up_to_date");
    docker(&["rmi", "--force", committed.trim(), &child]);
    // Nor is what another user has built, whose labels may be anybody's.
    fs::remove_dir_all(bench.path().join("home/.cache/jobctl/images")).unwrap();
    is_first("built");
    is_first("up_to_date");
}

#[test]
fn an_image_for_another_platform_is_not_taken_for_it() {
    let bench = Bench::new();
    let name = ImageName::new();
    plant(&bench);
    let first = built(&mut name.build(&bench, &FOLDER));
    let id = first["id"].as_str().unwrap();
    let latest = format!("{}:latest", name.as_str());
    let platform = |image: &str| docker(&["inspect", "--format", "{{.Architecture}}", image]);
    let own = platform(id);
    let other = if own.trim() == "arm64" {
        "amd64"
    } else {
        "arm64"
    };
    // In an archive, what has as many letters can be changed.
    let file = bench.path().join("image.tar");
    docker(&["save", "--output", file.to_str().unwrap(), &latest]);
    let of = |platform: &str| format!("\"architecture\":\"{}\"", platform.trim()).into_bytes();
    let (before, after) = (of(&own), of(other));
    assert_eq!(before.len(), after.len());
    let mut archive = fs::read(&file).unwrap();
    let places = 0..archive.len() - before.len();
    let places: Vec<_> = places
        .filter(|at| archive[*at..].starts_with(&before))
        .collect();
    assert!(!places.is_empty());
    for at in places {
        archive[at..at + after.len()].copy_from_slice(&after);
    }
    fs::write(&file, archive).unwrap();
    docker(&["rmi", "--force", id]);
    docker(&["load", "--input", file.to_str().unwrap()]);
    let loaded = docker(&["inspect", "--format", "{{.Id}}", &latest]);
    let loaded = loaded.trim();
    assert_eq!(platform(loaded).trim(), other);
    let build = || {
        let again = built(&mut name.build(&bench, &FOLDER));
        assert_eq!(platform(again["id"].as_str().unwrap()), own);
        again["state"].as_str().unwrap().to_owned()
    };
    assert_eq!(build(), "built");
    assert_eq!(build(), "up_to_date");
    // Not even if jobctl has built it here, for another engine.
    let claims = bench.path().join("home/.cache/jobctl/images");
    let of = |id: &str| claims.join(id.replace(':', "-"));
    fs::create_dir_all(of(loaded)).unwrap();
    for entry in fs::read_dir(of(id)).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), of(loaded).join(entry.file_name())).unwrap();
    }
    docker(&["rmi", "--force", id]);
    assert_eq!(build(), "built");
}

#[test]
fn another_base_of_a_name_with_a_secret_builds() {
    let bench = Bench::new();
    let name = ImageName::new();
    let base = format!("{}-canary7:1", name.as_str());
    let text = format!(
        "ARG TOKEN\nFROM {}-${{TOKEN}}:1\nCMD [\"none\"]\n",
        name.as_str()
    );
    bench.write("context/Dockerfile", &text);
    let flags = ["--directory", "context", "--build-arg", "TOKEN=canary7"];
    import(&name, &base, 1);
    let first = built(&mut name.build(&bench, &flags));
    import(&name, &base, 2);
    let second = built(&mut name.build(&bench, &flags));
    assert_eq!(second["state"], "built");
    assert_ne!(second["id"], first["id"]);
}

#[test]
fn the_version_of_a_base_is_not_listed_as_that_of_an_image() {
    let bench = Bench::new();
    let name = ImageName::new();
    let base = format!("{}-base:1", name.as_str());
    let of_base = "org.opencontainers.image";
    let text = format!(
        "LABEL {} {of_base}.version=9 {of_base}.revision=8\n",
        name.label()
    );
    docker_build(&format!("FROM scratch\n{text}"), &base);
    bench.write(
        "context/Dockerfile",
        &format!("FROM {base}\nCMD [\"none\"]\n"),
    );
    let listed = |format: &str| {
        let mut images = bench.jobctl();
        let ended = run(images.args(["--format", format, "images", name.as_str()]));
        assert_eq!(ended.code, Some(0), "{ended:?}");
        ended.stdout
    };
    let image = || -> serde_json::Value {
        let mut said: serde_json::Value = serde_json::from_str(&listed("json")).unwrap();
        said["images"][0].take()
    };
    built(&mut name.build(&bench, &FOLDER));
    assert_eq!(image()["version"], serde_json::Value::Null);
    assert_eq!(image()["revision"], serde_json::Value::Null);
    let table = listed("human");
    let row = table.lines().nth(1).unwrap();
    assert_eq!(row.split_whitespace().nth(2), Some("-"), "{table}");
    let id = image()["id"].take();
    built(name.build(&bench, &FOLDER).args(["--version", "1.2.3"]));
    docker(&["rmi", "--force", id.as_str().unwrap()]);
    assert_eq!(image()["version"], "1.2.3");
}

#[test]
fn what_was_asked_for_is_there_even_if_it_was_taken_away() {
    let bench = Bench::new();
    let name = ImageName::new();
    plant(&bench);
    let first = built(&mut name.build(&bench, &FOLDER));
    let latest = format!("{}:latest", name.as_str());
    // A name that is gone comes back without a build.
    docker(&["rmi", "--no-prune", &latest]);
    assert_eq!(state(&mut name.build(&bench, &FOLDER)), "up_to_date");
    assert!(name.tags().contains(&latest), "{:?}", name.tags());
    // So does one that has moved to another image, from one that has a name of its own.
    docker(&["tag", &latest, &format!("{}:kept", name.as_str())]);
    bench.write("context/a/x", "other");
    let other = built(&mut name.build(&bench, &FOLDER));
    bench.write("context/a/x", "one");
    let back = built(&mut name.build(&bench, &FOLDER));
    assert_eq!(back["state"], "up_to_date");
    let shown = docker(&["inspect", "--format", "{{.Id}}", &latest]);
    assert_eq!(shown.trim(), first["id"].as_str().unwrap());
    assert_ne!(other["id"], first["id"]);
    // An image that is gone is built.
    docker(&["rmi", "--force", first["id"].as_str().unwrap()]);
    assert_eq!(state(&mut name.build(&bench, &FOLDER)), "built");
}

#[test]
fn proxies_and_authorities_are_ways_to_the_same_image() {
    let bench = Bench::new();
    let name = ImageName::new();
    plant(&bench);
    let bundle = bench.write("bundle.pem", "x");
    let first = built(&mut name.build(&bench, &FOLDER));
    let flags = [
        "--proxy",
        "http://p:1",
        "--ca-bundle",
        bundle.to_str().unwrap(),
    ];
    let again = built(name.build(&bench, &FOLDER).args(flags));
    assert_eq!(again["state"], "up_to_date");
    assert_eq!(again["id"], first["id"]);
    let anew = built(name.build(&bench, &FOLDER).arg("--no-cache"));
    assert_eq!(anew["state"], "built");
}

#[test]
fn an_unseen_edit_of_a_file_with_two_names_is_not_served_stale() {
    let bench = Bench::new();
    let name = ImageName::new();
    // The engine asks for the second name alone.
    bench.write(
        "context/Dockerfile",
        "FROM scratch\nCOPY b /\nCMD [\"none\"]\n",
    );
    let path = |name: &str| bench.path().join("context").join(name);
    bench.write("context/a", "");
    fs::hard_link(path("a"), path("b")).unwrap();
    let image = format!("{}:latest", name.as_str());
    for content in ["one", "two"] {
        fs::write(path("b"), content).unwrap();
        let file = fs::File::options().write(true).open(path("b")).unwrap();
        let long_ago = fs::FileTimes::new().set_modified(std::time::SystemTime::UNIX_EPOCH);
        file.set_times(long_ago).unwrap();
        built(&mut name.build(&bench, &FOLDER));
        assert_eq!(file_of(&image, "/b"), content.as_bytes());
    }
}
