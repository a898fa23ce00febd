# SPDX-License-Identifier: Apache-2.0
import os
import signal
import sys

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
for directory in (HERE, os.path.dirname(HERE)):
    if directory not in sys.path:
        sys.path.insert(0, directory)

# What a failed assertion compared is shown for these, too.
pytest.register_assert_rewrite("usage", "hostile", "faults", "tiny")

from coracle import Coracle  # noqa: E402

# Under nohup(1) every process of the tests would be one that leaves SIGHUP alone.
signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture
def vmm():
    """A running coracle that serves its API and has no VM yet."""
    with Coracle() as process:
        process.ping()
        yield process
