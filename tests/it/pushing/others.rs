//! Images that have the labels of a job's, and that jobctl has not built.

use std::fs;

use super::Pusher;
use crate::support::image::{DEBIAN, docker, docker_build, ensure_debian, remove_images};
use crate::support::registry::Registry;
use crate::support::{Ended, run};

/// A job that is built here, with its label, whose image is `test-NAME`.
fn job(pusher: &Pusher) -> (String, impl Fn(&[&str]) -> Ended) {
    let name = pusher.image.as_str();
    let manifest = format!(
        "version: 1\nname: test\nimage: {{ prefix: \"{}\", version: 0.1.0 }}\njobs:\n  {name}: {{ build: \
         {{ context: . }}, command: [cat, /a] }}\n",
        pusher.prefix()
    );
    pusher.bench.write("jobs.yaml", &manifest);
    let call = move |words: &[&str]| {
        let mut command = pusher.bench.jobctl();
        command.args(words).arg(name);
        if words.contains(&"build") {
            command.args(["--label", &pusher.image.label()]);
        }
        run(&mut command)
    };
    (format!("test-{name}"), call)
}

/// Removes all images of a test but one, which is built on others of them.
fn leave_alone(pusher: &Pusher, name: &str) {
    let file = pusher.bench.path().join("image.tar");
    let file = file.to_str().unwrap();
    docker(&["save", "--output", file, name]);
    remove_images(&format!("label={}", pusher.image.label()));
    docker(&["load", "--input", file]);
}

fn id_of(name: &str) -> String {
    let id = docker(&["image", "inspect", "--format", "{{.Id}}", name]);
    id.trim().to_owned()
}

#[test]
fn what_is_made_from_a_jobs_image_is_not_pushed_or_listed_for_it() {
    let registry = Registry::new();
    let pusher = Pusher::new(registry.address());
    let (repository, call) = job(&pusher);
    let ended = call(&["build"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let full = |tag: &str| format!("{}{repository}:{tag}", pusher.prefix());
    let id = id_of(&full("0.1.0"));
    let child = docker_build(
        &format!("FROM {}\nENV A=b\n", full("0.1.0")),
        &full("latest"),
    );
    assert_ne!(child, id);
    let ended = call(&["push", "--dry-run"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stdout.contains(&id), "{ended:?}");
    assert!(!ended.stdout.contains(&child), "{ended:?}");
    let ended = call(&["images", "--quiet"]);
    assert_eq!(
        (ended.stdout, ended.stderr),
        (format!("{id}\n"), String::new())
    );
    let ended = call(&["push"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(!registry.tags(&repository).contains(&"latest".to_owned()));

    // Where it alone is left, it is pushed by its name.
    leave_alone(&pusher, &full("latest"));
    let ended = call(&["push"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let name = full("latest");
    let said = format!(
        "error[push]: `{name}` has the labels of a job's image, but jobctl has neither built nor pulled it here\n"
    );
    assert!(ended.stderr.starts_with(&said), "{}", ended.stderr);
    assert!(ended.stderr.contains(&format!("`jobctl push {name}`")));
    assert_eq!(call(&["images", "--quiet"]).stdout, "");
    let ended = call(&["images"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(!ended.stdout.contains(&repository), "{ended:?}");
    let said =
        "the engine has 1 image with a job's labels that jobctl has neither built nor pulled here";
    assert!(ended.stderr.contains(said), "{}", ended.stderr);
    let ended = run(pusher.bench.jobctl().args(["push", &name]));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(registry.tags(&repository).contains(&"latest".to_owned()));
}

#[test]
fn what_is_made_from_a_jobs_image_does_not_have_its_version() {
    let registry = Registry::new();
    let pusher = Pusher::new(registry.address());
    let (repository, call) = job(&pusher);
    let ended = call(&["build"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let base = format!("{}{repository}:0.1.0", pusher.prefix());
    // Its own releases are newer than the base.
    let name = |tag: &str| format!("{}child/{repository}:{tag}", pusher.prefix());
    docker_build(&format!("FROM {base}\nENV A=b\n"), &name("2.0.0"));
    docker_build(&format!("FROM {base}\nENV A=c\n"), &name("latest"));
    for tag in ["2.0.0", "latest"] {
        let ended = run(pusher.bench.jobctl().args(["push", &name(tag)]));
        assert_eq!(ended.code, Some(0), "{ended:?}");
    }
    // The job's image has the version that its label says.
    docker(&["tag", &base, &name("latest")]);
    let ended = run(pusher.bench.jobctl().args(["push", &name("latest")]));
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let said = format!("`{}` stays with 2.0.0: 0.1.0 is older", name("latest"));
    assert!(ended.stderr.contains(&said), "{}", ended.stderr);
}

#[test]
fn what_is_made_from_a_jobs_image_is_not_run_for_it() {
    ensure_debian();
    let pusher = Pusher::new(([127, 0, 0, 1], 1).into());
    let dockerfile = format!("FROM {DEBIAN}\nCOPY a /a\n");
    pusher.bench.write("Dockerfile", &dockerfile);
    let (repository, call) = job(&pusher);
    let ended = call(&["build"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let latest = format!("{repository}:latest");
    docker_build(&format!("FROM {latest}\nRUN echo two > /a\n"), &latest);
    // Another checkout of the same project has the image from here.
    for directory in [".", "other"] {
        let text = fs::read_to_string(pusher.bench.path().join("jobs.yaml")).unwrap();
        pusher.bench.write(&format!("{directory}/jobs.yaml"), &text);
        let ended = call(&["-C", directory, "run", "--no-build", "--rm"]);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert_eq!(ended.stdout, "one\n", "{directory}");
    }
    // Where it alone is left, the name means it, as for docker.
    leave_alone(&pusher, &latest);
    let ended = call(&["run", "--no-build", "--rm"]);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), "two\n"));
}

#[test]
fn what_was_pulled_is_the_jobs_and_not_up_to_date() {
    let registry = Registry::new();
    let pusher = Pusher::new(registry.address());
    let (repository, call) = job(&pusher);
    let ended = call(&["build", "--deploy"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let name = format!("{}{repository}:0.1.0", pusher.prefix());
    let id = id_of(&name);
    // Somebody puts another image in its place, with its labels.
    let forged = docker_build(&format!("FROM {name}\nENV A=b\n"), &name);
    docker(&["push", "--quiet", &name]);
    remove_images(&format!("label={}", pusher.image.label()));
    fs::remove_dir_all(pusher.bench.path().join("home/.cache/jobctl/images")).unwrap();
    let ended = call(&["pull"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(id_of(&name), forged);
    let newest = || {
        let ended = call(&["push", "--dry-run", "--force"]);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let line = ended.stdout.lines().next().unwrap().to_owned();
        let at = line.find("(image ").unwrap() + "(image ".len();
        line[at..].split([',', ')']).next().unwrap().to_owned()
    };
    assert_eq!(newest(), forged);
    assert_eq!(call(&["images", "--quiet"]).stdout, format!("{forged}\n"));
    let build = || {
        let ended = call(&["--format", "json", "build"]);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let built: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
        let built = &built["images"][0];
        (built["state"].clone(), built["id"].clone())
    };
    assert_eq!(build(), ("built".into(), id.clone().into()));
    assert_eq!(build(), ("up_to_date".into(), id.clone().into()));
    assert_eq!(newest(), id);
    // What was pulled last is the newest again.
    let ended = call(&["pull"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(newest(), forged);
    assert_eq!(build(), ("up_to_date".into(), id.into()));
}
