//! A real registry (Debian's `docker-registry`), and a proxy in front of it for what it can't be made to
//! do.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use serde_json::json;

use super::engine::PrivateEngine;
use super::wait_for;

/// A user that a registry with passwords knows, and the password: one whose base64 differs from that for
/// URLs.
pub(crate) const USER: &str = "me";
pub(crate) const PASSWORD: &str = "s3cret?~>pw";

/// What a connection with TLS begins with (RFC 8446, 5.1).
const TLS_HANDSHAKE: u8 = 22;

/// A registry that ends with its value.
pub(crate) struct Registry {
    folder: tempfile::TempDir,
    address: SocketAddr,
    /// What it is started with.
    program: Vec<String>,
    child: Option<Child>,
    passwords: Option<tempfile::NamedTempFile>,
}

impl Registry {
    /// One that lets everybody in.
    pub(crate) fn new() -> Self {
        Self::start(Ipv4Addr::LOCALHOST, ("", ""))
    }

    /// One in the network of an engine of its own.
    pub(crate) fn beside(engine: &PrivateEngine) -> Self {
        let mut program = vec!["nsenter".to_owned()];
        program.extend(engine.enter());
        program.push("docker-registry".to_owned());
        Self::start_as(program, Ipv4Addr::LOCALHOST, ("", ""))
    }

    /// Where it keeps what it was given.
    pub(crate) fn data(&self) -> std::path::PathBuf {
        self.folder.path().join("data")
    }

    /// One that knows a user.
    pub(crate) fn with_password() -> Self {
        let file = tempfile::NamedTempFile::new().unwrap();
        let made = Command::new("htpasswd")
            .args(["-Bbn", USER, PASSWORD])
            .output()
            .unwrap();
        std::fs::write(file.path(), made.stdout).unwrap();
        let path = file.path().display();
        let auth = format!("auth: {{ htpasswd: {{ realm: test, path: {path} }} }}");
        let mut registry = Self::start(Ipv4Addr::LOCALHOST, ("", &auth));
        registry.passwords = Some(file);
        registry
    }

    /// One at another address of this machine's, with a certificate: `server.pem` and `server-key.pem` of
    /// a folder. It wants to see one from its clients, of the same authority: `ca.pem`.
    pub(crate) fn with_certificate(host: Ipv4Addr, folder: &Path) -> Self {
        let file = |name: &str| folder.join(name).display().to_string();
        let tls = format!(
            ", tls: {{ certificate: {}, key: {}, clientcas: [{}] }}",
            file("server.pem"),
            file("server-key.pem"),
            file("ca.pem")
        );
        Self::start(host, (&tls, ""))
    }

    /// With something behind the address, and something at the end of the configuration.
    fn start(host: Ipv4Addr, texts: (&str, &str)) -> Self {
        Self::start_as(vec!["docker-registry".to_owned()], host, texts)
    }

