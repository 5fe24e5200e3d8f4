-- The first change whose outcome the stay shows: with the history for new members, also what changed since the stay before. 0: the
-- first change of the stay. A server of the build before lets somebody in again and leaves what their stay before had: that comes before
-- the end of their latest span, and counts as 0.
ALTER TABLE member ADD COLUMN shown_rev BIGINT NOT NULL DEFAULT 0;
ALTER TABLE span ADD COLUMN shown_rev BIGINT NOT NULL DEFAULT 0;
-- As in `member`: who was a member when a message was sent is asked for its receipt, also if they have left and returned since. The
-- default comes after all messages: of a stay from before this column nobody knows what was history in it, so no message of it asks
-- for a receipt. This is as it was.
ALTER TABLE span ADD COLUMN entered_seq BIGINT NOT NULL DEFAULT 9223372036854775807;
-- The last change of the conversation before the receipt: it says whether a member had left before. 0: not known.
ALTER TABLE receipt ADD COLUMN rev BIGINT NOT NULL DEFAULT 0;
