-- What the operator lists.

-- The groups of an app that are not dismissed, by when they were made.
CREATE INDEX conversation_group ON conversation (app, id) WHERE type = 2 AND end_seq IS NULL;

-- The users of an app by the bytes of their IDs. Without the collation PostgreSQL sorts by the rules of a language, which do not keep
-- IDs with the same beginning together. SQLite sorts by bytes in any case, so it has this index already: `account_name`.
CREATE INDEX account_bytes ON account (app, name COLLATE "C");
