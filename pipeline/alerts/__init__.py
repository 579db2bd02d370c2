"""What people are told, as pure rules: no I/O, no clock of its own."""
