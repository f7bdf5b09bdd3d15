//! Services: started, replaced, taken down, put back.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::{records_of, up};
use crate::support::project::Project;
use crate::support::random::Random;
use crate::support::{Ended, is_root, run, wait_for};

/// A server that answers with its model and its greeting, and does not get healthy where that is `ill`.
/// A request that it has begun is answered before it ends.
const SERVER: &str = r#"
$| = 1;
my $server = IO::Socket::INET->new(LocalPort => 80, Listen => 128, ReuseAddr => 1) or die $!;
my $ends = 0;
$SIG{TERM} = sub { $ends = 1 };
open(my $file, "<", "/model/model") or die $!;
my $answer = join("", <$file>) . $ENV{GREETING};
print "serving $ENV{GREETING}\n";
until ($ends) {
    my $client = $server->accept or next;
    my $asked = <$client>;
    exit 3 if $asked =~ m{^GET /die};
    while (my $line = <$client>) { last if $line =~ /^\r?\n/ }
    print $client "HTTP/1.0 200 OK\r\nContent-Length: " . length($answer) . "\r\n\r\n" . $answer;
    close $client;
}
"#;

/// A service that stands on a model.
pub(super) struct Served {
    pub(super) project: Project,
    pub(super) address: SocketAddr,
}

impl Served {
    pub(super) fn new() -> Self {
        Self::with("")
    }

    /// One that has another line.
    pub(super) fn with(line: &str) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = port.local_addr().unwrap().port();
        let jobs = format!(
            r#"
train:
  image: IMAGE
  command: ["sh", "-c", "echo model $$NAME > /out/model; echo accuracy=$$ACCURACY"]
  environment: {{ ACCURACY: "${{ACCURACY:-0.8}}", NAME: "${{NAME:-a}}" }}
  outputs: {{ model: /out }}
  metrics: {{ log: {{ accuracy: 'accuracy=([0-9.]+)' }} }}
serve:
  image: job:train
  command: ["perl", "-MIO::Socket::INET", "/server.pl"]
  inputs: {{ server: {{ source: server.pl, target: /server.pl }} }}
  environment: {{ GREETING: "${{GREETING:-hello}}" }}
  service: true
  needs: {{ train: {{ outputs: {{ model: /model }}, gate: "accuracy >= promoted.accuracy - 0.01" }} }}
  ports: ["127.0.0.1:{port}:80"]
  healthcheck: {{ test: 'test "$$GREETING" != ill', interval: 500ms, retries: 2 }}
  {line}
"#
        );
        let project = Project::with_name(&jobs);
        project.bench.write("server.pl", SERVER);
        Self {
            project,
            address: (Ipv4Addr::LOCALHOST, port).into(),
        }
    }

    pub(super) fn up(&self, variables: &[(&str, &str)]) -> (Vec<String>, Ended) {
        up(&self.project, &[], variables)
    }

    pub(super) fn ask(&self) -> Result<String, String> {
        ask(self.address)
    }

    /// Has the process of the service die.
    pub(super) fn kill(&self) {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.write_all(b"GET /die HTTP/1.0\r\n\r\n").unwrap();
        // Until it has.
        let _ = stream.read(&mut [0]);
    }

    /// The only run that `jobctl ps` lists.
    pub(super) fn listed(&self) -> Value {
        let listed = self.project.output(&["--format", "json", "ps"]);
        let listed: Value = serde_json::from_str(&listed).unwrap();
        let runs = listed["runs"].as_array().unwrap();
        assert_eq!(runs.len(), 1, "{listed:#}");
        runs[0].clone()
    }

    pub(super) fn serving(&self) -> Vec<Value> {
        let mut records = records_of(&self.project, "serve");
        records.retain(|record| record["state"] == "running");
        records
    }

    /// The process that listens.
    pub(super) fn listener(&self) -> Pid {
        let lock = self
            .project
            .bench
            .path()
            .join(".jobctl/services/serve/lock");
        let pid = std::fs::read_to_string(lock).unwrap();
        Pid::from_raw(pid.parse().unwrap()).unwrap()
    }

    /// Kills the processes that listen for the service and supervise it.
    pub(super) fn kill_processes(&self) {
        kill_process(self.listener(), Signal::KILL).unwrap();
        let run = self.serving()[0]["id"].as_str().unwrap().to_owned();
        kill_process(supervisor(&run), Signal::KILL).unwrap();
        wait_for(|| self.ask().is_err());
    }
}

