//! Observed lists against the store: whatever happens, what was told adds up to what a query returns.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::FutureExt;
use proptest::prelude::*;
use zim_protocol::{
    ClearConversationUnreadMessageCountRequest, Conversation, EventFrame, Message, MessageSendConfig,
    MessageSentStatus, Push, Snapshot, UserFullInfo, UserInfo, event_frame::Frame,
};

use super::fake::ME;
use super::{Login, text};
use crate::observe::{ConversationList, Timeline};
use crate::store::{conversation, page, timeline};
use crate::types::Name;

const PEERS: [&str; 4] = ["bob", "cem", "dan", "eva"];
/// Few, so that long absences are frequent.
const LIMIT: usize = 3;

#[derive(Clone, Copy, Debug)]
enum Op {
    /// A message arrives, of the peer or of another device of the user.
    Receive {
        peer: usize,
        is_own: bool,
    },
    /// The pushes of some messages are lost.
    Miss {
        peer: usize,
        count: usize,
    },
    Send {
        peer: usize,
    },
    /// Several messages, of which the answers to some are lost.
    SendAndLose {
        count: usize,
    },
    Retry,
    Revoke {
        peer: usize,
        back: usize,
        is_lost: bool,
    },
    Read {
        peer: usize,
    },
    ReadElsewhere {
        peer: usize,
    },
    Rename {
        peer: usize,
    },
    Disconnect,
    /// The server may refuse to catch up for a while.
    Connect {
        is_refused: bool,
    },
    /// The operator restores a backup: one without anything, or the newest one.
    Restore {
        is_empty: bool,
    },
    /// Messages that wait for a connection fail, and what was lost is found.
    Wait,
    LoadMore,
    LoadOlder {
        count: usize,
    },
    /// The app observes anew.
    Reopen,
}

fn op() -> impl Strategy<Value = Op> {
    let peer = || prop_oneof![3 => Just(0_usize), 2 => 1..PEERS.len()];
    // A device that misses more than a thousand messages leaves a gap.
    let missed = prop_oneof![24 => 1_usize..12, 1 => Just(1_010_usize)];
    prop_oneof![
        8 => (peer(), any::<bool>()).prop_map(|(peer, is_own)| Op::Receive { peer, is_own }),
        4 => (peer(), missed).prop_map(|(peer, count)| Op::Miss { peer, count }),
        6 => peer().prop_map(|peer| Op::Send { peer }),
        2 => (1_usize..4).prop_map(|count| Op::SendAndLose { count }),
        1 => Just(Op::Retry),
        3 => (peer(), 0_usize..6, any::<bool>()).prop_map(|(peer, back, is_lost)| Op::Revoke { peer, back, is_lost }),
        2 => peer().prop_map(|peer| Op::Read { peer }),
        2 => peer().prop_map(|peer| Op::ReadElsewhere { peer }),
        1 => peer().prop_map(|peer| Op::Rename { peer }),
        3 => Just(Op::Disconnect),
        5 => any::<bool>().prop_map(|is_refused| Op::Connect { is_refused }),
        1 => any::<bool>().prop_map(|is_empty| Op::Restore { is_empty }),
        1 => Just(Op::Wait),
        1 => Just(Op::LoadMore),
        3 => (1_usize..6).prop_map(|count| Op::LoadOlder { count }),
        1 => Just(Op::Reopen),
    ]
}

/// An app that shows what it is told.
struct App {
    list: ConversationList,
    listed: Vec<Conversation>,
    limit: usize,
    timeline: Timeline,
    messages: Vec<Message>,
}

impl App {
    async fn open(login: &Login) -> Self {
        let (list, timeline) = (login.conversations(2).await, login.timeline(LIMIT).await);
        let (listed, messages) = (list.items().to_vec(), timeline.items().to_vec());
        Self { list, listed, limit: 2, timeline, messages }
    }

    /// Applies what there is to tell.
    fn listen(&mut self) {
        while let Some(diffs) = self.list.next().now_or_never() {
            diffs.unwrap().into_iter().for_each(|diff| diff.apply(&mut self.listed));
        }
        while let Some(diffs) = self.timeline.next().now_or_never() {
            diffs.unwrap().into_iter().for_each(|diff| diff.apply(&mut self.messages));
            self.assert_no_gap();
        }
        assert_eq!(self.listed, self.list.items());
        assert_eq!(self.messages, self.timeline.items());
    }

