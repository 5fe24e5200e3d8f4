//! Logouts that the server does not know of: there was no connection, or no answer. The next login of the app on this device tells it who
//! has logged out, whoever logs in, so that the pushes to the device for that user end. A note says which login ended: it may be told
//! after the user has logged in again, by another client in the folder or by this one, and then the pushes go on.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use zim_protocol::id::{from_hex, hex, login_name};
use zim_protocol::{LoggedOut, LoginRequest};

use crate::config::Config;

/// As many as the server is told at once.
const MAX_NOTES: usize = 32;
/// As many users as a server of before is told.
const MAX_USERS: usize = 16;

/// The notes of a device.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Noted {
    logged_out: Vec<LoggedOut>,
    files: Vec<PathBuf>,
}

fn folder(config: &Config) -> Option<&Path> {
    config.folder().filter(|_| !config.one_shot)
}

/// The note of an earlier version, which does not say who has logged out.
fn unnamed(config: &Config) -> String {
    format!("logged-out-{}", config.app_id)
}

/// Each login has a note of its own: several clients may share the folder. `session` is empty if the server has not answered the login.
fn name(config: &Config, user_id: &str, session: &[u8]) -> String {
    let login = if session.is_empty() { String::new() } else { format!("-{}", hex(&login_name(session))) };
    format!("{}-{}{login}", unnamed(config), hex(user_id.as_bytes()))
}

/// Returns the login that a note of this user names, empty if it names none; `None` if it is no note of this user.
fn login_of(file_name: &str, config: &Config, user_id: &str) -> Option<Bytes> {
    let rest = file_name.strip_prefix(&name(config, user_id, &[]))?;
    if rest.is_empty() {
        return Some(Bytes::new());
    }
    from_hex::<16>(rest.strip_prefix('-')?).map(|login| Bytes::copy_from_slice(&login))
}

/// Notes that a login of a user ends by a logout.
pub(crate) fn note(config: &Config, user_id: &str, session: &[u8]) {
    let Some(file) = folder(config).map(|folder| folder.join(name(config, user_id, session))) else { return };
    if let Err(error) = zim_files::write(&file, user_id.as_bytes()) {
        tracing::warn!(%error, file = %file.display(), "the logout cannot be stored; if the server does not learn of it now, pushes go on");
    }
}

/// Returns what the server has to be told when this user logs in.
pub(crate) fn noted(config: &Config, user_id: &str) -> Noted {
    let mut noted = Noted::default();
    let Some(folder) = folder(config) else { return noted };
    // Whose logout an earlier version has noted is not known: it counts for the one who logs in next.
    let unnamed_file = folder.join(unnamed(config));
    if unnamed_file.exists() {
        noted.add(user_id, Bytes::new(), unnamed_file);
    }
    let start = format!("{}-", unnamed(config));
    // Without a folder there are no notes.
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let notes =
        entries.filter_map(|entry| entry.file_name().into_string().ok()).filter(|name| name.starts_with(&start));
    let (own, others): (Vec<String>, Vec<String>) = notes.partition(|note| login_of(note, config, user_id).is_some());
    for note in own {
        if let Some(login) = login_of(&note, config, user_id) {
            noted.add(user_id, login, folder.join(note));
        }
    }
    for note in others {
        let file = folder.join(&note);
        // A file that is being written, or is damaged, does not have the name of its user.
        let user = std::fs::read_to_string(&file).unwrap_or_default();
        if let Some(login) = login_of(&note, config, &user).filter(|_| !user.is_empty()) {
            noted.add(&user, login, file);
        }
    }
    noted
}

/// The server knows of the logout from this login.
pub(crate) fn forget(config: &Config, user_id: &str, session: &[u8]) {
    if let Some(folder) = folder(config) {
        remove(&folder.join(name(config, user_id, session)));
    }
}

impl Noted {
    /// Adds a note, unless the server has to be told of it another time.
    fn add(&mut self, user_id: &str, login: Bytes, file: PathBuf) {
        let mut users: Vec<&str> = self.logged_out.iter().map(|one| one.user_id.as_str()).collect();
        users.sort_unstable();
        users.dedup();
        let has_room = users.len() < MAX_USERS || users.contains(&user_id);
        if has_room && self.logged_out.len() < MAX_NOTES {
            self.logged_out.push(LoggedOut { user_id: user_id.to_owned(), login });
            self.files.push(file);
        }
    }

    /// Adds the notes to a login: in two forms, because a server of before knows the users only.
    pub(crate) fn tell(&self, request: LoginRequest) -> LoginRequest {
        let (own, others): (Vec<&LoggedOut>, Vec<&LoggedOut>) =
            self.logged_out.iter().partition(|one| one.user_id == request.user_id);
        let mut others: Vec<String> = others.into_iter().map(|one| one.user_id.clone()).collect();
        others.sort_unstable();
        others.dedup();
        LoginRequest {
            was_logged_out: !own.is_empty(),
            logged_out_user_ids: others,
            logged_out: self.logged_out.clone(),
            ..request
        }
    }

    /// The server knows of all of these.
    pub(crate) fn forget(&self) {
        self.files.iter().for_each(|file| remove(file));
    }
}

