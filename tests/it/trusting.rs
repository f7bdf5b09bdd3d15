//! What a jobs.yaml runs on this machine runs only when the user allowed it.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::image::ImageName;
use crate::support::{Bench, Ended, jobctl, run};

/// A repository that was just cloned, whose base image only its own program can make.
struct Cloned {
    bench: Bench,
    image: String,
}

impl Cloned {
    fn new() -> Self {
        let bench = Bench::new();
        let image = format!("{}-base:1", ImageName::new().as_str());
        // No registry of that name answers.
        let pull = format!("127.0.0.1:1/{image}");
        let cloned = Self { bench, image: pull };
        cloned.bench.write(
            "repo/jobs.yaml",
            &format!(
                "version: 1\nname: test\nimages:\n  base: {{ pull: \"{}\", bootstrap: make }}\njobs:\n  app: {{ \
                 build: {{ context: app, requires: [base] }} }}\n",
                cloned.image
            ),
        );
        cloned
            .bench
            .write("repo/app/Dockerfile", &format!("FROM {}\n", cloned.image));
        cloned.program("echo \"$1\" >>\"${0%/*}/ran\"");
        cloned
    }

    /// Gives its program these lines.
    fn program(&self, lines: &str) {
        let text = format!(
            "#!/bin/sh\nset -e\n{lines}\ncd \"${{0%/*}}\"\necho \"$1\" >file\ntar --create --mtime=@0 file\n"
        );
        let program = self.bench.write("repo/make", &text);
        fs::set_permissions(program, Permissions::from_mode(0o755)).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.bench.path().canonicalize().unwrap().join(name)
    }

    fn jobctl(&self, args: &[&str]) -> Command {
        let mut command = self.bench.jobctl();
        command.current_dir(self.path("repo")).args(args);
        command
    }

    fn build(&self) -> Ended {
        run(&mut self.jobctl(&["build", "base"]))
    }

    /// How often its program ran.
    fn runs(&self) -> usize {
        let ran = fs::read_to_string(self.path("repo/ran")).unwrap_or_default();
        assert!(ran.lines().all(|line| line == self.image), "{ran}");
        ran.lines().count()
    }

    /// Removes the image, so that it has to be made again.
    fn forget(&self) {
        let removed = Command::new("docker")
            .args(["rmi", "--force", &self.image])
            .output();
        assert!(removed.unwrap().status.success());
    }

    fn listed(&self) -> Vec<Value> {
        let ended = run(&mut self.jobctl(&["trust", "--list", "--format", "json"]));
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let document: Value = serde_json::from_str(&ended.stdout).unwrap();
        document["programs"].as_array().unwrap().clone()
    }

    /// What a terminal shows of a call when these keys are typed.
    fn on_a_terminal(&self, args: &str, keys: &str) -> String {
        use std::io::Write as _;

        let line = format!("{} {args}", jobctl().display());
        let mut command = self.bench.command("script");
        let mut child = command
            .args(["-qec", &line, "/dev/null"])
            .current_dir(self.path("repo"))
            .env("TERM", "xterm")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(keys.as_bytes())
            .unwrap();
        let output = child.wait_with_output().unwrap();
        String::from_utf8(output.stdout).unwrap().replace('\r', "")
    }
}

impl Drop for Cloned {
    fn drop(&mut self) {
        let _ = Command::new("docker")
            .args(["rmi", "--force", &self.image])
            .output();
    }
}

#[test]
fn a_cloned_program_does_not_run_before_it_is_allowed() {
    let cloned = Cloned::new();
    let refused = cloned.build();
    assert_eq!(refused.code, Some(1), "{refused:?}");
    let program = cloned.path("repo/make");
    let sum = run(Command::new("sha256sum").arg(&program)).stdout;
    for said in [
        "error[build-failed]: `base` is not built: `",
        "it is a program of this project, and not trusted",
        &format!("{} {}", program.display(), cloned.image),
        &format!("sha256:{}", sum.split(' ').next().unwrap()),
        "begins with: set -e",
        &format!("`jobctl trust {}`", cloned.path("repo").display()),
        "JOBCTL_TRUST=1",
        "for one call: `--trust`",
    ] {
        assert!(refused.stderr.contains(said), "{said}: {}", refused.stderr);
    }
    // The step's line is short, as the error follows.
    let long = refused.stderr.matches("is a program of this project");
    assert_eq!(long.count(), 1, "{}", refused.stderr);
    assert_eq!(cloned.runs(), 0);
    // A job that is built from it is refused by the same, as jobctl's own failure.
    let refused = run(&mut cloned.jobctl(&["run", "app"]));
    assert_eq!(refused.code, Some(125), "{refused:?}");
    let refused = run(&mut cloned.jobctl(&["up", "app"]));
    assert_eq!(refused.code, Some(125), "{refused:?}");
    assert_eq!(cloned.runs(), 0);

    fs::rename(
        cloned.path("repo/jobs.yaml"),
        cloned.path("repo/other.yaml"),
    )
    .unwrap();
    let refused = run(&mut cloned.jobctl(&["-f", "other.yaml", "build", "base"]));
    let help = format!(
        "`jobctl -f {} trust`",
        cloned.path("repo/other.yaml").display()
    );
    assert!(refused.stderr.contains(&help), "{}", refused.stderr);
    fs::rename(
        cloned.path("repo/other.yaml"),
        cloned.path("repo/jobs.yaml"),
    )
    .unwrap();

    let allowed = run(&mut cloned.jobctl(&["trust"]));
    assert_eq!(allowed.code, Some(0), "{allowed:?}");
    assert!(allowed.stdout.contains("unchanged"), "{}", allowed.stdout);
    let built = cloned.build();
    assert_eq!(built.code, Some(0), "{built:?}");
    assert_eq!(cloned.runs(), 1);
}

