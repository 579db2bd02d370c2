"""What people are told, and when: pure rules, no I/O, no clock."""
