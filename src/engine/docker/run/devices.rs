//! GPUs and other devices as the engine's API has them.

use bollard::models::{DeviceMapping, DeviceRequest};

use crate::model::{Devices, GpuRequest};

/// What is asked of drivers: GPUs as docker/cli's `opts/gpus.go` sends them, then CDI devices in
/// one request.
pub(super) fn device_requests(gpus: &[GpuRequest], devices: &[String]) -> Vec<DeviceRequest> {
    let mut requests: Vec<_> = gpus.iter().map(gpu_request).collect();
    let named: Vec<_> = devices
        .iter()
        .filter(|device| is_cdi_name(device))
        .cloned()
        .collect();
    if !named.is_empty() {
        requests.push(DeviceRequest {
            driver: Some("cdi".to_owned()),
            device_ids: Some(named),
            ..DeviceRequest::default()
        });
    }
    requests
}

fn gpu_request(request: &GpuRequest) -> DeviceRequest {
    let (count, ids) = match &request.devices {
        Devices::All => (-1, None),
        Devices::Count(count) => (i64::from(*count), None),
        Devices::Ids(ids) => (0, Some(ids.clone())),
    };
    DeviceRequest {
        driver: Some(request.driver.clone()),
        count: Some(count),
        device_ids: ids,
        capabilities: Some(vec![request.capabilities.clone()]),
        options: Some(request.options.clone().into_iter().collect()),
    }
}

/// Device files, as docker's `--device` takes them: `HOST[:CONTAINER][:PERMISSIONS]`.
pub(super) fn device_files(devices: &[String]) -> Vec<DeviceMapping> {
    devices
        .iter()
        .filter(|device| !is_cdi_name(device))
        .map(|device| {
            let parts: Vec<_> = device.splitn(3, ':').collect();
            let (host, container, permissions) = match parts[..] {
                [host, container, permissions] => (host, container, permissions),
                [host, permissions] if is_permissions(permissions) => (host, host, permissions),
                [host, container] => (host, container, "rwm"),
                _ => (device.as_str(), device.as_str(), "rwm"),
            };
            DeviceMapping {
                path_on_host: Some(host.to_owned()),
                path_in_container: Some(container.to_owned()),
                cgroup_permissions: Some(permissions.to_owned()),
            }
        })
        .collect()
}

fn is_permissions(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| "rwm".contains(c))
}

/// Whether it is `vendor.com/class=name` (CNCF's Container Device Interface, "Qualified names").
fn is_cdi_name(device: &str) -> bool {
    device
        .split_once('=')
        .and_then(|(kind, name)| Some((kind.split_once('/')?, name)))
        .is_some_and(|((vendor, class), name)| {
            !vendor.is_empty() && !class.is_empty() && !name.is_empty() && !class.contains('/')
        })
}

#[cfg(test)]
mod tests {
    use bollard::models::DeviceMapping;

    use super::{device_files, device_requests, is_cdi_name};

    #[test]
    fn device_files_are_read_as_docker_reads_them() {
        for (text, expected) in [
            ("/dev/snd", ["/dev/snd", "/dev/snd", "rwm"]),
            ("/dev/snd:rw", ["/dev/snd", "/dev/snd", "rw"]),
            ("/dev/snd:/something", ["/dev/snd", "/something", "rwm"]),
            ("/dev/snd:/something:rw", ["/dev/snd", "/something", "rw"]),
        ] {
            let [host, container, permissions] = expected.map(|part| Some(part.to_owned()));
            let expected = DeviceMapping {
                path_on_host: host,
                path_in_container: container,
                cgroup_permissions: permissions,
            };
            assert_eq!(device_files(&[text.to_owned()]), [expected], "{text}");
        }
    }

    #[test]
    fn devices_of_drivers_are_told_by_their_names() {
        assert!(is_cdi_name("nvidia.com/gpu=all"));
        assert!(!is_cdi_name("/dev/disk/by-label/a=b"));
        assert!(!is_cdi_name("/dev/snd"));
        let devices = ["nvidia.com/gpu=0", "/dev/snd", "vendor.com/net=a"].map(str::to_owned);
        let requests = serde_json::to_value(device_requests(&[], &devices)).unwrap();
        let expected = serde_json::json!([
            { "Driver": "cdi", "DeviceIDs": ["nvidia.com/gpu=0", "vendor.com/net=a"] }
        ]);
        assert_eq!(requests, expected);
        assert_eq!(device_files(&devices).len(), 1);
    }
}
