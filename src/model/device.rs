//! Devices of the engine's machine.

use std::fmt;
use std::str::FromStr;

use super::{Scalar, ValueError};

/// What docker's `--device` takes: `HOST[:CONTAINER][:PERMISSIONS]`, or the qualified name of the Container
/// Device Interface, `vendor.com/class=name` (docker/cli, `validateDevice` and `parseDevice`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Device {
    /// A device that a driver provides, by its qualified name.
    Named(String),
    /// A file of the engine's machine.
    File {
        /// Its path there.
        host: String,
        /// Where it appears in the container.
        container: String,
        /// `r`, `w`, `m`: whether it can be read, written, and made; any of them, each once.
        permissions: String,
    },
}

/// Everything.
const ALL_PERMISSIONS: &str = "rwm";

impl FromStr for Device {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        if is_qualified_name(text) {
            return Ok(Self::Named(text.to_owned()));
        }
        let refuse = |message: String| {
            Err(ValueError::new(message).help(
                "write `/dev/NAME`, `/dev/NAME:/dev/TARGET:rwm`, or a CDI name: `nvidia.com/gpu=0`",
            ))
        };
        let parts: Vec<_> = text.split(':').collect();
        let (host, container, permissions) = match parts[..] {
            [host] => (host, host, ALL_PERMISSIONS),
            [host, permissions] if is_permissions(permissions) => (host, host, permissions),
            [host, container] => (host, container, ALL_PERMISSIONS),
            [host, container, permissions] => (host, container, permissions),
            _ => return refuse("a device has at most two colons".to_owned()),
        };
        if host.is_empty() {
            return refuse("this is not a device".to_owned());
        }
        if !is_permissions(permissions) {
            return refuse(format!(
                "`{permissions}` is not what may be done with a device"
            ));
        }
        if !container.starts_with('/') {
            return refuse(format!("`{container}` is not an absolute path"));
        }
        Ok(Self::File {
            host: host.to_owned(),
            container: container.to_owned(),
            permissions: permissions.to_owned(),
        })
    }
}

fn is_permissions(text: &str) -> bool {
    let is_once = |c: char| "rwm".contains(c) && text.matches(c).count() == 1;
    !text.is_empty() && text.chars().all(is_once)
}

/// Whether it is `vendor.com/class=name` (CNCF's Container Device Interface, "Qualified names").
fn is_qualified_name(text: &str) -> bool {
    let parts = text.split_once('=');
    let parts = parts.and_then(|(kind, name)| Some((kind.split_once('/')?, name)));
    parts.is_some_and(|((vendor, class), name)| {
        !vendor.is_empty() && !class.is_empty() && !name.is_empty() && !class.contains('/')
    })
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(name) => f.write_str(name),
            Self::File {
                host,
                container,
                permissions,
            } => {
                f.write_str(host)?;
                if container != host {
                    write!(f, ":{container}")?;
                }
                if permissions != ALL_PERMISSIONS {
                    write!(f, ":{permissions}")?;
                }
                Ok(())
            }
        }
    }
}

impl Scalar for Device {
    const NAME: &'static str = "Device";
    const EXPECTED: &'static str = "a device such as `/dev/snd`";
    const PATTERN: &'static str = "^[^:]+(:[^:]+){0,2}$";
    const EXAMPLES: &'static [&'static str] = &["/dev/snd", "/dev/snd:/dev/audio:rw"];
}

#[cfg(test)]
mod tests {
    use super::Device;

    /// The rows of docker/cli's `TestValidateDevice` and `TestParseDevice`.
    #[test]
    fn devices_are_read_as_docker_reads_them() {
        for (text, expected) in [
            ("/home", Some(["/home", "/home", "rwm"])),
            ("/home:/home", Some(["/home", "/home", "rwm"])),
            (
                "/home:/something/else",
                Some(["/home", "/something/else", "rwm"]),
            ),
            ("/with space", Some(["/with space", "/with space", "rwm"])),
            ("/home:/with space", Some(["/home", "/with space", "rwm"])),
            (
                "relative:/absolute-path",
                Some(["relative", "/absolute-path", "rwm"]),
            ),
            (
                "hostPath:/containerPath:r",
                Some(["hostPath", "/containerPath", "r"]),
            ),
            (
                "/hostPath:/containerPath:rw",
                Some(["/hostPath", "/containerPath", "rw"]),
            ),
            (
                "/hostPath:/containerPath:mrw",
                Some(["/hostPath", "/containerPath", "mrw"]),
            ),
            ("/dev/snd", Some(["/dev/snd", "/dev/snd", "rwm"])),
            ("/dev/snd:rw", Some(["/dev/snd", "/dev/snd", "rw"])),
            (
                "/dev/snd:/something",
                Some(["/dev/snd", "/something", "rwm"]),
            ),
            (
                "/dev/snd:/something:rw",
                Some(["/dev/snd", "/something", "rw"]),
            ),
            ("", None),
            ("./", None),
            ("../", None),
            ("/:../", None),
            ("/:path", None),
            (":", None),
            ("/tmp:", None),
            (":test", None),
            (":/test", None),
            ("tmp:", None),
            (":test:", None),
            ("::", None),
            (":::", None),
            ("/tmp:::", None),
            (":/tmp::", None),
            ("path:ro", None),
            ("path:rr", None),
            ("a:/b:ro", None),
            ("a:/b:rr", None),
            ("/dev/null:x", None),
        ] {
            let device = text.parse::<Device>();
            let expected = expected.map(|expected| {
                let [host, container, permissions] = expected.map(str::to_owned);
                Device::File {
                    host,
                    container,
                    permissions,
                }
            });
            assert_eq!(
                device.as_ref().ok(),
                expected.as_ref(),
                "{text}: {device:?}"
            );
            if let Ok(device) = device {
                assert_eq!(device.to_string().parse(), Ok(device), "{text}");
            }
        }
    }

    #[test]
    fn devices_of_drivers_are_known_by_their_names() {
        for text in ["nvidia.com/gpu=all", "vendor.com/class=name"] {
            assert_eq!(text.parse(), Ok(Device::Named(text.to_owned())), "{text}");
        }
        let file = "/dev/disk/by-label/a=b".parse();
        assert!(matches!(file, Ok(Device::File { .. })), "{file:?}");
    }
}
