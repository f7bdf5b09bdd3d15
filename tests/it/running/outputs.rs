//! What a run was for: its outputs are kept, or its container is, and the run says which.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;

use serde_json::{Value, json};

use crate::support::image::ImageName;
use crate::support::project::Project;
use crate::support::{is_root, run};

#[test]
fn a_job_that_made_no_output_did_not_succeed() {
    let project = Project::new(
        "job:
  image: IMAGE
  command: [sh, -c, 'echo done; rmdir /gone; exit ${CODE:-0}']
  outputs: { empty: /empty, file: /made/model.bin, gone: /gone, maybe: { path: /maybe, optional: true } }
",
    );
    let ended = run(&mut project.run(&["job"]));
    assert_eq!(
        (ended.code, ended.stdout.as_str()),
        (Some(1), "done\n"),
        "{ended:?}"
    );
    let record = project.record();
    assert_eq!(record["ending"], "outputs_lost");
    assert_eq!(
        record["lost_outputs"],
        json!({
            "empty": "the job wrote nothing to `/empty`",
            "file": "there is no `/made/model.bin` in the container",
            "gone": "there is no `/gone` in the container",
        })
    );
    assert_eq!(record["outputs"]["maybe"]["file_count"], 0);
    assert_eq!(
        project.containers().len(),
        1,
        "somebody may look for it there"
    );
    let ended = run(&mut project.jobctl(&["rm", "--force", "job"]));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    project.assert_clean();

    // One that failed has another reason to have made nothing.
    let ended = run(project.run(&["job"]).env("CODE", "3"));
    assert_eq!(ended.code, Some(3), "{ended:?}");
    let record = project.record();
    assert_eq!(record["ending"], "error");
    let warnings = record["warnings"].to_string();
    assert!(
        warnings.contains("the output `gone` is missing"),
        "{warnings}"
    );
    project.assert_clean();
}

#[test]
fn an_outputs_directory_is_there_for_the_jobs_user() {
    let project = Project::new(
        "job:
  image: IMAGE
  command: [sh, -c, 'for d in /a/b /a /new/deep; do stat -c \"%n %u:%g\" $$d; done; echo x > /a/b/f; echo x > /new/deep/model.bin']
  outputs: { dir: /a/b, file: /new/deep/model.bin }
",
    );
    for (user, owner) in [
        (None, "0:0"),
        (Some("1234"), "1234:0"),
        (Some("1234:5678"), "1234:5678"),
        (Some("daemon"), "1:1"),
        (Some("daemon:mail"), "1:8"),
    ] {
        let flags: Vec<_> = user.into_iter().flat_map(|user| ["--user", user]).collect();
        let ended = run(&mut project.run(&[flags.as_slice(), &["job"]].concat()));
        let expected = format!("/a/b {owner}\n/a {owner}\n/new/deep {owner}\n");
        assert_eq!(
            (ended.code, ended.stdout),
            (Some(0), expected),
            "{}",
            ended.stderr
        );
    }
    // What is there is left as it is, and so is what is mounted.
    project.bench.write("mine/.keep", "");
    let mounted = run(&mut project.run(&["--user", "1234", "-v", "./mine:/a", "job"]));
    assert_ne!(mounted.code, Some(0), "{mounted:?}");
    assert!(!project.bench.path().join("mine/b").exists());
}

#[test]
fn an_output_that_is_a_link_is_what_it_points_to() {
    let image = ImageName::new();
    let job = |name: &str, path: &str| {
        format!(
            "{name}: {{ image: {}, command: [sh, -c, 'echo weights > /artifacts/model.bin'], outputs: \
             {{ it: {path} }} }}\n",
            image.as_str()
        )
    };
    let project = Project::new(
        &[
            job("link", "/artifacts"),
            job("chain", "/chain"),
            job("file", "/best.bin"),
            job("dangling", "/dangling"),
            job("loop", "/loop"),
            job("memory", "/memory"),
        ]
        .concat(),
    );
    project.bench.write(
        "Dockerfile",
        "FROM debian:trixie-slim\nRUN mkdir -p /srv/out && ln -s /srv/out /artifacts && \
         ln -s artifacts /chain && ln -s /artifacts/model.bin /best.bin && \
         ln -s nowhere /dangling && ln -s loop /loop && ln -s /dev/shm/x /memory\n",
    );
    let ended = run(&mut image.build(&project.bench, &[]));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    for (name, files) in [
        ("link", json!(["model.bin"])),
        ("chain", json!(["model.bin"])),
        ("file", json!(["best.bin"])),
        ("dangling", Value::Null),
        ("loop", Value::Null),
        ("memory", Value::Null),
    ] {
        let ended = run(&mut project.run(&[name]));
        let record = &project.records()[0];
        if files.is_null() {
            assert_eq!(ended.code, Some(1), "{ended:?}");
            assert_eq!(record["ending"], "outputs_lost");
            let why = match name {
                "memory" => {
                    "`/memory` is a link to `/dev/shm/x`, which is not in the container; it was in memory"
                }
                "dangling" => "`/dangling` is a link to `/nowhere`, which is not in the container",
                _ => "too many links",
            };
            let lost = record["lost_outputs"]["it"].as_str().unwrap();
            assert!(lost.contains(why), "{lost}");
            continue;
        }
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let listed = project.output(&["--format", "json", "show", "--files", name]);
        let listed: Value = serde_json::from_str(&listed).unwrap();
        assert_eq!(listed["outputs"]["it"][0]["path"], files[0], "{name}");
    }
}

