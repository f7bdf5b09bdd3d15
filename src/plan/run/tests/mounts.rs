//! What `--mount` takes.

use std::path::Path;

use super::{caller, job, manifest_of};
use crate::plan::run::{EnvFiles, RunFlags, bound, plan};

#[test]
fn mounts_are_read_as_docker_reads_them() {
    let read = |text| bound(text, Path::new("/here")).map(|bound| format!("{bound:?}"));
    for (text, expected) in [
        (
            "type=bind,source=/a,target=/b",
            r#"Bind, source: Some("/a"), target: "/b", is_read_only: false, size: None"#,
        ),
        (
            "type=bind,src=./a,dst=/b,readonly",
            r#"Bind, source: Some("/here/a"), target: "/b", is_read_only: true, size: None"#,
        ),
        (
            "target=/b,ro=false",
            r#"Volume, source: None, target: "/b", is_read_only: false, size: None"#,
        ),
        (
            "TYPE=volume,source=v,destination=/b,readonly=1",
            r#"Volume, source: Some("v"), target: "/b", is_read_only: true, size: None"#,
        ),
        (
            "type=tmpfs,target=/b,tmpfs-size=1m",
            r#"Tmpfs, source: None, target: "/b", is_read_only: false, size: Some(ByteSize(1048576))"#,
        ),
        (
            "type=bind,\"source=/a,b\",target=/b",
            r#"Bind, source: Some("/a,b"), target: "/b", is_read_only: false, size: None"#,
        ),
    ] {
        assert_eq!(
            read(text),
            Ok(format!("Bound {{ kind: {expected} }}")),
            "{text}"
        );
    }
    for (text, message) in [
        ("target", "the field `target` has no value"),
        ("type=bind,target=/b", "what is mounted is not said"),
        ("type=bind,source=/a", "where it appears is not said"),
        (
            "type=bind,source=/a,target=b",
            "the target is not an absolute path",
        ),
        (
            "type=nfs,target=/b",
            "jobctl does not know this type of mount",
        ),
        ("type=volume,source=/a,target=/b", "a path is no volume"),
        ("type=tmpfs,source=/a,target=/b", "a tmpfs has no source"),
        ("target=/b,tmpfs-size=1m", "only a tmpfs has a size"),
        (
            "target=/b,readonly=maybe",
            "`readonly` is `true` or `false`",
        ),
        (
            "target=/b,bind-propagation=shared",
            "jobctl can't pass `bind-propagation` on to the engine",
        ),
    ] {
        assert_eq!(read(text).unwrap_err().message, message, "{text}");
    }
}

#[test]
fn an_output_that_would_be_lost_is_refused() {
    let refusal = |path: &str, key: &str, flags: &RunFlags| {
        let manifest = manifest_of(&format!("    outputs: {{ o: {path} }}\n{key}"));
        let planned = plan(&job(&manifest), flags, &EnvFiles::default(), &caller());
        planned.err().map(|found| found[0].message.clone())
    };
    let in_memory = |path: &str, target: &str| {
        format!(
            "the output `o` at `{path}` would be lost: `{target}` is in memory, and gone when the \
             container ends"
        )
    };
    for (path, target) in [
        ("/dev/shm/o", "/dev"),
        ("/proc/o", "/proc"),
        ("/sys/o", "/sys"),
    ] {
        let expected = Some(in_memory(path, target));
        assert_eq!(refusal(path, "", &RunFlags::default()), expected);
    }
    for (path, target, is_refused) in [
        ("/out", "/out", true),
        ("/out/model", "/out", true),
        ("/out", "/out/", true),
        ("/out", "/x/../out", true),
        // A place for what is not kept.
        ("/out", "/out/cache", false),
        ("/output", "/out", false),
    ] {
        let mut flags = RunFlags::default();
        flags.spec.tmpfs = [(target.to_owned(), String::new())].into();
        let expected = is_refused.then(|| in_memory(path, target));
        assert_eq!(refusal(path, "", &flags), expected, "--tmpfs {target}");
        for kind in ["tmpfs", "volume"] {
            let mut flags = RunFlags::default();
            let mount = format!("type={kind},target={target}");
            flags.spec.bound = vec![bound(&mount, Path::new("/")).unwrap()];
            let found = refusal(path, "", &flags);
            assert_eq!(found.is_some(), is_refused, "{mount}: {found:?}");
        }
    }
    for (volume, is_refused) in [
        ("cache:/out", true),
        ("/out", true),
        ("./mine:/out", false),
        ("cache:/cache", false),
    ] {
        let key = format!("    volumes: [\"{volume}\"]\n");
        let found = refusal("/out/model", &key, &RunFlags::default());
        assert_eq!(found.is_some(), is_refused, "{volume}: {found:?}");
    }
}
