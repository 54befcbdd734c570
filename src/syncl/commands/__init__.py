"""The command line: every command is a typed function that Python code may call as well.

Command modules import nothing heavy; their functions do, when called.
"""
