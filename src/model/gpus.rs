//! Requests for GPUs.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use super::{Scalar, ValueError, csv};

/// Which GPUs a job gets: docker's `--gpus` (docker/cli `opts/gpus.go`), and ours: `none`,
/// `optional`, `device=0,2` without quotes, and a device's UUID alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Gpus {
    /// None, even where there are some.
    None,
    /// All of them where there are some, the processor where there are none.
    Optional,
    /// These; an error where they are not to be had.
    Request(GpuRequest),
}

/// What is sent to the engine as its `DeviceRequest`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GpuRequest {
    /// How many, or which.
    pub devices: Devices,
    /// The driver; empty for the engine's choice.
    pub driver: String,
    /// What the driver must be capable of, all at once; `gpu` is always one of them.
    pub capabilities: Vec<String>,
    /// Options of the driver.
    pub options: BTreeMap<String, String>,
}

/// How many GPUs, or which.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Devices {
    /// All of them.
    All,
    /// The first so many.
    Count(u32),
    /// These, by number, UUID, or name of a CDI device.
    Ids(Vec<String>),
}

impl GpuRequest {
    /// A request for devices, without further wishes.
    #[must_use]
    pub fn of(devices: Devices) -> Self {
        Self {
            devices,
            driver: String::new(),
            capabilities: vec!["gpu".to_owned()],
            options: BTreeMap::new(),
        }
    }
}

impl FromStr for Gpus {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text {
            "none" => return Ok(Self::None),
            "optional" => return Ok(Self::Optional),
            "" => {
                return Err(ValueError::new("no GPUs are named")
                    .help("write `all`, `none`, `optional`, a number, or `device=0,2`"));
            }
            _ => {}
        }
        let fields = csv::fields(text)?;
        if fields.len() > 1 && fields.iter().all(|field| is_device(field)) {
            return Err(
                ValueError::new("a bare list would mean a number of GPUs to docker")
                    .help(format!("write `device={}`", fields.join(","))),
            );
        }
        if let [only] = fields.as_slice()
            && is_uuid(only)
        {
            return Ok(Self::Request(GpuRequest::of(Devices::Ids(vec![
                only.clone(),
            ]))));
        }
        request(&fields).map(Self::Request)
    }
}

fn request(fields: &[String]) -> Result<GpuRequest, ValueError> {
    let mut seen: Vec<&str> = Vec::new();
    let mut count = None;
    let mut ids: Vec<String> = Vec::new();
    let mut request = GpuRequest::of(Devices::Count(1));
    for field in fields {
        let Some((key, value)) = field.split_once('=') else {
            // `device=0,2` without quotes arrives as two fields.
            if seen.last() == Some(&"device") && is_device(field) {
                ids.push(field.clone());
                continue;
            }
            note(&mut seen, "count")?;
            count = Some(parse_count(field)?);
            continue;
        };
        note(&mut seen, key)?;
        match key {
            "count" => count = Some(parse_count(value)?),
            "device" => ids.extend(value.split(',').map(str::to_owned)),
            "driver" => value.clone_into(&mut request.driver),
            "capabilities" => {
                request.capabilities = value.split(',').map(str::to_owned).collect();
                if !request
                    .capabilities
                    .iter()
                    .any(|capability| capability == "gpu")
                {
                    request.capabilities.push("gpu".to_owned());
                }
            }
            "options" => {
                for option in value.split(',') {
                    let (name, value) = option.split_once('=').unwrap_or((option, ""));
                    request.options.insert(name.to_owned(), value.to_owned());
                }
            }
            _ => {
                return Err(
                    ValueError::new(format!("`{key}` is not a key of a GPU request")).help(
                        "the keys are `count`, `device`, `driver`, `capabilities`, `options`",
                    ),
                );
            }
        }
    }
    if ids.iter().any(String::is_empty) {
        return Err(ValueError::new("a device's id is empty").help("write `device=0,2`"));
    }
    request.devices = match (count, ids.is_empty()) {
        (Some(_), false) => {
            return Err(
                ValueError::new("both a number of GPUs and their ids are given")
                    .help(format!("keep one: `device={}`", ids.join(","))),
            );
        }
        (None, false) => Devices::Ids(ids),
        (Some(devices), true) => devices,
        (None, true) => Devices::Count(1),
    };
    Ok(request)
}

