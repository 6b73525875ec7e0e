"""What the suite promises of speed, memory and traffic, each measured against a peer: `python -m tests.speed`.

A room a file; a room's measurements are functions under `@measurement`. `harness.ROOMS` lists the rooms.
"""
