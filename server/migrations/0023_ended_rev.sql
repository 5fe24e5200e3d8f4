-- The last change of a group that ended a stay: a message is pushed where this end is known.
ALTER TABLE conversation ADD COLUMN ended_rev BIGINT NOT NULL DEFAULT 0;
