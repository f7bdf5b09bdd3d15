//! Why an engine did not run something.

use crate::engine::docker::EngineError;
use crate::model::Digest;

/// Why the engine did not run something.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The engine was not there, or went away, or refused.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// It does not have the image.
    #[error("the engine does not have the image `{image}`")]
    NoImage {
        /// The image.
        image: String,
    },
    /// It has the image, but for another platform.
    #[error("the engine does not have the image `{image}` for the platform {platform}")]
    OtherPlatform {
        /// The image.
        image: String,
        /// The platform that was asked for.
        platform: String,
    },
    /// The engine misses the init process that it is to put into the container.
    #[error("the engine has no init process for containers: {message}")]
    NoInit {
        /// The engine's words.
        message: String,
    },
    /// Another container has the name.
    #[error("the name `{name}` is taken by the container {holder}")]
    NameTaken {
        /// The name.
        name: String,
        /// The other container's id.
        holder: String,
    },
    /// There is no such container.
    #[error("the engine has no container `{container}`")]
    NoContainer {
        /// What was asked for.
        container: String,
    },
    /// There is no container that this one is to share a network or System V IPC with.
    #[error("the engine has no container `{peer}`, which this one is to share with")]
    NoPeer {
        /// What was asked for.
        peer: String,
    },
    /// The program is not in the image (docker's 127).
    #[error("the command was not found: {message}")]
    NotFound {
        /// The engine's words.
        message: String,
    },
    /// The program can't be executed (docker's 126).
    #[error("the command can't be executed: {message}")]
    NotExecutable {
        /// The engine's words.
        message: String,
    },
    /// The engine's machine does not have a device.
    #[error("the engine can't give the container a device: {message}")]
    NoDevice {
        /// The engine's words.
        message: String,
    },
    /// The engine has no way to give containers NVIDIA's GPUs.
    #[error("the engine can't give containers GPUs: {message}")]
    NoGpu {
        /// The engine's words.
        message: String,
    },
}

/// What one runs to let Docker Engine give GPUs to containers.
const INSTALL_NVIDIA: &str = "install NVIDIA's Container Toolkit: `sudo apt-get install -y \
                              nvidia-container-toolkit`; then `sudo nvidia-ctk runtime configure \
                              --runtime=docker && sudo systemctl restart docker`";

impl RunError {
    /// How to fix it.
    #[must_use]
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Engine(error) => Some(error.help()),
            Self::NoImage { .. } => Some("build or pull it first".to_owned()),
            Self::OtherPlatform { image, platform } if image.parse::<Digest>().is_ok() => Some(format!(
                "build it for that platform: `jobctl build --platform {platform}`"
            )),
            Self::OtherPlatform { image, platform } => Some(format!(
                "pull it: `jobctl pull --platform {platform} {image}`; or build it for that platform"
            )),
            Self::NoInit { .. } => Some(
                "install it where the engine runs: `sudo apt-get install catatonit` (Podman), `tini` \
                 (Docker); or do without: `--init=false`"
                    .to_owned(),
            ),
            Self::NameTaken { name, .. } => Some(format!(
                "look at it: `docker ps -a --filter name={name}`; or take another `--name`, or none"
            )),
            Self::NoContainer { .. } => None,
            Self::NoPeer { .. } => Some(
                "check `--network container:NAME` and `--ipc container:NAME`; `docker ps` lists containers"
                    .to_owned(),
            ),
            Self::NotFound { .. } => Some(
                "check the command and the image's PATH; a script needs the program of its first \
                 line, too"
                    .to_owned(),
            ),
            Self::NotExecutable { .. } => {
                Some("make it executable in the Dockerfile: `RUN chmod +x FILE`".to_owned())
            }
            Self::NoDevice { .. } => {
                Some("check `--device`: it names a device of the engine's machine".to_owned())
            }
            Self::NoGpu { .. } => Some(INSTALL_NVIDIA.to_owned()),
        }
    }
}