fn note<'a>(seen: &mut Vec<&'a str>, key: &'a str) -> Result<(), ValueError> {
    if seen.contains(&key) {
        return Err(ValueError::new(format!("`{key}` is given twice")).help("keep one of them"));
    }
    seen.push(key);
    Ok(())
}

fn parse_count(text: &str) -> Result<Devices, ValueError> {
    if text == "all" || text == "-1" {
        return Ok(Devices::All);
    }
    text.parse().map(Devices::Count).map_err(|_| {
        ValueError::new(format!("`{text}` is not a number of GPUs"))
            .help("write `all`, `none`, `optional`, a number, or `device=0,2`")
    })
}

fn is_device(text: &str) -> bool {
    (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())) || is_uuid(text)
}

fn is_uuid(text: &str) -> bool {
    let is_id = |rest: &str| {
        !rest.is_empty()
            && rest
                .bytes()
                .all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
    };
    ["GPU-", "MIG-"]
        .iter()
        .filter_map(|prefix| text.strip_prefix(prefix))
        .any(is_id)
}

impl fmt::Display for Gpus {
    /// What docker's `--gpus` takes, where docker has it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let request = match self {
            Self::None => return f.write_str("none"),
            Self::Optional => return f.write_str("optional"),
            Self::Request(request) => request,
        };
        let mut fields = vec![match &request.devices {
            Devices::All => "all".to_owned(),
            Devices::Count(count) => count.to_string(),
            Devices::Ids(ids) => format!("device={}", ids.join(",")),
        }];
        if !request.driver.is_empty() {
            fields.push(format!("driver={}", request.driver));
        }
        // Docker adds `gpu` itself.
        if let [others @ .., last] = request.capabilities.as_slice()
            && !(others.is_empty() && last == "gpu")
        {
            let written = match last.as_str() {
                "gpu" => others,
                _ => &request.capabilities,
            };
            fields.push(format!("capabilities={}", written.join(",")));
        }
        if !request.options.is_empty() {
            let options = request.options.iter();
            let options: Vec<_> = options
                .map(|(name, value)| format!("{name}={value}"))
                .collect();
            fields.push(format!("options={}", options.join(",")));
        }
        f.write_str(&csv::record(fields))
    }
}