    fn start_as(program: Vec<String>, host: Ipv4Addr, (http, all): (&str, &str)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let taken = TcpListener::bind((host, 0)).unwrap();
        let address = taken.local_addr().unwrap();
        drop(taken);
        let path = folder.path().display();
        let config = format!(
            "version: 0.1\nlog: {{ level: error, accesslog: {{ disabled: true }} }}\n\
             storage: {{ filesystem: {{ rootdirectory: {path}/data }} }}\n\
             http: {{ addr: \"{address}\"{http} }}\n{all}\n"
        );
        std::fs::write(folder.path().join("config.yml"), config).unwrap();
        let mut registry = Self {
            folder,
            address,
            program,
            child: None,
            passwords: None,
        };
        registry.restart();
        registry
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Starts it, if it does not run, and waits until it answers.
    pub(crate) fn restart(&mut self) {
        self.stop();
        let [program, args @ ..] = self.program.as_slice() else {
            unreachable!("there is a program")
        };
        let child = Command::new(program)
            .args(args)
            .arg("serve")
            .arg(self.folder.path().join("config.yml"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // The sockets of its network, as the kernel writes them: `0: 0100007F:1388 00000000:0000 0A …`.
        let sockets = format!("/proc/{}/net/tcp", child.id());
        self.child = Some(child);
        let listening = format!(":{:04X} 00000000:0000 0A ", self.address.port());
        wait_for(|| std::fs::read_to_string(&sockets).is_ok_and(|text| text.contains(&listening)));
    }

    pub(crate) fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// The tags of a repository, sorted.
    pub(crate) fn tags(&self, repository: &str) -> Vec<String> {
        let folder = self.folder.path().join(format!(
            "data/docker/registry/v2/repositories/{repository}/_manifests/tags"
        ));
        let Ok(entries) = std::fs::read_dir(folder) else {
            return Vec::new();
        };
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut tags: Vec<_> = names.collect();
        tags.sort();
        tags
    }

    /// What is kept under a digest.
    pub(crate) fn blob(&self, digest: &str) -> Vec<u8> {
        let hexadecimal = digest.strip_prefix("sha256:").unwrap();
        let path = format!(
            "data/docker/registry/v2/blobs/sha256/{}/{hexadecimal}/data",
            &hexadecimal[..2]
        );
        std::fs::read(self.folder.path().join(path)).unwrap()
    }

    /// Puts an index under a tag, beside what it lists: (tag, processor). The index' digest.
    pub(crate) fn put_index(&self, repository: &str, tag: &str, listed: &[(&str, &str)]) -> String {
        let manifests = listed.iter().map(|(tag, processor)| {
            let digest = self.digest(repository, tag);
            let manifest = self.blob(&digest);
            let kind: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
            json!({
                "mediaType": kind["mediaType"],
                "digest": digest,
                "size": manifest.len(),
                "platform": { "os": "linux", "architecture": processor },
            })
        });
        let index = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": manifests.collect::<Vec<_>>(),
        });
        let digest = jobctl::model::Digest::of(index.to_string().as_bytes()).to_string();
        let hexadecimal = digest.strip_prefix("sha256:").unwrap();
        let write = |path: String, text: &str| {
            let path = self.data().join("docker/registry/v2").join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let short = &hexadecimal[..2];
        write(
            format!("blobs/sha256/{short}/{hexadecimal}/data"),
            &index.to_string(),
        );
        let manifests = format!("repositories/{repository}/_manifests");
        write(
            format!("{manifests}/revisions/sha256/{hexadecimal}/link"),
            &digest,
        );
        write(format!("{manifests}/tags/{tag}/current/link"), &digest);
        write(
            format!("{manifests}/tags/{tag}/index/sha256/{hexadecimal}/link"),
            &digest,
        );
        digest
    }

    /// The digest that a tag stands for.
    pub(crate) fn digest(&self, repository: &str, tag: &str) -> String {
        let path = self.folder.path().join(format!(
            "data/docker/registry/v2/repositories/{repository}/_manifests/tags/{tag}/current/link"
        ));
        std::fs::read_to_string(path).unwrap()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.stop();
    }
}

/// What a proxy does with a request.
pub(crate) enum Deed {
    /// Passes it on.
    Pass,
    /// Answers itself: status, further headers, body.
    Answer(u16, &'static str, &'static str),
    /// Passes so many bytes of the body on, and breaks the connection.
    Break(usize),
    /// Takes so many bytes of the body, and breaks the connection before anything is passed on: as a
    /// reverse proxy does that waits for the whole request, which is what nginx does unless told otherwise.
    Lose(usize),
    /// Has the registry accept so many bytes of the body, and breaks the connection: as registries do that
    /// keep what came.
    Keep(usize),
    /// Takes what comes, and never answers.
    Hang,
}

/// A request that came: its method and its path.
pub(crate) type Asked = (String, String);

/// A proxy in front of a registry. Ends with the test's process.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    sent: Arc<AtomicU64>,
}

impl Proxy {
    /// `decide` is given each request, with how many of the same method and path came before it.
    pub(crate) fn start(
        registry: SocketAddr,
        decide: impl Fn(&str, &str, usize) -> Deed + Send + Sync + 'static,
    ) -> Self {
        Self::begin(registry, Box::new(decide), None)
    }

