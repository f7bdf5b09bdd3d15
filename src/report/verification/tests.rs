use super::{verification_human, verification_json};
use crate::ops::build::{
    Aspect, Cause, Change, Comparison, Difference, Times, Verdict, Verification,
};

fn verification(verdict: Verdict) -> Verification {
    Verification {
        title: "train".to_owned(),
        ids: ["1", "2"].map(|digit| format!("sha256:{}", digit.repeat(64)).parse().unwrap()),
        epoch: Some(1_700_000_000),
        verdict,
        causes: Vec::new(),
    }
}

fn file(path: &str, change: Change) -> Difference {
    Difference::File {
        layer: 2,
        step: Some("RUN make".to_owned()),
        path: path.to_owned(),
        change,
    }
}

fn differing() -> Verification {
    let mut differences = vec![
        Difference::Config("config.Env[1]".to_owned()),
        file(
            "a",
            Change::Aspects(vec![Aspect::Size(3, 4), Aspect::Mode(0o644, 0o755)]),
        ),
        file("b", Change::OnlySecond),
    ];
    differences.extend((0..20).map(|number| {
        file(
            &format!("c{number:02}"),
            Change::Aspects(vec![Aspect::Content]),
        )
    }));
    let times = Times::default();
    Verification {
        causes: vec![Cause {
            why: "dice were thrown",
            help: "throw none",
            files: 22,
        }],
        ..verification(Verdict::Differs(Comparison { differences, times }))
    }
}

#[test]
fn people_see_the_first_differences_and_why() {
    let text = verification_human(&[differing()]);
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(
        lines[..6],
        [
            "train: differs: 23 differences",
            "  configuration: `config.Env[1]`",
            "  layer 2, RUN make",
            "    a: size 3 and 4 bytes, mode 0644 and 0755",
            "    b: only in the second image",
            "    c00: content",
        ]
    );
    assert_eq!(
        lines[lines.len() - 3..],
        [
            "  and 3 more",
            "  why: dice were thrown (22 files)",
            "  help: throw none",
        ]
    );
}

#[test]
fn times_are_counted() {
    let times = |of_image, files| Times {
        of_image,
        files,
        first: (files > 0).then(|| "etc/x".to_owned()),
    };
    for (times, expected) in [
        (times(true, 0), "times differ: the image's own"),
        (
            times(true, 1),
            "times differ: the image's own, and that of `etc/x`",
        ),
        (
            times(false, 2),
            "times differ: those of 2 files, `etc/x` the first",
        ),
        (times(false, 0), "packed differently by the engine"),
    ] {
        let comparison = Comparison {
            times,
            ..Comparison::default()
        };
        let text = verification_human(&[verification(Verdict::SameContent(comparison))]);
        assert_eq!(text, format!("train: same content, {expected}\n"));
    }
}

#[test]
fn programs_see_the_same() {
    let document = verification_json(&[differing(), verification(Verdict::Identical)]);
    assert_eq!(document["schema"], "jobctl.build-verify/1");
    let image = &document["images"][0];
    assert_eq!(image["verdict"], "differs");
    assert_eq!(image["difference_count"], 23);
    assert_eq!(image["differences"].as_array().unwrap().len(), 20);
    assert_eq!(
        image["differences"][1]["differs_in"],
        serde_json::json!(["size", "mode"])
    );
    assert_eq!(image["differences"][2]["only_in"], "second");
    assert_eq!(document["images"][1]["verdict"], "identical");
}
