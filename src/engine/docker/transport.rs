//! Getting to the engine: one connector for sockets, TCP, TLS and OpenSSH.
//!
//! It serves bollard's requests and whatever needs a connection of its own (sessions, attach).

use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::Stdio;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::process::{Child, Command};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::bounded::{Bounded, Held};
use super::endpoint::{Address, Authorities, SshTarget, Tls};

/// Why no connection came about.
#[derive(Debug, thiserror::Error)]
pub(in crate::engine) enum ConnectError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("no connection within {} s", .0.as_secs())]
    Timeout(Duration),
    #[error("{0}")]
    Tls(String),
    #[error("can't run `ssh`: {0}")]
    NoSsh(io::Error),
}

/// Connects to an address, again and again.
#[derive(Debug, Clone)]
pub(in crate::engine) struct Connector {
    address: Arc<Address>,
    /// How long a connection may take to come about.
    deadline: Duration,
    /// The `ssh` program.
    ssh: Arc<Path>,
    /// What is held in memory of the answers.
    held: Held,
}

impl Connector {
    pub(in crate::engine) fn new(
        address: Address,
        deadline: Duration,
        ssh: Option<PathBuf>,
    ) -> Self {
        Self {
            address: Arc::new(address),
            deadline,
            ssh: ssh.unwrap_or_else(|| PathBuf::from("ssh")).into(),
            held: Held::Nothing,
        }
    }

    /// The same for answers of which so much is held in memory by whoever takes them.
    pub(super) fn holding(&self, held: Held) -> Self {
        Self {
            held,
            ..self.clone()
        }
    }

    /// Where it connects to.
    pub(super) fn address(&self) -> &Address {
        &self.address
    }

    /// Opens a connection.
    pub(in crate::engine) async fn connect(&self) -> Result<Pipe, ConnectError> {
        let connecting = async {
            match &*self.address {
                Address::Unix(path) => Ok(self.pipe(UnixStream::connect(path).await?)),
                Address::Tcp { host, port, tls } => {
                    let stream = TcpStream::connect((host.as_str(), *port)).await?;
                    stream.set_nodelay(true)?;
                    match tls {
                        Some(tls) => Ok(self.pipe(encrypt(stream, host, tls).await?)),
                        None => Ok(self.pipe(stream)),
                    }
                }
                Address::Ssh(target) => Ok(self.pipe(dial_stdio(&self.ssh, target)?)),
            }
        };
        match tokio::time::timeout(self.deadline, connecting).await {
            Ok(connected) => connected,
            Err(_) => Err(ConnectError::Timeout(self.deadline)),
        }
    }

    fn pipe(&self, stream: impl Duplex + 'static) -> Pipe {
        Pipe(TokioIo::new(Box::new(Bounded::new(stream, self.held))))
    }
}

impl tower_service::Service<Uri> for Connector {
    type Response = Pipe;
    type Error = ConnectError;
    type Future = Pin<Box<dyn Future<Output = Result<Pipe, ConnectError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    /// The address is the connector's; requests name any host.
    fn call(&mut self, _: Uri) -> Self::Future {
        let connector = self.clone();
        Box::pin(async move { connector.connect().await })
    }
}

async fn encrypt(
    stream: TcpStream,
    host: &str,
    tls: &Tls,
) -> Result<TlsStream<TcpStream>, ConnectError> {
    let config = client_config(tls)?;
    let name = ServerName::try_from(host.to_owned())
        .map_err(|_| ConnectError::Tls(format!("`{host}` can't be the name of a certificate")))?;
    let stream = TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await;
    // The error is rustls' own in an I/O error's clothes.
    stream.map_err(|error| match error.get_ref() {
        Some(inner) if inner.is::<tokio_rustls::rustls::Error>() => {
            ConnectError::Tls(inner.to_string())
        }
        _ => ConnectError::Io(error),
    })
}

fn client_config(tls: &Tls) -> Result<ClientConfig, ConnectError> {
    let unreadable = |path: &Path, error: rustls_pki_types::pem::Error| {
        ConnectError::Tls(format!("can't read `{}`: {error}", path.display()))
    };
    let certificates = |path: &Path| {
        CertificateDer::pem_file_iter(path)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| unreadable(path, error))
    };
    let mut authorities = RootCertStore::empty();
    if tls.is_verified {
        let system = PathBuf::from("/etc/ssl/certs/ca-certificates.crt");
        let files = match &tls.authorities {
            Authorities::Only(path) => vec![path.clone()],
            // Not every system has them there.
            Authorities::SystemAnd(more) if !more.is_empty() && !system.exists() => more.clone(),
            Authorities::SystemAnd(more) => [vec![system], more.clone()].concat(),
        };
        for path in files {
            let (added, _) = authorities.add_parsable_certificates(certificates(&path)?);
            if added == 0 {
                let message = format!("`{}` has no certificate in it", path.display());
                return Err(ConnectError::Tls(message));
            }
        }
    }
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| ConnectError::Tls(error.to_string()))?;
    let builder = if tls.is_verified {
        builder.with_root_certificates(authorities)
    } else {
        let verifier = Arc::new(unverified::AnyCertificate(provider));
        builder
            .dangerous()
            .with_custom_certificate_verifier(verifier)
    };
    let config = match &tls.identity {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let key_der =
                PrivateKeyDer::from_pem_file(key).map_err(|error| unreadable(key, error))?;
            builder
                .with_client_auth_cert(certificates(certificate)?, key_der)
                .map_err(|error| ConnectError::Tls(error.to_string()))?
        }
    };
    Ok(config)
}

