//! Bounds: what one client may ask, and what all of them together may cost.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Bounds. Those of the reference have its numbers; the others keep a client, or many, from making the server slow for all.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Bytes of a text message. Default: 2,048; at most 32,768, as the reference.
    pub max_text_bytes: u32,
    /// Bytes of a custom message. Default: 2,048; at most 32,768.
    pub max_custom_bytes: u32,
    /// Bytes of a command. Default: 5,120, as the reference; at most 32,768.
    pub max_command_bytes: u32,
    /// Bytes of the extended data of a user's profile. Default: 2,048; at most 32,768, as the reference.
    pub max_user_extended_data_bytes: u32,
    /// Messages a second of one session, on average. Default: 10, as the reference.
    pub messages_per_second: u32,
    /// Messages that a session may send at once after a pause. Default: 50, so that a client that was without network can send
    /// what has gathered.
    pub message_burst: u32,
    /// Friends of one user. Default: 3,000, as the reference; at most 100,000.
    pub max_friends: u32,
    /// Seconds in which an application can be answered. Default: 604,800: seven days, as the reference.
    pub friend_application_valid_s: u32,
    /// Calls a second of one session, on average. Default: 50, as the reference.
    pub requests_per_second: u32,
    /// Calls that a session may make at once after a pause. Default: 100: twice the reference's 50, because a client that
    /// has just connected asks for much.
    pub request_burst: u32,
    /// Calls a second of one session that are the protocol's own, on average: pulls, and a twentieth as many syncs (of those at
    /// once a tenth), because a sync reads what one has of everything. Default: 200: a client that was away asks once for each
    /// conversation that moved. As many calls may be refused; beyond that the session is not read on
    /// for a moment, so that a flood costs the server no more than calls do.
    pub pulls_per_second: u32,
    /// As many of those at once after a pause. Default: 1,000.
    pub pull_burst: u32,
    /// Users on one blacklist. Default: 1,000, as the reference.
    pub max_blocked_users: u32,
    /// Users whose status one user is told of. Default: 3,000, as the reference; at least 100, which is what one call takes.
    pub max_status_subscriptions: u32,
    /// Calls of one session that are in work; with so many its stream is not read on. Default: 256.
    pub max_calls_in_flight: u32,
    /// Milliseconds until a call is given up, unless its method says otherwise. Default: 10,000.
    pub request_timeout_ms: u32,
    /// Milliseconds that a connection has to say Hello. Default: 5,000.
    pub hello_timeout_ms: u32,
    /// Milliseconds that a connection has to log in after its Hello. Default: 30,000.
    pub login_timeout_ms: u32,
    /// Milliseconds after which a client that reads nothing of what it is sent, or that leaves a frame half sent, is let go.
    /// After a sixth of it a client is let go that reads next to nothing (less than 32 KB in that time) while others wait for
    /// room under `max_unread_bytes`. Default: 30,000.
    pub write_timeout_ms: u32,
    /// Milliseconds of silence after which a client is gone. Default: 35,000: three heartbeats of 10 seconds and a bit.
    pub offline_after_ms: u32,
    /// Milliseconds that running calls have to finish when the server stops. Default: 5,000.
    pub stop_timeout_ms: u32,
    /// Bytes of pushes that wait for one session; what is more the client pulls. Default: 262,144.
    pub session_queue_bytes: usize,
    /// Bytes of half-sent frames that all sessions together may leave with the server; what one packet brings is not counted.
    /// Whoever would leave more is closed; strangers have an eighth as many of their own. Default: 67,108,864: two thousand of
    /// the longest messages on their way at the same moment, and no more than a small machine can spare.
    pub max_half_sent_bytes: usize,
    /// Bytes of answers that clients have not taken, and of pages that are being read for them, of all sessions together. Beyond
    /// it reads wait, writes never. One user has a thirty-second part of it across all sessions, and at least 393,216: room for
    /// a long answer. At least 8,388,608. Default: 67,108,864, of which a user has 2 MB: ten pages that wait for a slow client.
    pub max_unread_bytes: usize,
    /// Connections at once. Default: 100,000: at 50 KB each some 5 GB, more than most machines want to give.
    pub max_connections: usize,
    /// Connections at once from one address (IPv6: one /64). Default: 10,000: a school behind one address is many people.
    pub max_connections_per_address: usize,
    /// One-shot logins of one user at once; beyond it the earliest gives way, and its client may connect again. Default: 32:
    /// scripts run many commands side by side, and each is one for a moment.
    pub max_one_shots_per_user: usize,
    /// Handshakes in work at once. Default: 4: still 2,700 a second, and a storm of them does not slow those who are
    /// connected (with 128 at once the slowest messages took 358 ms, with 4 they took 7.6 ms).
    pub handshakes_at_once: usize,
    /// Handshakes that wait for their turn; more are refused. Default: 4,096, which is less than two seconds of work.
    pub handshakes_waiting: usize,
    /// Milliseconds for a handshake, once it has its turn. A turn itself lasts 10 at most: a client that is far away, or stops
    /// in the middle, keeps nobody else out. Default: 5,000.
    pub handshake_timeout_ms: u32,
    /// Handshakes a second from one address (IPv6: one /64); half a second's worth may come at once. Half as many come in from
    /// addresses that are not proved, from all of them together; beyond that a client first proves its own, which costs it a
    /// round trip. Default: 100: a storm of 2,000 a second costs a tenth of a core, what is refused of it too.
    pub handshakes_per_second_per_address: u32,
    /// Failed logins a minute from one address (IPv6: one /64); as many may come at once. Beyond them a client is not told what is
    /// wrong with its credentials, and a CBC token is not looked at; the app sign and AES-GCM tokens still open. Default: 60: a
    /// person who mistypes needs a few, a search for a forged token needs tens of thousands.
    pub failed_logins_per_minute_per_address: u32,
    /// Failed logins a minute of one app, from all addresses together, in the same way. Default: 600.
    pub failed_logins_per_minute_per_app: u32,
    /// Users a second whom logins with the app sign from one address (IPv6: one /64) register. With a token the app's back end
    /// decides who exists, and nothing is counted. Default: 1.
    pub first_logins_per_second_per_address: u32,
    /// As many of those at once after a pause. Default: 500: a school behind one address starts a lesson together.
    pub first_login_burst_per_address: u32,
    /// Connections of the HTTP service at once; one more takes the place of the oldest that has nothing in work. Default: 128: a
    /// handful of machines ask, and more places are more time for a request to arrive while others crowd in.
    pub max_http_connections: usize,
    /// Milliseconds that a connection to the HTTP service has for its first request. Default: 2,000: a probe asks at once.
    pub http_header_timeout_ms: u32,
    /// Milliseconds for the work on a request to the HTTP service, and for the next request after an answer. Default: 10,000.
    pub http_timeout_ms: u32,
    /// Connections of the operator's service at once; one more takes the place of the oldest that has nothing in work. Default:
    /// 128, as for HTTP.
    pub max_admin_connections: usize,
    /// Milliseconds that a connection to the operator's service has until its first call, TLS handshake included. Default: 5,000.
    pub admin_first_call_timeout_ms: u32,
    /// Milliseconds that a connection to the operator's service may do nothing after a call. Default: 60,000.
    pub admin_idle_timeout_ms: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_text_bytes: 2_048,
            max_custom_bytes: 2_048,
            max_command_bytes: 5_120,
            max_user_extended_data_bytes: 2_048,
            messages_per_second: 10,
            message_burst: 50,
            max_friends: 3_000,
            friend_application_valid_s: 7 * 86_400,
            requests_per_second: 50,
            request_burst: 100,
            pulls_per_second: 200,
            pull_burst: 1_000,
            max_blocked_users: 1_000,
            max_status_subscriptions: 3_000,
            max_calls_in_flight: 256,
            request_timeout_ms: 10_000,
            hello_timeout_ms: 5_000,
            login_timeout_ms: 30_000,
            write_timeout_ms: 30_000,
            offline_after_ms: 35_000,
            stop_timeout_ms: 5_000,
            session_queue_bytes: 256 << 10,
            max_half_sent_bytes: 64 << 20,
            max_unread_bytes: 64 << 20,
            max_connections: 100_000,
            max_connections_per_address: 10_000,
            max_one_shots_per_user: 32,
            handshakes_at_once: 4,
            handshakes_waiting: 4_096,
            handshake_timeout_ms: 5_000,
            handshakes_per_second_per_address: 100,
            failed_logins_per_minute_per_address: 60,
            failed_logins_per_minute_per_app: 600,
            first_logins_per_second_per_address: 1,
            first_login_burst_per_address: 500,
            max_http_connections: 128,
            http_header_timeout_ms: 2_000,
            http_timeout_ms: 10_000,
            max_admin_connections: 128,
            admin_first_call_timeout_ms: 5_000,
            admin_idle_timeout_ms: 60_000,
        }
    }
}

