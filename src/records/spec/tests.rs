use std::time::Duration;

use proptest::prelude::*;
use serde_json::json;

use super::{from_json, to_json};
use crate::engine::run::{Bound, BoundKind, Health, Limits, RunSpec};
use crate::model::Restart;
use crate::model::{Devices, GpuRequest, Secret};

fn word() -> impl Strategy<Value = String> + Clone {
    "[a-z][a-z0-9 =:\"é]{0,6}"
}

fn words() -> impl Strategy<Value = Vec<String>> + Clone {
    prop::collection::vec(word(), 0..3)
}

fn picked<T: std::str::FromStr<Err: std::fmt::Debug> + Clone + std::fmt::Debug + 'static>(
    texts: &'static [&'static str],
) -> impl Strategy<Value = Vec<T>> {
    let values: Vec<T> = texts.iter().map(|text| text.parse().unwrap()).collect();
    prop::sample::subsequence(values, 0..=texts.len())
}

fn time() -> impl Strategy<Value = Option<Duration>> {
    prop::option::of((0..10_000_u64).prop_map(Duration::from_millis))
}

prop_compose! {
    fn bounds()(
        kind in prop::sample::select(vec![BoundKind::Bind, BoundKind::Volume, BoundKind::Tmpfs]),
        source in prop::option::of(word()),
        target in word(),
        is_read_only: bool,
        size in picked(&["1gb"]),
        mode: Option<u32>,
        is_not_copied_to: bool,
        options in prop::array::uniform2(prop::option::of(word())),
    ) -> Bound {
        let [propagation, consistency] = options;
        Bound {
            is_read_only,
            size: size.first().cloned(),
            mode,
            is_not_copied_to,
            propagation,
            consistency,
            ..Bound::of(kind, source, target)
        }
    }
}

prop_compose! {
    fn requests()(
        devices in prop_oneof![
            Just(Devices::All),
            any::<u32>().prop_map(Devices::Count),
            words().prop_map(Devices::Ids),
        ],
        driver in prop_oneof![Just(String::new()), word()],
        capabilities in words(),
        options in prop::collection::btree_map(word(), word(), 0..3),
    ) -> GpuRequest {
        GpuRequest { devices, driver, capabilities, options }
    }
}

prop_compose! {
    fn limits()(
        cpus in picked(&["1.5"]),
        sizes in picked(&["8gb", "512mb", "1025"]),
        ulimits in picked(&["nofile=1024:4096", "memlock=-1", "core=0:-1"]),
    ) -> Limits {
        Limits {
            cpus: cpus.first().cloned(),
            memory: sizes.first().cloned(),
            shm_size: sizes.get(1).cloned(),
            ulimits,
        }
    }
}

prop_compose! {
    fn healths()(
        test in words(),
        interval in time(),
        timeout in time(),
        start_period in time(),
        retries: Option<u32>,
    ) -> Health {
        Health { test, interval, timeout, start_period, retries }
    }
}

fn restarts() -> impl Strategy<Value = Restart> {
    prop_oneof![
        Just(Restart::Always),
        Just(Restart::UnlessStopped),
        any::<Option<u32>>().prop_map(Restart::OnFailure),
    ]
}

prop_compose! {
    /// What a person says of a container.
    fn described()(
        texts in prop::collection::vec(prop::option::of(word()), 8),
        lists in prop::collection::vec(words(), 4),
        entrypoint in prop::option::of(words()),
        command in prop::option::of(words()),
        labels in prop::collection::btree_map(word(), word(), 0..3),
        tmpfs in prop::collection::btree_map(word(), word(), 0..3),
        init: Option<bool>,
        claims in prop::array::uniform4(any::<bool>()),
        stop_grace in time(),
    ) -> RunSpec {
        let mut texts = texts.into_iter();
        let mut text = || texts.next().flatten();
        let mut lists = lists.into_iter();
        let mut list = || lists.next().unwrap_or_default();
        RunSpec {
            image: text().unwrap_or_default(),
            name: text().unwrap_or_default(),
            platform: text(),
            user: text(),
            workdir: text(),
            runtime: text(),
            ipc: text(),
            stop_signal: text(),
            hostname: None,
            security: list(),
            cap_add: list(),
            cap_drop: list(),
            extra_hosts: list(),
            entrypoint,
            command,
            labels,
            tmpfs,
            init,
            is_privileged: claims[0],
            is_read_only: claims[1],
            tty: claims[2],
            stdin: claims[3],
            stop_grace,
            ..RunSpec::default()
        }
    }
}

prop_compose! {
    fn specs()(
        spec in described(),
        hostname in prop::option::of(word()),
        mounts in picked(&["/a", "b2:/b", "/c:/c:ro,z", "./d:/d"]),
        bound in prop::collection::vec(bounds(), 0..3),
        ports in picked(&["80", "127.0.0.1::80/udp", "[::1]:8000-8001:80-81"]),
        gpus in prop::collection::vec(requests(), 0..2),
        limits in limits(),
        health in prop::option::of(healths()),
        restart in prop::option::of(restarts()),
        networks in picked(&["none", "name=a,alias=b,ip=10.0.0.2", "c"]),
        devices in picked(&["/dev/snd", "/dev/a:/dev/b:r", "nvidia.com/gpu=0"]),
    ) -> RunSpec {
        RunSpec {
            mounts, bound, ports, networks, gpus, devices, limits, health, restart, hostname, ..spec
        }
    }
}

proptest! {
    #[test]
    fn a_description_is_read_as_it_is_written(spec in specs()) {
        let text = to_json(&spec).to_string();
        let read = from_json(&serde_json::from_str(&text).unwrap()).unwrap();
        prop_assert_eq!(read, spec);
    }
}

#[test]
fn variables_are_not_written() {
    let spec = RunSpec {
        image: "a".to_owned(),
        environment: vec![("A".parse().unwrap(), Some(Secret::new("hush")))],
        ..RunSpec::default()
    };
    assert_eq!(to_json(&spec), json!({ "image": "a" }));
}

#[test]
fn what_is_not_known_is_no_description() {
    for (value, message) in [
        (
            json!({ "image": "a", "planet": 3 }),
            "the container's description in the record is not one: unknown field `planet`",
        ),
        (
            json!({ "ports": ["http"] }),
            "`ports` of the container's description in the record: `http` is not a port",
        ),
        (
            json!(3),
            "the container's description in the record is not one: invalid type",
        ),
    ] {
        let error = from_json(&value).unwrap_err().to_string();
        assert!(error.starts_with(message), "{error}");
    }
}
