use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::json;
use tar::{Builder, EntryType, Header};

use super::{ArchiveError, ImageContent, NodeKind, read_image};

/// A tar of entries: type, path, link, content.
fn tar_of(entries: &[(EntryType, &str, &str, &[u8])]) -> Vec<u8> {
    let mut tar = Builder::new(Vec::new());
    for (kind, path, link, content) in entries {
        let mut header = Header::new_ustar();
        header.set_entry_type(*kind);
        header.set_mode(0o644);
        header.set_uid(7);
        header.set_gid(8);
        header.set_mtime(1_700_000_000);
        header.set_size(content.len() as u64);
        if link.is_empty() {
            tar.append_data(&mut header, path, *content).unwrap();
        } else {
            tar.append_link(&mut header, path, link).unwrap();
        }
    }
    tar.into_inner().unwrap()
}

fn file<'a>(path: &'a str, content: &'a [u8]) -> (EntryType, &'a str, &'static str, &'a [u8]) {
    (EntryType::Regular, path, "", content)
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A layer with a file, a folder, links, a device, and a path that a plain header can't hold.
fn some_layer() -> Vec<u8> {
    let long = "d/".repeat(120) + "x";
    let mut tar = Builder::new(tar_of(&[
        (EntryType::Directory, "etc/", "", b""),
        file("./etc/x", b"hello"),
        (EntryType::Symlink, "etc/y", "x", b""),
        (EntryType::Link, "etc/z", "etc/x", b""),
        (EntryType::Char, "dev/null", "", b""),
    ]));
    // The end of the first archive is where the second goes on.
    let end = tar.get_ref().len() - 1024;
    tar.get_mut().truncate(end);
    let mut header = Header::new_gnu();
    header.set_size(0);
    header.set_mode(0o600);
    tar.append_pax_extensions([("SCHILY.xattr.user.a", &b"1"[..])])
        .unwrap();
    tar.append_data(&mut header, &long, &b""[..]).unwrap();
    tar.into_inner().unwrap()
}

fn docker_archive(layer: &[u8]) -> Vec<u8> {
    let manifest = json!([{
        "Config": "c.json",
        "RepoTags": null,
        "Layers": ["a/layer.tar", "b/layer.tar", "e/layer.tar"],
    }]);
    tar_of(&[
        file("c.json", br#"{"os":"linux"}"#),
        (EntryType::Directory, "a/", "", b""),
        file("a/VERSION", b"1.0"),
        file("a/json", b"{}"),
        file("a/layer.tar", layer),
        (EntryType::Symlink, "b/layer.tar", "../a/layer.tar", b""),
        file("e/layer.tar", &[0; 1024]),
        file("manifest.json", manifest.to_string().as_bytes()),
        file("repositories", b"{}"),
    ])
}

#[test]
fn an_archive_of_dockers_own_layout_is_read() {
    let image = read_image(docker_archive(&some_layer()).as_slice()).unwrap();
    assert_eq!(image.config, json!({ "os": "linux" }));
    assert_eq!(image.layers.len(), 3);
    assert_eq!(image.layers[0], image.layers[1]);
    assert!(image.layers[2].is_empty());
    let layer = &image.layers[0];
    let node = |path: &str| &layer[path.as_bytes()];
    assert_eq!(layer.len(), 6);
    let x = node("etc/x");
    assert_eq!((x.kind, x.size, x.mode), (NodeKind::File, 5, 0o644));
    assert_eq!((x.owner, x.modified), ((7, 8), 1_700_000_000));
    assert_eq!(x.content.unwrap()[..4], [0x2c, 0xf2, 0x4d, 0xba]);
    assert_eq!(node("etc").kind, NodeKind::Folder);
    assert_eq!(node("etc/y").link, b"x");
    assert_eq!(node("etc/z").kind, NodeKind::HardLink);
    assert!(matches!(node("dev/null").kind, NodeKind::Special { .. }));
    let long = "d/".repeat(120) + "x";
    assert_eq!(node(&long).attributes["user.a"], b"1");
}

#[test]
fn an_oci_layout_is_the_same_with_layers_plain_or_compressed() {
    let plain = some_layer();
    let expected = read_image(docker_archive(&plain).as_slice()).unwrap();
    for blob in [plain.clone(), gzip(&plain)] {
        let index = json!({ "schemaVersion": 2, "manifests": [{ "digest": "sha256:i" }] });
        let inner = json!({ "manifests": [
            { "digest": "sha256:t", "platform": { "os": "unknown" } },
            { "digest": "sha256:m", "platform": { "os": "linux" } },
        ] });
        let manifest = json!({
            "config": { "digest": "sha256:c" },
            "layers": [{ "digest": "sha256:l" }],
        });
        let archive = tar_of(&[
            file("blobs/sha256/c", br#"{"os":"linux"}"#),
            file("blobs/sha256/i", inner.to_string().as_bytes()),
            file("blobs/sha256/l", &blob),
            file("blobs/sha256/m", manifest.to_string().as_bytes()),
            file("index.json", index.to_string().as_bytes()),
            file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#),
        ]);
        let image = read_image(archive.as_slice()).unwrap();
        let ImageContent { config, layers } = image;
        assert_eq!(config, expected.config);
        assert_eq!(layers, expected.layers[..1]);
    }
}

#[test]
fn what_can_not_be_read_is_said() {
    let whole = docker_archive(&some_layer());
    let error = read_image(&whole[..whole.len() / 2]).unwrap_err();
    assert!(matches!(
        error,
        ArchiveError::Broken(_) | ArchiveError::Incomplete(_)
    ));
    let error = read_image(tar_of(&[]).as_slice()).unwrap_err();
    assert_eq!(error.to_string(), "the image's archive lacks `index.json`");
    // As Zstandard begins.
    let error = read_image(docker_archive(b"\x28\xb5\x2f\xfd").as_slice()).unwrap_err();
    assert!(
        matches!(&error, ArchiveError::Compression(name) if name == "a/layer.tar"),
        "{error}"
    );
    let error = read_image(docker_archive(&gzip(&some_layer())[..50]).as_slice()).unwrap_err();
    assert!(matches!(error, ArchiveError::Broken(_)), "{error}");
}