impl Limits {
    pub(super) fn problems(&self) -> Vec<String> {
        let most_bytes = 32_768;
        let long = 3_600_000;
        let rows: [(&str, u64, u64, u64); _] = [
            ("max_text_bytes", self.max_text_bytes.into(), 1, most_bytes),
            ("max_custom_bytes", self.max_custom_bytes.into(), 1, most_bytes),
            ("max_command_bytes", self.max_command_bytes.into(), 1, most_bytes),
            ("max_user_extended_data_bytes", self.max_user_extended_data_bytes.into(), 1, most_bytes),
            ("messages_per_second", self.messages_per_second.into(), 1, 1_000_000),
            ("message_burst", self.message_burst.into(), 1, 1_000_000),
            ("max_friends", self.max_friends.into(), 1, 100_000),
            ("friend_application_valid_s", self.friend_application_valid_s.into(), 1, 366 * 86_400),
            ("requests_per_second", self.requests_per_second.into(), 1, 1_000_000),
            ("request_burst", self.request_burst.into(), 1, 1_000_000),
            ("pulls_per_second", self.pulls_per_second.into(), 1, 1_000_000),
            ("pull_burst", self.pull_burst.into(), 1, 1_000_000),
            ("max_blocked_users", self.max_blocked_users.into(), 0, 100_000),
            ("max_status_subscriptions", self.max_status_subscriptions.into(), 100, 100_000),
            ("max_calls_in_flight", self.max_calls_in_flight.into(), 1, 65_536),
            ("request_timeout_ms", self.request_timeout_ms.into(), 1, long),
            ("hello_timeout_ms", self.hello_timeout_ms.into(), 1, long),
            ("login_timeout_ms", self.login_timeout_ms.into(), 1, long),
            ("write_timeout_ms", self.write_timeout_ms.into(), 1, long),
            ("offline_after_ms", self.offline_after_ms.into(), 1_000, long),
            ("stop_timeout_ms", self.stop_timeout_ms.into(), 0, long),
            ("session_queue_bytes", as_u64(self.session_queue_bytes), 1_024, 64 << 20),
            // One frame of the longest at least.
            ("max_half_sent_bytes", as_u64(self.max_half_sent_bytes), 2 << 20, 1 << 40),
            // Some users read at the same time.
            ("max_unread_bytes", as_u64(self.max_unread_bytes), 8 << 20, 1 << 40),
            ("max_connections", as_u64(self.max_connections), 1, 10_000_000),
            ("max_connections_per_address", as_u64(self.max_connections_per_address), 1, 10_000_000),
            ("max_one_shots_per_user", as_u64(self.max_one_shots_per_user), 1, 1_000_000),
            ("handshakes_at_once", as_u64(self.handshakes_at_once), 1, 1_024),
            ("handshakes_waiting", as_u64(self.handshakes_waiting), 1, 65_536),
            ("handshake_timeout_ms", self.handshake_timeout_ms.into(), 1, 60_000),
            ("handshakes_per_second_per_address", self.handshakes_per_second_per_address.into(), 1, 1_000_000),
            ("failed_logins_per_minute_per_address", self.failed_logins_per_minute_per_address.into(), 1, 10_000_000),
            ("failed_logins_per_minute_per_app", self.failed_logins_per_minute_per_app.into(), 1, 10_000_000),
            ("first_logins_per_second_per_address", self.first_logins_per_second_per_address.into(), 1, 1_000_000),
            ("first_login_burst_per_address", self.first_login_burst_per_address.into(), 1, 10_000_000),
            ("max_http_connections", as_u64(self.max_http_connections), 1, 65_536),
            ("http_header_timeout_ms", self.http_header_timeout_ms.into(), 1, long),
            ("http_timeout_ms", self.http_timeout_ms.into(), 1, long),
            ("max_admin_connections", as_u64(self.max_admin_connections), 1, 65_536),
            ("admin_first_call_timeout_ms", self.admin_first_call_timeout_ms.into(), 1, long),
            ("admin_idle_timeout_ms", self.admin_idle_timeout_ms.into(), 1, long),
        ];
        rows.into_iter().filter_map(|(name, value, least, most)| problem(name, value, least, most)).collect()
    }

    /// How long a client may be silent.
    pub fn offline_after(&self) -> Duration {
        Duration::from_millis(self.offline_after_ms.into())
    }

    /// How long a write may make no progress.
    pub fn write_timeout(&self) -> Duration {
        Duration::from_millis(self.write_timeout_ms.into())
    }
}

fn as_u64(value: usize) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
}

fn problem(name: &str, value: u64, least: u64, most: u64) -> Option<String> {
    if value < least {
        Some(format!("limits.{name} is {value}; at least {least} is needed"))
    } else if value > most {
        Some(format!("limits.{name} is {value}; at most {most} is allowed"))
    } else {
        None
    }
}