#[test]
fn what_changed_is_to_be_allowed_again() {
    let cloned = Cloned::new();
    let repo = cloned.path("repo");
    let trust = |args: &[&str]| {
        let mut command = cloned.bench.jobctl();
        let ended = run(command.args(args));
        assert_eq!(ended.code, Some(0), "{ended:?}");
        ended
    };
    trust(&["trust", "repo"]);
    let listed = cloned.listed();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0]["state"], "unchanged");
    assert_eq!(
        listed[0]["manifest"],
        repo.join("jobs.yaml").to_str().unwrap()
    );
    assert_eq!(listed[0]["args"], serde_json::json!([cloned.image]));
    cloned.program("echo evil >&2");
    assert_eq!(cloned.listed()[0]["state"], "changed");
    let refused = cloned.build();
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(!refused.stderr.contains("| evil"), "{}", refused.stderr);
    let date = listed[0]["granted"].as_str().unwrap().split('T').next();
    let changed = format!("changed since it was allowed on {}", date.unwrap());
    assert!(refused.stderr.contains(&changed), "{}", refused.stderr);
    let shown = cloned.on_a_terminal("build base", "n\n");
    assert!(shown.contains(&changed), "{shown}");
    cloned.program("echo \"$1\" >>\"${0%/*}/ran\"");
    assert_eq!(cloned.build().code, Some(0));
    cloned.forget();
    // Also where the project is gone.
    let away = cloned.path("away");
    fs::rename(&repo, &away).unwrap();
    assert_eq!(
        run(cloned.bench.jobctl().args(["trust", "--list"])).code,
        Some(0)
    );
    let revoked = trust(&["trust", "--revoke", "repo"]);
    assert!(
        revoked.stderr.contains("no longer trusted"),
        "{}",
        revoked.stderr
    );
    let again = trust(&["trust", "--revoke", "repo"]);
    assert!(again.stderr.contains("was trusted"), "{}", again.stderr);
    assert_eq!(again.stdout, "");
    let document = |args: &[&str]| -> Value {
        let ended = trust(&[&["--format", "json", "trust"], args].concat());
        serde_json::from_str(&ended.stdout).unwrap()
    };
    let manifest = repo.join("jobs.yaml");
    assert_eq!(
        document(&["--revoke", "repo"]),
        serde_json::json!({ "schema": "jobctl.revoke/1", "manifest": manifest, "programs": [] })
    );
    fs::rename(&away, &repo).unwrap();
    let allowed = document(&["repo"])["programs"].take();
    assert_eq!(document(&["--revoke", "repo"])["programs"], allowed);
    assert_eq!(allowed.as_array().unwrap().len(), 1);
    assert_eq!(cloned.build().code, Some(1));
    assert_eq!(cloned.runs(), 1);
}

#[test]
fn a_first_line_is_shown_as_the_kernel_reads_it() {
    let cloned = Cloned::new();
    let forged = "#!/usr/bin/env -S sh -c evil\r#!/bin/sh -e\n";
    fs::write(cloned.path("repo/make"), forged).unwrap();
    let refused = cloned.build();
    let shown = "begins with: #!/usr/bin/env -S sh -c evil\\r#!/bin/sh -e\n";
    assert!(refused.stderr.contains(shown), "{}", refused.stderr);
}

