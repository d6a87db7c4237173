-- What a relay for a community keeps besides mail: accounts, delivery tokens, blobs, statements.

-- The audit log: see relay/store/audit.py. Subject and salt are null once they were erased.
CREATE TABLE audit (
    number INTEGER PRIMARY KEY,
    time INTEGER NOT NULL,
    event TEXT NOT NULL,
    subject TEXT,
    salt BLOB,
    commitment BLOB NOT NULL,
    hash BLOB NOT NULL
) STRICT;
CREATE INDEX audit_by_subject ON audit (subject) WHERE subject IS NOT NULL;
CREATE TABLE audit_begin (              -- the place that the first row follows, after trimming
    one INTEGER PRIMARY KEY CHECK (one = 1),
    number INTEGER NOT NULL,
    hash BLOB NOT NULL
) STRICT;

-- Where people read their mail now.
CREATE TABLE relay_statements (
    identity BLOB PRIMARY KEY,
    number INTEGER NOT NULL,
    signed BLOB NOT NULL
) STRICT;

-- Blobs: sealed bytes of any kind, in chunks of 256 KiB. Each device's upload is a row of its own,
-- so nobody's wrong bytes spoil another's. What is dropped gets a random id and `expires` 0, and its
-- chunks go in small transactions.
CREATE TABLE blobs (
    number INTEGER PRIMARY KEY,
    id BLOB NOT NULL,                   -- SHA-256 of all the bytes
    device BLOB NOT NULL,               -- who uploads it, and whose quota it takes
    total INTEGER NOT NULL,
    received INTEGER NOT NULL DEFAULT 0,
    whole INTEGER NOT NULL DEFAULT 0,   -- all there, and they are what the id says
    stranger INTEGER NOT NULL,          -- its device was not known here when it began
    expires INTEGER NOT NULL,
    UNIQUE (device, id)
) STRICT;
CREATE INDEX blobs_to_read ON blobs (id, expires) WHERE whole;
CREATE INDEX blobs_by_expiry ON blobs (expires);

CREATE TABLE blob_chunks (
    blob INTEGER NOT NULL REFERENCES blobs (number),
    part INTEGER NOT NULL,              -- 0, 1, 2, …
    checksum INTEGER NOT NULL,          -- CRC-32, against a disk that lies
    data BLOB NOT NULL,
    PRIMARY KEY (blob, part)
) STRICT;

-- Accounts: an identity with a name, the record of its password (OPAQUE), and devices.
CREATE TABLE relay_secrets (
    name TEXT PRIMARY KEY,              -- opaque-setup: without it no record can be used
    value BLOB NOT NULL
) STRICT;
CREATE TABLE accounts (
    identity BLOB PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,          -- in its normal form
    record BLOB NOT NULL,               -- 1 byte, the version of the key stretching, and OPAQUE's
    made INTEGER NOT NULL,
    invite BLOB                         -- the one it was made with
) STRICT;
CREATE INDEX accounts_by_invite ON accounts (invite) WHERE invite IS NOT NULL;
CREATE TABLE account_devices (
    device BLOB PRIMARY KEY,
    identity BLOB NOT NULL REFERENCES accounts (identity) ON DELETE CASCADE,
    name TEXT NOT NULL,
    registered INTEGER NOT NULL,
    revoked INTEGER                     -- when; it stays so that it stays out
) STRICT;
CREATE INDEX account_devices_by_identity ON account_devices (identity, registered);
CREATE TABLE sessions (
    device BLOB PRIMARY KEY,            -- one at a time; need not be one of the account's devices
    identity BLOB NOT NULL REFERENCES accounts (identity) ON DELETE CASCADE,
    token BLOB NOT NULL,                -- SHA-256
    issued INTEGER NOT NULL,
    expires INTEGER NOT NULL
) STRICT;
CREATE INDEX sessions_by_identity ON sessions (identity, issued);
CREATE INDEX sessions_by_expiry ON sessions (expires);
CREATE TABLE invites (
    token BLOB PRIMARY KEY,             -- SHA-256
    uses INTEGER NOT NULL,
    used INTEGER NOT NULL DEFAULT 0,
    made INTEGER NOT NULL,
    expires INTEGER NOT NULL
) STRICT;
CREATE INDEX invites_by_expiry ON invites (expires);

-- Channels: an id for each pair of devices. A member that was forgotten is null.
CREATE TABLE channels (
    id BLOB PRIMARY KEY,
    low BLOB,
    high BLOB,
    maker BLOB,                         -- the one of them that asked for it: it counts for that one
    UNIQUE (low, high)
) STRICT;
CREATE INDEX channels_by_high ON channels (high);
CREATE INDEX channels_by_maker ON channels (maker) WHERE maker IS NOT NULL;

-- Delivery tokens: see relay/store/delivery_tokens.py. Ids are not used again, for parcels name them.
CREATE TABLE delivery_tokens (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    device BLOB NOT NULL,
    hash BLOB NOT NULL,                 -- SHA-256 of the token
    UNIQUE (device, hash)
) STRICT;
ALTER TABLE mailboxes ADD COLUMN guarded INTEGER NOT NULL DEFAULT 0;  -- takes nothing without one
ALTER TABLE parcels ADD COLUMN token INTEGER;                         -- what it came with, if any

-- Whose the rows of the directory are, a device's or an identity's: see relay/store/rules.py.
CREATE TABLE directory_owners (
    owner BLOB PRIMARY KEY,
    device BLOB NOT NULL,               -- which brought something of theirs last; empty once forgotten
    renewed INTEGER NOT NULL,
    stranger INTEGER NOT NULL           -- not known when something of theirs came last
) STRICT;
CREATE INDEX directory_owners_by_age ON directory_owners (renewed);
CREATE INDEX directory_owners_by_device ON directory_owners (device);
INSERT INTO directory_owners (owner, device, renewed, stranger)
    SELECT owner, owner, unixepoch(), 0 FROM (
        SELECT device AS owner FROM key_packages UNION SELECT device FROM kp_requests
        UNION SELECT device FROM hybrid_keys UNION SELECT device FROM endpoints
        UNION SELECT identity FROM bundles);