    /// At no time are messages of others shown without those before them.
    fn assert_no_gap(&self) {
        let shown: BTreeSet<i64> =
            self.messages.iter().map(|message| message.message_seq).filter(|seq| *seq > 0).collect();
        let of_others = self.messages.iter().filter(|message| message.sender_user_id != ME);
        for seq in of_others.map(|message| message.message_seq) {
            assert!(shown.first() == Some(&seq) || shown.contains(&(seq - 1)), "a gap before {seq}: {shown:?}");
        }
    }

    /// Returns what differs from what queries return, if anything does.
    async fn difference(&self, login: &Login) -> Option<String> {
        let limit = self.limit;
        let read = login.account.store().read(move |db| conversation::list(db, ME, None, limit, &Default::default()));
        let list = read.await.unwrap().unwrap();
        if list != self.listed {
            return Some(format!("the list: {:#?} instead of {list:#?}", self.listed));
        }
        let is_online = login.fake.0.lock().is_online;
        let log = login.account.store().read(|db| timeline::log(db, &Name::new(0, "bob"))).await.unwrap();
        let is_behind = !is_online || log.is_some_and(|log| log.seq < log.end);
        let (shown, gap) = stored(login, self.messages.len().max(LIMIT), is_behind).await;
        // A device that has not caught up may have a gap, which ends the view; own messages are shown in any case.
        let waiting = |list: &[Message]| {
            let waits = |message: &&Message| message.sent_status() != MessageSentStatus::Success;
            list.iter()
                .rev()
                .take_while(waits)
                .map(|message| (text(message), message.sent_status()))
                .collect::<Vec<_>>()
        };
        let is_equal = if is_behind {
            waiting(&shown) == waiting(&self.messages)
        } else {
            shown == self.messages && gap.is_none()
        };
        let texts = |list: &[Message]| list.iter().map(text).collect::<Vec<_>>();
        (!is_equal).then(|| {
            format!("messages: {:?} instead of {:?} with the gap {gap:?}", texts(&self.messages), texts(&shown))
        })
    }
}

/// Returns the newest messages with bob in the store, and where a gap cut them short. In contrast to a query of the app it
/// requests nothing, which would do the timeline's work.
async fn stored(login: &Login, count: usize, is_local_only: bool) -> (Vec<Message>, Option<u64>) {
    let bob = Name::new(0, "bob");
    let to = bob.to_ref();
    let read = login.account.store().read(move |db| {
        let Some(conversation) = conversation::id(db, &bob)? else { return Ok(None) };
        page::read(db, &page::Query { conversation, anchor: None, is_older: true, count, is_local_only }).map(Some)
    });
    let Some(piece) = read.await.unwrap() else { return (Vec::new(), None) };
    (piece.rows.into_iter().map(|row| row.into_message(ME, &to)).collect(), piece.gap)
}

/// A login, its app, and the number of the next message.
struct Run {
    login: Login,
    app: App,
    written: usize,
    /// The messages that are shown in any case.
    wanted: usize,
    /// What differed when it was last compared.
    last: Option<String>,
}

impl Run {
    async fn new() -> Self {
        let login = Login::online().await;
        let app = App::open(&login).await;
        Self { login, app, written: 0, wanted: 0, last: None }
    }

    fn text(&mut self) -> String {
        self.written += 1;
        self.written.to_string()
    }

    fn is_online(&self) -> bool {
        self.login.fake.0.lock().is_online
    }

    async fn push(&self, push: Push) {
        if self.is_online() {
            self.login.frame(push).await;
        }
    }

