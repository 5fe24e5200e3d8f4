-- Times are Unix milliseconds.

-- What this device knows beside its conversations.
CREATE TABLE device (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    -- The server's epoch that all positions belong to; empty before the first sync.
    epoch BLOB NOT NULL,
    pos INTEGER NOT NULL,
    touched INTEGER NOT NULL,
    -- A sync was completed once: what comes from now on is news.
    is_settled INTEGER NOT NULL,
    -- Profiles that changed since are asked for.
    profiles_at INTEGER NOT NULL
);

INSERT INTO device (id, epoch, pos, touched, is_settled, profiles_at) VALUES (1, x'', 0, 0, 0, 0);

CREATE TABLE conversation (
    id INTEGER PRIMARY KEY,
    type INTEGER NOT NULL,
    name TEXT NOT NULL,
    -- Raised to the app up to here.
    seq INTEGER NOT NULL DEFAULT 0,
    rev INTEGER NOT NULL DEFAULT 0,
    -- Known of up to here.
    head_seq INTEGER NOT NULL DEFAULT 0,
    head_rev INTEGER NOT NULL DEFAULT 0,
    is_known INTEGER NOT NULL DEFAULT 0,
    last_ts INTEGER NOT NULL DEFAULT 0,
    -- What the unread count is computed from, and the count.
    n INTEGER NOT NULL DEFAULT 0,
    sent INTEGER NOT NULL DEFAULT 0,
    base_seq INTEGER NOT NULL DEFAULT 0,
    base_n INTEGER NOT NULL DEFAULT 0,
    base_sent INTEGER NOT NULL DEFAULT 0,
    deducted INTEGER NOT NULL DEFAULT 0,
    read_seq INTEGER NOT NULL DEFAULT 0,
    unread INTEGER NOT NULL DEFAULT 0,
    -- `ConversationNotificationStatus`
    notification INTEGER NOT NULL DEFAULT 1,
    pinned_at INTEGER NOT NULL DEFAULT 0,
    is_disabled INTEGER NOT NULL DEFAULT 0,
    -- What the list is sorted by.
    order_key INTEGER NOT NULL DEFAULT 0
);

CREATE UNIQUE INDEX conversation_name ON conversation (type, name);

CREATE INDEX conversation_order ON conversation (order_key, id);

CREATE TABLE mark (
    conversation INTEGER NOT NULL,
    mark INTEGER NOT NULL,
    PRIMARY KEY (conversation, mark)
) WITHOUT ROWID;

-- The positions whose messages are held: closed intervals, disjoint and never adjacent.
CREATE TABLE held (
    conversation INTEGER NOT NULL,
    lo INTEGER NOT NULL,
    hi INTEGER NOT NULL,
    PRIMARY KEY (conversation, lo)
) WITHOUT ROWID;

CREATE TABLE message (
    id INTEGER PRIMARY KEY,
    conversation INTEGER NOT NULL,
    -- 100 times `seq`; of a message that is not stored on the server between its neighbours, and `tie` tells equals apart.
    order_key INTEGER NOT NULL,
    tie INTEGER NOT NULL,
    -- 0 while the server has not stored it.
    seq INTEGER NOT NULL,
    message_id INTEGER NOT NULL,
    client_key BLOB NOT NULL,
    sender TEXT NOT NULL,
    ts INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    flags INTEGER NOT NULL,
    -- `MessageSentStatus`
    status INTEGER NOT NULL,
    -- Sent by this device.
    is_local INTEGER NOT NULL,
    content BLOB NOT NULL,
    local_data TEXT NOT NULL,
    -- The encoded `MessageSendConfig` of a message that is not stored on the server.
    config BLOB
);

CREATE UNIQUE INDEX message_order ON message (conversation, order_key, tie);

-- Only what is not stored yet is looked up by its key.
CREATE INDEX message_pending ON message (client_key) WHERE seq = 0;

