//! Names that move from release to release, and those that `build --name` gives.

use std::process::Command;

use super::Pusher;
use crate::support::image::{DEBIAN, docker, ensure_debian};
use crate::support::registry::{Deed, Proxy, Registry};
use crate::support::{Ended, run};

impl Pusher {
    /// Changes what the image has, and releases it.
    fn release(&self, version: &str) -> Ended {
        self.bench.write("a", version);
        self.deploy(version)
    }

    pub(super) fn released(&self, version: &str) -> Ended {
        let ended = self.release(version);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        ended
    }

    /// The id that the engine has under a name, with the registry and without.
    pub(super) fn ids(&self, tag: &str) -> [Option<String>; 2] {
        [self.name(tag), format!("{}:{tag}", self.image.as_str())].map(|name| {
            let ended = run(
                Command::new("docker").args(["image", "inspect", "--format", "{{.Id}}", &name])
            );
            (ended.code == Some(0)).then(|| ended.stdout.trim().to_owned())
        })
    }
}

#[test]
fn an_older_lines_release_moves_no_name_back_on_the_engine_or_in_the_registry() {
    let registry = Registry::new();
    let pusher = Pusher::new(registry.address());
    let repository = pusher.image.as_str();
    let digest = |tag: &str| registry.digest(repository, tag);
    pusher.released("1.2.3");
    pusher.released("2.0.0");
    let newest = pusher.ids("2.0.0");
    assert_eq!(pusher.ids("latest"), newest);
    // The engine has the newer release.
    let ended = pusher.released("1.3.0");
    for said in [
        format!("version 1.3.0 does not get `{repository}:latest`: 2.0.0 is newer"),
        format!(
            "`{}` stays as it is: 1.3.0 is older than 2.0.0",
            pusher.name("latest")
        ),
    ] {
        assert!(ended.stderr.contains(&said), "{}", ended.stderr);
    }
    let ended = pusher.released("1.2.4");
    assert!(
        ended.stderr.contains(": 1.3.0 is newer"),
        "{}",
        ended.stderr
    );
    for (tag, version) in [
        ("latest", "2.0.0"),
        ("2", "2.0.0"),
        ("1", "1.3.0"),
        ("1.3", "1.3.0"),
        ("1.2", "1.2.4"),
    ] {
        assert_eq!(digest(tag), digest(version), "{tag}");
        assert_eq!(pusher.ids(tag), pusher.ids(version), "{tag}");
    }
    // Only the registry has it.
    let names: Vec<_> = pusher.image.tags();
    docker(
        &[
            &["rmi", "--force"],
            &names.iter().map(String::as_str).collect::<Vec<_>>()[..],
        ]
        .concat(),
    );
    let ended = pusher.released("1.2.5");
    for tag in ["latest", "1"] {
        let said = format!(
            "`{}` stays as it is: 1.2.5 is older than ",
            pusher.name(tag)
        );
        assert!(ended.stderr.contains(&said), "{}", ended.stderr);
        assert_eq!(pusher.ids(tag), [None, None], "{tag}");
    }
    assert_eq!(digest("latest"), digest("2.0.0"));
    assert_eq!(digest("1"), digest("1.3.0"));
    assert_eq!(digest("1.2"), digest("1.2.5"));
    assert_eq!(pusher.ids("1.2"), pusher.ids("1.2.5"));

    // Pushing that name alone is refused, unless it is forced.
    docker(&["tag", &pusher.name("1.2.5"), &pusher.name("latest")]);
    let ended = pusher.push("latest", &[]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let said = format!(
        "`{}` stays with 2.0.0: 1.2.5 is older",
        pusher.name("latest")
    );
    assert!(ended.stderr.contains(&said), "{}", ended.stderr);
    assert_eq!(digest("latest"), digest("2.0.0"));
    let ended = pusher.push("latest", &["--force"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(digest("latest"), digest("1.2.5"));
}

#[test]
fn a_refused_release_moves_no_name_on_the_engine() {
    let registry = Registry::new();
    let pusher = Pusher::new(registry.address());
    pusher.released("1.2.3");
    let tags = ["1.2.3", "1.2", "1", "latest"];
    let before = tags.map(|tag| pusher.ids(tag));
    assert!(before.iter().flatten().all(Option::is_some), "{before:?}");
    pusher.bench.write("a", "other\n");
    let ended = pusher.deploy("1.2.3");
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert_eq!(tags.map(|tag| pusher.ids(tag)), before);
    // What was built is there, by what it is made from.
    let ids = docker(&["images", "--quiet", "--no-trunc", pusher.image.as_str()]);
    let ids: std::collections::BTreeSet<_> = ids.lines().collect();
    assert_eq!(ids.len(), 2, "{ids:?}");
}

#[test]
fn a_list_of_tags_that_never_ends_is_given_up_and_one_that_is_not_given_moves_nothing() {
    let unlisted =
        "stays as it is: its registry does not list its tags, and may have a newer release";
    for (headers, status, code, said) in [
        (
            "Link: </v2/x/tags/list?n=1000&last=a>; rel=\"next\"\r\n",
            200,
            1,
            "refuses (200): its list of the tags of ",
        ),
        ("", 404, 0, unlisted),
        ("", 405, 0, unlisted),
        ("", 501, 0, unlisted),
    ] {
        let registry = Registry::new();
        let proxy = Proxy::start(registry.address(), move |_, path, _| {
            if path.contains("/tags/list") {
                Deed::Answer(status, headers, "{\"tags\":[\"a\"]}")
            } else {
                Deed::Pass
            }
        });
        let direct = Pusher::new(registry.address());
        let pusher = Pusher {
            registry: proxy.address,
            ..direct
        };
        // The name is there, and is another image's.
        pusher.build("1.0.0");
        let other = format!("{}/{}:latest", registry.address(), pusher.image.as_str());
        docker(&["tag", &pusher.name("1.0.0"), &other]);
        docker(&["push", "--quiet", &other]);
        docker(&["rmi", &other]);
        let before = registry.digest(pusher.image.as_str(), "latest");
        let ended = pusher.release("1.1.0");
        assert_eq!(ended.code, Some(code), "{ended:?}");
        assert!(ended.stderr.contains(said), "{said}: {}", ended.stderr);
        // Once at first, and right before each of the two names that move.
        assert!(proxy.count("GET", "/tags/list") <= 3, "{status}");
        assert_eq!(registry.digest(pusher.image.as_str(), "latest"), before);
        // One that is not there moves nowhere.
        let has_new = registry
            .tags(pusher.image.as_str())
            .contains(&"1.1".to_owned());
        assert_eq!(has_new, code == 0, "{status}");
    }
}

#[test]
fn what_was_built_under_a_name_is_pushed_with_all_its_names() {
    let registry = Registry::new();
    let pusher = Pusher::new(registry.address());
    let name = pusher.image.as_str();
    pusher.bench.write("jobs.yaml", "version: 1\njobz: {}\n");
    let push = |flags: &[&str]| {
        let mut command = pusher.bench.jobctl();
        run(command.args(["push", "--name", name]).args(flags))
    };
    let prefix = pusher.prefix();
    let ended = push(&["--image_prefix", &prefix]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let said = format!("the engine has no image `{prefix}{name}`");
    assert!(ended.stderr.contains(&said), "{}", ended.stderr);
    // Built without the prefix, as build.py is called first.
    let build = |version: &str| {
        pusher.bench.write("a", version);
        let ended = run(&mut pusher.image.build(&pusher.bench, &["--version", version]));
        assert_eq!(ended.code, Some(0), "{ended:?}");
    };
    build("1.0.0");
    let ended = push(&["--version", "1.0.0", "--image-prefix", &prefix]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let names = || -> Vec<_> {
        let tags = registry.tags(name).into_iter();
        tags.filter(|tag| !tag.starts_with("ctx-")).collect()
    };
    assert_eq!(names(), ["1", "1.0", "1.0.0", "latest"]);
    assert!(
        ended
            .stdout
            .ends_with(&format!("{}\n", registry.digest(name, "1.0.0")))
    );
    // The engine has the names now, too.
    assert_eq!(pusher.ids("1.0.0")[0], pusher.ids("1.0.0")[1]);

    build("1.1.0-rc.1");
    let ended = push(&["--version", "1.1.0-rc.1", "--image-prefix", &prefix]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(names(), ["1", "1.0", "1.0.0", "1.1.0-rc.1", "latest"]);
    assert_eq!(
        registry.digest(name, "latest"),
        registry.digest(name, "1.0.0")
    );

    let ended = push(&["--version", "9.9.9", "--image-prefix", &prefix]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let said = format!("the engine has no image `{prefix}{name}:9.9.9`");
    assert!(ended.stderr.contains(&said), "{}", ended.stderr);
    for (flags, said) in [
        (&[][..], "names no registry"),
        (&["job"], "cannot be used with"),
        (&["--version", "1"], "did you mean `1.0.0`?"),
    ] {
        let ended = push(flags);
        assert_eq!(ended.code, Some(2), "{ended:?}");
        assert!(ended.stderr.contains(said), "{said}: {}", ended.stderr);
    }
    let image = format!("{prefix}{name}");
    let mut command = pusher.bench.jobctl();
    let ended = run(command.args(["push", &image, "--version", "1.0.0"]));
    assert_eq!(ended.code, Some(2), "{ended:?}");
    let help = format!("write it as the tag: `{image}:VERSION`");
    assert!(ended.stderr.contains(&help), "{}", ended.stderr);
}

#[test]
fn the_newest_image_is_the_one_that_was_built_last_whatever_time_it_says() {
    let pusher = Pusher::new(([127, 0, 0, 1], 1).into());
    let name = pusher.image.as_str();
    let versions = ["1.0.0-c", "1.0.0-a", "1.0.0-d", "1.0.0-b"];
    for version in versions {
        pusher.bench.write("a", version);
        let mut build = pusher.image.build(&pusher.bench, &["--version", version]);
        let ended = run(build.env("SOURCE_DATE_EPOCH", "1000000000"));
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let mut push = pusher.bench.jobctl();
        let ended = run(push.args([
            "push",
            "--dry-run",
            "--name",
            name,
            "--image-prefix",
            "r.example/",
        ]));
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let said = format!("push r.example/{name}:{version} (image sha256:");
        assert!(ended.stdout.contains(&said), "{said}: {}", ended.stdout);
    }
}

#[test]
fn an_image_that_the_engine_takes_from_its_cache_is_the_newest_all_the_same() {
    let pusher = Pusher::new(([127, 0, 0, 1], 1).into());
    let name = pusher.image.as_str();
    for (content, version) in [("1", "1.0.0"), ("2", "1.1.0"), ("1", "1.0.1")] {
        pusher.bench.write("a", content);
        let ended = run(&mut pusher.image.build(&pusher.bench, &["--version", version]));
        assert_eq!(ended.code, Some(0), "{ended:?}");
        // A name of one's own, which the engine may remember giving, makes no image newer.
        let own = format!("{name}:own");
        docker(&["tag", &format!("{name}:1.0.0"), &own]);
        let prefix = pusher.prefix();
        let mut push = pusher.bench.jobctl();
        let words = [
            "push",
            "--dry-run",
            "--name",
            name,
            "--image-prefix",
            &prefix,
        ];
        let ended = run(push.args(words));
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let said = format!("push {} (", pusher.name(version));
        assert!(ended.stdout.contains(&said), "{said}: {}", ended.stdout);
    }
}

#[test]
fn the_newest_image_is_pushed_whether_or_not_it_was_built_with_the_prefix() {
    let registry = Registry::new();
    let pusher = Pusher::new(registry.address());
    let name = pusher.image.as_str();
    let prefix = pusher.prefix();
    for (version, flags) in [
        ("1.0.0", &["--image-prefix", &prefix][..]),
        ("1.1.0", &[]),
        ("1.2.0", &["--image-prefix", &prefix]),
    ] {
        pusher.bench.write("a", version);
        let words = [&["--version", version], flags].concat();
        let ended = run(&mut pusher.image.build(&pusher.bench, &words));
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let mut push = pusher.bench.jobctl();
        let ended = run(push.args(["push", "--name", name, "--image-prefix", &prefix]));
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let tags = registry.tags(name);
        assert!(tags.contains(&version.to_owned()), "{version}: {tags:?}");
        let digest = |tag: &str| registry.digest(name, tag);
        assert_eq!(digest("latest"), digest(version), "{ended:?}");
        // The engine has all names, with the prefix and without.
        for tag in [version, "1", "latest"] {
            let [with, without] = pusher.ids(tag);
            assert!(with.is_some() && with == without, "{version} {tag}");
        }
    }
}

#[test]
fn run_without_a_build_runs_the_image_that_was_built_last() {
    ensure_debian();
    let pusher = Pusher::new(([127, 0, 0, 1], 1).into());
    let name = pusher.image.as_str();
    let dockerfile = format!("FROM {DEBIAN}\nCOPY a /a\n");
    pusher.bench.write("Dockerfile", &dockerfile);
    let manifest = format!(
        "version: 1\nname: test\nimage: {{ version: 1.0.0 }}\njobs:\n  {name}: {{ build: {{ context: . }}, \
         command: [cat, /a] }}\n"
    );
    pusher.bench.write("jobs.yaml", &manifest);
    let label = pusher.image.label();
    for (content, version) in [("1", "1.0.0"), ("2", "1.1.0"), ("1", "1.0.1")] {
        pusher.bench.write("a", content);
        let mut build = pusher.bench.jobctl();
        let words = ["build", name, "--version", version, "--label", &label];
        let ended = run(build.args(words));
        assert_eq!(ended.code, Some(0), "{ended:?}");
        // Neither `1.0.0` of jobs.yaml nor `latest` is the image that was built last.
        let mut job = pusher.bench.jobctl();
        let ended = run(job.args(["run", "--no-build", "--rm", name]));
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert_eq!(ended.stdout.trim(), content, "{version}");
        let ended = run(pusher
            .bench
            .jobctl()
            .args(["show", "--format", "json", name]));
        let shown: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
        let image = format!("test-{name}:{version}");
        assert_eq!(shown["image"]["name"], image, "{shown:#}");
        let ended = run(pusher.bench.jobctl().args(["images", "--quiet", name]));
        let id = docker(&["image", "inspect", "--format", "{{.Id}}", &image]);
        assert_eq!(ended.stdout.lines().next(), Some(id.trim()), "{ended:?}");
    }
}

#[test]
fn a_dry_run_of_a_push_asks_the_registry_what_the_push_asks_it() {
    let registry = Registry::new();
    let pusher = Pusher::new(registry.address());
    let repository = pusher.image.as_str();
    let prefix = pusher.prefix();
    let push = |flags: &[&str]| {
        let mut command = pusher.bench.jobctl();
        let words = ["push", "--name", repository, "--image-prefix", &prefix];
        run(command.args(words).args(flags))
    };
    pusher.released("2.0.0");
    let before = registry.tags(repository);
    let ended = push(&["--dry-run"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let kept = ended.stdout.lines();
    let mut kept = kept.filter(|line| !line.ends_with(", which is there already)"));
    assert_eq!(kept.next(), None, "{ended:?}");
    // Only the registry has the newer release.
    let names = pusher.image.tags();
    for name in &names {
        docker(&["rmi", "--no-prune", name]);
    }
    pusher.bench.write("a", "older");
    pusher.build("1.2.3");
    let plan = push(&["--dry-run"]);
    assert_eq!(plan.code, Some(0), "{plan:?}");
    let id = pusher.ids("1.2.3")[0].clone().unwrap();
    for said in [
        format!("push {} (image {id})\n", pusher.name("1.2.3")),
        format!("push {} (image {id})\n", pusher.name("1")),
        format!(
            "leave {} (image {id}, which does not get it)\n",
            pusher.name("latest")
        ),
    ] {
        assert!(plan.stdout.contains(&said), "{said}{plan:?}");
    }
    assert!(
        plan.stderr
            .contains("stays as it is: 1.2.3 is older than 2.0.0"),
        "{plan:?}"
    );
    assert_eq!(registry.tags(repository), before);
    let plan = push(&["--dry-run", "--force", "--format", "json"]);
    let plan: serde_json::Value = serde_json::from_str(&plan.stdout).unwrap();
    let images = plan["images"].as_array().unwrap();
    assert!(
        images.iter().all(|image| image["action"] == "push"),
        "{plan:#}"
    );
    // What the push would be refused for is said beforehand.
    pusher.bench.write("a", "other");
    pusher.build("2.0.0");
    for flags in [&["--dry-run"][..], &[]] {
        let ended = push(flags);
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(
            ended.stderr.contains(" is released already, as "),
            "{ended:?}"
        );
    }
}

#[test]
fn a_release_that_git_names_is_raised_by_a_tag() {
    let registry = Registry::new();
    let pusher = Pusher::new(registry.address());
    let name = pusher.image.as_str();
    let manifest = format!(
        "version: 1\nname: test\nimage: {{ prefix: \"{}\", version: git }}\njobs:\n  {name}: {{ build: \
         {{ context: app }} }}\n",
        pusher.prefix()
    );
    pusher.bench.write("jobs.yaml", &manifest);
    pusher
        .bench
        .write("app/Dockerfile", "FROM scratch\nCOPY a /a\n");
    let git = |args: &[&str]| {
        let mut git = pusher.bench.command("git");
        git.args(["-c", "user.name=t", "-c", "user.email=t@example.com"]);
        let ended = run(git.args(args).current_dir(pusher.bench.path()));
        assert_eq!(ended.code, Some(0), "{ended:?}");
    };
    let label = pusher.image.label();
    let deploy = |content: &str| {
        pusher.bench.write("app/a", content);
        git(&["add", "app", "jobs.yaml"]);
        git(&["commit", "--quiet", "--message", "more"]);
        git(&["tag", "--force", "v1.0.0"]);
        let mut build = pusher.bench.jobctl();
        run(build.args(["build", name, "--label", &label, "--deploy"]))
    };
    git(&["init", "--quiet"]);
    let ended = deploy("1");
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let ended = deploy("2");
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let help = "tag the commit with a newer version: `git tag v…`";
    assert!(ended.stderr.contains(help), "{}", ended.stderr);
    assert!(!ended.stderr.contains("--bump"), "{}", ended.stderr);
}

#[test]
fn an_image_that_is_not_there_is_not_tagged() {
    let pusher = Pusher::new(([127, 0, 0, 1], 1).into());
    let name = format!("{}:none", pusher.image.as_str());
    let ended = run(pusher.bench.jobctl().args(["tag", &name, "other:1"]));
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let said = format!("error[tag]: the engine has no image `{name}`");
    assert!(ended.stderr.starts_with(&said), "{}", ended.stderr);
}
