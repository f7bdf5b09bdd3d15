//! Images that new ones replace, and which of them stay.

use std::collections::BTreeSet;
use std::path::PathBuf;

use crate::support::image::{DEBIAN, ImageName, docker, ensure_debian};
use crate::support::{Bench, Ended, run};

/// Checkouts of one project, of one user.
struct Checkouts {
    bench: Bench,
    image: ImageName,
}

impl Checkouts {
    fn new() -> Self {
        ensure_debian();
        Self {
            bench: Bench::new(),
            image: ImageName::new(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.bench.path().join(name)
    }

    /// Writes a checkout with a file of this content.
    fn write(&self, name: &str, content: &str) {
        let manifest = format!(
            "version: 1\nname: {}\njobs:\n  app: {{ build: ., command: [\"true\"] }}\n",
            self.image.as_str()
        );
        let dockerfile = format!("FROM {DEBIAN}\nLABEL {}\nCOPY a /a\n", self.image.label());
        for (file, text) in [
            ("jobs.yaml", &*manifest),
            ("Dockerfile", &dockerfile),
            (".dockerignore", "*\n!a\n"),
            ("a", content),
        ] {
            self.bench.write(&format!("{name}/{file}"), text);
        }
    }

    fn call(&self, name: &str, args: &[&str]) -> Ended {
        let mut command = self.bench.jobctl();
        let ended = run(command.args(args).current_dir(self.path(name)));
        assert_eq!(ended.code, Some(0), "{args:?}: {ended:?}");
        ended
    }

    /// Builds this content, or runs it; the image's id.
    fn made(&self, verb: &str, name: &str, content: &str) -> String {
        self.write(name, content);
        self.call(name, &[verb, "app"]);
        self.id("latest")
    }

    fn id(&self, tag: &str) -> String {
        let name = format!("{}-app:{tag}", self.image.as_str());
        let id = docker(&["image", "inspect", "--format", "{{.Id}}", &name]);
        id.trim().to_owned()
    }

    /// The ids of all images.
    fn ids(&self) -> BTreeSet<String> {
        let filter = format!("label={}", self.image.label());
        let listed = docker(&["images", "--quiet", "--no-trunc", "--filter", &filter]);
        listed.lines().map(str::to_owned).collect()
    }

    /// How many names of contexts there are.
    fn contexts(&self) -> usize {
        let tags = self.image.tags();
        tags.iter().filter(|tag| tag.contains(":ctx-")).count()
    }
}

fn set<const N: usize>(ids: [&String; N]) -> BTreeSet<String> {
    ids.into_iter().cloned().collect()
}

#[test]
fn an_image_that_is_replaced_and_that_nothing_needs_is_gone() {
    let checkouts = Checkouts::new();
    let first = checkouts.made("build", "one", "1");
    let second = checkouts.made("build", "one", "2");
    assert_ne!(first, second);
    assert_eq!(checkouts.ids(), set([&second]));
    assert_eq!(checkouts.contexts(), 1);
    // One that has another name loses that of its context alone.
    let kept = format!("{}-app:kept", checkouts.image.as_str());
    docker(&["tag", &second, &kept]);
    let third = checkouts.made("build", "one", "3");
    assert_eq!(checkouts.ids(), set([&second, &third]));
    assert_eq!(checkouts.contexts(), 1);
    // What a container is made from stays, and nothing is left of another's claim.
    let container = docker(&["create", "--label", "dev.jobctl.test=used", &third, "true"]);
    let fourth = checkouts.made("build", "one", "4");
    let after = checkouts.ids();
    docker(&["rm", container.trim()]);
    assert_eq!(after, set([&second, &third, &fourth]));
    let claims = checkouts.path("home/.cache/jobctl/images");
    assert_eq!(std::fs::read_dir(claims).unwrap().count(), 3);
}

#[test]
fn what_a_record_needs_stays_until_its_run_is_pruned() {
    let checkouts = Checkouts::new();
    let first = checkouts.made("run", "one", "1");
    let second = checkouts.made("run", "one", "2");
    let third = checkouts.made("build", "one", "3");
    assert_eq!(checkouts.ids(), set([&first, &second, &third]));
    assert_eq!(checkouts.contexts(), 3);
    let plan = checkouts.call("one", &["prune", "--images", "--keep", "1", "--dry-run"]);
    let said = "1 run and 1 image would be removed\n";
    assert!(plan.stderr.ends_with(said), "{}", plan.stderr);
    assert_eq!(checkouts.ids(), set([&first, &second, &third]));
    let young = ["prune", "--images", "--keep", "1", "--older", "1d"];
    let none = checkouts.call("one", &young);
    assert!(
        none.stderr.ends_with("0 runs and 0 images removed\n"),
        "{none:?}"
    );
    let pruned = checkouts.call("one", &["prune", "--images", "--keep", "1"]);
    assert_eq!(pruned.stdout, plan.stdout);
    assert!(pruned.stdout.contains("-app:ctx-"), "{}", pruned.stdout);
    assert_eq!(checkouts.ids(), set([&second, &third]));
}

#[test]
fn what_another_checkout_or_project_needs_stays() {
    let checkouts = Checkouts::new();
    let first = checkouts.made("run", "one", "1");
    // The same, in another checkout, which is changed afterwards.
    assert_eq!(checkouts.made("build", "two", "1"), first);
    let second = checkouts.made("build", "two", "2");
    assert_eq!(checkouts.ids(), set([&first, &second]));
    let third = checkouts.made("build", "two", "3");
    assert_eq!(checkouts.ids(), set([&first, &third]));
    let pruned = checkouts.call("two", &["prune", "--images", "--keep", "0"]);
    assert_eq!(pruned.stdout, "");
    // What only another checkout has built is its own.
    let fourth = checkouts.made("build", "one", "4");
    assert_eq!(checkouts.ids(), set([&first, &third, &fourth]));
    // A checkout that is not there may come back; who prunes knows that it does not.
    std::fs::rename(checkouts.path("one"), checkouts.path("away")).unwrap();
    let fifth = checkouts.made("build", "two", "1");
    assert_eq!(fifth, first);
    let sixth = checkouts.made("build", "two", "6");
    assert_eq!(checkouts.ids(), set([&first, &fourth, &sixth]));
    checkouts.call("two", &["prune", "--images"]);
    assert_eq!(checkouts.ids(), set([&fourth, &sixth]));
    // Another project with a job of the same name.
    let other = Checkouts {
        bench: checkouts.bench,
        image: ImageName::new(),
    };
    other.made("build", "two", "7");
    let ids = docker(&[
        "images",
        "--quiet",
        "--no-trunc",
        "--filter",
        &format!("label={}", checkouts.image.label()),
    ]);
    assert!(ids.contains(&sixth), "{ids}");
}

#[test]
fn what_another_project_has_run_by_its_name_stays() {
    let checkouts = Checkouts::new();
    let first = checkouts.made("build", "one", "1");
    let manifest = format!(
        "version: 1\nname: other\njobs:\n  app: {{ image: {}-app, command: [\"true\"] }}\n",
        checkouts.image.as_str()
    );
    checkouts.bench.write("other/jobs.yaml", &manifest);
    checkouts.call("other", &["run", "app"]);
    let second = checkouts.made("build", "one", "2");
    assert_eq!(checkouts.ids(), set([&first, &second]));
    let pruned = checkouts.call("one", &["prune", "--images"]);
    assert_eq!(pruned.stdout, "");
    // Nor does a build remove it once the record is gone: only who asks for that does.
    checkouts.call("other", &["rm", "app"]);
    let third = checkouts.made("build", "one", "3");
    assert_eq!(checkouts.ids(), set([&first, &third]));
    checkouts.call("one", &["prune", "--images"]);
    assert_eq!(checkouts.ids(), set([&third]));
}

#[test]
fn what_a_project_has_run_stays_when_it_is_moved() {
    let checkouts = Checkouts::new();
    let first = checkouts.made("run", "one", "1");
    std::fs::rename(checkouts.path("one"), checkouts.path("two")).unwrap();
    assert_eq!(checkouts.made("build", "two", "1"), first);
    let second = checkouts.made("build", "two", "2");
    assert_eq!(checkouts.ids(), set([&first, &second]));
    let pruned = checkouts.call("two", &["prune", "--images"]);
    assert_eq!(pruned.stdout, "");
    checkouts.call("two", &["rm", "app"]);
    checkouts.call("two", &["prune", "--images"]);
    assert_eq!(checkouts.ids(), set([&second]));
}

#[test]
fn two_builds_at_once_leave_each_other_alone() {
    let checkouts = Checkouts::new();
    checkouts.write("one", "1");
    checkouts.write("two", "2");
    let runs = ["one", "two"].map(|name| {
        let mut command = checkouts.bench.jobctl();
        command
            .args(["run", "app"])
            .current_dir(checkouts.path(name));
        command.stderr(std::process::Stdio::null()).spawn().unwrap()
    });
    for mut one in runs {
        assert!(one.wait().unwrap().success());
    }
    assert_eq!(checkouts.ids().len(), 2);
    assert_eq!(checkouts.contexts(), 2);
}
