"""The same Strands agents on this library and on what else there is to keep their sessions; run as a program."""