#[test]
fn an_interpreter_of_the_repository_is_allowed_with_the_program() {
    let cloned = Cloned::new();
    let repo = cloned.path("repo");
    let interpreter = repo.join("venv/bin/sh");
    fs::create_dir_all(interpreter.parent().unwrap()).unwrap();
    let link = |target: &str| {
        let _ = fs::remove_file(&interpreter);
        symlink(target, &interpreter).unwrap();
    };
    link("/bin/sh");
    let script = fs::read_to_string(repo.join("make")).unwrap();
    let script = script.replace("#!/bin/sh", &format!("#!{}", interpreter.display()));
    fs::write(repo.join("make"), script).unwrap();
    let shown = |said: &str, refused: &Ended| {
        assert_eq!(refused.code, Some(1), "{refused:?}");
        assert!(refused.stderr.contains(said), "{said}: {}", refused.stderr);
    };
    let interpreter_shown = interpreter.display();
    let said = format!("its first line leads to {interpreter_shown}, a link to /");
    shown(&said, &cloned.build());
    assert_eq!(run(&mut cloned.jobctl(&["trust"])).code, Some(0));
    let named = &cloned.listed()[0]["named"];
    assert_eq!(named[0]["path"], interpreter.to_str().unwrap());
    assert!(named[0]["digest"].is_null(), "{named}");
    assert_eq!(cloned.build().code, Some(0));
    assert_eq!(cloned.runs(), 1);
    cloned.forget();
    // The link leads to another program, then to one of the repository's own.
    let date = cloned.listed()[0]["granted"]
        .as_str()
        .unwrap()
        .split('T')
        .next()
        .unwrap()
        .to_owned();
    let changed = format!(
        "and `{interpreter_shown}`, which its first line leads to, is not what was allowed with it on {date}"
    );
    link("/bin/cat");
    shown(&changed, &cloned.build());
    assert_eq!(cloned.listed()[0]["state"], "changed");
    cloned.bench.write("repo/venv/sh", "#!/bin/sh\n. \"$1\"\n");
    fs::set_permissions(repo.join("venv/sh"), Permissions::from_mode(0o755)).unwrap();
    link("../sh");
    shown(&changed, &cloned.build());
    let sum = run(Command::new("sha256sum").arg(repo.join("venv/sh"))).stdout;
    let digest = format!("sha256:{}", sum.split(' ').next().unwrap());
    shown(
        &format!("leads to {interpreter_shown}, {digest}"),
        &cloned.build(),
    );
    link("/bin/sh");
    assert_eq!(cloned.listed()[0]["state"], "unchanged");
    // Nor may others put something else there.
    let place = repo.join("venv");
    fs::set_permissions(&place, Permissions::from_mode(0o777)).unwrap();
    shown(
        &format!("others may write `{}`", place.display()),
        &cloned.build(),
    );
    fs::set_permissions(&place, Permissions::from_mode(0o755)).unwrap();
    assert_eq!(cloned.runs(), 1);
    // One that PATH leads to is the repository's as well.
    let script = fs::read_to_string(repo.join("make")).unwrap();
    let first = format!("#!{interpreter_shown}");
    fs::write(
        repo.join("make"),
        script.replace(&first, "#!/usr/bin/env sh"),
    )
    .unwrap();
    let build = |path: &str| {
        let mut command = cloned.jobctl(&["build", "base"]);
        run(command.env("PATH", path))
    };
    assert_eq!(run(&mut cloned.jobctl(&["trust"])).code, Some(0));
    let search = format!("{}:/usr/bin:/bin", repo.join("venv/bin").display());
    shown(&said, &build(&search));
    assert_eq!(cloned.runs(), 1);
    assert_eq!(build("/usr/bin:/bin").code, Some(0));
    assert_eq!(cloned.runs(), 2);
}

#[test]
fn a_program_that_others_may_swap_does_not_run() {
    let cloned = Cloned::new();
    assert_eq!(run(&mut cloned.jobctl(&["trust"])).code, Some(0));
    let repo = cloned.path("repo");
    for place in [repo.clone(), repo.join("make")] {
        fs::set_permissions(&place, Permissions::from_mode(0o777)).unwrap();
        let refused = cloned.build();
        assert_eq!(refused.code, Some(1), "{refused:?}");
        for said in ["others may write `", "`chmod go-w "] {
            let said = format!("{said}{}`", place.display());
            assert!(refused.stderr.contains(&said), "{said}: {}", refused.stderr);
        }
        fs::set_permissions(&place, Permissions::from_mode(0o755)).unwrap();
    }
    assert_eq!(cloned.runs(), 0);
    assert_eq!(cloned.build().code, Some(0));
    assert_eq!(cloned.runs(), 1);
}

#[test]
fn ci_trusts_what_it_has_checked_out() {
    let cloned = Cloned::new();
    for word in ["", "0", "false", "maybe"] {
        let mut command = cloned.jobctl(&["build", "base"]);
        let ended = run(command.env("JOBCTL_TRUST", word));
        assert_eq!(ended.code, Some(1), "{ended:?}");
    }
    let mut command = cloned.jobctl(&["build", "base"]);
    let ended = run(command.env("JOBCTL_TRUST", "1"));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    cloned.forget();
    let ended = run(&mut cloned.jobctl(&["build", "base", "--trust"]));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(cloned.runs(), 2);
    // That was for once.
    assert!(cloned.listed().is_empty());
    cloned.forget();
    assert_eq!(cloned.build().code, Some(1));
}

