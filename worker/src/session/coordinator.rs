//! Where the coordinator is, and by what this worker shows that it belongs to the run.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

use crate::failure::Failure;

/// The name in the coordinator's certificate, whatever its address is.
const SERVER_NAME: &str = "coordinator";

/// How long a connection may take.
const CONNECTING: Duration = Duration::from_secs(5);

/// A coordinator that does not answer for so long is gone, its connection with it: asked every …, waited for …
const ALIVE: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(10));

/// A coordinator that can be looked for again and again.
#[derive(Clone, Debug)]
pub struct Coordinator {
    place: Place,
    token: Option<MetadataValue<Ascii>>,
    tls: Option<ClientTlsConfig>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Address(String),
    /// A coordinator that is started again writes its new address here.
    File(PathBuf),
}

impl Coordinator {
    /// At `given`: `host:port`, or a file that holds it and is read at every try.
    ///
    /// # Errors
    /// If it is neither.
    pub fn at(given: &str) -> Result<Self, Failure> {
        let path = Path::new(given);
        let place = if path.is_file() || (given.contains('/') && !path.is_dir()) {
            Place::File(path.to_owned())
        } else if is_address(given) {
            Place::Address(given.to_owned())
        } else {
            return Err(Failure::input(format!(
                "--coordinator \"{given}\" is not an address: expected host:port, or a file that holds it"
            )));
        };
        Ok(Self { place, token: None, tls: None })
    }

    /// With the join token that `file` holds.
    ///
    /// # Errors
    /// If the file cannot be read, is empty, or holds what cannot be sent.
    pub fn with_token(mut self, file: &Path) -> Result<Self, Failure> {
        let wrong = |reason: String| {
            Failure::input(format!(
                "--token-file {}: {reason}, expected the run's join token",
                file.display()
            ))
        };
        let text = fs::read_to_string(file).map_err(|e| wrong(e.to_string()))?;
        let token = text.trim();
        if token.is_empty() {
            return Err(wrong("it is empty".to_owned()));
        }
        let value = format!("Bearer {token}").parse::<MetadataValue<Ascii>>();
        let mut value =
            value.map_err(|_| wrong("it holds other than visible ASCII characters".to_owned()))?;
        value.set_sensitive(true);
        self.token = Some(value);
        Ok(self)
    }

    /// With mutual TLS: `folder` holds ca.pem, worker.pem and worker.key.
    ///
    /// # Errors
    /// If one of them cannot be read.
    pub fn with_certificates(mut self, folder: &Path) -> Result<Self, Failure> {
        let read = |name: &str| {
            let path = folder.join(name);
            fs::read(&path).map_err(|e| {
                Failure::input(format!(
                    "--certificates: {}: {e}; expected a folder as `coordinator certificates` makes it, with ca.pem, \
                     worker.pem and worker.key",
                    path.display()
                ))
            })
        };
        let tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(read("ca.pem")?))
            .identity(Identity::from_pem(read("worker.pem")?, read("worker.key")?))
            .domain_name(SERVER_NAME);
        // Whether they can be used shows here, not at the first try to connect.
        endpoint("127.0.0.1:1", Some(&tls))
            .map_err(|e| Failure::input(format!("--certificates {}: {e}", folder.display())))?;
        self.tls = Some(tls);
        Ok(self)
    }

    /// What goes with the session's request.
    pub(super) fn token(&self) -> Option<MetadataValue<Ascii>> {
        self.token.clone()
    }

    /// The address as it is now.
    ///
    /// # Errors
    /// If the file does not hold one: why.
    pub(super) fn address(&self) -> Result<String, String> {
        match &self.place {
            Place::Address(address) => Ok(address.clone()),
            Place::File(path) => {
                let text = fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
                let text = text.trim();
                if is_address(text) {
                    return Ok(text.to_owned());
                }
                Err(format!("{} holds \"{text}\", expected host:port", path.display()))
            }
        }
    }

    /// How `address` is connected to.
    ///
    /// # Errors
    /// If it is no address: why.
    pub(super) fn endpoint(&self, address: &str) -> Result<Endpoint, String> {
        endpoint(address, self.tls.as_ref())
    }
}

fn endpoint(address: &str, tls: Option<&ClientTlsConfig>) -> Result<Endpoint, String> {
    let scheme = if tls.is_some() { "https" } else { "http" };
    let endpoint = Endpoint::from_shared(format!("{scheme}://{address}"))
        .map_err(|e| format!("{address} is not an address: {e}"))?
        .connect_timeout(CONNECTING)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(ALIVE.0)
        .keep_alive_timeout(ALIVE.1)
        .keep_alive_while_idle(true);
    match tls {
        Some(tls) => endpoint.tls_config(tls.clone()).map_err(|e| format!("they cannot be used: {e}")),
        None => Ok(endpoint),
    }
}

fn is_address(text: &str) -> bool {
    matches!(text.rsplit_once(':'), Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_without_a_port_is_refused() {
        let at = |text| Coordinator::at(text).ok().map(|found| found.place);
        assert_eq!(at("127.0.0.1:80"), Some(Place::Address("127.0.0.1:80".into())));
        assert_eq!(at("localhost"), None);
        assert_eq!(at(":80"), None);
        assert_eq!(at("runs/none/address"), Some(Place::File("runs/none/address".into())));
    }

    #[test]
    fn a_file_is_read_at_every_try() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let file = folder.path().join("address");
        let found = Coordinator::at(file.to_str().expect("UTF-8")).expect("a file to come");
        assert!(found.address().is_err_and(|e| e.contains("address")));
        for address in ["127.0.0.1:80", "127.0.0.1:81"] {
            fs::write(&file, format!("{address}\n")).expect("written");
            assert_eq!(found.address().as_deref(), Ok(address));
        }
        fs::write(&file, "127.0").expect("written");
        assert_eq!(found.address(), Err(format!("{} holds \"127.0\", expected host:port", file.display())));
    }

    #[test]
    fn a_token_is_one_line_of_visible_characters() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let file = folder.path().join("token");
        let with = |text: &str| {
            fs::write(&file, text).expect("written");
            Coordinator::at("a:1").expect("an address").with_token(&file)
        };
        let token = with(" s3cret\n").expect("a token").token().expect("a token");
        assert_eq!(token.to_str().ok(), Some("Bearer s3cret"));
        assert!(!format!("{token:?}").contains("s3cret"));
        for (text, why) in [("\n", "it is empty"), ("a\nb", "visible ASCII")] {
            let failure = with(text).expect_err("no token");
            assert_eq!(failure.exit_code, 2);
            assert!(failure.message.contains(why), "{failure}");
        }
        let failure = Coordinator::at("a:1").expect("an address").with_token(&folder.path().join("none"));
        assert!(failure.is_err_and(|e| e.exit_code == 2 && e.message.contains("none")));
    }

    #[test]
    fn certificates_that_are_missing_or_none_are_wrong_input() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let with = || Coordinator::at("a:1").expect("an address").with_certificates(folder.path());
        assert!(with().is_err_and(|e| e.exit_code == 2 && e.message.contains("ca.pem")));
        for name in ["ca.pem", "worker.pem", "worker.key"] {
            fs::write(folder.path().join(name), "none").expect("written");
        }
        assert!(with().is_err_and(|e| e.exit_code == 2));
    }
}
