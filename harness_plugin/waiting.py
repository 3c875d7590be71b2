"""How long a CPU thread that waits for work keeps its core busy.

PyTorch and our kernels share the threads of libgomp. A thread of it that waits for the next step spins, by default for
300,000 rounds, and only then lets another process have its core. Between the short steps of a forward pass the threads
wait often, so two runs on the same cores keep each other from working. After a few rounds it is better to give up the
core: waking a thread takes microseconds.

libgomp reads its settings once, when torch is imported, so this module imports nothing of ours and nothing heavy.
"""

import os
import sys

ROUNDS = "1000"
SETTINGS = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")  # either says how long to wait: what the user set stays


def wait_briefly() -> None:
    """Makes the threads of this process and of those it starts spin for few rounds, unless the user set how long.

    It has no effect on threads of a process in which torch is imported already.
    """
    if "torch" not in sys.modules and not any(name in os.environ for name in SETTINGS):
        os.environ["GOMP_SPINCOUNT"] = ROUNDS
