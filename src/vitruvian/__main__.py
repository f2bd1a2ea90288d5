"""`python -m vitruvian` is the command `vitruvian`."""

import sys

from vitruvian.cli import main

sys.exit(main())
