-- The last position that the first sync of this device found. Up to it, own and read messages are no news. 0: the
-- conversation is newer, or an earlier version of the SDK synchronized first.
ALTER TABLE conversation ADD COLUMN history_seq INTEGER NOT NULL DEFAULT 0;
