//! One request to a receiver of events, over TLS unless it is on this machine. Redirections are not followed.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Request, Uri};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore, crypto};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// What machines trust, by distribution.
const TRUSTED: [&str; 2] = ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt"];

/// Why something was not delivered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PostError {
    /// The URL.
    #[error("`{url}` is no place to deliver to: {why}")]
    Url { url: String, why: &'static str },
    /// Nobody to trust.
    #[error("nothing says whom to trust there: {0}")]
    Trust(String),
    /// No connection.
    #[error("no connection to {host}: {source}")]
    Connect { host: String, source: std::io::Error },
    /// No answer in time.
    #[error("no answer from {host} within {} s", within.as_secs())]
    Timeout { host: String, within: Duration },
    /// The connection broke.
    #[error("the connection to {host} broke: {source}")]
    Broken { host: String, source: hyper::Error },
    /// Another answer than 2xx.
    #[error("{host} answered {status}")]
    Refused { host: String, status: u16 },
}

impl PostError {
    /// Stable code, listed in docs/ERRORS.md.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Url { .. } => "hook-url",
            Self::Trust(_) => "hook-trust",
            Self::Connect { .. } => "hook-unreachable",
            Self::Timeout { .. } => "hook-timeout",
            Self::Broken { .. } => "hook-broken",
            Self::Refused { .. } => "hook-refused",
        }
    }

    /// The status that was answered, if one was.
    pub(crate) fn status(&self) -> Option<u16> {
        match self {
            Self::Refused { status, .. } => Some(*status),
            _ => None,
        }
    }
}

/// Where something is delivered.
pub(crate) struct Target {
    uri: Uri,
    host: String,
    port: u16,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

impl Target {
    /// A receiver by its URL. `ca`: certificates in PEM that are trusted there, in place of those that this machine trusts.
    pub(crate) fn new(url: &str, ca: Option<&str>) -> Result<Self, PostError> {
        let wrong = |why| PostError::Url { url: url.to_owned(), why };
        let uri: Uri = url.parse().map_err(|_| wrong("it is no URL"))?;
        let host = uri.host().ok_or_else(|| wrong("it has no host"))?.trim_matches(['[', ']']).to_owned();
        if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
            return Err(wrong("what lets in does not belong into a URL; deliveries are signed"));
        }
        let tls = match uri.scheme_str() {
            Some("https") => {
                let name = ServerName::try_from(host.clone()).map_err(|_| wrong("its host is no name"))?;
                Some((TlsConnector::from(trusting(ca)?), name))
            }
            Some("http") if is_here(&host) => None,
            Some("http") => return Err(wrong("over http events go to this machine only; expected https")),
            _ => return Err(wrong("expected https")),
        };
        let port = uri.port_u16().unwrap_or(if tls.is_some() { 443 } else { 80 });
        Ok(Self { uri, host, port, tls })
    }

    /// Sends a body; the status of the answer.
    pub(crate) async fn post(
        &self,
        headers: &[(&'static str, String)],
        body: String,
        within: Duration,
    ) -> Result<u16, PostError> {
        match timeout(within, self.send(headers, body)).await {
            Ok(sent) => sent,
            Err(_) => Err(PostError::Timeout { host: self.host.clone(), within }),
        }
    }

    async fn send(&self, headers: &[(&'static str, String)], body: String) -> Result<u16, PostError> {
        let connect = |source| PostError::Connect { host: self.host.clone(), source };
        let plain = TcpStream::connect((self.host.as_str(), self.port)).await.map_err(connect)?;
        match &self.tls {
            None => self.over(plain, headers, body).await,
            Some((connector, name)) => {
                let stream = connector.connect(name.clone(), plain).await.map_err(connect)?;
                self.over(stream, headers, body).await
            }
        }
    }

    async fn over(
        &self,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        headers: &[(&'static str, String)],
        body: String,
    ) -> Result<u16, PostError> {
        let broken = |source| PostError::Broken { host: self.host.clone(), source };
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        let authority = self.uri.authority().map(ToString::to_string).unwrap_or_default();
        let path = self.uri.path_and_query().map_or("/", |path| path.as_str());
        let mut request = Request::post(path)
            .header("host", authority)
            .header("content-type", "application/json")
            .header("user-agent", concat!("plinth/", env!("CARGO_PKG_VERSION")));
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let wrong = |_| PostError::Url { url: self.uri.to_string(), why: "no request can be made of it" };
        let request = request.body(Full::new(Bytes::from(body))).map_err(wrong)?;
        // The answer's body is not looked at: the connection ends with it. Once that is over, what was asked has its answer, or none.
        let exchange = sender.send_request(request);
        tokio::pin!(exchange, connection);
        let answer = tokio::select! {
            answer = &mut exchange => answer,
            _ = &mut connection => exchange.await,
        };
        let status = answer.map_err(broken)?.status();
        if status.is_success() {
            Ok(status.as_u16())
        } else {
            Err(PostError::Refused { host: self.host.clone(), status: status.as_u16() })
        }
    }
}

fn is_here(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn trusting(ca: Option<&str>) -> Result<Arc<ClientConfig>, PostError> {
    let trust = |why: String| PostError::Trust(why);
    let text = match ca {
        Some(text) => text.as_bytes().to_vec(),
        None => TRUSTED.iter().find_map(|path| std::fs::read(path).ok()).ok_or_else(|| {
            trust(format!("neither of {} is there; the hook can name certificates", TRUSTED.join(", ")))
        })?,
    };
    let mut roots = RootCertStore::empty();
    let certificates = CertificateDer::pem_slice_iter(&text).filter_map(Result::ok);
    let (added, _) = roots.add_parsable_certificates(certificates);
    if added == 0 {
        return Err(trust("there is no certificate in it".to_owned()));
    }
    let config = ClientConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| trust(error.to_string()))?;
    Ok(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
}
