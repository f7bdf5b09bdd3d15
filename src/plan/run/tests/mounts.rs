//! What `--mount` takes.

use std::path::Path;

use super::{caller, job, manifest_of};
use crate::plan::run::{EnvFiles, RunFlags, bound, plan};

/// Compares with the same in docker's own words, or its refusal.
fn table(rows: &[(&str, Option<&str>)]) {
    for (text, expected) in rows {
        let read = bound(text, Path::new("/here")).map(|bound| bound.to_string());
        assert_eq!(read.as_deref().ok(), *expected, "{text:?}: {read:?}");
    }
}

/// The rows of docker/cli's `TestMount…`, and ours.
#[test]
fn mounts_are_read_as_docker_reads_them() {
    let source = Some("type=bind,source=/source,target=/target");
    table(&[
        (
            "type=bind,source=.,target=/target",
            Some("type=bind,source=/here,target=/target"),
        ),
        (
            "type=bind,source=./,target=/target",
            Some("type=bind,source=/here,target=/target"),
        ),
        (
            "type=bind,source=../,target=/target",
            Some("type=bind,source=/,target=/target"),
        ),
        (
            "type=bind,source=..,target=/target",
            Some("type=bind,source=/,target=/target"),
        ),
        ("type=bind,src=/source,dst=/target", source),
        ("type=bind,source=/source,target=/target", source),
        ("type=bind,source=/source,destination=/target", source),
        ("", None),
        ("  ", None),
        ("type=volume,target=/foo,bogus=foo", None),
        ("type=volume, src=/foo,target=/foo", None),
        ("type=volume,src =/foo,target=/foo", None),
        ("type=volume,src=,target=/foo", None),
        ("type=volume,src= /foo,target=/foo", None),
        ("type=volume,src=/foo ,target=/foo", None),
        ("type=volume,target=/foo,bogus", None),
        ("type=tmpfs,target=/foo,tmpfs-size=foo", None),
        ("type=tmpfs,target=/foo,tmpfs-mode=foo", None),
        (
            "type=volume,target=/foo,source=/foo,bind-propagation=rprivate",
            None,
        ),
        ("type=bind,target=/foo,source=/foo,volume-nocopy=true", None),
        (
            "type=tmpfs,target=/target,tmpfs-size=1m,tmpfs-mode=0700",
            Some("type=tmpfs,target=/target,tmpfs-size=1m,tmpfs-mode=700"),
        ),
        (
            "type=tmpfs,target=/target,tmpfs-size=1MB,tmpfs-mode=700",
            Some("type=tmpfs,target=/target,tmpfs-size=1MB,tmpfs-mode=700"),
        ),
        (
            "type=bind,source=/foo,target=/bar,bind-recursive=enabled",
            Some("type=bind,source=/foo,target=/bar"),
        ),
        (
            "type=bind,source=/foo,target=/bar,bind-nonrecursive=false",
            Some("type=bind,source=/foo,target=/bar"),
        ),
        (
            "type=bind,source=/foo,target=/bar,bind-recursive=writable",
            None,
        ),
        (
            "type=bind,source=/foo,target=/bar,bind-recursive=readonly",
            None,
        ),
        (
            "type=bind,source=/foo,target=/bar,bind-recursive=readonly,readonly",
            None,
        ),
        (
            "type=bind,source=/a,target=/b,bind-propagation=RSLAVE,consistency=cached",
            Some("type=bind,source=/a,target=/b,bind-propagation=rslave,consistency=cached"),
        ),
        (
            "TYPE=volume,source=v,destination=/b,readonly=1",
            Some("type=volume,source=v,target=/b,readonly"),
        ),
        (
            "type=bind,\"source=/a,b\",target=/b",
            Some("type=bind,\"source=/a,b\",target=/b"),
        ),
        ("target=/b", Some("type=volume,target=/b")),
        ("type=bind,target=/b", None),
        ("type=bind,source=/a", None),
        ("type=nfs,target=/b", None),
        ("type=tmpfs,source=/a,target=/b", None),
        ("target=/b,tmpfs-size=1m", None),
        ("target=/b,bind-propagation=shared", None),
        (
            "type=bind,source=/a,target=/b,bind-propagation=sideways",
            None,
        ),
    ]);
}

