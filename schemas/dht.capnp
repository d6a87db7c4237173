@0xb7d3f0a1c5e84a29;
# The DHT (ALPN quicnprotochat/dht/1): a stream for each request, one frame each way.

using Record = import "record.capnp";

struct DhtRequest {
  union {
    findNode @0 :FindNode;
    findValue @1 :Data;         # key, 32 bytes
    store @2 :Store;
    dialBack @3 :Void;          # is my address, as you see it, reachable from elsewhere?
  }
}

struct FindNode {
  target @0 :Data;              # 32 bytes
  announce @1 :Bool;            # I answer too: ask me, and tell others of me
}

struct Store {
  key @0 :Data;
  value @1 :Record.Signed;
}

struct DhtContact {
  device @0 :Data;
  host @1 :Text;                # numeric
  port @2 :UInt16;
}

struct DhtResponse {
  observed @0 :Text;            # the asker's address as seen here
  union {
    contacts @1 :List(DhtContact);
    values @2 :Values;
    stored @3 :Void;
    dialedBack @4 :DialedBack;
    error @5 :Error;
  }
}

struct Values {
  values @0 :List(Record.Signed);
  contacts @1 :List(DhtContact);
}

struct DialedBack {
  reached @0 :Bool;
  observed @1 :Text;            # the address that was dialled
}

struct Error {
  code @0 :Text;
  message @1 :Text;
}

# The payload of a Signed of type "dht value"; sealed holds a Signed endpoint record.
struct DhtValue {
  cell @0 :Data;
  sequence @1 :UInt64;
  issued @2 :Int64;             # Unix seconds
  expires @3 :Int64;
  sealed @4 :Data;
}