#[test]
fn a_repository_does_not_bring_its_own_trust() {
    let cloned = Cloned::new();
    assert_eq!(run(&mut cloned.jobctl(&["trust"])).code, Some(0));
    let state = cloned.path("home/.local/state/jobctl/trust");
    // What the user allowed is copied to wherever a repository could have it.
    for place in [
        "repo/.jobctl",
        "repo/.jobctl/trust",
        "repo/.local/state/jobctl/trust",
    ] {
        fs::create_dir_all(cloned.path(place)).unwrap();
        for entry in fs::read_dir(&state).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), cloned.path(place).join(entry.file_name())).unwrap();
        }
    }
    let build = || cloned.jobctl(&["build", "base"]);
    fs::remove_dir_all(&state).unwrap();
    assert_eq!(run(&mut build()).code, Some(1));
    let named = cloned.path("repo/.jobctl");
    assert_eq!(run(build().env("JOBCTL_STATE_DIR", named)).code, Some(1));
    // Even where the home is in the repository.
    let home = cloned.path("repo");
    assert_eq!(run(build().env("HOME", &home)).code, Some(1));
    let mut command = cloned.jobctl(&["trust"]);
    let ended = run(command.env("HOME", &home));
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(
        ended.stderr.contains("inside the project"),
        "{}",
        ended.stderr
    );
    assert_eq!(cloned.runs(), 0);
}

#[test]
fn a_terminal_is_asked_once() {
    let cloned = Cloned::new();
    let shown = cloned.on_a_terminal("build base", "n\n");
    assert!(
        shown.contains("may it run, as long as it is unchanged? [y/N]"),
        "{shown}"
    );
    assert!(shown.contains("begins with: set -e"), "{shown}");
    assert_eq!(cloned.runs(), 0, "{shown}");
    let shown = cloned.on_a_terminal("build base", "y\n");
    assert!(shown.contains("may it run"), "{shown}");
    assert_eq!(cloned.runs(), 1, "{shown}");
    cloned.forget();
    let shown = cloned.on_a_terminal("build base", "");
    assert!(!shown.contains("may it run"), "{shown}");
    assert_eq!(cloned.runs(), 2, "{shown}");
}

#[test]
fn what_is_here_already_needs_no_program_and_no_question() {
    let cloned = Cloned::new();
    assert_eq!(
        run(&mut cloned.jobctl(&["build", "base", "--trust"])).code,
        Some(0)
    );
    let shown = cloned.on_a_terminal("build base", "");
    assert!(!shown.contains("may it run"), "{shown}");
    assert!(shown.contains("(present)"), "{shown}");
}

#[test]
fn a_project_without_programs_has_nothing_to_allow() {
    let bench = Bench::new();
    bench.write(
        "jobs.yaml",
        "version: 1\nname: test\njobs:\n  a: { image: x }\n",
    );
    let ended = run(bench.jobctl().arg("trust"));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(
        ended.stdout.contains("runs no program on this machine"),
        "{}",
        ended.stdout
    );
    let missing = run(bench.jobctl().args(["trust", "nowhere"]));
    assert_eq!(missing.code, Some(2), "{missing:?}");
    assert_eq!(
        missing.stderr,
        "error: there is no jobs.yaml in `nowhere`\nhelp: name the directory of one; for a file of another name: \
         `jobctl -f FILE trust`\n"
    );
}

#[test]
fn a_program_that_can_not_run_is_reported_with_its_fix() {
    let cloned = Cloned::new();
    let program = cloned.path("repo/make");
    let build = || {
        let ended = run(&mut cloned.jobctl(&["build", "base", "--trust"]));
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(!ended.stderr.contains("os error"), "{}", ended.stderr);
        ended.stderr
    };
    fs::set_permissions(&program, Permissions::from_mode(0o644)).unwrap();
    assert!(build().contains("chmod +x"));
    fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
    fs::write(&program, "#!/nowhere/sh\n").unwrap();
    assert!(build().contains("install the interpreter"));
    fs::write(&program, "echo\n").unwrap();
    assert!(build().contains("a script whose first line is such as `#!/bin/sh`"));
    fs::remove_file(&program).unwrap();
    let ended = run(&mut cloned.jobctl(&["trust"]));
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let said = format!(
        "error[trust]: can't read `{}`: No such file or directory\n",
        program.display()
    );
    assert!(ended.stderr.starts_with(&said), "{}", ended.stderr);
    assert!(ended.stderr.contains("`bootstrap`"), "{}", ended.stderr);
}
