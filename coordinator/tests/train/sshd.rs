//! An sshd of a test's own, and clients that know it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

const PROGRAM: &str = "/usr/sbin/sshd";

/// Keys, a client's settings, and the daemons that let this user in by them.
pub(crate) struct Sshd {
    folder: TempDir,
    port: u16,
    daemons: Vec<Child>,
}

impl Drop for Sshd {
    fn drop(&mut self) {
        for daemon in &mut self.daemons {
            // Both fail only where it has ended.
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }
}

pub(crate) fn done(command: &mut Command) {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

impl Sshd {
    /// Keys for daemons at `port`.
    pub(crate) fn new(port: u16) -> Self {
        assert!(
            Path::new(PROGRAM).is_file(),
            "Debian package openssh-server is missing (no {PROGRAM}): run deploy/setup/setup.sh hosts"
        );
        let sshd = Self { folder: tempfile::tempdir().unwrap(), port, daemons: Vec::new() };
        let text = |name: &str| sshd.path(name).display().to_string();
        for key in ["host", "user", "stranger"] {
            done(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f", &text(key)]));
        }
        fs::copy(sshd.path("user.pub"), sshd.path("authorized_keys")).unwrap();
        // sshd of root wants it; of another user it does not.
        let _ = fs::create_dir_all("/run/sshd");
        let client = format!(
            "Port {port}\nIdentityFile {}\nIdentitiesOnly yes\nUserKnownHostsFile {}\nStrictHostKeyChecking yes\n",
            text("user"),
            text("known_hosts")
        );
        fs::write(sshd.path("ssh_config"), client).unwrap();
        sshd
    }

    /// Starts a daemon at `address`, which `on` has a command run at, and waits until it answers there.
    pub(crate) fn listen(&mut self, address: &str, on: impl Fn() -> Command) {
        let (port, text) = (self.port, |name: &str| self.path(name).display().to_string());
        let server = format!(
            "ListenAddress {address}\nPort {port}\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\nUsePAM no\n\
             StrictModes no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin yes\n",
            text("host"),
            text("authorized_keys")
        );
        let settings = self.path(&format!("{address}.sshd_config"));
        fs::write(&settings, server).unwrap();
        let key = fs::read_to_string(self.path("host.pub")).unwrap();
        let known = self.path("known_hosts");
        let before = fs::read_to_string(&known).unwrap_or_default();
        fs::write(known, format!("{before}[{address}]:{port} {key}{address} {key}")).unwrap();
        let log = fs::File::options().create(true).append(true).open(self.path("log")).unwrap();
        let mut daemon = on();
        daemon.args([PROGRAM, "-D", "-e", "-f"]).arg(settings).stdin(Stdio::null()).stderr(log);
        self.daemons.push(daemon.spawn().unwrap());
        let deadline = Instant::now() + Duration::from_secs(30);
        let answers = || on().args(["ssh-keyscan", "-p", &port.to_string(), address]).output().unwrap();
        while answers().stdout.is_empty() {
            assert!(Instant::now() < deadline, "{}", fs::read_to_string(self.path("log")).unwrap());
        }
    }

    /// Writes an `ssh` to `program` that knows the way.
    pub(crate) fn client(&self, program: &Path) {
        let text =
            format!("#!/bin/sh\nexec /usr/bin/ssh -F '{}' \"$@\"\n", self.path("ssh_config").display());
        // Another process writes it: one that this process forks could still have it open for writing.
        let write = "printf '%s' \"$1\" > \"$0\" && chmod +x \"$0\"";
        done(Command::new("sh").args(["-c", write]).arg(program).arg(text));
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}
