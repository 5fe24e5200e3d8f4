//! `curl` and a plain file server: what files are compared with.

use std::ffi::OsStr;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

use super::target::Target;
use crate::exit::Failure;

/// Much longer than nginx needs to start.
const READY_WITHIN: Duration = Duration::from_secs(10);
/// Where systems have nginx, besides the folders of `PATH`.
const FOLDERS: [&str; 3] = ["/usr/sbin", "/usr/local/sbin", "/opt/homebrew/bin"];

/// A plain file server: it stores what it gets by PUT, and gives it by GET.
#[derive(Debug)]
pub(crate) struct Plain {
    /// What people call it.
    pub(crate) name: String,
    /// The URL of the file that is uploaded and downloaded.
    pub(crate) url: String,
    /// Where the server stores this file, if it was started here.
    pub(crate) file: Option<PathBuf>,
    nginx: Option<Child>,
}

impl Plain {
    /// Takes the server at a URL, or starts nginx with the certificate of the server to measure.
    pub(crate) async fn open(
        against: Option<&str>,
        nginx: Option<&Path>,
        target: &Target,
        folder: &Path,
    ) -> Result<Self, Failure> {
        let name = format!("zim-bench-{}", target.run);
        if let Some(base) = against {
            return Ok(Self { name: base.to_owned(), url: format!("{base}/{name}"), file: None, nginx: None });
        }
        let binary = match nginx {
            Some(binary) => binary.to_owned(),
            None => found()?,
        };
        let certificate = target.certificate().ok_or_else(|| {
            Failure::usage("nginx needs the certificate of the server to measure, whose data folder is not known")
                .hint("name the folder (--server-data FOLDER), or a plain server that runs: --against URL")
        })?;
        let (child, address) = start(&binary, folder, &certificate).await?;
        let file = Some(folder.join(FILES).join(&name));
        Ok(Self { name: "nginx".to_owned(), url: format!("https://{address}/{name}"), file, nginx: Some(child) })
    }

    /// Ends the server, if it was started here.
    pub(crate) async fn close(self) -> Result<(), Failure> {
        match self.nginx {
            Some(mut nginx) => Ok(nginx.kill().await?),
            None => Ok(()),
        }
    }
}

/// The folder of the files of nginx.
const FILES: &str = "files";

fn found() -> Result<PathBuf, Failure> {
    let name = format!("nginx{}", std::env::consts::EXE_SUFFIX);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(FOLDERS.map(PathBuf::from));
    folders.map(|folder| folder.join(&name)).find(|file| file.is_file()).ok_or_else(|| {
        Failure::other("nginx is not installed, so there is no plain file server to compare with").hint(
            "install it (Debian: apt install nginx-light), name it (--nginx FILE), name another server that takes PUT \
             (--against URL), or measure something else: --only texts, --only memory",
        )
    })
}

async fn start(binary: &Path, folder: &Path, certificate: &[PathBuf; 2]) -> Result<(Child, SocketAddr), Failure> {
    zim_files::create_folder(&folder.join(FILES))?;
    // A free port: nginx does not say which one it gets.
    let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
    zim_files::write(&folder.join("nginx.conf"), configuration(address, certificate).as_bytes())?;
    let log = folder.join("log");
    let errors = zim_files::open(&log, std::fs::OpenOptions::new().create(true).append(true))?;
    let mut command = Command::new(binary);
    command.arg("-p").arg(folder).args(["-c", "nginx.conf"]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::from(errors)).kill_on_drop(true);
    let cannot = |why: String| Failure::other(format!("{} cannot be started: {why}", binary.display()));
    let mut child = command.spawn().map_err(|error| cannot(error.to_string()))?;
    let ready = async {
        loop {
            if let Some(status) = child.try_wait()? {
                let log = std::fs::read_to_string(&log).unwrap_or_default();
                let last = log.trim().lines().last().unwrap_or("it says nothing").to_owned();
                return Err(cannot(format!("{status}: {last}")));
            }
            if TcpStream::connect(address).await.is_ok() {
                return Ok(());
            }
            sleep(Duration::from_millis(10)).await;
        }
    };
    let ready = timeout(READY_WITHIN, ready).await;
    ready.map_err(|_| cannot(format!("it is not ready after {} s", READY_WITHIN.as_secs())))??;
    Ok((child, address))
}

