//! `jobctl export`: what it writes, docker-compose runs.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use crate::support::image::docker;
use crate::support::project::Project;
use crate::support::{Ended, jobctl, run, wait_for};

/// What docker-compose has of a project, which is removed with it.
struct Composed<'a> {
    project: &'a Project,
    file: &'a str,
    name: String,
}

impl Composed<'_> {
    fn call(&self, args: &[&str]) -> Ended {
        let mut command = self.project.bench.command("docker-compose");
        command.args(["-f", self.file, "-p", &self.name]);
        run(command.args(args).env("TOKEN", "hush"))
    }
}

impl Drop for Composed<'_> {
    fn drop(&mut self) {
        self.call(&["down", "-v", "-t", "1"]);
    }
}

fn ask(address: SocketAddr) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer.split_once("\r\n\r\n")?.1.to_owned())
}

#[test]
fn docker_compose_runs_what_is_exported() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let port = address.port();
    let server = r"$$s = IO::Socket::INET->new(LocalPort => 80, Listen => 9, ReuseAddr => 1); open($$f, '<', '/model/it'); $$m = <$$f>; while ($$c = $$s->accept) { while (<$$c>) { last if /^\r/ } print $$c qq(HTTP/1.0 200 OK\r\n\r\n$$m$$ENV{GREETING} $$ENV{TOKEN}); close $$c }";
    let server = server.replace('\\', "\\\\");
    let jobs = format!(
        r#"
make:
  image: IMAGE
  command: ["sh", "-c", "cat /seed $$0 > /out/it", "/proc/sys/kernel/ostype"]
  inputs: {{ seed: {{ source: seed.txt, target: /seed }} }}
  outputs: {{ it: /out }}
  timeout: 1m
serve:
  image: job:make
  command: ["perl", "-MIO::Socket::INET", "-e", "{server}"]
  environment: {{ GREETING: 'a "b" $$HOME', TOKEN: }}
  service: true
  needs: {{ make: {{ outputs: {{ it: /model }} }} }}
  ports: ["127.0.0.1:{port}:80"]
  healthcheck: {{ test: "true", interval: 1s }}
  resources: {{ cpus: 0.5, memory: 64mb, shm_size: 1mb }}
"#
    );
    drop(taken);
    let project = Project::with_name(&jobs);
    project.bench.write("seed.txt", "seed\n");
    let mut command = project.jobctl(&["export", "serve", "--as", "compose", "-o", "compose.yml"]);
    let ended = run(&mut command);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(
        ended.stderr,
        "warning: make: Compose ignores `timeout: 1m`\n\
         warning: make: Compose does not collect `outputs`; those that other jobs read stay in volumes\n\
         warning: make: `make-volumes` makes its volumes writable for the job's user, with the image's `chmod`\n"
    );
    let composed = Composed {
        project: &project,
        file: "compose.yml",
        name: format!("jobctl-test-{}", std::process::id()),
    };
    let ended = composed.call(&["up", "-d"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    wait_for(|| ask(address).is_some_and(|answer| !answer.is_empty()));
    assert_eq!(
        ask(address).unwrap(),
        "seed\na \"b\" $HOME hush",
        "{}",
        composed.call(&["logs"]).stdout
    );
    let text = std::fs::read_to_string(project.bench.path().join("compose.yml")).unwrap();
    assert!(!text.contains("hush"));
}

/// The engine makes a new volume root's; and the project may be copied to another machine.
#[test]
fn exported_volumes_are_writable_and_paths_stay_relative() {
    let project = Project::empty();
    let bench = &project.bench;
    bench.write(
        "app/Dockerfile",
        "FROM debian:trixie-slim\nUSER 1234:1234\n",
    );
    bench.write("shared/.keep", "");
    let shared = bench.path().join("shared");
    std::fs::set_permissions(&shared, std::fs::Permissions::from_mode(0o777)).unwrap();
    let name = format!("test-{}-exported", std::process::id());
    let jobs = format!(
        "version: 1\nname: {name}\njobs:\n\
         \x20 make:\n    build: ../app\n    command: [sh, -c, 'id -u > /out/it']\n    outputs: {{ it: /out }}\n\
         \x20 use:\n    image: job:make\n    command: [cp, /in/it, /shared/it]\n    volumes: [../shared:/shared]\n\
         \x20   needs: {{ make: {{ outputs: {{ it: /in }} }} }}\n"
    );
    bench.write("jobs/jobs.yaml", &jobs);
    let mut command = project.jobctl(&["-f", "jobs/jobs.yaml", "export", "use", "--as", "compose"]);
    let ended = run(command.args(["-o", "jobs/compose.yml"]));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let text = std::fs::read_to_string(bench.path().join("jobs/compose.yml")).unwrap();
    let here = bench.path().display().to_string();
    assert!(!text.contains(&here), "{text}");
    assert!(
        text.contains("../shared:/shared") && text.contains("../app"),
        "{text}"
    );
    let composed = Composed {
        project: &project,
        file: "jobs/compose.yml",
        name: name.clone(),
    };
    let ended = composed.call(&["up", "--build", "-d"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    wait_for(|| std::fs::read_to_string(shared.join("it")).is_ok_and(|text| text == "1234\n"));
    drop(composed);
    docker(&["rmi", "-f", &format!("{name}-make")]);
}

/// What a run has put into a volume, compose's services find there.
#[test]
fn exported_jobs_have_the_volumes_of_runs() {
    let jobs = "use:\n  image: IMAGE\n  command: [sh, -c, 'echo it >>/cache/it; wc -l </cache/it']\n  volumes: ['cache:/cache']\n  \
                retry: { attempts: 2 }\n";
    let project = Project::with_name(jobs);
    assert_eq!(project.output(&["run", "use"]), "1\n");
    let mut command = project.jobctl(&["export", "use", "--as", "compose", "-o", "compose.yml"]);
    let ended = run(&mut command);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(ended.stderr, "warning: use: Compose ignores `retry`\n");
    let composed = Composed {
        project: &project,
        file: "compose.yml",
        name: format!("jobctl-test-volumes-{}", std::process::id()),
    };
    let ended = composed.call(&["run", "--rm", "-T", "use"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(ended.stdout, "2\n");
}

#[test]
fn this_repositorys_own_jobs_can_be_exported() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new(jobctl());
    let ended = run(command
        .args(["export", "--as", "compose"])
        .current_dir(root));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("compose.yml");
    std::fs::write(&file, ended.stdout).unwrap();
    let mut command = Command::new("docker-compose");
    let ended = run(command.arg("-f").arg(&file).args(["config", "--services"]));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let mut services: Vec<_> = ended.stdout.lines().collect();
    services.sort_unstable();
    assert_eq!(services, ["evaluate", "serve", "train", "train-volumes"]);
}
