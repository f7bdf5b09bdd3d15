//! Services that are rolled back, and stay so.

use serde_json::Value;

use super::records_of;
use super::services::{Requests, Served};
use crate::support::project::Project;
use crate::support::run;

/// Makes a record as earlier versions of jobctl did: of a variable, it has a digest.
fn forget(project: &Project, mut record: Value, variable: &str) {
    for known in record["environment"].as_array_mut().unwrap() {
        if known["name"] == variable {
            let known = known.as_object_mut().unwrap();
            known.remove("value");
            known.insert("digest".to_owned(), "hmac-sha256:00".into());
        }
    }
    let id = record["id"].as_str().unwrap();
    let path = format!(".jobctl/runs/{id}/run.json");
    std::fs::write(project.bench.path().join(path), record.to_string()).unwrap();
}

#[test]
fn a_service_goes_back_to_what_it_was() {
    let served = Served::new();
    let ended = run(&mut served.project.jobctl(&["rollback"]));
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(
        ended.stderr.contains("nothing else was up before"),
        "{ended:?}"
    );
    let names = ["a", "b", "c"];
    for name in names {
        served.up(&[("NAME", name), ("GREETING", "hello")]);
        assert_eq!(served.ask().unwrap(), format!("model {name}\nhello"));
    }
    let requests = Requests::begin(served.address);
    // An earlier jobctl did not keep values.
    let first = records_of(&served.project, "serve").pop().unwrap();
    forget(&served.project, first, "GREETING");
    for (name, greeting) in [("b", "hello"), ("a", "another")] {
        let mut command = served.project.jobctl(&["rollback"]);
        let ended = run(command.env("GREETING", "another"));
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let warning = "`GREETING` has not the value that it had then";
        let is_warned = ended.stderr.contains(warning);
        assert_eq!(is_warned, greeting == "another", "{}", ended.stderr);
        assert_eq!(served.ask().unwrap(), format!("model {name}\n{greeting}"));
    }
    let lost = requests.end().into_iter().filter(Result::is_err).count();
    assert_eq!(lost, 0);
    assert_eq!(served.serving().len(), 1);
    let ended = run(&mut served.project.jobctl(&["rollback"]));
    assert_eq!(ended.code, Some(1), "{ended:?}");
    // What it stands on is not cleared away.
    served.project.output(&["prune", "--keep", "0"]);
    assert_eq!(records_of(&served.project, "train").len(), 1);
    let train = &records_of(&served.project, "train")[0]["id"];
    let ended = run(&mut served.project.jobctl(&["rm", train.as_str().unwrap()]));
    assert!(ended.stderr.contains("reads what the run"), "{ended:?}");
}

impl Served {
    /// Which of its kinds of model are promoted, newest run first.
    fn promoted_models(&self) -> Vec<String> {
        let listed = self.project.output(&["--format", "json", "runs"]);
        let listed: Value = serde_json::from_str(&listed).unwrap();
        let runs = listed["runs"].as_array().unwrap().iter();
        let of_train = runs.filter(|run| run["job"] == "train" && run["is_promoted"] == true);
        of_train
            .map(|run| run["parameters"]["NAME"].as_str().unwrap().to_owned())
            .collect()
    }

    fn roll_back(&self) {
        let ended = run(&mut self.project.jobctl(&["rollback"]));
        assert_eq!(ended.code, Some(0), "{ended:?}");
    }
}

#[test]
fn a_rollback_lasts_until_something_changes() {
    let served = Served::new();
    for name in ["a", "b", "c"] {
        served.up(&[("NAME", name)]);
    }
    let kept = ["train up_to_date", "serve rolled_back"];
    // What was rolled back from is not started again, and each rollback goes one further back.
    for name in ["b", "a"] {
        served.roll_back();
        let up = served.serving()[0]["id"].clone();
        for _ in 0..2 {
            let (steps, ended) = served.up(&[("NAME", "c")]);
            assert_eq!(steps, kept, "{ended:?}");
            let said = format!(
                "serve stays rolled back, at the run {}, until something changes; `jobctl up --forward`",
                &up.as_str().unwrap()[..14]
            );
            assert!(ended.stderr.contains(&said), "{}", ended.stderr);
            assert_eq!(served.ask().unwrap(), format!("model {name}\nhello"));
            assert_eq!(served.serving()[0]["id"], up);
            // Gates go on comparing with what is up.
            assert_eq!(served.promoted_models(), [name]);
        }
    }
    // What is gone comes back as it was rolled back to.
    served.project.output(&["down"]);
    let (steps, ended) = served.up(&[("NAME", "c")]);
    assert_eq!(steps, kept, "{ended:?}");
    assert_eq!(served.ask().unwrap(), "model a\nhello");
    assert_eq!(served.up(&[("NAME", "c")]).0, kept);
    // The one between the two was rolled back from as well.
    assert_eq!(served.up(&[("NAME", "b")]).0, kept);

    let (steps, _) = served.up(&[("NAME", "d")]);
    assert_eq!(steps, ["train ran", "serve ran"]);
    assert_eq!(served.ask().unwrap(), "model d\nhello");
    // From then on nothing is held back any more.
    let (steps, _) = served.up(&[("NAME", "c")]);
    assert_eq!(steps, ["train up_to_date", "serve ran"]);
    assert_eq!(served.promoted_models(), ["c"]);
}

#[test]
fn a_service_that_was_rolled_back_goes_forward_when_somebody_says_so() {
    let served = Served::new();
    for name in ["a", "b"] {
        served.up(&[("NAME", name)]);
    }
    served.roll_back();
    let mut command = served.project.jobctl(&["up", "--forward"]);
    let ended = run(command.env("NAME", "b"));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(served.ask().unwrap(), "model b\nhello");
    assert_eq!(
        served.up(&[("NAME", "b")]).0,
        ["train up_to_date", "serve up_to_date"]
    );

    served.roll_back();
    assert_eq!(served.ask().unwrap(), "model a\nhello");
    served.project.output(&["promote", "serve"]);
    assert_eq!(
        served.up(&[("NAME", "b")]).0,
        ["train up_to_date", "serve ran"]
    );
    assert_eq!(served.ask().unwrap(), "model b\nhello");
}