/// Returns the configuration of a file server in the folder of nginx, with nginx's defaults. It is one process, so that ending
/// it ends all of it. TLS is that of the server to measure: version 1.3, and the same certificate.
fn configuration(address: SocketAddr, [certificate, key]: &[PathBuf; 2]) -> String {
    let (certificate, key) = (quoted(certificate), quoted(key));
    format!(
        "daemon off;\n\
         master_process off;\n\
         pid nginx.pid;\n\
         error_log stderr;\n\
         events {{}}\n\
         http {{\n\
         access_log off;\n\
         sendfile on;\n\
         client_max_body_size 0;\n\
         client_body_temp_path body;\n\
         proxy_temp_path proxy;\n\
         fastcgi_temp_path fastcgi;\n\
         uwsgi_temp_path uwsgi;\n\
         scgi_temp_path scgi;\n\
         server {{\n\
         listen {address} ssl;\n\
         ssl_certificate {certificate};\n\
         ssl_certificate_key {key};\n\
         ssl_protocols TLSv1.3;\n\
         root {FILES};\n\
         location / {{ dav_methods PUT; }}\n\
         }}\n\
         }}\n"
    )
}

fn quoted(path: &Path) -> String {
    format!("\"{}\"", path.display().to_string().replace('\\', "\\\\").replace('"', "\\\""))
}

/// Uploads a file with `curl`. Returns how long that took, with the connection.
pub(crate) async fn upload(file: &Path, url: &str, scratch: &Path) -> Result<Duration, Failure> {
    curl(&[OsStr::new("--upload-file"), file.as_os_str()], url, scratch).await
}

/// Downloads a file with `curl`. Returns how long that took, with the connection.
pub(crate) async fn download(url: &str, to: &Path) -> Result<Duration, Failure> {
    curl(&[], url, to).await
}

async fn curl(arguments: &[&OsStr], url: &str, answer: &Path) -> Result<Duration, Failure> {
    let mut command = Command::new("curl");
    // Without the user's settings, a proxy, and the wait for "100 Continue". The certificate is one that nobody has signed.
    command.args(["--disable", "--silent", "--show-error", "--fail", "--insecure", "--noproxy", "*", "--http1.1"]);
    command.args(["--header", "Expect:", "--write-out", "%{time_total}", "--output"]).arg(answer);
    command.args(arguments).arg(url).stdin(Stdio::null()).kill_on_drop(true);
    let ran = command.output().await.map_err(|error| {
        Failure::other(format!("curl cannot be started: {error}")).hint("install it (Debian: apt install curl)")
    })?;
    let (out, errors) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    if !ran.status.success() {
        return Err(Failure::other(format!("a transfer with curl failed: {}", errors.trim())));
    }
    let seconds = out.trim().parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    seconds.ok_or_else(|| Failure::other(format!("curl does not say how long a transfer took, but {out:?}")))
}

/// Waits until the disk has a file. Returns how long that took.
pub(crate) async fn sync(file: &Path) -> Result<Duration, Failure> {
    let file = file.to_owned();
    let synced = tokio::task::spawn_blocking(move || {
        let began = std::time::Instant::now();
        std::fs::OpenOptions::new().write(true).open(file)?.sync_all()?;
        Ok::<_, std::io::Error>(began.elapsed())
    });
    Ok(synced.await.map_err(|error| Failure::other(error.to_string()))??)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_cannot_leave_their_quotes() {
        let address = (Ipv4Addr::LOCALHOST, 4_443).into();
        let text = configuration(address, &[PathBuf::from("/a \"b\"/c\\d.pem"), PathBuf::from("/key.pem")]);
        assert!(text.contains("ssl_certificate \"/a \\\"b\\\"/c\\\\d.pem\";\n"), "{text}");
        assert!(text.contains("ssl_certificate_key \"/key.pem\";\n"), "{text}");
        assert!(text.contains("listen 127.0.0.1:4443 ssl;\n"), "{text}");
        assert_eq!(text.matches('{').count(), text.matches('}').count());
    }
}