fn remove(file: &Path) {
    // If the file stays, the next login ends the pushes of this device once more; the app registers it after each login.
    let _ = std::fs::remove_file(file);
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &[u8] = &[1; 16];
    const TWO: &[u8] = &[2; 16];

    /// What a server is told when a user logs in: whether the user has logged out, the others who have, and the logins.
    fn told(config: &Config, user: &str) -> (bool, Vec<String>, Vec<(String, Bytes)>) {
        let request = LoginRequest { user_id: user.to_owned(), ..LoginRequest::default() };
        let told = noted(config, user).tell(request);
        let mut logins: Vec<_> = told.logged_out.into_iter().map(|one| (one.user_id, one.login)).collect();
        logins.sort();
        (told.was_logged_out, told.logged_out_user_ids, logins)
    }

    fn nothing() -> (bool, Vec<String>, Vec<(String, Bytes)>) {
        (false, Vec::new(), Vec::new())
    }

    fn login(user: &str, session: &[u8]) -> (String, Bytes) {
        let login = if session.is_empty() { Bytes::new() } else { Bytes::copy_from_slice(&login_name(session)) };
        (user.to_owned(), login)
    }

    #[test]
    fn a_logout_is_noted_per_app_and_user_until_the_server_knows() {
        let folder = tempfile::tempdir().unwrap();
        let config = |app_id| Config::new(app_id, "host:1").data_dir(folder.path());
        let (one, other) = (config(1), config(12));
        assert_eq!(told(&one, "ann"), nothing());
        note(&one, "ann", ONE);
        note(&one, "a/n", TWO);
        let logins = vec![login("a/n", TWO), login("ann", ONE)];
        assert_eq!(told(&one, "ann"), (true, vec!["a/n".to_owned()], logins.clone()));
        assert_eq!(told(&one, "bob"), (false, vec!["a/n".to_owned(), "ann".to_owned()], logins));
        assert_eq!(told(&other, "ann"), nothing());
        // A command is no device.
        assert_eq!(told(&config(1).one_shot(true), "ann"), nothing());
        forget(&one, "a/n", TWO);
        assert_eq!(told(&one, "bob"), (false, vec!["ann".to_owned()], vec![login("ann", ONE)]));
        noted(&one, "bob").forget();
        assert_eq!(told(&one, "ann"), nothing());
        let without_folder = Config::new(1, "host:1");
        note(&without_folder, "ann", ONE);
        assert_eq!(told(&without_folder, "ann"), nothing());
    }

    #[test]
    fn each_login_has_a_note_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let config = Config::new(1, "host:1").data_dir(folder.path());
        note(&config, "ann", ONE);
        let told_of_one = noted(&config, "ann");
        note(&config, "ann", TWO);
        note(&config, "ann", &[]);
        let mut logins = vec![login("ann", &[]), login("ann", ONE), login("ann", TWO)];
        logins.sort();
        assert_eq!(told(&config, "ann"), (true, Vec::new(), logins.clone()));
        assert_eq!(told(&config, "bob"), (false, vec!["ann".to_owned()], logins));
        // What was noted meanwhile has not been told.
        told_of_one.forget();
        let mut left = vec![login("ann", &[]), login("ann", TWO)];
        left.sort();
        assert_eq!(told(&config, "ann").2, left);
        forget(&config, "ann", &[]);
        assert_eq!(told(&config, "ann").2, [login("ann", TWO)]);
    }

    #[test]
    fn the_note_of_an_earlier_version_counts_for_whoever_logs_in() {
        let folder = tempfile::tempdir().unwrap();
        let config = Config::new(1, "host:1").data_dir(folder.path());
        std::fs::write(folder.path().join("logged-out-1"), "").unwrap();
        // Of the version after that, which names the user.
        std::fs::write(folder.path().join("logged-out-1-616e6e"), "ann").unwrap();
        assert_eq!(told(&config, "bob"), (true, vec!["ann".to_owned()], vec![login("ann", &[]), login("bob", &[])]));
        noted(&config, "bob").forget();
        assert_eq!(noted(&config, "bob"), Noted::default());
    }

    #[test]
    fn what_is_no_note_of_a_user_is_told_to_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let config = Config::new(1, "host:1").data_dir(folder.path());
        for (file, content) in [
            ("logged-out-1-616e6e", ""),
            ("logged-out-1-", ""),
            ("logged-out-1-616e6e-00", "ann"),
            ("logged-out-1-616e6e-zz010203040506070809101112131415", "ann"),
            ("logged-out-1-616e6f", "ann"),
        ] {
            std::fs::write(folder.path().join(file), content).unwrap();
            assert_eq!(noted(&config, "bob"), Noted::default(), "{file}");
        }
    }

    #[test]
    fn the_server_is_told_of_16_users_and_32_logins_and_of_the_rest_the_next_time() {
        let folder = tempfile::tempdir().unwrap();
        let config = Config::new(1, "host:1").data_dir(folder.path());
        for number in 0..=MAX_USERS {
            note(&config, &number.to_string(), &[]);
        }
        let found = noted(&config, "bob");
        assert_eq!(found.logged_out.len(), MAX_USERS);
        found.forget();
        assert_eq!(noted(&config, "bob").logged_out.len(), 1);
        noted(&config, "bob").forget();
        for number in 0..=MAX_NOTES {
            note(&config, "ann", &[u8::try_from(number).unwrap(); 16]);
        }
        note(&config, "bob", ONE);
        // The user's own come first.
        let found = noted(&config, "bob");
        assert_eq!((found.logged_out.len(), found.logged_out[0].user_id.as_str()), (MAX_NOTES, "bob"));
        found.forget();
        assert_eq!(noted(&config, "bob").logged_out.len(), 2);
    }
}
