@0xd5a1c0e6b7f24a31;
# What is signed, and travels by itself: bundles, endpoint records, headers, summaries.
# A signature covers "quicnprotochat <type> v1" | payload; payload bytes are never re-encoded.

struct Signed {
  payload @0 :Data;
  signer @1 :Data;     # Ed25519 public key, 32 bytes
  signature @2 :Data;  # 64 bytes
}

struct Address {
  host @0 :Text;
  port @1 :UInt16;
  kind @2 :Kind;
  enum Kind { lan @0; public @1; punched @2; }
}

struct RelayAddress {
  host @0 :Text;
  port @1 :UInt16;
  device @2 :Data;     # the relay's device key: the pin
}

struct EndpointRecord {
  device @0 :Data;
  sequence @1 :UInt64;  # newest wins
  addresses @2 :List(Address);
  relays @3 :List(RelayAddress);
  issued @4 :Int64;     # Unix seconds
  expires @5 :Int64;
}

struct BundleCore {
  identity @0 :Data;
  number @1 :UInt64;    # newest wins
  name @2 :Text;
  devices @3 :List(Device);
  relays @4 :List(RelayAddress);  # in order of preference
  bringsTokens @5 :Bool;          # this person's program brings parcels with delivery tokens

  struct Device {
    key @0 :Data;
    name @1 :Text;
    hybridKey @2 :Data;        # X25519 public key (32) | ML-KEM-768 encapsulation key (1184)
    hybridSignature @3 :Data;  # by the device key over "quicnprotochat hybrid key v1" | hybridKey
    issued @4 :Int64;
    ownerSignature @5 :Data;   # by the device key over "quicnprotochat device owner v1" | identity
  }
}

# Where a person reads their mail: the relays of their bundle of that number, by themselves. Small
# and quick to publish, it moves a mailbox while everything runs.
struct RelayStatement {
  identity @0 :Data;    # also the signer
  number @1 :UInt64;    # of the bundle that says the same; newest of both wins
  relays @2 :List(RelayAddress);  # in order of preference
}

struct BundlePrivate {  # for one reader, and signed by its identity: a parcel's sender is unknown
  identity @0 :Data;
  discoverySecret @1 :Data;
  deliveryToken @2 :Data;
  number @3 :UInt64;    # of the bundle it belongs to; newest wins
  reader @4 :Data;      # identity key
}

struct Member {
  device @0 :Data;
  identity @1 :Data;
}

struct CommitHeader {
  commit @0 :Data;      # SHA-256 of the commit's exact MLS bytes
  parent @1 :Data;      # commit hash of the epoch it was made in; zeros for the first
  group @2 :Data;
  epoch @3 :UInt64;     # the epoch that the commit opens
  author @4 :Data;      # device key; also the signer
  added @5 :List(Member);
  removed @6 :List(Member);
  intents @7 :List(Data);
}

struct Statement {
  group @0 :Data;
  number @1 :UInt64;
  commit @2 :Data;
  epochId @3 :Data;
}

struct Intent {
  id @0 :Data;
  group @1 :Data;
  author @2 :Data;      # device key; also the signer
  union {
    leave @3 :Void;
    remove @4 :Data;    # identity key
    update @5 :Void;
    add @6 :List(Member);  # their KeyPackages travel beside it
    readmit @7 :Void;      # the author's own leaf is to be replaced: it cannot enter the branch
    promote @8 :Data;      # identity key: becomes an admin
  }
  keyPackages @10 :Data;   # SHA-256 of those that travel beside it; empty without any
  epoch @9 :UInt64;        # in which it was signed: an old one says nothing any more
}

struct Summary {
  group @0 :Data;
  epochId @1 :Data;
  head @2 :Data;        # commit hash
  number @3 :UInt64;    # newest wins
  authors @4 :List(AuthorMark);
  tree @5 :Data;        # digests of the commits and of the votes that are known, 16 B each: equal, nothing to swap

  struct AuthorMark {
    device @0 :Data;
    base @1 :UInt64;        # first sequence number that this reader could have had
    contiguous @2 :UInt64;  # it has everything from base to here, gaps aside
    gaps @3 :List(UInt64);
    read @4 :UInt64;        # shown to the user up to here
  }
}
