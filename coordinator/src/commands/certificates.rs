//! `coordinator certificates`: a run's own authority, and a certificate for each side of the wire.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use settings::Hosts;

use crate::failure::Failure;
use crate::security::SERVER_NAME;
use crate::tell;

/// Arguments of `coordinator certificates`.
#[derive(clap::Args)]
pub struct Args {
    /// The host file, whose addresses the coordinator's certificate names.
    #[arg(long, value_name = "HOSTS.yaml")]
    nodes: PathBuf,
    /// A folder that must not exist yet.
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
}

/// Makes the folder: `ca.pem`, `coordinator.pem`, `coordinator.key`, `worker.pem`, `worker.key`.
///
/// # Errors
/// Wrong input (2), or the file system refuses (1).
#[allow(clippy::needless_pass_by_value, reason = "every command's run takes its arguments by value")]
pub fn run(args: Args) -> Result<(), Failure> {
    let hosts = settings::load_hosts(&args.nodes).map_err(Failure::input)?;
    let output = &args.output;
    if output.exists() {
        return Err(Failure::input(format!(
            "{}: exists already, expected a new directory: remove it or name another",
            output.display()
        )));
    }
    let files = make(&names(&hosts)).map_err(Failure::other)?;
    let written = fs::create_dir_all(output)
        .and_then(|()| files.iter().try_for_each(|(name, text)| write(&output.join(name), text)));
    written.map_err(|e| Failure::other(format!("{}: {e}", output.display())))?;
    tell::out(format_args!(
        "{0}: put it on every host (workers need ca.pem, worker.pem and worker.key) and write into the host file:\n\
         security: {{ certificates: {0} }}",
        output.display()
    ))
}

/// What the coordinator may be called: its certificate's own name, and every address of the host file.
fn names(hosts: &Hosts) -> Vec<String> {
    let listen = hosts.coordinator.listen.rsplit_once(':').map(|(host, _)| host);
    let listen = listen.map(|host| host.trim_matches(['[', ']']).to_owned());
    let addresses = hosts.hosts.iter().map(|host| host.address.clone()).chain(listen);
    let names: BTreeSet<String> = addresses.filter(|name| name != SERVER_NAME).collect();
    std::iter::once(SERVER_NAME.to_owned()).chain(names).collect()
}

/// Name and content of every file. The authority's key is in none of them: nobody can add to the run's certificates.
fn make(names: &[String]) -> Result<Vec<(&'static str, String)>, rcgen::Error> {
    let mut authority = described("run authority", &[])?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;
    let mut files = vec![("ca.pem", authority.pem())];
    let sides = [
        ("coordinator.pem", "coordinator.key", names, ExtendedKeyUsagePurpose::ServerAuth),
        ("worker.pem", "worker.key", &[], ExtendedKeyUsagePurpose::ClientAuth),
    ];
    for (certificate, key, names, purpose) in sides {
        let pair = KeyPair::generate()?;
        let mut params = described(certificate.trim_end_matches(".pem"), names)?;
        // A worker cannot pass for the coordinator.
        params.extended_key_usages = vec![purpose];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        files.push((certificate, params.signed_by(&pair, &authority)?.pem()));
        files.push((key, pair.serialize_pem()));
    }
    Ok(files)
}

fn described(name: &str, names: &[String]) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name.push(DnType::CommonName, name);
    Ok(params)
}

/// Keys are their owner's alone.
fn write(path: &Path, text: &str) -> std::io::Result<()> {
    let mode = if path.extension().is_some_and(|e| e == "key") { 0o600 } else { 0o644 };
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}
