//! Keys of compose, docker and Kubernetes whose meaning has another name or place here.

use std::borrow::Cow;

/// Flags of `jobctl run` by compose's key for the same, where jobs.yaml has none.
const FLAGS_OF_RUN: [(&str, &str); 22] = [
    ("cap_add", "--cap-add"),
    ("cap_drop", "--cap-drop"),
    ("devices", "--device"),
    ("extra_hosts", "--add-host"),
    ("hostname", "--hostname"),
    ("init", "--init"),
    ("ipc", "--ipc"),
    ("labels", "--label"),
    ("mounts", "--mount"),
    ("platform", "--platform"),
    ("privileged", "--privileged"),
    ("pull_policy", "--pull"),
    ("read_only", "--read-only"),
    ("runtime", "--runtime"),
    ("security_opt", "--security-opt"),
    ("stdin_open", "--interactive"),
    ("stop_grace_period", "--stop-timeout"),
    ("stop_signal", "--stop-signal"),
    ("stop_timeout", "--stop-timeout"),
    ("tmpfs", "--tmpfs"),
    ("tty", "--tty"),
    ("ulimits", "--ulimit"),
];

/// Flags of `jobctl build`, likewise.
const FLAGS_OF_BUILD: [(&str, &str); 6] = [
    ("labels", "--label"),
    ("no_cache", "--no-cache"),
    ("platforms", "--platform"),
    ("pull", "--pull"),
    ("ssh", "--ssh"),
    ("tags", "--tag"),
];

/// Keys of compose's services for which there is nothing here.
const MISSING: [&str; 44] = [
    "annotations",
    "attach",
    "blkio_config",
    "cgroup",
    "cgroup_parent",
    "configs",
    "cpu_count",
    "cpu_percent",
    "cpu_period",
    "cpu_quota",
    "cpu_rt_period",
    "cpu_rt_runtime",
    "cpu_shares",
    "cpuset",
    "credential_spec",
    "develop",
    "device_cgroup_rules",
    "dns",
    "dns_opt",
    "dns_search",
    "domainname",
    "driver_opts",
    "group_add",
    "isolation",
    "label_file",
    "mac_address",
    "mem_reservation",
    "mem_swappiness",
    "memswap_limit",
    "oom_kill_disable",
    "oom_score_adj",
    "pid",
    "pids_limit",
    "post_start",
    "pre_stop",
    "provider",
    "replicas",
    "scale",
    "storage_opt",
    "sysctls",
    "use_api_socket",
    "userns_mode",
    "uts",
    "models",
];

/// What to write in place of a key that a table does not have. The table is what its errors call it.
pub(super) fn in_table(table: &str, key: &str) -> Option<Cow<'static, str>> {
    let flag = |flags: &[(&str, &str)], verb: &str| {
        let (_, flag) = flags.iter().find(|(known, _)| *known == key)?;
        Some(format!(
            "jobs.yaml has no key for it; for one {verb}: `jobctl {verb} {flag}`"
        ))
    };
    match table {
        "a job" => in_job(key)
            .map(Cow::Borrowed)
            .or_else(|| flag(&FLAGS_OF_RUN, "run").map(Cow::Owned)),
        "`build`" => in_build(key)
            .map(Cow::Borrowed)
            .or_else(|| flag(&FLAGS_OF_BUILD, "build").map(Cow::Owned)),
        "`resources`" => in_resources(key).map(Cow::Borrowed),
        "a manifest" => in_manifest(key).map(Cow::Borrowed),
        _ => None,
    }
}

/// What to write in place of a key, wherever that is.
pub(super) fn anywhere(key: &str) -> Option<&'static str> {
    match key {
        "value" => {
            Some("a secret is never written down here: name a variable or a file that has it")
        }
        _ => in_job(key),
    }
}

fn in_job(key: &str) -> Option<&'static str> {
    Some(match key {
        "env" | "envs" | "variables" => "variables are set under `environment`",
        "depends_on" | "dependencies" | "requires" => "what a job needs first goes under `needs`",
        "links" | "external_links" | "volumes_from" => {
            "what a job reads of another goes under `needs`; a service is reached at its `ports`"
        }
        "args" => {
            "what the container runs is the job's `command`; build arguments go under `build: { args: … }`"
        }
        "cmd" | "script" | "run" => "what the container runs is the job's `command`",
        "mem_limit" | "memory" | "mem" | "cpus" | "cpu" | "shm_size" | "shm-size" => {
            "`cpus`, `memory` and `shm_size` go under the job's `resources`"
        }
        "deploy" => "limits go under the job's `resources`; GPUs are asked for with its `gpus`",
        "device_ids" => "GPUs are asked for with the job's `gpus`",
        "retries" | "attempts" => "write `retry: { attempts: 2 }` in the job",
        "network_mode" | "networks" | "net" => {
            "the network is the job's `network`: `bridge`, `none`, `host`, or one that exists"
        }
        "expose" => "a service is reached at the `ports` that it publishes",
        "secrets" => {
            "a build's secrets go under `build: { secrets: … }`; a job is given one as a variable of your \
             shell: `environment: { NAME: }`"
        }
        "logging" => "what a job writes is kept with its run: `jobctl logs` shows it",
        "profiles" => "only the jobs that are named run, and what they need: `jobctl up JOB`",
        "extends" => {
            "share keys by an anchor: `x-common: &common { … }`, and `<<: *common` in the job"
        }
        "gate" => "a gate goes under what is needed: `needs: { JOB: { gate: … } }`",
        "container_name" => "a run's container is named by jobctl; the job's key is its name",
        "services" => "a job that stays up is a job with `service: true`",
        "workdir" => "the directory it starts in is the job's `working_dir`",
        _ if MISSING.contains(&key) => {
            "jobctl does not have it; `jobctl run --dry-run` prints the docker command, to which you can add it"
        }
        _ => return None,
    })
}

fn in_build(key: &str) -> Option<&'static str> {
    Some(match key {
        "dockerfile_inline" => "write it to a file, and name that under `dockerfile`",
        "additional_contexts" => "base images that are built here go under `requires`",
        "cache_from" | "cache_to" => "the engine's own cache is used; there is no other",
        "shm_size" | "network" | "privileged" | "ulimits" | "extra_hosts" | "isolation" => {
            "a build has no such setting here"
        }
        _ => return None,
    })
}

fn in_resources(key: &str) -> Option<&'static str> {
    Some(match key {
        "gpus" | "gpu" | "devices" => {
            "GPUs are asked for with the job's `gpus`, beside `resources`"
        }
        "limits" | "reservations" | "requests" => {
            "write limits directly: `resources: { cpus: 2, memory: 8gb }`"
        }
        "mem" | "mem_limit" => "write `memory`",
        "cpu" => "write `cpus`",
        _ => return None,
    })
}

fn in_manifest(key: &str) -> Option<&'static str> {
    Some(match key {
        "services" => "jobs go under `jobs`; one that stays up has `service: true`",
        "volumes" => "a named volume is not declared: the job's `volumes` name it",
        "networks" => "a network is not declared: the job's `network` names one that exists",
        "configs" => "a file that a job reads goes under its `inputs`",
        "include" => "there is one file; `-f` names another",
        _ => return None,
    })
}
