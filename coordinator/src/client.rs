//! The wire's asking side: commands that speak with a running coordinator.

use std::path::PathBuf;
use std::time::Duration;

use proto::v1::StatusReply;
use proto::v1::run_client::RunClient;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use crate::failure::Failure;
use crate::folder::ADDRESS;
use crate::security::{HEADER, Token, client_tls};

/// How long a coordinator may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Which coordinator, and what it demands.
#[derive(clap::Args)]
pub struct Target {
    /// The coordinator's address, host:port.
    #[arg(long, value_name = "A", conflicts_with = "output", required_unless_present = "output")]
    pub address: Option<String>,
    /// The run folder, whose `address` file says where its coordinator listens.
    #[arg(long, value_name = "RUNDIR")]
    pub output: Option<PathBuf>,
    /// The file with the run's join token, where it has one.
    #[arg(long, value_name = "F")]
    pub token_file: Option<PathBuf>,
    /// The folder of the run's certificates, where it has them.
    #[arg(long, value_name = "DIR")]
    pub certificates: Option<PathBuf>,
}

/// A client that shows what it was given.
pub type Client = RunClient<InterceptedService<Channel, Carrying>>;

/// Puts the token into every request.
#[derive(Clone)]
pub struct Carrying(Option<Token>);

impl Interceptor for Carrying {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            request.metadata_mut().insert(HEADER, token.value());
        }
        Ok(request)
    }
}

impl Target {
    /// Asks one thing; returns the address that was asked and the answer.
    ///
    /// # Errors
    /// Wrong arguments, or what was shown is refused (2); nobody answers (1).
    pub fn ask(
        &self,
        question: impl AsyncFnOnce(&mut Client) -> Result<tonic::Response<StatusReply>, Status>,
    ) -> Result<(String, String), Failure> {
        let address = self.address()?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|e| Failure::other(format!("cannot start the runtime: {e}")))?;
        let json = runtime.block_on(async {
            let mut client = self.connect(&address).await?;
            question(&mut client).await.map_err(|status| refused(&address, &status))
        })?;
        Ok((address, json.into_inner().json))
    }

    async fn connect(&self, address: &str) -> Result<Client, Failure> {
        let token = self.token_file.as_deref().map(Token::read).transpose()?;
        let scheme = if self.certificates.is_some() { "https" } else { "http" };
        let mut endpoint = Endpoint::from_shared(format!("{scheme}://{address}"))
            .map_err(|e| Failure::input(format!("{address:?} is no address: {e}; expected host:port")))?
            .connect_timeout(PATIENCE)
            .timeout(PATIENCE);
        if let Some(folder) = &self.certificates {
            endpoint = endpoint
                .tls_config(client_tls(folder)?)
                .map_err(|e| Failure::input(format!("certificates {}: {e}", folder.display())))?;
        }
        let channel = endpoint.connect().await.map_err(|e| silent(address, &e))?;
        Ok(RunClient::with_interceptor(channel, Carrying(token)))
    }

    fn address(&self) -> Result<String, Failure> {
        match (&self.address, &self.output) {
            (Some(address), _) => Ok(address.clone()),
            (None, Some(output)) => {
                let path = output.join(ADDRESS);
                let text = std::fs::read_to_string(&path).map_err(|e| {
                    Failure::input(format!(
                        "{}: {e}; expected the folder of a run, with its address",
                        path.display()
                    ))
                })?;
                Ok(text.trim().to_owned())
            }
            (None, None) => Err(Failure::input("give --address host:port or --output RUNDIR")),
        }
    }
}

fn silent(address: &str, error: &dyn std::fmt::Display) -> Failure {
    Failure::other(format!(
        "no coordinator answers at {address} ({error}): is the run over, or are --certificates missing or another run's?"
    ))
}

fn refused(address: &str, status: &Status) -> Failure {
    match status.code() {
        tonic::Code::Unauthenticated => {
            Failure::input(format!("the coordinator at {address} refuses: {}", status.message()))
        }
        _ => silent(address, &status.message()),
    }
}
