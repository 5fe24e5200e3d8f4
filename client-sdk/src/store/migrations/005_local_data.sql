-- Data that only this device has about messages whose rows were deleted, because the server started a new epoch. The rows
-- get it back when they return.
CREATE TABLE kept_local_data (
    message_id INTEGER PRIMARY KEY,
    local_data TEXT NOT NULL
);
