-- Reachability: what the sixth issue added.

-- KeyPackages of others that came in a file: one invites once, and is remembered while it is valid
CREATE TABLE carried_key_packages (
    reference BLOB PRIMARY KEY,
    device BLOB NOT NULL,
    suite INTEGER NOT NULL,
    message BLOB NOT NULL,
    until REAL NOT NULL,
    taken INTEGER NOT NULL DEFAULT 0
) STRICT;

-- By which paths a person may be reached; the policy for all others is in meta
CREATE TABLE path_policies (identity BLOB PRIMARY KEY, policy TEXT NOT NULL)
    STRICT, WITHOUT ROWID;

-- Nodes of the DHT that answered us, to begin with after a restart
CREATE TABLE dht_contacts (device BLOB PRIMARY KEY, address TEXT NOT NULL)
    STRICT, WITHOUT ROWID;
