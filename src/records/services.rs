//! `services/JOB/`: where connections to a service's ports go.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::durable;
use super::error::StoreError;
use super::lock;
use super::store::Store;
use crate::model::RunId;

/// The schema of what this version writes.
const SCHEMA: &str = "jobctl.route/1";

/// Where what comes to a service's ports is passed on to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    schema: String,
    /// The run that serves.
    pub run: RunId,
    /// Addresses of this machine that are listened on, and where each leads.
    pub ports: Vec<(SocketAddr, SocketAddr)>,
}

impl Route {
    /// The route to a run.
    #[must_use]
    pub fn new(run: RunId, ports: Vec<(SocketAddr, SocketAddr)>) -> Self {
        let schema = SCHEMA.to_owned();
        Self { schema, run, ports }
    }
}

/// A service's folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceFolder(PathBuf);

/// A file that one process has at a time: the kernel takes it back when that process ends.
#[derive(Debug)]
pub struct FileLock {
    file: File,
}

impl FileLock {
    /// Takes the lock, and writes this process's id into the file; nothing where another has it.
    ///
    /// # Errors
    ///
    /// The file can't be written.
    pub fn take(path: &Path) -> io::Result<Option<Self>> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        if !lock::take(&file)? {
            return Ok(None);
        }
        file.set_len(0)?;
        (&file).write_all(std::process::id().to_string().as_bytes())?;
        Ok(Some(Self { file }))
    }

    /// Whether a process has it.
    ///
    /// # Errors
    ///
    /// It can't be read.
    pub fn is_held(path: &Path) -> io::Result<bool> {
        lock::is_held(path)
    }

    /// The process that has it.
    ///
    /// # Errors
    ///
    /// It can't be read.
    pub fn holder(path: &Path) -> io::Result<Option<i32>> {
        if !lock::is_held(path)? {
            return Ok(None);
        }
        let mut text = String::new();
        File::open(path)?.read_to_string(&mut text)?;
        Ok(text.trim().parse().ok())
    }
}

impl Drop for FileLock {
    fn drop(&mut self) {
        // Whoever waits for it is not to take us for its holder.
        let _ = self.file.set_len(0);
    }
}

impl Store {
    /// A service's folder, whether it is there or not.
    #[must_use]
    pub fn service(&self, job: &str) -> ServiceFolder {
        ServiceFolder(self.path().join("services").join(job))
    }

    /// The services that have a folder.
    ///
    /// # Errors
    ///
    /// The folder of them is there, and can't be read.
    pub fn services(&self) -> Result<Vec<String>, StoreError> {
        let folder = self.path().join("services");
        let failed = |error| StoreError::read(&folder, error);
        if !self.has(&folder)? {
            return Ok(Vec::new());
        }
        let mut services = Vec::new();
        for entry in fs::read_dir(&folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            // A link would lead elsewhere.
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                services.extend(entry.file_name().into_string().ok());
            }
        }
        services.sort();
        Ok(services)
    }

    /// The right to change what runs as a service; nothing where another process has it.
    ///
    /// # Errors
    ///
    /// The state folder can't be written to.
    pub fn take_up_lock(&self) -> Result<Option<FileLock>, StoreError> {
        self.prepare()?;
        let path = self.path().join("up.lock");
        FileLock::take(&path).map_err(|error| StoreError::write(path, error))
    }
}

impl ServiceFolder {
    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The lock of the process that listens.
    #[must_use]
    pub fn lock(&self) -> PathBuf {
        self.0.join("lock")
    }

    /// The lock that is held while there are connections to a run.
    #[must_use]
    pub fn connections(&self, run: RunId) -> PathBuf {
        self.0.join(format!("{run}.connections"))
    }

    /// The file of the route.
    #[must_use]
    pub fn route_file(&self) -> PathBuf {
        self.0.join("route.json")
    }

    /// The route; nothing where the service is not up.
    ///
    /// # Errors
    ///
    /// It is there, and can't be read.
    pub fn route(&self) -> Result<Option<Route>, StoreError> {
        let path = self.route_file();
        let text = match durable::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(StoreError::read(path, error)),
        };
        match serde_json::from_slice::<Route>(&text) {
            Ok(route) if route.schema == SCHEMA => Ok(Some(route)),
            Ok(_) => Err(StoreError::read(path, io::ErrorKind::InvalidData.into())),
            Err(error) => Err(StoreError::read(path, error.into())),
        }
    }

    /// Sets the route: whoever reads it finds the old one or the new one.
    ///
    /// # Errors
    ///
    /// It can't be written.
    pub fn set_route(&self, route: &Route) -> Result<(), StoreError> {
        fs::create_dir_all(&self.0).map_err(|error| StoreError::write(&self.0, error))?;
        let path = self.route_file();
        let mut text = serde_json::to_vec_pretty(route)
            .map_err(|error| StoreError::write(&path, error.into()))?;
        text.push(b'\n');
        durable::write(&path, &text).map_err(|error| StoreError::write(path, error))
    }

    /// Forgets the service.
    ///
    /// # Errors
    ///
    /// The folder can't be removed.
    pub fn remove(&self) -> Result<(), StoreError> {
        match fs::remove_dir_all(&self.0) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(StoreError::write(&self.0, error))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_is_read_as_it_was_set() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path().to_owned());
        assert_eq!(store.services().unwrap(), Vec::<String>::new());
        let service = store.service("serve");
        assert_eq!(service.route().unwrap(), None);
        let ports = ["127.0.0.1:8000", "[::1]:49152"].map(|text| text.parse().unwrap());
        let run = RunId::new(jiff::Timestamp::UNIX_EPOCH);
        let route = Route::new(run, vec![(ports[0], ports[1])]);
        service.set_route(&route).unwrap();
        assert_eq!(service.route().unwrap(), Some(route));
        assert_eq!(store.services().unwrap(), ["serve"]);
        service.remove().unwrap();
        service.remove().unwrap();
        assert_eq!(service.route().unwrap(), None);
    }

    #[test]
    fn one_process_at_a_time_has_a_lock() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        assert_eq!(FileLock::holder(&path).unwrap(), None);
        let held = FileLock::take(&path).unwrap();
        assert!(held.is_some() && FileLock::take(&path).unwrap().is_none());
        let holder = FileLock::holder(&path).unwrap();
        assert_eq!(holder, i32::try_from(std::process::id()).ok());
        drop(held);
        assert!(!FileLock::is_held(&path).unwrap());
    }
}
