"""The command line: one module per command; ``main.py`` puts them together and turns errors into exit codes.

A command is thin: it asks the gateway, the SDK or the standalone stack, and prints. Nothing heavy is imported until a
command needs it, because the SDK alone installs this package too.
"""
