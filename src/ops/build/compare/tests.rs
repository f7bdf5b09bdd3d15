use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Aspect, Change, Comparison, Difference, Times, compare};
use crate::engine::archive::{ImageContent, Layer, Node, NodeKind};

fn node(content: u8) -> Node {
    Node {
        kind: NodeKind::File,
        mode: 0o644,
        owner: (0, 0),
        size: 1,
        link: Vec::new(),
        modified: 1_700_000_000,
        attributes: BTreeMap::new(),
        content: Some([content; 32]),
    }
}

fn config() -> Value {
    json!({
        "created": "2026-01-01T00:00:00Z",
        "config": { "Env": ["A=1", "B=2"], "Image": "sha256:1" },
        "container": "1",
        "rootfs": { "diff_ids": ["sha256:2"] },
        "history": [
            { "created": "2026-01-01T00:00:00Z", "created_by": "bootstrap" },
            { "created_by": "/bin/sh -c #(nop)  CMD [\"x\"]", "empty_layer": true },
            { "created_by": "RUN |1 A=1 /bin/sh -c make # buildkit" },
        ],
    })
}

fn image() -> ImageContent {
    let layer = |paths: [&str; 2]| -> Layer {
        paths
            .iter()
            .map(|path| (path.as_bytes().to_vec(), node(1)))
            .collect()
    };
    ImageContent {
        config: config(),
        layers: vec![layer(["a", "b"]), layer(["c/d", "e"])],
    }
}

fn changed(change: impl FnOnce(&mut ImageContent)) -> Comparison {
    let mut other = image();
    change(&mut other);
    compare(&image(), &other)
}

fn in_second_layer(path: &str, change: Change) -> Vec<Difference> {
    vec![Difference::File {
        layer: 2,
        step: Some("RUN make".to_owned()),
        path: path.to_owned(),
        change,
    }]
}

#[test]
fn the_same_is_the_same() {
    assert_eq!(changed(|_| ()), Comparison::default());
}

#[test]
fn times_are_no_difference() {
    let found = changed(|other| {
        other.config["created"] = json!("2026-01-02T00:00:00Z");
        other.config["history"][0]["created"] = json!("2026-01-02T00:00:00Z");
        for layer in &mut other.layers {
            for node in layer.values_mut() {
                node.modified += 1;
            }
        }
    });
    assert!(found.differences.is_empty());
    let first = Some("a".to_owned());
    let expected = Times {
        of_image: true,
        files: 4,
        first,
    };
    assert_eq!(found.times, expected);
}

#[test]
fn what_the_builder_notes_of_itself_is_no_difference() {
    let found = changed(|other| {
        other.config["container"] = json!("2");
        other.config["config"]["Image"] = json!("sha256:3");
        other.config["rootfs"]["diff_ids"][0] = json!("sha256:4");
    });
    assert_eq!(found, Comparison::default());
}

#[test]
fn a_part_of_the_configuration_is_named() {
    let found = changed(|other| {
        other.config["config"]["Env"][1] = json!("B=3");
        other.config["config"]["User"] = json!("x");
    });
    let expected = ["config.Env[1]", "config.User"].map(|key| Difference::Config(key.to_owned()));
    assert_eq!(found.differences, expected);
}

#[test]
fn every_aspect_of_a_file_counts() {
    type Edit = fn(&mut Node);
    let edits: [(Edit, Aspect); 7] = [
        (|node| node.kind = NodeKind::Folder, Aspect::Kind),
        (|node| node.size = 2, Aspect::Size(1, 2)),
        (|node| node.content = Some([2; 32]), Aspect::Content),
        (|node| node.mode = 0o755, Aspect::Mode(0o644, 0o755)),
        (|node| node.owner.1 = 1, Aspect::Owner),
        (|node| node.link = b"x".to_vec(), Aspect::Link),
        (
            |node| drop(node.attributes.insert("user.a".to_owned(), Vec::new())),
            Aspect::Attributes,
        ),
    ];
    for (edit, aspect) in edits {
        let found = changed(|other| {
            let node = other.layers[1].get_mut(&b"c/d"[..]).unwrap();
            node.modified += 1;
            edit(node);
        });
        let expected = in_second_layer("c/d", Change::Aspects(vec![aspect]));
        assert_eq!(found.differences, expected);
        assert_eq!(found.times, Times::default());
    }
}

#[test]
fn a_file_of_one_image_alone_is_a_difference() {
    let found = changed(|other| drop(other.layers[1].remove(&b"e"[..])));
    assert_eq!(found.differences, in_second_layer("e", Change::OnlyFirst));
    let found = changed(|other| drop(other.layers[1].insert(b"f".to_vec(), node(1))));
    assert_eq!(found.differences, in_second_layer("f", Change::OnlySecond));
}

#[test]
fn a_layer_more_is_a_difference_with_all_that_it_holds() {
    let found = changed(|other| {
        let layer = other.layers[0].clone();
        other.layers.push(layer);
    });
    assert_eq!(found.differences.len(), 3);
    assert_eq!(found.differences[0], Difference::Layers([2, 3]));
}