impl Scalar for Gpus {
    const NAME: &'static str = "Gpus";
    const EXPECTED: &'static str = "GPUs such as `all`, `1`, `optional` or `device=0,2`";
    const PATTERN: &'static str = r#"^(none|optional|all|-1|[0-9]+|(GPU|MIG)-[0-9a-fA-F-]+|"?(count|device|driver|capabilities|options)=.*|(all|[0-9]+),.*[a-z]+=.*)$"#;
    const EXAMPLES: &'static [&'static str] = &[
        "all",
        "optional",
        "none",
        "1",
        "device=0,2",
        "device=GPU-3faa8e0c",
    ];
    const ACCEPTS_NUMBERS: bool = true;
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Devices, GpuRequest, Gpus};

    fn ids(ids: &[&str]) -> Gpus {
        let ids = ids.iter().map(|id| (*id).to_owned()).collect();
        Gpus::Request(GpuRequest::of(Devices::Ids(ids)))
    }

    /// The cases of docker/cli's own test, then ours.
    #[test]
    fn requests_are_read_as_docker_reads_them() {
        let count = |count| Gpus::Request(GpuRequest::of(Devices::Count(count)));
        let all = Gpus::Request(GpuRequest::of(Devices::All));
        for (text, expected) in [
            ("all", all.clone()),
            ("count=all", all.clone()),
            ("-1", all.clone()),
            ("1", count(1)),
            ("count=2", count(2)),
            ("0", count(0)),
            ("device=0", ids(&["0"])),
            ("\"device=0,2\"", ids(&["0", "2"])),
            ("driver=nvidia", driver(Devices::Count(1))),
            ("driver=nvidia,all", driver(Devices::All)),
            ("device=0,2", ids(&["0", "2"])),
            (
                "device=GPU-3faa8e0c,GPU-11",
                ids(&["GPU-3faa8e0c", "GPU-11"]),
            ),
            ("GPU-3faa8e0c", ids(&["GPU-3faa8e0c"])),
            ("device=nvidia.com/gpu=all", ids(&["nvidia.com/gpu=all"])),
            ("none", Gpus::None),
            ("optional", Gpus::Optional),
        ] {
            assert_eq!(text.parse::<Gpus>().as_ref(), Ok(&expected), "{text}");
        }
    }

    fn driver(devices: Devices) -> Gpus {
        Gpus::Request(GpuRequest {
            driver: "nvidia".to_owned(),
            ..GpuRequest::of(devices)
        })
    }

    /// The rows of docker/cli's `TestGpusOpts`, `TestGpusOptAll` and `TestGpusOptInvalidCount`.
    #[test]
    fn whole_requests_are_read_as_docker_reads_them() {
        let request = GpuRequest {
            driver: "nvidia".to_owned(),
            capabilities: ["compute", "utility", "gpu"].map(str::to_owned).to_vec(),
            options: [("foo", "bar"), ("baz", "qux")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
            ..GpuRequest::of(Devices::Count(1))
        };
        for text in [
            r#"driver=nvidia,"capabilities=compute,utility","options=foo=bar,baz=qux""#,
            r#"1,driver=nvidia,"capabilities=compute,utility","options=foo=bar,baz=qux""#,
            r#"count=1,driver=nvidia,"capabilities=compute,utility","options=foo=bar,baz=qux""#,
            r#"driver=nvidia,"capabilities=compute,utility","options=foo=bar,baz=qux",count=1"#,
        ] {
            assert_eq!(text.parse(), Ok(Gpus::Request(request.clone())), "{text}");
        }
        for text in ["all", "-1", "count=all", "count=-1"] {
            let all = Gpus::Request(GpuRequest::of(Devices::All));
            assert_eq!(text.parse(), Ok(all), "{text}");
        }
        assert!("count=invalid-integer".parse::<Gpus>().is_err());
    }

    #[test]
    fn gpu_is_always_a_capability() {
        let gpus: Gpus = "\"capabilities=compute,utility\"".parse().unwrap();
        let Gpus::Request(request) = gpus else {
            panic!("it is a request");
        };
        assert_eq!(request.capabilities, ["compute", "utility", "gpu"]);
    }

    #[test]
    fn what_docker_misunderstands_is_refused_with_the_fix() {
        for (text, help) in [
            ("0,1", "write `device=0,1`"),
            ("0,1,2,3,4,5,6,7", "write `device=0,1,2,3,4,5,6,7`"),
            ("GPU-1,GPU-2", "write `device=GPU-1,GPU-2`"),
            ("count=1,device=0", "keep one: `device=0`"),
            ("all,all", "keep one of them"),
            ("driver=a,driver=b", "keep one of them"),
            (
                "two",
                "write `all`, `none`, `optional`, a number, or `device=0,2`",
            ),
            (
                "-2",
                "write `all`, `none`, `optional`, a number, or `device=0,2`",
            ),
            (
                "gpus=1",
                "the keys are `count`, `device`, `driver`, `capabilities`, `options`",
            ),
            ("device=", "write `device=0,2`"),
            ("\"device=0", "quote a whole field: `\"device=0,2\"`"),
            (
                "",
                "write `all`, `none`, `optional`, a number, or `device=0,2`",
            ),
        ] {
            let error = text.parse::<Gpus>().expect_err(text);
            assert_eq!(error.help.as_deref(), Some(help), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_the_same(text in "[a-z0-9=,\"-]{0,24}") {
            if let Ok(gpus) = text.parse::<Gpus>() {
                prop_assert_eq!(gpus.to_string().parse::<Gpus>(), Ok(gpus));
            }
        }
    }
}
