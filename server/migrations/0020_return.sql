-- The first change whose outcome the stay shows: with the history for new members, also what changed since the stay before. 0: the
-- first change of the stay.
ALTER TABLE member ADD COLUMN shown_rev BIGINT NOT NULL DEFAULT 0;
ALTER TABLE span ADD COLUMN shown_rev BIGINT NOT NULL DEFAULT 0;
-- As in `member`: who was a member when a message was sent is asked for its receipt, also if they have left and returned since.
ALTER TABLE span ADD COLUMN entered_seq BIGINT NOT NULL DEFAULT 0;
