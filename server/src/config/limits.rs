//! Limits: on one client, and on the cost of all of them together.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Limits. Those of the reference have its numbers. The others keep clients from making the server slow for everyone.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Bytes of a text message. Default: 2,048; at most 32,768, as in the reference.
    pub max_text_bytes: u32,
    /// Bytes of a custom message. Default: 2,048; at most 32,768.
    pub max_custom_bytes: u32,
    /// Bytes of a command. Default: 5,120, as in the reference; at most 32,768.
    pub max_command_bytes: u32,
    /// Bytes of the extended data of a user's profile. Default: 2,048; at most 32,768, as in the reference.
    pub max_user_extended_data_bytes: u32,
    /// Messages per second of one session, on average; at most `requests_per_second`. Default: 10, as in the reference.
    pub messages_per_second: u32,
    /// Messages that a login may send at once after a pause; at most `request_burst`. Default: 50, so that a client can send
    /// the messages that were written while it was offline.
    pub message_burst: u32,
    /// Friends of one user. Default: 3,000, as in the reference; at most 100,000.
    pub max_friends: u32,
    /// Devices of one user that get offline push; another one takes the place of the oldest. Default: 20, as many as a user may be
    /// logged in on; at most 100.
    pub max_push_ids: u32,
    /// Members of one group. Default: 500, as in the reference; at most 100,000.
    pub max_group_members: u32,
    /// Groups of one user. Default: 1,000; at most 10,000.
    pub max_groups: u32,
    /// Members of one room. Default: 500; at most 100,000.
    pub max_room_members: u32,
    /// Rooms that one user is in at the same time. Default: 5, as in the reference.
    pub max_rooms_of_user: u32,
    /// Rooms of one app at the same time; 0, the default: any number.
    pub max_rooms: u32,
    /// How long after its connection was lost a member leaves a room, milliseconds. Default: 30,000, as in the reference.
    pub room_grace_ms: u32,
    /// In a room with more members than this, at most 20 users a second are told of as they enter, and 20 as they leave. Default:
    /// 1,000.
    pub max_room_members_told: u32,
    /// Messages of one room that are kept, if `rooms.history` keeps them: the newest ones. Default: 2,000, as in the reference.
    pub max_room_history: u32,
    /// Seconds after which a friend application expires. Default: 604,800: seven days, as in the reference.
    pub friend_application_valid_s: u32,
    /// How long after it was sent a message can be revoked, seconds; at most a day.
    pub revoke_window_s: u32,
    /// How long after it was sent a message can be edited, seconds. Default: a day, as in the reference.
    pub edit_window_s: u32,
    /// How long after it was sent a message can be reacted to, seconds. Default: seven days, as in the reference.
    pub reaction_window_s: u32,
    /// Types of reactions to one message. Default: 100, as in the reference.
    pub max_reaction_types: u32,
    /// Pinned messages of one conversation. Default: 10, as in the reference.
    pub max_pinned_messages: u32,
    /// The longest title of a combined message, bytes. Default: 20, as in the reference; at most 100.
    pub max_combine_title_bytes: u32,
    /// The longest summary of a combined message, bytes. Default: 100, as in the reference; at most 500.
    pub max_combine_summary_bytes: u32,
    /// The messages that a combined message combines, in bytes. Default: 256 KiB.
    pub max_combine_bytes: u32,
    /// Bytes of the file of an image message. Default: 10 MiB, as in the reference.
    pub max_image_bytes: u32,
    /// Bytes of the file of a file message. Default: 100 MiB, as in the reference.
    pub max_file_bytes: u32,
    /// Bytes of the file of an audio message. Default: 6 MiB, as in the reference.
    pub max_audio_bytes: u32,
    /// Bytes of the file of a video message. Default: 100 MiB, as in the reference.
    pub max_video_bytes: u32,
    /// The longest audio message, seconds. Default: 300, as in the reference.
    pub max_audio_s: u32,
    /// Pixels of an image of which small versions are made. A larger one is refused: unpacked it would take four bytes for
    /// each pixel, eight with 16-bit colors. Default: 100,000,000, more than any camera of a phone has.
    pub max_image_pixels: u32,
    /// Requests per second of one login, on average. Default: 50, as in the reference.
    pub requests_per_second: u32,
    /// Requests that a login may make at once after a pause. Default: 100: twice the reference's 50, because a client that has
    /// just connected makes many.
    pub request_burst: u32,
    /// Pulls per second of one login, on average. Syncs have a twentieth of this average and a tenth of the burst, because a
    /// sync reads the state of every log. Default: 200: a client that was away pulls once for each conversation that moved. The
    /// same rate applies to refused requests; beyond it the server stops reading the session's stream for a moment, so that a
    /// flood costs no more than requests do.
    pub pulls_per_second: u32,
    /// Pulls that a login may make at once after a pause. Default: 1,000.
    pub pull_burst: u32,
    /// Users on one blacklist. Default: 1,000, as in the reference.
    pub max_blocked_users: u32,
    /// Users whose status one user subscribes to. Beyond that the earliest subscription ends. Default: 3,000, as in the
    /// reference; at least 100, the users of one request.
    pub max_status_subscriptions: u32,
    /// Seconds after which a call in advanced mode ends that nobody has ended. Default: 86,400, a day; at most a week.
    pub max_call_s: u32,
    /// Days after which a call that has ended is removed; 0: never. Default: 90.
    pub ended_calls_kept_days: u32,
    /// Milliseconds in which an invitation to a call is received. After that the users of the call are told that it is not, if the
    /// caller has asked for it. Default: 5,000, as in the reference.
    pub call_received_within_ms: u32,
    /// Conversations that one user pins. Default: 100, as in the reference.
    pub max_pinned_conversations: u32,
    /// Conversations of one user with marks. Beyond that the ones that were marked first lose their marks. Default: 1,000, as in
    /// the reference; at least 100, the conversations of one request.
    pub max_marked_conversations: u32,
    /// Requests of one session in flight. At the limit the server stops reading the session's stream until one is done.
    /// Default: 256.
    pub max_calls_in_flight: u32,
    /// Milliseconds until a request times out, unless its method says otherwise. Default: 10,000.
    pub request_timeout_ms: u32,
    /// Milliseconds that a connection has to send Hello. Default: 5,000.
    pub hello_timeout_ms: u32,
    /// Milliseconds that a connection has to log in after its Hello. Default: 30,000.
    pub login_timeout_ms: u32,
    /// Milliseconds after which a client that reads nothing, or leaves a frame incomplete, is disconnected. While other reads
    /// wait for room under `max_unread_bytes`, a client that reads less than 32 KB is disconnected after a sixth of this time.
    /// Default: 30,000.
    pub write_timeout_ms: u32,
    /// Milliseconds of silence after which a client counts as offline. Default: 35,000: three heartbeats of 10 seconds and a
    /// margin.
    pub offline_after_ms: u32,
    /// Milliseconds that requests in flight have to finish when the server stops. Default: 5,000.
    pub stop_timeout_ms: u32,
    /// Bytes of pushes that wait for one session; the client pulls the rest. Commands have a quarter of it in addition.
    /// Default: 262,144.
    pub session_queue_bytes: usize,
    /// Bytes of partially received frames of all sessions together; the bytes of one packet are not counted. Unauthenticated
    /// connections have an eighth of it on top. A connection that would exceed it is closed. Default: 67,108,864: enough for two
    /// thousand of the longest messages at the same time, and not too much for a small machine.
    pub max_half_sent_bytes: usize,
    /// Bytes of responses that clients have not read, and of pages being read for them, of all sessions together. Beyond it
    /// reads wait; writes never do. One user may hold 1/32 of it across all sessions, and at least 393,216: room for a long
    /// response. At least 8,388,608. Default: 67,108,864, of which a user may hold 2 MB: eight full pages that wait for a slow client.
    pub max_unread_bytes: usize,
    /// Simultaneous connections. Default: 100,000: with 50 KB each some 5 GB, more than most machines can spare.
    pub max_connections: usize,
    /// Simultaneous connections from one address (IPv6: one /64). Default: 10,000: the people of a school may share one address.
    pub max_connections_per_address: usize,
    /// Simultaneous one-shot logins of one user. Beyond it the earliest ends; its client may reconnect. Default: 32: scripts run
    /// many commands in parallel, and each is a one-shot login for a moment.
    pub max_one_shots_per_user: usize,
    /// Simultaneous handshakes. Default: 4: enough for 2,700 a second, and few enough that a storm of them does not slow connected
    /// clients (with 128 the slowest messages took 358 ms, with 4 they took 7.6 ms).
    pub handshakes_at_once: usize,
    /// Waiting handshakes; more are refused. Default: 4,096, which is less than two seconds of work.
    pub handshakes_waiting: usize,
    /// Milliseconds for a handshake, counted from its start, and for the wait before it. It counts as simultaneous for at most
    /// 10 ms, so that a client that is far away or stops in the middle does not block others. Default: 5,000.
    pub handshake_timeout_ms: u32,
    /// Handshakes per second from one address (IPv6: one /64), with a burst of half a second. All addresses that are not
    /// validated share half of this rate; beyond that a client must validate its address first, which costs it a round trip.
    /// Default: 100: a storm of 2,000 a second costs a tenth of a core, including the refused ones.
    pub handshakes_per_second_per_address: u32,
    /// Failed logins per minute from one address (IPv6: one /64), with a burst of the same number. Beyond that the server does not
    /// tell what is wrong with the credentials, and refuses CBC tokens unseen. The app sign and AES-GCM tokens still work.
    /// Default: 60: a person who mistypes needs a few, a search for a forged token needs tens of thousands.
    pub failed_logins_per_minute_per_address: u32,
    /// Failed logins per minute of one app, from all addresses together, in the same way. Default: 600.
    pub failed_logins_per_minute_per_app: u32,
    /// Users per second that logins with the app sign register from one address (IPv6: one /64), on average. Logins with a token
    /// are not counted: there the app's back end decides which users exist. Default: 1.
    pub first_logins_per_second_per_address: u32,
    /// Users that such logins may register at once after a pause. Default: 500: a class behind one address logs in at the same
    /// time.
    pub first_login_burst_per_address: u32,
    /// Simultaneous connections of the HTTP service. A further one replaces the oldest that has no request in progress. Default:
    /// 128: only a few machines connect, and with more places a request has more time to arrive during a flood of connections.
    pub max_http_connections: usize,
    /// Milliseconds that a connection to the HTTP service has for its first request. Default: 2,000: a probe sends it at once.
    pub http_header_timeout_ms: u32,
    /// Milliseconds for the work on a request to the HTTP service, and until the next request. Default: 10,000.
    pub http_timeout_ms: u32,
    /// Simultaneous connections of the public HTTPS listener. A further one replaces the oldest that has no request in progress.
    /// Default: 1,024.
    pub max_https_connections: usize,
    /// Milliseconds for which an upload or a download may make no progress. Default: 30,000.
    pub https_stall_timeout_ms: u32,
    /// Bytes per second that an upload or a download must have, on average over `https_stall_timeout_ms`; 0: no limit.
    /// Default: 1,000.
    pub https_min_bytes_per_second: u32,
    /// Simultaneous connections of the operator's service. A further one replaces the oldest that has no request in progress.
    /// Default: 128, as for HTTP.
    pub max_admin_connections: usize,
    /// Milliseconds that a connection to the operator's service has for its first request, TLS handshake included. Default: 5,000.
    pub admin_first_call_timeout_ms: u32,
    /// Milliseconds between requests of a connection to the operator's service. Default: 60,000.
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
            max_push_ids: 20,
            max_group_members: 500,
            max_groups: 1_000,
            max_room_members: 500,
            max_rooms_of_user: 5,
            max_rooms: 0,
            room_grace_ms: 30_000,
            max_room_members_told: 1_000,
            max_room_history: 2_000,
            friend_application_valid_s: 7 * 86_400,
            revoke_window_s: 120,
            edit_window_s: 86_400,
            reaction_window_s: 7 * 86_400,
            max_reaction_types: 100,
            max_pinned_messages: 10,
            max_combine_title_bytes: 20,
            max_combine_summary_bytes: 100,
            max_combine_bytes: 256 << 10,
            max_image_bytes: 10 << 20,
            max_file_bytes: 100 << 20,
            max_audio_bytes: 6 << 20,
            max_video_bytes: 100 << 20,
            max_audio_s: 300,
            max_image_pixels: 100_000_000,
            requests_per_second: 50,
            request_burst: 100,
            pulls_per_second: 200,
            pull_burst: 1_000,
            max_blocked_users: 1_000,
            max_status_subscriptions: 3_000,
            max_call_s: 86_400,
            ended_calls_kept_days: 90,
            call_received_within_ms: 5_000,
            max_pinned_conversations: 100,
            max_marked_conversations: 1_000,
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
            max_https_connections: 1_024,
            https_stall_timeout_ms: 30_000,
            https_min_bytes_per_second: 1_000,
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
            ("max_push_ids", self.max_push_ids.into(), 1, 100),
            ("max_group_members", self.max_group_members.into(), 2, 100_000),
            ("max_groups", self.max_groups.into(), 1, 10_000),
            ("max_room_members", self.max_room_members.into(), 1, 100_000),
            ("max_rooms_of_user", self.max_rooms_of_user.into(), 1, 1_000),
            ("max_rooms", self.max_rooms.into(), 0, 1_000_000),
            ("room_grace_ms", self.room_grace_ms.into(), 1_000, long),
            ("max_room_members_told", self.max_room_members_told.into(), 0, 100_000),
            ("max_room_history", self.max_room_history.into(), 1, 1_000_000),
            ("friend_application_valid_s", self.friend_application_valid_s.into(), 1, 366 * 86_400),
            ("revoke_window_s", self.revoke_window_s.into(), 1, 86_400),
            ("edit_window_s", self.edit_window_s.into(), 1, 366 * 86_400),
            ("reaction_window_s", self.reaction_window_s.into(), 1, 366 * 86_400),
            ("max_reaction_types", self.max_reaction_types.into(), 1, 100),
            ("max_pinned_messages", self.max_pinned_messages.into(), 1, 100),
            ("max_combine_title_bytes", self.max_combine_title_bytes.into(), 1, 100),
            ("max_combine_summary_bytes", self.max_combine_summary_bytes.into(), 1, 500),
            ("max_combine_bytes", self.max_combine_bytes.into(), 1_024, 512 << 10),
            ("max_image_bytes", self.max_image_bytes.into(), 1, u64::from(u32::MAX)),
            ("max_file_bytes", self.max_file_bytes.into(), 1, u64::from(u32::MAX)),
            ("max_audio_bytes", self.max_audio_bytes.into(), 1, u64::from(u32::MAX)),
            ("max_video_bytes", self.max_video_bytes.into(), 1, u64::from(u32::MAX)),
            ("max_audio_s", self.max_audio_s.into(), 1, 86_400),
            ("max_image_pixels", self.max_image_pixels.into(), 1, 1_000_000_000),
            ("requests_per_second", self.requests_per_second.into(), 1, 1_000_000),
            ("request_burst", self.request_burst.into(), 1, 1_000_000),
            ("pulls_per_second", self.pulls_per_second.into(), 1, 1_000_000),
            ("pull_burst", self.pull_burst.into(), 1, 1_000_000),
            ("max_blocked_users", self.max_blocked_users.into(), 0, 100_000),
            ("max_status_subscriptions", self.max_status_subscriptions.into(), 100, 100_000),
            ("max_call_s", self.max_call_s.into(), 600, 7 * 86_400),
            ("ended_calls_kept_days", self.ended_calls_kept_days.into(), 0, 36_500),
            ("call_received_within_ms", self.call_received_within_ms.into(), 100, 60_000),
            ("max_pinned_conversations", self.max_pinned_conversations.into(), 0, 10_000),
            ("max_marked_conversations", self.max_marked_conversations.into(), 100, 100_000),
            ("max_calls_in_flight", self.max_calls_in_flight.into(), 1, 65_536),
            ("request_timeout_ms", self.request_timeout_ms.into(), 1, long),
            ("hello_timeout_ms", self.hello_timeout_ms.into(), 1, long),
            ("login_timeout_ms", self.login_timeout_ms.into(), 1, long),
            ("write_timeout_ms", self.write_timeout_ms.into(), 1, long),
            ("offline_after_ms", self.offline_after_ms.into(), 1_000, long),
            ("stop_timeout_ms", self.stop_timeout_ms.into(), 0, long),
            ("session_queue_bytes", as_u64(self.session_queue_bytes), 1_024, 64 << 20),
            // Room for at least one of the longest frames.
            ("max_half_sent_bytes", as_u64(self.max_half_sent_bytes), 2 << 20, 1 << 40),
            // Room for several users that read at the same time.
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
            ("max_https_connections", as_u64(self.max_https_connections), 1, 65_536),
            ("https_stall_timeout_ms", self.https_stall_timeout_ms.into(), 1, long),
            ("https_min_bytes_per_second", self.https_min_bytes_per_second.into(), 0, 1_000_000_000),
            ("max_admin_connections", as_u64(self.max_admin_connections), 1, 65_536),
            ("admin_first_call_timeout_ms", self.admin_first_call_timeout_ms.into(), 1, long),
            ("admin_idle_timeout_ms", self.admin_idle_timeout_ms.into(), 1, long),
        ];
        let mut problems: Vec<_> =
            rows.into_iter().filter_map(|(name, value, least, most)| problem(name, value, least, most)).collect();
        for (messages, of_messages, requests, of_requests) in [
            ("messages_per_second", self.messages_per_second, "requests_per_second", self.requests_per_second),
            ("message_burst", self.message_burst, "request_burst", self.request_burst),
        ] {
            if of_messages > of_requests {
                problems.push(format!(
                    "limits.{messages} is {of_messages}, but each message is a request, and limits.{requests} is {of_requests}; \
                     raise limits.{requests} to at least {of_messages}, or lower limits.{messages}"
                ));
            }
        }
        problems
    }

    /// Returns how long a write may make no progress.
    pub fn write_timeout(&self) -> Duration {
        Duration::from_millis(self.write_timeout_ms.into())
    }
}

fn as_u64(value: usize) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
}

fn problem(name: &str, value: u64, least: u64, most: u64) -> Option<String> {
    if value < least {
        Some(format!("limits.{name} is {value}; at least {least} is required"))
    } else if value > most {
        Some(format!("limits.{name} is {value}; at most {most} is allowed"))
    } else {
        None
    }
}
