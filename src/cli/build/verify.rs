//! `jobctl build --verify`

use super::{Unbuilt, cache_folder, interrupted};
use crate::cli::Ending;
use crate::cli::context::Context;
use crate::event::Events;
use crate::ops::build::{Unverified, verify};
use crate::plan::build::Item;
use crate::report::{self, verification_exit, verification_human, verification_json};

pub(super) fn exec(context: &mut Context, items: &[Item]) -> Ending {
    let reporter = report::reporter(context.progress(), Box::new(std::io::stderr()));
    let (events, received) = Events::channel();
    let cache = cache_folder(&context.environment);
    let outcome = Context::block_on(async {
        let drawn = report::spawn(reporter, received);
        let outcome = match context.connect().await {
            Ok(engine) => {
                let verifying = verify(&engine, items, cache.as_ref(), &events, interrupted());
                Box::pin(verifying).await.map_err(|error| match error {
                    Unverified::Failure(failure) => Unbuilt::Failure(failure),
                    Unverified::Interrupted => Unbuilt::Interrupted,
                })
            }
            Err(error) => Err(Unbuilt::Engine(error)),
        };
        drop(events);
        let _ = drawn.await;
        outcome
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