/// Makes links that lead anywhere, names of any bytes, and more that is seldom seen; then reads it.
const ODD: &str = "make:
  image: IMAGE
  command:
    - sh
    - -c
    - |
      cd /out && mkdir -p checkpoint-3 0555 && echo w > checkpoint-3/m && ln -s /out/checkpoint-3 best
      ln -s . x && ln -s x/x/../../etc y && ln -s ../../outside z && ln -s loop loop
      ln checkpoint-3/m hard && ln best hardlink
      mkfifo pipe && cp /bin/true setuid && chmod 4755 setuid
      echo odd > \"$(printf 'caf\\351\\nx')\" && echo long > \"$(printf '%0240d' 0)\"
      truncate -s 1G sparse && printf end >> sparse
      echo f > 0555/f && chmod 444 0555/f && chmod 555 0555
  outputs: { out: /out }
use:
  image: IMAGE
  command: [sh, -c, 'cat /in/best/m; readlink /in/best /in/x /in/y /in/z /in/loop; ls -ld /in/0555 | cut -c1-10; touch /in/new || echo kept']
  needs: { make: { outputs: { out: /in } } }
";

#[test]
fn links_devices_and_odd_names_are_kept_as_they_are() {
    let project = Project::new(ODD);
    project.bench.write("outside", "not for you");
    let ended = run(&mut project.run(&["make"]));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let record = project.record();
    let kept = project.bench.path().join(".jobctl/runs");
    let kept = kept
        .join(record["id"].as_str().unwrap())
        .join("outputs/out");
    let sparse = kept.join("sparse").metadata().unwrap();
    assert_eq!(sparse.size(), (1 << 30) + 3);
    assert!(
        sparse.blocks() * 512 < 1 << 20,
        "{} blocks",
        sparse.blocks()
    );
    assert_eq!(
        kept.join("setuid").metadata().unwrap().mode() & 0o7777,
        0o755
    );
    assert_eq!(kept.metadata().unwrap().mode() & 0o077, 0o055);
    let listed: Value =
        serde_json::from_str(&project.output(&["--format", "json", "show", "--files", "make"]))
            .unwrap();
    let files = listed["outputs"]["out"].as_array().unwrap();
    let names: Vec<_> = files
        .iter()
        .map(|file| {
            let name = file["path"].as_str().unwrap();
            match file["link"].as_str() {
                Some(link) => format!("{name} -> {link}"),
                None => name.to_owned(),
            }
        })
        .collect();
    let long = format!("{:0240}", 0);
    assert_eq!(
        names,
        [
            long.as_str(),
            "0555/f",
            "best -> /out/checkpoint-3",
            "caf\u{fffd}\nx",
            "checkpoint-3/m",
            "hard",
            "hardlink -> /out/checkpoint-3",
            "loop -> loop",
            "setuid",
            "sparse",
            "x -> .",
            "y -> x/x/../../etc",
            "z -> ../../outside",
        ]
    );
    assert_eq!(files[5]["sha256"], files[4]["sha256"]);
    // `caf\xe9\nx`
    assert_eq!(files[3]["path_base64"], "Y2Fm6Qp4");

    let got = project.bench.path().join("got");
    let told = project.output(&["get", "make:out", got.to_str().unwrap()]);
    assert!(
        told.contains("best -> /out/checkpoint-3 leads out of the output"),
        "{told}"
    );
    assert_eq!(
        fs::read_link(got.join("y")).unwrap(),
        Path::new("x/x/../../etc")
    );
    assert_eq!(
        fs::read_to_string(got.join("checkpoint-3/m")).unwrap(),
        "w\n"
    );
    assert_eq!(fs::read_to_string(got.join(&long)).unwrap(), "long\n");
    let sparse = got.join("sparse").metadata().unwrap();
    assert!(sparse.size() > 1 << 30 && sparse.blocks() * 512 < 1 << 20);

    let ended = run(&mut project.run(&["use"]));
    let expected = "/out/checkpoint-3\n.\nx/x/../../etc\n../../outside\nloop\ndrwxr-xr-x\nkept\n";
    assert_eq!(
        ended.stdout, expected,
        "a link is the next job's own affair: {ended:?}"
    );

    // A link in the place of what was kept is not handed over.
    fs::rename(&kept, kept.with_extension("moved")).unwrap();
    symlink(project.bench.path(), &kept).unwrap();
    let ended = run(&mut project.run(&["use"]));
    assert_eq!(ended.code, Some(125), "{ended:?}");
    assert!(
        ended.stderr.contains("the output `out` of the run"),
        "{ended:?}"
    );
    assert_eq!(
        run(&mut project.jobctl(&["get", "make", "again"])).code,
        Some(1)
    );
}

