"""What tests import: agents and models, ways to look at what is stored, programs that run beside a test."""
