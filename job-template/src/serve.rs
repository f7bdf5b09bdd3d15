//! The job's model over HTTP: what [`text_server`] is given of the model, the tokenizer and the variables.

use std::process::ExitCode;

use tch::Device;
use text_server::{
    Compute, End, Failure, ForcedEnd, Limits, Loaded, ModelInfo, Processor, ServerConfig, Tokens,
};
use tokio::net::TcpListener;

use crate::config::{Config, ServingConfig};
use crate::log::say;
use crate::model::Model;
use crate::process;
use crate::runtime::{self, Runtime};
use crate::stop::{Stop, TERMINATED, signals};
use crate::tokenize::Tokenizer;

/// Serves the model that `read` reads, until the process is signalled to end. It ends the process then.
///
/// `trained` is what listened to the signals while a model was trained.
///
/// # Errors
/// The port or the threads can't be had, or the model can't be read.
pub fn serve(
    config: Config,
    runtime: &Runtime,
    trained: Option<&Stop>,
    read: impl FnOnce(&Config, &Runtime) -> Result<(Model, Tokenizer), Failure> + Send + 'static,
) -> Result<ExitCode, Failure> {
    let serving = config.serving.clone();
    check_tokens(&serving, config.data.max_positions.unwrap_or_default())?;
    let server_config = server_config(&serving, runtime);
    if runtime.threads > 1 {
        runtime::leave_computing_to_others();
    }
    check_threads(runtime.threads)?;
    let server = text_server::runtime(runtime.threads)
        .map_err(|error| format!("can't start a thread: {error}"))?;
    let runtime = runtime.clone();
    let served = server.block_on(async {
        let signals = signals()?;
        if let Some(trained) = trained {
            trained.disarm();
        }
        // Before the model is loaded: if another program has the port, that is reported at once.
        let bind = async || TcpListener::bind(&*serving.addresses()?).await;
        let listener = bind().await.map_err(|error| {
            let ServingConfig { host, port, .. } = &serving;
            format!("can't listen on {host}:{port}: {error}\nhelp: set HOST or PORT to what is free here")
        })?;
        let address = listener.local_addr()?;
        say(&format!("serving on http://{address}; {runtime}"));
        let load = move || {
            let (model, tokenizer) = read(&config, &runtime)?;
            check_tokens(&serving, tokenizer.max_positions())?;
            Ok(loaded(model, tokenizer, &runtime))
        };
        Ok::<_, Failure>(text_server::serve(listener, server_config, load, signals).await?)
    });
    let code = match served {
        Ok(End::Graceful) => 0,
        Ok(End::Forced(reason)) => {
            let reason = match reason {
                ForcedEnd::Loading => "the model was still loading",
                ForcedEnd::StoppedTwice => "a second signal came",
                ForcedEnd::GraceOver => "GRACE_SECONDS are over",
            };
            say(&format!("stopped at once: {reason}"));
            TERMINATED
        }
        Err(error) => {
            server.shutdown_background();
            return Err(error);
        }
    };
    // What still computes, or hangs, is not waited for.
    process::exit_now(code)
}

/// The model as the server takes it.
fn loaded(model: Model, tokenizer: Tokenizer, runtime: &Runtime) -> Loaded<Model> {
    let info = ModelInfo {
        sha256: model.sha256.clone(),
        labels: model.architecture.labels.clone(),
        device: runtime.device_name(),
        precision: runtime.precision(),
        text_tokens: tokenizer.max_positions(),
    };
    let tokenize = move |text: &str| {
        let tokens = tokenizer.encode(text)?;
        Ok(Tokens {
            ids: tokens.ids,
            is_truncated: tokens.is_truncated,
        })
    };
    Loaded {
        classifier: model,
        tokenize: Box::new(tokenize),
        info,
    }
}

/// The variables as the server takes them; its threads are those that libtorch computes with.
fn server_config(serving: &ServingConfig, runtime: &Runtime) -> ServerConfig {
    let connections = text_server::max_connections(serving.max_connections);
    if connections < serving.max_connections {
        say(&format!(
            "warning: MAX_CONNECTIONS={} is more than the files that may be open here allow; it is {connections}",
            serving.max_connections
        ));
    }
    let compute = Compute {
        processor: match runtime.device {
            Device::Cpu => Processor::Cpu {
                threads: runtime.threads,
            },
            _ => Processor::Gpu,
        },
        set_threads: runtime::set_threads,
        on_each_thread: runtime::on_each_thread,
    };
    let mut config = ServerConfig::new(env!("CARGO_PKG_VERSION"), compute);
    config.limits = Limits {
        batch_tokens: serving.max_batch_tokens,
        queue_texts: serving.max_queue,
        text_bytes: serving.max_text_bytes,
        connections,
    };
    config.timeouts.grace = serving.grace;
    config.trusted_proxies.clone_from(&serving.trusted_proxies);
    config
}

fn check_tokens(serving: &ServingConfig, positions: usize) -> Result<(), String> {
    let most = serving.max_batch_tokens;
    if most < positions {
        return Err(format!(
            "MAX_BATCH_TOKENS={most}: a text alone may have NUM_MAX_POSITIONS={positions} tokens"
        ));
    }
    Ok(())
}

/// Whether the system lets all threads of the server start.
fn check_threads(threads: usize) -> Result<(), String> {
    let needed = text_server::threads(threads);
    let available = process::available_threads(needed);
    if available < needed {
        return Err(format!(
            "serving with {threads} threads that compute takes {needed} threads more, and only {available} can be \
             started\nhelp: lower OMP_NUM_THREADS, or raise the limit (docker's --pids-limit, ulimit -u)"
        ));
    }
    Ok(())
}
