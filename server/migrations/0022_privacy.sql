-- What the operator changes, how long messages are kept, and users who are erased.

-- What the operator has changed: a row for each call, stored with what it changes.
CREATE TABLE audit (
    id BIGINT PRIMARY KEY,
    -- 0: the whole server.
    app BIGINT NOT NULL,
    at BIGINT NOT NULL,
    -- Where the call came from.
    actor TEXT NOT NULL,
    -- The RPC.
    action TEXT NOT NULL,
    -- The user whom it is about; empty: none, or more than one.
    target TEXT NOT NULL,
    detail TEXT NOT NULL
);

CREATE INDEX audit_app ON audit (app, id);

CREATE INDEX audit_target ON audit (app, target, id);

CREATE INDEX audit_at ON audit (at);

-- For how many days the messages of an app are kept; 0: for ever.
ALTER TABLE app ADD COLUMN retention_days BIGINT NOT NULL DEFAULT 0;

-- The same for one conversation; NULL: as its app.
ALTER TABLE conversation ADD COLUMN retention_days BIGINT;

-- Up to here, which is at most the floor, the rows of messages are deleted.
ALTER TABLE conversation ADD COLUMN swept_seq BIGINT NOT NULL DEFAULT 0;

-- Who has deleted a message for themselves.
CREATE INDEX hidden_message ON hidden (conversation, seq);

CREATE INDEX conversation_retention ON conversation (id) WHERE retention_days > 0;

-- When the operator erased the user; 0: they did not. What is left of the row says that the ID is not used again.
ALTER TABLE account ADD COLUMN erased_at BIGINT NOT NULL DEFAULT 0;

-- Up to here the messages of an erased user in the conversation have no content any more.
ALTER TABLE member ADD COLUMN erased_seq BIGINT NOT NULL DEFAULT 0;
