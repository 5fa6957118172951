//! The programs: how each serves and fetches a directory, as its manual says, with compression off and encryption as it
//! comes.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::Result;

/// How long a server may take to be ready or to end.
const GRACE: Duration = Duration::from_secs(60);
/// Without its public relays, which it would wait for: both ends are on this machine.
const SENDME_LOCAL: [&str; 2] = ["--relay", "disabled"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tool {
    Warpline,
    /// rsync with its own daemon: no encryption.
    RsyncDaemon,
    RsyncSsh,
    Scp,
    /// rclone over SFTP, eight files at a time.
    Rclone,
    Sendme,
    /// A copy on the same machine, for comparison: no network, no protocol.
    Cp,
}

/// Where things are.
pub struct Place {
    pub dir: PathBuf,
    warpline: PathBuf,
    ssh_port: u16,
    rsync_port: u16,
}

/// A server that runs.
pub struct Server(Option<Child>);

impl Server {
    /// Ends it as its user would, and waits.
    pub fn stop(mut self) -> Result<()> {
        let Some(mut child) = self.0.take() else { return Ok(()) };
        if let Some(pid) = Pid::from_raw(i32::try_from(child.id())?) {
            kill_process(pid, Signal::INT)?;
        }
        let deadline = Instant::now() + GRACE;
        while child.try_wait()?.is_none() {
            if Instant::now() >= deadline {
                child.kill()?;
                child.wait()?;
                return Err("the server did not end".into());
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Place {
    /// Keys and configuration files of the servers.
    pub fn prepare(dir: &Path, warpline: PathBuf) -> Result<Self> {
        let place = Self { dir: dir.to_owned(), warpline, ssh_port: free_port()?, rsync_port: free_port()? };
        for key in ["host", "user"] {
            let made =
                Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(place.ssh(key)).status();
            if !made.is_ok_and(|status| status.success()) {
                // The tools that need it will say that it is missing.
                return Ok(place);
            }
        }
        let sshd = format!(
            "ListenAddress 127.0.0.1\nHostKey {}\nAuthorizedKeysFile {}\nStrictModes no\nUsePAM no\nPidFile none\n\
             MaxStartups 100\nSubsystem sftp internal-sftp\n",
            place.ssh("host").display(),
            place.ssh("user.pub").display()
        );
        fs::write(place.ssh("sshd_config"), sshd)?;
        Ok(place)
    }

    fn ssh(&self, name: &str) -> PathBuf {
        self.dir.join(format!("ssh-{name}"))
    }

    fn ssh_options(&self, port_flag: &str) -> Vec<String> {
        let key = self.ssh("user").display().to_string();
        let port = self.ssh_port.to_string();
        let fixed = ["-q", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"];
        let rest = ["-i", &key, port_flag, &port];
        fixed.iter().chain(&rest).map(|&s| s.to_owned()).collect()
    }
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

impl Tool {
    pub const ALL: [Self; 7] =
        [Self::Warpline, Self::RsyncDaemon, Self::RsyncSsh, Self::Scp, Self::Rclone, Self::Sendme, Self::Cp];

    pub fn name(self) -> &'static str {
        match self {
            Self::Warpline => "warpline",
            Self::RsyncDaemon => "rsync-daemon",
            Self::RsyncSsh => "rsync-ssh",
            Self::Scp => "scp",
            Self::Rclone => "rclone",
            Self::Sendme => "sendme",
            Self::Cp => "cp",
        }
    }

    /// Its version; an error if it is not installed.
    pub fn version(self, place: &Place) -> Result<String> {
        let (program, flag) = match self {
            Self::Warpline => (place.warpline.clone(), "--version"),
            Self::RsyncDaemon | Self::RsyncSsh => ("rsync".into(), "--version"),
            Self::Scp => ("ssh".into(), "-V"),
            Self::Rclone => ("rclone".into(), "--version"),
            Self::Sendme => ("sendme".into(), "--version"),
            Self::Cp => ("cp".into(), "--version"),
        };
        if matches!(self, Self::RsyncSsh | Self::Scp | Self::Rclone) && !Path::new("/usr/sbin/sshd").exists() {
            return Err("sshd is not installed (Debian package openssh-server)".into());
        }
        let output = Command::new(&program).arg(flag).output().map_err(|e| format!("{}: {e}", program.display()))?;
        let said = if output.stdout.is_empty() { output.stderr } else { output.stdout };
        Ok(String::from_utf8_lossy(&said).lines().next().unwrap_or_default().trim().to_owned())
    }

    /// Whether it can fetch into a directory that has everything already: sendme refuses.
    pub fn brings_up_to_date(self) -> bool {
        self != Self::Sendme
    }

    /// A server for `source`, ready.
    pub fn serve(self, source: &Path, place: &Place) -> Result<Server> {
        match self {
            Self::Cp => Ok(Server(None)),
            Self::Warpline => {
                let code = place.dir.join("code");
                drop(fs::remove_file(&code));
                let mut command = Command::new(&place.warpline);
                command.args(["host", "--bind", "127.0.0.1:0", "--code-file"]).arg(&code);
                command.arg("--state-dir").arg(place.dir.join("state")).arg(source);
                let server = start(&mut command)?;
                wait_until("the host's code", || fs::metadata(&code).is_ok_and(|file| file.len() > 0))?;
                Ok(server)
            }
            Self::RsyncDaemon => {
                let config = place.dir.join("rsyncd.conf");
                let text = format!("use chroot = no\n[tree]\npath = {}\nread only = yes\n", source.display());
                fs::write(&config, text)?;
                let mut command = Command::new("rsync");
                command.args(["--daemon", "--no-detach", "--address=127.0.0.1"]);
                command.arg(format!("--port={}", place.rsync_port)).arg("--config").arg(&config);
                let server = start(&mut command)?;
                wait_for_port(place.rsync_port)?;
                Ok(server)
            }
            Self::RsyncSsh | Self::Scp | Self::Rclone => {
                let mut command = Command::new("/usr/sbin/sshd");
                command.args(["-D", "-p", &place.ssh_port.to_string(), "-f"]).arg(place.ssh("sshd_config"));
                fs::create_dir_all("/run/sshd")?;
                let server = start(&mut command)?;
                wait_for_port(place.ssh_port)?;
                Ok(server)
            }
            Self::Sendme => {
                let mut command = Command::new("sendme");
                command.args(["send", "--ticket-type", "addresses"]).args(SENDME_LOCAL).arg(source);
                command.current_dir(&place.dir).stdout(Stdio::piped());
                let mut child = command.stdin(Stdio::piped()).stderr(Stdio::null()).spawn()?;
                let lines = BufReader::new(child.stdout.take().ok_or("no output")?).lines();
                let server = Server(Some(child));
                let is_ticket = |word: &&str| word.starts_with("blob") && word.len() > 50;
                for line in lines {
                    if let Some(ticket) = line?.split_whitespace().find(is_ticket) {
                        fs::write(place.dir.join("ticket"), ticket)?;
                        return Ok(server);
                    }
                }
                Err("sendme gave no ticket".into())
            }
        }
    }

    /// The command that fetches `source` below `out`.
    pub fn fetch(self, source: &Path, out: &Path, place: &Place) -> Result<Command> {
        let remote = format!("127.0.0.1:{}/", source.display());
        Ok(match self {
            Self::Warpline => {
                let mut command = Command::new(&place.warpline);
                command.args(["get", "--quiet", "--code-file"]).arg(place.dir.join("code")).arg("-o").arg(out);
                command
            }
            Self::RsyncDaemon => {
                let mut command = Command::new("rsync");
                command.arg("-a").arg(format!("rsync://127.0.0.1:{}/tree/", place.rsync_port)).arg(out);
                command
            }
            Self::RsyncSsh => {
                let mut command = Command::new("rsync");
                command.args(["-a", "-e", &format!("ssh {}", place.ssh_options("-p").join(" "))]).arg(remote).arg(out);
                command
            }
            Self::Scp => {
                let mut command = Command::new("scp");
                command.args(["-r", "-p"]).args(place.ssh_options("-P")).arg(remote).arg(out);
                command
            }
            Self::Rclone => {
                let mut command = Command::new("rclone");
                let flag = |name: &str, value: String| [format!("--sftp-{name}"), value];
                command.args(["copy", "--transfers", "8", "--checkers", "8", "--config", "/dev/null"]);
                // Otherwise it starts a program on the server for the hash of every file.
                command.arg("--sftp-disable-hashcheck");
                command.args(flag("host", "127.0.0.1".to_owned())).args(flag("port", place.ssh_port.to_string()));
                command.args(flag("user", "root".to_owned()));
                command.args(flag("key-file", place.ssh("user").display().to_string()));
                command.arg(format!(":sftp:{}", source.display())).arg(out);
                command
            }
            Self::Sendme => {
                let mut command = Command::new("sendme");
                command.arg("receive").args(SENDME_LOCAL).arg(fs::read_to_string(place.dir.join("ticket"))?);
                command.current_dir(out);
                command
            }
            Self::Cp => {
                let mut command = Command::new("cp");
                command.arg("-a").arg(source.join(".")).arg(out);
                command
            }
        })
    }

    /// Where the copy of `source` is below `out`.
    pub fn arrives_at(self, source: &Path, out: &Path) -> PathBuf {
        match self {
            // It keeps the directory's name.
            Self::Scp | Self::Sendme => out.join(source.file_name().unwrap_or_default()),
            _ => out.to_owned(),
        }
    }
}

fn start(command: &mut Command) -> Result<Server> {
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    Ok(Server(Some(child)))
}

fn wait_for_port(port: u16) -> Result<()> {
    wait_until("the server's port", || TcpStream::connect(("127.0.0.1", port)).is_ok())
}

fn wait_until(what: &str, is_there: impl Fn() -> bool) -> Result<()> {
    let deadline = Instant::now() + GRACE;
    while !is_there() {
        if Instant::now() >= deadline {
            return Err(format!("{what} did not come").into());
        }
        thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}
