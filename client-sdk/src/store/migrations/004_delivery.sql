-- A pending event about messages names their positions; their rows have the rest. `event` is then empty.
ALTER TABLE pending_event ADD COLUMN conversation INTEGER;

ALTER TABLE pending_event ADD COLUMN first_seq INTEGER NOT NULL DEFAULT 0;

ALTER TABLE pending_event ADD COLUMN last_seq INTEGER NOT NULL DEFAULT 0;

ALTER TABLE pending_event ADD COLUMN is_offline INTEGER NOT NULL DEFAULT 0;
