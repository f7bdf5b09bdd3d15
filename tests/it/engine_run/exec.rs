//! Programs run in containers that are up.

use std::process::Command;

use jobctl::engine::run::ExecSpec;
use tokio::io::AsyncWriteExt as _;

use crate::support::container::{Runner, command, drain};
use crate::support::run;

fn shell(script: &str) -> ExecSpec {
    ExecSpec {
        command: ["sh", "-c", script].map(str::to_owned).into(),
        ..ExecSpec::default()
    }
}

#[tokio::test]
async fn a_program_in_a_container_has_streams_and_a_code_of_its_own() {
    let runner = Runner::new().await;
    let id = runner.up(&command(&["sleep", "1000"])).await;
    let spec = ExecSpec {
        user: Some("daemon".to_owned()),
        workdir: Some("/usr".to_owned()),
        environment: vec![(
            "GREETING".parse().unwrap(),
            jobctl::model::Secret::new("hello"),
        )],
        stdin: true,
        ..shell("echo $GREETING; id -un; pwd; cat; echo over >&2; exit 42")
    };
    let (exec, attachment) = runner.engine.exec(&id, &spec).await.unwrap();
    let mut input = attachment.input.unwrap();
    input.write_all(b"typed\n").await.unwrap();
    input.shutdown().await.unwrap();
    let (stdout, stderr) = drain(attachment.output).await;
    assert_eq!(stdout, b"hello\ndaemon\n/usr\ntyped\n");
    assert_eq!(stderr, b"over\n");
    assert_eq!(runner.engine.exec_exit(&exec).await.unwrap(), 42);
}

#[tokio::test]
async fn a_program_in_a_container_can_have_a_terminal() {
    let runner = Runner::new().await;
    let id = runner.up(&command(&["sleep", "1000"])).await;
    let spec = ExecSpec {
        tty: true,
        stdin: true,
        ..shell("read line; printf '\\001'; stty size")
    };
    let (exec, attachment) = runner.engine.exec(&id, &spec).await.unwrap();
    runner.engine.exec_resize(&exec, 91, 17).await.unwrap();
    let mut input = attachment.input.unwrap();
    input.write_all(b"\n").await.unwrap();
    let (stdout, _) = drain(attachment.output).await;
    assert_eq!(stdout, b"\r\n\x0117 91\r\n");
    assert_eq!(runner.engine.exec_exit(&exec).await.unwrap(), 0);
}

#[tokio::test]
async fn a_program_that_can_not_be_run_has_dockers_code() {
    let runner = Runner::new().await;
    let id = runner.up(&command(&["sleep", "1000"])).await;
    // Engines differ in them.
    for program in ["no-such-program", "/no/such/program", "/etc/passwd"] {
        let docker = run(Command::new("docker").args(["exec", &id, program]));
        let spec = ExecSpec {
            command: vec![program.to_owned()],
            ..ExecSpec::default()
        };
        let (exec, attachment) = runner.engine.exec(&id, &spec).await.unwrap();
        let (said, _) = drain(attachment.output).await;
        assert_eq!(String::from_utf8(said).unwrap(), docker.stdout, "{program}");
        let code = runner.engine.exec_exit(&exec).await.unwrap();
        assert_eq!(Some(code), docker.code.map(i64::from), "{program}");
    }
}
