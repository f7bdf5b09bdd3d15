//! Never stale: one folder that is edited again and again, in ways that clocks and sizes do not
//! show too. After each edit the image has what the folder has.
//!
//! 25 edits; with `JOBCTL_TEST_FULL` 500.

use std::collections::BTreeMap;
use std::fs::{self, FileTimes, Permissions};
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use super::{COPY, built};
use crate::support::image::{ImageName, docker};
use crate::support::{Bench, random::Random};

/// Kind, mode, and content or target of each path below a folder.
type Tree = BTreeMap<PathBuf, (char, u32, Vec<u8>)>;

/// What the folder has.
fn on_disk(root: &Path) -> Tree {
    let mut tree = Tree::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let metadata = path.symlink_metadata().unwrap();
            let (kind, content) = if metadata.is_dir() {
                folders.push(path.clone());
                ('d', Vec::new())
            } else if metadata.is_symlink() {
                (
                    'l',
                    path.read_link()
                        .unwrap()
                        .into_os_string()
                        .into_encoded_bytes(),
                )
            } else {
                ('f', fs::read(&path).unwrap())
            };
            let mode = metadata.mode() & 0o7777;
            let path = path.strip_prefix(root).unwrap().to_owned();
            tree.insert(path, (kind, mode, content));
        }
    }
    tree
}

/// What the image has below `/src`.
fn in_image(id: &str) -> Tree {
    let container = docker(&["create", "--label", "dev.jobctl.test=sequence", id]);
    let container = container.trim();
    let copied = Command::new("docker")
        .args(["cp", &format!("{container}:/src"), "-"])
        .output()
        .unwrap();
    docker(&["rm", container]);
    assert!(copied.status.success(), "{copied:?}");
    let mut tree = Tree::new();
    for entry in tar::Archive::new(copied.stdout.as_slice())
        .entries()
        .unwrap()
    {
        let mut entry = entry.unwrap();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        let path = entry.path().unwrap().into_owned();
        let path = path.strip_prefix("src").unwrap().to_owned();
        let link = entry.link_name().unwrap();
        let found = match entry.header().entry_type() {
            tar::EntryType::Directory => ('d', Vec::new()),
            tar::EntryType::Symlink => (
                'l',
                link.unwrap()
                    .into_owned()
                    .into_os_string()
                    .into_encoded_bytes(),
            ),
            tar::EntryType::Link => (
                'f',
                tree[link.unwrap().strip_prefix("src").unwrap()].2.clone(),
            ),
            _ => ('f', content),
        };
        let mode = entry.header().mode().unwrap() & 0o7777;
        if !path.as_os_str().is_empty() {
            tree.insert(path, (found.0, mode, found.1));
        }
    }
    // Links have no mode of their own.
    tree.values_mut()
        .filter(|found| found.0 == 'l')
        .for_each(|found| found.1 = 0o777);
    tree
}

/// All paths below a folder that a test may edit, of one kind or of any.
fn paths(root: &Path, kind: Option<char>) -> Vec<PathBuf> {
    let tree = on_disk(root).into_iter();
    tree.filter(|(path, found)| {
        !path.as_os_str().is_empty()
            && !["Dockerfile", "run"].contains(&path.to_str().unwrap())
            && kind.is_none_or(|kind| kind == found.0)
    })
    .map(|(path, _)| root.join(path))
    .collect()
}

/// Writes a file's bytes anew, and sets its time back to what it was.
fn edit_unseen(path: &Path, random: &mut Random) {
    let metadata = path.metadata().unwrap();
    let times = FileTimes::new().set_modified(metadata.modified().unwrap());
    let bytes: Vec<_> = (0..metadata.len()).map(|_| random.letter()).collect();
    let mode = metadata.permissions();
    fs::write(path, bytes).unwrap();
    fs::set_permissions(path, mode).unwrap();
    fs::File::options()
        .write(true)
        .open(path)
        .unwrap()
        .set_times(times)
        .unwrap();
}

/// Edits the folder in one way; says in which.
fn edit(root: &Path, random: &mut Random) -> String {
    let mut folders = paths(root, Some('d'));
    folders.push(root.to_owned());
    let files = paths(root, Some('f'));
    let all = paths(root, None);
    let new = random.pick(&folders).join(format!("n{}", random.below(30)));
    let is_free = new.symlink_metadata().is_err();
    let shown = |what: &str, path: &Path| format!("{what} {}", path.display());
    match random.below(12) {
        0 if is_free => {
            fs::create_dir(&new).unwrap();
            shown("a new folder", &new)
        }
        1 if is_free => {
            symlink(format!("n{}", random.below(30)), &new).unwrap();
            shown("a new link", &new)
        }
        2 | 3 if is_free => {
            fs::write(&new, [random.letter(); 3]).unwrap();
            shown("a new file", &new)
        }
        4 if is_free && !files.is_empty() => {
            let file = random.pick(&files);
            fs::hard_link(&file, &new).unwrap();
            format!("{}, also {}", file.display(), new.display())
        }
        5 if is_free && !files.is_empty() => {
            let file = random.pick(&files);
            fs::rename(&file, &new).unwrap();
            format!("{}, now {}", file.display(), new.display())
        }
        6 if !all.is_empty() => {
            let path = random.pick(&all);
            if path.symlink_metadata().unwrap().is_dir() {
                fs::remove_dir_all(&path).unwrap();
            } else {
                fs::remove_file(&path).unwrap();
            }
            shown("gone:", &path)
        }
        7 if folders.len() > 1 || !files.is_empty() => {
            let from = if files.is_empty() {
                &folders[..1]
            } else {
                &files
            };
            let path = random.pick(from);
            let mode = random.pick(&[0o644, 0o600, 0o755, 0o4755]);
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            shown("another mode of", &path)
        }
        8 if !files.is_empty() => {
            let path = random.pick(&files);
            let now = FileTimes::new().set_modified(SystemTime::now());
            fs::File::options()
                .write(true)
                .open(&path)
                .unwrap()
                .set_times(now)
                .unwrap();
            shown("another time of", &path)
        }
        _ if files.is_empty() => "nothing".to_owned(),
        _ => {
            let path = random.pick(&files);
            edit_unseen(&path, random);
            shown("an unseen edit of", &path)
        }
    }
}

#[test]
fn an_image_has_what_the_folder_has_after_any_edit() {
    let bench = Bench::new();
    let name = ImageName::new();
    bench.write("context/Dockerfile", COPY);
    // What an earlier run left in the engine's cache is not for this one.
    bench.write("context/run", &bench.path().display().to_string());
    let root = bench.path().join("context");
    let edits = match std::env::var_os("JOBCTL_TEST_FULL") {
        Some(_) => 500,
        None => 25,
    };
    let random = &mut Random::new(1);
    let mut log = Vec::new();
    let mut before: Option<(Tree, String)> = None;
    for _ in 0..edits {
        for _ in 0..=random.below(3) {
            log.push(edit(&root, random));
        }
        if random.below(4) == 0 {
            let _ = fs::remove_dir_all(bench.path().join("home/.cache"));
            log.push("all is forgotten".to_owned());
        }
        let image = built(&mut name.build(&bench, &["--directory", "context"]));
        let id = image["id"].as_str().unwrap();
        let tree = on_disk(&root);
        assert_eq!(in_image(id), tree, "after {log:#?}");
        if let Some((earlier, earlier_id)) = &before {
            assert_eq!(earlier == &tree, earlier_id == id, "after {log:#?}");
        }
        log.push("built".to_owned());
        before = Some((tree, id.to_owned()));
    }
}
