"""What the commands do, as typed functions without any argument parsing: a module or a folder a command.

In a folder, `run.py` is the command and the other modules are its parts.
"""
