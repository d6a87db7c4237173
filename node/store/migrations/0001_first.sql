-- Keys and ids are raw bytes; times are Unix seconds (REAL) unless the name says ms.

CREATE TABLE meta (name TEXT PRIMARY KEY, value ANY NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE secrets (name TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE hybrid_keys (
    public BLOB PRIMARY KEY, private BLOB NOT NULL, created REAL NOT NULL
) STRICT, WITHOUT ROWID;

-- People
CREATE TABLE contacts (
    identity BLOB PRIMARY KEY,
    card BLOB NOT NULL,
    verified INTEGER NOT NULL DEFAULT 0,
    added REAL NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE bundles (
    identity BLOB PRIMARY KEY, number INTEGER NOT NULL, signed BLOB NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE bundle_devices (
    device BLOB PRIMARY KEY, identity BLOB NOT NULL, hybrid_key BLOB NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX bundle_devices_by_identity ON bundle_devices (identity);
CREATE TABLE endpoints (
    device BLOB PRIMARY KEY, sequence INTEGER NOT NULL, signed BLOB NOT NULL, learnt REAL NOT NULL
) STRICT, WITHOUT ROWID;

-- Our own KeyPackages: what was published, and the sealed private part
CREATE TABLE key_packages (
    reference BLOB PRIMARY KEY,
    suite INTEGER NOT NULL,
    last_resort INTEGER NOT NULL,
    message BLOB NOT NULL,
    blob BLOB NOT NULL,
    request BLOB,                     -- a peer's device and request id; NULL in a relay's stock
    created REAL NOT NULL
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX key_packages_by_request ON key_packages (request) WHERE request IS NOT NULL;

-- Groups
CREATE TABLE groups (
    id BLOB PRIMARY KEY,
    incarnation INTEGER NOT NULL,
    name TEXT NOT NULL,
    kind TEXT NOT NULL,
    suite INTEGER NOT NULL,
    status TEXT NOT NULL,             -- active, split, left, removed
    accepted INTEGER NOT NULL,
    inviter BLOB,                     -- identity
    head BLOB NOT NULL,               -- commit hash
    epoch INTEGER NOT NULL,
    epoch_id BLOB NOT NULL,
    epoch_base INTEGER NOT NULL,      -- our first sequence number of this epoch
    next_sequence INTEGER NOT NULL,
    lamport INTEGER NOT NULL,
    tips BLOB NOT NULL,               -- ids of the messages nobody has answered, 16 B each
    summary_number INTEGER NOT NULL DEFAULT 0,
    joined REAL NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE members (                -- of the current epoch, as MLS has them
    group_id BLOB NOT NULL, device BLOB NOT NULL, identity BLOB NOT NULL, leaf INTEGER NOT NULL,
    PRIMARY KEY (group_id, device)
) STRICT, WITHOUT ROWID;
CREATE INDEX members_by_device ON members (device);
CREATE TABLE group_state (
    group_id BLOB PRIMARY KEY, incarnation INTEGER NOT NULL, blob BLOB NOT NULL
) STRICT;
CREATE TABLE group_tree (
    group_id BLOB PRIMARY KEY, incarnation INTEGER NOT NULL, blob BLOB NOT NULL
) STRICT;
CREATE TABLE epochs (                 -- MLS secrets of past epochs, for late messages
    group_id BLOB NOT NULL, incarnation INTEGER NOT NULL, epoch INTEGER NOT NULL, blob BLOB NOT NULL,
    PRIMARY KEY (group_id, incarnation, epoch)
) STRICT;
CREATE TABLE snapshots (              -- the whole state as it was when an epoch was left
    group_id BLOB NOT NULL,
    epoch_id BLOB NOT NULL,
    incarnation INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    head BLOB NOT NULL,
    state BLOB NOT NULL,
    tree BLOB NOT NULL,
    bytes INTEGER NOT NULL,
    taken REAL NOT NULL,
    PRIMARY KEY (group_id, epoch_id)
) STRICT;
CREATE TABLE generations (            -- never rolled back: a generation is used once
    group_id BLOB NOT NULL, epoch_id BLOB NOT NULL, next INTEGER NOT NULL,
    PRIMARY KEY (group_id, epoch_id)
) STRICT, WITHOUT ROWID;
CREATE TABLE commits (                -- every commit known, ours and others', of every branch
    group_id BLOB NOT NULL,
    hash BLOB NOT NULL,
    parent BLOB NOT NULL,
    epoch INTEGER NOT NULL,
    epoch_id BLOB,                    -- when this device entered that epoch
    header BLOB,                      -- Signed; NULL for the root
    mls BLOB,
    arrival REAL NOT NULL,
    PRIMARY KEY (group_id, hash)
) STRICT;
CREATE INDEX commits_by_epoch_id ON commits (group_id, epoch_id);
CREATE TABLE statements (
    group_id BLOB NOT NULL, device BLOB NOT NULL, number INTEGER NOT NULL, signed BLOB NOT NULL,
    PRIMARY KEY (group_id, device)
) STRICT, WITHOUT ROWID;
CREATE TABLE intents (
    group_id BLOB NOT NULL,
    id BLOB NOT NULL,
    author BLOB NOT NULL,
    signed BLOB NOT NULL,
    seen REAL NOT NULL,
    done INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (group_id, id)
) STRICT, WITHOUT ROWID;

-- Inbox
CREATE TABLE messages (
    arrival INTEGER PRIMARY KEY AUTOINCREMENT,
    group_id BLOB NOT NULL,
    author BLOB NOT NULL,             -- device
    id BLOB NOT NULL,
    identity BLOB NOT NULL,
    sequence INTEGER NOT NULL,
    lamport INTEGER NOT NULL,
    parents BLOB NOT NULL,
    sent_ms INTEGER NOT NULL,
    received REAL NOT NULL,
    own INTEGER NOT NULL,
    path TEXT NOT NULL,
    text TEXT NOT NULL,
    UNIQUE (group_id, author, id)
) STRICT;
CREATE INDEX messages_by_sequence ON messages (group_id, author, sequence);
CREATE INDEX messages_by_id ON messages (id);
CREATE TABLE ciphertexts (
    group_id BLOB NOT NULL, author BLOB NOT NULL, sequence INTEGER NOT NULL,
    epoch_id BLOB NOT NULL, mls BLOB NOT NULL, until REAL NOT NULL,
    PRIMARY KEY (group_id, author, sequence)
) STRICT;
CREATE INDEX ciphertexts_by_until ON ciphertexts (until);
CREATE TABLE watermarks (             -- what we have of each author
    group_id BLOB NOT NULL,
    author BLOB NOT NULL,
    base INTEGER NOT NULL,
    highest INTEGER NOT NULL,
    missing TEXT NOT NULL,            -- JSON list of sequence numbers between
    read INTEGER NOT NULL DEFAULT 0,
    owed INTEGER NOT NULL DEFAULT 0,  -- the author has not been told of this yet
    PRIMARY KEY (group_id, author)
) STRICT, WITHOUT ROWID;
CREATE TABLE peer_summaries (
    group_id BLOB NOT NULL, device BLOB NOT NULL, number INTEGER NOT NULL, signed BLOB NOT NULL,
    PRIMARY KEY (group_id, device)
) STRICT, WITHOUT ROWID;
CREATE TABLE seen_parcels (
    digest BLOB PRIMARY KEY,          -- SHA-256 of the opened body: an id is anybody's word
    until REAL NOT NULL,
    group_id BLOB, author BLOB        -- of a message: whom to tell again when it comes again
) STRICT, WITHOUT ROWID;
CREATE INDEX seen_parcels_by_until ON seen_parcels (until);
CREATE TABLE future (                 -- early: waiting for a commit or a Welcome
    id INTEGER PRIMARY KEY,
    group_id BLOB NOT NULL,
    known INTEGER NOT NULL,           -- of a group we are in
    digest BLOB NOT NULL UNIQUE,      -- SHA-256 of body
    path TEXT NOT NULL,
    body BLOB NOT NULL,
    arrival REAL NOT NULL
) STRICT;
CREATE INDEX future_by_group ON future (group_id);
CREATE TABLE cursors (name TEXT NOT NULL, group_id BLOB NOT NULL, arrival INTEGER NOT NULL,
    PRIMARY KEY (name, group_id)
) STRICT, WITHOUT ROWID;

-- Outbox
CREATE TABLE payloads (
    id INTEGER PRIMARY KEY,
    group_id BLOB NOT NULL,
    kind TEXT NOT NULL,               -- message, commit, welcome, bundles, summary, intent
    message BLOB,                     -- message id, for kind 'message'
    body BLOB NOT NULL                -- ParcelBody with a zero parcel id: stored once
) STRICT;
CREATE INDEX payloads_by_message ON payloads (message) WHERE message IS NOT NULL;
CREATE TABLE outbox (
    parcel_id BLOB PRIMARY KEY,
    payload INTEGER NOT NULL REFERENCES payloads (id),
    recipient BLOB NOT NULL,          -- device
    next_try REAL NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    stage TEXT NOT NULL DEFAULT 'queued',  -- queued, sent, held: the last two wait for a receipt
    expires REAL NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX outbox_by_recipient ON outbox (recipient, next_try);
CREATE INDEX outbox_by_try ON outbox (next_try);
CREATE INDEX outbox_by_payload ON outbox (payload);
CREATE TABLE ledger (
    message BLOB NOT NULL,
    device BLOB NOT NULL,
    identity BLOB NOT NULL,
    group_id BLOB NOT NULL,
    sequence INTEGER NOT NULL,
    state TEXT NOT NULL,
    path TEXT,
    relay TEXT,
    held_until REAL,
    reason TEXT,
    updated REAL NOT NULL,
    PRIMARY KEY (message, device)
) STRICT, WITHOUT ROWID;
CREATE INDEX ledger_by_device ON ledger (group_id, device, sequence);
