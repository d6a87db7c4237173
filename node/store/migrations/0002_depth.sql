-- Encryption at rest, key rotation, blocking, fairness: what the second issue added.

-- People whose words are not wanted, and what contacts told us alone
CREATE TABLE blocked (identity BLOB PRIMARY KEY, since REAL NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE bundle_privates (
    identity BLOB PRIMARY KEY,
    number INTEGER NOT NULL,
    discovery_secret BLOB NOT NULL,
    delivery_token BLOB NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX members_by_identity ON members (identity);

-- Parts of ratchet trees that travel beside a Welcome; data is NULL while one is awaited
CREATE TABLE tree_chunks (
    digest BLOB PRIMARY KEY, wanted INTEGER NOT NULL, arrival REAL NOT NULL, data BLOB
) STRICT;

-- When our leaf in a group is to be refreshed; NULL while nobody spoke since the last time
CREATE TABLE key_updates (
    group_id BLOB PRIMARY KEY, lamport INTEGER NOT NULL, due REAL
) STRICT, WITHOUT ROWID;
