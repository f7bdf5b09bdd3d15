//! GPUs and other devices as the engine's API has them.

use bollard::models::{DeviceMapping, DeviceRequest};

use crate::model::{Device, Devices, GpuRequest};

/// What is asked of drivers: GPUs as docker/cli's `opts/gpus.go` sends them, then CDI devices in
/// one request.
pub(super) fn device_requests(gpus: &[GpuRequest], devices: &[Device]) -> Vec<DeviceRequest> {
    let mut requests: Vec<_> = gpus.iter().map(gpu_request).collect();
    let named = devices.iter().filter_map(|device| match device {
        Device::Named(name) => Some(name.clone()),
        Device::File { .. } => None,
    });
    let named: Vec<_> = named.collect();
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

/// The files of the engine's machine.
pub(super) fn device_files(devices: &[Device]) -> Vec<DeviceMapping> {
    let files = devices.iter().filter_map(|device| match device {
        Device::Named(_) => None,
        Device::File {
            host,
            container,
            permissions,
        } => Some(DeviceMapping {
            path_on_host: Some(host.clone()),
            path_in_container: Some(container.clone()),
            cgroup_permissions: Some(permissions.clone()),
        }),
    });
    files.collect()
}

#[cfg(test)]
mod tests {
    use bollard::models::DeviceMapping;

    use super::{device_files, device_requests};

    #[test]
    fn devices_of_drivers_are_one_request() {
        let devices = [
            "nvidia.com/gpu=0",
            "/dev/snd:/something:rw",
            "vendor.com/net=a",
        ];
        let devices = devices.map(|device| device.parse().unwrap());
        let requests = serde_json::to_value(device_requests(&[], &devices)).unwrap();
        let expected = serde_json::json!([
            { "Driver": "cdi", "DeviceIDs": ["nvidia.com/gpu=0", "vendor.com/net=a"] }
        ]);
        assert_eq!(requests, expected);
        let file = DeviceMapping {
            path_on_host: Some("/dev/snd".to_owned()),
            path_in_container: Some("/something".to_owned()),
            cgroup_permissions: Some("rw".to_owned()),
        };
        assert_eq!(device_files(&devices), [file]);
    }
}
