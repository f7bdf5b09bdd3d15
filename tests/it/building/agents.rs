//! `--ssh`: a step talks to the agent, and nothing else comes of it.

use std::path::PathBuf;
use std::process::{Child, Stdio};

use super::built;
use crate::support::image::{DEBIAN, ImageName, docker, ensure_debian};
use crate::support::wait_for;
use crate::support::{Bench, run};

/// An agent with one key, that ends with its value.
struct Agent {
    process: Child,
    socket: PathBuf,
}

impl Agent {
    fn start(bench: &Bench, comment: &str) -> Self {
        let socket = bench.path().join("home/agent");
        let process = bench
            .command("ssh-agent")
            .arg("-D")
            .arg("-a")
            .arg(&socket)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let agent = Self { process, socket };
        wait_for(|| agent.socket.exists());
        let key = bench.path().join("home/key");
        let made = run(bench
            .command("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-C", comment, "-f"])
            .arg(&key));
        assert_eq!(made.code, Some(0), "{made:?}");
        let added = run(bench
            .command("ssh-add")
            .arg(&key)
            .env("SSH_AUTH_SOCK", &agent.socket));
        assert_eq!(added.code, Some(0), "{added:?}");
        agent
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Asks the agent for its keys, as ssh-agent's protocol has it, and looks for one.
const LIST: &str = r#"perl -MSocket -e 'socket(S, AF_UNIX, SOCK_STREAM, 0); \
    connect(S, sockaddr_un($ENV{SSH_AUTH_SOCK})) or die "no agent: $!"; \
    syswrite(S, pack("NC", 1, 11)); sysread(S, $size, 4); \
    sysread(S, $keys, unpack("N", $size)); exit($keys !~ /of-the-test/)'"#;

#[test]
fn a_step_reaches_the_agent() {
    ensure_debian();
    let bench = Bench::new();
    let name = ImageName::new();
    let agent = Agent::start(&bench, "key-of-the-test");
    let dockerfile = format!(
        "FROM {DEBIAN}\nRUN --mount=type=ssh {LIST}\nRUN --mount=type=ssh,id=other {LIST}\n\
         RUN test -z \"$SSH_AUTH_SOCK\"\n"
    );
    bench.write(".dockerignore", "*\n");
    bench.write("Dockerfile", &dockerfile);
    let other = format!("other={}", agent.socket.display());
    let flags = ["--ssh", "default", "--ssh", &other];
    let build = || {
        let mut command = name.build(&bench, &flags);
        command.env("SSH_AUTH_SOCK", &agent.socket);
        command
    };
    let image = built(&mut build());
    assert_eq!(image["state"], "built");
    assert_eq!(built(&mut build())["state"], "up_to_date");
    let id = image["id"].as_str().unwrap();
    assert!(!docker(&["inspect", id]).contains("SSH_AUTH_SOCK"));
}

#[test]
fn without_an_agent_the_way_to_one_is_told() {
    let bench = Bench::new();
    let name = ImageName::new();
    bench.write("Dockerfile", "FROM scratch\n");
    let ended = run(&mut name.build(&bench, &["--ssh", "default"]));
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.stderr.contains("ssh-agent"), "{}", ended.stderr);
}