    /// One that lets those through who have a token. Each is good for so many requests.
    pub(crate) fn with_tokens(registry: SocketAddr, uses: usize) -> Self {
        let tokens = Tokens {
            uses,
            used: Mutex::default(),
        };
        Self::begin(registry, Box::new(|_, _, _| Deed::Pass), Some(tokens))
    }

    fn begin(registry: SocketAddr, decide: Box<Decide>, tokens: Option<Tokens>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let sent: Arc<AtomicU64> = Arc::default();
        let world = Arc::new(World {
            registry,
            decide,
            tokens,
            asked: Arc::clone(&asked),
            sent: Arc::clone(&sent),
            places: Mutex::default(),
        });
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let world = Arc::clone(&world);
                std::thread::spawn(move || {
                    // Whoever breaks the connection is told by its own end of it.
                    let _ = serve(client, &world);
                });
            }
        });
        Self {
            address,
            asked,
            sent,
        }
    }

    /// How many bytes of bodies were sent, whatever became of them.
    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// The requests of a method whose path has these words.
    pub(crate) fn count(&self, method: &str, words: &str) -> usize {
        let asked = self.asked.lock().unwrap();
        let alike = asked
            .iter()
            .filter(|(known, path)| known == method && path.contains(words));
        alike.count()
    }
}

/// What a proxy does with a request of a method and path, which so many alike came before.
type Decide = dyn Fn(&str, &str, usize) -> Deed + Send + Sync;

/// A service that gives tokens to those who know the password (distribution's token authentication
/// specification).
#[derive(Default)]
struct Tokens {
    /// How many requests a token is good for.
    uses: usize,
    /// How often each token, by its number, was used.
    used: Mutex<Vec<usize>>,
}

impl Tokens {
    /// What is answered to whoever has no right to get through: status, headers, body.
    fn guard(&self, head: &str) -> Option<(u16, String, String)> {
        let header = |name: &str| {
            let line = head
                .lines()
                .find_map(|line| line.to_ascii_lowercase().strip_prefix(name).map(|_| line))?;
            Some(line[name.len()..].trim())
        };
        let shown = header("authorization:").unwrap_or_default();
        let mut used = self.used.lock().unwrap();
        if head.starts_with("GET /token") {
            let basic = format!("Basic {}", STANDARD.encode(format!("{USER}:{PASSWORD}")));
            if shown != basic {
                return Some((401, String::new(), String::new()));
            }
            used.push(0);
            let body = format!("{{\"token\":\"token-{}\"}}", used.len() - 1);
            return Some((200, String::new(), body));
        }
        let number = shown.strip_prefix("Bearer token-");
        let number = number.and_then(|number| number.parse::<usize>().ok());
        if let Some(count) = number.and_then(|number| used.get_mut(number))
            && *count < self.uses
        {
            *count += 1;
            return None;
        }
        let host = header("host:").unwrap_or_default();
        let challenge =
            format!("Www-Authenticate: Bearer realm=\"http://{host}/token\",service=\"test\"\r\n");
        Some((401, challenge, String::new()))
    }
}

/// What the connections of a proxy have in common.
struct World {
    registry: SocketAddr,
    decide: Box<Decide>,
    tokens: Option<Tokens>,
    asked: Arc<Mutex<Vec<Asked>>>,
    sent: Arc<AtomicU64>,
    /// Where uploads go on that a client was not told of, by their paths.
    places: Mutex<HashMap<String, String>>,
}

/// Counts what is read.
struct Counted<'a, R>(R, &'a AtomicU64);

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.0.read(buffer)?;
        self.1.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