/// For `DOCKER_TLS` and contexts with `SkipTLSVerify`: the user asked for no check.
mod unverified {
    use std::sync::Arc;

    use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
    use tokio_rustls::rustls::client::danger::{
        HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
    };
    use tokio_rustls::rustls::crypto::{
        CryptoProvider, verify_tls12_signature, verify_tls13_signature,
    };
    use tokio_rustls::rustls::{DigitallySignedStruct, Error, SignatureScheme};

    #[derive(Debug)]
    pub(super) struct AnyCertificate(pub(super) Arc<CryptoProvider>);

    impl ServerCertVerifier for AnyCertificate {
        fn verify_server_cert(
            &self,
            _: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: &ServerName<'_>,
            _: &[u8],
            _: UnixTime,
        ) -> Result<ServerCertVerified, Error> {
            Ok(ServerCertVerified::assertion())
        }

        fn verify_tls12_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            let algorithms = &self.0.signature_verification_algorithms;
            verify_tls12_signature(message, certificate, signature, algorithms)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            let algorithms = &self.0.signature_verification_algorithms;
            verify_tls13_signature(message, certificate, signature, algorithms)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.0.signature_verification_algorithms.supported_schemes()
        }
    }
}

/// Runs `docker system dial-stdio` on the other machine, as docker's client does: its standard
/// streams are the connection.
fn dial_stdio(ssh: &Path, target: &SshTarget) -> Result<SshStream, ConnectError> {
    // What the user's configuration of ssh reads of the environment we can't know: it has all of it.
    let mut command = Command::new(ssh);
    command.args(["-o", "ConnectTimeout=30", "-T"]);
    if let Some(user) = &target.user {
        command.args(["-l", user]);
    }
    if let Some(port) = target.port {
        command.args(["-p", &port.to_string()]);
    }
    command.args(["--", &target.host]);
    match &target.socket {
        Some(socket) => {
            command.args(["docker", "--host", &format!("unix://{socket}")]);
        }
        None => {
            command.arg("docker");
        }
    }
    let child = command
        .args(["system", "dial-stdio"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(ConnectError::NoSsh)?;
    SshStream::new(child)
}

/// A child's standard streams as one connection. What it says on stderr becomes the error that the
/// end of the stream is reported with, since it says why (`Permission denied (publickey)`).
struct SshStream {
    child: Child,
    said: Vec<u8>,
    is_silent: bool,
}

/// How much of OpenSSH's words is kept, in bytes.
const KEPT_WORDS: usize = 4096;

impl SshStream {
    fn new(child: Child) -> Result<Self, ConnectError> {
        if child.stdin.is_none() || child.stdout.is_none() || child.stderr.is_none() {
            let error = io::Error::other("its standard streams are missing");
            return Err(ConnectError::NoSsh(error));
        }
        Ok(Self {
            child,
            said: Vec::new(),
            is_silent: true,
        })
    }

    /// What OpenSSH said, once it has ended.
    fn poll_words(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut bytes = [0; 512];
            let mut buffer = tokio::io::ReadBuf::new(&mut bytes);
            let Some(stderr) = &mut self.child.stderr else {
                break;
            };
            match Pin::new(stderr).poll_read(cx, &mut buffer) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    let room = KEPT_WORDS.saturating_sub(self.said.len());
                    let kept = buffer.filled().len().min(room);
                    self.said.extend_from_slice(&buffer.filled()[..kept]);
                }
                Poll::Ready(_) => break,
            }
        }
        let said = String::from_utf8_lossy(&self.said);
        let said = said.trim();
        let said = if said.is_empty() {
            "the connection was closed"
        } else {
            said
        };
        Poll::Ready(Err(io::Error::other(SshEnded(said.to_owned()))))
    }
}

/// OpenSSH ended, and what it said.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct SshEnded(pub(super) String);

impl AsyncRead for SshStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut tokio::io::ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let Some(stdout) = &mut self.child.stdout else {
            return Poll::Ready(Ok(()));
        };
        match Pin::new(stdout).poll_read(cx, buffer) {
            Poll::Ready(Ok(())) if buffer.filled().len() > before => {
                self.is_silent = false;
                Poll::Ready(Ok(()))
            }
            // An end before the first byte is no engine's.
            Poll::Ready(Ok(())) if self.is_silent => self.poll_words(cx),
            other => other,
        }
    }
}

impl AsyncWrite for SshStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let Some(stdin) = &mut self.child.stdin else {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        };
        match Pin::new(stdin).poll_write(cx, bytes) {
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
                match self.poll_words(cx) {
                    Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                    Poll::Ready(Ok(())) | Poll::Pending => Poll::Pending,
                }
            }
            other => other,
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.child.stdin {
            Some(stdin) => Pin::new(stdin).poll_flush(cx),
            None => Poll::Ready(Ok(())),
        }
    }

    /// The other side sees the end only when the pipe is closed.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(stdin) = &mut self.child.stdin else {
            return Poll::Ready(Ok(()));
        };
        let flushed = std::task::ready!(Pin::new(stdin).poll_flush(cx));
        self.child.stdin = None;
        Poll::Ready(flushed)
    }
}

trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// A connection of any kind, as hyper wants it.
pub(in crate::engine) struct Pipe(TokioIo<Box<dyn Duplex>>);

impl Connection for Pipe {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl Read for Pipe {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl Write for Pipe {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, parts)
    }
}
