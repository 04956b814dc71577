"""The scripts in training/ are importable in these tests."""

import sys

from paths import ROOT

sys.path.append(str(ROOT / "training"))
