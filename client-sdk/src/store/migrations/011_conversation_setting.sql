-- An SDK that did not know of settings passed over them in the feed: it is read again from its beginning.
UPDATE device SET pos = 0;

-- The last time that this user deleted all conversations, which was told.
ALTER TABLE device ADD COLUMN all_deleted INTEGER NOT NULL DEFAULT 0;

-- A bit for each mark instead.
DROP TABLE mark;

ALTER TABLE conversation ADD COLUMN marks INTEGER NOT NULL DEFAULT 0;

-- Only this device has it.
ALTER TABLE conversation ADD COLUMN draft TEXT NOT NULL DEFAULT '';

ALTER TABLE conversation ADD COLUMN draft_at INTEGER NOT NULL DEFAULT 0;

-- It is in the list. Rows that are not are conversations that were deleted, or settings that came first.
ALTER TABLE conversation ADD COLUMN is_listed INTEGER NOT NULL DEFAULT 0;

UPDATE conversation SET is_listed = 1;

-- As the server has it: it was deleted on all devices, and returns with a message at this position.
ALTER TABLE conversation ADD COLUMN deleted_below INTEGER NOT NULL DEFAULT 0;

-- The same on this device, for whatever reason. -1: it returns with a message after `hidden_ts`, because positions of another
-- epoch say nothing. 0: it is not hidden.
ALTER TABLE conversation ADD COLUMN hidden_below INTEGER NOT NULL DEFAULT 0;

-- The last message when only this device deleted it, Unix milliseconds; otherwise 0.
ALTER TABLE conversation ADD COLUMN hidden_ts INTEGER NOT NULL DEFAULT 0;

-- Whether the server still has these settings is not known yet.
ALTER TABLE conversation ADD COLUMN is_stale INTEGER NOT NULL DEFAULT 0;

DROP INDEX conversation_order;

CREATE INDEX conversation_listed ON conversation (order_key, id) WHERE is_listed = 1;
