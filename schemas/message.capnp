@0xe91b64b2f0a3c7d8;
# What MLS encrypts: an application message of one author in one group.

struct AppMessage {
  id @0 :Data;             # 16 bytes, unique with group and author
  sequence @1 :UInt64;     # per author and group, from 1
  epochBase @2 :UInt64;    # this author's first sequence number in this epoch
  lamport @3 :UInt64;
  parents @4 :List(Data);  # message ids that the author had seen last
  sentAtMs @5 :Int64;      # the author's clock: shown, never trusted
  union {
    text @6 :Text;
    reserved @7 :Void;     # a union needs two members; never sent
  }
}

struct GroupInfo {         # the group-context extension
  version @0 :UInt16;
  name @1 :Text;
  kind @2 :Kind;
  admins @3 :List(Data);   # identity keys
  invitePolicy @4 :InvitePolicy;
  enum Kind { group @0; direct @1; }
  enum InvitePolicy { members @0; admins @1; }
}
