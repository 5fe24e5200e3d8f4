-- Who may log in, and with what. Times are Unix milliseconds unless a comment says otherwise.

-- `CbcTokens`: which tokens in the older form, AES-256-CBC, are accepted. They carry no authentication tag.
ALTER TABLE app ADD COLUMN cbc_tokens SMALLINT NOT NULL DEFAULT 0;

-- 0: nobody logs in with the app sign.
ALTER TABLE app ADD COLUMN app_sign_login SMALLINT NOT NULL DEFAULT 1;

-- `Registration`: who becomes a user of the app by logging in.
ALTER TABLE app ADD COLUMN registration SMALLINT NOT NULL DEFAULT 0;

-- A secret's version counts its rotations: a session knows which version let it in.
ALTER TABLE app ADD COLUMN app_sign_version BIGINT NOT NULL DEFAULT 1;

-- The secret before the last rotation. It is accepted until it ends.
ALTER TABLE app ADD COLUMN old_app_sign TEXT NOT NULL DEFAULT '';

ALTER TABLE app ADD COLUMN old_app_sign_ends_at BIGINT NOT NULL DEFAULT 0;

ALTER TABLE app ADD COLUMN server_secret_version BIGINT NOT NULL DEFAULT 1;

ALTER TABLE app ADD COLUMN old_server_secret TEXT NOT NULL DEFAULT '';

ALTER TABLE app ADD COLUMN old_server_secret_ends_at BIGINT NOT NULL DEFAULT 0;

-- When the operator banned the user; 0: not banned.
ALTER TABLE account ADD COLUMN banned_at BIGINT NOT NULL DEFAULT 0;

-- When the ban ends by itself; 0: when the operator lifts it.
ALTER TABLE account ADD COLUMN ban_ends_at BIGINT NOT NULL DEFAULT 0;

-- Tokens made in this second or before are refused. Unix seconds, as a token's `ctime`.
ALTER TABLE account ADD COLUMN tokens_revoked_at BIGINT NOT NULL DEFAULT 0;

CREATE INDEX account_banned ON account (app, id) WHERE banned_at > 0;

-- How old what let the user in is, Unix seconds: when the token was made, or, with an app sign, when the user logged in.
ALTER TABLE session ADD COLUMN proof_at BIGINT NOT NULL DEFAULT 0;
