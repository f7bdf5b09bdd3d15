//! What `--mount` takes.

use std::path::Path;

use crate::plan::run::bound;

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
