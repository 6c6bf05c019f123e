"""`python -m tinyvex` is the `tinyvex` command."""

from tinyvex.cli.main import main

if __name__ == "__main__":
    main()