    async fn apply(&mut self, op: Op) {
        match op {
            Op::Receive { peer, is_own } => self.receive(peer, is_own).await,
            Op::Miss { peer, count } => {
                for _ in 0..count {
                    let text = self.text();
                    self.login.fake.0.lock().write(PEERS[peer], PEERS[peer], &text);
                }
            }
            Op::Send { peer } => {
                let text = self.text();
                drop(self.login.send(PEERS[peer], &text));
            }
            Op::SendAndLose { count } => {
                self.login.fake.0.lock().lose_answers = count - 1;
                for _ in 0..count {
                    let text = self.text();
                    drop(self.login.send("bob", &text));
                }
            }
            Op::Retry => {
                let is_failed = |message: &&Message| message.sent_status() == MessageSentStatus::Failed;
                if let Some(failed) = self.app.messages.iter().find(is_failed).cloned() {
                    let config = MessageSendConfig { is_retry_send: true, ..MessageSendConfig::default() };
                    drop(self.login.send_message(failed, "bob", config).unwrap());
                }
            }
            Op::Revoke { peer, back, is_lost } => {
                let push = {
                    let mut world = self.login.fake.0.lock();
                    let seq = world.len(PEERS[peer]).saturating_sub(back);
                    world.revoke(PEERS[peer], seq as u64)
                };
                if let (Some(push), false) = (push, is_lost) {
                    self.push(push).await;
                }
            }
            Op::Read { peer } => {
                let through = self.login.fake.0.lock().len(PEERS[peer]);
                if through > 0 {
                    let request = ClearConversationUnreadMessageCountRequest {
                        conversation_id: PEERS[peer].into(),
                        conversation_type: 0,
                        through_seq: through as i64,
                    };
                    drop(self.login.account.request(request));
                }
            }
            Op::ReadElsewhere { peer } => {
                let push = {
                    let mut world = self.login.fake.0.lock();
                    let through = world.len(PEERS[peer]);
                    (through > 0).then(|| world.read(PEERS[peer], through as i64))
                };
                if let Some(push) = push {
                    self.push(push).await;
                }
            }
            Op::Rename { peer } => {
                let base_info = UserInfo { user_id: PEERS[peer].into(), user_name: self.text(), ..UserInfo::default() };
                let profiles = vec![UserFullInfo { base_info: Some(base_info), ..UserFullInfo::default() }];
                let frame = EventFrame { frame: Some(Frame::Snapshot(Snapshot { profiles, ..Snapshot::default() })) };
                if self.is_online() {
                    self.login.account.event_frame(frame).await;
                }
            }
            Op::Disconnect => self.login.disconnect(),
            Op::Connect { is_refused } => {
                self.login.fake.0.lock().limit_pulls = usize::from(is_refused);
                self.connect().await;
            }
            Op::Restore { is_empty } => {
                self.login.disconnect();
                {
                    let mut world = self.login.fake.0.lock();
                    if is_empty { world.restore_backup() } else { world.epoch += 1 }
                }
                self.connect().await;
                // A timeline that sees the new epoch starts anew. With this message it has seen it before the next step.
                self.settle().await;
                self.receive(0, false).await;
            }
            Op::Wait => {
                self.login.clock.advance(600_000);
            }
            Op::LoadMore => {
                self.app.list.load_more(1);
                self.app.limit += 1;
            }
            Op::LoadOlder { count } => {
                let before = self.app.messages.len();
                let found = self.app.timeline.load_older(count).await.unwrap();
                assert!(found <= count);
                self.wanted = before + found;
            }
            Op::Reopen => self.app = App::open(&self.login).await,
        }
        self.settle().await;
    }

    async fn receive(&mut self, peer: usize, is_own: bool) {
        let (text, peer) = (self.text(), PEERS[peer]);
        let push = self.login.fake.0.lock().write(peer, if is_own { ME } else { peer }, &text);
        self.push(push).await;
    }

    async fn connect(&self) {
        self.login.disconnect();
        self.login.fake.0.lock().lose_answers = 0;
        self.login.connect().await;
    }

    /// Waits until the account has nothing left to do, and then until the app shows what is stored.
    async fn settle(&mut self) {
        let wait = async {
            loop {
                self.app.listen();
                if is_idle(&self.login).await {
                    match self.app.difference(&self.login).await {
                        None if self.app.messages.len() < self.wanted => {
                            self.last = Some(format!("{} of {} messages", self.app.messages.len(), self.wanted));
                        }
                        None => return,
                        difference => self.last = difference,
                    }
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let is_settled = tokio::time::timeout(Duration::from_secs(10), wait).await.is_ok();
        assert!(is_settled, "{}", self.last.take().unwrap_or_default());
        self.wanted = 0;
    }
}

/// Returns whether the account has done everything that was asked, and waits for no answer.
async fn is_idle(login: &Login) -> bool {
    let asked = login.fake.0.lock().requests.len();
    for _ in 0..3 {
        // It comes after the inputs before it and stores nothing, so it wakes nobody.
        login.account.own(async { Ok(()) }).await.unwrap();
    }
    login.account.store().read(|_| Ok(())).await.unwrap();
    let world = login.fake.0.lock();
    world.in_flight == 0 && world.requests.len() == asked
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn what_is_told_adds_up_to_what_is_stored(ops in prop::collection::vec(op(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let mut run = Run::new().await;
            for op in ops {
                run.apply(op).await;
            }
            run.apply(Op::Connect { is_refused: false }).await;
            run.login.account.close(false).await;
        });
    }
}
