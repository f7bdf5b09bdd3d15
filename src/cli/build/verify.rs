//! `jobctl build --verify`

use super::{Unbuilt, cache_folder, interrupted};
use crate::cli::Ending;
use crate::cli::context::Context;
use crate::exit::Exit;
use crate::ops::build::{Unverified, Verdict, Verification, verify};
use crate::plan::build::Item;
use crate::report::{verification_human, verification_json};

pub(super) fn exec(context: &Context, items: &[Item]) -> Ending {
    let cache = cache_folder(&context.environment);
    let outcome = context.watch(async |events| {
        let engine = context.connect().await.map_err(Unbuilt::Engine)?;
        let verifying = verify(&engine, items, cache.as_ref(), events, interrupted());
        Box::pin(verifying).await.map_err(|error| match error {
            Unverified::Failure(failure) => Unbuilt::Failure(failure),
            Unverified::Interrupted => Unbuilt::Interrupted,
        })
    })?;
    let found = match outcome {
        Ok(found) => found,
        Err(unbuilt) => return Ok(unbuilt.say(context)),
    };
    context
        .output
        .result(|| verification_human(&found), || verification_json(&found));
    Ok(exit(&found))
}

fn exit(found: &[Verification]) -> Exit {
    let is = |wanted: fn(&Verdict) -> bool| found.iter().any(|image| wanted(&image.verdict));
    if is(|verdict| matches!(verdict, Verdict::Differs(_))) {
        Exit::Failed
    } else if is(|verdict| matches!(verdict, Verdict::Unknown(_))) {
        Exit::Usage
    } else {
        Exit::Success
    }
}

#[cfg(test)]
mod tests {
    use super::exit;
    use crate::exit::Exit;
    use crate::ops::build::{Comparison, Verdict, Verification};

    fn verification(verdict: Verdict) -> Verification {
        Verification {
            title: "train".to_owned(),
            ids: ["1", "2"].map(|digit| format!("sha256:{}", digit.repeat(64)).parse().unwrap()),
            epoch: None,
            verdict,
            causes: Vec::new(),
        }
    }

    #[test]
    fn the_worst_verdict_decides_on_the_exit_code() {
        let identical = || verification(Verdict::Identical);
        let unknown = || verification(Verdict::Unknown("why".to_owned()));
        let differing = || verification(Verdict::Differs(Comparison::default()));
        assert_eq!(exit(&[]), Exit::Success);
        assert_eq!(exit(&[identical()]), Exit::Success);
        assert_eq!(exit(&[unknown(), identical()]), Exit::Usage);
        assert_eq!(exit(&[unknown(), differing()]), Exit::Failed);
    }
}
