//! Changes statements on their way to PostgreSQL, so that a correct node looks like one that ignores its lease. The node needs no
//! hook for that.

/// The protocol's version 3.0: with this message a client begins. Those before it ask for encryption.
const START: u32 = 196_608;
/// The first part of the check that ends each commit, and what comes after it.
const CHECK: &str = "SELECT 1 / COUNT(*) FROM server_node";
const COMMIT: &str = "SELECT 1; COMMIT";
/// How a lease is renewed, and what answers as if it had been.
const RENEWAL: (&str, &str) = ("UPDATE server_node SET lease_until =", "RETURNING lease_until");
const ANSWER: &str = "SELECT CAST(FLOOR(EXTRACT(EPOCH FROM clock_timestamp()) * 1000) AS BIGINT) + $3 AS lease_until \
                      WHERE $1 >= 0 AND $2 >= 0";
/// How a node looks for others whose lease has ended. It would find itself.
const LOOK: &str = "SELECT number, generation FROM server_node WHERE lease_until > 0";

/// Returns what a statement becomes; `None`: it stays as it is.
pub(super) type Edit = fn(&str) -> Option<String>;

/// Takes from a node's statements all that its lease is for: it is never renewed, and no commit depends on it.
pub(super) fn without_lease(sql: &str) -> Option<String> {
    if let Some(at) = sql.find(CHECK) {
        return Some(format!("{}{COMMIT}", &sql[..at]));
    }
    if sql.starts_with(RENEWAL.0) && sql.ends_with(RENEWAL.1) {
        return Some(ANSWER.to_owned());
    }
    sql.starts_with(LOOK).then(|| format!("{sql} AND FALSE"))
}

/// What a client sends over one connection.
#[derive(Debug)]
pub(super) struct Statements {
    edit: Edit,
    /// The beginning of a message whose end has not come yet.
    rest: Vec<u8>,
    has_started: bool,
}

impl Statements {
    /// A connection that begins.
    pub(super) fn new(edit: Edit) -> Self {
        Self { edit, rest: Vec::new(), has_started: false }
    }

    /// Takes bytes of the client; returns those for the server.
    pub(super) fn pass(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.rest.extend_from_slice(bytes);
        let mut out = Vec::with_capacity(bytes.len());
        while let Some(message) = self.next() {
            if self.has_started {
                out.extend(self.edited(&message).unwrap_or(message));
            } else {
                self.has_started = number(&message, 4) == usize::try_from(START).ok();
                out.extend(message);
            }
        }
        out
    }

    /// Takes the next whole message.
    fn next(&mut self) -> Option<Vec<u8>> {
        // Before the start, messages have no type.
        let kind = usize::from(self.has_started);
        let end = kind + number(&self.rest, kind)?;
        (self.rest.len() >= end).then(|| self.rest.drain(..end).collect())
    }

    /// Returns a message with another statement; `None`: it stays as it is.
    fn edited(&self, message: &[u8]) -> Option<Vec<u8>> {
        let (kind, body) = (*message.first()?, message.get(5..)?);
        let (name, rest) = match kind {
            b'Q' => (&[][..], body),
            // A statement with a name, to be prepared; its parameters follow.
            b'P' => body.split_at(body.iter().position(|byte| *byte == 0)? + 1),
            _ => return None,
        };
        let end = rest.iter().position(|byte| *byte == 0)?;
        let sql = (self.edit)(std::str::from_utf8(&rest[..end]).ok()?)?;
        let body = [name, sql.as_bytes(), &rest[end..]].concat();
        let length = u32::try_from(body.len() + 4).ok()?;
        Some([&[kind][..], &length.to_be_bytes(), &body].concat())
    }
}

fn number(bytes: &[u8], at: usize) -> Option<usize> {
    let bytes: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
    usize::try_from(u32::from_be_bytes(bytes)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 4).unwrap();
        [&[kind][..], &length.to_be_bytes(), body].concat()
    }

    #[test]
    fn statements_are_changed_however_their_bytes_arrive() {
        let start = [&9_u32.to_be_bytes()[..], &START.to_be_bytes(), b"u"].concat();
        let commit = message(b'Q', b"SELECT 2; SELECT 1 / COUNT(*) FROM server_node WHERE number = 0; COMMIT\0");
        let renewal = message(b'P', b"s1\0UPDATE server_node SET lease_until = 1 RETURNING lease_until\0\0\x01");
        let other = message(b'P', b"s2\0SELECT 3\0\0\0");
        let sent = [&start[..], &commit, &renewal, &other].concat();
        let renewed = [b"s1\0", ANSWER.as_bytes(), b"\0\0\x01"].concat();
        let expected =
            [&start[..], &message(b'Q', b"SELECT 2; SELECT 1; COMMIT\0"), &message(b'P', &renewed), &other].concat();
        for size in [1, 7, sent.len()] {
            let mut statements = Statements::new(without_lease);
            let passed: Vec<u8> = sent.chunks(size).flat_map(|bytes| statements.pass(bytes)).collect();
            assert_eq!(passed, expected);
        }
    }
}
