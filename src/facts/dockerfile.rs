//! Which of its two spellings a Dockerfile has.

use std::path::PathBuf;

/// The usual name of a Dockerfile.
const USUAL: &str = "Dockerfile";
/// What is taken where there is none of the usual name.
const SMALL: &str = "dockerfile";

/// The path itself, or the same with `dockerfile` where that is there and `Dockerfile` is not (docker/buildx,
/// `handleLowercaseDockerfile`).
#[must_use]
pub fn dockerfile(path: PathBuf) -> PathBuf {
    if path.file_name().is_none_or(|name| name != USUAL) || path.symlink_metadata().is_ok() {
        return path;
    }
    let small = path.with_file_name(SMALL);
    if small.symlink_metadata().is_ok() {
        small
    } else {
        path
    }
}

#[cfg(test)]
mod tests {
    use super::dockerfile;

    #[test]
    fn the_small_name_is_taken_where_the_usual_one_is_not_there() {
        let folder = tempfile::tempdir().unwrap();
        let usual = folder.path().join("Dockerfile");
        let small = folder.path().join("dockerfile");
        assert_eq!(dockerfile(usual.clone()), usual);
        std::fs::write(&small, "FROM scratch\n").unwrap();
        assert_eq!(dockerfile(usual.clone()), small);
        let other = folder.path().join("gpu.Dockerfile");
        assert_eq!(dockerfile(other.clone()), other);
        std::fs::write(&usual, "FROM scratch\n").unwrap();
        assert_eq!(dockerfile(usual.clone()), usual);
    }
}
