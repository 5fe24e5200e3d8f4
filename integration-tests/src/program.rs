//! Programs that tests run and the system provides.

use std::env;
use std::path::PathBuf;

/// Finds an installed program.
pub(crate) fn installed(name: &str) -> Option<PathBuf> {
    let on_path = env::var_os("PATH").unwrap_or_default();
    // Debian's folder of servers and of tools for the network is not on everybody's path.
    let folders = env::split_paths(&on_path).chain(["/usr/sbin".into()]);
    folders.map(|folder| folder.join(name)).find(|program| program.exists())
}

/// Returns where ffmpeg is, which makes films for tests, and their first frames for servers.
///
/// # Panics
/// It is not installed.
pub fn ffmpeg() -> PathBuf {
    installed("ffmpeg").expect("ffmpeg is not installed: apt-get install ffmpeg, as .ci/run does")
}
