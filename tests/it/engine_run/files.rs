//! Files out of and into containers.

use std::io::Read as _;

use futures_util::StreamExt as _;

use crate::support::container::{Runner, shell};

/// The names and contents of an archive's files.
fn content(archive: &[u8]) -> Vec<(String, String)> {
    let mut archive = tar::Archive::new(archive);
    let mut files = Vec::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().display().to_string();
        let mut content = String::new();
        entry.read_to_string(&mut content).unwrap();
        files.push((path, content));
    }
    files.sort();
    files
}

async fn copied(runner: &Runner, id: &str, path: &str) -> Option<Vec<u8>> {
    let parts = runner.engine.copy_out(id, path).await.unwrap()?;
    let parts: Vec<_> = parts.map(Result::unwrap).collect().await;
    Some(parts.concat())
}

#[tokio::test]
async fn files_go_in_before_the_start_and_come_out_after_the_end() {
    let runner = Runner::new().await;
    let id = runner
        .create(&shell(
            "mkdir -p /out/deep && tr a-z A-Z < /srv/in.txt > /out/deep/it",
        ))
        .await;
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(5);
    header.set_mode(0o644);
    archive
        .append_data(&mut header, "in.txt", &b"hello"[..])
        .unwrap();
    let archive = archive.into_inner().unwrap();
    // In pieces, as a large one comes.
    let pieces: Vec<_> = archive
        .chunks(700)
        .map(|piece| Ok(piece.to_vec().into()))
        .collect();
    let pieces = futures_util::stream::iter(pieces);
    runner.engine.copy_in(&id, "/srv", pieces).await.unwrap();
    assert_eq!(copied(&runner, &id, "/out").await, None);

    assert_eq!(runner.finish(&id, false).await.code, 0);
    let out = copied(&runner, &id, "/out").await.unwrap();
    let file = |path: &str, content: &str| (path.to_owned(), content.to_owned());
    assert_eq!(
        content(&out),
        [
            file("out/", ""),
            file("out/deep/", ""),
            file("out/deep/it", "HELLO")
        ]
    );
    assert_eq!(copied(&runner, &id, "/out/none").await, None);

    let nothing = futures_util::stream::empty();
    let error = runner.engine.copy_in(&id, "/none", nothing).await;
    assert!(error.unwrap_err().to_string().contains("/none"));
}
