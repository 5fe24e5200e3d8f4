-- The last login of the user on the device, as `LoggedOut.login` names it: a note of the logout of an earlier one does not end the
-- pushes. NULL: there was none since this column exists.
ALTER TABLE push_id ADD COLUMN login BYTEA;