/// Serves one request of a connection, and closes it.
fn serve(mut client: TcpStream, world: &Arc<World>) -> std::io::Result<()> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if client.read(&mut byte)? == 0 {
            return Ok(());
        }
        head.push(byte[0]);
        // Whoever tries TLS first is told at once that there is none.
        if head[0] == TLS_HANDSHAKE {
            return Ok(());
        }
    }
    let mut text = String::from_utf8_lossy(&head).into_owned();
    let mut words = text.split(' ');
    let asked = (
        words.next().unwrap_or_default().to_owned(),
        words.next().unwrap_or_default().to_owned(),
    );
    let before = {
        let mut known = world.asked.lock().unwrap();
        let before = known.iter().filter(|other| **other == asked).count();
        known.push(asked.clone());
        before
    };
    let (method, place) = &asked;
    if method == "GET"
        && let Some(newer) = world.places.lock().unwrap().remove(path(place))
    {
        text = text.replacen(place.as_str(), &newer, 1);
    }
    let guard = world.tokens.as_ref();
    if let Some((status, headers, body)) = guard.and_then(|tokens| tokens.guard(&text)) {
        return answer(client, status, &headers, &body);
    }
    let limit = match (world.decide)(method, place, before) {
        Deed::Answer(status, headers, body) => return answer(client, status, headers, body),
        Deed::Hang => {
            std::io::copy(&mut client, &mut std::io::sink())?;
            return Ok(());
        }
        Deed::Lose(bytes) => {
            take(&client, bytes, world)?;
            return client.shutdown(Shutdown::Both);
        }
        Deed::Keep(bytes) => {
            let part = take(&client, bytes, world)?;
            let newer = upload(world.registry, place, &part)?;
            let mut places = world.places.lock().unwrap();
            places.insert(path(place).to_owned(), newer);
            return client.shutdown(Shutdown::Both);
        }
        Deed::Break(bytes) => Some(bytes),
        Deed::Pass => None,
    };
    let mut server = TcpStream::connect(world.registry)?;
    let text = text.replacen("\r\n", "\r\nConnection: close\r\n", 1);
    server.write_all(text.as_bytes())?;
    let (mut from_client, mut to_server) = (client.try_clone()?, server.try_clone()?);
    let world = Arc::clone(world);
    let sending = std::thread::spawn(move || match limit {
        None => {
            let _ = std::io::copy(&mut Counted(&from_client, &world.sent), &mut to_server);
        }
        Some(bytes) => {
            let mut part = Counted(&mut from_client, &world.sent).take(bytes as u64);
            let _ = std::io::copy(&mut part, &mut to_server);
            let _ = to_server.shutdown(Shutdown::Both);
            let _ = from_client.shutdown(Shutdown::Both);
        }
    });
    let _ = std::io::copy(&mut server, &mut client);
    let _ = client.shutdown(Shutdown::Both);
    let _ = sending.join();
    Ok(())
}

/// Answers in the registry's stead.
fn answer(mut client: TcpStream, status: u16, headers: &str, body: &str) -> std::io::Result<()> {
    let answer = format!(
        "HTTP/1.1 {status} Fault\r\n{headers}Content-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    client.write_all(answer.as_bytes())?;
    client.shutdown(Shutdown::Write)?;
    // Until the client has read it.
    let _ = std::io::copy(&mut client, &mut std::io::sink());
    Ok(())
}

/// The first bytes of a body.
fn take(client: &TcpStream, bytes: usize, world: &World) -> std::io::Result<Vec<u8>> {
    let mut part = vec![0; bytes];
    Counted(client, &world.sent).read_exact(&mut part)?;
    Ok(part)
}

/// Sends a registry a part of a layer; where it goes on.
fn upload(registry: SocketAddr, place: &str, part: &[u8]) -> std::io::Result<String> {
    let mut server = TcpStream::connect(registry)?;
    write!(
        server,
        "PATCH {place} HTTP/1.1\r\nHost: {registry}\r\nConnection: close\r\n\
         Content-Type: application/octet-stream\r\nContent-Length: {}\r\n\r\n",
        part.len()
    )?;
    server.write_all(part)?;
    let mut answer = String::new();
    server.read_to_string(&mut answer)?;
    let location = answer
        .lines()
        .find_map(|line| line.strip_prefix("Location: "));
    let location = location.unwrap_or_else(|| panic!("{answer}"));
    let at = location.find("/v2/").unwrap();
    Ok(location[at..].to_owned())
}

fn path(place: &str) -> &str {
    place.split('?').next().unwrap_or(place)
}
