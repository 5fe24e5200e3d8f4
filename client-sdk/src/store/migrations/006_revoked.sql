-- The positions of revoked messages after the base, as varints of their distances. `deducted` is no longer read.
ALTER TABLE conversation ADD COLUMN revoked BLOB NOT NULL DEFAULT x'';