CREATE TABLE user (
    user_id TEXT PRIMARY KEY,
    user_name TEXT NOT NULL,
    avatar_url TEXT NOT NULL,
    extended_data TEXT NOT NULL
) WITHOUT ROWID;

-- The list of friends. Their profiles are in `user`.
CREATE TABLE friend (
    id INTEGER PRIMARY KEY,
    user_id TEXT NOT NULL UNIQUE,
    alias TEXT NOT NULL,
    -- A JSON object.
    attributes TEXT NOT NULL,
    wording TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    -- What the list is sorted by.
    place INTEGER NOT NULL,
    -- Whether the server still knows it is not known yet.
    is_stale INTEGER NOT NULL DEFAULT 0
);

CREATE INDEX friend_place ON friend (place);

-- Finds friends by their names and aliases; see store/search.rs. Whoever writes a friend or a profile keeps it in step.
CREATE VIRTUAL TABLE friend_search USING fts5
    (user_name, alias, content='', contentless_delete=1, tokenize='ascii', prefix='4');

CREATE VIEW friend_searched (id, user_id, user_name, alias) AS
    SELECT f.id, f.user_id, search_text(COALESCE(u.user_name, '')), search_text(f.alias)
    FROM friend f LEFT JOIN user u ON u.user_id = f.user_id;

CREATE TRIGGER friend_search_added AFTER INSERT ON friend BEGIN
    INSERT INTO friend_search (rowid, user_name, alias)
        SELECT id, user_name, alias FROM friend_searched WHERE id = new.id;
END;

CREATE TRIGGER friend_search_removed AFTER DELETE ON friend BEGIN
    DELETE FROM friend_search WHERE rowid = old.id;
END;

CREATE TRIGGER friend_search_alias AFTER UPDATE OF alias ON friend WHEN new.alias <> old.alias BEGIN
    DELETE FROM friend_search WHERE rowid = old.id;
    INSERT INTO friend_search (rowid, user_name, alias)
        SELECT id, user_name, alias FROM friend_searched WHERE id = new.id;
END;

CREATE TRIGGER friend_search_met AFTER INSERT ON user BEGIN
    DELETE FROM friend_search WHERE rowid IN (SELECT id FROM friend WHERE user_id = new.user_id);
    INSERT INTO friend_search (rowid, user_name, alias)
        SELECT id, user_name, alias FROM friend_searched WHERE user_id = new.user_id;
END;

CREATE TRIGGER friend_search_renamed AFTER UPDATE OF user_name ON user WHEN new.user_name <> old.user_name BEGIN
    DELETE FROM friend_search WHERE rowid IN (SELECT id FROM friend WHERE user_id = new.user_id);
    INSERT INTO friend_search (rowid, user_name, alias)
        SELECT id, user_name, alias FROM friend_searched WHERE user_id = new.user_id;
END;

-- Applications to and from others, by the other.
CREATE TABLE friend_application (
    user_id TEXT PRIMARY KEY,
    -- `FriendApplicationType` and `FriendApplicationState`.
    type INTEGER NOT NULL,
    state INTEGER NOT NULL,
    wording TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    -- When it is too late for an answer.
    expires_at INTEGER NOT NULL,
    place INTEGER NOT NULL,
    is_stale INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;

CREATE INDEX friend_application_place ON friend_application (place);

-- The blacklist. The profiles are in `user`.
CREATE TABLE block (
    user_id TEXT PRIMARY KEY,
    -- What the list is sorted by.
    place INTEGER NOT NULL,
    -- Whether the server still knows it is not known yet.
    is_stale INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;

CREATE INDEX block_place ON block (place);

-- One's own rules: an encoded `UserRule`, once one was set.
CREATE TABLE rule (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    rule BLOB NOT NULL
);

-- Events whose causes are stored and that were not raised for certain: raised at least once, even over a crash.
CREATE TABLE pending_event (
    id INTEGER PRIMARY KEY,
    event BLOB NOT NULL
);
