"""What can go wrong with a server of one's own."""


class EmbeddedMongoError(RuntimeError):
    """The embedded server cannot do what was asked."""


class MongodNotFoundError(EmbeddedMongoError):
    """No `mongod` program on this machine; the message says how to get one."""


class MongodStartError(EmbeddedMongoError):
    """A `mongod` ended, or did not become ready in time; the message ends with its log."""
