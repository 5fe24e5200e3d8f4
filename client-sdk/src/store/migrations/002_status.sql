-- An SDK that did not know of subscriptions passed over them in the feed: it is read again from its beginning.
UPDATE device SET pos = 0;

-- What this user, and those whose status he subscribed to, were last seen as: an encoded `UserStatus` each.
CREATE TABLE status (
    user_id TEXT PRIMARY KEY,
    status BLOB NOT NULL
) WITHOUT ROWID;

-- Whose status is told. What was told is in `status`.
CREATE TABLE subscription (
    user_id TEXT PRIMARY KEY,
    expires_at INTEGER NOT NULL,
    -- What the list is sorted by.
    place INTEGER NOT NULL,
    -- Whether the server still knows it is not known yet.
    is_stale INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