/// docker/cli's `TestMountOptReadOnly` and `TestMountOptVolumeNoCopy`.
#[test]
fn switches_are_read_as_docker_reads_them() {
    for (switch, expected) in [
        ("readonly", Some(true)),
        ("readonly=", None),
        ("readonly= true", None),
        ("readonly=no", None),
        ("readonly=1", Some(true)),
        ("readonly=true", Some(true)),
        ("readonly=0", Some(false)),
        ("readonly=false", Some(false)),
        ("ro", Some(true)),
        ("ro=1", Some(true)),
        ("ro=true", Some(true)),
        ("ro=0", Some(false)),
        ("ro=false", Some(false)),
        ("volume-nocopy", Some(true)),
        ("volume-nocopy=", None),
        ("volume-nocopy= true", None),
        ("volume-nocopy=no", None),
        ("volume-nocopy=1", Some(true)),
        ("volume-nocopy=true", Some(true)),
        ("volume-nocopy=0", Some(false)),
        ("volume-nocopy=false", Some(false)),
    ] {
        let text = format!("type=volume,target=/foo,source=foo,{switch}");
        let bound = bound(&text, Path::new("/")).ok();
        let is_on = bound.map(|bound| bound.is_read_only || bound.is_not_copied_to);
        assert_eq!(is_on, expected, "{switch}");
    }
}

/// What docker takes and jobctl does not, as docs/reference says: it is refused by name.
#[test]
fn what_can_not_be_passed_on_is_refused() {
    for (text, key) in [
        (
            "type=volume,target=/foo,volume-label=foo=foo-value",
            "volume-label",
        ),
        (
            "type=volume,target=/foo,volume-label==foo-value",
            "volume-label",
        ),
        (
            "type=volume,target=/foo,volume-driver=my-driver",
            "volume-driver",
        ),
        (
            "type=volume,target=/foo,volume-opt=foo=foo-value",
            "volume-opt",
        ),
        (
            "type=volume,target=/foo,volume-opt==foo-value",
            "volume-opt",
        ),
        ("type=volume,target=/foo,volume-subpath=a", "volume-subpath"),
        ("target=/b,image-subpath=/bar", "image-subpath"),
        (
            "type=bind,target=/foo,source=/foo,bind-create-src",
            "bind-create-src",
        ),
        (
            "type=bind,source=/foo,target=/bar,bind-recursive=disabled",
            "bind-recursive=disabled",
        ),
        (
            "type=bind,source=/foo,target=/bar,bind-recursive=writable,readonly",
            "bind-recursive=writable",
        ),
        (
            "type=bind,source=/foo,target=/bar,bind-nonrecursive",
            "bind-nonrecursive",
        ),
        (
            "type=bind,source=/foo,target=/bar,bind-nonrecursive=1",
            "bind-nonrecursive",
        ),
    ] {
        let error = bound(text, Path::new("/")).unwrap_err();
        let expected = format!("jobctl can't pass `{key}` on to the engine");
        assert_eq!(error.message, expected, "{text}");
    }
    for (text, message) in [
        ("target=/b,", "a field has no name"),
        (",target=/b", "a field has no name"),
        ("target=/b,=x", "a field has no name"),
        ("target", "the field `target` has no value"),
        (
            "type=bind,source=/a,target=/b,bind-nonrecursive=maybe",
            "`bind-nonrecursive` is `true` or `false`",
        ),
    ] {
        let error = bound(text, Path::new("/")).unwrap_err();
        assert_eq!(error.message, message, "{text}");
    }
    let error = bound("type=image,source=foo,target=/target", Path::new("/")).unwrap_err();
    assert_eq!(error.message, "jobctl does not know this type of mount");
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
