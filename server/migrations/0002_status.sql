-- Presence. Times are Unix milliseconds.

-- 1 while the login has a connection: who is online where. A new connection of a login is a new id.
ALTER TABLE session ADD COLUMN connected SMALLINT NOT NULL DEFAULT 0;

-- Of these alone: an index on the column would tempt a planner to find one user's logins among all that are connected.
CREATE INDEX session_connected ON session (id) WHERE connected = 1;

-- What a user is seen as, once there was anything to see. Written only when it changes.
CREATE TABLE presence (
    account BIGINT PRIMARY KEY,
    -- `UserOnlineStatus`
    online SMALLINT NOT NULL,
    -- A bit for each `PlatformType`.
    platforms BIGINT NOT NULL,
    -- When one of these two changed; never the same twice, and never earlier than before.
    online_at BIGINT NOT NULL,
    custom TEXT NOT NULL,
    -- When the custom status changed; as `online_at`.
    custom_at BIGINT NOT NULL,
    -- When the custom status ends by itself; 0: not before it is changed.
    custom_ends_at BIGINT NOT NULL,
    -- When any of it changed: what those who were away ask by.
    changed_at BIGINT NOT NULL
);

CREATE INDEX presence_ends ON presence (custom_ends_at);

-- `account` hears of the status of `target`. `place` orders them by when they were made: it is the position in the account's
-- feed.
CREATE TABLE subscription (
    account BIGINT NOT NULL,
    target BIGINT NOT NULL,
    place BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    PRIMARY KEY (account, target)
);

CREATE INDEX subscription_place ON subscription (account, place);

-- Who hears of a change.
CREATE INDEX subscription_of ON subscription (target, account);

-- Whose time is up.
CREATE INDEX subscription_expires ON subscription (expires_at);
