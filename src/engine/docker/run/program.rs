//! Whether the program of a container is there.

use bollard::models::ContainerConfig;
use bollard::query_parameters::{ContainerArchiveInfoOptions, InspectContainerOptions};

use super::super::client::DockerEngine;
use super::super::error::EngineError;
use super::start::missing_container;

/// Where programs are looked for if a container's environment does not say so (moby's
/// `DefaultPathEnv`).
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// A script that is larger is not read.
const LARGEST_SCRIPT: u64 = 64 << 10;
/// Bits of a file's mode, as Go has them (`io/fs.FileMode`).
const IS_DIRECTORY: u32 = 1 << 31;
const IS_LINK: u32 = 1 << 27;
const IS_EXECUTABLE: u32 = 0o111;

/// What a path in a container leads to.
enum Found {
    Nothing,
    /// A file or directory that can't be executed.
    NoProgram,
    /// A link, or a program that is no script.
    Program,
    /// What may be a script.
    Script,
}

impl DockerEngine {
    /// Whether a container's files look as if its init process could not execute the container's program: it is
    /// not in the PATH, nobody may execute it, or it is a script whose interpreter is missing. An init process
    /// that runs says so only by ending. Of a container that is up, this is a matter of milliseconds.
    ///
    /// What can't be found out looks good.
    pub async fn lacks_program(&self, container: &str) -> bool {
        let lacks = self.looks_for_program(container).await;
        lacks.unwrap_or(false)
    }

    async fn looks_for_program(&self, container: &str) -> Result<bool, EngineError> {
        let asking = self
            .docker
            .inspect_container(container, None::<InspectContainerOptions>);
        let inspected = self.call(asking).await?;
        let config = inspected.config.unwrap_or_default();
        // An empty name is no program's.
        let Some(program) = inspected.path else {
            return Ok(false);
        };
        for path in candidates(&program, &config) {
            match self.program_at(container, &path).await? {
                Found::Nothing | Found::NoProgram => {}
                Found::Program => return Ok(false),
                Found::Script => {
                    let reading = self.small_file(container, &path, LARGEST_SCRIPT);
                    let script = reading.await.unwrap_or_default();
                    let Some(interpreter) = interpreter(&script) else {
                        return Ok(false);
                    };
                    let path = absolute(interpreter, &config);
                    let found = self.program_at(container, &path).await?;
                    return Ok(matches!(found, Found::Nothing | Found::NoProgram));
                }
            }
        }
        Ok(true)
    }

    async fn program_at(&self, container: &str, path: &str) -> Result<Found, EngineError> {
        let options = ContainerArchiveInfoOptions {
            path: path.to_owned(),
        };
        let asking = self
            .docker
            .get_container_archive_info(container, Some(options));
        match self.call(asking).await {
            Ok(found) if found.file_mode & IS_LINK != 0 => Ok(Found::Program),
            Ok(found) if found.file_mode & IS_DIRECTORY != 0 => Ok(Found::NoProgram),
            Ok(found) if found.file_mode & IS_EXECUTABLE == 0 => Ok(Found::NoProgram),
            Ok(found) if u64::try_from(found.size).is_ok_and(|size| size <= LARGEST_SCRIPT) => {
                Ok(Found::Script)
            }
            Ok(_) => Ok(Found::Program),
            Err(EngineError::Refused {
                status: 404,
                message,
            }) if missing_container(&message).is_none() => Ok(Found::Nothing),
            Err(error) => Err(error),
        }
    }
}

/// Where a program is looked for, in this order; an empty part of PATH is the working directory (POSIX, `execvp`).
fn candidates(program: &str, config: &ContainerConfig) -> Vec<String> {
    if program.is_empty() {
        return Vec::new();
    }
    if program.contains('/') {
        return vec![absolute(program, config)];
    }
    let variables = config.env.iter().flatten();
    let path = variables
        .filter_map(|variable| variable.strip_prefix("PATH="))
        .next_back()
        .unwrap_or(PATH);
    let directories = path.split(':').map(|directory| match directory {
        "" => absolute(program, config),
        directory => absolute(&format!("{directory}/{program}"), config),
    });
    directories.collect()
}

/// A path as it is seen from a container's working directory.
fn absolute(path: &str, config: &ContainerConfig) -> String {
    if path.starts_with('/') {
        return path.to_owned();
    }
    let directory = config.working_dir.as_deref().unwrap_or_default();
    format!("{}/{path}", directory.trim_end_matches('/'))
}

/// The program that the first line of a script names, as the kernel reads it (`fs/binfmt_script.c`).
fn interpreter(script: &str) -> Option<&str> {
    // A carriage return is part of the name, and seldom meant.
    let line = script.strip_prefix("#!")?.split('\n').next()?;
    let line = line.trim_start_matches([' ', '\t']);
    let name = line.split([' ', '\t']).next()?;
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::{ContainerConfig, candidates, interpreter};

    #[test]
    fn a_program_is_looked_for_where_the_container_looks() {
        let config = |path: Option<&str>, directory: &str| ContainerConfig {
            env: path.map(|path| vec!["A=b".to_owned(), format!("PATH={path}")]),
            working_dir: Some(directory.to_owned()),
            ..ContainerConfig::default()
        };
        for (program, path, directory, expected) in [
            ("/bin/a", Some("/x"), "", &["/bin/a"][..]),
            ("a", Some("/x:/y/z"), "", &["/x/a", "/y/z/a"]),
            ("./a", Some("/x"), "/w/", &["/w/./a"]),
            ("b/a", Some("/x"), "", &["/b/a"]),
            ("a", Some("bin:/x"), "/w", &["/w/bin/a", "/x/a"]),
            ("a", Some("/x:"), "/w", &["/x/a", "/w/a"]),
            ("a", Some(""), "/w", &["/w/a"]),
            ("", Some("/x"), "/w", &[]),
        ] {
            let found = candidates(program, &config(path, directory));
            assert_eq!(found, expected, "{program} {path:?} {directory}");
        }
        assert_eq!(candidates("a", &config(None, "")).len(), 6);
    }

    #[test]
    fn a_script_names_its_interpreter() {
        for (script, expected) in [
            ("#!/bin/sh\nx", Some("/bin/sh")),
            ("#! /usr/bin/env python3\n", Some("/usr/bin/env")),
            ("#!/bin/sh", Some("/bin/sh")),
            ("#!/bin/sh\r\n", Some("/bin/sh\r")),
            ("#!\n", None),
            ("echo", None),
            ("", None),
        ] {
            assert_eq!(interpreter(script), expected, "{script:?}");
        }
    }
}