/// The process that supervises a run.
pub(super) fn supervisor(run: &str) -> Pid {
    let of_process = |process: std::fs::DirEntry| {
        let pid = process.file_name().to_str()?.parse().ok()?;
        let words = std::fs::read(process.path().join("cmdline")).ok()?;
        let mut words = words.split(|byte| *byte == 0);
        let is_it =
            words.any(|word| word == b"supervise") && words.any(|word| word == run.as_bytes());
        is_it.then(|| Pid::from_raw(pid)).flatten()
    };
    let mut processes = std::fs::read_dir("/proc").unwrap().flatten();
    processes.find_map(of_process).unwrap()
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.project.jobctl(&["down"]).output();
    }
}

pub(super) fn ask(address: SocketAddr) -> Result<String, String> {
    let said = |error: std::io::Error| error.to_string();
    let mut stream = TcpStream::connect(address).map_err(said)?;
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .map_err(said)?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").map_err(said)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(said)?;
    let (_, body) = answer.split_once("\r\n\r\n").ok_or("no answer")?;
    Ok(body.to_owned())
}

/// Requests every 10 ms, from many clients, until it is told to stop.
pub(super) struct Requests {
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Result<String, String>>>,
}

impl Requests {
    pub(super) fn begin(address: SocketAddr) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&is_over);
        let thread = std::thread::spawn(move || {
            let mut clients = Vec::new();
            while !ends.load(Ordering::Relaxed) {
                clients.push(std::thread::spawn(move || ask(address)));
                std::thread::sleep(Duration::from_millis(10));
            }
            let answers = clients.into_iter();
            answers.map(|client| client.join().unwrap()).collect()
        });
        Self { is_over, thread }
    }

    /// All answers, in the order of the questions.
    pub(super) fn end(self) -> Vec<Result<String, String>> {
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

#[test]
fn no_request_is_lost_while_a_service_is_replaced() {
    let served = Served::new();
    let (steps, ended) = served.up(&[("NAME", "0")]);
    assert_eq!(steps, ["train ran", "serve ran"], "{ended:?}");
    let requests = Requests::begin(served.address);
    for name in ["1", "2", "3"] {
        let (steps, ended) = served.up(&[("NAME", name)]);
        assert_eq!(steps, ["train ran", "serve ran"], "{ended:?}");
        assert_eq!(served.ask().unwrap(), format!("model {name}\nhello"));
    }
    let answers = requests.end();
    let lost: Vec<_> = answers.iter().filter(|answer| answer.is_err()).collect();
    assert!(
        lost.is_empty(),
        "{} of {}: {lost:?}",
        lost.len(),
        answers.len()
    );
    for name in 0..=3 {
        let expected = Ok(format!("model {name}\nhello"));
        assert!(answers.contains(&expected), "{name}");
    }
    assert_eq!(served.serving().len(), 1);
    // Those that were replaced were asked to end, and did.
    for record in &records_of(&served.project, "serve")[1..] {
        assert_eq!(record["ending"], "stopped", "{record:#}");
        assert_eq!(record["exit_code"], 0);
    }
}

#[test]
fn a_service_that_is_up_stays_up_and_a_listener_that_was_killed_comes_back() {
    let served = Served::new();
    served.up(&[]);
    let first = served.serving()[0]["id"].clone();
    kill_process(served.listener(), Signal::KILL).unwrap();
    wait_for(|| served.ask().is_err());
    let (steps, ended) = served.up(&[]);
    assert_eq!(steps, ["train up_to_date", "serve up_to_date"], "{ended:?}");
    assert_eq!(served.ask().unwrap(), "model a\nhello");
    assert_eq!(served.serving()[0]["id"], first);

    let said = served.project.output(&["down"]);
    let id = first.as_str().unwrap();
    assert_eq!(said, format!("serve  down  {}\n", &id[..14]));
    assert!(served.ask().is_err());
    served.project.assert_clean();
    assert_eq!(served.project.output(&["down"]), "nothing is up\n");
    let ended = run(&mut served.project.jobctl(&["down", "serve"]));
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert_eq!(ended.stderr, "error: no service `serve` is up\n");
    // What was made for it is still there.
    assert_eq!(served.up(&[]).0, ["train up_to_date", "serve ran"]);
}

#[test]
fn what_is_worse_than_what_serves_does_not_serve() {
    let served = Served::new();
    served.up(&[("NAME", "good"), ("ACCURACY", "0.9")]);
    let (_, ended) = served.up(&[("NAME", "worse"), ("ACCURACY", "0.88")]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let said = "accuracy 0.88 is not >= promoted.accuracy - 0.01 (0.89)";
    assert!(ended.stdout.contains(said), "{}", ended.stdout);
    assert_eq!(served.ask().unwrap(), "model good\nhello");
    let promoted = || {
        let listed = served.project.output(&["--format", "json", "runs"]);
        let listed: Value = serde_json::from_str(&listed).unwrap();
        let runs = listed["runs"].as_array().unwrap().clone();
        let of_train = runs.into_iter().filter(|run| run["job"] == "train");
        of_train
            .map(|run| run["is_promoted"] == true)
            .collect::<Vec<_>>()
    };
    assert_eq!(promoted(), [false, true]);
    // Unless somebody says that it is what others are compared with.
    served.project.output(&["promote", "train"]);
    assert_eq!(promoted(), [true, false]);
    let listed = served.project.output(&["runs", "--job", "train"]);
    assert_eq!(listed.matches("finished, promoted").count(), 1, "{listed}");
    let (steps, ended) = served.up(&[("NAME", "worse"), ("ACCURACY", "0.88")]);
    assert_eq!(steps, ["train up_to_date", "serve ran"], "{ended:?}");
    assert_eq!(served.ask().unwrap(), "model worse\nhello");
}

#[test]
fn a_service_that_does_not_get_well_leaves_the_one_before_up() {
    let served = Served::new();
    served.up(&[]);
    let mut command = served.project.jobctl(&["up"]);
    let ended = run(command.env("GREETING", "ill"));
    assert_eq!(ended.code, Some(1), "{ended:?}");
    for said in [
        "error[up]: the service `serve` did not start: its health check fails\n",
        "serving ill\n",
        "help: the one before stays up; `jobctl logs ",
    ] {
        assert!(ended.stderr.contains(said), "{said}: {}", ended.stderr);
    }
    assert_eq!(served.ask().unwrap(), "model a\nhello");
    assert_eq!(served.serving().len(), 1);

    // One that ends at once.
    served.project.bench.write("server.pl", "die 'no way'");
    let ended = run(&mut served.project.jobctl(&["up"]));
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(
        ended.stderr.contains("no way at /server.pl"),
        "{}",
        ended.stderr
    );
    assert_eq!(served.ask().unwrap(), "model a\nhello");
    assert_eq!(served.serving().len(), 1);
}

#[test]
fn a_port_that_is_taken_is_told_before_anything_runs() {
    let served = Served::new();
    let _taken = TcpListener::bind(served.address).unwrap();
    let ended = run(&mut served.project.jobctl(&["up"]));
    assert_eq!(ended.code, Some(125), "{ended:?}");
    let said = format!(
        "error[up]: the service `serve` can't be reached: {}: Address already in use",
        served.address
    );
    assert!(ended.stderr.contains(&said), "{}", ended.stderr);
    assert!(served.project.records().is_empty());
}

#[test]
fn a_service_that_was_started_by_itself_is_replaced() {
    let served = Served::new();
    served.project.output(&["run", "train"]);
    served.project.output(&["run", "-d", "serve"]);
    wait_for(|| served.ask().is_ok());
    let (steps, ended) = served.up(&[]);
    assert_eq!(steps, ["train up_to_date", "serve ran"], "{ended:?}");
    assert!(
        ended.stderr.contains(" has its ports itself\n"),
        "{ended:?}"
    );
    assert_eq!(served.ask().unwrap(), "model a\nhello");
    assert_eq!(served.serving().len(), 1);
}

/// Where the service's state is.
fn state(served: &Served) -> PathBuf {
    served.project.bench.path().join(".jobctl")
}

#[test]
fn a_service_whose_state_folder_is_moved_answers_and_is_found() {
    let served = Served::new();
    served.up(&[]);
    let first = served.serving()[0]["id"].as_str().unwrap().to_owned();
    let moved = served.project.bench.path().join("moved");
    std::fs::rename(state(&served), &moved).unwrap();
    assert_eq!(served.ask().unwrap(), "model a\nhello");
    let there = |args: &[&str]| {
        let mut command = served.project.jobctl(args);
        run(command.env("JOBCTL_STATE_DIR", &moved))
    };
    let ended = there(&["up"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stdout.contains(&first[..14]), "{ended:?}");
    assert_eq!(served.ask().unwrap(), "model a\nhello");
    let ended = there(&["down"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(served.ask().is_err());
    served.project.assert_clean();
}

#[test]
fn a_service_whose_state_folder_is_removed_is_told_and_can_be_ended() {
    let served = Served::new();
    served.up(&[]);
    let run_id = served.serving()[0]["id"].as_str().unwrap().to_owned();
    std::fs::remove_dir_all(state(&served)).unwrap();
    // Nobody is sent to a service that nobody can end.
    wait_for(|| TcpListener::bind(served.address).is_ok());
    let (steps, ended) = served.up(&[]);
    assert_eq!(steps, ["train ran", "serve ran"], "{ended:?}");
    let mut command = served.project.jobctl(&["up"]);
    let ended = run(&mut command);
    let said = format!(
        "the run {} of `serve` has a container, and its record",
        &run_id[..14]
    );
    assert!(ended.stderr.contains(&said), "{ended:?}");
    assert_eq!(served.ask().unwrap(), "model a\nhello");
    let said = served.project.output(&["down"]);
    assert!(said.contains(&run_id[..14]), "{said}");
    served.project.assert_clean();
}

#[test]
fn a_listener_is_ended_from_where_its_number_is_anothers() {
    if !is_root("a_listener_is_ended_from_where_its_number_is_anothers") {
        return;
    }
    let served = Served::new();
    served.up(&[]);
    let down = served.project.jobctl(&["down"]);
    let mut apart = served.project.bench.command("unshare");
    apart.args(["--pid", "--fork", "--mount-proc"]);
    let ended = run(apart.arg(down.get_program()).args(down.get_args()));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(served.ask().is_err());
    served.project.assert_clean();
}

#[test]
fn a_listener_that_does_not_hear_is_ended_all_the_same() {
    let served = Served::new();
    served.up(&[]);
    kill_process(served.listener(), Signal::STOP).unwrap();
    served.project.output(&["down"]);
    assert!(served.ask().is_err());
    served.project.assert_clean();
}

#[test]
fn an_up_that_is_killed_at_any_moment_leaves_what_the_next_one_mends() {
    let served = Served::new();
    served.up(&[("NAME", "0")]);
    let requests = Requests::begin(served.address);
    let kills = match std::env::var_os("JOBCTL_TEST_FULL") {
        Some(_) => 60,
        None => 6,
    };
    let mut random = Random::new(u64::from(std::process::id()));
    for name in 1..=kills {
        let name = name.to_string();
        let mut command = served.project.jobctl(&["up"]);
        let mut child = Project::start(command.env("NAME", &name));
        // Some three seconds is what it takes.
        let moment = random.below(3000);
        std::thread::sleep(Duration::from_millis(moment));
        kill_process(Pid::from_child(&child), Signal::KILL).unwrap();
        child.wait().unwrap();
        let (_, ended) = served.up(&[("NAME", &name)]);
        assert_eq!(ended.code, Some(0), "killed after {moment} ms: {ended:?}");
        assert_eq!(served.ask().unwrap(), format!("model {name}\nhello"));
        assert_eq!(served.serving().len(), 1);
    }
    let answers = requests.end();
    let lost: Vec<_> = answers.iter().filter(|answer| answer.is_err()).collect();
    assert!(lost.is_empty(), "{lost:?}");
}
