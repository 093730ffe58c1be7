"""Makes ``python -m lopbench`` the command ``lopbench``."""

from lopbench.cli import main

if __name__ == "__main__":
    main()
