"""`python -m reconverge` is the command `reconverge`."""

from reconverge.cli import main

if __name__ == "__main__":
    main()
