"""`python -m syncl` is the `syncl` command, for launchers such as torchrun."""

from syncl.commands.main import main

if __name__ == "__main__":
    main()
