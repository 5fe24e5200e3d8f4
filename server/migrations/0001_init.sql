-- One text for SQLite and PostgreSQL; see docs/decisions for the subset. Times are Unix milliseconds. Ids are given by the
-- server (src/key.rs), never by the database.

CREATE TABLE deployment (
    id SMALLINT NOT NULL,
    -- Changes when a backup is restored or a replica promoted: positions of another epoch mean nothing.
    epoch BYTEA NOT NULL,
    -- Scrambles the ids that clients see.
    secret BYTEA NOT NULL,
    PRIMARY KEY (id)
);

CREATE TABLE app (
    id BIGINT PRIMARY KEY,
    name TEXT NOT NULL,
    app_sign TEXT NOT NULL,
    server_secret TEXT NOT NULL,
    created_at BIGINT NOT NULL
);

-- A user. `pos` is the head of his feed.
CREATE TABLE account (
    id BIGINT PRIMARY KEY,
    app BIGINT NOT NULL REFERENCES app (id),
    name TEXT NOT NULL,
    pos BIGINT NOT NULL,
    user_name TEXT NOT NULL,
    avatar_url TEXT NOT NULL,
    extended_data TEXT NOT NULL,
    -- When the profile last changed: what those who know him and were away ask by.
    info_at BIGINT NOT NULL,
    -- An encoded `UserOfflinePushRule`, once one was set.
    push_rule BYTEA,
    created_at BIGINT NOT NULL
);

CREATE UNIQUE INDEX account_name ON account (app, name);

-- `seq` and `rev` are the heads of its two logs; `n` counts the messages that count as unread. `name` is the group's id, or
-- the two accounts of a peer conversation in ascending order.
CREATE TABLE conversation (
    id BIGINT PRIMARY KEY,
    app BIGINT NOT NULL,
    type SMALLINT NOT NULL,
    name TEXT NOT NULL,
    seq BIGINT NOT NULL,
    n BIGINT NOT NULL,
    rev BIGINT NOT NULL,
    last_ts BIGINT NOT NULL,
    -- When a log of it last moved: what a client that was away asks by.
    touched BIGINT NOT NULL,
    -- What lies at or below a floor is no longer kept.
    floor_seq BIGINT NOT NULL,
    floor_n BIGINT NOT NULL,
    floor_rev BIGINT NOT NULL,
    -- Set at dismissal.
    end_seq BIGINT,
    end_rev BIGINT,
    -- Of two users, who does not want the other's messages: 1 the lower account, 2 the higher. It follows from `block`, and
    -- stands here because every message reads this row under its lock.
    blocks SMALLINT NOT NULL
);

CREATE UNIQUE INDEX conversation_name ON conversation (app, type, name);

-- A stay in a conversation, and what is one member's: how far he has read, where his counting begins.
CREATE TABLE member (
    conversation BIGINT NOT NULL,
    account BIGINT NOT NULL,
    -- The other side of a peer conversation, else 0.
    peer BIGINT NOT NULL,
    -- The first positions of the stay, and the last ones once it is over.
    from_seq BIGINT NOT NULL,
    from_rev BIGINT NOT NULL,
    to_seq BIGINT,
    to_rev BIGINT,
    -- Everything up to here was deleted by this member, for himself.
    cleared_seq BIGINT NOT NULL,
    read_seq BIGINT NOT NULL,
    base_seq BIGINT NOT NULL,
    base_n BIGINT NOT NULL,
    base_sent BIGINT NOT NULL,
    -- Counted messages of his own.
    sent BIGINT NOT NULL,
    -- Counted messages of others after the base that were revoked, or deleted by this member.
    deducted BIGINT NOT NULL,
    PRIMARY KEY (account, conversation)
);

CREATE INDEX member_conversation ON member (conversation);

-- The log of messages. Append-only with a growing integer key: new rows go to the end of the table.
CREATE TABLE message (
    id BIGINT PRIMARY KEY,
    conversation BIGINT NOT NULL,
    seq BIGINT NOT NULL,
    n BIGINT NOT NULL,
    sender BIGINT NOT NULL,
    -- The sender's 128-bit key in two halves, and a hash of what was sent under it.
    key_hi BIGINT NOT NULL,
    key_lo BIGINT NOT NULL,
    hash BIGINT NOT NULL,
    ts BIGINT NOT NULL,
    kind SMALLINT NOT NULL,
    flags BIGINT NOT NULL,
    body BYTEA NOT NULL
);

CREATE UNIQUE INDEX message_seq ON message (conversation, seq);

-- Both halves: a client chooses its keys, and one half alone could be the same for a million messages.
CREATE INDEX message_key ON message (conversation, key_hi, key_lo);

-- The log of changes of a conversation; `subject` says what the change is about, by its kind.
CREATE TABLE change (
    conversation BIGINT NOT NULL,
    rev BIGINT NOT NULL,
    kind SMALLINT NOT NULL,
    actor BIGINT NOT NULL,
    at BIGINT NOT NULL,
    subject BIGINT NOT NULL,
    PRIMARY KEY (conversation, rev)
);

-- What is one person's. An entry replaces the one before it with the same kind and key.
CREATE TABLE feed (
    account BIGINT NOT NULL,
    pos BIGINT NOT NULL,
    kind SMALLINT NOT NULL,
    key BIGINT NOT NULL,
    PRIMARY KEY (account, pos)
);

CREATE UNIQUE INDEX feed_key ON feed (account, kind, key);

-- Who is on whose list of friends. Alias and attributes (a JSON object) are the owner's; `place` orders the list and is the
-- position in his feed at which the friend came.
CREATE TABLE friend (
    account BIGINT NOT NULL,
    friend BIGINT NOT NULL,
    alias TEXT NOT NULL,
    attributes TEXT NOT NULL,
    wording TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    place BIGINT NOT NULL,
    PRIMARY KEY (account, friend)
);

CREATE UNIQUE INDEX friend_place ON friend (account, place);

-- Who hears of a change of somebody's profile.
CREATE INDEX friend_of ON friend (friend, account);

-- What stands between two users: a row of each. `alias` and `attributes` are what the one will say of the other.
CREATE TABLE friend_application (
    account BIGINT NOT NULL,
    peer BIGINT NOT NULL,
    type SMALLINT NOT NULL,
    state SMALLINT NOT NULL,
    wording TEXT NOT NULL,
    alias TEXT NOT NULL,
    attributes TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    -- If it waits until then, it has expired.
    expires_at BIGINT NOT NULL,
    place BIGINT NOT NULL,
    PRIMARY KEY (account, peer)
);

CREATE UNIQUE INDEX friend_application_place ON friend_application (account, place);

-- A login that has not ended. It outlives its connection, so that a client can resume it.
CREATE TABLE session (
    id BIGINT PRIMARY KEY,
    ticket BYTEA NOT NULL,
    account BIGINT NOT NULL,
    platform SMALLINT NOT NULL,
    device BYTEA NOT NULL,
    login_at BIGINT NOT NULL,
    -- 0 good, 1 pushed out by a newer login, 2 ended by the operator.
    state SMALLINT NOT NULL
);

CREATE UNIQUE INDEX session_ticket ON session (ticket);

CREATE INDEX session_account ON session (account, login_at);

-- `blocked` is on the blacklist of `account`.
CREATE TABLE block (
    account BIGINT NOT NULL,
    blocked BIGINT NOT NULL,
    -- Where it stands in the account's feed: the list is sorted by it.
    pos BIGINT NOT NULL,
    PRIMARY KEY (account, blocked)
);

CREATE UNIQUE INDEX block_pos ON block (account, pos);
