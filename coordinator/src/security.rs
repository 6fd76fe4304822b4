//! Who gets in: a join token that every request carries, and TLS where both sides show a certificate of the run.

use std::fmt;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tonic::metadata::{Ascii, MetadataMap, MetadataValue};
use tonic::transport::{Certificate, ClientTlsConfig, Identity, ServerTlsConfig};

use crate::failure::Failure;

/// The name that the coordinator's certificate bears, whatever its address.
pub const SERVER_NAME: &str = "coordinator";
/// The metadata that carries the token.
pub const HEADER: &str = "authorization";
/// A longer token is a mistaken file.
const MOST_TOKEN_BYTES: usize = 4096;
/// What a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// The join token. It is never printed.
#[derive(Clone)]
pub struct Token {
    /// `Bearer TOKEN`.
    value: MetadataValue<Ascii>,
    digest: [u8; 32],
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

impl Token {
    /// Reads a token file: one line, blanks around it do not count.
    ///
    /// # Errors
    /// If the file cannot be read, is empty, or holds what no header can.
    pub fn read(path: &Path) -> Result<Self, Failure> {
        let wrong = |what: &dyn fmt::Display| {
            Failure::input(format!(
                "token file {}: {what}; expected one line of visible ASCII, such as \"openssl rand -hex 32\" prints",
                path.display()
            ))
        };
        let text = fs::read_to_string(path).map_err(|e| wrong(&e))?;
        let mode = fs::metadata(path).map_err(|e| wrong(&e))?.permissions().mode();
        if mode & 0o007 != 0 {
            let path = path.display();
            tracing::warn!("token file {path} can be read by everybody on this host: chmod 600 {path}");
        }
        Self::new(text.trim()).map_err(|what| wrong(&what))
    }

    fn new(token: &str) -> Result<Self, &'static str> {
        if token.is_empty() {
            return Err("it is empty");
        }
        if token.len() > MOST_TOKEN_BYTES || !token.bytes().all(|b| b.is_ascii_graphic()) {
            return Err("it holds something else than a token");
        }
        let bearer = format!("Bearer {token}");
        let mut value =
            MetadataValue::try_from(&bearer).map_err(|_| "it holds something else than a token")?;
        value.set_sensitive(true);
        Ok(Self { value, digest: Sha256::digest(bearer).into() })
    }

    /// What a request carries.
    #[must_use]
    pub fn value(&self) -> MetadataValue<Ascii> {
        self.value.clone()
    }

    /// Whether a request carries it. Digests are compared whole, so that the time says nothing about the token.
    #[must_use]
    pub fn is_in(&self, metadata: &MetadataMap) -> bool {
        let given = metadata.get(HEADER).map(MetadataValue::as_bytes).unwrap_or_default();
        let given: [u8; 32] = Sha256::digest(given).into();
        let difference = given.iter().zip(&self.digest).fold(0, |all, (a, b)| all | (a ^ b));
        std::hint::black_box(difference) == 0
    }
}

/// What the listening side demands.
#[derive(Clone, Debug, Default)]
pub struct Demands {
    /// Requests must carry it; `None`: everybody may speak.
    pub token: Option<Token>,
    /// TLS with certificates on both sides; `None`: plain text.
    pub tls: Option<ServerTlsConfig>,
}

impl Demands {
    /// Reads what a host file names.
    ///
    /// # Errors
    /// If a file is missing or unusable.
    pub fn read(security: &settings::Security) -> Result<Self, Failure> {
        let token = security.token_file.as_deref().map(Token::read).transpose()?;
        let tls = security.certificates.as_deref().map(server_tls).transpose()?;
        Ok(Self { token, tls })
    }
}

fn server_tls(folder: &Path) -> Result<ServerTlsConfig, Failure> {
    let config =
        ServerTlsConfig::new().identity(identity(folder, "coordinator")?).client_ca_root(ca(folder)?);
    Ok(config.timeout(HANDSHAKE))
}

/// What a client of `folder`'s certificates shows and demands.
///
/// # Errors
/// If a file is missing.
pub fn client_tls(folder: &Path) -> Result<ClientTlsConfig, Failure> {
    let config = ClientTlsConfig::new().ca_certificate(ca(folder)?).identity(identity(folder, "worker")?);
    Ok(config.domain_name(SERVER_NAME))
}

fn ca(folder: &Path) -> Result<Certificate, Failure> {
    Ok(Certificate::from_pem(pem(folder, "ca.pem")?))
}

fn identity(folder: &Path, who: &str) -> Result<Identity, Failure> {
    Ok(Identity::from_pem(pem(folder, &format!("{who}.pem"))?, pem(folder, &format!("{who}.key"))?))
}

fn pem(folder: &Path, name: &str) -> Result<String, Failure> {
    let path = folder.join(name);
    let wrong = |what: &dyn fmt::Display| {
        Failure::input(format!(
            "certificates {}: {what}; expected a folder that \"coordinator certificates --nodes HOSTS.yaml --output DIR\" wrote",
            path.display()
        ))
    };
    let text = fs::read_to_string(&path).map_err(|e| wrong(&e))?;
    if text.contains("-----BEGIN ") { Ok(text) } else { Err(wrong(&"it is not in PEM format")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn carrying(value: &str) -> MetadataMap {
        let mut metadata = MetadataMap::new();
        metadata.insert(HEADER, value.parse().expect("a header"));
        metadata
    }

    #[test]
    fn only_the_whole_token_as_a_bearer_gets_in() {
        let token = Token::new("secret").expect("a token");
        assert!(token.is_in(&carrying("Bearer secret")));
        for wrong in ["secret", "Bearer secre", "Bearer secret2", "bearer secret", "Basic secret", "Bearer "]
        {
            assert!(!token.is_in(&carrying(wrong)), "{wrong}");
        }
        assert!(!token.is_in(&MetadataMap::new()));
        assert!(!format!("{token:?} {:?}", token.value()).contains("secret"));
    }

    #[test]
    fn a_token_file_that_is_missing_empty_or_binary_is_told_with_its_path() {
        let file = tempfile::NamedTempFile::new().expect("temporary file");
        for (bytes, said) in [(&b" \n"[..], "it is empty"), (b"a b", "something else"), (b"\xff", "UTF-8")] {
            fs::write(file.path(), bytes).expect("written");
            let failure = Token::read(file.path()).expect_err("wrong");
            assert!(
                failure.message.contains(said) && failure.message.contains("expected one line"),
                "{failure}"
            );
            assert_eq!(failure.exit_code, 2);
        }
        fs::write(file.path(), "  t0ken\n").expect("written");
        assert!(Token::read(file.path()).expect("a token").is_in(&carrying("Bearer t0ken")));
        assert!(Token::read(Path::new("/nonexistent")).is_err());
    }
}
