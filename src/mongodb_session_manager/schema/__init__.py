"""The stored document and the types it is made from: pure functions, no I/O."""
