//! The kinds of faults of runs.

use super::plan::Database;

/// A kind of fault, as counted in the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "`title` says what each is")]
pub enum Kind {
    Cut,
    BadNetwork,
    NewAddress,
    KillServer,
    StopServer,
    KillDevice,
    CloseDevice,
    DiskFull,
    WriteFails,
    Poison,
    LastPush,
    JumpServer,
    JumpDevice,
    KillPostgres,
    Restore,
    Away,
    Reset,
    KillNode,
    KillNodes,
    PauseNode,
    CutDatabase,
    CutBus,
    KillBus,
    ClocksApart,
    ChangeNode,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 25] = [
        Self::Cut,
        Self::BadNetwork,
        Self::NewAddress,
        Self::KillServer,
        Self::StopServer,
        Self::KillDevice,
        Self::CloseDevice,
        Self::DiskFull,
        Self::WriteFails,
        Self::Poison,
        Self::LastPush,
        Self::JumpServer,
        Self::JumpDevice,
        Self::KillPostgres,
        Self::Restore,
        Self::Away,
        Self::Reset,
        Self::KillNode,
        Self::KillNodes,
        Self::PauseNode,
        Self::CutDatabase,
        Self::CutBus,
        Self::KillBus,
        Self::ClocksApart,
        Self::ChangeNode,
    ];

    /// Returns a short description.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Cut => "a device's link is cut, and restored later",
            Self::BadNetwork => "a device's datagrams are lost, duplicated, delayed and reordered",
            Self::NewAddress => "a device's address changes",
            Self::KillServer => "SIGKILL to the server, in the middle of commits",
            Self::StopServer => "an operator stops the server",
            Self::KillDevice => "SIGKILL to a client, in the middle of sending",
            Self::CloseDevice => "a client is closed, and its database is opened again",
            Self::DiskFull => "the database is full (SQLITE_FULL)",
            Self::WriteFails => "writes to the database's files are cut short (EFBIG)",
            Self::Poison => "a statement fails in the middle of a batch",
            Self::LastPush => "the last push of a conversation is dropped, without later traffic",
            Self::JumpServer => "the server's clock jumps",
            Self::JumpDevice => "a device's clock jumps",
            Self::KillPostgres => "SIGKILL to PostgreSQL",
            Self::Restore => "a backup is restored, with a new epoch",
            Self::Away => "a device is away for the rest of the run",
            Self::Reset => "a device is away until the entries it lacks are removed: reset",
            Self::KillNode => "two nodes: SIGKILL to one of them, in the middle of commits",
            Self::KillNodes => "two nodes: SIGKILL to both at once",
            Self::PauseNode => "two nodes: one is paused (SIGSTOP), mostly for longer than its lease, and resumed",
            Self::CutDatabase => "two nodes: one is cut off from PostgreSQL, mostly for longer than its lease",
            Self::CutBus => "two nodes: one is cut off from NATS",
            Self::KillBus => "two nodes: SIGKILL to NATS",
            Self::ClocksApart => "two nodes: their clocks are ten minutes apart",
            Self::ChangeNode => "two nodes: a device changes to the other one, in the middle of sending",
        }
    }

    /// Whether the fault is one of several nodes.
    pub(super) const fn is_of_nodes(self) -> bool {
        matches!(
            self,
            Self::KillNode
                | Self::KillNodes
                | Self::PauseNode
                | Self::CutDatabase
                | Self::CutBus
                | Self::KillBus
                | Self::ClocksApart
                | Self::ChangeNode
        )
    }

    /// Whether the fault is possible on two nodes. There, one of them is killed instead of the server.
    pub(super) const fn is_possible_on_nodes(self) -> bool {
        self.is_of_nodes() || !matches!(self, Self::KillServer) && self.is_possible(Database::Postgres)
    }

    /// Whether the fault is possible on one server with this database.
    pub(super) const fn is_possible(self, database: Database) -> bool {
        match self {
            _ if self.is_of_nodes() => false,
            Self::DiskFull | Self::WriteFails => matches!(database, Database::Sqlite),
            Self::KillPostgres => matches!(database, Database::Postgres),
            _ => true,
        }
    }
}
