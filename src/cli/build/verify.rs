//! `jobctl build --verify`

use super::{Unbuilt, cache_folder, interrupted};
use crate::cli::Ending;
use crate::cli::context::Context;
use crate::ops::build::{Unverified, verify};
use crate::plan::build::Item;
use crate::report::{verification_exit, verification_human, verification_json};

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
        .result(|| verification_human(&found), || verification_json(&found))?;
    Ok(verification_exit(&found))
}
