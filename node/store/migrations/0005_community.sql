-- A relay for a community: what the seventh issue added.

-- Where others read their mail now, when that is newer than their bundle
CREATE TABLE relay_statements (identity BLOB PRIMARY KEY, number INTEGER NOT NULL, signed BLOB NOT NULL)
    STRICT, WITHOUT ROWID;

-- Relays that were ours: read until everybody knows that they are not any more
CREATE TABLE former_relays (device BLOB PRIMARY KEY, address TEXT NOT NULL, since REAL NOT NULL)
    STRICT, WITHOUT ROWID;

-- What opens a relay to us: the operator's token, and the session of our account there
CREATE TABLE relay_tokens (relay BLOB PRIMARY KEY, token BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE relay_accounts (
    relay BLOB PRIMARY KEY,           -- its device key
    name TEXT NOT NULL,
    token BLOB NOT NULL,
    expires REAL NOT NULL
) STRICT, WITHOUT ROWID;

-- Whether a person's program brings parcels with delivery tokens, as their bundle says
ALTER TABLE bundles ADD COLUMN brings_tokens INTEGER NOT NULL DEFAULT 0;
-- Whether a contact has the private part of our bundle, or it is on its way
ALTER TABLE contacts ADD COLUMN told INTEGER NOT NULL DEFAULT 0;
