-- Offline push.

-- Where a device of a user gets pushes.
CREATE TABLE push_id (
    id BIGINT PRIMARY KEY,
    app BIGINT NOT NULL,
    account BIGINT NOT NULL,
    -- The installation, as in `session`.
    device BYTEA NOT NULL,
    -- 1: it is rung through this one (VoIP), beside the one for notifications, which has 0.
    slot SMALLINT NOT NULL,
    -- `PlatformType`.
    platform SMALLINT NOT NULL,
    -- `PushSource`.
    source SMALLINT NOT NULL,
    -- Which of the app's credentials are used.
    app_type BIGINT NOT NULL,
    -- What the push service knows the device by; of Web Push: its URL.
    token TEXT NOT NULL,
    -- Of the source and the token, which may be too long for an index.
    token_hash BYTEA NOT NULL,
    -- The keys of Web Push.
    p256dh BYTEA NOT NULL,
    auth BYTEA NOT NULL,
    registered_at BIGINT NOT NULL
);

CREATE UNIQUE INDEX push_id_account ON push_id (account, device, slot);

CREATE UNIQUE INDEX push_id_token ON push_id (app, token_hash);

CREATE INDEX push_id_device ON push_id (app, device);

-- The number on the icon of the user's devices, as the app and the pushes since then have it.
ALTER TABLE account ADD COLUMN badge BIGINT NOT NULL DEFAULT 0;

-- The credentials of an app at a push service.
CREATE TABLE push_provider (
    app BIGINT NOT NULL,
    -- `PushSource`.
    source SMALLINT NOT NULL,
    app_type BIGINT NOT NULL,
    -- A JSON object.
    settings TEXT NOT NULL,
    changed_at BIGINT NOT NULL,
    PRIMARY KEY (app, source, app_type)
);

-- What is to be pushed, from when it is sent until the log is cleared.
CREATE TABLE push (
    id BIGINT PRIMARY KEY,
    app BIGINT NOT NULL,
    -- Whose message or invitation it is: they get no push.
    account BIGINT NOT NULL,
    -- 1 a message, 2 the revocation of one, 3 an invitation to a call, 4 its cancellation.
    kind SMALLINT NOT NULL,
    -- The conversation and the message; or the call, and 0.
    conversation BIGINT NOT NULL,
    seq BIGINT NOT NULL,
    -- An encoded `PushConfig`.
    config BYTEA NOT NULL,
    -- Of a call: the keys of the users who get it, as 8 bytes each.
    receivers BYTEA NOT NULL,
    created_at BIGINT NOT NULL
);

CREATE INDEX push_conversation ON push (conversation, seq);

CREATE INDEX push_account ON push (account);

CREATE INDEX push_created ON push (created_at);

-- What became of a push to a device.
CREATE TABLE push_log (
    id BIGINT PRIMARY KEY,
    push BIGINT NOT NULL,
    push_id BIGINT NOT NULL,
    account BIGINT NOT NULL,
    source SMALLINT NOT NULL,
    -- `PushOutcome`.
    state SMALLINT NOT NULL,
    -- Why it is not sent, or what the push service has answered.
    detail TEXT NOT NULL,
    attempts BIGINT NOT NULL,
    -- Nobody sends it before this time: somebody is about to, or the push service asked for it.
    not_before BIGINT NOT NULL,
    -- -1: the push leaves the badge as it is.
    badge BIGINT NOT NULL,
    at BIGINT NOT NULL
);

CREATE UNIQUE INDEX push_log_push ON push_log (push, push_id);

CREATE INDEX push_log_account ON push_log (account, id);

CREATE INDEX push_log_at ON push_log (at);
