//! Getting to the engine: one connector for sockets, TCP, TLS and OpenSSH.
//!
//! It serves bollard's requests and whatever needs a connection of its own (sessions, attach).

use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
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
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::{ClientConfig, InvalidMessage, RootCertStore};

use super::bounded::{Bounded, Held};
use super::endpoint::{Address, Authorities, Tls};

mod ssh;

pub(super) use ssh::SshEnded;
use ssh::SshWay;

/// Why no connection came about.
#[derive(Debug, thiserror::Error)]
pub(in crate::engine) enum ConnectError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("no connection within {} s", .0.as_secs())]
    Timeout(Duration),
    #[error("{0}")]
    Tls(String),
    #[error("what listens there speaks clear text")]
    ClearText,
    #[error("can't run `ssh`: {0}")]
    NoSsh(io::Error),
}

/// Connects to an address, again and again.
#[derive(Debug, Clone)]
pub(in crate::engine) struct Connector {
    address: Arc<Address>,
    /// How long a connection may take to come about.
    deadline: Duration,
    /// The way by `ssh`, which all connections share.
    ssh: Arc<SshWay>,
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
            ssh: Arc::new(SshWay::new(ssh.unwrap_or_else(|| PathBuf::from("ssh")))),
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
                Address::Ssh(target) => Ok(self.pipe(self.ssh.dial_stdio(target).await?)),
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
        Some(inner) => match inner.downcast_ref::<tokio_rustls::rustls::Error>() {
            Some(tokio_rustls::rustls::Error::InvalidMessage(
                InvalidMessage::InvalidContentType,
            )) => ConnectError::ClearText,
            Some(inner) => ConnectError::Tls(inner.to_string()),
            None => ConnectError::Io(error),
        },
        None => ConnectError::Io(error),
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
