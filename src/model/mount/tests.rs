use super::{Mount, MountSource};

#[test]
fn sources_are_told_apart() {
    for (text, source) in [
        ("/data", MountSource::Anonymous),
        ("cache:/data", MountSource::Volume("cache".to_owned())),
        ("/mnt:/data:ro", MountSource::Path("/mnt".to_owned())),
        ("./here:/data", MountSource::Path("./here".to_owned())),
        (
            "../there:/data:ro,z",
            MountSource::Path("../there".to_owned()),
        ),
    ] {
        let mount: Mount = text.parse().unwrap();
        assert_eq!(mount.source(), &source);
        assert_eq!(mount.target().as_str(), "/data");
        assert_eq!(mount.to_string(), text);
    }
    assert!("/a:/b:ro".parse::<Mount>().unwrap().is_read_only());
    assert!(!"/a:/b:rw".parse::<Mount>().unwrap().is_read_only());
}

#[test]
fn what_can_not_be_mounted_is_refused_with_the_fix() {
    for (text, help) in [
        ("cache:root/.cache", Some("write `cache:/root/.cache`")),
        ("data/raw:/data", Some("for a directory write `./data/raw`")),
        (" /a:/data", Some("write `/a`")),
        ("~/data:/data", Some("write `${HOME}/data`")),
        ("/data:ro", Some("write `/data:/data:ro`")),
        (
            "a:/data",
            Some("use two or more letters, digits, `_`, `.`, `-`"),
        ),
        (":/data", Some("write `name:/data`, or `/data` alone")),
        ("/a:/b:", Some("write `/a:/b` or `/a:/b:ro`")),
        ("/a:", Some("write `/a:/target`")),
        ("", Some("write `source:/target`, or `/target` alone")),
        ("/a:/b:rx", Some("the common ones are `ro` and `rw`")),
        ("/a:/b:ro,rw", Some("keep one of them")),
        (
            "/a:/b:ro:z",
            Some("write `source:/target` or `source:/target:ro`"),
        ),
    ] {
        let error = text.parse::<Mount>().expect_err(text);
        assert_eq!(error.help.as_deref(), help, "{text}");
    }
}

/// The rows of docker/cli's `volumespec` tests for Linux, as docker and its engine together take them.
#[test]
fn volumes_are_read_as_docker_reads_them() {
    for (text, is_taken) in [
        ("/path", true),
        ("/path/foo", true),
        ("/foo:/foo:ro:foo", false),
        (".", false),
        ("/a", true),
        (":foo", false),
        ("/foo::ro", false),
        ("./foo:/target", true),
        ("../other:/target", true),
        ("/foo:/target", true),
        ("/home/user:/target", true),
        ("/source:/target:slave", true),
        ("name:/target:bogus", false),
        ("name:/target:nocopy", true),
        ("./foo:/target:ro", true),
        ("/home/user:/target:ro", true),
        ("./foo:/target:rw", true),
        ("/foo:/bar:ro", true),
        ("/tmp/x/y:/foo/x/y", true),
        ("", false),
        ("/foo::rw", false),
        (":/vol", false),
        ("/a:/b:", false),
        ("name:/b:", false),
        ("/a:", false),
        ("::", false),
        ("/a:/b:ro,", false),
        ("/a:/b:,ro", false),
        ("/a:/b:,", false),
        // docker/cli's `TestParseWithVolumes`.
        ("/tmp", true),
        ("/hostTmp:/containerTmp", true),
        ("/hostTmp:/containerTmp:ro", true),
        ("/hostVar:/containerVar:rw", true),
        ("/hostTmp:/containerTmp:ro,Z", true),
        ("/hostVar:/containerVar:rw,Z", true),
        ("/hostTmp:/containerTmp:Z", true),
        ("/hostVar:/containerVar:z", true),
        // Asked of an engine.
        ("name:/x:shared", false),
        ("name:/x:rslave", false),
        ("/x:/x:shared", true),
        ("name:/x:z", true),
        ("name:/x:cached", true),
        ("/a:/x:nocopy", false),
    ] {
        let mount = text.parse::<Mount>();
        assert_eq!(mount.is_ok(), is_taken, "{text:?}: {mount:?}");
    }
}
