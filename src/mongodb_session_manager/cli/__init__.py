"""The command line `mongodb-session-manager`: looking at, moving and keeping up stored sessions."""
