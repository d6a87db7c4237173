@0xb7a3c1d2e4f50617;
# A service that exists to be called wrongly.

interface Probe {
  echo @0 (data :Data) -> (data :Data);
  fail @1 () -> ();
  hang @2 () -> ();
  count @3 (bomb :List(Void)) -> (length :UInt32);
  visit @4 (node :Node) -> (depth :UInt32);
  missing @5 () -> ();
  byContext @6 (number :UInt32) -> (number :UInt32);
  call @7 (back :Probe) -> (data :Data);
  malformed @8 () -> ();
  subscribe @9 (sink :Sink) -> ();
}

interface Sink {
  push @0 (data :Data) -> ();
}

interface Other {
  nothing @0 () -> ();
}

struct Node {
  next @0 :Node;
}

struct Blob {
  # On the wire what `echo` takes and gives.
  data @0 :Data;
}
