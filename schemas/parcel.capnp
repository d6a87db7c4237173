@0xb8d2a95f13c0e647;
# A sealed parcel for one recipient device, and what is inside the hybrid envelope.

using Record = import "record.capnp";

struct Parcel {
  id @0 :Data;         # 16 bytes; makes every hop idempotent
  recipient @1 :Data;  # device key
  expires @2 :Int64;   # Unix seconds
  sealed @3 :Data;     # the hybrid envelope
}

struct Introduction {  # in a file that is carried by hand: what nothing can be sealed with yet
  reader @0 :Data;             # identity key: nobody else uses the KeyPackages
  core @1 :Record.Signed;      # the bundle core of who wrote the file
  keyPackages @2 :List(Data);  # MLSMessages, of its devices
}

struct ParcelBody {
  parcel @0 :Data;     # the parcel id again: the outer one is not authenticated
  group @1 :Data;      # 16 bytes; zeros for a bundle that belongs to no group
  epochId @2 :Data;    # 32 bytes; zeros where no epoch is meant
  statement @3 :Record.Signed;
  union {
    message @4 :Data;  # MLSMessage (PrivateMessage)
    commit @5 :Commit;
    welcome @6 :Welcome;
    bundles @7 :Bundles;
    summary @8 :Record.Signed;
    intent @9 :Record.Signed;
    treeChunk @10 :Data;  # a part of a ratchet tree: a Welcome names its SHA-256
    wish @11 :Wish;       # an intent that needs KeyPackages
    heads @12 :Heads;     # what fork choice goes by, without the commits themselves
  }
}

struct Wish {
  intent @0 :Record.Signed;
  keyPackages @1 :List(Data);  # MLSMessages, of the devices that it adds
}

struct Heads {
  headers @0 :List(Record.Signed);
  statements @1 :List(Record.Signed);
  proofs @2 :List(Proof);

  struct Proof {  # of equivocation: one device, one number, two commits
    first @0 :Record.Signed;
    second @1 :Record.Signed;
  }
}

struct Commit {
  header @0 :Record.Signed;
  mls @1 :Data;        # MLSMessage (PublicMessage): its exact bytes are hashed in the header
  intents @2 :List(Record.Signed);  # the wishes it carries: they may be what authorises it
}

struct Welcome {
  mls @0 :Data;
  header @1 :Record.Signed;
  inviter @2 :Record.Signed;  # bundle core
  members @3 :List(Digest);   # which bundles follow
  treeChunks @4 :List(Data);  # SHA-256 of each, in order; empty when the tree is in the Welcome

  struct Digest {
    device @0 :Data;
    number @1 :UInt64;
    bundleHash @2 :Data;      # SHA-256 of the core's payload
  }
}

struct Bundles {
  cores @0 :List(Record.Signed);
  endpoints @1 :List(Record.Signed);
  private @2 :Record.BundlePrivate;  # never sent: nobody signed it
  privatePart @3 :Record.Signed;     # BundlePrivate: the sender's own, for this reader only
}
