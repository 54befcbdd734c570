"""What larger commands are made of, as typed functions without any argument parsing.

A module or a folder a command; in a folder, `run.py` comes first and the other modules are its parts.
"""