#[test]
fn an_output_larger_than_its_max_size_is_not_collected() {
    let project = Project::new(
        "job:
  image: IMAGE
  command: [sh, -c, 'head -c 600 /dev/zero > /out/a; head -c 600 /dev/zero > /out/b']
  outputs: { out: { path: /out, max_size: 1000b } }
",
    );
    let ended = run(&mut project.run(&["job"]));
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let record = project.record();
    assert_eq!(
        record["lost_outputs"]["out"],
        "`b`: the output is larger than its `max_size` of 1000 bytes"
    );
    assert_eq!(project.containers().len(), 1);

    // What was wrong in jobs.yaml may be corrected: the size, and where it is.
    let manifest = project.bench.path().join("jobs.yaml");
    let text = fs::read_to_string(&manifest).unwrap();
    for (wrong, right) in [
        ("/out,", "/nowhere,"),
        ("1000b", "2kb"),
        ("/nowhere,", "/out,"),
    ] {
        let ended = run(&mut project.jobctl(&["collect", "job"]));
        assert_eq!(ended.code, Some(1), "{ended:?}");
        let text = fs::read_to_string(&manifest).unwrap();
        fs::write(&manifest, text.replace(wrong, right)).unwrap();
    }
    assert_ne!(fs::read_to_string(&manifest).unwrap(), text);
    let ended = run(&mut project.jobctl(&["collect", "job"]));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(project.record()["ending"], "success");
    assert_eq!(project.record()["outputs"]["out"]["bytes"], 1200);
    project.assert_clean();
}

