//! What the nodes of a deployment tell each other. A commit on one node is a hint for the others: what is pushed to the
//! connections of this node after a commit is sent to the others as well, and they push it to theirs.
//!
//! Hints may be lost: everything that must not be lost is in the database. They leave on a fixed number of subjects, and each
//! packet has a number that rises by one for each node and subject. Every second a node sends a beat, which names the numbers
//! that have changed. So a node knows when it has missed something, also when nothing follows. Then it compares with the
//! database (`app/audit.rs`).

mod asking;
mod hint;
mod nats;
mod numbers;
mod outgoing;

use std::fmt::Debug;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::mpsc::UnboundedReceiver;
use zim_protocol::SessionInfo;

pub(crate) use self::asking::Question;
pub use self::asking::StoredQuestion;
pub use self::nats::BusError;
pub(crate) use self::nats::{Nats, connect};
use crate::effect::Effect;
use crate::key::{AppKey, LoginKey};

/// Whether hints reach the other nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BusState {
    /// There are no other nodes.
    Alone,
    /// They do.
    Up,
    /// They do not: the nodes compare with the database every few seconds.
    Down,
}

/// Something that a node hears.
#[derive(Debug)]
pub(crate) enum Heard {
    /// Another node has committed this.
    Effects(Vec<Effect>),
    /// Something was missed.
    Gap,
    /// Another node asks for the sessions here.
    Question(Question),
}

/// Carries hints to the other nodes. It keeps the order of those about one conversation, and of those about one user.
pub trait Bus: Debug + Send + Sync {
    /// Sends what was committed. Called in commit order within a partition of the database; never waits.
    fn publish(&self, effects: &[Effect]);

    /// Returns whether hints reach the other nodes.
    fn state(&self) -> BusState;

    /// Returns the sessions of an app on the other nodes, or those of one user unless `user_id` is empty. Those of a node that
    /// does not answer are missing.
    fn sessions(&self, app: AppKey, user_id: &str) -> BoxFuture<'_, Vec<SessionInfo>>;

    /// Returns the logins on the other nodes that have stored a message. Those of a node that does not answer are missing.
    fn stored(&self, question: StoredQuestion) -> BoxFuture<'_, Vec<LoginKey>>;
}

/// The bus of a server that does not share its database.
#[derive(Debug)]
pub struct NoBus;

impl Bus for NoBus {
    fn publish(&self, _: &[Effect]) {}

    fn state(&self) -> BusState {
        BusState::Alone
    }

    fn sessions(&self, _: AppKey, _: &str) -> BoxFuture<'_, Vec<SessionInfo>> {
        async { Vec::new() }.boxed()
    }

    fn stored(&self, _: StoredQuestion) -> BoxFuture<'_, Vec<LoginKey>> {
        async { Vec::new() }.boxed()
    }
}

/// A bus, and what is heard on it.
#[derive(Debug)]
pub(crate) struct Connected {
    pub(crate) bus: Arc<Nats>,
    pub(crate) heard: UnboundedReceiver<Heard>,
}
