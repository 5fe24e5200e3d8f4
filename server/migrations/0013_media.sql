-- The files of messages.

-- A file that a user uploads, or has uploaded.
CREATE TABLE media (
    id BIGINT PRIMARY KEY,
    app BIGINT NOT NULL,
    -- Who uploads it. Nobody else gets it by its hash.
    account BIGINT NOT NULL,
    -- The secret of its URL, and that of its upload.
    secret TEXT NOT NULL,
    token TEXT NOT NULL,
    -- What its URLs begin with.
    base TEXT NOT NULL,
    -- `MessageType`: of which type of message it can be.
    kind SMALLINT NOT NULL,
    name TEXT NOT NULL,
    size BIGINT NOT NULL,
    hash BYTEA NOT NULL,
    -- 0: it is being uploaded. 1: it is complete.
    state SMALLINT NOT NULL,
    created_at BIGINT NOT NULL,
    -- Since when it has been complete, or has had no message.
    unused_since BIGINT NOT NULL,
    -- Its media type; empty: unknown.
    media_type TEXT NOT NULL,
    -- Of a picture: its size, and those of the large version and the thumbnail; 0: there is none.
    width BIGINT NOT NULL,
    height BIGINT NOT NULL,
    large_width BIGINT NOT NULL,
    large_height BIGINT NOT NULL,
    thumbnail_width BIGINT NOT NULL,
    thumbnail_height BIGINT NOT NULL
);

CREATE UNIQUE INDEX media_secret ON media (secret);

CREATE UNIQUE INDEX media_token ON media (token);

CREATE INDEX media_account ON media (account, hash);

CREATE INDEX media_app ON media (app);

-- Which messages have it.
CREATE TABLE media_ref (
    conversation BIGINT NOT NULL,
    seq BIGINT NOT NULL,
    media BIGINT NOT NULL,
    PRIMARY KEY (conversation, seq, media)
);

CREATE INDEX media_ref_media ON media_ref (media);

-- The bytes of an app's files, and those of a user's.
CREATE TABLE media_usage (
    app BIGINT NOT NULL,
    -- 0: all users of the app.
    account BIGINT NOT NULL,
    bytes BIGINT NOT NULL,
    PRIMARY KEY (app, account)
);
