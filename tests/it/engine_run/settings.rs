//! What is asked for, seen from within the container.

use jobctl::engine::run::{Bound, BoundKind, LogRequest, RunSpec};
use jobctl::model::Secret;

use crate::support::container::{Runner, shell};

#[tokio::test]
async fn the_container_is_as_it_was_asked_for() {
    let runner = Runner::new().await;
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("file"), "from outside").unwrap();
    let mut spec = RunSpec {
        environment: vec![
            ("SET".parse().unwrap(), Some(Secret::new("a b=c"))),
            ("PATH".parse().unwrap(), Some(Secret::new("/usr/bin:/bin"))),
        ],
        user: Some("1234:2345".to_owned()),
        workdir: Some("/var/tmp".to_owned()),
        hostname: Some("job".to_owned()),
        mounts: vec![
            format!("{}:/data:ro", folder.path().display())
                .parse()
                .unwrap(),
        ],
        bound: vec![Bound {
            size: Some("3mb".parse().unwrap()),
            ..Bound::of(BoundKind::Tmpfs, None, "/scratch")
        }],
        tmpfs: [("/more".to_owned(), "size=2m,noexec".to_owned())].into(),
        security: vec!["no-new-privileges".to_owned()],
        cap_drop: vec!["ALL".to_owned()],
        is_read_only: true,
        ..shell(
            "echo $SET; echo $(id -u):$(id -g); pwd; hostname; cat /data/file; echo; \
             ulimit -Sn; ulimit -Hn; \
             df --output=size /dev/shm | tail -n 1 | tr -d ' '; \
             df --output=size /scratch | tail -n 1 | tr -d ' '; \
             df --output=size /more | tail -n 1 | tr -d ' '; \
             grep -E 'NoNewPrivs|CapBnd' /proc/self/status | tr '\\t' ' '; \
             touch /data/x /x 2>&1 | grep -c 'Read-only'; \
             ps -p 1 -o comm= 2>/dev/null || cat /proc/1/comm",
        )
    };
    spec.limits.shm_size = Some("5mb".parse().unwrap());
    spec.limits.ulimits = vec!["nofile=512:1024".parse().unwrap()];
    let finished = runner.run(&spec).await;
    let said = String::from_utf8(finished.stdout).unwrap();
    assert_eq!(
        said.lines().collect::<Vec<_>>(),
        [
            "a b=c",
            "1234:2345",
            "/var/tmp",
            "job",
            "from outside",
            "512",
            "1024",
            "5120",
            "3072",
            "2048",
            "CapBnd: 0000000000000000",
            "NoNewPrivs: 1",
            "2",
            "docker-init",
        ]
    );
}

#[tokio::test]
async fn variables_of_the_image_can_be_taken_away() {
    let runner = Runner::new().await;
    let mut spec = shell("");
    spec.entrypoint = Some(["/usr/bin/env"].map(str::to_owned).into());
    spec.command = Some(Vec::new());
    spec.init = None;
    let with = String::from_utf8(runner.run(&spec).await.stdout).unwrap();
    assert!(with.contains("HOSTNAME="), "{with}");
    spec.environment = vec![("HOSTNAME".parse().unwrap(), None)];
    spec.name.push('x');
    let without = String::from_utf8(runner.run(&spec).await.stdout).unwrap();
    assert!(!without.contains("HOSTNAME="), "{without}");
}

#[tokio::test]
async fn memory_is_told_while_it_runs() {
    let runner = Runner::new().await;
    // 40 MB that the program holds on to.
    let spec = shell("perl -e '$held = q(x) x 40_000_000; $| = 1; print qq(ready\\n); sleep 1000'");
    let id = runner.create(&spec).await;
    assert_eq!(runner.engine.memory(&id).await.unwrap(), None);
    runner.engine.start(&id).await.unwrap();
    let following = LogRequest {
        follow: true,
        ..LogRequest::default()
    };
    let mut output = runner.engine.logs(&id, false, &following).await.unwrap();
    assert_eq!(output.next().await.unwrap().unwrap().bytes, "ready\n");
    let sample = runner.engine.memory(&id).await.unwrap().unwrap();
    assert!(
        (40_000_000..200_000_000).contains(&sample.used),
        "{sample:?}"
    );
    if let Some(peak) = sample.peak {
        assert!(peak >= sample.used, "{sample:?}");
    }
}

#[tokio::test]
async fn a_terminal_has_the_size_it_is_given() {
    let runner = Runner::new().await;
    let mut spec = shell("read line; stty size");
    spec.tty = true;
    spec.stdin = true;
    let id = runner.create(&spec).await;
    let how = jobctl::engine::run::AttachRequest {
        tty: true,
        stdin: true,
        detach_keys: None,
    };
    let attachment = runner.engine.attach(&id, &how).await.unwrap();
    runner.engine.start(&id).await.unwrap();
    runner.engine.resize(&id, 91, 17).await.unwrap();
    let mut input = attachment.input.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut input, b"\n")
        .await
        .unwrap();
    let (stdout, _) = crate::support::container::drain(attachment.output).await;
    assert_eq!(stdout, b"\r\n17 91\r\n");
}

#[tokio::test]
async fn an_image_says_what_a_run_needs() {
    let runner = Runner::new().await;
    let name = crate::support::image::DEBIAN;
    let details = runner.engine.image_details(name).await.unwrap().unwrap();
    let image = runner.engine.image(name).await.unwrap().unwrap();
    assert_eq!(details.id, image.id);
    assert_eq!(details.tags, image.tags);
    assert_eq!(details.labels, image.labels);
    assert!(
        details
            .layers
            .iter()
            .all(|layer| layer.starts_with("sha256:"))
    );
    assert!(!details.layers.is_empty());
    assert!(details.platform.starts_with("linux/"));
    assert_eq!((details.user, details.volumes), (None, vec![]));
}
