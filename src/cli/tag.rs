//! `jobctl tag`

use clap::Args;

use super::Ending;
use super::context::Context;
use super::push::{Unpushed, fail};
use crate::exit::Exit;
use crate::model::ImageRef;
use crate::ops::push::{PushFailure, with_tag};

/// Give an image another name
#[derive(Debug, Args)]
pub(super) struct TagArgs {
    /// An image: its name or id
    #[arg(value_name = "IMAGE")]
    image: String,
    /// The name that it gets; it moves from whatever had it
    #[arg(value_name = "NAME")]
    name: String,
}

pub(super) fn exec(args: &TagArgs, context: &mut Context) -> Ending {
    let name = match args.name.parse::<ImageRef>() {
        Ok(name) if name.digest().is_none() => with_tag(&name),
        Ok(_) => {
            let message = format!("`{}` has a digest, which no name can be given", args.name);
            return Ok(context.output.usage(&message, Some("write `NAME:TAG`")));
        }
        Err(error) => {
            let message = format!("`{}`: {error}", args.name);
            return Ok(context.output.usage(&message, error.help.as_deref()));
        }
    };
    let outcome: Result<(), Unpushed> = context.watch(async |_events| {
        let engine = context.connect().await?;
        let image = engine.image(&args.image).await?;
        let image = image.ok_or_else(|| PushFailure::NotThere {
            name: args.image.clone(),
        })?;
        Ok(engine.tag(&image.id, &name).await?)
    })?;
    match outcome {
        Ok(()) => Ok(Exit::Success),
        Err(unpushed) => Ok(fail(context, "tag", unpushed)),
    }
}