#[test]
fn jobctl_of_another_user_collects_what_that_user_may_not_write() {
    let test = "jobctl_of_another_user_collects_what_that_user_may_not_write";
    if !is_root(test) {
        return;
    }
    let project = Project::new(
        "job:
  image: IMAGE
  command: [sh, -c, 'mkdir -p /out/cache; echo y > /out/cache/f; chmod 400 /out/cache/f; chmod 555 /out/cache; chmod 500 /out']
  outputs: { out: /out }
",
    );
    let state = project.bench.path().join("state");
    fs::create_dir(&state).unwrap();
    std::os::unix::fs::chown(&state, Some(12345), None).unwrap();
    let group = fs::metadata("/var/run/docker.sock").unwrap().gid();
    let copy = project.bench.path().join("jobctl");
    fs::copy(crate::support::jobctl(), &copy).unwrap();
    let as_other = |args: &[&str]| {
        let mut command = project.bench.command("setpriv");
        command
            .args([
                "--reuid=12345",
                &format!("--regid={group}"),
                "--clear-groups",
            ])
            .arg(&copy)
            .args(args)
            .env("JOBCTL_STATE_DIR", &state);
        run(&mut command)
    };
    let ended = as_other(&["run", "job"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let ended = as_other(&["get", "job", state.join("got").to_str().unwrap()]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(
        fs::read_to_string(state.join("got/out/cache/f")).unwrap(),
        "y\n"
    );
    let mode = fs::metadata(state.join("got/out/cache/f"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let ended = as_other(&["rm", "job"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(fs::read_dir(state.join("runs")).unwrap().count(), 0);
    assert_eq!(fs::read_dir(state.join("staging")).unwrap().count(), 0);
}

#[test]
fn an_input_that_changes_while_the_job_runs_is_in_the_record() {
    let project = Project::with_name(
        "job:
  image: IMAGE
  command: [sh, -c, 'until [ -e /shared/go ]; do sleep 0.05; done']
  volumes: [\"./shared:/shared\"]
  inputs: { words: { source: words.txt, target: /words }, dir: { source: data, target: /data } }
",
    );
    for file in ["shared/.keep", "words.txt", "data/a"] {
        project.bench.write(file, "before\n");
    }
    let ended = run(&mut project.jobctl(&["run", "-d", "job"]));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    project.bench.write("words.txt", "after\n");
    project.bench.write("shared/go", "");
    let id = ended.stdout.trim().to_owned();
    let ended = run(&mut project.jobctl(&["wait", &id]));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let record = project.record();
    let sha256sum = |text: &str| {
        use sha2::Digest as _;
        format!("{:x}", sha2::Sha256::digest(text))
    };
    let words = &record["inputs"]["words"];
    assert_eq!(words["sha256"], sha256sum("before\n"));
    assert_eq!(words["sha256_at_end"], sha256sum("after\n"));
    assert_eq!(words["is_changed"], true);
    assert_eq!(record["inputs"]["dir"]["is_changed"], Value::Null);
    let warnings = record["warnings"].to_string();
    assert!(
        warnings.contains("the input `words` changed while the job ran"),
        "{warnings}"
    );
    // Which of the two it read, nobody knows: it is not taken for a run of either.
    for text in ["before\n", "after\n"] {
        project.bench.write("words.txt", text);
        let ended = run(&mut project.jobctl(&["up", "job"]));
        assert!(ended.stdout.contains("ran"), "{ended:?}");
        let ended = run(&mut project.jobctl(&["up", "job"]));
        assert!(ended.stdout.contains("up to date"), "{ended:?}");
    }
}

#[test]
fn a_run_with_400_000_files_is_listed_shown_and_got() {
    let test = "a_run_with_400_000_files_is_listed_shown_and_got";
    let is_full = std::env::var_os("JOBCTL_TEST_FULL").is_some();
    let count = if is_full { 400_000 } else { 20_000 };
    if !is_full {
        crate::support::skipped(test, "with 20,000 files alone; `./check --full` has all");
    }
    let script = format!(
        "cd /out; p=$(printf '%0233d' 0); seq {count} | split -l 1000 - list; for l in list*; do \
         mkdir d$l; (cd d$l; sed \"s/^/$p/\" ../$l | xargs touch); rm $l; done"
    );
    let project = Project::new(&format!(
        "many:\n  image: IMAGE\n  command: [sh, -c, {}]\n  outputs: {{ out: /out }}\n",
        json!(script.replace('$', "$$"))
    ));
    let ended = run(&mut project.run(&["many"]));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let record = project.record();
    assert_eq!(record["outputs"]["out"]["file_count"], count);
    assert!(record.to_string().len() < 100_000);
    assert!(project.output(&["runs"]).contains("finished"));
    let shown = project.output(&["show", "many"]);
    assert!(shown.contains(&format!("{count} files")), "{shown}");
    assert_eq!(
        project.output(&["show", "--files", "many"]).lines().count(),
        count
    );
    let got = project.bench.path().join("got");
    let told = project.output(&["get", "many:out", got.to_str().unwrap()]);
    assert!(told.contains(&format!("{count} files")), "{told}");
    project.assert_clean();
}

#[test]
fn a_job_can_not_lead_its_outputs_elsewhere() {
    let project = Project::new(
        "job:
  image: IMAGE
  command:
    - sh
    - -c
    - |
      echo pwned > /out/authorized_keys; run=$$(ls /project/.jobctl/runs | tail -1)
      cd /project/.jobctl; case $$WHERE in
      outputs) ln -s /project/elsewhere runs/$$run/outputs ;;
      runs) mv runs ../moved; ln -s ../moved runs ;;
      esac
  environment: [WHERE]
  volumes: [\".:/project\"]
  outputs: { m: /out }
",
    );
    project.bench.write("elsewhere/m/precious", "keep");
    let cases = [
        ("outputs", 1, "could not be collected"),
        ("runs", 125, "runs is a link"),
    ];
    for (place, code, words) in cases {
        let ended = run(project.run(&["job"]).env("WHERE", place));
        assert_eq!(ended.code, Some(code), "{place}: {ended:?}");
        assert!(ended.stderr.contains(words), "{place}: {ended:?}");
        let elsewhere = project.bench.path().join("elsewhere");
        let found: Vec<_> = fs::read_dir(&elsewhere)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(found, ["m"]);
        assert_eq!(
            fs::read_to_string(elsewhere.join("m/precious")).unwrap(),
            "keep"
        );
        assert!(!elsewhere.join("m/authorized_keys").exists());
    }
}

#[test]
fn an_output_is_not_called_as_another_ones_list() {
    let project = Project::new(
        "job: { image: IMAGE, command: ['true'], outputs: { m: /m, m.files.jsonl: /n } }",
    );
    let ended = run(&mut project.run(&["job"]));
    assert_eq!(ended.code, Some(125), "{ended:?}");
    let expected = "the output `m.files.jsonl` has the name of the list of another output's files";
    assert!(ended.stderr.contains(expected), "{ended:?}");
}
