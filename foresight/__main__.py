"""python -m foresight"""

import sys

from foresight.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
